"""The desk as its staff works at it: over HTTP, seeing no citizen's address, and nobody else's comune."""

import base64
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from PIL import Image

from alerting.actors import Role
from alerting.api.security import create_actor
from alerting.desk import appointments, letters, reports
from alerting.domain.appointments import in_words
from alerting.domain.desk import PhotoState
from alerting.domain.rendering import ROME
from alerting.persistence import tables
from alerting.subscribing import Subscriber
from consumers.desk import Errands, Reader
from consumers.simulators import whatsapp
from geo.shapes import Point
from tests.integration.api_client import NOWHERE_TO_PUBLISH, Town, serving, signed
from tests.integration.calcinaia import AUTHORITIES, one_database

SANTA_FIORA = AUTHORITIES["santa-fiora"]
MARIA, PIETRO = "+393331234567", "+393337654321"
PEOPLE = {
    "gino": (Role.DESK, "santa-fiora"),
    "olga": (Role.OPERATOR, "santa-fiora"),
    "vito": (Role.VIEWER, "santa-fiora"),
}


@pytest.fixture
async def town(database_url: str, tmp_path: Path) -> AsyncIterator[Town]:
    async with serving(database_url, NOWHERE_TO_PUBLISH, "", tmp_path) as town:
        async with town.database.write() as session:
            for name, (role, authority) in PEOPLE.items():
                now = datetime.now(UTC)
                town.tokens[name] = await create_actor(session, name=name, role=role, authority=authority, now=now)
        yield town


def citizen(address: str) -> Subscriber:
    return Subscriber(SANTA_FIORA, SANTA_FIORA.channels[0], address)


async def reported(town: Town, words: str, address: str = MARIA, photo: str | None = None) -> int:
    """A report in the inbox. Its number."""
    assert SANTA_FIORA.desk
    now = datetime.now(UTC)
    async with town.database.write() as session:
        category = "luci" if "lampione" in words else "buche"
        row = await reports.open_one(session, citizen(address), category, town.seal, now)
        point = Point(42.84, 11.615) if photo else None
        await reports.add(session, row, SANTA_FIORA, words, point, photo, town.seal, now)
    return row.id


async def booked(town: Town, address: str = MARIA) -> tables.Booking:
    assert SANTA_FIORA.desk
    office, now = SANTA_FIORA.desk.offices[0], datetime.now(UTC)
    async with town.database.write() as session:
        at = (await appointments.offered(session, SANTA_FIORA, office, now))[0]
        row = await appointments.book(session, citizen(address), office, at, town.seal, now)
    assert row is not None
    return row


async def said(town: Town) -> list[tuple[str, str]]:
    """What the desk is to say, and to whom."""
    rows = await town.rows(tables.Letter)
    return [(town.seal.open(one.sealed), town.seal.open(one.said)) for one in rows if one.said and not one.booking]


async def test_a_report_is_listed_taken_asked_about_noted_and_solved(town: Town) -> None:
    number = await reported(town, "Buca in via Roma")
    page = (await town.ask("GET", "/v1/desk/reports", "gino")).body
    assert [(one["number"], one["state"], one["begins"]) for one in page["items"]] == [
        (number, "new", "Buca in via Roma")
    ]
    taken = await town.ask("POST", f"/v1/desk/reports/{number}/take", "gino")
    assert (taken.body["state"], taken.body["assigned_to"]) == ("taken", "gino")
    await town.ask("POST", f"/v1/desk/reports/{number}/note", "gino", json={"words": "Chiamare la ditta."})
    asked = await town.ask(
        "POST", f"/v1/desk/reports/{number}/answer", "gino", json={"words": "A che numero?", "asks": True}
    )
    assert asked.body["state"] == "waiting"
    assert [(line["kind"], line["words"]) for line in asked.body["entries"]] == [
        ("said", "Buca in via Roma"),
        ("note", "Chiamare la ditta."),
        ("answer", "A che numero?"),
    ]
    closed = await town.ask(
        "POST", f"/v1/desk/reports/{number}/close", "gino", json={"solved": True, "words": "Asfaltata."}
    )
    assert closed.body == {"number": number, "state": "solved", "told": 1}
    assert [address for address, _ in await said(town)] == [MARIA, MARIA]
    again = await town.ask("POST", f"/v1/desk/reports/{number}/close", "gino", json={"solved": False})
    assert again.status == 409
    assert "a closed report stays so" in again.body["detail"]


async def test_no_answer_and_no_audit_tells_who_reported_nor_what(town: Town) -> None:
    number = await reported(town, "Buca in via Roma, Maria Bianchi")
    detail = await town.ask("GET", f"/v1/desk/reports/{number}", "olga")
    assert detail.body["address"] == "+39 … 67"
    await town.ask("POST", f"/v1/desk/reports/{number}/answer", "olga", json={"words": "Gentile Maria, veniamo."})
    await town.ask("POST", f"/v1/desk/reports/{number}/close", "olga", json={"solved": True})
    listed = await town.ask("GET", "/v1/desk/reports?state=solved", "olga")
    for answer in (detail, listed):
        assert MARIA not in str(answer.body)
        assert MARIA[3:] not in str(answer.body)
    entries = [entry for entry in await town.rows(tables.AuditEntry) if "report" in entry.action]
    assert [entry.action for entry in entries] == ["answer report", "close report"]
    assert not any("Maria" in str(entry.details) or "333" in str(entry.details) for entry in entries)


@one_database
@pytest.mark.parametrize(("who", "status"), [("vito", 403), ("anna", 403), ("admin", 200), ("olga", 200)])
async def test_only_the_desks_own_staff_works_there(town: Town, who: str, status: int) -> None:
    number = await reported(town, "Buca in via Roma")
    assert (await town.ask("GET", f"/v1/desk/reports/{number}", who)).status == status
    assert (await town.ask("GET", "/v1/desk/reports?authority=santa-fiora", who)).status == status
    assert (await town.ask("GET", "/v1/desk/statistics?authority=santa-fiora", who)).status == status


@one_database
async def test_the_desk_alerts_nobody_and_registers_nobody(town: Town) -> None:
    assert (await town.draft("gino")).status == 403
    assert (await town.ask("POST", "/v1/recipients", "gino", json={})).status in (403, 422)
    assert (await town.ask("GET", "/v1/recipients/1/places", "gino")).status == 403


@one_database
async def test_a_comune_without_a_desk_says_so(town: Town) -> None:
    answer = await town.ask("GET", "/v1/desk/reports", "anna")
    assert answer.status == 409
    assert "[desk]" in answer.body["detail"]


async def test_two_reports_of_one_hole_are_merged_and_both_are_told(town: Town) -> None:
    first, second = await reported(town, "Buca in via Roma"), await reported(town, "buca via roma", PIETRO)
    third = await reported(town, "lampione rotto in via Roma", PIETRO)
    assert (await town.ask("GET", f"/v1/desk/reports/{second}", "gino")).body["alike"] == [first]
    merged = await town.ask("POST", f"/v1/desk/reports/{second}/merge", "gino", json={"into": first})
    assert merged.body["merged"] == [second]
    assert [one["number"] for one in (await town.ask("GET", "/v1/desk/reports", "gino")).body["items"]] == [
        third,
        first,
    ]
    for wrong, into in ((second, first), (first, second), (first, first), (first, 9999)):
        answer = await town.ask("POST", f"/v1/desk/reports/{wrong}/merge", "gino", json={"into": into})
        assert answer.status in (404, 409)
    closed = await town.ask("POST", f"/v1/desk/reports/{first}/close", "gino", json={"solved": True})
    assert closed.body["told"] == 2
    assert {address for address, _ in await said(town)} == {MARIA, PIETRO}


@one_database
async def test_reports_are_filtered_and_paged(town: Town) -> None:
    numbers = [await reported(town, words) for words in ("Buca", "lampione", "Buca 2", "Buca 3")]
    await town.ask("POST", f"/v1/desk/reports/{numbers[0]}/assign", "gino", json={"to": "olga"})
    nobody = await town.ask("POST", f"/v1/desk/reports/{numbers[0]}/assign", "gino", json={"to": "anna"})
    assert (nobody.status, nobody.pointers) == (422, ["/to"])

    async def found(query: str) -> list[int]:
        answer = await town.ask("GET", f"/v1/desk/reports?{query}", "gino")
        return [one["number"] for one in answer.body["items"]]

    assert await found("category=luci") == [numbers[1]]
    assert await found("assigned_to=olga") == [numbers[0]]
    assert await found("state=new&state=waiting") == numbers[:0:-1]
    page = (await town.ask("GET", "/v1/desk/reports?limit=3", "gino")).body
    assert await found(f"limit=3&cursor={page['next_cursor']}") == [numbers[0]]
    sorted_ = await town.ask("POST", f"/v1/desk/reports/{numbers[1]}/sort", "gino", json={"category": "verde"})
    assert sorted_.body["category_name"] == "alberi e verde"
    wrong = await town.ask("POST", f"/v1/desk/reports/{numbers[1]}/sort", "gino", json={"category": "meteo"})
    assert wrong.pointers == ["/category"]


@one_database
@pytest.mark.parametrize("words", ["", "   ", "a" * 901, "con un \u0007"])
async def test_an_answer_nobody_could_read_is_not_sent(town: Town, words: str) -> None:
    number = await reported(town, "Buca in via Roma")
    answer = await town.ask("POST", f"/v1/desk/reports/{number}/answer", "gino", json={"words": words})
    assert (answer.status, answer.pointers) == (422, ["/words"])
    assert await said(town) == []


@one_database
async def test_figures_say_how_much_the_trial_is_used(town: Town) -> None:
    number = await reported(town, "Buca in via Roma")
    await reported(town, "lampione rotto")
    await town.ask("POST", f"/v1/desk/reports/{number}/close", "gino", json={"solved": True})
    await booked(town)
    figures = (await town.ask("GET", "/v1/desk/statistics?months=1", "gino")).body
    assert [(one["office"], one["booked"], one["cancelled"]) for one in figures["appointments"]] == [("anagrafe", 1, 0)]
    months = figures["months"]
    assert [(one["category"], one["opened"], one["by_state"]) for one in months] == [
        ("buche", 1, {"solved": 1}),
        ("luci", 1, {"new": 1}),
    ]
    assert months[0]["solution_hours"] is not None
    month = f"{datetime.now(ROME):%Y-%m}"
    rows = await town.ask("GET", f"/v1/authorities/santa-fiora/report.csv?month={month}", "olga")
    assert rows.body.splitlines()[-1].endswith(";2;1;1"), "and the month's report says so too"


# ── at the door ─────────────────────────────────────────────────────────────────────────────────────


def from_meta(*messages: dict[str, Any]) -> dict[str, Any]:
    number = {"phone_number_id": "105302200000001"}
    listed = [
        {"from": "393331234567", "id": f"wamid.{at}", "timestamp": "1764144000"} | message
        for at, message in enumerate(messages)
    ]
    value = {"metadata": number, "messages": listed}
    return signed({"entry": [{"changes": [{"field": "messages", "value": value}]}]}, "santa-fiora")


async def test_a_report_never_stands_in_the_queue_of_those_who_join(town: Town) -> None:
    position = {"latitude": 42.84, "longitude": 11.615}
    post = from_meta(
        {"type": "text", "text": {"body": "Buca in via Roma"}},
        {"type": "text", "text": {"body": "ATTIVA COMUNE AMICO"}},
        {"type": "image", "image": {"id": "4411", "caption": "ecco la buca"}},
        {"type": "location", "location": position},
        {"type": "text", "text": {"body": "non voglio più ricevere messaggi"}},
        {"type": "reaction", "reaction": {"emoji": "👍"}},
    )
    for _ in range(2):  # Meta repeats itself
        assert (await town.ask("POST", "/v1/webhooks/whatsapp", None, **post)).status == 200
    promised = sorted(await town.rows(tables.OutboxMessage), key=lambda row: row.id)
    assert [(row.exchange, str(row.lane)) for row in promised] == [
        ("inbound", "reply"),  # all four, which came together
        *[("desk", "routine")] * 2,
    ]
    rows = await town.rows(tables.InboundMessage)
    assert [row.for_desk is not None for row in rows] == [True, False, True, False, False, False]
    assert len(await town.rows(tables.Conversation)) == 1  # so that the position is known for that of the hole
    reader = Reader(town.database, AUTHORITIES, town.seal)
    for row in rows:
        await reader.read(row.id, datetime.now(UTC))
    (report,) = await town.rows(tables.Report)
    assert report.category == "buche"
    assert len(await town.rows(tables.Photograph)) == 1


# ── appointments ────────────────────────────────────────────────────────────────────────────────────


async def test_an_appointment_is_seen_moved_and_cancelled_and_the_citizen_is_told(town: Town) -> None:
    row = await booked(town)
    offices = (await town.ask("GET", "/v1/desk/offices", "gino")).body["items"]
    assert [one["code"] for one in offices] == ["anagrafe", "tecnico"]
    to = offices[0]["free"][2]
    (seen,) = (await town.ask("GET", "/v1/desk/bookings", "gino")).body["items"]
    assert (seen["number"], seen["address"]) == (row.id, "+39 … 67")
    moved = await town.ask("POST", f"/v1/desk/bookings/{row.id}/move", "gino", json={"to": to})
    assert moved.status == 200, moved.body
    nowhere = await town.ask(
        "POST", f"/v1/desk/bookings/{moved.body['number']}/move", "gino", json={"to": "2027-01-01T09:00:00+01:00"}
    )
    assert nowhere.status == 409
    cancelled = await town.ask(
        "POST", f"/v1/desk/bookings/{moved.body['number']}/cancel", "gino", json={"words": "C'è sciopero."}
    )
    assert cancelled.body["cancelled_by"] == "gino"
    told = [words for _, words in await said(town)]
    assert in_words(datetime.fromisoformat(to)) in told[0]
    assert "C'è sciopero." in told[1]
    assert (await town.ask("GET", "/v1/desk/bookings", "gino")).body["items"] == []


# ── pictures ────────────────────────────────────────────────────────────────────────────────────────


def picture() -> bytes:
    """With a maker in its metadata, as telephones write them."""
    drawn, exif = BytesIO(), Image.Exif()
    exif[0x010F] = "Fornacette Phones"
    Image.new("RGB", (320, 240), "grey").save(drawn, "JPEG", exif=exif)
    return drawn.getvalue()


async def sent(served: Any, content: bytes) -> str:
    """A picture at the simulated provider. What it is called there."""
    found: dict[str, Any] = served.simulator._media.sent(
        "105302200000001", base64.b64encode(content).decode(), time.time()
    )
    return str(found["id"])


@pytest.mark.parametrize("what", ["picture", "no picture", "not there", "another's token"])
async def test_a_picture_is_fetched_drawn_anew_sealed_and_seen_by_the_staff_alone(town: Town, what: str) -> None:
    token = "EAAGsantafiora"
    config = {"accounts": {"105302200000001": {"token": "other" if what == "another's token" else token}}}
    served = await whatsapp.start(config)
    town.settings.secrets._by_account.setdefault("whatsapp.santa-fiora", {})["token"] = token
    for code in AUTHORITIES:
        town.settings.secrets._by_account.setdefault(f"whatsapp.{code}", {}).setdefault("token", token)
    settings = town.settings.model_copy(update={"whatsapp_url": served.base_url})
    settings.__dict__["secrets"] = town.settings.secrets
    reader = Reader(town.database, AUTHORITIES, town.seal)
    errands = Errands(town.database, AUTHORITIES, town.seal, settings, reader)
    name = await sent(served, picture() if what != "no picture" else b"MZ this is a program")
    number = await reported(town, "Buca in via Roma", photo="9000000000000999" if what == "not there" else name)
    async with aiohttp.ClientSession() as http:
        assert await errands.fetch_some(http) == 1
    await served.close()
    (photo,) = (await town.ask("GET", f"/v1/desk/reports/{number}", "gino")).body["photos"]
    (row,) = await town.rows(tables.Photograph)
    if what == "another's token":  # it may be mended: to be tried again
        assert (row.state, row.attempts) == (PhotoState.WAITING, 1)
        assert row.due_at > datetime.now(UTC).timestamp()
        return
    assert row.provider_id is None
    if what != "picture":
        assert photo["path"] is None
        assert row.state in (PhotoState.REFUSED, PhotoState.LOST)
        assert [address for address, _ in await said(town)] == [MARIA]
        return
    assert b"Fornacette" not in town.seal.open_bytes(row.sealed)
    assert b"JFIF" not in row.sealed
    seen = await town.http.get(town.url + photo["path"], headers={"Authorization": f"Bearer {town.tokens['gino']}"})
    content = await seen.read()
    assert seen.headers["Content-Type"] == "image/jpeg"
    assert seen.headers["Cache-Control"] == "no-store"
    assert Image.open(BytesIO(content)).size == (320, 240)
    assert b"Fornacette" not in content
    assert (await town.ask("GET", photo["path"], None)).status == 401
    assert (await town.ask("GET", photo["path"], "vito")).status == 403
    assert (await town.ask("GET", photo["path"], "anna")).status == 403


@one_database
async def test_what_a_comune_says_is_due_when_it_is_written(town: Town) -> None:
    number = await reported(town, "Buca in via Roma")
    await town.ask("POST", f"/v1/desk/reports/{number}/answer", "gino", json={"words": "Veniamo domani."})
    async with town.database.write() as session:
        assert await letters.release(session, SANTA_FIORA, town.seal, datetime.now(UTC) + timedelta(seconds=1)) == 1
    (dispatch,) = await town.rows(tables.Dispatch)
    assert "Veniamo domani." in town.seal.open(dispatch.reply_sealed)
