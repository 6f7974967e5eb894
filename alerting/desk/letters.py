"""What the desk says to one person: written down with its occasion, handed to the lanes at a walking pace.

A flood of citizens makes a heap here, and not in the lanes: never more than the comune's `answers_per_minute` go out
in any minute, over all processes together.
"""

import hashlib
from datetime import datetime, timedelta

import structlog
from sqlalchemy import delete, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import batching
from alerting.domain.authority import Authority, ChannelAccess
from alerting.domain.delivery import Channel
from alerting.domain.lanes import Lane
from alerting.persistence import dialects, tables
from alerting.sealing import Seal, WrongKey
from alerting.subscribing import Subscriber

log = structlog.get_logger()

LOCK = 7205761
MINUTE = timedelta(minutes=1)
STAYS_TRUE = timedelta(days=3)
"""An answer that could not be given within days is better given by telephone."""
WINDOW = timedelta(hours=23)
"""WhatsApp takes free text for 24 hours after the person's own."""
ROOM = timedelta(hours=1)
"""That must be left of it, or the registered template is used."""


async def write(
    session: AsyncSession,
    who: Subscriber,
    words: str,
    seal: Seal,
    now: datetime,
    *,
    due_at: datetime | None = None,
    not_after: datetime | None = None,
    ahead: bool = True,
    booking: int | None = None,
) -> tables.Letter:
    """Promise to say it, now or when it is due; `ahead` of what a flood of citizens is answered by itself."""
    letter = tables.Letter(
        authority=who.authority.code,
        account=who.access.name,
        fingerprint=seal.fingerprint(who.address),
        sealed=seal.seal(who.address),
        said=seal.seal(words),
        due_at=due_at or now,
        not_after=not_after or (due_at or now) + STAYS_TRUE,
        ahead=ahead,
        booking=booking,
    )
    session.add(letter)
    await session.flush()
    return letter


async def withdraw(session: AsyncSession, booking: int, now: datetime) -> None:
    """What waits to be said of a booking is not true any more."""
    letter = tables.Letter
    waiting = (letter.booking == booking, letter.ended_at.is_(None))
    await session.execute(update(letter).where(*waiting).values(ended_at=now, sealed=None, said=None, fingerprint=None))


async def are_due(session: AsyncSession, now: datetime) -> set[str]:
    """The comuni that have something to say."""
    letter = tables.Letter
    due = select(letter.authority.distinct()).where(letter.ended_at.is_(None), letter.due_at <= now)
    return set(await session.scalars(due))


async def release(session: AsyncSession, authority: Authority, seal: Seal, now: datetime) -> int:
    """Hand what is due to the lanes, as far as this minute allows. How many that was."""
    if authority.desk is None:
        return 0
    if dialects.is_postgresql(session):  # who counts and who sends must be one, over all processes
        key = int.from_bytes(hashlib.blake2b(authority.code.encode(), digest_size=4).digest(), signed=True)
        await session.execute(text(f"SELECT pg_advisory_xact_lock({LOCK}, {key})"))
    letter = tables.Letter
    lately = (letter.authority == authority.code, letter.ended_at > now - MINUTE, letter.dispatch.is_not(None))
    gone = await session.scalar(select(func.count()).select_from(letter).where(*lately)) or 0
    waiting = (letter.authority == authority.code, letter.ended_at.is_(None))
    over = update(letter).where(*waiting, letter.not_after <= now)
    await session.execute(over.values(ended_at=now, sealed=None, said=None, fingerprint=None))
    room = authority.desk.answers_per_minute - gone
    if room <= 0:
        return 0
    query = select(letter).where(*waiting, letter.due_at <= now).limit(room)
    query = query.order_by(letter.ahead.desc(), letter.due_at, letter.id)
    rows = (await session.scalars(query)).all()
    for row in rows:
        await _hand_on(session, row, authority, seal, now)
    return len(rows)


async def _hand_on(session: AsyncSession, row: tables.Letter, authority: Authority, seal: Seal, now: datetime) -> None:
    access = account_of(authority, row.account)
    if access is not None and _opens(row, seal):
        lane, until = await _lane(session, row, access, now)
        dispatch = tables.Dispatch(
            authority=authority.code,
            lane=lane,
            issued_at=now,
            not_after=until,
            audience=1,
            reply_sealed=row.said,
            reply_to=row.sealed,
        )
        session.add(dispatch)
        await session.flush()
        session.add(tables.Delivery(dispatch_id=dispatch.id, seq=1))
        await batching.append(session, dispatch, access, 1)
        row.dispatch = dispatch.id
    row.ended_at, row.sealed, row.said, row.fingerprint = now, None, None, None


def _opens(row: tables.Letter, seal: Seal) -> bool:
    if row.said is None:
        return False
    try:
        seal.open(row.said)
    except WrongKey as error:  # of this one nobody can say what it was; the others must not wait for it
        log.error("a letter does not open", letter=row.id, error=str(error))
        return False
    return True


async def _lane(
    session: AsyncSession, row: tables.Letter, access: ChannelAccess, now: datetime
) -> tuple[Lane, datetime]:
    """Free text in the reply lane while they may be written to so; else the template, and what is routine waits."""
    if access.channel is not Channel.WHATSAPP:
        return Lane.REPLY, row.not_after
    conversation = tables.Conversation
    theirs = (conversation.account == row.account, conversation.fingerprint == row.fingerprint)
    wrote_at = await session.scalar(select(conversation.wrote_at).where(*theirs))
    if wrote_at is not None and wrote_at + WINDOW - now >= ROOM:
        return Lane.REPLY, min(row.not_after, wrote_at + WINDOW)
    return Lane.ROUTINE, row.not_after


def account_of(authority: Authority, name: str) -> ChannelAccess | None:
    """The account of this name, None where the comune has it no longer."""
    return next((one for one in authority.channels if one.name == name), None)


KEPT_FOR = timedelta(days=7)


async def forget(session: AsyncSession, authority: str, now: datetime) -> None:
    """That something was said to somebody is nobody's to read a week later. The report keeps it, sealed."""
    letter = tables.Letter
    await session.execute(delete(letter).where(letter.authority == authority, letter.ended_at < now - KEPT_FOR))
