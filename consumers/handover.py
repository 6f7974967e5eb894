"""An account is halted: whoever waits there and has another address is told on another channel.

Handing over closes their row in the ledger, and opens another (`consumers.elsewhere`): in the comune's order of
channels, and within its budget. Whoever can be told nowhere else goes on waiting.
"""

import json
from typing import NamedTuple

import structlog
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import batching, metrics
from alerting.domain.delivery import Channel, Progress, Reason
from alerting.domain.fallback import PATIENCE, Because, Follow, Stays
from alerting.domain.lanes import Lane
from alerting.persistence import Database, dialects, tables
from consumers.elsewhere import Chosen, Elsewhere, Untold

log = structlog.get_logger()

ASK_AGAIN = 15.0  # seconds
MOST = 1_000
"""People of one transaction."""


class HandOver:
    """Looks for halted accounts, and lets their people be told elsewhere as far as they can be."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._nobody: dict[tuple[int, str], float] = {}

    async def look(self, now: float) -> None:
        """Once over all that waits. Where nobody can be told elsewhere, that is not asked again at once."""
        async with self._database.read() as session:
            waiting = await _waiting(session, now)
        self._nobody = {key: since for key, since in self._nobody.items() if key in waiting}
        for dispatch, account in waiting:
            if now - self._nobody.get((dispatch, account), 0.0) < ASK_AGAIN:
                continue
            if not await self.account(dispatch, account, now, Because.HALTED):
                self._nobody[dispatch, account] = now

    async def account(self, dispatch: int, account: str, now: float, because: Because) -> int:
        """All of a dispatch who wait on an account, and can be told elsewhere. How many they were."""
        people, after = 0, 0
        while True:
            some = await _hand_over_some(self._database, dispatch, account, now, because, after)
            people += some.people
            if some.after is None:
                return people
            after = some.after


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


# Whoever waits on an account, and has an address on another that is open and not in this audience yet. Whom the budget
# did not reach is not asked about again and again: they go on waiting.
WHO_WAITS = """
SELECT o.seq, o.recipient_id FROM deliveries o JOIN addresses a ON a.id = o.address_id
 WHERE o.dispatch_id = :dispatch AND a.account = :account AND o.progress IN ({stands}) AND o.seq > :after
   AND EXISTS (SELECT 1 FROM addresses b
                 JOIN channel_accounts k ON k.name = b.account
                 JOIN provider_rates r ON r.account = k.paced_as
                WHERE b.recipient_id = o.recipient_id AND b.sealed IS NOT NULL AND b.refused_at IS NULL
                  AND k.live = :live AND r.halted_at = 0
                  AND NOT EXISTS (SELECT 1 FROM deliveries x WHERE x.dispatch_id = :dispatch AND x.address_id = b.id))
   AND NOT EXISTS (SELECT 1 FROM fallbacks f
                    WHERE f.dispatch_id = :dispatch AND f.seq = o.seq AND f.state = 'not_afforded')
 ORDER BY o.seq LIMIT {most}
"""

# Closed first: whoever a worker claims at this very moment is not among them, since it is asked again of each row.
CLOSE = f"""
UPDATE deliveries
   SET progress = CASE WHEN progress = {Progress.UNCERTAIN.value} THEN {Progress.UNRESOLVED.value}
                       ELSE {Progress.HANDED_OVER.value} END,
       reason = :reason
 WHERE dispatch_id = :dispatch AND progress IN ({{stands}}) AND seq IN ({{seqs}})
RETURNING seq
"""


class _Some(NamedTuple):
    """What one transaction came to: how many were handed over, and where to go on; None where all were looked at."""

    people: int
    after: int | None


async def _hand_over_some(
    database: Database, dispatch_id: int, account: str, now: float, because: Because, after: int
) -> _Some:
    """Up to so many people of one dispatch, in one transaction."""
    async with database.write() as session:
        dispatch = await batching.hold(session, dispatch_id)
        if dispatch.withdrawn_at is not None:
            return _Some(0, None)
        stands = _stands(dispatch.lane)
        who_waits = text(WHO_WAITS.format(stands=stands, most=MOST))
        asked = {"dispatch": dispatch.id, "account": account, "after": after, "live": dispatch.live}
        waiting = [Untold(seq, person, because) for seq, person in await session.execute(who_waits, asked)]
        go_on = waiting[-1].seq if len(waiting) == MOST else None
        elsewhere = await Elsewhere.of(session, dispatch, now)
        chosen = await elsewhere.choose(waiting, halted_too=False)
        follow = {one.person.seq: one for one in chosen if isinstance(one.choice, Follow)}
        close = text(CLOSE.format(stands=stands, seqs=dialects.numbers(session, "seqs")))
        reason = Reason.CHANNEL_HALTED if because is Because.HALTED else Reason.TEXT_REJECTED
        closing = {"dispatch": dispatch.id, "seqs": json.dumps(sorted(follow)), "reason": reason.value}
        closed = (await session.scalars(close, closing)).all() if follow else []
        not_afforded = [one for one in chosen if one.choice is Stays.NOT_AFFORDED]
        people = await elsewhere.tell([*(follow[seq] for seq in sorted(closed)), *not_afforded])
        for seq in closed:
            metrics.HANDED_OVER.labels(str(dispatch.lane), str(_channel_of(follow[seq]))).inc()
        if people:
            log.warning("handed over to another channel", dispatch=dispatch.id, account=account, people=people)
        return _Some(people, go_on)


def _channel_of(chosen: Chosen) -> Channel:
    assert isinstance(chosen.choice, Follow)
    return chosen.choice.way.channel


def _stands(lane: Lane) -> str:
    """Who is handed over: whoever has certainly not been told; in the flash lane whoever may not have been."""
    stands = [Progress.WAITING, Progress.DEFERRED] + ([Progress.UNCERTAIN] if lane is Lane.FLASH else [])
    return ", ".join(str(progress.value) for progress in stands)
