"""Panels and sirens from the alert to the light: what stands is shown, what ended is not, and the ledger knows."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from alerting import authorities, issuing
from alerting.composing import Wording
from alerting.domain.authority import Authority
from alerting.domain.delivery import Channel, Progress
from alerting.domain.kinds import Colour, Kind, Risk
from alerting.domain.panels import Shows
from alerting.enrolling import enrol
from alerting.persistence import tables
from alerting.topology import RECEIPTS_QUEUE
from consumers.channel import Account, Secret, Text
from consumers.local.private_mosquitto import PrivateMosquitto
from consumers.panels import Signage
from consumers.receipts import Receipts
from consumers.reconcile import Reconciler
from consumers.simulators import mqtt as simulator
from consumers.simulators.mqtt import Panels
from consumers.simulators.serving import Served
from consumers.worker import Worker
from tests.conftest import MQTT_PASSWORD, PANEL_PASSWORD
from tests.integration.api_client import serving
from tests.integration.engine import (
    ANNA,
    BRUNO,
    COMUNE,
    FORNACETTE,
    ONE_KIND,
    TOKEN,
    Town,
    a_town,
    an_engine,
    delivering,
    meta,
    until,
    working,
)

ACCOUNT = "mqtt.calcinaia"
BRIDGE, SQUARE, SIREN = (
    "pc/050004/vms/ponte-fornacette",
    "pc/050004/vms/piazza-calcinaia",
    "pc/050004/siren/scuola-morandi",
)
PANELS = """
[[channels]]
channel = "mqtt"
name = "mqtt.calcinaia"
identity = "Pannelli e sirene"
per_second = 100
settings = { url = "mqtts://broker.comune.calcinaia.pi.it:8883", user = "allerta" }

[[panels]]
id = "ponte-fornacette"
kind = "vms"
area = "fornacette"

[[panels]]
id = "piazza-calcinaia"
kind = "vms"
area = "capoluogo"
only = ["flash", "emergency", "routine"]

[[panels]]
id = "scuola-morandi"
kind = "siren"
area = "fornacette"
"""
SAID = Text("")
load = authorities.load  # a test has it replaced


def calcinaia(folder: Path, more: str = PANELS) -> dict[str, Authority]:
    """The five that ship, of which Calcinaia has panels beside WhatsApp."""
    folder.mkdir(exist_ok=True)
    shipped = (authorities.FOLDER / "calcinaia.toml").read_text()
    (folder / "calcinaia.toml").write_text(shipped + more)
    theirs = load(folder)["calcinaia"]
    kept = tuple(access for access in theirs.channels if access.channel in (Channel.WHATSAPP, Channel.MQTT))
    return load() | {"calcinaia": replace(theirs, channels=kept)}


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Authority]]:
    known = calcinaia(tmp_path / "authorities")
    with monkeypatch.context() as patch:
        patch.setattr(authorities, "load", lambda folder=None: known)
        yield known


@pytest.fixture
async def town(database_url: str, known: dict[str, Authority]) -> AsyncIterator[Town]:
    async with a_town(database_url, telegram=True) as town:
        yield town


async def issue(town: Town, headline: str, *, red: bool = False, exercise: bool = False, **how: Any) -> int:
    """An allerta in orange, or in red, which is flash. Its dispatch."""
    now = datetime.now(UTC)
    area, lasts, updates = how.get("area", FORNACETTE), how.get("lasts", timedelta(hours=2)), how.get("updates")
    wording = Wording(
        kind=Kind.ALLERTA_METEO,
        headline=headline,
        description="Il fiume sale.",
        instruction="Evacuare i piani bassi.",
        expires=now + lasts,
        colour=Colour.ROSSA if red else Colour.ARANCIONE,
        risk=Risk.IDRAULICO,
        areas=(area,),
        exercise=exercise,
    )
    async with town.database.write() as session:
        original = await session.get_one(tables.Alert, updates) if updates else None
        row = await issuing.draft(session, wording, town.authority, ANNA, now, updates=original)
        await issuing.approve(session, row, BRUNO, now)
        return (await issuing.issue(session, row, ANNA, now)).id


async def alert_of(town: Town, dispatch: int) -> str:
    async with town.database.read() as session:
        return str((await session.get_one(tables.Dispatch, dispatch)).alert)


async def panel(town: Town, topic: str = BRIDGE) -> tables.Panel:
    async with town.database.read() as session:
        return (await session.scalars(select(tables.Panel).where(tables.Panel.topic == topic))).one()


async def pages(town: Town) -> list[tuple[str, bool]]:
    async with town.database.read() as session:
        rows = (await session.scalars(select(tables.Page).order_by(tables.Page.id))).all()
    return [(row.about, row.acknowledged_at is None) for row in rows]


# ── the whole way ───────────────────────────────────────────────────────────────────────────────────


@dataclass
class Street:
    """Everything that runs, and what stands in the street."""

    town: Town
    served: Served
    mosquitto: PrivateMosquitto

    def shows(self, topic: str = BRIDGE) -> str:
        """The first line."""
        panels = self.served.simulator
        assert isinstance(panels, Panels)
        return next(iter(panels.panels[topic].shown(datetime.now(UTC))), "-")

    async def power(self, topic: str, on: bool) -> None:
        panels = self.served.simulator
        assert isinstance(panels, Panels)
        panels.panels[topic].is_on = on
        if on:
            panels._begin(topic)
        else:
            panels._cut(topic)

    async def stands(self, dispatch: int, **expected: int) -> bool:
        found = {progress.name.lower(): count for progress, count in (await self.town.summary(dispatch)).items()}
        return found == expected


@asynccontextmanager
async def a_street(
    town: Town, url: str, prefix: str, folder: Path, mosquitto: PrivateMosquitto, workers: int = 1
) -> AsyncIterator[Street]:
    async with AsyncExitStack() as running:
        broker = mosquitto.url.replace("//", f"//pannelli:{PANEL_PASSWORD}@")
        topics = [{"topic": topic} for topic in (BRIDGE, SQUARE, SIREN)]
        served = await simulator.start({"broker": broker, "panels": topics})
        running.push_async_callback(served.close)
        whatsapp = await running.enter_async_context(meta())
        engine = await running.enter_async_context(an_engine(town, url, prefix, whatsapp, folder, workers=0))
        secrets = folder / "secrets-mqtt.json"
        secrets.write_text(json.dumps({ACCOUNT: {"token": MQTT_PASSWORD}, "whatsapp.calcinaia": {"token": TOKEN}}))
        settings = engine.settings.model_copy(update={"mqtt_url": mosquitto.url, "secrets_file": secrets})
        reading = Worker(settings, "receipts")
        taking = Receipts(reading.database)
        reading.takes(RECEIPTS_QUEUE, taking.take, prefetch=100, at_once=50)
        await running.enter_async_context(working(reading, beside={"writing": taking.run()}))
        for _ in range(workers):
            await running.enter_async_context(delivering(settings, served, Channel.MQTT))
        street = Street(town, served, mosquitto)

        async def all_online() -> bool:
            return all([(await panel(town, topic)).online for topic in (BRIDGE, SQUARE, SIREN)])

        await until(all_online)
        yield street


@pytest.fixture
async def street(
    town: Town, amqp_url: str, amqp_prefix: str, tmp_path: Path, mosquitto: PrivateMosquitto
) -> AsyncIterator[Street]:
    async with a_street(town, amqp_url, amqp_prefix, tmp_path, mosquitto) as street:
        yield street


async def test_an_alert_is_shown_where_it_is_meant_and_the_panel_says_so(street: Street) -> None:
    dispatch = await issue(street.town, "Piena dell'Arno")

    await until(lambda: street.stands(dispatch, delivered=1), within=60)
    assert street.shows(BRIDGE) == "PIENA DELL'ARNO"
    assert street.shows(SQUARE) == "-", "another frazione"
    assert street.shows(SIREN) == "-", "not for an orange one"

    sounding = await issue(street.town, "Evacuare subito", red=True)
    await until(lambda: street.stands(sounding, delivered=2), within=60)
    assert street.shows(SIREN) == street.shows(BRIDGE) == "EVACUARE SUBITO"

    over = await street.town.cancel(sounding)
    await until(lambda: street.stands(over, delivered=2), within=60)
    assert street.shows(SIREN) == "-" and street.shows(BRIDGE) == "PIENA DELL'ARNO", "what was valid before"
    row = await panel(street.town, SIREN)
    assert (row.state, row.acknowledged, row.acknowledged_state) == (Shows.CLEAR, row.version, Shows.CLEAR)


@ONE_KIND
async def test_what_stands_behind_something_more_urgent_is_delivered_when_it_is_shown(street: Street) -> None:
    flash = await issue(street.town, "Evacuare subito", red=True)
    await until(lambda: street.stands(flash, delivered=2), within=60)
    lesser = await issue(street.town, "Ponte chiuso")
    await until(lambda: street.stands(lesser, accepted=1), within=60)
    await asyncio.sleep(1.5)
    assert street.shows() == "EVACUARE SUBITO" and await street.stands(lesser, accepted=1)

    await street.town.cancel(flash)
    await until(lambda: street.stands(lesser, delivered=1), within=60)
    assert street.shows() == "PONTE CHIUSO"


@ONE_KIND
async def test_an_update_takes_the_place_of_what_it_updates_wherever_that_was_shown(street: Street) -> None:
    first = await issue(street.town, "Evacuare subito", red=True)
    await until(lambda: street.stands(first, delivered=2), within=60)
    second = await issue(street.town, "Argini rotti", red=True, updates=await alert_of(street.town, first))
    await until(lambda: street.stands(second, delivered=2), within=60)
    assert street.shows() == street.shows(SIREN) == "ARGINI ROTTI"


@ONE_KIND
async def test_what_expires_is_taken_down_though_nobody_says_so(street: Street) -> None:
    lasting = await issue(street.town, "Ponte chiuso")
    await until(lambda: street.stands(lasting, delivered=1), within=60)
    brief = await issue(street.town, "Evacuare subito", red=True, lasts=timedelta(seconds=4))
    await until(lambda: street.shows(SIREN) == "EVACUARE SUBITO", within=60)

    await until(lambda: street.shows(BRIDGE) == "PONTE CHIUSO", within=60)

    async def cleared() -> bool:
        row = await panel(street.town, SIREN)
        return (row.state, row.acknowledged) == (Shows.CLEAR, row.version)

    await until(cleared, within=60)
    assert (await street.town.summary(brief))[Progress.DELIVERED] == 2


@ONE_KIND
async def test_an_exercise_never_lights_a_panel_of_the_town(street: Street) -> None:
    drill = await issue(street.town, "Prova di evacuazione", red=True, exercise=True)
    await until(lambda: street.town.is_over(drill), within=60)
    await asyncio.sleep(1.5)
    assert await street.town.summary(drill) == {}
    assert {street.shows(topic) for topic in (BRIDGE, SQUARE, SIREN)} == {"-"}


@ONE_KIND
async def test_a_broker_killed_in_the_middle_is_right_when_it_is_back(street: Street) -> None:
    first = await issue(street.town, "Ponte chiuso")
    await until(lambda: street.stands(first, delivered=1), within=60)
    await street.power(SIREN, on=False)
    street.mosquitto.kill()
    street.mosquitto.forget()
    stale = await issue(street.town, "Falso allarme", red=True, lasts=timedelta(seconds=3))
    later = await issue(street.town, "Argini rotti", red=True)
    await asyncio.sleep(3.5)
    street.mosquitto.start()

    await until(lambda: street.shows(BRIDGE) == "ARGINI ROTTI", within=60)
    await street.power(SIREN, on=True)
    await until(lambda: street.stands(later, delivered=2), within=60)
    received = [json.loads(line)["text"] for line in street.served.simulator.phones._lines]
    assert not any("FALSO" in (text or "") for text in received), "it was over before anybody could be told"
    assert Progress.DELIVERED not in await street.town.summary(stale)
    assert street.shows(SIREN) == "ARGINI ROTTI"


@ONE_KIND
async def test_two_processes_leave_the_broker_with_the_newest(
    town: Town, amqp_url: str, amqp_prefix: str, tmp_path: Path, mosquitto: PrivateMosquitto
) -> None:
    async with a_street(town, amqp_url, amqp_prefix, tmp_path, mosquitto, workers=2) as street:
        dispatches = [await issue(town, f"Avviso {number}") for number in range(12)]
        for dispatch in dispatches[6:]:
            await town.cancel(dispatch)

        async def settled() -> bool:
            row = await panel(town)
            return row.dispatch_id == dispatches[5] and row.acknowledged == row.version

        await until(settled, within=60)
        await asyncio.sleep(1.5)
        assert street.shows() == "AVVISO 5"


# ── what is kept of each ────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def signage(town: Town) -> Signage:
    return Signage(town.database, patience=timedelta(seconds=60))


@pytest.fixture
def account() -> Account:
    return Account(ACCOUNT, COMUNE, Channel.MQTT, "mqtt://127.0.0.1:1", Secret(""), {"istat": "050004"}, ACCOUNT)


async def begun(town: Town, headline: str, **how: Any) -> int:
    """An alert whose attempts are under way."""
    dispatch = await issue(town, headline, **how)
    await town.fan_out(dispatch)
    await town.run("UPDATE deliveries SET progress = 1, attempts = 1 WHERE dispatch_id = :d", d=dispatch)
    return dispatch


async def receipts(town: Town) -> list[str]:
    return [row.message_id for row in await town.outbox() if row.message_id.startswith("receipt:")]


async def test_the_same_thing_said_twice_has_the_same_version(town: Town, signage: Signage, account: Account) -> None:
    first = await begun(town, "Piena")
    one = await signage.revise(account, BRIDGE, SAID, f"{first}.1.1")
    again = await signage.revise(account, BRIDGE, SAID, f"{first}.1.2")
    assert one == again and one is not None and one.lines[0] == "PIENA" and one.state is Shows.SHOW
    second = await begun(town, "Ponte chiuso")
    other = await signage.revise(account, BRIDGE, SAID, f"{second}.1.1")
    assert other is not None and other.version > one.version and other.lines[0] == "PONTE CHIUSO"
    assert await signage.revise(account, "pc/050004/vms/nessuno", SAID, f"{first}.1.1") is None


async def test_acknowledgements_early_late_twice_and_of_nothing_change_the_ledger_once(
    town: Town, signage: Signage, account: Account
) -> None:
    first = await begun(town, "Piena")
    one = await signage.revise(account, BRIDGE, SAID, f"{first}.1.1")
    assert one is not None
    for version in (one.version + 1, 2**53 - 1, 1):
        await signage.acknowledged(account, BRIDGE, version, Shows.SHOW)
    await signage.acknowledged(account, "pc/050004/vms/nessuno", one.version, Shows.SHOW)
    assert await receipts(town) == []

    await signage.acknowledged(account, BRIDGE, one.version, Shows.SHOW)  # before anybody wrote that it was accepted
    await signage.acknowledged(account, BRIDGE, one.version, Shows.SHOW)
    (seq,) = [row.seq for row in await town.deliveries(first) if row.address_id == (await panel(town)).address_id]
    assert await receipts(town) == [f"receipt:{first}.{seq}.DELIVERED"]

    second = await begun(town, "Ponte chiuso")
    two = await signage.revise(account, BRIDGE, SAID, f"{second}.1.1")
    assert two is not None
    await signage.acknowledged(account, BRIDGE, two.version, Shows.SHOW)
    await signage.acknowledged(account, BRIDGE, one.version, Shows.CLEAR)
    row = await panel(town)
    assert (row.acknowledged, row.acknowledged_state) == (two.version, Shows.SHOW), "an older one is over"
    assert len(await receipts(town)) == 2


async def test_what_was_taken_down_before_the_cancel_was_said_is_confirmed_all_the_same(
    town: Town, signage: Signage, account: Account
) -> None:
    first = await begun(town, "Piena")
    await signage.revise(account, BRIDGE, SAID, f"{first}.1.1")
    cancel = await town.cancel(first)
    (clear,) = await signage.review(account, {}, unheard=False)  # within a second, whatever the queues do
    assert clear.state is Shows.CLEAR and clear.lines == () and clear.expires is None
    await signage.acknowledged(account, BRIDGE, clear.version, Shows.CLEAR)
    assert await receipts(town) == []
    await town.run("UPDATE deliveries SET progress = 5 WHERE dispatch_id = :d", d=first)
    await town.fan_out(cancel)
    sign = await signage.revise(account, BRIDGE, SAID, f"{cancel}.1.1")
    assert sign is not None and sign.version == clear.version
    assert await receipts(town) == [f"receipt:{cancel}.1.DELIVERED"]


@ONE_KIND
async def test_nothing_is_shown_that_nobody_has_begun_to_say(town: Town, signage: Signage, account: Account) -> None:
    dispatch = await issue(town, "Piena")
    await town.fan_out(dispatch)
    assert await signage.review(account, {}, unheard=False) == []


async def test_what_the_broker_lacks_is_said_to_it_and_what_it_has_is_not(
    town: Town, signage: Signage, account: Account
) -> None:
    dispatch = await begun(town, "Piena", red=True)
    signs = await signage.review(account, {}, unheard=False)
    assert {sign.topic for sign in signs} == {BRIDGE, SIREN}
    held = {sign.topic: sign.version for sign in signs}
    assert await signage.review(account, held, unheard=False) == []
    assert await signage.review(account, {}, unheard=True) == []
    (behind,) = await signage.review(account, held | {SIREN: held[SIREN] - 1}, unheard=False)
    assert behind.topic == SIREN
    assert await alert_of(town, dispatch) == behind.alert_id


@ONE_KIND
async def test_a_database_restored_from_yesterday_does_not_begin_below_what_panels_have_shown(
    town: Town, signage: Signage, account: Account
) -> None:
    now = int(datetime.now(UTC).timestamp())
    dispatch = await begun(town, "Piena")
    sign = await signage.revise(account, BRIDGE, SAID, f"{dispatch}.1.1")
    assert sign is not None and sign.version >= now
    later = now + 86_400  # as a clock that was wrong left it
    (beyond,) = await signage.review(account, {BRIDGE: later}, unheard=False)
    assert beyond.version == later + 1 and beyond.lines == sign.lines


@ONE_KIND
async def test_a_clock_that_goes_back_never_takes_a_version_back(
    town: Town, signage: Signage, account: Account
) -> None:
    await town.run("UPDATE panels SET version = 4000000000")
    dispatch = await begun(town, "Piena")
    sign = await signage.revise(account, BRIDGE, SAID, f"{dispatch}.1.1")
    assert sign is not None and sign.version == 4_000_000_001


async def test_a_panel_that_is_away_too_long_is_somebodys_to_look_at_once(
    town: Town, signage: Signage, account: Account
) -> None:
    await signage.seen(account, BRIDGE, True)
    await signage.seen(account, SQUARE, True)
    await signage.seen(account, SQUARE, False)
    await signage.review(account, {}, unheard=False)
    assert await pages(town) == [], "a reboot takes a while"
    await town.run("UPDATE panels SET missing_since = :then", then=datetime.now(UTC) - timedelta(minutes=2))
    await signage.seen(account, BRIDGE, True)
    for _ in range(3):
        await signage.review(account, {}, unheard=False)
    assert await pages(town) == [(f"panel {ACCOUNT} piazza-calcinaia", True), (f"panel {ACCOUNT} scuola-morandi", True)]
    async with town.database.write() as session:
        await session.execute(update(tables.Page).values(acknowledged_at=datetime.now(UTC)))
    await signage.review(account, {}, unheard=False)
    assert len(await pages(town)) == 2, "whoever has seen it is not called again for the same"
    await signage.seen(account, SIREN, True)
    await signage.seen(account, SIREN, False)
    await town.run("UPDATE panels SET missing_since = :then", then=datetime.now(UTC) - timedelta(minutes=2))
    await signage.review(account, {}, unheard=False)
    assert [is_open for about, is_open in await pages(town) if "morandi" in about] == [False, True]
    await signage.seen(account, SIREN, True)
    assert not any(is_open for about, is_open in await pages(town) if "morandi" in about)


async def test_a_panel_that_is_there_and_confirms_nothing_is_somebodys_to_look_at(
    town: Town, signage: Signage, account: Account
) -> None:
    """As one whose broker fell with it, and goes on saying `online` for it; or whose clock is a day ahead."""
    for topic in (BRIDGE, SQUARE, SIREN):
        await signage.seen(account, topic, True)
    dispatch = await begun(town, "Evacuare", red=True)
    signs = {sign.topic: sign for sign in await signage.review(account, {}, unheard=False)}
    await signage.acknowledged(account, SIREN, signs[SIREN].version, Shows.CLEAR)
    await signage.review(account, {}, unheard=False)
    assert await pages(town) == []
    await town.run("UPDATE panels SET since = :then", then=datetime.now(UTC) - timedelta(minutes=2))
    for _ in range(2):
        await signage.review(account, {}, unheard=False)
    assert sorted(await pages(town)) == [
        (f"panel {ACCOUNT} ponte-fornacette", True),
        (f"panel {ACCOUNT} scuola-morandi", True),
    ]
    await signage.acknowledged(account, BRIDGE, signs[BRIDGE].version, Shows.SHOW)
    assert (f"panel {ACCOUNT} ponte-fornacette", False) in await pages(town)
    assert len(await receipts(town)) == 2 and dispatch


@ONE_KIND
async def test_a_panel_for_exercises_is_told_of_nothing_else(town: Town, account: Account, tmp_path: Path) -> None:
    drills = PANELS.replace('name = "mqtt.calcinaia"', 'name = "mqtt.calcinaia.exercise"\nexercise = true')
    drills = drills.replace("[[panels]]", "[[panels]]\nexercise = true").replace('\nid = "', '\nid = "prova-')
    with_both = calcinaia(tmp_path / "both", PANELS + drills)["calcinaia"]
    async with town.database.write() as session:
        await enrol(session, [with_both], town.seal, share_of_limit=1.0, now=datetime.now(UTC))
    town.authorities[COMUNE] = with_both

    async def told(dispatch: int) -> set[str]:
        addresses = {row.address_id for row in await town.deliveries(dispatch)}
        async with town.database.read() as session:
            rows = await session.scalars(select(tables.Panel).where(tables.Panel.address_id.in_(addresses)))
        return {row.name for row in rows}

    assert await told(await begun(town, "Evacuare", red=True)) == {"ponte-fornacette", "scuola-morandi"}
    drill = await begun(town, "Prova", red=True, exercise=True)
    assert await told(drill) == {"prova-ponte-fornacette", "prova-scuola-morandi"}
    signage = Signage(town.database)
    shown = await signage.review(replace(account, name="mqtt.calcinaia.exercise"), {}, unheard=False)
    assert {sign.lines[0] for sign in shown} == {"ESERCITAZIONE - PROVA"}
    live = await signage.review(account, {}, unheard=False)
    assert {sign.lines[0] for sign in live} == {"EVACUARE"}


@ONE_KIND
async def test_a_broker_that_is_away_too_long_is_somebodys_to_look_at(
    town: Town, signage: Signage, account: Account
) -> None:
    await signage.reachable(account, timedelta(seconds=59))
    assert await pages(town) == []
    for _ in range(3):
        await signage.reachable(account, timedelta(seconds=61))
    assert await pages(town) == [(f"account {ACCOUNT}", True)]
    await signage.reachable(account, None)
    assert await pages(town) == [(f"account {ACCOUNT}", False)]


async def test_a_panel_taken_out_of_the_file_goes_dark_and_is_told_nothing_more(
    town: Town, signage: Signage, account: Account, tmp_path: Path
) -> None:
    dispatch = await begun(town, "Piena")
    shown = await signage.revise(account, BRIDGE, SAID, f"{dispatch}.1.1")
    without = calcinaia(tmp_path / "fewer", PANELS.replace("ponte-fornacette", "ponte-nuovo"))["calcinaia"]
    for _ in range(2):
        async with town.database.write() as session:
            await enrol(session, [without], town.seal, share_of_limit=1.0, now=datetime.now(UTC))
    (dark,) = await signage.review(account, {}, unheard=False)
    assert shown is not None and (dark.topic, dark.state) == (BRIDGE, Shows.CLEAR) and dark.version > shown.version
    again = await begun(town, "Ponte chiuso")
    told = {row.address_id for row in await town.deliveries(again)}
    assert (await panel(town)).address_id not in told
    assert (await panel(town, "pc/050004/vms/ponte-nuovo")).address_id in told


@ONE_KIND
async def test_a_comune_with_panels_is_enrolled_twice_without_a_second_post(town: Town) -> None:
    before = await town.count(tables.Recipient), await town.count(tables.Panel)
    async with town.database.write() as session:
        everybody = town.authorities.values()
        await enrol(session, everybody, town.seal, share_of_limit=1.0, now=datetime.now(UTC))
    assert (await town.count(tables.Recipient), await town.count(tables.Panel)) == before == (3, 3)
    async with town.database.read() as session:
        rows = (await session.scalars(select(tables.Recipient))).all()
    assert all(row.is_channel and row.located and row.live for row in rows)


@ONE_KIND
async def test_two_comuni_that_call_their_panels_the_same_keep_their_own_password_and_pace(
    town: Town, tmp_path: Path
) -> None:
    folder = tmp_path / "two"
    folder.mkdir()
    for code, frazione in (("calcinaia", "fornacette"), ("fucecchio", "galleno")):
        account = PANELS.partition("[[panels]]")[0].replace("calcinaia", code)
        post = f'[[panels]]\nid = "ponte"\nkind = "vms"\narea = "{frazione}"\n'
        (folder / f"{code}.toml").write_text((authorities.FOLDER / f"{code}.toml").read_text() + account + post)
    both = load(folder)
    async with town.database.write() as session:
        await enrol(session, both.values(), town.seal, share_of_limit=1.0, now=datetime.now(UTC))
    async with town.database.read() as session:
        rows = (await session.scalars(tables.of_channel(Channel.MQTT))).all()
    assert [(row.paced_as, row.settings["istat"]) for row in rows] == [
        ("mqtt.calcinaia", "050004"),
        ("mqtt.fucecchio", "048019"),
    ]


@ONE_KIND
async def test_the_end_of_an_alert_by_the_reconciler_changes_nothing_for_panels(
    town: Town, signage: Signage, account: Account
) -> None:
    dispatch = await begun(town, "Piena", lasts=timedelta(seconds=1))
    await signage.revise(account, BRIDGE, SAID, f"{dispatch}.1.1")
    await asyncio.sleep(1.1)
    await Reconciler(town.database).look(datetime.now(UTC).timestamp())
    (clear,) = await signage.review(account, {}, unheard=False)
    assert clear.state is Shows.CLEAR


# ── for the staff ───────────────────────────────────────────────────────────────────────────────────


@ONE_KIND
async def test_operators_see_what_each_panel_should_show_and_says_it_shows(
    database_url: str, amqp_url: str, amqp_prefix: str, tmp_path: Path, known: dict[str, Authority], account: Account
) -> None:
    async with serving(database_url, amqp_url, amqp_prefix, tmp_path) as api:
        town = Town(api.database, api.seal, known)
        signage = Signage(town.database)
        dispatch = await begun(town, "Piena")
        sign = await signage.revise(account, BRIDGE, SAID, f"{dispatch}.1.1")
        assert sign is not None
        await signage.seen(account, BRIDGE, True)

        answer = await api.ask("GET", "/v1/panels")
        assert answer.status == 200
        items = {item["id"]: item for item in answer.body["items"]}
        assert list(items) == ["scuola-morandi", "piazza-calcinaia", "ponte-fornacette"]
        bridge, siren = items["ponte-fornacette"], items["scuola-morandi"]
        assert bridge["should_show"]["lines"][0] == "PIENA" and bridge["should_show"]["version"] == sign.version
        assert (bridge["online"], bridge["acknowledged"], bridge["is_right"]) == (True, None, False)
        assert (siren["online"], siren["should_show"]["state"], siren["kind"]) == (None, "CLEAR", "siren")

        await signage.acknowledged(account, BRIDGE, sign.version, Shows.CLEAR)
        items = {item["id"]: item for item in (await api.ask("GET", "/v1/panels", "carla")).body["items"]}
        assert not items["ponte-fornacette"]["is_right"], "it has the version, and shows nothing"
        assert (await api.ask("GET", "/v1/panels", "ezio")).body["items"] == [], "those of another comune"
        assert len((await api.ask("GET", "/v1/panels", "admin")).body["items"]) == 3
        assert (await api.ask("GET", "/v1/panels", "dpc")).status == 403
        assert (await api.ask("GET", "/v1/panels", None)).status == 401

        preview = await api.ask(
            "POST",
            "/v1/alerts/preview",
            json={
                "kind": "allerta-meteo",
                "colour": "arancione",
                "risk": "idraulico",
                "headline": "Piena dell'Arno",
                "description": "L'Arno sale.",
                "instruction": "Lascia i piani bassi.",
                "areas": ["fornacette"],
                "expires": (datetime.now(UTC) + timedelta(hours=6)).isoformat(),
            },
        )
        assert preview.body["recipients"] == 1, "the panel, and not the siren"
        (most,) = [one for one in preview.body["characters"] if one["channel"] == "mqtt"]
        assert most["characters"] <= most["most"] == 99
