"""How Telegram's updates come to us: to a webhook that is set once, or asked for where no public address takes them."""

import asyncio
import json
import random
import re
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError

from alerting import inbox
from alerting.desk.handing import Desks
from alerting.domain.delivery import Channel, ChannelHalted
from alerting.persistence import Database, tables
from alerting.sealing import Seal
from alerting.webhooks import Pressed
from alerting.webhooks.telegram import ALLOWED_UPDATES, read_update
from consumers.channel import Account
from consumers.channels import bot_api
from consumers.channels.line import Answer, Line
from consumers.channels.telegram import url_of

log = structlog.get_logger()

WAITS = timedelta(seconds=25)
"""How long Telegram keeps a question open until somebody writes; it grants 50 seconds."""
ANSWERS_WITHIN = timedelta(seconds=15)
"""And how long its answer may take beyond that."""
MOST = 100
LONGEST_ANSWER = 16_000_000
"""Bytes: a hundred texts of full length, each letter written as \\uXXXX."""
OFFSET_LASTS = timedelta(days=6)
"""A bot that was silent for a week is numbered anew, and may begin below: what is lower would be thrown away unread."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
PAUSE_OF_A_RIVAL = 30.0
PAUSE_OF_A_HALT = 300.0
SECRET_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,256}")


class Polling:
    """Asks for the updates of one bot and keeps them. Make it inside a running event loop.

    What was read is told to Telegram by the next question, after it is in the database: whoever dies between is told
    the same again, and recognises it.
    """

    def __init__(
        self, database: Database, seal: Seal, account: Account, desks: Desks, *, waits: timedelta = WAITS
    ) -> None:
        self._database = database
        self._seal = seal
        self._desks = desks
        self._account = account
        self._waits = waits
        self._most = MOST
        self._failures = 0
        total = waits + ANSWERS_WITHIN
        self._line = Line(limit_per_host=2, connect=timedelta(seconds=5), total=total)

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                try:
                    pause = await self.ask()
                except (SQLAlchemyError, OSError) as error:
                    log.warning("waiting for the database", account=self._account.name, error=type(error).__name__)
                    pause = self._longer()
                except ChannelHalted as halt:
                    log.error("nobody is heard on this bot", account=self._account.name, cause=halt.cause)
                    pause = PAUSE_OF_A_HALT
                await asyncio.sleep(pause)
        finally:
            await self._line.close()

    async def ask(self) -> float:
        """One question, and its answer kept. How many seconds to wait before the next."""
        offset = await self._next_update()
        question = bot_api.encoded(
            offset=offset,
            limit=self._most,
            timeout=int(self._waits.total_seconds()),
            allowed_updates=ALLOWED_UPDATES,
        )
        said = await self._line.post(url_of(self._account, "getUpdates"), question, longest=LONGEST_ANSWER)
        if not isinstance(said, Answer):
            return self._longer()
        updates = bot_api.result(said.body)
        if not isinstance(updates, list):
            return self._trouble(said)
        self._failures, self._most = 0, MOST
        if not updates:
            return 0.0
        return 0.0 if await self._keep([one for one in updates if isinstance(one, dict)]) else self._longer()

    # ── what came ───────────────────────────────────────────────────────────────────────────────────

    async def _keep(self, updates: Iterable[dict[str, object]]) -> bool:
        """Into the inbox, and how far we are with it. Whether there was anything with a number."""
        now, pressed, last = datetime.now(UTC), [], None
        async with self._database.write() as session:
            for update in updates:
                number = bot_api.whole(update.get("update_id"))
                last = max(last or 0, number) if number is not None else last
                read = read_update(update)
                if isinstance(read, Pressed):
                    pressed.append(read)
                if read is not None and not (isinstance(read, Pressed) and (not read.data or read.message is None)):
                    await inbox.keep(session, self._account.name, Channel.TELEGRAM, read, self._desks, self._seal, now)
            if last is not None:
                reached = {"account": self._account.name, "next_update": last + 1, "at": time.time()}
                await session.merge(tables.PolledBot(**reached))
        for press in pressed:
            await self._answer(press)
        return last is not None

    async def _answer(self, press: Pressed) -> None:
        """So that the app stops waiting. Whoever it does not reach presses again."""
        body = bot_api.encoded(callback_query_id=press.identity)
        said = await self._line.post(url_of(self._account, "answerCallbackQuery"), body)
        if not isinstance(said, Answer) or bot_api.result(said.body) is None:
            log.info("a pressed button was not answered", account=self._account.name)

    async def _next_update(self) -> int:
        """The first one we have not seen; 0 for whichever Telegram still has."""
        async with self._database.read() as session:
            row = await session.get(tables.PolledBot, self._account.name)
        return row.next_update if row and time.time() - row.at < OFFSET_LASTS.total_seconds() else 0

    # ── what went wrong ─────────────────────────────────────────────────────────────────────────────

    def _trouble(self, said: Answer) -> float:
        code = bot_api.error_code(said.body)
        if code in bot_api.HALTS:
            raise ChannelHalted(self._account.name, bot_api.HALTS[code])
        if code == 409:
            log.error(_rival(bot_api.description(said.body)), account=self._account.name)
            return PAUSE_OF_A_RIVAL * random.uniform(1.0, 2.0)  # two that wait alike would meet again
        if code == 429:
            return bot_api.pause(said.body, said.retry_after).total_seconds()
        if code is None and said.status == 200:
            self._most = max(1, self._most // 2)  # so much that it could not be read whole
        log.warning("updates not read", account=self._account.name, status=said.status, code=code)
        return self._longer()

    def _longer(self) -> float:
        """A second, and twice as long after each failure in a row, up to a minute."""
        self._failures += 1
        return float(min(FIRST_PAUSE * 2 ** min(self._failures - 1, 10), LONGEST_PAUSE) * random.uniform(1.0, 1.2))


def _rival(words: str) -> str:
    """What is to be done about a conflict, in a sentence."""
    if "webhook" in words:
        return "a webhook is set for this bot and takes its updates: delete it with telegram-webhook --delete"
    return "another process asks for the updates of this bot: stop one of them"


# ── the webhook ─────────────────────────────────────────────────────────────────────────────────────


class NotSet(Exception):
    """A webhook could not be set or deleted. The sentence says why."""


async def set_webhook(account: Account, url: str, secret: str) -> str:
    """Have the updates of a bot sent there from now on. What Telegram says of it. Raises NotSet and ChannelHalted."""
    if SECRET_TOKEN.fullmatch(secret) is None:
        raise NotSet("its webhook_secret is not 1 to 256 letters, digits, _ and -: make one with openssl rand -hex 32")
    return await _change(account, "setWebhook", url=url, secret_token=secret, allowed_updates=ALLOWED_UPDATES)


async def delete_webhook(account: Account) -> str:
    """Have the updates of a bot kept until they are asked for. Raises NotSet and ChannelHalted."""
    return await _change(account, "deleteWebhook")


async def _change(account: Account, method: str, **asked: object) -> str:
    line = Line(limit_per_host=1, connect=timedelta(seconds=5), total=timedelta(seconds=20))
    try:
        await _call(line, account, method, **asked)
        stands = await _call(line, account, "getWebhookInfo")
    finally:
        await line.close()
    shown = ("url", "pending_update_count", "last_error_date", "last_error_message")
    return json.dumps({key: stands[key] for key in shown if key in stands} if isinstance(stands, dict) else {})


async def _call(line: Line, account: Account, method: str, **asked: object) -> object:
    said = await line.post(url_of(account, method), bot_api.encoded(**asked))
    if not isinstance(said, Answer):
        raise NotSet("Telegram does not answer; try again")
    code = bot_api.error_code(said.body)
    if code in bot_api.HALTS:
        raise ChannelHalted(account.name, bot_api.HALTS[code])
    if (result := bot_api.result(said.body)) is None:
        raise NotSet(f"Telegram answered {said.status}: {bot_api.description(said.body) or 'nothing to be read'}")
    return result
