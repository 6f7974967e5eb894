"""What Telegram's adapter is given, for a test that needs no database: ids of files, and posts of channels."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from consumers.channel import Account, Attachment, Post


@dataclass
class Ids:
    """What providers call our files; `trouble` is what befalls whoever asks, or who writes a new one down."""

    known: dict[tuple[str, str], str] = field(default_factory=dict)
    trouble: Exception | None = None
    cannot_keep: Exception | None = None
    turns: dict[tuple[str, str], asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))

    async def id_of(
        self, account: Account, attachment: Attachment, upload: Callable[[], Awaitable[str]], lasts: timedelta
    ) -> str:
        if self.trouble is not None:
            raise self.trouble
        key = (account.paced_as, attachment.sha256)
        async with self.turns[key]:
            if key not in self.known:
                found = await upload()
                if self.cannot_keep is not None:
                    raise self.cannot_keep
                self.known[key] = found
            return self.known[key]

    async def forget(self, account: Account, attachment: Attachment, provider_id: str | None = None) -> None:
        key = (account.paced_as, attachment.sha256)
        async with self.turns[key]:
            if provider_id is None or self.known.get(key) == provider_id:
                self.known.pop(key, None)


@dataclass
class Posts:
    """What stands in the channel, and which chats moved; `trouble` is what befalls whoever asks."""

    earlier_ones: list[Post] = field(default_factory=list)
    moves: list[tuple[str, str]] = field(default_factory=list)
    asked: int = 0
    trouble: Exception | None = None

    async def earlier(self, account: Account, address: str, thread: Sequence[str]) -> Sequence[Post]:
        self.asked += 1
        if self.trouble is not None:
            raise self.trouble
        return tuple(self.earlier_ones)

    async def moved(self, account: Account, was: str, now: str) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.moves.append((was, now))
