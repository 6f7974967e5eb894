"""What Telegram tells a bot: who wrote, who left, who came back, what moved. Pure: an update in, our words out."""

import hmac
from collections.abc import Mapping
from datetime import UTC, datetime

from alerting.webhooks import Blocked, InboundText, Moved, Pressed, Unblocked, media_name, shared_position

ALLOWED_UPDATES = ("message", "callback_query", "my_chat_member")
"""What Telegram is asked to tell us: a channel's own posts, and what is edited, are nothing to us."""
KINDS = ("text", "location", "photo", "document", "voice", "video", "contact", "sticker")
"""What a private message may carry, in the order it is named: https://core.telegram.org/bots/api#message."""


LONGEST_DATA = 64


def verify_secret(expected: str, header: str | None) -> bool:
    """Whether `X-Telegram-Bot-Api-Secret-Token` is what setWebhook got. An empty one verifies nothing."""
    if not expected or header is None:
        return False
    return hmac.compare_digest(expected.encode(), header.encode())


def read_update(update: Mapping[str, object]) -> InboundText | Blocked | Unblocked | Moved | Pressed | None:
    """What one update says to us. None for all that is none of our business; never raises.

    Only private chats: what people say to each other in a group is theirs, but that it moved. `provider_message_id`
    is "<chat>:<message>", because Telegram counts messages per chat.
    """
    message = update.get("message")
    if isinstance(message, dict):
        return _inbound(message) or _moved(message)
    changed = update.get("my_chat_member")
    if isinstance(changed, dict):
        return _door(changed)
    press = update.get("callback_query")
    return _press(press) if isinstance(press, dict) else None


def _inbound(message: dict[str, object]) -> InboundText | None:
    chat, identity, at = _private_chat(message), message.get("message_id"), _at(message)
    kind = next((kind for kind in KINDS if kind in message), "other")
    if chat is None or not isinstance(identity, int) or at is None:
        return None
    words = message.get("text") or message.get("caption")
    text = words if isinstance(words, str) else None
    point = shared_position(message.get("location")) if kind == "location" else None
    return InboundText(f"{chat}:{identity}", "", chat, text, kind, at, point=point, media=_media(message))


def _media(message: dict[str, object]) -> str | None:
    """The largest of the sizes a photograph comes in, which is the last; or the file itself."""
    sizes, file = message.get("photo"), message.get("document")
    largest = sizes[-1] if isinstance(sizes, list) and sizes else file
    return media_name(largest.get("file_id")) if isinstance(largest, dict) else None


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


def _moved(message: dict[str, object]) -> Moved | None:
    """Said in both: in the old group where it went, in the new one where it came from."""
    chat = message.get("chat")
    here = _identity(chat.get("id")) if isinstance(chat, dict) else None
    to, came_from = _identity(message.get("migrate_to_chat_id")), _identity(message.get("migrate_from_chat_id"))
    was, now = (here, to) if to else (came_from, here)
    return Moved(was, now) if was and now and was.startswith("-") and now.startswith("-") else None


def _press(press: dict[str, object]) -> Pressed | None:
    identity, person = press.get("id"), press.get("from")
    sender = _identity(person.get("id")) if isinstance(person, dict) else None
    if not isinstance(identity, str) or not identity or sender is None:
        return None
    data, below = press.get("data"), press.get("message")
    message = below.get("message_id") if isinstance(below, dict) and _private_chat(below) == sender else None
    return Pressed(
        identity,
        sender,
        data if isinstance(data, str) and len(data) <= LONGEST_DATA else "",
        message if isinstance(message, int) and not isinstance(message, bool) else None,
    )


def _private_chat(holder: dict[str, object]) -> str | None:
    chat = holder.get("chat")
    if not isinstance(chat, dict) or chat.get("type") != "private":
        return None
    return _identity(chat.get("id"))


def _identity(found: object) -> str | None:
    return str(found) if isinstance(found, int) and not isinstance(found, bool) and found else None


def _at(holder: dict[str, object]) -> datetime | None:
    stamp = holder.get("date")
    if not isinstance(stamp, int) or isinstance(stamp, bool):
        return None
    try:
        return datetime.fromtimestamp(stamp, UTC)
    except (ValueError, OverflowError, OSError):
        return None
