"""A crowd at the door: each joins and is answered as if they had come alone, and none spoils it for the others."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import cast

import pytest
from sqlalchemy import select, text

from alerting import wire
from alerting.amqp import Incoming
from alerting.domain.authority import filled
from alerting.domain.delivery import Channel
from alerting.domain.events import CitizensWrote, CitizenWrote
from alerting.gathering import Gathering
from alerting.inbox import Keeping
from alerting.persistence import Database, ledger, tables
from alerting.sealing import Seal, WrongKey
from alerting.webhooks import InboundText
from consumers.inbound import Inbound
from tests.integration.calcinaia import AUTHORITIES, DESKS, SEAL, count, five_comuni, one_database
from tests.integration.test_inbound import Given

EVERYBODY = ("calcinaia", "bientina", "fucecchio", "cascina", "santa-fiora")


@dataclass
class Desk:
    """Where citizens' texts are read, all that came at once together."""

    database: Database
    inbound: Inbound

    async def receives(self, *texts: tuple[str, str, str], spoilt: Sequence[int] = ()) -> list[Given]:
        """What became of each message. A text is the comune, who writes and the words; a spoilt one does not open.

        Behind a sender may stand what else WhatsApp calls them: "+393330000001 IT.1".
        """
        rows = await self.keeps(*texts, spoilt=spoilt)
        messages = [Given(wire.encode(CitizenWrote(row, Channel.WHATSAPP))) for row in rows]
        results = await asyncio.gather(
            *(self.inbound.take(cast(Incoming, message)) for message in messages), return_exceptions=True
        )
        for number, result in enumerate(results):
            assert isinstance(result, WrongKey) if number in spoilt else result is None, result
        return messages

    async def keeps(self, *texts: tuple[str, str, str], spoilt: Sequence[int] = ()) -> list[int]:
        """Their numbers in the inbox."""
        rows = []
        for number, (comune, who, words) in enumerate(texts):
            sender, _, also = who.partition(" ")
            said = {"sender": sender, "text": words, "kind": "text", "payload": None} | ({"also": also} if also else {})
            seal = Seal(bytes(32)) if number in spoilt else SEAL
            row = tables.InboundMessage(
                account=f"whatsapp.{comune}",
                provider_id=sha256(f"{datetime.now(UTC)}{number}".encode()).hexdigest(),
                received_at=datetime.now(UTC),
                sealed=seal.seal(json.dumps(said)),
            )
            async with self.database.write() as session:
                session.add(row)
            rows.append(row.id)
        return rows

    async def answers(self) -> list[tuple[str, str]]:
        """Whom each promised answer will reach, and its words, as a worker will read them."""
        found = []
        async with self.database.write() as session:
            for dispatch in (await session.scalars(select(tables.Dispatch).order_by(tables.Dispatch.id))).all():
                batches = select(tables.Batch).where(tables.Batch.dispatch_id == dispatch.id)
                for batch in (await session.scalars(batches)).all():
                    chosen = await ledger.claim(
                        session, dispatch.id, batch.first, batch.last, most=1000, now=1e9, until=0.0
                    )
                    assert len(chosen) == batch.last - batch.first + 1
                    found += [
                        (f"{batch.account} {SEAL.open(one.sealed)}", dispatch.reply_text or "")
                        for one in chosen
                        if one.sealed
                    ]
                assert dispatch.audience == dispatch.last_seq
        return sorted(found)

    async def subscribed(self) -> list[tuple[str, str, bool, tuple[str, ...]]]:
        """Everybody who is in: authority, address, whether we know where they live, and the areas they belong to."""
        query = text("""
            SELECT r.id, r.authority, a.sealed, r.located FROM recipients r JOIN addresses a ON a.recipient_id = r.id
             WHERE r.left_at IS NULL AND NOT r.is_channel""")
        areas = text("""SELECT x.code FROM memberships m JOIN areas x ON x.id = m.area WHERE m.recipient_id = :r""")
        async with self.database.read() as session:
            return sorted([
                (row.authority, SEAL.open(bytes(row.sealed)), bool(row.located),
                 tuple(sorted(await session.scalars(areas, {"r": row.id}))))
                for row in (await session.execute(query)).all()
            ])  # fmt: skip

    async def proofs(self) -> list[tuple[str, str, str, str]]:
        async with self.database.read() as session:
            rows = await session.scalars(select(tables.Consent))
            return sorted((r.authority, (r.fingerprint or b"").hex(), r.what, r.keyword) for r in rows)


@pytest.fixture
async def desk(database_url: str) -> AsyncIterator[Desk]:
    async with five_comuni(database_url) as database:
        yield Desk(database, Inbound(database, AUTHORITIES, SEAL))


def newspaper(people: int) -> list[tuple[str, str, str]]:
    """What they write on the day of the piece in the newspaper, to all five comuni."""
    wrote = []
    for number in range(people):
        comune = EVERYBODY[number % len(EVERYBODY)]
        join = AUTHORITIES[comune].keywords.join
        words = (join, f"{join} Fornacette", f"{join.lower()}!! 👍", f"{join} Mario Rossi")[number // 5 % 4]
        wrote.append((comune, f"+39348{number:07d}", words))
    return wrote


async def test_a_crowd_leaves_behind_what_the_same_people_leave_one_by_one(database_url: str) -> None:
    left, before = [], Counter[tuple[str, str, str, str]]()
    for together in (True, False):
        async with five_comuni(database_url) as database:
            desk = Desk(database, Inbound(database, AUTHORITIES, SEAL))
            for some in [newspaper(40)] if together else [[one] for one in newspaper(40)]:
                messages = await desk.receives(*some)
                assert all(message.fate == ["acknowledged"] for message in messages)
            proofs = Counter(await desk.proofs())  # which stay
            left.append((await desk.subscribed(), proofs - before, await desk.answers()))
            before = proofs
            async with database.write() as session:
                unread = select(tables.InboundMessage.id).where(tables.InboundMessage.sealed.is_not(None))
                assert (await session.scalars(unread)).all() == []
                for table in reversed(tables.Table.metadata.sorted_tables):
                    if table.name in ("memberships", "places", "addresses", "deliveries", "batches",
                                      "dispatches", "inbox", "outbox"):  # fmt: skip
                        await session.execute(table.delete())
                await session.execute(text("DELETE FROM recipients"))
    crowd, one_by_one = left
    assert len(crowd[0]) == 40 and crowd == one_by_one


@one_database
async def test_who_is_told_the_same_on_one_account_is_one_audience(desk: Desk) -> None:
    await desk.receives(*((c, s, AUTHORITIES[c].keywords.join) for c, s, _ in newspaper(30)))
    async with desk.database.read() as session:
        audiences = [number or 0 for number in await session.scalars(select(tables.Dispatch.audience))]
        assert await count(session, tables.OutboxMessage) == len(audiences)
    assert sum(audiences) == 30 and len(audiences) == 5
    welcomes = {AUTHORITIES[comune].texts.welcome for comune in EVERYBODY}
    assert {words for _, words in await desk.answers()} == welcomes


@one_database
async def test_in_a_crowd_everybody_gets_the_answer_to_what_they_wrote(desk: Desk) -> None:
    await desk.receives(("calcinaia", "+393330000001", "Attiva"))
    texts = AUTHORITIES["calcinaia"].texts
    await desk.receives(
        ("calcinaia", "+393330000009", "aiuto"),
        ("calcinaia", "+393330000001", "Attiva"),
        ("calcinaia", "+393330000002", "Attiva"),
        ("calcinaia", "+393330000003", "Attiva Fornacette"),
        ("calcinaia", "+393330000004", "che ore sono"),
        ("calcinaia", "+393330000005", "Disattiva"),
        ("calcinaia", "+393330000006", "Attiva"),
        ("calcinaia", "+393330000006", "Disattiva"),
    )
    kept = f"{texts.welcome}\n{filled(texts.place_kept, luoghi='Fornacette')}"
    assert [(address[-1], words) for address, words in await desk.answers()] == sorted([
        ("1", texts.welcome), ("9", texts.help), ("1", texts.already_subscribed), ("2", texts.welcome), ("3", kept),
        ("4", texts.not_read), ("5", texts.not_subscribed), ("6", texts.welcome), ("6", texts.goodbye),
    ])  # fmt: skip
    assert [address for _, address, *_ in await desk.subscribed()] == [f"+39333000000{n}" for n in (1, 2, 3)]


@one_database
async def test_who_leaves_before_the_welcome_is_said_is_not_welcomed_any_more(desk: Desk) -> None:
    await desk.receives(*(("bientina", f"+39333000000{n}", "ATTIVA") for n in range(4)))
    await desk.receives(("bientina", "+393330000002", "DISATTIVA"))
    texts = AUTHORITIES["bientina"].texts
    found = [words for address, words in await desk.answers() if address.endswith("2")]
    assert found == [texts.goodbye]


@one_database
async def test_whoever_hides_their_number_is_the_same_person_in_a_crowd_too(desk: Desk) -> None:
    await desk.receives(
        ("calcinaia", "+393330000001 IT.1", "Attiva"),
        ("calcinaia", "+393330000002 IT.2", "Attiva"),
        ("calcinaia", "+393330000003", "Attiva"),
    )
    await desk.receives(
        ("calcinaia", "IT.1", "Attiva"),
        ("calcinaia", "IT.2", "Disattiva"),
        ("calcinaia", "+393330000004 IT.4", "Attiva"),
        ("calcinaia", "IT.4", "Disattiva"),
        ("calcinaia", "+393330000005", "Attiva"),
    )
    texts = AUTHORITIES["calcinaia"].texts
    assert [address for _, address, *_ in await desk.subscribed()] == [f"+39333000000{n}" for n in (1, 3, 5)]
    answers = await desk.answers()
    assert ("whatsapp.calcinaia IT.1", texts.already_subscribed) in answers
    assert ("whatsapp.calcinaia IT.2", texts.goodbye) in answers and (
        "whatsapp.calcinaia IT.4",
        texts.goodbye,
    ) in answers


@one_database
async def test_what_rabbitmq_gives_again_is_answered_once(desk: Desk) -> None:
    report = ("santa-fiora", "+393330000001", "C'è una buca in via Roma")  # which the desk answers
    messages = await desk.receives(*newspaper(20), report)
    again = [Given(message.body) for message in messages]
    await asyncio.gather(*(desk.inbound.take(cast(Incoming, message)) for message in again))
    assert all(message.fate == ["acknowledged"] for message in again)
    assert len(await desk.answers()) == 20
    async with desk.database.read() as session:
        promised = (await session.scalars(select(tables.OutboxMessage.exchange))).all()
    assert promised.count("desk") == 1


async def test_one_that_cannot_be_opened_takes_nobody_with_it(desk: Desk) -> None:
    messages = await desk.receives(*newspaper(20), spoilt=[7, 13])
    fates = [message.fate for message in messages]
    assert [number for number, fate in enumerate(fates) if fate == []] == [7, 13]
    assert len(await desk.answers()) == len(await desk.subscribed()) == 18


async def test_two_workers_that_meet_the_same_newcomers_subscribe_each_once(desk: Desk) -> None:
    other = Desk(desk.database, Inbound(desk.database, AUTHORITIES, SEAL))
    people = newspaper(20)

    async def patiently(where: Desk) -> None:
        # As a worker does with a message that met a database error: once more, and alone.
        rows = []
        for comune, sender, words in people:
            said = {"sender": sender, "text": words, "kind": "text", "payload": None}
            row = tables.InboundMessage(
                account=f"whatsapp.{comune}",
                provider_id=sha256(f"{id(where)}{sender}".encode()).hexdigest(),
                received_at=datetime.now(UTC),
                sealed=SEAL.seal(json.dumps(said)),
            )
            async with where.database.write() as session:
                session.add(row)
            rows.append(row.id)
        messages = [Given(wire.encode(CitizenWrote(number, Channel.WHATSAPP))) for number in rows]
        while missing := [message for message in messages if not message.fate]:
            await asyncio.gather(
                *(where.inbound.take(cast(Incoming, message)) for message in missing), return_exceptions=True
            )

    async with asyncio.timeout(60):
        await asyncio.gather(patiently(desk), patiently(other))
    assert len(await desk.subscribed()) == 20


async def test_who_is_told_of_in_one_message_is_answered_and_one_that_does_not_open_stops_nobody(desk: Desk) -> None:
    rows = await desk.keeps(*newspaper(20), spoilt=[7])
    message = Given(wire.encode(CitizensWrote(tuple(rows), Channel.WHATSAPP)))
    for _ in range(2):  # RabbitMQ gives it again, and again
        with pytest.raises(WrongKey):
            await desk.inbound.take(cast(Incoming, message))
        await desk.inbound.drain()
        assert not message.fate, "whose text was not read has not been forgotten"
        assert len(await desk.subscribed()) == len(await desk.answers()) == 19


# ── the inbox ───────────────────────────────────────────────────────────────────────────────────────


async def test_texts_of_many_calls_are_kept_once_each_and_in_their_order(desk: Desk) -> None:
    keeping = Keeping(desk.database, SEAL, DESKS)

    def call(number: int) -> list[tuple[str, Channel, InboundText]]:
        return [
            (
                "whatsapp.calcinaia",
                Channel.WHATSAPP,
                InboundText(f"wamid.{identity}", "1", "+393330000001", f"parola {identity}", "text", datetime.now(UTC)),
            )
            for identity in (number, number + 1)  # the second is in the next call too: Meta repeats itself
        ]

    await asyncio.gather(*(keeping.keep(call(number)) for number in range(30)))
    async with desk.database.read() as session:
        rows = (await session.scalars(select(tables.InboundMessage).order_by(tables.InboundMessage.id))).all()
        promised = (await session.scalars(select(tables.OutboxMessage.body))).all()
    said = [json.loads(SEAL.open(row.sealed or b""))["text"] for row in rows]
    assert said == [f"parola {number}" for number in range(31)] and len(promised) <= 2
    told = [wire.decode(body) for body in promised]
    numbers = [n for one in told if isinstance(one, CitizensWrote) for n in one.inbound]
    assert numbers == [row.id for row in rows]


async def test_whoever_comes_alone_waits_for_nobody_and_a_crowd_is_written_together() -> None:
    crowds: list[list[int]] = []

    async def write(crowd: Sequence[int]) -> None:
        crowds.append(list(crowd))
        await asyncio.sleep(0)
        if 3 in crowd:
            raise ValueError("3")

    gathering = Gathering(write, pause=0.01, most=4)
    await gathering.put(1)
    await gathering.put(2)
    results = await asyncio.gather(*map(gathering.put, range(3, 9)), return_exceptions=True)
    assert [type(result) for result in results] == [ValueError, *[type(None)] * 5]
    assert crowds == [[1], [2], [3, 4, 5, 6], [3], [4], [5], [6], [7, 8]]


async def test_a_database_that_is_away_is_told_to_all_of_a_crowd_and_asked_once() -> None:
    asked = []

    async def write(crowd: Sequence[int]) -> None:
        asked.append(list(crowd))
        raise ConnectionRefusedError

    gathering = Gathering(write, pause=0.0, most=100)
    results = await asyncio.gather(*map(gathering.put, range(5)), return_exceptions=True)
    assert [type(result) for result in results] == [ConnectionRefusedError] * 5
    assert len(asked) == 1
