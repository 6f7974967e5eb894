"""From a promise to people's phones, on the real broker, with the real adapter and Meta's simulator."""

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from alerting import batching, ordering, subscribing, wire
from alerting.domain.delivery import Channel, Progress
from alerting.domain.events import BatchReady
from alerting.domain.lanes import Lane
from alerting.ordering import Came
from alerting.persistence import tables
from alerting.subscribing import Subscriber
from alerting.topology import DELIVERIES, delivery_key
from consumers import deliver
from tests.integration.engine import ONE_KIND, Start, Town, meta, texts, told, until


async def over(town: Town, dispatch: int, within: float = 20.0) -> dict[Progress, int]:
    await until(lambda: town.is_over(dispatch), within=within)
    return await town.summary(dispatch)


async def test_an_alert_reaches_everybody_once_and_its_batches_end(town: Town, engine: Start) -> None:
    numbers = await town.subscribe(250)
    async with meta() as served, engine(served, workers=2):
        dispatch = await town.issue()
        assert await over(town, dispatch) == {Progress.ACCEPTED: 250}

        async def done() -> bool:
            return {batch.state for batch in await town.batches(dispatch)} == {"done"}

        await until(done)
        assert told(served) == dict.fromkeys(numbers, 1)
    assert await town.count(tables.Attempt) == 250


async def test_who_leaves_while_a_broadcast_is_going_out_is_not_told_any_more(town: Town, engine: Start) -> None:
    numbers = await town.subscribe(200)
    leaving = numbers[-40:]
    async with meta() as served, engine(served):
        await town.run("UPDATE provider_rates SET rate = 40, full_rate = 40")
        dispatch = await town.issue(urgent=False)
        await until(lambda: len(texts(served)) > 10)
        async with town.database.write() as session:
            for number in leaving:
                who = Subscriber(town.authority, town.whatsapp, number, wrote_at=datetime.now(UTC))
                assert await ordering.leave(session, who, town.seal, keyword="STOP", now=datetime.now(UTC)) is Came.NEW
        assert len(texts(served)) < 160, "it was over before anybody could leave"
        await over(town, dispatch)
        assert told(served) == dict.fromkeys(numbers[:-40], 1)


@ONE_KIND
async def test_an_emergency_overtakes_the_routine_that_is_already_going_out(town: Town, engine: Start) -> None:
    await town.subscribe(300)
    async with meta() as served, engine(served):
        await town.run("UPDATE provider_rates SET rate = 100, full_rate = 100")
        routine = await town.issue(urgent=False)
        await until(lambda: len(texts(served)) > 20)
        emergency = await town.issue()
        await over(town, emergency)
        await over(town, routine)
        kinds = [text["reference"].partition(".")[0] for text in texts(served)]
        ours = [place for place, kind in enumerate(kinds) if kind == str(emergency)]
        between = kinds[ours[0] : ours[-1]].count(str(routine))
        assert len(ours) == 300
        assert between <= 16
        assert set(told(served).values()) == {2}


@ONE_KIND
async def test_who_is_deferred_comes_back_through_a_wait_queue_in_the_same_lane(town: Town, engine: Start) -> None:
    await town.subscribe(5)
    async with meta(faults={131016: 1.0}) as served, engine(served):
        dispatch = await town.issue()

        async def deferred() -> bool:
            return (await town.summary(dispatch)).get(Progress.DEFERRED) == 5

        await until(deferred)
        served.simulator.configure({"faults": {}})
        assert await over(town, dispatch) == {Progress.ACCEPTED: 5}
        [batch] = await town.batches(dispatch)
        assert batch.lane is Lane.EMERGENCY
        attempts = {row.attempts for row in await town.deliveries(dispatch)}
        assert attempts == {2}


@ONE_KIND
async def test_what_is_not_ours_goes_to_the_dead_letters_of_its_lane_and_the_next_is_told(
    town: Town, engine: Start
) -> None:
    now = datetime.now(UTC)
    gone = BatchReady(4711, 4711, Channel.WHATSAPP, "whatsapp.calcinaia", Lane.FLASH, 1, 5, now + timedelta(hours=1), 1)
    newer = json.loads(wire.encode(gone)) | {"v": 99, "event": "BatchReadyAndWilling"}
    elsewhere = json.loads(wire.encode(gone)) | {"channel": "telegram"}
    huge = json.loads(wire.encode(gone)) | {"batch": 10**30}
    bodies = [
        b"\x00\xff not JSON",
        b"[]",
        b'{"v": 1}',
        b"[" * 100_000,
        json.dumps(newer).encode(),
        json.dumps(elsewhere).encode(),
        json.dumps(huge).encode(),
        wire.encode(gone),
    ]
    await town.subscribe(3)

    async def buried_are(lane: Lane, bodies: list[bytes]) -> bool:
        async with town.database.read() as session:
            rows = await session.scalars(select(tables.DeadLetter.body).where(tables.DeadLetter.lane == lane))
            return sorted(rows) == sorted(bodies)

    async with meta() as served, engine(served) as running:
        for lane in (Lane.FLASH, Lane.ROUTINE):
            for body in bodies:
                await running.put(DELIVERIES, delivery_key(Channel.WHATSAPP, lane), body)
            await until(lambda lane=lane: buried_are(lane, bodies), within=60)
        await running.put("alerts", "flash.met.calcinaia", b"nonsense")
        await until(lambda: buried_are(Lane.FLASH, [*bodies, b"nonsense"]))
        assert await over(town, await town.issue()) == {Progress.ACCEPTED: 3}


@ONE_KIND
async def test_a_batch_given_twice_is_recognised(town: Town, engine: Start) -> None:
    await town.subscribe(20)
    async with meta() as served, engine(served, workers=2) as running:
        dispatch = await town.issue()

        async def cut() -> bool:
            return bool(await town.batches(dispatch))

        await until(cut)
        [batch] = await town.batches(dispatch)
        body = wire.encode(batching.ready(batch, datetime.now(UTC) + timedelta(hours=1)))
        for _ in range(3):
            await running.put(DELIVERIES, delivery_key(Channel.WHATSAPP, Lane.EMERGENCY), body)
        await over(town, dispatch)
        await running.put(DELIVERIES, delivery_key(Channel.WHATSAPP, Lane.EMERGENCY), body)
        await asyncio.sleep(1.5)
        assert set(told(served).values()) == {1}


@ONE_KIND
async def test_after_it_has_expired_nobody_is_told(town: Town, engine: Start) -> None:
    await town.subscribe(5)
    dispatch = await town.issue(lasts=timedelta(seconds=1))
    await asyncio.sleep(1.1)
    async with meta() as served, engine(served):
        assert await over(town, dispatch) == {Progress.FAILED: 5}
        assert told(served) == {}
    assert {row.reason for row in await town.deliveries(dispatch)} == {"expired"}


@ONE_KIND
async def test_an_expired_batch_does_not_end_before_those_a_dead_worker_had_claimed(town: Town, engine: Start) -> None:
    dispatch = await town.issued_and_fanned_out(3, lasts=timedelta(seconds=1))
    await town.run(
        "UPDATE deliveries SET progress = 1, attempts = 1, claimed_until = :t WHERE seq = 2", t=time.time() + 3
    )
    await asyncio.sleep(1.1)
    async with meta() as served, engine(served):
        assert await over(town, dispatch) == {Progress.FAILED: 2, Progress.UNRESOLVED: 1}
        assert told(served) == {}


@ONE_KIND
async def test_who_left_after_the_audience_was_frozen_is_not_told(town: Town, engine: Start) -> None:
    [stays, leaves] = await town.subscribe(2)
    dispatch = await town.issue()
    await town.fan_out(dispatch)
    who = Subscriber(town.authority, town.whatsapp, leaves)
    async with town.database.write() as session:
        await subscribing.leave(session, who, town.seal, keyword="STOP", now=datetime.now(UTC))
    async with meta() as served, engine(served):
        assert await over(town, dispatch) == {Progress.ACCEPTED: 1, Progress.WITHDRAWN: 1}
        assert told(served) == {stays: 1}


@ONE_KIND
async def test_a_text_the_provider_rejects_is_asked_about_sparingly_and_told_when_its_template_is_right(
    town: Town, engine: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "REJECTION_LASTS", timedelta(seconds=0.5))
    await town.subscribe(4)
    async with meta(faults={132015: 1.0}) as served, engine(served):
        dispatch = await town.issue()
        await until(lambda: sum(served.simulator.phones.refused.values()) >= 2)
        assert sum(served.simulator.phones.refused.values()) < 12, "not everybody again and again"
        served.simulator.configure({"faults": {}})
        assert await over(town, dispatch) == {Progress.ACCEPTED: 4}
        assert await over(town, await town.issue()) == {Progress.ACCEPTED: 4}


@ONE_KIND
async def test_a_halted_account_is_left_alone_noted_and_probed_and_loses_nobody(town: Town, engine: Start) -> None:
    await town.subscribe(60)
    async with meta(faults={190: 1.0}) as served, engine(served):
        dispatch = await town.issue()

        async def noted() -> bool:
            async with town.database.read() as session:
                account = await session.get_one(tables.ProviderRate, town.whatsapp.name)
                return account.halted_at > 0 and "190" in (account.halted_because or "")

        await until(noted)
        await asyncio.sleep(1)
        assert sum(served.simulator.phones.refused.values()) <= 20, "a halted account was asked for everybody"
        served.simulator.configure({"faults": {}})
        assert await over(town, dispatch, within=60) == {Progress.ACCEPTED: 60}


@ONE_KIND
async def test_a_cancelled_alert_stops_at_once_and_only_those_told_hear_of_it(town: Town, engine: Start) -> None:
    await town.subscribe(300)
    async with meta() as served, engine(served):
        await town.run("UPDATE provider_rates SET rate = 50, full_rate = 50")
        dispatch = await town.issue()
        await until(lambda: len(texts(served)) >= 20)
        cancel = await town.cancel(dispatch)
        await over(town, dispatch)
        await over(town, cancel)
        first = [text["to"] for text in texts(served) if text["reference"].startswith(f"{dispatch}.")]
        second = [text["to"] for text in texts(served) if text["reference"].startswith(f"{cancel}.")]
        assert len(first) < 100
        assert sorted(first) == sorted(second)
        order = [text["reference"].partition(".")[0] for text in texts(served)]
        assert order.index(str(cancel)) > len(order) - order[::-1].index(str(dispatch)) - 1


@ONE_KIND
async def test_a_worker_that_drains_leaves_nobody_claimed(town: Town, engine: Start) -> None:
    await town.subscribe(300)
    async with meta(latency=0.1) as served:
        async with engine(served):
            await town.run("UPDATE provider_rates SET rate = 100, full_rate = 100")
            dispatch = await town.issue()
            await until(lambda: len(texts(served)) >= 30)
        stands = await town.summary(dispatch)
        assert Progress.SENDING not in stands
        assert stands[Progress.ACCEPTED] == len(texts(served))
        async with engine(served):
            await over(town, dispatch)
        assert set(told(served).values()) == {1}
