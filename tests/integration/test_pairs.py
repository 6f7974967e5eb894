"""One person who had enough from us for now: only they wait, in whatever alert, and whichever process has it."""

import asyncio
import time

import pytest
from sqlalchemy import select

from alerting.domain.delivery import Progress, Reason
from alerting.persistence import ledger, tables
from tests.integration.engine import ONE_KIND, WHATSAPP, Start, Town, meta, told, until

A_PAIR_RESTS = 6.0  # seconds, from Meta's page on error 131056


async def not_before(town: Town) -> list[float]:
    async with town.database.read() as session:
        return list((await session.scalars(select(tables.Address.not_before).order_by(tables.Address.id))).all())


async def reasons(town: Town, dispatch: int) -> list[tuple[str, str | None, int]]:
    return [(Progress(row.progress).name, row.reason, row.attempts) for row in await town.deliveries(dispatch)]


# ── in the ledger ───────────────────────────────────────────────────────────────────────────────────


async def test_to_leave_alone_is_never_shortened_by_a_later_word(town: Town) -> None:
    await town.subscribe(2)
    one, other = 1, 2
    async with town.database.write() as session:
        await ledger.leave_alone(session, {other: 200.0, one: 100.0})
        await ledger.leave_alone(session, {one: 50.0, other: 300.0, 4711: 1.0})
    assert await not_before(town) == [100.0, 300.0]


async def test_a_claim_says_until_when_somebody_is_left_alone(town: Town) -> None:
    dispatch = await town.issued_and_fanned_out(2)
    now = time.time()
    [_, second] = await town.deliveries(dispatch)
    assert second.address_id is not None
    async with town.database.write() as session:
        await ledger.leave_alone(session, {second.address_id: now + 60})
        claimed = await ledger.claim(session, dispatch, 1, 2, most=2, now=now, until=now + 30)
    assert [one.not_before for one in claimed] == [0.0, now + 60]


async def test_whoever_is_put_off_was_not_tried_and_comes_when_due(town: Town) -> None:
    dispatch = await town.issued_and_fanned_out(2)
    now = time.time()
    async with town.database.write() as session:
        await ledger.claim(session, dispatch, 1, 2, most=2, now=now, until=now + 30)
        await ledger.put_off(session, dispatch, [2], Reason.PAIR_THROTTLED, due_at=now + 60)
    assert await reasons(town, dispatch) == [("SENDING", None, 1), ("DEFERRED", "pair_throttled", 0)]
    async with town.database.write() as session:
        assert await ledger.claim(session, dispatch, 1, 2, most=2, now=now + 20, until=now + 50) == []
        [due] = await ledger.claim(session, dispatch, 2, 2, most=2, now=now + 60, until=now + 90)
    assert (due.attempt, due.again, due.maybe_told) == (1, False, False)


@pytest.mark.parametrize("reason", ["worker_died", "provider_silent"])
async def test_whoever_may_have_it_stays_uncertain_however_often_they_are_put_off(town: Town, reason: str) -> None:
    """Or a Cancel would pass them by."""
    dispatch = await town.issued_and_fanned_out(1)
    died = "UPDATE deliveries SET progress = 1, attempts = 1, claimed_until = 1"
    silent = "UPDATE deliveries SET progress = 3, attempts = 1, due_at = 1, reason = 'provider_silent'"
    await town.run(died if reason == "worker_died" else silent)
    for turn in range(3):
        now = time.time() + 100 * turn
        async with town.database.write() as session:
            [person] = await ledger.claim(session, dispatch, 1, 1, most=1, now=now, until=now + 30)
            assert person.maybe_told
            await ledger.put_off(session, dispatch, [1], Reason.DAILY_QUOTA, due_at=now + 60)
        [(progress, _, attempts)] = await reasons(town, dispatch)
        assert (progress, attempts) == ("UNCERTAIN", 1)
    async with town.database.write() as session:
        await ledger.withdraw(session, dispatch, 1, 1, now=time.time())
    assert (await reasons(town, dispatch))[0][0] == "UNRESOLVED"


# ── in the engine ───────────────────────────────────────────────────────────────────────────────────


@ONE_KIND
async def test_one_who_had_enough_waits_alone_and_the_next_alert_waits_with_them(town: Town, engine: Start) -> None:
    town.numbers = iter([10, 20, 30, 429, 40, 50])
    *others, tired = sorted(await town.subscribe(6), key=lambda number: number.endswith("429"))
    async with meta() as served, engine(served, workers=2):
        first = await town.issue()
        await until(lambda: set(told(served)) == set(others))

        async def is_left_alone() -> bool:
            """For 16 seconds by now: the first time it is one, the second four."""
            return sum(moment > time.time() + A_PAIR_RESTS for moment in await not_before(town)) == 1

        await until(is_left_alone, within=90)
        rests_until = max(await not_before(town))
        asked = served.simulator.phones.refused["131056"]
        assert asked > 1
        second = await town.issue()
        await until(lambda: told(served) == dict.fromkeys(others, 2))

        async def recorded() -> bool:
            return set(await town.summary(second)) == {Progress.ACCEPTED, Progress.DEFERRED}

        await until(recorded)
        put_off = [row for row in await reasons(town, second) if row[0] != "ACCEPTED"]
        assert put_off == [("DEFERRED", "pair_throttled", 0)], "put off without a call"
        assert served.simulator.phones.refused["131056"] == asked
        [row] = [row for row in await town.deliveries(second) if row.progress == Progress.DEFERRED.value]
        assert row.due_at == pytest.approx(rests_until)
        assert (await reasons(town, first)).count(("ACCEPTED", None, 1)) == 5
        assert tired not in told(served)


@ONE_KIND
async def test_a_third_alert_soon_after_the_second_asks_the_provider_for_nobody(town: Town, engine: Start) -> None:
    numbers = await town.subscribe(5)
    async with meta(pair_every=60.0, pair_burst=1) as served, engine(served, workers=2):
        first = await town.issue()
        await until(lambda: town.is_over(first))
        second = await town.issue()

        async def all_are_left_alone() -> bool:
            """For 16 seconds by now: the first time it is one, the second four."""
            alone = sum(moment > time.time() + A_PAIR_RESTS for moment in await not_before(town))
            return alone == 5 and await town.summary(second) == {Progress.DEFERRED: 5}

        await until(all_are_left_alone, within=90)
        asked = served.simulator.phones.refused["131056"]
        third = await town.issue()
        await asyncio.sleep(1.0)
        assert await town.summary(third) == {Progress.DEFERRED: 5}
        assert {attempts for _, _, attempts in await reasons(town, third)} == {0}, "nobody asked the provider for them"
        assert served.simulator.phones.refused["131056"] == asked
        assert told(served) == dict.fromkeys(numbers, 1)


@ONE_KIND
async def test_a_pairs_rest_neither_halts_nor_slows_the_number(town: Town, engine: Start) -> None:
    await town.subscribe(40)
    async with meta(faults={131056: 1.0}) as served, engine(served):
        began = time.time()
        dispatch = await town.issue()
        await until(lambda: served.simulator.phones.refused["131056"] >= 40)
        await asyncio.sleep(0.3)
        async with town.database.read() as session:
            row = await session.get_one(tables.ProviderRate, WHATSAPP)
        assert (row.halted_at, row.rate) == (0.0, row.full_rate)
        assert {reason for _, reason, _ in await reasons(town, dispatch)} == {"pair_throttled"}
        assert min(await not_before(town)) > began + 1, "a second the first time"
