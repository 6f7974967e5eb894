"""Message panels and sirens at a real MQTT broker: what each shows can be looked at, and a gate that misbehaves.

Each has a line of its own, with a last will, shows the newest version it was given until that expires, and says so.
Who wants a broker with faults connects at the gate, which passes everything on to the real one; a panel whose name
ends in …429 is over its quota there, …404 does not exist, …503 finds the broker in trouble, …504 is answered by
silence, …505 gets it before the line dies.
"""

import asyncio
import contextlib
import html
import json
import random
import re
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

import aiomqtt
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from consumers.simulators.limits import Bucket
from consumers.simulators.phones import Phones
from consumers.simulators.serving import Limits, Served, serve, told

CONNACK, PUBLISH, PUBACK, DISCONNECT, CONNECT = 2, 3, 4, 14, 1
NOT_AUTHORIZED, TOPIC_INVALID, QUOTA, UNSPECIFIED = 0x87, 0x90, 0x97, 0x80
MAGIC = {"429": QUOTA, "404": TOPIC_INVALID, "503": UNSPECIFIED}
FAULTS = {503: UNSPECIFIED, 429: QUOTA, 404: TOPIC_INVALID}
AGAIN_AFTER = 0.3  # seconds
REACHES_THE_PANEL_WITHIN = 1.0

PAGE = """<!doctype html>
<html lang="it"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="refresh" content="2"><title>Pannelli</title><style>
body{{font:1rem/1.5 system-ui,sans-serif;max-width:48rem;margin:2rem auto;padding:0 1rem}}
pre{{background:#111;border:.5rem solid #333;border-radius:.4rem;padding:1rem;font:700 1.5rem/1.3 monospace;
min-height:2rem;overflow:auto}} small{{color:#595959}}
.red{{color:#ff5a4d}}.orange{{color:#ffa126}}.yellow{{color:#ffe14d}}.white{{color:#fff}}
</style></head><body><h1>Pannelli e sirene</h1><p>Simulati, non reali.</p>{panels}</body></html>"""
POST = "<h2>{topic}</h2><pre class={colour}>{lines}</pre><small>{state}, versione {version}{away}</small>"


class Standing(BaseModel):
    """A panel that is there from the beginning."""

    model_config = ConfigDict(extra="forbid")

    topic: str
    lines: int = 4
    columns: int = 24


class Config(Limits):
    """What this simulator can be told."""

    broker: str = "mqtt://127.0.0.1:1883"
    """A real one, with the panels' user and password: mqtt://user:password@host:1883."""
    panels: list[Standing] = Field(default_factory=list)
    anybody: bool = False
    """Whatever topic is told something is a panel, all of them on one line."""
    gate: bool = False
    """Whether there is a gate; read at the start only."""
    per_second: float = 1000.0
    burst: float = 1.0
    """Seconds of its rate that may come at once through the gate."""
    acknowledges_each: int = 1
    """How often each version is acknowledged; 0 for never."""
    acknowledges_after: float = 0.0


@dataclass
class SimulatedPanel:
    """What one shows, and up to which version it has been told."""

    topic: str
    lines: int = 4
    columns: int = 24
    version: int = 0
    said: dict[str, Any] = field(default_factory=dict)
    is_on: bool = True

    def take(self, said: dict[str, Any]) -> bool:
        """Whether this is news, which takes the place of what was shown."""
        version = said.get("version")
        if type(version) is not int or version <= self.version:
            return False
        self.version, self.said = version, said
        return True

    def state(self, now: datetime) -> str:
        """What it really does: nothing any more, once the alert has expired."""
        if self.said.get("state") != "SHOW":
            return "CLEAR"
        expires = self.said.get("expires")
        return "CLEAR" if expires and datetime.fromisoformat(expires) <= now else "SHOW"

    def shown(self, now: datetime) -> list[str]:
        """As much of it as there is room for."""
        lines = self.said.get("lines", []) if self.state(now) == "SHOW" else []
        return [str(line)[: self.columns] for line in lines[: self.lines]]


class Panels:
    """All panels, and the gate before their broker. Made inside a running event loop."""

    def __init__(self, changes: dict[str, Any]) -> None:
        self._config = told(Config(), changes)
        self._bucket = self._fresh_bucket()
        self.phones = Phones()
        self.panels: dict[str, SimulatedPanel] = {}
        self.acknowledged = 0
        self._lines: dict[str, asyncio.Task[None]] = {}
        self._clients: dict[str, aiomqtt.Client] = {}
        self._server: asyncio.Server | None = None
        self._news = asyncio.Condition()
        self._told: dict[str, int] = {}
        self._passing: set[asyncio.Task[Any]] = set()
        self.gate_url = ""

    # ── the desk ────────────────────────────────────────────────────────────────────────────────────

    def routes(self) -> list[web.RouteDef]:
        """What only this simulator is asked."""
        return [
            web.get("/__sim/panels", self._get_panels),
            web.post("/__sim/power", self._post_power),
            web.post("/__sim/say", self._post_say),
        ]

    def configure(self, changes: dict[str, Any]) -> dict[str, Any]:
        """Change what is named; panels come and go."""
        self._config = told(self._config, changes)
        self._bucket = self._fresh_bucket()
        self._stand()
        return self._config.model_dump(mode="json")

    def reset(self) -> None:
        """As if nobody had ever said anything; what the broker retains is heard again at the next start."""
        self.phones.forget()
        self.acknowledged = 0

    def webhooks(self) -> dict[str, int]:
        """Panels know of none; how often they acknowledged."""
        return {"delivered": self.acknowledged}

    async def start(self, host: str) -> None:
        """Put up the panels, and the gate."""
        if self._config.gate:
            self._server = await asyncio.start_server(self._pass, host, 0)
            self.gate_url = f"mqtt://{host}:{self._server.sockets[0].getsockname()[1]}"
        self._stand()

    async def close(self) -> None:
        """All lines are cut."""
        if self._server is not None:
            self._server.close()
        left: set[asyncio.Task[Any]] = {*self._lines.values(), *self._passing}
        while left:  # a cancellation that comes together with an answer of the broker is lost
            for task in left:
                task.cancel()
            _, left = await asyncio.wait(left, timeout=AGAIN_AFTER)

    async def _get_panels(self, request: web.Request) -> web.Response:
        now = self._now()
        shown: list[dict[str, Any]] = [
            {
                "topic": panel.topic,
                "version": panel.version,
                "state": panel.state(now),
                "lines": panel.shown(now),
                "colour": str(panel.said.get("colour", "white")),
                "alert_id": str(panel.said.get("alert_id", "")),
                "on": panel.is_on,
            }
            for panel in self.panels.values()
        ]
        if "text/html" not in request.headers.get("Accept", ""):
            return web.json_response({"panels": shown})
        posts = (
            POST.format(
                topic=html.escape(one["topic"]),
                colour=html.escape(one["colour"]),
                lines=html.escape("\n".join(one["lines"])) or "&nbsp;",
                state=one["state"],
                version=one["version"],
                away="" if one["on"] else ", senza corrente",
            )
            for one in shown
        )
        return web.Response(text=PAGE.format(panels="".join(posts)), content_type="text/html")

    async def _post_power(self, request: web.Request) -> web.Response:
        """`{"topic": …, "on": false, "forgets": true}`: the power of a panel goes or comes back."""
        said = await request.json()
        topic, on = str(said["topic"]), bool(said["on"])
        panel = self.panels[topic]
        panel.is_on = on
        if on:
            self._begin(topic)
        else:
            self._cut(topic)
            if said.get("forgets"):
                self.panels[topic] = SimulatedPanel(topic, panel.lines, panel.columns, is_on=False)
        return web.json_response({"topic": topic, "on": on})

    async def _post_say(self, request: web.Request) -> web.Response:
        """`{"topic": …, "what": "ack", "payload": "…"}`: whatever a test wants a panel to say."""
        said = await request.json()
        await self._clients[said["topic"]].publish(f"{said['topic']}/{said['what']}", said["payload"], qos=1)
        return web.json_response({"said": True})

    # ── panels ──────────────────────────────────────────────────────────────────────────────────────

    def _stand(self) -> None:
        for one in self._config.panels:
            self.panels.setdefault(one.topic, SimulatedPanel(one.topic, one.lines, one.columns))
            self._begin(one.topic)
        if self._config.anybody:
            self._begin("+")

    def _begin(self, topic: str) -> None:
        if topic not in self._lines or self._lines[topic].done():
            self._lines[topic] = asyncio.create_task(self._live(topic), name=f"panel {topic}")

    def _cut(self, topic: str) -> None:
        """Without a goodbye, so that the broker says it for the panel."""
        self._lines[topic].cancel()
        client = self._clients.pop(topic, None)
        if client is not None and isinstance(line := client._client.socket(), socket.socket):
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    async def _live(self, topic: str) -> None:
        while topic not in self.panels or self.panels[topic].is_on:  # a cancellation may be lost
            try:
                await self._stay(topic)
            except (aiomqtt.MqttError, OSError):
                self._clients.pop(topic, None)
            await asyncio.sleep(AGAIN_AFTER)

    async def _stay(self, topic: str) -> None:
        broker = urlsplit(self._config.broker)
        will = None if topic == "+" else aiomqtt.Will(f"{topic}/status", "offline", 1, True)
        client = aiomqtt.Client(
            broker.hostname or "127.0.0.1",
            broker.port or 1883,
            username=unquote(broker.username) if broker.username else None,
            password=unquote(broker.password) if broker.password else None,
            protocol=aiomqtt.ProtocolVersion.V5,
            will=will,
            keepalive=10,
            timeout=5,
        )
        async with client:
            self._clients[topic] = client
            await client.subscribe("pc/+/+/+/set" if topic == "+" else f"{topic}/set", qos=1)
            if will is not None:
                await client.publish(f"{topic}/status", "online", qos=1, retain=True)
            async for message in client.messages:
                await self._hear(client, str(message.topic).removesuffix("/set"), bytes(message.payload or b""))

    async def _hear(self, client: aiomqtt.Client, topic: str, payload: bytes) -> None:
        panel = self.panels.setdefault(topic, SimulatedPanel(topic))
        try:
            said = json.loads(payload)
        except ValueError:
            return
        if panel.take(said):
            self.phones.receive(
                at=time.time(),
                to=topic,
                account=topic.split("/")[1],
                identity=f"{topic}.{panel.version}",
                text="\n".join(said.get("lines", [])) or None,
                reference=said.get("alert_id"),
            )
        self._told[topic] = self._told.get(topic, 0) + 1
        async with self._news:
            self._news.notify_all()
        if self._config.acknowledges_after:
            await asyncio.sleep(self._config.acknowledges_after)
        shows = json.dumps({"version": panel.version, "state": panel.state(self._now())})
        for _ in range(self._config.acknowledges_each):
            self.acknowledged += 1
            await client.publish(f"{topic}/ack", shows, qos=1, retain=True)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(time.time() + self._config.clock_ahead, UTC)

    # ── the gate ────────────────────────────────────────────────────────────────────────────────────

    def _fresh_bucket(self) -> Bucket:
        return Bucket(self._config.per_second, self._config.per_second * self._config.burst)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._passing.add(task)
        broker = urlsplit(self._config.broker)
        try:
            inward, outward = await asyncio.open_connection(broker.hostname or "127.0.0.1", broker.port or 1883)
        except OSError:
            writer.transport.abort()
            return
        gate = _Gate(self, writer, outward)
        ways = [asyncio.create_task(_frames(reader, gate.out)), asyncio.create_task(_frames(inward, gate.back))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            writer.close()
            outward.transport.abort()
            self._passing.discard(task)

    def fault(self) -> int | None:
        """One of those the simulator was told to have, as often as it was told."""
        dice = random.random()
        for code, share in self._config.faults.items():
            if dice < share:
                return code
            dice -= share
        return None

    def quota(self) -> bool:
        return self._bucket.take(time.monotonic()) > 0

    async def latency(self) -> None:
        if self._config.latency:
            await asyncio.sleep(self._config.latency)

    def refused(self, code: int) -> None:
        self.phones.refused[f"0x{code:02X}"] += 1

    def times_told(self, topic: str) -> int:
        return self._told.get(topic, 0)

    async def has_been_told(self, topic: str, times: int) -> None:
        """Returns when the panel has it: so a test may look at once."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REACHES_THE_PANEL_WITHIN), self._news:
                await self._news.wait_for(lambda: self.times_told(topic) > times)


@dataclass
class _Gate:
    """One connection that is passed on, packet by packet."""

    panels: Panels
    client: asyncio.StreamWriter
    broker: asyncio.StreamWriter
    mine: dict[int, tuple[str, int]] = field(default_factory=dict)

    async def out(self, kind: int, flags: int, packet: bytes, body: bytes) -> bool:
        """From the client to the broker. Whether the connection goes on."""
        fault = self.panels.fault()
        if fault == 401 and kind in (CONNECT, PUBLISH):
            refusal = bytes([0x20, 3, 0, NOT_AUTHORIZED, 0]) if kind == CONNECT else bytes([0xE0, 1, NOT_AUTHORIZED])
            self.client.write(refusal)
            await self.client.drain()
            return False
        if kind == PUBLISH and flags & 0b110:
            length = int.from_bytes(body[:2])
            topic, mid = body[2 : 2 + length].decode(), int.from_bytes(body[2 + length : 4 + length])
            panel = topic.removesuffix("/set")
            await self.panels.latency()
            wish = re.sub(r".*[^0-9]", "", panel)[-3:]
            code = QUOTA if self.panels.quota() else MAGIC.get(wish) or (fault and FAULTS.get(fault, fault))
            if code:
                self.panels.refused(code)
                self.client.write(bytes([0x40, 4, *mid.to_bytes(2), code, 0]))
                await self.client.drain()
                return True
            if wish == "504":
                return True
            self.mine[mid] = (panel, self.panels.times_told(panel))
        self.broker.write(packet)
        await self.broker.drain()
        return True

    async def back(self, kind: int, flags: int, packet: bytes, body: bytes) -> bool:
        """From the broker to the client."""
        if kind == PUBACK and (found := self.mine.pop(int.from_bytes(body[:2]), None)):
            await self.panels.has_been_told(*found)
            if found[0].endswith("505"):
                self.client.transport.abort()
                return False
        self.client.write(packet)
        await self.client.drain()
        return True


async def _frames(reader: asyncio.StreamReader, each: Callable[[int, int, bytes, bytes], Awaitable[bool]]) -> None:
    """MQTT 5.0, 2.1: a byte of kind and flags, the length of the rest in seven-bit groups, the rest."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            header = await reader.readexactly(1)
            length, shift, more = 0, 0, 0x80
            lengths = b""
            while more & 0x80:
                group = await reader.readexactly(1)
                more = group[0]
                length |= (more & 0x7F) << shift
                shift += 7
                lengths += group
            body = await reader.readexactly(length)
            if not await each(header[0] >> 4, header[0] & 0x0F, header + lengths + body, body):
                return


async def start(config: dict[str, Any] | None = None, *, host: str = "127.0.0.1", port: int = 0) -> Served:
    """Put up panels at a broker, and a window to look at them. Raises ValueError for a wrong config."""
    simulator = Panels(config or {})
    await simulator.start(host)
    return await serve(simulator, host=host, port=port)
