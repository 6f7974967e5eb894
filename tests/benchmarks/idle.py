"""Nothing else going on: from asking to issue until the provider has the first text."""

import json
import random
import time
from pathlib import Path

from rich.progress import track

from consumers.local.demo import Api, issue
from consumers.local.stack import Stack, fetch, running
from tests.benchmarks.bench_town import Runs, Services

ALERTS = 120
PEOPLE = 3
APART = (0.1, 0.2)  # seconds between one and the next
LOOK_AFTER = 0.2
COMUNE = "fucecchio"
"""It has WhatsApp alone. Telegram lets a public channel have twenty posts a minute: those of the alerts before, put off
again and again, were going on beside."""
OUTAGE = {
    "kind": "interruzione-idrica",
    "description": "Manca l'acqua per una rottura.",
    "areas": ["galleno"],
}


def idle(services: Services) -> Runs:
    """p50 and p99 of 120 alerts on each database, with RabbitMQ and every process of the Procfile on this machine."""
    databases = {
        "postgresql": services.database("bench_idle"),
        "sqlite": f"sqlite+aiosqlite:///{services.where}/bench.sqlite",
    }
    runs: Runs = {}
    for name, database in databases.items():
        waits = _measure(services.where / f"idle-{name}", services.amqp, database, name)
        runs |= {f"idle.{name}.p50_ms": [at_share(waits, 0.50)], f"idle.{name}.p99_ms": [at_share(waits, 0.99)]}
    services.drop("bench_idle")
    return runs


def _measure(where: Path, amqp: str, database: str, name: str) -> list[float]:
    stack = Stack(
        where,
        amqp,
        database,
        prefix=f"idle-{name}.",
        copies={"deliver-whatsapp": 2},
        whatsapp={"pair_every": 0.001},  # the same people are told again and again
    )
    with running(stack):
        stack.prepare()
        stack.start_simulators()
        stack.start()
        operator, approver = (Api(stack.api, stack.token(role, role, COMUNE)) for role in ("operator", "approver"))
        people = [{"channel": "whatsapp", "address": f"+39333000{n:03d}1", "area": "galleno"} for n in range(PEOPLE)]
        operator.post("/v1/recipients/batch", {"authority": COMUNE, "items": people})
        return [_one(stack, operator, approver, number) for number in track(range(ALERTS), f"idle, {name}")]


def _one(stack: Stack, operator: Api, approver: Api, number: int) -> float:
    """Milliseconds by the simulator's own clock; nobody asks it anything until the text must be there."""
    headline = f"Rottura numero {number}"
    time.sleep(random.uniform(*APART))
    asked = issue(operator, approver, OUTAGE | {"headline": headline})
    return first_after(stack, number, headline, asked)


def first_after(stack: Stack, number: int, words: str, asked: float) -> float:
    """Milliseconds from `asked` until the first of the people was sent these words, the `number`-th to be said."""
    give_up = time.monotonic() + 10
    while time.monotonic() < give_up:
        time.sleep(LOOK_AFTER)
        seen = json.loads(fetch(f"{stack.whatsapp_url}/__sim/received?after={number * PEOPLE}"))["items"]
        first = [text["at"] for text in seen if words in text["text"]]
        if len(first) == PEOPLE:
            return float(min(first) - asked) * 1000
    raise RuntimeError(f"{words} did not reach everybody within 10 s")


def at_share(waits: list[float], share: float) -> float:
    """The wait that this share of them does not exceed."""
    ordered = sorted(waits)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 1)
