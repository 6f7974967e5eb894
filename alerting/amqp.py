"""pika on asyncio: connect and come back, declare, publish with pipelined confirms, consume.

The only module that knows pika. Its callbacks only set futures and append to deques: an exception in one would
close the connection. Whatever waits here is told when the connection goes; nothing waits for ever.
"""

import asyncio
import contextlib
import itertools
import random
import struct
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

import pika
import pika.data
import structlog
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.exceptions import AMQPError, ChannelClosedByBroker

from alerting import metrics
from alerting.topology import Topology

log = structlog.get_logger()
T = TypeVar("T")

HEARTBEAT = 20  # seconds
BLOCKED_PATIENCE = 10.0
CONNECT_PATIENCE = 10.0
CONFIRM_PATIENCE = 5.0
GOODBYE = 1.0
TAKE_NO_MORE = 0.5
DECLARE_AGAIN_EVERY = 5.0
UNTIL_ALL_KNOW = 0.5
SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
PRECONDITION_FAILED = 406


class BrokerAway(Exception):
    """RabbitMQ cannot be reached, or went away before it answered. What was said may or may not have arrived."""


class Unroutable(Exception):
    """No queue wanted the message: a binding is missing. An acknowledgement after a return is not success."""


class TopologyMismatch(Exception):
    """A queue or exchange exists with other arguments than ours."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to publish. It is persistent, always; `mandatory` unless it is for whoever listens, if anybody."""

    exchange: str
    routing_key: str
    message_id: str
    body: bytes
    headers: dict[str, Any] = field(default_factory=dict)
    content_type: str = "application/json"
    mandatory: bool = True


class Incoming:
    """A message RabbitMQ gave us, to be acknowledged or rejected once."""

    __slots__ = (
        "_channel",
        "_tag",
        "body",
        "content_type",
        "exchange",
        "headers",
        "message_id",
        "queue",
        "redelivered",
        "routing_key",
        "user_id",
    )

    def __init__(self, queue: str, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self._channel = channel
        self._tag: int = method.delivery_tag
        self.queue = queue
        self.exchange: str = method.exchange
        self.body = body
        self.headers: dict[str, Any] = properties.headers or {}
        self.message_id: str = properties.message_id or ""
        self.content_type: str = properties.content_type or ""
        self.user_id: str = properties.user_id or ""
        """Who published it. RabbitMQ lets nobody write another's name here; without it nobody knows."""
        self.redelivered: bool = method.redelivered
        self.routing_key: str = method.routing_key

    def ack(self) -> None:
        """Done with it. On a channel that is gone this does nothing: RabbitMQ gives the message again."""
        if self._channel.is_open:
            with contextlib.suppress(AMQPError):  # the connection under it may be gone first
                self._channel.basic_ack(self._tag)

    def reject(self, *, requeue: bool) -> None:
        """Back to its queue, or to the dead letters of its lane."""
        if self._channel.is_open:
            with contextlib.suppress(AMQPError):
                self._channel.basic_reject(self._tag, requeue=requeue)


class Link:
    """One connection to RabbitMQ that comes back. Whoever needs channels is set up again each time."""

    def __init__(self, url: str, name: str) -> None:
        self._parameters = pika.URLParameters(url)
        self._parameters.heartbeat = HEARTBEAT
        self._parameters.blocked_connection_timeout = BLOCKED_PATIENCE
        self._parameters.socket_timeout = 5.0
        self._parameters.client_properties = {"connection_name": name}
        self.name = name
        self._set_up: list[Callable[[], Awaitable[None]]] = []
        self._connection: Any = None
        self._up = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._declare: Callable[[], Awaitable[None]] | None = None
        self._declaring: asyncio.Task[None] | None = None
        self._is_blocked = False
        self.since = datetime.now(UTC)
        """Since when it has been of use, or of none."""

    @property
    def is_up(self) -> bool:
        return self._up.is_set()

    @property
    def is_of_use(self) -> bool:
        """Whether it stands, and RabbitMQ takes what is published on it."""
        return self._up.is_set() and not self._is_blocked

    async def wait_up(self, patience: float) -> None:
        """Returns when connected. Raises BrokerAway after `patience` seconds."""
        if self._up.is_set():
            return
        try:
            async with asyncio.timeout(patience):
                await self._up.wait()
        except TimeoutError:
            raise BrokerAway(f"RabbitMQ is not reachable for {self.name}; still trying") from None

    def on_connect(self, set_up: Callable[[], Awaitable[None]]) -> None:
        """Run `set_up` after every connect, before the link counts as up."""
        self._set_up.append(set_up)

    def declares_if_missing(self, declare: Callable[[], Awaitable[None]]) -> None:
        """Run `declare` when something turns out not to be there while the link stands."""
        self._declare = declare

    async def declare_again(self) -> None:
        """Somebody deleted a queue under us: make again what is missing. Raises BrokerAway."""
        if self._declare is None:
            return
        if self._declaring is None or self._declaring.done():
            log.warning("something is missing on RabbitMQ: declaring again", link=self.name)
            self._declaring = asyncio.create_task(self._declare_now(self._declare), name=f"declare {self.name}")
        await asyncio.shield(self._declaring)  # one for all who miss something

    async def _declare_now(self, declare: Callable[[], Awaitable[None]]) -> None:
        # Not at once: on 3.10 a queue that is back too soon leaves its old consumers unaware and deaf (half the time).
        await asyncio.sleep(UNTIL_ALL_KNOW * random.uniform(1, 2))
        try:
            await declare()
        except AMQPError as error:
            raise BrokerAway(f"{self.name} cannot declare: {error!r}") from None

    def start(self) -> None:
        metrics.AMQP_UP.labels(self.name).set(0)
        self._task = asyncio.create_task(self._keep_connected(), name=f"amqp {self.name}")

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._connection is not None and not self._connection.is_closed:
            # What was acknowledged last is still on its way; a socket left open is a warning at the end.
            gone = asyncio.Event()
            self._connection.add_on_close_callback(lambda *_: gone.set())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GOODBYE):
                    await gone.wait()

    def check(self) -> None:
        """Raises what made the link give up for good, a TopologyMismatch."""
        if self._task and self._task.done() and not self._task.cancelled() and (error := self._task.exception()):
            raise error

    async def given_up(self) -> None:
        """Waits as long as the link lives; raises what ended it."""
        assert self._task is not None
        await asyncio.shield(self._task)

    async def channel(self) -> Any:
        """A fresh pika channel on the present connection. Raises BrokerAway."""
        connection = self._connection
        if connection is None or not connection.is_open:
            raise BrokerAway(f"{self.name} has no connection to RabbitMQ")
        opened: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        channel = connection.channel(on_open_callback=lambda ch: _settle(opened, ch))
        channel.add_on_close_callback(lambda _, reason: _fail(opened, BrokerAway(f"channel closed: {reason}")))
        return await _in_time(opened, "open a channel")

    def drop(self) -> None:
        """Close the connection because it no longer answers; it is then made anew."""
        if self._connection is not None and self._connection.is_open:
            self._connection.close()

    async def _keep_connected(self) -> None:
        pause = SHORTEST_PAUSE
        while True:
            closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            try:
                self._connection = await self._connect(closed)
                for set_up in self._set_up:
                    await set_up()
                self._up.set()
                self.since = datetime.now(UTC)
                metrics.AMQP_UP.labels(self.name).set(1)
                log.info("amqp connected", link=self.name)
                pause = SHORTEST_PAUSE
                await closed
            except TopologyMismatch:
                raise
            except (BrokerAway, AMQPError, OSError) as error:
                log.warning("amqp away", link=self.name, error=str(error) or repr(error))
            finally:
                if self.is_of_use:
                    self.since = datetime.now(UTC)
                self._up.clear()
                metrics.AMQP_UP.labels(self.name).set(0)
                self.drop()
            metrics.AMQP_RECONNECTS.labels(self.name).inc()
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _connect(self, closed: asyncio.Future[None]) -> Any:
        opened: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def on_close(_: Any, reason: Any) -> None:
            _fail(opened, BrokerAway(f"connection closed: {reason}"))
            _fail(closed, BrokerAway(f"connection closed: {reason}"))

        connection = AsyncioConnection(
            self._parameters,
            on_open_callback=lambda c: _settle(opened, c),
            on_open_error_callback=lambda _, error: _fail(opened, BrokerAway(f"cannot connect: {error!r}")),
            on_close_callback=on_close,
            custom_ioloop=asyncio.get_running_loop(),
        )
        connection.add_on_connection_blocked_callback(lambda *_: self._blocked(True))
        connection.add_on_connection_unblocked_callback(lambda *_: self._blocked(False))
        self._blocked(False)  # the one before may have died blocked
        return await _in_time(opened, "connect", CONNECT_PATIENCE)

    def _blocked(self, is_blocked: bool) -> None:
        if is_blocked is not self._is_blocked and self.is_up:
            self.since = datetime.now(UTC)
        self._is_blocked = is_blocked
        metrics.AMQP_BLOCKED.labels(self.name).set(int(is_blocked))


class Publisher:
    """Publishes on one channel of a link, many at once, each awaiting its own confirm.

    A nack closes the channel: RabbitMQ 3.10 nacks for ever on a channel that lost its queue's leader.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._channel: Any = None
        self._opening = asyncio.Lock()
        self._tags = itertools.count(1)
        self._unconfirmed: dict[int, tuple[str, asyncio.Future[None]]] = {}
        self._returned: dict[str, str] = {}
        self._looked_at = 0.0
        self._repairing: asyncio.Task[None] | None = None

    async def publish(self, message: Outgoing) -> None:
        """Returns when RabbitMQ has it safe.

        Raises:
            Unroutable: no queue is bound for it.
            BrokerAway: not confirmed; it may be said again, and must then count as repeated.
        """
        channel = self._channel if self._is_open() else await self._open()
        confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        tag = next(self._tags)
        self._unconfirmed[tag] = (message.message_id, confirmed)
        properties = pika.BasicProperties(
            message_id=message.message_id,
            delivery_mode=2,
            content_type=message.content_type,
            headers=message.headers or None,
        )
        try:
            channel.basic_publish(message.exchange, message.routing_key, message.body, properties, message.mandatory)
        except AMQPError as error:
            self._unconfirmed.pop(tag, None)
            raise BrokerAway(f"publish failed: {error!r}") from None
        try:
            async with asyncio.timeout(CONFIRM_PATIENCE):
                await confirmed
        except TimeoutError:
            self._link.drop()
            raise BrokerAway(f"no confirm within {CONFIRM_PATIENCE:.0f} s: connection dropped") from None
        finally:
            self._unconfirmed.pop(tag, None)

    def _is_open(self) -> bool:
        return self._channel is not None and self._channel.is_open

    async def _open(self) -> Any:
        async with self._opening:
            if self._is_open():
                return self._channel
            channel = await self._link.channel()
            selected: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            channel.add_on_return_callback(self._on_return)
            channel.add_on_close_callback(lambda _, reason: _fail(selected, BrokerAway(f"channel closed: {reason}")))
            channel.add_on_close_callback(self._on_close)
            try:
                channel.confirm_delivery(
                    lambda frame: self._on_confirm(channel, frame), callback=lambda frame: _settle(selected, frame)
                )
            except AMQPError as error:
                raise BrokerAway(f"channel closed: {error!r}") from None
            await _in_time(selected, "select confirms")
            self._tags = itertools.count(1)
            self._channel = channel
            return channel

    def _on_return(self, _: Any, method: Any, properties: Any, __: bytes) -> None:
        self._returned[properties.message_id] = f"{method.exchange} {method.routing_key}: {method.reply_text}"

    def _on_confirm(self, channel: Any, frame: Any) -> None:
        if channel is not self._channel:
            return  # what it speaks of was given up on, and its tags are now another channel's
        method = frame.method
        tags = [t for t in self._unconfirmed if t <= method.delivery_tag] if method.multiple else [method.delivery_tag]
        acked = method.NAME == "Basic.Ack"
        for tag in tags:
            message_id, confirmed = self._unconfirmed.pop(tag, ("", None))
            if confirmed is None:
                continue
            if not acked:
                _fail(
                    confirmed,
                    BrokerAway("RabbitMQ refused the message (nack): its queue is full or has no leader"),
                )
            elif (why := self._returned.pop(message_id, None)) is not None:
                _fail(confirmed, Unroutable(f"no queue takes {why}: is the topology declared?"))
                self._look_for_what_is_missing()
            else:
                _settle(confirmed, None)
        if not acked:
            metrics.AMQP_CHANNEL_REOPENS.labels("nack").inc()
            self._give_up("another message on it was refused")
            _close(channel)

    def _look_for_what_is_missing(self) -> None:
        """Somebody deleted a queue nobody consumes, one of those that wait: only who publishes to it can notice."""
        now = time.monotonic()
        if now - self._looked_at > DECLARE_AGAIN_EVERY:
            self._looked_at = now
            self._repairing = asyncio.get_running_loop().create_task(self._repair(), name="declare what is missing")

    async def _repair(self) -> None:
        try:
            await self._link.declare_again()
        except (BrokerAway, TopologyMismatch) as error:
            log.error("what is missing could not be declared", link=self._link.name, error=str(error))

    def _on_close(self, channel: Any, reason: Any) -> None:
        if self._channel is channel:
            self._give_up(reason)

    def _give_up(self, reason: Any) -> None:
        """The next message goes on a new channel. At once: the old one's end may come after its successor's start."""
        self._channel = None
        unconfirmed, self._unconfirmed = self._unconfirmed, {}
        self._returned.clear()
        for _, confirmed in unconfirmed.values():
            _fail(confirmed, BrokerAway(f"channel closed before the confirm: {reason}"))


class Consumer:
    """Takes messages from one queue, on a channel of its own, whenever the link is up.

    Of those who take from one queue the one of the highest `priority` is given first, as long as its `prefetch` allows.

    `on_message` must only put the message somewhere; it is called from pika's callback. Should it fail all the
    same, that message goes to the dead letters, and the others are taken.
    """

    def __init__(
        self, link: Link, queue: str, prefetch: int, on_message: Callable[[Incoming], None], *, priority: int = 0
    ) -> None:
        self._link = link
        self._queue = queue
        self._prefetch = prefetch
        self._arguments = {"x-priority": priority} if priority else None
        self._on_message = on_message
        self._channel: Any = None
        self._stopped = False
        self._again: asyncio.Task[None] | None = None
        link.on_connect(self._consume_or_declare)

    async def _consume_or_declare(self) -> None:
        try:
            await self._consume()
        except BrokerAway:
            # No such queue? The publishing link declared it when it connected; somebody may have deleted it since.
            await self._link.declare_again()
            await self._consume()

    async def _consume(self) -> None:
        if self._stopped:
            return
        channel = await self._link.channel()
        loop = asyncio.get_running_loop()
        limited: asyncio.Future[Any] = loop.create_future()
        consuming: asyncio.Future[Any] = loop.create_future()

        def on_close(_: Any, reason: Any) -> None:
            for waiting in (limited, consuming):
                _fail(waiting, BrokerAway(f"channel of {self._queue} closed: {reason}"))
            if self._channel is channel and not self._stopped:
                self._channel = None
                # A consumer timeout closes the channel and leaves the connection: consume again on a new one.
                self._again = loop.create_task(self._consume_again(), name=f"consume {self._queue}")

        channel.add_on_close_callback(on_close)
        channel.add_on_cancel_callback(lambda _: _close(channel))  # RabbitMQ 4.3 cancels where 3.10 closed
        channel.basic_qos(prefetch_count=self._prefetch, callback=lambda frame: _settle(limited, frame))
        await _in_time(limited, f"limit {self._queue}")
        channel.basic_consume(
            self._queue, self._take, arguments=self._arguments, callback=lambda frame: _settle(consuming, frame)
        )
        await _in_time(consuming, f"consume {self._queue}")
        self._channel = channel

    def _take(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        message = Incoming(self._queue, channel, method, properties, body)
        try:
            self._on_message(message)
        except Exception:
            # Out of here it would close the connection, and the message would come again to do the same.
            metrics.DEAD_LETTERS.labels("unforeseen").inc()
            log.exception("dead letter", queue=self._queue, message=message.message_id)
            message.reject(requeue=False)

    async def _consume_again(self) -> None:
        metrics.AMQP_CHANNEL_REOPENS.labels("closed").inc()
        if not self._link.is_up:
            return self._link.drop()  # whoever is being set up right now is set up anew, all of them
        try:
            await self._consume_or_declare()
        except (BrokerAway, TopologyMismatch, AMQPError) as error:
            log.warning("not consuming", queue=self._queue, error=str(error) or repr(error))
            self._link.drop()

    async def stop(self) -> None:
        """Take nothing more. What was taken may still be acknowledged."""
        self._stopped = True
        channel = self._channel
        if channel is not None and channel.is_open:
            cancelled: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            for tag in channel.consumer_tags:
                channel.basic_cancel(tag, callback=lambda frame: _settle(cancelled, frame))
            with contextlib.suppress(BrokerAway):  # the end of the connection tells it too
                await _in_time(cancelled, f"cancel {self._queue}", TAKE_NO_MORE)


def declares(link: Link, topology: Topology) -> None:
    """Declare the whole topology at every connect; refuse to run where something of another shape is there."""
    declare = declaring(link, topology)
    link.on_connect(declare)
    link.declares_if_missing(declare)


def declaring(link: Link, topology: Topology) -> Callable[[], Awaitable[None]]:
    """What declares the whole topology on this link. Where all is there already, it changes nothing."""

    async def declare() -> None:
        channel = await link.channel()
        for exchange in topology.exchanges:
            await _declared(
                channel,
                f"exchange {exchange.name}",
                lambda done, e=exchange: channel.exchange_declare(e.name, e.type, durable=True, callback=done),
            )
        for queue in topology.queues:
            await _declared(
                channel,
                f"queue {queue.name}",
                lambda done, q=queue: channel.queue_declare(q.name, durable=True, arguments=q.arguments, callback=done),
            )
            for binding in queue.bindings:
                await _declared(
                    channel,
                    f"binding of {queue.name}",
                    lambda done, q=queue, b=binding: channel.queue_bind(
                        q.name, b.exchange, b.routing_key, b.arguments or None, callback=done
                    ),
                )
        _close(channel)

    return declare


async def _declared(channel: Any, what: str, declare: Callable[..., Any]) -> None:
    done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def on_close(_: Any, reason: Any) -> None:
        if isinstance(reason, ChannelClosedByBroker) and reason.reply_code == PRECONDITION_FAILED:
            _fail(
                done,
                TopologyMismatch(
                    f"{what} exists with other arguments: {reason.reply_text}. "
                    "Delete it when it is empty, or run this system under another ALERTING_AMQP_PREFIX"
                ),
            )
        else:
            _fail(done, BrokerAway(f"{what}: {reason}"))

    channel.add_on_close_callback(on_close)
    declare(lambda frame: _settle(done, frame))
    await _in_time(done, f"declare {what}", 15.0)


async def _in_time(future: "asyncio.Future[T]", what: str, patience: float = 5.0) -> T:
    try:
        # Not wait_for: before Python 3.12 it swallows a cancellation that comes together with the answer.
        async with asyncio.timeout(patience):
            return await future
    except TimeoutError:
        raise BrokerAway(f"RabbitMQ did not {what} within {patience:.0f} s") from None


def _close(channel: Any) -> None:
    if channel.is_open:
        with contextlib.suppress(AMQPError):  # its connection went first
            channel.close()


def _settle(future: "asyncio.Future[T]", value: T) -> None:
    if not future.done():
        future.set_result(value)


def _fail(future: "asyncio.Future[Any]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # whoever waits gets it; where nobody does any more it is not worth a line in the log


# ── headers of others ───────────────────────────────────────────────────────────────────────────────

_WIDTHS = {b"T": 8, b"d": 8, b"f": 4}  # bytes of a moment and of floating numbers; tables and lists say theirs
_value_as_pika_reads_it = pika.data.decode_value


def _value_or_none(encoded: bytes, offset: int) -> tuple[Any, int]:
    """One value of a header and where the next begins; None for one that Python cannot hold.

    As a moment in milliseconds, which Java programs write, or a thousand tables within each other. pika would drop
    the connection over it, and RabbitMQ would give the message again, to whoever comes next.
    """
    try:
        value, end = _value_as_pika_reads_it(encoded, offset)
        return value, end
    except (ValueError, OverflowError, RecursionError):
        width = _WIDTHS.get(encoded[offset : offset + 1])
        if width is None:
            width = 4 + int(struct.unpack_from(">I", encoded, offset + 1)[0])
        return None, offset + 1 + width


pika.data.decode_value = _value_or_none
