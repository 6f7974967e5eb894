"""What changes for people when a forecast changes, and what does not."""

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerting.domain.kinds import Colour, Risk
from alerting.domain.outlook import (
    GRAVITY,
    SLACK,
    Outlook,
    Span,
    Trend,
    change,
    excess,
    from_parameter,
    graver,
    gravest,
    outlook,
    remaining,
    to_parameter,
)
from alerting.domain.rendering import ROME

GIALLA, ARANCIONE, ROSSA = Colour.GIALLA, Colour.ARANCIONE, Colour.ROSSA
IDRAULICO, IDROGEOLOGICO, TEMPORALI = Risk.IDRAULICO, Risk.IDROGEOLOGICO, Risk.TEMPORALI

THURSDAY = date(2023, 11, 2)


def at(clock: str, day: int = 0) -> datetime:
    hours, minutes = (int(part) for part in clock.split(":"))
    midnight = datetime.combine(THURSDAY, datetime.min.time(), ROME) + timedelta(days=day)
    return midnight.replace(hour=hours, minute=minutes)


def span(risk: Risk, colour: Colour, starts: str, ends: str, day: int = 0) -> Span:
    until = at("00:00", day + 1) if ends == "24:00" else at(ends, day)
    return Span(risk, colour, at(starts, day), until)


def whole(risk: Risk, colour: Colour, day: int) -> Span:
    return span(risk, colour, "00:00", "24:00", day)


QUARTERS = st.integers(0, 4 * 72).map(lambda n: at("00:00") + timedelta(minutes=15 * n))
SPANS = st.builds(
    lambda risk, colour, starts, length: Span(risk, colour, starts, starts + timedelta(minutes=15 * length)),
    st.sampled_from([IDRAULICO, IDROGEOLOGICO, TEMPORALI]),
    st.sampled_from(list(Colour)),
    QUARTERS,
    st.integers(1, 130),
)
OUTLOOKS = st.lists(SPANS, max_size=6).map(outlook)


def colour_at(held: Outlook, risk: Risk, moment: datetime) -> int:
    return max((GRAVITY[s.colour] for s in held if s.risk is risk and s.starts <= moment < s.ends), default=0)


# ── one outlook ─────────────────────────────────────────────────────────────────────────────────────


def test_the_graver_wins_where_two_spans_of_a_risk_overlap() -> None:
    held = outlook([span(IDRAULICO, GIALLA, "08:00", "20:00"), span(IDRAULICO, ROSSA, "12:00", "14:00")])
    assert held == (
        span(IDRAULICO, GIALLA, "08:00", "12:00"),
        span(IDRAULICO, ROSSA, "12:00", "14:00"),
        span(IDRAULICO, GIALLA, "14:00", "20:00"),
    )


def test_two_days_of_one_colour_are_one_span() -> None:
    held = outlook([whole(IDRAULICO, ROSSA, 1), whole(IDRAULICO, ROSSA, 0)])
    assert held == (Span(IDRAULICO, ROSSA, at("00:00"), at("00:00", 2)),)


def test_the_night_in_which_clocks_go_back_has_twenty_five_hours() -> None:
    """29 October 2023: 02:30 comes twice, and the graver colour of the second time is not lost in the first."""
    first, second = (datetime(2023, 10, 29, 2, 30, tzinfo=ROME, fold=fold) for fold in (0, 1))
    assert Span(IDRAULICO, ROSSA, first, second).ends - Span(IDRAULICO, ROSSA, first, second).starts == timedelta(
        hours=1
    )


def test_a_span_without_a_zone_or_that_ends_before_it_starts_is_no_span() -> None:
    with pytest.raises(ValueError, match="lacks its time zone"):
        Span(IDRAULICO, GIALLA, datetime(2023, 11, 2), datetime(2023, 11, 3))  # noqa: DTZ001
    with pytest.raises(ValueError, match="cannot end"):
        Span(IDRAULICO, GIALLA, at("12:00"), at("12:00"))


def test_what_is_past_is_not_remaining_and_what_runs_begins_now() -> None:
    held = outlook([span(IDRAULICO, GIALLA, "08:00", "10:00"), span(TEMPORALI, GIALLA, "09:00", "18:00")])
    assert remaining(held, at("10:00")) == (span(TEMPORALI, GIALLA, "10:00", "18:00"),)


def test_nothing_is_of_no_colour() -> None:
    assert gravest(()) is None
    assert gravest((whole(IDRAULICO, GIALLA, 0), whole(TEMPORALI, ARANCIONE, 1))) is ARANCIONE


@given(st.lists(SPANS, max_size=6), QUARTERS)
def test_an_outlook_holds_at_each_moment_the_gravest_of_its_spans(spans: list[Span], moment: datetime) -> None:
    held = outlook(spans)
    for risk in (IDRAULICO, IDROGEOLOGICO, TEMPORALI):
        assert colour_at(held, risk, moment) == colour_at(tuple(spans), risk, moment)
        own = [s for s in held if s.risk is risk]
        assert all(a.ends < b.starts or (a.ends == b.starts and a.colour != b.colour) for a, b in zip(own, own[1:]))  # noqa: B905, RUF007


@given(OUTLOOKS, OUTLOOKS, OUTLOOKS)
def test_several_sources_say_the_same_in_any_order(a: Outlook, b: Outlook, c: Outlook) -> None:
    assert graver(a) == a == graver(a, a)
    assert graver(a, b) == graver(b, a)
    assert graver(graver(a, b), c) == graver(a, graver(b, c)) == graver(a, b, c)
    assert graver(a, ()) == a


# ── what changed ────────────────────────────────────────────────────────────────────────────────────

TODAY = whole(IDROGEOLOGICO, GIALLA, 0)
TOMORROW = whole(IDROGEOLOGICO, GIALLA, 1)
NOON = at("12:00")


@pytest.mark.parametrize(
    ("told", "holds", "trend"),
    [
        ((), (), None),
        ((), (TODAY,), Trend.NEW),
        ((TODAY,), (TODAY,), None),
        ((TODAY,), (TODAY, TOMORROW), Trend.EXTENDED),
        ((TODAY,), (TODAY, whole(TEMPORALI, GIALLA, 0)), Trend.EXTENDED),
        ((TODAY,), (TODAY, whole(TEMPORALI, ARANCIONE, 1)), Trend.UPGRADE),
        ((TODAY,), (whole(IDROGEOLOGICO, ARANCIONE, 0),), Trend.UPGRADE),
        ((TODAY, TOMORROW), (TODAY,), Trend.DOWNGRADE),
        ((whole(IDROGEOLOGICO, ROSSA, 0),), (TODAY,), Trend.DOWNGRADE),
        ((TODAY, whole(TEMPORALI, GIALLA, 0)), (TODAY,), Trend.DOWNGRADE),
        ((TODAY,), (), Trend.ENDED),
        # Up and down at once: up wins.
        ((whole(TEMPORALI, ARANCIONE, 0),), (TODAY,), Trend.EXTENDED),
        ((whole(TEMPORALI, GIALLA, 0),), (whole(IDROGEOLOGICO, ROSSA, 1),), Trend.UPGRADE),
        # It rises for one risk, not above what another was told.
        ((whole(TEMPORALI, ARANCIONE, 0), TODAY), (whole(IDROGEOLOGICO, ARANCIONE, 0),), Trend.EXTENDED),
        # What is over is not told any more.
        ((span(TEMPORALI, ROSSA, "08:00", "11:00"),), (TODAY,), Trend.NEW),
        ((span(TEMPORALI, ROSSA, "08:00", "11:00"),), (), None),
        ((span(TEMPORALI, ROSSA, "08:00", "11:00"), TODAY), (whole(TEMPORALI, ARANCIONE, 1), TODAY), Trend.UPGRADE),
    ],
)
def test_each_change_has_its_name(told: Outlook, holds: Outlook, trend: Trend | None) -> None:
    assert change(outlook(told), outlook(holds), NOON) is trend


def test_today_said_in_the_afternoon_and_again_in_the_evening_is_said_once() -> None:
    told = (span(TEMPORALI, GIALLA, "16:14", "24:00"),)
    again = (span(TEMPORALI, GIALLA, "19:13", "24:00"),)
    assert change(told, again, at("19:13")) is None
    assert change(told, again, at("19:10")) is None, "their clock may be ahead of ours"


def test_a_day_that_ends_a_second_before_midnight_is_the_same_day() -> None:
    short = (Span(TEMPORALI, GIALLA, at("16:14"), at("00:00", 1) - timedelta(seconds=1)),)
    whole_day = (span(TEMPORALI, GIALLA, "16:14", "24:00"),)
    assert change(short, whole_day, at("17:00")) is None
    assert change(whole_day, short, at("17:00")) is None


def test_a_red_alert_for_the_last_half_hour_of_a_yellow_day_is_said() -> None:
    told = (TODAY,)
    red = outlook([TODAY, span(IDROGEOLOGICO, ROSSA, "23:30", "24:00")])
    assert change(told, red, at("23:20")) is Trend.UPGRADE
    assert change(red, told, at("23:20")) is Trend.DOWNGRADE


def test_an_alert_taken_back_in_its_last_minutes_is_ended() -> None:
    assert change((TODAY,), (), at("23:50")) is Trend.ENDED


def test_a_warning_that_is_over_does_not_swallow_a_short_new_one_that_continues_it() -> None:
    told = (span(TEMPORALI, GIALLA, "12:00", "18:00"),)
    assert change(told, (span(TEMPORALI, GIALLA, "18:00", "18:50"),), at("18:10")) is Trend.NEW


def test_an_edge_that_moves_by_an_hour_is_a_change() -> None:
    told, holds = (span(TEMPORALI, GIALLA, "12:00", "18:00"),), (span(TEMPORALI, GIALLA, "12:00", "19:00"),)
    assert change(told, holds, NOON) is Trend.EXTENDED
    assert change(holds, told, NOON) is Trend.DOWNGRADE


def test_small_steps_do_not_add_up_unheard() -> None:
    told = (span(TEMPORALI, GIALLA, "12:00", "18:00"),)
    assert change(told, (span(TEMPORALI, GIALLA, "12:00", "18:50"),), NOON) is None
    assert change(told, (span(TEMPORALI, GIALLA, "12:00", "19:40"),), NOON) is Trend.EXTENDED


@given(OUTLOOKS, QUARTERS)
def test_what_is_known_is_never_said_again(held: Outlook, now: datetime) -> None:
    assert change(held, held, now) is None
    assert change(held, remaining(held, now), now) is None
    assert change(remaining(held, now), held, now) is None


@given(OUTLOOKS, QUARTERS)
def test_it_ends_for_those_who_were_told_of_something_that_is_not_over(told: Outlook, now: datetime) -> None:
    assert (change(told, (), now) is Trend.ENDED) == bool(remaining(told, now))
    assert (change((), told, now) is Trend.NEW) == bool(remaining(told, now))


@settings(max_examples=40)
@given(OUTLOOKS, OUTLOOKS, QUARTERS)
def test_no_hour_of_a_graver_colour_goes_unsaid(told: Outlook, holds: Outlook, now: datetime) -> None:
    """Brute force, by the quarter of an hour: an hour on end above what was told is always up."""
    moments = [now + timedelta(minutes=15 * n) for n in range(72 * 4 * 2)]
    for risk in (IDRAULICO, IDROGEOLOGICO, TEMPORALI):
        for one, other, trends in (
            (holds, told, (Trend.NEW, Trend.UPGRADE, Trend.EXTENDED)),
            (told, holds, tuple(Trend)),
        ):
            above = [max(0, colour_at(one, risk, m) - colour_at(other, risk, m)) for m in moments]
            if any(min(above[n : n + 4]) for n in range(len(above) - 4)) and _one_colour(one, risk, above, moments):
                assert change(told, holds, now) in trends


def _one_colour(held: Outlook, risk: Risk, above: list[int], moments: list[datetime]) -> bool:
    """Whether some full hour above is of one colour: an hour made of two moved edges may stay unsaid."""
    return any(
        min(above[n : n + 4]) and len({colour_at(held, risk, m) for m in moments[n : n + 4]}) == 1
        for n in range(len(above) - 4)
    )


@given(OUTLOOKS, OUTLOOKS, QUARTERS)
def test_an_upgrade_is_above_all_that_was_told_and_only_then(told: Outlook, holds: Outlook, now: datetime) -> None:
    rank = {None: 0} | GRAVITY
    if change(told, holds, now) is Trend.UPGRADE:
        assert rank[gravest(remaining(holds, now))] > rank[gravest(remaining(told, now))] > 0
    for piece in excess(holds, told, now):
        assert piece.starts >= now
        assert colour_at(holds, piece.risk, piece.starts) > colour_at(told, piece.risk, piece.starts)


# ── as a parameter of an alert ──────────────────────────────────────────────────────────────────────


def test_a_span_reads_as_on_the_clocks_of_rome() -> None:
    held = Span(IDRAULICO, GIALLA, datetime(2023, 11, 2, 15, 14, 59, tzinfo=UTC), datetime(2023, 11, 2, 23, tzinfo=UTC))
    assert to_parameter(held) == "idraulico gialla 2023-11-02T16:14:59+01:00/2023-11-03T00:00:00+01:00"


@given(
    st.sampled_from(list(Risk)),
    st.sampled_from(list(Colour)),
    st.datetimes(datetime(2000, 1, 1), datetime(2080, 1, 1)),  # noqa: DTZ001
    st.timedeltas(timedelta(microseconds=1), timedelta(days=40)),
    st.integers(-14 * 60, 14 * 60),
)
def test_a_span_comes_back_from_its_parameter(
    risk: Risk, colour: Colour, starts: datetime, length: timedelta, offset: int
) -> None:
    aware = starts.replace(tzinfo=timezone(timedelta(minutes=offset)))
    held = Span(risk, colour, aware, aware + length)
    assert from_parameter(to_parameter(held)) == held


@pytest.mark.parametrize(
    "text",
    [
        "",
        "idraulico",
        "idraulico verde 2023-11-02T16:14:59+01:00/2023-11-03T00:00:00+01:00",
        "meteoriti gialla 2023-11-02T16:14:59+01:00/2023-11-03T00:00:00+01:00",
        "idraulico gialla 2023-11-02T16:14:59/2023-11-03T00:00:00",
        "idraulico gialla 2023-11-03T00:00:00+01:00/2023-11-02T00:00:00+01:00",
        "idraulico gialla 0001-01-01T00:00:00+14:00/2023-11-02T00:00:00+01:00",
        "idraulico gialla ieri/domani",
    ],
)
def test_a_parameter_that_is_no_span_is_quoted_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="is not risk, colour and start/end"):
        from_parameter(text)


def test_slack_is_an_hour() -> None:
    assert timedelta(hours=1) == SLACK
