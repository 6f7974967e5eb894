"""Who did what, in a chain from which nothing can be changed, taken or moved unseen."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from sqlalchemy import delete, select, update

from alerting import audit
from alerting.persistence import Database
from alerting.persistence.tables import AuditEntry
from tests.integration.calcinaia import NOW, five_comuni, one_database


@pytest.fixture
async def town(database_url: str) -> AsyncIterator[Database]:
    async with five_comuni(database_url, "calcinaia") as database:
        yield database


@pytest.fixture
async def five_entries(town: Database) -> list[int]:
    for minute, action in enumerate(("draft", "approve", "issue", "cancel", "draft")):
        async with town.write() as session:
            await audit.write(
                session,
                at=NOW + timedelta(minutes=minute, microseconds=minute),
                actor="anna",
                action=action,
                subject=f"calcinaia-{minute}",
                lane="emergency",
                così=["è", 1, None],
            )
    async with town.read() as session:
        return list(await session.scalars(select(AuditEntry.number).order_by(AuditEntry.number)))


async def broken_at(town: Database) -> int | None:
    async with town.read() as session:
        return await audit.first_break(session)


async def test_a_chain_nobody_touched_is_whole(town: Database, five_entries: list[int]) -> None:
    assert len(five_entries) == 5
    assert await broken_at(town) is None


@one_database
async def test_an_empty_chain_is_whole(town: Database) -> None:
    assert await broken_at(town) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("actor", "bruno"),
        ("action", "approve"),
        ("subject", "calcinaia-9"),
        ("details", {"lane": "routine"}),
        ("at", NOW + timedelta(hours=1)),
        ("previous", "f" * 64),
        ("hash", "f" * 64),
    ],
)
@one_database
async def test_a_changed_entry_shows(town: Database, five_entries: list[int], field: str, value: object) -> None:
    async with town.write() as session:
        await session.execute(update(AuditEntry).where(AuditEntry.number == five_entries[2]).values({field: value}))
    assert await broken_at(town) == five_entries[2]


@pytest.mark.parametrize("gone", [0, 1, 3])
async def test_a_removed_entry_shows_at_the_one_after_it(town: Database, five_entries: list[int], gone: int) -> None:
    async with town.write() as session:
        await session.execute(delete(AuditEntry).where(AuditEntry.number == five_entries[gone]))
    assert await broken_at(town) == five_entries[gone + 1]


async def test_two_entries_that_changed_places_show(town: Database, five_entries: list[int]) -> None:
    first, second = five_entries[1:3]
    async with town.write() as session:
        for old, new in ((first, 999_999), (second, first), (999_999, second)):
            await session.execute(update(AuditEntry).where(AuditEntry.number == old).values(number=new))
    assert await broken_at(town) == first


@one_database
async def test_an_entry_slipped_in_shows(town: Database, five_entries: list[int]) -> None:
    async with town.write() as session:
        session.add(
            AuditEntry(
                at=NOW,
                actor="nobody",
                action="approve",
                subject="calcinaia-3",
                details={},
                previous="0" * 64,
                hash="1" * 64,
            )
        )
    assert await broken_at(town) == five_entries[-1] + 1


async def test_many_who_write_at_once_follow_one_another(town: Database) -> None:
    async def one(number: int) -> None:
        async with town.write() as session:
            await audit.write(session, at=NOW, actor=f"operatore {number}", action="draft", subject="calcinaia-1")

    await asyncio.gather(*(one(number) for number in range(12)))
    assert await broken_at(town) is None
    async with town.read() as session:
        assert len(set(await session.scalars(select(AuditEntry.previous)))) == 12


@one_database
async def test_what_is_rolled_back_leaves_no_entry(town: Database, five_entries: list[int]) -> None:
    with pytest.raises(ConnectionResetError):
        async with town.write() as session:
            await audit.write(session, at=NOW, actor="anna", action="issue", subject="calcinaia-1")
            raise ConnectionResetError
    async with town.read() as session:
        assert set(await session.scalars(select(AuditEntry.number))) == set(five_entries)
