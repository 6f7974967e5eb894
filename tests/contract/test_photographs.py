"""Pictures of citizens, fetched from providers that behave well, badly, and not as they are."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from alerting.domain.delivery import Channel
from consumers import photographs
from consumers.channel import Account, Secret
from consumers.photographs import MOST_BYTES, NotNow, NotThere, TooLarge, fetch

TOKEN = "EAAGnobodyMayReadThis"
NAME = "1234567890123456"
PICTURE = b"\xff\xd8\xff" + bytes(1000)


@asynccontextmanager
async def provider(described: Callable[[str], Any], content: bytes = PICTURE) -> AsyncIterator[tuple[str, list[str]]]:
    """A server that says of every picture what `described` makes of its own address; whoever asked with which token."""
    asked: list[str] = []
    base = ""

    async def describe(request: web.Request) -> web.Response:
        asked.append(f"{request.path} {request.headers.get('Authorization', '')}")
        found = described(base)
        return found if isinstance(found, web.Response) else web.json_response(found)

    async def hand_out(request: web.Request) -> web.StreamResponse:
        asked.append(f"{request.path} {request.headers.get('Authorization', '')}")
        if request.path.endswith("/elsewhere"):
            return web.Response(status=302, headers={"Location": "http://127.0.0.1:9/stolen"})
        answer = web.StreamResponse()  # chunked: no length is announced
        await answer.prepare(request)
        for start in range(0, len(content), 65536):
            await answer.write(content[start : start + 65536])
        return answer

    app = web.Application()
    app.add_routes([web.get("/v26.0/{name}", describe), web.get("/bot{token}/getFile", describe)])
    app.add_routes([web.get("/file/{rest:.*}", hand_out), web.get("/media/{rest:.*}", hand_out)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield base, asked
    finally:
        await runner.cleanup()


def account(base: str, channel: Channel = Channel.WHATSAPP) -> Account:
    settings = {"phone_number_id": "105302200000001", "api_version": "v26.0"}
    name = "whatsapp.santa-fiora"
    return Account(name, "santa-fiora", channel, base, Secret(TOKEN), settings, paced_as=name)


async def fetched(base: str, name: str = NAME, channel: Channel = Channel.WHATSAPP) -> bytes:
    async with aiohttp.ClientSession() as http:
        return await fetch(http, account(base, channel), name)


async def test_whatsapp_tells_an_address_and_both_calls_carry_the_token() -> None:
    async with provider(lambda base: {"url": f"{base}/media/a", "id": NAME}) as (base, asked):
        assert await fetched(base) == PICTURE
    assert asked == [f"/v26.0/{NAME} Bearer {TOKEN}", f"/media/a Bearer {TOKEN}"]


async def test_telegram_tells_a_path_below_the_bots_own() -> None:
    async with provider(lambda _: {"ok": True, "result": {"file_path": "photos/file_1.jpg"}}) as (base, asked):
        assert await fetched(base, "AgACAgQ-aa_b", Channel.TELEGRAM) == PICTURE
    assert asked[1] == f"/file/bot{TOKEN}/photos/file_1.jpg "


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/media/a",
        "https://fbsbx.com.example.org/a",
        "https://evilfbsbx.com/a",
        "http://lookaside.fbsbx.com/a",
        "https://lookaside.fbsbx.com@example.org/a",
        "file:///etc/passwd",
        "",
        None,
        7,
    ],
)
async def test_the_token_goes_nowhere_but_to_meta(url: object) -> None:
    async with provider(lambda _: {"url": url}) as (base, asked):
        with pytest.raises(NotThere):
            await fetched(base)
    assert len(asked) == 1


def test_metas_own_address_is_taken() -> None:
    assert photographs._is_metas(
        "https://lookaside.fbsbx.com/whatsapp_business/attachments/?mid=1", "https://g.example"
    )


async def test_nobody_is_followed_elsewhere() -> None:
    async with provider(lambda base: {"url": f"{base}/media/elsewhere"}) as (base, _):
        with pytest.raises(NotNow, match="302"):
            await fetched(base)


async def test_no_more_is_read_than_anybody_takes() -> None:
    async with provider(lambda base: {"url": f"{base}/media/a"}, bytes(MOST_BYTES + 1)) as (base, _):
        with pytest.raises(TooLarge):
            await fetched(base)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (web.Response(status=404), NotThere),
        (web.Response(status=400, text='{"error": {"code": 100}}'), NotThere),
        (web.Response(status=401), NotNow),
        (web.Response(status=503, text="<html>"), NotNow),
        (web.Response(text="<html>"), NotNow),
        (["no object"], NotThere),
    ],
)
async def test_what_is_gone_is_told_from_what_may_come_back(answer: Any, error: type[Exception]) -> None:
    async with provider(lambda _: answer) as (base, _):
        with pytest.raises(error):
            await fetched(base)


@pytest.mark.parametrize("name", ["../me", "1/../../x", "12?fields=a", "", "dodici"])
async def test_a_name_that_is_no_id_is_asked_of_nobody(name: str) -> None:
    async with provider(lambda base: {"url": f"{base}/media/a"}) as (base, asked):
        with pytest.raises(NotThere):
            await fetched(base, name)
    assert asked == []


async def test_who_is_away_is_asked_again_later() -> None:
    with pytest.raises(NotNow):
        await fetched("http://127.0.0.1:9")


@pytest.mark.parametrize("path", ["../../secrets", "a/../../b", "", None])
async def test_telegram_cannot_lead_out_of_its_own_folder(path: object) -> None:
    async with provider(lambda _: {"ok": True, "result": {"file_path": path}}) as (base, asked):
        with pytest.raises(NotThere):
            await fetched(base, "AgAC", Channel.TELEGRAM)
    assert len(asked) == 1


async def test_no_error_tells_the_token() -> None:
    for base in ("http://127.0.0.1:9", "http://localhost.invalid"):
        for channel in (Channel.WHATSAPP, Channel.TELEGRAM):
            with pytest.raises(NotNow) as raised:
                await fetched(base, NAME, channel)
            assert TOKEN not in str(raised.value) + repr(raised.value.__context__ and raised.value.__suppress_context__)
