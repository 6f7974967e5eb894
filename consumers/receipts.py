"""What a provider says happened, into the ledger: in any order, twice, and before our own recording."""

import asyncio
from dataclasses import dataclass, field

import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import metrics, wire
from alerting.amqp import Incoming
from alerting.domain.delivery import Progress, after
from alerting.domain.events import ReceiptCame
from alerting.persistence import Database, tables

log = structlog.get_logger()

GATHER = 0.02  # seconds: receipts come in crowds, and one transaction serves them all
MOST = 500


@dataclass
class _Waiting:
    """A receipt that arrived, and what its message waits for."""

    receipt: ReceiptCame
    written: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Receipts:
    """Moves deliveries on by what providers say."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[_Waiting] = []
        self._something = asyncio.Event()

    async def take(self, message: Incoming) -> None:
        """One receipt; returns when it is in the ledger."""
        try:
            event = wire.decode(message.body)
        except wire.Unreadable as error:
            metrics.DEAD_LETTERS.labels("unreadable").inc()
            log.error("dead letter", why="unreadable", message=message.message_id, error=str(error))
            return message.reject(requeue=False)
        if not isinstance(event, ReceiptCame):
            metrics.DEAD_LETTERS.labels("misplaced").inc()
            return message.reject(requeue=False)
        waiting = _Waiting(event)
        self._waiting.append(waiting)
        self._something.set()
        await waiting.written
        message.ack()
        return None

    async def run(self) -> None:
        """Writes crowds of receipts until cancelled."""
        while True:
            await self._something.wait()
            self._something.clear()
            await asyncio.sleep(GATHER)
            while crowd := self._waiting[:MOST]:
                del self._waiting[:MOST]
                await self._write(crowd)

    async def _write(self, crowd: list[_Waiting]) -> None:
        try:
            async with self._database.write() as session:
                for waiting in sorted(crowd, key=lambda w: (w.receipt.dispatch, w.receipt.seq)):
                    await _move(session, waiting.receipt)
        except (SQLAlchemyError, OSError) as error:
            for waiting in crowd:
                waiting.written.set_exception(error)
            return
        for waiting in crowd:
            waiting.written.set_result(None)


async def _move(session: AsyncSession, receipt: ReceiptCame) -> None:
    """One delivery, as far as the receipt moves it."""
    delivery = await session.get(tables.Delivery, (receipt.dispatch, receipt.seq), with_for_update=True)
    if delivery is None:
        metrics.RECEIPTS.labels("", "unknown").inc()
        return
    was, now = Progress(delivery.progress), after(Progress(delivery.progress), receipt.progress)
    if now is was:
        return
    delivery.progress = now.value
    delivery.reason = receipt.reason.value if receipt.reason else None
    lane, channel, seconds = await _how_long(session, receipt)
    metrics.RECEIPTS.labels(channel, receipt.progress.name.lower()).inc()
    if now is Progress.DELIVERED or (now is Progress.READ and was is not Progress.DELIVERED):
        metrics.ISSUED_TO_DELIVERED.labels(lane, channel).observe(seconds)


async def _how_long(session: AsyncSession, receipt: ReceiptCame) -> tuple[str, str, float]:
    """Lane, channel, and seconds from issue until the receipt's own time."""
    dispatch = await session.get_one(tables.Dispatch, receipt.dispatch)
    channel = await session.scalar(
        text("SELECT channel FROM batches WHERE dispatch_id = :dispatch AND first <= :seq ORDER BY first DESC LIMIT 1"),
        {"dispatch": receipt.dispatch, "seq": receipt.seq},
    )
    return str(dispatch.lane), str(channel or ""), max(0.0, (receipt.at - dispatch.issued_at).total_seconds())
