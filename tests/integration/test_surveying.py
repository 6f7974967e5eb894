"""What a new outline means for what is known: nothing, another version, an area that is no more."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select, text

from alerting import surveying
from alerting.composing import Refused
from alerting.domain.areas import AreaState
from alerting.domain.authority import Authority
from alerting.domain.recipients import Label, Place, Precision
from alerting.enrolling import enrol
from alerting.issuing import draft
from alerting.persistence import Database, tables
from alerting.subscribing import join, keep_place
from alerting.surveying import NoSuchArea, What, WholeTerritory
from alerting.targeting import Target, select_recipients
from geo.areas import Area, AreaKind
from geo.shapes import Geofence
from tests.integration.calcinaia import ANNA, CALCINAIA, NOW, SEAL, citizen, count, five_comuni, piena
from tests.integration.surveys import (
    CAPOLUOGO,
    COMUNE,
    FORNACETTE,
    IN_CAPOLUOGO,
    KEPT,
    LOST,
    NEW_FORNACETTE,
    area,
    argine,
    as_known,
    assert_as_asked_one_by_one,
    resettled,
    ring,
    taken,
)

NEXT = area(FORNACETTE, NEW_FORNACETTE)
LATER = NOW + timedelta(days=30)
VICOPISANO = Area(
    "050038", "Vicopisano", AreaKind.COMUNE, Geofence((ring((43.70, 10.57), (43.70, 10.60), (43.72, 10.58)),))
)


@pytest.fixture
async def town(database_url: str) -> AsyncIterator[Database]:
    async with five_comuni(database_url, "calcinaia", "cascina") as database:
        yield database


async def inhabited(town: Database, *places: Place) -> list[int]:
    """Somebody for each of these places."""
    async with town.write() as session:
        return [
            (await join(session, citizen(number), SEAL, keyword="Attiva", now=NOW, places=[place]))[0]
            for number, place in enumerate(places)
        ]


async def rows(town: Database, code: str) -> list[tables.Area]:
    async with town.read() as session:
        query = select(tables.Area).where(tables.Area.code == code).order_by(tables.Area.version)
        return list((await session.scalars(query)).all())


async def told(town: Database, *codes: str, versions: dict[str, int] | None = None) -> set[int]:
    """The people of an alert to these areas; the comune's public channel is none."""
    async with town.read() as session:
        target = Target(COMUNE, True, codes, None, versions=versions or {})
        selection = await select_recipients(session, target, await as_known(town))
        people = f"SELECT r.id {selection.people} AND NOT r.is_channel"
        return set(await session.scalars(text(people), selection.parameters))


IN_FORNACETTE = Place(Precision.FRAZIONE, (FORNACETTE,))
AT_CAPOLUOGO = Place(Precision.ADDRESS, point=IN_CAPOLUOGO)


# ── what is new ─────────────────────────────────────────────────────────────────────────────────────


async def test_the_same_file_twice_is_no_new_version(town: Database) -> None:
    await inhabited(town, IN_FORNACETTE)
    for expected in (What.FOLLOWS, What.SAME):  # while it is prepared
        changes = await taken(town, NEXT, area(CAPOLUOGO))
        assert [(one.what, one.area.version, one.authority) for one in changes] == [(expected, 2, COMUNE)] * 2
    await resettled(town)
    async with town.read() as session:
        edition = await session.scalar(select(tables.Atlas.edition))
    assert {one.what for one in await taken(town, NEXT, area(CAPOLUOGO))} == {What.SAME}
    assert [(row.version, row.state) for row in await rows(town, FORNACETTE)] == [
        (1, AreaState.ENDED),
        (2, AreaState.SERVING),
    ]
    async with town.read() as session:
        assert await session.scalar(select(tables.Atlas.edition)) == edition


@pytest.mark.parametrize("changes", [{"name": "Le Fornacette"}, {"source": "ISTAT"}, {"licence": "CC BY 4.0"}])
async def test_another_name_source_or_licence_is_another_version(town: Database, changes: dict[str, str]) -> None:
    await taken(town, NEXT)
    (change,) = await taken(town, replace(NEXT, **changes))  # type: ignore[arg-type]
    assert (change.what, change.area.version) == (What.FOLLOWS, 3)


async def test_planning_changes_nothing(town: Database) -> None:
    async with town.read() as session:
        before = [await count(session, table) for table in (tables.Area, tables.AuditEntry)]
        (change,) = await surveying.plan(session, [NEXT])
        assert (change.what, change.area.version) == (What.FOLLOWS, 2)
        assert [await count(session, table) for table in (tables.Area, tables.AuditEntry)] == before


async def test_where_nobody_has_subscribed_and_where_nobody_speaks_it_serves_at_once(town: Database) -> None:
    changes = await taken(town, NEXT, VICOPISANO)
    assert [(one.what, one.authority) for one in changes] == [(What.FOLLOWS, COMUNE), (What.NEW, None)]
    assert [row.state for row in await rows(town, FORNACETTE)] == [AreaState.ENDED, AreaState.SERVING]
    assert [row.state for row in await rows(town, VICOPISANO.code)] == [AreaState.SERVING]
    await taken(town, replace(VICOPISANO, name="Comune di Vicopisano"), valid_from=LATER)
    assert [row.state for row in await rows(town, VICOPISANO.code)] == [AreaState.SERVING, AreaState.PREPARING]
    await resettled(town, LATER)
    assert [row.state for row in await rows(town, VICOPISANO.code)] == [AreaState.ENDED, AreaState.SERVING]


async def test_an_area_is_a_part_of_the_authority_above_it_however_many_are_between(town: Database) -> None:
    school = Area("scuola", "Scuola", AreaKind.CUSTOM, NEW_FORNACETTE, "calcinaia.quartiere")
    quarter = Area("calcinaia.quartiere", "Quartiere", AreaKind.CUSTOM, NEW_FORNACETTE, FORNACETTE)
    ring_of_parents = [replace(VICOPISANO, code="a", parent="b"), replace(VICOPISANO, code="b", parent="a")]
    changes = await taken(town, school, quarter, *ring_of_parents)
    assert [one.authority for one in changes] == [COMUNE, COMUNE, None, None]
    (later,) = await taken(town, replace(school, name="Scuola Morandi"))  # what is above it is known by now
    assert later.authority == COMUNE


async def test_a_new_outline_of_the_comune_notes_the_frazioni_that_stick_out(town: Database) -> None:
    async with town.read() as session:
        (change,) = await surveying.plan(session, [area(COMUNE, area(FORNACETTE).fence)])
        (same,) = await surveying.plan(session, [area(COMUNE)])
    (note,) = change.notes
    assert "km² of Calcinaia capoluogo (calcinaia.capoluogo) lie outside this outline of Calcinaia" in note
    assert same.notes == ()


async def test_what_was_taken_in_is_in_the_audit_and_nothing_where_nothing_changed(town: Database) -> None:
    for _ in range(2):
        async with town.write() as session:
            changes = await surveying.take(session, [NEXT, area(CAPOLUOGO)], now=NOW)
            await surveying.record(session, changes, actor="anna", now=NOW)
    async with town.read() as session:
        (entry,) = await session.scalars(select(tables.AuditEntry))
    assert (entry.actor, entry.action, entry.subject) == ("anna", "take areas", "2 areas")
    assert entry.details["areas"] == ["calcinaia.fornacette v2", "calcinaia.capoluogo v2"]


async def test_who_only_named_an_area_that_goes_to_another_comune_is_told_of_everything(town: Database) -> None:
    """Or nothing that names a place would ever reach them."""
    for elsewhere in ("cascina", None):
        await taken(town, argine())
        (named,) = await inhabited(town, Place(Precision.FRAZIONE, ("calcinaia.argine",)))
        await resettled(town)
        assert named not in await told(town, CAPOLUOGO)
        await taken(town, replace(argine(), parent=elsewhere))
        await resettled(town)
        assert named in await told(town, CAPOLUOGO)


# ── what is no more ─────────────────────────────────────────────────────────────────────────────────


async def test_of_a_frazione_that_is_ended_whoever_only_named_it_is_told_of_everything(town: Database) -> None:
    named, at_point, elsewhere, both = await inhabited(
        town, IN_FORNACETTE, Place(Precision.ADDRESS, point=KEPT), AT_CAPOLUOGO, IN_FORNACETTE
    )
    async with town.write() as session:
        row = await session.get_one(tables.Recipient, both)
        await keep_place(session, row, replace(AT_CAPOLUOGO, label=Label.LAVORO), CALCINAIA)
    assert await told(town, CAPOLUOGO) == {elsewhere, both}
    async with town.write() as session:
        # Work in Capoluogo says nothing of where home is, now that the name of it says nothing any more.
        assert await surveying.end(session, FORNACETTE, actor="anna", now=NOW) == 2
    assert await told(town, CAPOLUOGO) == {elsewhere, both, named}
    assert await told(town, COMUNE) == {named, at_point, elsewhere, both}
    await assert_as_asked_one_by_one(town)
    known = await as_known(town)
    with pytest.raises(Refused, match=r"no area is called 'calcinaia.fornacette'"):
        async with town.write() as session:
            await draft(session, piena(), known, ANNA, NOW)
    # An alert that was drafted before means whoever was inside, also when only the boundary is left.
    for later in (NOW, NOW + timedelta(days=1)):
        await resettled(town, later)
        assert await told(town, FORNACETTE, versions={FORNACETTE: 1}) >= {named, at_point}
    async with town.read() as session:
        assert "end area" in set(await session.scalars(select(tables.AuditEntry.action)))


async def test_neither_the_whole_territory_nor_what_does_not_serve_can_be_ended(town: Database) -> None:
    async with town.write() as session:
        with pytest.raises(
            WholeTerritory, match=r"Calcinaia is all the territory of calcinaia: import another outline"
        ):
            await surveying.end(session, COMUNE, actor="anna", now=NOW)
        with pytest.raises(NoSuchArea, match=r"no area 'calcinaia.argine' serves"):
            await surveying.end(session, "calcinaia.argine", actor="anna", now=NOW)
    await inhabited(town, IN_FORNACETTE)
    await taken(town, argine())  # only prepared
    async with town.write() as session:
        with pytest.raises(NoSuchArea):
            await surveying.end(session, "calcinaia.argine", actor="anna", now=NOW)
    assert [row.state for row in await rows(town, "calcinaia.argine")] == [AreaState.PREPARING]


async def test_what_is_ended_while_another_outline_is_prepared_does_not_come_back(town: Database) -> None:
    await inhabited(town, IN_FORNACETTE)
    await taken(town, NEXT)
    async with town.write() as session:
        await surveying.end(session, FORNACETTE, actor="anna", now=NOW)
    await resettled(town)
    assert [row.state for row in await rows(town, FORNACETTE)] == [AreaState.ENDED, AreaState.ENDED]
    (change,) = await taken(town, NEXT)  # unless somebody imports it again
    assert (change.what, change.area.version) == (What.FOLLOWS, 3)
    await resettled(town)
    await assert_as_asked_one_by_one(town)


# ── the comune's own file ───────────────────────────────────────────────────────────────────────────


def as_file(version: int) -> Authority:
    areas = [replace(one, version=version) for one in CALCINAIA.territory.areas]
    territory = replace(CALCINAIA.territory, comune=areas[0], frazioni=tuple(areas[1:]))
    return replace(CALCINAIA, territory=territory)


async def migrated(town: Database, authority: Authority = CALCINAIA) -> None:
    """What `python -m alerting migrate` does with the files."""
    async with town.write() as session:
        await enrol(session, [authority], SEAL, share_of_limit=1.0, now=LATER)


async def test_the_next_migrate_leaves_an_import_and_an_end_alone(town: Database) -> None:
    await inhabited(town, IN_FORNACETTE)
    await taken(town, NEXT)
    await migrated(town)  # while it is prepared
    await resettled(town)
    await migrated(town)
    assert [row.state for row in await rows(town, FORNACETTE)] == [AreaState.ENDED, AreaState.SERVING]
    async with town.write() as session:
        await surveying.end(session, CAPOLUOGO, actor="anna", now=NOW)
    await migrated(town)
    assert [row.state for row in await rows(town, CAPOLUOGO)] == [AreaState.ENDED]
    await assert_as_asked_one_by_one(town)


async def test_a_file_that_counts_its_version_on_takes_the_place_of_an_import(town: Database) -> None:
    named, lost = await inhabited(town, IN_FORNACETTE, Place(Precision.ADDRESS, point=LOST))
    await taken(town, NEXT)
    await resettled(town)
    await migrated(town, as_file(3))
    new = (await rows(town, FORNACETTE))[-1]
    assert (new.version, new.state, new.source) == (3, AreaState.PREPARING, CALCINAIA.territory.comune.source)
    assert lost not in await told(town, FORNACETTE)
    await resettled(town, LATER)
    assert await told(town, FORNACETTE) == {named, lost}
    assert [row.version for row in await rows(town, CAPOLUOGO)] == [1]  # which the file draws as before
    async with town.read() as session:
        entries = (await session.scalars(select(tables.AuditEntry).order_by(tables.AuditEntry.number))).all()
    assert [(entry.actor, entry.action) for entry in entries] == [
        ("resettling", "serve areas"),
        ("calcinaia.toml", "take areas"),
        ("resettling", "serve areas"),
    ]
