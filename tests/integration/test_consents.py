"""The proofs of consent: what is in them, that nobody can change them, and how a person is taken out of them."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from alerting import issuing, retention, unreachable
from alerting.domain.delivery import Progress, Reason
from alerting.domain.recipients import known_by
from alerting.persistence import Database, tables
from alerting.subscribing import join, leave
from tests.integration.calcinaia import ANNA, BRUNO, CALCINAIA, NOW, SEAL, citizen, count, five_comuni, piena

WROTE = NOW - timedelta(seconds=40)


@pytest.fixture
async def town(database_url: str) -> AsyncIterator[Database]:
    async with five_comuni(database_url) as database:
        yield database


async def joins(town: Database, number: int, at: datetime = NOW) -> None:
    async with town.write() as session:
        who = replace(citizen(number), wrote_at=at - timedelta(seconds=40))
        await join(session, who, SEAL, keyword="attivà", now=at)


async def leaves(town: Database, number: int, at: datetime = NOW) -> None:
    async with town.write() as session:
        await leave(session, replace(citizen(number), wrote_at=at), SEAL, keyword="Disattiva", now=at)


async def proofs(town: Database) -> list[tables.Consent]:
    async with town.read() as session:
        return list(await session.scalars(select(tables.Consent).order_by(tables.Consent.id)))


async def test_a_proof_says_what_was_written_when_and_under_which_text(town: Database) -> None:
    await joins(town, 1)
    (proof,) = await proofs(town)
    assert (proof.what, proof.keyword, proof.channel.value) == ("join", "attivà", "whatsapp")
    assert (proof.said_at, proof.at) == (WROTE, NOW)
    assert (proof.policy_version, proof.policy_sha256) == (CALCINAIA.policy.version, CALCINAIA.policy.sha256)
    assert len(CALCINAIA.policy.sha256) == 64


ERASES = "UPDATE consents SET fingerprint = NULL, keyword = ''"
REFUSED = (
    "UPDATE consents SET what = 'leave'",
    "UPDATE consents SET keyword = 'Attiva'",
    "UPDATE consents SET said_at = NULL",
    "UPDATE consents SET keyword = ''",
    "UPDATE consents SET fingerprint = NULL",
    f"{ERASES}, policy_sha256 = 'x'",
    "DELETE FROM consents",
    "DELETE FROM consents WHERE id = 1",
)


@pytest.mark.parametrize(
    ("statement", "erasing"), [(ERASES, False), *((one, way) for one in REFUSED for way in (False, True))]
)
async def test_the_database_itself_refuses_to_change_a_proof(town: Database, statement: str, erasing: bool) -> None:
    await joins(town, 1)
    before = [vars(one) | {"_sa_instance_state": None} for one in await proofs(town)]
    with pytest.raises(DBAPIError, match="append-only"):
        async with town.write() as session:
            if erasing:
                session.add(tables.Erasure(at=NOW, actor="anna", why="request"))
                await session.flush()
            await session.execute(text(statement))
    assert [vars(one) | {"_sa_instance_state": None} for one in await proofs(town)] == before


async def test_no_proof_takes_the_place_of_another_and_no_table_is_emptied(town: Database) -> None:
    await joins(town, 1)
    columns = "id, authority, channel, fingerprint, what, keyword, policy_version, at"
    copy = f"INTO consents ({columns}) SELECT {columns.replace('what', repr('leave'), 1)} FROM consents"
    wholesale = f"INSERT OR REPLACE {copy}" if town.is_sqlite else "TRUNCATE consents"
    with pytest.raises(DBAPIError, match="append-only"):
        async with town.write() as session:
            await session.execute(text(wholesale))
    assert [one.what for one in await proofs(town)] == ["join"]


async def test_what_was_erased_cannot_be_unsaid(town: Database) -> None:
    await joins(town, 1)
    await erased(town, 1)
    for statement in ("UPDATE erasures SET ended_at = NULL", "UPDATE erasures SET actor = 'x'", "DELETE FROM erasures"):
        with pytest.raises(DBAPIError, match="append-only"):
            async with town.write() as session:
                await session.execute(text(statement))


async def erased(town: Database, number: int) -> int:
    async with town.write() as session:
        fingerprint = SEAL.fingerprint(known_by(citizen(number).address))
        return await retention.erase_proofs(
            session, "calcinaia", [fingerprint], now=NOW, actor="anna", why=retention.REQUEST
        )


async def test_an_erasure_takes_the_person_out_of_their_proofs_and_is_itself_written_down(town: Database) -> None:
    await joins(town, 1)
    await joins(town, 2)
    await leaves(town, 1)
    assert await erased(town, 1) == 2
    found = [(one.what, one.keyword, one.fingerprint is None) for one in await proofs(town)]
    assert found == [("join", "", True), ("join", "attivà", False), ("leave", "", True)]
    async with town.read() as session:
        (record,) = (await session.scalars(select(tables.Erasure))).all()
    assert (record.actor, record.why, record.proofs, record.ended_at) == ("anna", "request", 2, NOW)


# ── retention ───────────────────────────────────────────────────────────────────────────────────────


async def forgets(town: Database, now: datetime) -> retention.Forgotten:
    return await retention.forget(town, now=now, months=24, days=30, actor="retention")


async def test_two_years_after_somebody_left_nothing_says_who_they_were(town: Database) -> None:
    for number in (1, 2, 3):
        await joins(town, number)
    await leaves(town, 1)
    await leaves(town, 2)
    await joins(town, 2, NOW + timedelta(days=9))  # and came back
    assert not await forgets(town, NOW.replace(year=2028) - timedelta(minutes=1))
    assert (await forgets(town, NOW.replace(year=2028) + timedelta(minutes=1))).proofs == 2
    assert [one.fingerprint is None for one in await proofs(town)] == [True, False, False, True, False, False]
    assert not await forgets(town, NOW.replace(year=2028) + timedelta(minutes=2))


async def test_words_and_answers_are_gone_after_thirty_days_and_a_replay_is_still_known(town: Database) -> None:
    row = {"account": "whatsapp.santa-fiora", "sealed": SEAL.seal("buca"), "received_at": NOW}
    async with town.write() as session:
        session.add(tables.InboundMessage(**row, provider_id="a" * 64, handled_at=NOW))
        session.add(tables.InboundMessage(**row, provider_id="b" * 64))
        session.add(tables.Courtesy(account="whatsapp.calcinaia", fingerprint=b"x", since=1.0, last=NOW.timestamp()))
    assert not await forgets(town, NOW + timedelta(days=1))
    done = await forgets(town, NOW + timedelta(days=31))
    assert (done.texts, done.courtesies) == (1, 1)
    async with town.read() as session:
        assert await count(session, tables.InboundMessage) == 2, "what makes a replay known"
        kept = (await session.scalars(select(tables.InboundMessage).order_by(tables.InboundMessage.id))).all()
    assert [one.sealed is None for one in kept] == [True, False], "nobody has read the second yet"


def test_months_are_those_of_the_calendar() -> None:
    before = retention._months_before(datetime(2028, 2, 29, 12, tzinfo=UTC), 24)
    assert before == datetime(2026, 2, 28, 12, tzinfo=UTC)
    assert retention._months_before(datetime(2026, 1, 31, tzinfo=UTC), 2) == datetime(2025, 11, 30, tzinfo=UTC)


# ── who is not there any more ───────────────────────────────────────────────────────────────────────


async def test_who_is_not_there_any_more_is_marked_until_something_arrives_again(town: Database) -> None:
    await joins(town, 1)
    await joins(town, 2)

    async def alert(day: int, *became: tuple[Progress, Reason | None]) -> datetime:
        at = NOW + timedelta(days=day)
        async with town.write() as session:
            row = await issuing.draft(session, piena(expires=at + timedelta(hours=3)), CALCINAIA, ANNA, at)
            await issuing.approve(session, row, BRUNO, at)
            dispatch = await issuing.issue(session, row, ANNA, at)
            people = select(tables.Address.id).join(tables.Recipient).where(~tables.Recipient.is_channel)
            addresses = list(await session.scalars(people.order_by(tables.Address.id)))
            for seq, (address, (progress, reason)) in enumerate(zip(addresses, became, strict=True), start=1):
                because = reason.value if reason else None
                ledger = {"dispatch_id": dispatch.id, "seq": seq, "address_id": address}
                session.add(tables.Delivery(**ledger, progress=progress.value, reason=because))
        await unreachable.mark(town, at + timedelta(hours=4))
        return at

    async def marked() -> list[datetime | None]:
        async with town.read() as session:
            query = select(tables.Address.unreachable_since).join(tables.Recipient)
            return list(await session.scalars(query.where(~tables.Recipient.is_channel).order_by(tables.Address.id)))

    nobody = (Progress.FAILED, Reason.NOT_REACHABLE_HERE)
    first = await alert(0, nobody, (Progress.FAILED, Reason.POLICY))
    assert await marked() == [first, None]
    await alert(100, nobody, (Progress.DELIVERED, None))
    assert await marked() == [first, None], "since the first"
    await alert(101, (Progress.DELIVERED, None), nobody)
    assert await marked() == [None, NOW + timedelta(days=101)]
