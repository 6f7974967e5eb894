"""What a drawing must be before anybody is alerted by it. Checked, never repaired: only who drew it knows."""

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import Enum
from typing import NoReturn

from geo.shapes import Bounds, Circle, Flaw, Geofence, Point, Polygon, Shape, ShapeError

LARGEST_RADIUS_KM = 500.0
LONGEST_NUMBER = 40
SOUTH_OR_WEST = ("S", "W", "O")
"""O is ovest."""
ITALY = Bounds(35.4, 6.6, 47.1, 18.6)
"""Used only to notice exchanged coordinates: its latitudes and longitudes have no number in common."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one geofence may hold."""

    vertices: int
    shapes: int


DRAWN = Limits(vertices=10_000, shapes=100)
"""For what people and feeds draw: matching stays as fast as with four vertices up to here."""
IMPORTED = Limits(vertices=1_000_000, shapes=10_000)
"""For official boundaries: a coast has many vertices, and islets."""


class Role(Enum):
    """What a drawn shape is to its geofence."""

    ADDS = "adds"
    WITHIN = "within"
    """Only what lies in it, too, is meant."""
    WITHOUT = "without"
    """What lies in it is left out."""


class Notation(Enum):
    """Which of the two numbers is written first."""

    CAP = "latitude"
    GEOJSON = "longitude"

    def point(self, first: object, second: object) -> Point:
        """Raises ShapeError unless both are numbers in degrees."""
        lat, lon = (first, second) if self is Notation.CAP else (second, first)
        return Point(_degrees("latitude", lat, 90), _degrees("longitude", lon, 180))

    def show(self, point: Point) -> str:
        lat, lon = written(point.lat), written(point.lon)
        return f"{lat},{lon}" if self is Notation.CAP else f"{lon},{lat}"


def _degrees(what: str, value: object, most: int) -> float:
    degrees = read_number(what, value)
    if not -most <= degrees <= most:
        raise ShapeError(
            Flaw.OUT_OF_RANGE,
            f"{what} {quoted(value)} is not between -{most} and {most}; write degrees of WGS 84, not metres",
        )
    return float(degrees)


def read_number(what: str, value: object) -> int | float:
    """From JSON or from text; `what` names it in the ShapeError that NaN, infinity, words and minutes raise."""
    # An int stays one until its size is known: JSON may hold one no float can.
    if isinstance(value, int | float) and not isinstance(value, bool):
        if isinstance(value, int) or math.isfinite(value):
            return value
    elif isinstance(value, str) and _NUMBER.fullmatch(value):
        return read_number(what, float(value))
    decimal = _from_minutes(value) if isinstance(value, str) else None
    raise ShapeError(
        Flaw.NOT_A_NUMBER,
        f"{what} {quoted(value)} is not a number; write it in digits, with a decimal point"
        if decimal is None
        else f"{what} {quoted(value)} is in degrees and minutes; write one decimal number: {written(decimal)}",
    )


_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def _from_minutes(text: str) -> float | None:
    """What `43°40'12"N`, `43°40.2'` or `43 40 12` means, to six decimals; None for what is written otherwise.

    Said to whoever wrote it, never used: they may have meant something else.
    """
    if len(text) > LONGEST_NUMBER or not (found := _MINUTES.fullmatch(text)):
        return None
    before, sign, numbers, after = found.groups()
    degrees, *smaller = (part.replace(",", ".") for part in _PART.findall(numbers))
    marked = before or after or _MARK.search(numbers) or len(smaller) == 2
    whole = all(part.isdecimal() for part in (degrees, *smaller)[:-1])
    fits = float(degrees) <= 180 and len(smaller) <= 2 and all(float(part) < 60 for part in smaller)
    if not (marked and whole and fits):
        return None
    decimal = float(degrees) + sum(float(part) / of for part, of in zip(smaller, (60, 3600), strict=False))
    return round(-decimal if sign == "-" or (before + after).upper() in SOUTH_OR_WEST else decimal, 6)


_MINUTES = re.compile(r"\s*([NSEWO]?)\s*([+-]?)(\d[\d\s.,:°º'′’\"″”]*?)\s*([NSEWO]?)\s*", re.ASCII | re.IGNORECASE)
_PART = re.compile(r"\d+(?:[.,]\d+)?", re.ASCII)
_MARK = re.compile(r"[:°º'′’\"″”]")


def quoted(value: object) -> str:
    """What was written, for an error's sentence: at most 40 characters of it."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 40 else text[:39] + "…"


def written(number: float) -> str:
    """Every digit it takes to read the same number again, and no exponent, which CAP readers trip over."""
    return format(Decimal(repr(float(number))), "f")


def _ring(points: tuple[Point, ...], notation: Notation) -> tuple[Point, ...]:
    if not points:
        raise ShapeError(Flaw.EMPTY, "the polygon has no points; draw at least three and repeat the first at the end")
    first, last = points[0], points[-1]
    if (different := len(set(points))) < 3:
        raise ShapeError(
            Flaw.TOO_FEW_POINTS,
            f"the ring that starts at {notation.show(first)} has only {different} of the at least three "
            "different points an area takes; add the others",
            first,
        )
    if first != last:
        raise ShapeError(
            Flaw.RING_OPEN,
            f"the ring is not closed: first point {notation.show(first)}, last {notation.show(last)}; "
            "repeat the first point at the end",
            last,
        )
    return points


def checked_polygon(rings: Sequence[tuple[Point, ...]], notation: Notation) -> Polygon:
    """From its outer ring and its holes. Raises ShapeError."""
    outer, *holes = (_ring(ring, notation) for ring in rings)
    for ring in (outer, *holes):
        check_not_swapped(ring, notation)
    drawn = Polygon(outer, tuple(holes))
    _check_width(drawn)
    if drawn.defect:
        _refuse_defect(*drawn.defect, notation)
    return drawn


def checked_circle(center: Point, radius: int | float, notation: Notation) -> Circle:
    """From its centre and its radius in kilometres. Raises ShapeError."""
    if radius == 0:
        raise ShapeError(
            Flaw.RADIUS,
            f"the circle around {notation.show(center)} has the radius 0 and would reach nobody; "
            "draw a small one, such as 0.2 km, or name an area",
            center,
        )
    if not 0 < radius <= LARGEST_RADIUS_KM:
        raise ShapeError(
            Flaw.RADIUS,
            f"the radius of the circle around {notation.show(center)} is {quoted(radius)} km; "
            f"give kilometres, more than 0 and at most {LARGEST_RADIUS_KM:.0f}",
            center,
        )
    check_not_swapped((center,), notation)
    drawn = Circle(center, float(radius))
    _check_width(drawn)
    return drawn


def check_not_swapped(points: Sequence[Point], notation: Notation) -> None:
    """Refuse a line whose points, all or all that are not in Italy, were written the wrong way round."""
    swapped = [point for point in points if ITALY.hold(point.lon, point.lat)]
    if swapped and all(ITALY.hold(p.lat, p.lon) or ITALY.hold(p.lon, p.lat) for p in points):
        wrong = swapped[0]
        second = "longitude" if notation is Notation.CAP else "latitude"
        raise ShapeError(
            Flaw.SWAPPED,
            f"{notation.value} and {second} look exchanged: {notation.show(wrong)} lies outside Italy and "
            f"{notation.show(Point(wrong.lon, wrong.lat))} inside; write {notation.value} first",
            wrong,
        )


def _check_width(shape: Shape | Geofence) -> None:
    # A ring from 179 to -179 would hold the whole world but the strip that was meant.
    south, west, north, east = shape.bounds
    if east - west >= 180 or west < -180 or east > 180 or south < -90 or north > 90:
        raise ShapeError(
            Flaw.TOO_WIDE,
            f"the shape reaches from longitude {west:.2f} to {east:.2f} and from latitude {south:.2f} to "
            f"{north:.2f}; it must span less than 180° and cross neither a pole nor the 180th meridian: "
            "draw it in parts",
        )


def _refuse_defect(what: str, at: Point | None, notation: Notation) -> NoReturn:
    where = f" at {notation.show(at)}" if at else ""
    if "intersection" in what.lower():
        raise ShapeError(Flaw.SELF_CROSSING, f"the polygon crosses itself{where}; redraw it without the crossing", at)
    raise ShapeError(Flaw.MALFORMED, f"the polygon's rings do not fit together: {what.lower()}{where}; redraw it", at)


def checked_fence(shapes: Iterable[tuple[Role, Shape]], limits: Limits) -> Geofence:
    """From shapes already checked one by one. Stops at the first beyond the limits. Raises ShapeError.

    Of a geofence within another, or without one, something must be left.
    """
    kept: dict[Role, list[Shape]] = {role: [] for role in Role}
    vertices = 0
    for count, (role, shape) in enumerate(shapes, start=1):
        kept[role].append(shape)
        vertices += shape.vertices
        check_vertices(vertices, limits)
        if count > limits.shapes:
            raise ShapeError(
                Flaw.TOO_MANY_SHAPES,
                f"the geofence has more than {limits.shapes} shapes; join those that touch, or name areas",
            )
    drawn = Geofence(tuple(kept[Role.ADDS]))
    _check_width(drawn)
    within, without = (Geofence(tuple(kept[role])) if kept[role] else None for role in (Role.WITHIN, Role.WITHOUT))
    drawn = replace(drawn, within=within, without=without)
    drawn.check_not_empty()
    return drawn


def check_vertices(vertices: int, limits: Limits) -> None:
    """Asked early, before a list too long is turned into points. Raises ShapeError."""
    if vertices > limits.vertices:
        raise ShapeError(
            Flaw.TOO_MANY_VERTICES,
            f"the geofence has more than {limits.vertices} vertices; simplify its outline",
        )
