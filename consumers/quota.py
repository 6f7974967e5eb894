"""How many people a provider lets one business tell in 24 hours, and the part of it that is the emergencies' own.

WhatsApp counts unique people per portfolio over a rolling day (channels.md 1.5). Somebody told again within the day
costs nothing; somebody new costs one, taken under the portfolio's lock in the transaction that claims them, so that
no two workers take the last one. What leaves the window is counted out once a minute: until then we believe to have
told more than we did, never fewer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Select, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from alerting.domain.lanes import Lane
from alerting.persistence import Database, dialects, tables
from alerting.persistence.ledger import Claimed

WINDOW = 86_400.0  # seconds
KEPT_FOR_URGENT = 0.2
"""The share of a day's people that no routine text may use: a newsletter must not spend the evening's red alert."""
LOOK_AGAIN = 600.0  # seconds, at most, until somebody turned away is tried again
COUNT_EVERY = 60.0


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """Who cannot be told today, as far as their lane may use the day; `until` (Unix time) says when to ask again."""

    seqs: frozenset[int]
    until: float


async def admit(
    session: AsyncSession, portfolio: str, lane: Lane, people: Sequence[Claimed], *, now: float
) -> TurnedAway:
    """Count these people, or turn them away. An emergency turns nobody away: the provider may know of more room.

    A reply is free: whoever wrote to us within a day is not counted by the provider.
    """
    if lane is Lane.REPLY or not people:
        return TurnedAway(frozenset(), now)
    row = await session.get_one(tables.Portfolio, portfolio, with_for_update=True)
    known = await _told_today(session, portfolio, people, now)
    new = [one for one in people if one.fingerprint and one.fingerprint not in known]  # who has left has none
    admitted = new[: max(0, _most(row, lane) - row.people)] if lane is Lane.ROUTINE else new
    turned_away = new[len(admitted) :]
    row.people += len({one.fingerprint for one in admitted})
    counted = {one.fingerprint for one in people} - {one.fingerprint for one in turned_away}
    await _count(session, portfolio, {print for print in counted if print is not None}, now)
    if not turned_away:
        return TurnedAway(frozenset(), now)
    return TurnedAway(frozenset(one.seq for one in turned_away), await _room_comes(session, portfolio, now))


def _most(row: tables.Portfolio, lane: Lane) -> int:
    return int(row.people_per_day * (1 - KEPT_FOR_URGENT)) if lane is Lane.ROUTINE else row.people_per_day


async def _told_today(session: AsyncSession, portfolio: str, people: Sequence[Claimed], now: float) -> set[bytes]:
    of_them = (
        tables.PortfolioPerson.portfolio == portfolio,
        tables.PortfolioPerson.fingerprint.in_({one.fingerprint for one in people if one.fingerprint}),
        tables.PortfolioPerson.told_at > now - WINDOW,
    )
    return set((await session.scalars(select(tables.PortfolioPerson.fingerprint).where(*of_them))).all())


async def _count(session: AsyncSession, portfolio: str, fingerprints: set[bytes], now: float) -> None:
    if not fingerprints:
        return
    rows = [{"portfolio": portfolio, "fingerprint": one, "told_at": now} for one in sorted(fingerprints)]
    statement = dialects.insert(session, tables.PortfolioPerson).values(rows)
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["portfolio", "fingerprint"], set_={"told_at": statement.excluded.told_at}
        )
    )


async def _room_comes(session: AsyncSession, portfolio: str, now: float) -> float:
    """When the first of those counted leaves the window, and no later than we want to look again."""
    oldest = await session.scalar(
        select(func.min(tables.PortfolioPerson.told_at)).where(
            tables.PortfolioPerson.portfolio == portfolio, tables.PortfolioPerson.told_at > now - WINDOW
        )
    )
    leaves = now + LOOK_AGAIN if oldest is None else oldest + WINDOW
    return max(now + COUNT_EVERY, min(leaves, now + LOOK_AGAIN))


async def count_anew(database: Database, *, now: float) -> None:
    """Forget whom nobody counts any more, and count the rest: each portfolio once a minute."""
    due = select(tables.Portfolio).where(tables.Portfolio.counted_at < now - COUNT_EVERY)
    async with database.read() as session:
        if (await session.scalars(due.limit(1))).one_or_none() is None:
            return
    async with database.write() as session:
        await _count_anew(session, due, now)


async def _count_anew(session: AsyncSession, due: Select[tables.Portfolio], now: float) -> None:
    for row in (await session.scalars(due.order_by(tables.Portfolio.name).with_for_update())).all():
        person = tables.PortfolioPerson
        await session.execute(delete(person).where(person.portfolio == row.name, person.told_at <= now - WINDOW))
        left = await session.scalar(select(func.count()).where(person.portfolio == row.name))
        await session.execute(
            update(tables.Portfolio).where(tables.Portfolio.name == row.name).values(people=left, counted_at=now)
        )
