"""Web push: one text, encrypted for one browser, to the push service that the browser chose (RFC 8030, 8291, 8292)."""

import base64
import hashlib
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from typing import Protocol
from urllib.parse import quote

import structlog
from multidict import CIMultiDict
from pywebpush import WebPusher
from yarl import URL

from alerting.domain import push
from alerting.domain.delivery import (
    Accepted,
    ChannelHalted,
    Deferred,
    Outcome,
    Reason,
    Refused,
    TextRejected,
)
from alerting.domain.delivery import Channel as ChannelName
from alerting.domain.plain_text import one_line, shortened
from alerting.domain.push import Subscription
from alerting.domain.recipients import AddressError
from alerting.postmarks import Postmarks
from alerting.vapid import Vapid, WrongKey
from consumers.channel import Account, Text
from consumers.channels.line import Answer, Line

log = structlog.get_logger()

LARGEST = 3993
"""Bytes of plaintext that every push service takes (RFC 8291, 4)."""
LONGEST_TITLE = 160
LONGEST_PAGE = 500
LONGEST_TTL = timedelta(days=28)
UNLESS_SAID = timedelta(days=1)
"""How long a push service keeps a text that never expires: nobody wants last week's answer."""

TOKEN_LASTS = timedelta(hours=12)
"""Of 24 hours that a push service takes at most. Our clock may be half a day wrong in either direction."""
TOKEN_KEPT = 3600.0
"""Seconds after which another is signed, in 0.1 ms."""

SHORTEST_PAUSE, LONGEST_PAUSE = timedelta(seconds=1), timedelta(hours=1)
"""What is believed of a Retry-After."""
UNLESS_PAUSE_SAID = timedelta(seconds=5)
HOST_PAUSE = timedelta(minutes=1)
"""Of everybody at one push service: a browser's own limit looks just like that of all, and must not cost them more."""
DENIED_FOR = timedelta(seconds=30)
IN_A_ROW = 5
"""So many browsers that are denied, or do not get a text, while none is served: then it is not the browsers."""
MOST_DENIED = 10_000


class Said(Enum):
    """What a push service may say that is about one browser or about us all: the status alone does not tell."""

    DENIED = auto()  # our key, or that of another with which this browser subscribed
    MALFORMED = auto()  # our text, or an endpoint that a stranger made up


def classify(
    status: int, reference: str, *, location: str | None, retry_after: str | None, now: datetime
) -> Outcome | Said:
    """What an answer means. Only 404 and 410 are final: the browser has unsubscribed.

    RFC 8030, 5 and 7.3, RFC 8292, 4.2; 406 is how Edge's service throttles (windows-dev-docs 4166); read November 2026.
    """
    match status:
        case 201 | 202:
            return Accepted(_identity(location) or reference)
        case 404 | 410:
            return Refused(Reason.NOT_REACHABLE_HERE)
        case 429 | 406:
            return Deferred(Reason.THROTTLED, _pause(retry_after, now) or UNLESS_PAUSE_SAID)
        case 503:
            return Deferred(Reason.PROVIDER_UNAVAILABLE, _pause(retry_after, now))
        case 401 | 403:
            return Said.DENIED
        case 400 | 413:
            return Said.MALFORMED
        case _ if status >= 500:
            return Deferred(Reason.PROVIDER_UNAVAILABLE)
        case _:
            return Deferred(Reason.UNKNOWN_ANSWER)


def _identity(location: str | None) -> str:
    """The message's own address, where it is one."""
    return location if location and len(location) <= 500 and re.fullmatch(r"[!-~]+", location) else ""


def _pause(said: str | None, now: datetime) -> timedelta | None:
    """Seconds or a date (RFC 9110, 10.2.3), between a second and an hour; None for nothing that can be read."""
    if said is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}", said):
        asked = timedelta(seconds=int(said))
    else:
        try:
            moment = parsedate_to_datetime(said)
            asked = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now
        except (ValueError, OverflowError):
            return None
    return min(max(asked, SHORTEST_PAUSE), LONGEST_PAUSE)


# ── what is said ────────────────────────────────────────────────────────────────────────────────────


def payload(account: Account, text: Text, receipt: str) -> bytes:
    """What the service worker is given, in as many bytes as any push service takes: what is too long is shortened."""
    title = shortened(one_line(text.subject or text.body), LONGEST_TITLE) or "-"
    body = text.body if text.subject or one_line(text.body) != title else ""
    said = {
        "title": title,
        "body": body,
        "url": _page(account, text),
        "tag": topic(text),
        "urgent": text.urgent,
        "lang": text.language,
        "expires": int(text.expires.timestamp()) if text.expires else None,
        "reference": receipt,
    }
    if (over := len(_json(said)) - LARGEST) > 0:
        said["body"] = _cut(body, _bytes(body) - over)
    return _json(said)


def topic(text: Text) -> str:
    """Of all that is said of one thing, from alert to all-clear: the last replaces what is not delivered yet."""
    if not text.thread:
        return ""
    return base64.urlsafe_b64encode(hashlib.sha256(text.thread[0].encode()).digest()[:24]).decode()


def _page(account: Account, text: Text) -> str:
    """Where the whole text is: the account's own page, or that of our API, under whose name the worker runs."""
    page = account.settings.get("page", "")
    if 0 < len(page) <= LONGEST_PAGE:
        return page
    if not text.thread:
        return ""
    return f"/v1/authorities/{quote(account.authority, safe='')}/web-push/avvisi/{quote(text.thread[-1], safe='')}"


def _json(said: dict[str, object]) -> bytes:
    # Half a character, which only a broken sender writes, must not stop anything.
    return json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def _bytes(words: str) -> int:
    """As they are written in JSON, where a quote and a line break take two."""
    return len(json.dumps(words, ensure_ascii=False).encode(errors="replace")) - 2


def _cut(words: str, most: int) -> str:
    """After the last word that fits."""
    taken, room = 0, most - _bytes("…")
    for position, letter in enumerate(words):
        taken += _bytes(letter)
        if taken > room:
            whole = words[:position]
            return f"{(whole.rpartition(' ')[0] or whole).rstrip(' ,;:(-–')}…"
    return words


def ttl(text: Text, now: datetime) -> timedelta:
    """For how long a push service keeps it: until the alert ends."""
    return min((text.expires - now) if text.expires else UNLESS_SAID, LONGEST_TTL)


# ── one push service, as one account finds it ───────────────────────────────────────────────────────


@dataclass(slots=True)
class Host:
    """How a push service treats an account. One that will not serve us does not cost the people of the others."""

    closed_until: float = 0.0
    because: Reason = Reason.THROTTLED
    halted: bool = False
    served: int = 0
    denied: dict[bytes, int] = field(default_factory=dict)
    """Browsers that were denied, and how many had been served by then."""
    in_a_row: int = 0

    def closed_for(self, now: float) -> timedelta | None:
        return timedelta(seconds=self.closed_until - now) if self.closed_until > now else None

    def close(self, now: float, wait: timedelta, because: Reason) -> None:
        self.closed_until, self.because = max(self.closed_until, now + wait.total_seconds()), because

    def serves(self) -> None:
        self.served += 1
        self.in_a_row, self.halted = 0, False

    def denies(self, browser: bytes) -> bool:
        """Whether it is this browser's own: it was denied before, and others have been served since."""
        before = self.denied.get(browser)
        if before is not None and self.served > before:
            return True
        if before is None:
            self.in_a_row += 1
        if len(self.denied) >= MOST_DENIED:
            self.denied.clear()
        self.denied[browser] = self.served
        return False


@dataclass(slots=True)
class Voice:
    """What an account says of itself: its key, and the headers signed with it, by push service."""

    account: Account
    key: Vapid
    signed: dict[str, tuple[str, float]] = field(default_factory=dict)

    def authorization(self, origin: str) -> str:
        header, until = self.signed.get(origin, ("", 0.0))
        if until <= time.monotonic():
            header = self.key.authorization(origin, self.account.identity, datetime.now(UTC) + TOKEN_LASTS)
            self.signed[origin] = header, time.monotonic() + TOKEN_KEPT
        return header


@dataclass(slots=True)
class Doubt:
    """How one text has gone: where nobody gets it, it is the text."""

    taken: bool = False
    in_a_row: int = 0


class Leavers(Protocol):
    """Who is told that a browser has unsubscribed."""

    def served(self, account: Account, origin: str) -> None:
        """A push service took a text: it is in its right mind."""
        ...

    def gone(self, account: Account, subscription: Subscription) -> None:
        """It says that there is no such subscription any more."""
        ...


class WebPush:
    """Encrypts and posts. The account's token is its VAPID key, its `identity` whom a push service may ask.

    An address is a subscription as `domain/push.py` writes it; `hosts` are push services beside those that browsers
    have, for trials. Make it inside a running event loop.
    """

    name = ChannelName.WEB_PUSH

    def __init__(
        self,
        postmarks: Postmarks,
        leavers: Leavers,
        hosts: frozenset[str] = frozenset(),
        *,
        limit_per_host: int = 100,
        connect: timedelta = timedelta(seconds=3),
        total: timedelta = timedelta(seconds=10),
    ) -> None:
        self.leavers = leavers
        self._postmarks = postmarks
        self._also = hosts
        self._line = Line(limit_per_host=limit_per_host, connect=connect, total=total)
        self._voices: dict[str, Voice] = {}
        self._hosts: dict[tuple[str, str], Host] = {}
        self._doubts: dict[tuple[str, Text], Doubt] = {}

    async def send(self, account: Account, address: str, text: Text, reference: str) -> Outcome:
        """One text to one browser. Raises ChannelHalted and TextRejected."""
        try:
            browser = push.read(address, self._also)
        except AddressError:
            return Refused(Reason.NOT_REACHABLE_HERE)
        voice = self._voice(account)
        host = self._hosts.setdefault((account.name, browser.origin), Host())
        if (closed := host.closed_for(time.monotonic())) is not None:
            return Deferred(host.because, closed)
        seconds = int(ttl(text, datetime.now(UTC)).total_seconds())
        if seconds <= 0:
            return Deferred(Reason.EXPIRED)  # at 0 it would be shown to whoever happens to be online, late
        content = payload(account, text, self._postmarks.receipt(reference))
        answer = await self._line.post(
            URL(browser.endpoint, encoded=True),
            _encrypted(browser, content),
            _headers(voice.authorization(browser.origin), seconds, text),
        )
        if not isinstance(answer, Answer):
            return answer
        said = classify(
            answer.status,
            reference,
            location=answer.location,
            retry_after=answer.retry_after,
            now=datetime.now(UTC),
        )
        return self._understood(account, host, browser, text, said, answer.status)

    async def close(self) -> None:
        """Close connections. No send is under way."""
        await self._line.close()

    def _voice(self, account: Account) -> Voice:
        voice = self._voices.get(account.name)
        if voice is None or voice.account != account:  # read anew, it may have another key
            try:
                key = Vapid.read(account.token.value)
            except WrongKey as wrong:
                cause = f"{wrong}; enter it again"
            else:
                voice = self._voices[account.name] = Voice(account, key)
                return voice
            raise ChannelHalted(account.name, cause)
        return voice

    def _understood(
        self, account: Account, host: Host, browser: Subscription, text: Text, said: Outcome | Said, status: int
    ) -> Outcome:
        """What an answer means for this browser, and for all that the same push service serves."""
        match said:
            case Accepted():
                host.serves()
                self._doubt(account, text).taken = True
                self.leavers.served(account, browser.origin)
            case Refused():
                self.leavers.gone(account, browser)
            case Deferred(reason, wait) if wait is not None:
                host.close(time.monotonic(), min(wait, HOST_PAUSE), reason)
            case Said.DENIED:
                return self._denied(account, host, browser, status)
            case Said.MALFORMED:
                return self._malformed(account, text, status)
        assert not isinstance(said, Said)
        return said

    def _denied(self, account: Account, host: Host, browser: Subscription, status: int) -> Outcome:
        """One browser that subscribed with another's key must not silence the rest, nor may anybody who made it up."""
        self._voices[account.name].signed.pop(browser.origin, None)  # our clock may have been wrong when we signed
        if host.denies(_fingerprint(browser)):
            return Refused(Reason.NOT_REACHABLE_HERE)
        if host.in_a_row < IN_A_ROW:
            return Deferred(Reason.UNKNOWN_ANSWER, DENIED_FOR)
        if not host.halted:
            log.error("a push service denies our key", account=account.name, host=browser.origin, status=status)
        host.halted, host.in_a_row = True, IN_A_ROW - 1  # of whoever is tried next, the first tells
        host.denied.clear()
        if all(one.halted for one in self._hosts_of(account)):
            for one in self._hosts_of(account):
                one.closed_until = 0.0  # the account's own breaker probes now
            raise ChannelHalted(
                account.name,
                f"{status}, no push service takes its key: check vapid_private_key, identity and the clock",
            )
        host.close(time.monotonic(), HOST_PAUSE, Reason.CHANNEL_HALTED)
        return Deferred(Reason.CHANNEL_HALTED, HOST_PAUSE)

    def _hosts_of(self, account: Account) -> Iterator[Host]:
        return (
            host for (name, _), host in self._hosts.items() if name == account.name and (host.served or host.halted)
        )

    def _malformed(self, account: Account, text: Text, status: int) -> Outcome:
        """The same text for all: where others got it, it is this endpoint that is none."""
        doubt = self._doubt(account, text)
        if doubt.taken:
            return Refused(Reason.NOT_REACHABLE_HERE)
        doubt.in_a_row += 1
        if doubt.in_a_row >= IN_A_ROW:
            raise TextRejected(account.name, f"{status}, push services take no such text")
        return Deferred(Reason.UNKNOWN_ANSWER)

    def _doubt(self, account: Account, text: Text) -> Doubt:
        if len(self._doubts) >= 256:
            self._doubts.clear()
        return self._doubts.setdefault((account.name, text), Doubt())


def _encrypted(browser: Subscription, content: bytes) -> bytes:
    """0.15 ms. Handed to a thread it takes twice as long, and three times the processor's."""
    keys = {"p256dh": browser.p256dh, "auth": browser.auth}
    body: bytes = WebPusher({"endpoint": browser.endpoint, "keys": keys}).encode(content)["body"]
    return body


def _headers(authorization: str, seconds: int, text: Text) -> CIMultiDict[str]:
    headers = CIMultiDict(
        {
            "Authorization": authorization,
            "Content-Encoding": "aes128gcm",
            "Content-Type": "application/octet-stream",
            "TTL": str(seconds),
            "Urgency": "high" if text.urgent else "normal",
        }
    )
    if about := topic(text):
        headers["Topic"] = about
    return headers


def _fingerprint(browser: Subscription) -> bytes:
    return hashlib.sha256(browser.endpoint.encode()).digest()
