"""What our one pika module promises: confirmed means safe, and whatever goes away comes back."""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from secrets import token_hex

import pika
import pytest

from alerting.amqp import BrokerAway, Consumer, Incoming, Link, Outgoing, Publisher, Unroutable
from alerting.topology import Binding as Bound
from alerting.topology import Exchange, Queue, Topology, topology
from consumers.local.private_rabbitmq import PrivateRabbitMQ
from tests.integration.engine import connected, get_one, linked, until


def a_square(prefix: str, **arguments: object) -> Topology:
    """One exchange, one queue: Piazza Timisoara."""
    exchange, queue = f"{prefix}piazza", f"{prefix}banco"
    return Topology(
        (Exchange(exchange),),
        (Queue(queue, (Bound(exchange, "bando"),), {"x-queue-type": "quorum", **arguments}),),
    )


def a_call(prefix: str, number: int = 1, key: str = "bando") -> Outgoing:
    return Outgoing(f"{prefix}piazza", key, f"bando:{number}", f"Evacuare. {number}".encode(), {"lane": "flash"})


@pytest.fixture
def here() -> str:
    """Not `amqp_prefix`: these tests declare one queue, and need not delete forty."""
    return f"t{token_hex(4)}."


@pytest.fixture
def square(amqp_url: str, here: str) -> Iterator[Topology]:
    """A full queue refuses: two messages fit."""
    yield a_square(here, **{"x-max-length": 2, "x-overflow": "reject-publish"})
    connection = pika.BlockingConnection(pika.URLParameters(amqp_url))
    channel = connection.channel()
    channel.queue_delete(f"{here}banco")
    channel.exchange_delete(f"{here}piazza")
    connection.close()


async def test_what_was_published_is_safe_in_its_queue_with_its_id_and_headers(
    amqp_url: str, here: str, square: Topology
) -> None:
    async with linked(amqp_url, square) as link:
        await Publisher(link).publish(a_call(here))
        found = await get_one(link, f"{here}banco")
        assert found is not None
        assert found[0] == b"Evacuare. 1"
        assert found[1]["lane"] == "flash"


async def test_a_message_no_queue_wants_is_unroutable_although_rabbitmq_acknowledges_it(
    amqp_url: str, here: str, square: Topology
) -> None:
    async with linked(amqp_url, square) as link:
        publisher = Publisher(link)
        answers = await asyncio.gather(
            publisher.publish(a_call(here, 1, "nessuno")),
            publisher.publish(a_call(here, 2)),
            publisher.publish(a_call(here, 3, "nessuno")),
            return_exceptions=True,
        )
        assert [type(answer) for answer in answers] == [Unroutable, type(None), Unroutable]
        assert "nessuno" in str(answers[0])


async def test_a_refused_message_costs_its_channel_and_the_next_one_goes_on_another(
    amqp_url: str, here: str, square: Topology
) -> None:
    async with linked(amqp_url, square) as link:
        publisher = Publisher(link)
        refused = 0
        for number in range(8):  # a quorum queue counts a little late
            try:
                await publisher.publish(a_call(here, number))
            except BrokerAway as error:
                refused += 1
                assert "nack" in str(error)
        assert refused
        while await get_one(link, f"{here}banco"):
            pass
        began = time.monotonic()
        await publisher.publish(a_call(here, 9))
        assert time.monotonic() - began < 2
        assert link.is_up


async def test_a_nack_does_not_fail_what_is_said_on_the_next_channel(
    amqp_url: str, here: str, square: Topology
) -> None:
    """The old channel ends after the new one began: its end must not be taken for the new one's."""
    async with linked(amqp_url, square) as link:
        publisher = Publisher(link)
        for number in range(8):
            with contextlib.suppress(BrokerAway):
                await publisher.publish(a_call(here, number))
        while await get_one(link, f"{here}banco"):
            pass
        await asyncio.sleep(0.2)
        for number in range(10, 30):
            with contextlib.suppress(BrokerAway):
                await publisher.publish(a_call(here, number))
                continue
            # Refused: whatever is published at once, while the old channel is still closing, is answered in time.
            began = time.monotonic()
            with contextlib.suppress(BrokerAway):
                await publisher.publish(a_call(here, number + 100))
            assert time.monotonic() - began < 2, "a confirm was lost between two channels"


async def test_a_message_without_its_queues_exchange_fails_and_the_publisher_lives_on(
    amqp_url: str, here: str, square: Topology
) -> None:
    async with linked(amqp_url, square) as link:
        publisher = Publisher(link)
        with pytest.raises(BrokerAway):
            await publisher.publish(Outgoing(f"{here}inesistente", "bando", "x", b"x"))
        await publisher.publish(a_call(here))


async def test_before_there_is_a_connection_a_publisher_says_that_the_broker_is_away() -> None:
    link = Link("amqp://nobody:x@127.0.0.1:1/", "nowhere")
    with pytest.raises(BrokerAway):
        await Publisher(link).publish(a_call(""))
    link.start()
    with pytest.raises(BrokerAway, match="nowhere"):
        await link.wait_up(0.3)
    await link.stop()


async def test_an_exception_in_a_handler_of_messages_does_not_cost_the_connection(
    amqp_url: str, here: str, square: Topology
) -> None:
    """Callbacks only append: what is done with a message is done elsewhere, and may fail there."""
    found: list[Incoming] = []
    async with linked(amqp_url, square, (f"{here}banco", found)) as link:
        publisher = Publisher(link)
        await publisher.publish(a_call(here, 1))
        await until(lambda: len(found) == 1)

        async def handler(_: Incoming) -> None:
            raise ValueError("a bug of ours")

        with pytest.raises(ValueError, match="a bug of ours"):
            await handler(found[0])
        found[0].ack()
        await publisher.publish(a_call(here, 2))
        await until(lambda: len(found) == 2)
        assert link.is_up


async def test_a_queue_that_was_deleted_and_made_again_is_consumed_again(
    amqp_url: str, here: str, square: Topology
) -> None:
    found: list[Incoming] = []
    async with linked(amqp_url, square, (f"{here}banco", found)) as link:
        channel = await link.channel()
        channel.queue_delete(f"{here}banco")
        publisher = Publisher(link)

        async def said() -> bool:
            with contextlib.suppress(BrokerAway, Unroutable):
                await publisher.publish(a_call(here))
            return bool(found)

        await until(said, within=60)


async def test_who_goes_before_the_others_is_given_all_it_has_a_hand_free_for(
    amqp_url: str, here: str, square: Topology
) -> None:
    found: dict[int, list[Incoming]] = {0: [], 1: []}
    async with linked(amqp_url, square) as link:
        queue = f"{here}banco"
        consumers = [Consumer(link, queue, 3, found[rank].append, priority=rank) for rank in found]
        for consumer in consumers:
            await consumer._consume()
        publisher = Publisher(link)
        for number in range(3):
            await publisher.publish(a_call(here, number))
        await until(lambda: len(found[1]) == 3)
        assert not found[0], "it has a hand free, and is not needed"
        await publisher.publish(a_call(here, 4))
        await until(lambda: len(found[0]) == 1)


async def test_what_was_not_acknowledged_comes_again_on_the_next_connection(
    amqp_url: str, here: str, square: Topology
) -> None:
    found: list[Incoming] = []
    async with linked(amqp_url, square, (f"{here}banco", found)) as link:
        await Publisher(link).publish(a_call(here))
        await until(lambda: len(found) == 1)
        link.drop()
        await until(lambda: len(found) == 2)
        assert not found[0].redelivered
        assert found[1].redelivered
        found[0].ack()  # of a channel that is gone: nothing happens, and nothing breaks
        found[1].ack()
        await asyncio.sleep(0.1)
        assert link.is_up


async def test_a_stopped_link_has_left_no_socket_open(amqp_url: str, here: str, square: Topology) -> None:
    async with linked(amqp_url, square) as link:
        connection = link._connection
    assert connection.is_closed


# ── a broker that goes and comes back ───────────────────────────────────────────────────────────────


@pytest.mark.slow
async def test_after_a_kill_of_the_broker_publishers_and_consumers_are_back_and_nothing_confirmed_is_lost(
    mortal_broker: PrivateRabbitMQ,
) -> None:
    found: list[Incoming] = []
    ours = a_square("k.")
    async with linked(mortal_broker.url, ours, ("k.banco", found)) as link:
        publisher = Publisher(link)
        await publisher.publish(a_call("k.", 0))
        await until(lambda: len(found) == 1)
        await asyncio.sleep(4)  # 3.10.8 forgets quorum queues younger than that

        confirmed: set[bytes] = {found[0].body}
        stop = asyncio.Event()

        async def publishing() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                call = a_call("k.", number)
                with contextlib.suppress(BrokerAway, Unroutable):
                    await publisher.publish(call)
                    confirmed.add(call.body)
                await asyncio.sleep(0.02)

        task = asyncio.create_task(publishing())
        await asyncio.sleep(0.5)
        await asyncio.to_thread(mortal_broker.kill)
        await until(lambda: not link.is_up)
        before = len(confirmed)
        await asyncio.to_thread(mortal_broker.start)
        await link.wait_up(60)
        await until(lambda: len(confirmed) > before + 20, within=60)
        stop.set()
        await task
        await until(lambda: confirmed <= {message.body for message in found}, within=60)


async def test_the_whole_topology_is_declared_and_a_second_time_changes_nothing(
    amqp_url: str, amqp_prefix: str
) -> None:
    async with connected(amqp_url, amqp_prefix), connected(amqp_url, amqp_prefix) as link:
        assert await get_one(link, topology(amqp_prefix).queues[0].name) is None
