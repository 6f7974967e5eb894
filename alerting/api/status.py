"""Whether the API works, and its figures. Open to whoever asks: it says nothing about anybody."""

import asyncio
import time

import structlog
from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Gauge, generate_latest
from sqlalchemy.exc import SQLAlchemyError

from alerting import outbox
from alerting.api.parts import Parts, parts_of
from alerting.api.problems import DATABASE_AWAY, away
from alerting.api.schemas import OutboxLane, StatusOut
from alerting.domain.lanes import Lane

log = structlog.get_logger()
router = APIRouter(tags=["status"])
figures = APIRouter(include_in_schema=False)

PATIENCE = 3.0
"""Seconds for the database to say how it is: whoever looks in on us waits no longer either."""

OUTBOX_MESSAGES = Gauge("alerting_outbox_messages", "Messages that RabbitMQ has yet to confirm.", ["lane"])
OUTBOX_OLDEST = Gauge("alerting_outbox_oldest_seconds", "How long the oldest of them has been waiting.", ["lane"])


@router.get("/status", summary="Whether the system works")
async def status(parts: Parts = Depends(parts_of)) -> StatusOut:
    """`degraded` while RabbitMQ is away: alerts are taken and said when it is back. 503 without a database."""
    lanes = await _outbox(parts)
    if lanes is None:
        raise away(DATABASE_AWAY)
    broker = parts.link.is_up
    return StatusOut(
        status="ok" if broker else "degraded", database="ok", broker="ok" if broker else "away", outbox=lanes
    )


@figures.get("/metrics")
async def metrics(parts: Parts = Depends(parts_of)) -> Response:
    """This process's figures for Prometheus, and the depth of the outbox as it is now; not there when unknown."""
    lanes = await _outbox(parts)
    for gauge in (OUTBOX_MESSAGES, OUTBOX_OLDEST):
        gauge.clear()
    for lane, waiting in (lanes or {}).items():
        OUTBOX_MESSAGES.labels(lane).set(waiting.messages)
        OUTBOX_OLDEST.labels(lane).set(waiting.oldest_seconds)
    return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)


async def _outbox(parts: Parts) -> dict[str, OutboxLane] | None:
    """By lane; None when the database does not answer in time."""
    try:
        async with asyncio.timeout(PATIENCE), parts.database.read() as session:
            depth = await outbox.depth(session)
    except (SQLAlchemyError, TimeoutError) as error:
        log.warning("the database does not answer", error=type(error).__name__)
        return None
    now = time.time()
    found = {lane: depth.get(lane, (0, now)) for lane in Lane}
    return {
        str(lane): OutboxLane(messages=messages, oldest_seconds=round(max(0.0, now - oldest), 3))
        for lane, (messages, oldest) in found.items()
    }
