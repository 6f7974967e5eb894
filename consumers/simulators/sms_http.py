"""An SMS provider that is not there: the REST API of Skebby, Aruba SMS and their like, and the phones behind it.

A number that ends in …429 is throttled, …404 cannot exist: the order is taken and goes to nobody, …503 is a proxy's
page, …504 is answered by silence, …505 is accepted before the line dies, …710 to …719 are accepted and end as ENDS
says.
"""

import asyncio
import base64
import json
import secrets
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from consumers.simulators.limits import Bucket
from consumers.simulators.phones import Phones
from consumers.simulators.serving import Limits, Served, serve, told

API = "/API/v1.0/REST"
HOUSES = {
    # What each house calls its message types: those with receipt and sender first.
    "skebby": ("GP", "TI", "SI"),
    "trendoo": ("GP", "TI", "SI"),
    "aruba": ("N", "L", "LL"),
    "mobyt": ("N", "L", "LL"),
    "smsend": ("N", "L", "LL"),
}
SHORT = {"SI", "LL"}
ENDS = {
    # By the ending of a number: what a text there comes to.
    "710": "TOOM4USER",
    "711": "TOOM4NUM",
    "712": "ERROR",
    "713": "TIMEOUT",
    "714": "UNKNRCPT",
    "715": "UNKNPFX",
    "716": "BLACKLISTED",
    "717": "KO",
    "718": "INVALIDCONTENTS",
    "719": "DEMO",
}
NOBODY = {"404": "INVALIDDST", "405": "BLACKLISTED", "409": "TOOM4NUM"}
"""Numbers for which an order is taken and nothing is sent."""
STEPS = ("WAITING", "SENT", "WAIT4DLVR")
GSM = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà\f^{}\\[~]|€"
)


class Known(BaseModel):
    """One customer. `senders` are registered, any where there are none; each part costs one of `credit`."""

    model_config = ConfigDict(extra="forbid")

    password: str
    access_token: str = ""
    user_key: str = ""
    senders: list[str] = Field(default_factory=list)
    credit: int = 1_000_000


class Config(Limits):
    """What this provider is told."""

    accounts: dict[str, Known] = Field(default_factory=dict)
    house: Literal["skebby", "trendoo", "aruba", "mobyt", "smsend"] = "skebby"
    per_second: float = 1000.0
    burst: float = 1.0
    """Seconds of its rate that may come at once."""
    step_after: float = 0.05
    """Seconds from each state of a text to its next."""
    answers_after: float = 0.0
    """Seconds from taking an order to its answer: long enough to be killed in."""
    session_lasts: float = 300.0
    """Seconds in which nobody says anything until a session ends."""


@dataclass
class _Session:
    """Somebody who is let in."""

    login: str
    last_word: float


@dataclass
class _Order:
    """One call: to whom, and how it ends for each."""

    login: str
    at: float
    with_receipt: bool
    ends: dict[str, str] = field(default_factory=dict)


class Wrong(Exception):
    """What a call is answered, where it is not taken."""

    def __init__(self, status: int, words: str = "") -> None:
        super().__init__(words)
        self.status, self.words = status, words


class SmsRest:
    """The provider. Made inside a running event loop."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._bucket = self._fresh_bucket()
        self.phones = Phones()
        self.orders: dict[str, _Order] = {}
        self.sessions: dict[tuple[str, str], _Session] = {}
        self.ordered: list[dict[str, Any]] = []
        self.tally: Counter[str] = Counter()
        """How often each method was called: logins, orders, questions."""

    # ── the desk ────────────────────────────────────────────────────────────────────────────────────

    def routes(self) -> list[web.RouteDef]:
        async def end_sessions(_: web.Request) -> web.Response:
            self.sessions.clear()
            return web.json_response({"ended": True})

        async def calls(_: web.Request) -> web.Response:
            return web.json_response(dict(self.tally))

        return [
            web.get(f"{API}/login", self._login),
            web.get(f"{API}/token", self._token),
            web.post(f"{API}/sms", self._order),
            web.get(API + "/sms/{order_id}", self._state),
            web.post("/__sim/end_sessions", end_sessions),
            web.get("/__sim/calls", calls),
        ]

    def configure(self, changes: dict[str, Any]) -> dict[str, Any]:
        self._config = told(self._config, changes)
        if {"per_second", "burst"} & changes.keys():
            self._bucket = self._fresh_bucket()
        return self._config.model_dump()

    def reset(self) -> None:
        self.phones.forget()
        self.orders.clear()
        self.ordered.clear()
        self.tally.clear()

    def webhooks(self) -> dict[str, int]:
        """How the receipts went: they are asked for."""
        return {"posted": 0, "waiting": 0}

    async def close(self) -> None: ...

    def _fresh_bucket(self) -> Bucket:
        return Bucket(self._config.per_second, self._config.per_second * self._config.burst)

    # ── who may ─────────────────────────────────────────────────────────────────────────────────────

    async def _login(self, request: web.Request) -> web.Response:
        self.tally["logins"] += 1
        login, known = self._who_says(request)
        if known is None:
            return web.json_response({"result": "Credentials are incorrect"}, status=404)
        key, session = known.user_key or login, secrets.token_urlsafe(18)
        self.sessions[key, session] = _Session(login, self._now())
        return web.Response(text=f"{key};{session}")

    async def _token(self, request: web.Request) -> web.Response:
        login, known = self._who_says(request)
        if known is None:
            return web.json_response({"result": "Credentials are incorrect"}, status=404)
        return web.Response(text=f"{known.user_key or login};{known.access_token}")

    def _who_says(self, request: web.Request) -> tuple[str, Known | None]:
        """By Basic authentication, or as the documentation has it in the address."""
        scheme, _, said = request.headers.get("Authorization", "").partition(" ")
        login, password = request.query.get("username", ""), request.query.get("password", "")
        if scheme == "Basic":
            login, _, password = base64.b64decode(said).decode("utf-8", "replace").partition(":")
        known = self._config.accounts.get(login)
        return login, known if known is not None and known.password == password else None

    def _let_in(self, request: web.Request) -> str:
        """The login behind the keys. Raises Wrong."""
        if self._fault_of(401):
            raise Wrong(401)
        user_key = request.headers.get("user_key", "")
        if token := request.headers.get("Access_token"):
            for login, known in self._config.accounts.items():
                if (known.user_key or login) == user_key:
                    if known.access_token and known.access_token == token:
                        return login
                    raise Wrong(401)
            raise Wrong(404)
        key = (user_key, request.headers.get("Session_key", ""))
        session = self.sessions.get(key)
        if session is None:
            raise Wrong(401)
        if self._now() - session.last_word > self._config.session_lasts:
            del self.sessions[key]
            raise Wrong(401)
        session.last_word = self._now()
        return session.login

    # ── an order ────────────────────────────────────────────────────────────────────────────────────

    async def _order(self, request: web.Request) -> web.StreamResponse:
        self.tally["orders"] += 1
        raw = await request.read()
        if self._config.latency:
            await asyncio.sleep(self._config.latency)
        try:
            login = self._let_in(request)
            said = _json(raw)
            to = said.get("recipient")
            if not isinstance(to, list) or not to or not all(isinstance(one, str) for one in to):
                raise Wrong(400, "recipient is required")
            ending = to[0][-3:]
            if ending == "504" or self._fault_of(504):
                await asyncio.sleep(3600)
            if ending == "503" or self._fault_of(503):
                return web.Response(status=503, text="<html><h1>503</h1></html>", content_type="text/html")
            if ending == "429" or self._fault_of(429) or self._bucket.take(self._now()):
                raise Wrong(429, "too many requests")
            answer = self._take(login, said, to)
        except Wrong as wrong:
            self.phones.refused[str(wrong.status)] += 1
            return _refusal(wrong)
        if self._config.answers_after:
            await asyncio.sleep(self._config.answers_after)
        if ending == "505" or self._fault_of(505):
            assert request.transport is not None
            request.transport.abort()
        return web.json_response(answer, status=201)

    def _take(self, login: str, said: dict[str, Any], to: list[str]) -> dict[str, object]:
        known = self._config.accounts[login]
        kind, words = said.get("message_type"), said.get("message")
        order_id = said.get("order_id") or secrets.token_hex(8)
        sender = said.get("sender") or ""
        kinds = HOUSES[self._config.house]
        if kind not in kinds:
            raise Wrong(400, "invalid message_type")
        if not isinstance(words, str) or not words:
            raise Wrong(400, "message is required")
        if len(words) > (160 if kind in SHORT else 1000):
            raise Wrong(400, "message is too long")
        if said.get("encoding", "gsm") == "gsm" and not GSM.issuperset(words):
            raise Wrong(400, "the message does not fit the encoding")
        if sender and kind != kinds[0]:
            raise Wrong(400, "the message type does not allow a custom TPOA")
        if sender and known.senders and sender not in known.senders:
            raise Wrong(400, "invalid sender: the TPOA is not approved")
        ends = {one: _end_of(one) for one in to}
        there = [one for one in ends if _is_a_number(one) and one[-3:] not in NOBODY]
        if len(there) < len(ends) and said.get("allowInvalidRecipients") is not True:
            raise Wrong(400, "invalid recipient in the list")
        if known.credit < len(there):
            raise Wrong(400, "not enough credit")
        known.credit -= len(there)
        self.ordered.append(said)
        order = self.orders.setdefault(str(order_id), _Order(login, self._now(), kind == kinds[0]))
        order.ends |= ends
        for one in there:
            self.phones.receive(at=self._now(), to=one, account=sender or login, identity=str(order_id), text=words)
        return {"result": "OK", "order_id": str(order_id), "total_sent": len(there)}

    # ── what became of it ───────────────────────────────────────────────────────────────────────────

    async def _state(self, request: web.Request) -> web.Response:
        self.tally["questions"] += 1
        try:
            if self._fault_of(503):
                return web.Response(status=503, text="<html><h1>503</h1></html>", content_type="text/html")
            login = self._let_in(request)
            order = self.orders.get(request.match_info["order_id"])
            if order is None or order.login != login:
                raise Wrong(404, "The order_id was not found")
        except Wrong as wrong:
            return _refusal(wrong)
        recipients = [self._stands(order, one, end) for one, end in order.ends.items()]
        return web.json_response({"result": "OK", "recipient_number": len(recipients), "recipients": recipients})

    def _stands(self, order: _Order, one: str, end: str) -> dict[str, str]:
        step = int((self._now() - order.at) / self._config.step_after) if self._config.step_after else len(STEPS)
        steps = STEPS if order.with_receipt else STEPS[:2]
        nobody = one[-3:] in NOBODY or not _is_a_number(one)
        status = end if nobody or step >= len(steps) else steps[step]
        if not order.with_receipt and status == "DLVRD":
            status = "SENT"
        at = datetime.fromtimestamp(self._now(), UTC).strftime("%Y%m%d%H%M%S")
        return {"destination": one, "status": status, "delivery_date": at if status == "DLVRD" else ""}

    def _fault_of(self, code: int) -> bool:
        """Each fault in its share of calls, evenly: the second of two at a half."""
        share = self._config.faults.get(code, 0.0)
        self.tally[f"calls {code}"] += 1
        calls = self.tally[f"calls {code}"]
        return int(calls * share) > int((calls - 1) * share)

    def _now(self) -> float:
        return time.time() + self._config.clock_ahead


def _is_a_number(said: str) -> bool:
    return said.startswith("+") and said[1:].isdigit() and 8 <= len(said) <= 16


def _end_of(number: str) -> str:
    if not _is_a_number(number):
        return "UNKNRCPT"
    return NOBODY.get(number[-3:]) or ENDS.get(number[-3:], "DLVRD")


def _refusal(wrong: Wrong) -> web.Response:
    if not wrong.words:
        return web.Response(status=wrong.status)
    return web.json_response({"result": wrong.words}, status=wrong.status)


def _json(raw: bytes) -> dict[str, Any]:
    try:
        said = json.loads(raw)
    except ValueError:
        raise Wrong(400, "the body is no JSON") from None
    if not isinstance(said, dict):
        raise Wrong(400, "the body is no JSON object")
    return said


async def start(changes: dict[str, Any], *, host: str = "127.0.0.1", port: int = 0) -> Served:
    """Listen, and hand back the base URL with what closes it again. Raises ValueError for a wrong config."""
    return await serve(SmsRest(told(Config(), changes)), host=host, port=port)
