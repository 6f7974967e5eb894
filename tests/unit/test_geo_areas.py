"""Places with a name: found by position, by code, and by what people type."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo.areas import Area, AreaKind, Gazetteer, UnknownArea
from geo.boundaries import read_boundaries
from geo.cells import cover
from geo.geojson import parse_geojson, to_geojson
from geo.names import plain, slug, typos
from geo.shapes import Circle, Geofence, Point, Polygon
from tests.unit.geo_drawings import FORNACETTE, needs, rectangle


def area(code: str, name: str, kind: AreaKind = AreaKind.FRAZIONE, parent: str | None = None) -> Area:
    return Area(code, name, kind, Geofence((Circle(FORNACETTE, 1),)), parent)


CALCINAIA = Area("050004", "Calcinaia", AreaKind.COMUNE, Geofence((Polygon(rectangle(43.65, 10.55, 43.72, 10.65)),)))
PLACES = Gazetteer(
    [
        CALCINAIA,
        area("050004-fornacette", "Fornacette", parent="050004"),
        area("050004-santacolomba", "Santa Colomba"),
        area("053022-bagnolo", "Bagnolo"),
        area("053022-bagnore", "Bagnore"),
        area("048019-calcinaia", "Calcinaia"),
        area("050008-sanfrediano", "San Frediano a Settimo"),
        area("050008-gavena", "Sant'Andrea a Gavèna"),
    ]
)


def names(text: str) -> list[str]:
    return [found.name for found in PLACES.named(text)]


def test_a_point_is_in_its_comune_and_in_its_frazione() -> None:
    places = Gazetteer([CALCINAIA, area("050004-fornacette", "Fornacette", parent="050004")])
    assert [found.name for found in places.of(FORNACETTE)] == ["Calcinaia", "Fornacette"]
    assert [found.name for found in places.of(Point(43.71, 10.64))] == ["Calcinaia"]
    assert places.of(Point(45.46, 9.19)) == ()
    assert places.of(Point(float("nan"), 9.19)) == ()


def test_a_point_on_the_border_of_two_is_in_both() -> None:
    bientina = Geofence((Polygon(rectangle(43.72, 10.55, 43.8, 10.65)),))
    places = Gazetteer([CALCINAIA, Area("050001", "Bientina", AreaKind.COMUNE, bientina)])
    assert {found.name for found in places.of(Point(43.72, 10.6))} == {"Calcinaia", "Bientina"}


def test_a_code_finds_its_area() -> None:
    assert PLACES.by_code("050004") is CALCINAIA


def test_an_unknown_code_is_answered_with_what_was_meant() -> None:
    with pytest.raises(UnknownArea) as refusal:
        PLACES.by_code("fornacete")
    assert str(refusal.value) == "no area is called 'fornacete'; did you mean Fornacette?"
    with pytest.raises(UnknownArea, match=r"did you mean Calcinaia \(050004\)") as refusal:
        PLACES.by_code("050014")
    assert refusal.value.suggestions
    with pytest.raises(UnknownArea, match=r"^no area is called 'Reykjavik'$"):
        PLACES.by_code("Reykjavik")


def test_two_areas_of_one_code_are_refused() -> None:
    with pytest.raises(ValueError, match="Calcinaia and Fornacette both have the code 050004; change one"):
        Gazetteer([CALCINAIA, area("050004", "Fornacette")])


def test_a_gazetteer_may_be_empty() -> None:
    assert Gazetteer([]).of(FORNACETTE) == ()
    assert Gazetteer([]).named("Fornacette") == ()


@pytest.mark.parametrize(
    "typed",
    ["Fornacette", "FORNACETTE", " fornacette! ", "fornacete", "fornaccette", "Fornacetet", "vornacete"],
)
def test_fornacette_is_found_however_it_is_typed(typed: str) -> None:
    assert names(typed) == ["Fornacette"]


@pytest.mark.parametrize(
    "typed",
    ["sant'andrea a gavena", "Sant’Andrea a Gavèna", "SANTANDREA A GAVENA", "Sant Andrea a Gave\u0300na"],
)
def test_accents_and_apostrophes_do_not_count(typed: str) -> None:
    assert names(typed) == ["Sant'Andrea a Gavèna"]


def test_a_name_written_right_is_meant_though_another_is_near() -> None:
    assert names("Bagnolo") == ["Bagnolo"]


def test_a_name_between_two_is_left_to_the_person() -> None:
    assert names("Bagnole") == ["Bagnolo", "Bagnore"]


def test_two_places_of_one_name_are_both_returned() -> None:
    assert [found.code for found in PLACES.named("calcinaia")] == ["050004", "048019-calcinaia"]


def test_two_typos_in_seven_letters_are_too_many() -> None:
    assert names("Bognola") == []
    assert names("") == []
    assert names("!?") == []


words = st.text("abcde", max_size=7)


@given(words, words)
def test_typos_are_counted_the_same_both_ways_and_nothing_is_no_typo(one: str, other: str) -> None:
    assert typos(one, other) == typos(other, one)
    assert (typos(one, other) == 0) == (one == other)
    assert abs(len(one) - len(other)) <= typos(one, other) <= max(len(one), len(other))


@pytest.mark.parametrize(("one", "other", "count"), [("selva", "slva", 1), ("selva", "slvea", 2), ("", "arno", 4)])
def test_typos_are_counted(one: str, other: str, count: int) -> None:
    assert typos(one, other) == count


def test_neighbours_exchanged_are_one_typo() -> None:
    assert typos("fornacetet", "fornacette") == 1


@given(st.text())
def test_plain_is_plain_already(text: str) -> None:
    assert plain(plain(text)) == plain(text)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Ponte a Cappiano", "ponte-a-cappiano"),
        ("Sant’Andrea a Gavèna", "sant-andrea-a-gavena"),
        ("San Frediano  a Settimo (PI)", "san-frediano-a-settimo-pi"),
        ("…", ""),
    ],
)
def test_a_name_becomes_the_last_part_of_a_code(name: str, expected: str) -> None:
    assert slug(name) == expected


@given(st.text())
def test_a_slug_is_one_already(name: str) -> None:
    assert slug(slug(name)) == slug(name)


def test_every_tuscan_comune_is_read_and_found_fast() -> None:
    comuni = read_boundaries(needs("geo/toscana_comuni.geojson")).areas
    places = Gazetteer(comuni)
    assert len(comuni) == 273
    assert [found.name for found in places.of(FORNACETTE)] == ["Calcinaia"]
    assert places.by_code("050004").licence == "CC-BY-4.0 (ISTAT / openpolis)"
    assert [found.name for found in places.named("santa croce sul arno")] == ["Santa Croce sull'Arno"]
    started = time.perf_counter()
    for step in range(1000):
        places.of(Point(43.3 + step / 2000, 10.9))
    assert (time.perf_counter() - started) / 1000 < 0.001, "measured 13 µs; a millisecond is out of order"


def test_all_of_tuscany_is_covered_in_a_blink() -> None:
    comuni = read_boundaries(needs("geo/toscana_comuni.geojson")).areas
    tuscany = Geofence(tuple(shape for comune in comuni for shape in comune.fence.shapes))
    assert tuscany.area_km2 == pytest.approx(22_985, rel=1e-3)
    started = time.perf_counter()
    covering = cover(tuscany)
    assert time.perf_counter() - started < 2, "measured 0.1 s"
    full, edge = (sum(last - first + 1 for first, last in ranges) for ranges in covering)
    assert full > 10 * edge


def test_real_boundaries_come_back_from_geojson_without_a_change() -> None:
    for comune in read_boundaries(needs("geo/toscana_comuni.geojson")).areas:
        assert parse_geojson(json.dumps(to_geojson(comune.fence))) == comune.fence
