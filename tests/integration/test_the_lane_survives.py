"""A message may be put off, given back, lost and told again: it stays in the lane that stands on its row.

An ear on every exchange hears whatever is published about a batch, whichever queue it then lies in.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import token_hex
from typing import Any

import pika
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alerting import batching, wire
from alerting.amqp import Outgoing
from alerting.domain.delivery import Channel, Deferred, Progress, Reason, decide
from alerting.domain.events import BatchReady
from alerting.domain.lanes import Lane
from alerting.outbox import addressed
from alerting.persistence import ledger, tables
from alerting.topology import ALERTS, DEAD, DELIVERIES, OFFERED, WAITS, delivery_key
from consumers.local.private_rabbitmq import PrivateRabbitMQ
from consumers.local.stack import ROOT
from consumers.reconcile import Reconciler
from consumers.recording import resting
from tests.integration.engine import (
    KEY,
    ONE_KIND,
    Engine,
    Start,
    Town,
    an_engine,
    delivering,
    meta,
    texts,
    told,
    until,
)

MUCH_LATER = 3600.0  # seconds: longer than any patience of the reconciler, shorter than the alerts live
SETTLES = 6.0  # seconds: RabbitMQ 3.10 may lose a quorum queue that is killed right after its declaration


# ── an ear ──────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Heard:
    """One message that was published, or that came back from a wait queue."""

    exchange: str
    key: str
    headers: dict[str, Any]
    body: bytes


@dataclass
class Ear:
    """A queue that gets a copy of everything. It outlives the broker's death, not its wiping."""

    url: str
    prefix: str

    async def open(self) -> None:
        await asyncio.to_thread(self._open)

    def _open(self) -> None:
        with pika.BlockingConnection(pika.URLParameters(self.url)) as connection:
            channel = connection.channel()
            channel.queue_declare(self._queue, durable=True, arguments={"x-queue-type": "quorum"})
            for exchange in (ALERTS, DELIVERIES, DEAD):
                channel.queue_bind(self._queue, self.prefix + exchange, "#")
            channel.queue_bind(self._queue, self.prefix + WAITS, "", {"x-match": "all"})  # no condition: everything

    async def heard(self) -> list[Heard]:
        """Everything so far, and forget it."""
        return await asyncio.to_thread(self._take)

    def _take(self) -> list[Heard]:
        found: list[Heard] = []
        with pika.BlockingConnection(pika.URLParameters(self.url)) as connection:
            channel = connection.channel()
            while True:
                method, properties, body = channel.basic_get(self._queue, auto_ack=True)
                if method is None:
                    return found
                exchange = method.exchange.removeprefix(self.prefix)
                found.append(Heard(exchange, method.routing_key, properties.headers or {}, body))

    async def close(self) -> None:
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        with pika.BlockingConnection(pika.URLParameters(self.url)) as connection:
            connection.channel().queue_delete(self._queue)

    @property
    def _queue(self) -> str:
        return f"{self.prefix}ear"


def all_in_lane(heard: list[Heard], batch: tables.Batch) -> list[Heard]:
    """What was said of a batch: never in another lane than the one on its row, by header, by key and in its words."""
    of_batch = []
    for one in heard:
        if one.key.startswith(OFFERED):
            continue  # the CAP document, for whoever listens
        event = wire.decode(one.body)
        if not isinstance(event, BatchReady) or event.batch != batch.id:
            continue
        of_batch.append(one)
        assert event.lane is batch.lane
        assert one.headers["lane"] == str(batch.lane)
        # The key decides which queue it goes to, now or after its wait: tests/unit/test_topology.py.
        assert one.key == (str(batch.lane) if one.exchange == DEAD else delivery_key(batch.channel, batch.lane))
    assert of_batch, "nothing was heard of it at all"
    return of_batch


def exchanges(heard: list[Heard]) -> list[str]:
    return [one.exchange for one in heard]


def lane_of(urgent: bool) -> Lane:
    return Lane.EMERGENCY if urgent else Lane.ROUTINE


async def the_batch(town: Town, dispatch: int) -> tables.Batch:
    [batch] = await town.batches(dispatch)
    return batch


async def issue_both(town: Town) -> list[int]:
    """An emergency and event news to the same people: their dispatches."""
    return [await town.issue(urgent=True), await town.issue(urgent=False)]


async def are_told(town: Town, dispatches: list[int]) -> list[tables.Batch]:
    """Their batches, once the fan-out made them and the relay told them."""

    async def all_told() -> bool:
        return all([await town.batches(one) for one in dispatches]) and not await town.outbox()

    await until(all_told, within=60)
    return [await the_batch(town, one) for one in dispatches]


async def are_over(town: Town, dispatches: list[int]) -> list[tables.Batch]:
    """Their batches, once everybody is in a final state; each in the lane it was issued in."""
    for one in dispatches:
        await until(lambda one=one: town.is_over(one), within=60)
    batches = [await the_batch(town, one) for one in dispatches]
    assert [batch.lane for batch in batches] == [Lane.EMERGENCY, Lane.ROUTINE]
    return batches


# ── retry, and waiting for the provider ─────────────────────────────────────────────────────────────


@pytest.fixture
async def ear(amqp_url: str, amqp_prefix: str) -> AsyncIterator[Ear]:
    """Not open yet: the exchanges are declared by the engine."""
    ear = Ear(amqp_url, amqp_prefix)
    yield ear
    await ear.close()


@ONE_KIND
@pytest.mark.parametrize("fault", [131016, 130429], ids=["unavailable", "throttled"])
async def test_through_a_retry_and_through_the_wait_a_provider_asks_for(
    town: Town, engine: Start, ear: Ear, fault: int
) -> None:
    numbers = await town.subscribe(3)
    async with meta(faults={fault: 1.0}) as served, engine(served):
        await ear.open()
        dispatches = await issue_both(town)
        heard: list[Heard] = []

        async def both_rested() -> bool:
            heard.extend(await ear.heard())
            return {one.key for one in heard if one.exchange == WAITS} == {"whatsapp.emergency", "whatsapp.routine"}

        await until(both_rested, within=60)
        served.simulator.configure({"faults": {}})
        batches = await are_over(town, dispatches)
        heard += await ear.heard()
        for batch in batches:
            way = exchanges(all_in_lane(heard, batch))
            assert way[:2] == [DELIVERIES, WAITS]
            assert way.count(DELIVERIES) > way.count(WAITS), "it came back each time"
        assert told(served) == dict.fromkeys(numbers, 2)


# ── a worker that dies ──────────────────────────────────────────────────────────────────────────────


@ONE_KIND
async def test_through_the_death_of_its_worker(town: Town, engine: Start, ear: Ear) -> None:
    numbers = await town.subscribe(60)
    await town.run("UPDATE provider_rates SET rate = 60, full_rate = 60")
    async with meta() as served, engine(served, workers=0) as running:
        await ear.open()
        dispatches = await issue_both(town)
        process = a_delivery_process(running)
        try:
            await until(lambda: len(texts(served)) >= 30, within=60)
        finally:
            process.kill()
            process.wait()
        # Its claims are shortened to what is left of a slice's time, or the test would wait for half a minute.
        await town.run("UPDATE deliveries SET claimed_until = :t WHERE progress = 1", t=time.time() + 3)
        async with delivering(running.settings, served):
            batches = await are_over(town, dispatches)
        heard = await ear.heard()
        for batch in batches:
            all_in_lane(heard, batch)
        assert told(served).keys() == set(numbers)
        assert sum(told(served).values()) - 2 * len(numbers) <= 10, "more than the slice it had in hand"


def a_delivery_process(running: Engine) -> "subprocess.Popen[bytes]":
    """A real one, which can be killed as none inside this process can."""
    settings = running.settings
    environment = os.environ | {
        "AMQP_URL": running.url,
        "DATABASE_URL": running.town.database.url,
        "ALERTING_AMQP_PREFIX": running.prefix,
        "ALERTING_KEY": KEY,
        "ALERTING_SECRETS_FILE": str(settings.secrets_file),
        "WHATSAPP_URL": settings.whatsapp_url,
        "METRICS_PORT": "0",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "consumers", "deliver", "--channel", "whatsapp"]
    return subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.DEVNULL)


# ── a broker that dies, or forgets ──────────────────────────────────────────────────────────────────


@ONE_KIND
async def test_through_the_death_of_the_broker_in_the_queue_and_in_the_wait_queue(
    town: Town, mortal_broker: PrivateRabbitMQ, tmp_path: Path
) -> None:
    numbers = await town.subscribe(3)
    prefix = f"t{token_hex(4)}."
    async with meta() as served, an_engine(town, mortal_broker.url, prefix, served, tmp_path, workers=0) as running:
        ear = Ear(mortal_broker.url, prefix)
        await ear.open()
        await asyncio.sleep(SETTLES)
        queued, waiting = await issue_both(town), await issue_both(town)
        await are_told(town, [*queued, *waiting])
        for batch in await are_told(town, waiting):
            event = await taken(running, batch)
            await running.publisher.publish(resting(event, timedelta(seconds=5), prefix))
        await asyncio.to_thread(mortal_broker.kill)
        await asyncio.to_thread(mortal_broker.start)
        async with delivering(running.settings, served):
            batches = await are_over(town, queued) + await are_over(town, waiting)
        heard = await ear.heard()
        for batch in batches:
            all_in_lane(heard, batch)
        assert exchanges(heard).count(WAITS) == len(waiting)
        assert told(served) == dict.fromkeys(numbers, 4)


async def taken(running: Engine, batch: tables.Batch) -> BatchReady:
    """The message of a batch, out of its lane's queue; those before it go back to the end."""
    queue = f"deliver.whatsapp.{batch.lane}"
    while True:
        body, headers = await running.take_one(queue, within=60)
        event = wire.decode(body)
        assert isinstance(event, BatchReady)
        if event.batch == batch.id:
            return event
        await running.put(DELIVERIES, delivery_key(event.channel, event.lane), body, **headers)


@ONE_KIND
async def test_through_a_wiped_broker_which_is_told_again_from_the_row(
    town: Town, mortal_broker: PrivateRabbitMQ, tmp_path: Path
) -> None:
    numbers = await town.subscribe(3)
    prefix = f"t{token_hex(4)}."
    async with meta() as served, an_engine(town, mortal_broker.url, prefix, served, tmp_path, workers=0) as running:
        dispatches = await issue_both(town)
        await are_told(town, dispatches)
        await asyncio.to_thread(mortal_broker.wipe)
        await asyncio.to_thread(mortal_broker.start)
        await until(lambda: running.link.is_up, within=60)
        ear = Ear(mortal_broker.url, prefix)
        await ear.open()
        async with delivering(running.settings, served):
            await Reconciler(town.database).search(time.time() + MUCH_LATER)
            batches = await are_over(town, dispatches)
        heard = await ear.heard()
        for batch in batches:
            assert exchanges(all_in_lane(heard, batch))[0] == DELIVERIES
        assert told(served) == dict.fromkeys(numbers, 2)


# ── any of it, in any order ─────────────────────────────────────────────────────────────────────────


class Journey:
    """One batch and what happens to it: the message a worker would be given now, and all that was published."""

    def __init__(self, town: Town, dispatch: int) -> None:
        self._town = town
        self._dispatch = dispatch
        self.published: list[Outgoing] = []

    async def begins(self) -> None:
        await self._town.run("DELETE FROM outbox")
        await self._town.run("UPDATE batches SET state = 'done'")  # those of the examples before
        await self._town.fan_out(self._dispatch)
        await self.is_relayed()

    async def is_relayed(self) -> None:
        """The relay tells what the outbox holds."""
        for row in await self._town.outbox():
            event = wire.decode(row.body)
            headers = {"lane": str(row.lane)}
            self.published.append(Outgoing(row.exchange, row.routing_key, row.message_id, row.body, headers))
            assert addressed(event, row.lane).routing_key == row.routing_key
        await self._town.run("DELETE FROM outbox")

    @property
    def message(self) -> BatchReady:
        """The newest message of the batch, as it is given to a worker."""
        event = wire.decode(self.published[-1].body)
        assert isinstance(event, BatchReady)
        return event

    async def is_tried(self, outcome: Deferred) -> None:
        """A worker claims everybody, the provider says so, and what is left of the batch goes to rest."""
        claimed = await self._claim()
        batch, now = self.message, datetime.now(UTC)
        decision = [
            decide(outcome, attempts=person.attempt, now=now, expires=batch.not_after, maybe_told=person.maybe_told)
            for person in claimed
        ]
        rows = []
        for person, what in zip(claimed, decision, strict=True):
            assert not hasattr(what, "provider_id"), "it would be over, and there would be nothing to follow"
            rows.append(
                ledger.Recorded(
                    self._dispatch, person.seq, person.attempt, what.progress, what.reason, None, time.time()
                )
            )
        async with self._town.database.write() as session:
            await ledger.record(session, rows)
        await self.rests(timedelta(seconds=5))

    async def rests(self, wait: timedelta) -> None:
        """Into a wait queue, and back under the key it has."""
        batch = self.message
        async with self._town.database.write() as session:
            await batching.rest(session, batch, wait)
        self.published.append(resting(batch, wait, ""))

    async def loses_its_worker(self) -> None:
        """Claimed, and then nobody lived to tell; RabbitMQ gives the same message to another."""
        await self._claim()
        async with self._town.database.write() as session:
            await batching.touch(session, [self.message.batch])

    async def is_lost_with_the_broker(self) -> None:
        """The message is nowhere; the reconciler finds the row."""
        before = len(self.published)
        await Reconciler(self._town.database).search(time.time() + MUCH_LATER)
        await self.is_relayed()
        assert len(self.published) > before, "nobody missed it"

    async def _claim(self) -> list[ledger.Claimed]:
        """Whoever had to wait has waited long enough, whoever claimed them before is dead."""
        now, batch = time.time() + MUCH_LATER, self.message
        async with self._town.database.write() as session:
            return await ledger.claim(session, self._dispatch, batch.first, batch.last, most=9, now=now, until=now)


THROTTLED = Deferred(Reason.THROTTLED, timedelta(seconds=30), whole_account=True)
WAYS: dict[str, Callable[[Journey], Any]] = {
    "retry": lambda journey: journey.is_tried(Deferred(Reason.PROVIDER_UNAVAILABLE)),
    "rate wait": lambda journey: journey.is_tried(THROTTLED),
    "worker died": Journey.loses_its_worker,
    "broker lost it": Journey.is_lost_with_the_broker,
    "rest": lambda journey: journey.rests(timedelta(minutes=7)),
}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ways=st.lists(st.sampled_from(sorted(WAYS)), min_size=1, max_size=8), urgent=st.booleans())
async def test_through_any_of_it_in_any_order(town: Town, ways: list[str], urgent: bool) -> None:
    await town.subscribe(0 if await town.count(tables.Recipient) else 3)
    journey = Journey(town, await town.issue(urgent=urgent))
    await journey.begins()
    for way in ways:
        await WAYS[way](journey)
    row = await the_batch(town, journey.message.dispatch)
    assert row.lane is lane_of(urgent)
    for message in journey.published:
        event = wire.decode(message.body)
        assert isinstance(event, BatchReady)
        assert (event.batch, event.lane, event.channel) == (row.id, row.lane, Channel.WHATSAPP)
        assert message.headers["lane"] == str(row.lane)
        assert message.routing_key == delivery_key(row.channel, row.lane)
    expected = 1 + sum(way != "worker died" for way in ways)
    assert len(journey.published) == expected
    assert Progress.FAILED not in await town.summary(row.dispatch_id)
