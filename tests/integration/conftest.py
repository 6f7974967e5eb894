"""Calcinaia on either database, and the engine that tells its people."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from alerting.persistence import Database
from consumers.simulators.serving import Served
from tests.integration.engine import Engine, Start, Town, a_town, an_engine


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


@pytest.fixture
async def town(database_url: str) -> AsyncIterator[Town]:
    """Calcinaia, enrolled, and nobody subscribed. A file whose tests look from elsewhere has a `town` of its own."""
    async with a_town(database_url) as town:
        yield town


@pytest.fixture
def engine(town: Town, amqp_url: str, amqp_prefix: str, tmp_path: Path) -> Start:
    """Starts relay, fan-out and delivery in the town, against a simulator that is served."""

    def start(served: Served, *, workers: int = 1) -> AbstractAsyncContextManager[Engine]:
        return an_engine(town, amqp_url, amqp_prefix, served, tmp_path, workers=workers)

    return start
