"""Drawings to try geometry with: stars with holes and circles about the lower Arno."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st

from geo.shapes import Circle, Floats, Geofence, Point, Polygon

# Two cores shared with others: how long an example takes says nothing about the code.

FORNACETTE = Point(43.6702, 10.5851)


def rectangle(south: float, west: float, north: float, east: float) -> tuple[Point, ...]:
    corners = (Point(south, west), Point(south, east), Point(north, east), Point(north, west))
    return (*corners, corners[0])


def star(center: Point, radii: list[float]) -> tuple[Point, ...]:
    """A ring round the centre that never crosses itself."""
    turn = 2 * math.pi / len(radii)
    ring = [
        Point(round(center.lat + r * math.sin(i * turn), 6), round(center.lon + r * math.cos(i * turn), 6))
        for i, r in enumerate(radii)
    ]
    return (*ring, ring[0])


centers = st.builds(Point, st.floats(43.6, 43.8).map(lambda x: round(x, 4)), st.floats(10.5, 10.7))
radii = st.lists(st.floats(0.02, 0.1), min_size=3, max_size=12)
circles = st.builds(Circle, centers, st.floats(0.05, 12))


@st.composite
def polygons(draw: st.DrawFn) -> Polygon:
    center = draw(centers)
    reach = draw(radii)
    # An edge between two vertices at least 0.02 away, seen under at most 120°, never comes nearer than 0.01.
    hole = draw(st.none() | st.floats(0.0005, 0.009))
    return Polygon(star(center, reach), (star(center, [hole] * 5),) if hole else ())


fences = st.lists(polygons() | circles, min_size=1, max_size=4).map(lambda shapes: Geofence(tuple(shapes)))


def scattered(count: int = 3000, seed: int = 1) -> tuple[Floats, Floats]:
    random = np.random.default_rng(seed)
    return random.uniform(43.45, 43.95, count), random.uniform(10.3, 10.9, count)


def needs(name: str) -> Path:
    """A file of the shared data, which is no part of the repository. Skips the test where it is absent."""
    file = Path(__file__).parents[2].parent / "shared/data" / name
    if not file.exists():
        pytest.skip(f"needs {file}, which is not part of the repository")
    return file
