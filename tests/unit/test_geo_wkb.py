"""Well-known binary as GDAL hands it over: what GEOS writes is read, and what GEOS refuses too."""

import contextlib
import struct

import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from geo.shapes import Geofence
from geo.wkb import WkbError, geojson_of
from tests.unit.geo_drawings import fences

TEXTS = [
    "POINT (10.5 43.6)",
    "LINESTRING (10.5 43.6, 10.6 43.7)",
    "POLYGON ((0 0, 4 0, 4 4, 0 4, 0 0), (1 1, 2 2, 2 1, 1 1))",
    "MULTIPOINT ((1 2), (3 4))",
    "MULTILINESTRING ((1 2, 3 4), (5 6, 7 8))",
    "MULTIPOLYGON (((0 0, 4 0, 4 4, 0 0)), ((5 5, 6 5, 6 6, 5 5)))",
    "GEOMETRYCOLLECTION (POINT (1 2), LINESTRING (1 2, 3 4))",
    "POLYGON Z ((0 0 8, 4 0 8, 4 4 8, 0 0 8))",
    "POLYGON EMPTY",
    "MULTIPOLYGON EMPTY",
]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("byte_order", [0, 1])
@pytest.mark.parametrize("flavor", ["iso", "extended"])
def test_what_geos_writes_is_read(text: str, byte_order: int, flavor: str) -> None:
    drawn = shapely.from_wkt(text)
    read = geojson_of(shapely.to_wkb(drawn, byte_order=byte_order, flavor=flavor))
    if drawn.is_empty:
        assert read["coordinates"] == []
    else:
        assert shapely.equals_identical(shapely.geometry.shape(read), drawn)


@given(fences)
def test_every_fence_comes_back(fence: Geofence) -> None:
    binary = shapely.to_wkb(fence.planar)
    assert shapely.equals_identical(shapely.geometry.shape(geojson_of(binary)), fence.planar)


def test_a_measure_is_left_out_and_a_height_is_not() -> None:
    measured = struct.pack("<BI3d", 1, 2001, 10.5, 43.6, 7.0)
    both = struct.pack("<BI4d", 1, 3001, 10.5, 43.6, 8.0, 7.0)
    assert geojson_of(measured) == {"type": "Point", "coordinates": [10.5, 43.6]}
    assert geojson_of(both) == {"type": "Point", "coordinates": [10.5, 43.6, 8.0]}


def test_an_open_ring_stays_open() -> None:
    ring = struct.pack("<BIII6d", 1, 3, 1, 3, 0, 0, 4, 0, 4, 4)
    assert geojson_of(ring) == {"type": "Polygon", "coordinates": [[[0, 0], [4, 0], [4, 4]]]}


@pytest.mark.parametrize("code", [8, 10, 12, 17, 4003, 0x8000000A, 0x40000003])
def test_a_curve_is_refused(code: int) -> None:
    with pytest.raises(WkbError, match="its geometry is a curve or a surface"):
        geojson_of(struct.pack("<BII", 1, code, 0))


@given(st.sampled_from(TEXTS[:8]), st.data())
def test_bytes_that_are_cut_off_are_refused(text: str, data: st.DataObject) -> None:
    whole = shapely.to_wkb(shapely.from_wkt(text), flavor="iso")
    with pytest.raises(WkbError):
        geojson_of(whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(binary: bytes) -> None:
    with contextlib.suppress(WkbError):
        geojson_of(binary)


def test_a_nest_without_an_end_is_refused() -> None:
    with pytest.raises(WkbError):
        geojson_of(struct.pack("<BII", 1, 7, 1) * 100_000)
