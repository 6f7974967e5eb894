"""Joining and leaving, heard in another order than they were written; positions, from the raw webhook to the place."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from alerting import ordering, wire
from alerting.amqp import Incoming
from alerting.domain.authority import filled
from alerting.domain.delivery import Channel
from alerting.domain.events import CitizenWrote
from alerting.persistence import tables
from alerting.subscribing import find
from consumers.inbound import Inbound
from tests.integration.api_client import NOWHERE_TO_PUBLISH, WEBHOOK_SECRET, Town, serving, signed
from tests.integration.calcinaia import AUTHORITIES, SEAL, citizen, five_comuni, one_database
from tests.integration.test_inbound import ANNA_WRITES, Desk, Given, texts

TEN = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)


def minutes(later: float) -> str:
    return (TEN + timedelta(minutes=later)).isoformat()


@pytest.fixture
async def desk(database_url: str) -> AsyncIterator[Desk]:
    async with five_comuni(database_url) as database:
        yield Desk(database, Inbound(database, AUTHORITIES, SEAL))


async def proofs(desk: Desk) -> list[tuple[str, str]]:
    async with desk.database.read() as session:
        rows = await session.scalars(select(tables.Consent).order_by(tables.Consent.id))
        return [(row.what, row.keyword) for row in rows]


# ── the order in which it was written ───────────────────────────────────────────────────────────────


async def test_who_left_after_joining_stays_out_when_the_leaving_is_heard_first(desk: Desk) -> None:
    assert await desk.receives("Disattiva", said_at=minutes(1)) == texts("calcinaia").not_subscribed
    assert await desk.receives("Attiva", said_at=minutes(0)) == texts("calcinaia").not_subscribed
    assert await desk.knows() is None
    assert await proofs(desk) == [("leave", "Disattiva"), ("join overtaken", "Attiva")]
    assert await desk.receives("Attiva", said_at=minutes(2)) == texts("calcinaia").welcome
    assert await desk.knows() is not None


async def test_who_joined_after_leaving_stays_in_when_the_leaving_is_heard_last(desk: Desk) -> None:
    await desk.receives("Attiva", said_at=minutes(0))
    assert await desk.receives("Attiva", said_at=minutes(3)) == texts("calcinaia").already_subscribed
    assert await desk.receives("Disattiva", said_at=minutes(2)) == texts("calcinaia").already_subscribed
    assert await desk.knows() is not None
    assert [what for what, _ in await proofs(desk)] == ["join", "join", "leave overtaken"]
    assert await desk.receives("Disattiva", said_at=minutes(4)) == texts("calcinaia").goodbye
    assert await desk.knows() is None


@pytest.mark.parametrize("first", ["Attiva", "Disattiva"])
async def test_of_two_that_were_written_at_once_leaving_wins(desk: Desk, first: str) -> None:
    await desk.receives("Attiva", said_at=minutes(-9))
    for words in (first, "Disattiva" if first == "Attiva" else "Attiva"):
        await desk.receives(words, said_at=minutes(0))
    assert await desk.knows() is None


@one_database
async def test_a_webhook_replayed_days_later_under_another_name_brings_nobody_back(desk: Desk) -> None:
    await desk.receives("Attiva", said_at=minutes(0))
    await desk.receives("Disattiva", said_at=minutes(1))
    late = datetime.now(UTC) + timedelta(days=5)
    for _ in range(3):
        assert await desk.receives("Attiva", said_at=minutes(0), received_at=late) == texts("calcinaia").not_subscribed
    assert await desk.knows() is None


@one_database
async def test_another_comune_and_another_person_have_an_order_of_their_own(desk: Desk) -> None:
    await desk.receives("Disattiva", said_at=minutes(5))
    assert await desk.receives("ATTIVA", "bientina", said_at=minutes(0)) == texts("bientina").welcome
    assert await desk.receives("Attiva", sender="+393337654321", said_at=minutes(0)) == texts("calcinaia").welcome


@one_database
async def test_a_clock_that_is_wrong_keeps_nobody_in_and_nobody_out(desk: Desk) -> None:
    for at in ("2099-01-01T00:00:00+00:00", "1970-01-01T00:00:00+00:00", "ieri", "2026-11-20T10:00:00"):
        assert await desk.receives("Attiva", said_at=at) == texts("calcinaia").welcome
        assert await desk.receives("Disattiva", said_at=at) == texts("calcinaia").goodbye
        assert await desk.knows() is None


async def test_a_command_and_its_contrary_read_at_once_end_by_the_later_one(desk: Desk) -> None:
    for round in range(6):
        said = [("Attiva", minutes(round * 2)), ("Disattiva", minutes(round * 2 + 1))]
        numbers = [await desk.lies_in_the_inbox(words, said_at=at) for words, at in said[:: -1 if round % 2 else 1]]
        given_ = [Given(wire.encode(CitizenWrote(number, Channel.WHATSAPP))) for number in numbers]
        await asyncio.gather(*(desk.inbound.take(cast(Incoming, one)) for one in given_))
        assert await desk.knows() is None


STARTS = datetime(2026, 11, 26, tzinfo=UTC)


@given(st.none() | st.text(max_size=30) | st.datetimes().map(datetime.isoformat) | st.datetimes(timezones=st.just(UTC)))
def test_no_clock_puts_a_text_far_from_when_it_came(said: str | datetime | None) -> None:
    at = ordering.written_at(said.isoformat() if isinstance(said, datetime) else said, STARTS)
    assert STARTS - ordering.BEHIND <= at <= STARTS + ordering.AHEAD


@one_database
@pytest.mark.parametrize("commands", ["J0 L1 J2", "J0 L1 J1", "L0 J1 L2 J3", "J0 J1 L2 L2"])
async def test_in_whichever_order_they_are_heard_the_newest_decides(desk: Desk, commands: str) -> None:
    written = [(int(one[1]), one[0] == "J") for one in commands.split()]
    newest = max(at for at, _ in written)
    for number, heard in enumerate(permutations(written)):
        for at, joins in heard:
            who = replace(citizen(number), wrote_at=TEN + timedelta(minutes=at))
            async with desk.database.write() as session:
                act = ordering.join if joins else ordering.leave
                await act(session, who, SEAL, keyword="Attiva" if joins else "Disattiva", now=datetime.now(UTC))
        async with desk.database.read() as session:
            is_in = await find(session, citizen(number), SEAL) is not None
        assert is_in is all(joins for at, joins in written if at == newest), heard


# ── positions, from the raw webhook ─────────────────────────────────────────────────────────────────


@pytest.fixture
async def town(database_url: str, tmp_path: Path) -> AsyncIterator[Town]:
    async with serving(database_url, NOWHERE_TO_PUBLISH, "t.", tmp_path) as town:
        yield town


async def posted(town: Town, channel: Channel, **part: Any) -> None:
    """What a provider posts, read by whoever reads the inbox."""
    number = len(await town.rows(tables.InboundMessage))
    if channel is Channel.TELEGRAM:
        message = {"message_id": number + 1, "date": int(TEN.timestamp()), "chat": {"id": 5001, "type": "private"}}
        headers = {"X-Telegram-Bot-Api-Secret-Token": WEBHOOK_SECRET}
        path = "/v1/webhooks/telegram/telegram.calcinaia"
        answer = await town.ask("POST", path, None, json={"message": message | part}, headers=headers)
    else:
        kind = next(iter(part))
        words = {"text": {"body": part["text"]}} if kind == "text" else part
        message = {"from": ANNA_WRITES[1:], "id": f"wamid.{number}", "timestamp": str(int(TEN.timestamp()))}
        value = {"metadata": {"phone_number_id": "105000400000001"}, "messages": [message | {"type": kind} | words]}
        change = {"field": "messages", "value": value}
        body = {"object": "whatsapp_business_account", "entry": [{"id": "WABA", "changes": [change]}]}
        answer = await town.ask("POST", "/v1/webhooks/whatsapp", None, **signed(body))
    assert answer.status == 200
    (row,) = (await town.rows(tables.InboundMessage))[number:]
    inbound = Inbound(town.database, AUTHORITIES, town.seal)
    await inbound.take(cast(Incoming, Given(wire.encode(CitizenWrote(row.id, channel)))))


async def last_answer(town: Town) -> str | None:
    rows = await town.rows(tables.Dispatch)
    return max(rows, key=lambda row: row.id).reply_text if rows else None


@pytest.mark.parametrize("channel", [Channel.WHATSAPP, Channel.TELEGRAM])
async def test_a_position_shared_with_the_comune_is_kept_as_where_they_live(town: Town, channel: Channel) -> None:
    await posted(town, channel, text="Attiva")
    await posted(town, channel, location={"latitude": 43.6720, "longitude": 10.5900})
    (place,) = await town.rows(tables.Place)
    assert (place.label, place.lat, place.lon, place.area) == ("casa", 43.6720, 10.5900, None)
    told = filled(texts("calcinaia").place_point_kept, luogo="Fornacette", luoghi="un punto a Fornacette")
    assert await last_answer(town) == told
    await posted(town, channel, location={"latitude": 43.7160, "longitude": 10.4019})
    assert await last_answer(town) == filled(texts("calcinaia").place_outside, luoghi="un punto a Fornacette")
    await posted(town, channel, location=json.loads('{"latitude": NaN, "longitude": 10.59}'))
    assert await last_answer(town) == texts("calcinaia").attachment
    assert [row.lat for row in await town.rows(tables.Place)] == [43.6720]
