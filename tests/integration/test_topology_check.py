"""A queue of another shape than ours: nobody works on it by mistake, and the operator learns which it is."""

import dataclasses

import pika
import pytest

from alerting.amqp import Link, TopologyMismatch, declares
from alerting.topology import Exchange, Topology, topology


async def refused(url: str, wanted: Topology) -> str:
    """What the refusal says."""
    link = Link(url, "checker")
    declares(link, wanted)
    link.start()
    try:
        with pytest.raises(TopologyMismatch) as refusal:
            await link.given_up()
        with pytest.raises(TopologyMismatch):
            link.check()
        assert not link.is_up
    finally:
        with pytest.raises(TopologyMismatch):
            await link.stop()
    return str(refusal.value)


def declared(url: str, name: str, **arguments: object) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    connection.channel().queue_declare(name, durable=True, arguments=arguments)
    connection.close()


async def test_a_queue_with_other_arguments_is_a_refusal_that_names_it_and_says_what_to_do(
    amqp_url: str, amqp_prefix: str
) -> None:
    name = f"{amqp_prefix}deliver.whatsapp.emergency"
    declared(amqp_url, name, **{"x-queue-type": "quorum", "x-max-length": 7})
    sentence = await refused(amqp_url, topology(amqp_prefix))
    assert name in sentence
    assert "Delete it" in sentence
    assert "ALERTING_AMQP_PREFIX" in sentence


async def test_a_classic_queue_under_the_name_of_a_quorum_queue_is_refused(amqp_url: str, amqp_prefix: str) -> None:
    name = f"{amqp_prefix}fanout.flash"
    declared(amqp_url, name)
    assert name in await refused(amqp_url, topology(amqp_prefix))


async def test_an_exchange_of_another_type_is_refused_by_its_name(amqp_url: str, amqp_prefix: str) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(amqp_url))
    connection.channel().exchange_declare(f"{amqp_prefix}alerts", "direct", durable=True)
    connection.close()
    only = dataclasses.replace(topology(amqp_prefix), exchanges=(Exchange(f"{amqp_prefix}alerts"),), queues=())
    assert f"exchange {amqp_prefix}alerts" in await refused(amqp_url, only)
