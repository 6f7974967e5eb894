"""Appointments at the offices of a two-way comune, for their staff."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import audit, wire
from alerting.actors import Actor
from alerting.api.desk import At, Number, at_desk
from alerting.api.desk_schemas import BookingOut, BookingPage, CancelIn, MoveIn, OfficeList, OfficeOut
from alerting.api.parts import Parts, parts_of
from alerting.api.problems import Problem, refusal
from alerting.api.routes import Guarded
from alerting.api.security import Doing, may, within
from alerting.composing import Objection
from alerting.desk import appointments
from alerting.domain.appointments import free as free_slots
from alerting.domain.recipients import mask
from alerting.domain.rendering import ROME
from alerting.persistence import tables

router = APIRouter(prefix="/desk", tags=["desk"], route_class=Guarded)

FREE_SHOWN = 10


@router.get("/offices", summary="List the offices that receive by appointment")
async def list_offices(
    authority: str | None = None, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.DESK))
) -> OfficeList:
    """With the next slots that somebody can still have."""
    at, now = at_desk(actor, authority, parts), datetime.now(UTC)
    found = []
    async with parts.database.read() as session:
        for office in at.desk.offices:
            taken = await appointments.taken(session, at.authority.code, office.code, now)
            free = free_slots(office, taken, now, FREE_SHOWN)
            found.append(
                OfficeOut(
                    code=office.code,
                    name=office.name,
                    where=office.where,
                    minutes=office.minutes,
                    capacity=office.capacity,
                    free=list(free),
                )
            )
    return OfficeList(items=found)


@router.get("/bookings", summary="List appointments, the earliest first")
async def list_bookings(
    authority: str | None = None,
    office: str | None = None,
    day: date | None = None,
    cancelled: bool = False,
    cursor: Number | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    parts: Parts = Depends(parts_of),
    actor: Actor = Depends(may(Doing.DESK)),
) -> BookingPage:
    """Of one `day`, in Italy, or from now on. Page by page: give `next_cursor` back as `cursor`."""
    at, booking = at_desk(actor, authority, parts), tables.Booking
    query = select(booking).where(booking.authority == at.authority.code)
    if day is None:
        query = query.where(booking.starts_at >= datetime.now(UTC))
    elif not 2000 <= day.year < 2100:
        raise refusal([Objection("day", f"is in the year {day.year}: check the date")])
    else:
        begins = datetime.combine(day, time(), ROME)
        ends = datetime.combine(day + timedelta(days=1), time(), ROME)
        query = query.where(booking.starts_at >= begins, booking.starts_at < ends)
    if office is not None:
        query = query.where(booking.office == office)
    if not cancelled:
        query = query.where(booking.cancelled_at.is_(None))
    async with parts.database.read() as session:
        if cursor is not None and (last := await session.get(booking, cursor)) is not None:
            query = query.where(tuple_(booking.starts_at, booking.id) > (last.starts_at, last.id))
        rows = (await session.scalars(query.order_by(booking.starts_at, booking.id).limit(limit + 1))).all()
    some = rows[:limit]
    return BookingPage(
        items=[_booking(row, parts) for row in some], next_cursor=some[-1].id if len(rows) > limit else None
    )


@router.post("/bookings/{number}/move", summary="Move an appointment")
async def move(
    number: int, said: MoveIn, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.DESK))
) -> BookingOut:
    """To a slot that is free. The citizen is told; the answer is the new booking."""
    async with parts.database.write() as session:
        row, at = await _of_staff(session, number, parts, actor)
        now = datetime.now(UTC)
        moved = await appointments.move(session, row, at.authority, said.to, actor.name, parts.seal, now)
        subject, details = row.authority, {"booking": row.id, "now": moved.id}
        await audit.write(session, at=now, actor=actor.name, action="move booking", subject=subject, **details)
    return _booking(moved, parts)


@router.post("/bookings/{number}/cancel", summary="Cancel an appointment")
async def cancel(
    number: int, said: CancelIn, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.DESK))
) -> BookingOut:
    """The citizen is told, with your words."""
    async with parts.database.write() as session:
        row, at = await _of_staff(session, number, parts, actor)
        now = datetime.now(UTC)
        await appointments.cancel_by_staff(session, row, at.authority, said.words, actor.name, parts.seal, now)
        subject = row.authority
        await audit.write(session, at=now, actor=actor.name, action="cancel booking", subject=subject, booking=row.id)
    return _booking(row, parts)


async def _of_staff(session: AsyncSession, number: int, parts: Parts, actor: Actor) -> tuple[tables.Booking, At]:
    row = None
    if 0 < number <= wire.BIGGEST_ID:
        row = await session.get(tables.Booking, number, with_for_update=True)
    if row is None:
        raise Problem(404, f"there is no booking {number}: GET /v1/desk/bookings lists them")
    within(actor, row.authority)
    return row, at_desk(actor, row.authority, parts)


def _booking(row: tables.Booking, parts: Parts) -> BookingOut:
    return BookingOut(
        number=row.id,
        office=row.office,
        starts_at=row.starts_at,
        seat=row.seat,
        address=mask(parts.seal.open(row.sealed)) if row.sealed else None,
        booked_at=row.booked_at,
        cancelled_at=row.cancelled_at,
        cancelled_by=row.cancelled_by,
    )
