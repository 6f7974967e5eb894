"""Whoever was not reached is told on another channel: after a refusal at once, after a silence when it lasts too long.

Recorders and receipts note who was refused; here it is found out who is silent. Whatever is noted is followed in one
transaction for each dispatch, so that a kill between any two steps leaves it noted or followed, and nothing between.
"""

from collections import defaultdict
from collections.abc import Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import structlog
from sqlalchemy import Row, and_, case, delete, exists, select, text, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import batching
from alerting.domain.delivery import Channel, Progress, Reason
from alerting.domain.fallback import (
    MAY_BE_HELD,
    OPEN,
    PUT_OFF,
    Because,
    Follow,
    Stays,
    closes_address,
    ends_untold,
    is_reported,
    may_be_silent,
    next_look,
    ranks_without,
)
from alerting.domain.lifecycle import State
from alerting.persistence import Database, fallbacks, tables
from consumers.elsewhere import Chosen, Elsewhere, Untold, over
from consumers.handover import HandOver

log = structlog.get_logger()

MOST = 1_000
"""People of one transaction: workers that end a batch of the dispatch meanwhile wait for it."""
BATCHES_AT_ONCE = 50
ASK_AGAIN = 5.0
"""Seconds after which a text that was held back is looked at again, where somebody is trying it right now."""
TRIED_ANEW_AFTER = timedelta(days=30)
"""A number that is not on WhatsApp may be there one day (channels.md, 131026)."""
REOPENS_EVERY = 3600.0

KEPT_BACK = frozenset({Reason.HELD_BY_PROVIDER}) | PUT_OFF
"""One person's, where a text that is rejected is everybody's."""

Standing = Row[Any]


class Fallback:
    """Looks for who is silent, and follows whatever is noted."""

    def __init__(self, database: Database, hand_over: HandOver) -> None:
        self._database = database
        self._hand_over = hand_over
        self._reopens_at = 0.0

    async def look(self, now: float) -> None:
        """Once over all that is noted, the most urgent first; then over those who may be silent."""
        for dispatch in await self._due(now):
            await self._or_later(self._follow(dispatch, now), dispatch)
        for dispatch, patience in await self._impatient(now):
            await self._or_later(self._listen(dispatch, patience, now), dispatch)
        if now >= self._reopens_at:
            await self._reopen(now)
            self._reopens_at = now + REOPENS_EVERY

    async def _or_later(self, work: Coroutine[Any, Any, None], dispatch: int) -> None:
        """One alert that cannot be worked on now does not hold up the others."""
        try:
            await work
        except SQLAlchemyError as error:
            log.warning("not told elsewhere yet", dispatch=dispatch, error=type(error).__name__)

    async def _due(self, now: float) -> list[int]:
        query = (
            select(tables.Dispatch.id, tables.Dispatch.lane)
            .where(
                tables.Dispatch.id.in_(
                    select(tables.Fallback.dispatch_id).where(fallbacks.is_due(now)).distinct().scalar_subquery()
                )
            )
            .order_by(tables.Dispatch.id)
        )
        async with self._database.read() as session:
            found = (await session.execute(query)).all()
        return [row.id for row in sorted(found, key=lambda row: row.lane.rank)]

    # ── following ───────────────────────────────────────────────────────────────────────────────────

    async def _follow(self, dispatch: int, now: float) -> None:
        await self._close_addresses(dispatch, now)
        while await self._follow_some(dispatch, now) == MOST:
            pass

    async def _follow_some(self, dispatch_id: int, now: float) -> int:
        """Up to so many of what is noted of one dispatch. How many were looked at."""
        rejected: set[str] = set()
        async with self._database.write() as session:
            rows = await _noted(session, dispatch_id, now)
            if not rows:
                return 0
            dispatch = await batching.hold(session, dispatch_id)
            if dispatch.withdrawn_at is not None or dispatch.not_after.timestamp() <= now:
                await over(session, dispatch_id)
                return 0
            sorted_out = _sort_out(rows)
            rejected = sorted_out.rejected
            await _forget(session, dispatch_id, sorted_out.settled)
            await _ask_again(session, dispatch_id, sorted_out.not_yet, now + ASK_AGAIN)
            elsewhere = await Elsewhere.of(session, dispatch, now)
            chosen = await elsewhere.choose(sorted_out.untold)
            closed = await _close_held(session, dispatch_id, chosen)
            claimed = {one.person.seq for one in chosen if _is_held(one) and isinstance(one.choice, Follow)} - closed
            await _ask_again(session, dispatch_id, sorted(claimed), now + ASK_AGAIN)
            followed = await elsewhere.tell([one for one in chosen if one.person.seq not in claimed])
        if followed:
            log.info("told on another channel", dispatch=dispatch_id, people=followed)
        for account in sorted(rejected):
            await self._hand_over.account(dispatch_id, account, now, Because.HELD)
        return len(rows)

    # ── addresses that were refused ─────────────────────────────────────────────────────────────────

    async def _close_addresses(self, dispatch: int, now: float) -> None:
        """What a provider refused for good is not tried by the next alert, where the person has another address.

        Before it is followed, so that after a kill in between it is still noted, and closed.
        """
        query = (
            select(tables.Address.id, tables.Address.recipient_id, tables.Delivery.progress, tables.Delivery.reason)
            .add_columns(tables.ChannelAccount.channel)
            .join(tables.Delivery, tables.Delivery.address_id == tables.Address.id)
            .join(tables.ChannelAccount, tables.ChannelAccount.name == tables.Address.account)
            .join(
                tables.Fallback,
                and_(
                    tables.Fallback.dispatch_id == tables.Delivery.dispatch_id,
                    tables.Fallback.seq == tables.Delivery.seq,
                ),
            )
            .where(
                tables.Fallback.dispatch_id == dispatch,
                fallbacks.is_due(now),
                tables.Address.refused_at.is_(None),
                tables.Address.sealed.is_not(None),
            )
        )
        async with self._database.read() as session:
            found = (await session.execute(query)).all()
        refused = {
            row.id: (row.recipient_id, str(row.reason))
            for row in found
            if closes_address(Progress(row.progress), Reason(row.reason) if row.reason else None, row.channel)
        }
        recipients = sorted({recipient for recipient, _ in refused.values()})
        for first in range(0, len(recipients), MOST):
            async with self._database.write() as session:
                await _close(session, recipients[first : first + MOST], refused, datetime.fromtimestamp(now, UTC))

    async def _reopen(self, now: float) -> None:
        """What was refused long ago may be there by now. It stays the last, until it serves again."""
        long_ago = datetime.fromtimestamp(now, UTC) - TRIED_ANEW_AFTER
        gone = (tables.Address.refused_at < long_ago, tables.Address.refused_because == str(Reason.NOT_REACHABLE_HERE))
        async with self._database.write() as session:
            await session.execute(update(tables.Address).where(*gone).values(refused_at=None, refused_because=None))

    # ── silence ─────────────────────────────────────────────────────────────────────────────────────

    async def _impatient(self, now: float) -> list[tuple[int, float]]:
        """Dispatches with batches to look at, and how long their comune waits for a receipt in that lane."""
        to_look_at = exists().where(
            tables.Batch.dispatch_id == tables.Dispatch.id,
            tables.Batch.silence_at <= now,
            tables.Batch.told > 0,
        )
        query = (
            select(tables.Dispatch.id, tables.Dispatch.lane, tables.Authority.fallback)
            .join(tables.Alert, tables.Alert.identifier == tables.Dispatch.alert)
            .join(tables.Authority, tables.Authority.code == tables.Dispatch.authority)
            .where(
                tables.Alert.state == State.ISSUED,
                tables.Alert.expires_at > datetime.fromtimestamp(now, UTC),
                tables.Dispatch.withdrawn_at.is_(None),
                tables.Authority.fallback.is_not(None),
                to_look_at,
            )
        )
        async with self._database.read() as session:
            found = (await session.execute(query)).all()
        patiences = [
            (row.id, fallbacks.read(row.fallback).of(row.lane).patience)
            for row in sorted(found, key=lambda row: row.lane.rank)
        ]
        return [(dispatch, patience.total_seconds()) for dispatch, patience in patiences if patience]

    async def _listen(self, dispatch: int, patience: float, now: float) -> None:
        """Note who of a dispatch has been silent for too long, and when to look at its batches again."""
        while True:
            async with self._database.read() as session:
                query = select(tables.Batch).where(
                    tables.Batch.dispatch_id == dispatch, tables.Batch.silence_at <= now, tables.Batch.told > 0
                )
                batches = (await session.scalars(query.order_by(tables.Batch.silence_at).limit(BATCHES_AT_ONCE))).all()
                heard = [await _heard(session, batch, patience, now) for batch in batches]
            if not batches:
                return
            async with self._database.write() as session:
                notes = [
                    fallbacks.Note(dispatch, seq, Because.SILENT, None, now) for one in heard for seq in one.silent
                ]
                await fallbacks.note(session, notes)
                moved = await _look_again(session, {one.batch: one.next_look for one in heard})
            if len(batches) < BATCHES_AT_ONCE or not moved:
                return


# ── what is noted ───────────────────────────────────────────────────────────────────────────────────


async def _noted(session: AsyncSession, dispatch: int, now: float) -> Sequence[Standing]:
    """What is due, locked, and where it stands now. What another holds is left to them.

    Locked before the dispatch is: recorders note first and hold the dispatch last.
    """
    row = tables.Fallback
    due = select(row.seq).where(row.dispatch_id == dispatch, fallbacks.is_due(now)).order_by(row.seq).limit(MOST)
    seqs = (await session.scalars(due.with_for_update(skip_locked=True))).all()
    query = (
        select(row.seq, row.because, tables.Delivery.recipient_id, tables.Delivery.progress, tables.Delivery.reason)
        .add_columns(tables.Address.account, tables.ChannelAccount.channel, tables.ChannelAccount.settings)
        .join(tables.Delivery, and_(tables.Delivery.dispatch_id == row.dispatch_id, tables.Delivery.seq == row.seq))
        .join(tables.Address, tables.Address.id == tables.Delivery.address_id)
        .join(tables.ChannelAccount, tables.ChannelAccount.name == tables.Address.account)
        .where(row.dispatch_id == dispatch, row.seq.in_(seqs))
    )
    rows = (await session.execute(query)).all() if seqs else []
    if lost := set(seqs) - {row.seq for row in rows}:  # of nobody who has, or had, an address
        await session.execute(
            update(row).where(row.dispatch_id == dispatch, row.seq.in_(lost)).values(state=Stays.NOWHERE.value)
        )
    return rows


class _SortedOut(NamedTuple):
    """What is to be done with what was noted."""

    untold: list[Untold]
    settled: list[int]
    not_yet: list[int]
    rejected: set[str]


def _sort_out(rows: Sequence[Standing]) -> _SortedOut:
    """By where each delivery stands now, which may be elsewhere than when it was noted."""
    found = _SortedOut([], [], [], set())
    for row in rows:
        progress, reason = Progress(row.progress), Reason(row.reason) if row.reason else None
        because, channel = Because(row.because), Channel(row.channel)
        held = because is Because.HELD and progress in MAY_BE_HELD
        if ends_untold(progress, reason):
            found.untold.append(Untold(row.seq, row.recipient_id, Because.REFUSED))
        elif (because is Because.SILENT and may_be_silent(progress, channel, reported=is_reported(row.settings))) or (
            held and reason in KEPT_BACK
        ):
            found.untold.append(Untold(row.seq, row.recipient_id, because))
        elif held and reason is Reason.TEXT_REJECTED:
            found.rejected.add(row.account)
            found.settled.append(row.seq)
        elif progress in OPEN:
            found.not_yet.append(row.seq)
        else:  # it has arrived meanwhile, or is waiting for its receipt like anybody's, or was taken back
            found.settled.append(row.seq)
    return found


async def _forget(session: AsyncSession, dispatch: int, seqs: Sequence[int]) -> None:
    """There is nothing to follow. Should it be refused or fall silent later, it is noted anew."""
    if seqs:
        row = tables.Fallback
        await session.execute(delete(row).where(row.dispatch_id == dispatch, row.seq.in_(seqs)))


async def _ask_again(session: AsyncSession, dispatch: int, seqs: Sequence[int], at: float) -> None:
    if seqs:
        row = tables.Fallback
        await session.execute(update(row).where(row.dispatch_id == dispatch, row.seq.in_(seqs)).values(due_at=at))


def _is_held(chosen: Chosen) -> bool:
    return chosen.person.because is Because.HELD


async def _close_held(session: AsyncSession, dispatch: int, chosen: Sequence[Chosen]) -> set[int]:
    """Whom the provider holds back, and who is told elsewhere: nobody tries them there any more.

    It may let the text go after all, so that they are owed the Cancel there too; but for who was only put off.
    Asked again of each row: whoever a worker has just claimed is not among them.
    """
    seqs = [one.person.seq for one in chosen if _is_held(one) and isinstance(one.choice, Follow)]
    if not seqs:
        return set()
    held = (
        update(tables.Delivery)
        .where(
            tables.Delivery.dispatch_id == dispatch,
            tables.Delivery.seq.in_(seqs),
            tables.Delivery.progress.in_([progress.value for progress in MAY_BE_HELD]),
            tables.Delivery.reason.in_([reason.value for reason in KEPT_BACK]),
        )
        .values(
            progress=case(
                (tables.Delivery.reason == Reason.HELD_BY_PROVIDER.value, Progress.UNRESOLVED.value),
                (tables.Delivery.progress == Progress.DEFERRED.value, Progress.HANDED_OVER.value),
                else_=Progress.UNRESOLVED.value,
            )
        )
        .returning(tables.Delivery.seq)
        .execution_options(synchronize_session=False)
    )
    return set((await session.scalars(held)).all())


# ── addresses ───────────────────────────────────────────────────────────────────────────────────────


async def _close(
    session: AsyncSession, recipients: Sequence[int], refused: dict[int, tuple[int, str]], now: datetime
) -> None:
    """Locked in one order, and asked again: of a person's last two addresses only one can be closed."""
    people = select(tables.Recipient.id).where(tables.Recipient.id.in_(recipients)).order_by(tables.Recipient.id)
    (await session.scalars(people.with_for_update())).all()  # as whoever opens or shuts an address does
    query = (
        select(tables.Address)
        .where(tables.Address.recipient_id.in_(recipients), tables.Address.sealed.is_not(None))
        .order_by(tables.Address.id)
        .with_for_update()
    )
    by_person: dict[int, list[tables.Address]] = defaultdict(list)
    for row in await session.scalars(query):
        by_person[row.recipient_id].append(row)
    for theirs in by_person.values():
        to_close = [row for row in theirs if row.id in refused and row.refused_at is None]
        closed = {row.id for row in theirs if row.id in refused or row.refused_at is not None}
        ranks = ranks_without(frozenset(closed), {row.id: row.rank for row in theirs})
        if not ranks:
            continue
        for row in theirs:
            row.rank = ranks[row.id]
        for row in to_close:
            row.refused_at, row.refused_because = now, refused[row.id][1]


# ── who is silent ───────────────────────────────────────────────────────────────────────────────────


class _Heard(NamedTuple):
    """What a look at a batch found: who has been silent for too long, and when to look again."""

    batch: int
    silent: list[int]
    next_look: float | None


ATTEMPTS = """
SELECT d.seq, d.progress, a.at FROM deliveries d
  JOIN attempts a ON a.dispatch_id = :dispatch AND a.seq = d.seq AND a.number = d.attempts
 WHERE d.dispatch_id = :dispatch AND d.seq BETWEEN :first AND :last AND a.seq BETWEEN :first AND :last
   AND d.progress IN ({stands})
   AND NOT EXISTS (SELECT 1 FROM fallbacks f WHERE f.dispatch_id = :dispatch AND f.seq = d.seq)
"""


SILENT = ", ".join(
    str(progress.value) for progress in Progress if any(may_be_silent(progress, channel) for channel in Channel)
)


async def _heard(session: AsyncSession, batch: tables.Batch, patience: float, now: float) -> _Heard:
    asked = {"dispatch": batch.dispatch_id, "first": batch.first, "last": batch.last}
    rows = (await session.execute(text(ATTEMPTS.format(stands=SILENT)), asked)).all()
    reported = is_reported((await session.get_one(tables.ChannelAccount, batch.account)).settings)
    waiting = [
        (row.seq, row.at) for row in rows if may_be_silent(Progress(row.progress), batch.channel, reported=reported)
    ]
    silent = sorted(seq for seq, at in waiting if at + patience <= now)
    attempts = [at for _, at in waiting if at + patience > now]
    return _Heard(
        batch.id, silent, next_look(now=now, patience=patience, is_done=batch.state == "done", attempts=attempts)
    )


async def _look_again(session: AsyncSession, looks: dict[int, float | None]) -> bool:
    """When to look at each batch again; whether any was written. Those a recorder is just ending are looked at soon."""
    free = select(tables.Batch.id).where(tables.Batch.id.in_(looks)).with_for_update(skip_locked=True)
    moved = (await session.scalars(free)).all()
    for batch in sorted(moved):
        await session.execute(
            update(tables.Batch)
            .where(tables.Batch.id == batch)
            .values(silence_at=looks[batch])
            .execution_options(synchronize_session=False)
        )
    return bool(moved)
