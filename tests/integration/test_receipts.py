"""What providers say, through the real queue, into the ledger: in any order, twice, and among nonsense."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from alerting import wire
from alerting.amqp import Link, Outgoing, Publisher
from alerting.domain.delivery import Progress, Reason
from alerting.domain.events import ReceiptCame, ReceiptsCame
from alerting.persistence import tables
from alerting.topology import RECEIPTS, RECEIPTS_QUEUE
from consumers.receipts import Receipts
from consumers.worker import Worker
from tests.integration.engine import ONE_KIND, Town, connected, get_one, meta, settings_of, until, working


@asynccontextmanager
async def reading(town: Town, url: str, prefix: str, folder: Path) -> AsyncIterator[Link]:
    async with meta() as served:
        worker = Worker(settings_of(town, url, prefix, served, folder), "receipts")
        taking = Receipts(worker.database)
        worker.takes(RECEIPTS_QUEUE, taking.take, prefetch=1000, at_once=500)
        async with connected(url, prefix) as link, working(worker, beside={"writing": taking.run()}):
            yield link


async def say(link: Link, prefix: str, *bodies: bytes) -> None:
    publisher = Publisher(link)
    await asyncio.gather(
        *(
            publisher.publish(Outgoing(prefix + RECEIPTS, "receipt", f"receipt:{number}", body))
            for number, body in enumerate(bodies)
        )
    )


def receipt(dispatch: int, seq: int, progress: Progress, reason: Reason | None = None) -> bytes:
    return wire.encode(ReceiptCame(dispatch, seq, progress, reason, datetime.now(UTC)))


def several(receipts: Sequence[bytes]) -> bytes:
    came = [wire.decode(one) for one in receipts]
    return wire.encode(ReceiptsCame(tuple(one for one in came if isinstance(one, ReceiptCame))))


async def test_receipts_in_any_order_and_twice_end_where_the_last_word_is(
    town: Town, amqp_url: str, amqp_prefix: str, tmp_path: Path
) -> None:
    dispatch = await town.issued_and_fanned_out(60)
    await town.run("UPDATE deliveries SET progress = 5")
    said = [
        receipt(dispatch, seq, progress)
        for seq in range(1, 61)
        for progress in (Progress.SENT, Progress.DELIVERED, Progress.READ)
    ] * 2
    random.Random(112).shuffle(said)
    said[:90] = [several(said[:30]), several(said[30:90])]  # as they come in crowds
    async with reading(town, amqp_url, amqp_prefix, tmp_path) as link:
        await say(link, amqp_prefix, *said)

        async def all_read() -> bool:
            return await town.summary(dispatch) == {Progress.READ: 60}

        await until(all_read)


@ONE_KIND
async def test_what_failed_later_has_failed_and_what_was_delivered_stays_so(
    town: Town, amqp_url: str, amqp_prefix: str, tmp_path: Path
) -> None:
    dispatch = await town.issued_and_fanned_out(2)
    await town.run("UPDATE deliveries SET progress = 5")
    failed = [receipt(dispatch, seq, Progress.FAILED, Reason.NOT_REACHABLE_HERE) for seq in (1, 2)]
    async with reading(town, amqp_url, amqp_prefix, tmp_path) as link:
        await say(link, amqp_prefix, receipt(dispatch, 1, Progress.DELIVERED), receipt(dispatch, 2, Progress.SENT))
        await say(link, amqp_prefix, *failed)

        async def so() -> bool:
            return await town.summary(dispatch) == {Progress.DELIVERED: 1, Progress.FAILED: 1}

        await until(so)
    [_, row] = await town.deliveries(dispatch)
    assert row.reason == "not_reachable_here"


@ONE_KIND
async def test_a_receipt_nobody_can_read_or_store_takes_no_other_with_it(
    town: Town, amqp_url: str, amqp_prefix: str, tmp_path: Path
) -> None:
    dispatch = await town.issued_and_fanned_out(30)
    await town.run("UPDATE deliveries SET progress = 5")
    huge = json.dumps(json.loads(receipt(dispatch, 1, Progress.READ)) | {"seq": 10**12}).encode()
    unknown = receipt(4711, 1, Progress.READ)
    good = [receipt(dispatch, seq, Progress.DELIVERED) for seq in range(1, 31)]
    async with reading(town, amqp_url, amqp_prefix, tmp_path) as link:
        await say(link, amqp_prefix, *good[:15], huge, b"nonsense", unknown, *good[15:])

        async def all_delivered() -> bool:
            return await town.summary(dispatch) == {Progress.DELIVERED: 30}

        await until(all_delivered)
        async with town.database.read() as session:
            buried = (await session.scalars(select(tables.DeadLetter))).all()
    assert {row.body for row in buried} == {huge, b"nonsense"}
    assert {(str(row.lane), row.why) for row in buried} == {("reply", "unreadable")}


@ONE_KIND
async def test_a_receipt_waits_for_a_database_that_is_away(
    town: Town, amqp_url: str, amqp_prefix: str, tmp_path: Path
) -> None:
    """For longer than RabbitMQ would give the same message twenty times over."""
    dispatch = await town.issued_and_fanned_out(1)
    async with meta() as served:
        worker = Worker(settings_of(town, amqp_url, amqp_prefix, served, tmp_path), "receipts")
        taking = Receipts(worker.database)
        asked: list[int] = []

        async def take(message: object) -> None:
            asked.append(1)
            if len(asked) < 25:
                raise OperationalError("SELECT", {}, Exception("the database is away"))
            await taking.take(message)  # type: ignore[arg-type]

        worker.takes(RECEIPTS_QUEUE, take, prefetch=10, at_once=2)
        with pytest.MonkeyPatch.context() as hurried:
            hurried.setattr("consumers.worker.PAUSE_AFTER_TROUBLE", 0.02)
            async with (
                connected(amqp_url, amqp_prefix) as link,
                working(worker, beside={"writing": taking.run()}),
            ):
                await say(link, amqp_prefix, receipt(dispatch, 1, Progress.DELIVERED))
                await until(lambda: len(asked) > 21)

                async def delivered() -> bool:
                    return await town.summary(dispatch) == {Progress.DELIVERED: 1}

                await until(delivered)
                assert await get_one(link, f"{amqp_prefix}dead.reply") is None
                assert await town.count(tables.DeadLetter) == 0
