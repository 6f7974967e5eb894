"""The provider's capacity, leased in small slices, urgent lanes first, shared by all processes; and its breaker.

One row per account holds when its next free slot is. A lease moves that on by a slice in a single statement, so
nobody checks first and acts later. The database's clock is the only one; a slot is turned into this process's
monotonic clock late by one round trip at most, and never early.

The breaker stands in the same row: while it is open a lease is one slot every few seconds, for one person's text,
whoever asks. So all processes stop together, and one call tells them all that they may go on.
"""

import time
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import cache

from sqlalchemy import TextClause, text

from alerting import metrics
from alerting.domain.lanes import Lane
from alerting.persistence import Database

SLICE, SHORTER_SLICE = 0.04, 0.025
"""Seconds of the account's rate that one lease takes. The shorter one is for lanes that others may come before: what is
urgent waits for what is leased already."""
HORIZON = 0.005
"""Seconds before a slot is due that such a lane may lease it."""
MOST_SLOTS = 600
LOOKS_BACK = 0.025  # seconds of capacity that a late lease still gets: slots so old are spent at once, or spoil
HOLD = 0.5  # seconds a lane with unmet demand keeps the lower ones out after its lease
PROBE_EVERY = 5.0  # seconds between two texts to an account whose breaker is open
LOWERED_TO = 0.8
RECOVERS_BY, RECOVERS_EVERY = 1.05, 30.0  # as much, each so many seconds

HOLDS: dict[Lane, str] = {lane: f"wanted_by_{lane}" for lane in Lane if lane is not Lane.ROUTINE}
"""The column by which a lane keeps those below it out. Nothing is below routine."""


@dataclass(frozen=True, slots=True)
class Lease:
    """Slots of this process's monotonic clock, in order: at each, one person may be told. `rate` is a second's.

    `probes`: the breaker is open, and this one slot is to find out whether the provider serves us again.
    """

    slots: tuple[float, ...]
    rate: float
    probes: bool = False


@dataclass(frozen=True, slots=True)
class Denied:
    """Others go first, or the breaker is open (`halted`). `wait` says when to ask again, in seconds."""

    wait: float
    halted: bool = False


LEASE = """
UPDATE provider_rates
   SET tat = {start} + :n / rate{hold},
       rate = CASE WHEN {recovers} THEN {least}(rate * {by}, full_rate) ELSE rate END,
       lowered_at = CASE WHEN {recovers} THEN c.now ELSE lowered_at END,
       probe_at = CASE WHEN halted_at > 0 THEN c.now + {probe_every} ELSE 0 END
  FROM (SELECT {now} AS now) AS c
 WHERE account = :account AND (halted_at = 0 OR probe_at <= c.now) AND {admitted}
RETURNING tat - :n / rate AS start, rate, halted_at, {returned} AS now
"""

WAIT = """
SELECT {greatest}(tat - c.now - {horizon}, 0.005, probe_at - c.now{held}) AS wait, halted_at > 0 AS halted
  FROM provider_rates, (SELECT {now} AS now) AS c
 WHERE account = :account
"""

THROTTLED = """
UPDATE provider_rates
   SET rate = CASE WHEN c.now - lowered_at > 1.0 THEN rate * {to} ELSE rate END,
       lowered_at = c.now,
       tat = {greatest}(tat, c.now + :wait)
  FROM (SELECT {now} AS now) AS c
 WHERE account = :account
"""


HALTED = """
UPDATE provider_rates
   SET halted_at = CASE WHEN halted_at > 0 THEN halted_at ELSE c.now END,
       halted_because = :because, probe_at = {greatest}(probe_at, c.now + {probe_every})
  FROM (SELECT {now} AS now) AS c
 WHERE account = :account
"""

OPENED = """
UPDATE provider_rates SET halted_at = 0, halted_because = NULL, probe_at = 0 WHERE account = :account
"""


@dataclass(frozen=True, slots=True)
class Words:
    """What the two databases call the same things. SQLite returns columns of the changed table only."""

    now: str
    returned: str
    greatest: str
    least: str


PRESENT = "(julianday('now') - 2440587.5) * 86400.0"  # the same throughout one statement
POSTGRESQL = Words("CAST(extract(epoch FROM clock_timestamp()) AS float8)", "c.now", "greatest", "least")
SQLITE = Words(PRESENT, PRESENT, "max", "min")


@cache
def _lease_statement(lane: Lane, words: Words) -> tuple[TextClause, TextClause]:
    """How one lane leases, and how it learns when to ask again."""
    start = f"{words.greatest}(tat, c.now - {LOOKS_BACK})"
    hold = ""
    if lane in HOLDS:
        kept = HOLDS[lane]
        hold = f",\n       {kept} = CASE WHEN :want > :n THEN {start} + :n / rate + :hold ELSE {kept} END"
    admitted = [f"{HOLDS[above]} <= c.now" for above in lane.above]
    if not lane.is_urgent:
        admitted.append(f"tat - c.now < {HORIZON}")
    lease = LEASE.format(
        start=start,
        hold=hold,
        recovers=f"(rate < full_rate AND c.now - lowered_at > {RECOVERS_EVERY})",
        by=RECOVERS_BY,
        probe_every=PROBE_EVERY,
        admitted=" AND ".join(admitted) or "1 = 1",
        **asdict(words),
    )
    held = "".join(f", {HOLDS[above]} - c.now" for above in lane.above)
    return text(lease), text(WAIT.format(held=held, horizon=HORIZON, **asdict(words)))


class Pacer:
    """Leases for any account. Safe for many askers in many processes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._words = SQLITE if database.is_sqlite else POSTGRESQL

    async def lease(self, account: str, lane: Lane, *, slots: int, want: int) -> Lease | Denied:
        """`slots` slots for a lane that has `want` people waiting. Raises KeyError for an unknown account."""
        lease, ask = _lease_statement(lane, self._words)
        parameters: dict[str, object] = {"account": account, "n": float(slots)}
        if lane in HOLDS:
            parameters |= {"want": float(want), "hold": HOLD}
        # A lease lost in a power cut costs a slice of capacity, not a person.
        async with self._database.hasty() as connection:
            row = (await connection.execute(lease, parameters)).one_or_none()
            if row is None:
                denied = (await connection.execute(ask, {"account": account})).one_or_none()
        here = time.monotonic()
        metrics.LEASES.labels(str(lane), "denied" if row is None else "granted").inc()
        if row is not None:
            first = here + (row.start - row.now)
            probes = row.halted_at > 0  # not in SQL: SQLite 3.40 compares what it returns wrongly
            given = 1 if probes else slots
            return Lease(tuple(first + number / row.rate for number in range(given)), row.rate, probes)
        if denied is None:
            raise KeyError(f"account {account} has no rate: is its authority enrolled?")
        return Denied(float(denied.wait), bool(denied.halted))

    async def slow_down(self, account: str, wait: timedelta) -> None:
        """The provider said: too fast. Everybody waits, and goes on at four fifths of the rate, which recovers."""
        await self._change(THROTTLED, account, wait=wait.total_seconds())

    async def halt(self, account: str, because: str) -> None:
        """Open the breaker, for every process: nobody is told but who probes."""
        await self._change(HALTED, account, because=because[:300])

    async def open_again(self, account: str) -> None:
        """Close the breaker: the provider took a text."""
        await self._change(OPENED, account)

    async def _change(self, statement: str, account: str, **parameters: object) -> None:
        filled = text(statement.format(to=LOWERED_TO, probe_every=PROBE_EVERY, **asdict(self._words)))
        async with self._database.write() as session:
            await session.execute(filled, {"account": account, **parameters})


def slots_of(rate: float, seconds: float = SLICE) -> int:
    """How many slots a lease takes: so much of the rate, 600 at most."""
    return max(1, min(MOST_SLOTS, round(rate * seconds)))


def slots_of_lane(rate: float, lane: Lane) -> int:
    """The same for a lane: fewer where others may come before it."""
    return slots_of(rate, SLICE if lane.is_urgent else SHORTER_SLICE)


def asks_again_at(lease: Lease) -> float:
    """When a lane that others may come before need ask again at the earliest: sooner it would be denied."""
    return lease.slots[-1] + 1 / lease.rate - HORIZON
