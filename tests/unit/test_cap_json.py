"""A CAP message as JSON and back: whatever it says, it says again."""

import json
import math
from dataclasses import fields
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from alerting import cap_json
from alerting.domain import cap
from geo.shapes import Circle, Point, Polygon
from tests.unit.geo_drawings import circles, polygons

words = st.text(max_size=40)
moments = st.timedeltas(timedelta(0), timedelta(days=36_525)).map(
    lambda since: datetime(2000, 1, 1, tzinfo=UTC) + since
)
pairs = st.lists(st.builds(cap.NamedValue, words, words), max_size=2).map(tuple)
tidy_polygons = polygons().map(lambda polygon: polygon.tidy())
feet = st.none() | st.floats(-1_000, 100_000)
resources = st.builds(cap.Resource, words, words, st.none() | st.integers(0, 10**9), words, words, words)
areas = st.builds(
    cap.Area,
    words,
    st.lists(tidy_polygons, max_size=2, unique=True).map(tuple),
    st.lists(circles, max_size=2, unique=True).map(tuple),
    pairs,
    feet,
    feet,
)
infos = st.builds(
    cap.Info,
    category=st.lists(st.sampled_from(cap.Category), min_size=1, max_size=2).map(tuple),
    event=words,
    urgency=st.sampled_from(cap.Urgency),
    severity=st.sampled_from(cap.Severity),
    certainty=st.sampled_from(cap.Certainty),
    expires=st.none() | moments,
    headline=words,
    description=words,
    language=st.sampled_from(["it-IT", "en", "de"]),
    instruction=words,
    response_type=st.lists(st.sampled_from(cap.ResponseType), max_size=2).map(tuple),
    audience=words,
    event_codes=pairs,
    effective=st.none() | moments,
    onset=st.none() | moments,
    sender_name=words,
    web=words,
    contact=words,
    parameters=pairs,
    resources=st.lists(resources, max_size=2).map(tuple),
    areas=st.lists(areas, max_size=2).map(tuple),
)
several = st.lists(words, max_size=2).map(tuple)
alerts = st.builds(
    cap.Alert,
    identifier=words,
    sender=words,
    sent=moments,
    status=st.sampled_from(cap.Status),
    msg_type=st.sampled_from(cap.MsgType),
    infos=st.lists(infos, min_size=1, max_size=2).map(tuple),
    scope=st.sampled_from(cap.Scope),
    source=words,
    restriction=words,
    addresses=several,
    codes=several,
    note=words,
    references=st.lists(st.builds(cap.Reference, words, words, moments), max_size=2).map(tuple),
    incidents=several,
)


@given(alerts)
def test_an_alert_comes_back_from_json_as_it_was(alert: cap.Alert) -> None:
    through_text = json.loads(json.dumps(cap_json.to_json(alert)))
    assert cap_json.from_json(through_text) == alert


@given(alerts)
def test_reading_and_writing_again_changes_nothing(alert: cap.Alert) -> None:
    written = cap_json.to_json(alert)
    assert cap_json.to_json(cap_json.from_json(written)) == written


def fornacette(*areas: cap.Area) -> cap.Alert:
    now = datetime(2026, 11, 21, 14, 0, tzinfo=timezone(timedelta(hours=1)))
    info = cap.Info(
        category=(cap.Category.MET,),
        event="allerta meteo arancione",
        urgency=cap.Urgency.EXPECTED,
        severity=cap.Severity.SEVERE,
        certainty=cap.Certainty.LIKELY,
        expires=now + timedelta(hours=8),
        headline="Allerta arancione",
        description="Piena dell'Arno.",
        areas=areas,
    )
    sender = "protezionecivile@comune.calcinaia.pi.it"
    return cap.Alert("calcinaia-1", sender, now, cap.Status.ACTUAL, cap.MsgType.ALERT, (info,))


def test_times_are_kept_in_utc_and_absent_ones_stay_absent() -> None:
    document = cap_json.to_json(fornacette())
    assert document["sent"] == "2026-11-21T13:00:00+00:00"
    assert document["infos"][0]["onset"] is None


def test_an_area_named_by_geocode_alone_has_no_boundary() -> None:
    named = cap.Area("Fornacette", geocodes=(cap.NamedValue("ISTAT", "050004"),))
    document = cap_json.to_json(fornacette(named))
    assert document["infos"][0]["areas"] == [
        {
            "area_desc": "Fornacette",
            "boundary": None,
            "geocodes": [{"name": "ISTAT", "value": "050004"}],
            "altitude": None,
            "ceiling": None,
        }
    ]
    assert cap_json.from_json(document).geofence is None


def test_what_an_older_release_kept_is_still_read() -> None:
    document = cap_json.to_json(fornacette(cap.Area("Fornacette", (), (Circle(Point(43.67, 10.59), 1.0),))))
    for name in ("source", "restriction", "addresses", "codes", "incidents"):
        del document[name]
    [info] = document["infos"]
    for name in ("audience", "event_codes", "effective", "resources"):
        del info[name]
    [area] = info["areas"]
    for name in ("altitude", "ceiling"):
        del area[name]
    assert cap_json.from_json(document) == fornacette(cap.Area("Fornacette", (), (Circle(Point(43.67, 10.59), 1.0),)))


def test_every_field_of_a_message_is_kept() -> None:
    """Whoever gives a class of CAP a field gives it to the drawn messages above too, or it could be lost unseen."""
    document = cap_json.to_json(fornacette(cap.Area("Fornacette")))
    [info] = document["infos"]
    kept = {cap.Alert: set(document), cap.Info: set(info), cap.Area: set(info["areas"][0])}
    kept[cap.Area] = kept[cap.Area] - {"boundary"} | {"polygons", "circles"}
    for of_cap, names in kept.items():
        assert names == {field.name for field in fields(of_cap)}, of_cap


def test_a_circle_keeps_every_digit_and_stays_a_circle() -> None:
    circle = Circle(Point(43.67021234567, 10.58511234567), 1.23456789)
    back = cap_json.from_json(cap_json.to_json(fornacette(cap.Area("La fabbrica", circles=(circle,)))))
    assert back.first.areas[0].circles == (circle,)


def test_an_official_border_with_more_vertices_than_anybody_draws_can_be_issued_again() -> None:
    turn = 2 * math.pi / 12_000
    ring = tuple(
        Point(round(43.68 + 0.05 * math.sin(i * turn), 6), round(10.6 + 0.05 * math.cos(i * turn), 6))
        for i in range(12_000)
    )
    border = Polygon((*ring, ring[0])).tidy()
    back = cap_json.from_json(cap_json.to_json(fornacette(cap.Area("Calcinaia", (border,)))))
    assert back.first.areas[0].polygons == (border,)
