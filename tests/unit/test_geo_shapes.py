"""Shapes on the ellipsoid: the boundary belongs to them, circles are round, unions behave like sets."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geo.matching import inside
from geo.shapes import WGS84, Circle, FenceIndex, Flaw, Geofence, Point, Polygon, ShapeError, km2_outside
from tests.unit.geo_drawings import FORNACETTE, centers, circles, fences, polygons, rectangle, scattered


def test_corners_and_edges_belong_to_a_polygon() -> None:
    fence = Geofence((Polygon(rectangle(43.625, 10.5, 43.75, 10.625)),))
    on_it = [Point(43.625, 10.5), Point(43.625, 10.5625), Point(43.75, 10.625), Point(43.6875, 10.5)]
    assert all(map(fence.contains, on_it))
    assert not fence.contains(Point(43.625, math.nextafter(10.5, 0)))


def test_the_edge_of_a_hole_belongs_and_its_inside_does_not() -> None:
    hole = rectangle(43.6875, 10.5625, 43.71875, 10.59375)
    fence = Geofence((Polygon(rectangle(43.625, 10.5, 43.75, 10.625), (hole,)),))
    assert fence.contains(Point(43.6875, 10.578125))
    assert not fence.contains(Point(43.7, 10.57))


def test_a_second_shape_fills_the_hole_of_the_first() -> None:
    hole = rectangle(43.6875, 10.5625, 43.71875, 10.59375)
    fence = Geofence((Polygon(rectangle(43.625, 10.5, 43.75, 10.625), (hole,)), Circle(Point(43.7, 10.57), 1)))
    assert fence.contains(Point(43.7, 10.57))


@pytest.mark.parametrize("radius_km", [0.05, 2.5, 10, 200, 500])
def test_a_circle_is_round_in_all_360_directions(radius_km: float) -> None:
    circle = Geofence((Circle(FORNACETTE, radius_km),))
    for bearing in range(360):
        for share, expected in ((1.0, True), (0.9999, True), (1.0001, False)):
            lon, lat, _ = WGS84.fwd(FORNACETTE.lon, FORNACETTE.lat, bearing, radius_km * 1000 * share)
            assert circle.contains(Point(lat, lon)) is expected, (bearing, share)


def test_ten_kilometres_east_are_ten_kilometres() -> None:
    """The bug of plain degrees, r / 111 both ways, misses everybody between 7.3 and 10 km east and west."""
    circle = Geofence((Circle(FORNACETTE, 10),))
    lon, lat, _ = WGS84.fwd(FORNACETTE.lon, FORNACETTE.lat, 90, 9_900)
    assert abs(lon - FORNACETTE.lon) > 10 / 111
    assert circle.contains(Point(lat, lon))
    assert inside(circle, [lat], [lon]).tolist() == [True]


@pytest.mark.parametrize("radius_km", [0.05, 2.5, 10, 200, 500])
def test_the_outline_of_a_circle_leaves_nobody_out_and_adds_little(radius_km: float) -> None:
    circle = Circle(FORNACETTE, radius_km)
    outline = Geofence((circle.outline(),))
    for bearing in np.arange(0, 360, 0.5):
        lon, lat, _ = WGS84.fwd(FORNACETTE.lon, FORNACETTE.lat, bearing, radius_km * 1000)
        assert outline.contains(Point(lat, lon)), bearing
        lon, lat, _ = WGS84.fwd(FORNACETTE.lon, FORNACETTE.lat, bearing, radius_km * 1000 * 1.0002)
        assert not outline.contains(Point(lat, lon)), bearing


@given(circles)
def test_the_bounds_of_a_circle_hold_its_outline(circle: Circle) -> None:
    south, west, north, east = circle.bounds
    assert all(south <= p.lat <= north and west <= p.lon <= east for p in circle.outline().outer)


def test_an_area_is_that_of_the_ellipsoid() -> None:
    assert Geofence((Circle(FORNACETTE, 10),)).area_km2 == pytest.approx(math.pi * 100, rel=5e-4)
    # A square degree south of 44° north: 111.1 km by 81.0 km at its middle.
    assert Geofence((Polygon(rectangle(43, 10, 44, 11)),)).area_km2 == pytest.approx(8960, rel=5e-3)


def test_a_hole_is_not_part_of_the_area_whichever_way_it_turns() -> None:
    outer, hole = rectangle(43.6, 10.5, 43.7, 10.6), rectangle(43.62, 10.52, 43.68, 10.58)
    whole, cut = Geofence((Polygon(outer),)).area_km2, Geofence((Polygon(hole),)).area_km2
    for ring in (hole, hole[::-1]):
        assert Geofence((Polygon(outer, (ring,)),)).area_km2 == pytest.approx(whole - cut)


@given(fences, fences)
def test_a_union_holds_whom_either_holds_and_nobody_else(one: Geofence, other: Geofence) -> None:
    lats, lons = scattered()
    both = inside(one.union(other), lats, lons)
    assert (both == (inside(one, lats, lons) | inside(other, lats, lons))).all()
    assert (both == inside(other.union(one), lats, lons)).all()


@given(fences)
def test_a_union_with_itself_is_the_fence(fence: Geofence) -> None:
    assert fence.union(fence) == Geofence(tuple(dict.fromkeys(fence.shapes)))
    assert fence.union(fence).area_km2 == pytest.approx(fence.area_km2)


@given(fences, fences)
@settings(max_examples=30)
def test_a_union_is_no_larger_than_the_sum_and_no_smaller_than_either(one: Geofence, other: Geofence) -> None:
    together = one.union(other).area_km2
    assert max(one.area_km2, other.area_km2) <= together + 1e-6
    assert together <= one.area_km2 + other.area_km2 + 1e-6


@given(fences, fences)
@settings(max_examples=30)
def test_what_lies_outside_is_what_the_union_adds(fence: Geofence, territory: Geofence) -> None:
    # Areas are measured along geodesics: a straight edge in degrees, cut in two, bends a little less.
    added = fence.union(territory).area_km2 - territory.area_km2
    assert km2_outside(fence, territory) == pytest.approx(added, rel=1e-3, abs=0.02)


def test_nothing_of_a_fence_lies_outside_a_territory_that_holds_it() -> None:
    calcinaia = Geofence((Polygon(rectangle(43.65, 10.55, 43.72, 10.65)),))
    assert km2_outside(Geofence((Circle(FORNACETTE, 1),)), calcinaia) == 0
    beyond = km2_outside(Geofence((Circle(Point(43.9, 10.58), 1),)), calcinaia)
    assert beyond == pytest.approx(math.pi, rel=1e-3)


def test_a_geofence_of_nothing_is_refused() -> None:
    with pytest.raises(ShapeError, match="reach nobody") as refusal:
        Geofence(())
    assert refusal.value.flaw is Flaw.EMPTY


@given(polygons())
def test_a_polygon_cut_free_of_holes_holds_the_same_people(polygon: Polygon) -> None:
    pieces = polygon.without_holes()
    assert not any(piece.holes for piece in pieces)
    lats, lons = scattered()
    whole, cut = (inside(Geofence(shapes), lats, lons) for shapes in ((polygon,), pieces))
    assert (whole == cut).all()


@given(st.lists(fences, min_size=1, max_size=6), centers)
def test_the_index_finds_what_asking_each_fence_finds(many: list[Geofence], point: Point) -> None:
    assert FenceIndex(many).holding(point) == [at for at, fence in enumerate(many) if fence.contains(point)]


def test_an_index_of_nothing_holds_nothing() -> None:
    assert FenceIndex([]).holding(FORNACETTE) == []
