"""A public channel's earlier posts say that they are superseded: after the new one, beside it, and never in its way."""

import asyncio
import json
from typing import Any

import pytest
from aiohttp import ClientSession

from alerting.domain.delivery import Accepted
from consumers.channel import Post, Text
from consumers.channels.telegram import Telegram
from consumers.simulators.serving import Served
from tests.contract.fornacette import TELEGRAM_TOKEN, a_server_that, received, telegram_account, tell, until
from tests.contract.telegram_parts import Posts
from tests.contract.test_telegram_files import MAP

CHANNEL = "@allerte_fornacette"
RISING = Text("Fornacette: l'Arno sale. Tenersi pronti.", thread=("fornacette-1",))
EVACUATE = Text("Fornacette: esondazione. Evacuare.", thread=("fornacette-1", "fornacette-2"))
UPDATED = "AGGIORNATO: vedi sotto"


async def posted(telegram: Telegram, served: Served, text: Text, to: str = CHANNEL) -> str:
    outcome = await telegram.send(telegram_account(served.base_url), to, text, "a")
    assert isinstance(outcome, Accepted)
    return outcome.provider_id


async def edits(telegram: Telegram, within: float = 10.0) -> None:
    await until(lambda: not telegram._edits, within=within)


def lines(items: list[dict[str, Any]]) -> list[tuple[str, str | None]]:
    return [(item["text"], item.get("edits")) for item in items]


async def test_the_new_post_comes_first_and_then_the_old_one_says_so_and_keeps_its_words(
    telegram: Telegram, telegram_server: Served, http: ClientSession, posts: Posts
) -> None:
    first = await posted(telegram, telegram_server, RISING)
    assert posts.asked == 0, "the first of a thread follows nothing"
    posts.earlier_ones = [Post(first, RISING.body, UPDATED)]
    await posted(telegram, telegram_server, EVACUATE)
    await edits(telegram)

    assert lines(await received(telegram_server, http)) == [
        (RISING.body, None),
        (EVACUATE.body, None),
        (f"{UPDATED}\n\n{RISING.body}", first),
    ]
    async with http.get(f"{telegram_server.base_url}/__sim/phone/5002") as response:
        assert len((await response.json())["items"]) == 3, "who follows the channel sees the edit"


async def test_a_picture_is_superseded_in_its_caption(
    telegram: Telegram, telegram_server: Served, http: ClientSession, posts: Posts
) -> None:
    first = await posted(telegram, telegram_server, Text(RISING.body, enclosure=MAP))
    posts.earlier_ones = [Post(first, RISING.body, UPDATED)]
    await posted(telegram, telegram_server, EVACUATE)
    await edits(telegram)
    last = (await received(telegram_server, http))[-1]
    assert (last["edits"], last["text"]) == (first, f"{UPDATED}\n\n{RISING.body}")
    assert last["media"]["sha256"] == MAP.sha256


async def test_what_is_edited_already_is_edited_once(
    telegram: Telegram,
    telegram_server: Served,
    http: ClientSession,
    posts: Posts,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = await posted(telegram, telegram_server, RISING)
    posts.earlier_ones = [Post(first, RISING.body, UPDATED)]
    await posted(telegram, telegram_server, EVACUATE)
    await edits(telegram)
    await tell(telegram_server, http, "config", {"chat_burst": 30})
    await posted(telegram, telegram_server, EVACUATE)  # as after an attempt whose answer was lost
    await edits(telegram)
    assert [item["edits"] for item in await received(telegram_server, http) if "edits" in item] == [first]
    assert "does not say that it is superseded" not in capsys.readouterr().out


async def test_an_edit_that_fails_is_logged_and_the_new_post_stands(
    telegram: Telegram,
    telegram_server: Served,
    http: ClientSession,
    posts: Posts,
    capsys: pytest.CaptureFixture[str],
) -> None:
    posts.earlier_ones = [Post("4711", RISING.body, UPDATED)]
    await posted(telegram, telegram_server, EVACUATE)
    await edits(telegram)
    assert lines(await received(telegram_server, http)) == [(EVACUATE.body, None)]
    said = capsys.readouterr().out
    assert "message to edit not found" in said and TELEGRAM_TOKEN not in said


async def test_a_database_that_does_not_know_the_earlier_posts_holds_up_nothing(
    telegram: Telegram, telegram_server: Served, http: ClientSession, posts: Posts
) -> None:
    posts.trouble = ConnectionError("the database is away")
    await posted(telegram, telegram_server, EVACUATE)
    await posted(telegram, telegram_server, EVACUATE, "-4001")  # a group that moved, which cannot be written down
    assert [item["text"] for item in await received(telegram_server, http)] == [EVACUATE.body] * 2


async def test_an_edit_waits_as_long_as_telegram_asks_and_is_made_then(
    telegram: Telegram, telegram_server: Served, http: ClientSession, posts: Posts
) -> None:
    first = await posted(telegram, telegram_server, RISING)
    posts.earlier_ones = [Post(first, RISING.body, UPDATED)]
    await tell(telegram_server, http, "config", {"chat_burst": 1})
    await posted(telegram, telegram_server, EVACUATE)
    assert not any("edits" in item for item in await received(telegram_server, http))
    await edits(telegram)
    assert (await received(telegram_server, http))[-1]["edits"] == first


async def test_nobody_asks_for_earlier_posts_of_a_person(
    telegram: Telegram, telegram_server: Served, posts: Posts
) -> None:
    await posted(telegram, telegram_server, EVACUATE, "5001")
    assert posts.asked == 0


async def test_a_post_of_full_length_keeps_what_fits_below_the_notice(
    telegram: Telegram, telegram_server: Served, http: ClientSession, posts: Posts
) -> None:
    words = "🌧" * 2048
    first = await posted(telegram, telegram_server, Text(words))
    posts.earlier_ones = [Post(first, words, UPDATED)]
    await posted(telegram, telegram_server, EVACUATE)
    await edits(telegram)
    last = (await received(telegram_server, http))[-1]
    assert last["edits"] == first and last["text"].startswith(f"{UPDATED}\n\n🌧") and last["text"].endswith("🌧…")
    assert 4094 <= len(last["text"].encode("utf-16-le")) // 2 <= 4096


async def test_the_new_post_answers_the_latest_of_the_old_ones_even_if_that_is_gone(
    telegram: Telegram, telegram_server: Served, posts: Posts
) -> None:
    said: list[bytes] = []

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        said.append(await reader.readexactly(int(head.lower().split(b"length: ")[1].split(b"\r\n")[0])))
        writer.close()

    posts.earlier_ones = [Post("31", RISING.body, UPDATED), Post("32", RISING.body, UPDATED)]
    async with a_server_that(converse) as base_url:
        await telegram.send(telegram_account(base_url), CHANNEL, EVACUATE, "a")
    assert json.loads(said[0])["reply_parameters"] == {"message_id": 32, "allow_sending_without_reply": True}
    assert isinstance(await telegram.send(telegram_account(telegram_server.base_url), CHANNEL, EVACUATE, "a"), Accepted)


async def test_closing_does_not_wait_for_ever_for_an_edit(
    telegram_server: Served, posts: Posts, ids: Any, http: ClientSession
) -> None:
    adapter = Telegram(ids, posts)
    first = await posted(adapter, telegram_server, RISING)
    posts.earlier_ones = [Post(first, RISING.body, UPDATED)]
    await tell(telegram_server, http, "config", {"chat_per_second": 0.01, "chat_burst": 1})
    await posted(adapter, telegram_server, EVACUATE)
    async with asyncio.timeout(8):
        await adapter.close()
