"""Telegram and the ledger: channels whose old posts say so, groups that move, chats left alone, updates asked for."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from sqlalchemy import select

from alerting import subscribing
from alerting.desk.handing import Desks
from alerting.domain.authority import ChannelAccess
from alerting.domain.delivery import Accepted, Channel, Progress, Reason
from alerting.domain.desk import Handing
from alerting.persistence import tables
from alerting.subscribing import Subscriber
from alerting.webhooks.telegram import ALLOWED_UPDATES
from consumers.channel import Account, Secret, Text
from consumers.channels.telegram import Telegram
from consumers.chats import OVER, REVOKED, UPDATED, Chats
from consumers.simulators.serving import Served
from consumers.updates import NotSet, Polling, delete_webhook, set_webhook
from consumers.uploads import Uploads
from tests.contract.test_telegram_files import MAP
from tests.integration.api_client import NOWHERE_TO_PUBLISH, WEBHOOK_SECRET, serving
from tests.integration.calcinaia import AUTHORITIES, DESKS
from tests.integration.engine import KEY, ONE_KIND, TOKEN, Start, Town, a_town, bots, delivering, texts, until

TELEGRAM, CHANNEL = "telegram.calcinaia", "@comunecalcinaia"
BOT = "7000000001"


@pytest.fixture
async def town(database_url: str) -> AsyncIterator[Town]:
    """With its bot and its public channel."""
    async with a_town(database_url, telegram=True) as town:
        yield town


@pytest.fixture
async def http() -> AsyncIterator[ClientSession]:
    async with ClientSession() as session:
        yield session


def access(town: Town) -> ChannelAccess:
    return next(one for one in town.authority.channels if one.channel is Channel.TELEGRAM)


def account(served: Served | None = None, **changes: Any) -> Account:
    url = served.base_url if served else "http://127.0.0.1:1"
    known = Account(TELEGRAM, "calcinaia", Channel.TELEGRAM, url, Secret(TOKEN), {}, paced_as=TELEGRAM)
    return replace(known, **changes)


async def acts(served: Served, http: ClientSession, **what: Any) -> None:
    """Somebody writes, blocks, presses; a group moves."""
    async with http.post(f"{served.base_url}/__sim/inbound", json=what) as response:
        assert response.status == 200, await response.text()


async def inbox(town: Town) -> list[tuple[str, str, str | None]]:
    async with town.database.read() as session:
        rows = (await session.scalars(select(tables.InboundMessage).order_by(tables.InboundMessage.id))).all()
    said = [json.loads(town.seal.open(row.sealed)) for row in rows if row.sealed]
    return [(one["sender"], one["kind"], one["text"]) for one in said]


# ── a channel's earlier posts ───────────────────────────────────────────────────────────────────────


async def identifier(town: Town, dispatch: int) -> str:
    async with town.database.read() as session:
        return str((await session.get_one(tables.Dispatch, dispatch)).alert)


async def posted(town: Town, dispatch: int, message_id: str) -> None:
    """As the recorder leaves it when the channel has taken the post."""
    async with town.database.read() as session:
        of_channel = (
            select(tables.Delivery)
            .join(tables.Recipient, tables.Recipient.id == tables.Delivery.recipient_id)
            .where(tables.Delivery.dispatch_id == dispatch, tables.Recipient.is_channel)
        )
        (delivery,) = (await session.scalars(of_channel)).all()
    async with town.database.write() as session:
        session.add(
            tables.Attempt(
                dispatch_id=dispatch,
                seq=delivery.seq,
                number=1,
                at=time.time(),
                progress=Progress.ACCEPTED.value,
                provider_id=town.seal.seal(message_id),
            )
        )


async def test_an_update_finds_the_post_of_what_it_updates_and_a_cancel_all_of_them(town: Town) -> None:
    chats = Chats(town.database, town.seal)
    first = await town.issued_and_fanned_out(2)
    await posted(town, first, "31")
    second = await town.update(first)
    await town.fan_out(second)
    await posted(town, second, "32")
    thread = [await identifier(town, one) for one in (first, second)]

    (post,) = await chats.earlier(account(), CHANNEL, thread)
    assert (post.message_id, post.notice) == ("31", UPDATED)
    assert "Piena dell'Arno a Fornacette" in post.body and "Il fiume sale." in post.body

    cancel = await town.cancel(second)
    posts = await chats.earlier(account(), CHANNEL, [*thread, await identifier(town, cancel)])
    assert [(one.message_id, one.notice) for one in posts] == [("31", REVOKED), ("32", REVOKED)]


async def test_posts_of_other_channels_and_other_alerts_are_not_found(town: Town) -> None:
    chats = Chats(town.database, town.seal)
    first = await town.issued_and_fanned_out(2)
    await posted(town, first, "31")
    second = await town.update(first)
    mine, update = await identifier(town, first), await identifier(town, second)
    assert await chats.earlier(account(), "@comunebientina", [mine, update]) == ()
    assert await chats.earlier(account(name="telegram.bientina"), CHANNEL, [mine, update]) == ()
    assert await chats.earlier(account(), CHANNEL, ["another", update]) == ()
    assert await chats.earlier(account(), CHANNEL, [mine, "never issued"]) == ()


async def test_an_all_clear_says_that_it_is_over(town: Town) -> None:
    first = await town.issued_and_fanned_out(1)
    await posted(town, first, "31")
    second = await town.update(first)
    async with town.database.write() as session:
        row = await session.get_one(tables.Alert, await identifier(town, second))
        document = json.loads(json.dumps(row.document))
        for info in document["infos"]:
            info["response_type"] = ["AllClear"]
        row.document = document
    thread = [await identifier(town, one) for one in (first, second)]
    (post,) = await Chats(town.database, town.seal).earlier(account(), CHANNEL, thread)
    assert post.notice == OVER


@ONE_KIND
async def test_the_channel_shows_the_update_and_the_old_post_says_so(town: Town, engine: Start) -> None:
    async with contextlib.AsyncExitStack() as running:
        channel = {CHANNEL: {"id": -1001000000001, "subscribers": [5001]}}
        bot = await running.enter_async_context(bots(channels=channel))
        whole = await running.enter_async_context(engine(bot))
        settings = whole.settings.model_copy(update={"telegram_url": bot.base_url})
        await running.enter_async_context(delivering(settings, bot, Channel.TELEGRAM))
        first = await town.issue()
        await until(lambda: len(texts(bot)) == 1)
        await until(lambda: town.is_over(first))
        second = await town.update(first)
        await until(lambda: town.is_over(second))
        await until(lambda: len(texts(bot)) == 3)
        await town.cancel(second)
        await until(lambda: len(texts(bot)) == 6, within=60)
    shown = texts(bot)
    old, new, edited, cancelled = shown[:4]
    assert "edits" not in new and "AGGIORNAMENTO" in new["text"]
    assert (edited["edits"], edited["text"]) == (old["id"], f"{UPDATED}\n\n{old['text']}")
    assert "edits" not in cancelled
    revoked = {one["edits"]: one["text"] for one in shown[4:]}
    assert revoked == {
        new["id"]: f"{REVOKED}\n\n{new['text']}",
        old["id"]: f"{REVOKED}\n\n{old['text']}",
    }


# ── pictures ────────────────────────────────────────────────────────────────────────────────────────


@ONE_KIND
async def test_two_processes_bring_a_picture_once_each_at_most_and_tell_everybody_once(town: Town) -> None:
    evacuate = Text("Fornacette: evacuare la golena.", enclosure=MAP)
    people = [str(number) for number in range(6000, 6060)]
    async with bots() as bot:
        adapters = [Telegram(Uploads(town.database), Chats(town.database, town.seal)) for _ in range(2)]
        sends = (adapters[n % 2].send(account(bot), one, evacuate, f"1.{n}.1") for n, one in enumerate(people))
        outcomes = await asyncio.gather(*sends)
        assert {type(outcome) for outcome in outcomes} == {Accepted}
        later = Telegram(Uploads(town.database), Chats(town.database, town.seal))
        await later.send(account(bot), "7000", evacuate, "1.60.1")
        for one in (*adapters, later):
            await one.close()
        assert len(bot.simulator._bots[BOT].files) <= 2  # type: ignore[attr-defined]
    shown = texts(bot)
    assert sorted(one["to"] for one in shown) == [*people, "7000"]
    assert {one["media"]["sha256"] for one in shown} == {MAP.sha256}


# ── groups, and chats that had enough ───────────────────────────────────────────────────────────────


@ONE_KIND
async def test_a_group_that_moved_is_asked_for_at_its_old_place_once(town: Town, engine: Start) -> None:
    old, new = "-4001", "-1001000004001"
    who = Subscriber(town.authority, access(town), old)
    async with town.database.write() as session:
        await subscribing.join(session, who, town.seal, keyword="Attiva", now=datetime.now(UTC))
    async with contextlib.AsyncExitStack() as running:
        channel = {CHANNEL: {"id": -1001000000001}}
        bot = await running.enter_async_context(bots(channels=channel, moved={-4001: int(new)}))
        whole = await running.enter_async_context(engine(bot))
        settings = whole.settings.model_copy(update={"telegram_url": bot.base_url})
        await running.enter_async_context(delivering(settings, bot, Channel.TELEGRAM))
        for _ in range(2):
            dispatch = await town.issue()
            await until(lambda dispatch=dispatch: town.is_over(dispatch))
    assert [one["to"] for one in texts(bot) if one["to"] != CHANNEL] == [new, new]
    assert bot.simulator.phones.refused == {"400": 1}
    async with town.database.read() as session:
        known = await subscribing.find(session, replace(who, address=new), town.seal)
    assert known is not None and known.sealed is not None and town.seal.open(known.sealed) == new


@ONE_KIND
async def test_a_channel_that_had_enough_is_left_alone_and_the_bot_goes_on(town: Town, engine: Start) -> None:
    await town.subscribe(0)
    async with town.database.write() as session:
        for person in ("5001", "5002"):
            who = Subscriber(town.authority, access(town), person)
            await subscribing.join(session, who, town.seal, keyword="Attiva", now=datetime.now(UTC))
    async with contextlib.AsyncExitStack() as running:
        slow = {"channels": {CHANNEL: {"id": -1001000000001}}, "chat_per_second": 0.2, "chat_burst": 1}
        bot = await running.enter_async_context(bots(**slow))
        whole = await running.enter_async_context(engine(bot))
        settings = whole.settings.model_copy(update={"telegram_url": bot.base_url})
        await running.enter_async_context(delivering(settings, bot, Channel.TELEGRAM))
        async with ClientSession() as http:  # somebody else's post in the channel, just before
            body = {"chat_id": CHANNEL, "text": "Buongiorno"}
            async with http.post(f"{bot.base_url}/bot{TOKEN}/sendMessage", json=body) as response:
                assert response.status == 200
        dispatch = await town.issue()
        await until(lambda: {"5001", "5002"} <= {str(one["to"]) for one in texts(bot)})
        await until(lambda: _is_left_alone(town))
        async with town.database.read() as session:
            rate = await session.get_one(tables.ProviderRate, TELEGRAM)
            assert rate.lowered_at == 0.0, "the bot itself was not told to slow down"
        await until(lambda: town.is_over(dispatch), within=45)
    assert [one["to"] for one in texts(bot)].count(CHANNEL) == 2


async def _is_left_alone(town: Town) -> bool:
    async with town.database.read() as session:
        until = await session.scalar(select(tables.Address.not_before).where(tables.Address.not_before > 0))
        reason = await session.scalar(select(tables.Delivery.reason).where(tables.Delivery.progress == 2))
    return bool(until) and reason == Reason.PAIR_THROTTLED.value


# ── updates that are pushed ─────────────────────────────────────────────────────────────────────────


async def test_what_the_bot_hears_reaches_the_inbox_by_its_webhook_and_a_pressed_button_is_answered(
    database_url: str, http: ClientSession, tmp_path: Path
) -> None:
    async with serving(database_url, NOWHERE_TO_PUBLISH, "t.", tmp_path) as api, bots() as bot:
        where = f"{api.url}/v1/webhooks/telegram/{TELEGRAM}"
        await set_webhook(account(bot), where, WEBHOOK_SECRET)
        await acts(bot, http, **{"from": "5001", "action": "press", "data": "SAFE:8f3c"})
        await acts(bot, http, **{"from": "5001", "action": "block"})
        await until(lambda: _has_pushed(bot, 2))
        async with http.get(f"{bot.base_url}/__sim/answered") as response:
            assert [item["account"] for item in (await response.json())["items"]] == [BOT]
        (kept,) = await api.rows(tables.InboundMessage)
        assert json.loads(api.seal.open(kept.sealed))["kind"] == "blocked"


def _has_pushed(served: Served, updates: int) -> bool:
    return served.simulator.webhooks()["posted"] == updates


# ── updates that are asked for ──────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def polling(town: Town, served: Served, **how: Any) -> AsyncIterator[Polling]:
    one = Polling(town.database, town.seal, account(served), DESKS, waits=timedelta(seconds=1), **how)
    task = asyncio.create_task(one.run())
    try:
        yield one
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_people_write_is_asked_for_and_kept_once(town: Town, http: ClientSession) -> None:
    async with bots() as bot, polling(town, bot):
        await acts(bot, http, **{"from": "5001", "text": "/start"})
        await acts(bot, http, **{"from": "5001", "action": "block"})
        await acts(bot, http, **{"from": "-4001", "action": "migrate", "to": "-1001000004001"})
        await acts(bot, http, **{"from": "5001", "action": "press", "data": "SAFE:8f3c"})
        await acts(bot, http, **{"from": "5002", "text": "Fornacette"})
        await until(lambda: _has(town, 4))
        async with http.get(f"{bot.base_url}/__sim/answered") as response:
            assert len((await response.json())["items"]) == 1
        await until(lambda: _confirmed(bot))
    assert await inbox(town) == [
        ("5001", "text", "/start"),
        ("5001", "blocked", None),
        ("-4001", "moved", None),
        ("5002", "text", "Fornacette"),
    ]
    assert await town.count(tables.OutboxMessage) == 4


async def test_what_is_reported_to_a_bot_that_is_asked_is_the_desks_at_the_door(
    town: Town, http: ClientSession
) -> None:
    desk = AUTHORITIES["santa-fiora"].desk
    access = next(one for one in town.authority.channels if one.name == TELEGRAM)
    two_way = Desks({"calcinaia": replace(town.authority, two_way=True, desk=desk, channels=(access,))})
    async with bots() as bot:
        await acts(bot, http, **{"from": "5001", "text": "Buca in via Roma"})
        await acts(bot, http, **{"from": "5001", "text": "STOP"})
        one = Polling(town.database, town.seal, account(bot), two_way, waits=timedelta(seconds=1))
        while await town.count(tables.InboundMessage) < 2:
            await one.ask()
        await one._line.close()
    async with town.database.read() as session:
        rows = (await session.scalars(select(tables.InboundMessage).order_by(tables.InboundMessage.id))).all()
        promised = (await session.scalars(select(tables.OutboxMessage.exchange))).all()
    assert [row.for_desk for row in rows] == [Handing.ANSWER, None]
    assert sorted(promised) == ["desk", "inbound"]


async def _has(town: Town, texts: int) -> bool:
    return await town.count(tables.InboundMessage) == texts


def _confirmed(served: Served) -> bool:
    return not served.simulator._bots[BOT].updates  # type: ignore[attr-defined]


async def test_whoever_dies_before_telling_how_far_it_read_is_told_again_and_keeps_it_once(
    town: Town, http: ClientSession
) -> None:
    async with bots() as bot:
        await acts(bot, http, **{"from": "5001", "text": "/start"})
        first = Polling(town.database, town.seal, account(bot), DESKS, waits=timedelta(seconds=1))
        await first.ask()  # and is killed: Telegram does not know that we have it
        assert not _confirmed(bot)
        await town.run("DELETE FROM polled_bots")  # as when it died before that was written, too
        second = Polling(town.database, town.seal, account(bot), DESKS, waits=timedelta(seconds=1))
        await second.ask()
        await acts(bot, http, **{"from": "5001", "text": "Fornacette"})
        await second.ask()
        for one in (first, second):
            await one._line.close()
    assert await inbox(town) == [("5001", "text", "/start"), ("5001", "text", "Fornacette")]


async def test_how_far_we_are_is_kept_with_what_was_read_or_not_at_all(
    town: Town, http: ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bots() as bot:
        await acts(bot, http, **{"from": "5001", "text": "/start"})
        one = Polling(town.database, town.seal, account(bot), DESKS, waits=timedelta(seconds=1))
        await town.run("ALTER TABLE inbox RENAME TO elsewhere")
        with pytest.raises(Exception, match="inbox"):
            await one.ask()
        assert await town.count(tables.PolledBot) == 0 and not _confirmed(bot)
        await town.run("ALTER TABLE elsewhere RENAME TO inbox")
        assert await one.ask() == 0.0
        await one._line.close()
    assert await inbox(town) == [("5001", "text", "/start")]


async def test_after_a_silent_week_a_bot_that_is_numbered_anew_loses_nothing(town: Town, http: ClientSession) -> None:
    async with bots() as bot:
        one = Polling(town.database, town.seal, account(bot), DESKS, waits=timedelta(seconds=1))
        week_ago = time.time() - timedelta(days=7).total_seconds()
        async with town.database.write() as session:
            session.add(tables.PolledBot(account=TELEGRAM, next_update=900_000_000, at=week_ago))
        await acts(bot, http, **{"from": "5001", "text": "/start"})
        await one.ask()
        await one._line.close()
    assert await inbox(town) == [("5001", "text", "/start")]


@ONE_KIND
async def test_beside_a_webhook_or_another_poller_it_says_what_to_do_and_comes_back(
    town: Town, http: ClientSession, capsys: pytest.CaptureFixture[str]
) -> None:
    async with bots() as bot:
        one = Polling(town.database, town.seal, account(bot), DESKS, waits=timedelta(seconds=5))
        rival = f"{bot.base_url}/bot{TOKEN}/getUpdates"
        asking = asyncio.create_task(one.ask())
        await asyncio.sleep(0.2)
        async with http.post(rival, json={}) as response:
            assert response.status == 200
        assert await asking >= 30
        assert "another process asks for the updates of this bot: stop one of them" in capsys.readouterr().out

        assert json.loads(await set_webhook(account(bot), "https://allerta.example/v1/webhooks/telegram/t", "s3greto"))
        assert await one.ask() >= 30
        assert "delete it with telegram-webhook --delete" in capsys.readouterr().out
        assert json.loads(await delete_webhook(account(bot))) == {"url": "", "pending_update_count": 0}
        assert await one.ask() == 0.0
        await one._line.close()


@ONE_KIND
async def test_a_telegram_that_is_away_is_asked_later_and_later_and_its_floods_are_waited_for(town: Town) -> None:
    away = Polling(town.database, town.seal, account(), DESKS, waits=timedelta(seconds=1))
    pauses = [await away.ask() for _ in range(9)]
    assert pauses[0] < 2 and pauses[3] > pauses[0] and 59 < pauses[-1] < 75
    await away._line.close()

    async with bots() as bot:
        unknown = Polling(town.database, town.seal, account(bot, token=Secret("7000000009:AArevoked")), DESKS)
        task = asyncio.create_task(unknown.run())
        await asyncio.sleep(0.3)
        assert not task.done(), "a revoked token is an alarm, and no reason to die"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


# ── the webhook ─────────────────────────────────────────────────────────────────────────────────────


@ONE_KIND
async def test_the_webhook_is_set_with_its_secret_and_says_how_it_stands(town: Town) -> None:
    async with bots() as bot:
        where = "https://allerta.example/v1/webhooks/telegram/telegram.calcinaia"
        assert json.loads(await set_webhook(account(bot), where, "segreto_8f3c"))["url"] == where
        known = bot.simulator._config.accounts[BOT]  # type: ignore[attr-defined]
        assert (known.webhook_url, known.webhook_secret) == (where, "segreto_8f3c")
        for wrong in ("", "non va bene", "x" * 257):
            with pytest.raises(NotSet, match="webhook_secret"):
                await set_webhook(account(bot), where, wrong)
        with pytest.raises(NotSet, match="https url must be provided"):
            await set_webhook(account(bot), "ftp://allerta.example", "segreto")
    with pytest.raises(NotSet, match="does not answer"):
        await delete_webhook(account())
    assert ALLOWED_UPDATES == ("message", "callback_query", "my_chat_member")


@ONE_KIND
async def test_by_command_the_webhook_is_set_from_the_deployments_own_settings(town: Town, tmp_path: Path) -> None:
    secrets = tmp_path / "secrets.json"
    known = {one.name: {"token": TOKEN} for x in town.authorities.values() for one in x.channels}
    known[TELEGRAM]["webhook_secret"] = "segreto_8f3c"
    secrets.write_text(json.dumps(known))
    async with bots() as bot:
        environment = os.environ | {
            "DATABASE_URL": town.database.url,
            "ALERTING_SECRETS_FILE": str(secrets),
            "ALERTING_PUBLIC_URL": "https://allerta.example/",
            "TELEGRAM_URL": bot.base_url,
        }

        async def ask(*arguments: str, **more: str) -> tuple[int, str, str]:
            command = [sys.executable, "-m", "consumers", "telegram-webhook", *arguments]
            process = await asyncio.create_subprocess_exec(
                *command, env=environment | more, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            out, err = await process.communicate()
            assert TOKEN not in (out + err).decode() and "segreto_8f3c" not in (out + err).decode()
            return process.returncode or 0, out.decode(), err.decode()

        code, out, _ = await ask("--account", TELEGRAM)
        assert (code, json.loads(out)["url"]) == (0, f"https://allerta.example/v1/webhooks/telegram/{TELEGRAM}")
        assert bot.simulator._config.accounts[BOT].webhook_secret == "segreto_8f3c"  # type: ignore[attr-defined]
        code, out, _ = await ask("--account", TELEGRAM, "--delete")
        assert (code, json.loads(out)["url"]) == (0, "")
        code, _, err = await ask("--account", "telegram.nessuno")
        assert (code, err.strip()) == (1, "no comune has the telegram account telegram.nessuno")
        code, _, err = await ask("--account", TELEGRAM, ALERTING_PUBLIC_URL="")
        assert code == 1 and "ALERTING_PUBLIC_URL is not set" in err


@ONE_KIND
async def test_by_command_updates_are_asked_for_until_it_is_told_to_end(
    town: Town, http: ClientSession, amqp_url: str, amqp_prefix: str, tmp_path: Path
) -> None:
    secrets = tmp_path / "secrets.json"
    secrets.write_text(
        json.dumps({one.name: {"token": TOKEN} for x in town.authorities.values() for one in x.channels})
    )
    async with bots() as bot:
        environment = os.environ | {
            "AMQP_URL": amqp_url,
            "DATABASE_URL": town.database.url,
            "ALERTING_AMQP_PREFIX": amqp_prefix,
            "ALERTING_KEY": KEY,
            "ALERTING_SECRETS_FILE": str(secrets),
            "TELEGRAM_URL": bot.base_url,
        }
        command = [sys.executable, "-m", "consumers", "poll-telegram"]
        idle = await asyncio.create_subprocess_exec(*command, env=environment, stdout=subprocess.PIPE)
        out, _ = await idle.communicate()
        assert idle.returncode == 1 and b"there is nothing to ask for" in out

        async with town.database.write() as session:
            row = await session.get_one(tables.ChannelAccount, TELEGRAM)
            row.settings = row.settings | {"updates": "polling"}
        await acts(bot, http, **{"from": "5001", "text": "/start"})
        process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=subprocess.DEVNULL)
        try:
            await until(lambda: _has(town, 1), within=60)
        finally:
            process.terminate()
            code = await asyncio.wait_for(process.wait(), 15)
    assert code == 0 and await inbox(town) == [("5001", "text", "/start")]
