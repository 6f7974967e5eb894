"""SMS over REST from the alert to the receipt, on both databases: asked after until it is known, by anybody."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError

from alerting import authorities
from alerting.domain.authority import ChannelAccess
from alerting.domain.delivery import Channel, Progress, Reason
from alerting.persistence import Database, tables
from alerting.topology import RECEIPTS_QUEUE
from consumers import polling
from consumers.channel import Account, Secret, Standing
from consumers.local.trial import authorities_with_sms
from consumers.polling import ASKED_AFTER_END, ASKED_FOR, PER_SECOND, WAITS, Polling, next_question, until_when
from consumers.receipts import Receipts
from consumers.simulators import sms_http
from consumers.simulators.serving import Served
from consumers.worker import Worker
from tests.integration.engine import ONE_KIND, TOKEN, Town, a_town, an_engine, delivering, meta, told, until, working

ACCOUNT = "sms.calcinaia"
PASSWORD = "Arno1966"
CALCINAIA = Account(
    ACCOUNT, "calcinaia", Channel.SMS, "http://127.0.0.1:1", Secret(PASSWORD), {"protocol": "rest"}, ACCOUNT
)
DELIVERED = Standing(Progress.DELIVERED, is_final=True)


# ── when ────────────────────────────────────────────────────────────────────────────────────────────


@given(asked=st.integers(0, 200), now=st.floats(1.7e9, 1.9e9), left=st.floats(-1e6, 1e6))
def test_no_question_comes_after_the_last(asked: int, now: float, left: float) -> None:
    last = now + left
    at = next_question(asked, now, last)
    assert at > now
    assert at <= last or last <= now


def test_a_text_nobody_ever_hears_of_costs_some_fifty_questions_and_no_more() -> None:
    now = placed = 1_795_000_000.0
    last, asked = placed + ASKED_FOR.total_seconds(), 0
    while (now := next_question(asked, now, last)) <= last and asked < 1000:
        asked += 1
        if now == last:
            break
    assert 45 <= asked <= 60
    assert [sum(WAITS[: n + 1]) for n in range(4)] == [10, 40, 100, 400]


def test_the_last_question_is_asked_when_the_alert_is_over_or_after_two_days() -> None:
    now = datetime(2026, 11, 26, 7, 0, tzinfo=UTC)
    assert until_when(now, None) == now + ASKED_FOR
    assert until_when(now, now + timedelta(days=7)) == now + ASKED_FOR
    assert until_when(now, now + timedelta(hours=2)) == now + timedelta(hours=2) + ASKED_AFTER_END
    assert until_when(now, now - timedelta(hours=2)) == now + ASKED_AFTER_END


# ── which ───────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Provider:
    """Says what it is told to, and counts what it is asked."""

    says: dict[str, Standing | None] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    slowly: float = 0.0

    async def stands(self, account: Account, reference: str) -> Standing | None:
        self.asked[reference] += 1
        if self.slowly:
            await asyncio.sleep(self.slowly)
        return self.says.get(reference)


async def awaited(database: Database) -> list[tables.AwaitedReceipt]:
    async with database.read() as session:
        query = select(tables.AwaitedReceipt).order_by(tables.AwaitedReceipt.dispatch_id, tables.AwaitedReceipt.seq)
        return list((await session.scalars(query)).all())


async def now_due(database: Database, **also: Any) -> None:
    async with database.write() as session:
        await session.execute(update(tables.AwaitedReceipt).values(next_at=time.time() - 1, **also))


async def events(database: Database) -> list[tuple[int, int, str]]:
    """The receipts promised so far: dispatch, seq, progress."""
    async with database.read() as session:
        rows = (await session.scalars(select(tables.OutboxMessage).order_by(tables.OutboxMessage.id))).all()
    said = [json.loads(row.body) for row in rows if row.exchange == "receipts"]
    return [(one["dispatch"], one["seq"], str(one["progress"])) for one in said]


async def placed(database: Database, people: int) -> Polling:
    """So many texts, handed over and due to be asked after."""
    one = Polling(database)
    for seq in range(1, people + 1):
        one.placed(CALCINAIA, f"7.{seq}.1", None)
    await one.flush()
    await now_due(database)
    return one


async def test_a_text_is_written_down_and_first_asked_after_ten_seconds(database: Database) -> None:
    one, before = Polling(database), time.time()
    one.placed(CALCINAIA, "7.3.1", datetime.now(UTC) + timedelta(hours=2))
    one.placed(CALCINAIA, "att_01J9", None)  # none of ours
    await one.flush()
    (row,) = await awaited(database)
    assert (row.dispatch_id, row.seq, row.attempt, row.account, row.progress) == (7, 3, 1, ACCOUNT, None)
    assert 9 < row.next_at - before < 20
    assert await one.ask_some(CALCINAIA, Provider().stands) == 0


async def test_what_was_not_taken_is_not_asked_whenever_that_turns_out(database: Database) -> None:
    one = Polling(database)
    one.placed(CALCINAIA, "7.1.1", None)
    one.not_taken("7.1.1")  # before it was written
    one.placed(CALCINAIA, "7.2.1", None)
    one.placed(CALCINAIA, "7.3.1", None)
    await one.flush()
    assert [row.seq for row in await awaited(database)] == [2, 3]
    one.not_taken("7.2.1")  # afterwards
    await one.flush()
    assert [row.seq for row in await awaited(database)] == [3]
    one.placed(CALCINAIA, "7.4.1", None)
    writing = asyncio.create_task(one.flush())
    await asyncio.sleep(0)
    one.not_taken("7.4.1")  # in between
    await writing
    assert [row.seq for row in await awaited(database)] == [3]


async def test_what_is_learned_is_told_once_and_what_is_final_is_over(database: Database) -> None:
    one, provider = await placed(database, 3), Provider({"7.1.1": DELIVERED, "7.2.1": Standing(Progress.SENT)})
    for _ in range(3):
        await one.ask_some(CALCINAIA, provider.stands)
        await now_due(database)
    assert await events(database) == [(7, 1, "DELIVERED"), (7, 2, "SENT")]
    assert [(row.seq, row.progress, row.asked) for row in await awaited(database)] == [
        (2, Progress.SENT.value, 3),
        (3, None, 3),
    ]
    assert provider.asked == {"7.1.1": 1, "7.2.1": 3, "7.3.1": 3}


async def test_the_last_question_ends_it_whatever_the_answer(database: Database) -> None:
    one = await placed(database, 2)
    await now_due(database, until=time.time() - 1)
    await one.ask_some(CALCINAIA, Provider({"7.1.1": Standing(Progress.SENT)}).stands)
    assert await awaited(database) == []
    assert await events(database) == [(7, 1, "SENT")]


async def test_whoever_is_killed_between_question_and_answer_costs_a_wait_and_no_receipt(database: Database) -> None:
    killed, provider = await placed(database, 1), Provider({"7.1.1": DELIVERED}, slowly=30.0)
    asking = asyncio.create_task(killed.ask_some(CALCINAIA, provider.stands))
    await until(lambda: provider.asked["7.1.1"] == 1)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    (row,) = await awaited(database)
    assert 0 < row.next_at - time.time() <= WAITS[1]
    await now_due(database)
    await Polling(database).ask_some(CALCINAIA, Provider({"7.1.1": DELIVERED}).stands)
    assert await events(database) == [(7, 1, "DELIVERED")]
    assert await awaited(database) == []


async def test_a_second_has_room_for_so_many_questions_and_the_oldest_come_first(database: Database) -> None:
    one, provider = await placed(database, PER_SECOND + 3), Provider()
    async with database.write() as session:
        late = update(tables.AwaitedReceipt).where(tables.AwaitedReceipt.seq > PER_SECOND)
        await session.execute(late.values(next_at=time.time() - 100))
    assert await one.ask_some(CALCINAIA, provider.stands) == PER_SECOND
    assert {f"7.{PER_SECOND + n}.1" for n in (1, 2, 3)} <= provider.asked.keys()
    assert await one.ask_some(CALCINAIA, provider.stands) == 3
    assert set(provider.asked.values()) == {1}


@ONE_KIND
async def test_six_processes_ask_each_question_once(database: Database) -> None:
    one, provider = await placed(database, PER_SECOND * 6), Provider(slowly=0.05)
    everybody = [one, *(Polling(database) for _ in range(5))]
    while sum(await asyncio.gather(*(each.ask_some(CALCINAIA, provider.stands) for each in everybody))):
        pass
    assert provider.asked == {f"7.{seq}.1": 1 for seq in range(1, PER_SECOND * 6 + 1)}


async def test_another_account_is_asked_by_its_own(database: Database) -> None:
    one, provider = await placed(database, 1), Provider()
    bientina = replace(CALCINAIA, name="sms.bientina", paced_as="sms.bientina")
    assert await one.ask_some(bientina, provider.stands) == 0
    assert await one.ask_some(replace(bientina, paced_as=ACCOUNT), provider.stands) == 1, "they share its number"


async def test_a_database_that_is_away_loses_no_text(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    one, write, away = Polling(database), database.write, [True, True]

    @asynccontextmanager
    async def sometimes(**how: Any) -> AsyncIterator[Any]:
        if away:
            away.pop()
            raise OperationalError("INSERT", {}, OSError("the database is away"))
        async with write(**how) as session:
            yield session

    monkeypatch.setattr(database, "write", sometimes)
    monkeypatch.setattr(polling, "PAUSE_AFTER_TROUBLE", 0.01)
    one.placed(CALCINAIA, "7.1.1", None)
    await one.flush()
    assert len(await awaited(database)) == 1


# ── in the engine ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def sms(tmp_path: Path) -> ChannelAccess:
    """Calcinaia's account at a house with a REST API."""
    access = authorities.load(authorities_with_sms(tmp_path / "authorities"))["calcinaia"].channel(Channel.SMS)
    assert access is not None
    rest = {
        "sender": "Calcinaia",
        "protocol": "rest",
        "url": "https://api.skebby.it",
        "user": "calcinaia",
        "message_type": "GP",
    }
    return replace(access, settings=rest)


@pytest.fixture
async def town(database_url: str, sms: ChannelAccess, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Town]:
    """Calcinaia with SMS beside WhatsApp."""
    shipped = authorities.load()
    whatsapp, *_ = shipped["calcinaia"].channels
    with_sms = {"calcinaia": replace(shipped["calcinaia"], channels=(whatsapp, sms))}
    monkeypatch.setattr(authorities, "load", lambda folder=None: shipped | with_sms)
    async with a_town(database_url, telegram=True) as town:
        yield town


@asynccontextmanager
async def a_house(**config: Any) -> AsyncIterator[Served]:
    known: dict[str, Any] = {"accounts": {"calcinaia": {"password": PASSWORD, "senders": ["Calcinaia"]}}}
    served = await sms_http.start(known | {"per_second": 5000} | config)
    yield served
    await served.close()


@asynccontextmanager
async def wired(town: Town, url: str, prefix: str, folder: Path, **config: Any) -> AsyncIterator[tuple[Served, Any]]:
    """Everything that runs but the delivery of SMS. The provider, and the settings of who delivers."""
    async with AsyncExitStack() as running:
        served = await running.enter_async_context(a_house(**config))
        whatsapp = await running.enter_async_context(meta())
        engine = await running.enter_async_context(an_engine(town, url, prefix, whatsapp, folder, workers=0))
        secrets = folder / "secrets-sms.json"
        secrets.write_text(json.dumps({ACCOUNT: {"token": PASSWORD}, "whatsapp.calcinaia": {"token": TOKEN}}))
        changes = {"sms_rest_url": served.base_url, "sms_url": "smpp://127.0.0.1:1", "secrets_file": secrets}
        reading = Worker(engine.settings, "receipts")
        taking = Receipts(reading.database)
        reading.takes(RECEIPTS_QUEUE, taking.take, prefetch=1000, at_once=500)
        await running.enter_async_context(working(reading, beside={"writing": taking.run()}))
        yield served, engine.settings.model_copy(update=changes)


async def stands(town: Town, dispatch: int, progress: Progress, people: int) -> bool:
    return (await town.summary(dispatch)).get(progress, 0) == people


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Questions after fractions of a second, in the proportions of service."""
    monkeypatch.setattr(polling, "WAITS", tuple(wait / 20 for wait in WAITS))
    monkeypatch.setattr(polling, "LOOKS_EVERY", 0.05)


@pytest.mark.usefixtures("hurried")
async def test_an_alert_reaches_whoever_is_registered_with_sms_and_the_answers_the_ledger(
    town: Town, sms: ChannelAccess, amqp_url: str, amqp_prefix: str, tmp_path: Path
) -> None:
    async with (
        wired(town, amqp_url, amqp_prefix, tmp_path) as (house, settings),
        delivering(settings, house, Channel.SMS),
    ):
        numbers = await town.subscribe(30, account=sms)
        dispatch = await town.issue()
        await until(lambda: stands(town, dispatch, Progress.DELIVERED, 30), within=60)
        assert dict(told(house)) == dict.fromkeys(numbers, 1)
    assert await awaited(town.database) == [], "all is known, and nothing is asked any more"


@pytest.mark.usefixtures("hurried")
async def test_what_was_accepted_before_a_restart_is_asked_after_by_the_next_process(
    town: Town, sms: ChannelAccess, amqp_url: str, amqp_prefix: str, tmp_path: Path
) -> None:
    async with wired(town, amqp_url, amqp_prefix, tmp_path, step_after=60.0) as (house, settings):
        async with delivering(settings, house, Channel.SMS):
            await town.subscribe(5, account=sms)
            dispatch = await town.issue()
            await until(lambda: stands(town, dispatch, Progress.ACCEPTED, 5), within=60)
        house.simulator.configure({"clock_ahead": 300.0})
        assert await stands(town, dispatch, Progress.ACCEPTED, 5), "nobody was there to ask"
        async with delivering(settings, house, Channel.SMS):
            await until(lambda: stands(town, dispatch, Progress.DELIVERED, 5), within=60)


@pytest.mark.usefixtures("hurried")
async def test_a_text_whose_line_died_is_found_delivered_and_not_said_again(
    town: Town, sms: ChannelAccess, amqp_url: str, amqp_prefix: str, tmp_path: Path
) -> None:
    """No other channel can ask: there a silence costs a minute, and often a text said twice."""
    async with (
        wired(town, amqp_url, amqp_prefix, tmp_path) as (house, settings),
        delivering(settings, house, Channel.SMS),
    ):
        town.numbers = iter([1505])
        (number,) = await town.subscribe(1, account=sms)
        dispatch = await town.issue()
        await until(lambda: stands(town, dispatch, Progress.DELIVERED, 1), within=60)
        assert told(house)[number] == 1
        (delivery,) = await town.deliveries(dispatch)
        assert delivery.attempts == 1


@pytest.mark.usefixtures("hurried")
async def test_who_cannot_be_reached_is_written_down_with_the_reason(
    town: Town, sms: ChannelAccess, amqp_url: str, amqp_prefix: str, tmp_path: Path
) -> None:
    async with (
        wired(town, amqp_url, amqp_prefix, tmp_path) as (house, settings),
        delivering(settings, house, Channel.SMS),
    ):
        town.numbers = iter([1404, 2714, 3717, 4713, 5110])
        await town.subscribe(5, account=sms)
        dispatch = await town.issue()
        await until(lambda: stands(town, dispatch, Progress.FAILED, 2), within=60)
        await until(lambda: stands(town, dispatch, Progress.DELIVERED, 1), within=60)
        await until(lambda: stands(town, dispatch, Progress.SENT, 1), within=60)
        found = Counter((Progress(row.progress), row.reason) for row in await town.deliveries(dispatch))
    assert found == {
        (Progress.REFUSED, Reason.NOT_REACHABLE_HERE.value): 1,
        (Progress.FAILED, Reason.NOT_REACHABLE_HERE.value): 1,
        (Progress.FAILED, Reason.POLICY.value): 1,
        (Progress.SENT, None): 1,  # TIMEOUT: nobody will ever say more
        (Progress.DELIVERED, None): 1,
    }


@contextmanager
def a_process(settings: Any, house: Served) -> Iterator[subprocess.Popen[bytes]]:
    """One that delivers SMS, as in service. Killed at the end, if it is still there."""
    told_so = {
        "AMQP_URL": settings.amqp,
        "DATABASE_URL": settings.database,
        "ALERTING_AMQP_PREFIX": settings.amqp_prefix,
        "ALERTING_KEY": settings.key.get_secret_value(),
        "ALERTING_SECRETS_FILE": str(settings.secrets_file),
        "SMS_REST_URL": house.base_url,
    }
    command = [sys.executable, "-m", "consumers", "deliver", "--channel", "sms"]
    with subprocess.Popen(command, env=os.environ | told_so, stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


@ONE_KIND
async def test_a_process_killed_while_the_provider_answers_says_nothing_twice(
    town: Town, sms: ChannelAccess, amqp_url: str, amqp_prefix: str, tmp_path: Path
) -> None:
    """SIGKILL between the order and its answer: the next process asks, and need not say it again."""
    async with wired(town, amqp_url, amqp_prefix, tmp_path, answers_after=60.0) as (house, settings):
        numbers = await town.subscribe(4, account=sms)
        with a_process(settings, house) as first:
            dispatch = await town.issue()
            await until(lambda: len(told(house)) == 4, within=60)
            await asyncio.sleep(0.5)  # for what is written beside
            first.kill()
            first.wait()
        assert not await stands(town, dispatch, Progress.ACCEPTED, 4), "nobody heard the answers"
        house.simulator.configure({"answers_after": 0.0})
        with a_process(settings, house):
            await until(lambda: stands(town, dispatch, Progress.DELIVERED, 4), within=60)
        assert dict(told(house)) == dict.fromkeys(numbers, 1)
        assert {row.attempts for row in await town.deliveries(dispatch)} == {1}
