"""What sources add to an alert of the comune that leaves somebody out, ends at the border, or names what is gone."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import shapely

from alerting import atlas, cap_json, issuing, surveying
from alerting.composing import LeftOut, Wording
from alerting.domain.kinds import Colour, Kind, Risk
from alerting.domain.lifecycle import State
from alerting.persistence import tables
from geo.shapes import Circle, Geofence, Point
from tests.integration.calcinaia import ANNA, BRUNO, CALCINAIA, NOW, one_database, piena
from tests.integration.newsroom import (
    CAPOLUOGO,
    FORNACETTE,
    REGIONE,
    Newsroom,
    a_newsroom,
    after,
    did,
    drawn,
    fire,
    is_over,
    message,
    polygon,
    update,
    weather,
)
from tests.integration.test_intake import CLEAR

pytestmark = one_database

COMUNE = "calcinaia"
ACROSS = Geofence((Circle(Point(43.6895, 10.6425), 1.2),))
WITHOUT_FORNACETTE = LeftOut(("calcinaia.fornacette",))


def a_fire(**changes: Any) -> Wording:
    wording = Wording(
        kind=Kind.INCENDIO,
        headline="Incendio in un capannone",
        description="Un capannone brucia: il fumo va verso le case.",
        instruction="Resta in casa e chiudi le finestre.",
        expires=NOW + timedelta(hours=6),
        areas=(COMUNE,),
    )
    return replace(wording, **changes)


async def issued(room: Newsroom, wording: Wording) -> tables.Alert:
    """What the comune itself says."""
    async with room.database.write() as session:
        row = await issuing.draft(session, wording, CALCINAIA, ANNA, room.now)
        await issuing.approve(session, row, BRUNO, room.now)
        await issuing.issue(session, row, ANNA, room.now)
    return row


def told_of(row: tables.Alert) -> Geofence:
    """Where people were told, by the published document."""
    areas = cap_json.from_json(row.document).first.areas
    polygons = (polygon for area in areas for polygon in area.polygons)
    return Geofence((*polygons, *(circle for area in areas for circle in area.circles)))


async def test_a_source_that_speaks_of_who_was_left_out_is_heard_there(database_url: str) -> None:
    async with a_newsroom(database_url) as room:
        ours = await issued(room, a_fire(left_out=WITHOUT_FORNACETTE))
        fornacette = Geofence((polygon(*FORNACETTE),))
        assert not told_of(ours).planar.intersection(fornacette.planar).area > 1e-7
        handed = await room.hand_in(message("uno", fire(areas=(drawn(FORNACETTE),))))
        assert did(handed)[COMUNE] == "issued"
        (newest,) = await room.standing()
        in_the_comune = fornacette.planar.intersection(CALCINAIA.territory.fence.planar)
        assert in_the_comune.difference(told_of(newest).planar).area < 1e-8
        # Who was told before hears the update too; nobody else does.
        both = shapely.union(told_of(ours).planar, in_the_comune)
        assert told_of(newest).planar.symmetric_difference(both).area < 1e-7
        again = await room.hand_in(message("due", fire(areas=(drawn(FORNACETTE),))))
        assert did(again)[COMUNE] == "joined"


@pytest.mark.parametrize(
    "wording",
    [
        a_fire(left_out=WITHOUT_FORNACETTE),
        a_fire(left_out=LeftOut(drawn=Geofence((polygon(*FORNACETTE),)))),
        a_fire(areas=(), drawn=Geofence((Circle(Point(43.690, 10.620), 2.5),)), cut_at_border=True),
    ],
    ids=["without a frazione", "without what is drawn", "cut at the border"],
)
async def test_a_source_that_speaks_of_who_was_told_already_is_not_said_again(
    database_url: str, wording: Wording
) -> None:
    async with a_newsroom(database_url) as room:
        await issued(room, wording)
        handed = await room.hand_in(message("uno", fire(areas=(drawn(CAPOLUOGO, "Calcinaia"),))))
        assert did(handed)[COMUNE] == "joined"


@pytest.mark.parametrize(
    "wording",
    [
        a_fire(areas=(), drawn=ACROSS, cut_at_border=True),
        a_fire(areas=(), drawn=ACROSS, cut_at_border=True, left_out=LeftOut(("calcinaia.capoluogo",))),
        a_fire(left_out=LeftOut(drawn=Geofence((Circle(Point(43.69, 10.614), 0.3),)))),
    ],
    ids=["cut at the border", "and without a frazione", "without a circle"],
)
async def test_a_source_adds_to_what_was_cut_or_left_out_and_says_that_it_is_over(
    database_url: str, wording: Wording
) -> None:
    wide = ((43.66, 10.58), (43.66, 10.65), (43.70, 10.65), (43.70, 10.58))
    async with a_newsroom(database_url) as room:
        ours = await issued(room, wording)
        first = message("uno", fire(areas=(drawn(wide),)))
        assert did(await room.hand_in(first))[COMUNE] == "issued"
        (newest,) = await room.standing()
        assert newest.updates == ours.identifier
        meant = polygon(*wide).planar.intersection(CALCINAIA.territory.fence.planar)
        assert meant.difference(told_of(newest).planar).area < 1e-7
        assert issuing.target_of(newest).without is None
        over = await room.hand_in(update("due", first, fire(**CLEAR), minutes=20))
        assert did(over)[COMUNE] in ("issued", "drafted")


@pytest.mark.parametrize("then", ["the same", "wider", "over"])
async def test_an_alert_that_names_a_frazione_that_is_no_more_still_counts(database_url: str, then: str) -> None:
    async with a_newsroom(database_url) as room:
        await atlas.refresh(room.database, room.authorities)
        first = message("uno", fire(areas=(drawn(FORNACETTE),)))
        await issued(room, a_fire(areas=("calcinaia.fornacette",)))
        async with room.database.write() as session:
            await surveying.end(session, "calcinaia.fornacette", actor="anna", now=NOW)
        await atlas.refresh(room.database, room.authorities)
        match then:
            case "the same":
                inner = drawn(((43.668, 10.585), (43.668, 10.595), (43.673, 10.595), (43.673, 10.585)))
                assert did(await room.hand_in(message("uno", fire(areas=(inner,)))))[COMUNE] == "joined"
            case "wider":
                wider = message("uno", fire(areas=(drawn(FORNACETTE), drawn(CAPOLUOGO, "Calcinaia"))))
                assert did(await room.hand_in(wider))[COMUNE] == "issued"
            case _:
                room.now = after(1)
                over = await room.hand_in(replace(first, infos=(fire(**CLEAR),), sent=after(2)))
                assert did(over)[COMUNE] in ("issued", "drafted")
                (row,) = [row for row in await room.alerts() if is_over(row)]
                assert row.state in (State.DRAFT, State.ISSUED)


async def test_the_weather_of_the_comune_without_a_frazione_is_not_that_of_the_comune(database_url: str) -> None:
    """Or Fornacette, left out, would never hear what the region says of all of Calcinaia."""
    async with a_newsroom(database_url) as room:
        wording = piena(areas=(COMUNE,), onset=None, left_out=WITHOUT_FORNACETTE)
        ours = await issued(room, wording)
        assert (wording.colour, wording.risk) == (Colour.ARANCIONE, Risk.IDRAULICO)
        handed = await room.hand_in(message("uno", weather(), source=REGIONE), REGIONE)
        assert did(handed)[COMUNE] == "issued"
        newest = (await room.issued())[-1]
        assert newest.areas == [COMUNE] and "left_out" not in newest.geofence
        assert newest.identifier != ours.identifier
