"""SMS over SMPP 3.4: a text in its parts, over one session an account, and what the receipts say."""

import asyncio
import random
import re
import zlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import structlog
from aiosmpplib.protocol import SubmitSm
from aiosmpplib.state import NPI, TON, PhoneNumber

from alerting.domain.delivery import (
    Accepted,
    ChannelHalted,
    Deferred,
    Outcome,
    Progress,
    Reason,
    Refused,
    TextRejected,
    Uncertain,
)
from alerting.domain.delivery import Channel as ChannelName
from alerting.domain.gsm import Encoding
from alerting.domain.recipients import AddressError, from_wa_id, phone, reads_texts
from alerting.domain.sms import Part, Wrote, alphabet_of, in_letters_of_sms, part_said, parts_of
from consumers.channel import Account, Called, Inbox, Pairs, Report, Secret, Text
from consumers.channels import smpp
from consumers.channels.smpp import BindRefused, Delivered, NotSpoken, Reply, Session, Silence

log = structlog.get_logger()

PASSWORD = re.compile(r"[!-~]{1,8}")
"""SMPP 3.4, 5.2.2: at most eight characters and a NUL."""
SYSTEM_ID = re.compile(r"[!-~]{1,15}")
MOST_PARTS = 10
"""Each is paid, and one that is lost garbles the whole. Alerts have three; only an answer could be as long."""
HAS_HEADER = 0x40
"""In esm_class: the octets begin with what part of what text this is."""
LONGEST_VALIDITY = timedelta(days=60)
"""Beyond, some SMSCs find a validity period invalid; none keeps a text so long."""

CODINGS = {
    # What a setting `data_coding` says of texts in the 7-bit alphabet: whether Latin-1 is meant, and how it is called.
    "gsm": (False, None),  # data_coding 0, the SMSC's default, one septet an octet
    "default-latin-1": (True, None),  # an SMSC whose default is Latin-1
    "latin-1": (True, "latin_1"),  # data_coding 3
}

# What a command_status means; the rest is nobody's fault and tried again. SMPP 3.4, 5.1.3, and channels.md 9.
OUTCOMES: dict[int, Outcome] = {
    0x58: Deferred(Reason.THROTTLED, timedelta(seconds=1), whole_account=True),  # RTHROTTLED
    0x14: Deferred(Reason.THROTTLED, timedelta(seconds=1), whole_account=True),  # RMSGQFUL
    0x04: Deferred(Reason.PROVIDER_UNAVAILABLE),  # RINVBNDSTS: the session is bound again
    0x05: Deferred(Reason.PROVIDER_UNAVAILABLE),  # RALYBND: another of ours is bound, or has not been missed yet
    0x08: Deferred(Reason.PROVIDER_UNAVAILABLE),  # RSYSERR
    0x45: Deferred(Reason.PROVIDER_UNAVAILABLE),  # RSUBMITFAIL
    0x64: Deferred(Reason.PROVIDER_UNAVAILABLE),  # RX_T_APPN
    0xFE: Deferred(Reason.PROVIDER_UNAVAILABLE),  # RDELIVERYFAILURE
    0x0B: Refused(Reason.NOT_REACHABLE_HERE),  # RINVDSTADR
    0x50: Refused(Reason.NOT_REACHABLE_HERE),  # RINVDSTTON
    0x51: Refused(Reason.NOT_REACHABLE_HERE),  # RINVDSTNPI
    0x65: Refused(Reason.POLICY),  # RX_P_APPN
    0x66: Refused(Reason.POLICY),  # RX_R_APPN
}
HALTS = {
    0x0D: "0x0D, it would not bind us; ask the provider whether the account is open",
    0x0E: "0x0E, the password is not valid; enter it again",
    0x0F: "0x0F, it knows no such user; correct the account's settings",
}
REJECTIONS = {
    0x01: "0x01, a part is too long for it; correct the data_coding in the account's settings",
    0x0A: "0x0A, the sender is not registered; register the alias through the provider",
    0x48: "0x48, the sender's kind of number is wrong",
    0x49: "0x49, the sender's numbering plan is wrong",
    0x15: "0x15, the service type is wrong",
    0x43: "0x43, it takes no texts in parts",
    0x61: "0x61, the time of delivery is wrong",
    0x62: "0x62, the validity period is wrong",
    **dict.fromkeys(range(0xC0, 0xC5), "an optional parameter is wrong"),
}

STATES: dict[str, tuple[Progress, Reason | None]] = {
    # SMPP 3.4, 5.2.28 and appendix B, by the word of a receipt and by the number of message_state.
    **dict.fromkeys(("ENROUTE", "ACCEPTD", "1", "6"), (Progress.SENT, None)),
    **dict.fromkeys(("DELIVRD", "2"), (Progress.DELIVERED, None)),
    **dict.fromkeys(("EXPIRED", "3"), (Progress.FAILED, Reason.EXPIRED)),
    **dict.fromkeys(("DELETED", "4"), (Progress.FAILED, Reason.POLICY)),
    **dict.fromkeys(("UNDELIV", "5"), (Progress.FAILED, Reason.NOT_REACHABLE_HERE)),
    **dict.fromkeys(("UNKNOWN", "7"), (Progress.FAILED, Reason.UNKNOWN_ANSWER)),
    **dict.fromkeys(("REJECTD", "8"), (Progress.FAILED, Reason.POLICY)),
}
ID_SAID = re.compile(r"(?:^|\s)id:([0-9A-Za-z-]{1,65})", re.IGNORECASE)
STAT_SAID = re.compile(r"(?:^|\s)stat:([A-Z]{1,7})", re.IGNORECASE)

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0  # seconds between two attempts to bind


def classify(status: int, message_id: str, account: str) -> Outcome:
    """What an answer to one submit means. Raises ChannelHalted and TextRejected.

    What nobody has documented is never a refusal.
    """
    if status == 0:
        return Accepted(message_id) if message_id else Uncertain(Reason.UNKNOWN_ANSWER)
    if status in HALTS:
        raise ChannelHalted(account, HALTS[status])
    if status in REJECTIONS:
        raise TextRejected(account, REJECTIONS[status])
    return OUTCOMES.get(status, Deferred(Reason.UNKNOWN_ANSWER))


def worst(outcomes: list[Outcome]) -> Outcome:
    """What became of a text by what became of its parts: of half a text nobody can read anything.

    One part not taken is a text to say again, whatever became of the others; only then it may have arrived.
    """
    for kind in (Refused, Deferred, Uncertain):
        if found := next((outcome for outcome in outcomes if isinstance(outcome, kind)), None):
            return found
    return outcomes[0]


def report_of(delivered: Delivered, account: str) -> Report | None:
    """What a receipt says, by its parameters and else by its words; None where it says nothing we understand."""
    said_id, said_stat = ID_SAID.search(delivered.words), STAT_SAID.search(delivered.words)
    name = delivered.message_id or (said_id[1] if said_id else "")
    stat = said_stat[1].upper() if said_stat else str(delivered.state)
    known = STATES.get(stat) or STATES.get(str(delivered.state))
    if not name or known is None:
        return None
    return Report(account, name, (delivered.source, delivered.destination), *known)


def written(delivered: Delivered, *, latin_1: bool) -> Wrote | None:
    """What a person wrote; None where it is no text, or nobody's who could be answered."""
    alphabet = alphabet_of(delivered.coding, latin_1=latin_1)
    try:
        sender = from_wa_id(delivered.source) if delivered.with_country else phone(delivered.source)
    except AddressError:
        return None
    part = (*(delivered.part or (0, 1, 1)), delivered.octets)
    said = part_said(delivered.octets) if delivered.has_header else part
    if alphabet is None or said is None:
        return None
    reference, parts, number, octets = said
    return Wrote(sender.e164, delivered.destination, octets, alphabet, reference, parts, number)


class SmsSmpp:
    """Every account has a line of its own in this process, bound as long as it works.

    The account's token is the SMPP password. Make it inside a running event loop.
    """

    name = ChannelName.SMS

    def __init__(
        self,
        pairs: Pairs,
        inbox: Inbox,
        *,
        limit_per_host: int = 20,
        connect: timedelta = timedelta(seconds=3),
        total: timedelta = timedelta(seconds=10),
    ) -> None:
        self.pairs = pairs
        self._inbox = inbox
        self._window = limit_per_host
        self._connect = connect
        self._patience = total
        self._lines: dict[tuple[str, str, Secret], _Line] = {}

    async def send(self, account: Account, address: str, text: Text, reference: str) -> Outcome:
        """One text to one telephone, in as many parts as it takes. Raises ChannelHalted and TextRejected."""
        if not reads_texts(address):
            return Refused(Reason.NOT_REACHABLE_HERE)
        known = CODINGS.get(account.settings.get("data_coding", "gsm"))
        if known is None:
            raise ChannelHalted(account.name, f"its data_coding is none of {', '.join(CODINGS)}; correct the settings")
        latin_1, coding = known
        parts = parts_of(in_letters_of_sms(text.body), zlib.crc32(reference.encode()), latin_1=latin_1)
        if len(parts) > MOST_PARTS:
            raise TextRejected(account.name, f"it takes {len(parts)} parts; shorten it to {MOST_PARTS}")
        try:
            session = await self._line(account).session()
        except NotSpoken:
            return Deferred(Reason.PROVIDER_UNAVAILABLE)
        said = [
            self._submit(session, account, address, _submit_sm(account, address, part, coding, text), called)
            for part in parts
            for called in [_called(self.pairs, account, address, reference, len(parts))]
        ]
        if len(said) == 1:
            return await said[0]
        return worst(_raised_first(await asyncio.gather(*said, return_exceptions=True)))

    async def _submit(
        self,
        session: Session,
        account: Account,
        address: str,
        part: Callable[[], SubmitSm],
        called: Callable[[Reply], None],
    ) -> Outcome:
        try:
            reply = await session.submit(part, called)
        except NotSpoken:
            return Deferred(Reason.PROVIDER_UNAVAILABLE)
        except _Over:
            return Deferred(Reason.EXPIRED)
        except Silence:
            return Uncertain()
        if reply.status == 0x04:
            session.hang_up()
        return classify(reply.status, reply.message_id, account.name)

    async def stay_bound(self, accounts: Callable[[], list[Account]]) -> None:
        """Keep every account's line bound, until cancelled: receipts come also when nobody is told anything."""
        while True:
            for account in accounts():
                with suppress(NotSpoken, ChannelHalted):
                    await self._line(account).session()
            await asyncio.sleep(1.0)

    async def close(self) -> None:
        """Say goodbye to every SMSC, and keep what they said. No send is under way."""
        await asyncio.gather(*(line.close() for line in self._lines.values()))
        await self.pairs.flush()

    def _line(self, account: Account) -> "_Line":
        user = account.settings.get("user", "")
        key = (account.base_url, user, account.token)
        if key not in self._lines:
            self._lines[key] = _Line(account, user, self._window, self._connect, self._patience, self._heard)
        self._lines[key].speaks_for(account)
        return self._lines[key]

    async def _heard(self, line: "_Line", delivered: Delivered) -> None:
        """Returns when it is kept. What nobody here understands is not worth hearing again."""
        if delivered.is_receipt and (report := report_of(delivered, line.paced_as)):
            await self.pairs.reported(report)
        elif delivered.is_text and (wrote := written(delivered, latin_1=line.takes_default_for_latin_1)):
            await self._inbox.wrote(line.account_at(wrote.to), wrote)
        else:
            log.warning("an SMSC said something nobody here understands", account=line.paced_as)


class _Line:
    """The way to one SMSC as one user: its session, or how long to leave it alone."""

    def __init__(
        self,
        account: Account,
        user: str,
        window: int,
        within: timedelta,
        patience: timedelta,
        heard: Callable[["_Line", Delivered], Awaitable[None]],
    ) -> None:
        address = smpp.endpoint(account.base_url)
        if address is None:
            raise ChannelHalted(account.name, "its base_url is not an smpp(s) address with a port; correct the url")
        if PASSWORD.fullmatch(account.token.value) is None:
            raise ChannelHalted(account.name, "its password is not one to eight plain characters; enter it again")
        if SYSTEM_ID.fullmatch(user) is None:
            raise ChannelHalted(account.name, "its user is not one to fifteen plain characters; correct the settings")
        self._address, self._account, self._user, self._heard = address, account, user, heard
        self._window, self._within, self._patience = window, within, patience
        self._session: Session | None = None
        self._binding = asyncio.Lock()
        self._failures = 0
        self._not_before = 0.0
        self._failure: Exception = NotSpoken()
        self._accounts: dict[str, str] = {}
        self.paced_as = account.paced_as

    @property
    def takes_default_for_latin_1(self) -> bool:
        return self._account.settings.get("data_coding") == "default-latin-1"

    def speaks_for(self, account: Account) -> None:
        """One user of an SMSC may be several comuni's, each with a number of its own."""
        self._accounts[account.settings.get("sender", "")] = account.name

    def account_at(self, number: str) -> str:
        """Whom somebody wrote to. Nobody can write to an alias: a number of the provider's own is the line's."""
        return self._accounts.get(f"+{number.removeprefix('+')}", self._account.name)

    async def session(self) -> Session:
        """Bound. Raises NotSpoken and ChannelHalted, again at once while the SMSC is left alone."""
        if self._session is not None and not self._session.lost.is_set():
            return self._session
        async with self._binding:
            if self._session is not None and self._session.lost.is_set():
                self._session = None
                self._leave_alone(NotSpoken())  # all processes lost theirs together: they must not return together
            if self._session is None:
                self._session = await self._bound()
            return self._session

    async def _bound(self) -> Session:
        if asyncio.get_running_loop().time() < self._not_before:
            raise self._failure
        try:
            session = await smpp.connect(
                self._address,
                within=self._within,
                window=self._window,
                patience=self._patience,
                heard=lambda delivered: self._heard(self, delivered),
            )
            try:
                await session.bind(self._user, self._account.token.value)
            except Silence:
                session.hang_up()
                raise NotSpoken from None
        except BindRefused as refused:
            failure = _halt_or_wait(self._account.name, refused.status)
            self._leave_alone(failure)
            raise failure from None
        except NotSpoken as failure:
            self._leave_alone(failure)
            raise
        self._failures = 0
        log.info("bound", account=self.paced_as)
        return session

    def _leave_alone(self, failure: Exception) -> None:
        pause = min(FIRST_PAUSE * 2**self._failures, LONGEST_PAUSE) * random.uniform(0.5, 1.5)
        self._failures = min(self._failures + 1, 10)
        self._failure, self._not_before = failure, asyncio.get_running_loop().time() + pause

    async def close(self) -> None:
        if self._session is not None:
            await self._session.unbind()


def _halt_or_wait(account: str, status: int) -> Exception:
    """Of a bind that was refused, what is the credential's fault stops the account; the rest passes."""
    return ChannelHalted(account, HALTS[status]) if status in HALTS else NotSpoken()


# ── what is said ────────────────────────────────────────────────────────────────────────────────────


def _submit_sm(account: Account, address: str, part: Part, coding: str | None, text: Text) -> Callable[[], SubmitSm]:
    """Makes the PDU when its turn comes: how long it is valid is counted from then."""

    def made() -> SubmitSm:
        left = text.expires - datetime.now(UTC) if text.expires else None
        if left is not None and left < timedelta(seconds=1):
            raise _Over
        message = SubmitSm(
            short_message="-",  # what is sent is set below; it insists on words
            source=_sender(account.settings.get("sender", "")),
            destination=PhoneNumber(address.removeprefix("+"), TON.INTERNATIONAL, NPI.ISDN),
            esm_class=HAS_HEADER if part.header else 0,
            encoding="ucs2" if part.encoding is Encoding.UCS_2 else coding,
            registered_delivery=1,
            validity_period=min(left, LONGEST_VALIDITY) if left is not None else None,
        )
        message.set_encoded_message(part.octets)
        return message

    return made


class _Over(Exception):
    """It has expired while it waited for its turn."""


def _sender(sender: str) -> PhoneNumber:
    """A number in E.164, or an alias."""
    if sender.startswith("+"):
        return PhoneNumber(sender[1:], TON.INTERNATIONAL, NPI.ISDN)
    return PhoneNumber(sender, TON.ALPHANUMERIC, NPI.UNKNOWN)


def _called(pairs: Pairs, account: Account, address: str, reference: str, parts: int) -> Callable[[Reply], None]:
    def answered(reply: Reply) -> None:
        if reply.status == 0 and reply.message_id:
            pairs.called(Called(account.paced_as, reply.message_id, address, reference, parts))

    return answered


def _raised_first(results: list[Outcome | BaseException]) -> list[Outcome]:
    """The outcomes of all parts, or whatever stops everybody."""
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]
