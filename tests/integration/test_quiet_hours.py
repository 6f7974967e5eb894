"""A newsletter does not wake anybody; an evacuation does."""

import time
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from alerting.domain.choices import MINUTES_A_DAY
from alerting.domain.delivery import Channel, Progress, Reason
from alerting.domain.events import BatchReady
from alerting.domain.lanes import Lane
from alerting.domain.rendering import ROME
from alerting.persistence import ledger, tables
from consumers import quiet
from tests.integration.engine import ONE_KIND, WHATSAPP, Start, Town, meta, told, until


def minute_now(later: timedelta = timedelta(0)) -> int:
    here = datetime.now(ROME) + later
    return here.hour * 60 + here.minute


async def sleeps(town: Town, recipient: int, *, ends_in: timedelta = timedelta(hours=1)) -> None:
    """Their quiet hours have begun two minutes ago."""
    begins = (minute_now() - 2) % MINUTES_A_DAY
    await town.run(
        f"UPDATE recipients SET quiet_from = {begins}, quiet_to = {minute_now(ends_in)} WHERE id = {recipient}"
    )


async def people(town: Town) -> list[int]:
    async with town.database.read() as session:
        ids = select(tables.Recipient.id).where(tables.Recipient.is_channel.is_(False)).order_by(tables.Recipient.id)
        return list(await session.scalars(ids))


async def batch_of(town: Town, dispatch: int, lane: Lane = Lane.ROUTINE) -> BatchReady:
    async with town.database.read() as session:
        whole = await session.get_one(tables.Dispatch, dispatch)
        row = (await session.scalars(select(tables.Batch).where(tables.Batch.dispatch_id == dispatch))).first()
        assert row is not None
    return BatchReady(row.id, dispatch, Channel.WHATSAPP, WHATSAPP, lane, 1, 99, whole.not_after, row.told)


async def stands(town: Town, dispatch: int) -> list[tuple[str, str | None, int]]:
    return [(Progress(row.progress).name, row.reason, row.attempts) for row in await town.deliveries(dispatch)]


async def put_off(town: Town, dispatch: int, **how: Any) -> None:
    batch = await batch_of(town, dispatch, **how)
    async with town.database.write() as session:
        await quiet.put_off(session, batch, now=time.time())


async def test_who_sleeps_waits_for_the_end_of_their_hours_and_the_others_do_not(town: Town) -> None:
    await town.subscribe(3)
    _, second, _ = await people(town)
    await sleeps(town, second)
    dispatch = await town.issue(urgent=False)
    await town.fan_out(dispatch)
    await put_off(town, dispatch)
    mine = [row for row in await town.deliveries(dispatch) if row.recipient_id == second]
    assert [(Progress(row.progress).name, row.reason, row.attempts) for row in mine] == [("DEFERRED", "quiet_hours", 0)]
    assert timedelta(minutes=58) < timedelta(seconds=mine[0].due_at - time.time()) <= timedelta(minutes=61)
    now = time.time()
    async with town.database.write() as session:
        claimed = await ledger.claim(session, dispatch, 1, 99, most=99, now=now, until=now + 30)
    assert mine[0].seq not in {one.seq for one in claimed}


async def test_what_would_come_too_late_is_not_told_and_is_counted(town: Town) -> None:
    await town.subscribe(1)
    (sleeper,) = await people(town)
    await sleeps(town, sleeper, ends_in=timedelta(hours=3))
    dispatch = await town.issue(urgent=False, lasts=timedelta(hours=2))
    await town.fan_out(dispatch)
    await put_off(town, dispatch)
    assert ("WITHDRAWN", "quiet_hours", 0) in await stands(town, dispatch)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("progress = 3, attempts = 1, due_at = 1, reason = 'provider_silent'", ("UNCERTAIN", "provider_silent", 1)),
        ("progress = 1, attempts = 1, claimed_until = 1", ("UNCERTAIN", "worker_died", 1)),
        ("progress = 1, attempts = 1, claimed_until = 99999999999", ("SENDING", None, 1)),
        ("progress = 5, attempts = 1", ("ACCEPTED", None, 1)),
    ],
)
async def test_who_may_have_it_stays_uncertain_and_who_is_with_a_worker_stays_there(
    town: Town, before: str, after: tuple[str, str | None, int]
) -> None:
    await town.subscribe(1)
    (sleeper,) = await people(town)
    await sleeps(town, sleeper)
    dispatch = await town.issue(urgent=False)
    await town.fan_out(dispatch)
    await town.run(f"UPDATE deliveries SET {before} WHERE recipient_id = {sleeper}")
    await put_off(town, dispatch)
    (row,) = [row for row in await town.deliveries(dispatch) if row.recipient_id == sleeper]
    assert (Progress(row.progress).name, row.reason, row.attempts) == after


@pytest.mark.parametrize("lane", [lane for lane in Lane if lane is not Lane.ROUTINE])
async def test_no_other_lane_ever_waits(town: Town, lane: Lane) -> None:
    await town.subscribe(1)
    (sleeper,) = await people(town)
    await sleeps(town, sleeper)
    dispatch = await town.issue()
    await town.fan_out(dispatch)
    await put_off(town, dispatch, lane=lane)
    assert {progress for progress, _, _ in await stands(town, dispatch)} == {"WAITING"}


@ONE_KIND
async def test_an_event_waits_and_an_evacuation_wakes(town: Town, engine: Start) -> None:
    numbers = await town.subscribe(4)
    sleeper = (await people(town))[1]
    await sleeps(town, sleeper)
    async with meta() as served, engine(served):
        routine = await town.issue(urgent=False)
        await until(lambda: len(told(served)) == 3)

        async def rests() -> bool:
            async with town.database.read() as session:
                row = (await session.scalars(select(tables.Batch).where(tables.Batch.dispatch_id == routine))).first()
                return row is not None and row.state == "resting"

        await until(rests)
        claims = [row.attempts for row in await town.deliveries(routine) if row.recipient_id == sleeper]
        assert claims == [0], "the line does not spin"
        await town.issue(urgent=True)
        await until(lambda: set(told(served)) == set(numbers))
    assert Reason.QUIET_HOURS.value in {reason for _, reason, _ in await stands(town, routine)}
