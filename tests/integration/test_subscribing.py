"""Joining, leaving, saying where one lives; and what stays behind of whoever left."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from alerting.domain.authority import Authority
from alerting.domain.delivery import Channel
from alerting.domain.recipients import NOWHERE, Label, Place, Precision
from alerting.persistence import Database, tables
from alerting.subscribing import (
    SecondAddressTaken,
    Subscriber,
    areas_of,
    find,
    forget_place,
    join,
    keep_place,
    leave,
    places_of,
    settle,
)
from geo.cells import cell_of
from geo.shapes import Point
from tests.integration.calcinaia import CALCINAIA, NOW, SEAL, citizen, codes_of, count, five_comuni, one_database
from tests.integration.engine import ONE_KIND

IN_FORNACETTE = Point(43.6720, 10.5900)
IN_NO_FRAZIONE = Point(43.6850, 10.6400)
FORNACETTE = Place(Precision.FRAZIONE, ("calcinaia.fornacette",))


@pytest.fixture
async def town(database_url: str) -> AsyncIterator[Database]:
    async with five_comuni(database_url, "calcinaia", "cascina") as database:
        yield database


def telegram_of(who: Subscriber) -> Subscriber:
    """The same person, on Telegram."""
    access = who.authority.channel(Channel.TELEGRAM)
    assert access is not None
    return Subscriber(who.authority, access, "123456789")


async def memberships(database: Database, recipient: int) -> set[str]:
    async with database.read() as session:
        return await codes_of(session, recipient)


async def test_joining_keeps_a_proof_and_seals_the_address(town: Database) -> None:
    who = citizen(1)
    async with town.write() as session:
        recipient, is_new = await join(session, who, SEAL, keyword="Attiva", now=NOW)
    async with town.read() as session:
        row = await session.get_one(tables.Recipient, recipient)
        address = await find(session, who, SEAL)
        proof = (await session.scalars(select(tables.Consent))).one()
    assert is_new
    assert (row.authority, row.live, row.located, row.left_at) == ("calcinaia", True, False, None)
    assert address is not None
    assert address.sealed is not None
    assert SEAL.open(address.sealed) == who.address
    assert (proof.what, proof.keyword, proof.policy_version, proof.at) == ("join", "Attiva", "2026-11", NOW)


@one_database
async def test_who_joins_twice_is_one_person(town: Database) -> None:
    async with town.write() as session:
        first = await join(session, citizen(1), SEAL, keyword="Attiva", now=NOW)
    async with town.write() as session:
        second = await join(session, citizen(1), SEAL, keyword="Attiva", now=NOW)
    assert (first[1], second) == (True, (first[0], False))


@one_database
async def test_one_telephone_may_join_two_comuni_and_leave_one(town: Database) -> None:
    async with town.write() as session:
        here, _ = await join(session, citizen(1), SEAL, keyword="Attiva", now=NOW)
        there, _ = await join(session, citizen(1, "cascina"), SEAL, keyword="Iscrizione", now=NOW)
        assert await leave(session, citizen(1), SEAL, keyword="Disattiva", now=NOW)
    assert here != there
    async with town.read() as session:
        assert await find(session, citizen(1), SEAL) is None
        assert await find(session, citizen(1, "cascina"), SEAL) is not None


async def test_leaving_erases_the_address_and_the_place_and_keeps_the_proof(town: Database) -> None:
    async with town.write() as session:
        recipient, _ = await join(session, citizen(1), SEAL, keyword="Attiva", now=NOW, places=[FORNACETTE])
    later = NOW + timedelta(days=3)
    async with town.write() as session:
        assert await leave(session, citizen(1), SEAL, keyword="Disattiva", now=later)
        assert not await leave(session, citizen(1), SEAL, keyword="Disattiva", now=later)
    async with town.read() as session:
        row = await session.get_one(tables.Recipient, recipient)
        of_recipient = select(tables.Address).where(tables.Address.recipient_id == recipient)
        address = (await session.scalars(of_recipient)).one()
        told = list(await session.scalars(select(tables.Consent.what).order_by(tables.Consent.id)))
        assert await count(session, tables.Place) == await count(session, tables.Membership) == 0
    assert (row.left_at, row.located) == (later, False)
    assert (address.sealed, address.fingerprint) == (None, None)
    assert told == ["join", "leave"]


async def test_who_leaves_by_one_address_leaves_by_all_of_them(town: Database) -> None:
    on_telegram = telegram_of(citizen(1))
    for gone in (citizen(1), on_telegram):
        async with town.write() as session:
            recipient, _ = await join(
                session, citizen(1), SEAL, keyword="Attiva", now=NOW, places=[FORNACETTE], also=[on_telegram]
            )
        async with town.write() as session:
            assert await leave(session, gone, SEAL, keyword="Disattiva", now=NOW)
            assert not await leave(session, on_telegram, SEAL, keyword="Disattiva", now=NOW)
        async with town.read() as session:
            of_recipient = select(tables.Address).where(tables.Address.recipient_id == recipient)
            addresses = (await session.scalars(of_recipient.order_by(tables.Address.rank))).all()
            proofs = (await session.scalars(select(tables.Consent).order_by(tables.Consent.id.desc()).limit(4))).all()
        assert [(row.rank, row.sealed, row.fingerprint) for row in addresses] == [(0, None, None), (1, None, None)]
        told = {(proof.what, proof.fingerprint) for proof in proofs}
        prints = [SEAL.fingerprint(one.address) for one in (citizen(1), on_telegram)]
        assert told == {(what, fingerprint) for what in ("join", "leave") for fingerprint in prints}


async def test_a_second_address_that_is_another_persons_changes_nothing(town: Database) -> None:
    on_telegram = telegram_of(citizen(1))
    async with town.write() as session:
        await join(session, on_telegram, SEAL, keyword="Attiva", now=NOW)
    with pytest.raises(SecondAddressTaken, match="is already another recipient's"):
        async with town.write() as session:
            await join(session, citizen(1), SEAL, keyword="Attiva", now=NOW, also=[on_telegram])
    async with town.read() as session:
        assert await find(session, citizen(1), SEAL) is None


async def test_who_comes_back_is_new_and_those_who_left_do_not_stand_in_each_others_way(town: Database) -> None:
    ids = []
    for _ in range(3):
        async with town.write() as session:
            recipient, is_new = await join(session, citizen(1), SEAL, keyword="Attiva", now=NOW)
            assert is_new
            ids.append(recipient)
        async with town.write() as session:
            assert await leave(session, citizen(1), SEAL, keyword="Disattiva", now=NOW)
    assert len(set(ids)) == 3


async def test_no_table_holds_a_telephone_number_in_the_clear(town: Database) -> None:
    who = citizen(1234567)
    async with town.write() as session:
        await join(session, who, SEAL, keyword="Attiva", now=NOW, places=[FORNACETTE])
        await leave(session, who, SEAL, keyword="Disattiva", now=NOW)
        await join(session, who, SEAL, keyword="Attiva", now=NOW)
    async with town.read() as session:
        for table in tables.Table.metadata.sorted_tables:
            for row in (await session.execute(text(f"SELECT * FROM {table.name}"))).all():
                shown = b" ".join(v if isinstance(v, bytes) else str(v).encode() for v in row)
                assert who.address[3:].encode() not in shown, table.name


@one_database
@pytest.mark.parametrize(
    ("place", "areas", "located"),
    [
        (NOWHERE, set(), False),
        (Place(Precision.COMUNE, ("calcinaia",)), {"calcinaia"}, False),
        (FORNACETTE, {"calcinaia", "calcinaia.fornacette"}, True),
        (Place(Precision.ADDRESS, point=IN_FORNACETTE), {"calcinaia", "calcinaia.fornacette"}, True),
        (Place(Precision.ADDRESS, point=IN_NO_FRAZIONE), {"calcinaia"}, True),
        (Place(Precision.COMUNE, ("calcinaia",), IN_NO_FRAZIONE), {"calcinaia"}, True),
        (Place(Precision.ADDRESS, point=Point(43.7160, 10.4019)), set(), False),
    ],
    ids=["nothing", "the comune", "a frazione", "a point in it", "a point between", "comune and point", "in Pisa"],
)
async def test_a_place_lies_in_its_areas_and_in_those_around_them(
    town: Database, place: Place, areas: set[str], located: bool
) -> None:
    async with town.write() as session:
        recipient, _ = await join(session, citizen(1), SEAL, keyword="Attiva", now=NOW, places=[place])
        assert areas_of(place, CALCINAIA) == areas
    async with town.read() as session:
        row = await session.get_one(tables.Recipient, recipient)
        kept = (await session.scalars(select(tables.Place))).first()
    assert row.located is located
    assert await memberships(town, recipient) == areas
    if place.point:
        assert kept is not None
        assert (kept.lat, kept.lon) == (place.point.lat, place.point.lon)
        assert kept.cell == cell_of(place.point.lat, place.point.lon)


@one_database
async def test_a_new_place_takes_the_place_of_the_old_one(town: Database) -> None:
    async with town.write() as session:
        recipient, _ = await join(session, citizen(1), SEAL, keyword="Attiva", now=NOW, places=[FORNACETTE])
    capoluogo = Place(Precision.FRAZIONE, ("calcinaia.capoluogo",))
    for place, areas in ((capoluogo, {"calcinaia", "calcinaia.capoluogo"}), (NOWHERE, set())):
        async with town.write() as session:
            await settle(session, await session.get_one(tables.Recipient, recipient), [place], CALCINAIA)
        assert await memberships(town, recipient) == areas
    async with town.read() as session:
        assert await count(session, tables.Place) == 0
        assert not (await session.get_one(tables.Recipient, recipient)).located


@ONE_KIND
async def test_of_who_leaves_while_their_new_place_is_written_down_nothing_is_kept(town: Database) -> None:
    async with town.write() as session:
        recipient, _ = await join(session, citizen(1), SEAL, keyword="Attiva", now=NOW, places=[FORNACETTE])
    for write in (settle_at, keep_place, forgets):
        async with town.write() as session:
            row = await session.get_one(tables.Recipient, recipient)
            async with town.write() as other:
                await leave(other, citizen(1), SEAL, keyword="Disattiva", now=NOW)
            await write(session, row, FORNACETTE, CALCINAIA)
        async with town.read() as session:
            assert await count(session, tables.Place) == await count(session, tables.Membership) == 0
            assert not (await session.get_one(tables.Recipient, recipient)).located


async def settle_at(session: AsyncSession, row: tables.Recipient, place: Place, authority: Authority) -> None:
    await settle(session, row, [place], authority)


async def forgets(session: AsyncSession, row: tables.Recipient, place: Place, authority: Authority) -> None:
    await forget_place(session, row, place.label, authority)


@ONE_KIND
async def test_two_places_named_at_once_are_both_kept(town: Database) -> None:
    async with town.write() as session:
        recipient, _ = await join(session, citizen(1), SEAL, keyword="Attiva", now=NOW)

    async def names(label: Label) -> None:
        async with town.write() as session:
            row = await session.get_one(tables.Recipient, recipient)
            await keep_place(session, row, replace(FORNACETTE, label=label), CALCINAIA)

    await asyncio.gather(*map(names, Label))
    async with town.read() as session:
        row = await session.get_one(tables.Recipient, recipient)
        assert [place.label for place in await places_of(session, row, CALCINAIA)] == list(Label)
