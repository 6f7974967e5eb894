"""What Meta and Telegram post: believed when signed, stored once, answered only when it is safe."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from alerting import wire
from alerting.amqp import Consumer, Incoming, Link, declares
from alerting.api import webhooks
from alerting.domain.delivery import Progress, Reason
from alerting.domain.events import ReceiptsCame
from alerting.persistence import tables
from alerting.topology import RECEIPTS_QUEUE, topology
from tests.integration.api_client import NOWHERE_TO_PUBLISH, VERIFY_TOKEN, WEBHOOK_SECRET, Town, serving, signed

CALCINAIA = "105000400000001"
BIENTINA = "105000100000001"
TELEGRAM = "/v1/webhooks/telegram/telegram.calcinaia"
WHATSAPP = "/v1/webhooks/whatsapp"


@pytest.fixture(autouse=True)
def strangers_begin_anew() -> None:
    webhooks._audited.clear()


@pytest.fixture
async def town(database_url: str, tmp_path: Path) -> AsyncIterator[Town]:
    """Without a broker: texts need none."""
    async with serving(database_url, NOWHERE_TO_PUBLISH, "t.", tmp_path) as town:
        yield town


def _posted(value: dict[str, Any], number: str = CALCINAIA) -> dict[str, Any]:
    value = {"messaging_product": "whatsapp", "metadata": {"phone_number_id": number}} | value
    return {
        "object": "whatsapp_business_account",
        "entry": [{"id": "WABA", "changes": [{"field": "messages", "value": value}]}],
    }


def _wrote(words: str, identity: str = "wamid.HBgM1", number: str = CALCINAIA) -> dict[str, Any]:
    message = {
        "from": "393331234567",
        "id": identity,
        "timestamp": "1795000000",
        "type": "text",
        "text": {"body": words},
    }
    return _posted({"messages": [message]}, number)


def _status(reference: str | None, status: str = "delivered", **more: Any) -> dict[str, Any]:
    said = {"id": "wamid.HBgM2", "status": status, "timestamp": "1795000003", "recipient_id": "393331234567"}
    return said | ({"biz_opaque_callback_data": reference} if reference else {}) | more


# ── who may speak ───────────────────────────────────────────────────────────────────────────────────


async def test_metas_challenge_is_answered_to_whoever_knows_the_token(town: Town) -> None:
    asked = "?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token="
    answer = await town.ask("GET", f"{WHATSAPP}{asked}{VERIFY_TOKEN}", None)
    assert (answer.status, answer.body) == (200, "1158201444")
    for wrong in (f"{asked}indovinato", f"{asked}", "", f"?hub.verify_token={VERIFY_TOKEN}"):
        assert (await town.ask("GET", f"{WHATSAPP}{wrong}", None)).status == 403


async def test_an_unsigned_or_wrongly_signed_webhook_leaves_an_audit_line_only(town: Town) -> None:
    before = len(await town.stored())
    right = signed(_wrote("Attiva"))
    changed = right | {"data": right["data"].replace(b"Attiva", b"Disattiva")}
    other_app = signed(_wrote("Attiva"), comune="bientina")
    unsigned = {"data": right["data"]}
    for number, wrong in enumerate((unsigned, changed, other_app, signed([_wrote("Attiva")], "bientina")), start=1):
        answer = await town.ask("POST", WHATSAPP, None, **wrong)
        assert answer.status == 401 and "X-Hub-Signature-256" in answer.body["detail"]
        assert len(await town.audited("refused webhook")) == number
    assert len(await town.stored()) == before


async def test_one_town_cannot_speak_for_another_in_the_same_call(town: Town) -> None:
    both = _wrote("Attiva", number=BIENTINA)
    both["entry"] += _wrote("Disattiva", "wamid.2")["entry"]
    assert (await town.ask("POST", WHATSAPP, None, **signed(both, "bientina"))).status == 401
    assert await town.rows(tables.InboundMessage) == []


async def test_strangers_cannot_fill_the_audit(town: Town) -> None:
    for _ in range(webhooks.AUDITED_A_MINUTE + 5):
        await town.ask("POST", WHATSAPP, None, data=b"{}")
    assert len(await town.audited("refused webhook")) == webhooks.AUDITED_A_MINUTE
    figures = (await town.ask("GET", "/metrics", None)).body
    assert 'alerting_webhooks_refused_total{channel="whatsapp"}' in figures


async def test_a_signed_body_that_is_no_json_or_too_large_is_refused(town: Town) -> None:
    right = signed("")
    raw = b"{{{"
    signature = hmac.new(b"segreto-di-calcinaia", raw, hashlib.sha256).hexdigest()
    headers = right["headers"] | {"X-Hub-Signature-256": f"sha256={signature}"}
    assert (await town.ask("POST", WHATSAPP, None, data=raw, headers=headers)).status == 400

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(80):
            yield b" " * 65536

    assert (await town.ask("POST", WHATSAPP, None, data=pieces())).status == 413


# ── texts ───────────────────────────────────────────────────────────────────────────────────────────


async def test_a_text_is_stored_sealed_and_once_however_often_meta_repeats_it(town: Town) -> None:
    for _ in range(3):
        answer = await town.ask("POST", WHATSAPP, None, **signed(_wrote("Attiva però subito")))
        assert answer.status == 200
    (row,) = await town.rows(tables.InboundMessage)
    assert row.account == "whatsapp.calcinaia" and b"Attiva" not in row.sealed and "wamid" not in row.provider_id
    assert json.loads(town.seal.open(row.sealed)) == {
        "sender": "+393331234567",
        "text": "Attiva però subito",
        "kind": "text",
        "payload": None,
        "said_at": "2026-11-18T11:06:40+00:00",
    }
    (promise,) = await town.rows(tables.OutboxMessage)
    assert (promise.lane.value, promise.exchange, promise.message_id) == ("reply", "inbound", f"inbound:{row.id}")


async def test_a_text_to_a_number_nobody_has_is_not_stored(town: Town) -> None:
    answer = await town.ask("POST", WHATSAPP, None, **signed(_wrote("Attiva", number="999")))
    assert (answer.status, answer.body) == (200, {"texts": 0, "receipts": 0, "ignored": 1})
    assert await town.rows(tables.InboundMessage) == []


async def test_shapes_nobody_knows_are_counted_and_answered(town: Town) -> None:
    odd: tuple[Any, ...] = (
        [],
        7,
        "ciao",
        {},
        {"entry": 5},
        {"entry": [{"changes": [{"field": "flows", "value": {}}]}]},
    )
    for payload in odd:
        assert (await town.ask("POST", WHATSAPP, None, **signed(payload))).status == 200, payload


async def test_telegram_is_believed_by_its_secret_and_stored_once(town: Town) -> None:
    chat = {"id": 5001, "type": "private"}
    update = {"update_id": 1, "message": {"message_id": 7, "chat": chat, "date": 1795000000, "text": "Attiva"}}
    headers = {"X-Telegram-Bot-Api-Secret-Token": WEBHOOK_SECRET}
    for _ in range(2):
        assert (await town.ask("POST", TELEGRAM, None, json=update, headers=headers)).status == 200
    blocked = {"chat": chat, "date": 1795000100, "new_chat_member": {"status": "kicked"}}
    assert (await town.ask("POST", TELEGRAM, None, json={"my_chat_member": blocked}, headers=headers)).status == 200
    back = {"my_chat_member": blocked | {"new_chat_member": {"status": "member"}}}
    assert (await town.ask("POST", TELEGRAM, None, json=back, headers=headers)).status == 200
    group = {"id": -4001, "type": "group"}
    moved = {"message_id": 8, "date": 1795000200, "chat": group, "migrate_to_chat_id": -1001000004001}
    for _ in range(2):
        assert (await town.ask("POST", TELEGRAM, None, json={"message": moved}, headers=headers)).status == 200
    of_others = {"update_id": 5, "channel_post": {"chat": group, "text": "Evacuare."}}
    ignored = await town.ask("POST", TELEGRAM, None, json=of_others, headers=headers)
    assert (ignored.status, ignored.body["ignored"]) == (200, 1)
    said = [json.loads(town.seal.open(row.sealed)) for row in await town.rows(tables.InboundMessage)]
    assert [(one["sender"], one["kind"], one["text"]) for one in said] == [
        ("5001", "text", "Attiva"),
        ("5001", "blocked", None),
        ("5001", "unblocked", None),
        ("-4001", "moved", None),
    ]
    assert said[3]["payload"] == "-1001000004001" and said[1]["at"] == "2026-11-18T11:08:20+00:00"
    assert len(await town.rows(tables.OutboxMessage)) == 4


async def test_the_spinner_of_a_pressed_button_ends_by_the_answer_itself(town: Town) -> None:
    press = {"id": "4382bfdwdsb323b2d9", "from": {"id": 5001, "is_bot": False}, "data": "SAFE:8f3c"}
    headers = {"X-Telegram-Bot-Api-Secret-Token": WEBHOOK_SECRET}
    answer = await town.ask("POST", TELEGRAM, None, json={"update_id": 9, "callback_query": press}, headers=headers)
    assert (answer.status, answer.body) == (
        200,
        {"method": "answerCallbackQuery", "callback_query_id": "4382bfdwdsb323b2d9"},
    )
    assert await town.rows(tables.InboundMessage) == []
    below = press | {"message": {"message_id": 77, "chat": {"id": 5001, "type": "private"}}}
    for _ in range(2):  # told twice, kept once
        await town.ask("POST", TELEGRAM, None, json={"update_id": 9, "callback_query": below}, headers=headers)
    (row,) = await town.rows(tables.InboundMessage)
    said = json.loads(town.seal.open(row.sealed))
    assert (said["sender"], said["kind"], said["payload"]) == ("5001", "press", "77 SAFE:8f3c")


async def test_telegram_without_the_secret_is_refused(town: Town) -> None:
    for path, headers in (
        (TELEGRAM, {}),
        (TELEGRAM, {"X-Telegram-Bot-Api-Secret-Token": "altro"}),
        ("/v1/webhooks/telegram/telegram.bientina", {"X-Telegram-Bot-Api-Secret-Token": ""}),
        ("/v1/webhooks/telegram/whatsapp.calcinaia", {"X-Telegram-Bot-Api-Secret-Token": WEBHOOK_SECRET}),
    ):
        assert (await town.ask("POST", path, None, json={}, headers=headers)).status == 401
    assert len(await town.audited("refused webhook")) == 4 and await town.rows(tables.InboundMessage) == []


# ── receipts ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_receipt_that_rabbitmq_does_not_take_is_asked_for_again(town: Town) -> None:
    answer = await town.ask("POST", WHATSAPP, None, **signed(_posted({"statuses": [_status("12.3.1")]})))
    assert answer.status == 503 and answer.headers["Retry-After"]
    not_ours = signed(_posted({"statuses": [_status("att_01J9"), _status(None), _status("1.2")]}))
    answer = await town.ask("POST", WHATSAPP, None, **not_ours)
    assert (answer.status, answer.body["ignored"]) == (200, 3)


async def test_receipts_are_on_rabbitmq_before_meta_is_answered(
    database_url: str, amqp_url: str, amqp_prefix: str, tmp_path: Path
) -> None:
    taken: asyncio.Queue[Incoming] = asyncio.Queue()
    link = Link(amqp_url, "test receipts")
    declares(link, topology(amqp_prefix))
    Consumer(link, amqp_prefix + RECEIPTS_QUEUE, 100, taken.put_nowait)
    link.start()
    await link.wait_up(20)
    async with serving(database_url, amqp_url, amqp_prefix, tmp_path) as town:
        await _is_connected(town)
        failed = _status("12.4.2", "failed", errors=[{"code": 131026, "title": "Message undeliverable"}])
        statuses = [_status("12.3.1"), failed, _status("12.5.1", "read"), _status("other")]
        answer = await town.ask("POST", WHATSAPP, None, **signed(_posted({"statuses": statuses})))
        assert (answer.status, answer.body) == (200, {"texts": 0, "receipts": 3, "ignored": 1})
    message = await asyncio.wait_for(taken.get(), 10)
    event = wire.decode(message.body)
    message.ack()
    await link.stop()
    assert isinstance(event, ReceiptsCame), "what comes in one call goes in one message"
    assert {(one.seq, one.progress, one.reason) for one in event.receipts} == {
        (3, Progress.DELIVERED, None),
        (4, Progress.FAILED, Reason.NOT_REACHABLE_HERE),
        (5, Progress.READ, None),
    }


async def _is_connected(town: Town) -> None:
    for _ in range(400):
        if (await town.ask("GET", "/v1/status", None)).body["broker"] == "ok":
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the API never reached RabbitMQ")
