"""What Telegram posts to a bot: who wrote, who left, who came back. Pure: an update in, our words out."""

import hmac
from collections.abc import Mapping
from datetime import UTC, datetime

from alerting.webhooks import Blocked, InboundText, Unblocked

KINDS = ("text", "location", "photo", "document", "voice", "video", "contact", "sticker")
"""What a private message may carry, in the order it is named: https://core.telegram.org/bots/api#message."""


def verify_secret(expected: str, header: str | None) -> bool:
    """Whether `X-Telegram-Bot-Api-Secret-Token` is what setWebhook got. An empty one verifies nothing."""
    if not expected or header is None:
        return False
    return hmac.compare_digest(expected.encode(), header.encode())


def read_update(update: Mapping[str, object]) -> InboundText | Blocked | Unblocked | None:
    """What one update says to us. None for all that is none of our business; never raises.

    Only private chats: what people say to each other in a group is theirs. `provider_message_id` is
    "<chat>:<message>", because Telegram counts messages per chat.
    """
    message = update.get("message")
    if isinstance(message, dict):
        return _inbound(message)
    changed = update.get("my_chat_member")
    if isinstance(changed, dict):
        return _door(changed)
    return None


def _inbound(message: dict[str, object]) -> InboundText | None:
    chat, identity, at = _private_chat(message), message.get("message_id"), _at(message)
    kind = next((kind for kind in KINDS if kind in message), "other")
    if chat is None or not isinstance(identity, int) or at is None:
        return None
    words = message.get("text") or message.get("caption")
    text = words if isinstance(words, str) else None
    return InboundText(f"{chat}:{identity}", "", chat, text, kind, at)


def _door(changed: dict[str, object]) -> Blocked | Unblocked | None:
    chat, at, member = _private_chat(changed), _at(changed), changed.get("new_chat_member")
    if chat is None or at is None or not isinstance(member, dict):
        return None
    match member.get("status"):
        case "kicked":
            return Blocked(chat, at)
        case "member":
            return Unblocked(chat, at)
        case _:
            return None


def _private_chat(holder: dict[str, object]) -> str | None:
    chat = holder.get("chat")
    if not isinstance(chat, dict) or chat.get("type") != "private":
        return None
    identity = chat.get("id")
    return str(identity) if isinstance(identity, int) and not isinstance(identity, bool) else None


def _at(holder: dict[str, object]) -> datetime | None:
    stamp = holder.get("date")
    if not isinstance(stamp, int) or isinstance(stamp, bool):
        return None
    try:
        return datetime.fromtimestamp(stamp, UTC)
    except (ValueError, OverflowError, OSError):
        return None
