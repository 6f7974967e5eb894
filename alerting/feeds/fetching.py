"""One address asked over HTTP, whoever answers and however: never too long, never too much, never somewhere else."""

import asyncio
import codecs
import socket
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import Enum
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any

import aiohttp
from yarl import URL

LONGEST_VALIDATOR = 100
"""Characters. A longer ETag or Last-Modified is not kept: the next answer comes whole, and its bytes are compared."""
PATIENCE_WITH_CONNECTING = 10.0  # seconds
REDIRECTIONS = frozenset({301, 302, 303, 307, 308})
BUSY = frozenset({429, 503})
LONGEST_REST = timedelta(hours=1)
"""A Retry-After beyond this is not obeyed: a source may not silence itself for a year."""


class Shape(Enum):
    """What an answer must begin like, whatever its Content-Type claims: many servers call everything text/plain."""

    XML = "XML"
    ZIP = "a zip archive"
    JSON = "JSON"


@dataclass(frozen=True, slots=True)
class Limits:
    """How far one answer is followed. `bytes`: after decompression; `seconds`: from the first word to the last byte.

    `hosts`: where it may come from, and be redirected to.
    """

    shape: Shape
    bytes: int
    seconds: float
    redirects: int
    hosts: frozenset[str]


@dataclass(frozen=True, slots=True)
class Validators:
    """What the last answer said of itself, handed back so that an unchanged one need not be sent again."""

    etag: str = ""
    last_modified: str = ""


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer, whole and unpacked. `url` is where it came from in the end."""

    body: bytes
    media_type: str
    validators: Validators
    url: str


@dataclass(frozen=True, slots=True)
class NotModified:
    """It is still what it was."""


class FetchFailed(Exception):
    """No answer to work with. Says why in a sentence; `rest` is how long the server asks to be left alone."""

    def __init__(self, sentence: str, rest: timedelta | None = None) -> None:
        super().__init__(sentence)
        self.rest = rest


def session(*, private: bool) -> aiohttp.ClientSession:
    """A client for sources. Unless `private`, it connects to public addresses only, whatever a name resolves to."""
    # The address is judged where the socket is made: no second look-up can tell another story after the check.
    connector = aiohttp.TCPConnector(
        limit=0,  # sources share this: one that hangs must not hold a place that another waits for
        use_dns_cache=False,
        force_close=True,
        socket_factory=None if private else _public_socket,
    )
    return aiohttp.ClientSession(
        connector=connector,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "allerta (protezione civile)", "Accept-Encoding": "gzip"},
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=PATIENCE_WITH_CONNECTING),
    )


class NotPublic(OSError):
    """A name that leads into a private network."""


def _public_socket(address: tuple[Any, ...]) -> socket.socket:
    family, kind, protocol, _, (host, *_) = address
    ip = ip_address(host.partition("%")[0])
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if not ip.is_global or ip.is_multicast:
        raise NotPublic(f"{ip} belongs to a private network")
    return socket.socket(family, kind, protocol)


async def fetch(
    client: aiohttp.ClientSession, url: str, *, since: Validators = Validators(), limits: Limits
) -> Fetched | NotModified:
    """Ask for `url`. Raises FetchFailed for anything but a whole answer of the expected shape within the limits."""
    try:
        async with asyncio.timeout(limits.seconds):
            return await _follow(client, URL(url), since, limits)
    except TimeoutError:
        raise FetchFailed(f"{_shown(url)} had not answered in full after {limits.seconds:g} s") from None
    except NotPublic as cause:
        raise FetchFailed(f"{_shown(url)} leads where it may not: {cause.args[0]}") from None
    except aiohttp.ClientConnectorError as cause:
        if isinstance(cause.os_error, NotPublic):
            raise FetchFailed(f"{_shown(url)} leads where it may not: {cause.os_error.args[0]}") from None
        raise FetchFailed(f"{_shown(url)} cannot be reached: {cause.os_error.strerror or 'no connection'}") from None
    except (aiohttp.ClientError, OSError, ValueError) as cause:
        raise FetchFailed(f"{_shown(url)} broke off: {type(cause).__name__}") from None


async def _follow(client: aiohttp.ClientSession, url: URL, since: Validators, limits: Limits) -> Fetched | NotModified:
    """One address after the other, until one answers with more than another address."""
    start = url
    for _ in range(limits.redirects + 1):
        _check_address(url, start, limits)
        async with client.get(url, headers=_conditions(since), allow_redirects=False) as response:
            if response.status not in REDIRECTIONS:
                return await _answer(response, since, limits)
            location = response.headers.get("Location", "")
            if not location:
                raise FetchFailed(f"{_shown(url)} redirects to nowhere: it names no Location")
            url = url.join(URL(location)).with_fragment(None)
    raise FetchFailed(f"{_shown(start)} redirects more than {limits.redirects} times")


def _check_address(url: URL, start: URL, limits: Limits) -> None:
    if url.scheme not in {"http", "https"} or (start.scheme == "https" and url.scheme != "https"):
        raise FetchFailed(f"{_shown(start)} leads to {_shown(url)}, which is not {start.scheme}")
    if url.host not in limits.hosts:
        raise FetchFailed(
            f"{_shown(start)} leads to {_shown(url)}; add its host to the source's hosts if that is right"
        )
    if url.user or url.password:
        raise FetchFailed(f"{_shown(start)} leads to an address with a password in it")


def _conditions(since: Validators) -> dict[str, str]:
    asked = {"If-None-Match": since.etag, "If-Modified-Since": since.last_modified}
    return {name: value for name, value in asked.items() if value}


async def _answer(response: aiohttp.ClientResponse, since: Validators, limits: Limits) -> Fetched | NotModified:
    shown = _shown(response.url)
    if response.status == HTTPStatus.NOT_MODIFIED and _conditions(since):
        return NotModified()
    if response.status != HTTPStatus.OK:
        rest = _rest(response.headers.get("Retry-After", "")) if response.status in BUSY else None
        raise FetchFailed(f"{shown} answers {response.status}", rest)
    declared = response.content_length
    if declared is not None and declared > limits.bytes:
        raise FetchFailed(f"{shown} announces {declared} bytes, more than the {limits.bytes} that are taken")
    body = await _read(response, limits)
    media_type = response.content_type
    if not body.strip():
        raise FetchFailed(f"{shown} answers with nothing in it")
    if _is_page(body, media_type):
        raise FetchFailed(f"{shown} answers with a web page where {limits.shape.value} was; does it ask to log in?")
    if not _has_shape(body, limits.shape):
        raise FetchFailed(f"{shown} answers with {media_type} that is not {limits.shape.value}")
    validators = Validators(_kept(response, "ETag"), _kept(response, "Last-Modified"))
    return Fetched(body, media_type, validators, str(response.url))


async def _read(response: aiohttp.ClientResponse, limits: Limits) -> bytes:
    """All of the body, decompressed under the limit: what a bomb would become is never held."""
    coding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in {"identity", "", "gzip", "x-gzip"}:
        raise FetchFailed(f"{_shown(response.url)} answers packed as {coding}, which nobody asked for")
    pieces = response.content.iter_chunked(64 * 1024)
    body = bytearray()
    async for piece in _unpacked(pieces, limits.bytes) if "gzip" in coding else pieces:
        body += piece
        if len(body) > limits.bytes:
            raise FetchFailed(f"{_shown(response.url)} answers with more than the {limits.bytes} bytes that are taken")
    return bytes(body)


async def _unpacked(packed: AsyncIterator[bytes], most: int) -> AsyncIterator[bytes]:
    """What gzip holds, in pieces of at most `most` bytes and one more. Raises ValueError for a damaged or cut one."""
    unpack, begun = zlib.decompressobj(31), False
    try:
        async for piece in packed:
            while piece:
                if unpack.eof:  # one gzip member ended, and another follows
                    unpack = zlib.decompressobj(31)
                begun = True
                yield unpack.decompress(piece, most + 1)
                piece = unpack.unconsumed_tail or unpack.unused_data
    except zlib.error as cause:
        raise ValueError(f"the gzip is damaged: {cause}") from None
    if begun and not unpack.eof:
        raise ValueError("the gzip ends before its end")


def _is_page(body: bytes, media_type: str) -> bool:
    start = body[:1000].removeprefix(codecs.BOM_UTF8).lstrip().lower()
    return media_type in {"text/html", "application/xhtml+xml"} or start.startswith((b"<!doctype html", b"<html"))


def _has_shape(body: bytes, shape: Shape) -> bool:
    start = body.lstrip(codecs.BOM_UTF8 + codecs.BOM_UTF16_LE + b"\0 \t\r\n")[:2]
    match shape:
        case Shape.XML:
            return start.startswith(b"<")
        case Shape.ZIP:
            return body.startswith(b"PK")
        case Shape.JSON:
            return start.startswith((b"{", b"["))


def _kept(response: aiohttp.ClientResponse, header: str) -> str:
    value = response.headers.get(header, "")
    return value if len(value) <= LONGEST_VALIDATOR and value.isascii() and value.isprintable() else ""


def _rest(retry_after: str) -> timedelta | None:
    """Retry-After as seconds or as a date (RFC 9110 §10.2.3); None where it says neither."""
    if retry_after.isascii() and retry_after.isdigit():
        return min(timedelta(seconds=int(retry_after[:9])), LONGEST_REST)
    try:
        when = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return min(max(when - datetime.now(UTC), timedelta(0)), LONGEST_REST)


def _shown(url: URL | str) -> str:
    """An address as sentences show it: without its query, where keys are kept, and not for ever."""
    text = str(url).partition("?")[0]
    _, _, after_password = text.rpartition("@")
    return after_password if len(after_password) <= 120 else after_password[:119] + "…"
