"""Every exchange, queue and binding, as data: declared from here, checked from here, drawn from here.

All queues are quorum queues, on one node too. One queue per lane everywhere, and one per wait: RabbitMQ expires
from the head only, and a lane must never queue behind another.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from alerting.domain.delivery import Channel
from alerting.domain.lanes import Lane

ALERTS = "alerts"
DELIVERIES = "deliveries"
RECEIPTS = "receipts"
INBOUND = "inbound"
INTAKE = "intake"
DESK = "desk"
WAITS = "waits"
DEAD = "dead"

OFFERED = "cap."
"""What begins like this is for whoever listens, and nobody has to."""

WAITS_OF_SECONDS = (1, 5, 10, 20, 40, 60, 120, 300, 600)
"""To the second what the first retries ask for (`domain.delivery.backoff`): an emergency does not rest longer."""

DELIVERY_LIMIT = 20
NEVER = 1_000_000_000
"""As a delivery limit: a process that died every second would reach it in thirty years."""
MOST_MESSAGES = {Lane.FLASH: 1_000_000, Lane.EMERGENCY: 1_000_000, Lane.REPLY: 200_000, Lane.ROUTINE: 200_000}
"""A full routine queue is refused to its publisher long before it could raise an alarm that stops everybody."""

MOST_REPORTS = 2_000_000
"""Of the desk, whose outbox is that of the routine lane: half an hour of a thousand a second before it is refused."""


@dataclass(frozen=True, slots=True)
class Exchange:
    name: str
    type: str = "topic"


@dataclass(frozen=True, slots=True)
class Binding:
    exchange: str
    routing_key: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Queue:
    name: str
    bindings: tuple[Binding, ...]
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Topology:
    """All there is on the broker, with the prefix of this system before every name."""

    exchanges: tuple[Exchange, ...]
    queues: tuple[Queue, ...]


def fanout_queue(lane: Lane) -> str:
    return f"fanout.{lane}"


def deliver_queue(channel: Channel, lane: Lane) -> str:
    return f"deliver.{channel}.{lane}"


def wait_queue(lane: Lane, seconds: int) -> str:
    return f"wait.{lane}.{seconds}s"


def dead_queue(lane: Lane) -> str:
    return f"dead.{lane}"


RECEIPTS_QUEUE = "receipts"
INBOUND_QUEUE = "inbound"
INTAKE_QUEUE = "intake.cap"
DESK_QUEUE = "desk"
"""Beside the lanes: what citizens report waits for nobody's alert, and no alert waits for it."""


def offer_key(lane: Lane, category: str, authority: str) -> str:
    """`cap.<lane>.<category>.<authority>`: the CAP documents, on the exchange alerts, for anyone who binds."""
    return OFFERED + alert_key(lane, category, authority)


def alert_key(lane: Lane, category: str, authority: str) -> str:
    """`<lane>.<category>.<authority>`: what anyone who listens to the exchange alerts binds by."""
    return f"{lane}.{category.lower()}.{authority}"


def delivery_key(channel: Channel, lane: Lane) -> str:
    return f"{channel}.{lane}"


def wait_for(wait: timedelta) -> int:
    """The shortest wait queue, in seconds, that is not shorter than `wait`; the longest for anything beyond."""
    return next((s for s in WAITS_OF_SECONDS if s >= wait.total_seconds()), WAITS_OF_SECONDS[-1])


def topology(prefix: str = "") -> Topology:
    """The whole of it."""
    lanes, channels = tuple(Lane), tuple(Channel)
    exchanges = (
        Exchange(ALERTS),
        Exchange(DELIVERIES),
        Exchange(RECEIPTS),
        Exchange(INBOUND),
        Exchange(INTAKE),
        Exchange(DESK),
        Exchange(WAITS, "headers"),
        Exchange(DEAD),
    )
    queues = (
        *(_work(fanout_queue(lane), lane, prefix, Binding(ALERTS, f"{lane}.#")) for lane in lanes),
        *(
            _work(deliver_queue(channel, lane), lane, prefix, Binding(DELIVERIES, delivery_key(channel, lane)))
            for channel in channels
            for lane in lanes
        ),
        _work(RECEIPTS_QUEUE, Lane.REPLY, prefix, Binding(RECEIPTS, "#")),
        _work(INBOUND_QUEUE, Lane.REPLY, prefix, Binding(INBOUND, "#")),
        _work(INTAKE_QUEUE, Lane.EMERGENCY, prefix, Binding(INTAKE, "cap")),
        _work(DESK_QUEUE, Lane.ROUTINE, prefix, Binding(DESK, "#"), most=MOST_REPORTS),
        *(_wait(lane, seconds, prefix) for lane in lanes for seconds in WAITS_OF_SECONDS),
        *(_dead(lane) for lane in lanes),
    )
    return Topology(
        tuple(Exchange(prefix + exchange.name, exchange.type) for exchange in exchanges),
        tuple(_prefixed(queue, prefix) for queue in queues),
    )


def _work(name: str, lane: Lane, prefix: str, binding: Binding, *, most: int = 0) -> Queue:
    """A queue somebody works on. What cannot be worked on goes to the dead letters of its lane."""
    return Queue(
        name,
        (binding,),
        {
            "x-queue-type": "quorum",
            "x-dead-letter-exchange": prefix + DEAD,
            # The lane, whatever the message's own key: what nobody routes would stay in its queue for ever.
            "x-dead-letter-routing-key": str(lane),
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
            "x-delivery-limit": DELIVERY_LIMIT,
            "x-max-length": most or MOST_MESSAGES[lane],
        },
    )


def _wait(lane: Lane, seconds: int, prefix: str) -> Queue:
    """A queue nobody consumes: after its time a message returns to the work queues, under the key it has."""
    return Queue(
        wait_queue(lane, seconds),
        (Binding(WAITS, "", {"x-match": "all", "lane": str(lane), "wait": seconds}),),
        {
            "x-queue-type": "quorum",
            "x-message-ttl": seconds * 1000,
            "x-dead-letter-exchange": prefix + DELIVERIES,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
            "x-max-length": MOST_MESSAGES[lane],
        },
    )


def _dead(lane: Lane) -> Queue:
    """What nobody could work on, on its way to the table of dead letters.

    RabbitMQ 4 forgets a message after twenty deliveries where nothing else is said, and has no dead letters of dead
    letters. -1 says "without limit" to 4.x alone; 3.10 takes it and nobody says what it means there.
    """
    return Queue(
        dead_queue(lane),
        (Binding(DEAD, str(lane)),),
        {"x-queue-type": "quorum", "x-delivery-limit": NEVER},
    )


def _prefixed(queue: Queue, prefix: str) -> Queue:
    bindings = tuple(Binding(prefix + b.exchange, b.routing_key, b.arguments) for b in queue.bindings)
    return Queue(prefix + queue.name, bindings, queue.arguments)
