"""What citizens' pictures are, fetched from their provider: within limits, never by an address a stranger could choose.

WhatsApp names a picture by an id, which is asked for an address that lives five minutes and wants the account's token;
Telegram by a file id, which is asked for a path below its own. Both are read November 2026:
developers.facebook.com/documentation/business-messaging/whatsapp/business-phone-numbers/media and
core.telegram.org/bots/api#getfile.
"""

import asyncio
import json
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp

from alerting.domain.delivery import Channel
from consumers.channel import Account

MOST_BYTES = 16 * 1024 * 1024
MOST_OF_AN_ANSWER = 64 * 1024
WITHIN = aiohttp.ClientTimeout(total=30, connect=5)
META = (".fbsbx.com", ".facebook.com", ".fbcdn.net", ".whatsapp.net")
"""Where Meta keeps pictures. The token goes nowhere else, whatever an answer says."""


class NotThere(Exception):
    """The provider has it no longer, or will not hand it out: asking again is of no use."""


class NotNow(Exception):
    """The provider is away or has enough of us: to be asked again."""


class TooLarge(Exception):
    """More bytes than anybody takes of a picture."""


async def fetch(http: aiohttp.ClientSession, account: Account, name: str) -> bytes:
    """The bytes of a picture. Raises NotThere, NotNow or TooLarge; never says the token nor the picture's name."""
    try:
        match account.channel:
            case Channel.WHATSAPP:
                return await _of_whatsapp(http, account, name)
            case Channel.TELEGRAM:
                return await _of_telegram(http, account, name)
            case _:
                raise NotThere(f"{account.channel} has no pictures")
    except (aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError) as error:
        raise NotNow(type(error).__name__) from None


async def _of_whatsapp(http: aiohttp.ClientSession, account: Account, name: str) -> bytes:
    base, headers = account.base_url.rstrip("/"), {"Authorization": f"Bearer {account.token.value}"}
    if not (name.isascii() and name.isdigit()):
        raise NotThere("no media id")
    number = quote(account.settings["phone_number_id"], safe="")
    said = await _told(http, f"{base}/{account.settings['api_version']}/{name}?phone_number_id={number}", headers)
    url = said.get("url")
    if not isinstance(url, str) or not _is_metas(url, base):
        raise NotThere("an address that is not Meta's")
    return await _bytes(http, url, headers)


def _is_metas(url: str, base: str) -> bool:
    """Of Meta over TLS; or of the very server we were told to speak to, as a simulator is."""
    found, ours = urlsplit(url), urlsplit(base)
    if (found.scheme, found.netloc) == (ours.scheme, ours.netloc):
        return True
    return found.scheme == "https" and "@" not in found.netloc and (found.hostname or "").endswith(META)


async def _of_telegram(http: aiohttp.ClientSession, account: Account, name: str) -> bytes:
    base, token = account.base_url.rstrip("/"), account.token.value
    said = await _told(http, f"{base}/bot{token}/getFile?file_id={quote(name, safe='')}", {})
    result = said.get("result")
    path = result.get("file_path") if isinstance(result, dict) else None
    if not isinstance(path, str) or not path or ".." in path:
        raise NotThere("no path")
    return await _bytes(http, f"{base}/file/bot{token}/{quote(path)}", {})


async def _told(http: aiohttp.ClientSession, url: str, headers: dict[str, str]) -> dict[str, Any]:
    async with http.get(url, headers=headers, timeout=WITHIN, allow_redirects=False) as answer:
        _check(answer.status)
        raw = await answer.content.read(MOST_OF_AN_ANSWER)
    try:
        said = json.loads(raw)
    except ValueError:
        raise NotNow("an answer that is no JSON") from None
    return said if isinstance(said, dict) else {}


async def _bytes(http: aiohttp.ClientSession, url: str, headers: dict[str, str]) -> bytes:
    async with http.get(url, headers=headers, timeout=WITHIN, allow_redirects=False) as answer:
        _check(answer.status)
        if (answer.content_length or 0) > MOST_BYTES:
            raise TooLarge
        found = bytearray()
        async for some in answer.content.iter_chunked(64 * 1024):
            found += some
            if len(found) > MOST_BYTES:
                raise TooLarge
    return bytes(found)


def _check(status: int) -> None:
    if status in (400, 403, 404, 410):
        raise NotThere(f"HTTP {status}")
    if status != 200:
        raise NotNow(f"HTTP {status}")
