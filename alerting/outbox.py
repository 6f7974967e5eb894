"""Say it in the same transaction; tell RabbitMQ afterwards. One relay task per lane: no lane waits for another."""

import asyncio
import hashlib
import random
import time
from collections.abc import Sequence

import structlog
from sqlalchemy import Boolean, Select, delete, func, literal_column, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import metrics, topology, wire
from alerting.amqp import BrokerAway, Link, Outgoing, Publisher, Unroutable
from alerting.domain.events import (
    AlertIssued,
    BatchReady,
    CitizenReported,
    CitizensWrote,
    CitizenWrote,
    Event,
    ReceiptCame,
    ReceiptsCame,
)
from alerting.domain.lanes import Lane
from alerting.persistence.database import Database
from alerting.persistence.tables import OutboxMessage
from alerting.persistence.wakeup import Alarm, listening, ring

log = structlog.get_logger()

BELL = "outbox"
JSON, CAP_XML = "application/json", "application/cap+xml"
GROUP = {Lane.FLASH: 100, Lane.EMERGENCY: 100, Lane.REPLY: 100, Lane.ROUTINE: 500}
PAUSE_AFTER_TROUBLE = 0.5  # seconds
REST = 0.03
"""Seconds after telling something of a lane that can wait: one transaction tells what comes meanwhile."""
FINISH_WITHIN = 6.0
"""Seconds for the group in hand when the process is to end: RabbitMQ is given five to confirm it."""

HELD_BEFORE = literal_column("outbox.xmax::text <> '0'", Boolean)
"""Whether another transaction has had the row in hand and ended without deleting it, on PostgreSQL.

`FOR UPDATE` writes the locker's number into the row, where it stays when the locker is killed or rolls back; an
untouched row has 0 there. The scan reads it before our own lock overwrites it. Tried on PostgreSQL 15 with index,
bitmap and sequential scans, after pg_terminate_backend, after a DELETE that never committed and after VACUUM; only
VACUUM FREEZE wipes it off. Rows that SKIP LOCKED skips are not marked. It costs nothing.
"""


async def add(session: AsyncSession, *events: Event, lane: Lane, again: str = "") -> None:
    """Promise that each event will be told to RabbitMQ once this transaction commits.

    `again` tells a later telling of the same thing apart, where it is meant: a batch told anew.
    """
    now = time.time()
    for event in events:
        message = addressed(event, lane, again)
        session.add(
            OutboxMessage(
                lane=lane,
                exchange=message.exchange,
                routing_key=message.routing_key,
                message_id=message.message_id,
                body=message.body,
                created_at=now,
            )
        )
    await ring(session, BELL, str(lane))


async def offer(session: AsyncSession, issued: AlertIssued, document: bytes) -> None:
    """Promise the CAP document of an issued alert to anyone who listens."""
    session.add(
        OutboxMessage(
            lane=issued.lane,
            exchange=topology.ALERTS,
            routing_key=topology.offer_key(issued.lane, issued.category, issued.authority),
            message_id=f"cap:{issued.dispatch}",
            body=document,
            created_at=time.time(),
        )
    )


def addressed(event: Event, lane: Lane, again: str = "") -> Outgoing:
    """Where an event goes and what it is called. The same event has the same message id, for ever."""
    match event:
        case AlertIssued():
            key = topology.alert_key(lane, event.category, event.authority)
            exchange, name = topology.ALERTS, f"alert:{event.dispatch}"
        case BatchReady():
            key = topology.delivery_key(event.channel, lane)
            exchange, name = topology.DELIVERIES, f"batch:{event.batch}"
        case ReceiptCame():
            exchange, key = topology.RECEIPTS, "receipt"
            name = f"receipt:{event.dispatch}.{event.seq}.{event.progress.name}"
        case ReceiptsCame():
            exchange, key = topology.RECEIPTS, "receipt"
            name = f"receipts:{hashlib.sha256(wire.encode(event)).hexdigest()[:32]}"
        case CitizenWrote():
            exchange, key, name = topology.INBOUND, str(event.channel), f"inbound:{event.inbound}"
        case CitizensWrote():  # each text is told of once, so that the first tells them apart
            exchange, key = topology.INBOUND, str(event.channel)
            name = f"inbound:{event.inbound[0]}:{len(event.inbound)}"
        case CitizenReported():
            exchange, key, name = topology.DESK, str(event.channel), f"desk:{event.inbound}"
    message_id = f"{name}:{again}" if again else name
    return Outgoing(exchange, key, message_id, wire.encode(event), {"lane": str(lane)})


class Relay:
    """Takes outbox rows of one lane to RabbitMQ and deletes what it confirmed.

    After a kill some rows were told and not deleted. They are told again, and say so with `maybe_repeated`: what is
    older than this relay, what it told itself without seeing it deleted, and what another relay had in hand.
    """

    def __init__(self, database: Database, link: Link, lane: Lane, prefix: str = "") -> None:
        self._database = database
        self._link = link
        self._publisher = Publisher(link)
        self._lane = lane
        self._prefix = prefix
        self._born = time.time()
        self._maybe_told: set[int] = set()
        self._told: set[int] = set()
        self._forgetting: asyncio.Task[None] | None = None

    async def run(self, alarm: Alarm, stopping: asyncio.Event | None = None) -> None:
        """Relays until `stopping`, and finishes the group in hand then; or until cancelled."""
        wait = alarm.waiter(str(self._lane))
        while stopping is None or not stopping.is_set():
            try:
                told = await self.tell_some()
            except (BrokerAway, SQLAlchemyError, OSError) as error:
                if not isinstance(error, BrokerAway):
                    # A database that fell may have forgotten who held which row.
                    self._born = time.time()
                log.warning("relay paused", lane=str(self._lane), error=type(error).__name__)
                await asyncio.sleep(PAUSE_AFTER_TROUBLE * random.uniform(0.5, 1.5))
                continue
            if told < GROUP[self._lane]:  # what came meanwhile has woken us already
                if told and not self._lane.is_urgent:
                    await asyncio.sleep(REST)
                await wait()
        if self._forgetting:
            await self._forgetting

    async def tell_some(self) -> int:
        """Publishes a group, awaits its confirms, deletes what was confirmed. How many that was."""
        await self._link.wait_up(patience=5)
        if self._database.is_sqlite:
            return await self._tell_from_sqlite()
        # What a power cut brings back is told again, and says so: nobody need wait for the disk.
        async with self._database.write(durable=False) as session:
            # Rows another relay holds are skipped, so any number of relays may run.
            next_rows = self._next().add_columns(HELD_BEFORE).with_for_update(skip_locked=True)
            found = (await session.execute(next_rows)).all()
            confirmed = await self._publish([row for row, _ in found], {row.id for row, held in found if held})
            await self._forget(session, confirmed)
        self._maybe_told.difference_update(confirmed)
        return len(confirmed)

    async def _tell_from_sqlite(self) -> int:
        # No transaction may stay open while RabbitMQ answers: SQLite has one writer.
        async with self._database.read() as session:
            rows = (await session.scalars(self._next())).all()
        if not rows:
            return 0
        confirmed = await self._publish(rows, set())
        self._told.update(confirmed)
        if self._forgetting is None or self._forgetting.done():
            # Beside us: what comes next must not wait until it is our turn to write.
            self._forgetting = asyncio.create_task(self._forget_told(), name=f"forget {self._lane}")
        return len(confirmed)

    async def _forget_told(self) -> None:
        while ids := list(self._told):
            try:
                # Told and not forgotten is told again, and says so.
                async with self._database.write(durable=False) as session:
                    await self._forget(session, ids)
            except (DBAPIError, OSError) as error:
                log.warning("told rows stay for now", lane=str(self._lane), error=type(error).__name__)
                await asyncio.sleep(PAUSE_AFTER_TROUBLE)
            else:
                self._told.difference_update(ids)
                self._maybe_told.difference_update(ids)

    def _next(self) -> Select[OutboxMessage]:
        of_lane = select(OutboxMessage).where(OutboxMessage.lane == self._lane, OutboxMessage.id.not_in(self._told))
        return of_lane.order_by(OutboxMessage.id).limit(GROUP[self._lane])

    async def _publish(self, rows: Sequence[OutboxMessage], held_before: set[int]) -> list[int]:
        """The ids RabbitMQ confirmed. Raises BrokerAway only when it confirmed none."""
        if not rows:
            return []
        started = time.perf_counter()
        repeated = held_before | self._maybe_told | {row.id for row in rows if row.created_at < self._born}
        self._maybe_told.update(row.id for row in rows)
        answers = await asyncio.gather(*(self._tell(row, row.id in repeated) for row in rows), return_exceptions=True)
        metrics.OUTBOX_CONFIRM.labels(str(self._lane)).observe(time.perf_counter() - started)
        confirmed, trouble = [], None
        for row, answer in zip(rows, answers, strict=True):
            match answer:
                case None:
                    confirmed.append(row.id)
                case Unroutable():
                    self._maybe_told.discard(row.id)
                    metrics.OUTBOX_RELAYED.labels(str(self._lane), "returned").inc()
                    log.error("nobody takes a message", message=row.message_id, error=str(answer))
                    trouble = BrokerAway(str(answer))
                case BrokerAway():
                    metrics.OUTBOX_RELAYED.labels(str(self._lane), "unconfirmed").inc()
                    trouble = answer
                case _:
                    raise answer
        metrics.OUTBOX_RELAYED.labels(str(self._lane), "confirmed").inc(len(confirmed))
        if trouble and not confirmed:
            raise trouble
        return confirmed

    async def _tell(self, row: OutboxMessage, maybe_repeated: bool) -> None:
        headers = {"lane": str(row.lane)} | ({"maybe_repeated": "yes"} if maybe_repeated else {})
        is_offer = row.routing_key.startswith(topology.OFFERED)
        message = Outgoing(
            self._prefix + row.exchange,
            row.routing_key,
            row.message_id,
            row.body,
            headers,
            content_type=CAP_XML if is_offer else JSON,
            mandatory=not is_offer,
        )
        await self._publisher.publish(message)

    async def _forget(self, session: AsyncSession, ids: list[int]) -> None:
        if ids:
            await session.execute(delete(OutboxMessage).where(OutboxMessage.id.in_(ids)))


async def relay(database: Database, link: Link, prefix: str = "", stopping: asyncio.Event | None = None) -> None:
    """All lanes, until `stopping` or cancelled. An error of one is an error of all: the process is started again."""
    async with listening(database, BELL) as alarm, asyncio.TaskGroup() as tasks:
        lanes = [
            tasks.create_task(Relay(database, link, lane, prefix).run(alarm, stopping), name=f"relay {lane}")
            for lane in Lane
        ]
        alive = tasks.create_task(link.given_up())
        await asyncio.wait(lanes)
        alive.cancel()


async def depth(session: AsyncSession) -> dict[Lane, tuple[int, float]]:
    """By lane: how many messages RabbitMQ has yet to confirm, and when the oldest was written (Unix time)."""
    query = select(OutboxMessage.lane, func.count(), func.min(OutboxMessage.created_at)).group_by(OutboxMessage.lane)
    return {lane: (count, oldest) for lane, count, oldest in await session.execute(query)}
