"""Faults drawn from one seed and done to the real processes, while a town goes on talking.

`drawn` turns a seed into a list of faults, and is the whole of what chance decides about them. `Misfortune` does
them; `Talk` issues alerts of every lane meanwhile; `tests.end_to_end.verdict` says afterwards what was broken.
"""

import heapq
import itertools
import os
import random
import signal
import threading
import time
import urllib.error
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, assert_never

from alerting.domain.lanes import Lane
from consumers.local.private_postgresql import PrivatePostgreSQL
from consumers.local.private_rabbitmq import PrivateRabbitMQ
from consumers.local.stack import Stack, procfile
from tests.end_to_end.town import ELSEWHERE, IN_FORNACETTE, QUORUM_SETTLES, Town
from tests.end_to_end.verdict import Collapse, Record, Said, Window, repeated, undisturbed_emergencies

SEED_IN_CI = 20_110_911
DELIVERING = ("deliver-whatsapp", "deliver-whatsapp.2", "deliver-urgent")
MORTAL = (*DELIVERING, "fanout", "relay", "reconcile", "receipts", "inbound")


def seed_of_run() -> int:
    """ALERTING_FAULTS_SEED where given; in CI always the same; else a fresh one."""
    given = os.environ.get("ALERTING_FAULTS_SEED")
    if given:
        return int(given)
    return SEED_IN_CI if os.environ.get("CI") else random.SystemRandom().randrange(10**8)


# ── what can happen ─────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Killed:
    """kill -9 of processes, all at once; `down` seconds later they are started again."""

    victims: tuple[str, ...]
    down: float


@dataclass(frozen=True, slots=True)
class Paused:
    """A process that stands still for `down` seconds, as on a host that swaps, and goes on as if nothing were."""

    victim: str
    down: float


@dataclass(frozen=True, slots=True)
class BrokerKilled:
    """A power cut at RabbitMQ's, for `down` seconds."""

    down: float


@dataclass(frozen=True, slots=True)
class BrokerWiped:
    """RabbitMQ's disk is lost: everything in it, its queues too."""

    down: float


@dataclass(frozen=True, slots=True)
class DatabaseStopped:
    """PostgreSQL is away for `down` seconds."""

    down: float


@dataclass(frozen=True, slots=True)
class ProviderAils:
    """For `down` seconds a share of calls gets this answer: 503, 504 (silence), 505 (accepted, and a dead line), …

    `silent` is the share of texts accepted meanwhile of which no receipt will ever tell.
    """

    code: int
    share: float
    down: float
    silent: float = 0.0


Fault = Killed | Paused | BrokerKilled | BrokerWiped | DatabaseStopped | ProviderAils


@dataclass(frozen=True, slots=True)
class Step:
    """A fault, so many seconds after the one before."""

    after: float
    fault: Fault


def _killed(dice: random.Random) -> Fault:
    how_many = dice.choices((1, 2, 3), (80, 15, 5))[0]
    return Killed(tuple(dice.sample(MORTAL, how_many)), dice.uniform(0.0, 2.0))


def _paused(dice: random.Random) -> Fault:
    return Paused(dice.choice(MORTAL), dice.uniform(1.0, 6.0))


def _unavailable(dice: random.Random) -> Fault:
    return ProviderAils(503, dice.uniform(0.05, 0.5), dice.uniform(1.0, 4.0))


def _throttled(dice: random.Random) -> Fault:
    return ProviderAils(130429, dice.uniform(0.02, 0.1), dice.uniform(0.5, 1.5))


def _silent(dice: random.Random) -> Fault:
    return ProviderAils(504, dice.uniform(0.02, 0.1), dice.uniform(0.5, 2.0))


def _hanging_up(dice: random.Random) -> Fault:
    return ProviderAils(505, dice.uniform(0.05, 0.2), dice.uniform(1.0, 3.0))


def _hanging_up_for_good(dice: random.Random) -> Fault:
    return ProviderAils(505, dice.uniform(0.05, 0.2), dice.uniform(1.0, 3.0), silent=0.7)


DRAWS: dict[str, Callable[[random.Random], Fault]] = {
    "killed": _killed,
    "paused": _paused,
    "broker killed": lambda dice: BrokerKilled(dice.uniform(0.0, 3.0)),
    "broker wiped": lambda dice: BrokerWiped(dice.uniform(0.0, 2.0)),
    "database stopped": lambda dice: DatabaseStopped(dice.uniform(2.0, 8.0)),
    "503": _unavailable,
    "429": _throttled,
    "504": _silent,
    "505": _hanging_up,
    "505 without receipts": _hanging_up_for_good,
}

SHORT = {"killed": 16, "paused": 1, "503": 2, "505": 2}
"""What is over within half a minute after the last: claims of a dead worker last that long."""
LONG = (
    SHORT
    | {"killed": 30, "paused": 4, "broker killed": 3, "database stopped": 2}
    | {
        "429": 2,
        "504": 2,
        "505 without receipts": 2,
    }
)


def drawn(
    seed: int,
    menu: Mapping[str, int],
    *,
    kills: int,
    once: Sequence[str] = (),
    rest: tuple[float, float] = (3.0, 6.0),
) -> list[Step]:
    """Faults with these weights until so many processes and brokers were killed; each of `once` somewhere between.

    They come in bouts, with a `rest` of some seconds between; where it is longer than a fault's aftermath, an
    emergency can be seen to go its way undisturbed.
    """
    dice = random.Random(seed)
    names = list(menu)
    faults: list[Fault] = []
    while sum(map(kills_of, faults)) + len(once) < kills:
        faults.append(DRAWS[dice.choices(names, [menu[name] for name in names])[0]](dice))
    for name in once:  # not among the first: the broker must hold something when it is lost
        faults.insert(dice.randrange(len(faults) // 3, max(len(faults) * 2 // 3, 1)), DRAWS[name](dice))
    steps, left = [], 0
    for fault in faults:
        rests = left == 0
        left = dice.randrange(2, 6) if rests else left - 1
        steps.append(Step(dice.uniform(*rest) if rests else dice.uniform(0.1, 1.5), fault))
    return steps


def kills_of(fault: Fault) -> int:
    """How many kills a fault is."""
    match fault:
        case Killed(victims):
            return len(victims)
        case BrokerKilled() | BrokerWiped():
            return 1
        case Paused() | DatabaseStopped() | ProviderAils():
            return 0
        case _:
            assert_never(fault)


# ── doing it ────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Misfortune:
    """Does what was drawn, undoes it in time, and starts again what ends by itself, as systemd would.

    Only the main thread starts processes: Linux ends a child with the *thread* that made it.
    """

    stack: Stack
    broker: PrivateRabbitMQ
    database: PrivatePostgreSQL | None
    town: Town
    record: Record
    tell: Callable[[str], None]
    kills: int = 0
    _due: list[tuple[float, int, str, Callable[[], None]]] = field(default_factory=list)
    _order: "itertools.count[int]" = field(default_factory=itertools.count)
    _down: set[str] = field(default_factory=set)
    _ailing: dict[int, ProviderAils] = field(default_factory=dict)
    _broker_settled: float = 0.0

    def befalls(self, steps: Sequence[Step], going_on: Callable[[], None] = lambda: None) -> None:
        """All of them in turn. Everything works again when this returns."""
        for step in steps:
            self._wait(time.monotonic() + step.after, going_on)
            self.tell(f"+{time.time() - self.record.began:6.1f} s  {step.fault}")
            self.kills += kills_of(step.fault)
            self._do(step.fault)
        while self._due:
            self._wait(self._due[0][0], going_on)

    def watch(self) -> None:
        """Note and start again whoever ended without being killed."""
        for name, process in list(self.stack.running.items()):
            if name not in self._down and (code := process.popen.poll()) is not None:
                words = process.log.read_text(errors="replace")[-1500:]
                self.record.collapses.append(Collapse(name, time.time(), code, words))
                self.tell(f"+{time.time() - self.record.began:6.1f} s  {name} ended by itself with {code}")
                self._start(name)

    def _wait(self, until: float, going_on: Callable[[], None] = lambda: None) -> None:
        while (now := time.monotonic()) < until:
            going_on()
            while self._due and self._due[0][0] <= now:
                heapq.heappop(self._due)[3]()
            self.watch()
            time.sleep(0.05)
        while self._due and self._due[0][0] <= until:
            heapq.heappop(self._due)[3]()

    def _do(self, fault: Fault) -> None:
        window = Window(type(fault).__name__, _who(fault), time.time())
        self.record.windows.append(window)
        match fault:
            case Killed(victims, down):
                for victim in victims:
                    self._at_once(victim)
                window.start = time.time()
                for victim in victims:
                    self._down.add(victim)
                    self.stack.kill(victim)
                for victim in victims:
                    self._later(down, victim, partial(self._back, victim, window))
            case Paused(victim, down):
                self._at_once(victim)
                self.stack.running[victim].popen.send_signal(signal.SIGSTOP)
                self._later(down, victim, lambda: self._goes_on(victim, window))
            case BrokerKilled(down):
                self._when_settled()
                window.start = time.time()
                self.broker.kill()
                self._later(down, "broker", lambda: self._broker_back(window))
            case BrokerWiped(down):
                self._when_settled()
                window.start = time.time()
                self.broker.wipe()
                self._later(down, "broker", lambda: self._broker_back(window))
            case DatabaseStopped(down):
                self._at_once("database")
                assert self.database is not None, "a menu with the database in it needs one that may be stopped"
                self.database.stop()
                self._later(down, "database", lambda: self._database_back(window))
            case ProviderAils(code, _, down):
                self._at_once(f"provider {code}")
                self._ailing[code] = fault
                self._configure_provider()
                self._later(down, f"provider {code}", lambda: self._provider_well(code, window))
            case _:
                assert_never(fault)

    # ── and undoing it ──────────────────────────────────────────────────────────────────────────────

    def _later(self, down: float, what: str, undo: Callable[[], None]) -> None:
        heapq.heappush(self._due, (time.monotonic() + down, next(self._order), what, undo))

    def _at_once(self, what: str) -> None:
        """Undo now what is down already: it is to be struck again."""
        for entry in [entry for entry in self._due if entry[2] == what]:
            self._due.remove(entry)
            heapq.heapify(self._due)
            entry[3]()

    def _when_settled(self) -> None:
        self._at_once("broker")
        self._wait(self._broker_settled)

    def _back(self, victim: str, window: Window) -> None:
        self._start(victim)
        window.end = time.time()

    def _start(self, name: str) -> None:
        self.stack.running.pop(name)
        self.stack._start(name, procfile()[name.partition(".")[0]])
        self._down.discard(name)

    def _goes_on(self, victim: str, window: Window) -> None:
        self.stack.running[victim].popen.send_signal(signal.SIGCONT)
        window.end = time.time()

    def _broker_back(self, window: Window) -> None:
        self.broker.start()
        window.end = time.time()
        self._broker_settled = time.monotonic() + QUORUM_SETTLES + 5.0  # our processes pause 5 s at most between tries

    def _database_back(self, window: Window) -> None:
        assert self.database is not None
        self.database.start()
        window.end = time.time()

    def _provider_well(self, code: int, window: Window) -> None:
        self._ailing.pop(code, None)
        self._configure_provider()
        window.end = time.time()

    def _configure_provider(self) -> None:
        self.town.configure(
            faults={code: ails.share for code, ails in self._ailing.items()},
            silent=max((ails.silent for ails in self._ailing.values()), default=0.0),
        )


def _who(fault: Fault) -> tuple[str, ...]:
    match fault:
        case Killed(victims):
            return victims
        case Paused(victim):
            return (victim,)
        case BrokerKilled() | BrokerWiped():
            return ("broker",)
        case DatabaseStopped():
            return ("database",)
        case ProviderAils(code):
            return (f"provider {code}",)
        case _:
            assert_never(fault)


# ── the town goes on talking ────────────────────────────────────────────────────────────────────────

MOST_WAITING = 700
"""Texts promised and not yet accepted beyond which nothing new is said: the end has to be waited for."""


class Talk:
    """What the comune says and what citizens write, drawn from the same seed, in a thread of its own."""

    def __init__(self, town: Town, record: Record, seed: int, *, in_fornacette: int, elsewhere: int) -> None:
        self._town = town
        self._record = record
        self._dice = random.Random(seed + 1)
        self._numbers = itertools.count(1)
        self._enough = threading.Event()
        self._inside = frozenset(town.subscribe(in_fornacette, IN_FORNACETTE))
        self._everybody = self._inside | frozenset(town.subscribe(elsewhere, ELSEWHERE))
        self._operator, self._approver = town.api("operator"), town.api("approver")
        self._voice = ThreadPoolExecutor(1, "talk")
        self._talking: Future[None] | None = None

    def start(self) -> None:
        self._talking = self._voice.submit(self._run)

    def check(self) -> None:
        """Raises what ended the thread before its time."""
        if self._talking is not None and self._talking.done():
            self._talking.result()

    def end(self) -> None:
        """Say nothing more. Raises what went wrong in the thread."""
        self._enough.set()
        if self._talking is not None:
            self._talking.result(timeout=90)
        self._voice.shutdown()

    def _run(self) -> None:
        self._event()
        while not self._enough.wait(self._dice.uniform(0.5, 2.0)):
            self._record.look()
            say = self._dice.choices((self._event, self._emergency, self._citizens, self._cancel), (30, 40, 25, 12))[0]
            if say is self._cancel or self._waiting() < MOST_WAITING:
                say()

    def _waiting(self) -> int:
        """Texts of alerts in force that have not reached anybody's telephone yet."""
        reached = Counter(text.alert for text in self._record.texts if not text.is_cancel)
        in_force = (said for said in self._record.said if said.cancelled is None)
        return sum(max(0, len(said.audience) - reached[said.number]) for said in in_force)

    def _event(self) -> None:
        number = next(self._numbers)
        wording = {
            "kind": "evento",
            "headline": f"Sagra {number:03d} della nocciola",
            "description": "In piazza, dalle 10.",
            "areas": ["calcinaia"],
        }
        self._issue(Said(number, Lane.ROUTINE, self._everybody), wording)

    def _emergency(self) -> None:
        number = next(self._numbers)
        wording = {
            "kind": "interruzione-idrica",
            "headline": f"Rottura {number:03d} in via Roma",
            "description": "Manca l'acqua.",
            "areas": ["fornacette"],
        }
        self._issue(Said(number, Lane.EMERGENCY, self._inside), wording)

    def _citizens(self) -> None:
        """Strangers who ask for help: each writes once, and waits for one answer."""
        for _ in range(self._dice.randrange(1, 8)):
            number = f"+39348{next(self._numbers) * 10 + 1:07d}"
            self._town.writes(number, "Aiuto")
            self._record.wrote[number] = time.time()

    def _cancel(self) -> None:
        """Take back the newest that stands, which may still be on its way."""
        standing = [said for said in self._record.said if said.cancelled is None][-2:]
        if not standing:
            return
        said = self._dice.choice(standing)
        said.cancelled = time.time()
        path = f"/v1/alerts/{said.identifier}"
        self._insist(lambda: self._operator.post(f"{path}/cancel", {"reason": "Errore."}), path, "cancelled")

    def _issue(self, said: Said, wording: dict[str, Any]) -> None:
        expires = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() + 3 * 3600))
        whole = wording | {"authority": "calcinaia", "expires": expires}
        drafted = self._until_answered(lambda: self._operator.post("/v1/alerts", whole))
        said.identifier = str(drafted["identifier"])
        path = f"/v1/alerts/{said.identifier}"
        self._insist(lambda: self._approver.post(f"{path}/approve"), path, "approved")
        said.issued = time.time()
        self._record.said.append(said)
        self._insist(lambda: self._operator.post(f"{path}/issue"), path, "issued")

    def _insist(self, ask: Callable[[], dict[str, Any]], path: str, wanted: str) -> None:
        """Until it was done: an answer that was lost may stand for a deed that was not."""

        def ask_unless_done() -> dict[str, Any]:
            if (found := self._town.read(path))["state"] == wanted:
                return found
            return ask()

        try:
            ask()
        except (RuntimeError, OSError):
            self._until_answered(ask_unless_done)

    def _until_answered(self, ask: Callable[[], dict[str, Any]], patience: float = 60.0) -> dict[str, Any]:
        give_up = time.monotonic() + patience
        while True:
            try:
                return ask()
            except (RuntimeError, urllib.error.URLError, OSError):
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.5)


# ── from the first process to the verdict ───────────────────────────────────────────────────────────


@dataclass
class Suffering:
    """A town that works, to which things happen, and what became of it."""

    town: Town
    broker: PrivateRabbitMQ
    database: PrivatePostgreSQL | None
    seed: int
    in_fornacette: int
    elsewhere: int
    patience: float
    tell: Callable[[str], None]

    def goes_through(self, steps: Sequence[Step]) -> Record:
        """All the faults, and the time until everybody is in a final state or patience is at its end."""
        stack = self.town.stack
        record = Record(self.seed, f"{stack.whatsapp_url}/__sim/received", stack.database)
        talk = Talk(self.town, record, self.seed, in_fornacette=self.in_fornacette, elsewhere=self.elsewhere)
        misfortune = Misfortune(stack, self.broker, self.database, self.town, record, self.tell)
        talk.start()
        try:
            misfortune.befalls(steps, talk.check)
        finally:
            talk.end()
        record.quiet = time.time()
        give_up = time.monotonic() + self.patience
        while (open_ := record.still_open()) and time.monotonic() < give_up:
            misfortune.watch()
            time.sleep(0.5)
        time.sleep(1.0)  # whatever would be told twice has its chance to arrive
        record.look()
        record.unfinished = open_
        record.kills = misfortune.kills
        record.buried = _dead_letters(stack.where)
        seconds = time.time() - record.began
        self.tell(
            f"seed {self.seed}: {misfortune.kills} kills, {len(record.said)} alerts, {len(record.texts)} texts, "
            f"{undisturbed_emergencies(record)} emergencies undisturbed amid routine, "
            f"{repeated(record)} texts told twice, {seconds:.0f} s, "
            f"{time.time() - record.quiet:.0f} of them after the last fault"
        )
        return record


def _dead_letters(logs: Path) -> list[str]:
    """What was given up on: the lines of the logs."""
    return [
        f"{log.name}: {line[:400]}"
        for log in sorted(logs.glob("*.log"))
        for line in log.read_text(errors="replace").splitlines()
        if '"dead letter"' in line
    ]
