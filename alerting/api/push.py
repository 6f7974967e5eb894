"""Alerts in a citizen's browser: the page that subscribes, the worker that shows them, and what these two tell us.

Nobody here has a token of ours. Who subscribes proves nothing but that they hold an endpoint, which nobody can guess;
no answer says whether somebody was subscribed before.
"""

import ipaddress
import re
import time
from collections import OrderedDict
from dataclasses import replace
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from string import Template
from typing import Annotated, Any, Literal
from urllib.parse import quote

import structlog
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.routing import APIRoute
from pydantic import Field
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import cap_json, metrics, outbox, subscribing
from alerting.api.alerts import IDENTIFIER
from alerting.api.parts import Parts, parts_of
from alerting.api.problems import Problem, refusal
from alerting.api.recipients import places_in
from alerting.api.routes import Handler, limited
from alerting.api.schemas import Input, Name, Output, PlaceIn
from alerting.composing import Objection
from alerting.domain import push, rendering
from alerting.domain.authority import Authority, ChannelAccess
from alerting.domain.cap import Scope
from alerting.domain.delivery import Channel, Progress
from alerting.domain.events import ReceiptCame
from alerting.domain.keywords import fold
from alerting.domain.lanes import Lane
from alerting.domain.lifecycle import State
from alerting.domain.recipients import AddressError, Label, Place, known_by
from alerting.persistence import tables
from alerting.postmarks import Postmarks
from alerting.subscribing import Subscriber
from alerting.vapid import SECRET, Vapid, WrongKey

log = structlog.get_logger()

SUBSCRIBED, UNSUBSCRIBED, RENEWED = "subscribed in the browser", "unsubscribed in the browser", "renewed by the browser"
"""Stand in the proof in the place of the keyword."""

MOST_BYTES = 10_000
REFERENCE = re.compile(r"([0-9]{1,18})\.([0-9]{1,9})\.[0-9]{1,5}")
SAYS = {"delivered": Progress.DELIVERED, "read": Progress.READ}
PAGES = files("alerting.api") / "push_pages"


class Open(APIRoute):
    """A route for everybody, who may send a few thousand bytes."""

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()

        async def measured(request: Request) -> Response:
            return await handle(limited(request, MOST_BYTES))

        return measured


router = APIRouter(tags=["push"], route_class=Open)


# ── what is said ────────────────────────────────────────────────────────────────────────────────────


Endpoint = Annotated[str, Field(max_length=push.LONGEST_ENDPOINT, pattern=r"^https?://[!-~]+$")]


class PolicyOut(Output):
    """What whoever subscribes accepts."""

    url: str
    version: str


class AreaNamed(Output):
    """A place that can be named."""

    code: str
    name: str


class WebPushOut(Output):
    """What a page needs to subscribe a browser."""

    authority: str
    name: str
    public_key: str = Field(description="The applicationServerKey, in base64url.")
    policy: PolicyOut
    areas: list[AreaNamed]


class SubscriptionIn(Input):
    """A browser that is to be told."""

    subscription: dict[str, Any] = Field(description="What PushSubscription.toJSON() gives.")
    policy: Name = Field(description="The version of the policy that was shown.")
    places: list[PlaceIn] = Field(default_factory=list, max_length=len(Label))
    replaces: Endpoint | None = Field(
        None, description="The endpoint that the browser has given up for this one: its places stay."
    )


class SubscribedOut(Output):
    """Whoever holds this endpoint is told. The same for somebody who was there before."""

    authority: str
    places: list[str] = Field(description="What was named now; nothing: everything in the comune, or as before.")


class EndpointIn(Input):
    """A browser that is to be told no more."""

    endpoint: Endpoint


class AckIn(Input):
    """A browser has shown a text, or somebody opened it."""

    reference: Annotated[str, Field(min_length=1, max_length=100)]
    event: Literal["delivered", "read"]


# ── not too often ───────────────────────────────────────────────────────────────────────────────────


class Doorman:
    """So many at once of each, and then so many a minute; of at most `most` different ones anything is remembered.

    In the memory of one process: it keeps a script from filling the database, not an army.
    """

    def __init__(self, *, at_once: int, a_minute: float, most: int = 20_000) -> None:
        self._at_once, self._every, self._most = at_once, 60.0 / a_minute, most
        self._free_at: OrderedDict[bytes, float] = OrderedDict()

    def wait(self, who: bytes, now: float) -> float:
        """0 for who may come in, which is then counted; else in how many seconds."""
        start = max(self._free_at.get(who, now), now)
        short = start + self._every - now - self._at_once * self._every
        if short > 1e-9:
            return short
        self._free_at[who] = start + self._every
        self._free_at.move_to_end(who)
        if len(self._free_at) > self._most:
            self._free_at.popitem(last=False)
        return 0.0

    def forget(self) -> None:
        """As if nobody had ever come."""
        self._free_at.clear()


by_host = Doorman(at_once=60, a_minute=60)
"""A mobile operator shows a whole town under a few addresses."""
by_endpoint = Doorman(at_once=10, a_minute=1)

told_already: OrderedDict[tuple[str, str], None] = OrderedDict()
"""Receipts that RabbitMQ has: what is sent again and again must not fill its queue."""
MOST_TOLD = 50_000


def _let_in(request: Request, parts: Parts, endpoint: str) -> None:
    """Raises a 429 Problem."""
    now = time.monotonic()
    host = request.client.host if request.client else ""
    wait = by_host.wait(network(host), now) or by_endpoint.wait(parts.seal.fingerprint(endpoint), now)
    if wait:
        seconds = str(int(wait) + 1)
        raise Problem(429, f"too often: ask again in {seconds} seconds", headers={"Retry-After": seconds})


def network(host: str) -> bytes:
    """An address; of IPv6 the network, of which everybody has as many addresses as they like."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.encode()
    return address.packed[:8] if address.version == 6 else address.packed


# ── subscribing ─────────────────────────────────────────────────────────────────────────────────────


@router.get("/authorities/{code}/web-push", summary="What a page needs to subscribe a browser")
async def show(code: str, parts: Parts = Depends(parts_of)) -> WebPushOut:
    """The comune's public key, its policy and its areas."""
    authority, access = _who(code, parts)
    return WebPushOut(
        authority=authority.code,
        name=authority.name,
        public_key=await _public_key(access, parts),
        policy=PolicyOut(url=authority.policy.url, version=authority.policy.version),
        areas=[AreaNamed(code=area.code, name=area.name) for area in authority.territory.areas],
    )


@router.post("/authorities/{code}/push-subscriptions", status_code=201, summary="Subscribe a browser")
async def subscribe(
    code: str, said: SubscriptionIn, request: Request, parts: Parts = Depends(parts_of)
) -> SubscribedOut:
    """Twice is once. The consent is kept as proof; places that are named take the place of those known before."""
    authority, access = _who(code, parts)
    try:
        address = push.subscription(said.subscription, parts.settings.push_hosts).address
    except AddressError as error:
        raise refusal([Objection("subscription", str(error))]) from None
    _let_in(request, parts, known_by(address))
    if said.policy != authority.policy.version:
        raise Problem(409, f"the policy is now {authority.policy.version}: show that one, and ask again")
    places = places_in([_by_code(place, authority) for place in said.places], authority)
    who = Subscriber(authority, access, address)
    for last in (False, True):
        try:
            async with parts.database.write() as session:
                await _join(session, who, parts, said.replaces, places)
            break
        except IntegrityError:  # the same browser at the same moment: now it is there
            if last:
                raise
    log.info("subscribed in the browser", account=access.name)
    return SubscribedOut(authority=authority.code, places=[area for one in places for area in one.areas])


def _by_code(place: PlaceIn, authority: Authority) -> PlaceIn:
    """A citizen's page may say the name of an area, as people do."""
    called = fold(place.area or "")
    codes = [area.code for area in authority.territory.areas if called and fold(area.name) == called]
    return place.model_copy(update={"area": codes[0]}) if len(codes) == 1 else place


async def _join(
    session: AsyncSession, who: Subscriber, parts: Parts, replaces: str | None, places: tuple[Place, ...]
) -> None:
    now = datetime.now(UTC)
    if replaces is not None and replaces != known_by(who.address):
        await subscribing.renew(session, who, replaces, parts.seal, keyword=RENEWED, now=now)
    recipient, new = await subscribing.join(session, who, parts.seal, keyword=SUBSCRIBED, now=now, places=places)
    if new:
        return
    address = await subscribing.find(session, who, parts.seal)
    assert address is not None
    address.sealed = parts.seal.seal(who.address)  # a browser may have made new keys
    address.refused_at = address.refused_because = None
    if places:
        row = await session.get_one(tables.Recipient, recipient)
        await subscribing.settle(session, row, places, who.authority)


@router.delete("/authorities/{code}/push-subscriptions", status_code=204, summary="Unsubscribe a browser")
async def unsubscribe(code: str, said: EndpointIn, request: Request, parts: Parts = Depends(parts_of)) -> None:
    """At once, and erased. The same answer for a browser that was not subscribed: nobody can ask who is in."""
    authority, access = _who(code, parts)
    _let_in(request, parts, said.endpoint)
    who = Subscriber(authority, access, said.endpoint)
    async with parts.database.write() as session:
        await subscribing.lose(session, who, parts.seal, keyword=UNSUBSCRIBED, now=datetime.now(UTC))


def _who(code: str, parts: Parts) -> tuple[Authority, ChannelAccess]:
    authority = parts.authorities.get(code)
    access = authority.channel(Channel.WEB_PUSH) if authority else None
    if authority is None or access is None:
        raise Problem(404, "no comune of this code writes to browsers through this system")
    return authority, access


async def _public_key(access: ChannelAccess, parts: Parts) -> str:
    """Of the private key with which the account's texts are signed."""
    async with parts.database.read() as session:
        row = await session.get(tables.ChannelAccount, access.name)
    secret = parts.settings.secrets.find(row.paced_as if row else access.name, SECRET)
    try:
        return Vapid.read(secret or "").public_key
    except WrongKey:
        log.error("no key to subscribe browsers with", account=access.name, secret=SECRET)
    raise Problem(503, "the comune's key is not in place yet: ask its administrators", headers={"Retry-After": "3600"})


# ── what a browser says became of a text ────────────────────────────────────────────────────────────


@router.post("/push/ack", status_code=204, summary="A browser has shown a text")
async def acknowledge(said: AckIn, parts: Parts = Depends(parts_of)) -> None:
    """204 once RabbitMQ has it. Only who was given the text has its reference, with a proof that we wrote it."""
    reference = Postmarks(parts.settings.key_bytes).received(said.reference)
    parted = REFERENCE.fullmatch(reference or "")
    if parted is None:
        metrics.WEBHOOKS_REFUSED.labels(str(Channel.WEB_PUSH)).inc()
        raise Problem(404, "this reference is none that we gave out: send the one in the text as it is")
    key = (parted[0], said.event)
    if key in told_already:
        return
    event = ReceiptCame(int(parted[1]), int(parted[2]), SAYS[said.event], None, datetime.now(UTC))
    message = outbox.addressed(event, Lane.REPLY)
    await parts.publisher.publish(replace(message, exchange=parts.settings.amqp_prefix + message.exchange))
    told_already[key] = None
    if len(told_already) > MOST_TOLD:
        told_already.popitem(last=False)


# ── pages ───────────────────────────────────────────────────────────────────────────────────────────

NOTHING_FOREIGN = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
OF_PAGE = {
    "Content-Security-Policy": f"{NOTHING_FOREIGN}; script-src 'self'; style-src 'unsafe-inline'; connect-src 'self'; "
    "worker-src 'self'; manifest-src 'self'",
    "X-Robots-Tag": "noindex",
}
OF_SCRIPT = {
    # A worker obeys the policy it was served with: this one fetches from us, and from nobody else.
    "Content-Security-Policy": f"{NOTHING_FOREIGN}; connect-src 'self'",
    "Cache-Control": "no-cache",
}
PAGE = Template((PAGES / "iscriviti.html").read_text("utf-8"))
SCRIPTS = {name: (PAGES / name).read_bytes() for name in ("service-worker.js", "iscriviti.js")}
NOTICE = """<!doctype html>
<html lang="it"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="robots" content="noindex"><title>{title}</title><style>
body{{font:1.125rem/1.5 system-ui,sans-serif;max-width:38rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}}
h1{{font-size:1.6rem;line-height:1.2}} p{{white-space:pre-line}} strong{{border:2px solid;padding:.25rem .5rem}}
</style></head><body><main><h1>{title}</h1>{mark}{said}</main></body></html>"""


@router.get("/push/service-worker.js", summary="The worker that shows alerts", response_class=Response)
async def service_worker() -> Response:
    """For the scope /v1/push/<code>/ of each comune."""
    return _script("service-worker.js")


@router.get("/push/iscriviti.js", include_in_schema=False)
async def page_script() -> Response:
    return _script("iscriviti.js")


def _script(name: str) -> Response:
    return Response(SCRIPTS[name], headers=OF_SCRIPT, media_type="text/javascript; charset=utf-8")


@router.get(
    "/authorities/{code}/web-push/iscriviti", summary="The page that subscribes a browser", response_class=HTMLResponse
)
async def page(code: str, parts: Parts = Depends(parts_of)) -> HTMLResponse:
    """In Italian, without anything from elsewhere."""
    authority, access = _who(code, parts)
    options = (
        f'<option value="{escape(area.code)}">{escape(area.name)}</option>' for area in authority.territory.areas[1:]
    )
    facts = {
        "code": authority.code,
        "name": authority.name,
        "everywhere": authority.territory.comune.code,
        "key": await _public_key(access, parts),
        "policy": authority.policy.url,
        "version": authority.policy.version,
        "manifest": f"/v1/authorities/{quote(authority.code, safe='')}/web-push/manifest.json",
    }
    escaped = {name: escape(fact) for name, fact in facts.items()}
    return HTMLResponse(PAGE.substitute(escaped, areas="".join(options)), headers=OF_PAGE)


@router.get("/authorities/{code}/web-push/manifest.json", include_in_schema=False)
async def manifest(code: str, parts: Parts = Depends(parts_of)) -> JSONResponse:
    """iPhones take alerts only for a page on their home screen, and a page is put there only with this."""
    authority, _ = _who(code, parts)
    at = f"/v1/authorities/{quote(authority.code, safe='')}/web-push/iscriviti"
    said = {
        "name": f"Avvisi: {authority.name}",
        "short_name": "Avvisi",
        "lang": "it",
        "id": at,
        "start_url": at,
        "scope": "/v1/",
        "display": "standalone",
        "background_color": "#ffffff",
        "theme_color": "#1a1a1a",
    }
    return JSONResponse(said, media_type="application/manifest+json")


@router.get("/authorities/{code}/web-push/avvisi/{identifier}", summary="An alert, whole", response_class=HTMLResponse)
async def notice(code: str, identifier: str, parts: Parts = Depends(parts_of)) -> HTMLResponse:
    """What a notification had no room for. Whether it still holds is said first."""
    authority, _ = _who(code, parts)
    async with parts.database.read() as session:
        row = await session.get(tables.Alert, identifier) if IDENTIFIER.fullmatch(identifier) else None
    if row is None or row.authority != authority.code or row.issued_at is None:
        raise Problem(404, "no alert of this name has been issued")
    said = cap_json.from_json(row.document)
    if said.scope is not Scope.PUBLIC:
        raise Problem(404, "no alert of this name has been issued")
    text = rendering.render(said, rendering.Form.MAIL)
    paragraphs = "".join(f"<p>{escape(one)}</p>" for one in text.body.split("\n\n"))
    over = row.state is not State.ISSUED or row.expires_at <= datetime.now(UTC)
    mark = "<p><strong>Non più in vigore</strong></p>" if over else ""
    page = NOTICE.format(title=escape(text.subject), mark=mark, said=paragraphs)
    return HTMLResponse(page, headers={"Content-Security-Policy": f"{NOTHING_FOREIGN}; style-src 'unsafe-inline'"})
