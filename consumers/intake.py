"""Documents over AMQP: each is kept and looked at before it is acknowledged, under the name RabbitMQ vouches for."""

import asyncio

import structlog
from sqlalchemy.exc import SQLAlchemyError

from alerting.amqp import Incoming
from alerting.domain.intake import CameBy
from alerting.domain.sources import Source
from alerting.intake.receiving import Receiver
from alerting.persistence import Database
from consumers import deadletters

log = structlog.get_logger()

LOOK_EVERY = 5.0  # seconds
MOST_BYTES = 5_000_000
CAP = "application/cap+xml"


class Intake:
    """Takes from the queue intake.cap. A message says who sent it by its property user_id, which RabbitMQ checks."""

    def __init__(self, database: Database, receiver: Receiver, sources: dict[str, Source]) -> None:
        self._database = database
        self._receiver = receiver
        self._by_user = {source.amqp_user: source for source in sources.values() if source.enabled and source.amqp_user}

    async def take(self, message: Incoming) -> None:
        """One document. Of a stranger, or larger than any CAP, it becomes a dead letter, which an operator sees."""
        source = self._by_user.get(message.user_id)
        if source is None:
            who = message.user_id or "nobody: its property user_id is not set"
            await deadletters.bury(self._database, message, "stranger", f"it was published by {who}, no source of ours")
            return
        if len(message.body) > MOST_BYTES:
            sentence = f"{source.name} sent {len(message.body):,} bytes, where {MOST_BYTES:,} are taken"
            await deadletters.bury(self._database, message, "too_large", sentence)
            return
        # What PostgreSQL cannot keep, as a NUL, would send the message round and round.
        media_type = message.content_type if message.content_type.isprintable() else ""
        await self._receiver.take(source, message.body, media_type or CAP, CameBy.AMQP)
        message.ack()


async def look_again(receiver: Receiver) -> None:
    """At what some process received and did not finish with, until cancelled."""
    while True:
        try:
            await receiver.look_again()
        except (SQLAlchemyError, OSError) as error:
            log.warning("looking again paused", error=type(error).__name__)
        await asyncio.sleep(LOOK_EVERY)
