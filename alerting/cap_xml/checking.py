"""The rules that are prose: what no schema can say about a message, and what a careful issuer would mend."""

import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from alerting.cap_xml.rules import Report, Rule
from alerting.cap_xml.structure import Block, quoted
from alerting.cap_xml.values import is_absolute
from alerting.domain.cap import Alert, Info, MsgType, Scope, Status

LONGEST_HEADLINE = 160
FAR = timedelta(days=7)

_TAGS = (
    "a abbr b big blockquote body br center code dd div dl dt em embed font form h1 h2 h3 h4 h5 h6 head hr html i "
    "iframe img input li link meta object ol p pre s script small span strike strong style sub sup svg table tbody "
    "td th thead tr tt u ul video"
)
_MARKUP = re.compile(
    rf"</?(?:{_TAGS.replace(' ', '|')})(?:[\s/][^<>]*)?>|&(?:#[0-9]{{1,7}}|#x[0-9a-f]{{1,6}}|[a-z]{{2,8}});",
    re.IGNORECASE,
)
_TEXTS_OF_AN_INFO = ("event", "audience", "senderName", "headline", "description", "instruction", "contact")
_TRANSLATED: dict[str, Callable[[Info], str]] = {
    "event": lambda info: info.event,
    "headline": lambda info: info.headline,
    "description": lambda info: info.description,
    "instruction": lambda info: info.instruction,
}


def check(block: Block, alert: Alert | None, report: Report) -> None:
    """Whether what is said agrees with itself. Of a message not understood only the texts are looked at."""
    for info_block in block.within("info"):
        _check_markup(info_block, _TEXTS_OF_AN_INFO, report)
        for area_block in info_block.within("area"):
            _check_markup(area_block, ("areaDesc",), report)
    _check_markup(block, ("source", "note", "restriction"), report)
    if alert is None:
        return
    _check_message(block, alert, report)
    _check_references(block, alert, report)
    if alert.msg_type in (MsgType.ALERT, MsgType.UPDATE) and not alert.infos:
        report.add(Rule.INFO_MISSING, block.line, f"the {alert.msg_type.value} has no <info>: it says nothing; add one")
    for info_block, info in zip(block.within("info"), alert.infos, strict=True):
        _check_words(info_block, info, report)
        _check_times(info_block, info, alert.sent, report)
        _check_areas(info_block, info, alert, report)
    _check_between(block, alert, report)


def _check_message(block: Block, alert: Alert, report: Report) -> None:
    match alert.scope:
        case Scope.RESTRICTED if not alert.restriction:
            report.add(
                Rule.RESTRICTION_MISSING, _line(block, "scope"), "the scope is Restricted; say in <restriction> how"
            )
        case Scope.PRIVATE if not alert.addresses and block.all("scope"):
            report.add(Rule.ADDRESSES_MISSING, _line(block, "scope"), "the scope is Private; name whom in <addresses>")
    if block.all("restriction") and alert.scope is not Scope.RESTRICTED:
        report.add(
            Rule.RESTRICTION_UNUSED,
            _line(block, "restriction"),
            f"there is a <restriction>, and the scope is {alert.scope.value}; mend either",
        )
    if alert.status is not Status.ACTUAL:
        report.add(
            Rule.STATUS_NOT_ACTUAL,
            _line(block, "status"),
            f"the status is {alert.status.value}: nothing for the public",
        )
    if alert.status is Status.EXERCISE and not alert.note:
        report.add(Rule.EXERCISE_WITHOUT_NOTE, _line(block, "status"), "say in <note> which exercise this belongs to")
    if alert.msg_type is MsgType.ERROR and not alert.note:
        report.add(Rule.ERROR_WITHOUT_NOTE, _line(block, "msgType"), "say in <note> why the message was refused")
    if block.all("password"):
        report.add(Rule.PASSWORD, _line(block, "password"), "a password that travels is none; leave it out")


def _check_references(block: Block, alert: Alert, report: Report) -> None:
    line = _line(block, "references")
    seen = set()
    for reference in alert.references:
        name = quoted(reference.identifier)
        if (reference.sender, reference.identifier) == (alert.sender, alert.identifier):
            report.add(Rule.REFERENCE_SELF, line, f"the message refers to its own identifier {name}; give it a new one")
        elif reference.sent > alert.sent:
            report.add(
                Rule.REFERENCE_POSTDATED,
                line,
                f"{name} was sent at {reference.sent.isoformat()}, after this message; check both times",
            )
        if reference in seen:
            report.add(Rule.REFERENCE_REPEATED, line, f"{name} is named more than once; name it once")
        seen.add(reference)
    malformed = report.has(Rule.REFERENCE_MALFORMED)
    if alert.msg_type is not MsgType.ALERT and not alert.references and not malformed:
        report.add(
            Rule.REFERENCES_MISSING,
            _line(block, "msgType"),
            f"the {alert.msg_type.value} names no message in <references>; say which it is about",
        )


def _check_words(block: Block, info: Info, report: Report) -> None:
    if not block.text("language"):
        line = _line(block, "language")
        report.add(
            Rule.LANGUAGE_MISSING, line, "the info does not say its language, which makes it en-US; add <language>"
        )
    if not info.event and block.all("event"):
        report.add(Rule.EVENT_EMPTY, _line(block, "event"), "<event> is empty; name what happens")
    if (length := len(info.headline)) > LONGEST_HEADLINE:
        line = _line(block, "headline")
        report.add(Rule.HEADLINE_LONG, line, f"the headline has {length} characters; keep to {LONGEST_HEADLINE}")
    for rule, text, name in (
        (Rule.HEADLINE_MISSING, info.headline, "headline"),
        (Rule.DESCRIPTION_MISSING, info.description, "description"),
        (Rule.INSTRUCTION_MISSING, info.instruction, "instruction"),
    ):
        if not text:
            report.add(rule, _line(block, name), f"the info has no {name}; people will miss it")
    if block.all("web"):
        line = _line(block, "web")
        if not info.web:
            report.add(Rule.WEB_EMPTY, line, "<web> is empty; leave it out")
        elif not is_absolute(info.web):
            report.add(Rule.WEB_RELATIVE, line, f"{quoted(info.web)} is not a whole address; write https://…")


def _check_times(block: Block, info: Info, sent: datetime, report: Report) -> None:
    line = _line(block, "expires")
    if info.expires is None:
        if not block.all("expires"):
            report.add(Rule.EXPIRES_MISSING, line, "the info does not say until when it holds; add <expires>")
        return
    start = max((time for time in (info.effective, info.onset) if time), default=None)
    if start and info.expires < start:
        report.add(
            Rule.EXPIRES_BEFORE_START,
            line,
            f"it ends at {info.expires.isoformat()}, before it begins at {start.isoformat()}; mend either",
        )
    if info.expires <= sent:
        report.add(Rule.EXPIRES_PAST, line, f"it ended at {info.expires.isoformat()}, before it was sent; mend either")
    if info.expires - max(sent, start or sent) > FAR:
        report.add(
            Rule.EXPIRES_FAR,
            line,
            f"it would hold until {info.expires.isoformat()}, more than {FAR.days} days; end it sooner and update it",
        )


def _check_areas(block: Block, info: Info, alert: Alert, report: Report) -> None:
    if not info.areas and alert.msg_type in (MsgType.ALERT, MsgType.UPDATE):
        report.add(Rule.AREA_MISSING, block.line, "the info has no <area>: it says not where; add one")
    for area_block, area in zip(block.within("area"), info.areas, strict=True):
        if not area.area_desc and area_block.all("areaDesc"):
            report.add(Rule.AREA_DESC_EMPTY, _line(area_block, "areaDesc"), "<areaDesc> is empty; name the place")
        if any(leaf.text.strip() for name in ("polygon", "circle") for leaf in area_block.all(name)):
            continue
        where = f"the area {quoted(area.area_desc)}"
        if area.geocodes:
            report.add(Rule.GEOCODE_ONLY, area_block.line, f"{where} has geocodes only; draw it as well")
        else:
            report.add(Rule.AREA_NAME_ONLY, area_block.line, f"{where} has a name only; draw it, or give a geocode")


def _check_between(block: Block, alert: Alert, report: Report) -> None:
    """What several infos say together."""
    blocks = list(zip(block.within("info"), alert.infos, strict=True))
    first_of: dict[tuple[str, str], str] = {}
    told = set()
    drawn = [any(area.polygons or area.circles for area in info.areas) for info in alert.infos]
    for (info_block, info), has_drawing in zip(blocks, drawn, strict=True):
        language = info.language.partition("-")[0].lower()
        for name, text in ((name, said) for name, of in _TRANSLATED.items() if (said := of(info))):
            first = first_of.setdefault((name, text), language)
            if first != language and (name, language) not in told:
                told.add((name, language))
                report.add(
                    Rule.SAME_TEXT_IN_TWO_LANGUAGES,
                    _line(info_block, name),
                    f"the {name} is the same under {quoted(first)} and {quoted(language)}; translate it",
                )
        if any(drawn) and not has_drawing:
            report.add(
                Rule.GEOMETRY_NOT_IN_EVERY_INFO,
                info_block.line,
                "another info draws its place and this one does not; draw it",
            )
    for info_block, info in blocks[1:]:
        if frozenset(info.category) != frozenset(alert.infos[0].category):
            line = _line(info_block, "category")
            report.add(Rule.CATEGORIES_DIFFER, line, "the categories are not those of the first info; mend either")
        if frozenset(info.event_codes) != frozenset(alert.infos[0].event_codes):
            line = _line(info_block, "eventCode")
            report.add(Rule.EVENT_CODES_DIFFER, line, "the event codes are not those of the first info; mend either")


def _check_markup(block: Block, names: tuple[str, ...], report: Report) -> None:
    for name, text, line in _texts(block, names):
        if ("<" in text or "&" in text) and (found := _MARKUP.search(text)):
            report.add(Rule.HTML_IN_TEXT, line, f"<{name}> has markup, {quoted(found[0])}; write plain text")


def _texts(block: Block, names: tuple[str, ...]) -> Iterator[tuple[str, str, int]]:
    for name in names:
        for leaf in block.all(name):
            yield name, leaf.text, leaf.line


def _line(block: Block, name: str) -> int:
    leaf = block.first(name)
    return leaf.line if leaf else block.line
