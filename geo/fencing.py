"""From the geometry of one feature to a geofence: checked, and repaired where that changes nothing that matters."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
import shapely
from pyproj import Transformer
from pyproj.enums import TransformDirection

from geo.drawing import (
    IMPORTED,
    Notation,
    Role,
    check_not_swapped,
    check_vertices,
    checked_circle,
    checked_fence,
    checked_polygon,
    quoted,
    read_number,
)
from geo.mending import untangled
from geo.projections import Projection
from geo.shapes import Flaw, Geofence, Point, Polygon, Shape, ShapeError, polygons_of

LARGEST_BUFFER_M = 5_000.0
FARTHEST_M = 1e8
"""No projection of the earth reaches farther from its origin."""
QUARTER_ROUND = 16
"""Edges to a quarter of the rounding at a line's end: 0.1 % inside the circle."""


class Repair(Enum):
    """What was put right without asking, in words for a report. A closed list."""

    CROSSING = "its outline crossed itself, and is now what it enclosed: at most 1 % of its area has changed"
    REPEATED = "points that repeated the one before were left out"
    WINDING = "rings that turned the wrong way round were turned"
    ALTITUDE = "altitudes were left out"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a place reaches around a point, in kilometres, and on both sides of a line, in metres. None: not said."""

    point_km: object = None
    """Not checked yet: a file may say it."""
    line_m: float | None = None


def fence_of(geometry: Mapping[str, Any], projection: Projection, reach: Reach) -> tuple[Geofence, tuple[Repair, ...]]:
    """From a GeoJSON geometry, in whatever projection, to degrees of WGS 84.

    Points become circles, lines become bands, polygons turn as RFC 7946 wants. Raises ShapeError, with places in
    degrees.
    """
    survey = _Survey(projection, reach)
    fence = checked_fence(((Role.ADDS, shape) for shape in survey.shapes(geometry)), IMPORTED)
    return fence, tuple(repair for repair in Repair if repair in survey.repairs)


@dataclass
class _Survey:
    """One geometry being read, and what had to be put right in it."""

    projection: Projection
    reach: Reach
    repairs: set[Repair] = field(default_factory=set)

    def shapes(self, node: Mapping[str, Any]) -> Iterator[Shape]:
        match node:
            case {"type": "GeometryCollection", "geometries": [*nodes]}:
                for each in nodes:
                    yield from self._simple(each)
            case _:
                yield from self._simple(node)

    def _simple(self, node: object) -> Iterator[Shape]:
        match node:
            case {"type": "Polygon", "coordinates": [*rings]}:
                yield from self._polygon(rings)
            case {"type": "MultiPolygon", "coordinates": [*polygons]}:
                for rings in polygons:
                    yield from self._polygon(rings)
            case {"type": "Point", "coordinates": position}:
                yield self._circle(position)
            case {"type": "MultiPoint", "coordinates": [*positions]}:
                yield from map(self._circle, positions)
            case {"type": "LineString", "coordinates": line}:
                yield from self._band([line])
            case {"type": "MultiLineString", "coordinates": [*lines]}:
                yield from self._band(lines)
            case _:
                found = node.get("type") if isinstance(node, Mapping) else node
                raise ShapeError(
                    Flaw.MALFORMED,
                    f"its geometry is {quoted(found)}; draw polygons, lines or points, or a collection of these",
                )

    def _polygon(self, rings: object) -> Iterator[Polygon]:
        if not isinstance(rings, Sequence) or not rings:
            raise ShapeError(Flaw.EMPTY, "the polygon has no rings; draw at least the outer one")
        check_vertices(sum(len(ring) for ring in rings if isinstance(ring, Sequence)), IMPORTED)
        drawn = [self._points(ring) for ring in rings]
        try:
            whole = checked_polygon(drawn, Notation.GEOJSON)
        except ShapeError as error:
            if error.flaw not in (Flaw.SELF_CROSSING, Flaw.MALFORMED):
                raise
            parts = untangled(Polygon(drawn[0], tuple(drawn[1:])))
            if not parts:
                raise
            self.repairs.add(Repair.CROSSING)
            yield from map(_turned, parts)
        else:
            if (turned := _turned(whole)) is not whole:
                self.repairs.add(Repair.WINDING)
            yield turned

    def _circle(self, position: object) -> Shape:
        if self.reach.point_km is None:
            raise ShapeError(
                Flaw.MALFORMED, "it is a point, and nothing says how far around it the place reaches; give a radius"
            )
        (center,) = self._points([position])
        return checked_circle(center, read_number("the radius", self.reach.point_km), Notation.GEOJSON)

    def _band(self, lines: Sequence[object]) -> Iterator[Polygon]:
        """All places at most so many metres from the line."""
        if self.reach.line_m is None:
            raise ShapeError(
                Flaw.MALFORMED, "it is a line, and nothing says how far beside it the place reaches; give a buffer"
            )
        if not 0 < self.reach.line_m <= LARGEST_BUFFER_M:
            raise ShapeError(
                Flaw.RADIUS,
                f"the buffer of the line is {quoted(self.reach.line_m)} m; give metres, more than 0 and at most "
                f"{LARGEST_BUFFER_M:.0f}",
            )
        drawn = [self._points(line) for line in lines]
        for line in drawn:
            if len(line) < 2:
                raise ShapeError(Flaw.TOO_FEW_POINTS, "the line has fewer than two different points; add the others")
            check_not_swapped(line, Notation.GEOJSON)
        yield from _around(drawn, self.reach.line_m)

    def _points(self, positions: object) -> tuple[Point, ...]:
        """Without those that only repeat the one before."""
        if not isinstance(positions, Sequence) or isinstance(positions, str):
            raise ShapeError(Flaw.MALFORMED, f"{quoted(positions)} stands where a list of positions should")
        pairs = [self._pair(position) for position in positions]
        if self.projection.is_degrees:
            points = [Notation.GEOJSON.point(lon, lat) for lon, lat in pairs]
        else:
            points = self._in_degrees(pairs)
        kept = [point for at, point in enumerate(points) if at == 0 or point != points[at - 1]]
        if len(kept) < len(points):
            self.repairs.add(Repair.REPEATED)
        return tuple(kept)

    def _pair(self, position: object) -> tuple[object, object]:
        match position:
            case [x, y]:
                return x, y
            case [x, y, _]:
                self.repairs.add(Repair.ALTITUDE)
                return x, y
            case _:
                raise ShapeError(
                    Flaw.MALFORMED, f"{quoted(position)} stands where a position, [longitude, latitude], should"
                )

    def _in_degrees(self, pairs: Sequence[tuple[object, object]]) -> list[Point]:
        xs, ys = [_metres("x", x) for x, _ in pairs], [_metres("y", y) for _, y in pairs]
        lons, lats = self.projection.to_degrees(xs, ys)
        if len(strange := np.flatnonzero(~(np.isfinite(lons) & np.isfinite(lats)))):
            x, y = xs[strange[0]], ys[strange[0]]
            raise ShapeError(Flaw.OUT_OF_RANGE, f"{x:.10g}, {y:.10g} is no place in {self.projection.name}; correct it")
        return [Point(lat, lon) for lat, lon in zip(lats.tolist(), lons.tolist(), strict=True)]


def _metres(what: str, value: object) -> float:
    number = read_number(what, value)
    if abs(number) > FARTHEST_M:
        raise ShapeError(Flaw.OUT_OF_RANGE, f"{what} {quoted(value)} lies beyond the earth; correct it")
    return float(number)


def _turned(polygon: Polygon) -> Polygon:
    """The same area, its outer ring counter-clockwise and its holes clockwise."""
    rings = [polygon.planar.exterior, *polygon.planar.interiors]
    right = [bool(shapely.is_ccw(ring)) == (at == 0) for at, ring in enumerate(rings)]
    if all(right):
        return polygon
    outer, *holes = (
        ring if good else ring[::-1] for ring, good in zip((polygon.outer, *polygon.holes), right, strict=True)
    )
    return Polygon(outer, tuple(holes))


def _around(lines: Sequence[Sequence[Point]], metres: float) -> Iterator[Polygon]:
    """Measured on a plane about the middle of the lines: 0.5 % wrong at most 1,000 km from there."""
    lats, lons = ([getattr(point, axis) for line in lines for point in line] for axis in ("lat", "lon"))
    middle = f"+lat_0={(min(lats) + max(lats)) / 2} +lon_0={(min(lons) + max(lons)) / 2}"
    plane = Transformer.from_crs("EPSG:4326", f"+proj=aeqd {middle} +datum=WGS84 +units=m", always_xy=True)
    drawn = shapely.MultiLineString([[(point.lon, point.lat) for point in line] for line in lines])
    flat = shapely.transform(drawn, plane.transform, interleaved=False)
    band = shapely.buffer(flat, metres, quad_segs=QUARTER_ROUND)
    around = shapely.transform(
        band, lambda x, y: plane.transform(x, y, direction=TransformDirection.INVERSE), interleaved=False
    )
    return map(_turned, polygons_of(around))
