"""Signs of life: how a process is, for its own /status and in a table where everybody can read it."""

import asyncio
import os
import random
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial

import structlog
from sqlalchemy import delete, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import metrics
from alerting.amqp import Link
from alerting.persistence import Database, dialects
from alerting.persistence.tables import WorkerSign

log = structlog.get_logger()

SIGN_EVERY = 5.0  # seconds
LOOK_EVERY = 0.5
PATIENCE = 3.0
FAREWELL = 0.5
RETRY = 1.0
GONE_AFTER = timedelta(seconds=20)
FORGOTTEN_AFTER = timedelta(hours=24)


class State(StrEnum):
    """Where a process stands."""

    WORKING = "working"
    WAITING = "waiting"
    DRAINING = "draining"


class Need(StrEnum):
    """What no process here can work without."""

    BROKER = "broker"
    DATABASE = "database"


@dataclass(frozen=True, slots=True)
class Condition:
    """Whether one need is met, and since when it is so."""

    need: Need
    met: bool
    since: datetime


@dataclass(frozen=True, slots=True)
class Standing:
    """How a process is, since when, and what it waits for."""

    state: State
    waits_for: tuple[Need, ...]
    since: datetime


def standing(conditions: Sequence[Condition], draining_since: datetime | None) -> Standing:
    """It works once the last of its needs is met, and waits from the first that is not."""
    unmet = [condition for condition in conditions if not condition.met]
    waits_for = tuple(dict.fromkeys(condition.need for condition in unmet))
    if draining_since is not None:
        return Standing(State.DRAINING, waits_for, draining_since)
    if unmet:
        return Standing(State.WAITING, waits_for, min(condition.since for condition in unmet))
    return Standing(State.WORKING, (), max(condition.since for condition in conditions))


class Signs:
    """What one process says of itself."""

    def __init__(self, role: str, database: Database, links: Sequence[Link]) -> None:
        self._role = role
        self._name = f"{socket.gethostname()[:60]}:{os.getpid()}:{role}"[:120]
        self._database = database
        self._links = links
        self._database_there = False
        self._database_since = datetime.now(UTC)
        self._draining_since: datetime | None = None
        for need in Need:
            metrics.WORKER_WAITS.labels(role, str(need)).set_function(partial(self._waits_for, need))

    def now(self) -> Standing:
        """How it is. Called from other threads too."""
        return self._with(Condition(Need.DATABASE, self._database_there, self._database_since))

    def _with(self, database: Condition) -> Standing:
        links = [Condition(Need.BROKER, link.is_of_use, link.since) for link in self._links]
        return standing([*links, database], self._draining_since)

    def _waits_for(self, need: Need) -> float:
        return float(need in self.now().waits_for)

    def health(self) -> tuple[bool, dict[str, object]]:
        """Whether it works, and what /status says."""
        now = self.now()
        return now.state is State.WORKING, {
            "worker": self._role,
            "state": now.state,
            "waits_for": now.waits_for,
            "since": now.since.isoformat(timespec="milliseconds"),
        }

    def drains(self) -> None:
        """It takes no more, and ends."""
        self._draining_since = self._draining_since or datetime.now(UTC)

    def lacks_database(self, error: Exception) -> None:
        """Somebody could not reach the database. It counts as there again with the next sign that is written."""
        if self._database_there:
            self._database_there, self._database_since = False, datetime.now(UTC)
            log.warning("waiting for the database", worker=self._role, error=type(error).__name__)

    async def give(self) -> None:
        """Every few seconds, and whenever something changes, until cancelled."""
        written: Standing | None = None
        while True:
            if await self._write():
                written, waited = self.now(), 0.0
                while waited < SIGN_EVERY and self.now() == written:
                    await asyncio.sleep(LOOK_EVERY)
                    waited += LOOK_EVERY
            else:
                await asyncio.sleep(RETRY * random.uniform(0.5, 1.5))

    async def until_database(self) -> None:
        """Returns when the database answers. Tries for as long as it takes."""
        first = True
        while not await self._write():
            if first:
                log.warning("waiting for the database", worker=self._role)
                first = False
            await asyncio.sleep(RETRY * random.uniform(0.5, 1.5))

    async def withdraw(self) -> None:
        """It ends as it should: nobody need look for it. Where that cannot be written it will count as gone."""
        try:
            async with asyncio.timeout(FAREWELL), self._database.write(durable=False) as session:
                await session.execute(delete(WorkerSign).where(WorkerSign.name == self._name))
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            log.warning("ended without a farewell", worker=self._role, error=type(error).__name__)

    async def _write(self) -> bool:
        try:
            async with asyncio.timeout(PATIENCE), self._database.write(durable=False) as session:
                since = self._database_since if self._database_there else datetime.now(UTC)
                await _sign(session, self._name, self._role, self._with(Condition(Need.DATABASE, True, since)))
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            self.lacks_database(error)
            return False
        if not self._database_there:
            self._database_there, self._database_since = True, since
        return True


async def _sign(session: AsyncSession, name: str, role: str, now: Standing) -> None:
    seen_at = await clock(session)
    await session.merge(
        WorkerSign(
            name=name,
            role=role,
            state=str(now.state),
            waits_for=",".join(now.waits_for) or None,
            since=now.since,
            seen_at=seen_at,
        )
    )
    await session.execute(delete(WorkerSign).where(WorkerSign.seen_at < seen_at - FORGOTTEN_AFTER))


async def clock(session: AsyncSession) -> datetime:
    """The database's: those of two hosts may be apart. A SQLite file has the clock of its machine."""
    if not dialects.is_postgresql(session):
        return datetime.now(UTC)
    now: datetime = (await session.scalars(select(func.clock_timestamp()))).one()
    return now


async def everybody(session: AsyncSession) -> list[tuple[WorkerSign, timedelta]]:
    """Who gave a sign in the last 24 hours and did not end as it should, and how long ago the last one was."""
    now = await clock(session)
    signs = await session.scalars(
        select(WorkerSign).where(WorkerSign.seen_at >= now - FORGOTTEN_AFTER).order_by(WorkerSign.role, WorkerSign.name)
    )
    return [(sign, max(timedelta(0), now - sign.seen_at)) for sign in signs]
