"""What is in force, for anybody to read: the same alerts as Atom, as RSS and as GeoJSON."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import quote

from lxml import etree
from sqlalchemy import ColumnElement, ScalarSelect, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import cap_json
from alerting.cap_xml.writing import MEDIA_TYPE, NAMESPACE, cap_time, sayable
from alerting.domain import cap
from alerting.domain.lifecycle import State
from alerting.persistence import tables
from geo.geojson import to_geojson
from geo.shapes import Circle, Geofence, Shape

ATOM = "http://www.w3.org/2005/Atom"
NEVER = datetime(1970, 1, 1, tzinfo=UTC)
"""When a feed changed in which nothing has ever been: Atom wants a time all the same."""

LANGUAGE = "it"

OUT_OF_FORCE = (State.CANCELLED, State.SUPERSEDED)
"""By somebody's decision, not by the clock."""


@dataclass(frozen=True, slots=True)
class InForce:
    """What is in force at a moment, the newest first, and when that changed last. Two that are equal read the same."""

    identifiers: tuple[str, ...]
    changed: datetime | None


@dataclass(frozen=True, slots=True)
class Feed:
    """What is in force, to be written for people who poll. `url` is the feed's own; `documents` begins each alert's."""

    title: str
    url: str
    documents: str
    changed: datetime
    alerts: tuple[cap.Alert, ...]

    def address_of(self, alert: cap.Alert) -> str:
        return f"{self.documents}/{quote(alert.identifier)}.xml"


Writing = Callable[[Feed], bytes]


# ── what is in force ────────────────────────────────────────────────────────────────────────────────


async def in_force(session: AsyncSession, authority: str | None, now: datetime) -> InForce:
    """Of one authority, or of all: issued, in its time, and no exercise. Reads the index by end, and no document."""
    alert = tables.Alert
    public = [alert.status == cap.Status.ACTUAL, *([alert.authority == authority] if authority is not None else [])]
    standing = (
        select(alert.identifier, alert.issued_at)
        .where(alert.state == State.ISSUED, alert.expires_at > now, *public)
        .order_by(alert.issued_at.desc(), alert.identifier.desc())
    )
    rows = (await session.execute(standing)).all()
    left = (await session.execute(select(*_leavings(public, now)))).one()
    return InForce(
        identifiers=tuple(identifier for identifier, _ in rows),
        changed=max((moment for moment in (*(issued for _, issued in rows), *left) if moment), default=None),
    )


def _leavings(public: list[ColumnElement[bool]], now: datetime) -> Iterable[ScalarSelect[Any]]:
    """When something left the feed last: before its time, or at its end.

    Where one left before its time, its end counts too once it is past: a date that is too late costs a reader one
    request, and one that is too early the truth.
    """
    alert = tables.Alert
    for state in OUT_OF_FORCE:
        before_its_time = [alert.state == state, alert.expires_at > now, alert.issued_at.is_not(None), *public]
        yield select(func.max(alert.ended_at, type_=alert.ended_at.type)).where(*before_its_time).scalar_subquery()
    for state in (State.ISSUED, State.EXPIRED, *OUT_OF_FORCE):
        at_its_end = [alert.state == state, alert.expires_at <= now, alert.issued_at.is_not(None), *public]
        yield select(alert.expires_at).where(*at_its_end).order_by(alert.expires_at.desc()).limit(1).scalar_subquery()


async def messages(session: AsyncSession, identifiers: Sequence[str]) -> tuple[cap.Alert, ...]:
    """The CAP messages of these alerts, in this order; not those that are meant for some only."""
    rows = select(tables.Alert.identifier, tables.Alert.document).where(tables.Alert.identifier.in_(identifiers))
    found = {identifier: cap_json.from_json(document) for identifier, document in await session.execute(rows)}
    alerts = (found[identifier] for identifier in identifiers if identifier in found)
    return tuple(alert for alert in alerts if alert.scope is cap.Scope.PUBLIC)


async def document(session: AsyncSession, identifier: str) -> tuple[bytes, datetime] | None:
    """An alert as it was written when it was issued, and when that was; None for what was not, or not for everybody."""
    alert = tables.Alert
    row = await session.execute(
        select(alert.cap, alert.issued_at, alert.document["scope"].as_string()).where(alert.identifier == identifier)
    )
    match row.one_or_none():
        case (bytes() as raw, datetime() as issued, cap.Scope.PUBLIC.value):
            return raw, issued
        case _:
            return None


# ── Atom, RFC 4287 ──────────────────────────────────────────────────────────────────────────────────


def atom(feed: Feed) -> bytes:
    """One entry per alert, which links to its CAP document and says the gravest of it in CAP's own elements."""
    root = etree.Element(f"{{{ATOM}}}feed", nsmap={None: ATOM, "cap": NAMESPACE})  # type: ignore[dict-item]
    root.set("{http://www.w3.org/XML/1998/namespace}lang", LANGUAGE)
    _add(root, ATOM, "id", feed.url)
    _add(root, ATOM, "title", feed.title)
    _add(root, ATOM, "updated", _rfc3339(feed.changed))
    etree.SubElement(root, f"{{{ATOM}}}link", rel="self", type="application/atom+xml", href=sayable(feed.url))
    for alert in feed.alerts:
        _entry(root, alert, feed.address_of(alert))
    return _bytes(root)


def _entry(root: etree._Element, alert: cap.Alert, address: str) -> None:
    info = alert.first
    entry = etree.SubElement(root, f"{{{ATOM}}}entry")
    _add(entry, ATOM, "id", tag_of(alert))
    _add(entry, ATOM, "title", info.headline or info.event)
    _add(entry, ATOM, "updated", _rfc3339(alert.sent))
    author = etree.SubElement(entry, f"{{{ATOM}}}author")
    _add(author, ATOM, "name", info.sender_name or alert.sender)
    etree.SubElement(entry, f"{{{ATOM}}}link", rel="alternate", type=MEDIA_TYPE, href=sayable(address))
    etree.SubElement(entry, f"{{{ATOM}}}category", term=sayable(info.event))
    _add(entry, ATOM, "summary", _summary(info))
    for name, text in _in_cap(alert, info):
        _add(entry, NAMESPACE, name, text)


def _in_cap(alert: cap.Alert, info: cap.Info) -> Iterable[tuple[str, str]]:
    yield "identifier", alert.identifier
    yield "status", alert.status.value
    yield "msgType", alert.msg_type.value
    yield "event", info.event
    yield "urgency", info.urgency.value
    yield "severity", info.severity.value
    yield "certainty", info.certainty.value
    for name, moment in (("onset", info.onset), ("expires", info.expires)):
        if moment is not None:
            yield name, cap_time(name, moment)
    yield "areaDesc", _where(info)


def tag_of(alert: cap.Alert) -> str:
    """The name of an alert that never changes, wherever it is read: a tag URI (RFC 4151)."""
    return f"tag:{quote(alert.sender, safe='@')},{alert.sent.astimezone(UTC):%Y-%m-%d}:{quote(alert.identifier)}"


# ── RSS 2.0 ─────────────────────────────────────────────────────────────────────────────────────────


def rss(feed: Feed) -> bytes:
    """One item per alert."""
    root = etree.Element("rss", nsmap={"atom": ATOM}, version="2.0")
    channel = etree.SubElement(root, "channel")
    _add(channel, None, "title", feed.title)
    _add(channel, None, "link", feed.url)
    _add(channel, None, "description", "Avvisi ai cittadini in vigore adesso, dal più recente.")
    _add(channel, None, "language", LANGUAGE)
    _add(channel, None, "lastBuildDate", format_datetime(feed.changed.astimezone(UTC), usegmt=True))
    etree.SubElement(channel, f"{{{ATOM}}}link", rel="self", type="application/rss+xml", href=sayable(feed.url))
    for alert in feed.alerts:
        info = alert.first
        item = etree.SubElement(channel, "item")
        _add(item, None, "title", info.headline or info.event)
        _add(item, None, "link", feed.address_of(alert))
        _add(item, None, "description", _summary(info))
        _add(item, None, "category", info.event)
        _add(item, None, "guid", tag_of(alert)).set("isPermaLink", "false")
        _add(item, None, "pubDate", format_datetime(alert.sent.astimezone(UTC), usegmt=True))
    return _bytes(root)


# ── GeoJSON, RFC 7946 ───────────────────────────────────────────────────────────────────────────────


def geojson(feed: Feed) -> bytes:
    """One feature per alert: a Polygon or a MultiPolygon, circles as their outlines; null where only codes name it."""
    features = [_feature(alert, feed.address_of(alert)) for alert in feed.alerts]
    collection = {"type": "FeatureCollection", "features": features}
    return json.dumps(collection, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def _feature(alert: cap.Alert, address: str) -> dict[str, object]:
    info = alert.first
    return {
        "type": "Feature",
        "id": alert.identifier,
        "geometry": _geometry(alert),
        "properties": {
            "identifier": alert.identifier,
            "sender": alert.sender,
            "sender_name": info.sender_name,
            "sent": _rfc3339(alert.sent),
            "msg_type": alert.msg_type.value,
            "headline": info.headline,
            "event": info.event,
            "description": info.description,
            "instruction": info.instruction,
            "urgency": info.urgency.value,
            "severity": info.severity.value,
            "certainty": info.certainty.value,
            "colour": info.parameter("it.colore"),
            "risk": info.parameter("it.rischio"),
            "onset": _rfc3339(info.onset) if info.onset else None,
            "expires": _rfc3339(alert.expires),
            "area_desc": _where(info),
            "url": address,
        },
    }


def _geometry(alert: cap.Alert) -> dict[str, object] | None:
    fence = alert.geofence
    if fence is None:
        return None
    # A circle is a Point with a radius only to us: whoever draws maps finds its outline.
    outlines: list[Shape] = [shape.outline() if isinstance(shape, Circle) else shape for shape in fence.shapes]
    return to_geojson(Geofence(tuple(outlines)))


# ── words and elements ──────────────────────────────────────────────────────────────────────────────


def _summary(info: cap.Info) -> str:
    act = f"Cosa fare: {info.instruction}" if info.instruction else ""
    return "\n".join(filter(None, (info.description, act))) or info.headline or info.event


def _where(info: cap.Info) -> str:
    return ", ".join(dict.fromkeys(area.area_desc for area in info.areas))


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")


def _add(parent: etree._Element, namespace: str | None, name: str, text: str) -> etree._Element:
    element = etree.SubElement(parent, f"{{{namespace}}}{name}" if namespace else name)
    element.text = sayable(text)
    return element


def _bytes(root: etree._Element) -> bytes:
    etree.indent(root)
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8")
