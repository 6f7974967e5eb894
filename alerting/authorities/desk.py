"""The desk of a two-way comune, from its file: what is reported, which offices receive, what the desk answers."""

import re
from dataclasses import fields
from datetime import date, time, timedelta
from string import Formatter

from alerting.authorities.reading import CODE, Table
from alerting.domain import desk as domain
from alerting.domain.appointments import NIGHT_BEGINS, NIGHT_ENDS, Office, Opening
from alerting.domain.authority import flaws_of_text
from alerting.domain.desk import AWAITED, MUST_SAY, Category, Desk, DeskTexts
from alerting.domain.keywords import fold

WEEKDAYS = {"lun": 0, "mar": 1, "mer": 2, "gio": 3, "ven": 4, "sab": 5, "dom": 6}
HOURS = re.compile(r"(lun|mar|mer|gio|ven|sab|dom) ([01]?[0-9]|2[0-3]):([0-5][0-9])-([01]?[0-9]|2[0-3]):([0-5][0-9])")
TIME = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
MONTH_AND_DAY = re.compile(r"(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])")
CLOSED = re.compile(r"(\d{4}-\d\d-\d\d)(?:/(\d{4}-\d\d-\d\d))?")

MOST_CATEGORIES, MOST_OFFICES = 12, 9
"""What fits into one question that people read on a telephone."""
MOST_A_MINUTE = 600
LONGEST_SLOT, MOST_AT_ONCE, FARTHEST = 240, 50, 366
WIDEST_CHOICE = 400
"""Characters that a list of choices adds to a text."""


def read_desk(table: Table, name: str, *, two_way: bool) -> Desk | None:
    """The `[desk]` of the comune called `name`; what is wrong with it is noted."""
    if not two_way:
        table.note("desk is for a two-way comune; write two_way = true, or leave it out")
    categories = tuple(_category(one) for one in table.tables("categories"))
    offices = tuple(_office(one) for one in table.tables_if_any("offices"))
    for what, codes, most in (
        ("categories", [one.code for one in categories], MOST_CATEGORIES),
        ("offices", [one.code for one in offices], MOST_OFFICES),
    ):
        if len(set(codes)) < len(codes):
            table.note(f"{table.key(what)} has a code twice; give each its own")
        if len(codes) > most:
            table.note(f"{table.key(what)} has {len(codes)} entries, and a citizen is asked to choose; {most} at most")
    said: dict[str, str] = {}
    for one in categories:
        for word in one.words:
            other = said.setdefault(" ".join(fold(word)), one.code)
            if other != one.code:
                table.note(f"{table.key('categories')}: {word!r} is in both {other} and {one.code}; keep it in one")
    reminder = time(10)
    if table.has("reminder") and TIME.fullmatch(at := table.matching("reminder", TIME, "a time of the day: 10:00")):
        reminder = time.fromisoformat(at)
        if not NIGHT_ENDS <= reminder < NIGHT_BEGINS:
            table.note(f"{table.key('reminder')} is at night; nobody is reminded between 21:00 and 08:00")
    desk = Desk(
        categories=categories,
        offices=offices,
        texts=_texts(table.table("texts"), name, _choices(categories, offices)),
        answers_per_minute=_whole(table, "answers_per_minute", 60, MOST_A_MINUTE),
        retention_days=_whole(table, "retention_days", 90, 3650),
        duplicate_days=_whole(table, "duplicate_days", 14, 365),
        reminder_at=reminder,
    )
    table.nothing_else()
    return desk


def _choices(categories: tuple[Category, ...], offices: tuple[Office, ...]) -> int:
    lists = (domain.listed(one.name for one in some) for some in (categories, offices))
    return max(WIDEST_CHOICE, *(len(one) for one in lists))


def _category(table: Table) -> Category:
    code = table.matching("code", CODE, "small letters, digits and hyphens: buche")
    name = table.text("name")
    words = table.values("words") if table.has("words") and table._values["words"] else []  # "altro" has none
    for word in words:
        if not isinstance(word, str) or not fold(word):
            table.note(f"{table.key('words')}: {word!r} is no word; write those that citizens use")
    office = table.text_if_any("office") or ""
    table.nothing_else()
    return Category(code, name, tuple(word for word in words if isinstance(word, str)), office)


def _office(table: Table) -> Office:
    code = table.matching("code", CODE, "small letters, digits and hyphens: anagrafe")
    minutes = table.whole("minutes")
    if not 5 <= minutes <= LONGEST_SLOT:
        table.note(f"{table.key('minutes')} is not between 5 and {LONGEST_SLOT}; write how long one person takes")
    office = Office(
        code=code,
        name=table.text("name"),
        words=table.texts("words", optional=True),
        hours=tuple(_openings(table, minutes)),
        minutes=minutes,
        capacity=_whole(table, "capacity", 1, MOST_AT_ONCE),
        where=table.text("where"),
        holidays=frozenset(_holidays(table)),
        closed=tuple(_closed(table)),
        notice=timedelta(hours=_whole(table, "notice_hours", 2, 240)),
        horizon=timedelta(days=_whole(table, "days_ahead", 30, FARTHEST)),
    )
    table.nothing_else()
    return office


def _openings(table: Table, minutes: int) -> list[Opening]:
    found: list[Opening] = []
    for written in table.texts("hours"):
        fit = HOURS.fullmatch(written)
        if fit is None:
            table.note(f"{table.key('hours')} {written!r} does not fit; write a day and its hours: lun 9:00-12:00")
            continue
        opening = Opening(WEEKDAYS[fit[1]], time(int(fit[2]), int(fit[3])), time(int(fit[4]), int(fit[5])))
        length = (opening.ends.hour - opening.begins.hour) * 60 + opening.ends.minute - opening.begins.minute
        if length < minutes:
            table.note(f"{table.key('hours')} {written!r} has no room for one appointment of {minutes} minutes")
        if any(o.weekday == opening.weekday and o.begins < opening.ends and opening.begins < o.ends for o in found):
            table.note(f"{table.key('hours')} {written!r} overlaps other hours of that day; write them as one")
        found.append(opening)
    return found


def _holidays(table: Table) -> list[tuple[int, int]]:
    found = []
    for written in table.texts("holidays", optional=True):
        if MONTH_AND_DAY.fullmatch(written) is None:
            table.note(f"{table.key('holidays')} {written!r} is no month and day; write 07-24")
        else:
            found.append((int(written[:2]), int(written[3:])))
    return found


def _closed(table: Table) -> list[tuple[date, date]]:
    found = []
    for written in table.texts("closed", optional=True):
        fit = CLOSED.fullmatch(written)
        try:
            first = date.fromisoformat(fit[1]) if fit else None
            last = date.fromisoformat(fit[2]) if fit and fit[2] else first
        except ValueError:
            first = last = None
        if first is None or last is None or last < first:
            table.note(f"{table.key('closed')} {written!r} are no days; write 2026-12-24 or 2026-12-24/2027-01-06")
        else:
            found.append((first, last))
    return found


def _whole(table: Table, key: str, otherwise: int, most: int) -> int:
    if not table.has(key):
        return otherwise
    number = table.whole(key)
    if not 1 <= number <= most:
        table.note(f"{table.key(key)} is not between 1 and {most}")
        return otherwise
    return number


def _texts(table: Table, name: str, choices: int) -> DeskTexts:
    texts = DeskTexts(**{field.name: _text(table, field.name, name, choices) for field in fields(DeskTexts)})
    table.nothing_else()
    return texts


def _text(table: Table, key: str, name: str, choices: int) -> str:
    template = table.text(key)
    full = table.key(key)
    if not template:
        return ""
    try:
        named = {field for _, field, _, _ in Formatter().parse(template) if field is not None}
    except ValueError as cause:
        table.note(f"{full} has braces that cannot be read ({cause}); write them as in {{numero}}")
        return ""
    allowed = {"name", *(fact for fact, keys in AWAITED.items() if key in keys)}
    for unknown in sorted(named - allowed):
        table.note(f"{full} has {{{unknown}}}, which nothing fills in here; use one of {', '.join(sorted(allowed))}")
    for missing in (fact for fact in MUST_SAY.get(key, ()) if fact not in named):
        table.note(f"{full} does not mention {{{missing}}}; add it")
    if named - allowed:
        return ""
    text = template.replace("{name}", name)
    for flaw in flaws_of_text(full, text.replace("{scelte}", "·" * choices), name, ()):
        table.note(flaw)
    return text
