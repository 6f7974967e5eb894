"""What a person gets to know of themselves, by whom and until when; and that who is erased is in nothing any more."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from alerting.desk import letters, reports
from alerting.desk.handing import heard_of
from alerting.domain.desk import ReportState
from alerting.domain.recipients import Place, Precision, known_by
from alerting.knowing import LINK_LASTS, DataLinks
from alerting.persistence import tables
from alerting.subscribing import Subscriber, join, leave
from consumers.inbound import Inbound
from geo.shapes import Point
from tests.integration.api_client import NOWHERE_TO_PUBLISH, Town, serving
from tests.integration.calcinaia import AUTHORITIES, SEAL, citizen, five_comuni, one_database
from tests.integration.test_inbound import Desk, texts

NOW = datetime.now(UTC).replace(microsecond=0)
ANNA = citizen(1234567)
HOME = Place(Precision.ADDRESS, point=Point(43.6720, 10.5900))


@pytest.fixture
async def town(database_url: str, tmp_path: Path) -> AsyncIterator[Town]:
    async with serving(database_url, NOWHERE_TO_PUBLISH, "t.", tmp_path) as town:
        yield town


async def joined(town: Town, number: int = 1234567) -> int:
    async with town.database.write() as session:
        who = replace(citizen(number), wrote_at=NOW)
        recipient, _ = await join(session, who, town.seal, keyword="attivà", now=NOW, places=[HOME])
    return recipient


def links(town: Town) -> DataLinks:
    return DataLinks(town.settings.key_bytes, "https://allerta.example/")


async def test_the_link_shows_everything_to_whoever_holds_it(town: Town) -> None:
    recipient = await joined(town)
    link = links(town).link(recipient, datetime.now(UTC))
    assert link.startswith("https://allerta.example/v1/known/")
    answer = await town.ask("GET", f"/v1/known/{link.rpartition('/')[2]}", None)
    assert answer.status == 200 and answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    known = answer.body
    assert known["authority"] == "calcinaia" and known["subscription"]["joined_at"] == NOW.isoformat()
    assert [(one["channel"], one["address"]) for one in known["addresses"]] == [("whatsapp", ANNA.address)]
    assert known["places"] == [{"label": "casa", "area": None, "lat": 43.6720, "lon": 10.5900}]
    (proof,) = known["proofs"]
    assert (proof["what"], proof["keyword"], proof["written_at"]) == ("join", "attivà", NOW.isoformat())
    assert proof["policy_sha256"] == AUTHORITIES["calcinaia"].policy.sha256


async def test_a_wrong_an_old_and_a_leavers_link_are_told_apart_by_nobody(town: Town) -> None:
    recipient = await joined(town)
    good = links(town).token(recipient, datetime.now(UTC))
    old = links(town).token(recipient, datetime.now(UTC) - LINK_LASTS - timedelta(seconds=1))
    other_key = DataLinks(bytes(32), "").token(recipient, datetime.now(UTC))
    forged = ("A" if good[0] != "A" else "B") + good[1:]
    async with town.database.write() as session:
        await leave(session, ANNA, town.seal, keyword="Disattiva", now=NOW)
    answers = [
        await town.ask("GET", f"/v1/known/{token}", None) for token in (good, old, other_key, forged, "x", "A" * 900)
    ]
    assert {answer.status for answer in answers} == {404}
    assert len({answer.body["detail"] for answer in answers}) == 1


async def test_an_admin_exports_it_and_the_audit_says_so(town: Town) -> None:
    recipient = await joined(town)
    assert (await town.ask("GET", f"/v1/recipients/{recipient}/known")).status == 403, "an operator sees no numbers"
    answer = await town.ask("GET", f"/v1/recipients/{recipient}/known", "admin")
    assert (answer.status, answer.body["addresses"][0]["address"]) == (200, ANNA.address)
    (entry,) = await town.audited("export")
    assert entry.details == {"recipient": recipient} and ANNA.address[1:] not in repr(vars(entry))


async def test_whoever_asks_at_the_counter_is_told_also_where_they_are_subscribed_no_more(town: Town) -> None:
    maria = citizen(1234567, "santa-fiora")
    asks = {"authority": "santa-fiora", "channel": "whatsapp", "address": maria.address}

    async def told(**other: str) -> dict[str, Any]:
        answer = await town.ask("POST", "/v1/recipients/exports", "admin", json=asks | other)
        assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store")
        return dict(answer.body)

    recipient = await reported(town, maria)
    assert await told() == (await town.ask("GET", f"/v1/recipients/{recipient}/known", "admin")).body
    async with town.database.write() as session:
        await leave(session, maria, town.seal, keyword="disattiva", now=NOW)
    known = await told()
    assert (known["subscription"], known["addresses"], known["places"], known["texts"]) == ({}, [], [], [])
    assert [(one["what"], one["keyword"]) for one in known["proofs"]] == [
        ("join", "attiva comune amico"),
        ("leave", "disattiva"),
    ]
    assert [one["said"] for one in known["desk"]["reports"]] == [["Buca in via Roma"]]
    stranger = await told(address=citizen(7654321).address)
    assert (stranger["proofs"], stranger["desk"]["reports"], stranger["desk"]["wrote_at"]) == ([], [], None)
    assert (await told(authority="calcinaia"))["proofs"] == [], "each comune tells of itself"
    assert (await town.ask("POST", "/v1/recipients/exports", json=asks)).status == 403, "an operator sees no numbers"
    assert [entry.details.get("recipient") for entry in await town.audited("export")] == [
        recipient,
        recipient,
        *[None] * 3,
    ]


async def test_who_is_erased_is_in_no_table_any_more_and_nobody_learns_whether_they_were(town: Town) -> None:
    await joined(town)
    fingerprint = town.seal.fingerprint(known_by(ANNA.address))
    said = {"channel": "whatsapp", "address": ANNA.address}
    stranger = {"channel": "whatsapp", "address": citizen(7654321).address}
    answers = [await town.ask("POST", "/v1/recipients/erasures", json=one) for one in (said, said, stranger)]
    assert {(answer.status, answer.body) for answer in answers} == {(204, "")}
    async with town.database.read() as session:
        everything = [
            value
            for table in tables.Table.metadata.sorted_tables
            for row in (await session.execute(text(f"SELECT * FROM {table.name}"))).all()
            for value in row
        ]
    assert fingerprint not in [bytes(one) for one in everything if isinstance(one, bytes | memoryview)]
    assert [(one.what, one.keyword) for one in await town.rows(tables.Consent)] == [("join", ""), ("leave", "")]
    assert await town.rows(tables.Place) == []
    assert len(await town.audited("erase")) == 3


async def reported(town: Town, person: Subscriber) -> int:
    """They join, and report a hole to the desk."""
    async with town.database.write() as session:
        recipient, _ = await join(
            session, replace(person, wrote_at=NOW), town.seal, keyword="attiva comune amico", now=NOW
        )
        row = await reports.open_one(session, person, "buche", town.seal, NOW)
        await reports.add(session, row, person.authority, "Buca in via Roma", None, None, town.seal, NOW)
        await heard_of(session, [(person, NOW)], town.seal)
        await letters.write(session, person, "Veniamo domani.", town.seal, NOW)
    return recipient


async def test_what_a_desk_holds_of_them_is_shown_and_erased_with_the_rest(town: Town) -> None:
    maria = citizen(1234567, "santa-fiora")
    recipient = await reported(town, maria)
    token = links(town).token(recipient, datetime.now(UTC))
    desk = (await town.ask("GET", f"/v1/known/{token}", None)).body["desk"]
    (report,) = desk["reports"]
    assert (report["category"], report["state"], report["said"]) == ("buche", "new", ["Buca in via Roma"])
    assert desk["wrote_at"] == NOW.isoformat() and desk["appointments"] == []
    said = {"authority": "santa-fiora", "channel": "whatsapp", "address": maria.address}
    assert (await town.ask("POST", "/v1/recipients/erasures", "admin", json=said)).status == 204
    fingerprint = town.seal.fingerprint(known_by(maria.address))
    for table in (tables.Report, tables.Letter, tables.Conversation):
        assert fingerprint not in [bytes(row.fingerprint or b"") for row in await town.rows(table)]
    (row,) = await town.rows(tables.Report)
    assert (row.sealed, row.state, row.forgotten_at is not None) == (None, ReportState.NEW, True)


@one_database
async def test_who_writes_for_their_data_gets_the_link_and_a_stranger_learns_nothing(database_url: str) -> None:
    async with five_comuni(database_url) as database:
        links = DataLinks(bytes(range(32)), "https://allerta.example")
        desk = Desk(database, Inbound(database, AUTHORITIES, SEAL, links=links))
        assert await desk.receives("I miei dati") == texts("calcinaia").not_subscribed
        await desk.receives("Attiva")
        answer = await desk.receives("i MIEI dati, grazie")
        assert answer is not None and "https://allerta.example/v1/known/" in answer
        token = answer.partition("/v1/known/")[2].split()[0]
        anna = await desk.knows()
        assert anna is not None and links.recipient(token, datetime.now(UTC)) == anna.id
        assert await desk.receives("i miei dati sono sbagliati") == texts("calcinaia").not_read
        desk.inbound = Inbound(database, AUTHORITIES, SEAL)
        assert await desk.receives("I miei dati") == texts("calcinaia").my_data_elsewhere
