"""People of one dispatch are told on another of their addresses: chosen, paid for, and put at the end of its audience.

A person stands in an audience once for each address. The new row is like anybody's: the same lane, pacing, Cancel and
completion. Whoever comes here holds the dispatch, so that of two processes one comes second and finds it done.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple

import structlog
from sqlalchemy import insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import batching, costs, metrics, paging
from alerting.domain.delivery import Channel, Progress
from alerting.domain.fallback import Because, Choice, Follow, Policy, Stays, Way, choose, is_reported
from alerting.persistence import dialects, fallbacks, tables
from consumers.channel import Account, Secret
from consumers.deliver import text_of

log = structlog.get_logger()


class Untold(NamedTuple):
    """A person whose delivery `seq` did not reach them."""

    seq: int
    recipient: int
    because: Because


class Chosen(NamedTuple):
    """What was decided of one of them."""

    person: Untold
    choice: Choice


class Elsewhere:
    """One dispatch and what its comune wants. Made in the transaction that holds the dispatch."""

    def __init__(self, session: AsyncSession, dispatch: tables.Dispatch, policy: Policy, now: float) -> None:
        self._session = session
        self._dispatch = dispatch
        self._policy = policy
        self._now = now
        self._budget: int | None = None
        self._prices: dict[str, int | None] = {}

    @classmethod
    async def of(cls, session: AsyncSession, dispatch: tables.Dispatch, now: float) -> "Elsewhere":
        authority = await session.get_one(tables.Authority, dispatch.authority)
        return cls(session, dispatch, fallbacks.read(authority.fallback).of(dispatch.lane), now)

    # ── choosing ────────────────────────────────────────────────────────────────────────────────────

    async def choose(self, people: Sequence[Untold], *, halted_too: bool = True) -> list[Chosen]:
        """Where each is told, in the order of the audience, as far as the budget reaches.

        Nobody is told before `tell`; the budget is held until the commit.
        """
        ways = await self._ways({person.recipient for person in people})
        left = await self._left()
        chosen = []
        for person in sorted(people):
            choice = choose(
                ways.get(person.recipient, ()),
                self._policy,
                seq=person.seq,
                left=left,
                now=datetime.fromtimestamp(self._now, UTC),
                not_after=self._dispatch.not_after,
                halted_too=halted_too,
            )
            if isinstance(choice, Follow):
                left -= choice.price
                # Somebody may stand here twice, as whoever is owed an Update on two addresses.
                ways[person.recipient] = [_taken(way, choice) for way in ways[person.recipient]]
            chosen.append(Chosen(person, choice))
        return chosen

    async def _ways(self, recipients: Iterable[int]) -> dict[int, list[Way]]:
        """Every address of these people, and how it stands there."""
        known = text(
            dialects.for_each(
                self._session,
                f"({dialects.numbers(self._session, 'recipients')}) q(id)"
                if dialects.is_postgresql(self._session)
                else f"(SELECT value AS id FROM ({dialects.numbers(self._session, 'recipients')})) q",
                "b.recipient_id, b.id, b.account, b.rank, k.channel, k.live = :live AS same_side,"
                " b.sealed IS NOT NULL AND b.refused_at IS NULL AS usable, r.halted_at > 0 AS halted,"
                " (SELECT x.seq FROM deliveries x WHERE x.address_id = b.id AND x.dispatch_id = :dispatch) AS seq,"
                " (SELECT x.progress FROM deliveries x WHERE x.address_id = b.id AND x.dispatch_id = :dispatch)"
                " AS progress",
                "addresses b CROSS JOIN channel_accounts k CROSS JOIN provider_rates r",
                "b.recipient_id = q.id AND k.name = b.account AND r.account = k.paced_as",
            )
        )
        asked = {
            "recipients": json.dumps(sorted(recipients)),
            "live": self._dispatch.live,
            "dispatch": self._dispatch.id,
        }
        found: dict[int, list[Way]] = defaultdict(list)
        for row in await self._session.execute(known, asked):
            found[row.recipient_id].append(
                Way(
                    address=row.id,
                    account=row.account,
                    channel=Channel(row.channel),
                    rank=row.rank,
                    price=await self._price(row.account),
                    is_open=bool(row.same_side and row.usable),
                    halted=bool(row.halted),
                    seq=row.seq,
                    stands=None if row.progress is None else Progress(row.progress),
                    reported=is_reported((await self._session.get_one(tables.ChannelAccount, row.account)).settings),
                )
            )
        return found

    async def _price(self, account: str) -> int | None:
        """What one person costs there: the very text is measured that would be sent."""
        if account not in self._prices:
            row = await self._session.get_one(tables.ChannelAccount, account)
            alert = await self._session.get(tables.Alert, self._dispatch.alert) if self._dispatch.alert else None
            words = text_of(self._dispatch, alert, _as_account(row)).body
            price = costs.price(row.channel, row.micro_euro, self._dispatch.lane, words)
            self._prices[account] = price.micro_euro if price else None
        return self._prices[account]

    async def _left(self) -> int:
        """What may be spent now. Who has no budget spends nothing, and waits for nobody."""
        if not self._policy.spends:
            return 0
        month = costs.month_of(datetime.fromtimestamp(self._now, UTC))
        self._budget = await costs.hold_budget(self._session, self._dispatch.authority, self._dispatch.lane, month)
        return self._policy.left(
            await fallbacks.promised_to_alert(self._session, self._dispatch.id),
            await fallbacks.promised_in_month(self._session, self._budget),
        )

    # ── telling ─────────────────────────────────────────────────────────────────────────────────────

    async def tell(self, chosen: Sequence[Chosen]) -> int:
        """Those who follow, at the end of the audience; of the others it is written down why not. How many follow."""
        follow = [(person, choice) for person, choice in chosen if isinstance(choice, Follow)]
        follow.sort(key=lambda one: (one[1].way.account, one[0].seq))
        added = {person.seq: self._dispatch.last_seq + number for number, (person, _) in enumerate(follow, 1)}
        if follow:
            await self._session.execute(
                insert(tables.Delivery),
                [
                    {
                        "dispatch_id": self._dispatch.id,
                        "seq": added[person.seq],
                        "recipient_id": person.recipient,
                        "address_id": choice.way.address,
                        "progress": Progress.WAITING.value,
                        "attempts": 0,
                        "due_at": 0.0,
                        "claimed_until": 0.0,
                    }
                    for person, choice in follow
                ],
            )
        await self._write_down(chosen, added)
        await self._append(follow)
        await self._page_once(chosen)
        return len(follow)

    async def _append(self, follow: Sequence[tuple[Untold, Follow]]) -> None:
        """Cut them into batches, account by account, and let the first of these be told."""
        by_account: dict[str, int] = defaultdict(int)
        for person, choice in follow:
            by_account[choice.way.account] += 1
            lane, channel = str(self._dispatch.lane), str(choice.way.channel)
            metrics.FELL_BACK.labels(lane, channel, str(person.because)).inc()
        for account, people in by_account.items():
            row = await self._session.get_one(tables.ChannelAccount, account)
            await batching.append(self._session, self._dispatch, row, people)
        if follow and self._dispatch.audience is not None:
            self._dispatch.audience = self._dispatch.last_seq

    async def _write_down(self, chosen: Sequence[Chosen], added: Mapping[int, int]) -> None:
        rows = [
            {
                "dispatch": self._dispatch.id,
                "number": person.seq,
                "to": fallbacks.FOLLOWED if isinstance(choice, Follow) else choice.value,
                "by": added.get(person.seq),
                "money": choice.price if isinstance(choice, Follow) else 0,
                "out_of": self._budget if isinstance(choice, Follow) and choice.price else None,
                "why": person.because.value,
            }
            for person, choice in chosen
        ]
        for row in rows:
            if row["to"] != fallbacks.FOLLOWED:
                metrics.NOT_FOLLOWED.labels(str(self._dispatch.lane), str(row["to"])).inc()
        if rows:
            await self._session.execute(text(WRITE_DOWN), rows)

    async def _page_once(self, chosen: Sequence[Chosen]) -> None:
        """Who is not told for want of money is somebody's business, once an alert; whoever gave none knows."""
        if not self._policy.spends or all(choice is not Stays.NOT_AFFORDED for _, choice in chosen):
            return
        about = f"fallback {self._dispatch.alert}"
        if await self._session.scalar(select(tables.Page.id).where(tables.Page.about == about).limit(1)):
            return
        sentence = (
            f"The budget of the {self._dispatch.lane} lane is used up: not everybody whom alert {self._dispatch.alert} "
            "did not reach is told on another channel. The alert's summary says how many; tell them by other means."
        )
        now = datetime.fromtimestamp(self._now, UTC)
        await paging.call(self._session, about, sentence, now, self._dispatch.authority)


WRITE_DOWN = """
INSERT INTO fallbacks (dispatch_id, seq, because, reason, due_at, state, followed_by, micro_euro, budget)
VALUES (:dispatch, :number, :why, NULL, 0, :to, :by, :money, :out_of)
    ON CONFLICT (dispatch_id, seq) DO UPDATE
   SET because = excluded.because, state = excluded.state, followed_by = excluded.followed_by,
       micro_euro = excluded.micro_euro, budget = excluded.budget
"""


def _taken(way: Way, by: Follow) -> Way:
    if way.address != by.way.address:
        return way
    return replace(way, is_open=True, halted=False, stands=Progress.WAITING, seq=2**31)


def _as_account(row: tables.ChannelAccount) -> Account:
    """What an account says, for whoever sends nothing."""
    return Account(row.name, row.authority, row.channel, "", Secret(""), row.settings, row.paced_as)


async def over(session: AsyncSession, dispatch: int) -> None:
    """It was taken back, or has expired: nobody is told of it elsewhere any more."""
    row = tables.Fallback
    due = (row.dispatch_id == dispatch, row.state == fallbacks.DUE)
    await session.execute(update(row).where(*due).values(state=Stays.OVER.value))
