"""Every queue and binding, routed here as RabbitMQ would, without one."""

from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.domain.cap import Category
from alerting.domain.delivery import LONGEST_WAIT, RECEIPT_PATIENCE, Channel, backoff
from alerting.domain.lanes import Lane
from alerting.topology import (
    ALERTS,
    DEAD,
    DELIVERIES,
    DESK,
    INBOUND,
    RECEIPTS,
    WAITS,
    WAITS_OF_SECONDS,
    Binding,
    Queue,
    alert_key,
    dead_queue,
    deliver_queue,
    delivery_key,
    fanout_queue,
    topology,
    wait_for,
    wait_queue,
)

WHOLE = topology()
QUEUES = {queue.name: queue for queue in WHOLE.queues}
EXCHANGES = {exchange.name: exchange.type for exchange in WHOLE.exchanges}


def matches(binding: Binding, key: str, headers: dict[str, Any]) -> bool:
    if EXCHANGES[binding.exchange] == "headers":
        assert binding.arguments["x-match"] == "all"
        return all(headers.get(name) == value for name, value in binding.arguments.items() if name != "x-match")
    # Our patterns hold no star, and a hash only at their end, where it stands for any words or none.
    assert "*" not in binding.routing_key
    return key == binding.routing_key.removesuffix(".#") or fnmatchcase(key, binding.routing_key.replace("#", "*"))


def routed(exchange: str, key: str, **headers: Any) -> set[str]:
    """The queues a message reaches."""
    return {
        queue.name
        for queue in WHOLE.queues
        for binding in queue.bindings
        if binding.exchange == exchange and matches(binding, key, headers)
    }


@pytest.mark.parametrize("queue", WHOLE.queues, ids=lambda queue: queue.name)
def test_every_queue_is_a_quorum_queue_bound_to_an_exchange_there_is(queue: Queue) -> None:
    assert queue.arguments["x-queue-type"] == "quorum"
    assert queue.bindings
    assert all(binding.exchange in EXCHANGES for binding in queue.bindings)
    # RabbitMQ 4 takes no priorities on quorum queues, and we ask for none.
    assert "x-max-priority" not in queue.arguments


@pytest.mark.parametrize("queue", WHOLE.queues, ids=lambda queue: queue.name)
def test_what_dies_is_never_lost_on_the_way(queue: Queue) -> None:
    if "x-dead-letter-exchange" not in queue.arguments:
        assert queue.name.startswith("dead.")
        return
    assert queue.arguments["x-dead-letter-exchange"] in EXCHANGES
    assert queue.arguments["x-dead-letter-strategy"] == "at-least-once"
    # RabbitMQ grants at-least-once only to queues that refuse their publisher instead of dropping the oldest.
    assert queue.arguments["x-overflow"] == "reject-publish"


def test_there_is_one_queue_per_lane_everywhere_and_no_name_twice() -> None:
    assert len(QUEUES) == len(WHOLE.queues)
    for lane in Lane:
        assert {fanout_queue(lane), dead_queue(lane)} <= QUEUES.keys()
        assert {deliver_queue(channel, lane) for channel in Channel} <= QUEUES.keys()
        assert {wait_queue(lane, seconds) for seconds in WAITS_OF_SECONDS} <= QUEUES.keys()
    per_lane = 1 + len(Channel) + len(WAITS_OF_SECONDS) + 1
    assert len(QUEUES) == per_lane * len(Lane) + len({"receipts", "inbound", "intake.cap", "desk"})


@pytest.mark.parametrize("lane", Lane)
@pytest.mark.parametrize("category", Category)
@pytest.mark.parametrize("authority", ["calcinaia", "santa-fiora"])
def test_an_issued_alert_reaches_the_fan_out_of_its_lane_alone(lane: Lane, category: Category, authority: str) -> None:
    assert routed(ALERTS, alert_key(lane, category.value, authority)) == {fanout_queue(lane)}


@pytest.mark.parametrize("lane", Lane)
@pytest.mark.parametrize("channel", Channel)
def test_a_batch_reaches_the_queue_of_its_channel_and_lane_alone(channel: Channel, lane: Lane) -> None:
    assert routed(DELIVERIES, delivery_key(channel, lane)) == {deliver_queue(channel, lane)}


@pytest.mark.parametrize("lane", Lane)
@pytest.mark.parametrize("channel", Channel)
@pytest.mark.parametrize("seconds", WAITS_OF_SECONDS)
def test_a_batch_that_waited_comes_back_to_its_own_lane(channel: Channel, lane: Lane, seconds: int) -> None:
    key = delivery_key(channel, lane)
    (waits,) = routed(WAITS, key, lane=str(lane), wait=seconds)
    assert waits == wait_queue(lane, seconds)
    arguments = QUEUES[waits].arguments
    assert arguments["x-message-ttl"] == seconds * 1000
    assert "x-dead-letter-routing-key" not in arguments  # it keeps the key it has
    assert "x-delivery-limit" not in arguments
    assert routed(arguments["x-dead-letter-exchange"], key) == {deliver_queue(channel, lane)}


@pytest.mark.parametrize("queue", QUEUES.values(), ids=lambda queue: queue.name)
def test_rabbitmq_4_forgets_nothing_by_its_own_default(queue: Queue) -> None:
    """There a quorum queue drops what was delivered twenty times: it must be said, or have somewhere to go."""
    limit = queue.arguments.get("x-delivery-limit")
    if queue.name.startswith("dead."):
        assert limit is not None and limit > 10**6
        assert queue.arguments.keys() == {"x-queue-type", "x-delivery-limit"}  # no length, no time, no way out
    else:
        assert "x-dead-letter-exchange" in queue.arguments
        assert limit == 20 or queue.name.startswith("wait.")  # nobody consumes those


@pytest.mark.parametrize(
    ("queue", "lane"),
    [
        *((fanout_queue(lane), lane) for lane in Lane),
        *((deliver_queue(channel, lane), lane) for lane in Lane for channel in Channel),
        ("receipts", Lane.REPLY),
        ("inbound", Lane.REPLY),
        ("desk", Lane.ROUTINE),
    ],
)
def test_what_cannot_be_worked_on_goes_to_the_dead_letters_of_its_lane(queue: str, lane: Lane) -> None:
    arguments = QUEUES[queue].arguments
    assert arguments["x-dead-letter-exchange"] == DEAD
    assert routed(DEAD, arguments["x-dead-letter-routing-key"]) == {dead_queue(lane)}


def test_receipts_and_texts_of_citizens_are_routed_whatever_their_key() -> None:
    assert routed(RECEIPTS, "receipt") == {"receipts"}
    assert {name for channel in Channel for name in routed(INBOUND, str(channel))} == {"inbound"}
    assert {name for channel in Channel for name in routed(DESK, str(channel))} == {"desk"}


def test_a_prefix_stands_before_every_name_and_every_reference_to_one() -> None:
    ours = topology("prova.")
    names = {exchange.name for exchange in ours.exchanges}
    for queue in ours.queues:
        assert queue.name.startswith("prova.")
        assert {binding.exchange for binding in queue.bindings} <= names
        assert queue.arguments.get("x-dead-letter-exchange", "prova.dead") in names


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=1)))
def test_a_wait_is_never_cut_short_unless_it_is_longer_than_any_queue(wait: timedelta) -> None:
    seconds = wait_for(wait)
    assert seconds in WAITS_OF_SECONDS
    assert seconds >= wait.total_seconds() or seconds == max(WAITS_OF_SECONDS)
    assert all(shorter < wait.total_seconds() for shorter in WAITS_OF_SECONDS if shorter < seconds)


@pytest.mark.parametrize("wait", [*map(backoff, range(1, 5)), RECEIPT_PATIENCE, LONGEST_WAIT], ids=str)
def test_the_waits_between_attempts_have_their_queues(wait: timedelta) -> None:
    assert wait_for(wait) == wait.total_seconds()
