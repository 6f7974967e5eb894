"""An account is halted, or its provider will not have this text: whoever waits there and has another address is told
on another channel.

A person has one address in an audience. Handing over closes their row in the ledger and opens another, at the end of
the same audience and on the other account, so that everything else (lanes, pacing, the Cancel, completion) goes on as
for anybody. Once only: an address stands in an audience once.
"""

import json

import structlog
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import batching, metrics
from alerting.domain.delivery import Progress, Reason
from alerting.domain.lanes import Lane
from alerting.persistence import Database, dialects, tables

log = structlog.get_logger()

PATIENCE = {Lane.FLASH: 1.0, Lane.EMERGENCY: 10.0, Lane.ROUTINE: 600.0}
"""Seconds an account may be halted before its people are told elsewhere. Whoever waits for a reply wrote us here."""
ASK_AGAIN = 15.0  # seconds
LOOKS_FOR_REJECTED = 3.0  # seconds
NOT_THIS_TEXT = (Reason.TEXT_REJECTED, Reason.HELD_BY_PROVIDER)
MOST = 5_000
"""People of one transaction."""


class HandOver:
    """Looks for halted accounts, and lets their people be told elsewhere as far as they can be."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._nobody: dict[tuple[int, str], float] = {}
        self._rejected_at = 0.0

    async def look(self, now: float) -> None:
        """Once over all that waits. Where nobody can be told elsewhere, that is not asked again at once."""
        async with self._database.read() as session:
            waiting = dict.fromkeys(await _waiting(session, now), Reason.CHANNEL_HALTED)
            if now - self._rejected_at >= LOOKS_FOR_REJECTED:
                self._rejected_at = now
                waiting = await _rejected(session, now) | waiting
        self._nobody = {key: at for key, at in self._nobody.items() if key in waiting or now - at < ASK_AGAIN}
        for (dispatch, account), because in waiting.items():
            if now - self._nobody.get((dispatch, account), 0.0) < ASK_AGAIN:
                continue
            while (people := await _hand_over_some(self._database, dispatch, account, because)) == MOST:
                pass
            if not people:
                self._nobody[dispatch, account] = now


async def _waiting(session: AsyncSession, now: float) -> list[tuple[int, str]]:
    """Dispatches with people left on accounts that have been halted for longer than their lane bears."""
    query = (
        select(tables.Batch.dispatch_id, tables.Batch.account)
        .distinct()
        .join(tables.ChannelAccount, tables.ChannelAccount.name == tables.Batch.account)
        .join(tables.ProviderRate, tables.ProviderRate.account == tables.ChannelAccount.paced_as)
        .join(tables.Dispatch, tables.Dispatch.id == tables.Batch.dispatch_id)
        .where(
            tables.ProviderRate.halted_at > 0,
            tables.Batch.state != "done",
            tables.Dispatch.withdrawn_at.is_(None),
        )
        .add_columns(tables.Batch.lane, tables.ProviderRate.halted_at)
    )
    return [
        (dispatch, account)
        for dispatch, account, lane, halted_at in await session.execute(query)
        if now - halted_at >= PATIENCE.get(lane, float("inf"))
    ]


async def _rejected(session: AsyncSession, now: float) -> dict[tuple[int, str], Reason]:
    """Dispatches whose text a provider does not take, or took and holds back, on an account that is not halted.

    What was tried in vain rests: only resting batches are looked into, and they are few.
    """
    said = (
        select(tables.Delivery.reason)
        .where(
            tables.Delivery.dispatch_id == tables.Batch.dispatch_id,
            tables.Delivery.seq.between(tables.Batch.first, tables.Batch.last),
            tables.Delivery.progress.in_((Progress.DEFERRED.value, Progress.UNCERTAIN.value)),
            tables.Delivery.reason.in_([reason.value for reason in NOT_THIS_TEXT]),
        )
        .limit(1)
        .scalar_subquery()
    )
    query = (
        select(tables.Batch.dispatch_id, tables.Batch.account, tables.Batch.lane, tables.Dispatch.issued_at, said)
        .join(tables.Dispatch, tables.Dispatch.id == tables.Batch.dispatch_id)
        .where(tables.Batch.state == "resting", tables.Dispatch.alert.is_not(None))
        .where(tables.Dispatch.withdrawn_at.is_(None))
    )
    return {
        (dispatch, account): Reason(reason)
        for dispatch, account, lane, issued_at, reason in await session.execute(query)
        if reason is not None and now - issued_at.timestamp() >= PATIENCE.get(lane, float("inf"))
    }


# An open address of recipient `{of}` that is not in this audience yet.
ELSEWHERE = """
SELECT b.id FROM addresses b
  JOIN channel_accounts k ON k.name = b.account
  JOIN provider_rates r ON r.account = k.paced_as
 WHERE b.recipient_id = {of} AND b.sealed IS NOT NULL AND b.refused_at IS NULL AND k.live = :live AND r.halted_at = 0
   AND NOT EXISTS (SELECT 1 FROM deliveries x WHERE x.dispatch_id = :dispatch AND x.address_id = b.id)
"""

# Whom a lane lets go; and whose text is held back, which may come out one day and will not be in time.
STANDS = f"""({{of}}progress IN ({{{{stands}}}})
              OR ({{of}}progress = {Progress.UNCERTAIN.value} AND {{of}}reason = '{Reason.HELD_BY_PROVIDER}'))"""

# Closed first: whoever a worker claims at this very moment is not among them, since it is asked again of each row.
CLOSE = f"""
UPDATE deliveries
   SET progress = CASE WHEN progress = {Progress.UNCERTAIN.value} THEN {Progress.UNRESOLVED.value}
                       ELSE {Progress.HANDED_OVER.value} END,
       reason = :because
 WHERE dispatch_id = :dispatch AND {STANDS.format(of="")}
   AND seq IN (SELECT o.seq FROM deliveries o JOIN addresses a ON a.id = o.address_id
                WHERE o.dispatch_id = :dispatch AND a.account = :account AND {STANDS.format(of="o.")}
                  AND EXISTS ({ELSEWHERE.format(of="o.recipient_id")})
                ORDER BY o.seq LIMIT {MOST})
RETURNING recipient_id
"""

ADD = f"""
INSERT INTO deliveries (dispatch_id, seq, recipient_id, address_id, progress, attempts, due_at, claimed_until)
SELECT :dispatch, :base + row_number() OVER (ORDER BY b.account, b.id), b.recipient_id, b.id, 0, 0, 0, 0
  FROM addresses b
 WHERE b.id IN (SELECT ({ELSEWHERE.format(of="w.id")} ORDER BY b.rank, b.id LIMIT 1)
                  FROM recipients w WHERE w.id IN ({{recipients}}))
"""


async def _hand_over_some(database: Database, dispatch_id: int, account: str, because: Reason) -> int:
    """Up to so many people of one dispatch, in one transaction. How many they were."""
    async with database.write() as session:
        dispatch = await batching.hold(session, dispatch_id)
        if dispatch.withdrawn_at is not None:
            return 0
        asked = {"dispatch": dispatch.id, "live": dispatch.live}
        close = text(CLOSE.format(stands=_stands(dispatch.lane)))
        people = (await session.scalars(close, asked | {"account": account, "because": because.value})).all()
        if not people:
            return 0
        add = text(ADD.format(recipients=dialects.numbers(session, "recipients")))
        await session.execute(add, asked | {"base": dispatch.last_seq, "recipients": json.dumps(people)})
        await _tell(session, dispatch)
        log.warning("handed over to another channel", dispatch=dispatch.id, account=account, people=len(people))
        return len(people)


def _stands(lane: Lane) -> str:
    """Who is handed over: whoever has certainly not been told; in the flash lane whoever may not have been."""
    stands = [Progress.WAITING, Progress.DEFERRED] + ([Progress.UNCERTAIN] if lane is Lane.FLASH else [])
    return ", ".join(str(progress.value) for progress in stands)


async def _tell(session: AsyncSession, dispatch: tables.Dispatch) -> None:
    """Cut the people just added into batches, account by account, and let the first of these be told."""
    added = (
        select(tables.ChannelAccount, func.count())
        .join(tables.Address, tables.Address.account == tables.ChannelAccount.name)
        .join(tables.Delivery, tables.Delivery.address_id == tables.Address.id)
        .where(tables.Delivery.dispatch_id == dispatch.id, tables.Delivery.seq > dispatch.last_seq)
        .group_by(tables.ChannelAccount.name)
        .order_by(tables.ChannelAccount.name)
    )
    for account, people in (await session.execute(added)).all():
        await batching.append(session, dispatch, account, people)
        metrics.HANDED_OVER.labels(str(dispatch.lane), str(account.channel)).inc(people)
    if dispatch.audience is not None:
        dispatch.audience = dispatch.last_seq
