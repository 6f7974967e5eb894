"""What providers say became of texts, on its way to RabbitMQ: what comes in crowds goes in one message."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from alerting import outbox
from alerting.amqp import Outgoing, Publisher
from alerting.domain.events import ReceiptCame, ReceiptsCame
from alerting.domain.lanes import Lane
from alerting.gathering import Gathering

PAUSE = 0.02  # seconds
MOST = 200
"""Receipts of one message: some 30 kB."""


class Passing:
    """Passes receipts on: a broadcast brings three for each text, and a message of its own for each would cost more of
    us, of RabbitMQ and of who reads them than the receipt itself.
    """

    def __init__(self, publisher: Publisher, prefix: str) -> None:
        self._publisher = publisher
        self._prefix = prefix
        self._gathering = Gathering(self._publish, pause=PAUSE, most=MOST)

    async def pass_on(self, receipts: Sequence[ReceiptCame]) -> None:
        """Returns when RabbitMQ has them safe. Raises BrokerAway and Unroutable, as whoever publishes."""
        if receipts:
            await self._gathering.put(receipts)

    async def _publish(self, calls: Sequence[Sequence[ReceiptCame]]) -> None:
        for message in _messages([receipt for call in calls for receipt in call]):
            await self._publisher.publish(replace(message, exchange=self._prefix + message.exchange))


def _messages(receipts: Sequence[ReceiptCame]) -> Iterator[Outgoing]:
    for first in range(0, len(receipts), MOST):
        some = tuple(receipts[first : first + MOST])
        yield outbox.addressed(some[0] if len(some) == 1 else ReceiptsCame(some), Lane.REPLY)
