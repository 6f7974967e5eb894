"""Any geofence over some thousand people: SQLite, PostgreSQL and a look at everybody find the same ones."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text

from alerting.domain.authority import Authority
from alerting.domain.lanes import Lane
from alerting.domain.recipients import Place, Precision
from alerting.joining_many import Joining, join_many
from alerting.persistence import Database, tables
from alerting.persistence.migrations import migrate
from alerting.targeting import Target, preview, select_recipients
from geo.areas import STRAY_SHARE
from geo.shapes import Circle, Floats, Geofence, Point, Polygon, Shape
from tests.integration.calcinaia import NOW, SEAL, citizen, five_comuni
from tests.integration.surveys import CAPOLUOGO, COMUNE, FORNACETTE, area, as_known, taken
from tests.shared_servers import a_database
from tests.unit.geo_drawings import on_the_edges, rectangle, star

SOUTH, WEST, NORTH, EAST = 43.60, 10.50, 43.76, 10.70
"""Calcinaia for once, so large that a geofence has room in it: whoever stands outside would be told of everything."""
LARGE = area(COMUNE, Geofence((Polygon(rectangle(SOUTH, WEST, NORTH, EAST)),)))
BY_NAME = {FORNACETTE: 7, CAPOLUOGO: 5}


def _drawn() -> list[Shape]:
    """Circles and stars whose every edge has people on it."""
    random = np.random.default_rng(21)
    centers = [Point(*pair) for pair in random.uniform((43.62, 10.53), (43.74, 10.67), (24, 2)).round(4).tolist()]
    circles = [Circle(center, km) for center, km in zip(centers, random.uniform(0.05, 5, 12).tolist(), strict=False)]
    reaches = [random.uniform(0.004, 0.05, corners).tolist() for corners in random.integers(3, 9, 12)]
    stars = [Polygon(star(center, reach)) for center, reach in zip(centers[12:], reaches, strict=True)]
    return [*circles, *stars]


DRAWN = _drawn()


def _people() -> tuple[Floats, Floats]:
    random = np.random.default_rng(2)
    scattered = random.uniform((SOUTH, WEST), (NORTH, EAST), (1800, 2))
    corners = np.stack(np.meshgrid(np.arange(4360, 4377) / 100, np.arange(1050, 1071) / 100), axis=-1).reshape(-1, 2)
    middles, beside = np.add(corners, (0.005, 0.0)), np.add(corners, (1e-9, -1e-9))
    lats, lons = on_the_edges(Geofence(tuple(DRAWN)))
    everybody = np.concatenate([scattered, corners, beside, middles, np.stack([lats, lons], axis=1)])
    lat, lon = everybody.T
    here = (lat >= SOUTH) & (lat <= NORTH) & (lon >= WEST) & (lon <= EAST)
    return lat[here], lon[here]


LATS, LONS = _people()

rows = st.integers(4360, 4376).map(lambda n: n / 100)
columns = st.integers(1050, 1070).map(lambda n: n / 100)


@st.composite
def on_the_grid(draw: st.DrawFn) -> Polygon:
    """A rectangle along the edges of cells, some with a hole that is one too."""
    south, north = sorted(draw(st.lists(rows, min_size=2, max_size=2, unique=True)))
    west, east = sorted(draw(st.lists(columns, min_size=2, max_size=2, unique=True)))
    inside = north - south > 0.025 and east - west > 0.025
    if inside and draw(st.booleans()):
        return Polygon(
            rectangle(south, west, north, east), (rectangle(south + 0.01, west + 0.01, north - 0.01, east - 0.01),)
        )
    return Polygon(rectangle(south, west, north, east))


shapes = st.sampled_from(DRAWN) | on_the_grid()
fences = st.lists(shapes, min_size=1, max_size=4, unique=True).map(lambda some: Geofence(tuple(some)))


@dataclass(frozen=True)
class Towns:
    """The same people, with the same numbers, in both databases."""

    databases: tuple[Database, ...]
    authority: Authority
    ids: np.ndarray[tuple[int], np.dtype[np.int64]]
    """Of whoever stands at a point, in the order of LATS and LONS."""
    named: dict[str, list[int]]


@pytest.fixture
def both_urls(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[str]]:
    with a_database(request.getfixturevalue("postgresql_url"), request.getfixturevalue("postgresql_template")) as other:
        yield [f"sqlite+aiosqlite:///{tmp_path / 'allerta.db'}", other.render_as_string(hide_password=False)]


@pytest.fixture
async def towns(both_urls: list[str]) -> AsyncIterator[Towns]:
    points = zip(LATS.tolist(), LONS.tolist(), strict=True)
    places = [Place(Precision.ADDRESS, point=Point(lat, lon)) for lat, lon in points]
    places += [Place(Precision.FRAZIONE, (code,)) for code, many in BY_NAME.items() for _ in range(many)]
    people = [Joining(citizen(number), (place,), live=True) for number, place in enumerate(places)]
    async with AsyncExitStack() as stack:
        await migrate(both_urls[0])
        databases = [await stack.enter_async_context(five_comuni(url, COMUNE)) for url in both_urls]
        for database in databases:
            await taken(database, LARGE)  # nobody has joined yet: it serves at once
            async with database.write() as session:
                await join_many(session, people, SEAL, keyword="Attiva", now=NOW)
        found = [await _numbers(database, people) for database in databases]
        assert found[0] == found[1]
        ids, names = np.array(found[0][: len(LATS)]), iter(found[0][len(LATS) :])
        named = {code: [next(names) for _ in range(many)] for code, many in BY_NAME.items()}
        yield Towns(tuple(databases), await as_known(databases[0]), ids, named)


async def _numbers(database: Database, people: list[Joining]) -> list[int]:
    async with database.read() as session:
        rows = await session.execute(select(tables.Address.fingerprint, tables.Address.recipient_id))
        of_whom = {bytes(fingerprint): recipient for fingerprint, recipient in rows if fingerprint}
    return [of_whom[SEAL.fingerprint(one.who.address)] for one in people]


async def found_by(database: Database, target: Target, authority: Authority) -> set[int]:
    async with database.read() as session:
        selection = await select_recipients(session, target, authority)
        people = f"SELECT r.id {selection.people} AND NOT r.is_channel"
        every = (await session.scalars(text(people), selection.parameters)).all()
        few = await selection.if_few(session, 10_000)
        assert few is not None
        same = set(await session.scalars(text(f"SELECT r.id {few.people} AND NOT r.is_channel"), few.parameters))
        counted = await preview(session, target, authority, Lane.ROUTINE)
    assert len(every) == len(set(every))
    assert same == set(every)
    assert counted.recipients == len(every) + 1  # the public channel
    return set(every)


@pytest.mark.slow
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(drawn=fences, within=st.none() | fences, without=st.none() | fences)
async def test_the_databases_find_whom_a_look_at_everybody_finds(
    towns: Towns, drawn: Geofence, within: Geofence | None, without: Geofence | None
) -> None:
    drawn = Geofence(drawn.shapes, within)
    meant = set(towns.ids[Geofence(drawn.shapes, within, without).covers(LATS, LONS)].tolist())
    for code, people in towns.named.items():
        planar = towns.authority.territory.gazetteer.by_code(code).fence.planar
        left_out = without and planar.difference(without.planar).area <= STRAY_SHARE * planar.area
        if not left_out and shapely.intersects(planar, drawn.planar):
            meant.update(people)
    event("nobody" if not meant else "some" if len(meant) < len(LATS) / 2 else "most")
    for database in towns.databases:
        found = await found_by(database, Target(COMUNE, True, (), drawn, without), towns.authority)
        assert found == meant, (database.engine.dialect.name, found ^ meant)


@pytest.mark.slow
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    names=st.lists(st.sampled_from([COMUNE, FORNACETTE, CAPOLUOGO]), min_size=1, unique=True),
    drawn=st.none() | fences,
    without=st.none() | fences,
)
async def test_areas_by_name_are_the_same_places_as_their_outlines(
    towns: Towns, names: list[str], drawn: Geofence | None, without: Geofence | None
) -> None:
    territory = towns.authority.territory
    fences = [*(territory.gazetteer.by_code(code).fence for code in names), *filter(None, [drawn])]
    masks = [Geofence(fence.shapes, without=without).covers(LATS, LONS) for fence in fences]
    meant = set(towns.ids[np.logical_or.reduce(masks)].tolist())
    for code, people in towns.named.items():
        planar = territory.gazetteer.by_code(code).fence.planar
        left_out = without and planar.difference(without.planar).area <= STRAY_SHARE * planar.area
        touched = drawn is not None and shapely.intersects(planar, drawn.planar)
        if not left_out and (touched or {code, COMUNE} & set(names)):
            meant.update(people)
    for database in towns.databases:
        found = await found_by(database, Target(COMUNE, True, tuple(names), drawn, without), towns.authority)
        assert found == meant, (database.engine.dialect.name, found ^ meant)
