"""Telegram Bot API: one text to one chat, or one post that reaches a whole channel."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import structlog
from yarl import URL

from alerting.domain.delivery import Accepted, ChannelHalted, Deferred, Outcome, Reason, Refused, Uncertain
from alerting.domain.delivery import Channel as ChannelName
from consumers.channel import Account, Attachment, Chats, Post, Text, Uploads
from consumers.channels import bot_api
from consumers.channels.line import Answer, Line, endpoint

log = structlog.get_logger()

FILE_ID_LASTS = timedelta(days=30)
"""Telegram names no end; one that ended earlier is uploaded anew when it says so."""
REFUSED_FILE_LASTS = 600.0
"""Seconds in which a file that Telegram would not take is not offered again, to each of ten thousand people."""
PATIENCE_WITH_A_FILE = 4.0
"""Seconds a text waits until the file it goes with is with Telegram: then it goes without, and names its address."""
ANOTHER_CALL_WITHIN = 8.0
"""Seconds after which nobody is told in another way any more: their claim would end, and another tell them too."""
WRITTEN_LATELY = 10.0
"""Seconds. A chat takes one text a second, and a few at once."""
PATIENCE_WITH_POSTS = 2.0
EDITS_TRIED, LONGEST_WAIT_FOR_EDIT = 3, 60.0
FAREWELL = 2.0

Said = Answer | Deferred | Uncertain


@dataclass(frozen=True, slots=True)
class Telling:
    """One text on its way to one chat. After `until`, by the loop's clock, no other way is tried."""

    account: Account
    address: str
    text: Text
    until: float
    replies_to: int | None = None


class Telegram:
    """The Bot API. The account's token is the bot's; an address is a chat id or the @name of a channel.

    Telegram takes no reference of ours and no time to live. A picture or a PDF that the words fit below goes with
    them; whoever is told first uploads it by that, and it is named by its id to all others. Longer words go alone,
    with its address: two texts to everybody would halve the pace. Make it inside a running event loop.
    """

    name = ChannelName.TELEGRAM

    def __init__(
        self,
        uploads: Uploads,
        chats: Chats,
        *,
        limit_per_host: int = 100,
        connect: timedelta = timedelta(seconds=3),
        total: timedelta = timedelta(seconds=10),
    ) -> None:
        self._uploads = uploads
        self._chats = chats
        self._line = Line(limit_per_host=limit_per_host, connect=connect, total=total)
        self._lately = Lately()
        self._refused_files: dict[tuple[str, str], float] = {}
        self._edits: set[asyncio.Task[None]] = set()

    async def send(self, account: Account, address: str, text: Text, reference: str) -> Outcome:
        """One text to one chat, or to all who follow a channel. Raises ChannelHalted and TextRejected."""
        if bot_api.ADDRESS.fullmatch(address) is None:
            return Refused(Reason.NOT_REACHABLE_HERE)
        telling = Telling(account, address, text, _now() + ANOTHER_CALL_WITHIN)
        earlier: Sequence[Post] = ()
        if len(text.thread) > 1 and bot_api.is_public(address):
            earlier = await self._earlier(telling)
            telling = replace(telling, replies_to=int(earlier[-1].message_id) if earlier else None)
        said = await self._say(telling)
        if isinstance(said, Answer) and (moved := bot_api.moved_to(said.body)) is not None and _may_go_on(telling):
            telling = replace(telling, address=str(moved), replies_to=None)
            said = await self._say(telling)
            await self._note_moved(account, address, telling.address)
        if not isinstance(said, Answer):
            return said
        address = telling.address
        outcome = bot_api.classify(
            said.status,
            said.body,
            account.name,
            address,
            said.retry_after,
            written_lately=self._lately.wrote(account, address, _now()),
        )
        if isinstance(outcome, Accepted):
            self._lately.note(account, address, _now())
            if earlier:
                self._begin_to_supersede(account, address, earlier)
        return outcome

    async def close(self) -> None:
        """Close connections. No send is under way; edits of old posts have a moment to end."""
        if self._edits:
            _, late = await asyncio.wait(self._edits, timeout=FAREWELL)
            for edit in late:
                edit.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._line.close()

    # ── the text ────────────────────────────────────────────────────────────────────────────────────

    async def _say(self, telling: Telling) -> Said:
        text, file = telling.text, telling.text.enclosure
        if text.edits is not None and (rewritten := await self._rewrite(telling, text.edits)) is not None:
            return rewritten
        if file is None:
            rest = bot_api.message(text.body, "", telling.replies_to, text.buttons)
            return await self._call(telling, "sendMessage", rest)
        # What has no name of its own would be taken for another.
        if file.sha256 and bot_api.fits(text.body, bot_api.LONGEST_CAPTION) and not self._is_refused(telling, file):
            said = await self._say_enclosed(telling, file)
            if said is not None:
                return said
            if not _may_go_on(telling):
                return Deferred(Reason.PROVIDER_UNAVAILABLE)
        words, shows = _with_its_address(text.body, file)
        return await self._call(telling, "sendMessage", bot_api.message(words, shows, telling.replies_to))

    async def _rewrite(self, telling: Telling, message: int) -> Said | None:
        """The words in the place of an earlier text. None where that is gone, and they are to be said below."""
        rest = bot_api.rewritten(message, telling.text.body, telling.text.buttons)
        said = await self._call(telling, "editMessageText", rest)
        if _says(said, (bot_api.NOT_MODIFIED,)):  # pressed twice: it reads so already
            return Answer(200, bot_api.encoded(ok=True, result={"message_id": message}))
        return None if _says(said, bot_api.NOT_TO_EDIT) and _may_go_on(telling) else said

    async def _say_enclosed(self, telling: Telling, file: Attachment) -> Said | None:
        """The words below their picture or document. None where they must go alone, and nothing was said yet."""
        method, field = ("sendPhoto", "photo") if file.media_type in bot_api.PHOTOS else ("sendDocument", "document")
        wrong: str | None = None
        for _ in range(2):  # a file that Telegram has lost is uploaded anew, once
            file_id, said = await self._file_id(telling, file, method, field, forgetting=wrong)
            if file_id is not None:
                words, replies_to = telling.text.body, telling.replies_to
                said = await self._call(telling, method, bot_api.enclosed(field, file_id, words, replies_to))
            if said is None or _says(said, bot_api.NOT_WITH_A_FILE) or self._refuses(said, telling, file):
                return None
            if file_id is None or not _says(said, bot_api.WRONG_FILE):
                return said
            wrong = file_id
            if not _may_go_on(telling):
                return None
        return None

    async def _file_id(
        self, telling: Telling, file: Attachment, method: str, field: str, *, forgetting: str | None
    ) -> tuple[str | None, Said | None]:
        """What Telegram calls the file; or, where this person's own text was to bring it, what was answered to that.

        Neither where it is not known in time: who waits for another's upload waits no longer than that.
        """
        account = telling.account
        answers: list[Said] = []

        async def bring() -> str:
            if self._is_refused(telling, file):
                raise NotUploaded
            patience.reschedule(None)
            body, media_type = bot_api.upload(telling.address, field, file, telling.text.body, telling.replies_to)
            answers.append(said := await self._line.post(url_of(account, method), body, media_type=media_type))
            patience.reschedule(_now() + PATIENCE_WITH_A_FILE)
            known = bot_api.file_id_of(said.body) if isinstance(said, Answer) else None
            if known is None:
                raise NotUploaded
            return known

        try:
            async with asyncio.timeout(PATIENCE_WITH_A_FILE) as patience:
                if forgetting is not None:
                    await self._uploads.forget(account, file, forgetting)
                known = await self._uploads.id_of(account, file, bring, FILE_ID_LASTS)
        except ChannelHalted:
            raise
        except NotUploaded:
            return None, answers[0] if answers else None
        except Exception as error:  # noqa: BLE001 - whatever keeps ids is away: no reason to tell nobody, nor to tell twice
            log.warning("a file's id is not to be had", account=account.name, error=type(error).__name__)
            return None, answers[0] if answers else None
        return (None, answers[0]) if answers else (known, None)

    def _refuses(self, said: Said, telling: Telling, file: Attachment) -> bool:
        """Whether an answer says that Telegram takes this file from nobody. Remembered for a while."""
        too_big = isinstance(said, Answer) and said.status == 413  # what stands before Telegram says so without words
        if not too_big and not _says(said, bot_api.REFUSED_FILE):
            return False
        log.error("Telegram does not take a file; its texts go without", account=telling.account.name, file=file.sha256)
        self._refused_files[telling.account.paced_as, file.sha256] = _now() + REFUSED_FILE_LASTS
        return True

    def _is_refused(self, telling: Telling, file: Attachment) -> bool:
        return self._refused_files.get((telling.account.paced_as, file.sha256), 0.0) > _now()

    async def _call(self, telling: Telling, method: str, rest: bytes) -> Said:
        return await self._line.post(url_of(telling.account, method), bot_api.call(telling.address, rest))

    # ── a channel's earlier posts ───────────────────────────────────────────────────────────────────

    async def _earlier(self, telling: Telling) -> Sequence[Post]:
        """What stands in the channel of the alerts this one follows. Not to know it holds up nothing."""
        try:
            async with asyncio.timeout(PATIENCE_WITH_POSTS):
                return await self._chats.earlier(telling.account, telling.address, telling.text.thread)
        except Exception as error:  # noqa: BLE001 - whatever it is: the new post is what counts
            log.warning("earlier posts not found", account=telling.account.name, error=type(error).__name__)
            return ()

    def _begin_to_supersede(self, account: Account, address: str, posts: Sequence[Post]) -> None:
        """After the new post, and beside whatever else is said: the old ones say that they are superseded."""
        edit = asyncio.create_task(self._supersede(account, address, posts), name=f"edit posts of {account.name}")
        self._edits.add(edit)
        edit.add_done_callback(self._edits.discard)

    async def _supersede(self, account: Account, address: str, posts: Sequence[Post]) -> None:
        for post in reversed(posts):  # the latest first: it is the one people have before their eyes
            trouble = await self._edit(account, address, post)
            if trouble:
                log.warning("an earlier post does not say that it is superseded", account=account.name, because=trouble)

    async def _edit(self, account: Account, address: str, post: Post) -> str | None:
        """Why it could not be done, or None."""
        words = f"{post.notice}\n\n{post.body}"
        method, field, most = "editMessageText", "text", bot_api.LONGEST_TEXT
        trouble: str | None = None
        for _ in range(EDITS_TRIED):
            rest = bot_api.edit(post.message_id, field, bot_api.cut(words, most))
            said = await self._line.post(url_of(account, method), bot_api.call(address, rest))
            if not isinstance(said, Answer):
                trouble = said.reason.value
                continue  # to edit twice changes nothing
            code, trouble = bot_api.error_code(said.body), bot_api.description(said.body) or f"HTTP {said.status}"
            if bot_api.result(said.body) is not None or bot_api.NOT_MODIFIED in trouble:
                return None
            if bot_api.NO_TEXT_TO_EDIT in trouble:
                method, field, most = "editMessageCaption", "caption", bot_api.LONGEST_CAPTION
            elif code == 429:
                wait = bot_api.pause(said.body, said.retry_after).total_seconds()
                await asyncio.sleep(min(wait, LONGEST_WAIT_FOR_EDIT))
            elif code is not None and code < 500:
                return trouble
        return trouble

    # ── groups that moved ───────────────────────────────────────────────────────────────────────────

    async def _note_moved(self, account: Account, was: str, now: str) -> None:
        """So that it is not asked for at its old place each time. Not to write it down costs a call more."""
        try:
            async with asyncio.timeout(PATIENCE_WITH_POSTS):
                await self._chats.moved(account, was, now)
        except Exception as error:  # noqa: BLE001 - the text is said, and must not be said again for this
            log.warning("a chat's new id is not written down", account=account.name, error=type(error).__name__)


class Lately:
    """Which chats took a text in the last seconds: a flood there is their own, and anybody else's is the bot's."""

    def __init__(self) -> None:
        self._at: dict[tuple[str, str], float] = {}

    def note(self, account: Account, address: str, now: float) -> None:
        """A chat took a text."""
        chat = (account.paced_as, address)
        self._at.pop(chat, None)  # so that the oldest stay in front
        self._at[chat] = now
        while (oldest := next(iter(self._at))) != chat and self._at[oldest] < now - WRITTEN_LATELY:
            del self._at[oldest]

    def wrote(self, account: Account, address: str, now: float) -> bool:
        """Whether a chat took one lately."""
        return self._at.get((account.paced_as, address), -WRITTEN_LATELY) > now - WRITTEN_LATELY


class NotUploaded(Exception):
    """Telegram took no file: what became of the text that brought it is in its answer."""


def url_of(account: Account, method: str) -> URL:
    """Where a method of the account's bot is called. Raises ChannelHalted, and never says the token."""
    if bot_api.TOKEN.fullmatch(account.token.value) is None:
        raise ChannelHalted(account.name, "its bot token is malformed; enter it again")
    return endpoint(account, f"/bot{account.token.value}/{method}")


def _with_its_address(words: str, file: Attachment) -> tuple[str, str]:
    """Words without their file, that say where it is, as far as there is room; and a picture's address to be shown."""
    if not file.url:
        return words, ""
    longer = words if file.url in words else f"{words}\n{file.url}"
    return longer if bot_api.fits(longer, bot_api.LONGEST_TEXT) else words, file.url if file.is_picture else ""


def _says(said: Said, words: Sequence[str]) -> bool:
    if not isinstance(said, Answer) or b"error_code" not in said.body:  # most answers: not read twice
        return False
    heard = bot_api.description(said.body)
    return any(known in heard for known in words)


def _may_go_on(telling: Telling) -> bool:
    return _now() < telling.until


def _now() -> float:
    return asyncio.get_running_loop().time()
