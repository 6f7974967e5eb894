"""The servers we start ourselves: they answer, they keep what they were given, and they never stay behind."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pika
import psycopg
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from consumers.local import private_postgresql, private_rabbitmq, serving
from consumers.local.private_postgresql import PrivatePostgreSQL
from consumers.local.private_rabbitmq import PrivateRabbitMQ, lets_in
from consumers.local.services import NoBroker, NoDatabase, postgresql, rabbitmq
from consumers.local.serving import AlreadyRunning, free_port, free_ports
from consumers.local.stack import ROOT

needs_rabbitmq = pytest.mark.usefixtures("rabbitmq_programs")
needs_postgresql = pytest.mark.usefixtures("postgresql_programs")


@pytest.fixture
def where() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="allerta-private-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


def _processes_on(where: Path) -> list[str]:
    """Command lines that name the folder, ours excepted, and epmd of its environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                said = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue  # it ended while we looked, or is nobody of ours
            if bytes(where) in said:
                found.append(said.split(b"\0")[0].decode())
    return found


def _wait_for(what: str, is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not is_true():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@needs_rabbitmq
def test_rabbitmq_keeps_what_it_confirmed_through_a_power_cut(where: Path) -> None:
    node = PrivateRabbitMQ(where)
    node.start()
    try:
        address = node.url
        connection = pika.BlockingConnection(pika.URLParameters(address))
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare("fornacette", durable=True, arguments={"x-queue-type": "quorum"})
        # RabbitMQ 3.10 writes down which quorum queues it has up to 3 s late: a younger one does not survive.
        time.sleep(4)
        channel.basic_publish("", "fornacette", b"Evacuare.", pika.BasicProperties(delivery_mode=2))
        node.kill()
        assert not lets_in(address)
        assert _processes_on(where) == []

        node.start()
        assert node.url == address
        connection = pika.BlockingConnection(pika.URLParameters(address))
        bodies: list[bytes] = []
        channel = connection.channel()
        _wait_for("the message is there again", lambda: _take(channel, bodies))
        connection.close()
        assert bodies == [b"Evacuare."]
    finally:
        node.wipe()
    assert _processes_on(where) == []


def _take(channel: BlockingChannel, bodies: list[bytes]) -> bool:
    _, _, body = channel.basic_get("fornacette", auto_ack=True)
    if body is not None:
        bodies.append(body)
    return body is not None


@needs_postgresql
def test_postgresql_keeps_what_it_committed_through_a_power_cut(where: Path) -> None:
    cluster = PrivatePostgreSQL(where, durable=True)
    cluster.start()
    try:
        address = cluster.url.replace("+psycopg", "")
        with psycopg.connect(address) as connection:
            connection.execute("CREATE TABLE frazioni AS SELECT 'Fornacette' AS name")
        cluster.kill()
        assert _processes_on(where) == []
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(address)

        cluster.start()
        with psycopg.connect(cluster.url.replace("+psycopg", "")) as connection:
            assert connection.execute("SELECT name FROM frazioni").fetchall() == [("Fornacette",)]
    finally:
        cluster.wipe()
    assert _processes_on(where) == []


@needs_rabbitmq
@needs_postgresql
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_no_server_outlives_who_started_it(where: Path, how: signal.Signals) -> None:
    environment = {key: value for key, value in os.environ.items() if key not in ("AMQP_URL", "DATABASE_URL")}
    starter = subprocess.Popen(
        [sys.executable, "-m", "consumers.local", "services", "--where", str(where)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment | {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert starter.stdout is not None
    with starter.stdout as printed:
        amqp, database = printed.readline().strip(), printed.readline().strip()
        assert amqp.startswith("AMQP_URL=amqp://")
        assert database.startswith("DATABASE_URL=postgresql+psycopg://")
        assert lets_in(amqp.partition("=")[2])
        starter.send_signal(how)
        starter.wait(30)
    _wait_for("all of them are gone", lambda: _processes_on(where) == [])


@needs_rabbitmq
def test_two_nodes_run_side_by_side_and_one_folder_has_one_node(where: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other, again = (
        PrivateRabbitMQ(where / "a"),
        PrivateRabbitMQ(where / "b"),
        PrivateRabbitMQ(where / "a"),
    )
    try:
        one.start()
        other.start()
        assert one.url != other.url
        assert lets_in(one.url)
        assert lets_in(other.url)
        monkeypatch.setattr(serving, "_TIME_TO_GO", timedelta(seconds=0.2))
        with pytest.raises(AlreadyRunning, match="end that one, or choose another folder"):
            again.start()
        assert lets_in(one.url), "whoever was refused must not have disturbed it"
    finally:
        one.wipe()
        other.wipe()


def test_a_broker_that_is_named_but_silent_is_said_without_its_password(where: Path) -> None:
    url = f"amqp://operatore:segreto@127.0.0.1:{free_port()}/"
    with (
        pytest.raises(NoBroker, match=r"TEST_AMQP_URL names .*unset it") as said,
        rabbitmq(where, url, "TEST_AMQP_URL"),
    ):
        pytest.fail("there is nobody at this address")
    assert "segreto" not in str(said.value)


def test_a_database_that_is_named_but_silent_is_said(where: Path) -> None:
    url = f"postgresql+psycopg://operatore:segreto@127.0.0.1:{free_port()}/allerta"
    with pytest.raises(NoDatabase, match=r"DATABASE_URL names .*unset it") as said, postgresql(where, url):
        pytest.fail("there is nobody at this address")
    assert "segreto" not in str(said.value)


def test_with_none_of_the_four_ways_the_four_are_named(where: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumers.local.services.engine_answers", lambda: False)
    monkeypatch.setattr("consumers.local.services.can_install", lambda: False)
    monkeypatch.setattr(private_rabbitmq, "installed", lambda: None)
    monkeypatch.setattr(private_postgresql, "installed", lambda: None)
    with pytest.raises(NoBroker, match=r"(?s)AMQP_URL=amqp.*docker info.*install rabbitmq-server.*root"):
        rabbitmq(where, None).__enter__()
    with pytest.raises(NoDatabase, match=r"(?s)DATABASE_URL=postgresql.*docker info.*install postgresql.*root"):
        postgresql(where, None).__enter__()


def test_a_port_that_was_handed_out_is_nobody_elses_before_anybody_listens_there() -> None:
    asking = "from consumers.local.serving import _is_ours; import sys; print([_is_ours(int(p)) for p in sys.argv[1:]])"
    ours = free_ports(3)
    told = subprocess.run(
        [sys.executable, "-c", asking, *map(str, ours)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == "[False, False, False]"
    assert not set(ours) & set(free_ports(50))
