"""When an account is halted, whoever has another address is told there: once, in the same lane, and nobody else."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select

from alerting import wire
from alerting.domain.delivery import Channel, Progress
from alerting.domain.events import BatchReady, ReceiptCame
from alerting.domain.fallback import PATIENCE
from alerting.domain.lanes import Lane
from alerting.persistence import Database, ledger, tables
from consumers import deliver, fanout, handover, pacing
from consumers.fanout import FanOut
from consumers.handover import HandOver
from consumers.pacing import Pacer
from consumers.receipts import _move
from consumers.reconcile import Reconciler
from consumers.simulators.serving import Served
from tests.integration.engine import (
    ONE_KIND,
    WHATSAPP,
    Engine,
    Town,
    a_town,
    an_engine,
    bots,
    delivering,
    meta,
    texts,
    told,
    until,
)

TELEGRAM = "telegram.calcinaia"
STILL = "190, the access token has expired or was revoked; issue a new one"


async def hand_over(database: Database, now: float) -> None:
    """As a reconciler does that has just started."""
    await HandOver(database).look(now)


@pytest.fixture
async def town(database_url: str) -> AsyncIterator[Town]:
    """Calcinaia, without its public Telegram channel, which is told all and would be counted."""
    async with a_town(database_url, telegram=True) as town:
        await town.run("DELETE FROM addresses")
        await town.run("DELETE FROM recipients")
        yield town


async def on_telegram_too(town: Town, numbers: list[str]) -> dict[str, str]:
    """These people's second addresses. Chats by number."""
    chats = {number: f"5{number[3:]}" for number in numbers}
    async with town.database.write() as session:
        for number, chat in chats.items():
            of_number = select(tables.Address.recipient_id).where(
                tables.Address.account == WHATSAPP, tables.Address.fingerprint == town.seal.fingerprint(number)
            )
            session.add(
                tables.Address(
                    recipient_id=(await session.scalars(of_number)).one(),
                    account=TELEGRAM,
                    fingerprint=town.seal.fingerprint(chat),
                    sealed=town.seal.seal(chat),
                    rank=1,
                )
            )
    return chats


async def halted_for(town: Town, seconds: float, account: str = WHATSAPP) -> None:
    await Pacer(town.database).halt(account, STILL)
    await town.run("UPDATE provider_rates SET halted_at = :at WHERE account = :a", at=time.time() - seconds, a=account)


async def in_lane(town: Town, lane: Lane, people: int, *, both: bool = True) -> int:
    """An alert in a lane, fanned out to so many people who have both addresses."""
    numbers = await town.subscribe(people)
    if both:
        await on_telegram_too(town, numbers)
    dispatch = await town.issue(urgent=lane is not Lane.ROUTINE)
    if lane is Lane.FLASH:
        await town.run("UPDATE dispatches SET lane = 'flash' WHERE id = :d", d=dispatch)
        await town.run("UPDATE alerts SET lane = 'flash'")
    await town.fan_out(dispatch)
    await town.run("DELETE FROM outbox")
    return dispatch


async def accounts(town: Town, dispatch: int) -> list[tuple[str, str]]:
    """The account and the progress of each row, in order."""
    async with town.database.read() as session:
        rows = await session.execute(
            select(tables.Address.account, tables.Delivery.progress)
            .join(tables.Address, tables.Address.id == tables.Delivery.address_id)
            .where(tables.Delivery.dispatch_id == dispatch)
            .order_by(tables.Delivery.seq)
        )
        return [(account.partition(".")[0], Progress(progress).name) for account, progress in rows]


async def check_whole(town: Town, dispatch: int) -> None:
    """The batches cover the audience without a gap and without a person twice, each on the account of its people."""
    batches, rows = await town.batches(dispatch), await town.deliveries(dispatch)
    covered = [seq for batch in batches for seq in range(batch.first, batch.last + 1)]
    assert covered == [row.seq for row in rows] == list(range(1, len(rows) + 1))
    async with town.database.read() as session:
        held = await session.get_one(tables.Dispatch, dispatch)
        of_address = {a.id: a.account for a in (await session.scalars(select(tables.Address))).all()}
    assert held.last_seq == len(rows)
    assert held.audience == len(rows)
    for batch in batches:
        assert batch.lane is held.lane
        theirs = {of_address[row.address_id or 0] for row in rows[batch.first - 1 : batch.last]}
        assert theirs == {batch.account}
        assert str(batch.channel) == batch.account.partition(".")[0]


# ── who is handed over ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("lane", [Lane.FLASH, Lane.EMERGENCY, Lane.ROUTINE])
async def test_whoever_waits_is_told_elsewhere_once_the_lanes_patience_is_over(town: Town, lane: Lane) -> None:
    dispatch = await in_lane(town, lane, 3)
    await halted_for(town, PATIENCE[lane] - 0.5)
    await hand_over(town.database, time.time())
    assert await accounts(town, dispatch) == [("whatsapp", "WAITING")] * 3
    await hand_over(town.database, time.time() + 1)
    expected = [("whatsapp", "HANDED_OVER")] * 3 + [("telegram", "WAITING")] * 3
    assert await accounts(town, dispatch) == expected
    await check_whole(town, dispatch)
    [message] = await town.outbox()
    event = wire.decode(message.body)
    assert isinstance(event, BatchReady)
    assert (event.lane, message.lane, event.channel, event.account) == (lane, lane, Channel.TELEGRAM, TELEGRAM)
    assert (event.first, event.last) == (4, 6)


async def test_who_has_no_other_address_goes_on_waiting(town: Town) -> None:
    dispatch = await in_lane(town, Lane.EMERGENCY, 3, both=False)
    await halted_for(town, 60)
    await hand_over(town.database, time.time())
    assert await accounts(town, dispatch) == [("whatsapp", "WAITING")] * 3
    assert await town.outbox() == []
    await check_whole(town, dispatch)


@pytest.mark.parametrize("lane", [Lane.FLASH, Lane.EMERGENCY])
async def test_who_may_have_it_is_told_elsewhere_only_where_life_is_at_stake(town: Town, lane: Lane) -> None:
    dispatch = await in_lane(town, lane, 8)
    for seq, progress in enumerate(Progress, 0):
        if 1 <= seq <= 8:
            await town.run("UPDATE deliveries SET progress = :p WHERE seq = :s", p=progress.value, s=seq)
    await town.run("UPDATE deliveries SET claimed_until = :t WHERE progress = 1", t=time.time() + 30)
    await halted_for(town, 60)
    await hand_over(town.database, time.time())
    names = [progress for _, progress in await accounts(town, dispatch)]
    flash = lane is Lane.FLASH
    assert names[:8] == [
        "SENDING",
        "HANDED_OVER",
        "UNRESOLVED" if flash else "UNCERTAIN",
        "UNRESOLVED",
        "ACCEPTED",
        "SENT",
        "DELIVERED",
        "READ",
    ]
    assert names[8:] == ["WAITING"] * (2 if flash else 1)
    await check_whole(town, dispatch)


async def test_a_second_address_that_cannot_be_used_is_none(town: Town) -> None:
    dispatch = await in_lane(town, Lane.EMERGENCY, 4)
    rows = await town.deliveries(dispatch)
    recipients = [row.recipient_id for row in rows]
    spoil = "UPDATE addresses SET {} WHERE rank = 1 AND recipient_id = :r"
    await town.run(spoil.format("sealed = NULL"), r=recipients[0])
    await town.run(spoil.format("refused_at = :t"), r=recipients[1], t=datetime.now(UTC).isoformat(" "))
    await town.run(spoil.format("rank = 1"), r=recipients[2])
    await halted_for(town, 60)
    await hand_over(town.database, time.time())
    names = [progress for _, progress in await accounts(town, dispatch)]
    assert names == ["WAITING", "WAITING", "HANDED_OVER", "HANDED_OVER", "WAITING", "WAITING"]


async def test_an_exercises_account_is_nobodys_way_out(town: Town) -> None:
    dispatch = await in_lane(town, Lane.FLASH, 2)
    await town.run("UPDATE channel_accounts SET live = :no WHERE name = :a", no=False, a=TELEGRAM)
    await halted_for(town, 60)
    await hand_over(town.database, time.time())
    assert await accounts(town, dispatch) == [("whatsapp", "WAITING")] * 2


async def test_from_one_halted_account_to_another_nobody_is_handed(town: Town) -> None:
    dispatch = await in_lane(town, Lane.FLASH, 2)
    for account in (WHATSAPP, TELEGRAM):
        await halted_for(town, 60, account)
    await hand_over(town.database, time.time())
    assert await accounts(town, dispatch) == [("whatsapp", "WAITING")] * 2


async def test_nobody_is_sent_to_and_fro(town: Town) -> None:
    """Handed to Telegram, which is halted too a minute later, while WhatsApp opens again."""
    dispatch = await in_lane(town, Lane.EMERGENCY, 2)
    await halted_for(town, 60)
    await hand_over(town.database, time.time())
    await Pacer(town.database).open_again(WHATSAPP)
    await halted_for(town, 60, TELEGRAM)
    before = await accounts(town, dispatch)
    await hand_over(town.database, time.time())
    assert await accounts(town, dispatch) == before


async def test_what_was_taken_back_or_has_ended_is_handed_to_nobody(town: Town) -> None:
    cancelled = await in_lane(town, Lane.EMERGENCY, 3)
    await town.cancel(cancelled)
    await halted_for(town, 60)
    await hand_over(town.database, time.time())
    assert {account for account, _ in await accounts(town, cancelled)} == {"whatsapp"}
    ended = await town.issue()
    await town.fan_out(ended)
    await Reconciler(town.database).look(time.time() + 3 * 3600)
    assert set(await accounts(town, ended)) == {("whatsapp", "FAILED")}


async def test_who_shares_the_number_of_a_halted_account_is_handed_over_too(town: Town) -> None:
    dispatch = await in_lane(town, Lane.EMERGENCY, 2)
    await town.run("UPDATE channel_accounts SET paced_as = 'whatsapp.bientina' WHERE name = :a", a=WHATSAPP)
    await halted_for(town, 60, "whatsapp.bientina")
    await hand_over(town.database, time.time())
    assert (await accounts(town, dispatch))[2:] == [("telegram", "WAITING")] * 2


async def test_more_people_than_one_transaction_takes_are_all_handed_over(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "MOST", 7)
    dispatch = await in_lane(town, Lane.EMERGENCY, 21)
    await halted_for(town, 60)
    await hand_over(town.database, time.time())
    expected = [("whatsapp", "HANDED_OVER")] * 21 + [("telegram", "WAITING")] * 21
    assert await accounts(town, dispatch) == expected
    await check_whole(town, dispatch)


async def test_handing_over_while_the_audience_is_still_being_worked_out_loses_and_doubles_nobody(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fanout, "FEW", 0)
    monkeypatch.setattr(fanout, "FIRST_PAGE", 4)
    monkeypatch.setattr(fanout, "PAGE", 4)
    whole = FanOut._page

    async def page(self: FanOut, *how: object) -> bool:
        more = await whole(self, *how)  # type: ignore[arg-type]
        await hand_over(town.database, time.time())
        return more

    monkeypatch.setattr(FanOut, "_page", page)
    await halted_for(town, 60)
    dispatch = await in_lane(town, Lane.EMERGENCY, 14)
    stands = await accounts(town, dispatch)
    assert stands.count(("whatsapp", "HANDED_OVER")) == stands.count(("telegram", "WAITING")) == 14
    assert len(stands) == 28
    await check_whole(town, dispatch)


# ── twice, and at the same time ─────────────────────────────────────────────────────────────────────


async def test_handing_over_again_changes_nothing(town: Town) -> None:
    dispatch = await in_lane(town, Lane.EMERGENCY, 5)
    await halted_for(town, 60)
    await hand_over(town.database, time.time())
    first = await accounts(town, dispatch), len(await town.outbox())
    await hand_over(town.database, time.time() + 1)
    assert (await accounts(town, dispatch), len(await town.outbox())) == first
    await check_whole(town, dispatch)


@ONE_KIND
async def test_two_reconcilers_at_once_hand_everybody_over_once(town: Town) -> None:
    dispatch = await in_lane(town, Lane.EMERGENCY, 150)
    await halted_for(town, 60)
    other = Database(town.database.url)
    await asyncio.gather(*(hand_over(base, time.time()) for base in (town.database, other) * 3))
    await other.close()
    stands = await accounts(town, dispatch)
    assert stands.count(("telegram", "WAITING")) == stands.count(("whatsapp", "HANDED_OVER")) == 150
    assert len(stands) == 300
    await check_whole(town, dispatch)


async def test_whoever_is_in_a_workers_hand_is_left_there_and_handed_over_when_given_back(town: Town) -> None:
    dispatch = await in_lane(town, Lane.EMERGENCY, 5)
    await halted_for(town, 60)
    async with town.database.write() as session:
        now = time.time()
        claimed = await ledger.claim(session, dispatch, 1, 5, most=2, now=now, until=now + 30)
    await hand_over(town.database, time.time())
    assert (await accounts(town, dispatch))[:2] == [("whatsapp", "SENDING")] * 2
    assert len(await accounts(town, dispatch)) == 8
    async with town.database.write() as session:
        await ledger.give_back(session, dispatch, [(one.seq, one.attempt) for one in claimed])
    await hand_over(town.database, time.time())
    stands = await accounts(town, dispatch)
    assert stands == [("whatsapp", "HANDED_OVER")] * 5 + [("telegram", "WAITING")] * 5
    await check_whole(town, dispatch)


@ONE_KIND
async def test_whoever_is_claimed_for_a_probe_at_that_very_moment_is_told_on_one_channel(town: Town) -> None:
    """A probe may be accepted: who was claimed for it is told there, and must not be told elsewhere too."""
    dispatch = await in_lane(town, Lane.EMERGENCY, 400)
    await halted_for(town, 60)
    other = Database(town.database.url)
    claimed: list[int] = []
    over = asyncio.Event()

    async def probe() -> None:
        while not over.is_set():
            async with other.write() as session:
                now = time.time()
                one = await ledger.claim(session, dispatch, 1, 400, most=1, now=now, until=now + 30)
            claimed.extend(person.seq for person in one)

    probing = asyncio.create_task(probe())
    await until(lambda: bool(claimed))
    await hand_over(town.database, time.time())
    over.set()
    await probing
    await other.close()
    rows = {row.seq: row for row in await town.deliveries(dispatch)}
    elsewhere = {row.recipient_id for seq, row in rows.items() if seq > 400}
    twice = [seq for seq in claimed if rows[seq].recipient_id in elsewhere]
    assert twice == []


async def test_receipts_that_come_late_for_who_was_handed_over_count_and_end_nothing(town: Town) -> None:
    dispatch = await in_lane(town, Lane.FLASH, 3)
    await town.run("UPDATE deliveries SET progress = 3, attempts = 1 WHERE seq = 2")
    await halted_for(town, 60)
    await hand_over(town.database, time.time())
    said = [(1, Progress.SENT), (2, Progress.DELIVERED), (3, Progress.FAILED), (2, Progress.SENT), (1, Progress.READ)]
    async with town.database.write() as session:
        for seq, progress in said:
            await _move(session, [ReceiptCame(dispatch, seq, progress, None, datetime.now(UTC))])
    stands = await accounts(town, dispatch)
    assert [name for _, name in stands[:3]] == ["READ", "DELIVERED", "FAILED"]
    assert stands[3:] == [("telegram", "WAITING")] * 3, "told there all the same"
    await check_whole(town, dispatch)


# ── from the halt to the phones ─────────────────────────────────────────────────────────────────────


@dataclass
class Reached:
    """A running engine, Meta's simulator and Telegram's."""

    engine: Engine
    whatsapp: Served
    telegram: Served


@asynccontextmanager
async def both_channels(
    town: Town, amqp_url: str, amqp_prefix: str, folder: Path, **config: object
) -> AsyncIterator[Reached]:
    async with AsyncExitStack() as running:
        served = await running.enter_async_context(meta(**config))
        bot = await running.enter_async_context(bots())
        engine = await running.enter_async_context(an_engine(town, amqp_url, amqp_prefix, served, folder))
        settings = engine.settings.model_copy(update={"telegram_url": bot.base_url})
        await running.enter_async_context(delivering(settings, bot, Channel.TELEGRAM))
        reconciling = asyncio.create_task(Reconciler(town.database).run())
        yield Reached(engine, served, bot)
        reconciling.cancel()
        await asyncio.gather(reconciling, return_exceptions=True)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PATIENCE, Lane.EMERGENCY, 1.0)
    monkeypatch.setattr(pacing, "PROBE_EVERY", 0.5)
    monkeypatch.setattr(deliver, "PROBE_EVERY", 0.5)
    pacing._lease_statement.cache_clear()


@ONE_KIND
async def test_half_a_town_told_when_the_account_is_halted_everybody_is_told_once(
    town: Town, amqp_url: str, amqp_prefix: str, tmp_path: Path, impatient: None
) -> None:
    numbers = await town.subscribe(60)
    chats = await on_telegram_too(town, numbers[:50])
    await town.run("UPDATE provider_rates SET rate = 40, full_rate = 40 WHERE account = :a", a=WHATSAPP)
    async with both_channels(town, amqp_url, amqp_prefix, tmp_path) as reached:
        dispatch = await town.issue()
        await until(lambda: len(texts(reached.whatsapp)) >= 20)
        reached.whatsapp.simulator.configure({"faults": {190: 1.0}})

        async def handed_over() -> bool:
            stands = await town.summary(dispatch)
            waits = stands.get(Progress.WAITING, 0) + stands.get(Progress.DEFERRED, 0)
            return stands.get(Progress.HANDED_OVER, 0) > 0 and waits == 10 and Progress.SENDING not in stands

        await until(handed_over, within=60)
        first = dict(told(reached.whatsapp))
        there = [number for number in numbers[:50] if number not in first]
        assert told(reached.telegram) == dict.fromkeys((chats[number] for number in there), 1)
        assert not await town.is_over(dispatch), "ten of them have nothing but WhatsApp"
        reached.whatsapp.simulator.configure({"faults": {}})
        await until(lambda: town.is_over(dispatch), within=60)
        assert told(reached.whatsapp) == dict.fromkeys([n for n in numbers if n not in there], 1)
        assert told(reached.telegram) == dict.fromkeys((chats[number] for number in there), 1)
        await check_whole(town, dispatch)


@ONE_KIND
async def test_the_cancel_reaches_each_person_on_the_channel_where_they_got_it(town: Town) -> None:
    dispatch = await in_lane(town, Lane.EMERGENCY, 3)
    await town.run("UPDATE deliveries SET progress = 5 WHERE seq = 1")
    await halted_for(town, 60)
    await hand_over(town.database, time.time())
    assert await accounts(town, dispatch) == [
        ("whatsapp", "ACCEPTED"),
        *[("whatsapp", "HANDED_OVER")] * 2,
        *[("telegram", "WAITING")] * 2,
    ]
    await town.run("UPDATE deliveries SET progress = 5 WHERE seq = 4")
    await Pacer(town.database).open_again(WHATSAPP)
    cancel = await town.cancel(dispatch)
    await town.fan_out(cancel)
    assert sorted(await accounts(town, cancel)) == [("telegram", "WAITING"), ("whatsapp", "WAITING")]
    async with town.database.read() as session:
        told_first = [await session.get_one(tables.Delivery, (dispatch, seq)) for seq in (1, 4)]
    assert {row.address_id for row in await town.deliveries(cancel)} == {row.address_id for row in told_first}
