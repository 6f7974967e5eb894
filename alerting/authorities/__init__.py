"""The comuni this system speaks for: one TOML file each, checked as a whole before anybody speaks."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import fields
from datetime import time
from enum import Enum
from itertools import combinations
from pathlib import Path
from string import Formatter
from typing import TypeVar

from alerting.authorities.desk import read_desk
from alerting.authorities.fallback import read_fallback
from alerting.authorities.reading import CODE, Table, read_file
from alerting.authorities.territory import read_territory
from alerting.domain.authority import (
    AWAITED,
    VARIABLES,
    Authority,
    ChannelAccess,
    Contact,
    Duty,
    Policy,
    Territory,
    Texts,
    flaws_of_keywords,
    flaws_of_text,
    parameter_names,
)
from alerting.domain.delivery import Channel
from alerting.domain.fallback import Fallback
from alerting.domain.keywords import Keywords, clashes
from alerting.domain.kinds import Colour, Risk
from alerting.domain.lanes import Lane
from alerting.domain.notices import Matter, Quiet, Staff
from alerting.domain.panels import FOR, Panel, PanelKind
from alerting.domain.policies import FeedPolicy, Then
from alerting.domain.recipients import NOWHERE, AddressError, Place, Precision, email_address, phone, telegram_chat
from alerting.domain.rendering import PANEL_COLUMNS, PANEL_LINES
from geo.shapes import Point, ShapeError

Word = TypeVar("Word", bound=Enum)

FOLDER = Path(__file__).parent
"""The five that ship with the system."""

ISTAT = re.compile(r"[0-9]{6}")
SENDER = re.compile(r"[^\s,<&@]+@[^\s,<&@]+\.[a-z]{2,}")
"""CAP 1.2: a sender has no spaces, commas, < or &; under the comune's own domain it is unique."""
WARNING_ZONE = re.compile(r"[A-Z][a-z]{3}-[A-Z][0-9]?")
"""The national department's name of a zone: "Tosc-A4"."""
LANGUAGE = re.compile(r"[a-z]{2}")
WEB = re.compile(r"https://[^\s/]+\.[a-z]{2,}(/\S*)?")

SHA256 = re.compile(r"[0-9a-f]{64}")

HOURS = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]")
"""From when until when: "22:00-07:00"."""

MAIL_SERVER = re.compile(r"smtps?://[^\s/@:\[\]]+(:[0-9]{1,5})?/?")

UNREAD = "…"
"""Stands in the answers for frazioni whose table could not be read: that finding is enough."""

SETTINGS = {
    Channel.WHATSAPP: ("phone_number_id", "template", "template_language"),
    Channel.TELEGRAM: ("chat_id",),
    Channel.EMAIL: ("url", "username"),
    Channel.SMS: ("sender", "protocol", "url", "user"),
    Channel.WEB_PUSH: (),
    Channel.MQTT: ("url", "user"),
}
"""What an account of each channel cannot do without."""
MQTT_BROKER = re.compile(r"mqtts?://[^\s/@:\[\]]+(:[0-9]{1,5})?/?")
LONGEST_PANEL_NAME = 40
MOST_LINES, FEWEST_COLUMNS, MOST_COLUMNS = 20, 8, 60
"""Of the largest and the narrowest panels there are; anything else is a slip."""
ALIAS = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9 ._-]{1,11}")
"""What people see as the sender of an SMS in place of a number; registered with AGCOM through the provider."""
PROTOCOLS = {"smpp": ("smpp://", "smpps://"), "rest": ("https://",)}
"""How an SMS provider is spoken to, and how its address begins."""
UPDATES = ("webhook", "polling")
"""How a bot hears what people write: sent to the API, or asked for; the first, unless the file says so."""
DATA_CODINGS = ("gsm", "default-latin-1", "latin-1")
"""What an SMSC takes its default alphabet for, or that it wants to be told of Latin-1; the first, unless it says so."""
MESSAGE_TYPES = ("GP", "TI", "SI", "N", "L", "LL")
"""What houses with a REST API call their kinds of SMS: the first three at Skebby and Trendoo, the others elsewhere."""
AUTHENTICATIONS = ("password", "access-token")
"""What the secret of a REST account is; the first, unless it says so."""
SECRET = re.compile(r"token|secret|password|credential|api_?key", re.IGNORECASE)
FASTEST = 1000
"""Texts a second: the most that WhatsApp and Telegram grant to any account."""

DEAREST = 1.0
"""Euro for one text: no provider takes as much, so that more is a slip."""

MUST_SAY = {
    "welcome": ("policy", "leave"),
    "already_subscribed": ("leave",),
    "goodbye": ("join",),
    "not_subscribed": ("join",),
    "help": ("join", "leave"),
    "ask_join": ("join",),
    "ask_leave": ("leave",),
    "my_data": ("link",),
    "place_kept": ("luoghi",),
    "place_which": ("luoghi", "zona"),
    "place_point_kept": ("luogo", "luoghi"),
    "place_outside": ("luoghi",),
    "place_unknown": ("frazioni",),
    "places_known": ("luoghi",),
    "place_forgotten": ("luoghi",),
    "choices_kept": ("scelte",),
    "choices_known": ("scelte", "link", "leave"),
    "emergencies_always": ("leave",),
    "nothing_known": ("join",),
}
"""What a citizen must find in each answer, by the name of the placeholder that says it."""


class AuthorityFileError(ValueError):
    """Files that nobody may speak from. `findings` says everything that is wrong, one sentence each."""

    def __init__(self, findings: Iterable[str]) -> None:
        self.findings = tuple(findings)
        super().__init__("the authorities cannot be loaded:\n" + "\n".join(f"- {one}" for one in self.findings))


def load(folder: Path | None = None) -> dict[str, Authority]:
    """Every authority of a folder by its code, the name of its file; by default those that ship.

    Raises AuthorityFileError with all findings of all files.
    """
    folder = folder or FOLDER
    findings: list[str] = []
    found = [read_file(path, findings, "the comune's code", _authority) for path in sorted(folder.glob("*.toml"))]
    if not found:
        findings.append(f"{folder}: there is no .toml file; give the folder that holds one for each comune")
    authorities = [authority for authority in found if authority]
    findings += _disagreements(authorities)
    if findings:
        raise AuthorityFileError(findings)
    return {authority.code: authority for authority in authorities}


def read_beside(path: Path, others: Iterable[Authority]) -> tuple[Authority | None, tuple[str, ...]]:
    """One file, whatever folder it is in, as it would be beside these; and all that is wrong with that."""
    findings: list[str] = []
    authority = read_file(path, findings, "the comune's code", _authority)
    if authority is not None:
        beside = [other for other in others if other.code != authority.code]
        findings += (flaw for flaw in _disagreements([authority, *beside]) if f"{authority.code}.toml" in flaw)
    return authority, tuple(findings)


def _authority(path: Path, file: Table, file_hash: str) -> Authority | None:
    code = path.stem
    name = file.text("name")
    two_way = file.flag("two_way")
    contact = _contact(file.table("contact"), two_way=two_way)
    policy = _policy(file.table("policy"), path)
    keywords = _keywords(file.table("keywords"), name)
    territory = read_territory(file.table("territory"), code, name)
    zones = file.texts("warning_zones")
    channels = tuple(_channel(table, code) for table in file.tables("channels"))
    feeds = tuple(_feed(table) for table in file.tables_if_any("feeds"))
    duty = _duty(file.table("duty"), channels) if file.has("duty") else None
    fallback = read_fallback(file.table("fallback"), channels) if file.has("fallback") else Fallback()
    staff = tuple(_staff(table, code) for table in file.tables_if_any("staff"))
    desk = read_desk(file.table("desk"), name, two_way=two_way) if file.has("desk") else None
    for twice in sorted({one.name for one, other in combinations(staff, 2) if one.name and one.name == other.name}):
        file.note(f"staff has two entries called {twice!r}; each needs a name of its own, its address has it")
    panels = tuple(_panel(table, territory) for table in file.tables_if_any("panels"))
    for flaw in _misplaced(panels, channels):
        file.note(flaw)
    for zone in zones:
        file.check("warning_zones", zone, WARNING_ZONE, "the zone's national name: Tosc-A4")
    if not channels:
        file.note("channels is empty; a comune without a number or a bot reaches nobody")
    for one, other in combinations(channels, 2):
        if (one.channel, one.exercise) == (other.channel, other.exercise):
            file.note(f"channels has two accounts on {one.channel}; keep one")
    places = ", ".join(area.name for area in territory.frazioni) if territory else UNREAD
    texts = _texts(file.table("texts"), name, contact, policy, keywords, places)
    istat = file.matching("istat", ISTAT, "the six digits ISTAT gives a comune: 050004")
    sender = file.matching("sender", SENDER, "an address of the comune without spaces, commas, < or &")
    language = file.matching("language", LANGUAGE, "two small letters: it")
    if territory is None:
        return None
    return Authority(
        code=code,
        istat=istat,
        name=name,
        sender=sender,
        warning_zones=zones,
        two_way=two_way,
        language=language,
        contact=contact,
        policy=policy,
        channels=channels,
        keywords=keywords,
        texts=texts,
        territory=territory,
        feeds=feeds,
        duty=duty,
        file_hash=file_hash,
        fallback=fallback,
        staff=staff,
        panels=panels,
        sms_price=_sms_price(file.table("prices")) if file.has("prices") else None,
        desk=desk,
    )


def _contact(table: Table, *, two_way: bool) -> Contact:
    contact = Contact(table.text_if_any("phone"), table.text_if_any("email"), table.text_if_any("note") or "")
    if not two_way and not (contact.phone or contact.email):
        table.note("contact.phone and contact.email are both missing; a one-way comune must say who listens")
    table.nothing_else()
    return contact


def _policy(table: Table, path: Path) -> Policy:
    """Its text may lie beside the file, as calcinaia.policy.txt: then it must be the one that is hashed."""
    hint = "the SHA-256 of the policy's text, as `sha256sum` prints it"
    policy = Policy(
        table.matching("url", WEB, "an https:// address"),
        table.text("version"),
        table.matching("sha256", SHA256, hint),
    )
    beside = path.with_suffix(".policy.txt")
    if beside.exists() and (found := hashlib.sha256(beside.read_bytes()).hexdigest()) != policy.sha256:
        table.note(
            f"{table.key('sha256')} is not that of {beside.name}; a new text is a new version: write its version "
            f"and {found}"
        )
    table.nothing_else()
    return policy


def _keywords(table: Table, name: str) -> Keywords:
    join, leave = table.text("join"), table.text("leave")
    keywords = Keywords(
        join,
        leave,
        table.texts("join_also", optional=True),
        table.texts("leave_also", optional=True),
        around=(name,),
    )
    table.nothing_else()
    if join and leave:
        for flaw in flaws_of_keywords(keywords):
            table.note(flaw)
    return keywords


def _channel(table: Table, code: str) -> ChannelAccess:
    written = table.text("channel")
    known = {channel.value: channel for channel in Channel}
    if written and written not in known:
        table.note(f"{table.key('channel')} {written!r} is no channel; write {' or '.join(known)}")
    channel = known.get(written, Channel.WHATSAPP)
    exercise = table.flag("exercise", optional=True)
    name, right = table.text("name"), f"{channel}.{code}" + (".exercise" if exercise else "")
    if written in known and name and name != right:
        table.note(f"{table.key('name')} {name!r} is not {right}; call it that, logs and metrics do")
    per_second = table.number("per_second")
    if not 0 < per_second <= FASTEST:
        table.note(f"{table.key('per_second')} is not between 0 and {FASTEST}; write what the provider allows")
    settings = table.settings("settings") if SETTINGS[channel] or table.has("settings") else {}
    for key in (key for key in SETTINGS[channel] if written in known and key not in settings):
        table.note(f"{table.key('settings')}.{key} is missing; {channel} cannot send without it")
    if channel is Channel.TELEGRAM and (way := settings.get("updates", UPDATES[0])) not in UPDATES:
        table.note(f"{table.key('settings')}.updates {way!r} is not known; write {' or '.join(UPDATES)}")
    if channel is Channel.SMS and settings:
        _check_sms(table, settings)
    if channel is Channel.WEB_PUSH and (page := settings.get("page")) and not WEB.fullmatch(page):
        table.note(
            f"{table.key('settings')}.page {page!r} does not fit; write the https:// address of the comune's page"
        )
    if channel is Channel.WHATSAPP:
        _check_templates(table, settings)
    for key in filter(SECRET.search, settings):
        table.note(f"{table.key('settings')}.{key} looks like a secret; put it in the secrets file, not here")
    if channel is Channel.EMAIL and (url := settings.get("url")) and not MAIL_SERVER.fullmatch(url):
        table.note(f"{table.key('settings')}.url {url!r} is no mail server; write smtp://host:587 or smtps://host:465")
    if channel is Channel.MQTT and (url := settings.get("url")) and not MQTT_BROKER.fullmatch(url):
        table.note(
            f"{table.key('settings')}.url {url!r} is no MQTT broker; write mqtts://host:8883 or mqtt://host:1883"
        )
    identity = table.text("identity")
    if identity and written in known:
        _check_identity(table, channel, identity)
    portfolio, people_per_day = _portfolio(table)
    price = table.number("euro_per_text") if table.has("euro_per_text") else None
    if price is not None and not 0 <= price <= DEAREST:
        table.note(f"{table.key('euro_per_text')} is not between 0 and {DEAREST}; write the price of one text in euro")
    table.nothing_else()
    return ChannelAccess(name, channel, per_second, identity, settings, exercise, portfolio, people_per_day, price)


def _sms_price(table: Table) -> float:
    """What an SMS would cost, for reports."""
    price = table.number("sms")
    if not 0 <= price <= DEAREST:
        table.note(f"{table.key('sms')} is not between 0 and {DEAREST}; write the price of one SMS in euro")
    table.nothing_else()
    return price


def _portfolio(table: Table) -> tuple[str, int]:
    """Whose daily quota of people a number draws on, and how many they are; nobody's where the file says nothing."""
    portfolio = table.text_if_any("portfolio") or ""
    if not portfolio:
        return "", 0
    table.check("portfolio", portfolio, CODE, "a short name in small letters, the same in each file that shares it")
    people = table.whole("people_per_day")
    if people < 1:
        table.note(f"{table.key('people_per_day')} is not a number of people; write the portfolio's limit: 2000")
    return portfolio, people


def _check_identity(table: Table, channel: Channel, identity: str) -> None:
    key = table.key("identity")
    try:
        match channel:
            case Channel.WHATSAPP:
                if (e164 := phone(identity).e164) != identity:
                    table.note(f"{key} {identity!r} is not in E.164; write {e164}")
            case Channel.TELEGRAM:
                if not telegram_chat(identity).startswith("@"):
                    table.note(f"{key} {identity!r} is not a channel's name; write @ and the name people look for")
            case Channel.EMAIL:
                if (address := email_address(identity)) != identity:
                    table.note(f"{key} {identity!r} is not written as it is sent; write {address}")
            case Channel.SMS:
                if flaw := _flaw_of_sender(identity):
                    table.note(f"{key} {identity!r} {flaw}")
            case Channel.WEB_PUSH:
                if not WEB.fullmatch(identity) and identity != f"mailto:{email_address(identity)}":
                    table.note(f"{key} {identity!r} is nobody a push service can ask; write mailto: and an address")
            case Channel.MQTT:
                pass  # a name for the staff; no panel shows it
    except AddressError as cause:
        table.note(f"{key} {identity!r} cannot be written to: {cause}")


def _check_templates(table: Table, settings: dict[str, str]) -> None:
    key = table.key("settings")
    if (names := settings.get("template_parameters")) is not None:
        written = parameter_names(names)
        if len(set(written)) != VARIABLES or len(written) != VARIABLES:
            table.note(f"{key}.template_parameters has not {VARIABLES} different names; an alert has as many variables")
    if (standby := settings.get("standby_template")) and standby == settings.get("template"):
        table.note(f"{key}.standby_template is the template itself; register another one with the same words")


def _check_sms(table: Table, settings: dict[str, str]) -> None:
    key = table.key("settings")
    if (sender := settings.get("sender")) and (flaw := _flaw_of_sender(sender)):
        table.note(f"{key}.sender {sender!r} {flaw}")
    if (coding := settings.get("data_coding", DATA_CODINGS[0])) not in DATA_CODINGS:
        table.note(f"{key}.data_coding {coding!r} is not known; write {' or '.join(DATA_CODINGS)}")
    begins = PROTOCOLS.get(protocol := settings.get("protocol", ""))
    if protocol and begins is None:
        table.note(f"{key}.protocol {protocol!r} is not known; write {' or '.join(PROTOCOLS)}")
    if begins and not (url := settings.get("url", begins[0])).startswith(begins):
        table.note(f"{key}.url {url!r} is no address of this protocol; it begins with {' or '.join(begins)}")
    if protocol == "rest":
        if (kind := settings.get("message_type", "")) not in MESSAGE_TYPES:
            table.note(f"{key}.message_type {kind!r} is not known; write {' or '.join(MESSAGE_TYPES)}")
        if (how := settings.get("authentication", AUTHENTICATIONS[0])) not in AUTHENTICATIONS:
            table.note(f"{key}.authentication {how!r} is not known; write {' or '.join(AUTHENTICATIONS)}")


def _flaw_of_sender(sender: str) -> str | None:
    """What is wrong with who an SMS comes from: an alias, or a number in E.164."""
    if ALIAS.fullmatch(sender):
        return None
    try:
        e164 = phone(sender).e164
    except AddressError:
        return "is neither a number nor an alias; an alias has at most 11 letters and digits"
    return None if e164 == sender else f"is not in E.164; write {e164}"


def _feed(table: Table) -> FeedPolicy:
    source = table.matching("source", CODE, "the name of a source's file: dpc-criticita")
    then = _one_of(table, "then", table.text("then"), Then)
    colours = [_one_of(table, "colours", word, Colour) for word in table.texts("colours", optional=True)]
    risks = [_one_of(table, "risks", word, Risk) for word in table.texts("risks", optional=True)]
    table.nothing_else()
    return FeedPolicy(source, then or Then.SHOW, frozenset(filter(None, colours)), frozenset(filter(None, risks)))


def _one_of(table: Table, key: str, word: str, words: type[Word]) -> Word | None:
    known = {str(member.value): member for member in words}
    if word and word not in known:
        table.note(f"{table.key(key)} {word!r} is not known; write one of {', '.join(known)}")
    return known.get(word)


def _duty(table: Table, channels: tuple[ChannelAccess, ...]) -> Duty:
    account, to = table.text("account"), table.text("to")
    if account and account not in {access.name for access in channels if not access.exercise}:
        table.note(f"{table.key('account')} {account!r} is no account of this file; write one of its [[channels]]")
    table.nothing_else()
    return Duty(account, to)


def _staff(table: Table, code: str) -> Staff:
    name = table.matching("name", CODE, "a short name in small letters: sala")
    matters = [_one_of(table, "for", word, Matter) for word in table.texts("for")]
    quiet = None
    if table.has("quiet") and HOURS.fullmatch(
        hours := table.matching("quiet", HOURS, "from when until when: 22:00-07:00")
    ):
        begins, _, ends = hours.partition("-")
        quiet = Quiet(time.fromisoformat(begins), time.fromisoformat(ends))
        if begins == ends:
            table.note(f"{table.key('quiet')} begins when it ends; leave it out, or write when it ends")
    table.nothing_else()
    return Staff(name, frozenset(filter(None, matters)), quiet, code)


# ── panels and sirens ───────────────────────────────────────────────────────────────────────────────


def _panel(table: Table, territory: Territory | None) -> Panel:
    name = table.matching("id", CODE, "small letters, digits and hyphens: ponte-fornacette")
    if len(name) > LONGEST_PANEL_NAME:
        table.note(f"{table.key('id')} has {len(name)} letters; write at most {LONGEST_PANEL_NAME}")
    kind = _one_of(table, "kind", table.text("kind"), PanelKind) or PanelKind.VMS
    lines = _size(table, "lines", PANEL_LINES, 1, MOST_LINES)
    columns = _size(table, "columns", PANEL_COLUMNS, FEWEST_COLUMNS, MOST_COLUMNS)
    only = [_one_of(table, "only", word, Lane) for word in table.texts("only", optional=True)]
    lanes = frozenset(filter(None, only)) or FOR[kind]
    if kind is PanelKind.SIREN and lanes != FOR[kind]:
        table.note(f"{table.key('only')} is not flash alone; a siren sounds for imminent danger to life or not at all")
    place, exercise = _place_of(table, territory), table.flag("exercise", optional=True)
    table.nothing_else()
    return Panel(name, kind, place, lines, columns, lanes, exercise)


def _size(table: Table, key: str, default: int, fewest: int, most: int) -> int:
    size = table.whole(key) if table.has(key) else default
    if not fewest <= size <= most:
        table.note(f"{table.key(key)} is not between {fewest} and {most}; write how many the panel has")
    return size


def _place_of(table: Table, territory: Territory | None) -> Place:
    """Where it stands; nowhere where there was something to note."""
    has_area, has_point = table.has("area"), table.has("point")
    if has_area == has_point:
        table.note(f"{table.key('area')} and point: write one of the two, or nobody knows what the panel is told")
    elif has_area:
        written = table.text("area")
        for area in territory.areas if territory else ():
            if written and written in (area.code, area.code.partition(".")[2]):
                precision = Precision.FRAZIONE if territory and area is not territory.comune else Precision.COMUNE
                return Place(precision, (area.code,))
        if territory and written:
            known = ", ".join(area.code.rpartition(".")[2] for area in territory.areas)
            table.note(f"{table.key('area')} {written!r} is no area of this file; write one of {known}")
    else:
        match table.values("point"):
            case [float() | int() as lat, float() | int() as lon]:
                try:
                    point = Point(lat, lon)
                except ShapeError as cause:
                    table.note(f"{table.key('point')}: {cause}")
                else:
                    if territory is None or territory.gazetteer.of(point):
                        return Place(Precision.ADDRESS, point=point)
                    table.note(f"{table.key('point')} lies outside the comune; write latitude, then longitude")
            case _:
                table.note(f"{table.key('point')} is not [latitude, longitude]; write two numbers in brackets")
    return NOWHERE


def _misplaced(panels: tuple[Panel, ...], channels: tuple[ChannelAccess, ...]) -> Iterator[str]:
    """What no panel by itself shows: two of one name, and none that no account of MQTT can tell."""
    for one, other in combinations(panels, 2):
        if one.name == other.name:
            yield f"two panels are called {one.name}; rename one"
    told = {access.exercise for access in channels if access.channel is Channel.MQTT}
    for panel in panels:
        if panel.exercise not in told:
            yield (
                f"panel {panel.name} has no account on mqtt{' for exercises' if panel.exercise else ''} that tells it; "
                "add one to [[channels]]"
            )


# ── texts ───────────────────────────────────────────────────────────────────────────────────────────


def _texts(
    table: Table,
    name: str,
    contact: Contact,
    policy: Policy,
    keywords: Keywords,
    places: str,
) -> Texts:
    facts = {
        "name": name,
        "join": keywords.join,
        "leave": keywords.leave,
        "policy": policy.url,
        "phone": contact.phone or "",
        "email": contact.email or "",
        "frazioni": places,
    } | {later: f"{{{later}}}" for later in AWAITED}
    filled = {field.name: _filled(table, field.name, facts) for field in fields(Texts)}
    table.nothing_else()
    return Texts(**filled)


def _filled(table: Table, key: str, facts: dict[str, str]) -> str:
    template = table.text(key)
    if not template:
        return ""
    name = table.key(key)
    try:
        placeholders = {field for _, field, _, _ in Formatter().parse(template) if field is not None}
    except ValueError as cause:
        table.note(f"{name} has braces that cannot be read ({cause}); write them as in {{policy}}")
        return ""
    for unknown in sorted(placeholders - facts.keys()):
        table.note(f"{name} has {{{unknown}}}, which nothing fills in; use one of {', '.join(sorted(facts))}")
    for empty in sorted(field for field in placeholders & facts.keys() if not facts[field]):
        table.note(f"{name} has {{{empty}}}, which this file does not give; write it, or leave it out here")
    for early in sorted(later for later, keys in AWAITED.items() if later in placeholders and key not in keys):
        table.note(f"{name} has {{{early}}}, which is known in {' and '.join(AWAITED[early])} only; leave it out")
    if placeholders - facts.keys():
        return ""
    text = template.format_map(facts)
    wanted = tuple(facts[fact] for fact in MUST_SAY.get(key, ()) if facts[fact])
    for flaw in flaws_of_text(name, text, facts["name"], wanted):
        table.note(flaw)
    return text


# ── between files ───────────────────────────────────────────────────────────────────────────────────


def _disagreements(authorities: list[Authority]) -> Iterator[str]:
    """What each file may say, and two together may not."""
    for one, other in combinations(authorities, 2):
        files = f"{one.code}.toml and {other.code}.toml"
        if one.istat == other.istat:
            yield f"{files}: both have the istat {one.istat}; correct the one that is not theirs"
        for mine in one.channels:
            for theirs in other.channels:
                yield from (f"{files}: {flaw}" for flaw in _told_apart(one, mine, other, theirs))
                yield from (f"{files}: {flaw}" for flaw in _one_limit(mine, theirs))


def _one_limit(mine: ChannelAccess, theirs: ChannelAccess) -> Iterator[str]:
    if mine.portfolio and mine.portfolio == theirs.portfolio and mine.people_per_day != theirs.people_per_day:
        yield (
            f"portfolio {mine.portfolio} has {mine.people_per_day} and {theirs.people_per_day} people_per_day; "
            "it is one limit for both, so write one number"
        )


def _told_apart(one: Authority, mine: ChannelAccess, other: Authority, theirs: ChannelAccess) -> Iterator[str]:
    if mine.channel is not theirs.channel or mine.channel is Channel.MQTT:  # nobody writes to a panel
        return
    if mine.identity == theirs.identity:
        if alike := clashes(one.keywords, other.keywords):
            yield (
                f"both are reached at {mine.identity}, and nobody could tell whose {', '.join(alike[:3])} "
                "is meant; give one of them another number or keywords of several words"
            )
    elif (number := mine.settings.get("phone_number_id")) and number == theirs.settings.get("phone_number_id"):
        yield f"{mine.name} and {theirs.name} have the phone_number_id {number} for two numbers; correct one"
