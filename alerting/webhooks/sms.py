"""What SMS providers post: what citizens wrote to the comune's number, and what became of a text. Pure.

The houses of the REST API are told an address in their panel, and post a form or JSON to it. They sign nothing: the
address, or the way in they are given, has a secret in it.
"""

import base64
import binascii
import hmac
from collections.abc import Mapping
from datetime import datetime

from alerting.domain.delivery import Progress, Reason
from alerting.domain.recipients import AddressError, phone
from alerting.webhooks import InboundText, Receipt

# What becomes of a text: smsend/REST-API, "Get SMS message state", and channels.md 3.4; read November 2026.
STATUSES: dict[str, tuple[Progress, Reason | None]] = {
    **dict.fromkeys(("WAITING", "SCHEDULED"), (Progress.ACCEPTED, None)),
    # Of a TIMEOUT no operator said anything for 48 hours: it may have arrived, and nobody will ever say more.
    **dict.fromkeys(("SENT", "WAIT4DLVR", "TIMEOUT"), (Progress.SENT, None)),
    "DLVRD": (Progress.DELIVERED, None),
    **dict.fromkeys(("UNKNRCPT", "UNKNPFX", "INVALIDDST"), (Progress.FAILED, Reason.NOT_REACHABLE_HERE)),
    **dict.fromkeys(("BLACKLISTED", "KO"), (Progress.FAILED, Reason.POLICY)),
    "TOOM4NUM": (Progress.FAILED, Reason.PAIR_THROTTLED),
    "TOOM4USER": (Progress.FAILED, Reason.DAILY_QUOTA),
    "INVALIDCONTENTS": (Progress.FAILED, Reason.TEXT_REJECTED),
    "DEMO": (Progress.FAILED, Reason.CHANNEL_HALTED),
    "ERROR": (Progress.FAILED, Reason.UNKNOWN_ANSWER),
}
LAST = frozenset(STATUSES) - {"WAITING", "SCHEDULED", "SENT", "WAIT4DLVR"}
"""After these nothing else is said."""

# Panels and their editions differ in the names; the first that is there counts.
FROM = ("sender", "from", "source", "originator", "msisdn")
TEXT = ("message", "text", "body", "data")
IDENTITY = ("message_id", "id", "sms_id")


def verify_secret(expected: str, authorization: str | None, in_address: str | None) -> bool:
    """Whether one of the ways a panel may carry it has the account's webhook_secret. An empty one verifies nothing.

    `Authorization: Bearer …`, or the password of Basic, or the `token` in the address.
    """
    given = in_address or ""
    scheme, _, said = (authorization or "").partition(" ")
    match scheme.lower():
        case "bearer":
            given = said
        case "basic":
            given = _password(said)
    return bool(expected) and hmac.compare_digest(expected.encode(), given.strip().encode())


def _password(said: str) -> str:
    try:
        return base64.b64decode(said, validate=True).decode().partition(":")[2]
    except (binascii.Error, ValueError):
        return ""


def read_push(said: Mapping[str, object], now: datetime) -> InboundText | Receipt | None:
    """What one call says: somebody wrote, or what became of an order. None for anything else; never raises.

    `provider_message_id` is empty where the provider gives the text no name.
    """
    order, status = said.get("order_id"), said.get("status")
    if isinstance(order, str) and isinstance(status, str):
        known = STATUSES.get(status.upper())
        return Receipt(order, order, known[0], known[1], now) if known else None
    sender, words, identity = (_first(said, names) for names in (FROM, TEXT, IDENTITY))
    if sender is None or words is None:
        return None
    try:
        number = phone(sender)
    except AddressError:
        return None  # a service, which nobody can answer
    return InboundText(f"{number.e164}:{identity}" if identity else "", "", number.e164, words, "text", now)


def _first(said: Mapping[str, object], names: tuple[str, ...]) -> str | None:
    found = next((said[name] for name in names if name in said), None)
    if isinstance(found, int) and not isinstance(found, bool):
        return str(found)
    return found if isinstance(found, str) and found.strip() else None
