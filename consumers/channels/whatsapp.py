"""WhatsApp Cloud API: one template or free text to one number, and what Meta's codes mean for it."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from multidict import CIMultiDict
from yarl import URL

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
from consumers.channel import Account, Text
from consumers.channels.line import Answer, Line, endpoint, json_object, without_a_code

E164 = re.compile(r"\+[1-9][0-9]{6,14}")
TOKEN = re.compile(r"[!-~]+")

LONGEST_TEXT = 4096
LONGEST_VARIABLE = 1024
LONGEST_REFERENCE = 512


@dataclass(frozen=True, slots=True)
class Halts:
    """This code stops the account."""

    cause: str


@dataclass(frozen=True, slots=True)
class Doubts:
    """This code condemns the text or this one number: a number Meta cannot read looks exactly so."""

    cause: str


@dataclass(frozen=True, slots=True)
class Rejects:
    """This code condemns the text, for everybody."""

    cause: str


# What each `error.code` means. https://developers.facebook.com/documentation/business-messaging/whatsapp/
# support/error-codes, updated 15 May 2026, read November 2026. The causes are our words: Meta's message may
# repeat the access token. What is not here is Deferred. Codes of media and flows wait until we send these.
MEANINGS: dict[int, Outcome | Halts | Rejects | Doubts] = {
    # ── the account ──
    0: Halts("0, the access token is not valid; issue a new one"),
    190: Halts("190, the access token has expired or was revoked; issue a new one"),
    3: Halts("3, the app lacks the capability; check its permissions"),
    10: Halts("10, permission denied; check the token's scopes"),
    **dict.fromkeys(range(200, 300), Halts("200-299, permission denied; check the token's scopes")),
    131005: Halts("131005, access denied; check the token's scopes"),
    368: Halts("368, blocked for a policy violation; appeal, and try hourly"),
    131031: Halts("131031, the business account is locked; appeal"),
    130497: Halts("130497, the business may not write to this country"),
    131037: Halts("131037, the display name awaits approval"),
    131042: Halts("131042, payment is missing; see the billing of the business account"),
    131045: Halts("131045, the number's certificate is wrong; register it again"),
    133010: Halts("133010, the number is not registered"),
    131048: Halts("131048, Meta takes us for spam; see the quality rating"),
    131064: Halts("131064, limited because templates were misclassified"),
    # ── the text ──
    33: Doubts("33, bad parameter"),
    100: Doubts("100, bad parameter"),
    131008: Doubts("131008, a parameter is missing"),
    131009: Doubts("131009, a parameter has a wrong value"),
    131051: Rejects("131051, message type not supported"),
    131063: Rejects("131063, a marketing template where marketing is off"),
    132000: Rejects("132000, the template takes another number of variables"),
    132001: Rejects("132001, no such template in this language"),
    132005: Rejects("132005, the template with its variables is too long"),
    132007: Rejects("132007, the template violates a policy"),
    132008: Rejects("132008, a variable has a wrong format"),
    132012: Rejects("132012, a variable has a wrong format"),
    132018: Rejects("132018, a variable has a wrong format"),
    132015: Rejects("132015, the template is paused; use the standby one"),
    132016: Rejects("132016, the template is disabled; use the standby one"),
    # ── the person ──
    131021: Refused(Reason.NOT_REACHABLE_HERE),  # sender and recipient are one
    131026: Refused(Reason.NOT_REACHABLE_HERE),  # not on WhatsApp, an old client, terms not accepted
    131062: Refused(Reason.NOT_REACHABLE_HERE),  # a BSUID where only a number will do
    131030: Refused(Reason.POLICY),  # a test number writes to its allow-list only
    131047: Refused(Reason.POLICY),  # free text, and the person wrote more than 24 hours ago
    131049: Refused(Reason.POLICY),  # "to maintain a healthy ecosystem": not before 24 hours
    130472: Refused(Reason.POLICY),  # part of an experiment of Meta's
    131050: Refused(Reason.OPTED_OUT),
    # ── the hour ──
    130429: Deferred(Reason.THROTTLED, timedelta(seconds=1), whole_account=True),
    4: Deferred(Reason.THROTTLED, timedelta(seconds=60), whole_account=True),
    80007: Deferred(Reason.THROTTLED, timedelta(seconds=60), whole_account=True),
    131056: Deferred(Reason.PAIR_THROTTLED, timedelta(seconds=6)),  # a pair may have one in six seconds
    # The number is being moved to a higher throughput, which takes up to a minute.
    131057: Deferred(Reason.PROVIDER_UNAVAILABLE, timedelta(seconds=60), whole_account=True),
    1: Deferred(Reason.UNKNOWN_ANSWER),
    2: Deferred(Reason.PROVIDER_UNAVAILABLE),
    131016: Deferred(Reason.PROVIDER_UNAVAILABLE),
    133004: Deferred(Reason.PROVIDER_UNAVAILABLE),
    131000: Deferred(Reason.UNKNOWN_ANSWER),
    135000: Deferred(Reason.UNKNOWN_ANSWER),
}

NO_SUCH_NUMBER = Halts("100/33, no such phone_number_id for this token; correct the settings")
HELD = frozenset({"held_for_quality_assessment", "paused"})


class BadParameter(TextRejected):
    """The text is wrong for everybody, or this one number is: the code alone does not tell."""


def classify(status: int, body: bytes, account: str) -> Outcome:
    """What an answer means, by Meta's code and not by the HTTP status. `account` is the name we give it.

    Raises ChannelHalted and TextRejected. What nobody has documented is never a refusal.
    """
    answer = json_object(body)
    if answer is None:
        return without_a_code(status)
    if (error := answer.get("error")) is None:
        return _taken(status, answer)
    match _meaning(error):
        case None:
            return without_a_code(status)
        case Halts(cause):
            raise ChannelHalted(account, cause)
        case Doubts(cause):
            raise BadParameter(account, cause)
        case Rejects(cause):
            raise TextRejected(account, cause)
        case outcome:
            return outcome


def _meaning(error: object) -> Outcome | Halts | Rejects | Doubts | None:
    if not isinstance(error, dict) or type(code := error.get("code")) is not int:
        return None
    if code == 100 and error.get("error_subcode") == 33:
        return NO_SUCH_NUMBER
    return MEANINGS.get(code)


def _taken(status: int, answer: dict[str, object]) -> Outcome:
    messages = answer.get("messages")
    message = messages[0] if isinstance(messages, list) and messages else None
    identity = message.get("id") if isinstance(message, dict) else None
    if not isinstance(identity, str) or not identity:
        # Meta answers 2xx to what it took. Said twelve times over it would be worse than said twice.
        return Uncertain(Reason.UNKNOWN_ANSWER) if 200 <= status < 300 else without_a_code(status)
    assert isinstance(message, dict)
    if message.get("message_status") in HELD:
        return Deferred(Reason.HELD_BY_PROVIDER)
    return Accepted(identity)


@dataclass(slots=True)
class _Prepared:
    """One text of one account, encoded up to the number, where it goes, and how people's sends of it have gone."""

    account: Account
    url: URL
    headers: Mapping[str, str]
    head: bytes
    taken: bool = False
    doubted: bool = False


class WhatsApp:
    """The Cloud API. `account.settings` needs `phone_number_id` and `api_version` ("v26.0").

    The time to live of a template is Meta's setting on the template itself: `Text.expires` cannot travel.
    Make it inside a running event loop.
    """

    name = ChannelName.WHATSAPP

    def __init__(
        self,
        *,
        limit_per_host: int = 200,
        connect: timedelta = timedelta(seconds=3),
        total: timedelta = timedelta(seconds=10),
    ) -> None:
        self._line = Line(limit_per_host=limit_per_host, connect=connect, total=total)
        self._prepared: dict[tuple[str, Text], _Prepared] = {}

    async def send(self, account: Account, address: str, text: Text, reference: str) -> Outcome:
        """One text to one number in E.164. Raises ChannelHalted and TextRejected."""
        if E164.fullmatch(address) is None:
            # Without its "+" Meta would put our own country's code before it, and a stranger would read this.
            return Refused(Reason.NOT_REACHABLE_HERE)
        prepared = self._prepare(account, text)
        answer = await self._line.post(prepared.url, _body(prepared.head, address, reference), prepared.headers)
        if not isinstance(answer, Answer):
            return answer
        try:
            outcome = classify(answer.status, answer.body, account.name)
        except BadParameter as rejected:
            return _whose_fault(prepared, rejected)
        if isinstance(outcome, Accepted):
            prepared.taken, prepared.doubted = True, False
        return outcome

    async def close(self) -> None:
        """Close connections. No send is under way."""
        await self._line.close()

    def _prepare(self, account: Account, text: Text) -> _Prepared:
        key = (account.name, text)
        prepared = self._prepared.get(key)
        if prepared is None or prepared.account is not account:  # read anew, it may have another credential
            if len(self._prepared) >= 256:
                self._prepared.clear()  # an alert's worth of texts is two or three: old ones are not missed
            url = endpoint(account, _path(account))
            headers = CIMultiDict({"Authorization": f"Bearer {_token(account)}"})
            prepared = self._prepared[key] = _Prepared(account, url, headers, _head(account.name, text))
        return prepared


def _whose_fault(prepared: _Prepared, rejected: BadParameter) -> Outcome:
    """A bad parameter is this person's where others got the text, the text's where two in a row did not.

    One wrong number at the top of a list must not cost a town its alert. Raises TextRejected.
    """
    if prepared.taken:
        return Refused(Reason.NOT_REACHABLE_HERE)
    if prepared.doubted:
        raise rejected
    prepared.doubted = True
    return Deferred(Reason.UNKNOWN_ANSWER)


def _path(account: Account) -> str:
    number, version = account.settings.get("phone_number_id"), account.settings.get("api_version")
    if not number or not version:
        raise ChannelHalted(account.name, "its settings lack phone_number_id or api_version; complete them")
    return f"/{version}/{number}/messages"


def _token(account: Account) -> str:
    if TOKEN.fullmatch(account.token.value) is None:
        raise ChannelHalted(account.name, "its access token is empty or has blanks in it; enter it again")
    return account.token.value


def _head(account: str, text: Text) -> bytes:
    """The body that is the same for everybody, as far as `"to":`. Raises TextRejected."""
    invariant: dict[str, object] = {"messaging_product": "whatsapp", "recipient_type": "individual"}
    if text.template is None:
        if not 1 <= len(text.body) <= LONGEST_TEXT:
            raise TextRejected(
                account, f"it has {len(text.body)} characters, WhatsApp takes 1 to {LONGEST_TEXT}; shorten it"
            )
        invariant |= {"type": "text", "text": {"preview_url": False, "body": text.body}}
    else:
        invariant |= {"type": "template", "template": _template(account, text)}
    return json.dumps(invariant, separators=(",", ":")).encode()[:-1] + b',"to":"'


def _template(account: str, text: Text) -> dict[str, object]:
    if any(len(variable) > LONGEST_VARIABLE for variable in text.variables):
        raise TextRejected(account, f"a template variable exceeds {LONGEST_VARIABLE} characters; shorten it")
    template: dict[str, object] = {"name": text.template, "language": {"code": text.language}}
    if text.variables:
        words = [{"type": "text", "text": variable} for variable in text.variables]
        template["components"] = [{"type": "body", "parameters": words}]
    return template


def _body(head: bytes, address: str, reference: str) -> bytes:
    ours = json.dumps(reference[:LONGEST_REFERENCE])
    return head + f'{address}","biz_opaque_callback_data":{ours}}}'.encode()
