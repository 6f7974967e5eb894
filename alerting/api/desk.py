"""The desk of a two-way comune, for its staff: the inbox of reports, appointments, and how much both are used."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from sqlalchemy import func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import audit, wire
from alerting.actors import Actor
from alerting.api.desk_schemas import (
    AnswerIn,
    AssignIn,
    BookingOut,
    BookingPage,
    BookingsOut,
    CancelIn,
    CategoryIn,
    ClosedOut,
    CloseIn,
    DeskFigures,
    EntryOut,
    MergeIn,
    MonthOut,
    MoveIn,
    NoteIn,
    OfficeList,
    OfficeOut,
    PhotoOut,
    ReportOut,
    ReportPage,
    ReportShort,
)
from alerting.api.parts import Parts, parts_of
from alerting.api.problems import Problem, refusal
from alerting.api.routes import Guarded
from alerting.api.schemas import PointIn
from alerting.api.security import Doing, authority_for, may, within
from alerting.composing import Objection
from alerting.desk import appointments, reports
from alerting.domain.appointments import free as free_slots
from alerting.domain.authority import Authority
from alerting.domain.desk import Desk, Line, PhotoState, ReportState
from alerting.domain.recipients import mask
from alerting.domain.rendering import ROME
from alerting.persistence import tables

router = APIRouter(prefix="/desk", tags=["desk"], route_class=Guarded)

FREE_SHOWN = 10
BEGINS = 120
FIRST_MONTHS = 12
"""Months of figures where nobody asks for others."""
Number = Annotated[int, Query(ge=1, le=wire.BIGGEST_ID)]
PRIVATE = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class At:
    """A desk somebody may work at."""

    authority: Authority
    desk: Desk


def _at(actor: Actor, asked: str | None, parts: Parts) -> At:
    authority = authority_for(actor, asked, parts.authorities)
    if authority.desk is None:
        raise Problem(409, f"{authority.name} has no desk: write [desk] into its file, as in santa-fiora.toml")
    return At(authority, authority.desk)


# ── reports ─────────────────────────────────────────────────────────────────────────────────────────


@router.get("/reports", summary="List what citizens reported, the newest first")
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
    at, report = _at(actor, authority, parts), tables.Report
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


@router.get("/reports/{number}", summary="Read a report")
async def read_report(
    number: int, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.DESK))
) -> ReportOut:
    """All that was said, answered and noted; who reported it, masked."""
    async with parts.database.read() as session:
        row, at = await _report(session, number, parts, actor)
        return await _out(session, row, at, parts)


@router.post("/reports/{number}/take", summary="Work on a report")
async def take(number: int, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.DESK))) -> ReportOut:
    """It is yours from now on, whosever it was."""
    async with parts.database.write() as session:
        row, at = await _report(session, number, parts, actor, lock=True)
        await reports.take(session, row, actor.name)
        return await _Done(session, row, parts, actor, "take report").out(at)


@router.post("/reports/{number}/assign", summary="Give a report to somebody of the staff")
async def assign(
    number: int, said: AssignIn, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.DESK))
) -> ReportOut:
    """Somebody who has a token here and may work at this desk."""
    async with parts.database.write() as session:
        row, at = await _report(session, number, parts, actor, lock=True)
        if said.to is not None:
            await _check_staff(session, said.to, row.authority)
        await reports.assign(session, row, said.to)
        return await _Done(session, row, parts, actor, "assign report").out(at, to=said.to)


@router.post("/reports/{number}/sort", summary="Say what a report is about")
async def sort(
    number: int, said: CategoryIn, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.DESK))
) -> ReportOut:
    """One of the categories of the comune's file."""
    async with parts.database.write() as session:
        row, at = await _report(session, number, parts, actor, lock=True)
        if at.desk.category(said.category) is None:
            known = ", ".join(one.code for one in at.desk.categories)
            raise refusal([Objection("category", f"{said.category!r} is not known here: one of {known}")])
        row.category = said.category
        return await _Done(session, row, parts, actor, "sort report").out(at, category=said.category)


@router.post("/reports/{number}/note", summary="Note something for the staff alone")
async def add_note(
    number: int, said: NoteIn, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.DESK))
) -> ReportOut:
    """No citizen reads it."""
    async with parts.database.write() as session:
        row, at = await _report(session, number, parts, actor, lock=True)
        reports.note(session, row, Line.NOTE, said.words, actor.name, parts.seal, datetime.now(UTC))
        return await _Done(session, row, parts, actor, "note on report").out(at)


@router.post("/reports/{number}/answer", summary="Write to whoever reported")
async def answer(
    number: int, said: AnswerIn, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.DESK))
) -> ReportOut:
    """Sent within the minute, behind whatever is urgent: free text for a day after they wrote, then a template."""
    async with parts.database.write() as session:
        row, at = await _report(session, number, parts, actor, lock=True)
        now = datetime.now(UTC)
        await reports.answer(session, row, at.authority, said.words, actor.name, parts.seal, now, asks=said.asks)
        return await _Done(session, row, parts, actor, "answer report").out(at, asks=said.asks)


@router.post("/reports/{number}/merge", summary="Say that a report is of the same thing as another")
async def merge(
    number: int, said: MergeIn, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.DESK))
) -> ReportOut:
    """The other is worked on, and everybody is told of its end. Answers with the other."""
    async with parts.database.write() as session:
        first, second = sorted((number, said.into))  # two merges at once lock in one order
        for one in dict.fromkeys((first, second)):
            await _report(session, one, parts, actor, lock=True)
        row, at = await _report(session, number, parts, actor)
        into, _ = await _report(session, said.into, parts, actor)
        await reports.merge(session, row, into)
        return await _Done(session, into, parts, actor, "merge report").out(at, merged=number)


@router.post("/reports/{number}/close", summary="Close a report: solved or rejected")
async def close(
    number: int, said: CloseIn, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.DESK))
) -> ClosedOut:
    """Everybody who reported it is told, once. It stays closed: whoever writes again opens another."""
    to = ReportState.SOLVED if said.solved else ReportState.REJECTED
    async with parts.database.write() as session:
        row, at = await _report(session, number, parts, actor, lock=True)
        now = datetime.now(UTC)
        told = await reports.close(session, row, at.authority, to, said.words, actor.name, parts.seal, now)
        await _audit(session, row, actor, "close report", state=str(to), told=told)
    return ClosedOut(number=row.id, state=to, told=told)


@router.get(
    "/reports/{number}/photos/{photo}",
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
class _Done:
    """Something was done with a report: audited without a word of it, and shown."""

    session: AsyncSession
    row: tables.Report
    parts: Parts
    actor: Actor
    action: str

    async def out(self, at: At, **details: object) -> ReportOut:
        await _audit(self.session, self.row, self.actor, self.action, **details)
        await self.session.flush()
        return await _out(self.session, self.row, at, self.parts)


async def _audit(session: AsyncSession, row: tables.Report, actor: Actor, action: str, **details: object) -> None:
    now = datetime.now(UTC)
    await audit.write(session, at=now, actor=actor.name, action=action, subject=row.authority, report=row.id, **details)


async def _report(
    session: AsyncSession, number: int, parts: Parts, actor: Actor, *, lock: bool = False
) -> tuple[tables.Report, At]:
    row = None
    if 0 < number <= wire.BIGGEST_ID:
        row = await session.get(tables.Report, number, with_for_update=lock or None, populate_existing=lock)
    if row is None:
        raise Problem(404, f"there is no report {number}: GET /v1/desk/reports lists them")
    within(actor, row.authority)
    return row, _at(actor, row.authority, parts)


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


# ── appointments ────────────────────────────────────────────────────────────────────────────────────


@router.get("/offices", summary="List the offices that receive by appointment")
async def list_offices(
    authority: str | None = None, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.DESK))
) -> OfficeList:
    """With the next slots that somebody can still have."""
    at, now = _at(actor, authority, parts), datetime.now(UTC)
    found = []
    async with parts.database.read() as session:
        for office in at.desk.offices:
            taken = await appointments.taken(session, at.authority.code, office.code, now)
            free = free_slots(office, taken, now, FREE_SHOWN)
            found.append(
                OfficeOut(
                    code=office.code,
                    name=office.name,
                    where=office.where,
                    minutes=office.minutes,
                    capacity=office.capacity,
                    free=list(free),
                )
            )
    return OfficeList(items=found)


@router.get("/bookings", summary="List appointments, the earliest first")
async def list_bookings(
    authority: str | None = None,
    office: str | None = None,
    day: date | None = None,
    cancelled: bool = False,
    cursor: Number | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    parts: Parts = Depends(parts_of),
    actor: Actor = Depends(may(Doing.DESK)),
) -> BookingPage:
    """Of one `day`, in Italy, or from now on. Page by page: give `next_cursor` back as `cursor`."""
    at, booking = _at(actor, authority, parts), tables.Booking
    query = select(booking).where(booking.authority == at.authority.code)
    if day is None:
        query = query.where(booking.starts_at >= datetime.now(UTC))
    elif not 2000 <= day.year < 2100:
        raise refusal([Objection("day", f"is in the year {day.year}: check the date")])
    else:
        begins = datetime.combine(day, time(), ROME)
        ends = datetime.combine(day + timedelta(days=1), time(), ROME)
        query = query.where(booking.starts_at >= begins, booking.starts_at < ends)
    if office is not None:
        query = query.where(booking.office == office)
    if not cancelled:
        query = query.where(booking.cancelled_at.is_(None))
    async with parts.database.read() as session:
        if cursor is not None and (last := await session.get(booking, cursor)) is not None:
            query = query.where(tuple_(booking.starts_at, booking.id) > (last.starts_at, last.id))
        rows = (await session.scalars(query.order_by(booking.starts_at, booking.id).limit(limit + 1))).all()
    some = rows[:limit]
    return BookingPage(
        items=[_booking(row, parts) for row in some], next_cursor=some[-1].id if len(rows) > limit else None
    )


@router.post("/bookings/{number}/move", summary="Move an appointment")
async def move(
    number: int, said: MoveIn, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.DESK))
) -> BookingOut:
    """To a slot that is free. The citizen is told; the answer is the new booking."""
    async with parts.database.write() as session:
        row, at = await _of_staff(session, number, parts, actor)
        now = datetime.now(UTC)
        moved = await appointments.move(session, row, at.authority, said.to, actor.name, parts.seal, now)
        subject, details = row.authority, {"booking": row.id, "now": moved.id}
        await audit.write(session, at=now, actor=actor.name, action="move booking", subject=subject, **details)
    return _booking(moved, parts)


@router.post("/bookings/{number}/cancel", summary="Cancel an appointment")
async def cancel(
    number: int, said: CancelIn, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.DESK))
) -> BookingOut:
    """The citizen is told, with your words."""
    async with parts.database.write() as session:
        row, at = await _of_staff(session, number, parts, actor)
        now = datetime.now(UTC)
        await appointments.cancel_by_staff(session, row, at.authority, said.words, actor.name, parts.seal, now)
        subject = row.authority
        await audit.write(session, at=now, actor=actor.name, action="cancel booking", subject=subject, booking=row.id)
    return _booking(row, parts)


async def _of_staff(session: AsyncSession, number: int, parts: Parts, actor: Actor) -> tuple[tables.Booking, At]:
    row = None
    if 0 < number <= wire.BIGGEST_ID:
        row = await session.get(tables.Booking, number, with_for_update=True)
    if row is None:
        raise Problem(404, f"there is no booking {number}: GET /v1/desk/bookings lists them")
    within(actor, row.authority)
    return row, _at(actor, row.authority, parts)


def _booking(row: tables.Booking, parts: Parts) -> BookingOut:
    return BookingOut(
        number=row.id,
        office=row.office,
        starts_at=row.starts_at,
        seat=row.seat,
        address=mask(parts.seal.open(row.sealed)) if row.sealed else None,
        booked_at=row.booked_at,
        cancelled_at=row.cancelled_at,
        cancelled_by=row.cancelled_by,
    )


# ── how much it is used ─────────────────────────────────────────────────────────────────────────────


@router.get("/statistics", summary="Count reports and appointments, month by month")
async def statistics(
    authority: str | None = None,
    months: Annotated[int, Query(ge=1, le=120)] = FIRST_MONTHS,
    parts: Parts = Depends(parts_of),
    actor: Actor = Depends(may(Doing.DESK)),
) -> DeskFigures:
    """By category and state, with the median time to the first answer and to the solution. This month is the last."""
    at = _at(actor, authority, parts)
    here = datetime.now(ROME)
    index = here.year * 12 + here.month - 1
    since = datetime((index - months + 1) // 12, (index - months + 1) % 12 + 1, 1, tzinfo=ROME)
    async with parts.database.read() as session:
        until = here + timedelta(days=1)
        found = await reports.statistics(session, at.authority.code, since, until)
        booked = await appointments.statistics(session, at.authority.code, since, until)
    return DeskFigures(
        authority=at.authority.code,
        months=[
            MonthOut(
                month=one.month,
                category=one.category,
                category_name=at.desk.name_of(one.category),
                opened=one.opened,
                by_state={
                    str(state): number for state, number in sorted(one.by_state.items(), key=lambda s: str(s[0]))
                },
                merged=one.merged,
                first_answer_hours=one.first_answer_hours,
                solution_hours=one.solution_hours,
            )
            for one in found
        ],
        appointments=[
            BookingsOut(month=month, office=office, booked=made, cancelled=dropped)
            for month, office, made, dropped in booked
        ],
    )
