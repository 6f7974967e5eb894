"""Somebody on duty must look: one page for each thing, open until a person says they have seen it."""

from datetime import datetime

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import audit, metrics
from alerting.persistence import tables

log = structlog.get_logger()

LONGEST = 500


class NoSuchPage(Exception):
    """There is no page of this number."""


async def call(session: AsyncSession, about: str, sentence: str, now: datetime, authority: str | None = None) -> None:
    """Somebody of the authority, or of all, is to look at `about`. A page that is open already says the newest.

    They are called anew for that: it may be graver than what nobody answered for two hours.
    """
    page = await _open(session, about)
    if page is None:
        session.add(tables.Page(authority=authority, about=about, sentence=sentence[:LONGEST], at=now))
        metrics.PAGES.inc()
        log.warning("somebody must look", about=about)
    elif page.sentence != sentence[:LONGEST]:
        page.sentence, page.called, page.called_at = sentence[:LONGEST], 0, 0.0


async def move(session: AsyncSession, about: str, to: str) -> bool:
    """What was to be looked at has been replaced by something no graver: whether it had a page, seen or not."""
    pages = (await session.scalars(select(tables.Page).where(tables.Page.about == about))).all()
    for page in pages:
        page.about = to
    return bool(pages)


async def close(session: AsyncSession, about: str, who: str, now: datetime) -> None:
    """Nobody need look any more: it was settled, or it has ended."""
    if page := await _open(session, about):
        page.acknowledged_at, page.acknowledged_by = now, who


async def acknowledge(session: AsyncSession, number: int, who: str, now: datetime) -> tables.Page:
    """Somebody has seen it. The first who said so stays. Raises NoSuchPage."""
    page = await session.get(tables.Page, number, with_for_update=True)
    if page is None:
        raise NoSuchPage(f"there is no page {number}: GET /v1/pages lists them")
    if page.acknowledged_at is None:
        page.acknowledged_at, page.acknowledged_by = now, who
        await audit.write(session, at=now, actor=who, action="acknowledge page", subject=page.about, page=page.id)
    return page


async def _open(session: AsyncSession, about: str) -> tables.Page | None:
    query = select(tables.Page).where(tables.Page.about == about, tables.Page.acknowledged_at.is_(None))
    return (await session.scalars(query.limit(1))).one_or_none()
