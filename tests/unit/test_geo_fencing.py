"""The geometry of a feature: refused with a place and a reason, or taken, and then it is said what was put right."""

import math
import time
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Transformer

from geo.fencing import Reach, Repair, fence_of
from geo.geojson import to_geojson
from geo.projections import DEGREES, projection
from geo.shapes import WGS84, Circle, Flaw, Geofence, Point, Polygon, ShapeError
from tests.unit.geo_drawings import polygons

IN_DEGREES = projection(DEGREES)
SQUARE = [[10.56, 43.66], [10.59, 43.66], [10.59, 43.68], [10.56, 43.68], [10.56, 43.66]]
NOT_SAID = Reach()


def polygon(*rings: object) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": list(rings)}


def read(geometry: dict[str, Any], reach: Reach = NOT_SAID) -> tuple[Geofence, tuple[Repair, ...]]:
    return fence_of(geometry, IN_DEGREES, reach)


def refused(geometry: dict[str, Any], reach: Reach = NOT_SAID) -> ShapeError:
    with pytest.raises(ShapeError) as refusal:
        read(geometry, reach)
    return refusal.value


def test_a_sound_polygon_keeps_every_digit() -> None:
    fence, repairs = read(polygon(SQUARE))
    assert fence.shapes == (Polygon(tuple(Point(lat, lon) for lon, lat in SQUARE)),)
    assert repairs == ()


# ── refused ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("geometry", "flaw", "words"),
    [
        (polygon(SQUARE[:-1]), Flaw.RING_OPEN, "first point 10.56,43.66, last 10.56,43.68; repeat the first"),
        (polygon([*SQUARE[:2], SQUARE[0]]), Flaw.TOO_FEW_POINTS, "has only 2 of the at least three"),
        (polygon([SQUARE[0]] * 5), Flaw.TOO_FEW_POINTS, "has only 1 of the at least three"),
        (polygon([]), Flaw.EMPTY, "the polygon has no points"),
        (polygon(), Flaw.EMPTY, "the polygon has no rings"),
        ({"type": "MultiPolygon", "coordinates": []}, Flaw.EMPTY, "the geofence has no shape"),
        ({"type": "GeometryCollection", "geometries": []}, Flaw.EMPTY, "the geofence has no shape"),
        (polygon([[math.nan, 43.66], *SQUARE[1:]]), Flaw.NOT_A_NUMBER, "longitude NaN is not a number"),
        (polygon([[10.56, math.inf], *SQUARE[1:]]), Flaw.NOT_A_NUMBER, "latitude Infinity is not a number"),
        (polygon([["10°33'36\"", 43.66], *SQUARE[1:]]), Flaw.NOT_A_NUMBER, "write one decimal number: 10.56"),
        (polygon([["10 33.6 E", 43.66], *SQUARE[1:]]), Flaw.NOT_A_NUMBER, "write one decimal number: 10.56"),
        (polygon([[lat, lon] for lon, lat in SQUARE]), Flaw.SWAPPED, "longitude and latitude look exchanged"),
        (polygon([[613_000, 4_836_000], *SQUARE[1:]]), Flaw.OUT_OF_RANGE, "latitude 4836000 is not between -90 and 90"),
        (polygon([[10**400, 43], *SQUARE[1:]]), Flaw.OUT_OF_RANGE, "is not between -180 and 180"),
        (polygon([[-95, 10], [95, 10], [95, 60], [-95, 60], [-95, 10]]), Flaw.TOO_WIDE, "must span less than 180°"),
        (polygon([10.56, 43.66]), Flaw.MALFORMED, "10.56 stands where a position"),
        (polygon("10.56,43.66"), Flaw.MALFORMED, "stands where a list of positions should"),
        (polygon([[10.56], *SQUARE]), Flaw.MALFORMED, "stands where a position, [longitude, latitude], should"),
        ({"type": "Polygon", "coordinates": "here"}, Flaw.MALFORMED, 'its geometry is "Polygon"'),
        ({"type": "CurvePolygon", "coordinates": []}, Flaw.MALFORMED, 'its geometry is "CurvePolygon"; draw polygons'),
        ({"type": "GeometryCollection", "geometries": [None]}, Flaw.MALFORMED, "its geometry is null"),
        ({"type": "Point", "coordinates": SQUARE[0]}, Flaw.MALFORMED, "it is a point, and nothing says how far"),
        ({"type": "LineString", "coordinates": SQUARE}, Flaw.MALFORMED, "it is a line, and nothing says how far"),
    ],
)
def test_what_nobody_can_be_alerted_by_is_refused(geometry: dict[str, Any], flaw: Flaw, words: str) -> None:
    refusal = refused(geometry)
    assert refusal.flaw is flaw
    assert words in str(refusal)


@pytest.mark.parametrize("metres", [0, -10, 5_001, math.nan])
def test_a_buffer_is_a_number_of_metres(metres: float) -> None:
    assert refused({"type": "LineString", "coordinates": SQUARE}, Reach(line_m=metres)).flaw is Flaw.RADIUS


@pytest.mark.parametrize("radius", [0, -1, "vasto", math.inf])
def test_a_radius_is_a_number_of_kilometres(radius: object) -> None:
    refusal = refused({"type": "Point", "coordinates": SQUARE[0]}, Reach(point_km=radius))
    assert refusal.flaw in (Flaw.RADIUS, Flaw.NOT_A_NUMBER)


def test_a_line_has_two_different_points_and_is_not_exchanged() -> None:
    reach = Reach(line_m=50)
    assert refused({"type": "LineString", "coordinates": SQUARE[:1] * 3}, reach).flaw is Flaw.TOO_FEW_POINTS
    assert refused({"type": "LineString", "coordinates": []}, reach).flaw is Flaw.TOO_FEW_POINTS
    exchanged = [[lat, lon] for lon, lat in SQUARE]
    assert refused({"type": "LineString", "coordinates": exchanged}, reach).flaw is Flaw.SWAPPED


@pytest.mark.parametrize(
    "ring",
    [
        [SQUARE[0], SQUARE[2], SQUARE[1], SQUARE[3], SQUARE[0]],
        [[10.56, 43.66], [10.60, 43.66], [10.56, 43.69], [10.58, 43.69], [10.56, 43.66]],
    ],
)
def test_a_bow_tie_is_refused_whatever_its_halves(ring: list[list[float]]) -> None:
    refusal = refused(polygon(ring))
    assert refusal.flaw is Flaw.SELF_CROSSING
    assert "the polygon crosses itself at 10.5" in str(refusal)


def test_a_hole_outside_its_polygon_is_refused() -> None:
    outside = [[lon + 1, lat] for lon, lat in SQUARE]
    assert refused(polygon(SQUARE, outside)).flaw is Flaw.MALFORMED


def test_a_scribble_of_a_hundred_thousand_points_is_refused_in_time() -> None:
    ring = (np.random.default_rng(1).random((100_000, 2)) / 10 + (10.5, 43.6)).tolist()
    started = time.process_time()
    assert refused(polygon([*ring, ring[0]])).flaw is Flaw.SELF_CROSSING
    assert time.process_time() - started < 10, "measured 1.5 s"


# ── repaired ────────────────────────────────────────────────────────────────────────────────────────


def test_a_loop_at_the_border_is_repaired_and_told() -> None:
    looped = [*SQUARE[:2], [10.5901, 43.68], [10.59, 43.6801], [10.59, 43.6799], [10.5901, 43.6801], *SQUARE[3:]]
    fence, repairs = read(polygon(looped))
    assert repairs == (Repair.CROSSING,)
    assert fence.area_km2 == pytest.approx(read(polygon(SQUARE))[0].area_km2, rel=0.01)
    assert all(isinstance(shape, Polygon) and shape.defect is None for shape in fence.shapes)


def test_a_ring_that_touches_itself_is_repaired_without_a_change() -> None:
    """As ESRI draws a hole that touches the border, and OGC does not allow."""
    touching = [*SQUARE[:1], [10.57, 43.67], [10.575, 43.665], *SQUARE[:4], SQUARE[0]]
    fence, repairs = read(polygon(touching))
    assert repairs == (Repair.CROSSING,)
    assert not fence.contains(Point(43.667, 10.571))
    assert fence.contains(Point(43.675, 10.58))


def test_points_that_repeat_the_one_before_are_left_out() -> None:
    repeated = [each for each in SQUARE for _ in range(2)]
    fence, repairs = read(polygon(repeated))
    assert fence == read(polygon(SQUARE))[0]
    assert repairs == (Repair.REPEATED,)


def test_rings_are_turned_as_the_rule_has_them() -> None:
    hole = [[10.57, 43.67], [10.58, 43.67], [10.58, 43.675], [10.57, 43.67]]
    fence, repairs = read(polygon(SQUARE[::-1], hole))
    (shape,) = fence.shapes
    assert isinstance(shape, Polygon)
    assert shape.planar.exterior.is_ccw and not shape.planar.interiors[0].is_ccw
    assert repairs == (Repair.WINDING,)
    assert read(polygon(SQUARE, hole[::-1])) == (fence, ())


def test_altitudes_are_left_out() -> None:
    assert read(polygon([[*each, 8.0] for each in SQUARE])) == (read(polygon(SQUARE))[0], (Repair.ALTITUDE,))


def test_a_hundred_thousand_vertices_are_taken() -> None:
    at = np.linspace(0, 2 * np.pi, 100_000)
    ring = np.column_stack([10.5 + 0.2 * np.cos(at), 43.6 + 0.2 * np.sin(at)])
    ring[-1] = ring[0]
    started = time.process_time()
    fence, repairs = read(polygon(ring.tolist()))
    assert time.process_time() - started < 5, "measured 0.4 s"
    assert (sum(shape.vertices for shape in fence.shapes), repairs) == (100_000, ())


@given(polygons())
def test_what_this_library_writes_it_reads_without_a_repair(drawn: Polygon) -> None:
    tidy = drawn.tidy()
    fence, repairs = read(to_geojson(Geofence((tidy,))))
    assert (fence.shapes, repairs) == ((tidy,), ())


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=3, max_size=9))
def test_whatever_is_taken_is_sound_and_nearly_as_large_as_drawn(corners: list[tuple[int, int]]) -> None:
    ring = [[10.5 + x / 100, 43.6 + y / 100] for x, y in (*corners, corners[0])]
    try:
        fence, _ = read(polygon(ring))
    except ShapeError:
        return
    assert all(isinstance(shape, Polygon) and shape.defect is None for shape in fence.shapes)
    assert fence.planar.area == pytest.approx(shapely.Polygon(ring).area, rel=0.01 + 1e-9)


# ── points and lines ────────────────────────────────────────────────────────────────────────────────


def test_points_become_circles() -> None:
    fence, _ = read({"type": "MultiPoint", "coordinates": SQUARE[:2]}, Reach(point_km="0.5"))
    assert fence.shapes == (Circle(Point(43.66, 10.56), 0.5), Circle(Point(43.66, 10.59), 0.5))


@given(st.floats(36, 47), st.floats(7, 18), st.floats(0, 359), st.floats(5, 5_000), st.floats(10, 50_000))
def test_a_band_reaches_its_metres_to_both_sides(
    lat: float, lon: float, bearing: float, metres: float, length: float
) -> None:
    end_lon, end_lat, _ = WGS84.fwd(lon, lat, bearing, length)
    fence, _ = read({"type": "LineString", "coordinates": [[lon, lat], [end_lon, end_lat]]}, Reach(line_m=metres))
    middle_lon, middle_lat = WGS84.npts(lon, lat, end_lon, end_lat, 1)[0]
    sag = 0.0001 * metres + length**2 / 6.3e6 / 7  # the edge is straight in degrees, the shortest way is not
    for side in (-90, 90):
        for share, inside in ((0.99, True), (1.01, False)):
            there_lon, there_lat, _ = WGS84.fwd(middle_lon, middle_lat, bearing + side, share * metres)
            if abs(share - 1) * metres > sag:
                assert fence.contains(Point(there_lat, there_lon)) is inside
    assert fence.contains(Point(lat, lon))


def test_lines_that_meet_become_one_band() -> None:
    lines = [[[10.55, 43.65], [10.56, 43.65]], [[10.56, 43.65], [10.56, 43.66]]]
    fence, repairs = read({"type": "MultiLineString", "coordinates": lines}, Reach(line_m=20))
    assert (len(fence.shapes), repairs) == (1, ())


def test_a_road_round_a_place_leaves_the_place_out() -> None:
    fence, _ = read({"type": "LineString", "coordinates": SQUARE}, Reach(line_m=100))
    assert not fence.contains(Point(43.67, 10.575))
    assert fence.contains(Point(43.6605, 10.575))


# ── metres ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["EPSG:32632", "EPSG:32633", "EPSG:3003", "EPSG:3857", "EPSG:6707"])
def test_metres_become_degrees_and_are_then_checked(name: str) -> None:
    to_metres = Transformer.from_crs(DEGREES, name, always_xy=True)
    there = [list(to_metres.transform(lon, lat)) for lon, lat in SQUARE]
    fence, _ = fence_of(polygon(there), projection(name), NOT_SAID)
    (shape,) = fence.shapes
    assert isinstance(shape, Polygon)
    for found, (lon, lat) in zip(shape.outer, SQUARE, strict=True):
        assert WGS84.inv(found.lon, found.lat, lon, lat)[2] < 0.01
    with pytest.raises(ShapeError, match="the ring is not closed: first point 10"):
        fence_of(polygon(there[:-1]), projection(name), NOT_SAID)


@pytest.mark.parametrize("wrong", [[1e300, 4_836_000], [10**400, 4_836_000], [9e7, 4_836_000]])
def test_metres_that_are_no_place_are_refused(wrong: list[float]) -> None:
    with pytest.raises(ShapeError) as refusal:
        fence_of(polygon([wrong, *SQUARE]), projection("EPSG:32632"), NOT_SAID)
    assert refusal.value.flaw is Flaw.OUT_OF_RANGE


def test_metres_are_numbers() -> None:
    with pytest.raises(ShapeError, match='x "Fornacette" is not a number'):
        fence_of(polygon([["Fornacette", 4_836_000], *SQUARE]), projection("EPSG:32632"), NOT_SAID)
