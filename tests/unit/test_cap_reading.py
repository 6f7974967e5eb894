"""CAP documents read: the real ones with the verdict others gave them, each version, each encoding, every value."""

from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from alerting.cap_xml.grammar import GRAMMARS, NAMESPACES, Part
from alerting.cap_xml.reading import Document, Verdict, read
from alerting.cap_xml.values import Form, is_language, is_uri, read_decimal, read_integer, read_list, read_time
from alerting.domain import cap
from geo.shapes import Circle, Point, Polygon
from tests.unit.cap_documents import GOOD, SHARED, changed, shared, told, without

ROME_IN_WINTER = timezone(timedelta(hours=1))
DOCUMENTS = [row for row in told("cap/manifest.json") if row["kind"] == "CAP" or row["kind"] == "not well-formed"]


def named(row: dict[str, Any]) -> str:
    return str(row["file"])


# ── agreement with others ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("row", DOCUMENTS, ids=named)
def test_a_real_document_gets_the_verdict_others_gave_it(row: dict[str, Any]) -> None:
    document = read((shared("cap") / row["file"]).read_bytes())
    assert (document.verdict is Verdict.REJECT) == (row["verdict"] == "INVALID"), document.findings
    if row["version"]:
        assert document.version == row["version"]


@pytest.mark.parametrize("row", told("cap_rules/expected.json"), ids=named)
def test_a_variant_with_one_rule_broken_gets_the_expected_verdict(row: dict[str, Any]) -> None:
    document = read((shared("cap_rules") / row["file"]).read_bytes())
    assert document.verdict.value == row["expected"], document.findings


SEEN_BY_OTHERS = {
    "HTML in": "html-in-text",
    "UTC as +00:00": "time-plus-zero",
    "no <language>": "language-missing",
    "circle radius 0": "circle-zero",
    "no expires": "expires-missing",
    "no <info>": "info-missing",
    "area only areaDesc": "area-name-only",
    "geocode only": "geocode-only",
    "empty <references>": "references-empty",
    "empty <polygon>": "polygon-empty",
    "web not absolute": "web-empty",
    "headline": "headline-long",
    "longitude outside": "longitude-range",
    "same ": "same-text-in-two-languages",
    "expires <= sent": "expires-past",
    "Exercise without note": "exercise-without-note",
    "polygon self-intersects": "polygon-crossing",
    "polygon not closed": "polygon-open",
    "self-reference": "reference-self",
    "polygon bad pair": "polygon-malformed",
    "circle bad": "circle-malformed",
    "bad reference triplet": "reference-malformed",
    "sent not": "time-naive",
    "contains DOCTYPE": "doctype",
    "XML: Invalid bytes": "encoding",
    "[facet 'enumeration']": "value-unknown",
    "Character content other than whitespace": "text-misplaced",
    "This element is not expected": "element-",
    "msgType Cancel without references": "references-missing",
}


@pytest.mark.parametrize("row", DOCUMENTS, ids=named)
def test_whatever_others_found_in_a_real_document_is_found(row: dict[str, Any]) -> None:
    rules = {finding.rule for finding in read((shared("cap") / row["file"]).read_bytes()).findings}
    for said in [*row["errors"], *row["warnings"]]:
        ours = [ours for theirs, ours in SEEN_BY_OTHERS.items() if theirs in said]
        assert any(rule.startswith(one) for one in ours for rule in rules), f"{said!r} is not among {sorted(rules)}"


# ── agreement with the schemas ──────────────────────────────────────────────────────────────────────

SCHEMAS = {"1.2": "CAP-v1.2.xsd", "1.1": "cap11.xsd", "1.0": "cap10.xsd"}


@cache
def schema(version: str) -> etree.XMLSchema:
    return etree.XMLSchema(etree.parse(str(shared("spec") / SCHEMAS[version])))


def agrees(root: etree._Element, version: str) -> bool:
    return bool(schema(version).validate(etree.fromstring(etree.tostring(root))))


def namespace(version: str) -> str:
    return next(uri for uri, known in NAMESPACES.items() if known == version)


WORDS = st.sampled_from(
    [
        "",
        " ",
        "Arno",
        "it-IT",
        "Met",
        "Actual",
        "Alert",
        "Public",
        "Expected",
        "Severe",
        "Likely",
        "Very Likely",
        "Draft",
    ]
) | st.sampled_from(
    [
        "2026-11-21T09:00:00+01:00",
        "2026-11-21T24:00:00+01:00",
        "2026-11-21T09:00:00Z",
        "2026-11-21T09:00:00,01:00",
        "2026-02-29T09:00:00+01:00",
        "0000-11-21T09:00:00+01:00",
        " 2026-11-21T09:00:00-14:00\n",
        "2026-11-21T09:00+15:00",
        "12",
        " +12 ",
        "12.",
        ".5",
        "1e3",
        "-",
        "12 km",
        "https://a.it/b?c#d",
        "a b",
        "%zz",
        "http://[::1]/",
        ":x",
    ]
)
TEXTS = (
    WORDS
    | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)
    | st.text("0123456789+-.:TZe/ #?%[]@", max_size=14)
)


@st.composite
def messages(draw: st.DrawFn) -> tuple[str, etree._Element]:
    """Near enough to valid: each version's grammar, kept with some slips."""
    version = draw(st.sampled_from(sorted(GRAMMARS)))
    space = f"{{{namespace(version)}}}"
    slips = draw(st.integers(0, 2))

    def value(part: Part) -> str:
        nonlocal slips
        if slips and draw(st.integers(0, 12)) == 0:
            slips -= 1
            return draw(TEXTS)
        if isinstance(part.holds, tuple):
            return draw(st.sampled_from(part.holds))
        valid = {"sent": "2026-11-21T09:00:00+01:00", "identifier": "it.1", "sender": "a@b.it", "size": "5"}
        times = dict.fromkeys(("effective", "onset", "expires"), "2026-11-22T09:00:00+01:00")
        others = {"web": "https://b.it", "uri": "https://b.it/1", "language": "it-IT", "altitude": "3", "ceiling": "4"}
        return (valid | times | others).get(part.name, "Arno")

    def build(element: etree._Element, block: str) -> None:
        nonlocal slips
        parts = [
            part
            for part in GRAMMARS[version][block]
            for _ in range(draw(st.integers(0, 2)) if part.many and not part.required else 1)
            if part.required or draw(st.booleans())
        ]
        if slips and parts and draw(st.integers(0, 4)) == 0:
            slips -= 1
            at = draw(st.integers(0, len(parts) - 1))
            match draw(st.sampled_from(["drop", "double", "move"])):
                case "drop":
                    del parts[at]
                case "double":
                    parts.insert(at, parts[at])
                case _:
                    parts.insert(draw(st.integers(0, len(parts) - 1)), parts.pop(at))
        for part in parts:
            child = etree.SubElement(element, space + part.name)
            if isinstance(part.holds, str):
                build(child, part.holds)
            else:
                child.text = value(part)
        if slips and draw(st.integers(0, 10)) == 0:
            slips -= 1
            match draw(st.sampled_from(["text", "stranger", "attribute", "signature", "foreign", "nil"])):
                case "text":
                    element.text = "Arno"
                case "stranger":
                    etree.SubElement(element, space + "telefono").text = "0587"
                case "attribute":
                    element.set("id", "a")
                case "signature":
                    etree.SubElement(element, "{http://www.w3.org/2000/09/xmldsig#}Signature")
                case "nil":
                    element.set("{http://www.w3.org/2001/XMLSchema-instance}nil", "true")
                case _:
                    etree.SubElement(element, "{urn:altro}value")

    root = etree.Element(space + "alert", nsmap={None: namespace(version)})  # type: ignore[dict-item]
    build(root, "alert")
    return version, root


@given(messages())
def test_what_the_schema_rejects_we_reject(drawn: tuple[str, etree._Element]) -> None:
    version, root = drawn
    document = read(etree.tostring(root))
    assert document.version == version
    if not agrees(root, version):
        assert document.verdict is Verdict.REJECT


STRUCTURAL = {"element-unknown", "element-order", "element-repeated", "element-missing", "text-misplaced"}


@given(messages())
def test_what_the_schema_accepts_is_never_called_badly_built(drawn: tuple[str, etree._Element]) -> None:
    version, root = drawn
    if agrees(root, version):
        rules = {finding.rule for finding in read(etree.tostring(root)).findings}
        assert not rules & (STRUCTURAL | {"value-unknown", "language-malformed", "attribute-unknown"})


@pytest.mark.parametrize(
    "file", sorted((SHARED / "cap").glob("*")) + sorted((SHARED / "cap_rules").glob("*.xml")), ids=str
)
def test_a_real_document_that_the_schema_rejects_we_reject(file: Path) -> None:
    raw = file.read_bytes()
    document = read(raw)
    if document.version:
        root = etree.fromstring(raw, etree.XMLParser(resolve_entities=False, no_network=True))
        assert document.verdict is Verdict.REJECT or schema(document.version).validate(root)


# ── what is read ────────────────────────────────────────────────────────────────────────────────────


def understood(raw: bytes) -> cap.Alert:
    alert = read(raw).alert
    assert alert is not None
    return alert


def test_everything_a_message_says_is_in_the_alert() -> None:
    alert = understood(GOOD.encode())
    sender = "protezionecivile@comune.calcinaia.pi.it"
    assert alert.reference == cap.Reference(
        sender, "it.pi.calcinaia.2026.0007", datetime(2026, 11, 21, 9, tzinfo=ROME_IN_WINTER)
    )
    assert (alert.status, alert.msg_type, alert.scope) == (cap.Status.ACTUAL, cap.MsgType.UPDATE, cap.Scope.PUBLIC)
    assert alert.codes == ("it.comune:1",)
    assert alert.incidents == ("Piena dell'Arno", "argine")
    assert alert.references == (
        cap.Reference(sender, "it.pi.calcinaia.2026.0006", datetime(2026, 11, 21, 7, 30, tzinfo=ROME_IN_WINTER)),
    )
    info = alert.first
    assert info.category == (cap.Category.MET, cap.Category.SAFETY)
    assert info.response_type == (cap.ResponseType.PREPARE,)
    assert (info.urgency, info.severity, info.certainty) == (
        cap.Urgency.EXPECTED,
        cap.Severity.SEVERE,
        cap.Certainty.LIKELY,
    )
    assert (info.language, info.event) == ("it-IT", "Allerta arancione rischio idraulico")
    assert info.onset == datetime(2026, 11, 21, 14, tzinfo=ROME_IN_WINTER)
    assert info.expires == datetime(2026, 11, 22, tzinfo=ROME_IN_WINTER)
    assert info.parameter("it.colore") == "arancione"
    assert info.event_codes == (cap.NamedValue("it.evento", "piena"),)
    assert (info.web, info.contact) == ("https://www.comune.calcinaia.pi.it/allerta", "0587 265411")
    [resource] = info.resources
    assert (resource.resource_desc, resource.mime_type, resource.size) == ("Mappa", "image/png", 5)
    assert resource.deref_uri == "RmFub28="
    [area] = info.areas
    assert area.polygons[0].outer[1] == Point(43.66, 10.595)
    assert area.circles == (Circle(Point(43.6702, 10.5851), 2.5),)
    assert area.geocodes == (cap.NamedValue("ISTAT_COMUNE", "050004"),)
    assert (area.altitude, area.ceiling) == (40.0, 160.5)


def test_a_crossing_polygon_is_kept_as_the_parts_it_encloses() -> None:
    ring = "43.660,10.565 43.660,10.595 43.675,10.595 43.675,10.565 43.660,10.565"
    bow_tie = "43.660,10.565 43.675,10.595 43.660,10.595 43.675,10.565 43.660,10.565"
    [area] = understood(changed((ring, bow_tie))).first.areas
    assert len(area.polygons) == 2
    assert all(polygon.defect is None for polygon in area.polygons)
    assert any(polygon.planar.covers(Polygon(polygon.outer).planar.centroid) for polygon in area.polygons)


def test_a_circle_of_radius_nought_reaches_nobody_and_is_left_out() -> None:
    [area] = understood(changed(("43.6702,10.5851 2.5", "43.6702,10.5851 0"))).first.areas
    assert area.circles == ()


def test_a_rejected_message_is_understood_as_far_as_it_can_be() -> None:
    raw = changed((">Severe<", ">severe<"), ("<sent>2026-11-21T09:00:00+01:00", "<sent>2026-11-21T09:00:00"))
    document = read(without("certainty", raw.decode()))
    assert document.verdict is Verdict.REJECT
    assert document.alert is not None
    assert document.alert.sent == datetime(2026, 11, 21, 9, tzinfo=UTC)
    assert document.alert.first.severity is cap.Severity.SEVERE
    assert document.alert.first.certainty is cap.Certainty.UNKNOWN


@pytest.mark.parametrize("element", ["identifier", "sender", "sent", "status", "msgType"])
def test_without_what_tells_it_apart_no_alert_is_made_up(element: str) -> None:
    document = read(without(element))
    assert (document.verdict, document.alert) == (Verdict.REJECT, None)


def test_a_message_without_its_scope_is_not_taken_to_be_public() -> None:
    assert understood(without("scope")).scope is cap.Scope.PRIVATE


def test_no_language_is_the_standards_own_default() -> None:
    assert understood(without("language")).first.language == "en-US"


def test_cap_1_0_is_read_in_its_own_words() -> None:
    raw = b"""<alert xmlns="http://www.incident.com/cap/1.0"><identifier>K1</identifier><sender>k@nws.gov</sender>
    <sent>2003-06-17T14:57:00-07:00</sent><status>Actual</status><msgType>Alert</msgType><info>
    <event>Temporale</event><urgency>Immediate</urgency><severity>Severe</severity><certainty>Very Likely</certainty>
    <eventCode>same=SVR</eventCode><parameter>vento=60=max</parameter>
    <area><areaDesc>Alpine</areaDesc><geocode>fips6=006109</geocode></area></info></alert>"""
    document = read(raw)
    assert (document.version, document.verdict) == ("1.0", Verdict.WARN)
    info = understood(raw).first
    assert info.certainty is cap.Certainty.LIKELY
    assert info.event_codes == (cap.NamedValue("same", "SVR"),)
    assert info.parameters == (cap.NamedValue("vento", "60=max"),)
    assert info.areas[0].geocodes == (cap.NamedValue("fips6", "006109"),)
    assert understood(raw).scope is cap.Scope.PUBLIC


def test_cap_1_1_may_leave_out_a_mime_type_and_1_2_may_not() -> None:
    older = without("mimeType", GOOD.replace("cap:1.2", "cap:1.1"))
    assert read(older).verdict is Verdict.ACCEPT
    assert read(without("mimeType")).verdict is Verdict.REJECT


def test_a_comment_in_the_middle_of_a_word_changes_nothing() -> None:
    assert read(changed((">Severe<", ">Sev<!-- o -->e<?x y?>re<"))).verdict is Verdict.ACCEPT


def test_a_signature_is_seen_and_not_judged() -> None:
    signed = changed(("</alert>", '<Signature xmlns="http://www.w3.org/2000/09/xmldsig#"/></alert>'))
    assert (read(signed).signed, read(signed).verdict) == (True, Verdict.ACCEPT)
    assert not read(GOOD.encode()).signed


# ── encodings ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("declared", "codec"),
    [
        ("UTF-8", "utf-8"),
        ("UTF-8", "utf-8-sig"),
        ("UTF-16", "utf-16"),
        ("UTF-16", "utf-16-le"),
        ("utf-16be", "utf-16-be"),
        ("UTF-32", "utf-32"),
        ("ISO-8859-1", "iso-8859-1"),
        ("windows-1252", "cp1252"),
    ],
)
def test_a_document_is_read_in_the_encoding_it_has(declared: str, codec: str) -> None:
    text = GOOD.replace("UTF-8", declared).replace("Piena", "È piena")
    document = read(text.encode(codec))
    assert document.verdict is Verdict.ACCEPT, document.findings
    assert document.alert is not None
    assert document.alert.first.description.startswith("È piena")


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
def test_a_document_type_is_refused_in_any_encoding(codec: str) -> None:
    text = GOOD.replace("UTF-8", codec.removesuffix("-sig").replace("-le", "le").replace("-be", "be")).replace(
        "<alert", "<!-- ! --><?x?><!DOCTYPE alert [<!ENTITY a 'b'>]><alert"
    )
    assert [finding.rule for finding in read(text.encode(codec)).findings] == ["doctype"]


@pytest.mark.parametrize(
    "raw",
    [
        GOOD.replace("UTF-8", "UTF-16").encode(),
        GOOD.encode("utf-16"),
        GOOD.replace("UTF-8", "UTF-7").encode(),
        GOOD.replace("UTF-8", "cp037").encode("cp037"),
        GOOD.encode()[:-9] + b"\xff</alert>",
        GOOD.replace("UTF-8", "UTF-16").encode("utf-16")[:-1],
    ],
    ids=["says UTF-16, is UTF-8", "says UTF-8, is UTF-16", "UTF-7", "EBCDIC", "a byte that is none", "half a letter"],
)
def test_a_document_that_is_not_what_it_says_is_rejected(raw: bytes) -> None:
    document = read(raw)
    assert document.verdict is Verdict.REJECT
    assert {finding.rule for finding in document.findings} & {"encoding", "xml-malformed"}


# ── single values ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("2026-11-21T09:00:00+01:00", Form.CAP),
        (" 2026-11-21T24:00:00-00:00\n", Form.CAP),
        ("2026-11-21T09:00:00Z", Form.ZULU),
        ("2026-11-21T09:00:00", Form.NAIVE),
        ("2026-11-21T09:00:00.5+01:00", Form.FRACTION),
        ("2026-11-21T09:00:60+01:00", None),
        ("2026-02-29T09:00:00+01:00", None),
        ("2026-11-21T09:00:00+14:30", None),
        ("2026-11-21 09:00:00+01:00", None),
        ("2026-11-21T24:00:01+01:00", None),
        ("9999-12-31T24:00:00+01:00", None),
        ("0001-01-01T00:00:00+01:00", None),
        ("٢٠٢٦-11-21T09:00:00+01:00", None),
        ("", None),
    ],
)
def test_a_time_is_read_as_the_schema_has_it(text: str, form: Form | None) -> None:
    time = read_time(text)
    assert (time.form if time else None) is form


def test_midnight_may_be_the_end_of_a_day() -> None:
    time = read_time("2026-11-21T24:00:00+01:00")
    assert time is not None
    assert time.at == datetime(2026, 11, 22, tzinfo=ROME_IN_WINTER)


@pytest.mark.parametrize(
    "text",
    ["https://a.it/è?x=1&y=|#[z]", "mailto:a@b.it", "../b.png", "", "//a:80/", "urn:oid:2.49.0", "http://a/b c\nd"],
)
def test_an_address_may_be_whatever_the_schema_calls_a_uri(text: str) -> None:
    assert is_uri(text)


@pytest.mark.parametrize("text", ["http://[::1", "1:b", "%zz", "http://a:port/", "//a@:?", "//9{:", "http://[z]"])
def test_half_an_address_is_none(text: str) -> None:
    assert not is_uri(text)


ANY_URI = etree.XMLSchema(
    etree.XML(
        '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema"><xs:element name="uri" type="xs:anyURI"/></xs:schema>'
    )
)


@given(st.text("019+-.:TZe/ #?%[]@a\n{é", max_size=9))
def test_an_address_is_one_exactly_when_the_schema_says_so(text: str) -> None:
    """Fuzzing found `//a@:?`, a colon without a port, which the schema refuses."""
    element = etree.Element("uri")
    element.text = text
    assert is_uri(text) == ANY_URI.validate(element)


def test_numbers_and_languages_are_read_exactly() -> None:
    assert (read_integer(" +12 "), read_integer("1_2"), read_integer("9" * 5_000)) == (12, None, None)
    assert (read_decimal("-.5"), read_decimal("1e3"), read_decimal("NaN")) == (-0.5, None, None)
    assert [is_language(text) for text in ("it", "zh-Hant-TW", "it_IT", "italianissimo")] == [True, True, False, False]


def test_a_list_keeps_together_what_stands_between_quotation_marks() -> None:
    assert read_list('prociv "Croce Rossa"  ""  misericordia') == (("prociv", "Croce Rossa", "misericordia"), True)
    assert read_list('"Croce Rossa') == (("Croce", "Rossa"), False)


def test_a_document_of_no_alert_is_rejected() -> None:
    assert Document("", None, (), signed=False).verdict is Verdict.REJECT
