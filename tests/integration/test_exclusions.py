"""Alerts that leave somebody out, or end at the border: from the draft over HTTP to whom the fan-out tells."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from pyproj import Geod
from sqlalchemy import select, update

from alerting import atlas, cap_json, issuing
from alerting.domain.delivery import Progress
from alerting.domain.recipients import Label, Place, Precision
from alerting.joining_many import Joining, join_many
from alerting.persistence import tables
from alerting.subscribing import Subscriber
from consumers.fanout import FanOut
from geo.areas import STRAY_SHARE
from geo.geojson import to_geojson
from geo.shapes import Circle, Geofence, Point, Polygon
from tests.integration.api_client import NOWHERE_TO_PUBLISH, Town, evacuate, serving
from tests.integration.calcinaia import AUTHORITIES, CALCINAIA, citizen, one_database
from tests.integration.surveys import (
    CAPOLUOGO,
    COMUNE,
    FORNACETTE,
    IN_CAPOLUOGO,
    IN_PISA,
    KEPT,
    LOST,
    area,
    resettled,
    taken,
)
from tests.unit.geo_drawings import on_the_edges, one_by_one, rectangle

AREAS = CALCINAIA.territory.gazetteer
TERRITORY = CALCINAIA.territory.fence
ALONG_THE_BORDER = Point(43.6895, 10.6425)
"""A kilometre around it lies half in Calcinaia, half in Bientina."""

ACROSS = Geofence((Circle(ALONG_THE_BORDER, 1.2),))
AROUND_FORNACETTE = Geofence((Circle(Point(43.6735, 10.5900), 0.75),))
STREETS = Geofence((Polygon(rectangle(43.668, 10.585, 43.673, 10.596)),))
SQUARE = Geofence((Circle(Point(43.6720, 10.5900), 0.2),))
ALL_OF_FORNACETTE = Geofence((Polygon(rectangle(43.655, 10.565, 43.690, 10.610)),))


@dataclass(frozen=True)
class Alert:
    """A draft's place, as it goes over HTTP and as brute force understands it."""

    areas: tuple[str, ...] = ()
    drawn: Geofence | None = None
    left_out_areas: tuple[str, ...] = ()
    left_out: Geofence | None = None
    cut: bool = False

    @property
    def said(self) -> dict[str, Any]:
        without: dict[str, Any] = {"areas": list(self.left_out_areas)}
        if self.left_out:
            without["geofence"] = to_geojson(self.left_out)
        return {
            "areas": list(self.areas),
            "geofence": to_geojson(self.drawn) if self.drawn else None,
            "left_out": without if self.left_out_areas or self.left_out else None,
            "cut_at_border": self.cut or None,
        }

    @property
    def fences(self) -> list[Geofence]:
        """What it stands for, one after the other."""
        fences = [AREAS.by_code(code).fence for code in self.areas]
        if self.drawn:
            fences.append(Geofence(self.drawn.shapes, within=TERRITORY if self.cut else None))
        return [Geofence(one.shapes, one.within, self.without) for one in fences]

    @property
    def without(self) -> Geofence | None:
        fences = [AREAS.by_code(code).fence for code in self.left_out_areas]
        shapes = [shape for one in (*fences, *filter(None, [self.left_out])) for shape in one.shapes]
        return Geofence(tuple(shapes)) if shapes else None

    def means(self, place: Place) -> bool:
        if place.point is not None:
            lats, lons = np.array([place.point.lat]), np.array([place.point.lon])
            return any(bool(one_by_one(fence, lats, lons)[0]) for fence in self.fences)
        (code,) = place.areas
        if code == COMUNE:
            return False
        named = AREAS.by_code(code).fence.planar
        if self.without is not None and named.difference(self.without.planar).area <= STRAY_SHARE * named.area:
            return False
        drawn = shapely.union_all([shape.planar for shape in self.drawn.shapes]) if self.drawn else shapely.Point()
        return bool({code, COMUNE} & set(self.areas)) or bool(named.intersects(drawn))


ALERTS = {
    "the comune without Fornacette": Alert((COMUNE,), left_out_areas=(FORNACETTE,)),
    "the comune without some streets": Alert((COMUNE,), left_out=STREETS),
    "a circle without some streets": Alert(drawn=AROUND_FORNACETTE, left_out=STREETS),
    "a circle without a circle": Alert(drawn=AROUND_FORNACETTE, left_out=SQUARE),
    "both frazioni without a square and Capoluogo": Alert((FORNACETTE, CAPOLUOGO), None, (CAPOLUOGO,), SQUARE),
    "a frazione and a circle without some streets": Alert((CAPOLUOGO,), AROUND_FORNACETTE, (), STREETS),
    "a circle across the border": Alert(drawn=ACROSS, cut=True),
    "a circle across the border without a frazione": Alert(
        drawn=Geofence((Circle(IN_CAPOLUOGO, 2.0),)), left_out_areas=(CAPOLUOGO,), cut=True
    ),
    "a rectangle around it all, cut": Alert(
        drawn=Geofence((Polygon(rectangle(43.60, 10.50, 43.75, 10.70)),)), left_out=SQUARE, cut=True
    ),
}


@pytest.fixture
async def town(database_url: str, tmp_path: Path) -> AsyncIterator[Town]:
    async with serving(database_url, NOWHERE_TO_PUBLISH, "t.", tmp_path) as town:
        yield town


def households() -> list[tuple[Place, ...]]:
    """People everywhere: scattered, on every edge there is, by name only, and with several places."""
    random = np.random.default_rng(4)
    points = [Point(*pair) for pair in random.uniform((43.656, 10.566), (43.708, 10.655), (250, 2)).tolist()]
    for alert in ALERTS.values():
        for fence in (*alert.fences, *filter(None, [alert.without])):
            lats, lons = on_the_edges(Geofence(fence.shapes))
            points += [Point(lat, lon) for lat, lon in zip(lats.tolist()[:40], lons.tolist()[:40], strict=True)]
    points += [Point(p.lat, p.lon) for p in TERRITORY.shapes[0].outer]  # type: ignore[union-attr]
    points += along(ALONG_THE_BORDER)
    alone = [(Place(Precision.ADDRESS, point=point),) for point in dict.fromkeys(points)]
    named = [(Place(Precision.FRAZIONE, (code,)),) for code in (FORNACETTE, CAPOLUOGO) for _ in range(2)]
    several = [
        (Place(Precision.ADDRESS, point=KEPT), Place(Precision.ADDRESS, point=IN_CAPOLUOGO, label=Label.LAVORO)),
        (Place(Precision.FRAZIONE, (FORNACETTE,)), Place(Precision.FRAZIONE, (CAPOLUOGO,), label=Label.SCUOLA)),
        (Place(Precision.FRAZIONE, (FORNACETTE,)), Place(Precision.ADDRESS, point=LOST, label=Label.ALTRO)),
        (Place(Precision.ADDRESS, point=IN_PISA), Place(Precision.ADDRESS, point=KEPT, label=Label.LAVORO)),
    ]
    unknown = [(), (Place(Precision.COMUNE, (COMUNE,)),), (Place(Precision.ADDRESS, point=IN_PISA),)]
    return [*alone, *named, *several, *unknown]


def along(center: Point) -> list[Point]:
    """Points on the border near a place, and a hair on both sides of it."""
    border = shapely.boundary(TERRITORY.planar)
    near = shapely.intersection(border, shapely.Point(center.lon, center.lat).buffer(0.02))
    found = []
    for share in np.linspace(0, 1, 25):
        spot = shapely.line_interpolate_point(max(shapely.get_parts(near), key=shapely.length), share, normalized=True)
        for bearing in (0, 90, 180, 270):
            lon, lat, _ = Geod(ellps="WGS84").fwd(spot.x, spot.y, bearing, 0.5)
            found.append(Point(lat, lon))
    return found


async def peopled(town: Town) -> dict[int, tuple[Place, ...]]:
    """Everybody who is there, by number."""
    lives = households()
    people = []
    for number, places in enumerate(lives):
        who = citizen(number)
        people.append(Joining(Subscriber(CALCINAIA, who.access, who.address), places, live=True))
    found: dict[int, tuple[Place, ...]] = {}
    async with town.database.write() as session:
        await join_many(session, people, town.seal, keyword="Attiva", now=datetime.now(UTC))
        for number, one in enumerate(people):
            mine = tables.Address.fingerprint == town.seal.fingerprint(one.who.address)
            recipient = await session.scalar(select(tables.Address.recipient_id).where(mine))
            assert recipient is not None
            found[recipient] = lives[number]
    return found


def is_meant(places: tuple[Place, ...], alert: Alert) -> bool:
    said_where = any(
        bool(AREAS.of(place.point)) if place.point is not None else place.areas != (COMUNE,)
        for place in places
        if place.label is Label.CASA
    ) and all(place.point is not None or place.areas != (COMUNE,) for place in places)
    return not said_where or any(alert.means(place) for place in places)


async def told(town: Town, identifier: str) -> set[int]:
    """Whom the fan-out of an issued alert freezes into its audience; the public channel is nobody."""
    known = dict(AUTHORITIES)
    await atlas.refresh(town.database, known)
    async with town.database.read() as session:
        dispatch = await session.scalar(select(tables.Dispatch.id).where(tables.Dispatch.alert == identifier))
    assert dispatch is not None
    assert await FanOut(town.database, known).fan_out(dispatch)
    async with town.database.read() as session:
        query = select(tables.Delivery.recipient_id).join(
            tables.Recipient, tables.Recipient.id == tables.Delivery.recipient_id
        )
        query = query.where(tables.Delivery.dispatch_id == dispatch, tables.Recipient.is_channel.is_(False))
        people = [number for number in await session.scalars(query) if number is not None]
    assert len(people) == len(set(people))
    return set(people)


async def test_whoever_is_meant_is_foreseen_and_told_and_nobody_else(town: Town) -> None:
    people = await peopled(town)
    for name, alert in ALERTS.items():
        meant = {number for number, places in people.items() if is_meant(places, alert)}
        said = evacuate(**alert.said)
        before = await town.ask("POST", "/v1/alerts/preview", json=said)
        assert before.status == 200, (name, before.body)
        identifier = await town.issued(**alert.said)
        after = (await town.ask("GET", f"/v1/alerts/{identifier}/preview")).body
        found = await told(town, identifier)
        assert found == meant, (name, [(number, people[number]) for number in sorted(found ^ meant)])
        assert before.body["recipients"] == after["recipients"] == len(meant) + 1, name  # the public channel
        assert 10 < len(meant) < len(people), f"{name} tells nothing apart"


async def test_the_stored_row_alone_says_again_who_was_meant(town: Town) -> None:
    people = await peopled(town)
    for name, alert in ALERTS.items():
        identifier = await town.issued(**alert.said)
        async with town.database.read() as session:
            row = await session.get_one(tables.Alert, identifier)
        target = issuing.target_of(row)
        fences = [AREAS.by_code(code).fence for code in target.areas]
        again = [Geofence(one.shapes, without=target.without) for one in fences]
        if target.drawn:
            again.append(Geofence(target.drawn.shapes, target.drawn.within, target.without))
        alone = [places[0].point for places in people.values() if len(places) == 1 and places[0].point is not None]
        lats, lons = np.array([point.lat for point in alone]), np.array([point.lon for point in alone])
        for meant, kept in zip(alert.fences, again, strict=True):
            differ = one_by_one(meant, lats, lons) ^ one_by_one(kept, lats, lons)
            # Six decimals are kept: a decimetre.
            assert all(shapely.distance(shapely.boundary(meant.planar), shapely.points(lons, lats))[differ] < 3e-6), (
                name
            )


@one_database
async def test_what_is_published_of_it_holds_no_shape_beyond_the_border_and_none_left_out(town: Town) -> None:
    for name, alert in ALERTS.items():
        read = (await town.ask("GET", f"/v1/alerts/{await town.drafted(**alert.said)}")).body
        places = cap_json.from_json(read["document"]).first.areas
        assert not any(place.circles for place in places), name
        written = shapely.union_all([polygon.planar for place in places for polygon in place.polygons])
        assert written.difference(TERRITORY.planar).area < 1e-8 or not alert.cut, name
        if alert.without is not None:
            assert written.intersection(alert.without.planar).area < 1e-7, name
            assert any("esclusa" in place.area_desc for place in places), name
        meant = shapely.union_all([one.planar for one in alert.fences])
        assert written.symmetric_difference(meant).area < 2e-3 * meant.area, name


async def test_who_lives_in_a_part_that_lies_over_the_border_is_told_of_what_leaves_out_another(town: Town) -> None:
    """Of the whole comune they are told; so they are of the whole comune without Capoluogo."""
    over_it = Geofence((*AREAS.by_code(FORNACETTE).fence.shapes, Polygon(rectangle(43.655, 10.575, 43.660, 10.585))))
    beyond = Point(43.6570, 10.5800)
    assert not TERRITORY.contains(beyond)
    now = datetime.now(UTC)
    await taken(town.database, area(FORNACETTE, over_it), now=now)
    await resettled(town.database, now)
    places = (Place(Precision.ADDRESS, point=beyond),)
    one = Joining(Subscriber(CALCINAIA, citizen(1).access, citizen(1).address), places, live=True)
    async with town.database.write() as session:
        await join_many(session, [one], town.seal, keyword="Attiva", now=now)
        person = await session.scalar(select(tables.Recipient.id).order_by(tables.Recipient.id.desc()).limit(1))
    for alert in (Alert((COMUNE,)), Alert((COMUNE,), left_out_areas=(CAPOLUOGO,))):
        assert await told(town, await town.issued(**alert.said)) == {person}
    left_out = Alert((COMUNE,), left_out=Geofence((Circle(beyond, 0.1),)))
    assert await told(town, await town.issued(**left_out.said)) == set()


# ── what is refused ─────────────────────────────────────────────────────────────────────────────────


@one_database
async def test_leaving_everybody_out_is_refused_with_a_sentence(town: Town) -> None:
    for alert in (
        Alert((FORNACETTE,), left_out_areas=(FORNACETTE,)),
        Alert((FORNACETTE,), left_out_areas=(COMUNE,)),
        Alert((COMUNE,), left_out_areas=(COMUNE,)),
        Alert((FORNACETTE,), left_out=ALL_OF_FORNACETTE),
        Alert(drawn=SQUARE, left_out=STREETS.union(SQUARE)),
        Alert((FORNACETTE,), SQUARE, (FORNACETTE,)),
    ):
        for path in ("/v1/alerts", "/v1/alerts/preview"):
            refused = await town.ask("POST", path, json=evacuate(**alert.said))
            assert (refused.status, refused.pointers) == (422, ["/left_out"]), alert
            assert "leaves nobody to be told" in str(refused.body)


@one_database
async def test_wrong_exclusions_are_refused_by_field(town: Town) -> None:
    wrong: list[tuple[Any, str]] = [
        ({"areas": ["fornacette", "pisa"]}, "/left_out/areas/1"),
        ({"geofence": {"type": "Point", "coordinates": [10.6, 43.67]}}, "/left_out/geofence"),
        ({"geofence": "tutto"}, "/left_out/geofence"),
        ({"zone": []}, "/left_out/zone"),
        ([], "/left_out"),
    ]
    for said, pointer in wrong:
        refused = await town.draft(areas=["calcinaia"], left_out=said)
        assert (refused.status, refused.pointers) == (422, [pointer]), refused.body
    no_one: list[dict[str, Any]] = [{}, {"areas": []}, {"geofence": None}]
    for nothing in no_one:
        assert (await town.draft(areas=["calcinaia"], left_out=nothing)).status == 201


@one_database
async def test_over_the_border_the_refusal_names_the_flag_and_the_flag_does_not_reach_elsewhere(town: Town) -> None:
    refused = await town.draft(**Alert(drawn=ACROSS).said)
    assert (refused.status, refused.pointers) == (422, ["/geofence"])
    assert "give cut_at_border: true" in str(refused.body)
    assert (await town.draft(**Alert(drawn=ACROSS, cut=True).said)).status == 201
    elsewhere = Geofence((Circle(IN_PISA, 0.5),))
    refused = await town.draft(**Alert(drawn=elsewhere, cut=True).said)
    assert refused.pointers == ["/geofence"] and "nothing is left of it at the border" in str(refused.body)
    for wrong in ("true", 1, None):
        said = evacuate(**Alert(drawn=ACROSS).said) | {"cut_at_border": wrong}
        assert (await town.ask("POST", "/v1/alerts", json=said)).status == 422


@one_database
async def test_a_geofence_with_roles_in_it_is_refused(town: Town) -> None:
    for role in ("within", "without"):
        fence = to_geojson(Geofence(AROUND_FORNACETTE.shapes, **{role: STREETS}))
        refused = await town.draft(areas=None, geofence=fence)
        assert refused.pointers == ["/geofence"] and "give what is not meant as left_out" in str(refused.body)
        refused = await town.draft(left_out={"geofence": fence})
        assert refused.pointers == ["/left_out/geofence"]


# ── what follows ────────────────────────────────────────────────────────────────────────────────────


async def test_an_update_and_a_cancel_of_such_an_alert_reach_whoever_was_told(town: Town) -> None:
    people = await peopled(town)
    for name in ("the comune without Fornacette", "a circle across the border without a frazione"):
        alert = ALERTS[name]
        first = await town.issued(**alert.said)
        heard = await told(town, first)
        async with town.database.write() as session:
            await session.execute(update(tables.Delivery).values(progress=Progress.SENT.value))
        wider = Alert((FORNACETTE,), left_out=SQUARE)
        newer = await town.issued(updates=first, **wider.said)
        assert await told(town, newer) == heard | {n for n, places in people.items() if is_meant(places, wider)}
        answer = await town.ask("POST", f"/v1/alerts/{newer}/cancel", json={"reason": "L'acqua è scesa."})
        assert answer.status == 200, answer.body
        cancelled = answer.body["cancel"]
        async with town.database.read() as session:
            row = await session.get_one(tables.Alert, cancelled)
            original = await session.get_one(tables.Alert, newer)
        assert row.geofence == original.geofence
        assert await told(town, cancelled) >= heard


@one_database
async def test_an_alert_may_be_cut_and_leave_out_in_an_exercise_too(town: Town) -> None:
    alert = ALERTS["a rectangle around it all, cut"]
    answer = await town.ask("POST", "/v1/alerts/preview", json=evacuate(exercise=True, **alert.said))
    assert answer.status == 200 and answer.body["exercise"]
