"""Every process waits for what is away and says so, and ends within ten seconds even then."""

import json
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consumers.local.private_postgresql import PrivatePostgreSQL
from consumers.local.private_rabbitmq import PrivateRabbitMQ
from consumers.local.stack import Stack, fetch, procfile, running
from tests.end_to_end.town import IN_FORNACETTE, Town

TEN_SECONDS = 10.0
THE_MACHINE_IS_BUSY = 5.0
"""So many interpreters that start or end at once share two cores with the other tests."""


@pytest.fixture
def stack(tmp_path: Path, mortal_broker: PrivateRabbitMQ, mortal_database: PrivatePostgreSQL) -> Iterator[Stack]:
    stack = Stack(tmp_path, mortal_broker.url, mortal_database.url)
    with running(stack):
        stack.prepare()
        stack.start_simulators()
        yield stack


def status(stack: Stack, name: str) -> tuple[int, dict[str, Any]]:
    """What a process says of itself; 0 before it says anything."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{stack.running[name].metrics_port}/status", timeout=2) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, json.loads(refusal.read())
    except (urllib.error.URLError, OSError):
        return 0, {}


def all_wait_for(stack: Stack, names: list[str], what: str) -> bool:
    said = [status(stack, name) for name in names]
    return all(code == 503 and one["state"] == "waiting" and what in one["waits_for"] for code, one in said)


def all_work(stack: Stack, names: list[str]) -> bool:
    return all(status(stack, name)[0] == 200 for name in names)


def until(true: Any, patience: float = 120.0) -> None:
    give_up = time.monotonic() + patience
    while not true():
        assert time.monotonic() < give_up, f"did not happen within {patience:.0f} s"
        time.sleep(0.1)


def end(stack: Stack, names: list[str]) -> dict[str, int]:
    """SIGTERM, and once more; how each ended."""
    began = time.monotonic()
    for name in names:
        stack.running[name].popen.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    for name in names:
        if stack.running[name].popen.poll() is None:
            stack.running[name].popen.send_signal(signal.SIGTERM)
    ended = {}
    for name in names:
        left = began + TEN_SECONDS + THE_MACHINE_IS_BUSY - time.monotonic()
        try:
            ended[name] = stack.running[name].popen.wait(max(0.1, left))
        except subprocess.TimeoutExpired:
            pytest.fail(f"{name} did not end:\n{stack.running[name].log.read_text()[-2000:]}")
    return ended


CAN_DO_WITHOUT = {("feeds", "broker"), ("staff", "broker")}
"""Who asks the sources writes to the database alone; the relay tells RabbitMQ of it. The staff are told without it."""


def workers() -> list[str]:
    return [name for name in procfile() if name != "api"]


def test_who_starts_before_the_database_waits_for_it_and_then_works(
    stack: Stack, mortal_database: PrivatePostgreSQL
) -> None:
    names = ["deliver-whatsapp", "fanout", "relay"]
    mortal_database.kill()
    for name in names:
        stack._start(name, procfile()[name])
    until(lambda: all_wait_for(stack, names, "database"))
    mortal_database.start()
    until(lambda: all_work(stack, names))
    stack.start("api")
    town = Town(stack)
    people = town.subscribe(3, IN_FORNACETTE)
    town.issue("Rottura in via Manin", ["fornacette"])
    until(lambda: sorted(town.told("via Manin")) == sorted(people))
    seen = json.loads(fetch(f"{stack.api}/v1/status"))
    assert sorted(one["role"] for one in seen["workers"]) == names
    assert seen["status"] == "ok"
    assert end(stack, names) == dict.fromkeys(names, 0)
    assert json.loads(fetch(f"{stack.api}/v1/status"))["workers"] == [], "who ends as it should is not missed"


@pytest.mark.parametrize("away", ["broker", "database"])
def test_sigterm_ends_every_process_also_while_something_is_away_and_a_second_one_changes_nothing(
    stack: Stack, mortal_broker: PrivateRabbitMQ, mortal_database: PrivatePostgreSQL, away: str
) -> None:
    stack.start(*workers())
    until(lambda: all_work(stack, workers()))
    server: PrivateRabbitMQ | PrivatePostgreSQL = mortal_broker if away == "broker" else mortal_database
    server.kill()
    try:
        until(lambda: all_wait_for(stack, [name for name in workers() if (name, away) not in CAN_DO_WITHOUT], away))
        assert end(stack, workers()) == dict.fromkeys(workers(), 0)
    finally:
        server.start()
