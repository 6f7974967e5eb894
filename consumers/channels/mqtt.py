"""Message panels and sirens over MQTT 5: what each is to show lies retained at the broker, until it expires.

A topic holds a state and no message, numbered by versions of which a panel ignores the older: so here, and nowhere
else, saying the same thing again is harmless. What an uncertain publication came to need not be known: once a second
what the broker holds is compared with what it should hold, and what it lacks is said to it.
"""

import asyncio
import contextlib
import json
import random
import re
import ssl
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Any
from urllib.parse import urlsplit

import aiomqtt
import structlog
from paho.mqtt.client import MQTT_ERR_SUCCESS
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

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
from alerting.domain.delivery import Channel as ChannelName
from alerting.domain.panels import Shows
from consumers.channel import Account, NoAnswer, Panels, Secret, Sign, Text

log = structlog.get_logger()

TOPIC = re.compile(r"pc/[0-9]{6}/(vms|siren)/[a-z0-9-]{1,40}")
REPORT = re.compile(r"(?P<topic>pc/[0-9]{6}/(?:vms|siren)/[a-z0-9-]{1,40})/(?P<what>set|ack|status)")
MOST_BYTES = 4096
"""Of one payload. A panel's controller has a buffer of some kilobytes, and no panel shows more."""
BIGGEST_VERSION = 2**53 - 1
"""What any reader of JSON still counts exactly."""
LONGEST_REPORT = 1024
QUEUED_REPORTS = 1000
PORTS = {"mqtt": 1883, "mqtts": 8883}

# What a reason code says of a publication; the rest is nobody's fault and tried again. MQTT 5.0, 3.4.2.1.
OUTCOMES: dict[int, Outcome] = {
    0x87: Refused(Reason.NOT_REACHABLE_HERE),  # not authorised: the broker keeps this topic from us
    0x90: Refused(Reason.NOT_REACHABLE_HERE),  # topic name invalid
    0x97: Deferred(Reason.THROTTLED, timedelta(seconds=1), whole_account=True),  # quota exceeded
    0x80: Deferred(Reason.PROVIDER_UNAVAILABLE),  # unspecified error
    0x83: Deferred(Reason.PROVIDER_UNAVAILABLE),  # implementation specific error
    0x91: Deferred(Reason.PROVIDER_UNAVAILABLE),  # packet identifier in use
}
TAKEN = frozenset({0x00, 0x10})
"""0x10: it is kept, and no panel listens just now; whoever comes finds it retained."""
REJECTIONS = {
    0x95: "0x95, the packet is too large for the broker; raise its limit to 8 kB",
    0x99: "0x99, the payload is not in the format it says",
    0x9A: "0x9A, the broker keeps no retained messages; allow them, or no panel that was away learns anything",
    0x9B: "0x9B, the broker does not know QoS 1; allow it",
}
HALTS = {
    # Of a connection, at its beginning or its end: 3.2.2.2 and 3.14.2.1.
    0x84: "0x84, the broker does not speak MQTT 5; it needs mosquitto 1.6 or the like",
    0x85: "0x85, it does not like our client identifier",
    0x86: "0x86, the user name or the password is wrong; enter them again",
    0x87: "0x87, we are not authorised; check the user and its password",
    0x8A: "0x8A, the account is banned",
    0x8C: "0x8C, it wants another way to authenticate",
    0x9A: REJECTIONS[0x9A],
    0x9B: REJECTIONS[0x9B],
}

KEEPALIVE = 20  # seconds
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds between two attempts to connect
LOOK_EVERY = 1.0
RESTS_FOR = 60.0
"""Until what the broker would not take for a panel is offered to it again by the watch; who sends does not wait."""
CLOSES_WITHIN = 0.5
HEARS_ALL_WITHIN = 1.0
"""Seconds after subscribing in which a broker has told all it holds retained."""


class NotSpoken(Exception):
    """There is no line to the broker, so that nothing was said on it."""


class Broken(Exception):
    """The line died, or nothing was heard, after we had spoken."""


def classify(code: int, account: str) -> Outcome | None:
    """What the reason code of a PUBACK means; None where it was taken. Raises TextRejected.

    What nobody has documented is never a refusal.
    """
    if code in TAKEN:
        return None
    if code in REJECTIONS:
        raise TextRejected(account, REJECTIONS[code])
    return OUTCOMES.get(code, Deferred(Reason.UNKNOWN_ANSWER))


def payload_of(sign: Sign) -> bytes:
    """What a panel reads; its fields are described in the README."""
    said = {
        "alert_id": sign.alert_id,
        "version": sign.version,
        "state": sign.state.value,
        "lines": list(sign.lines),
        "colour": sign.colour.value,
        "sent": _seconds(sign.sent),
        "expires": _seconds(sign.expires) if sign.expires else None,
    }
    return json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode()


def acknowledgement_in(payload: bytes) -> tuple[int, Shows] | None:
    """What a panel says it shows; None where that is no acknowledgement."""
    said = _object(payload)
    version, state = said.get("version"), said.get("state")
    if type(version) is not int or not 0 < version <= BIGGEST_VERSION:
        return None
    known = next((one for one in Shows if one.value == state), None)
    return (version, known) if known else None


def is_online(payload: bytes) -> bool | None:
    """What a status says, in a word or in `{"status": …}`; None where it is neither."""
    word = str(_object(payload).get("status", "")) or payload[:LONGEST_REPORT].decode("utf-8", "replace")
    return {"online": True, "offline": False}.get(word.strip().strip('"').lower())


def _object(payload: bytes) -> dict[str, Any]:
    if len(payload) > LONGEST_REPORT:
        return {}
    try:
        said = json.loads(payload)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _seconds(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


class Mqtt:
    """Every account has a line of its own in this process, connected as long as it works.

    The account's token is the password at the broker. Make it inside a running event loop.
    """

    name = ChannelName.MQTT

    def __init__(
        self,
        panels: Panels,
        *,
        limit_per_host: int = 16,
        connect: timedelta = timedelta(seconds=3),
        total: timedelta = timedelta(seconds=10),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.panels = panels
        self._tls = tls
        self._at_once = limit_per_host
        self._connect = connect
        self._patience = total
        self._lines: dict[tuple[str, str, str, Secret], _Line] = {}

    async def send(self, account: Account, address: str, text: Text, reference: str) -> Outcome:
        """Bring one panel to what it is to show by now. Raises ChannelHalted and TextRejected."""
        if TOPIC.fullmatch(address) is None:
            return Refused(Reason.NOT_REACHABLE_HERE)
        line = self._line(account)
        try:
            client = await line.client()
            async with line.turn(address):
                sign = await self.panels.revise(account, address, text, reference)
                if sign is None:
                    return Refused(Reason.NOT_REACHABLE_HERE)
                outcome = await line.publish(client, sign)
        except (NotSpoken, NoAnswer):
            return Deferred(Reason.PROVIDER_UNAVAILABLE)
        except Broken:
            line.raise_if_refused()
            return Uncertain()  # the line's watch says it again as soon as there is another
        return outcome or Accepted(f"{sign.topic}.{sign.version}")

    async def stay_connected(self, accounts: Callable[[], list[Account]]) -> None:
        """Keep every account's line, and what its broker holds as it should be, until cancelled."""
        while True:
            for account in accounts():
                with contextlib.suppress(ChannelHalted):  # who sends is told; nobody sends for an address that is none
                    self._line(account).watch()
            await asyncio.sleep(LOOK_EVERY)

    async def close(self) -> None:
        """Say goodbye to every broker. No send is under way."""
        await asyncio.gather(*(line.close() for line in self._lines.values()))

    def _line(self, account: Account) -> "_Line":
        key = (account.name, account.base_url, account.settings.get("user", ""), account.token)
        if key not in self._lines:
            self._lines[key] = _Line(account, self.panels, self._at_once, self._connect, self._patience, self._tls)
        return self._lines[key]


class _Client(aiomqtt.Client):
    """aiomqtt forgets what a PUBACK says: what was not authorised would pass for accepted."""

    def __init__(self, *args: Any, **how: Any) -> None:
        super().__init__(*args, **how)
        self._answers: dict[int, asyncio.Future[int]] = {}
        self._client.connect_timeout = self.timeout

    async def hand_in(self, topic: str, payload: bytes, properties: Properties) -> int:
        """The reason code the broker answers. Raises NotSpoken, Broken, TimeoutError."""
        info = self._client.publish(topic, payload, qos=1, retain=True, properties=properties)
        if info.rc != MQTT_ERR_SUCCESS:
            raise NotSpoken
        answer = self._answers[info.mid] = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait({answer, self._disconnected}, timeout=self.timeout, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return int(answer.result())
            if self._disconnected.done():
                raise Broken
            raise TimeoutError
        finally:
            del self._answers[info.mid]

    def _on_publish(self, client: Any, userdata: Any, mid: int, reason_code: ReasonCode, properties: Any) -> None:
        if (answer := self._answers.get(mid)) is not None and not answer.done():
            answer.set_result(reason_code.value)

    def _on_socket_register_write(self, client: Any, userdata: Any, sock: Any) -> None:
        """As aiomqtt, but for a socket that is closed by the time its turn comes: its number may be another's then."""

        def register() -> None:
            if sock.fileno() >= 0:
                self._loop.add_writer(sock.fileno(), self._write)

        self._loop.call_soon_threadsafe(register)

    def _write(self) -> None:
        try:
            self._client.loop_write()
        except (OSError, ValueError) as error:
            if not self._disconnected.done():
                self._disconnected.set_exception(error)

    @property
    def is_up(self) -> bool:
        return self._connected.done() and not self._disconnected.done()

    @property
    def farewell(self) -> int:
        """The reason code with which the broker ended the connection; 0 where it gave none."""
        error = self._disconnected.exception() if self._disconnected.done() else None
        return _code_of(error)

    def hang_up(self) -> None:
        """At once: whoever waits on this line learns that it is dead. Once more changes nothing."""
        with contextlib.suppress(OSError, ValueError):
            self._client.disconnect()
        if not self._disconnected.done():
            self._disconnected.set_result(None)
        self._disconnected.exception()  # asyncio complains of what nobody has looked at


class _Line:
    """One account's connection: made again whenever it is lost, and what is heard on it."""

    def __init__(
        self,
        account: Account,
        panels: Panels,
        at_once: int,
        connect: timedelta,
        patience: timedelta,
        trusted: ssl.SSLContext | None,
    ) -> None:
        self._account = account
        self._panels = panels
        self._host, self._port, self._tls = _endpoint(account)
        self._trusted = trusted
        self._connect = connect.total_seconds()
        self._patience = patience.total_seconds()
        self._slots = asyncio.Semaphore(at_once)
        self._turns: dict[str, asyncio.Lock] = {}
        self._client: _Client | None = None
        self._refused: str | None = None
        self._changed = asyncio.Condition()
        self._attempts = 0
        self._wanted = asyncio.Event()
        self._held: dict[str, int] = {}
        """By topic, the version the broker told us last that it holds."""
        self._said: dict[str, bytes] = {}
        """By topic, what a panel said last: one that says it again and again must not cost a transaction each time."""
        self._rests_until: dict[str, float] = {}
        self._heard_all_at = 0.0
        self._away_since = time.monotonic()
        self._tasks: list[asyncio.Task[None]] = []
        self._start(self._keep_connected)

    # ── the connection ──────────────────────────────────────────────────────────────────────────────

    async def client(self) -> _Client:
        """The connection, waited for if it is being made. Raises NotSpoken and ChannelHalted."""
        if self._client is not None and self._client.is_up:
            return self._client
        seen = self._attempts
        self._wanted.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._connect), self._changed:
                await self._changed.wait_for(lambda: self._attempts > seen or self._is_up)
        if self._client is not None and self._client.is_up:
            return self._client
        self.raise_if_refused()
        raise NotSpoken

    @property
    def _is_up(self) -> bool:
        return self._client is not None and self._client.is_up

    def raise_if_refused(self) -> None:
        """Raises ChannelHalted where the broker would not have us, or has thrown us out."""
        if self._refused is None and self._client is not None and not self._client.is_up:
            self._refused = HALTS.get(self._client.farewell)
        if self._refused is not None:
            raise ChannelHalted(self._account.name, self._refused)

    async def _keep_connected(self) -> None:
        pause = FIRST_PAUSE
        while True:
            self._wanted.clear()
            began = time.monotonic()
            try:
                await self._converse()
            except (aiomqtt.MqttError, OSError) as error:
                self._refused = _halt_in(error)
                log.warning("no line to a broker", account=self._account.name, error=_in_words(error))
            finally:
                self._client = None
            self._away_since = self._away_since or time.monotonic()
            await self._tell_who_waits()
            pause = FIRST_PAUSE if time.monotonic() - began > LONGEST_PAUSE else min(pause * 2, LONGEST_PAUSE)
            with contextlib.suppress(TimeoutError):  # whoever has something to say does not wait for the pause to end
                async with asyncio.timeout(pause * random.uniform(0.5, 1.0)):
                    await asyncio.sleep(FIRST_PAUSE / 5)
                    await self._wanted.wait()

    async def _converse(self) -> None:
        """Connect, and listen until the line is lost. Raises MqttError and OSError."""
        if self._tls and self._trusted is None:
            self._trusted = await asyncio.to_thread(ssl.create_default_context)
        client = _Client(
            self._host,
            self._port,
            username=self._account.settings.get("user") or None,
            password=self._account.token.value,
            identifier=f"allerta-{self._account.name}-{token_hex(4)}",
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=True,
            timeout=self._patience,
            keepalive=KEEPALIVE,
            max_queued_incoming_messages=QUEUED_REPORTS,
            tls_context=self._trusted if self._tls else None,
        )
        client._client.connect_timeout = self._connect
        client.pending_calls_threshold = QUEUED_REPORTS
        try:
            await self._listen(client)
        finally:
            client.hang_up()

    async def _listen(self, client: _Client) -> None:
        async with client:
            istat = self._account.settings.get("istat", "+")
            self._held.clear()
            self._said.clear()
            for what in ("ack", "status", "set"):
                await client.subscribe(f"pc/{istat}/+/+/{what}", qos=1)
            self._refused, self._client, self._away_since = None, client, 0.0
            self._heard_all_at = time.monotonic() + HEARS_ALL_WITHIN
            log.info("line to a broker", account=self._account.name)
            await self._tell_who_waits()
            async for message in client.messages:
                await self._hear(str(message.topic), bytes(message.payload or b""))

    async def _tell_who_waits(self) -> None:
        async with self._changed:
            self._attempts += 1
            self._changed.notify_all()

    # ── speaking ────────────────────────────────────────────────────────────────────────────────────

    def turn(self, topic: str) -> asyncio.Lock:
        """One at a time about each panel: an older version must not come to the broker after a newer one."""
        return self._turns.setdefault(topic, asyncio.Lock())

    async def publish(self, client: _Client, sign: Sign) -> Outcome | None:
        """None where the broker has it. Raises NotSpoken, Broken and TextRejected."""
        payload = payload_of(sign)
        if len(payload) > MOST_BYTES:
            raise TextRejected(self._account.name, f"it takes {len(payload)} bytes; shorten it to {MOST_BYTES}")
        try:
            async with asyncio.timeout(self._connect):
                await self._slots.acquire()
        except TimeoutError:
            raise NotSpoken from None
        try:
            left = _left(sign)
            if left is not None and left < 1:
                return Deferred(Reason.EXPIRED)
            code = await client.hand_in(f"{sign.topic}/set", payload, _properties(sign, left))
        except TimeoutError:
            client.hang_up()  # whatever it would still answer, it is not to be taken for the answer to another
            raise Broken from None
        finally:
            self._slots.release()
        outcome = classify(code, self._account.name)
        if outcome is None:
            self._held[sign.topic] = max(sign.version, self._held.get(sign.topic, 0))
        return outcome

    # ── listening ───────────────────────────────────────────────────────────────────────────────────

    async def _hear(self, topic: str, payload: bytes) -> None:
        found = REPORT.fullmatch(topic)
        if found is None:
            return
        panel = found["topic"]
        if found["what"] != "set" and self._said.get(topic) == payload:
            return
        match found["what"]:
            case "set":
                # In the order the broker took them: an older one after a newer one is what it holds now.
                version = _object_of_ours(payload).get("version")
                self._held[panel] = version if type(version) is int and 0 < version <= BIGGEST_VERSION else 0
            case "ack" if said := acknowledgement_in(payload):
                await self._panels.acknowledged(self._account, panel, *said)
            case "status" if (online := is_online(payload)) is not None:
                await self._panels.seen(self._account, panel, online)
            case _:
                log.warning("a panel says what nobody understands", account=self._account.name, topic=topic)
        if found["what"] != "set":
            self._said[topic] = payload[:LONGEST_REPORT]

    # ── watching ────────────────────────────────────────────────────────────────────────────────────

    def watch(self) -> None:
        """From now on, compare what the broker holds with what it should hold."""
        if len(self._tasks) == 1:
            self._start(self._keep_right)
        for task in self._tasks:  # a line with a dead loop must not look alive
            if task.done() and not task.cancelled() and (error := task.exception()):
                raise error

    async def _keep_right(self) -> None:
        while True:
            try:
                await self._look()
            except NoAnswer as error:
                log.warning("panels are not looked after", account=self._account.name, error=str(error))
            except (NotSpoken, Broken):
                pass  # the line is being made again, and then all is looked at anew
            await asyncio.sleep(LOOK_EVERY)

    async def _look(self) -> None:
        client = self._client if self._is_up else None
        away = timedelta(seconds=time.monotonic() - self._away_since) if client is None else None
        await self._panels.reachable(self._account, away)
        unheard = client is None or time.monotonic() < self._heard_all_at
        signs = await self._panels.review(self._account, dict(self._held), unheard=unheard)
        for sign in signs:
            rests = time.monotonic() < self._rests_until.get(sign.topic, 0.0)
            if client is None or rests or self.turn(sign.topic).locked():
                continue
            async with self.turn(sign.topic):
                if self._held.get(sign.topic) != sign.version:
                    await self._say_again(client, sign)

    async def _say_again(self, client: _Client, sign: Sign) -> None:
        try:
            outcome = str(await self.publish(client, sign) or "taken")
        except TextRejected as rejected:
            outcome = rejected.cause
        if outcome != "taken":
            self._rests_until[sign.topic] = time.monotonic() + RESTS_FOR
        log.info("said to a panel again", topic=sign.topic, version=sign.version, outcome=outcome)

    def _start(self, loop: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._tasks.append(asyncio.create_task(loop(), name=f"{loop.__name__} {self._account.name}"))

    async def close(self) -> None:
        """Hang up with a goodbye. Asked until it is heard: Python 3.11's wait_for, on which aiomqtt waits, loses a
        cancellation that comes together with the answer."""
        left = set(self._tasks)
        while left:
            for task in left:
                task.cancel()
            _, left = await asyncio.wait(left, timeout=CLOSES_WITHIN)


def _properties(sign: Sign, left: int | None) -> Properties:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.ContentType = "application/json"
    properties.PayloadFormatIndicator = 1
    properties.UserProperty = ("version", str(sign.version))
    if left is not None:
        properties.MessageExpiryInterval = min(left, 2**32 - 1)
    return properties


def _left(sign: Sign) -> int | None:
    """Whole seconds until it expires."""
    return int((sign.expires - datetime.now(UTC)).total_seconds()) if sign.expires else None


def _object_of_ours(payload: bytes) -> dict[str, Any]:
    if len(payload) > MOST_BYTES:
        return {}
    try:
        said = json.loads(payload)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _endpoint(account: Account) -> tuple[str, int, bool]:
    """Host, port, and whether by TLS. Raises ChannelHalted where the address is none."""
    try:
        parts = urlsplit(account.base_url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if not host or parts.scheme not in PORTS:
        raise ChannelHalted(account.name, "its base_url is no MQTT broker; write mqtts://host:8883 or mqtt://host:1883")
    return host, port or PORTS[parts.scheme], parts.scheme == "mqtts"


def _code_of(error: BaseException | None) -> int:
    """The reason code the broker gave, where it gave one."""
    while error is not None:
        if isinstance(error, aiomqtt.MqttCodeError) and isinstance(error.rc, ReasonCode):
            return int(error.rc.value)
        error = error.__cause__
    return 0


def _halt_in(error: BaseException) -> str | None:
    """Why no other attempt would end better, where that is so."""
    if isinstance(error.__context__, ssl.SSLCertVerificationError):  # which aiomqtt puts into words only
        return f"its certificate is not trusted ({error.__context__.verify_message}); name its CA in SSL_CERT_FILE"
    return HALTS.get(_code_of(error))


def _in_words(error: BaseException) -> str:
    code = _code_of(error)
    return f"reason code 0x{code:02X}" if code else str(error)[:200] or type(error).__name__
