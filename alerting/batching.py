"""Batches between the database and the broker: a few of each dispatch are told at once, the next as these end.

So one town's 100,000 texts never stand before another's one, stopping is immediate, and the broker never fills.
"""

import time
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import outbox
from alerting.domain.authority import ChannelAccess
from alerting.domain.events import BatchReady
from alerting.domain.lanes import PEOPLE_PER_BATCH
from alerting.persistence import tables

TOLD_AT_ONCE = 6
"""Batches of one dispatch and account in the broker: enough for every worker to hold one and have one coming."""


async def append(
    session: AsyncSession, dispatch: tables.Dispatch, account: tables.ChannelAccount | ChannelAccess, people: int
) -> None:
    """Cut people just added to the end of an audience, all on one account, into batches of which the first are told.

    The caller holds the dispatch's row, or has just added it.
    """
    first = dispatch.last_seq + 1
    batches = _cut(dispatch, account, people)
    session.add_all(batches)
    if first == 1:  # nothing of it can be in the broker yet
        await _tell(session, dispatch, batches[:TOLD_AT_ONCE])
    else:
        await session.flush()
        await _release(session, dispatch, account.name)


async def begin(
    session: AsyncSession, audiences: Sequence[tuple[tables.Dispatch, tables.ChannelAccount | ChannelAccess, int]]
) -> None:
    """`append` for many dispatches of one lane that were just added, each with all its people on one account."""
    told: list[tuple[tables.Batch, datetime]] = []
    for dispatch, account, people in audiences:
        batches = _cut(dispatch, account, people)
        session.add_all(batches)
        for batch in batches[:TOLD_AT_ONCE]:
            _mark_told(batch)
            told.append((batch, dispatch.not_after))
    await session.flush()
    for lane in {batch.lane for batch, _ in told}:
        await outbox.add(session, *(ready(*one) for one in told if one[0].lane is lane), lane=lane)


def _cut(dispatch: tables.Dispatch, account: tables.ChannelAccount | ChannelAccess, people: int) -> list[tables.Batch]:
    first, end = dispatch.last_seq + 1, dispatch.last_seq + people
    size = PEOPLE_PER_BATCH[dispatch.lane]
    dispatch.last_seq = end
    return [
        tables.Batch(
            dispatch_id=dispatch.id,
            channel=account.channel,
            account=account.name,
            lane=dispatch.lane,
            first=start,
            last=min(start + size - 1, end),
        )
        for start in range(first, end + 1, size)
    ]


async def _release(session: AsyncSession, dispatch: tables.Dispatch, account: str) -> None:
    """Tell the broker of the next waiting batches, up to the limit.

    The caller holds the dispatch's row: two releases at once would both find the same room.
    """
    room = TOLD_AT_ONCE - await _told(session, dispatch, account)
    if room > 0:
        waiting = select(tables.Batch).where(*_of(dispatch, account), tables.Batch.state == "waiting")
        await _tell(session, dispatch, (await session.scalars(waiting.order_by(tables.Batch.id).limit(room))).all())


async def _told(session: AsyncSession, dispatch: tables.Dispatch, account: str) -> int:
    """How many batches of a dispatch and account are in the broker or with a worker."""
    told = select(func.count()).select_from(tables.Batch).where(*_of(dispatch, account), tables.Batch.state == "told")
    return await session.scalar(told) or 0


def _of(dispatch: tables.Dispatch, account: str) -> tuple[ColumnElement[bool], ...]:
    return tables.Batch.dispatch_id == dispatch.id, tables.Batch.account == account


async def _tell(session: AsyncSession, dispatch: tables.Dispatch, batches: Sequence[tables.Batch]) -> None:
    for batch in batches:
        _mark_told(batch)
    await session.flush()  # the broker is told their numbers: a new one has none before
    await outbox.add(session, *(ready(batch, dispatch.not_after) for batch in batches), lane=dispatch.lane)


async def tell_again(session: AsyncSession, batch: tables.Batch, not_after: datetime) -> None:
    """Promise the broker a batch it was told of before. The lane is the one on the row, always."""
    _mark_told(batch)
    await outbox.add(session, ready(batch, not_after), lane=batch.lane, again=str(batch.told))


def _mark_told(batch: tables.Batch) -> None:
    batch.state, batch.told, batch.touched_at = "told", (batch.told or 0) + 1, time.time()


def ready(batch: tables.Batch, not_after: datetime) -> BatchReady:
    """The message of a batch."""
    return BatchReady(
        batch=batch.id,
        dispatch=batch.dispatch_id,
        channel=batch.channel,
        account=batch.account,
        lane=batch.lane,
        first=batch.first,
        last=batch.last,
        not_after=not_after,
        told=batch.told,
    )


async def finish(session: AsyncSession, batch: BatchReady) -> None:
    """Everybody in it is in a final state: mark it, and let the next one of the dispatch follow."""
    dispatch = await hold(session, batch.dispatch)
    await _put(session, batch.batch, "done")
    if (batch.first, batch.last) != (1, dispatch.last_seq):  # else it was all there is
        await _release(session, dispatch, batch.account)
    if dispatch.alert is None:
        # Said: the address of somebody who may not be a subscriber is not kept, nor what was written to them alone.
        dispatch.reply_to = dispatch.reply_sealed = None


async def rest(session: AsyncSession, batch: BatchReady, wait: timedelta) -> None:
    """What is left of it waits; meanwhile the next one may take its place. Until it is back nobody misses it."""
    dispatch = await hold(session, batch.dispatch)
    await _put(session, batch.batch, "resting", seen_until=time.time() + wait.total_seconds())
    await _release(session, dispatch, batch.account)


async def untell(session: AsyncSession, batch: BatchReady) -> None:
    """It waits in the database again, until another batch of its dispatch ends and makes room for it.

    Where no other is left that could end, it is told again at once.
    """
    dispatch = await hold(session, batch.dispatch)
    await _put(session, batch.batch, "waiting")
    if not await _told(session, dispatch, batch.account):
        await _release(session, dispatch, batch.account)


async def touch(session: AsyncSession, batches: list[int]) -> None:
    """Somebody is working on these."""
    await session.execute(
        update(tables.Batch)
        .where(tables.Batch.id.in_(batches), tables.Batch.state != "done")
        .values(touched_at=time.time(), state="told")
    )


async def hold(session: AsyncSession, dispatch: int) -> tables.Dispatch:
    """The dispatch, locked until the commit."""
    query = select(tables.Dispatch).where(tables.Dispatch.id == dispatch).with_for_update()
    return (await session.scalars(query)).one()


async def _put(session: AsyncSession, batch: int, state: str, *, seen_until: float | None = None) -> None:
    touched_at = seen_until or time.time()
    await session.execute(
        update(tables.Batch).where(tables.Batch.id == batch).values(state=state, touched_at=touched_at)
    )
