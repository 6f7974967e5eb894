"""What comes in crowds, written in crowds: whoever comes alone waits for nobody, and one transaction serves the rest.

A transaction costs the same for one as for twenty. While one is under way whatever comes is gathered for the next, and
after a crowd for a moment longer: a thousand a second make no more transactions than ten, and nobody waits longer than
that moment and the transaction before them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from alerting.amqp import BrokerAway, Unroutable

What = TypeVar("What")

AWAY = (OperationalError, InterfaceError, PoolTimeout, OSError, BrokerAway, Unroutable)
"""The database or RabbitMQ is away, or two waited for each other: nobody of the crowd is to blame."""


@dataclass
class _Waiting(Generic[What]):
    """One that came, and what whoever brought it waits for."""

    what: What
    written: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def is_written(self) -> None:
        if not self.written.done():  # whoever brought it may have gone
            self.written.set_result(None)

    def fails(self, error: Exception) -> None:
        if not self.written.done():
            self.written.set_exception(error)


class Gathering(Generic[What]):
    """Hands crowds to `write`, `most` at a time, and rests for `pause` seconds after one of several."""

    def __init__(self, write: Callable[[Sequence[What]], Awaitable[None]], *, pause: float, most: int) -> None:
        self._write_all = write
        self._pause = pause
        self._most = most
        self._waiting: list[_Waiting[What]] = []
        self._writing: asyncio.Task[None] | None = None

    async def put(self, what: What) -> None:
        """Returns once it is written; raises what writing it raised, alone or with all of its crowd."""
        waiting = _Waiting(what)
        self._waiting.append(waiting)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_crowds(), name="writing crowds")
        await waiting.written

    async def drain(self) -> None:
        """Until nobody waits any more."""
        while self._writing is not None and not self._writing.done():
            await asyncio.wait([self._writing])

    async def _write_crowds(self) -> None:
        while self._waiting:
            crowd = self._waiting[: self._most]
            del self._waiting[: self._most]
            await self._write(crowd)
            if len(crowd) > 1:
                await asyncio.sleep(self._pause)

    async def _write(self, crowd: list[_Waiting[What]]) -> None:
        try:
            await self._write_all([waiting.what for waiting in crowd])
        except Exception as error:  # noqa: BLE001 - whoever waits is told, each their own
            if len(crowd) == 1 or isinstance(error, AWAY):
                for waiting in crowd:
                    waiting.fails(error)
                return
            for waiting in crowd:  # one of them spoils it: it must not take the others with it
                await self._write([waiting])
            return
        for waiting in crowd:
            waiting.is_written()
