"""Whatever somebody puts into our queues: no process falls over it, no lane stops, and it is kept with the reason."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pika
import pika.data
import pytest
from sqlalchemy import select

from alerting import batching, dead_letters, wire
from alerting.domain.delivery import Channel, Progress
from alerting.domain.events import AlertIssued, BatchReady, CitizenWrote, Event, ReceiptCame
from alerting.domain.lanes import Lane
from alerting.persistence import tables
from alerting.topology import ALERTS, DELIVERIES, INBOUND, INBOUND_QUEUE, RECEIPTS, RECEIPTS_QUEUE, dead_queue
from consumers.deadletters import MOST_BYTES, Keeper
from consumers.inbound import Inbound
from consumers.receipts import Receipts
from consumers.simulators.serving import Served
from consumers.worker import Worker
from tests.integration.engine import ONE_KIND, Engine, Town, an_engine, meta, told, until, working

NOW = datetime.now(UTC)
SOON = NOW + timedelta(hours=2)

ALERT = AlertIssued("a1", 4711, "calcinaia", Lane.FLASH, "Met", "Alert", NOW, SOON)
BATCH = BatchReady(4711, 4711, Channel.WHATSAPP, "whatsapp.calcinaia", Lane.EMERGENCY, 1, 100, SOON, 1)
RECEIPT = ReceiptCame(4711, 1, Progress.DELIVERED, None, NOW)
TEXT = CitizenWrote(4711, Channel.WHATSAPP)

NOT_OURS: dict[str, bytes] = {
    "empty": b"",
    "no text": b"\x00\xff\xfe",
    "words": "L'Arno è uscito!".encode(),
    "a list": b"[]",
    "null": b"null",
    "no version": b'{"event": "BatchReady"}',
    "a version of truth": b'{"v": true, "event": "BatchReady"}',
    "another event": b'{"v": 1, "event": "SirenStarted"}',
    "an event of no name": b'{"v": 1, "event": ["BatchReady"]}',
    "deeper than anybody reads": b"[" * 100_000,
    "five megabytes": b'"' + b"x" * 5_000_000 + b'"',
}


@asynccontextmanager
async def everything(town: Town, url: str, prefix: str, folder: Path) -> AsyncIterator[tuple[Engine, Served]]:
    """Relay, fan-out, delivery, receipts, inbound, and the keeper of dead letters."""
    async with contextlib.AsyncExitStack() as running:
        served = await running.enter_async_context(meta())
        engine = await running.enter_async_context(an_engine(town, url, prefix, served, folder))
        worker = Worker(engine.settings, "the others")
        receipts = Receipts(worker.database)
        inbound = Inbound(worker.database, town.authorities, worker.seal)
        keeper = Keeper(worker.database)
        worker.takes(RECEIPTS_QUEUE, receipts.take, prefetch=100, at_once=50)
        worker.takes(INBOUND_QUEUE, inbound.take, prefetch=8)
        for lane in Lane:
            worker.takes(dead_queue(lane), keeper.take, prefetch=50)
        await running.enter_async_context(working(worker, beside={"writing": receipts.run()}))
        yield engine, served


async def letters(town: Town) -> list[tables.DeadLetter]:
    async with town.database.read() as session:
        return list((await session.scalars(select(tables.DeadLetter).order_by(tables.DeadLetter.id))).all())


async def all_kept(town: Town, how_many: int) -> list[tables.DeadLetter]:
    async def so() -> bool:
        return await town.count(tables.DeadLetter) >= how_many

    await until(so, within=60)
    return await letters(town)


async def everybody_is_told(town: Town, people: int, served: Served) -> None:
    """Whatever came before: an alert goes out as ever."""
    dispatch = await town.issue()
    await until(lambda: town.is_over(dispatch), within=60)
    assert await town.summary(dispatch) == {Progress.ACCEPTED: people}
    assert len(told(served)) == people


QUEUES = {
    "fanout": (ALERTS, "flash.met.calcinaia", Lane.FLASH),
    "deliver": (DELIVERIES, "whatsapp.emergency", Lane.EMERGENCY),
    "receipts": (RECEIPTS, "receipt", Lane.REPLY),
    "inbound": (INBOUND, "whatsapp", Lane.REPLY),
}


async def test_what_is_not_ours_is_kept_with_a_reason_whichever_queue_it_comes_by_and_stops_nobody(
    town: Town, amqp_url: str, amqp_prefix: str, tmp_path: Path
) -> None:
    await town.subscribe(3)
    async with everything(town, amqp_url, amqp_prefix, tmp_path) as (engine, served):
        for exchange, key, _ in QUEUES.values():
            for name, body in NOT_OURS.items():
                await engine.put(exchange, key, body, message_id=name)
        found = await all_kept(town, len(QUEUES) * len(NOT_OURS))
        await everybody_is_told(town, 3, served)
    for exchange, key, lane in QUEUES.values():
        of_queue = {row.message_id: row for row in found if row.exchange == amqp_prefix + exchange}
        assert of_queue.keys() == NOT_OURS.keys()
        for name, row in of_queue.items():
            assert (row.lane, row.why, row.routing_key) == (lane, "unreadable", key), name
            assert row.body == NOT_OURS[name][:MOST_BYTES]
            assert len(row.sentence) > 10
    assert len(found) == len(QUEUES) * len(NOT_OURS)


@ONE_KIND
async def test_a_message_of_ours_in_another_queue_is_kept_and_said_again_it_arrives_where_it_belongs(
    town: Town, amqp_url: str, amqp_prefix: str, tmp_path: Path
) -> None:
    ours: dict[str, Event] = {"fanout": ALERT, "deliver": BATCH, "receipts": RECEIPT, "inbound": TEXT}
    async with everything(town, amqp_url, amqp_prefix, tmp_path) as (engine, _):
        for queue, (exchange, key, _lane) in QUEUES.items():
            for belongs, event in ours.items():
                if belongs != queue:
                    await engine.put(exchange, key, wire.encode(event))
        found = await all_kept(town, 12)
        assert {row.why for row in found} == {"misplaced"}
        async with town.database.write() as session:
            done = await dead_letters.replay_all(session, "misplaced", who="admin", now=NOW)
        assert (len(done.replayed), done.unreadable) == (12, 0)
        # Where they belong nobody knows their alert and batch: three of each kind die there, with another reason.
        again = (await all_kept(town, 18))[12:]
    assert [row.why for row in again] == ["orphan"] * 6
    assert {row.exchange.removeprefix(amqp_prefix) for row in again} == {ALERTS, DELIVERIES}
    assert all(":replayed." in row.message_id for row in again)


@ONE_KIND
async def test_a_batch_for_another_channel_or_of_no_account_or_alert_is_kept_with_what_is_wrong(
    town: Town, amqp_url: str, amqp_prefix: str, tmp_path: Path
) -> None:
    fields = json.loads(wire.encode(BATCH))
    async with everything(town, amqp_url, amqp_prefix, tmp_path) as (engine, _):
        for name, change in {
            "another channel": {"channel": "telegram"},
            "no account": {"account": "whatsapp.atlantide"},
            "no dispatch": {},
        }.items():
            body = json.dumps(fields | change).encode()
            await engine.put(DELIVERIES, "whatsapp.emergency", body, message_id=name, lane="emergency")
        await engine.put(ALERTS, "flash.met.calcinaia", wire.encode(ALERT), message_id="no alert", lane="flash")
        found = {row.message_id: row for row in await all_kept(town, 4)}
    assert {name: row.why for name, row in found.items()} == {
        "another channel": "misplaced",
        "no account": "orphan",
        "no dispatch": "orphan",
        "no alert": "orphan",
    }
    assert "telegram" in found["another channel"].sentence
    assert "4711" in found["no dispatch"].sentence and "4711" in found["no alert"].sentence
    assert found["no alert"].lane is Lane.FLASH


@ONE_KIND
async def test_a_newer_version_is_read_as_far_as_we_know_it_and_an_older_one_is_kept(
    town: Town, amqp_url: str, amqp_prefix: str, tmp_path: Path
) -> None:
    await town.subscribe(20)
    dispatch = await town.issue()
    await town.fan_out(dispatch)
    await town.run("DELETE FROM outbox")
    [batch] = await town.batches(dispatch)
    fields = json.loads(wire.encode(batching.ready(batch, SOON)))
    newer = fields | {"v": 7, "loudness": 11, "sirens": [{"place": "Fornacette"}]}
    changed = fields | {"v": 8, "first": "the first person"}
    older = {name: value for name, value in fields.items() if name != "account"}
    async with everything(town, amqp_url, amqp_prefix, tmp_path) as (engine, served):
        for body in (older, changed, newer):
            await engine.put(DELIVERIES, "whatsapp.emergency", json.dumps(body).encode(), lane="emergency")
        await until(lambda: town.is_over(dispatch), within=60)
        assert len(told(served)) == 20
        first, second = await all_kept(town, 2)
    assert (first.why, second.why) == ("unreadable", "unreadable")
    assert "BatchReady of version 1 lacks or spoils a field" in first.sentence and "account" in first.sentence
    assert "BatchReady of version 8" in second.sentence


async def test_a_batch_whose_alert_is_gone_is_kept_and_delivered_in_its_lane_when_it_is_back(
    town: Town, amqp_url: str, amqp_prefix: str, tmp_path: Path
) -> None:
    """A copy of the database was restored that is older than the broker; then the right one."""
    numbers = await town.subscribe(30)
    dispatch = await town.issue()
    await town.fan_out(dispatch)
    [batch] = await town.batches(dispatch)
    await town.run("UPDATE batches SET id = id + 1000")  # it is not in this copy
    async with everything(town, amqp_url, amqp_prefix, tmp_path) as (engine, served):
        letter = next(row for row in await all_kept(town, 1) if row.message_id.startswith("batch:"))
        assert (letter.lane, letter.why) == (Lane.EMERGENCY, "orphan")
        assert letter.queue == f"{engine.prefix}deliver.whatsapp.emergency"
        await asyncio.sleep(0.3)
        assert told(served) == {}

        await town.run("UPDATE batches SET id = id - 1000")
        lanes: list[Lane] = []
        async with town.database.write() as session:
            await dead_letters.replay(session, letter.id, who="admin", now=datetime.now(UTC))
            lanes += await session.scalars(select(tables.OutboxMessage.lane))
        assert lanes == [Lane.EMERGENCY]
        await until(lambda: town.is_over(dispatch), within=60)
        assert told(served) == dict.fromkeys(numbers, 1)
        assert [row.state for row in await town.batches(dispatch)] == ["done"]
        assert await town.count(tables.DeadLetter) == 1
    assert batch.lane is Lane.EMERGENCY


def _tables_within_tables(depth: int) -> bytes:
    inner = b""
    for _ in range(depth):
        inner = len(inner).to_bytes(4, "big") + inner
        inner = b"\x02inF" + inner
    return b"F" + len(inner).to_bytes(4, "big") + inner


# Values that AMQP allows and pika cannot turn into Python's: milliseconds where seconds belong, as a Java program
# writes them; and what is nested deeper than Python calls itself.
UNREADABLE_HEADERS = {
    "a moment in the year 55000": b"T" + (1_795_000_000_000).to_bytes(8, "big"),
    "two thousand tables": _tables_within_tables(2_000),
}


class Raw(dict[str, Any]):
    """Headers whose only field is written byte for byte."""

    def __init__(self, value: bytes) -> None:
        super().__init__(when=None)
        self.field = b"\x04when" + value


def _encode_table(pieces: list[bytes], table: Any, as_pika: Callable[..., int] = pika.data.encode_table) -> int:
    if not isinstance(table, Raw):
        return as_pika(pieces, table)
    pieces += [len(table.field).to_bytes(4, "big"), table.field]
    return 4 + len(table.field)


@ONE_KIND
@pytest.mark.parametrize("value", UNREADABLE_HEADERS.values(), ids=UNREADABLE_HEADERS.keys())
async def test_headers_that_cannot_be_read_keep_nobody_from_working(
    town: Town, amqp_url: str, amqp_prefix: str, tmp_path: Path, value: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pika.data, "encode_table", _encode_table)
    await town.subscribe(3)
    async with everything(town, amqp_url, amqp_prefix, tmp_path) as (_, served):
        await asyncio.to_thread(_put_with_headers, amqp_url, amqp_prefix, value)
        [row] = await all_kept(town, 1)
        await everybody_is_told(town, 3, served)
    assert row.why == "unreadable"
    assert row.body == b"buongiorno"
    assert row.lane is Lane.EMERGENCY


def _put_with_headers(url: str, prefix: str, value: bytes) -> None:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        properties = pika.BasicProperties(message_id="probe", headers=Raw(value), delivery_mode=2)
        channel.basic_publish(f"{prefix}{DELIVERIES}", "whatsapp.emergency", b"buongiorno", properties)
