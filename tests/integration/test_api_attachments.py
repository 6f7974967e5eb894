"""Pictures and PDFs over HTTP: from an operator's telephone to an alert, and to everybody whom it concerns."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from alerting import attachments, cap_json
from alerting.actors import Actor, Role
from alerting.api.attachments import Shelf
from alerting.cap_xml.reading import read
from alerting.domain.attachments import MOST_BYTES, PDF, PNG, Prepared
from alerting.domain.cap import MsgType
from alerting.persistence import Database, tables
from tests.integration.api_client import NOWHERE_TO_PUBLISH, Answer, Town, evacuate, serving
from tests.integration.calcinaia import one_database
from tests.unit.test_attachments import document, opened, photograph, plan, saved

MAP, PHOTOGRAPH = saved(plan(), "PNG"), saved(photograph(), "JPEG")
SAYS = "Mappa delle vie da evacuare a Fornacette"
NOW = datetime(2026, 11, 21, 12, 30, tzinfo=UTC)


@pytest.fixture
async def town(database_url: str, tmp_path: Path) -> AsyncIterator[Town]:
    async with serving(database_url, NOWHERE_TO_PUBLISH, "t.", tmp_path) as town:
        yield town


async def hand_in(town: Town, file: Any = MAP, who: str = "anna", media_type: str = "image/png") -> Answer:
    return await town.ask("POST", "/v1/attachments", who, data=file, headers={"Content-Type": media_type})


async def handed_in(town: Town, file: bytes = MAP, says: str = SAYS) -> dict[str, str]:
    """An enclosure for a draft."""
    answer = await hand_in(town, file)
    assert answer.status == 201, answer.body
    return {"sha256": answer.body["sha256"], "says": says}


async def seen(town: Town, path: str, who: str | None = None, **headers: str) -> tuple[int, bytes, Mapping[str, str]]:
    """What a browser gets; `who` sends a token."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if who is not None:
        sent["Authorization"] = f"Bearer {town.tokens[who]}"
    async with town.http.get(town.url + path, headers=sent) as answer:
        return answer.status, await answer.read(), answer.headers


async def document_of(town: Town, alert: str) -> dict[str, Any]:
    body: dict[str, Any] = (await town.ask("GET", f"/v1/alerts/{alert}")).body["document"]
    return body


# ── from a telephone to everybody ───────────────────────────────────────────────────────────────────


async def test_a_map_is_handed_in_drafted_and_seen_by_everybody_once_the_alert_is_issued(town: Town) -> None:
    answer = await hand_in(town)
    sha256, url = answer.body["sha256"], f"{town.url}/v1/attachments/{answer.body['sha256']}"
    assert answer.status == 201 and answer.body == {
        "sha256": sha256,
        "media_type": PNG,
        "bytes": answer.body["bytes"],
        "width": 900,
        "height": 600,
        "url": url,
    }
    (row,) = await town.rows(tables.Attachment)
    assert hashlib.sha256(row.content).hexdigest() == sha256 and len(row.content) == answer.body["bytes"]

    alert = await town.approved(enclosure={"sha256": sha256, "says": SAYS})
    (resource,) = (await document_of(town, alert))["infos"][0]["resources"]
    assert resource == {
        "resource_desc": SAYS,
        "mime_type": PNG,
        "size": len(row.content),
        "uri": url,
        "deref_uri": "",
        "digest": hashlib.sha1(row.content).hexdigest(),
    }
    paths = (f"/v1/attachments/{sha256}", f"/a/{sha256[:12]}")
    assert [(await seen(town, path))[0] for path in paths] == [404, 404], "nobody sees what is only a draft"
    assert (await seen(town, paths[0], "carla"))[:2] == (200, row.content), "who works there does"
    assert (await seen(town, paths[0], Authorization="Bearer al_nobody"))[0] == 401

    assert (await town.ask("POST", f"/v1/alerts/{alert}/issue")).status == 202
    for path in paths:
        status, content, headers = await seen(town, path)
        assert (status, content) == (200, row.content) and opened(content).size == (900, 600)
        assert headers["Content-Type"] == PNG and headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "public, max-age=86400, immutable"
        assert headers["Content-Disposition"] == f'inline; filename="allerta-{sha256[:12]}.png"'
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
        again = await seen(town, path, If_None_Match=headers["ETag"])
        assert again[:2] == (304, b"") and again[2]["ETag"] == headers["ETag"]
    published = (await town.ask("GET", f"/cap/{alert}.xml", None)).body
    message = read(published.encode()).alert
    assert message is not None and [one.uri for one in message.first.resources] == [url]


async def test_a_pdf_is_seen_as_it_was_handed_in(town: Town) -> None:
    raw = document()
    answer = await hand_in(town, raw, media_type=PDF)
    sha256 = hashlib.sha256(raw).hexdigest()
    assert (answer.body["sha256"], answer.body["width"], answer.body["height"]) == (sha256, None, None)
    alert = await town.issued(enclosure={"sha256": sha256})
    (resource,) = (await document_of(town, alert))["infos"][0]["resources"]
    assert (resource["resource_desc"], resource["mime_type"]) == ("Documento allegato", PDF)
    status, content, headers = await seen(town, f"/a/{sha256[:12]}")
    assert (status, content, headers["Content-Type"]) == (200, raw, PDF)
    assert "object-src 'self'" in headers["Content-Security-Policy"]


@one_database
async def test_the_same_file_is_stored_once_whoever_sends_it_and_whatever_they_call_it(town: Town) -> None:
    answers = [
        await hand_in(town, PHOTOGRAPH, who, media_type)
        for who, media_type in (("anna", "image/jpeg"), ("ezio", "text/plain"), ("admin", "application/octet-stream"))
    ]
    assert {answer.status for answer in answers} == {201}
    assert len({answer.body["sha256"] for answer in answers}) == 1
    assert len(await town.rows(tables.Attachment)) == 1
    noted = await town.audited("attach")
    assert [entry.actor for entry in noted] == ["anna", "ezio", "admin"]
    assert {entry.subject for entry in noted} == {answers[0].body["sha256"]}


@one_database
async def test_only_the_staff_hands_in(town: Town) -> None:
    assert (await hand_in(town, who="carla")).status == 403
    assert (await hand_in(town, who="dpc")).status == 403
    assert (await town.ask("POST", "/v1/attachments", None, data=MAP)).status == 401
    assert await town.rows(tables.Attachment) == []


@one_database
@pytest.mark.parametrize(
    ("file", "status", "says"),
    [
        (b"", 422, "is empty"),
        (b"MZ\x90\x00" + bytes(500), 422, "is a program"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 422, "SVG"),
        (PHOTOGRAPH[:1000], 422, "damaged"),
        (document(b"<</S /JavaScript>>"), 422, "JavaScript"),
    ],
)
async def test_a_file_that_may_not_go_with_an_alert_is_refused_by_a_sentence(
    town: Town, file: bytes, status: int, says: str
) -> None:
    refused = await hand_in(town, file, media_type="image/jpeg")
    assert (
        refused.status == status and refused.body["detail"].startswith("the file ") and says in refused.body["detail"]
    )
    assert await town.rows(tables.Attachment) == []
    assert len(await town.audited("refused")) == 1


@one_database
async def test_a_form_is_told_to_send_the_file_alone(town: Town) -> None:
    refused = await hand_in(town, MAP, media_type="multipart/form-data; boundary=x")
    assert refused.status == 415 and "the file alone" in refused.body["detail"]


@one_database
async def test_two_hundred_megabytes_are_refused_before_they_are_read(town: Town) -> None:
    sent = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(3200):
            sent += 65536
            yield bytes(65536)

    refused = await hand_in(town, pieces(), media_type=PDF)
    assert refused.status == 413 and f"{MOST_BYTES:,}" in refused.body["detail"]
    assert sent < 2 * MOST_BYTES, "it was not read to its end"
    headers = {"Content-Type": PDF, "Content-Length": str(200_000_000)}
    reader, writer = await asyncio.open_connection("127.0.0.1", int(town.url.rpartition(":")[2]))
    lines = [
        f"{name}: {value}" for name, value in (headers | {"Authorization": f"Bearer {town.tokens['anna']}"}).items()
    ]
    writer.write("\r\n".join(["POST /v1/attachments HTTP/1.1", "Host: x", *lines, "", ""]).encode() + b"%PDF-1.7")
    async with asyncio.timeout(60):
        assert b" 413 " in await reader.readline(), "nothing of it was waited for"
    writer.close()
    assert await town.rows(tables.Attachment) == []


# ── in an alert ─────────────────────────────────────────────────────────────────────────────────────


@one_database
async def test_an_alert_shows_only_what_is_here_and_says_what_a_picture_shows(town: Town) -> None:
    unknown = await town.draft(enclosure={"sha256": "5e" * 32, "says": SAYS})
    assert (unknown.status, unknown.pointers) == (422, ["/enclosure/sha256"])
    assert (await town.draft(enclosure={"sha256": "mappa.png", "says": SAYS})).pointers == ["/enclosure/sha256"]
    silent = await town.draft(enclosure=await handed_in(town, says=" "))
    assert (silent.status, silent.pointers) == (422, ["/enclosure/says"])
    assert "cannot see it" in silent.body["detail"]
    preview = await town.ask("POST", "/v1/alerts/preview", json=evacuate(enclosure={"sha256": "5e" * 32, "says": SAYS}))
    assert (preview.status, preview.pointers) == (422, ["/enclosure/sha256"])
    assert await town.rows(tables.Alert) == []


@one_database
async def test_an_update_brings_another_or_none_and_a_cancel_shows_nothing(town: Town) -> None:
    first, second = await handed_in(town), await handed_in(town, PHOTOGRAPH, "L'Arno al ponte")
    alert = await town.issued(
        enclosure=first, translations=[{"language": "en", "headline": "Leave", "instruction": "x"}]
    )
    assert [len(info["resources"]) for info in (await document_of(town, alert))["infos"]] == [1, 1]
    update = await town.issued(enclosure=second, updates=alert)
    bare = await town.issued(updates=update)
    assert [
        [one["resource_desc"] for one in (await document_of(town, name))["infos"][0]["resources"]]
        for name in (alert, update, bare)
    ] == [[SAYS], ["L'Arno al ponte"], []]
    again = await town.issued(enclosure=first)
    cancelled = (await town.ask("POST", f"/v1/alerts/{again}/cancel", json={"reason": "Errore."})).body["cancel"]
    rows = {row.identifier: row for row in await town.rows(tables.Alert)}
    assert rows[cancelled].msg_type is MsgType.CANCEL and rows[cancelled].enclosure is None
    assert cap_json.from_json(rows[cancelled].document).first.resources == ()
    assert [rows[name].enclosure for name in (alert, update, bare)] == [first["sha256"], second["sha256"], None]
    assert (await seen(town, f"/a/{first['sha256'][:12]}"))[0] == 200, "whoever has the text still finds the picture"


@one_database
async def test_the_preview_says_which_channel_carries_it_and_the_others_say_where_it_is(town: Town) -> None:
    bare = (await town.ask("POST", "/v1/alerts/preview", json=evacuate())).body
    assert {one["carries_enclosure"] for one in bare["characters"]} == {None}
    assert not any(text["linked"] for text in bare["texts"])

    enclosure = await handed_in(town)
    link = f"Mappa: {town.url}/a/{enclosure['sha256'][:12]}"
    drafted = await town.drafted(enclosure=enclosure)
    for preview in (
        (await town.ask("POST", "/v1/alerts/preview", json=evacuate(enclosure=enclosure))).body,
        (await town.ask("GET", f"/v1/alerts/{drafted}/preview")).body,
    ):
        carried = {one["channel"]: one["carries_enclosure"] for one in preview["characters"]}
        assert carried["telegram"] is True and carried["whatsapp"] is True and carried["web_push"] is False
        texts = {text["form"]: text for text in preview["texts"]}
        assert {form: text["linked"] for form, text in texts.items()} == {
            "template": False,
            "chat": False,
            "sms": True,
            "mail": False,
            "push": True,
            "panel": False,
        }
        assert {form for form, text in texts.items() if link in text["text"]} == {"sms", "push"}
        assert (texts["sms"]["encoding"], link in preview["text"]) == ("gsm-7", False)
        assert all(len(text["text"]) == text["characters"] for text in texts.values())
    assert link not in (await town.ask("GET", f"/v1/alerts/{drafted}")).body["text"]


# ── what nobody shows ───────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


ANNA = Actor("anna", Role.OPERATOR, "calcinaia")
FILE = Prepared(PNG, MAP, 900, 600)


async def kept(database: Database, file: Prepared, now: datetime) -> None:
    async with database.write() as session:
        await attachments.keep(session, file, ANNA, now)


async def forgotten(database: Database, now: datetime) -> int:
    async with database.write() as session:
        return await attachments.forget_unused(session, now)


async def test_what_no_alert_shows_is_forgotten_after_a_day_and_what_one_shows_never(town: Town) -> None:
    enclosure = await handed_in(town)
    drafted = await town.drafted(enclosure=enclosure)
    await town.ask("POST", f"/v1/alerts/{drafted}/cancel", json={"reason": "Non serve."})
    await handed_in(town, PHOTOGRAPH)
    now = datetime.now(UTC)
    assert await forgotten(town.database, now + timedelta(hours=23)) == 0
    assert await forgotten(town.database, now + timedelta(hours=25)) == 1
    assert [row.sha256 for row in await town.rows(tables.Attachment)] == [enclosure["sha256"]]
    assert await forgotten(town.database, now + timedelta(days=3650)) == 0


async def test_what_is_handed_in_again_stays_another_day(database: Database) -> None:
    await kept(database, FILE, NOW)
    await kept(database, FILE, NOW + timedelta(hours=20))
    assert await forgotten(database, NOW + timedelta(hours=30)) == 0
    assert await forgotten(database, NOW + timedelta(hours=45)) == 1
    assert await forgotten(database, NOW + timedelta(hours=45)) == 0


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_draft_written_while_its_picture_is_being_forgotten_keeps_it(database: Database) -> None:
    await kept(database, FILE, NOW)
    later = NOW + timedelta(days=2)
    async with database.write() as drafting:
        assert await attachments.take_up(drafting, FILE.sha256, later)
        forgetting = asyncio.create_task(forgotten(database, later))
        await asyncio.sleep(0.3)
        assert not forgetting.done(), "it waits for the draft"
    assert await forgetting == 0
    async with database.read() as session:
        assert await session.get(tables.Attachment, FILE.sha256) is not None


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_of_two_who_hand_in_the_same_at_once_neither_fails(database: Database) -> None:
    await asyncio.gather(*(kept(database, FILE, NOW) for _ in range(8)))
    async with database.read() as session:
        found = await session.get_one(tables.Attachment, FILE.sha256)
    assert (found.content, found.media_type, found.width) == (MAP, PNG, 900)


def test_only_so_much_is_held_for_those_who_ask() -> None:
    shelf = Shelf(most_bytes=100)
    for name in "abc":
        shelf.keep(name, PNG, bytes(40))
        shelf.keep(name, PNG, bytes(40))
        shelf.find("a")
    assert [shelf.find(name) is not None for name in "abc"] == [True, False, True]
    shelf.keep("d", PNG, bytes(101))
    assert not any(shelf.find(name) for name in "abcd")
