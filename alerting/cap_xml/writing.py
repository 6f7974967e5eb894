"""An alert as a CAP 1.2 document that no validator sends back: the schema's order, and the rules of its prose."""

import binascii
import re
from base64 import b64decode
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import assert_never

from lxml import etree

from alerting.domain import cap
from alerting.domain.rendering import ROME
from geo.cap_text import CapText, parse_cap, to_cap
from geo.drawing import IMPORTED, written
from geo.shapes import Geofence, Shape, ShapeError

NAMESPACE = "urn:oasis:names:tc:emergency:cap:1.2"
MEDIA_TYPE = "application/cap+xml"

NO_CHARACTER = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold, not even escaped (2.2, Char)."""

BREAKS_A_NAME = re.compile(r"[\s,<&]")
"""In an identifier and a sender (CAP 1.2, 3.2.1): `references` would fall apart."""

LANGUAGE = re.compile(r"[a-zA-Z]{1,8}(-[a-zA-Z0-9]{1,8})*")
MIME_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+", re.ASCII)
SHA_1 = re.compile(r"[0-9a-fA-F]{40}")

_LETTER = r"(?:[\w.~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})"
_HOST = rf"(?:(?:{_LETTER}|:)*@)?{_LETTER}+(?::[0-9]{{1,5}})?"
_PATH = rf"(?:{_LETTER}|[:@/])"
ABSOLUTE_URI = re.compile(
    rf"[A-Za-z][A-Za-z0-9+.-]*:(?://{_HOST}(?:/{_PATH}*)?|(?!//){_PATH}+)"
    rf"(?:\?(?:{_LETTER}|[:@/?])*)?(?:#(?:{_LETTER}|[:@/?])*)?"
)
"""RFC 3986 with a scheme, and letters of any script as xs:anyURI takes them; no literal IPv6 address."""

HIGHEST_FEET = 1_000_000
"""Three hundred kilometres: nothing above concerns anybody below, and no exponent is ever needed."""

FOLLOWS = frozenset({cap.MsgType.UPDATE, cap.MsgType.CANCEL, cap.MsgType.ACK, cap.MsgType.ERROR})
"""What says nothing without the message it is about."""


class Unwritable(ValueError):
    """The message breaks a rule of CAP 1.2: written as it is, somebody's reader would throw it away."""


def write(alert: cap.Alert) -> bytes:
    """The message as UTF-8 XML, unsigned. Raises Unwritable.

    Times are cut to whole seconds and heights to thousandths of a foot, a polygon with holes becomes several without,
    what is said twice is said once, characters that XML cannot hold are left out; all else is read back as it was.
    """
    root = etree.Element(_tag("alert"), nsmap={None: NAMESPACE})  # type: ignore[dict-item]  # the stubs forget None
    _name(root, "identifier", alert.identifier)
    _name(root, "sender", alert.sender)
    _add(root, "sent", cap_time("sent", alert.sent))
    _add(root, "status", alert.status.value)
    _add(root, "msgType", alert.msg_type.value)
    _add(root, "source", alert.source)
    _add(root, "scope", alert.scope.value)
    _restricted(root, alert)
    for code in alert.codes:
        _must(root, "code", code)
    _add(root, "note", alert.note)
    _references(root, alert)
    _add(root, "incidents", _listed("incidents", alert.incidents))
    if not alert.infos:
        raise Unwritable(f"alert {alert.identifier} has no info: it would tell nobody anything")
    for info in alert.infos:
        _info(root, info)
    etree.indent(root)
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8")


# ── the parts of a message, in the order of the schema ──────────────────────────────────────────────


def _restricted(root: etree._Element, alert: cap.Alert) -> None:
    match alert.scope:
        case cap.Scope.PUBLIC:
            pass
        case cap.Scope.RESTRICTED:
            if not sayable(alert.restriction):
                raise Unwritable("scope is Restricted and restriction is empty: say who may read it")
        case cap.Scope.PRIVATE:
            if not alert.addresses:
                raise Unwritable("scope is Private and addresses is empty: name whom it is for")
        case _:
            assert_never(alert.scope)
    if sayable(alert.restriction) and alert.scope is not cap.Scope.RESTRICTED:
        raise Unwritable(f"restriction belongs to the scope Restricted, not to {alert.scope.value}: leave one out")
    _add(root, "restriction", alert.restriction)
    _add(root, "addresses", _listed("addresses", alert.addresses))


def _references(root: etree._Element, alert: cap.Alert) -> None:
    if alert.msg_type in FOLLOWS and not alert.references:
        article = "a" if alert.msg_type is cap.MsgType.CANCEL else "an"
        raise Unwritable(f"{article} {alert.msg_type.value} without references is about nothing: name what it follows")
    for reference in alert.references:
        _check_name("references: sender", reference.sender)
        _check_name("references: identifier", reference.identifier)
        if (reference.sender, reference.identifier) == (alert.sender, alert.identifier):
            raise Unwritable(f"{alert.identifier} references itself: give the new message an identifier of its own")
        if _second("references", reference.sent) > _second("sent", alert.sent):
            raise Unwritable(f"{alert.identifier} references {reference.identifier}, which was sent after it")
    triplets = (f"{r.sender},{r.identifier},{cap_time('references', r.sent)}" for r in alert.references)
    _add(root, "references", " ".join(dict.fromkeys(triplets)))


def _info(root: etree._Element, info: cap.Info) -> None:
    _check_times(info)
    element = etree.SubElement(root, _tag("info"))
    _add(element, "language", _matching("language", LANGUAGE, info.language, "write it as in it-IT"))
    if not info.category:
        raise Unwritable("an info has no category: give one at least")
    for category in dict.fromkeys(info.category):
        _add(element, "category", category.value)
    _must(element, "event", info.event)
    for response in dict.fromkeys(info.response_type):
        _add(element, "responseType", response.value)
    _add(element, "urgency", info.urgency.value)
    _add(element, "severity", info.severity.value)
    _add(element, "certainty", info.certainty.value)
    _add(element, "audience", info.audience)
    _pairs(element, "eventCode", info.event_codes)
    for name in ("effective", "onset", "expires"):
        if moment := getattr(info, name):
            _add(element, name, cap_time(name, moment))
    _add(element, "senderName", info.sender_name)
    _add(element, "headline", info.headline)
    _add(element, "description", info.description)
    _add(element, "instruction", info.instruction)
    if sayable(info.web):
        _add(element, "web", _uri("web", info.web))
    _add(element, "contact", info.contact)
    _pairs(element, "parameter", info.parameters)
    for resource in info.resources:
        _resource(element, resource)
    for area in info.areas:
        _area(element, area)


def _check_times(info: cap.Info) -> None:
    if info.expires is None:
        return
    for name, begins in (("onset", info.onset), ("effective", info.effective)):
        if begins is not None and _second("expires", info.expires) <= _second(name, begins):
            raise Unwritable(f"expires is not after {name}: the event would end before it begins")


def _resource(info: etree._Element, resource: cap.Resource) -> None:
    element = etree.SubElement(info, _tag("resource"))
    _must(element, "resourceDesc", resource.resource_desc)
    _add(element, "mimeType", _matching("mimeType", MIME_TYPE, resource.mime_type, "write it as in image/png"))
    if resource.size is not None:
        if resource.size < 0:
            raise Unwritable(f"size of a resource is {resource.size}: it counts bytes")
        _add(element, "size", str(resource.size))
    if sayable(resource.uri):
        _add(element, "uri", _uri("uri", resource.uri))
    if resource.deref_uri:
        _add(element, "derefUri", _base64(resource.deref_uri))
    if resource.digest:
        _add(element, "digest", _matching("digest", SHA_1, resource.digest, "it is a SHA-1 in 40 hexadecimal digits"))


def _area(info: etree._Element, area: cap.Area) -> None:
    element = etree.SubElement(info, _tag("area"))
    _must(element, "areaDesc", area.area_desc)
    texts = _shapes(area)
    for polygon in texts.polygons:
        _add(element, "polygon", polygon)
    for circle in texts.circles:
        _add(element, "circle", circle)
    _pairs(element, "geocode", area.geocodes)
    if area.ceiling is not None and area.altitude is None:
        raise Unwritable("ceiling stands without altitude: give both, or the altitude alone")
    if area.ceiling is not None and area.altitude is not None and area.ceiling < area.altitude:
        raise Unwritable(f"ceiling {area.ceiling} is below altitude {area.altitude}: exchange them")
    for name, feet in (("altitude", area.altitude), ("ceiling", area.ceiling)):
        if feet is not None:
            _add(element, name, _feet(name, feet))


def _shapes(area: cap.Area) -> CapText:
    shapes: list[Shape] = [*area.polygons, *area.circles]
    if not shapes:
        return CapText((), ())
    try:
        texts = to_cap(Geofence(tuple(shapes)))
        parse_cap(*texts, IMPORTED)  # what nobody could read back is not written
    except ShapeError as flawed:
        raise Unwritable(f"area {area.area_desc[:40]!r}: {flawed}") from flawed
    return texts


def _pairs(parent: etree._Element, name: str, pairs: Iterable[cap.NamedValue]) -> None:
    for pair in pairs:
        element = etree.SubElement(parent, _tag(name))
        _must(element, "valueName", pair.name)
        _must(element, "value", pair.value)


# ── one element ─────────────────────────────────────────────────────────────────────────────────────


def _tag(name: str) -> str:
    return f"{{{NAMESPACE}}}{name}"


def _add(parent: etree._Element, name: str, text: str) -> None:
    """Adds the element, unless it would say nothing."""
    if said := sayable(text):
        etree.SubElement(parent, _tag(name)).text = said


def _must(parent: etree._Element, name: str, text: str) -> None:
    if not sayable(text):
        raise Unwritable(f"{name} is empty: CAP 1.2 requires it here")
    _add(parent, name, text)


def sayable(text: str) -> str:
    """The text without spaces around it, and without what XML cannot hold."""
    return NO_CHARACTER.sub("", text.replace("\r\n", "\n")).strip()


def _name(parent: etree._Element, name: str, text: str) -> None:
    _check_name(name, text)
    _add(parent, name, text)


def _check_name(what: str, text: str) -> None:
    if not text:
        raise Unwritable(f"{what} is empty: CAP 1.2 requires it")
    if BREAKS_A_NAME.search(text) or NO_CHARACTER.search(text):
        raise Unwritable(f"{what} {text[:60]!r} holds a space, a comma, < or &: CAP 1.2 forbids them there")


def _listed(what: str, names: Iterable[str]) -> str:
    """Separated by spaces; a name that holds one goes into double quotes."""
    return " ".join(_quoted(what, name) for name in names)


def _quoted(what: str, name: str) -> str:
    said = sayable(name)
    if not said or '"' in said:
        raise Unwritable(f"{what}: {name[:60]!r} is no name: it is empty, or holds the quotes that names stand in")
    return f'"{said}"' if re.search(r"\s", said) else said


def _matching(what: str, pattern: re.Pattern[str], text: str, advice: str) -> str:
    if not pattern.fullmatch(text):
        raise Unwritable(f"{what} {text[:60]!r} is none: {advice}")
    return text


def _uri(what: str, text: str) -> str:
    return _matching(
        what, ABSOLUTE_URI, sayable(text), "write a full address, as in https://www.comune.calcinaia.pi.it/"
    )


def _base64(text: str) -> str:
    try:
        b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as broken:
        raise Unwritable(f"derefUri is no base64: {broken}") from None
    return text


def _feet(what: str, feet: float) -> str:
    if not abs(feet) <= HIGHEST_FEET:
        raise Unwritable(f"{what} is {feet}: give feet above the sea, at most {HIGHEST_FEET:,}")
    return written(round(feet, 3))


def _second(what: str, moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise Unwritable(f"{what} {moment} has no offset: say which clock it was read from")
    return moment.replace(microsecond=0)


def cap_time(what: str, moment: datetime) -> str:
    """In Italian time, offset and all; in UTC, as -00:00, before 1893, when Rome's own noon was no whole minute off.

    `what` names the element in the Unwritable that a time without an offset raises.
    """
    try:
        local = _second(what, moment).astimezone(ROME)
    except OverflowError:
        raise Unwritable(f"{what} {moment} is beyond the calendar") from None
    if (local.utcoffset() or timedelta()) % timedelta(minutes=1):
        local = local.astimezone(UTC)
    return re.sub(r"\+00:00$", "-00:00", local.isoformat())
