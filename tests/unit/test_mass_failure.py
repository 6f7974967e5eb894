"""Nine in ten of the last thirty, for no reason of the people: then we stop asking, and not before."""

import random
from collections.abc import Sequence
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.domain.delivery import Accepted, Deferred, Outcome, Reason, Refused, Uncertain
from consumers.mass_failure import AT_LEAST, HANDLED_ELSEWHERE, LOOKS_AT, SHARE, THE_PERSONS_OWN, MassFailure

TAKEN = Accepted("wamid.HBgM")
AWAY = Deferred(Reason.PROVIDER_UNAVAILABLE)

FAILURES: list[Outcome] = [
    AWAY,
    Deferred(Reason.PROVIDER_UNAVAILABLE, timedelta(seconds=60), whole_account=True),
    Deferred(Reason.UNKNOWN_ANSWER),
    Uncertain(),
    Uncertain(Reason.UNKNOWN_ANSWER),
]
NOT_OURS: list[Outcome] = [
    *(Refused(reason) for reason in sorted(THE_PERSONS_OWN, key=str)),
    Deferred(Reason.PAIR_THROTTLED, timedelta(seconds=6)),
    *(Deferred(reason, timedelta(seconds=1), whole_account=True) for reason in sorted(HANDLED_ELSEWHERE, key=str)),
]


def sees(failure: MassFailure, outcomes: Sequence[Outcome]) -> int | None:
    """After how many of these it is time to halt; None where it never is."""
    return next((number for number, outcome in enumerate(outcomes, 1) if failure.sees(outcome)), None)


@pytest.mark.parametrize("outcome", FAILURES, ids=repr)
def test_a_provider_that_fails_everybody_from_the_start_is_asked_twenty_times(outcome: Outcome) -> None:
    assert sees(MassFailure(), [outcome] * 100) == AT_LEAST == 20


@pytest.mark.parametrize("outcome", FAILURES, ids=repr)
def test_a_provider_that_falls_after_a_good_hour_is_asked_no_more_than_thirty_times(outcome: Outcome) -> None:
    failure = MassFailure()
    assert sees(failure, [TAKEN] * 1000) is None
    asked = sees(failure, [outcome] * 100)
    assert asked is not None
    assert asked <= LOOKS_AT == 30


@pytest.mark.parametrize("outcome", NOT_OURS, ids=repr)
def test_what_is_the_persons_own_or_has_another_remedy_never_halts(outcome: Outcome) -> None:
    assert sees(MassFailure(), [outcome] * 1000) is None


@pytest.mark.parametrize("outcome", NOT_OURS, ids=repr)
def test_what_does_not_count_hides_no_failure_either(outcome: Outcome) -> None:
    mixed = [one for _ in range(100) for one in (outcome, outcome, outcome, AWAY)]
    asked = sees(MassFailure(), mixed)
    assert asked == 4 * AT_LEAST


def test_a_town_full_of_people_without_whatsapp_is_not_a_fallen_provider() -> None:
    dice = random.Random(7)
    town = [Refused(Reason.NOT_REACHABLE_HERE) if dice.random() < 0.95 else TAKEN for _ in range(5000)]
    assert sees(MassFailure(), list(town)) is None


def test_half_the_calls_failing_is_a_bad_day_and_no_reason_to_stop() -> None:
    assert sees(MassFailure(), [TAKEN, AWAY] * 500) is None


def test_exactly_nine_in_ten_is_enough_and_less_is_not() -> None:
    enough, less = [TAKEN] * 2 + [AWAY] * 18, [TAKEN] * 3 + [AWAY] * 17
    assert sees(MassFailure(), enough) == 20
    assert sees(MassFailure(), less) is None


def test_whoever_halted_begins_to_watch_anew() -> None:
    failure = MassFailure()
    assert sees(failure, [AWAY] * 20) == 20
    assert sees(failure, [AWAY] * 19) is None
    assert failure.sees(AWAY)


def test_a_reason_is_ours_or_the_persons_and_never_both() -> None:
    assert not THE_PERSONS_OWN & HANDLED_ELSEWHERE
    assert Reason.PROVIDER_UNAVAILABLE not in THE_PERSONS_OWN | HANDLED_ELSEWHERE


@given(st.lists(st.sampled_from([TAKEN, *FAILURES, *NOT_OURS]), max_size=300))
def test_it_halts_when_and_only_when_nine_in_ten_of_the_last_that_count_failed(outcomes: list[Outcome]) -> None:
    failure = MassFailure()
    counted: list[bool] = []
    for outcome in outcomes:
        halts = failure.sees(outcome)
        if outcome in NOT_OURS:
            assert not halts
            continue
        counted.append(outcome is not TAKEN)
        last = counted[-LOOKS_AT:]
        assert halts == (len(last) >= AT_LEAST and sum(last) >= SHARE * len(last))
        if halts:
            counted.clear()
