"""How often one person is told the same, by a clock of the test's own."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from consumers.politeness import EVERY, MOST, NOBODY, WITHIN, Lately

NOON = 1_800_000_000.0
WINDOW = WITHIN.total_seconds()
DAY = 86_400.0


def answered(times: list[float], kind: str | None) -> list[float]:
    """When somebody who writes at these times is answered."""
    lately, heard = Lately(), []
    for now in times:
        lately = lately.wrote(now)
        if lately.may_hear(kind, now):
            lately = lately.heard(kind, now)
            heard.append(now)
    return heard


def test_where_to_write_instead_is_said_once_a_day() -> None:
    for kind in ("not_read", "ask_join", "attachment"):
        times = [NOON, NOON + 5, NOON + DAY - 1, NOON + DAY, NOON + DAY + 60]
        assert answered(times, kind) == [NOON, NOON + DAY]


def test_help_is_given_every_few_minutes_and_a_commands_answer_always() -> None:
    times = [NOON + 60 * minute for minute in range(8)]
    assert answered(times, "help") == [NOON, NOON + 180, NOON + 360]
    assert answered(times, None) == times


def test_one_kind_of_answer_silences_no_other() -> None:
    lately = Lately().wrote(NOON).heard("attachment", NOON).wrote(NOON + 1)
    assert not lately.may_hear("attachment", NOON + 1)
    assert lately.may_hear("not_read", NOON + 1) and lately.may_hear("help", NOON + 1)


def test_a_machine_that_answers_us_hears_nothing_more_until_it_is_still() -> None:
    loop = [NOON + second for second in range(3600)]
    assert answered(loop, None) == loop[:MOST]
    still = loop[-1] + WINDOW
    assert answered([*loop, still], None)[-1] == still
    assert answered([*loop, still - 1], None)[-1] != still - 1


def test_who_writes_now_and_then_is_always_answered() -> None:
    times = [NOON + (WINDOW / MOST + 1) * number for number in range(500)]
    assert answered(times, None) == times


def test_a_clock_that_was_set_back_silences_nobody() -> None:
    assert answered([NOON, NOON - 5 * DAY], "not_read") == [NOON, NOON - 5 * DAY]


def test_no_person_writes_two_hundred_texts_in_ten_minutes() -> None:
    lately = Lately()
    for number in range(NOBODY):
        lately = lately.wrote(NOON + number)
        assert not lately.is_nobody
    assert lately.wrote(NOON + NOBODY).is_nobody


@given(st.lists(st.floats(0.1, 2000), min_size=1, max_size=120), st.sampled_from([*EVERY, None]))
def test_in_no_window_is_anybody_answered_more_than_was_said(gaps: list[float], kind: str | None) -> None:
    times = [NOON + sum(gaps[: n + 1]) for n in range(len(gaps))]
    heard = answered(times, kind)
    assert heard[0] == times[0]
    for first, last in zip(heard, heard[MOST * 2 :], strict=False):
        assert last - first >= WINDOW
    if kind is not None:
        assert all(b - a >= EVERY[kind].total_seconds() for a, b in pairwise(heard))
