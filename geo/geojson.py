"""GeoJSON (RFC 7946): longitude first. A circle, which it lacks, is a Point with the property `radius_km`.

Of a FeatureCollection, the features with the property `role` narrow what the others draw: by `"role": "within"` only
what lies in them too is meant, by `"role": "without"` what lies in them is left out.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn, assert_never

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
)
from geo.shapes import Circle, Flaw, Geofence, Point, Polygon, Shape, ShapeError


def parse_geojson(source: str | bytes | Mapping[str, Any], limits: Limits = DRAWN) -> Geofence:
    """The union of all polygons and of all points with a `radius_km` in the object, as far as features with a role
    leave it. Raises ShapeError, also where they leave nothing.
    """
    if isinstance(source, Mapping):
        return checked_fence(_geojson_shapes(source, limits), limits)
    try:
        tree = json.loads(source)
    except (ValueError, RecursionError) as error:
        raise ShapeError(Flaw.MALFORMED, f"this is not JSON: {error}; send a GeoJSON object") from error
    return checked_fence(_geojson_shapes(tree, limits), limits)


def to_geojson(geofence: Geofence) -> dict[str, Any]:
    """One Polygon or MultiPolygon; with circles a FeatureCollection, a circle being a Point with `radius_km`, and
    so with what the fence lies within or leaves out, as features with a role.

    Polygons are tidied (`Polygon.tidy`), circles keep every digit.
    """
    polygons = [shape for shape in geofence.shapes if isinstance(shape, Polygon)]
    if len(polygons) < len(geofence.shapes) or not geofence.is_plain:
        parts = ((Role.ADDS, geofence), (Role.WITHIN, geofence.within), (Role.WITHOUT, geofence.without))
        features = [_feature(shape, role) for role, part in parts if part for shape in part.shapes]
        return {"type": "FeatureCollection", "features": features}
    if len(polygons) == 1:
        return _polygon_geometry(polygons[0])
    return {
        "type": "MultiPolygon",
        "coordinates": [_polygon_geometry(each)["coordinates"] for each in polygons],
    }


def _geojson_shapes(node: object, limits: Limits) -> Iterator[tuple[Role, Shape]]:
    match node:
        case {"type": "FeatureCollection", "features": list(features)}:
            for feature in features:
                role = _role(feature)
                yield from ((role, shape) for shape in _feature_shapes(feature, limits))
        case {"type": "Feature"}:
            role = _role(node)
            yield from ((role, shape) for shape in _feature_shapes(node, limits))
        case _:
            yield from ((Role.ADDS, shape) for shape in _geometry_shapes(node, limits))


def _role(feature: object) -> Role:
    match feature:
        case {"properties": {"role": ("within" | "without") as role}}:
            return Role(role)
        case {"properties": {"role": role}} if role is not None:
            raise ShapeError(
                Flaw.MALFORMED,
                f"nobody knows the role {quoted(role)} of a feature; write within or without, or leave it away",
            )
        case _:
            return Role.ADDS


def _feature_shapes(node: object, limits: Limits) -> Iterator[Shape]:
    match node:
        case {"type": "Feature", "geometry": {"type": "Point"} as point, "properties": {"radius_km": radius}}:
            yield checked_circle(
                _position(point.get("coordinates")), read_number("radius_km", radius), Notation.GEOJSON
            )
        case {"type": "Feature", "geometry": geometry}:
            yield from _geometry_shapes(geometry, limits)
        case _:
            _refuse_node(node, "a Feature with a geometry")


def _geometry_shapes(node: object, limits: Limits) -> Iterator[Shape]:
    match node:
        case {"type": "GeometryCollection", "geometries": list(geometries)}:
            for geometry in geometries:
                yield from _simple_shapes(geometry, limits)
        case _:
            yield from _simple_shapes(node, limits)


def _simple_shapes(node: object, limits: Limits) -> Iterator[Shape]:
    match node:
        case {"type": "Polygon", "coordinates": list(rings)}:
            yield _geojson_polygon(rings, limits)
        case {"type": "MultiPolygon", "coordinates": list(polygons)}:
            for rings in polygons:
                yield _geojson_polygon(rings, limits)
        case {"type": "Point"}:
            raise ShapeError(
                Flaw.MALFORMED,
                "a point alone has no extent; make it a Feature with a radius_km, or draw a polygon",
            )
        case _:
            _refuse_node(node, "a Polygon, a MultiPolygon or a collection of these")


def _geojson_polygon(rings: object, limits: Limits) -> Polygon:
    if not isinstance(rings, list) or not all(isinstance(ring, list) for ring in rings):
        _refuse_node(rings, "the list of a polygon's rings")
    if not rings:
        raise ShapeError(Flaw.EMPTY, "the polygon has no rings; draw at least the outer one")
    check_vertices(sum(map(len, rings)), limits)
    return checked_polygon([tuple(map(_position, ring)) for ring in rings], Notation.GEOJSON)


def _position(node: object) -> Point:
    if not isinstance(node, list) or len(node) not in (2, 3):  # a third number is the altitude
        _refuse_node(node, "a position, [longitude, latitude],")
    return Notation.GEOJSON.point(node[0], node[1])


def _refuse_node(node: object, wanted: str) -> NoReturn:
    found = f"of type {quoted(node.get('type'))}" if isinstance(node, Mapping) else quoted(node)
    raise ShapeError(Flaw.MALFORMED, f"GeoJSON {found} stands where {wanted} should; write that instead")


def _feature(shape: Shape, role: Role) -> dict[str, Any]:
    properties = {} if role is Role.ADDS else {"role": role.value}
    match shape:
        case Polygon():
            return {"type": "Feature", "geometry": _polygon_geometry(shape), "properties": properties}
        case Circle(center, radius_km):
            point = {"type": "Point", "coordinates": [center.lon, center.lat]}
            return {"type": "Feature", "geometry": point, "properties": {"radius_km": radius_km, **properties}}
        case _:
            assert_never(shape)


def _polygon_geometry(polygon: Polygon) -> dict[str, Any]:
    tidy = polygon.tidy()
    rings = [[[point.lon, point.lat] for point in ring] for ring in (tidy.outer, *tidy.holes)]
    return {"type": "Polygon", "coordinates": rings}
