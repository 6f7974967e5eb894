"""Message panels and sirens: what each should show, what it says it shows, and whether it is there."""

from fastapi import APIRouter, Depends
from sqlalchemy import select

from alerting.actors import Actor
from alerting.api.parts import Parts, parts_of
from alerting.api.routes import Guarded
from alerting.api.schemas import PanelList, PanelOut, ShowingOut
from alerting.api.security import Doing, may
from alerting.persistence import tables

router = APIRouter(prefix="/panels", tags=["panels"], route_class=Guarded)


@router.get("", summary="List panels and sirens")
async def list_panels(
    parts: Parts = Depends(parts_of),
    actor: Actor = Depends(may(Doing.WATCH)),
) -> PanelList:
    """Those of your authority, or of all of them. `is_right` is false while a panel shows something else than it
    should, or does not say what it shows."""
    panel = tables.Panel
    query = (
        select(panel, tables.Recipient.live)
        .join(tables.Recipient, tables.Recipient.id == panel.recipient_id)
        .where(tables.Recipient.left_at.is_(None))
        .order_by(panel.authority, panel.kind, panel.name)
    )
    if actor.authority is not None:
        query = query.where(panel.authority == actor.authority)
    async with parts.database.read() as session:
        rows = (await session.execute(query)).all()
    return PanelList(items=[_out(row, live=live) for row, live in rows])


def _out(row: tables.Panel, *, live: bool) -> PanelOut:
    return PanelOut(
        id=row.name,
        authority=row.authority,
        account=row.account,
        topic=row.topic,
        kind=row.kind,
        exercise=not live,
        lines=row.lines,
        columns=row.columns,
        should_show=ShowingOut(
            version=row.version,
            state=row.state,
            alert=row.shown.get("alert") or None,
            lines=row.shown.get("lines", []),
            since=row.since,
            expires=row.expires,
        ),
        acknowledged=row.acknowledged or None,
        acknowledged_state=row.acknowledged_state,
        acknowledged_at=row.acknowledged_at,
        is_right=row.version == 0 or (row.acknowledged, row.acknowledged_state) == (row.version, row.state),
        online=row.online,
        missing_since=row.missing_since,
    )
