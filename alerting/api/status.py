"""Whether the API works, and its figures. Open to whoever asks: it says nothing about anybody."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Gauge, generate_latest
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import dead_letters, outbox, signs, waiting
from alerting.api.parts import Parts, parts_of
from alerting.api.problems import DATABASE_AWAY, away
from alerting.api.schemas import HaltedAccount, OutboxLane, StatusOut, WorkerOut
from alerting.domain.lanes import Lane
from alerting.persistence.tables import ProviderRate
from alerting.waiting import Waiting

log = structlog.get_logger()
router = APIRouter(tags=["status"])
figures = APIRouter(include_in_schema=False)

PATIENCE = 3.0
"""Seconds for the database to say how it is: whoever looks in on us waits no longer either."""

OUTBOX_MESSAGES = Gauge("alerting_outbox_messages", "Messages that RabbitMQ has yet to confirm.", ["lane"])
OUTBOX_OLDEST = Gauge("alerting_outbox_oldest_seconds", "How long the oldest of them has been waiting.", ["lane"])
WORKERS_ALIVE = Gauge(
    "alerting_workers_alive",
    "Processes that gave a sign of life lately; 0 for a role that had some in the last 24 hours.",
    ["role"],
)

DEAD_LETTERS_OPEN = Gauge("alerting_dead_letters_open", "Dead letters that wait for an operator.", ["lane"])

PAGES_OPEN = Gauge("alerting_pages_open", "Pages nobody has acknowledged; `all` are everybody's.", ["authority"])
PAGES_OLDEST = Gauge(
    "alerting_pages_oldest_seconds", "How long the oldest of them has been open; 0 where there is none.", ["authority"]
)
INTAKE_QUARANTINED = Gauge("alerting_intake_quarantined", "Documents that wait for a decision.", ["source"])
INTAKE_OLDEST = Gauge(
    "alerting_intake_quarantined_oldest_seconds",
    "How long ago the oldest of them was received; 0 where there is none.",
    ["source"],
)

EVERYBODYS = "all"
ASKED_OF_THE_DATABASE = (
    *(OUTBOX_MESSAGES, OUTBOX_OLDEST, WORKERS_ALIVE, DEAD_LETTERS_OPEN),
    *(PAGES_OPEN, PAGES_OLDEST, INTAKE_QUARANTINED, INTAKE_OLDEST),
)


@dataclass(frozen=True, slots=True)
class Found:
    """What the database says of us."""

    outbox: dict[str, OutboxLane]
    workers: list[WorkerOut]
    halted: list[HaltedAccount]
    dead_letters: dict[Lane, int]
    pages: dict[str | None, Waiting]
    quarantined: dict[str, Waiting]


@router.get("/status", summary="Whether the system works")
async def status(parts: Parts = Depends(parts_of)) -> StatusOut:
    """`degraded` while RabbitMQ is away: alerts are taken and said when it is back. 503 without a database.

    So too while nobody is left of those who did some work, or an account is halted.
    """
    found = await _found(parts)
    if found is None:
        raise away(DATABASE_AWAY)
    broker = parts.link.is_up
    whole = broker and all(alive(found.workers).values()) and not found.halted
    return StatusOut(
        status="ok" if whole else "degraded",
        database="ok",
        broker="ok" if broker else "away",
        outbox=found.outbox,
        workers=found.workers,
        halted=found.halted,
    )


@figures.get("/metrics")
async def metrics(parts: Parts = Depends(parts_of)) -> Response:
    """This process's figures for Prometheus, and those of the database as it is now; not there when unknown."""
    found = await _found(parts)
    for gauge in ASKED_OF_THE_DATABASE:
        gauge.clear()
    if found:
        for lane, unsaid in found.outbox.items():
            OUTBOX_MESSAGES.labels(lane).set(unsaid.messages)
            OUTBOX_OLDEST.labels(lane).set(unsaid.oldest_seconds)
        for role, how_many in alive(found.workers).items():
            WORKERS_ALIVE.labels(role).set(how_many)
        for of_lane, letters in found.dead_letters.items():
            DEAD_LETTERS_OPEN.labels(str(of_lane)).set(letters)
        for authority, pages in found.pages.items():
            PAGES_OPEN.labels(authority or EVERYBODYS).set(pages.how_many)
            PAGES_OLDEST.labels(authority or EVERYBODYS).set(pages.oldest.total_seconds())
        for source, documents in found.quarantined.items():
            INTAKE_QUARANTINED.labels(source).set(documents.how_many)
            INTAKE_OLDEST.labels(source).set(documents.oldest.total_seconds())
    return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)


def alive(workers: Iterable[WorkerOut]) -> dict[str, int]:
    """By role: how many gave a sign of life lately. 0 where all are gone."""
    found: Counter[str] = Counter()
    for worker in workers:
        found[worker.role] += not worker.gone
    return dict(found)


async def _found(parts: Parts) -> Found | None:
    """None when the database does not answer in time."""
    now = datetime.now(UTC)
    try:
        async with asyncio.timeout(PATIENCE), parts.database.read() as session:
            return Found(
                outbox=await _outbox(session),
                workers=await _workers(session),
                halted=await _halted(session),
                dead_letters=await dead_letters.open_by_lane(session),
                pages=dict.fromkeys((*parts.authorities, None), Waiting()) | await waiting.pages(session, now),
                quarantined=dict.fromkeys(parts.sources, Waiting()) | await waiting.quarantined(session, now),
            )
    except (SQLAlchemyError, TimeoutError) as error:
        log.warning("the database does not answer", error=type(error).__name__)
        return None


async def _outbox(session: AsyncSession) -> dict[str, OutboxLane]:
    depth, now = await outbox.depth(session), time.time()
    found = {lane: depth.get(lane, (0, now)) for lane in Lane}
    return {
        str(lane): OutboxLane(messages=messages, oldest_seconds=round(max(0.0, now - oldest), 3))
        for lane, (messages, oldest) in found.items()
    }


async def _workers(session: AsyncSession) -> list[WorkerOut]:
    return [
        WorkerOut(
            role=sign.role,
            state=sign.state,
            waits_for=sign.waits_for.split(",") if sign.waits_for else [],
            since=sign.since,
            seen_seconds_ago=round(ago.total_seconds(), 1),
            gone=ago > signs.GONE_AFTER,
        )
        for sign, ago in await signs.everybody(session)
    ]


async def _halted(session: AsyncSession) -> list[HaltedAccount]:
    halted = select(ProviderRate).where(ProviderRate.halted_at > 0).order_by(ProviderRate.account)
    return [
        HaltedAccount(
            account=rate.account, since=datetime.fromtimestamp(rate.halted_at, UTC), because=rate.halted_because
        )
        for rate in await session.scalars(halted)
    ]
