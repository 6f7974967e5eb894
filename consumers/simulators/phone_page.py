"""A page that looks like the phone: what one number received, and what it wrote, as it happens."""

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

ROME = ZoneInfo("Europe/Rome")
FILES = ("phone.css", "phone.js")
POLICY = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'"
LINK = re.compile(r"https?://[^\s<>\"']+[^\s<>\"'.,;:!?)]")

PAGE = """<!doctype html>
<html lang="it"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><link rel="stylesheet" href="/__sim/phone.css"></head>
<body><main class="{kind}">
<header><p class="service"><a href="/__sim/phones" aria-label="Tutti i telefoni">‹</a> {service} (simulato)</p>
<h1>{heading}</h1></header>
{content}
</main>{script}</body></html>"""

WRITE = """<form id="write" data-from="{number}"><label for="account">Scrivi come {number} a</label>
<select id="account">{accounts}</select><label for="text" class="unseen">Messaggio</label>
<input id="text" autocomplete="off" maxlength="4096" placeholder="Messaggio" required><button>Invia</button></form>"""


def phone(service: str, number: str, items: Sequence[dict[str, Any]], names: Mapping[str, str], *, write: bool) -> str:
    """The page of one phone, the newest text at the end. `names` says of each account what people see it as."""
    shown = html.escape(number, quote=True)
    latest: dict[str, str] = {}
    for index, item in enumerate(items):  # a text that was edited stands where it stood
        latest[str(item.get("edits") or item.get("id") or index)] = bubble(item, names)
    # No blank between the elements: `:empty` says when there is none.
    texts = f'<ol id="texts" aria-live="polite" data-after="{len(items)}">{"".join(latest.values())}</ol>'
    form = WRITE.format(number=shown, accounts=_accounts(items, names)) if write else ""
    content = f'{texts}<p class="nothing">Ancora nessun messaggio.</p>{form}'
    return PAGE.format(
        title=f"Telefono {shown}",
        kind="phone",
        service=html.escape(service),
        heading=shown,
        content=content,
        script='<script src="/__sim/phone.js"></script>',
    )


def all_of_them(service: str, phones: Iterable[tuple[str, int, dict[str, Any]]]) -> str:
    """The list of phones: each with how many texts it has, and its last."""
    rows = "".join(
        f'<li><a href="/__sim/phone/{quote(number, safe="+")}"><strong>{html.escape(number)}</strong>'
        f"<span>{'un messaggio' if count == 1 else f'{count} messaggi'}, l'ultimo alle {_time(last)}</span>"
        f"<span>{html.escape(words_of(last)[:80])}</span></a></li>"
        for number, count, last in phones
    )
    return PAGE.format(
        title=f"Telefoni - {html.escape(service)}",
        kind="list",
        service=html.escape(service),
        heading="Telefoni",
        content=f'<ul>{rows}</ul><p class="nothing">Nessuno ha ancora ricevuto nulla.</p>',
        script="",
    )


def _accounts(items: Sequence[dict[str, Any]], names: Mapping[str, str]) -> str:
    """Whom one can write to; whoever wrote last is chosen."""
    last = next((item["account"] for item in reversed(items) if "account" in item), None)
    return "".join(
        f'<option value="{html.escape(account, quote=True)}"{" selected" if account == last else ""}>'
        f"{html.escape(name)}</option>"
        for account, name in names.items()
    )


def event_of(item: dict[str, Any], names: Mapping[str, str]) -> dict[str, str]:
    """What a live page is told of one more text: what to show, and in whose place."""
    return {"html": bubble(item, names), "edits": str(item.get("edits") or "")}


def bubble(item: dict[str, Any], names: Mapping[str, str]) -> str:
    """One text as it is seen."""
    words = LINK.sub(r'<a href="\g<0>" rel="noreferrer">\g<0></a>', html.escape(words_of(item)))
    identity = html.escape(str(item.get("edits") or item.get("id") or ""), quote=True)
    sender = "" if item.get("mine") else f"da {html.escape(names.get(item['account'], item['account']))} · "
    edited = " · modificato" if item.get("edits") else ""
    return (
        f'<li data-id="{identity}"{_kind(item)}>{_media(item.get("media"))}<p>{words}</p>'
        f"<small>{sender}<time>{_time(item)}</time>{edited}</small></li>"
    )


def words_of(item: dict[str, Any]) -> str:
    """The text, or what fills in a template whose words only the provider knows."""
    return item.get("text") or " · ".join([item.get("template") or "", *item.get("variables", ())])


def _kind(item: dict[str, Any]) -> str:
    return ' class="mine"' if item.get("mine") else ""


def _media(media: dict[str, Any] | None) -> str:
    if media is None:
        return ""
    address = f"/__sim/media/{html.escape(media['sha256'], quote=True)}"
    if media["media_type"].startswith("image/"):
        return f'<img src="{address}" alt="immagine ricevuta">'
    return f'<a class="file" href="{address}">{html.escape(media["name"] or "documento")}</a>'


def _time(item: dict[str, Any]) -> str:
    return f"{datetime.fromtimestamp(item['at'], ROME):%H:%M:%S}"
