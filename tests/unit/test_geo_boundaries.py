"""A file of boundaries: every feature checked, all of them taken or none."""

import json
from pathlib import Path
from typing import Any

import pytest

from geo.areas import AreaKind, UnknownArea
from geo.boundaries import BoundariesRefused, Layer, read_boundaries
from geo.shapes import Circle, Point
from tests.unit.geo_drawings import needs, rectangle

COMUNI = Layer(AreaKind.COMUNE, name="name", code="istat", source="ISTAT", licence="CC-BY-4.0", version=3)
FRAZIONI = Layer(AreaKind.FRAZIONE, name="name", parent="istat", point_radius_km=1, demonstration=True)


def square(south: float, west: float, size: float = 0.1) -> dict[str, Any]:
    ring = [[p.lon, p.lat] for p in rectangle(south, west, south + size, west + size)]
    return {"type": "Polygon", "coordinates": [ring]}


def feature(geometry: object, **properties: object) -> dict[str, Any]:
    return {"type": "Feature", "properties": properties, "geometry": geometry}


CALCINAIA = feature(square(43.6, 10.5), istat="050004", name="Calcinaia")
BIENTINA = feature(square(43.7, 10.6), istat="050001", name="Bientina")


def written(path: Path, *features: object) -> Path:
    file = path / "confini.geojson"
    file.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return file


def findings_of(file: Path, layer: Layer, parents: Path | None = None) -> list[str]:
    with pytest.raises(BoundariesRefused) as refusal:
        read_boundaries(file, layer, read_boundaries(parents, COMUNI) if parents else ())
    assert str(refusal.value).startswith(f"nothing was imported from {file.name}; correct the file:\n")
    return [str(finding) for finding in refusal.value.findings]


def test_areas_carry_what_the_file_and_the_caller_say(tmp_path: Path) -> None:
    calcinaia, bientina = read_boundaries(written(tmp_path, CALCINAIA, BIENTINA), COMUNI)
    assert (calcinaia.code, calcinaia.name, calcinaia.kind) == ("050004", "Calcinaia", AreaKind.COMUNE)
    assert (calcinaia.source, calcinaia.licence, calcinaia.version) == ("ISTAT", "CC-BY-4.0", 3)
    assert not calcinaia.demonstration
    assert bientina.fence.contains(Point(43.75, 10.65))


def test_one_bad_feature_keeps_out_all_and_every_fault_is_told(tmp_path: Path) -> None:
    bow_tie = [[10.58, 43.66], [10.60, 43.68], [10.58, 43.68], [10.60, 43.66], [10.58, 43.66]]
    file = written(
        tmp_path,
        CALCINAIA,
        feature(square(43.6, 10.5), istat="050004", name="Cascina"),
        feature(square(10.5, 43.6), istat="050008", name="Pisa"),
        feature({"type": "Polygon", "coordinates": [bow_tie]}, istat="048019", name="Fucecchio"),
        feature(square(43.6, 10.5), istat=50001, name="Bientina"),
        feature(square(43.6, 10.5), istat=" ", name="Nowhere"),
        feature({"type": "Point", "coordinates": [10.6, 43.6]}, istat="053022", name="Santa Fiora"),
        feature(None, istat="050009", name="Crespina"),
        "Lari",
    )
    second, third, fourth, *rest = findings_of(file, COMUNI)
    assert second == "feature 2 (Cascina): the code 050004 is already that of Calcinaia; give it its own"
    assert third.startswith("feature 3 (Pisa): longitude and latitude look exchanged")
    assert fourth == "feature 4 (Fucecchio): the polygon crosses itself at 10.59,43.67; redraw it without the crossing"
    assert rest == [
        "feature 5 (Bientina): istat is the number 50001: zeros before it may be lost; write it as text",
        "feature 6 (Nowhere): istat is missing or empty",
        "feature 7 (Santa Fiora): it is a point, and nothing says how far around it the place reaches; give a radius",
        "feature 8 (unnamed): it is not a Feature with properties and a geometry",
        "feature 9 (unnamed): it is not a Feature with properties and a geometry",
    ]


def test_many_findings_are_counted_not_poured_out(tmp_path: Path) -> None:
    file = written(tmp_path, *[feature(square(43.6, 10.5), name=f"Casa {n}") for n in range(25)])
    with pytest.raises(BoundariesRefused, match="and 15 more") as refusal:
        read_boundaries(file, COMUNI)
    assert len(refusal.value.findings) == 25


def test_a_frazione_takes_its_code_from_parent_and_name_and_its_place_from_a_point(tmp_path: Path) -> None:
    comuni = read_boundaries(written(tmp_path, CALCINAIA), COMUNI)
    point = {"type": "Point", "coordinates": [10.5851, 43.6702]}
    (fornacette,) = read_boundaries(
        written(tmp_path, feature(point, istat="050004", name="Fornacette")), FRAZIONI, comuni
    )
    assert (fornacette.code, fornacette.parent) == ("050004-fornacette", "050004")
    assert fornacette.fence.shapes == (Circle(Point(43.6702, 10.5851), 1.0),)
    assert fornacette.demonstration


def test_a_point_outside_its_comune_is_refused(tmp_path: Path) -> None:
    parents = written(tmp_path, CALCINAIA)
    comuni = read_boundaries(parents, COMUNI)
    file = written(tmp_path, feature({"type": "Point", "coordinates": [10.9, 43.6]}, istat="050004", name="Querce"))
    with pytest.raises(BoundariesRefused) as refusal:
        read_boundaries(file, FRAZIONI, comuni)
    assert [str(finding) for finding in refusal.value.findings] == [
        "feature 1 (Querce): 43.6,10.9 lies outside its parent Calcinaia (050004); correct the position or the parent"
    ]


def test_an_area_reaching_out_of_its_comune_is_refused_and_a_sliver_is_not(tmp_path: Path) -> None:
    comuni = read_boundaries(written(tmp_path, CALCINAIA), COMUNI)
    sliver = written(tmp_path, feature(square(43.6, 10.4999, 0.05), istat="050004", name="Fornacette"))
    assert len(read_boundaries(sliver, FRAZIONI, comuni)) == 1
    half = written(tmp_path, feature(square(43.6, 10.475, 0.05), istat="050004", name="Fornacette"))
    with pytest.raises(BoundariesRefused, match=r"11\.\d\d of its 22\.\d\d km² lie outside its parent Calcinaia"):
        read_boundaries(half, FRAZIONI, comuni)


def test_a_parent_nobody_knows_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path, feature(square(43.6, 10.5), istat="050040", name="Fornacette"))
    with pytest.raises(BoundariesRefused, match="no area is called '050040'") as refusal:
        read_boundaries(file, FRAZIONI)
    assert not isinstance(refusal.value, UnknownArea)


@pytest.mark.parametrize(
    "content", ["", "{", '{"type": "FeatureCollection", "features": []}', "[]", '{"type": "Point"}']
)
def test_a_file_that_is_no_collection_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "confini.geojson"
    file.write_text(content)
    assert findings_of(file, COMUNI)[0].startswith("feature 0 (the file): it is not")


def test_querce_is_refused_since_it_lies_outside_fucecchio() -> None:
    (finding,) = findings_of(needs("geo/frazioni_punti.geojson"), FRAZIONI, needs("geo/cinque_comuni.geojson"))
    assert "(Querce): 43.5667,10.95 lies outside its parent Fucecchio (048019)" in finding


def test_the_demonstration_cells_lie_within_their_comuni() -> None:
    comuni = read_boundaries(needs("geo/cinque_comuni.geojson"), COMUNI)
    frazioni = read_boundaries(needs("geo/frazioni_demo_voronoi.geojson"), FRAZIONI, comuni)
    assert len(frazioni) == 46
    assert all(frazione.demonstration for frazione in frazioni)


def test_a_zone_without_a_code_is_named() -> None:
    (finding,) = findings_of(needs("geo/toscana_zone_allerta.geojson"), Layer(AreaKind.ZONA, "name", "code"))
    assert finding == "feature 1 (unnamed): name is missing or empty"
