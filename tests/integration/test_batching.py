"""Batches follow one another to their end, whoever ends or leaves one at the same moment."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from sqlalchemy import select, text

from alerting import batching, wire
from alerting.amqp import Incoming, Publisher
from alerting.domain.delivery import Progress
from alerting.domain.events import BatchReady
from alerting.persistence import ledger, tables
from consumers.channel import Account, Secret, Text
from consumers.line import Errand, Held, Line
from consumers.pacing import Pacer
from consumers.recording import Recorder
from tests.integration.engine import COMUNE, WHATSAPP, Town, until

ONE_KIND = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
LATER = datetime.now(UTC) + timedelta(hours=1)


async def told_of(town: Town, people: int) -> tuple[int, list[BatchReady]]:
    """A dispatch to so many people, and its batches as the broker was told of them."""
    dispatch = await town.issued_and_fanned_out(people)
    await town.run("DELETE FROM outbox")
    return dispatch, [batching.ready(row, LATER) for row in await town.batches(dispatch)]


async def states(town: Town, dispatch: int) -> list[tuple[str, int]]:
    return [(row.state, row.told) for row in await town.batches(dispatch)]


async def promised(town: Town) -> list[BatchReady]:
    return [cast(BatchReady, wire.decode(row.body)) for row in await town.outbox()]


async def leave_waiting(town: Town, batch: BatchReady) -> None:
    async with town.database.write() as session:
        await batching.untell(session, batch)


async def finish(town: Town, batch: BatchReady) -> None:
    async with town.database.write() as session:
        await batching.finish(session, batch)


async def is_blocked(town: Town) -> bool:
    """Whether somebody waits for a lock in this database."""
    blocked = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    async with town.database.read() as session:
        return bool(await session.scalar(blocked))


async def beside(town: Town, doing: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Begin something while a transaction is open; back when it has ended, or waits for what that one has locked."""
    task = asyncio.create_task(doing)

    async def stands() -> bool:
        return task.done() or await is_blocked(town)

    await until(stands)
    return task


# ── left to wait ────────────────────────────────────────────────────────────────────────────────────


async def test_a_batch_left_waiting_follows_the_next_that_ends(town: Town) -> None:
    dispatch, (first, second) = await told_of(town, 150)
    await leave_waiting(town, second)
    assert await states(town, dispatch) == [("told", 1), ("waiting", 1)]
    assert await promised(town) == []
    await finish(town, first)
    assert await states(town, dispatch) == [("done", 1), ("told", 2)]
    assert [batch.batch for batch in await promised(town)] == [second.batch]


async def test_a_batch_left_waiting_after_the_last_other_has_ended_is_told_again_at_once(town: Town) -> None:
    dispatch, (first, second) = await told_of(town, 150)
    await finish(town, first)
    await leave_waiting(town, second)
    assert await states(town, dispatch) == [("done", 1), ("told", 2)]
    assert [(batch.batch, batch.told) for batch in await promised(town)] == [(second.batch, 2)]


@ONE_KIND
async def test_the_last_other_may_end_while_a_batch_is_left_waiting(town: Town) -> None:
    dispatch, (first, second) = await told_of(town, 150)
    async with town.database.write() as session:
        await batching.finish(session, first)
        leaving = await beside(town, leave_waiting(town, second))
    await leaving
    assert await states(town, dispatch) == [("done", 1), ("told", 2)]


@ONE_KIND
async def test_a_batch_may_be_left_waiting_while_the_last_other_ends(town: Town) -> None:
    dispatch, (first, second) = await told_of(town, 150)
    async with town.database.write() as session:
        await batching.untell(session, second)
        ending = await beside(town, finish(town, first))
    await ending
    assert await states(town, dispatch) == [("done", 1), ("told", 2)]


async def test_a_batch_given_twice_is_no_other_batch_for_itself_to_wait_for(town: Town) -> None:
    _, (first, second) = await told_of(town, 150)
    line = Line(WHATSAPP, town.database, Pacer(town.database), cast(Any, None), cast(Any, None))  # not started
    line.take(in_hand(first))
    assert line.has(second)
    assert not line.has(first), "left waiting, with no other told, it would be told again and come back, and again"


# ── recorded together ───────────────────────────────────────────────────────────────────────────────


@dataclass
class Given:
    """A message from RabbitMQ, and whether it was acknowledged."""

    fate: list[str] = field(default_factory=list)

    def ack(self) -> None:
        self.fate.append("acknowledged")


def in_hand(batch: BatchReady, *, exhausted: bool = False) -> Held:
    account = Account(WHATSAPP, COMUNE, batch.channel, "", Secret(""), {}, WHATSAPP)
    return Held(cast(Incoming, Given()), batch, account, Text("Evacuare."), LATER, 0.0, exhausted=exhausted)


@ONE_KIND
async def test_a_group_locks_its_dispatches_in_one_order_whatever_came_first(town: Town) -> None:
    older, [ended] = await told_of(town, 1)
    newer, [begun] = await told_of(town, 1)
    await town.run("UPDATE deliveries SET progress = :p WHERE dispatch_id = :d", p=Progress.ACCEPTED.value, d=older)
    recorder = Recorder(town.database, cast(Publisher, None), town.seal, "")  # nothing of it is put to rest
    of_newer, of_older = in_hand(begun), in_hand(ended, exhausted=True)
    of_newer.unrecorded = 1
    recorder.give_back(Errand(of_newer, ledger.Claimed(1, 1, 1, None, again=False), 0.0))
    recorder.spent(of_older)
    async with town.database.write() as session:
        await batching.hold(session, older)
        writing = await beside(town, recorder.flush())
        assert not writing.done()
        free = select(tables.Dispatch).where(tables.Dispatch.id == newer).with_for_update(nowait=True)
        assert (await session.scalars(free)).one(), "it would wait for the older with the newer locked"
    await writing
    assert cast(Given, of_older.message).fate == ["acknowledged"]
    assert await states(town, older) == [("done", 1)]
