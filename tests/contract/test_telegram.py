"""The Bot API both ways: people, channels, floods, doors that close, webhooks and polling."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import ClientSession
from hypothesis import given, settings
from hypothesis import strategies as st

from alerting.domain.delivery import (
    Accepted,
    ChannelHalted,
    Deferred,
    Reason,
    Refused,
    TextRejected,
    Uncertain,
)
from alerting.webhooks import Blocked, InboundText, Unblocked
from alerting.webhooks.telegram import read_update, verify_secret
from consumers.channel import Text
from consumers.channels.telegram import Telegram, classify
from consumers.simulators.serving import Served
from tests.contract.fornacette import (
    TELEGRAM_BOT,
    TELEGRAM_TOKEN,
    Mailbox,
    a_server_that,
    received,
    telegram_account,
    tell,
    until,
)
from tests.contract.spoiling import spoiled

EVACUATE = Text("Fornacette: <argine> & golena. Evacuare. https://allerte.example/8f3c")
CHANNEL = "@allerte_fornacette"


# ── what the envelopes mean ─────────────────────────────────────────────────────────────────────────


def an_error(code: int, description: str, **parameters: object) -> bytes:
    """Telegram's error envelope, as documented."""
    envelope: dict[str, object] = {"ok": False, "error_code": code, "description": description}
    return json.dumps(envelope | ({"parameters": parameters} if parameters else {})).encode()


@pytest.mark.parametrize(
    ("code", "description", "reason"),
    [
        (403, "Forbidden: bot was blocked by the user", Reason.BLOCKED_BY_PERSON),
        (400, "Bad Request: USER_IS_BLOCKED", Reason.BLOCKED_BY_PERSON),
        (403, "Forbidden: user is deactivated", Reason.NOT_REACHABLE_HERE),
        (403, "Forbidden: bot can't initiate conversation with a user", Reason.NOT_REACHABLE_HERE),
        (400, "Bad Request: chat not found", Reason.NOT_REACHABLE_HERE),
        (400, "Bad Request: PEER_ID_INVALID", Reason.NOT_REACHABLE_HERE),
        (400, "Bad Request: private chat not found", Reason.NOT_REACHABLE_HERE),
        (403, "Forbidden: bot was kicked from the channel chat", Reason.POLICY),
        (403, "Forbidden: bot was kicked from the supergroup chat", Reason.POLICY),
        (403, "Forbidden: bot is not a member of the channel chat", Reason.POLICY),
        (400, "Bad Request: not enough rights to send text messages to the chat", Reason.POLICY),
        (400, "Bad Request: need administrator rights in the channel chat", Reason.POLICY),
    ],
)
def test_who_cannot_be_written_to_is_refused_alone(code: int, description: str, reason: Reason) -> None:
    assert classify(code, an_error(code, description), "t", "5001") == Refused(reason)


@pytest.mark.parametrize(
    "description",
    [
        "Bad Request: message is too long",
        "Bad Request: message text is empty",
        'Bad Request: can\'t parse entities: Unsupported start tag "x" at byte offset 0',
        "Bad Request: wrong file_id or the file is temporarily unavailable",
    ],
)
def test_a_text_wrong_for_everybody_is_rejected(description: str) -> None:
    with pytest.raises(TextRejected):
        classify(400, an_error(400, description), "t", "5001")


@pytest.mark.parametrize(
    ("code", "description"),
    [
        (401, "Unauthorized"),
        (401, "Unauthorized: invalid token specified"),
        (404, "Not Found"),
    ],
)
def test_a_bot_without_a_valid_token_is_halted(code: int, description: str) -> None:
    with pytest.raises(ChannelHalted, match=f"account t is halted.*{code}"):
        classify(code, an_error(code, description), "t", "5001")


def test_a_proxys_401_or_404_page_halts_nobody() -> None:
    for status in (401, 403, 404):
        assert classify(status, b"<html>Not Found</html>", "t", "5001") == Deferred(Reason.UNKNOWN_ANSWER)


def test_a_flood_in_a_private_chat_is_the_bots_and_in_a_channel_the_channels() -> None:
    flood = an_error(429, "Too Many Requests: retry after 7", retry_after=7)
    pause = timedelta(seconds=7)
    assert classify(429, flood, "t", "5001") == Deferred(Reason.THROTTLED, pause, whole_account=True)
    for address in (CHANNEL, "-1001000000001"):
        assert classify(429, flood, "t", address) == Deferred(Reason.THROTTLED, pause, whole_account=False)


def test_the_header_is_heard_where_the_parameters_are_missing() -> None:
    flood = an_error(429, "Too Many Requests")
    for header, seconds in (("9", 9), (None, 1), ("soon", 1), ("0", 1), ("999999999", 3600)):
        outcome = classify(429, flood, "t", "5001", header)
        assert isinstance(outcome, Deferred) and outcome.wait == timedelta(seconds=seconds), header
    endless = classify(429, an_error(429, "…", retry_after=10**30), "t", "5001")
    assert isinstance(endless, Deferred) and endless.wait == timedelta(hours=1)


def test_the_documented_example_of_an_answer() -> None:
    """Facts re-typed from core.telegram.org/bots/api, November 2026."""
    answer = {
        "ok": True,
        "result": {
            "message_id": 1234,
            "date": 1795000000,
            "chat": {"id": 123456789, "type": "private", "first_name": "Maria"},
            "from": {"id": 1, "is_bot": True},
            "text": "Evacuare.",
        },
    }
    assert classify(200, json.dumps(answer).encode(), "t", "123456789") == Accepted("1234")
    for without_an_id in (b'{"ok":true,"result":true}', b'{"ok":true}', b'{"ok":true,"result":{}}'):
        assert classify(200, without_an_id, "t", "5001") == Uncertain(Reason.UNKNOWN_ANSWER)


# ── what goes out ───────────────────────────────────────────────────────────────────────────────────


async def test_what_is_said_is_plain_text_without_previews(telegram: Telegram) -> None:
    said: list[bytes] = []

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        said.extend([head, await reader.readexactly(length)])
        writer.close()

    async with a_server_that(converse) as base_url:
        await telegram.send(telegram_account(base_url), "123456789", EVACUATE, "att_1")
        await telegram.send(telegram_account(base_url), CHANNEL, EVACUATE, "att_2")
    assert said[0].startswith(f"POST /bot{TELEGRAM_TOKEN}/sendMessage HTTP/1.1\r\n".encode())
    assert json.loads(said[1]) == {
        "chat_id": 123456789,
        "text": EVACUATE.body,
        "link_preview_options": {"is_disabled": True},
    }
    assert json.loads(said[3])["chat_id"] == CHANNEL


async def test_one_post_reaches_everybody_who_follows_the_channel(
    telegram: Telegram, telegram_server: Served, http: ClientSession
) -> None:
    outcome = await telegram.send(telegram_account(telegram_server.base_url), CHANNEL, EVACUATE, "att_1")

    assert isinstance(outcome, Accepted)
    assert [item["to"] for item in await received(telegram_server, http)] == [CHANNEL]
    for subscriber in (5001, 5002, 5003):
        async with http.get(f"{telegram_server.base_url}/__sim/phone/{subscriber}") as response:
            assert [item["text"] for item in (await response.json())["items"]] == [EVACUATE.body]


async def test_a_channel_that_shut_us_out_is_refused_and_the_bot_goes_on(
    telegram: Telegram, telegram_server: Served
) -> None:
    account = telegram_account(telegram_server.base_url)
    for channel in ("@allerte_bientina", "@allerte_buti"):
        assert await telegram.send(account, channel, EVACUATE, "att_1") == Refused(Reason.POLICY)
    assert await telegram.send(account, "@nowhere_at_all", EVACUATE, "a") == Refused(Reason.NOT_REACHABLE_HERE)
    assert isinstance(await telegram.send(account, "5001", EVACUATE, "att_2"), Accepted)


async def test_a_group_that_moved_is_followed(telegram: Telegram, telegram_server: Served, http: ClientSession) -> None:
    outcome = await telegram.send(telegram_account(telegram_server.base_url), "-4001", EVACUATE, "att_1")
    assert isinstance(outcome, Accepted)
    assert [item["to"] for item in await received(telegram_server, http)] == ["-1001000004001"]


async def test_length_is_counted_in_utf16(telegram: Telegram, telegram_server: Served) -> None:
    account = telegram_account(telegram_server.base_url)
    assert isinstance(await telegram.send(account, "5001", Text("🌧" * 2048), "a"), Accepted)
    with pytest.raises(TextRejected, match="too long"):
        await telegram.send(account, "5002", Text("🌧" * 2048 + "!"), "b")
    with pytest.raises(TextRejected, match="empty"):
        await telegram.send(account, "5002", Text("  \n"), "c")


async def test_one_chat_takes_one_a_second(telegram: Telegram, telegram_server: Served) -> None:
    account = telegram_account(telegram_server.base_url)
    outcomes = [await telegram.send(account, "5001", EVACUATE, f"a{i}") for i in range(4)]
    assert [type(o) for o in outcomes] == [Accepted] * 3 + [Deferred]
    assert isinstance(await telegram.send(account, "5002", EVACUATE, "b"), Accepted)


async def test_a_429_says_how_long_in_body_and_header(telegram_server: Served, http: ClientSession) -> None:
    url = f"{telegram_server.base_url}/bot{TELEGRAM_TOKEN}/sendMessage"
    async with http.post(url, json={"chat_id": 51234429, "text": "Evacuare."}) as response:
        assert (response.status, response.headers["Retry-After"]) == (429, "7")
        assert await response.json() == {
            "ok": False,
            "error_code": 429,
            "description": "Too Many Requests: retry after 7",
            "parameters": {"retry_after": 7},
        }


async def test_who_blocks_is_refused_and_who_comes_back_is_reached(
    telegram: Telegram, telegram_server: Served, http: ClientSession
) -> None:
    account = telegram_account(telegram_server.base_url)
    await tell(telegram_server, http, "inbound", {"from": "5001", "action": "block"})
    assert await telegram.send(account, "5001", EVACUATE, "a") == Refused(Reason.BLOCKED_BY_PERSON)
    await tell(telegram_server, http, "inbound", {"from": "5001", "action": "unblock"})
    assert isinstance(await telegram.send(account, "5001", EVACUATE, "b"), Accepted)


# ── what Telegram tells us ──────────────────────────────────────────────────────────────────────────


async def call(served: Served, http: ClientSession, method: str, **asked: Any) -> dict[str, Any]:
    """One method of the Bot API, by form as people try it by hand."""
    url = f"{served.base_url}/bot{TELEGRAM_TOKEN}/{method}"
    async with http.post(url, data={key: str(value) for key, value in asked.items()}) as response:
        answer: dict[str, Any] = await response.json()
        assert answer["ok"] is (response.status == 200)
    return answer


async def test_updates_are_pushed_with_the_secret_and_again_after_an_error(
    telegram_server: Served, http: ClientSession, mailbox: Mailbox
) -> None:
    mailbox.answers = [500]
    answer = await call(telegram_server, http, "setWebhook", url=mailbox.url, secret_token="Fornacette_8f3c")
    assert answer == {"ok": True, "result": True, "description": "Webhook was set"}

    await tell(telegram_server, http, "inbound", {"from": "5001", "text": "/start"})
    await until(lambda: len(mailbox.raw) == 2)
    await tell(telegram_server, http, "inbound", {"from": "5001", "action": "block", "account": TELEGRAM_BOT})
    await until(lambda: len(mailbox.raw) == 3)

    for headers in mailbox.headers:
        assert verify_secret("Fornacette_8f3c", headers["X-Telegram-Bot-Api-Secret-Token"])
    assert mailbox.raw[0] == mailbox.raw[1]
    start, block = read_update(json.loads(mailbox.raw[1])), read_update(json.loads(mailbox.raw[2]))
    assert isinstance(start, InboundText) and (start.sender, start.text) == ("5001", "/start")
    assert isinstance(block, Blocked) and block.sender == "5001"


async def test_updates_are_polled_until_they_are_confirmed(telegram_server: Served, http: ClientSession) -> None:
    waiting = asyncio.create_task(call(telegram_server, http, "getUpdates", timeout=5))
    await asyncio.sleep(0.1)
    await tell(telegram_server, http, "inbound", {"from": "5001", "text": "STOP"})
    (update,) = (await waiting)["result"]
    assert (await call(telegram_server, http, "getUpdates"))["result"] == [update]
    assert (await call(telegram_server, http, "getUpdates", offset=update["update_id"] + 1))["result"] == []


async def test_two_pollers_and_a_poller_beside_a_webhook_conflict(
    telegram_server: Served, http: ClientSession, mailbox: Mailbox
) -> None:
    first = asyncio.create_task(call(telegram_server, http, "getUpdates", timeout=5))
    await asyncio.sleep(0.1)
    second = asyncio.create_task(call(telegram_server, http, "getUpdates", timeout=5))
    answer = await first
    assert answer["error_code"] == 409 and "terminated by other getUpdates request" in answer["description"]

    await call(telegram_server, http, "setWebhook", url=mailbox.url)
    answer = await second
    assert answer["error_code"] == 409 and "webhook is active" in answer["description"]
    assert (await call(telegram_server, http, "getUpdates"))["error_code"] == 409
    assert (await call(telegram_server, http, "getWebhookInfo"))["result"]["url"] == mailbox.url
    await call(telegram_server, http, "deleteWebhook")
    assert (await call(telegram_server, http, "getUpdates"))["result"] == []


async def test_the_other_methods_answer_as_documented(telegram_server: Served, http: ClientSession) -> None:
    me = (await call(telegram_server, http, "GETME"))["result"]
    assert me["id"] == int(TELEGRAM_BOT) and me["is_bot"] is True
    assert (await call(telegram_server, http, "getChatMemberCount", chat_id=CHANNEL))["result"] == 4
    unknown = await call(telegram_server, http, "sendPigeon")
    assert (unknown["error_code"], unknown["description"]) == (404, "Not Found: method not found")
    async with http.post(f"{telegram_server.base_url}/bot1:wrong/getMe") as response:
        assert response.status == 401
        assert await response.json() == {"ok": False, "error_code": 401, "description": "Unauthorized"}


def test_the_secret_is_compared_whole_and_an_empty_one_opens_nothing() -> None:
    assert verify_secret("Fornacette_8f3c", "Fornacette_8f3c")
    for header in (None, "", "Fornacette_8f3", "è"):
        assert not verify_secret("Fornacette_8f3c", header)
    assert not verify_secret("", "")


AT = datetime.fromtimestamp(1795000000, UTC)
MARIA = {"id": 5001, "type": "private", "first_name": "Maria"}


def a_message(**parts: object) -> dict[str, object]:
    return {"update_id": 1, "message": {"message_id": 7, "date": 1795000000, "chat": MARIA} | parts}


def a_door(status: str, chat: dict[str, object] = MARIA) -> dict[str, object]:
    member = {"user": {"id": 1, "is_bot": True}, "status": status}
    return {"update_id": 1, "my_chat_member": {"chat": chat, "date": 1795000000, "new_chat_member": member}}


def test_the_documented_updates() -> None:
    """Facts re-typed from core.telegram.org/bots/api#update, November 2026."""
    assert read_update(a_message(text="STOP")) == InboundText("5001:7", "", "5001", "STOP", "text", AT)
    place = read_update(a_message(location={"latitude": 43.66, "longitude": 10.6}))
    assert place == InboundText("5001:7", "", "5001", None, "location", AT)
    picture = read_update(a_message(photo=[], caption="L'argine"))
    assert picture == InboundText("5001:7", "", "5001", "L'argine", "photo", AT)
    assert read_update(a_door("kicked")) == Blocked("5001", AT)
    assert read_update(a_door("member")) == Unblocked("5001", AT)


def test_what_is_none_of_our_business_is_none() -> None:
    group: dict[str, object] = {"id": -4001, "type": "group", "title": "Quelli dell'argine"}
    assert read_update(a_message(text="STOP", chat=group)) is None
    assert read_update(a_door("kicked", group)) is None
    assert read_update(a_door("administrator")) is None
    assert read_update({"update_id": 1, "channel_post": {"text": "Evacuare."}}) is None
    assert read_update({}) is None


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_no_shape_of_an_update_is_a_crash(data: st.DataObject) -> None:
    update = spoiled(a_message(text="STOP") | a_door("kicked"), data)
    assert isinstance(read_update(update), InboundText | Blocked | Unblocked | None)
