"""What a comune's file still lacks before it may speak, as findings in Italian: what is wrong, and what to do."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path

from alerting.authorities import read_beside
from alerting.domain import gsm
from alerting.domain.authority import ROOM_FOR_PLACES, Authority, ChannelAccess
from alerting.domain.delivery import Channel
from alerting.domain.findings import Finding, Weight
from alerting.domain.rendering import SMS_PARTS, TEMPLATE
from alerting.settings import Secrets
from alerting.vapid import SECRET

TO_FILL_IN = "DA COMPILARE"
"""Marks in a file what only the comune knows; whoever fills it in takes the mark away."""

NEEDED = {
    Channel.WHATSAPP: ("token", "app_secret", "verify_token"),
    Channel.TELEGRAM: ("token", "webhook_secret"),
    Channel.EMAIL: ("token",),
    Channel.SMS: ("token",),
    Channel.WEB_PUSH: (SECRET,),
}
"""What the secrets file must have for an account of each channel."""

LONGEST_REPLY = {Channel.WHATSAPP: 4096, Channel.TELEGRAM: 4096}
"""Characters of a free text (channels.md 1.2 and 2.2)."""
TEMPLATE_NAME = re.compile(r"[a-z0-9_]{1,512}")
PROVINCES = range(1, 112)
"""ISTAT's numbers of provinces: the first three digits of a comune's; 201 and on are its metropolitan cities."""
CITIES = range(201, 273)


def error(rule: str, text: str, line: int | None = None) -> Finding:
    return Finding(rule, Weight.ERROR, line, text)


def warning(rule: str, text: str) -> Finding:
    return Finding(rule, Weight.WARNING, None, text)


def check(path: Path, others: Iterable[Authority]) -> tuple[Authority | None, list[Finding]]:
    """A file by itself and beside the others. The authority is None where it cannot be read as one."""
    authority, flaws = read_beside(path, others)
    found = [*_to_fill_in(path.read_text(errors="replace"))]
    found += (error("file", f"il file non va bene così: {flaw}") for flaw in flaws)
    if authority is not None:
        found += (*_texts(authority), *_templates(authority), *_identity(authority), *_territory(authority))
    return authority, found


def secrets_missing(authority: Authority, secrets: Secrets) -> Iterator[Finding]:
    """Credentials that no account can do without. Nothing of those that are there is said."""
    for access in authority.channels:
        names = NEEDED.get(access.channel, ("token",))
        if access.settings.get("updates") == "polling":
            names = ("token",)
        if missing := [name for name in names if not secrets.find(access.name, name)]:
            yield error(
                "credenziali",
                f"nel file dei segreti mancano {', '.join(missing)} per {access.name}: aggiungi "
                f'"{access.name}": {{{", ".join(f"{chr(34)}{name}{chr(34)}: …" for name in missing)}}}',
            )


# ── one thing after the other ───────────────────────────────────────────────────────────────────────


def _to_fill_in(written: str) -> Iterator[Finding]:
    for number, line in enumerate(written.splitlines(), start=1):
        before, mark, what = line.partition(TO_FILL_IN)
        if mark and not before.lstrip().startswith("#"):
            key = before.partition("=")[0].strip() or "il valore"
            yield error("da-compilare", f"{key} è da compilare{what.rstrip()}; poi togli la scritta", number)


def _texts(authority: Authority) -> Iterator[Finding]:
    """Each answer on each channel: how long, and by SMS in how many parts, which are paid."""
    for field in fields(authority.texts):
        text: str = getattr(authority.texts, field.name)
        longest = text.replace("{luoghi}", "x" * ROOM_FOR_PLACES)
        for access in authority.channels:
            most = LONGEST_REPLY.get(access.channel)
            if most and len(longest) > most:
                yield error(
                    "testi", f"texts.{field.name}: {len(longest)} caratteri, {access.channel} ne porta {most}; accorcia"
                )
            if access.channel is Channel.SMS:
                yield from _by_sms(field.name, text, access)


def _by_sms(key: str, text: str, access: ChannelAccess) -> Iterator[Finding]:
    size = gsm.size(gsm.transliterated(text))
    if size.parts <= SMS_PARTS:
        return
    price = f", {size.parts * access.euro_per_text:.3f} euro ogni volta" if access.euro_per_text else ""
    yield warning(
        "testi",
        f"texts.{key}: per SMS sono {size.parts} parti ({size.encoding}){price}; accorcia fino a {SMS_PARTS} parti, "
        f"cioè {SMS_PARTS * gsm.IN_PARTS[gsm.Encoding.GSM_7]} caratteri",
    )


def _templates(authority: Authority) -> Iterator[Finding]:
    for access in authority.channels:
        if access.channel is not Channel.WHATSAPP:
            continue
        name = access.settings.get("template", "")
        if not TEMPLATE_NAME.fullmatch(name):
            yield error(
                "template",
                f"{access.name}: il nome del template {name!r} non è di WhatsApp; usa minuscole, cifre e _, e registra "
                f"questo testo: {TEMPLATE.format(*('{{' + str(n) + '}}' for n in range(1, 6)))!r}",
            )


def _identity(authority: Authority) -> Iterator[Finding]:
    if not authority.name.startswith("Comune di "):
        yield warning(
            "nome", f"name {authority.name!r} non comincia con «Comune di»; i cittadini lo leggono in ogni testo"
        )
    province = int(authority.istat[:3]) if authority.istat[:3].isdecimal() else 0
    if province not in PROVINCES and province not in CITIES:
        yield error("istat", f"istat {authority.istat} non è di nessuna provincia; cerca il codice su istat.it")
    domain = authority.sender.rpartition("@")[2]
    known = {authority.policy.url.split("/")[2], *(str(authority.contact.email).rpartition("@")[2:])}
    if domain and not any(other == domain or other.endswith(f".{domain}") for other in known):
        yield warning(
            "sender",
            f"sender è di {domain}, che non è il dominio dell'informativa né della e-mail in contact; usa un indirizzo "
            "del comune, che nessun altro ha",
        )
    for key, value in (("sender", authority.sender), ("policy.url", authority.policy.url), *_servers(authority)):
        if ".example" in value:
            yield error("dimostrazione", f"{key} {value!r} è un valore dimostrativo; metti quello vero")


def _servers(authority: Authority) -> Iterator[tuple[str, str]]:
    return ((f"{one.name}: url", one.settings.get("url", "")) for one in authority.channels)


def _territory(authority: Authority) -> Iterator[Finding]:
    if authority.territory.comune.demonstration:
        yield warning(
            "territorio",
            "il confine è dimostrativo; importa quello dell'ISTAT: python -m geo import comuni.geojson --dry-run, poi "
            "senza --dry-run, e metti demonstration = false",
        )
    if not authority.territory.frazioni:
        yield warning(
            "territorio",
            "nessuna frazione: chi abita qui non può dire dove; scrivile in [[territory.frazioni]] o importale",
        )
