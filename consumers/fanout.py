"""An issued alert → its audience, frozen and numbered → batches. Resumable after a kill, idempotent, in pages."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import structlog
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import batching, metrics
from alerting.amqp import Incoming
from alerting.domain.authority import Authority
from alerting.domain.delivery import MAY_HAVE_ARRIVED, Progress
from alerting.domain.events import AlertIssued
from alerting.domain.lanes import PEOPLE_PER_BATCH
from alerting.issuing import target_of
from alerting.persistence import Database, ledger, tables
from alerting.targeting import PEOPLE, Selection, select_recipients
from consumers.deadletters import bury, event_in

log = structlog.get_logger()

PAGE = 5_000
"""Recipients of one transaction. The first batches leave after the first page, whatever the size of the town."""
FIRST_PAGE = 500
SENDING_LASTS_AT_MOST = 60.0  # seconds that a Cancel waits for calls under way


class FanOut:
    """Works out who is to be told."""

    def __init__(self, database: Database, authorities: dict[str, Authority]) -> None:
        self._database = database
        self._authorities = authorities

    async def take(self, message: Incoming) -> None:
        """One issued alert, to its last batch."""
        event = event_in(message, AlertIssued)
        if event is None:
            return None
        started = time.monotonic()
        if not await self.fan_out(event.dispatch):
            return bury(message, "orphan", f"dispatch {event.dispatch} is no alert in the database")
        metrics.FANOUT_SECONDS.labels(str(event.lane)).observe(time.monotonic() - started)
        message.ack()
        return None

    async def fan_out(self, dispatch_id: int) -> bool:
        """Continue where the last page was committed. Whoever runs this twice, or by two, changes nothing.

        False where there is no such alert in the database.
        """
        async with self._database.read() as session:
            dispatch = await session.get(tables.Dispatch, dispatch_id)
            if dispatch is None or dispatch.alert is None:
                return False
            alert = await session.get_one(tables.Alert, dispatch.alert)
            accounts = await self._accounts(session, dispatch)
            if alert.cancels is None:
                people = await select_recipients(session, target_of(alert), self._authorities[alert.authority])
        if alert.cancels is not None:
            await self._withdraw(alert.cancels)
            people = await self._who_may_have_it(alert.cancels)
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
            size = PAGE

    async def _page(
        self, dispatch_id: int, accounts: list[tables.ChannelAccount], people: Selection, size: int
    ) -> bool:
        """The next `size` of the audience, account after account, in one transaction; whether there may be more."""
        async with self._database.write() as session:
            dispatch = await batching.hold(session, dispatch_id)
            if dispatch.audience is not None:  # somebody came to the end before us
                return False
            room = 0 if dispatch.withdrawn_at else size
            while room and dispatch.fanned_accounts < len(accounts):
                room -= await self._of_account(session, dispatch, accounts[dispatch.fanned_accounts], people, room)
            if room == 0 and not dispatch.withdrawn_at:
                return True
            dispatch.audience = dispatch.last_seq
            log.info("audience frozen", dispatch=dispatch.id, recipients=dispatch.audience)
            return False

    async def _of_account(
        self,
        session: AsyncSession,
        dispatch: tables.Dispatch,
        account: tables.ChannelAccount,
        people: Selection,
        most: int,
    ) -> int:
        """The next recipients on one account, cut into batches of which the first are told. How many they are."""
        added = await _freeze(session, dispatch, account.name, people, most)
        if added:
            batches = _cut(dispatch, account, len(added))
            if dispatch.fanned_to == 0:
                await batching.tell_first(session, dispatch, batches)  # nothing of it can be in the broker yet
            else:
                session.add_all(batches)
                await session.flush()
                await batching.release(session, dispatch, account.name)
            metrics.FANOUT_RECIPIENTS.labels(str(dispatch.lane)).inc(len(added))
        if len(added) < most:
            dispatch.fanned_accounts, dispatch.fanned_to = dispatch.fanned_accounts + 1, 0
        else:
            dispatch.fanned_to = max(added)
        return len(added)

    # ── a Cancel ────────────────────────────────────────────────────────────────────────────────────

    async def _withdraw(self, original: str) -> None:
        """Whoever still waits for the original is not told; who is being told right now is waited for.

        So the Cancel comes after the original for everybody, and to nobody who never got it.
        """
        give_up = time.monotonic() + SENDING_LASTS_AT_MOST
        while True:
            async with self._database.write() as session:
                dispatch = await _dispatch_of(session, original)
                await ledger.withdraw(session, dispatch.id, 1, dispatch.last_seq, now=time.time())
                sending = (await ledger.summary(session, dispatch.id)).get(Progress.SENDING, 0)
            if not sending or time.monotonic() > give_up:
                return
            await asyncio.sleep(0.05)

    async def _who_may_have_it(self, original: str) -> Selection:
        async with self._database.read() as session:
            dispatch = await _dispatch_of(session, original)
        stands = ", ".join(str(progress.value) for progress in sorted(MAY_HAVE_ARRIVED, key=lambda p: p.value))
        return Selection(
            "EXISTS (SELECT 1 FROM deliveries o WHERE o.dispatch_id = :original AND o.address_id = a.id"
            f" AND o.progress IN ({stands}))",
            {"authority": dispatch.authority, "live": dispatch.live, "original": dispatch.id},
        )


async def _freeze(
    session: AsyncSession, dispatch: tables.Dispatch, account: str, people: Selection, size: int
) -> Sequence[int]:
    """Number the next recipients of one account into the audience. Their ids."""
    parameters: dict[str, Any] = {
        **people.parameters,
        "dispatch": dispatch.id,
        "base": dispatch.last_seq,
        "account": account,
        "after": dispatch.fanned_to,
        "size": size,
    }
    chosen = PEOPLE.format(condition=people.condition)
    added = await session.scalars(
        text(
            f"""INSERT INTO deliveries (dispatch_id, seq, recipient_id, address_id, progress, attempts, due_at,
                                        claimed_until)
                SELECT :dispatch, :base + row_number() OVER (ORDER BY q.recipient), q.recipient, q.address,
                       0, 0, 0, 0
                  FROM (SELECT r.id AS recipient, a.id AS address {chosen}
                           AND a.account = :account AND r.id > :after
                         ORDER BY r.id LIMIT :size) q
                RETURNING recipient_id"""
        ),
        parameters,
    )
    return added.all()


def _cut(dispatch: tables.Dispatch, account: tables.ChannelAccount, added: int) -> list[tables.Batch]:
    """Batches of the people just added."""
    first, end = dispatch.last_seq + 1, dispatch.last_seq + added
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


async def _dispatch_of(session: AsyncSession, alert: str) -> tables.Dispatch:
    return (await session.scalars(select(tables.Dispatch).where(tables.Dispatch.alert == alert))).one()
