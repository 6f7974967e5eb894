"""Who was not reached and what followed: noted in the transaction in which it is found out, followed afterwards."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from sqlalchemy import Exists, and_, case, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from alerting.domain import fallback
from alerting.domain.delivery import Channel, Progress, Reason
from alerting.domain.fallback import Because, Policy, Stays
from alerting.domain.lanes import Lane
from alerting.persistence import dialects, tables

DUE, FOLLOWED = "due", "followed"


# ── what a comune wants ─────────────────────────────────────────────────────────────────────────────


def written(policies: fallback.Fallback) -> dict[str, Any] | None:
    """A comune's policies as its row keeps them."""
    return {
        str(lane): {
            "order": [str(channel) for channel in policy.order],
            "patience": policy.patience.total_seconds() if policy.patience else None,
            "per_alert": policy.per_alert,
            "per_month": policy.per_month,
        }
        for lane, policy in policies.lanes.items()
    } or None


def read(kept: dict[str, Any] | None) -> fallback.Fallback:
    """What `written` wrote."""
    return fallback.Fallback(
        {
            Lane(lane): Policy(
                order=tuple(map(Channel, policy["order"])),
                patience=timedelta(seconds=policy["patience"]) if policy["patience"] else None,
                per_alert=policy["per_alert"],
                per_month=policy["per_month"],
            )
            for lane, policy in (kept or {}).items()
        }
    )


# ── noting ──────────────────────────────────────────────────────────────────────────────────────────


class Note(NamedTuple):
    """A delivery that is to be followed, from `due_at` (Unix time) on."""

    dispatch: int
    seq: int
    because: Because
    reason: Reason | None
    due_at: float


async def note(session: AsyncSession, notes: Sequence[Note]) -> None:
    """Somebody will look at these. Once each: what was followed is not followed again.

    A refusal is looked at although the same delivery was noted before, for a silence or a text held back. Locked in
    one order for all, before the dispatch.
    """
    if not notes:
        return
    connection = await session.connection()
    for at_once in (True, False):
        rows = [
            {
                "dispatch_id": one.dispatch,
                "seq": one.seq,
                "because": one.because.value,
                "reason": one.reason and one.reason.value,
                "due_at": one.due_at,
                "state": DUE,
                "micro_euro": 0,
            }
            for one in sorted(set(notes), key=lambda one: one[:2])
            if (one.because is Because.REFUSED) is at_once
        ]
        if rows:
            await connection.execute(_insert(session, anew=at_once), rows)


def _insert(session: AsyncSession, *, anew: bool) -> Any:
    table: Any = tables.Fallback.__table__
    insert = dialects.insert(session, table)
    if not anew:
        return insert.on_conflict_do_nothing()
    said = ("because", "reason", "due_at", "state")
    return insert.on_conflict_do_update(
        index_elements=["dispatch_id", "seq"],
        set_={column: insert.excluded[column] for column in said},
        where=and_(table.c.state != FOLLOWED, table.c.because != Because.REFUSED.value),
    )


# ── money that is promised ──────────────────────────────────────────────────────────────────────────

# What was never said costs nothing: refused, taken back, or given up before a provider took it.
PROMISED = f"""
SELECT coalesce(sum(f.micro_euro), 0) FROM fallbacks f
  JOIN deliveries d ON d.dispatch_id = f.dispatch_id AND d.seq = f.followed_by
 WHERE {{of}} AND f.micro_euro > 0
   AND d.progress NOT IN ({Progress.REFUSED.value}, {Progress.WITHDRAWN.value}, {Progress.HANDED_OVER.value})
   AND NOT (d.progress = {Progress.FAILED.value}
            AND d.reason IN ('{Reason.EXPIRED}', '{Reason.ATTEMPTS_EXHAUSTED}')
            AND NOT EXISTS (SELECT 1 FROM attempts a WHERE a.dispatch_id = d.dispatch_id AND a.seq = d.seq
                                                       AND a.progress = {Progress.ACCEPTED.value}))
"""


async def promised_to_alert(session: AsyncSession, dispatch: int) -> int:
    """What falling back has cost this alert, or will. Whoever asks holds the dispatch."""
    of = text(PROMISED.format(of="f.dispatch_id = :dispatch"))
    return int(await session.scalar(of, {"dispatch": dispatch}) or 0)


async def promised_in_month(session: AsyncSession, budget: int) -> int:
    """What it has cost, or will, out of this month's budget. Whoever asks holds the budget."""
    of = text(PROMISED.format(of="f.budget = :budget"))
    return int(await session.scalar(of, {"budget": budget}) or 0)


# ── what came of it ─────────────────────────────────────────────────────────────────────────────────


class Summary(NamedTuple):
    """How many of a dispatch were told on another channel, and what came of it; how many were not, by why."""

    followed: dict[Because, int]
    not_followed: dict[Stays, int]
    due: int
    told_twice: int
    micro_euro: int


async def summary(session: AsyncSession, dispatch: int) -> Summary:
    row = tables.Fallback
    first, second = aliased(tables.Delivery), aliased(tables.Delivery)
    arrived = (Progress.DELIVERED.value, Progress.READ.value)
    maybe_arrived = (Progress.ACCEPTED.value, Progress.SENT.value, *arrived)
    twice = and_(first.progress.in_(arrived), second.progress.in_(maybe_arrived))
    query = (
        select(row.state, row.because, func.count(), func.sum(case((twice, 1), else_=0)), func.sum(row.micro_euro))
        .outerjoin(first, and_(first.dispatch_id == row.dispatch_id, first.seq == row.seq))
        .outerjoin(second, and_(second.dispatch_id == row.dispatch_id, second.seq == row.followed_by))
        .where(row.dispatch_id == dispatch)
        .group_by(row.state, row.because)
    )
    found = Summary({}, {}, 0, 0, 0)
    for state, because, people, both, micro_euro in await session.execute(query):
        if state == FOLLOWED:
            found.followed[Because(because)] = people
            found = found._replace(
                told_twice=found.told_twice + int(both), micro_euro=found.micro_euro + int(micro_euro)
            )
        elif state == DUE:
            found = found._replace(due=found.due + people)
        else:
            found.not_followed[Stays(state)] = found.not_followed.get(Stays(state), 0) + people
    return found


def followed_of(dispatch: int) -> Exists:
    """Whether somebody of this dispatch is told on an address that nobody's rank says."""
    row = tables.Fallback
    return select(row.seq).where(row.dispatch_id == dispatch, row.state == FOLLOWED).exists()


def is_due(now: float) -> Any:
    """Rows that somebody has to look at now."""
    return and_(tables.Fallback.state == DUE, tables.Fallback.due_at <= now)
