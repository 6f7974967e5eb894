"""The schema goes up and down with people in it, on both databases, and is then what a new one would be."""

import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import IntegrityError

from alerting.persistence import Database, tables
from alerting.persistence.migrations import configuration, migrate
from geo.cells import cell_of
from geo.geojson import to_geojson
from tests.integration.calcinaia import CALCINAIA, NOW
from tests.integration.surveys import (
    COMUNE,
    FORNACETTE,
    KEPT,
    NEW_FORNACETTE,
    area,
    assert_as_asked_one_by_one,
    resettled,
    taken,
)
from tests.shared_servers import a_database

BEFORE = "0002"
OF_ONE_DATABASE = {"places_by_cell", "recipients_told", "addresses_told"}
"""Indexes that are another one on PostgreSQL than on SQLite, or only there: Alembic does not see which."""
ANNA, BRUNO = 1, 2
"""At a point in Fornacette, and by its name."""
AREAS = """INSERT INTO areas
    (code, version, kind, name, parent, authority, boundary, source, demonstration, valid_from, valid_to)"""
BEFORE_THEM = (
    "INSERT INTO authorities (code, istat, name, file_hash) VALUES ('calcinaia', '050004', 'Comune di Calcinaia', '')",
    f"""{AREAS} VALUES ('calcinaia', 1, 'comune', 'Calcinaia', NULL, 'calcinaia', :comune, 's', true,
        '2026-01-01', NULL)""",
    f"""{AREAS} VALUES ('calcinaia.fornacette', 1, 'frazione', 'Fornacette', 'calcinaia', 'calcinaia', :old, 's', true,
        '2026-01-01', '2026-02-01')""",
    f"""{AREAS} VALUES ('calcinaia.fornacette', 2, 'frazione', 'Fornacette', 'calcinaia', 'calcinaia', :new, 's', true,
        '2026-02-01', NULL)""",
    """INSERT INTO recipients (id, authority, live, is_channel, language, located, joined_at) VALUES
        (1, 'calcinaia', true, false, 'it', true, '2026-01-01'),
        (2, 'calcinaia', true, false, 'it', true, '2026-01-01'),
        (3, 'calcinaia', true, false, 'it', false, '2026-01-01')""",
    """INSERT INTO places (id, recipient_id, label, lat, lon, cell, area) VALUES
        (70, 1, 'casa', :lat, :lon, :cell, NULL), (71, 2, 'casa', NULL, NULL, NULL, 'calcinaia.fornacette')""",
    """INSERT INTO memberships (area, recipient_id) VALUES
        ('calcinaia', 1), ('calcinaia.fornacette', 1), ('calcinaia', 2), ('calcinaia.fornacette', 2)""",
)
VALUES = {
    "comune": json.dumps(to_geojson(CALCINAIA.territory.fence)),
    "old": json.dumps(to_geojson(area(FORNACETTE).fence)),
    "new": json.dumps(to_geojson(NEW_FORNACETTE)),
    "lat": KEPT.lat,
    "lon": KEPT.lon,
    "cell": cell_of(KEPT.lat, KEPT.lon),
}


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without a single table."""
    if request.param == "sqlite":
        yield f"sqlite+aiosqlite:///{tmp_path / 'allerta.db'}"
        return
    with a_database(request.getfixturevalue("postgresql_url")) as database:
        yield database.render_as_string(hide_password=False)


@pytest.fixture
async def before(empty_url: str) -> AsyncIterator[Database]:
    """As it was before areas had versions that serve, with people in Calcinaia."""
    database = Database(empty_url)
    await moved(database, command.upgrade, BEFORE)
    async with database.write() as session:
        for statement in BEFORE_THEM:
            values = {name: value for name, value in VALUES.items() if f":{name}" in statement}
            await session.execute(text(statement), values)
    yield database
    await database.close()


async def moved(database: Database, way: Callable[..., None], revision: str) -> None:
    async with database.engine.connect() as connection:
        await connection.run_sync(lambda sync: way(configuration(sync), revision))
        await connection.commit()


async def rows(database: Database, query: str) -> list[tuple[Any, ...]]:
    async with database.read() as session:
        return [tuple(row) for row in (await session.execute(text(query))).all()]


async def schema(database: Database) -> dict[str, tuple[Any, ...]]:
    """Every table: its columns, keys, checks and indexes, as far as the database tells of them."""

    def read(connection: Connection) -> dict[str, tuple[Any, ...]]:
        look = inspect(connection)
        return {
            table: (
                [(c["name"], str(c["type"]), c["nullable"]) for c in look.get_columns(table)],
                look.get_pk_constraint(table)["constrained_columns"],
                _sorted(look.get_foreign_keys(table)),
                _sorted(look.get_unique_constraints(table)),
                _sorted(look.get_check_constraints(table)),
                _sorted(look.get_indexes(table)),
            )
            for table in sorted(look.get_table_names())
        }

    async with database.engine.connect() as connection:
        return await connection.run_sync(read)


def _sorted(found: Sequence[Any]) -> list[str]:
    return sorted(json.dumps(one, sort_keys=True, default=str) for one in found)


async def test_people_keep_their_areas_on_the_way_up(before: Database, empty_url: str) -> None:
    await migrate(empty_url)
    assert await rows(before, "SELECT code, version, state FROM areas ORDER BY code, version") == [
        ("calcinaia", 1, "serving"),
        ("calcinaia.fornacette", 1, "cleared"),
        ("calcinaia.fornacette", 2, "serving"),
    ]
    query = """SELECT m.recipient_id, m.place_id, a.code, a.version FROM memberships m JOIN areas a ON a.id = m.area
                ORDER BY 1, 3"""
    assert await rows(before, query) == [
        (ANNA, 70, "calcinaia", 1),
        (ANNA, 70, "calcinaia.fornacette", 2),
        (BRUNO, 71, "calcinaia", 1),
        (BRUNO, 71, "calcinaia.fornacette", 2),
    ]
    assert await rows(before, "SELECT id, edition FROM atlas") == [(1, 1)]
    await assert_as_asked_one_by_one(before)


async def test_a_survey_can_be_taken_in_right_after_it(before: Database, empty_url: str) -> None:
    await migrate(empty_url)
    await taken(before, area(FORNACETTE), area(COMUNE))
    await resettled(before)
    query = "SELECT version, state FROM areas WHERE code = 'calcinaia.fornacette' ORDER BY version"
    assert await rows(before, query) == [(1, "cleared"), (2, "ended"), (3, "serving")]
    await assert_as_asked_one_by_one(before)


async def test_down_again_everybody_is_in_the_areas_that_serve_by_their_codes(before: Database, empty_url: str) -> None:
    kept = [
        await rows(before, f"SELECT * FROM {name} ORDER BY 1, 2") for name in ("memberships", "places", "recipients")
    ]
    await migrate(empty_url)
    await taken(before, area(FORNACETTE))
    await resettled(before)
    await taken(before, area(COMUNE), valid_from=NOW.replace(year=2030))
    await resettled(before)
    await moved(before, command.downgrade, BEFORE)
    assert [
        await rows(before, f"SELECT * FROM {name} ORDER BY 1, 2") for name in ("memberships", "places", "recipients")
    ] == kept
    assert await rows(before, "SELECT code, version, valid_to IS NULL FROM areas ORDER BY code, version") == [
        ("calcinaia", 1, True),
        ("calcinaia.fornacette", 1, False),
        ("calcinaia.fornacette", 2, False),
        ("calcinaia.fornacette", 3, True),
    ]
    await migrate(empty_url)
    await assert_as_asked_one_by_one(before)


async def test_up_and_down_and_up_comes_to_the_same_tables_as_once(before: Database, empty_url: str) -> None:
    old = await schema(before)
    await migrate(empty_url)
    new = await schema(before)
    await moved(before, command.downgrade, BEFORE)
    assert await schema(before) == old
    await migrate(empty_url)
    assert await schema(before) == new
    async with before.engine.connect() as connection:
        different = await connection.run_sync(
            lambda sync: compare_metadata(MigrationContext.configure(sync), tables.Table.metadata)
        )
    of_both = [one for one in different if not (one[0].endswith("_index") and one[1].name in OF_ONE_DATABASE)]
    assert of_both == []


async def test_a_migration_that_fails_halfway_changes_nothing_and_can_be_run_again(
    before: Database, empty_url: str
) -> None:
    old = await schema(before)
    async with before.write() as session:
        await session.execute(text("UPDATE places SET lat = 95 WHERE id = 70"))  # on no map: the new rule forbids it
    with pytest.raises(IntegrityError):
        await migrate(empty_url)
    assert await schema(before) == old
    async with before.write() as session:
        await session.execute(text("UPDATE places SET lat = :lat WHERE id = 70"), {"lat": KEPT.lat})
    await migrate(empty_url)
    await assert_as_asked_one_by_one(before)


async def test_no_place_is_nowhere_on_earth(before: Database, empty_url: str) -> None:
    await migrate(empty_url)
    for place in ("'NaN', 10.6, 1, NULL", "43.6, 10.6, NULL, NULL", "91, 10.6, 1, NULL", "NULL, NULL, NULL, NULL"):
        with pytest.raises(IntegrityError):
            async with before.write() as session:
                await session.execute(
                    text(f"INSERT INTO places (recipient_id, label, lat, lon, cell, area) VALUES (3, 'casa', {place})")
                )


SAID_AT_0005 = (
    "INSERT INTO authorities (code, istat, name, file_hash) VALUES ('calcinaia', '050004', 'Comune di Calcinaia', '')",
    """INSERT INTO channel_accounts (name, authority, channel, live, identity, settings, paced_as) VALUES
        ('whatsapp.calcinaia', 'calcinaia', 'whatsapp', true, '+39050123456', '{}', 'whatsapp.calcinaia')""",
    """INSERT INTO recipients (id, authority, live, is_channel, language, located, joined_at) VALUES
        (1, 'calcinaia', true, false, 'it', false, '2026-01-01'), (2, 'calcinaia', true, false, 'it', false,
        '2026-01-01')""",
    """INSERT INTO addresses (id, recipient_id, account, fingerprint, sealed, rank, not_before, refused_at,
                              refused_because)
       VALUES (1, 1, 'whatsapp.calcinaia', :one, :one, 0, 0, NULL, NULL),
              (2, 2, 'whatsapp.calcinaia', :two, :two, 0, 0, '2026-11-01', 'blocked_by_person')""",
    """INSERT INTO dispatches (id, authority, lane, live, issued_at, not_after, fanned_accounts, fanned_to, last_seq,
                               audience, touched_at)
       VALUES (1, 'calcinaia', 'emergency', true, '2026-11-21', '2026-11-22', 1, 0, 1, 1, 0)""",
    """INSERT INTO batches (id, dispatch_id, channel, account, lane, first, last, state, told, touched_at)
       VALUES (1, 1, 'whatsapp', 'whatsapp.calcinaia', 'emergency', 1, 1, 'done', 1, 0)""",
    """INSERT INTO deliveries (dispatch_id, seq, recipient_id, address_id, progress, attempts, due_at, claimed_until)
       VALUES (1, 1, 1, 1, 7, 1, 0, 0)""",
)


async def test_what_was_said_before_there_were_fallbacks_stays_said_on_the_way_up_and_down(empty_url: str) -> None:
    database = Database(empty_url)
    await moved(database, command.upgrade, "0005")
    old = await schema(database)
    async with database.write() as session:
        for statement in SAID_AT_0005:
            values = {"one": b"1", "two": b"2"} if ":one" in statement else {}
            await session.execute(text(statement), values)
    named = ("batches", "deliveries", "dispatches", "recipients")
    kept = [await rows(database, f"SELECT * FROM {name} ORDER BY 1, 2") for name in named]

    await migrate(empty_url)
    assert await rows(database, "SELECT id, state, silence_at FROM batches") == [(1, "done", 0.0)]
    assert await rows(database, "SELECT id, rank, refused_because, other_fingerprint FROM addresses ORDER BY 1") == [
        (1, 0, None, None),
        (2, 0, "blocked_by_person", None),
    ]
    assert await rows(database, "SELECT fallback FROM authorities") == [(None,)]
    async with database.write() as session:
        await session.execute(
            text("INSERT INTO budgets (id, authority, lane, month) VALUES (1, 'calcinaia', 'emergency', '2026-11')")
        )
        await session.execute(
            text("""INSERT INTO fallbacks (dispatch_id, seq, because, due_at, state, micro_euro, budget)
                    VALUES (1, 1, 'refused', 0, 'nowhere', 0, 1)""")
        )
        await session.execute(
            text("""INSERT INTO spending
                    (dispatch_id, account, month, authority, lane, channel, texts, parts, micro_euro)
                    VALUES (1, 'whatsapp.calcinaia', '2026-11', 'calcinaia', 'emergency', 'whatsapp', 1, 1, 5)""")
        )

    await moved(database, command.downgrade, "0005")
    assert await schema(database) == old
    assert [await rows(database, f"SELECT * FROM {name} ORDER BY 1, 2") for name in named] == kept
    await migrate(empty_url)
    await database.close()
