"""RabbitMQ and PostgreSQL, obtained in four ways: named, in a container, installed here, installed now."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from secrets import token_hex

import psycopg

from consumers.local import private_postgresql, private_rabbitmq
from consumers.local.containers import Image, NoImage, container, engine_answers
from consumers.local.packages import NotInstalled, can_install, install
from consumers.local.private_postgresql import PrivatePostgreSQL
from consumers.local.private_rabbitmq import PrivateRabbitMQ, lets_in
from consumers.local.serving import ServerDied

_WAYS = """{what} is needed and none is to be had. {why}There are four ways to get one:
  1. name one that runs already: {variable}={example}
  2. start a Docker engine, so that `docker info` answers
  3. install it here: apt-get install {package} (nothing of the system's need run; a private one is started)
  4. on Debian or Ubuntu, run this as root: it is then installed with apt"""


class NoBroker(Exception):
    """No RabbitMQ by any of the four ways; the message names them."""


class NoDatabase(Exception):
    """No PostgreSQL by any of the four ways; the message names them."""


@contextmanager
def rabbitmq(where: Path, url: str | None, variable: str = "AMQP_URL", *, keep: bool = False) -> Iterator[str]:
    """The address (amqp://…) of a RabbitMQ that lets us in. One that we started ends with the block.

    `url` is what the environment's `variable` says. A private one works under `where`, in a new folder that
    goes with it; with `keep` in `where` itself, and the next one finds what this one was given.

    Raises:
        NoBroker: none of the four ways led to one.
        ServerDied: RabbitMQ is installed, but does not start; with the end of its log.
    """
    if url:
        if url.startswith("amqp://") and not lets_in(url):
            raise NoBroker(
                f"{variable} names {private_rabbitmq.safe(url)}, which does not answer or lets us not in: "
                f"start it, correct {variable}, or unset it to have a RabbitMQ started for you."
            )
        yield url
        return
    with ExitStack() as stack:
        if engine_answers():
            name, password = "allerta", token_hex(16)
            image = Image(
                "rabbitmq:4-management",
                5672,
                {"RABBITMQ_DEFAULT_USER": name, "RABBITMQ_DEFAULT_PASS": password},
            )
            address = f"amqp://{name}:{password}@127.0.0.1:{{port}}/"
            try:
                port = stack.enter_context(container(image, where, lambda port: lets_in(address.format(port=port))))
            except (NoImage, ServerDied) as problem:
                _say(f"{problem}\nGoing on without Docker.")
            else:
                yield address.format(port=port)
                return
        try:
            if private_rabbitmq.installed() is None:
                _install("rabbitmq-server")
        except NotInstalled as problem:
            raise NoBroker(_ways_to_rabbitmq(variable, problem)) from None
        node = PrivateRabbitMQ(stack.enter_context(_folder(where, keep)))
        stack.callback(node.stop if keep else node.wipe)
        node.start()
        yield node.url


@contextmanager
def postgresql(
    where: Path, url: str | None, variable: str = "DATABASE_URL", *, keep: bool = False, durable: bool = True
) -> Iterator[str]:
    """The address (postgresql+psycopg://…) of a PostgreSQL that lets us in and, if ours, make databases.

    As `rabbitmq`. `durable=False` starts a private one that forgets in a power cut and is faster: for tests.

    Raises:
        NoDatabase: none of the four ways led to one.
        ServerDied: PostgreSQL is installed, but does not start; with the end of its log.
    """
    if url:
        if not _database_lets_in(url):
            raise NoDatabase(
                f"{variable} names a database that does not answer or does not let us in: "
                f"start it, correct {variable}, or unset it to have a PostgreSQL started for you."
            )
        yield url
        return
    with ExitStack() as stack:
        if engine_answers():
            password = token_hex(16)
            given = {"POSTGRES_USER": "allerta", "POSTGRES_DB": "allerta", "POSTGRES_PASSWORD": password}
            image = Image("postgres:17", 5432, given)
            address = f"postgresql+psycopg://allerta:{password}@127.0.0.1:{{port}}/allerta"
            try:
                port = stack.enter_context(
                    container(image, where, lambda port: _database_lets_in(address.format(port=port)))
                )
            except (NoImage, ServerDied) as problem:
                _say(f"{problem}\nGoing on without Docker.")
            else:
                yield address.format(port=port)
                return
        try:
            if private_postgresql.installed() is None:
                _install("postgresql")
        except NotInstalled as problem:
            raise NoDatabase(_ways_to_postgresql(variable, problem)) from None
        cluster = PrivatePostgreSQL(stack.enter_context(_folder(where, keep)), durable=durable)
        stack.callback(cluster.stop if keep else cluster.wipe)
        cluster.start()
        yield cluster.url


@contextmanager
def _folder(where: Path, keep: bool) -> Iterator[Path]:
    where.mkdir(parents=True, exist_ok=True)
    if keep:
        yield where
        return
    with tempfile.TemporaryDirectory(prefix="run-", dir=where) as folder:
        Path(folder).chmod(0o711)  # the server may run as another user
        yield Path(folder)


def _install(package: str) -> None:
    if not can_install():
        raise NotInstalled("")
    _say(f"{package} is not installed here: installing it with apt-get, which takes a moment.")
    install(package)


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def _database_lets_in(url: str) -> bool:
    try:
        psycopg.connect(url.replace("postgresql+psycopg://", "postgresql://", 1), connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


def _ways_to_rabbitmq(variable: str, problem: NotInstalled) -> str:
    return _WAYS.format(
        what="RabbitMQ (3.10 or newer)",
        why=f"{problem}\n" if str(problem) else "",
        variable=variable,
        example="amqp://user:password@host:5672/",
        package="rabbitmq-server",
    )


def _ways_to_postgresql(variable: str, problem: NotInstalled) -> str:
    return _WAYS.format(
        what="PostgreSQL (13 or newer)",
        why=f"{problem}\n" if str(problem) else "",
        variable=variable,
        example="postgresql+psycopg://user:password@host:5432/name",
        package="postgresql",
    )
