"""What is amiss is written down once for everybody, and then each of the staff is told of it, and told when it is over.

A telling is claimed before it is said: a process that dies in between leaves it to the next, after a while.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from alerting.domain.notices import (
    AGAIN_AFTER,
    GAP,
    GIVES_UP_AFTER,
    MOST_ATTEMPTS,
    STEADY_FOR,
    Answer,
    Ended,
    Line,
    Matter,
    Staff,
    Trouble,
    TryAgain,
    decide,
)
from alerting.persistence import dialects
from alerting.persistence.tables import Notice, Telling

LOCK = 7205760
LONGEST = 500
TOLD_TOGETHER = 1000


# ── written down once ───────────────────────────────────────────────────────────────────────────────


async def is_news(session: AsyncSession, found: Sequence[Trouble], now: datetime) -> bool:
    """Whether there may be anything to write down: looking costs a reader, writing a writer."""
    known = await _known(session)
    standing = {trouble.about for trouble in found}
    return (
        any(about not in standing for about in known)
        or any(_is_new(trouble, known.get(trouble.about), now) for trouble in found)
        or any(row.gone_at is not None for row in known.values())
        or await session.scalar(select(Telling.notice).where(*_stale(now)).limit(1)) is not None
    )


async def take_note(session: AsyncSession, found: Sequence[Trouble], staff: Iterable[Staff], now: datetime) -> None:
    """Write down what is new and what is over, with a telling for each of the staff who is to hear of it.

    `found` must have been read in this transaction, after `alone`: what two processes saw a moment apart must not open
    again what one of them has just closed.
    """
    everybody = list(staff)
    known = await _known(session)
    for trouble in found:
        row = known.pop(trouble.about, None)
        if row is not None:
            row.gone_at = None
        if _is_new(trouble, row, now):
            if row is not None:  # there is more of it: it is told anew, and not that it was over
                row.over_at = now
                await session.flush()
            await _begin(session, trouble, everybody, now)
    for row in known.values():
        row.gone_at = row.gone_at or now
        if now - row.gone_at >= STEADY_FOR.get(row.matter, timedelta(0)):
            await _end(session, row, everybody, now)


async def _known(session: AsyncSession) -> dict[str, Notice]:
    """Those that are open, by what they are about."""
    return {row.about: row for row in await session.scalars(select(Notice).where(Notice.over_at.is_(None)))}


def _is_new(trouble: Trouble, row: Notice | None, now: datetime) -> bool:
    if row is None:
        return trouble.ripe
    return trouble.mark > row.mark and now - row.began_at >= AGAIN_AFTER


async def alone(session: AsyncSession) -> None:
    """Nobody else takes note until this transaction ends. On SQLite whoever writes is alone anyhow."""
    if dialects.is_postgresql(session):
        await session.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))


async def _begin(session: AsyncSession, trouble: Trouble, staff: Iterable[Staff], now: datetime) -> None:
    row = Notice(
        about=trouble.about,
        matter=trouble.matter,
        authority=trouble.authority,
        sentence=trouble.sentence[:LONGEST],
        over=trouble.over[:LONGEST],
        urgent=trouble.urgent,
        mark=trouble.mark,
        began_at=now,
    )
    session.add(row)
    await session.flush()
    for one in staff:
        if one.hears(trouble):
            session.add(_telling(row, one.account, one.told_at(now, urgent=row.urgent), is_over=False))


async def _end(session: AsyncSession, row: Notice, staff: Iterable[Staff], now: datetime) -> None:
    """Whoever may have been told that it began is told that it is over; the others need not know of either.

    What still waits to be told is withdrawn when its turn comes.
    """
    row.over_at = now
    known = {one.account: one for one in staff}
    # Locked: who is just claiming one of them has either done so, or finds that it is over.
    query = select(Telling).where(Telling.notice == row.id, Telling.is_over.is_(False)).with_for_update()
    for telling in (await session.scalars(query)).all():
        if _may_know(telling, now):
            one = known.get(telling.staff)
            due = one.told_at(now, urgent=row.urgent) if one else now
            session.add(_telling(row, telling.staff, due, is_over=True))


def _may_know(telling: Telling, now: datetime) -> bool:
    """They were told, or somebody is just telling them, or nobody knows: the answer did not come, or was not kept."""
    in_hand = telling.ended is None and telling.claimed_until > now.timestamp()
    unknown = telling.last is Answer.TIMEOUT or (telling.attempts > 0 and telling.last is None)
    return in_hand or unknown or telling.ended in (Ended.SENT, Ended.PARTLY)


def _telling(row: Notice, account: str, due: datetime, *, is_over: bool) -> Telling:
    at = due.timestamp()
    return Telling(
        notice=row.id,
        staff=account,
        is_over=is_over,
        due_at=at,
        not_after=at + GIVES_UP_AFTER.total_seconds(),
        claimed_until=0.0,
        attempts=0,
    )


# ── told ────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Claim:
    """What one of the staff is to be told together, by us alone until `until`."""

    staff: str
    lines: tuple[Line, ...]
    keys: tuple[tuple[int, bool], ...]
    until: float


async def is_any_due(session: AsyncSession, now: datetime) -> bool:
    """Whether somebody may have to be told something: looking costs a reader, claiming a writer."""
    waits = (Telling.ended.is_(None), Telling.due_at <= now.timestamp(), Telling.claimed_until <= now.timestamp())
    return await session.scalar(select(Telling.notice).where(*waits).limit(1)) is not None


async def claim(session: AsyncSession, accounts: Iterable[str], now: datetime, hold: timedelta) -> list[Claim]:
    """All that is due for each of these, to be told within `hold`; one at a time for each, so that order holds."""
    found = [await _claim(session, account, now, hold) for account in accounts]
    return [claimed for claimed in found if claimed]


async def _claim(session: AsyncSession, account: str, now: datetime, hold: timedelta) -> Claim | None:
    at, until = now.timestamp(), (now + hold).timestamp()
    query = (
        select(Telling, Notice)
        .join(Notice, Notice.id == Telling.notice)
        .where(Telling.staff == account, Telling.ended.is_(None), Telling.due_at <= at, Telling.claimed_until <= at)
        .order_by(Telling.notice, Telling.is_over)
        .limit(TOLD_TOGETHER)
        .with_for_update(skip_locked=True, of=Telling)
    )
    due = []
    for telling, notice in (await session.execute(query)).all():
        if notice.over_at is not None and not telling.is_over:
            telling.ended, telling.ended_at = Ended.WITHDRAWN, now  # that it is over, or more of it, is told instead
        else:
            due.append((telling, notice))
    if not due or await _is_busy(session, account, now, any(notice.urgent for _, notice in due)):
        return None
    for telling, _ in due:
        telling.claimed_until, telling.attempts = until, telling.attempts + 1
    lines = tuple(
        Line(notice.over if telling.is_over else notice.sentence, notice.urgent, telling.is_over)
        for telling, notice in due
    )
    return Claim(account, lines, tuple((telling.notice, telling.is_over) for telling, _ in due), until)


async def _is_busy(session: AsyncSession, account: str, now: datetime, urgent: bool) -> bool:
    """Somebody is telling them something, or has just done so."""
    theirs = select(Telling.notice).where(Telling.staff == account).limit(1)
    claimed = theirs.where(Telling.ended.is_(None), Telling.claimed_until > now.timestamp())
    if await session.scalar(claimed) is not None:
        return True
    lately = theirs.where(Telling.ended.in_((Ended.SENT, Ended.PARTLY)), Telling.ended_at > now - GAP)
    return not urgent and await session.scalar(lately) is not None


async def record(session: AsyncSession, claimed: Claim, answer: Answer, now: datetime) -> list[tuple[Matter, Ended]]:
    """Write down what came of it: which ended, and how. What another has claimed meanwhile is theirs to write down,
    unless it was said: then nobody need say it again."""
    ended: list[tuple[Matter, Ended]] = []
    for number, is_over in claimed.keys:
        telling = await session.get_one(Telling, (number, claimed.staff, is_over), with_for_update=True)
        if telling.ended is not None or (telling.claimed_until != claimed.until and answer is not Answer.SENT):
            continue
        notice = await session.get_one(Notice, number)
        not_after = datetime.fromtimestamp(telling.not_after, UTC)
        telling.last = answer
        what = decide(answer, attempts=telling.attempts, now=now, not_after=not_after)
        if isinstance(what, TryAgain):
            telling.due_at, telling.claimed_until = what.at.timestamp(), 0.0
        else:
            telling.ended, telling.ended_at = what, now
            ended.append((notice.matter, what))
    return ended


async def give_up_the_stale(session: AsyncSession, now: datetime) -> list[Matter]:
    """What nobody could tell: its staff are in no file any more, nobody was there in time, or whoever tried died."""
    query = select(Telling, Notice.matter).join(Notice, Notice.id == Telling.notice).where(*_stale(now))
    rows = (await session.execute(query.with_for_update(skip_locked=True, of=Telling))).all()
    for telling, _ in rows:
        telling.ended, telling.ended_at = Ended.GIVEN_UP, now
    return [matter for _, matter in rows]


def _stale(now: datetime) -> tuple[ColumnElement[bool], ...]:
    at = now.timestamp()
    too_late = (Telling.not_after < at) | (Telling.attempts >= MOST_ATTEMPTS)
    return Telling.ended.is_(None), Telling.claimed_until <= at, too_late
