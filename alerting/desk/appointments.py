"""Appointments on the database: a seat is a row that only one person can have, whoever asks at the same moment."""

from collections import Counter
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from alerting.desk import letters
from alerting.domain import appointments as domain
from alerting.domain.appointments import Office, in_words, is_a_slot, remind_at
from alerting.domain.authority import Authority
from alerting.domain.desk import Desk, filled
from alerting.domain.rendering import ROME
from alerting.persistence import dialects, tables
from alerting.sealing import Seal
from alerting.subscribing import Subscriber

BEFORE = timedelta(hours=1)
"""Until when a reminder is of use."""
AT_THE_TOWN_HALL = "in Comune"


class NoSeat(Exception):
    """Nobody can be received then: in words for the staff."""


async def offered(
    session: AsyncSession, authority: Authority, office: Office, now: datetime, after: datetime | None = None
) -> tuple[datetime, ...]:
    """The next free slots of an office."""
    return domain.free(office, await taken(session, authority.code, office.code, now), now, after=after)


async def taken(session: AsyncSession, authority: str, office: str, now: datetime) -> Counter[datetime]:
    """How many people each slot to come has."""
    booking = tables.Booking
    query = (
        select(booking.starts_at, func.count())
        .where(booking.authority == authority, booking.office == office)
        .where(booking.starts_at > now, booking.cancelled_at.is_(None))
        .group_by(booking.starts_at)
    )
    return Counter(dict((await session.execute(query)).all()))


async def book(
    session: AsyncSession, who: Subscriber, office: Office, at: datetime, seal: Seal, now: datetime
) -> tables.Booking | None:
    """The booking, with its reminder; None where the slot is over, is none, or others have all its seats."""
    if who.authority.desk is None or not is_a_slot(office, at, now):
        return None
    booking = await _seat(session, who, office, at, seal, now)
    if booking is not None:
        await _remind(session, who, office, booking, seal, now)
    return booking


async def _seat(
    session: AsyncSession, who: Subscriber, office: Office, at: datetime, seal: Seal, now: datetime
) -> tables.Booking | None:
    for seat in range(office.capacity):
        row = {
            "authority": who.authority.code,
            "office": office.code,
            "starts_at": at,
            "seat": seat,
            "account": who.access.name,
            "fingerprint": seal.fingerprint(who.address),
            "sealed": seal.seal(who.address),
            "booked_at": now,
        }
        # The index decides: of two at once one waits for the other's commit, and then finds the seat taken.
        added = dialects.insert_new(session, tables.Booking).values(row).returning(tables.Booking.id)
        if (number := await session.scalar(added)) is not None:
            return await session.get_one(tables.Booking, number)
    return None


async def _remind(
    session: AsyncSession, who: Subscriber, office: Office, booking: tables.Booking, seal: Seal, now: datetime
) -> None:
    desk = who.authority.desk
    due_at = remind_at(booking.starts_at, now, desk.reminder_at) if desk else None
    if desk is not None and due_at is not None:
        words = said_of(desk.texts.reminder, office, booking.starts_at)
        not_after = booking.starts_at - BEFORE
        await letters.write(session, who, words, seal, now, due_at=due_at, not_after=not_after, booking=booking.id)


def said_of(template: str, office: Office, at: datetime, words: str = "") -> str:
    """One of the desk's texts about an appointment."""
    where = office.where or AT_THE_TOWN_HALL
    return filled(template, ufficio=office.name, quando=in_words(at), dove=where, parole=words)


async def coming(session: AsyncSession, who: Subscriber, seal: Seal, now: datetime) -> list[tables.Booking]:
    """Somebody's appointments to come, the next first. Locked: the staff may be moving one."""
    booking = tables.Booking
    theirs = (booking.account == who.access.name, booking.fingerprint == seal.fingerprint(who.address))
    query = select(booking).where(*theirs, booking.starts_at > now, booking.cancelled_at.is_(None))
    query = query.order_by(booking.starts_at, booking.id).with_for_update()
    return list((await session.scalars(query)).all())


async def statistics(
    session: AsyncSession, authority: str, since: datetime, until: datetime
) -> list[tuple[str, str, int, int]]:
    """Month by month, by when they were made: the office, how many appointments, and how many of them cancelled."""
    booking = tables.Booking
    query = select(booking.office, booking.booked_at, booking.cancelled_at).where(
        booking.authority == authority, booking.booked_at >= since, booking.booked_at < until
    )
    made, dropped = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for office, booked_at, cancelled_at in await session.execute(query):
        key = (f"{booked_at.astimezone(ROME):%Y-%m}", office)
        made[key] += 1
        dropped[key] += cancelled_at is not None
    return [(*key, made[key], dropped[key]) for key in sorted(made)]


async def cancel(session: AsyncSession, booking: tables.Booking, by: str | None, now: datetime) -> None:
    """Free its seat, and remind nobody. `by` is somebody of the staff; None for the citizen."""
    booking.cancelled_at, booking.cancelled_by = now, by
    await letters.withdraw(session, booking.id, now)
    await session.flush()


async def cancel_by_staff(
    session: AsyncSession, booking: tables.Booking, authority: Authority, words: str, by: str, seal: Seal, now: datetime
) -> None:
    """The same, and the citizen is told why. Raises NoSeat where there is nothing to cancel."""
    desk, office, who = _whole(booking, authority, seal, now)
    await cancel(session, booking, by, now)
    if who is not None:
        said = said_of(desk.texts.cancelled_by_us, office, booking.starts_at, words)
        await letters.write(session, who, said, seal, now, not_after=booking.starts_at)


async def move(
    session: AsyncSession,
    booking: tables.Booking,
    authority: Authority,
    to: datetime,
    by: str,
    seal: Seal,
    now: datetime,
) -> tables.Booking:
    """Another time for the same person, who is told. Raises NoSeat, and then nothing has changed."""
    desk, office, who = _whole(booking, authority, seal, now)
    if who is None:
        raise NoSeat(f"nobody knows any more whose booking {booking.id} was")
    moved = await book(session, who, office, to, seal, now)
    if moved is None:
        raise NoSeat(f"{office.name} has no free seat at {to.isoformat()}: GET /v1/desk/offices says which it has")
    await cancel(session, booking, by, now)
    await letters.write(session, who, said_of(desk.texts.moved, office, to), seal, now, not_after=to)
    return moved


def _whole(
    booking: tables.Booking, authority: Authority, seal: Seal, now: datetime
) -> tuple[Desk, Office, Subscriber | None]:
    desk = authority.desk
    office = desk.office(booking.office) if desk else None
    if desk is None or office is None:
        raise NoSeat(f"{authority.name} has no office {booking.office} any more")
    if booking.cancelled_at is not None:
        raise NoSeat(f"booking {booking.id} is cancelled already")
    if booking.starts_at <= now:
        raise NoSeat(f"booking {booking.id} is over: what has begun is neither moved nor cancelled")
    access = letters.account_of(authority, booking.account)
    who = Subscriber(authority, access, seal.open(booking.sealed)) if access and booking.sealed else None
    return desk, office, who
