"""Who is claimed, by whom, and what is written of them: exclusive, in any order, and never undone."""

import asyncio
import time
from datetime import UTC, datetime

import pytest

from alerting import subscribing
from alerting.domain.delivery import Progress, Reason
from alerting.domain.events import ReceiptCame
from alerting.persistence import ledger, tables
from alerting.subscribing import Subscriber
from consumers.receipts import _move
from tests.integration.engine import Town

LATER = 60.0


async def claim(
    town: Town, dispatch: int, *, most: int = 100, first: int = 1, last: int = 100, now: float | None = None
) -> list[ledger.Claimed]:
    now = now or time.time()
    async with town.database.write() as session:
        return await ledger.claim(session, dispatch, first, last, most=most, now=now, until=now + 45)


async def record(town: Town, dispatch: int, claimed: ledger.Claimed, progress: Progress, **more: object) -> None:
    fields = {"reason": None, "provider_id": None, "at": time.time()} | more
    async with town.database.write() as session:
        row = ledger.Recorded(dispatch, claimed.seq, claimed.attempt, progress, **fields)  # type: ignore[arg-type]
        await ledger.record(session, [row])


async def stands(town: Town, dispatch: int) -> list[str]:
    return [Progress(row.progress).name for row in await town.deliveries(dispatch)]


async def test_two_who_claim_at_once_never_get_the_same_person(town: Town) -> None:
    dispatch = await town.issued_and_fanned_out(100)
    slices = await asyncio.gather(*(claim(town, dispatch, most=7) for _ in range(20)))
    everybody = [person.seq for one in slices for person in one]
    assert len(everybody) == len(set(everybody))
    while more := await claim(town, dispatch, most=7):  # who was skipped because somebody was at it
        everybody += [person.seq for person in more]
    assert sorted(everybody) == list(range(1, 101))


async def test_no_claim_takes_more_than_it_asked_for(town: Town) -> None:
    dispatch = await town.issued_and_fanned_out(100)
    assert [person.seq for person in await claim(town, dispatch, most=7)] == [1, 2, 3, 4, 5, 6, 7]
    assert [person.seq for person in await claim(town, dispatch, most=3, first=50, last=60)] == [50, 51, 52]


async def test_a_claim_that_ran_out_is_made_again_and_says_so(town: Town) -> None:
    dispatch = await town.issued_and_fanned_out(2)
    first = await claim(town, dispatch)
    assert [(person.attempt, person.again) for person in first] == [(1, False), (1, False)]
    assert await claim(town, dispatch, now=time.time() + 44) == []
    second = await claim(town, dispatch, now=time.time() + LATER)
    assert [(person.attempt, person.again) for person in second] == [(2, True), (2, True)]


async def test_nobody_is_claimed_for_an_alert_that_was_taken_back(town: Town) -> None:
    dispatch = await town.issued_and_fanned_out(3)
    await town.cancel(dispatch)
    assert await claim(town, dispatch) == []


async def test_who_left_is_claimed_without_an_address(town: Town) -> None:
    [stays, leaves] = await town.subscribe(2)
    dispatch = await town.issue()
    await town.fan_out(dispatch)
    who = Subscriber(town.authority, town.whatsapp, leaves)
    async with town.database.write() as session:
        assert await subscribing.leave(session, who, town.seal, keyword="STOP", now=datetime.now(UTC))
    claimed = await claim(town, dispatch)
    assert [person.sealed and town.seal.open(person.sealed) for person in claimed] == [stays, None]


async def test_a_deferred_person_waits_until_they_are_due(town: Town) -> None:
    dispatch = await town.issued_and_fanned_out(1)
    [person] = await claim(town, dispatch)
    due = time.time() + 5
    await record(town, dispatch, person, Progress.DEFERRED, reason=Reason.THROTTLED, due_at=due)
    assert await claim(town, dispatch) == []
    async with town.database.read() as session:
        left = await ledger.left_of(session, dispatch, 1, 1)
    assert left.unfinished == 1
    assert left.next_due == pytest.approx(due)
    [again] = await claim(town, dispatch, now=due)
    assert (again.attempt, again.again) == (2, False)


async def test_a_receipt_that_came_before_the_recording_is_not_undone(town: Town) -> None:
    dispatch = await town.issued_and_fanned_out(1)
    [person] = await claim(town, dispatch)
    async with town.database.write() as session:
        await _move(session, [ReceiptCame(dispatch, 1, Progress.DELIVERED, None, datetime.now(UTC))])
    await record(town, dispatch, person, Progress.ACCEPTED, provider_id=b"sealed")
    assert await stands(town, dispatch) == ["DELIVERED"]


async def test_a_late_deferral_does_not_open_the_way_to_a_third_worker(town: Town) -> None:
    """A slow first attempt ends when another worker, who took it for dead, is already speaking."""
    dispatch = await town.issued_and_fanned_out(1)
    [slow] = await claim(town, dispatch)
    [second] = await claim(town, dispatch, now=time.time() + LATER)
    await record(town, dispatch, slow, Progress.DEFERRED, reason=Reason.THROTTLED, due_at=0.0)
    assert await claim(town, dispatch) == []
    await record(town, dispatch, second, Progress.ACCEPTED)
    assert await stands(town, dispatch) == ["ACCEPTED"]


async def test_a_late_acceptance_ends_it_whoever_else_is_trying(town: Town) -> None:
    dispatch = await town.issued_and_fanned_out(1)
    [slow] = await claim(town, dispatch)
    [second] = await claim(town, dispatch, now=time.time() + LATER)
    await record(town, dispatch, slow, Progress.ACCEPTED)
    await record(town, dispatch, second, Progress.DEFERRED, reason=Reason.THROTTLED, due_at=0.0)
    assert await stands(town, dispatch) == ["ACCEPTED"]
    assert await claim(town, dispatch) == []


async def test_recording_twice_writes_once(town: Town) -> None:
    dispatch = await town.issued_and_fanned_out(1)
    [person] = await claim(town, dispatch)
    for _ in range(2):
        await record(town, dispatch, person, Progress.ACCEPTED, provider_id=b"sealed")
    assert await town.count(tables.Attempt) == 1


async def test_whoever_was_claimed_and_not_tried_waits_again_as_if_nothing_had_been(town: Town) -> None:
    dispatch = await town.issued_and_fanned_out(2)
    claimed = await claim(town, dispatch)
    async with town.database.write() as session:
        await ledger.give_back(session, dispatch, [(claimed[0].seq, claimed[0].attempt)])
    assert await stands(town, dispatch) == ["WAITING", "SENDING"]
    [again] = await claim(town, dispatch)
    assert (again.seq, again.attempt, again.again) == (1, 1, False)


async def test_what_another_claimed_meanwhile_cannot_be_given_back(town: Town) -> None:
    dispatch = await town.issued_and_fanned_out(1)
    [slow] = await claim(town, dispatch)
    await claim(town, dispatch, now=time.time() + LATER)
    async with town.database.write() as session:
        await ledger.give_back(session, dispatch, [(slow.seq, slow.attempt)])
    assert await stands(town, dispatch) == ["SENDING"]


async def test_giving_back_does_not_forget_that_somebody_may_have_been_told(town: Town) -> None:
    """Or the Cancel would pass them by."""
    dispatch = await town.issued_and_fanned_out(1)
    [person] = await claim(town, dispatch)
    await record(town, dispatch, person, Progress.UNCERTAIN, reason=Reason.PROVIDER_SILENT, due_at=0.0)
    [again] = await claim(town, dispatch)
    async with town.database.write() as session:
        await ledger.give_back(session, dispatch, [(again.seq, again.attempt)])
    assert await stands(town, dispatch) == ["UNCERTAIN"]


async def test_withdrawing_ends_who_waits_and_leaves_who_is_being_told(town: Town) -> None:
    dispatch = await town.issued_and_fanned_out(4)
    people = await claim(town, dispatch, most=3)
    await record(town, dispatch, people[0], Progress.DEFERRED, reason=Reason.THROTTLED, due_at=0.0)
    await record(town, dispatch, people[1], Progress.UNCERTAIN, reason=Reason.PROVIDER_SILENT, due_at=0.0)
    async with town.database.write() as session:
        assert await ledger.withdraw(session, dispatch, 1, 4, now=time.time()) == 3
    assert await stands(town, dispatch) == ["WITHDRAWN", "UNRESOLVED", "SENDING", "WITHDRAWN"]
    rows = await town.deliveries(dispatch)
    assert [row.reason for row in rows] == ["withdrawn", "provider_silent", None, "withdrawn"]


async def test_withdrawing_ends_the_claims_of_the_dead_as_unresolved(town: Town) -> None:
    """Otherwise their batch would never end, and a Cancel would wait for nobody."""
    dispatch = await town.issued_and_fanned_out(1)
    await claim(town, dispatch)
    async with town.database.write() as session:
        await ledger.withdraw(session, dispatch, 1, 1, now=time.time() + LATER)
        assert (await ledger.left_of(session, dispatch, 1, 1)).unfinished == 0
    [row] = await town.deliveries(dispatch)
    assert (Progress(row.progress), row.reason) == (Progress.UNRESOLVED, "worker_died")


async def test_what_has_expired_has_failed_and_says_why(town: Town) -> None:
    dispatch = await town.issued_and_fanned_out(1)
    async with town.database.write() as session:
        await ledger.withdraw(session, dispatch, 1, 1, Reason.EXPIRED, now=time.time())
    [row] = await town.deliveries(dispatch)
    assert (Progress(row.progress), row.reason) == (Progress.FAILED, "expired")


async def test_claims_recordings_and_receipts_side_by_side_lose_nobody(town: Town) -> None:
    dispatch = await town.issued_and_fanned_out(100)

    async def worker() -> None:
        while people := await claim(town, dispatch, most=5):
            await asyncio.gather(
                *(record(town, dispatch, person, Progress.ACCEPTED) for person in people),
            )

    async def receipts() -> None:
        for seq in range(100, 0, -1):
            async with town.database.write() as session:
                await _move(session, [ReceiptCame(dispatch, seq, Progress.DELIVERED, None, datetime.now(UTC))])

    await asyncio.gather(worker(), worker(), receipts())
    assert set(await stands(town, dispatch)) == {"DELIVERED"}
