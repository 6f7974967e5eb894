"""Draft, approve, issue, update, cancel: what is refused, what is promised, and that both are whole or not at all."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import audit, cap_json, composing, issuing, wire
from alerting.composing import Refused, Wording
from alerting.domain import cap
from alerting.domain.cap import MsgType, Status
from alerting.domain.delivery import Channel
from alerting.domain.events import AlertIssued
from alerting.domain.kinds import Colour, Kind, Risk
from alerting.domain.lanes import Lane
from alerting.domain.lifecycle import NotAllowed, State
from alerting.domain.rendering import FORM_OF, fits, render
from alerting.issuing import SamePerson
from alerting.persistence import Database, tables
from alerting.subscribing import join
from alerting.targeting import select_recipients
from alerting.topology import OFFERED
from geo.shapes import Circle, Geofence, Point, Polygon
from tests.integration.calcinaia import (
    ANNA,
    AUTHORITIES,
    BRUNO,
    CALCINAIA,
    MERCATO,
    NOW,
    PIENA,
    SEAL,
    citizen,
    count,
    five_comuni,
    one_database,
    piena,
)
from tests.unit.geo_drawings import rectangle

PISA = Point(43.7160, 10.4019)
FORNACETTE = Point(43.6720, 10.5900)
NEWEST_EVENT = (
    select(tables.OutboxMessage)
    .where(~tables.OutboxMessage.routing_key.startswith(OFFERED))
    .order_by(tables.OutboxMessage.id.desc())
)
STORED = (tables.Alert, tables.Dispatch, tables.OutboxMessage, tables.AuditEntry)


@pytest.fixture
async def town(database_url: str) -> AsyncIterator[Database]:
    async with five_comuni(database_url, "calcinaia") as database:
        yield database


async def drafted(town: Database, wording: Wording = PIENA) -> str:
    async with town.write() as session:
        return (await issuing.draft(session, wording, CALCINAIA, ANNA, NOW)).identifier


async def approved(town: Database, wording: Wording = PIENA) -> str:
    identifier = await drafted(town, wording)
    async with town.write() as session:
        await issuing.approve(session, await session.get_one(tables.Alert, identifier), BRUNO, NOW)
    return identifier


async def issued(town: Database, wording: Wording = PIENA) -> str:
    identifier = await approved(town, wording)
    async with town.write() as session:
        await issuing.issue(session, await session.get_one(tables.Alert, identifier), ANNA, NOW)
    return identifier


async def cancelled(
    town: Database, identifier: str, reason: str = "Errore nostro.", after: timedelta = timedelta(minutes=7)
) -> tables.Alert | None:
    async with town.write() as session:
        row = await session.get_one(tables.Alert, identifier)
        return await issuing.cancel(session, row, CALCINAIA, BRUNO, reason, NOW + after)


async def actions(session: AsyncSession) -> list[tuple[str, str]]:
    rows = await session.execute(
        select(tables.AuditEntry.actor, tables.AuditEntry.action).order_by(tables.AuditEntry.number)
    )
    return [(actor, action) for actor, action in rows]


# ── the way of an alert ─────────────────────────────────────────────────────────────────────────────


async def test_an_alert_is_drafted_by_one_approved_by_another_and_issued_with_all_that_follows(town: Database) -> None:
    identifier = await issued(town)
    async with town.read() as session:
        row = await session.get_one(tables.Alert, identifier)
        dispatch = (await session.scalars(select(tables.Dispatch))).one()
        message, document = (
            await session.scalars(select(tables.OutboxMessage).order_by(tables.OutboxMessage.id))
        ).all()
        said = await actions(session)
        assert await audit.first_break(session) is None
    assert (row.state, row.author, row.approver, row.lane) == (State.ISSUED, "anna", "bruno", Lane.EMERGENCY)
    assert (dispatch.alert, dispatch.lane, dispatch.live, dispatch.not_after) == (
        identifier,
        Lane.EMERGENCY,
        True,
        PIENA.expires,
    )
    assert (message.exchange, message.routing_key, message.lane) == (
        "alerts",
        "emergency.met.calcinaia",
        Lane.EMERGENCY,
    )
    event = wire.decode(message.body)
    assert isinstance(event, AlertIssued)
    assert (event.alert, event.dispatch, event.expires) == (identifier, dispatch.id, PIENA.expires)
    assert (document.exchange, document.routing_key, document.body) == (
        "alerts",
        "cap.emergency.met.calcinaia",
        row.cap,
    )
    assert said == [("anna", "draft"), ("bruno", "approve"), ("anna", "issue")]


@one_database
async def test_nothing_is_promised_before_it_is_issued(town: Database) -> None:
    await approved(town)
    async with town.read() as session:
        assert await count(session, tables.Dispatch) == await count(session, tables.OutboxMessage) == 0


@one_database
async def test_what_was_sent_carries_the_time_of_issue_not_of_the_draft(town: Database) -> None:
    identifier = await approved(town)
    later = NOW + timedelta(hours=1)
    async with town.write() as session:
        await issuing.issue(session, await session.get_one(tables.Alert, identifier), ANNA, later)
    async with town.read() as session:
        row = await session.get_one(tables.Alert, identifier)
    assert cap_json.from_json(row.document).sent == later == row.issued_at
    assert row.drafted_at == NOW


async def test_a_transaction_that_fails_at_the_end_leaves_nothing_of_what_was_said(town: Database) -> None:
    identifier = await approved(town)
    with pytest.raises(ConnectionResetError):
        async with town.write() as session:
            await issuing.issue(session, await session.get_one(tables.Alert, identifier), ANNA, NOW)
            await session.flush()
            raise ConnectionResetError
    async with town.read() as session:
        assert (await session.get_one(tables.Alert, identifier)).state is State.APPROVED
        assert await count(session, tables.OutboxMessage) == await count(session, tables.Dispatch) == 0
        assert await actions(session) == [("anna", "draft"), ("bruno", "approve")]


# ── what is refused ─────────────────────────────────────────────────────────────────────────────────

SMALL_IN_PISA = Geofence((Circle(PISA, 0.08),))
BAD = {
    "unknown area": (piena(areas=("calcinaia.fornacete",)), "areas/0", "did you mean Fornacette"),
    "area of another comune": (piena(areas=("calcinaia", "cascina.navacchio")), "areas/1", "no area is called"),
    "no place": (piena(areas=()), "areas", "calcinaia for the whole comune"),
    "outside": (piena(drawn=Geofence((Circle(PISA, 1.0),))), "geofence", "outside the territory of Comune di Calc"),
    "a small circle in another comune": (piena(drawn=SMALL_IN_PISA), "geofence", "outside the territory"),
    "one good shape and a small one elsewhere": (
        piena(drawn=Geofence((Circle(FORNACETTE, 0.3), *SMALL_IN_PISA.shapes))),
        "geofence",
        "draw it inside the border",
    ),
    "over the border": (piena(drawn=Geofence((Circle(FORNACETTE, 4.0),))), "geofence", "outside the territory"),
    "expires before now": (piena(expires=NOW - timedelta(minutes=1)), "expires", "not in the future"),
    "expires now": (piena(expires=NOW), "expires", "not in the future"),
    "ends before it begins": (piena(onset=PIENA.expires), "onset", "before it begins"),
    "orange without instruction": (piena(instruction=" \n"), "instruction", "allerta arancione must tell people"),
    "red without instruction": (
        piena(colour=Colour.ROSSA, instruction=""),
        "instruction",
        "allerta rossa must tell people",
    ),
    "no colour": (piena(colour=None), "colour", "one of gialla, arancione, rossa"),
    "no risk": (piena(risk=None), "risk", "one of idraulico"),
    "a colour where there is none": (replace(MERCATO, colour=Colour.GIALLA), "colour", "not to evento"),
    "a risk where there is none": (replace(MERCATO, risk=Risk.VENTO), "risk", "not to evento"),
    "red thunderstorms": (piena(colour=Colour.ROSSA, risk=Risk.TEMPORALI), "colour", "arancione is the highest"),
    "no headline": (piena(headline="  "), "headline", "say in one line"),
    "no description": (piena(description=""), "description", "say what it means"),
    "too long a headline": (piena(headline="x" * 161), "headline", "1 characters too long: 160"),
    "too long for WhatsApp": (piena(description="è" * 1024), "description", "too long for whatsapp: shorten it"),
}


@pytest.mark.parametrize(("wording", "field", "sentence"), BAD.values(), ids=BAD)
@one_database
async def test_a_bad_alert_is_refused_by_field_with_what_to_do_and_nothing_is_stored(
    town: Database, wording: Wording, field: str, sentence: str
) -> None:
    with pytest.raises(Refused) as refused:
        await drafted(town, wording)
    assert field in {finding.field for finding in refused.value.objections}
    assert sentence in str(refused.value)
    async with town.read() as session:
        assert [await count(session, table) for table in STORED] == [0, 0, 0, 0]


@one_database
async def test_everything_that_is_wrong_is_said_at_once(town: Database) -> None:
    with pytest.raises(Refused) as refused:
        await drafted(town, Wording(Kind.ALLERTA_METEO, "", "", NOW, areas=("fornacete",)))
    assert {finding.field for finding in refused.value.objections} == {
        "headline",
        "description",
        "expires",
        "colour",
        "risk",
        "areas/0",
    }


@one_database
async def test_a_sliver_over_a_border_drawn_by_another_hand_is_forgiven(town: Database) -> None:
    (fornacette,) = (area for area in CALCINAIA.territory.areas if area.code == "calcinaia.fornacette")
    (polygon,) = fornacette.fence.shapes
    assert isinstance(polygon, Polygon)
    shifted = tuple(Point(point.lat, point.lon + 0.00001) for point in polygon.outer)
    assert await drafted(town, piena(drawn=Geofence((Polygon(shifted),))))


@one_database
async def test_a_yellow_alert_and_a_market_need_no_instruction(town: Database) -> None:
    assert await drafted(town, piena(colour=Colour.GIALLA, instruction=""))
    assert await drafted(town, MERCATO)


@one_database
async def test_the_author_cannot_approve_what_they_wrote(town: Database) -> None:
    identifier = await drafted(town)
    with pytest.raises(SamePerson, match="ask another person"):
        async with town.write() as session:
            await issuing.approve(session, await session.get_one(tables.Alert, identifier), ANNA, NOW)
    async with town.read() as session:
        assert (await session.get_one(tables.Alert, identifier)).state is State.DRAFT


@one_database
async def test_nothing_is_done_twice_or_out_of_turn(town: Database) -> None:
    draft, ready, out = await drafted(town), await approved(town), await issued(town)
    gone = await drafted(town)
    await cancelled(town, gone)

    async def approve(session: AsyncSession, row: tables.Alert) -> None:
        await issuing.approve(session, row, BRUNO, NOW)

    async def issue(session: AsyncSession, row: tables.Alert) -> None:
        await issuing.issue(session, row, ANNA, NOW)

    async def cancel(session: AsyncSession, row: tables.Alert) -> None:
        await issuing.cancel(session, row, CALCINAIA, BRUNO, "Errore.", NOW)

    async with town.read() as session:
        before = [await count(session, table) for table in STORED]
    for identifier, action, state in (
        (draft, issue, "is draft, not approved"),
        (ready, approve, "is approved, not draft"),
        (out, approve, "is issued, not draft"),
        (out, issue, "is issued, not approved"),
        (gone, approve, "is cancelled, not draft"),
        (gone, issue, "is cancelled, not approved"),
        (gone, cancel, "is cancelled, not approved or draft or issued"),
    ):
        with pytest.raises(NotAllowed, match=state):
            async with town.write() as session:
                await action(session, await session.get_one(tables.Alert, identifier))
    async with town.read() as session:
        assert [await count(session, table) for table in STORED] == before


@one_database
async def test_what_has_ended_meanwhile_is_neither_approved_nor_issued(town: Database) -> None:
    draft, ready = await drafted(town), await approved(town)
    for identifier, action, actor in ((draft, issuing.approve, BRUNO), (ready, issuing.issue, ANNA)):
        with pytest.raises(Refused, match="draft a new one"):
            async with town.write() as session:
                await action(session, await session.get_one(tables.Alert, identifier), actor, PIENA.expires)


# ── the place ───────────────────────────────────────────────────────────────────────────────────────


async def test_the_place_is_kept_as_it_was_drawn_and_named(town: Database) -> None:
    pond = rectangle(43.6715, 10.5880, 43.6725, 10.5890)
    drawn = Geofence((Polygon(rectangle(43.669, 10.585, 43.674, 10.592), (pond,)).tidy(), Circle(FORNACETTE, 0.4)))
    identifier = await issued(town, piena(drawn=drawn, drawn_name="via della Botte"))
    async with town.read() as session:
        row = await session.get_one(tables.Alert, identifier)
    assert row.geofence["areas"] == [{"code": "calcinaia.fornacette", "version": 1}]
    target = issuing.target_of(row)
    assert (target.authority, target.areas, target.drawn) == ("calcinaia", ("calcinaia.fornacette",), drawn)
    named, by_hand = cap_json.from_json(row.document).first.areas
    assert (named.area_desc, by_hand.area_desc) == ("Fornacette", "via della Botte")
    assert by_hand.polygons + by_hand.circles == drawn.shapes
    (fornacette,) = (area for area in CALCINAIA.territory.areas if area.code == "calcinaia.fornacette")
    assert set(named.polygons) == {shape.tidy() for shape in fornacette.fence.shapes if isinstance(shape, Polygon)}


@one_database
async def test_a_drawing_without_a_name_is_still_somewhere(town: Database) -> None:
    for name in ("", "   "):
        identifier = await drafted(town, piena(areas=(), drawn=Geofence((Circle(FORNACETTE, 0.4),)), drawn_name=name))
        async with town.read() as session:
            alert = cap_json.from_json((await session.get_one(tables.Alert, identifier)).document)
        assert "Dove: la zona indicata sulla mappa\n" in render(alert).body


# ── the wall ────────────────────────────────────────────────────────────────────────────────────────


async def test_an_exercise_never_targets_live_recipients_nor_a_real_alert_those_who_exercise(town: Database) -> None:
    async with town.write() as session:
        lives, _ = await join(session, citizen(1), SEAL, keyword="Attiva", now=NOW)
        trial = tables.ChannelAccount(
            name="whatsapp.prova",
            authority="calcinaia",
            channel=Channel.WHATSAPP,
            live=False,
            identity="+39",
            settings={},
        )
        session.add(trial)
        await session.flush()
        who = replace(citizen(2), access=replace(citizen(2).access, name="whatsapp.prova"))
        exercises, _ = await join(session, who, SEAL, keyword="Attiva", now=NOW, live=False)
        # Neither list may leak through the other's account.
        await join(session, citizen(3), SEAL, keyword="Attiva", now=NOW, live=False)
    for wording, expected in ((piena(exercise=True), {exercises}), (PIENA, {lives})):
        identifier = await issued(town, wording)
        async with town.read() as session:
            row = await session.get_one(tables.Alert, identifier)
            dispatch = (await session.scalars(select(tables.Dispatch).where(tables.Dispatch.alert == identifier))).one()
            found = await select_recipients(session, issuing.target_of(row), CALCINAIA)
            people = found.people + " AND NOT r.is_channel"
            ids = set((await session.scalars(text(f"SELECT r.id {people}"), found.parameters)).all())
        assert dispatch.live is (row.status is Status.ACTUAL) is not wording.exercise
        assert ids == expected


@one_database
async def test_the_retraction_of_an_exercise_is_an_exercise(town: Database) -> None:
    telling = await cancelled(town, await issued(town, piena(exercise=True)))
    assert telling is not None
    words = render(cap_json.from_json(telling.document)).body.split()
    assert (telling.status, words[0], words[-1]) == (Status.EXERCISE, "ESERCITAZIONE", "ESERCITAZIONE")
    async with town.read() as session:
        assert set(await session.scalars(select(tables.Dispatch.live))) == {False}


# ── taking it back ──────────────────────────────────────────────────────────────────────────────────


@one_database
async def test_what_was_not_issued_is_cancelled_without_telling_anybody(town: Database) -> None:
    for identifier in (await drafted(town), await approved(town)):
        assert await cancelled(town, identifier) is None
        async with town.read() as session:
            assert (await session.get_one(tables.Alert, identifier)).state is State.CANCELLED
            assert await count(session, tables.Dispatch) == await count(session, tables.OutboxMessage) == 0


async def test_what_was_issued_is_withdrawn_and_taken_back_at_once_in_the_fastest_lane(town: Database) -> None:
    identifier = await issued(town)
    telling = await cancelled(town, identifier)
    assert telling is not None
    async with town.read() as session:
        original = await session.get_one(tables.Alert, identifier)
        first, second = (await session.scalars(select(tables.Dispatch).order_by(tables.Dispatch.id))).all()
        message = (await session.scalars(NEWEST_EVENT)).first()
        said = await actions(session)
    assert (original.state, original.ended_at) == (State.CANCELLED, NOW + timedelta(minutes=7))
    assert first.withdrawn_at == NOW + timedelta(minutes=7)
    assert (telling.state, telling.cancels, telling.lane) == (State.ISSUED, identifier, Lane.FLASH)
    assert (second.alert, second.lane, second.withdrawn_at) == (telling.identifier, Lane.FLASH, None)
    assert message is not None
    assert (message.lane, message.routing_key) == (Lane.FLASH, "flash.met.calcinaia")
    (reference,) = cap_json.from_json(telling.document).references
    assert (reference.identifier, reference.sender, reference.sent) == (identifier, CALCINAIA.sender, NOW)
    assert said[-1] == ("bruno", "cancel")


@one_database
async def test_a_retraction_says_the_time_of_the_original_and_not_its_own(town: Database) -> None:
    telling = await cancelled(town, await issued(town), "Il livello dell'Arno scende.", timedelta(minutes=95))
    assert telling is not None
    assert render(cap_json.from_json(telling.document)).body == (
        "Comune di Calcinaia: ANNULLATO: allerta ARANCIONE per piena di fiumi e canali\n"
        "Dove: Fornacette\n"
        "Quando: annullato alle 15:05 di sabato 21 novembre.\n"
        "Il messaggio delle 13:30 di sabato 21 novembre non è più valido. Il livello dell'Arno scende.\n"
        "Cosa fare: non tenere più conto di quel messaggio. Per informazioni: 0587 265442."
    )


@one_database
async def test_news_is_taken_back_as_news(town: Database) -> None:
    telling = await cancelled(town, await issued(town, MERCATO))
    assert telling is not None
    assert (telling.lane, telling.msg_type) == (Lane.ROUTINE, MsgType.CANCEL)


@one_database
async def test_a_retraction_fits_every_channel_however_long_the_reason(town: Database) -> None:
    wording = piena(headline="x" * 160, web="https://www.comune.calcinaia.pi.it/" + "a" * 300)
    telling = await cancelled(town, await issued(town, wording), "Perché il livello scende. " * 100)
    assert telling is not None
    document = cap_json.from_json(telling.document)
    text_of_it = render(document)
    assert all(fits(render(document, FORM_OF[channel]), channel) for channel in Channel)
    assert "13:30 di sabato 21 novembre non è più valido. Perché il livello" in text_of_it.body
    assert "…\nCosa fare:" in text_of_it.body


@one_database
async def test_a_retraction_outlives_an_alert_that_was_about_to_end(town: Database) -> None:
    telling = await cancelled(town, await issued(town), after=timedelta(hours=9, minutes=59))
    assert telling is not None
    async with town.read() as session:
        first, second = (await session.scalars(select(tables.Dispatch).order_by(tables.Dispatch.id))).all()
    assert first.not_after == PIENA.expires
    assert second.not_after == telling.expires_at > PIENA.expires + timedelta(hours=5)


@one_database
async def test_a_retraction_is_not_itself_taken_back(town: Database) -> None:
    identifier = await issued(town)
    telling = await cancelled(town, identifier)
    assert telling is not None
    with pytest.raises(Refused, match=f"{telling.identifier} itself takes {identifier} back: say anew"):
        await cancelled(town, telling.identifier)
    async with town.read() as session:
        assert await count(session, tables.Dispatch) == 2


# ── one alert in the place of another ───────────────────────────────────────────────────────────────

WORSE = piena(headline="allerta ROSSA: l'Arno esce", colour=Colour.ROSSA, expires=NOW + timedelta(hours=12))
AN_HOUR_LATER = NOW + timedelta(hours=1)


async def update_drafted(town: Database, original: str, wording: Wording = WORSE, now: datetime = AN_HOUR_LATER) -> str:
    async with town.write() as session:
        row = await session.get_one(tables.Alert, original)
        return (await issuing.draft(session, wording, CALCINAIA, ANNA, now, updates=row)).identifier


async def update_approved(town: Database, original: str, wording: Wording = WORSE) -> str:
    identifier = await update_drafted(town, original, wording)
    async with town.write() as session:
        await issuing.approve(session, await session.get_one(tables.Alert, identifier), BRUNO, AN_HOUR_LATER)
    return identifier


async def issue_update(town: Database, identifier: str, now: datetime = AN_HOUR_LATER) -> str:
    async with town.write() as session:
        await issuing.issue(session, await session.get_one(tables.Alert, identifier), ANNA, now)
    return identifier


async def updated(town: Database, original: str, wording: Wording = WORSE) -> str:
    return await issue_update(town, await update_approved(town, original, wording))


async def document(town: Database, identifier: str) -> cap.Alert:
    async with town.read() as session:
        return cap_json.from_json((await session.get_one(tables.Alert, identifier)).document)


async def test_an_update_takes_the_place_of_the_original_when_it_is_issued_and_not_before(town: Database) -> None:
    original = await issued(town)
    identifier = await update_approved(town, original)
    async with town.read() as session:
        assert (await session.get_one(tables.Alert, original)).state is State.ISSUED
    await issue_update(town, identifier)
    async with town.read() as session:
        before, after = await session.get_one(tables.Alert, original), await session.get_one(tables.Alert, identifier)
        first, second = (await session.scalars(select(tables.Dispatch).order_by(tables.Dispatch.id))).all()
        message = (await session.scalars(NEWEST_EVENT)).first()
        entries = (await session.scalars(select(tables.AuditEntry).order_by(tables.AuditEntry.number))).all()
        assert await audit.first_break(session) is None
    assert (before.state, before.ended_at, first.withdrawn_at) == (State.SUPERSEDED, AN_HOUR_LATER, AN_HOUR_LATER)
    assert (after.state, after.updates, after.cancels, after.msg_type) == (
        State.ISSUED,
        original,
        None,
        MsgType.UPDATE,
    )
    assert (second.alert, second.withdrawn_at, second.touched_at) == (identifier, None, AN_HOUR_LATER.timestamp())
    assert message is not None
    event = wire.decode(message.body)
    assert isinstance(event, AlertIssued)
    assert (event.alert, event.msg_type) == (identifier, "Update")
    said = [(entry.action, entry.subject, entry.details.get("by")) for entry in entries]
    assert ("supersede", original, identifier) in said and said[-1][:2] == ("issue", identifier)


@one_database
async def test_an_update_names_what_it_takes_the_place_of_and_a_later_one_names_both(town: Database) -> None:
    first = await issued(town)
    second = await updated(town, first)
    third = await updated(town, second, piena(expires=WORSE.expires))
    (reference,) = (await document(town, second)).references
    assert reference == cap.Reference(CALCINAIA.sender, first, NOW)
    assert (await document(town, third)).references == (
        reference,
        cap.Reference(CALCINAIA.sender, second, AN_HOUR_LATER),
    )
    assert render(await document(town, second)).body.startswith(
        "Comune di Calcinaia: AGGIORNAMENTO: allerta ROSSA: l'Arno esce\n"
    )


@one_database
async def test_an_update_that_calms_goes_in_the_lane_of_the_alert_it_calms(town: Database) -> None:
    original = await issued(town)
    calmer = piena(colour=Colour.GIALLA, instruction="", headline="la piena cala")
    identifier = await updated(town, original, calmer)
    async with town.read() as session:
        row = await session.get_one(tables.Alert, identifier)
        dispatch = (await session.scalars(select(tables.Dispatch).where(tables.Dispatch.alert == identifier))).one()
    assert row.lane is dispatch.lane is Lane.EMERGENCY
    taken_back = await cancelled(town, identifier, after=timedelta(hours=2))
    assert taken_back is not None
    assert taken_back.lane is Lane.FLASH


@one_database
async def test_an_update_needs_a_second_person_like_any_alert(town: Database) -> None:
    identifier = await update_drafted(town, await issued(town))
    async with town.write() as session:
        row = await session.get_one(tables.Alert, identifier)
        with pytest.raises(NotAllowed, match="is draft, not approved: it cannot issue"):
            await issuing.issue(session, row, ANNA, AN_HOUR_LATER)
    async with town.write() as session:
        row = await session.get_one(tables.Alert, identifier)
        with pytest.raises(SamePerson):
            await issuing.approve(session, row, ANNA, AN_HOUR_LATER)


ENDED = PIENA.expires + timedelta(minutes=1)
LATE = replace(WORSE, expires=ENDED + timedelta(hours=1))


@one_database
async def test_what_does_not_stand_cannot_be_updated_and_the_refusal_says_what_to_do(town: Database) -> None:
    original, gone, over, old = [await issued(town) for _ in range(4)]
    cancel = await cancelled(town, gone)
    assert cancel is not None
    async with town.write() as session:
        (await session.get_one(tables.Alert, over)).state = State.EXPIRED
    newer = await updated(town, original)
    for identifier, now, sentence in (
        (await drafted(town), NOW, "is draft, and nobody has been told of it: cancel it, and draft it anew"),
        (await approved(town), NOW, "is approved, and nobody has been told of it"),
        (gone, NOW, "was cancelled, and people were told so: draft a new alert"),
        (over, NOW, "has ended: draft a new alert"),
        (old, ENDED, "has ended: draft a new alert"),
        (original, NOW, f"{newer} has taken the place of {original}: draft an Update of {newer}"),
        (cancel.identifier, NOW, f"takes {gone} back, which is final: draft a new alert"),
    ):
        with pytest.raises(Refused, match=sentence) as refused:
            await update_drafted(town, identifier, LATE, now)
        assert [finding.field for finding in refused.value.objections] == ["updates"]


@one_database
async def test_an_update_is_refused_when_its_original_fell_meanwhile_and_nothing_of_it_is_said(town: Database) -> None:
    async def cancel(original: str) -> None:
        await cancelled(town, original)

    async def expire(original: str) -> None:
        async with town.write() as session:
            (await session.get_one(tables.Alert, original)).state = State.EXPIRED

    async def update(original: str) -> None:
        await updated(town, original)

    for meanwhile, sentence in ((cancel, "was cancelled"), (expire, "has ended"), (update, "has taken the place of")):
        original = await issued(town)
        identifier = await update_approved(town, original)
        await meanwhile(original)
        async with town.read() as session:
            before = [await count(session, table) for table in STORED]
        with pytest.raises(Refused, match=sentence):
            await issue_update(town, identifier)
        async with town.read() as session:
            assert (await session.get_one(tables.Alert, identifier)).state is State.APPROVED
            assert [await count(session, table) for table in STORED] == before


@one_database
async def test_an_update_keeps_to_its_comune_and_to_its_side_of_the_wall(town: Database) -> None:
    original, exercise = await issued(town), await issued(town, piena(exercise=True))
    cascina = AUTHORITIES["cascina"]
    async with town.read() as session:
        row, drill = [await session.get_one(tables.Alert, one) for one in (original, exercise)]
        with pytest.raises(Refused, match="is an alert of calcinaia: only calcinaia can update it"):
            composing.compose(replace(WORSE, areas=("cascina",)), cascina, AN_HOUR_LATER, row)
        with pytest.raises(Refused, match=f"exercise: must be false: {original}, which it updates, is no exercise"):
            composing.compose(replace(WORSE, exercise=True), CALCINAIA, AN_HOUR_LATER, row)
        with pytest.raises(Refused, match="exercise: must be true"):
            composing.compose(WORSE, CALCINAIA, AN_HOUR_LATER, drill)
        assert composing.compose(replace(WORSE, exercise=True), CALCINAIA, AN_HOUR_LATER, drill).references


@one_database
async def test_an_update_is_cancelled_alone_and_the_retraction_names_all_that_people_may_hold(town: Database) -> None:
    original = await issued(town)
    identifier = await updated(town, original)
    with pytest.raises(Refused, match=f"{identifier} has taken the place of {original}: cancel {identifier}"):
        await cancelled(town, original)
    telling = await cancelled(town, identifier, "Il livello scende.", timedelta(minutes=95))
    assert telling is not None
    async with town.read() as session:
        states = [(await session.get_one(tables.Alert, one)).state for one in (original, identifier)]
    assert states == [State.SUPERSEDED, State.CANCELLED]
    assert [one.identifier for one in cap_json.from_json(telling.document).references] == [original, identifier]
    body = render(cap_json.from_json(telling.document)).body
    assert (
        "I messaggi inviati dalle 13:30 di sabato 21 novembre alle 14:30 di sabato 21 novembre non sono più validi."
        " Il livello scende.\nCosa fare: non tenere più conto di quei messaggi." in body
    )
    assert body.startswith("Comune di Calcinaia: ANNULLATO: allerta ROSSA")


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_of_an_update_and_a_cancel_at_the_same_moment_one_comes_second_and_sees_it(town: Database) -> None:
    """On PostgreSQL, where two can write at once."""
    for _ in range(5):
        original = await issued(town)
        identifier = await update_approved(town, original)

        async def cancel(original: str = original) -> None:
            async with town.write() as session:
                row = await session.get_one(tables.Alert, original, with_for_update=True)
                await issuing.cancel(session, row, CALCINAIA, BRUNO, "Errore nostro.", AN_HOUR_LATER)

        both = await asyncio.gather(cancel(), issue_update(town, identifier), return_exceptions=True)
        refused = [one for one in both if isinstance(one, Refused)]
        assert len(refused) == 1, both
        async with town.read() as session:
            state = (await session.get_one(tables.Alert, original)).state
            dispatches = await session.scalars(select(tables.Dispatch).where(tables.Dispatch.alert == identifier))
            assert len(dispatches.all()) == (1 if state is State.SUPERSEDED else 0)
