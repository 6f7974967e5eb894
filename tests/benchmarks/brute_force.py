"""Five hundred drawings against people in PostgreSQL: whom the grid finds, and whom GEOS and Geod find one by one."""

import asyncio
import math
from datetime import UTC, datetime

import numpy as np
import psycopg
from sqlalchemy import text

from alerting.authorities import load
from alerting.enrolling import enrol
from alerting.persistence import Database
from alerting.persistence.migrations import migrate
from alerting.sealing import Seal
from alerting.targeting import Target, select_recipients
from geo.cells import STEP, cell_of
from geo.shapes import Circle, Floats, Geofence, Point, Polygon, Shape
from tests.benchmarks.bench_town import Runs, Services, bar, libpq
from tests.unit.geo_drawings import one_by_one, star

FENCES = 500
PEOPLE = 2_000
SOUTH, WEST, NORTH, EAST = 43.60, 10.50, 43.80, 10.70
ON_THE_GRID = 0.2
"""The share of people and of corners that stand exactly on the edge of a cell."""


def brute_force(services: Services) -> Runs:
    """`match.wrong`: people of all fences that only one of the two finds."""
    random = np.random.default_rng(500)
    lats, lons = _coordinates(random, PEOPLE)
    url = services.database("brute_force")
    asyncio.run(_enrolled(url))
    with psycopg.connect(libpq(url), autocommit=True) as connection:
        _settle(connection, lats, lons)
    fences = [_fence(random) for _ in range(FENCES)]
    wrong = asyncio.run(_wrong(services, url, fences, lats, lons))
    services.drop("brute_force")
    return {"match.wrong": [float(wrong)]}


async def _wrong(services: Services, url: str, fences: list[Geofence], lats: Floats, lons: Floats) -> int:
    database, wrong, found_at_all = Database(url), 0, 0
    async with database.read() as session:
        calcinaia = load()["calcinaia"]
        with bar(services.console, "against brute force", len(fences)) as shown:
            for number, fence in enumerate(fences, start=1):
                target = Target(calcinaia.code, True, (), fence, fence.without)
                selection = await select_recipients(session, target, calcinaia)
                ids = text(f"SELECT r.id {selection.people} AND NOT r.is_channel")
                found = set((await session.scalars(ids, selection.parameters)).all())
                meant = set((np.flatnonzero(one_by_one(fence, lats, lons)) + FIRST).tolist())
                wrong += len(found ^ meant)
                found_at_all += len(found)
                shown(number)
    await database.close()
    if not len(fences) < found_at_all < len(fences) * PEOPLE / 2:
        raise RuntimeError(f"{found_at_all} people in {len(fences)} fences: these tell nothing apart")
    return wrong


FIRST = 1_000
"""People are numbered from here: the public channels were enrolled before."""


def _coordinates(random: np.random.Generator, count: int) -> tuple[Floats, Floats]:
    lats, lons = random.uniform(SOUTH, NORTH, count), random.uniform(WEST, EAST, count)
    for each in (lats, lons):
        some = random.random(count) < ON_THE_GRID
        each[some] = np.round(each[some] / STEP) * STEP
    return lats, lons


def _fence(random: np.random.Generator) -> Geofence:
    """A union of one to four polygons, some with holes, and circles; one in three leaves something out."""
    shapes = tuple(_shape(random) for _ in range(random.integers(1, 5)))
    return Geofence(shapes, without=Geofence((_shape(random),)) if random.random() < 1 / 3 else None)


def _shape(random: np.random.Generator) -> Shape:
    (lat,), (lon,) = _coordinates(random, 1)
    center = Point(float(lat), float(lon))
    match random.integers(3):
        case 0:
            return Circle(center, float(random.uniform(0.05, 6)))
        case 1:  # on the edges of cells
            south, west = math.floor(center.lat / STEP) * STEP, math.floor(center.lon / STEP) * STEP
            up, along = (int(random.integers(1, 6)) * STEP for _ in range(2))
            corners = [(south, west), (south, west + along), (south + up, west + along), (south + up, west)]
            ring = tuple(Point(round(lat, 2), round(lon, 2)) for lat, lon in corners)
            return Polygon((*ring, ring[0]))
        case _:
            # An edge between two corners at least 0.02 away, seen under at most 120°, never comes nearer than 0.01.
            outer = star(center, random.uniform(0.02, 0.08, random.integers(3, 13)).tolist())
            hole = star(center, [float(random.uniform(0.001, 0.009))] * 5) if random.random() < 0.5 else None
            return Polygon(outer, (hole,) if hole else ())


async def _enrolled(url: str) -> None:
    await migrate(url)
    database = Database(url)
    async with database.write() as session:
        await enrol(session, [load()["calcinaia"]], Seal(bytes(32)), share_of_limit=1.0, now=datetime.now(UTC))
    await database.close()


def _settle(connection: psycopg.Connection, lats: Floats, lons: Floats) -> None:
    """Their homes are known, wherever they are: whoever's is not is told of everything."""
    people = range(FIRST, FIRST + len(lats))
    homes = zip(people, lats.tolist(), lons.tolist(), cell_of(lats, lons).tolist(), strict=True)
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(
            """INSERT INTO recipients (id, authority, live, is_channel, language, located, joined_at)
               VALUES (%s, 'calcinaia', true, false, 'it', true, now())""",
            [(n,) for n in people],
        )
        cursor.executemany(
            """INSERT INTO addresses (recipient_id, account, fingerprint, sealed, rank, not_before)
               VALUES (%s, 'whatsapp.calcinaia', %s, 'x', 0, 0)""",
            [(n, n.to_bytes(16, "big")) for n in people],
        )
        cursor.executemany(
            "INSERT INTO places (recipient_id, label, lat, lon, cell) VALUES (%s, 'casa', %s, %s, %s)", homes
        )
    connection.execute("ANALYZE")
