"""An alert drafted with one outline while another comes to serve: whoever is inside either is told."""

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, text

from alerting import atlas, issuing, surveying
from alerting.composing import LeftOut, Wording
from alerting.domain.areas import AreaState
from alerting.domain.authority import Authority
from alerting.domain.lanes import Lane
from alerting.domain.recipients import Label, Place, Precision
from alerting.persistence import Database, tables
from alerting.resettling import REMEMBERED_FOR
from alerting.subscribing import join, keep_place
from alerting.targeting import preview, select_recipients
from consumers import fanout
from consumers.fanout import FanOut
from geo.geojson import to_geojson
from geo.shapes import Circle, Geofence
from tests.integration.calcinaia import ANNA, AUTHORITIES, BRUNO, CALCINAIA, NOW, SEAL, citizen, five_comuni, piena
from tests.integration.surveys import (
    CAPOLUOGO,
    COMUNE,
    FORNACETTE,
    GAINED,
    IN_CAPOLUOGO,
    IN_PISA,
    KEPT,
    LOST,
    NEW_FORNACETTE,
    area,
    argine,
    resettled,
    taken,
)

NEXT = area(FORNACETTE, NEW_FORNACETTE)
EXAMPLES = {"lost": LOST, "kept": KEPT, "gained": GAINED, "capoluogo": IN_CAPOLUOGO}


@pytest.fixture
async def town(database_url: str) -> AsyncIterator[Database]:
    async with five_comuni(database_url, COMUNE) as database:
        yield database


@pytest.fixture
async def people(town: Database) -> dict[str, int]:
    """Two at each point, by its name; some by the name of a frazione; and two of whom nothing is known."""
    found: dict[str, int] = {}
    async with town.write() as session:

        async def joins(name: str, *places: Place) -> None:
            who = citizen(len(found))
            found[name], _ = await join(session, who, SEAL, keyword="Attiva", now=NOW, places=places)

        for number in (1, 2):
            for name, point in EXAMPLES.items():
                await joins(f"{name} {number}", Place(Precision.ADDRESS, point=point))
            await joins(f"named {number}", Place(Precision.FRAZIONE, (FORNACETTE,)))
            await joins(f"unknown {number}")
        await joins("in Pisa", Place(Precision.ADDRESS, point=IN_PISA))
    return found


def those(people: dict[str, int], *names: str) -> set[int]:
    always = ("unknown", "in Pisa")
    return {number for name, number in people.items() if name.startswith((*names, *always))}


async def drafted(town: Database, wording: Wording, authority: Authority = CALCINAIA) -> str:
    async with town.write() as session:
        row = await issuing.draft(session, wording, authority, ANNA, NOW)
        await issuing.approve(session, row, BRUNO, NOW)
    return row.identifier


async def issued(town: Database, identifier: str) -> int:
    """Its dispatch."""
    async with town.write() as session:
        row = await session.get_one(tables.Alert, identifier)
        return (await issuing.issue(session, row, ANNA, NOW)).id


async def known(town: Database) -> dict[str, Authority]:
    authorities = dict(AUTHORITIES)
    await atlas.refresh(town, authorities)
    return authorities


async def told(town: Database, dispatch: int, authorities: dict[str, Authority] | None = None) -> set[int]:
    assert await FanOut(town, authorities or await known(town)).fan_out(dispatch)
    return await audience(town, dispatch)


async def audience(town: Database, dispatch: int) -> set[int]:
    async with town.read() as session:
        query = select(tables.Delivery.recipient_id).join(
            tables.Recipient, tables.Recipient.id == tables.Delivery.recipient_id
        )
        query = query.where(tables.Delivery.dispatch_id == dispatch, tables.Recipient.is_channel.is_(False))
        return {number for number in await session.scalars(query) if number is not None}


LATER = {
    "as soon as it serves": timedelta(),
    "when the old one has ended an hour ago": REMEMBERED_FOR + timedelta(seconds=1),
    "when the old one is forgotten": timedelta(days=2),
}


@pytest.mark.parametrize("later", LATER.values(), ids=LATER)
async def test_whoever_is_inside_either_outline_is_told(
    town: Database, people: dict[str, int], later: timedelta
) -> None:
    identifier = await drafted(town, piena())
    await taken(town, NEXT)
    await resettled(town)
    while await resettled(town, NOW + later):
        pass
    async with town.read() as session:
        row = await session.get_one(tables.Alert, identifier)
        foreseen = await preview(session, issuing.target_of(row), (await known(town))[COMUNE], Lane.EMERGENCY)
        states = (await session.scalars(select(tables.Area.state).where(tables.Area.code == FORNACETTE))).all()
    assert set(states) == {
        AreaState.SERVING,
        AreaState.ENDED if not later else AreaState.CLOSED if later < timedelta(hours=2) else AreaState.CLEARED,
    }
    meant = those(people, "lost", "kept", "gained", "named")
    # By a process that has not looked since the old one served, too.
    for authorities in (await known(town), dict(AUTHORITIES)):
        dispatch = await issued(town, identifier if authorities != AUTHORITIES else await drafted(town, piena()))
        assert await told(town, dispatch, authorities) == meant
    assert foreseen.recipients == len(meant) + 1  # the public channel


async def test_what_is_drafted_once_the_new_outline_serves_means_that_alone(
    town: Database, people: dict[str, int]
) -> None:
    await taken(town, NEXT)
    await resettled(town)
    identifier = await drafted(town, piena(), (await known(town))[COMUNE])
    async with town.read() as session:
        row = await session.get_one(tables.Alert, identifier)
    assert row.geofence["areas"] == [{"code": FORNACETTE, "version": 2}]
    assert await told(town, await issued(town, identifier)) == those(people, "kept", "gained", "named")


async def test_an_alert_that_leaves_somebody_out_means_either_outline_too(
    town: Database, people: dict[str, int]
) -> None:
    around = Geofence((Circle(KEPT, 0.2),))
    wording = piena(left_out=LeftOut((CAPOLUOGO,), around))
    identifier = await drafted(town, wording)
    await taken(town, NEXT)
    await resettled(town)
    assert await told(town, await issued(town, identifier)) == those(people, "lost", "gained", "named")


async def test_an_area_that_was_left_out_stays_so_as_it_was_drawn(town: Database, people: dict[str, int]) -> None:
    identifier = await drafted(town, piena(areas=(COMUNE,), left_out=LeftOut((FORNACETTE,))))
    await taken(town, NEXT)
    await resettled(town)
    # By name they are told now: not all of the new outline is left out.
    assert await told(town, await issued(town, identifier)) == those(people, "gained", "capoluogo", "named")


@pytest.mark.parametrize("page", [1, 3, 7])
async def test_an_outline_that_comes_to_serve_between_two_pages_loses_nobody(
    town: Database, people: dict[str, int], monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    for name in ("FIRST_PAGE", "PAGE"):
        monkeypatch.setattr(fanout, name, page)
    monkeypatch.setattr(fanout, "FEW", 0)
    turn = [0]
    events: dict[int, Callable[[], Any]] = {
        2: lambda: resettled(town),
        4: lambda: resettled(town, NOW + REMEMBERED_FOR + timedelta(seconds=1)),
    }
    await taken(town, NEXT)
    dispatch = await issued(town, await drafted(town, piena()))
    paged = FanOut._page

    async def pages(self: FanOut, *args: Any) -> bool:
        turn[0] += 1
        if turn[0] in events:
            await events[turn[0]]()
        return await paged(self, *args)

    monkeypatch.setattr(FanOut, "_page", pages)
    assert await told(town, dispatch) >= those(people, "lost", "kept", "named")
    assert turn[0] > 2


async def test_the_row_alone_tells_again_who_was_meant(town: Database, people: dict[str, int]) -> None:
    wording = piena(
        areas=(FORNACETTE,),
        drawn=Geofence((Circle(IN_CAPOLUOGO, 0.4),)),
        left_out=LeftOut(drawn=Geofence((Circle(LOST, 0.1),))),
    )
    identifier = await drafted(town, wording)
    heard = await told(town, await issued(town, identifier))
    await taken(town, NEXT)
    for later in LATER.values():
        while await resettled(town, NOW + later):
            pass
    async with town.read() as session:
        row = await session.get_one(tables.Alert, identifier)
        target = issuing.target_of(row)
        old = select(tables.Area).where(tables.Area.code == FORNACETTE, tables.Area.version == 1)
        outline = atlas.fence_of((await session.scalars(old)).one())
        assert target.drawn is not None
        fences = [Geofence(one.shapes, one.within, target.without) for one in (outline, target.drawn)]
        by_hand = {
            number
            for name, number in people.items()
            for point in [EXAMPLES.get(name[:-2])]
            if point and any(fence.contains(point) for fence in fences)
        }
    assert heard == by_hand | those(people, "named")
    assert to_geojson(target.drawn) == row.geofence["drawn"]


async def test_who_moves_while_an_alert_waits_is_told_where_they_are_by_then(
    town: Database, people: dict[str, int]
) -> None:
    identifier = await drafted(town, piena())
    await taken(town, NEXT)
    async with town.write() as session:
        row = await session.get_one(tables.Recipient, people["capoluogo 1"])
        await keep_place(session, row, Place(Precision.ADDRESS, point=GAINED, label=Label.LAVORO), CALCINAIA)
        row = await session.get_one(tables.Recipient, people["lost 1"])
        await keep_place(session, row, Place(Precision.ADDRESS, point=IN_CAPOLUOGO), CALCINAIA)
    await resettled(town)
    meant = those(people, "lost", "kept", "gained", "named") - {people["lost 1"]} | {people["capoluogo 1"]}
    assert await told(town, await issued(town, identifier)) == meant


async def test_an_area_of_its_own_that_ends_before_the_alert_is_issued_still_means_its_people(
    town: Database, people: dict[str, int]
) -> None:
    await taken(town, argine())
    await resettled(town)
    identifier = await drafted(town, piena(areas=(argine().code,)), (await known(town))[COMUNE])
    async with town.write() as session:
        await surveying.end(session, argine().code, actor="anna", now=NOW)
    for later in LATER.values():
        await resettled(town, NOW + later)
        async with town.read() as session:
            row = await session.get_one(tables.Alert, identifier)
            target = issuing.target_of(row)
            selection = await select_recipients(session, target, (await known(town))[COMUNE])
            people_ = f"SELECT r.id {selection.people} AND NOT r.is_channel"
            assert set(await session.scalars(text(people_), selection.parameters)) == those(people, "gained")
