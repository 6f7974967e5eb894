"""The polygons and circles of one message, read all at once: each outline once, however many infos repeat it."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from alerting.cap_xml.rules import Report, Rule
from alerting.cap_xml.structure import Leaf, quoted
from geo.drawing import DRAWN, ITALY, LARGEST_RADIUS_KM
from geo.mending import Condition, mend
from geo.shapes import Circle, Floats, Point, Polygon

MOST_VERTICES = DRAWN.vertices
HARD_LIMIT = 60_000

_NUMERIC = re.compile(r"[0-9.,+\-eE \t\r\n]*")
_NUMBER = r"[+-]?(?:[0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})(?:[eE][+-]?[0-9]{1,3})?"
_PAIR = re.compile(rf"({_NUMBER}),({_NUMBER})")
_CIRCLE = re.compile(rf"[ \t\r\n]*({_NUMBER}),({_NUMBER})[ \t\r\n]+({_NUMBER})[ \t\r\n]*")

Complaint = tuple[Rule, str]


@dataclass(slots=True)
class Drawn:
    """What one polygon text came to."""

    polygons: tuple[Polygon, ...]
    complaints: list[Complaint]


class Places:
    """The polygons of a message by their texts."""

    def __init__(self, texts: Iterable[str], report: Report) -> None:
        self._report = report
        self._drawn: dict[str, Drawn] = {}
        rings: dict[str, Floats] = {}
        vertices = 0
        for text in dict.fromkeys(texts):
            drawn = self._drawn[text] = Drawn((), [])
            # Counted before it is read: a comma is the least a vertex takes.
            vertices += text.count(",")
            if vertices <= HARD_LIMIT and (ring := _ring(text, drawn.complaints)) is not None:
                rings[text] = ring
        if vertices > HARD_LIMIT:
            report.add(Rule.VERTICES_TOO_MANY, None, f"the message has {vertices:,} vertices; simplify its outlines")
        elif rings:
            self._mend(rings)

    def polygon(self, leaf: Leaf) -> tuple[Polygon, ...]:
        """The polygons that one text stands for, its defects told."""
        drawn = self._drawn[leaf.text]
        for rule, sentence in drawn.complaints:
            self._report.add(rule, leaf.line, sentence)
        return drawn.polygons

    def _mend(self, rings: dict[str, Floats]) -> None:
        outlines = mend(list(rings.values()), MOST_VERTICES)
        if outlines.vertices > MOST_VERTICES:
            self._report.add(
                Rule.VERTICES_TOO_MANY,
                None,
                f"even simplified, the outlines have {outlines.vertices:,} vertices; draw them with at most "
                f"{MOST_VERTICES:,}",
            )
        elif outlines.moved:
            self._report.add(
                Rule.VERTICES_MANY,
                None,
                f"the outlines have {sum(map(len, rings.values())):,} vertices; simplified to {outlines.vertices:,}, "
                f"they moved by up to {outlines.moved * 111_320:,.0f} m",
            )
        for (text, ring), mended in zip(rings.items(), outlines.rings, strict=True):
            drawn = self._drawn[text]
            drawn.polygons = mended.polygons
            where = f"the polygon that starts at {ring[0][0]:g},{ring[0][1]:g}"
            match mended.condition:
                case Condition.REPAIRED:
                    drawn.complaints.append(
                        (
                            Rule.POLYGON_CROSSING,
                            f"{where} crosses itself; it counts as the parts it encloses, redraw it",
                        )
                    )
                case Condition.FLAT:
                    drawn.complaints.append((Rule.POLYGON_FLAT, f"{where} encloses nothing and is left out; redraw it"))
                case Condition.TANGLED:
                    drawn.complaints.append(
                        (Rule.POLYGON_TANGLED, f"{where} crosses itself too often to be repaired; redraw it")
                    )
                case Condition.SOUND:
                    pass


def _ring(text: str, complaints: list[Complaint]) -> Floats | None:
    """The pairs of a polygon, if they can be an outline."""

    def complain(rule: Rule, sentence: str) -> None:
        complaints.append((rule, sentence))

    pairs = text.split()
    if not pairs:
        complain(Rule.POLYGON_EMPTY, "the polygon is empty; leave the element out")
        return None
    if _NUMERIC.fullmatch(text) is None or (ring := _numbers(pairs, text)) is None:
        complain(Rule.POLYGON_MALFORMED, _what_is_wrong(pairs))
        return None
    lats, lons = ring[:, 0], ring[:, 1]
    south, north, west, east = lats.min(), lats.max(), lons.min(), lons.max()
    if len(ring) < 4:
        complain(Rule.POLYGON_FEW, f"the polygon has {len(ring)} pairs; an area takes four, the first again at the end")
        return None
    if (ring[0] != ring[-1]).any():
        complain(
            Rule.POLYGON_OPEN,
            f"the polygon begins at {quoted(pairs[0])} and ends at {quoted(pairs[-1])}; end it with the first pair",
        )
        return None
    if south < -90 or north > 90:
        wrong = south if south < -90 else north
        complain(Rule.LATITUDE_RANGE, f"latitude {wrong:g} is not between -90 and 90; write latitude first, in degrees")
        return None
    if west < -180 or east > 180:
        wrong = west if west < -180 else east
        complain(Rule.LONGITUDE_RANGE, f"longitude {wrong:g} is not between -180 and 180; the polygon is left out")
        return None
    if east - west >= 180:
        complain(
            Rule.POLYGON_WIDE,
            f"the polygon reaches from longitude {west:g} to {east:g} and is left out; draw it in parts that do not "
            "cross the 180th meridian",
        )
        return None
    if ITALY.hold(west, south) and ITALY.hold(east, north):
        complain(
            Rule.COORDINATES_EXCHANGED, f"{quoted(pairs[0])} would lie in Italy the other way round; check the order"
        )
    return ring


def _numbers(pairs: list[str], text: str) -> Floats | None:
    """Rows of latitude and longitude; None unless every pair is two numbers: _what_is_wrong then says which is not."""
    if {pair.count(",") for pair in pairs} != {1}:
        return None
    numbers = text.replace(",", " ").split()
    if len(numbers) != 2 * len(pairs):
        return None
    try:
        return np.fromiter(map(float, numbers), float, len(numbers)).reshape(-1, 2)
    except ValueError:
        return None


def _what_is_wrong(pairs: list[str]) -> str:
    wrong = next((pair for pair in pairs if not _PAIR.fullmatch(pair)), "\u00a0")
    advice = "write lat,lon with decimal points, and spaces between the pairs"
    if wrong.count(",") == 3:
        advice = "write decimal points, not commas"
    elif ";" in wrong:
        advice = "write spaces between the pairs, not semicolons"
    elif wrong == "\u00a0":
        return f"the pairs of the polygon are parted by something that is no plain space; {advice}"
    return f"{quoted(wrong)} is no pair of coordinates; {advice}"


def read_circle(leaf: Leaf, report: Report) -> Circle | None:
    """The circle of one text, if people can be alerted by it; its defects told."""
    found = _CIRCLE.fullmatch(leaf.text)
    if not found:
        what = f"{quoted(leaf.text)} is no circle" if leaf.text.strip() else "the circle is empty"
        report.add(Rule.CIRCLE_MALFORMED, leaf.line, f"{what}; write lat,lon, a space and the radius in km")
        return None
    lat, lon, radius = map(float, found.groups())
    if not -90 <= lat <= 90:
        report.add(Rule.LATITUDE_RANGE, leaf.line, f"latitude {lat:g} is not between -90 and 90; write latitude first")
        return None
    if radius < 0:
        report.add(Rule.CIRCLE_RADIUS, leaf.line, f"a radius of {radius:g} km is less than nothing; write it in km")
        return None
    if not -180 <= lon <= 180:
        report.add(
            Rule.LONGITUDE_RANGE, leaf.line, f"longitude {lon:g} is not between -180 and 180; the circle is left out"
        )
        return None
    if radius == 0:
        report.add(
            Rule.CIRCLE_ZERO,
            leaf.line,
            f"the circle around {found[1]},{found[2]} has radius 0 and is left out; widen it",
        )
        return None
    circle = Circle(Point(lat, lon), radius)
    if radius > LARGEST_RADIUS_KM or not _is_on_the_map(circle):
        report.add(
            Rule.CIRCLE_LARGE,
            leaf.line,
            f"the circle of {radius:g} km around {found[1]},{found[2]} is left out; give at most "
            f"{LARGEST_RADIUS_KM:.0f} km, away from the poles and the 180th meridian",
        )
        return None
    if ITALY.hold(lon, lat):
        report.add(
            Rule.COORDINATES_EXCHANGED,
            leaf.line,
            f"{found[1]},{found[2]} would lie in Italy the other way round; check the order",
        )
    return circle


def _is_on_the_map(circle: Circle) -> bool:
    south, west, north, east = circle.bounds
    return bool(south >= -90 and north <= 90 and west >= -180 and east <= 180)
