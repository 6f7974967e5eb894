"""Who waits for a row is woken when it is committed: NOTIFY on PostgreSQL, the file's change counter on SQLite."""

import asyncio
import random
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

LOOK_ANYWAY, LOOK_WHEN_DEAF = 1.0, 0.2  # seconds: what a lost notification costs at most
LOOK_AT_FILE = 0.002
RECONNECT = 1.0


async def ring(session: AsyncSession, bell: str, whom: str = "") -> None:
    """When this transaction commits, wake whoever listens for `bell`, or only `whom`. SQLite needs no ringing."""
    if dialects.is_postgresql(session):
        await session.execute(text("SELECT pg_notify(:bell, :whom)"), {"bell": bell, "whom": whom})


class Alarm:
    """Wakes any number of waiters of one process. A wake-up may be false; none is missed for over a second.

    `hears`: whether it would be told now. As long as it would not, all look five times a second.
    """

    def __init__(self) -> None:
        self.hears = False
        self._wakers: list[tuple[str, asyncio.Event]] = []

    def waiter(self, name: str = "") -> Callable[[], Awaitable[None]]:
        """A function to wait by, one for each who waits; `name` is whom a bell may be rung for."""
        woken = asyncio.Event()
        self._wakers.append((name, woken))

        async def wait() -> None:
            with suppress(TimeoutError):
                # Not wait_for: it may swallow a cancellation before 3.12.
                async with asyncio.timeout(LOOK_ANYWAY if self.hears else LOOK_WHEN_DEAF):
                    await woken.wait()
            woken.clear()

        return wait

    def wake(self, whom: str = "") -> None:
        """Wake `whom`, or everybody."""
        for name, woken in self._wakers:
            if not whom or name == whom:
                woken.set()


@asynccontextmanager
async def listening(database: Database, bell: str) -> AsyncIterator[Alarm]:
    """An alarm that wakes whenever somebody commits after ringing `bell`."""
    alarm = Alarm()
    task = asyncio.create_task(_listen_always(database, bell, alarm), name=f"listen for {bell}")
    try:
        yield alarm
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _listen_always(database: Database, bell: str, alarm: Alarm) -> None:
    """Whatever happens to the listening, it begins anew: without it all still works, 0.2 s later each time."""
    while True:
        alarm.hears = False
        try:
            await (_watch_file(database, alarm) if database.is_sqlite else _listen(database, bell, alarm))
        except (psycopg.OperationalError, sqlite3.OperationalError, OSError) as error:
            log.warning("not listening to the database", bell=bell, error=type(error).__name__)
        except Exception:
            log.exception("not listening to the database", bell=bell)
        await asyncio.sleep(RECONNECT * random.uniform(0.5, 1.5))


async def _listen(database: Database, bell: str, alarm: Alarm) -> None:
    url = make_url(database.url).set(drivername="postgresql").render_as_string(hide_password=False)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True, connect_timeout=5) as connection:
        await connection.execute(f'LISTEN "{bell}"')
        alarm.hears = True
        alarm.wake()
        async for notice in connection.notifies():
            alarm.wake(notice.payload)


async def _watch_file(database: Database, alarm: Alarm) -> None:
    """`PRAGMA data_version` changes when another connection commits: five microseconds to ask."""
    path = make_url(database.url).database or ""
    connection = sqlite3.connect(path, timeout=0)  # it would wait in our loop
    try:
        alarm.hears = True
        last = -1
        while True:
            (version,) = connection.execute("PRAGMA data_version").fetchone()
            if version != last:
                last = version
                alarm.wake()
            await asyncio.sleep(LOOK_AT_FILE)
    finally:
        connection.close()
