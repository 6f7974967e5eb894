"""Meta's Cloud API as published: tokens, templates, windows, limits, signed webhooks, and bad days.

Numbers ending in 404 are not on WhatsApp, 429 have had enough from us, 503 find an HTML page, 504 find
silence, 505 get the text while our line dies.
"""

import asyncio
import hmac
import json
import random
import secrets
import time
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from consumers.simulators.courier import Courier, Parcel
from consumers.simulators.limits import Bucket, Pair
from consumers.simulators.phones import Phones
from consumers.simulators.serving import Limits, Served, serve, told

DAY = 24 * 3600.0

ERRORS: dict[int, tuple[int, str, str]] = {
    2: (503, "Service temporarily unavailable", "Temporary due to downtime or overload"),
    4: (429, "Application request limit reached", "The app has reached its API call rate limit"),
    10: (403, "Application does not have permission for this action", "Permission not granted or removed"),
    33: (400, "Parameter value is not valid", "The business phone number has been deleted"),
    100: (400, "Invalid parameter", "One or more parameters are unsupported or misspelled"),
    190: (401, "Invalid OAuth access token - Cannot parse access token", "Access token has expired"),
    368: (403, "Temporarily blocked for policies violations", "The account violated a platform policy"),
    80007: (429, "Rate limit issues", "The WhatsApp Business Account has reached its rate limit"),
    130429: (429, "Rate limit hit", "Cloud API message throughput has been reached"),
    130472: (400, "User's number is part of an experiment", "Message was not sent as part of an experiment"),
    131000: (500, "Something went wrong", "Message failed to send due to an unknown error"),
    131008: (400, "Required parameter is missing", "The request is missing a required parameter"),
    131009: (400, "Parameter value is not valid", "One or more parameter values are invalid"),
    131016: (500, "Service unavailable", "A service is temporarily unavailable"),
    131026: (400, "Message undeliverable", "Unable to deliver message"),
    131031: (403, "Business Account locked", "The account was restricted or disabled for a policy violation"),
    131042: (400, "Business eligibility payment issue", "There was an error related to your payment method"),
    131047: (400, "Re-engagement message", "More than 24 hours have passed since the recipient last replied"),
    131048: (429, "Spam rate limit hit", "Too many previous messages were blocked or flagged as spam"),
    131049: (400, "Meta chose not to deliver", "Not delivered to maintain healthy ecosystem engagement"),
    131050: (
        400,
        "Unable to deliver the message",
        "The recipient stopped marketing messages from this business",
    ),
    131051: (400, "Unsupported message type", "Message type is not supported"),
    131056: (
        429,
        "(Business Account, Consumer Account) pair rate limit hit",
        "Too many messages to one number",
    ),
    131057: (500, "Account in maintenance mode", "The business account is in maintenance mode"),
    132000: (400, "Number of parameters does not match the expected number of params", "body"),
    132001: (
        404,
        "Template name does not exist in the translation",
        "Template name does not exist in language",
    ),
    132005: (400, "Translated text too long", "The translated text is too long"),
    132015: (400, "Template is Paused", "Template is paused due to low quality"),
    132016: (400, "Template is Disabled", "Template has been paused too many times and is now disabled"),
    132018: (
        400,
        "Template parameter invalid",
        "Cannot have new-line, tab, or more than 4 consecutive spaces",
    ),
    133010: (
        400,
        "Phone number not registered",
        "Phone number not registered on the WhatsApp Business Platform",
    ),
}
"""Code → HTTP status, title, details. developers.facebook.com … /support/error-codes, 15 May 2026."""

BY_ADDRESS = {"404": 131026, "429": 131056, "503": 503, "504": 504, "505": 505}

HTML = "<!DOCTYPE html><html><head><title>503</title></head><body><h1>Service Unavailable</h1></body></html>"


class Number(BaseModel):
    """A business number, by its phone_number_id."""

    model_config = ConfigDict(extra="forbid")

    token: str
    display_phone_number: str = "390587000000"
    waba_id: str = "102290129340398"


class Template(BaseModel):
    """A template Meta has seen. `held`: new and unproven, so accepted and not leaving (template pacing)."""

    model_config = ConfigDict(extra="forbid")

    name: str
    language: str = "it"
    variables: int = 0
    status: str = "APPROVED"
    body: str | None = None
    held: bool = False


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


class Wrong(Exception):
    """This call gets one of Meta's errors."""

    def __init__(self, code: int, details: str | None = None, subcode: int | None = None) -> None:
        super().__init__(f"the caller gets error {code}")
        self.code, self.details, self.subcode = code, details, subcode


class WhatsAppSimulator:
    """All numbers of one portfolio, and everybody's phone."""

    def __init__(self, config: Config) -> None:
        self.phones = Phones("WhatsApp", write=True)
        self._config = config
        self._dice = random.Random(8)  # the same bad luck in every run
        self._run = secrets.token_hex(8).upper()
        self._said = 0
        self._courier = Courier(self._pack, waits=(0.2, 0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60), at_once=16, per_parcel=20)
        self._begin()

    def _begin(self) -> None:
        self._pairs: dict[tuple[str, str], Pair] = {}
        self._windows: dict[str, float] = {}
        self._met: dict[str, float] = {}
        self._take_config(self._config)

    def _take_config(self, config: Config) -> None:
        self._config = config
        self._buckets = {
            number: Bucket(config.per_second, config.per_second * config.burst) for number in config.accounts
        }
        self._templates = {(each.name, each.language): each for each in config.templates}

    def routes(self) -> list[web.RouteDef]:
        """The one method we call, and a way to play a citizen."""
        return [
            web.post(r"/{version:v\d+\.\d+}/{number}/messages", self._messages),
            web.post("/__sim/inbound", self._inbound),
        ]

    def configure(self, changes: dict[str, Any]) -> dict[str, Any]:
        """Change what is named, keep the rest, return all of it. Raises ValueError."""
        self._take_config(told(self._config, changes))
        return self._config.model_dump()

    def reset(self) -> None:
        """Forget all that happened; keep the configuration."""
        self.phones.forget()
        self._courier.forget()
        self._begin()

    def webhooks(self) -> dict[str, int]:
        """How the posts to our webhook went."""
        return self._courier.tally()

    async def close(self) -> None:
        """Stop posting."""
        await self._courier.close()

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
            to = _recipient(message)
            fault = BY_ADDRESS.get(to[-3:]) or self._fault()
            if fault == 503:
                self.phones.refused["503"] += 1
                return web.Response(status=503, text=HTML, content_type="text/html")
            if fault == 504:
                self.phones.refused["504"] += 1
                await asyncio.Event().wait()  # until the caller hangs up
            self._check_pace(number, to)
            if fault is not None and fault != 505:
                raise Wrong(fault)
            identity, standing = self._take(number, to, message)
        except Wrong as wrong:
            self.phones.refused[str(wrong.code)] += 1
            return _error(wrong, self._config.throttle_http)
        if fault == 505 and request.transport is not None:
            request.transport.abort()
        held = f',"message_status":"{standing}"' if standing else ""
        body = (
            f'{{"messaging_product":"whatsapp","contacts":[{{"input":"{to}","wa_id":"{to[1:]}"}}],'
            f'"messages":[{{"id":"{identity}"{held}}}]}}'
        )
        return web.Response(body=body.encode(), content_type="application/json")

    def _check_token(self, number: str, authorization: str) -> None:
        account = self._config.accounts.get(number)
        bearer = authorization.removeprefix("Bearer ")
        if account is not None and bearer == account.token:
            return
        if any(bearer == each.token for each in self._config.accounts.values()):
            raise Wrong(100, f"Object with ID '{number}' does not exist or lacks permissions", subcode=33)
        raise Wrong(190)

    def _fault(self) -> int | None:
        for code, share in self._config.faults.items():
            if self._dice.random() < share:
                return code
        return None

    def _check_pace(self, number: str, to: str) -> None:
        now = self._now()
        if self._buckets[number].take(now) > 0:
            raise Wrong(130429)
        pair = self._pairs.get((number, to))
        if pair is None:
            pair = self._pairs[number, to] = Pair()
        if not pair.take(now, self._config.pair_every, self._config.pair_burst):
            raise Wrong(131056)

    def _take(self, number: str, to: str, message: dict[str, Any]) -> tuple[str, str | None]:
        """Accept, or raise Wrong. Returns the wamid, and the message_status where there is one."""
        now = self._now()
        window_open = now - self._windows.get(to, -DAY) < DAY
        kind = message.get("type", "text")
        template: Template | None = None
        variables: tuple[str, ...] = ()
        standing: str | None = None
        if kind == "template":
            template, variables = self._check_template(message.get("template"))
            text = _rendered(template, variables)
            standing = "held_for_quality_assessment" if template.held else "accepted"
        elif kind == "text":
            text = _free_text(message.get("text"))
            if not window_open:
                raise Wrong(131047)
        else:
            raise Wrong(131051)
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
        self.phones.receive(
            at=time.time(),
            to=to,
            account=number,
            identity=identity,
            text=text,
            template=template.name if template else None,
            variables=variables,
            reference=reference,
        )
        self._tell_what_became(number, identity, to, reference)
        return identity, standing

    def _check_template(self, asked: object) -> tuple[Template, tuple[str, ...]]:
        if not isinstance(asked, dict) or not isinstance(asked.get("name"), str):
            raise Wrong(131008, "Parameter 'template.name' is missing")
        language = asked.get("language")
        code = language.get("code") if isinstance(language, dict) else None
        template = self._templates.get((asked["name"], str(code)))
        if template is None:
            raise Wrong(132001, f"template name ({asked['name']}) does not exist in {code}")
        if template.status == "PAUSED":
            raise Wrong(132015)
        if template.status != "APPROVED":
            raise Wrong(132016)
        variables = _variables(asked.get("components", []))
        if len(variables) != template.variables:
            raise Wrong(
                132000,
                f"body: number of localizable_params ({len(variables)}) does not match {template.variables}",
            )
        if any(not v or "\n" in v or "\t" in v or "     " in v for v in variables):
            raise Wrong(132018)
        if sum(map(len, variables)) > 1024:
            raise Wrong(132005)
        return template, variables

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
        self._tell(Status(number, identity, "delivered", to, reference), second)
        if config.read and dice() < config.read:
            self._tell(Status(number, identity, "read", to, reference), second + config.delivered_after)

    def _tell(self, status: Status, after: float) -> None:
        if self._config.webhook_url is None:
            return
        self._courier.carry(status, after=after)
        if self._config.duplicates and self._dice.random() < self._config.duplicates:
            self._courier.carry(status, after=after * 2)

    async def _inbound(self, request: web.Request) -> web.Response:
        """A citizen writes: {"from": "+39…", "text": "STOP", "account": phone_number_id}.

        With "button", its payload, they tap on one that says "text".
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
        self._windows[sender] = self._now()
        self.phones.wrote(sender, str(said.get("text", "")), at=self._now())
        if self._config.webhook_url is not None:
            self._courier.carry(Inbound(account, identity, sender, message))
        return web.json_response({"id": identity})

    def _pack(self, events: list[Status | Inbound]) -> list[Parcel]:
        if self._config.webhook_url is None:
            return []
        entries = [self._entry(event) for event in events if event.account in self._config.accounts]
        payload = {"object": "whatsapp_business_account", "entry": entries}
        # Meta escapes what is not ASCII, and slashes too: whoever verifies a re-written JSON fails here.
        body = json.dumps(payload, separators=(",", ":")).replace("/", "\\/").encode()
        signature = hmac.new(self._config.app_secret.encode(), body, "sha256").hexdigest()
        headers = {"Content-Type": "application/json", "X-Hub-Signature-256": f"sha256={signature}"}
        return [Parcel(self._config.webhook_url, headers, body)]

    def _entry(self, event: Status | Inbound) -> dict[str, object]:
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
            wa_id = event.sender[1:]
            value["contacts"] = [{"profile": {"name": "Maria"}, "wa_id": wa_id}]
            value["messages"] = [{"from": wa_id, "id": event.identity, "timestamp": stamp} | event.message]
        else:
            value["statuses"] = [_status(event, stamp)]
        return {"id": account.waba_id, "changes": [{"value": value, "field": "messages"}]}


def _status(event: Status, stamp: str) -> dict[str, object]:
    status: dict[str, object] = {
        "id": event.identity,
        "status": event.name,
        "timestamp": stamp,
        "recipient_id": event.to[1:],
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


def _recipient(message: dict[str, Any]) -> str:
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


def _variables(components: object) -> tuple[str, ...]:
    """The body's words, in order. A header or a button may stand beside, and is not looked at."""
    if not isinstance(components, list):
        raise Wrong(131009, "Parameter 'template.components' is not an array")
    for component in components:
        if isinstance(component, dict) and component.get("type") == "body":
            parameters = component.get("parameters")
            if isinstance(parameters, list):
                return tuple(str(p.get("text", "")) if isinstance(p, dict) else "" for p in parameters)
    return ()


def _rendered(template: Template, variables: tuple[str, ...]) -> str | None:
    text = template.body
    if text is not None:
        for index, variable in enumerate(variables, 1):
            text = text.replace(f"{{{{{index}}}}}", variable)
    return text


def _reference(message: dict[str, Any]) -> str | None:
    reference = message.get("biz_opaque_callback_data")
    if reference is None:
        return None
    if not isinstance(reference, str) or len(reference) > 512:
        raise Wrong(100, "Param biz_opaque_callback_data must be at most 512 characters long.")
    return reference


def _error(wrong: Wrong, throttle_http: int) -> web.Response:
    status, title, details = ERRORS.get(wrong.code, (400, "Unknown", "Unknown"))
    error: dict[str, object] = {
        "message": f"(#{wrong.code}) {title}",
        "type": "OAuthException",
        "code": wrong.code,
        "error_data": {"messaging_product": "whatsapp", "details": wrong.details or details},
        "fbtrace_id": "A" + secrets.token_urlsafe(12),
    }
    if wrong.subcode is not None:
        error["error_subcode"] = wrong.subcode
    return web.json_response({"error": error}, status=throttle_http if status == 429 else status)


async def start(config: dict[str, Any] | None = None, *, host: str = "127.0.0.1", port: int = 0) -> Served:
    """Listen, and hand back the base URL with what closes it again. Raises ValueError for a wrong config."""
    return await serve(WhatsAppSimulator(told(Config(), config or {})), host=host, port=port)
