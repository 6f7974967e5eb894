"""Texts whose provider says what became of them only when asked: which they are, and when to ask again.

A text is written down as it is handed over, before its answer comes: so it is asked after also where the line died, or
we did. Whoever asks first moves the next time ahead: a process killed before it could tell the answer costs a wait, no
receipt.
"""

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import delete, select, tuple_, update
from sqlalchemy.exc import SQLAlchemyError

from alerting import outbox
from alerting.domain.events import ReceiptCame
from alerting.domain.lanes import Lane
from alerting.persistence import Database, dialects
from alerting.persistence.tables import AwaitedReceipt
from consumers.channel import Account, Standing, Stands

log = structlog.get_logger()

GATHER = 0.02  # seconds: they come in crowds, and one transaction serves them all
MOST = 300
PAUSE_AFTER_TROUBLE = 0.5
LOOKS_EVERY = 1.0
PER_SECOND = 10
"""Questions a second about one account, from one process. Providers publish no limit; texts go out three times as fast
at most, and what has to wait is asked later."""
WAITS = (10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
"""Seconds before each question, the last again and again: most texts arrive in seconds, the others when a telephone is
switched on."""
ASKED_FOR = timedelta(hours=48)
"""An SMS lives no longer with any operator; the family calls it TIMEOUT then."""
ASKED_AFTER_END = timedelta(minutes=10)
"""Once an alert has expired nobody is told elsewhere any more; the last question is asked a little later."""
REFERENCE = re.compile(r"([0-9]{1,18})\.([0-9]{1,9})\.([0-9]{1,5})")
"""dispatch.seq.attempt, as the delivery worker writes it."""

Attempt = tuple[int, int, int]


def next_question(asked: int, now: float, until: float) -> float:
    """When to ask again of a text, asked after so many times: never later than `until`, where that is to come."""
    at = now + WAITS[min(asked, len(WAITS) - 1)]
    return min(at, until) if until > now else at


def until_when(now: datetime, expires: datetime | None) -> datetime:
    """When the last question is asked."""
    at_most = now + ASKED_FOR
    return min(at_most, max(expires, now) + ASKED_AFTER_END) if expires else at_most


@dataclass(frozen=True, slots=True)
class _Question:
    """A text to ask after. `is_last`: whatever the answer."""

    attempt: Attempt
    known: int | None
    is_last: bool

    @property
    def reference(self) -> str:
        return ".".join(map(str, self.attempt))


class Polling:
    """Keeps such texts in the database, for all processes, and asks. Make it inside a running event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._placed: dict[Attempt, dict[str, Any]] = {}
        self._gone: set[Attempt] = set()
        self._something = asyncio.Event()
        self._writing = asyncio.Lock()

    def placed(self, account: Account, reference: str, expires: datetime | None) -> None:
        """A text is about to be handed over. Written soon; a kill before that loses no more than the attempt has."""
        if (attempt := _attempt(reference)) is None:
            return
        now = datetime.now(UTC)
        until = until_when(now, expires).timestamp()
        self._placed[attempt] = {
            **dict(zip(("dispatch_id", "seq", "attempt"), attempt, strict=True)),
            "account": account.paced_as,
            "asked": 0,
            "next_at": next_question(0, now.timestamp(), until),
            "until": until,
        }
        self._something.set()

    def not_taken(self, reference: str) -> None:
        """It surely was not: there is nothing to ask."""
        if (attempt := _attempt(reference)) is not None:
            self._gone.add(attempt)
            self._something.set()

    async def run(self, accounts: Callable[[], list[Account]], stands: Stands) -> None:
        """Write and ask until cancelled."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._write())
            both.create_task(self._ask(accounts, stands))

    # ── written as it comes ─────────────────────────────────────────────────────────────────────────

    async def _write(self) -> None:
        while True:
            await self._something.wait()
            await asyncio.sleep(GATHER)
            await self.flush()

    async def flush(self) -> None:
        """Write all there is, however long the database is away."""
        while self._placed or self._gone:
            self._something.clear()
            try:
                async with self._writing:
                    await self._write_some()
            except (SQLAlchemyError, OSError) as error:
                log.warning("polling paused", texts=len(self._placed), error=type(error).__name__)
                await asyncio.sleep(PAUSE_AFTER_TROUBLE)

    async def _write_some(self) -> None:
        placed = sorted(self._placed)[:MOST]
        gone = sorted(attempt for attempt in self._gone if attempt not in self._placed)[:MOST]
        async with self._database.write() as session:
            if placed:
                rows = [self._placed[attempt] for attempt in placed]
                await session.execute(dialects.insert_new(session, AwaitedReceipt), rows)
            if gone:
                await session.execute(delete(AwaitedReceipt).where(_IS.in_(gone)))
        for attempt in placed:  # what was taken back meanwhile is found in the next turn
            del self._placed[attempt]
        self._gone.difference_update(gone)

    # ── asked when it is time ───────────────────────────────────────────────────────────────────────

    async def _ask(self, accounts: Callable[[], list[Account]], stands: Stands) -> None:
        while True:
            await asyncio.sleep(LOOKS_EVERY)
            speaks_for = {account.paced_as: account for account in accounts()}
            try:
                await asyncio.gather(*(self.ask_some(account, stands) for account in speaks_for.values()))
            except (SQLAlchemyError, OSError) as error:
                log.warning("polling paused", error=type(error).__name__)

    async def ask_some(self, account: Account, stands: Stands) -> int:
        """A second's worth of questions, and what is learned. How many were asked."""
        questions = await self._due(account.paced_as, time.time())
        if not questions:
            return 0
        answers = await asyncio.gather(*(stands(account, question.reference) for question in questions))
        await self._learn(list(zip(questions, answers, strict=True)))
        return len(questions)

    async def _due(self, account: str, now: float) -> list[_Question]:
        due = (AwaitedReceipt.account == account, AwaitedReceipt.next_at <= now)
        async with self._database.read() as session:
            if await session.scalar(select(AwaitedReceipt.seq).where(*due).limit(1)) is None:
                return []
        async with self._database.write() as session:
            query = select(AwaitedReceipt).where(*due).order_by(AwaitedReceipt.next_at).limit(PER_SECOND)
            rows = (await session.scalars(query.with_for_update(skip_locked=True))).all()
            for row in rows:
                row.asked += 1
                row.next_at = next_question(row.asked, now, row.until)
            return [_Question((row.dispatch_id, row.seq, row.attempt), row.progress, row.until <= now) for row in rows]

    async def _learn(self, learned: Sequence[tuple[_Question, Standing | None]]) -> None:
        at = datetime.now(UTC)
        told = [
            ReceiptCame(question.attempt[0], question.attempt[1], standing.progress, standing.reason, at)
            for question, standing in learned
            if standing is not None and standing.progress.value != question.known
        ]
        over = sorted(
            question.attempt for question, standing in learned if question.is_last or (standing and standing.is_final)
        )
        if not told and not over:
            return
        async with self._database.write() as session:
            if over:
                await session.execute(delete(AwaitedReceipt).where(_IS.in_(over)))
            for question, standing in learned:
                if standing is not None and question.attempt not in over:
                    of_it = update(AwaitedReceipt).where(_IS.in_([question.attempt]))
                    await session.execute(of_it.values(progress=standing.progress.value))
            if told:
                await outbox.add(session, *told, lane=Lane.REPLY)


_IS = tuple_(AwaitedReceipt.dispatch_id, AwaitedReceipt.seq, AwaitedReceipt.attempt)


def _attempt(reference: str) -> Attempt | None:
    """Which attempt a reference names; None for what is none of ours."""
    named = REFERENCE.fullmatch(reference)
    if named is None:
        return None
    dispatch, seq, attempt = map(int, named.groups())
    return dispatch, seq, attempt
