"""A picture or a PDF on Telegram: brought once, by whoever is told first; for its sake nobody is told twice, or not."""

import asyncio
import json
from collections import Counter
from dataclasses import replace
from hashlib import sha256
from io import BytesIO

import pytest
from aiohttp import ClientSession
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from alerting.domain.delivery import Accepted, ChannelHalted, Deferred, Reason, Refused, Uncertain
from consumers.channel import Attachment, Secret, Text
from consumers.channels import bot_api
from consumers.channels import telegram as telegram_channel
from consumers.channels.telegram import Telegram
from consumers.simulators.serving import Served
from tests.contract.fornacette import TELEGRAM_BOT, TELEGRAM_TOKEN, a_server_that, received, telegram_account, tell
from tests.contract.telegram_parts import Ids


def a_map() -> bytes:
    drawn = BytesIO()
    Image.new("RGB", (64, 48), "navy").save(drawn, "JPEG")
    return drawn.getvalue()


def enclosed(content: bytes, name: str = "golena.jpg", media_type: str = "image/jpeg") -> Attachment:
    digest = sha256(content).hexdigest()
    url = f"https://allerta.fornacette.example/v1/attachments/{digest}"
    return Attachment(name, media_type, content, digest, url, "La golena da evacuare")


MAP = enclosed(a_map())
PLAN = enclosed(b"%PDF-1.7 piano di evacuazione", "piano «evacuazione».pdf", "application/pdf")
EVACUATE = Text("Fornacette: esondazione dell'Arno. Evacuare la golena.", enclosure=MAP)


def files_of(served: Served) -> int:
    """How many uploads the bot has made."""
    return len(served.simulator._bots[TELEGRAM_BOT].files)  # type: ignore[attr-defined]


async def test_a_crowd_gets_one_picture_each_and_it_is_uploaded_once(
    telegram: Telegram, telegram_server: Served, http: ClientSession
) -> None:
    account = telegram_account(telegram_server.base_url)
    people = [str(number) for number in range(6000, 6100)]
    outcomes = await asyncio.gather(*(telegram.send(account, one, EVACUATE, "a") for one in people))

    assert {type(outcome) for outcome in outcomes} == {Accepted}
    arrived = await received(telegram_server, http)
    assert sorted(item["to"] for item in arrived) == people
    assert all(item["media"]["sha256"] == MAP.sha256 and item["text"] == EVACUATE.body for item in arrived)
    assert files_of(telegram_server) == 1


async def test_a_plan_arrives_as_a_document_with_its_name(
    telegram: Telegram, telegram_server: Served, http: ClientSession
) -> None:
    account = telegram_account(telegram_server.base_url)
    for person in ("5001", "5002"):
        assert isinstance(await telegram.send(account, person, replace(EVACUATE, enclosure=PLAN), "a"), Accepted)
    shown = [item["media"] for item in await received(telegram_server, http)]
    assert shown == [{"media_type": "application/pdf", "sha256": PLAN.sha256, "name": PLAN.name}] * 2
    assert files_of(telegram_server) == 1


async def test_an_upload_whose_answer_is_lost_is_uncertain_for_that_person_alone(
    telegram: Telegram, telegram_server: Served, http: ClientSession
) -> None:
    account = telegram_account(telegram_server.base_url)
    first = telegram.send(account, "51234505", EVACUATE, "a")
    others = (telegram.send(account, one, EVACUATE, "b") for one in ("5001", "5002", "5003"))
    outcomes = await asyncio.gather(first, *others)

    assert outcomes[0] == Uncertain(Reason.PROVIDER_SILENT)
    assert [type(outcome) for outcome in outcomes[1:]] == [Accepted] * 3
    got = Counter(item["to"] for item in await received(telegram_server, http))
    assert got == {"51234505": 1, "5001": 1, "5002": 1, "5003": 1}


async def test_whoever_cannot_be_told_does_not_keep_the_picture_from_the_others(
    telegram: Telegram, telegram_server: Served, http: ClientSession
) -> None:
    account = telegram_account(telegram_server.base_url)
    assert await telegram.send(account, "51234403", EVACUATE, "a") == Refused(Reason.BLOCKED_BY_PERSON)
    throttled = await telegram.send(account, "51234429", EVACUATE, "a")
    assert isinstance(throttled, Deferred) and throttled.reason is Reason.THROTTLED
    assert isinstance(await telegram.send(account, "5001", EVACUATE, "a"), Accepted)
    (arrived,) = await received(telegram_server, http)
    assert arrived["media"]["sha256"] == MAP.sha256


async def test_who_waits_for_anothers_upload_in_vain_gets_the_words_and_the_address(
    telegram: Telegram, telegram_server: Served, http: ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telegram_channel, "PATIENCE_WITH_A_FILE", 0.3)
    account = telegram_account(telegram_server.base_url)
    hangs = asyncio.create_task(telegram.send(account, "51234504", EVACUATE, "a"))
    await asyncio.sleep(0.1)
    assert isinstance(await telegram.send(account, "5001", EVACUATE, "b"), Accepted)
    assert not hangs.done()
    (arrived,) = await received(telegram_server, http)
    assert arrived["text"] == f"{EVACUATE.body}\n{MAP.url}" and "media" not in arrived
    assert await hangs == Uncertain(Reason.PROVIDER_SILENT)


async def test_a_slow_upload_is_not_cut_short_by_the_patience_of_those_who_wait(
    telegram: Telegram, telegram_server: Served, http: ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telegram_channel, "PATIENCE_WITH_A_FILE", 0.2)
    await tell(telegram_server, http, "config", {"latency": 0.6})
    account = telegram_account(telegram_server.base_url)
    assert isinstance(await telegram.send(account, "5001", EVACUATE, "a"), Accepted)
    (arrived,) = await received(telegram_server, http)
    assert arrived["media"]["sha256"] == MAP.sha256


async def test_a_file_that_telegram_has_lost_is_uploaded_anew_and_nobody_is_told_twice(
    telegram: Telegram, telegram_server: Served, http: ClientSession
) -> None:
    account = telegram_account(telegram_server.base_url)
    assert isinstance(await telegram.send(account, "5001", EVACUATE, "a"), Accepted)
    await tell(telegram_server, http, "config", {"lost_files": True})
    assert isinstance(await telegram.send(account, "5002", EVACUATE, "a"), Accepted)
    assert files_of(telegram_server) == 2
    people = [str(number) for number in range(6000, 6030)]  # to whom the new one is lost as well, while they ask
    outcomes = await asyncio.gather(*(telegram.send(account, one, EVACUATE, "a") for one in people))
    assert {type(outcome) for outcome in outcomes} == {Accepted}
    arrived = await received(telegram_server, http)
    assert Counter(item["to"] for item in arrived) == Counter(["5001", "5002", *people])
    assert [item["media"]["sha256"] for item in arrived[:2]] == [MAP.sha256] * 2
    assert all("media" in item or MAP.url in item["text"] for item in arrived)


async def test_words_that_do_not_fit_below_a_picture_go_alone_and_say_where_it_is(
    telegram: Telegram, telegram_server: Served, http: ClientSession
) -> None:
    account = telegram_account(telegram_server.base_url)
    longest, longer = "🌧" * 512, "🌧" * 512 + "!"
    for person, words in (("5001", longest), ("5002", longer)):
        assert isinstance(await telegram.send(account, person, replace(EVACUATE, body=words), "a"), Accepted)
    below, alone = await received(telegram_server, http)
    assert below["text"] == longest and below["media"]["sha256"] == MAP.sha256
    assert alone["text"] == f"{longer}\n{MAP.url}" and "media" not in alone
    full = replace(EVACUATE, body="a" * 4090)
    assert isinstance(await telegram.send(account, "5003", full, "a"), Accepted)
    assert (await received(telegram_server, http))[-1]["text"] == full.body


async def test_a_picture_telegram_does_not_take_is_offered_once_and_everybody_has_the_words(
    telegram: Telegram, telegram_server: Served, http: ClientSession
) -> None:
    account = telegram_account(telegram_server.base_url)
    no_picture = replace(EVACUATE, enclosure=enclosed(b"non e' una foto"))
    people = [str(number) for number in range(6000, 6040)]
    outcomes = await asyncio.gather(*(telegram.send(account, one, no_picture, "a") for one in people))
    assert {type(outcome) for outcome in outcomes} == {Accepted}
    arrived = await received(telegram_server, http)
    assert sorted(item["to"] for item in arrived) == people and not any("media" in item for item in arrived)
    async with http.get(f"{telegram_server.base_url}/__sim/refused") as response:
        assert await response.json() == {"400": 1}


@pytest.mark.parametrize("trouble", [*bot_api.REFUSED_FILE, *bot_api.NOT_WITH_A_FILE])
async def test_whatever_telegram_has_against_a_picture_the_words_are_said(telegram: Telegram, trouble: str) -> None:
    asked: list[bytes] = []

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head.split(b" ")[1].rpartition(b"/")[2])
        await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
        body = b'{"ok":true,"result":{"message_id":7}}'
        if asked[-1] == b"sendPhoto":
            body = json.dumps({"ok": False, "error_code": 400, "description": f"Bad Request: {trouble}"}).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        await writer.drain()
        writer.close()

    async with a_server_that(converse) as base_url:
        assert await telegram.send(telegram_account(base_url), "-4009", EVACUATE, "a") == Accepted("7")
    assert asked == [b"sendPhoto", b"sendMessage"]


async def test_a_proxy_that_finds_the_picture_too_large_costs_nobody_the_alert(telegram: Telegram) -> None:
    asked: list[bytes] = []

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head.split(b" ")[1].rpartition(b"/")[2])
        await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
        ok = b'{"ok":true,"result":{"message_id":7}}'
        body, status = (ok, b"200 OK") if asked[-1] == b"sendMessage" else (b"<html>", b"413 Payload Too Large")
        writer.write(b"HTTP/1.1 %b\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))
        await writer.drain()
        writer.close()

    async with a_server_that(converse) as base_url:
        for _ in range(2):
            assert await telegram.send(telegram_account(base_url), "5001", EVACUATE, "a") == Accepted("7")
    assert asked == [b"sendPhoto", b"sendMessage", b"sendMessage"]


async def test_a_group_that_shows_no_pictures_gets_the_words_and_all_others_the_picture(
    telegram: Telegram, telegram_server: Served, http: ClientSession
) -> None:
    account = telegram_account(telegram_server.base_url)
    await tell(telegram_server, http, "config", {"no_photos": [-4009]})
    for chat in ("-4009", "5001", "-4009"):
        assert isinstance(await telegram.send(account, chat, EVACUATE, "a"), Accepted)
    shown = [("media" in item, item["to"]) for item in await received(telegram_server, http)]
    assert shown == [(False, "-4009"), (True, "5001"), (False, "-4009")]


async def test_a_picture_without_a_name_of_its_own_is_never_taken_for_another(
    telegram: Telegram, telegram_server: Served, http: ClientSession
) -> None:
    account = telegram_account(telegram_server.base_url)
    for person in ("5001", "5002"):
        nameless = replace(EVACUATE, enclosure=replace(MAP, sha256=""))
        assert isinstance(await telegram.send(account, person, nameless, "a"), Accepted)
    assert not any("media" in item for item in await received(telegram_server, http))


async def test_where_ids_cannot_be_asked_for_or_kept_everybody_is_still_told_once(
    telegram: Telegram, telegram_server: Served, http: ClientSession, ids: Ids
) -> None:
    account = telegram_account(telegram_server.base_url)
    ids.cannot_keep = ConnectionError("the database is away")
    assert isinstance(await telegram.send(account, "5001", EVACUATE, "a"), Accepted)
    ids.trouble = ConnectionError("the database is away")
    assert isinstance(await telegram.send(account, "5002", EVACUATE, "a"), Accepted)
    with_it, without = await received(telegram_server, http)
    assert (with_it["to"], "media" in with_it) == ("5001", True)
    assert (without["to"], without["text"]) == ("5002", f"{EVACUATE.body}\n{MAP.url}")


async def test_a_group_that_moved_gets_its_picture_at_its_new_place(
    telegram: Telegram, telegram_server: Served, http: ClientSession
) -> None:
    account = telegram_account(telegram_server.base_url)
    for _ in range(2):  # by its own upload, and by the id
        assert isinstance(await telegram.send(account, "-4001", EVACUATE, "a"), Accepted)
    arrived = await received(telegram_server, http)
    assert [(item["to"], item["media"]["sha256"]) for item in arrived] == [("-1001000004001", MAP.sha256)] * 2


async def test_a_malformed_token_halts_before_a_picture_is_read(telegram: Telegram) -> None:
    account = telegram_account("http://127.0.0.1:1", token=Secret("7000000001:AA/../é"))
    with pytest.raises(ChannelHalted):
        await telegram.send(account, "5001", EVACUATE, "a")


# ── how it is written ───────────────────────────────────────────────────────────────────────────────


async def test_the_documented_calls_of_a_photo(telegram: Telegram) -> None:
    """core.telegram.org/bots/api#sendphoto, read November 2026: multipart for a new file, its file_id afterwards."""
    said: list[bytes] = []
    answer = json.dumps(
        {
            "ok": True,
            "result": {
                "message_id": 1234,
                "date": 1795000000,
                "chat": {"id": 123456789, "type": "private", "first_name": "Maria"},
                "photo": [
                    {"file_id": "AgAC-small", "file_unique_id": "1", "width": 90, "height": 67, "file_size": 1},
                    {"file_id": "AgAC-large", "file_unique_id": "2", "width": 1280, "height": 960, "file_size": 9},
                ],
                "caption": EVACUATE.body,
            },
        }
    ).encode()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        said.extend([head, await reader.readexactly(int(head.lower().split(b"length: ")[1].split(b"\r\n")[0]))])
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer))
        await writer.drain()
        writer.close()

    async with a_server_that(converse) as base_url:
        for _ in range(2):
            outcome = await telegram.send(telegram_account(base_url), "123456789", EVACUATE, "a")
            assert outcome == Accepted("1234")
    assert said[0].startswith(f"POST /bot{TELEGRAM_TOKEN}/sendPhoto HTTP/1.1\r\n".encode())
    assert b"Content-Type: multipart/form-data; boundary=" in said[0]
    assert b'name="photo"; filename="golena.jpg"\r\nContent-Type: image/jpeg\r\n\r\n' + MAP.content in said[1]
    assert json.loads(said[3]) == {"chat_id": 123456789, "photo": "AgAC-large", "caption": EVACUATE.body}


def test_words_that_go_alone_show_their_picture_from_its_address() -> None:
    said = json.loads(bot_api.call("5001", bot_api.message("Evacuare.", MAP.url)))
    shown = {"url": MAP.url, "prefer_large_media": True, "show_above_text": True}
    assert said == {"chat_id": 5001, "text": "Evacuare.", "link_preview_options": shown}


@example(name='"; filename="\r\n\r\n--', words="\r\n\r\n--", content=b"\r\n--")
@given(name=st.text(max_size=40), words=st.text(max_size=60), content=st.binary(max_size=200))
def test_no_name_and_no_words_break_out_of_their_part(name: str, words: str, content: bytes) -> None:
    words = words.encode("utf-8", "replace").decode()
    name = name.encode("utf-8", "replace").decode()
    file = Attachment(name, "image/jpeg", content)
    body, media_type = bot_api.upload("5001", "photo", file, words)
    boundary = media_type.partition("boundary=")[2].encode()
    before, *parts, end = body.split(b"--" + boundary)
    assert (before, end, len(parts)) == (b"", b"--\r\n", 3)
    heads = [part.partition(b"\r\n\r\n")[0] for part in parts]
    assert [head.count(b"\r\n") for head in heads] == [1, 1, 2]
    assert [head.count(b'"') for head in heads] == [2, 2, 4]
    assert parts[1].partition(b"\r\n\r\n")[2] == words.encode() + b"\r\n"
    assert parts[2].partition(b"\r\n\r\n")[2] == content + b"\r\n"


def test_what_an_answer_calls_a_file_is_found_or_not_but_never_a_crash() -> None:
    def answered(**message: object) -> bytes:
        return json.dumps({"ok": True, "result": {"message_id": 1} | message}).encode()

    assert bot_api.file_id_of(answered(document={"file_id": "BQAC1"})) == "BQAC1"
    assert bot_api.file_id_of(answered(photo=[{"file_id": "a"}, {"file_id": "b"}])) == "b"
    odd_ones: tuple[dict[str, object], ...] = (
        {"photo": []},
        {"photo": [7]},
        {"photo": {}},
        {"document": 5},
        {"document": {"file_id": 5}},
        {},
    )
    for odd in odd_ones:
        assert bot_api.file_id_of(answered(**odd)) is None
    for broken in (b"", b"[]", b'{"ok":true,"result":true}', b'{"ok":false,"error_code":400}'):
        assert bot_api.file_id_of(broken) is None
