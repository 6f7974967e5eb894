"""The desk of a two-way comune, for its staff: whose it is, and how much it is used."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Query

from alerting import wire
from alerting.actors import Actor
from alerting.api.desk_schemas import BookingsOut, DeskFigures, MonthOut
from alerting.api.parts import Parts, parts_of
from alerting.api.problems import Problem
from alerting.api.routes import Guarded
from alerting.api.security import Doing, authority_for, may
from alerting.desk import appointments, reports
from alerting.domain.authority import Authority
from alerting.domain.desk import Desk
from alerting.domain.rendering import ROME

router = APIRouter(prefix="/desk", tags=["desk"], route_class=Guarded)

FIRST_MONTHS = 12
"""Months of figures where nobody asks for others."""
Number = Annotated[int, Query(ge=1, le=wire.BIGGEST_ID)]


@dataclass(frozen=True, slots=True)
class At:
    """A desk somebody may work at."""

    authority: Authority
    desk: Desk


def at_desk(actor: Actor, asked: str | None, parts: Parts) -> At:
    """The desk of the comune that is asked for, or of the actor's own. Raises a 409 Problem where it has none."""
    authority = authority_for(actor, asked, parts.authorities)
    if authority.desk is None:
        raise Problem(409, f"{authority.name} has no desk: write [desk] into its file, as in santa-fiora.toml")
    return At(authority, authority.desk)


@router.get("/statistics", summary="Count reports and appointments, month by month")
async def statistics(
    authority: str | None = None,
    months: Annotated[int, Query(ge=1, le=120)] = FIRST_MONTHS,
    parts: Parts = Depends(parts_of),
    actor: Actor = Depends(may(Doing.DESK)),
) -> DeskFigures:
    """By category and state, with the median time to the first answer and to the solution. This month is the last."""
    at = at_desk(actor, authority, parts)
    here = datetime.now(ROME)
    index = here.year * 12 + here.month - 1
    since = datetime((index - months + 1) // 12, (index - months + 1) % 12 + 1, 1, tzinfo=ROME)
    async with parts.database.read() as session:
        until = here + timedelta(days=1)
        found = await reports.statistics(session, at.authority.code, since, until)
        booked = await appointments.statistics(session, at.authority.code, since, until)
    return DeskFigures(
        authority=at.authority.code,
        months=[
            MonthOut(
                month=one.month,
                category=one.category,
                category_name=at.desk.name_of(one.category),
                opened=one.opened,
                by_state={
                    str(state): number for state, number in sorted(one.by_state.items(), key=lambda s: str(s[0]))
                },
                merged=one.merged,
                first_answer_hours=one.first_answer_hours,
                solution_hours=one.solution_hours,
            )
            for one in found
        ],
        appointments=[
            BookingsOut(month=month, office=office, booked=made, cancelled=dropped)
            for month, office, made, dropped in booked
        ],
    )
