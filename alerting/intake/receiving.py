"""A document at the door: kept byte for byte before anybody looks, looked at once, whatever kills us in between."""

import asyncio
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import delete, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import audit, issuing, metrics, paging
from alerting.cap_xml import envelopes
from alerting.domain.authority import Authority
from alerting.domain.intake import CameBy, IntakeState
from alerting.domain.sources import Kind, Source
from alerting.intake import bulletins, messages
from alerting.intake.cases import SENTENCE, Case, Desk, as_json
from alerting.persistence import Database, tables

log = structlog.get_logger()

MOST_ATTEMPTS = 3
LEFT_BEHIND = timedelta(seconds=20)
"""Nobody is still looking at a document that came so long ago."""


class NotQuarantined(Exception):
    """Only what is quarantined can be accepted or dismissed."""


class Receiver:
    """Takes what sources hand us, whichever door it comes by."""

    def __init__(
        self,
        database: Database,
        authorities: dict[str, Authority],
        sources: dict[str, Source],
        sign: issuing.Sign = issuing.unsigned,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._clock = clock
        self._desk = Desk(authorities, sources, sign)

    async def take(self, source: Source, raw: bytes, media_type: str, came_by: CameBy) -> list[int]:
        """Keep a document and do what follows; the numbers under which it, or what was inside it, is kept.

        Bad input raises nothing: it is kept, with what is wrong with it.
        """
        now = self._clock()
        envelope = await asyncio.to_thread(envelopes.opened, raw) if source.kind is Kind.CAP else None
        pieces = envelope.raws if envelope is not None and envelope.raws else (raw,)
        async with self._database.write() as session:
            if source.kind is Kind.CONTEXT:  # only the newest is of use, and it is large
                await session.execute(delete(tables.Intake).where(tables.Intake.source == source.name))
            if envelope is not None and envelope.raws:
                session.add(_enveloped(source, raw, envelope, media_type, came_by, now))
            rows = [_kept(source, piece, media_type, came_by, now) for piece in pieces]
            session.add_all(rows)
            await session.flush()
            numbers = [row.id for row in rows]
        for number in numbers:
            await self.look_at(number)
        return numbers

    async def look_at(self, number: int) -> None:
        """Do what follows from a document that was received. Safe to call again: it follows once."""
        try:
            try:
                await self._look_at(number)
            except DBAPIError as error:  # of two that wait for each other PostgreSQL ends one: it goes at once again
                log.warning("looking once more", intake=number, error=type(error).__name__)
                await self._look_at(number)
        except Exception as error:  # the unforeseen loses nothing: it is tried again, then somebody is called
            log.exception("a document could not be looked at", intake=number)
            await self._failed(number, f"something unforeseen, {type(error).__name__}: see the log")

    async def _look_at(self, number: int) -> None:
        async with self._database.write() as session:
            row = await session.get(tables.Intake, number, with_for_update=True)
            if row is not None and row.state is IntakeState.RECEIVED:  # else somebody else was here
                await self._look(session, row)

    async def look_again(self) -> None:
        """At what was received and has been left behind: its process was killed, or something was away."""
        before = self._clock() - LEFT_BEHIND
        query = select(tables.Intake.id).where(
            tables.Intake.state == IntakeState.RECEIVED, tables.Intake.received_at < before
        )
        async with self._database.read() as session:
            numbers = (await session.scalars(query.order_by(tables.Intake.id).limit(100))).all()
        for number in numbers:
            await self.look_at(number)

    async def accept(self, session: AsyncSession, number: int, who: str, now: datetime) -> tables.Intake:
        """Somebody lets a quarantined document pass: what follows is drafted, never issued by itself.

        A Cancel is no exception to the rule that a retraction waits for nobody: let pass, it takes back. Raises
        NotQuarantined.
        """
        row = await _quarantined(session, number)
        row.settled_at, row.settled_by = now, who
        await self._look(session, row)
        if row.state is IntakeState.QUARANTINED:
            raise NotQuarantined(f"intake {number} cannot be used even so: {row.because}")
        await audit.write(session, at=now, actor=who, action="accept intake", subject=f"intake {number}")
        await paging.close(session, f"intake {number}", who, now)
        return row

    async def dismiss(self, session: AsyncSession, number: int, who: str, now: datetime) -> tables.Intake:
        """Somebody decides against a quarantined document. It stays, and nothing follows. Raises NotQuarantined."""
        row = await _quarantined(session, number)
        row.state, row.settled_at, row.settled_by = IntakeState.DISMISSED, now, who
        await audit.write(session, at=now, actor=who, action="dismiss intake", subject=f"intake {number}")
        await paging.close(session, f"intake {number}", who, now)
        return row

    async def _look(self, session: AsyncSession, row: tables.Intake) -> None:
        source = self._desk.sources.get(row.source)
        if source is None:
            row.state, row.because = IntakeState.QUARANTINED, f"there is no source {row.source} any more"
            return
        case = Case(self._desk, session, row, source, self._clock())
        match source.kind:
            case Kind.CAP:
                await messages.look(case)
            case Kind.BULLETIN:
                await bulletins.look(case)
            case Kind.CONTEXT:
                case.end(IntakeState.TAKEN, "shown to operators; never an alert by itself")
        if row.state is IntakeState.QUARANTINED:
            await case.call(f"{row.headline or row.media_type}: {row.because}")
        metrics.INTAKE.labels(source.name, str(row.state)).inc()

    async def _failed(self, number: int, sentence: str) -> None:
        async with self._database.write() as session:
            row = await session.get(tables.Intake, number, with_for_update=True)
            if row is None or row.state is not IntakeState.RECEIVED:
                return
            row.attempts += 1
            row.because = sentence[:SENTENCE]
            if row.attempts >= MOST_ATTEMPTS:
                row.state = IntakeState.QUARANTINED
                await paging.call(session, f"intake {row.id}", f"{row.source}: {sentence}", self._clock())


def _enveloped(
    source: Source, raw: bytes, envelope: envelopes.Enveloped, media_type: str, came_by: CameBy, now: datetime
) -> tables.Intake:
    """A feed as it came: the messages inside it are looked at one by one, and it proves what they were."""
    row = _kept(source, raw, media_type, came_by, now)
    row.state, row.because = IntakeState.TAKEN, f"an envelope: its {len(envelope.raws)} messages were kept after it"
    row.findings = [as_json(finding) for finding in envelope.findings]
    return row


def _kept(source: Source, raw: bytes, media_type: str, came_by: CameBy, now: datetime) -> tables.Intake:
    return tables.Intake(
        source=source.name,
        came_by=came_by,
        received_at=now,
        media_type=media_type[:100],
        raw=raw,
        sha256=hashlib.sha256(raw).hexdigest(),
        state=IntakeState.RECEIVED,
    )


async def _quarantined(session: AsyncSession, number: int) -> tables.Intake:
    row = await session.get(tables.Intake, number, with_for_update=True)
    if row is None or row.state is not IntakeState.QUARANTINED:
        state = f"is {row.state}" if row else "does not exist"
        raise NotQuarantined(f"intake {number} {state}: only what is quarantined waits for a decision")
    return row
