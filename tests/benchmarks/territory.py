"""Who stands where: a million people against one frazione, one person among Tuscany's comuni, how round a circle is."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from pyproj import Geod

from consumers.local.stack import ROOT
from geo.areas import Area, AreaKind, Gazetteer
from geo.boundaries import read_boundaries
from geo.matching import inside
from geo.shapes import Circle, Floats, Geofence, Point, Polygon
from tests.benchmarks.bench_town import Runs, Services, bar

REAL = ROOT.parent / "shared/data/geo"
COMUNE = "050004"
RUNS = 7
PEOPLE = 1_000_000
ASKED_TWICE = 10_000
"""Of the people, so many are asked about one by one as well: whoever answers wrongly may well be fast."""
JOINING = 5_000
CIRCLE = Circle(Point(43.68, 10.58), 10)
BISECTIONS = 30
"""From two kilometres to two thousandths of a millimetre."""


@dataclass(frozen=True, slots=True)
class Territory:
    """Tuscany's 273 comuni, and the frazioni of some."""

    comuni: tuple[Area, ...]
    frazioni: tuple[Area, ...]

    @property
    def comune(self) -> Area:
        return next(comune for comune in self.comuni if comune.code == COMUNE)

    @property
    def frazione(self) -> Area:
        """Of the comune's the one with the most vertices: real ones have a hundred."""
        own = [frazione for frazione in self.frazioni if frazione.parent == COMUNE]
        return max(own, key=lambda frazione: sum(shape.vertices for shape in frazione.fence.shapes))


def matching(services: Services) -> Runs:
    """`match.million_ms`: one frazione against people spread over its comune's box, so that many stand in its own.
    `place.one_us`: from a point to the comune and the frazione that hold it. `circle.error_m`: how far from the
    geodesic the edge of a circle of 10 km runs, at the worst of 360 bearings, other ones in each run.
    """
    territory = known()
    runs: Runs = {"match.million_ms": [], "place.one_us": [], "circle.error_m": []}
    with bar(services.console, "territory", RUNS) as shown:
        for run in range(RUNS):
            random = np.random.default_rng(run)
            runs["match.million_ms"].append(_million_ms(territory, random))
            runs["place.one_us"].append(_one_us(territory, random))
            runs["circle.error_m"].append(_error_m(CIRCLE, run / RUNS))
            shown(run + 1)
    return runs


@cache
def known() -> Territory:
    """The real one where its files are here, else one that was made up."""
    return _real() if REAL.exists() else _made_up()


def _million_ms(territory: Territory, random: np.random.Generator) -> float:
    lats, lons = _within(territory.comune, PEOPLE, random)
    fence = territory.frazione.fence
    started = time.process_time()
    found = inside(fence, lats, lons)
    took = time.process_time() - started
    some = zip(lats[:ASKED_TWICE].tolist(), lons[:ASKED_TWICE].tolist(), strict=True)
    if wrong := sum(fence.contains(Point(*at)) != told for at, told in zip(some, found.tolist(), strict=False)):
        raise RuntimeError(f"{wrong} of {ASKED_TWICE} people are told something else one by one than a million at once")
    return took * 1e3


def _one_us(territory: Territory, random: np.random.Generator) -> float:
    gazetteer = Gazetteer([*territory.comuni, *territory.frazioni])
    lats, lons = _within(territory.comune, JOINING, random)
    points = [Point(lat, lon) for lat, lon in zip(lats.tolist(), lons.tolist(), strict=True)]
    held = [gazetteer.of(point) for point in points]
    if not any(territory.comune in areas and territory.frazione in areas for areas in held):
        raise RuntimeError(f"nobody in the box of {territory.comune.name} is placed in it and in a frazione of it")
    started = time.process_time()
    for point in points:
        gazetteer.of(point)
    return (time.process_time() - started) / JOINING * 1e6


def _error_m(circle: Circle, turned: float) -> float:
    """Where `inside` turns from yes to no along each bearing, by bisection."""
    bearings: Floats = np.arange(360.0) + turned
    fence, radius = Geofence((circle,)), circle.radius_km * 1000
    near, far = np.full_like(bearings, radius - 1000), np.full_like(bearings, radius + 1000)
    here = np.full_like(bearings, circle.center.lon), np.full_like(bearings, circle.center.lat)
    for _ in range(BISECTIONS):
        middle = (near + far) / 2
        lons, lats, _ = Geod(ellps="WGS84").fwd(*here, bearings, middle)
        told = inside(fence, lats, lons)
        near, far = np.where(told, middle, near), np.where(told, far, middle)
    return float(np.abs(near - radius).max())


def _within(area: Area, count: int, random: np.random.Generator) -> tuple[Floats, Floats]:
    south, west, north, east = area.fence.bounds
    return random.uniform(south, north, count), random.uniform(west, east, count)


def _real() -> Territory:
    comuni = read_boundaries(REAL / "toscana_comuni.geojson").areas
    # The frazioni are those of the five comuni as they are drawn there, a little otherwise than by the region.
    five = read_boundaries(REAL / "cinque_comuni.geojson").areas
    return Territory(comuni, read_boundaries(REAL / "frazioni_demo_voronoi.geojson", known=five).areas)


def _made_up() -> Territory:
    """As many, in 21 rows of 13, each reaching over its neighbours' borders a little; in each a frazione."""

    def places() -> Iterator[tuple[str, Point]]:
        for number in range(273):
            row, column = divmod(number, 13)
            yield COMUNE if number == 0 else f"{number:06}", Point(42.5 + row * 0.1, 10 + column * 0.1)

    return Territory(
        tuple(Area(code, code, AreaKind.COMUNE, _rough(at, 0.06, 300)) for code, at in places()),
        tuple(Area(f"{code}.a", "a", AreaKind.FRAZIONE, _rough(at, 0.03, 100), code) for code, at in places()),
    )


def _rough(center: Point, degrees: float, vertices: int) -> Geofence:
    turns = [turn * 2 * math.pi / vertices for turn in range(vertices)]
    far = [degrees * (1 + 0.1 * math.sin(7 * turn)) for turn in turns]
    ring = [
        Point(center.lat + r * math.sin(turn), center.lon + r * math.cos(turn))
        for turn, r in zip(turns, far, strict=True)
    ]
    return Geofence((Polygon((*ring, ring[0])),))
