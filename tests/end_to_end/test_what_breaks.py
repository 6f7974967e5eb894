"""Processes and servers that die in the middle: nobody is lost, and nobody is told twice but who was in flight."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumers.local.private_postgresql import PrivatePostgreSQL
from consumers.local.private_rabbitmq import PrivateRabbitMQ
from consumers.local.stack import Stack, fetch, running
from tests.end_to_end.town import COPIES, IN_FORNACETTE, NO_PAIR_LIMIT, QUORUM_SETTLES, Town, at_work
from tests.end_to_end.verdict import ONE_SLICE


@pytest.fixture(scope="module")
def mortal_town(mortal_broker: PrivateRabbitMQ, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """Calcinaia on SQLite, with a broker of its own."""
    where = tmp_path_factory.mktemp("mortal")
    database = f"sqlite+aiosqlite:///{where}/town.sqlite"
    stack = Stack(where, mortal_broker.url, database, copies=COPIES, whatsapp=dict(NO_PAIR_LIMIT))
    with at_work(stack, settles=QUORUM_SETTLES) as town:
        yield town


def test_what_was_promised_is_sent_when_the_broker_is_back(mortal_town: Town, mortal_broker: PrivateRabbitMQ) -> None:
    town = mortal_town
    people = town.subscribe(30, IN_FORNACETTE)
    mortal_broker.kill()
    town.until(lambda: json.loads(fetch(f"{town.stack.api}/v1/status") or b"{}").get("status") == "degraded", 20)
    alert, _ = town.issue("Acqua non potabile", ["fornacette"])
    assert town.delivery(alert)["audience"] is None
    mortal_broker.start()
    town.delivered(alert)
    told = town.told("Acqua non potabile")
    assert sorted(told) == sorted(people)


def test_the_broker_dies_in_the_middle_and_nobody_is_lost(mortal_town: Town, mortal_broker: PrivateRabbitMQ) -> None:
    town = mortal_town
    people = set(town.subscribe(300, IN_FORNACETTE))
    alert, _ = town.issue("Rottura in via Roma", ["fornacette"])
    town.until(lambda: len(town.received("via Roma")) >= 60)
    mortal_broker.kill()
    mortal_broker.start()
    outcome = town.delivered(alert)
    told = town.told("via Roma")
    assert people <= set(told)
    assert len(told) == len(set(told)), "the workers lived: nobody may be told twice"
    assert outcome["final"] == outcome["audience"]


def test_a_worker_killed_in_the_middle_loses_nobody(mortal_town: Town) -> None:
    town = mortal_town
    people = set(town.subscribe(200, IN_FORNACETTE))
    alert, _ = town.issue("Rottura in via Verdi", ["fornacette"])
    town.until(lambda: len(town.received("via Verdi")) >= 60)
    town.stack.kill("deliver-whatsapp")
    town.stack.restart("deliver-whatsapp")
    town.until(lambda: people <= set(town.told("via Verdi")), patience=120)
    told = town.told("via Verdi")
    assert len(told) - len(set(told)) <= ONE_SLICE
    assert town.delivered(alert)["failed"] == 0


def test_the_relay_and_the_fan_out_are_killed_before_they_begin(mortal_town: Town) -> None:
    town = mortal_town
    town.stack.kill("relay")
    town.stack.kill("fanout")
    alert, _ = town.issue("Rottura in via Dante", ["fornacette"])
    town.stack.restart("fanout")
    town.stack.restart("relay")
    town.delivered(alert)
    told = town.told("via Dante")
    assert told
    assert len(told) == len(set(told))


def test_sigterm_drains(mortal_town: Town) -> None:
    town = mortal_town
    alert, _ = town.issue("Rottura in via Leopardi", ["fornacette"])
    town.until(lambda: len(town.received("via Leopardi")) >= 40)
    process = town.stack.running["deliver-whatsapp"].popen
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=12) == 0
    town.stack.restart("deliver-whatsapp")
    town.delivered(alert)
    told = town.told("via Leopardi")
    assert len(told) == len(set(told)), "a worker that was asked to stop leaves nobody in doubt"


def test_without_a_database_the_api_says_503_and_when_to_come_back(
    tmp_path: Path, amqp_url: str, amqp_prefix: str, mortal_database: PrivatePostgreSQL
) -> None:
    stack = Stack(tmp_path, amqp_url, mortal_database.url, prefix=amqp_prefix)
    with running(stack):
        stack.prepare()
        stack.start_simulators()
        stack.start("api", "relay", "fanout", "deliver-whatsapp", "deliver-telegram")
        town = Town(stack)
        people = town.subscribe(5, IN_FORNACETTE)
        first, _ = town.issue("Rottura in via Manin", ["fornacette"])
        mortal_database.kill()
        with pytest.raises(RuntimeError, match="503"):
            town.draft("Non può essere promesso", ["fornacette"])
        assert fetch(f"{stack.api}/v1/status") == b"", "503: nothing works"
        mortal_database.start()
        town.delivered(first)
        town.until(lambda: set(town.told("via Manin")) == set(people))
        second, _ = town.issue("Rottura in via Mameli", ["fornacette"])
        town.delivered(second)
        assert sorted(town.told("via Mameli")) == sorted(people)
