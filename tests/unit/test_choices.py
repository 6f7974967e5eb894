"""Quiet hours over midnight and through both nights in which the clocks change; what is chosen, stored and said."""

from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.domain.choices import (
    CHOSEN,
    EVERY_TOPIC,
    LANGUAGES,
    Choices,
    Topic,
    as_bits,
    hours,
    language_in_words,
    minute_of,
    of_bits,
    quiet_of,
    quiet_until,
)
from alerting.domain.notices import Quiet
from alerting.domain.rendering import ROME
from alerting.persistence.ledger import Quiet as Sleeping
from consumers.quiet import ends_of

NIGHT = Quiet(time(22), time(7))


def rome(*at: int, fold: int = 0) -> datetime:
    return datetime(*at, tzinfo=ROME, fold=fold).astimezone(UTC)  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    ("now", "over"),
    [
        (rome(2026, 11, 26, 21, 59), None),
        (rome(2026, 11, 26, 22, 0), rome(2026, 11, 27, 7)),
        (rome(2026, 11, 27, 6, 59), rome(2026, 11, 27, 7)),
        (rome(2026, 11, 27, 7, 0), None),
        # The night of 28 March 2027 is an hour shorter, that of 25 October 2026 an hour longer.
        (rome(2027, 3, 27, 23), datetime(2027, 3, 28, 5, tzinfo=UTC)),
        (rome(2026, 10, 24, 23), datetime(2026, 10, 25, 6, tzinfo=UTC)),
    ],
)
def test_the_night_ends_at_seven_by_the_clock_on_the_wall(now: datetime, over: datetime | None) -> None:
    assert quiet_until(NIGHT, now) == over


def test_quiet_hours_that_end_in_the_hour_that_comes_twice_end_once() -> None:
    quiet = Quiet(time(0), time(2, 30))
    first, second = rome(2026, 10, 25, 2, 15), rome(2026, 10, 25, 2, 15, fold=1)
    assert second - first == timedelta(hours=1)
    assert quiet_until(quiet, first) == rome(2026, 10, 25, 2, 30)
    assert quiet_until(quiet, second) is None, "or somebody would be put off to a moment that is past, again and again"


def test_quiet_hours_that_end_in_the_hour_that_never_comes_end_after_it() -> None:
    over = quiet_until(Quiet(time(0), time(2, 30)), rome(2027, 3, 28, 1))
    assert over is not None
    assert rome(2027, 3, 28, 1) < over <= datetime(2027, 3, 28, 1, 30, tzinfo=UTC)


@given(
    st.integers(1_767_225_600, 1_830_297_600).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
    st.integers(0, 1439),
    st.integers(0, 1439),
)
def test_whoever_is_put_off_is_put_off_to_the_future_and_by_little_more_than_a_day(
    now: datetime, begins: int, ends: int
) -> None:
    quiet = quiet_of(begins, ends)
    if quiet is None:
        assert begins == ends
        return
    assert (minute_of(quiet.begins), minute_of(quiet.ends)) == (begins, ends)
    over = quiet_until(quiet, now)
    if over is not None:
        assert now < over <= now + timedelta(hours=25)


@given(
    st.lists(st.tuples(st.integers(0, 1439), st.integers(0, 1439)), max_size=30),
    st.integers(1_760_000_000, 1_860_000_000),
)
def test_of_many_each_waits_for_the_end_of_their_own_hours(hours_of: list[tuple[int, int]], now: int) -> None:
    ends = ends_of([Sleeping(seq, *both) for seq, both in enumerate(hours_of, 1)], float(now))
    found = {seq: end for end, seqs in ends.items() for seq in seqs}
    for seq, both in enumerate(hours_of, 1):
        quiet = quiet_of(*both)
        over = quiet_until(quiet, datetime.fromtimestamp(now, UTC)) if quiet else None
        assert found.get(seq) == (over.timestamp() if over else None)


@given(st.frozensets(st.sampled_from(Topic)))
def test_topics_are_stored_and_read_back_with_the_emergencies_always_among_them(topics: frozenset[Topic]) -> None:
    assert of_bits(as_bits(topics)) == topics | {Topic.EMERGENZE}


def test_the_bits_of_the_topics_stay_what_is_stored() -> None:
    assert [topic.bit for topic in (Topic.EMERGENZE, Topic.RACCOLTA, Topic.EVENTI, Topic.NOTIZIE)] == [1, 2, 4, 8]
    assert EVERY_TOPIC == 15
    assert of_bits(0) == {Topic.EMERGENZE}
    with pytest.raises(ValueError, match="leaves"):
        Choices(frozenset(CHOSEN))


@pytest.mark.parametrize(
    ("quiet", "words"),
    [
        (NIGHT, "dalle 22 alle 7"),
        (Quiet(time(22, 30), time(7, 5)), "dalle 22:30 alle 7:05"),
        (Quiet(time(23), time(1)), "dalle 23 all'1"),
        (Quiet(time(0), time(7)), "dalle 0 alle 7"),
    ],
)
def test_hours_are_said_as_people_say_them(quiet: Quiet, words: str) -> None:
    assert hours(quiet) == words


def test_every_language_an_alert_may_have_has_an_italian_name() -> None:
    assert len({language_in_words(code) for code in LANGUAGES}) == len(LANGUAGES)
    assert language_in_words("en") == "inglese (English)"
