"""A queue of market days, and someone who must hear that the embankment gives way: how long does it take?"""

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count

import aiohttp
import numpy as np
from rich.progress import Progress, track

from tests.benchmarks.sink import Sink, marked

CAP = 80.0
"""Texts a second that the provider takes of us: WhatsApp's for a number."""
EVERY = 1.0  # seconds between two emergencies
PATIENCE = 60.0  # seconds after the last of them
ROUTINE = "Domenica mercato in piazza a Fornacette: divieto di sosta dalle 6 alle 14."
EMERGENCY = "Evacuare. Argine a rischio a Fornacette, salire ai piani alti."
_MARKS = count(1)
"""No two alike in a run: one that a peer holds back may come out while the next way is measured."""
AT_ONCE = 16  # requests under way while a gateway takes the backlog in


@dataclass(frozen=True, slots=True)
class Overtaking:
    """One peer, set up in one way, with a backlog before it and emergencies behind it.

    `delays_ms` runs from *issued* to *accepted*. An emergency that had not arrived when our patience ended stands
    there with the time waited so far, a lower bound; `still_waiting` says how many these are. `behind` are the
    routine texts accepted meanwhile, `per_s` all texts accepted a second between the first and the last emergency.
    """

    peer: str
    way: str
    settings: str
    versions: dict[str, str]
    backlog: int
    took_in_s: float
    delays_ms: list[float]
    behind: list[int]
    still_waiting: int
    per_s: float

    def at(self, share: float) -> float:
        """The delay in milliseconds that this share of the emergencies did not exceed."""
        return float(np.quantile(self.delays_ms, share, method="higher"))


def person(number: int) -> str:
    """A mobile number that nobody has."""
    return f"+39333{number:07d}"


def overtaking(
    peer: str,
    way: str,
    settings: str,
    versions: dict[str, str],
    backlog: tuple[int, float],
    say: Callable[[str, str], None],
    sink: Sink,
    emergencies: int,
) -> Overtaking:
    """Say one emergency in each second by `say(number, text)`, and see when each arrives.

    At any moment of its second: a gateway that counts whole seconds must not meet them all at the same one.

    `backlog` is how many texts wait, and the seconds in which the peer took them in.
    """
    before = sink.count()
    issued = []
    start, moment = time.time(), random.Random(peer)
    marks = [next(_MARKS) for _ in range(emergencies)]
    for number, mark in enumerate(track(marks, f"{peer} {way}: one emergency a second")):
        time.sleep(max(0.0, start + (number + moment.random()) * EVERY - time.time()))
        issued.append(time.time())
        say(person(mark), marked(EMERGENCY, mark))
    accepted = _accepted(sink, before, marks)
    gave_up = time.time()
    ends = [accepted.get(mark, gave_up) for mark in marks]
    seen = sink.received(before)
    routine, window = seen.at[seen.marks == 0], (seen.at >= issued[0]) & (seen.at <= issued[-1])
    return Overtaking(
        peer,
        way,
        settings,
        versions,
        *backlog,
        delays_ms=[(end - at) * 1000 for at, end in zip(issued, ends, strict=True)],
        behind=[int(((routine > at) & (routine < end)).sum()) for at, end in zip(issued, ends, strict=True)],
        still_waiting=emergencies - len(accepted),
        per_s=float(window.sum()) / max(EVERY, issued[-1] - issued[0]),
    )


def _accepted(sink: Sink, before: int, marks: list[int]) -> dict[int, float]:
    """When each of these arrived, once all have or patience ends."""
    give_up = time.monotonic() + PATIENCE
    while True:
        seen = sink.received(before)
        here = {int(mark): float(at) for at, mark in zip(seen.at, seen.marks, strict=True) if mark in marks}
        if len(here) == len(marks) or time.monotonic() > give_up:
            return here
        time.sleep(0.5)


def wait_for(sink: Sink, texts: int, seconds: float, what: str) -> None:
    """Return when the sink has taken so many texts. Raises TimeoutError."""
    give_up = time.monotonic() + seconds
    while sink.count() < texts:
        if time.monotonic() > give_up:
            raise TimeoutError(
                f"{what}: {texts} texts should have arrived within {seconds:g} s, {sink.count()} have. "
                "Its logs are under var/peers."
            )
        time.sleep(0.05)


# ── taking in, over HTTP ────────────────────────────────────────────────────────────────────────────


def take_in(peer: str, backlog: int, url: Callable[[str, str], str]) -> float:
    """Ask a gateway by GET of `url(number, text)` to tell so many people; seconds until it had said yes to all."""
    started = time.monotonic()
    with Progress() as shown:
        numbers = shown.track(range(backlog), description=f"{peer}: taking in {backlog:,}")
        asyncio.run(_ask(url(person(number), ROUTINE) for number in numbers))
    return time.monotonic() - started


async def _ask(urls: Iterable[str]) -> None:
    waiting: Iterator[str] = iter(urls)
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:

        async def one_after_another() -> None:
            for url in waiting:
                async with session.get(url) as answer:
                    answer.raise_for_status()

        async with asyncio.TaskGroup() as hands:
            for _ in range(AT_ONCE):
                hands.create_task(one_after_another())
