"""Comuni that share a number share it fairly; those that do not never wait for each other."""

import asyncio
import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from alerting import issuing
from alerting.actors import Actor, Role
from alerting.composing import Wording
from alerting.domain.authority import Authority, ChannelAccess
from alerting.domain.delivery import Channel, Progress
from alerting.domain.kinds import Colour, Kind, Risk
from alerting.domain.recipients import Place, Precision
from alerting.enrolling import enrol
from alerting.joining_many import Joining, join_many
from alerting.persistence import tables
from alerting.subscribing import Subscriber
from consumers.pacing import Pacer
from consumers.simulators.serving import Served
from tests.integration.engine import (
    ONE_KIND,
    TOKEN,
    WHATSAPP,
    Start,
    Town,
    delivering,
    meta,
    settings_of,
    texts,
    told,
    until,
)

OTHER = "fucecchio"
OTHERS = f"whatsapp.{OTHER}"


def access_of(authority: Authority) -> ChannelAccess:
    return next(one for one in authority.channels if one.channel is Channel.WHATSAPP)


async def share_a_number(town: Town) -> None:
    """Fucecchio writes from Calcinaia's number from now on."""
    other = town.authorities[OTHER]
    shared = replace(access_of(other), identity=town.whatsapp.identity, settings=town.whatsapp.settings)
    town.authorities = town.authorities | {OTHER: replace(other, channels=(shared,))}
    async with town.database.write() as session:
        await enrol(session, town.authorities.values(), town.seal, share_of_limit=1.0, now=datetime.now(UTC))


async def says(town: Town, who: str, people: int, *, urgent: bool = False) -> int:
    """So many new people of a comune, and something that is said to all of them. Its dispatch."""
    authority = town.authorities[who]
    numbers = [f"+39348{next(town.numbers):07d}" for _ in range(people)]
    place = Place(Precision.COMUNE, (who,))
    joining = [Joining(Subscriber(authority, access_of(authority), one), (place,), live=True) for one in numbers]
    async with town.database.write() as session:
        await join_many(session, joining, town.seal, keyword="ISCRIVIMI", now=datetime.now(UTC))
    return await says_again(town, who, urgent=urgent)


async def says_again(town: Town, who: str, *, urgent: bool = False) -> int:
    """Something else, said to everybody who is there already."""
    anna, bruno = Actor("anna", Role.OPERATOR, who), Actor("bruno", Role.APPROVER, who)
    now = datetime.now(UTC)
    wording = Wording(
        kind=Kind.ALLERTA_METEO if urgent else Kind.EVENTO,
        headline="Piena dell'Arno" if urgent else "Sagra della zuppa",
        description="Il fiume sale." if urgent else "In piazza, domenica alle 12.",
        instruction="Evacuare i piani bassi." if urgent else "",
        expires=now + timedelta(hours=2),
        colour=Colour.ARANCIONE if urgent else None,
        risk=Risk.IDRAULICO if urgent else None,
        areas=(who,),
    )
    async with town.database.write() as session:
        row = await issuing.draft(session, wording, town.authorities[who], anna, now)
        await issuing.approve(session, row, bruno, now)
        return (await issuing.issue(session, row, anna, now)).id


def everybodys(town: Town) -> dict[str, object]:
    """What the simulator must know so that both comuni can write."""
    return {
        "accounts": {
            access_of(town.authorities[who]).settings["phone_number_id"]: {"token": TOKEN}
            for who in ("calcinaia", OTHER)
        },
        "templates": [
            {"name": name, "variables": 5}
            for name in {access_of(town.authorities[who]).settings["template"] for who in ("calcinaia", OTHER)}
        ],
    }


def of(served: Served, dispatch: int) -> list[float]:
    """When each text of a dispatch reached a phone (Unix time)."""
    return [text["at"] for text in texts(served) if text["reference"].startswith(f"{dispatch}.")]


def share(served: Served, ours: int, theirs: int, since: float, until: float) -> float:
    mine = sum(since <= at < until for at in of(served, ours))
    all_of_it = mine + sum(since <= at < until for at in of(served, theirs))
    assert all_of_it > 60, "too few to speak of shares"
    return mine / all_of_it


# ── one number for two ──────────────────────────────────────────────────────────────────────────────


@ONE_KIND
async def test_a_comunes_thousands_do_not_delay_anothers_one_on_the_same_number(town: Town, engine: Start) -> None:
    await share_a_number(town)
    async with meta(**everybodys(town)) as served, engine(served, workers=2):
        many = await says(town, "calcinaia", 5000)
        await until(lambda: len(of(served, many)) >= 80, within=60)
        one = await says(town, OTHER, 1)
        issued = time.time()
        await until(lambda: len(of(served, one)) == 1)
        assert of(served, one)[0] - issued <= 1.5
        assert len(of(served, many)) < 2500, "it was still going on"


@ONE_KIND
@pytest.mark.parametrize("workers", [1, 2])
async def test_while_both_have_work_each_gets_half(town: Town, engine: Start, workers: int) -> None:
    await share_a_number(town)
    async with meta(**everybodys(town)) as served, engine(served, workers=workers):
        many = await says(town, "calcinaia", 3000)
        await until(lambda: len(of(served, many)) >= 20, within=60)
        fewer = await says(town, OTHER, 1000)
        await until(lambda: len(of(served, fewer)) >= 10, within=60)
        begin = time.time()
        await asyncio.sleep(3)
        assert 0.4 <= share(served, many, fewer, begin, begin + 3) <= 0.6
        # Together they keep the one number's limit: both paced as one.
        assert len(of(served, many)) + len(of(served, fewer)) <= 80 * 1.05 * (time.time() - min(of(served, many))) + 8


@ONE_KIND
async def test_a_comune_with_five_alerts_gets_no_more_than_one_with_a_single_one(town: Town, engine: Start) -> None:
    await share_a_number(town)
    async with meta(**everybodys(town)) as served, engine(served):
        several = [await says(town, "calcinaia", 200)] + [await says_again(town, "calcinaia") for _ in range(4)]
        await until(lambda: len(texts(served)) >= 20, within=60)
        one = await says(town, OTHER, 400)
        await until(lambda: len(of(served, one)) >= 10, within=60)
        begin = time.time()
        await asyncio.sleep(3)
        mine = sum(at >= begin for at in of(served, one))
        others = sum(at >= begin for dispatch in several for at in of(served, dispatch))
        assert 0.4 <= mine / (mine + others) <= 0.6


async def test_whoever_is_enrolled_first_comuni_with_one_number_are_paced_as_one(town: Town) -> None:
    """One run over the files must do: it is run when the system starts."""
    for number, order in enumerate([("calcinaia", OTHER), (OTHER, "calcinaia")]):
        files = []
        for who in order:
            name = f"{'ab'[who == 'calcinaia']}{number}.{who}"
            own = access_of(town.authorities[who])
            files.append(
                replace(town.authorities[who], channels=(replace(own, name=name, identity=f"+3933300000{number}"),))
            )
        async with town.database.write() as session:
            await enrol(session, files, town.seal, share_of_limit=1.0, now=datetime.now(UTC))
        async with town.database.read() as session:
            rows = [await session.get_one(tables.ChannelAccount, one.channels[0].name) for one in files]
        assert len({row.paced_as for row in rows}) == 1


async def test_the_same_identity_on_another_channel_is_another_number(town: Town) -> None:
    own = town.whatsapp
    elsewhere = replace(own, name="telegram.prova", channel=Channel.TELEGRAM, settings={})
    async with town.database.write() as session:
        authority = replace(town.authority, channels=(own, elsewhere))
        await enrol(session, [authority], town.seal, share_of_limit=1.0, now=datetime.now(UTC))
    async with town.database.read() as session:
        assert (await session.get_one(tables.ChannelAccount, "telegram.prova")).paced_as == "telegram.prova"


# ── a number each ───────────────────────────────────────────────────────────────────────────────────


@ONE_KIND
async def test_two_different_numbers_do_not_wait_for_each_other(town: Town, engine: Start) -> None:
    async with meta(**everybodys(town)) as served, engine(served):
        many = await says(town, "calcinaia", 3000)
        await until(lambda: len(of(served, many)) >= 40, within=60)
        await Pacer(town.database).slow_down(WHATSAPP, timedelta(seconds=30))
        began = time.time()
        other = await says(town, OTHER, 20)
        await until(lambda: len(of(served, other)) == 20)
        assert max(of(served, other)) - began <= 2.5


@ONE_KIND
@pytest.mark.parametrize("urgent", [True, False], ids=["emergency", "routine"])
async def test_many_alerts_before_a_halted_number_leave_room_for_another_comunes_one(
    town: Town, engine: Start, urgent: bool
) -> None:
    """What a halted number's batches must not do: fill a worker's hand, so that nobody else's batch gets in."""
    async with meta(**everybodys(town)) as served, engine(served):
        await Pacer(town.database).halt(WHATSAPP, "190")
        await town.run("UPDATE provider_rates SET probe_at = probe_at + 1000 WHERE account = :a", a=WHATSAPP)
        first = await says(town, "calcinaia", 600 if urgent else 3000, urgent=urgent)
        several = [first] + [await says_again(town, "calcinaia", urgent=urgent) for _ in range(5)]

        async def all_promised() -> bool:
            return all([await town.batches(dispatch) for dispatch in several]) and not await town.outbox()

        await until(all_promised, within=60)
        await asyncio.sleep(1)
        began = time.time()
        other = await says(town, OTHER, 1, urgent=urgent)
        await until(lambda: len(of(served, other)) == 1, within=6)
        assert of(served, other)[0] - began <= 3


# ── who comes later ─────────────────────────────────────────────────────────────────────────────────


@ONE_KIND
async def test_a_comune_that_joins_while_the_workers_run_is_told_too(town: Town, engine: Start) -> None:
    for table in ("provider_rates WHERE account", "channel_accounts WHERE name"):
        await town.run(f"DELETE FROM {table} = :a", a=OTHERS)
    async with meta(**everybodys(town)) as served, engine(served):
        assert await says(town, "calcinaia", 1)
        await until(lambda: len(texts(served)) == 1)
        async with town.database.write() as session:
            await enrol(session, town.authorities.values(), town.seal, share_of_limit=1.0, now=datetime.now(UTC))
        dispatch = await says(town, OTHER, 3)
        await until(lambda: town.is_over(dispatch))
        assert await town.summary(dispatch) == {Progress.ACCEPTED: 3}
        assert await town.count(tables.DeadLetter) == 0


@ONE_KIND
async def test_who_shares_a_number_speaks_with_its_one_credential_and_cannot_silence_the_others(
    town: Town, engine: Start, tmp_path: Path
) -> None:
    await share_a_number(town)
    async with meta(**everybodys(town)) as served, engine(served, workers=0) as running:
        (folder := tmp_path / "expired").mkdir()
        settings = settings_of(town, running.url, running.prefix, served, folder)
        tokens = json.loads((folder / "secrets.json").read_text()) | {OTHERS: {"token": "EAAGexpired"}}
        (folder / "secrets.json").write_text(json.dumps(tokens))
        async with delivering(settings, served):
            await says(town, OTHER, 60, urgent=True)
            began = time.time()
            ours = await says(town, "calcinaia", 60, urgent=True)
            await until(lambda: town.is_over(ours), within=8)
            assert max(of(served, ours)) - began < 8
            assert set(told(served).values()) == {1}
