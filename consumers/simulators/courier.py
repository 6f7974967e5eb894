"""Carries a provider's events to our webhook: bounded at once, again with growing waits, counting losses."""

import asyncio
import heapq
import itertools
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Generic, TypeVar

from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar

Event = TypeVar("Event")


@dataclass(frozen=True, slots=True)
class Parcel:
    """One POST to a webhook."""

    url: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Tally:
    """How the posts went. `waiting` counts events not yet packed, `travelling` posts without a 2xx."""

    posted: int = 0
    repeated: int = 0
    lost: int = 0
    waiting: int = 0
    travelling: int = 0


class Courier(Generic[Event]):
    """Events wait for their time, are packed when due, and travel until a 2xx or until patience is out.

    `pack` makes the posts of some events; `waits` are the seconds before each repetition, after which a
    parcel is lost. A `Retry-After` of the webhook is honoured where `heed_retry_after`, as Telegram does. `heard` is
    told what each webhook answered, as status and body; 0 where the line failed.
    """

    def __init__(
        self,
        pack: Callable[[list[Event]], Iterable[Parcel]],
        *,
        waits: tuple[float, ...],
        at_once: int,
        per_parcel: int,
        heed_retry_after: bool = False,
        heard: Callable[[Parcel, int, bytes], None] | None = None,
    ) -> None:
        self._pack = pack
        self._waits = waits
        self._per_parcel = per_parcel
        self._heed = heed_retry_after
        self._heard = heard
        self._slots = asyncio.Semaphore(at_once)
        self._due: list[tuple[float, int, Event]] = []
        self._order = itertools.count()
        self._woken = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._session = ClientSession(timeout=ClientTimeout(total=10), cookie_jar=DummyCookieJar())
        self._posts: set[asyncio.Task[None]] = set()
        self._tally = Tally()
        self._runner = asyncio.create_task(self._run())

    def carry(self, event: Event, *, after: float = 0.0) -> None:
        """Take an event to be told in `after` seconds."""
        due = self._loop.time() + after
        heapq.heappush(self._due, (due, next(self._order), event))
        if self._due[0][0] >= due:
            self._woken.set()  # it goes before all that the runner knows of

    def forget(self) -> None:
        """Drop what waits and what travels, and count from zero."""
        self._due.clear()
        for post in self._posts:
            post.cancel()
        self._tally = Tally()

    def tally(self) -> dict[str, int]:
        """How the posts went so far."""
        self._tally.waiting, self._tally.travelling = len(self._due), len(self._posts)
        return asdict(self._tally)

    async def close(self) -> None:
        """Stop carrying; what waits is dropped."""
        self._runner.cancel()
        self.forget()
        await asyncio.gather(self._runner, *self._posts, return_exceptions=True)
        await self._session.close()

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            wait = self._due[0][0] - self._loop.time() if self._due else None
            if wait is None or wait > 0:
                await self._sleep(wait)
                continue
            await self._slots.acquire()
            self._post_what_is_due()

    async def _sleep(self, wait: float | None) -> None:
        try:
            async with asyncio.timeout(wait):
                await self._woken.wait()
        except TimeoutError:
            return  # the first event is due

    def _post_what_is_due(self) -> None:
        now = self._loop.time()
        events: list[Event] = []
        while self._due and self._due[0][0] <= now and len(events) < self._per_parcel:
            events.append(heapq.heappop(self._due)[2])
        post = asyncio.create_task(self._deliver(list(self._pack(events))))
        self._posts.add(post)
        post.add_done_callback(self._done)

    def _done(self, post: asyncio.Task[None]) -> None:
        self._posts.discard(post)
        self._slots.release()

    async def _deliver(self, parcels: list[Parcel]) -> None:
        for parcel in parcels:
            for wait in (*self._waits, None):
                taken, asked = await self._post(parcel)
                if taken:
                    self._tally.posted += 1
                    break
                if wait is None:
                    self._tally.lost += 1
                    break
                self._tally.repeated += 1
                await asyncio.sleep(asked or wait)

    async def _post(self, parcel: Parcel) -> tuple[bool, float | None]:
        """Whether a 2xx came back, and else how long the webhook asks to be left alone."""
        try:
            async with self._session.post(parcel.url, data=parcel.body, headers=parcel.headers) as response:
                asked = response.headers.get("Retry-After", "")
                wait = min(float(asked), 3600.0) if self._heed and asked.isdigit() else None
                if self._heard is not None:
                    self._heard(parcel, response.status, await response.read())
                return 200 <= response.status < 300, wait
        except (ClientError, TimeoutError, OSError):
            if self._heard is not None:
                self._heard(parcel, 0, b"")
            return False, None
