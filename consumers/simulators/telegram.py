"""Telegram's Bot API as published: envelopes, floods, files, channels, blocked bots, webhooks and polling.

Chats ending in 404 do not exist, 403 blocked the bot, 429 are flooded, 503 find an HTML page, 504 find
silence, 505 get the text while our line dies.
"""

import asyncio
import json
import math
import random
import re
import time
from dataclasses import dataclass, field
from typing import Any

from aiohttp import BodyPartReader, web
from pydantic import BaseModel, ConfigDict, Field

from consumers.simulators.bot_markup import BadMarkup, plain
from consumers.simulators.courier import Courier, Parcel
from consumers.simulators.limits import Bucket
from consumers.simulators.phones import Phones
from consumers.simulators.serving import Limits, Served, serve, told

LONGEST_TEXT, LONGEST_CAPTION = 4096, 1024  # UTF-16 code units, counted when the markup is read
LARGEST = {"photo": 10_000_000, "document": 50_000_000}  # bytes of an upload
PHOTOS = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG": "image/png", b"RIFF": "image/webp"}
"""How a file begins that is a picture."""
SECRET_TOKEN = re.compile(r"[A-Za-z0-9_-]{0,256}")
PRESS_LASTS = 15.0  # seconds: later nobody looks at the button any more
BY_ADDRESS = {"404": 404, "403": 403, "429": 429, "503": 503, "504": 504, "505": 505}
HTML = "<html><head><title>503 Service Temporarily Unavailable</title></head><body>nginx</body></html>"

BLOCKED = "Forbidden: bot was blocked by the user"
NOT_FOUND = "Bad Request: chat not found"
WEBHOOK_ACTIVE = (
    "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"
)
WRONG_FILE = "Bad Request: wrong file_id or the file is temporarily unavailable"
TWO_POLLERS = "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"


class BotAccount(BaseModel):
    """A bot, by the id its token begins with."""

    model_config = ConfigDict(extra="forbid")

    token: str
    username: str = "allerta_bot"
    webhook_url: str | None = None
    webhook_secret: str = ""


class ChannelAccount(BaseModel):
    """A public channel, by its @name. `member` and `may_post` say what our bots are there."""

    model_config = ConfigDict(extra="forbid")

    id: int
    subscribers: list[int] = []
    member: bool = True
    may_post: bool = True


class Config(Limits):
    """What this simulator can be told. Times are seconds, shares 0 to 1. A fault's code is an error_code."""

    accounts: dict[str, BotAccount] = Field(
        default_factory=lambda: {"7000000001": BotAccount(token="7000000001:AAsimulated")}
    )
    channels: dict[str, ChannelAccount] = Field(default_factory=dict)
    moved: dict[int, int] = Field(default_factory=dict)
    """Groups that became supergroups: old id → new id."""
    per_second: float = 30.0
    burst: float = 0.1
    """How much of a second's worth may come at once."""
    chat_per_second: float = 1.0
    chat_burst: int = 3
    group_per_minute: float = 20.0
    lost_files: bool = False
    """Whether no file_id is good any more."""
    no_photos: list[int] = Field(default_factory=list)
    """Groups that let our bots write and show nothing."""


@dataclass(frozen=True, slots=True)
class File:
    """What came with a text, as multipart has it."""

    name: str
    media_type: str
    content: bytes


@dataclass(slots=True)
class Sent:
    """A message of a bot, as it reads now; `media` what is shown with it."""

    target: str
    text: str
    media: dict[str, Any] | None = None
    buttons: list[list[dict[str, str]]] = field(default_factory=list)


@dataclass(slots=True)
class Bot:
    """What one bot has going on."""

    identity: str
    bucket: Bucket
    chats: dict[int, Bucket] = field(default_factory=dict)
    blocked_by: set[int] = field(default_factory=set)
    updates: list[dict[str, object]] = field(default_factory=list)
    poller: "asyncio.Future[str | None] | None" = None
    files: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    sent: dict[tuple[int, int], Sent] = field(default_factory=dict)
    pressed: dict[str, float] = field(default_factory=dict)
    webhook_set_at: float = -1.0
    trouble: tuple[int, str] | None = None
    said: int = 0
    update_id: int = 100_000


@dataclass(frozen=True, slots=True)
class Update:
    """One update on its way to a bot's webhook."""

    bot: str
    body: dict[str, object]


class Wrong(Exception):
    """This call gets an error envelope."""

    def __init__(self, code: int, description: str, **parameters: int) -> None:
        super().__init__(f"the caller gets {code}")
        self.code, self.description, self.parameters = code, description, parameters


class TelegramSimulator:
    """All bots, all chats, and what reached them."""

    def __init__(self, config: Config) -> None:
        self.phones = Phones("Telegram", write=True)
        self._dice = random.Random(8)  # the same bad luck in every run
        self._bots: dict[str, Bot] = {}
        self._take_config(config)
        self._courier = Courier(
            self._pack,
            # The first repetition is immediate, then the wait doubles from a second up to a minute or two, for a day:
            # WebhookActor.cpp
            waits=(0.001, 1, 2, 4, 8, 16, 32, *(random.uniform(60, 120) for _ in range(960))),
            at_once=40,
            per_parcel=1,
            heed_retry_after=True,
            heard=self._heard,
        )
        self.answered: list[dict[str, str]] = []
        self._methods = {
            "sendmessage": self._send,
            "sendphoto": self._send,
            "senddocument": self._send,
            "editmessagetext": self._edit,
            "editmessagecaption": self._edit,
            "answercallbackquery": self._answer_callback_query,
            "getme": self._get_me,
            "getupdates": self._get_updates,
            "setwebhook": self._set_webhook,
            "deletewebhook": self._delete_webhook,
            "getwebhookinfo": self._get_webhook_info,
            "getchatmembercount": self._get_chat_member_count,
        }

    def _take_config(self, config: Config) -> None:
        self._config = config
        self.phones.names = {identity: f"@{account.username}" for identity, account in config.accounts.items()}
        for identity in config.accounts:
            bucket = Bucket(config.per_second, config.per_second * config.burst)
            bot = self._bots.setdefault(identity, Bot(identity, bucket))
            bot.bucket = bucket
            bot.chats.clear()
        self._by_token = {account.token: identity for identity, account in config.accounts.items()}
        self._channels = {channel.id: channel for channel in config.channels.values()}

    def routes(self) -> list[web.RouteDef]:
        """The Bot API, and a way to play a citizen."""
        return [
            web.route("*", "/bot{token}/{method}", self._call),
            web.post("/__sim/inbound", self._inbound),
            web.get("/__sim/answered", self._get_answered),
        ]

    def configure(self, changes: dict[str, Any]) -> dict[str, Any]:
        """Change what is named, keep the rest, return all of it. Raises ValueError."""
        self._take_config(told(self._config, changes))
        return self._config.model_dump()

    def reset(self) -> None:
        """Forget all that happened; keep the configuration and the numbering."""
        self.phones.forget()
        self._courier.forget()
        for bot in self._bots.values():
            bot.blocked_by.clear()
            bot.updates.clear()
            bot.pressed.clear()
        self.answered.clear()
        self._take_config(self._config)

    def webhooks(self) -> dict[str, int]:
        """How the posts to the bots' webhooks went."""
        return self._courier.tally()

    async def close(self) -> None:
        """Stop posting."""
        await self._courier.close()

    # ── a call comes in ─────────────────────────────────────────────────────────────────────────────

    async def _call(self, request: web.Request) -> web.StreamResponse:
        if self._config.latency:
            await asyncio.sleep(self._config.latency)
        try:
            identity = self._by_token.get(request.match_info["token"])
            if identity is None:
                raise Wrong(401, "Unauthorized")
            method = self._methods.get(request.match_info["method"].lower())
            if method is None:
                raise Wrong(404, "Not Found: method not found")
            parameters = await _parameters(request)
            return await method(self._bots[identity], parameters, request)
        except Wrong as wrong:
            self.phones.refused[str(wrong.code)] += 1
            return _error(wrong)

    async def _send(self, bot: Bot, asked: dict[str, Any], request: web.Request) -> web.StreamResponse:
        target = str(asked.get("chat_id", ""))
        fault = BY_ADDRESS.get(target[-3:]) or self._fault()
        if fault == 503:
            self.phones.refused["503"] += 1
            return web.Response(status=503, text=HTML, content_type="text/html")
        if fault == 504:
            self.phones.refused["504"] += 1
            await asyncio.Event().wait()  # until the caller hangs up
        kind = request.match_info["method"].lower().removeprefix("send")
        text = _text(asked) if kind == "message" else _caption(asked)
        chat = self._chat(bot, target)
        if kind != "message" and chat in self._config.no_photos:
            raise Wrong(400, f"Bad Request: not enough rights to send {kind}s to the chat")
        file_id = None if kind == "message" else self._file(bot, kind, asked.get(kind))
        self._check_reply(bot, chat, asked)
        self._check_pace(bot, chat)
        if fault is not None and fault != 505:
            raise _fault_of(fault)
        message = self._take(bot, chat, target, text, file_id, _buttons(asked))
        if fault == 505 and request.transport is not None:
            request.transport.abort()
        return _result(message)

    def _file(self, bot: Bot, kind: str, said: File | str | None) -> str:
        """The id of a file that comes with a call, or is named in it. Raises Wrong."""
        if isinstance(said, str):
            if self._config.lost_files or bot.files.get(said, ("", {}))[0] != kind:
                raise Wrong(400, WRONG_FILE)
            return said
        if said is None:
            raise Wrong(400, f"Bad Request: there is no {kind} in the request")
        if not said.content:
            raise Wrong(400, "Bad Request: file must be non-empty")
        if len(said.content) > LARGEST[kind]:
            raise Wrong(413, "Request Entity Too Large")
        media_type = said.media_type
        if kind == "photo":
            media_type = next((known for begins, known in PHOTOS.items() if said.content.startswith(begins)), "")
            if not media_type:
                raise Wrong(400, "Bad Request: IMAGE_PROCESS_FAILED")
        file_id = f"{'AgACAgQAAx' if kind == 'photo' else 'BQACAgQAAx'}{bot.identity}_{len(bot.files) + 1}"
        bot.files[file_id] = (kind, self.phones.keep(said.content, media_type, said.name))
        return file_id

    def _check_reply(self, bot: Bot, chat: int, asked: dict[str, Any]) -> None:
        reply = asked.get("reply_parameters") or {}
        reply = json.loads(reply) if isinstance(reply, str) else reply
        if reply and not reply.get("allow_sending_without_reply") and (chat, reply.get("message_id")) not in bot.sent:
            raise Wrong(400, "Bad Request: message to be replied not found")

    async def _edit(self, bot: Bot, asked: dict[str, Any], request: web.Request) -> web.StreamResponse:
        is_text = request.match_info["method"].lower().endswith("text")
        text = _text(asked) if is_text else _caption(asked)
        chat = self._chat(bot, str(asked.get("chat_id", "")))
        identity = _number(asked, "message_id", 0)
        sent = bot.sent.get((chat, identity))
        if sent is None:
            raise Wrong(400, "Bad Request: message to edit not found")
        if is_text and sent.media is not None:
            raise Wrong(400, "Bad Request: there is no text in the message to edit")
        self._check_pace(bot, chat)
        buttons = _buttons(asked)
        if (sent.text, sent.buttons) == (text, buttons):
            raise Wrong(
                400,
                "Bad Request: message is not modified: specified new message content and reply markup are exactly "
                "the same as a current content and reply markup of the message",
            )
        sent.text, sent.buttons = text, buttons
        self._show(bot, chat, identity, sent, edits=str(identity))
        return _result({**self._message(bot, chat, identity, sent), "edit_date": int(self._now())})

    async def _answer_callback_query(self, bot: Bot, asked: dict[str, Any], _: web.Request) -> web.StreamResponse:
        identity = str(asked.get("callback_query_id", ""))
        if self._now() - bot.pressed.pop(identity, -PRESS_LASTS) > PRESS_LASTS:
            raise Wrong(400, "Bad Request: query is too old and response timeout expired or query ID is invalid")
        self.answered.append({"account": bot.identity, "id": identity, "text": str(asked.get("text", ""))})
        return _result(True)

    async def _get_answered(self, _: web.Request) -> web.Response:
        return web.json_response({"items": self.answered})

    def _fault(self) -> int | None:
        for code, share in self._config.faults.items():
            if self._dice.random() < share:
                return code
        return None

    def _chat(self, bot: Bot, target: str) -> int:
        """The id of the chat a call names. Raises Wrong where our bot cannot write there."""
        if target in self._config.channels:
            target = str(self._config.channels[target].id)
        if not target.lstrip("-").isdecimal():
            raise Wrong(400, NOT_FOUND if target else "Bad Request: chat_id is empty")
        chat = int(target)
        if chat in self._config.moved:
            raise Wrong(
                400,
                "Bad Request: group chat was upgraded to a supergroup chat",
                migrate_to_chat_id=self._config.moved[chat],
            )
        channel = self._channels.get(chat)
        if channel is not None and not channel.member:
            raise Wrong(403, "Forbidden: bot is not a member of the channel chat")
        if channel is not None and not channel.may_post:
            raise Wrong(400, "Bad Request: need administrator rights in the channel chat")
        if chat in bot.blocked_by:
            raise Wrong(403, BLOCKED)
        return chat

    def _check_pace(self, bot: Bot, chat: int) -> None:
        now = self._now()
        wait = bot.bucket.take(now)
        if wait <= 0:
            own = bot.chats.get(chat)
            if own is None:
                own = bot.chats[chat] = self._chat_bucket(chat)
            wait = own.take(now)
        if wait > 0:
            raise _flood(math.ceil(wait))

    def _chat_bucket(self, chat: int) -> Bucket:
        if chat < 0 and chat not in self._channels:
            return Bucket(self._config.group_per_minute / 60, self._config.group_per_minute)
        return Bucket(self._config.chat_per_second, self._config.chat_burst)

    def _take(
        self,
        bot: Bot,
        chat: int,
        target: str,
        text: str,
        file_id: str | None,
        buttons: list[list[dict[str, str]]],
    ) -> dict[str, object]:
        bot.said += 1
        sent = bot.sent[chat, bot.said] = Sent(target, text, bot.files[file_id][1] if file_id else None, buttons)
        self._show(bot, chat, bot.said, sent)
        message = self._message(bot, chat, bot.said, sent)
        if file_id is None:
            return message
        kind, media = bot.files[file_id]
        file = {"file_id": file_id, "file_unique_id": file_id[-8:], "file_size": 1}
        if kind == "document":
            return message | {"document": file | {"file_name": media["name"], "mime_type": media["media_type"]}}
        small = file | {"file_id": f"{file_id}s", "width": 90, "height": 67}
        return message | {"photo": [small, file | {"width": 1280, "height": 960}]}

    def _show(self, bot: Bot, chat: int, identity: int, sent: Sent, **more: Any) -> None:
        channel = self._channels.get(chat)
        self.phones.receive(
            at=time.time(),
            to=sent.target,
            account=bot.identity,
            identity=str(identity),
            text=sent.text,
            readers=map(str, channel.subscribers) if channel is not None else (),
            media=sent.media,
            buttons=sent.buttons,
            **more,
        )

    def _message(self, bot: Bot, chat: int, identity: int, sent: Sent) -> dict[str, object]:
        kind: dict[str, object] = {"id": chat, "type": "private", "first_name": "Maria"}
        if chat < 0:
            kind = {
                "id": chat,
                "type": "channel" if chat in self._channels else "supergroup",
                "title": "Allerte",
            }
            if sent.target.startswith("@"):
                kind["username"] = sent.target[1:]
        sender = {"from": self._me(bot)} if chat > 0 else {"sender_chat": kind}
        words = {"text" if sent.media is None else "caption": sent.text}
        return {"message_id": identity, **sender, "chat": kind, "date": int(self._now()), **words}

    def _me(self, bot: Bot) -> dict[str, object]:
        username = self._config.accounts[bot.identity].username
        return {"id": int(bot.identity), "is_bot": True, "first_name": "Allerta", "username": username}

    def _now(self) -> float:
        return time.time() + self._config.clock_ahead

    async def _get_me(self, bot: Bot, _: dict[str, Any], __: web.Request) -> web.StreamResponse:
        return _result(self._me(bot))

    async def _get_chat_member_count(self, bot: Bot, asked: dict[str, Any], _: web.Request) -> web.StreamResponse:
        channel = self._channels.get(self._chat(bot, str(asked.get("chat_id", ""))))
        return _result(2 if channel is None else len(channel.subscribers) + 1)

    # ── updates: pushed or polled, never both ───────────────────────────────────────────────────────

    async def _set_webhook(self, bot: Bot, asked: dict[str, Any], _: web.Request) -> web.StreamResponse:
        url = str(asked.get("url", ""))
        if not url:
            return await self._delete_webhook(bot, asked, _)
        # Plain http too, as the server takes with --local.
        if not url.startswith(("https://", "http://")):
            raise Wrong(400, "Bad Request: bad webhook: An HTTPS URL must be provided for webhook")
        if not SECRET_TOKEN.fullmatch(str(asked.get("secret_token", ""))):
            raise Wrong(400, "Bad Request: secret token contains unallowed characters")
        if self._now() - bot.webhook_set_at < 1:
            raise _flood(1)
        bot.webhook_set_at, bot.trouble = self._now(), None
        account = self._config.accounts[bot.identity]
        account.webhook_url, account.webhook_secret = url, str(asked.get("secret_token", ""))
        self._interrupt(bot, WEBHOOK_ACTIVE)
        waiting, bot.updates = bot.updates, []
        if not asked.get("drop_pending_updates"):
            for update in waiting:
                self._courier.carry(Update(bot.identity, update))
        return _result(True, "Webhook was set")

    async def _delete_webhook(self, bot: Bot, _: dict[str, Any], __: web.Request) -> web.StreamResponse:
        self._config.accounts[bot.identity].webhook_url = None
        return _result(True, "Webhook was deleted")

    async def _get_webhook_info(self, bot: Bot, _: dict[str, Any], __: web.Request) -> web.StreamResponse:
        account, tally = self._config.accounts[bot.identity], self._courier.tally()
        pending = tally["waiting"] + tally["travelling"] + len(bot.updates)
        url = account.webhook_url or ""
        info: dict[str, object] = {"url": url, "has_custom_certificate": False, "pending_update_count": pending}
        if bot.trouble is not None:
            info |= {"last_error_date": bot.trouble[0], "last_error_message": bot.trouble[1]}
        return _result(info)

    async def _get_updates(self, bot: Bot, asked: dict[str, Any], _: web.Request) -> web.StreamResponse:
        if self._config.accounts[bot.identity].webhook_url is not None:
            raise Wrong(409, WEBHOOK_ACTIVE)
        self._interrupt(bot, TWO_POLLERS)
        offset, limit = _number(asked, "offset", 0), min(max(_number(asked, "limit", 100), 1), 100)
        bot.updates = [update for update in bot.updates if int(str(update["update_id"])) >= offset]
        timeout = min(_number(asked, "timeout", 0), 50)
        if not bot.updates and timeout > 0:
            await self._wait_for_updates(bot, timeout)
        return _result(bot.updates[:limit])

    async def _wait_for_updates(self, bot: Bot, timeout: float) -> None:
        poller = bot.poller = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout):
                conflict = await poller
        except TimeoutError:
            return  # nobody wrote
        finally:
            if bot.poller is poller:
                bot.poller = None
        if conflict is not None:
            raise Wrong(409, conflict)

    def _interrupt(self, bot: Bot, conflict: str | None) -> None:
        if bot.poller is not None and not bot.poller.done():
            bot.poller.set_result(conflict)
            bot.poller = None

    async def _inbound(self, request: web.Request) -> web.Response:
        """A citizen acts: {"from": chat id, "text": "/start"}, {"from": …, "action": "block" | "unblock"},
        {"from": …, "press": "SAFE:8f3c"}, below the bot's last text there; a group: {"from": …, "action": "migrate",
        "to": …}.

        "account" is the bot's id; without it the first bot is meant.
        """
        said = await request.json()
        bot = self._bots.get(str(said.get("account") or next(iter(self._config.accounts))))
        if bot is None or not str(said.get("from", "")).lstrip("-").isdecimal():
            return web.json_response({"error": "say from which chat, and to a bot that exists"}, status=400)
        chat = int(said["from"])
        bot.update_id += 1
        update = {"update_id": bot.update_id, **self._act(bot, chat, said)}
        if self._config.accounts[bot.identity].webhook_url is not None:
            self._courier.carry(Update(bot.identity, update))
        else:
            bot.updates.append(update)
            self._interrupt(bot, None)
        return web.json_response({"update_id": bot.update_id})

    def _act(self, bot: Bot, chat: int, said: dict[str, Any]) -> dict[str, object]:
        maria = {"id": chat, "is_bot": False, "first_name": "Maria", "language_code": "it"}
        if (action := said.get("action")) in ("block", "unblock"):
            return {"my_chat_member": self._door(bot, chat, shut=action == "block")}
        if action == "press" or "press" in said:
            identity = f"{chat}{bot.update_id}"
            bot.pressed[identity] = self._now()
            instance = {"id": identity, "from": maria, "chat_instance": "1"}
            instance["data"] = str(said.get("press", said.get("data", "")))
            last = max((number for where, number in bot.sent if where == chat), default=None)
            if last is not None:
                instance["message"] = self._message(bot, chat, last, bot.sent[chat, last])
            return {"callback_query": instance}
        bot.said += 1
        message = {"message_id": bot.said, "date": int(self._now())}
        if action == "migrate":
            self._config.moved[chat] = int(said["to"])
            group = {"id": chat, "type": "group", "title": "Sala operativa"}
            return {"message": message | {"chat": group, "migrate_to_chat_id": int(said["to"])}}
        self.phones.wrote(str(chat), str(said.get("text", "")), at=self._now())
        private = {"id": chat, "first_name": "Maria", "type": "private"}
        return {"message": message | {"from": maria, "chat": private, "text": str(said.get("text", ""))}}

    def _heard(self, parcel: Parcel, status: int, body: bytes) -> None:
        """What a webhook answers: a trouble is remembered; a success may carry one call, whose result it never sees."""
        bots = (
            self._bots[identity] for identity, one in self._config.accounts.items() if one.webhook_url == parcel.url
        )
        bot = next(bots, None)
        if bot is None:
            return
        if not 200 <= status < 300:
            words = f"Wrong response from the webhook: {status}" if status else "Connection timed out"
            bot.trouble = (int(self._now()), words)
            return
        try:
            asked = json.loads(body)
        except ValueError:
            return
        if isinstance(asked, dict) and str(asked.get("method", "")).lower() == "answercallbackquery":
            identity = str(asked.get("callback_query_id", ""))
            if bot.pressed.pop(identity, None) is not None:
                self.answered.append({"account": bot.identity, "id": identity, "text": str(asked.get("text", ""))})

    def _door(self, bot: Bot, chat: int, *, shut: bool) -> dict[str, object]:
        (bot.blocked_by.add if shut else bot.blocked_by.discard)(chat)
        before, after = ("member", "kicked") if shut else ("kicked", "member")
        return {
            "chat": {"id": chat, "first_name": "Maria", "type": "private"},
            "from": {"id": chat, "is_bot": False, "first_name": "Maria"},
            "date": int(self._now()),
            "old_chat_member": {"user": self._me(bot), "status": before},
            "new_chat_member": {"user": self._me(bot), "status": after},
        }

    def _pack(self, updates: list[Update]) -> list[Parcel]:
        parcels = []
        for update in updates:
            account = self._config.accounts.get(update.bot)
            if account is None or account.webhook_url is None:
                continue
            headers = {"Content-Type": "application/json"}
            if account.webhook_secret:
                headers["X-Telegram-Bot-Api-Secret-Token"] = account.webhook_secret
            parcels.append(Parcel(account.webhook_url, headers, json.dumps(update.body).encode()))
        return parcels


async def _parameters(request: web.Request) -> dict[str, Any]:
    """The arguments of a call, wherever the caller put them: body, form or query."""
    if request.content_type == "application/json":
        try:
            found = json.loads(await request.read() or b"{}")
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise Wrong(400, "Bad Request: can't parse JSON object")
        return found
    if request.content_type == "multipart/form-data":
        return {**request.query, **await _parts(request)}
    return {**request.query, **await request.post()}


async def _parts(request: web.Request) -> dict[str, File | str]:
    """The parts of a multipart body. Larger ones than aiohttp takes are taken here."""
    found: dict[str, File | str] = {}
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader) or part.name is None:
            raise Wrong(400, "Bad Request: can't parse multipart/form-data")
        content = bytearray()
        while piece := await part.read_chunk(2**16):
            content += piece
        if part.filename is None:
            found[part.name] = content.decode()
        else:
            media_type = part.headers.get("Content-Type", "application/octet-stream")
            found[part.name] = File(part.filename, media_type, bytes(content))
    return found


def _text(asked: dict[str, Any]) -> str:
    text = _plain(asked, "text")
    if not text.strip():
        raise Wrong(400, "Bad Request: message text is empty")
    if _units(text) > LONGEST_TEXT:
        raise Wrong(400, "Bad Request: message is too long")
    return text


def _buttons(asked: dict[str, Any]) -> list[list[dict[str, str]]]:
    """The inline keyboard of a call, checked as the server checks it."""
    markup = asked.get("reply_markup") or {}
    rows: list[list[dict[str, str]]] = (json.loads(markup) if isinstance(markup, str) else markup).get(
        "inline_keyboard", []
    )
    for button in (one for row in rows for one in row):
        if not str(button.get("text", "")).strip():
            raise Wrong(400, "Bad Request: inline keyboard button text must be non-empty")
        if not 1 <= len(str(button.get("callback_data", "")).encode()) <= 64:
            raise Wrong(400, "Bad Request: BUTTON_DATA_INVALID")
    return rows


def _caption(asked: dict[str, Any]) -> str:
    text = _plain(asked, "caption")
    if _units(text) > LONGEST_CAPTION:
        raise Wrong(400, "Bad Request: message caption is too long")
    return text


def _plain(asked: dict[str, Any], name: str) -> str:
    text = asked.get(name)
    if not isinstance(text, str):
        return ""
    if str(asked.get("parse_mode", "")).upper() != "HTML":
        return text
    try:
        return plain(text)
    except BadMarkup as flaw:
        raise Wrong(400, f"Bad Request: can't parse entities: {flaw}") from None


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _number(asked: dict[str, Any], name: str, usual: int) -> int:
    try:
        return int(asked.get(name, usual))
    except (TypeError, ValueError):
        return usual


def _flood(seconds: int) -> Wrong:
    seconds = max(seconds, 1)
    return Wrong(429, f"Too Many Requests: retry after {seconds}", retry_after=seconds)


def _fault_of(code: int) -> Wrong:
    match code:
        case 404:
            return Wrong(400, NOT_FOUND)
        case 403:
            return Wrong(403, BLOCKED)
        case 429:
            return _flood(7)
        case 401:
            return Wrong(401, "Unauthorized")
        case _:
            return Wrong(code, "Internal Server Error" if code >= 500 else "Bad Request")


def _result(result: object, description: str | None = None) -> web.Response:
    envelope: dict[str, object] = {"ok": True, "result": result}
    if description is not None:
        envelope["description"] = description
    body = json.dumps(envelope, separators=(",", ":")).encode()
    return web.Response(body=body, content_type="application/json")


def _error(wrong: Wrong) -> web.Response:
    envelope = {"ok": False, "error_code": wrong.code, "description": wrong.description}
    headers = {}
    if wrong.parameters:
        envelope["parameters"] = wrong.parameters
    if "retry_after" in wrong.parameters:
        headers["Retry-After"] = str(wrong.parameters["retry_after"])
    return web.json_response(envelope, status=wrong.code, headers=headers)


async def start(config: dict[str, Any] | None = None, *, host: str = "127.0.0.1", port: int = 0) -> Served:
    """Listen, and hand back the base URL with what closes it again. Raises ValueError for a wrong config."""
    return await serve(TelegramSimulator(told(Config(), config or {})), host=host, port=port)
