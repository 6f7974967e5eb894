"""People WhatsApp calls by a BSUID, and people who take another number with them: known, told, and free to leave."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from alerting.domain.delivery import Channel
from alerting.persistence import Database, tables
from alerting.subscribing import Subscriber, find, join, leave, recognise, renumber
from consumers.inbound import Inbound
from tests.integration.api_client import NOWHERE_TO_PUBLISH, Town, serving, signed
from tests.integration.calcinaia import AUTHORITIES, CALCINAIA, NOW, SEAL, count, five_comuni
from tests.integration.test_inbound import Desk, texts

ANNA, ANNAS_NEW = "+393331234567", "+393401234567"
ANNAS_BSUID, ANNAS_NEW_BSUID = "IT.134912086", "IT.998877"
BRUNO = "+393331230002"
WHATSAPP = "/v1/webhooks/whatsapp"
ACCESS = CALCINAIA.channel(Channel.WHATSAPP)
assert ACCESS is not None
TEMPLATE = ACCESS.settings["template"]


@pytest.fixture
async def desk(database_url: str) -> AsyncIterator[Desk]:
    async with five_comuni(database_url) as database:
        yield Desk(database, Inbound(database, AUTHORITIES, SEAL))


@pytest.fixture
async def town(database_url: str, tmp_path: Path) -> AsyncIterator[Town]:
    """Without a broker: neither moves nor templates need one."""
    async with serving(database_url, NOWHERE_TO_PUBLISH, "t.", tmp_path) as town:
        yield town


def somebody(address: str, also: str = "") -> Subscriber:
    assert ACCESS is not None
    return Subscriber(CALCINAIA, ACCESS, address, also)


async def addresses(database: Database) -> list[tuple[str | None, bool]]:
    """Every address on Calcinaia's number in the clear, and whether it has another name."""
    theirs = select(tables.Address).where(tables.Address.account == "whatsapp.calcinaia")
    async with database.read() as session:
        rows = await session.scalars(theirs.order_by(tables.Address.id))
        return [(SEAL.open(row.sealed) if row.sealed else None, row.other_fingerprint is not None) for row in rows]


# ── called by a BSUID ───────────────────────────────────────────────────────────────────────────────


async def test_who_hides_their_number_joins_is_answered_and_leaves(desk: Desk) -> None:
    welcome, goodbye = texts("calcinaia").welcome, texts("calcinaia").goodbye
    assert await desk.receives("Attiva", sender=ANNAS_BSUID) == welcome  # the desk asserts to whom the answer goes
    assert await addresses(desk.database) == [(ANNAS_BSUID, False)]
    assert await desk.receives("Disattiva", sender=ANNAS_BSUID) == goodbye
    assert await addresses(desk.database) == [(None, False)]


async def test_who_joined_with_their_number_can_leave_after_they_hide_it(desk: Desk) -> None:
    await desk.receives("Attiva", sender=ANNA, also=ANNAS_BSUID)
    assert await desk.receives("zone", sender=ANNAS_BSUID) != texts("calcinaia").ask_join
    assert await desk.receives("Attiva", sender=ANNAS_BSUID) == texts("calcinaia").already_subscribed
    assert await desk.receives("Disattiva", sender=ANNAS_BSUID) == texts("calcinaia").goodbye
    assert await addresses(desk.database) == [(None, False)], "nothing of either name stays"
    assert await desk.receives("Disattiva", sender=ANNA, also=ANNAS_BSUID) == texts("calcinaia").not_subscribed


async def test_who_joined_before_there_were_bsuids_is_recognised_by_the_next_text(desk: Desk) -> None:
    await desk.receives("Attiva", sender=ANNA)
    assert await addresses(desk.database) == [(ANNA, False)]
    await desk.receives("aiuto", sender=ANNA, also=ANNAS_BSUID)
    assert await addresses(desk.database) == [(ANNA, True)]
    assert await desk.receives("Disattiva", sender=ANNAS_BSUID) == texts("calcinaia").goodbye


async def test_who_is_in_twice_by_both_names_leaves_at_once(desk: Desk) -> None:
    async with desk.database.write() as session:
        for name in (ANNA, ANNAS_BSUID):
            await join(session, somebody(name), SEAL, keyword="Attiva", now=NOW)
    async with desk.database.write() as session:
        assert await leave(session, somebody(ANNA, ANNAS_BSUID), SEAL, keyword="Disattiva", now=NOW)
        assert not await leave(session, somebody(ANNA, ANNAS_BSUID), SEAL, keyword="Disattiva", now=NOW)
    assert await addresses(desk.database) == [(None, False), (None, False)]


async def test_a_bsuid_of_one_person_never_finds_another(desk: Desk) -> None:
    async with desk.database.write() as session:
        anna, _ = await join(session, somebody(ANNA, ANNAS_BSUID), SEAL, keyword="Attiva", now=NOW)
        bruno, _ = await join(session, somebody(BRUNO), SEAL, keyword="Attiva", now=NOW)
        await recognise(session, somebody(BRUNO, ANNAS_NEW_BSUID), SEAL)
    async with desk.database.read() as session:
        found = [await find(session, somebody(name), SEAL) for name in (ANNA, ANNAS_BSUID, BRUNO, ANNAS_NEW_BSUID)]
        assert [row.recipient_id if row else None for row in found] == [anna, anna, bruno, bruno]
        assert await find(session, somebody("IT.0"), SEAL) is None


# ── another number ──────────────────────────────────────────────────────────────────────────────────


async def moves(desk: Desk, known_as: list[str], to: str, also: str | None = None) -> None:
    assert await desk.receives(None, sender=to, kind="renumbered", known_as=known_as, also=also) is None


async def test_a_new_number_keeps_places_and_consent(desk: Desk) -> None:
    await desk.receives("Attiva Fornacette", sender=ANNA)
    before = await desk.places()
    await moves(desk, [ANNA], ANNAS_NEW, ANNAS_NEW_BSUID)

    assert await addresses(desk.database) == [(ANNAS_NEW, True)]
    assert await desk.places() == before
    async with desk.database.read() as session:
        proofs = (await session.scalars(select(tables.Consent).order_by(tables.Consent.id))).all()
    assert [(proof.what, proof.fingerprint) for proof in proofs] == [
        ("join", SEAL.fingerprint(ANNA)),
        ("move", SEAL.fingerprint(ANNA)),
        ("move", SEAL.fingerprint(ANNAS_NEW)),
    ]
    assert await desk.receives("Disattiva", sender=ANNAS_NEW) == texts("calcinaia").goodbye


async def test_a_move_told_twice_is_one_and_one_told_to_nobody_is_none(desk: Desk) -> None:
    await desk.receives("Attiva", sender=ANNA)
    for _ in range(2):
        await moves(desk, [ANNA], ANNAS_NEW)
    await moves(desk, ["+393339999999"], "+393338888888")
    assert await addresses(desk.database) == [(ANNAS_NEW, False)]
    async with desk.database.read() as session:
        assert await count(session, tables.Consent) == 3


async def test_a_move_is_found_by_whichever_name_they_had(desk: Desk) -> None:
    await desk.receives("Attiva", sender=ANNA, also=ANNAS_BSUID)
    await moves(desk, [ANNAS_BSUID], ANNAS_NEW_BSUID)
    assert await addresses(desk.database) == [(ANNAS_NEW_BSUID, False)]


async def test_a_new_bsuid_under_the_same_number_takes_the_place_of_the_old_one(desk: Desk) -> None:
    await desk.receives("Attiva", sender=ANNA, also=ANNAS_BSUID)
    await moves(desk, [ANNAS_BSUID], ANNA, ANNAS_NEW_BSUID)
    async with desk.database.read() as session:
        assert await count(session, tables.Consent) == 1, "nobody moved"
        assert await find(session, somebody(ANNAS_BSUID), SEAL) is None
    assert await desk.receives("Disattiva", sender=ANNAS_NEW_BSUID) == texts("calcinaia").goodbye


async def test_who_joined_at_the_new_number_already_is_told_there_once(desk: Desk) -> None:
    async with desk.database.write() as session:
        for number in (ANNA, ANNAS_NEW):
            await join(session, somebody(number), SEAL, keyword="Attiva", now=NOW)
        assert await renumber(session, somebody(ANNAS_NEW), [ANNA], SEAL, now=NOW + timedelta(days=1))
    assert await addresses(desk.database) == [(None, False), (ANNAS_NEW, False)]


# ── what Meta posts ─────────────────────────────────────────────────────────────────────────────────


def posted(field: str, value: dict[str, Any]) -> dict[str, Any]:
    return {
        "object": "whatsapp_business_account",
        "entry": [{"id": "102290129340398", "time": 1795000000, "changes": [{"field": field, "value": value}]}],
    }


def template(what: str, **said: Any) -> dict[str, Any]:
    named = {"message_template_id": 7, "message_template_name": TEMPLATE, "message_template_language": "it"}
    return posted(what, named | said)


async def test_a_move_lies_in_the_inbox_sealed_and_once(town: Town) -> None:
    system = {"type": "user_changed_number", "body": "User Anna changed from 393331234567 to 393401234567"}
    message = {"from": "393331234567", "id": "wamid.S1", "timestamp": "1795000000", "type": "system"}
    value = {
        "metadata": {"phone_number_id": ACCESS.settings["phone_number_id"] if ACCESS else ""},
        "messages": [message | {"system": system | {"wa_id": "393401234567"}}],
    }
    for _ in range(2):
        answer = await town.ask("POST", WHATSAPP, None, **signed(posted("messages", value)))
        assert (answer.status, answer.body["ignored"]) == (200, 0)
    (row,) = await town.rows(tables.InboundMessage)
    assert b"393401234567" not in row.sealed and "known_as" in town.seal.open(row.sealed)


async def test_whoever_is_on_duty_hears_of_a_paused_template_once_and_of_its_return(town: Town) -> None:
    paused = template("message_template_status_update", event="PAUSED", reason="NONE")
    for _ in range(2):
        assert (await town.ask("POST", WHATSAPP, None, **signed(paused))).status == 200
    (page,) = await town.rows(tables.Page)
    assert page.authority == "calcinaia" and TEMPLATE in page.sentence and "PAUSED" in page.sentence
    assert page.acknowledged_at is None

    back = template("message_template_status_update", event="APPROVED")
    await town.ask("POST", WHATSAPP, None, **signed(back))
    (page,) = await town.rows(tables.Page)
    assert page.acknowledged_by == "Meta"


@pytest.mark.parametrize(
    ("what", "said", "called"),
    [
        ("message_template_quality_update", {"new_quality_score": "RED", "previous_quality_score": "GREEN"}, True),
        ("message_template_quality_update", {"new_quality_score": "YELLOW"}, False),
        ("template_category_update", {"previous_category": "UTILITY", "new_category": "MARKETING"}, True),
        ("message_template_status_update", {"event": "DISABLED", "reason": "ABUSIVE_CONTENT"}, True),
        ("message_template_status_update", {"event": "DISABLED", "message_template_name": "un_altro"}, False),
        ("phone_number_quality_update", {"event": "DOWNGRADE"}, False),
    ],
)
async def test_they_are_called_for_what_will_hurt_only(
    town: Town, what: str, said: dict[str, Any], called: bool
) -> None:
    assert (await town.ask("POST", WHATSAPP, None, **signed(template(what, **said)))).status == 200
    assert len(await town.rows(tables.Page)) == called


async def test_another_towns_app_cannot_say_a_template_was_paused(town: Town) -> None:
    paused = template("message_template_status_update", event="PAUSED")
    await town.ask("POST", WHATSAPP, None, **signed(paused, "bientina"))
    bientinas = AUTHORITIES["bientina"].channel(Channel.WHATSAPP)
    assert bientinas is not None
    pages = await town.rows(tables.Page)
    assert {page.authority for page in pages} <= ({"bientina"} if bientinas.settings["template"] == TEMPLATE else set())
