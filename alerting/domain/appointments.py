"""When an office receives people: its hours on the wall clock of Italy, cut into slots. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import cache

from alerting.domain.rendering import MONTHS, ROME

OFFERED = 3
"""Slots to choose from: more are not read on a telephone."""

DAYS = ("lunedì", "martedì", "mercoledì", "giovedì", "venerdì", "sabato", "domenica")

NATIONAL = frozenset({(1, 1), (1, 6), (4, 25), (5, 1), (6, 2), (8, 15), (10, 4), (11, 1), (12, 8), (12, 25), (12, 26)})
"""Month and day. 4 October, San Francesco, is a public holiday from 2026 on (law 151 of 8 October 2025)."""

NIGHT_BEGINS, NIGHT_ENDS = time(21), time(8)
"""Nobody is reminded of anything meanwhile."""


@dataclass(frozen=True, slots=True)
class Opening:
    """On which day of the week (0 is Monday), from when until when."""

    weekday: int
    begins: time
    ends: time


@dataclass(frozen=True)
class Office:
    """An office that receives by appointment: `capacity` people at once, for `minutes` each."""

    code: str
    name: str
    words: tuple[str, ...]
    hours: tuple[Opening, ...]
    minutes: int
    capacity: int = 1
    where: str = ""
    holidays: frozenset[tuple[int, int]] = frozenset()
    """Its own, beside the national ones: the patron saint's. Month and day."""
    closed: tuple[tuple[date, date], ...] = ()
    """From which day to which it is shut, both included."""
    notice: timedelta = timedelta(hours=2)
    """How long before a slot it can be booked last."""
    horizon: timedelta = field(default=timedelta(days=30))
    """How far ahead it can be booked."""

    def is_open_on(self, day: date) -> bool:
        """Whether it works on that day of the year, whatever its hours on that day of the week."""
        if (day.month, day.day) in NATIONAL | self.holidays or (day - easter(day.year)).days in (0, 1):
            return False
        return not any(first <= day <= last for first, last in self.closed)


def slots(office: Office, now: datetime) -> Iterator[datetime]:
    """When people can be received from now on, in order and in UTC; never what has begun.

    Hours are those of the wall clock. What a spring night leaves out is no time; of the hour that an autumn night
    has twice only the first is one.
    """
    first, last = now + office.notice, now + office.horizon
    day, until = first.astimezone(ROME).date(), last.astimezone(ROME).date()
    length = timedelta(minutes=office.minutes)
    while day <= until:
        found = set()
        for opening in office.hours if office.is_open_on(day) else ():
            if opening.weekday != day.weekday():
                continue
            begins, ends = datetime.combine(day, opening.begins), datetime.combine(day, opening.ends)
            while begins + length <= ends:
                at = begins.replace(tzinfo=ROME).astimezone(UTC)
                if at.astimezone(ROME).replace(tzinfo=None) == begins and first <= at <= last:
                    found.add(at)
                begins += length
        yield from sorted(found)
        day += timedelta(days=1)


def free(
    office: Office,
    taken: Mapping[datetime, int],
    now: datetime,
    most: int = OFFERED,
    after: datetime | None = None,
) -> tuple[datetime, ...]:
    """The next slots somebody can still have, `after` those they were offered before; `taken` says how many people
    each has already."""
    found = []
    for at in slots(office, now):
        if taken.get(at, 0) < office.capacity and (after is None or at > after):
            found.append(at)
            if len(found) == most:
                break
    return tuple(found)


def is_a_slot(office: Office, at: datetime, now: datetime) -> bool:
    """Whether the office receives at that very moment, and it can still be booked."""
    return at.astimezone(UTC) in set(slots(office, now))


def remind_at(starts: datetime, booked: datetime, at: time = time(10)) -> datetime | None:
    """When to remind somebody, on the day before and by day; None where they booked later than that."""
    by_day = at if NIGHT_ENDS <= at < NIGHT_BEGINS else NIGHT_ENDS
    day = starts.astimezone(ROME).date() - timedelta(days=1)
    moment = datetime.combine(day, by_day, ROME).astimezone(UTC)
    return moment if moment > booked else None


def in_words(at: datetime) -> str:
    """`martedì 1 dicembre alle 9:30`, in Italy."""
    here = at.astimezone(ROME)
    return f"{DAYS[here.weekday()]} {here.day} {MONTHS[here.month - 1]} alle {here.hour}:{here.minute:02d}"


@cache
def easter(year: int) -> date:
    """The Gregorian Easter Sunday, by the anonymous algorithm of 1876."""
    a, b, c = year % 19, year // 100, year % 100
    d, e = divmod(b, 4)
    g = (b - (b + 8) // 25 + 1) // 3
    h = (19 * a + b - d - g + 15) % 30
    i, k = divmod(c, 4)
    x = (32 + 2 * e + 2 * i - h - k) % 7
    m = (a + 11 * h + 22 * x) // 451
    month, day = divmod(h + x - 7 * m + 114, 31)
    return date(year, month, day + 1)
