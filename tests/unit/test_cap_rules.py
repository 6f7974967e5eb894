"""Every rule of the CAP reader, broken once in a message that is otherwise in order."""

import gzip
from collections.abc import Callable

import pytest

from alerting.cap_xml import reading
from alerting.cap_xml.envelopes import examine
from alerting.cap_xml.reading import Verdict, read
from alerting.cap_xml.rules import MOST_OF_A_RULE, Report, Rule
from alerting.domain.findings import Weight
from tests.unit.cap_documents import GOOD, RING, changed, line_of, without

SENDER = "protezionecivile@comune.calcinaia.pi.it"
REFERENCE = f"{SENDER},it.pi.calcinaia.2026.0006,2026-11-21T07:30:00+01:00"
ANCIENT = """<alert xmlns="http://www.incident.com/cap/1.0">
<identifier>KSTO1055887203</identifier><sender>KSTO@NWS.NOAA.GOV</sender><sent>2003-06-17T14:57:00-07:00</sent>
<status>Actual</status><msgType>Alert</msgType><info><event>SEVERE THUNDERSTORM</event><urgency>Immediate</urgency>
<severity>Severe</severity><certainty>Very Likely</certainty><eventCode>same=SVR</eventCode>
<area><areaDesc>Alpine county</areaDesc><geocode>fips6=006109</geocode><altitude>low</altitude></area></info></alert>"""


def swap(old: str, new: str) -> Callable[[], bytes]:
    return lambda: changed((old, new))


def drop(element: str) -> Callable[[], bytes]:
    return lambda: without(element)


def polygon(text: str) -> Callable[[], bytes]:
    return swap(RING, text)


def circle(text: str) -> Callable[[], bytes]:
    return swap("43.6702,10.5851 2.5", text)


def second_info(**changes: str) -> bytes:
    """The message with its info repeated in English, but for what is changed in the second."""
    info = GOOD[GOOD.index("  <info>") : GOOD.index("</alert>")].replace("it-IT", "en-GB")
    texts = {
        "Allerta arancione rischio idraulico": "Orange flood warning",
        "Allerta arancione per rischio idraulico a Fornacette": "Orange flood warning for Fornacette",
        "Piena dell'Arno attesa dalle 14.": "The Arno will rise from 14:00.",
        "Spostati ai piani alti.": "Go upstairs.",
    }
    for old, new in (texts | changes).items():
        info = info.replace(f">{old}<", f">{new}<")
    return GOOD.replace("</alert>", info + "</alert>").encode()


SCRIBBLE = " ".join(f"{43 + 7 * n * n % 997 / 1000},{10 + 13 * n * n * n % 991 / 1000}" for n in range(400))

BROKEN: dict[Rule, Callable[[], bytes]] = {
    Rule.EMPTY: lambda: b" \n",
    Rule.TOO_LARGE: lambda: GOOD.encode() + b" " * 5_000_000,
    Rule.COMPRESSED: lambda: gzip.compress(GOOD.encode()),
    Rule.ENCODING: lambda: changed(("Fornacette", "Fornacetté")).replace("é".encode(), b"\xe9"),
    Rule.DOCTYPE: swap("<alert", '<!DOCTYPE alert [<!ENTITY x SYSTEM "file:///etc/passwd">]>\n<alert'),
    Rule.XML_MALFORMED: swap("</area>", "</aera>"),
    Rule.TOO_DEEP: swap("<area>", "<area>" + "<b>" * 40 + "</b>" * 40),
    Rule.ELEMENTS_TOO_MANY: swap("<area>", "<area>" + "<b></b>" * 200_000),
    Rule.NOT_CAP: lambda: b"<html><body>Allerta</body></html>",
    Rule.NAMESPACE_UNKNOWN: swap("cap:1.2", "cap:1.2:profile:cap-lu:1.0"),
    Rule.ELEMENT_UNKNOWN: swap("<contact>", "<telefono>0587</telefono><contact>"),
    Rule.ELEMENT_ORDER: swap(
        "<urgency>Expected</urgency>\n    <severity>Severe</severity>",
        "<severity>Severe</severity>\n    <urgency>Expected</urgency>",
    ),
    Rule.ELEMENT_REPEATED: swap("<event>", "<event>Vento</event><event>"),
    Rule.ELEMENT_MISSING: drop("certainty"),
    Rule.TEXT_MISPLACED: swap("<area>", "<area>Fornacette"),
    Rule.ATTRIBUTE_UNKNOWN: swap("<area>", '<area id="a">'),
    Rule.INFOS_TOO_MANY: swap("</alert>", "<info/>" * 200 + "</alert>"),
    Rule.AREAS_TOO_MANY: swap("</info>", "<area><areaDesc>Fornacette</areaDesc></area>" * 5_000 + "</info>"),
    Rule.VALUE_UNKNOWN: swap("<severity>Severe<", "<severity>severe<"),
    Rule.TIME_MALFORMED: swap("<onset>2026-11-21T14:00:00+01:00", "<onset>2026-11-31T14:00:00+01:00"),
    Rule.TIME_ZULU: swap("<sent>2026-11-21T09:00:00+01:00", "<sent>2026-11-21T08:00:00Z"),
    Rule.TIME_NAIVE: swap("<sent>2026-11-21T09:00:00+01:00", "<sent>2026-11-21T09:00:00"),
    Rule.TIME_FRACTION: swap("<sent>2026-11-21T09:00:00+01:00", "<sent>2026-11-21T09:00:00.25+01:00"),
    Rule.TIME_LOOSE: lambda: ANCIENT.replace("14:57:00-07:00", "21:57:00Z").encode(),
    Rule.TIME_PLUS_ZERO: swap("<sent>2026-11-21T09:00:00+01:00", "<sent>2026-11-21T08:00:00+00:00"),
    Rule.LANGUAGE_MALFORMED: swap("it-IT", "it_IT"),
    Rule.URI_MALFORMED: swap("https://www.comune.calcinaia.pi.it/allerta", "https://comune/%allerta"),
    Rule.URI_SPACES: swap("https://www.comune.calcinaia.pi.it/allerta", "https://comune/allerta meteo"),
    Rule.INTEGER_MALFORMED: swap("<size>5<", "<size>5 kB<"),
    Rule.DECIMAL_MALFORMED: swap("<altitude>40<", "<altitude>40 ft<"),
    Rule.IDENTIFIER_EMPTY: swap("<identifier>it.pi.calcinaia.2026.0007<", "<identifier> <"),
    Rule.IDENTIFIER_CHARACTERS: swap("it.pi.calcinaia.2026.0007", "it.pi calcinaia,0007"),
    Rule.IDENTIFIER_PADDED: swap("<sender>" + SENDER, "<sender>\n" + SENDER),
    Rule.REFERENCES_MISSING: drop("references"),
    Rule.REFERENCES_EMPTY: lambda: changed((f"<references>{REFERENCE}<", "<references><"), (">Update<", ">Alert<")),
    Rule.REFERENCE_MALFORMED: swap(f"<references>{REFERENCE}", f"<references>{SENDER},it.pi.calcinaia.2026.0006"),
    Rule.REFERENCE_TIME: swap("07:30:00+01:00", "06:30:00Z"),
    Rule.REFERENCE_SELF: swap("it.pi.calcinaia.2026.0006", "it.pi.calcinaia.2026.0007"),
    Rule.REFERENCE_POSTDATED: swap("07:30:00+01:00", "09:30:00+01:00"),
    Rule.REFERENCES_TOO_MANY: swap(REFERENCE, " ".join(REFERENCE.replace("0006", f"{n}") for n in range(1_001))),
    Rule.REFERENCE_REPEATED: swap(REFERENCE, f"{REFERENCE}\n{REFERENCE}"),
    Rule.RESTRICTION_MISSING: swap(">Public<", ">Restricted<"),
    Rule.RESTRICTION_UNUSED: swap("</scope>", "</scope><restriction>Solo volontari</restriction>"),
    Rule.ADDRESSES_MISSING: swap(">Public<", ">Private<"),
    Rule.QUOTES_OPEN: swap('"Piena dell\'Arno"', '"Piena'),
    Rule.EXERCISE_WITHOUT_NOTE: swap(">Actual<", ">Exercise<"),
    Rule.ERROR_WITHOUT_NOTE: swap(">Update<", ">Error<"),
    Rule.PASSWORD: lambda: ANCIENT.replace("<info>", "<password>arno</password><info>").encode(),
    Rule.INFO_MISSING: lambda: (GOOD[: GOOD.index("  <info>")] + "</alert>").encode(),
    Rule.STATUS_NOT_ACTUAL: swap(">Actual<", ">Test<"),
    Rule.SIGNED: swap("</alert>", '<Signature xmlns="http://www.w3.org/2000/09/xmldsig#"/></alert>'),
    Rule.LANGUAGE_MISSING: drop("language"),
    Rule.EVENT_EMPTY: swap("<event>Allerta arancione rischio idraulico<", "<event><"),
    Rule.HEADLINE_LONG: swap("<headline>", "<headline>" + "Arno in piena. " * 10),
    Rule.HEADLINE_MISSING: drop("headline"),
    Rule.DESCRIPTION_MISSING: drop("description"),
    Rule.INSTRUCTION_MISSING: drop("instruction"),
    Rule.HTML_IN_TEXT: swap("Piena dell'Arno attesa", "&lt;b&gt;Piena&lt;/b&gt; attesa"),
    Rule.SAME_TEXT_IN_TWO_LANGUAGES: lambda: second_info(**{"Go upstairs.": "Spostati ai piani alti."}),
    Rule.EXPIRES_MISSING: drop("expires"),
    Rule.EXPIRES_BEFORE_START: swap("<expires>2026-11-22T00", "<expires>2026-11-21T13"),
    Rule.EXPIRES_PAST: lambda: without(
        "onset", without("effective", changed(("<expires>2026-11-22T00", "<expires>2026-11-21T08")).decode()).decode()
    ),
    Rule.EXPIRES_FAR: swap("<expires>2026", "<expires>2199"),
    Rule.WEB_EMPTY: swap("https://www.comune.calcinaia.pi.it/allerta", ""),
    Rule.WEB_RELATIVE: swap("https://www.comune.calcinaia.pi.it/allerta", "www.comune.calcinaia.pi.it"),
    Rule.CATEGORIES_DIFFER: lambda: second_info(Safety="Env"),
    Rule.EVENT_CODES_DIFFER: lambda: second_info(piena="flood"),
    Rule.VALUE_NAMELESS: swap("<valueName>it.colore<", "<valueName><"),
    Rule.MIME_TYPE_MALFORMED: swap("image/png", "PNG"),
    Rule.RESOURCE_EMPTY: drop("derefUri"),
    Rule.RESOURCE_URI_RELATIVE: swap("<derefUri>RmFub28=</derefUri>", "<uri>mappa.png</uri>"),
    Rule.RESOURCE_BASE64: swap("RmFub28=", "Fanoo!"),
    Rule.RESOURCE_DIGEST: swap("RmFub28=", "RmFubzI="),
    Rule.SIZE_NEGATIVE: swap("<size>5<", "<size>-5<"),
    Rule.AREA_MISSING: lambda: (GOOD[: GOOD.index("    <area>")] + "</info></alert>").encode(),
    Rule.AREA_DESC_EMPTY: swap("<areaDesc>Fornacette<", "<areaDesc><"),
    Rule.AREA_NAME_ONLY: lambda: without("polygon", without("circle", without("geocode").decode()).decode()),
    Rule.GEOCODE_ONLY: lambda: without("polygon", without("circle").decode()),
    Rule.GEOMETRY_NOT_IN_EVERY_INFO: lambda: second_info(**{RING: "", "43.6702,10.5851 2.5": "43.6702,10.5851 0"}),
    Rule.POLYGON_EMPTY: polygon(""),
    Rule.POLYGON_MALFORMED: polygon(RING.replace("43.660,10.565", "43,660,10,565")),
    Rule.POLYGON_FEW: polygon("43.660,10.565 43.660,10.595 43.660,10.565"),
    Rule.POLYGON_OPEN: polygon(RING.rpartition(" ")[0]),
    Rule.POLYGON_CROSSING: polygon("43.660,10.565 43.675,10.595 43.660,10.595 43.675,10.565 43.660,10.565"),
    Rule.POLYGON_TANGLED: polygon(SCRIBBLE + " " + SCRIBBLE.split()[0]),
    Rule.POLYGON_FLAT: polygon("43.66,10.56 43.66,10.57 43.66,10.58 43.66,10.56"),
    Rule.POLYGON_WIDE: polygon("43,-179 43,179 44,179 43,-179"),
    Rule.CIRCLE_MALFORMED: circle("43.6702,10.5851,2.5"),
    Rule.CIRCLE_RADIUS: circle("43.6702,10.5851 -2"),
    Rule.CIRCLE_ZERO: circle("43.6702,10.5851 0.0"),
    Rule.CIRCLE_LARGE: circle("43.6702,10.5851 2500"),
    Rule.LATITUDE_RANGE: circle("143.6702,10.5851 2.5"),
    Rule.LONGITUDE_RANGE: polygon("43,190 43,191 44,191 43,190"),
    Rule.COORDINATES_EXCHANGED: polygon("10.565,43.660 10.595,43.660 10.595,43.675 10.565,43.660"),
    Rule.VERTICES_MANY: polygon(
        " ".join(f"{43 + n / 1e5:.5f},{10 + n % 2 / 1e5:.5f}" for n in range(12_000)) + " 43.05,11 43.00000,10.00000"
    ),
    Rule.VERTICES_TOO_MANY: polygon("43.1,10.1 " * 60_001),
    Rule.CEILING_WITHOUT_ALTITUDE: drop("altitude"),
    Rule.CEILING_BELOW_ALTITUDE: swap("160.5", "16"),
    Rule.ALTITUDE_NOT_A_NUMBER: lambda: ANCIENT.encode(),
    Rule.ENVELOPE: lambda: f'<feed xmlns="http://www.w3.org/2005/Atom">{GOOD.partition("?>")[2]}</feed>'.encode(),
    Rule.ENVELOPE_LINKS_ONLY: lambda: b"<rss><channel><item><link>https://x.it/1.cap</link></item></channel></rss>",
    Rule.ENVELOPE_TOO_MANY: lambda: (
        f'<feed xmlns="http://www.w3.org/2005/Atom">{"<entry><id>http://x.it</id></entry>" * 10_001}</feed>'.encode()
    ),
}
"""For each rule, a document that breaks it."""

ELSEWHERE = {Rule.ENVELOPE, Rule.ENVELOPE_LINKS_ONLY, Rule.ENVELOPE_TOO_MANY}
"""Rules about what is no message by itself."""


def test_the_message_that_is_in_order_has_no_finding_at_all() -> None:
    document = read(GOOD.encode())
    assert (document.verdict, document.findings) == (Verdict.ACCEPT, ())


def test_every_rule_has_a_document_that_breaks_it() -> None:
    assert set(BROKEN) == set(Rule)


@pytest.mark.parametrize("rule", BROKEN, ids=lambda rule: rule.id)
def test_who_breaks_a_rule_is_told(rule: Rule) -> None:
    raw = BROKEN[rule]()
    found = examine(raw)
    told = {finding.rule: finding for finding in found.findings}
    assert rule.id in told, f"only {sorted(told)}"
    assert told[rule.id].weight is rule.weight
    if isinstance(found, reading.Document) and rule.weight is Weight.ERROR:
        assert found.verdict is Verdict.REJECT


LESSER = [rule for rule in BROKEN if rule.weight is not Weight.ERROR and rule not in ELSEWHERE]


@pytest.mark.parametrize("rule", LESSER, ids=lambda rule: rule.id)
def test_a_document_that_breaks_a_lesser_rule_is_not_rejected_for_it(rule: Rule) -> None:
    expected = {Weight.WARNING: {Verdict.WARN, Verdict.IGNORE}, Weight.NOTE: {Verdict.ACCEPT, Verdict.IGNORE}}
    assert read(BROKEN[rule]()).verdict in expected[rule.weight]


@pytest.mark.parametrize(
    ("raw", "rule", "at"),
    [
        (BROKEN[Rule.POLYGON_OPEN](), Rule.POLYGON_OPEN, "<polygon>"),
        (BROKEN[Rule.VALUE_UNKNOWN](), Rule.VALUE_UNKNOWN, "<severity>"),
        (BROKEN[Rule.CEILING_WITHOUT_ALTITUDE](), Rule.CEILING_WITHOUT_ALTITUDE, "<ceiling>"),
        (BROKEN[Rule.DOCTYPE](), Rule.DOCTYPE, "<!DOCTYPE"),
        (BROKEN[Rule.ELEMENT_MISSING](), Rule.ELEMENT_MISSING, "<info>"),
        (BROKEN[Rule.XML_MALFORMED](), Rule.XML_MALFORMED, "</aera>"),
    ],
    ids=lambda value: value.id if isinstance(value, Rule) else "",
)
def test_a_finding_names_the_line_it_is_about(raw: bytes, rule: Rule, at: str) -> None:
    lines = {finding.rule: finding.line for finding in read(raw).findings}
    assert lines[rule.id] == line_of(at, raw)


def test_a_finding_says_what_was_meant() -> None:
    [finding] = read(BROKEN[Rule.VALUE_UNKNOWN]()).findings
    assert finding.text == "<severity> “severe” is not on the list; write Severe"


def test_one_rule_broken_a_thousand_times_is_told_twenty_times_and_how_often_more() -> None:
    report = Report()
    for line in range(1, 1_001):
        report.add(Rule.GEOCODE_ONLY, line, "l'area Tosc-A4 ha solo un codice")
    findings = report.findings()
    assert len(findings) == MOST_OF_A_RULE + 1
    assert findings[-1].text == "and 980 more of this kind"


def test_an_ack_without_info_is_in_order() -> None:
    ack = GOOD[: GOOD.index("  <info>")].replace(">Update<", ">Ack<") + "</alert>"
    assert read(ack.encode()).verdict is Verdict.ACCEPT


def test_a_less_than_sign_in_a_sentence_is_no_markup() -> None:
    raw = changed(("Piena dell'Arno attesa dalle 14.", "Livello &lt; 3 m &amp; in calo, R&amp;S; &lt;Arno&gt;"))
    assert read(raw).verdict is Verdict.ACCEPT


def test_ids_are_stable_words() -> None:
    assert Rule.POLYGON_OPEN.id == "polygon-open"
    assert all(rule.sentence.endswith(("…", ".")) for rule in Rule)
    assert len({rule.sentence for rule in Rule}) == len(Rule)
