"""The processes of the Procfile, started as in service, on either database; the simulators say what arrived."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex

import psycopg
import pytest
from sqlalchemy.engine import make_url

from consumers.local.stack import Stack, running
from tests.end_to_end.town import Town

NO_PAIR_LIMIT = {"pair_every": 0.001}
"""One person gets more texts in these tests than WhatsApp lets one number send to one person."""


@pytest.fixture(scope="package", params=["sqlite", "postgresql"])
def town(request: pytest.FixtureRequest, amqp_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """Calcinaia, with every process at work and nobody subscribed. One for all tests of the folder."""
    where = tmp_path_factory.mktemp(f"town-{request.param}")
    if request.param == "sqlite":
        yield from _town(where, amqp_url, f"sqlite+aiosqlite:///{where}/town.sqlite")
        return
    server = make_url(request.getfixturevalue("postgresql_url"))
    name = f"town_{token_hex(4)}"
    plain = server.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    yield from _town(where, amqp_url, server.set(database=name).render_as_string(hide_password=False))
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


def _town(where: Path, amqp: str, database: str) -> Iterator[Town]:
    stack = Stack(
        where, amqp, database, prefix=f"e{token_hex(3)}.", copies={"deliver-whatsapp": 2}, whatsapp=dict(NO_PAIR_LIMIT)
    )
    with running(stack):
        stack.prepare()
        stack.start_simulators()
        stack.start()
        yield Town(stack)
    asyncio.run(_forget(amqp, stack.prefix))


async def _forget(amqp: str, prefix: str) -> None:
    """Nothing of this town stays on a broker that others use too."""
    import pika

    from alerting.topology import topology

    connection = pika.BlockingConnection(pika.URLParameters(amqp))
    channel = connection.channel()
    for queue in topology(prefix).queues:
        channel.queue_delete(queue.name)
    for exchange in topology(prefix).exchanges:
        channel.exchange_delete(exchange.name)
    connection.close()
