"""What is or was amiss with the system, and whether the staff were told."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from sqlalchemy import select

from alerting import wire
from alerting.actors import Actor
from alerting.api.parts import Parts, parts_of
from alerting.api.routes import Guarded
from alerting.api.schemas import NoticeList, NoticeOut, TellingOut
from alerting.api.security import Doing, may
from alerting.persistence.tables import Notice, Telling

router = APIRouter(prefix="/notices", tags=["notices"], route_class=Guarded)


@router.get("", summary="List notices to the staff, the newest first")
async def list_notices(
    is_open: Annotated[bool, Query(alias="open", description="Only of what is amiss now.")] = False,
    cursor: Annotated[int | None, Query(ge=1, le=wire.BIGGEST_ID)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    parts: Parts = Depends(parts_of),
    actor: Actor = Depends(may(Doing.WATCH)),
) -> NoticeList:
    """Those of your authority and those that are everybody's, each with who of your staff and of everybody's was told.

    Page by page: give `next_cursor` back as `cursor`.
    """
    query = select(Notice).order_by(Notice.id.desc())
    if actor.authority is not None:
        query = query.where(Notice.authority.is_(None) | (Notice.authority == actor.authority))
    if is_open:
        query = query.where(Notice.over_at.is_(None))
    if cursor is not None:
        query = query.where(Notice.id < cursor)
    async with parts.database.read() as session:
        rows = (await session.scalars(query.limit(limit + 1))).all()
        some = rows[:limit]
        of_these = select(Telling).where(Telling.notice.in_([row.id for row in some]))
        tellings = (await session.scalars(of_these.order_by(Telling.staff, Telling.is_over))).all()
    told: dict[int, list[TellingOut]] = {row.id: [] for row in some}
    for telling in tellings:
        if _is_shown(telling.staff, actor.authority):
            told[telling.notice].append(_told(telling))
    return NoticeList(
        items=[_out(row, told[row.id]) for row in some], next_cursor=some[-1].id if len(rows) > limit else None
    )


def _is_shown(account: str, authority: str | None) -> bool:
    """Whom another comune has among its staff is its own affair."""
    of_everybody = account.count(".") == 1
    return authority is None or of_everybody or account.startswith(f"staff.{authority}.")


def _told(telling: Telling) -> TellingOut:
    return TellingOut(
        staff=telling.staff,
        said="over" if telling.is_over else "began",
        attempts=telling.attempts,
        last=telling.last,
        ended=telling.ended,
        ended_at=telling.ended_at,
    )


def _out(row: Notice, told: list[TellingOut]) -> NoticeOut:
    return NoticeOut(
        number=row.id,
        matter=row.matter,
        about=row.about,
        authority=row.authority,
        sentence=row.sentence,
        urgent=row.urgent,
        began_at=row.began_at,
        over_at=row.over_at,
        told=told,
    )
