"""What others said, over HTTP: to be read by all the staff, let pass or dismissed by those whom it concerns.

A document concerns several comuni, so whoever is bound to one sees all of them. They may let pass what turns out to
concern theirs alone; to dismiss, which silences it for everybody, takes a token that is for all.
"""

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Response
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from alerting import wire
from alerting.actors import Actor, Role
from alerting.api.parts import Parts, parts_of
from alerting.api.problems import Problem
from alerting.api.routes import Guarded
from alerting.api.schemas import BecameOut, DefectOut, IntakeDetail, IntakeList, IntakeOut
from alerting.api.security import Doing, for_all, may
from alerting.domain.findings import Weight
from alerting.domain.intake import IntakeState
from alerting.intake.receiving import NotQuarantined
from alerting.persistence.tables import Intake

router = APIRouter(prefix="/intake", tags=["intake"], route_class=Guarded)

MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+(; ?charset=[\w-]+)?", re.ASCII)
"""What may stand in a header of ours: others wrote it."""

Number = Annotated[int, Path(ge=1, le=wire.BIGGEST_ID)]


@router.get("", summary="List documents, the newest first")
async def list_intake(
    state: IntakeState | None = None,
    source: Annotated[str | None, Query(max_length=64)] = None,
    cursor: Annotated[int | None, Query(ge=1, le=wire.BIGGEST_ID)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    parts: Parts = Depends(parts_of),
    actor: Actor = Depends(may(Doing.READ)),
) -> IntakeList:
    """A source sees its own. Page by page: give `next_cursor` back as `cursor`."""
    query = select(Intake).options(defer(Intake.raw)).order_by(Intake.id.desc())
    if actor.role is Role.FEED:
        query = query.where(Intake.source == actor.name)
    if source is not None:
        query = query.where(Intake.source == source)
    if state is not None:
        query = query.where(Intake.state == state)
    if cursor is not None:
        query = query.where(Intake.id < cursor)
    async with parts.database.read() as session:
        rows = (await session.scalars(query.limit(limit + 1))).all()
    page = rows[:limit]
    return IntakeList(
        items=[IntakeOut(**_fields(row)) for row in page],
        next_cursor=page[-1].id if len(rows) > limit else None,
    )


@router.get("/{number}", summary="Read what was found in a document, and what became of it")
async def read_intake(
    number: Number, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.READ))
) -> IntakeDetail:
    """Every finding with its rule, line and sentence; for every comune what was done there."""
    async with parts.database.read() as session:
        return detail_of(await _found(session, number, actor))


@router.get(
    "/{number}/raw",
    summary="Fetch a document as it came",
    response_class=Response,
    responses={200: {"description": "Its bytes", "content": {"application/octet-stream": {}}}},
)
async def read_raw(
    number: Number, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.READ))
) -> Response:
    """Byte for byte. It is somebody else's: to be saved and looked at, not to be opened by a browser."""
    async with parts.database.read() as session:
        row = await _found(session, number, actor)
        raw = await session.scalar(select(Intake.raw).where(Intake.id == number))
    media_type = row.media_type if MEDIA_TYPE.fullmatch(row.media_type) else "application/octet-stream"
    headers = {
        "Content-Type": media_type,
        "Content-Disposition": f'attachment; filename="intake-{row.id}"',
        "X-Content-Type-Options": "nosniff",
    }
    return Response(raw, headers=headers)


@router.post("/{number}/accept", summary="Let a quarantined document pass")
async def accept(
    number: Number, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.SETTLE))
) -> IntakeDetail:
    """What follows from it is prepared, never issued by itself. 409 where it waits for nobody, or is of no use."""
    async with parts.database.write() as session:
        await _found(session, number, actor)
        try:
            row = await parts.receiver.accept(session, number, actor.name, datetime.now(UTC))
        except NotQuarantined as error:
            raise Problem(409, str(error)) from None
        # Known only now; whoever is refused has done nothing, for the transaction ends with it.
        if others := sorted({one["authority"] for one in row.became} - {"", actor.authority}):
            for_all(actor, f"this concerns {', '.join(others)}")
    return detail_of(row)


@router.post("/{number}/dismiss", summary="Dismiss a quarantined document")
async def dismiss(
    number: Number, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.SETTLE))
) -> IntakeDetail:
    """Nothing follows, in any comune; it stays readable."""
    for_all(actor, "what is dismissed is dismissed for every comune")
    async with parts.database.write() as session:
        await _found(session, number, actor)
        try:
            row = await parts.receiver.dismiss(session, number, actor.name, datetime.now(UTC))
        except NotQuarantined as error:
            raise Problem(409, str(error)) from None
    return detail_of(row)


async def _found(session: AsyncSession, number: int, actor: Actor) -> Intake:
    """Without its bytes. Raises Problem 404, or 403 for a source that asks about another's."""
    row = await session.scalar(select(Intake).where(Intake.id == number).options(defer(Intake.raw)))
    if row is None:
        raise Problem(404, f"there is no intake {number}: GET /v1/intake lists them")
    if actor.role is Role.FEED and row.source != actor.name:
        raise Problem(403, f"intake {number} is not of {actor.name}: a source reads its own documents")
    return row


def detail_of(row: Intake) -> IntakeDetail:
    """A document as the API answers it; `row.raw` need not have been read."""
    return IntakeDetail(
        **_fields(row),
        findings=[DefectOut(**one) for one in row.findings],
        became=[BecameOut(**one | {"authority": one["authority"] or None}) for one in row.became],
    )


def _fields(row: Intake) -> dict[str, Any]:
    weights = [one["severity"] for one in row.findings]
    return {
        "number": row.id,
        "source": row.source,
        "came_by": row.came_by,
        "received_at": row.received_at,
        "media_type": row.media_type,
        "sha256": row.sha256,
        "state": row.state,
        "because": row.because,
        "headline": row.headline,
        "errors": weights.count(Weight.ERROR.value),
        "warnings": weights.count(Weight.WARNING.value),
        "settled_at": row.settled_at,
        "settled_by": row.settled_by,
    }
