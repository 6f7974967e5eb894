"""The sources that may feed us: one TOML file each, checked as a whole before anybody is listened to."""

import re
from collections.abc import Iterable, Iterator
from datetime import time, timedelta
from enum import Enum
from itertools import combinations
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from cryptography import x509

from alerting.authorities.reading import Table, read_file
from alerting.authorities.territory import read_outline
from alerting.domain.sources import Kind, Nearness, OnError, OnWarning, Polling, Signature, Source

Choice = TypeVar("Choice", bound=Enum)

FOLDER = Path(__file__).parent
"""Those that ship with the system."""

TOLERANCE_M = 500.0
"""Metres a drawing may reach over a border where the file does not say: two surveys never draw one alike."""
LARGEST_TOLERANCE_M = 20_000.0
LONGEST = 72
"""Hours ahead that an alert may expire where the file does not say: a bulletin speaks of two days."""
LONGEST_ALLOWED = 31 * 24
MOST_OFTEN_MINUTES, LEAST_OFTEN_MINUTES = 1, 24 * 60
"""Public bodies' servers answer 429 to who asks more often; who asks once in two days learns of nothing in time."""

SENDER = re.compile(r"[^\s,<&]+")
"""CAP 1.2: a sender has no spaces, commas, < or &."""
LANGUAGE = re.compile(r"[a-z]{2}(-[A-Z]{2})?")
ZONE = re.compile(r"[A-Z][A-Za-z]{3}-([A-Z0-9]{1,3}|\*)")
"""Tosc-A4, or Tosc-* for all of a region's."""
ISTAT = re.compile(r"[0-9]{6}")
HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
TIME = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
AMQP_USER = re.compile(r"[\w.-]{1,64}", re.ASCII)
CERTIFICATE = re.compile(r"\w[\w.-]*\.(pem|crt|cer)", re.ASCII)
"""A name only: a path could lead out of the folder."""


class SourceFileError(ValueError):
    """Files that nobody may be fed from. `findings` says everything that is wrong, one sentence each."""

    def __init__(self, findings: Iterable[str]) -> None:
        self.findings = tuple(findings)
        super().__init__("the sources cannot be loaded:\n" + "\n".join(f"- {one}" for one in self.findings))


def load(folder: Path | None = None) -> dict[str, Source]:
    """Every source of a folder by its name, which is its file's; by default those that ship. A folder may be empty.

    Raises SourceFileError with all findings of all files.
    """
    folder = folder or FOLDER
    findings: list[str] = []
    if not folder.is_dir():
        raise SourceFileError([f"{folder}: there is no such folder; give one with a .toml file for each source"])
    found = [read_file(path, findings, "the source's name", _source) for path in sorted(folder.glob("*.toml"))]
    sources = [source for source in found if source]
    findings += _disagreements(sources)
    if findings:
        raise SourceFileError(findings)
    return {source.name: source for source in sources}


def _source(path: Path, file: Table, file_hash: str) -> Source:
    kind = _choice(file, "kind", Kind, Kind.CAP)
    speaks = file.table("speaks_of") if file.has("speaks_of") or kind is Kind.CAP else None
    polling = _polling(file.table("polling")) if file.has("polling") or kind is not Kind.CAP else None
    source = Source(
        name=path.stem,
        title=file.text("title"),
        kind=kind,
        nearness=_choice(file, "nearness", Nearness, Nearness.NATIONAL),
        enabled=file.flag("enabled"),
        senders=_each(file, "senders", SENDER, "a sender of CAP, without spaces, commas, < or &", kind is not Kind.CAP),
        territory=read_outline(speaks) if speaks and speaks.has("outline") else None,
        zones=_each(speaks, "zones", ZONE, "a warning zone, or all of a region: Tosc-A4, Tosc-*"),
        comuni=_each(speaks, "comuni", ISTAT, "the six digits ISTAT gives a comune: 050004"),
        tolerance_m=_tolerance(file),
        longest=timedelta(hours=_positive(file, "longest_hours", LONGEST_ALLOWED) or LONGEST),
        language=file.matching("language", LANGUAGE, "a language as it-IT") if file.has("language") else "it-IT",
        certificates=tuple(_certificates(path.parent, file)),
        signature=_choice(file, "signature", Signature, Signature.IF_PRESENT, optional=True),
        on_error=_choice(file, "on_error", OnError, OnError.QUARANTINE, optional=True),
        on_warning=_choice(file, "on_warning", OnWarning, OnWarning.ACCEPT, optional=True),
        amqp_user=file.matching("amqp_user", AMQP_USER, "the name of a RabbitMQ user") if file.has("amqp_user") else "",
        polling=polling,
        licence=file.text_if_any("licence") or "",
        disclaimer=file.text_if_any("disclaimer") or "",
        file_hash=file_hash,
    )
    if speaks:
        speaks.nothing_else()
    for flaw in _contradictions(source):
        file.note(flaw)
    return source


def _polling(table: Table) -> Polling | None:
    """None when the address could not be read."""
    url = table.text("url")
    minutes = table.number("every_minutes")
    if not MOST_OFTEN_MINUTES <= minutes <= LEAST_OFTEN_MINUTES:
        table.note(f"{table.key('every_minutes')} is not between {MOST_OFTEN_MINUTES} and {LEAST_OFTEN_MINUTES}")
    silent_hours = _positive(table, "silent_after_hours", LONGEST_ALLOWED)
    due = table.matching("due", TIME, "hours and minutes, in quotes: 16:30") if table.has("due") else ""
    private = table.flag("private", optional=True)
    hosts = _each(table, "hosts", HOST, "the name of a host, in small letters and without https://")
    table.nothing_else()
    host = _host(url)
    if not host:
        if url:
            table.note(f"{table.key('url')} {url!r} is not an address; write https:// and the rest of it, no password")
        return None
    return Polling(
        url=url,
        every=timedelta(minutes=minutes),
        hosts=frozenset(hosts) or frozenset({host}),
        private=private,
        silent_after=timedelta(hours=silent_hours) if silent_hours else None,
        due=time.fromisoformat(due) if TIME.fullmatch(due) else None,
    )


def _host(url: str) -> str:
    """The host of an http(s) address; empty for anything else, and for one with a password in it."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  # raises ValueError for one that is no number
    except ValueError:
        return ""
    return (parts.hostname or "") if parts.scheme in {"http", "https"} and "@" not in parts.netloc else ""


def _tolerance(file: Table) -> float:
    if not file.has("tolerance_m"):
        return TOLERANCE_M
    metres = file.number("tolerance_m")
    if not 0 <= metres <= LARGEST_TOLERANCE_M:
        file.note(f"tolerance_m is not between 0 and {LARGEST_TOLERANCE_M:.0f}; write metres over the border")
    return metres


def _positive(table: Table, key: str, most: float) -> float | None:
    """A number above zero; None where it may be left out and is."""
    if not table.has(key):
        return None
    number = table.number(key)
    if not 0 < number <= most:
        table.note(f"{table.key(key)} is not between 0 and {most:.0f}; correct it or leave it out")
        return None
    return number


def _choice(table: Table, key: str, options: type[Choice], otherwise: Choice, *, optional: bool = False) -> Choice:
    if optional and not table.has(key):
        return otherwise
    written = table.text(key)
    by_word = {one.name.lower(): one for one in options}
    if written and written not in by_word:
        table.note(f"{table.key(key)} {written!r} is no choice; write {' or '.join(by_word)}")
    return by_word.get(written, otherwise)


def _each(
    table: Table | None, key: str, pattern: re.Pattern[str], wanted: str, optional: bool = True
) -> tuple[str, ...]:
    """A list of texts of one form, each once."""
    if table is None:
        return ()
    texts = table.texts(key, optional=optional)
    for text in texts:
        table.check(key, text, pattern, wanted)
    return tuple(dict.fromkeys(texts))


def _certificates(folder: Path, file: Table) -> Iterator[bytes]:
    """The pinned certificates, from files beside the source's own."""
    for name in _each(file, "certificates", CERTIFICATE, "the name of a PEM file beside this one: regione-toscana.pem"):
        if not CERTIFICATE.fullmatch(name):
            continue
        try:
            pem = (folder / name).read_bytes()
            x509.load_pem_x509_certificates(pem)
        except (OSError, ValueError) as cause:
            reason = cause.strerror if isinstance(cause, OSError) else "it is no certificate in PEM"
            file.note(f"certificates {name!r} cannot be read ({reason}); put the issuer's certificate in that file")
        else:
            yield pem


def _contradictions(source: Source) -> Iterator[str]:
    """What each key may say, and two together may not."""
    polling = source.polling
    if source.kind is Kind.CAP and not (source.territory or source.zones or source.comuni):
        yield "speaks_of has no outline, zones or comuni; a source without a territory may not speak of any place"
    if source.kind is not Kind.CAP and source.amqp_user:
        yield f"amqp_user is for sources that hand in CAP, and this is a {source.kind}; remove it"
    if source.signature is Signature.REQUIRED and not source.certificates:
        yield "signature is required, but no certificates are pinned to check it; name the issuer's PEM file"
    if polling and polling.due and source.kind is not Kind.BULLETIN:
        yield "polling.due is for a bulletin that comes once a day; use silent_after_hours"
    if polling and not (polling.url.startswith("https:") or polling.private or source.signature is Signature.REQUIRED):
        yield "polling.url is not https, so anybody on the way could write it; use https, or require a pinned signature"


# ── between files ───────────────────────────────────────────────────────────────────────────────────


def _disagreements(sources: list[Source]) -> Iterator[str]:
    for one, other in combinations(sources, 2):
        files = f"{one.name}.toml and {other.name}.toml"
        if one.amqp_user and one.amqp_user == other.amqp_user:
            yield f"{files}: both are fed by the RabbitMQ user {one.amqp_user}; give each a user of its own"
        if one.polling and other.polling and one.polling.url == other.polling.url:
            yield f"{files}: both ask {one.polling.url}; keep one"
