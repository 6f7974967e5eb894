"""A consuming process when things go wrong under it: a queue deleted, a message that breaks its handler, the end."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pika
import pytest
from sqlalchemy import select, text

from alerting.amqp import BrokerAway, Consumer, Incoming, Link, Outgoing, Publisher, Unroutable
from alerting.domain.lanes import Lane
from alerting.persistence import Database
from alerting.persistence.tables import DeadLetter
from alerting.settings import Settings
from alerting.topology import ALERTS, WAITS, dead_queue, fanout_queue, wait_queue
from consumers.worker import Worker
from tests.integration.engine import KEY, connected, get_one, until, working

ONE_KIND = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@dataclass
class Bench:
    """A worker on the fan-out's queues, and a way to put messages into them."""

    worker: Worker
    link: Link
    prefix: str
    taken: list[Incoming] = field(default_factory=list)

    async def put(self, number: int, lane: Lane = Lane.EMERGENCY) -> None:
        body = f"Evacuare. {number}".encode()
        key = f"{lane}.met.calcinaia"
        await Publisher(self.link).publish(Outgoing(self.prefix + ALERTS, key, f"m{number}", body, {"lane": str(lane)}))

    def bodies(self) -> set[bytes]:
        return {message.body for message in self.taken}


@pytest.fixture
async def bench(database_url: str, amqp_url: str, amqp_prefix: str) -> AsyncIterator[Bench]:
    settings = Settings(amqp_url=amqp_url, database_url=database_url, amqp_prefix=amqp_prefix, key=KEY)
    async with connected(amqp_url, amqp_prefix) as link:
        yield Bench(Worker(settings, "fanout"), link, amqp_prefix)


def takes(bench: Bench, breaks: Callable[[Incoming], None] = lambda _: None) -> None:
    async def handler(message: Incoming) -> None:
        breaks(message)
        bench.taken.append(message)
        message.ack()

    for lane in Lane:
        bench.worker.takes(fanout_queue(lane), handler, prefetch=8, at_once=2)


def delete_queue(url: str, queue: str) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    connection.channel().queue_delete(queue)
    connection.close()


@ONE_KIND
async def test_a_queue_somebody_deletes_under_a_worker_is_there_again_and_the_others_notice_nothing(
    bench: Bench, amqp_url: str
) -> None:
    takes(bench)
    async with working(bench.worker):
        await until(lambda: bench.worker.signs.health()[0], within=60)
        links = bench.worker._consuming.since, bench.worker._publishing.since
        await asyncio.to_thread(delete_queue, amqp_url, bench.prefix + fanout_queue(Lane.EMERGENCY))

        async def said() -> bool:
            with contextlib.suppress(BrokerAway, Unroutable):
                await bench.put(1)
            return b"Evacuare. 1" in bench.bodies()

        await until(said, within=60)
        await bench.put(2, Lane.FLASH)
        await until(lambda: b"Evacuare. 2" in bench.bodies())
        assert (bench.worker._consuming.since, bench.worker._publishing.since) == links, "no connection was dropped"


@ONE_KIND
async def test_a_wait_queue_somebody_deletes_is_there_again_for_the_second_message(bench: Bench, amqp_url: str) -> None:
    """Nobody consumes it: only the message that has nowhere to go tells."""
    queue = bench.prefix + wait_queue(Lane.ROUTINE, 600)
    await asyncio.to_thread(delete_queue, amqp_url, queue)
    publisher = Publisher(bench.link)
    rests = Outgoing(bench.prefix + WAITS, "whatsapp.routine", "b1", b"{}", {"lane": "routine", "wait": 600})
    with pytest.raises(Unroutable):
        await publisher.publish(rests)

    async def taken() -> bool:
        with contextlib.suppress(Unroutable):
            await publisher.publish(rests)
            return True
        return False

    await until(taken)
    assert await get_one(bench.link, queue) is not None


@pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
async def test_a_message_that_breaks_its_handler_is_a_dead_letter_and_the_next_is_taken(bench: Bench) -> None:
    def breaks(message: Incoming) -> None:
        if message.body.endswith(b"1"):
            raise KeyError("nobody foresaw this")

    takes(bench, breaks)
    async with working(bench.worker):
        await bench.put(1)
        await bench.put(2)
        await until(lambda: b"Evacuare. 2" in bench.bodies())
        await until(lambda: _is_buried(bench.worker.database))
    [letter] = await _letters(bench)
    assert (letter.why, letter.message_id, letter.lane) == ("unforeseen", "m1", Lane.EMERGENCY)
    assert letter.body == b"Evacuare. 1"
    assert "KeyError" in letter.sentence
    assert "nobody foresaw this" in letter.sentence


@ONE_KIND
async def test_what_cannot_even_be_written_down_stays_with_the_broker_s_dead_letters(bench: Bench) -> None:
    def breaks(_: Incoming) -> None:
        raise KeyError("nobody foresaw this")

    async with bench.worker.database.write() as session:
        await session.execute(text("DROP TABLE dead_letters"))
    takes(bench, breaks)
    async with working(bench.worker):
        await bench.put(1)

        async def found() -> bool:
            return await get_one(bench.link, bench.prefix + dead_queue(Lane.EMERGENCY)) is not None

        await until(found)
        assert bench.worker.signs.now()


@ONE_KIND
async def test_a_callback_that_fails_costs_its_message_and_not_the_connection(bench: Bench, amqp_url: str) -> None:
    """In pika an exception out of a callback ends the connection, and the message comes again to do the same."""
    found: list[bytes] = []

    def put(message: Incoming) -> None:
        if message.body.endswith(b"1"):
            raise ValueError("a bug of ours")
        found.append(message.body)
        message.ack()

    link = Link(amqp_url, "careless")
    Consumer(link, bench.prefix + fanout_queue(Lane.EMERGENCY), 10, put)
    link.start()
    await link.wait_up(10)
    since = link.since
    await bench.put(1)
    await bench.put(2)
    await until(lambda: found == [b"Evacuare. 2"])
    assert link.since == since

    async def dead() -> bool:
        letter = await get_one(bench.link, bench.prefix + dead_queue(Lane.EMERGENCY))
        return letter is not None and letter[0] == b"Evacuare. 1"

    await until(dead)
    await link.stop()


@ONE_KIND
async def test_a_drain_that_takes_too_long_is_cut_and_one_that_fails_keeps_nobody(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumers.worker.DRAIN_WITHIN", 0.5)
    cut = asyncio.Event()

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cut.set()

    async def failing() -> None:
        raise RuntimeError("a bug of ours")

    takes(bench)
    async with asyncio.timeout(60):
        async with working(bench.worker, drain=endless):
            await until(lambda: bench.worker.signs.health()[0], within=60)
        assert cut.is_set()
        other = Worker(bench.worker.settings, "inbound")
        async with working(other, drain=failing):
            await until(lambda: other.signs.health()[0], within=60)


async def _letters(bench: Bench) -> list[DeadLetter]:
    database = Database(bench.worker.database.url)
    async with database.read() as session:
        found = list((await session.scalars(select(DeadLetter))).all())
    await database.close()
    return found


async def _is_buried(database: Database) -> bool:
    async with database.read() as session:
        return (await session.scalars(select(DeadLetter))).first() is not None


async def test_nobody_gives_way_on_sqlite_where_others_would_wait_for_them_to_write(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []
    monkeypatch.setattr("alerting.priority.give_way", given.append)
    bench.worker.give_way(5)
    assert given == ([] if bench.worker.database.is_sqlite else [5])
