"""One POST to a provider: what it answered, or how the line failed, and whether we had already spoken."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any

from aiohttp import (
    BytesPayload,
    ClientConnectionResetError,
    ClientError,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    TCPConnector,
)
from aiohttp.abc import AbstractStreamWriter
from yarl import URL

from alerting.domain.delivery import ChannelHalted, Deferred, Reason, Uncertain
from consumers.channel import Account

LONGEST_ANSWER = 64 * 1024
"""Bytes. A provider's answer has a few hundred; a proxy's error page may have anything."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back over the line, at most `LONGEST_ANSWER` of it. The others are headers, raw."""

    status: int
    body: bytes
    retry_after: str | None = None
    location: str | None = None


class Line:
    """Kept-open connections to providers, so many per host. Make it inside a running event loop."""

    def __init__(self, *, limit_per_host: int, connect: timedelta, total: timedelta) -> None:
        self._session = ClientSession(
            connector=TCPConnector(limit=0, limit_per_host=limit_per_host),
            # No limit for each piece read: another timer a call, and the whole has one.
            timeout=ClientTimeout(total=total.total_seconds(), sock_connect=connect.total_seconds()),
            cookie_jar=DummyCookieJar(),
            # Nobody compresses two hundred bytes for us, nor cares who we are.
            skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent"),
        )

    async def post(
        self,
        url: URL,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        media_type: str = "application/json",
        longest: int = LONGEST_ANSWER,
    ) -> Answer | Deferred | Uncertain:
        """Say it once. A line that fails before a byte left is `Deferred`, afterwards `Uncertain`.

        No exception leaves here with the URL in it: Telegram's has the token in its path.
        """
        words = Words(body, content_type=media_type)
        try:
            async with self._session.post(url, data=words, headers=headers, allow_redirects=False) as response:
                answer = await _read_at_most(longest, response.content)
                if len(answer) == longest:
                    response.close()  # the rest is nobody's business, and the line is not worth keeping
                said = response.headers
                return Answer(response.status, answer, said.get("Retry-After"), said.get("Location"))
        except (ClientError, TimeoutError, OSError):
            return Uncertain() if words.spoken else Deferred(Reason.PROVIDER_UNAVAILABLE)

    async def get(self, url: URL, headers: Mapping[str, str]) -> Answer | None:
        """Ask, which says nothing to anybody. None where the line fails; no exception has the URL in it."""
        try:
            async with self._session.get(url, headers=headers, allow_redirects=False) as response:
                answer = await _read_at_most(LONGEST_ANSWER, response.content)
                if len(answer) == LONGEST_ANSWER:
                    response.close()
                return Answer(response.status, answer, response.headers.get("Retry-After"))
        except (ClientError, TimeoutError, OSError):
            return None

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()


class Words(BytesPayload):
    """A body that remembers whether it was said."""

    spoken = False

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        self.spoken = True
        try:
            await super().write_with_length(writer, content_length)
        except ClientConnectionResetError:
            self.spoken = False  # aiohttp raises this one before it writes: the line was closed already
            raise


async def _read_at_most(limit: int, content: Any) -> bytes:
    answer: bytes = await content.read(limit)
    while len(answer) < limit and not content.at_eof():
        answer += await content.read(limit - len(answer))
    return answer


def endpoint(account: Account, path: str) -> URL:
    """The URL of a method. Raises ChannelHalted, without the path, where base_url is no address."""
    url = _url(account.base_url.rstrip("/"), path)
    if url is None:
        raise ChannelHalted(account.name, "its base_url is not an http(s) address; correct the settings")
    return url


@lru_cache(maxsize=1024)
def _url(base: str, path: str) -> URL | None:
    try:
        url = URL(base + path)
    except ValueError:
        return None
    return url if url.scheme in ("http", "https") and url.host else None


def json_object(body: bytes) -> dict[str, Any] | None:
    """The JSON object a provider answered; None for HTML, silence, or anything else."""
    try:
        found = json.loads(body.decode())  # given bytes, it would look for five encodings first
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def without_a_code(status: int) -> Deferred:
    """What an answer means that carries no code of the provider's: never final, whatever its HTTP status."""
    if status == 429:
        return Deferred(Reason.THROTTLED, timedelta(seconds=1), whole_account=True)
    if status >= 500:
        return Deferred(Reason.PROVIDER_UNAVAILABLE)
    return Deferred(Reason.UNKNOWN_ANSWER)
