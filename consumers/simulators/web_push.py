"""A push service and the browsers behind it: VAPID checked, texts decrypted, Topic and TTL obeyed, phones offline.

What stands behind the last hyphen of a browser's name is obeyed: maria-410 has unsubscribed, -404 never was, -429 and
-406 are throttled, -503 finds the service away, -504 finds silence, -505 gets the text while our line dies, -403 had
subscribed with another's key, -401, -400, -413 and -500 are told so.
"""

import asyncio
import base64
import json
import random
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import http_ece
from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import Field

from consumers.simulators.limits import Bucket
from consumers.simulators.phones import Phones
from consumers.simulators.serving import Limits, Served, serve, told

CURVE = ec.SECP256R1()
LARGEST = 4096
LONGEST_TTL = 2_419_200  # seconds: four weeks
URGENCIES = ("very-low", "low", "normal", "high")
TOPIC = re.compile(r"[A-Za-z0-9_-]{1,32}")
VAPID = re.compile(r"vapid t=([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+), ?k=([A-Za-z0-9_-]+)")
LONGEST_TOKEN = 86_400  # seconds
CODES = {"401": 401, "403": 403, "404": 404, "406": 406, "410": 410, "413": 413, "400": 400, "429": 429, "500": 500}
CODES |= {"503": 503, "504": 504, "505": 505}
HTML = "<html><body><h1>503 Service Unavailable</h1></body></html>"


class Config(Limits):
    """What this simulator can be told. Times are seconds. A fault's code is the HTTP status."""

    per_second: float = 5000.0
    burst: float = 0.2
    """How much of a second's worth may come at once."""
    retry_after: str = "7"
    """What a 429 and a 406 ask for: seconds or a date."""
    away_for: str = ""
    """What a 503 asks for; nothing unless it is said."""
    offline: list[str] = Field(default_factory=list)
    """Names of browsers that are switched off: what comes for them is kept."""


@dataclass(slots=True)
class Browser:
    """One subscription: its keys, the key of whom it takes texts from, and what waits until it is switched on."""

    name: str
    private: ec.EllipticCurvePrivateKey
    auth: bytes
    sender: str
    gone: bool = False
    waiting: list["Kept"] = field(default_factory=list)

    def subscription(self, base_url: str) -> dict[str, Any]:
        """As PushSubscription.toJSON() has it."""
        point = self.private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        keys = {"p256dh": _base64url(point), "auth": _base64url(self.auth)}
        return {"endpoint": f"{base_url}/push/{self.name}", "expirationTime": None, "keys": keys}


@dataclass(frozen=True, slots=True)
class Kept:
    """A text on its way to a browser: still encrypted, as a push service has it."""

    identity: str
    content: bytes
    topic: str
    until: float
    account: str
    headers: Mapping[str, str]


class Wrong(Exception):
    """This call is refused."""

    def __init__(self, code: int, why: str, **headers: str) -> None:
        super().__init__(why)
        self.code, self.why = code, why
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class WebPushSimulator:
    """One push service, every browser that subscribed there, and what these showed."""

    def __init__(self, config: Config) -> None:
        self.phones = Phones()
        self.base_url = ""
        self.shown: list[dict[str, Any]] = []
        """Every payload that a browser decrypted, with the headers it came with."""
        self._browsers: dict[str, Browser] = {}
        self._dice = random.Random(8)  # the same bad luck in every run
        self._number = 0
        self._take_config(config)

    def _take_config(self, config: Config) -> None:
        self._config = config
        self._bucket = Bucket(config.per_second, config.per_second * config.burst)
        for browser in self._browsers.values():
            if browser.name not in config.offline:
                self._switch_on(browser)

    def routes(self) -> list[web.RouteDef]:
        """The push service, and a way to be a browser."""
        return [
            web.post("/push/{name}", self._post),
            web.post("/__sim/subscribe", self._post_subscribe),
            web.post("/__sim/unsubscribe", self._post_unsubscribe),
            web.get("/__sim/shown", self._get_shown),
        ]

    def configure(self, changes: dict[str, Any]) -> dict[str, Any]:
        """Change what is named, keep the rest, return all of it. Raises ValueError."""
        self._take_config(told(self._config, changes))
        return self._config.model_dump()

    def reset(self) -> None:
        """Forget all that happened; keep the configuration and who has subscribed."""
        self.phones.forget()
        self.shown.clear()
        for browser in self._browsers.values():
            browser.waiting.clear()
        self._take_config(self._config)

    def webhooks(self) -> dict[str, int]:
        """A push service posts nothing: browsers say themselves what they have shown."""
        return {}

    async def close(self) -> None:
        """Nothing runs beside the socket."""

    # ── browsers ────────────────────────────────────────────────────────────────────────────────────

    def subscribe(self, name: str, sender: str) -> dict[str, Any]:
        """A browser takes texts of whoever has this key; the one it already is, where it has subscribed before."""
        if name not in self._browsers:
            auth = random.Random(name).randbytes(16)
            self._browsers[name] = Browser(name, ec.generate_private_key(CURVE), auth, sender)
        return self._browsers[name].subscription(self.base_url)

    async def _post_subscribe(self, request: web.Request) -> web.Response:
        """{"name": "maria", "applicationServerKey": "B…"}"""
        said = await request.json()
        name, key = str(said.get("name", "")), str(said.get("applicationServerKey", ""))
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,100}", name) or len(_bytes(key)) != 65:
            return web.json_response({"error": "say the browser's name and whose key it takes texts of"}, status=400)
        return web.json_response(self.subscribe(name, key))

    async def _post_unsubscribe(self, request: web.Request) -> web.Response:
        browser = self._browsers.get(str((await request.json()).get("name", "")))
        if browser is None:
            return web.json_response({"error": "no browser of that name has subscribed"}, status=404)
        browser.gone = True
        return web.json_response({"unsubscribed": browser.name})

    async def _get_shown(self, _: web.Request) -> web.Response:
        return web.json_response({"items": self.shown})

    def _switch_on(self, browser: Browser) -> None:
        waiting, browser.waiting = browser.waiting, []
        for kept in waiting:
            if kept.until > self._now():
                self._show(browser, kept)

    def _show(self, browser: Browser, kept: Kept) -> None:
        """As the browser does: decrypt, and hand it to the service worker."""
        plain = http_ece.decrypt(
            kept.content, private_key=browser.private, auth_secret=browser.auth, version="aes128gcm"
        )
        said = json.loads(plain)
        self.shown.append(
            {"to": browser.name, "at": time.time(), "bytes": len(plain), "headers": dict(kept.headers)} | said
        )
        self.phones.receive(
            at=time.time(),
            to=browser.name,
            account=kept.account,
            identity=kept.identity,
            text=f"{said['title']}\n\n{said['body']}",
            reference=said["reference"],
        )

    # ── the push service ────────────────────────────────────────────────────────────────────────────

    async def _post(self, request: web.Request) -> web.Response:
        if self._config.latency:
            await asyncio.sleep(self._config.latency)
        name = request.match_info["name"]
        fault = CODES.get(name.rpartition("-")[2]) or self._fault()
        try:
            content = await request.read()
            if fault == 503:
                self.phones.refused["503"] += 1
                asked = {"Retry-After": self._config.away_for} if self._config.away_for else {}
                return web.Response(status=503, text=HTML, content_type="text/html", headers=asked)
            if fault == 504:
                self.phones.refused["504"] += 1
                await asyncio.Event().wait()  # until the caller hangs up
            if fault in (429, 406):
                raise Wrong(fault, "too many", Retry_After=self._config.retry_after)
            if fault is not None and fault != 505:
                raise Wrong(fault, "as was asked for")
            kept = self._take(self._browsers.get(name), content, request.headers)
        except Wrong as wrong:
            self.phones.refused[str(wrong.code)] += 1
            return web.json_response({"code": wrong.code, "error": wrong.why}, status=wrong.code, headers=wrong.headers)
        if fault == 505 and request.transport is not None:
            request.transport.abort()
        return web.Response(status=201, headers={"Location": kept.identity, "TTL": request.headers["TTL"]})

    def _fault(self) -> int | None:
        for code, share in self._config.faults.items():
            if self._dice.random() < share:
                return code
        return None

    def _take(self, browser: Browser | None, content: bytes, headers: Mapping[str, str]) -> Kept:
        if browser is None:
            raise Wrong(404, "there is no such subscription")
        if browser.gone:
            raise Wrong(410, "this browser has unsubscribed")
        account = self._check_sender(browser, headers.get("Authorization", ""))
        seconds, about = _check_headers(headers)
        if len(content) > LARGEST:
            raise Wrong(413, f"it has {len(content)} bytes, at most {LARGEST} are taken")
        if len(content) < 86 + 17 or content[20] != 65:
            raise Wrong(400, "the body is not encrypted as RFC 8291 says")
        if wait := self._bucket.take(self._now()):
            raise Wrong(429, "too many", Retry_After=str(max(1, round(wait))))
        self._number += 1
        kept = Kept(
            f"{self.base_url}/m/{self._number:08X}", content, about, self._now() + seconds, account, _shown_of(headers)
        )
        if browser.name in self._config.offline:
            browser.waiting = [other for other in browser.waiting if not about or other.topic != about]
            if seconds > 0:
                browser.waiting.append(kept)
        else:
            self._show(browser, kept)
        return kept

    def _check_sender(self, browser: Browser, authorization: str) -> str:
        """Who the sender says they are. Raises Wrong for whoever this browser has not subscribed to."""
        found = VAPID.fullmatch(authorization)
        if found is None:
            raise Wrong(401, "Authorization is no VAPID header")
        head, claims, signature, key = found.groups()
        try:
            said = json.loads(_bytes(claims))
            raw = _bytes(signature)
            public = ec.EllipticCurvePublicKey.from_encoded_point(CURVE, _bytes(key))
            der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
            public.verify(der, f"{head}.{claims}".encode(), ec.ECDSA(hashes.SHA256()))
        except (ValueError, InvalidSignature):
            raise Wrong(403, "the signature is not that of this key") from None
        if said.get("aud") != self.base_url:
            raise Wrong(403, f"aud is {said.get('aud')}, and this is {self.base_url}")
        if not self._now() < said.get("exp", 0) <= self._now() + LONGEST_TOKEN:
            raise Wrong(403, "exp is past, or more than a day away")
        if not str(said.get("sub", "")).startswith(("mailto:", "https:")):
            raise Wrong(403, "sub names nobody who could be asked")
        if key != browser.sender:
            raise Wrong(403, "this browser subscribed with another key")
        return str(said["sub"])

    def _now(self) -> float:
        return time.time() + self._config.clock_ahead


def _check_headers(headers: Mapping[str, str]) -> tuple[int, str]:
    """TTL in seconds, and the topic. Raises Wrong."""
    ttl, topic = headers.get("TTL", ""), headers.get("Topic", "")
    if not re.fullmatch(r"[0-9]{1,9}", ttl):
        raise Wrong(400, "TTL is missing")
    if topic and not TOPIC.fullmatch(topic):
        raise Wrong(400, "Topic is longer than 32 letters of base64url, or has others")
    if headers.get("Urgency", "normal") not in URGENCIES:
        raise Wrong(400, "Urgency is none of four words")
    if headers.get("Content-Encoding") != "aes128gcm":
        raise Wrong(400, "Content-Encoding is not aes128gcm")
    return min(int(ttl), LONGEST_TTL), topic


def _shown_of(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: headers[name] for name in ("TTL", "Urgency", "Topic") if name in headers}


def _bytes(written: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(written + "=" * (-len(written) % 4))
    except ValueError:
        return b""


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


async def start(config: dict[str, Any] | None = None, *, host: str = "127.0.0.1", port: int = 0) -> Served:
    """Listen, and hand back the base URL with what closes it again. Raises ValueError for a wrong config."""
    simulator = WebPushSimulator(told(Config(), config or {}))
    served = await serve(simulator, host=host, port=port)
    simulator.base_url = served.base_url
    return served
