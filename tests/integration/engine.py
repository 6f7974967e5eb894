"""The delivery engine in one process, on real parts: people who subscribed, alerts, workers, Meta's simulator."""

import asyncio
import contextlib
import json
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text

from alerting import authorities, issuing
from alerting.actors import Actor, Role
from alerting.amqp import Consumer, Incoming, Link, Outgoing, Publisher, declares
from alerting.composing import Wording
from alerting.domain.attachments import Enclosure
from alerting.domain.authority import Authority, ChannelAccess
from alerting.domain.delivery import Channel, Progress
from alerting.domain.kinds import Colour, Kind, Risk
from alerting.domain.lanes import Lane
from alerting.domain.recipients import Place, Precision
from alerting.enrolling import enrol
from alerting.joining_many import Joining, join_many
from alerting.outbox import relay
from alerting.persistence import Database, ledger, tables
from alerting.sealing import Seal
from alerting.settings import Settings
from alerting.subscribing import Subscriber
from alerting.topology import Topology, deliver_queue, fanout_queue, topology
from consumers import wiring
from consumers.__main__ import BATCHES_IN_HAND
from consumers.deliver import Delivery
from consumers.fanout import FanOut
from consumers.recording import Recorder
from consumers.simulators import telegram as telegram_simulator
from consumers.simulators import whatsapp as whatsapp_simulator
from consumers.simulators.serving import Served
from consumers.worker import Worker

KEY = "5e" * 32
TOKEN = "EAAGcalcinaia7nobodyMayReadThis"
COMUNE, FORNACETTE = "calcinaia", "calcinaia.fornacette"
WHATSAPP = "whatsapp.calcinaia"
ANNA, BRUNO = Actor("anna", Role.OPERATOR, COMUNE), Actor("bruno", Role.APPROVER, COMUNE)
EVACUATE = "Evacuare i piani bassi verso la scuola di via Morandi."
ONE_KIND = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
"""For what costs time and is the same on either database, or needs many who write at once."""


async def until(true: Callable[[], Awaitable[bool]] | Callable[[], bool], *, within: float = 30.0) -> None:
    """Wait until something is so; fails with TimeoutError where it never is."""
    async with asyncio.timeout(within):
        while True:
            found = true()
            if (await found) if isinstance(found, Awaitable) else found:
                return
            await asyncio.sleep(0.02)


@dataclass
class Town:
    """Calcinaia, enrolled in a database of its own."""

    database: Database
    seal: Seal
    authorities: dict[str, Authority]
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(10, 10_000_000, 10)))
    """Ends of their phones: all end in 0, and none is of the simulator's bad ones."""

    @property
    def authority(self) -> Authority:
        return self.authorities[COMUNE]

    @property
    def whatsapp(self) -> ChannelAccess:
        return next(access for access in self.authority.channels if access.channel is Channel.WHATSAPP)

    async def subscribe(self, people: int, area: str = FORNACETTE, account: ChannelAccess | None = None) -> list[str]:
        """So many new people of an area. Their numbers."""
        access = account or self.whatsapp
        numbers = [f"+39347{next(self.numbers):07d}" for _ in range(people)]
        place = Place(Precision.COMUNE if area == COMUNE else Precision.FRAZIONE, (area,))
        joining = [Joining(Subscriber(self.authority, access, number), (place,), live=True) for number in numbers]
        async with self.database.write() as session:
            await join_many(session, joining, self.seal, keyword="ISCRIVIMI", now=datetime.now(UTC))
        return numbers

    async def issue(
        self,
        *,
        urgent: bool = True,
        lasts: timedelta = timedelta(hours=2),
        area: str = FORNACETTE,
        updates: str | None = None,
        enclosure: Enclosure | None = None,
    ) -> int:
        """An alert, drafted, approved by another, and issued. Its dispatch."""
        now = datetime.now(UTC)
        wording = Wording(
            kind=Kind.ALLERTA_METEO if urgent else Kind.EVENTO,
            headline="Piena dell'Arno a Fornacette" if urgent else "Sagra della zuppa",
            description="Il fiume sale." if urgent else "In piazza, domenica alle 12.",
            instruction=EVACUATE if urgent else "",
            expires=now + lasts,
            colour=Colour.ARANCIONE if urgent else None,
            risk=Risk.IDRAULICO if urgent else None,
            areas=(area,),
            enclosure=enclosure,
        )
        async with self.database.write() as session:
            original = await session.get_one(tables.Alert, updates) if updates else None
            row = await issuing.draft(session, wording, self.authority, ANNA, now, updates=original)
            await issuing.approve(session, row, BRUNO, now)
            return (await issuing.issue(session, row, ANNA, now)).id

    async def update(self, dispatch: int, **how: Any) -> int:
        """An Update that takes the place of an issued alert. Its dispatch."""
        async with self.database.read() as session:
            alert = (await session.get_one(tables.Dispatch, dispatch)).alert
        return await self.issue(updates=alert, **how)

    async def cancel(self, dispatch: int) -> int:
        """Take an issued alert back. The dispatch of the Cancel."""
        async with self.database.write() as session:
            alert = (await session.get_one(tables.Dispatch, dispatch)).alert
            row = await session.get_one(tables.Alert, alert)
            cancel = await issuing.cancel(session, row, self.authority, ANNA, "Errore.", datetime.now(UTC))
            assert cancel is not None
            of_cancel = select(tables.Dispatch.id).where(tables.Dispatch.alert == cancel.identifier)
            return (await session.scalars(of_cancel)).one()

    async def fan_out(self, dispatch: int) -> None:
        assert await FanOut(self.database, self.authorities).fan_out(dispatch)

    async def issued_and_fanned_out(self, people: int, **how: Any) -> int:
        """People who subscribe, and an alert to them that is ready to be sent."""
        await self.subscribe(people)
        dispatch = await self.issue(**how)
        await self.fan_out(dispatch)
        return dispatch

    async def summary(self, dispatch: int) -> dict[Progress, int]:
        async with self.database.read() as session:
            return await ledger.summary(session, dispatch)

    async def is_over(self, dispatch: int) -> bool:
        """Completion: the audience is frozen, and everybody in it is in a final state."""
        async with self.database.read() as session:
            audience = (await session.get_one(tables.Dispatch, dispatch)).audience
            stands = await ledger.summary(session, dispatch)
        return audience is not None and audience == sum(n for progress, n in stands.items() if progress.is_final)

    async def batches(self, dispatch: int) -> list[tables.Batch]:
        async with self.database.read() as session:
            query = select(tables.Batch).where(tables.Batch.dispatch_id == dispatch).order_by(tables.Batch.first)
            return list((await session.scalars(query)).all())

    async def deliveries(self, dispatch: int) -> list[tables.Delivery]:
        async with self.database.read() as session:
            query = select(tables.Delivery).where(tables.Delivery.dispatch_id == dispatch).order_by(tables.Delivery.seq)
            return list((await session.scalars(query)).all())

    async def outbox(self) -> list[tables.OutboxMessage]:
        async with self.database.read() as session:
            return list((await session.scalars(select(tables.OutboxMessage).order_by(tables.OutboxMessage.id))).all())

    async def run(self, statement: str, **parameters: Any) -> None:
        async with self.database.write() as session:
            await session.execute(text(statement), parameters)

    async def count(self, table: Any) -> int:
        async with self.database.read() as session:
            return int(await session.scalar(select(func.count()).select_from(table)) or 0)


@asynccontextmanager
async def a_town(database_url: str, *, telegram: bool = False) -> AsyncIterator[Town]:
    """Calcinaia and the other four, in an empty migrated database; without Telegram, whose public channel counts."""
    database, seal, everybody = Database(database_url), Seal(bytes.fromhex(KEY)), authorities.load()
    if not telegram:
        everybody = {
            code: replace(one, channels=tuple(a for a in one.channels if a.channel is Channel.WHATSAPP))
            for code, one in everybody.items()
        }
    async with database.write() as session:
        await enrol(session, everybody.values(), seal, share_of_limit=1.0, now=datetime.now(UTC))
    yield Town(database, seal, everybody)
    await database.close()


@asynccontextmanager
async def meta(**config: Any) -> AsyncIterator[Served]:
    """The Cloud API with Calcinaia's number and template."""
    access = next(a for a in authorities.load()[COMUNE].channels if a.channel is Channel.WHATSAPP)
    known: dict[str, Any] = {
        "accounts": {access.settings["phone_number_id"]: {"token": TOKEN}},
        "templates": [{"name": access.settings["template"], "variables": 5, "body": "{{1}}|{{2}}|{{3}}|{{4}}|{{5}}"}],
        "per_second": 5000,
        "burst": 1.0,
    }
    served = await whatsapp_simulator.start(known | config)
    yield served
    await served.close()


@asynccontextmanager
async def bots(**config: Any) -> AsyncIterator[Served]:
    """The Bot API with one bot, whose token is that of all our accounts."""
    known: dict[str, Any] = {"accounts": {"7000000001": {"token": TOKEN}}, "per_second": 5000, "burst": 1.0}
    served = await telegram_simulator.start(known | config)
    yield served
    await served.close()


def told(served: Served) -> Counter[str]:
    """How often each number was reached."""
    return Counter(str(json.loads(line)["to"]) for line in served.simulator.phones._lines)


def texts(served: Served) -> list[dict[str, Any]]:
    """Everything that reached a phone, in order."""
    return [json.loads(line) for line in served.simulator.phones._lines]


@dataclass
class Engine:
    """The processes that are running, and what a test may put into their queues."""

    town: Town
    prefix: str
    url: str
    link: Link
    publisher: Publisher
    settings: Settings

    async def put(self, exchange: str, key: str, body: bytes, message_id: str = "probe", **headers: Any) -> None:
        await self.publisher.publish(Outgoing(self.prefix + exchange, key, message_id, body, headers))

    async def take_one(self, queue: str, within: float = 30.0) -> tuple[bytes, dict[str, Any]]:
        """The first message of a queue, once there is one; it is acknowledged."""
        async with asyncio.timeout(within):
            while True:
                found = await get_one(self.link, self.prefix + queue)
                if found is not None:
                    return found
                await asyncio.sleep(0.05)


async def get_one(link: Link, queue: str) -> tuple[bytes, dict[str, Any]] | None:
    """One message of a queue, acknowledged, or None."""
    channel = await link.channel()
    answer: asyncio.Future[tuple[bytes, dict[str, Any]] | None] = asyncio.get_running_loop().create_future()
    channel.add_callback(lambda _: answer.set_result(None), ["Basic.GetEmpty"])
    channel.basic_get(
        queue,
        lambda _, method, properties, body: answer.set_result((body, properties.headers or {})),
        auto_ack=True,
    )
    found = await asyncio.wait_for(answer, 5)
    channel.close()
    return found


def connected(url: str, prefix: str) -> AbstractAsyncContextManager[Link]:
    """A link on which the whole topology is declared."""
    return linked(url, topology(prefix))


@asynccontextmanager
async def linked(url: str, ours: Topology, *consuming: tuple[str, list[Incoming]]) -> AsyncIterator[Link]:
    """A link on which this is declared, and what is found in each of these queues."""
    link = Link(url, "test")
    declares(link, ours)
    for queue, found in consuming:
        Consumer(link, queue, 100, found.append)
    link.start()
    try:
        await link.wait_up(60)
        yield link
    finally:
        await link.stop()


@asynccontextmanager
async def working(worker: Worker, **how: Any) -> AsyncIterator[asyncio.Task[None]]:
    """A worker that runs until the end, and then drains as SIGTERM lets it."""
    task = asyncio.create_task(worker.run(**how))
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        for name in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().remove_signal_handler(name)


@asynccontextmanager
async def delivering(settings: Settings, served: Served, channel: Channel = Channel.WHATSAPP) -> AsyncIterator[Worker]:
    """One delivery process of a channel, put together as `consumers deliver` does."""
    worker = Worker(settings, f"deliver-{channel}")
    accounts = wiring.Accounts(worker.database, settings, channel)
    await accounts.read()
    recorder = Recorder(worker.database, worker.publisher, worker.seal, worker.prefix)
    adapter = wiring.adapter(channel, settings, worker.database, worker.seal)
    delivery = Delivery(worker.database, adapter, accounts, recorder, worker.seal)
    for lane in Lane:
        worker.takes(deliver_queue(channel, lane), delivery.take, prefetch=BATCHES_IN_HAND, at_once=4)
    beside = {"recorder": recorder.run(), "watch": delivery.watch()} | wiring.beside(adapter, accounts)
    async with working(worker, tidy=delivery.tidy, drain=delivery.drain, beside=beside):
        yield worker


def settings_of(town: Town, url: str, prefix: str, served: Served, folder: Path) -> Settings:
    """What a deployment would put into the environment."""
    secrets = folder / "secrets.json"
    secrets.write_text(json.dumps({a.name: {"token": TOKEN} for x in town.authorities.values() for a in x.channels}))
    return Settings(
        amqp_url=url,
        database_url=town.database.url,
        amqp_prefix=prefix,
        key=KEY,
        secrets_file=secrets,
        whatsapp_url=served.base_url,
    )


@asynccontextmanager
async def an_engine(
    town: Town, url: str, prefix: str, served: Served, folder: Path, *, workers: int = 1
) -> AsyncIterator[Engine]:
    """Relay, fan-out and delivery."""
    settings = settings_of(town, url, prefix, served, folder)
    async with contextlib.AsyncExitStack() as running:
        link = await running.enter_async_context(connected(url, prefix))
        relaying = asyncio.create_task(relay(town.database, link, prefix))
        running.push_async_callback(_ended, relaying)
        fan_out = Worker(settings, "fanout")
        by = FanOut(fan_out.database, town.authorities)
        for lane in Lane:
            fan_out.takes(fanout_queue(lane), by.take, prefetch=2)
        await running.enter_async_context(working(fan_out))
        deliver = [await running.enter_async_context(delivering(settings, served)) for _ in range(workers)]
        # An alert of a test may last for three seconds: those of the beginning are not to be among them.
        await until(lambda: all(worker.signs.health()[0] for worker in (fan_out, *deliver)), within=60)
        yield Engine(town, prefix, url, link, Publisher(link), settings)


Start = Callable[..., AbstractAsyncContextManager[Engine]]
"""What the fixture `engine` is: `an_engine` for this town, given a simulator and how many `workers`."""


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def soon(seconds: float = 0.0) -> float:
    """Unix time."""
    return time.time() + seconds
