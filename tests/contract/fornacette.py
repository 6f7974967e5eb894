"""Fornacette as the providers know it: its number, bot and webhook; and servers that misbehave to order."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import ClientSession, web

from alerting.domain.delivery import Channel as ChannelName
from alerting.domain.panels import Light, Shows
from alerting.domain.push import Subscription
from alerting.domain.sms import Wrote
from alerting.postmarks import Postmarks
from alerting.vapid import Vapid
from consumers.channel import Account, Called, Report, Secret, Sign, Stands, Text
from consumers.simulators.serving import Served

WHATSAPP_TOKEN = "EAAGfornacette7nobodyMayReadThis"
WHATSAPP_NUMBER = "106540352242922"
TELEGRAM_TOKEN = "7000000001:AAfornacette7nobodyMayReadThis"
TELEGRAM_BOT = "7000000001"
EMAIL_PASSWORD = "fornacette7nobodyMayReadThis"
POSTMARKS = Postmarks(bytes.fromhex("5e" * 32))
PUBLIC_URL = "https://allerta.fornacette.example"

VAPID = Vapid.read("q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94")

SMS_USER, SMS_PASSWORD = "fornacette", "Arno1966"
SMS_ACCESS_TOKEN = "fornacette7nobodyMayReadThisEither"
MQTT_PASSWORD, PANEL_PASSWORD = "fornacette7nobodyMayReadThis", "pannello"

IN_A_HURRY: dict[str, Any] = {"connect": timedelta(seconds=5), "total": timedelta(seconds=4)}
"""How long adapters wait here. Silence is waited out, so it is less than in service; more than the worst second of a
machine that does other things too, in which a hundred connect or upload at once, and who waits for nothing is quick."""


def whatsapp_account(base_url: str, **changes: Any) -> Account:
    """Fornacette's number, as the adapter knows it."""
    known: dict[str, Any] = {
        "name": "whatsapp-fornacette",
        "authority": "fornacette",
        "paced_as": "whatsapp-fornacette",
        "channel": ChannelName.WHATSAPP,
        "base_url": base_url,
        "token": Secret(WHATSAPP_TOKEN),
        "settings": {
            "phone_number_id": WHATSAPP_NUMBER,
            "api_version": "v26.0",
            "waba_id": "102290129340398",
        },
    }
    return Account(**(known | changes))


def telegram_account(base_url: str, **changes: Any) -> Account:
    """Fornacette's bot, as the adapter knows it."""
    known: dict[str, Any] = {
        "name": "telegram-fornacette",
        "authority": "fornacette",
        "paced_as": "telegram-fornacette",
        "channel": ChannelName.TELEGRAM,
        "base_url": base_url,
        "token": Secret(TELEGRAM_TOKEN),
        "settings": {},
    }
    return Account(**(known | changes))


def email_account(base_url: str, **changes: Any) -> Account:
    """Fornacette's address, as the adapter knows it."""
    known: dict[str, Any] = {
        "name": "email-fornacette",
        "authority": "fornacette",
        "paced_as": "email-fornacette",
        "channel": ChannelName.EMAIL,
        "base_url": base_url,
        "token": Secret(EMAIL_PASSWORD),
        "identity": "avvisi@comune.fornacette.example",
        "settings": {
            "username": "fornacette",
            "from_name": "Città di Fornacette",
            "bounces": "rimbalzi@comune.fornacette.example",
        },
    }
    return Account(**(known | changes))


def sms_account(base_url: str, **changes: Any) -> Account:
    """Fornacette's alias, as the adapter knows it."""
    known: dict[str, Any] = {
        "name": "sms-fornacette",
        "authority": "fornacette",
        "paced_as": "sms-fornacette",
        "channel": ChannelName.SMS,
        "base_url": base_url,
        "token": Secret(SMS_PASSWORD),
        "settings": {"sender": "Fornacette", "protocol": "smpp", "user": SMS_USER},
    }
    return Account(**(known | changes))


def web_push_account(base_url: str = "", **changes: Any) -> Account:
    """Fornacette's key, as the adapter knows it. Each browser names a push service of its own."""
    known: dict[str, Any] = {
        "name": "web_push-fornacette",
        "authority": "fornacette",
        "paced_as": "web_push-fornacette",
        "channel": ChannelName.WEB_PUSH,
        "base_url": base_url,
        "token": Secret(VAPID.secret),
        "identity": "mailto:avvisi@comune.fornacette.example",
        "settings": {},
    }
    return Account(**(known | changes))


def sms_rest_account(base_url: str, **changes: Any) -> Account:
    """Fornacette's alias at a provider that speaks HTTP, as the adapter knows it."""
    known: dict[str, Any] = {
        "name": "sms-fornacette",
        "authority": "fornacette",
        "paced_as": "sms-fornacette",
        "channel": ChannelName.SMS,
        "base_url": base_url,
        "token": Secret(SMS_ACCESS_TOKEN),
        "settings": {
            "sender": "Fornacette",
            "protocol": "rest",
            "user": SMS_USER,
            "message_type": "GP",
            "authentication": "access-token",
        },
    }
    return Account(**(known | changes))


def mqtt_account(base_url: str, **changes: Any) -> Account:
    """Fornacette's user at the broker, as the adapter knows it."""
    known: dict[str, Any] = {
        "name": "mqtt-fornacette",
        "authority": "fornacette",
        "paced_as": "mqtt-fornacette",
        "channel": ChannelName.MQTT,
        "base_url": base_url,
        "token": Secret(MQTT_PASSWORD),
        "settings": {"user": "allerta", "istat": "050004"},
    }
    return Account(**(known | changes))


@dataclass
class Farewells:
    """What push services said, for a test that needs no database."""

    took: int = 0
    left: list[Subscription] = field(default_factory=list)

    def served(self, account: Account, origin: str) -> None:
        self.took += 1

    def gone(self, account: Account, subscription: Subscription) -> None:
        self.left.append(subscription)


@dataclass
class Orderbook:
    """Which texts are to be asked after, for a test that needs no database."""

    open: list[str] = field(default_factory=list)

    def placed(self, account: Account, reference: str, expires: datetime | None) -> None:
        self.open.append(reference)

    def not_taken(self, reference: str) -> None:
        if reference in self.open:
            self.open.remove(reference)

    async def run(self, accounts: Callable[[], list[Account]], stands: Stands) -> None: ...

    async def flush(self) -> None: ...


@dataclass
class Board:
    """What panels are to show and say they show, for a test that needs no database: the last that was said to each."""

    signs: dict[str, Sign] = field(default_factory=dict)
    acknowledgements: list[tuple[str, int, Shows]] = field(default_factory=list)
    statuses: list[tuple[str, bool]] = field(default_factory=list)
    away: timedelta | None = None

    async def revise(self, account: Account, topic: str, text: Text, reference: str) -> Sign | None:
        version = self.signs[topic].version + 1 if topic in self.signs else 1
        lines = tuple(text.body.splitlines())
        self.signs[topic] = Sign(
            topic, version, Shows.SHOW, "fornacette-1", lines, Light.RED, datetime.now(UTC), text.expires
        )
        return self.signs[topic]

    async def review(self, account: Account, held: Mapping[str, int], *, unheard: bool) -> Sequence[Sign]:
        return [] if unheard else [sign for sign in self.signs.values() if held.get(sign.topic) != sign.version]

    async def acknowledged(self, account: Account, topic: str, version: int, state: Shows) -> None:
        self.acknowledgements.append((topic, version, state))

    async def seen(self, account: Account, topic: str, online: bool) -> None:
        self.statuses.append((topic, online))

    async def reachable(self, account: Account, away: timedelta | None) -> None:
        self.away = away


@dataclass
class Notebook:
    """What texts are called, what is reported of them and what people write, for a test that needs no database."""

    names: list[Called] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    letters: list[tuple[str, Wrote]] = field(default_factory=list)

    def called(self, called: Called) -> None:
        self.names.append(called)

    async def reported(self, report: Report) -> None:
        self.reports.append(report)

    async def wrote(self, account: str, wrote: Wrote) -> None:
        self.letters.append((account, wrote))

    async def run(self) -> None: ...

    async def flush(self) -> None: ...


@dataclass
class Mailbox:
    """Our webhook, for a test: keeps the very bytes, and answers what it is told to."""

    url: str = ""
    raw: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    async def post(self, request: web.Request) -> web.Response:
        self.raw.append(await request.read())
        self.headers.append(dict(request.headers))
        return web.Response(status=self.answers.pop(0) if self.answers else 200)


async def until(true: Callable[[], bool], *, within: float = 15.0) -> None:
    """Wait until something is so; fails with TimeoutError where it never is."""
    async with asyncio.timeout(within):
        while not true():  # noqa: ASYNC110 - what is awaited has no event of ours
            await asyncio.sleep(0.01)


async def received(served: Served, http: ClientSession) -> list[dict[str, Any]]:
    """Every text the simulator's phones have."""
    async with http.get(f"{served.base_url}/__sim/received?after=0") as response:
        items: list[dict[str, Any]] = (await response.json())["items"]
    return items


async def tell(served: Served, http: ClientSession, where: str, what: dict[str, Any]) -> dict[str, Any]:
    """Speak to the simulator's own desk: config, inbound, reset."""
    async with http.post(f"{served.base_url}/__sim/{where}", json=what) as response:
        assert response.status == 200, await response.text()
        answer: dict[str, Any] = await response.json()
    return answer


Conversation = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def a_server_that(converses: Conversation, scheme: str = "http") -> AsyncIterator[str]:
    """Any behaviour of a line, on a real socket."""
    server = await asyncio.start_server(converses, "127.0.0.1", 0)
    async with server:
        yield f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
