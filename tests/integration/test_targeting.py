"""Whom an alert is for: the databases' answer against brute force over everybody."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pytest
from sqlalchemy import select, text

from alerting import issuing
from alerting.domain.lanes import Lane
from alerting.domain.recipients import NOWHERE, Place, Precision
from alerting.persistence import Database, tables
from alerting.subscribing import join, leave
from alerting.targeting import Target, preview, select_recipients
from consumers.fanout import FanOut
from geo.geojson import parse_geojson, to_geojson
from geo.matching import inside
from geo.shapes import Circle, Geofence, Point, Polygon
from tests.integration.calcinaia import (
    ANNA,
    AUTHORITIES,
    BRUNO,
    CALCINAIA,
    NOW,
    SEAL,
    citizen,
    five_comuni,
    one_database,
    piena,
)
from tests.unit.geo_drawings import rectangle, star

GAZETTEER = CALCINAIA.territory.gazetteer
FORNACETTE, CAPOLUOGO, COMUNE = "calcinaia.fornacette", "calcinaia.capoluogo", "calcinaia"
IN_FORNACETTE = Geofence((Circle(Point(43.6720, 10.5900), 0.4),))


def drawings() -> dict[str, Geofence]:
    """Named for what is special about them."""
    random = np.random.default_rng(5)
    holed = Polygon(rectangle(43.668, 10.580, 43.690, 10.606), (rectangle(43.672, 10.586, 43.679, 10.596),))
    stars = {
        f"star {n}": Geofence((Polygon(star(Point(43.678, 10.598), random.uniform(0.004, 0.03, 7).tolist())),))
        for n in range(4)
    }
    circles = {
        f"circle of {km} km": Geofence((Circle(Point(*random.uniform((43.668, 10.58), (43.70, 10.63)).tolist()), km),))
        for km in (0.05, 0.4, 1.1, 3.0)
    }
    both = Geofence((holed, Circle(Point(43.690, 10.614), 0.6)))
    return stars | circles | {"with a hole": Geofence((holed,)), "a hole and a circle": both}


DRAWN = drawings()
TARGETS = {
    "Fornacette": ((FORNACETTE,), None),
    "two frazioni": ((FORNACETTE, CAPOLUOGO), None),
    "the whole comune": ((COMUNE,), None),
    **{name: ((), fence) for name, fence in DRAWN.items()},
    "Calcinaia capoluogo and a circle": ((CAPOLUOGO,), DRAWN["circle of 0.4 km"]),
}


@dataclass(frozen=True)
class Person:
    id: int
    place: Place
    has_left: bool


def places() -> list[Place]:
    """Of people of every precision; points all over the comune, and on the very edges of every drawing."""
    random = np.random.default_rng(11)
    scattered = [Point(lat, lon) for lat, lon in random.uniform((43.658, 10.568), (43.706, 10.652), (150, 2)).tolist()]
    corners = [p for fence in DRAWN.values() for s in fence.shapes if isinstance(s, Polygon) for p in s.outer]
    on_edges = [Point(43.668, 10.593), Point(43.681, 10.606), Point(43.672, 10.590), Point(43.6755, 10.586)]
    return [
        *([NOWHERE] * 5),
        *([Place(Precision.COMUNE, (COMUNE,))] * 5),
        *([Place(Precision.FRAZIONE, (FORNACETTE,))] * 8),
        *([Place(Precision.FRAZIONE, (CAPOLUOGO,))] * 8),
        *(Place(Precision.ADDRESS, point=point) for point in [*scattered, *corners, *on_edges]),
    ]


@pytest.fixture
async def town(database_url: str) -> AsyncIterator[tuple[Database, list[Person]]]:
    """Calcinaia with its people; every ninth has left again."""
    async with five_comuni(database_url, "calcinaia", "cascina") as database:
        people = []
        async with database.write() as session:
            for number, place in enumerate(places()):
                who = citizen(number)
                recipient, _ = await join(session, who, SEAL, keyword="Attiva", now=NOW, places=[place])
                if has_left := number % 9 == 8:
                    await leave(session, who, SEAL, keyword="Disattiva", now=NOW)
                people.append(Person(recipient, place, has_left))
            # Neighbours who are nobody's business here: of another comune, and of the exercises.
            await join(session, citizen(1, "cascina"), SEAL, keyword="Iscrizione", now=NOW)
            await join(session, citizen(9001), SEAL, keyword="Attiva", now=NOW, live=False)
        yield database, people


def is_meant(person: Person, areas: tuple[str, ...], drawn: Geofence | None) -> bool:
    """By the rules as they are written, without a grid, without memberships, without SQL."""
    if person.has_left:
        return False
    match person.place:
        case Place(Precision.NONE | Precision.COMUNE):
            return True
        case Place(Precision.FRAZIONE, areas=(frazione,)):
            touched = drawn is not None and GAZETTEER.by_code(frazione).fence.planar.intersects(drawn.planar)
            return frazione in areas or COMUNE in areas or touched
        case Place(point=Point(lat, lon)):
            fences = [GAZETTEER.by_code(code).fence for code in areas] + ([drawn] if drawn else [])
            in_the_comune = any(area.fence.contains(Point(lat, lon)) for area in CALCINAIA.territory.areas)
            return not in_the_comune or any(bool(inside(fence, [lat], [lon])[0]) for fence in fences)
    raise AssertionError(person)


async def found_by_sql(database: Database, target: Target) -> list[int]:
    async with database.read() as session:
        selection = await select_recipients(session, target, CALCINAIA)
        people = selection.people + " AND NOT r.is_channel ORDER BY r.id"
        return list((await session.scalars(text(f"SELECT r.id {people}"), selection.parameters)).all())


async def test_the_databases_find_exactly_whom_brute_force_finds(town: tuple[Database, list[Person]]) -> None:
    database, people = town
    for name, (areas, drawn) in TARGETS.items():
        meant = [person.id for person in people if is_meant(person, areas, drawn)]
        found = await found_by_sql(database, Target("calcinaia", True, areas, drawn))
        assert found == meant, name
        assert 10 < len(meant) < len(people), f"{name} tells nothing apart"


async def test_the_preview_counts_whom_the_fan_out_will_tell(town: tuple[Database, list[Person]]) -> None:
    database, people = town
    for areas, drawn in (
        ((FORNACETTE,), None),
        ((CAPOLUOGO,), IN_FORNACETTE),
        ((), IN_FORNACETTE),
    ):
        async with database.write() as session:
            row = await issuing.draft(session, piena(areas=areas, drawn=drawn), CALCINAIA, ANNA, NOW)
            await issuing.approve(session, row, BRUNO, NOW)
            foreseen = await preview(session, issuing.target_of(row), CALCINAIA, Lane.EMERGENCY)
            dispatch = (await issuing.issue(session, row, ANNA, NOW)).id
        await FanOut(database, AUTHORITIES).fan_out(dispatch)
        async with database.read() as session:
            told = (
                await session.execute(
                    select(tables.Delivery.recipient_id, tables.Delivery.seq)
                    .where(tables.Delivery.dispatch_id == dispatch)
                    .order_by(tables.Delivery.seq)
                )
            ).all()
            frozen = await session.get_one(tables.Dispatch, dispatch)
        everybody = {recipient for recipient, _ in told}
        assert len(told) == len(everybody) == frozen.audience == foreseen.recipients
        assert [seq for _, seq in told] == list(range(1, len(told) + 1))
        meant = {person.id for person in people if is_meant(person, areas, drawn)}
        (public_channel,) = everybody - meant  # Calcinaia's channel on Telegram is told everything
        assert meant < everybody
        unknown = sum(1 for p in people if not p.has_left and p.id in meant and _is_unknown(p))
        assert foreseen.place_unknown == unknown + 1
        assert public_channel not in meant


def _is_unknown(person: Person) -> bool:
    if person.place.precision is Precision.ADDRESS:
        assert person.place.point is not None
        return not GAZETTEER.of(person.place.point)
    return person.place.precision is not Precision.FRAZIONE


@one_database
async def test_a_preview_counts_by_account_and_area_and_says_how_long_it_takes(database_url: str) -> None:
    async with five_comuni(database_url, "calcinaia", "cascina") as database:
        async with database.write() as session:
            for number in range(160):
                place = Place(Precision.FRAZIONE, (FORNACETTE,)) if number < 100 else NOWHERE
                await join(session, citizen(number), SEAL, keyword="Attiva", now=NOW, places=[place])
            before = tables.Dispatch(
                authority="calcinaia", lane=Lane.ROUTINE, issued_at=NOW, not_after=NOW + timedelta(days=1)
            )
            urgent = tables.Dispatch(
                authority="calcinaia", lane=Lane.FLASH, issued_at=NOW, not_after=NOW + timedelta(days=1)
            )
            session.add_all([before, urgent])
            await session.flush()
            for dispatch, last, state in ((before, 4640, "told"), (urgent, 800, "waiting"), (urgent, 900, "done")):
                session.add(
                    tables.Batch(
                        dispatch_id=dispatch.id,
                        channel=citizen(1).access.channel,
                        account="whatsapp.calcinaia",
                        lane=dispatch.lane,
                        first=1 if state != "done" else 801,
                        last=last,
                        state=state,
                    )
                )
        target = Target("calcinaia", True, (FORNACETTE,), None)
        async with database.read() as session:
            emergency = await preview(session, target, CALCINAIA, Lane.EMERGENCY)
            routine = await preview(session, target, CALCINAIA, Lane.ROUTINE)
    whatsapp = {share.account: share for share in emergency.by_account}["whatsapp.calcinaia"]
    assert (emergency.recipients, emergency.place_unknown) == (161, 61)
    assert emergency.by_area == {"calcinaia": 100, FORNACETTE: 100}
    # 80 a second: 160 people after the 800 more urgent ones; what is less urgent holds nobody up.
    assert (whatsapp.recipients, whatsapp.waiting_before, whatsapp.minutes()) == (160, 800, 0.2)
    assert emergency.minutes == 0.2
    assert routine.minutes == round((160 + 800 + 4640) / 80 / 60, 2)


async def test_somebody_just_over_the_border_is_told_what_the_comune_is_told(database_url: str) -> None:
    beyond = Point(43.6590, 10.6200)
    assert not GAZETTEER.of(beyond)
    async with five_comuni(database_url, "calcinaia", "cascina") as database:
        async with database.write() as session:
            place = Place(Precision.ADDRESS, point=beyond)
            neighbour, _ = await join(session, citizen(1), SEAL, keyword="Attiva", now=NOW, places=[place])
        for areas in ((COMUNE,), (FORNACETTE,)):
            assert await found_by_sql(database, Target("calcinaia", True, areas, None)) == [neighbour]


@one_database
async def test_who_was_refused_or_has_a_second_address_is_not_told_twice(database_url: str) -> None:
    async with five_comuni(database_url, "calcinaia", "cascina") as database:
        async with database.write() as session:
            refused, _ = await join(session, citizen(1), SEAL, keyword="Attiva", now=NOW)
            reached, _ = await join(session, citizen(2), SEAL, keyword="Attiva", now=NOW)
            for address in await session.scalars(select(tables.Address).where(tables.Address.recipient_id == refused)):
                address.refused_at = NOW
            session.add(
                tables.Address(
                    recipient_id=reached, account="telegram.calcinaia", fingerprint=b"x", sealed=b"x", rank=1
                )
            )
        assert await found_by_sql(database, Target("calcinaia", True, (COMUNE,), None)) == [reached]


def test_what_is_stored_of_a_drawing_means_the_same_people() -> None:
    random = np.random.default_rng(3)
    lats, lons = random.uniform(43.65, 43.71, 20_000), random.uniform(10.56, 10.66, 20_000)
    for name, fence in DRAWN.items():
        stored = parse_geojson(to_geojson(fence))
        assert (inside(stored, lats, lons) == inside(fence, lats, lons)).all(), name
