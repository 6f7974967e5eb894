"""Whom an alert would reach among five million people: a frazione, and all of Tuscany; asked as the API asks."""

import asyncio
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psycopg
import shapely

from alerting import atlas
from alerting.authorities import load
from alerting.domain.authority import Authority, Territory
from alerting.domain.lanes import Lane
from alerting.enrolling import enrol
from alerting.persistence import Database
from alerting.persistence.migrations import migrate
from alerting.sealing import Seal
from alerting.targeting import Target, preview
from geo.areas import Area, AreaKind
from geo.cells import cell_of
from geo.shapes import Bounds, Floats, Geofence, Point, Polygon, polygons_of
from tests.benchmarks import territory
from tests.benchmarks.bench_town import Runs, Services, bar, libpq

RUNS = 9
ITALY, REGION = "italia", "toscana"
ACCOUNT = f"whatsapp.{ITALY}"


class Crowd(NamedTuple):
    """So many people, spread evenly over a box."""

    people: int
    box: Bounds


CROWDS = (
    Crowd(4_828_000, Bounds(36.0, 6.7, 47.0, 18.5)),
    Crowd(170_000, Bounds(42.24, 9.69, 44.47, 12.37)),
    Crowd(1_000, Bounds(43.65, 10.56, 43.71, 10.66)),
)
"""Italy, Tuscany, Calcinaia: some 160,000 of them stand in Tuscany."""
NOWHERE = 1_000
"""Have never said where they live, and are told of everything."""


def audience(services: Services) -> Runs:
    """`preview.frazione_ms`, `preview.tuscany_ms` on PostgreSQL, `preview.sqlite_ms` of the frazione: each names its
    area. The same drawn, without a must: `preview.frazione_drawn_ms`, `preview.tuscany_drawn_ms`.
    """
    lats, lons = _homes()
    runs: Runs = {}
    with services.console.status(f"{len(lats) + NOWHERE:,} people subscribe"):
        url = services.database("audience")
        everybody = asyncio.run(_enrolled(url))
        with psycopg.connect(libpq(url), autocommit=True) as connection:
            _settle_postgresql(connection, everybody, lats, lons)
    named, drawn = _targets(everybody)
    for figure, target in {
        "preview.frazione_ms": named[0],
        "preview.tuscany_ms": named[1],
        "preview.frazione_drawn_ms": drawn[0],
        "preview.tuscany_drawn_ms": drawn[1],
    }.items():
        runs[figure] = _asked(services, figure, url, everybody, target)
    services.drop("audience")
    file = services.where / "audience.db"
    with services.console.status("the same on SQLite"):
        url = f"sqlite+aiosqlite:///{file}"
        everybody = asyncio.run(_enrolled(url))
        _settle_sqlite(file, everybody, lats, lons)
    runs["preview.sqlite_ms"] = _asked(services, "preview.sqlite_ms", url, everybody, named[0])
    file.unlink()
    return runs


def _asked(services: Services, figure: str, url: str, everybody: Authority, target: Target) -> list[float]:
    """Milliseconds of each run but the first two, which find nothing in memory yet."""

    async def ask() -> list[float]:
        database = Database(url)
        took = []
        with bar(services.console, figure, RUNS) as shown:
            for run in range(RUNS):
                started = time.perf_counter()
                async with database.read() as session:
                    found = await preview(session, target, everybody, Lane.EMERGENCY)
                took.append((time.perf_counter() - started) * 1e3)
                shown(run + 1)
        await database.close()
        if not NOWHERE == found.place_unknown < found.recipients:
            raise RuntimeError(f"{figure}: {found.recipients} people, {found.place_unknown} of them of no place")
        return took[2:]

    return asyncio.run(ask())


# ── where, and who ──────────────────────────────────────────────────────────────────────────────────


def _homes() -> tuple[Floats, Floats]:
    random = np.random.default_rng(5)
    lats = [random.uniform(crowd.box.south, crowd.box.north, crowd.people) for crowd in CROWDS]
    lons = [random.uniform(crowd.box.west, crowd.box.east, crowd.people) for crowd in CROWDS]
    return np.concatenate(lats), np.concatenate(lons)


async def _enrolled(url: str) -> Authority:
    """One who speaks for all of Italy, with Tuscany, its comuni and some frazioni as areas."""
    await migrate(url)
    calcinaia, known = load()["calcinaia"], territory.known()
    (access,) = (a for a in calcinaia.channels if a.name == "whatsapp.calcinaia")
    south, west, north, east = CROWDS[0].box
    corners = [(south, west), (south, east), (north, east), (north, west), (south, west)]
    whole = Geofence((Polygon(tuple(Point(lat, lon) for lat, lon in corners)),))
    tuscany = Geofence(polygons_of(shapely.union_all([comune.fence.planar for comune in known.comuni])))
    drawn = Territory(
        Area(ITALY, "Italia", AreaKind.CUSTOM, whole),
        known.frazioni,
        (
            Area(REGION, "Toscana", AreaKind.CUSTOM, tuscany, ITALY),
            *(replace(comune, parent=REGION) for comune in known.comuni),
        ),
    )
    everybody = replace(
        calcinaia, code=ITALY, istat="000000", channels=(replace(access, name=ACCOUNT),), territory=drawn
    )
    database = Database(url)
    async with database.write() as session:
        await enrol(session, [everybody], Seal(bytes(32)), share_of_limit=1.0, now=datetime.now(UTC))
    async with database.read() as session:
        everybody = replace(everybody, territory=await atlas.territory_of(session, everybody))
    await database.close()
    return everybody


def _targets(everybody: Authority) -> tuple[tuple[Target, Target], tuple[Target, Target]]:
    """The frazione and Tuscany, by name; and drawn."""
    areas = {area.code: area for area in everybody.territory.areas}
    frazioni = {area.name: area.code for area in everybody.territory.frazioni}
    two = (frazioni.get("Fornacette") or territory.known().frazione.code, REGION)
    fences = (areas[code].fence for code in two)
    frazione, tuscany = (Target(ITALY, True, (code,), None) for code in two)
    drawn_frazione, drawn_tuscany = (Target(ITALY, True, (), fence) for fence in fences)
    return (frazione, tuscany), (drawn_frazione, drawn_tuscany)


def _memberships(everybody: Authority, lats: Floats, lons: Floats) -> Iterator[tuple[int, Sequence[int]]]:
    """The number of each version, and the people that belong to it, numbered from 1."""
    for number, mask in everybody.territory.around_many(lats, lons).items():
        yield number, (np.flatnonzero(mask) + 1).tolist()


# ── rows, in bulk ───────────────────────────────────────────────────────────────────────────────────


def _settle_postgresql(connection: psycopg.Connection, everybody: Authority, lats: Floats, lons: Floats) -> None:
    people = {"placed": len(lats), "all": len(lats) + NOWHERE, "authority": ITALY, "account": ACCOUNT}
    with connection.transaction(), connection.cursor() as cursor:
        # Foreign keys hold by construction, and asking for each row would take longer than writing it.
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(
            """INSERT INTO recipients (id, authority, live, is_channel, language, located, joined_at)
               SELECT n, %(authority)s, true, false, 'it', n <= %(placed)s, now()
                 FROM generate_series(1, %(all)s::bigint) n""",
            people,
        )
        cursor.execute(
            """INSERT INTO addresses (recipient_id, account, fingerprint, sealed, rank, not_before)
               SELECT n, %(account)s, decode(md5(n::text), 'hex'), decode(md5('+39' || n), 'hex'), 0, 0
                 FROM generate_series(1, %(all)s::bigint) n""",
            people,
        )
        with cursor.copy("COPY places (id, recipient_id, label, lat, lon, cell) FROM STDIN BINARY") as copy:
            copy.set_types(["int8", "int8", "varchar", "float8", "float8", "int8"])
            for row in _places(lats, lons):
                copy.write_row(row)
        with cursor.copy("COPY memberships (area, recipient_id, place_id) FROM STDIN BINARY") as copy:
            copy.set_types(["int8", "int8", "int8"])
            for area, members in _memberships(everybody, lats, lons):
                for member in members:
                    copy.write_row((area, member, member))
    connection.execute("VACUUM ANALYZE recipients, addresses, places, memberships, areas")
    connection.execute("CHECKPOINT")


def _settle_sqlite(file: Path, everybody: Authority, lats: Floats, lons: Floats) -> None:
    everyone = range(1, len(lats) + NOWHERE + 1)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.executemany(
            "INSERT INTO recipients (id, authority, live, is_channel, language, located, joined_at)"
            f" VALUES (?, '{ITALY}', 1, 0, 'it', ?, '2026-11-26 00:00:00')",
            ((n, n <= len(lats)) for n in everyone),
        )
        connection.executemany(
            "INSERT INTO addresses (recipient_id, account, fingerprint, sealed, rank, not_before)"
            f" VALUES (?, '{ACCOUNT}', ?, x'00', 0, 0)",
            ((n, n.to_bytes(16)) for n in everyone),
        )
        connection.executemany(
            "INSERT INTO places (id, recipient_id, label, lat, lon, cell) VALUES (?, ?, ?, ?, ?, ?)",
            _places(lats, lons),
        )
        for area, members in _memberships(everybody, lats, lons):
            connection.executemany(
                "INSERT INTO memberships (area, recipient_id, place_id) VALUES (?, ?, ?)",
                ((area, member, member) for member in members),
            )
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("ANALYZE")


def _places(lats: Floats, lons: Floats) -> Iterator[tuple[int, int, str, float, float, int]]:
    homes = zip(lats.tolist(), lons.tolist(), cell_of(lats, lons).tolist(), strict=True)
    return ((n, n, "casa", lat, lon, cell) for n, (lat, lon, cell) in enumerate(homes, start=1))
