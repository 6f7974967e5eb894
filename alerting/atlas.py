"""The areas as they stand in the database, and how every process comes to know them.

What serves can change while processes work: somebody imports a better outline. Each process remembers the areas of
its authorities, and looks once a second whether there is a new edition. Whoever writes who is inside asks in the same
transaction, and holds the edition until they are done: nobody joins past a version that is being prepared.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import replace

import structlog
from sqlalchemy import select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from alerting.domain.areas import KNOWS_WHO, AreaState
from alerting.domain.authority import Authority, Territory
from alerting.persistence import Database, tables
from geo.areas import Area, AreaKind
from geo.drawing import IMPORTED
from geo.geojson import parse_geojson
from geo.shapes import Geofence

log = structlog.get_logger()

LOOK_EVERY = 1.0  # seconds

Authorities = dict[str, Authority]


# ── what each process remembers ─────────────────────────────────────────────────────────────────────


async def follow(database: Database, authorities: Authorities) -> None:
    """Keep the territories of the authorities as the database has them, until cancelled."""
    while True:
        try:
            await refresh(database, authorities)
        except (SQLAlchemyError, OSError) as error:
            log.warning("the areas could not be looked at", error=type(error).__name__)
        await asyncio.sleep(LOOK_EVERY)


async def refresh(database: Database, authorities: Authorities) -> None:
    """Read the territories anew where there is another edition than they are of."""
    async with database.read() as session:
        edition = await session.scalar(select(tables.Atlas.edition))
        for code, authority in list(authorities.items()):
            if authority.territory.edition != edition:
                authorities[code] = replace(authority, territory=await territory_of(session, authority))


async def current(session: AsyncSession, authority: Authority) -> Territory:
    """The territory as it is in this transaction, and stays until its end: for whoever writes who is inside."""
    edition = await session.scalar(select(tables.Atlas.edition).with_for_update(read=True))
    if authority.territory.edition == edition:
        return authority.territory
    return await territory_of(session, authority)


async def share(session: AsyncSession) -> None:
    """Nothing changes what there is until this transaction ends: before the rows of several people are touched."""
    await session.scalar(select(tables.Atlas.edition).with_for_update(read=True))


async def territory_of(session: AsyncSession, authority: Authority) -> Territory:
    """What the database has of an authority; what its file says where that was never enrolled."""
    edition = await session.scalar(select(tables.Atlas.edition)) or 0
    theirs = select(tables.Area).where(tables.Area.authority == authority.code, tables.Area.state.in_(KNOWS_WHO))
    rows = (await session.scalars(theirs.order_by(tables.Area.code, tables.Area.version))).all()
    serving = {row.code: area_of(row) for row in rows if row.state is AreaState.SERVING}
    if authority.code not in serving:
        return replace(authority.territory, edition=edition)
    of_kind = {kind: tuple(area for area in serving.values() if area.kind is kind) for kind in AreaKind}
    return Territory(
        comune=serving[authority.code],
        frazioni=_as_in_file(of_kind[AreaKind.FRAZIONE], authority),
        own=tuple(
            area for area in serving.values() if area.kind is not AreaKind.FRAZIONE and area.code != authority.code
        ),
        edition=edition,
        versions={row.id: area_of(row) for row in rows},
    )


def _as_in_file(frazioni: Iterable[Area], authority: Authority) -> tuple[Area, ...]:
    """Those of the file in its order, which is the comune's; then the others by code."""
    order = {area.code: number for number, area in enumerate(authority.territory.frazioni)}
    return tuple(sorted(frazioni, key=lambda area: (order.get(area.code, len(order)), area.code)))


# ── rows ────────────────────────────────────────────────────────────────────────────────────────────


def area_of(row: tables.Area) -> Area:
    """A version of an area, with its boundary."""
    return Area(
        code=row.code,
        name=row.name,
        kind=row.kind,
        fence=fence_of(row),
        parent=row.parent,
        version=row.version,
        source=row.source,
        licence=row.licence,
        demonstration=row.demonstration,
    )


_drawn: dict[str, Geofence] = {}
"""Boundaries by the hash of their rows: to check a thousand corners again takes longer than to read them."""
MOST_REMEMBERED = 5_000


def fence_of(row: tables.Area) -> Geofence:
    """The boundary of a row, as it was imported."""
    if not row.hash or row.hash not in _drawn:
        fence = parse_geojson(row.boundary, IMPORTED)
        if not row.hash:
            return fence
        if len(_drawn) >= MOST_REMEMBERED:
            _drawn.clear()
        _drawn[row.hash] = fence
    return _drawn[row.hash]


async def serving(session: AsyncSession, *kinds: AreaKind) -> tuple[Area, ...]:
    """All areas that serve, of these kinds, by code."""
    query = select(tables.Area).where(tables.Area.state == AreaState.SERVING, tables.Area.kind.in_(kinds))
    return tuple(map(area_of, await session.scalars(query.order_by(tables.Area.code))))


async def hold(session: AsyncSession) -> None:
    """Nobody reads or writes who is inside until this transaction ends: for whoever changes what there is."""
    await session.scalar(select(tables.Atlas.edition).with_for_update())


async def new_edition(session: AsyncSession) -> None:
    """What there is has changed. The caller holds the atlas."""
    await session.execute(update(tables.Atlas).values(edition=tables.Atlas.edition + 1))
