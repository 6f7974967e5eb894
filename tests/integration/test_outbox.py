"""What was promised in a transaction is told afterwards: each lane by itself, never twice in silence."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert, text
from sqlalchemy.exc import DBAPIError

from alerting import outbox, wire
from alerting.amqp import BrokerAway, Consumer, Incoming, Link, Publisher
from alerting.domain.delivery import Progress
from alerting.domain.events import AlertIssued, ReceiptCame
from alerting.domain.lanes import Lane
from alerting.outbox import Relay, addressed, depth
from alerting.persistence import Database, tables
from alerting.topology import fanout_queue
from tests.integration.engine import Town, connected, get_one, until

NOW = datetime.now(UTC)


def issued(dispatch: int, lane: Lane = Lane.EMERGENCY) -> AlertIssued:
    return AlertIssued(
        f"calcinaia-{dispatch}", dispatch, "calcinaia", lane, "Met", "Alert", NOW, NOW + timedelta(hours=1)
    )


async def promise(town: Town, *dispatches: int, lane: Lane = Lane.EMERGENCY) -> None:
    async with town.database.write() as session:
        await outbox.add(session, *(issued(dispatch, lane) for dispatch in dispatches), lane=lane)


async def taken(link: Link, prefix: str, lane: Lane, people: int) -> list[dict[str, Any]]:
    """The headers of so many messages for the fan-out of a lane."""
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(60):
        while len(found) < people:
            one = await get_one(link, prefix + fanout_queue(lane))
            if one is None:
                await asyncio.sleep(0.02)
            else:
                found.append(one[1])
    return found


@contextlib.asynccontextmanager
async def relaying(town: Town, link: Link, prefix: str) -> AsyncIterator[None]:
    task = asyncio.create_task(outbox.relay(town.database, link, prefix))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_row_is_told_as_it_was_promised_and_gone_once_confirmed(
    town: Town, amqp_url: str, amqp_prefix: str
) -> None:
    await promise(town, 1)
    async with connected(amqp_url, amqp_prefix) as link:
        assert await Relay(town.database, link, Lane.EMERGENCY, amqp_prefix).tell_some() == 1
        found = await get_one(link, amqp_prefix + fanout_queue(Lane.EMERGENCY))
    assert found is not None
    assert wire.decode(found[0]) == issued(1)
    assert found[1]["lane"] == "emergency"

    async def gone() -> bool:
        return not await town.outbox()

    await until(gone)


async def test_nothing_is_told_of_a_transaction_that_did_not_commit(town: Town) -> None:
    with contextlib.suppress(RuntimeError):
        async with town.database.write() as session:
            await outbox.add(session, issued(1), lane=Lane.FLASH)
            raise RuntimeError("the caller failed")
    assert await town.outbox() == []


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_while_the_broker_is_away_rows_stay(town: Town) -> None:
    await promise(town, 1, 2)
    away = Link("amqp://nobody:x@127.0.0.1:1/", "nowhere")
    relay = Relay(town.database, away, Lane.EMERGENCY)
    with pytest.raises(BrokerAway):
        await asyncio.wait_for(relay.tell_some(), 10)
    assert len(await town.outbox()) == 2


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_row_nobody_wants_stays_and_does_not_hold_up_the_others(
    town: Town, amqp_url: str, amqp_prefix: str
) -> None:
    await promise(town, 1, 2, 3)
    await town.run("UPDATE outbox SET routing_key = 'nessuno' WHERE id = (SELECT min(id) FROM outbox)")
    async with connected(amqp_url, amqp_prefix) as link:
        relay = Relay(town.database, link, Lane.EMERGENCY, amqp_prefix)
        assert await relay.tell_some() == 2
        with pytest.raises(BrokerAway, match="nessuno"):
            await relay.tell_some()
    [left] = await town.outbox()
    assert left.routing_key == "nessuno"


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_new_relay_says_of_what_it_found_that_it_may_have_been_told(
    town: Town, amqp_url: str, amqp_prefix: str
) -> None:
    await promise(town, 1)
    async with connected(amqp_url, amqp_prefix) as link:
        relay = Relay(town.database, link, Lane.EMERGENCY, amqp_prefix)
        await promise(town, 2)
        assert await relay.tell_some() == 2
        repeated, new = await taken(link, amqp_prefix, Lane.EMERGENCY, 2)
    assert repeated["maybe_repeated"] == "yes"
    assert "maybe_repeated" not in new


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_what_stayed_unconfirmed_says_so_when_it_is_told_again(
    town: Town, amqp_url: str, amqp_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(amqp_url, amqp_prefix) as link:
        relay = Relay(town.database, link, Lane.EMERGENCY, amqp_prefix)
        await promise(town, 1)
        with monkeypatch.context() as deaf:  # it was said, and the line dies before we hear the confirm
            deaf.setattr(Publisher, "_on_confirm", lambda *_: link.drop())
            with pytest.raises(BrokerAway):
                await relay.tell_some()
        assert len(await town.outbox()) == 1
        await until(lambda: not link.is_up)
        await link.wait_up(10)
        assert await relay.tell_some() == 1
        found = []
        while one := await get_one(link, amqp_prefix + fanout_queue(Lane.EMERGENCY)):
            found.append(one[1].get("maybe_repeated"))
    assert found[-1] == "yes"
    assert await town.outbox() == []


async def test_a_flash_does_not_wait_behind_twenty_thousand_routine_rows(
    town: Town, amqp_url: str, amqp_prefix: str
) -> None:
    message = addressed(issued(1, Lane.ROUTINE), Lane.ROUTINE)
    row = {
        "lane": Lane.ROUTINE,
        "exchange": message.exchange,
        "routing_key": message.routing_key,
        "body": message.body,
        "created_at": time.time(),
    }
    async with town.database.write() as session:
        await session.execute(insert(tables.OutboxMessage), [row | {"message_id": f"r{n}"} for n in range(20_000)])
    arrived: list[Incoming] = []
    link = Link(amqp_url, "siren")
    async with connected(amqp_url, amqp_prefix) as declared:
        Consumer(link, amqp_prefix + fanout_queue(Lane.FLASH), 10, arrived.append)
        link.start()
        await link.wait_up(10)
        async with relaying(town, declared, amqp_prefix):
            await asyncio.sleep(0.5)
            waits = []
            for number in range(5):
                began = time.monotonic()
                await promise(town, number, lane=Lane.FLASH)
                await until(lambda number=number: len(arrived) > number)
                waits.append(time.monotonic() - began)
            async with town.database.read() as session:
                assert (await depth(session))[Lane.ROUTINE][0] > 0, "the routine had all gone: nothing was shown"
    await link.stop()
    assert sorted(waits)[2] < 0.5


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_two_relays_tell_nothing_twice(town: Town, amqp_url: str, amqp_prefix: str) -> None:
    arrived: list[Incoming] = []
    async with connected(amqp_url, amqp_prefix) as one, connected(amqp_url, amqp_prefix) as other:
        link = Link(amqp_url, "siren")
        Consumer(link, amqp_prefix + fanout_queue(Lane.ROUTINE), 5000, arrived.append)
        link.start()
        async with relaying(town, one, amqp_prefix), relaying(town, other, amqp_prefix):
            for begin in range(0, 2000, 200):
                await promise(town, *range(begin, begin + 200), lane=Lane.ROUTINE)

            async def empty() -> bool:
                return not await town.outbox()

            await until(empty, within=60)
            await until(lambda: len(arrived) >= 2000)
        await link.stop()
    assert set(Counter(message.message_id for message in arrived).values()) == {1}


async def test_the_relay_tells_what_is_promised_while_it_sleeps_within_moments(
    town: Town, amqp_url: str, amqp_prefix: str
) -> None:
    async with connected(amqp_url, amqp_prefix) as link, relaying(town, link, amqp_prefix):
        await asyncio.sleep(0.5)
        began = time.monotonic()
        await promise(town, 1)

        async def gone() -> bool:
            return not await town.outbox()

        await until(gone)
        assert time.monotonic() - began < 0.5


def test_a_message_id_is_the_same_for_ever_and_another_when_told_anew() -> None:
    receipt = ReceiptCame(7, 3, Progress.READ, None, NOW)
    assert addressed(receipt, Lane.REPLY) == addressed(receipt, Lane.REPLY)
    assert addressed(issued(1), Lane.FLASH).message_id == "alert:1"
    assert addressed(issued(1), Lane.FLASH, "2").message_id == "alert:1:2"


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_second_relay_says_of_what_a_killed_one_had_in_hand_that_it_may_have_been_told(
    town: Town, amqp_url: str, amqp_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both were at work before anything was promised; one dies between RabbitMQ's confirm and its own commit."""
    doomed_database, stuck = Database(town.database.url), asyncio.Event()

    async def gets_stuck(*_: Any) -> None:
        stuck.set()
        await asyncio.Event().wait()

    async with connected(amqp_url, amqp_prefix) as one, connected(amqp_url, amqp_prefix) as other:
        doomed = Relay(doomed_database, one, Lane.EMERGENCY, amqp_prefix)
        survivor = Relay(town.database, other, Lane.EMERGENCY, amqp_prefix)
        monkeypatch.setattr(doomed, "_forget", gets_stuck)
        await promise(town, 1, 2)
        dying = asyncio.create_task(doomed.tell_some())
        await asyncio.wait_for(stuck.wait(), 10)
        await promise(town, 3)
        assert await survivor.tell_some() == 1, "what the other holds is left to it"
        await _kill_who_is_in_a_transaction(town)
        assert await survivor.tell_some() == 2
        told = await taken(one, amqp_prefix, Lane.EMERGENCY, 5)
        dying.cancel()
        await asyncio.gather(dying, return_exceptions=True)
    assert [headers.get("maybe_repeated") for headers in told] == [None, None, None, "yes", "yes"]
    assert await town.outbox() == []
    await doomed_database.close()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_relay_whose_commit_fails_says_of_what_it_told_that_it_is_repeated(
    town: Town, amqp_url: str, amqp_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(amqp_url, amqp_prefix) as link:
        relay = Relay(town.database, link, Lane.EMERGENCY, amqp_prefix)
        await promise(town, 1)
        forget = relay._forget
        with monkeypatch.context() as fallen:

            async def falls(session: Any, ids: list[int]) -> None:
                await _kill_who_is_in_a_transaction(town)
                await forget(session, ids)

            fallen.setattr(relay, "_forget", falls)
            with pytest.raises(DBAPIError):
                await relay.tell_some()
        assert await relay.tell_some() == 1
        told = await taken(link, amqp_prefix, Lane.EMERGENCY, 2)
    assert [headers.get("maybe_repeated") for headers in told] == [None, "yes"]


async def test_a_relay_that_is_to_stop_finishes_what_it_has_in_hand(
    town: Town, amqp_url: str, amqp_prefix: str
) -> None:
    stopping = asyncio.Event()
    async with connected(amqp_url, amqp_prefix) as link:
        task = asyncio.create_task(outbox.relay(town.database, link, amqp_prefix, stopping))
        await asyncio.sleep(0.2)
        await promise(town, *range(300))

        async def begun() -> bool:
            return len(await town.outbox()) < 300

        await until(begun)
        stopping.set()
        await asyncio.wait_for(task, 5)
        left = len(await town.outbox())
        told = await taken(link, amqp_prefix, Lane.EMERGENCY, 300 - left)
        assert await get_one(link, amqp_prefix + fanout_queue(Lane.EMERGENCY)) is None
    assert not [headers for headers in told if "maybe_repeated" in headers]


async def _kill_who_is_in_a_transaction(town: Town) -> None:
    """The one backend that holds rows and waits for its relay: as when that process is killed."""
    async with Database(town.database.url).engine.connect() as connection:
        killed = await connection.execute(
            text(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND state = 'idle in transaction' AND pid <> pg_backend_pid()"
            )
        )
        assert len(killed.all()) == 1
        await connection.engine.dispose()
