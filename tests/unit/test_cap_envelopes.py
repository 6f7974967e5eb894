"""Atom, RSS and EDXL-DE around CAP: what is inside, what is linked, and what is none of these."""

from typing import Any

import pytest

from alerting.cap_xml.envelopes import Enveloped, Link, examine, opened
from alerting.cap_xml.reading import Verdict, read
from tests.unit.cap_documents import GOOD, changed, shared, told

BODY = GOOD.partition("?>")[2].strip()
ATOM = '<feed xmlns="http://www.w3.org/2005/Atom" xmlns:cap="urn:oasis:names:tc:emergency:cap:1.2">'


def opened_surely(raw: bytes | str) -> Enveloped:
    found = opened(raw.encode() if isinstance(raw, str) else raw)
    assert found is not None
    return found


ENVELOPES = [row for row in told("cap/manifest.json") if row["verdict"].startswith("envelope")]


@pytest.mark.parametrize("row", ENVELOPES, ids=lambda row: str(row["file"]))
def test_a_real_envelope_gets_the_verdict_of_what_is_in_it(row: dict[str, Any]) -> None:
    found = examine((shared("cap") / row["file"]).read_bytes())
    assert (found.verdict is Verdict.REJECT) == (row["verdict"] == "envelope with bad CAP")
    if isinstance(found, Enveloped):
        assert bool(found.documents) == bool(row["version"])
        assert found.documents or found.verdict is Verdict.IGNORE


def test_a_bare_message_is_no_envelope_and_neither_is_rubbish() -> None:
    for raw in (GOOD.encode(), b"<html/>", b"{}", b"", b"\x1f\x8b", b"<feed>"):
        assert opened(raw) is None


def test_each_message_in_a_feed_is_judged_and_kept_by_itself() -> None:
    bad = BODY.replace(">Severe<", ">severe<")
    found = opened_surely(
        f"{ATOM}<entry><content>{BODY}</content></entry><entry><content>{bad}</content></entry></feed>"
    )
    assert [document.verdict for document in found.documents] == [Verdict.ACCEPT, Verdict.REJECT]
    assert found.verdict is Verdict.REJECT
    assert [read(raw).verdict for raw in found.raws] == [Verdict.ACCEPT, Verdict.REJECT]
    assert read(found.raws[0]).alert == found.documents[0].alert == read(GOOD.encode()).alert


def test_the_lines_of_a_finding_are_those_of_the_feed() -> None:
    feed = f"{ATOM}\n\n\n<entry><content>{BODY.replace('>Severe<', '>severe<')}</content></entry></feed>"
    [document] = opened_surely(feed).documents
    [finding] = document.findings
    assert finding.line == feed[: feed.index("<severity>")].count("\n") + 1


def test_of_several_links_that_to_the_cap_message_is_taken() -> None:
    feed = f"""{ATOM}<link rel="self" href="https://a.it/feed"/>
    <entry><id>urn:1</id><updated>2026-11-21T09:00:00Z</updated><link rel="hub" href="https://hub.it"/>
      <link href="https://a.it/1.html"/><link type="application/cap+xml" href=" https://a.it/1.cap "/></entry>
    <entry><id>urn:2</id><link href="https://a.it/2.cap"/><published>2026-11-20</published></entry>
    <entry><id>https://a.it/3.cap</id></entry>
    <entry><id>urn:4</id><link rel="self" href="https://a.it/4"/></entry></feed>"""
    assert opened_surely(feed).links == (
        Link("https://a.it/1.cap", "urn:1", "2026-11-21T09:00:00Z"),
        Link("https://a.it/2.cap", "urn:2", "2026-11-20"),
        Link("https://a.it/3.cap", "https://a.it/3.cap", ""),
    )


def test_an_rss_item_links_by_its_enclosure_or_its_link() -> None:
    feed = """<rss version="2.0"><channel><link>https://a.it</link>
    <item><guid>g1</guid><link>https://a.it/1</link><pubDate>Sat, 21 Nov 2026 09:00:00 +0100</pubDate></item>
    <item><link>https://a.it/2</link><enclosure url="https://a.it/2.cap" type="application/cap+xml"/></item>
    </channel></rss>"""
    assert opened_surely(feed).links == (
        Link("https://a.it/1", "g1", "Sat, 21 Nov 2026 09:00:00 +0100"),
        Link("https://a.it/2.cap", "", ""),
    )


def test_a_distribution_holds_its_messages_without_links() -> None:
    found = opened_surely(
        '<EDXLDistribution xmlns="urn:oasis:names:tc:emergency:EDXL:DE:1.0"><contentObject><xmlContent>'
        f"<embeddedXMLContent>{BODY}</embeddedXMLContent></xmlContent></contentObject></EDXLDistribution>"
    )
    assert (len(found.documents), found.links, found.verdict) == (1, (), Verdict.ACCEPT)


def test_a_feed_without_messages_says_so_and_fails_nobody() -> None:
    found = opened_surely(f"{ATOM}<entry><cap:event>Piena</cap:event><id>https://a.it/1</id></entry></feed>")
    assert found.verdict is Verdict.IGNORE
    assert [finding.rule for finding in found.findings] == ["envelope", "envelope-links-only"]


def test_a_message_inside_a_message_is_a_defect_of_the_outer_one() -> None:
    inner = BODY.replace("<area>", f"{BODY}<area>")
    [document] = opened_surely(f"{ATOM}{inner}</feed>").documents
    assert document.verdict is Verdict.REJECT


def test_examining_gives_a_bare_message_the_same_findings_as_reading() -> None:
    raw = changed((">Severe<", ">severe<"))
    assert examine(raw) == read(raw)
