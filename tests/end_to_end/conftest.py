"""The processes of the Procfile, started as in service, on either database; the simulators say what arrived."""

from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex

import pytest

from consumers.local.stack import Stack
from tests.end_to_end.town import COPIES, NO_PAIR_LIMIT, Town, at_work
from tests.shared_servers import a_database, forget


@pytest.fixture(scope="package", params=["sqlite", "postgresql"])
def town(request: pytest.FixtureRequest, amqp_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """Calcinaia, with every process at work and nobody subscribed. One for all tests of the folder."""
    where = tmp_path_factory.mktemp(f"town-{request.param}")
    if request.param == "sqlite":
        yield from _town(where, amqp_url, f"sqlite+aiosqlite:///{where}/town.sqlite")
        return
    with a_database(request.getfixturevalue("postgresql_url")) as database:
        yield from _town(where, amqp_url, database.render_as_string(hide_password=False))


def _town(where: Path, amqp: str, database: str) -> Iterator[Town]:
    prefix = f"e{token_hex(3)}."
    with at_work(Stack(where, amqp, database, prefix=prefix, copies=COPIES, whatsapp=dict(NO_PAIR_LIMIT))) as town:
        yield town
    forget(amqp, prefix)
