"""Outlines drawn by others: kept when sound, repaired when they cross, thinned when there are too many points."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo.mending import COARSEST, MOST_PAIRS, Condition, mend, untangled
from geo.shapes import Floats, Geofence, Point, Polygon

SQUARE = np.array([(43.66, 10.56), (43.66, 10.59), (43.68, 10.59), (43.68, 10.56), (43.66, 10.56)])
BOW_TIE = SQUARE[[0, 2, 1, 3, 0]]


def coast(points: int) -> Floats:
    """A round lake with a rough shore."""
    at = np.linspace(0, 2 * np.pi, points)
    far = 0.2 + 0.00002 * np.sin(at * 4_000)
    ring = np.column_stack([43.66 + far * np.sin(at), 10.58 + far * np.cos(at)])
    ring[-1] = ring[0]
    return ring


def scribble(points: int) -> Floats:
    ring: Floats = np.random.default_rng(points).random((points, 2)) + np.array([43, 10])
    ring[-1] = ring[0]
    return ring


def test_a_sound_outline_keeps_every_digit() -> None:
    [ring] = mend([SQUARE], 100).rings
    assert ring.condition is Condition.SOUND
    assert ring.polygons == (Polygon(tuple(Point(lat, lon) for lat, lon in SQUARE.tolist())),)


def test_a_bow_tie_becomes_its_two_halves_and_nobody_in_them_is_lost() -> None:
    [ring] = mend([BOW_TIE], 100).rings
    assert ring.condition is Condition.REPAIRED
    assert len(ring.polygons) == 2
    fence = Geofence(ring.polygons)
    assert fence.contains(Point(43.67, 10.562))
    assert fence.contains(Point(43.67, 10.588))
    assert not fence.contains(Point(43.662, 10.575))


def test_what_encloses_nothing_is_flat() -> None:
    line = np.array([(43.0, 10.0), (44.0, 11.0), (45.0, 12.0), (43.0, 10.0)])
    point = np.tile([[43.66, 10.56]], (4, 1))
    assert [ring.condition for ring in mend([line, point], 100).rings] == [Condition.FLAT, Condition.FLAT]


def test_beyond_the_limit_an_outline_is_thinned_and_says_by_how_much_it_moved() -> None:
    drawn = coast(30_000)
    outlines = mend([drawn, SQUARE], 10_000)
    assert 0 < outlines.moved < 0.001
    assert outlines.vertices <= 10_000
    thin, square = (ring.polygons[0] for ring in outlines.rings)
    assert square.outer == tuple(Point(lat, lon) for lat, lon in SQUARE.tolist())
    there = Polygon(tuple(Point(lat, lon) for lat, lon in drawn.tolist()))
    assert thin.planar.hausdorff_distance(there.planar) <= outlines.moved + 1e-9


def test_outlines_that_cannot_be_thinned_enough_are_given_back_as_none() -> None:
    squares = [SQUARE + np.array([0, n / 50]) for n in range(40)]
    outlines = mend(squares, 100)
    assert outlines.vertices == 200
    assert outlines.moved >= COARSEST
    assert not any(ring.polygons for ring in outlines.rings)


@pytest.mark.parametrize("points", [400, 5_000, 50_000])
def test_a_scribble_is_given_up_in_time(points: int) -> None:
    started = time.process_time()
    [ring] = mend([scribble(points)], 10_000).rings
    assert ring.condition is Condition.TANGLED
    assert ring.polygons == ()
    assert time.process_time() - started < 3


def test_the_effort_is_bounded_for_all_outlines_together() -> None:
    conditions = [ring.condition for ring in mend([scribble(80) for _ in range(20)], 10_000).rings]
    assert conditions[0] is Condition.REPAIRED
    assert conditions[-1] is Condition.TANGLED, f"more than {MOST_PAIRS} pairs were untangled"


def test_what_a_polygon_covers_twice_stays_in_it() -> None:
    """A ring road drawn as a band whose end runs a little over its beginning."""
    corners = [(0, 0), (10, 0), (10, 10), (0.5, 10), (0.5, 1.9), (2, 1.9), (2, 8), (8, 8), (8, 2), (0, 2), (0, 0)]
    road = Polygon(tuple(Point(43 + y / 100, 10 + x / 100) for x, y in corners))
    fence = Geofence(untangled(road))
    assert fence.contains(Point(43.0195, 10.01)), "the end lies over the beginning here"
    assert not fence.contains(Point(43.05, 10.05))


def test_a_polygon_that_a_repair_would_change_is_not_repaired() -> None:
    assert untangled(Polygon(tuple(Point(lat, lon) for lat, lon in BOW_TIE.tolist()))) == ()


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=3, max_size=9))
def test_whatever_is_kept_is_sound(points: list[tuple[int, int]]) -> None:
    ring = np.array([*points, points[0]], dtype=float)
    [mended] = mend([ring], 1_000).rings
    assert all(polygon.defect is None for polygon in mended.polygons)
    assert bool(mended.polygons) == (mended.condition in (Condition.SOUND, Condition.REPAIRED))
