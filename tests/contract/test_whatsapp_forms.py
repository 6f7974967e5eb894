"""One text, several forms: under its picture, in named variables, in the standby template, inside the window or not."""

import asyncio
import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import ClientSession
from sqlalchemy import text as sql

from alerting.domain.delivery import (
    Accepted,
    ChannelHalted,
    Deferred,
    Reason,
    Refused,
    TextRejected,
    Uncertain,
)
from consumers.channel import Account, Attachment, Text
from consumers.channels.whatsapp import MOST_FOURS, STANDS_BACK, WhatsApp
from consumers.simulators.serving import Served
from consumers.uploads import Uploads
from tests.contract.fornacette import WHATSAPP_NUMBER, WHATSAPP_TOKEN, received, tell, whatsapp_account

MARIA, GIUSEPPE = "+393331234567", "+393331234568"
WORDS = ("Fornacette: l'Arno esce dagli argini", "Fornacette", "adesso", "Acqua in strada.", "Evacuare.")
NAMES = ["comune", "dove", "quando", "cosa", "fare"]
JPEG = b"\xff\xd8\xff\xe0 mappa di Fornacette"
PDF = b"%PDF-1.7 aree di attesa"
TEMPLATES: list[dict[str, Any]] = [
    {"name": "avviso", "variables": 5, "body": "{{1}} Dove: {{2}} Quando: {{3}} {{4}} Cosa fare: {{5}}"},
    {"name": "avviso_foto", "variables": 5, "header": "IMAGE", "body": "{{1}} {{2}} {{3}} {{4}} {{5}}"},
    {"name": "avviso_pdf", "variables": 5, "header": "DOCUMENT"},
    {"name": "avviso_riserva", "variables": 5},
    {"name": "avviso_nomi", "parameters": NAMES, "body": "{{comune}} Dove: {{dove}} {{quando}} {{cosa}} {{fare}}"},
    {"name": "avviso_nuovo", "variables": 5, "held": True},
    {"name": "avviso_sospeso", "variables": 5, "status": "PAUSED"},
]


def picture(content: bytes = JPEG, media_type: str = "image/jpeg", name: str = "mappa.jpg") -> Attachment:
    digest = hashlib.sha256(content).hexdigest()
    return Attachment(name, media_type, content, digest, f"https://allerta.example/m/{digest[:8]}", "La mappa")


def alert(template: str = "avviso", enclosure: Attachment | None = None, **more: Any) -> Text:
    return Text(" ".join(WORDS), template, WORDS, enclosure=enclosure, **more)


@pytest.fixture
def account(meta: Served) -> Account:
    return settled(meta)


def settled(meta: Served, **settings: str) -> Account:
    """Fornacette's number, whose file says so much about its templates."""
    known = whatsapp_account(meta.base_url)
    media = {"template_image": "avviso_foto", "template_document": "avviso_pdf"}
    return replace(known, settings=known.settings | media | settings)


@pytest.fixture(autouse=True)
async def _the_templates_are_registered(meta: Served, http: ClientSession) -> None:
    await tell(meta, http, "config", {"templates": TEMPLATES})


async def refused(meta: Served, http: ClientSession) -> dict[str, int]:
    async with http.get(f"{meta.base_url}/__sim/refused") as response:
        counts: dict[str, int] = await response.json()
    return counts


# ── with its picture ────────────────────────────────────────────────────────────────────────────────


async def test_a_picture_is_uploaded_once_and_stands_above_the_words(
    whatsapp: WhatsApp, meta: Served, http: ClientSession, account: Account
) -> None:
    text = alert(enclosure=picture())
    people = [f"+39333123{n:04}" for n in range(600, 640)]
    outcomes = await asyncio.gather(*(whatsapp.send(account, person, text, "a") for person in people))

    assert all(isinstance(outcome, Accepted) for outcome in outcomes)
    items = await received(meta, http)
    assert {item["template"] for item in items} == {"avviso_foto"}
    digest = hashlib.sha256(JPEG).hexdigest()
    assert [item["media"] for item in items] == [{"media_type": "image/jpeg", "sha256": digest, "name": ""}] * 40
    assert (await refused(meta, http))["uploaded"] == 1


async def test_a_document_keeps_its_name(
    whatsapp: WhatsApp, meta: Served, http: ClientSession, account: Account
) -> None:
    text = alert(enclosure=picture(PDF, "application/pdf", "aree di attesa.pdf"))
    assert isinstance(await whatsapp.send(account, MARIA, text, "a"), Accepted)
    (item,) = await received(meta, http)
    assert (item["template"], item["media"]["name"]) == ("avviso_pdf", "aree di attesa.pdf")


async def test_free_text_becomes_the_caption_of_its_picture(
    whatsapp: WhatsApp, meta: Served, http: ClientSession, account: Account
) -> None:
    await tell(meta, http, "inbound", {"from": MARIA, "text": "Dove si va?"})
    assert isinstance(await whatsapp.send(account, MARIA, Text("Si va qui.", enclosure=picture()), "a"), Accepted)
    too_long = Text("Si va qui. " * 100, enclosure=picture())
    assert isinstance(await whatsapp.send(account, MARIA, too_long, "a"), Accepted)

    captioned, plain = await received(meta, http)
    assert (captioned["text"], captioned["media"]["media_type"]) == ("Si va qui.", "image/jpeg")
    assert plain.get("media") is None and plain["text"].endswith(picture().url)


async def test_an_account_without_a_template_for_pictures_sends_the_words(
    whatsapp: WhatsApp, meta: Served, http: ClientSession
) -> None:
    assert isinstance(
        await whatsapp.send(whatsapp_account(meta.base_url), MARIA, alert(enclosure=picture()), "a"), Accepted
    )
    (item,) = await received(meta, http)
    assert (item["template"], item.get("media")) == ("avviso", None)
    assert item["variables"][-1] == f"Evacuare. {picture().url}"
    assert "uploaded" not in await refused(meta, http)


async def test_words_that_have_the_address_do_not_get_it_twice(
    whatsapp: WhatsApp, meta: Served, http: ClientSession
) -> None:
    words = (*WORDS[:-1], f"Evacuare. Mappa: {picture().url}")
    text = replace(alert(enclosure=picture()), variables=words)
    await whatsapp.send(whatsapp_account(meta.base_url), MARIA, text, "a")
    assert (await received(meta, http))[0]["variables"] == list(words)


async def test_an_id_meta_has_forgotten_is_uploaded_once_more(
    whatsapp: WhatsApp, meta: Served, http: ClientSession, account: Account
) -> None:
    text = alert(enclosure=picture())
    await whatsapp.send(account, MARIA, text, "a")
    await tell(meta, http, "config", {"clock_ahead": 31 * 24 * 3600})

    people = [f"+39333123{n:04}" for n in range(600, 620)]
    outcomes = await asyncio.gather(*(whatsapp.send(account, person, text, "b") for person in people))

    assert all(isinstance(outcome, Accepted) for outcome in outcomes)
    assert (await refused(meta, http))["uploaded"] == 2
    assert all(item["media"] for item in await received(meta, http)), "nobody went without the picture"


@pytest.mark.parametrize("code", [131052, 131053])
async def test_a_picture_meta_cannot_use_does_not_keep_back_the_words(
    whatsapp: WhatsApp, meta: Served, http: ClientSession, account: Account, code: int
) -> None:
    await tell(meta, http, "config", {"media_faults": {code: 1.0}})
    people = [f"+39333123{n:04}" for n in range(600, 620)]
    text = alert(enclosure=picture())
    outcomes = await asyncio.gather(*(whatsapp.send(account, person, text, "a") for person in people))

    assert all(isinstance(outcome, Accepted) for outcome in outcomes)
    items = await received(meta, http)
    assert {item["template"] for item in items} == {"avviso"} and len(items) == 20
    assert {item["variables"][-1] for item in items} == {f"Evacuare. {picture().url}"}
    assert (await refused(meta, http))["uploaded"] == 2, "it was uploaded once more before"


async def test_a_file_that_is_no_picture_does_not_keep_back_the_words(
    whatsapp: WhatsApp, meta: Served, http: ClientSession, account: Account
) -> None:
    text = alert(enclosure=picture(b"GIF89a"))
    assert isinstance(await whatsapp.send(account, MARIA, text, "a"), Accepted)
    assert [item["template"] for item in await received(meta, http)] == ["avviso"]


async def test_a_wrong_token_halts_at_the_upload_too(
    whatsapp: WhatsApp, meta: Served, http: ClientSession, account: Account
) -> None:
    await tell(meta, http, "config", {"upload_faults": {190: 1.0}})
    with pytest.raises(ChannelHalted, match="190"):
        await whatsapp.send(account, MARIA, alert(enclosure=picture()), "a")


async def test_an_upload_that_fails_is_tried_again_and_then_the_words_go_alone(
    whatsapp: WhatsApp, meta: Served, http: ClientSession, account: Account
) -> None:
    await tell(meta, http, "config", {"upload_faults": {503: 1.0}})
    text = alert(enclosure=picture())
    first = await asyncio.gather(*(whatsapp.send(account, person, text, "a") for person in (MARIA, GIUSEPPE)))
    assert [(type(one), one.reason) for one in first if not isinstance(one, Accepted)] == [
        (Deferred, Reason.PROVIDER_UNAVAILABLE)
    ] * 2
    assert (await refused(meta, http))["media 503"] == 1, "who waited for a try shares what came of it"

    await asyncio.sleep(2.1)
    assert isinstance(await whatsapp.send(account, MARIA, text, "b"), Accepted)
    assert [item["template"] for item in await received(meta, http)] == ["avviso"]


async def test_an_upload_that_works_the_second_time_brings_the_picture(
    whatsapp: WhatsApp, meta: Served, http: ClientSession, account: Account
) -> None:
    await tell(meta, http, "config", {"upload_faults": {131016: 1.0}})
    text = alert(enclosure=picture())
    assert isinstance(await whatsapp.send(account, MARIA, text, "a"), Deferred)
    await tell(meta, http, "config", {"upload_faults": {}})
    await asyncio.sleep(2.1)
    assert isinstance(await whatsapp.send(account, MARIA, text, "b"), Accepted)
    assert [item["template"] for item in await received(meta, http)] == ["avviso_foto"]


async def test_where_ids_cannot_be_kept_nobody_counts_as_perhaps_told_and_the_words_go_alone(
    whatsapp: WhatsApp, uploads: Uploads, meta: Served, http: ClientSession, account: Account
) -> None:
    async with uploads._database.write() as session:
        await session.execute(sql("DROP TABLE uploads"))
    text = alert(enclosure=picture())
    first = await asyncio.gather(*(whatsapp.send(account, person, text, "a") for person in (MARIA, GIUSEPPE)))
    assert [(type(one), one.reason) for one in first if not isinstance(one, Accepted)] == [
        (Deferred, Reason.PROVIDER_UNAVAILABLE)
    ] * 2
    await asyncio.sleep(2.1)
    assert isinstance(await whatsapp.send(account, MARIA, text, "b"), Accepted)
    assert [item["template"] for item in await received(meta, http)] == ["avviso"]


@pytest.mark.parametrize("code", [131026, 131047, 131050])
async def test_an_upload_never_refuses_a_person(
    whatsapp: WhatsApp, meta: Served, http: ClientSession, account: Account, code: int
) -> None:
    await tell(meta, http, "config", {"upload_faults": {code: 1.0}})
    assert isinstance(await whatsapp.send(account, MARIA, alert(enclosure=picture()), "a"), Accepted)


async def test_a_template_registered_under_another_kind_of_header_gives_way_to_the_words(
    whatsapp: WhatsApp, meta: Served, http: ClientSession
) -> None:
    account = settled(meta, template_image="avviso_pdf")
    assert isinstance(await whatsapp.send(account, MARIA, alert(enclosure=picture()), "a"), Accepted)
    assert [item["template"] for item in await received(meta, http)] == ["avviso"]


# ── named variables ─────────────────────────────────────────────────────────────────────────────────


async def test_variables_that_have_names_are_called_by_them(
    whatsapp: WhatsApp, meta: Served, http: ClientSession
) -> None:
    account = settled(meta, template_parameters="comune, dove, quando, cosa, fare")
    assert isinstance(await whatsapp.send(account, MARIA, alert("avviso_nomi"), "a"), Accepted)
    (item,) = await received(meta, http)
    assert item["variables"] == list(WORDS) and item["text"].startswith(f"{WORDS[0]} Dove: Fornacette")


@pytest.mark.parametrize(
    ("template", "names", "cause"),
    [
        ("avviso_nomi", "comune, dove", "2 names for 5"),
        ("avviso_nomi", "comune, dove, quando, cosa, azione", "132012"),
        ("avviso", "comune, dove, quando, cosa, fare", "132012"),
    ],
)
async def test_names_the_template_does_not_have_are_found_out_at_once(
    whatsapp: WhatsApp, meta: Served, template: str, names: str, cause: str
) -> None:
    with pytest.raises(TextRejected, match=cause):
        await whatsapp.send(settled(meta, template_parameters=names), MARIA, alert(template), "a")


# ── the standby template ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", ["PAUSED", "DISABLED"])
async def test_a_template_that_meta_pauses_is_replaced_at_once(
    whatsapp: WhatsApp, meta: Served, http: ClientSession, status: str
) -> None:
    account = settled(meta, standby_template="avviso_riserva")
    assert isinstance(await whatsapp.send(account, MARIA, alert(), "a"), Accepted)
    await tell(meta, http, "template", {"name": "avviso", "status": status})

    for person in (MARIA, GIUSEPPE):
        assert isinstance(await whatsapp.send(account, person, alert(), "b"), Accepted)

    templates = [item["template"] for item in await received(meta, http)]
    assert templates == ["avviso", "avviso_riserva", "avviso_riserva"]
    code = "132015" if status == "PAUSED" else "132016"
    assert (await refused(meta, http))[code] == 1, "the second person did not find out anew"


async def test_after_a_while_the_template_is_tried_again(
    whatsapp: WhatsApp, meta: Served, http: ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = settled(meta, standby_template="avviso_riserva")
    await tell(meta, http, "template", {"name": "avviso", "status": "PAUSED"})
    await whatsapp.send(account, MARIA, alert(), "a")
    await tell(meta, http, "template", {"name": "avviso", "status": "APPROVED"})
    await whatsapp.send(account, MARIA, alert(), "b")
    real = asyncio.get_running_loop().time
    monkeypatch.setattr(whatsapp, "_clock", lambda: real() + STANDS_BACK + 1)
    await whatsapp.send(account, MARIA, alert(), "c")
    assert [item["template"] for item in await received(meta, http)] == ["avviso_riserva", "avviso_riserva", "avviso"]


async def test_a_held_template_is_replaced_and_without_another_may_have_arrived(
    whatsapp: WhatsApp, meta: Served, http: ClientSession
) -> None:
    standby = settled(meta, standby_template="avviso_riserva")
    assert isinstance(await whatsapp.send(standby, MARIA, alert("avviso_nuovo"), "a"), Accepted)
    assert [item["template"] for item in await received(meta, http)] == ["avviso_riserva"]

    alone = replace(settled(meta), name="whatsapp-alone")
    assert await whatsapp.send(alone, MARIA, alert("avviso_nuovo"), "b") == Uncertain(Reason.HELD_BY_PROVIDER)


async def test_a_paused_template_under_a_picture_gives_way_to_the_words_and_these_to_the_standby(
    whatsapp: WhatsApp, meta: Served, http: ClientSession
) -> None:
    account = settled(meta, standby_template="avviso_riserva")
    for paused in ("avviso_foto", "avviso"):
        await tell(meta, http, "template", {"name": paused, "status": "PAUSED"})
        await whatsapp.send(account, MARIA, alert(enclosure=picture()), "a")
    assert [item["template"] for item in await received(meta, http)] == ["avviso", "avviso_riserva"]


async def test_when_every_template_is_paused_the_text_is_rejected_and_asked_for_again(
    whatsapp: WhatsApp, meta: Served, http: ClientSession
) -> None:
    account = settled(meta, standby_template="avviso_sospeso")
    await tell(meta, http, "template", {"name": "avviso", "status": "PAUSED"})
    for _ in range(3):
        with pytest.raises(TextRejected, match="132015"):
            await whatsapp.send(account, MARIA, alert(), "a")
    await tell(meta, http, "template", {"name": "avviso", "status": "APPROVED"})
    await tell(meta, http, "template", {"name": "avviso_sospeso", "status": "APPROVED"})
    assert isinstance(await whatsapp.send(account, MARIA, alert(), "b"), Accepted)


# ── the window, the pair, the doubtful ──────────────────────────────────────────────────────────────


async def test_a_reply_after_a_day_goes_in_the_template_in_the_same_call(
    whatsapp: WhatsApp, meta: Served, http: ClientSession
) -> None:
    account = settled(meta, template="avviso", template_language="it")
    reply = Text("Ti abbiamo iscritto.", variables=WORDS)
    assert isinstance(await whatsapp.send(account, MARIA, reply, "a"), Accepted)
    (item,) = await received(meta, http)
    assert (item["template"], item["variables"]) == ("avviso", list(WORDS))

    await tell(meta, http, "inbound", {"from": GIUSEPPE, "text": "Attiva"})
    assert isinstance(await whatsapp.send(account, GIUSEPPE, reply, "b"), Accepted)
    assert [item["text"] for item in await received(meta, http)][1] == "Ti abbiamo iscritto."

    no_template = settled(meta)
    assert await whatsapp.send(no_template, MARIA, reply, "c") == Refused(Reason.POLICY)
    assert await whatsapp.send(account, MARIA, Text("Senza."), "d") == Refused(Reason.POLICY)


async def test_whoever_had_enough_is_left_alone_four_times_longer_each_time(
    whatsapp: WhatsApp, meta: Served, http: ClientSession, account: Account
) -> None:
    waits = []
    for _ in range(MOST_FOURS + 2):
        outcome = await whatsapp.send(account, "+393331234429", alert(), "a")
        assert isinstance(outcome, Deferred) and outcome.reason is Reason.PAIR_THROTTLED and outcome.wait
        assert not outcome.whole_account
        waits.append(outcome.wait.total_seconds())
    assert waits == [1, 4, 16, 64, 256, 1024, 1024]

    await tell(meta, http, "config", {"faults": {131056: 1.0}})
    first = await whatsapp.send(account, MARIA, alert(), "a")
    assert isinstance(first, Deferred) and first.wait and first.wait.total_seconds() == 1, "another pair has had none"
    await tell(meta, http, "config", {"faults": {}})
    await whatsapp.send(account, MARIA, alert(), "b")
    await tell(meta, http, "config", {"faults": {131056: 1.0}})
    again = await whatsapp.send(account, MARIA, alert(), "c")
    assert isinstance(again, Deferred) and again.wait and again.wait.total_seconds() == 1, "what was taken begins anew"


async def test_an_unknown_error_is_the_texts_after_two_more_and_never_a_persons(
    whatsapp: WhatsApp, meta: Served, http: ClientSession, account: Account
) -> None:
    await tell(meta, http, "config", {"faults": {1: 1.0}})
    for person in (MARIA, GIUSEPPE):
        assert await whatsapp.send(account, person, alert(), "a") == Deferred(Reason.UNKNOWN_ANSWER)
    with pytest.raises(TextRejected, match=" 1, "):
        await whatsapp.send(account, MARIA, alert(), "a")

    await tell(meta, http, "config", {"faults": {}})
    assert isinstance(await whatsapp.send(account, MARIA, alert(), "b"), Accepted)
    await tell(meta, http, "config", {"faults": {1: 1.0}})
    for _ in range(5):
        assert await whatsapp.send(account, GIUSEPPE, alert(), "c") == Deferred(Reason.UNKNOWN_ANSWER)


# ── who hides their number ──────────────────────────────────────────────────────────────────────────


async def test_who_hides_their_number_is_answered_by_their_bsuid(
    whatsapp: WhatsApp, meta: Served, http: ClientSession, account: Account
) -> None:
    assert await whatsapp.send(account, "IT.1", alert(), "a") == Refused(Reason.NOT_REACHABLE_HERE)
    await tell(meta, http, "config", {"usernames": [MARIA]})
    simulator: Any = meta.simulator
    outcome = await whatsapp.send(account, simulator._bsuid(MARIA), alert(), "b")
    assert isinstance(outcome, Accepted)
    assert [item["to"] for item in await received(meta, http)] == [MARIA]


@pytest.mark.parametrize(
    "address", ["IT.", "it.1349", "ITA.1349", "IT.13 49", "IT.1349\n", 'IT.1"', "IT.é", "IT." + "1" * 129]
)
async def test_what_is_no_bsuid_never_becomes_a_call(whatsapp: WhatsApp, address: str) -> None:
    nobody_listens = whatsapp_account("http://127.0.0.1:1")
    assert await whatsapp.send(nobody_listens, address, alert(), "a") == Refused(Reason.NOT_REACHABLE_HERE)


# ── the simulator's own ─────────────────────────────────────────────────────────────────────────────


async def test_the_address_of_a_picture_needs_the_token_and_lives_five_minutes(
    whatsapp: WhatsApp, meta: Served, http: ClientSession, account: Account
) -> None:
    await whatsapp.send(account, MARIA, alert(enclosure=picture()), "a")
    simulator: Any = meta.simulator
    (identity,) = simulator._media._media
    bearer = {"Authorization": f"Bearer {WHATSAPP_TOKEN}"}
    about = f"{meta.base_url}/v26.0/{identity}"
    async with http.get(about) as response:
        assert response.status == 401
    async with http.get(about, headers=bearer) as response:
        told = await response.json()
    assert (told["mime_type"], told["sha256"]) == ("image/jpeg", hashlib.sha256(JPEG).hexdigest())
    async with http.get(told["url"]) as response:
        assert response.status == 401
    async with http.get(told["url"], headers=bearer) as response:
        assert await response.read() == JPEG
    await tell(meta, http, "config", {"clock_ahead": 301})
    async with http.get(told["url"], headers=bearer) as response:
        assert response.status == 404
    async with http.delete(about, headers=bearer) as response:
        assert await response.json() == {"success": True}
    async with http.get(about, headers=bearer) as response:
        assert (await response.json())["error"]["error_subcode"] == 33


FIVE = [{"type": "text", "text": word} for word in WORDS]
BODY = {"type": "body", "parameters": FIVE}
UNNAMED_IMAGE = {"type": "header", "parameters": [{"type": "image"}]}
NO_SUCH_IMAGE = {"type": "header", "parameters": [{"type": "image", "image": {"id": "7"}}]}


@pytest.mark.parametrize(
    ("name", "components", "code"),
    [
        ("avviso", [], 132000),
        ("avviso", [BODY, NO_SUCH_IMAGE], 132012),
        ("avviso_foto", [BODY], 132012),
        ("avviso_foto", [BODY, UNNAMED_IMAGE], 131008),
        ("avviso_foto", [BODY, NO_SUCH_IMAGE], 131009),
        ("avviso_nomi", [BODY], 100),
    ],
)
async def test_what_does_not_fit_a_template_gets_metas_code(
    meta: Served, http: ClientSession, name: str, components: list[dict[str, Any]], code: int
) -> None:
    template = {"name": name, "language": {"code": "it"}, "components": components}
    body = {"messaging_product": "whatsapp", "to": MARIA, "type": "template"}
    async with http.post(
        f"{meta.base_url}/v26.0/{WHATSAPP_NUMBER}/messages",
        json=body | {"template": template},
        headers={"Authorization": f"Bearer {WHATSAPP_TOKEN}"},
    ) as response:
        error = json.loads(await response.text())["error"]
    assert error["code"] == code and error["error_data"]["details"]
