"""The page of somebody's choices over HTTP, and the staff who choose for them. No answer says who is subscribed."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from alerting.api import choices as page
from alerting.domain.choices import as_bits
from alerting.persistence import tables
from alerting.postmarks import Postmarks
from tests.integration.api_client import KEY, NOWHERE_TO_PUBLISH, Answer, Town, serving
from tests.integration.calcinaia import one_database

MARIA = {
    "channel": "whatsapp",
    "address": "333 123 45 67",
    "area": "fornacette",
    "also": [{"channel": "telegram", "address": "123456789"}],
}
SAVE = {"salva": "1", "lingua": "it"}


@pytest.fixture
async def town(database_url: str, tmp_path: Path) -> AsyncIterator[Town]:
    page.by_host.forget()
    page.by_person.forget()
    async with serving(database_url, NOWHERE_TO_PUBLISH, "t.", tmp_path) as town:
        yield town


async def maria(town: Town) -> int:
    return int((await town.ask("POST", "/v1/recipients", json=MARIA)).body["id"])


def link(recipient: int, lasts: timedelta = timedelta(days=7)) -> str:
    return f"/v1/choices/{Postmarks(bytes.fromhex(KEY)).choices(recipient, datetime.now(UTC) + lasts)}"


async def ask(town: Town, method: str, path: str, **more: Any) -> Answer:
    """As a browser asks: without a token of ours, and a page comes back whatever became of it."""
    async with town.http.request(method, town.url + path, **more) as answer:
        return Answer(answer.status, await answer.text(), answer.headers)


async def row_of(town: Town, recipient: int) -> tables.Recipient:
    async with town.database.read() as session:
        return await session.get_one(tables.Recipient, recipient)


# ── the page ────────────────────────────────────────────────────────────────────────────────────────


async def test_the_page_shows_what_is_known_masked_and_is_kept_nowhere(town: Town) -> None:
    recipient = await maria(town)
    shown = await ask(town, "GET", link(recipient))
    assert shown.status == 200
    assert shown.headers["Cache-Control"] == "no-store"
    assert shown.headers["Referrer-Policy"] == "no-referrer"
    assert "script" not in shown.headers["Content-Security-Policy"]
    assert "<script" not in shown.body and "http://" not in shown.body
    assert 'value="Fornacette"' in shown.body and "+39 … 67" in shown.body and "… 89" in shown.body
    assert "3331234567" not in shown.body and "123456789" not in shown.body
    assert len(re.findall(r"checked", shown.body)) == 3 + 1, "three topics, and the first channel"


async def test_every_field_of_the_page_has_a_label_and_the_page_its_language(town: Town) -> None:
    shown = (await ask(town, "GET", link(await maria(town)))).body
    assert '<html lang="it">' in shown
    for identity in re.findall(r'<(?:input|select) id="([^"]+)"', shown):
        assert f'<label for="{identity}">' in shown
    assert shown.count("<fieldset>") == shown.count("<legend>") == 5


async def test_what_is_saved_is_kept_all_of_it(town: Town) -> None:
    recipient = await maria(town)
    form = SAVE | {
        "argomento": "raccolta",
        "dalle": "22:00",
        "alle": "7",
        "lingua": "en",
        "primo": "telegram",
        "luogo.casa": "",
        "luogo.lavoro": "calcinaia capoluogho",
    }
    saved = await ask(town, "POST", link(recipient), data=form)
    assert (saved.status, "le tue scelte sono salvate" in saved.body) == (200, True)
    row = await row_of(town, recipient)
    assert (row.topics, row.quiet_from, row.quiet_to, row.language) == (0b0011, 22 * 60, 7 * 60, "en")
    ranks = {one.account: one.rank for one in await town.rows(tables.Address) if one.recipient_id == recipient}
    assert ranks == {"telegram.calcinaia": 0, "whatsapp.calcinaia": 1}
    assert [(one.label, one.area) for one in await town.rows(tables.Place)] == [("lavoro", "calcinaia.capoluogo")]
    again = await ask(town, "POST", link(recipient), data=form | {"luogo.lavoro": "Calcinaia capoluogo"})
    assert again.status == 200, "twice is once"


@one_database
async def test_a_mistake_saves_nothing_and_is_shown_at_its_field_with_what_was_written(town: Town) -> None:
    recipient = await maria(town)
    for wrong, at in (
        ({"dalle": "22:00"}, "alle"),
        ({"dalle": "25", "alle": "7"}, "dalle"),
        ({"dalle": "le dieci", "alle": "7"}, "dalle"),
        ({"dalle": "22", "alle": "22:00"}, "alle"),
        ({"luogo.casa": "Pontedera"}, "luogo-casa"),
        ({"luogo.scuola": "<b>x</b>"}, "luogo-scuola"),
    ):
        shown = await ask(town, "POST", link(recipient), data=SAVE | wrong)
        assert shown.status == 422
        assert f'href="#{at}"' in shown.body and f'id="{at}-errore"' in shown.body
        assert "<title>Errore: " in shown.body and "<b>x" not in shown.body
        for written in wrong.values():
            assert written in shown.body or "<" in written
        page.by_person.forget()
    row = await row_of(town, recipient)
    assert (row.topics, row.quiet_from) == (15, None)
    assert [one.area for one in await town.rows(tables.Place)] == ["calcinaia.fornacette"]


@one_database
async def test_what_is_no_form_of_ours_changes_nothing(town: Town) -> None:
    recipient = await maria(town)
    for body in (b"", b"\xff\xfe\x00", b"a=1&" * 60, b"argomento=eventi"):
        assert (await ask(town, "POST", link(recipient), data=body)).status == 200
    assert (await row_of(town, recipient)).topics == 15
    assert (await ask(town, "POST", link(recipient), data=b"x" * 20_000)).status == 413


async def test_nobody_switches_the_emergencies_off(town: Town) -> None:
    recipient = await maria(town)
    await ask(town, "POST", link(recipient), data=SAVE)
    assert (await row_of(town, recipient)).topics == as_bits([]) == 1


async def test_forged_cut_run_out_and_of_who_has_left_are_answered_alike(town: Town) -> None:
    recipient = await maria(town)
    (channel,) = [
        row.id for row in await town.rows(tables.Recipient) if row.is_channel and row.authority == "calcinaia"
    ]
    good = link(recipient)
    gone = int(
        (await town.ask("POST", "/v1/recipients", json=MARIA | {"address": "333 7654321", "also": []})).body["id"]
    )
    await town.ask("DELETE", f"/v1/recipients/{gone}")
    changed = good[:-2] + ("A" if good[-2] != "A" else "B") + good[-1]
    unsubscribe = Postmarks(bytes.fromhex(KEY)).way_to_leave("whatsapp.calcinaia", "+393331234567")
    bad = (
        "/v1/choices/x",
        good[:-4],
        changed,
        link(recipient, timedelta(seconds=-1)),
        link(gone),
        link(channel),
        link(2**40),
        f"/v1/choices/{unsubscribe}",
        f"/v1/choices/{recipient}",
    )
    answers = {
        (answer.status, answer.body)
        for path in bad
        for answer in [await ask(town, "GET", path), await ask(town, "POST", path, data=SAVE)]
    }
    assert len(answers) == 1 and {status for status, _ in answers} == {404}
    assert (await row_of(town, recipient)).topics == 15


async def test_who_leaves_closes_their_page(town: Town) -> None:
    recipient = await maria(town)
    here = link(recipient)
    assert (await ask(town, "GET", here)).status == 200
    await town.ask("DELETE", f"/v1/recipients/{recipient}")
    assert (await ask(town, "GET", here)).status == (await ask(town, "POST", here, data=SAVE)).status == 404
    await maria(town)  # back again is somebody new: what was sent before opens nothing
    assert (await ask(town, "GET", here)).status == 404


@one_database
async def test_who_asks_too_often_waits(town: Town) -> None:
    here = link(await maria(town))
    answers = [await ask(town, "GET", here) for _ in range(25)]
    assert [one.status for one in answers[:20]] == [200] * 20
    assert answers[-1].status == 429 and int(answers[-1].headers["Retry-After"]) >= 1


# ── the staff ───────────────────────────────────────────────────────────────────────────────────────


async def test_the_staff_choose_for_a_person_and_the_audit_says_who_did(town: Town) -> None:
    recipient = await maria(town)
    path = f"/v1/recipients/{recipient}/choices"
    first = await town.ask("GET", path)
    assert first.body == {
        "id": recipient,
        "authority": "calcinaia",
        "topics": ["emergenze", "raccolta", "eventi", "notizie"],
        "quiet": None,
        "language": "it",
        "order": ["whatsapp", "telegram"],
    }
    said = {
        "topics": ["raccolta"],
        "quiet": {"begins": "22:30", "ends": "07:00"},
        "language": "de",
        "order": ["telegram", "whatsapp"],
    }
    changed = await town.ask("PUT", path, json=said)
    assert changed.body == first.body | said | {"topics": ["emergenze", "raccolta"]}
    assert (await town.ask("GET", path)).body == changed.body
    entry = (await town.rows(tables.AuditEntry))[-1]
    assert (entry.actor, entry.action) == ("anna", "choose")


@one_database
async def test_wrong_choices_are_refused_by_field_and_only_their_own_staff_sees_them(town: Town) -> None:
    recipient = await maria(town)
    path = f"/v1/recipients/{recipient}/choices"
    for wrong, pointer in (
        ({"topics": ["sport"]}, "/topics/0"),
        ({"language": "xx"}, "/language"),
        ({"quiet": {"begins": "24:00", "ends": "7"}}, "/quiet/begins"),
        ({"quiet": {"begins": "22:00", "ends": "22:00"}}, "/quiet/ends"),
        ({"order": ["email"]}, "/order"),
    ):
        refused = await town.ask("PUT", path, json={"topics": ["raccolta"]} | wrong)
        assert refused.status == 422 and pointer in refused.pointers, refused.body
    assert (await row_of(town, recipient)).topics == 15
    for who in ("bruno", "carla", "dpc", "ezio"):
        assert (await town.ask("GET", path, who)).status == 403
        assert (await town.ask("PUT", path, who, json={"topics": []})).status == 403
    (channel,) = [
        row.id for row in await town.rows(tables.Recipient) if row.is_channel and row.authority == "calcinaia"
    ]
    assert (await town.ask("PUT", f"/v1/recipients/{channel}/choices", json={"topics": []})).status == 409
