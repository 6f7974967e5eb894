"""Addresses at which nobody is any more: marked when a provider says so, cleared when anything arrives again.

Nobody is unsubscribed by it: a telephone that was off for a summer is told of the flood in autumn.
"""

from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from alerting.domain.delivery import Progress, Reason
from alerting.persistence import Database, tables

FOR_LONG = timedelta(days=90)
"""So long that it is no summer's holiday: then they are shown in the count."""
LOOKS_BACK = timedelta(hours=24)
"""Alerts that ended in this time are looked at, each more than once: receipts come late, and processes stand still."""
NOBODY_THERE = Reason.NOT_REACHABLE_HERE.value
NOT_TAKEN = (Progress.REFUSED.value, Progress.FAILED.value)
ARRIVED = tuple(one.value for one in (Progress.ACCEPTED, Progress.SENT, Progress.DELIVERED, Progress.READ))


async def mark(database: Database, now: datetime) -> None:
    """By what became of the alerts that ended lately, one transaction each."""
    ended = (
        select(tables.Dispatch.id, tables.Dispatch.issued_at)
        .where(tables.Dispatch.alert.is_not(None), tables.Dispatch.not_after.between(now - LOOKS_BACK, now))
        .order_by(tables.Dispatch.id)
    )
    async with database.read() as session:
        dispatches = (await session.execute(ended)).all()
    for dispatch, issued_at in dispatches:
        async with database.write() as session:
            await _mark_of(session, dispatch, issued_at)


async def _mark_of(session: AsyncSession, dispatch: int, issued_at: datetime) -> None:
    address, delivery = tables.Address, tables.Delivery
    told = select(delivery.address_id).where(delivery.dispatch_id == dispatch)
    gone = told.where(delivery.reason == NOBODY_THERE, delivery.progress.in_(NOT_TAKEN))
    await session.execute(
        update(address)
        .where(address.id.in_(gone), address.unreachable_since.is_(None), address.sealed.is_not(None))
        .values(unreachable_since=issued_at)
        .execution_options(synchronize_session=False)
    )
    await session.execute(
        update(address)
        .where(address.unreachable_since <= issued_at, address.id.in_(told.where(delivery.progress.in_(ARRIVED))))
        .values(unreachable_since=None)
        .execution_options(synchronize_session=False)
    )
