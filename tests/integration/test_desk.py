"""What citizens of a two-way comune report and ask for, from the inbox to the desk's answer, on either database."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event, select, update

from alerting import batching, inbox, wire
from alerting.amqp import Incoming
from alerting.desk import appointments, letters, persons, reports
from alerting.desk.handing import Desks
from alerting.domain.appointments import in_words
from alerting.domain.delivery import Channel
from alerting.domain.desk import Desk, Handing, Line, NotOpen, PhotoState, ReportState, filled
from alerting.domain.events import BatchReady, CitizenReported, CitizensWrote, CitizenWrote
from alerting.domain.lanes import Lane
from alerting.domain.sms import Alphabet, Wrote
from alerting.persistence import Database, tables
from alerting.sms_inbox import SmsInbox
from alerting.subscribing import Subscriber
from alerting.webhooks import InboundText
from consumers import politeness
from consumers.desk import Reader
from consumers.inbound import Inbound
from tests.integration.calcinaia import AUTHORITIES, DESKS, SEAL, citizen, count, five_comuni, one_database
from tests.integration.engine import ONE_KIND
from tests.integration.test_inbound import Given

SANTA_FIORA = AUTHORITIES["santa-fiora"]
MARIA, PIETRO = "+393331234567", "+393337654321"
NOW = datetime(2026, 11, 26, 7, 0, tzinfo=UTC)
"""A Thursday, at eight in Santa Fiora."""
IN_BAGNOLO = {"lat": 42.840, "lon": 11.615}


def desk_of() -> Desk:
    assert SANTA_FIORA.desk is not None
    return SANTA_FIORA.desk


TEXTS = desk_of().texts


@dataclass
class Office:
    """Santa Fiora's inbox, the process that reads it, and the desk's own."""

    database: Database
    inbound: Inbound = field(init=False)
    reader: Reader = field(init=False)
    numbers: int = 0

    def __post_init__(self) -> None:
        self.inbound = Inbound(self.database, AUTHORITIES, SEAL)
        self.reader = Reader(self.database, AUTHORITIES, SEAL)

    async def arrives(
        self, words: str | None, sender: str = MARIA, kind: str = "text", *, at: datetime = NOW, **more: Any
    ) -> int:
        """Into the inbox, and through the process that tells joining from reporting. The number of the row."""
        self.numbers += 1
        said = {"sender": sender, "text": words, "kind": kind, "payload": None} | more
        async with self.database.write() as session:
            row = tables.InboundMessage(
                account="whatsapp.santa-fiora",
                provider_id=sha256(f"wamid.{self.numbers}".encode()).hexdigest(),
                received_at=at,
                sealed=SEAL.seal(json.dumps(said)),
            )
            session.add(row)
        given = Given(wire.encode(CitizenWrote(row.id, Channel.WHATSAPP)))
        await self.inbound.take(cast(Incoming, given))
        assert given.fate == ["acknowledged"]
        return row.id

    async def hears(
        self, words: str | None, sender: str = MARIA, kind: str = "text", *, at: datetime = NOW, **more: Any
    ) -> list[str]:
        """What the desk answers to something somebody sends, in order."""
        before = len(await self.letters())
        await self.reader.read(await self.arrives(words, sender, kind, at=at, **more), at)
        return (await self.letters())[before:]

    async def letters(self) -> list[str]:
        return [SEAL.open(one.said) for one in await self.rows(tables.Letter) if one.said and not one.booking]

    async def rows(self, table: Any) -> list[Any]:
        async with self.database.read() as session:
            return list((await session.scalars(select(table).order_by(table.id))).all())

    async def said_in(self, report: int) -> list[str]:
        entries = await self.rows(tables.ReportEntry)
        return [SEAL.open(one.sealed) for one in entries if one.report == report and one.kind is Line.SAID]

    async def books(self, sender: str = MARIA, choice: str = "1", at: datetime = NOW) -> list[str]:
        await self.hears("APPUNTAMENTO ANAGRAFE", sender, at=at)
        return await self.hears(choice, sender, at=at)


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    """What the database is asked meanwhile."""
    said: list[str] = []

    def hear(_: Any, __: Any, statement: str, *___: Any) -> None:
        said.append(statement)

    engine = database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", hear)
    try:
        yield said
    finally:
        event.remove(engine, "before_cursor_execute", hear)


@pytest.fixture
async def office(database_url: str) -> AsyncIterator[Office]:
    async with five_comuni(database_url, "santa-fiora") as database:
        yield Office(database)


# ── handing over ────────────────────────────────────────────────────────────────────────────────────


@one_database
async def test_a_report_is_handed_over_by_one_event_beside_the_lanes_of_those_who_join(office: Office) -> None:
    number = await office.arrives("Buca in via Roma davanti alla scuola")
    (promised,) = await office.rows(tables.OutboxMessage)
    assert (promised.exchange, promised.lane) == ("desk", Lane.ROUTINE)
    assert wire.decode(promised.body) == CitizenReported(number, Channel.WHATSAPP)
    assert await office.rows(tables.Dispatch) == []  # the desk answers, and nobody else
    (row,) = await office.rows(tables.InboundMessage)
    assert row.for_desk is not None
    assert row.sealed is not None


@one_database
@pytest.mark.parametrize("words", ["ATTIVA COMUNE AMICO", "DISATTIVA COMUNE AMICO", "aiuto", "le mie zone", "STOP"])
async def test_joining_leaving_and_help_never_wait_for_the_desk(office: Office, words: str) -> None:
    await office.arrives(words)
    (row,) = await office.rows(tables.InboundMessage)
    assert (row.for_desk, row.sealed) == (None, None)
    assert len(await office.rows(tables.Dispatch)) == 1


@one_database
async def test_a_text_rabbitmq_never_told_of_is_read_nevertheless_and_once(office: Office) -> None:
    await office.arrives("Lampione rotto in piazza Garibaldi")
    later = datetime.now(UTC) + timedelta(minutes=5)
    assert await office.reader.unread(later) == 1
    assert await office.reader.unread(later) == 0
    assert len(await office.rows(tables.Report)) == 1


@one_database
async def test_what_cannot_be_read_stands_before_nobody(office: Office) -> None:
    """Sealed under another key: it stays, for whoever has that one, and is told of once."""
    await office.arrives("Lampione rotto in piazza Garibaldi")
    async with office.database.write() as session:
        await session.execute(update(tables.InboundMessage).values(sealed=b"of another key"))
    await office.arrives("Buca in via Roma")
    later = datetime.now(UTC) + timedelta(minutes=5)
    assert await office.reader.unread(later) == 2
    assert await office.reader.unread(later) == 0
    assert [one.category for one in await office.rows(tables.Report)] == ["buche"]
    async with office.database.write() as session:
        await session.execute(update(tables.Letter).values(said=b"of another key"))
        assert await letters.release(session, SANTA_FIORA, SEAL, later) == 1
        assert await letters.release(session, SANTA_FIORA, SEAL, later) == 0
    assert await office.rows(tables.Dispatch) == []


@ONE_KIND
async def test_a_citizen_who_writes_while_the_staff_closes_opens_nothing_again(office: Office) -> None:
    await office.hears("Buca in via Roma")
    async with office.database.write() as session:
        row = (await session.scalars(select(tables.Report))).one()
        await reports.answer(session, row, SANTA_FIORA, "Dove?", "anna", SEAL, NOW, asks=True)
    number = await office.arrives("davanti al 12")
    async with office.database.write() as session:
        row = (await session.scalars(select(tables.Report).with_for_update())).one()
        reading = asyncio.create_task(office.reader.read(number, NOW))
        await asyncio.sleep(0.3)  # it waits for this very row
        await reports.close(session, row, SANTA_FIORA, ReportState.SOLVED, "", "anna", SEAL, NOW)
    await reading
    states = [one.state for one in await office.rows(tables.Report)]
    assert states == [ReportState.SOLVED, ReportState.NEW]


async def test_a_text_read_twice_at_once_makes_one_report(office: Office) -> None:
    number = await office.arrives("Buca in via Roma")
    await asyncio.gather(*(office.reader.read(number, NOW) for _ in range(4)))
    assert len(await office.rows(tables.Report)) == 1
    assert len(await office.letters()) == 1


@one_database
async def test_nobody_is_asked_to_leave_who_cancels_an_appointment(office: Office) -> None:
    assert await office.hears("Cancellazione appuntamento di lunedì") == [TEXTS.nothing_booked]
    assert await office.rows(tables.Dispatch) == []


@one_database
async def test_what_may_be_a_wish_to_leave_is_asked_about_and_kept_for_the_desk_in_silence(office: Office) -> None:
    assert await office.hears("non voglio più ricevere messaggi la notte") == []
    (asked,) = await office.rows(tables.Dispatch)
    assert asked.reply_text == SANTA_FIORA.texts.ask_leave
    (report,) = await office.rows(tables.Report)
    assert await office.said_in(report.id) == ["non voglio più ricevere messaggi la notte"]


# ── reports ─────────────────────────────────────────────────────────────────────────────────────────


async def test_a_report_is_recognised_kept_sealed_and_confirmed_with_its_number(office: Office) -> None:
    answers = await office.hears("C'è una buca in via Roma, a Bagnolo, vicino alla scuola")
    (report,) = await office.rows(tables.Report)
    assert answers == [filled(TEXTS.taken, numero=str(report.id), categoria="buche e strade")]
    assert (report.category, SEAL.open(report.street), report.frazione) == ("buche", "via Roma", "Bagnolo")
    assert report.state is ReportState.NEW
    assert MARIA.encode() not in report.sealed
    assert SEAL.open(report.sealed) == MARIA
    (inbox,) = await office.rows(tables.InboundMessage)
    assert inbox.sealed is None  # the words are in the report, and nowhere else


async def test_what_follows_within_half_an_hour_belongs_to_the_same_report(office: Office) -> None:
    await office.hears("Buca in via Roma")
    assert await office.hears(None, kind="image", media="4411", at=NOW + timedelta(minutes=1)) == []
    assert await office.hears(None, kind="location", point=IN_BAGNOLO, at=NOW + timedelta(minutes=20)) == []
    await office.hears("è profonda mezzo metro", at=NOW + timedelta(minutes=45))
    (report,) = await office.rows(tables.Report)
    assert (report.lat, report.lon, report.frazione) == (*IN_BAGNOLO.values(), "Bagnolo")
    assert await office.said_in(report.id) == ["Buca in via Roma", "è profonda mezzo metro"]
    (photo,) = await office.rows(tables.Photograph)
    assert (photo.report, SEAL.open(photo.provider_id)) == (report.id, "4411")
    await office.hears("Lampione rotto", at=NOW + timedelta(minutes=80))
    assert [one.category for one in await office.rows(tables.Report)] == ["buche", "luci"]


@one_database
async def test_what_it_is_about_is_asked_once_and_answered_with_a_number(office: Office) -> None:
    (asked,) = await office.hears("Davanti a casa mia non si può più passare")
    assert "1) buche e strade; 2) illuminazione pubblica" in asked
    (sorted_,) = await office.hears("la 4 grazie")
    assert "rifiuti e pulizia" in sorted_
    (report,) = await office.rows(tables.Report)
    assert report.category == "rifiuti"


@one_database
async def test_who_answers_with_something_else_is_not_asked_again_and_nothing_is_lost(office: Office) -> None:
    await office.hears("Davanti a casa mia non si può più passare")
    assert await office.hears("non saprei") == []
    (report,) = await office.rows(tables.Report)
    assert report.category is None
    assert await office.said_in(report.id) == ["Davanti a casa mia non si può più passare", "non saprei"]


@one_database
async def test_a_position_without_a_report_is_where_somebody_lives(office: Office) -> None:
    await office.arrives(None, kind="location", point=IN_BAGNOLO)
    (dispatch,) = await office.rows(tables.Dispatch)
    assert dispatch.reply_text == SANTA_FIORA.texts.ask_join
    assert await office.rows(tables.Report) == []


@one_database
async def test_a_voice_note_is_answered_and_opens_nothing(office: Office) -> None:
    assert await office.hears(None, kind="audio") == [TEXTS.only_photos]
    assert await office.hears("Grazie mille!") == [TEXTS.how]
    assert await office.rows(tables.Report) == []


# ── the staff ───────────────────────────────────────────────────────────────────────────────────────


async def test_duplicates_are_suggested_merged_by_the_staff_and_everybody_is_told_of_the_end(office: Office) -> None:
    await office.hears("Buca in via Roma", MARIA)
    await office.hears("buca pericolosa in VIA ROMA", PIETRO)
    await office.hears("buca in via Marconi", citizen(9, "santa-fiora").address)
    first, second, other = await office.rows(tables.Report)
    async with office.database.write() as session:
        main = await session.get_one(tables.Report, first.id)
        double = await session.get_one(tables.Report, second.id)
        assert await reports.alike(session, double, desk_of(), SEAL) == [first.id]
        await reports.take(session, main, "anna")
        await reports.merge(session, double, main)
        with pytest.raises(NotOpen, match="merged into"):
            await reports.answer(session, double, SANTA_FIORA, "Sì.", "anna", SEAL, NOW, asks=False)
        with pytest.raises(NotOpen, match="merged into"):
            await reports.merge(session, main, double)
    before = len(await office.letters())
    async with office.database.write() as session:
        main = await session.get_one(tables.Report, first.id)
        told = await reports.close(session, main, SANTA_FIORA, ReportState.SOLVED, "Asfaltata oggi.", "anna", SEAL, NOW)
    assert told == 2
    assert (await office.letters())[before:] == [
        filled(TEXTS.solved, numero=str(one.id), parole="Asfaltata oggi.") for one in (first, second)
    ]
    assert [one.state for one in await office.rows(tables.Report)] == [
        ReportState.SOLVED,
        ReportState.SOLVED,
        ReportState.NEW,
    ]
    assert other.category == "buche"


async def test_who_is_asked_something_answers_into_the_same_report_days_later(office: Office) -> None:
    await office.hears("Buca in via Roma")
    (report,) = await office.rows(tables.Report)
    async with office.database.write() as session:
        row = await session.get_one(tables.Report, report.id)
        await reports.answer(session, row, SANTA_FIORA, "A che numero?", "anna", SEAL, NOW, asks=True)
    assert (await office.rows(tables.Report))[0].state is ReportState.WAITING
    assert await office.hears("davanti al 12", at=NOW + timedelta(days=2)) == []
    (report,) = await office.rows(tables.Report)
    assert (report.state, report.assigned_to) == (ReportState.TAKEN, "anna")
    assert await office.said_in(report.id) == ["Buca in via Roma", "davanti al 12"]


@one_database
async def test_who_reported_is_forgotten_some_time_after_the_end_and_what_was_reported_stays(office: Office) -> None:
    await office.hears("Buca in via Roma")
    async with office.database.write() as session:
        row = (await session.scalars(select(tables.Report))).one()
        await reports.close(session, row, SANTA_FIORA, ReportState.REJECTED, "È privata.", "anna", SEAL, NOW)
    kept_for = timedelta(days=desk_of().retention_days)
    async with office.database.write() as session:
        assert await reports.forget(session, SANTA_FIORA, NOW + kept_for - timedelta(hours=1)) == 0
        assert await reports.forget(session, SANTA_FIORA, NOW + kept_for + timedelta(hours=1)) == 1
    (report,) = await office.rows(tables.Report)
    assert (report.sealed, report.fingerprint, report.category) == (None, None, "buche")
    assert await office.rows(tables.Conversation) == []


async def test_figures_are_told_month_by_month(office: Office) -> None:
    await office.hears("Buca in via Roma")
    await office.hears("Lampione rotto", PIETRO)
    async with office.database.write() as session:
        hole = (await session.scalars(select(tables.Report).where(tables.Report.category == "buche"))).one()
        later = NOW + timedelta(hours=3)
        await reports.answer(session, hole, SANTA_FIORA, "Veniamo.", "anna", SEAL, later, asks=False)
        await reports.close(session, hole, SANTA_FIORA, ReportState.SOLVED, "", "anna", SEAL, NOW + timedelta(hours=30))
        holes, lamps = await reports.statistics(
            session, "santa-fiora", NOW - timedelta(days=1), NOW + timedelta(days=1)
        )
    assert (holes.month, holes.category, holes.opened) == ("2026-11", "buche", 1)
    assert (holes.first_answer_hours, holes.solution_hours) == (3.0, 30.0)
    assert (lamps.category, lamps.by_state, lamps.solution_hours) == ("luci", {ReportState.NEW: 1}, None)


# ── pace ────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_flood_is_answered_at_a_walking_pace_whoever_releases_it(office: Office) -> None:
    authority = replace(SANTA_FIORA, desk=replace(desk_of(), answers_per_minute=5))
    for number in range(12):
        await office.hears("Buca in via Roma", citizen(number, "santa-fiora").address)

    async def release(at: datetime) -> int:
        async with office.database.write() as session:
            return await letters.release(session, authority, SEAL, at)

    assert sum(await asyncio.gather(*(release(NOW) for _ in range(3)))) == 5
    assert await release(NOW + timedelta(seconds=59)) == 0
    assert await release(NOW + timedelta(seconds=61)) == 5
    assert await release(NOW + timedelta(seconds=130)) == 2
    assert all(one.sealed is None and one.said is None for one in await office.rows(tables.Letter))


async def test_what_the_staff_writes_goes_before_what_a_flood_is_answered(office: Office) -> None:
    authority = replace(SANTA_FIORA, desk=replace(desk_of(), answers_per_minute=3))
    for number in range(10):
        await office.hears("Buca in via Roma", citizen(number, "santa-fiora").address)
    async with office.database.write() as session:
        row = (await session.scalars(select(tables.Report).order_by(tables.Report.id.desc()).limit(1))).one()
        await reports.answer(session, row, authority, "Veniamo.", "anna", SEAL, NOW, asks=False)
        assert await letters.release(session, authority, SEAL, NOW) == 3
    assert any("Veniamo." in SEAL.open(one.reply_sealed) for one in await office.rows(tables.Dispatch))


@one_database
async def test_what_was_said_to_one_person_is_not_kept_in_clear_for_ever(office: Office) -> None:
    await office.hears("Buca in via Roma")
    async with office.database.write() as session:
        await letters.release(session, SANTA_FIORA, SEAL, NOW)
        await reports.forget(session, SANTA_FIORA, NOW + timedelta(days=8))
    assert await office.rows(tables.Letter) == []
    (dispatch,) = await office.rows(tables.Dispatch)
    assert dispatch.reply_text is None
    (row,) = await office.rows(tables.Batch)
    batch = BatchReady(row.id, row.dispatch_id, row.channel, row.account, row.lane, row.first, row.last, NOW, row.told)
    async with office.database.write() as session:
        await batching.finish(session, batch)
    (dispatch,) = await office.rows(tables.Dispatch)
    assert (dispatch.reply_sealed, dispatch.reply_to) == (None, None)


async def test_free_text_goes_in_the_reply_lane_and_a_day_later_only_the_template_does(office: Office) -> None:
    await office.hears("Buca in via Roma")
    async with office.database.write() as session:
        assert await letters.release(session, SANTA_FIORA, SEAL, NOW) == 1
        row = (await session.scalars(select(tables.Report))).one()
        later = NOW + timedelta(hours=30)
        await reports.answer(session, row, SANTA_FIORA, "Veniamo domani.", "anna", SEAL, later, asks=False)
        assert await letters.release(session, SANTA_FIORA, SEAL, later) == 1
    confirmed, answered = await office.rows(tables.Dispatch)
    assert (confirmed.lane, answered.lane) == (Lane.REPLY, Lane.ROUTINE)
    assert confirmed.not_after <= NOW + timedelta(hours=24)
    assert SEAL.open(answered.reply_to) == MARIA


# ── appointments ────────────────────────────────────────────────────────────────────────────────────


async def test_an_appointment_is_offered_chosen_confirmed_and_reminded_of_by_day(office: Office) -> None:
    (offer,) = await office.hears("APPUNTAMENTO ANAGRAFE")
    assert "1) giovedì 26 novembre alle 15:00; 2) giovedì 26 novembre alle 15:20; 3)" in offer
    await office.hears("altri")
    (more,) = await office.hears("altri")
    assert "1) venerdì 27 novembre alle 9:00" in more
    (booked,) = await office.hears("la 1")
    (booking,) = await office.rows(tables.Booking)
    assert booking.starts_at == datetime(2026, 11, 27, 8, 0, tzinfo=UTC)
    assert in_words(booking.starts_at) in booked
    (reminder,) = [one for one in await office.rows(tables.Letter) if one.booking]
    assert reminder.due_at == datetime(2026, 11, 26, 9, 0, tzinfo=UTC)  # ten in the morning, the day before
    (again,) = await office.hears("appuntamento anagrafe")
    assert again == appointments.said_of(TEXTS.already_booked, desk_of().offices[0], booking.starts_at)


async def test_who_cancels_is_reminded_of_nothing_and_the_slot_is_free_again(office: Office) -> None:
    day_before = NOW - timedelta(days=1)
    await office.books(at=day_before)
    (booking,) = await office.rows(tables.Booking)
    assert [one.due_at for one in await office.rows(tables.Letter) if one.booking] == [NOW + timedelta(hours=-22)]
    assert await office.hears("DISDICI", at=day_before) == [
        appointments.said_of(TEXTS.cancelled, desk_of().offices[0], booking.starts_at)
    ]
    assert all(one.ended_at for one in await office.rows(tables.Letter) if one.booking)
    assert await office.hears("DISDICI", at=day_before) == [TEXTS.nothing_booked]
    (booked,) = await office.books(PIETRO, at=day_before)
    assert in_words(booking.starts_at) in booked


async def test_two_who_choose_the_last_seat_at_once_never_both_have_it(office: Office) -> None:
    people = [citizen(number, "santa-fiora").address for number in range(4)]
    for one in people:
        await office.hears("APPUNTAMENTO ANAGRAFE", one)
    arrived = [await office.arrives("1", one) for one in people]
    await asyncio.gather(*(office.reader.read(number, NOW) for number in arrived))
    bookings = await office.rows(tables.Booking)
    assert len(bookings) == 1
    answers = (await office.letters())[len(people) :]
    assert sum("appuntamento fissato" in one for one in answers) == 1
    assert sum("quell'orario non c'è più" in one for one in answers) == 3


@one_database
async def test_an_office_of_two_counters_gives_a_slot_twice_and_not_three_times(office: Office) -> None:
    for number in range(3):
        who = citizen(number, "santa-fiora").address
        await office.hears("appuntamento ufficio tecnico", who)
        await office.hears("1", who)
    seats = [(one.starts_at, one.seat) for one in await office.rows(tables.Booking)]
    assert len(seats) == 3
    assert [seat for at, seat in seats if at == seats[0][0]] == [0, 1]


@one_database
async def test_a_choice_made_too_late_books_nothing_that_is_over(office: Office) -> None:
    await office.hears("APPUNTAMENTO ANAGRAFE")
    await office.hears("1", at=NOW + timedelta(hours=12))  # an offer lasts half an hour: this is a text like others
    assert await office.rows(tables.Booking) == []
    async with office.database.write() as session:
        await session.execute(update(tables.Conversation).values(asked_at=NOW + timedelta(hours=12)))
    await office.hears("1", at=NOW + timedelta(hours=12))
    assert await office.rows(tables.Booking) == []


async def test_the_staff_moves_and_cancels_and_the_citizen_is_told(office: Office) -> None:
    await office.books()
    anagrafe, to = desk_of().offices[0], datetime(2026, 11, 27, 9, 0, tzinfo=UTC)
    (booking,) = await office.rows(tables.Booking)
    async with office.database.write() as session:
        row = await session.get_one(tables.Booking, booking.id)
        moved = await appointments.move(session, row, SANTA_FIORA, to, "anna", SEAL, NOW)
        with pytest.raises(appointments.NoSeat):
            await appointments.move(session, row, SANTA_FIORA, to, "anna", SEAL, NOW)
        for wrong in (NOW - timedelta(days=1), to + timedelta(minutes=1), to + timedelta(days=1)):
            with pytest.raises(appointments.NoSeat):
                await appointments.move(session, moved, SANTA_FIORA, wrong, "anna", SEAL, NOW)
        await appointments.cancel_by_staff(session, moved, SANTA_FIORA, "C'è sciopero.", "anna", SEAL, NOW)
    assert (await office.letters())[-2:] == [
        appointments.said_of(TEXTS.moved, anagrafe, to),
        appointments.said_of(TEXTS.cancelled_by_us, anagrafe, to, "C'è sciopero."),
    ]
    assert all(one.cancelled_at for one in await office.rows(tables.Booking))


async def test_the_reminder_goes_out_the_day_before_and_by_day(office: Office) -> None:
    await office.hears("APPUNTAMENTO UFFICIO TECNICO", at=NOW + timedelta(hours=4))  # today's hours are over
    await office.hears("1", at=NOW + timedelta(hours=4))
    (booking,) = await office.rows(tables.Booking)
    assert booking.starts_at == datetime(2026, 12, 1, 9, 0, tzinfo=UTC)
    due = datetime(2026, 11, 30, 9, 0, tzinfo=UTC)
    async with office.database.write() as session:
        await letters.release(session, SANTA_FIORA, SEAL, due - timedelta(seconds=1))
        before = await count(session, tables.Dispatch)
        assert await letters.release(session, SANTA_FIORA, SEAL, due) == 1
        assert await letters.release(session, SANTA_FIORA, SEAL, due + timedelta(minutes=2)) == 0
    reminder = (await office.rows(tables.Dispatch))[before]
    tecnico = desk_of().offices[1]
    assert SEAL.open(reminder.reply_sealed) == appointments.said_of(TEXTS.reminder, tecnico, booking.starts_at)
    assert reminder.lane is Lane.ROUTINE  # four days after they wrote WhatsApp takes the template alone
    assert reminder.not_after == booking.starts_at - timedelta(hours=1)


# ── anything at all ─────────────────────────────────────────────────────────────────────────────────

WORDS = st.sampled_from(
    [
        *("APPUNTAMENTO", "appuntamento anagrafe", "DISDICI", "disdici 2", "1", "la seconda", "99", "altri", "grazie"),
        *("Buca in via Roma", "lampione rotto", "boh", "zona Bagnolo", "zona industriale allagata", "👍", "{numero}"),
        *("ATTIVA COMUNE AMICO", "STOP", "non voglio più ricevere tutti questi messaggi", "\u200b", "0", "²"),
    ]
)
SENT: st.SearchStrategy[tuple[str | None, dict[str, Any]]] = st.one_of(
    st.tuples(WORDS | st.text(max_size=40), st.just({})),
    st.tuples(st.none(), st.just({"kind": "image", "media": "77"})),
    st.tuples(st.none(), st.just({"kind": "location", "point": IN_BAGNOLO})),
    st.tuples(st.none(), st.just({"kind": "audio"})),
)


@one_database
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(conversation=st.lists(st.tuples(SENT, st.integers(0, 90)), max_size=8))
async def test_any_conversation_is_read_to_its_end(office: Office, conversation: list[Any]) -> None:
    at = NOW
    for (words, more), minutes in conversation:
        at += timedelta(minutes=minutes)
        sent = dict(more)
        await office.reader.read(await office.arrives(words, PIETRO, sent.pop("kind", "text"), at=at, **sent), at)
    async with office.database.read() as session:
        assert await count(session, tables.InboundMessage) == office.numbers
        left = select(tables.InboundMessage.id).where(tables.InboundMessage.sealed.is_not(None))
        assert (await session.scalars(left)).all() == []


# ── at the door ─────────────────────────────────────────────────────────────────────────────────────


async def test_a_crowd_of_reports_and_joins_is_kept_in_one_statement_and_each_promised_to_whom_it_is_for(
    office: Office,
) -> None:
    keeping = inbox.Keeping(office.database, SEAL, DESKS)
    words = ["Buca in via Roma", "ATTIVA COMUNE AMICO"] * 15

    def told(number: int) -> inbox.Arrival:
        sender = f"+39333765{29 - number:04d}"  # not in the order of their fingerprints, nor as they came
        text = InboundText(f"wamid.{number}", "", sender, words[number], "text", datetime.now(UTC))
        return "whatsapp.santa-fiora", Channel.WHATSAPP, text

    with statements(office.database) as said:
        await asyncio.gather(*(keeping.keep([told(number), told(number)]) for number in range(30)))
    of_the_inbox = [one for one in said if one.startswith("INSERT INTO inbox")]
    assert len(of_the_inbox) == 1
    rows = await office.rows(tables.InboundMessage)
    assert [json.loads(SEAL.open(row.sealed))["text"] for row in rows] == words
    promised = {wire.decode(row.body) for row in await office.rows(tables.OutboxMessage)}
    joins = tuple(row.id for row in rows if not row.for_desk)
    reports = {CitizenReported(row.id, Channel.WHATSAPP) for row in rows if row.for_desk}
    assert promised == reports | {CitizensWrote(joins, Channel.WHATSAPP)}, "who came together is told of together"
    assert [row.for_desk is not None for row in rows] == [True, False] * 15
    assert len(await office.rows(tables.Conversation)) == 15


async def test_two_calls_that_name_the_same_people_the_other_way_round_never_wait_in_a_circle(office: Office) -> None:
    people = [f"+39333765{number:04d}" for number in range(400)]

    async def call(which: int, among: list[str]) -> None:
        now = datetime.now(UTC)
        texts = [InboundText(f"wamid.{which}.{one}", "", one, "Buca in via Roma", "text", now) for one in among]
        async with office.database.write() as session:
            arrivals = [("whatsapp.santa-fiora", Channel.WHATSAPP, text) for text in texts]
            assert await inbox.keep_all(session, arrivals, DESKS, SEAL, now) == len(people)

    async with asyncio.timeout(60):
        await asyncio.gather(*(call(which, people if which % 2 else people[::-1]) for which in range(6)))
    assert len(await office.rows(tables.Conversation)) == len(people)


@one_database
async def test_what_is_reported_by_sms_is_the_desks_at_the_door_too(database_url: str) -> None:
    access = replace(SANTA_FIORA.channels[0], name="sms.santa-fiora", channel=Channel.SMS, identity="+393331230000")
    desks = Desks({"santa-fiora": replace(SANTA_FIORA, channels=(access,))})
    async with five_comuni(database_url, "santa-fiora") as database:
        office = Office(database)
        said = Wrote(MARIA, "+393331230000", b"Buca in via Roma", Alphabet.LATIN_1)
        await SmsInbox(database, SEAL, desks).take("sms.santa-fiora", said)
        (row,) = await office.rows(tables.InboundMessage)
        (promised,) = await office.rows(tables.OutboxMessage)
    assert row.for_desk is Handing.ANSWER and row.handled_at is not None
    assert wire.decode(promised.body) == CitizenReported(row.id, Channel.SMS)


@one_database
async def test_a_choice_that_may_be_a_complaint_is_made_and_kept_for_the_desk_in_silence(office: Office) -> None:
    await office.arrives("ATTIVA COMUNE AMICO")
    assert await office.hears("basta spazzatura") == []
    (_, answered) = await office.rows(tables.Dispatch)
    (report,) = await office.rows(tables.Report)
    assert answered.reply_text.startswith("Comune di Santa Fiora") and report.category == "rifiuti"
    await office.hears("no eventi")
    assert len(await office.rows(tables.Report)) == 1


@one_database
async def test_a_machine_that_answers_the_desk_is_not_answered_and_a_flood_of_it_not_even_kept(office: Office) -> None:
    for number in range(politeness.MOST + 2):
        await office.hears(f"Appuntamento anagrafe {number}")
    assert len(await office.letters()) == politeness.MOST
    assert await office.hears("Buca in via Roma") == []
    assert len(await office.rows(tables.Report)) == 1, "kept, if in silence"
    for number in range(politeness.NOBODY):
        await office.hears(f"Buca numero {number}")
    assert len(await office.rows(tables.ReportEntry)) < politeness.NOBODY
    assert len(await office.hears("Buca in via Roma", PIETRO)) == 1


# ── what the desk holds of one person ───────────────────────────────────────────────────────────────


async def known(office: Office, who: Subscriber) -> persons.KnownAtDesk:
    async with office.database.read() as session:
        return await persons.known_of(session, "santa-fiora", persons.names_of(who, SEAL), SEAL)


async def test_all_that_a_desk_holds_of_somebody_is_told_to_them_and_to_nobody_else(office: Office) -> None:
    maria = Subscriber(SANTA_FIORA, SANTA_FIORA.channels[0], MARIA)
    assert not await known(office, maria)
    await office.hears("Buca in via Roma davanti alla scuola")
    await office.hears(None, kind="image", media="4411")
    await office.books()
    async with office.database.write() as session:
        report = await session.get_one(tables.Report, 1)
        await reports.answer(session, report, SANTA_FIORA, "Veniamo domani.", "gino", SEAL, NOW, asks=False)
        reports.note(session, report, Line.NOTE, "Il solito.", "gino", SEAL, NOW)
    found = await known(office, maria)
    (one,), (appointment,) = found.reports, found.appointments
    assert (one.number, one.category, one.street) == (1, "buche", "via Roma")
    assert (one.said, one.answered) == (("Buca in via Roma davanti alla scuola",), ("Veniamo domani.",))
    assert appointment.office == "anagrafe" and found.wrote_at == NOW
    assert not await known(office, replace(maria, address=PIETRO))
    # Who only reported something is on no list, and asks the same words.
    await office.arrives("Cosa sai di me")
    await office.arrives("I miei dati")
    told = [one.reply_text for one in await office.rows(tables.Dispatch)]
    assert told[0] == told[1] and "segnalazione n. 1 (buche e strade)" in told[0]
    assert f"appuntamento con Anagrafe, {in_words(appointment.starts_at)}" in told[0]
    await office.arrives("Cosa sai di me", PIETRO)
    assert (await office.rows(tables.Dispatch))[-1].reply_text == SANTA_FIORA.texts.nothing_known


async def test_who_is_erased_is_in_nothing_of_the_desk_and_what_was_reported_stays(office: Office) -> None:
    await office.hears("Buca in via Roma")
    await office.hears(None, kind="image", media="4411")
    await office.books()
    await office.hears("Buca in via Roma a Bagnolo", PIETRO)
    print_of_maria = SEAL.fingerprint(MARIA)
    async with office.database.write() as session:
        await persons.erase(session, "santa-fiora", [print_of_maria], "olga", NOW)
    for table in (tables.Report, tables.Booking, tables.Letter, tables.Conversation):
        rows = await office.rows(table)
        assert all(bytes(row.fingerprint or b"") != print_of_maria for row in rows)
        assert all(SEAL.open(row.sealed) != MARIA for row in rows if getattr(row, "sealed", None))
    hers, his = await office.rows(tables.Report)
    assert (hers.sealed, hers.category, hers.forgotten_at) == (None, "buche", NOW)
    assert await office.said_in(hers.id) == ["Buca in via Roma"] and SEAL.open(his.sealed) == PIETRO
    (booking,) = await office.rows(tables.Booking)
    assert (booking.cancelled_at, booking.cancelled_by) == (NOW, "olga")
    (photo,) = await office.rows(tables.Photograph)
    assert (photo.provider_id, photo.state) == (None, PhotoState.LOST)
    async with office.database.write() as session:  # mended all the same, and told to whoever is still known
        into = await session.get_one(tables.Report, hers.id)
        await reports.merge(session, await session.get_one(tables.Report, his.id), into)
        assert await reports.close(session, into, SANTA_FIORA, ReportState.SOLVED, "", "gino", SEAL, NOW) == 1


async def test_who_takes_another_number_with_them_is_answered_there(office: Office) -> None:
    await office.hears("Buca in via Roma")
    await office.books()
    new = "+393339998877"
    await office.arrives(None, new, kind="renumbered", known_as=[MARIA])
    (report,) = await office.rows(tables.Report)
    (booking,) = await office.rows(tables.Booking)
    assert SEAL.open(report.sealed) == SEAL.open(booking.sealed) == new
    waiting = [SEAL.open(one.sealed) for one in await office.rows(tables.Letter) if one.sealed]
    assert waiting and set(waiting) == {new}
    (cancelled,) = await office.hears("DISDICI", new)
    assert "è disdetto" in cancelled
