"""GeoJSON read and written: longitude first, exteriors counter-clockwise, circles kept round."""

import json
from typing import Any

import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from geo.geojson import parse_geojson, to_geojson
from geo.shapes import Circle, Flaw, Geofence, Point, Polygon, ShapeError
from tests.unit.geo_drawings import FORNACETTE, compounds, fences, rectangle

RING = [[10.58, 43.66], [10.61, 43.65], [10.60, 43.67], [10.58, 43.66]]
TRIANGLE = {"type": "Polygon", "coordinates": [RING]}
POINTS = tuple(Point(lat, lon) for lon, lat in RING)


def rounded(fence: Geofence) -> Geofence:
    return Geofence(tuple(shape.tidy() if isinstance(shape, Polygon) else shape for shape in fence.shapes))


@given(fences)
def test_a_fence_comes_back_from_geojson(fence: Geofence) -> None:
    text = json.dumps(to_geojson(fence))
    assert parse_geojson(text) == rounded(fence)
    assert json.dumps(to_geojson(parse_geojson(text))) == text


@given(compounds.filter(lambda fence: fence.is_plain or fence.area_km2 > 0.01))  # rounding may take a sliver
def test_what_a_fence_lies_within_and_leaves_out_comes_back_from_geojson(fence: Geofence) -> None:
    text = json.dumps(to_geojson(fence))
    assert parse_geojson(text) == Geofence(
        rounded(fence).shapes, fence.within and rounded(fence.within), fence.without and rounded(fence.without)
    )
    assert json.dumps(to_geojson(parse_geojson(text))) == text


@given(fences)
def test_circles_come_back_to_the_last_digit(fence: Geofence) -> None:
    back = parse_geojson(json.dumps(to_geojson(fence)))
    assert [shape for shape in back.shapes if isinstance(shape, Circle)] == [
        shape for shape in fence.shapes if isinstance(shape, Circle)
    ]


def test_exteriors_turn_counter_clockwise_and_holes_clockwise() -> None:
    outer, hole = rectangle(43.6, 10.5, 43.7, 10.6), rectangle(43.62, 10.52, 43.68, 10.58)
    for drawn in (
        Polygon(outer, (hole,)),
        Polygon(outer[::-1], (hole[::-1],)),
        Polygon(outer[::-1], (hole,)),
    ):
        exterior, interior = to_geojson(Geofence((drawn,)))["coordinates"]
        assert shapely.LinearRing(exterior).is_ccw
        assert not shapely.LinearRing(interior).is_ccw


def test_six_decimals_are_written() -> None:
    fence = Geofence((Polygon(rectangle(43.61234567, 10.51234567, 43.7, 10.6)),))
    assert to_geojson(fence)["coordinates"][0][0] == [10.512346, 43.612346]


def test_a_sliver_that_rounding_would_close_keeps_its_digits() -> None:
    sliver = Geofence((Polygon(rectangle(43.6, 10.5, 43.60000001, 10.6)),))
    assert parse_geojson(to_geojson(sliver)).bounds == sliver.bounds


def test_one_polygon_is_a_polygon_two_are_a_multipolygon_and_a_circle_makes_features() -> None:
    one, other, circle = Polygon(rectangle(43, 10, 44, 11)), Polygon(POINTS), Circle(FORNACETTE, 2.5)
    assert to_geojson(Geofence((one,)))["type"] == "Polygon"
    assert to_geojson(Geofence((one, other)))["type"] == "MultiPolygon"
    features = to_geojson(Geofence((circle, one)))["features"]
    assert features[0] == {
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": [10.5851, 43.6702]},
        "properties": {"radius_km": 2.5},
    }
    assert features[1]["geometry"]["type"] == "Polygon"


def test_a_feature_says_its_role() -> None:
    comune, school = Geofence((Polygon(rectangle(43.6, 10.5, 43.7, 10.6)),)), Geofence((Circle(FORNACETTE, 0.2),))
    drawn = Geofence((Circle(FORNACETTE, 2.5),), within=comune, without=school)
    tree = to_geojson(drawn)
    assert [feature["properties"] for feature in tree["features"]] == [
        {"radius_km": 2.5},
        {"role": "within"},
        {"radius_km": 0.2, "role": "without"},
    ]
    assert parse_geojson(tree) == drawn
    assert to_geojson(Geofence(comune.shapes, without=school))["type"] == "FeatureCollection"


def with_role(role: object, *others: dict[str, Any]) -> dict[str, Any]:
    feature = {"type": "Feature", "geometry": TRIANGLE, "properties": {"role": role}}
    return {"type": "FeatureCollection", "features": [*others, feature]}


def test_a_role_nobody_knows_is_refused() -> None:
    for role in ("exclude", "Within", "", 7, ["within"]):
        with pytest.raises(ShapeError, match="of a feature; write within or without, or leave it away") as refusal:
            parse_geojson(with_role(role, circle(2)))
        assert refusal.value.flaw is Flaw.MALFORMED
    assert parse_geojson(with_role(None)) == Geofence((Polygon(POINTS),))


def test_roles_that_leave_nothing_are_refused() -> None:
    for nobody in (with_role("within"), with_role("without"), with_role("within", circle(2, 11.5))):
        with pytest.raises(ShapeError, match="would reach nobody") as refusal:
            parse_geojson(nobody)
        assert refusal.value.flaw is Flaw.EMPTY
    with pytest.raises(ShapeError, match="nothing is left of the geofence"):
        parse_geojson(with_role("without", {"type": "Feature", "geometry": TRIANGLE, "properties": {}}))


def test_limits_count_what_has_a_role_too() -> None:
    with pytest.raises(ShapeError) as refusal:
        parse_geojson(with_role("without", *[circle(2)] * 100))
    assert refusal.value.flaw is Flaw.TOO_MANY_SHAPES


@pytest.mark.parametrize(
    "tree",
    [
        TRIANGLE,
        {"type": "Polygon", "coordinates": [[[*at, 12.5] for at in RING]]},
        {"type": "MultiPolygon", "coordinates": [[RING]]},
        {"type": "GeometryCollection", "geometries": [TRIANGLE]},
        {"type": "Feature", "geometry": TRIANGLE, "properties": None},
        {"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": TRIANGLE}]},
        {
            "type": "FeatureCollection",
            "features": [{"type": "Feature", "geometry": {"type": "GeometryCollection", "geometries": [TRIANGLE]}}],
        },
    ],
    ids=lambda tree: tree["type"],
)
def test_polygons_are_found_wherever_geojson_may_hold_them(tree: dict[str, Any]) -> None:
    assert parse_geojson(tree) == parse_geojson(json.dumps(tree).encode()) == Geofence((Polygon(POINTS),))


def polygon(*ring: list[Any]) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": [list(ring)]}


def circle(radius: Any, lon: Any = 10.58, lat: Any = 43.66) -> dict[str, Any]:
    point = {"type": "Point", "coordinates": [lon, lat]}
    return {"type": "Feature", "geometry": point, "properties": {"radius_km": radius}}


FLAWED: list[tuple[Any, Flaw]] = [
    (polygon(*RING[:3]), Flaw.RING_OPEN),
    (polygon(RING[0], RING[1], RING[0]), Flaw.TOO_FEW_POINTS),
    (
        polygon([10.58, 43.66], [10.60, 43.68], [10.58, 43.68], [10.60, 43.66], [10.58, 43.66]),
        Flaw.SELF_CROSSING,
    ),
    (polygon(*[[lat, lon] for lon, lat in RING]), Flaw.SWAPPED),
    (polygon([10.58, 143.66], *RING[1:3], [10.58, 143.66]), Flaw.OUT_OF_RANGE),
    (polygon([627145.0, 4835123.0], *RING[1:3], [627145.0, 4835123.0]), Flaw.OUT_OF_RANGE),
    (polygon([10**400, 43.66], *RING[1:3], [10**400, 43.66]), Flaw.OUT_OF_RANGE),
    (polygon([float("nan"), 43.66], *RING[1:3], [float("nan"), 43.66]), Flaw.NOT_A_NUMBER),
    (polygon([None, 43.66], *RING[1:]), Flaw.NOT_A_NUMBER),
    (polygon([True, 43.66], *RING[1:]), Flaw.NOT_A_NUMBER),
    (polygon(["Arno", 43.66], *RING[1:]), Flaw.NOT_A_NUMBER),
    (polygon(*[RING[0]] * 10_001), Flaw.TOO_MANY_VERTICES),
    ({"type": "MultiPolygon", "coordinates": [[RING]] * 101}, Flaw.TOO_MANY_SHAPES),
    (polygon([-100, 43], [100, 43], [100, 44], [-100, 43]), Flaw.TOO_WIDE),
    (polygon(), Flaw.EMPTY),
    ({"type": "Polygon", "coordinates": []}, Flaw.EMPTY),
    ({"type": "MultiPolygon", "coordinates": []}, Flaw.EMPTY),
    ({"type": "FeatureCollection", "features": []}, Flaw.EMPTY),
    (circle(0), Flaw.RADIUS),
    (circle(-1), Flaw.RADIUS),
    (circle(10**400), Flaw.RADIUS),
    (circle("wide"), Flaw.NOT_A_NUMBER),
    (circle(2, 43.66, 10.58), Flaw.SWAPPED),
    ({"type": "Polygon", "coordinates": [RING, [[at[0] + 1, at[1]] for at in RING]]}, Flaw.MALFORMED),
    ({"type": "Point", "coordinates": [10.58, 43.66]}, Flaw.MALFORMED),
    ({"type": "LineString", "coordinates": RING}, Flaw.MALFORMED),
    ({"type": "Feature", "geometry": None, "properties": {}}, Flaw.MALFORMED),
    (
        {"type": "GeometryCollection", "geometries": [{"type": "GeometryCollection", "geometries": []}]},
        Flaw.MALFORMED,
    ),
    ({"type": "Polygon", "coordinates": [[1, 2, 3]]}, Flaw.MALFORMED),
    ({"type": "Polygon", "coordinates": ["ring"]}, Flaw.MALFORMED),
    ({"type": "MultiPolygon", "coordinates": [7]}, Flaw.MALFORMED),
    ([], Flaw.MALFORMED),
    ({}, Flaw.MALFORMED),
]


@pytest.mark.parametrize(("tree", "flaw"), FLAWED, ids=lambda value: str(value)[:40])
def test_every_flaw_has_its_name_and_a_sentence(tree: Any, flaw: Flaw) -> None:
    with pytest.raises(ShapeError) as refusal:
        parse_geojson(json.dumps(tree))
    assert refusal.value.flaw is flaw
    assert ";" in str(refusal.value), "it says what to do"
    assert len(str(refusal.value)) < 250


def test_every_flaw_is_provoked() -> None:
    assert {flaw for _, flaw in FLAWED} == set(Flaw)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, b"\xff", "9" * 5000])
def test_what_is_no_json_is_refused(text: str | bytes) -> None:
    with pytest.raises(ShapeError, match="GeoJSON") as refusal:
        parse_geojson(text)
    assert refusal.value.flaw is Flaw.MALFORMED


def test_exchanged_coordinates_are_explained_in_geojsons_order() -> None:
    with pytest.raises(ShapeError) as refusal:
        parse_geojson(polygon(*[[lat, lon] for lon, lat in RING]))
    assert str(refusal.value) == (
        "longitude and latitude look exchanged: 43.66,10.58 lies outside Italy and 10.58,43.66 inside; "
        "write longitude first"
    )
    assert refusal.value.at == Point(10.58, 43.66)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.sampled_from(["Polygon", "Feature"]) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["type", "coordinates", "geometry", "features"]), inner)
    ),
    max_leaves=15,
)


@given(
    json_values,
    st.sampled_from(["Polygon", "MultiPolygon", "Feature", "FeatureCollection", "GeometryCollection"]),
)
def test_any_tree_is_read_or_refused_and_nothing_else(inner: Any, kind: str) -> None:
    tree = {"type": kind, "coordinates": inner, "geometry": inner, "features": inner, "geometries": inner}
    with pytest.raises(ShapeError):
        parse_geojson(tree)
