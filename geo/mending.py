"""Outlines as others draw them: made fit to be matched against, or given back as what they are. Bounded in time."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt
import shapely

from geo.shapes import Floats, Polygon, polygonal, polygons_of

MOST_PAIRS = 5_000
"""How many pairs of edges may cross for one set of rings to be repaired, guessed from the boxes that overlap. A coast
has three an edge without crossing; GEOS works on a scribble of four hundred edges for a minute."""
MOST_CHANGED = 0.01
"""The share of its area that a repair may add to a polygon or take from it: a bow-tie changes by far more."""
SAMPLED = 200
FINEST, COARSEST = 0.00005, 0.0128
"""Degrees, about 6 m and 1.4 km: how far an outline is moved at most when it is simplified."""
PIECE = 500


class Condition(Enum):
    """What one ring was found to be."""

    SOUND = "sound"
    REPAIRED = "it crossed itself, and is now the parts it enclosed"
    FLAT = "it encloses nothing"
    TANGLED = "it crosses itself too often to be repaired"


@dataclass(frozen=True, slots=True)
class Mended:
    """One ring, as the polygons it stands for: one when sound, several when repaired, none when flat or tangled."""

    polygons: tuple[Polygon, ...]
    condition: Condition


@dataclass(frozen=True, slots=True)
class Outlines:
    """All rings of a document, in their order.

    `vertices` is how many they have now; `moved` how far they were moved at most in simplifying them,
    in degrees, 0 when nothing had to be simplified.
    """

    rings: tuple[Mended, ...]
    moved: float
    vertices: int


def mend(rings: Sequence[Floats], most: int) -> Outlines:
    """Closed rings of (latitude, longitude) rows, simplified beyond `most` vertices in all, and repaired.

    When even the coarsest outlines have more, `vertices` says so: the caller decides.
    """
    drawn = _drawn(rings)
    now_sound = sound = shapely.is_valid(drawn).tolist()
    thin, moved = _simplified(rings, most)
    if moved:
        drawn = _drawn(thin)
        now_sound = shapely.is_valid(drawn).tolist()
    conditions, left = [], MOST_PAIRS
    for at, good in enumerate(now_sound):
        condition = Condition.SOUND if sound[at] else Condition.REPAIRED
        if not good:
            left -= _pairs(thin[at])
            drawn[at] = (
                polygonal(shapely.make_valid(drawn[at], method="structure")) if left >= 0 else shapely.MultiPolygon()
            )
            if shapely.is_empty(drawn[at]):
                condition = Condition.FLAT if left >= 0 else Condition.TANGLED
        conditions.append(condition)
    vertices = int(shapely.get_num_coordinates(drawn).sum())
    return Outlines(
        tuple(
            Mended(polygons_of(planar) if vertices <= most else (), condition)
            for planar, condition in zip(drawn, conditions, strict=True)
        ),
        moved,
        vertices,
    )


def untangled(drawn: Polygon) -> tuple[Polygon, ...]:
    """What a polygon encloses whose rings cross themselves or one another.

    None of it where its area would change by more than 1 %, for then it is not known what was meant; nor where the
    rings cross too often for a repair in time.
    """
    rings = [np.array([(point.lat, point.lon) for point in ring]) for ring in (drawn.outer, *drawn.holes)]
    if sum(map(_pairs, rings)) > MOST_PAIRS:
        return ()
    # "linework", the default, drops what is covered twice.
    sound = polygonal(shapely.make_valid(drawn.planar, method="structure", keep_collapsed=False))
    changed = abs(sound.area - drawn.planar.area)
    return polygons_of(sound) if changed <= MOST_CHANGED * drawn.planar.area else ()


def _drawn(rings: Sequence[Floats]) -> npt.NDArray[np.object_]:
    drawn = np.empty(len(rings), dtype=object)
    drawn[:] = [shapely.Polygon(ring[:, ::-1]) for ring in rings]
    return drawn


def _simplified(rings: Sequence[Floats], most: int) -> tuple[Sequence[Floats], float]:
    moved, thin = 0.0, rings
    while sum(map(len, thin)) > most and moved < COARSEST:
        moved = moved * 4 if moved else FINEST
        thin = [_thinned(ring, moved) for ring in rings]
    return thin, moved


def _thinned(ring: Floats, degrees: float) -> Floats:
    # In pieces: GEOS simplifies by recursion, and would go as deep as a hostile line is long.
    pieces = [ring[start : start + PIECE + 1] for start in range(0, len(ring) - 1, PIECE)]
    thinner = shapely.simplify(_lines(pieces), degrees, preserve_topology=False)
    kept = [shapely.get_coordinates(line)[:-1] for line in thinner]
    thin: Floats = np.concatenate([*kept, ring[-1:]])
    return thin if len(thin) >= 4 else ring


def _lines(pieces: list[Floats]) -> npt.NDArray[np.object_]:
    lines = np.empty(len(pieces), dtype=object)
    lines[:] = [shapely.LineString(piece) for piece in pieces]
    return lines


def _pairs(ring: Floats) -> int:
    """About how many pairs of its edges overlap without being neighbours, from two hundred or so of them."""
    edges = shapely.linestrings(np.stack([ring[:-1], ring[1:]], axis=1))
    sample = edges[:: max(1, len(edges) // SAMPLED)]
    touching = shapely.STRtree(edges).query(sample).shape[1] * len(edges) / len(sample)
    return max(0, int(touching) - 4 * len(edges))
