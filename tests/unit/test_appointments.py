"""When an office receives people: by the wall clock of Italy, on the two nights of the year that change it too."""

from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.domain.appointments import (
    NIGHT_BEGINS,
    NIGHT_ENDS,
    Office,
    Opening,
    easter,
    free,
    in_words,
    is_a_slot,
    remind_at,
    slots,
)
from alerting.domain.rendering import ROME

ANAGRAFE = Office(
    code="anagrafe",
    name="Anagrafe",
    words=(),
    hours=(*(Opening(day, time(9), time(12)) for day in (0, 1, 4)), Opening(3, time(15), time(17))),
    minutes=20,
    holidays=frozenset({(7, 24)}),
    closed=((date(2026, 12, 28), date(2027, 1, 4)),),
)
EVERY_NIGHT = Office("notte", "Guardia", (), tuple(Opening(day, time(0), time(3)) for day in range(7)), 30)
MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2029, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(MOMENTS)
def test_no_slot_is_past_or_outside_the_hours_or_on_a_holiday(now: datetime) -> None:
    found = list(slots(ANAGRAFE, now))
    assert found == sorted(set(found))
    for at in found:
        here = at.astimezone(ROME)
        end = (here.replace(tzinfo=None) + timedelta(minutes=20)).time()
        assert now + ANAGRAFE.notice <= at <= now + ANAGRAFE.horizon
        assert any(o.weekday == here.weekday() and o.begins <= here.time() and end <= o.ends for o in ANAGRAFE.hours)
        assert ANAGRAFE.is_open_on(here.date())


@given(MOMENTS)
def test_hours_stay_those_of_the_door_when_the_clocks_change(now: datetime) -> None:
    for at in slots(EVERY_NIGHT, now):
        here = at.astimezone(ROME)
        assert here.time() < time(3)
        assert here.minute in (0, 30)
        assert here.fold == 0  # of the hour an autumn night has twice only the first


def test_the_hour_that_spring_leaves_out_is_no_time_and_the_one_autumn_repeats_is_one() -> None:
    spring = list(slots(EVERY_NIGHT, datetime(2028, 3, 25, 12, tzinfo=UTC)))[:6]
    assert [f"{at.astimezone(ROME):%d %H:%M}" for at in spring] == [
        *("26 00:00", "26 00:30", "26 01:00", "26 01:30", "27 00:00", "27 00:30")
    ]
    autumn = list(slots(EVERY_NIGHT, datetime(2026, 10, 24, 12, tzinfo=UTC)))[:6]
    assert [f"{at.astimezone(ROME):%H:%M}" for at in autumn] == [
        *("00:00", "00:30", "01:00", "01:30", "02:00", "02:30")
    ]
    assert [one - autumn[0] for one in autumn] == [timedelta(minutes=30 * one) for one in range(6)]


@pytest.mark.parametrize(
    ("day", "is_open"),
    [
        (date(2026, 12, 7), True),
        (date(2026, 12, 8), False),  # l'Immacolata
        (date(2027, 3, 28), False),
        (date(2027, 3, 29), False),  # lunedì dell'Angelo
        (date(2026, 7, 24), False),  # the patron saint's
        (date(2026, 12, 28), False),
        (date(2027, 1, 4), False),
        (date(2027, 1, 5), True),
    ],
)
def test_holidays_are_those_of_italy_of_the_comune_and_of_the_office(day: date, is_open: bool) -> None:
    assert ANAGRAFE.is_open_on(day) is is_open


def test_easter_is_where_the_calendar_has_it() -> None:
    known = {2024: (3, 31), 2025: (4, 20), 2026: (4, 5), 2027: (3, 28), 2028: (4, 16), 2038: (4, 25)}
    assert {year: (easter(year).month, easter(year).day) for year in known} == known


@given(MOMENTS, st.integers(0, 12), st.integers(1, 3))
def test_what_is_offered_has_a_seat_left_and_is_the_next(now: datetime, gone: int, capacity: int) -> None:
    office = Office("a", "A", (), ANAGRAFE.hours, 20, capacity)
    every = list(slots(office, now))
    taken = dict.fromkeys(every[:gone], capacity)
    offered = free(office, taken, now)
    assert offered == tuple(every[gone : gone + 3])
    assert free(office, dict.fromkeys(every[:gone], capacity - 1), now) == tuple(every[:3])
    assert all(is_a_slot(office, at, now) for at in offered)
    if offered:
        assert all(at > offered[-1] for at in free(office, taken, now, after=offered[-1]))


@given(MOMENTS, st.timedeltas(timedelta(0), timedelta(days=30)), st.times())
def test_nobody_is_reminded_by_night_nor_after_they_booked_nor_on_the_same_day(
    booked: datetime, ahead: timedelta, at: time
) -> None:
    starts = booked + ahead
    due = remind_at(starts, booked, at)
    if due is not None:
        here = due.astimezone(ROME)
        assert NIGHT_ENDS <= here.time() < NIGHT_BEGINS
        assert booked < due < starts
        assert here.date() == starts.astimezone(ROME).date() - timedelta(days=1)


def test_a_time_is_said_as_people_say_it() -> None:
    assert in_words(datetime(2026, 12, 1, 8, 30, tzinfo=UTC)) == "martedì 1 dicembre alle 9:30"
    assert in_words(datetime(2026, 7, 1, 7, 0, tzinfo=UTC)) == "mercoledì 1 luglio alle 9:00"
