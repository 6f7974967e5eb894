"""A process that takes from queues: its connections, its lanes, how it starts and how it stops.

Two connections: an alarm on the broker stops whoever publishes, and must not stop what consumes. One AMQP channel
per queue: a consumer timeout closes the channel. SIGTERM drains, in ten seconds whatever is away.
"""

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from alerting import metrics
from alerting.amqp import BrokerAway, Consumer, Incoming, Link, Publisher, Unroutable, declares, declaring
from alerting.ending import DRAIN_WITHIN, Ending, let_go
from alerting.persistence import Database
from alerting.priority import give_way_beside
from alerting.sealing import Seal
from alerting.settings import Settings
from alerting.signs import Signs
from alerting.topology import topology
from consumers import deadletters

log = structlog.get_logger()

TIDY_EVERY = 5.0  # seconds
PAUSE_AFTER_TROUBLE = 0.5
CONNECT_TOGETHER = 30.0
SENTENCE = 300  # characters

Handler = Callable[[Incoming], Awaitable[None]]


class Worker:
    """What every consuming process has in hand."""

    def __init__(self, settings: Settings, name: str) -> None:
        self.settings = settings
        self.name = name
        self.prefix = settings.amqp_prefix
        self.database = Database(settings.database)
        self.seal = Seal(settings.key_bytes)
        self._consuming = Link(settings.amqp, f"{name} consumes")
        self._publishing = Link(settings.amqp, f"{name} publishes")
        self.publisher = Publisher(self._publishing)
        self.signs = Signs(name, self.database, (self._consuming, self._publishing))
        ours = topology(self.prefix)
        declares(self._publishing, ours)
        # Nobody consumes what is not declared yet; what is deleted later is declared again by who misses it.
        self._consuming.on_connect(lambda: self._publishing.wait_up(CONNECT_TOGETHER))
        self._consuming.declares_if_missing(declaring(self._consuming, ours))
        self._is_served = False
        self._consumers: list[Consumer] = []
        self._queues: list[_Taking] = []

    def takes(
        self, queue: str, handler: Handler, *, prefetch: int, at_once: int = 1, before_others: bool = False
    ) -> None:
        """Hand every message of a queue to `handler`, `at_once` of them side by side.

        `before_others`: those who take from it as well are given what we have no hand free for.
        """
        taking = _Taking(queue, handler, at_once, self.database, self.signs)
        self._queues.append(taking)
        priority = int(before_others)
        self._consumers.append(Consumer(self._consuming, self.prefix + queue, prefetch, taking.put, priority=priority))

    def give_way(self, by: int) -> None:
        """Where the processors do not suffice, let those go first who carry alerts: `by` as for nice(1)."""
        give_way_beside(self.database, by)

    async def until_database(self) -> None:
        """Wait, and say so on /status, until the database answers: for what must be read before the work begins."""
        self._serve()
        await self.signs.until_database()

    def _serve(self) -> None:
        if not self._is_served:
            metrics.serve(self.settings.metrics_host, self.settings.metrics_port, self.signs.health)
            self._is_served = True

    async def run(
        self,
        *,
        tidy: Callable[[], Awaitable[None]] | None = None,
        drain: Callable[[], Awaitable[None]] | None = None,
        beside: Mapping[str, Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        """Work until SIGTERM or SIGINT; then take no more, drain, and end."""
        ending = Ending()
        ending.hear()
        self._serve()
        tasks: list[asyncio.Task[Any]] = []
        try:
            async with self._connected():
                tasks += [asyncio.create_task(work, name=what) for what, work in (beside or {}).items()]
                tasks += [asyncio.create_task(taking.run(), name=taking.queue) for taking in self._queues]
                if tidy:
                    tasks.append(asyncio.create_task(_every(TIDY_EVERY, tidy), name="tidy"))
                tasks += [asyncio.create_task(link.given_up()) for link in (self._consuming, self._publishing)]
                tasks.append(asyncio.create_task(self.signs.give(), name="signs of life"))
                log.info("begun", worker=self.name)
                asked = asyncio.create_task(ending.asked.wait())
                try:
                    await asyncio.wait([asked, *tasks], return_when=asyncio.FIRST_COMPLETED)
                    for task in tasks:
                        if task.done() and not task.cancelled() and (error := task.exception()):
                            ending.ask()
                            raise error
                finally:
                    await self._stop([*tasks, asked], drain)
        finally:
            ending.close(tasks)

    async def _stop(self, tasks: Sequence[asyncio.Task[Any]], drain: Callable[[], Awaitable[None]] | None) -> None:
        log.info("draining", worker=self.name)
        self.signs.drains()
        by = asyncio.get_running_loop().time() + DRAIN_WITHIN
        await asyncio.gather(*(consumer.stop() for consumer in self._consumers))
        takings = {taking.queue for taking in self._queues}
        await let_go([task for task in tasks if task.get_name() in takings or task.get_name() == "tidy"])
        if drain:
            draining = asyncio.ensure_future(drain())
            await asyncio.wait([draining], timeout=by - asyncio.get_running_loop().time())
            if not draining.done():
                log.warning("not all could be finished in time; RabbitMQ gives it to others", worker=self.name)
            await let_go([draining])
        await let_go(tasks)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[None]:
        for link in (self._publishing, self._consuming):
            link.start()
        try:
            yield
        finally:
            await asyncio.gather(self.signs.withdraw(), *map(_goodbye, (self._consuming, self._publishing)))
            await self.database.close()


class _Taking:
    """The messages of one queue that wait for their handler."""

    def __init__(self, queue: str, handler: Handler, at_once: int, database: Database, signs: Signs) -> None:
        self.queue = queue
        self._handler = handler
        self._at_once = at_once
        self._database = database
        self._signs = signs
        self._messages: deque[Incoming] = deque()
        self._arrived = asyncio.Event()

    def put(self, message: Incoming) -> None:
        """Called from pika's callback: only this much may happen there."""
        self._messages.append(message)
        self._arrived.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as hands:
            for _ in range(self._at_once):
                hands.create_task(self._take())

    async def _take(self) -> None:
        while True:
            while not self._messages:
                self._arrived.clear()
                await self._arrived.wait()
            await self._handle(self._messages.popleft())

    async def _handle(self, message: Incoming) -> None:
        while True:
            try:
                return await self._handler(message)
            except (OperationalError, InterfaceError, PoolTimeout, OSError, BrokerAway) as error:
                # Not the message's fault: it stays ours until what is away is back. Given back it would come at
                # once, and twenty times later be a dead letter.
                log.warning("waiting for what is away", queue=self.queue, error=type(error).__name__)
                if not isinstance(error, BrokerAway | OSError):
                    self._signs.lacks_database(error)
                await asyncio.sleep(PAUSE_AFTER_TROUBLE * random.uniform(0.5, 1.5))
            except (SQLAlchemyError, Unroutable) as error:
                log.warning("a message goes back", queue=self.queue, error=type(error).__name__)
                await asyncio.sleep(PAUSE_AFTER_TROUBLE)
                return message.reject(requeue=True)
            except Exception as error:  # the unforeseen goes to the dead letters, with an alarm
                log.exception("unforeseen", queue=self.queue, message=message.message_id)
                return await self._bury(message, f"{type(error).__name__}: {error}"[:SENTENCE])

    async def _bury(self, message: Incoming, sentence: str) -> None:
        try:
            await deadletters.bury(self._database, message, "unforeseen", sentence)
        except Exception:  # no letter is lost for want of a grave: RabbitMQ has one too
            metrics.DEAD_LETTERS.labels("unforeseen").inc()
            log.exception("dead letter", queue=self.queue, message=message.message_id)
            message.reject(requeue=False)


async def _every(seconds: float, do: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(seconds)
        await do()


async def _goodbye(link: Link) -> None:
    with contextlib.suppress(BrokerAway):
        await link.stop()
