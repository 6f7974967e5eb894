"""What every channel promises, one set for all: whatever a provider does, nobody loses an alert by it."""

import asyncio
import contextlib
import gzip
import json
import subprocess
import sys
import traceback
import tracemalloc
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientConnectionResetError, ClientSession
from aiohttp.abc import AbstractStreamWriter
from hypothesis import given, settings
from hypothesis import strategies as st

from alerting.domain import push
from alerting.domain.delivery import (
    Accepted,
    ChannelHalted,
    Deferred,
    Outcome,
    Reason,
    Refused,
    TextRejected,
    Uncertain,
)
from consumers.channel import Account, ChannelAdapter, Secret, Text
from consumers.channels import bot_api as telegram_channel
from consumers.channels import email as email_channel
from consumers.channels import whatsapp_errors as whatsapp_channel
from consumers.channels.email import Email, Said
from consumers.channels.line import Words
from consumers.channels.mqtt import Mqtt
from consumers.channels.sms_http import SmsHttp
from consumers.channels.sms_smpp import SmsSmpp
from consumers.channels.telegram import Telegram
from consumers.channels.web_push import WebPush
from consumers.channels.whatsapp import WhatsApp
from consumers.simulators.serving import Served
from tests.contract.fornacette import (
    EMAIL_PASSWORD,
    IN_A_HURRY,
    MQTT_PASSWORD,
    POSTMARKS,
    PUBLIC_URL,
    SMS_ACCESS_TOKEN,
    SMS_PASSWORD,
    TELEGRAM_TOKEN,
    VAPID,
    WHATSAPP_TOKEN,
    a_server_that,
    email_account,
    mqtt_account,
    received,
    sms_account,
    sms_rest_account,
    telegram_account,
    tell,
    web_push_account,
    whatsapp_account,
)
from tests.contract.telegram_parts import Ids, Posts

EVACUATE = Text(
    "Fornacette: esondazione dell'Arno. Evacuare.",
    template="allerta_pc_v3",
    variables=("Fornacette", "rossa", "evacuare subito"),
)


@dataclass(frozen=True)
class Way:
    """One channel, as its contract sees it: an adapter, its provider, and where people are."""

    adapter: ChannelAdapter
    served: Served
    account_at: Callable[..., Account]
    person: Callable[[str], str]
    not_an_address: str
    token: str
    too_long: Text
    gone_code: int
    another: Callable[..., ChannelAdapter]
    url: str
    scheme: str = "http"
    shown_as: Callable[[str], str] = str
    """What the simulator calls whom we know by an address."""

    @property
    def account(self) -> Account:
        return self.account_at(self.url)

    async def send(self, address: str, text: Text = EVACUATE, **changes: Any) -> Outcome:
        account = self.account_at(changes.pop("base_url", self.url), **changes)
        return await self.adapter.send(account, address, text, "att_1")


@dataclass(frozen=True)
class PushWay(Way):
    """Where the provider is stands in each person's address."""

    async def send(self, address: str, text: Text = EVACUATE, **changes: Any) -> Outcome:
        if elsewhere := changes.get("base_url"):
            if not elsewhere.startswith("http://127.0.0.1:"):
                elsewhere = elsewhere.replace("http:", "https:")  # plain HTTP stays on this machine
            address = address.replace(self.url, elsewhere)
        return await super().send(address, text, **changes)


@pytest.fixture(params=["whatsapp", "telegram", "email", "sms", "sms-rest", "web_push", "mqtt"])
def way(request: pytest.FixtureRequest) -> Way:
    return _way(request)


@pytest.fixture(params=["whatsapp", "telegram", "email", "sms", "sms-rest"])
def provider_way(request: pytest.FixtureRequest) -> Way:
    """For what only a provider of one's own does. Of push services test_web_push.py says what they do instead."""
    return _way(request)


@pytest.fixture(params=["whatsapp", "telegram", "sms-rest", "web_push"])
def http_way(request: pytest.FixtureRequest) -> Way:
    """For what a line can only do where HTTP is spoken on it; test_email.py and test_sms_smpp.py have the others."""
    return _way(request)


def _way(request: pytest.FixtureRequest) -> Way:
    if request.param == "web_push":
        service, farewells = request.getfixturevalue("push_service"), request.getfixturevalue("farewells")
        hosts = frozenset({"127.0.0.1", "fornacette.invalid"})
        return PushWay(
            adapter=request.getfixturevalue("web_push"),
            served=service,
            account_at=web_push_account,
            person=lambda n: (
                push.subscription(service.simulator.subscribe(f"maria-{n}", VAPID.public_key), hosts).address
            ),
            not_an_address='{"endpoint":"https://fcm.googleapis.com/fcm/send/maria","keys":{}}',
            token=VAPID.secret,
            too_long=Text("Evacuare. " * 500),
            gone_code=403,
            another=lambda **how: WebPush(POSTMARKS, farewells, hosts, **how),
            url=service.base_url,
            shown_as=lambda address: json.loads(address)["endpoint"].rpartition("/")[2] if address else "",
        )
    if request.param == "mqtt":
        panel_posts, board = request.getfixturevalue("panel_posts"), request.getfixturevalue("board")
        return Way(
            adapter=request.getfixturevalue("mqtt"),
            served=panel_posts,
            account_at=mqtt_account,
            person=lambda suffix: f"pc/050004/vms/fornacette-{suffix}",
            not_an_address="pc/050004/vms/#",
            token=MQTT_PASSWORD,
            too_long=Text("Evacuare. " * 500),
            gone_code=401,
            another=lambda **how: Mqtt(board, **how),
            url=panel_posts.simulator.gate_url,
            scheme="mqtt",
        )
    if request.param == "sms":
        smsc, notebook = request.getfixturevalue("smsc"), request.getfixturevalue("notebook")
        return Way(
            adapter=request.getfixturevalue("sms"),
            served=smsc,
            account_at=sms_account,
            person=lambda suffix: f"+393331234{suffix:0>3}",
            not_an_address="3331234567",
            token=SMS_PASSWORD,
            too_long=Text("Evacuare. " * 500),
            gone_code=401,
            another=lambda **how: SmsSmpp(notebook, notebook, **how),
            url=smsc.simulator.smpp_url,
            scheme="smpp",
        )
    if request.param == "sms-rest":
        house, orderbook = request.getfixturevalue("sms_house"), request.getfixturevalue("orderbook")
        return Way(
            adapter=request.getfixturevalue("sms_rest"),
            served=house,
            account_at=sms_rest_account,
            person=lambda suffix: f"+393331234{suffix:0>3}",
            not_an_address="3331234567",
            token=SMS_ACCESS_TOKEN,
            too_long=Text("Evacuare. " * 500),
            gone_code=401,
            another=lambda **how: SmsHttp(orderbook, **how),
            url=house.base_url,
        )
    if request.param == "whatsapp":
        meta, uploads = request.getfixturevalue("meta"), request.getfixturevalue("uploads")
        return Way(
            adapter=request.getfixturevalue("whatsapp"),
            served=meta,
            account_at=whatsapp_account,
            person=lambda suffix: f"+393331234{suffix}",
            not_an_address="3331234567",
            token=WHATSAPP_TOKEN,
            too_long=Text("Evacuare. " * 500),
            gone_code=190,
            another=lambda **how: WhatsApp(uploads, **how),
            url=meta.base_url,
        )
    if request.param == "email":
        post_office = request.getfixturevalue("post_office")
        return Way(
            adapter=request.getfixturevalue("email"),
            served=post_office,
            account_at=email_account,
            person=lambda suffix: f"maria+{suffix}@posta.example",
            not_an_address="maria@posta",
            token=EMAIL_PASSWORD,
            too_long=Text("Evacuare. " * 150_000),
            gone_code=535,
            another=lambda **how: Email(POSTMARKS, PUBLIC_URL, **how),
            url=post_office.simulator.smtp_url,
            scheme="smtp",
        )
    telegram = request.getfixturevalue("telegram_server")
    return Way(
        adapter=request.getfixturevalue("telegram"),
        served=telegram,
        account_at=telegram_account,
        person=lambda suffix: f"51234{suffix}",
        not_an_address="maria.b",
        token=TELEGRAM_TOKEN,
        too_long=Text("Evacuare. " * 500),
        gone_code=401,
        another=lambda **how: Telegram(Ids(), Posts(), **how),
        url=telegram.base_url,
    )


async def test_what_is_accepted_has_an_id_and_is_on_the_phone(way: Way, http: ClientSession) -> None:
    outcome = await way.send(way.person("111"))

    assert isinstance(outcome, Accepted)
    (arrived,) = await received(way.served, http)
    assert (arrived["id"], arrived["to"]) == (outcome.provider_id, way.shown_as(way.person("111")))
    assert "Fornacette" in arrived["text"] and way.token not in json.dumps(arrived)


async def test_four_hundred_at_once_get_one_each(way: Way, http: ClientSession) -> None:
    people = [way.person(f"{i:03}") for i in range(600, 999)]
    patient = way.another()  # as in service: four hundred take a while where another worker has the other core

    try:
        outcomes = await asyncio.gather(
            *(patient.send(way.account, person, EVACUATE, f"att_{n}") for n, person in enumerate(people))
        )
    finally:
        await patient.close()

    assert [outcome for outcome in outcomes if not isinstance(outcome, Accepted)] == []
    assert sorted(item["to"] for item in await received(way.served, http)) == sorted(map(way.shown_as, people))
    assert len({o.provider_id for o in outcomes if isinstance(o, Accepted)}) == len(people)


async def test_who_is_not_there_is_refused_at_once(way: Way, http: ClientSession) -> None:
    assert await way.send(way.person("404")) == Refused(Reason.NOT_REACHABLE_HERE)
    assert await received(way.served, http) == []


async def test_what_is_no_address_never_becomes_a_call(way: Way) -> None:
    nobody_listens = f"{way.scheme}://127.0.0.1:1"
    strange = ("", "+39 333 123", "5001\n", "+393331234567\n", "＋393331234567", "@", "+39333123456789012")
    for address in (way.not_an_address, *strange):
        outcome = await way.send(address, base_url=nobody_listens)
        assert outcome == Refused(Reason.NOT_REACHABLE_HERE), address


async def test_the_throttled_wait_and_are_not_refused(way: Way) -> None:
    outcome = await way.send(way.person("429"))

    assert isinstance(outcome, Deferred) and outcome.wait is not None and outcome.wait.total_seconds() >= 1
    assert outcome.reason in (Reason.THROTTLED, Reason.PAIR_THROTTLED)


async def test_above_the_providers_rate_the_whole_account_waits(provider_way: Way, http: ClientSession) -> None:
    await tell(provider_way.served, http, "config", {"per_second": 30, "burst": 0.1})

    outcomes = await asyncio.gather(*(provider_way.send(provider_way.person(str(i))) for i in range(600, 660)))

    deferred = [o for o in outcomes if isinstance(o, Deferred)]
    accepted = [o for o in outcomes if isinstance(o, Accepted)]
    assert len(deferred) + len(accepted) == 60
    assert 3 <= len(accepted) <= 20, "thirty a second with a tenth at once"
    assert all(o.reason is Reason.THROTTLED and o.whole_account and o.wait for o in deferred)


async def test_silence_after_we_spoke_is_uncertain(way: Way, http: ClientSession) -> None:
    assert await way.send(way.person("504")) == Uncertain(Reason.PROVIDER_SILENT)
    assert await received(way.served, http) == []


async def test_a_line_that_dies_after_the_text_arrived_is_uncertain(way: Way, http: ClientSession) -> None:
    assert await way.send(way.person("505")) == Uncertain(Reason.PROVIDER_SILENT)
    assert [item["to"] for item in await received(way.served, http)] == [way.shown_as(way.person("505"))]


async def test_where_nobody_listens_nothing_was_said(way: Way) -> None:
    outcome = await way.send(way.person("111"), base_url=f"{way.scheme}://127.0.0.1:1")
    assert outcome == Deferred(Reason.PROVIDER_UNAVAILABLE)

    outcome = await way.send(way.person("111"), base_url=f"{way.scheme}://fornacette.invalid:2775")
    assert outcome == Deferred(Reason.PROVIDER_UNAVAILABLE)


async def test_who_waits_for_a_free_line_in_vain_has_not_spoken(way: Way) -> None:
    adapter = way.another(limit_per_host=1, **IN_A_HURRY)
    try:
        silent = [adapter.send(way.account, way.person("504"), EVACUATE, f"att_{n}") for n in range(3)]
        outcomes = await asyncio.gather(*silent)
        assert Deferred(Reason.PROVIDER_UNAVAILABLE) in outcomes
        assert any(isinstance(outcome, Uncertain) for outcome in outcomes)
    finally:
        await adapter.close()


async def test_a_line_already_closed_when_we_begin_has_heard_nothing() -> None:
    class Closed(AbstractStreamWriter):
        """A line that the other side closed while it was idle: aiohttp refuses to write on it."""

        async def write(self, chunk: object) -> None:
            raise ClientConnectionResetError("Cannot write to closing transport")

        async def write_eof(self, chunk: bytes = b"") -> None: ...
        async def drain(self) -> None: ...
        def enable_compression(self, encoding: str = "deflate", strategy: int | None = None) -> None: ...
        def enable_chunking(self) -> None: ...
        async def write_headers(self, status_line: str, headers: object) -> None: ...

    words = Words(b"{}")
    with pytest.raises(ClientConnectionResetError):
        await words.write_with_length(Closed(), 2)
    assert not words.spoken


async def test_html_from_a_proxy_is_deferred(http_way: Way) -> None:
    assert await http_way.send(http_way.person("503")) == Deferred(Reason.PROVIDER_UNAVAILABLE)


async def test_a_page_that_never_ends_is_not_read_to_its_end(http_way: Way) -> None:
    sent = 0

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while sent < 200_000_000:
                writer.write(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
                await writer.drain()
                sent += 0x8000
        writer.close()

    async with a_server_that(converse) as base_url:
        outcome = await http_way.send(http_way.person("111"), base_url=base_url)
    assert outcome == Deferred(Reason.UNKNOWN_ANSWER)
    assert sent < 50_000_000


async def test_an_answer_that_drips_for_ever_is_uncertain_when_our_patience_ends(http_way: Way) -> None:
    """A byte every so often keeps any timeout between two bytes from ever running out."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"1\r\n \r\n")
                await writer.drain()
                await asyncio.sleep(0.05)

    async with a_server_that(converse) as base_url, asyncio.timeout(IN_A_HURRY["total"].total_seconds() + 2):
        assert await http_way.send(http_way.person("111"), base_url=base_url) == Uncertain(Reason.PROVIDER_SILENT)


async def test_headers_that_never_end_are_not_read_to_their_end(http_way: Way) -> None:
    sent = 0

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n")
        with contextlib.suppress(ConnectionError):
            while sent < 200_000_000:
                writer.write(b"X-Arno: " + b"x" * 4_000 + b"\r\n")
                await writer.drain()
                sent += 4_000
        writer.close()

    async with a_server_that(converse) as base_url:
        assert await http_way.send(http_way.person("111"), base_url=base_url) == Uncertain(Reason.PROVIDER_SILENT)
    assert sent < 50_000_000


async def test_a_packed_answer_that_unpacks_to_a_hundred_megabytes_is_not_unpacked(http_way: Way) -> None:
    packed = gzip.compress(b" " * 100_000_000)

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n")
        writer.write(f"Content-Length: {len(packed)}\r\n\r\n".encode() + packed)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    tracemalloc.start()
    try:
        async with a_server_that(converse) as base_url:
            outcome = await http_way.send(http_way.person("111"), base_url=base_url)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(outcome, Deferred | Uncertain)
    assert most < 20_000_000


async def test_a_provider_that_takes_the_call_and_says_nothing_is_uncertain(http_way: Way) -> None:
    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until we hang up
        writer.close()

    async with a_server_that(converse) as base_url:
        assert await http_way.send(http_way.person("111"), base_url=base_url) == Uncertain(Reason.PROVIDER_SILENT)


TWO_HUNDRED_AND_YET = (
    '{"error": {"message": "Unknown", "code": 131099}}',
    '{"ok": false, "error_code": 400, "description": "Bad Request: SOMETHING_NEW"}',
    '{"messages": []}',
    '{"ok": true, "result": {}}',
    "<html>Il servizio riposa</html>",
    "null",
    "",
)


@pytest.mark.parametrize("said", TWO_HUNDRED_AND_YET)
async def test_two_hundred_with_an_error_inside_is_neither_success_nor_the_end(http_way: Way, said: str) -> None:
    body = said.encode()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()

    async with a_server_that(converse) as base_url:
        outcome = await http_way.send(http_way.person("111"), base_url=base_url)
    assert outcome in (Deferred(Reason.UNKNOWN_ANSWER), Uncertain(Reason.UNKNOWN_ANSWER))


@pytest.mark.parametrize("half_an_answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"\x16\x03\x01\x02 nonsense\r\n"])
async def test_half_an_answer_is_uncertain(http_way: Way, half_an_answer: bytes) -> None:
    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(half_an_answer)
        await writer.drain()
        writer.close()

    async with a_server_that(converse) as base_url:
        assert isinstance(await http_way.send(http_way.person("111"), base_url=base_url), Uncertain)


async def test_a_redirect_is_not_followed_with_our_credentials(http_way: Way) -> None:
    asked: list[bytes] = []

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.write(b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /elsewhere\r\n")
        writer.write(b"Content-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async with a_server_that(converse) as base_url:
        outcome = await http_way.send(http_way.person("111"), base_url=base_url)
    assert outcome == Deferred(Reason.UNKNOWN_ANSWER)
    assert len(asked) == 1 and b"elsewhere" not in asked[0]


@pytest.mark.parametrize("token", ["EAAGrevokedButStillSecret", "7000000009:AArevokedButStillSecret"])
async def test_a_dead_credential_halts_the_account_and_never_prints(way: Way, token: str) -> None:
    with pytest.raises(ChannelHalted) as halted:
        await way.send(way.person("111"), token=Secret(token))

    assert way.account.name in str(halted.value)
    assert token not in _everything_it_says(halted.value)


async def test_a_token_no_provider_ever_gave_halts_before_the_call(http_way: Way) -> None:
    for token in ("", "EAAG with blanks", "EAAG\r\nX-Evil: 1", "7000000001:AA/../é"):
        with pytest.raises(ChannelHalted) as halted:
            await http_way.send(
                http_way.person("111"), token=Secret(token), base_url=f"{http_way.scheme}://127.0.0.1:1"
            )
        assert token == "" or token not in _everything_it_says(halted.value)


@pytest.mark.parametrize("base_url", ["", "graph.facebook.com", "ftp://127.0.0.1", "http://", "http://[::1"])
async def test_an_address_that_is_none_halts_and_never_prints_the_token(provider_way: Way, base_url: str) -> None:
    with pytest.raises(ChannelHalted, match="base_url") as halted:
        await provider_way.send(provider_way.person("111"), base_url=base_url)
    assert provider_way.token not in _everything_it_says(halted.value)


def _everything_it_says(error: BaseException) -> str:
    chain = "".join(traceback.format_exception(error))
    return " ".join([str(error), repr(error), repr(error.args), repr(vars(error)), chain, repr(error.__context__)])


def test_no_way_to_print_an_account_shows_its_token(way: Way) -> None:
    shown = f"{way.account} {way.account!r} {vars(way.adapter)}"
    assert way.token not in shown


async def test_a_text_too_long_for_everybody_is_rejected(provider_way: Way, http: ClientSession) -> None:
    with pytest.raises(TextRejected, match=provider_way.account.name):
        await provider_way.send(provider_way.person("111"), provider_way.too_long)
    assert await received(provider_way.served, http) == []


async def test_an_outage_passes_and_the_next_one_arrives(way: Way, http: ClientSession) -> None:
    await tell(way.served, http, "config", {"faults": {503: 1.0}})
    assert await way.send(way.person("111")) == Deferred(Reason.PROVIDER_UNAVAILABLE)
    await tell(way.served, http, "config", {"faults": {}})
    assert isinstance(await way.send(way.person("111")), Accepted)


async def test_a_revoked_token_halts_in_the_middle_of_an_alert(provider_way: Way, http: ClientSession) -> None:
    assert isinstance(await provider_way.send(provider_way.person("111")), Accepted)
    await tell(provider_way.served, http, "config", {"faults": {provider_way.gone_code: 1.0}})
    with pytest.raises(ChannelHalted):
        await provider_way.send(provider_way.person("112"))


# ── the pure half, hammered ─────────────────────────────────────────────────────────────────────────


Classify = Callable[[int, bytes], Outcome]


def whatsapp_verdict(status: int, body: bytes) -> Outcome:
    return whatsapp_channel.classify(status, body, "whatsapp-fornacette")


def email_verdict(status: int, body: bytes) -> Outcome:
    return email_channel.classify(Said.PERSON, status, body.decode("utf-8", "replace"), "email-fornacette")


def telegram_verdict(status: int, body: bytes) -> Outcome:
    return telegram_channel.classify(status, body, "telegram-fornacette", "5001")


WHATSAPP_BODIES = {
    "error": b'{"error":{"message":"(#131099) New","type":"OAuthException","code":131099}}',
    "success": b'{"messaging_product":"whatsapp","messages":[{"id":"wamid.X","message_status":"accepted"}]}',
    "html": b"<html><body><h1>502 Bad Gateway</h1></body></html>",
    "empty": b"",
    "known error": b'{"error":{"message":"(#131026) Message undeliverable","code":131026}}',
}
TELEGRAM_BODIES = {
    "error": b'{"ok":false,"error_code":400,"description":"Bad Request: SOMETHING_NEW"}',
    "success": b'{"ok":true,"result":{"message_id":1234,"date":1795000000}}',
    "html": WHATSAPP_BODIES["html"],
    "empty": b"",
    "known error": b'{"ok":false,"error_code":403,"description":"Forbidden: bot was blocked by the user"}',
}


@pytest.mark.parametrize(
    ("classify", "bodies"),
    [(whatsapp_verdict, WHATSAPP_BODIES), (telegram_verdict, TELEGRAM_BODIES)],
    ids=["whatsapp", "telegram"],
)
def test_the_providers_words_decide_whatever_the_http_status(classify: Classify, bodies: dict[str, bytes]) -> None:
    for status in range(100, 600):
        assert isinstance(classify(status, bodies["success"]), Accepted), status
        assert isinstance(classify(status, bodies["known error"]), Refused), status
        for unknown in ("error", "html", "empty"):
            assert isinstance(classify(status, bodies[unknown]), Deferred), (status, unknown)


WORDS_OF_PROVIDERS = (
    *("error", "code", "error_subcode", "messages", "id", "message_status"),
    *("ok", "result", "message_id", "error_code", "description", "parameters", "retry_after"),
)

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS_OF_PROVIDERS), inner, max_size=5),
    max_leaves=12,
)


@pytest.mark.parametrize(
    "classify", [whatsapp_verdict, telegram_verdict, email_verdict], ids=["whatsapp", "telegram", "email"]
)
@given(status=st.integers(100, 599), answer=ANYTHING.map(lambda a: json.dumps(a).encode()) | st.binary())
@settings(max_examples=300, deadline=None)
def test_an_unknown_answer_never_costs_a_person_the_alert(classify: Classify, status: int, answer: bytes) -> None:
    with contextlib.suppress(ChannelHalted, TextRejected):  # small numbers are codes of theirs; nobody is lost
        # RFC 5321 gives 551 one meaning: who lived there has moved.
        assert not isinstance(classify(status, answer), Refused) or (classify, status) == (email_verdict, 551)


@pytest.mark.parametrize("provider", ["whatsapp", "telegram", "email", "sms", "sms-rest", "web-push", "mqtt"])
def test_a_simulator_is_a_process_of_its_own_and_leaves_when_asked(provider: str, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text('{"latency": 0.01}')
    command = [sys.executable, "-m", "consumers.simulators", provider, "--port", "0", "--config", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        base_url = process.stdout.readline().removeprefix("listening on ").strip()
        with urllib.request.urlopen(f"{base_url}/__sim/received?after=0", timeout=5) as response:
            assert json.load(response) == {"items": [], "next": 0}
        process.terminate()
        assert process.wait(timeout=10) == 0


def test_the_send_path_does_not_know_that_simulators_exist() -> None:
    program = (
        "import sys; import consumers.channels.whatsapp, consumers.channels.telegram, consumers.channels.email,"
        " consumers.channels.sms_smpp, consumers.channels.sms_http, consumers.channels.web_push,"
        " consumers.channels.mqtt;"
        "print([m for m in sys.modules if 'simulators' in m])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
