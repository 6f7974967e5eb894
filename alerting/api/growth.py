"""How a comune's service grows and what it costs: figures, and the month as a page to print and as a CSV."""

from datetime import UTC, date, datetime
from enum import Enum
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from alerting import growth as growing
from alerting import monthly, monthly_page
from alerting.actors import Actor
from alerting.api.parts import Parts, parts_of
from alerting.api.problems import refusal
from alerting.api.routes import Guarded
from alerting.api.schemas import SEES_NO_PERSON, GrowthOut, GrowthPlace, GrowthSpan, shown
from alerting.api.security import Doing, authority_for, may
from alerting.composing import Objection
from alerting.growth import Span
from alerting.monthly import Report, Sight

router = APIRouter(prefix="/authorities/{authority}", tags=["growth"], route_class=Guarded)

MOST_MONTHS, MOST_DAYS = 60, 366
FIRST_MONTHS = 12
MONTH = r"^20[0-9]{2}-(0[1-9]|1[0-2])$"
EARLIEST, LATEST = date(2000, 1, 1), date(2099, 12, 31)

NO_ADDRESSES = "default-src 'none'; style-src 'unsafe-inline'"
"""The page asks nobody for anything, wherever it is opened."""


class By(Enum):
    """How long a span is."""

    MONTH = "month"
    DAY = "day"


@router.get("/growth", summary="Subscribers over time, texts and euro")
async def growth(
    authority: str,
    begins: Annotated[date | None, Query(alias="from", description="A day; without it eleven months back.")] = None,
    ends: Annotated[date | None, Query(alias="to", description="The last day; without it today.")] = None,
    by: Annotated[By, Query(description="Whole months, or days. They are those of Rome.")] = By.MONTH,
    parts: Parts = Depends(parts_of),
    actor: Actor = Depends(may(Doing.READ)),
) -> GrowthOut:
    """Exercises and public channels are not counted as people. Who may see no person sees tens, in the euro too."""
    whose = authority_for(actor, authority, parts.authorities)
    today = growing.day_in_rome(datetime.now(UTC))
    spans = _spans(begins, ends or today, by)
    async with parts.database.read() as session:
        found = await growing.measure(session, whose, spans, today)
    sight = Sight(actor.role not in SEES_NO_PERSON)
    items = []
    for moved, said in zip(found.moved, found.said, strict=True):
        total = monthly.sums(said, found.prices, sight)
        items.append(
            GrowthSpan(
                span=moved.span.name if by is By.MONTH else moved.span.begins.isoformat(),
                joined=shown(moved.joined.total(), actor.role),
                left=shown(moved.left.total(), actor.role),
                subscribed=shown(moved.subscribed.total(), actor.role),
                subscribed_by_channel={
                    str(channel): shown(count, actor.role)
                    for channel, count in sorted(moved.subscribed.items(), key=str)
                },
                alerts=len(said.alerts),
                texts={
                    str(channel): shown(count, actor.role) for channel, count in sorted(said.texts.items(), key=str)
                },
                answers=shown(said.answers.total(), actor.role),
                euro=None if total.cost.unknown else round(total.cost.euro, 4),
                euro_as_sms=None if total.as_sms is None else round(total.as_sms, 4),
            )
        )
    return GrowthOut(
        authority=whose.code,
        items=items,
        places=[
            GrowthPlace(
                code=one.code,
                name=one.name,
                people=shown(one.people, actor.role),
                before=None if one.before is None else shown(one.before, actor.role),
            )
            for one in found.lives
        ],
        rounded=not sight.exact,
    )


@router.get(
    "/report",
    summary="A month as a page to print",
    response_class=Response,
    responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}},
)
async def report(
    authority: str,
    month: Annotated[str | None, Query(pattern=MONTH, description="2026-11; without it the one before this.")] = None,
    parts: Parts = Depends(parts_of),
    actor: Actor = Depends(may(Doing.READ)),
) -> Response:
    """In Italian, with the eleven months before it. It needs nothing from anywhere, and prints on A4."""
    found = await _month(authority, month, parts, actor)
    headers = {"Content-Security-Policy": NO_ADDRESSES, "Cache-Control": "private, no-store"}
    return Response(monthly_page.page(found), media_type="text/html; charset=utf-8", headers=headers)


@router.get(
    "/report.csv",
    summary="Twelve months as a CSV",
    response_class=Response,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
)
async def report_csv(
    authority: str,
    month: Annotated[str | None, Query(pattern=MONTH, description="The last of them; without it as `report`.")] = None,
    parts: Parts = Depends(parts_of),
    actor: Actor = Depends(may(Doing.READ)),
) -> Response:
    """As an Italian spreadsheet opens it: ; between cells, a comma in numbers."""
    found = await _month(authority, month, parts, actor)
    name = f"avvisi-{found.authority.code}-{found.month.name}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "private, no-store"}
    return Response(monthly.rows(found), media_type="text/csv; charset=utf-8", headers=headers)


async def _month(authority: str, month: str | None, parts: Parts, actor: Actor) -> Report:
    whose = authority_for(actor, authority, parts.authorities)
    today = growing.day_in_rome(datetime.now(UTC))
    span = monthly.month_named(month, today)
    async with parts.database.read() as session:
        return await monthly.read(session, whose, span, today, exact=actor.role not in SEES_NO_PERSON)


def _spans(begins: date | None, ends: date, by: By) -> list[Span]:
    first = begins or monthly.months_before(ends, FIRST_MONTHS - 1)
    if not EARLIEST <= first <= ends <= LATEST:
        raise refusal([Objection("from", "comes after `to`, or lies outside this century: exchange or correct them")])
    most, length = (MOST_MONTHS, "months") if by is By.MONTH else (MOST_DAYS, "days")
    count = (ends.year - first.year) * 12 + ends.month - first.month + 1 if by is By.MONTH else (ends - first).days + 1
    if count > most:
        raise refusal([Objection("from", f"asks for {count} {length}, and {most} are told at once: ask for fewer")])
    if by is By.MONTH:
        return growing.months(first, ends)
    return growing.days(Span(first, date.fromordinal(ends.toordinal() + 1)))
