"""A provider's people of a day: routine leaves a fifth to the emergencies, nobody is counted twice, nobody lost."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from alerting import batching, subscribing
from alerting.domain.delivery import Channel, Progress
from alerting.domain.lanes import Lane
from alerting.enrolling import enrol
from alerting.persistence import tables
from alerting.persistence.ledger import Claimed
from alerting.subscribing import Subscriber
from consumers import quota
from consumers.quota import COUNT_EVERY, KEPT_FOR_URGENT, LOOK_AGAIN, WINDOW, TurnedAway, admit, count_anew
from tests.integration.engine import (
    ONE_KIND,
    WHATSAPP,
    Start,
    Town,
    meta,
    texts,
    told,
    until,
)

ARNO, ELSA = "valdarno", "valdelsa"
NOON = 1_800_000_000.0


async def a_portfolio(town: Town, name: str = ARNO, per_day: int = 10) -> None:
    async with town.database.write() as session:
        session.add(tables.Portfolio(name=name, people_per_day=per_day))


async def draws_on(town: Town, portfolio: str = ARNO, account: str = WHATSAPP) -> None:
    await town.run("UPDATE channel_accounts SET portfolio = :p WHERE name = :a", p=portfolio, a=account)


def people(*numbers: int) -> list[Claimed]:
    return [person(number, number.to_bytes(32, "big")) for number in numbers]


def person(number: int, fingerprint: bytes | None) -> Claimed:
    """Somebody claimed; without a fingerprint they have left."""
    sealed = None if fingerprint is None else b"sealed"
    return Claimed(number, 1, number, sealed, again=False, fingerprint=fingerprint)


async def ask(
    town: Town, who: Sequence[Claimed], *, lane: Lane = Lane.ROUTINE, now: float = NOON, portfolio: str = ARNO
) -> TurnedAway:
    async with town.database.write() as session:
        return await admit(session, portfolio, lane, who, now=now)


async def counted(town: Town, now: float = NOON, portfolio: str = ARNO) -> int:
    """Different people told in the window, by the rows."""
    person = tables.PortfolioPerson
    async with town.database.read() as session:
        of_window = select(func.count()).where(person.portfolio == portfolio, person.told_at > now - WINDOW)
        return int(await session.scalar(of_window) or 0)


async def believed(town: Town, portfolio: str = ARNO) -> int:
    async with town.database.read() as session:
        return (await session.get_one(tables.Portfolio, portfolio)).people


async def a_minute_passes(town: Town, now: float) -> None:
    await count_anew(town.database, now=now)


# ── who is let in ───────────────────────────────────────────────────────────────────────────────────


async def test_routine_has_four_fifths_of_the_day_and_the_last_ones_are_turned_away(town: Town) -> None:
    await a_portfolio(town)
    assert KEPT_FOR_URGENT == 0.2
    assert (await ask(town, people(*range(1, 7)))).seqs == frozenset()
    assert (await ask(town, people(*range(7, 13)))).seqs == {9, 10, 11, 12}
    assert await counted(town) == await believed(town) == 8


async def test_somebody_told_again_within_the_day_is_free(town: Town) -> None:
    await a_portfolio(town)
    await ask(town, people(*range(1, 9)))
    assert (await ask(town, people(3, 99, 5), now=NOON + 60)).seqs == {99}
    assert await counted(town, NOON + 60) == 8


async def test_an_emergency_passes_over_the_limit_and_is_counted(town: Town) -> None:
    await a_portfolio(town)
    for lane in (Lane.FLASH, Lane.EMERGENCY):
        first = 100 * (lane.rank + 1)
        assert (await ask(town, people(*range(first, first + 20)), lane=lane)).seqs == frozenset()
    assert await counted(town) == await believed(town) == 40
    assert (await ask(town, people(1))).seqs == {1}, "more than the limit is no room, and no error"
    assert (await ask(town, people(100, 219))).seqs == frozenset(), "told today by the emergency"


async def test_who_waits_for_a_reply_wrote_to_us_and_costs_nothing(town: Town) -> None:
    await a_portfolio(town, per_day=1)
    assert (await ask(town, people(1, 2, 3), lane=Lane.REPLY)).seqs == frozenset()
    assert await counted(town) == await believed(town) == 0


async def test_two_portfolios_do_not_mix(town: Town) -> None:
    await a_portfolio(town, ARNO)
    await a_portfolio(town, ELSA)
    await ask(town, people(*range(1, 9)), portfolio=ARNO)
    assert (await ask(town, people(*range(1, 11)), portfolio=ELSA)).seqs == {9, 10}
    assert (await believed(town, ARNO), await believed(town, ELSA)) == (8, 8)
    assert (await ask(town, people(11), portfolio=ARNO)).seqs == {11}


async def test_the_window_rolls_by_the_second_and_not_at_midnight(town: Town) -> None:
    await a_portfolio(town)
    await ask(town, people(1, 2, 3, 4))
    await ask(town, people(5, 6, 7, 8), now=NOON + 3600)
    just_before, just_after = NOON + WINDOW - 1, NOON + WINDOW + 1
    await a_minute_passes(town, just_before)
    assert len((await ask(town, people(11, 12, 13, 14), now=just_before)).seqs) == 4
    await a_minute_passes(town, just_after + COUNT_EVERY)
    assert await believed(town) == 4
    assert (await ask(town, people(11, 12, 13, 14, 15), now=just_after + COUNT_EVERY)).seqs == {15}


async def test_somebody_told_every_day_is_counted_from_the_last_time(town: Town) -> None:
    await a_portfolio(town)
    await ask(town, people(1))
    await ask(town, people(1), now=NOON + 0.9 * WINDOW)
    later = NOON + 1.5 * WINDOW
    await a_minute_passes(town, later)
    assert (await counted(town, later), await believed(town)) == (1, 1)


async def test_until_says_when_to_ask_again_never_at_once_and_never_much_later(town: Town) -> None:
    await a_portfolio(town)
    await ask(town, people(*range(1, 9)))
    for now in (NOON + 1, NOON + WINDOW / 2, NOON + WINDOW - 300, NOON + WINDOW - 1):
        until = (await ask(town, people(50), now=now)).until
        assert now + COUNT_EVERY <= until <= now + LOOK_AGAIN
    assert (await ask(town, people(50), now=NOON + WINDOW - 300)).until == pytest.approx(NOON + WINDOW)


async def test_nobody_at_all_needs_no_portfolio_row(town: Town) -> None:
    assert (await ask(town, [], portfolio="nessuno")).seqs == frozenset()


async def test_a_portfolio_somebody_draws_on_cannot_go_away(town: Town) -> None:
    await a_portfolio(town)
    await draws_on(town)
    with pytest.raises(IntegrityError):
        await town.run("DELETE FROM portfolios")


# ── any sequence, and all at once ───────────────────────────────────────────────────────────────────

STEP = st.tuples(
    st.sampled_from([*Lane, Lane.ROUTINE, Lane.ROUTINE]),
    st.lists(st.integers(1, 30), max_size=8, unique=True),
    st.sampled_from([0.0, 30.0, 90.0, WINDOW / 3, WINDOW]),
    st.booleans(),
)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEP, max_size=8))
async def test_over_any_sequence_routine_leaves_the_emergencies_their_share(
    town: Town, steps: list[tuple[Lane, list[int], float, bool]]
) -> None:
    async with town.database.write() as session:
        await session.execute(tables.PortfolioPerson.__table__.delete())  # type: ignore[attr-defined]
        await session.merge(tables.Portfolio(name=ARNO, people_per_day=10, people=0, counted_at=0.0))
    now, last = NOON, dict[int, float]()
    for lane, who, later, recount in steps:
        now += later
        if recount:
            await a_minute_passes(town, now)
        before = {one for one, at in last.items() if at > now - WINDOW}
        away = await ask(town, people(*who), lane=lane, now=now)
        passed = set(who) - away.seqs
        assert not away.seqs & before, "told today, and turned away"
        if lane is not Lane.ROUTINE:
            assert not away.seqs
        if lane is Lane.ROUTINE and passed - before:
            assert len(passed | before) <= 8
        if lane is not Lane.REPLY:
            last |= dict.fromkeys(passed, now)
        alive = {one for one, at in last.items() if at > now - WINDOW}
        assert await counted(town, now) == len(alive)
        assert await believed(town) >= len(alive), "never fewer than we told"
    now += COUNT_EVERY + 1
    await a_minute_passes(town, now)
    assert await believed(town) == await counted(town, now)


@ONE_KIND
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_however_many_claim_at_once_no_two_take_the_last_place(town: Town, seed: int) -> None:
    await a_portfolio(town, per_day=100)
    dice = random.Random(seed)
    slices = [people(*dice.sample(range(1, 300), 7)) for _ in range(40)]
    lanes = [dice.choice([Lane.ROUTINE] * 4 + [Lane.EMERGENCY]) for _ in slices]
    async with asyncio.TaskGroup() as tasks:
        asking = [tasks.create_task(ask(town, who, lane=lane)) for who, lane in zip(slices, lanes, strict=True)]
        for minute in range(3):
            tasks.create_task(a_minute_passes(town, NOON + minute * (COUNT_EVERY + 1)))
    answers = [task.result() for task in asking]
    urgent, routine = set[int](), set[int]()
    for who, lane, answer in zip(slices, lanes, answers, strict=True):
        passed = {one.seq for one in who} - answer.seqs
        assert lane is Lane.ROUTINE or not answer.seqs
        (urgent if lane is Lane.EMERGENCY else routine).update(passed)
    assert len(routine - urgent) <= 80
    assert await counted(town) == await believed(town) == len(routine | urgent)


# ── from the queue to the phones ────────────────────────────────────────────────────────────────────


@ONE_KIND
async def test_routine_ends_at_eight_of_ten_and_an_emergency_still_reaches_all_twenty(
    town: Town, engine: Start
) -> None:
    numbers = await town.subscribe(20)
    await a_portfolio(town)
    await draws_on(town)
    async with meta() as served, engine(served, workers=2):
        routine = await town.issue(urgent=False)

        async def rests() -> bool:
            return [batch.state for batch in await town.batches(routine)] == ["resting"]

        await until(rests)
        assert len(texts(served)) == 8
        waiting = [row for row in await town.deliveries(routine) if row.progress == Progress.DEFERRED.value]
        assert {(row.reason, row.attempts, row.claimed_until) for row in waiting} == {("daily_quota", 0, 0.0)}
        assert len(waiting) == 12
        assert all(time.time() + 30 < row.due_at <= time.time() + LOOK_AGAIN for row in waiting)
        assert await town.count(tables.Attempt) == 8
        emergency = await town.issue()
        await until(lambda: town.is_over(emergency))
        assert await town.summary(emergency) == {Progress.ACCEPTED: 20}
        assert set(told(served)) == set(numbers)
        assert (await town.summary(routine))[Progress.DEFERRED] == 12, "they wait; nobody was lost or failed"
        # Told by the emergency: they are free today, and hear of the feast when their batch is back.
        await town.run("UPDATE deliveries SET due_at = 0 WHERE dispatch_id = :d", d=routine)
        [batch] = await town.batches(routine)
        await town.run("UPDATE batches SET touched_at = 0 WHERE id = :b", b=batch.id)
        await _tell_again(town, routine)
        await until(lambda: town.is_over(routine))
        assert told(served) == dict.fromkeys(numbers, 2)


async def _tell_again(town: Town, dispatch: int) -> None:
    async with town.database.write() as session:
        held = await batching.hold(session, dispatch)
        for row in (await session.scalars(select(tables.Batch).where(tables.Batch.dispatch_id == dispatch))).all():
            await batching.tell_again(session, row, held.not_after)


@ONE_KIND
async def test_one_person_with_two_numbers_of_the_same_business_counts_once(town: Town) -> None:
    """Two comuni in one portfolio: whoever subscribed to both is one of its people, not two."""
    await a_portfolio(town)
    for account in (WHATSAPP, "whatsapp.fucecchio"):
        await draws_on(town, account=account)
    numbers = await town.subscribe(8)
    fucecchio = town.authorities["fucecchio"]
    access = next(one for one in fucecchio.channels if one.channel is Channel.WHATSAPP)
    async with town.database.write() as session:
        for number in numbers:
            who = Subscriber(fucecchio, access, number)
            await subscribing.join(session, who, town.seal, keyword="ISCRIZIONE", now=datetime.now(UTC))
    async with town.database.read() as session:
        rows = (await session.execute(select(tables.Address.account, tables.Address.fingerprint))).all()
    for account in (WHATSAPP, "whatsapp.fucecchio"):
        slice_of = [person(at, row.fingerprint) for at, row in enumerate(rows) if row.account == account]
        assert len(slice_of) == 8
        assert (await ask(town, slice_of)).seqs == frozenset()
    assert await counted(town) == await believed(town) == 8


@ONE_KIND
async def test_who_left_is_withdrawn_though_the_day_is_full(town: Town, engine: Start) -> None:
    await a_portfolio(town)
    await draws_on(town)
    numbers = await town.subscribe(12)
    dispatch = await town.issue(urgent=False)
    await town.fan_out(dispatch)
    async with town.database.write() as session:
        for number in numbers[-2:]:
            who = Subscriber(town.authority, town.whatsapp, number)
            await subscribing.leave(session, who, town.seal, keyword="STOP", now=datetime.now(UTC))
    async with meta() as served, engine(served):
        await until(lambda: _has(town, dispatch, Progress.ACCEPTED, 8))
        await until(lambda: _has(town, dispatch, Progress.WITHDRAWN, 2), within=3)
        assert set(told(served)) == set(numbers[:8])
        assert await believed(town) == 8, "who left takes nobody's place in the day"


async def _has(town: Town, dispatch: int, progress: Progress, people: int) -> bool:
    return (await town.summary(dispatch)).get(progress) == people


async def test_the_files_make_the_portfolio_and_a_second_run_keeps_what_is_counted(town: Town) -> None:
    access = replace(town.whatsapp, portfolio=ARNO, people_per_day=2000)
    authority = replace(town.authority, channels=(access,))

    async def enrolled(limit: int) -> tables.Portfolio:
        again = replace(authority, channels=(replace(access, people_per_day=limit),))
        async with town.database.write() as session:
            await enrol(session, [again], town.seal, share_of_limit=1.0, now=datetime.now(UTC))
        async with town.database.read() as session:
            return await session.get_one(tables.Portfolio, ARNO)

    assert (await enrolled(2000)).people_per_day == 2000
    await ask(town, people(1, 2, 3))
    row = await enrolled(10_000)
    assert (row.people_per_day, row.people) == (10_000, 3)


def test_what_is_kept_for_the_urgent_is_a_fifth() -> None:
    assert quota._most(tables.Portfolio(name=ARNO, people_per_day=2000), Lane.ROUTINE) == 1600
    assert quota._most(tables.Portfolio(name=ARNO, people_per_day=2000), Lane.FLASH) == 2000
