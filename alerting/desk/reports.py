"""Reports on the database: the inbox of a desk. Who reported is sealed, and forgotten some time after it is closed."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from alerting.desk import letters
from alerting.domain.authority import Authority
from alerting.domain.desk import (
    Desk,
    Line,
    NotOpen,
    Reported,
    ReportState,
    advance,
    are_alike,
    filled,
    place_in,
    street_in,
)
from alerting.domain.rendering import ROME
from alerting.persistence import tables
from alerting.sealing import Seal
from alerting.subscribing import Subscriber
from geo.shapes import Point

CLOSED = (ReportState.SOLVED, ReportState.REJECTED)
MOST_ALIKE = 10
MOST_PHOTOS = 10
"""Of one report: what comes after these is not fetched."""
BOOKINGS_KNOWN_FOR = timedelta(days=30)
TALKS_KNOWN_FOR = timedelta(days=7)


# ── what citizens say ───────────────────────────────────────────────────────────────────────────────


async def latest(
    session: AsyncSession, who: Subscriber, seal: Seal
) -> tuple[tables.Report | None, tables.Report | None]:
    """Somebody's newest open report, and the one that waits for them. Locked: the staff may be closing it."""
    report = tables.Report
    theirs = (report.account == who.access.name, report.fingerprint == seal.fingerprint(who.address))
    query = select(report).where(*theirs, report.state.not_in(CLOSED)).order_by(report.id).with_for_update()
    rows = (await session.scalars(query)).all()
    return next(reversed(rows), None), next((row for row in rows if row.state is ReportState.WAITING), None)


async def open_one(
    session: AsyncSession, who: Subscriber, category: str | None, seal: Seal, now: datetime
) -> tables.Report:
    """A new report, of nothing yet."""
    report = tables.Report(
        authority=who.authority.code,
        account=who.access.name,
        fingerprint=seal.fingerprint(who.address),
        sealed=seal.seal(who.address),
        category=category,
        state=ReportState.NEW,
        opened_at=now,
        wrote_at=now,
    )
    session.add(report)
    await session.flush()
    return report


async def add(
    session: AsyncSession,
    report: tables.Report,
    authority: Authority,
    text: str,
    point: Point | None,
    photo: str | None,
    seal: Seal,
    now: datetime,
) -> None:
    """Something more of it: words, where it is, a picture yet to be fetched (`photo` is its provider's name)."""
    report.wrote_at = now
    if report.state is ReportState.WAITING:
        report.state = ReportState.TAKEN  # they have answered
    if text.strip():
        note(session, report, Line.SAID, text, None, seal, now)
    _place(report, authority, text, point, seal)
    if photo is not None:
        of_it = select(func.count()).select_from(tables.Photograph).where(tables.Photograph.report == report.id)
        if (await session.scalar(of_it) or 0) < MOST_PHOTOS:
            picture = tables.Photograph(report=report.id, account=report.account, provider_id=seal.seal(photo), at=now)
            session.add(picture)
    await session.flush()


def _place(report: tables.Report, authority: Authority, text: str, point: Point | None, seal: Seal) -> None:
    """What is known stays: the first street they name is where it is, a position they share is exact."""
    if point is not None:
        report.lat, report.lon = point.lat, point.lon
        around = authority.territory.nameable.of(point)
        if around and around[-1] != authority.territory.comune:
            report.frazione = around[-1].name
    if report.street is None and (street := street_in(text)) is not None:
        report.street = seal.seal(street)
    report.frazione = report.frazione or place_in(text, (area.name for area in authority.territory.frazioni))


def note(
    session: AsyncSession, report: tables.Report, kind: Line, words: str, actor: str | None, seal: Seal, now: datetime
) -> None:
    """A line of the report."""
    session.add(tables.ReportEntry(report=report.id, at=now, kind=kind, actor=actor, sealed=seal.seal(words)))


# ── what the staff does ─────────────────────────────────────────────────────────────────────────────


def reporter(report: tables.Report, authority: Authority, seal: Seal) -> Subscriber | None:
    """Who reported, None once that is forgotten."""
    access = letters.account_of(authority, report.account)
    if access is None or report.sealed is None:
        return None
    return Subscriber(authority, access, seal.open(report.sealed))


def check_open(report: tables.Report) -> None:
    """Raises NotOpen where another report is worked on instead, or none."""
    if report.merged_into is not None:
        raise NotOpen(f"report {report.id} was merged into {report.merged_into}: work on that one")
    if report.state.is_closed:
        raise NotOpen(f"report {report.id} is {report.state}: it is closed, and a closed report stays so")


async def _go(session: AsyncSession, report: tables.Report, to: ReportState) -> None:
    """It, and whatever was merged into it."""
    report.state = advance(report.id, report.state, to)
    await session.execute(
        update(tables.Report).where(tables.Report.merged_into == report.id).values(state=report.state)
    )


async def take(session: AsyncSession, report: tables.Report, actor: str) -> None:
    """Somebody works on it from now on."""
    check_open(report)
    await _go(session, report, ReportState.TAKEN)
    report.assigned_to = actor


async def assign(session: AsyncSession, report: tables.Report, to: str | None) -> None:
    """To a person of the staff, or to nobody."""
    check_open(report)
    report.assigned_to = to
    if to is not None and report.state is ReportState.NEW:
        await _go(session, report, ReportState.TAKEN)


async def answer(
    session: AsyncSession,
    report: tables.Report,
    authority: Authority,
    words: str,
    actor: str,
    seal: Seal,
    now: datetime,
    *,
    asks: bool,
) -> None:
    """Write to whoever reported; where it `asks` something the report waits for them. Raises NotOpen."""
    desk = _desk(authority)
    check_open(report)
    who = reporter(report, authority, seal)
    if who is None:
        raise NotOpen(f"nobody knows any more who made report {report.id}: there is nobody to answer")
    if asks:
        await _go(session, report, ReportState.WAITING)
    elif report.state is ReportState.NEW:
        await _go(session, report, ReportState.TAKEN)
    report.assigned_to = report.assigned_to or actor
    report.answered_at = report.answered_at or now
    note(session, report, Line.ANSWER, words, actor, seal, now)
    said = filled(desk.texts.answer, numero=str(report.id), parole=words)
    await letters.write(session, who, said, seal, now)


async def close(
    session: AsyncSession,
    report: tables.Report,
    authority: Authority,
    to: ReportState,
    words: str,
    actor: str,
    seal: Seal,
    now: datetime,
) -> int:
    """Solved or rejected: everybody who reported it is told, once each. How many. Raises NotOpen."""
    desk = _desk(authority)
    check_open(report)
    advance(report.id, report.state, to)
    merged = select(tables.Report).where(tables.Report.merged_into == report.id).order_by(tables.Report.id)
    everybody: Sequence[tables.Report] = [report, *(await session.scalars(merged)).all()]
    template = desk.texts.solved if to is ReportState.SOLVED else desk.texts.rejected
    told: set[str] = set()
    for one in everybody:
        one.state, one.closed_at, one.answered_at = to, now, one.answered_at or now
        who = reporter(one, authority, seal)
        if who is not None and who.address not in told:
            told.add(who.address)
            await letters.write(session, who, filled(template, numero=str(one.id), parole=words), seal, now)
    note(session, report, Line.ANSWER, words or str(to), actor, seal, now)
    await session.flush()
    return len(told)


async def merge(session: AsyncSession, report: tables.Report, into: tables.Report) -> None:
    """It is the same thing as another: that one is worked on, and whoever reported this is told of its end too."""
    if report.id == into.id:
        raise NotOpen(f"report {report.id} cannot be merged into itself")
    if report.authority != into.authority:
        raise NotOpen(f"report {into.id} is another comune's")
    check_open(report)
    check_open(into)
    await session.execute(
        update(tables.Report)
        .where(tables.Report.merged_into == report.id)
        .values(merged_into=into.id, state=into.state)
    )
    report.merged_into, report.state = into.id, into.state
    await session.flush()


async def alike(session: AsyncSession, report: tables.Report, desk: Desk, seal: Seal) -> list[int]:
    """Open reports that may well be of the same thing."""
    if report.category is None or report.merged_into is not None:
        return []
    within, other = timedelta(days=desk.duplicate_days), tables.Report
    query = (
        select(other)
        .where(other.authority == report.authority, other.category == report.category, other.id != report.id)
        .where(other.opened_at >= report.opened_at - within, other.opened_at <= report.opened_at + within)
        .where(other.state.not_in(CLOSED), other.merged_into.is_(None))
        .order_by(other.id)
    )
    found = (await session.scalars(query)).all()
    mine = _reported(report, seal)
    return [one.id for one in found if are_alike(mine, _reported(one, seal), within)][:MOST_ALIKE]


def street_of(report: tables.Report, seal: Seal) -> str | None:
    return seal.open(report.street) if report.street is not None else None


def _reported(report: tables.Report, seal: Seal) -> Reported:
    point = Point(report.lat, report.lon) if report.lat is not None and report.lon is not None else None
    return Reported(report.id, report.category, report.opened_at, street_of(report, seal), report.frazione, point)


def _desk(authority: Authority) -> Desk:
    if authority.desk is None:
        raise NotOpen(f"{authority.name} has no desk: its file says nothing under [desk]")
    return authority.desk


# ── how much it is used ─────────────────────────────────────────────────────────────────────────────


@dataclass
class Month:
    """The reports that were opened in one month, in Italy. Times are hours, medians; None where there are none."""

    month: str
    category: str | None
    by_state: dict[ReportState, int] = field(default_factory=dict)
    merged: int = 0
    first_answer_hours: float | None = None
    solution_hours: float | None = None

    @property
    def opened(self) -> int:
        return sum(self.by_state.values())


async def statistics(session: AsyncSession, authority: str, since: datetime, until: datetime) -> list[Month]:
    """Month by month and category by category, the oldest first."""
    report = tables.Report
    of_these: tuple[ColumnElement[bool], ...] = (
        report.authority == authority,
        report.opened_at >= since,
        report.opened_at < until,
    )
    columns = (
        *(report.category, report.state, report.merged_into),
        *(report.opened_at, report.answered_at, report.closed_at),
    )
    months: dict[tuple[str, str | None], Month] = {}
    answered: dict[tuple[str, str | None], list[float]] = defaultdict(list)
    solved: dict[tuple[str, str | None], list[float]] = defaultdict(list)
    for category, state, merged, opened_at, answered_at, closed_at in await session.execute(
        select(*columns).where(*of_these)
    ):
        key = (f"{opened_at.astimezone(ROME):%Y-%m}", category)
        month = months.setdefault(key, Month(*key))
        month.by_state[state] = month.by_state.get(state, 0) + 1
        month.merged += merged is not None
        if answered_at is not None:
            answered[key].append((answered_at - opened_at).total_seconds() / 3600)
        if closed_at is not None and state is ReportState.SOLVED:
            solved[key].append((closed_at - opened_at).total_seconds() / 3600)
    for key, month in months.items():
        month.first_answer_hours = round(median(answered[key]), 2) if answered[key] else None
        month.solution_hours = round(median(solved[key]), 2) if solved[key] else None
    return sorted(months.values(), key=lambda month: (month.month, month.category or ""))


# ── forgetting ──────────────────────────────────────────────────────────────────────────────────────


async def forget(session: AsyncSession, authority: Authority, now: datetime) -> int:
    """Who reported what was closed long enough ago, who had an appointment, who has not written for days.

    What was reported and how it ended stays, without anybody's address. How many reports were forgotten.
    """
    if authority.desk is None:
        return 0
    report, booking, talk = tables.Report, tables.Booking, tables.Conversation
    old = (
        report.authority == authority.code,
        report.closed_at < now - timedelta(days=authority.desk.retention_days),
        report.forgotten_at.is_(None),
    )
    numbers = (await session.scalars(select(report.id).where(*old))).all()
    if numbers:
        of_these = report.id.in_(numbers)
        await session.execute(update(report).where(of_these).values(sealed=None, fingerprint=None, forgotten_at=now))
        photographs = tables.Photograph.report.in_(numbers)
        await session.execute(update(tables.Photograph).where(photographs).values(provider_id=None))
    over = (booking.authority == authority.code, booking.starts_at < now - BOOKINGS_KNOWN_FOR)
    await session.execute(
        update(booking).where(*over, booking.sealed.is_not(None)).values(sealed=None, fingerprint=None)
    )
    await letters.forget(session, authority.code, now)
    silent = (talk.authority == authority.code, talk.wrote_at < now - TALKS_KNOWN_FOR)
    for row in (await session.scalars(select(talk).where(*silent).limit(1000))).all():
        await session.delete(row)
    return len(numbers)
