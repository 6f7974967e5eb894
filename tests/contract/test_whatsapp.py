"""The Cloud API both ways: what Meta's examples say, what its simulator enforces, what its webhooks mean."""

import asyncio
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import ClientSession
from hypothesis import given, settings
from hypothesis import strategies as st

from alerting.domain.delivery import (
    Accepted,
    ChannelHalted,
    Deferred,
    Outcome,
    Progress,
    Reason,
    Refused,
    TextRejected,
    Uncertain,
)
from alerting.webhooks import InboundText, Receipt, Renumbered, TemplateChanged, Webhook
from alerting.webhooks.whatsapp import answer_subscription, read_webhook, verify_signature
from consumers.channel import Text
from consumers.channels.whatsapp import WhatsApp
from consumers.channels.whatsapp_errors import BadParameter, MediaSpoilt, TemplateWithdrawn, classify
from consumers.simulators import whatsapp as simulator
from consumers.simulators.serving import Served
from geo.shapes import Point
from tests.contract.fornacette import (
    WHATSAPP_NUMBER,
    WHATSAPP_TOKEN,
    Mailbox,
    a_server_that,
    received,
    tell,
    until,
    whatsapp_account,
)
from tests.contract.spoiling import spoiled

MARIA = "+393331234567"
APP_SECRET = "simulated-app-secret"
ORANGE = Text("Allerta arancione.", template="allerta_pc_v3", variables=("Fornacette", "arancione", "dalle 14 di oggi"))
REVOKED = Text("Allerta revocata alle 18:40.")


# ── what the codes mean ─────────────────────────────────────────────────────────────────────────────


def an_error(code: int, **more: object) -> bytes:
    """Meta's error envelope, as documented."""
    error = {
        "message": f"(#{code}) …",
        "type": "OAuthException",
        "code": code,
        "fbtrace_id": "A4O5a8RAgePwbcGSu",
    }
    return json.dumps({"error": error | more}).encode()


HALTS, REJECTS, WITHDRAWS, SPOILS, DOUBTS = ChannelHalted, TextRejected, TemplateWithdrawn, MediaSpoilt, BadParameter


def later(reason: Reason, seconds: float | None = None, *, everybody: bool = False) -> Deferred:
    return Deferred(reason, timedelta(seconds=seconds) if seconds else None, whole_account=everybody)


EVERY_ROW: dict[int, Outcome | type[ChannelHalted | TextRejected]] = {
    # the account
    **dict.fromkeys((0, 190, 3, 10, 200, 230, 299, 131005), HALTS),
    **dict.fromkeys((368, 131031, 130497, 131037, 131042, 131045, 133010, 133016, 131048, 131064), HALTS),
    # the hour
    131057: later(Reason.PROVIDER_UNAVAILABLE, 60, everybody=True),
    4: later(Reason.THROTTLED, 60, everybody=True),
    80007: later(Reason.THROTTLED, 60, everybody=True),
    130429: later(Reason.THROTTLED, 1, everybody=True),
    131056: later(Reason.PAIR_THROTTLED, 1),
    **dict.fromkeys((2, 131016, 133004), later(Reason.PROVIDER_UNAVAILABLE)),
    **dict.fromkeys((131000, 135000, 137000), later(Reason.UNKNOWN_ANSWER)),
    # the text, its template, its picture
    **dict.fromkeys((1, 33, 100, 131008, 131009), DOUBTS),
    **dict.fromkeys((131051, 132000, 132005, 132008, 132012, 132018, 132068, 132069), REJECTS),
    **dict.fromkeys((131063, 132001, 132007, 132015, 132016), WITHDRAWS),
    **dict.fromkeys((131052, 131053), SPOILS),
    # the person
    **dict.fromkeys((131021, 131026, 131062), Refused(Reason.NOT_REACHABLE_HERE)),
    **dict.fromkeys((131030, 131047, 131049, 130472), Refused(Reason.POLICY)),
    131050: Refused(Reason.OPTED_OUT),
}


@pytest.mark.parametrize("code", EVERY_ROW)
def test_metas_code_decides_and_its_http_status_does_not(code: int) -> None:
    expected = EVERY_ROW[code]
    for status in (200, 400, 401, 403, 404, 429, 500, 503):
        if isinstance(expected, type):
            with pytest.raises(expected, match="200-299" if 200 <= code < 300 else f" {code}, ") as raised:
                classify(status, an_error(code), "w")
            assert type(raised.value) is expected
        else:
            assert classify(status, an_error(code), "w") == expected


def test_an_id_that_names_no_picture_spoils_the_picture_and_not_the_text() -> None:
    details = {"messaging_product": "whatsapp", "details": "4490 is not a valid media attachment ID"}
    for code in (100, 131009):
        with pytest.raises(MediaSpoilt):
            classify(400, an_error(code, error_data=details), "w")
        with pytest.raises(BadParameter):
            classify(400, an_error(code, error_data={"details": "Parameter 'to' is not a phone number"}), "w")


def test_what_meta_adds_to_an_error_may_be_a_bare_string() -> None:
    with pytest.raises(MediaSpoilt):
        classify(400, an_error(100, error_data="no such media"), "w")
    with pytest.raises(BadParameter):
        classify(400, an_error(100, error_data=["text"]), "w")


def test_an_error_that_repeats_our_token_does_not_get_it_into_our_logs() -> None:
    body = an_error(190, message=f"Malformed access token {WHATSAPP_TOKEN}")
    with pytest.raises(ChannelHalted) as halted:
        classify(401, body, "whatsapp-fornacette")
    assert WHATSAPP_TOKEN not in str(halted.value) + repr(halted.value.args)


def test_a_phone_number_id_that_is_not_ours_halts_the_account() -> None:
    with pytest.raises(ChannelHalted, match="phone_number_id"):
        classify(400, an_error(100, error_subcode=33), "w")


def test_the_documented_examples_of_an_answer() -> None:
    """Facts re-typed from Meta's pages on sending messages and on error codes, November 2026."""
    accepted = (
        b'{"messaging_product":"whatsapp","contacts":[{"input":"+393331234567","wa_id":"393331234567"}],'
        b'"messages":[{"id":"wamid.HBgMMzkz","message_status":"accepted"}]}'
    )
    assert classify(200, accepted, "w") == Accepted("wamid.HBgMMzkz")
    assert classify(200, accepted.replace(b',"message_status":"accepted"', b""), "w") == Accepted("wamid.HBgMMzkz")
    for standing in (b"held_for_quality_assessment", b"paused"):
        held = accepted.replace(b'"accepted"', b'"' + standing + b'"')
        assert classify(200, held, "w") == Uncertain(Reason.HELD_BY_PROVIDER)
    pair = (
        b'{"error":{"message":"(#131056) (Business Account, Consumer Account) pair rate limit hit",'
        b'"type":"OAuthException","code":131056,"error_data":{"messaging_product":"whatsapp",'
        b'"details":"Too many messages sent"},"fbtrace_id":"A4O5a8RAgePwbcGSu"}}'
    )
    assert classify(400, pair, "w") == Deferred(Reason.PAIR_THROTTLED, timedelta(seconds=1))


def test_a_2xx_without_an_id_may_have_arrived() -> None:
    assert classify(200, b'{"success":true}', "w") == Uncertain(Reason.UNKNOWN_ANSWER)
    assert classify(200, b'{"messages":[]}', "w") == Uncertain(Reason.UNKNOWN_ANSWER)


# ── what goes out ───────────────────────────────────────────────────────────────────────────────────


async def what_is_said(whatsapp: WhatsApp, text: Text, reference: str = "att_01J9") -> tuple[str, dict[str, Any]]:
    """The request line with its headers, and the body, as they stand on the wire."""
    said: list[bytes] = []

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        said.extend([head, await reader.readexactly(length)])
        writer.close()

    async with a_server_that(converse) as base_url:
        await whatsapp.send(whatsapp_account(base_url), MARIA, text, reference)
    return said[0].decode(), json.loads(said[1])


async def test_a_template_on_the_wire_is_the_documented_one(whatsapp: WhatsApp) -> None:
    head, body = await what_is_said(whatsapp, ORANGE)

    assert head.startswith(f"POST /v26.0/{WHATSAPP_NUMBER}/messages HTTP/1.1\r\n")
    assert f"Authorization: Bearer {WHATSAPP_TOKEN}\r\n" in head
    assert "Content-Type: application/json\r\n" in head
    words = [{"type": "text", "text": word} for word in ("Fornacette", "arancione", "dalle 14 di oggi")]
    assert body == {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": "+393331234567",
        "type": "template",
        "template": {
            "name": "allerta_pc_v3",
            "language": {"code": "it"},
            "components": [{"type": "body", "parameters": words}],
        },
        "biz_opaque_callback_data": "att_01J9",
    }


async def test_free_text_on_the_wire_is_the_documented_one(whatsapp: WhatsApp) -> None:
    _, body = await what_is_said(whatsapp, Text('È "finita" 🌧'), 'att"é\\')
    assert body == {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": "+393331234567",
        "type": "text",
        "text": {"preview_url": False, "body": 'È "finita" 🌧'},
        "biz_opaque_callback_data": 'att"é\\',
    }


async def test_a_renewed_token_is_used_at_once(whatsapp: WhatsApp, meta: Served, http: ClientSession) -> None:
    account = whatsapp_account(meta.base_url)
    assert isinstance(await whatsapp.send(account, MARIA, ORANGE, "att_1"), Accepted)
    await tell(meta, http, "config", {"accounts": {WHATSAPP_NUMBER: {"token": "EAAGrenewed"}}})
    with pytest.raises(ChannelHalted):
        await whatsapp.send(account, MARIA, ORANGE, "att_2")
    renewed = whatsapp_account(meta.base_url, token=type(account.token)("EAAGrenewed"))
    assert isinstance(await whatsapp.send(renewed, MARIA, ORANGE, "att_3"), Accepted)


async def test_settings_that_lack_the_number_halt_and_say_what_to_do(whatsapp: WhatsApp) -> None:
    with pytest.raises(ChannelHalted, match="phone_number_id"):
        await whatsapp.send(whatsapp_account("http://127.0.0.1:1", settings={}), MARIA, ORANGE, "att_1")


# ── what the simulator enforces, and the adapter makes of it ────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (Text("x", template="allerta_inesistente"), "132001"),
        (
            Text("x", template="allerta_pc_v3", variables=("Fornacette", "rossa", "ora"), language="de"),
            "132001",
        ),
        (Text("x", template="allerta_pc_v3", variables=("Fornacette",)), "132000"),
        (Text("x", template="allerta_pc_v3", variables=("Fornacette", "rossa", "ora\nadesso")), "132018"),
        (Text("x", template="allerta_pc_v3", variables=("Fornacette", "rossa", "")), "132018"),
        (Text("x", template="allerta_sospesa"), "132015"),
        (Text("x", template="allerta_spenta"), "132016"),
        (Text("x" * 4097), "4096"),
        (Text(""), "0 characters"),
    ],
)
async def test_a_text_wrong_for_everybody_is_rejected(whatsapp: WhatsApp, meta: Served, text: Text, code: str) -> None:
    with pytest.raises(TextRejected, match=code):
        await whatsapp.send(whatsapp_account(meta.base_url), MARIA, text, "att_1")


async def test_a_template_still_assessed_has_not_left_and_may_yet(
    whatsapp: WhatsApp, meta: Served, http: ClientSession
) -> None:
    outcome = await whatsapp.send(whatsapp_account(meta.base_url), MARIA, Text("x", template="allerta_nuova"), "att_1")
    assert outcome == Uncertain(Reason.HELD_BY_PROVIDER)
    assert await received(meta, http) == []


async def test_free_text_is_for_who_wrote_within_a_day(whatsapp: WhatsApp, meta: Served, http: ClientSession) -> None:
    account = whatsapp_account(meta.base_url)
    assert await whatsapp.send(account, MARIA, REVOKED, "att_1") == Refused(Reason.POLICY)

    await tell(meta, http, "inbound", {"from": MARIA, "text": "Come va l'argine?"})
    assert isinstance(await whatsapp.send(account, MARIA, REVOKED, "att_2"), Accepted)

    await tell(meta, http, "config", {"clock_ahead": 25 * 3600})
    assert await whatsapp.send(account, MARIA, REVOKED, "att_3") == Refused(Reason.POLICY)


async def test_one_number_meta_cannot_read_does_not_cost_a_town_its_alert(
    whatsapp: WhatsApp, meta: Served, http: ClientSession
) -> None:
    account = whatsapp_account(meta.base_url)
    await tell(meta, http, "config", {"faults": {131009: 1.0}})
    assert await whatsapp.send(account, "+393331230001", ORANGE, "a") == Deferred(Reason.UNKNOWN_ANSWER)

    await tell(meta, http, "config", {"faults": {}})
    assert isinstance(await whatsapp.send(account, MARIA, ORANGE, "b"), Accepted)

    await tell(meta, http, "config", {"faults": {131009: 1.0}})
    assert await whatsapp.send(account, "+393331230001", ORANGE, "c") == Refused(Reason.NOT_REACHABLE_HERE)


async def test_a_bad_parameter_for_two_in_a_row_condemns_the_text(
    whatsapp: WhatsApp, meta: Served, http: ClientSession
) -> None:
    account = whatsapp_account(meta.base_url)
    await tell(meta, http, "config", {"faults": {100: 1.0}})
    assert isinstance(await whatsapp.send(account, "+393331230001", ORANGE, "a"), Deferred)
    with pytest.raises(TextRejected):
        await whatsapp.send(account, "+393331230002", ORANGE, "b")


async def test_throttles_that_come_as_400_are_throttles_too(
    whatsapp: WhatsApp, meta: Served, http: ClientSession
) -> None:
    await tell(meta, http, "config", {"throttle_http": 400, "faults": {130429: 1.0}})
    outcome = await whatsapp.send(whatsapp_account(meta.base_url), MARIA, ORANGE, "a")
    assert outcome == Deferred(Reason.THROTTLED, timedelta(seconds=1), whole_account=True)


async def test_eighty_a_second_is_eighty_a_second(whatsapp: WhatsApp, meta: Served, http: ClientSession) -> None:
    await tell(meta, http, "config", {"per_second": 80, "burst": 0.1})
    account = whatsapp_account(meta.base_url)

    async def hasten(first: int) -> int:
        taken = 0
        for i in range(first, first + 50):
            outcome = await whatsapp.send(account, f"+39333500{i:04}", ORANGE, f"a{i}")
            taken += isinstance(outcome, Accepted)
            await asyncio.sleep(0.02)
        return taken

    clock = asyncio.get_running_loop().time
    began = clock()
    taken = sum(await asyncio.gather(*(hasten(n) for n in range(1000, 1400, 50))))
    lasted = clock() - began
    assert 0.8 * min(80 * lasted, 400) <= taken <= 80 * lasted + 9
    async with http.get(f"{meta.base_url}/__sim/refused") as response:
        assert (await response.json())["130429"] == 400 - taken


async def test_a_pair_borrows_from_the_minutes_to_come_and_then_rests(
    whatsapp: WhatsApp, meta: Served, http: ClientSession
) -> None:
    account = whatsapp_account(meta.base_url)
    outcomes = [await whatsapp.send(account, MARIA, ORANGE, f"a{i}") for i in range(46)]
    assert [type(o) for o in outcomes] == [Accepted] * 45 + [Deferred]

    await tell(meta, http, "config", {"clock_ahead": 45 * 6 - 10})
    assert isinstance(await whatsapp.send(account, MARIA, ORANGE, "b"), Deferred)
    await tell(meta, http, "config", {"clock_ahead": 45 * 6 + 10})
    assert isinstance(await whatsapp.send(account, MARIA, ORANGE, "c"), Accepted)


async def test_what_is_refused_for_another_reason_does_not_weigh_on_the_pair(
    whatsapp: WhatsApp, meta: Served, http: ClientSession
) -> None:
    account = whatsapp_account(meta.base_url)
    await tell(meta, http, "config", {"faults": {"130429": 1.0}, "pair_burst": 1})
    refused = [await whatsapp.send(account, MARIA, ORANGE, f"a{i}") for i in range(3)]
    assert {one.reason for one in refused if isinstance(one, Deferred)} == {Reason.THROTTLED}
    await tell(meta, http, "config", {"faults": {}})
    assert isinstance(await whatsapp.send(account, MARIA, ORANGE, "b"), Accepted)


async def test_beyond_the_portfolios_daily_people_meta_only_says_so_later(
    whatsapp: WhatsApp, meta: Served, http: ClientSession, mailbox: Mailbox
) -> None:
    await tell(meta, http, "config", {"portfolio_limit": 2, "webhook_url": mailbox.url, "silent": 1.0})
    account = whatsapp_account(meta.base_url)
    for last in (1, 2, 1, 3):
        assert isinstance(await whatsapp.send(account, f"+39333123000{last}", ORANGE, f"a{last}"), Accepted)

    await until(lambda: len(mailbox.raw) > 0)
    (failed,) = read_webhook(json.loads(mailbox.raw[0])).receipts
    assert (failed.reference, failed.progress, failed.reason) == ("a3", Progress.FAILED, Reason.POLICY)
    assert len(await received(meta, http)) == 3

    await tell(meta, http, "config", {"clock_ahead": 25 * 3600})
    await whatsapp.send(account, "+393331230003", ORANGE, "a4")
    assert len(await received(meta, http)) == 4, "tomorrow there is room again"


async def test_without_its_plus_a_number_rings_at_a_strangers(meta: Served, http: ClientSession) -> None:
    template = {"name": "allerta_nuova", "language": {"code": "it"}}
    body = {"messaging_product": "whatsapp", "type": "template", "template": template}
    await tell(meta, http, "config", {"templates": [{"name": "allerta_nuova"}]})
    async with http.post(
        f"{meta.base_url}/v26.0/{WHATSAPP_NUMBER}/messages",
        json=body | {"to": "393331234567"},
        headers={"Authorization": f"Bearer {WHATSAPP_TOKEN}"},
    ) as response:
        assert response.status == 200
    assert [item["to"] for item in await received(meta, http)] == ["+39393331234567"]


async def test_the_desk_refuses_what_it_does_not_know(meta: Served, http: ClientSession) -> None:
    async with http.post(f"{meta.base_url}/__sim/config", json={"per_secnod": 20}) as response:
        assert response.status == 400 and "per_secnod" in (await response.json())["error"]
    with pytest.raises(ValueError, match="per_second"):
        await simulator.start({"per_second": "fast"})


async def test_what_phones_received_is_read_in_pieces_and_forgotten_on_request(
    whatsapp: WhatsApp, meta: Served, http: ClientSession
) -> None:
    account = whatsapp_account(meta.base_url)
    for i in range(3):
        await whatsapp.send(account, MARIA, ORANGE, f"att_{i}")
    async with http.get(f"{meta.base_url}/__sim/received?after=1") as response:
        page = await response.json()
    assert [item["n"] for item in page["items"]] == [2, 3] and page["next"] == 3
    assert page["items"][0]["reference"] == "att_1"
    assert page["items"][0]["template"] == "allerta_pc_v3"
    assert page["items"][0]["variables"] == ["Fornacette", "arancione", "dalle 14 di oggi"]
    async with http.get(f"{meta.base_url}/__sim/received?after=3") as response:
        assert await response.json() == {"items": [], "next": 3}

    async with http.get(f"{meta.base_url}/__sim/phone/{MARIA}", headers={"Accept": "text/html"}) as response:
        page_of_maria = await response.text()
    assert '<html lang="it">' in page_of_maria
    assert page_of_maria.count("Fornacette: allerta arancione, dalle 14 di oggi.") == 3
    await tell(meta, http, "reset", {})
    assert await received(meta, http) == []
    async with http.get(f"{meta.base_url}/__sim/phone/{MARIA}") as response:
        assert (await response.json())["items"] == []


# ── what Meta posts to us ───────────────────────────────────────────────────────────────────────────


async def test_receipts_come_signed_and_carry_our_reference(
    whatsapp: WhatsApp, meta: Served, http: ClientSession, mailbox: Mailbox
) -> None:
    await tell(meta, http, "config", {"webhook_url": mailbox.url, "read": 1.0})
    outcome = await whatsapp.send(whatsapp_account(meta.base_url), MARIA, ORANGE, "att_01J9")
    assert isinstance(outcome, Accepted)

    await until(lambda: sum(len(read_webhook(json.loads(raw)).receipts) for raw in mailbox.raw) == 3)
    for raw, headers in zip(mailbox.raw, mailbox.headers, strict=True):
        assert verify_signature(APP_SECRET, raw, headers["X-Hub-Signature-256"])
    receipts = [receipt for raw in mailbox.raw for receipt in read_webhook(json.loads(raw)).receipts]
    assert [r.progress for r in receipts] == [Progress.SENT, Progress.DELIVERED, Progress.READ]
    assert {(r.reference, r.provider_id) for r in receipts} == {("att_01J9", outcome.provider_id)}


async def test_what_arrived_while_the_line_died_is_told_by_its_receipt(
    whatsapp: WhatsApp, meta: Served, http: ClientSession, mailbox: Mailbox
) -> None:
    await tell(meta, http, "config", {"webhook_url": mailbox.url})
    outcome = await whatsapp.send(whatsapp_account(meta.base_url), "+393331234505", ORANGE, "att_dead_line")
    assert isinstance(outcome, Uncertain)
    await until(lambda: any(b"att_dead_line" in raw for raw in mailbox.raw))


async def test_duplicates_disorder_and_failures_come_when_asked_for(
    whatsapp: WhatsApp, meta: Served, http: ClientSession, mailbox: Mailbox
) -> None:
    changes = {"webhook_url": mailbox.url, "duplicates": 1.0, "reordered": 1.0, "failed": 1.0}
    await tell(meta, http, "config", changes)
    await whatsapp.send(whatsapp_account(meta.base_url), MARIA, ORANGE, "att_1")

    def receipts() -> list[Receipt]:
        return [r for raw in mailbox.raw for r in read_webhook(json.loads(raw)).receipts]

    await until(lambda: len(receipts()) == 4)
    assert receipts()[0].progress is Progress.FAILED
    assert receipts()[0].reason is Reason.NOT_REACHABLE_HERE
    assert sorted(r.progress.name for r in receipts()) == ["FAILED", "FAILED", "SENT", "SENT"]


async def test_meta_tries_again_while_our_webhook_is_ill(meta: Served, http: ClientSession, mailbox: Mailbox) -> None:
    mailbox.answers = [500, 503]
    await tell(meta, http, "config", {"webhook_url": mailbox.url})
    await tell(meta, http, "inbound", {"from": MARIA, "text": "STOP"})

    await until(lambda: len(mailbox.raw) == 3)
    assert len(set(mailbox.raw)) == 1
    async with http.get(f"{meta.base_url}/__sim/webhooks") as response:
        tally = await response.json()
    assert (tally["posted"], tally["repeated"], tally["lost"]) == (1, 2, 0)


async def test_a_citizen_who_writes_reaches_us_with_accents_and_signature(
    meta: Served, http: ClientSession, mailbox: Mailbox
) -> None:
    await tell(meta, http, "config", {"webhook_url": mailbox.url})
    await tell(meta, http, "inbound", {"from": MARIA, "text": "Perché a/b?", "account": WHATSAPP_NUMBER})

    await until(lambda: len(mailbox.raw) == 1)
    (raw,), signature = mailbox.raw, mailbox.headers[0]["X-Hub-Signature-256"]
    assert b"Perch\\u00e9 a\\/b?" in raw
    assert verify_signature(APP_SECRET, raw, signature)
    assert not verify_signature(APP_SECRET, json.dumps(json.loads(raw)).encode(), signature), "bytes, not JSON"
    (text,) = read_webhook(json.loads(raw)).texts
    assert (text.sender, text.text, text.kind) == (MARIA, "Perché a/b?", "text")
    assert text.phone_number_id == WHATSAPP_NUMBER


@pytest.mark.parametrize("header", [None, "", "sha256=", "sha256=00", "sha1=aa", "sha256=é", "SHA256=" + "0" * 64])
def test_what_meta_did_not_sign_is_not_metas(header: str | None) -> None:
    assert not verify_signature(APP_SECRET, b"{}", header)


def test_an_empty_secret_verifies_nothing() -> None:
    empty_key = "sha256=" + hmac.new(b"", b"{}", "sha256").hexdigest()
    assert not verify_signature("", b"{}", empty_key)


def test_the_challenge_is_answered_to_who_knows_the_token() -> None:
    query = {"hub.mode": "subscribe", "hub.challenge": "1158201444", "hub.verify_token": "fornacette"}
    assert answer_subscription("fornacette", query) == "1158201444"
    assert answer_subscription("bientina", query) is None
    assert answer_subscription("fornacette", query | {"hub.mode": "unsubscribe"}) is None
    assert answer_subscription("", query | {"hub.verify_token": ""}) is None


def a_call(*values: Mapping[str, object], field: str = "messages") -> dict[str, object]:
    changes = [{"field": field, "value": value} for value in values]
    return {"object": "whatsapp_business_account", "entry": [{"id": "WABA_ID", "changes": changes}]}


AT = datetime.fromtimestamp(1795000000, UTC)
METADATA = {"display_phone_number": "390512345678", "phone_number_id": "1065"}


def inbound(**message: object) -> InboundText | None:
    """One message through the parser."""
    message = {"from": "393331234567", "id": "wamid.HBg", "timestamp": "1795000000"} | message
    texts = read_webhook(a_call({"metadata": METADATA, "messages": [message]})).texts
    return texts[0] if texts else None


def test_the_documented_inbound_messages() -> None:
    """Facts re-typed from Meta's webhook reference, 2026 shapes."""
    expected = InboundText("wamid.HBg", "1065", MARIA, "STOP", "text", AT, also="IT.134912086")
    assert inbound(type="text", text={"body": "STOP"}, from_user_id="IT.134912086") == expected
    button = inbound(type="button", button={"payload": "ACK:8f3c", "text": "Sto bene"}, context={"id": "wamid.A"})
    assert button == InboundText("wamid.HBg", "1065", MARIA, "Sto bene", "button", AT, "ACK:8f3c")
    tapped = {"type": "button_reply", "button_reply": {"id": "HELP:8f3c", "title": "Serve aiuto"}}
    reply = inbound(type="interactive", interactive=tapped)
    assert reply == InboundText("wamid.HBg", "1065", MARIA, "Serve aiuto", "interactive", AT, "HELP:8f3c")
    place = inbound(type="location", location={"latitude": 43.66, "longitude": 10.6})
    assert place == InboundText("wamid.HBg", "1065", MARIA, None, "location", AT, point=Point(43.66, 10.6))
    picture = inbound(type="image", image={"id": "1", "mime_type": "image/jpeg", "caption": "L'argine"})
    assert picture is not None and picture.text == "L'argine"
    odd = inbound(type="unsupported", errors=[{"code": 131051}])
    assert odd is not None and (odd.kind, odd.text) == ("unsupported", None)


def test_who_hides_their_number_has_a_bsuid() -> None:
    message = {"from_user_id": "IT.134912086", "id": "wamid.B", "timestamp": "1795000000", "type": "text"}
    call = a_call({"metadata": METADATA, "messages": [message | {"text": {"body": "STOP"}}]})
    assert [text.sender for text in read_webhook(call).texts] == ["IT.134912086"]

    status = {
        "id": "wamid.C",
        "status": "read",
        "timestamp": "1795000003",
        "recipient_user_id": "IT.134912086",
    }
    call = a_call({"statuses": [status | {"biz_opaque_callback_data": "att_01J9"}]})
    assert [(r.reference, r.progress) for r in read_webhook(call).receipts] == [("att_01J9", Progress.READ)]


def moved(**system: object) -> Renumbered | None:
    """One system message through the reader."""
    message: dict[str, object] = {"id": "wamid.S", "timestamp": "1795000000", "type": "system"}
    if "sender" in system:
        message["from"] = system.pop("sender")
    if "sender_id" in system:
        message["from_user_id"] = system.pop("sender_id")
    webhook = read_webhook(a_call({"metadata": METADATA, "messages": [message | {"system": system}]}))
    return webhook.moves[0] if webhook.moves else None


def test_the_documented_ways_to_say_that_somebody_changed_their_number() -> None:
    """Facts re-typed from Meta's pages on system messages and on business-scoped user ids."""
    new = "+393401234567"
    number = moved(
        sender="393331234567",
        type="user_changed_number",
        wa_id="393401234567",
        body="User Maria changed from 393331234567 to 393401234567",
    )
    assert number == Renumbered("wamid.S", "1065", (MARIA,), new, None, AT)
    older = moved(sender="393331234567", type="user_changed_number", new_wa_id="393401234567")
    assert older == Renumbered("wamid.S", "1065", (MARIA,), new, None, AT)
    hidden = moved(type="user_changed_user_id", previous_user_id="IT.1349", user_id="IT.2222")
    assert hidden == Renumbered("wamid.S", "1065", ("IT.1349",), "IT.2222", None, AT)
    by_its_body = moved(type="user_changed_user_id", body="User m changed from IT.1349 to IT.2222", user_id="IT.2222")
    assert by_its_body == Renumbered("wamid.S", "1065", ("IT.1349",), "IT.2222", None, AT)
    both = moved(
        sender="393331234567",
        sender_id="IT.1349",
        type="user_changed_user_id",
        user_id="IT.2222",
        wa_id="393401234567",
    )
    assert both == Renumbered("wamid.S", "1065", (MARIA, "IT.1349"), new, "IT.2222", AT)
    for unsaid in (
        {},
        {"user_id": "IT.2222"},
        {"previous_user_id": "IT.1349"},
        {"user_id": "IT.1", "sender_id": "IT.1"},
    ):
        assert moved(type="user_changed_user_id", **unsaid) is None


async def test_a_new_number_and_a_hidden_one_come_over_the_wire(
    whatsapp: WhatsApp, meta: Served, http: ClientSession, mailbox: Mailbox
) -> None:
    await tell(meta, http, "config", {"webhook_url": mailbox.url})
    await tell(meta, http, "moved", {"from": MARIA, "to": "+393401234567"})
    await tell(meta, http, "inbound", {"from": "+393401234567", "text": "Attiva", "hides_number": True})
    await tell(meta, http, "moved", {"from": "+393401234567", "to": "+393409999999"})

    def read() -> list[Webhook]:
        return [read_webhook(json.loads(raw)) for raw in mailbox.raw]

    await until(lambda: sum(len(one.moves) + len(one.texts) for one in read()) == 3)
    first, second = sorted((move for one in read() for move in one.moves), key=lambda move: move.known_as[0])
    (hidden,) = (text for one in read() for text in one.texts)
    assert (first.known_as[0], first.address) == (MARIA, "+393401234567")
    assert (second.known_as, hidden.also) == ((hidden.sender,), None) and hidden.sender.startswith("IT.")
    assert b"393409999999" not in b"".join(mailbox.raw), "who hides their number hides the next one too"

    so_far = len(mailbox.raw)
    answered = await whatsapp.send(whatsapp_account(meta.base_url), hidden.sender, Text("Benvenuta."), "att_1")
    assert isinstance(answered, Accepted)
    await until(lambda: sum(len(one.receipts) for one in read()) == 2)
    assert all(b"393401234567" not in raw for raw in mailbox.raw[so_far:])
    receipts = [receipt for one in read() for receipt in one.receipts]
    assert {(r.reference, r.provider_id) for r in receipts} == {("att_1", answered.provider_id)}


async def test_what_meta_does_to_a_template_comes_over_the_wire(
    meta: Served, http: ClientSession, mailbox: Mailbox
) -> None:
    await tell(meta, http, "config", {"webhook_url": mailbox.url})
    named = {"name": "allerta_pc_v3"}
    for change in ({"status": "PAUSED"}, {"quality": "RED"}, {"category": "MARKETING"}, {"held": True}):
        await tell(meta, http, "template", named | change)

    def changes() -> list[TemplateChanged]:
        return [change for raw in mailbox.raw for change in read_webhook(json.loads(raw)).templates]

    await until(lambda: len(changes()) == 3)
    assert changes() == [
        TemplateChanged("102290129340398", "allerta_pc_v3", "it", what, now)
        for what, now in (("status", "PAUSED"), ("quality", "RED"), ("category", "MARKETING"))
    ]
    async with http.post(f"{meta.base_url}/__sim/template", json={"name": "di_un_altro", "status": "PAUSED"}) as answer:
        assert answer.status == 400


async def test_the_simulator_posts_the_documented_shapes(
    whatsapp: WhatsApp, meta: Served, http: ClientSession, mailbox: Mailbox
) -> None:
    """The names of the parts in Meta's examples of 2026, of a message and of a status."""
    await tell(meta, http, "config", {"webhook_url": mailbox.url})
    await tell(meta, http, "inbound", {"from": MARIA, "text": "STOP"})
    await whatsapp.send(whatsapp_account(meta.base_url), MARIA, ORANGE, "att_1")

    def values() -> list[dict[str, Any]]:
        return [c["value"] for raw in mailbox.raw for e in json.loads(raw)["entry"] for c in e["changes"]]

    await until(lambda: len(values()) == 3)
    said, sent, delivered = sorted(values(), key=lambda value: "messages" not in value)
    (message,), (contact,) = said["messages"], said["contacts"]
    assert set(message) == {"from", "from_user_id", "id", "timestamp", "type", "text"}
    assert (set(contact), message["from_user_id"]) == ({"profile", "wa_id", "user_id"}, contact["user_id"])
    assert said["metadata"]["phone_number_id"] == WHATSAPP_NUMBER
    for status in (sent, delivered):
        (contact,), (told,) = status["contacts"], status["statuses"]
        named = {"id", "status", "timestamp", "recipient_id", "recipient_user_id", "biz_opaque_callback_data"}
        assert set(told) - {"pricing"} == named and set(contact) == {"wa_id", "user_id"}
    assert ("pricing" in sent["statuses"][0]) != ("pricing" in delivered["statuses"][0]), "once only"


async def test_some_read_before_they_are_told_to_have_received(
    whatsapp: WhatsApp, meta: Served, http: ClientSession, mailbox: Mailbox
) -> None:
    await tell(meta, http, "config", {"webhook_url": mailbox.url, "read_only": 1.0})
    await whatsapp.send(whatsapp_account(meta.base_url), MARIA, ORANGE, "att_1")
    await until(lambda: len(mailbox.raw) == 2)
    receipts = [receipt for raw in mailbox.raw for receipt in read_webhook(json.loads(raw)).receipts]
    assert [receipt.progress for receipt in receipts] == [Progress.SENT, Progress.READ]


async def test_what_does_not_live_as_long_as_a_phone_is_off_is_dropped_and_nobody_says(
    whatsapp: WhatsApp, meta: Served, http: ClientSession, mailbox: Mailbox
) -> None:
    account = whatsapp_account(meta.base_url)
    await tell(meta, http, "config", {"webhook_url": mailbox.url, "switched_off": [MARIA], "off_for": 3600})
    await tell(meta, http, "template", {"name": "allerta_pc_v3", "ttl": 600})
    assert isinstance(await whatsapp.send(account, MARIA, ORANGE, "att_dropped"), Accepted)
    await tell(meta, http, "config", {"off_for": 0.2})
    assert isinstance(await whatsapp.send(account, MARIA, ORANGE, "att_late"), Accepted)

    def told() -> list[tuple[str | None, Progress]]:
        return [(r.reference, r.progress) for raw in mailbox.raw for r in read_webhook(json.loads(raw)).receipts]

    await until(lambda: ("att_late", Progress.DELIVERED) in told())
    assert [item["reference"] for item in await received(meta, http)] == ["att_late"]
    assert ("att_dropped", Progress.SENT) in told() and ("att_dropped", Progress.DELIVERED) not in told()


def test_every_entry_change_and_item_is_read_and_the_rest_is_counted() -> None:
    status: dict[str, object] = {"id": "wamid.1", "status": "sent", "timestamp": "1795000000"}
    failed = status | {"status": "failed", "errors": [{"code": 131049, "title": "…"}]}
    strange = status | {"status": "evaporated"}
    call = a_call({"statuses": [status, strange]}, {"statuses": [failed, status | {"status": "played"}]})
    call["entry"] = [*_list(call["entry"]), *_list(a_call({"x": 1}, field="account_update")["entry"]), 7]

    webhook = read_webhook(call)

    assert [r.progress for r in webhook.receipts] == [Progress.SENT, Progress.FAILED, Progress.READ]
    assert [r.reason for r in webhook.receipts] == [None, Reason.POLICY, None]
    assert webhook.ignored == 2
    assert read_webhook({}) == Webhook()


def _list(found: object) -> list[object]:
    assert isinstance(found, list)
    return found


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_no_shape_of_a_webhook_is_a_crash(data: st.DataObject) -> None:
    """The documented shape, with anything at all in the place of any one of its parts."""
    status = {"id": "w", "status": "failed", "timestamp": "1795000000", "errors": [{"code": 131026}]}
    message = {
        "from": "39333",
        "id": "w",
        "timestamp": "1795000000",
        "type": "text",
        "text": {"body": "STOP"},
    }
    system = {
        "type": "user_changed_user_id",
        "user_id": "IT.2",
        "previous_user_id": "IT.1",
        "body": "changed from a to b",
    }
    move = {"id": "s", "timestamp": "1795000000", "type": "system", "system": system}
    call = a_call({"metadata": METADATA, "messages": [message, move], "statuses": [status]})
    named = {"message_template_name": "avviso", "event": "PAUSED"}
    call["entry"] = [*_list(call["entry"]), *_list(a_call(named, field="message_template_status_update")["entry"])]
    webhook = read_webhook(spoiled(call, data))
    assert len(webhook.texts) <= 2 and len(webhook.receipts) <= 1 and webhook.ignored >= 0
    assert len(webhook.moves) <= 1 and len(webhook.templates) <= 1
