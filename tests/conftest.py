"""A real RabbitMQ and both databases for whoever asks, each test with names and tables of its own.

Where they come from, in this order: TEST_AMQP_URL and TEST_DATABASE_URL; Docker, where an engine and its
compose answer; private servers from the installed programs; as root on Debian or Ubuntu, installed now. With
none to be had the test fails and says what to do.
"""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

import pytest
import structlog
from hypothesis import settings

from alerting import logs
from consumers.local import packages, private_mosquitto, private_postgresql, private_rabbitmq
from consumers.local.containers import compose_answers
from consumers.local.private_mosquitto import PrivateMosquitto
from consumers.local.private_postgresql import PrivatePostgreSQL
from consumers.local.private_rabbitmq import PrivateRabbitMQ
from consumers.local.services import NoBroker, NoDatabase, postgresql, rabbitmq
from tests.shared_servers import a_database, forget

# In CI the same examples each time: a new find belongs to whoever looks for it, not to whoever lands next.
settings.register_profile("looking", deadline=None)
settings.register_profile("landing", deadline=None, derandomize=True)
settings.load_profile("landing" if os.environ.get("CI") else "looking")

# As in service: left alone, structlog draws a traceback with every variable in it, for seconds. But to the standard
# output of the moment, where pytest looks.
logs.configure()
structlog.configure(logger_factory=structlog.PrintLoggerFactory())

_SEEN_BY_OTHER_USERS = 0o711


@pytest.fixture(scope="session")
def servers() -> Iterator[Path]:
    """A folder for the servers' data; not pytest's own, which keeps out the users that servers run as."""
    folder = Path(tempfile.mkdtemp(prefix="allerta-tests-"))
    folder.chmod(_SEEN_BY_OTHER_USERS)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def docker_compose() -> bool:
    """Whether pytest-docker can work here."""
    return compose_answers()


@pytest.fixture(scope="session")
def amqp_url(request: pytest.FixtureRequest, servers: Path, docker_compose: bool) -> Iterator[str]:
    """A RabbitMQ for all tests of the run. Take `amqp_prefix` too: it is what keeps them apart."""
    given = os.environ.get("TEST_AMQP_URL")
    if docker_compose and not given:
        port = request.getfixturevalue("docker_services").port_for("rabbitmq", 5672)
        given = f"amqp://allerta:allerta@127.0.0.1:{port}/"
    with rabbitmq(servers, given, "TEST_AMQP_URL") as url:
        yield url


@pytest.fixture(scope="session")
def rabbitmq_programs(servers: Path) -> None:
    """RabbitMQ's programs here, for tests that start and kill nodes of their own; installed now where that can be."""
    if private_rabbitmq.installed() is None:
        with suppress(NoBroker), rabbitmq(servers / "programs", None):
            pass
    if private_rabbitmq.installed() is None:
        pytest.skip("no rabbitmq-server is installed here or can be, and a shared one must not be killed")


@pytest.fixture(scope="session")
def postgresql_programs(servers: Path) -> None:
    """PostgreSQL's programs here, as `rabbitmq_programs`."""
    if private_postgresql.installed() is None:
        with suppress(NoDatabase), postgresql(servers / "programs", None):
            pass
    if private_postgresql.installed() is None:
        pytest.skip("no PostgreSQL is installed here or can be, and a shared one must not be killed")


@pytest.fixture(scope="module")
def mortal_broker(servers: Path, rabbitmq_programs: None) -> Iterator[PrivateRabbitMQ]:
    """A RabbitMQ that the tests of one file may kill and wipe: not the one the others use."""
    where = servers / f"mortal-{token_hex(3)}"
    where.mkdir()
    node = PrivateRabbitMQ(where)
    node.start()
    yield node
    node.wipe()


@pytest.fixture(scope="module")
def mortal_database(servers: Path, postgresql_programs: None) -> Iterator[PrivatePostgreSQL]:
    """A PostgreSQL that the tests of one file may kill, as `mortal_broker`; what it committed is on its disk."""
    where = servers / f"mortal-{token_hex(3)}"
    where.mkdir()
    cluster = PrivatePostgreSQL(where, durable=True)
    cluster.start()
    yield cluster
    cluster.wipe()


MQTT_PASSWORD, PANEL_PASSWORD = "fornacette7nobodyMayReadThis", "pannello"


@pytest.fixture
def mosquitto(servers: Path) -> Iterator[PrivateMosquitto]:
    """An MQTT broker of the test's own, which it may kill: the user `allerta` speaks to panels, and `pannelli` are
    these. Installed now where that can be."""
    if private_mosquitto.installed() is None:
        packages.install("mosquitto")
    where = servers / f"mosquitto-{token_hex(3)}"
    where.mkdir()
    users = {"allerta": MQTT_PASSWORD, "pannelli": PANEL_PASSWORD}
    topics = {
        "allerta": ["readwrite pc/#", "deny pc/+/+/proibito/set"],
        "pannelli": ["read pc/+/+/+/set", "write pc/+/+/+/ack", "write pc/+/+/+/status"],
    }
    broker = PrivateMosquitto(where, users, topics)
    broker.start()
    yield broker
    broker.wipe()


@pytest.fixture
def amqp_prefix(amqp_url: str) -> Iterator[str]:
    """Begins the name of every exchange and queue of one test; all of them are gone after it."""
    prefix = f"t{token_hex(4)}."
    yield prefix
    forget(amqp_url, prefix)


@pytest.fixture(scope="session")
def postgresql_url(request: pytest.FixtureRequest, servers: Path, docker_compose: bool) -> Iterator[str]:
    """A PostgreSQL server for all tests of the run. A test takes `database_url`, a database of its own."""
    given = os.environ.get("TEST_DATABASE_URL")
    if docker_compose and not given:
        port = request.getfixturevalue("docker_services").port_for("postgres", 5432)
        given = f"postgresql+psycopg://allerta:allerta@127.0.0.1:{port}/allerta"
    with postgresql(servers, given, "TEST_DATABASE_URL", durable=False) as url:
        yield url


@pytest.fixture(scope="session")
async def postgresql_template(postgresql_url: str) -> AsyncIterator[str]:
    """The name of an empty database with every table, copied for each test."""
    from alerting.persistence.migrations import migrate

    with a_database(postgresql_url) as template:
        await migrate(template.render_as_string(hide_password=False))
        yield template.database or ""


@pytest.fixture(scope="session")
async def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database file with every table, copied for each test."""
    from alerting.persistence.migrations import migrate

    template = tmp_path_factory.mktemp("sqlite") / "template.db"
    await migrate(f"sqlite+aiosqlite:///{template}")
    return template


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A migrated, empty database of the test's own; the test runs once on each kind.

    Only one kind: `@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)`.
    """
    match request.param:
        case "sqlite":
            file = tmp_path / "allerta.db"
            # Not a copy of the file: what was last written may still be in its write-ahead log.
            source, copy = sqlite3.connect(request.getfixturevalue("sqlite_template")), sqlite3.connect(file)
            source.backup(copy)
            source.close()
            copy.close()
            yield f"sqlite+aiosqlite:///{file}"
        case "postgresql":
            template = request.getfixturevalue("postgresql_template")
            with a_database(request.getfixturevalue("postgresql_url"), template) as database:
                yield database.render_as_string(hide_password=False)
        case unknown:
            raise ValueError(f"database_url is for sqlite or postgresql, not for {unknown}")
