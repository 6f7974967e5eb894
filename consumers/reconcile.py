"""Whatever nobody works on is published again: the database is the truth, the broker is transport."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import structlog
from sqlalchemy import ColumnElement, Select, case, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from alerting import attachments, batching, metrics, outbox, retention, unreachable
from alerting.domain.cap import MsgType
from alerting.domain.delivery import Reason
from alerting.domain.events import AlertIssued, CitizenWrote
from alerting.domain.lanes import Lane
from alerting.domain.lifecycle import Action, State, advance
from alerting.persistence import Database, ledger, tables
from consumers import quota
from consumers.fallback import Fallback
from consumers.handover import HandOver

log = structlog.get_logger()

LOOK_EVERY, SEARCH_EVERY = 0.5, 2.0  # seconds: for what has ended or stands still, for what was lost
FORGET_EVERY = 600.0
"""Seconds between two looks for pictures that no alert shows."""
RETAIN_EVERY, RETAIN_FIRST = 6 * 3600.0, 300.0
"""Seconds between two looks for what has been kept long enough, and until the first."""
MISSED_AFTER = {Lane.FLASH: 20.0, Lane.EMERGENCY: 20.0, Lane.REPLY: 20.0, Lane.ROUTINE: 120.0}
"""Seconds without a sign of life after which something is told again: four signs of a worker that lives."""
MOST_PATIENT = 10
"""Told so often and more, it is waited for so many times as long: what stands in a long queue is not lost."""
AT_ONCE = 100


class Reconciler:
    """Finds what was lost and what has ended."""

    def __init__(self, database: Database, *, months: int = 24, days: int = 30) -> None:
        self._database = database
        self._kept = months, days
        self._hand_over = HandOver(database)
        self._fallback = Fallback(database, self._hand_over)

    async def run(self) -> None:
        """Looks twice a second until cancelled: an alert's end must not be late, nor a fallback."""
        searched = forgot = 0.0
        retained = time.time() - RETAIN_EVERY + RETAIN_FIRST
        while True:
            now = time.time()
            try:
                await self.look(now)
                if now - searched >= SEARCH_EVERY:
                    await self.search(now)
                    searched = now
                if now - forgot >= FORGET_EVERY:
                    await self.forget(now)
                    forgot = now
                if now - retained >= RETAIN_EVERY:
                    await self.retain(now)
                    retained = now
            except (SQLAlchemyError, OSError) as error:
                log.warning("reconciling paused", error=type(error).__name__)
            await asyncio.sleep(LOOK_EVERY)

    async def look(self, now: float) -> None:
        """End what has expired; tell elsewhere who was not reached, or waits at a halted account."""
        await self._end_expired(datetime.fromtimestamp(now, UTC))
        await self._fallback.look(now)
        await self._hand_over.look(now)

    async def search(self, now: float) -> None:
        """Tell again what nobody works on."""
        await self._tell_batches_again(now)
        await self._fan_out_again(now)
        await self._read_again(now - MISSED_AFTER[Lane.REPLY])
        await quota.count_anew(self._database, now=now)

    async def forget(self, now: float) -> None:
        """Pictures and documents that were handed in a day ago, and no alert shows them."""
        at = datetime.fromtimestamp(now, UTC)
        if not await self._is_any(attachments.unused(at)):
            return
        async with self._database.write() as session:
            log.info("forgotten", attachments=await attachments.forget_unused(session, at))

    async def retain(self, now: float) -> None:
        """What is kept for a time only, and whose time is over."""
        await unreachable.mark(self._database, datetime.fromtimestamp(now, UTC))
        months, days = self._kept
        done = await retention.forget(
            self._database, now=datetime.fromtimestamp(now, UTC), months=months, days=days, actor=retention.RETENTION
        )
        if done:
            log.info("forgotten in time", proofs=done.proofs, texts=done.texts, answers=done.answers)

    # ── what nobody works on ────────────────────────────────────────────────────────────────────────

    async def _tell_batches_again(self, now: float) -> None:
        """Batches told, or back from their rest, of which nobody has been heard since."""
        batch = tables.Batch
        waited = _patience(batch.lane) * case((batch.told < MOST_PATIENT, batch.told), else_=MOST_PATIENT)
        missed = (batch.state.in_(("told", "resting")), batch.touched_at < now - waited)
        if not await self._is_any(select(batch.id).where(*missed)):
            return
        async with self._database.write() as session:
            query = select(batch).where(*missed).order_by(batch.touched_at).limit(AT_ONCE)
            # Each locks its dispatch: recorders and we in the same order.
            for row in sorted(await session.scalars(query), key=lambda row: row.dispatch_id):
                dispatch = await batching.hold(session, row.dispatch_id)
                await batching.tell_again(session, row, dispatch.not_after)
                metrics.TOLD_AGAIN.labels(str(row.lane), "batch").inc()
                log.warning("told again", batch=row.id, lane=str(row.lane), times=row.told)

    async def _fan_out_again(self, now: float) -> None:
        """Alerts on whose audience nobody works, and nobody has finished it."""
        unfinished = (
            tables.Dispatch.audience.is_(None),
            tables.Dispatch.alert.is_not(None),
            tables.Dispatch.touched_at < now - _patience(tables.Dispatch.lane),
        )
        if not await self._is_any(select(tables.Dispatch.id).where(*unfinished)):
            return
        async with self._database.write() as session:
            query = select(tables.Dispatch).where(*unfinished).limit(AT_ONCE).with_for_update(skip_locked=True)
            for dispatch in (await session.scalars(query)).all():
                dispatch.touched_at = now
                issued = await _issued(session, dispatch)
                await outbox.add(session, issued, lane=dispatch.lane, again=str(int(now)))
                metrics.TOLD_AGAIN.labels(str(dispatch.lane), "alert").inc()
                log.warning("fanned out again", dispatch=dispatch.id)

    async def _read_again(self, before: float) -> None:
        """Texts of citizens that nobody has read: somebody waits for an answer."""
        inbox = tables.InboundMessage
        unread = (inbox.handled_at.is_(None), inbox.received_at < datetime.fromtimestamp(before, UTC))
        if not await self._is_any(select(inbox.id).where(*unread)):
            return
        async with self._database.write() as session:
            query = (
                select(inbox, tables.ChannelAccount.channel)
                .join(tables.ChannelAccount, tables.ChannelAccount.name == inbox.account)
                .where(*unread)
                .order_by(inbox.id)
                .limit(AT_ONCE)
            )
            for row, channel in (await session.execute(query)).all():
                event = CitizenWrote(inbound=row.id, channel=channel)
                await outbox.add(session, event, lane=Lane.REPLY, again=str(int(before)))
                metrics.TOLD_AGAIN.labels(str(Lane.REPLY), "inbound").inc()
                log.warning("to be read again", inbound=row.id)

    async def _is_any(self, query: Select[Any]) -> bool:
        """Looking costs a reader; only what is found costs a writer."""
        async with self._database.read() as session:
            return (await session.scalar(query.limit(1))) is not None

    # ── what has ended ──────────────────────────────────────────────────────────────────────────────

    async def _end_expired(self, now: datetime) -> None:
        """Alerts whose time is over: nobody who still waits is told."""
        over = (tables.Alert.state == State.ISSUED, tables.Alert.expires_at <= now)
        if not await self._is_any(select(tables.Alert.identifier).where(*over)):
            return
        async with self._database.write() as session:
            query = select(tables.Alert).where(*over).limit(AT_ONCE).with_for_update(skip_locked=True)
            for alert in (await session.scalars(query)).all():
                if alert.msg_type is not MsgType.CANCEL:
                    log.info("expired", alert=alert.identifier)
                alert.state = advance(alert.identifier, alert.state, Action.EXPIRE)
                alert.ended_at = now
                dispatch = (
                    await session.scalars(select(tables.Dispatch).where(tables.Dispatch.alert == alert.identifier))
                ).one()
                await ledger.withdraw(session, dispatch.id, 1, dispatch.last_seq, Reason.EXPIRED, now=now.timestamp())


def _patience(lane: InstrumentedAttribute[Lane]) -> ColumnElement[float]:
    """Seconds to wait for a sign of life, by the lane of the row."""
    return case(*((lane == one, seconds) for one, seconds in MISSED_AFTER.items()), else_=max(MISSED_AFTER.values()))


async def _issued(session: AsyncSession, dispatch: tables.Dispatch) -> AlertIssued:
    alert = await session.get_one(tables.Alert, dispatch.alert)
    return AlertIssued(
        alert=alert.identifier,
        dispatch=dispatch.id,
        authority=dispatch.authority,
        lane=dispatch.lane,
        category=alert.document["infos"][0]["category"][0],
        msg_type=alert.msg_type.value,
        sent=dispatch.issued_at,
        expires=dispatch.not_after,
    )
