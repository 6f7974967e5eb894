"""Pictures and documents of alerts: kept once, by the hash of their bytes, until no alert shows them any more."""

import hashlib
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import ColumnElement, CursorResult, Select, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import audit
from alerting.actors import Actor
from alerting.domain.attachments import Enclosure, Prepared, address_of
from alerting.persistence import dialects, tables

KEPT_UNUSED = timedelta(hours=24)
"""Whoever has sent a picture writes the alert it belongs to within a day."""
AT_ONCE = 20
"""So many are forgotten in one transaction: each may have 16 MB."""


async def keep(session: AsyncSession, prepared: Prepared, actor: Actor, now: datetime) -> None:
    """Store an attachment, once however often it comes, and note who brought it."""
    if not await take_up(session, prepared.sha256, now):
        row = {
            "sha256": prepared.sha256,
            "media_type": prepared.media_type,
            "content": prepared.content,
            "width": prepared.width,
            "height": prepared.height,
            "stored_at": now,
        }
        await session.execute(dialects.insert_new(session, tables.Attachment).values(row))
    size = len(prepared.content)
    await audit.write(session, at=now, actor=actor.name, action="attach", subject=prepared.sha256, bytes=size)


async def take_up(session: AsyncSession, sha256: str, now: datetime) -> bool:
    """Whether it is here; then it stays for another day at least.

    That is the lock as well: whoever forgets unused ones waits for this transaction, and sees that it is young again.
    """
    of_it = update(tables.Attachment).where(tables.Attachment.sha256 == sha256).values(stored_at=now)
    return cast("CursorResult[Any]", await session.execute(of_it)).rowcount > 0


async def enclosure(session: AsyncSession, sha256: str, says: str, public_url: str) -> Enclosure | None:
    """What an alert would show; None where there is no such attachment. Its bytes are not read."""
    row = tables.Attachment
    query = select(row.media_type, func.length(row.content)).where(row.sha256 == sha256)
    found = (await session.execute(query)).one_or_none()
    return Enclosure(address_of(public_url, sha256), found[0], found[1], says) if found else None


async def sha1_of(session: AsyncSession, sha256: str) -> str:
    """What CAP wants to have of its bytes."""
    row = await session.get_one(tables.Attachment, sha256)
    return hashlib.sha1(row.content, usedforsecurity=False).hexdigest()


async def is_published(session: AsyncSession, sha256: str) -> bool:
    """Whether an alert that was issued shows it: then anybody may see it, also when that is over."""
    query = select(tables.Alert.identifier).where(tables.Alert.enclosure == sha256, tables.Alert.issued_at.is_not(None))
    return await session.scalar(query.limit(1)) is not None


async def published_as(session: AsyncSession, beginning: str) -> str | None:
    """The whole name of one that an issued alert shows, by the digits it begins with."""
    alert = tables.Alert
    query = select(alert.enclosure).where(
        alert.enclosure.between(beginning, beginning.ljust(64, "f")), alert.issued_at.is_not(None)
    )
    return await session.scalar(query.order_by(alert.enclosure).limit(1))


async def forget_unused(session: AsyncSession, now: datetime) -> int:
    """Delete what no alert refers to since a day, some at a time. How many they were."""
    row = tables.Attachment
    some = (await session.scalars(unused(now).limit(AT_ONCE))).all()
    if not some:
        return 0
    # Asked again of each row by the statement that deletes it: who waited for a draft to end sees it is no longer old.
    gone = await session.execute(delete(row).where(row.sha256.in_(some), *_is_unused(now)))
    return cast("CursorResult[Any]", gone).rowcount


def unused(now: datetime) -> Select[Any]:
    """The names of those that no alert refers to since a day."""
    return select(tables.Attachment.sha256).where(*_is_unused(now))


def _is_unused(now: datetime) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    row, alert = tables.Attachment, tables.Alert
    is_shown = select(alert.identifier).where(alert.enclosure == row.sha256).exists()
    return row.stored_at < now - KEPT_UNUSED, ~is_shown
