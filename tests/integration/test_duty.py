"""Whoever is on duty is called: where the file says, again and again, and not once more after they have answered."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from sqlalchemy import select

from alerting import paging
from alerting.domain.authority import Duty as OnDuty
from alerting.domain.delivery import Channel, Progress
from alerting.domain.lanes import Lane
from alerting.persistence import Database, tables
from consumers.duty import AT_ONCE, CALL_AGAIN, CALLS, STAYS_TRUE, Duty, in_template
from tests.integration.engine import (
    ONE_KIND,
    WHATSAPP,
    Town,
    a_town,
    an_engine,
    bots,
    delivering,
    meta,
    texts,
    until,
)

TELEGRAM = "telegram.calcinaia"
LUCA, SALA = "+393336661230", "-1001234567890"
begun: dict[str, float] = {}
"""By database, when its test began: what is called at import would be stale when its turn comes."""
SENTENCE = "Dipartimento della Protezione Civile: Allerta rossa per piena di fiumi e canali."
ABOUT = "alert calcinaia-20250314-1"


@pytest.fixture
async def town(database_url: str) -> AsyncIterator[Town]:
    """Calcinaia with somebody on duty on WhatsApp; nobody in the other comuni."""
    async with a_town(database_url, telegram=True) as town:
        begun[town.database.url] = time.time()
        yield on_duty(town, OnDuty(WHATSAPP, LUCA))


def on_duty(town: Town, duty: OnDuty | None, comune: str = "calcinaia") -> Town:
    town.authorities[comune] = replace(town.authorities[comune], duty=duty)
    return town


async def page(town: Town, about: str = ABOUT, sentence: str = SENTENCE, authority: str | None = "calcinaia") -> None:
    async with town.database.write() as session:
        await paging.call(session, about, sentence, datetime.now(UTC), authority)


async def call(town: Town, after: float = 0.0, database: Database | None = None) -> None:
    await Duty(database or town.database, town.authorities, town.seal).call(begun[town.database.url] + after)


async def calls(town: Town) -> list[tables.Dispatch]:
    async with town.database.read() as session:
        return list((await session.scalars(select(tables.Dispatch).order_by(tables.Dispatch.id))).all())


async def the_page(town: Town) -> tables.Page:
    async with town.database.read() as session:
        return (await session.scalars(select(tables.Page))).one()


# ── where, and with what words ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("duty", "channel"),
    [(OnDuty(WHATSAPP, LUCA), Channel.WHATSAPP), (OnDuty(TELEGRAM, SALA), Channel.TELEGRAM)],
    ids=["whatsapp", "telegram"],
)
async def test_they_are_called_on_the_account_of_the_file_in_the_lane_of_emergencies(
    town: Town, duty: OnDuty, channel: Channel
) -> None:
    on_duty(town, duty)
    await page(town)
    await call(town)
    (dispatch,) = await calls(town)
    assert (dispatch.authority, dispatch.lane, dispatch.alert, dispatch.audience) == (
        "calcinaia",
        Lane.EMERGENCY,
        None,
        1,
    )
    assert dispatch.not_after == datetime.fromtimestamp(begun[town.database.url], UTC) + STAYS_TRUE, (
        "then they are called again"
    )
    assert dispatch.reply_text == (
        "REPERIBILITÀ: Dipartimento della Protezione Civile: Allerta rossa per piena di fiumi e canali. "
        f"Conferma di aver visto la pagina {(await the_page(town)).id}."
    )
    (batch,) = await town.batches(dispatch.id)
    assert (batch.account, batch.channel, batch.lane) == (duty.account, channel, Lane.EMERGENCY)
    (told,) = await town.outbox()
    assert (told.lane, told.routing_key) == (Lane.EMERGENCY, f"{channel}.emergency")


async def test_the_address_is_sealed_wherever_it_is_kept_and_in_no_log(town: Town) -> None:
    with structlog.testing.capture_logs() as logs:
        await page(town)
        await call(town)
    (dispatch,) = await calls(town)
    assert dispatch.reply_to is not None
    assert LUCA[1:].encode() not in dispatch.reply_to
    assert town.seal.open(dispatch.reply_to) == LUCA
    outbox = b"".join(message.body for message in await town.outbox())
    said = json.dumps(logs, default=str)
    assert LUCA[1:] not in f"{said}{outbox!r}{dispatch.reply_text}"
    assert "fiumi" not in said, "nor what it says"
    assert ABOUT in said


async def test_what_others_wrote_is_said_in_one_line_that_ends(town: Town) -> None:
    await page(town, sentence="unione-valdera: OperationalError:\n  la base dati\tnon risponde...")
    await call(town)
    (dispatch,) = await calls(town)
    assert (dispatch.reply_text or "").startswith(
        "REPERIBILITÀ: unione-valdera: OperationalError: la base dati non risponde. Conferma "
    )


async def test_a_comune_without_anybody_on_duty_calls_nobody_and_holds_up_nobody(town: Town) -> None:
    await page(town, "intake 1", authority="bientina")
    await page(town, "intake 2")
    await call(town)
    assert [dispatch.authority for dispatch in await calls(town)] == ["calcinaia"]


async def test_what_concerns_everybody_calls_everybody_who_is_on_duty(town: Town) -> None:
    on_duty(town, OnDuty("whatsapp.cascina", "+393336661240"), "cascina")
    await page(town, "source dpc-criticita", "Nessun bollettino.", None)
    await call(town)
    assert sorted(dispatch.authority for dispatch in await calls(town)) == ["calcinaia", "cascina"]


# ── how often ───────────────────────────────────────────────────────────────────────────────────────


async def test_they_are_called_again_after_five_minutes_and_not_before(town: Town) -> None:
    await page(town)
    for after in (0.0, 2.0, CALL_AGAIN - 1, CALL_AGAIN + 1, CALL_AGAIN + 3, 2 * CALL_AGAIN + 2):
        await call(town, after)
    said = [(dispatch.reply_text or "").split(":")[0] for dispatch in await calls(town)]
    assert said == ["REPERIBILITÀ", "REPERIBILITÀ (2ª chiamata)", "REPERIBILITÀ (3ª chiamata)"]


async def test_who_has_said_they_saw_it_is_not_called_any_more(town: Town) -> None:
    await page(town)
    await call(town)
    async with town.database.write() as session:
        await paging.acknowledge(session, (await the_page(town)).id, "luca", datetime.now(UTC))
    await call(town, CALL_AGAIN + 1)
    assert len(await calls(town)) == 1


async def test_what_was_settled_otherwise_calls_nobody(town: Town) -> None:
    await page(town)
    async with town.database.write() as session:
        await paging.close(session, ABOUT, "dpc-criticita", datetime.now(UTC))
    await call(town)
    assert await calls(town) == []


async def test_after_two_hours_of_calls_only_the_console_goes_on(town: Town) -> None:
    await page(town)
    for n in range(CALLS + 5):
        await call(town, n * (CALL_AGAIN + 1))
    assert len(await calls(town)) == CALLS
    assert timedelta(seconds=CALLS * CALL_AGAIN) == timedelta(hours=2)


async def test_what_has_grown_graver_is_called_at_once_however_often_nobody_answered(town: Town) -> None:
    await page(town, sentence="Allerta arancione.")
    for n in range(CALLS):
        await call(town, n * (CALL_AGAIN + 1))
    last = CALLS * (CALL_AGAIN + 1)
    await page(town, sentence="Allerta arancione.")
    await call(town, last)
    assert len(await calls(town)) == CALLS, "the same again is nothing new"
    await page(town, sentence="Allerta rossa.")
    await call(town, last + 1)
    assert (await calls(town))[-1].reply_text == "REPERIBILITÀ: Allerta rossa. Conferma di aver visto la pagina 1."


async def test_a_storm_of_things_to_look_at_is_no_storm_of_calls(town: Town) -> None:
    for n in range(AT_ONCE * 2 + 3):
        await page(town, f"intake {n}", f"Un documento in quarantena, il numero {n}.")
    for seconds, so_far in ((0, 1), (2, 2), (4, 3), (6, 3)):
        await call(town, seconds)
        assert len(await calls(town)) == so_far
    said = [dispatch.reply_text or "" for dispatch in await calls(town)]
    assert "numero 0." in said[0] and f"E altre {AT_ONCE - 1} cose da guardare" in said[0]
    assert f"numero {AT_ONCE * 2}." in said[2] and "E altre 2 cose" in said[2]


async def test_several_processes_call_once(town: Town) -> None:
    await page(town)
    await page(town, "intake 4", "Un documento in quarantena.")
    others = [Database(town.database.url) for _ in range(4)]
    try:
        await asyncio.gather(*(call(town, 0.0, database) for database in others))
        await asyncio.gather(*(call(town, CALL_AGAIN + 1, database) for database in others))
    finally:
        await asyncio.gather(*(database.close() for database in others))
    assert len(await calls(town)) == 2, "one call for both things, twice"


# ── as far as the telephone ─────────────────────────────────────────────────────────────────────────


@ONE_KIND
async def test_the_telephone_rings_though_they_have_not_written_for_a_day(
    town: Town, amqp_url: str, amqp_prefix: str, tmp_path: Path
) -> None:
    """Outside the 24 hours Meta refuses free text (131047): only the registered template reaches them."""
    async with meta() as served, an_engine(town, amqp_url, amqp_prefix, served, tmp_path):
        await page(town)
        await call(town)
        (dispatch,) = await calls(town)
        await until(lambda: town.is_over(dispatch.id), within=60)
        assert await town.summary(dispatch.id) == {Progress.ACCEPTED: 1}
        (said,) = texts(served)
    assert (said["to"], said["template"]) == (LUCA, "avviso_comune")
    assert said["variables"] == list(in_template(dispatch.reply_text or ""))
    assert "Allerta rossa per piena" in said["text"]
    await erased(town)


@ONE_KIND
async def test_the_operations_room_reads_it_on_telegram(
    town: Town, amqp_url: str, amqp_prefix: str, tmp_path: Path
) -> None:
    on_duty(town, OnDuty(TELEGRAM, SALA))
    async with AsyncExitStack() as running:
        served, bot = await running.enter_async_context(meta()), await running.enter_async_context(bots())
        engine = await running.enter_async_context(an_engine(town, amqp_url, amqp_prefix, served, tmp_path))
        settings = engine.settings.model_copy(update={"telegram_url": bot.base_url})
        await running.enter_async_context(delivering(settings, bot, Channel.TELEGRAM))
        await page(town)
        await call(town)
        (dispatch,) = await calls(town)
        await until(lambda: town.is_over(dispatch.id), within=60)
        said: list[dict[str, Any]] = texts(bot)
    assert [(str(one["to"]), one["text"]) for one in said] == [(SALA, dispatch.reply_text)]
    await erased(town)


async def erased(town: Town) -> None:
    """Said: the address is not kept."""
    async with town.database.read() as session:
        assert (await session.scalars(select(tables.Dispatch.reply_to))).all() == [None]
