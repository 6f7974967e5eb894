"""The process that asks: it hands what sources answer to the intake, and their silence to whoever is on duty."""

import asyncio
from datetime import UTC, datetime

from alerting import atlas, authorities, metrics, paging, signatures, sources
from alerting.domain.intake import CameBy
from alerting.domain.sources import Source
from alerting.ending import Ending, let_go
from alerting.feeds.poller import Poller
from alerting.intake.receiving import Receiver
from alerting.persistence import Database
from alerting.settings import Settings
from alerting.signs import Signs


async def ask_sources(settings: Settings) -> None:
    """Until SIGTERM. A document in hand is taken again by whoever asks next."""
    known, heard = authorities.load(settings.authorities_folder), sources.load(settings.sources_folder)
    database, ending = Database(settings.database), Ending()
    signs = Signs("feeds", database, [])
    receiver = Receiver(database, known, heard, signatures.of(settings, known))
    ending.hear()
    metrics.serve(settings.metrics_host, settings.metrics_port, signs.health)

    async def take(source: Source, raw: bytes, media_type: str) -> None:
        await receiver.take(source, raw, media_type, CameBy.POLL)

    async def alarm(source: Source, sentence: str | None) -> None:
        await tell_duty(database, source, sentence, datetime.now(UTC))

    tasks = [
        asyncio.create_task(Poller(database, heard.values(), take, alarm).run(), name="polling"),
        asyncio.create_task(atlas.follow(database, known), name="following the atlas"),
        asyncio.create_task(signs.give(), name="signs of life"),
    ]
    asked = asyncio.create_task(ending.asked.wait())
    await asyncio.wait([*tasks, asked], return_when=asyncio.FIRST_COMPLETED)
    ending.ask()
    signs.drains()
    failed = [error for task in tasks if task.done() and (error := task.exception())]
    await let_go([*tasks, asked])
    await signs.withdraw()
    await database.close()
    ending.close(tasks)
    if failed:
        raise failed[0]


async def tell_duty(database: Database, source: Source, sentence: str | None, now: datetime) -> None:
    """A source has fallen silent, as the sentence says; without one it speaks again, and nobody need look."""
    about = f"source {source.name}"
    async with database.write() as session:
        if sentence is None:
            await paging.close(session, about, source.name, now)
        else:
            await paging.call(session, about, f"{source.title}: {sentence}", now)
