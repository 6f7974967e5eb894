"""What reached people's phones, and what was turned away: an append-only list for tests and people."""

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from consumers.simulators import phone_page

FOLDER = Path(__file__).parent
STILL_HERE_EVERY = 15.0  # seconds: a live page that nothing happens on is not taken for dead


class Phones:
    """Every text accepted, in order, each already encoded; and how often each refusal was given.

    `service` is what people call it, in the title of each phone. Whose phones `write` can answer from their page, by
    the simulator's own `/__sim/inbound`.
    """

    def __init__(self, service: str = "Messaggi", *, write: bool = False) -> None:
        self.service = service
        self.write = write
        self.names: dict[str, str] = {}
        """What people read as the sender, by account; those of whoever has none here is the account itself."""
        self._lines: list[bytes] = []
        self._of: dict[str, list[bytes]] = {}
        self._media: dict[str, tuple[str, bytes]] = {}
        self._watching: dict[str, set[asyncio.Event]] = {}
        self.refused: Counter[str] = Counter()

    def forget(self) -> None:
        """As if nobody had ever written."""
        self._lines.clear()
        self._of.clear()
        self._media.clear()
        self.refused.clear()

    def receive(
        self,
        *,
        at: float,
        to: str,
        account: str,
        identity: str,
        text: str | None,
        template: str | None = None,
        variables: Sequence[str] = (),
        reference: str | None = None,
        readers: Iterable[str] = (),
        media: dict[str, Any] | None = None,
        edits: str | None = None,
        buttons: Sequence[Sequence[dict[str, str]]] = (),
    ) -> None:
        """One text arrived at `to`, and at the phones of all `readers` where `to` is a channel.

        `media` is what `keep` made of the picture or document with it. `edits` is the identity of an earlier text,
        in whose place this one stands from now on.
        """
        line: dict[str, Any] = {
            "n": len(self._lines) + 1,
            "at": at,
            "to": to,
            "account": account,
            "template": template,
            "variables": variables,
            "text": text,
            "reference": reference,
            "id": identity,
        }
        if media is not None:
            line["media"] = media
        if buttons:
            line["buttons"] = buttons
        if edits is not None:
            line["edits"] = edits
        encoded = json.dumps(line, separators=(",", ":")).encode()
        self._lines.append(encoded)
        for owner in (to, *readers):
            self._show(owner, encoded)

    def wrote(self, owner: str, text: str, *, at: float) -> None:
        """Somebody wrote from their own phone: their page shows that too."""
        self._show(owner, json.dumps({"at": at, "text": text, "mine": True}).encode())

    def keep(self, content: bytes, media_type: str, name: str = "") -> dict[str, Any]:
        """A picture or a document that was received: what a line says of it."""
        sha256 = hashlib.sha256(content).hexdigest()
        self._media[sha256] = (media_type, content)
        return {"media_type": media_type, "sha256": sha256, "name": name}

    def _show(self, owner: str, encoded: bytes) -> None:
        self._of.setdefault(owner, []).append(encoded)
        for watcher in self._watching.get(owner, ()):
            watcher.set()

    # ── windows into the list ───────────────────────────────────────────────────────────────────────

    def routes(self) -> list[web.RouteDef]:
        """The windows into this list."""
        return [
            web.get("/__sim/received", self._get_received),
            web.get("/__sim/refused", self._get_refused),
            web.get("/__sim/phones", self._get_phones),
            web.get("/__sim/phone/{number}", self._get_phone),
            web.get("/__sim/phone/{number}/live", self._get_live),
            web.get("/__sim/media/{sha256}", self._get_media),
            *(web.get(f"/__sim/{file}", self._get_file) for file in phone_page.FILES),
        ]

    async def _get_received(self, request: web.Request) -> web.Response:
        try:
            after = max(int(request.query.get("after", "0")), 0)
            limit = int(request.query.get("limit", str(len(self._lines))))
        except ValueError:
            return web.json_response({"error": "after and limit are whole numbers; mend them"}, status=400)
        lines = self._lines[after : after + limit]
        body = b'{"items":[' + b",".join(lines) + b'],"next":%d}' % (after + len(lines))
        return web.Response(body=body, content_type="application/json")

    async def _get_refused(self, _: web.Request) -> web.Response:
        return web.json_response(dict(self.refused))

    async def _get_phones(self, request: web.Request) -> web.Response:
        """Whose phones there are, the one that heard last first."""
        heard = sorted(self._of, key=lambda owner: json.loads(self._of[owner][-1])["at"], reverse=True)
        if "text/html" not in request.headers.get("Accept", ""):
            return web.json_response({"numbers": heard})
        last = [(owner, len(self._of[owner]), json.loads(self._of[owner][-1])) for owner in heard[:200]]
        return _html(phone_page.all_of_them(self.service, last))

    async def _get_phone(self, request: web.Request) -> web.Response:
        number = self._owner(request)
        items = [json.loads(line) for line in self._of.get(number, ())]
        if "text/html" in request.headers.get("Accept", ""):
            page = phone_page.phone(self.service, number, items, self.names, write=self.write)
            return _html(page)
        return web.json_response({"number": number, "items": [item for item in items if "mine" not in item]})

    async def _get_live(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events: what the page shows of each further text, until whoever looks goes away."""
        number = self._owner(request)
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        shown = _whole(request.headers.get("Last-Event-ID") or request.query.get("after", ""))
        await stream.prepare(request)
        async with self._news_of(number) as news:
            while True:
                news.clear()
                for line in self._of.get(number, [])[shown:]:
                    shown += 1
                    event = json.dumps(phone_page.event_of(json.loads(line), self.names))
                    await stream.write(f"id: {shown}\ndata: {event}\n\n".encode())
                try:
                    async with asyncio.timeout(STILL_HERE_EVERY):
                        await news.wait()
                except TimeoutError:
                    await stream.write(b": ancora qui\n\n")

    @asynccontextmanager
    async def _news_of(self, number: str) -> AsyncIterator[asyncio.Event]:
        news = asyncio.Event()
        watchers = self._watching.setdefault(number, set())
        watchers.add(news)
        try:
            yield news
        finally:
            watchers.discard(news)

    async def _get_media(self, request: web.Request) -> web.Response:
        found = self._media.get(request.match_info["sha256"])
        if found is None:
            return web.json_response({"error": "nobody received this"}, status=404)
        media_type, content = found
        headers = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox"}
        return web.Response(body=content, content_type=media_type, headers=headers)

    async def _get_file(self, request: web.Request) -> web.FileResponse:
        return web.FileResponse(FOLDER / request.path.rpartition("/")[2])

    def _owner(self, request: web.Request) -> str:
        number: str = request.match_info["number"]
        return f"+{number}" if number not in self._of and f"+{number}" in self._of else number


def _whole(written: str) -> int:
    return int(written) if written.isascii() and written.isdecimal() else 0


def _html(page: str) -> web.Response:
    headers = {"Content-Security-Policy": phone_page.POLICY}
    return web.Response(text=page, content_type="text/html", headers=headers)
