"""What Meta posts to us: who wrote, and what became of each text. Pure: its words in, ours out."""

import hmac
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from alerting.domain.delivery import Progress, Reason
from alerting.domain.recipients import BSUID
from alerting.webhooks import InboundText, Receipt, Renumbered, TemplateChanged, Webhook, media_name, shared_position

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
    131062: Reason.NOT_REACHABLE_HERE,  # a BSUID where only a number will do
    131030: Reason.POLICY,  # a test number writes to its allow-list only
    131047: Reason.POLICY,  # free text, and the 24 hours are over
    131049: Reason.POLICY,
    130472: Reason.POLICY,
    131050: Reason.OPTED_OUT,
    131056: Reason.PAIR_THROTTLED,
    130429: Reason.THROTTLED,
    4: Reason.THROTTLED,
    80007: Reason.THROTTLED,
    **dict.fromkeys((0, 3, 10, 190, 131005, 368, 131031, 130497, 131037, 131042, 131045), Reason.CHANNEL_HALTED),
    **dict.fromkeys((133010, 133016, 131048, 131064), Reason.CHANNEL_HALTED),
    **dict.fromkeys((131051, 131052, 131053, 131063, 132000, 132001, 132005, 132007, 132008), Reason.TEXT_REJECTED),
    **dict.fromkeys(
        (132012, 132015, 132016, 132018, 132068, 132069), Reason.TEXT_REJECTED
    ),  # 132015: held, then dropped
    **dict.fromkeys((2, 131000, 131016, 131057, 133004), Reason.PROVIDER_UNAVAILABLE),
}
"""Why a `failed` status failed, by `errors[0].code`: developers.facebook.com … /support/error-codes,
15 May 2026. What is not here is an unknown answer."""


TEMPLATES = {
    "message_template_status_update": ("status", "event"),
    "message_template_quality_update": ("quality", "new_quality_score"),
    "template_category_update": ("category", "new_category"),
}
"""The field of a webhook about a template → what it is about, and where it says so."""

CHANGED = re.compile(r"changed from (\S+) to (\S+)")
"""How the body of a system message names the old name and the new one, where nothing else in it does."""


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
    moves: list[Renumbered] = []
    templates: list[TemplateChanged] = []
    ignored = 0
    for business, field, value in _changes(payload):
        if field in TEMPLATES:
            changed = _template(business, field, value)
            if changed is None:
                ignored += 1
            else:
                templates.append(changed)
            continue
        found = 0
        metadata = value.get("metadata")
        account = _word(metadata, "phone_number_id") or ""
        for message in _items(value, "messages"):
            found += 1
            if (moved := _moved(message, account)) is not None:
                moves.append(moved)
            elif (text := _inbound(message, account)) is not None:
                texts.append(text)
            else:
                ignored += 1
        for status in _items(value, "statuses"):
            found += 1
            receipt = _receipt(status)
            if receipt is None:
                ignored += 1
            else:
                receipts.append(receipt)
        if not found:
            ignored += 1
    return Webhook(tuple(texts), tuple(receipts), ignored, tuple(moves), tuple(templates))


def _changes(payload: object) -> Iterator[tuple[str, str, dict[str, object]]]:
    """Whose business account, which field and what value, of each change of each entry; empty where it is not ours."""
    for entry in _items(payload, "entry"):
        for change in _items(entry, "changes"):
            value, field = change.get("value"), change.get("field") or "messages"
            if isinstance(value, dict) and isinstance(field, str) and (field == "messages" or field in TEMPLATES):
                yield _word(entry, "id") or "", field, value
            else:
                yield "", "messages", {}


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
    number, bsuid = _number(message, "from"), _bsuid(message, "from_user_id")
    sender = number or bsuid
    if identity is None or kind is None or at is None or sender is None:
        return None
    text, payload = _words(kind, message.get(kind))
    point = shared_position(message.get("location")) if kind == "location" else None
    media = media_name(_word(message.get(kind), "id")) if kind in ("image", "document") else None
    also = bsuid if number else None
    return InboundText(identity, account, sender, text, kind, at, payload, also, point, media)


def _moved(message: dict[str, object], account: str) -> Renumbered | None:
    """Meta's own note that somebody took another number with them; None for everything else."""
    system, identity, at = message.get("system"), _word(message, "id"), _at(message)
    kind = _word(system, "type")
    if identity is None or at is None or kind not in ("user_changed_number", "user_changed_user_id"):
        return None
    found = CHANGED.search(_word(system, "body") or "")
    words = {"before": found[1], "after": found[2]} if found else {}
    number = _number(system, "new_wa_id") or _number(system, "wa_id")
    if number is None and kind == "user_changed_number":
        number = _number(words, "after")
    bsuid = _bsuid(system, "user_id") or _bsuid(words, "after")
    address = number or bsuid
    names = (
        _number(message, "from"),
        _bsuid(system, "previous_user_id"),
        _bsuid(message, "from_user_id"),
        _number(words, "before") or _bsuid(words, "before"),
    )
    known_as = tuple(dict.fromkeys(name for name in names if name and name not in (number, bsuid)))
    if address is None or not known_as:
        return None
    return Renumbered(identity, account, known_as, address, bsuid if number else None, at)


def _template(business: str, field: str, value: dict[str, object]) -> TemplateChanged | None:
    what, where = TEMPLATES[field]
    name, now = _word(value, "message_template_name"), _word(value, where)
    if name is None or now is None:
        return None
    language = _word(value, "message_template_language") or ""
    because = _word(value, "reason") or ""
    return TemplateChanged(business, name, language, what, now, "" if because == "NONE" else because)


def _number(holder: object, key: str) -> str | None:
    """A wa_id as a number one can write to."""
    word = (_word(holder, key) or "").removeprefix("+")
    return f"+{word}" if word.isascii() and word.isdigit() else None


def _bsuid(holder: object, key: str) -> str | None:
    word = _word(holder, key)
    return word if word and BSUID.fullmatch(word) else None


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
