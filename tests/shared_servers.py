"""What a test makes on a server that others use too, and takes away again."""

from collections.abc import Iterator
from contextlib import contextmanager
from secrets import token_hex

import pika
import psycopg
from pika.exceptions import ConnectionClosedByBroker
from psycopg import sql
from sqlalchemy.engine import URL, make_url

from alerting.topology import Topology, topology

INTERNAL_ERROR = 541


def forget(amqp_url: str, prefix: str) -> None:
    """Delete every exchange and queue of ours whose name begins so.

    RabbitMQ 3.10 answers 541 now and then to the deletion of a quorum queue whose processes are just starting or
    ending: the second time it goes.
    """
    try:
        _delete(amqp_url, topology(prefix))
    except ConnectionClosedByBroker as refused:
        if refused.reply_code != INTERNAL_ERROR:
            raise
        _delete(amqp_url, topology(prefix))


def _delete(amqp_url: str, ours: Topology) -> None:
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        channel = connection.channel()
        for queue in ours.queues:
            channel.queue_delete(queue.name)
        for exchange in ours.exchanges:
            channel.exchange_delete(exchange.name)


@contextmanager
def a_database(server_url: str, template: str = "template1") -> Iterator[URL]:
    """A database with a name of its own on this PostgreSQL, a copy of the template; dropped at the end of the block."""
    server = make_url(server_url)
    name = f"allerta_{token_hex(6)}"
    _execute(server, sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)))
    try:
        yield server.set(database=name)
    finally:
        _execute(server, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _execute(server: URL, statement: sql.Composed) -> None:
    plain = server.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(statement)
