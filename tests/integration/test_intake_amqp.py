"""CAP over AMQP, in and out: who may publish to us and what becomes of it; and who listens hears every alert."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pika
import pytest
from pika.exceptions import ChannelClosedByBroker
from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from yarl import URL

from alerting.amqp import Incoming
from alerting.cap_xml.reading import read
from alerting.cap_xml.writing import write
from alerting.domain import cap
from alerting.domain.authority import Authority
from alerting.domain.intake import CameBy, IntakeState
from alerting.domain.lanes import Lane
from alerting.domain.lifecycle import State
from alerting.domain.policies import FeedPolicy, Then
from alerting.domain.sources import Source
from alerting.intake.receiving import Receiver
from alerting.outbox import relay
from alerting.persistence import Database, tables
from alerting.settings import Settings
from alerting.sources import load as load_sources
from alerting.topology import ALERTS, INTAKE, INTAKE_QUEUE
from consumers.intake import MOST_BYTES, Intake
from consumers.worker import Worker
from tests.integration.engine import KEY, ONE_KIND, Engine, Town, an_engine, connected, get_one, meta, until, working

CAP_XML = "application/cap+xml"
NOWHERE = "postgresql+psycopg://nobody@127.0.0.1:9/none"
"""A database that is away: nothing listens on the discard port."""


def user_of(url: str) -> str:
    """Whom RabbitMQ takes us for."""
    return URL(url).user or "guest"


def valdera(url: str) -> Source:
    """The operations room of the union, which publishes as the user the tests have."""
    return replace(load_sources()["unione-valdera"], amqp_user=user_of(url))


def fire(identifier: str = "valdera-1", **changes: Any) -> bytes:
    """Smoke over Fornacette, and what to do."""
    now = datetime.now(UTC).replace(microsecond=0)
    info = cap.Info(
        category=(cap.Category.FIRE,),
        event="Incendio",
        urgency=cap.Urgency.IMMEDIATE,
        severity=cap.Severity.SEVERE,
        certainty=cap.Certainty.OBSERVED,
        response_type=(cap.ResponseType.SHELTER,),
        expires=now + timedelta(hours=6),
        headline="Incendio in un capannone a Fornacette",
        description="Un capannone brucia in via della Botte: il fumo va verso le case.",
        instruction="Resta in casa e chiudi le finestre.",
        areas=(cap.Area("Calcinaia", geocodes=(cap.NamedValue("ISTAT_COMUNE", "050004"),)),),
    )
    said = cap.Alert(
        identifier=identifier,
        sender="salaoperativa@unione.valdera.pi.it",
        sent=now,
        status=cap.Status.ACTUAL,
        msg_type=cap.MsgType.ALERT,
        infos=(info,),
    )
    return write(replace(said, **changes))


async def publish(url: str, prefix: str, body: bytes, **properties: Any) -> None:
    """As a program of somebody else's does, until RabbitMQ has confirmed it."""
    await asyncio.to_thread(_publish, url, prefix, body, properties)


def _publish(url: str, prefix: str, body: bytes, properties: dict[str, Any]) -> None:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        said = pika.BasicProperties(**({"content_type": CAP_XML, "delivery_mode": 2} | properties))
        channel.basic_publish(f"{prefix}{INTAKE}", "cap", body, said, mandatory=True)


@asynccontextmanager
async def taking(
    town: Town, url: str, prefix: str, source: Source, database_url: str | None = None
) -> AsyncIterator[Worker]:
    """The process that takes from intake.cap, put together as `consumers intake` does."""
    settings = Settings(amqp_url=url, database_url=database_url or town.database.url, amqp_prefix=prefix, key=KEY)
    worker = Worker(settings, "intake")
    sources = {source.name: source}
    receiver = Receiver(worker.database, listening(town, source), sources)
    worker.takes(INTAKE_QUEUE, Intake(worker.database, receiver, sources).take, prefetch=16, at_once=2)
    async with connected(url, prefix), working(worker):  # what is published before the queue is there is lost
        yield worker


def listening(town: Town, source: Source) -> dict[str, Authority]:
    """The comuni, where Calcinaia lets the source issue."""
    issues = (FeedPolicy(source.name, Then.ISSUE),)
    return town.authorities | {"calcinaia": replace(town.authorities["calcinaia"], feeds=issues)}


async def documents(town: Town) -> list[tables.Intake]:
    async with town.database.read() as session:
        return list((await session.scalars(select(tables.Intake).order_by(tables.Intake.id))).all())


async def settled(town: Town, how_many: int) -> list[tables.Intake]:
    """So many documents, once each has been looked at."""

    async def so() -> bool:
        found = await documents(town)
        return len(found) >= how_many and all(row.state is not IntakeState.RECEIVED for row in found)

    await until(so, within=60)
    return await documents(town)


async def the_letter(town: Town) -> tables.DeadLetter:
    async def so() -> bool:
        return await town.count(tables.DeadLetter) > 0

    await until(so, within=60)
    async with town.database.read() as session:
        return (await session.scalars(select(tables.DeadLetter))).one()


async def nothing_waits(url: str, prefix: str) -> None:
    """The queue is empty, also of what was given to somebody and not acknowledged: all that took from it are gone."""
    async with connected(url, prefix) as link:
        assert await get_one(link, prefix + INTAKE_QUEUE) is None


# ── in ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_source_that_rabbitmq_vouches_for_is_kept_issued_and_acknowledged(
    town: Town, amqp_url: str, amqp_prefix: str
) -> None:
    raw = fire()
    async with taking(town, amqp_url, amqp_prefix, valdera(amqp_url)):
        await publish(amqp_url, amqp_prefix, raw, user_id=user_of(amqp_url))
        (row,) = await settled(town, 1)
    assert (row.source, row.came_by, row.media_type) == ("unione-valdera", CameBy.AMQP, CAP_XML)
    assert row.raw == raw, "byte for byte"
    assert row.state is IntakeState.TAKEN, row.because
    assert [(one["authority"], one["did"]) for one in row.became] == [("calcinaia", "issued")]
    assert await town.count(tables.DeadLetter) == 0
    await nothing_waits(amqp_url, amqp_prefix)


@ONE_KIND
async def test_the_same_message_again_is_recognised_and_said_once(town: Town, amqp_url: str, amqp_prefix: str) -> None:
    raw = fire()
    async with taking(town, amqp_url, amqp_prefix, valdera(amqp_url)):
        for _ in range(5):
            await publish(amqp_url, amqp_prefix, raw, user_id=user_of(amqp_url))
        rows = await settled(town, 5)
    assert sorted(str(row.state) for row in rows) == ["repeated"] * 4 + ["taken"]
    assert await town.count(tables.Alert) == 1


@pytest.mark.parametrize("named", [False, True], ids=["nobody", "somebody else"])
async def test_a_stranger_becomes_a_dead_letter_and_nothing_is_issued(
    town: Town, amqp_url: str, amqp_prefix: str, named: bool
) -> None:
    """Who publishes without user_id may be anybody; who publishes with their own name need not be a source."""
    source = valdera(amqp_url) if not named else replace(valdera(amqp_url), amqp_user="unione-valdera")
    async with taking(town, amqp_url, amqp_prefix, source):
        await publish(amqp_url, amqp_prefix, fire(), **({"user_id": user_of(amqp_url)} if named else {}))
        letter = await the_letter(town)
    assert (letter.why, letter.lane) == ("stranger", Lane.EMERGENCY)
    assert (user_of(amqp_url) if named else "user_id is not set") in letter.sentence
    assert await documents(town) == []
    assert await town.count(tables.Alert) == 0
    await nothing_waits(amqp_url, amqp_prefix)


@ONE_KIND
async def test_nobody_can_publish_in_the_name_of_a_source(town: Town, amqp_url: str, amqp_prefix: str) -> None:
    """What the whole door hangs by: RabbitMQ refuses a user_id that is not the connection's own."""
    async with taking(town, amqp_url, amqp_prefix, replace(valdera(amqp_url), amqp_user="unione-valdera")):
        with pytest.raises(ChannelClosedByBroker, match="user_id"):
            await publish(amqp_url, amqp_prefix, fire(), user_id="unione-valdera")
    assert await documents(town) == []


@ONE_KIND
async def test_a_source_that_is_not_enabled_is_a_stranger(town: Town, amqp_url: str, amqp_prefix: str) -> None:
    async with taking(town, amqp_url, amqp_prefix, replace(valdera(amqp_url), enabled=False)):
        await publish(amqp_url, amqp_prefix, fire(), user_id=user_of(amqp_url))
        assert (await the_letter(town)).why == "stranger"


@ONE_KIND
async def test_what_is_larger_than_any_cap_becomes_a_dead_letter_and_the_next_is_taken(
    town: Town, amqp_url: str, amqp_prefix: str
) -> None:
    async with taking(town, amqp_url, amqp_prefix, valdera(amqp_url)):
        await publish(amqp_url, amqp_prefix, b"<alert>" + b" " * MOST_BYTES, user_id=user_of(amqp_url))
        await publish(amqp_url, amqp_prefix, fire(), user_id=user_of(amqp_url))
        letter = await the_letter(town)
        (row,) = await settled(town, 1)
    assert (letter.why, row.state) == ("too_large", IntakeState.TAKEN)
    assert "5,000,007 bytes" in letter.sentence
    await nothing_waits(amqp_url, amqp_prefix)


GARBAGE = {
    "empty": b"",
    "no XML": "L'Arno è uscito!".encode(),
    "no text": b"\x00\xff\xfe\x00",
    "cut off": b'<?xml version="1.0"?><alert xmlns="urn:oasis:names:tc:emergency:cap:1.2"><identifier>1',
    "another language": json.dumps({"allerta": "rossa"}).encode(),
    "a bomb": b'<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]><alert>&b;</alert>',
    "deep": b"<a>" * 100_000,
    "just as large as may be": b"<alert>" + b"x" * (MOST_BYTES - 7),
}


@ONE_KIND
@pytest.mark.parametrize("raw", GARBAGE.values(), ids=GARBAGE.keys())
async def test_garbage_is_kept_rejected_and_acknowledged(
    town: Town, amqp_url: str, amqp_prefix: str, raw: bytes
) -> None:
    async with taking(town, amqp_url, amqp_prefix, valdera(amqp_url)):
        await publish(amqp_url, amqp_prefix, raw, user_id=user_of(amqp_url))
        await publish(amqp_url, amqp_prefix, fire(), user_id=user_of(amqp_url))
        rows = await settled(town, 2)
    bad = next(row for row in rows if row.raw == raw)
    good = next(row for row in rows if row.raw != raw)
    assert (bad.state, good.state) == (IntakeState.REJECTED, IntakeState.TAKEN)
    assert bad.findings
    assert bad.because
    assert await town.count(tables.DeadLetter) == 0
    await nothing_waits(amqp_url, amqp_prefix)


@pytest.mark.parametrize("media_type", ["", "application/cap\0xml", "a" * 255, "è/\u202e"], ids=repr)
async def test_an_odd_content_type_costs_nobody_the_alert(
    town: Town, amqp_url: str, amqp_prefix: str, media_type: str
) -> None:
    async with taking(town, amqp_url, amqp_prefix, valdera(amqp_url)):
        await publish(amqp_url, amqp_prefix, fire(), user_id=user_of(amqp_url), content_type=media_type)
        (row,) = await settled(town, 1)
    assert row.state is IntakeState.TAKEN
    assert len(row.media_type) <= 100


@ONE_KIND
async def test_while_the_database_is_away_nothing_is_lost_and_whoever_has_one_takes_it(
    town: Town, amqp_url: str, amqp_prefix: str
) -> None:
    source, raw = valdera(amqp_url), fire()
    async with taking(town, amqp_url, amqp_prefix, source, NOWHERE) as lame:
        await publish(amqp_url, amqp_prefix, raw, user_id=user_of(amqp_url))
        await until(lambda: bool(lame.signs.health()), within=60)
        await asyncio.sleep(1.5)
    assert await documents(town) == []
    async with taking(town, amqp_url, amqp_prefix, source):
        (row,) = await settled(town, 1)
    assert (row.raw, row.state) == (raw, IntakeState.TAKEN)
    assert await town.count(tables.DeadLetter) == 0


async def test_it_is_acknowledged_only_after_it_is_kept(town: Town) -> None:
    source = load_sources()["unione-valdera"]
    message = Given(fire(), source.amqp_user)
    receiver = Receiver(Database(NOWHERE), listening(town, source), {source.name: source})
    away = Intake(town.database, receiver, {source.name: source})
    with pytest.raises(OperationalError):
        await away.take(cast(Incoming, message))
    assert message.fate == []
    receiver = Receiver(town.database, listening(town, source), {source.name: source})
    await Intake(town.database, receiver, {source.name: source}).take(cast(Incoming, message))
    assert message.fate == ["acknowledged"]
    assert [row.media_type for row in await documents(town)] == [CAP_XML], "where nothing is said, CAP is meant"


class Given:
    """A message from RabbitMQ, and what became of it."""

    def __init__(self, body: bytes, user_id: str) -> None:
        self.body, self.user_id, self.content_type = body, user_id, ""
        self.fate: list[str] = []

    def ack(self) -> None:
        self.fate.append("acknowledged")


# ── out ─────────────────────────────────────────────────────────────────────────────────────────────


async def bound(engine: Engine, queue: str, *keys: str) -> Callable[[], list[tuple[str, str, bytes]]]:
    """Somebody's own queue on the exchange alerts. What came to it: routing key, content type and body."""
    name = engine.prefix + queue
    await asyncio.to_thread(_bind, engine.url, name, f"{engine.prefix}{ALERTS}", keys)
    heard: list[tuple[str, str, bytes]] = []

    def listen() -> list[tuple[str, str, bytes]]:
        with pika.BlockingConnection(pika.URLParameters(engine.url)) as connection:
            channel = connection.channel()
            while True:
                method, properties, body = channel.basic_get(name, auto_ack=True)
                if method is None or properties is None or body is None:
                    return heard
                heard.append((method.routing_key or "", properties.content_type or "", body))

    return listen


def _bind(url: str, queue: str, exchange: str, keys: tuple[str, ...]) -> None:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.queue_declare(queue, durable=True)
        for key in keys:
            channel.queue_bind(queue, exchange, key)


@ONE_KIND
async def test_whoever_binds_to_the_exchange_of_alerts_gets_the_cap_document_of_each(
    town: Town, amqp_url: str, amqp_prefix: str, tmp_path: Path
) -> None:
    async with meta() as served, an_engine(town, amqp_url, amqp_prefix, served, tmp_path) as engine:
        siren = await bound(engine, "sirena.calcinaia", "cap.#")
        pontedera = await bound(engine, "pannelli.pontedera", "cap.*.met.calcinaia")
        cascina = await bound(engine, "pannelli.cascina", "cap.*.*.cascina")
        dispatch = await town.issue()
        await town.cancel(dispatch)
        await until(lambda: _is_empty(town), within=60)
        heard = await asyncio.to_thread(siren)
        there = await asyncio.to_thread(pontedera)
        elsewhere = await asyncio.to_thread(cascina)
    async with town.database.read() as session:
        query = select(tables.Alert).where(tables.Alert.state.in_((State.CANCELLED, State.ISSUED)))
        rows = (await session.scalars(query.order_by(tables.Alert.issued_at))).all()
    assert sorted(heard) == sorted((f"cap.{row.lane}.met.calcinaia", CAP_XML, row.cap) for row in rows)
    assert sorted(there) == sorted(heard)
    assert elsewhere == []
    said = {alert.msg_type for _, _, body in heard if (alert := read(body).alert) is not None}
    assert said == {cap.MsgType.ALERT, cap.MsgType.CANCEL}


async def _is_empty(town: Town) -> bool:
    return await town.count(tables.OutboxMessage) == 0


async def test_that_nobody_listens_is_no_trouble(town: Town, amqp_url: str, amqp_prefix: str) -> None:
    await town.issue()
    assert any(message.routing_key.startswith("cap.") for message in await town.outbox())
    async with connected(amqp_url, amqp_prefix) as link:
        relaying = asyncio.create_task(relay(town.database, link, amqp_prefix))
        try:
            await until(lambda: _is_empty(town), within=60)
        finally:
            relaying.cancel()
            await asyncio.gather(relaying, return_exceptions=True)


@ONE_KIND
async def test_what_a_source_says_over_amqp_goes_out_over_amqp_in_the_name_of_the_comune(
    town: Town, amqp_url: str, amqp_prefix: str, tmp_path: Path
) -> None:
    async with meta() as served, an_engine(town, amqp_url, amqp_prefix, served, tmp_path) as engine:
        siren = await bound(engine, "sirena.calcinaia", "cap.#")
        async with taking(town, amqp_url, amqp_prefix, valdera(amqp_url)):
            await publish(amqp_url, amqp_prefix, fire(), user_id=user_of(amqp_url))
            await settled(town, 1)
        await until(lambda: _is_empty(town), within=60)
        ((key, media, body),) = await asyncio.to_thread(siren)
    alert = read(body).alert
    assert alert is not None
    assert (key, media) == ("cap.flash.fire.calcinaia", CAP_XML)
    assert alert.sender == town.authorities["calcinaia"].sender
    assert alert.first.headline == "Incendio in un capannone a Fornacette"
    assert await town.count(tables.DeadLetter) == 0
