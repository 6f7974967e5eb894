"""CAP messages to try machines with: one about Fornacette, and all that may be written."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from functools import cache

from hypothesis import strategies as st
from lxml import etree

from alerting.cap_xml.writing import ABSOLUTE_URI, LANGUAGE, NO_CHARACTER
from alerting.domain import cap
from geo.shapes import Polygon
from tests.unit.geo_drawings import circles, needs, polygons, rectangle

ROME = timezone(timedelta(hours=1))
SENT = datetime(2026, 11, 21, 9, 0, tzinfo=ROME)
SENDER = "protezionecivile@comune.calcinaia.pi.it"
SQUARE = Polygon(rectangle(43.66, 10.565, 43.675, 10.595))


@cache
def schema() -> etree.XMLSchema:
    return etree.XMLSchema(etree.parse(needs("spec/CAP-v1.2.xsd")))


def piena(**changes: object) -> cap.Info:
    info = cap.Info(
        category=(cap.Category.MET,),
        event="allerta meteo arancione",
        urgency=cap.Urgency.EXPECTED,
        severity=cap.Severity.SEVERE,
        certainty=cap.Certainty.LIKELY,
        expires=SENT + timedelta(hours=15),
        headline="Allerta arancione per piena dell'Arno",
        description="Piena attesa dalle 14 a Fornacette.",
        instruction="Spostati ai piani alti.",
        onset=SENT + timedelta(hours=5),
        areas=(cap.Area("Fornacette", (SQUARE,), geocodes=(cap.NamedValue("ISTAT", "050004"),)),),
    )
    return replace(info, **changes)  # type: ignore[arg-type]


def fornacette(info: cap.Info | None = None, **changes: object) -> cap.Alert:
    alert = cap.Alert(
        "calcinaia-20261121T080000Z-0a1b2c", SENDER, SENT, cap.Status.ACTUAL, cap.MsgType.ALERT, (info or piena(),)
    )
    return replace(alert, **changes)  # type: ignore[arg-type]


# ── whatever may be said ────────────────────────────────────────────────────────────────────────────

# As they are read back: no spaces around, line ends as \n, nothing XML cannot hold.
prose = st.text(max_size=40).map(lambda text: NO_CHARACTER.sub("", text.replace("\r", "\n")).strip())
said = prose.filter(bool)
listed = said.filter(lambda text: '"' not in text).map(lambda text: " ".join(text.split())).filter(bool)
names = st.text(min_size=1, max_size=30).filter(lambda text: not re.search(r"[\s,<&]", text) and text == text.strip())
names = names.filter(lambda text: not NO_CHARACTER.search(text))
seconds = st.integers(0, 60 * 365 * 86_400).map(lambda since: datetime(2000, 1, 1, tzinfo=UTC) + timedelta(0, since))
pairs = st.lists(st.builds(cap.NamedValue, said, said), max_size=2).map(tuple)
feet = st.floats(-1_000, 100_000).map(lambda number: round(number, 3))
base64s = st.sampled_from(["", "QXJubw==", "cGllbmE="])


@st.composite
def areas(draw: st.DrawFn) -> cap.Area:
    altitude = draw(st.none() | feet)
    return cap.Area(
        area_desc=draw(said),
        polygons=draw(
            st.lists(polygons().map(lambda polygon: Polygon(polygon.outer)), max_size=2, unique=True).map(tuple)
        ),
        circles=draw(st.lists(circles, max_size=2, unique=True).map(tuple)),
        geocodes=draw(pairs),
        altitude=altitude,
        ceiling=None if altitude is None else draw(st.none() | feet.map(lambda above: round(altitude + abs(above), 3))),
    )


@st.composite
def infos(draw: st.DrawFn) -> cap.Info:
    begins = draw(st.none() | seconds)
    effective = draw(st.none() | seconds)
    latest = max((moment for moment in (begins, effective) if moment), default=SENT)
    lasts = draw(st.none() | st.integers(1, 10**7))
    return cap.Info(
        category=draw(st.lists(st.sampled_from(cap.Category), min_size=1, max_size=2, unique=True).map(tuple)),
        event=draw(said),
        urgency=draw(st.sampled_from(cap.Urgency)),
        severity=draw(st.sampled_from(cap.Severity)),
        certainty=draw(st.sampled_from(cap.Certainty)),
        expires=None if lasts is None else latest + timedelta(seconds=lasts),
        headline=draw(prose),
        description=draw(prose),
        language=draw(st.from_regex(LANGUAGE, fullmatch=True)),
        instruction=draw(prose),
        response_type=draw(st.lists(st.sampled_from(cap.ResponseType), max_size=2, unique=True).map(tuple)),
        audience=draw(prose),
        event_codes=draw(pairs),
        effective=effective,
        onset=begins,
        sender_name=draw(prose),
        web=draw(st.just("") | st.from_regex(ABSOLUTE_URI, fullmatch=True)),
        contact=draw(prose),
        parameters=draw(pairs),
        resources=draw(
            st.lists(
                st.builds(
                    cap.Resource,
                    resource_desc=said,
                    mime_type=st.sampled_from(["image/png", "application/pdf", "audio/x-wav"]),
                    size=st.none() | st.integers(0, 10**9),
                    uri=st.sampled_from(["", "https://www.comune.calcinaia.pi.it/mappa.png"]),
                    deref_uri=base64s,
                    digest=st.sampled_from(["", "0123456789abcdef0123456789abcdef01234567"]),
                ),
                max_size=1,
            ).map(tuple)
        ),
        areas=draw(st.lists(areas(), max_size=2).map(tuple)),
    )


@st.composite
def writable(draw: st.DrawFn) -> cap.Alert:
    """Every kind of message that may be written, in the form it is read back in."""
    identifier, sender, sent = draw(names), draw(names), draw(seconds)
    msg_type = draw(st.sampled_from(cap.MsgType))
    earlier = st.builds(
        lambda who, what, ago: cap.Reference(who, what, sent - timedelta(seconds=ago)),
        names,
        names,
        st.integers(0, 10**8),
    ).filter(lambda reference: (reference.sender, reference.identifier) != (sender, identifier))
    scope = draw(st.sampled_from(cap.Scope))
    return cap.Alert(
        identifier=identifier,
        sender=sender,
        sent=sent,
        status=draw(st.sampled_from(cap.Status)),
        msg_type=msg_type,
        infos=draw(st.lists(infos(), min_size=1, max_size=2).map(tuple)),
        scope=scope,
        source=draw(prose),
        restriction=draw(said) if scope is cap.Scope.RESTRICTED else "",
        addresses=draw(st.lists(listed, min_size=scope is cap.Scope.PRIVATE, max_size=2).map(tuple)),
        codes=draw(st.lists(said, max_size=2).map(tuple)),
        note=draw(prose),
        references=draw(
            st.lists(earlier, min_size=msg_type is not cap.MsgType.ALERT, max_size=2, unique=True).map(tuple)
        ),
        incidents=draw(st.lists(listed, max_size=2).map(tuple)),
    )
