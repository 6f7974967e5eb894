"""An alert reaches who wants its topic; an emergency reaches everybody, whatever they chose."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select, text

from alerting import issuing
from alerting.composing import Wording
from alerting.domain.choices import CHOSEN, EVERY_TOPIC, Topic, as_bits, topic_of
from alerting.domain.kinds import Kind
from alerting.domain.lanes import Lane
from alerting.domain.recipients import NOWHERE
from alerting.persistence import Database, tables
from alerting.subscribing import join, leave
from alerting.targeting import Target, preview, select_recipients
from consumers.fanout import FanOut
from tests.integration.calcinaia import (
    ANNA,
    AUTHORITIES,
    BRUNO,
    CALCINAIA,
    MERCATO,
    NOW,
    SEAL,
    citizen,
    five_comuni,
    piena,
)

EVERYBODY, ONLY_EMERGENCIES, NO_EVENTS, NOTHING_AT_ALL = 0, 1, 2, 3
BITS = {
    EVERYBODY: EVERY_TOPIC,
    ONLY_EMERGENCIES: as_bits([]),
    NO_EVENTS: as_bits({Topic.RACCOLTA, Topic.NOTIZIE}),
    NOTHING_AT_ALL: 0,  # what no code of ours writes: even so they are told of an emergency
}


@pytest.fixture
async def town(database_url: str) -> AsyncIterator[tuple[Database, dict[int, int]]]:
    """Four people of Calcinaia who chose differently."""
    async with five_comuni(database_url, "calcinaia") as database:
        people = {}
        async with database.write() as session:
            for number, bits in BITS.items():
                recipient, _ = await join(session, citizen(number), SEAL, keyword="Attiva", now=NOW, places=[NOWHERE])
                people[number] = recipient
                (await session.get_one(tables.Recipient, recipient)).topics = bits
        yield database, people


async def issued(database: Database, wording: Wording, updates: str | None = None) -> tuple[int, str]:
    """The dispatch and the alert, fanned out."""
    async with database.write() as session:
        original = await session.get_one(tables.Alert, updates) if updates else None
        row = await issuing.draft(session, wording, CALCINAIA, ANNA, NOW, updates=original)
        await issuing.approve(session, row, BRUNO, NOW)
        dispatch = (await issuing.issue(session, row, ANNA, NOW)).id
    assert await FanOut(database, AUTHORITIES).fan_out(dispatch)
    return dispatch, row.identifier


async def told(database: Database, dispatch: int) -> set[int]:
    """Ids of people; the public channel apart."""
    query = (
        select(tables.Delivery.recipient_id)
        .join(tables.Recipient, tables.Recipient.id == tables.Delivery.recipient_id)
        .where(tables.Delivery.dispatch_id == dispatch, tables.Recipient.is_channel.is_(False))
    )
    async with database.read() as session:
        return set(await session.scalars(query))


async def test_an_event_is_told_to_who_wants_events_and_the_preview_says_so(
    town: tuple[Database, dict[int, int]],
) -> None:
    database, people = town
    dispatch, identifier = await issued(database, MERCATO)
    assert await told(database, dispatch) == {people[EVERYBODY]}
    async with database.read() as session:
        row = await session.get_one(tables.Alert, identifier)
        shown = await preview(session, issuing.target_of(row), CALCINAIA, row.lane)
    assert shown.recipients == 1 + 1, "who wants it, and the public channel"


async def test_a_public_channel_is_told_of_every_topic(town: tuple[Database, dict[int, int]]) -> None:
    database, _ = town
    dispatch, _ = await issued(database, MERCATO)
    channels = select(tables.Recipient.id).where(tables.Recipient.is_channel)
    of_dispatch = select(tables.Delivery.recipient_id).where(tables.Delivery.dispatch_id == dispatch)
    async with database.read() as session:
        assert set(await session.scalars(channels)) <= set(await session.scalars(of_dispatch))


async def test_an_emergency_reaches_everybody_whatever_they_chose_and_only_leaving_ends_it(
    town: tuple[Database, dict[int, int]],
) -> None:
    database, people = town
    dispatch, _ = await issued(database, piena(areas=("calcinaia",)))
    assert await told(database, dispatch) == set(people.values())
    async with database.write() as session:
        await leave(session, citizen(ONLY_EMERGENCIES), SEAL, keyword="Disattiva", now=NOW)
    dispatch, _ = await issued(database, piena(areas=("calcinaia",)))
    assert await told(database, dispatch) == set(people.values()) - {people[ONLY_EMERGENCIES]}


@pytest.mark.parametrize("kind", Kind)
def test_whatever_is_urgent_is_an_emergency_be_its_kind_what_it_may(kind: Kind) -> None:
    assert topic_of(kind, Lane.FLASH) is topic_of(kind, Lane.EMERGENCY) is Topic.EMERGENZE


def test_every_topic_that_may_be_switched_off_has_a_kind_and_emergencies_have_most() -> None:
    routine = {topic_of(kind, Lane.ROUTINE) for kind in Kind}
    assert routine == {Topic.EMERGENZE, *CHOSEN}
    assert topic_of(Kind.ALLERTA_METEO, Lane.ROUTINE) is Topic.EMERGENZE, "a yellow one too"


async def test_who_heard_of_an_event_hears_that_it_has_changed_though_they_want_no_more(
    town: tuple[Database, dict[int, int]],
) -> None:
    database, people = town
    first, identifier = await issued(database, MERCATO)
    async with database.write() as session:
        (await session.get_one(tables.Recipient, people[EVERYBODY])).topics = as_bits([])
        (await session.get_one(tables.Recipient, people[NO_EVENTS])).topics = EVERY_TOPIC
        await session.execute(text(f"UPDATE deliveries SET progress = 5 WHERE dispatch_id = {first}"))
    changed = replace(MERCATO, headline="mercato spostato in piazza Kolbe", expires=NOW + timedelta(days=2))
    second, _ = await issued(database, changed, updates=identifier)
    assert await told(database, second) == {people[EVERYBODY], people[NO_EVENTS]}


@pytest.mark.parametrize("topic", CHOSEN)
async def test_no_topic_reaches_who_has_switched_it_off(town: tuple[Database, dict[int, int]], topic: Topic) -> None:
    database, people = town
    async with database.read() as session:
        found = await select_recipients(
            session, Target("calcinaia", True, ("calcinaia",), None, topic=topic), CALCINAIA
        )
        ids = set(await session.scalars(text(f"SELECT r.id {found.people}"), found.parameters))
    expected = {people[number] for number, bits in BITS.items() if bits & topic.bit}
    assert ids & set(people.values()) == expected
