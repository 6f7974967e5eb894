"""What we say to machines: a document that the schema, the prose of the standard and our own reader all take."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from lxml import etree

from alerting.cap_xml.reading import read
from alerting.cap_xml.writing import NAMESPACE, Unwritable, write
from alerting.domain import cap
from alerting.domain.findings import Weight
from geo.cap_text import parse_cap
from geo.shapes import Circle, Geofence, Point, Polygon
from tests.unit.cap_messages import ROME, SENDER, SENT, SQUARE, fornacette, piena, schema, writable
from tests.unit.geo_drawings import FORNACETTE, fences, rectangle


def texts(raw: bytes, name: str) -> list[str | None]:
    return [element.text for element in etree.fromstring(raw).iter(f"{{{NAMESPACE}}}{name}")]


# ── whatever may be said ────────────────────────────────────────────────────────────────────────────


@given(writable())
def test_whatever_we_write_the_schema_takes(alert: cap.Alert) -> None:
    document = etree.fromstring(write(alert))
    schema().assertValid(document)
    assert not [element.tag for element in document.iter() if len(element) == 0 and not element.text]


@given(writable())
def test_our_own_reader_reads_back_what_was_said_and_finds_no_fault(alert: cap.Alert) -> None:
    raw = write(alert)
    document = read(raw)
    assert not [finding for finding in document.findings if finding.weight is Weight.ERROR]
    assert document.alert == alert
    assert write(document.alert) == raw


@given(fences)
def test_whatever_is_drawn_is_written_so_that_it_is_read_without_fault(drawn: Geofence) -> None:
    shapes = drawn.shapes
    area = cap.Area(
        "La zona indicata sulla mappa",
        tuple(shape for shape in shapes if isinstance(shape, Polygon)),
        tuple(shape for shape in shapes if isinstance(shape, Circle)),
    )
    document = read(write(fornacette(piena(areas=(area,)))))
    assert not [finding for finding in document.findings if finding.weight is Weight.ERROR]


# ── how it is said ──────────────────────────────────────────────────────────────────────────────────


def test_times_are_those_of_italian_clocks_summer_and_winter() -> None:
    summer = datetime(2026, 7, 30, 22, 0, 59, 999_999, tzinfo=UTC)
    raw = write(fornacette(piena(onset=None, expires=summer)))
    assert texts(raw, "expires") == ["2026-07-31T00:00:59+02:00"]
    assert texts(raw, "sent") == ["2026-11-21T09:00:00+01:00"]


def test_utc_is_written_as_the_standard_wants_it_never_as_z_nor_plus_zero() -> None:
    # Before 1893 Italy kept Rome's own noon, 49 minutes 56 seconds early: CAP has no seconds in an offset.
    flood = datetime(1844, 11, 3, 6, 0, tzinfo=UTC)
    raw = write(fornacette(piena(effective=flood)))
    assert texts(raw, "effective") == ["1844-11-03T06:00:00-00:00"]


def test_a_reference_says_the_time_as_the_message_itself_said_it() -> None:
    first = fornacette(sent=datetime(2026, 10, 25, 2, 30, 15, 400_000, tzinfo=ROME))
    said = texts(write(first), "sent")[0]
    update = fornacette(identifier="calcinaia-2", msg_type=cap.MsgType.UPDATE, references=(first.reference,))
    assert texts(write(update), "references") == [f"{SENDER},{first.identifier},{said}"]


def test_the_comune_is_said_by_its_istat_code_and_by_its_shape() -> None:
    raw = write(fornacette())
    assert texts(raw, "polygon") == ["43.66,10.565 43.66,10.595 43.675,10.595 43.675,10.565 43.66,10.565"]
    assert texts(raw, "valueName") == ["ISTAT"] and texts(raw, "value") == ["050004"]


def test_a_hole_is_cut_out_and_the_circle_keeps_its_kilometres() -> None:
    hole = Polygon(SQUARE.outer, (rectangle(43.665, 10.575, 43.67, 10.585),))
    around = cap.Area("Fornacette", (hole,), (Circle(FORNACETTE, 0.0001),))
    raw = write(fornacette(piena(areas=(around,))))
    assert len(texts(raw, "polygon")) > 1 and texts(raw, "circle") == ["43.6702,10.5851 0.0001"]
    area = etree.fromstring(raw).find(f".//{{{NAMESPACE}}}area")
    assert area is not None
    pieces = parse_cap([text or "" for text in texts(raw, "polygon")], [])
    assert pieces.area_km2 == pytest.approx(Geofence((hole,)).area_km2)


def test_names_with_spaces_stand_in_quotes() -> None:
    alert = fornacette(
        scope=cap.Scope.PRIVATE, addresses=("sindaco", "sala operativa"), incidents=("Piena 2026", "rottura-argine")
    )
    raw = write(alert)
    assert texts(raw, "addresses") == ['sindaco "sala operativa"']
    assert texts(raw, "incidents") == ['"Piena 2026" rottura-argine']


def test_what_xml_cannot_hold_is_left_out_and_what_it_must_escape_is_kept() -> None:
    raw = write(fornacette(piena(headline="Arno\x00 > 5 m & sale\ufffe \ud83d<b>", description="\x07")))
    assert texts(raw, "headline") == ["Arno > 5 m & sale <b>"] and texts(raw, "description") == []


def test_what_was_referenced_twice_is_named_once() -> None:
    first = cap.Reference(SENDER, "calcinaia-1", SENT)
    again = fornacette(msg_type=cap.MsgType.UPDATE, references=(first, first))
    assert texts(write(again), "references") == [f"{SENDER},calcinaia-1,2026-11-21T09:00:00+01:00"]


# ── what is not said ────────────────────────────────────────────────────────────────────────────────

EARLIER = cap.Reference(SENDER, "calcinaia-1", SENT - timedelta(hours=1))
BOWTIE = (Point(43.66, 10.56), Point(43.68, 10.60), Point(43.68, 10.56), Point(43.66, 10.60), Point(43.66, 10.56))


def in_area(**changes: object) -> cap.Info:
    return piena(areas=(replace(cap.Area("Fornacette", (SQUARE,)), **changes),))  # type: ignore[arg-type]


def with_picture(**changes: object) -> cap.Info:
    picture = cap.Resource("Mappa", "image/png", uri="https://www.comune.calcinaia.pi.it/mappa.png")
    return piena(resources=(replace(picture, **changes),))  # type: ignore[arg-type]


UNWRITABLE = [
    (fornacette(identifier="calcinaia 1"), "identifier 'calcinaia 1' holds a space"),
    (fornacette(identifier="calcinaia,1"), "comma"),
    (fornacette(identifier="calcinaia&1"), "&"),
    (fornacette(identifier=""), "identifier is empty"),
    (fornacette(sender="<comune>"), "sender '<comune>' holds"),
    (fornacette(sender="comune\x00"), "sender"),
    (fornacette(sent=SENT.replace(tzinfo=None)), "sent 2026-11-21 09:00:00 has no offset"),
    (fornacette(sent=datetime.max.replace(tzinfo=UTC)), "beyond the calendar"),
    (fornacette(msg_type=cap.MsgType.UPDATE), "an Update without references"),
    (fornacette(msg_type=cap.MsgType.CANCEL), "a Cancel without references"),
    (fornacette(msg_type=cap.MsgType.ACK), "an Ack without references"),
    (fornacette(msg_type=cap.MsgType.ERROR), "an Error without references"),
    (fornacette(identifier="calcinaia-1", references=(EARLIER,)), "calcinaia-1 references itself"),
    (fornacette(references=(replace(EARLIER, sent=SENT + timedelta(minutes=1)),)), "which was sent after it"),
    (fornacette(references=(replace(EARLIER, identifier="piena del 21"),)), "references: identifier 'piena del 21'"),
    (fornacette(references=(replace(EARLIER, sent=SENT.replace(tzinfo=None)),)), "references 2026-11-21 09:00:00 has"),
    (fornacette(scope=cap.Scope.PRIVATE), "addresses is empty"),
    (fornacette(scope=cap.Scope.PRIVATE, addresses=('la "sala"',)), "addresses: 'la \"sala\"' is no name"),
    (fornacette(scope=cap.Scope.RESTRICTED), "restriction is empty"),
    (fornacette(restriction="solo sala operativa"), "restriction belongs to the scope Restricted, not to Public"),
    (fornacette(codes=(" ",)), "code is empty"),
    (fornacette(infos=()), "has no info"),
    (fornacette(piena(category=())), "no category"),
    (fornacette(piena(event="\x00 ")), "event is empty"),
    (fornacette(piena(language="")), "language '' is none"),
    (fornacette(piena(language="it_IT")), "language 'it_IT' is none"),
    (fornacette(piena(expires=SENT + timedelta(hours=5))), "expires is not after onset"),
    (fornacette(piena(onset=SENT, expires=SENT + timedelta(microseconds=900_000))), "expires is not after onset"),
    (fornacette(piena(onset=None, effective=SENT, expires=SENT)), "expires is not after effective"),
    (fornacette(piena(web="www.comune.calcinaia.pi.it")), "web 'www.comune.calcinaia.pi.it' is none"),
    (fornacette(piena(web="https://")), "web"),
    (fornacette(piena(web="https://comune.it/piano 2026")), "web"),
    (fornacette(piena(parameters=(cap.NamedValue("it.colore", ""),))), "value is empty"),
    (fornacette(with_picture(resource_desc="")), "resourceDesc is empty"),
    (fornacette(with_picture(mime_type="png")), "mimeType 'png' is none"),
    (fornacette(with_picture(size=-1)), "counts bytes"),
    (fornacette(with_picture(deref_uri="Arno!")), "derefUri is no base64"),
    (fornacette(with_picture(digest="abc")), "digest 'abc' is none"),
    (fornacette(in_area(area_desc="")), "areaDesc is empty"),
    (fornacette(in_area(ceiling=100.0)), "ceiling stands without altitude"),
    (fornacette(in_area(ceiling=100.0, altitude=200.0)), "ceiling 100.0 is below altitude 200.0"),
    (fornacette(in_area(altitude=float("nan"))), "altitude is nan"),
    (fornacette(in_area(altitude=0.0, ceiling=1e300)), "ceiling is 1e+300"),
    (fornacette(piena(web="https:")), "web"),
    (fornacette(in_area(polygons=(Polygon(SQUARE.outer[:-1]),))), "the ring is not closed"),
    (fornacette(in_area(polygons=(Polygon(BOWTIE),))), "crosses itself"),
    (fornacette(in_area(circles=(Circle(FORNACETTE, 0.0),))), "radius"),
]


@pytest.mark.parametrize(("alert", "because"), UNWRITABLE, ids=[because for _, because in UNWRITABLE])
def test_what_breaks_a_rule_of_the_standard_is_not_written(alert: cap.Alert, because: str) -> None:
    with pytest.raises(Unwritable, match=re.escape(because)):
        write(alert)
