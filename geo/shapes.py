"""Points, polygons, circles and their union on the ellipsoid. Only here do x and y meet lat and lon."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import shapely
from pyproj import Geod

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

WGS84 = Geod(ellps="WGS84")
SMALLEST_CURVATURE_KM = 6335.4
"""No radius of curvature of WGS 84 is smaller (a meridian at the equator): bounds made with it hold."""
OUTLINE_POINTS = 180
METRES_PER_DEGREE = 111_195.0
LONGEST_EDGE_M = 200.0
SLIVER_KM2 = 0.0001
TOUCH_M = 0.001
"""Whoever stands this near a circle's edge stands on it: Geod's own rounding is some nanometres."""
NEAR_M = 10.0
"""How far a box keeps from a circle's edge before it counts as wholly inside, or wholly outside."""


class Bounds(NamedTuple):
    """A box in degrees, its edges included: four numbers, or four arrays of as many boxes."""

    south: Any
    west: Any
    north: Any
    east: Any

    def hold(self, lats: Any, lons: Any) -> Any:
        """Whether each point is in the box. NaN is in no box."""
        return (self.south <= lats) & (lats <= self.north) & (self.west <= lons) & (lons <= self.east)


class Flaw(Enum):
    """What is wrong with a drawing. A closed list: it labels metrics and form errors."""

    RING_OPEN = "ring_open"
    TOO_FEW_POINTS = "too_few_points"
    SELF_CROSSING = "self_crossing"
    SWAPPED = "swapped"
    OUT_OF_RANGE = "out_of_range"
    NOT_A_NUMBER = "not_a_number"
    TOO_MANY_VERTICES = "too_many_vertices"
    TOO_MANY_SHAPES = "too_many_shapes"
    TOO_WIDE = "too_wide"
    EMPTY = "empty"
    RADIUS = "radius"
    MALFORMED = "malformed"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Point:
    """A place: WGS 84 degrees, latitude first."""

    lat: float
    lon: float


class ShapeError(ValueError):
    """A drawing nobody can be alerted by: what is wrong, where, what to do. `at` is the place, if known."""

    def __init__(self, flaw: Flaw, sentence: str, at: Point | None = None) -> None:
        super().__init__(sentence)
        self.flaw = flaw
        self.at = at


# ── shapes ──────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Polygon:
    """A closed ring (the first point again at the end), and its holes. Edges are straight in degrees."""

    outer: tuple[Point, ...]
    holes: tuple[tuple[Point, ...], ...] = ()

    @cached_property
    def planar(self) -> shapely.Polygon:
        """x = lon, y = lat, prepared."""
        polygon = shapely.Polygon(_xy(self.outer), [_xy(hole) for hole in self.holes])
        shapely.prepare(polygon)
        return polygon

    @cached_property
    def bounds(self) -> Bounds:
        west, south, east, north = self.planar.bounds
        return Bounds(south, west, north, east)

    @property
    def vertices(self) -> int:
        return len(self.outer) + sum(map(len, self.holes))

    @property
    def defect(self) -> tuple[str, Point | None] | None:
        """What GEOS finds wrong with the rings, and where: `("Self-intersection", Point(43.665, 10.59))`."""
        if shapely.is_valid(self.planar):
            return None
        what, _, place = shapely.is_valid_reason(self.planar).rstrip("]").partition("[")
        lon, lat, *_ = [*map(float, place.split()), math.nan, math.nan]
        return what, None if math.isnan(lat) else Point(lat, lon)

    def covers(self, lats: Floats, lons: Floats) -> Mask:
        """Whether each point lies inside or on the boundary."""
        return np.asarray(shapely.intersects_xy(self.planar, lons, lats))

    def tidy(self) -> "Polygon":
        """To six decimals (0.1 m), exterior counter-clockwise, holes clockwise.

        One so thin that rounding would make it cross itself keeps every digit.
        """
        rounded = shapely.transform(self.planar, lambda xy: xy.round(6))
        return _polygon(shapely.orient_polygons(rounded if shapely.is_valid(rounded) else self.planar))

    def without_holes(self) -> "tuple[Polygon, ...]":
        """The same area as polygons that have none: cut north to south through every hole."""
        return tuple(map(_polygon, _cut(self.planar))) if self.holes else (self,)


@dataclass(frozen=True)
class Circle:
    """All places at most `radius_km` kilometres from the centre, along the ellipsoid."""

    center: Point
    radius_km: float

    @cached_property
    def planar(self) -> shapely.Polygon:
        return self.outline().planar

    @cached_property
    def bounds(self) -> Bounds:
        """A box that surely holds the circle, up to 1 % wider than it."""
        lat, lon = self.center.lat, self.center.lon
        reach = self.radius_km / SMALLEST_CURVATURE_KM
        sideways = math.degrees(math.asin(min(1.0, math.sin(reach) / max(math.cos(math.radians(lat)), 1e-12))))
        up = math.degrees(reach)
        return Bounds(lat - up, lon - sideways, lat + up, lon + sideways)

    @property
    def vertices(self) -> int:
        return 1

    def covers(self, lats: Floats, lons: Floats) -> Mask:
        """Whether each point is within the radius: geodesic, never by way of a polygon."""
        return self._metres_to(lats, lons) <= self.radius_km * 1000 + TOUCH_M

    def outline(self) -> Polygon:
        """180 points around the circle, for maps and areas. Never inside it, at most 0.02 % outside."""
        # The edges touch the circle at their middles; straight in degrees, they bend inwards 10 m at 500 km.
        metres = self.radius_km * 1000 / math.cos(math.pi / OUTLINE_POINTS) * 1.00002
        bearings = -np.arange(OUTLINE_POINTS) * 360.0 / OUTLINE_POINTS
        lats, lons = np.full(OUTLINE_POINTS, self.center.lat), np.full(OUTLINE_POINTS, self.center.lon)
        lons, lats, _ = WGS84.fwd(lons, lats, bearings, np.full(OUTLINE_POINTS, metres))
        ring = [Point(lat, lon) for lat, lon in zip(lats.tolist(), lons.tolist(), strict=True)]
        return Polygon((*ring, ring[0]))

    def fills_and_touches(self, boxes: Bounds) -> tuple[Mask, Mask]:
        """Which boxes lie wholly inside, and which hold an inside point; in doubt, touched but not filled."""
        south, west, north, east = boxes
        corners = ((south, west), (south, east), (north, west), (north, east))
        farthest = np.max([self._metres_to(lat, lon) for lat, lon in corners], axis=0)
        nearest_lon = np.clip(self.center.lon, west, east)
        # A meridian comes nearest to the centre where tan(lat) = tan(centre's lat) / cos(longitudes apart).
        lat, away = math.radians(self.center.lat), np.radians(nearest_lon - self.center.lon)
        foot = np.degrees(np.arctan2(math.sin(lat), math.cos(lat) * np.cos(away)))
        nearest = self._metres_to(np.clip(foot, south, north), nearest_lon)
        metres = self.radius_km * 1000
        return farthest < metres - NEAR_M, nearest < metres + NEAR_M

    def _metres_to(self, lats: Floats, lons: Floats) -> Floats:
        here = np.full_like(lats, self.center.lon), np.full_like(lats, self.center.lat)
        return np.asarray(WGS84.inv(*here, lons, lats)[2])


Shape = Polygon | Circle


@dataclass(frozen=True)
class Geofence:
    """The union of shapes, boundary included. Never of none: an alert for nobody is a mistake."""

    shapes: tuple[Shape, ...]

    def __post_init__(self) -> None:
        if not self.shapes:
            raise ShapeError(Flaw.EMPTY, "the geofence has no shape and would reach nobody; draw at least one")

    @cached_property
    def bounds(self) -> Bounds:
        south, west, north, east = zip(*(shape.bounds for shape in self.shapes), strict=True)
        return Bounds(min(south), min(west), max(north), max(east))

    @cached_property
    def planar(self) -> shapely.Geometry:
        """The union as one prepared geometry, circles as their outlines: for areas, differences and maps."""
        return _union(shape.planar for shape in self.shapes)

    @cached_property
    def area_km2(self) -> float:
        """Square kilometres on the ellipsoid, what overlaps counted once."""
        return _km2(self.planar)

    def contains(self, point: Point) -> bool:
        """Whether the point lies inside or on the boundary; the same answer as `matching.inside`."""
        where = np.array([point.lat]), np.array([point.lon])
        return any(shape.bounds.hold(point.lat, point.lon) and bool(shape.covers(*where)[0]) for shape in self.shapes)

    def union(self, other: "Geofence") -> "Geofence":
        """What either holds; a shape both have appears once."""
        return Geofence(tuple(dict.fromkeys(self.shapes + other.shapes)))

    def fills_and_touches(self, boxes: Bounds) -> tuple[Mask, Mask]:
        """Which boxes lie wholly inside, and which hold at least one inside point. Boxes are arrays.

        Conservative: a box filled only by a circle together with another shape counts as touched.
        """
        fills, touches = np.zeros((2, len(boxes.south)), dtype=bool)
        if self._polygons:
            squares = shapely.box(boxes.west, boxes.south, boxes.east, boxes.north)
            touches |= shapely.intersects(self._polygons, squares)
            fills[touches] = shapely.contains_properly(self._polygons, squares[touches])
        for circle in (shape for shape in self.shapes if isinstance(shape, Circle)):
            inside, near = circle.fills_and_touches(boxes)
            fills |= inside
            touches |= near
        return fills, touches

    @cached_property
    def _polygons(self) -> shapely.Geometry | None:
        polygons = [shape.planar for shape in self.shapes if isinstance(shape, Polygon)]
        return _union(polygons) if polygons else None


def km2_outside(fence: Geofence, territory: Geofence) -> float:
    """How many square kilometres of the fence lie outside the territory.

    A circle counts as its outline, up to 0.02 % wider; a fence along a border drawn by another hand leaves
    slivers. The caller decides how much is nothing.
    """
    return _km2(shapely.difference(fence.planar, territory.planar))


def metres_outside(fence: Geofence, territory: Geofence) -> float:
    """How far the fence reaches over the territory's border, in metres: 0 where it lies inside.

    Measured on a plane at the territory's latitude: right to a percent over some hundred kilometres.
    """
    outside = shapely.difference(fence.planar, territory.planar)
    if outside.is_empty:
        return 0.0
    south, _, north, _ = territory.bounds
    scale = np.array([METRES_PER_DEGREE * math.cos(math.radians((south + north) / 2)), METRES_PER_DEGREE])
    flat, border = (shapely.transform(shape, lambda xy: xy * scale) for shape in (outside, territory.planar))
    corners = shapely.points(shapely.get_coordinates(shapely.segmentize(flat, LONGEST_EDGE_M)))
    return float(shapely.distance(corners, border).max())


def clipped(fence: Geofence, territory: Geofence) -> Geofence | None:
    """What of the fence lies inside the territory: its shapes as they are where they do, else cut at the border.

    None where they meet in nothing, or in slivers of less than a hundred square metres.
    """
    kept: list[Shape] = []
    for shape in fence.shapes:
        inside = shapely.intersection(shape.planar, territory.planar)
        if shapely.equals(inside, shape.planar):
            kept.append(shape)
            continue
        parts = (_polygon(part) for part in shapely.get_parts(inside) if part.geom_type == "Polygon")
        kept += [part.tidy() for part in parts if _km2(part.planar) > SLIVER_KM2]
    return Geofence(tuple(kept)) if kept else None


class FenceIndex:
    """Which of many geofences a point stands in: some 20 µs among thousands."""

    def __init__(self, fences: Sequence[Geofence]) -> None:
        self._fences = fences
        boxes = np.array([fence.bounds for fence in fences], dtype=np.float64).reshape(-1, 4)
        self._tree = shapely.STRtree(shapely.box(boxes[:, 1], boxes[:, 0], boxes[:, 3], boxes[:, 2]))

    def holding(self, point: Point) -> list[int]:
        """The positions, ascending, of the fences that contain the point."""
        near = self._tree.query(shapely.Point(point.lon, point.lat))
        return sorted(at for at in near.tolist() if self._fences[at].contains(point))


def _xy(ring: Iterable[Point]) -> list[tuple[float, float]]:
    return [(point.lon, point.lat) for point in ring]


def _polygon(planar: shapely.Polygon) -> Polygon:
    outer, *holes = (
        tuple(Point(lat, lon) for lon, lat in shapely.get_coordinates(ring).tolist())
        for ring in (planar.exterior, *planar.interiors)
    )
    return Polygon(outer, tuple(holes))


def _cut(planar: shapely.Polygon) -> Iterator[shapely.Polygon]:
    if not planar.interiors:
        yield planar
        return
    west, south, east, north = planar.bounds
    hole_west, _, hole_east, _ = planar.interiors[0].bounds
    middle = (hole_west + hole_east) / 2
    for half in (shapely.box(west, south, middle, north), shapely.box(middle, south, east, north)):
        for piece in shapely.get_parts(shapely.intersection(planar, half)):
            if piece.geom_type == "Polygon":  # not what the cut merely touched
                yield from _cut(piece)


def _union(planars: Iterable[shapely.Geometry]) -> shapely.Geometry:
    union = shapely.union_all(list(planars))
    shapely.prepare(union)
    return union


def _km2(planar: shapely.Geometry) -> float:
    # Geod subtracts a hole only if it turns the other way round than its exterior.
    square_metres, _ = WGS84.geometry_area_perimeter(shapely.orient_polygons(planar))
    return abs(float(square_metres)) / 1e6
