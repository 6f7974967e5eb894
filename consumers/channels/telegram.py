"""Telegram Bot API: one text to one chat, or one post that reaches a whole channel."""

import json
import re
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
from alerting.domain.delivery import Channel as ChannelName
from consumers.channel import Account, Text
from consumers.channels.line import Answer, Line, endpoint, json_object, without_a_code

ADDRESS = re.compile(r"-?[1-9][0-9]{0,18}|@[A-Za-z][A-Za-z0-9_]{3,31}")
TOKEN = re.compile(r"[A-Za-z0-9:_-]+")
LONGEST_PAUSE = timedelta(hours=1)

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


def classify(status: int, body: bytes, account: str, address: str = "", retry_after: str | None = None) -> Outcome:
    """What an answer means, by its envelope and not by the HTTP status. `retry_after` is the header.

    Raises ChannelHalted and TextRejected. What nobody has documented is never a refusal.
    """
    answer = json_object(body)
    if answer is None:
        return without_a_code(status)
    if answer.get("ok") is True:
        return _taken(answer)
    code = _whole(answer.get("error_code"))
    if code is None:
        return without_a_code(status)
    if code == 429:
        wait = _pause(answer, retry_after)
        return Deferred(Reason.THROTTLED, wait, whole_account=_is_private(address))
    if code in HALTS:
        raise ChannelHalted(account, HALTS[code])
    if code in (400, 403):
        return _told(str(answer.get("description")).lower(), account)
    return without_a_code(code)


def _told(description: str, account: str) -> Outcome:
    for words, meaning in MEANINGS:
        if words in description:
            if isinstance(meaning, str):
                raise TextRejected(account, meaning)
            return meaning
    return Deferred(Reason.UNKNOWN_ANSWER)


def _taken(answer: dict[str, object]) -> Outcome:
    result = answer.get("result")
    identity = _whole(result.get("message_id")) if isinstance(result, dict) else None
    return Uncertain(Reason.UNKNOWN_ANSWER) if identity is None else Accepted(str(identity))


def _whole(found: object) -> int | None:
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def _pause(answer: dict[str, object], header: str | None) -> timedelta:
    """What Telegram asks for: between a second and an hour, so that no odd answer silences us for a day."""
    parameters = answer.get("parameters")
    seconds = _whole(parameters.get("retry_after")) if isinstance(parameters, dict) else None
    if seconds is None and header is not None and re.fullmatch(r"[0-9]{1,9}", header):
        seconds = int(header)
    return timedelta(seconds=min(max(seconds or 1, 1), LONGEST_PAUSE.total_seconds()))


def _is_private(address: str) -> bool:
    """People have positive ids, groups and channels negative ones or a name."""
    return not address.startswith(("-", "@"))


def moved_to(body: bytes) -> int | None:
    """Where a group went that became a supergroup, if that is what an answer says."""
    parameters = (json_object(body) or {}).get("parameters")
    return _whole(parameters.get("migrate_to_chat_id")) if isinstance(parameters, dict) else None


class Telegram:
    """The Bot API. The account's token is the bot's; an address is a chat id or the @name of a channel.

    Telegram takes no reference of ours and no time to live. Make it inside a running event loop.
    """

    name = ChannelName.TELEGRAM

    def __init__(
        self,
        *,
        limit_per_host: int = 100,
        connect: timedelta = timedelta(seconds=3),
        total: timedelta = timedelta(seconds=10),
    ) -> None:
        self._line = Line(limit_per_host=limit_per_host, connect=connect, total=total)

    async def send(self, account: Account, address: str, text: Text, reference: str) -> Outcome:
        """One text to one chat, or to all who follow a channel. Raises ChannelHalted and TextRejected."""
        if ADDRESS.fullmatch(address) is None:
            return Refused(Reason.NOT_REACHABLE_HERE)
        answer = await self._say(account, address, text)
        if isinstance(answer, Answer) and (moved := moved_to(answer.body)) is not None:
            address = str(moved)
            answer = await self._say(account, address, text)
        if not isinstance(answer, Answer):
            return answer
        return classify(answer.status, answer.body, account.name, address, answer.retry_after)

    async def close(self) -> None:
        """Close connections. No send is under way."""
        await self._line.close()

    async def _say(self, account: Account, address: str, text: Text) -> Answer | Deferred | Uncertain:
        if TOKEN.fullmatch(account.token.value) is None:
            raise ChannelHalted(account.name, "its bot token is malformed; enter it again")
        url = endpoint(account, f"/bot{account.token.value}/sendMessage")
        chat = address if address.startswith("@") else int(address)
        body = {"chat_id": chat, "text": text.body, "link_preview_options": {"is_disabled": True}}
        return await self._line.post(url, json.dumps(body, separators=(",", ":")).encode())
