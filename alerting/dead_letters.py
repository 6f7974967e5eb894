"""What nobody could work on, in an operator's hands: looked at, replayed in its lane, or dismissed."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from alerting import audit, wire
from alerting.amqp import Outgoing
from alerting.domain.lanes import Lane
from alerting.outbox import BELL, addressed
from alerting.persistence.tables import DeadLetter, OutboxMessage
from alerting.persistence.wakeup import ring

MOST_AT_ONCE = 500
"""Letters that one replay of all takes, so that no transaction lasts for minutes; the next are asked for again."""
PAGE = 50  # bodies of others may be large
KEY = re.compile(r"[\w.-]{1,120}", re.ASCII)


class NoSuchLetter(Exception):
    """There is no dead letter of this number."""


class AlreadyEnded(Exception):
    """Somebody has replayed or dismissed the letter before."""


class NotReplayable(Exception):
    """The letter is not a message of ours, or not one that can be read: said again it would only die again."""


@dataclass(frozen=True, slots=True)
class ReplayedMany:
    """What became of all letters of one kind: the numbers of those replayed, and how many could not be."""

    replayed: tuple[int, ...]
    unreadable: int


async def find_some(
    session: AsyncSession,
    *,
    lane: Lane | None = None,
    why: str | None = None,
    open_only: bool = True,
    before: int | None = None,
    most: int = 50,
) -> Sequence[DeadLetter]:
    """The newest letters, without their bodies; those before number `before`, to go on with the next page."""
    query = select(DeadLetter).options(defer(DeadLetter.body)).order_by(DeadLetter.id.desc()).limit(most)
    if lane is not None:
        query = query.where(DeadLetter.lane == lane)
    if why is not None:
        query = query.where(DeadLetter.why == why)
    if open_only:
        query = query.where(DeadLetter.ended_at.is_(None))
    if before is not None:
        query = query.where(DeadLetter.id < before)
    return (await session.scalars(query)).all()


async def find(session: AsyncSession, number: int, *, held: bool = False) -> DeadLetter:
    """One letter, whole; `held`, nobody else ends it meanwhile. Raises NoSuchLetter."""
    row = None
    if 0 < number <= wire.BIGGEST_ID:
        row = await session.get(DeadLetter, number, with_for_update=True if held else None)
    if row is None:
        raise NoSuchLetter(f"there is no dead letter {number}: list them to see which there are")
    return row


async def replay(session: AsyncSession, number: int, *, who: str, now: datetime) -> DeadLetter:
    """Say it again, in its lane, to whom it belongs; in the same transaction it is ended and the audit told.

    Raises NoSuchLetter, AlreadyEnded or NotReplayable, each with a sentence.
    """
    letter = await _open(session, number)
    _say_again(session, letter, who, now)
    await audit.write(
        session,
        at=now,
        actor=who,
        action="replay dead letter",
        subject=str(letter.id),
        lane=str(letter.lane),
        why=letter.why,
    )
    await ring(session, BELL)
    return letter


async def replay_all(
    session: AsyncSession, why: str, *, who: str, now: datetime, most: int = MOST_AT_ONCE
) -> ReplayedMany:
    """Replay the open letters of one kind, the oldest first, at most so many; those nobody can read stay open."""
    replayed: list[int] = []
    unreadable = after = 0
    of_kind = select(DeadLetter).where(DeadLetter.why == why, DeadLetter.ended_at.is_(None)).order_by(DeadLetter.id)
    while len(replayed) < most:
        next_ones = of_kind.where(DeadLetter.id > after).limit(min(PAGE, most - len(replayed)))
        letters = (await session.scalars(next_ones.with_for_update(skip_locked=True))).all()
        if not letters:
            break
        after = letters[-1].id
        for letter in letters:
            try:
                _say_again(session, letter, who, now)
            except NotReplayable:
                unreadable += 1
            else:
                replayed.append(letter.id)
        await session.flush()
        session.expunge_all()
    if replayed:
        await audit.write(session, at=now, actor=who, action="replay dead letters", subject=why, numbers=replayed)
        await ring(session, BELL)
    return ReplayedMany(tuple(replayed), unreadable)


async def dismiss(session: AsyncSession, number: int, *, who: str, now: datetime) -> DeadLetter:
    """Nothing more is to be done about it. The row stays. Raises NoSuchLetter or AlreadyEnded."""
    letter = await _open(session, number)
    letter.ended_at, letter.ended_by = now, who
    await audit.write(
        session,
        at=now,
        actor=who,
        action="dismiss dead letter",
        subject=str(letter.id),
        lane=str(letter.lane),
        why=letter.why,
    )
    return letter


async def open_by_lane(session: AsyncSession) -> dict[Lane, int]:
    """How many letters wait for an operator, for every lane."""
    query = select(DeadLetter.lane, func.count()).where(DeadLetter.ended_at.is_(None)).group_by(DeadLetter.lane)
    found = dict((await session.execute(query)).all())
    return {lane: found.get(lane, 0) for lane in Lane}


def said_again(letter: DeadLetter) -> Outgoing:
    """The message that says a letter again: its own body, its row's lane, and a name that tells it was replayed.

    It goes where such an event belongs. For a message of ours that is where it came from; one that lay in a wrong
    queue would only come back from there. Raises NotReplayable.
    """
    try:
        event = wire.decode(letter.body)
    except wire.Unreadable as error:
        raise NotReplayable(
            f"dead letter {letter.id} cannot be replayed, for it is not a message this version reads: {error}. "
            "Find who publishes it, and dismiss it"
        ) from None
    message = addressed(event, letter.lane, again=f"replayed.{letter.id}")
    if not KEY.fullmatch(message.routing_key):
        raise NotReplayable(
            f"dead letter {letter.id} cannot be replayed, for it names an authority that cannot be ours: dismiss it"
        )
    return Outgoing(message.exchange, message.routing_key, message.message_id, letter.body, message.headers)


async def _open(session: AsyncSession, number: int) -> DeadLetter:
    letter = await find(session, number, held=True)
    if letter.ended_at is not None:
        done = "replayed" if letter.replayed else "dismissed"
        raise AlreadyEnded(f"dead letter {number} was {done} by {letter.ended_by} at {letter.ended_at:%F %T} UTC")
    return letter


def _say_again(session: AsyncSession, letter: DeadLetter, who: str, now: datetime) -> None:
    message = said_again(letter)
    session.add(
        OutboxMessage(
            lane=letter.lane,
            exchange=message.exchange,
            routing_key=message.routing_key,
            message_id=message.message_id,
            body=message.body,
            created_at=now.timestamp(),
        )
    )
    letter.ended_at, letter.ended_by, letter.replayed = now, who, True
