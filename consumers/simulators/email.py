"""A mail server as RFC 5321 has it: AUTH, STARTTLS, SIZE, enhanced codes, limits; and what reached each mailbox.

What stands behind the plus of an address is obeyed: maria+550@… does not exist, +450 is busy, +451 is greylisted,
+421 closes the line, +452 is full, +552 finds the letter too big, +5.7.1 is refused by policy, +slow waits, +silent
says nothing more once it has the letter, +dies-after-dot keeps it and hangs up, +dies-before-dot hangs up at DATA.
The simulators' common 404, 429, 503, 504 and 505 mean the same here.
"""

import asyncio
import logging
import random
import ssl
import time
from collections.abc import Callable
from email import message_from_bytes
from email.header import decode_header, make_header
from typing import Any

from aiohttp import web
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from pydantic import BaseModel, ConfigDict, Field

from consumers.simulators.limits import Bucket
from consumers.simulators.phones import Phones
from consumers.simulators.serving import Limits, Served, serve, told

GONE = "550 5.1.1 <{to}>: Recipient address rejected: User unknown in local recipient table"
AT_PERSON = {
    "550": GONE,
    "404": GONE,
    "450": "450 4.2.1 <{to}>: Mailbox is busy, try again later",
    "451": "451 4.7.1 <{to}>: Recipient address rejected: Greylisted, see you later",
    "429": "451 4.7.1 <{to}>: Recipient address rejected: Greylisted, see you later",
    "452": "452 4.2.2 <{to}>: Mailbox full",
    "551": "551 5.1.6 <{to}>: User not local; please try elsewhere",
    "553": "553 5.1.3 <{to}>: Bad recipient address syntax",
    "554": "554 5.4.14 <{to}>: Nobody has ever heard of this code",
    "5.7.1": "550 5.7.1 <{to}>: Recipient address rejected: Access denied",
    "421": "421 4.3.2 Service shutting down and closing transmission channel",
    "503": "421 4.3.2 Service shutting down and closing transmission channel",
}
AT_TEXT = {
    "552": "552 5.3.4 Message size exceeds fixed limit",
    "5.6.0": "554 5.6.0 Message contains invalid headers",
    "5.7.26": "550 5.7.26 Unauthenticated email is not accepted due to the domain's DMARC policy",
    "421-text": "421 4.3.0 Temporary system problem",
}
AS_A_FAULT = {
    404: GONE,
    429: "421 4.7.0 Too many messages, slow down",
    503: "421 4.3.2 Service shutting down and closing transmission channel",
    535: "530 5.7.0 Authentication required",
    550: "550 5.7.1 Sender address rejected by policy",
}
SLOWLY = 1.0  # second
logging.getLogger("mail.log").setLevel(logging.ERROR)  # aiosmtpd warns of its own deprecated attributes at each login

ENCLOSED = frozenset({"image/jpeg", "image/png", "application/pdf"})
"""What a mail program shows of a letter beside its words."""


class Mailer(BaseModel):
    """Who may hand in mail: a user name, its password, and the address it writes under (any, where there is none)."""

    model_config = ConfigDict(extra="forbid")

    password: str
    address: str = ""


class Config(Limits):
    """What this simulator can be told. Times are seconds, shares 0 to 1. A fault is answered at MAIL FROM."""

    accounts: dict[str, Mailer] = Field(default_factory=lambda: {"allerta": Mailer(password="simulated")})
    per_second: float = 50.0
    burst: float = 0.2
    """How much of a second's worth may come at once."""
    most_bytes: int = 10_240_000
    """As Postfix has it (message_size_limit)."""
    mails_a_connection: int = 1000
    smtp_port: int = 0
    """Where mail is taken; read at the start only."""


class EmailSimulator:
    """One mail server, and every mailbox it delivers to."""

    def __init__(self, config: Config, tls: ssl.SSLContext | None = None) -> None:
        self.phones = Phones("Posta elettronica")
        self.raw: list[bytes] = []
        """Every letter as it came, for who wants to read more of it than its text."""
        self.connections = 0
        self._tls = tls
        self._dice = random.Random(8)  # the same bad luck in every run
        self._server: asyncio.Server | None = None
        self._lines: set[Line] = set()
        self._take_config(config)

    def _take_config(self, config: Config) -> None:
        self._config = config
        self._bucket = Bucket(config.per_second, config.per_second * config.burst)

    async def listen(self, host: str) -> None:
        """Take mail. The port is the configuration's, or a free one."""
        create = asyncio.get_running_loop().create_server
        self._server = await create(self._answer, host, self._config.smtp_port, backlog=1024)

    @property
    def smtp_url(self) -> str:
        """Where mail is taken."""
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"smtp://{host}:{port}"

    def routes(self) -> list[web.RouteDef]:
        """Where a letter may be read whole."""
        return [web.get("/__sim/raw/{n}", self._get_raw)]

    def configure(self, changes: dict[str, Any]) -> dict[str, Any]:
        """Change what is named, keep the rest, return all of it. Raises ValueError."""
        self._take_config(told(self._config, changes))
        return self._config.model_dump()

    def reset(self) -> None:
        """Forget all that happened; keep the configuration."""
        self.phones.forget()
        self.raw.clear()
        self._take_config(self._config)

    def webhooks(self) -> dict[str, int]:
        """A mail server posts nothing: what comes back is mail."""
        return {}

    async def close(self) -> None:
        """Free the port, and hang up on whoever is still there."""
        if self._server is not None:
            self._server.close()
        for line in list(self._lines):
            line.hang_up()

    async def _get_raw(self, request: web.Request) -> web.Response:
        number = request.match_info["n"]
        if not number.isdecimal() or not 0 < int(number) <= len(self.raw):
            return web.json_response({"error": "there is no such letter; count from 1"}, status=404)
        return web.Response(body=self.raw[int(number) - 1], content_type="message/rfc822")

    # ── a conversation ──────────────────────────────────────────────────────────────────────────────

    def _answer(self) -> "Line":
        self.connections += 1
        return Line(self, self._config, self._tls, self._lines)

    def knows(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: object) -> AuthResult:
        """Whether a user name and a password belong together."""
        if isinstance(data, LoginPassword):
            name, password = data.login.decode("utf-8", "replace"), data.password.decode("utf-8", "replace")
            mailer = self._config.accounts.get(name)
            if mailer is not None and mailer.password == password:
                return AuthResult(success=True, auth_data=name)
        return AuthResult(success=False, handled=False)

    async def handle_MAIL(
        self, server: "Line", session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Who writes: known, under their own address, and not too often."""
        await asyncio.sleep(self._config.latency)
        mailer = self._config.accounts.get(str(session.auth_data)) if session.authenticated else None
        server.fault = self._fault()
        refused = AS_A_FAULT.get(server.fault or 0, "").format(to="somebody")
        if mailer is None:
            refused = "530 5.7.0 Authentication required"
        elif server.mails >= self._config.mails_a_connection:
            refused = "421 4.7.0 Too many messages on this connection"
        elif mailer.address and not _is_under(address, mailer.address):
            refused = f"553 5.7.1 <{address}>: Sender address rejected: not owned by user"
        elif not refused and self._bucket.take(time.time() + self._config.clock_ahead) > 0:
            refused = "450 4.7.1 Error: too much mail from this account"
        if refused:
            return self._refuse(server, refused)
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 Ok"

    async def handle_RCPT(
        self, server: "Line", session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """To whom: one at a time, as whoever wants its bounces told apart sends."""
        wish = _wish(address)
        if wish in AT_PERSON:
            return self._refuse(server, AT_PERSON[wish].format(to=address))
        if wish == "slow":
            await asyncio.sleep(SLOWLY)
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    async def handle_DATA(self, server: "Line", session: Session, envelope: Envelope) -> str:
        """What is written. Whoever hangs up now, or falls silent, has it or has it not: only they know."""
        (to, *_) = envelope.rcpt_tos
        wish = {404: "550", 504: "silent", 505: "dies-after-dot"}.get(server.fault or 0) or _wish(to)
        if wish in AT_TEXT:
            return self._refuse(server, AT_TEXT[wish])
        if wish in ("504", "silent"):
            self.phones.refused["silent"] += 1
            await asyncio.Event().wait()  # until the caller hangs up
        number = self._take(envelope, to, str(session.auth_data))
        server.mails += 1
        if wish in ("505", "dies-after-dot"):
            server.hang_up()
        return f"250 2.0.0 Ok: queued as {number}"

    def _fault(self) -> int | None:
        for code, share in self._config.faults.items():
            if self._dice.random() < share:
                return code
        return None

    def _refuse(self, server: "Line", answer: str) -> str:
        self.phones.refused[answer[:3]] += 1
        if answer.startswith("421"):
            asyncio.get_running_loop().call_later(0.01, server.hang_up)
        return answer

    def _take(self, envelope: Envelope, to: str, account: str) -> str:
        raw = envelope.original_content or b""
        self.raw.append(raw)
        number = f"{len(self.raw):08X}"
        subject, text, enclosed = _shown(raw)
        self.phones.receive(
            at=time.time(),
            to=to,
            account=account,
            identity=number,
            text=f"{subject}\n\n{text}",
            reference=envelope.mail_from,
            media=self.phones.keep(*enclosed) if enclosed else None,
        )
        return number


class Line(SMTP):
    """One connection: how many letters it has brought, and what it has coming."""

    def __init__(
        self, simulator: EmailSimulator, config: Config, tls: ssl.SSLContext | None, lines: "set[Line]"
    ) -> None:
        super().__init__(
            simulator,
            data_size_limit=config.most_bytes,
            hostname="posta.simulata",
            ident="ESMTP (simulata)",
            tls_context=tls,
            require_starttls=tls is not None,
            auth_require_tls=tls is not None,
            auth_exclude_mechanism=["CRAM-MD5"],
            authenticator=simulator.knows,
            timeout=300,
        )
        self.mails = 0
        self.fault: int | None = None
        self._lines = lines

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody calls; or, after STARTTLS, goes on in confidence."""
        self._lines.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """They are gone."""
        self._lines.discard(self)
        super().connection_lost(error)

    async def smtp_DATA(self, arg: str) -> None:
        """Some hang up before they have read a word."""
        if self.envelope is not None and any(_wish(to) == "dies-before-dot" for to in self.envelope.rcpt_tos):
            self.hang_up()
            return
        await super().smtp_DATA(arg)

    def hang_up(self) -> None:
        """Without a goodbye."""
        if isinstance(self.transport, asyncio.Transport):
            self.transport.abort()


def _shown(raw: bytes) -> tuple[str, str, tuple[bytes, str, str] | None]:
    """Subject, text and picture or PDF of a letter. By the old policy of `email`: the new takes four times as long."""
    letter = message_from_bytes(raw)
    subject = str(make_header(decode_header(str(letter.get("Subject", "")))))
    text, enclosed = "", None
    for part in letter.walk():
        kind = part.get_content_type()
        if kind == "text/plain" and not text and isinstance(payload := part.get_payload(decode=True), bytes):
            text = payload.decode("utf-8", "replace").replace("\r\n", "\n").strip()
        elif kind in ENCLOSED and isinstance(payload := part.get_payload(decode=True), bytes):
            enclosed = payload, kind, part.get_filename() or ""
    return subject, text, enclosed


def _wish(address: str) -> str:
    """What the sender of a test wants to happen: what stands between the plus and the @."""
    return address.partition("@")[0].partition("+")[2]


def _is_under(address: str, own: str) -> bool:
    """Whether an address is one's own, or of one's own domain: return paths are."""
    return address == own or address.rpartition("@")[2] == own.rpartition("@")[2]


async def start(
    config: dict[str, Any] | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    tls: Callable[[], ssl.SSLContext] | None = None,
) -> Served:
    """Listen on a port for mail and on one for people. Raises ValueError for a wrong config."""
    simulator = EmailSimulator(told(Config(), config or {}), tls() if tls else None)
    await simulator.listen(host)
    return await serve(simulator, host=host, port=port)
