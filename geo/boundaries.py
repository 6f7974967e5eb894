"""From a file of boundaries to areas: every feature checked, all of them taken or none."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geo.areas import STRAY_SHARE, Area, AreaKind, Gazetteer, UnknownArea
from geo.drawing import IMPORTED
from geo.geojson import parse_geojson
from geo.names import plain
from geo.shapes import Circle, Geofence, ShapeError, km2_outside

FINDINGS_TOLD = 10


@dataclass(frozen=True, slots=True)
class Layer:
    """What the features of one file are, and which properties say so.

    Without a `code` property codes are made of parent and name: `050004-fornacette`. A point becomes a circle
    of `point_radius_km`, and is refused where that is None.
    """

    kind: AreaKind
    name: str
    code: str | None = None
    parent: str | None = None
    point_radius_km: float | None = None
    version: int = 1
    source: str = ""
    licence: str = ""
    demonstration: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with one feature. `feature` counts from 1."""

    feature: int
    name: str
    sentence: str

    def __str__(self) -> str:
        return f"feature {self.feature} ({self.name}): {self.sentence}"


class BoundariesRefused(ValueError):
    """The file has faults, and nothing of it was taken. Carries every finding."""

    def __init__(self, path: Path, findings: tuple[Finding, ...]) -> None:
        told = "".join(f"\n  {finding}" for finding in findings[:FINDINGS_TOLD])
        more = len(findings) - FINDINGS_TOLD
        rest = f"\n  and {more} more" if more > 0 else ""
        super().__init__(f"nothing was imported from {path.name}; correct the file:{told}{rest}")
        self.path = path
        self.findings = findings


class _Wrong(ValueError):
    """One feature cannot be taken."""


def read_boundaries(path: Path, layer: Layer, parents: Iterable[Area] = ()) -> tuple[Area, ...]:
    """The areas of a GeoJSON FeatureCollection, in its order. A layer's parents must be among `parents`.

    Raises BoundariesRefused, and OSError if the file cannot be read.
    """
    known = Gazetteer(parents)
    areas: dict[str, Area] = {}
    findings: list[Finding] = []
    for number, feature in enumerate(_features(path), start=1):
        name = "unnamed"
        try:
            properties = _properties(feature)
            name = _text(properties, layer.name)
            area = _area(feature, properties, layer)
            if area.code in areas:
                raise _Wrong(f"the code {area.code} is already that of {areas[area.code].name}; give it its own")
            if area.parent is not None:
                _check_within(area, known.by_code(area.parent))
            areas[area.code] = area
        except (_Wrong, ShapeError, UnknownArea) as error:
            findings.append(Finding(number, name, str(error)))
    if findings:
        raise BoundariesRefused(path, tuple(findings))
    return tuple(areas.values())


def _features(path: Path) -> Iterator[Any]:
    try:
        tree = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BoundariesRefused(path, (Finding(0, "the file", f"it is not JSON: {error}"),)) from error
    match tree:
        case {"type": "FeatureCollection", "features": [_, *_] as features}:
            return iter(features)
        case _:
            wanted = "it is not a GeoJSON FeatureCollection with at least one feature"
            raise BoundariesRefused(path, (Finding(0, "the file", wanted),))


def _properties(feature: object) -> dict[str, Any]:
    match feature:
        case {"type": "Feature", "properties": dict(properties), "geometry": dict()}:
            return properties
        case _:
            raise _Wrong("it is not a Feature with properties and a geometry")


def _text(properties: dict[str, Any], key: str) -> str:
    match properties.get(key):
        case str(text) if text.strip():
            return text.strip()
        case int(number):
            raise _Wrong(f"{key} is the number {number}: zeros before it may be lost; write it as text")
        case _:
            raise _Wrong(f"{key} is missing or empty")


def _area(feature: dict[str, Any], properties: dict[str, Any], layer: Layer) -> Area:
    name = _text(properties, layer.name)
    parent = _text(properties, layer.parent) if layer.parent else None
    made = "-".join(filter(None, (parent, plain(name))))
    return Area(
        code=_text(properties, layer.code) if layer.code else made,
        name=name,
        kind=layer.kind,
        fence=_geofence(feature["geometry"], layer),
        parent=parent,
        version=layer.version,
        source=layer.source,
        licence=layer.licence,
        demonstration=layer.demonstration,
    )


def _geofence(geometry: dict[str, Any], layer: Layer) -> Geofence:
    if geometry.get("type") != "Point":
        return parse_geojson(geometry, IMPORTED)
    if layer.point_radius_km is None:
        raise _Wrong("it is a point, and nothing says how far around it the place reaches; give a radius")
    properties = {"radius_km": layer.point_radius_km}
    return parse_geojson({"type": "Feature", "geometry": geometry, "properties": properties}, IMPORTED)


def _check_within(area: Area, parent: Area) -> None:
    """A point must lie in its parent; of an area, all but a sliver must."""
    match area.fence.shapes:
        case [Circle(center)]:
            if not parent.fence.contains(center):
                raise _Wrong(
                    f"{center.lat},{center.lon} lies outside its parent {parent.name} ({parent.code}); "
                    "correct the position or the parent"
                )
        case _:
            stray = km2_outside(area.fence, parent.fence)
            if stray > STRAY_SHARE * area.fence.area_km2:
                raise _Wrong(
                    f"{stray:.2f} of its {area.fence.area_km2:.2f} km² lie outside its parent {parent.name} "
                    f"({parent.code}); correct the boundary or the parent"
                )
