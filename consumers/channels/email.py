"""E-mail over SMTP: one letter to one person, on connections that stay open to the comune's own mail server."""

import asyncio
import contextlib
import ipaddress
import re
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from functools import lru_cache
from urllib.parse import urlsplit

from aiosmtplib import SMTP, SMTPException, SMTPResponseException

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
from alerting.domain.recipients import EMAIL
from alerting.postmarks import Postmarks
from consumers.channel import Account, Secret, Text
from consumers.channels.letters import Sender, letter

MAILS_A_CONNECTION = 100
IDLE = 50.0
"""Seconds after which a connection is not used again: servers and firewalls forget one after a minute."""
GREYLISTED = timedelta(minutes=5)
THROTTLED = timedelta(seconds=5)
"""A mail server never says for how long."""
BY_AND_BY = timedelta(minutes=10)
"""When a full mailbox may have room, and when somebody may have put a policy right."""


class Said(Enum):
    """What a mail server answers to: the later, the closer to the one person and the one text."""

    HELLO = auto()
    TLS = auto()
    LOGIN = auto()
    SENDER = auto()
    PERSON = auto()
    TEXT = auto()


ENHANCED = re.compile(r"[245]\.\d{1,3}\.\d{1,3}(?![\d.])")

# RFC 3463 and 5248, with the registry of IANA as read in November 2026; for SMTP's own codes RFC 5321, 4.2.3.
REFUSALS = {
    "5.1.1": Reason.NOT_REACHABLE_HERE,  # no such mailbox
    "5.1.2": Reason.NOT_REACHABLE_HERE,  # no such domain
    "5.1.3": Reason.NOT_REACHABLE_HERE,  # no address at all
    "5.1.6": Reason.NOT_REACHABLE_HERE,  # moved, and nobody knows where
    "5.1.10": Reason.NOT_REACHABLE_HERE,  # the domain takes no mail (RFC 7505); Exchange: no such recipient
    "5.2.1": Reason.NOT_REACHABLE_HERE,  # closed
}
LOGIN_WANTED = (530, 534, 535, 538)  # RFC 4954, 6
OUR_ADDRESS_IS_WRONG = ("5.1.7", "5.1.8")
TOO_BIG = ("5.3.4", "5.2.3")
QUEUED_AS = re.compile(r"queued as ([^\s>]+)|\bid=([^\s>]+)", re.IGNORECASE)


def classify(to: Said, code: int, words: str, account: str) -> Outcome:
    """What an answer means: the first digit says whether it is for good, the enhanced code says why.

    Raises ChannelHalted and TextRejected. What nobody has documented is never a refusal.
    """
    enhanced = _enhanced(code, words)
    if 200 <= code < 300:
        return Accepted(_identity(words)) if to is Said.TEXT else Deferred(Reason.UNKNOWN_ANSWER)
    if to is Said.TLS and (code == 454 or code >= 500):
        raise ChannelHalted(account, f"{code}, its mail server does not begin TLS; ask who runs it")
    if code in LOGIN_WANTED or (to is Said.LOGIN and code >= 500):
        raise ChannelHalted(account, f"{code}, the username or the password is not valid; enter them again")
    if 400 <= code < 500:
        return _not_now(to, code, enhanced)
    if 500 <= code < 600:
        return _not_ever(to, code, enhanced, account)
    return Deferred(Reason.UNKNOWN_ANSWER)


def _enhanced(code: int, words: str) -> str:
    """The enhanced code an answer begins with, where it is of the same kind as the code itself."""
    found = ENHANCED.match(words)
    return found[0] if found and found[0].startswith(str(code)[:1]) else ""


def _identity(words: str) -> str:
    """The only name a mail server gives a letter: "2.0.0 Ok: queued as 4BzX2k1Jt9"."""
    found = QUEUED_AS.search(words)
    return (found[1] or found[2] if found else " ".join(words.split()))[:100]


def _not_now(to: Said, code: int, enhanced: str) -> Deferred:
    if enhanced.startswith("4.7.") or code == 454 or enhanced == "4.5.3":
        # Before anybody is named it is about us; afterwards it is greylisting, which knows sender and person.
        if to in (Said.PERSON, Said.TEXT) and code != 421 and enhanced != "4.5.3":
            return Deferred(Reason.THROTTLED, GREYLISTED)
        return Deferred(Reason.THROTTLED, THROTTLED, whole_account=True)
    if enhanced.startswith("4.2.") and to in (Said.PERSON, Said.TEXT):
        return Deferred(Reason.POLICY, BY_AND_BY if enhanced == "4.2.2" else None)
    return Deferred(Reason.PROVIDER_UNAVAILABLE)


def _not_ever(to: Said, code: int, enhanced: str, account: str) -> Outcome:
    if enhanced == "5.2.2" or (code == 552 and not enhanced and to is Said.PERSON):
        return Deferred(Reason.POLICY, BY_AND_BY)
    if enhanced in TOO_BIG or enhanced.startswith("5.6.") or (code == 552 and to is not Said.PERSON):
        raise TextRejected(account, f"{code} {enhanced}".strip() + ", its mail server takes no such letter; shorten it")
    if enhanced in OUR_ADDRESS_IS_WRONG:
        raise ChannelHalted(account, f"{code} {enhanced}, its mail server does not let it write under this address")
    if enhanced.startswith("5.7."):
        if to is Said.PERSON:
            # It may be this person's domain alone, whose refusal must not silence everybody else. Where nine in
            # ten hear it, the account is halted for that (mass_failure.py).
            return Deferred(Reason.UNKNOWN_ANSWER, BY_AND_BY)
        raise ChannelHalted(account, f"{code} {enhanced}, the mail is refused by policy: check SPF, DKIM and DMARC")
    if to in (Said.PERSON, Said.TEXT) and enhanced in REFUSALS:
        return Refused(REFUSALS[enhanced])
    if to is Said.PERSON and code == 551:
        return Refused(Reason.NOT_REACHABLE_HERE)
    return Deferred(Reason.UNKNOWN_ANSWER)


# ── where the mail server is ────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Server:
    """A mail server. `tls` from the first byte, else by STARTTLS; `plain` only where no wire is."""

    host: str
    port: int
    tls: bool
    plain: bool


@lru_cache(maxsize=1024)
def server_at(url: str) -> Server | None:
    """The server of smtps://host:465, smtp://host:587 or, on this machine, smtp://127.0.0.1; None for no such URL."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme not in ("smtp", "smtps") or not host or parts.username or parts.path.strip("/") or parts.query:
        return None
    tls = parts.scheme == "smtps"
    return Server(host, port or (465 if tls else 587), tls, plain=not tls and _is_loopback(host))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


# ── connections ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class Kept:
    """A connection that has said who we are, and how many letters it has carried."""

    client: SMTP
    mails: int = 0
    used_at: float = field(default_factory=time.monotonic)

    def is_good(self) -> bool:
        return self.client.is_connected and self.mails < MAILS_A_CONNECTION and time.monotonic() - self.used_at < IDLE

    def part(self) -> None:
        """Say goodbye, and do not wait for the answer."""
        with contextlib.suppress(SMTPException, OSError):
            if self.client.protocol is not None:
                self.client.protocol.write(b"QUIT\r\n")
        self.client.close()


class Office:
    """The connections of one account to its server. No more at once than `limit`; whoever comes later waits."""

    def __init__(self, limit: int) -> None:
        self.room = asyncio.Semaphore(limit)
        self._idle: list[Kept] = []

    def take(self) -> Kept | None:
        """The one used last, so that those not needed grow old."""
        while self._idle:
            kept = self._idle.pop()
            if kept.is_good():
                return kept
            kept.part()
        return None

    def give_back(self, kept: Kept) -> None:
        kept.used_at = time.monotonic()
        if kept.is_good():
            self._idle.append(kept)
        else:
            kept.part()

    def close(self) -> None:
        for kept in self._idle:
            kept.part()
        self._idle.clear()


class WasAway(Exception):
    """A kept connection had been closed before we said anything on it."""


@dataclass(slots=True)
class Errand:
    """One letter on its way. `spoken` from the moment the line that ends it is written."""

    account: Account
    server: Server
    return_path: str
    address: str
    content: bytes
    spoken: bool = False


class Email:
    """The account's `identity` is the address people see, its token the password of `username` at its server.

    `bounces` in its settings is the mailbox that takes what comes back, if its server knows plus-addresses;
    `from_name` is shown beside the address. Make it inside a running event loop.
    """

    name = ChannelName.EMAIL

    def __init__(
        self,
        postmarks: Postmarks,
        public_url: str = "",
        *,
        limit_per_host: int = 10,
        connect: timedelta = timedelta(seconds=5),
        total: timedelta = timedelta(seconds=30),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._postmarks = postmarks
        self._public_url = public_url.rstrip("/")
        self._limit = limit_per_host
        self._connect, self._total = connect.total_seconds(), total.total_seconds()
        self._tls = tls or ssl.create_default_context()
        self._offices: dict[tuple[Server, str, Secret], Office] = {}

    async def send(self, account: Account, address: str, text: Text, reference: str) -> Outcome:
        """One letter to one mailbox. Raises ChannelHalted and TextRejected."""
        if EMAIL.fullmatch(address) is None:
            return Refused(Reason.NOT_REACHABLE_HERE)
        errand = self._errand(account, address, text, reference)
        office = self._office(errand)
        try:
            async with asyncio.timeout(self._total), office.room:
                if text.expires is not None and datetime.now(UTC) >= text.expires:
                    return Deferred(Reason.EXPIRED)  # others were before it for too long
                return await self._carry(office, errand)
        except TimeoutError:
            return Uncertain() if errand.spoken else Deferred(Reason.PROVIDER_UNAVAILABLE)

    async def close(self) -> None:
        """Close connections. No send is under way."""
        for office in self._offices.values():
            office.close()

    # ── what goes out ───────────────────────────────────────────────────────────────────────────────

    def _errand(self, account: Account, address: str, text: Text, reference: str) -> Errand:
        server = server_at(account.base_url)
        if server is None:
            raise ChannelHalted(
                account.name, "its base_url is no mail server; write smtp://host:587 or smtps://host:465"
            )
        if not account.token.value or any(ord(letter) < 32 for letter in account.token.value):
            raise ChannelHalted(account.name, "its password is malformed; enter it again")
        if EMAIL.fullmatch(account.identity) is None:
            raise ChannelHalted(account.name, "its identity is no e-mail address; correct the comune's file")
        sender = Sender(account.identity, account.settings.get("from_name", ""))
        leave_at = self._way_to_leave(account, address)
        built = letter(text, sender, leave_at is not None)
        # The same for every attempt: a mailbox that got the first one does not show the second.
        said_once = re.sub(r"\.[0-9]+\Z", ".1", reference)
        message_id = f"{self._postmarks.mark(said_once)}@{sender.domain}"
        content = built.to(address, message_id, datetime.now(UTC), leave_at)
        return Errand(account, server, self._return_path(account, reference), address, content)

    def _way_to_leave(self, account: Account, address: str) -> str | None:
        if not self._public_url:
            return None
        return f"{self._public_url}/v1/unsubscribe/{self._postmarks.way_to_leave(account.name, address)}"

    def _return_path(self, account: Account, reference: str) -> str:
        """VERP where a mailbox for bounces is known, else our own address; the Message-ID tells them apart too."""
        mailbox, at, domain = account.settings.get("bounces", "").partition("@")
        if not at:
            return account.identity
        marked = f"{mailbox}+{self._postmarks.mark(reference)}@{domain}"
        return marked if EMAIL.fullmatch(marked) else account.identity

    def _office(self, errand: Errand) -> Office:
        account = errand.account
        key = (errand.server, account.settings.get("username", ""), account.token)
        return self._offices.setdefault(key, Office(self._limit))

    # ── a conversation ──────────────────────────────────────────────────────────────────────────────

    async def _carry(self, office: Office, errand: Errand) -> Outcome:
        """On a connection that is open, or else on a new one."""
        while (kept := office.take()) is not None:
            with contextlib.suppress(WasAway):
                return await self._converse(office, kept, errand)
        opened = await self._open(errand)
        if not isinstance(opened, Kept):
            return opened
        try:
            return await self._converse(office, opened, errand)
        except WasAway:
            return Deferred(Reason.PROVIDER_UNAVAILABLE)

    async def _converse(self, office: Office, kept: Kept, errand: Errand) -> Outcome:
        """Who writes, to whom, and what. The connection is kept if it is fit for the next letter."""
        client, fit = kept.client, False
        try:
            answer = await self._say(kept, errand)
            kept.mails += errand.spoken
            # 421 is a goodbye, whatever it answers; after any other refusal the next letter needs a fresh start.
            fit = answer[1] != 421 and (errand.spoken or await _starts_anew(client))
            return self._understood(errand, *answer)
        except (SMTPException, OSError) as error:
            if errand.spoken:
                malformed = isinstance(error, SMTPResponseException)
                return Uncertain(Reason.UNKNOWN_ANSWER if malformed else Reason.PROVIDER_SILENT)
            if isinstance(error, SMTPResponseException):
                return Deferred(Reason.UNKNOWN_ANSWER)
            return Deferred(Reason.PROVIDER_UNAVAILABLE)
        finally:
            if fit:
                office.give_back(kept)
            else:
                client.close()

    async def _say(self, kept: Kept, errand: Errand) -> tuple[Said, int, str]:
        """The answer that ended it. Raises WasAway where the line was dead before anything was said."""
        client = kept.client
        size = [f"SIZE={len(errand.content)}".encode()] if client.supports_extension("size") else []
        try:
            code, words = await client.execute_command(b"MAIL", b"FROM:<%b>" % errand.return_path.encode(), *size)
        except SMTPResponseException:
            raise
        except (SMTPException, OSError) as error:
            raise WasAway from error
        if code == 421 and kept.mails:
            raise WasAway  # it had waited too long for us
        if code != 250:
            return Said.SENDER, code, words
        code, words = await client.execute_command(b"RCPT", b"TO:<%b>" % errand.address.encode())
        if code not in (250, 251):
            return Said.PERSON, code, words
        code, words = await client.execute_command(b"DATA")
        if code != 354:
            return Said.TEXT, code, words
        assert client.protocol is not None
        client.protocol.write(errand.content)
        # Until the dot that ends it the server has nothing: who dies before has not been told.
        await client.protocol._drain_helper()
        errand.spoken = True
        client.protocol.write(b".\r\n")
        code, words = await client.protocol.read_response()
        return Said.TEXT, code, words

    def _understood(self, errand: Errand, to: Said, code: int, words: str) -> Outcome:
        outcome = classify(to, code, words, errand.account.name)
        if errand.spoken and outcome == Deferred(Reason.UNKNOWN_ANSWER) and code < 400:
            return Uncertain(Reason.UNKNOWN_ANSWER)  # neither yes nor no, after all was said
        return outcome

    async def _open(self, errand: Errand) -> Kept | Outcome:
        """A connection that has said who we are, or why there is none."""
        server, account = errand.server, errand.account
        client = SMTP(
            hostname=server.host,
            port=server.port,
            use_tls=server.tls,
            start_tls=False,
            tls_context=self._tls,
            timeout=self._connect,
            local_hostname=account.identity.rpartition("@")[2],
        )
        to, code, words, trouble, opened = Said.HELLO, 0, "", "", False
        try:
            await client.connect()
            await client.ehlo()
            if not server.tls and not server.plain:
                to = Said.TLS
                if client.supports_extension("starttls"):
                    await client.starttls(tls_context=self._tls)
                    await client.ehlo()
                else:
                    trouble = "its mail server offers no STARTTLS; use smtps:// if it has that"
            if not trouble and (username := account.settings.get("username")):
                to = Said.LOGIN
                if client.supports_extension("auth"):
                    await client.login(username, account.token.value)
                else:
                    trouble = "its mail server offers no login; leave out the username, or use another port"
            opened = not trouble
        except SMTPResponseException as error:
            code, words = error.code, error.message
        except (SMTPException, OSError) as error:
            if any(isinstance(one, ssl.SSLCertVerificationError) for one in _chain(error)):
                trouble = "the certificate of its mail server is not trusted; check the name in its url"
        finally:
            if not opened:
                client.close()
        # Outside of `except`: what the library raises may quote what we said.
        if opened:
            client.timeout = None  # the errand as a whole has a limit
            return Kept(client)
        if trouble:
            raise ChannelHalted(account.name, trouble)
        return classify(to, code, words, account.name) if code else Deferred(Reason.PROVIDER_UNAVAILABLE)


async def _starts_anew(client: SMTP) -> bool:
    """Whether the connection has forgotten a letter it did not take."""
    try:
        return (await client.execute_command(b"RSET")).code == 250
    except (SMTPException, OSError):
        return False


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
