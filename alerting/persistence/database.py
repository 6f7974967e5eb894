"""One database, PostgreSQL or SQLite: how it is opened, read and written."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine


class Database:
    """Sessions on one database. `read` and `write` differ only for SQLite, where a writer must say so at once."""

    def __init__(self, url: str, *, pool_size: int = 8) -> None:
        self.url = url
        self.is_sqlite = url.startswith("sqlite")
        self.engine = _sqlite(url) if self.is_sqlite else _postgresql(url, pool_size)
        self._hasty = None if self.is_sqlite else _postgresql(url, 4, hasty=True)
        self._sessions = async_sessionmaker(self.engine, expire_on_commit=False)
        hasty = self._hasty.execution_options(isolation_level="READ COMMITTED") if self._hasty else self.engine
        self._hasty_sessions = async_sessionmaker(hasty, expire_on_commit=False)
        self._turn = Turn(Path(f"{self.engine.url.database}.turn")) if self.is_sqlite else None

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """A session that changes nothing."""
        async with self._sessions() as session:
            yield session

    @asynccontextmanager
    async def write(self, *, durable: bool = True) -> AsyncIterator[AsyncSession]:
        """One transaction: committed at the end, rolled back on any exception.

        What is not `durable` may be forgotten in a power cut, and does not wait for the disk.
        """
        sessions = self._sessions if durable else self._hasty_sessions
        async with self._turn or nullcontext(), sessions() as session:
            if self.is_sqlite:
                # A deferred transaction that turns into a writer fails if another wrote meanwhile.
                await session.connection(execution_options={"writes": "FULL" if durable else "NORMAL"})
            async with _committed(session):
                yield session

    @asynccontextmanager
    async def hasty(self) -> AsyncIterator[AsyncConnection]:
        """For single statements, each committed by itself, that may be forgotten in a power cut.

        On PostgreSQL each is one trip to the server, where a transaction makes four.
        """
        if self._hasty is None:
            async with self.write(durable=False) as session:
                yield await session.connection()
        else:
            async with self._hasty.connect() as connection:
                yield connection

    async def close(self) -> None:
        await self.engine.dispose()
        if self._hasty:
            await self._hasty.dispose()
        if self._turn:
            self._turn.close()


class Turn:
    """Whose turn it is to write to a SQLite file, over all processes of this machine.

    SQLite itself lets a writer that finds another at work sleep for up to 100 ms at a time. A lock on a file
    beside the database wakes the next one at once.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._here = asyncio.Lock()
        self._descriptor: int | None = None

    async def __aenter__(self) -> None:
        await self._here.acquire()
        try:
            if self._descriptor is None:
                self._descriptor = os.open(self._file, os.O_CREAT | os.O_RDWR, 0o600)
        except OSError:
            self._here.release()
            raise
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting = asyncio.ensure_future(asyncio.to_thread(fcntl.flock, self._descriptor, fcntl.LOCK_EX))
            try:
                await asyncio.shield(waiting)
            except asyncio.CancelledError:
                # The thread cannot be called back: when it has its turn, it must not keep it.
                waiting.add_done_callback(lambda _: self._end())
                raise

    async def __aexit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        if self._descriptor is not None:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self._here.release()

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


@asynccontextmanager
async def _committed(session: AsyncSession) -> AsyncIterator[None]:
    try:
        yield
    except BaseException:
        await session.rollback()
        raise
    await session.commit()


def _postgresql(url: str, pool_size: int, *, hasty: bool = False) -> AsyncEngine:
    # Compiling a query costs 30 ms and more; ours are short, and are run again and again.
    options = "-c jit=off" + (" -c synchronous_commit=off" if hasty else "")
    return create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=10,
        hide_parameters=True,  # an error that is logged must not show a person's data or a document
        connect_args={"connect_timeout": 5, "options": options},
        **({"isolation_level": "AUTOCOMMIT"} if hasty else {}),
    )


def _sqlite(url: str) -> AsyncEngine:
    engine = create_async_engine(
        url,
        pool_size=8,
        max_overflow=8,
        hide_parameters=True,
        connect_args={"timeout": 20},
        pool_reset_on_return=None,
    )
    sync_engine = engine.sync_engine

    @event.listens_for(sync_engine, "connect")
    def _configure(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "foreign_keys=ON", "temp_store=MEMORY"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(sync_engine, "begin")
    def _begin(connection: Any) -> None:
        # Every statement is a trip to another thread and back. Who only reads needs no transaction here.
        if writes := connection.get_execution_options().get("writes"):
            if connection.info.get("synchronous") != writes:
                connection.exec_driver_sql(f"PRAGMA synchronous={writes}")
                connection.info["synchronous"] = writes
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    @event.listens_for(sync_engine, "invalidate")
    def _roll_back(connection: Any, *_: Any) -> None:
        # Whoever is cancelled within a statement has the connection closed. SQLite keeps a closed one, with the lock
        # of its transaction, for as long as anybody still holds a cursor of it, as the traceback does.
        connection.rollback()

    return engine
