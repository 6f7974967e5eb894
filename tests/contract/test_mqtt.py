"""MQTT as it is spoken: what lies at a real broker, what panels make of it, and brokers that die."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
import structlog
import uvloop
from aiohttp import ClientSession
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from alerting.domain.delivery import Accepted, ChannelHalted, Deferred, Outcome, Reason, Refused, TextRejected
from alerting.domain.panels import Shows
from consumers.channel import Account, Secret, Sign, Text
from consumers.channels.mqtt import HALTS, OUTCOMES, REJECTIONS, Mqtt, acknowledgement_in, classify, is_online
from consumers.local.private_mosquitto import PrivateMosquitto
from consumers.simulators import mqtt as simulator
from consumers.simulators.mqtt import SimulatedPanel
from consumers.simulators.serving import Served
from tests.contract.fornacette import (
    IN_A_HURRY,
    MQTT_PASSWORD,
    PANEL_PASSWORD,
    Board,
    mqtt_account,
    received,
    tell,
    until,
)

PANEL = "pc/050004/vms/ponte-fornacette"
SIREN = "pc/050004/siren/scuola-morandi"


def evacuate(words: str = "EVACUARE", seconds: float = 3600) -> Text:
    return Text(words, expires=datetime.now(UTC) + timedelta(seconds=seconds))


@asynccontextmanager
async def listening(broker: PrivateMosquitto, topic: str = f"{PANEL}/set") -> AsyncIterator[list[aiomqtt.Message]]:
    """What a client of its own hears of a topic, as it comes."""
    heard: list[aiomqtt.Message] = []
    client = aiomqtt.Client(
        "127.0.0.1",
        broker.port,
        username="pannelli" if topic.endswith("/set") else "allerta",
        password=PANEL_PASSWORD if topic.endswith("/set") else MQTT_PASSWORD,
        protocol=aiomqtt.ProtocolVersion.V5,
    )

    async def listen() -> None:
        async for message in client.messages:
            heard.append(message)  # noqa: PERF401 - each as it comes

    async with client:
        await client.subscribe(topic, qos=1)
        task = asyncio.create_task(listen())
        yield heard
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def said(message: aiomqtt.Message) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(bytes(message.payload))
    return found


@pytest.fixture
async def panels(mosquitto: PrivateMosquitto) -> AsyncIterator[Served]:
    """A panel and a siren, each on a line of its own."""
    broker = mosquitto.url.replace("//", f"//pannelli:{PANEL_PASSWORD}@")
    served = await simulator.start({"broker": broker, "panels": [{"topic": PANEL}, {"topic": SIREN}]})
    yield served
    await served.close()


@pytest.fixture
def account(mosquitto: PrivateMosquitto) -> Account:
    return mqtt_account(mosquitto.url)


@pytest.fixture
async def watched(mqtt: Mqtt, account: Account) -> AsyncIterator[Mqtt]:
    """An adapter that looks after what its broker holds, as in service."""
    task = asyncio.create_task(mqtt.stay_connected(lambda: [account]))
    yield mqtt
    task.cancel()


def simulated(served: Served, topic: str = PANEL) -> SimulatedPanel:
    panel: SimulatedPanel = served.simulator.panels[topic]  # type: ignore[attr-defined]
    return panel


def shows(served: Served, topic: str = PANEL) -> list[str]:
    return simulated(served, topic).shown(datetime.now(UTC))


# ── what is said ────────────────────────────────────────────────────────────────────────────────────


async def test_whoever_comes_later_finds_it_and_until_when(
    mqtt: Mqtt, account: Account, mosquitto: PrivateMosquitto
) -> None:
    outcome = await mqtt.send(account, PANEL, evacuate("PIENA DELL'ARNO\nEVACUARE", 1800), "7.1.1")

    assert outcome == Accepted(f"{PANEL}.1")
    async with listening(mosquitto) as heard:
        await until(lambda: bool(heard))
    (message,) = heard
    assert message.retain and message.qos == 1
    properties: Any = message.properties
    assert properties.ContentType == "application/json" and properties.PayloadFormatIndicator == 1
    assert ("version", "1") in properties.UserProperty
    assert 1780 <= properties.MessageExpiryInterval <= 1800, "the broker forgets it when the alert expires"
    found = said(message)
    assert (found["version"], found["state"], found["colour"], found["alert_id"]) == (1, "SHOW", "red", "fornacette-1")
    assert found["lines"] == ["PIENA DELL'ARNO", "EVACUARE"]
    assert found["sent"] < found["expires"] and found["sent"].endswith("Z")


async def test_a_panel_that_comes_after_the_end_finds_nothing(
    mqtt: Mqtt, account: Account, mosquitto: PrivateMosquitto, panels: Served, http: ClientSession
) -> None:
    await until(lambda: PANEL in panels.simulator._clients)  # type: ignore[attr-defined]
    await tell(panels, http, "power", {"topic": PANEL, "on": False})
    assert isinstance(await mqtt.send(account, PANEL, evacuate(seconds=3), "7.1.1"), Accepted)
    await asyncio.sleep(4)  # the broker looks once a second
    await tell(panels, http, "power", {"topic": PANEL, "on": True})
    await until(lambda: PANEL in panels.simulator._clients)  # type: ignore[attr-defined]
    await asyncio.sleep(0.5)
    assert simulated(panels).version == 0 and shows(panels) == []


async def test_what_expired_on_its_way_is_not_said(mqtt: Mqtt, account: Account, mosquitto: PrivateMosquitto) -> None:
    assert await mqtt.send(account, PANEL, evacuate(seconds=0.5), "7.1.1") == Deferred(Reason.EXPIRED)
    async with listening(mosquitto) as heard:
        await asyncio.sleep(0.3)
        assert heard == []


async def test_a_topic_the_broker_keeps_from_us_is_refused_and_no_other(mqtt: Mqtt, account: Account) -> None:
    """mosquitto takes the packet and says in the PUBACK that it did not take what was in it."""
    assert await mqtt.send(account, "pc/050004/vms/proibito", evacuate(), "7.1.1") == Refused(Reason.NOT_REACHABLE_HERE)
    assert isinstance(await mqtt.send(account, PANEL, evacuate(), "7.1.1"), Accepted)


@pytest.mark.parametrize(
    "topic",
    ["", "pc/050004/vms/", "pc/050004/vms/#", "pc/+/vms/ponte", "pc/050004/vms/Ponte", "pc/050004/vms/a/set", "x" * 70],
)
async def test_no_wildcard_and_no_other_tree_is_ever_said_anything(mqtt: Mqtt, account: Account, topic: str) -> None:
    nobody_listens = replace(account, base_url="mqtt://127.0.0.1:1")
    assert await mqtt.send(nobody_listens, topic, evacuate(), "7.1.1") == Refused(Reason.NOT_REACHABLE_HERE)


async def test_a_wrong_password_halts_and_the_right_one_works_at_once(mqtt: Mqtt, account: Account) -> None:
    with pytest.raises(ChannelHalted, match="not authorised"):
        await mqtt.send(replace(account, token=Secret("sbagliata")), PANEL, evacuate(), "7.1.1")
    assert isinstance(await mqtt.send(account, PANEL, evacuate(), "7.1.1"), Accepted)


async def test_many_texts_to_one_panel_at_once_leave_the_newest(
    mqtt: Mqtt, account: Account, board: Board, mosquitto: PrivateMosquitto
) -> None:
    class Hesitant(Board):
        """A database that answers who asked first last."""

        async def revise(self, account: Account, topic: str, text: Text, reference: str) -> Sign | None:
            sign = await super().revise(account, topic, text, reference)
            await asyncio.sleep(0.05 / (sign.version if sign else 1))
            return sign

    mqtt.panels = board = Hesitant()
    async with listening(mosquitto) as heard:
        outcomes = await asyncio.gather(
            *(mqtt.send(account, PANEL, evacuate(f"TESTO {n}"), f"{n}.1.1") for n in range(50))
        )
        assert all(isinstance(outcome, Accepted) for outcome in outcomes)
        await until(lambda: len(heard) == 50)
        versions = [said(message)["version"] for message in heard]
    assert versions == sorted(versions) and versions[-1] == board.signs[PANEL].version == 50


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate and its key, for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "broker.example")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "broker.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(signed.public_bytes(Encoding.PEM) + private)
    return file


@asynccontextmanager
async def behind_tls(mosquitto: PrivateMosquitto, certificate: Path) -> AsyncIterator[str]:
    """The broker's address by TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while some := await reader.read(4096):
                writer.write(some)
                await writer.drain()
        writer.close()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inward, outward = await asyncio.open_connection("127.0.0.1", mosquitto.port)
        await asyncio.gather(copy(reader, outward), copy(inward, writer))

    server = await asyncio.start_server(converse, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"mqtts://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_by_tls_a_broker_is_trusted_by_its_certificate_and_else_hears_no_password(
    board: Board, mosquitto: PrivateMosquitto, certificate: Path
) -> None:
    trusting = Mqtt(board, **IN_A_HURRY, tls=ssl.create_default_context(cafile=str(certificate)))
    doubting = Mqtt(board, **IN_A_HURRY)
    async with behind_tls(mosquitto, certificate) as url:
        try:
            assert isinstance(await trusting.send(mqtt_account(url), PANEL, evacuate(), "7.1.1"), Accepted)
            with pytest.raises(ChannelHalted, match="certificate is not trusted"):
                await doubting.send(mqtt_account(url), PANEL, evacuate(), "7.1.1")
        finally:
            await asyncio.gather(trusting.close(), doubting.close())


# ── what panels say ─────────────────────────────────────────────────────────────────────────────────


async def test_a_panel_shows_it_and_says_so(watched: Mqtt, account: Account, board: Board, panels: Served) -> None:
    await watched.send(account, PANEL, evacuate("EVACUARE"), "7.1.1")
    await until(lambda: (PANEL, 1, Shows.SHOW) in board.acknowledgements)
    assert shows(panels) == ["EVACUARE"] and shows(panels, SIREN) == []


async def test_a_panel_without_power_is_missed_and_is_right_again_when_it_comes_back(
    watched: Mqtt, account: Account, board: Board, panels: Served, http: ClientSession
) -> None:
    await until(lambda: (PANEL, True) in board.statuses and (SIREN, True) in board.statuses)
    await tell(panels, http, "power", {"topic": PANEL, "on": False, "forgets": True})
    await until(lambda: (PANEL, False) in board.statuses)
    assert (SIREN, False) not in board.statuses

    await watched.send(account, PANEL, evacuate("EVACUARE"), "7.1.1")
    assert shows(panels) == []
    await tell(panels, http, "power", {"topic": PANEL, "on": True})
    await until(lambda: shows(panels) == ["EVACUARE"])
    await until(lambda: board.statuses[-1] == (PANEL, True))


@pytest.mark.parametrize(
    "nonsense",
    [
        *("", "null", "[]", "{}", "7", '"SHOW"', "{", "\x00\xff", '{"version": 1}', '{"state": "SHOW"}'),
        *(
            '{"version": "1", "state": "SHOW"}',
            '{"version": true, "state": "SHOW"}',
            '{"version": 1.0, "state": "SHOW"}',
        ),
        *(
            '{"version": -1, "state": "SHOW"}',
            '{"version": 1e99, "state": "SHOW"}',
            '{"version": 1, "state": "ACCESO"}',
        ),
        *(f'{{"version": {2**60}, "state": "SHOW"}}', "[" * 900, '{"version": 1, "state": {}}', "x" * 100_000),
    ],
)
def test_an_acknowledgement_nobody_understands_is_none(nonsense: str) -> None:
    assert acknowledgement_in(nonsense.encode()) is None


@given(st.binary(max_size=200) | st.text(max_size=50).map(str.encode))
def test_whatever_a_panel_says_nothing_breaks(payload: bytes) -> None:
    found = acknowledgement_in(payload)
    assert found is None or (found[0] > 0 and isinstance(found[1], Shows))
    assert is_online(payload) in (True, False, None)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [("online", True), ("offline", False), ('"offline"', False), ('{"status": "ONLINE"}', True), ("forse", None)],
)
def test_a_status_is_a_word(payload: str, expected: bool | None) -> None:
    assert is_online(payload.encode()) is expected


async def test_after_nonsense_the_line_still_hears(
    watched: Mqtt, account: Account, board: Board, panels: Served, http: ClientSession
) -> None:
    await until(lambda: (PANEL, True) in board.statuses)
    for what, payload in (("ack", "{"), ("ack", '{"version": null}'), ("status", "boh"), ("ack", "x" * 5000)):
        await tell(panels, http, "say", {"topic": PANEL, "what": what, "payload": payload})
    await watched.send(account, PANEL, evacuate(), "7.1.1")
    await until(lambda: (PANEL, 1, Shows.SHOW) in board.acknowledgements)


async def test_a_panel_that_says_the_same_a_hundred_times_is_written_down_once(
    watched: Mqtt, account: Account, board: Board, panels: Served, http: ClientSession
) -> None:
    await until(lambda: (PANEL, True) in board.statuses)
    for said in ['{"version": 7, "state": "CLEAR"}'] * 100 + ['{"version": 8, "state": "SHOW"}']:
        await tell(panels, http, "say", {"topic": PANEL, "what": "ack", "payload": said})
    await until(lambda: (PANEL, 8, Shows.SHOW) in board.acknowledgements)
    assert board.acknowledgements == [(PANEL, 7, Shows.CLEAR), (PANEL, 8, Shows.SHOW)]


async def test_what_the_broker_will_not_take_is_not_offered_to_it_every_second(
    watched: Mqtt, account: Account, board: Board, mosquitto: PrivateMosquitto
) -> None:
    forbidden = "pc/050004/vms/proibito"
    await watched.send(account, forbidden, evacuate(), "7.1.1")
    with structlog.testing.capture_logs() as logs:
        await asyncio.sleep(3.5)
    assert len([entry for entry in logs if entry["event"] == "said to a panel again"]) == 1


# ── brokers that die ────────────────────────────────────────────────────────────────────────────────


async def test_a_broker_that_dies_and_comes_back_holds_what_it_should(
    watched: Mqtt, account: Account, board: Board, mosquitto: PrivateMosquitto, panels: Served
) -> None:
    """Killed without a moment to write, and what it had written is lost with the disk."""
    await watched.send(account, PANEL, evacuate("PIENA"), "7.1.1")
    await watched.send(account, SIREN, evacuate("SIRENA"), "7.2.1")
    await until(lambda: shows(panels, SIREN) == ["SIRENA"] and board.away is None)
    mosquitto.kill()
    mosquitto.forget()
    await until(lambda: board.away is not None)
    assert await watched.send(account, PANEL, evacuate("EVACUARE"), "8.1.1") == Deferred(Reason.PROVIDER_UNAVAILABLE)

    await board.revise(account, PANEL, evacuate("EVACUARE"), "8.1.1")  # as the next attempt will
    mosquitto.start()
    await until(lambda: shows(panels) == ["EVACUARE"], within=15)
    async with listening(mosquitto, f"{SIREN}/set") as heard:
        await until(lambda: bool(heard), within=10)
        assert said(heard[0])["lines"] == ["SIRENA"]
    await until(lambda: board.away is None)


async def test_a_broadcast_over_a_broker_that_dies_in_the_middle_is_whole_in_the_end(
    watched: Mqtt, account: Account, board: Board, mosquitto: PrivateMosquitto
) -> None:
    topics = [f"pc/050004/vms/ponte-{n}" for n in range(200)]

    async def say(topic: str) -> Outcome:
        while not isinstance(outcome := await watched.send(account, topic, evacuate(), "7.1.1"), Accepted):
            assert not isinstance(outcome, Refused)
            await asyncio.sleep(0.2)
        return outcome

    saying = asyncio.ensure_future(asyncio.gather(*map(say, topics)))
    await until(lambda: len(board.signs) > 40)
    mosquitto.kill()
    mosquitto.forget()
    await asyncio.sleep(0.3)
    mosquitto.start()
    async with asyncio.timeout(30):
        await saying
    async with listening(mosquitto, "pc/050004/vms/+/set") as heard:

        def all_there() -> bool:
            held = {str(message.topic): said(message)["version"] for message in heard}
            return held == {f"{topic}/set": board.signs[topic].version for topic in topics}

        await until(all_there, within=15)


async def test_an_older_version_that_comes_last_is_put_right(
    watched: Mqtt, account: Account, board: Board, mosquitto: PrivateMosquitto
) -> None:
    """As from another process whose line was slow: what lies retained is what the next panel would show."""
    for words in ("PIENA", "EVACUARE"):
        await watched.send(account, PANEL, evacuate(words), "7.1.1")
    late = aiomqtt.Client(
        "127.0.0.1",
        mosquitto.port,
        username="allerta",
        password=MQTT_PASSWORD,
        protocol=aiomqtt.ProtocolVersion.V5,
    )
    async with late:
        await late.publish(f"{PANEL}/set", json.dumps({"version": 1, "state": "SHOW", "lines": ["PIENA"]}), 1, True)
    async with listening(mosquitto) as heard:
        await until(lambda: bool(heard) and said(heard[-1])["version"] == board.signs[PANEL].version == 2)


async def test_somebody_who_empties_a_topic_does_not_silence_it(
    watched: Mqtt, account: Account, mosquitto: PrivateMosquitto, panels: Served
) -> None:
    await watched.send(account, PANEL, evacuate("EVACUARE"), "7.1.1")
    await until(lambda: shows(panels) == ["EVACUARE"])
    stranger = aiomqtt.Client("127.0.0.1", mosquitto.port, username="allerta", password=MQTT_PASSWORD)
    async with stranger:
        await stranger.publish(f"{PANEL}/set", None, 1, True)
    async with listening(mosquitto) as heard:
        await until(lambda: bool(heard) and said(heard[-1])["lines"] == ["EVACUARE"])
    assert shows(panels) == ["EVACUARE"]


def test_it_works_on_the_loop_that_is_used_in_service(mosquitto: PrivateMosquitto) -> None:
    async def speak() -> Outcome:
        adapter = Mqtt(Board(), **IN_A_HURRY)
        try:
            return await adapter.send(mqtt_account(mosquitto.url), PANEL, evacuate(), "7.1.1")
        finally:
            await adapter.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert isinstance(runner.run(speak()), Accepted)


# ── codes ───────────────────────────────────────────────────────────────────────────────────────────


@given(st.integers(0, 255))
def test_no_code_but_those_that_say_so_costs_a_panel_the_alert(code: int) -> None:
    if code in REJECTIONS:
        with pytest.raises(TextRejected, match="mqtt-fornacette"):
            classify(code, "mqtt-fornacette")
    elif code in (0x00, 0x10):
        assert classify(code, "mqtt-fornacette") is None
    else:
        outcome = classify(code, "mqtt-fornacette")
        assert outcome == OUTCOMES.get(code, Deferred(Reason.UNKNOWN_ANSWER))
        assert isinstance(outcome, Refused) == (code in (0x87, 0x90))
    assert code not in (0x88, 0x89, 0x8B) or code not in HALTS, "a broker that is busy or going down is no halt"


# ── the simulated panel ─────────────────────────────────────────────────────────────────────────────


async def test_a_panel_can_be_looked_at(mqtt: Mqtt, account: Account, panels: Served, http: ClientSession) -> None:
    await mqtt.send(account, PANEL, evacuate("<b>PIENA</b>"), "7.1.1")
    await until(lambda: bool(shows(panels)))
    async with http.get(f"{panels.base_url}/__sim/panels", headers={"Accept": "text/html"}) as answer:
        page = await answer.text()
    assert "&lt;b&gt;PIENA" in page and "class=red" in page and "<b>" not in page
    async with http.get(f"{panels.base_url}/__sim/panels") as answer:
        known = {one["topic"]: one for one in (await answer.json())["panels"]}
    assert known[PANEL]["state"] == "SHOW" and known[SIREN]["state"] == "CLEAR"
    assert [item["to"] for item in await received(panels, http)] == [PANEL]


def test_a_simulated_panel_never_goes_back_and_never_shows_what_is_over() -> None:
    panel, now = SimulatedPanel(PANEL, lines=1, columns=5), datetime(2026, 11, 26, 12, tzinfo=UTC)
    news = {"version": 2, "state": "SHOW", "lines": ["EVACUARE", "SUBITO"], "expires": "2026-11-26T12:00:01Z"}
    assert panel.take(news) and not panel.take(news) and not panel.take(news | {"version": 1})
    assert panel.shown(now) == ["EVACU"] and panel.shown(now + timedelta(seconds=1)) == []
    assert panel.take({"version": 3, "state": "CLEAR", "lines": []}) and panel.state(now) == "CLEAR"
