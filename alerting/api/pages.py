"""What somebody on duty is to look at, and who said they have."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from sqlalchemy import select

from alerting import paging, wire
from alerting.actors import Actor
from alerting.api.parts import Parts, parts_of
from alerting.api.problems import Problem
from alerting.api.routes import Guarded
from alerting.api.schemas import PageList, PageOut
from alerting.api.security import Doing, may, within
from alerting.paging import NoSuchPage
from alerting.persistence.tables import Page

router = APIRouter(prefix="/pages", tags=["pages"], route_class=Guarded)


@router.get("", summary="List pages, the newest first")
async def list_pages(
    is_open: Annotated[bool, Query(alias="open", description="Only those nobody has acknowledged.")] = False,
    cursor: Annotated[int | None, Query(ge=1, le=wire.BIGGEST_ID)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    parts: Parts = Depends(parts_of),
    actor: Actor = Depends(may(Doing.WATCH)),
) -> PageList:
    """Those of your authority and those that are everybody's. Page by page: give `next_cursor` back as `cursor`."""
    query = select(Page).order_by(Page.id.desc())
    if actor.authority is not None:
        query = query.where(Page.authority.is_(None) | (Page.authority == actor.authority))
    if is_open:
        query = query.where(Page.acknowledged_at.is_(None))
    if cursor is not None:
        query = query.where(Page.id < cursor)
    async with parts.database.read() as session:
        rows = (await session.scalars(query.limit(limit + 1))).all()
    some = rows[:limit]
    return PageList(items=[_out(row) for row in some], next_cursor=some[-1].id if len(rows) > limit else None)


@router.post("/{number}/acknowledge", summary="Say that you have seen it")
async def acknowledge(
    number: Annotated[int, Path(ge=1, le=wire.BIGGEST_ID)],
    parts: Parts = Depends(parts_of),
    actor: Actor = Depends(may(Doing.ANSWER)),
) -> PageOut:
    """Nobody is called about it again. The first who says so stays; whoever says so too is told who that was."""
    async with parts.database.write() as session:
        try:
            row = await paging.acknowledge(session, number, actor.name, datetime.now(UTC))
        except NoSuchPage as error:
            raise Problem(404, str(error)) from None
        if row.authority is not None:
            within(actor, row.authority)  # whoever may not has done nothing: the transaction ends here
    return _out(row)


def _out(row: Page) -> PageOut:
    return PageOut(
        number=row.id,
        authority=row.authority,
        about=row.about,
        sentence=row.sentence,
        at=row.at,
        called=row.called,
        called_at=datetime.fromtimestamp(row.called_at, UTC) if row.called_at else None,
        acknowledged_at=row.acknowledged_at,
        acknowledged_by=row.acknowledged_by,
    )
