"""The way out that every mail carries: one request of a mail program, or one button for a person (RFC 8058)."""

from datetime import UTC, datetime
from html import escape

import structlog
from fastapi import APIRouter, Depends
from fastapi.responses import HTMLResponse

from alerting import subscribing
from alerting.api.parts import Parts, parts_of
from alerting.postmarks import Postmarks
from alerting.subscribing import Subscriber

router = APIRouter(prefix="/unsubscribe", tags=["unsubscribe"])
log = structlog.get_logger()

BY_MAIL = "unsubscribed by mail"
"""Stands in the proof in the place of the keyword."""

PAGE = """<!doctype html>
<html lang="it"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="robots" content="noindex"><title>{title}</title><style>
body{{font:1.125rem/1.5 system-ui,sans-serif;max-width:34rem;margin:3rem auto;padding:0 1rem}}
button{{font:inherit;padding:.75rem 1.25rem;border:2px solid;border-radius:.25rem;background:#1a1a1a;color:#fff}}
button:focus-visible{{outline:3px solid #0b5fff;outline-offset:3px}}
</style></head><body><main><h1>{title}</h1>{said}</main></body></html>"""
BUTTON = '<form method="post"><button name="List-Unsubscribe" value="One-Click">Cancella l\'iscrizione</button></form>'
HEADERS = {
    # The edge's own policy, and the style above. A form may post to where it came from.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "X-Robots-Tag": "noindex",
}


@router.get("/{token}", summary="Ask before somebody leaves", response_class=HTMLResponse)
async def ask(token: str, parts: Parts = Depends(parts_of)) -> HTMLResponse:
    """A page with one button. It changes nothing: mail programs and scanners open every link of a mail."""
    who = _subscriber(token, parts)
    if who is None:
        return _unknown()
    said = (
        f"<p>Non riceverai più gli avvisi di {escape(who.authority.name)}, nemmeno le allerte di protezione "
        f"civile: né per e-mail né sugli altri canali che hai dato insieme a questo indirizzo.</p>{BUTTON}"
    )
    return _page("Vuoi cancellare l'iscrizione?", said)


@router.post("/{token}", summary="Leave", response_class=HTMLResponse)
async def leave(token: str, parts: Parts = Depends(parts_of)) -> HTMLResponse:
    """At once, without login or cookie. Who has left already gets the same answer: nobody can ask who is in."""
    who = _subscriber(token, parts)
    if who is None:
        return _unknown()
    async with parts.database.write() as session:
        left = await subscribing.leave(session, who, parts.seal, keyword=BY_MAIL, now=datetime.now(UTC))
    log.info("unsubscribed by mail", account=who.access.name, was_in=left)
    return _page(
        "L'iscrizione è cancellata",
        f"<p>{escape(who.authority.name)} non ti scriverà più e il tuo contatto non è più in elenco.</p>",
    )


def _subscriber(token: str, parts: Parts) -> Subscriber | None:
    """Who holds a mail with this token; None where we never wrote it, or its account is gone."""
    leaver = Postmarks(parts.settings.key_bytes).leaver(token)
    if leaver is None:
        return None
    for authority in parts.authorities.values():
        for access in authority.channels:
            if access.name == leaver.account:
                return Subscriber(authority, access, leaver.address)
    return None


def _unknown() -> HTMLResponse:
    return _page(
        "Questo collegamento non è valido",
        "<p>Forse è stato copiato solo in parte: aprilo di nuovo dal messaggio che hai ricevuto. Nulla è cambiato.</p>",
        404,
    )


def _page(title: str, said: str, status: int = 200) -> HTMLResponse:
    return HTMLResponse(PAGE.format(title=escape(title), said=said), status, HEADERS)
