"""Routine texts wait for the end of somebody's quiet hours. Emergencies and answers never do.

A batch is looked through before somebody of it is claimed, and again once a minute while it is in hand: quiet hours
begin and end on a minute, so nobody is told within theirs, and no slot is spent on finding that out.
"""

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncSession

from alerting import metrics
from alerting.domain.choices import quiet_of, quiet_until
from alerting.domain.delivery import Reason
from alerting.domain.events import BatchReady
from alerting.domain.lanes import Lane
from alerting.persistence import ledger

MINUTE = 60.0


def ends_of(people: Iterable[ledger.Quiet], now: float) -> dict[float, list[int]]:
    """Who of these has quiet hours now, by when they end (Unix time)."""
    here = datetime.fromtimestamp(now, UTC)
    by_hours: dict[tuple[int, int], float | None] = {}
    ends: dict[float, list[int]] = defaultdict(list)
    for seq, begins, until in people:
        hours = (begins, until)
        if hours not in by_hours:  # most of a town has chosen one of few
            quiet = quiet_of(*hours)
            over = quiet_until(quiet, here) if quiet else None
            by_hours[hours] = over.timestamp() if over else None
        end = by_hours[hours]
        if end is not None:
            ends[end].append(seq)
    return dict(ends)


async def put_off(session: AsyncSession, batch: BatchReady, *, now: float) -> None:
    """Of a routine batch put off whoever has quiet hours now; who would be told too late is not told, and counted."""
    if batch.lane is not Lane.ROUTINE:
        return
    people = await ledger.with_quiet_hours(session, batch.dispatch, batch.first, batch.last, now=now)
    lane, channel = str(batch.lane), str(batch.channel)
    for end, seqs in sorted(ends_of(people, now).items()):
        until = end if end < batch.not_after.timestamp() else None
        hushed = await ledger.hush(session, batch.dispatch, batch.first, batch.last, seqs, now=now, until=until)
        if until is None:
            metrics.OUTCOMES.labels(lane, channel, "withdrawn", Reason.QUIET_HOURS.value).inc(hushed)
        else:
            metrics.TURNED_AWAY.labels(lane, Reason.QUIET_HOURS.value).inc(hushed)
