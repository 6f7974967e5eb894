"""The words of Telegram's Bot API: how a call is written, and what an answer means. Pure."""

import json
import re
import secrets
from collections.abc import Mapping
from datetime import timedelta
from functools import lru_cache

from alerting.buttons import Rows
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
from consumers.channel import Attachment
from consumers.channels.line import json_object, without_a_code

ADDRESS = re.compile(r"-?[1-9][0-9]{0,18}|@[A-Za-z][A-Za-z0-9_]{3,31}")
TOKEN = re.compile(r"[A-Za-z0-9:_-]+")
LONGEST_TEXT, LONGEST_CAPTION = 4096, 1024
"""UTF-16 code units. What is said below a picture or a document is its caption."""
PHOTOS = ("image/jpeg", "image/png", "image/webp")
"""What is shown in the conversation itself; all else is a document to open."""
LONGEST_PAUSE = timedelta(hours=1)
DISABLED = {"is_disabled": True}

# What a description means, by the words it contains, in lower case; the first match counts. Texts from
# tdlib/telegram-bot-api @01a3679 (Client.cpp, 7 May 2026) and https://core.telegram.org/bots/api, read
# November 2026. The server turns some 403s into 400s, so both are read by their words. A target that shut our
# bot out is refused alone: halting the account would silence the bot for everybody else.
MEANINGS: tuple[tuple[str, Outcome | str], ...] = (
    ("bot was blocked by the user", Refused(Reason.BLOCKED_BY_PERSON)),
    ("user_is_blocked", Refused(Reason.BLOCKED_BY_PERSON)),
    ("user is deactivated", Refused(Reason.NOT_REACHABLE_HERE)),
    ("user_deactivated", Refused(Reason.NOT_REACHABLE_HERE)),
    ("can't initiate conversation", Refused(Reason.NOT_REACHABLE_HERE)),
    ("chat not found", Refused(Reason.NOT_REACHABLE_HERE)),
    ("user not found", Refused(Reason.NOT_REACHABLE_HERE)),
    ("peer_id_invalid", Refused(Reason.NOT_REACHABLE_HERE)),
    ("bot was kicked", Refused(Reason.POLICY)),
    ("bot is not a member", Refused(Reason.POLICY)),
    ("not enough rights", Refused(Reason.POLICY)),
    ("have no rights", Refused(Reason.POLICY)),
    ("need administrator rights", Refused(Reason.POLICY)),
    ("chat_admin_required", Refused(Reason.POLICY)),
    ("chat_write_forbidden", Refused(Reason.POLICY)),
    ("message is too long", "message is too long; shorten it"),
    ("message text is empty", "message text is empty"),
    ("text must be non-empty", "message text is empty"),
    ("can't parse entities", "its markup cannot be read"),
    ("wrong file_id", "a file id is wrong; upload the file again"),
    ("failed to get http url content", "a URL in it cannot be fetched"),
    ("wrong http url", "a URL in it cannot be fetched"),
)

HALTS = {
    401: "401, the bot token is not valid; issue a new one with @BotFather",
    404: "404, no such bot; check the token and the base_url",
}

WRONG_FILE = ("wrong file_id", "wrong file identifier", "wrong remote file", "file reference", "file_reference")
"""The id is none any more: the file is uploaded anew."""
REFUSED_FILE = (
    "wrong type of file",
    "can't use file of type",
    "photo_invalid_dimensions",
    "photo_ext_invalid",
    "photo_save_file_invalid",
    "image_process_failed",
    "file must be non-empty",
    "file is too big",
    "request entity too large",
)
"""Telegram takes it from nobody, for anybody: the words go alone."""
NOT_WITH_A_FILE = (
    "caption is too long",
    "media_caption_too_long",
    "not enough rights to send photos",
    "not enough rights to send documents",
    "chat_send_photos_forbidden",
    "chat_send_docs_forbidden",
    "chat_send_media_forbidden",
)
"""Not here, or not with these words: they go alone."""
NO_TEXT_TO_EDIT = "there is no text in the message to edit"
NOT_MODIFIED = "message is not modified"
NOT_TO_EDIT = ("message to edit not found", "message can't be edited", "message_id_invalid", NO_TEXT_TO_EDIT)
"""What was to be written anew is gone, or too old: it is said below instead."""


# ── what an answer means ────────────────────────────────────────────────────────────────────────────


def classify(
    status: int,
    body: bytes,
    account: str,
    address: str = "",
    retry_after: str | None = None,
    *,
    written_lately: bool = False,
) -> Outcome:
    """What an answer to a text means, by its envelope and not by the HTTP status. `retry_after` is the header.

    A flood is the chat's own in groups and channels, and wherever the bot has `written_lately`; elsewhere the bot's.
    Raises ChannelHalted and TextRejected. What nobody has documented is never a refusal.
    """
    answer = json_object(body)
    if answer is None:
        return without_a_code(status)
    if answer.get("ok") is True:
        return _taken(answer)
    code = whole(answer.get("error_code"))
    if code is None:
        return without_a_code(status)
    if code == 429:
        wait = pause(body, retry_after)
        if written_lately or is_public(address):
            return Deferred(Reason.PAIR_THROTTLED, wait)
        return Deferred(Reason.THROTTLED, wait, whole_account=True)
    if code in HALTS:
        raise ChannelHalted(account, HALTS[code])
    if code in (400, 403):
        return _told(description(body), account)
    return without_a_code(code)


def _told(words: str, account: str) -> Outcome:
    for known, meaning in MEANINGS:
        if known in words:
            if isinstance(meaning, str):
                raise TextRejected(account, meaning)
            return meaning
    return Deferred(Reason.UNKNOWN_ANSWER)


def _taken(answer: dict[str, object]) -> Outcome:
    result = answer.get("result")
    identity = whole(result.get("message_id")) if isinstance(result, dict) else None
    return Uncertain(Reason.UNKNOWN_ANSWER) if identity is None else Accepted(str(identity))


def whole(found: object) -> int | None:
    """A whole number, which True is not."""
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def pause(body: bytes, header: str | None) -> timedelta:
    """What Telegram asks for: between a second and an hour, so that no odd answer silences us for a day."""
    seconds = _parameter(body, "retry_after")
    if seconds is None and header is not None and re.fullmatch(r"[0-9]{1,9}", header):
        seconds = int(header)
    return timedelta(seconds=min(max(seconds or 1, 1), LONGEST_PAUSE.total_seconds()))


def moved_to(body: bytes) -> int | None:
    """Where a group went that became a supergroup, if that is what an answer says."""
    if b"migrate_to_chat_id" not in body:  # most answers: not read twice
        return None
    return _parameter(body, "migrate_to_chat_id")


def _parameter(body: bytes, name: str) -> int | None:
    parameters = (json_object(body) or {}).get("parameters")
    return whole(parameters.get(name)) if isinstance(parameters, dict) else None


def error_code(body: bytes) -> int | None:
    """The code of an error envelope; None for a success, and for what is no envelope."""
    answer = json_object(body) or {}
    return None if answer.get("ok") is True else whole(answer.get("error_code"))


def description(body: bytes) -> str:
    """What an envelope says in words, in lower case; nothing where it is none."""
    return str((json_object(body) or {}).get("description", "")).lower()


def result(body: bytes) -> object:
    """What a successful call gave; None for everything else."""
    answer = json_object(body) or {}
    return answer.get("result") if answer.get("ok") is True else None


def file_id_of(body: bytes) -> str | None:
    """What Telegram calls the file that came with a text it has just taken. Of a photo it keeps several sizes."""
    message = result(body)
    if not isinstance(message, dict):
        return None
    document, sizes = message.get("document"), message.get("photo")
    file = document if isinstance(document, dict) else sizes[-1] if isinstance(sizes, list) and sizes else None
    identity = file.get("file_id") if isinstance(file, dict) else None
    return identity if isinstance(identity, str) and 0 < len(identity) <= 300 else None


def is_public(address: str) -> bool:
    """A group or a channel: people have positive ids, these negative ones or a name."""
    return address.startswith(("-", "@"))


# ── how a call is written ───────────────────────────────────────────────────────────────────────────


def call(address: str, rest: bytes) -> bytes:
    """The JSON of a call: whom it is for, and the rest, which is the same for everybody."""
    chat = f'"{address}"' if address.startswith("@") else address
    return b'{"chat_id":' + chat.encode() + b"," + rest


@lru_cache(maxsize=256)
def message(words: str, shows: str = "", replies_to: int | None = None, buttons: Rows = ()) -> bytes:
    """The rest of a sendMessage. `shows` is the address of a picture, put above the words as large as it goes."""
    preview = {"url": shows, "prefer_large_media": True, "show_above_text": True} if shows else DISABLED
    return _rest({"text": words, "link_preview_options": preview} | _reply(replies_to) | _keyboard(buttons))


@lru_cache(maxsize=256)
def enclosed(field: str, file_id: str, words: str, replies_to: int | None = None) -> bytes:
    """The rest of a sendPhoto or a sendDocument that names a file Telegram has."""
    return _rest({field: file_id, "caption": words} | _reply(replies_to))


def upload(address: str, field: str, file: Attachment, words: str, replies_to: int | None = None) -> tuple[bytes, str]:
    """The multipart body of a sendPhoto or a sendDocument that brings the file, and its media type."""
    boundary = secrets.token_hex(16)
    said: dict[str, object] = {"chat_id": address, "caption": words} | _reply(replies_to)
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode()
        + (value if isinstance(value, str) else json.dumps(value)).encode()
        for name, value in said.items()
    ]
    name = re.sub(r'[\x00-\x1f"\\/]', "_", file.name) or "allegato"
    parts.append(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n'
        f"Content-Type: {file.media_type}\r\n\r\n".encode()
        + file.content
    )
    return b"\r\n".join([*parts, f"--{boundary}--\r\n".encode()]), f"multipart/form-data; boundary={boundary}"


def edit(message_id: str, field: str, words: str) -> bytes:
    """The rest of an editMessageText, whose `field` is "text", or of an editMessageCaption: "caption"."""
    said: dict[str, object] = {"message_id": int(message_id), field: words}
    return _rest(said | ({"link_preview_options": DISABLED} if field == "text" else {}))


def rewritten(message_id: int, words: str, buttons: Rows) -> bytes:
    """The rest of an editMessageText that puts another text, and other buttons or none, in the place of one."""
    said: dict[str, object] = {"message_id": message_id, "text": words, "link_preview_options": DISABLED}
    return _rest(said | _keyboard(buttons))


def _keyboard(buttons: Rows) -> dict[str, object]:
    rows = [[{"text": one.text, "callback_data": one.data} for one in row] for row in buttons]
    return {"reply_markup": {"inline_keyboard": rows}} if rows else {}


def encoded(**asked: object) -> bytes:
    """The JSON of any other call."""
    return json.dumps(asked, separators=(",", ":")).encode()


def _rest(said: Mapping[str, object]) -> bytes:
    return json.dumps(said, separators=(",", ":")).encode()[1:]


def _reply(to: int | None) -> dict[str, object]:
    return {"reply_parameters": {"message_id": to, "allow_sending_without_reply": True}} if to is not None else {}


def fits(words: str, most: int) -> bool:
    return len(words.encode("utf-16-le", "surrogatepass")) // 2 <= most


def cut(words: str, most: int) -> str:
    """So much of it as fits, in UTF-16 units; the end gives way."""
    if fits(words, most):
        return words
    return words.encode("utf-16-le", "surrogatepass")[: 2 * (most - 1)].decode("utf-16-le", "ignore") + "…"
