"""New outlines of Calcinaia's areas, the people there, and who belongs where: asked one by one."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import shapely
from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import atlas, surveying
from alerting.domain.areas import AreaState
from alerting.domain.authority import Authority
from alerting.domain.recipients import Label, Place, Precision
from alerting.persistence import Database, tables
from alerting.resettling import Resettling
from geo.areas import STRAY_SHARE, Area, AreaKind
from geo.shapes import Circle, Geofence, Point, Polygon
from tests.integration.calcinaia import AUTHORITIES, CALCINAIA, NOW
from tests.unit.geo_drawings import rectangle

COMUNE, FORNACETTE, CAPOLUOGO = "calcinaia", "calcinaia.fornacette", "calcinaia.capoluogo"
ARGINE = "calcinaia.argine"

LOST = Point(43.6745, 10.5725)
"""In Fornacette as the comune's file draws it, and not in the new outline."""
KEPT = Point(43.6720, 10.5950)
"""In both."""
GAINED = Point(43.6830, 10.6320)
"""In no frazione of the file, and in the new Fornacette."""
IN_CAPOLUOGO = Point(43.6860, 10.6140)
IN_PISA = Point(43.7160, 10.4019)


def ring(*corners: tuple[float, float]) -> Polygon:
    points = [Point(lat, lon) for lat, lon in corners]
    return Polygon((*points, points[0]))


NEW_FORNACETTE = Geofence(
    (
        ring(
            (43.676, 10.607), (43.660, 10.603), (43.664, 10.591), (43.668, 10.580), (43.683, 10.583), (43.684, 10.588),
            (43.680, 10.600),
        ),
        Polygon(rectangle(43.6795, 10.6265, 43.6865, 10.6375)),
    )
)  # fmt: skip
THIRD_FORNACETTE = Geofence((ring((43.676, 10.607), (43.660, 10.603), (43.664, 10.591), (43.680, 10.600)),))
ON_THE_BANK = Geofence((Circle(GAINED, 0.35),))
"""Overlaps nothing of the file's Fornacette, and the new one."""


def area(code: str, fence: Geofence | None = None, **changes: object) -> Area:
    """An area of Calcinaia's file, as another survey has it."""
    known = CALCINAIA.territory.gazetteer.by_code(code)
    return replace(known, fence=fence or known.fence, source="Rilievo 2026", **changes)  # type: ignore[arg-type]


def argine(fence: Geofence = ON_THE_BANK) -> Area:
    """What the comune drew for itself, across its frazioni."""
    return Area(ARGINE, "Argine", AreaKind.CUSTOM, fence, COMUNE, source="Ufficio tecnico")


async def taken(
    database: Database, *areas: Area, now: datetime = NOW, valid_from: datetime | None = None
) -> tuple[surveying.Change, ...]:
    async with database.write() as session:
        return await surveying.take(session, areas, now=now, valid_from=valid_from)


async def resettled(database: Database, now: datetime = NOW, authorities: dict[str, Authority] | None = None) -> int:
    """Until nothing is left to do. In how many steps."""
    steps, resettling = 0, Resettling(database, authorities or AUTHORITIES)
    while await resettling.look(now):
        steps += 1
        assert steps < 10_000, "it never comes to an end"
    return steps


async def as_known(database: Database, authority: Authority = CALCINAIA) -> Authority:
    """The authority as a process knows it that has just looked."""
    known = {authority.code: authority}
    await atlas.refresh(database, known)
    return known[authority.code]


def somewhere(chance: random.Random) -> list[Place]:
    """The places of somebody: points inside and outside, names, several of them, none."""
    labels = chance.sample(list(Label), chance.choices((0, 1, 2, 3), (1, 8, 3, 1))[0])
    return [_place(label, chance) for label in labels]


def _place(label: Label, chance: random.Random) -> Place:
    kind = chance.random()
    if kind < 0.2:
        return Place(Precision.FRAZIONE, (chance.choice((FORNACETTE, CAPOLUOGO)),), label=label)
    if kind < 0.25:
        return Place(Precision.COMUNE, (COMUNE,), label=label)
    if kind < 0.4:
        return Place(Precision.ADDRESS, point=chance.choice((LOST, KEPT, GAINED, IN_CAPOLUOGO, IN_PISA)), label=label)
    point = Point(chance.uniform(43.658, 43.706), chance.uniform(10.568, 10.652))
    return Place(Precision.ADDRESS, point=point, label=label)


# ── who belongs where ───────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Belonging:
    """The areas that serve, by recipient and label; and who has said where in the comune they are."""

    areas: dict[tuple[int, str], set[str]]
    located: set[int]


async def written(session: AsyncSession, authority: str = COMUNE) -> Belonging:
    """As the database has it; but for names of what is no area any more, which say nothing."""
    query = (
        select(tables.Place.recipient_id, tables.Place.label, tables.Area.code)
        .join(tables.Membership, tables.Membership.place_id == tables.Place.id)
        .join(tables.Area, tables.Area.id == tables.Membership.area)
        .where(tables.Area.state == AreaState.SERVING, tables.Area.authority == authority)
        .where(tables.Membership.recipient_id == tables.Place.recipient_id)
        .where(tables.Place.lat.is_not(None) | tables.Place.area.in_(_codes_that_serve(authority)))
    )
    areas: dict[tuple[int, str], set[str]] = {}
    for recipient, label, code in (await session.execute(query)).all():
        areas.setdefault((recipient, label), set()).add(code)
    located = select(tables.Recipient.id).where(tables.Recipient.authority == authority, tables.Recipient.located)
    return Belonging(areas, set(await session.scalars(located)))


def _codes_that_serve(authority: str) -> Select[str]:
    return select(tables.Area.code).where(tables.Area.state == AreaState.SERVING, tables.Area.authority == authority)


async def asked_one_by_one(session: AsyncSession, authority: str = COMUNE) -> Belonging:
    """By the rules as they are written: every place against every area that serves."""
    serving = select(tables.Area).where(tables.Area.state == AreaState.SERVING, tables.Area.authority == authority)
    known = [atlas.area_of(row) for row in await session.scalars(serving)]
    of_authority = select(tables.Recipient.id).where(tables.Recipient.authority == authority)
    places = await session.scalars(select(tables.Place).where(tables.Place.recipient_id.in_(of_authority)))
    areas, located, vague = dict[tuple[int, str], set[str]](), set[int](), set[int]()
    for place in places:
        codes = _codes_of(place, known)
        if codes:
            areas[place.recipient_id, place.label] = codes
        if codes and place.label == Label.CASA.value and (place.lat is not None or place.area != authority):
            located.add(place.recipient_id)
        if place.lat is None and (not codes or place.area == authority):
            vague.add(place.recipient_id)
    return Belonging(areas, located - vague)


def _codes_of(place: tables.Place, known: Sequence[Area]) -> set[str]:
    if place.lat is not None and place.lon is not None:
        point = Point(place.lat, place.lon)
        found = {area.code for area in known if area.fence.contains(point)}
    else:
        named = [area for area in known if area.code == place.area]
        beside = [other for one in named for other in known if one.parent and _overlap(one, other)]
        found = {area.code for area in (*named, *beside)}
    return found | {area.parent for area in known if area.code in found and area.parent}


def _overlap(one: Area, other: Area) -> bool:
    if one.kind is other.kind:
        return False
    shared = shapely.intersection(one.fence.planar, other.fence.planar).area
    return bool(shared > STRAY_SHARE * min(one.fence.planar.area, other.fence.planar.area))


async def assert_as_asked_one_by_one(database: Database, authority: str = COMUNE) -> Belonging:
    async with database.read() as session:
        found, meant = await written(session, authority), await asked_one_by_one(session, authority)
    wrong = {
        who: (found.areas.get(who), meant.areas.get(who))
        for who in found.areas.keys() | meant.areas.keys()
        if found.areas.get(who) != meant.areas.get(who)
    }
    assert not wrong, f"by place, what is written and what is right: {wrong}"
    assert found.located == meant.located, found.located ^ meant.located
    return found
