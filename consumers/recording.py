"""What became of each person, written in bulk; and the end of each batch: done, or resting with what is left of it.

A batch is acknowledged after the recording commits, never before: whatever dies in between is given again by
RabbitMQ and recognised in the ledger.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import batching, costs, wire
from alerting.amqp import BrokerAway, Outgoing, Publisher, Unroutable
from alerting.domain.delivery import Decision, Done, Progress, Reason, TryAgain
from alerting.domain.events import BatchReady
from alerting.domain.fallback import MAY_BE_HELD, PATIENCE, Because, ends_untold, is_held_up
from alerting.domain.lanes import Lane
from alerting.persistence import Database, fallbacks, ledger
from alerting.sealing import Seal
from alerting.topology import WAITS, delivery_key, wait_for
from consumers.line import Errand, Held

log = structlog.get_logger()

FLUSH_EVERY, FLUSH_EVERY_WHEN_BUSY = 0.03, 0.09  # seconds: what is not written yet is said again after a kill
"""The longer one also where nothing of it is urgent: each writing is a transaction beside those of an alert."""
MANY_ROWS, MOST_ROWS = 50, 1000
PAUSE_AFTER_TROUBLE = 0.5


class Recorder:
    """Collects what lines report and writes it, a group a transaction."""

    def __init__(self, database: Database, publisher: Publisher, seal: Seal, prefix: str) -> None:
        self._database = database
        self._publisher = publisher
        self._seal = seal
        self._prefix = prefix
        self._results: list[tuple[Errand, ledger.Recorded]] = []
        self._given_back: list[Errand] = []
        self._spent: dict[Held, None] = {}
        self._something = asyncio.Event()
        self._writing = asyncio.Lock()
        self._letting_go: set[asyncio.Task[None]] = set()

    # ── what lines report ───────────────────────────────────────────────────────────────────────────

    def record(self, errand: Errand, decision: Decision) -> None:
        self._results.append((errand, self._row(errand, decision)))
        self._something.set()

    def give_back(self, errand: Errand) -> None:
        self._given_back.append(errand)
        self._something.set()

    def spent(self, held: Held) -> None:
        self._spent[held] = None
        self._something.set()

    # ── writing ─────────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Writes until cancelled. A database that is away loses nothing: the group is written again."""
        while True:
            await self._something.wait()
            await asyncio.sleep(FLUSH_EVERY)
            if len(self._results) >= MANY_ROWS or self._can_wait():
                await asyncio.sleep(FLUSH_EVERY_WHEN_BUSY - FLUSH_EVERY)
            await self.flush()

    def _can_wait(self) -> bool:
        """Whether nothing of it is urgent, and nobody was given back, for whom a Cancel waits or another worker."""
        reported = [*(errand.held for errand, _ in self._results), *self._spent]
        return not self._given_back and not any(held.lane.is_urgent for held in reported)

    async def flush(self) -> None:
        """Write all that was reported so far, however long the database is away."""
        while self._results or self._given_back or self._spent:
            self._something.clear()
            try:
                async with self._writing:  # a drain flushes beside run(): a group is written, and forgotten, once
                    await self._write_some()
            except (SQLAlchemyError, OSError) as error:
                log.warning("recording paused", rows=len(self._results), error=type(error).__name__)
                await asyncio.sleep(PAUSE_AFTER_TROUBLE)

    async def drain(self) -> None:
        """Write all that was reported, and acknowledge or put to rest every batch that came to its end."""
        await self.flush()
        while self._letting_go:
            await asyncio.wait(self._letting_go)

    async def _write_some(self) -> None:
        results, given_back = self._results[:MOST_ROWS], self._given_back[:]
        errands = [errand for errand, _ in results] + given_back
        recorded = _count(errands)
        ended = {h for h in {*recorded, *self._spent} if _ends(h, recorded)}
        waits: dict[Held, timedelta | None] = {}
        async with self._database.write() as session:
            accepted = await ledger.record(session, [row for _, row in results], counted=_costs(recorded))
            await ledger.leave_alone(session, _to_be_left_alone(results))
            await fallbacks.note(session, _to_be_followed(results))
            for dispatch, claims in _by_dispatch(given_back).items():
                await ledger.give_back(session, dispatch, claims)
            # Each locks its dispatch: everybody in the same order.
            for held in sorted({*ended, *(errand.held for errand in given_back)}, key=lambda h: h.dispatch):
                if held in ended:
                    waits[held] = await _settle(session, held)
                else:
                    await _end_if_over(session, held.batch)  # they may have been given back because it is
            spent = _spent(recorded, accepted)
            await costs.add(session, spent, datetime.now(UTC))
        costs.measure(spent)
        del self._results[: len(results)]
        del self._given_back[: len(given_back)]
        for held, people in recorded.items():
            held.unrecorded -= people
            if held.is_spent and held not in waits:  # its last claim found nobody while we wrote
                self.spent(held)
            held.figures.in_flight.dec(people)
        for held, wait in waits.items():
            held.settled = True
            self._spent.pop(held, None)
            self._begin_to_let_go(held, wait)
        for held in [held for held in self._spent if not held.is_spent]:
            del self._spent[held]  # it will be reported by its last errand

    def _begin_to_let_go(self, held: Held, wait: timedelta | None) -> None:
        """Beside the writing: a broker that takes nothing must not keep us from recording what was said."""
        if wait is None:
            return held.message.ack()
        task = asyncio.create_task(self._put_to_rest(held, wait), name=f"rest batch {held.batch.batch}")
        self._letting_go.add(task)
        task.add_done_callback(self._letting_go.discard)
        return None

    async def _put_to_rest(self, held: Held, wait: timedelta) -> None:
        """Into its lane's wait queue, and only then acknowledged, so that it is never nowhere.

        Until RabbitMQ takes it, it stays ours: given back it would come at once, again and again, and each time
        counts towards its delivery limit.
        """
        message = resting(held.batch, wait, self._prefix)
        while True:
            try:
                await self._publisher.publish(message)
                break
            except (BrokerAway, Unroutable) as error:
                log.warning("a batch could not be put to rest yet", batch=held.batch.batch, error=str(error))
                await asyncio.sleep(PAUSE_AFTER_TROUBLE)
        held.message.ack()

    def _row(self, errand: Errand, decision: Decision) -> ledger.Recorded:
        now, claimed, dispatch = time.time(), errand.claimed, errand.held.batch.dispatch
        match decision:
            case Done(progress, reason, provider_id):
                sealed = self._seal.seal(provider_id) if provider_id else None
                return ledger.Recorded(dispatch, claimed.seq, claimed.attempt, progress, reason, sealed, now)
            case TryAgain(wait, reason, progress):
                due = now + wait.total_seconds()
                return ledger.Recorded(dispatch, claimed.seq, claimed.attempt, progress, reason, None, now, due)


def resting(batch: BatchReady, wait: timedelta, prefix: str) -> Outgoing:
    """The message that brings a batch back after a while, in its own lane."""
    lane, key = str(batch.lane), delivery_key(batch.channel, batch.lane)
    headers = {"lane": lane, "wait": wait_for(wait)}
    return Outgoing(prefix + WAITS, key, f"batch:{batch.batch}:rests", wire.encode(batch), headers)


async def _settle(session: AsyncSession, held: Held) -> timedelta | None:
    """Mark a batch that came to its end here. How long what is left of it rests; None when nothing is."""
    batch = held.batch
    left = await _left_of(session, batch)
    if left.unfinished == 0:
        await batching.finish(session, batch)
        return None
    if await _end_if_over(session, batch) and (await _left_of(session, batch)).unfinished == 0:
        await batching.finish(session, batch)
        return None
    until_due = timedelta(seconds=max(0.0, (left.next_due or 0.0) - time.time()))
    wait = timedelta(seconds=wait_for(max(until_due, held.rests_at_least)))
    await batching.rest(session, batch, wait)
    return wait


async def _end_if_over(session: AsyncSession, batch: BatchReady) -> bool:
    """Of what was withdrawn, or has expired, whoever of a batch still waits is told no more. Whether it is over."""
    now = time.time()
    dispatch = await batching.hold(session, batch.dispatch)
    if dispatch.withdrawn_at is not None:
        reason = Reason.WITHDRAWN
    elif dispatch.not_after.timestamp() <= now:
        reason = Reason.EXPIRED
    else:
        return False
    await ledger.withdraw(session, batch.dispatch, batch.first, batch.last, reason, now=now)
    return True


async def _left_of(session: AsyncSession, batch: BatchReady) -> ledger.Left:
    return await ledger.left_of(session, batch.dispatch, batch.first, batch.last)


def _to_be_left_alone(results: list[tuple[Errand, ledger.Recorded]]) -> dict[int, float]:
    """Until when each address is not to be written to, whatever else is to be said there."""
    return {
        errand.claimed.address_id: row.due_at
        for errand, row in results
        if row.reason is Reason.PAIR_THROTTLED and row.due_at and errand.claimed.address_id is not None
    }


def _to_be_followed(results: list[tuple[Errand, ledger.Recorded]]) -> list[fallbacks.Note]:
    """Who was not reached here and never will be, and whom the provider holds back.

    An answer to a citizen, and a call to who is on duty, are for here alone.
    """
    notes = []
    for errand, row in results:
        if row.progress is Progress.ACCEPTED or errand.claimed.address_id is None or errand.held.lane is Lane.REPLY:
            continue
        if ends_untold(row.progress, row.reason) and row.at < errand.held.batch.not_after.timestamp():
            notes.append(fallbacks.Note(row.dispatch, row.seq, Because.REFUSED, row.reason, row.at))
        elif row.progress in MAY_BE_HELD and is_held_up(row.reason, row.due_at - row.at, errand.held.lane):
            due_at = row.at + PATIENCE[errand.held.lane]
            notes.append(fallbacks.Note(row.dispatch, row.seq, Because.HELD, row.reason, due_at))
    return notes


def _costs(recorded: Mapping[Held, int]) -> bool:
    """Whether any of these costs money: of the others nobody need count what the provider took."""
    return any(held.price is not None and held.price.micro_euro for held in recorded)


def _spent(recorded: Mapping[Held, int], accepted: Mapping[int, int]) -> list[costs.Spent]:
    """What was spent on each dispatch: a process has one channel, on which an authority has one account for it."""
    held_of = {held.dispatch: held for held in recorded}
    return [
        costs.Spent(
            dispatch=dispatch,
            account=held.account.name,
            authority=held.account.authority,
            lane=held.lane,
            channel=held.batch.channel,
            texts=accepted[dispatch],
            price=held.price,
        )
        for dispatch, held in sorted(held_of.items())
        if held.price is not None and held.price.micro_euro and accepted.get(dispatch)
    ]


def _count(errands: list[Errand]) -> dict[Held, int]:
    counts: dict[Held, int] = defaultdict(int)
    for errand in errands:
        counts[errand.held] += 1
    return counts


def _ends(held: Held, recorded: dict[Held, int]) -> bool:
    """Whether a batch comes to its end with this group. It does so once."""
    at_end = held.exhausted and not held.claiming and not held.settled
    return at_end and held.unrecorded == recorded.get(held, 0)


def _by_dispatch(errands: list[Errand]) -> dict[int, list[tuple[int, int]]]:
    by_dispatch: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for errand in errands:
        by_dispatch[errand.held.batch.dispatch].append((errand.claimed.seq, errand.claimed.attempt))
    return by_dispatch
