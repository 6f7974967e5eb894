"""CAP at our door: who hands it in, how large and of what kind it may be, and what became of it at once."""

from datetime import UTC, datetime
from email.message import Message as MimeHeader
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from sqlalchemy import select
from sqlalchemy.orm import defer

from alerting import audit
from alerting.actors import Actor, Role
from alerting.api.intake import detail_of
from alerting.api.parts import Parts, parts_of
from alerting.api.problems import Problem, refusal
from alerting.api.routes import Guarded
from alerting.api.schemas import HandedIn
from alerting.api.security import Doing, for_all, may
from alerting.composing import Objection
from alerting.domain.intake import CameBy, IntakeState
from alerting.domain.sources import Kind, Source
from alerting.persistence import tables

XML = ("application/cap+xml", "application/xml", "text/xml", "application/atom+xml", "application/rss+xml")
TAKEN = {Kind.CAP: XML, Kind.BULLETIN: ("application/zip",)}
"""What each kind of source may hand in. Context is only ever asked for."""


class TakesDocuments(Guarded):
    """A route for whole documents: five of the largest real ones, or one national archive, fit in its limit."""

    most_bytes = 5_000_000


router = APIRouter(prefix="/cap", tags=["intake"], route_class=TakesDocuments)

BINARY = {"schema": {"type": "string", "format": "binary"}}


@router.post(
    "",
    status_code=202,
    response_model=HandedIn,
    summary="Hand in CAP",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {media_type: BINARY for taken in TAKEN.values() for media_type in taken},
        }
    },
)
async def hand_in(
    request: Request,
    source: Annotated[str | None, Query(max_length=64, description="Whose it is. A source need not say.")] = None,
    parts: Parts = Depends(parts_of),
    actor: Actor = Depends(may(Doing.HAND_IN)),
) -> HandedIn | Response:
    """One CAP message, or Atom, RSS or EDXL with some inside; of a bulletin's source its archive. 5 MB at most.

    202: it is kept, and what had to follow has followed, item by item. 422 with the same `items` when all of it was
    rejected. The same message a second time is `repeated`, and nothing follows. What the staff hands in is at most
    prepared, never issued by itself.
    """
    spoken = _source(actor, source, parts)
    media_type = _media_type(request, spoken)
    raw = await request.body()
    if not raw:
        raise Problem(400, "the body is empty, so there is nothing to keep: send the document itself")
    came_by = CameBy.HTTP if actor.role is Role.FEED else CameBy.HAND
    if came_by is CameBy.HAND:
        await _note(parts, actor, spoken, len(raw))
    numbers = await parts.receiver.take(spoken, raw, media_type, came_by)
    query = select(tables.Intake).where(tables.Intake.id.in_(numbers)).options(defer(tables.Intake.raw))
    async with parts.database.read() as session:
        rows = (await session.scalars(query.order_by(tables.Intake.id))).all()
    answer = HandedIn(items=[detail_of(row) for row in rows])
    if any(row.state is not IntakeState.REJECTED for row in rows):
        return answer
    because = f"it is kept as intake {rows[0].id} and cannot be used: {rows[0].because}"
    return Problem(422, because, more=answer.model_dump(mode="json")).response(request.url.path)


def _source(actor: Actor, asked: str | None, parts: Parts) -> Source:
    """In whose name this is handed in. Raises Problem 403, or 422 where the staff does not say."""
    heard = {source.name: source for source in parts.sources.values() if source.enabled and source.kind in TAKEN}
    if actor.role is Role.FEED:
        if asked not in (None, actor.name) or actor.name not in heard:
            name = (asked or actor.name)[:64]
            raise Problem(
                403,
                f"{actor.name} cannot hand in for {name}: only a source of its own name, whose file is here and "
                "enabled, can. Ask an administrator",
            )
        for_all(actor, "the territory of a source is in its file")
        return heard[actor.name]
    # What follows may concern any comune, and what it cancels is cancelled at once.
    for_all(actor, "what a source says concerns all its comuni")
    if asked not in heard:
        known = ", ".join(sorted(heard)) or "none"
        said = "is missing" if asked is None else f"{asked[:64]!r} is no enabled source that hands in"
        raise refusal([Objection("source", f"{said}: say whose document this is, one of {known}")])
    return heard[asked]


def _media_type(request: Request, source: Source) -> str:
    """What the body says it is. Raises a 415 Problem for what this source does not hand in, or is compressed."""
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding != "identity":
        raise Problem(
            415,
            f"the body is compressed ({coding[:40]}): send it as it is, without Content-Encoding",
            headers={"Accept-Encoding": "identity"},
        )
    header = MimeHeader()
    # Without one MIME assumes plain text, and would speak of a type nobody sent.
    header["content-type"] = request.headers.get("content-type") or "application/octet-stream"
    media_type = header.get_content_type()
    if media_type not in TAKEN[source.kind]:
        wanted = " or ".join(TAKEN[source.kind])
        raise Problem(415, f"the body is {media_type[:80]}: {source.name} sends {wanted}, so say which it is")
    return media_type


async def _note(parts: Parts, actor: Actor, source: Source, length: int) -> None:
    now = datetime.now(UTC)
    async with parts.database.write() as session:
        await audit.write(
            session, at=now, actor=actor.name, action="hand in", subject=f"source {source.name}", bytes=length
        )
