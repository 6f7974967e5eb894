"""Servers that mean no good, each on a real socket: bounded in time and in memory, and a sentence for each."""

import asyncio
import gzip
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import count
from types import MappingProxyType

import pytest
from aiohttp import web
from yarl import URL

from alerting.feeds.fetching import Fetched, FetchFailed, Limits, NotModified, Shape, Validators, fetch, session
from alerting.feeds.fetching import _check_address as check_address

CAP = b'<?xml version="1.0"?><alert xmlns="urn:oasis:names:tc:emergency:cap:1.2">Fornacette</alert>'
LIMITS = Limits(Shape.XML, bytes=100_000, seconds=2.0, redirects=3, hosts=frozenset({"127.0.0.1"}))
NOTHING_KNOWN = Validators()

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def answering(handler: Handler) -> AsyncIterator[str]:
    """A server that knows HTTP, whatever it does with it."""
    runner = web.ServerRunner(web.Server(handler), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/cap.xml"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def saying(raw: bytes, *, then_reset: bool = False) -> AsyncIterator[str]:
    """A server that says these bytes to anybody, right or wrong, and hangs up."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        await writer.drain()
        if then_reset:
            writer.transport.abort()
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/cap.xml"
    finally:
        server.close()
        await server.wait_closed()


async def ask(url: str, *, since: Validators = NOTHING_KNOWN, limits: Limits = LIMITS) -> Fetched | NotModified:
    async with session(private=True) as client:
        return await fetch(client, url, since=since, limits=limits)


async def refused(server: AbstractAsyncContextManager[str], limits: Limits = LIMITS) -> str:
    """The sentence it fails with."""
    async with server as url:
        with pytest.raises(FetchFailed) as failure:
            await ask(url, limits=limits)
    return str(failure.value)


def always(response: Callable[[], web.StreamResponse]) -> AbstractAsyncContextManager[str]:
    async def handler(_: web.BaseRequest) -> web.StreamResponse:
        return response()

    return answering(handler)


def xml(body: bytes = CAP, headers: Mapping[str, str] = MappingProxyType({})) -> web.Response:
    return web.Response(body=body, headers={"Content-Type": "application/cap+xml", **headers})


# ── honest ones ─────────────────────────────────────────────────────────────────────────────────────


async def test_an_answer_comes_whole_with_what_it_says_of_itself() -> None:
    async with always(lambda: xml(headers={"ETag": '"a1"'})) as url:
        assert await ask(url) == Fetched(CAP, "application/cap+xml", Validators('"a1"', ""), url)


async def test_what_has_not_changed_is_not_sent_again() -> None:
    async def handler(request: web.BaseRequest) -> web.Response:
        if request.headers.get("If-None-Match") == '"a1"' and "If-Modified-Since" in request.headers:
            return web.Response(status=304)
        return xml(headers={"ETag": '"a1"', "Last-Modified": "Sat, 15 Mar 2025 14:12:00 GMT"})

    async with answering(handler) as url:
        first = await ask(url)
        assert isinstance(first, Fetched)
        assert await ask(url, since=first.validators) == NotModified()


@pytest.mark.parametrize(
    "packed", [gzip.compress(CAP), gzip.compress(CAP[:40]) + gzip.compress(CAP[40:])], ids=["one piece", "two pieces"]
)
async def test_gzip_is_unpacked(packed: bytes) -> None:
    async with always(lambda: xml(packed, {"Content-Encoding": "gzip"})) as url:
        answer = await ask(url)
    assert isinstance(answer, Fetched) and answer.body == CAP


async def test_a_redirection_within_the_house_is_followed() -> None:
    async def handler(request: web.BaseRequest) -> web.Response:
        return xml() if request.path == "/nuovo" else web.Response(status=302, headers={"Location": "/nuovo"})

    async with answering(handler) as url:
        answer = await ask(url)
    assert isinstance(answer, Fetched) and answer.url.endswith("/nuovo")


async def test_utf_16_is_xml_too() -> None:
    body = CAP.decode().encode("utf-16")
    async with always(lambda: xml(body)) as url:
        answer = await ask(url)
    assert isinstance(answer, Fetched) and answer.body == body


# ── hostile ones ────────────────────────────────────────────────────────────────────────────────────


async def test_a_gzip_bomb_is_put_out_under_the_limit() -> None:
    bomb = gzip.compress(b"<" + bytes(200_000_000), compresslevel=9)
    assert len(bomb) < 1_000_000
    tracemalloc.start()
    try:
        limits = Limits(Shape.XML, bytes=1_000_000, seconds=5, redirects=0, hosts=LIMITS.hosts)
        sentence = await refused(always(lambda: xml(bomb, {"Content-Encoding": "gzip"})), limits)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "more than the 1000000 bytes" in sentence
    assert most < 20_000_000


async def test_a_stream_without_an_end_is_cut() -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/xml"})
        await response.prepare(request)
        for _ in count():
            await response.write(b"<alert>" * 1000)
        return response

    assert "more than the 100000 bytes" in await refused(answering(handler))


async def test_a_body_announced_too_long_is_not_read_at_all() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: 5000000\r\n\r\n<"
    assert "announces 5000000 bytes" in await refused(saying(head))


async def test_who_drips_for_ever_is_left_when_time_is_up() -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/xml"})
        await response.prepare(request)
        for _ in count():
            await response.write(b"<")
            await asyncio.sleep(0.05)
        return response

    limits = Limits(Shape.XML, bytes=100_000, seconds=0.5, redirects=0, hosts=LIMITS.hosts)
    began = time.monotonic()
    assert "had not answered in full after 0.5 s" in await refused(answering(handler), limits)
    assert time.monotonic() - began < 2


async def test_who_never_says_a_word_is_left_too() -> None:
    async def handler(_: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(60)
        raise AssertionError("nobody waits this long")

    limits = Limits(Shape.XML, bytes=100_000, seconds=0.3, redirects=0, hosts=LIMITS.hosts)
    assert "had not answered in full" in await refused(answering(handler), limits)


async def test_redirections_for_ever_end() -> None:
    asked = count(1)

    async def handler(_: web.BaseRequest) -> web.Response:
        return web.Response(status=307, headers={"Location": f"/giro/{next(asked)}"})

    assert "redirects more than 3 times" in await refused(answering(handler))
    assert next(asked) == 5


async def test_a_slow_chain_of_redirections_has_one_clock() -> None:
    async def handler(_: web.BaseRequest) -> web.Response:
        await asyncio.sleep(0.3)
        return web.Response(status=302, headers={"Location": "/giro"})

    limits = Limits(Shape.XML, bytes=1000, seconds=0.5, redirects=10, hosts=LIMITS.hosts)
    assert "had not answered in full" in await refused(answering(handler), limits)


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("http://localhost/cap.xml", "add its host"),
        ("http://169.254.169.254/latest/meta-data", "add its host"),
        ("file:///etc/passwd", "which is not http"),
        ("ftp://127.0.0.1/cap.xml", "which is not http"),
        ("http://root:segreto@127.0.0.1/cap.xml", "a password in it"),
        ("http://[::1", "broke off"),
        ("", "redirects to nowhere"),
    ],
)
async def test_a_redirection_elsewhere_is_not_followed(location: str, said: str) -> None:
    sentence = await refused(always(lambda: web.Response(status=302, headers={"Location": location})))
    assert said in sentence
    assert "segreto" not in sentence


async def test_https_is_not_left_for_http() -> None:
    https, http = URL("https://127.0.0.1/cap.xml"), URL("http://127.0.0.1/cap.xml")
    with pytest.raises(FetchFailed, match="which is not https"):
        check_address(http, https, LIMITS)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]"])
async def test_a_public_source_leads_to_no_private_address(host: str) -> None:
    asked = []
    names = frozenset({"127.0.0.1", "localhost", "::1", "::ffff:7f00:1", "::ffff:127.0.0.1"})

    async def handler(request: web.BaseRequest) -> web.Response:
        asked.append(request.path)
        return xml()

    async with answering(handler) as url, session(private=False) as client:
        limits = Limits(Shape.XML, 1000, 2.0, 0, names)
        with pytest.raises(FetchFailed, match="private network"):
            await fetch(client, url.replace("127.0.0.1", host), limits=limits)
    assert asked == []


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (b"<html><body>Accedi</body></html>", "text/html"),
        (b"  <!DOCTYPE html><p>Accedi</p>", "text/xml"),
        (b'\xef\xbb\xbf<HTML lang="it">', "application/octet-stream"),
    ],
)
async def test_a_page_that_asks_to_log_in_is_no_feed(body: bytes, media_type: str) -> None:
    page = always(lambda: xml(body, {"Content-Type": media_type}))
    assert "answers with a web page where XML was" in await refused(page)


@pytest.mark.parametrize(
    ("shape", "body"), [(Shape.XML, b'{"warnings":[]}'), (Shape.ZIP, CAP), (Shape.JSON, b"PK\3\4"), (Shape.JSON, CAP)]
)
async def test_a_feed_that_changes_its_type_is_not_taken(shape: Shape, body: bytes) -> None:
    limits = Limits(shape, 1000, 2.0, 0, LIMITS.hosts)
    assert f"that is not {shape.value}" in await refused(always(lambda: xml(body)), limits)


@pytest.mark.parametrize("body", [b"", b" \r\n\t"])
async def test_an_empty_answer_is_not_taken(body: bytes) -> None:
    assert "with nothing in it" in await refused(always(lambda: xml(body)))


async def test_fewer_bytes_than_announced_are_not_taken() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: 500\r\n\r\n"
    assert "broke off" in await refused(saying(head + CAP))


async def test_a_connection_that_is_reset_is_a_sentence() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: 500\r\n\r\n"
    assert "broke off" in await refused(saying(head + CAP[:20], then_reset=True))
    assert "broke off" in await refused(saying(b"", then_reset=True))


async def test_what_is_not_http_is_a_sentence() -> None:
    assert "broke off" in await refused(saying(b"220 smtp.comune.calcinaia.pi.it ESMTP\r\n"))
    assert "broke off" in await refused(saying(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n"))


async def test_nobody_at_home_is_a_sentence() -> None:
    async with saying(b"") as url:
        pass
    with pytest.raises(FetchFailed, match="cannot be reached"):
        await ask(url)


@pytest.mark.parametrize(
    "packed",
    [gzip.compress(CAP)[:-10], gzip.compress(CAP)[:20] + b"?" * 40, b"no gzip at all"],
    ids=["cut off", "garbled", "no gzip at all"],
)
async def test_damaged_gzip_is_not_taken(packed: bytes) -> None:
    assert "broke off" in await refused(always(lambda: xml(packed, {"Content-Encoding": "gzip"})))


async def test_a_packing_nobody_asked_for_is_not_taken() -> None:
    assert "packed as br" in await refused(always(lambda: xml(b"\x0b\x02\x80", {"Content-Encoding": "br"})))


@pytest.mark.parametrize("status", [204, 206, 304, 401, 404, 500])
async def test_any_other_answer_is_a_sentence_with_its_number(status: int) -> None:
    assert f"answers {status}" in await refused(always(lambda: web.Response(status=status)))


@pytest.mark.parametrize(
    ("said", "least", "most"),
    [
        ("120", 120, 120),
        ("in ten minutes", 500, 600),
        ("99999999999999", 3600, 3600),
        ("Sat, 15 Mar 2025 14:12:00 GMT", 0, 0),
    ],
)
async def test_a_busy_server_is_left_alone_as_long_as_it_asks(said: str, least: int, most: int) -> None:
    if said == "in ten minutes":
        said = format_datetime(datetime.now(UTC) + timedelta(minutes=10), usegmt=True)
    async with always(lambda: web.Response(status=429, headers={"Retry-After": said})) as url:
        with pytest.raises(FetchFailed, match="answers 429") as failure:
            await ask(url)
    assert failure.value.rest is not None
    assert timedelta(seconds=least) <= failure.value.rest <= timedelta(seconds=most)


@pytest.mark.parametrize("said", ["", "domani", "-5", "²"])
async def test_a_rest_nobody_understands_is_no_rest(said: str) -> None:
    async with always(lambda: web.Response(status=503, headers={"Retry-After": said})) as url:
        with pytest.raises(FetchFailed) as failure:
            await ask(url)
    assert failure.value.rest is None


async def test_a_key_in_the_address_is_not_in_the_sentence() -> None:
    async with always(lambda: web.Response(status=403)) as url:
        with pytest.raises(FetchFailed) as failure:
            await ask(f"{url}?key=segreto")
    assert "segreto" not in str(failure.value)


async def test_an_enormous_etag_is_not_kept() -> None:
    async with always(lambda: xml(headers={"ETag": '"' + "a" * 5000 + '"'})) as url:
        answer = await ask(url)
    assert isinstance(answer, Fetched) and answer.validators.etag == ""
