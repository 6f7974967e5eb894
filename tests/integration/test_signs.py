"""Signs of life: who works, who is gone, and what the API says of it to whoever looks in."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from alerting.amqp import Link
from alerting.persistence import Database
from alerting.persistence.tables import ProviderRate, WorkerSign
from alerting.settings import Settings
from alerting.signs import Need, Signs, State
from consumers.worker import Worker
from tests.integration.api_client import Town, serving
from tests.integration.engine import KEY, ONE_KIND, until, working

NOBODY = "amqp://nobody:x@127.0.0.1:1/"


@pytest.fixture
async def town(database_url: str, amqp_url: str, amqp_prefix: str, tmp_path: Path) -> AsyncIterator[Town]:
    async with serving(database_url, amqp_url, amqp_prefix, tmp_path) as town:
        yield town


async def rows(database: Database) -> list[WorkerSign]:
    async with database.read() as session:
        return list((await session.scalars(select(WorkerSign))).all())


async def status(town: Town) -> dict[str, Any]:
    answer = await town.ask("GET", "/v1/status", None)
    assert answer.status == 200, answer.body
    return dict(answer.body)


async def once_connected(town: Town) -> dict[str, Any]:
    async def broker() -> bool:
        return bool((await status(town))["broker"] == "ok")

    await until(broker)
    return await status(town)


@contextlib.asynccontextmanager
async def alone(role: str, database: Database, links: list[Link] | None = None) -> AsyncIterator[Signs]:
    """A process that only gives signs; killed at the end, it says no farewell."""
    one = Signs(role, database, links or [])
    task = asyncio.create_task(one.give())
    try:
        yield one
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def seconds_pass(database: Database, seconds: float) -> None:
    """For who looks at the signs, all that are there were given so much earlier."""
    async with database.write() as session:
        for sign in (await session.scalars(select(WorkerSign))).all():
            sign.seen_at -= timedelta(seconds=seconds)


async def test_a_worker_is_there_while_it_works_and_no_more_once_it_has_ended(
    town: Town, amqp_url: str, amqp_prefix: str
) -> None:
    worker = Worker(
        Settings(amqp_url=amqp_url, database_url=town.database.url, amqp_prefix=amqp_prefix, key=KEY), "reconcile"
    )

    async def works() -> bool:
        return [one["state"] for one in (await status(town))["workers"]] == ["working"]

    async with working(worker):
        await until(works, within=60)
        [seen] = (await status(town))["workers"]
        assert seen["role"] == "reconcile"
        assert seen["waits_for"] == []
        assert seen["seen_seconds_ago"] < 5
        assert not seen["gone"]
        assert worker.signs.health()[0]
    assert (await status(town))["workers"] == []
    assert worker.signs.now().state is State.DRAINING


async def test_a_role_of_which_nobody_is_left_degrades_the_system_until_somebody_takes_it_up(town: Town) -> None:
    async with alone("fanout", town.database):
        await until(lambda: _has(town.database, "fanout"))
        assert (await once_connected(town))["status"] == "ok"
    await seconds_pass(town.database, 21)
    found = await status(town)
    assert found["status"] == "degraded"
    assert [(one["role"], one["gone"]) for one in found["workers"]] == [("fanout", True)]
    assert 'alerting_workers_alive{role="fanout"} 0.0' in await (await town.http.get(town.url + "/metrics")).text()
    async with alone("relay", town.database):
        await until(lambda: _has(town.database, "relay"))
        assert (await status(town))["status"] == "degraded", "another role does not do the work of this one"
    async with town.database.write() as session:  # the same role in another process
        await session.execute(update(WorkerSign).where(WorkerSign.role == "relay").values(role="fanout"))
    found = await status(town)
    assert found["status"] == "ok"
    assert sorted(one["gone"] for one in found["workers"]) == [False, True]


async def test_who_has_been_gone_for_a_day_is_forgotten_by_whoever_writes_next(town: Town) -> None:
    async with alone("fanout", town.database):
        await until(lambda: _has(town.database, "fanout"))
    await seconds_pass(town.database, 24 * 3600 + 1)
    assert (await once_connected(town))["status"] == "ok"
    assert (await status(town))["workers"] == []
    async with alone("relay", town.database):
        await until(lambda: _has(town.database, "relay"))
    assert [row.role for row in await rows(town.database)] == ["relay"]


async def test_a_halted_account_degrades_the_system_and_says_why(town: Town) -> None:
    assert (await once_connected(town))["halted"] == []
    halt = update(ProviderRate).where(ProviderRate.account == "whatsapp.calcinaia")
    async with town.database.write() as session:
        await session.execute(halt.values(halted_at=1795000000.0, halted_because="190: access token expired"))
    found = await status(town)
    assert found["status"] == "degraded"
    assert found["halted"] == [
        {"account": "whatsapp.calcinaia", "since": "2026-11-18T11:06:40Z", "because": "190: access token expired"}
    ]
    async with town.database.write() as session:
        await session.execute(halt.values(halted_at=0.0, halted_because=None))
    assert (await status(town))["status"] == "ok"


async def test_who_cannot_reach_the_broker_says_so_in_the_database_too(database: Database) -> None:
    link = Link(NOBODY, "nowhere")
    link.start()
    async with alone("deliver-telegram", database, [link]) as one:
        await until(lambda: _has(database, "deliver-telegram"))
        [row] = await rows(database)
        assert (row.state, row.waits_for) == ("waiting", "broker")
        works, said = one.health()
        assert not works
        assert said["waits_for"] == (Need.BROKER,)
    await link.stop()


@ONE_KIND
async def test_a_query_that_failed_is_said_at_once_and_taken_back_when_the_database_answers(database: Database) -> None:
    async with alone("inbound", database) as one:
        await until(lambda: one.health()[0])
        since = one.now().since
        one.lacks_database(ConnectionError("the cable"))
        assert (one.now().state, one.now().waits_for) == (State.WAITING, (Need.DATABASE,))
        await until(lambda: one.health()[0], within=60)
        assert one.now().since > since


def is_migrated(file: Path, template: Path) -> None:
    source, copy = sqlite3.connect(template), sqlite3.connect(file)
    source.backup(copy)
    source.close()
    copy.close()


async def test_who_starts_before_the_database_is_ready_waits_for_it(tmp_path: Path, sqlite_template: Path) -> None:
    file = tmp_path / "allerta.db"
    late = Database(f"sqlite+aiosqlite:///{file}")
    one = Signs("deliver-whatsapp", late, [])
    waiting = asyncio.create_task(one.until_database())
    await asyncio.sleep(0.5)
    assert not waiting.done()
    assert one.now().waits_for == (Need.DATABASE,)
    await asyncio.to_thread(is_migrated, file, sqlite_template)
    await asyncio.wait_for(waiting, 10)
    assert one.health()[0]
    assert [row.role for row in await rows(late)] == ["deliver-whatsapp"]
    await one.withdraw()
    assert await rows(late) == []
    await late.close()


async def _has(database: Database, role: str) -> bool:
    return role in {row.role for row in await rows(database)}
