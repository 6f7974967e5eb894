"""From an alert to its audience: everybody once, whatever the pages, whoever dies, however many run it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import select

from alerting import batching
from alerting.domain.delivery import Progress, Reason
from alerting.domain.lanes import Lane
from alerting.persistence import ledger, tables
from consumers import fanout
from consumers.fanout import FanOut
from tests.integration.engine import COMUNE, Town, a_town, soon


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

    async def freezes(*args: Any) -> int:
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
    monkeypatch.setattr(fanout, "FEW", 0)
    monkeypatch.setattr(fanout, "FIRST_PAGE", first)
    monkeypatch.setattr(fanout, "PAGE", page)
    monkeypatch.setattr(batching, "PEOPLE_PER_BATCH", dict.fromkeys(Lane, batch))
    await town.subscribe(people)
    dispatch = await town.issue()
    await town.fan_out(dispatch)
    await assert_whole(town, dispatch, people)
    assert all(row.last - row.first < batch for row in await town.batches(dispatch))


@pytest.mark.parametrize("page", [1, 2, 3, 7])
async def test_a_page_in_which_nobody_is_meant_is_not_the_last(
    town: Town, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr(fanout, "FEW", 0)
    monkeypatch.setattr(fanout, "FIRST_PAGE", page)
    monkeypatch.setattr(fanout, "PAGE", page)
    for _ in range(2):
        await town.subscribe(7, area=f"{COMUNE}.capoluogo")
        await town.subscribe(2)
    await town.subscribe(3, area=f"{COMUNE}.capoluogo")
    dispatch = await town.issue()
    await town.fan_out(dispatch)
    await assert_whole(town, dispatch, 4)
    assert [batch.state for batch in await town.batches(dispatch)] == ["told"] * len(await town.batches(dispatch))


@pytest.mark.parametrize("pages", range(5))
async def test_killed_between_any_two_pages_it_goes_on_where_it_was(
    both_channels: Town, monkeypatch: pytest.MonkeyPatch, pages: int
) -> None:
    town = both_channels
    telegram = next(access for access in town.authority.channels if access is not town.whatsapp)
    await town.subscribe(9)
    await town.subscribe(7, account=telegram)
    dispatch = await town.issue()
    monkeypatch.setattr(fanout, "FEW", 0)
    monkeypatch.setattr(fanout, "FIRST_PAGE", 4)
    monkeypatch.setattr(fanout, "PAGE", 4)
    with monkeypatch.context() as killing:
        dies_after(pages, killing)
        with pytest.raises(Killed):
            await town.fan_out(dispatch)
    await town.fan_out(dispatch)
    await assert_whole(town, dispatch, 9 + 7 + 1)  # and the public channel


async def test_run_twice_and_by_three_at_once_it_changes_nothing(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "FEW", 0)
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
    monkeypatch.setattr(batching, "PEOPLE_PER_BATCH", dict.fromkeys(Lane, 2))
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


# ── one alert in the place of another ───────────────────────────────────────────────────────────────

CAPOLUOGO = f"{COMUNE}.capoluogo"


async def told_of(town: Town, dispatch: int) -> list[int]:
    """The recipients of a dispatch, by id."""
    return sorted(row.recipient_id or 0 for row in await town.deliveries(dispatch))


async def people_of(town: Town, area: str) -> list[int]:
    async with town.database.read() as session:
        named = select(tables.Place.recipient_id).where(tables.Place.area == area)
        return sorted(await session.scalars(named))


async def touched_at(town: Town, dispatch: int) -> float:
    async with town.database.read() as session:
        return (await session.get_one(tables.Dispatch, dispatch)).touched_at


async def stand(town: Town, dispatch: int, *stands: Progress) -> dict[Progress, int]:
    """Put each delivery where it is to stand. The recipient of each."""
    rows = await town.deliveries(dispatch)
    for row, progress in zip(rows, stands, strict=True):
        await town.run(
            "UPDATE deliveries SET progress = :p WHERE dispatch_id = :d AND seq = :s",
            p=progress.value,
            d=dispatch,
            s=row.seq,
        )
    return {progress: row.recipient_id or 0 for row, progress in zip(rows, stands, strict=True)}


async def test_an_update_reaches_who_is_inside_and_who_may_have_got_the_original_each_once(town: Town) -> None:
    await town.subscribe(4)
    await town.subscribe(3, area=CAPOLUOGO)
    original = await town.issue()
    await town.fan_out(original)
    at = await stand(town, original, Progress.READ, Progress.UNRESOLVED, Progress.WAITING, Progress.REFUSED)
    update = await town.update(original, area=CAPOLUOGO)
    await town.fan_out(update)
    await assert_whole(town, update, 3 + 2)
    inside = await people_of(town, CAPOLUOGO)
    assert await told_of(town, update) == sorted([*inside, at[Progress.READ], at[Progress.UNRESOLVED]])
    assert await town.summary(original) == dict.fromkeys(
        (Progress.READ, Progress.UNRESOLVED, Progress.WITHDRAWN, Progress.REFUSED), 1
    )


async def test_who_is_inside_and_got_the_original_is_told_of_the_update_once(town: Town) -> None:
    original = await town.issued_and_fanned_out(7)
    await stand(town, original, *[Progress.DELIVERED] * 5, Progress.WAITING, Progress.FAILED)
    update = await town.update(original)
    await town.fan_out(update)
    await town.fan_out(update)
    await assert_whole(town, update, 7)


async def test_an_update_of_an_update_reaches_whoever_may_have_got_any_of_them(town: Town) -> None:
    """The second was withdrawn before it reached somebody who had got the first: they are told too."""
    await town.subscribe(4)
    first = await town.issue()
    await town.fan_out(first)
    only_first, both, neither, _ = [row.recipient_id or 0 for row in await town.deliveries(first)]
    await stand(town, first, Progress.DELIVERED, Progress.ACCEPTED, Progress.WAITING, Progress.FAILED)
    second = await town.update(first)
    await town.fan_out(second)
    assert len(await told_of(town, second)) == 4
    await stand(town, second, Progress.WAITING, Progress.ACCEPTED, Progress.WAITING, Progress.UNCERTAIN)
    only_second = (await town.deliveries(second))[3].recipient_id or 0
    third = await town.update(second, area=CAPOLUOGO)
    await town.fan_out(third)
    assert await told_of(town, third) == sorted([only_first, both, only_second])
    assert neither not in await told_of(town, third)
    assert await town.is_over(first) and await town.is_over(second)


async def test_the_cancel_of_an_update_reaches_whoever_holds_only_what_it_replaced(town: Town) -> None:
    await town.subscribe(3)
    first = await town.issue()
    await town.fan_out(first)
    at = await stand(town, first, Progress.READ, Progress.WAITING, Progress.REFUSED)
    update = await town.update(first)  # nobody of it has been worked out when it is taken back
    cancel = await town.cancel(update)
    for dispatch in (update, cancel):
        await town.fan_out(dispatch)
    await assert_whole(town, update, 0)
    assert await told_of(town, cancel) == [at[Progress.READ]]


async def test_an_update_waits_for_those_who_are_being_told_of_the_original_right_now(town: Town) -> None:
    original = await town.issued_and_fanned_out(3)
    async with town.database.write() as session:
        (claimed,) = await ledger.claim(session, original, 1, 3, most=1, now=soon(), until=soon(45))
    update = await town.update(original)
    started = await touched_at(town, update)
    updating = asyncio.create_task(town.fan_out(update))
    await asyncio.sleep(0.3)
    assert not updating.done() and await town.deliveries(update) == []
    assert await touched_at(town, update) > started, "the reconciler sees that somebody works on it"
    async with town.database.write() as session:
        await ledger.record(
            session, [ledger.Recorded(original, claimed.seq, claimed.attempt, Progress.ACCEPTED, None, None, soon())]
        )
    await asyncio.wait_for(updating, 5)
    await assert_whole(town, update, 3)
    assert Counter(await town.summary(original)) == {Progress.ACCEPTED: 1, Progress.WITHDRAWN: 2}


async def test_who_got_the_original_on_their_second_address_is_told_of_its_end(both_channels: Town) -> None:
    """The fallback told them on Telegram; they are the same person."""
    town = both_channels
    await town.subscribe(2)
    original = await town.issue()
    await town.fan_out(original)
    telegram = next(access for access in town.authority.channels if access is not town.whatsapp)
    handed_over = (await town.deliveries(original))[0]
    async with town.database.write() as session:
        second = tables.Address(
            recipient_id=handed_over.recipient_id, account=telegram.name, fingerprint=b"2", sealed=b"2", rank=1
        )
        session.add(second)
        (await session.get_one(tables.Delivery, (original, 1))).progress = Progress.HANDED_OVER.value
        await session.flush()
        session.add(
            tables.Delivery(
                dispatch_id=original,
                seq=99,
                recipient_id=handed_over.recipient_id,
                address_id=second.id,
                progress=Progress.DELIVERED.value,
            )
        )
    cancel = await town.cancel(original)
    await town.fan_out(cancel)
    assert await told_of(town, cancel) == [handed_over.recipient_id]
    ((row),) = await town.deliveries(cancel)
    assert row.address_id == second.id, "where they got it"


@pytest.mark.parametrize("pages", range(4))
async def test_an_update_whose_fan_out_is_killed_between_any_two_pages_goes_on_where_it_was(
    town: Town, monkeypatch: pytest.MonkeyPatch, pages: int
) -> None:
    monkeypatch.setattr(fanout, "FEW", 0)
    monkeypatch.setattr(fanout, "FIRST_PAGE", 2)
    monkeypatch.setattr(fanout, "PAGE", 3)
    await town.subscribe(5)
    await town.subscribe(4, area=CAPOLUOGO)
    original = await town.issue()
    await town.fan_out(original)
    await town.run("UPDATE deliveries SET progress = 7")
    update = await town.update(original, area=CAPOLUOGO)
    with monkeypatch.context() as killing:
        dies_after(pages, killing)
        with pytest.raises(Killed):
            await town.fan_out(update)
    await asyncio.gather(*(town.fan_out(update) for _ in range(2)))
    await assert_whole(town, update, 5 + 4)


async def test_each_page_is_a_sign_of_life(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    await town.subscribe(3)
    dispatch = await town.issue()
    await town.run("UPDATE dispatches SET touched_at = 1")
    await town.fan_out(dispatch)
    assert await touched_at(town, dispatch) > soon(-30)


async def test_an_alert_that_is_not_in_the_database_is_said_to_be_so(town: Town) -> None:
    assert not await FanOut(town.database, town.authorities).fan_out(4711)


async def test_few_people_are_found_without_a_look_at_the_others(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    await town.subscribe(30, "calcinaia.capoluogo")
    some = await town.subscribe(3)
    monkeypatch.setattr(fanout, "_window", None)  # which reads everybody of the comune, page by page
    dispatch = await town.issue()
    await town.fan_out(dispatch)
    assert len(await town.deliveries(dispatch)) == len(some)
    async with town.database.read() as session:
        assert (await session.get_one(tables.Dispatch, dispatch)).audience == len(some)


async def test_few_people_on_two_accounts_are_numbered_and_told_account_by_account(
    both_channels: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "PEOPLE_PER_BATCH", dict.fromkeys(Lane, 2))
    town = both_channels
    telegram = next(access for access in town.authority.channels if access is not town.whatsapp)
    for access in (town.whatsapp, telegram, town.whatsapp, telegram, town.whatsapp):
        await town.subscribe(1, account=access)
    dispatch = await town.issue()
    for _ in range(2):  # RabbitMQ may give it twice
        await town.fan_out(dispatch)
    await assert_whole(town, dispatch, 6)  # and the public channel of the comune
    batches = await town.batches(dispatch)
    assert {batch.account: batch.channel for batch in batches} == {
        access.name: access.channel for access in (town.whatsapp, telegram)
    }
    async with town.database.read() as session:
        joined = tables.Address.id == tables.Delivery.address_id
        on_account = select(tables.Delivery.seq, tables.Address.account).join_from(
            tables.Delivery, tables.Address, joined
        )
        on = dict((await session.execute(on_account.where(tables.Delivery.dispatch_id == dispatch))).all())
    assert all(on[seq] == batch.account for batch in batches for seq in range(batch.first, batch.last + 1))
    assert {event.routing_key for event in await town.outbox() if "deliver" in event.exchange} == {
        "whatsapp.emergency",
        "telegram.emergency",
    }


async def test_without_an_account_for_it_nobody_is_told_and_the_alert_is_over(town: Town) -> None:
    await town.subscribe(2)
    dispatch = await town.issue()
    await town.run("UPDATE channel_accounts SET live = false")
    await town.fan_out(dispatch)
    await assert_whole(town, dispatch, 0)


async def test_who_was_many_when_it_was_killed_and_is_few_now_is_not_numbered_twice(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, people in (("FEW", 0), ("FIRST_PAGE", 4), ("PAGE", 4)):
        monkeypatch.setattr(fanout, name, people)
    await town.subscribe(9)
    dispatch = await town.issue()
    with monkeypatch.context() as plugged:
        dies_after(1, plugged)
        with pytest.raises(Killed):
            await town.fan_out(dispatch)
    assert 0 < len(await town.deliveries(dispatch)) < 9
    monkeypatch.setattr(fanout, "FEW", 1_000)
    await town.fan_out(dispatch)
    await assert_whole(town, dispatch, 9)
