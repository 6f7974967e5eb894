"""What citizens write to the five comuni, what they are answered, and that nothing of it stays behind."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, cast

import pytest
from sqlalchemy import delete, select, text

from alerting import wire
from alerting.amqp import Incoming
from alerting.domain.authority import Texts, filled
from alerting.domain.delivery import Channel
from alerting.domain.events import AlertIssued, BatchReady, CitizenWrote
from alerting.domain.lanes import Lane
from alerting.domain.recipients import Place, Precision
from alerting.persistence import Database, tables
from alerting.sealing import WrongKey
from alerting.subscribing import Subscriber, find, join
from consumers import politeness
from consumers.inbound import Inbound
from tests.integration.calcinaia import (
    AUTHORITIES,
    NOW,
    SEAL,
    citizen,
    codes_of,
    count,
    five_comuni,
    one_database,
)

ANNA_WRITES = "+393331234567"
each_comune = pytest.mark.parametrize("comune", AUTHORITIES)


@dataclass
class Given:
    """A message from RabbitMQ, and what became of it."""

    body: bytes
    message_id: str = "inbound:1"
    queue: str = "inbound"
    exchange: str = "inbound"
    routing_key: str = "whatsapp"
    headers: dict[str, Any] = field(default_factory=dict)
    redelivered: bool = False
    fate: list[str] = field(default_factory=list)

    def ack(self) -> None:
        self.fate.append("acknowledged")

    def reject(self, *, requeue: bool) -> None:
        self.fate.append("again" if requeue else "dead")


@dataclass
class Desk:
    """Where citizens' texts are read, and the database behind it."""

    database: Database
    inbound: Inbound

    async def receives(
        self,
        words: str | None,
        comune: str = "calcinaia",
        *,
        sender: str = ANNA_WRITES,
        kind: str = "text",
        channel: Channel = Channel.WHATSAPP,
        received_at: datetime | None = None,
        **more: Any,
    ) -> str | None:
        """The answer to a text, None where there is none; the words as they are promised to the sender."""
        inbound = await self.lies_in_the_inbox(words, comune, sender, kind, channel, received_at, **more)
        async with self.database.read() as session:
            before = await count(session, tables.Dispatch)
        given = Given(wire.encode(CitizenWrote(inbound, channel)))
        await self.inbound.take(cast(Incoming, given))
        assert given.fate == ["acknowledged"]
        async with self.database.read() as session:
            replies = (await session.scalars(select(tables.Dispatch).order_by(tables.Dispatch.id))).all()
            kept = await session.get_one(tables.InboundMessage, inbound)
        assert kept.sealed is None or AUTHORITIES[comune].two_way
        assert kept.handled_at is not None
        if len(replies) == before:
            return None
        assert len(replies) == before + 1
        assert replies[-1].reply_to is not None
        assert SEAL.open(replies[-1].reply_to) == sender
        return replies[-1].reply_text

    async def lies_in_the_inbox(
        self,
        words: str | None,
        comune: str = "calcinaia",
        sender: str = ANNA_WRITES,
        kind: str = "text",
        channel: Channel = Channel.WHATSAPP,
        received_at: datetime | None = None,
        **more: Any,
    ) -> int:
        said = {"sender": sender, "text": words, "kind": kind, "payload": None} | more
        async with self.database.write() as session:
            number = await count(session, tables.InboundMessage)
            row = tables.InboundMessage(
                account=f"{channel}.{comune}",
                provider_id=sha256(f"wamid.{number}".encode()).hexdigest(),
                received_at=received_at or datetime.now(UTC),
                sealed=SEAL.seal(json.dumps(said)),
            )
            session.add(row)
        return row.id

    async def knows(self, comune: str = "calcinaia", sender: str = ANNA_WRITES) -> tables.Recipient | None:
        """The recipient that is told on WhatsApp at this address."""
        who = citizen(int(sender[-7:]), comune)
        assert who.address == sender
        async with self.database.read() as session:
            address = await find(session, who, SEAL)
            return await session.get(tables.Recipient, address.recipient_id) if address else None

    async def forgets_how_often(self) -> None:
        """As if a day had gone by since anybody wrote."""
        async with self.database.write() as session:
            await session.execute(delete(tables.Courtesy))

    async def places(self) -> list[tuple[str, str | None, float | None, float | None]]:
        """All that is known of where anybody is: label, area, latitude, longitude."""
        async with self.database.read() as session:
            rows = await session.scalars(select(tables.Place).order_by(tables.Place.label))
            return [(row.label, row.area, row.lat, row.lon) for row in rows]

    async def areas_of(self, recipient: tables.Recipient | None) -> set[str]:
        assert recipient is not None
        async with self.database.read() as session:
            return await codes_of(session, recipient.id)


@pytest.fixture
async def desk(database_url: str) -> AsyncIterator[Desk]:
    async with five_comuni(database_url) as database:
        yield Desk(database, Inbound(database, AUTHORITIES, SEAL))


def texts(comune: str) -> Texts:
    return AUTHORITIES[comune].texts


# ── joining and leaving ─────────────────────────────────────────────────────────────────────────────


@each_comune
@one_database
async def test_each_comune_welcomes_by_its_own_word_and_takes_leave_by_its_own(desk: Desk, comune: str) -> None:
    words = AUTHORITIES[comune].keywords
    assert await desk.receives(words.join, comune) == texts(comune).welcome
    assert await desk.knows(comune) is not None
    assert await desk.receives(f"{words.join.lower()} 👍", comune) == texts(comune).already_subscribed
    assert await desk.receives(words.leave.upper(), comune) == texts(comune).goodbye
    assert await desk.knows(comune) is None
    assert await desk.receives(words.leave, comune) == texts(comune).not_subscribed
    assert await desk.receives(words.join, comune) == texts(comune).welcome


@each_comune
@one_database
async def test_each_comune_says_who_reads_what_is_no_keyword_and_changes_nothing(desk: Desk, comune: str) -> None:
    said = "In via Roma c'è una buca profonda davanti alla scuola"
    # Whoever has a desk leaves the answer to it.
    assert await desk.receives(said, comune) == (None if AUTHORITIES[comune].desk else texts(comune).not_read)
    assert await desk.knows(comune) is None


async def test_joining_is_answered_in_the_reply_lane_to_a_sealed_address(desk: Desk) -> None:
    assert await desk.receives("Attiva") == texts("calcinaia").welcome
    async with desk.database.read() as session:
        dispatch = (await session.scalars(select(tables.Dispatch))).one()
        batch = (await session.scalars(select(tables.Batch))).one()
        delivery = (await session.scalars(select(tables.Delivery))).one()
        message = (await session.scalars(select(tables.OutboxMessage))).one()
        proof = (await session.scalars(select(tables.Consent))).one()
        everything = [
            bytes(value) if isinstance(value, bytes) else str(value).encode()
            for table in tables.Table.metadata.sorted_tables
            for row in (await session.execute(text(f"SELECT * FROM {table.name}"))).all()
            for value in row
        ]
    assert (dispatch.alert, dispatch.lane, dispatch.live, dispatch.audience) == (None, Lane.REPLY, True, 1)
    assert (delivery.dispatch_id, delivery.seq, delivery.recipient_id, delivery.progress) == (dispatch.id, 1, None, 0)
    assert (message.exchange, message.routing_key, message.lane) == ("deliveries", "whatsapp.reply", Lane.REPLY)
    assert wire.decode(message.body) == BatchReady(
        batch=batch.id,
        dispatch=dispatch.id,
        channel=Channel.WHATSAPP,
        account="whatsapp.calcinaia",
        lane=Lane.REPLY,
        first=1,
        last=1,
        not_after=dispatch.not_after,
        told=batch.told,
    )
    assert (proof.what, proof.keyword) == ("join", "Attiva")
    assert not [value for value in everything if b"3331234567" in value]


@one_database
async def test_only_the_keyword_is_kept_as_proof_and_never_the_name(desk: Desk) -> None:
    assert await desk.receives("Attiva Giovanna Lo Conte") == texts("calcinaia").welcome
    async with desk.database.read() as session:
        assert (await session.scalars(select(tables.Consent.keyword))).one() == "Attiva"


@one_database
async def test_stop_leaves_in_the_middle_of_a_broadcast_and_the_ledger_keeps_its_sense(desk: Desk) -> None:
    await desk.receives("Attiva")
    recipient = await desk.knows()
    assert recipient is not None
    assert await desk.receives("STOP") == texts("calcinaia").goodbye
    async with desk.database.read() as session:
        of_recipient = select(tables.Address).where(tables.Address.recipient_id == recipient.id)
        assert (await session.scalars(of_recipient)).one().sealed is None


@one_database
async def test_a_doubt_is_asked_about_and_changes_nothing(desk: Desk) -> None:
    await desk.receives("Attiva")
    assert await desk.receives("vorrei cancellarmi da questo servizio") == texts("calcinaia").ask_leave
    assert await desk.knows() is not None
    assert await desk.receives("aiuto") == texts("calcinaia").help


@one_database
async def test_somebody_on_telegram_is_another_address(desk: Desk) -> None:
    answer = await desk.receives("/start", sender="123456789", channel=Channel.TELEGRAM)
    assert answer == texts("calcinaia").welcome
    async with desk.database.read() as session:
        messages = list(await session.scalars(select(tables.OutboxMessage.routing_key)))
    assert messages == ["telegram.reply"]


LUCA_ON_TELEGRAM = "123456789"


def reached_at(address: str, channel: Channel = Channel.TELEGRAM) -> Subscriber:
    authority = AUTHORITIES["calcinaia"]
    access = authority.channel(channel)
    assert access is not None
    return Subscriber(authority, access, address)


async def door(desk: Desk, kind: str, at: datetime = NOW) -> None:
    """Luca shuts it, or opens it again."""
    told = await desk.receives(None, sender=LUCA_ON_TELEGRAM, channel=Channel.TELEGRAM, kind=kind, at=at.isoformat())
    assert told is None


async def theirs(desk: Desk) -> tuple[str | None, list[str]]:
    """Why the address of whoever is no channel is refused, and what they are known to have done."""
    async with desk.database.read() as session:
        people = select(tables.Address).join(tables.Recipient, tables.Recipient.id == tables.Address.recipient_id)
        (address,) = (await session.scalars(people.where(~tables.Recipient.is_channel))).all()
        done = list(await session.scalars(select(tables.Consent.what).order_by(tables.Consent.id)))
    assert address.sealed is not None and SEAL.open(address.sealed) == LUCA_ON_TELEGRAM
    return address.refused_because, done


async def test_who_blocks_the_bot_is_not_told_and_who_opens_again_is(desk: Desk) -> None:
    await desk.receives("/start", sender=LUCA_ON_TELEGRAM, channel=Channel.TELEGRAM)
    await door(desk, "blocked")
    await door(desk, "blocked", NOW + timedelta(seconds=1))
    assert await theirs(desk) == ("blocked_by_person", ["join", "block"])
    await door(desk, "unblocked", NOW + timedelta(minutes=1))
    assert await theirs(desk) == (None, ["join", "block", "unblock"])


async def test_a_door_that_was_shut_and_opened_stays_open_in_whichever_order_we_hear_it(desk: Desk) -> None:
    await desk.receives("/start", sender=LUCA_ON_TELEGRAM, channel=Channel.TELEGRAM)
    await door(desk, "unblocked", NOW + timedelta(seconds=5))
    await door(desk, "blocked", NOW)
    assert (await theirs(desk))[0] is None
    await door(desk, "blocked", NOW + timedelta(seconds=9))
    await door(desk, "unblocked", NOW + timedelta(seconds=7))
    assert (await theirs(desk))[0] == "blocked_by_person"


@one_database
async def test_who_writes_the_keyword_again_is_told_again_whatever_we_missed(desk: Desk) -> None:
    await desk.receives("/start", sender=LUCA_ON_TELEGRAM, channel=Channel.TELEGRAM)
    await door(desk, "blocked")
    answer = await desk.receives("/start", sender=LUCA_ON_TELEGRAM, channel=Channel.TELEGRAM)
    assert answer == texts("calcinaia").already_subscribed
    assert (await theirs(desk))[0] is None


@one_database
async def test_who_blocks_the_bot_and_has_another_address_is_told_there(desk: Desk) -> None:
    who = reached_at(LUCA_ON_TELEGRAM)
    elsewhere = reached_at(ANNA_WRITES, Channel.WHATSAPP)
    async with desk.database.write() as session:
        await join(session, who, SEAL, keyword="Attiva", now=NOW, also=[elsewhere])

    async def ranks() -> dict[str, int]:
        async with desk.database.read() as session:
            rows = (await session.scalars(select(tables.Address).order_by(tables.Address.rank))).all()
            opened = {SEAL.open(row.sealed): row.rank for row in rows if row.sealed}
        return {address: rank for address, rank in opened.items() if not address.startswith("@")}

    assert await ranks() == {LUCA_ON_TELEGRAM: 0, ANNA_WRITES: 1}
    await door(desk, "blocked")
    assert await ranks() == {ANNA_WRITES: 0, LUCA_ON_TELEGRAM: 1}


@one_database
async def test_a_stranger_who_blocks_the_bot_is_no_trouble(desk: Desk) -> None:
    await door(desk, "blocked")
    await door(desk, "unblocked", NOW + timedelta(minutes=1))
    async with desk.database.read() as session:
        assert await count(session, tables.Consent) == 0


@one_database
async def test_a_group_that_moved_is_found_at_its_new_id_and_told_once_where_it_is_registered_twice(
    desk: Desk,
) -> None:
    old, new = "-4001", "-1001000004001"
    for _ in range(2):  # the second time as by a list that still has the old one
        async with desk.database.write() as session:
            await join(session, reached_at(old), SEAL, keyword="Attiva", now=NOW)
        assert await desk.receives(None, sender=old, channel=Channel.TELEGRAM, kind="moved", payload=new) is None
        async with desk.database.read() as session:
            sealed = list(
                await session.scalars(select(tables.Address.sealed).where(tables.Address.sealed.is_not(None)))
            )
            assert [found for one in sealed if one and (found := SEAL.open(one)).startswith("-")] == [new]
            assert await find(session, reached_at(new), SEAL) is not None
            assert await find(session, reached_at(old), SEAL) is None


# ── places ──────────────────────────────────────────────────────────────────────────────────────────

FRAZIONI = [(one, area.code, area.name) for one, a in AUTHORITIES.items() for area in a.territory.frazioni]


@one_database
async def test_every_frazione_of_every_comune_can_be_named(desk: Desk) -> None:
    for comune in AUTHORITIES:
        await desk.receives(AUTHORITIES[comune].keywords.join, comune)
    for comune, code, name in FRAZIONI:
        answer = await desk.receives(f"zona {name}", comune)
        assert answer is not None
        assert name in answer
        recipient = await desk.knows(comune)
        assert recipient is not None
        assert recipient.located
        assert await desk.areas_of(recipient) == {comune, code}


@one_database
async def test_a_frazione_with_the_keyword_is_kept_at_once_and_said_to_be(desk: Desk) -> None:
    answer = await desk.receives("Attiva fornacette")
    assert answer is not None
    assert answer.startswith(texts("calcinaia").welcome)
    assert "riceverai gli avvisi che riguardano Fornacette" in answer
    recipient = await desk.knows()
    assert recipient is not None
    assert recipient.located
    assert await desk.areas_of(recipient) == {"calcinaia", "calcinaia.fornacette"}


@pytest.mark.parametrize("words", ["Attiva Calcinaja", "Attiva Calcinaia", "Attiva"])
@one_database
async def test_who_names_the_comune_itself_is_told_of_everything_in_it(desk: Desk, words: str) -> None:
    await desk.receives(words)
    recipient = await desk.knows()
    assert recipient is not None
    assert not recipient.located


@pytest.mark.parametrize("name", ["Bagnoli", "Selvi", "Mario Bagnolo"])
@one_database
async def test_a_surname_that_is_almost_a_frazione_narrows_nothing(desk: Desk, name: str) -> None:
    answer = await desk.receives(f"Attiva Comune Amico {name}", "santa-fiora")
    assert answer == texts("santa-fiora").welcome
    recipient = await desk.knows("santa-fiora")
    assert recipient is not None
    assert not recipient.located


@one_database
async def test_a_place_nobody_knows_changes_nothing_and_names_those_there_are(desk: Desk) -> None:
    await desk.receives("Attiva Fornacette")
    assert await desk.receives("zona Pontedera") == texts("calcinaia").place_unknown
    assert await desk.areas_of(await desk.knows()) == {"calcinaia", "calcinaia.fornacette"}


@one_database
async def test_a_place_of_somebody_who_has_not_joined_is_an_invitation(desk: Desk) -> None:
    assert await desk.receives("zona Fornacette") == texts("calcinaia").ask_join
    async with desk.database.read() as session:
        assert await count(session, tables.Place) == 0


@pytest.mark.parametrize(
    ("lat", "lon", "areas", "named"),
    [
        (43.6720, 10.5900, {"calcinaia", "calcinaia.fornacette"}, "Fornacette"),
        (43.6850, 10.6400, {"calcinaia"}, "Calcinaia"),
    ],
)
@one_database
async def test_a_shared_position_is_kept_exactly(
    desk: Desk, lat: float, lon: float, areas: set[str], named: str
) -> None:
    await desk.receives("Attiva")
    answer = await desk.receives(None, kind="location", point={"lat": lat, "lon": lon})
    assert answer is not None
    assert named in answer
    recipient = await desk.knows()
    assert recipient is not None
    assert recipient.located
    assert await desk.areas_of(recipient) == areas


FORNACETTE = {"lat": 43.6720, "lon": 10.5900}
PISA = {"lat": 43.7160, "lon": 10.4019}
HOME, WORK = ("casa", "calcinaia.fornacette", None, None), ("lavoro", "calcinaia.capoluogo", None, None)


async def test_a_position_in_another_comune_is_said_to_be_and_not_kept(desk: Desk) -> None:
    await desk.receives("Attiva")
    answer = await desk.receives(None, kind="location", point=PISA)
    assert answer == filled(texts("calcinaia").place_outside, luoghi="tutto il Comune")
    assert await desk.places() == []
    await desk.receives("zona Fornacette")
    answer = await desk.receives(None, kind="location", point=PISA)
    assert answer == filled(texts("calcinaia").place_outside, luoghi="Fornacette")
    assert await desk.places() == [HOME]


async def test_a_name_that_fits_two_is_asked_back_and_changes_nothing(desk: Desk) -> None:
    await desk.receives("ATTIVA COMUNE AMICO", "santa-fiora")
    await desk.receives("zona Selva", "santa-fiora")
    before = await desk.places()
    asked = await desk.receives("zona bagnola", "santa-fiora")
    assert asked == filled(texts("santa-fiora").place_which, luoghi="Bagnolo o Bagnore", zona="zona")
    asked = await desk.receives("zona lavoro bagnola", "santa-fiora")
    assert asked == filled(texts("santa-fiora").place_which, luoghi="Bagnolo o Bagnore", zona="zona lavoro")
    assert await desk.places() == before
    await desk.receives("zona lavoro Bagnore", "santa-fiora")
    assert [place[:2] for place in await desk.places()] == [
        ("casa", "santa-fiora.selva"),
        ("lavoro", "santa-fiora.bagnore"),
    ]


async def test_home_and_work_are_both_kept_and_a_new_home_forgets_no_work(desk: Desk) -> None:
    await desk.receives("Attiva")
    kept = texts("calcinaia").place_kept
    assert await desk.receives("zona Fornacette") == filled(kept, luoghi="Fornacette")
    both = filled(kept, luoghi="casa: Fornacette; lavoro: Calcinaia capoluogo")
    assert await desk.receives("ZONA LAVORO capoluogo") == both
    assert await desk.places() == [HOME, WORK]
    assert await desk.areas_of(await desk.knows()) == {"calcinaia", "calcinaia.fornacette", "calcinaia.capoluogo"}
    await desk.receives("zona Calcinaia capoluogo")
    assert await desk.places() == [("casa", "calcinaia.capoluogo", None, None), WORK]
    assert await desk.areas_of(await desk.knows()) == {"calcinaia", "calcinaia.capoluogo"}


async def test_a_place_forgotten_leaves_the_others_and_the_last_one_leaves_everything(desk: Desk) -> None:
    await desk.receives("Attiva Fornacette")
    await desk.receives("zona lavoro capoluogo")
    forgotten = texts("calcinaia").place_forgotten
    assert await desk.receives("cancella zona lavoro") == filled(forgotten, luoghi="Fornacette")
    assert await desk.places() == [HOME]
    assert await desk.receives("zona casa togli") == filled(forgotten, luoghi="tutto il Comune")
    recipient = await desk.knows()
    assert recipient is not None
    assert not recipient.located
    assert await desk.places() == []
    assert await desk.areas_of(recipient) == set()
    nothing = filled(texts("calcinaia").places_known, luoghi="tutto il Comune")
    assert await desk.receives("togli zona lavoro") == nothing


async def test_a_position_is_kept_until_the_name_of_the_frazione_is_preferred(desk: Desk) -> None:
    await desk.receives("Attiva")
    await desk.receives("zona lavoro capoluogo")
    answer = await desk.receives(None, kind="location", point=FORNACETTE)
    known = "casa: un punto a Fornacette; lavoro: Calcinaia capoluogo"
    assert answer == filled(texts("calcinaia").place_point_kept, luogo="Fornacette", luoghi=known)
    assert 'scrivi "zona Fornacette"' in answer
    assert await desk.places() == [("casa", None, 43.6720, 10.5900), WORK]
    await desk.receives("zona Fornacette")
    assert await desk.places() == [HOME, WORK]


@one_database
async def test_who_asks_is_told_what_is_known_and_how_to_change_it(desk: Desk) -> None:
    assert await desk.receives("zone") == texts("calcinaia").ask_join
    await desk.receives("Attiva Fornacette")
    for words in ("ZONA", "le mie zone", "zona lavoro", "togli zona scuola"):
        assert await desk.receives(words) == filled(texts("calcinaia").places_known, luoghi="Fornacette")
    assert await desk.places() == [HOME]


@one_database
async def test_a_doubt_between_leaving_and_forgetting_a_place_does_neither(desk: Desk) -> None:
    await desk.receives("ISCRIZIONE", "fucecchio")
    await desk.receives("zona Galleno", "fucecchio")
    before = await desk.places()
    for words in ("cancellazone", "cancellami zona casa", "cancella zona casa e disiscrivimi"):
        assert await desk.receives(words, "fucecchio") == texts("fucecchio").ask_leave
    assert await desk.places() == before
    assert await desk.knows("fucecchio") is not None


async def test_a_place_given_to_us_twice_is_kept_and_answered_once(desk: Desk) -> None:
    await desk.receives("Attiva Fornacette")
    inbound = await desk.lies_in_the_inbox("zona lavoro capoluogo")
    for _ in range(2):
        given = Given(wire.encode(CitizenWrote(inbound, Channel.WHATSAPP)))
        await desk.inbound.take(cast(Incoming, given))
        assert given.fate == ["acknowledged"]
        assert await desk.places() == [HOME, WORK]
    async with desk.database.read() as session:
        assert await count(session, tables.Dispatch) == 2


# ── what is no text ─────────────────────────────────────────────────────────────────────────────────


@each_comune
@one_database
async def test_what_nobody_can_listen_to_is_said_so(desk: Desk, comune: str) -> None:
    for number, kind in enumerate(("audio", "image", "sticker", "voice", "location")):
        answer = await desk.receives(None, comune, kind=kind, sender=f"+39333123456{number}")
        assert answer == (None if AUTHORITIES[comune].desk and kind != "location" else texts(comune).attachment)


@one_database
async def test_a_caption_is_read_like_a_text(desk: Desk) -> None:
    assert await desk.receives("Attiva", kind="image") == texts("calcinaia").welcome


@pytest.mark.parametrize(("kind", "words"), [("reaction", None), ("system", "Anna changed from +39… to +39…")])
@one_database
async def test_a_thumb_on_an_alert_is_not_answered(desk: Desk, kind: str, words: str | None) -> None:
    assert await desk.receives(words, kind=kind) is None


# ── twice, late, and wrong ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("comune", "words", "stays"),
    [
        ("santa-fiora", "C'è una buca davanti alla scuola di Bagnolo", True),
        ("santa-fiora", "Cancellazione appuntamento di lunedì", True),
        ("santa-fiora", "zona industriale allagata", True),
        ("santa-fiora", "togliete zona e paletti", True),
        ("santa-fiora", "ATTIVA COMUNE AMICO", False),
        ("santa-fiora", "le mie zone", False),
        ("calcinaia", "C'è una buca davanti alla scuola", False),
    ],
)
async def test_only_what_the_desk_of_a_two_way_comune_reads_itself_stays_and_sealed(
    desk: Desk, comune: str, words: str, stays: bool
) -> None:
    await desk.receives(words, comune)
    async with desk.database.read() as session:
        kept = (await session.scalars(select(tables.InboundMessage))).one()
    assert (kept.sealed is not None) is stays
    assert kept.sealed is None or words in json.loads(SEAL.open(kept.sealed))["text"]


async def test_a_text_given_to_us_twice_is_answered_once(desk: Desk) -> None:
    inbound = await desk.lies_in_the_inbox("Attiva")
    fates = []
    for _ in range(3):
        given = Given(wire.encode(CitizenWrote(inbound, Channel.WHATSAPP)))
        await desk.inbound.take(cast(Incoming, given))
        fates.append(given.fate)
    assert fates == [["acknowledged"]] * 3
    async with desk.database.read() as session:
        assert await count(session, tables.Dispatch) == await count(session, tables.Consent) == 1


@one_database
async def test_a_text_that_is_not_in_the_inbox_any_more_is_done_with(desk: Desk) -> None:
    given = Given(wire.encode(CitizenWrote(404, Channel.WHATSAPP)))
    await desk.inbound.take(cast(Incoming, given))
    assert given.fate == ["acknowledged"]


@one_database
async def test_an_answer_is_due_within_the_hours_the_provider_grants_from_the_citizens_own_text(desk: Desk) -> None:
    morning = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=6)
    await desk.receives("Attiva", received_at=morning)
    async with desk.database.read() as session:
        dispatch = (await session.scalars(select(tables.Dispatch))).one()
    assert dispatch.not_after == morning + timedelta(hours=23)


@pytest.mark.parametrize(
    "body",
    [
        b"buongiorno",
        wire.encode(AlertIssued("a1", 1, "calcinaia", Lane.FLASH, "Met", "Alert", NOW, NOW + timedelta(hours=1))),
    ],
)
@one_database
async def test_what_is_no_text_of_a_citizen_goes_to_the_dead_letters(desk: Desk, body: bytes) -> None:
    given = Given(body)
    await desk.inbound.take(cast(Incoming, given))
    assert given.fate == ["acknowledged"]
    async with desk.database.read() as session:
        [letter] = (await session.scalars(select(tables.DeadLetter))).all()
    assert (letter.lane, letter.body) == (Lane.REPLY, body)


@one_database
async def test_a_text_for_an_account_nobody_has_is_forgotten(desk: Desk) -> None:
    assert await desk.receives("Attiva", "pontedera") is None


@one_database
async def test_a_failure_leaves_the_text_in_the_inbox_and_the_message_unanswered(desk: Desk) -> None:
    inbound = await desk.lies_in_the_inbox("Attiva")
    async with desk.database.write() as session:
        (await session.get_one(tables.InboundMessage, inbound)).sealed = b"spoilt"
    given = Given(wire.encode(CitizenWrote(inbound, Channel.WHATSAPP)))
    with pytest.raises(WrongKey, match="does not open"):
        await desk.inbound.take(cast(Incoming, given))
    assert given.fate == []
    async with desk.database.read() as session:
        assert (await session.get_one(tables.InboundMessage, inbound)).handled_at is None
        assert await count(session, tables.Dispatch) == 0


@one_database
async def test_who_was_imported_with_a_place_keeps_it_when_they_write_the_keyword(desk: Desk) -> None:
    place = Place(Precision.FRAZIONE, ("calcinaia.fornacette",))
    async with desk.database.write() as session:
        await join(session, citizen(1234567), SEAL, keyword="(sportello)", now=NOW, places=[place])
    assert await desk.receives("Attiva") == texts("calcinaia").already_subscribed
    assert await desk.areas_of(await desk.knows()) == {"calcinaia", "calcinaia.fornacette"}


# ── politeness ──────────────────────────────────────────────────────────────────────────────────────

SAID = "In via Roma c'è una buca profonda davanti alla scuola"


@dataclass
class Clock:
    """The time that it is where texts are read."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __call__(self) -> datetime:
        return self.now


async def test_what_nobody_reads_is_said_once_a_day_and_everything_is_done_all_the_same(desk: Desk) -> None:
    clock = Clock()
    desk.inbound = Inbound(desk.database, AUTHORITIES, SEAL, clock=clock)
    assert await desk.receives(SAID) == texts("calcinaia").not_read
    assert await desk.receives(SAID) is None
    assert await desk.receives(None, kind="audio") == texts("calcinaia").attachment
    assert await desk.receives(None, kind="sticker") is None
    assert await desk.receives(SAID, sender="+393337654321") == texts("calcinaia").not_read
    assert await desk.receives("Attiva") == texts("calcinaia").welcome
    clock.now += timedelta(hours=24)
    assert await desk.receives(SAID) == texts("calcinaia").not_read
    async with desk.database.read() as session:
        kept = (await session.scalars(select(tables.Courtesy))).all()
    assert ANNA_WRITES not in repr([vars(one) for one in kept])


@one_database
async def test_a_comune_that_reads_what_is_written_is_never_silent_about_it(desk: Desk) -> None:
    without = AUTHORITIES | {"santa-fiora": replace(AUTHORITIES["santa-fiora"], desk=None)}
    desk.inbound = Inbound(desk.database, without, SEAL)
    for _ in range(3):
        assert await desk.receives(SAID, "santa-fiora") == texts("santa-fiora").not_read


@one_database
async def test_a_machine_that_answers_us_is_not_answered_and_may_leave(desk: Desk) -> None:
    clock = Clock()
    desk.inbound = Inbound(desk.database, AUTHORITIES, SEAL, clock=clock)
    answers = [await desk.receives("Attiva") for _ in range(politeness.MOST + 5)]
    assert [bool(one) for one in answers] == [True] * politeness.MOST + [False] * 5
    assert await desk.receives("Disattiva") is None
    assert await desk.knows() is None
    clock.now += politeness.WITHIN
    assert await desk.receives("Attiva") == texts("calcinaia").welcome


@one_database
async def test_thousands_of_texts_from_one_number_leave_few_rows_and_hold_nobody_up(desk: Desk) -> None:
    for _ in range(politeness.NOBODY + 60):
        inbound = await desk.lies_in_the_inbox("Attiva", said_at=datetime.now(UTC).isoformat())
        await desk.inbound.take(cast(Incoming, Given(wire.encode(CitizenWrote(inbound, Channel.WHATSAPP)))))
    async with desk.database.read() as session:
        assert await count(session, tables.Consent) == politeness.NOBODY
        assert await count(session, tables.Dispatch) == politeness.MOST
        assert await count(session, tables.Courtesy) == 1
    for _ in range(3):
        await desk.receives("Disattiva")
    async with desk.database.read() as session:
        assert await count(session, tables.Consent) == politeness.NOBODY + 1
    assert await desk.knows() is None


TRICKS = ["\u200b", "\u200d", "\u200e", "\u202e", "\u2066", "\u2069", "\ufeff", "\u00ad", "\u034f", "\ufe0f", "\u061c"]


@one_database
async def test_marks_nobody_sees_hide_neither_a_keyword_nor_a_place(desk: Desk) -> None:
    for trick in TRICKS:
        assert await desk.receives(trick + trick.join("Attiva") + trick) == texts("calcinaia").welcome
        answer = await desk.receives(f"zona {trick.join('Fornacette')}")
        assert answer == filled(texts("calcinaia").place_kept, luoghi="Fornacette")
        assert await desk.receives(trick.join("STOP")) == texts("calcinaia").goodbye
        await desk.forgets_how_often()
    async with desk.database.read() as session:
        assert set(await session.scalars(select(tables.Consent.keyword))) == {"Attiva", "STOP"}


@one_database
async def test_an_empty_text_and_one_of_four_thousand_letters_are_answered_kindly(desk: Desk) -> None:
    assert await desk.receives("  \u200b\n ") == texts("calcinaia").attachment
    assert await desk.receives("", sender="+393337654321") == texts("calcinaia").attachment
    assert await desk.receives("disattiva " * 400, sender="+393337654322") == texts("calcinaia").not_read
