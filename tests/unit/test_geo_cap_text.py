"""CAP's polygon and circle texts, read and written: no digit is lost, and every flaw is a sentence."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo.cap_text import parse_cap, parse_cap_circle, parse_cap_polygon, to_cap
from geo.drawing import IMPORTED, Notation
from geo.matching import inside
from geo.shapes import Circle, Flaw, Geofence, Point, Polygon, ShapeError
from tests.unit.geo_drawings import FORNACETTE, circles, compounds, fences, polygons, rectangle, scattered

FORNACETTE_TEXT = "43.66,10.58 43.67,10.60 43.65,10.61 43.66,10.58"


def test_latitude_comes_first_and_kilometres_last() -> None:
    ring = (Point(43.66, 10.58), Point(43.67, 10.60), Point(43.65, 10.61), Point(43.66, 10.58))
    assert parse_cap_polygon(FORNACETTE_TEXT) == Polygon(ring)
    assert parse_cap_circle("43.6702,10.5851 2.5") == Circle(FORNACETTE, 2.5)


def test_line_breaks_and_tabs_part_points_as_spaces_do() -> None:
    assert parse_cap_polygon("\n " + FORNACETTE_TEXT.replace(" ", "\t\n ")) == parse_cap_polygon(FORNACETTE_TEXT)


@given(st.lists(polygons().map(lambda drawn: Polygon(drawn.outer)) | circles, min_size=1, max_size=5))
def test_a_fence_without_holes_comes_back_to_the_last_digit(shapes: list[Polygon | Circle]) -> None:
    ordered = sorted(shapes, key=lambda shape: isinstance(shape, Circle))
    text = to_cap(Geofence(tuple(ordered)))
    assert parse_cap(*text) == Geofence(tuple(ordered))
    assert to_cap(parse_cap(*text)) == text


@given(fences)
def test_a_fence_with_holes_comes_back_with_the_same_people_inside(fence: Geofence) -> None:
    lats, lons = scattered()
    assert (inside(parse_cap(*to_cap(fence)), lats, lons) == inside(fence, lats, lons)).all()


@given(compounds.filter(lambda fence: not fence.is_plain and not fence.is_empty))
def test_what_a_fence_lies_within_and_leaves_out_is_cut_not_lost(fence: Geofence) -> None:
    text = to_cap(fence)
    assert text.circles == ()
    lats, lons = scattered()
    assert (inside(parse_cap(*text, IMPORTED), lats, lons) == inside(fence.flattened(), lats, lons)).all()


def test_a_fence_of_which_nothing_is_left_is_not_written() -> None:
    fornacette = Geofence((Circle(FORNACETTE, 1),))
    with pytest.raises(ShapeError, match="would reach nobody"):
        to_cap(Geofence(fornacette.shapes, without=fornacette))


def test_no_exponent_is_ever_written() -> None:
    equator = Geofence((Circle(Point(1e-7, -1e-5), 1e-3), Polygon(rectangle(1e-9, 0.0, 1.0, 1.0))))
    assert "e" not in "".join((*to_cap(equator).polygons, *to_cap(equator).circles))
    assert to_cap(equator).circles == ("0.0000001,-0.00001 0.001",)


FLAWED = [
    ("43.66,10.58 43.67,10.60 43.65,10.61", Flaw.RING_OPEN),
    ("43.66,10.58 43.67,10.60 43.66,10.58", Flaw.TOO_FEW_POINTS),
    ("43.66,10.58 43.67,10.60 43.67,10.60 43.66,10.58", Flaw.TOO_FEW_POINTS),
    ("43.66,10.58", Flaw.TOO_FEW_POINTS),
    ("43.66,10.58 43.68,10.60 43.68,10.58 43.66,10.60 43.66,10.58", Flaw.SELF_CROSSING),
    ("43.66,10.58 43.67,10.58 43.68,10.58 43.66,10.58", Flaw.SELF_CROSSING),
    ("10.58,43.66 10.60,43.67 10.61,43.65 10.58,43.66", Flaw.SWAPPED),
    ("43.66,10.58 10.60,43.67 43.65,10.61 43.66,10.58", Flaw.SWAPPED),
    ("95.0,10.58 43.67,10.60 43.65,10.61 95.0,10.58", Flaw.OUT_OF_RANGE),
    ("4835123,627145 4835130,627200 4835190,627150 4835123,627145", Flaw.OUT_OF_RANGE),
    ("nan,10.58 43.67,10.60 43.65,10.61 nan,10.58", Flaw.NOT_A_NUMBER),
    ("43.66,inf 43.67,10.60 43.65,10.61 43.66,inf", Flaw.NOT_A_NUMBER),
    ("43.66,1e999 43.67,10.60 43.65,10.61 43.66,1e999", Flaw.NOT_A_NUMBER),
    ("43.66,Arno 43.67,10.60 43.65,10.61 43.66,Arno", Flaw.NOT_A_NUMBER),
    ("43.66,1_0 43.67,10.60 43.65,10.61 43.66,1_0", Flaw.NOT_A_NUMBER),
    ("٤٣,10.58 43.67,10.60 43.65,10.61 ٤٣,10.58", Flaw.NOT_A_NUMBER),
    (" ".join(["43.66,10.58"] * 10_001), Flaw.TOO_MANY_VERTICES),
    ("43,-100 44,-100 44,100 43,100 43,-100", Flaw.TOO_WIDE),
    ("-17,179 -18,179 -18,-179 -17,-179 -17,179", Flaw.TOO_WIDE),
    ("", Flaw.EMPTY),
    ("43.66 10.58 43.67 10.60", Flaw.MALFORMED),
    ("43,66,10,58 43,67,10,60", Flaw.MALFORMED),
]


@pytest.mark.parametrize(("text", "flaw"), FLAWED)
def test_every_flaw_of_a_polygon_has_its_name_and_a_sentence(text: str, flaw: Flaw) -> None:
    with pytest.raises(ShapeError) as refusal:
        parse_cap_polygon(text)
    assert refusal.value.flaw is flaw
    assert ";" in str(refusal.value), "it says what to do"
    assert len(str(refusal.value)) < 250


@pytest.mark.parametrize(
    ("text", "flaw"),
    [
        ("43.66,10.58 0", Flaw.RADIUS),
        ("43.66,10.58 -2", Flaw.RADIUS),
        ("43.66,10.58 500.001", Flaw.RADIUS),
        ("43.66,10.58 nan", Flaw.NOT_A_NUMBER),
        ("43.66,10.58 km", Flaw.NOT_A_NUMBER),
        ("10.58,43.66 2", Flaw.SWAPPED),
        ("91,10.58 2", Flaw.OUT_OF_RANGE),
        ("89.9,10.58 200", Flaw.TOO_WIDE),
        ("-17,179.9 50", Flaw.TOO_WIDE),
        ("43.66,10.58", Flaw.MALFORMED),
        ("43.66 10.58 2", Flaw.MALFORMED),
        ("", Flaw.EMPTY),
    ],
)
def test_every_flaw_of_a_circle_has_its_name_and_a_sentence(text: str, flaw: Flaw) -> None:
    with pytest.raises(ShapeError) as refusal:
        parse_cap_circle(text)
    assert refusal.value.flaw is flaw
    assert ";" in str(refusal.value)


def refusal_of(text: str) -> ShapeError:
    with pytest.raises(ShapeError) as refusal:
        parse_cap_polygon(text)
    return refusal.value


def test_an_open_ring_says_which_points_should_meet() -> None:
    refusal = refusal_of("43.66,10.58 43.67,10.61 43.67,10.60")
    assert str(refusal) == (
        "the ring is not closed: first point 43.66,10.58, last 43.67,10.6; repeat the first point at the end"
    )
    assert refusal.at == Point(43.67, 10.60)


def test_exchanged_coordinates_are_shown_both_ways() -> None:
    refusal = refusal_of("10.58,43.66 10.60,43.67 10.61,43.65 10.58,43.66")
    assert str(refusal) == (
        "latitude and longitude look exchanged: 10.58,43.66 lies outside Italy and 43.66,10.58 inside; "
        "write latitude first"
    )
    assert refusal.at == Point(10.58, 43.66)


@pytest.mark.parametrize(
    ("typed", "decimal"),
    [
        ("43°40'12\"N", "43.67"),
        ("43°40'12″", "43.67"),
        ("43º40’12”N", "43.67"),
        ("N43°40.2'", "43.67"),
        ("43°40'N", "43.666667"),
        ("43:40:12", "43.67"),
        ("43.67°", "43.67"),
        ("43.67N", "43.67"),
        ("n 43° 40' 12\"", "43.67"),
        ("43 40 12", "43.67"),
        ("43 40 12.5 N", "43.670139"),
        ("43°40,2'", "43.67"),
        ("-43°40'12\"", "-43.67"),
        ("43°40'12\"S", "-43.67"),
    ],
)
def test_degrees_and_minutes_are_answered_with_the_decimal_number(typed: str, decimal: str) -> None:
    with pytest.raises(ShapeError) as refusal:
        Notation.CAP.point(typed, "10.58")
    assert str(refusal.value) == (
        f"latitude {json.dumps(typed, ensure_ascii=False)} is in degrees and minutes; "
        f"write one decimal number: {decimal}"
    )
    assert refusal.value.flaw is Flaw.NOT_A_NUMBER


def test_west_is_west_in_italian_too_and_a_cap_text_is_answered_as_well() -> None:
    for west in ("10°35'6\"W", "10°35'6\"O"):
        with pytest.raises(ShapeError, match=r"longitude .* write one decimal number: -10\.585$"):
            parse_cap_circle(f"43.67,{west} 2")
    refusal = refusal_of("43°40'N,10°35'E 43.67,10.60 43.65,10.61 43°40'N,10°35'E")
    assert str(refusal) == ('latitude "43°40\'N" is in degrees and minutes; write one decimal number: 43.666667')


@pytest.mark.parametrize(
    "typed",
    [
        "43,67",
        "43 40",
        "43.5 40 12",
        "43°61'",
        "181°",
        "43°40'" + " " * 40 + "x",
        "43°40'12\"5",
        "43 40 12 7",
        "N",
        "°",
        "O",
        "12'é",
    ],
)
def test_what_may_be_anything_is_no_number(typed: str) -> None:
    with pytest.raises(ShapeError, match="is not a number; write it in digits, with a decimal point"):
        Notation.CAP.point(typed, "10.58")


def test_a_circle_without_a_radius_says_what_to_do() -> None:
    with pytest.raises(ShapeError) as refusal:
        parse_cap_circle("43.66,10.58 0")
    assert str(refusal.value) == (
        "the circle around 43.66,10.58 has the radius 0 and would reach nobody; "
        "draw a small one, such as 0.2 km, or name an area"
    )
    assert refusal.value.flaw is Flaw.RADIUS


def test_half_the_world_is_refused() -> None:
    assert str(refusal_of("-80,-90 80,-90 80,90 -80,90 -80,-90")) == (
        "the shape reaches from longitude -90.00 to 90.00 and from latitude -80.00 to 80.00; it must span less than "
        "180° and cross neither a pole nor the 180th meridian: draw it in parts"
    )


def test_a_hundred_thousand_vertices_are_taken_from_a_file_and_not_from_a_hand() -> None:
    at = np.linspace(0, 2 * np.pi, 100_000)
    lats, lons = (43.66 + 0.2 * np.sin(at)).tolist(), (10.58 + 0.2 * np.cos(at)).tolist()
    text = " ".join(f"{lat!r},{lon!r}" for lat, lon in zip([*lats[:-1], lats[0]], [*lons[:-1], lons[0]], strict=True))
    assert str(refusal_of(text)) == "the geofence has more than 10000 vertices; simplify its outline"
    assert parse_cap_polygon(text, IMPORTED).vertices == 100_000


def test_a_crossing_is_named_by_its_place() -> None:
    refusal = refusal_of("43.66,10.58 43.68,10.60 43.68,10.58 43.66,10.60 43.66,10.58")
    assert refusal.at is not None
    assert (refusal.at.lat, refusal.at.lon) == pytest.approx((43.67, 10.59))
    assert "43.67,10.59" in str(refusal)


@given(st.floats(35.4, 47.1), st.floats(6.6, 18.6), st.floats(0.01, 0.3))
def test_no_place_in_italy_passes_when_exchanged_and_every_one_passes_as_it_is(
    lat: float, lon: float, size: float
) -> None:
    ring = rectangle(lat, lon, min(lat + size, 47.1), min(lon + size, 18.6))
    if len(set(ring)) < 4:
        return
    right = " ".join(f"{p.lat!r},{p.lon!r}" for p in ring)
    wrong = " ".join(f"{p.lon!r},{p.lat!r}" for p in ring)
    assert parse_cap_polygon(right) == Polygon(ring)
    assert refusal_of(wrong).flaw is Flaw.SWAPPED


def test_places_abroad_are_nobodys_mistake() -> None:
    assert parse_cap_polygon("51.5,-0.1 51.6,-0.1 51.6,0.1 51.5,-0.1").bounds == (51.5, -0.1, 51.6, 0.1)


def test_limits_count_the_whole_fence() -> None:
    with pytest.raises(ShapeError) as refusal:
        parse_cap([FORNACETTE_TEXT] * 101, [])
    assert refusal.value.flaw is Flaw.TOO_MANY_SHAPES
    half = " ".join(["43.66,10.58", *["43.67,10.60"] * 5000, "43.65,10.61", "43.66,10.58"])
    with pytest.raises(ShapeError) as refusal:
        parse_cap([half, half], [])
    assert refusal.value.flaw is Flaw.TOO_MANY_VERTICES
    with pytest.raises(ShapeError) as refusal:
        parse_cap(["-17,-178 -18,-178 -18,-177 -17,-178", FORNACETTE_TEXT], [])
    assert refusal.value.flaw is Flaw.TOO_WIDE


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_and_nothing_else(text: str) -> None:
    for read in (parse_cap_polygon, parse_cap_circle):
        try:
            read(text)
        except ShapeError as refusal:
            assert str(refusal)
