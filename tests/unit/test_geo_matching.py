"""Who is inside: many at once give the same answers as one by one."""

import time

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from geo import matching
from geo.matching import inside
from geo.shapes import Circle, Floats, Geofence, Point, Polygon
from tests.unit.geo_drawings import FORNACETTE, compounds, fences, on_the_edges, one_by_one, rectangle, scattered


@given(compounds)
def test_many_points_at_once_give_the_answers_of_one_by_one(fence: Geofence) -> None:
    lats, lons = (np.concatenate(both) for both in zip(scattered(100), on_the_edges(fence), strict=True))
    contained = [fence.contains(Point(lat, lon)) for lat, lon in zip(lats.tolist(), lons.tolist(), strict=True)]
    assert inside(fence, lats, lons).tolist() == contained


@given(compounds)
@settings(max_examples=50)
def test_who_is_inside_is_whom_shapely_and_geod_find_one_by_one(fence: Geofence) -> None:
    lats, lons = (np.concatenate(both) for both in zip(scattered(100), on_the_edges(fence), strict=True))
    lats[0] = lons[1] = np.nan
    assert (inside(fence, lats, lons) == one_by_one(fence, lats, lons)).all()


@given(fences, st.lists(st.tuples(st.floats(), st.floats()), max_size=20))
def test_no_number_whatever_breaks_it_and_none_that_is_no_place_is_inside(
    fence: Geofence, places: list[tuple[float, float]]
) -> None:
    lats = [lat for lat, _ in places] + [float("nan"), FORNACETTE.lat, float("inf"), 200.0]
    lons = [lon for _, lon in places] + [FORNACETTE.lon, float("nan"), FORNACETTE.lon, FORNACETTE.lon]
    mask = inside(fence, lats, lons)
    assert len(mask) == len(lats)
    assert not mask[-4:].any()


def test_everybody_in_a_polygon_is_found_on_its_boundary_too() -> None:
    fence = Geofence((Polygon(rectangle(43.625, 10.5, 43.75, 10.625)),))
    assert inside(fence, [43.625, 43.75, 43.7, 43.76], [10.5, 10.625, 10.55, 10.55]).tolist() == [1, 1, 1, 0]


def test_overlapping_shapes_find_a_person_once() -> None:
    fence = Geofence((Circle(FORNACETTE, 2), Polygon(rectangle(43.6, 10.5, 43.75, 10.7)), Circle(FORNACETTE, 3)))
    assert np.flatnonzero(inside(fence, [FORNACETTE.lat, 44.5], [FORNACETTE.lon, 10.6])).tolist() == [0]


def many(fence: Geofence) -> tuple[Floats, Floats]:
    """Enough points in the fence's box for a grid; some on its edges, some on the lines of the grid, one nowhere."""
    south, west, north, east = fence.bounds
    random = np.random.default_rng(1)
    side = np.prod(matching.SIDES)
    lines = random.integers(0, side + 1, (2, matching.MANY))
    lats, lons = on_the_edges(fence)
    return (
        np.concatenate([lats, random.uniform(south, north, matching.MANY), south + (north - south) / side * lines[0]]),
        np.concatenate([lons, west + (east - west) / side * lines[1], random.uniform(west, east, matching.MANY)]),
    )


@given(compounds.filter(lambda fence: not fence.is_empty))
@settings(max_examples=60)
def test_a_million_points_sorted_into_squares_give_the_answers_of_a_few(fence: Geofence) -> None:
    lats, lons = many(fence)
    lats[-1] = np.nan
    parts = np.array_split(np.arange(len(lats)), 10)
    a_few = np.concatenate([inside(fence, lats[part], lons[part]) for part in parts])
    assert (inside(fence, lats, lons) == a_few).all()


@pytest.mark.parametrize("size", [1e-12, 1e-9, 1e-6, 60])
def test_squares_smaller_than_rounding_and_larger_than_italy_lose_nobody(size: float) -> None:
    south, west = 43.67, 10.58
    fence = Geofence(
        (Polygon((Point(south, west), Point(south, west + size), Point(south + size / 2, west), Point(south, west))),)
    )
    lats, lons = many(fence)
    brute = shapely.intersects_xy(fence.planar, lons, lats)
    assert brute.any()
    assert (inside(fence, lats, lons) == brute).all()


def test_a_hundred_thousand_vertices_are_matched_as_four_are() -> None:
    at = np.linspace(0, 2 * np.pi, 100_001)
    far = 0.2 + 0.001 * np.sin(at * 400)
    ring = [Point(lat, lon) for lat, lon in zip(43.66 + far * np.sin(at), 10.58 + far * np.cos(at), strict=True)]
    coast = Geofence((Polygon((*ring[:-1], ring[0])),))
    lats, lons = scattered(1_000_000)
    started = time.process_time()
    found = inside(coast, lats, lons)
    assert time.process_time() - started < 3, "measured 0.2 s"
    assert (found == shapely.intersects_xy(coast.planar, lons, lats)).all()


def test_nobody_is_inside_of_nobody() -> None:
    assert inside(Geofence((Circle(FORNACETTE, 2),)), [], []).tolist() == []
