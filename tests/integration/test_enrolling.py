"""The comuni's files become rows, as often as one likes."""

from dataclasses import replace
from datetime import timedelta

from sqlalchemy import select

from alerting.enrolling import enrol
from alerting.persistence import tables
from geo.geojson import parse_geojson
from geo.shapes import Polygon
from tests.integration.calcinaia import AUTHORITIES, CALCINAIA, NOW, SEAL, count, five_comuni, one_database

LATER = NOW + timedelta(days=30)


async def test_the_five_are_enrolled_with_their_areas_accounts_and_rates(database_url: str) -> None:
    async with five_comuni(database_url) as database, database.read() as session:
        comuni = {row.code: row for row in await session.scalars(select(tables.Authority))}
        areas = {row.code: row for row in await session.scalars(select(tables.Area))}
        accounts = {row.name: row for row in await session.scalars(select(tables.ChannelAccount))}
        rates = {row.account: row.rate for row in await session.scalars(select(tables.ProviderRate))}
        channel = (await session.scalars(select(tables.Recipient))).one()
        address = (await session.scalars(select(tables.Address))).one()
    assert comuni.keys() == AUTHORITIES.keys()
    for authority in AUTHORITIES.values():
        assert comuni[authority.code].file_hash == authority.file_hash
        for area in authority.territory.areas:
            row = areas[area.code]
            assert (row.name, row.parent, row.version, row.valid_to) == (area.name, area.parent, area.version, None)
            shapes = parse_geojson(row.boundary).shapes
            assert shapes == tuple(s.tidy() for s in area.fence.shapes if isinstance(s, Polygon))
    assert accounts.keys() == rates.keys() == {a.name for one in AUTHORITIES.values() for a in one.channels}
    assert rates["whatsapp.calcinaia"] == 80.0
    assert all(account.live for account in accounts.values())
    # The public channel is told everything: nobody knows where its readers live.
    assert (channel.is_channel, channel.located, channel.authority) == (True, False, "calcinaia")
    assert address.sealed is not None
    assert SEAL.open(address.sealed) == "@comunecalcinaia"


@one_database
async def test_an_account_for_exercises_is_behind_the_wall(database_url: str) -> None:
    live = CALCINAIA.channels[0]
    drill = replace(live, name=f"{live.name}.exercise", exercise=True)
    training = replace(CALCINAIA, channels=(*CALCINAIA.channels, drill))
    async with five_comuni(database_url) as database:
        async with database.write() as session:
            await enrol(session, [training], SEAL, share_of_limit=1.0, now=NOW)
        async with database.read() as session:
            accounts = {row.name: row.live for row in await session.scalars(select(tables.ChannelAccount))}
    assert accounts[drill.name] is False
    assert accounts[live.name] is True


async def test_enrolling_again_changes_nothing(database_url: str) -> None:
    async with five_comuni(database_url) as database:
        async with database.read() as session:
            before = [await count(session, table) for table in EVERYTHING]
        async with database.write() as session:
            await enrol(session, AUTHORITIES.values(), SEAL, share_of_limit=1.0, now=LATER)
        async with database.read() as session:
            assert [await count(session, table) for table in EVERYTHING] == before
            assert set(await session.scalars(select(tables.Area.valid_from))) == {NOW}


EVERYTHING = (
    tables.Authority,
    tables.Area,
    tables.ChannelAccount,
    tables.ProviderRate,
    tables.Recipient,
    tables.Address,
)


@one_database
async def test_a_rate_a_provider_lowered_stays_lowered_until_the_limit_itself_changes(database_url: str) -> None:
    async with five_comuni(database_url) as database:
        async with database.write() as session:
            (await session.get_one(tables.ProviderRate, "whatsapp.calcinaia")).rate = 20.0
        for share, rate in ((1.0, 20.0), (0.95, 76.0)):
            async with database.write() as session:
                await enrol(session, [CALCINAIA], SEAL, share_of_limit=share, now=LATER)
            async with database.read() as session:
                assert (await session.get_one(tables.ProviderRate, "whatsapp.calcinaia")).rate == rate


async def test_a_new_outline_follows_the_old_one_which_stays_to_be_read(database_url: str) -> None:
    areas = tuple(replace(area, version=2, source="Rilievo") for area in CALCINAIA.territory.areas)
    redrawn = replace(CALCINAIA, territory=replace(CALCINAIA.territory, comune=areas[0], frazioni=areas[1:]))
    async with five_comuni(database_url) as database:
        async with database.write() as session:
            await enrol(session, [redrawn], SEAL, share_of_limit=1.0, now=LATER)
        async with database.read() as session:
            rows = {(row.code, row.version): row for row in await session.scalars(select(tables.Area))}
    old, new = (rows["calcinaia.fornacette", version] for version in (1, 2))
    elsewhere = rows["cascina.navacchio", 1]
    assert (old.valid_from, old.valid_to) == (NOW, LATER)
    assert (new.valid_from, new.valid_to) == (LATER, None)
    assert elsewhere.valid_to is None


@one_database
async def test_an_account_keeps_what_the_provider_did_to_it_and_takes_what_the_file_says(database_url: str) -> None:
    whatsapp, telegram, *_ = CALCINAIA.channels
    moved = replace(CALCINAIA, channels=(replace(whatsapp, identity="+393330000000"), telegram))
    async with five_comuni(database_url) as database:
        async with database.write() as session:
            pace = await session.get_one(tables.ProviderRate, "whatsapp.calcinaia")
            pace.halted_at, pace.halted_because = NOW.timestamp(), "131031"
        async with database.write() as session:
            await enrol(session, [moved], SEAL, share_of_limit=1.0, now=LATER)
        async with database.read() as session:
            account = await session.get_one(tables.ChannelAccount, "whatsapp.calcinaia")
            pace = await session.get_one(tables.ProviderRate, "whatsapp.calcinaia")
    assert account.identity == "+393330000000"
    assert (pace.halted_at, pace.halted_because) == (NOW.timestamp(), "131031")
