"""Who waits for a row is woken when it is committed: NOTIFY on PostgreSQL, the file's change counter on SQLite."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import psycopg
import structlog
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncSession

from alerting.persistence import dialects
from alerting.persistence.database import Database

log = structlog.get_logger()

LOOK_ANYWAY = 0.2  # seconds: a lost notification costs at most this
LOOK_AT_FILE = 0.002
RECONNECT = 1.0


async def ring(session: AsyncSession, bell: str) -> None:
    """When this transaction commits, wake whoever listens for `bell`. SQLite needs no ringing."""
    if dialects.is_postgresql(session):
        await session.execute(text("SELECT pg_notify(:bell, '')"), {"bell": bell})


class Alarm:
    """Wakes any number of waiters of one process. A wake-up may be false; none is missed for over 0.2 s."""

    def __init__(self) -> None:
        self._wakers: list[asyncio.Event] = []

    def waiter(self) -> Callable[[], Awaitable[None]]:
        """A function to wait by, one for each who waits."""
        woken = asyncio.Event()
        self._wakers.append(woken)

        async def wait() -> None:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_ANYWAY):  # wait_for may swallow a cancellation before 3.12
                    await woken.wait()
            woken.clear()

        return wait

    def wake(self) -> None:
        for woken in self._wakers:
            woken.set()


@asynccontextmanager
async def listening(database: Database, bell: str) -> AsyncIterator[Alarm]:
    """An alarm that wakes whenever somebody commits after ringing `bell`."""
    alarm = Alarm()
    listen = _watch_file(database, alarm) if database.is_sqlite else _listen(database, bell, alarm)
    task = asyncio.create_task(listen, name=f"listen for {bell}")
    try:
        yield alarm
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _listen(database: Database, bell: str, alarm: Alarm) -> None:
    url = make_url(database.url).set(drivername="postgresql").render_as_string(hide_password=False)
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
                await connection.execute(f'LISTEN "{bell}"')
                alarm.wake()
                async for _ in connection.notifies():
                    alarm.wake()
        except psycopg.OperationalError as error:
            log.warning("not listening to the database", bell=bell, error=type(error).__name__)
        await asyncio.sleep(RECONNECT)


async def _watch_file(database: Database, alarm: Alarm) -> None:
    """`PRAGMA data_version` changes when another connection commits: five microseconds to ask."""
    path = make_url(database.url).database or ""
    connection = sqlite3.connect(path, timeout=5)
    try:
        last = -1
        while True:
            (version,) = connection.execute("PRAGMA data_version").fetchone()
            if version != last:
                last = version
                alarm.wake()
            await asyncio.sleep(LOOK_AT_FILE)
    finally:
        connection.close()
