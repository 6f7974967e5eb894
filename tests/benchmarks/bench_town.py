"""Calcinaia with as many people as a question needs: every process as in service, and a sink instead of WhatsApp."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from alerting.domain.delivery import Progress as Stage
from alerting.sealing import Seal
from consumers.local.demo import Api, issue
from consumers.local.serving import free_port
from consumers.local.stack import Stack, procfile, running
from geo.shapes import Point
from tests.benchmarks import population
from tests.benchmarks.sink import Arrivals, Sink, marked, sink

Runs = dict[str, list[float]]
"""The value of each run, by figure."""

NO_CAP = 10_000.0
STALLED = 60.0
"""Seconds without one more text, after which something is broken."""
LOOK_EVERY = 0.1
PAIR_EVERY = 6.0
"""Seconds before the same person may be told again (channels.md 1.5): no drain is to measure that."""

EVENT: dict[str, Any] = {
    "kind": "evento",
    "description": "Stand, musica e caldarroste dalle 10 alle 19. Ingresso libero.",
    "areas": ["calcinaia"],
}


@dataclass(frozen=True)
class Services:
    """A broker, a PostgreSQL in which databases can be made, a folder, and where to show progress."""

    amqp: str
    postgresql: str
    where: Path
    console: Console = field(hash=False)

    def database(self, name: str) -> str:
        """The address of a new, empty database."""
        with psycopg.connect(libpq(self.postgresql), autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            connection.execute(f'CREATE DATABASE "{name}"')
        return f"{self.postgresql.rpartition('/')[0]}/{name}"

    def drop(self, name: str) -> None:
        """What it held is not needed any more."""
        with psycopg.connect(libpq(self.postgresql), autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@dataclass(frozen=True, slots=True)
class Drained:
    """One alert told to everybody: when issue was asked for, when its audience was cut (Unix time), what arrived."""

    asked: float
    cut: float
    arrivals: Arrivals

    @property
    def seconds(self) -> float:
        """From asking to the last."""
        return float(self.arrivals.at[-1]) - self.asked


@dataclass
class BenchTown:
    """A running Calcinaia, its sink, and the two people an alert needs."""

    stack: Stack
    sink: Sink
    connection: psycopg.Connection
    operator: Api
    approver: Api
    console: Console
    people: int = 0
    said: int = 0

    # ── people ──────────────────────────────────────────────────────────────────────────────────────

    def grow_to(self, people: int, point: Point = population.CAPOLUOGO) -> None:
        """Subscribe more, until there are so many."""
        seal = Seal(bytes.fromhex(self.stack.environment["ALERTING_KEY"]))
        with self.console.status(f"{people - self.people:,} people subscribe"):
            population.settle(self.connection, seal, range(self.people, people), point)
            population.settled(self.connection)
        self.people = people

    # ── alerts ──────────────────────────────────────────────────────────────────────────────────────

    def say(self, headline: str, **wording: Any) -> tuple[int, float]:
        """Issue an event to all, unless told otherwise. The number the sink knows it by; when issue was asked for."""
        self.said += 1
        return self.said, issue(
            self.operator, self.approver, EVENT | {"headline": marked(headline, self.said)} | wording
        )

    def audience(self) -> int | None:
        """How many the last alert is for, once that is known."""
        found: int | None = self._one("SELECT audience FROM dispatches ORDER BY id DESC LIMIT 1")
        return found

    def cut(self) -> float:
        """Wait until the audience of the last alert is frozen. When that was, in Unix time."""
        give_up = time.monotonic() + STALLED * 5
        while self.audience() is None:
            if time.monotonic() > give_up:
                raise RuntimeError(f"no audience after {STALLED * 5:.0f} s: see {self.stack.where}/fanout.log")
            time.sleep(0.01)
        return time.time()

    def drained(self, headline: str) -> Drained:
        """Tell everybody something, and see that everybody is told once, here and in the ledger.

        Raises RuntimeError where somebody is lost, told twice, or where nothing moves any more.
        """
        if self.said:
            time.sleep(PAIR_EVERY)
        self.sink.forget()
        _, asked = self.say(headline)
        cut: float | None = None
        with bar(self.console, headline, self.people) as shown:
            for count in self.arriving(self.people):
                shown(count)
                if cut is None and self.audience() is not None:
                    cut = time.time()
        self.finished()
        arrivals = self.sink.received()
        _everybody_once(arrivals, self.people)
        return Drained(asked, cut or float(arrivals.at[-1]), arrivals)

    def arriving(self, wanted: int) -> Iterator[int]:
        """How many texts the sink has, again and again until it has enough."""
        count, moved = 0, time.monotonic()
        while count < wanted:
            time.sleep(LOOK_EVERY)
            before, count = count, self.sink.count()
            moved = time.monotonic() if count > before else moved
            if time.monotonic() - moved > STALLED:
                raise RuntimeError(f"{count:,} of {wanted:,} texts, and no more for a minute: see {self.stack.where}")
            yield count

    def finished(self) -> None:
        """Wait until the ledger says of everybody that WhatsApp took it."""
        give_up = time.monotonic() + STALLED
        while self._one("SELECT count(*) FROM batches WHERE state <> 'done'"):
            if time.monotonic() > give_up:
                raise RuntimeError(f"batches are left in hand a minute after the last text: see {self.stack.where}")
            time.sleep(0.1)
        if other := self._one(
            "SELECT count(*) FROM deliveries WHERE dispatch_id = (SELECT max(id) FROM dispatches) AND progress <> %s",
            Stage.ACCEPTED.value,
        ):
            raise RuntimeError(f"everybody was told, and the ledger says otherwise of {other:,}")

    def allow(self, per_s: float) -> None:
        """What the account may send."""
        self.connection.execute("UPDATE provider_rates SET rate = %s, full_rate = %s", (per_s, per_s))

    def _one(self, query: str, *parameters: Any) -> Any:
        row = self.connection.execute(query, parameters).fetchone()
        return row[0] if row else None


@contextmanager
def town(
    services: Services,
    name: str,
    *,
    deliverers: int,
    people: int = 0,
    per_s: float | None = None,
    only: tuple[str, ...] = (),
) -> Iterator[BenchTown]:
    """A town of `people` with so many delivery processes (and the urgent one), or `only` some of the Procfile.

    The account may send `per_s`; the 80 of the authority's file where nothing is said.
    """
    database = services.database(f"bench_{name}")
    where = services.where / name
    port = free_port()
    stack = Stack(
        where,
        services.amqp,
        database,
        prefix=f"bench-{name}.",
        copies={"deliver-whatsapp": deliverers},
        whatsapp_port=port,
    )
    with sink(port) as listening, running(stack), psycopg.connect(libpq(database), autocommit=True) as connection:
        stack.prepare()
        # The public Telegram channel is told everything, and nobody plays Telegram here.
        connection.execute("UPDATE recipients SET left_at = now() WHERE is_channel")
        operator, approver = (
            Api(stack.api, stack.token(role, role, population.AUTHORITY)) for role in ("operator", "approver")
        )
        place = BenchTown(stack, listening, connection, operator, approver, services.console)
        if per_s:
            place.allow(per_s)
        if people:
            place.grow_to(people)
        stack.start(*(only or procfile()))
        yield place
    services.drop(f"bench_{name}")


@contextmanager
def bar(console: Console, words: str, total: float) -> Iterator[Callable[[float], None]]:
    """A progress bar, to be told how far it is."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(words, total=total)
        yield lambda done: progress.update(task, completed=min(done, total))


def _everybody_once(arrivals: Arrivals, people: int) -> None:
    told, times = np.unique(arrivals.told, return_counts=True)
    expected = np.asarray(population.numbers(range(people)), dtype=np.uint64)
    lost, strangers = np.setdiff1d(expected, told).size, np.setdiff1d(told, expected).size
    twice = int((times > 1).sum())
    if lost or strangers or twice:
        raise RuntimeError(
            f"of {people:,} people {lost:,} were lost, {twice:,} told twice; {strangers:,} were strangers"
        )


def libpq(url: str) -> str:
    """The address as libpq reads it."""
    return url.replace("postgresql+psycopg://", "postgresql://", 1)
