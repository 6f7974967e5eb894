"""Joining and leaving in the order in which they were written, whatever the order in which they are heard.

The newest command of a person decides, by their provider's clock; of two that were written at once, leaving does.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from enum import Enum

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import subscribing
from alerting.domain.recipients import Place, known_by
from alerting.persistence import dialects, tables
from alerting.sealing import Seal
from alerting.subscribing import Subscriber

AHEAD = timedelta(minutes=5)
BEHIND = timedelta(days=30)
"""How far a provider's clock may be from ours: more is a wrong clock, and a text counts as written when it came.

No provider holds a text back for a month; WhatsApp does for up to 30 days while somebody has no signal.
"""


TAKE_TURNS = text(
    "SELECT pg_advisory_xact_lock(q.key) FROM"
    " (SELECT value::bigint AS key FROM json_array_elements_text(CAST(:keys AS json)) ORDER BY 1 OFFSET 0) q"
)


class Came(Enum):
    """What a command came to."""

    NEW = "new"
    """It changed something: they are in, or out."""
    ALREADY = "already"
    """They were, before it."""
    OVERTAKEN = "overtaken"
    """They have written the contrary since, which was heard first."""


def written_at(said_at: str | None, received_at: datetime) -> datetime:
    """When a text was written, as its provider says; when it came, where that is not said or cannot be."""
    try:
        at = datetime.fromisoformat(said_at or "")
    except ValueError:
        return received_at
    if at.tzinfo is None or not received_at - BEHIND <= at <= received_at + AHEAD:
        return received_at
    return at


async def join(
    session: AsyncSession,
    who: Subscriber,
    seal: Seal,
    *,
    keyword: str,
    now: datetime,
    places: Sequence[Place] = (),
    live: bool = True,
) -> Came:
    """Subscribe somebody who wrote so, unless they have left since."""
    await take_turns(session, [who], seal)
    if await _is_overtaken(session, who, seal, "join"):
        subscribing.note(session, who, seal, "join overtaken", keyword=keyword, now=now)
        return Came.OVERTAKEN
    _, is_new = await subscribing.join(session, who, seal, keyword=keyword, now=now, places=places, live=live)
    if not is_new:  # what they wrote before this and is heard later must find it
        subscribing.note(session, who, seal, "join", keyword=keyword, now=now)
    return Came.NEW if is_new else Came.ALREADY


async def leave(session: AsyncSession, who: Subscriber, seal: Seal, *, keyword: str, now: datetime) -> Came:
    """Unsubscribe somebody who wrote so, unless they have joined since."""
    await take_turns(session, [who], seal)
    if await _is_overtaken(session, who, seal, "leave"):
        subscribing.note(session, who, seal, "leave overtaken", keyword=keyword, now=now)
        return Came.OVERTAKEN
    if await subscribing.leave(session, who, seal, keyword=keyword, now=now):
        return Came.NEW
    # Their joining may still be on its way.
    subscribing.note(session, who, seal, "leave", keyword=keyword, now=now)
    return Came.ALREADY


async def take_turns(session: AsyncSession, people: Iterable[Subscriber], seal: Seal) -> None:
    """Until the transaction ends nobody else acts for these people: two commands of one, read at once, are two.

    Whoever acts for several in one transaction asks for all of them together, so that nobody waits in a circle.
    """
    if not dialects.is_postgresql(session):
        return  # where one writes at a time
    prints = {p for who in people for p in _fingerprints(who, seal)}
    keys = sorted(int.from_bytes(one[:8], signed=True) for one in prints)
    await session.execute(TAKE_TURNS, {"keys": json.dumps(keys)})


async def _is_overtaken(session: AsyncSession, who: Subscriber, seal: Seal, what: str) -> bool:
    """Whether they have said the contrary since: by themselves, or for a joining by anybody who removed them."""
    if who.wrote_at is None:
        return False
    proof = tables.Consent
    contrary = "leave" if what == "join" else "join"
    # A counter's or a browser's proof has our clock's time. It must never keep anybody from leaving.
    when = func.coalesce(proof.said_at, proof.at) if what == "join" else proof.said_at
    newest: datetime | None = await session.scalar(
        select(func.max(when)).where(
            proof.authority == who.authority.code,
            proof.fingerprint.in_(_fingerprints(who, seal)),
            proof.what == contrary,
        )
    )
    if newest is None:
        return False
    return newest >= who.wrote_at if what == "join" else newest > who.wrote_at


def _fingerprints(who: Subscriber, seal: Seal) -> list[bytes]:
    return [seal.fingerprint(known_by(name)) for name in (who.address, who.also) if name]
