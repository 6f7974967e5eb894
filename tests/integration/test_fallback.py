"""Whoever was not reached is told on another address: once, in the same lane, within the budget, and not too late."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from alerting import authorities, costs, subscribing, wire
from alerting.domain.authority import ChannelAccess
from alerting.domain.delivery import Channel, Progress, Reason
from alerting.domain.events import BatchReady, ReceiptCame
from alerting.domain.fallback import Because, Policy, Stays
from alerting.domain.fallback import Fallback as Policies
from alerting.domain.lanes import Lane
from alerting.persistence import Database, fallbacks, ledger, tables
from alerting.subscribing import Subscriber
from consumers import elsewhere, fallback, fanout
from consumers.handover import HandOver
from consumers.inbound import Inbound
from consumers.local.trial import authorities_with_sms
from consumers.pacing import Pacer
from consumers.receipts import _move
from consumers.reconcile import Reconciler
from tests.integration.engine import (
    ONE_KIND,
    WHATSAPP,
    Town,
    a_town,
    an_engine,
    bots,
    delivering,
    meta,
    told,
    until,
)

TELEGRAM, SMS = "telegram.calcinaia", "sms.calcinaia"
PARTS = 2
SMS_COSTS = 45_000 * PARTS
"""What the alert of these tests costs as an SMS, in millionths of a euro: two parts."""


@pytest.fixture
def sms(tmp_path: Path) -> ChannelAccess:
    access = authorities.load(authorities_with_sms(tmp_path / "authorities"))["calcinaia"].channel(Channel.SMS)
    assert access is not None
    return access


@pytest.fixture
async def town(database_url: str, sms: ChannelAccess, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Town]:
    """Calcinaia with WhatsApp, Telegram and SMS, and nobody subscribed."""
    shipped = authorities.load()
    calcinaia = shipped["calcinaia"]
    with_sms = {"calcinaia": replace(calcinaia, channels=(*calcinaia.channels, sms))}
    monkeypatch.setattr(authorities, "load", lambda folder=None: shipped | with_sms)
    async with a_town(database_url, telegram=True) as town:
        await town.run("DELETE FROM addresses")
        await town.run("DELETE FROM recipients")
        yield town


async def wants(town: Town, lane: Lane = Lane.EMERGENCY, **policy: object) -> None:
    """What Calcinaia's file says of a lane."""
    kept = fallbacks.written(Policies({lane: Policy(**policy)}))  # type: ignore[arg-type]
    async with town.database.write() as session:
        (await session.get_one(tables.Authority, "calcinaia")).fallback = kept


async def also_on(town: Town, account: str, numbers: list[str], rank: int = 1) -> None:
    """A further address of each of these people."""
    async with town.database.write() as session:
        for number in numbers:
            of_number = select(tables.Address.recipient_id).where(
                tables.Address.account == WHATSAPP, tables.Address.fingerprint == town.seal.fingerprint(number)
            )
            address = number if account == SMS else f"5{number[3:]}"
            session.add(
                tables.Address(
                    recipient_id=(await session.scalars(of_number)).one(),
                    account=account,
                    fingerprint=town.seal.fingerprint(address),
                    sealed=town.seal.seal(address),
                    rank=rank,
                )
            )


async def alert_to(town: Town, people: int, *accounts: str, routine: bool = False) -> int:
    """An alert to so many people, who have WhatsApp and an address on each of these accounts. Its dispatch."""
    numbers = await town.subscribe(people)
    for rank, account in enumerate(accounts, 1):
        await also_on(town, account, numbers, rank)
    dispatch = await town.issue(urgent=not routine)
    await town.fan_out(dispatch)
    await town.run("DELETE FROM outbox")
    return dispatch


async def recorded(
    town: Town, dispatch: int, *seqs: int, ends: Progress, reason: Reason | None = None, ago: float = 0.0
) -> None:
    """Workers tried these people, and this came of it. Written as the recorder writes it."""
    now = time.time() - ago
    async with town.database.write() as session:
        rows = []
        for seq in seqs:
            (claimed,) = await ledger.claim(session, dispatch, seq, seq, most=1, now=time.time(), until=now + 60)
            due = now + 60 if not ends.is_final else 0.0
            rows.append(ledger.Recorded(dispatch, seq, claimed.attempt, ends, reason, None, now, due))
        await ledger.record(session, rows)
        if ends in (Progress.REFUSED, Progress.FAILED):
            await fallbacks.note(session, [fallbacks.Note(dispatch, seq, Because.REFUSED, reason, now) for seq in seqs])


async def refused(town: Town, dispatch: int, *seqs: int, reason: Reason = Reason.POLICY) -> None:
    await recorded(town, dispatch, *seqs, ends=Progress.REFUSED, reason=reason)


async def look(town: Town, now: float | None = None) -> None:
    """As a reconciler does that has just started, twice: what the first time notes, the second follows."""
    for _ in range(2):
        await one_look(town.database, now or time.time())


async def one_look(database: Database, now: float) -> None:
    await fallback.Fallback(database, HandOver(database)).look(now)


async def receipt(town: Town, dispatch: int, seq: int, progress: Progress, reason: Reason | None = None) -> None:
    async with town.database.write() as session:
        await _move(session, [ReceiptCame(dispatch, seq, progress, reason, datetime.now(UTC))])


async def stands(town: Town, dispatch: int) -> list[tuple[str, str]]:
    """The channel and the progress of each row, in order."""
    async with town.database.read() as session:
        rows = await session.execute(
            select(tables.Address.account, tables.Delivery.progress)
            .join(tables.Address, tables.Address.id == tables.Delivery.address_id)
            .where(tables.Delivery.dispatch_id == dispatch)
            .order_by(tables.Delivery.seq)
        )
        return [(account.partition(".")[0], Progress(progress).name) for account, progress in rows]


async def summary(town: Town, dispatch: int) -> fallbacks.Summary:
    async with town.database.read() as session:
        return await fallbacks.summary(session, dispatch)


async def pages(town: Town) -> list[str]:
    async with town.database.read() as session:
        return [page.about for page in await session.scalars(select(tables.Page).order_by(tables.Page.id))]


async def check_whole(town: Town, dispatch: int) -> None:
    """The batches cover the audience without a gap, each on the account of its people; no address stands twice."""
    batches, rows = await town.batches(dispatch), await town.deliveries(dispatch)
    covered = [seq for batch in batches for seq in range(batch.first, batch.last + 1)]
    assert covered == [row.seq for row in rows] == list(range(1, len(rows) + 1))
    async with town.database.read() as session:
        held = await session.get_one(tables.Dispatch, dispatch)
        of_address = {a.id: a.account for a in (await session.scalars(select(tables.Address))).all()}
    assert held.last_seq == held.audience == len(rows)
    assert len({row.address_id for row in rows}) == len(rows)
    for batch in batches:
        assert batch.lane is held.lane
        assert {of_address[row.address_id or 0] for row in rows[batch.first - 1 : batch.last]} == {batch.account}


# ── at once after a refusal ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("routine", [False, True])
async def test_who_was_refused_is_told_on_the_next_address_in_the_same_lane(town: Town, routine: bool) -> None:
    dispatch = await alert_to(town, 4, TELEGRAM, routine=routine)
    await refused(town, dispatch, 2, 4)
    await look(town)
    assert await stands(town, dispatch) == [
        ("whatsapp", "WAITING"),
        ("whatsapp", "REFUSED"),
        ("whatsapp", "WAITING"),
        ("whatsapp", "REFUSED"),
        *[("telegram", "WAITING")] * 2,
    ]
    await check_whole(town, dispatch)
    [message] = await town.outbox()
    event = wire.decode(message.body)
    assert isinstance(event, BatchReady)
    lane = Lane.ROUTINE if routine else Lane.EMERGENCY
    assert (event.lane, message.lane, event.account, event.first, event.last) == (lane, lane, TELEGRAM, 5, 6)
    found = await summary(town, dispatch)
    assert (found.followed, found.micro_euro) == ({Because.REFUSED: 2}, 0)


async def test_looking_again_changes_nothing(town: Town) -> None:
    dispatch = await alert_to(town, 3, TELEGRAM)
    await refused(town, dispatch, 1)
    await look(town)
    first = (await stands(town, dispatch))[1:], len(await town.outbox()), await summary(town, dispatch)
    await receipt(town, dispatch, 1, Progress.FAILED, Reason.NOT_REACHABLE_HERE)
    await look(town)
    assert ((await stands(town, dispatch))[1:], len(await town.outbox()), await summary(town, dispatch)) == first
    await check_whole(town, dispatch)


async def test_a_receipt_that_says_it_failed_is_a_refusal(town: Town) -> None:
    dispatch = await alert_to(town, 3, TELEGRAM)
    await recorded(town, dispatch, 1, 2, 3, ends=Progress.ACCEPTED)
    await receipt(town, dispatch, 1, Progress.FAILED, Reason.POLICY)
    await receipt(town, dispatch, 2, Progress.DELIVERED)
    await receipt(town, dispatch, 2, Progress.FAILED, Reason.POLICY)
    await look(town)
    assert (await stands(town, dispatch))[3:] == [("telegram", "WAITING")]


async def test_the_chain_goes_on_as_long_as_there_are_addresses_and_ends(town: Town) -> None:
    await wants(town, per_alert=10**7)
    dispatch = await alert_to(town, 1, TELEGRAM, SMS)
    for seq, channel in ((1, "telegram"), (2, "sms")):
        await refused(town, dispatch, seq)
        await look(town)
        assert (await stands(town, dispatch))[-1] == (channel, "WAITING")
    await refused(town, dispatch, 3)
    await look(town)
    assert len(await stands(town, dispatch)) == 3
    assert (await summary(town, dispatch)).not_followed == {Stays.NOWHERE: 1}
    await check_whole(town, dispatch)


async def test_what_was_taken_back_or_has_expired_is_told_nowhere(town: Town) -> None:
    cancelled, expired = await alert_to(town, 2, TELEGRAM), await alert_to(town, 2, TELEGRAM)
    await refused(town, cancelled, 1)
    await refused(town, expired, 1)
    await town.cancel(cancelled)
    await town.run("UPDATE dispatches SET not_after = issued_at WHERE id = :d", d=expired)
    await look(town)
    for dispatch in (cancelled, expired):
        assert {channel for channel, _ in await stands(town, dispatch)} == {"whatsapp"}
        assert (await summary(town, dispatch)).not_followed == {Stays.OVER: 1}


async def test_an_exercise_stays_behind_the_wall(town: Town) -> None:
    dispatch = await alert_to(town, 1, TELEGRAM)
    await town.run("UPDATE channel_accounts SET live = :no WHERE name = :a", no=False, a=TELEGRAM)
    await refused(town, dispatch, 1)
    await look(town)
    assert await stands(town, dispatch) == [("whatsapp", "REFUSED")]


@pytest.mark.parametrize("lane", [Lane.REPLY, Lane.EMERGENCY])
async def test_an_answer_to_a_citizen_and_a_call_to_who_is_on_duty_go_nowhere_else(town: Town, lane: Lane) -> None:
    async with town.database.write() as session:
        row = tables.Dispatch(
            authority="calcinaia",
            lane=lane,
            issued_at=datetime.now(UTC),
            not_after=datetime.now(UTC) + timedelta(hours=1),
            audience=1,
            last_seq=1,
        )
        session.add(row)
        await session.flush()
        session.add(tables.Delivery(dispatch_id=row.id, seq=1, progress=Progress.ACCEPTED.value))
        session.add(
            tables.Batch(dispatch_id=row.id, channel=Channel.WHATSAPP, account=WHATSAPP, lane=lane, first=1, last=1)
        )
    await receipt(town, row.id, 1, Progress.FAILED, Reason.NOT_REACHABLE_HERE)
    assert await town.count(tables.Fallback) == 0


# ── after a silence ─────────────────────────────────────────────────────────────────────────────────


async def test_who_is_silent_for_too_long_is_told_elsewhere_and_stays_where_they_are(town: Town) -> None:
    await wants(town, patience=timedelta(minutes=3))
    dispatch = await alert_to(town, 5, TELEGRAM)
    await recorded(town, dispatch, 1, 2, ends=Progress.ACCEPTED, ago=181)
    await recorded(town, dispatch, 3, ends=Progress.ACCEPTED, ago=170)
    await recorded(town, dispatch, 4, ends=Progress.UNCERTAIN, reason=Reason.PROVIDER_SILENT, ago=200)
    await receipt(town, dispatch, 2, Progress.DELIVERED)
    await look(town)
    assert [name for _, name in await stands(town, dispatch)] == [
        "ACCEPTED",
        "DELIVERED",
        "ACCEPTED",
        "UNCERTAIN",
        "WAITING",
        "WAITING",
        "WAITING",
    ]
    async with town.database.read() as session:
        told = {row.recipient_id for row in (await town.deliveries(dispatch))[5:]}
        first = [(await session.get_one(tables.Delivery, (dispatch, seq))).recipient_id for seq in (1, 4)]
    assert told == set(first)
    await look(town, time.time() + 5)
    assert len(await stands(town, dispatch)) == 7, "the third has been silent for 175 seconds only"
    await look(town, time.time() + 15)
    assert len(await stands(town, dispatch)) == 8
    await check_whole(town, dispatch)


async def test_without_a_patience_nobody_is_followed_for_a_silence(town: Town) -> None:
    await wants(town, Lane.FLASH, patience=timedelta(seconds=1))
    dispatch = await alert_to(town, 2, TELEGRAM)
    await recorded(town, dispatch, 1, 2, ends=Progress.ACCEPTED, ago=5000)
    await look(town)
    assert len(await stands(town, dispatch)) == 2


async def test_a_channel_that_gives_no_receipts_is_not_silent(town: Town) -> None:
    await wants(town, patience=timedelta(seconds=10), per_alert=10**7)
    dispatch = await alert_to(town, 1, TELEGRAM, SMS)
    await refused(town, dispatch, 1)
    await look(town)
    await recorded(town, dispatch, 2, ends=Progress.ACCEPTED, ago=60)
    await look(town)
    assert await stands(town, dispatch) == [("whatsapp", "REFUSED"), ("telegram", "ACCEPTED")]


@pytest.mark.parametrize(("message_type", "follow"), [("TI", 0), ("GP", 2)])
async def test_an_sms_that_is_never_reported_is_not_silent(town: Town, message_type: str, follow: int) -> None:
    """The cheaper kinds of SMS over REST have no receipt: the provider's word that it left is the last."""
    settings = json.dumps({"protocol": "rest", "message_type": message_type})
    await town.run("UPDATE channel_accounts SET settings = :settings WHERE name = 'sms.calcinaia'", settings=settings)
    await wants(town, patience=timedelta(seconds=10))
    numbers = await town.subscribe(3)
    await also_on(town, SMS, numbers)
    await town.run("UPDATE addresses SET rank = 1 - rank")
    dispatch = await town.issue()
    await town.fan_out(dispatch)
    await recorded(town, dispatch, 1, ends=Progress.ACCEPTED, ago=60)
    await recorded(town, dispatch, 2, ends=Progress.SENT, ago=60)
    await refused(town, dispatch, 3)
    await look(town)
    assert [channel for channel, _ in (await stands(town, dispatch))[3:]] == ["whatsapp"] * (1 + follow)


async def test_told_twice_is_counted_when_the_first_arrives_after_all(town: Town) -> None:
    await wants(town, patience=timedelta(seconds=10))
    dispatch = await alert_to(town, 2, TELEGRAM)
    await recorded(town, dispatch, 1, 2, ends=Progress.ACCEPTED, ago=60)
    await look(town)
    await recorded(town, dispatch, 3, 4, ends=Progress.ACCEPTED)
    assert (await summary(town, dispatch)).told_twice == 0
    await receipt(town, dispatch, 1, Progress.DELIVERED)
    found = await summary(town, dispatch)
    assert (found.told_twice, found.followed) == (1, {Because.SILENT: 2})
    await look(town)
    assert len(await stands(town, dispatch)) == 4


async def test_who_got_it_late_on_the_first_is_not_sent_on_to_a_third(town: Town) -> None:
    await wants(town, patience=timedelta(seconds=10), per_alert=10**7)
    dispatch = await alert_to(town, 1, SMS, TELEGRAM)
    await recorded(town, dispatch, 1, ends=Progress.ACCEPTED, ago=60)
    await look(town)
    await receipt(town, dispatch, 1, Progress.DELIVERED)
    await refused(town, dispatch, 2)
    await look(town)
    assert await stands(town, dispatch) == [("whatsapp", "DELIVERED"), ("sms", "REFUSED")]
    assert (await summary(town, dispatch)).not_followed == {Stays.REACHED: 1}


async def test_a_clock_that_jumps_ahead_tells_nobody_twice(town: Town) -> None:
    await wants(town, patience=timedelta(minutes=3))
    dispatch = await alert_to(town, 3, TELEGRAM)
    await recorded(town, dispatch, 1, 2, 3, ends=Progress.ACCEPTED)
    for ahead in (1000, 0, 2000):
        await look(town, time.time() + ahead)
    assert len(await stands(town, dispatch)) == 6
    await check_whole(town, dispatch)


# ── held back ───────────────────────────────────────────────────────────────────────────────────────


async def noted_held(town: Town, dispatch: int, seq: int, reason: Reason) -> None:
    await recorded(town, dispatch, seq, ends=Progress.DEFERRED, reason=reason)
    async with town.database.write() as session:
        await fallbacks.note(session, [fallbacks.Note(dispatch, seq, Because.HELD, reason, time.time() + 10)])


async def test_a_text_that_is_rejected_for_everybody_is_said_elsewhere_to_everybody(town: Town) -> None:
    dispatch = await alert_to(town, 4, TELEGRAM)
    await noted_held(town, dispatch, 1, Reason.TEXT_REJECTED)
    await look(town)
    assert len(await stands(town, dispatch)) == 4
    await look(town, time.time() + 11)
    assert await stands(town, dispatch) == [("whatsapp", "HANDED_OVER")] * 4 + [("telegram", "WAITING")] * 4
    await check_whole(town, dispatch)


async def test_whom_the_provider_holds_back_is_told_elsewhere_and_nobody_else(town: Town) -> None:
    dispatch = await alert_to(town, 3, TELEGRAM)
    await noted_held(town, dispatch, 1, Reason.HELD_BY_PROVIDER)
    await noted_held(town, dispatch, 2, Reason.HELD_BY_PROVIDER)
    await town.run("UPDATE deliveries SET progress = 5 WHERE seq = 2")  # let go meanwhile
    await look(town, time.time() + 11)
    assert await stands(town, dispatch) == [
        ("whatsapp", "UNRESOLVED"),
        ("whatsapp", "ACCEPTED"),
        ("whatsapp", "WAITING"),
        ("telegram", "WAITING"),
    ]
    await check_whole(town, dispatch)


async def test_whom_the_provider_holds_back_and_who_has_nothing_else_goes_on_waiting(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fallback, "MOST", 2)
    dispatch = await alert_to(town, 3)
    for seq in (1, 2, 3):
        await noted_held(town, dispatch, seq, Reason.HELD_BY_PROVIDER)
    async with asyncio.timeout(60):
        await look(town, time.time() + 11)
    assert await stands(town, dispatch) == [("whatsapp", "DEFERRED")] * 3
    assert (await summary(town, dispatch)).not_followed == {Stays.NOWHERE: 3}
    await receipt(town, dispatch, 1, Progress.FAILED, Reason.POLICY)
    assert (await summary(town, dispatch)).due == 1


@ONE_KIND
async def test_whom_the_provider_wants_left_alone_for_an_hour_is_told_elsewhere_as_soon_as_the_lanes_patience_ends(
    town: Town, amqp_url: str, amqp_prefix: str, tmp_path: Path
) -> None:
    numbers = await town.subscribe(3)
    await also_on(town, TELEGRAM, numbers)
    for number, seconds in zip(numbers, (3600, 5, 0), strict=True):
        alone = {"until": time.time() + seconds, "who": town.seal.fingerprint(number)}
        await town.run("UPDATE addresses SET not_before = :until WHERE fingerprint = :who", **alone)
    async with meta() as served, an_engine(town, amqp_url, amqp_prefix, served, tmp_path):
        dispatch = await town.issue()

        async def is_put_off() -> bool:
            return (await summary(town, dispatch)).due > 0 and len(told(served)) == 1

        await until(is_put_off, within=60)
        await look(town)
        assert len(await stands(town, dispatch)) == 3, "the patience of the lane is not over"
        await look(town, time.time() + 11)
        found = await stands(town, dispatch)
        assert (found[0], found[3:]) == (("whatsapp", "HANDED_OVER"), [("telegram", "WAITING")])
        await check_whole(town, dispatch)


async def test_what_is_noted_of_nobody_is_not_looked_at_for_ever(town: Town) -> None:
    dispatch = await alert_to(town, 1)
    async with town.database.write() as session:
        await fallbacks.note(session, [fallbacks.Note(dispatch, 77, Because.REFUSED, Reason.POLICY, 0.0)])
    await look(town)
    assert (await summary(town, dispatch)).not_followed == {Stays.NOWHERE: 1}


async def test_who_was_held_back_and_is_refused_then_is_followed_at_once(town: Town) -> None:
    dispatch = await alert_to(town, 1, TELEGRAM)
    await noted_held(town, dispatch, 1, Reason.HELD_BY_PROVIDER)
    await receipt(town, dispatch, 1, Progress.FAILED, Reason.POLICY)
    await look(town)
    assert await stands(town, dispatch) == [("whatsapp", "FAILED"), ("telegram", "WAITING")]


# ── money ───────────────────────────────────────────────────────────────────────────────────────────


async def test_with_no_budget_nobody_is_told_where_it_costs_and_that_is_counted(town: Town) -> None:
    dispatch = await alert_to(town, 3, SMS)
    await refused(town, dispatch, 1, 2)
    await look(town)
    assert len(await stands(town, dispatch)) == 3
    assert (await summary(town, dispatch)).not_followed == {Stays.NOT_AFFORDED: 2}
    assert await pages(town) == []


async def test_the_budget_of_an_alert_is_never_exceeded_and_somebody_is_called_once(town: Town) -> None:
    await wants(town, per_alert=3 * SMS_COSTS + 1)
    dispatch = await alert_to(town, 6, SMS)
    await refused(town, dispatch, 1, 2)
    await look(town)
    await refused(town, dispatch, 3, 4)
    await look(town)
    await town.run("UPDATE pages SET acknowledged_at = :t", t=datetime.now(UTC).isoformat(" "))
    await refused(town, dispatch, 5, 6)
    await look(town)
    found = await summary(town, dispatch)
    assert (found.followed, found.not_followed) == ({Because.REFUSED: 3}, {Stays.NOT_AFFORDED: 3})
    assert found.micro_euro == 3 * SMS_COSTS
    assert len(await pages(town)) == 1
    await check_whole(town, dispatch)


async def test_the_budget_of_a_month_is_that_of_all_its_alerts_and_what_was_not_said_is_given_back(town: Town) -> None:
    await wants(town, per_month=2 * SMS_COSTS)
    first, second = await alert_to(town, 2, SMS), await alert_to(town, 4, SMS)
    await refused(town, first, 1, 2)
    await look(town)
    await refused(town, second, 1)
    await look(town)
    assert (await summary(town, second)).not_followed == {Stays.NOT_AFFORDED: 1}
    await town.run("UPDATE deliveries SET progress = 11 WHERE dispatch_id = :d AND seq = 3", d=first)  # withdrawn
    await refused(town, second, 2, 3)
    await look(town)
    assert (await summary(town, second)).followed == {Because.REFUSED: 1}


async def test_the_money_of_one_lane_is_not_spent_by_another(town: Town) -> None:
    await wants(town, Lane.FLASH, per_month=100 * SMS_COSTS)
    dispatch = await alert_to(town, 1, SMS, routine=True)
    await refused(town, dispatch, 1)
    await look(town)
    assert (await summary(town, dispatch)).not_followed == {Stays.NOT_AFFORDED: 1}


@ONE_KIND
async def test_two_processes_at_once_do_not_spend_the_same_euro(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each on an alert of its own, so that nothing but the month's budget keeps them apart."""
    await wants(town, per_month=7 * SMS_COSTS)
    dispatches = [await alert_to(town, 10, SMS) for _ in range(3)]
    for dispatch in dispatches:
        await refused(town, dispatch, *range(1, 11))
    async with town.database.write() as session:
        month = costs.month_of(datetime.now(UTC))
        await costs.hold_budget(session, "calcinaia", Lane.EMERGENCY, month)
    whole = elsewhere.Elsewhere._append

    async def slowly(*args: object) -> None:
        await asyncio.sleep(0.3)  # what was found to be left is not spent yet
        await whole(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(elsewhere.Elsewhere, "_append", slowly)
    others = [Database(town.database.url) for _ in dispatches]
    each = zip(others, dispatches, strict=True)
    await asyncio.gather(*(fallback.Fallback(db, HandOver(db))._follow(one, time.time()) for db, one in each))
    for base in others:
        await base.close()
    found = [await summary(town, dispatch) for dispatch in dispatches]
    assert sum(one.micro_euro for one in found) == 7 * SMS_COSTS
    assert sum(one.followed.get(Because.REFUSED, 0) for one in found) == 7
    assert sum(one.not_followed.get(Stays.NOT_AFFORDED, 0) for one in found) == 23


async def test_a_halted_accounts_people_are_told_where_it_costs_only_within_the_budget(town: Town) -> None:
    await wants(town, per_alert=2 * SMS_COSTS)
    dispatch = await alert_to(town, 5, SMS)
    await Pacer(town.database).halt(WHATSAPP, "190")
    await town.run("UPDATE provider_rates SET halted_at = :at WHERE account = :a", at=time.time() - 60, a=WHATSAPP)
    for _ in range(3):
        await HandOver(town.database).look(time.time())
    assert [name for _, name in await stands(town, dispatch)].count("HANDED_OVER") == 2
    found = await summary(town, dispatch)
    assert (found.followed, found.not_followed) == ({Because.HALTED: 2}, {Stays.NOT_AFFORDED: 3})
    assert len(await pages(town)) == 1
    await check_whole(town, dispatch)


# ── twice, killed, and at the same time ─────────────────────────────────────────────────────────────


@ONE_KIND
async def test_two_reconcilers_at_once_follow_everybody_once(town: Town) -> None:
    await wants(town, patience=timedelta(seconds=10))
    dispatch = await alert_to(town, 300, TELEGRAM)
    await refused(town, dispatch, *range(1, 101))
    await recorded(town, dispatch, *range(101, 301), ends=Progress.ACCEPTED, ago=60)
    other = Database(town.database.url)
    for _ in range(3):
        await asyncio.gather(*(one_look(base, time.time()) for base in (town.database, other) * 3))
    await other.close()
    assert (await stands(town, dispatch)).count(("telegram", "WAITING")) == 300
    await check_whole(town, dispatch)


@pytest.mark.parametrize("step", ["_close", "choose", "_append", "_write_down", "_page_once", "note", "_look_again"])
async def test_killed_between_any_two_steps_it_is_done_once_the_next_time(
    town: Town, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    await wants(town, patience=timedelta(seconds=10), per_alert=SMS_COSTS)
    dispatch = await alert_to(town, 3, SMS)
    await refused(town, dispatch, 1, reason=Reason.NOT_REACHABLE_HERE)
    await recorded(town, dispatch, 2, ends=Progress.ACCEPTED, ago=60)
    where = {"_close": fallback, "_look_again": fallback, "note": fallbacks}.get(step, elsewhere.Elsewhere)
    whole = getattr(where, step)
    killed = 0

    async def dies(*args: object, **how: object) -> object:
        nonlocal killed
        killed += 1
        await whole(*args, **how)
        raise Killed

    monkeypatch.setattr(where, step, dies)
    with pytest.raises(Killed):
        await look(town)
    assert killed == 1
    monkeypatch.setattr(where, step, whole)
    await look(town)
    found = await summary(town, dispatch)
    assert sum(found.followed.values()) == 1
    assert found.not_followed == {Stays.NOT_AFFORDED: 1}
    assert len(await pages(town)) == 1
    assert (await town.outbox()) and len(await town.outbox()) == 1
    await check_whole(town, dispatch)


class Killed(BaseException):
    """What a SIGKILL would have been."""


@ONE_KIND
async def test_with_workers_and_two_reconcilers_at_once_everybody_is_told_once_on_one_channel(
    town: Town, amqp_url: str, amqp_prefix: str, tmp_path: Path
) -> None:
    numbers = await town.subscribe(200)
    await also_on(town, TELEGRAM, numbers)
    other = Database(town.database.url)
    async with AsyncExitStack() as running:
        served = await running.enter_async_context(meta(faults={131026: 0.3, 131049: 0.1}))
        bot = await running.enter_async_context(bots())
        engine = await running.enter_async_context(an_engine(town, amqp_url, amqp_prefix, served, tmp_path, workers=2))
        settings = engine.settings.model_copy(update={"telegram_url": bot.base_url})
        await running.enter_async_context(delivering(settings, bot, Channel.TELEGRAM))
        reconciling = [asyncio.create_task(Reconciler(base).run()) for base in (town.database, other)]
        dispatch = await town.issue()

        async def over() -> bool:
            found = await summary(town, dispatch)
            return await town.is_over(dispatch) and not found.due and sum(found.followed.values()) > 0

        await until(over, within=120)
        for task in reconciling:
            task.cancel()
        await asyncio.gather(*reconciling, return_exceptions=True)
    await other.close()
    on_whatsapp, on_telegram = told(served), told(bot)
    refused = (await town.summary(dispatch))[Progress.REFUSED]
    assert 30 < refused == len(on_telegram)
    assert len(on_whatsapp) == 200 - refused
    assert set(on_whatsapp.values()) == set(on_telegram.values()) == {1}
    assert not set(on_telegram) & {f"5{number[3:]}" for number in on_whatsapp}
    await check_whole(town, dispatch)


# ── addresses that are refused for good ─────────────────────────────────────────────────────────────


async def test_the_next_alert_goes_straight_to_the_next_address(town: Town) -> None:
    dispatch = await alert_to(town, 3, TELEGRAM)
    await refused(town, dispatch, 1, reason=Reason.NOT_REACHABLE_HERE)
    await refused(town, dispatch, 2, reason=Reason.POLICY)
    await look(town)
    again = await town.issue()
    await town.fan_out(again)
    assert sorted(channel for channel, _ in await stands(town, again)) == ["telegram", "whatsapp", "whatsapp"]


async def test_the_only_address_of_somebody_is_never_closed(town: Town) -> None:
    dispatch = await alert_to(town, 1)
    await refused(town, dispatch, 1, reason=Reason.NOT_REACHABLE_HERE)
    await look(town)
    again = await town.issue()
    await town.fan_out(again)
    assert await stands(town, again) == [("whatsapp", "WAITING")]
    assert (await summary(town, dispatch)).not_followed == {Stays.NOWHERE: 1}


async def test_whoever_writes_from_there_again_is_reached_there_again(town: Town, sms: ChannelAccess) -> None:
    (number,) = await town.subscribe(1)
    await also_on(town, TELEGRAM, [number])
    dispatch = await town.issue()
    await town.fan_out(dispatch)
    await refused(town, dispatch, 1, reason=Reason.BLOCKED_BY_PERSON)
    await look(town)
    said = {"kind": "text", "text": "grazie", "sender": number}
    now = datetime.now(UTC)
    async with town.database.write() as session:
        row = tables.InboundMessage(account=WHATSAPP, provider_id="wamid.1", received_at=now)
        row.sealed = town.seal.seal(json.dumps(said))
        session.add(row)
        await session.flush()
        await Inbound(town.database, town.authorities, town.seal).heed(session, [row])
    second = await town.issue()
    await town.fan_out(second)
    assert await stands(town, second) == [("telegram", "WAITING")]
    await refused(town, second, 1, reason=Reason.POLICY)
    await look(town)
    assert (await stands(town, second))[1:] == [("whatsapp", "WAITING")]


async def test_whose_last_open_address_is_lost_is_told_on_the_refused_one(town: Town) -> None:
    (number,) = await town.subscribe(1)
    await also_on(town, TELEGRAM, [number])
    dispatch = await town.issue()
    await town.fan_out(dispatch)
    await refused(town, dispatch, 1, reason=Reason.NOT_REACHABLE_HERE)
    await look(town)
    access = town.authority.channel(Channel.TELEGRAM)
    assert access is not None
    async with town.database.write() as session:
        who = Subscriber(town.authority, access, f"5{number[3:]}")
        await subscribing.lose(session, who, town.seal, keyword="(bot bloccato)", now=datetime.now(UTC))
    second = await town.issue()
    await town.fan_out(second)
    assert await stands(town, second) == [("whatsapp", "WAITING")]


async def test_who_blocks_the_one_when_the_provider_has_refused_the_other_is_tried_on_that_again(town: Town) -> None:
    (number,) = await town.subscribe(1)
    await also_on(town, TELEGRAM, [number])
    dispatch = await town.issue()
    await town.fan_out(dispatch)
    await refused(town, dispatch, 1, reason=Reason.NOT_REACHABLE_HERE)
    await look(town)
    access = town.authority.channel(Channel.TELEGRAM)
    assert access is not None
    who = Subscriber(town.authority, access, f"5{number[3:]}")
    async with town.database.write() as session:
        await subscribing.shut(session, who, town.seal, keyword="(bot bloccato)", now=datetime.now(UTC))
    second = await town.issue()
    await town.fan_out(second)
    assert await stands(town, second) == [("whatsapp", "WAITING")]


@pytest.fixture
def page_by_page(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int], Awaitable[None]]], None]:
    """Lets something happen after each page of a fan-out, whose pages have two people."""
    monkeypatch.setattr(fanout, "FEW", 0)
    monkeypatch.setattr(fanout, "FIRST_PAGE", 2)
    monkeypatch.setattr(fanout, "PAGE", 2)
    whole = fanout.FanOut._page

    def after_each(happens: Callable[[int], Awaitable[None]]) -> None:
        async def page(self: fanout.FanOut, dispatch: int, *how: object) -> bool:
            more = await whole(self, dispatch, *how)  # type: ignore[arg-type]
            await happens(dispatch)
            return more

        monkeypatch.setattr(fanout.FanOut, "_page", page)

    return after_each


Paging = Callable[[Callable[[int], Awaitable[None]]], None]


async def telegram_first(town: Town, people: int) -> None:
    """Telegram is frozen before WhatsApp: whose first address moves from one to the other is met again."""
    numbers = await town.subscribe(people)
    await also_on(town, TELEGRAM, numbers)
    await town.run("UPDATE addresses SET rank = 1 - rank")


async def the_next_is_refused_on_telegram(town: Town, dispatch: int) -> None:
    rows = await stands(town, dispatch)
    if ("telegram", "WAITING") in rows:
        await refused(town, dispatch, rows.index(("telegram", "WAITING")) + 1, reason=Reason.BLOCKED_BY_PERSON)
    await look(town)


async def test_whoever_is_refused_while_the_audience_is_being_worked_out_stands_there_once_an_address(
    town: Town, page_by_page: Paging
) -> None:
    await telegram_first(town, 6)

    async def one_is_refused(dispatch: int) -> None:
        await the_next_is_refused_on_telegram(town, dispatch)

    page_by_page(one_is_refused)
    dispatch = await town.issue()
    await town.fan_out(dispatch)
    rows = await stands(town, dispatch)
    assert rows.count(("telegram", "REFUSED")) == rows.count(("whatsapp", "WAITING")) > 2
    assert sum(channel == "telegram" for channel, _ in rows) == 6
    await check_whole(town, dispatch)


async def test_whoever_is_refused_for_another_alert_meanwhile_is_told_of_this_one_once(
    town: Town, page_by_page: Paging
) -> None:
    await telegram_first(town, 6)
    earlier = await town.issue()
    await town.fan_out(earlier)

    async def one_is_refused_there(_: int) -> None:
        await the_next_is_refused_on_telegram(town, earlier)

    page_by_page(one_is_refused_there)
    dispatch = await town.issue()
    await town.fan_out(dispatch)
    assert len(await stands(town, earlier)) > 8, "their first addresses have moved to WhatsApp"
    people = [row.recipient_id for row in await town.deliveries(dispatch)]
    assert len(people) == len(set(people)) == 6
    await check_whole(town, dispatch)


@pytest.mark.parametrize("how", ["refused", "lost"])
async def test_whose_first_address_is_closed_behind_the_fan_outs_back_is_told_all_the_same(
    town: Town, page_by_page: Paging, how: str
) -> None:
    """Telegram is frozen before WhatsApp, where these people are told first until they are refused there, or move."""
    numbers = await town.subscribe(6)
    await also_on(town, TELEGRAM, numbers)
    earlier = await town.issue()
    await town.fan_out(earlier)
    was_at: list[int] = []

    async def two_are_closed(dispatch: int) -> None:
        frozen = [channel for channel, _ in await stands(town, dispatch)]
        if frozen == ["whatsapp"] * 2:  # Telegram is done, and the first page of WhatsApp
            was_at.append(len(frozen))
            if how == "refused":
                await refused(town, earlier, 5, 6, reason=Reason.NOT_REACHABLE_HERE)
                await look(town)
                return
            async with town.database.write() as session:
                for number in numbers[4:]:
                    who = Subscriber(town.authority, town.whatsapp, number)
                    await subscribing.lose(session, who, town.seal, keyword="(numero cambiato)", now=datetime.now(UTC))

    page_by_page(two_are_closed)
    dispatch = await town.issue()
    await town.fan_out(dispatch)
    assert was_at == [2], "the fan-out was still at work"
    assert sorted(channel for channel, _ in await stands(town, dispatch)) == ["telegram"] * 2 + ["whatsapp"] * 4
    people = [row.recipient_id for row in await town.deliveries(dispatch)]
    assert len(people) == len(set(people)) == 6
    await check_whole(town, dispatch)


# ── an Update, a Cancel ─────────────────────────────────────────────────────────────────────────────


async def test_the_cancel_reaches_whoever_was_refused_first_where_they_got_it(town: Town) -> None:
    dispatch = await alert_to(town, 2, TELEGRAM)
    await refused(town, dispatch, 1, reason=Reason.NOT_REACHABLE_HERE)
    await recorded(town, dispatch, 2, ends=Progress.ACCEPTED)
    await look(town)
    await recorded(town, dispatch, 3, ends=Progress.ACCEPTED)
    cancel = await town.cancel(dispatch)
    await town.fan_out(cancel)
    assert sorted(await stands(town, cancel)) == [("telegram", "WAITING"), ("whatsapp", "WAITING")]


async def test_the_cancel_goes_to_each_address_where_the_alert_may_stand(town: Town) -> None:
    """Silent on WhatsApp, told on Telegram: the telephone may be switched on tomorrow, and show what was cancelled."""
    await wants(town, patience=timedelta(seconds=10))
    dispatch = await alert_to(town, 1, TELEGRAM)
    await recorded(town, dispatch, 1, ends=Progress.ACCEPTED, ago=60)
    await look(town)
    await recorded(town, dispatch, 2, ends=Progress.ACCEPTED)
    cancel = await town.cancel(dispatch)
    await town.fan_out(cancel)
    assert sorted(await stands(town, cancel)) == [("telegram", "WAITING"), ("whatsapp", "WAITING")]


async def test_whoever_got_it_where_they_are_refused_by_now_is_told_of_the_cancel_where_they_are_told_first(
    town: Town,
) -> None:
    dispatch = await alert_to(town, 1, TELEGRAM)
    await recorded(town, dispatch, 1, ends=Progress.ACCEPTED)
    await receipt(town, dispatch, 1, Progress.DELIVERED)
    later = await town.issue()
    await town.fan_out(later)
    await refused(town, later, 1, reason=Reason.OPTED_OUT)
    await look(town)
    cancel = await town.cancel(dispatch)
    await town.fan_out(cancel)
    assert await stands(town, cancel) == [("telegram", "WAITING")]


async def test_a_fallback_while_a_cancel_is_being_worked_out_does_not_stop_it(town: Town, page_by_page: Paging) -> None:
    """Both addresses are owed the Cancel; the one is refused before the other was frozen."""
    await wants(town, patience=timedelta(seconds=10))
    dispatch = await alert_to(town, 3, TELEGRAM)
    await recorded(town, dispatch, 1, 2, 3, ends=Progress.ACCEPTED, ago=60)
    await look(town)
    await recorded(town, dispatch, 4, 5, 6, ends=Progress.ACCEPTED)
    cancel = await town.cancel(dispatch)

    async def one_is_refused(dispatch: int) -> None:
        for seq in [row.seq for row in await town.deliveries(dispatch) if row.progress == 0][:1]:
            await refused(town, dispatch, seq)
        await look(town)

    page_by_page(one_is_refused)
    await town.fan_out(cancel)
    await check_whole(town, cancel)
    assert len(await stands(town, cancel)) == 6


# ── what was spent ──────────────────────────────────────────────────────────────────────────────────


async def test_what_is_written_twice_is_paid_once(town: Town, sms: ChannelAccess) -> None:
    dispatch = await alert_to(town, 3)
    now = time.time()
    async with town.database.write() as session:
        claimed = await ledger.claim(session, dispatch, 1, 3, most=3, now=now, until=now + 60)
    ends = (Progress.ACCEPTED, Progress.ACCEPTED, Progress.REFUSED)
    rows = [
        ledger.Recorded(dispatch, one.seq, one.attempt, end, None, None, now)
        for one, end in zip(claimed, ends, strict=True)
    ]
    for expected in ({dispatch: 2}, {}):
        async with town.database.write() as session:
            assert await ledger.record(session, rows, counted=True) == expected


async def test_spending_adds_up_by_channel_lane_and_month(town: Town) -> None:
    dispatch = await alert_to(town, 3, SMS)
    price = costs.Price(SMS_COSTS, PARTS)
    spent = costs.Spent(dispatch, SMS, "calcinaia", Lane.EMERGENCY, Channel.SMS, 2, price)
    at = datetime(2026, 11, 30, 22, 59, tzinfo=UTC)
    for moment in (at, at, at + timedelta(minutes=1)):
        async with town.database.write() as session:
            await costs.add(session, [spent], moment)
    async with town.database.read() as session:
        assert await costs.of_dispatch(session, dispatch) == {Channel.SMS: costs.Cost(6, 12, 6 * SMS_COSTS)}
        (line,) = await costs.of_month(session, "calcinaia", "2026-11")
        assert line.cost == costs.Cost(4, 8, 4 * SMS_COSTS)
        assert line.lane is Lane.EMERGENCY and line.alert
