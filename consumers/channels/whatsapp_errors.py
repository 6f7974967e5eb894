"""What Meta's codes mean: for the account, for the text, for its picture, for the person, for the hour."""

from dataclasses import dataclass
from datetime import timedelta

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
from consumers.channels.line import json_object, without_a_code


@dataclass(frozen=True, slots=True)
class Halts:
    """This code stops the account."""

    cause: str


@dataclass(frozen=True, slots=True)
class Doubts:
    """This code condemns the text or this one number: a number Meta cannot read looks exactly so.

    After `patience` such answers in a row it is the text. `may_be_the_person`: where others got the text, it is them.
    """

    cause: str
    patience: int = 1
    may_be_the_person: bool = True


@dataclass(frozen=True, slots=True)
class Rejects:
    """This code condemns the text, for everybody."""

    cause: str


@dataclass(frozen=True, slots=True)
class Withdraws:
    """This code condemns the template: another one with the same words may pass."""

    cause: str


@dataclass(frozen=True, slots=True)
class Spoils:
    """This code condemns the picture or the document: the words without it may pass."""

    cause: str


OUTSIDE_THE_WINDOW = Refused(Reason.POLICY)
"""Free text, and the person wrote more than 24 hours ago."""

# What each `error.code` means. https://developers.facebook.com/documentation/business-messaging/whatsapp/
# support/error-codes, updated 15 May 2026, read November 2026. The causes are our words: Meta's message may
# repeat the access token. What is not here is Deferred.
Meaning = Outcome | Halts | Rejects | Withdraws | Spoils | Doubts
MEANINGS: dict[int, Meaning] = {
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
    133016: Halts("133016, the number was registered too often; wait for 72 hours and register it"),
    131048: Halts("131048, Meta takes us for spam; see the quality rating"),
    131064: Halts("131064, limited because templates were misclassified"),
    # ── the text ──
    33: Doubts("33, bad parameter"),
    100: Doubts("100, bad parameter"),
    131008: Doubts("131008, a parameter is missing"),
    131009: Doubts("131009, a parameter has a wrong value"),
    131051: Rejects("131051, message type not supported"),
    132000: Rejects("132000, the template takes another number of variables"),
    132005: Rejects("132005, the template with its variables is too long"),
    132008: Rejects("132008, a variable has a wrong format"),
    132012: Rejects("132012, a variable has a wrong format"),
    132018: Rejects("132018, a variable has a wrong format"),
    132068: Rejects("132068, the flow behind the template's button is blocked"),
    132069: Rejects("132069, the flow behind the template's button is throttled"),
    # ── the template ──
    131063: Withdraws("131063, a marketing template where marketing is off; ask Meta for the category utility"),
    132001: Withdraws("132001, no such template in this language; register it"),
    132007: Withdraws("132007, the template violates a policy; correct it"),
    132015: Withdraws("132015, the template is paused for low quality"),
    132016: Withdraws("132016, the template is disabled; register another one"),
    # ── its picture ──
    131052: Spoils("131052, the picture or document could not be fetched"),
    131053: Spoils("131053, the picture or document could not be uploaded"),
    # ── the person ──
    131021: Refused(Reason.NOT_REACHABLE_HERE),  # sender and recipient are one
    131026: Refused(Reason.NOT_REACHABLE_HERE),  # not on WhatsApp, an old client, terms not accepted
    131062: Refused(Reason.NOT_REACHABLE_HERE),  # a BSUID where only a number will do
    131030: Refused(Reason.POLICY),  # a test number writes to its allow-list only
    131047: OUTSIDE_THE_WINDOW,
    131049: Refused(Reason.POLICY),  # "to maintain a healthy ecosystem": not before 24 hours
    130472: Refused(Reason.POLICY),  # part of an experiment of Meta's
    131050: Refused(Reason.OPTED_OUT),
    # ── the hour ──
    130429: Deferred(Reason.THROTTLED, timedelta(seconds=1), whole_account=True),
    4: Deferred(Reason.THROTTLED, timedelta(seconds=60), whole_account=True),
    80007: Deferred(Reason.THROTTLED, timedelta(seconds=60), whole_account=True),
    131056: Deferred(Reason.PAIR_THROTTLED, timedelta(seconds=1)),  # the first time: 4^X s, X = 0
    # The number is being moved to a higher throughput, which takes up to a minute.
    131057: Deferred(Reason.PROVIDER_UNAVAILABLE, timedelta(seconds=60), whole_account=True),
    # A bad request or an outage of theirs: two more try, and then it is looked at once a minute.
    1: Doubts("1, an unknown error or an invalid request", patience=2, may_be_the_person=False),
    2: Deferred(Reason.PROVIDER_UNAVAILABLE),
    131016: Deferred(Reason.PROVIDER_UNAVAILABLE),
    133004: Deferred(Reason.PROVIDER_UNAVAILABLE),
    # Something is wrong, nobody says what: never a refusal of the person, who would hear of nothing any more.
    131000: Deferred(Reason.UNKNOWN_ANSWER),
    135000: Deferred(Reason.UNKNOWN_ANSWER),
    137000: Deferred(Reason.UNKNOWN_ANSWER),  # another identity than the hash we named: we name none
}

NO_SUCH_NUMBER = Halts("100/33, no such phone_number_id for this token; correct the settings")
STANDS_STILL = frozenset({"held_for_quality_assessment", "paused"})
HELD = Uncertain(Reason.HELD_BY_PROVIDER)
"""Taken, and not leaving: Meta says later whether it sends or drops it. Each time it is said again is one text more
that may come out at once, so it counts as what may have arrived, and is said once more at most."""


class BadParameter(TextRejected):
    """The text is wrong for everybody, or this one number is: the code alone does not tell."""

    def __init__(self, account: str, doubts: Doubts) -> None:
        super().__init__(account, doubts.cause)
        self.doubts = doubts


class TemplateWithdrawn(TextRejected):
    """The template cannot be used now, whatever is in it."""


class MediaSpoilt(TextRejected):
    """The provider has no use for the picture or document, or does not know its id any more."""


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
        case Doubts() as doubts:
            raise BadParameter(account, doubts)
        case Rejects(cause):
            raise TextRejected(account, cause)
        case Withdraws(cause):
            raise TemplateWithdrawn(account, cause)
        case Spoils(cause):
            raise MediaSpoilt(account, cause)
        case outcome:
            return outcome


def _meaning(error: object) -> Meaning | None:
    if not isinstance(error, dict) or type(code := error.get("code")) is not int:
        return None
    if code == 100 and error.get("error_subcode") == 33:
        return NO_SUCH_NUMBER
    if code in (100, 131009) and "media" in _details(error).lower():
        # "… is not a valid … media attachment ID": it has expired, or is another number's.
        return Spoils(f"{code}, the picture or document has no such id")
    return MEANINGS.get(code)


def _details(error: dict[str, object]) -> str:
    """What Meta adds to a code, which it asks us to read too; a bare string in the answers about templates."""
    more = error.get("error_data")
    return str(more.get("details", "") if isinstance(more, dict) else more or "")


def _taken(status: int, answer: dict[str, object]) -> Outcome:
    messages = answer.get("messages")
    message = messages[0] if isinstance(messages, list) and messages else None
    identity = message.get("id") if isinstance(message, dict) else None
    if not isinstance(identity, str) or not identity:
        # Meta answers 2xx to what it took. Said twelve times over it would be worse than said twice.
        return Uncertain(Reason.UNKNOWN_ANSWER) if 200 <= status < 300 else without_a_code(status)
    assert isinstance(message, dict)
    if message.get("message_status") in STANDS_STILL:
        return HELD
    return Accepted(identity)
