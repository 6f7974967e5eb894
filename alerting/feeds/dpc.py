"""The national bulletin of criticità, from the archive as published to a colour for each zone, risk and day.

The CAP file names only zones with a colour; the two tables name every zone, the green ones too. So an end is believed
only from the tables, and a colour from either: where they differ the graver one counts, and somebody is told.
Facts: reference/cap-and-italy.md 2.1 to 2.4, read on bulletins of 2023 to 2026.
"""

import csv
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from io import StringIO

from alerting.cap_xml import reading as cap_reading
from alerting.domain.cap import Alert, Info, MsgType, Status
from alerting.domain.findings import Finding, Weight
from alerting.domain.kinds import WITHOUT_RED, Colour, Risk
from alerting.domain.outlook import GRAVITY, Outlook, Span, graver, outlook, remaining
from alerting.domain.rendering import ROME
from alerting.feeds import archive, dbf

SENDER = "2.49.0.0.380.1"
ZONE = "Zona di Allerta"
PUBLISHED_BY = time(16, 30)
"""The Dipartimento publishes by 16:00; half an hour later its silence is an alarm."""

NATIONAL = (Risk.IDRAULICO, Risk.IDROGEOLOGICO, Risk.TEMPORALI)
RISK_CALLED = {risk.value: risk for risk in NATIONAL}
COLOUR_CALLED = {colour.value: colour for colour in Colour}
COLOUR_OF_LEVEL = {"ordinaria": Colour.GIALLA, "moderata": Colour.ARANCIONE, "elevata": Colour.ROSSA}
"""The bulletin's own scale. Not CAP's: "moderata" is Severe."""

WORDING = re.compile(
    r"(?P<none>assenza di fenomeni significativi prevedibili / nessuna allerta)"
    r"|(?P<level>[a-z]+)( criticita'?)?( per rischio (?P<risk>[a-z]+))? / allerta (?P<colour>[a-z]+) ?:?"
)
ZONE_CODE = re.compile(r"[A-Z][A-Za-z]{3}-[A-Z0-9][A-Za-z0-9]{0,3}")
"""`Tosc-A4`, `VDAo-C`, `Cala-7`."""

STAMP = r"(?P<stamp>[0-9]{8}_[0-9]{4})"
TABLE_FILE = re.compile(STAMP + r"_(?P<day>today|tomorrow)\.dbf", re.IGNORECASE)
CAP_FILE = re.compile(r"Cap_" + STAMP + r"\.xml", re.IGNORECASE)
WANTED = re.compile(STAMP.replace("?P<stamp>", "") + r"_(today|tomorrow)\.(dbf|cpg)|Cap_[0-9_]+\.xml", re.IGNORECASE)

DBF_COLUMNS = {"Idraulico": Risk.IDRAULICO, "Idrogeo": Risk.IDROGEOLOGICO, "Temporali": Risk.TEMPORALI}
CSV_COLUMNS = {
    "avviso_idraulico": Risk.IDRAULICO,
    "avviso_idrogeologico": Risk.IDROGEOLOGICO,
    "avviso_temporali": Risk.TEMPORALI,
}
LONGEST_CSV = 4_000_000
MOST_FINDINGS = 200
MOST_DAYS = 3
"""Today and the two days after. Nobody forecasts a colour for a week."""
LATE = timedelta(hours=2)
SENSIBLE_YEARS = range(2000, 2200)


class BulletinUnreadable(Exception):
    """Nothing of it may be used, not even to end what was told. The sentence says why."""


@dataclass(frozen=True, slots=True)
class Bulletin:
    """One national bulletin.

    `zones`: what each zone holds, nothing at all where it is green. A zone that is absent is unknown, never green.
    `at_least`: zones of which something could not be read; they hold this, and whatever they held before.
    `days`: the days of which there is a table, or of which at least the CAP file speaks.
    """

    identifier: str
    issued: datetime
    days: tuple[date, ...]
    zones: dict[str, Outlook]
    findings: tuple[Finding, ...]
    at_least: frozenset[str] = frozenset()


def read_archive(raw: bytes) -> Bulletin:
    """The bulletin of an `…_all.zip` or `latest_all.zip`: its CAP file against its two tables.

    Raises BulletinUnreadable when it is no archive, holds neither tables nor CAP, or is not meant to be acted on.
    """
    try:
        opened = archive.read(raw, WANTED)
    except archive.ArchiveUnreadable as error:
        raise BulletinUnreadable(str(error)) from error
    issued = max(filter(None, map(_published, opened.members)), default=None)
    if issued is None:
        raise BulletinUnreadable(_because("the archive holds no table and no CAP file of a bulletin", opened.findings))
    gathering = _Gathering(issued, list(opened.findings))
    members = _of_this_one(opened.members, gathering)
    identifier = f"{issued:%Y%m%d_%H%M}"
    for name in sorted(members):
        if match := TABLE_FILE.fullmatch(name):
            _take_table(gathering, name, match["day"].lower(), members)
    alert = _cap_of(members, gathering)
    if alert is not None:
        identifier = alert.identifier
        _take_cap(gathering, alert)
    elif not gathering.sheets:
        raise BulletinUnreadable(_because("neither its tables nor its CAP file can be read", gathering.findings))
    return gathering.bulletin(identifier)


def read_tables(*texts: str) -> Bulletin:
    """The bulletin of the tables by zone that are republished as CSV: one for today, one for tomorrow.

    Raises BulletinUnreadable when one is no such table, or when they are of different bulletins.
    """
    rows = [row for text in texts for row in _csv_rows(text)]
    issues = {_csv_moment(row, "data_pubblicazione") for row in rows}
    if len(issues) != 1:
        raise BulletinUnreadable(f"the tables are of {len(issues)} bulletins; give today's and tomorrow's of one")
    gathering = _Gathering(issues.pop())
    for row in rows:
        day = _csv_moment(row, "data_validita_inizio").astimezone(ROME).date()
        gathering.row(day, row["zona_codice"], row, CSV_COLUMNS, "avviso_criticita")
    return gathering.bulletin(f"{gathering.issued.astimezone(ROME):%Y%m%d_%H%M}")


def holds(bulletin: Bulletin, codes: Iterable[str], told: Outlook, now: datetime) -> Outlook | None:
    """What a place in these zones holds by a bulletin, the graver of several zones.

    What was told stands where the bulletin does not speak of a zone, or not wholly, and after the last of its days: no
    data is not green. None when it speaks of none of them.
    """
    codes = tuple(codes)
    known = [bulletin.zones[code] for code in codes if code in bulletin.zones]
    if not known:
        return None
    sure = len(known) == len(codes) and not bulletin.at_least.intersection(codes)
    spoken_of = datetime.combine(max(bulletin.days) + timedelta(days=1), time(), ROME)
    return graver(*known, remaining(told, max(now, spoken_of) if sure else now))


def newer(previous: Bulletin | None, this: Bulletin) -> bool:
    """Whether this one says something after the other: later, or an erratum under the same hour.

    The same bulletin again and one that arrives out of order are not.
    """
    if previous is None or this.issued > previous.issued:
        return True
    return this.issued == previous.issued and (this.zones, this.at_least) != (previous.zones, previous.at_least)


def zones_changed(previous: Iterable[str], codes: Iterable[str]) -> tuple[Finding, ...]:
    """The zones that came and went since the bulletin before: 156, 170 and 187 of them in a few years.

    A comune whose zone is gone hears nothing more until somebody looks up its new one.
    """
    before, after = set(previous), set(codes)
    new = [
        Finding("zone-new", Weight.WARNING, None, f"zone {code} is new; look whether a comune of ours lies in it")
        for code in sorted(after - before)
    ]
    gone = [
        Finding("zone-gone", Weight.ERROR, None, f"zone {code} is no longer named; look up what its comuni are in now")
        for code in sorted(before - after)
    ]
    return (*new, *gone)


def missing(now: datetime, last_issued: datetime | None) -> bool:
    """Whether a bulletin should have come by now and has not: today's from 16:30 on, until then yesterday's."""
    there = now.astimezone(ROME)
    due = there.date() if there.time() >= PUBLISHED_BY else there.date() - timedelta(days=1)
    return last_issued is None or last_issued.astimezone(ROME).date() < due


# ── gathering ───────────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class _Gathering:
    """All that a bulletin's files say, while they are read.

    `sheets`: for each day that has a table, the colour of each risk of each zone, None for green; a risk that could
    not be read is absent. `cap`: the colours that the CAP file names, by zone and day; None without a CAP file.
    """

    issued: datetime
    findings: list[Finding] = field(default_factory=list)
    sheets: dict[date, dict[str, dict[Risk, Colour | None]]] = field(default_factory=lambda: defaultdict(dict))
    cap: dict[tuple[str, date], dict[Risk, Colour]] | None = None
    doubtful: set[str] = field(default_factory=set)

    def note(self, rule: str, text: str, weight: Weight = Weight.WARNING) -> None:
        self.findings.append(Finding(rule, weight, None, text))

    @property
    def today(self) -> date:
        return self.issued.astimezone(ROME).date()

    def row(
        self, day: date, code: str | None, cells: Mapping[str, str], columns: Mapping[str, Risk], overall: str
    ) -> None:
        """One row of a table: a zone and the words for each of its risks."""
        if day not in (self.today, self.today + timedelta(days=1)):
            self.note("day-unknown", f"{day} is neither the day of the bulletin nor the next; not used", Weight.ERROR)
            return
        code = (code or "").strip()
        if not ZONE_CODE.fullmatch(code):
            self.note("zone-code", f"{code[:40]!r} is no zone's code; the row of {day} is not used", Weight.ERROR)
            return
        sheet = self.sheets[day]
        if code in sheet:
            self.note("zone-twice", f"{code} is twice in the table of {day}; the graver row counts")
        known = sheet.setdefault(code, {})
        for column, risk in columns.items():
            wording = _read(cells.get(column))
            if wording is None or wording.risk not in (None, risk):
                self._unknown(code, f"{column} of {day}", cells.get(column))
                continue
            known[risk] = _graver(known.get(risk), self._colour(code, risk, wording))
        self._overall(day, code, cells.get(overall), known)

    def _overall(self, day: date, code: str, text: str | None, known: dict[Risk, Colour | None]) -> None:
        """The column drawn on the map names the gravest risk. It may be the one that is right."""
        wording = _read(text)
        if wording is None:
            self._unknown(code, f"the colour on the map of {day}", text)
        elif wording.colour is not None and _rank(wording.colour) > max(map(_rank, known.values()), default=0):
            if wording.risk is None:
                self._unknown(code, f"the colour on the map of {day}", text)
                return
            self.note("map-graver", f"{code} is graver on the map of {day} than in its columns; the graver counts")
            known[wording.risk] = self._colour(code, wording.risk, wording)

    def named(self, code: str, day: date, risk: Risk, wording: "_Wording") -> None:
        """One zone of one info of the CAP file."""
        assert self.cap is not None
        colours = self.cap.setdefault((code, day), {})
        if colour := _graver(colours.get(risk), self._colour(code, risk, wording)):
            colours[risk] = colour

    def _colour(self, code: str, risk: Risk, wording: "_Wording") -> Colour | None:
        if not wording.agrees:
            self.note("level-and-colour", f"level and colour of {risk.value} in {code} differ; the graver counts")
        if risk in WITHOUT_RED and wording.colour is Colour.ROSSA:
            self.note("temporali-red", f"{code} has red for temporali, a scale that ends at orange; read as orange")
            return Colour.ARANCIONE
        return wording.colour

    def _unknown(self, code: str, where: str, text: str | None) -> None:
        self.doubtful.add(code)
        self.note("colour-unknown", f"{code}, {where}: {(text or '')[:80]!r} is no colour we know", Weight.ERROR)

    def bulletin(self, identifier: str) -> Bulletin:
        self._cross_check()
        spans: dict[str, list[Span]] = defaultdict(list)
        for day, sheet in self.sheets.items():
            for code, colours in sheet.items():
                spans[code] += self._spans(day, colours)
        for (code, day), named in (self.cap or {}).items():
            spans[code] += self._spans(day, named)
        whole = self._wholly_known()
        zones = {code: held for code in sorted(spans) if (held := outlook(spans[code])) or code in whole}
        days = sorted(self.sheets) or sorted({day for _, day in self.cap or {}})
        return Bulletin(identifier, self.issued, tuple(days), zones, self._bounded(), frozenset(zones.keys() - whole))

    def _wholly_known(self) -> set[str]:
        """The zones with a row for both days and nothing odd in it: only they can be green, or end something."""
        both = (self.today, self.today + timedelta(days=1))
        whole = [set(self.sheets.get(day, ())) for day in both]
        return set.intersection(*whole) - self.doubtful

    def _spans(self, day: date, colours: Mapping[Risk, Colour | None]) -> list[Span]:
        """Today begins when the bulletin is issued, and every day ends at the next midnight of Rome."""
        starts = max(self.issued, datetime.combine(day, time(), ROME))
        ends = datetime.combine(day + timedelta(days=1), time(), ROME)
        return [Span(risk, colour, starts, ends) for risk, colour in colours.items() if colour is not None]

    def _cross_check(self) -> None:
        if self.cap is None:
            return
        for day, sheet in self.sheets.items():
            for code, colours in sheet.items():
                named = self.cap.get((code, day), {})
                for risk, colour in colours.items():
                    if colour is not named.get(risk):
                        self.note(
                            "cap-table-disagree",
                            f"{risk.value} in {code} on {day}: {_called(colour)} in the table, "
                            f"{_called(named.get(risk))} in the CAP file; the graver counts",
                        )
            for code, _ in sorted(place for place in self.cap if place[1] == day and place[0] not in sheet):
                self.note("zone-only-in-cap", f"{code} has a colour in the CAP file and no row in the table of {day}")

    def _bounded(self) -> tuple[Finding, ...]:
        distinct = list(dict.fromkeys(self.findings))
        if len(distinct) > MOST_FINDINGS:
            rest = Finding("more", Weight.NOTE, None, f"and {len(distinct) - MOST_FINDINGS} more like these")
            distinct = [*distinct[:MOST_FINDINGS], rest]
        return tuple(distinct)


# ── the archive's files ─────────────────────────────────────────────────────────────────────────────


def _published(name: str) -> datetime | None:
    """When a file says it was published, on the clocks of Rome; None for one that says nothing sensible."""
    match = TABLE_FILE.fullmatch(name) or CAP_FILE.fullmatch(name)
    try:
        moment = datetime.fromisoformat(match["stamp"].replace("_", "T")) if match else None
    except ValueError:
        return None
    return moment.replace(tzinfo=ROME) if moment and moment.year in SENSIBLE_YEARS else None


def _of_this_one(members: Mapping[str, bytes], gathering: _Gathering) -> dict[str, bytes]:
    """The files of the latest bulletin. Of two in one archive the older is not read: its "today" is another day."""
    kept = {}
    for name, content in sorted(members.items()):
        if name.lower().endswith(".cpg") or _published(name) == gathering.issued:
            kept[name] = content
        else:
            gathering.note("bulletin-mixed", f"{name} is of another bulletin than the rest, and not read", Weight.ERROR)
    return kept


def _take_table(gathering: _Gathering, name: str, day: str, members: Mapping[str, bytes]) -> None:
    on = gathering.today + timedelta(days=1 if day == "tomorrow" else 0)
    try:
        table = dbf.read(members[name], name, _encoding(name, members))
    except dbf.TableUnreadable as error:
        gathering.note("dbf-unreadable", str(error), Weight.ERROR)
        return
    gathering.findings += table.findings
    lacking = {"Zona_all", "Criticita", *DBF_COLUMNS} - set(table.columns)
    if lacking:
        gathering.note("dbf-columns", f"{name} lacks {', '.join(sorted(lacking))}; it is not used", Weight.ERROR)
        return
    for row in table.rows:
        gathering.row(on, row["Zona_all"], row, DBF_COLUMNS, "Criticita")
    codes = {row["Zona_all"] for row in table.rows}
    broken = any(finding.weight is Weight.ERROR for finding in table.findings)
    if broken or not all(map(ZONE_CODE.fullmatch, codes)):
        # Bytes lost in the middle join the name of one zone to the colours of the next.
        gathering.doubtful |= codes


def _encoding(name: str, members: Mapping[str, bytes]) -> str:
    """What the code page file beside a table says; latin-1 is what the Dipartimento writes without one."""
    said = members.get(name[: -len("dbf")] + "cpg", b"").decode("latin-1").strip().lower()
    return "utf-8" if said in ("utf-8", "utf8", "65001") else "latin-1"


def _cap_of(members: Mapping[str, bytes], gathering: _Gathering) -> Alert | None:
    """The bulletin's CAP message. Raises BulletinUnreadable when it is not meant to be acted on."""
    raw = next((content for name, content in members.items() if CAP_FILE.fullmatch(name)), None)
    if raw is None:
        gathering.note("cap-missing", "the archive has no CAP file; only the tables count", Weight.ERROR)
        return None
    document = cap_reading.read(raw)
    alert = document.alert
    if alert is None:
        why = next((finding.text for finding in document.findings), "no reason given")
        gathering.note("cap-unreadable", f"the CAP file cannot be read: {why}", Weight.ERROR)
        return None
    gathering.findings += [finding for finding in document.findings if finding.weight is Weight.ERROR]
    if alert.status is not Status.ACTUAL:
        raise BulletinUnreadable(f"bulletin {alert.identifier} is {alert.status.value}, not Actual: not for the public")
    if alert.msg_type not in (MsgType.ALERT, MsgType.UPDATE):
        raise BulletinUnreadable(f"bulletin {alert.identifier} is a {alert.msg_type.value}; look at what it refers to")
    if alert.sender != SENDER:
        gathering.note("cap-sender", f"the CAP file is of {alert.sender}, not {SENDER}; it is not used", Weight.ERROR)
        return None
    if abs(alert.sent - gathering.issued) > LATE:
        gathering.note("issued-differs", f"the CAP file was sent at {alert.sent}, the archive is of {gathering.issued}")
    return alert


def _take_cap(gathering: _Gathering, alert: Alert) -> None:
    gathering.cap = {}
    for info in alert.infos:
        codes = [geocode.value for area in info.areas for geocode in area.geocodes if geocode.name == ZONE]
        wording, days = _read(info.event), _days(info, gathering.today)
        if wording is None or wording.risk is None or wording.colour is None or not days:
            gathering.doubtful.update(codes)
            gathering.note(
                "cap-info-unknown",
                f"{info.event[:80]!r} from {info.onset} to {info.expires} is no risk, colour and day we know; "
                f"what was told for {', '.join(codes[:10]) or 'no zone'} stands",
                Weight.ERROR,
            )
            continue
        for code in codes:
            for day in days:
                gathering.named(code, day, wording.risk, wording)


def _days(info: Info, today: date) -> list[date]:
    """The days an info is for. Its hours are not believed: today's onset is noon, before the bulletin was written."""
    if info.onset is None or info.expires is None:
        return []
    first = info.onset.astimezone(ROME).date()
    last = (info.expires - timedelta(seconds=1)).astimezone(ROME).date()
    days = [today + timedelta(days=n) for n in range(MOST_DAYS)]
    return [day for day in days if first <= day <= last] if first in days and last in days else []


def _because(what: str, findings: Iterable[Finding]) -> str:
    return "; ".join([what, *(finding.text for finding in list(findings)[:5])])


# ── the republished tables ──────────────────────────────────────────────────────────────────────────


def _csv_rows(text: str) -> list[dict[str, str]]:
    if len(text) > LONGEST_CSV:
        raise BulletinUnreadable(f"a table of {len(text)} characters is longer than the {LONGEST_CSV} that are read")
    wanted = {"data_pubblicazione", "data_validita_inizio", "zona_codice", "avviso_criticita", *CSV_COLUMNS}
    try:
        rows = csv.DictReader(StringIO(text.removeprefix("\ufeff")))
        lacking = wanted - set(rows.fieldnames or ())
        if lacking:
            raise BulletinUnreadable(f"the table lacks {', '.join(sorted(lacking))}; look whether its form changed")
        return [{name: row[name] or "" for name in wanted} for row in rows]
    except csv.Error as error:
        raise BulletinUnreadable(f"the table is no CSV: {error}") from error


def _csv_moment(row: Mapping[str, str], column: str) -> datetime:
    try:
        moment = datetime.fromisoformat(row[column])
    except ValueError as error:
        raise BulletinUnreadable(f"{row[column][:40]!r} under {column} is no time") from error
    if moment.tzinfo is None or moment.year not in SENSIBLE_YEARS:
        raise BulletinUnreadable(f"{row[column]!r} under {column} lacks its offset, or is of another age")
    return moment


# ── the wording ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Wording:
    """What a phrase of the bulletin says. `colour` is None for green; `agrees`: level and colour say the same."""

    risk: Risk | None
    colour: Colour | None
    agrees: bool = True


def _read(text: str | None) -> _Wording | None:
    """`Ordinaria / ALLERTA GIALLA`, `MODERATA CRITICITA' PER RISCHIO IDRAULICO / ALLERTA ARANCIONE:`; None: unknown."""
    plain = unicodedata.normalize("NFKD", text or "").encode("ascii", "ignore").decode().lower()
    match = WORDING.fullmatch(" ".join(plain.replace("/", " / ").split()))
    if match is None:
        return None
    if match["none"]:
        return _Wording(None, None)
    level, colour = COLOUR_OF_LEVEL.get(match["level"]), COLOUR_CALLED.get(match["colour"])
    risk = RISK_CALLED.get(match["risk"]) if match["risk"] else None
    if level is None or colour is None or (match["risk"] and risk is None):
        return None
    return _Wording(risk, _graver(level, colour), level is colour)


def _graver(one: Colour | None, other: Colour | None) -> Colour | None:
    return max(one, other, key=_rank)


def _rank(colour: Colour | None) -> int:
    return GRAVITY[colour] if colour else 0


def _called(colour: Colour | None) -> str:
    return colour.value if colour else "verde"
