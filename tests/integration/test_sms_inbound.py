"""What people write by SMS: once in the inbox however often and by whomever it is heard, and answered."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError

from alerting import authorities, sms_inbox
from alerting.domain.authority import ChannelAccess
from alerting.domain.delivery import Channel
from alerting.domain.sms import Alphabet, Wrote, in_letters_of_sms, part_said, parts_of
from alerting.persistence import Database, tables
from alerting.sealing import Seal
from alerting.sms_inbox import SAID_AGAIN_WITHIN, SmsInbox
from alerting.topology import INBOUND_QUEUE
from consumers.inbound import Inbound
from consumers.local.trial import authorities_with_sms
from consumers.simulators import sms_smpp
from consumers.simulators.serving import Served
from consumers.worker import Worker
from tests.integration.calcinaia import DESKS
from tests.integration.engine import (
    KEY,
    ONE_KIND,
    TOKEN,
    Town,
    a_town,
    an_engine,
    delivering,
    meta,
    texts,
    until,
    working,
)

ACCOUNT = "sms.calcinaia"
MARIA, GINO = "+393331234567", "+393337654321"
OURS = "+393331230000"
SEAL = Seal(bytes.fromhex(KEY))
MOVED = "Adesso abito a Bientina, in piazza, e gli avvisi di Fornacette non mi servono. " * 3
LONG = "Attiva. Abito a Fornacette in via Morandi, sopra la scuola: avvisatemi, l'Arno qui arriva per primo. " * 3


def plain(words: str = "Attiva", sender: str = MARIA) -> Wrote:
    return Wrote(sender, OURS, words.encode("latin-1"), Alphabet.LATIN_1)


def in_parts(words: str = LONG, reference: int = 7, sender: str = MARIA) -> list[Wrote]:
    """As an SMSC hands it over."""
    said = [part_said(part.octets) for part in parts_of(words, reference)]
    return [Wrote(sender, OURS, octets, Alphabet.GSM_7, *which) for *which, octets in filter(None, said)]


async def kept(database: Database) -> list[str]:
    """The texts in the inbox, each with the promise that somebody reads it."""
    async with database.read() as session:
        rows = (await session.scalars(select(tables.InboundMessage).order_by(tables.InboundMessage.id))).all()
        promises = (await session.scalars(select(tables.OutboxMessage.message_id))).all()
    assert sorted(promises) == sorted(f"inbound:{row.id}" for row in rows)
    return [json.loads(SEAL.open(row.sealed))["text"] for row in rows if row.sealed]


async def time_passes(database: Database, seconds: float) -> None:
    async with database.write() as session:
        part = tables.InboundPart
        await session.execute(update(part).values(at=part.at - seconds))


@pytest.fixture
def box(database: Database) -> SmsInbox:
    return SmsInbox(database, SEAL, DESKS)


async def test_a_text_is_kept_once_however_often_the_smsc_says_it(box: SmsInbox, database: Database) -> None:
    for _ in range(3):
        await box.wrote(ACCOUNT, plain())
    await SmsInbox(database, SEAL, DESKS).wrote(ACCOUNT, plain())  # another process, after a kill
    assert await kept(database) == ["Attiva"]


async def test_who_changes_their_mind_twice_is_heard_each_time(box: SmsInbox, database: Database) -> None:
    for words in ("Attiva", "STOP", "Attiva"):
        await box.wrote(ACCOUNT, plain(words))
    assert await kept(database) == ["Attiva", "STOP", "Attiva"]


async def test_the_same_words_half_an_hour_later_are_new(box: SmsInbox, database: Database) -> None:
    await box.wrote(ACCOUNT, plain())
    await time_passes(database, 2 * SAID_AGAIN_WITHIN)
    await box.wrote(ACCOUNT, plain())
    assert await kept(database) == ["Attiva", "Attiva"]


async def test_two_people_and_two_comuni_may_say_the_same(box: SmsInbox, database: Database) -> None:
    await box.wrote(ACCOUNT, plain())
    await box.wrote(ACCOUNT, plain(sender=GINO))
    await box.wrote("sms.bientina", plain())
    assert await kept(database) == ["Attiva"] * 3


@pytest.mark.parametrize("seed", range(5))
async def test_parts_in_any_order_and_twice_are_one_text(database: Database, seed: int) -> None:
    dice, boxes = random.Random(seed), [SmsInbox(database, SEAL, DESKS) for _ in range(2)]
    said = [*in_parts() * 2, *in_parts("Disattiva, mi trasferisco a Pontedera. " * 6, 8), *in_parts(sender=GINO)]
    dice.shuffle(said)
    for wrote in said:
        await dice.choice(boxes).wrote(ACCOUNT, wrote)
    assert sorted(await kept(database)) == sorted([LONG, LONG, "Disattiva, mi trasferisco a Pontedera. " * 6])


@ONE_KIND
async def test_parts_that_two_processes_hear_at_once_are_one_text(database: Database) -> None:
    boxes, dice = [SmsInbox(database, SEAL, DESKS) for _ in range(2)], random.Random(1966)
    said = [part for reference in range(40) for part in in_parts(f"{reference} {LONG}", reference)]
    assert len(said) == 80, "each part once: nobody comes by again to see that all is there"
    for crowd in range(0, len(said), 8):
        parts = said[crowd : crowd + 8]
        dice.shuffle(parts)
        await asyncio.gather(*(boxes[n % 2].wrote(ACCOUNT, part) for n, part in enumerate(parts)))
    assert sorted(await kept(database)) == sorted(f"{reference} {LONG}" for reference in range(40))


async def test_half_a_text_waits_sealed_and_is_forgotten(database: Database, box: SmsInbox) -> None:
    await box.wrote(ACCOUNT, in_parts()[0])
    assert await kept(database) == []
    async with database.write() as session:
        (row,) = (await session.scalars(select(tables.InboundPart))).all()
        assert row.sealed is not None and b"Fornacette" not in row.sealed
        row.at -= sms_inbox.PARTS_WAIT + 1
    await SmsInbox(database, SEAL, DESKS).wrote(ACCOUNT, plain("STOP", GINO))
    async with database.read() as session:
        assert len((await session.scalars(select(tables.InboundPart))).all()) == 1


async def test_of_a_text_that_was_passed_on_no_word_stays(database: Database, box: SmsInbox) -> None:
    for part in in_parts():
        await box.wrote(ACCOUNT, part)
    async with database.read() as session:
        assert {row.sealed for row in (await session.scalars(select(tables.InboundPart))).all()} == {None}


async def test_what_is_left_of_a_lost_text_ends_up_in_no_other(database: Database, box: SmsInbox) -> None:
    """A telephone counts its long texts to 255, and begins anew."""
    old, new = in_parts(), in_parts(MOVED)
    assert len(old) == len(new) == 2 and old[0].reference == new[0].reference
    await box.wrote(ACCOUNT, old[0])
    await time_passes(database, sms_inbox.PARTS_WAIT)
    for part in reversed(new):
        await box.wrote(ACCOUNT, part)
    assert await kept(database) == [MOVED]


async def test_a_text_that_begins_anew_under_the_same_number_mixes_with_none(database: Database, box: SmsInbox) -> None:
    old, new = in_parts(LONG * 2), in_parts(MOVED * 2)
    assert len(old) == len(new) == 4
    for part in (*old[:3], new[0], new[3], new[1], new[2]):
        await box.wrote(ACCOUNT, part)
    assert await kept(database) == [MOVED * 2]


async def test_a_database_that_is_away_keeps_the_smsc_waiting_and_loses_nothing(
    database: Database, box: SmsInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, away = database.write, [True, True]

    @asynccontextmanager
    async def sometimes(**how: Any) -> AsyncIterator[Any]:
        if away:
            away.pop()
            raise OperationalError("INSERT", {}, OSError("the database is away"))
        async with write(**how) as session:
            yield session

    monkeypatch.setattr(database, "write", sometimes)
    monkeypatch.setattr(sms_inbox, "PAUSE_AFTER_TROUBLE", 0.01)
    await box.wrote(ACCOUNT, plain())
    assert await kept(database) == ["Attiva"]


# ── in the engine ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def sms(tmp_path: Path) -> ChannelAccess:
    """Calcinaia's account at an SMSC, with a number people can write to."""
    access = authorities.load(authorities_with_sms(tmp_path / "authorities"))["calcinaia"].channel(Channel.SMS)
    assert access is not None
    return replace(access, identity=OURS, settings=access.settings | {"sender": OURS})


@pytest.fixture
async def town(database_url: str, sms: ChannelAccess, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Town]:
    """Calcinaia with SMS beside WhatsApp."""
    shipped = authorities.load()
    whatsapp, *_ = shipped["calcinaia"].channels
    with_sms = {"calcinaia": replace(shipped["calcinaia"], channels=(whatsapp, sms))}
    monkeypatch.setattr(authorities, "load", lambda folder=None: shipped | with_sms)
    async with a_town(database_url, telegram=True) as town:
        yield town


@asynccontextmanager
async def an_smsc() -> AsyncIterator[Served]:
    served = await sms_smpp.start({"accounts": {"calcinaia": {"password": "Arno1966"}}, "per_second": 5000})
    yield served
    await served.close()


async def writes(smsc: Served, words: str, **more: Any) -> None:
    async with (
        ClientSession() as http,
        http.post(f"{smsc.base_url}/__sim/inbound", json={"from": MARIA, "to": OURS, "text": words, **more}) as answer,
    ):
        assert answer.status == 200


async def test_somebody_joins_and_leaves_by_sms_and_is_answered_by_sms(
    town: Town, sms: ChannelAccess, amqp_url: str, amqp_prefix: str, tmp_path: Path
) -> None:
    async with (
        an_smsc() as smsc,
        meta() as whatsapp,
        an_engine(town, amqp_url, amqp_prefix, whatsapp, tmp_path, workers=0) as engine,
    ):
        secrets = tmp_path / "secrets-sms.json"
        secrets.write_text(json.dumps({ACCOUNT: {"token": "Arno1966"}, "whatsapp.calcinaia": {"token": TOKEN}}))
        known = {"sms_url": smsc.simulator.smpp_url, "secrets_file": secrets}  # type: ignore[attr-defined]
        settings = engine.settings.model_copy(update=known)
        worker = Worker(settings, "inbound")
        worker.takes(INBOUND_QUEUE, Inbound(worker.database, town.authorities, worker.seal).take, prefetch=8)
        async with working(worker), delivering(settings, smsc, Channel.SMS):
            for answered, words in enumerate(("Attiva", LONG, "STOP"), start=1):
                await writes(smsc, words, backwards=True, times=3)
                await until(lambda count=answered: len(texts(smsc)) >= count, within=60)
            await asyncio.sleep(0.5)  # for an answer too many
    known_texts = town.authority.texts
    assert {(one["to"], one["account"]) for one in texts(smsc)} == {(MARIA, OURS.removeprefix("+"))}
    assert [one["text"] for one in texts(smsc)] == [
        in_letters_of_sms(said) for said in (known_texts.welcome, known_texts.not_read, known_texts.goodbye)
    ]
    async with town.database.read() as session:
        consents = (await session.scalars(select(tables.Consent).order_by(tables.Consent.id))).all()
    assert [(one.channel, one.what) for one in consents] == [(Channel.SMS, "join"), (Channel.SMS, "leave")]
