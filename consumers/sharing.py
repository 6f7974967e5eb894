"""One number, several comuni: to whom a text was written. Their keywords are disjoint, or their files would not load.

A comune's own word says it. Anything else is for the comune whose subscriber wrote it; where that is not one alone,
nobody leaves by it.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from alerting import subscribing
from alerting.domain import keywords
from alerting.domain.authority import Authority, ChannelAccess
from alerting.sealing import Seal
from alerting.subscribing import Subscriber

Account = tuple[str, ChannelAccess]
"""The code of an authority, and its access."""


def shared_accounts(authorities: Iterable[Authority]) -> dict[str, tuple[Account, ...]]:
    """For each account whose number is not its comune's alone, all that have it: its own first."""
    by_number: dict[tuple[str, str], list[Account]] = defaultdict(list)
    for authority in authorities:
        for access in authority.channels:
            by_number[str(access.channel), access.identity].append((authority.code, access))
    return {
        own[1].name: (own, *(other for other in some if other is not own))
        for some in by_number.values()
        if len(some) > 1
        for own in some
    }


@dataclass(frozen=True, slots=True)
class Unclear:
    """They want to leave, and are subscribed to all of these: which one, they have to say."""

    of: tuple[Subscriber, ...]


async def whose(
    session: AsyncSession, them: Sequence[Subscriber], words: str | None, seal: Seal
) -> Subscriber | Unclear:
    """The same person as each comune of the number may know them: the one they wrote to. The first, where none is."""
    meanings = [keywords.understand(words or "", one.authority.keywords) for one in them]
    clear = [
        one for one, meaning in zip(them, meanings, strict=True) if isinstance(meaning, keywords.Join | keywords.Leave)
    ]
    if len(clear) == 1:
        return clear[0]
    in_list = [one for one in them if await subscribing.find(session, one, seal) is not None]
    if len(in_list) == 1:
        return in_list[0]
    if len(in_list) > 1 and any(isinstance(meaning, keywords.Leave | keywords.AskLeave) for meaning in meanings):
        return Unclear(tuple(in_list))
    return (in_list or them)[0]
