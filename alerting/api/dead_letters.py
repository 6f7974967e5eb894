"""Dead letters over HTTP, for those who tend the whole system: a letter belongs to no comune."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query

from alerting import dead_letters, wire
from alerting.actors import Actor
from alerting.api.parts import Parts, parts_of
from alerting.api.problems import Problem
from alerting.api.routes import Guarded
from alerting.api.schemas import DeadLetterDetail, DeadLetterList, DeadLetterOut
from alerting.api.security import Doing, may
from alerting.dead_letters import AlreadyEnded, NoSuchLetter, NotReplayable
from alerting.domain.lanes import Lane
from alerting.persistence.tables import DeadLetter

router = APIRouter(prefix="/dead-letters", tags=["dead letters"], route_class=Guarded)

LONGEST_SHOWN = 2_000
"""Characters of a body. Ours are shorter; what is longer is somebody else's, and enough to know whose."""

Number = Annotated[int, Path(ge=1, le=wire.BIGGEST_ID)]


async def tending(actor: Actor = Depends(may(Doing.TEND))) -> Actor:
    """An actor who is for all authorities. Raises a 403 Problem: nobody knows whose a broken message was."""
    if actor.authority is not None:
        raise Problem(
            403,
            f"{actor.name} is of {actor.authority}, and a dead letter belongs to no authority: "
            "ask somebody whose token is for all of them",
        )
    return actor


@router.get("", summary="List dead letters, the newest first")
async def list_dead_letters(
    lane: Lane | None = None,
    why: Annotated[str | None, Query(max_length=24)] = None,
    ended: bool = False,
    cursor: Annotated[int | None, Query(ge=1, le=wire.BIGGEST_ID)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    parts: Parts = Depends(parts_of),
    _: Actor = Depends(tending),
) -> DeadLetterList:
    """Those that wait for an operator; with `ended=true` all. Page by page: give `next_cursor` back as `cursor`."""
    async with parts.database.read() as session:
        rows = await dead_letters.find_some(
            session, lane=lane, why=why, open_only=not ended, before=cursor, most=limit + 1
        )
    page = rows[:limit]
    return DeadLetterList(
        items=[DeadLetterOut(**_fields(row)) for row in page],
        next_cursor=page[-1].id if len(rows) > limit else None,
    )


@router.get("/{number}", summary="Read a dead letter")
async def read_dead_letter(
    number: Number, parts: Parts = Depends(parts_of), _: Actor = Depends(tending)
) -> DeadLetterDetail:
    """What it says too, as far as it is text."""
    async with parts.database.read() as session:
        try:
            row = await dead_letters.find(session, number)
        except NoSuchLetter as error:
            raise Problem(404, str(error)) from None
    body = row.body[: 4 * LONGEST_SHOWN].decode(errors="replace")[:LONGEST_SHOWN]
    return DeadLetterDetail(**_fields(row), headers=row.headers, body=body, bytes=len(row.body))


@router.post("/{number}/replay", status_code=202, summary="Say a dead letter again, in its lane")
async def replay(number: Number, parts: Parts = Depends(parts_of), actor: Actor = Depends(tending)) -> DeadLetterOut:
    """For a message of ours whose trouble is gone. What is not ours, or cannot be read, is refused."""
    async with parts.database.write() as session:
        try:
            row = await dead_letters.replay(session, number, who=actor.name, now=datetime.now(UTC))
        except NoSuchLetter as error:
            raise Problem(404, str(error)) from None
        except (AlreadyEnded, NotReplayable) as error:
            raise Problem(409, str(error)) from None
    return DeadLetterOut(**_fields(row))


@router.post("/{number}/dismiss", summary="Dismiss a dead letter")
async def dismiss(number: Number, parts: Parts = Depends(parts_of), actor: Actor = Depends(tending)) -> DeadLetterOut:
    """Nothing is to be done about it any more; it stays readable."""
    async with parts.database.write() as session:
        try:
            row = await dead_letters.dismiss(session, number, who=actor.name, now=datetime.now(UTC))
        except NoSuchLetter as error:
            raise Problem(404, str(error)) from None
        except AlreadyEnded as error:
            raise Problem(409, str(error)) from None
    return DeadLetterOut(**_fields(row))


def _fields(row: DeadLetter) -> dict[str, Any]:
    return {
        "number": row.id,
        "at": row.at,
        "lane": row.lane,
        "why": row.why,
        "sentence": row.sentence,
        "queue": row.queue,
        "exchange": row.exchange,
        "routing_key": row.routing_key,
        "message_id": row.message_id,
        "ended_at": row.ended_at,
        "ended_by": row.ended_by,
        "replayed": row.replayed,
    }
