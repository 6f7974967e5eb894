"""In which coordinates a file is drawn: as it says, as the caller says, and never against the look of its numbers."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pyproj import Transformer

from geo.projections import DEGREES, USUAL, ProjectionError, agreed, look, projection
from geo.shapes import WGS84
from tests.unit.geo_drawings import FORNACETTE

UTM = (627_745.0, 4_836_591.0)
"""Fornacette in EPSG:32632."""


@pytest.mark.parametrize(
    "name", ["EPSG:32632", "urn:ogc:def:crs:EPSG::32632", "32632", "+proj=utm +zone=32 +datum=WGS84"]
)
def test_metres_are_taken_to_degrees_longitude_first(name: str) -> None:
    [lon], [lat] = projection(name).to_degrees([UTM[0]], [UTM[1]])
    assert WGS84.inv(lon, lat, FORNACETTE.lon, FORNACETTE.lat)[2] < 500


@pytest.mark.parametrize("name", ["EPSG:4326", "urn:ogc:def:crs:OGC:1.3:CRS84", "urn:ogc:def:crs:EPSG::4326", "WGS84"])
def test_degrees_stay_what_they_are(name: str) -> None:
    assert projection(name).is_degrees
    assert projection(name).name == DEGREES


@pytest.mark.parametrize("name", ["", "Gauss", "EPSG:999999", "EPSG:5774", 'LOCAL_CS["cantiere"]'])
def test_what_leads_nowhere_is_refused(name: str) -> None:
    with pytest.raises(ProjectionError, match="is no coordinate system with a way to WGS 84; name one"):
        projection(name)


def test_gauss_boaga_is_shifted_to_wgs84_and_not_only_read_as_if_it_were() -> None:
    """Roma 1940 and WGS 84 lie some 70 m apart in Toscana."""
    [x], [y] = (
        [value] for value in Transformer.from_crs("EPSG:4265", "EPSG:3003", always_xy=True).transform(10.6, 43.7)
    )
    [lon], [lat] = projection("EPSG:3003").to_degrees([x], [y])
    assert 30 < WGS84.inv(lon, lat, 10.6, 43.7)[2] < 150


@pytest.mark.parametrize(("said", "given"), [("EPSG:32632", None), (None, "EPSG:32632"), ("EPSG:32632", "EPSG:25832")])
def test_either_may_say_it_and_both_may_if_they_mean_the_same(said: str | None, given: str | None) -> None:
    assert agreed(said, given, UTM).name == "EPSG:32632"


def test_the_file_and_the_caller_may_not_disagree() -> None:
    with pytest.raises(ProjectionError, match="it says that it is drawn in EPSG:32632, and --crs says EPSG:32633"):
        agreed("EPSG:32632", "EPSG:32633", UTM)


def test_when_nobody_says_it_the_look_of_the_numbers_is_told() -> None:
    with pytest.raises(ProjectionError) as refusal:
        agreed(None, None, UTM)
    assert str(refusal.value) == (
        "it does not say its coordinate system, and its first numbers, 627745, 4836591, look like metres of UTM zone "
        "32 N, in which ISTAT draws all of Italy (EPSG:32632); if that is so, give --crs EPSG:32632"
    )


def test_an_easting_written_second_is_noticed() -> None:
    with pytest.raises(ProjectionError, match="4836591, 627745, lie outside Italy, and exchanged they lie inside"):
        agreed("EPSG:32632", None, UTM[::-1])


def test_degrees_said_to_be_metres_are_noticed() -> None:
    with pytest.raises(ProjectionError, match=r"10\.6, 43\.7, lie outside Italy, and look like degrees of WGS 84"):
        agreed("EPSG:3003", None, (10.6, 43.7))


def test_a_place_abroad_is_believed() -> None:
    assert agreed("EPSG:32632", None, (300_000, 5_900_000)).name == "EPSG:32632"


@settings(max_examples=30)
@given(st.floats(36.5, 46.5), st.floats(7.5, 18), st.sampled_from(sorted(USUAL)))
def test_the_look_of_numbers_is_recognised(lat: float, lon: float, name: str) -> None:
    assume(lon > 12 if name == "EPSG:3004" else lon < 13 if name == "EPSG:3003" else True)
    x, y = Transformer.from_crs(DEGREES, name, always_xy=True).transform(lon, lat)
    assert f"({name})" in look(x, y)


@pytest.mark.parametrize("sample", [(0.0, 0.0), (1e9, -1e9), (float("nan"), 0.0)])
def test_what_looks_like_nothing_is_called_so(sample: tuple[float, float]) -> None:
    assert "look like nothing usual in Italy" in look(*sample)
