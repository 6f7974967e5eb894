"""What a provider calls a text, and what we call it: the two names meet in the database, whichever comes first.

An SMSC takes no reference of ours and gives back an id of its own, which its receipts repeat: to whichever process
is bound, days later, twice, or before the answer that told us the id. So each name is written down as it comes, and
whoever writes the second one of a pair tells what became of the person.
"""

import asyncio
import re
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import and_, case, delete, or_, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import metrics, outbox
from alerting.domain.delivery import Channel, Progress, Reason, after
from alerting.domain.events import ReceiptCame
from alerting.domain.lanes import Lane
from alerting.persistence import Database, dialects
from alerting.persistence.tables import ProviderText
from alerting.sealing import Seal
from consumers.channel import Called, Report

log = structlog.get_logger()

GATHER = 0.02  # seconds: they come in crowds, and one transaction serves them all
MOST = 300
PAUSE_AFTER_TROUBLE = 0.5
KEPT = timedelta(days=7)
"""No operator keeps a text that long, and nobody waits for a receipt of what has long expired."""
FORGETS_EVERY = 3600.0
REFERENCE = re.compile(r"([0-9]{1,18})\.([0-9]{1,9})\.([0-9]{1,5})")
"""dispatch.seq.attempt, as the delivery worker writes it."""
TELLING_DIGITS = 9
"""Of a number, from its end: a receipt may name it with a prefix or without."""

Key = tuple[str, bytes]
Attempt = tuple[int, int, int]
Found = dict[Key, ProviderText]


@dataclass
class _Heard:
    """A report that arrived, and the SMSC that waits until it is written down."""

    report: Report
    written: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Pairing:
    """Writes down what texts are called and what is reported of them. Make it inside a running event loop."""

    def __init__(self, database: Database, seal: Seal) -> None:
        self._database = database
        self._seal = seal
        self._called: deque[Called] = deque()
        self._heard: deque[_Heard] = deque()
        self._something = asyncio.Event()
        self._writing = asyncio.Lock()
        self._forgets_at = 0.0

    def called(self, called: Called) -> None:
        """A provider has given a part of a text its name. Written soon; what is lost in a kill is an attempt's too."""
        self._called.append(called)
        self._something.set()

    async def reported(self, report: Report) -> None:
        """A provider says what became of a part; returns when it is written, so that it can be told we know."""
        heard = _Heard(report)
        self._heard.append(heard)
        self._something.set()
        await heard.written

    async def run(self) -> None:
        """Writes until cancelled."""
        while True:
            await self._something.wait()
            await asyncio.sleep(GATHER)
            await self.flush()

    async def flush(self) -> None:
        """Write all there is, however long the database is away."""
        while self._called or self._heard:
            self._something.clear()
            try:
                async with self._writing:
                    await self._write_some()
            except (SQLAlchemyError, OSError) as error:  # two may have waited in a circle: one tries again
                log.warning("pairing paused", texts=len(self._called), error=type(error).__name__)
                await asyncio.sleep(PAUSE_AFTER_TROUBLE)

    async def _write_some(self) -> None:
        called = list(self._called)[:MOST]
        heard = list(self._heard)[:MOST]
        async with self._database.write() as session:
            events = await self._take(session, called, [one.report for one in heard])
            if events:
                await outbox.add(session, *events, lane=Lane.REPLY)
            if time.time() > self._forgets_at:
                await session.execute(delete(ProviderText).where(ProviderText.at < time.time() - KEPT.total_seconds()))
                self._forgets_at = time.time() + FORGETS_EVERY
        for _ in called:
            self._called.popleft()
        for _ in heard:
            if not (one := self._heard.popleft()).written.done():
                one.written.set_result(None)

    async def _take(
        self, session: AsyncSession, called: Sequence[Called], reports: Sequence[Report]
    ) -> list[ReceiptCame]:
        """Whom these move. Rows are written and locked in one order for all, so that few wait in a circle."""
        now = time.time()
        names = {self._name(one): one for one in called}
        names = {key: one for key, one in names.items() if REFERENCE.fullmatch(one.reference)}
        await _write(session, [_row(key, now) | _ours(one) for key, one in names.items()], OURS)
        candidates = [self._candidates(report) for report in reports]
        known = await _rows(session, {key for keys in candidates for key in keys})
        early = [pair for pair in zip(reports, candidates, strict=True) if not any(key in known for key in pair[1])]
        await _write(session, [_row(key, now) | _said(report) for report, keys in early for key in keys], SAID)
        attempts = {_attempt(row) for row in (await _rows(session, {*names, *_all(candidates)})).values()}
        if not attempts:
            return []
        await _texts(session, attempts)  # whoever waited here for another sees what it added only when asking again
        texts = await _texts(session, attempts)
        # Of those that found nothing, some met the name that another process was writing: that moves somebody too.
        met = {*names, *_all(keys for _, keys in early)}
        moved = {_attempt(texts[key]) for key in met if key in texts and texts[key].progress is not None}
        for report, keys in zip(reports, candidates, strict=True):
            row = next((texts[key] for key in keys if key in texts), None)
            if row is None:
                metrics.RECEIPTS.labels(str(Channel.SMS), "unknown").inc()
            elif await _moves(session, row, report):
                moved.add(_attempt(row))
        return [event for attempt in sorted(moved) for event in _told(attempt, texts)]

    def _name(self, called: Called) -> Key:
        return called.account, self._fingerprint(
            called.account, _canonical(called.provider_id), _telling(called.number)
        )

    def _candidates(self, report: Report) -> list[Key]:
        """What a report may speak of, the likeliest first: some SMSCs answer in hex and report in decimal.

        Ids in a row would be taken for one another so; the person's number tells them apart.
        """
        numbers = [digits for number in report.numbers if (digits := _telling(number))]
        return [
            (report.account, self._fingerprint(report.account, name, digits))
            for digits in dict.fromkeys(numbers)
            for name in _readings(report.provider_id)
        ]

    def _fingerprint(self, account: str, name: str, digits: str) -> bytes:
        return self._seal.fingerprint(f"{account} {name} {digits}")


# ── names ───────────────────────────────────────────────────────────────────────────────────────────


def _canonical(provider_id: str) -> str:
    return provider_id.strip().lower().lstrip("0") or "0"


def _readings(provider_id: str) -> list[str]:
    """An id as it is, and as it may have been answered: in hex where it is decimal, and the other way round."""
    name = _canonical(provider_id)
    readings = [name]
    if re.fullmatch(r"[0-9]{1,20}", name):
        readings.append(f"{int(name):x}")
    if re.fullmatch(r"[0-9a-f]{1,16}", name):
        readings.append(str(int(name, 16)))
    return list(dict.fromkeys(readings))


def _telling(number: str) -> str:
    """The digits that tell a number apart; nothing where it is an alias or too short to tell."""
    digits = re.sub(r"[^0-9]", "", number) if re.fullmatch(r"\+?[0-9 ]+", number) else ""
    return digits[-TELLING_DIGITS:] if len(digits) >= TELLING_DIGITS else ""


# ── rows ────────────────────────────────────────────────────────────────────────────────────────────


def _ours(called: Called) -> dict[str, Any]:
    named = REFERENCE.fullmatch(called.reference)
    assert named is not None
    dispatch, seq, attempt = map(int, named.groups())
    return {"dispatch_id": dispatch, "seq": seq, "attempt": attempt, "parts": called.parts}


def _said(report: Report) -> dict[str, Any]:
    reason = report.reason.value if report.reason else None
    return {"progress": report.progress.value, "reason": reason}


OURS, SAID = ("dispatch_id", "seq", "attempt", "parts"), ("progress", "reason")
"""What an answer and a receipt each know of a row."""
SENT, DELIVERED = Progress.SENT.value, Progress.DELIVERED.value
"""What says less than any other receipt, and what nothing overrides."""


def _row(key: Key, now: float) -> dict[str, Any]:
    return {"account": key[0], "fingerprint": key[1], "parts": 1, "at": now}


async def _write(session: AsyncSession, rows: list[dict[str, Any]], what: tuple[str, ...]) -> None:
    """Rows, or what they lacked so far: of an answer and a receipt that meet here, the second finds the first."""
    if not rows:
        return
    table: Any = ProviderText.__table__
    insert = dialects.insert(session, table)
    of_receipts = {"progress", "reason"}
    stays = or_(table.c.progress == DELIVERED, and_(table.c.progress.is_not(None), insert.excluded.progress == SENT))
    insert = insert.on_conflict_do_update(
        index_elements=["account", "fingerprint"],
        set_={
            column: case((stays, table.c[column]), else_=insert.excluded[column])
            if column in of_receipts
            else insert.excluded[column]
            for column in what
        },
    )
    connection = await session.connection()
    await connection.execute(insert, sorted(rows, key=lambda row: (row["account"], row["fingerprint"])))


async def _rows(session: AsyncSession, keys: Iterable[Key]) -> Found:
    """Those of these names that are texts of ours."""
    of_these = dialects.among(ProviderText.account, ProviderText.fingerprint, keys)
    query = select(ProviderText).where(of_these, ProviderText.dispatch_id.is_not(None))
    rows = await session.scalars(query.execution_options(populate_existing=True))
    return {(row.account, row.fingerprint): row for row in rows}


async def _texts(session: AsyncSession, attempts: Iterable[Attempt]) -> Found:
    """All parts of these texts, locked: of two processes that hear of two parts, the second sees both."""
    pairs = {(dispatch, seq) for dispatch, seq, _ in attempts}
    query = (
        select(ProviderText)
        .where(dialects.among(ProviderText.dispatch_id, ProviderText.seq, pairs))
        .order_by(ProviderText.account, ProviderText.fingerprint)
        .with_for_update()
    )
    rows = await session.scalars(query.execution_options(populate_existing=True))
    return {(row.account, row.fingerprint): row for row in rows}


async def _moves(session: AsyncSession, row: ProviderText, report: Report) -> bool:
    """Write down what is new in a report. Whether anything was."""
    was = Progress(row.progress) if row.progress is not None else Progress.WAITING
    now = after(was, report.progress)
    if now is was and row.progress is not None:
        return False
    said = _said(report)
    row.progress, row.reason = said["progress"], said["reason"]
    key = (ProviderText.account == row.account, ProviderText.fingerprint == row.fingerprint)
    await session.execute(update(ProviderText).where(*key).values(said))
    return True


def _attempt(row: ProviderText) -> Attempt:
    assert row.dispatch_id is not None and row.seq is not None and row.attempt is not None
    return row.dispatch_id, row.seq, row.attempt


def _told(attempt: Attempt, texts: Found) -> list[ReceiptCame]:
    """What became of a text: it arrived when all its parts did, and failed with any of them."""
    parts = [row for row in texts.values() if _attempt(row) == attempt]
    heard = [row for row in parts if row.progress is not None]
    at = datetime.now(UTC)
    if failed := next((row for row in heard if row.progress == Progress.FAILED.value), None):
        reason = Reason(failed.reason) if failed.reason else None
        return [ReceiptCame(attempt[0], attempt[1], Progress.FAILED, reason, at)]
    if len(heard) < parts[0].parts:
        return []
    least = min((Progress(row.progress) for row in heard), key=lambda progress: progress.value)
    return [ReceiptCame(attempt[0], attempt[1], least, None, at)]


def _all(candidates: Iterable[Iterable[Key]]) -> Iterable[Key]:
    return (key for keys in candidates for key in keys)
