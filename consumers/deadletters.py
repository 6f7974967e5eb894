"""What nobody can work on is kept whole in the database, and why in plain words, until an operator decides."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import metrics, wire
from alerting.amqp import Incoming
from alerting.domain.events import Event
from alerting.domain.lanes import Lane
from alerting.persistence import Database, tables
from alerting.topology import DELIVERY_LIMIT, DESK_QUEUE, INBOUND_QUEUE, INTAKE, RECEIPTS_QUEUE

log = structlog.get_logger()
Wanted = TypeVar("Wanted", bound=Event)

MOST_BYTES = 1_048_576
"""Of a body that are kept. Ours have under 1 KiB: whatever is larger is not ours, and must not fill the disk."""
DEEPEST = 8
"""Tables within tables in headers; ours have none, and RabbitMQ's own x-death two."""

LANES_BY_NAME = {str(lane): lane for lane in Lane}
LANES_BY_NAME |= {
    RECEIPTS_QUEUE: Lane.REPLY,
    INBOUND_QUEUE: Lane.REPLY,
    INTAKE: Lane.EMERGENCY,
    DESK_QUEUE: Lane.ROUTINE,
}

REASONS = {
    "rejected": (
        "unforeseen",
        "a worker met an error nobody had foreseen, and no database to write it down: its log tells the error",
    ),
    "delivery_limit": (
        "delivery_limit",
        f"RabbitMQ gave it to workers {DELIVERY_LIMIT} times and none finished it: look which process keeps dying",
    ),
    "expired": ("expired", "its time in the queue ran out before anybody took it"),
    "maxlen": ("full", "its queue was full"),
}
"""RabbitMQ's reasons in x-death (rabbitmq.com/docs/dlx, read 2026): what we call each, and a sentence about it."""


@dataclass(frozen=True, slots=True)
class Death:
    """What RabbitMQ says of a message it dead-lettered: from where, why, and how often it did so there."""

    queue: str
    exchange: str
    routing_key: str
    reason: str
    count: int


async def event_in(
    database: Database, message: Incoming, wanted: type[Wanted] | tuple[type[Wanted], ...]
) -> Wanted | None:
    """The event a message brings. None where it is not the wanted one: it has been buried then."""
    try:
        event = wire.decode(message.body)
    except wire.Unreadable as error:
        await bury(database, message, "unreadable", str(error))
        return None
    if not isinstance(event, wanted):
        names = " or ".join(one.__name__ for one in (wanted if isinstance(wanted, tuple) else (wanted,)))
        await bury(database, message, "misplaced", f"{type(event).__name__} where {names} belongs")
        return None
    return event


async def bury(database: Database, message: Incoming, why: str, sentence: str) -> None:
    """Give up on a message: it is written down for an operator, and only then acknowledged.

    `why` is a word of ours, at most 24 letters; `sentence` says what was wrong with this one. A database that is
    away raises, and the message is still ours.
    """
    await _write_down(
        database,
        message,
        why=why,
        sentence=sentence,
        queue=_plain(message.queue, 120),
        exchange=_plain(message.exchange, 120),
        routing_key=_plain(message.routing_key, 255),
    )
    metrics.DEAD_LETTERS.labels(why).inc()
    message.ack()


class Keeper:
    """Takes what RabbitMQ itself gave up on out of the dead letter queues, into the same table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(self, message: Incoming) -> None:
        """One dead letter. What is written down says where the message was before it died."""
        death = last_death(message.headers)
        if death is None:
            why, sentence = "foreign", "somebody put it among the dead letters: RabbitMQ says nothing of where it was"
            death = Death("", "", _plain(message.routing_key, 255), "", 0)
        else:
            why, sentence = REASONS.get(death.reason, ("unsaid", f"RabbitMQ says only {death.reason!r}"))
            if death.count > 1:
                sentence += f" (it has happened {death.count} times)"
        await _write_down(
            self._database,
            message,
            why=why,
            sentence=sentence,
            queue=death.queue,
            exchange=death.exchange,
            routing_key=death.routing_key,
        )
        if death.reason != "rejected":  # the worker that rejected it has counted it
            metrics.DEAD_LETTERS.labels(why).inc()
        message.ack()


def last_death(headers: Mapping[str, Any]) -> Death | None:
    """Where a message was when RabbitMQ last dead-lettered it; None where it never was. Anybody may forge this."""
    deaths = headers.get("x-death")
    last = deaths[0] if isinstance(deaths, list) and deaths else None
    if not isinstance(last, dict):
        return None
    keys, count = last.get("routing-keys"), last.get("count")
    return Death(
        queue=_plain(last.get("queue", ""), 120),
        exchange=_plain(last.get("exchange", ""), 120),
        routing_key=_plain(keys[0], 255) if isinstance(keys, list) and keys else "",
        reason=_plain(last.get("reason", ""), 40),
        count=count if isinstance(count, int) else 1,
    )


def lane_of(headers: Mapping[str, Any], queue: str, *keys: str) -> Lane:
    """The lane a message says it is in; else that of its queue, else of a routing key; routine where none says."""
    said = headers.get("lane")
    words = [said] if isinstance(said, str) else []
    words += [word for name in (queue, *keys) for word in name.split(".")]
    return next((LANES_BY_NAME[word] for word in words if word in LANES_BY_NAME), Lane.ROUTINE)


async def _write_down(
    database: Database, message: Incoming, *, why: str, sentence: str, queue: str, exchange: str, routing_key: str
) -> None:
    size = len(message.body)
    if size > MOST_BYTES:
        cut = f"; it has {size:,} bytes, of which the first {MOST_BYTES:,} are kept"
        sentence = sentence[: 500 - len(cut)] + cut
    letter = tables.DeadLetter(
        at=datetime.now(UTC),
        lane=lane_of(message.headers, queue, routing_key, _plain(message.routing_key, 255)),
        why=why,
        sentence=_plain(sentence, 500),
        queue=queue,
        exchange=exchange,
        routing_key=routing_key,
        message_id=_plain(message.message_id, 255),
        headers=_as_json(message.headers, DEEPEST),
        body=message.body[:MOST_BYTES],
        replayed=False,
    )
    async with database.write() as session:
        if message.redelivered and await _is_written_down(session, letter):
            return  # RabbitMQ gave it to us again
        session.add(letter)
        await session.flush()
    # Keys only: what somebody else wrote may name a person.
    log.error("dead letter", number=letter.id, why=why, lane=str(letter.lane))


async def _is_written_down(session: AsyncSession, letter: tables.DeadLetter) -> bool:
    row = tables.DeadLetter
    same = select(row.id).where(
        row.message_id == letter.message_id,
        row.queue == letter.queue,
        row.why == letter.why,
        row.body == letter.body,
        row.ended_at.is_(None),
    )
    return await session.scalar(same.limit(1)) is not None


def _as_json(value: Any, depth: int) -> Any:
    """An AMQP value as JSON can say it: bytes as text, times and decimals as words."""
    match value:
        case None | bool() | int():
            return value
        case float() if math.isfinite(value):
            return value
        case datetime():
            return value.isoformat()
        case dict() | list() if depth == 0:
            return "…"
        case dict():
            return {_plain(key, 255): _as_json(inner, depth - 1) for key, inner in value.items()}
        case list():
            return [_as_json(inner, depth - 1) for inner in value]
        case _:
            return _plain(value, MOST_BYTES)


def _plain(value: object, longest: int) -> str:
    """What somebody sent as text a database takes: UTF-8, without NUL, and not longer than its column."""
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()[:longest]
