"""Whatever nobody works on is published again: the database is the truth, the broker is transport."""

import asyncio
import time
from datetime import UTC, datetime

import structlog
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from alerting import batching, outbox
from alerting.domain.cap import MsgType
from alerting.domain.delivery import Reason
from alerting.domain.events import AlertIssued
from alerting.domain.lifecycle import Action, State, advance
from alerting.persistence import Database, ledger, tables

log = structlog.get_logger()

LOOK_EVERY = 15.0  # seconds
ABANDONED_AFTER = 180.0
"""Seconds without a sign of life after which a told batch is told again. A resting one is given its wait too."""
LONGEST_REST = 600.0
UNFANNED_AFTER = 60.0
AT_ONCE = 100


class Reconciler:
    """Finds what was lost and what has ended."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self) -> None:
        """Looks every few seconds until cancelled."""
        while True:
            try:
                await self.look(time.time())
            except (SQLAlchemyError, OSError) as error:
                log.warning("reconciling paused", error=type(error).__name__)
            await asyncio.sleep(LOOK_EVERY)

    async def look(self, now: float) -> None:
        await self._tell_abandoned(now)
        await self._fan_out_abandoned(now)
        await self._end_expired(datetime.fromtimestamp(now, UTC))

    async def _tell_abandoned(self, now: float) -> None:
        """Batches told, or put to rest, of which nobody has been heard since."""
        async with self._database.write() as session:
            abandoned = select(tables.Batch).where(
                ((tables.Batch.state == "told") & (tables.Batch.touched_at < now - ABANDONED_AFTER))
                | ((tables.Batch.state == "resting") & (tables.Batch.touched_at < now - ABANDONED_AFTER - LONGEST_REST))
            )
            batches = (await session.scalars(abandoned.order_by(tables.Batch.id).limit(AT_ONCE))).all()
            for batch in batches:
                dispatch = await batching.hold(session, batch.dispatch_id)
                await batching.tell_again(session, batch, dispatch.not_after)
                log.warning("told again", batch=batch.id, lane=str(batch.lane))

    async def _fan_out_abandoned(self, now: float) -> None:
        """Alerts issued a while ago whose audience nobody has finished."""
        async with self._database.write() as session:
            unfinished = select(tables.Dispatch).where(
                tables.Dispatch.audience.is_(None),
                tables.Dispatch.alert.is_not(None),
                tables.Dispatch.issued_at < datetime.fromtimestamp(now - UNFANNED_AFTER, UTC),
            )
            for dispatch in (await session.scalars(unfinished.limit(AT_ONCE))).all():
                alert = await session.get_one(tables.Alert, dispatch.alert)
                again = AlertIssued(
                    alert=alert.identifier,
                    dispatch=dispatch.id,
                    authority=dispatch.authority,
                    lane=dispatch.lane,
                    category=alert.document["infos"][0]["category"][0],
                    msg_type=alert.msg_type.value,
                    sent=dispatch.issued_at,
                    expires=dispatch.not_after,
                )
                await outbox.add(session, again, lane=dispatch.lane, again=str(int(now)))
                log.warning("fanned out again", dispatch=dispatch.id)

    async def _end_expired(self, now: datetime) -> None:
        """Alerts whose time is over: nobody who still waits is told."""
        async with self._database.write() as session:
            over = select(tables.Alert).where(tables.Alert.state == State.ISSUED, tables.Alert.expires_at <= now)
            for alert in (await session.scalars(over.limit(AT_ONCE).with_for_update(skip_locked=True))).all():
                if alert.msg_type is not MsgType.CANCEL:
                    log.info("expired", alert=alert.identifier)
                alert.state = advance(alert.identifier, alert.state, Action.EXPIRE)
                alert.ended_at = now
                dispatch = (
                    await session.scalars(select(tables.Dispatch).where(tables.Dispatch.alert == alert.identifier))
                ).one()
                await ledger.withdraw(session, dispatch.id, 1, dispatch.last_seq, Reason.EXPIRED, now=now.timestamp())
