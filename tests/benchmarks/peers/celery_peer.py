"""Celery on RabbitMQ: with its defaults, tuned, and with a worker kept free for the urgent."""

import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psycopg
from rich.console import Console
from rich.progress import track

from consumers.local.services import postgresql, rabbitmq
from consumers.local.serving import Server
from tests.benchmarks.peers.overtaking import CAP, ROUTINE, Overtaking, overtaking, wait_for
from tests.benchmarks.peers.programs import environment, folder, pinned, running, server
from tests.benchmarks.sink import Sink, sink

HERE = Path(__file__).parent
VERSIONS = pinned("celery", "celery", "kombu")
BACKLOG = 30_000
HIGHEST = 10  # of x-max-priority: 10, as the documentation's example has it
RESERVED = 0.1  # of the cap
PROCESSES = os.cpu_count() or 1  # of a worker, as Celery chooses by itself
ONE_QUEUE = f"one queue with x-max-priority, priority {HIGHEST}"
ACKS_LATE = "task_acks_late, worker_prefetch_multiplier 1"
TUNED = {"task_acks_late": True, "worker_prefetch_multiplier": 1}
AT_ONCE = 1000  # orders to the producer are cut so, for the progress bar's sake
SETTLE = 2.0  # seconds
WARM_AFTER = 5  # routine texts sent by a new worker: Celery's own rate limit makes more take long


@dataclass(frozen=True, slots=True)
class Worker:
    """One `celery worker`: its queue, what it may send a second, what holds it to that, and what else is set."""

    queue: str
    per_second: float
    limited_by: Literal["rate_limit", "sleeping", "nothing"]
    settings: Mapping[str, object]

    def told(self) -> dict[str, str]:
        """Its part of the environment."""
        limit = {"rate_limit": f"{self.per_second:g}/s"} if self.limited_by == "rate_limit" else {}
        every = PROCESSES / self.per_second if self.limited_by == "sleeping" else 0.0
        settings = {**self.settings, "task_annotations": {"send": limit}}
        return {"PEER_SETTINGS": json.dumps(settings), "PEER_EVERY": str(every)}


@dataclass(frozen=True, slots=True)
class Way:
    """One way of setting Celery up, and the queue on which an emergency is asked for."""

    name: str
    words: str
    workers: tuple[Worker, ...]
    urgent: str = "texts"


def ways(per_second: float) -> tuple[Way, ...]:
    """What a reader of its documentation comes to, one after the other.

    `rate_limit` is Celery's own means. It is of each worker, not of all together, and falls short: we saw 1 to 60 of
    80/s, more on a busy machine than on an idle one. Every waiting task has a timer, and the event loop (kombu 5.7,
    `Hub.fire_timers`) may sleep up to a second after firing ten in a row. Celery's issue 5927, open, reports the like.
    So a careful user sleeps in the task, each process its share of the cap.
    """
    reserved = per_second * RESERVED
    urgent = Worker("urgent", reserved, "sleeping", TUNED)
    return (
        Way("defaults", f"{ONE_QUEUE}, rate_limit", (Worker("texts", per_second, "rate_limit", {}),)),
        Way("tuned", f"{ONE_QUEUE}, rate_limit; {ACKS_LATE}", (Worker("texts", per_second, "rate_limit", TUNED),)),
        Way("by hand", f"{ONE_QUEUE}, sleeping in the task", (Worker("texts", per_second, "sleeping", {}),)),
        Way(
            "by hand, tuned",
            f"{ONE_QUEUE}, sleeping in the task; {ACKS_LATE}",
            (Worker("texts", per_second, "sleeping", TUNED),),
        ),
        Way(
            "reserved",
            f"as before, and {reserved:g}/s of the cap kept for a second worker with a queue of urgent texts only",
            (Worker("texts", per_second - reserved, "sleeping", TUNED), urgent),
            urgent="urgent",
        ),
    )


def overtake(
    console: Console, *, backlog: int = BACKLOG, emergencies: int = 30, per_second: float = CAP
) -> list[Overtaking]:
    """Every way in turn, on one backlog: what a way has sent of it is filled up for the next."""
    results, seconds = [], 0.0
    with _at_work(console) as work:
        for way in ways(per_second):
            if (missing := backlog - work.waiting) > 0:
                seconds = max(seconds, work.ask("texts", 0, missing, recorded=False))
            before = work.sink.count()
            with work.workers(*way.workers):
                wait_for(work.sink, before + WARM_AFTER, 60, "Celery")
                work.ask(way.urgent, HIGHEST, 1, recorded=False)  # not measured: connections are made
                time.sleep(SETTLE)

                def say(to: str, text: str, queue: str = way.urgent) -> None:
                    work.order(queue, HIGHEST, int(to.removeprefix("+39333")), 1, text, recorded=False)

                results.append(
                    overtaking("celery", way.name, way.words, VERSIONS, (backlog, seconds), say, work.sink, emergencies)
                )
    return results


def drain(console: Console, *, people: int = 20_000) -> float:
    """People told a second: no cap, a task and a committed row for each; what is queued before does not count."""
    with _at_work(console) as work, ExitStack() as stack:
        url = stack.enter_context(postgresql(folder("celery"), None)).replace("+psycopg", "", 1)
        work.told["PEER_DATABASE"] = url
        with psycopg.connect(url, autocommit=True) as database:
            database.execute(
                "CREATE TABLE sends (id bigserial PRIMARY KEY, recipient text NOT NULL, provider_id text NOT NULL,"
                " at timestamptz NOT NULL DEFAULT now())"
            )
            work.ask("texts", 0, people, recorded=True)
            with console.status(f"celery: telling {people:,} people"), work.workers(Worker("texts", 0, "nothing", {})):
                wait_for(work.sink, people, 60 + people / 20, "Celery")
                time.sleep(1)
            rows = database.execute("SELECT count(*) FROM sends").fetchone()
        if rows != (people,):
            raise RuntimeError(f"Celery told {people} people and wrote {rows} rows: the figure would mean nothing.")
        return work.sink.received().per_s


# ── at work ─────────────────────────────────────────────────────────────────────────────────────────


class Work:
    """A broker, a sink and a producer that asks; workers come and go."""

    def __init__(self, programs: Path, told: dict[str, str], listener: Sink) -> None:
        self.told, self.sink, self._programs = told, listener, programs
        self._asked = 0
        self._producer = subprocess.Popen(
            [programs / "python", HERE / "celery_tasks.py"],
            env=os.environ | told | {"PEER_SETTINGS": "{}", "PEER_EVERY": "0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def waiting(self) -> int:
        """Texts asked for and not yet sent."""
        return self._asked - self.sink.count()

    def ask(self, queue: str, priority: int, count: int, *, recorded: bool) -> float:
        """Routine texts for so many people; seconds until Celery had taken them all in."""
        started = time.monotonic()
        for first in track(range(0, count, AT_ONCE), f"celery: taking in {count:,}", disable=count <= AT_ONCE):
            self.order(queue, priority, first, min(AT_ONCE, count - first), ROUTINE, recorded=recorded)
        return time.monotonic() - started

    def order(self, queue: str, priority: int, first: int, count: int, text: str, *, recorded: bool) -> None:
        """Come back when `apply_async` has come back for each."""
        assert self._producer.stdin and self._producer.stdout
        order = {"queue": queue, "priority": priority, "first": first, "count": count}
        self._producer.stdin.write(json.dumps(order | {"text": text, "recorded": recorded}) + "\n")
        self._producer.stdin.flush()
        if not self._producer.stdout.readline():
            raise RuntimeError("Celery's producer ended: what it said stands above.")
        self._asked += count

    @contextmanager
    def workers(self, *workers: Worker) -> Iterator[None]:
        """These, while the block lasts. That they work is seen at the sink."""
        with running("Celery", [self._server(worker) for worker in workers], ready=lambda: True):
            yield

    def _server(self, worker: Worker) -> Server:
        words = f"-A celery_tasks worker --loglevel WARNING -c {PROCESSES} -Q {worker.queue} -n {worker.queue}@peer"
        command = [str(self._programs / "celery"), *words.split()]
        told = self.told | worker.told() | {"PYTHONPATH": str(HERE)}
        return server(f"worker-{worker.queue}", command, folder("celery"), told)

    def end(self) -> None:
        """No more orders."""
        self._producer.kill()
        self._producer.communicate()


@contextmanager
def _at_work(console: Console) -> Iterator[Work]:
    programs = environment("celery", console)
    with rabbitmq(folder("celery"), None) as broker, sink() as listener:
        work = Work(programs, {"PEER_BROKER": broker, "PEER_SINK": listener.url}, listener)
        try:
            yield work
        finally:
            work.end()
