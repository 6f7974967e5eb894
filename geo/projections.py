"""In which coordinates a file is drawn, and the way from there to degrees of WGS 84."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError, ProjError

from geo.drawing import ITALY
from geo.shapes import WGS84, Floats

DEGREES = "EPSG:4326"
"""WGS 84, in this library longitude first whatever the registry says: what GeoJSON holds unless it says otherwise."""
AGREE_M = 1.0
"""Two names mean the same coordinates if they put a place within a metre of each other."""

USUAL = {
    DEGREES: "degrees of WGS 84",
    "EPSG:32632": "metres of UTM zone 32 N, in which ISTAT draws all of Italy",
    "EPSG:3003": "metres of Gauss-Boaga west, in which Toscana draws",
    "EPSG:3004": "metres of Gauss-Boaga east",
    "EPSG:3857": "metres of web maps",
    "EPSG:3035": "metres of the European grid",
}
"""What Italian files are drawn in, the likeliest first (names of the EPSG registry, v11.022; ISTAT's and
Regione Toscana's descriptions of what they publish)."""


class ProjectionError(ValueError):
    """It is not known, or not believable, what the numbers of a file stand for."""


@dataclass(frozen=True)
class Projection:
    """What the numbers of a file stand for. `name` as in the registry: EPSG:32632."""

    name: str
    _transformer: Transformer | None

    @property
    def is_degrees(self) -> bool:
        """Whether the numbers are longitudes and latitudes of WGS 84 already."""
        return self._transformer is None

    def to_degrees(self, xs: Sequence[float], ys: Sequence[float]) -> tuple[Floats, Floats]:
        """Longitudes and latitudes; infinite where the projection does not reach."""
        if self._transformer is None:
            return np.asarray(xs, dtype=np.float64), np.asarray(ys, dtype=np.float64)
        lons, lats = self._transformer.transform(np.asarray(xs, dtype=np.float64), np.asarray(ys, dtype=np.float64))
        return lons, lats


def projection(said: str) -> Projection:
    """From a name (EPSG:3003, urn:ogc:def:crs:EPSG::3003) or a definition (WKT). Raises ProjectionError."""
    try:
        crs = CRS.from_user_input(said)
        name = f"EPSG:{crs.to_epsg()}" if crs.to_epsg() else crs.name
        if name == DEGREES or "CRS84" in said:
            return Projection(DEGREES, None)
        # Never a guess: without a way that is known, a place may lie some hundred metres off.
        transformer = Transformer.from_crs(crs, DEGREES, always_xy=True, allow_ballpark=False)
    except (CRSError, ProjError) as error:
        raise ProjectionError(
            f"{said[:60]!r} is no coordinate system with a way to WGS 84; name one, as --crs EPSG:32632"
        ) from error
    return Projection(name, transformer)


def agreed(said: str | None, given: str | None, sample: tuple[float, float]) -> Projection:
    """What the numbers stand for, by what the file says and what the caller gives. `sample` is x, y of one place.

    Raises ProjectionError where neither says anything, where they disagree, and where what they say puts a place
    outside Italy that lies inside with x and y exchanged, or by another projection.
    """
    if said is None and given is None:
        raise ProjectionError(f"it does not say its coordinate system, and {look(*sample)}")
    chosen = projection(said or given or DEGREES)
    if said is not None and given is not None and _metres_apart(chosen, projection(given), sample) > AGREE_M:
        raise ProjectionError(f"it says that it is drawn in {chosen.name}, and --crs says {given}; leave out --crs")
    if not chosen.is_degrees and not _is_italian(chosen, sample):
        outside = f"in {chosen.name} its first numbers, {_written(sample)}, lie outside Italy"
        if _is_italian(chosen, sample[::-1]):
            raise ProjectionError(f"{outside}, and exchanged they lie inside; write x, the easting, first")
        if words := next((words for name, words in USUAL.items() if _is_italian(projection(name), sample)), None):
            raise ProjectionError(f"{outside}, and look like {words}; correct what the file says, or --crs")
    return chosen


def look(x: float, y: float) -> str:
    """A sentence about what one place of a file looks like, and what to do about it."""
    fitting = [name for name in USUAL if _is_italian(projection(name), (x, y))]
    if not fitting:
        return f"its first numbers, {_written((x, y))}, look like nothing usual in Italy; give --crs with what they are"
    words = " or ".join(f"{USUAL[name]} ({name})" for name in fitting)
    return f"its first numbers, {_written((x, y))}, look like {words}; if that is so, give --crs {fitting[0]}"


def _is_italian(chosen: Projection, sample: tuple[float, float]) -> bool:
    [lon], [lat] = chosen.to_degrees([sample[0]], [sample[1]])
    return bool(ITALY.hold(lat, lon))


def _metres_apart(one: Projection, other: Projection, sample: tuple[float, float]) -> float:
    (lon,), (lat,) = one.to_degrees([sample[0]], [sample[1]])
    (other_lon,), (other_lat,) = other.to_degrees([sample[0]], [sample[1]])
    if not np.isfinite([lon, lat, other_lon, other_lat]).all():
        return math.inf
    return float(WGS84.inv(lon, lat, other_lon, other_lat)[2])


def _written(sample: tuple[float, float]) -> str:
    return ", ".join(f"{number:.10g}" for number in sample)
