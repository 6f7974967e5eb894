"""Meta's Cloud API as published: tokens, templates, windows, limits, signed webhooks, and bad days.

Numbers ending in 404 are not on WhatsApp, 429 have had enough from us, 503 find an HTML page, 504 find
silence, 505 get the text while our line dies.
"""

import asyncio
import hmac
import json
import random
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from consumers.simulators.courier import Courier, Parcel
from consumers.simulators.limits import Bucket, Pair
from consumers.simulators.phones import Phones
from consumers.simulators.serving import Limits, Served, serve, told
from consumers.simulators.whatsapp_errors import ERRORS, Wrong, answer
from consumers.simulators.whatsapp_media import KINDS, Media, Medium
from consumers.simulators.whatsapp_templates import UNSET_TTL, Change, Filled, Header, Registry, Template

DAY = 24 * 3600.0

BY_ADDRESS = {"404": 131026, "429": 131056, "503": 503, "504": 504, "505": 505}
BSUID = re.compile(r"[A-Z]{2}\.(?:ENT\.)?[A-Za-z0-9]{1,128}")
LONGEST_CAPTION = 1024

HTML = "<!DOCTYPE html><html><head><title>503</title></head><body><h1>Service Unavailable</h1></body></html>"


class Number(BaseModel):
    """A business number, by its phone_number_id."""

    model_config = ConfigDict(extra="forbid")

    token: str
    display_phone_number: str = "390587000000"
    name: str = ""
    waba_id: str = "102290129340398"


class Config(Limits):
    """What this simulator can be told. Times are seconds, shares 0 to 1."""

    accounts: dict[str, Number] = Field(default_factory=lambda: {"106540352242922": Number(token="EAAGsimulated")})
    templates: list[Template] = Field(
        default_factory=lambda: [
            Template(name="hello_world", language="en_US"),
            Template(name="allerta_pc_v3", variables=3, body="{{1}}: allerta {{2}}, {{3}}."),
        ]
    )
    app_secret: str = "simulated-app-secret"
    webhook_url: str | None = None
    per_second: float = 80.0
    burst: float = 0.1
    """How much of a second's worth may come at once."""
    pair_every: float = 6.0
    pair_burst: int = 45
    portfolio_limit: int | None = None
    """Unique people in 24 hours outside their window, over all numbers. Undocumented what Meta does beyond:
    here it accepts and reports 131049."""
    throttle_http: int = 429
    """Meta documents 429 for throttles; some have seen 400."""
    sent_after: float = 0.05
    delivered_after: float = 0.15
    read: float = 0.0
    failed: float = 0.0
    duplicates: float = 0.0
    reordered: float = 0.0
    silent: float = 0.0
    read_only: float = 0.0
    """The share of texts of which nobody hears that they were delivered, only that they were read."""
    media_faults: dict[int, float] = Field(default_factory=dict)
    """A code of Meta's → the share of texts with a picture or document that get it."""
    upload_faults: dict[int, float] = Field(default_factory=dict)
    """A code of Meta's → the share of uploads that get it; 503 is an HTML page."""
    switched_off: list[str] = Field(default_factory=list)
    """The numbers whose phones are off."""
    off_for: float = 3600.0
    """Seconds for which they stay so. What lives shorter is dropped, and nobody says."""
    usernames: list[str] = Field(default_factory=list)
    """The numbers of people who took a username: Meta does not tell their numbers, only their BSUIDs."""


@dataclass(frozen=True, slots=True)
class Status:
    """One thing Meta will tell about one text."""

    account: str
    identity: str
    name: str
    to: str
    reference: str | None
    code: int | None = None


@dataclass(frozen=True, slots=True)
class Inbound:
    """One message of a citizen, on its way to our webhook."""

    account: str
    identity: str
    sender: str
    message: dict[str, object]


Event = Status | Inbound | Change


class WhatsAppSimulator:
    """All numbers of one portfolio, and everybody's phone."""

    def __init__(self, config: Config) -> None:
        self.phones = Phones("WhatsApp", write=True)
        self._media = Media()
        self._numbers: dict[str, str] = {}
        self._hidden: set[str] = set()
        self._late: set[asyncio.TimerHandle] = set()
        self._config = config
        self._dice = random.Random(8)  # the same bad luck in every run
        self._run = secrets.token_hex(8).upper()
        self._said = 0
        waits = (0.2, 0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60)
        self._courier: Courier[Event] = Courier(self._pack, waits=waits, at_once=16, per_parcel=20)
        self._begin()

    def _begin(self) -> None:
        self._pairs: dict[tuple[str, str], Pair] = {}
        self._windows: dict[str, float] = {}
        self._met: dict[str, float] = {}
        self._register()
        self._take_config(self._config)

    def _register(self) -> None:
        # Copies: what the desk changes in one is forgotten with the rest.
        self._templates = Registry(each.model_copy() for each in self._config.templates)

    def _take_config(self, config: Config) -> None:
        self._config = config
        self.phones.names = {key: one.name or f"+{one.display_phone_number}" for key, one in config.accounts.items()}
        self._buckets = {
            number: Bucket(config.per_second, config.per_second * config.burst) for number in config.accounts
        }
        for number in config.usernames:
            self._hidden.add(number)
            self._bsuid(number)

    def routes(self) -> list[web.RouteDef]:
        """The methods we call, and ways to play a citizen, and Meta looking at a template."""
        version = r"/{version:v\d+\.\d+}"
        return [
            web.post(f"{version}/{{number}}/messages", self._messages),
            web.post(f"{version}/{{number}}/media", self._upload),
            web.get(f"{version}/{{waba}}/message_templates", self._list_templates),
            web.get(rf"{version}/{{medium:\d+}}", self._describe),
            web.delete(rf"{version}/{{medium:\d+}}", self._delete),
            web.get("/whatsapp_business/attachments/", self._fetch),
            web.post("/__sim/inbound", self._inbound),
            web.post("/__sim/moved", self._moved),
            web.post("/__sim/template", self._template),
        ]

    def configure(self, changes: dict[str, Any]) -> dict[str, Any]:
        """Change what is named, keep the rest, return all of it. Raises ValueError."""
        self._take_config(told(self._config, changes))
        if "templates" in changes:
            self._register()
        return self._config.model_dump()

    def reset(self) -> None:
        """Forget all that happened; keep the configuration."""
        self.phones.forget()
        self._courier.forget()
        self._forget_late()
        self._hidden.clear()
        self._begin()

    def webhooks(self) -> dict[str, int]:
        """How the posts to our webhook went."""
        return self._courier.tally()

    async def close(self) -> None:
        """Stop posting."""
        self._forget_late()
        await self._courier.close()

    def _forget_late(self) -> None:
        for handle in self._late:
            handle.cancel()
        self._late.clear()

    # ── a text comes in ─────────────────────────────────────────────────────────────────────────────

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        if self._config.latency:
            await asyncio.sleep(self._config.latency)
        number = request.match_info["number"]
        try:
            self._check_token(number, request.headers.get("Authorization", ""))
            message = _parsed(raw)
            if message.get("status") == "read":
                return web.json_response({"success": True})
            to, by_name = self._recipient(message)
            fault = BY_ADDRESS.get(to[-3:]) or self._by_lot(self._config.faults)
            if fault == 503:
                self.phones.refused["503"] += 1
                return web.Response(status=503, text=HTML, content_type="text/html")
            if fault == 504:
                self.phones.refused["504"] += 1
                await asyncio.Event().wait()  # until the caller hangs up
            if self._buckets[number].take(self._now()) > 0:
                raise Wrong(130429)
            if fault is not None and fault != 505:
                raise Wrong(fault)
            self._check_pair(number, to)
            identity, standing = self._take(number, to, message)
        except Wrong as wrong:
            self.phones.refused[str(wrong.code)] += 1
            return answer(wrong, self._config.throttle_http)
        if fault == 505 and request.transport is not None:
            request.transport.abort()
        held = f',"message_status":"{standing}"' if standing else ""
        contact = f'"input":"{by_name}","user_id":"{by_name}"' if by_name else f'"input":"{to}","wa_id":"{to[1:]}"'
        body = f'{{"messaging_product":"whatsapp","contacts":[{{{contact}}}],"messages":[{{"id":"{identity}"{held}}}]}}'
        return web.Response(body=body.encode(), content_type="application/json")

    def _check_token(self, number: str, authorization: str) -> None:
        account = self._config.accounts.get(number)
        bearer = authorization.removeprefix("Bearer ")
        if account is not None and bearer == account.token:
            return
        if any(bearer == each.token for each in self._config.accounts.values()):
            raise Wrong(100, f"Object with ID '{number}' does not exist or lacks permissions", subcode=33)
        raise Wrong(190)

    def _by_lot(self, shares: dict[int, float]) -> int | None:
        for code, share in shares.items():
            if self._dice.random() < share:
                return code
        return None

    def _fail(self, shares: dict[int, float]) -> None:
        """Raises Wrong, as often as was asked for."""
        if (code := self._by_lot(shares)) is not None:
            raise Wrong(code)

    def _check_pair(self, number: str, to: str) -> None:
        """Of what is refused for another reason nothing reaches the person, and nothing counts."""
        pair = self._pairs.get((number, to))
        if pair is None:
            pair = self._pairs[number, to] = Pair()
        if not pair.take(self._now(), self._config.pair_every, self._config.pair_burst):
            raise Wrong(131056)

    def _take(self, number: str, to: str, message: dict[str, Any]) -> tuple[str, str | None]:
        """Accept, or raise Wrong. Returns the wamid, and the message_status where there is one."""
        now = self._now()
        window_open = now - self._windows.get(to, -DAY) < DAY
        filled: Filled | None = None
        medium: tuple[Medium, str | None] | None = None
        standing: str | None = None
        ttl = UNSET_TTL
        match kind := message.get("type", "text"):
            case "template":
                filled = self._templates.fill(message.get("template"), self._has_media(number))
                text = filled.text
                if filled.media:
                    medium = self._media.find(number, filled.media, now), _file_name(message)
                standing = "held_for_quality_assessment" if filled.template.held else "accepted"
                ttl = filled.template.ttl or UNSET_TTL
            case "text":
                text = _free_text(message.get("text"))
            case "image" | "document":
                text, medium = self._free_medium(number, kind, message.get(kind))
            case _:
                raise Wrong(131051)
        if kind != "template" and not window_open:
            raise Wrong(131047)
        if medium:
            self._fail(self._config.media_faults)
        reference = _reference(message)
        self._said += 1
        identity = f"wamid.HBgM{self._run}{self._said:08X}"
        if standing == "held_for_quality_assessment":
            self.phones.refused["held"] += 1
            return identity, standing
        if not window_open and self._beyond_portfolio(to, now):
            self.phones.refused["portfolio"] += 1
            self._tell(Status(number, identity, "failed", to, reference, 131049), self._config.sent_after)
            return identity, standing

        def receive() -> None:
            self.phones.receive(
                at=time.time(),
                to=to,
                account=number,
                identity=identity,
                text=text,
                template=filled.template.name if filled else None,
                variables=filled.words if filled else (),
                reference=reference,
                media=self._drawn(*medium) if medium else None,
            )

        if to in self._config.switched_off:
            self._wait_for_phone(receive, Status(number, identity, "sent", to, reference), ttl)
            return identity, standing
        receive()
        self._tell_what_became(number, identity, to, reference)
        return identity, standing

    def _wait_for_phone(self, receive: Callable[[], None], sent: Status, ttl: float) -> None:
        """What outlives the silence of a phone arrives; what does not is dropped, and no webhook says so."""
        self._tell(sent, self._config.sent_after)
        off_for = self._config.off_for
        if ttl < off_for:
            self.phones.refused["dropped"] += 1
            return
        self._late.add(asyncio.get_running_loop().call_later(off_for, receive))
        self._tell(replace(sent, name="delivered"), off_for + self._config.delivered_after)

    def _drawn(self, medium: Medium, name: str | None) -> dict[str, Any]:
        return self.phones.keep(medium.content, medium.media_type, name or "")

    def _has_media(self, number: str) -> Callable[[str, Header], None]:
        def has(identity: str, header: Header) -> None:
            found = self._media.find(number, identity, self._now())
            if KINDS[found.media_type] != header.lower():
                raise Wrong(132012, f"header: Format mismatch, expected {header}, received {found.media_type}")

        return has

    def _free_medium(self, number: str, kind: str, asked: object) -> tuple[str | None, tuple[Medium, str | None]]:
        if not isinstance(asked, dict) or not isinstance(asked.get("id"), str):
            raise Wrong(131008, f"Parameter '{kind}.id' is missing")
        medium = self._media.find(number, asked["id"], self._now())
        if KINDS[medium.media_type] != kind:
            raise Wrong(131053, f"{medium.media_type} is no {kind}")
        caption = asked.get("caption")
        if caption is not None and (not isinstance(caption, str) or len(caption) > LONGEST_CAPTION):
            raise Wrong(100, f"Param {kind}['caption'] must be at most {LONGEST_CAPTION} characters long.")
        if kind == "image" and "filename" in asked:
            raise Wrong(100, 'Unexpected key "filename" on param "image".')
        return caption, (medium, asked.get("filename"))

    def _recipient(self, message: dict[str, Any]) -> tuple[str, str | None]:
        """Whose phone it is, and their BSUID where they were called by that."""
        if "recipient" not in message:
            return _number(message), None
        name = message["recipient"]
        if "to" in message:
            raise Wrong(100, "Only one of the parameters to and recipient may be given")
        if not isinstance(name, str) or BSUID.fullmatch(name) is None:
            raise Wrong(131009, "Parameter 'recipient' is not a business-scoped user ID")
        if name not in self._numbers:
            raise Wrong(131026)
        return self._numbers[name], name

    def _beyond_portfolio(self, to: str, now: float) -> bool:
        limit = self._config.portfolio_limit
        if limit is None:
            return False
        while self._met and now - self._met[first := next(iter(self._met))] >= DAY:
            del self._met[first]  # people stand in the order in which they were met
        if to not in self._met and len(self._met) >= limit:
            return True
        self._met.setdefault(to, now)
        return False

    def _now(self) -> float:
        return time.time() + self._config.clock_ahead

    # ── what Meta tells us ──────────────────────────────────────────────────────────────────────────

    def _tell_what_became(self, number: str, identity: str, to: str, reference: str | None) -> None:
        config, dice = self._config, self._dice.random
        if config.webhook_url is None or (config.silent and dice() < config.silent):
            return
        first, second = config.sent_after, config.delivered_after
        if config.reordered and dice() < config.reordered:
            first, second = second, first
        self._tell(Status(number, identity, "sent", to, reference), first)
        if config.failed and dice() < config.failed:
            self._tell(Status(number, identity, "failed", to, reference, 131026), second)
            return
        read_only = bool(config.read_only) and dice() < config.read_only
        if not read_only:
            self._tell(Status(number, identity, "delivered", to, reference), second)
        if read_only or (config.read and dice() < config.read):
            self._tell(Status(number, identity, "read", to, reference), second + config.delivered_after)

    def _tell(self, status: Status, after: float) -> None:
        if self._config.webhook_url is None:
            return
        self._courier.carry(status, after=after)
        if self._config.duplicates and self._dice.random() < self._config.duplicates:
            self._courier.carry(status, after=after * 2)

    async def _inbound(self, request: web.Request) -> web.Response:
        """A citizen writes: {"from": "+39…", "text": "STOP", "account": phone_number_id}.

        With "button", its payload, they tap on one that says "text". "hides_number": they took a username before.
        "photo" is a picture in base64, and "text" its caption; "point" a position they share: {"lat": …, "lon": …}.
        """
        said = await request.json()
        account = said.get("account") or next(iter(self._config.accounts))
        if account not in self._config.accounts or not said.get("from"):
            return web.json_response({"error": "say from whom, and to a number that exists"}, status=400)
        self._said += 1
        sender = "+" + str(said["from"]).lstrip("+")
        identity = f"wamid.HBgL{self._run}{self._said:08X}"
        message: dict[str, object] = {"type": "text", "text": {"body": said.get("text", "")}}
        if said.get("button"):
            message = {"type": "button", "button": {"payload": said["button"], "text": said.get("text", "")}}
        if said.get("hides_number"):
            self._hidden.add(sender)
        if said.get("photo"):
            try:
                image = self._media.sent(account, str(said["photo"]), self._now())
            except ValueError as error:
                return web.json_response({"error": str(error)}, status=400)
            message = {"type": "image", "image": image | ({"caption": said["text"]} if said.get("text") else {})}
        if said.get("point"):
            place = {"latitude": said["point"]["lat"], "longitude": said["point"]["lon"]}
            message = {"type": "location", "location": place}
        self._windows[sender] = self._now()
        self.phones.wrote(sender, str(said.get("text", "")), at=self._now())
        if self._config.webhook_url is not None:
            self._courier.carry(Inbound(account, identity, sender, message))
        return web.json_response({"id": identity})

    async def _moved(self, request: web.Request) -> web.Response:
        """A citizen takes another number with them: {"from": "+39…", "to": "+39…", "account": phone_number_id}."""
        said = await request.json()
        account = said.get("account") or next(iter(self._config.accounts))
        if account not in self._config.accounts or not said.get("from") or not said.get("to"):
            return web.json_response({"error": "say from which number, and to which"}, status=400)
        old, new = ("+" + str(said[key]).lstrip("+") for key in ("from", "to"))
        self._said += 1
        identity = f"wamid.HBgS{self._run}{self._said:08X}"
        hidden = old in self._hidden
        if hidden:
            self._hidden.add(new)
        names = (self._bsuid(old), self._bsuid(new)) if hidden else (old[1:], new[1:])
        system = {"body": f"User Maria changed from {names[0]} to {names[1]}", "user_id": self._bsuid(new)}
        if hidden:
            system |= {"type": "user_changed_user_id", "previous_user_id": self._bsuid(old)}
        else:
            system |= {"type": "user_changed_number", "wa_id": new[1:]}
        if self._config.webhook_url is not None:
            self._courier.carry(Inbound(account, identity, old, {"type": "system", "system": system}))
        return web.json_response({"id": identity})

    async def _template(self, request: web.Request) -> web.Response:
        """Meta looks at a template: its name and language, and any of status, quality, category, held and ttl."""
        try:
            changes = self._templates.change(await request.json())
        except ValueError as error:
            return web.json_response({"error": str(error)}, status=400)
        if self._config.webhook_url is not None:
            for waba in sorted({account.waba_id for account in self._config.accounts.values()}):
                for field, value in changes:
                    self._courier.carry(Change(waba, field, value))
        return web.json_response({"told": [field for field, _ in changes]})

    # ── media and templates ─────────────────────────────────────────────────────────────────────────

    async def _upload(self, request: web.Request) -> web.Response:
        number = request.match_info["number"]
        try:
            self._check_token(number, request.headers.get("Authorization", ""))
            self._fail(self._config.upload_faults)
            identity = await self._media.take(number, request, self._now())
        except Wrong as wrong:
            self.phones.refused[f"media {wrong.code}"] += 1
            if wrong.code == 503:
                return web.Response(status=503, text=HTML, content_type="text/html")
            return answer(wrong, self._config.throttle_http)
        self.phones.refused["uploaded"] += 1
        return web.json_response({"id": identity})

    def _bearer(self, request: web.Request) -> str:
        """Whose token it is; of several numbers with one token the one the call names. Raises Wrong."""
        theirs, named = self._numbers_of(request), request.query.get("phone_number_id")
        return named if named in theirs else theirs[0]

    def _numbers_of(self, request: web.Request) -> list[str]:
        """All that have this token. Raises Wrong."""
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        theirs = [number for number, account in self._config.accounts.items() if account.token == bearer]
        if not theirs:
            raise Wrong(190)
        return theirs

    def _medium(self, request: web.Request) -> Medium:
        """What the caller names, if it is theirs. Raises Wrong."""
        number = self._bearer(request)
        try:
            return self._media.find(number, request.match_info["medium"], self._now())
        except Wrong:
            raise Wrong(100, "Unsupported get request. The object does not exist", subcode=33) from None

    async def _describe(self, request: web.Request) -> web.Response:
        try:
            medium = self._medium(request)
        except Wrong as wrong:
            return answer(wrong)
        return web.json_response(self._media.described(medium, f"http://{request.host}", self._now()))

    async def _delete(self, request: web.Request) -> web.Response:
        try:
            self._media.forget(self._medium(request).identity)
        except Wrong as wrong:
            return answer(wrong)
        return web.json_response({"success": True})

    async def _fetch(self, request: web.Request) -> web.Response:
        try:
            theirs = self._numbers_of(request)
        except Wrong as wrong:
            return answer(wrong)
        medium = self._media.fetched(request.query.get("hash", ""), self._now())
        if medium is None or medium.account not in theirs:
            return web.Response(status=404)
        return web.Response(body=medium.content, content_type=medium.media_type)

    async def _list_templates(self, request: web.Request) -> web.Response:
        try:
            number = self._bearer(request)
            if self._config.accounts[number].waba_id != request.match_info["waba"]:
                raise Wrong(100, "Unsupported get request. The object does not exist", subcode=33)
        except Wrong as wrong:
            return answer(wrong)
        cursors = {"cursors": {"before": "MAZDZD", "after": "MjQZD"}}
        return web.json_response({"data": self._templates.listed(request.query.get("name", "")), "paging": cursors})

    # ── how Meta says it ────────────────────────────────────────────────────────────────────────────

    def _bsuid(self, number: str) -> str:
        """What Meta calls a person where their number is not to be told."""
        name = f"IT.{int(sha256(number.encode()).hexdigest()[:13], 16)}"
        self._numbers[name] = number
        return name

    def _pack(self, events: list[Event]) -> list[Parcel]:
        if self._config.webhook_url is None:
            return []
        known = self._config.accounts
        entries = [self._entry(event) for event in events if isinstance(event, Change) or event.account in known]
        payload = {"object": "whatsapp_business_account", "entry": entries}
        # Meta escapes what is not ASCII, and slashes too: whoever verifies a re-written JSON fails here.
        body = json.dumps(payload, separators=(",", ":")).replace("/", "\\/").encode()
        signature = hmac.new(self._config.app_secret.encode(), body, "sha256").hexdigest()
        headers = {"Content-Type": "application/json", "X-Hub-Signature-256": f"sha256={signature}"}
        return [Parcel(self._config.webhook_url, headers, body)]

    def _entry(self, event: Event) -> dict[str, object]:
        if isinstance(event, Change):
            change = {"field": event.field, "value": event.value}
            return {"id": event.account, "time": int(self._now()), "changes": [change]}
        account = self._config.accounts[event.account]
        value: dict[str, object] = {
            "messaging_product": "whatsapp",
            "metadata": {
                "display_phone_number": account.display_phone_number,
                "phone_number_id": event.account,
            },
        }
        stamp = str(int(self._now()))
        if isinstance(event, Inbound):
            bsuid, hidden = self._bsuid(event.sender), event.sender in self._hidden
            value["contacts"] = [{"profile": {"name": "Maria"}, "user_id": bsuid} | _unless(hidden, wa_id=event.sender)]
            message = {"from_user_id": bsuid, "id": event.identity, "timestamp": stamp}
            value["messages"] = [_unless(hidden, **{"from": event.sender}) | message | event.message]
        else:
            bsuid, hidden = self._bsuid(event.to), event.to in self._hidden
            if event.code is None:  # some have seen them on failures too: never to be relied on
                value["contacts"] = [{"user_id": bsuid} | _unless(hidden, wa_id=event.to)]
            status = _unless(hidden, recipient_id=event.to) | {"recipient_user_id": bsuid}
            value["statuses"] = [_status(event, stamp) | status]
        return {"id": account.waba_id, "changes": [{"value": value, "field": "messages"}]}


def _unless(hidden: bool, **numbers: str) -> dict[str, object]:
    """A number as webhooks have it, without its plus; nothing where the person hides it."""
    return {} if hidden else {key: number[1:] for key, number in numbers.items()}


def _status(event: Status, stamp: str) -> dict[str, object]:
    status: dict[str, object] = {
        "id": event.identity,
        "status": event.name,
        "timestamp": stamp,
    }
    if event.reference is not None:
        status["biz_opaque_callback_data"] = event.reference
    if event.code is not None:
        _, title, details = ERRORS[event.code]
        status["errors"] = [{"code": event.code, "title": title, "message": title, "error_data": {"details": details}}]
    elif event.name == "sent":
        status["pricing"] = {
            "billable": True,
            "pricing_model": "PMP",
            "type": "regular",
            "category": "utility",
        }
    return status


def _parsed(raw: bytes) -> dict[str, Any]:
    try:
        message = json.loads(raw)
    except ValueError:
        message = None
    if not isinstance(message, dict):
        raise Wrong(100, "The body is not a JSON object")
    if message.get("messaging_product") != "whatsapp":
        raise Wrong(100, "The parameter messaging_product is required")
    return message


def _number(message: dict[str, Any]) -> str:
    to = message.get("to")
    if not isinstance(to, str) or not to:
        raise Wrong(131008, "Parameter 'to' is missing")
    digits = "".join(letter for letter in to if letter.isdigit())
    if not 7 <= len(digits) <= 15:
        raise Wrong(131009, "Parameter 'to' is not a phone number")
    # Without "+" Meta puts the business number's own country code before it: a stranger's phone rings.
    return f"+{digits}" if to.startswith("+") else f"+39{digits}"


def _free_text(asked: object) -> str:
    body = asked.get("body") if isinstance(asked, dict) else None
    if not isinstance(body, str) or not body:
        raise Wrong(131008, "Parameter 'text.body' is missing")
    if len(body) > 4096:
        raise Wrong(100, "Param text['body'] must be at most 4096 characters long.")
    return body


def _file_name(message: dict[str, Any]) -> str | None:
    """What the document in a template's header is called."""
    for component in message["template"].get("components", []):
        if component.get("type") == "header":
            name: str | None = component["parameters"][0].get("document", {}).get("filename")
            return name
    return None


def _reference(message: dict[str, Any]) -> str | None:
    reference = message.get("biz_opaque_callback_data")
    if reference is None:
        return None
    if not isinstance(reference, str) or len(reference) > 512:
        raise Wrong(100, "Param biz_opaque_callback_data must be at most 512 characters long.")
    return reference


async def start(config: dict[str, Any] | None = None, *, host: str = "127.0.0.1", port: int = 0) -> Served:
    """Listen, and hand back the base URL with what closes it again. Raises ValueError for a wrong config."""
    return await serve(WhatsAppSimulator(told(Config(), config or {})), host=host, port=port)
