"""A template is paused or held back, and there is no other: whoever has another address is told there, in time."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from alerting.domain import fallback
from alerting.domain.authority import HEADERS, templates_of
from alerting.domain.delivery import Channel, Progress, Reason
from alerting.domain.fallback import HELD_UP, PATIENCE, Because
from alerting.domain.lanes import Lane
from alerting.persistence import fallbacks, tables
from consumers.channel import Account, Secret, Text
from consumers.deliver import answer_in_template, text_of
from consumers.fallback import Fallback
from consumers.handover import HandOver
from tests.integration.engine import KEY, ONE_KIND, TOKEN, Town, a_town, meta, texts, told, until
from tests.integration.test_handover import (
    accounts,
    both_channels,
    check_whole,
    in_lane,
    on_telegram_too,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def town(database_url: str) -> AsyncIterator[Town]:
    """Calcinaia, without its public Telegram channel, which is told all and would be counted."""
    async with a_town(database_url, telegram=True) as town:
        await town.run("DELETE FROM addresses")
        await town.run("DELETE FROM recipients")
        yield town


async def stands(town: Town, lane: Lane, progress: Progress, reason: Reason) -> None:
    """Everybody's attempt came to this, as a recorder writes and notes it; their batch rests."""
    await town.run("UPDATE deliveries SET progress = :p, reason = :r", p=progress.value, r=reason.value)
    await town.run("UPDATE batches SET state = 'resting'")
    if reason in HELD_UP:
        due = await issued_at(town) + PATIENCE[lane]
        async with town.database.write() as session:
            rows = (await session.execute(select(tables.Delivery.dispatch_id, tables.Delivery.seq))).all()
            await fallbacks.note(session, [fallbacks.Note(*row, Because.HELD, reason, due) for row in rows])


async def issued_at(town: Town) -> float:
    async with town.database.read() as session:
        moment: datetime = (await session.scalars(select(tables.Dispatch.issued_at).limit(1))).one()
    return moment.timestamp()


async def look(town: Town, lane: Lane, late: float = 0.5) -> None:
    now = await issued_at(town) + PATIENCE[lane] + late
    await Fallback(town.database, HandOver(town.database)).look(now)


# ── who is handed over ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("lane", [Lane.FLASH, Lane.EMERGENCY, Lane.ROUTINE])
@pytest.mark.parametrize(
    ("came_to", "reason", "left"),
    [
        (Progress.DEFERRED, Reason.TEXT_REJECTED, "HANDED_OVER"),
        (Progress.UNCERTAIN, Reason.HELD_BY_PROVIDER, "UNRESOLVED"),
    ],
)
@ONE_KIND
async def test_whose_text_is_not_taken_is_told_elsewhere_once_the_lanes_patience_is_over(
    town: Town, lane: Lane, came_to: Progress, reason: Reason, left: str
) -> None:
    dispatch = await in_lane(town, lane, 3)
    await stands(town, lane, came_to, reason)
    await look(town, lane, late=-0.5)
    assert await accounts(town, dispatch) == [("whatsapp", came_to.name)] * 3
    await look(town, lane)
    assert await accounts(town, dispatch) == [("whatsapp", left)] * 3 + [("telegram", "WAITING")] * 3
    await check_whole(town, dispatch)
    reasons = {row.reason for row in await town.deliveries(dispatch) if row.seq <= 3}
    assert reasons == {reason.value}


@pytest.mark.parametrize(
    ("came_to", "reason"),
    [
        (Progress.UNCERTAIN, Reason.PROVIDER_SILENT),
        (Progress.DEFERRED, Reason.PROVIDER_UNAVAILABLE),
        (Progress.DELIVERED, Reason.HELD_BY_PROVIDER),
    ],
)
async def test_nobody_else_is(town: Town, came_to: Progress, reason: Reason) -> None:
    dispatch = await in_lane(town, Lane.EMERGENCY, 2)
    await stands(town, Lane.EMERGENCY, came_to, reason)
    await look(town, Lane.EMERGENCY)
    assert await accounts(town, dispatch) == [("whatsapp", came_to.name)] * 2


async def test_the_cancel_of_what_was_held_back_reaches_both_addresses(town: Town) -> None:
    dispatch = await in_lane(town, Lane.EMERGENCY, 1)
    await stands(town, Lane.EMERGENCY, Progress.UNCERTAIN, Reason.HELD_BY_PROVIDER)
    await look(town, Lane.EMERGENCY)
    await town.run("UPDATE deliveries SET progress = 5 WHERE seq = 2")
    cancel = await town.cancel(dispatch)
    await town.fan_out(cancel)
    assert sorted(await accounts(town, cancel)) == [("telegram", "WAITING"), ("whatsapp", "WAITING")]


@pytest.mark.parametrize("standing", [{"status": "PAUSED"}, {"held": True}])
@ONE_KIND
async def test_a_small_town_whose_template_does_not_leave_is_told_on_telegram(
    town: Town,
    amqp_url: str,
    amqp_prefix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    standing: dict[str, Any],
) -> None:
    monkeypatch.setitem(fallback.PATIENCE, Lane.EMERGENCY, 1.0)
    numbers = await town.subscribe(6)
    chats = await on_telegram_too(town, numbers[:5])
    template = {"name": town.whatsapp.settings["template"], "variables": 5} | standing
    async with both_channels(town, amqp_url, amqp_prefix, tmp_path, templates=[template]) as reached:
        dispatch = await town.issue()
        await until(lambda: len(texts(reached.telegram)) == 5, within=60)
        assert told(reached.telegram) == dict.fromkeys(chats.values(), 1)
        unfinished = (Progress.WAITING, Progress.SENDING, Progress.DEFERRED, Progress.UNCERTAIN)

        async def one_is_left() -> bool:
            """Who has nothing but WhatsApp, and is not given up."""
            summary = await town.summary(dispatch)
            return sum(summary.get(progress, 0) for progress in unfinished) == 1

        await until(one_is_left, within=60)
        assert texts(reached.whatsapp) == []


# ── replies ─────────────────────────────────────────────────────────────────────────────────────────


async def test_a_reply_is_free_text_with_the_templates_words_at_hand(town: Town) -> None:
    access = town.whatsapp
    account = Account(access.name, "calcinaia", access.channel, "", Secret(""), access.settings, access.name)
    now = datetime.now(UTC)
    row = tables.Dispatch(lane=Lane.REPLY, reply_text="Fatto.\nScrivi zona per dirci dove abiti.", not_after=now)
    text = text_of(row, None, account)
    assert text.template is None and text.body == row.reply_text
    assert text.variables == answer_in_template(text.body) and len(text.variables) == 5
    assert not any("\n" in variable or not variable for variable in text.variables)
    without = Account(access.name, "calcinaia", access.channel, "", Secret(""), {}, access.name)
    assert text_of(row, None, without) == Text(text.body, expires=row.not_after)


# ── the command that looks ──────────────────────────────────────────────────────────────────────────


@ONE_KIND
async def test_the_command_says_what_is_to_be_done_and_ends_with_one(town: Town, tmp_path: Path) -> None:
    secrets = tmp_path / "secrets.json"
    secrets.write_text(json.dumps({a.name: {"token": TOKEN} for x in town.authorities.values() for a in x.channels}))
    ours = [
        access for one in town.authorities.values() for access in one.channels if access.channel is Channel.WHATSAPP
    ]
    above = {name: HEADERS.get(key) for access in ours for name, key in templates_of(access.settings).items()}

    async def checked(**of_template: Any) -> subprocess.CompletedProcess[str]:
        as_registered = {"variables": 5, "ttl": 3600} | of_template
        known = [{"name": name, "header": header} | as_registered for name, header in sorted(above.items())]
        async with meta(templates=known) as served:
            environment = os.environ | {
                "DATABASE_URL": town.database.url,
                "ALERTING_KEY": KEY,
                "ALERTING_SECRETS_FILE": str(secrets),
                "WHATSAPP_URL": served.base_url,
                "PYTHONPATH": str(ROOT),
            }
            command = [sys.executable, "-m", "consumers", "check", "--channel", "whatsapp"]
            run = subprocess.run
            return await asyncio.to_thread(run, command, env=environment, capture_output=True, text=True, check=False)

    lacking = await checked()
    assert lacking.returncode == 1 and "waba_id" in lacking.stdout, lacking.stderr

    async with town.database.write() as session:
        for row in (await session.scalars(tables.of_channel(Channel.WHATSAPP))).all():
            row.settings = row.settings | {"waba_id": "102290129340398"}
    good = await checked()
    assert good.returncode == 0 and f"{len(ours)} accounts" in good.stdout, good.stdout + good.stderr
    paused = await checked(status="PAUSED")
    assert paused.returncode == 1 and "GRAVE: whatsapp.calcinaia" in paused.stdout
    assert TOKEN not in paused.stdout + paused.stderr
