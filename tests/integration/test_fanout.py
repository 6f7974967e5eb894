"""From an alert to its audience: everybody once, whatever the pages, whoever dies, however many run it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from alerting.domain.delivery import Progress, Reason
from alerting.domain.lanes import Lane
from alerting.persistence import ledger, tables
from consumers import fanout
from consumers.fanout import FanOut
from tests.integration.engine import COMUNE, Town, a_town, soon


@pytest.fixture
async def town(database_url: str) -> AsyncIterator[Town]:
    async with a_town(database_url) as town:
        yield town


@pytest.fixture
async def both_channels(database_url: str) -> AsyncIterator[Town]:
    async with a_town(database_url, telegram=True) as town:
        yield town


async def assert_whole(town: Town, dispatch: int, people: int) -> None:
    """Everybody once, numbered densely, each in exactly one batch."""
    rows = await town.deliveries(dispatch)
    assert [row.seq for row in rows] == list(range(1, people + 1))
    assert set(Counter(row.address_id for row in rows).values()) <= {1}
    covered = [seq for batch in await town.batches(dispatch) for seq in range(batch.first, batch.last + 1)]
    assert sorted(covered) == list(range(1, people + 1))
    async with town.database.read() as session:
        assert (await session.get_one(tables.Dispatch, dispatch)).audience == people


class Killed(Exception):
    """Somebody pulled the plug."""


def dies_after(pages: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fan-out ends after so many pages, in the middle of the next."""
    freeze, done = fanout._freeze, [0]

    async def freezes(*args: Any) -> Sequence[int]:
        found = await freeze(*args)
        if done[0] == pages:
            raise Killed
        done[0] += 1
        return found

    monkeypatch.setattr(fanout, "_freeze", freezes)


@pytest.mark.parametrize(
    ("people", "first", "page", "batch"),
    [(0, 3, 5, 2), (1, 1, 1, 1), (3, 3, 5, 2), (8, 3, 5, 100), (9, 3, 5, 4), (23, 1, 1, 7), (23, 50, 50, 1)],
)
async def test_everybody_is_in_the_audience_once_for_any_page_and_batch(
    town: Town, monkeypatch: pytest.MonkeyPatch, people: int, first: int, page: int, batch: int
) -> None:
    monkeypatch.setattr(fanout, "FIRST_PAGE", first)
    monkeypatch.setattr(fanout, "PAGE", page)
    monkeypatch.setattr(fanout, "PEOPLE_PER_BATCH", dict.fromkeys(Lane, batch))
    await town.subscribe(people)
    dispatch = await town.issue()
    await town.fan_out(dispatch)
    await assert_whole(town, dispatch, people)
    assert all(row.last - row.first < batch for row in await town.batches(dispatch))


@pytest.mark.parametrize("pages", range(5))
async def test_killed_between_any_two_pages_it_goes_on_where_it_was(
    both_channels: Town, monkeypatch: pytest.MonkeyPatch, pages: int
) -> None:
    town = both_channels
    telegram = next(access for access in town.authority.channels if access is not town.whatsapp)
    await town.subscribe(9)
    await town.subscribe(7, account=telegram)
    dispatch = await town.issue()
    monkeypatch.setattr(fanout, "FIRST_PAGE", 4)
    monkeypatch.setattr(fanout, "PAGE", 4)
    with monkeypatch.context() as killing:
        dies_after(pages, killing)
        with pytest.raises(Killed):
            await town.fan_out(dispatch)
    await town.fan_out(dispatch)
    await assert_whole(town, dispatch, 9 + 7 + 1)  # and the public channel


async def test_run_twice_and_by_three_at_once_it_changes_nothing(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "FIRST_PAGE", 5)
    monkeypatch.setattr(fanout, "PAGE", 5)
    await town.subscribe(43)
    dispatch = await town.issue()
    await asyncio.gather(*(town.fan_out(dispatch) for _ in range(3)))
    await assert_whole(town, dispatch, 43)
    before = len(await town.outbox())
    await town.fan_out(dispatch)
    await assert_whole(town, dispatch, 43)
    assert len(await town.outbox()) == before


async def test_only_a_few_batches_are_with_the_broker_at_once(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "PEOPLE_PER_BATCH", dict.fromkeys(Lane, 2))
    dispatch = await town.issued_and_fanned_out(40)
    states = Counter(batch.state for batch in await town.batches(dispatch))
    assert states == {"told": 6, "waiting": 14}
    assert len([row for row in await town.outbox() if row.message_id.startswith("batch:")]) == 6


async def test_who_lives_elsewhere_is_not_in_the_audience_and_who_never_said_where_is(town: Town) -> None:
    inside = await town.subscribe(3)
    elsewhere = next(a.code for a in town.authority.territory.frazioni if a.code != f"{COMUNE}.fornacette")
    await town.subscribe(4, area=elsewhere)
    await town.subscribe(2, area=COMUNE)
    dispatch = await town.issue()
    await town.fan_out(dispatch)
    assert len(inside) == 3
    await assert_whole(town, dispatch, 3 + 2)


async def test_an_alert_that_was_taken_back_before_it_was_fanned_out_has_no_audience(town: Town) -> None:
    await town.subscribe(5)
    dispatch = await town.issue()
    cancel = await town.cancel(dispatch)
    await town.fan_out(dispatch)
    await town.fan_out(cancel)
    await assert_whole(town, dispatch, 0)
    await assert_whole(town, cancel, 0)


async def test_a_cancel_reaches_exactly_those_who_got_it_or_may_have(town: Town) -> None:
    """One for each place a delivery can stand in."""
    await town.subscribe(len(Progress))
    dispatch = await town.issue()
    await town.fan_out(dispatch)
    stands = list(Progress)
    for seq, progress in enumerate(stands, 1):
        claimed_until = soon(-1) if progress is Progress.SENDING else 0.0  # its worker died
        await town.run(
            "UPDATE deliveries SET progress = :p, claimed_until = :u WHERE dispatch_id = :d AND seq = :s",
            p=progress.value,
            u=claimed_until,
            d=dispatch,
            s=seq,
        )
    cancel = await town.cancel(dispatch)
    await town.fan_out(cancel)
    by_address = {row.address_id: stands[row.seq - 1] for row in await town.deliveries(dispatch)}
    told = {by_address[row.address_id] for row in await town.deliveries(cancel)}
    assert told == {
        Progress.SENDING,
        Progress.UNCERTAIN,
        Progress.UNRESOLVED,
        Progress.ACCEPTED,
        Progress.SENT,
        Progress.DELIVERED,
        Progress.READ,
    }
    assert await town.is_over(dispatch), "whoever waited is withdrawn, and nobody is left in between"


async def test_a_cancel_waits_for_those_who_are_being_told_right_now(town: Town) -> None:
    dispatch = await town.issued_and_fanned_out(3)
    async with town.database.write() as session:
        claimed = await ledger.claim(session, dispatch, 1, 3, most=2, now=soon(), until=soon(45))
    cancel = await town.cancel(dispatch)
    cancelling = asyncio.create_task(town.fan_out(cancel))
    await asyncio.sleep(0.3)
    assert not cancelling.done()
    outcomes = [(Progress.ACCEPTED, None), (Progress.REFUSED, Reason.NOT_REACHABLE_HERE)]
    async with town.database.write() as session:
        await ledger.record(
            session,
            [
                ledger.Recorded(dispatch, one.seq, one.attempt, progress, reason, None, soon())
                for one, (progress, reason) in zip(claimed, outcomes, strict=True)
            ],
        )
    await asyncio.wait_for(cancelling, 5)
    assert len(await town.deliveries(cancel)) == 1


async def test_an_alert_that_is_not_in_the_database_is_said_to_be_so(town: Town) -> None:
    assert not await FanOut(town.database, town.authorities).fan_out(4711)
