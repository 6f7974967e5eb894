"""Cells and fences agree: what a database finds by number is what brute force finds."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from geo.cells import COLUMNS, ROWS, CellRange, Cells, cell_of, cover
from geo.matching import inside
from geo.shapes import WGS84, Circle, Geofence, Mask, Point, Polygon
from tests.unit.geo_drawings import FORNACETTE, compounds, fences, on_the_edges, rectangle, scattered

latitudes, longitudes = st.floats(-90, 90), st.floats(-180, 180)
on_a_line = st.integers(4350, 4390).map(lambda hundredths: hundredths / 100)
hair = st.sampled_from([0.0, 1e-15, -1e-15, 7e-15, -7e-15, 1e-9, -1e-9])


def held(ranges: tuple[CellRange, ...], cells: Cells) -> Mask:
    mask = np.zeros(len(cells), dtype=bool)
    for first, last in ranges:
        mask |= (first <= cells) & (cells <= last)
    return mask


@given(latitudes, longitudes)
@example(43.67, 10.58)
@example(90.0, 180.0)
@example(-90.0, -180.0)
@example(89.99999999999999, 179.99999999999997)
def test_one_point_and_many_get_the_same_number(lat: float, lon: float) -> None:
    assert cell_of(np.array([lat, lat]), np.array([lon, lon])).tolist() == [cell_of(lat, lon)] * 2
    assert 0 <= cell_of(lat, lon) < ROWS * COLUMNS


def test_a_cell_is_numbered_row_by_row_from_the_south_west() -> None:
    assert cell_of(-90.0, -180.0) == 0
    assert cell_of(-89.995, -179.985) == 1
    assert cell_of(-89.985, -179.995) == COLUMNS
    assert cell_of(90.0, 180.0) == ROWS * COLUMNS - 1
    assert cell_of(43.675, 10.585) == 13367 * COLUMNS + 19058
    assert isinstance(cell_of(43.675, 10.585), int)


def test_cells_are_counted_downwards_from_zero_not_towards_it() -> None:
    assert cell_of(-0.005, -0.005) == 8999 * COLUMNS + 17999


@pytest.mark.parametrize("lat", [float("nan"), float("inf"), 90.1, -200.0])
def test_what_is_no_place_has_no_cell(lat: float) -> None:
    with pytest.raises(ValueError, match="without a cell"):
        cell_of(lat, 10.58)
    with pytest.raises(ValueError, match="without a cell"):
        cell_of(np.array([43.6, lat]), np.array([10.58, 10.58]))


@given(fences | compounds, st.lists(st.tuples(on_a_line, hair, on_a_line, hair), min_size=1, max_size=50))
@settings(max_examples=150)
def test_cells_find_whom_brute_force_finds(fence: Geofence, on_lines: list[tuple[float, float, float, float]]) -> None:
    lats, lons = scattered()
    corner_lats = np.array([lat + up for lat, up, _, _ in on_lines])
    corner_lons = np.array([lon - 33.2 + aside for _, _, lon, aside in on_lines])
    edge_lats, edge_lons = on_the_edges(fence)
    lats = np.concatenate([lats, corner_lats, edge_lats])
    lons = np.concatenate([lons, corner_lons, edge_lons])
    covering, cells, brute = cover(fence), cell_of(lats, lons), inside(fence, lats, lons)
    full, edge = held(covering.full, cells), held(covering.edge, cells)
    assert not (full & edge).any()
    assert brute[full].all(), "somebody in a full cell is not inside"
    assert not brute[~full & ~edge].any(), "somebody inside is in no cell"


@given(on_a_line, st.floats(10.3, 10.9).map(lambda x: round(x, 2)), st.integers(1, 9), st.integers(1, 9))
def test_a_fence_drawn_along_the_grid_loses_nobody(south: float, west: float, rows: int, columns: int) -> None:
    north, east = south + rows / 100, west + columns / 100
    fence = Geofence((Polygon(rectangle(south, west, north, east)),))
    lats = np.repeat(np.linspace(south, north, 41), 41)
    lons = np.tile(np.linspace(west, east, 41), 41)
    brute = inside(fence, lats, lons)
    covering, cells = cover(fence), cell_of(lats, lons)
    full, edge = held(covering.full, cells), held(covering.edge, cells)
    assert (full | edge)[brute].all()
    assert brute[full].all()


@given(st.integers(1, 9), st.integers(1, 9), st.booleans())
def test_a_fence_within_and_without_what_is_drawn_along_the_grid_loses_nobody(
    rows: int, columns: int, round_inside: bool
) -> None:
    comune = Geofence((Polygon(rectangle(43.6, 10.5, 43.6 + rows / 100, 10.5 + columns / 100)),))
    middle = Point(43.6 + rows / 200, 10.5 + columns / 200)
    left_out = Circle(middle, 1.5) if round_inside else Polygon(rectangle(43.61, 10.51, 43.63, 10.54))
    fence = Geofence((Circle(middle, 3),), comune, Geofence((left_out,)))
    lats = np.repeat(np.linspace(43.6, 43.7, 101), 101)
    lons = np.tile(np.linspace(10.5, 10.6, 101), 101)
    brute, covering, cells = inside(fence, lats, lons), cover(fence), cell_of(lats, lons)
    full, edge = held(covering.full, cells), held(covering.edge, cells)
    assert (full | edge)[brute].all()
    assert brute[full].all()


def test_cells_deep_in_what_is_left_out_are_dropped_and_those_on_its_edge_are_kept() -> None:
    comune = Polygon(rectangle(43.6, 10.5, 43.7, 10.6))
    for left_out in (Polygon(rectangle(43.632, 10.532, 43.668, 10.568)), Circle(Point(43.65, 10.55), 2)):
        covering = cover(Geofence((comune,), without=Geofence((left_out,))))
        kept = [*covering.full, *covering.edge]
        assert not any(first <= cell_of(43.655, 10.555) <= last for first, last in kept)
        assert any(first <= cell_of(43.6325, 10.545) <= last for first, last in covering.edge)
        assert any(first <= cell_of(43.615, 10.515) <= last for first, last in covering.full)


def test_whoever_stands_between_two_frazioni_left_out_has_a_cell() -> None:
    west, east = Polygon(rectangle(43.6, 10.5, 43.7, 10.555)), Polygon(rectangle(43.6, 10.555, 43.7, 10.6))
    fence = Geofence((Polygon(rectangle(43.5, 10.4, 43.8, 10.7)),), without=Geofence((west, east)))
    assert fence.contains(Point(43.655, 10.555))
    assert held(cover(fence).edge, np.array([cell_of(43.655, 10.555)])).all()


def test_a_fence_of_which_nothing_is_left_has_no_cell() -> None:
    calcinaia, pisa = (Geofence((Circle(Point(43.7, lon), 2),)) for lon in (10.6, 10.4))
    assert cover(Geofence(calcinaia.shapes, within=pisa)) == ((), ())
    assert cover(Geofence((Circle(Point(43.7, 10.6), 0.5),), without=calcinaia)) == ((), ())


@given(st.floats(-80, 80), st.floats(0.3, 500), st.floats(0, 360), st.floats(0, 1.0))
@settings(max_examples=200)
def test_circles_of_any_size_at_any_latitude_lose_nobody(
    lat: float, radius_km: float, bearing: float, share: float
) -> None:
    fence = Geofence((Circle(Point(lat, 10.58), radius_km),))
    bearings = bearing + np.arange(0, 360, 3)
    metres = np.repeat([share, 1.0, 1.0001], 40) * radius_km * 1000
    lons, lats, _ = WGS84.fwd(
        np.full(120, 10.58),
        np.full(120, lat),
        bearings,
        metres,
    )
    covering, cells, brute = cover(fence), cell_of(lats, lons), inside(fence, lats, lons)
    full, edge = held(covering.full, cells), held(covering.edge, cells)
    assert brute[:80].all()
    assert (full | edge)[brute].all()
    assert brute[full].all()


@given(fences)
def test_ranges_ascend_never_touch_and_keep_to_one_row(fence: Geofence) -> None:
    covering = cover(fence)
    for ranges in covering:
        for cell_range in ranges:
            assert cell_range.first <= cell_range.last
            assert cell_range.first // COLUMNS == cell_range.last // COLUMNS
        for one, other in pairwise(ranges):
            assert one.last < other.first
            assert one.last + 1 < other.first or other.first % COLUMNS == 0


def test_most_of_a_large_circle_is_taken_whole() -> None:
    covering = cover(Geofence((Circle(FORNACETTE, 30),)))
    full, edge = (sum(last - first + 1 for first, last in ranges) for ranges in covering)
    assert full > 10 * edge


def test_a_circle_smaller_than_a_cell_is_all_edge() -> None:
    covering = cover(Geofence((Circle(Point(43.675, 10.585), 0.1),)))
    assert covering == ((), ((cell_of(43.675, 10.585),) * 2,))


def test_two_adjacent_comuni_have_no_edge_between_them() -> None:
    west, east = Polygon(rectangle(43.6, 10.5, 43.7, 10.6)), Polygon(rectangle(43.6, 10.6, 43.7, 10.7))
    covering = cover(Geofence((west, east)))
    assert held(covering.full, np.array([cell_of(43.655, 10.5999), cell_of(43.655, 10.6001)])).all()


def test_a_range_ends_where_its_row_ends() -> None:
    """The last cell of a row and the first of the next are neighbours in number and half a world apart."""
    east, west = (Polygon(rectangle(-17.05, lon, -17.01, lon + 0.05)) for lon in (179.95, -180.0))
    fence = Geofence((east, west))
    covering = cover(fence)
    assert all(first // COLUMNS == last // COLUMNS for ranges in covering for first, last in ranges)
    cells = cell_of(np.array([-17.03, -17.03, -17.03]), np.array([179.999, -179.999, 180.0]))
    assert (held(covering.full, cells) | held(covering.edge, cells)).all()
