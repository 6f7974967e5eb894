"""SMS from the alert to the receipt, on both databases: the SMSC's name for a text finds its way to ours."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from alerting import authorities
from alerting.actors import Role
from alerting.api.alerts import _euro
from alerting.domain import gsm
from alerting.domain.authority import ChannelAccess
from alerting.domain.delivery import Channel, Progress, Reason
from alerting.domain.rendering import Rendering
from alerting.persistence import Database, tables
from alerting.sealing import Seal
from alerting.targeting import AccountShare
from alerting.topology import RECEIPTS_QUEUE
from consumers.channel import Called, Report
from consumers.local.trial import authorities_with_sms
from consumers.pairing import KEPT, Pairing
from consumers.receipts import Receipts
from consumers.simulators import sms_smpp
from consumers.simulators.serving import Served
from consumers.worker import Worker
from tests.integration.engine import (
    KEY,
    TOKEN,
    Engine,
    Town,
    a_town,
    an_engine,
    delivering,
    meta,
    soon,
    texts,
    told,
    until,
    working,
)

ACCOUNT = "sms.calcinaia"
PASSWORD = "Arno1966"


@pytest.fixture
def sms(tmp_path: Path) -> ChannelAccess:
    """Calcinaia's account at an SMSC, as its file would have it."""
    access = authorities.load(authorities_with_sms(tmp_path / "authorities"))["calcinaia"].channel(Channel.SMS)
    assert access is not None
    return access


@pytest.fixture
async def town(database_url: str, sms: ChannelAccess, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Town]:
    """Calcinaia with SMS beside WhatsApp."""
    shipped = authorities.load()
    calcinaia = shipped["calcinaia"]
    whatsapp, *_ = calcinaia.channels
    with_sms = {"calcinaia": replace(calcinaia, channels=(whatsapp, sms))}
    monkeypatch.setattr(authorities, "load", lambda folder=None: shipped | with_sms)
    async with a_town(database_url, telegram=True) as town:
        yield town


@asynccontextmanager
async def an_smsc(**config: Any) -> AsyncIterator[Served]:
    known: dict[str, Any] = {"accounts": {"calcinaia": {"password": PASSWORD, "senders": ["Calcinaia"]}}}
    served = await sms_smpp.start(known | {"per_second": 5000} | config)
    yield served
    await served.close()


@dataclass
class Wired:
    """Everything that runs but the delivery of SMS, whose processes a test starts and stops."""

    engine: Engine
    smsc: Served
    settings: Any

    def deliver(self) -> Any:
        return delivering(self.settings, self.smsc, Channel.SMS)


@asynccontextmanager
async def wired(town: Town, url: str, prefix: str, folder: Path, **config: Any) -> AsyncIterator[Wired]:
    async with AsyncExitStack() as running:
        smsc = await running.enter_async_context(an_smsc(**config))
        whatsapp = await running.enter_async_context(meta())
        engine = await running.enter_async_context(an_engine(town, url, prefix, whatsapp, folder, workers=0))
        secrets = folder / "secrets-sms.json"
        secrets.write_text(json.dumps({ACCOUNT: {"token": PASSWORD}, "whatsapp.calcinaia": {"token": TOKEN}}))
        settings = engine.settings.model_copy(update={"sms_url": smsc.simulator.smpp_url, "secrets_file": secrets})  # type: ignore[attr-defined]
        reading = Worker(settings, "receipts")
        taking = Receipts(reading.database)
        reading.takes(RECEIPTS_QUEUE, taking.take, prefetch=1000, at_once=500)
        await running.enter_async_context(working(reading, beside={"writing": taking.run()}))
        yield Wired(engine, smsc, settings)


async def stands(town: Town, dispatch: int, progress: Progress, people: int) -> bool:
    return (await town.summary(dispatch)).get(progress, 0) == people


async def test_an_alert_reaches_whoever_is_registered_with_sms_and_the_receipt_the_ledger(
    town: Town, sms: ChannelAccess, amqp_url: str, amqp_prefix: str, tmp_path: Path
) -> None:
    async with wired(town, amqp_url, amqp_prefix, tmp_path) as all_of_it, all_of_it.deliver():
        numbers = await town.subscribe(30, account=sms)
        dispatch = await town.issue()

        await until(lambda: stands(town, dispatch, Progress.DELIVERED, 30), within=60)

        assert dict(told(all_of_it.smsc)) == dict.fromkeys(numbers, 1)
        (text, *_) = texts(all_of_it.smsc)
        assert text["account"] == "Calcinaia"
        assert text["text"].startswith("Comune di Calcinaia: ") and "via Morandi" in text["text"]
        submitted = all_of_it.smsc.simulator.submitted  # type: ignore[attr-defined]
        assert all(one.validity.endswith("R") and one.registered == 1 for one in submitted)
        assert {one.coding for one in submitted} == {0}
        assert len(submitted) == 60, "two parts each"


def test_the_preview_counts_the_parts_that_are_paid(sms: ChannelAccess) -> None:
    calcinaia = replace(authorities.load()["calcinaia"], channels=(sms,))
    share = AccountShare(ACCOUNT, Channel.SMS, 100, 0, 0.0)
    three = Rendering("…", size=gsm.Size(gsm.Encoding.GSM_7, 400, 3))
    assert _euro(share, calcinaia, Role.OPERATOR, three) == 13.5  # 100 people, three parts each, at 0.045


async def test_a_receipt_that_comes_after_a_restart_is_still_ours(
    town: Town, sms: ChannelAccess, amqp_url: str, amqp_prefix: str, tmp_path: Path
) -> None:
    async with wired(town, amqp_url, amqp_prefix, tmp_path, receipts_after=3.0) as all_of_it:
        async with all_of_it.deliver():
            await town.subscribe(5, account=sms)
            dispatch = await town.issue()
            await until(lambda: stands(town, dispatch, Progress.ACCEPTED, 5), within=60)
        await asyncio.sleep(3.2)
        assert await stands(town, dispatch, Progress.ACCEPTED, 5), "nobody was there to hear it"
        async with all_of_it.deliver():
            await until(lambda: stands(town, dispatch, Progress.DELIVERED, 5), within=60)


async def test_two_processes_hear_each_others_receipts(
    town: Town, sms: ChannelAccess, amqp_url: str, amqp_prefix: str, tmp_path: Path
) -> None:
    async with wired(town, amqp_url, amqp_prefix, tmp_path, receipts_each=2) as all_of_it:
        async with all_of_it.deliver(), all_of_it.deliver():
            bound = all_of_it.smsc.simulator._sessions  # type: ignore[attr-defined]
            await until(lambda: len(bound) == 2)
            numbers = await town.subscribe(120, account=sms)
            dispatch = await town.issue()
            await until(lambda: stands(town, dispatch, Progress.DELIVERED, 120), within=60)
        assert dict(told(all_of_it.smsc)) == dict.fromkeys(numbers, 1)


async def test_who_cannot_be_reached_is_written_down_with_the_reason(
    town: Town, sms: ChannelAccess, amqp_url: str, amqp_prefix: str, tmp_path: Path
) -> None:
    async with wired(town, amqp_url, amqp_prefix, tmp_path, receipts_first=True) as all_of_it:
        async with all_of_it.deliver():
            town.numbers = iter([1404, 2406, 3408, 4110])
            await town.subscribe(4, account=sms)
            dispatch = await town.issue()
            await until(lambda: stands(town, dispatch, Progress.FAILED, 2), within=60)
            await until(lambda: stands(town, dispatch, Progress.DELIVERED, 1), within=60)
        found = [(row.progress, row.reason) for row in await town.deliveries(dispatch)]
    assert sorted(found, key=str) == sorted(
        [
            (Progress.REFUSED.value, Reason.NOT_REACHABLE_HERE.value),
            (Progress.FAILED.value, Reason.NOT_REACHABLE_HERE.value),
            (Progress.FAILED.value, Reason.EXPIRED.value),
            (Progress.DELIVERED.value, None),
        ],
        key=str,
    )


# ── two names for one text ──────────────────────────────────────────────────────────────────────────


MARIA, GINO = "+393331234567", "+393337654321"


@pytest.fixture
async def pairing(database: Database) -> Pairing:
    return Pairing(database, Seal(bytes.fromhex(KEY)))


def called(provider_id: str, reference: str = "7.3.1", number: str = MARIA, parts: int = 1) -> Called:
    return Called(ACCOUNT, provider_id, number, reference, parts)


def report(provider_id: str, progress: Progress = Progress.DELIVERED, number: str = MARIA) -> Report:
    return Report(ACCOUNT, provider_id, (number, "Calcinaia"), progress)


async def tell(pairing: Pairing, *what: Called | Report) -> None:
    """Each written before the next is heard."""
    for one in what:
        if isinstance(one, Called):
            pairing.called(one)
            await pairing.flush()
        else:
            written = asyncio.ensure_future(pairing.reported(one))
            await asyncio.sleep(0)
            await pairing.flush()
            await written


async def events(database: Database) -> list[tuple[int, int, str]]:
    async with database.read() as session:
        rows = (await session.scalars(select(tables.OutboxMessage).order_by(tables.OutboxMessage.id))).all()
    said = [row.message_id.removeprefix("receipt:").split(".") for row in rows]
    return [(int(dispatch), int(seq), progress) for dispatch, seq, progress in said]


@pytest.mark.parametrize(
    ("answered", "reported"),
    [("1A2B", "6699"), ("1a2b", "0000006699"), ("6699", "1A2B"), ("00012", "12"), ("ab-12-x", "AB-12-X")],
)
async def test_an_id_is_the_same_in_hex_and_in_decimal(
    pairing: Pairing, database: Database, answered: str, reported: str
) -> None:
    await tell(pairing, called(answered), report(reported))
    assert await events(database) == [(7, 3, "DELIVERED")]


async def test_ids_that_could_be_one_another_are_told_apart_by_whose_they_are(
    pairing: Pairing, database: Database
) -> None:
    await tell(pairing, called("12", "7.1.1", MARIA), called("C", "7.2.1", GINO))  # in hex; C is 12 in decimal
    await tell(pairing, report("12", number="393337654321"))
    assert await events(database) == [(7, 2, "DELIVERED")]


async def test_a_receipt_before_the_answer_waits_for_it(pairing: Pairing, database: Database) -> None:
    await tell(pairing, report("6699"))
    assert await events(database) == []
    await tell(pairing, called("1A2B"))
    assert await events(database) == [(7, 3, "DELIVERED")]


@pytest.mark.parametrize("less", [Progress.SENT, Progress.FAILED])
async def test_early_receipts_end_alike_in_any_order(pairing: Pairing, database: Database, less: Progress) -> None:
    await tell(pairing, report("6699"), report("6699", less), called("1A2B"))
    assert await events(database) == [(7, 3, "DELIVERED")]


async def test_a_receipt_that_is_said_twice_moves_nobody_twice(pairing: Pairing, database: Database) -> None:
    await tell(pairing, called("A1"), report("161"), report("161"), report("A1", Progress.SENT))
    assert await events(database) == [(7, 3, "DELIVERED")]


async def test_an_unknown_id_is_nobodys(pairing: Pairing, database: Database) -> None:
    await tell(pairing, called("A1"), report("A2"), report("A1", number=GINO), report("A1", number=""))
    assert await events(database) == []


async def test_half_a_text_that_arrived_is_not_delivered(pairing: Pairing, database: Database) -> None:
    await tell(pairing, called("A1", parts=2), report("A1"))
    assert await events(database) == []
    await tell(pairing, called("A2", parts=2), report("A2"))
    assert await events(database) == [(7, 3, "DELIVERED")]


async def test_a_text_fails_with_any_of_its_parts(pairing: Pairing, database: Database) -> None:
    await tell(pairing, called("A1", parts=2), called("A2", parts=2), report("A2", Progress.FAILED), report("A1"))
    assert [progress for _, _, progress in await events(database)][:1] == ["FAILED"]
    assert "DELIVERED" not in {progress for _, _, progress in await events(database)}


async def test_parts_of_another_attempt_do_not_make_it_whole(pairing: Pairing, database: Database) -> None:
    await tell(pairing, called("A1", "7.3.1", parts=2), called("A2", "7.3.2", parts=2), report("A1"), report("A2"))
    assert await events(database) == []


async def test_names_in_any_order_over_two_processes_end_alike(database: Database) -> None:
    """Two that write at once, each half of what is said of two-part texts."""
    both = [Pairing(database, Seal(bytes.fromhex(KEY))) for _ in range(2)]
    dice = random.Random(1966)
    said: list[Called | Report] = []
    for seq in range(1, 41):
        ids = [f"{seq * 16 + part:X}" for part in (1, 2)]
        number = f"+39333120{seq:04}"
        said += [called(name, f"7.{seq}.1", number, parts=2) for name in ids]
        said += [report(str(int(name, 16)), number=number) for name in ids]
    dice.shuffle(said)
    running = [asyncio.create_task(one.run()) for one in both]
    waits = []
    for one in said:
        pairing = dice.choice(both)
        if isinstance(one, Called):
            both[int(one.reference.split(".")[1]) % 2].called(one)  # all parts of a text are sent by one process
        else:
            waits.append(asyncio.create_task(pairing.reported(one)))
        await asyncio.sleep(0.001)
    await asyncio.gather(*waits)
    for pairing in both:
        await pairing.flush()
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    assert {seq for _, seq, progress in await events(database) if progress == "DELIVERED"} == set(range(1, 41))


async def test_names_are_forgotten_and_nobodys_number_is_in_them(pairing: Pairing, database: Database) -> None:
    await tell(pairing, called("A1"))
    async with database.write() as session:
        (row,) = (await session.scalars(select(tables.ProviderText))).all()
        assert len(row.fingerprint) == 32 and not hasattr(row, "number")
        row.at = soon(-KEPT.total_seconds() - 1)
    await tell(Pairing(database, Seal(bytes.fromhex(KEY))), called("B2", "7.4.1"))
    async with database.read() as session:
        assert [row.seq for row in (await session.scalars(select(tables.ProviderText))).all()] == [4]
