"""MeteoAlarm's JSON: what the Air Force's meteorologists expect in each region. For operators' eyes, never to be sent.

The feed's shape and habits were measured on 205 Italian entries of 1 August 2026: 84 % are green, a warning ends by an
Update to green and never by a Cancel, each has an English and an Italian info, and areas are whole regions.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from alerting.domain.findings import Finding, Weight

MOST_BYTES = 8_000_000
"""The Italian feed has 1.4 million at most."""
MOST_ENTRIES = 5000
MOST_PARTS = 50
"""Infos of an alert, areas of an info, values of a list: two languages and one region are usual."""
LONGEST_TEXT = 4000
MOST_FINDINGS = 100

DISCLAIMER = re.compile(r"\(?\s*DISCLAIMER:\s*(?P<words>.*?)\s*\)?\s*\Z", re.DOTALL | re.IGNORECASE)
EMMA_ID = re.compile(r"[A-Z]{2}[0-9]{3}")


class Level(IntEnum):
    """The leading number of `awareness_level`. Green says that nothing is expected, and is never shown."""

    GREEN = 1
    YELLOW = 2
    ORANGE = 3
    RED = 4

    @property
    def in_words(self) -> str:
        return ("verde", "gialla", "arancione", "rossa")[self - 1]


LEVEL_OF_SEVERITY = {"Minor": Level.GREEN, "Moderate": Level.YELLOW, "Severe": Level.ORANGE, "Extreme": Level.RED}
"""As MeteoAlarm itself pairs them; for an entry that does not give its level."""


class Phenomenon(IntEnum):
    """The leading number of `awareness_type`; the words after it differ from country to country."""

    WIND = 1
    SNOW_ICE = 2
    THUNDERSTORM = 3
    FOG = 4
    HIGH_TEMPERATURE = 5
    LOW_TEMPERATURE = 6
    COASTAL = 7
    FOREST_FIRE = 8
    AVALANCHE = 9
    RAIN = 10
    FLOOD = 11
    """Kinds of flood are 11, 12 and 13."""
    FLASH_FLOOD = 12
    RAIN_FLOOD = 13

    @property
    def in_words(self) -> str:
        return IN_WORDS[self]


IN_WORDS = {
    Phenomenon.WIND: "vento",
    Phenomenon.SNOW_ICE: "neve e ghiaccio",
    Phenomenon.THUNDERSTORM: "temporali",
    Phenomenon.FOG: "nebbia",
    Phenomenon.HIGH_TEMPERATURE: "caldo",
    Phenomenon.LOW_TEMPERATURE: "freddo",
    Phenomenon.COASTAL: "mareggiate",
    Phenomenon.FOREST_FIRE: "incendi boschivi",
    Phenomenon.AVALANCHE: "valanghe",
    Phenomenon.RAIN: "pioggia",
    Phenomenon.FLOOD: "alluvione",
    Phenomenon.FLASH_FLOOD: "alluvione",
    Phenomenon.RAIN_FLOOD: "pioggia e alluvione",
}


@dataclass(frozen=True, slots=True)
class RegionWarning:
    """One phenomenon at one level in one region (`IT009` is Toscana), as it is expected now.

    `phenomenon` is None for a number that nobody has explained; `event` has the issuer's words for it. `description`
    is without the `disclaimer`, which must be shown beside it.
    """

    sender: str
    identifier: str
    sent: datetime
    region: str
    phenomenon: Phenomenon | None
    level: Level
    event: str
    onset: datetime
    expires: datetime
    headline: str
    description: str
    disclaimer: str


@dataclass(frozen=True, slots=True)
class Warnings:
    """What the feed says now, and what was wrong with it."""

    warnings: tuple[RegionWarning, ...]
    findings: tuple[Finding, ...]

    def of_region(self, region: str) -> tuple[RegionWarning, ...]:
        """Those of one region by its EMMA_ID, the gravest first, then the earliest."""
        here = (warning for warning in self.warnings if warning.region == region)
        return tuple(sorted(here, key=lambda warning: (-warning.level, warning.onset)))

    def in_force(self, now: datetime) -> "Warnings":
        """Without those that have expired."""
        return Warnings(tuple(warning for warning in self.warnings if warning.expires > now), self.findings)


def read_warnings(raw: bytes) -> Warnings:
    """The feed's warnings, Italian words preferred; without green ones, tests, and those a later one refers to.

    Never raises: what cannot be read is a finding, and the rest is read.
    """
    findings: list[Finding] = []
    messages = [
        message for at, entry in enumerate(_entries(raw, findings)) if (message := _message(entry, at, findings))
    ]
    followed = {reference for message in messages for reference in message.references}
    found = (
        warning
        for message in messages
        if message.key not in followed and message.msg_type in {"Alert", "Update"}
        for warning in _warnings(message, findings)
        if warning.level > Level.GREEN
    )
    return Warnings(tuple(dict.fromkeys(found)), tuple(findings[:MOST_FINDINGS]))


Key = tuple[str, str, datetime]
"""Sender, identifier, sent: CAP's way to tell two messages apart."""
Object = dict[str, object]


@dataclass(frozen=True, slots=True)
class _Message:
    """One alert of the feed whose head could be read."""

    key: Key
    msg_type: str
    references: frozenset[Key]
    infos: tuple[Object, ...]


def _entries(raw: bytes, findings: list[Finding]) -> Iterator[object]:
    if len(raw) > MOST_BYTES:
        _note(findings, "meteoalarm-too-large", f"the feed has {len(raw)} bytes; {MOST_BYTES} are read at most")
        return
    try:
        feed = json.loads(raw)
    except (ValueError, RecursionError) as cause:
        _note(findings, "meteoalarm-not-json", f"the feed is not JSON ({cause}); nothing of it is known")
        return
    entries = feed.get("warnings") if isinstance(feed, dict) else None
    if not isinstance(entries, list):
        _note(findings, "meteoalarm-no-warnings", 'the feed has no list "warnings"; its format may have changed')
        return
    if len(entries) > MOST_ENTRIES:
        _note(
            findings, "meteoalarm-too-many", f"the feed has {len(entries)} entries; the first {MOST_ENTRIES} are read"
        )
    yield from entries[:MOST_ENTRIES]


def _message(entry: object, at: int, findings: list[Finding]) -> _Message | None:
    alert = entry.get("alert") if isinstance(entry, dict) else None
    if not isinstance(alert, dict):
        _note(findings, "meteoalarm-no-alert", f"entry {at + 1} has no alert in it; it is left out")
        return None
    sender, identifier, sent = _text(alert, "sender"), _text(alert, "identifier"), _moment(alert, "sent")
    if not sender or not identifier or sent is None:
        _note(findings, "meteoalarm-no-name", f"entry {at + 1} lacks sender, identifier or sent; it is left out")
        return None
    if _text(alert, "status") != "Actual":
        return None
    return _Message(
        (sender, identifier, sent),
        _text(alert, "msgType"),
        frozenset(_references(_text(alert, "references"))),
        tuple(_objects(alert, "info")),
    )


def _references(text: str) -> Iterator[Key]:
    for triplet in text.split():
        parts = triplet.split(",")
        if len(parts) == 3 and (sent := _when(parts[2])):
            yield parts[0], parts[1], sent


def _warnings(message: _Message, findings: list[Finding]) -> Iterator[RegionWarning]:
    """One for each region of each info in the language that is read best."""
    sender, identifier, sent = message.key
    for info in _readable(message.infos):
        regions = list(_regions(info))
        level = _level(info, identifier, findings)
        expires = _moment(info, "expires")
        if not regions or level is None or expires is None:
            _note(findings, "meteoalarm-incomplete", f"{identifier} lacks EMMA_ID, level or expires; it is left out")
            continue
        description, disclaimer = _apart(_text(info, "description"))
        for region in regions:
            yield RegionWarning(
                sender,
                identifier,
                sent,
                region,
                _phenomenon(info, identifier, findings),
                level,
                _text(info, "event"),
                _moment(info, "onset") or _moment(info, "effective") or sent,
                expires,
                _text(info, "headline"),
                description,
                disclaimer,
            )


def _readable(infos: Iterable[Object]) -> list[Object]:
    """The Italian ones; where there are none the English ones, and where there are none of these either, all."""
    by_language: dict[str, list[Object]] = {}
    for info in infos:
        by_language.setdefault(_text(info, "language")[:2].lower() or "en", []).append(info)
    return by_language.get("it") or by_language.get("en") or [info for some in by_language.values() for info in some]


def _regions(info: Object) -> Iterator[str]:
    for area in _objects(info, "area"):
        for name, value in _pairs(area, "geocode"):
            if name == "EMMA_ID" and EMMA_ID.fullmatch(value):
                yield value


def _level(info: Object, identifier: str, findings: list[Finding]) -> Level | None:
    number = _number(info, "awareness_level")
    if number in set(Level):
        return Level(number)
    level = LEVEL_OF_SEVERITY.get(_text(info, "severity"))
    _note(
        findings, "meteoalarm-level", f"{identifier} has no awareness_level from 1 to 4; its severity is taken for it"
    )
    return level


def _phenomenon(info: Object, identifier: str, findings: list[Finding]) -> Phenomenon | None:
    number = _number(info, "awareness_type")
    if number in set(Phenomenon):
        return Phenomenon(number)
    _note(findings, "meteoalarm-phenomenon", f"{identifier} has an awareness_type nobody knows; read its event instead")
    return None


def _number(info: Object, name: str) -> int:
    """The number a parameter begins with, as in `3; orange; Severe`; zero where it does not."""
    value = next((value for one, value in _pairs(info, "parameter") if one == name), "")
    number = re.match(r"\s*([0-9]{1,3})\b", value, re.ASCII)
    return int(number[1]) if number else 0


def _apart(text: str) -> tuple[str, str]:
    """A description, and the disclaimer at its end."""
    found = DISCLAIMER.search(text)
    return (text[: found.start()].strip(), found["words"].strip().strip('"').strip()) if found else (text, "")


# ── JSON, of whatever shape ─────────────────────────────────────────────────────────────────────────


def _objects(holder: Object, key: str) -> Iterator[Object]:
    values = holder.get(key)
    for value in values[:MOST_PARTS] if isinstance(values, list) else []:
        if isinstance(value, dict):
            yield value


def _pairs(holder: Object, key: str) -> Iterator[tuple[str, str]]:
    for pair in _objects(holder, key):
        yield _text(pair, "valueName"), _text(pair, "value")


def _text(holder: Object, key: str) -> str:
    value = holder.get(key)
    return value[:LONGEST_TEXT].strip() if isinstance(value, str) else ""


def _moment(holder: Object, key: str) -> datetime | None:
    return _when(_text(holder, key))


def _when(text: str) -> datetime | None:
    """An aware moment; None for anything else."""
    try:
        when = datetime.fromisoformat(text)
        return when if when.utcoffset() is not None else None
    except ValueError:
        return None


def _note(findings: list[Finding], rule: str, text: str) -> None:
    if len(findings) < MOST_FINDINGS:
        findings.append(Finding(rule, Weight.WARNING, None, text))
