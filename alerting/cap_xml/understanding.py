"""From the blocks of a message to an alert of the domain: as much as can be understood, even of a broken one."""

import base64
import hashlib
import re
from collections.abc import Iterator
from datetime import datetime
from enum import Enum
from typing import TypeVar

from alerting.cap_xml.places import Places, read_circle
from alerting.cap_xml.rules import Report, Rule
from alerting.cap_xml.structure import Block, Leaf, quoted
from alerting.cap_xml.values import Form, is_absolute, read_decimal, read_integer, read_list, read_time
from alerting.domain import cap

UNSAID_LANGUAGE = "en-US"
"""CAP's own default. The Italian Dipartimento writes Italian and says nothing."""

MOST_REFERENCES = 1_000

Word = TypeVar("Word", bound=Enum)

_FORBIDDEN = re.compile(r"[\s,<&]")
_MIME = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*( *;.*)?", re.DOTALL)
_SHA1 = re.compile(r"[0-9A-Fa-f]{40}")

_WORDS: dict[type[Enum], dict[str, Enum]] = {
    words: {str(word.value).lower(): word for word in words}
    for words in (
        cap.Status,
        cap.MsgType,
        cap.Scope,
        cap.Category,
        cap.ResponseType,
        cap.Urgency,
        cap.Severity,
        cap.Certainty,
    )
}
_WORDS[cap.Certainty]["very likely"] = cap.Certainty.LIKELY  # CAP 1.0, section 3.2.2 of CAP 1.2


def understand(block: Block, version: str, report: Report) -> cap.Alert | None:
    """None where it is not known who sent it, when, or what it is. What is doubtful is told, and left out."""
    identifier, sender = (_name(block, name, report) for name in ("identifier", "sender"))
    sent = _time(block, "sent")
    status = _word(cap.Status, block.text("status"))
    msg_type = _word(cap.MsgType, block.text("msgType"))
    references = tuple(_references(block, report))
    places = Places(
        (leaf.text for info in block.within("info") for area in info.within("area") for leaf in area.all("polygon")),
        report,
    )
    infos = tuple(_info(info, version, places, report) for info in block.within("info"))
    addresses, incidents = (_list(block, name, report) for name in ("addresses", "incidents"))
    if not (identifier and sender and sent and status and msg_type):
        return None
    return cap.Alert(
        identifier=identifier,
        sender=sender,
        sent=sent,
        status=status,
        msg_type=msg_type,
        infos=infos,
        scope=_scope(block, version),
        source=block.text("source"),
        restriction=block.text("restriction"),
        addresses=addresses,
        codes=tuple(code for leaf in block.all("code") if (code := leaf.text.strip())),
        note=block.text("note"),
        references=references,
        incidents=incidents,
    )


def _scope(block: Block, version: str) -> cap.Scope:
    if scope := _word(cap.Scope, block.text("scope")):
        return scope
    # CAP 1.0 may leave it out and means everybody; elsewhere it is a defect, and nobody is told by guessing.
    return cap.Scope.PUBLIC if version == "1.0" and not block.all("scope") else cap.Scope.PRIVATE


def _name(block: Block, name: str, report: Report) -> str:
    """An identifier or a sender."""
    leaf = block.first(name)
    if leaf is None:
        return ""
    inner = leaf.text.strip()
    if not inner:
        report.add(Rule.IDENTIFIER_EMPTY, leaf.line, f"<{name}> is empty; give every message one")
    elif found := _FORBIDDEN.search(inner):
        what = {",": "a comma", "<": "a <", "&": "an &"}.get(found[0], "white space")
        report.add(Rule.IDENTIFIER_CHARACTERS, leaf.line, f"<{name}> {quoted(inner)} has {what} in it; take it out")
    elif inner != leaf.text:
        report.add(Rule.IDENTIFIER_PADDED, leaf.line, f"<{name}> has white space around {quoted(inner)}; take it out")
    return inner


def _references(block: Block, report: Report) -> Iterator[cap.Reference]:
    for leaf in block.all("references"):
        words = leaf.text.split()
        if not words:
            report.add(Rule.REFERENCES_EMPTY, leaf.line, "<references> is empty; leave it out")
        if len(words) > MOST_REFERENCES:
            report.add(
                Rule.REFERENCES_TOO_MANY, leaf.line, f"<references> names {len(words):,} messages; name the latest"
            )
        for word in words[:MOST_REFERENCES]:
            sender, _, rest = word.partition(",")
            identifier, _, sent = rest.rpartition(",")
            time = read_time(sent) if sender and identifier and "," not in identifier else None
            if time is None or time.form is Form.NAIVE:
                report.add(
                    Rule.REFERENCE_MALFORMED,
                    leaf.line,
                    f"{quoted(word)} names no message; write sender,identifier,sent of the message it is about",
                )
            elif time.form is not Form.CAP:
                report.add(
                    Rule.REFERENCE_TIME,
                    leaf.line,
                    f"the time {quoted(sent)} is written {time.form.value}; write it as that message does",
                )
            if time is None:
                continue
            yield cap.Reference(sender, identifier, time.at)


def _list(block: Block, name: str, report: Report) -> tuple[str, ...]:
    leaf = block.first(name)
    if leaf is None:
        return ()
    words, whole = read_list(leaf.text)
    if not whole:
        report.add(Rule.QUOTES_OPEN, leaf.line, f"a quotation mark in <{name}> opens and does not close; close it")
    return words


def _info(block: Block, version: str, places: Places, report: Report) -> cap.Info:
    named = _named_in_one if version == "1.0" else _named
    return cap.Info(
        language=block.text("language") or UNSAID_LANGUAGE,
        category=_several(cap.Category, block.all("category")),
        event=block.text("event"),
        response_type=_several(cap.ResponseType, block.all("responseType")),
        urgency=_word(cap.Urgency, block.text("urgency")) or cap.Urgency.UNKNOWN,
        severity=_word(cap.Severity, block.text("severity")) or cap.Severity.UNKNOWN,
        certainty=_word(cap.Certainty, block.text("certainty")) or cap.Certainty.UNKNOWN,
        audience=block.text("audience"),
        event_codes=named(block, "eventCode", report),
        effective=_time(block, "effective"),
        onset=_time(block, "onset"),
        expires=_time(block, "expires"),
        sender_name=block.text("senderName"),
        headline=block.text("headline"),
        description=block.text("description"),
        instruction=block.text("instruction"),
        web=block.text("web"),
        contact=block.text("contact"),
        parameters=named(block, "parameter", report),
        resources=tuple(_resource(resource, report) for resource in block.within("resource")),
        areas=tuple(_area(area, version, places, report) for area in block.within("area")),
    )


def _resource(block: Block, report: Report) -> cap.Resource:
    mime_type, uri, digest = block.text("mimeType"), block.text("uri"), block.text("digest")
    deref_uri = "".join(block.text("derefUri").split())
    size = read_integer(block.text("size"))
    if mime_type and not _MIME.fullmatch(mime_type):
        line = (block.first("mimeType") or block).line
        report.add(Rule.MIME_TYPE_MALFORMED, line, f"{quoted(mime_type)} is no MIME type; write it as image/png")
    if size is not None and size < 0:
        report.add(Rule.SIZE_NEGATIVE, block.line, f"a size of {size} bytes is less than nothing; count them")
        size = None
    if not (uri or deref_uri):
        report.add(Rule.RESOURCE_EMPTY, block.line, "the resource has neither <uri> nor <derefUri>; give one")
    elif uri and not deref_uri and not is_absolute(uri):
        report.add(Rule.RESOURCE_URI_RELATIVE, block.line, f"{quoted(uri)} leads nowhere by itself; write https://…")
    content = None
    if deref_uri:
        try:
            content = base64.b64decode(deref_uri, validate=True)
        except ValueError:
            line = (block.first("derefUri") or block).line
            report.add(Rule.RESOURCE_BASE64, line, "<derefUri> is not base64; it is left out")
            deref_uri = ""
    if digest:
        _check_digest(digest, content, (block.first("digest") or block).line, report)
    return cap.Resource(block.text("resourceDesc"), mime_type, size, uri, deref_uri, digest)


def _check_digest(digest: str, content: bytes | None, line: int, report: Report) -> None:
    if not _SHA1.fullmatch(digest):
        report.add(Rule.RESOURCE_DIGEST, line, f"{quoted(digest)} is no SHA-1; write its 40 hexadecimal digits")
    elif content is not None and hashlib.sha1(content, usedforsecurity=False).hexdigest() != digest.lower():
        report.add(Rule.RESOURCE_DIGEST, line, "the digest is not that of the bytes in <derefUri>; compute it again")


def _area(block: Block, version: str, places: Places, report: Report) -> cap.Area:
    altitude, ceiling = (_feet(block, name, version, report) for name in ("altitude", "ceiling"))
    lone = block.first("ceiling")
    if lone and not block.all("altitude"):
        report.add(Rule.CEILING_WITHOUT_ALTITUDE, lone.line, "<ceiling> comes without <altitude>; add the altitude")
        ceiling = None
    elif lone and altitude is not None and ceiling is not None and ceiling < altitude:
        report.add(
            Rule.CEILING_BELOW_ALTITUDE,
            lone.line,
            f"the ceiling of {ceiling:g} feet is below the altitude; exchange them",
        )
    polygons = tuple(polygon for leaf in block.all("polygon") for polygon in places.polygon(leaf))
    circles = tuple(circle for leaf in block.all("circle") if (circle := read_circle(leaf, report)))
    named = _named_in_one if version == "1.0" else _named
    return cap.Area(
        area_desc=block.text("areaDesc"),
        polygons=polygons,
        circles=circles,
        geocodes=named(block, "geocode", report),
        altitude=altitude,
        ceiling=ceiling if altitude is not None else None,
    )


def _feet(block: Block, name: str, version: str, report: Report) -> float | None:
    leaf = block.first(name)
    if leaf is None:
        return None
    feet = read_decimal(leaf.text)
    if feet is None and version != "1.2":  # 1.2 has a type for it, and it was told there
        report.add(
            Rule.ALTITUDE_NOT_A_NUMBER, leaf.line, f"<{name}> {quoted(leaf.text)} is no number of feet; left out"
        )
    return feet


def _named(block: Block, name: str, report: Report) -> tuple[cap.NamedValue, ...]:
    pairs = []
    for pair in block.within(name):
        value_name = pair.text("valueName")
        if not value_name:
            report.add(Rule.VALUE_NAMELESS, pair.line, f"a <{name}> has no name; say in <valueName> what it is")
        pairs.append(cap.NamedValue(value_name, pair.text("value")))
    return tuple(pairs)


def _named_in_one(block: Block, name: str, report: Report) -> tuple[cap.NamedValue, ...]:
    """CAP 1.0 writes `SAME=CAE` in one element."""
    pairs = []
    for leaf in block.all(name):
        value_name, equals, value = leaf.text.strip().partition("=")
        if not equals or not value_name:
            report.add(Rule.VALUE_NAMELESS, leaf.line, f"<{name}> {quoted(leaf.text)} has no name; write name=value")
        pairs.append(cap.NamedValue(value_name, value) if equals else cap.NamedValue("", value_name))
    return tuple(pairs)


def _time(block: Block, name: str) -> datetime | None:
    leaf: Leaf | None = block.first(name)
    time = read_time(leaf.text) if leaf else None
    return time.at if time else None


def _word(words: type[Word], text: str) -> Word | None:
    """Also in the wrong case: the finding was made, and an operator should see what was meant."""
    return _WORDS[words].get(text.lower())  # type: ignore[return-value]  # each under its own type


def _several(words: type[Word], leaves: list[Leaf]) -> tuple[Word, ...]:
    found = (_word(words, leaf.text.strip()) for leaf in leaves)
    return tuple(dict.fromkeys(word for word in found if word is not None))
