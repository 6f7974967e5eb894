"""The Bot API both ways: people, channels, floods, doors that close, webhooks and polling."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import ClientSession
from hypothesis import given, settings
from hypothesis import strategies as st

from alerting.buttons import Button
from alerting.domain.delivery import (
    Accepted,
    ChannelHalted,
    Deferred,
    Reason,
    Refused,
    TextRejected,
    Uncertain,
)
from alerting.webhooks import Blocked, InboundText, Moved, Pressed, Unblocked
from alerting.webhooks.telegram import read_update, verify_secret
from consumers.channel import Text
from consumers.channels.bot_api import classify
from consumers.channels.telegram import WRITTEN_LATELY, Lately, Telegram
from consumers.simulators.serving import Served
from geo.shapes import Point
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
from tests.contract.telegram_parts import Posts

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
        assert classify(429, flood, "t", address) == Deferred(Reason.PAIR_THROTTLED, pause)
    assert classify(429, flood, "t", "5001", written_lately=True) == Deferred(Reason.PAIR_THROTTLED, pause)


def test_the_servers_own_floods_say_a_minute() -> None:
    """More than a thousand calls under way, or 310 texts unsent in a chat: tdlib/telegram-bot-api @01a3679."""
    flood = an_error(429, "Too Many Requests: retry after 60", retry_after=60)
    minute = timedelta(seconds=60)
    assert classify(429, flood, "t", "5001") == Deferred(Reason.THROTTLED, minute, whole_account=True)
    assert classify(429, flood, "t", "-4007") == Deferred(Reason.PAIR_THROTTLED, minute)


def test_what_telegram_cannot_do_just_now_is_never_final() -> None:
    for code in (500, 502, 504):
        assert classify(code, an_error(code, "Internal Server Error"), "t", "5001") == Deferred(
            Reason.PROVIDER_UNAVAILABLE
        )
    two_pollers = an_error(409, "Conflict: terminated by other getUpdates request")
    assert classify(409, two_pollers, "t", "5001") == Deferred(Reason.UNKNOWN_ANSWER)


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


async def test_a_group_that_moved_is_followed_and_its_new_id_told(
    telegram: Telegram, telegram_server: Served, http: ClientSession, posts: Posts
) -> None:
    outcome = await telegram.send(telegram_account(telegram_server.base_url), "-4001", EVACUATE, "att_1")
    assert isinstance(outcome, Accepted)
    assert [item["to"] for item in await received(telegram_server, http)] == ["-1001000004001"]
    assert posts.moves == [("-4001", "-1001000004001")]


async def test_length_is_counted_in_utf16(telegram: Telegram, telegram_server: Served) -> None:
    account = telegram_account(telegram_server.base_url)
    assert isinstance(await telegram.send(account, "5001", Text("🌧" * 2048), "a"), Accepted)
    with pytest.raises(TextRejected, match="too long"):
        await telegram.send(account, "5002", Text("🌧" * 2048 + "!"), "b")
    with pytest.raises(TextRejected, match="empty"):
        await telegram.send(account, "5002", Text("  \n"), "c")


async def test_one_chat_takes_one_a_second_and_is_left_alone_by_itself(
    telegram: Telegram, telegram_server: Served
) -> None:
    account = telegram_account(telegram_server.base_url)
    outcomes = [await telegram.send(account, "5001", EVACUATE, f"a{i}") for i in range(4)]
    assert [type(o) for o in outcomes] == [Accepted] * 3 + [Deferred]
    assert outcomes[3] == Deferred(Reason.PAIR_THROTTLED, timedelta(seconds=1))
    assert isinstance(await telegram.send(account, "5002", EVACUATE, "b"), Accepted)


async def test_a_group_takes_twenty_a_minute_and_is_left_alone_by_itself(
    telegram: Telegram, telegram_server: Served
) -> None:
    account = telegram_account(telegram_server.base_url)
    outcomes = [await telegram.send(account, "-4007", EVACUATE, f"a{i}") for i in range(21)]
    assert [type(o) for o in outcomes[:20]] == [Accepted] * 20
    throttled = outcomes[20]
    assert isinstance(throttled, Deferred) and throttled.reason is Reason.PAIR_THROTTLED
    assert throttled.wait and timedelta(seconds=1) <= throttled.wait <= timedelta(seconds=3)
    assert not throttled.whole_account


async def test_the_bots_flood_is_heard_from_whoever_was_not_told_just_now(
    telegram: Telegram, telegram_server: Served, http: ClientSession
) -> None:
    account = telegram_account(telegram_server.base_url)
    assert isinstance(await telegram.send(account, "5001", EVACUATE, "a"), Accepted)
    await tell(telegram_server, http, "config", {"faults": {429: 1.0}})
    pause = timedelta(seconds=7)
    for _ in range(2):  # who was refused is no chat that was written to
        outcome = await telegram.send(account, "5002", EVACUATE, "b")
        assert outcome == Deferred(Reason.THROTTLED, pause, whole_account=True)
    assert await telegram.send(account, "5001", EVACUATE, "c") == Deferred(Reason.PAIR_THROTTLED, pause)
    another_bot = telegram_account(telegram_server.base_url, paced_as="telegram.bientina")
    outcome = await telegram.send(another_bot, "5001", EVACUATE, "d")
    assert outcome == Deferred(Reason.THROTTLED, pause, whole_account=True)


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 15)), max_size=60))
def test_a_chat_is_written_to_lately_for_ten_seconds_and_then_forgotten(steps: list[tuple[int, float]]) -> None:
    lately, account = Lately(), telegram_account("http://127.0.0.1")
    now, noted = 0.0, dict[int, float]()
    for chat, later in steps:
        now += later
        for one, at in noted.items():
            assert lately.wrote(account, str(one), now) == (at > now - WRITTEN_LATELY)
        noted[chat] = now
        lately.note(account, str(chat), now)
        assert len(lately._at) == sum(at >= now - WRITTEN_LATELY for at in noted.values())


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


async def test_a_webhook_is_set_with_care_and_tells_its_troubles(
    telegram_server: Served, http: ClientSession, mailbox: Mailbox
) -> None:
    insecure = await call(telegram_server, http, "setWebhook", url="ftp://allerta.example")
    assert insecure["description"] == "Bad Request: bad webhook: An HTTPS URL must be provided for webhook"
    odd = await call(telegram_server, http, "setWebhook", url=mailbox.url, secret_token="non va bene")
    assert odd["description"] == "Bad Request: secret token contains unallowed characters"
    assert (await call(telegram_server, http, "setWebhook", url=mailbox.url))["ok"]
    hasty = await call(telegram_server, http, "setWebhook", url=mailbox.url)
    assert (hasty["error_code"], hasty["parameters"]) == (429, {"retry_after": 1})

    mailbox.answers = [503]
    await tell(telegram_server, http, "inbound", {"from": "5001", "text": "/start"})
    await until(lambda: len(mailbox.raw) == 2)
    told = (await call(telegram_server, http, "getWebhookInfo"))["result"]
    assert told["last_error_message"] == "Wrong response from the webhook: 503" and told["last_error_date"] > 0


async def test_a_pressed_button_waits_for_its_answer_and_takes_one(
    telegram_server: Served, http: ClientSession
) -> None:
    await tell(telegram_server, http, "inbound", {"from": "5001", "action": "press", "data": "SAFE:8f3c"})
    (update,) = (await call(telegram_server, http, "getUpdates"))["result"]
    press = read_update(update)
    assert isinstance(press, Pressed) and press.sender == "5001"
    for answer in (True, None):
        said = await call(telegram_server, http, "answerCallbackQuery", callback_query_id=press.identity)
        assert said.get("result") is answer
    assert said["description"].startswith("Bad Request: query is too old")


async def test_buttons_stand_below_an_answer_and_a_press_has_it_written_anew(
    telegram: Telegram, telegram_server: Served, http: ClientSession
) -> None:
    account = telegram_account(telegram_server.base_url)
    await tell(telegram_server, http, "config", {"chat_burst": 10})
    asks = Text("Che cosa vuoi ricevere?", buttons=((Button("✅ Eventi", "-eventi~1"),), (Button("📍", "zone~2"),)))
    assert isinstance(await telegram.send(account, "5001", asks, "1.1.1"), Accepted)
    await tell(telegram_server, http, "inbound", {"from": "5001", "press": "-eventi~1"})
    (update,) = (await call(telegram_server, http, "getUpdates"))["result"]
    press = read_update(update)
    assert isinstance(press, Pressed) and (press.data, press.sender) == ("-eventi~1", "5001")
    assert press.message is not None
    anew = replace(asks, body="Fatto.", buttons=((Button("⬜ Eventi", "+eventi~3"),),), edits=press.message)
    for _ in range(2):  # to write it anew twice is once
        assert await telegram.send(account, "5001", anew, "1.2.1") == Accepted(str(press.message))
    lines = await received(telegram_server, http)
    assert [(line["text"], line.get("edits"), line["buttons"][0][0]["text"]) for line in lines] == [
        ("Che cosa vuoi ricevere?", None, "✅ Eventi"),
        ("Fatto.", str(press.message), "⬜ Eventi"),
    ]
    gone = replace(anew, edits=4711)
    assert isinstance(await telegram.send(account, "5001", gone, "1.3.1"), Accepted), "what is gone is said below"
    assert len(await received(telegram_server, http)) == 3


def test_a_press_in_a_group_or_of_somebody_elses_text_has_no_message_to_write_anew() -> None:
    in_a_group = {"message_id": 7, "chat": {"id": -4001, "type": "group"}}
    anothers = {"message_id": 7, "chat": {"id": 5002, "type": "private"}}
    odd = {"message_id": True, "chat": {"id": 5001, "type": "private"}}
    for message in (None, in_a_group, anothers, odd):
        press = {"id": "1", "from": {"id": 5001}, "data": "x", "message": message}
        read = read_update({"callback_query": press})
        assert isinstance(read, Pressed) and read.message is None
    long = read_update({"callback_query": {"id": "1", "from": {"id": 5001}, "data": "x" * 65}})
    assert isinstance(long, Pressed) and long.data == ""


async def test_a_group_says_where_it_went_and_is_not_there_any_more(
    telegram: Telegram, telegram_server: Served, http: ClientSession
) -> None:
    await tell(telegram_server, http, "inbound", {"from": "-4002", "action": "migrate", "to": "-1001000004002"})
    (update,) = (await call(telegram_server, http, "getUpdates"))["result"]
    assert read_update(update) == Moved("-4002", "-1001000004002")
    gone = await call(telegram_server, http, "sendMessage", chat_id="-4002", text="Evacuare.")
    assert gone["parameters"] == {"migrate_to_chat_id": -1001000004002}


async def test_the_documented_example_of_a_call_is_taken(telegram_server: Served, http: ClientSession) -> None:
    """Facts re-typed from core.telegram.org/bots/api#sendmessage, November 2026."""
    asked = {
        "chat_id": 123456789,
        "text": "<b>ALLERTA ARANCIONE</b>\nTemporali dalle 14.",
        "parse_mode": "HTML",
        "link_preview_options": {"is_disabled": True},
        "disable_notification": False,
        "protect_content": False,
        "reply_markup": {"inline_keyboard": [[{"text": "Sto bene", "callback_data": "SAFE:8f3c"}]]},
    }
    async with http.post(f"{telegram_server.base_url}/bot{TELEGRAM_TOKEN}/sendMessage", json=asked) as response:
        answer = await response.json()
    assert answer["ok"] and answer["result"]["chat"] == {"id": 123456789, "type": "private", "first_name": "Maria"}
    assert answer["result"]["text"] == "ALLERTA ARANCIONE\nTemporali dalle 14."
    taken = classify(200, json.dumps(answer).encode(), "t", "123456789")
    assert taken == Accepted(str(answer["result"]["message_id"]))


@pytest.mark.parametrize(
    ("marked", "trouble"),
    [
        ("<x>Evacuare</x>", 'Unsupported start tag "x" at byte offset 0'),
        ("Città: <b>Evacuare", 'Can\'t find end tag corresponding to start tag "b"'),
        ("<b>Evacuare</i>", 'Unmatched end tag at byte offset 11, expected "</b>", found "</i>"'),
        ("Città </b>", "Unexpected end tag at byte offset 7"),
        ("Arno < 3 m", 'Unsupported start tag "" at byte offset 5'),
    ],
)
async def test_markup_is_read_as_the_server_reads_it(
    telegram_server: Served, http: ClientSession, marked: str, trouble: str
) -> None:
    said = await call(telegram_server, http, "sendMessage", chat_id=5001, text=marked, parse_mode="HTML")
    assert said["description"] == f"Bad Request: can't parse entities: {trouble}"


async def test_length_is_counted_when_the_markup_is_read(telegram_server: Served, http: ClientSession) -> None:
    marked = f"<b>{'&amp;' * 4096}</b>"
    said = await call(telegram_server, http, "sendMessage", chat_id=5001, text=marked, parse_mode="HTML")
    assert said["result"]["text"] == "&" * 4096
    longer = await call(telegram_server, http, "sendMessage", chat_id=5002, text=f"{marked}!", parse_mode="HTML")
    assert longer["description"] == "Bad Request: message is too long"


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
    assert place == InboundText("5001:7", "", "5001", None, "location", AT, point=Point(43.66, 10.6))
    picture = read_update(a_message(photo=[], caption="L'argine"))
    assert picture == InboundText("5001:7", "", "5001", "L'argine", "photo", AT)
    assert read_update(a_door("kicked")) == Blocked("5001", AT)
    assert read_update(a_door("member")) == Unblocked("5001", AT)
    press = {"id": "4382bfdwdsb323b2d9", "from": {"id": 5001, "is_bot": False}, "chat_instance": "1", "data": "SAFE:1"}
    assert read_update({"update_id": 1, "callback_query": press}) == Pressed("4382bfdwdsb323b2d9", "5001")
    group: dict[str, object] = {"id": -4001, "type": "group", "title": "Sala operativa"}
    supergroup: dict[str, object] = {"id": -1001000004001, "type": "supergroup", "title": "Sala operativa"}
    moved = Moved("-4001", "-1001000004001")
    assert read_update(a_message(chat=group, migrate_to_chat_id=-1001000004001)) == moved
    assert read_update(a_message(chat=supergroup, migrate_from_chat_id=-4001)) == moved


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
    group: dict[str, object] = {"id": -4001, "type": "group"}
    press: dict[str, object] = {"callback_query": {"id": "1", "from": {"id": 5001}}}
    whole = data.draw(
        st.sampled_from(
            [a_message(text="STOP"), a_door("kicked"), press, a_message(chat=group, migrate_to_chat_id=-1001000004001)]
        )
    )
    update = spoiled(whole, data)
    assert isinstance(read_update(update), InboundText | Blocked | Unblocked | Moved | Pressed | None)
