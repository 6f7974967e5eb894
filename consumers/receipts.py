"""What a provider says happened, into the ledger: in any order, twice, and before our own recording."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import structlog
from sqlalchemy import Row, and_, bindparam, select, update
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import metrics
from alerting.amqp import Incoming
from alerting.domain.delivery import Channel, Progress, after
from alerting.domain.events import ReceiptCame, ReceiptsCame
from alerting.domain.fallback import Because, ends_untold
from alerting.domain.lanes import Lane
from alerting.persistence import Database, dialects, fallbacks, tables
from consumers.deadletters import event_in

log = structlog.get_logger()

GATHER = 0.1  # seconds: receipts come in crowds, and one transaction serves them all
MOST = 500

ONE_OR_SEVERAL: tuple[type[ReceiptCame | ReceiptsCame], ...] = (ReceiptCame, ReceiptsCame)


@dataclass
class _Waiting:
    """A receipt that arrived, and what its message waits for."""

    receipt: ReceiptCame
    written: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def fails(self, error: Exception) -> None:
        """Whoever waits is told why; nobody does when we are being stopped."""
        if not self.written.done():
            self.written.set_exception(error)


class Receipts:
    """Moves deliveries on by what providers say."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[_Waiting] = []
        self._something = asyncio.Event()

    async def take(self, message: Incoming) -> None:
        """One receipt or several; returns when they are in the ledger. What is written already is no harm again."""
        event = await event_in(self._database, message, ONE_OR_SEVERAL)
        if event is None:
            return
        waiting = [_Waiting(one) for one in (event.receipts if isinstance(event, ReceiptsCame) else (event,))]
        self._waiting.extend(waiting)
        self._something.set()
        await asyncio.gather(*(one.written for one in waiting))
        message.ack()

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
                await _move(session, [waiting.receipt for waiting in crowd])
        except (DataError, IntegrityError) as error:
            if len(crowd) == 1:
                return crowd[0].fails(error)
            for waiting in crowd:  # one of them spoils it: it must not take the others with it
                await self._write([waiting])
            return None
        except (SQLAlchemyError, OSError) as error:
            for waiting in crowd:
                waiting.fails(error)
            return None
        for waiting in crowd:
            if not waiting.written.done():
                waiting.written.set_result(None)
        return None


Standing = Row[int, int, int, int | None, Lane, datetime, Channel, str | None]
"""dispatch_id, seq, progress and address of a delivery; the lane and the issue of its dispatch; its channel; and
whether the person is told on another by now, where anybody looked."""


async def _move(session: AsyncSession, receipts: Sequence[ReceiptCame]) -> None:
    """As far as they move anybody: one reading and one writing, however many they are."""
    standing = {(row.dispatch_id, row.seq): row for row in await _standing(session, receipts)}
    progress = {key: Progress(row.progress) for key, row in standing.items()}
    moved: dict[tuple[int, int], ReceiptCame] = {}
    untold: list[fallbacks.Note] = []
    for receipt in receipts:
        key = (receipt.dispatch, receipt.seq)
        if key not in standing:
            metrics.RECEIPTS.labels("", "unknown").inc()
            continue
        was, progress[key] = progress[key], after(progress[key], receipt.progress)
        if progress[key] is not was:
            moved[key] = receipt
            _measure(standing[key], receipt, was, progress[key])
            # Without an address of a subscriber it is an answer, or a call to who is on duty: for here alone.
            if standing[key].address_id is not None and ends_untold(progress[key], receipt.reason):
                untold.append(fallbacks.Note(*key, Because.REFUSED, receipt.reason, time.time()))
    if moved:
        connection = await session.connection()
        await connection.execute(
            update(tables.Delivery)
            .where(tables.Delivery.dispatch_id == bindparam("of"), tables.Delivery.seq == bindparam("number"))
            .values(progress=bindparam("to"), reason=bindparam("why")),
            [
                {
                    "of": key[0],
                    "number": key[1],
                    "to": progress[key].value,
                    "why": receipt.reason.value if receipt.reason else None,
                }
                for key, receipt in sorted(moved.items())
            ],
        )
    await fallbacks.note(session, untold)


async def _standing(session: AsyncSession, receipts: Sequence[ReceiptCame]) -> Sequence[Standing]:
    """Where the deliveries they speak of stand, locked; in one order for all, so that nobody waits in a circle."""
    keys = {(receipt.dispatch, receipt.seq) for receipt in receipts}
    query = (
        select(
            tables.Delivery.dispatch_id,
            tables.Delivery.seq,
            tables.Delivery.progress,
            tables.Delivery.address_id,
            tables.Dispatch.lane,
            tables.Dispatch.issued_at,
            tables.Batch.channel,
            tables.Fallback.state.label("followed"),
        )
        .join(tables.Dispatch, tables.Dispatch.id == tables.Delivery.dispatch_id)
        .join(
            tables.Batch,
            and_(
                tables.Batch.dispatch_id == tables.Delivery.dispatch_id,
                tables.Batch.first <= tables.Delivery.seq,
                tables.Batch.last >= tables.Delivery.seq,
            ),
        )
        .outerjoin(
            tables.Fallback,
            and_(
                tables.Fallback.dispatch_id == tables.Delivery.dispatch_id,
                tables.Fallback.seq == tables.Delivery.seq,
            ),
        )
        .where(dialects.among(tables.Delivery.dispatch_id, tables.Delivery.seq, keys))
        .order_by(tables.Delivery.dispatch_id, tables.Delivery.seq)
        .with_for_update(of=tables.Delivery)
    )
    return (await session.execute(query)).all()


def _measure(standing: Standing, receipt: ReceiptCame, was: Progress, now: Progress) -> None:
    lane, channel = str(standing.lane), str(standing.channel)
    metrics.RECEIPTS.labels(channel, receipt.progress.name.lower()).inc()
    if now is Progress.DELIVERED or (now is Progress.READ and was is not Progress.DELIVERED):
        seconds = max(0.0, (receipt.at - standing.issued_at).total_seconds())
        metrics.ISSUED_TO_DELIVERED.labels(lane, channel).observe(seconds)
        if standing.followed == fallbacks.FOLLOWED:
            metrics.TOLD_TWICE.labels(lane, channel).inc()
