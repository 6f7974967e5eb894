"""Well-known binary (ISO 13249-3) to GeoJSON geometries, nothing corrected: an open ring stays open."""

import struct
from typing import Any

import numpy as np

SIMPLE = {1: "Point", 2: "LineString", 3: "Polygon"}
COLLECTIONS = {4: "MultiPoint", 5: "MultiLineString", 6: "MultiPolygon", 7: "GeometryCollection"}
NUMBERS = {0: 2, 1: 3, 2: 3, 3: 4}
"""Of one position, by the thousands of the type: plain, with a height (Z), with a measure (M), with both."""
HEIGHTS = (1, 3)
OLD_HEIGHT = 0x8000_0000
"""How GDAL still writes a height, from before there was a standard for it."""


class WkbError(ValueError):
    """The bytes are cut off, or hold what GeoJSON has no word for."""


def geojson_of(binary: bytes) -> dict[str, Any]:
    """Heights are kept, measures are left out. Raises WkbError."""
    try:
        geometry, _ = _geometry(binary, 0)
    except (struct.error, ValueError, RecursionError) as error:
        raise error if isinstance(error, WkbError) else WkbError("its geometry is cut off; export it again") from error
    return geometry


def _geometry(binary: bytes, at: int) -> tuple[dict[str, Any], int]:
    order = "<" if binary[at : at + 1] == b"\x01" else ">"
    (code,) = struct.unpack_from(f"{order}I", binary, at + 1)
    thousands, kind = divmod(code & ~OLD_HEIGHT, 1000)
    if code & OLD_HEIGHT and thousands == 0:
        thousands = 1
    if kind not in SIMPLE | COLLECTIONS or thousands not in NUMBERS:
        raise WkbError(f"its geometry is a curve or a surface (type {code}); export it with straight edges")
    at += 5
    if kind in COLLECTIONS:
        (count,) = struct.unpack_from(f"{order}I", binary, at)
        at += 4
        parts = []
        for _ in range(count):
            part, at = _geometry(binary, at)
            parts.append(part)
        if COLLECTIONS[kind] == "GeometryCollection":
            return {"type": "GeometryCollection", "geometries": parts}, at
        return {"type": COLLECTIONS[kind], "coordinates": [part["coordinates"] for part in parts]}, at
    numbers, kept = NUMBERS[thousands], 3 if thousands in HEIGHTS else 2

    def positions(at: int, count: int) -> tuple[list[list[float]], int]:
        row = np.frombuffer(binary, f"{order}f8", count * numbers, at).reshape(count, numbers)
        return row[:, :kept].tolist(), at + row.nbytes

    def line(at: int) -> tuple[list[list[float]], int]:
        (count,) = struct.unpack_from(f"{order}I", binary, at)
        return positions(at + 4, count)

    coordinates: list[Any]
    match SIMPLE[kind]:
        case "Point":
            [coordinates], at = positions(at, 1)
        case "LineString":
            coordinates, at = line(at)
        case _:
            (rings,) = struct.unpack_from(f"{order}I", binary, at)
            at += 4
            coordinates = []
            for _ in range(rings):
                ring, at = line(at)
                coordinates.append(ring)
    return {"type": SIMPLE[kind], "coordinates": coordinates}, at
