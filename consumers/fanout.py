"""An issued alert → its audience, frozen and numbered → batches. Resumable after a kill, idempotent, in pages."""

import asyncio
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import structlog
from sqlalchemy import ColumnElement, exists, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import batching, metrics
from alerting.amqp import Incoming
from alerting.domain.authority import Authority
from alerting.domain.delivery import Progress
from alerting.domain.events import AlertIssued
from alerting.issuing import audience_of
from alerting.persistence import Database, dialects, fallbacks, ledger, tables
from alerting.targeting import BIGGEST_ID, Selection, select_recipients
from consumers.deadletters import bury, event_in

log = structlog.get_logger()

FIRST_PAGE = 500
"""Recipients looked at in one transaction. The first batches leave after it, whatever the size of the town."""
FEW = 1_000
"""An audience no larger is found by its places, and frozen in one transaction: nobody else is looked at."""
GROWS_BY = 10
PAGE = 25_000
"""At most: workers that end a batch meanwhile, and a Cancel, wait for the page."""
CLOSED_MEANWHILE = timedelta(minutes=1)
"""Before the issue by one host's clock may be after it by another's."""
CLOCKS_DIFFER_BY = 600.0  # seconds, at most: those of the machines that issue and that are written to
SENDING_LASTS_AT_MOST = 60.0  # seconds that an Update or a Cancel waits for calls under way
LOOK_AGAIN_AFTER = 0.05  # seconds, or as long as looking takes: an audience of a million is not counted without pause


class FanOut:
    """Works out who is to be told."""

    def __init__(self, database: Database, authorities: dict[str, Authority]) -> None:
        self._database = database
        self._authorities = authorities

    async def take(self, message: Incoming) -> None:
        """One issued alert, to its last batch."""
        event = await event_in(self._database, message, AlertIssued)
        if event is None:
            return None
        started = time.monotonic()
        if not await self.fan_out(event.dispatch):
            return await bury(
                self._database, message, "orphan", f"dispatch {event.dispatch} is no alert in the database"
            )
        metrics.FANOUT_SECONDS.labels(str(event.lane)).observe(time.monotonic() - started)
        message.ack()
        return None

    async def fan_out(self, dispatch_id: int) -> bool:
        """Continue where the last page was committed. Whoever runs this twice, or by two, changes nothing.

        False where there is no such alert in the database.
        """
        async with self._database.read() as session:
            of_alert = select(tables.Dispatch, tables.Alert).join(tables.Alert)
            found = (await session.execute(of_alert.where(tables.Dispatch.id == dispatch_id))).one_or_none()
            if found is None:
                return False
            dispatch, alert = found
            if dispatch.audience is not None:  # RabbitMQ gave it to us again
                return True
            accounts = await self._accounts(session, dispatch)
            target = await audience_of(session, alert)
            people = await select_recipients(session, target, self._authorities[alert.authority])
        for earlier in target.told:
            await self._withdraw(earlier, dispatch_id)
        async with self._database.read() as session:
            people = await people.if_few(session, FEW) or people
        await self._page_by_page(dispatch_id, accounts, people)
        return True

    async def _accounts(self, session: AsyncSession, dispatch: tables.Dispatch) -> list[tables.ChannelAccount]:
        """The accounts of the authority. The wall again: an exercise has accounts of its own."""
        query = select(tables.ChannelAccount).where(
            tables.ChannelAccount.authority == dispatch.authority, tables.ChannelAccount.live == dispatch.live
        )
        return list((await session.scalars(query.order_by(tables.ChannelAccount.name))).all())

    # ── pages ───────────────────────────────────────────────────────────────────────────────────────

    async def _page_by_page(self, dispatch_id: int, accounts: list[tables.ChannelAccount], people: Selection) -> None:
        size = FIRST_PAGE
        while await self._page(dispatch_id, accounts, people, size):
            size = min(size * GROWS_BY, PAGE)

    async def _page(
        self, dispatch_id: int, accounts: list[tables.ChannelAccount], people: Selection, size: int
    ) -> bool:
        """Look at the next `size` people, account after account, in one transaction; whether there may be more."""
        async with self._database.write() as session:
            dispatch = await batching.hold(session, dispatch_id)
            if dispatch.audience is not None:  # somebody came to the end before us
                return False
            dispatch.touched_at = time.time()
            if people.is_few and accounts and dispatch.last_seq == 0 and not dispatch.withdrawn_at:
                await _all_at_once(session, dispatch, accounts, people)
                return False
            room = 0 if dispatch.withdrawn_at else size
            while room and dispatch.fanned_accounts < len(accounts):
                room -= await self._of_account(session, dispatch, accounts[dispatch.fanned_accounts], people, room)
            if room == 0 and not dispatch.withdrawn_at:
                return True
            if not dispatch.withdrawn_at:
                await self._whom_nobody_met(session, dispatch, accounts, people)
            _is_frozen(dispatch, dispatch.last_seq)
            return False

    async def _of_account(
        self,
        session: AsyncSession,
        dispatch: tables.Dispatch,
        account: tables.ChannelAccount,
        people: Selection,
        most: int,
    ) -> int:
        """Of the next people those who are meant, on one account, cut into batches of which the first are told.

        How many were looked at: however few are meant, a page takes no longer than its size.
        """
        looked_at, upto = (0, BIGGEST_ID) if people.is_few else await _window(session, dispatch, most)
        guard, parameters = await _not_told_already(session, dispatch)
        await _add(session, dispatch, account, people, (dispatch.fanned_to, upto), guard, parameters)
        if looked_at < most:
            dispatch.fanned_accounts, dispatch.fanned_to = dispatch.fanned_accounts + 1, 0
        else:
            dispatch.fanned_to = upto
        return looked_at

    async def _whom_nobody_met(
        self,
        session: AsyncSession,
        dispatch: tables.Dispatch,
        accounts: list[tables.ChannelAccount],
        people: Selection,
    ) -> None:
        """Who was given another first address, or lost theirs, after its account was done: told at the very end."""
        unmet = await _unmet(session, dispatch)
        while unmet:
            some = [one for one in unmet if one < unmet[0] + PAGE]
            guard = f" AND r.id IN ({dialects.numbers(session, 'unmet')})"
            for account in accounts:
                window, parameters = (some[0] - 1, some[-1]), {"unmet": json.dumps(some)}
                await _add(session, dispatch, account, people, window, guard, parameters)
            unmet = unmet[len(some) :]

    # ── an Update, a Cancel ─────────────────────────────────────────────────────────────────────────

    async def _withdraw(self, earlier: int, for_dispatch: int) -> None:
        """Whoever still waits for what came before is not told; who is being told right now is waited for.

        So an Update or a Cancel comes after the original for everybody, and a Cancel to nobody who never got it.
        """
        give_up = time.monotonic() + SENDING_LASTS_AT_MOST
        while True:
            started = time.monotonic()
            async with self._database.write() as session:
                dispatch = await session.get_one(tables.Dispatch, earlier)
                await ledger.withdraw(session, dispatch.id, 1, dispatch.last_seq, now=time.time())
                sending = (await ledger.summary(session, dispatch.id)).get(Progress.SENDING, 0)
                await session.execute(
                    update(tables.Dispatch).where(tables.Dispatch.id == for_dispatch).values(touched_at=time.time())
                )
            if not sending or time.monotonic() > give_up:
                return
            await asyncio.sleep(max(LOOK_AGAIN_AFTER, time.monotonic() - started))


async def _all_at_once(
    session: AsyncSession,
    dispatch: tables.Dispatch,
    accounts: Sequence[tables.ChannelAccount],
    people: Selection,
) -> None:
    """Few people, none of them in the audience yet: one statement for all accounts, so that nobody moves meanwhile.

    The people of each account are numbered in a row.
    """
    named = {account.name: account for account in accounts}
    with session.no_autoflush:  # the dispatch is written once, with its batches
        added = await _freeze(session, dispatch, named, people, (0, BIGGEST_ID))
        counts = await _by_account(session, dispatch) if added else []
        dispatch.fanned_accounts = len(accounts)
        _is_frozen(dispatch, added)
        await batching.begin(session, [(dispatch, named[account], count) for account, count in counts])
    metrics.FANOUT_RECIPIENTS.labels(str(dispatch.lane)).inc(added)


async def _by_account(session: AsyncSession, dispatch: tables.Dispatch) -> list[tuple[str, int]]:
    """How many of an audience are told on each account, in the order of their numbers."""
    account = tables.Address.account
    query = (
        select(account, func.count())
        .join(tables.Delivery, tables.Delivery.address_id == tables.Address.id)
        .where(tables.Delivery.dispatch_id == dispatch.id)
    )
    by_account = query.group_by(account).order_by(func.min(tables.Delivery.seq))
    return [(name, people) for name, people in await session.execute(by_account)]


def _is_frozen(dispatch: tables.Dispatch, people: int) -> None:
    dispatch.audience = people
    log.info("audience frozen", dispatch=dispatch.id, recipients=dispatch.audience)


async def _window(session: AsyncSession, dispatch: tables.Dispatch, size: int) -> tuple[int, int]:
    """The next people of the authority, whoever they are: how many, `size` at most, and the id of the last."""
    ids = (
        select(tables.Recipient.id)
        .where(tables.Recipient.authority == dispatch.authority, tables.Recipient.id > dispatch.fanned_to)
        .order_by(tables.Recipient.id)
        .limit(size)
        .subquery()
    )
    count, last = (await session.execute(select(func.count(), func.max(ids.c.id)))).one()
    return count, last or dispatch.fanned_to


async def _add(
    session: AsyncSession,
    dispatch: tables.Dispatch,
    account: tables.ChannelAccount,
    people: Selection,
    window: tuple[int, int],
    guard: str,
    parameters: dict[str, Any],
) -> None:
    """Who is meant of these ids, on one account: into the audience and into batches."""
    added = await _freeze(session, dispatch, [account.name], people, window, guard, parameters)
    if added:
        await batching.append(session, dispatch, account, added)
        metrics.FANOUT_RECIPIENTS.labels(str(dispatch.lane)).inc(added)


async def _freeze(
    session: AsyncSession,
    dispatch: tables.Dispatch,
    accounts: Iterable[str],
    people: Selection,
    window: tuple[int, int],
    guard: str = "",
    parameters: Mapping[str, Any] = MappingProxyType({}),
) -> int:
    """Number the recipients on these accounts in a window of ids into the audience. How many they are."""
    after, upto = window
    known = {"dispatch": dispatch.id, "base": dispatch.last_seq, "after": after, "upto": upto}
    meant = {f"account{number}": account for number, account in enumerate(accounts)}
    # One by one in the order of an index, which a page of a million's audience is not sorted for again.
    on, order = (
        (f"IN (:{', :'.join(meant)})", "q.account, q.recipient") if len(meant) > 1 else ("= :account0", "q.recipient")
    )
    added = await session.execute(
        text(
            f"""INSERT INTO deliveries (dispatch_id, seq, recipient_id, address_id, progress, attempts, due_at,
                                        claimed_until)
                SELECT :dispatch, :base + row_number() OVER (ORDER BY {order}), q.recipient, q.address, 0, 0, 0, 0
                  FROM (SELECT r.id AS recipient, a.id AS address, a.account {people.people}
                           AND a.account {on} {guard}) q"""
        ),
        people.parameters | dict(parameters) | known | meant,
    )
    return int(added.rowcount)  # type: ignore[attr-defined]


async def _not_told_already(session: AsyncSession, dispatch: tables.Dispatch) -> tuple[str, dict[str, Any]]:
    """Leaves out who stands in this audience already, while it is still being frozen.

    Whose first address was refused meanwhile, for this alert or for another, has another one first by now; and who was
    told on another address as a fallback may be owed the text there anyway.
    """
    guard, parameters = "", {}
    closed, followed = await _any_closed_or_followed(session, dispatch)
    if closed:
        theirs = (
            select(tables.Address.recipient_id)
            .join(tables.Delivery, tables.Delivery.address_id == tables.Address.id)
            .where(_closed_meanwhile(dispatch), tables.Delivery.dispatch_id == dispatch.id)
        )
        parameters["moved"] = json.dumps(sorted(set(await session.scalars(theirs))))
        guard = f" AND r.id NOT IN ({dialects.numbers(session, 'moved')})"
    if followed:
        guard += " AND NOT EXISTS (SELECT 1 FROM deliveries z WHERE z.address_id = a.id AND z.dispatch_id = :dispatch)"
    return guard, parameters


async def _unmet(session: AsyncSession, dispatch: tables.Dispatch) -> list[int]:
    """Whose addresses changed meanwhile, and who stands nowhere in this audience; in order. Few of them are meant."""
    ranked_anew = select(tables.Recipient.id).where(
        tables.Recipient.authority == dispatch.authority,
        tables.Recipient.ranked_at.is_not(None),
        tables.Recipient.ranked_at > dispatch.issued_at.timestamp() - CLOCKS_DIFFER_BY,
        ~exists().where(
            tables.Delivery.dispatch_id == dispatch.id, tables.Delivery.recipient_id == tables.Recipient.id
        ),
    )
    unmet = set(await session.scalars(ranked_anew))
    closed_meanwhile, _ = await _any_closed_or_followed(session, dispatch)
    if not closed_meanwhile:
        return sorted(unmet)
    theirs = (
        select(tables.Address.recipient_id)
        .join(tables.Recipient, tables.Recipient.id == tables.Address.recipient_id)
        .where(_closed_meanwhile(dispatch), tables.Recipient.authority == dispatch.authority)
    )
    closed = set(await session.scalars(theirs))
    met = (
        select(tables.Address.recipient_id)
        .join(tables.Delivery, tables.Delivery.address_id == tables.Address.id)
        .where(tables.Address.recipient_id.in_(theirs.scalar_subquery()), tables.Delivery.dispatch_id == dispatch.id)
    )
    return sorted(unmet | closed - set(await session.scalars(met)))


async def _any_closed_or_followed(session: AsyncSession, dispatch: tables.Dispatch) -> tuple[bool, bool]:
    """Whether an address was closed meanwhile, whosever; and whether somebody of the dispatch was told elsewhere."""
    closed = select(tables.Address.id).where(_closed_meanwhile(dispatch)).exists()
    closed_any, followed_any = (await session.execute(select(closed, fallbacks.followed_of(dispatch.id)))).one()
    return bool(closed_any), bool(followed_any)


def _closed_meanwhile(dispatch: tables.Dispatch) -> ColumnElement[bool]:
    return tables.Address.refused_at >= dispatch.issued_at - CLOSED_MEANWHILE
