"""Whether a comune's accounts answer: each provider is asked something that changes nothing, within a time limit.

Nothing of a credential is ever said: of what went wrong only its kind is, for an address may contain a token.
"""

import asyncio
import hashlib
import re
import smtplib
import struct
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from alerting.authorities.checkup import error, warning
from alerting.domain.authority import Authority, ChannelAccess
from alerting.domain.delivery import Channel
from alerting.domain.findings import Finding, Weight
from alerting.settings import Settings

WITHIN = 10.0  # seconds, for each thing that is asked
VARIABLES = 5
"""Of the template every comune registers."""
VARIABLE = re.compile(r"\{\{\s*\w+\s*\}\}")
MOST_BYTES = 5_000_000
BIND_TRANSCEIVER, BIND_TRANSCEIVER_RESP, SMPP_3_4 = 0x00000009, 0x80000009, 0x34
SMPP_SAYS = {
    0x0D: "il provider rifiuta l'accesso; chiedi se l'account è attivo",
    0x0E: "la password è sbagliata",
    0x0F: "l'utente non esiste",
}

Findings = list[Finding]


async def ask(authority: Authority, settings: Settings) -> Findings:
    """All of them side by side: a provider that does not answer keeps nobody waiting for longer than its limit."""
    timeout = aiohttp.ClientTimeout(total=WITHIN)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        asked = [_limited("informativa", "la pagina dell'informativa", lambda: _policy(authority, http))]
        for access in authority.channels:
            token = settings.secrets.find(access.name, "token")
            if token:
                asked.append(_limited("account", access.name, _of(access, token, settings, http)))
        return [finding for found in await asyncio.gather(*asked) for finding in found]


def _of(
    access: ChannelAccess, token: str, settings: Settings, http: aiohttp.ClientSession
) -> Callable[[], Awaitable[Findings]]:
    match access.channel:
        case Channel.WHATSAPP:
            return lambda: _whatsapp(access, token, settings, http)
        case Channel.TELEGRAM:
            return lambda: _telegram(access, token, settings, http)
        case Channel.EMAIL:
            url = settings.email_url or access.settings.get("url", "")
            return lambda: asyncio.to_thread(_mail, access, token, url)
        case Channel.SMS if access.settings.get("protocol") == "smpp":
            url = settings.sms_url or access.settings.get("url", "")
            return lambda: _smpp(access, token, url)
        case _:
            return lambda: _nothing(access)


async def _limited(rule: str, what: str, ask: Callable[[], Awaitable[Findings]]) -> Findings:
    try:
        async with asyncio.timeout(WITHIN):
            return await ask()
    except TimeoutError:
        return [error(rule, f"{what}: nessuna risposta in {WITHIN:.0f} secondi; controlla l'indirizzo e la rete")]
    except (aiohttp.ClientError, OSError, smtplib.SMTPException, EOFError, ValueError, struct.error) as trouble:
        return [error(rule, f"{what}: non risponde come deve ({type(trouble).__name__}); controlla l'indirizzo")]


async def _nothing(access: ChannelAccess) -> Findings:
    return [Finding("account", Weight.NOTE, None, f"{access.name}: su {access.channel} non c'è nulla da chiedere")]


async def _policy(authority: Authority, http: aiohttp.ClientSession) -> Findings:
    async with http.get(authority.policy.url) as answer:
        content = await answer.content.read(MOST_BYTES)
        if answer.status != 200:
            return [
                error(
                    "informativa",
                    f"{authority.policy.url} risponde {answer.status}: chi si iscrive deve poterla leggere",
                )
            ]
    digest = hashlib.sha256(content).hexdigest()
    return [
        Finding(
            "informativa",
            Weight.NOTE,
            None,
            f"versione {authority.policy.version}, {len(content)} byte, sha256 {digest}: se cambia, cambia version",
        )
    ]


# ── WhatsApp ────────────────────────────────────────────────────────────────────────────────────────


async def _whatsapp(access: ChannelAccess, token: str, settings: Settings, http: aiohttp.ClientSession) -> Findings:
    number = access.settings.get("phone_number_id", "")
    base = f"{settings.whatsapp_url.rstrip('/')}/{settings.whatsapp_api_version}"
    headers = {"Authorization": f"Bearer {token}"}
    fields = {"fields": "display_phone_number,verified_name,quality_rating,health_status"}
    async with http.get(f"{base}/{number}", params=fields, headers=headers) as answer:
        said = await answer.json()
        if answer.status != 200:
            return [error("account", f"{access.name}: Meta risponde {answer.status} {_code(said)}: {_meaning(said)}")]
    found = []
    shown = "+" + "".join(filter(str.isdigit, str(said.get("display_phone_number", ""))))
    if shown != access.identity:
        found.append(error("account", f"{access.name}: phone_number_id è del numero {shown}, non di {access.identity}"))
    if said.get("quality_rating") == "RED":
        found.append(warning("account", f"{access.name}: la qualità del numero è bassa; guarda il pannello di Meta"))
    entities = said.get("health_status", {}).get("entities", [])
    waba = next((str(one["id"]) for one in entities if one.get("entity_type") == "WABA"), "")
    if not waba:
        return [
            *found,
            warning("template", f"{access.name}: Meta non dice di chi è; guarda il template a mano"),
        ]
    return [*found, *await _template(access, f"{base}/{waba}/message_templates", headers, http)]


async def _template(access: ChannelAccess, url: str, headers: dict[str, str], http: aiohttp.ClientSession) -> Findings:
    name, language = access.settings.get("template", ""), access.settings.get("template_language", "it")
    asked = {"name": name, "fields": "name,status,language,components"}
    async with http.get(url, params=asked, headers=headers) as answer:
        said = await answer.json()
        if answer.status != 200:
            return [error("template", f"{access.name}: Meta risponde {answer.status} {_code(said)}: {_meaning(said)}")]
    rows = [one for one in said.get("data", []) if one.get("name") == name and one.get("language") == language]
    if not rows:
        return [error("template", f"{access.name}: non c'è un template {name!r} in {language!r}; registralo da Meta")]
    found = []
    if (status := str(rows[0].get("status"))) != "APPROVED":
        found.append(error("template", f"{access.name}: il template {name!r} è {status}; attendi o correggilo da Meta"))
    body = next((str(one.get("text", "")) for one in rows[0].get("components", []) if one.get("type") == "BODY"), "")
    if (count := len(set(VARIABLE.findall(body)))) != VARIABLES:
        found.append(error("template", f"{access.name}: il template {name!r} ha {count} variabili, non {VARIABLES}"))
    return found


def _code(said: Any) -> str:
    problem = said.get("error") if isinstance(said, dict) else None
    return str(problem.get("code", "")) if isinstance(problem, dict) else ""


def _meaning(said: Any) -> str:
    """Our words: Meta's may repeat the token."""
    match _code(said):
        case "0" | "190":
            return "il token non vale più; creane uno nuovo"
        case "10" | "200" | "131005":
            return "il token non ha i permessi (whatsapp_business_messaging, whatsapp_business_management)"
        case "100" | "33":
            return "phone_number_id non esiste o non è di questo token"
        case _:
            return "controlla il pannello di Meta"


# ── Telegram ────────────────────────────────────────────────────────────────────────────────────────


async def _telegram(access: ChannelAccess, token: str, settings: Settings, http: aiohttp.ClientSession) -> Findings:
    base = f"{settings.telegram_url.rstrip('/')}/bot{token}"
    status, me = await _bot(http, f"{base}/getMe")
    if status != 200:
        return [error("account", f"{access.name}: il token non è di un bot ({status}); chiedilo a BotFather")]
    chat = access.settings.get("chat_id", "")
    asked = {"chat_id": chat, "user_id": str(me.get("id"))}
    status, member = await _bot(http, f"{base}/getChatMember", asked)
    if status != 200:
        return [error("account", f"{access.name}: il bot non vede il canale {chat} ({status}); aggiungilo al canale")]
    if member.get("status") != "creator" and not (
        member.get("status") == "administrator" and member.get("can_post_messages")
    ):
        return [error("account", f"{access.name}: il bot non può scrivere in {chat}; fallo amministratore")]
    return []


async def _bot(
    http: aiohttp.ClientSession, url: str, asked: dict[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    async with http.post(url, json=asked or {}) as answer:
        said = await answer.json()
        result = said.get("result") if isinstance(said, dict) else None
        return answer.status, result if isinstance(result, dict) else {}


# ── mail and SMS ────────────────────────────────────────────────────────────────────────────────────


def _mail(access: ChannelAccess, password: str, url: str) -> Findings:
    where = urlsplit(url)
    make = smtplib.SMTP_SSL if where.scheme == "smtps" else smtplib.SMTP
    with make(where.hostname or "", where.port or (465 if where.scheme == "smtps" else 587), timeout=WITHIN) as server:
        server.ehlo()
        if where.scheme == "smtp" and server.has_extn("starttls"):
            server.starttls()
            server.ehlo()
        if not server.has_extn("auth"):
            return [warning("account", f"{access.name}: il server di posta non chiede di farsi riconoscere")]
        try:
            server.login(access.settings.get("username", ""), password)
        except smtplib.SMTPAuthenticationError as refused:
            return [error("account", f"{access.name}: la posta rifiuta utente e password ({refused.smtp_code})")]
    return []


async def _smpp(access: ChannelAccess, password: str, url: str) -> Findings:
    """A bind, and nothing sent on it: who drops it is unbound."""
    where = urlsplit(url)
    secure = where.scheme == "smpps"
    reader, writer = await asyncio.open_connection(where.hostname, where.port or 2775, ssl=secure or None)
    try:
        words = (access.settings.get("user", ""), password, "")
        body = b"".join(word.encode("ascii", "replace") + b"\0" for word in words) + bytes((SMPP_3_4, 0, 0, 0))
        writer.write(struct.pack(">IIII", 16 + len(body), BIND_TRANSCEIVER, 0, 1) + body)
        _, command, status, _ = struct.unpack(">IIII", await reader.readexactly(16))
    finally:
        writer.close()
    if command != BIND_TRANSCEIVER_RESP:
        return [error("account", f"{access.name}: a quell'indirizzo non risponde un SMSC")]
    if status:
        says = SMPP_SAYS.get(status, "chiedi al provider che cosa vuol dire")
        return [error("account", f"{access.name}: bind rifiutato (0x{status:02X}): {says}")]
    return []
