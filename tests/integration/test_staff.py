"""The staff are told what is amiss: once, whoever looks and however often, and once more when it is over."""

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiohttp import web
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import issuing, noticing, paging, sources
from alerting.authorities import FOLDER
from alerting.composing import Wording
from alerting.domain.intake import CameBy, IntakeState
from alerting.domain.kinds import Colour, Kind, Risk
from alerting.domain.lanes import Lane
from alerting.domain.notices import A_TRIAL, GIVES_UP_AFTER, Answer, Ended, Matter, Quiet, Staff
from alerting.persistence import Database
from alerting.persistence.tables import Alert, DeadLetter, Feed, Intake, Notice, Page, ProviderRate, Telling, WorkerSign
from consumers.apprising import MOST_THREADS, Post
from consumers.staff import HOLD, LOOK_EVERY, Announcing
from tests.integration.engine import ANNA, BRUNO, EVACUATE, ONE_KIND, WHATSAPP, Town, a_town, until

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
"""One of Apprise's plugins, when all of them are loaded."""

SALA, SISTEMISTI = "staff.calcinaia.sala", "staff.sistemisti"
BEGAN = datetime(2026, 11, 26, 18, 0, tzinfo=UTC)
SECRET = "segretissimo-T0ken"
EVERYTHING = frozenset(Matter)
SOURCES = sources.load()


@dataclass
class Room:
    """Where the staff read: a real HTTP server. `does`: answers, refuses (500), drips, hangs."""

    does: str = "answers"
    heard: list[dict[str, Any]] = field(default_factory=list)
    tried: int = 0
    url: str = ""
    released: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def said(self) -> list[str]:
        return [one["message"] for one in self.heard]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.tried += 1
        body = await request.read()
        if self.does == "refuses":
            return web.Response(status=500)
        if self.does == "hangs":
            # A byte now and then, so that no timeout of a single read ends it: only ours does.
            response = web.StreamResponse()
            await response.prepare(request)
            while not self.released.is_set():
                await response.write(b".")
                await asyncio.sleep(0.1)
            return response
        self.heard.append(json.loads(body) if request.path.startswith("/json") else {"message": body.decode()})
        return web.Response()


@asynccontextmanager
async def a_room(does: str = "answers", scheme: str = "json") -> AsyncIterator[Room]:
    room = Room(does)
    app = web.Application()
    app.router.add_route("*", "/{where:.*}", room.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    room.url = f"{scheme}://127.0.0.1:{runner.addresses[0][1]}/{scheme}/{SECRET}"
    try:
        yield room
    finally:
        room.released.set()
        await until(lambda: not any(one.name.startswith("tells ") for one in threading.enumerate()), within=60)
        await runner.cleanup()


@dataclass
class Clock:
    """Everybody's, moved by hand."""

    now: datetime = BEGAN

    async def __call__(self, _: AsyncSession) -> datetime:
        return self.now

    def later(self, **how: float) -> None:
        self.now += timedelta(**how)


@dataclass
class Office:
    """Calcinaia with somebody to tell: their addresses, and a worker that looks when it is asked to."""

    town: Town
    clock: Clock = field(default_factory=Clock)
    staff: dict[str, Staff] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)

    def tells(self, room: Room | str, staff: Staff | None = None) -> None:
        one = staff or Staff("sala", EVERYTHING, None, "calcinaia")
        self.staff[one.account] = one
        self.addresses[one.account] = room if isinstance(room, str) else room.url

    def worker(self, database: Database | None = None, hangs_after: float = 10.0) -> Announcing:
        post = Post(self.addresses.get, hangs_after)
        of = database or self.town.database
        return Announcing(of, self.staff, self.town.authorities, SOURCES, post, self.clock)

    async def round(self, worker: Announcing | None = None) -> None:
        """One look and all that is to be told, to its end."""
        worker = worker or self.worker()
        await worker.look()
        await worker.tell()
        await worker.finish(30)

    async def run(self, statement: Any) -> None:
        async with self.town.database.write() as session:
            await session.execute(statement)

    async def add(self, *rows: Any) -> None:
        async with self.town.database.write() as session:
            session.add_all(rows)

    async def halt(self, at: float = 1.0, account: str = WHATSAPP) -> None:
        await self.run(
            update(ProviderRate)
            .where(ProviderRate.account == account)
            .values(halted_at=at, halted_because=f"131031 {SECRET}" if at else None)
        )

    async def tellings(self) -> list[tuple[str, bool, Answer | None, Ended | None, int]]:
        async with self.town.database.read() as session:
            query = select(Telling).order_by(Telling.notice, Telling.staff, Telling.is_over)
            return [(one.staff, one.is_over, one.last, one.ended, one.attempts) for one in await session.scalars(query)]

    async def notices(self) -> list[Notice]:
        async with self.town.database.read() as session:
            return list((await session.scalars(select(Notice).order_by(Notice.id))).all())


@pytest.fixture
async def office(database_url: str) -> AsyncIterator[Office]:
    async with a_town(database_url) as town:
        yield Office(town)


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    async with a_room() as room:
        yield room


# ── what is told ────────────────────────────────────────────────────────────────────────────────────


async def test_a_halted_account_is_told_once_and_that_it_sends_again_once_that_has_lasted(
    office: Office, room: Room
) -> None:
    office.tells(room)
    await office.round()
    assert room.heard == [], "nothing is amiss"
    await office.halt()
    for _ in range(3):
        await office.round()
        office.clock.later(minutes=5)
    (told,) = room.heard
    assert told["title"] == "Allerta cittadini: serve qualcuno adesso"
    assert told["message"].startswith("whatsapp.calcinaia è fermo:")
    assert told["type"] == "failure"
    await office.halt(0.0)
    await office.round()
    office.clock.later(seconds=30)
    await office.round()
    assert len(room.heard) == 1, "it may halt again at the next text"
    office.clock.later(seconds=31)
    for _ in range(3):
        await office.round()
    assert room.said[1:] == ["Tornato a posto: whatsapp.calcinaia invia di nuovo."]


async def test_an_account_that_halts_each_minute_is_one_trouble(office: Office, room: Room) -> None:
    office.tells(room)
    for turn in range(6):
        await office.halt(1.0 if turn % 2 == 0 else 0.0)
        await office.round()
        office.clock.later(seconds=40)
    assert len(room.heard) == 1
    assert len(await office.notices()) == 1


async def test_an_urgent_draft_asks_for_a_second_person_at_once_and_says_nothing_of_what_is_in_it(
    office: Office, room: Room
) -> None:
    office.tells(room)
    identifier = await draft(office)
    await office.round()
    (said,) = room.said
    assert "un avviso urgente (allerta meteo)" in said and identifier in said
    assert said.startswith("Comune di Calcinaia: ")
    assert "Arno" not in said and EVACUATE not in said, "nobody has approved these words"
    async with office.town.database.write() as session:
        await issuing.approve(session, await session.get_one(Alert, identifier), BRUNO, office.clock.now)
    await office.round()
    assert room.said[1:] == [f"Tornato a posto: {identifier} non aspetta più approvazione."]


async def test_a_routine_draft_may_rest_for_a_minute(office: Office, room: Room) -> None:
    office.tells(room)
    await draft(office, lane=Lane.ROUTINE)
    await office.round()
    assert room.heard == []
    office.clock.later(seconds=61)
    await office.round()
    assert len(room.heard) == 1
    assert room.heard[0]["type"] == "warning"


async def test_a_draft_whose_time_is_over_waits_for_nobody(office: Office, room: Room) -> None:
    office.tells(room)
    await draft(office, expires_at=BEGAN - timedelta(seconds=1))
    office.clock.later(hours=1)
    await office.round()
    assert room.heard == []


async def test_a_silent_source_is_told_to_everybody_and_that_it_speaks_again(office: Office, room: Room) -> None:
    async with a_room() as other:
        office.tells(room)
        office.tells(other, Staff("sistemisti", frozenset({Matter.FEEDS})))
        name = next(name for name, source in SOURCES.items() if source.polling and source.enabled)
        await office.add(Feed(source=name, answered_at=0.0, silent_since=BEGAN, next_at=0.0))
        await office.round()
        assert room.said == other.said
        assert room.said[0].startswith(f"{SOURCES[name].title}: non risponde dalle")
        await office.run(update(Feed).values(silent_since=None))
        await office.round()
        office.clock.later(seconds=30)
        await office.round()
        assert other.said[1:] == [f"Tornato a posto: {SOURCES[name].title} risponde di nuovo."]


async def test_dead_letters_are_counted_by_lane_and_why_and_more_of_them_are_told_after_an_hour(
    office: Office, room: Room
) -> None:
    office.tells(room)
    await office.add(*(dead_letter() for _ in range(3)))
    await office.round()
    assert room.said[0].startswith("Corsia emergency: 3 messaggi scartati (unreadable).")
    await office.add(dead_letter())
    office.clock.later(minutes=30)
    await office.round()
    assert len(room.heard) == 1
    office.clock.later(minutes=31)
    await office.round()
    await office.round()
    assert [said[:42] for said in room.said[1:]] == ["Corsia emergency: 4 messaggi scartati (unr"]
    await office.run(update(DeadLetter).values(ended_at=office.clock.now))
    await office.round()
    await office.round()
    assert room.said[2:] == ["Tornato a posto: Corsia emergency: nessun messaggio scartato (unreadable) aspetta più."]


async def test_a_quarantine_is_told_by_source(office: Office, room: Room) -> None:
    office.tells(room)
    name = next(iter(SOURCES))
    await office.add(*(document(name) for _ in range(50)))
    await office.round()
    assert [said.split(" in quarantena")[0] for said in room.said] == [f"{SOURCES[name].title}: 50 documenti"]


async def test_whoever_is_on_duty_and_does_not_answer_is_told_of_after_three_calls_until_they_have(
    office: Office, room: Room
) -> None:
    office.tells(room)
    await call(office, "Allerta arancione.")
    await office.run(update(Page).values(called=2))
    await office.round()
    assert room.heard == []
    await office.run(update(Page).values(called=3))
    await office.round()
    assert room.said == [
        "La reperibilità non risponde: 1 pagina aperta, fino a 3 chiamate. Apri la console e conferma di averle viste."
    ]
    await call(office, "Allerta rossa.")  # graver: they are called anew
    office.clock.later(minutes=1)
    await office.round()
    assert len(room.heard) == 1, "nobody has answered"
    async with office.town.database.write() as session:
        await paging.acknowledge(session, 1, "luca", office.clock.now)
    await office.round()
    assert room.said[1:] == ["Tornato a posto: Tutte le pagine hanno avuto risposta."]


async def test_a_storm_of_troubles_is_one_notice(office: Office, room: Room) -> None:
    office.tells(room)
    await office.halt()
    for why in ("unreadable", "misplaced", "expired", "full", "foreign", "unsaid"):
        await office.add(dead_letter(why))
    await office.round()
    (said,) = room.said
    assert said.splitlines()[-1] == "E altre 4: guarda nella console."
    assert len(await office.notices()) == 7


async def test_a_comune_hears_nothing_of_its_neighbour_and_the_system_hears_of_both(office: Office, room: Room) -> None:
    async with a_room() as other:
        office.tells(room)
        office.tells(other, Staff("sistemisti", frozenset({Matter.HALTS})))
        await office.halt(account="whatsapp.bientina")
        await office.halt()
        await office.round()
        assert "bientina" not in room.said[0]
        assert [line.split(" ")[0] for line in other.said[0].splitlines()] == [
            "whatsapp.bientina",
            "whatsapp.calcinaia",
        ]


async def test_at_night_only_what_is_urgent_is_told_and_in_the_morning_what_still_holds(
    office: Office, room: Room
) -> None:
    office.clock.now = datetime(2026, 11, 26, 22, 30, tzinfo=UTC)
    office.tells(room, Staff("sala", EVERYTHING, Quiet(time(22), time(7)), "calcinaia"))
    one, other = list(SOURCES)[:2]
    await office.add(document(one), document(other))
    await office.round()
    assert room.heard == []
    await office.halt()
    await office.round()
    assert [said[:18] for said in room.said] == ["whatsapp.calcinaia"]
    await office.run(update(Intake).where(Intake.source == one).values(state=IntakeState.TAKEN))
    await office.round()
    office.clock.now = datetime(2026, 11, 27, 6, 1, tzinfo=UTC)
    await office.round()
    assert [said.split(":")[0] for said in room.said[1:]] == [SOURCES[other].title]


# ── once ────────────────────────────────────────────────────────────────────────────────────────────


async def test_two_workers_at_once_tell_it_once(office: Office, room: Room) -> None:
    office.tells(room)
    others = [Database(office.town.database.url) for _ in range(4)]
    try:
        await office.halt()
        await draft(office)
        for _ in range(3):
            await asyncio.gather(*(office.round(office.worker(database)) for database in others))
        assert sum(len(said.splitlines()) for said in room.said) == 2
        await office.halt(0.0)
        for _ in range(3):
            await asyncio.gather(*(office.round(office.worker(database)) for database in others))
            office.clock.later(seconds=61)
        assert sum(said.count("invia di nuovo") for said in room.said) == 1
        assert sum(said.count("è fermo") for said in room.said) == 1
    finally:
        await asyncio.gather(*(database.close() for database in others))


async def test_a_worker_that_starts_again_repeats_nothing(office: Office, room: Room) -> None:
    office.tells(room)
    await office.halt()
    for _ in range(5):
        await office.round(office.worker())
        office.clock.later(hours=3)
    assert len(room.heard) == 1


async def test_what_was_claimed_by_a_worker_that_died_is_told_by_the_next_and_not_before_its_time(
    office: Office, room: Room
) -> None:
    office.tells(room)
    await office.halt()
    await office.worker().look()
    async with office.town.database.write() as session:
        (died,) = await noticing.claim(session, office.staff, office.clock.now, HOLD)
    assert died.staff == SALA
    await office.round()
    assert room.heard == [], "it may be telling it right now"
    office.clock.later(seconds=HOLD.total_seconds() + 1)
    await office.round()
    await office.round()
    assert len(room.heard) == 1
    assert await office.tellings() == [(SALA, False, Answer.SENT, Ended.SENT, 2)]


async def test_a_worker_that_wakes_up_late_does_not_undo_what_the_next_has_in_hand(office: Office, room: Room) -> None:
    office.tells(room)
    await office.halt()
    await office.worker().look()
    async with office.town.database.write() as session:
        (slow,) = await noticing.claim(session, office.staff, office.clock.now, HOLD)
    office.clock.later(minutes=2)
    async with office.town.database.write() as session:
        (quick,) = await noticing.claim(session, office.staff, office.clock.now, HOLD)
    async with office.town.database.write() as session:
        assert await noticing.record(session, slow, Answer.FAILED, office.clock.now) == []
    office.clock.later(seconds=HOLD.total_seconds() - 5)
    await office.round()
    assert room.heard == [], "the next is telling it"
    async with office.town.database.write() as session:
        assert await noticing.record(session, quick, Answer.SENT, office.clock.now) == [(Matter.HALTS, Ended.SENT)]
    async with office.town.database.write() as session:
        assert await noticing.record(session, slow, Answer.FAILED, office.clock.now) == []
    assert await office.tellings() == [(SALA, False, Answer.SENT, Ended.SENT, 2)]


async def test_what_was_told_late_is_told_all_the_same(office: Office, room: Room) -> None:
    office.tells(room)
    await office.halt()
    await office.worker().look()
    async with office.town.database.write() as session:
        (slow,) = await noticing.claim(session, office.staff, office.clock.now, HOLD)
    office.clock.later(minutes=2)
    async with office.town.database.write() as session:
        await noticing.claim(session, office.staff, office.clock.now, HOLD)
    async with office.town.database.write() as session:
        assert await noticing.record(session, slow, Answer.SENT, office.clock.now) == [(Matter.HALTS, Ended.SENT)]
    office.clock.later(minutes=2)
    await office.round()
    assert room.heard == [], "the one who was slow has said it"


async def test_what_comes_while_a_room_is_being_told_waits_its_turn_also_in_another_worker(
    office: Office, room: Room
) -> None:
    office.tells(room)
    await office.halt()
    await office.worker().look()
    async with office.town.database.write() as session:
        (first,) = await noticing.claim(session, office.staff, office.clock.now, HOLD)
    await draft(office)
    await office.round()
    assert room.heard == []
    async with office.town.database.write() as session:
        await noticing.record(session, first, Answer.SENT, office.clock.now)
    await office.round()
    assert len(room.heard) == 1


async def test_what_is_not_urgent_and_comes_soon_after_another_goes_with_what_follows(
    office: Office, room: Room
) -> None:
    office.tells(room)
    one, two, three = list(SOURCES)[:3]
    for source in (one, two, three):
        await office.add(document(source))
        await office.round()
        office.clock.later(seconds=5)
    assert len(room.heard) == 1
    office.clock.later(seconds=20)
    await office.round()
    assert [len(said.splitlines()) for said in room.said] == [1, 2]


async def test_a_notice_that_kills_whoever_tells_it_is_given_up(office: Office, room: Room) -> None:
    office.tells(room)
    await office.halt()
    for _ in range(20):
        await office.worker().look()
        async with office.town.database.write() as session:
            await noticing.claim(session, office.staff, office.clock.now, HOLD)
        office.clock.later(seconds=HOLD.total_seconds() + 1)
    await office.round()
    ((_, _, _, ended, attempts),) = await office.tellings()
    assert (ended, attempts) == (Ended.GIVEN_UP, 12)
    assert room.heard == []


# ── how it fails ────────────────────────────────────────────────────────────────────────────────────


async def test_a_room_that_refuses_is_asked_more_and_more_seldom_for_an_hour(office: Office, room: Room) -> None:
    room.does = "refuses"
    office.tells(room)
    await office.halt()
    for _ in range(75):
        await office.round()
        office.clock.later(minutes=1)
    ((account, _, last, ended, attempts),) = await office.tellings()
    assert (account, last, ended) == (SALA, Answer.FAILED, Ended.GIVEN_UP)
    assert 5 <= attempts == room.tried <= 12
    room.does = "answers"
    office.clock.later(days=1)
    await office.round()
    assert room.heard == []


async def test_what_could_not_be_told_is_told_when_the_room_is_back(office: Office, room: Room) -> None:
    room.does = "refuses"
    office.tells(room)
    await office.halt()
    await office.round()
    room.does = "answers"
    office.clock.later(seconds=10)
    await office.round()
    assert room.tried == 1
    office.clock.later(seconds=6)
    await office.round()
    assert len(room.heard) == 1


async def test_nobody_is_told_that_something_is_over_of_which_they_never_heard(office: Office, room: Room) -> None:
    room.does = "refuses"
    office.tells(room)
    await office.add(document(next(iter(SOURCES))))
    await office.round()
    await office.run(update(Intake).values(state=IntakeState.TAKEN))
    room.does = "answers"
    for _ in range(3):
        office.clock.later(minutes=5)
        await office.round()
    assert room.heard == []
    assert [ended for *_, ended, _ in await office.tellings()] == [Ended.WITHDRAWN]


@pytest.mark.parametrize(
    ("address", "ended"),
    [
        (f"carrier-pigeon://{SECRET}", Ended.WRONG_ADDRESS),
        ("json://", Ended.WRONG_ADDRESS),
        (None, Ended.NO_ADDRESS),
    ],
)
async def test_an_address_that_cannot_work_is_shown_and_not_tried_again(
    office: Office, address: str | None, ended: Ended
) -> None:
    office.tells(address or "")
    if address is None:
        office.addresses.clear()
    await office.halt()
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            await office.round()
            office.clock.later(minutes=20)
    assert [(how, attempts) for *_, how, attempts in await office.tellings()] == [(ended, 1)]
    assert SECRET not in json.dumps(logs, default=str)


async def test_a_port_where_nobody_listens_is_a_failure_and_its_address_is_in_no_log(office: Office) -> None:
    async with a_room() as gone:
        office.tells(gone)
    await office.halt()
    with structlog.testing.capture_logs() as logs:
        await office.round()
    assert [last for _, _, last, *_ in await office.tellings()] == [Answer.FAILED]
    assert SECRET not in json.dumps(logs, default=str)
    assert logs


async def test_a_room_that_hangs_holds_up_nobody_and_is_left_alone_until_it_lets_go(office: Office, room: Room) -> None:
    async with a_room("hangs") as slack:
        office.tells(slack)
        office.tells(room, Staff("sistemisti", EVERYTHING))
        await office.halt()
        worker = office.worker(hangs_after=1.0)
        await worker.look()
        await worker.tell()
        await until(lambda: len(room.heard) == 1)
        await worker.finish(10)
        for _ in range(5):
            office.clock.later(minutes=5)
            await office.round(worker)
        hanging = [one for one in threading.enumerate() if one.name.startswith("tells ")]
        assert [one.name for one in hanging] == [f"tells {SALA}"], "one thread, however often it was tried"
        assert slack.tried == 1
        theirs = [one for one in await office.tellings() if one[0] == SALA]
        assert [(last, ended) for _, _, last, ended, _ in theirs] == [(Answer.BUSY, None)]
        assert len(room.heard) == 1


async def test_threads_that_hang_are_bounded_over_all_rooms() -> None:
    async with a_room("hangs") as slack:
        post = Post(lambda _: slack.url, hangs_after=0.5)
        replies = await asyncio.gather(*(post.send(f"staff.{n}", A_TRIAL) for n in range(MOST_THREADS + 5)))
        hanging = [one for one in threading.enumerate() if one.name.startswith("tells ")]
        assert len(hanging) <= MOST_THREADS
        assert [reply.answer for reply in replies].count(Answer.BUSY) == 5


async def test_who_was_perhaps_told_is_told_that_it_is_over(office: Office) -> None:
    async with a_room("hangs") as slack:
        office.tells(slack)
        await office.add(document(next(iter(SOURCES))))
        await office.round(office.worker(hangs_after=0.5))
        slack.released.set()
        slack.does = "answers"
        await office.run(update(Intake).values(state=IntakeState.TAKEN))
        await until(lambda: not any(one.name.startswith("tells ") for one in threading.enumerate()))
        await office.round()
        assert [said.split(":")[0] for said in slack.said] == ["Tornato a posto"]


async def test_xml_is_told_too(office: Office) -> None:
    async with a_room(scheme="xml") as teams:
        office.tells(teams)
        await office.halt()
        await office.round()
        assert "whatsapp.calcinaia" in teams.said[0]
        assert [ended for *_, ended, _ in await office.tellings()] == [Ended.SENT]


async def test_staff_who_are_in_no_file_any_more_are_given_up_after_their_hour(office: Office, room: Room) -> None:
    office.tells(room)
    await office.halt()
    await office.worker().look()
    office.staff.clear()
    office.clock.later(seconds=GIVES_UP_AFTER.total_seconds() + 1)
    await office.round()
    assert [ended for *_, ended, _ in await office.tellings()] == [Ended.GIVEN_UP]


# ── the process ─────────────────────────────────────────────────────────────────────────────────────


def environment(where: Path, database: str, urls: dict[str, str], staff: str = "") -> dict[str, str]:
    folder = where / "authorities"
    folder.mkdir()
    for file in FOLDER.glob("*.toml"):
        (folder / file.name).write_text(file.read_text() + (staff if file.stem == "calcinaia" else ""))
    secrets = where / "secrets.json"
    secrets.write_text(json.dumps({account: {"url": url} for account, url in urls.items()}))
    return os.environ | {
        "DATABASE_URL": database,
        "ALERTING_KEY": "5e" * 32,
        "ALERTING_AUTHORITIES_FOLDER": str(folder),
        "ALERTING_SECRETS_FILE": str(secrets),
        "ALERTING_STAFF": json.dumps({"sistemisti": ["halts"]}),
    }


OF_CALCINAIA = '\n[[staff]]\nname = "sala"\nfor = ["halts"]\n\n[[staff]]\nname = "reperibili"\nfor = ["pages"]\n'


async def started(environment: dict[str, str], *words: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "consumers", "staff", *words),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def test_a_trial_says_of_each_what_happened_and_of_none_where_it_is(tmp_path: Path) -> None:
    async with a_room() as room, a_room("refuses") as refuses:
        urls = {SALA: room.url, "staff.calcinaia.reperibili": refuses.url, SISTEMISTI: f"pigeon://{SECRET}/a/b"}
        process = await started(environment(tmp_path, "", urls, OF_CALCINAIA), "--try")
        printed, _ = await process.communicate()
        said = printed.decode()
        assert sorted(said.splitlines()) == [
            "staff.calcinaia.reperibili: failed (HTTP 500)",
            "staff.calcinaia.sala: sent",
            "staff.sistemisti: wrong_address (Apprise does not understand the url)",
        ]
        assert process.returncode == 1
        assert SECRET not in said
        assert room.heard[0]["title"] == "Allerta cittadini: prova"


async def test_a_trial_over_tokens_in_addresses_prints_none_of_them(tmp_path: Path) -> None:
    """What cannot be reached is what libraries like to log, with the whole address."""
    urls = {SALA: f"json://user:{SECRET}@127.0.0.1:9/{SECRET}?+X-Token={SECRET}"}
    urls |= {SISTEMISTI: f"smtp://a:{SECRET}@127.0.0.1:9", "staff.calcinaia.reperibili": f"xml://127.0.0.1:9/{SECRET}"}
    process = await started(environment(tmp_path, "", urls, OF_CALCINAIA), "--try")
    printed, _ = await process.communicate()
    assert SECRET not in printed.decode()
    assert len(printed.decode().splitlines()) == 3, printed.decode()


def test_what_libraries_log_with_addresses_in_it_is_printed_nowhere() -> None:
    said = (
        "import logging; from consumers.apprising import keep_quiet; keep_quiet();"
        "logging.getLogger('slixmpp').warning('a-token');"
        "logging.getLogger().addHandler(logging.StreamHandler()); logging.getLogger().setLevel(logging.DEBUG);"
        "logging.getLogger('urllib3.connectionpool').debug('POST /a-token');"
        "logging.getLogger('apprise').error('a-token');"
        "logging.getLogger('asyncio').error('told')"
    )
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "told\n")


@ONE_KIND
async def test_the_process_tells_and_ends_when_it_is_asked_to_though_a_room_hangs(
    office: Office, tmp_path: Path
) -> None:
    async with a_room("hangs") as slack, a_room() as room:
        urls = {SALA: slack.url, SISTEMISTI: room.url}
        await office.halt()
        process = await started(environment(tmp_path, office.town.database.url, urls, OF_CALCINAIA))
        try:
            await until(lambda: len(room.heard) == 1 and slack.tried == 1, within=60)
            process.terminate()
            printed, _ = await asyncio.wait_for(process.communicate(), 30)
        finally:
            if process.returncode is None:
                process.kill()
        assert process.returncode == 0, printed.decode()
        assert SECRET not in printed.decode()
        assert b"Traceback" not in printed, printed.decode()


@ONE_KIND
async def test_what_a_killed_process_was_telling_is_told_once_by_the_next(office: Office, tmp_path: Path) -> None:
    async with a_room("hangs") as room:
        await office.halt()
        inherited = environment(tmp_path, office.town.database.url, {SISTEMISTI: room.url})
        first = await started(inherited)
        await until(lambda: room.tried == 1, within=60)
        first.kill()  # it has said that it tells them, and not what came of it
        await first.communicate()
        room.does = "answers"
        second = await started(inherited)
        try:
            await until(lambda: is_at_work(office), within=60)
            await asyncio.sleep(2 * LOOK_EVERY)
            assert room.tried == 1, "the first may live, and be about to write down that they were told"
            await office.run(update(Telling).values(claimed_until=0.0))  # a minute later
            await until(lambda: len(room.heard) == 1, within=60)
            await until(lambda: is_told(office), within=60)
            await asyncio.sleep(2 * LOOK_EVERY + 0.5)
            assert [(ended, attempts) for *_, ended, attempts in await office.tellings()] == [(Ended.SENT, 2)]
            assert len(room.heard) == 1
        finally:
            second.terminate()
            await second.communicate()


async def is_at_work(office: Office) -> bool:
    async with office.town.database.read() as session:
        names = await session.scalars(select(WorkerSign.name).where(WorkerSign.role == "staff"))
        return len(names.all()) == 2


async def is_told(office: Office) -> bool:
    return all(ended is not None for *_, ended, _ in await office.tellings())


def test_no_other_process_loads_apprise() -> None:
    loaded = "import sys, consumers.__main__, alerting.commands, alerting.api.app; print('apprise' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# ── pieces ──────────────────────────────────────────────────────────────────────────────────────────


async def draft(office: Office, **changes: Any) -> str:
    """An alert that waits for its second person."""
    town, clock = office.town, office.clock
    async with town.database.write() as session:
        row = await a_draft(session, town, clock.now)
        for name, value in changes.items():
            setattr(row, name, value)
        return row.identifier


async def a_draft(session: AsyncSession, town: Town, now: datetime) -> Alert:
    wording = Wording(
        kind=Kind.ALLERTA_METEO,
        headline="Piena dell'Arno a Fornacette",
        description="Il fiume sale.",
        instruction=EVACUATE,
        expires=now + timedelta(hours=2),
        colour=Colour.ARANCIONE,
        risk=Risk.IDRAULICO,
        areas=("calcinaia.fornacette",),
    )
    return await issuing.draft(session, wording, town.authority, ANNA, now)


async def call(office: Office, sentence: str) -> None:
    async with office.town.database.write() as session:
        await paging.call(session, "alert calcinaia-1", sentence, office.clock.now, "calcinaia")


def dead_letter(why: str = "unreadable") -> DeadLetter:
    return DeadLetter(
        at=BEGAN,
        lane=Lane.EMERGENCY,
        why=why,
        sentence=f"{SECRET} +39333",
        queue="deliver.whatsapp.emergency",
        exchange="",
        routing_key="",
        message_id="",
        headers={},
        body=b"",
    )


def document(source: str) -> Intake:
    return Intake(
        source=source,
        came_by=CameBy.POLL,
        received_at=BEGAN,
        media_type="application/xml",
        raw=b"<alert/>",
        sha256="5e" * 32,
        state=IntakeState.QUARANTINED,
        headline=SECRET,
    )
