"""Who did what: append-only, each entry carrying the hash of the one before, so that a missing one shows."""

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from alerting.persistence import dialects
from alerting.persistence.tables import AuditEntry

BEGINNING = "0" * 64
LOCK = 7205760


async def write(session: AsyncSession, *, at: datetime, actor: str, action: str, subject: str, **details: Any) -> None:
    """Add an entry to the chain, in the caller's transaction. Details never hold a person's data or a text."""
    if dialects.is_postgresql(session):
        # One writer at a time: two entries must not follow the same one. Held until the commit.
        await session.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
    last = await session.scalar(select(AuditEntry.hash).order_by(AuditEntry.number.desc()).limit(1))
    previous = last or BEGINNING
    entry = AuditEntry(at=at, actor=actor, action=action, subject=subject[:200], details=details, previous=previous)
    entry.hash = hash_of(entry)
    session.add(entry)
    await session.flush()


def hash_of(entry: AuditEntry) -> str:
    """SHA-256 over the entry and the hash before it."""
    moment = entry.at.astimezone(UTC).isoformat()
    told = [entry.previous, moment, entry.actor, entry.action, entry.subject, entry.details]
    return hashlib.sha256(json.dumps(told, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


async def first_break(session: AsyncSession) -> int | None:
    """The number of the first entry that does not follow from the one before; None when the chain is whole."""
    previous = BEGINNING
    entries = await session.stream_scalars(select(AuditEntry).order_by(AuditEntry.number))
    async for entry in entries:
        if entry.previous != previous or entry.hash != hash_of(entry):
            return entry.number
        previous = entry.hash
    return None
