"""The account's capacity: never exceeded by all together, the urgent first, slower for everyone when told so."""

import asyncio
import random
import time
from datetime import timedelta

import pytest
from sqlalchemy import text

from alerting.domain.lanes import Lane
from consumers.pacing import HOLD, HORIZON, Denied, Lease, Pacer, asks_again_at, slots_of, slots_of_lane
from tests.integration.engine import WHATSAPP, Town

CAP = 80.0


async def rate_of(town: Town) -> float:
    async with town.database.read() as session:
        found = await session.scalar(text("SELECT rate FROM provider_rates WHERE account = :a"), {"a": WHATSAPP})
    return float(found)


def most_in_a_second(moments: list[float]) -> int:
    """The most in any half-open second."""
    moments = sorted(moments)
    most = first = 0
    for last, moment in enumerate(moments):
        while moment - moments[first] >= 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


async def asker(pacer: Pacer, lane: Lane, seed: int, until: float) -> list[float]:
    """Somebody who asks at random, for random amounts, until the time is up."""
    dice = random.Random(seed)
    slots: list[float] = []
    while time.monotonic() < until:
        answer = await pacer.lease(WHATSAPP, lane, slots=dice.randint(1, 8), want=dice.choice((1, 50)))
        match answer:
            case Lease(given):
                slots += given
                await asyncio.sleep(max(0.0, given[0] - time.monotonic()) * dice.random())
            case Denied(wait):
                await asyncio.sleep(min(wait, 0.05))
    return slots


@pytest.mark.parametrize("seed", [112])
async def test_no_second_holds_more_than_the_cap_and_one_slot_whoever_asks(town: Town, seed: int) -> None:
    pacers = [Pacer(town.database) for _ in range(2)]
    dice = random.Random(seed)
    end = time.monotonic() + 1.8
    lanes = [dice.choice(list(Lane)) for _ in range(3)] + [Lane.ROUTINE]
    given = await asyncio.gather(*(asker(pacers[n % 2], lane, seed + n, end) for n, lane in enumerate(lanes)))
    slots = [slot for one in given for slot in one]
    assert len(slots) > CAP  # they did ask
    # A slot is turned into our clock late by a round trip at most: 10 ms of it may sit in any second.
    assert most_in_a_second([slot * (1 / 0.99) for slot in slots]) <= CAP + 2


async def test_the_whole_of_the_capacity_is_given_while_there_is_work(town: Town) -> None:
    pacer = Pacer(town.database)
    began = time.monotonic()
    slots = await asker(pacer, Lane.ROUTINE, 3, began + 2.0)
    used = [slot for slot in slots if began <= slot < began + 2.0]
    assert len(used) >= 0.95 * 2.0 * CAP


async def test_a_lower_lane_is_kept_out_while_an_urgent_ones_demand_is_unmet(town: Town) -> None:
    pacer = Pacer(town.database)
    assert isinstance(await pacer.lease(WHATSAPP, Lane.EMERGENCY, slots=5, want=100), Lease)
    for lane in (Lane.REPLY, Lane.ROUTINE):
        denied = await pacer.lease(WHATSAPP, lane, slots=5, want=5)
        assert isinstance(denied, Denied)
        assert 0 < denied.wait <= 5 / CAP + HOLD + 0.05
    assert isinstance(await pacer.lease(WHATSAPP, Lane.FLASH, slots=5, want=5), Lease)


async def test_even_an_emergency_waits_for_a_flash_and_not_for_longer_than_the_hold(town: Town) -> None:
    pacer = Pacer(town.database)
    await pacer.lease(WHATSAPP, Lane.FLASH, slots=5, want=100)
    assert isinstance(await pacer.lease(WHATSAPP, Lane.EMERGENCY, slots=5, want=5), Denied)
    await asyncio.sleep(5 / CAP + HOLD + 0.05)  # whoever held it died: nobody waits for the dead
    assert isinstance(await pacer.lease(WHATSAPP, Lane.EMERGENCY, slots=5, want=5), Lease)


async def test_an_urgent_lane_that_got_all_it_wanted_keeps_nobody_out(town: Town) -> None:
    pacer = Pacer(town.database)
    await pacer.lease(WHATSAPP, Lane.FLASH, slots=5, want=3)
    await asyncio.sleep(5 / CAP)
    assert isinstance(await pacer.lease(WHATSAPP, Lane.ROUTINE, slots=5, want=500), Lease)


async def test_routine_cannot_lease_the_future_away_from_an_emergency(town: Town) -> None:
    pacer = Pacer(town.database)
    while isinstance(await pacer.lease(WHATSAPP, Lane.ROUTINE, slots=5, want=500), Lease):
        pass
    urgent = await pacer.lease(WHATSAPP, Lane.EMERGENCY, slots=5, want=5)
    assert isinstance(urgent, Lease)
    assert urgent.slots[0] - time.monotonic() < HORIZON + 5 / CAP


async def test_slots_are_in_order_and_a_rate_apart(town: Town) -> None:
    lease = await Pacer(town.database).lease(WHATSAPP, Lane.FLASH, slots=8, want=8)
    assert isinstance(lease, Lease)
    gaps = [after - before for before, after in zip(lease.slots, lease.slots[1:], strict=False)]
    assert gaps == pytest.approx([1 / lease.rate] * 7)


async def test_too_fast_slows_everybody_down_once_and_makes_all_wait(town: Town) -> None:
    one, other = Pacer(town.database), Pacer(town.database)
    full = await rate_of(town)
    for pacer in (one, other):  # a crowd of 429 in one second is one lesson, not twenty
        await pacer.slow_down(WHATSAPP, timedelta(seconds=2))
    assert await rate_of(town) == pytest.approx(0.8 * full)
    lease = await other.lease(WHATSAPP, Lane.FLASH, slots=5, want=5)
    assert isinstance(lease, Lease)
    assert lease.slots[0] - time.monotonic() > 1.8
    assert lease.rate == pytest.approx(0.8 * full)
    assert isinstance(await one.lease(WHATSAPP, Lane.ROUTINE, slots=5, want=5), Denied)


async def test_a_lowered_rate_recovers_step_by_step_and_never_above_the_full_one(town: Town) -> None:
    pacer, full = Pacer(town.database), await rate_of(town)
    await pacer.slow_down(WHATSAPP, timedelta(0))
    rates = []
    for _ in range(7):
        await town.run("UPDATE provider_rates SET lowered_at = lowered_at - 31, tat = 0 WHERE account = :a", a=WHATSAPP)
        lease = await pacer.lease(WHATSAPP, Lane.ROUTINE, slots=1, want=1)
        assert isinstance(lease, Lease)
        rates.append(lease.rate)
    assert rates[0] == pytest.approx(0.8 * full * 1.05)
    assert rates == sorted(rates)
    assert rates[-1] == full


async def test_an_account_nobody_enrolled_is_an_error_and_not_a_wait(town: Town) -> None:
    with pytest.raises(KeyError, match="enrolled"):
        await Pacer(town.database).lease("whatsapp.nessuno", Lane.FLASH, slots=1, want=1)


async def test_accounts_do_not_wait_for_each_other(town: Town) -> None:
    pacer = Pacer(town.database)
    await pacer.slow_down(WHATSAPP, timedelta(seconds=30))
    lease = await pacer.lease("whatsapp.fucecchio", Lane.ROUTINE, slots=1, want=1)
    assert isinstance(lease, Lease)
    assert lease.slots[0] - time.monotonic() < 0.1


@pytest.mark.parametrize(("rate", "slots"), [(0.5, 1), (30, 1), (80, 3), (1000, 40), (1e6, 600)])
def test_a_lease_takes_forty_milliseconds_of_the_rate(rate: float, slots: int) -> None:
    assert slots_of(rate) == slots == slots_of_lane(rate, Lane.FLASH)


@pytest.mark.parametrize(("rate", "slots"), [(0.5, 1), (30, 1), (80, 2), (1000, 25), (1e6, 600)])
def test_a_lane_that_others_may_come_before_leases_less(rate: float, slots: int) -> None:
    assert slots_of_lane(rate, Lane.REPLY) == slots_of_lane(rate, Lane.ROUTINE) == slots


async def test_who_asks_again_when_told_to_is_not_denied(town: Town) -> None:
    pacer = Pacer(town.database)
    for _ in range(5):
        lease = await pacer.lease(WHATSAPP, Lane.ROUTINE, slots=2, want=500)
        assert isinstance(lease, Lease)
        await asyncio.sleep(asks_again_at(lease) + 0.001 - time.monotonic())  # SQLite's clock counts milliseconds
