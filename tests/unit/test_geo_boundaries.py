"""A file of boundaries: every feature checked, all of them taken or none."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from geo.areas import Area, AreaKind, UnknownArea
from geo.boundaries import ALL_KNOWN, BoundariesRefused, Reading, read_boundaries
from geo.layouts import Layer
from geo.shapes import Circle, Geofence, Point, Polygon
from tests.unit.geo_drawings import needs, rectangle

COMUNI = Layer(AreaKind.COMUNE, name="name", code="istat", source="ISTAT", licence="CC-BY-4.0")
FRAZIONI = Layer(AreaKind.FRAZIONE, name="name", parent="istat", point_radius_km=1, demonstration=True)
HERE = {"050004": "calcinaia"}


def square(south: float, west: float, size: float = 0.1) -> dict[str, Any]:
    ring = [[p.lon, p.lat] for p in rectangle(south, west, south + size, west + size)]
    return {"type": "Polygon", "coordinates": [ring]}


def feature(geometry: object, **properties: object) -> dict[str, Any]:
    return {"type": "Feature", "properties": properties, "geometry": geometry}


def point(lon: float, lat: float) -> dict[str, Any]:
    return {"type": "Point", "coordinates": [lon, lat]}


CALCINAIA = feature(square(43.6, 10.5), istat="050004", name="Calcinaia")
BIENTINA = feature(square(43.7, 10.6), istat="050001", name="Bientina")
THE_COMUNE = Area("calcinaia", "Calcinaia", AreaKind.COMUNE, Geofence((Polygon(rectangle(43.6, 10.5, 43.7, 10.6)),)))


def written(path: Path, *features: object, **members: object) -> Path:
    file = path / "confini.geojson"
    file.write_text(json.dumps({"type": "FeatureCollection", "features": features, **members}))
    return file


def findings_of(file: Path, layer: Layer = ALL_KNOWN, known: tuple[Area, ...] = ()) -> list[str]:
    with pytest.raises(BoundariesRefused) as refusal:
        read_boundaries(file, layer, known)
    assert str(refusal.value).startswith(f"nothing was imported from {file.name}; correct the file:\n")
    return [str(finding) for finding in refusal.value.findings]


def frazioni(path: Path, *features: object, layer: Layer = FRAZIONI, known: tuple[Area, ...] = ()) -> Reading:
    return read_boundaries(written(path, *features), layer, (THE_COMUNE, *known), renamed=HERE)


# ── what a file says ────────────────────────────────────────────────────────────────────────────────


def test_areas_carry_what_the_file_and_the_caller_say(tmp_path: Path) -> None:
    reading = read_boundaries(written(tmp_path, CALCINAIA, BIENTINA), COMUNI)
    calcinaia, bientina = reading.areas
    assert (calcinaia.code, calcinaia.name, calcinaia.kind) == ("050004", "Calcinaia", AreaKind.COMUNE)
    assert (calcinaia.source, calcinaia.licence, calcinaia.version) == ("ISTAT", "CC-BY-4.0", 1)
    assert not calcinaia.demonstration
    assert bientina.fence.contains(Point(43.75, 10.65))
    assert (reading.crs, reading.layout, reading.repaired, reading.skipped) == ("EPSG:4326", None, (), ())


def test_source_and_licence_are_the_callers_else_the_features_else_the_files(tmp_path: Path) -> None:
    layer = replace(COMUNI, source="", licence="")
    metadata = {"source": "ISTAT 2023", "license": "CC-BY-4.0"}
    own = feature(square(43.7, 10.6), istat="050001", name="Bientina", source="il Comune")
    file = written(tmp_path, CALCINAIA, own, metadata=metadata)
    assert [(area.source, area.licence) for area in read_boundaries(file, layer).areas] == [
        ("ISTAT 2023", "CC-BY-4.0"),
        ("il Comune", "CC-BY-4.0"),
    ]
    assert {area.source for area in read_boundaries(file, COMUNI).areas} == {"ISTAT"}


def test_rows_tell_of_each_area_what_a_report_needs(tmp_path: Path) -> None:
    clockwise = square(43.7, 10.6)
    clockwise["coordinates"][0].reverse()
    reading = read_boundaries(written(tmp_path, CALCINAIA, feature(clockwise, istat="050001", name="Bientina")), COMUNI)
    first, second = reading.rows()
    assert (first.feature, first.code, first.name, first.kind, first.parent) == (
        1,
        "050004",
        "Calcinaia",
        AreaKind.COMUNE,
        None,
    )
    assert (first.vertices, first.repaired) == (5, ())
    assert first.km2 == pytest.approx(89.5, abs=0.3)
    assert second.repaired == ("rings that turned the wrong way round were turned",)
    assert [str(finding) for finding in reading.repaired] == [
        "feature 2 (Bientina): rings that turned the wrong way round were turned"
    ]


def test_one_bad_feature_keeps_out_all_and_every_fault_is_told(tmp_path: Path) -> None:
    bow_tie = [[10.58, 43.66], [10.60, 43.68], [10.58, 43.68], [10.60, 43.66], [10.58, 43.66]]
    file = written(
        tmp_path,
        CALCINAIA,
        feature(square(10.5, 43.6), istat="050008", name="Pisa"),
        feature({"type": "Polygon", "coordinates": [bow_tie]}, istat="048019", name="Fucecchio"),
        feature(square(43.6, 10.5), istat=50001, name="Bientina"),
        feature(square(43.6, 10.5), istat=" ", name="Nowhere"),
        feature(point(10.6, 43.6), istat="053022", name="Santa Fiora"),
        feature(None, istat="050009", name="Crespina"),
        feature(square(43.6, 10.5), istat="50010", name="Fauglia"),
        "Lari",
    )
    swapped, crossed, *rest = findings_of(file, COMUNI)
    assert swapped.startswith("feature 2 (Pisa): longitude and latitude look exchanged")
    assert crossed == "feature 3 (Fucecchio): the polygon crosses itself at 10.59,43.67; redraw it without the crossing"
    assert rest == [
        "feature 4 (Bientina): istat is the number 50001: zeros before it may be lost; write it as text",
        "feature 5 (Nowhere): istat is missing or empty",
        "feature 6 (Santa Fiora): it is a point, and nothing says how far around it the place reaches; give a radius",
        "feature 7 (Crespina): it has no geometry; draw it, or take it out of the file",
        "feature 8 (Fauglia): istat is '50010', and the code of a comune is the six digits of its ISTAT number, "
        "as text: 050004",
        "feature 9 (unnamed): it is not a Feature with properties and a geometry",
    ]


def test_many_findings_are_counted_not_poured_out(tmp_path: Path) -> None:
    file = written(tmp_path, *[feature(square(43.6, 10.5), istat="", name=f"Casa {n}") for n in range(25)])
    with pytest.raises(BoundariesRefused, match="and 15 more") as refusal:
        read_boundaries(file, COMUNI)
    assert len(refusal.value.findings) == 25


def test_who_cannot_correct_the_file_takes_all_but_the_refused(tmp_path: Path) -> None:
    file = written(tmp_path, feature(None, istat="050008", name="Cascina"), CALCINAIA, BIENTINA)
    reading = read_boundaries(file, COMUNI, skip_refused=True)
    assert [(area.name, number) for area, number in zip(reading.areas, reading.features, strict=True)] == [
        ("Calcinaia", 2),
        ("Bientina", 3),
    ]
    assert [finding.feature for finding in reading.skipped] == [1]
    nothing_sound = written(tmp_path, feature(None, istat="050008", name="Cascina"))
    with pytest.raises(BoundariesRefused):
        read_boundaries(nothing_sound, COMUNI, skip_refused=True)


# ── names and codes ─────────────────────────────────────────────────────────────────────────────────


def test_a_frazione_takes_its_code_from_parent_and_name_and_its_place_from_a_point(tmp_path: Path) -> None:
    fornacette, ponte = frazioni(
        tmp_path,
        feature(point(10.5851, 43.6702), istat="050004", name="Fornacette"),
        feature(point(10.55, 43.65), istat="050004", name="Ponte alla Navetta"),
    ).areas
    assert (fornacette.code, fornacette.parent) == ("calcinaia.fornacette", "calcinaia")
    assert ponte.code == "calcinaia.ponte-alla-navetta"
    assert fornacette.fence.shapes == (Circle(Point(43.6702, 10.5851), 1.0),)
    assert fornacette.demonstration


def test_codes_are_renamed_to_those_used_here(tmp_path: Path) -> None:
    reading = read_boundaries(written(tmp_path, CALCINAIA, BIENTINA), COMUNI, renamed=HERE)
    assert [area.code for area in reading.areas] == ["calcinaia", "050001"]


def test_an_area_drawn_alone_is_called_as_the_caller_says(tmp_path: Path) -> None:
    file = written(tmp_path, feature(square(43.62, 10.52, 0.01), stroke="#ff0000"))
    layer = Layer(AreaKind.CUSTOM, name="Scuole nord", parent="calcinaia")
    (made,) = read_boundaries(file, layer, (THE_COMUNE,)).areas
    (given,) = read_boundaries(file, replace(layer, code="scuole-nord"), (THE_COMUNE,)).areas
    assert (made.code, made.name, made.parent) == ("calcinaia.scuole-nord", "Scuole nord", "calcinaia")
    assert given.code == "scuole-nord"


def test_two_features_of_one_code_are_both_told(tmp_path: Path) -> None:
    unplaced = feature(None, istat="050001", name="Bientina")
    file = written(tmp_path, CALCINAIA, unplaced, feature(square(43.8, 10.5), istat="050004", name="Cascina"), BIENTINA)
    assert findings_of(file, COMUNI) == [
        "feature 1 (Calcinaia): feature 3 (Cascina) has the code 050004 as well; give each its own, "
        "or join them to one feature",
        "feature 2 (Bientina): it has no geometry; draw it, or take it out of the file",
        "feature 3 (Cascina): feature 1 (Calcinaia) has the code 050004 as well; give each its own, "
        "or join them to one feature",
    ]
    assert [area.name for area in read_boundaries(file, COMUNI, skip_refused=True).areas] == ["Bientina"]


def test_the_code_of_something_else_is_not_taken_over(tmp_path: Path) -> None:
    own = Layer(AreaKind.CUSTOM, name="=Golena", code="=calcinaia.golena", parent="calcinaia")
    bientina = replace(THE_COMUNE, code="bientina")
    file = written(tmp_path, feature(square(43.62, 10.52, 0.01)))
    theirs = Area("calcinaia.golena", "Golena", AreaKind.CUSTOM, THE_COMUNE.fence, parent="bientina")
    (finding,) = findings_of(file, own, (THE_COMUNE, bientina, theirs))
    assert finding == (
        "feature 1 (Golena): its code calcinaia.golena is that of the custom Golena in bientina; give it another"
    )
    (finding,) = findings_of(file, replace(own, code="=calcinaia"), (THE_COMUNE,))
    assert "its code calcinaia is that of the comune Calcinaia; give it another" in finding


def test_an_import_may_be_done_again(tmp_path: Path) -> None:
    drawn = feature(square(43.62, 10.52, 0.01), istat="050004", name="Fornacette")
    once = frazioni(tmp_path, drawn)
    assert frazioni(tmp_path, drawn, known=once.areas) == once


@pytest.mark.parametrize("code", ["A4", "tosc-A4", "Tosc-", "Toscana-A4"])
def test_a_zone_is_called_by_its_national_name(tmp_path: Path, code: str) -> None:
    file = written(tmp_path, feature(square(43.6, 10.5), zona=code, name="Valdarno Inf."))
    (finding,) = findings_of(file, Layer(AreaKind.ZONA, name="name", code="zona"))
    assert "the code of a zona is its national name, the region's first, as Tosc-A4" in finding


def test_a_code_that_no_address_can_hold_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path, feature(square(43.62, 10.52, 0.01), name="Golena", sigla="golena d'Arno/nord"))
    (finding,) = findings_of(file, Layer(AreaKind.CUSTOM, "name", "sigla", "=calcinaia"), (THE_COMUNE,))
    assert 'sigla is "golena d\'Arno/nord", and the code of a custom is letters and digits' in finding


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("San FrediÃ²", "misread from another encoding; give --encoding"),
        ("San Fredi\ufffd", "misread from another encoding"),
        ("For\x07nacette", "misread from another encoding"),
        ("F" * 200, "its name has 200 characters, and at most 120 are taken"),
        ("...", "its name has no letter to make a code of"),
    ],
)
def test_a_name_nobody_could_read_is_refused(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(BoundariesRefused, match=words):
        frazioni(tmp_path, feature(point(10.55, 43.65), istat="050004", name=name))


def test_accents_are_not_taken_for_another_encoding(tmp_path: Path) -> None:
    names = ["Forlì", "Città di Castello", "Niederdorf – Villabassa", "Sant’Andrea"]
    drawn = [feature(point(10.55, 43.65), istat="050004", name=name) for name in names]
    assert [area.name for area in frazioni(tmp_path, *drawn).areas] == names


# ── where a place lies ──────────────────────────────────────────────────────────────────────────────


def test_a_point_outside_its_comune_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BoundariesRefused) as refusal:
        frazioni(tmp_path, feature(point(10.9, 43.6), istat="050004", name="Querce"))
    assert [str(finding) for finding in refusal.value.findings] == [
        "feature 1 (Querce): 43.6,10.9 lies outside its parent Calcinaia (calcinaia); "
        "correct the position or the parent"
    ]


def test_an_area_reaching_out_of_its_comune_is_refused_and_a_sliver_is_not(tmp_path: Path) -> None:
    assert frazioni(tmp_path, feature(square(43.6, 10.4999, 0.05), istat="050004", name="Fornacette")).areas
    with pytest.raises(BoundariesRefused, match=r"11\.\d\d of its 22\.\d\d km² lie outside its parent Calcinaia"):
        frazioni(tmp_path, feature(square(43.6, 10.475, 0.05), istat="050004", name="Fornacette"))


def test_a_parent_nobody_knows_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path, feature(square(43.6, 10.5), istat="050040", name="Fornacette"))
    with pytest.raises(BoundariesRefused, match="no area is called '050040'") as refusal:
        read_boundaries(file, FRAZIONI)
    assert not isinstance(refusal.value, UnknownArea)


def test_frazioni_on_the_same_ground_are_both_told_and_a_sliver_is_not(tmp_path: Path) -> None:
    here = feature(square(43.62, 10.52, 0.02), istat="050004", name="Fornacette")
    beside = feature(square(43.62, 10.5399, 0.02), istat="050004", name="Oltrarno")
    on_it = feature(square(43.62, 10.535, 0.02), istat="050004", name="Sardina")
    assert len(frazioni(tmp_path, here, beside).areas) == 2
    with pytest.raises(BoundariesRefused) as refusal:
        frazioni(tmp_path, here, on_it)
    assert [str(finding) for finding in refusal.value.findings] == [
        "feature 1 (Fornacette): 25% of the smaller of it and feature 2 (Sardina) is the ground of both; redraw either",
        "feature 2 (Sardina): 25% of the smaller of it and feature 1 (Fornacette) is the ground of both; redraw either",
    ]


def test_a_frazione_inside_another_is_on_the_same_ground(tmp_path: Path) -> None:
    outer = feature(square(43.61, 10.51, 0.08), istat="050004", name="Fornacette")
    inner = feature(square(43.62, 10.52, 0.01), istat="050004", name="Oltrarno")
    with pytest.raises(BoundariesRefused, match="100% of the smaller"):
        frazioni(tmp_path, outer, inner)


def test_frazioni_of_two_comuni_are_not_compared(tmp_path: Path) -> None:
    bientina = replace(THE_COMUNE, code="050001", name="Bientina")
    ground = square(43.62, 10.52, 0.02)
    one, other = (feature(ground, istat=istat, name="Quattro Strade") for istat in ("050004", "050001"))
    assert len(frazioni(tmp_path, one, other, known=(bientina,)).areas) == 2


def test_comuni_do_not_overlap_and_custom_areas_may(tmp_path: Path) -> None:
    one = feature(square(43.6, 10.5, 0.05), istat="050004", name="Calcinaia")
    other = feature(square(43.6, 10.51, 0.05), istat="050001", name="Bientina")
    assert len(findings_of(written(tmp_path, one, other), COMUNI)) == 2
    own = Layer(AreaKind.CUSTOM, name="name", parent="=calcinaia")
    assert len(read_boundaries(written(tmp_path, one, other), own, (THE_COMUNE,)).areas) == 2


def test_circles_about_points_may_overlap(tmp_path: Path) -> None:
    near = [feature(point(10.55 + n / 1000, 43.65), istat="050004", name=f"Casa {n}") for n in range(3)]
    assert len(frazioni(tmp_path, *near).areas) == 3


def test_frazioni_known_already_keep_their_ground_unless_they_are_a_demonstration(tmp_path: Path) -> None:
    ground = Geofence((Polygon(rectangle(43.62, 10.52, 43.64, 10.54)),))
    oltrarno = Area("calcinaia.oltrarno", "Oltrarno", AreaKind.FRAZIONE, ground, "calcinaia")
    drawn = feature(square(43.62, 10.52, 0.02), istat="050004", name="Fornacette")
    real = replace(FRAZIONI, demonstration=False)
    with pytest.raises(
        BoundariesRefused, match=r"Oltrarno \(calcinaia\.oltrarno\), known already, is the ground"
    ) as no:
        frazioni(tmp_path, drawn, layer=real, known=(oltrarno,))
    assert len(no.value.findings) == 1
    assert frazioni(tmp_path, drawn, layer=real, known=(replace(oltrarno, demonstration=True),)).areas


def test_a_street_is_a_band_and_lies_in_its_comune(tmp_path: Path) -> None:
    street = {"type": "LineString", "coordinates": [[10.55, 43.65], [10.56, 43.65]]}
    layer = Layer(AreaKind.CUSTOM, name="=Via Tosco Romagnola", parent="=calcinaia", line_buffer_m=50)
    (band,) = read_boundaries(written(tmp_path, feature(street)), layer, (THE_COMUNE,)).areas
    assert band.code == "calcinaia.via-tosco-romagnola"
    assert band.fence.contains(Point(43.6504, 10.555)) and not band.fence.contains(Point(43.6506, 10.555))


def test_a_point_may_say_its_own_radius(tmp_path: Path) -> None:
    own = feature(point(10.55, 43.65), istat="050004", name="Fornacette", radius_km=0.3)
    (fornacette,) = frazioni(tmp_path, own).areas
    assert fornacette.fence.shapes == (Circle(Point(43.65, 10.55), 0.3),)


@pytest.mark.parametrize(
    ("radius", "sentence"),
    [
        (0, "the circle around 10.55,43.65 has the radius 0 and would reach nobody; draw a small one"),
        (-1, "the radius of the circle around 10.55,43.65 is -1 km"),
        (501, "the radius of the circle around 10.55,43.65 is 501 km"),
    ],
)
def test_a_circle_of_no_radius_is_refused(tmp_path: Path, radius: float, sentence: str) -> None:
    layer = replace(FRAZIONI, point_radius_km=radius)
    with pytest.raises(BoundariesRefused, match=sentence):
        frazioni(tmp_path, feature(point(10.55, 43.65), istat="050004", name="Fornacette"), layer=layer)


# ── real files ──────────────────────────────────────────────────────────────────────────────────────


def test_all_of_toscana_is_read_without_a_word_about_it_and_fast() -> None:
    file = needs("geo/toscana_comuni.geojson")
    started = time.process_time()
    reading = read_boundaries(file)
    rows = reading.rows()
    assert time.process_time() - started < 3, "measured 0.35 s"
    assert (len(rows), reading.layout, reading.repaired) == (273, "comuni, openpolis in short", ())
    assert sum(row.km2 for row in rows) == pytest.approx(22_985, rel=1e-3)


def toscana() -> tuple[Area, ...]:
    return read_boundaries(needs("geo/toscana_comuni.geojson")).areas


def test_querce_is_refused_since_it_lies_outside_fucecchio_and_the_others_may_be_taken() -> None:
    file = needs("geo/frazioni_punti.geojson")
    (finding,) = findings_of(file, known=toscana())
    assert "(Querce): 43.5667,10.95 lies outside its parent Fucecchio (048019)" in finding
    reading = read_boundaries(file, known=toscana(), skip_refused=True)
    assert len(reading.areas) == 46
    assert [finding.name for finding in reading.skipped] == ["Querce"]
    assert all(area.demonstration for area in reading.areas)


def test_the_demonstration_cells_lie_within_their_comuni_and_beside_each_other() -> None:
    comuni = tuple(replace(area, code=HERE.get(area.code, area.code)) for area in toscana())
    reading = read_boundaries(needs("geo/frazioni_demo_voronoi.geojson"), known=comuni, renamed=HERE)
    assert len(reading.areas) == 46
    assert all(frazione.demonstration for frazione in reading.areas)
    assert {"calcinaia.fornacette", "048019.ponte-a-cappiano"} <= {area.code for area in reading.areas}


def test_a_zone_without_a_name_is_refused_and_the_others_may_be_taken() -> None:
    """Lucignano (051021) has no zone in the table the file was made of."""
    file = needs("geo/toscana_zone_allerta.geojson")
    assert findings_of(file) == ["feature 1 (unnamed): name is missing or empty"]
    zones = read_boundaries(file, skip_refused=True).areas
    assert len(zones) == 25
    assert "Tosc-A4" in {zone.code for zone in zones}
    assert {zone.kind for zone in zones} == {AreaKind.ZONA}


def test_a_region_of_meteoalarm_is_read_once_it_is_said_what_it_is() -> None:
    layer = Layer(AreaKind.ZONA, name="name", code="code")
    (region,) = read_boundaries(needs("meteoalarm/EMMA_IT009.geojson"), layer).areas
    assert (region.code, region.name) == ("IT009", "Toscana")
