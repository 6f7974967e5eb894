"""What SMS providers post: believed with the secret, kept once, in whatever shape their panel gives it."""

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from hypothesis import given
from hypothesis import strategies as st

from alerting import authorities
from alerting.api import webhooks
from alerting.domain.authority import ChannelAccess
from alerting.domain.delivery import Channel
from alerting.persistence import Database, tables
from alerting.sealing import Seal
from alerting.webhooks import sms
from consumers.local.trial import authorities_with_sms
from tests.integration.api_client import NOWHERE_TO_PUBLISH, Town, _enrolled, running, settings_for

SECRET = "sms_segreto_calcinaia"
HERE = "/v1/webhooks/sms/sms.calcinaia"
BEARER = {"Authorization": f"Bearer {SECRET}"}
MARIA = "+393331234567"


@pytest.fixture(autouse=True)
def strangers_begin_anew() -> None:
    webhooks._audited.clear()


@pytest.fixture
async def town(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Town]:
    """Calcinaia with a number people can write to. Without a broker: texts need none."""
    shipped = authorities.load()
    access = authorities.load(authorities_with_sms(tmp_path / "authorities"))["calcinaia"].channel(Channel.SMS)
    assert isinstance(access, ChannelAccess)
    access = replace(access, identity="+393331230000")
    calcinaia = replace(shipped["calcinaia"], channels=(*shipped["calcinaia"].channels, access))
    monkeypatch.setattr(authorities, "load", lambda folder=None: shipped | {"calcinaia": calcinaia})
    settings = settings_for(database_url, NOWHERE_TO_PUBLISH, "t.", tmp_path)
    assert settings.secrets_file is not None
    known = json.loads(settings.secrets_file.read_text()) | {"sms.calcinaia": {"webhook_secret": SECRET}}
    settings.secrets_file.write_text(json.dumps(known))
    database, seal = Database(database_url), Seal(settings.key_bytes)
    tokens = await _enrolled(database, seal)
    async with running(settings) as url, ClientSession() as http:
        yield Town(url, database, seal, tokens, http, settings)
    await database.close()


async def kept(town: Town) -> list[dict[str, Any]]:
    return [json.loads(town.seal.open(row.sealed)) for row in await town.rows(tables.InboundMessage)]


def basic(password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"skebby:{password}".encode()).decode()}


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (HERE, {}),
        (HERE, {"Authorization": "Bearer indovinato"}),
        (HERE, {"Authorization": "Bearer "}),
        (HERE, basic("indovinato")),
        (HERE, {"Authorization": "Basic ###"}),
        (f"{HERE}?token=indovinato", {}),
        (f"{HERE}?token={SECRET}", {"Authorization": "Bearer indovinato"}),
        ("/v1/webhooks/sms/sms.bientina", BEARER),
        ("/v1/webhooks/sms/whatsapp.calcinaia", BEARER),
    ],
)
async def test_whoever_does_not_know_the_secret_leaves_an_audit_line_only(
    town: Town, path: str, headers: dict[str, str]
) -> None:
    answer = await town.ask("POST", path, None, json={"sender": MARIA, "message": "STOP"}, headers=headers)
    assert answer.status == 401 and SECRET not in json.dumps(answer.body)
    assert len(await town.audited("refused webhook")) == 1 and await kept(town) == []


@pytest.mark.parametrize(("path", "headers"), [(HERE, BEARER), (HERE, basic(SECRET)), (f"{HERE}?token={SECRET}", {})])
async def test_a_text_is_kept_once_however_often_it_is_posted(town: Town, path: str, headers: dict[str, str]) -> None:
    said = {"message_id": "8812", "sender": "393331234567", "recipient": "393331230000", "message": "Attiva però"}
    for _ in range(3):
        answer = await town.ask("POST", path, None, data=said, headers=headers)
        assert (answer.status, answer.body) == (200, {"texts": 1, "receipts": 0, "ignored": 0})
    [said_by_her] = await kept(town)
    assert datetime.fromisoformat(said_by_her.pop("said_at")).tzinfo is not None
    assert said_by_her == {"sender": MARIA, "text": "Attiva però", "kind": "text", "payload": None}
    (promise,) = await town.rows(tables.OutboxMessage)
    assert (promise.exchange, promise.routing_key, promise.lane.value) == ("inbound", "sms", "reply")


async def test_a_text_without_a_name_is_kept_once_by_its_words(town: Town) -> None:
    for words in ("Attiva", "Attiva", "STOP 🌊", "STOP 🌊", "Attiva"):
        answer = await town.ask("POST", HERE, None, json={"from": MARIA, "text": words}, headers=BEARER)
        assert answer.status == 200
    assert [one["text"] for one in await kept(town)] == ["Attiva", "STOP 🌊", "Attiva"]


async def test_what_is_no_text_of_a_person_is_counted(town: Town) -> None:
    for said in ({}, {"sender": "Vodafone", "message": "Ricarica"}, {"sender": MARIA}, {"message": "STOP"}, [1], "x"):
        answer = await town.ask("POST", HERE, None, json=said, headers=BEARER)
        assert (answer.status, answer.body) == (200, {"texts": 0, "receipts": 0, "ignored": 1})
    assert await kept(town) == []


async def test_a_receipt_that_rabbitmq_does_not_take_is_asked_for_again(town: Town) -> None:
    receipt = {"order_id": "12.3.1", "status": "DLVRD", "recipient": MARIA, "delivery_date": "20261126070000"}
    assert (await town.ask("POST", HERE, None, data=receipt, headers=BEARER)).status == 503
    for nobodys in ({"order_id": "att_01J9"}, {"status": "BOH"}):
        answer = await town.ask("POST", HERE, None, data=receipt | nobodys, headers=BEARER)
        assert (answer.status, answer.body["ignored"]) == (200, 1)


async def test_a_body_that_is_no_json_or_too_large_is_refused(town: Town) -> None:
    assert (await town.ask("POST", HERE, None, data=b"{{{", headers=BEARER)).status == 400

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(80):
            yield b" " * 65536

    assert (await town.ask("POST", HERE, None, data=pieces(), headers=BEARER)).status == 413


NAMES = st.sampled_from((*sms.FROM, *sms.TEXT, *sms.IDENTITY, "order_id", "status"))


@given(st.dictionaries(NAMES, st.none() | st.integers() | st.text(max_size=20) | st.lists(st.integers(), max_size=2)))
def test_any_call_says_something_or_nothing(said: dict[str, object]) -> None:
    sms.read_push(said, datetime(2026, 11, 26, tzinfo=UTC))


@given(st.text(max_size=30), st.none() | st.text(max_size=30), st.none() | st.text(max_size=30))
def test_no_guess_and_no_empty_secret_lets_anybody_in(
    expected: str, header: str | None, in_address: str | None
) -> None:
    if sms.verify_secret(expected, header, in_address):
        assert expected and expected in f"{header} {in_address}"
