"""The polygon and circle texts of CAP 1.2: latitude first, kilometres, no holes, nothing left out."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, assert_never

from geo.drawing import (
    DRAWN,
    Limits,
    Notation,
    Role,
    check_vertices,
    checked_circle,
    checked_fence,
    checked_polygon,
    quoted,
    read_number,
    written,
)
from geo.shapes import Circle, Flaw, Geofence, Point, Polygon, Shape, ShapeError


class CapText(NamedTuple):
    """The texts of the polygon and the circle elements of a CAP area."""

    polygons: tuple[str, ...]
    circles: tuple[str, ...]


def parse_cap(polygons: Iterable[str], circles: Iterable[str], limits: Limits = DRAWN) -> Geofence:
    """The union of a CAP area's polygons and circles. Raises ShapeError."""

    def shapes() -> Iterator[Shape]:
        yield from (parse_cap_polygon(text, limits) for text in polygons)
        yield from map(parse_cap_circle, circles)

    return checked_fence(((Role.ADDS, shape) for shape in shapes()), limits)


def parse_cap_polygon(text: str, limits: Limits = DRAWN) -> Polygon:
    """`43.66,10.58 43.67,10.60 43.65,10.61 43.66,10.58`. Raises ShapeError."""
    pairs = text.split()
    check_vertices(len(pairs), limits)
    return checked_polygon([tuple(map(_cap_point, pairs))], Notation.CAP)


def parse_cap_circle(text: str) -> Circle:
    """`43.66,10.58 2.5`: the radius in kilometres. Raises ShapeError, also for the 0 CAP permits."""
    match text.split():
        case [pair, radius]:
            return checked_circle(_cap_point(pair), read_number("the radius", radius), Notation.CAP)
        case []:
            raise ShapeError(Flaw.EMPTY, "the circle is empty; write its centre and its radius: lat,lon km")
        case _:
            raise ShapeError(Flaw.MALFORMED, f"{quoted(text)} is not a circle; write lat,lon and the radius in km")


def to_cap(geofence: Geofence) -> CapText:
    """CAP has no holes: a polygon with some becomes several that leave them out.

    Nor has it conditions: a geofence within another, or without one, is flattened. Raises ShapeError if nothing of
    it is left.
    """
    polygons: list[str] = []
    circles: list[str] = []
    for shape in geofence.flattened().shapes:
        match shape:
            case Polygon():
                polygons.extend(_cap_ring(piece.outer) for piece in shape.without_holes())
            case Circle(center, radius_km):
                circles.append(f"{Notation.CAP.show(center)} {written(radius_km)}")
            case _:
                assert_never(shape)
    return CapText(tuple(polygons), tuple(circles))


def _cap_point(pair: str) -> Point:
    match pair.split(","):
        case [lat, lon]:
            return Notation.CAP.point(lat, lon)
        case _:
            raise ShapeError(Flaw.MALFORMED, f"{quoted(pair)} is not a point; write lat,lon with a decimal point")


def _cap_ring(ring: Iterable[Point]) -> str:
    return " ".join(map(Notation.CAP.show, ring))
