"""Shapes on the ellipsoid: the boundary belongs to them, circles are round, unions behave like sets."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geo.matching import inside
from geo.shapes import (
    WGS84,
    Circle,
    FenceIndex,
    Flaw,
    Geofence,
    Point,
    Polygon,
    Shape,
    ShapeError,
    clipped,
    km2_outside,
    metres_outside,
)
from tests.unit.geo_drawings import (
    FORNACETTE,
    centers,
    circles,
    compounds,
    fences,
    on_the_edges,
    polygons,
    rectangle,
    scattered,
)


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


# ── within another, and without a third ─────────────────────────────────────────────────────────────

COMUNE = Polygon(rectangle(43.625, 10.5, 43.75, 10.625))
HALF = Polygon(rectangle(43.625, 10.5, 43.75, 10.5625))


def place(shape: Shape, within: Shape | None = None, without: Shape | None = None) -> Geofence:
    return Geofence((shape,), Geofence((within,)) if within else None, Geofence((without,)) if without else None)


@given(compounds)
def test_within_and_without_narrow_a_fence_as_sets_do(fence: Geofence) -> None:
    lats, lons = scattered()
    expected = inside(Geofence(fence.shapes), lats, lons)
    if fence.within:
        expected &= inside(fence.within, lats, lons)
    if fence.without:
        expected &= ~inside(fence.without, lats, lons)
    assert (inside(fence, lats, lons) == expected).all()


@given(fences, fences)
def test_what_is_within_and_what_is_without_make_the_whole_and_share_only_an_edge(
    fence: Geofence, other: Geofence
) -> None:
    lats, lons = (np.concatenate(both) for both in zip(scattered(), on_the_edges(other), strict=True))
    whole = inside(fence, lats, lons)
    within = inside(Geofence(fence.shapes, within=other), lats, lons)
    without = inside(Geofence(fence.shapes, without=other), lats, lons)
    assert ((within | without) == whole).all()
    assert not (within & without)[:3000].any()


@given(compounds, compounds)
def test_a_union_of_what_has_the_same_conditions_keeps_them(one: Geofence, two: Geofence) -> None:
    other = Geofence(two.shapes, one.within, one.without)
    lats, lons = scattered()
    assert (inside(one.union(other), lats, lons) == (inside(one, lats, lons) | inside(other, lats, lons))).all()


def test_a_union_of_what_has_different_conditions_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"have no union; unite what is left of them \(Geofence.flattened\)"):
        place(COMUNE, within=HALF).union(place(COMUNE))
    assert place(COMUNE, within=HALF).flattened().union(place(COMUNE)).contains(Point(43.7, 10.6))


def test_the_edge_of_within_and_of_without_is_told() -> None:
    """Whoever cannot be said to stand outside is told."""
    on_the_line, west, east = Point(43.6875, 10.5625), Point(43.6875, 10.55), Point(43.6875, 10.57)
    within, without = place(COMUNE, within=HALF), place(COMUNE, without=HALF)
    assert [within.contains(p) for p in (west, on_the_line, east)] == [True, True, False]
    assert [without.contains(p) for p in (west, on_the_line, east)] == [False, True, True]
    assert without.contains(Point(43.625, 10.5)), "on the edge of both"


@pytest.mark.parametrize("radius_km", [0.05, 10, 200])
def test_a_circle_left_out_is_round_in_all_directions_and_its_edge_is_told(radius_km: float) -> None:
    ring = place(Circle(FORNACETTE, radius_km * 2), without=Circle(FORNACETTE, radius_km))
    band = place(Circle(FORNACETTE, radius_km * 2), within=Circle(FORNACETTE, radius_km))
    for bearing in range(0, 360, 5):
        for share, in_ring, in_band in ((1.0, True, True), (0.9999, False, True), (1.0001, True, False)):
            lon, lat, _ = WGS84.fwd(FORNACETTE.lon, FORNACETTE.lat, bearing, radius_km * 1000 * share)
            assert ring.contains(Point(lat, lon)) is in_ring, (bearing, share)
            assert band.contains(Point(lat, lon)) is in_band, (bearing, share)
            assert inside(ring, [lat], [lon]).tolist() == [in_ring]


def test_a_hole_is_cut_into_a_circle_by_a_polygon_and_the_hole_of_that_is_kept() -> None:
    pond = rectangle(43.665, 10.58, 43.675, 10.59)
    fence = place(Circle(FORNACETTE, 5), without=Polygon(rectangle(43.66, 10.57, 43.68, 10.6), (pond,)))
    assert fence.contains(Point(43.65, 10.5851))
    assert not fence.contains(Point(43.662, 10.5851))
    assert fence.contains(Point(43.67, 10.5851)), "in the hole of what is left out"


@given(compounds)
def test_the_box_of_a_fence_holds_all_its_people(fence: Geofence) -> None:
    lats, lons = (np.concatenate(both) for both in zip(scattered(), on_the_edges(fence), strict=True))
    assert fence.bounds.hold(lats, lons)[fence.covers(lats, lons)].all()


@given(compounds)
def test_an_area_is_what_is_left(fence: Geofence) -> None:
    # Along geodesics: an edge in degrees that is cut bends less.
    assert fence.area_km2 <= Geofence(fence.shapes).area_km2 * (1 + 1e-3) + 1e-6
    if fence.without and not fence.within:
        assert fence.area_km2 == pytest.approx(km2_outside(Geofence(fence.shapes), fence.without), rel=1e-3, abs=1e-3)


EMPTIED = [
    place(HALF, within=Polygon(rectangle(44, 10, 45, 11))),
    place(HALF, within=Circle(Point(43.7, 11.2), 2)),
    place(HALF, within=Polygon(rectangle(43.625, 10.5625, 43.75, 10.625))),  # they share an edge
    place(HALF, without=COMUNE),
    place(HALF, without=HALF),
    place(Circle(FORNACETTE, 2), without=Circle(FORNACETTE, 2)),
    place(Circle(FORNACETTE, 2), within=COMUNE, without=Circle(FORNACETTE, 3)),
]


@pytest.mark.parametrize("fence", EMPTIED)
def test_a_fence_of_which_nothing_is_left_says_so(fence: Geofence) -> None:
    assert fence.is_empty
    assert fence.area_km2 == pytest.approx(0)
    assert clipped(fence, place(COMUNE)) is None
    with pytest.raises(ShapeError, match=r"would reach nobody: .*; draw them elsewhere, or leave out less") as refusal:
        fence.flattened()
    assert refusal.value.flaw is Flaw.EMPTY


def test_a_fence_of_which_something_is_left_is_not_empty() -> None:
    assert not place(Circle(FORNACETTE, 0.001)).is_empty
    assert not place(COMUNE, without=HALF).is_empty
    assert not place(COMUNE, within=HALF).is_empty
    assert not place(Circle(FORNACETTE, 2), without=Circle(FORNACETTE, 1.99)).is_empty


def test_conditions_have_no_conditions() -> None:
    for nested in ({"within": place(COMUNE, within=HALF)}, {"without": place(COMUNE, without=HALF)}):
        with pytest.raises(ShapeError, match=r"conditions of its own; give it plain shapes \(Geofence.flattened\)"):
            Geofence((COMUNE,), **nested)
    assert Geofence((COMUNE,), within=place(COMUNE, within=HALF).flattened()).contains(Point(43.7, 10.55))


@given(fences)
def test_a_plain_fence_is_flat_already(fence: Geofence) -> None:
    assert fence.is_plain
    assert fence.flattened() is fence


@given(compounds.filter(lambda fence: not fence.is_plain and not fence.is_empty))
def test_a_flattened_fence_is_sound_and_loses_nobody_and_adds_little(fence: Geofence) -> None:
    flat = fence.flattened()
    assert flat.is_plain
    assert all(isinstance(shape, Polygon) and shape.defect is None for shape in flat.shapes)
    lats, lons = scattered()
    in_fence, in_flat = inside(fence, lats, lons), inside(flat, lats, lons)
    assert in_flat[in_fence].all()
    added = np.flatnonzero(in_flat & ~in_fence)
    rounds = [s for part in (fence, fence.within, fence.without) if part for s in part.shapes if isinstance(s, Circle)]
    for lat, lon in zip(lats[added], lons[added], strict=True):
        away = [WGS84.inv(c.center.lon, c.center.lat, lon, lat)[2] / c.radius_km / 1000 for c in rounds]
        assert any(abs(share - 1) < 0.0002 for share in away), (lat, lon)


def test_a_flattened_circle_within_one_and_without_one_loses_nobody_at_any_bearing() -> None:
    ring = place(Circle(FORNACETTE, 12), within=Circle(FORNACETTE, 10), without=Circle(FORNACETTE, 5)).flattened()
    for bearing in np.arange(0, 360, 0.5):
        for metres in (5_000.01, 9_999.99):
            lon, lat, _ = WGS84.fwd(FORNACETTE.lon, FORNACETTE.lat, bearing, metres)
            assert ring.contains(Point(lat, lon)), (bearing, metres)


def test_what_only_touches_the_edge_of_within_is_no_part_of_what_is_flattened() -> None:
    within, touching = Polygon(rectangle(43.64, 10.51, 43.66, 10.53)), Polygon(rectangle(43.7, 10.4, 43.74, 10.5))
    flat = Geofence((within, touching), within=place(COMUNE)).flattened()
    assert flat.bounds == within.bounds


@pytest.mark.parametrize("radius_km", [0.05, 2.5, 10, 200, 500])
def test_what_is_inscribed_in_a_circle_leaves_out_nobody_outside_it(radius_km: float) -> None:
    inscribed = Circle(FORNACETTE, radius_km).inscribed()
    for share, expected in ((1.0, False), (0.9998, True)):
        bearings = np.arange(0, 360, 0.5)
        here = np.full_like(bearings, FORNACETTE.lon), np.full_like(bearings, FORNACETTE.lat)
        lons, lats, _ = WGS84.fwd(*here, bearings, np.full_like(bearings, radius_km * 1000 * share))
        assert (inscribed.covers(lats, lons) == expected).all()


def test_what_lies_outside_a_territory_is_asked_of_what_is_left() -> None:
    over_the_border = Circle(Point(43.6875, 10.5625), 6)
    assert km2_outside(place(over_the_border), place(COMUNE)) > 0
    held_back = place(over_the_border, within=COMUNE)
    assert km2_outside(held_back, place(COMUNE)) == 0
    assert metres_outside(held_back, place(COMUNE)) == 0
    assert metres_outside(place(over_the_border, without=COMUNE), place(COMUNE)) == pytest.approx(971, rel=0.02)
    assert km2_outside(place(HALF), place(COMUNE, without=HALF)) == pytest.approx(place(HALF).area_km2)


def test_what_is_clipped_is_plain_and_holds_the_same_people() -> None:
    fence = place(Circle(FORNACETTE, 4), within=HALF, without=Circle(FORNACETTE, 2))
    inside_border = clipped(fence, place(COMUNE))
    assert inside_border is not None
    assert inside_border.is_plain
    assert inside_border.area_km2 == pytest.approx(fence.area_km2, rel=1e-3)


@given(polygons())
def test_a_polygon_cut_free_of_holes_holds_the_same_people(polygon: Polygon) -> None:
    pieces = polygon.without_holes()
    assert not any(piece.holes for piece in pieces)
    lats, lons = scattered()
    whole, cut = (inside(Geofence(shapes), lats, lons) for shapes in ((polygon,), pieces))
    assert (whole == cut).all()


@given(st.lists(fences | compounds, min_size=1, max_size=6), centers)
def test_the_index_finds_what_asking_each_fence_finds(many: list[Geofence], point: Point) -> None:
    assert FenceIndex(many).holding(point) == [at for at, fence in enumerate(many) if fence.contains(point)]


def test_an_index_of_nothing_holds_nothing() -> None:
    assert FenceIndex([]).holding(FORNACETTE) == []
