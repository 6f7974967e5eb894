"""What follows from an outcome, and where a delivery stands whatever order the receipts come in."""

from datetime import UTC, datetime, timedelta
from itertools import permutations
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from alerting.domain.delivery import (
    AS_RECEIPTS_TELL,
    LONGEST_WAIT,
    MAX_ATTEMPTS,
    NOT_THE_PERSONS,
    RECEIPT_PATIENCE,
    Accepted,
    ChannelHalted,
    Deferred,
    Done,
    Outcome,
    Progress,
    Reason,
    Refused,
    TextRejected,
    TryAgain,
    Uncertain,
    after,
    backoff,
    decide,
)

NOW = datetime(2026, 11, 21, 13, 0, tzinfo=UTC)
EVENING = NOW + timedelta(hours=6)

reasons = st.sampled_from(Reason)
waits = st.none() | st.timedeltas(min_value=timedelta(hours=-2), max_value=timedelta(days=2))
outcomes: st.SearchStrategy[Outcome] = st.one_of(
    st.builds(Accepted, st.just("wamid.HBgL")),
    st.builds(Refused, reasons),
    st.builds(Uncertain, reasons),
    st.builds(Deferred, reasons, waits, st.booleans()),
)
attempts_made = st.integers(1, 32_767)  # as many as the ledger can count

# ── receipts ────────────────────────────────────────────────────────────────────────────────────────


def all_told(start: Progress, receipts: list[Progress]) -> Progress:
    for receipt in receipts:
        start = after(start, receipt)
    return start


@given(st.sampled_from(Progress), st.lists(st.sampled_from(Progress), max_size=7), st.randoms())
def test_receipts_in_any_order_and_repeated_give_the_same_progress(
    start: Progress, receipts: list[Progress], random: Random
) -> None:
    again = receipts + [random.choice(receipts) for _ in range(3) if receipts]
    random.shuffle(again)
    assert all_told(start, again) is all_told(start, receipts)


@pytest.mark.parametrize("order", list(permutations([Progress.SENT, Progress.DELIVERED, Progress.READ])))
def test_who_has_read_it_has_read_it(order: tuple[Progress, ...]) -> None:
    assert all_told(Progress.ACCEPTED, list(order)) is Progress.READ


@pytest.mark.parametrize("order", list(permutations([Progress.SENT, Progress.FAILED])))
def test_a_failure_after_sent_or_before_it_is_a_failure(order: tuple[Progress, ...]) -> None:
    assert all_told(Progress.ACCEPTED, list(order)) is Progress.FAILED


@pytest.mark.parametrize("arrived", [Progress.DELIVERED, Progress.READ])
@pytest.mark.parametrize("other", Progress)
def test_nobody_unreceives_a_text(arrived: Progress, other: Progress) -> None:
    assert after(arrived, other) in (Progress.DELIVERED, Progress.READ)
    assert after(other, arrived) in (Progress.DELIVERED, Progress.READ)


@pytest.mark.parametrize("end", [Progress.REFUSED, Progress.FAILED, Progress.WITHDRAWN])
def test_a_late_sent_does_not_reopen_what_has_ended(end: Progress) -> None:
    assert after(end, Progress.SENT) is end


def test_a_receipt_may_overtake_our_own_recording() -> None:
    assert after(Progress.SENDING, Progress.DELIVERED) is Progress.DELIVERED
    assert after(Progress.UNCERTAIN, Progress.SENT) is Progress.SENT


def test_every_progress_has_its_place_on_the_scale() -> None:
    assert sorted(AS_RECEIPTS_TELL, key=lambda p: p.value) == list(Progress)


def test_whoever_is_being_told_or_was_told_is_owed_the_cancellation() -> None:
    nothing_left_us = {
        Progress.WAITING,
        Progress.DEFERRED,
        Progress.REFUSED,
        Progress.FAILED,
        Progress.WITHDRAWN,
        Progress.HANDED_OVER,
    }
    assert {progress for progress in Progress if not progress.may_have_arrived} == nothing_left_us


def test_final_are_those_whom_nobody_tries_again() -> None:
    open_still = {Progress.WAITING, Progress.SENDING, Progress.DEFERRED, Progress.UNCERTAIN}
    assert {progress for progress in Progress if not progress.is_final} == open_still


# ── decisions ───────────────────────────────────────────────────────────────────────────────────────


@given(outcomes, attempts_made, st.timedeltas(min_value=timedelta(days=-1), max_value=timedelta(days=3)))
@example(Deferred(Reason.CHANNEL_HALTED, None, whole_account=True), 45, timedelta(days=3))
@example(Deferred(Reason.THROTTLED, timedelta(hours=-2)), 1, timedelta(hours=-1))
def test_nothing_is_tried_again_after_expires(outcome: Outcome, attempts: int, left: timedelta) -> None:
    match decide(outcome, attempts=attempts, now=NOW, expires=NOW + left):
        case TryAgain(wait):
            assert timedelta(0) < wait < left
        case Done(progress):
            assert progress.is_final


@given(outcomes, attempts_made)
def test_a_person_is_not_tried_for_ever(outcome: Outcome, attempts: int) -> None:
    once_more = decide(outcome, attempts=attempts, now=NOW, expires=EVENING)
    decision = decide(outcome, attempts=attempts, now=NOW, expires=EVENING, maybe_told=True)
    if isinstance(decision, TryAgain) and attempts >= MAX_ATTEMPTS:
        assert isinstance(outcome, Deferred)
        assert outcome.whole_account or outcome.reason in NOT_THE_PERSONS
    if isinstance(outcome, Uncertain):
        assert isinstance(once_more, TryAgain)
        assert isinstance(decision, Done)


@given(st.integers(1, 32_767))
def test_an_account_that_is_away_for_days_costs_nobody_the_alert(attempts: int) -> None:
    halted = Deferred(Reason.CHANNEL_HALTED, None, whole_account=True)
    decision = decide(halted, attempts=attempts, now=NOW, expires=NOW + timedelta(days=3))
    assert decision == TryAgain(backoff(attempts), Reason.CHANNEL_HALTED)


def test_an_unknown_answer_never_costs_a_person_the_alert() -> None:
    decision = decide(Deferred(Reason.UNKNOWN_ANSWER), attempts=1, now=NOW, expires=EVENING)
    assert decision == TryAgain(timedelta(seconds=5), Reason.UNKNOWN_ANSWER)


def test_the_wait_the_provider_asks_for_is_kept() -> None:
    asked = Deferred(Reason.THROTTLED, timedelta(minutes=3))
    assert decide(asked, attempts=1, now=NOW, expires=EVENING) == TryAgain(timedelta(minutes=3), Reason.THROTTLED)
    too_long = Deferred(Reason.THROTTLED, timedelta(hours=6))
    assert decide(too_long, attempts=1, now=NOW, expires=EVENING) == Done(Progress.FAILED, Reason.EXPIRED)


@pytest.mark.parametrize("past", [timedelta(0), timedelta(minutes=-3)])
def test_a_moment_that_is_past_is_no_wait(past: timedelta) -> None:
    decision = decide(Deferred(Reason.THROTTLED, past), attempts=2, now=NOW, expires=EVENING)
    assert decision == TryAgain(timedelta(seconds=10), Reason.THROTTLED)


def test_what_may_have_arrived_is_said_once_more_at_most_and_never_counts_as_failed() -> None:
    first = decide(Uncertain(), attempts=1, now=NOW, expires=EVENING)
    assert first == TryAgain(RECEIPT_PATIENCE, Reason.PROVIDER_SILENT, Progress.UNCERTAIN)
    unresolved = Done(Progress.UNRESOLVED, Reason.PROVIDER_SILENT)
    assert decide(Uncertain(), attempts=2, now=NOW, expires=EVENING, maybe_told=True) == unresolved
    assert decide(Uncertain(), attempts=1, now=NOW, expires=NOW + RECEIPT_PATIENCE) == unresolved


def test_a_throttle_before_the_silence_costs_nobody_the_repetition() -> None:
    assert isinstance(decide(Uncertain(), attempts=2, now=NOW, expires=EVENING), TryAgain)


def test_what_may_have_arrived_is_not_forgotten_by_a_throttle_after_it() -> None:
    throttled = Deferred(Reason.THROTTLED)
    later = decide(throttled, attempts=2, now=NOW, expires=EVENING, maybe_told=True)
    assert isinstance(later, TryAgain)
    assert later.progress is Progress.UNCERTAIN
    odd = Deferred(Reason.UNKNOWN_ANSWER)
    for last, attempts, expires in ((odd, MAX_ATTEMPTS, EVENING), (throttled, 2, NOW + timedelta(seconds=1))):
        end = decide(last, attempts=attempts, now=NOW, expires=expires, maybe_told=True)
        assert isinstance(end, Done)
        assert end.progress is Progress.UNRESOLVED, "a Cancel must reach them"


def test_acceptance_keeps_the_providers_id_and_refusal_its_reason() -> None:
    assert decide(Accepted("wamid.1"), attempts=3, now=NOW, expires=EVENING).provider_id == "wamid.1"  # type: ignore[union-attr]
    refused = decide(Refused(Reason.NOT_REACHABLE_HERE), attempts=1, now=NOW, expires=EVENING)
    assert refused == Done(Progress.REFUSED, Reason.NOT_REACHABLE_HERE)


def test_waits_double_up_to_ten_minutes_and_no_farther() -> None:
    seconds = [backoff(attempts).total_seconds() for attempts in range(1, 11)]
    assert seconds == [5, 10, 20, 40, 80, 160, 320, 600, 600, 600]
    assert backoff(32_767) == LONGEST_WAIT


def test_what_concerns_everybody_names_the_account_and_the_cause() -> None:
    assert str(ChannelHalted("whatsapp.calcinaia", "131031")) == (
        "account whatsapp.calcinaia is halted by the provider: 131031"
    )
    assert "whatsapp.calcinaia" in str(TextRejected("whatsapp.calcinaia", "132001"))
