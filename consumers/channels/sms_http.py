"""SMS over the REST API that Skebby, Aruba SMS, Trendoo, Mobyt and SMSend share: one order a text, and its state."""

import asyncio
import base64
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from yarl import URL

from alerting.domain import gsm
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
from alerting.domain.recipients import reads_texts
from alerting.domain.sms import WITH_RECEIPT, in_letters_of_sms
from alerting.webhooks.sms import LAST, STATUSES
from consumers.channel import Account, Orders, Secret, Standing, Text
from consumers.channels.line import Answer, Line, endpoint, json_object, without_a_code

log = structlog.get_logger()

API = "/API/v1.0/REST"
USER = re.compile(r"[!-9;-~]{1,80}")
"""No colon: it ends the name in Basic authentication."""
TOKEN = re.compile(r"[!-~]{1,200}")
KEYS = re.compile(r"([!-:<-~]{1,200});([!-:<-~]{1,200})")
"""What the login answers: user_key;session_key."""
REFERENCE = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""What stands in a path as it is. Ours have some twenty characters; the documentation names no limit."""

LONGEST = {"SI": 160, "LL": 160}
LONGEST_ELSE = 1000
"""Characters. smsend/REST-API, "Send an SMS message", read November 2026."""
MOST_PARTS = 10
"""As over SMPP: each is paid."""
IN_WORDS = {Encoding.GSM_7: "gsm", Encoding.UCS_2: "ucs2"}

SPARED_FOR = timedelta(hours=1)
"""Of somebody who had too many texts in 24 hours; when the first of them is a day old, nobody says."""

HALTS = {
    401: "401, the key is not valid; check user and token",
    404: "404, it knows no such user; check user and url",
}
NOT_LET_IN = "the login is refused; check user and password"
# What a 400 says, by words in it, in small letters; the first match counts. Its texts are documented nowhere, so
# whatever is not understood is tried again.
HALTING_WORDS = (
    ("credit", "no credit is left; buy some from the provider"),
    ("message_type", "its message_type is not the provider's; write GP, TI or SI (Skebby, Trendoo) or N, L or LL"),
    ("message type", "its message_type is not the provider's; write GP, TI or SI (Skebby, Trendoo) or N, L or LL"),
)
REJECTING_WORDS = (
    ("sender", "the sender is not registered; register the alias through the provider"),
    ("tpoa", "the sender is not registered; register the alias through the provider"),
    ("alias", "the sender is not registered; register the alias through the provider"),
    ("too long", "it is too long for the provider; shorten it"),
    ("encoding", "a letter in it is not in the encoding it claims"),
)
REFUSING_WORDS = ("recipient", "destination number", "phone number")
ORDER_KNOWN = ("order_id", "order id")


def classify(status: int, body: bytes, account: str) -> Outcome | None:
    """What an answer to one order means; None where it was not taken, and only the order itself knows why.

    Raises ChannelHalted and TextRejected. What nobody has documented is never a refusal.
    """
    if status == 201:
        return _ordered(json_object(body))
    if body.lstrip().startswith(b"<"):  # a proxy's page: it speaks for itself, not for the provider
        return without_a_code(status)
    if status in HALTS:
        raise ChannelHalted(account, HALTS[status])
    if status == 400:
        return _told(_words_of(body), account)
    return without_a_code(status)


def _words_of(body: bytes) -> str:
    """What a refusal says, in small letters: the texts in it, not the names they go by."""
    answer = json_object(body)
    if answer is None:
        return body.decode("utf-8", "replace").lower()
    return " ".join(value for value in answer.values() if isinstance(value, str)).lower()


def _ordered(answer: dict[str, object] | None) -> Outcome | None:
    if answer is None or answer.get("result") != "OK":
        return Uncertain(Reason.UNKNOWN_ANSWER)
    order, sent = answer.get("order_id"), answer.get("total_sent")
    if isinstance(sent, bool) or not isinstance(sent, int) or not isinstance(order, str | int) or not str(order):
        return Uncertain(Reason.UNKNOWN_ANSWER)
    return Accepted(str(order)) if sent > 0 else None


def _told(words: str, account: str) -> Outcome:
    for known, cause in HALTING_WORDS:
        if known in words:
            raise ChannelHalted(account, cause)
    for known, cause in REJECTING_WORDS:
        if known in words:
            raise TextRejected(account, cause)
    if any(known in words for known in REFUSING_WORDS):
        return Refused(Reason.NOT_REACHABLE_HERE)
    if any(known in words for known in ORDER_KNOWN):
        return Uncertain(Reason.UNKNOWN_ANSWER)  # it has an order under this name already: it will say which
    return Deferred(Reason.UNKNOWN_ANSWER)


def standing_of(body: bytes, *, awaits_receipt: bool) -> Standing | None:
    """What the state of an order says of its one recipient; None where it says nothing we understand."""
    answer = json_object(body) or {}
    recipients = answer.get("recipients")
    if not isinstance(recipients, list) or len(recipients) != 1 or not isinstance(recipients[0], dict):
        return None
    status = str(recipients[0].get("status"))
    if status not in STATUSES:
        return None
    progress, reason = STATUSES[status]
    return Standing(progress, reason, status in LAST or (progress is Progress.SENT and not awaits_receipt))


def not_taken(standing: Standing | None, account: str) -> Outcome:
    """What it means that an order went to nobody. Raises ChannelHalted and TextRejected."""
    match standing.reason if standing and standing.progress is Progress.FAILED else None:
        case (Reason.NOT_REACHABLE_HERE | Reason.POLICY) as reason:
            return Refused(reason)
        case Reason.PAIR_THROTTLED:
            return Deferred(Reason.PAIR_THROTTLED, SPARED_FOR)
        case Reason.DAILY_QUOTA:
            raise ChannelHalted(account, "it has sent too many texts in 24 hours; ask the provider for more")
        case Reason.CHANNEL_HALTED:
            raise ChannelHalted(account, "it is a demonstration account, from which nothing leaves; have it activated")
        case Reason.TEXT_REJECTED:
            raise TextRejected(account, "the provider does not carry these words")
        case _:
            return Deferred(Reason.UNKNOWN_ANSWER)


@dataclass(frozen=True, slots=True)
class _Order:
    """One text, as it is ordered."""

    words: str
    encoding: Encoding


class SmsHttp:
    """One order a text, under our reference, so that what becomes of it can be asked whatever became of the line.

    The account's token is the password, for which there is a session while it is used; or, where `authentication`
    is "access-token", that token, and `user` its user_key. Make it inside a running event loop.
    """

    name = ChannelName.SMS

    def __init__(
        self,
        orders: Orders,
        *,
        limit_per_host: int = 20,
        connect: timedelta = timedelta(seconds=3),
        total: timedelta = timedelta(seconds=10),
    ) -> None:
        self.orders = orders
        self._line = Line(limit_per_host=limit_per_host, connect=connect, total=total)
        self._entrances: dict[tuple[str, str, Secret], _Entrance] = {}

    async def send(self, account: Account, address: str, text: Text, reference: str) -> Outcome:
        """One text to one telephone, in as many parts as it takes. Raises ChannelHalted and TextRejected."""
        if not reads_texts(address):
            return Refused(Reason.NOT_REACHABLE_HERE)
        if REFERENCE.fullmatch(reference) is None:
            raise TextRejected(account.name, "its reference cannot be asked after")
        order = _order(account, text)
        entrance = self._entrance(account)
        url = endpoint(account, f"{API}/sms")
        try:
            keys = await entrance.keys()
            if text.expires and text.expires <= datetime.now(UTC):
                return Deferred(Reason.EXPIRED)
            self.orders.placed(account, reference, text.expires)
            outcome = await self._place(account, entrance, keys, url, _body(account, address, order, reference))
        except (ChannelHalted, TextRejected):
            self.orders.not_taken(reference)
            raise
        except _NotNow as trouble:
            self.orders.not_taken(reference)
            return trouble.outcome
        if not isinstance(outcome, Accepted | Uncertain):
            self.orders.not_taken(reference)
        return outcome or not_taken(await self.stands(account, reference), account.name)

    async def _place(
        self, account: Account, entrance: "_Entrance", keys: "Keys", url: URL, body: bytes
    ) -> Outcome | None:
        answer = await self._line.post(url, body, keys)
        if isinstance(answer, Answer) and answer.status == 401:
            answer = await self._line.post(url, body, await entrance.keys(instead_of=keys))
        return classify(answer.status, answer.body, account.name) if isinstance(answer, Answer) else answer

    async def stands(self, account: Account, reference: str) -> Standing | None:
        """What became of a text, as the provider says now. Raises nothing: whoever sends finds out what is wrong."""
        if REFERENCE.fullmatch(reference) is None:
            return None
        awaits_receipt = account.settings.get("message_type") in WITH_RECEIPT
        try:
            url = endpoint(account, f"{API}/sms/{reference}")
            entrance = self._entrance(account)
            keys = await entrance.keys()
            answer = await self._line.get(url, keys)
            if answer is not None and answer.status == 401:
                answer = await self._line.get(url, await entrance.keys(instead_of=keys))
        except (_NotNow, ChannelHalted) as trouble:
            log.warning("nothing is learned of a text", account=account.name, error=type(trouble).__name__)
            return None
        if answer is None or answer.status != 200:
            return None
        return standing_of(answer.body, awaits_receipt=awaits_receipt)

    async def follow(self, accounts: Callable[[], list[Account]]) -> None:
        """Ask what became of each text, until cancelled."""
        await self.orders.run(accounts, self.stands)

    async def close(self) -> None:
        """Close connections, and keep what was ordered. No send is under way."""
        await self.orders.flush()
        await self._line.close()

    def _entrance(self, account: Account) -> "_Entrance":
        user = account.settings.get("user", "")
        key = (account.base_url, user, account.token)
        if key not in self._entrances:
            self._entrances[key] = _Entrance(account, user, self._line)
        return self._entrances[key]


# ── how we are let in ───────────────────────────────────────────────────────────────────────────────


class _NotNow(Exception):
    """We could not be let in, and nothing was said."""

    def __init__(self, outcome: Deferred) -> None:
        super().__init__("not let in for now")
        self.outcome = outcome


Keys = dict[str, str]
"""The headers of whoever has been let in."""


class _Entrance:
    """The keys of one account. A session ends after five minutes in which nobody said anything."""

    PAUSE = 5.0
    """Seconds after which a login that was refused is tried again: a crowd of them would lock the account."""

    def __init__(self, account: Account, user: str, line: Line) -> None:
        if USER.fullmatch(user) is None:
            raise ChannelHalted(account.name, "its user has blanks or a colon, or is missing; correct the settings")
        if TOKEN.fullmatch(account.token.value) is None:
            raise ChannelHalted(account.name, "its token is malformed; enter it again")
        self._account, self._line = account.name, line
        self._login = endpoint(account, f"{API}/login")
        self._credentials = base64.b64encode(f"{user}:{account.token.value}".encode()).decode()
        self._by_session = account.settings.get("authentication", "password") == "password"
        self._keys: Keys | None = None
        if not self._by_session:
            self._keys = {"user_key": user, "Access_token": account.token.value}
        self._entering = asyncio.Lock()
        self._failure: Exception | None = None
        self._not_before = 0.0

    async def keys(self, instead_of: Keys | None = None) -> Keys:
        """Those that let us in, others than these. Raises ChannelHalted and _NotNow, again at once for a while."""
        if self._keys is not None and self._keys is not instead_of:
            return self._keys
        if not self._by_session:
            raise ChannelHalted(self._account, HALTS[401])
        async with self._entering:
            if self._keys is not None and self._keys is not instead_of:
                return self._keys  # somebody who waited with us has been let in
            if self._failure is not None and asyncio.get_running_loop().time() < self._not_before:
                raise self._failure
            self._keys = None
            try:
                self._keys = await self._let_in()
            except (ChannelHalted, _NotNow) as failure:
                self._failure, self._not_before = failure, asyncio.get_running_loop().time() + self.PAUSE
                raise
            self._failure = None
            return self._keys

    async def _let_in(self) -> Keys:
        answer = await self._line.get(self._login, {"Authorization": f"Basic {self._credentials}"})
        if answer is None:
            raise _NotNow(Deferred(Reason.PROVIDER_UNAVAILABLE))
        words = answer.body.decode("utf-8", "replace").strip()
        if answer.status == 200 and (keys := KEYS.fullmatch(words)):
            return {"user_key": keys[1], "Session_key": keys[2]}
        if answer.status in (400, 401, 404) and not words.startswith("<"):
            raise ChannelHalted(self._account, NOT_LET_IN)
        raise _NotNow(without_a_code(answer.status))


# ── what is said ────────────────────────────────────────────────────────────────────────────────────


def _order(account: Account, text: Text) -> _Order:
    """The words as they are said. Raises TextRejected where they are too many."""
    words = in_letters_of_sms(text.body)
    size = gsm.size(words)
    most = LONGEST.get(account.settings.get("message_type", ""), LONGEST_ELSE)
    if size.characters > most or size.parts > MOST_PARTS:
        raise TextRejected(
            account.name, f"it has {size.characters} characters in {size.parts} parts; shorten it to {most}"
        )
    return _Order(words, size.encoding)


def _body(account: Account, address: str, order: _Order, reference: str) -> bytes:
    message_type = account.settings.get("message_type", "")
    said: dict[str, object] = {
        "message_type": message_type,
        "message": order.words,
        "recipient": [address],
        "encoding": IN_WORDS[order.encoding],
        "order_id": reference,
        # Else a number it does not like is a 400, in words that nobody has written down.
        "allowInvalidRecipients": True,
    }
    if message_type in WITH_RECEIPT:
        said["sender"] = account.settings.get("sender", "")
    return json.dumps(said, separators=(",", ":")).encode()
