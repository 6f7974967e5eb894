"""A town that writes: 200 people a second join while an event goes out to 12,000, and something breaks meanwhile.

Joins come as Meta sends them: signed webhooks to the real API, spread over the five comuni, one person each. The sink
says when each was confirmed. The emergencies are those of `overtake`, measured in the quiet, while the event goes out,
and while the crowd writes as well.
"""

import asyncio
import hashlib
import hmac
import json
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np
import uvloop

from alerting.domain.delivery import Channel
from alerting.settings import Secrets
from consumers.local.stack import Stack
from tests.benchmarks.bench_town import BenchTown, Runs, Services, bar, town
from tests.benchmarks.overtake import home_of, outage_at

PEOPLE = 12_000
JOINS_PER_S = 200
SECONDS = 52
EMERGENCIES = 100
"""As many in the quiet as in the crowd, so that a p99 is not a maximum."""
EMERGENCY_EVERY = 0.5  # seconds
HOUSES = 30
"""One after the other: nobody is told twice within what the provider allows a person."""
CALLS_PER_S, TEXTS_PER_S = 500, 200
"""What a broadcast at 80 a second brings: three receipts for each text, beside whoever writes."""
CALLS_FOR = 8
UNDER_WAY = 800
"""Texts of the event before the first emergency: whoever was told first may be told again by then."""
CONFIRMED_WITHIN = 15.0
"""Seconds after the last join until everybody must have their confirmation."""
LIVE_IN = {"calcinaia": " Capoluogo"}
"""Who says nothing is told of everything in Calcinaia, and each emergency would grow by whoever has just joined."""
CONNECTIONS = 64
"""Meta posts side by side."""
JOINERS = 393480000000
ONLY = (
    "api",
    "webhooks",
    "relay",
    "fanout",
    "deliver-whatsapp",
    "deliver-urgent",
    "receipts",
    "inbound",
    "reconcile",
)
DELIVERERS = 2


def citizens(services: Services) -> Runs:
    """`reply.p50_ms`, `reply.p99_ms`: from a text to its confirmation with the provider. `webhook.p99_ms`: one call, of
    500 a second. `inbound.emergency_ratio`: the p99 of emergencies in the crowd by that in the quiet.
    """
    with town(services, "citizens", deliverers=DELIVERERS, only=ONLY) as place:
        for number in range(HOUSES):
            place.grow_to(number + 1, point=home_of(number))
        quiet = _emergencies(place)
        place.grow_to(HOUSES + PEOPLE)
        place.say("Festa della castagna")
        place.cut()
        before = place.sink.count()
        with bar(services.console, "The event sets off", UNDER_WAY) as shown:
            for count in place.arriving(before + UNDER_WAY):
                shown(count - before)
        beside_event = _emergencies(place)
        posts = joins(place.stack, JOINS_PER_S * SECONDS, JOINS_PER_S)
        with posting(place.stack.webhooks_port, posts) as posted:
            crowded = _emergencies(place)
            sent = posted()
        waits = _confirmed(place, sent)
        mixed = sorted(
            [
                *joins(place.stack, TEXTS_PER_S * CALLS_FOR, TEXTS_PER_S, first=len(posts)),
                *receipts(place.stack, _last_dispatch(place), (CALLS_PER_S - TEXTS_PER_S) * CALLS_FOR),
            ],
            key=lambda post: post.due,
        )
        with posting(place.stack.webhooks_port, mixed) as posted:
            calls = posted()
    return {
        "reply.p50_ms": [float(np.median(waits))],
        "reply.p99_ms": [_p99(waits)],
        "reply.joins_webhook_p99_ms": [_p99([call.took for call in sent])],
        "webhook.p50_ms": [float(np.median([call.took for call in calls]))],
        "webhook.p99_ms": [_p99([call.took for call in calls])],
        "inbound.emergency_quiet_p99_ms": [_p99(quiet)],
        "inbound.emergency_beside_event_p99_ms": [_p99(beside_event)],
        "inbound.emergency_p99_ms": [_p99(crowded)],
        "inbound.emergency_ratio": [_p99(crowded) / _p99(quiet)],
    }


def _p99(waits: Sequence[float]) -> float:
    return float(np.percentile(waits, 99))


# ── what is measured ────────────────────────────────────────────────────────────────────────────────


def _emergencies(place: BenchTown) -> list[float]:
    """Milliseconds from asking to issue until the sink has it, of each emergency."""
    before, asked = place.sink.count(), dict[int, float]()
    started = time.monotonic()
    with bar(place.console, "Two emergencies a second", EMERGENCIES) as shown:
        for number in range(EMERGENCIES):
            time.sleep(max(0.0, started + number * EMERGENCY_EVERY - time.monotonic()))
            mark, at = place.say("Rottura", **outage_at(home_of(number % HOUSES)))
            asked[mark] = at
            shown(number + 1)
    time.sleep(1.0)
    arrivals = place.sink.received(before)
    waits = []
    for mark, at in asked.items():
        accepted = arrivals.at[arrivals.marks == mark]
        if len(accepted) != 1:
            raise RuntimeError(f"emergency {mark} was accepted {len(accepted)} times, not once")
        waits.append(float(accepted[0] - at) * 1000)
    return waits


def _confirmed(place: BenchTown, sent: Sequence["Posted"]) -> list[float]:
    """Milliseconds from each join to its confirmation. Raises RuntimeError where somebody has none, or two."""
    give_up = time.monotonic() + CONFIRMED_WITHIN
    while True:
        arrivals = place.sink.received()
        theirs = arrivals.told >= JOINERS
        told, times = np.unique(arrivals.told[theirs], return_counts=True)
        if len(told) >= len(sent) or time.monotonic() > give_up:
            break
        time.sleep(0.5)
    at = dict(zip(arrivals.told[theirs].tolist(), arrivals.at[theirs].tolist(), strict=True))
    if len(told) != len(sent) or (times > 1).any():
        raise RuntimeError(f"of {len(sent):,} joins {len(told):,} were confirmed, {int((times > 1).sum()):,} twice")
    return [(at[call.sender] - call.at) * 1000 for call in sent]


def _last_dispatch(place: BenchTown) -> int:
    (number,) = place.connection.execute("SELECT max(id) FROM dispatches WHERE alert IS NOT NULL").fetchone() or (0,)
    return int(number)


# ── what Meta posts ─────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Post:
    """One call, `due` so many seconds after the first."""

    due: float
    sender: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class Posted:
    """One call that was made: when it was due (Unix time), and how long its answer took from then on, in ms."""

    sender: int
    at: float
    took: float


def joins(stack: Stack, count: int, per_s: float, first: int = 0) -> list[Post]:
    """So many people, one call each, in turn to each comune."""
    accounts = [
        (
            access.settings["phone_number_id"],
            access.name,
            f"{authority.keywords.join} {LIVE_IN.get(authority.code, '')}",
        )
        for authority in stack.authorities.values()
        if (access := authority.channel(Channel.WHATSAPP))
    ]
    posts = []
    for number in range(first, first + count):
        phone_number_id, account, keyword = accounts[number % len(accounts)]
        sender = JOINERS + number
        said = {"from": str(sender), "id": f"wamid.{sender}", "type": "text", "text": {"body": keyword}}
        said |= {"timestamp": str(int(time.time()))}
        due = (number - first) / per_s
        posts.append(Post(due, sender, _signed(stack, account, phone_number_id, {"messages": [said]})))
    return posts


def receipts(stack: Stack, dispatch: int, count: int) -> list[Post]:
    """So many, one call each: what became of the texts of a dispatch of Calcinaia's."""
    access = stack.authorities["calcinaia"].channel(Channel.WHATSAPP)
    assert access is not None
    posts = []
    for number in range(count):
        said = {
            "id": f"wamid.{number}",
            "status": ("sent", "delivered", "read")[number % 3],
            "timestamp": str(int(time.time())),
            "biz_opaque_callback_data": f"{dispatch}.{number // 3 + 1}.1",
        }
        raw = _signed(stack, access.name, access.settings["phone_number_id"], {"statuses": [said]})
        posts.append(Post(number / (CALLS_PER_S - TEXTS_PER_S), 0, raw))
    return posts


def _signed(stack: Stack, account: str, phone_number_id: str, value: dict[str, object]) -> bytes:
    """The whole request, as bytes on the wire."""
    said = {"messaging_product": "whatsapp", "metadata": {"phone_number_id": phone_number_id}} | value
    change = {"field": "messages", "value": said}
    body = json.dumps({"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": [change]}]}).encode()
    signature = hmac.new(_secret(stack, account).encode(), body, hashlib.sha256).hexdigest()
    head = (
        f"POST /v1/webhooks/whatsapp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"X-Hub-Signature-256: sha256={signature}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _secret(stack: Stack, account: str) -> str:
    return Secrets(json.loads((stack.where / "secrets.json").read_text())).get(account, "app_secret")


# ── the process that posts ──────────────────────────────────────────────────────────────────────────


class _Poster:
    """Everything in its time, whatever the answers take: who is late is measured from when they were due."""

    def __init__(self, port: int, posts: Sequence[Post]) -> None:
        self._port = port
        self._posts = posts
        self._done: list[Posted] = []

    async def run(self) -> list[Posted]:
        free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        for _ in range(CONNECTIONS):
            free.put_nowait(await asyncio.open_connection("127.0.0.1", self._port))
        begun, here = time.time(), time.monotonic()
        async with asyncio.TaskGroup() as calls:
            for post in self._posts:
                await asyncio.sleep(max(0.0, here + post.due - time.monotonic()))
                line = await free.get()
                calls.create_task(self._post(post, line, free, begun + post.due))
        return self._done

    async def _post(
        self,
        post: Post,
        line: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        free: "asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]]",
        at: float,
    ) -> None:
        reader, writer = line
        writer.write(post.raw)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        await reader.readexactly(length)
        if b" 200 " not in head[:16]:
            raise RuntimeError(f"a webhook was answered with {head[:80]!r}")
        self._done.append(Posted(post.sender, at, (time.time() - at) * 1000))
        free.put_nowait(line)


def _post_all(port: int, posts: Sequence[Post], results: Connection) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        results.send(runner.run(_Poster(port, posts).run()))


@contextmanager
def posting(port: int, posts: Sequence[Post]) -> Iterator["Posting"]:
    """All of these, from a process of its own; how they went once that has ended."""
    here, there = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_post_all, args=(port, posts, there), daemon=True)
    process.start()
    there.close()
    try:
        yield Posting(here)
    finally:
        process.terminate()
        process.join()


@dataclass(frozen=True)
class Posting:
    """Calls under way."""

    results: Connection

    def __call__(self) -> list[Posted]:
        """How each went, once all are answered. Raises RuntimeError where one was refused."""
        try:
            sent: list[Posted] = self.results.recv()
        except EOFError:
            raise RuntimeError("a webhook was refused, or the API went away: see its log") from None
        return sent
