"""The ledger of deliveries: who is claimed, what became of them, what is left. Always in bulk, never a row a commit."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

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


class Claimed(NamedTuple):
    """A person we may now try to reach: the attempt is in the ledger before the call is made.

    `sealed` is None when they have left meanwhile; `again` when whoever tried before did not live to tell;
    `maybe_told` when an earlier attempt may have arrived. `not_before` (Unix time) is until when the provider wants
    this person left alone. `language` is what they read, where somebody asked for it.
    """

    seq: int
    attempt: int
    address_id: int | None
    sealed: bytes | None
    again: bool
    maybe_told: bool = False
    fingerprint: bytes | None = None
    not_before: float = 0.0
    language: str = ""


class Recorded(NamedTuple):
    """What became of one claimed person. `due_at` (Unix time) says when a deferred one is to be tried again."""

    dispatch: int
    seq: int
    attempt: int
    progress: Progress
    reason: Reason | None
    provider_id: bytes | None
    at: float
    due_at: float = 0.0


# The range is said twice, and addresses are looked up one by one: PostgreSQL cannot know how few a batch is, and from
# the first statistics on would read a whole audience, and every address there is, for each claim.
CLAIMABLE = f"""dispatch_id = :dispatch AND seq BETWEEN :first AND :last
   AND (progress = {WAITING}
        OR (progress IN ({DEFERRED}, {UNCERTAIN}) AND due_at <= :now)
        OR (progress = {SENDING} AND claimed_until <= :now))"""

CHOSEN = f"""SELECT seq FROM deliveries
                WHERE {CLAIMABLE}
                  AND NOT EXISTS (SELECT 1 FROM dispatches x
                                   WHERE x.id = :dispatch AND x.withdrawn_at IS NOT NULL)
                ORDER BY seq LIMIT :most"""

# What is claimable is asked again of each row as it is written: of two who chose the same one comes too late. So
# nobody need lock what is chosen, which would be written twice.
CLAIM = f"""
UPDATE deliveries SET progress = {SENDING}, attempts = attempts + 1, claimed_until = :until,
       reason = CASE WHEN progress = {SENDING} THEN '{Reason.WORKER_DIED}'
                     WHEN progress = {UNCERTAIN} THEN '{Reason.PROVIDER_SILENT}' END
 WHERE {CLAIMABLE}
   AND seq %s
RETURNING seq, attempts, address_id, reason
"""
CLAIM_SQLITE = CLAIM % f"IN ({CHOSEN})"

# As an array it is chosen once. As IN, and before there are statistics of a new audience, PostgreSQL chooses anew for
# each row of the batch: 10 ms a claim, a quarter of a core at 80 texts a second.
CLAIM_POSTGRESQL = CLAIM % f"= ANY (ARRAY({CHOSEN}))"

WITH_ADDRESSES = f"""
WITH claimed AS ({CLAIM_POSTGRESQL})
SELECT c.seq, c.attempts, c.address_id, c.reason, a.sealed, a.fingerprint, a.not_before
  FROM claimed c LEFT JOIN LATERAL (SELECT x.sealed, x.fingerprint, x.not_before FROM addresses x
                                     WHERE x.id = c.address_id LIMIT 1) a ON true
 ORDER BY c.seq
"""


async def claim(
    session: AsyncSession, dispatch: int, first: int, last: int, *, most: int, now: float, until: float
) -> list[Claimed]:
    """Claim up to `most` people of a batch who may be tried now. Nobody else can claim them before `until`."""
    asked = {"dispatch": dispatch, "first": first, "last": last, "most": most, "now": now, "until": until}
    rows: Sequence[Any]
    if dialects.is_postgresql(session):
        rows = (await session.execute(text(WITH_ADDRESSES), asked)).all()
    else:  # which gives back what it changed to nobody but us
        changed = (await session.execute(text(CLAIM_SQLITE), asked)).all()
        rows = await _with_addresses(session, sorted(changed, key=lambda row: row.seq))
    if rows and rows[0].address_id is None:  # the answer to one citizen: its address is the dispatch's own
        reply_to = await session.scalar(text("SELECT reply_to FROM dispatches WHERE id = :d"), {"d": dispatch})
        return [_claimed(row, reply_to) for row in rows]
    return [_claimed(row, row.sealed) for row in rows]


def _claimed(row: Any, sealed: bytes | None) -> Claimed:
    return Claimed(
        row.seq,
        row.attempts,
        row.address_id,
        sealed,
        again=row.reason == Reason.WORKER_DIED.value,
        maybe_told=row.reason is not None,
        fingerprint=row.fingerprint,
        not_before=row.not_before or 0.0,
    )


class _Reached(NamedTuple):
    seq: int
    attempts: int
    address_id: int | None
    reason: str | None
    sealed: bytes | None = None
    fingerprint: bytes | None = None
    not_before: float = 0.0


async def _with_addresses(session: AsyncSession, changed: Sequence[Any]) -> list[_Reached]:
    found = await session.execute(
        text(
            "SELECT id, sealed, fingerprint, not_before FROM addresses"
            f" WHERE id IN ({dialects.numbers(session, 'ids')})"
        ),
        {"ids": json.dumps([row.address_id for row in changed])},
    )
    addresses = {row.id: row[1:] for row in found}
    return [_Reached(*row, *addresses.get(row.address_id, ())) for row in changed]


async def put_off(session: AsyncSession, dispatch: int, seqs: Sequence[int], reason: Reason, *, due_at: float) -> None:
    """People this transaction has claimed are not tried now, but from `due_at` (Unix time) on; no attempt is counted.

    Whoever may have it from an earlier attempt stays uncertain.
    """
    await session.execute(
        text(
            f"""UPDATE deliveries
                   SET progress = CASE WHEN reason IN ({MAYBE_TOLD}) THEN {UNCERTAIN} ELSE {DEFERRED} END,
                       reason = CASE WHEN reason IN ({MAYBE_TOLD}) THEN reason ELSE :reason END,
                       attempts = attempts - 1, claimed_until = 0, due_at = :due_at
                 WHERE dispatch_id = :dispatch AND seq IN ({dialects.numbers(session, "seqs")})"""
        ),
        {"dispatch": dispatch, "seqs": json.dumps(list(seqs)), "reason": reason.value, "due_at": due_at},
    )


async def languages(session: AsyncSession, dispatch: int, seqs: Sequence[int]) -> dict[int, str]:
    """What these people of an audience read. Asked only where an alert is in several languages."""
    rows = await session.execute(
        text(
            f"""SELECT d.seq, r.language FROM deliveries d JOIN recipients r ON r.id = d.recipient_id
                 WHERE d.dispatch_id = :dispatch AND d.seq IN ({dialects.numbers(session, "seqs")})"""
        ),
        {"dispatch": dispatch, "seqs": json.dumps(list(seqs))},
    )
    return {row.seq: row.language for row in rows}


class Quiet(NamedTuple):
    """Somebody of a batch who could be claimed now, and their quiet hours, as minutes of the day in Italy."""

    seq: int
    begins: int
    ends: int


async def with_quiet_hours(session: AsyncSession, dispatch: int, first: int, last: int, *, now: float) -> list[Quiet]:
    """Who of those that could be claimed has quiet hours, whichever these are: one look at a whole batch."""
    rows = await session.execute(
        text(
            f"""SELECT q.seq, r.quiet_from, r.quiet_to
                  FROM (SELECT seq, recipient_id FROM deliveries WHERE {CLAIMABLE}) q
                  JOIN recipients r ON r.id = q.recipient_id
                 WHERE r.quiet_from IS NOT NULL AND r.quiet_to IS NOT NULL AND r.left_at IS NULL ORDER BY q.seq"""
        ),
        {"dispatch": dispatch, "first": first, "last": last, "now": now},
    )
    return [Quiet(*row) for row in rows]


async def hush(
    session: AsyncSession, dispatch: int, first: int, last: int, seqs: Sequence[int], *, now: float, until: float | None
) -> int:
    """These are not told now but from `until` (Unix time) on; or, where that is None, not at all. How many they were.

    Whoever was claimed by another meanwhile is left to them. Who may have it from an earlier attempt stays uncertain,
    or ends unresolved: a Cancel is owed to them.
    """
    may_have_it = f"progress IN ({UNCERTAIN}, {SENDING})"
    then, told_by_now = (
        (Progress.WITHDRAWN.value, Progress.UNRESOLVED.value) if until is None else (DEFERRED, UNCERTAIN)
    )
    result = await session.execute(
        text(
            f"""UPDATE deliveries
                   SET reason = CASE WHEN progress = {SENDING} THEN '{Reason.WORKER_DIED}'
                                     WHEN progress = {UNCERTAIN} THEN reason ELSE '{Reason.QUIET_HOURS}' END,
                       progress = CASE WHEN {may_have_it} THEN {told_by_now} ELSE {then} END,
                       claimed_until = 0, due_at = :until
                 WHERE {CLAIMABLE} AND seq IN ({dialects.numbers(session, "seqs")})"""
        ),
        {
            "dispatch": dispatch,
            "first": first,
            "last": last,
            "now": now,
            "until": until or 0.0,
            "seqs": json.dumps(list(seqs)),
        },
    )
    return int(result.rowcount)  # type: ignore[attr-defined]


async def leave_alone(session: AsyncSession, until: Mapping[int, float]) -> None:
    """Whatever is to be said to these addresses waits until then (Unix time): the provider asked for it."""
    for address, moment in sorted(until.items()):
        await session.execute(
            text("UPDATE addresses SET not_before = :moment WHERE id = :address AND not_before < :moment"),
            {"address": address, "moment": moment},
        )


async def record(session: AsyncSession, results: Sequence[Recorded], *, counted: bool = False) -> dict[int, int]:
    """Write what became of claimed people, and one row per attempt. Receipts that came first are not undone.

    Of somebody who was claimed by another meanwhile only an end is written: the other's attempt goes on. Where it is
    `counted`, how many attempts of each dispatch a provider has accepted, that were not written before.
    """
    if not results:
        return {}
    results = sorted(results, key=lambda r: (r.dispatch, r.seq))  # the order of receipts too: no deadlock
    if dialects.is_postgresql(session):
        return await _record_postgresql(session, results, counted)
    return await _record_sqlite(session, results, counted)


ADDED = f"""
       SELECT dispatch_id, count(*) FROM added WHERE progress = {Progress.ACCEPTED.value} GROUP BY dispatch_id"""


async def _record_postgresql(session: AsyncSession, results: Sequence[Recorded], counted: bool) -> dict[int, int]:
    add, tally = (", added AS (", f"RETURNING dispatch_id, progress){ADDED}") if counted else ("", "")
    found = await session.execute(
        text(
            f"""WITH v AS MATERIALIZED (
                  SELECT * FROM unnest(
                    CAST(:dispatches AS bigint[]), CAST(:seqs AS int[]), CAST(:numbers AS smallint[]),
                    CAST(:ats AS float8[]), CAST(:progresses AS smallint[]), CAST(:reasons AS text[]),
                    CAST(:provider_ids AS bytea[]), CAST(:dues AS float8[])
                  ) AS v(dispatch_id, seq, number, at, progress, reason, provider_id, due_at)),
                moved AS (
                  UPDATE deliveries d
                     SET progress = v.progress, reason = v.reason, due_at = v.due_at, claimed_until = 0
                    FROM v
                   WHERE d.dispatch_id = v.dispatch_id AND d.seq = v.seq AND d.progress = {SENDING}
                     AND d.dispatch_id BETWEEN :least_dispatch AND :last_dispatch
                     AND d.seq BETWEEN :least_seq AND :last_seq
                     AND (d.attempts = v.number OR v.progress >= {FIRST_FINAL})){add}
                INSERT INTO attempts (dispatch_id, seq, number, at, progress, reason, provider_id)
                SELECT dispatch_id, seq, number, at, progress, reason, provider_id FROM v
                ON CONFLICT DO NOTHING {tally}"""
        ),
        {
            "least_dispatch": results[0].dispatch,
            "last_dispatch": results[-1].dispatch,
            "least_seq": min(r.seq for r in results),
            "last_seq": max(r.seq for r in results),
            "dispatches": _array(r.dispatch for r in results),
            "seqs": _array(r.seq for r in results),
            "numbers": _array(r.attempt for r in results),
            "ats": _array(r.at for r in results),
            "progresses": _array(r.progress.value for r in results),
            "reasons": _array("NULL" if r.reason is None else r.reason.value for r in results),
            "provider_ids": _array("NULL" if r.provider_id is None else _bytea(r.provider_id) for r in results),
            "dues": _array(r.due_at for r in results),
        },
    )
    return {dispatch: int(number) for dispatch, number in found} if counted else {}


def _array(values: Iterable[object]) -> str:
    """PostgreSQL's own way to write an array: psycopg's dumping of one takes longer than all else of a recording."""
    return "{" + ",".join(map(str, values)) + "}"


def _bytea(value: bytes) -> str:
    return f'"\\\\x{value.hex()}"'


async def _record_sqlite(session: AsyncSession, results: Sequence[Recorded], counted: bool) -> dict[int, int]:
    accepted: Counter[int] = Counter()
    if counted:
        keys = [(r.dispatch, r.seq, r.attempt) for r in results if r.progress is Progress.ACCEPTED]
        known = await _attempts(session, keys)
        accepted.update(key[0] for key in keys if key not in known)
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
    return dict(accepted)


async def _attempts(session: AsyncSession, keys: Sequence[tuple[int, int, int]]) -> set[tuple[int, int, int]]:
    """Those of these attempts that are written already: a group is written again where nobody knows how it ended."""
    found = await session.execute(
        text(
            """SELECT a.dispatch_id, a.seq, a.number FROM json_each(:keys) k JOIN attempts a
                  ON a.dispatch_id = json_extract(k.value, '$[0]') AND a.seq = json_extract(k.value, '$[1]')
                 AND a.number = json_extract(k.value, '$[2]')"""
        ),
        {"keys": json.dumps(keys)},
    )
    return {(row.dispatch_id, row.seq, row.number) for row in found}


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
