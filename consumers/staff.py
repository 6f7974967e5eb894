"""The staff are told what is amiss, once, and when it is over: best effort, beside everything, in nobody's way."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import authorities, metrics, noticing, sources
from alerting.domain.authority import Authority
from alerting.domain.notices import A_TRIAL, Answer, Ended, Staff, in_words
from alerting.domain.sources import Source
from alerting.ending import Ending, let_go
from alerting.persistence import Database
from alerting.settings import Settings
from alerting.signs import Signs, clock
from alerting.troubles import troubles
from consumers.apprising import HANGS_AFTER, Post, Reply, keep_quiet

log = structlog.get_logger()

LOOK_EVERY = 2.0  # seconds
Clock = Callable[[AsyncSession], Awaitable[datetime]]
HOLD = timedelta(seconds=HANGS_AFTER + 40)
"""How long what is claimed is ours: far longer than an attempt may last, or it would be told twice."""
FINISH_WITHIN = 5.0


class Announcing:
    """Looks at how things stand, and tells the staff."""

    def __init__(
        self,
        database: Database,
        staff: Mapping[str, Staff],
        known: Mapping[str, Authority],
        heard: Mapping[str, Source],
        post: Post,
        clock: Clock = clock,
    ) -> None:
        self._database = database
        self._staff = staff
        self._authorities = known
        self._sources = heard
        self._post = post
        self._clock = clock
        self._tellings: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.look()
                await self.tell()
            except (SQLAlchemyError, OSError) as error:
                log.warning("announcing paused", error=type(error).__name__)
            await asyncio.sleep(LOOK_EVERY)

    async def look(self) -> None:
        """Take note of what is new and of what is over."""
        async with self._database.read() as session:
            now = await self._clock(session)
            found = await troubles(session, self._authorities, self._sources, now)
            if not await noticing.is_news(session, found, now):
                return
        async with self._database.write() as session:
            await noticing.alone(session)
            now = await self._clock(session)
            found = await troubles(session, self._authorities, self._sources, now)
            await noticing.take_note(session, found, self._staff.values(), now)
            given_up = await noticing.give_up_the_stale(session, now)
        for matter in given_up:
            metrics.NOTICES.labels(str(matter), str(Ended.GIVEN_UP)).inc()
            log.error("nobody could be told in time", matter=str(matter))

    async def tell(self) -> None:
        """Begin to tell whoever is to be told; whoever hangs is not waited for."""
        async with self._database.read() as session:
            if not await noticing.is_any_due(session, await self._clock(session)):
                return
        async with self._database.write() as session:
            claims = await noticing.claim(session, self._staff, await self._clock(session), HOLD)
        for claim in claims:
            telling = asyncio.create_task(self._tell(claim), name=f"telling {claim.staff}")
            self._tellings.add(telling)
            telling.add_done_callback(self._told)

    async def finish(self, within: float) -> None:
        """Wait for what is being told; what does not end in time is told by the next process, perhaps again."""
        if self._tellings:
            await asyncio.wait(self._tellings, timeout=within)

    def _told(self, telling: asyncio.Task[None]) -> None:
        self._tellings.discard(telling)
        if not telling.cancelled() and (error := telling.exception()):
            log.error("unforeseen", task=telling.get_name(), error=type(error).__name__)

    async def _tell(self, claim: noticing.Claim) -> None:
        reply = await self._post.send(claim.staff, in_words(claim.lines))
        try:
            async with self._database.write() as session:
                ended = await noticing.record(session, claim, reply.answer, await self._clock(session))
        except (SQLAlchemyError, OSError) as error:
            log.warning("not written down; it may be told again", staff=claim.staff, error=type(error).__name__)
            return
        for matter, how in ended:
            metrics.NOTICES.labels(str(matter), str(how)).inc()
        said = log.info if reply.answer in (Answer.SENT, Answer.PARTLY) else log.warning
        said("staff", staff=claim.staff, notices=len(claim.keys), answer=str(reply.answer), why=reply.why)


async def announce(settings: Settings) -> None:
    """Until SIGTERM."""
    keep_quiet()
    known, heard = authorities.load(settings.authorities_folder), sources.load(settings.sources_folder)
    staff = staff_of(settings, known)
    for account in staff:
        if settings.secrets.find(account, "url") is None:
            log.error("the secrets file has no url: nobody is told there", staff=account)
    database, ending = Database(settings.database), Ending()
    signs = Signs("staff", database, [])
    ending.hear()
    metrics.serve(settings.metrics_host, settings.metrics_port, signs.health)
    announcing = Announcing(database, staff, known, heard, _post(settings))
    tasks = [
        asyncio.create_task(announcing.run(), name="announcing"),
        asyncio.create_task(signs.give(), name="signs of life"),
    ]
    asked = asyncio.create_task(ending.asked.wait())
    await asyncio.wait([*tasks, asked], return_when=asyncio.FIRST_COMPLETED)
    ending.ask()
    signs.drains()
    failed = [error for task in tasks if task.done() and (error := task.exception())]
    await let_go(tasks[:1])
    await announcing.finish(FINISH_WITHIN)
    await let_go([*tasks, asked])
    await signs.withdraw()
    await database.close()
    ending.close(tasks)
    if failed:
        raise failed[0]


async def try_all(settings: Settings) -> list[tuple[str, Reply]]:
    """A trial notice to everybody, and what came of it. It needs no database."""
    keep_quiet()
    accounts = list(staff_of(settings, authorities.load(settings.authorities_folder)))
    post = _post(settings)
    replies = await asyncio.gather(*(post.send(account, A_TRIAL) for account in accounts))
    return list(zip(accounts, replies, strict=True))


def staff_of(settings: Settings, known: Mapping[str, Authority]) -> dict[str, Staff]:
    """Everybody, by the account that holds their address."""
    everybody = (*settings.staff_of_all, *(one for authority in known.values() for one in authority.staff))
    return {one.account: one for one in everybody}


def _post(settings: Settings) -> Post:
    return Post(lambda account: settings.secrets.find(account, "url"))
