"""What is handed in to do harm, and what chance makes of a document: a finding, never an exception, within bounds."""

import bz2
import gzip
import lzma
import resource
import time
import zipfile
from collections.abc import Callable
from io import BytesIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alerting.cap_xml.envelopes import Enveloped, examine, opened
from alerting.cap_xml.reading import Document, Verdict, read
from alerting.domain.findings import Weight
from tests.unit.cap_documents import GOOD, RING, SHARED, changed

NAMESPACE = "urn:oasis:names:tc:emergency:cap:1.2"
SECONDS = 4.0
"""Of computing, for the worst of these; a document in order takes two thousandths."""
MEGABYTES = 500


def zipped(content: bytes) -> bytes:
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../etc/passwd", content)
    return packed.getvalue()


def laughs(word: str = "ha") -> str:
    entities = "".join(f'<!ENTITY h{n} "{f"&h{n - 1};" * 10 if n else word}">' for n in range(10))
    return GOOD.replace("<alert", f"<!DOCTYPE alert [{entities}]><alert").replace("Fornacette<", "&h9;<")


def scribble(edges: int, seed: int = 1) -> str:
    points = [
        f"{43 + (seed * n * n * 7919) % 9973 / 1e4},{10 + (seed * n**3 * 104729) % 9967 / 1e4}" for n in range(edges)
    ]
    return " ".join([*points, points[0]])


def swap(old: str, new: str) -> Callable[[], bytes]:
    return lambda: changed((old, new))


def with_polygon(text: str) -> bytes:
    return changed((RING, text))


HARM: dict[str, Callable[[], bytes]] = {
    "a billion laughs": lambda: laughs().encode(),
    "a billion laughs in UTF-16": lambda: laughs().replace("UTF-8", "UTF-16").encode("utf-16"),
    "a file by entity": lambda: changed(
        ("<alert", '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><alert'), ("Fornacette<", "&x;<")
    ),
    "a file by parameter entity": lambda: changed(
        ("<alert", '<!DOCTYPE a [<!ENTITY % x SYSTEM "http://127.0.0.1:9/x"> %x;]><alert')
    ),
    "a document type from elsewhere": lambda: changed(
        ("<alert", '<!DOCTYPE a SYSTEM "http://127.0.0.1:9/a.dtd"><alert')
    ),
    "a document type after comments": lambda: changed(("<alert", "<!----><?x ?>\n<!-- <a> --><!DOCTYPE a><alert")),
    "an entity nobody declared": lambda: changed(("Fornacette<", "&fornacette;<")),
    "a gzip bomb": lambda: gzip.compress(b"<alert>" + b" " * 20_000_000),
    "bzip2": lambda: bz2.compress(GOOD.encode()),
    "xz": lambda: lzma.compress(GOOD.encode()),
    "a zip that climbs": lambda: zipped(GOOD.encode()),
    "nothing": lambda: b"",
    "only NULs": lambda: b"\x00" * 100_000,
    "a NUL in a text": lambda: changed(("Fornacette<", "Forna\x00cette<")),
    "a NUL by its number": lambda: changed(("Fornacette<", "Forna&#0;cette<")),
    "half a surrogate": lambda: changed(("Fornacette<", "&#xD83D;<")),
    "half a letter of UTF-16": lambda: GOOD.replace("UTF-8", "UTF-16").encode("utf-16")[:-1],
    "depth": lambda: b"<a>" * 1_000_000,
    "depth in its place": lambda: changed(("<area>", "<area>" + "<area>" * 250 + "</area>" * 250)),
    "an endless comment": lambda: b"<!--" + b"-" * 4_000_000,
    "instructions without end": lambda: b"<?a ?>" * 800_000,
    "four hundred thousand attributes": lambda: (
        f'<alert xmlns="{NAMESPACE}" {" ".join(f"a{n}=" + chr(34) * 2 for n in range(400_000))}/>'.encode()
    ),
    "a hundred thousand namespaces": lambda: (
        f'<alert xmlns="{NAMESPACE}" {" ".join(f"xmlns:a{n}={chr(34)}u{n}{chr(34)}" for n in range(10**5))}/>'.encode()
    ),
    "infos without end": lambda: changed(("</alert>", "<info/>" * 90_000 + "</alert>")),
    "areas without end": lambda: changed(("</info>", "<area/>" * 90_000 + "</info>")),
    "strangers without end": lambda: changed(("</info>", "<x/>" * 190_000 + "</info>")),
    "five megabytes and one": lambda: changed(("</alert>", "</alert>" + " " * 5_000_000)),
    "vertices without end": lambda: with_polygon("1.1,1.1 " * 600_000),
    "a scribble of a hundred and fifty": lambda: with_polygon(scribble(150)),
    "a scribble of ten thousand": lambda: with_polygon(scribble(9_990)),
    "a scribble of fifty thousand": lambda: with_polygon(scribble(50_000)),
    "scribbles by the dozen": lambda: with_polygon(
        "</polygon><polygon>".join(scribble(120, seed) for seed in range(2, 60))
    ),
    "numbers that are none": lambda: with_polygon("nan,nan inf,inf 1e999,-1e999 nan,nan"),
    "digits without end": lambda: with_polygon("9" * 1_000_000 + ",1 1,1 2,2 3,3"),
    "references without end": lambda: changed(
        ("</references>", " a,b,2026-11-21T07:00:00+01:00" * 100_000 + "</references>")
    ),
    "an address without end": lambda: changed(("https://www.comune", "http://" + "a:@" * 1_000_000 + "[")),
    "an altitude without end": lambda: changed(("<altitude>40", "<altitude>" + "9" * 1_000_000)),
    "a size without end": lambda: changed(("<size>5", "<size>" + "9" * 1_000_000)),
    "markup without end": lambda: changed(("Piena dell'Arno", "<![CDATA[" + "<b" * 190_000 + "]]>")),
    "an included file": lambda: changed(
        ("Fornacette<", '<include xmlns="http://www.w3.org/2001/XInclude" href="/etc/passwd" parse="text"/><')
    ),
}


@pytest.mark.parametrize("harm", HARM)
def test_harm_is_a_finding_within_bounds(harm: str) -> None:
    raw = HARM[harm]()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    document = read(raw)
    assert time.process_time() - started < SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEGABYTES * 1024
    assert document.verdict is Verdict.REJECT
    assert any(finding.weight is Weight.ERROR for finding in document.findings)
    assert len(document.findings) < 1_000
    assert "root:" not in repr(document)


@pytest.mark.parametrize("quotes", ['"' * 1_000_000, '" ' * 900_000 + '"', "a " * 900_000])
def test_lists_without_end_are_read_in_time(quotes: str) -> None:
    started = time.process_time()
    read(changed(('"Piena dell\'Arno" argine', quotes)))
    assert time.process_time() - started < SECONDS


def test_a_feed_without_end_is_read_in_part_and_in_time() -> None:
    entry = f"<entry><content>{GOOD.partition('?>')[2]}</content></entry>"
    raw = f'<feed xmlns="http://www.w3.org/2005/Atom">{entry * 2_000}</feed>'.encode()
    started = time.process_time()
    found = opened(raw)
    assert time.process_time() - started < 10 * SECONDS
    assert found is not None
    assert len(found.documents) == len(found.raws) == 1_000
    assert any(finding.rule == "envelope-too-many" for finding in found.findings)


def test_a_feed_of_an_entity_is_no_feed_at_all() -> None:
    raw = b'<!DOCTYPE feed [<!ENTITY x "x">]><feed xmlns="http://www.w3.org/2005/Atom">&x;</feed>'
    assert opened(raw) is None
    assert examine(raw).verdict is Verdict.REJECT


# ── chance ──────────────────────────────────────────────────────────────────────────────────────────

SMALL = [
    file.read_bytes()
    for folder in ("cap", "cap_rules")
    for file in sorted((SHARED / folder).glob("*"))
    if file.suffix != ".json" and file.stat().st_size < 7_000
] or [GOOD.encode()]
PIECES = [
    b"<", b">", b"&", b"]]>", b"<![CDATA[", b"<!--", b"-->", b"<!DOCTYPE a>", b"&#0;", b"&#x9b;", b"\x00", b"\xff",
    b"\xe2\x80", b" ", b",", b";", b"-", b"1e999", b"nan", b"180.1", b"+00:00", b"Z", b"T24:00:00",
    b"9999-12-31T23:59:59-14:00",
    b"</info><info>", b"</alert>", b"<polygon/>", b"<area>", b"<language/>", b"xsi:nil='1'", b"xmlns=''", b'"',
]  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A real document with a few bytes lost, doubled, moved or put in."""
    raw = draw(st.sampled_from(SMALL))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(raw)))
        end = min(len(raw), start + draw(st.integers(0, 60)))
        match draw(st.sampled_from(["lose", "double", "move", "put"])):
            case "lose":
                raw = raw[:start] + raw[end:]
            case "double":
                raw = raw[:end] + raw[start:end] + raw[end:]
            case "move":
                to = draw(st.integers(0, len(raw)))
                raw = raw[:to] + raw[start:end] + raw[to:]
            case _:
                raw = raw[:start] + draw(st.sampled_from(PIECES) | st.binary(max_size=4)) + raw[start:]
    return raw


def judged(raw: bytes) -> None:
    found = examine(raw)
    documents = found.documents if isinstance(found, Enveloped) else (found,)
    for document in documents:
        errors = any(finding.weight is Weight.ERROR for finding in document.findings)
        assert (document.verdict is Verdict.REJECT) == errors
        assert all(finding.text and (finding.line is None or finding.line > 0) for finding in document.findings)
    if isinstance(found, Document) and len(raw) <= 5_000_000:
        assert read(raw) == found


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(mutated())
def test_a_document_that_chance_changed_is_judged(raw: bytes) -> None:
    judged(raw)


@given(st.binary(max_size=300) | st.binary(max_size=100).map(lambda noise: b"<alert>" + noise))
def test_noise_is_judged(raw: bytes) -> None:
    judged(raw)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60), st.sampled_from(["polygon", "circle"]))
def test_any_text_may_stand_where_a_shape_should(text: str, element: str) -> None:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    judged(changed((RING if element == "polygon" else "43.6702,10.5851 2.5", escaped)))


@given(st.lists(st.tuples(st.floats(-91, 91), st.floats(-181, 181)), min_size=3, max_size=12))
def test_any_ring_is_kept_sound_or_left_out(points: list[tuple[float, float]]) -> None:
    text = " ".join(f"{lat:.3f},{lon:.3f}" for lat, lon in [*points, points[0]])
    document = read(with_polygon(text))
    assert document.alert is not None
    for polygon in document.alert.first.areas[0].polygons:
        assert polygon.defect is None
