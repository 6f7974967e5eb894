"""Points, polygons, circles, and the geofences made of them. Only here do x and y meet lat and lon."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import shapely
from pyproj import Geod

Floats = npt.NDArray[np.float64]
Degrees = Floats | float
"""Of many points at once, or of one."""
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

    def meet(self, other: "Bounds") -> Any:
        """Whether each box has a point in common with the other, an edge at least."""
        return (
            (self.south <= other.north)
            & (other.south <= self.north)
            & (self.west <= other.east)
            & (other.west <= self.east)
        )


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

    def covers(self, lats: Degrees, lons: Degrees) -> Mask:
        """Whether each point lies inside or on the boundary."""
        return np.asarray(shapely.intersects_xy(self.planar, lons, lats))

    def encloses(self, lats: Degrees, lons: Degrees) -> Mask:
        """Whether each point lies inside, not on the boundary."""
        return np.asarray(shapely.contains_xy(self.planar, lons, lats))

    def tidy(self) -> "Polygon":
        """To six decimals (0.1 m), exterior counter-clockwise, holes clockwise.

        One so thin that rounding would make it cross itself keeps every digit.
        """
        rounded = shapely.transform(self.planar, lambda xy: xy.round(6))
        return _polygon(shapely.orient_polygons(rounded if shapely.is_valid(rounded) else self.planar))

    def without_holes(self) -> "tuple[Polygon, ...]":
        """The same area as polygons that have none: cut north to south through every hole."""
        return tuple(map(_polygon, _cut(self.planar))) if self.holes else (self,)

    def fills_and_touches(self, boxes: Bounds) -> tuple[Mask, Mask]:
        """Which boxes lie wholly inside, their edges too, and which hold a point of it."""
        return _filled_and_touched(self.planar, boxes)


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

    def covers(self, lats: Degrees, lons: Degrees) -> Mask:
        """Whether each point is within the radius: geodesic, never by way of a polygon."""
        return np.asarray(self._metres_to(lats, lons) <= self.radius_km * 1000 + TOUCH_M)

    def encloses(self, lats: Degrees, lons: Degrees) -> Mask:
        """Whether each point is nearer than the radius: not on the edge."""
        return np.asarray(self._metres_to(lats, lons) < self.radius_km * 1000 - TOUCH_M)

    def outline(self) -> Polygon:
        """180 points around the circle, for maps and areas. Never inside it, at most 0.02 % outside."""
        # The edges touch the circle at their middles; straight in degrees, they bend inwards 10 m at 500 km.
        return self._ring(self.radius_km * 1000 / math.cos(math.pi / OUTLINE_POINTS) * 1.00002)

    def inscribed(self) -> Polygon:
        """180 points on the circle, for what is left out by it. Never outside it, at most 0.02 % inside."""
        return self._ring(self.radius_km * 1000 * 0.99999)

    def _ring(self, metres: float) -> Polygon:
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

    def _metres_to(self, lats: Degrees, lons: Degrees) -> Any:
        if isinstance(lats, float):  # ten times as fast as an array of one
            return WGS84.inv(self.center.lon, self.center.lat, lons, lats)[2]
        here = np.full_like(lats, self.center.lon), np.full_like(lats, self.center.lat)
        return WGS84.inv(*here, lons, lats)[2]


Shape = Polygon | Circle


@dataclass(frozen=True)
class Geofence:
    """The union of shapes; where asked for, only what of it lies `within` another, and `without` a third.

    Those two are plain themselves. In doubt a person is told: all boundaries belong to the geofence, that of
    `without` too, for left out is only who stands strictly inside one of its shapes.
    """

    shapes: tuple[Shape, ...]
    within: "Geofence | None" = None
    without: "Geofence | None" = None

    def __post_init__(self) -> None:
        if not self.shapes:
            raise ShapeError(Flaw.EMPTY, "the geofence has no shape and would reach nobody; draw at least one")
        if not all(part.is_plain for part in (self.within, self.without) if part):
            raise ShapeError(
                Flaw.MALFORMED,
                "what a geofence lies within, or leaves out, has conditions of its own; give it plain shapes "
                "(Geofence.flattened)",
            )

    @property
    def is_plain(self) -> bool:
        """Whether its shapes say all."""
        return self.within is None and self.without is None

    @cached_property
    def is_empty(self) -> bool:
        """Whether nothing is left but slivers of less than a hundred square metres: it would reach nobody."""
        return not self.is_plain and self.area_km2 <= SLIVER_KM2

    def check_not_empty(self) -> None:
        """Raises ShapeError if it would reach nobody."""
        if self.is_empty:
            raise ShapeError(
                Flaw.EMPTY,
                "nothing is left of the geofence and it would reach nobody: its shapes lie apart from what they are "
                "to lie within, or are left out altogether; draw them elsewhere, or leave out less",
            )

    @cached_property
    def bounds(self) -> Bounds:
        """A box that holds it all, perhaps not tightly; upside down where shapes and `within` lie apart."""
        south, west, north, east = zip(*(shape.bounds for shape in self.shapes), strict=True)
        box = Bounds(min(south), min(west), max(north), max(east))
        if self.within is None:
            return box
        south, west, north, east = zip(box, self.within.bounds, strict=True)
        return Bounds(max(south), max(west), min(north), min(east))

    @cached_property
    def planar(self) -> shapely.Geometry:
        """All of it as one prepared geometry, circles as their outlines: for areas, differences and maps."""
        return self._planar(self.without.planar if self.without else None)

    @cached_property
    def area_km2(self) -> float:
        """Square kilometres on the ellipsoid, what overlaps counted once."""
        return _km2(self.planar)

    def covers(self, lats: Floats, lons: Floats) -> Mask:
        """Whether each point lies inside or on the boundary. NaN is never inside."""
        found = _held(lats, lons, ((shape.bounds, shape.covers) for shape in self.shapes))
        if self.within:
            found[found] = self.within.covers(lats[found], lons[found])
        if self.without:
            left_out = ((shape.bounds, shape.encloses) for shape in self.without.shapes)
            found[found] = ~_held(lats[found], lons[found], left_out)
        return found

    def contains(self, point: Point) -> bool:
        """The answer of `covers` for one point, without arrays of one: a few microseconds."""
        lat, lon = float(point.lat), float(point.lon)
        return (
            any(shape.bounds.hold(lat, lon) and shape.covers(lat, lon) for shape in self.shapes)
            and (self.within is None or self.within.contains(point))
            and not (
                self.without is not None
                and any(shape.bounds.hold(lat, lon) and shape.encloses(lat, lon) for shape in self.without.shapes)
            )
        )

    def union(self, other: "Geofence") -> "Geofence":
        """What either holds; a shape both have appears once. Raises ShapeError if their conditions differ."""
        if (self.within, self.without) != (other.within, other.without):
            raise ShapeError(
                Flaw.MALFORMED,
                "two geofences that lie within, or leave out, different places have no union; unite what is "
                "left of them (Geofence.flattened)",
            )
        return Geofence(tuple(dict.fromkeys(self.shapes + other.shapes)), self.within, self.without)

    def flattened(self) -> "Geofence":
        """The same place as plain polygons, circles outlined to 0.02 %: nobody is lost. A plain one as it is.

        Raises ShapeError if nothing is left.
        """
        if self.is_plain:
            return self
        self.check_not_empty()
        left_out = self.without and _union(
            shape.inscribed().planar if isinstance(shape, Circle) else shape.planar for shape in self.without.shapes
        )
        return Geofence(polygons_of(self._planar(left_out)))

    def fills_and_touches(self, boxes: Bounds) -> tuple[Mask, Mask]:
        """Which boxes lie wholly inside, and which hold at least one inside point. Boxes are arrays.

        Conservative: a box filled only by a circle together with another shape counts as touched.
        """
        fills, touches = np.zeros((2, len(boxes.south)), dtype=bool)
        if self._polygons:
            fills, touches = _filled_and_touched(self._polygons, boxes)
        for circle in (shape for shape in self.shapes if isinstance(shape, Circle)):
            _add(circle, boxes, fills, touches)
        if self.within:
            within_fills, within_touches = self.within.fills_and_touches(boxes)
            fills &= within_fills
            touches &= within_touches
        if self.without:
            # Shape by shape: whoever stands on the line between two that are left out is told.
            gone, gnawed = np.zeros((2, len(boxes.south)), dtype=bool)
            for shape in self.without.shapes:
                _add(shape, boxes, gone, gnawed)
            fills &= ~gnawed
            touches &= ~gone
        return fills, touches

    @cached_property
    def _polygons(self) -> shapely.Geometry | None:
        polygons = [shape.planar for shape in self.shapes if isinstance(shape, Polygon)]
        return _union(polygons) if polygons else None

    def _planar(self, left_out: shapely.Geometry | None) -> shapely.Geometry:
        planar = _union(shape.planar for shape in self.shapes)
        if self.is_plain:
            return planar
        if self.within:
            planar = shapely.intersection(planar, self.within.planar)
        if left_out:
            planar = shapely.difference(planar, left_out)
        planar = polygonal(planar)
        shapely.prepare(planar)
        return planar


def _held(lats: Floats, lons: Floats, parts: Iterable[tuple[Bounds, Callable[[Floats, Floats], Mask]]]) -> Mask:
    """Which points any of the parts holds. One already found is not asked of the next."""
    found = np.zeros(lats.shape, dtype=bool)
    for bounds, holds in parts:
        near = np.flatnonzero(bounds.hold(lats, lons) & ~found)
        found[near] = holds(lats[near], lons[near])
    return found


def _add(shape: Shape, boxes: Bounds, fills: Mask, touches: Mask) -> None:
    """Marks the boxes that a shape fills and touches; only those near it are measured."""
    near = np.flatnonzero(shape.bounds.meet(boxes) & ~fills)
    filled, touched = shape.fills_and_touches(Bounds(*(side[near] for side in boxes)))
    fills[near] |= filled
    touches[near] |= touched


def _filled_and_touched(planar: shapely.Geometry, boxes: Bounds) -> tuple[Mask, Mask]:
    squares = shapely.box(boxes.west, boxes.south, boxes.east, boxes.north)
    fills, touches = np.zeros(len(squares), dtype=bool), shapely.intersects(planar, squares)
    fills[touches] = shapely.contains_properly(planar, squares[touches])
    return fills, touches


def km2_outside(fence: Geofence, territory: Geofence) -> float:
    """How many square kilometres of the fence lie outside the territory.

    A circle counts as its outline, up to 0.02 % wider; a fence along a border drawn by another hand leaves
    slivers. The caller decides how much is nothing.
    """
    return _km2(shapely.difference(fence.planar, territory.planar))


def km2_shared(one: Geofence, other: Geofence) -> float:
    """Square kilometres that lie in both."""
    return one.area_km2 - km2_outside(one, other)


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

    A fence with conditions is flattened first. None where they meet in nothing, or in slivers of less than a
    hundred square metres.
    """
    kept: list[Shape] = []
    for shape in () if fence.is_empty else fence.flattened().shapes:
        inside = shapely.intersection(shape.planar, territory.planar)
        if shapely.equals(inside, shape.planar):
            kept.append(shape)
            continue
        kept += [part.tidy() for part in polygons_of(polygonal(inside)) if _km2(part.planar) > SLIVER_KM2]
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


def polygonal(planar: shapely.Geometry) -> shapely.MultiPolygon:
    """Without the lines and points that a repair or an intersection leaves over."""
    parts = shapely.get_parts(shapely.get_parts(planar))
    return shapely.MultiPolygon([part for part in parts if part.geom_type == "Polygon" and part.area > 0])


def polygons_of(planar: shapely.Geometry) -> tuple[Polygon, ...]:
    """The parts of a polygonal geometry."""
    return tuple(map(_polygon, shapely.get_parts(planar)))


def _union(planars: Iterable[shapely.Geometry]) -> shapely.Geometry:
    union = shapely.union_all(list(planars))
    shapely.prepare(union)
    return union


def _km2(planar: shapely.Geometry) -> float:
    # Geod subtracts a hole only if it turns the other way round than its exterior.
    square_metres, _ = WGS84.geometry_area_perimeter(shapely.orient_polygons(planar))
    return abs(float(square_metres)) / 1e6
