"""One number's work in one process: the people in hand by lane, the slots leased for them, the calls under way.

The lane is chosen again at every slot, between two people and not between two batches. Comuni that share a number
share a line: within a lane each has its turn.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import metrics
from alerting.amqp import Incoming
from alerting.costs import Price
from alerting.domain.delivery import Decision, Reason
from alerting.domain.events import BatchReady
from alerting.domain.fallback import PATIENCE, Because, is_held_up
from alerting.domain.lanes import Lane
from alerting.persistence import Database, fallbacks, ledger
from consumers import quiet
from consumers.channel import Account, Text
from consumers.mass_failure import MassFailure
from consumers.pacing import MOST_SLOTS, Denied, Pacer, asks_again_at, slots_of, slots_of_lane
from consumers.quota import admit
from consumers.turns import Turns

log = structlog.get_logger()

CLAIM_LASTS = 30.0  # seconds: longer than the longest call to a provider and its recording
CLAIM_NEEDED = 20.0  # seconds a claim must still last when the call begins, or another might make it too
READY_AT_MOST = 5.0  # seconds: whom a more urgent lane or a closed account keeps from being told is given back
SLOT_SPOILS = 0.03  # seconds: a later slot is dropped, or a stall would be followed by a burst
PROBE_SPOILS = 2.0  # seconds: the one slot in five that an open breaker grants
MOST_IN_FLIGHT, KEPT_FOR_URGENT = 96, 32
CALLS_FINISH_WITHIN = 7.0
"""Seconds that a drain waits for calls under way. They are cut then, and count as perhaps arrived."""
ENOUGH = 6
"""Batches of one lane and number in one process: more only wait, and fill what a worker may have in hand."""
CLAIMED_AHEAD = 5
"""Slices in one claim, of a lane that can wait: each claim is a transaction. Whoever was claimed by a process that is
killed waits until that has run out; so of what is urgent it is one slice.
"""
FIRST_RATE = 10.0  # texts a second, until the first lease tells the account's
LOOK_ANYWAY = 0.25  # seconds: nobody in hand waits longer for a wake-up that did not come
PAUSE_AFTER_TROUBLE = 0.5
FRUITLESS = 60.0
"""Seconds after which a routine batch that could not move goes back to a wait queue with what is left of it."""


@dataclass(eq=False)
class Held:
    """A batch this process has in hand, from its arrival until it is settled."""

    message: Incoming
    batch: BatchReady
    account: Account
    text: Text
    issued_at: datetime
    arrived: float
    exhausted: bool = False
    claiming: bool = False
    unrecorded: int = 0
    settled: bool = False
    quiet_until: float = 0.0
    """Until when (Unix time) it is known who of a routine batch has quiet hours."""
    in_others: Mapping[str, Text] = field(default_factory=dict)
    """What is said to whoever reads another language, by its code; empty where the alert is in one alone."""
    rests_at_least: timedelta = timedelta(0)
    price: Price | None = None
    moved: float = field(default_factory=time.monotonic)
    figures: metrics.OfDelivery = field(init=False)

    def __post_init__(self) -> None:
        self.figures = metrics.of_delivery(str(self.batch.lane), str(self.batch.channel))

    @property
    def lane(self) -> Lane:
        return self.batch.lane

    @property
    def authority(self) -> str:
        return self.account.authority

    @property
    def dispatch(self) -> int:
        return self.batch.dispatch

    @property
    def is_spent(self) -> bool:
        """Nobody left to claim, and everybody claimed is recorded."""
        return self.exhausted and not self.claiming and self.unrecorded == 0


class Errand(NamedTuple):
    """One person to be told: claimed until then (Unix time), and not yet tried."""

    held: Held
    claimed: ledger.Claimed
    until: float


Telling = Callable[[Errand], Awaitable[Decision]]


class Book(Protocol):
    """Where a line reports to: what became of each errand, and which batch it has come to the end of."""

    def record(self, errand: Errand, decision: Decision) -> None: ...
    def give_back(self, errand: Errand) -> None: ...
    def spent(self, held: Held) -> None: ...


class Line:
    """Spends one number's slots on the most urgent people in hand.

    `name` is the account whose pace and breaker it keeps. `halted`: the breaker is open, as far as we know.
    """

    def __init__(self, name: str, database: Database, pacer: Pacer, tell: Telling, book: Book) -> None:
        self.name = name
        self.halted = False
        self.failures = MassFailure()
        self._database = database
        self._pacer = pacer
        self._tell = tell
        self._book = book
        self._held: dict[Lane, Turns[Held]] = {lane: Turns() for lane in Lane}
        self._ready: dict[Lane, deque[Errand]] = {lane: deque() for lane in Lane}
        self._from_the_top = [(lane, self._ready[lane], self._held[lane]) for lane in Lane]
        self._slots: deque[float] = deque()
        self._rate = FIRST_RATE
        self._slots_of_rate = slots_of(FIRST_RATE)
        self._asks_again_at = 0.0
        self._changed = asyncio.Event()
        self._calls: set[asyncio.Task[None]] = set()
        self._closed_until = 0.0
        self._halted_at = 0.0
        self._idle_until = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self._claiming = asyncio.Lock()
        self._is_stopping = False

    def start(self) -> None:
        for loop in (self._keep_claiming, self._keep_leasing, self._keep_sending):
            self._tasks.append(asyncio.create_task(loop(), name=f"{loop.__name__} {self.name}"))

    def check(self) -> None:
        """Raises whatever ended one of the loops: a line with a dead loop must not look alive."""
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()):
                raise error

    def take(self, held: Held) -> None:
        """A batch arrived."""
        self._held[held.lane].add(held)
        self._changed.set()

    def is_full(self, lane: Lane) -> bool:
        """Whether enough of a lane waits here: more would keep other comuni's batches out of our hand."""
        return sum(1 for _ in self._held[lane]) >= ENOUGH

    def has(self, batch: BatchReady) -> bool:
        """Whether another batch of the same dispatch waits here."""
        here = [held.batch for held in self._held[batch.lane]]
        return any(other.dispatch == batch.dispatch and other.batch != batch.batch for other in here)

    def in_hand(self) -> Iterator[Held]:
        """Every batch of which somebody is still to be told from here."""
        for lane in Lane:
            yield from self._held[lane]
            yield from {errand.held: None for errand in self._ready[lane] if errand.held.exhausted}

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
        self._changed.set()

    def close_for(self, pause: timedelta) -> None:
        """The provider slowed us down: nothing leaves for a while. What is ready waits in hand."""
        self._closed_until = time.monotonic() + pause.total_seconds()
        self._slots.clear()

    def halt(self) -> None:
        """The breaker is open: nobody is told but who probes, and nobody else is kept claimed."""
        self.halted, self._halted_at = True, time.monotonic()
        self._slots.clear()
        self._give_back(lambda _: True)

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
        self._give_back(lambda errand: errand.until < long_ago)

    def _give_back(self, which: Callable[[Errand], bool]) -> None:
        for ready in self._ready.values():
            for errand in [errand for errand in ready if which(errand)]:
                ready.remove(errand)
                self._book.give_back(errand)
        self._changed.set()

    async def stop(self) -> None:
        """Claim nobody more, call nobody more, and give back who is not yet tried."""
        self._is_stopping = True
        async with self._claiming:  # who is being claimed right now would stay claimed, and told by nobody
            for task in self._tasks:
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._give_back(lambda _: True)

    def hand_back(self) -> None:
        """RabbitMQ gives the batches in hand to others now, and not when we have ended."""
        for lane in Lane:
            for held in list(self._held[lane]):
                self._held[lane].remove(held)
                held.message.reject(requeue=True)

    async def finish_calls(self) -> None:
        """Wait for the calls under way, a while; then cut them."""
        if self._calls:
            await asyncio.wait(self._calls, timeout=CALLS_FINISH_WITHIN)
        for call in self._calls:
            call.cancel()
        if self._calls:
            await asyncio.wait(self._calls)

    # ── people ──────────────────────────────────────────────────────────────────────────────────────

    async def _keep_claiming(self) -> None:
        while True:
            held = self._to_claim_from()
            if held is None:
                await self._until_changed(LOOK_ANYWAY if self._top() is not None else None)
                continue
            held.claiming = True
            try:
                async with self._claiming:
                    await self._claim(held)
            except (SQLAlchemyError, OSError) as error:
                log.warning("claiming paused", account=self.name, error=type(error).__name__)
                await asyncio.sleep(PAUSE_AFTER_TROUBLE)
            finally:
                held.claiming = False
            if held.is_spent:
                self._book.spent(held)  # nobody to claim: somebody else is at it, or it was withdrawn

    def _to_claim_from(self) -> Held | None:
        """The batch to claim from next, of the most urgent lane in hand. With the breaker open only for a probe."""
        lane = self._top()
        if lane is None or len(self._ready[lane]) >= self._slice or (self.halted and not self._slots):
            return None
        return self._held[lane].next()

    async def _claim(self, held: Held) -> None:
        now, most, batch = time.time(), self._claimed_at_once(held.lane), held.batch
        halted_before = self._halted_at
        async with self._database.write() as session:
            if held.lane is Lane.ROUTINE and held.quiet_until <= now:
                await quiet.put_off(session, batch, now=now)
                held.quiet_until = (now // quiet.MINUTE + 1) * quiet.MINUTE
            chosen = await ledger.claim(
                session, batch.dispatch, batch.first, batch.last, most=most, now=now, until=now + CLAIM_LASTS
            )
            claimed = await self._whom_we_may_tell(session, held, chosen, now)
            if held.in_others and claimed:
                read = await ledger.languages(session, batch.dispatch, [one.seq for one in claimed])
                claimed = [one._replace(language=read.get(one.seq, "")) for one in claimed]
        dropped = held.exhausted
        in_vain = dropped or self._halted_at != halted_before  # the breaker opened while we claimed
        if len(chosen) < most and not dropped:
            held.exhausted = True
            self._held[held.lane].remove(held)
        held.unrecorded += len(claimed)
        lane, channel = str(held.lane), str(batch.channel)
        for person in claimed:
            errand = Errand(held, person, now + CLAIM_LASTS)
            if in_vain:
                self._book.give_back(errand)
                continue
            if person.again:
                metrics.REPEATED.labels(lane, channel).inc()
            self._ready[held.lane].append(errand)
        held.figures.in_flight.inc(len(claimed))
        self._changed.set()

    async def _whom_we_may_tell(
        self, session: AsyncSession, held: Held, claimed: list[ledger.Claimed], now: float
    ) -> list[ledger.Claimed]:
        """Those whom the provider does not want left alone just now, and whom its day still has room for."""
        here = [one for one in claimed if one.sealed is not None]  # who has left waits for nothing
        alone = [one for one in here if one.not_before > now]
        for one in alone:
            await self._put_off(session, held, {one.seq}, Reason.PAIR_THROTTLED, one.not_before)
        away = {one.seq for one in alone}
        if held.account.portfolio is not None:
            free = [one for one in here if one.not_before <= now]
            turned_away = await admit(session, held.account.portfolio, held.lane, free, now=now)
            await self._put_off(session, held, turned_away.seqs, Reason.DAILY_QUOTA, turned_away.until)
            away |= turned_away.seqs
        return [one for one in claimed if one.seq not in away]

    async def _put_off(
        self, session: AsyncSession, held: Held, seqs: AbstractSet[int], reason: Reason, until: float
    ) -> None:
        if seqs:
            await ledger.put_off(session, held.dispatch, sorted(seqs), reason, due_at=until)
            metrics.TURNED_AWAY.labels(str(held.lane), reason.value).inc(len(seqs))
            now = time.time()
            if is_held_up(reason, until - now, held.lane):
                due_at = now + PATIENCE[held.lane]
                notes = [fallbacks.Note(held.dispatch, seq, Because.HELD, reason, due_at) for seq in seqs]
                await fallbacks.note(session, notes)

    # ── slots ───────────────────────────────────────────────────────────────────────────────────────

    async def _keep_leasing(self) -> None:
        asked_since: float | None = None
        asked_for: Lane | None = None
        while True:
            lane = self._top()
            if lane is not asked_for:  # who comes with something more urgent has not waited yet
                asked_since, asked_for = None, lane
            if lane is None or len(self._slots) > self._slice // 2 or not self._is_open(lane):
                asked_since = None
                await self._until_changed(0.05 if lane is not None else None)
                continue
            if not lane.is_urgent and (early := self._asks_again_at - time.monotonic()) > 0:
                await self._until_changed(early)
                continue
            asked_since = asked_since or time.monotonic()
            halted_before = self._halted_at
            try:
                slots = self._leased_at_once(lane)
                answer = await self._pacer.lease(self.name, lane, slots=slots, want=self._wanted(lane))
            except (SQLAlchemyError, OSError) as error:
                log.warning("leasing paused", account=self.name, error=type(error).__name__)
                await asyncio.sleep(PAUSE_AFTER_TROUBLE)
                continue
            if isinstance(answer, Denied):
                if answer.halted and not self.halted:
                    self.halt()  # another process met it
                # Something more urgent that arrives meanwhile must not wait for the end of this wait.
                await self._until_changed(max(0.005, min(answer.wait, 1.0)))
                continue
            metrics.LEASE_WAIT.labels(str(lane)).observe(time.monotonic() - asked_since)
            asked_since = None
            if self._halted_at != halted_before:
                continue  # the breaker opened while we asked
            self._rate, self._slots_of_rate, self.halted = answer.rate, slots_of(answer.rate), answer.probes
            if time.monotonic() < self._closed_until:
                continue  # the provider slowed us down while we asked
            self._slots.extend(answer.slots)
            self._asks_again_at = asks_again_at(answer)
            self._changed.set()

    def _is_open(self, lane: Lane) -> bool:
        return time.monotonic() >= self._closed_until and self._has_room(lane)

    @property
    def _slice(self) -> int:
        return 1 if self.halted else self._slots_of_rate

    def _leased_at_once(self, lane: Lane) -> int:
        return 1 if self.halted else slots_of_lane(self._rate, lane)

    def _claimed_at_once(self, lane: Lane) -> int:
        """How many people of a batch one transaction claims."""
        return self._slice if lane.is_urgent or self.halted else min(MOST_SLOTS, self._slice * CLAIMED_AHEAD)

    def _wanted(self, lane: Lane) -> int:
        """How many people of this lane are in hand."""
        unclaimed = sum(held.batch.last - held.batch.first + 1 for held in self._held[lane])
        return unclaimed + len(self._ready[lane])

    def _top(self) -> Lane | None:
        """The most urgent lane with anybody in hand."""
        for lane, ready, held in self._from_the_top:
            if ready or held:
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
            slot = self._slots[0]  # left there until it is spent: an open breaker lets us claim only while there is one
            errand = self._errand_at(slot) or await self._errand_for(slot)
            if self._is_next(slot):
                self._next_slot()
            if errand is not None:
                self._call(errand)

    async def _errand_for(self, slot: float) -> Errand | None:
        """Whom this slot is spent on: the most urgent in hand, waiting for their claim while the slot is good."""
        while (left := self._is_good_for(slot)) > 0:
            if self._top() is None:
                return None
            await self._until_changed(left)
            if not self._is_next(slot):
                return None  # the account was closed or halted meanwhile, or a call that ended spent it
            if (errand := self._errand_at(slot)) is not None:
                return errand
        metrics.SLOTS_EXPIRED.inc()
        return None

    def _errand_at(self, slot: float, *, ends: int = 0) -> Errand | None:
        """The most urgent in hand, where they are claimed already, and the slot is good. `ends` calls are over."""
        lane = self._top()
        while lane is not None and self._ready[lane] and self._has_room(lane, ends) and self._is_good_for(slot) > 0:
            ready = self._ready[lane]
            errand = ready.popleft()
            if len(ready) == self._slice - 1 or not ready:
                self._changed.set()  # time to claim more
            if errand.until - time.time() >= CLAIM_NEEDED:
                return errand
            self._book.give_back(errand)
            lane = self._top()
        return None

    def _is_good_for(self, slot: float) -> float:
        """Seconds that a slot may still be spent."""
        return slot + (PROBE_SPOILS if self.halted else SLOT_SPOILS) - time.monotonic()

    def _has_room(self, lane: Lane, ends: int = 0) -> bool:
        """A provider that hangs holds up no more calls than this; some room is the urgent lanes' alone."""
        return len(self._calls) - ends < MOST_IN_FLIGHT + (KEPT_FOR_URGENT if lane.is_urgent else 0)

    def _call(self, errand: Errand) -> None:
        call = asyncio.create_task(self._tell_and_record(errand))
        self._calls.add(call)
        call.add_done_callback(self._called)

    def _called(self, call: asyncio.Task[None]) -> None:
        was_full = len(self._calls) >= MOST_IN_FLIGHT
        self._calls.discard(call)
        if was_full:
            self._changed.set()

    async def _tell_and_record(self, errand: Errand | None) -> None:
        """One call, and while a slot is due by then the next: a task for each would cost as much as to record it."""
        while errand is not None:
            decision = await self._tell(errand)
            errand.held.moved = time.monotonic()
            self._book.record(errand, decision)
            errand = self._due_now()

    def _due_now(self) -> Errand | None:
        if not self._slots or self._slots[0] > time.monotonic() or self._is_stopping:
            return None
        errand = self._errand_at(self._slots[0], ends=1)
        if errand is not None:
            self._next_slot()
        return errand

    def _is_next(self, slot: float) -> bool:
        return bool(self._slots) and self._slots[0] == slot

    def _next_slot(self) -> None:
        self._slots.popleft()
        if len(self._slots) == self._slice // 2:
            self._changed.set()  # time to lease more

    async def _until_changed(self, patience: float | None = None) -> None:
        self._changed.clear()
        with suppress(TimeoutError):
            # Not wait_for: it begins to wait a turn of the loop later, and another's clear() may come between.
            async with asyncio.timeout(patience):
                await self._changed.wait()
