"""Answers to citizens: each a dispatch with an audience of its own, in the reply lane."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from alerting import batching
from alerting.buttons import Menu
from alerting.domain.lanes import Lane
from alerting.persistence import tables
from alerting.sealing import Seal
from alerting.subscribing import Subscriber

ANSWER_WITHIN = timedelta(hours=23)
"""WhatsApp takes free text for 24 hours after the person's own; a later answer would be refused."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Words for one person. `address` is its number, where they have just become a subscriber."""

    who: Subscriber
    words: str
    not_after: datetime
    address: int | None = None
    menu: Menu | None = None


async def reply_all(session: AsyncSession, answers: Sequence[Answer], seal: Seal, now: datetime) -> None:
    """Promise each their answer: whoever has just joined and is told the same on one account is one audience."""
    audiences: dict[tuple[str, str] | int, list[Answer]] = {}
    for number, answer in enumerate(answers):
        key = number if answer.address is None else (answer.who.access.name, answer.words)
        audiences.setdefault(key, []).append(answer)
    dispatches = [
        tables.Dispatch(
            authority=some[0].who.authority.code,
            lane=Lane.REPLY,
            issued_at=now,
            not_after=min(one.not_after for one in some),
            audience=len(some),
            last_seq=0,
            reply_text=some[0].words,
            reply_to=seal.seal(some[0].who.address) if some[0].address is None else None,
            reply_menu=some[0].menu.as_json if some[0].menu else None,
        )
        for some in audiences.values()
    ]
    if not dispatches:
        return
    session.add_all(dispatches)
    await session.flush()
    told = list(zip(dispatches, audiences.values(), strict=True))
    session.add_all(
        tables.Delivery(dispatch_id=dispatch.id, seq=seq, address_id=one.address)
        for dispatch, some in told
        for seq, one in enumerate(some, start=1)
    )
    await batching.begin(session, [(dispatch, some[0].who.access, len(some)) for dispatch, some in told])
