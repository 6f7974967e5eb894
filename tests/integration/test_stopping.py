"""What was taken back, or is over, is told to nobody more within a second, wherever it waits just then."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from alerting import batching
from alerting.amqp import Incoming
from alerting.domain import delivery
from alerting.domain.delivery import Progress
from alerting.persistence import ledger, tables
from consumers import deliver, line
from consumers.pacing import Pacer
from consumers.reconcile import Reconciler
from consumers.simulators.serving import Served
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

pytestmark = ONE_KIND
A_SECOND = 1.0
LOADED = 0.5
"""Seconds of margin: the machine is busy with other tests, and we look from outside."""


@pytest.fixture
async def reconciler(town: Town) -> AsyncIterator[None]:
    """Ends what has expired, as the process of that name does."""
    task = asyncio.create_task(Reconciler(town.database).run())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def slowly(town: Town, per_second: float = 50) -> None:
    await town.run("UPDATE provider_rates SET rate = :r, full_rate = :r", r=per_second)


def accepted_at(served: Served, dispatch: int) -> list[float]:
    """When each text of a dispatch reached a phone (Unix time)."""
    lines = [json.loads(line) for line in served.simulator.phones._lines]
    return [line["at"] for line in lines if line["reference"].startswith(f"{dispatch}.")]


async def seconds_until(true: Callable[[], Awaitable[bool]], since: float, within: float = 10.0) -> float:
    await until(true, within=within)
    return time.time() - since


def all_final(town: Town, dispatch: int) -> Callable[[], Awaitable[bool]]:
    async def are() -> bool:
        return all(progress.is_final for progress in await town.summary(dispatch))

    return are


async def the_end(town: Town, dispatch: int) -> float:
    async with town.database.read() as session:
        return (await session.get_one(tables.Dispatch, dispatch)).not_after.timestamp()


async def check_stopped(town: Town, served: Served, dispatch: int, at: float) -> None:
    """Everybody final within a second of the stop, and nobody told later than that."""
    took = await seconds_until(all_final(town, dispatch), at)
    assert took <= A_SECOND + LOADED, f"somebody of it still waited {took:.2f} s later"
    after = len(accepted_at(served, dispatch))
    await asyncio.sleep(1.0)
    told_at = accepted_at(served, dispatch)
    assert len(told_at) == after, "told after everybody was final"
    assert max(told_at, default=0.0) <= at + A_SECOND


async def cancel(town: Town, dispatch: int) -> tuple[int, float]:
    """The Cancel, and when it was committed."""
    return await town.cancel(dispatch), time.time()


# ── cancelled ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("urgent", [True, False], ids=["emergency", "routine"])
async def test_hundreds_in_the_hand_of_workers_are_let_go(town: Town, engine: Start, urgent: bool) -> None:
    await town.subscribe(900)
    async with meta(latency=0.05) as served, engine(served, workers=2):
        await slowly(town)
        dispatch = await town.issue(urgent=urgent)
        await until(lambda: len(texts(served)) >= 20)
        retraction, at = await cancel(town, dispatch)
        await check_stopped(town, served, dispatch, at)
        assert len(accepted_at(served, dispatch)) < 200
        await until(lambda: town.is_over(retraction), within=60)
        got = {text["to"] for text in texts(served) if text["reference"].startswith(f"{dispatch}.")}
        heard = [text["to"] for text in texts(served) if text["reference"].startswith(f"{retraction}.")]
        assert sorted(heard) == sorted(got), "exactly those who got it"
        assert min(accepted_at(served, retraction)) >= max(accepted_at(served, dispatch))

        async def batches_done() -> bool:
            return {batch.state for batch in await town.batches(dispatch)} <= {"done", "waiting"}

        await until(batches_done)


async def test_what_rests_does_not_come_back_from_its_rest(town: Town, engine: Start) -> None:
    await town.subscribe(5)
    async with meta(faults={131016: 1.0}) as served, engine(served):
        dispatch = await town.issue()

        async def rests() -> bool:
            return [batch.state for batch in await town.batches(dispatch)] == ["resting"]

        await until(rests)
        served.simulator.configure({"faults": {}})
        _, at = await cancel(town, dispatch)
        await check_stopped(town, served, dispatch, at)
        assert await town.summary(dispatch) == {Progress.WITHDRAWN: 5}
        assert told(served) == {}


async def test_what_waits_in_the_database_and_in_the_queue_is_withdrawn(town: Town, engine: Start) -> None:
    """No worker is there: six batches are told and stand in RabbitMQ, the rest waits in the database."""
    await town.subscribe(900)
    async with meta() as served, engine(served, workers=0):
        dispatch = await town.issue()

        async def told_some() -> bool:
            states = [batch.state for batch in await town.batches(dispatch)]
            return states.count("told") == 6 and states.count("waiting") == 3

        await until(told_some)
        _, at = await cancel(town, dispatch)
        await check_stopped(town, served, dispatch, at)
        assert await town.summary(dispatch) == {Progress.WITHDRAWN: 900}


async def test_what_stands_before_a_halted_account_is_withdrawn(town: Town, engine: Start) -> None:
    await town.subscribe(300)
    async with meta(faults={190: 1.0}) as served, engine(served):
        dispatch = await town.issue()

        async def is_halted() -> bool:
            async with town.database.read() as session:
                return (await session.get_one(tables.ProviderRate, WHATSAPP)).halted_at > 0

        await until(is_halted)
        await asyncio.sleep(0.3)
        _, at = await cancel(town, dispatch)
        await check_stopped(town, served, dispatch, at)
        served.simulator.configure({"faults": {}})
        await asyncio.sleep(1)
        assert told(served) == {}


async def test_what_waits_for_the_room_of_tomorrow_is_withdrawn(town: Town, engine: Start) -> None:
    await town.subscribe(30)
    async with town.database.write() as session:
        session.add(tables.Portfolio(name="valdarno", people_per_day=10))
    await town.run("UPDATE channel_accounts SET portfolio = 'valdarno'")
    async with meta() as served, engine(served):
        dispatch = await town.issue(urgent=False)

        async def rests() -> bool:
            return [batch.state for batch in await town.batches(dispatch)] == ["resting"]

        await until(rests)
        _, at = await cancel(town, dispatch)
        await check_stopped(town, served, dispatch, at)
        assert await town.summary(dispatch) == {Progress.ACCEPTED: 8, Progress.WITHDRAWN: 22}


async def test_whoever_a_slower_lane_keeps_ready_is_let_go_too(town: Town, engine: Start) -> None:
    """Routine people claimed by a worker whom an emergency keeps from being told."""
    await town.subscribe(400)
    async with meta() as served, engine(served):
        await slowly(town, 40)
        routine = await town.issue(urgent=False)
        await until(lambda: len(accepted_at(served, routine)) >= 10)
        await town.issue()
        await asyncio.sleep(0.5)
        _, at = await cancel(town, routine)
        await check_stopped(town, served, routine, at)


async def test_another_alert_in_the_same_hand_goes_on(town: Town, engine: Start) -> None:
    numbers = await town.subscribe(120)
    async with meta() as served, engine(served):
        await slowly(town, 100)
        stays, goes = await town.issue(urgent=False), await town.issue(urgent=False)
        await until(lambda: len(accepted_at(served, goes)) >= 10)
        await cancel(town, goes)
        await until(lambda: town.is_over(stays), within=60)
        assert await town.summary(stays) == {Progress.ACCEPTED: len(numbers)}


# ── expired ─────────────────────────────────────────────────────────────────────────────────────────


async def test_when_its_time_is_over_nobody_more_is_told_and_everybody_is_final(
    town: Town, engine: Start, reconciler: None
) -> None:
    await town.subscribe(600)
    async with meta() as served, engine(served, workers=2):
        await slowly(town)
        dispatch = await town.issue(urgent=False, lasts=timedelta(seconds=3))
        await until(lambda: len(texts(served)) >= 20)
        end = await the_end(town, dispatch)
        await asyncio.sleep(end - time.time())
        await check_stopped(town, served, dispatch, end)
        stands = await town.summary(dispatch)
        assert stands[Progress.ACCEPTED] == len(texts(served))
        reasons = {row.reason for row in await town.deliveries(dispatch) if row.progress == Progress.FAILED.value}
        assert reasons == {"expired"}


async def test_whoever_is_given_back_at_the_end_does_not_wait_for_a_call_that_hangs(
    town: Town, engine: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reconciler looks at the very end, when they are in a worker's hand; it ends an alert once."""
    monkeypatch.setattr(line, "CALLS_FINISH_WITHIN", 0.5)
    town.numbers = iter([*range(10, 300, 10), 504, *range(300, 9000, 10)])
    await town.subscribe(500)
    async with meta() as served, engine(served):
        await slowly(town, 80)
        dispatch = await town.issue(urgent=False, lasts=timedelta(seconds=3))
        await until(lambda: len(texts(served)) > 50)
        end = await the_end(town, dispatch)
        await asyncio.sleep(end - 1.0 - time.time())
        await town.issue()  # whoever of the routine is claimed stays in hand, and is not told
        await asyncio.sleep(end - time.time())

        async def nobody_waits() -> bool:
            return not {Progress.WAITING, Progress.DEFERRED} & set(await town.summary(dispatch))

        await Reconciler(town.database).look(time.time())
        await asyncio.sleep(2 * deliver.LOOKS_FOR_WITHDRAWN)  # whoever was in hand is given back by now
        took = await seconds_until(nobody_waits, end, within=4)
        assert took <= A_SECOND + LOADED


async def test_a_batch_dropped_in_the_middle_of_a_claim_is_settled_once(
    town: Town, engine: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To acknowledge a message twice closes its channel, and everything on it is given again."""
    acked: Counter[tuple[int, int]] = Counter()
    slow = asyncio.Event()
    claim, ack = ledger.claim, Incoming.ack

    async def slowly_claimed(*how: Any, **more: Any) -> list[ledger.Claimed]:
        claimed = await claim(*how, **more)
        if slow.is_set():
            await asyncio.sleep(0.7)
        return claimed

    def noted(self: Incoming) -> None:
        acked[id(self._channel), self._tag] += 1
        ack(self)

    monkeypatch.setattr(ledger, "claim", slowly_claimed)
    monkeypatch.setattr(Incoming, "ack", noted)
    await town.subscribe(200)
    async with meta() as served, engine(served):
        await slowly(town)
        dispatch = await town.issue(urgent=False)
        await until(lambda: len(texts(served)) >= 10)
        slow.set()
        await asyncio.sleep(0.3)
        retraction, at = await cancel(town, dispatch)
        await seconds_until(all_final(town, dispatch), at)
        await until(lambda: town.is_over(retraction), within=60)
        await asyncio.sleep(0.5)
    assert acked
    assert max(acked.values()) == 1


async def test_what_ends_before_a_halted_account_is_final_within_a_second(
    town: Town, engine: Start, reconciler: None
) -> None:
    await town.subscribe(100)
    await Pacer(town.database).halt(WHATSAPP, "190")
    async with meta(faults={190: 1.0}) as served, engine(served):
        dispatch = await town.issue(lasts=timedelta(seconds=3))
        end = await the_end(town, dispatch)
        await asyncio.sleep(end - time.time())
        await check_stopped(town, served, dispatch, end)
        assert await town.summary(dispatch) == {Progress.FAILED: 100}


async def test_what_ends_while_it_rests_is_final_within_a_second(
    town: Town, engine: Start, reconciler: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "FIRST_WAIT", timedelta(seconds=2))  # rests for five
    await town.subscribe(5)
    async with meta(faults={131016: 1.0}) as served, engine(served):
        dispatch = await town.issue(lasts=timedelta(seconds=6))

        async def rests() -> bool:
            return [batch.state for batch in await town.batches(dispatch)] == ["resting"]

        await until(rests)
        end = await the_end(town, dispatch)
        await asyncio.sleep(max(0.0, end - time.time()))
        await check_stopped(town, served, dispatch, end)
        assert told(served) == {}


# ── and what a stop must not undo ───────────────────────────────────────────────────────────────────


async def test_a_message_of_a_cancelled_batch_that_comes_late_is_put_away(town: Town, engine: Start) -> None:
    await town.subscribe(5)
    async with meta() as served, engine(served):
        dispatch = await town.issue()
        await until(lambda: town.is_over(dispatch))
        await cancel(town, dispatch)
        async with town.database.write() as session:
            held = await batching.hold(session, dispatch)
            query = select(tables.Batch).where(tables.Batch.dispatch_id == dispatch)
            for row in (await session.scalars(query)).all():
                await batching.tell_again(session, row, held.not_after)
        await asyncio.sleep(1)
        assert len(accepted_at(served, dispatch)) == 5
        assert await town.count(tables.DeadLetter) == 0
