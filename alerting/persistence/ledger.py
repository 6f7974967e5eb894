"""The ledger of deliveries: who is claimed, what became of them, what is left. Always in bulk, never a row a commit."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from alerting.domain.delivery import FIRST_FINAL, Progress, Reason
from alerting.persistence import dialects

WAITING, SENDING, DEFERRED, UNCERTAIN = (
    Progress.WAITING.value,
    Progress.SENDING.value,
    Progress.DEFERRED.value,
    Progress.UNCERTAIN.value,
)

MAYBE_TOLD = f"'{Reason.WORKER_DIED.value}', '{Reason.PROVIDER_SILENT.value}'"
"""The reasons of a person in hand whose earlier attempt may have arrived."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A person we may now try to reach: the attempt is in the ledger before the call is made.

    `sealed` is None when they have left meanwhile; `again` when whoever tried before did not live to tell;
    `maybe_told` when an earlier attempt may have arrived.
    """

    seq: int
    attempt: int
    address_id: int | None
    sealed: bytes | None
    again: bool
    maybe_told: bool = False


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of one claimed person. `due_at` (Unix time) says when a deferred one is to be tried again."""

    dispatch: int
    seq: int
    attempt: int
    progress: Progress
    reason: Reason | None
    provider_id: bytes | None
    at: float
    due_at: float = 0.0


# Chosen once and kept: a subquery that locks may be run again by the planner, and would find others then.
CLAIM = """
WITH chosen AS MATERIALIZED (
       SELECT seq FROM deliveries
        WHERE dispatch_id = :dispatch AND seq BETWEEN :first AND :last
          AND (progress = {waiting}
               OR (progress IN ({deferred}, {uncertain}) AND due_at <= :now)
               OR (progress = {sending} AND claimed_until <= :now))
          AND NOT EXISTS (SELECT 1 FROM dispatches x
                           WHERE x.id = :dispatch AND x.withdrawn_at IS NOT NULL)
        ORDER BY seq LIMIT :most {locking})
UPDATE deliveries SET progress = {sending}, attempts = attempts + 1, claimed_until = :until,
       reason = CASE WHEN progress = {sending} THEN 'worker_died'
                     WHEN progress = {uncertain} THEN 'provider_silent' END
 WHERE dispatch_id = :dispatch AND seq IN (SELECT seq FROM chosen)
RETURNING seq, attempts, address_id, reason
"""


async def claim(
    session: AsyncSession, dispatch: int, first: int, last: int, *, most: int, now: float, until: float
) -> list[Claimed]:
    """Claim up to `most` people of a batch who may be tried now. Nobody else can claim them before `until`."""
    locking = "FOR UPDATE SKIP LOCKED" if dialects.is_postgresql(session) else ""
    statement = CLAIM.format(waiting=WAITING, sending=SENDING, deferred=DEFERRED, uncertain=UNCERTAIN, locking=locking)
    rows = (
        await session.execute(
            text(statement),
            {"dispatch": dispatch, "first": first, "last": last, "most": most, "now": now, "until": until},
        )
    ).all()
    if not rows:
        return []
    sealed = await _addresses(session, dispatch, [row.address_id for row in rows])
    return sorted(
        (
            Claimed(
                row.seq,
                row.attempts,
                row.address_id,
                sealed.get(row.address_id),
                again=row.reason == Reason.WORKER_DIED.value,
                maybe_told=row.reason is not None,
            )
            for row in rows
        ),
        key=lambda claimed: claimed.seq,
    )


async def _addresses(session: AsyncSession, dispatch: int, ids: Sequence[int | None]) -> dict[int | None, bytes | None]:
    if None in ids:  # the answer to one citizen: its address is the dispatch's own
        reply_to = await session.scalar(
            text("SELECT reply_to FROM dispatches WHERE id = :dispatch"), {"dispatch": dispatch}
        )
        return {None: reply_to}
    rows = await session.execute(
        text(f"SELECT id, sealed FROM addresses WHERE id IN ({dialects.numbers(session, 'ids')})"),
        {"ids": json.dumps(ids)},
    )
    return {row.id: None if row.sealed is None else bytes(row.sealed) for row in rows}


async def record(session: AsyncSession, results: Sequence[Recorded]) -> None:
    """Write what became of claimed people, and one row per attempt. Receipts that came first are not undone.

    Of somebody who was claimed by another meanwhile only an end is written: the other's attempt goes on.
    """
    if not results:
        return
    results = sorted(results, key=lambda r: (r.dispatch, r.seq))  # the order of receipts too: no deadlock
    if dialects.is_postgresql(session):
        await _record_postgresql(session, results)
    else:
        await _record_sqlite(session, results)


async def _record_postgresql(session: AsyncSession, results: Sequence[Recorded]) -> None:
    await session.execute(
        text(
            f"""UPDATE deliveries d SET progress = v.progress, reason = v.reason, due_at = v.due_at, claimed_until = 0
                  FROM unnest(CAST(:dispatches AS bigint[]), CAST(:seqs AS int[]), CAST(:progresses AS smallint[]),
                              CAST(:reasons AS text[]), CAST(:dues AS float8[]), CAST(:numbers AS smallint[]))
                       AS v(dispatch_id, seq, progress, reason, due_at, number)
                 WHERE d.dispatch_id = v.dispatch_id AND d.seq = v.seq AND d.progress = {SENDING}
                   AND (d.attempts = v.number OR v.progress >= {FIRST_FINAL})"""
        ),
        _columns(results),
    )
    await session.execute(
        text(
            """INSERT INTO attempts (dispatch_id, seq, number, at, progress, reason, provider_id)
               SELECT * FROM unnest(CAST(:dispatches AS bigint[]), CAST(:seqs AS int[]), CAST(:numbers AS smallint[]),
                                    CAST(:ats AS float8[]), CAST(:progresses AS smallint[]), CAST(:reasons AS text[]),
                                    CAST(:provider_ids AS bytea[]))
               ON CONFLICT DO NOTHING"""
        ),
        _columns(results)
        | {
            "ats": [r.at for r in results],
            "provider_ids": [r.provider_id for r in results],
        },
    )


def _columns(results: Sequence[Recorded]) -> dict[str, list[object]]:
    return {
        "dispatches": [r.dispatch for r in results],
        "seqs": [r.seq for r in results],
        "numbers": [r.attempt for r in results],
        "progresses": [r.progress.value for r in results],
        "reasons": [r.reason and r.reason.value for r in results],
        "dues": [r.due_at for r in results],
    }


async def _record_sqlite(session: AsyncSession, results: Sequence[Recorded]) -> None:
    rows = [
        {
            "dispatch": r.dispatch,
            "seq": r.seq,
            "number": r.attempt,
            "progress": r.progress.value,
            "reason": r.reason and r.reason.value,
            "due_at": r.due_at,
            "at": r.at,
            "provider_id": r.provider_id,
        }
        for r in results
    ]
    await session.execute(
        text(
            f"""UPDATE deliveries SET progress = :progress, reason = :reason, due_at = :due_at, claimed_until = 0
                 WHERE dispatch_id = :dispatch AND seq = :seq AND progress = {SENDING}
                   AND (attempts = :number OR :progress >= {FIRST_FINAL})"""
        ),
        rows,
    )
    await session.execute(
        text(
            """INSERT INTO attempts (dispatch_id, seq, number, at, progress, reason, provider_id)
               VALUES (:dispatch, :seq, :number, :at, :progress, :reason, :provider_id) ON CONFLICT DO NOTHING"""
        ),
        rows,
    )


async def give_back(session: AsyncSession, dispatch: int, claims: Sequence[tuple[int, int]]) -> None:
    """Claimed people, as (seq, attempt), who were not tried after all wait again, as if they had not been claimed.

    Whoever may have it from an earlier attempt stays uncertain. A claim that is another's by now is left alone.
    """
    await session.execute(
        text(
            f"""UPDATE deliveries
                   SET progress = CASE WHEN attempts > 1 AND reason IN ({MAYBE_TOLD}) THEN {UNCERTAIN}
                                       ELSE {WAITING} END,
                       attempts = attempts - 1, claimed_until = 0
                 WHERE dispatch_id = :dispatch AND progress = {SENDING}
                   AND EXISTS (SELECT 1 FROM ({dialects.pairs(session, "claims", "seq", "attempt")}) c
                                WHERE c.seq = deliveries.seq AND c.attempt = deliveries.attempts)"""
        ),
        {"dispatch": dispatch, "claims": json.dumps(list(claims))},
    )


@dataclass(frozen=True, slots=True)
class Left:
    """What a batch still has: how many in no final state, and when (Unix time) the next may be tried."""

    unfinished: int
    next_due: float | None


async def left_of(session: AsyncSession, dispatch: int, first: int, last: int) -> Left:
    """What is left of a batch."""
    row = (
        await session.execute(
            text(
                f"""SELECT count(*) AS unfinished,
                           min(CASE WHEN progress = {SENDING} THEN claimed_until
                                    WHEN progress = {WAITING} THEN 0 ELSE due_at END) AS next_due
                      FROM deliveries
                     WHERE dispatch_id = :dispatch AND seq BETWEEN :first AND :last AND progress < {FIRST_FINAL}"""
            ),
            {"dispatch": dispatch, "first": first, "last": last},
        )
    ).one()
    return Left(int(row.unfinished), row.next_due)


async def withdraw(
    session: AsyncSession, dispatch: int, first: int, last: int, reason: Reason = Reason.WITHDRAWN, *, now: float
) -> int:
    """Whoever still waits in a range is not told any more. How many that were.

    Who is with a worker is left alone, and whoever may have it already ends unresolved, as does whoever was with
    a worker that did not live to tell: all of them are owed the Cancel.
    """
    may_have_it = f"progress IN ({UNCERTAIN}, {SENDING})"
    result = await session.execute(
        text(
            f"""UPDATE deliveries
                   SET reason = CASE WHEN progress = {SENDING} THEN 'worker_died'
                                     WHEN {may_have_it} THEN reason ELSE :reason END,
                       progress = CASE WHEN {may_have_it} THEN {Progress.UNRESOLVED.value} ELSE :progress END
                 WHERE dispatch_id = :dispatch AND seq BETWEEN :first AND :last
                   AND (progress IN ({WAITING}, {DEFERRED}, {UNCERTAIN})
                        OR (progress = {SENDING} AND claimed_until <= :now))"""
        ),
        {
            "dispatch": dispatch,
            "first": first,
            "last": last,
            "now": now,
            "reason": reason.value,
            "progress": (Progress.WITHDRAWN if reason is Reason.WITHDRAWN else Progress.FAILED).value,
        },
    )
    return int(result.rowcount)  # type: ignore[attr-defined]


async def summary(session: AsyncSession, dispatch: int) -> dict[Progress, int]:
    """How many recipients of a dispatch stand where."""
    rows = await session.execute(
        text("SELECT progress, count(*) FROM deliveries WHERE dispatch_id = :dispatch GROUP BY progress"),
        {"dispatch": dispatch},
    )
    return {Progress(progress): count for progress, count in rows}
