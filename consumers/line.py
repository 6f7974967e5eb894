"""One account's work in one process: the people in hand by lane, the slots leased for them, the calls under way.

The lane is chosen again at every slot, between two people and not between two batches.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

import structlog
from sqlalchemy.exc import SQLAlchemyError

from alerting import metrics
from alerting.amqp import Incoming
from alerting.domain.delivery import Decision
from alerting.domain.events import BatchReady
from alerting.domain.lanes import Lane
from alerting.persistence import Database, ledger
from consumers.channel import Account, Text
from consumers.pacing import Denied, Pacer, slots_of

log = structlog.get_logger()

CLAIM_LASTS = 30.0  # seconds: longer than the longest call to a provider and its recording
CLAIM_NEEDED = 20.0  # seconds a claim must still last when the call begins, or another might make it too
READY_AT_MOST = 5.0  # seconds: whom a more urgent lane or a closed account keeps from being told is given back
SLOT_SPOILS = 0.03  # seconds: a later slot is dropped, or a stall would be followed by a burst
MOST_IN_FLIGHT, KEPT_FOR_URGENT = 96, 32
PAUSE_AFTER_TROUBLE = 0.5
FRUITLESS = 60.0
"""Seconds after which a routine batch that could not move goes back to a wait queue with what is left of it."""


@dataclass(eq=False)
class Held:
    """A batch this process has in hand, from its arrival until it is settled."""

    message: Incoming
    batch: BatchReady
    text: Text
    issued_at: datetime
    arrived: float
    exhausted: bool = False
    unrecorded: int = 0
    rests_at_least: timedelta = timedelta(0)
    moved: float = field(default_factory=time.monotonic)

    @property
    def lane(self) -> Lane:
        return self.batch.lane

    @property
    def is_spent(self) -> bool:
        """Nobody left to claim, and everybody claimed is recorded."""
        return self.exhausted and self.unrecorded == 0


@dataclass(frozen=True, slots=True)
class Errand:
    """One person to be told: claimed until then (Unix time), and not yet tried."""

    held: Held
    claimed: ledger.Claimed
    until: float


Telling = Callable[[Account, Errand], Awaitable[Decision]]


class Book(Protocol):
    """Where a line reports to: what became of each errand, and which batch it has come to the end of."""

    def record(self, errand: Errand, decision: Decision) -> None: ...
    def give_back(self, errand: Errand) -> None: ...
    def spent(self, held: Held) -> None: ...


class Line:
    """Spends one account's slots on the most urgent people in hand."""

    def __init__(self, account: Account, database: Database, pacer: Pacer, tell: Telling, book: Book) -> None:
        self.account = account
        self._database = database
        self._pacer = pacer
        self._tell = tell
        self._book = book
        self._held: dict[Lane, deque[Held]] = {lane: deque() for lane in Lane}
        self._ready: dict[Lane, deque[Errand]] = {lane: deque() for lane in Lane}
        self._slots: deque[float] = deque()
        self._rate = 10.0
        self._changed = asyncio.Event()
        self._calls: set[asyncio.Task[None]] = set()
        self._closed_until = 0.0
        self._idle_until = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self._claiming = asyncio.Lock()

    def start(self) -> None:
        for loop in (self._keep_claiming, self._keep_leasing, self._keep_sending):
            self._tasks.append(asyncio.create_task(loop(), name=f"{loop.__name__} {self.account.name}"))

    def check(self) -> None:
        """Raises whatever ended one of the loops: a line with a dead loop must not look alive."""
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()):
                raise error

    def take(self, held: Held) -> None:
        """A batch arrived."""
        self._held[held.lane].append(held)
        self._changed.set()

    def drop(self, held: Held) -> None:
        """A batch must not go on here: forget it, and give back whoever of it is not yet tried."""
        if not held.exhausted:
            held.exhausted = True
            self._held[held.lane].remove(held)
        ready = self._ready[held.lane]
        for errand in [errand for errand in ready if errand.held is held]:
            ready.remove(errand)
            self._book.give_back(errand)
        self._book.spent(held)

    def close_for(self, pause: timedelta) -> None:
        """The provider halted or slowed the account: nothing leaves for a while. What is ready waits in hand."""
        self._closed_until = time.monotonic() + pause.total_seconds()
        self._slots.clear()

    def fruitless(self) -> list[Held]:
        """Routine batches in hand that could not move for a minute."""
        long_ago = time.monotonic() - FRUITLESS
        return [h for h in self._held[Lane.ROUTINE] if h.moved < long_ago and not h.unrecorded]

    def held_longer_than(self, seconds: float) -> list[int]:
        """The numbers of the batches that have been in hand so long."""
        long_ago = time.monotonic() - seconds
        return [held.batch.batch for lane in Lane for held in self._held[lane] if held.arrived < long_ago]

    def give_back_kept_waiting(self) -> None:
        """Whoever was claimed and could not be told: a Cancel must not wait for them, nor another worker."""
        long_ago = time.time() + CLAIM_LASTS - READY_AT_MOST
        for ready in self._ready.values():
            for errand in [errand for errand in ready if errand.until < long_ago]:
                ready.remove(errand)
                self._book.give_back(errand)

    async def drain(self) -> None:
        """Claim nobody more, give back who is not yet tried, and wait for the calls under way."""
        async with self._claiming:  # who is being claimed right now would stay claimed, and told by nobody
            for task in self._tasks:
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for lane in Lane:
            while self._ready[lane]:
                self._book.give_back(self._ready[lane].popleft())
        if self._calls:
            await asyncio.wait(self._calls)

    # ── people ──────────────────────────────────────────────────────────────────────────────────────

    async def _keep_claiming(self) -> None:
        while True:
            held = self._to_claim_from()
            if held is None:
                await self._until_changed()
                continue
            try:
                async with self._claiming:
                    await self._claim(held)
            except (SQLAlchemyError, OSError) as error:
                log.warning("claiming paused", account=self.account.name, error=type(error).__name__)
                await asyncio.sleep(PAUSE_AFTER_TROUBLE)

    def _to_claim_from(self) -> Held | None:
        """The batch to claim from next: of the most urgent lane in hand, each dispatch in turn."""
        lane = self._top()
        if lane is None or len(self._ready[lane]) >= self._slice:
            return None
        batches = self._held[lane]
        batches.rotate(-1)
        return batches[-1] if batches else None

    async def _claim(self, held: Held) -> None:
        now, most, batch = time.time(), self._slice, held.batch
        async with self._database.write() as session:
            claimed = await ledger.claim(
                session, batch.dispatch, batch.first, batch.last, most=most, now=now, until=now + CLAIM_LASTS
            )
        dropped = held.exhausted
        if len(claimed) < most and not dropped:
            held.exhausted = True
            self._held[held.lane].remove(held)
        held.unrecorded += len(claimed)
        lane, channel = str(held.lane), str(batch.channel)
        for person in claimed:
            errand = Errand(held, person, now + CLAIM_LASTS)
            if dropped:
                self._book.give_back(errand)
                continue
            if person.again:
                metrics.REPEATED.labels(lane, channel).inc()
            self._ready[held.lane].append(errand)
        metrics.IN_FLIGHT.labels(lane, channel).inc(len(claimed))
        if held.is_spent:
            self._book.spent(held)  # nobody to claim: somebody else is at it, or it was withdrawn
        self._changed.set()

    # ── slots ───────────────────────────────────────────────────────────────────────────────────────

    async def _keep_leasing(self) -> None:
        asked_since: float | None = None
        while True:
            lane = self._top()
            if lane is None or len(self._slots) > self._slice // 2 or not self._is_open(lane):
                asked_since = None
                await self._until_changed(0.05 if lane is not None else None)
                continue
            asked_since = asked_since or time.monotonic()
            try:
                answer = await self._pacer.lease(self.account.name, lane, slots=self._slice, want=self._wanted(lane))
            except (SQLAlchemyError, OSError) as error:
                log.warning("leasing paused", account=self.account.name, error=type(error).__name__)
                await asyncio.sleep(PAUSE_AFTER_TROUBLE)
                continue
            if isinstance(answer, Denied):
                # Something more urgent that arrives meanwhile must not wait for the end of this wait.
                await self._until_changed(max(0.005, min(answer.wait, 1.0)))
                continue
            metrics.LEASE_WAIT.labels(str(lane)).observe(time.monotonic() - asked_since)
            asked_since = None
            self._rate = answer.rate
            if time.monotonic() < self._closed_until:
                continue  # the provider slowed us down while we asked
            self._slots.extend(answer.slots)
            self._changed.set()

    def _is_open(self, lane: Lane) -> bool:
        return time.monotonic() >= self._closed_until and self._has_room(lane)

    @property
    def _slice(self) -> int:
        return slots_of(self._rate)

    def _wanted(self, lane: Lane) -> int:
        """How many people of this lane are in hand."""
        unclaimed = sum(held.batch.last - held.batch.first + 1 for held in self._held[lane])
        return unclaimed + len(self._ready[lane])

    def _top(self) -> Lane | None:
        """The most urgent lane with anybody in hand."""
        for lane in Lane:
            if self._ready[lane] or self._held[lane]:
                return lane
        return None

    # ── calls ───────────────────────────────────────────────────────────────────────────────────────

    async def _keep_sending(self) -> None:
        while True:
            if self._top() is None:
                await self._until_changed()
                self._idle_until = time.monotonic()
                continue
            if not self._slots:
                await self._until_changed()
                continue
            delay = self._slots[0] - time.monotonic()
            if delay < -SLOT_SPOILS and self._slots[0] < self._idle_until:
                self._slots.popleft()  # leased for somebody who is told already: nobody was kept waiting
                continue
            if delay > 0:
                await asyncio.sleep(delay)
                if not self._slots:
                    continue
            errand = await self._errand_for(self._slots.popleft())
            if errand is not None:
                self._call(errand)

    async def _errand_for(self, slot: float) -> Errand | None:
        """Whom this slot is spent on: the most urgent in hand, waiting for their claim while the slot is good."""
        while (left := slot + SLOT_SPOILS - time.monotonic()) > 0:
            lane = self._top()
            if lane is None:
                return None
            if self._ready[lane] and self._has_room(lane):
                errand = self._ready[lane].popleft()
                self._changed.set()
                if errand.until - time.time() < CLAIM_NEEDED:
                    self._book.give_back(errand)
                    continue
                return errand
            await self._until_changed(left)
        metrics.SLOTS_EXPIRED.inc()
        return None

    def _has_room(self, lane: Lane) -> bool:
        """A provider that hangs holds up no more calls than this; some room is the urgent lanes' alone."""
        return len(self._calls) < MOST_IN_FLIGHT + (KEPT_FOR_URGENT if lane.is_urgent else 0)

    def _call(self, errand: Errand) -> None:
        call = asyncio.create_task(self._tell_and_record(errand))
        self._calls.add(call)
        call.add_done_callback(self._called)

    def _called(self, call: asyncio.Task[None]) -> None:
        was_full = len(self._calls) >= MOST_IN_FLIGHT
        self._calls.discard(call)
        if was_full:
            self._changed.set()

    async def _tell_and_record(self, errand: Errand) -> None:
        decision = await self._tell(self.account, errand)
        errand.held.moved = time.monotonic()
        self._book.record(errand, decision)

    async def _until_changed(self, patience: float | None = None) -> None:
        self._changed.clear()
        with suppress(TimeoutError):
            # Not wait_for: it begins to wait a turn of the loop later, and another's clear() may come between.
            async with asyncio.timeout(patience):
                await self._changed.wait()
