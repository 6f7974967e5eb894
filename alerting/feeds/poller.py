"""Sources asked when it is time, each by a task of its own: one that hangs delays no other, and silence is an alarm."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import assert_never

import aiohttp
import structlog
from sqlalchemy import text, update
from sqlalchemy.exc import SQLAlchemyError

from alerting import metrics, signs
from alerting.domain.sources import Polling, Source
from alerting.feeds import rounds
from alerting.feeds.fetching import session
from alerting.feeds.rounds import Outcome, Round, Take
from alerting.feeds.silence import silent
from alerting.persistence import Database
from alerting.persistence.tables import Feed

log = structlog.get_logger()

Alarm = Callable[[Source, str | None], Awaitable[None]]
"""Told when a source falls silent, with a sentence for the operator on duty, and when it speaks again, with None."""

LOOK_EVERY = timedelta(seconds=20)
"""How often a process looks whether another has asked, and how that went."""
PAUSE_AFTER_TROUBLE = timedelta(seconds=2)
SOONEST = timedelta(seconds=15)
LATEST = timedelta(minutes=15)
"""After a failure: 15 s, then twice as long each time, up to this."""
CLAIM = timedelta(minutes=5)
"""How long one process may work at what a source said. After that it must be dead, and another takes its place."""
PATIENCE_WITH_ALARM = timedelta(seconds=20)
FAREWELL = timedelta(seconds=1)
SENTENCE = 500


class Poller:
    """Asks the sources that are enabled and have an address. Several processes may do so: each round is claimed."""

    def __init__(self, database: Database, sources: Iterable[Source], take: Take, alarm: Alarm) -> None:
        self._database = database
        self._sources = [(source, source.polling) for source in sources if source.enabled and source.polling]
        self._take = take
        self._alarm = alarm

    async def run(self) -> None:
        """Until cancelled. A document in hand is then taken again by whoever asks next."""
        async with session(private=False) as public, session(private=True) as private, asyncio.TaskGroup() as group:
            for source, polling in self._sources:
                client = private if polling.private else public
                group.create_task(self._keep_asking(source, polling, client), name=f"poll {source.name}")
            await asyncio.Event().wait()  # with nobody to ask, too: the process stays and shows that it lives

    async def _keep_asking(self, source: Source, polling: Polling, client: aiohttp.ClientSession) -> None:
        for outcome in Outcome:
            metrics.FEED_POLLS.labels(source.name, outcome)
        while True:
            try:
                wait = await self.ask_if_due(source, polling, client)
            except (SQLAlchemyError, OSError) as error:
                log.warning("waiting for the database", source=source.name, error=type(error).__name__)
                wait = PAUSE_AFTER_TROUBLE
            await asyncio.sleep(wait.total_seconds() * random.uniform(1.0, 1.1))

    async def ask_if_due(self, source: Source, polling: Polling, client: aiohttp.ClientSession) -> timedelta:
        """One round, if it is time for one and nobody else is at it. Returns when to look again."""
        feed, now = await self._standing(source)
        if feed is None or feed.next_at <= now:
            claimed = await self._claim(source)
            if claimed is None:
                return PAUSE_AFTER_TROUBLE  # another process was quicker
            round = await self._round(source, polling, client, claimed)
            feed = await self._record(source, polling, claimed, round)
        _show(source, feed)
        return min(timedelta(seconds=max(0.0, feed.next_at - now)), LOOK_EVERY)

    async def _round(self, source: Source, polling: Polling, client: aiohttp.ClientSession, feed: Feed) -> Round:
        try:
            return await rounds.ask(source, polling, client, feed, self._take)
        except asyncio.CancelledError:
            await self._give_back(source, feed)
            raise
        except Exception as error:  # the unforeseen in one source: it is asked again, later and later
            log.exception("unforeseen", source=source.name)
            return Round(Outcome.FAILED, f"something unforeseen: {type(error).__name__}")

    # ── whose turn it is ────────────────────────────────────────────────────────────────────────────

    async def _standing(self, source: Source) -> tuple[Feed | None, float]:
        """How it stands with the source, None if it was never asked; and the time, by the database's clock."""
        async with self._database.read() as session:
            return await session.get(Feed, source.name), (await signs.clock(session)).timestamp()

    async def _claim(self, source: Source) -> Feed | None:
        """The source for this process alone, for a while; None if another has it."""
        async with self._database.write() as session:
            now = (await signs.clock(session)).timestamp()
            await session.execute(_ENLIST, {"source": source.name})
            claim = (
                update(Feed)
                .where(Feed.source == source.name, Feed.next_at <= now)
                .values(next_at=now + CLAIM.total_seconds(), asked_at=now)
                .returning(Feed.source)
            )
            ours = (await session.execute(claim)).first()
            return await session.get_one(Feed, source.name, populate_existing=True) if ours else None

    async def _give_back(self, source: Source, feed: Feed) -> None:
        """This process ends: the next need not wait for the claim to run out."""
        ours = (Feed.source == source.name, Feed.asked_at == feed.asked_at)
        try:
            async with asyncio.timeout(FAREWELL.total_seconds()), self._database.write() as session:
                await session.execute(update(Feed).where(*ours).values(next_at=feed.asked_at))
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            log.warning("claim not given back", source=source.name, error=type(error).__name__)

    async def _record(self, source: Source, polling: Polling, feed: Feed, round: Round) -> Feed:
        """Write down what came of it, unless the claim has run out and another process is at it."""
        metrics.FEED_POLLS.labels(source.name, round.outcome).inc()
        if round.trouble:
            log.warning("feed", source=source.name, outcome=round.outcome, trouble=round.trouble)
        async with self._database.write() as session:
            now = (await signs.clock(session)).timestamp()
            values = _values(feed, polling, round, now)
            ours = (Feed.source == source.name, Feed.asked_at == feed.asked_at)
            await session.execute(update(Feed).where(*ours).values(values))
            feed = await session.get_one(Feed, source.name, populate_existing=True)
        await self._sound(source, feed, datetime.fromtimestamp(now, UTC))
        return feed

    async def _sound(self, source: Source, feed: Feed, now: datetime) -> None:
        """Tell of a silence that begins or ends. It is written down afterwards: rather told twice than never."""
        sentence = silent(source, feed, now)
        if (sentence is None) == (feed.silent_since is None):
            return
        try:
            async with asyncio.timeout(PATIENCE_WITH_ALARM.total_seconds()):
                await self._alarm(source, sentence)
        except Exception:  # whatever the alarm lacks, it is raised again after the next round
            log.exception("alarm not raised", source=source.name)
            return
        feed.silent_since = now if sentence else None
        async with self._database.write() as session:
            await session.execute(update(Feed).where(Feed.source == source.name).values(silent_since=feed.silent_since))


_ENLIST = text(
    """INSERT INTO feeds (source, next_at, asked_at, etag, last_modified, sha256, failures, trouble, seen)
       VALUES (:source, 0, 0, '', '', '', 0, '', '{}') ON CONFLICT DO NOTHING"""
)


def _values(feed: Feed, polling: Polling, round: Round, now: float) -> dict[str, object]:
    """The row after a round."""
    failures = feed.failures + 1 if round.outcome in {Outcome.FAILED, Outcome.PARTLY} else 0
    wait = rest_after(round, failures, polling.every, random.random())
    values: dict[str, object] = {
        "next_at": now + wait.total_seconds(),
        "failures": failures,
        "trouble": round.trouble[:SENTENCE],
    }
    if round.outcome is Outcome.FAILED:
        return values
    values |= {
        "answered_at": now,
        "etag": round.validators.etag,
        "last_modified": round.validators.last_modified,
        "sha256": round.sha256,
        "seen": dict(round.seen),
    }
    if round.outcome is Outcome.CHANGED:
        values["changed_at"] = now
    return values


def _show(source: Source, feed: Feed) -> None:
    """The figures of a source, whichever process asked it."""
    metrics.FEED_SILENT.labels(source.name).set(feed.silent_since is not None)
    if feed.answered_at is not None:
        metrics.FEED_ANSWERED.labels(source.name).set(feed.answered_at)


# ── decisions ───────────────────────────────────────────────────────────────────────────────────────


def rest_after(round: Round, failures: int, every: timedelta, share: float) -> timedelta:
    """How long to leave a source alone after a round, and so many `failures` in a row.

    `share`, from 0 to 1 and another each time, keeps many from asking at once. Never less than it asks for itself.
    """
    period = every * (0.95 + 0.1 * share)
    doubled: timedelta = min(SOONEST * (1 << min(failures, 10)) / 2, LATEST)
    later = doubled * (0.5 + 0.5 * share)
    match round.outcome:
        case Outcome.CHANGED | Outcome.UNCHANGED:
            wait = min(SOONEST, period) if round.more else period
        case Outcome.PARTLY:
            wait = min(later, period)
        case Outcome.FAILED:
            wait = later
        case unknown:
            assert_never(unknown)
    return max(wait, (round.rest or timedelta(0)) * (1 + 0.1 * share))
