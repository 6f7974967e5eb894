"""What reached people's phones, and what was turned away: an append-only list for tests and people."""

import html
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from aiohttp import web

PAGE = """<!doctype html>
<html lang="it"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Telefono {number}</title><style>
body{{font:1rem/1.5 system-ui,sans-serif;max-width:32rem;margin:2rem auto;padding:0 1rem}}
li{{list-style:none;border:1px solid #767676;border-radius:.5rem;padding:.75rem;margin:.75rem 0}}
p{{margin:0;white-space:pre-wrap}} ul{{padding:0}} small{{color:#595959}}
</style></head><body><h1>Telefono {number}</h1>
<p>Messaggi ricevuti: {count}. Telefono simulato, non reale.</p>
<ul>{messages}</ul></body></html>"""


class Phones:
    """Every text accepted, in order, each already encoded; and how often each refusal was given."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._of: dict[str, list[int]] = {}
        self.refused: Counter[str] = Counter()

    def forget(self) -> None:
        """As if nobody had ever written."""
        self._lines.clear()
        self._of.clear()
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
    ) -> None:
        """One text arrived at `to`, and at the phones of all `readers` where `to` is a channel."""
        n = len(self._lines) + 1
        line = {
            "n": n,
            "at": at,
            "to": to,
            "account": account,
            "template": template,
            "variables": variables,
            "text": text,
            "reference": reference,
            "id": identity,
        }
        self._lines.append(json.dumps(line, separators=(",", ":")).encode())
        self._of.setdefault(to, []).append(n)
        for reader in readers:
            self._of.setdefault(reader, []).append(n)

    def routes(self) -> list[web.RouteDef]:
        """The windows into this list."""
        return [
            web.get("/__sim/received", self._get_received),
            web.get("/__sim/refused", self._get_refused),
            web.get("/__sim/phone/{number}", self._get_phone),
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

    async def _get_phone(self, request: web.Request) -> web.Response:
        number = request.match_info["number"]
        seen = self._of.get(number) or self._of.get(f"+{number}") or []
        items = [json.loads(self._lines[n - 1]) for n in seen]
        if "text/html" not in request.headers.get("Accept", ""):
            return web.json_response({"number": number, "items": items})
        page = PAGE.format(number=html.escape(number), count=len(items), messages="".join(map(_shown, reversed(items))))
        return web.Response(text=page, content_type="text/html")


def _shown(item: dict[str, Any]) -> str:
    words = item["text"] or " · ".join([item["template"] or "", *item["variables"]])
    return f"<li><p>{html.escape(words)}</p><small>da {html.escape(item['account'])}</small></li>"
