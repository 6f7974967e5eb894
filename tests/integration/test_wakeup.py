"""Whoever listens to the database goes on listening, whatever happens to the line."""

import asyncio
import sqlite3
import time
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from sqlalchemy import delete, text

from alerting.persistence import Database, wakeup
from alerting.persistence.tables import WorkerSign
from alerting.persistence.wakeup import Alarm, listening, ring
from tests.integration.engine import until

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


class Heard:
    """Counts how often an alarm woke somebody."""

    def __init__(self, alarm: Alarm) -> None:
        self.times = 0
        alarm.wake = self._wake  # type: ignore[method-assign]

    def _wake(self, whom: str = "") -> None:
        self.times += 1


async def say(database: Database) -> None:
    async with database.write() as session:
        await session.execute(delete(WorkerSign))
        session.add(WorkerSign(name="a", role="relay", state="working", since=NOON, seen_at=NOON))
        await ring(session, "piazza")


async def hears(database: Database, heard: Heard, within: float = 5.0) -> None:
    before = heard.times
    give_up = time.monotonic() + within
    while heard.times == before:
        assert time.monotonic() < give_up, "deaf"
        await say(database)
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_listener_whose_connection_is_cut_listens_again(database: Database) -> None:
    async with listening(database, "piazza") as alarm:
        heard = Heard(alarm)
        await hears(database, heard)
        async with database.write() as session:
            cut = await session.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND query LIKE 'LISTEN%'"
                )
            )
            assert len(cut.all()) == 1
        await asyncio.sleep(0.2)
        await hears(database, heard)


async def test_a_listener_outlives_even_an_error_of_ours(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    failed: list[str] = []
    connect, psycopg_connect = sqlite3.connect, psycopg.AsyncConnection.connect
    monkeypatch.setattr(wakeup, "RECONNECT", 0.05)

    def once(*args: Any, **how: Any) -> Any:
        if not failed:
            failed.append("yes")
            raise RuntimeError("a bug of ours")
        return connect(*args, **how) if database.is_sqlite else psycopg_connect(*args, **how)

    if database.is_sqlite:
        monkeypatch.setattr(sqlite3, "connect", once)
    else:
        monkeypatch.setattr(psycopg.AsyncConnection, "connect", once)
    async with listening(database, "piazza") as alarm:
        heard = Heard(alarm)
        await until(lambda: bool(failed))
        await hears(database, heard)
