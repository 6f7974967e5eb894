"""A new outline while people join, move and leave: the old one serves until everybody is known in the new one."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, text

from alerting import atlas, metrics, resettling
from alerting.domain.areas import AreaState
from alerting.domain.authority import Authority
from alerting.domain.lanes import Lane
from alerting.domain.recipients import NOWHERE, Label, Place, Precision
from alerting.joining_many import Joining, join_many
from alerting.persistence import Database, tables
from alerting.resettling import REMEMBERED_FOR, Resettling
from alerting.subscribing import join, keep_place, leave, settle
from alerting.targeting import Target, preview, select_recipients
from geo.shapes import Circle, Geofence
from tests.integration.calcinaia import AUTHORITIES, CALCINAIA, NOW, SEAL, citizen, count, five_comuni
from tests.integration.engine import ONE_KIND
from tests.integration.surveys import (
    ARGINE,
    CAPOLUOGO,
    COMUNE,
    FORNACETTE,
    GAINED,
    IN_PISA,
    KEPT,
    LOST,
    NEW_FORNACETTE,
    THIRD_FORNACETTE,
    area,
    argine,
    as_known,
    asked_one_by_one,
    assert_as_asked_one_by_one,
    resettled,
    somewhere,
    taken,
    written,
)

PEOPLE = 150
NEXT = area(FORNACETTE, NEW_FORNACETTE)
THIRD = area(FORNACETTE, THIRD_FORNACETTE)
FURTHER = 10_000
"""Numbers of people who come later begin here."""


@pytest.fixture
async def town(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    """Calcinaia and its people, who are looked at in small pages; beside them those of Cascina."""
    monkeypatch.setattr(resettling, "PAGE", 17)
    async with five_comuni(database_url, "calcinaia", "cascina") as database:
        chance = random.Random(7)
        here = [Joining(citizen(number), tuple(somewhere(chance)), live=True) for number in range(PEOPLE)]
        there = [Joining(citizen(n, "cascina"), (), live=True) for n in range(20)]
        mixed = [one for pair in zip(here, [*there, *here], strict=False) for one in pair]
        async with database.write() as session:
            await join_many(session, mixed, SEAL, keyword="Attiva", now=NOW)
        yield database


async def at(database: Database, number: int, *places: Place, authority: Authority = CALCINAIA) -> int:
    """Somebody new, at these places."""
    who = replace(citizen(number), authority=authority)
    async with database.write() as session:
        return (await join(session, who, SEAL, keyword="Attiva", now=NOW, places=places))[0]


def address(point: Any, label: Label = Label.CASA) -> Place:
    return Place(Precision.ADDRESS, point=point, label=label)


async def versions(database: Database, code: str = FORNACETTE) -> list[tuple[int, AreaState]]:
    async with database.read() as session:
        rows = await session.scalars(select(tables.Area).where(tables.Area.code == code).order_by(tables.Area.version))
        return [(row.version, row.state) for row in rows]


async def foreseen(database: Database, *codes: str) -> tuple[int, int, dict[str, int]]:
    """Whom an alert to these areas would reach."""
    async with database.read() as session:
        found = await preview(session, Target(COMUNE, True, codes, None), CALCINAIA, Lane.EMERGENCY)
    return found.recipients, found.place_unknown, found.by_area


# ── while it is prepared ────────────────────────────────────────────────────────────────────────────


async def test_the_old_outline_serves_until_everybody_is_known_in_the_new_one(town: Database) -> None:
    before = await assert_as_asked_one_by_one(town)
    old = [await foreseen(town, *codes) for codes in ((FORNACETTE,), (CAPOLUOGO,), (COMUNE,))]
    await taken(town, NEXT)
    pages, at_work = 0, Resettling(town, AUTHORITIES)
    while (await versions(town))[-1] == (2, AreaState.PREPARING):
        async with town.read() as session:
            assert await written(session) == before
        assert [await foreseen(town, *codes) for codes in ((FORNACETTE,), (CAPOLUOGO,), (COMUNE,))] == old
        assert await at_work.look(NOW)
        pages += 1
    assert pages == -(-(PEOPLE + 1) // 17) + 1  # the public channel is a recipient too; the last step lets it serve
    assert not await at_work.look(NOW)
    assert await versions(town) == [(1, AreaState.ENDED), (2, AreaState.SERVING)]
    after = await assert_as_asked_one_by_one(town)
    assert after.areas != before.areas and after.located == before.located
    assert (await foreseen(town, FORNACETTE))[0] != old[0][0]


async def test_that_it_serves_is_a_new_edition_and_in_the_audit(town: Database) -> None:
    known = dict(AUTHORITIES)
    await atlas.refresh(town, known)
    assert known[COMUNE].territory.gazetteer.by_code(FORNACETTE).version == 1
    await taken(town, NEXT)
    await resettled(town)
    await atlas.refresh(town, known)
    now_serves = known[COMUNE].territory.gazetteer.by_code(FORNACETTE)
    assert (now_serves.version, now_serves.source) == (2, "Rilievo 2026")
    async with town.read() as session:
        (entry,) = await session.scalars(select(tables.AuditEntry))
    assert (entry.action, entry.actor, entry.subject) == ("serve areas", "resettling", "calcinaia.fornacette v2")


async def test_the_people_of_another_comune_are_not_looked_at(town: Database) -> None:
    async with town.read() as session:
        before = metrics.RESETTLED._value.get()
        people = await session.scalar(select(func.count()).where(tables.Recipient.authority == COMUNE))
    await taken(town, NEXT)
    await resettled(town)
    assert metrics.RESETTLED._value.get() - before == people


class Killed(Exception):
    """Somebody pulled the plug."""


@pytest.mark.parametrize("dies_in", ["a page", "a page that is written", "the step in which it serves"])
async def test_killed_in_any_page_it_goes_on_where_the_last_was_committed(
    town: Database, monkeypatch: pytest.MonkeyPatch, dies_in: str
) -> None:
    killed = [0]

    def dying(function: Callable[..., Any]) -> Callable[..., Any]:
        turn = [0]

        async def dies_every_other_time(*args: Any) -> Any:
            done = await function(*args)
            turn[0] += 1
            if turn[0] % 2:
                killed[0] += 1
                raise Killed
            return done

        return dies_every_other_time

    await taken(town, NEXT)
    match dies_in:
        case "a page":
            monkeypatch.setattr(resettling, "_memberships", dying(resettling._memberships))
        case "a page that is written":
            counted = metrics.RESETTLED.inc

            def dies(people: int) -> None:
                counted(people)
                killed[0] += 1
                raise Killed

            monkeypatch.setattr(metrics.RESETTLED, "inc", dies)
        case _:
            monkeypatch.setattr(atlas, "new_edition", dying(atlas.new_edition))
    for _ in range(100):
        try:
            if not await Resettling(town, AUTHORITIES).look(NOW):
                break
        except Killed:
            pass
    assert killed[0] == (1 if dies_in == "the step in which it serves" else -(-(PEOPLE + 1) // 17))
    assert await versions(town) == [(1, AreaState.ENDED), (2, AreaState.SERVING)]
    await assert_as_asked_one_by_one(town)


@ONE_KIND
async def test_cancelled_at_any_moment_it_comes_to_the_same_end(town: Database) -> None:
    chance = random.Random(3)
    await taken(town, NEXT, argine())
    for _ in range(60):
        looking = asyncio.create_task(Resettling(town, AUTHORITIES).look(NOW))
        await asyncio.sleep(chance.uniform(0, 0.02))
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
    await resettled(town)
    await assert_as_asked_one_by_one(town)


async def test_two_at_once_come_to_the_same_end(town: Database) -> None:
    await taken(town, NEXT, argine())
    await asyncio.wait_for(asyncio.gather(resettled(town), resettled(town)), 60)
    assert await versions(town) == [(1, AreaState.ENDED), (2, AreaState.SERVING)]
    await assert_as_asked_one_by_one(town)
    async with town.read() as session:
        assert await count(session, tables.AuditEntry) == 1


async def test_what_is_taken_in_just_before_the_others_serve_is_prepared_first(
    town: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare, surveys = Resettling._prepare, [[NEXT]]

    async def and_then_somebody_imports(self: Resettling, authority: Authority) -> bool:
        more = await prepare(self, authority)
        if not more and surveys:
            await taken(town, *surveys.pop())
        return more

    monkeypatch.setattr(Resettling, "_prepare", and_then_somebody_imports)
    await taken(town, area(CAPOLUOGO))
    at_work = Resettling(town, AUTHORITIES)
    while (await versions(town))[-1][1] is not AreaState.SERVING or surveys:
        await at_work.look(NOW)
        async with town.read() as session:
            assert await written(session) == await asked_one_by_one(session)
    assert [number for number, _ in await versions(town)] == [1, 2]


# ── while people join, move and leave ───────────────────────────────────────────────────────────────


async def test_who_joins_by_a_process_that_has_the_old_edition_in_memory_is_counted_in(town: Database) -> None:
    stale = await as_known(town)
    await taken(town, NEXT)
    await Resettling(town, AUTHORITIES).look(NOW)
    early = await at(town, FURTHER, address(GAINED), authority=stale)
    await resettled(town)
    late = await at(town, FURTHER + 1, address(GAINED), authority=stale)
    by_name = await at(town, FURTHER + 2, Place(Precision.FRAZIONE, (FORNACETTE,)), authority=stale)
    found = await assert_as_asked_one_by_one(town)
    assert found.areas[early, "casa"] == found.areas[late, "casa"] == {COMUNE, FORNACETTE}
    assert found.areas[by_name, "casa"] == {COMUNE, FORNACETTE}


async def anything(town: Database, chance: random.Random, numbers: list[int], known: Sequence[Authority]) -> None:
    """Somebody joins, alone or with others, moves, names a place more, or leaves."""
    authority = chance.choice(known)  # of processes that looked at other times
    number = chance.choice(numbers)
    who = replace(citizen(number), authority=authority)
    async with town.write() as session:
        match chance.choice(("join", "join many", "settle", "keep", "leave")):
            case "join":
                await join(session, who, SEAL, keyword="Attiva", now=NOW, places=somewhere(chance))
            case "join many":
                several = [
                    Joining(replace(citizen(n), authority=authority), tuple(somewhere(chance)), live=True)
                    for n in chance.sample(numbers, 4)
                ]
                await join_many(session, several, SEAL, keyword="Attiva", now=NOW)
            case "leave":
                await leave(session, who, SEAL, keyword="Disattiva", now=NOW)
            case how:
                here = (
                    select(tables.Recipient)
                    .join(tables.Address)
                    .where(
                        tables.Address.fingerprint == SEAL.fingerprint(who.address),
                        tables.Recipient.authority == COMUNE,
                    )
                )
                recipient = await session.scalar(here)
                places = somewhere(chance)
                if recipient is not None and how == "settle":
                    await settle(session, recipient, places, authority)
                elif recipient is not None and places:
                    await keep_place(session, recipient, places[0], authority)


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_people_do_between_two_pages_everybody_is_known_right_at_the_end(
    town: Database, seed: int
) -> None:
    chance = random.Random(seed)
    numbers = [*range(0, PEOPLE, 5), *range(FURTHER, FURTHER + 40)]
    known = [CALCINAIA, await as_known(town)]
    surveys = [
        [NEXT],
        [THIRD],
        [area(CAPOLUOGO), argine()],
        [area(FORNACETTE), argine(NEW_FORNACETTE)],
        [area(COMUNE), NEXT],
    ]
    at_work = Resettling(town, AUTHORITIES)
    await taken(town, *chance.choice(surveys))
    for _ in range(40):
        known.append(await as_known(town))
        for _ in range(chance.randrange(4)):
            await anything(town, chance, numbers, known)
        if chance.random() < 0.1:
            await taken(town, *chance.choice(surveys))
        await at_work.look(NOW)
    await resettled(town)
    for _ in range(20):
        await anything(town, chance, numbers, known)
    await assert_as_asked_one_by_one(town)
    async with town.read() as session:
        of_nobody = select(func.count()).where(
            tables.Place.recipient_id.in_(select(tables.Recipient.id).where(tables.Recipient.left_at.is_not(None)))
        )
        assert await session.scalar(of_nobody) == 0


@ONE_KIND
@pytest.mark.parametrize("seed", range(3))
async def test_all_at_once_nobody_is_lost_and_nothing_waits_for_ever(town: Database, seed: int) -> None:
    chance = random.Random(seed)
    stale = [CALCINAIA, await as_known(town)]

    async def live(numbers: list[int], chance: random.Random) -> None:
        for _ in range(40):
            await anything(town, chance, numbers, stale)

    async def survey(chance: random.Random) -> None:
        for fences in ((NEXT,), (THIRD, argine()), (NEXT, area(CAPOLUOGO)), (area(COMUNE), THIRD)):
            await taken(town, *fences)
            stale.append(await as_known(town))
            await asyncio.sleep(chance.uniform(0, 0.3))

    async def resettle(lives: asyncio.Task[Any]) -> None:
        while not lives.done():
            await Resettling(town, AUTHORITIES).look(NOW)
            await asyncio.sleep(0)

    everybody = [*range(PEOPLE), *range(FURTHER, FURTHER + 50)]
    lives = asyncio.gather(
        *(live(everybody[n::6], random.Random(chance.random())) for n in range(6)),
        survey(random.Random(chance.random())),
    )
    async with asyncio.timeout(60):
        await asyncio.gather(lives, resettle(lives), resettle(lives))  # type: ignore[arg-type]
        await resettled(town)
    await assert_as_asked_one_by_one(town)


@ONE_KIND
async def test_who_leaves_in_the_step_in_which_it_serves_waits_and_nothing_stands_still(
    town: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    who = citizen(FURTHER)
    await at(town, FURTHER, address(LOST))
    await taken(town, area(COMUNE, NEW_FORNACETTE), NEXT)  # LOST lies outside of both: located no more
    held, current = asyncio.Event(), atlas.current

    async def once_it_is_held(session: Any, authority: Authority) -> Any:
        await held.wait()
        return await current(session, authority)

    async def marks(session: Any, authority: str) -> int:
        held.set()
        await asyncio.sleep(0.3)  # whoever leaves comes to the lock meanwhile
        return await relocate(session, authority)

    relocate = resettling.relocate
    monkeypatch.setattr(atlas, "current", once_it_is_held)
    monkeypatch.setattr(resettling, "relocate", marks)

    async def leaves() -> None:
        async with town.write() as session:
            assert await leave(session, who, SEAL, keyword="Disattiva", now=NOW)

    await asyncio.wait_for(asyncio.gather(leaves(), resettled(town)), 20)
    await assert_as_asked_one_by_one(town)


# ── when it serves ──────────────────────────────────────────────────────────────────────────────────


async def test_what_is_valid_from_a_later_day_is_prepared_and_serves_only_then(town: Database) -> None:
    day = NOW + timedelta(days=9)
    before = await foreseen(town, FORNACETTE)
    await taken(town, NEXT, valid_from=day)
    assert await resettled(town) > 1
    for earlier in (NOW, day - timedelta(seconds=1)):
        assert await resettled(town, earlier) == 0  # and does not go round and round
        assert await versions(town) == [(1, AreaState.SERVING), (2, AreaState.PREPARING)]
        assert await foreseen(town, FORNACETTE) == before
    await at(town, FURTHER, address(GAINED))
    await assert_as_asked_one_by_one(town)
    await resettled(town, day)
    assert await versions(town) == [(1, AreaState.ENDED), (2, AreaState.SERVING)]
    await assert_as_asked_one_by_one(town)
    async with town.read() as session:
        old, new = await session.scalars(select(tables.Area).where(tables.Area.code == FORNACETTE).order_by("version"))
        assert old.valid_to == new.valid_from == day


async def test_a_third_outline_that_comes_while_the_second_is_prepared_takes_its_place(town: Database) -> None:
    await taken(town, NEXT, area(CAPOLUOGO))
    at_work = Resettling(town, AUTHORITIES)
    for _ in range(4):
        assert await at_work.look(NOW)
    await taken(town, THIRD)
    assert await versions(town) == [(1, AreaState.SERVING), (2, AreaState.ENDED), (3, AreaState.PREPARING)]
    await resettled(town)
    assert await versions(town) == [(1, AreaState.ENDED), (2, AreaState.ENDED), (3, AreaState.SERVING)]
    assert await versions(town, CAPOLUOGO) == [(1, AreaState.ENDED), (2, AreaState.SERVING)]
    await assert_as_asked_one_by_one(town)


async def test_all_of_a_survey_serve_in_one_step(town: Database) -> None:
    await taken(town, NEXT, area(CAPOLUOGO), area(COMUNE))
    at_work = Resettling(town, AUTHORITIES)
    while await at_work.look(NOW):
        states = {(await versions(town, code))[-1][1] for code in (COMUNE, FORNACETTE, CAPOLUOGO)}
        assert len(states) == 1
    assert states == {AreaState.SERVING}


async def test_who_has_said_where_they_are_is_marked_anew_in_both_directions(town: Database) -> None:
    pisa = Place(Precision.ADDRESS, point=IN_PISA)
    lost, gained, both, nowhere, named = [
        await at(town, FURTHER + number, *places)
        for number, places in enumerate(
            (
                (address(LOST),),
                (pisa,),
                (address(LOST), address(KEPT, Label.LAVORO)),
                (NOWHERE,),
                (Place(Precision.FRAZIONE, (FORNACETTE,)),),
            )
        )
    ]
    near_pisa = Geofence((Circle(IN_PISA, 0.5),))
    await taken(town, NEXT, area(COMUNE, Geofence((*NEW_FORNACETTE.shapes, *near_pisa.shapes))))
    await resettled(town)
    found = await assert_as_asked_one_by_one(town)
    # Who works in the comune has not said where home is.
    assert {lost, both, nowhere}.isdisjoint(found.located) and {gained, named} <= found.located
    await taken(town, *(replace(one, source="Rilievo 2027") for one in CALCINAIA.territory.areas))
    await resettled(town)
    found = await assert_as_asked_one_by_one(town)
    assert {gained, nowhere}.isdisjoint(found.located) and {lost, both, named} <= found.located


async def test_who_named_a_frazione_is_told_of_what_its_new_outline_overlaps(town: Database) -> None:
    """The custom area serves already, is new beside it, or comes later: whatever comes first."""
    named = await at(town, FURTHER, Place(Precision.FRAZIONE, (FORNACETTE,)))
    for survey in ([argine()], [NEXT], [argine(THIRD_FORNACETTE)], [THIRD, argine()], [NEXT]):
        await taken(town, *survey)
        await Resettling(town, AUTHORITIES).look(NOW)
        joined = await at(town, FURTHER + 1, Place(Precision.FRAZIONE, (FORNACETTE,)))
        await resettled(town)
        found = await assert_as_asked_one_by_one(town)
        assert found.areas[named, "casa"] == found.areas[joined, "casa"]
        async with town.write() as session:
            await leave(session, citizen(FURTHER + 1), SEAL, keyword="Disattiva", now=NOW)
    assert ARGINE in found.areas[named, "casa"]


async def test_the_outlines_of_a_comune_whose_file_is_away_wait_for_it(town: Database) -> None:
    elsewhere = {code: one for code, one in AUTHORITIES.items() if code != COMUNE}
    await taken(town, NEXT)
    await resettled(town, authorities=elsewhere)
    assert await versions(town) == [(1, AreaState.SERVING), (2, AreaState.PREPARING)]
    await resettled(town)
    await assert_as_asked_one_by_one(town)


# ── after its end ───────────────────────────────────────────────────────────────────────────────────


async def memberships_of(town: Database, version: int) -> int:
    async with town.read() as session:
        query = select(func.count()).join(tables.Area, tables.Area.id == tables.Membership.area)
        query = query.where(tables.Area.code == FORNACETTE, tables.Area.version == version)
        return await session.scalar(query.select_from(tables.Membership)) or 0


async def test_what_has_ended_is_remembered_for_an_hour_and_then_forgotten_step_by_step(
    town: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resettling, "CLEARED_AT_ONCE", 10)
    await taken(town, NEXT)
    await resettled(town)
    first, whole = await memberships_of(town, 1), await memberships_of(town, 2)
    assert await resettled(town, NOW + REMEMBERED_FOR) == 0
    assert (await memberships_of(town, 1), await versions(town)) == (
        first,
        [(1, AreaState.ENDED), (2, AreaState.SERVING)],
    )
    assert await resettled(town, NOW + 3 * REMEMBERED_FOR) >= first // 10
    assert await memberships_of(town, 1) == 0 and await memberships_of(town, 2) == whole
    assert await versions(town) == [(1, AreaState.CLEARED), (2, AreaState.SERVING)]
    await at(town, FURTHER, address(LOST), authority=await as_known(town))
    assert await memberships_of(town, 1) == 0
    await assert_as_asked_one_by_one(town)


async def test_while_an_outline_is_forgotten_step_by_step_an_alert_drafted_with_it_loses_nobody(
    town: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resettling, "CLEARED_AT_ONCE", 10)
    target = Target(COMUNE, True, (FORNACETTE,), None, versions={FORNACETTE: 1})
    before = await told(town, target)
    await taken(town, NEXT)
    await resettled(town)
    either = await told(town, target)
    assert before < either
    at_work, later = Resettling(town, AUTHORITIES), NOW + REMEMBERED_FOR
    for _ in range(200):
        later += timedelta(minutes=1)
        await at_work.look(later)
        assert await told(town, target) == either
    assert (await versions(town), await memberships_of(town, 1)) == (
        [(1, AreaState.CLEARED), (2, AreaState.SERVING)],
        0,
    )


async def test_an_audience_that_was_worked_out_before_an_outline_was_forgotten_is_still_whole_an_hour_later(
    town: Database,
) -> None:
    await taken(town, NEXT)
    await resettled(town)
    target = Target(COMUNE, True, (FORNACETTE,), None, versions={FORNACETTE: 1})
    async with town.read() as session:
        selection = await select_recipients(session, target, await as_known(town))
    everybody = await told(town, target)
    await resettled(town, NOW + REMEMBERED_FOR + timedelta(seconds=1))
    async with town.read() as session:
        people = await session.scalars(text(f"SELECT r.id {selection.people}"), selection.parameters)
        assert set(people) == everybody


async def told(town: Database, target: Target) -> set[int]:
    async with town.read() as session:
        selection = await select_recipients(session, target, await as_known(town))
        people = await session.scalars(text(f"SELECT r.id {selection.people}"), selection.parameters)
        return set(people)
