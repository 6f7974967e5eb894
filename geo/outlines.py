"""Areas for the eye: simplified together, so that neighbours keep one border and no gap opens between them."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from geo.areas import Area, AreaKind
from geo.shapes import METRES_PER_DEGREE, polygonal

SHARED = frozenset({AreaKind.COMUNE, AreaKind.FRAZIONE, AreaKind.ZONA})
"""Kinds that divide the ground among them. A comune's own areas lie across each other, each by itself."""
DECIMALS = 5
"""A metre: finer than any screen."""


def outlines(areas: Sequence[Area], tolerance_m: float) -> list[dict[str, Any]]:
    """A GeoJSON Polygon or MultiPolygon for each area, in their order, moved by about `tolerance_m` metres at most.

    For maps only: nobody is matched against these.
    """
    shown: dict[int, shapely.Geometry] = {}
    of_kind = sorted(range(len(areas)), key=lambda at: areas[at].kind.value)
    for kind, group in groupby(of_kind, key=lambda at: areas[at].kind):
        members = list(group)
        exact = np.array([areas[at].fence.planar for at in members], dtype=object)
        shown |= zip(members, _simplified(exact, tolerance_m / METRES_PER_DEGREE, shared=kind in SHARED), strict=True)
    return [_geometry(shown[at]) for at in range(len(areas))]


def _simplified(exact: npt.NDArray[np.object_], degrees: float, *, shared: bool) -> Sequence[shapely.Geometry]:
    if degrees <= 0:
        return list(exact)
    thin = shapely.coverage_simplify(exact, degrees) if shared else shapely.simplify(exact, degrees)
    # Where two overlap, or one is smaller than the tolerance, simplifying may leave nothing: then it stays as it is.
    sound = shapely.is_valid(thin) & ~shapely.is_empty(thin)
    return [simple if good else whole for simple, whole, good in zip(thin, exact, sound, strict=True)]


def _geometry(planar: shapely.Geometry) -> dict[str, Any]:
    rounded = shapely.transform(planar, lambda xy: xy.round(DECIMALS))
    parts = polygonal(rounded if shapely.is_valid(rounded) else shapely.make_valid(rounded, method="structure"))
    turned = shapely.orient_polygons(parts if not parts.is_empty else polygonal(planar))
    rings = [
        [shapely.get_coordinates(ring).tolist() for ring in (part.exterior, *part.interiors)]
        for part in shapely.get_parts(turned)
    ]
    if len(rings) == 1:
        return {"type": "Polygon", "coordinates": rings[0]}
    return {"type": "MultiPolygon", "coordinates": rings}
