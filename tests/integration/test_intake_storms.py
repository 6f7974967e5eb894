"""Many who speak of one thing at once, in any order, twice, and killed in between: a citizen hears of it once."""

import asyncio
import itertools
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from alerting.cap_xml.writing import write
from alerting.domain import cap
from alerting.domain.intake import CameBy, IntakeState
from alerting.domain.kinds import Colour
from alerting.domain.policies import FeedPolicy, Then
from alerting.domain.recipients import Place, Precision
from alerting.domain.text_rules import lint
from alerting.joining_many import Joining, join_many
from alerting.persistence import tables
from consumers.fanout import FanOut
from tests.integration.calcinaia import NOW, SEAL, citizen, one_database
from tests.integration.newsroom import (
    CAPOLUOGO,
    ON_THE_BORDER,
    PREFETTURA,
    PROVINCIA,
    VALDERA,
    Newsroom,
    a_newsroom,
    after,
    cancel,
    did,
    drawn,
    fire,
    message,
    policies,
    said_by,
    update,
    weather,
    written,
)

on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
"""For what needs two who write at once."""

WORSE = {"severity": cap.Severity.EXTREME}


@pytest.fixture
async def room(database_url: str) -> AsyncIterator[Newsroom]:
    async with a_newsroom(database_url) as room:
        yield room


async def subscribe(room: Newsroom, people: int, area: str, comune: str = "calcinaia") -> None:
    place = Place(Precision.FRAZIONE, (area,))
    joining = [Joining(citizen(10 * number, comune), (place,), live=True) for number in range(1, people + 1)]
    async with room.database.write() as session:
        await join_many(session, joining, SEAL, keyword="ISCRIVIMI", now=NOW)


async def texts_to_each(room: Newsroom) -> dict[int, int]:
    """How many texts each recipient's telephone is to get."""
    fan_out = FanOut(room.database, room.authorities)
    for dispatch in await room.dispatches():
        await fan_out.fan_out(dispatch.id)
    told: dict[int, int] = {}
    async with room.database.read() as session:
        for delivery in await session.scalars(select(tables.Delivery)):
            if delivery.recipient_id is not None:
                told[delivery.recipient_id] = told.get(delivery.recipient_id, 0) + 1
    return told


# ── one thing, many voices ──────────────────────────────────────────────────────────────────────────


async def test_fifty_two_messages_in_a_minute_about_one_thing_reach_a_citizen_once(room: Newsroom) -> None:
    await subscribe(room, 5, "calcinaia.fornacette")
    for number, source in zip(range(52), itertools.cycle((VALDERA, PROVINCIA, PREFETTURA)), strict=False):
        said = message(
            f"incendio-{number}",
            fire(headline=f"Incendio a Fornacette, comunicato {number}", severity=cap.Severity.SEVERE),
            source=source,
            sent=NOW + timedelta(seconds=number),
        )
        row = await room.hand_in(said, source)
        assert row.state is IntakeState.TAKEN, row.because
    people = await texts_to_each(room)
    assert sorted(count for who, count in people.items())[:5] == [1] * 5
    assert set(people.values()) == {1}
    assert len(await room.issued()) == 1
    (dispatch,) = await room.dispatches()
    assert dispatch.audience is not None and dispatch.audience >= 5


async def test_they_are_told_again_when_one_of_the_three_says_that_it_is_graver(room: Newsroom) -> None:
    await subscribe(room, 3, "calcinaia.fornacette")
    for number, source in enumerate((VALDERA, PROVINCIA, PREFETTURA)):
        await room.hand_in(message(f"i-{number}", source=source, sent=after(number)), source)
    await room.hand_in(message("peggio", fire(**WORSE), source=PREFETTURA, sent=after(4)), PREFETTURA)
    await room.hand_in(message("uguale", fire(**WORSE), source=PROVINCIA, sent=after(5)), PROVINCIA)
    told = await room.issued()
    assert [row.msg_type for row in told] == [cap.MsgType.ALERT, cap.MsgType.UPDATE]
    assert [said_by(row).first.severity for row in told] == [cap.Severity.SEVERE, cap.Severity.EXTREME]
    assert len(await room.standing()) == 1


async def test_the_graver_update_keeps_the_instruction_of_who_is_nearer(room: Newsroom) -> None:
    await room.hand_in(message("vicino", fire(instruction="Resta in casa: in via della Botte chiudi le finestre.")))
    far = fire(**WORSE, instruction="Seguire le indicazioni delle autorità competenti e restare informati sempre.")
    await room.hand_in(message("lontano", far, source=PREFETTURA, sent=after(1)), PREFETTURA)
    (row,) = await room.standing()
    assert said_by(row).first.severity is cap.Severity.EXTREME
    assert said_by(row).first.instruction == "Resta in casa: in via della Botte chiudi le finestre."


async def test_an_instruction_that_says_something_wins_over_a_nearer_one_that_does_not(room: Newsroom) -> None:
    await room.hand_in(
        message("lontano", fire(instruction="Resta in casa e chiudi tutto."), source=PREFETTURA), PREFETTURA
    )
    await room.hand_in(message("vicino", fire(**WORSE, instruction=""), sent=after(1)))
    (row,) = await room.standing()
    assert said_by(row).first.instruction == "Resta in casa e chiudi tutto."


async def test_two_different_things_at_once_are_two(room: Newsroom) -> None:
    await room.hand_in(message("uno"))
    flood = fire(
        category=(cap.Category.INFRA,),
        event="Interruzione idrica",
        headline="Manca l'acqua a Fornacette",
        description="Si è rotta la condotta di via Firenze.",
        instruction="Usa l'acqua delle autobotti in piazza.",
        response_type=(cap.ResponseType.PREPARE,),
    )
    await room.hand_in(message("due", flood, sent=after(1)))
    elsewhere = fire(headline="Incendio nel capoluogo", areas=(drawn(CAPOLUOGO, "Capoluogo"),))
    await room.hand_in(message("tre", elsewhere, sent=after(2)))
    assert len(await room.standing()) == 3


async def test_the_weather_of_three_sources_is_one_text_and_one_more_when_it_is_graver(room: Newsroom) -> None:
    for number, source in enumerate((VALDERA, PROVINCIA, PREFETTURA) * 5):
        await room.hand_in(message(f"m-{number}", weather(), source=source, sent=after(number)), source)
    assert len(await room.issued()) == 1
    await room.hand_in(message("rossa", weather(Colour.ROSSA), source=PREFETTURA, sent=after(20)), PREFETTURA)
    await room.hand_in(message("rossa", weather(Colour.ROSSA), source=PROVINCIA, sent=after(21)), PROVINCIA)
    assert len(await room.issued()) == 2
    assert len(await room.standing()) == 1


async def test_a_source_takes_back_only_its_own_word_about_the_weather(room: Newsroom) -> None:
    first = message("uno", weather())
    await room.hand_in(first)
    await room.hand_in(message("due", weather(), source=PROVINCIA, sent=after(1)), PROVINCIA)
    await room.hand_in(cancel("tre", first))
    assert len(await room.issued()) == 1
    assert len(await room.standing()) == 1


async def test_a_source_may_not_follow_the_message_of_another(room: Newsroom) -> None:
    first = message("uno")
    await room.hand_in(first)
    theirs = replace(cancel("due", first), sender=PROVINCIA.senders[0])
    row = await room.hand_in(theirs, PROVINCIA)
    assert (row.state, row.became) == (IntakeState.TAKEN, [])
    assert len(await room.standing()) == 1
    stolen = replace(cancel("tre", first), sender=VALDERA.senders[0])
    assert (await room.hand_in(stolen, PROVINCIA)).state is IntakeState.QUARANTINED
    assert len(await room.standing()) == 1


async def test_a_cancel_of_another_source_that_comes_first_does_not_swallow_the_alert(room: Newsroom) -> None:
    first = message("uno")
    await room.hand_in(replace(cancel("due", first), sender=PROVINCIA.senders[0]), PROVINCIA)
    assert did(await room.hand_in(first)) == {"calcinaia": "issued"}


async def test_each_of_two_comuni_gets_its_own_cut_of_one_polygon(room: Newsroom) -> None:
    first = message("uno", fire(areas=(drawn(ON_THE_BORDER, "Il confine"),)))
    row = await room.hand_in(first)
    assert did(row) == {"bientina": "issued", "calcinaia": "issued"}
    (here,), (there,) = await room.standing("calcinaia"), await room.standing("bientina")
    assert here.geofence["drawn"] != there.geofence["drawn"]
    assert {said_by(one).sender for one in (here, there)} == {
        room.authorities["calcinaia"].sender,
        room.authorities["bientina"].sender,
    }
    row = await room.hand_in(cancel("due", first))
    assert did(row) == {"bientina": "cancelled", "calcinaia": "cancelled"}
    for comune in ("calcinaia", "bientina"):
        _, taken_back = await room.issued(comune)
        assert taken_back.cancels == (here if comune == "calcinaia" else there).identifier
        assert not await room.standing(comune)


# ── who may issue, beside who may not ───────────────────────────────────────────────────────────────


async def test_who_may_issue_does_not_wait_for_the_draft_of_who_may_not(database_url: str) -> None:
    async with a_newsroom(database_url, policies("calcinaia", FeedPolicy(VALDERA.name, Then.ISSUE))) as room:
        await room.hand_in(message("uno", source=PROVINCIA), PROVINCIA)
        assert (len(await room.drafts()), len(await room.pages())) == (1, 1)
        row = await room.hand_in(message("due", sent=after(1)))
        assert did(row) == {"calcinaia": "issued"}
        assert not await room.drafts(), "nothing is left in the draft"
        assert not await room.pages()


async def test_what_only_may_be_prepared_is_not_issued_along_with_what_may(database_url: str) -> None:
    async with a_newsroom(database_url, policies("calcinaia", FeedPolicy(VALDERA.name, Then.ISSUE))) as room:
        await room.hand_in(message("uno", fire(**WORSE), source=PROVINCIA), PROVINCIA)
        await room.hand_in(message("due", sent=after(1)))
        (told,) = await room.issued()
        assert said_by(told).first.severity is cap.Severity.SEVERE
        (draft,) = await room.drafts()
        assert said_by(draft).first.severity is cap.Severity.EXTREME
        assert len(await room.pages()) == 1


async def test_a_source_that_may_prepare_cannot_end_what_another_started_by_itself(room: Newsroom) -> None:
    await room.hand_in(message("uno"))
    over = fire(response_type=(cap.ResponseType.ALL_CLEAR,), headline="Incendio spento")
    row = await room.hand_in(message("due", over, source=PROVINCIA, sent=after(5)), PROVINCIA)
    assert did(row) == {"calcinaia": "drafted"}
    assert len(await room.standing()) == 1


async def test_drafts_are_replaced_and_not_heaped_up(database_url: str) -> None:
    async with a_newsroom(database_url, policies("calcinaia")) as room:
        first = message("uno")
        await room.hand_in(first)
        said = [first]
        for number in range(2, 8):
            words = fire(
                description=f"Il fumo è salito a {number}00 metri.", instruction=f"Allontanati di {number}00 metri."
            )
            said.append(update(f"u{number}", said, words, minutes=number * 3))
            await room.hand_in(said[-1])
            assert (len(await room.drafts()), len(await room.pages())) == (1, 1)
        (draft,) = await room.drafts()
        assert "700 metri" in said_by(draft).first.description


async def test_the_drafts_of_the_weather_are_replaced_too(database_url: str) -> None:
    async with a_newsroom(database_url, policies("calcinaia")) as room:
        for number, colour in enumerate((Colour.GIALLA, Colour.ARANCIONE, Colour.ROSSA)):
            await room.hand_in(message(f"m-{number}", weather(colour), sent=after(number)))
            assert len(await room.drafts()) == 1
        assert len(await room.pages()) == 1


# ── in any order ────────────────────────────────────────────────────────────────────────────────────


def chain(*, names_all: bool) -> list[cap.Alert]:
    """An alert and five Updates, which name all before them or only the last."""
    said = [message("uno")]
    gravity = [
        cap.Severity.EXTREME,
        cap.Severity.SEVERE,
        cap.Severity.EXTREME,
        cap.Severity.MODERATE,
        cap.Severity.SEVERE,
    ]
    for number, severity in enumerate(gravity, 1):
        info = fire(severity=severity, instruction=f"Allontanati di {number} chilometri.")
        said.append(update(f"u{number}", said if names_all else said[-1], info, minutes=number))
    return said


def order_of(row: tables.Alert) -> int:
    """Which of the chain it says."""
    instruction = said_by(row).first.instruction
    return int(instruction.split()[2]) if instruction.startswith("Allontanati") else 0


in_any_order = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


async def played(room: Newsroom, said: list[cap.Alert]) -> list[tables.Alert]:
    room.now = after(30)
    for one in said:
        row = await room.hand_in(one)
        assert row.state is IntakeState.TAKEN, row.because
    return await room.issued()


@one_database
@in_any_order
@given(st.permutations(range(6)), st.booleans())
async def test_a_chain_of_updates_ends_alike_in_whatever_order_it_arrives(
    database_url: str, tmp_path: Path, order: list[int], names_all: bool
) -> None:
    said = chain(names_all=names_all)
    async with a_newsroom(await a_copy(database_url, tmp_path)) as room:
        told = [order_of(row) for row in await played(room, [said[number] for number in order])]
        assert told == sorted(told), f"an older state was told after a newer one: {told}"
        assert [order_of(row) for row in await room.standing()] == [5]
        assert not await room.drafts()


@one_database
@in_any_order
@given(st.permutations(range(4)), st.booleans())
async def test_a_cancel_ends_a_chain_in_whatever_order_it_arrives(
    database_url: str, tmp_path: Path, order: list[int], names_all: bool
) -> None:
    said = chain(names_all=names_all)[:3]
    said.append(cancel("fine", said if names_all else said[-1]))
    async with a_newsroom(await a_copy(database_url, tmp_path)) as room:
        await played(room, [said[number] for number in order])
        assert not await room.standing()
        assert not await room.drafts()


@one_database
@in_any_order
@given(st.permutations(range(4)), st.booleans())
async def test_the_weather_of_a_chain_ends_alike_in_whatever_order_it_arrives(
    database_url: str, tmp_path: Path, order: list[int], names_all: bool
) -> None:
    said = [message("uno", weather(Colour.GIALLA))]
    for number, colour in enumerate((Colour.ROSSA, Colour.ARANCIONE, Colour.GIALLA), 1):
        info = weather(colour, expires=NOW + timedelta(hours=10 + 2 * number))
        said.append(update(f"u{number}", said if names_all else said[-1], info, minutes=number))
    async with a_newsroom(await a_copy(database_url, tmp_path)) as room:
        await played(room, [said[number] for number in order])
        (row,) = await room.standing()
        assert said_by(row).first.parameter("it.colore") == "gialla"
        assert row.expires_at == NOW + timedelta(hours=16)


copies = itertools.count()


async def a_copy(database_url: str, folder: Path) -> str:
    """A database for one example: all tables, and nothing in them."""
    empty = Path(database_url.removeprefix("sqlite+aiosqlite:///"))
    copy = folder / f"example-{next(copies)}.db"
    await asyncio.to_thread(shutil.copyfile, empty, copy)
    return f"sqlite+aiosqlite:///{copy}"


async def test_an_alert_that_comes_after_its_update_and_its_cancel_tells_nobody(room: Newsroom) -> None:
    first = message("uno")
    second = update("due", first, fire(**WORSE))
    await room.hand_in(cancel("tre", [first, second]))
    assert (await room.hand_in(second)).because == "a message that takes its place came before it"
    assert (await room.hand_in(first)).because == "a message that takes its place came before it"
    assert not await room.alerts()


async def test_a_cancel_of_an_update_takes_back_what_people_have(room: Newsroom) -> None:
    first = message("uno")
    second = update("due", first, fire(**WORSE))
    await room.hand_in(first)
    await room.hand_in(second)
    await room.hand_in(cancel("tre", second))
    assert [row.msg_type for row in await room.issued()] == [cap.MsgType.ALERT, cap.MsgType.UPDATE, cap.MsgType.CANCEL]
    assert not await room.standing()


async def test_a_thread_of_a_hundred_messages_is_followed_to_its_beginning(database_url: str) -> None:
    async with a_newsroom(database_url) as room:
        last = message("0")
        await room.hand_in(last)
        for number in range(1, 60):
            last = update(str(number), last, minutes=number)
            await room.hand_in(last)
        assert len(await room.issued()) == 1
        await room.hand_in(cancel("fine", last, minutes=100))
        assert not await room.standing()


async def test_an_all_clear_that_comes_before_its_alert_tells_nobody(room: Newsroom) -> None:
    first = message("uno")
    over = update("due", first, fire(response_type=(cap.ResponseType.ALL_CLEAR,), headline="Incendio spento"))
    await room.hand_in(over)
    await room.hand_in(first)
    assert not await room.issued()


# ── at the same moment ──────────────────────────────────────────────────────────────────────────────


@on_postgresql
@pytest.mark.parametrize("attempt", range(3))
async def test_the_same_message_at_two_doors_at_once_is_told_once(room: Newsroom, attempt: int) -> None:
    raw = write(message(f"uno-{attempt}", fire(), weather()))
    twin = room.restarted()
    await asyncio.gather(
        *(one.receiver.take(VALDERA, raw, "application/cap+xml", CameBy.AMQP) for one in (room, twin, room, twin))
    )
    assert len(await room.issued()) == 2
    async with room.database.read() as session:
        states = sorted(str(state) for state in await session.scalars(select(tables.Intake.state)))
    assert states == ["repeated", "repeated", "repeated", "taken"]


@on_postgresql
@pytest.mark.parametrize("attempt", range(3))
async def test_two_sources_at_the_same_moment_make_one_alert(room: Newsroom, attempt: int) -> None:
    twin = room.restarted()
    ours, theirs = write(message("uno", fire(), weather())), write(message("due", fire(), weather(), source=PROVINCIA))
    await asyncio.gather(
        room.receiver.take(VALDERA, ours, "application/cap+xml", CameBy.HTTP),
        twin.receiver.take(PROVINCIA, theirs, "application/cap+xml", CameBy.AMQP),
    )
    assert len(await room.issued()) == 2
    assert len(await room.standing()) == 2


@on_postgresql
@pytest.mark.parametrize("attempt", range(5))
async def test_an_alert_and_its_cancel_at_the_same_moment_leave_nothing_standing(room: Newsroom, attempt: int) -> None:
    first = message("uno", fire(), weather())
    twin = room.restarted()
    room.now = twin.now = after(31)
    await asyncio.gather(
        twin.receiver.take(VALDERA, written(cancel("due", first)), "application/cap+xml", CameBy.AMQP),
        room.receiver.take(VALDERA, write(first), "application/cap+xml", CameBy.HTTP),
    )
    await room.receiver.look_again()
    assert not await room.standing()


# ── killed in between ───────────────────────────────────────────────────────────────────────────────


async def test_a_failure_in_the_middle_loses_nothing_and_tells_once(
    room: Newsroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[cap.Alert] = []

    def failing(said: cap.Alert) -> object:
        calls.append(said)
        if len(calls) == 2:  # the first comune is issued, the second is not yet
            raise OSError("the disk is full")
        return lint(said)

    monkeypatch.setattr("alerting.intake.drafting.lint", failing)
    row = await room.hand_in(message("uno", fire(areas=(drawn(ON_THE_BORDER, "Il confine"),))))
    assert (row.state, row.attempts) == (IntakeState.RECEIVED, 1)
    assert "OSError" in row.because and "disk" not in row.because, "what an error says may hold anything"
    assert not await room.alerts("bientina") and not await room.alerts("calcinaia")
    await room.receiver.look_again()
    assert (await room.intake(row.id)).state is IntakeState.RECEIVED, "somebody may still be at it"
    room.now += timedelta(minutes=1)
    await room.receiver.look_again()
    await room.receiver.look_again()
    assert (await room.intake(row.id)).state is IntakeState.TAKEN
    assert [len(await room.issued(comune)) for comune in ("bientina", "calcinaia")] == [1, 1]


async def test_what_fails_three_times_is_kept_for_somebody(room: Newsroom, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(said: cap.Alert) -> object:
        raise OSError("the disk is full")

    monkeypatch.setattr("alerting.intake.drafting.lint", broken)
    row = await room.hand_in(message("uno"))
    for _ in range(4):
        room.now += timedelta(minutes=1)
        await room.receiver.look_again()
    row = await room.intake(row.id)
    assert (row.state, row.attempts) == (IntakeState.QUARANTINED, 3)
    assert [page.about for page in await room.pages()] == [f"intake {row.id}"]
    monkeypatch.undo()
    async with room.database.write() as session:
        await room.receiver.accept(session, row.id, "anna", room.now)
    assert len(await room.drafts()) == 1
    assert not await room.issued()


async def test_other_words_of_the_same_source_without_a_reference_are_shown_to_a_person(room: Newsroom) -> None:
    """Via Roma is closed, then via Verdi: nothing says that the second is not the first once more."""
    await room.hand_in(message("uno", fire(headline="Incendio in via Roma")))
    row = await room.hand_in(message("due", fire(headline="Incendio in via Verdi")))
    assert [became["did"] for became in row.became if became["authority"] == "calcinaia"] == ["drafted"]
    assert len(await room.issued("calcinaia")) == 1 and len(await room.drafts()) == 1
    assert "via Verdi" in (await room.pages())[-1].sentence
    await room.hand_in(message("tre", fire(headline="Incendio in via Verdi, ancora")))
    assert len(await room.drafts()) == 1, "they do not heap up"


async def test_two_that_wait_for_each_other_do_not_wait_for_long(
    room: Newsroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[cap.Alert] = []

    def deadlocked(said: cap.Alert) -> object:
        calls.append(said)
        if len(calls) == 1:
            raise OperationalError("UPDATE alerts", {}, Exception("deadlock detected"))
        return lint(said)

    monkeypatch.setattr("alerting.intake.drafting.lint", deadlocked)
    row = await room.hand_in(message("uno"))
    assert (row.state, row.attempts) == (IntakeState.TAKEN, 0)
    assert len(await room.issued("calcinaia")) == 1


async def test_a_feed_is_kept_as_it_came_and_its_messages_after_it(room: Newsroom) -> None:
    inside = written(message("uno")).partition(b"?>")[2]
    atom = (
        b'<feed xmlns="http://www.w3.org/2005/Atom"><id>a</id><title>t</title><updated>2026-11-21T12:00:00Z</updated>'
        b"<entry><id>b</id><title>t</title><updated>2026-11-21T12:00:00Z</updated>"
        b'<content type="application/cap+xml">' + inside + b"</content></entry></feed>"
    )
    (number,) = await room.receiver.take(VALDERA, atom, "application/atom+xml", CameBy.HTTP)
    async with room.database.read() as session:
        envelope, piece = (await session.scalars(select(tables.Intake).order_by(tables.Intake.id))).all()
    assert (envelope.raw, envelope.state) == (atom, IntakeState.TAKEN) and "its 1 messages" in envelope.because
    assert (piece.id, piece.state) == (number, IntakeState.TAKEN)
