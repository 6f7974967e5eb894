"""All that a desk holds of one person: told to them, moved to their new number, and erased when they ask for it."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from alerting.desk import letters, reports
from alerting.domain.appointments import in_words
from alerting.domain.desk import Line, PhotoState, ReportState, filled
from alerting.persistence import tables
from alerting.sealing import Seal
from alerting.subscribing import Subscriber

SHOWN = 3
"""Of each kind, the newest: more are not read on a telephone. The link to one's data has all."""


@dataclass(frozen=True, slots=True)
class KnownReport:
    """What they reported, in their own words, and what they were answered. Notes of the staff are the office's."""

    number: int
    category: str | None
    state: ReportState
    street: str | None
    frazione: str | None
    lat: float | None
    lon: float | None
    opened_at: datetime
    closed_at: datetime | None
    said: tuple[str, ...]
    answered: tuple[str, ...]
    photos: int


@dataclass(frozen=True, slots=True)
class KnownAppointment:
    """When they are, or were, received."""

    office: str
    starts_at: datetime
    booked_at: datetime
    cancelled_at: datetime | None


@dataclass(frozen=True, slots=True)
class KnownAtDesk:
    """All of it. `wrote_at` is when they wrote last, where that is not forgotten yet."""

    wrote_at: datetime | None = None
    reports: tuple[KnownReport, ...] = ()
    appointments: tuple[KnownAppointment, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.wrote_at or self.reports or self.appointments)


async def known_of(session: AsyncSession, authority: str, fingerprints: Sequence[bytes], seal: Seal) -> KnownAtDesk:
    """Of whoever is called so; the newest first."""
    talk, report, booking = tables.Conversation, tables.Report, tables.Booking
    wrote = select(talk.wrote_at).where(talk.authority == authority, talk.fingerprint.in_(fingerprints))
    filed = select(report).where(report.authority == authority, report.fingerprint.in_(fingerprints))
    booked = select(booking).where(booking.authority == authority, booking.fingerprint.in_(fingerprints))
    theirs = (await session.scalars(filed.order_by(report.id.desc()))).all()
    lines, photos = await _of_reports(session, [one.id for one in theirs], seal)
    return KnownAtDesk(
        await session.scalar(wrote.order_by(talk.wrote_at.desc()).limit(1)),
        tuple(
            KnownReport(
                *(one.id, one.category, one.state, reports.street_of(one, seal)),
                *(one.frazione, one.lat, one.lon),
                *(one.opened_at, one.closed_at),
                tuple(lines[one.id, Line.SAID]),
                tuple(lines[one.id, Line.ANSWER]),
                photos.count(one.id),
            )
            for one in theirs
        ),
        tuple(
            KnownAppointment(one.office, one.starts_at, one.booked_at, one.cancelled_at)
            for one in await session.scalars(booked.order_by(booking.starts_at.desc(), booking.id))
        ),
    )


async def _of_reports(
    session: AsyncSession, numbers: Sequence[int], seal: Seal
) -> tuple[dict[tuple[int, Line], list[str]], list[int]]:
    entry, photo = tables.ReportEntry, tables.Photograph
    lines: dict[tuple[int, Line], list[str]] = defaultdict(list)
    for one in await session.scalars(select(entry).where(entry.report.in_(numbers)).order_by(entry.id)):
        if one.sealed is not None:
            lines[one.report, one.kind].append(seal.open(one.sealed))
    kept = select(photo.report).where(photo.report.in_(numbers), photo.state == PhotoState.KEPT)
    return lines, list(await session.scalars(kept))


async def in_short(session: AsyncSession, who: Subscriber, seal: Seal) -> str:
    """What the desk holds of somebody, for their telephone; empty where it holds nothing."""
    desk = who.authority.desk
    if desk is None:
        return ""
    known = await known_of(session, who.authority.code, names_of(who, seal), seal)
    if not known:
        return ""
    said = [f"segnalazione n. {one.number} ({desk.name_of(one.category)})" for one in known.reports[:SHOWN]]
    for one in [one for one in known.appointments if one.cancelled_at is None][:SHOWN]:
        office = desk.office(one.office)
        said.append(f"appuntamento con {office.name if office else one.office}, {in_words(one.starts_at)}")
    left = len(known.reports) - SHOWN
    said += [f"altre {left} segnalazioni"] if left > 1 else ["un'altra segnalazione"] if left == 1 else []
    return filled(desk.texts.known, scelte="; ".join(said) or "il tuo numero, per una settimana")


async def move(session: AsyncSession, who: Subscriber, known_as: Sequence[str], seal: Seal) -> None:
    """They have another number: what they are still to be told goes there."""
    old = [seal.fingerprint(name) for name in known_as]
    there = {"fingerprint": seal.fingerprint(who.address), "sealed": seal.seal(who.address)}
    for table in (tables.Report, tables.Booking, tables.Letter):
        theirs = (table.account == who.access.name, table.fingerprint.in_(old))
        await session.execute(update(table).where(*theirs).values(there))
    talk = tables.Conversation
    await session.execute(delete(talk).where(talk.account == who.access.name, talk.fingerprint.in_(old)))


async def erase(session: AsyncSession, authority: str, fingerprints: Sequence[bytes], by: str, now: datetime) -> None:
    """Take somebody out of everything here: what was reported stays for whoever mends it, and whose it was does not.

    Their appointments to come are cancelled, as nobody knows any more who would come; nothing more is said to them, and
    pictures that were not fetched yet are not.
    """
    report, booking, letter, photo = tables.Report, tables.Booking, tables.Letter, tables.Photograph
    nobody = {"sealed": None, "fingerprint": None}
    coming = select(booking).where(*_of(booking, authority, fingerprints), booking.cancelled_at.is_(None))
    for row in (await session.scalars(coming.where(booking.starts_at > now).with_for_update())).all():
        row.cancelled_at, row.cancelled_by = now, by
        await letters.withdraw(session, row.id, now)
    await session.flush()
    numbers = (await session.scalars(select(report.id).where(*_of(report, authority, fingerprints)))).all()
    unfetched = (photo.report.in_(numbers), photo.state == PhotoState.WAITING)
    await session.execute(update(photo).where(*unfetched).values(state=PhotoState.LOST, provider_id=None))
    await session.execute(update(report).where(report.id.in_(numbers)).values(nobody | {"forgotten_at": now}))
    await session.execute(update(booking).where(*_of(booking, authority, fingerprints)).values(nobody))
    waiting = update(letter).where(*_of(letter, authority, fingerprints), letter.ended_at.is_(None))
    await session.execute(waiting.values(nobody | {"ended_at": now, "said": None}))
    await session.execute(delete(tables.Conversation).where(*_of(tables.Conversation, authority, fingerprints)))


def names_of(who: Subscriber, seal: Seal) -> list[bytes]:
    """The fingerprints of whatever they are called."""
    return [seal.fingerprint(name) for name in (who.address, who.also) if name]


def _of(
    table: type[tables.Report | tables.Booking | tables.Letter | tables.Conversation],
    authority: str,
    fingerprints: Sequence[bytes],
) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return table.authority == authority, table.fingerprint.in_(fingerprints)
