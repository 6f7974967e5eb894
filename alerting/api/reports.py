"""What citizens reported, for the staff of a two-way comune: the inbox, and what is done with each report."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import audit, wire
from alerting.actors import Actor
from alerting.api.desk import At, Number, at_desk
from alerting.api.desk_schemas import (
    AnswerIn,
    AssignIn,
    CategoryIn,
    ClosedOut,
    CloseIn,
    EntryOut,
    MergeIn,
    NoteIn,
    PhotoOut,
    ReportOut,
    ReportPage,
    ReportShort,
)
from alerting.api.parts import Parts, parts_of
from alerting.api.problems import Problem, refusal
from alerting.api.routes import Guarded
from alerting.api.schemas import PointIn
from alerting.api.security import Doing, may, within
from alerting.composing import Objection
from alerting.desk import reports
from alerting.domain.desk import Desk, Line, PhotoState, ReportState
from alerting.domain.recipients import mask
from alerting.persistence import tables

router = APIRouter(prefix="/desk/reports", tags=["desk"], route_class=Guarded)

BEGINS = 120
PRIVATE = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


@router.get("", summary="List what citizens reported, the newest first")
async def list_reports(
    authority: str | None = None,
    state: Annotated[list[ReportState] | None, Query()] = None,
    category: str | None = None,
    assigned_to: str | None = None,
    merged: bool = False,
    cursor: Number | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    parts: Parts = Depends(parts_of),
    actor: Actor = Depends(may(Doing.DESK)),
) -> ReportPage:
    """Those that were merged into others only when asked for. Page by page: give `next_cursor` back as `cursor`."""
    at, report = at_desk(actor, authority, parts), tables.Report
    query = select(report).where(report.authority == at.authority.code).order_by(report.id.desc())
    if state:
        query = query.where(report.state.in_(state))
    if category is not None:
        query = query.where(report.category == category)
    if assigned_to is not None:
        query = query.where(report.assigned_to == assigned_to)
    if not merged:
        query = query.where(report.merged_into.is_(None))
    if cursor is not None:
        query = query.where(report.id < cursor)
    async with parts.database.read() as session:
        rows = (await session.scalars(query.limit(limit + 1))).all()
        some = rows[:limit]
        begins = await _beginnings(session, [row.id for row in some], parts)
    return ReportPage(
        items=[ReportShort(**_short(row, at.desk, begins.get(row.id, ""), parts)) for row in some],
        next_cursor=some[-1].id if len(rows) > limit else None,
    )


@router.get("/{number}", summary="Read a report")
async def read_report(
    number: int, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.DESK))
) -> ReportOut:
    """All that was said, answered and noted; who reported it, masked."""
    async with parts.database.read() as session:
        row, at = await _report(session, number, parts, actor)
        return await _out(session, row, at, parts)


@router.post("/{number}/take", summary="Work on a report")
async def take(number: int, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.DESK))) -> ReportOut:
    """It is yours from now on, whosever it was."""
    async with _in_hand(number, parts, actor) as report:
        await reports.take(report.session, report.row, actor.name)
        return await report.done("take report")


@router.post("/{number}/assign", summary="Give a report to somebody of the staff")
async def assign(
    number: int, said: AssignIn, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.DESK))
) -> ReportOut:
    """Somebody who has a token here and may work at this desk."""
    async with _in_hand(number, parts, actor) as report:
        if said.to is not None:
            await _check_staff(report.session, said.to, report.row.authority)
        await reports.assign(report.session, report.row, said.to)
        return await report.done("assign report", to=said.to)


@router.post("/{number}/sort", summary="Say what a report is about")
async def sort(
    number: int, said: CategoryIn, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.DESK))
) -> ReportOut:
    """One of the categories of the comune's file."""
    async with _in_hand(number, parts, actor) as report:
        desk = report.at.desk
        if desk.category(said.category) is None:
            known = ", ".join(one.code for one in desk.categories)
            raise refusal([Objection("category", f"{said.category!r} is not known here: one of {known}")])
        report.row.category = said.category
        return await report.done("sort report", category=said.category)


@router.post("/{number}/note", summary="Note something for the staff alone")
async def add_note(
    number: int, said: NoteIn, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.DESK))
) -> ReportOut:
    """No citizen reads it."""
    async with _in_hand(number, parts, actor) as report:
        now = datetime.now(UTC)
        reports.note(report.session, report.row, Line.NOTE, said.words, actor.name, parts.seal, now)
        return await report.done("note on report")


@router.post("/{number}/answer", summary="Write to whoever reported")
async def answer(
    number: int, said: AnswerIn, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.DESK))
) -> ReportOut:
    """Sent within the minute, behind whatever is urgent: free text for a day after they wrote, then a template."""
    async with _in_hand(number, parts, actor) as report:
        authority, now = report.at.authority, datetime.now(UTC)
        await reports.answer(
            report.session, report.row, authority, said.words, actor.name, parts.seal, now, asks=said.asks
        )
        return await report.done("answer report", asks=said.asks)


@router.post("/{number}/merge", summary="Say that a report is of the same thing as another")
async def merge(
    number: int, said: MergeIn, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.DESK))
) -> ReportOut:
    """The other is worked on, and everybody is told of its end. Answers with the other."""
    async with parts.database.write() as session:
        first, second = sorted((number, said.into))  # two merges at once lock in one order
        for one in dict.fromkeys((first, second)):
            await _report(session, one, parts, actor, lock=True)
        row, _ = await _report(session, number, parts, actor)
        into, at = await _report(session, said.into, parts, actor)
        await reports.merge(session, row, into)
        return await InHand(session, into, at, parts, actor).done("merge report", merged=number)


@router.post("/{number}/close", summary="Close a report: solved or rejected")
async def close(
    number: int, said: CloseIn, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.DESK))
) -> ClosedOut:
    """Everybody who reported it is told, once. It stays closed: whoever writes again opens another."""
    to = ReportState.SOLVED if said.solved else ReportState.REJECTED
    async with _in_hand(number, parts, actor) as report:
        authority, now = report.at.authority, datetime.now(UTC)
        told = await reports.close(report.session, report.row, authority, to, said.words, actor.name, parts.seal, now)
        await report.audit("close report", state=str(to), told=told)
        return ClosedOut(number=number, state=to, told=told)


@router.get(
    "/{number}/photos/{photo}",
    summary="See a picture of a report",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}, "image/png": {}, "application/pdf": {}}}},
)
async def see_photo(
    number: int, photo: int, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.DESK))
) -> Response:
    """As it was drawn anew, without any metadata. For the staff alone, and kept by no cache."""
    async with parts.database.read() as session:
        row, _ = await _report(session, number, parts, actor)
        found = await session.get(tables.Photograph, photo) if 0 < photo <= wire.BIGGEST_ID else None
    if found is None or found.report != row.id or found.sealed is None:
        raise Problem(404, f"report {number} has no picture {photo}, or it has not been fetched yet")
    return Response(parts.seal.open_bytes(found.sealed), media_type=found.media_type, headers=PRIVATE)


@dataclass(frozen=True, slots=True)
class InHand:
    """A report that somebody works on, locked until it is done with."""

    session: AsyncSession
    row: tables.Report
    at: At
    parts: Parts
    actor: Actor

    async def done(self, action: str, **details: object) -> ReportOut:
        """What was done, audited without a word of it; and how the report stands now."""
        await self.audit(action, **details)
        await self.session.flush()
        return await _out(self.session, self.row, self.at, self.parts)

    async def audit(self, action: str, **details: object) -> None:
        """One line of what was done to it, and no word of what it says."""
        subject, now = self.row.authority, datetime.now(UTC)
        await audit.write(
            self.session, at=now, actor=self.actor.name, action=action, subject=subject, report=self.row.id, **details
        )


@asynccontextmanager
async def _in_hand(number: int, parts: Parts, actor: Actor) -> AsyncIterator[InHand]:
    async with parts.database.write() as session:
        row, at = await _report(session, number, parts, actor, lock=True)
        yield InHand(session, row, at, parts, actor)


async def _report(
    session: AsyncSession, number: int, parts: Parts, actor: Actor, *, lock: bool = False
) -> tuple[tables.Report, At]:
    row = None
    if 0 < number <= wire.BIGGEST_ID:
        row = await session.get(tables.Report, number, with_for_update=lock or None, populate_existing=lock)
    if row is None:
        raise Problem(404, f"there is no report {number}: GET /v1/desk/reports lists them")
    within(actor, row.authority)
    return row, at_desk(actor, row.authority, parts)


async def _check_staff(session: AsyncSession, name: str, authority: str) -> None:
    person = tables.Actor
    query = select(person.id).where(
        person.name == name,
        person.revoked_at.is_(None),
        person.authority.is_(None) | (person.authority == authority),
    )
    if await session.scalar(query) is None:
        raise refusal([Objection("to", f"nobody called {name!r} works here: give the name of somebody with a token")])


async def _beginnings(session: AsyncSession, numbers: Sequence[int], parts: Parts) -> dict[int, str]:
    """The first words of each."""
    entry = tables.ReportEntry
    first = select(func.min(entry.id)).where(entry.report.in_(numbers), entry.kind == Line.SAID).group_by(entry.report)
    rows = await session.scalars(select(entry).where(entry.id.in_(first)))
    return {row.report: parts.seal.open(row.sealed)[:BEGINS] for row in rows if row.sealed}


def _short(row: tables.Report, desk: Desk, begins: str, parts: Parts) -> dict[str, object]:
    return {
        "number": row.id,
        "category": row.category,
        "category_name": desk.name_of(row.category),
        "state": row.state,
        "begins": begins,
        "street": reports.street_of(row, parts.seal),
        "frazione": row.frazione,
        "point": PointIn(lat=row.lat, lon=row.lon) if row.lat is not None and row.lon is not None else None,
        "opened_at": row.opened_at,
        "last_said_at": row.wrote_at,
        "first_answer_at": row.answered_at,
        "closed_at": row.closed_at,
        "assigned_to": row.assigned_to,
        "merged_into": row.merged_into,
    }


async def _out(session: AsyncSession, row: tables.Report, at: At, parts: Parts) -> ReportOut:
    entry, photo, report = tables.ReportEntry, tables.Photograph, tables.Report
    entries = (await session.scalars(select(entry).where(entry.report == row.id).order_by(entry.id))).all()
    photos = (await session.scalars(select(photo).where(photo.report == row.id).order_by(photo.id))).all()
    merged = (await session.scalars(select(report.id).where(report.merged_into == row.id).order_by(report.id))).all()
    said = [
        EntryOut(at=one.at, kind=one.kind, actor=one.actor, words=parts.seal.open(one.sealed) if one.sealed else "")
        for one in entries
    ]
    begins = next((one.words[:BEGINS] for one in said if one.kind is Line.SAID), "")
    return ReportOut.model_validate(
        _short(row, at.desk, begins, parts)
        | {
            "address": mask(parts.seal.open(row.sealed)) if row.sealed else None,
            "entries": said,
            "photos": [_photo(one) for one in photos],
            "alike": [] if row.state.is_closed else await reports.alike(session, row, at.desk, parts.seal),
            "merged": list(merged),
        }
    )


def _photo(row: tables.Photograph) -> PhotoOut:
    kept = row.state is PhotoState.KEPT
    path = f"/v1/desk/reports/{row.report}/photos/{row.id}" if kept else None
    return PhotoOut(number=row.id, at=row.at, state=row.state, path=path)
