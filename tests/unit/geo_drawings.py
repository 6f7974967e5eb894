"""Drawings to try geometry with: stars with holes and circles about the lower Arno; who is in them, asked otherwise."""

import math
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import strategies as st
from pyproj import Geod

from geo.shapes import Circle, Floats, Geofence, Mask, Point, Polygon, Shape

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


compounds = st.builds(
    lambda fence, within, without: Geofence(fence.shapes, within, without),
    fences,
    st.none() | fences,
    st.none() | fences,
)
"""Some of them empty: in the few that lie apart from what they are to lie within, or are left out altogether."""


def one_by_one(fence: Geofence, lats: Floats, lons: Floats) -> Mask:
    """Who is inside, by one call of shapely or Geod for each point and each shape, and nothing of ours."""

    def is_told(lat: float, lon: float) -> bool:
        return (
            any(_holds(shape, lat, lon) for shape in fence.shapes)
            and (not fence.within or any(_holds(shape, lat, lon) for shape in fence.within.shapes))
            and not (fence.without and any(_holds(shape, lat, lon, strictly=True) for shape in fence.without.shapes))
        )

    return np.array([is_told(lat, lon) for lat, lon in zip(lats.tolist(), lons.tolist(), strict=True)], dtype=bool)


def _holds(shape: Shape, lat: float, lon: float, strictly: bool = False) -> bool:
    if math.isnan(lat) or math.isnan(lon):
        return False
    if isinstance(shape, Circle):
        metres = Geod(ellps="WGS84").inv(shape.center.lon, shape.center.lat, lon, lat)[2]
        edge = shape.radius_km * 1000
        return bool(metres < edge - 0.001 if strictly else metres <= edge + 0.001)
    outer, *holes = ([(p.lon, p.lat) for p in ring] for ring in (shape.outer, *shape.holes))
    polygon, point = shapely.Polygon(outer, holes), shapely.Point(lon, lat)
    return bool(polygon.contains(point) if strictly else polygon.intersects(point))


def on_the_edges(fence: Geofence) -> tuple[Floats, Floats]:
    """Of every shape: the vertices of a polygon, twelve points at a circle's radius, and of both a hair beside them."""
    points = []
    parts = (part.shapes for part in (fence, fence.within, fence.without) if part)
    for shape in (shape for part in parts for shape in part):
        if isinstance(shape, Polygon):
            points += [(p.lat, p.lon) for ring in (shape.outer, *shape.holes) for p in ring]
        else:
            at, metres = shape.center, shape.radius_km * 1000
            around = [Geod(ellps="WGS84").fwd(at.lon, at.lat, bearing, metres) for bearing in range(0, 360, 30)]
            points += [(lat, lon) for lon, lat, _ in around]
    exact = np.array(points)
    beside = np.concatenate([exact + hair for hair in np.array([(0, 0), (1e-9, 0), (0, -1e-9), (1e-7, 1e-7)])])
    return beside[:, 0], beside[:, 1]


def scattered(count: int = 3000, seed: int = 1) -> tuple[Floats, Floats]:
    random = np.random.default_rng(seed)
    return random.uniform(43.45, 43.95, count), random.uniform(10.3, 10.9, count)


def needs(name: str) -> Path:
    """A file of the shared data, which is no part of the repository. Skips the test where it is absent."""
    file = Path(__file__).parents[2].parent / "shared/data" / name
    if not file.exists():
        pytest.skip(f"needs {file}, which is not part of the repository")
    return file
