"""What was lost on the way is told again from the database; what has ended is ended."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from alerting import batching, wire
from alerting.domain.delivery import Progress
from alerting.domain.events import AlertIssued, BatchReady, CitizenWrote
from alerting.domain.lanes import Lane
from alerting.domain.lifecycle import State
from alerting.persistence import tables
from consumers.reconcile import MISSED_AFTER, Reconciler
from tests.integration.engine import WHATSAPP, Town, an_engine, meta, told, until

PATIENCE = MISSED_AFTER[Lane.EMERGENCY]


def soon_enough() -> datetime:
    return datetime.now(UTC) + timedelta(hours=1)


async def look(town: Town, later: float) -> list[tables.OutboxMessage]:
    """The reconciler looks, that much later, with nothing else to be told. What it promised."""
    await town.run("DELETE FROM outbox")
    reconciler, now = Reconciler(town.database), time.time() + later
    await reconciler.look(now)
    await reconciler.search(now)
    return await town.outbox()


async def test_a_batch_nobody_works_on_is_told_again_in_its_lane_under_another_id(town: Town) -> None:
    await town.issued_and_fanned_out(5)
    [first] = [row.message_id for row in await town.outbox() if row.message_id.startswith("batch:")]
    [again] = await look(town, PATIENCE + 1)
    event = wire.decode(again.body)
    assert isinstance(event, BatchReady)
    assert (event.first, event.last, event.lane) == (1, 5, again.lane)
    assert str(again.lane) == "emergency"
    assert again.message_id != first
    assert again.message_id.startswith(first)


async def test_a_batch_somebody_works_on_is_left_alone(town: Town) -> None:
    await town.issued_and_fanned_out(5)
    assert await look(town, PATIENCE - 5) == []


async def test_a_resting_batch_is_given_its_wait_first(town: Town) -> None:
    dispatch = await town.issued_and_fanned_out(5)
    [batch] = await town.batches(dispatch)
    async with town.database.write() as session:
        await batching.rest(session, batching.ready(batch, soon_enough()), timedelta(minutes=5))
    assert await look(town, 300 + PATIENCE - 5) == []
    assert len(await look(town, 300 + PATIENCE + 5)) == 1


async def test_what_was_told_often_already_is_waited_for_longer(town: Town) -> None:
    await town.issued_and_fanned_out(5)
    await town.run("UPDATE batches SET told = 4")
    assert await look(town, 4 * PATIENCE - 5) == []
    assert len(await look(town, 4 * PATIENCE + 5)) == 1


async def test_routine_is_waited_for_longer_than_an_emergency(town: Town) -> None:
    await town.issued_and_fanned_out(5, urgent=False)
    assert await look(town, PATIENCE + 5) == []
    assert len(await look(town, MISSED_AFTER[Lane.ROUTINE] + 5)) == 1


async def test_batches_of_several_alerts_lock_them_in_the_order_of_recorders(town: Town) -> None:
    """In the order in which they were missed, a recorder that holds the one we want next would want ours."""
    first, second, third = [await town.issued_and_fanned_out(1) for _ in range(3)]
    await town.run("UPDATE batches SET touched_at = touched_at - dispatch_id")  # the latest is missed the longest
    again = [row for row in await look(town, 2 * PATIENCE) if row.message_id.startswith("batch")]
    told = [event.dispatch for row in again if isinstance(event := wire.decode(row.body), BatchReady)]
    assert told == [first, second, third]


async def test_a_text_nobody_has_read_is_read_after_all(town: Town) -> None:
    async with town.database.write() as session:
        session.add(
            tables.InboundMessage(account=WHATSAPP, provider_id="1", received_at=datetime.now(UTC), sealed=b"sealed")
        )
    assert await look(town, PATIENCE - 5) == []
    [again] = await look(town, PATIENCE + 5)
    assert (type(wire.decode(again.body)), again.lane) == (CitizenWrote, Lane.REPLY)
    await town.run("UPDATE inbox SET handled_at = received_at")
    assert await look(town, PATIENCE + 5) == []


async def test_a_batch_that_is_done_or_not_told_yet_is_left_alone(town: Town) -> None:
    await town.issued_and_fanned_out(5)
    for state in ("done", "waiting"):
        await town.run("UPDATE batches SET state = :state, touched_at = 0", state=state)
        assert await look(town, 10 * PATIENCE) == []


async def test_an_alert_nobody_fanned_out_is_fanned_out_after_all(town: Town) -> None:
    await town.subscribe(5)
    dispatch = await town.issue()
    assert await look(town, PATIENCE - 5) == []
    [again] = await look(town, PATIENCE + 5)
    event = wire.decode(again.body)
    assert isinstance(event, AlertIssued)
    assert (event.dispatch, event.lane) == (dispatch, again.lane)
    assert await look(town, PATIENCE + 5) == [], "told a moment ago"
    await town.fan_out(dispatch)
    assert not [row for row in await look(town, 9 * PATIENCE) if row.message_id.startswith("alert")]


async def test_an_alert_whose_time_is_over_ends_and_whoever_waits_is_not_told(town: Town) -> None:
    dispatch = await town.issued_and_fanned_out(3, lasts=timedelta(minutes=1))
    await town.run("UPDATE deliveries SET progress = 5 WHERE seq = 1")
    await town.run("UPDATE deliveries SET progress = 1, claimed_until = :t WHERE seq = 2", t=time.time() + 30)
    await look(town, 61)
    assert await town.summary(dispatch) == {Progress.ACCEPTED: 1, Progress.UNRESOLVED: 1, Progress.FAILED: 1}
    async with town.database.read() as session:
        alert = (await session.get_one(tables.Dispatch, dispatch)).alert
        row = await session.get_one(tables.Alert, alert)
        assert row.state is State.EXPIRED
        assert row.ended_at is not None


async def test_an_alert_in_force_is_not_ended(town: Town) -> None:
    dispatch = await town.issued_and_fanned_out(3, lasts=timedelta(minutes=1))
    await look(town, 59)
    assert await town.summary(dispatch) == {Progress.WAITING: 3}


async def test_two_reconcilers_after_one_another_tell_an_abandoned_batch_once(town: Town) -> None:
    await town.issued_and_fanned_out(5)
    later = PATIENCE + 1
    await town.run("UPDATE batches SET touched_at = touched_at - :later", later=later)
    assert len(await look(town, 0)) == 1
    assert await look(town, 0) == []


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_what_a_wiped_broker_forgot_is_told_after_all(
    town: Town, amqp_url: str, amqp_prefix: str, tmp_path: Path
) -> None:
    numbers = await town.subscribe(30)
    dispatch = await town.issue()
    await town.fan_out(dispatch)
    await town.run("DELETE FROM outbox")  # told, confirmed, and then the disk of the broker was lost
    async with meta() as served, an_engine(town, amqp_url, amqp_prefix, served, tmp_path):
        await Reconciler(town.database).search(time.time() + PATIENCE + 1)
        await until(lambda: town.is_over(dispatch), within=60)
        assert told(served) == dict.fromkeys(numbers, 1)
