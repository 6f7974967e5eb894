"""Who is inside: many at once give the same answers as one by one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from geo.matching import inside
from geo.shapes import Circle, Geofence, Point, Polygon
from tests.unit.geo_drawings import FORNACETTE, fences, rectangle, scattered


@given(fences)
def test_many_points_at_once_give_the_answers_of_one_by_one(fence: Geofence) -> None:
    lats, lons = scattered(200)
    one_by_one = [fence.contains(Point(lat, lon)) for lat, lon in zip(lats.tolist(), lons.tolist(), strict=True)]
    assert inside(fence, lats, lons).tolist() == one_by_one


@given(fences, st.lists(st.tuples(st.floats(), st.floats()), max_size=20))
def test_no_number_whatever_breaks_it_and_none_that_is_no_place_is_inside(
    fence: Geofence, places: list[tuple[float, float]]
) -> None:
    lats = [lat for lat, _ in places] + [float("nan"), FORNACETTE.lat, float("inf"), 200.0]
    lons = [lon for _, lon in places] + [FORNACETTE.lon, float("nan"), FORNACETTE.lon, FORNACETTE.lon]
    mask = inside(fence, lats, lons)
    assert len(mask) == len(lats)
    assert not mask[-4:].any()


def test_everybody_in_a_polygon_is_found_on_its_boundary_too() -> None:
    fence = Geofence((Polygon(rectangle(43.625, 10.5, 43.75, 10.625)),))
    assert inside(fence, [43.625, 43.75, 43.7, 43.76], [10.5, 10.625, 10.55, 10.55]).tolist() == [1, 1, 1, 0]


def test_overlapping_shapes_find_a_person_once() -> None:
    fence = Geofence((Circle(FORNACETTE, 2), Polygon(rectangle(43.6, 10.5, 43.75, 10.7)), Circle(FORNACETTE, 3)))
    assert np.flatnonzero(inside(fence, [FORNACETTE.lat, 44.5], [FORNACETTE.lon, 10.6])).tolist() == [0]


def test_nobody_is_inside_of_nobody() -> None:
    assert inside(Geofence((Circle(FORNACETTE, 2),)), [], []).tolist() == []
