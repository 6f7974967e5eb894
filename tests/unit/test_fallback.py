"""On which address somebody is told next: never too late, never for money that is not there, never twice at one."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting import authorities, costs
from alerting.authorities import AuthorityFileError
from alerting.domain.delivery import Channel, Progress, Reason
from alerting.domain.fallback import (
    GIVES_RECEIPTS,
    OPEN,
    PATIENCE,
    UNTOLD,
    Fallback,
    Follow,
    Policy,
    Stays,
    Way,
    choose,
    closes_address,
    ends_untold,
    has_reached,
    is_held_up,
    may_be_silent,
    next_look,
    ranks_without,
)
from alerting.domain.lanes import Lane
from alerting.persistence import fallbacks
from consumers.local.trial import authorities_with_sms

NOW = datetime(2026, 11, 26, 7, tzinfo=UTC)
LATER = NOW + timedelta(hours=2)
SMS_PRICE = 90_000

channels = st.sampled_from(list(Channel))
money = st.integers(0, 1_000_000)


@st.composite
def people(draw: st.DrawFn) -> list[Way]:
    """Somebody's addresses, the first of which did not reach them."""
    ways = [
        Way(
            address=number,
            account=f"{channel}.calcinaia",
            channel=channel,
            rank=number,
            price=draw(st.none() | money),
            is_open=draw(st.booleans()),
            halted=draw(st.booleans()),
        )
        for number, channel in enumerate(draw(st.lists(channels, min_size=1, max_size=5, unique=True)))
    ]
    return [replace(ways[0], seq=1, stands=Progress.REFUSED), *ways[1:]]


policies = st.builds(
    Policy,
    order=st.lists(channels, unique=True).map(tuple),
    per_alert=st.none() | money,
    per_month=st.none() | money,
)


def asked(ways: list[Way], policy: Policy, left: int, seq: int = 1, now: datetime = NOW) -> Follow | Stays:
    return choose(ways, policy, seq=seq, left=left, now=now, not_after=LATER)


@given(people(), policies)
def test_told_from_address_to_address_somebody_is_told_once_at_each_within_the_budget_and_it_ends(
    ways: list[Way], policy: Policy
) -> None:
    told, spent, seq = [0], 0, 1
    while isinstance(choice := asked(ways, policy, policy.left(spent, spent), seq), Follow):
        assert choice.way.address not in told
        assert choice.way.is_open
        assert not policy.order or choice.way.channel in policy.order
        told.append(choice.way.address)
        spent += choice.price
        seq += 1
        ways = [replace(w, seq=seq, stands=Progress.REFUSED) if w.address == told[-1] else w for w in ways]
        assert len(told) <= len(ways)
    assert spent <= min((limit for limit in (policy.per_alert, policy.per_month) if limit is not None), default=0)


@given(people(), policies, money)
def test_nobody_is_told_when_the_alert_is_over(ways: list[Way], policy: Policy, left: int) -> None:
    assert asked(ways, policy, left, now=LATER) is Stays.OVER


@given(people(), money)
def test_without_a_word_in_the_comunes_file_nothing_is_spent(ways: list[Way], spent: int) -> None:
    choice = asked(ways, Policy(), Policy().left(spent, spent))
    assert isinstance(choice, Stays) or choice.price == 0


@given(people(), policies, money, st.sampled_from([Progress.DELIVERED, Progress.READ]))
def test_whoever_has_it_on_any_address_is_told_on_no_other(
    ways: list[Way], policy: Policy, left: int, has_it: Progress
) -> None:
    ways.append(Way(99, "sms.calcinaia", Channel.SMS, 9, 0, seq=2, stands=has_it))
    assert asked(ways, policy, left) is Stays.REACHED


@pytest.mark.parametrize("stands", [one for one in Progress if one in OPEN])
def test_while_another_address_is_tried_nobody_is_sent_to_a_third(stands: Progress) -> None:
    first = Way(1, "whatsapp", Channel.WHATSAPP, 0, None, seq=5, stands=Progress.REFUSED)
    second = Way(2, "sms", Channel.SMS, 1, 0, seq=3, stands=stands)
    third = Way(3, "email", Channel.EMAIL, 2, 0)
    assert asked([first, second, third], Policy(), 0, seq=5) is Stays.PENDING


def test_what_was_silent_before_keeps_nobody_from_being_told_on_the_third() -> None:
    silent = Way(1, "whatsapp", Channel.WHATSAPP, 0, None, seq=1, stands=Progress.ACCEPTED)
    refused = Way(2, "sms", Channel.SMS, 1, 0, seq=2, stands=Progress.FAILED)
    email = Way(3, "email", Channel.EMAIL, 2, 0)
    assert asked([silent, refused, email], Policy(), 0, seq=2) == Follow(email, 0)
    assert asked([silent, refused, email], Policy(), 0, seq=1) == Follow(email, 0)
    waits = replace(refused, stands=Progress.SENT)
    assert asked([silent, waits, email], Policy(), 0, seq=1) is Stays.PENDING


def test_the_comunes_order_comes_before_the_persons_ranks() -> None:
    ways = [
        Way(1, "whatsapp", Channel.WHATSAPP, 0, None, seq=1, stands=Progress.REFUSED),
        Way(2, "sms", Channel.SMS, 1, SMS_PRICE),
        Way(3, "email", Channel.EMAIL, 2, 0),
    ]
    order = (Channel.WHATSAPP, Channel.EMAIL, Channel.SMS)
    assert asked(ways, Policy(order), SMS_PRICE) == Follow(ways[2], 0)
    assert asked(ways, Policy(), SMS_PRICE) == Follow(ways[1], SMS_PRICE)
    assert asked(ways, Policy((Channel.TELEGRAM,)), SMS_PRICE) is Stays.NOWHERE


def test_what_cannot_be_afforded_is_passed_over_for_what_is_free() -> None:
    ways = [
        Way(1, "whatsapp", Channel.WHATSAPP, 0, None, seq=1, stands=Progress.REFUSED),
        Way(2, "sms", Channel.SMS, 1, SMS_PRICE),
        Way(3, "email", Channel.EMAIL, 2, 0),
    ]
    assert asked(ways, Policy(), SMS_PRICE - 1) == Follow(ways[2], 0)
    assert asked(ways[:2], Policy(), SMS_PRICE - 1) is Stays.NOT_AFFORDED
    assert asked([ways[0], replace(ways[1], price=None)], Policy(), 10**9) is Stays.NOT_AFFORDED


def test_a_halted_account_is_the_last_resort() -> None:
    ways = [
        Way(1, "whatsapp", Channel.WHATSAPP, 0, None, seq=1, stands=Progress.REFUSED),
        Way(2, "sms", Channel.SMS, 1, 0, halted=True),
        Way(3, "email", Channel.EMAIL, 2, 0),
    ]
    assert asked(ways, Policy(), 0) == Follow(ways[2], 0)
    assert asked(ways[:2], Policy(), 0) == Follow(ways[1], 0)
    assert choose(ways[:2], Policy(), seq=1, left=0, now=NOW, not_after=LATER, halted_too=False) is Stays.NOWHERE


# ── what an outcome says ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("progress", list(Progress))
@pytest.mark.parametrize("channel", list(Channel))
def test_nobody_is_untold_and_reached_and_silent_at_once(progress: Progress, channel: Channel) -> None:
    said = [ends_untold(progress, None), has_reached(progress, channel), may_be_silent(progress, channel)]
    assert sum(said) <= 1
    assert not (progress in UNTOLD | OPEN and (has_reached(progress, channel) or may_be_silent(progress, channel)))


def test_only_where_receipts_are_given_is_accepted_not_the_last_word() -> None:
    for channel in Channel:
        assert may_be_silent(Progress.ACCEPTED, channel) is (channel in GIVES_RECEIPTS)
        assert has_reached(Progress.ACCEPTED, channel) is (channel not in GIVES_RECEIPTS)


def test_who_is_put_off_is_held_up_only_for_longer_than_the_lane_bears() -> None:
    for lane, patience in PATIENCE.items():
        assert not is_held_up(Reason.PAIR_THROTTLED, patience, lane)
        assert is_held_up(Reason.PAIR_THROTTLED, patience + 1, lane)
        assert is_held_up(Reason.HELD_BY_PROVIDER, 0.0, lane)
        assert not is_held_up(Reason.THROTTLED, 3600.0, lane)
    assert not is_held_up(Reason.PAIR_THROTTLED, 3600.0, Lane.REPLY), "an answer is for here alone"


def test_who_left_is_followed_nowhere() -> None:
    assert not ends_untold(Progress.FAILED, Reason.LEFT)
    assert not ends_untold(Progress.WITHDRAWN, Reason.WITHDRAWN)
    assert ends_untold(Progress.FAILED, Reason.POLICY)


def test_a_telephone_that_was_off_does_not_close_a_number() -> None:
    assert not closes_address(Progress.FAILED, Reason.NOT_REACHABLE_HERE, Channel.SMS)
    assert closes_address(Progress.REFUSED, Reason.NOT_REACHABLE_HERE, Channel.SMS)
    assert closes_address(Progress.FAILED, Reason.NOT_REACHABLE_HERE, Channel.WHATSAPP)
    assert not closes_address(Progress.REFUSED, Reason.POLICY, Channel.WHATSAPP)


@given(st.sets(st.integers(0, 9)), st.lists(st.integers(0, 9), min_size=1, unique=True))
def test_closed_addresses_come_last_and_the_last_one_is_never_closed(refused: set[int], addresses: list[int]) -> None:
    ranks = ranks_without(frozenset(refused), {address: rank for rank, address in enumerate(addresses)})
    left = [address for address in addresses if address not in refused]
    if not left:
        assert ranks == {}
    else:
        assert sorted(ranks, key=lambda address: ranks[address])[: len(left)] == left
        assert sorted(ranks.values()) == list(range(len(addresses)))


@given(st.lists(st.floats(0, 1000)), st.booleans(), st.floats(1, 600))
def test_a_batch_is_looked_at_again_before_anybody_has_been_silent_for_much_longer(
    attempts: list[float], is_done: bool, patience: float
) -> None:
    now = 1000.0
    waiting = [at for at in attempts if at + patience > now]
    look = next_look(now=now, patience=patience, is_done=is_done, attempts=waiting)
    if look is None:
        assert is_done and not waiting
    else:
        assert look > now
        assert all(look <= max(at + patience, now + 1.0) for at in waiting)
        assert is_done or look <= now + patience


# ── what a comune writes ────────────────────────────────────────────────────────────────────────────


WRITTEN = """
[fallback.flash]
order = ["whatsapp", "telegram", "sms"]
patience = "3m"
euro_per_alert = 50
euro_per_month = 200.5

[fallback.routine]
patience = 90
"""


def loaded(folder: Path, more: str) -> Fallback:
    file = authorities_with_sms(folder) / "calcinaia.toml"
    file.write_text(file.read_text() + more)
    return authorities.load(folder)["calcinaia"].fallback


def test_a_comune_says_lane_by_lane_what_it_wants(tmp_path: Path) -> None:
    found = loaded(tmp_path, WRITTEN)
    order = (Channel.WHATSAPP, Channel.TELEGRAM, Channel.SMS)
    assert found.of(Lane.FLASH) == Policy(order, timedelta(minutes=3), 50_000_000, 200_500_000)
    assert found.of(Lane.ROUTINE) == Policy(patience=timedelta(seconds=90))
    assert found.of(Lane.EMERGENCY) == Policy()
    assert fallbacks.read(fallbacks.written(found)) == found


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ('[fallback.flash]\norder = ["fax"]', "'fax', which is no channel"),
        ('[fallback.flash]\norder = ["sms", "sms"]', "'sms' twice"),
        ('[fallback.flash]\norder = ["email"]', "has email, on which this comune has no account"),
        (
            '[fallback.flash]\norder = ["telegram", "whatsapp"]\neuro_per_alert = 5',
            "nobody knows what whatsapp costs",
        ),
        ('[fallback.flash]\npatience = "3 minuti"', 'write it as "3m"'),
        ("[fallback.flash]\npatience = true", "is no time between a second and a day"),
        ('[fallback.flash]\npatience = "99h"', "is no time between a second and a day"),
        ("[fallback.flash]\neuro_per_month = -1", "is not between 0 and 100,000"),
        ("[fallback.reply]\npatience = 3", "fallback.reply is not a key that means anything here"),
        ("[fallback.flash]\neuro_per_allert = 3", "did you mean euro_per_alert?"),
    ],
)
def test_what_is_wrong_with_it_is_said_in_a_sentence(tmp_path: Path, written: str, sentence: str) -> None:
    with pytest.raises(AuthorityFileError) as error:
        loaded(tmp_path, written)
    assert sentence in str(error.value)


# ── prices ──────────────────────────────────────────────────────────────────────────────────────────


def test_of_an_sms_each_part_is_paid_and_of_an_answer_on_whatsapp_nothing() -> None:
    long = "Evacuare i piani bassi. " * 10
    assert costs.price(Channel.SMS, 45_000, Lane.FLASH, long) == costs.Price(90_000, 2)
    assert costs.price(Channel.WHATSAPP, 30_000, Lane.FLASH, long) == costs.Price(30_000)
    curly = "L’Arno è sceso sotto la soglia. Può tornare a casa: l’acquedotto è di nuovo in servizio."
    assert costs.price(Channel.SMS, 45_000, Lane.REPLY, curly) == costs.Price(45_000, 1), "it goes in letters of an SMS"
    assert costs.price(Channel.WHATSAPP, 30_000, Lane.REPLY, long) == costs.Price(0)
    assert costs.price(Channel.WHATSAPP, None, Lane.FLASH, long) == costs.Price(0)
    assert costs.price(Channel.SMS, None, Lane.FLASH, long) is None
    assert costs.price(Channel.TELEGRAM, None, Lane.FLASH, long) == costs.Price(0)


def test_the_month_is_that_of_rome() -> None:
    assert costs.month_of(datetime(2026, 11, 30, 23, 30, tzinfo=UTC)) == "2026-12"
    assert costs.month_of(datetime(2026, 6, 30, 21, 59, tzinfo=UTC)) == "2026-06"
