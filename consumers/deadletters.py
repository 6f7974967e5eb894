"""What nobody can work on goes to the dead letters of its lane: counted, and logged with the reason."""

from typing import TypeVar

import structlog

from alerting import metrics, wire
from alerting.amqp import Incoming
from alerting.domain.events import Event

log = structlog.get_logger()
Wanted = TypeVar("Wanted", bound=Event)


def event_in(message: Incoming, wanted: type[Wanted]) -> Wanted | None:
    """The event a message brings. None where it is not the wanted one: it has been buried then."""
    try:
        event = wire.decode(message.body)
    except wire.Unreadable as error:
        bury(message, "unreadable", str(error))
        return None
    if not isinstance(event, wanted):
        bury(message, "misplaced", f"{type(event).__name__} where {wanted.__name__} belongs")
        return None
    return event


def bury(message: Incoming, why: str, sentence: str) -> None:
    """Give up on a message. RabbitMQ keeps it where an operator finds it."""
    metrics.DEAD_LETTERS.labels(why).inc()
    log.error("dead letter", why=why, message=message.message_id, error=sentence)
    message.reject(requeue=False)
