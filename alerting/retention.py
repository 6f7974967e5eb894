"""What is forgotten, and when; and what is erased because somebody asks. The table below is what is kept how long.

| what | where | how long |
|---|---|---|
| address of a subscriber, sealed; its fingerprint | addresses | until they leave: then at once |
| places (lat, lon or the name of an area: in clear), choices | places, memberships, recipients | until they leave |
| that somebody joined, left, moved: command, time, policy | consents | always; it names nobody (next row) |
| fingerprint and command of these proofs | consents | `ALERTING_RETENTION_MONTHS` (24) after they have left |
| that proofs were erased: when, by whom, why, how many | erasures | always |
| words of a citizen, sealed | inbox | until understood; what nobody has a [desk] for: `ALERTING_INBOX_DAYS` (30) |
| that a text came, by a keyed fingerprint of its name | inbox | always: it is what makes a replay known |
| parts of an SMS, sealed | inbound_parts | an hour |
| answer to a citizen: its words; its address, sealed | dispatches | address: until said; both: `ALERTING_INBOX_DAYS` |
| answer of a desk: words and address, sealed | dispatches | until said; else `ALERTING_INBOX_DAYS` |
| how much somebody wrote lately, by fingerprint | courtesies | two days |
| who was told today, by fingerprint | portfolio_people | a day |
| what was reported: words, street, pictures, sealed | reports, report_entries, photographs | always |
| where that is: frazione, lat and lon, in clear | reports | always |
| who reported it, sealed; fingerprint | reports | `retention_days` of the comune's [desk] (90) after it is closed |
| who has an appointment, sealed; fingerprint | bookings | 30 days after it |
| what a desk says to one person: address and words, sealed | letters | until said; that it was: a week |
| that somebody wrote to a desk, by fingerprint; what they were given to choose from | conversations | a week |
| what a provider called a text, sealed or keyed | attempts, provider_texts | as the ledger; some days |
"""

import calendar
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import CursorResult, Delete, Update, delete, exists, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from alerting.persistence import Database, tables

COURTESIES_KEPT = timedelta(days=2)
AT_ONCE = 500
"""Rows of one transaction: nobody who joins meanwhile waits for more."""
RETENTION, REQUEST = "retention", "request"


@dataclass(frozen=True, slots=True)
class Forgotten:
    """How much was."""

    proofs: int = 0
    texts: int = 0
    answers: int = 0
    courtesies: int = 0

    def __bool__(self) -> bool:
        return bool(self.proofs or self.texts or self.answers or self.courtesies)


async def forget(database: Database, *, now: datetime, months: int, days: int, actor: str) -> Forgotten:
    """All that is due. It may be ended anywhere, and begun anew."""
    proofs = 0
    while gone := await _gone(database, before=_months_before(now, months)):
        async with database.write() as session:
            for authority, theirs in gone.items():
                proofs += await erase_proofs(session, authority, theirs, now=now, actor=actor, why=RETENTION)
    old = now - timedelta(days=days)
    inbox, dispatch, courtesy = tables.InboundMessage, tables.Dispatch, tables.Courtesy
    words = update(inbox).where(inbox.sealed.is_not(None), inbox.handled_at.is_not(None), inbox.received_at < old)
    answers = update(dispatch).where(
        dispatch.alert.is_(None),
        or_(dispatch.reply_text.is_not(None), dispatch.reply_sealed.is_not(None), dispatch.reply_to.is_not(None)),
        dispatch.not_after < old,
    )
    quiet = delete(courtesy).where(courtesy.last < (now - COURTESIES_KEPT).timestamp())
    async with database.write() as session:
        return Forgotten(
            proofs,
            await _rows(session, words.values(sealed=None)),
            await _rows(session, answers.values(reply_text=None, reply_sealed=None, reply_to=None)),
            await _rows(session, quiet),
        )


async def erase_proofs(
    session: AsyncSession, authority: str, fingerprints: Sequence[bytes], *, now: datetime, actor: str, why: str
) -> int:
    """Take people out of their proofs with one comune: what was agreed to stays, whose it was does not. How many.

    The only way past the triggers of the table: the erasure is open in this transaction alone, and stays written down.
    """
    theirs = [one for one in dict.fromkeys(fingerprints) if one]
    if not theirs:
        return 0
    record = tables.Erasure(at=now, actor=actor, why=why)
    session.add(record)
    await session.flush()
    proof = tables.Consent
    record.proofs = await _rows(
        session,
        update(proof)
        .where(proof.authority == authority, proof.fingerprint.in_(theirs))
        .values(fingerprint=None, keyword=""),
    )
    record.ended_at = now
    await session.flush()
    return record.proofs


async def forget_lately(session: AsyncSession, account: str, fingerprint: bytes) -> None:
    """How much somebody wrote there lately, before two days are over."""
    row = tables.Courtesy
    await session.execute(delete(row).where(row.account == account, row.fingerprint == fingerprint))


async def _gone(database: Database, *, before: datetime) -> dict[str, list[bytes]]:
    """By comune the fingerprints of whoever has no address there and did nothing since."""
    proof, address, recipient = tables.Consent, tables.Address, tables.Recipient
    here = exists().where(
        or_(address.fingerprint == proof.fingerprint, address.other_fingerprint == proof.fingerprint),
        recipient.id == address.recipient_id,
        recipient.authority == proof.authority,
    )
    query = (
        select(proof.authority, proof.fingerprint)
        .where(proof.fingerprint.is_not(None), ~here)
        .group_by(proof.authority, proof.fingerprint)
        .having(func.max(proof.at) < before)
        .limit(AT_ONCE)
    )
    found: dict[str, list[bytes]] = {}
    async with database.read() as session:
        for authority, fingerprint in await session.execute(query):
            if fingerprint is not None:
                found.setdefault(authority, []).append(fingerprint)
    return found


async def _rows(session: AsyncSession, statement: Update | Delete) -> int:
    done = await session.execute(statement.execution_options(synchronize_session=False))
    return cast(CursorResult[Any], done).rowcount


def _months_before(now: datetime, months: int) -> datetime:
    count = now.year * 12 + now.month - 1 - months
    year, month = divmod(count, 12)
    return now.replace(year=year, month=month + 1, day=min(now.day, calendar.monthrange(year, month + 1)[1]))
