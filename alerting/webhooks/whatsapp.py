"""What Meta posts to us: who wrote, and what became of each text. Pure: its words in, ours out."""

import hmac
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from alerting.domain.delivery import Progress, Reason
from alerting.webhooks import InboundText, Receipt, Webhook

PROGRESS = {
    "sent": Progress.SENT,
    "delivered": Progress.DELIVERED,
    "read": Progress.READ,
    "played": Progress.READ,  # a voice message, heard
    "failed": Progress.FAILED,
}
"""https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messages/status,
read November 2026."""

REASONS = {
    131021: Reason.NOT_REACHABLE_HERE,  # we wrote to ourselves
    131026: Reason.NOT_REACHABLE_HERE,
    131030: Reason.POLICY,  # a test number writes to its allow-list only
    131047: Reason.POLICY,  # free text, and the 24 hours are over
    131049: Reason.POLICY,
    130472: Reason.POLICY,
    131050: Reason.OPTED_OUT,
    131056: Reason.PAIR_THROTTLED,
    130429: Reason.THROTTLED,
    4: Reason.THROTTLED,
    80007: Reason.THROTTLED,
    131048: Reason.CHANNEL_HALTED,
    131031: Reason.CHANNEL_HALTED,
    131042: Reason.CHANNEL_HALTED,
    368: Reason.CHANNEL_HALTED,
    132000: Reason.TEXT_REJECTED,
    132001: Reason.TEXT_REJECTED,
    132005: Reason.TEXT_REJECTED,
    132007: Reason.TEXT_REJECTED,
    132012: Reason.TEXT_REJECTED,
    132015: Reason.TEXT_REJECTED,
    132016: Reason.TEXT_REJECTED,
    131000: Reason.PROVIDER_UNAVAILABLE,
    131016: Reason.PROVIDER_UNAVAILABLE,
}
"""Why a `failed` status failed, by `errors[0].code`: developers.facebook.com … /support/error-codes,
15 May 2026. What is not here is an unknown answer."""


def verify_signature(app_secret: str, raw: bytes, header: str | None) -> bool:
    """Whether `X-Hub-Signature-256` is Meta's for these very bytes.

    The bytes must be those of the wire: Meta escapes non-ASCII letters, and writing the JSON anew would
    change them. An empty secret verifies nothing.
    """
    if not app_secret or not header or not header.startswith("sha256="):
        return False
    expected = hmac.new(app_secret.encode(), raw, "sha256").hexdigest()
    return hmac.compare_digest(expected.encode(), header.removeprefix("sha256=").encode())


def answer_subscription(verify_token: str, query: Mapping[str, str]) -> str | None:
    """The challenge to echo when Meta asks (by GET) whether this webhook is ours; None means 403."""
    offered = query.get("hub.verify_token", "")
    if not verify_token or query.get("hub.mode") != "subscribe":
        return None
    if not hmac.compare_digest(verify_token.encode(), offered.encode()):
        return None
    return query.get("hub.challenge")


def read_webhook(payload: Mapping[str, object]) -> Webhook:
    """Everything one call says, in its order. Never raises: what is not understood is counted."""
    texts: list[InboundText] = []
    receipts: list[Receipt] = []
    ignored = 0
    for value, known in _values(payload):
        found = 0
        metadata = value.get("metadata")
        account = _word(metadata, "phone_number_id") or ""
        for message in _items(value, "messages"):
            found += 1
            text = _inbound(message, account)
            if text is None:
                ignored += 1
            else:
                texts.append(text)
        for status in _items(value, "statuses"):
            found += 1
            receipt = _receipt(status)
            if receipt is None:
                ignored += 1
            else:
                receipts.append(receipt)
        if not known or not found:
            ignored += 1
    return Webhook(tuple(texts), tuple(receipts), ignored)


def _values(payload: object) -> Iterator[tuple[dict[str, object], bool]]:
    """The `value` of each change of each entry, and whether it is of the field we subscribe to."""
    for entry in _items(payload, "entry"):
        for change in _items(entry, "changes"):
            value = change.get("value") if isinstance(change, dict) else None
            if isinstance(value, dict) and change.get("field") in ("messages", None):
                yield value, True
            else:
                yield {}, False


def _items(holder: object, key: str) -> list[dict[str, object]]:
    found = holder.get(key) if isinstance(holder, dict) else None
    if not isinstance(found, list):
        return []
    return [item if isinstance(item, dict) else {} for item in found]


def _word(holder: object, key: str) -> str | None:
    found = holder.get(key) if isinstance(holder, dict) else None
    return found if isinstance(found, str) and found else None


def _at(holder: dict[str, object]) -> datetime | None:
    stamp = holder.get("timestamp")
    if not isinstance(stamp, str | int) or isinstance(stamp, bool):
        return None
    try:
        return datetime.fromtimestamp(int(stamp), UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _inbound(message: dict[str, object], account: str) -> InboundText | None:
    identity, kind, at = _word(message, "id"), _word(message, "type"), _at(message)
    # Whoever took a username has no number for us: then the BSUID is the only name they have.
    sender = _word(message, "from") or _word(message, "from_user_id")
    if identity is None or kind is None or at is None or sender is None:
        return None
    if sender.isascii() and sender.isdigit():
        sender = f"+{sender}"
    text, payload = _words(kind, message.get(kind))
    return InboundText(identity, account, sender, text, kind, at, payload)


def _words(kind: str, content: object) -> tuple[str | None, str | None]:
    """What the person reads on their own screen, and what we had written behind the button."""
    match kind:
        case "text" | "system":
            return _word(content, "body"), None
        case "button":
            return _word(content, "text"), _word(content, "payload")
        case "interactive" if isinstance(content, dict):
            reply = content.get("button_reply") or content.get("list_reply")
            return _word(reply, "title"), _word(reply, "id")
        case _:
            return _word(content, "caption"), None


def _receipt(status: dict[str, object]) -> Receipt | None:
    identity, at = _word(status, "id"), _at(status)
    progress = PROGRESS.get(_word(status, "status") or "")
    if identity is None or at is None or progress is None:
        return None
    reason = _why(status) if progress is Progress.FAILED else None
    return Receipt(_word(status, "biz_opaque_callback_data"), identity, progress, reason, at)


def _why(status: dict[str, object]) -> Reason:
    for error in _items(status, "errors"):
        code = error.get("code")
        if isinstance(code, int) and code in REASONS:
            return REASONS[code]
    return Reason.UNKNOWN_ANSWER
