"""Sessions that are cancelled, wherever they are just then: nobody else waits for them afterwards."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import delete, func, select, text

from alerting.persistence import Database
from alerting.persistence.tables import AwaitedReceipt

LONG = """WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000000)
SELECT i FROM n WHERE i = 2000000"""


@pytest.fixture
async def other(database_url: str) -> AsyncIterator[Database]:
    """The same, of another process."""
    other = Database(database_url)
    yield other
    await other.close()


def _awaited(seq: int) -> AwaitedReceipt:
    return AwaitedReceipt(dispatch_id=1, seq=seq, attempt=1, account="sms", asked=0, next_at=1.0, until=2.0)


async def _write(database: Database, seq: int, *statements: str) -> None:
    async with database.write() as session:
        session.add(_awaited(seq))
        await session.flush()
        for statement in statements:
            await session.execute(text(statement))


async def test_whoever_is_cancelled_within_a_statement_keeps_no_lock(database: Database, other: Database) -> None:
    cut_off = asyncio.create_task(_write(database, 1, LONG))
    await asyncio.sleep(0.3)
    cut_off.cancel()
    # The task is held: its traceback has the cursor in it, and keeps it for as long.
    await asyncio.wait([cut_off])
    assert cut_off.cancelled()
    async with asyncio.timeout(10):
        await _write(other, 1)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_nothing_of_whoever_is_cancelled_anywhere_stays_and_nobody_waits(
    database: Database, other: Database
) -> None:
    chance = random.Random(1966)

    async def busy(seq: int) -> None:
        while True:
            async with database.write(durable=chance.random() < 0.5) as session:
                session.add(_awaited(seq))
                await session.flush()
                await session.scalar(select(func.count()).select_from(AwaitedReceipt))
                await session.execute(delete(AwaitedReceipt).where(AwaitedReceipt.seq == seq))
            async with database.read() as session:
                await session.scalar(select(func.count()).select_from(AwaitedReceipt))

    for round_ in range(100):
        tasks = [asyncio.create_task(busy(seq)) for seq in range(4)]
        await asyncio.sleep(chance.random() * 0.03)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        async with asyncio.timeout(10):
            await _write(other, 100 + round_)
    async with other.read() as session:
        assert set(await session.scalars(select(AwaitedReceipt.seq))) == set(range(100, 200))
