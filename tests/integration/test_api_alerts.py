"""An alert over HTTP, from its draft to the outbox, and everything that is refused on the way."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from alerting import audit
from alerting.persistence import tables
from tests.integration.api_client import NOWHERE_TO_PUBLISH, Town, evacuate, running, serving, settings_for

FORNACETTE = [[10.590, 43.670], [10.600, 43.670], [10.600, 43.676], [10.590, 43.676], [10.590, 43.670]]
"""No broker at all: what these tests ask for must not need one."""


@pytest.fixture
async def town(database_url: str, tmp_path: Path) -> AsyncIterator[Town]:
    async with serving(database_url, NOWHERE_TO_PUBLISH, "t.", tmp_path) as town:
        yield town


def _polygon(ring: object) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": [ring]}


# ── the way of an alert ─────────────────────────────────────────────────────────────────────────────


async def test_an_alert_goes_from_draft_to_the_outbox_by_two_people(town: Town) -> None:
    drafted = await town.draft()
    assert drafted.status == 201
    alert = drafted.body["identifier"]
    assert drafted.headers["Location"] == f"/v1/alerts/{alert}"
    assert drafted.body["lane"] == "emergency" and drafted.body["areas"] == ["calcinaia.fornacette"]
    assert drafted.body["state"] == "draft" and drafted.body["drafted_at"].endswith("Z")

    approved = await town.ask("POST", f"/v1/alerts/{alert}/approve", "bruno")
    assert (approved.status, approved.body["approver"]) == (200, "bruno")

    issued = await town.ask("POST", f"/v1/alerts/{alert}/issue")
    assert issued.status == 202 and issued.body["state"] == "issued"

    outbox = await town.rows(tables.OutboxMessage)
    assert [message.routing_key for message in outbox] == ["emergency.met.calcinaia", "cap.emergency.met.calcinaia"]

    read = await town.ask("GET", f"/v1/alerts/{alert}", "carla")
    assert read.body["document"]["infos"][0]["severity"] == "Severe"
    assert "Cosa fare: Lascia i piani bassi" in read.body["text"]
    assert read.body["delivery"]["audience"] is None and read.body["delivery"]["complete"] is False
    assert [entry.action for entry in await town.rows(tables.AuditEntry)][-3:] == ["draft", "approve", "issue"]


async def test_the_progress_is_counted_from_the_ledger(town: Town) -> None:
    alert = await town.issued()
    (dispatch,) = await town.rows(tables.Dispatch)
    async with town.database.write() as session:
        (await session.get_one(tables.Dispatch, dispatch.id)).audience = 5
        for seq, progress in enumerate((0, 2, 5, 7, 10), start=1):
            session.add(tables.Delivery(dispatch_id=dispatch.id, seq=seq, address_id=None, progress=progress))
    delivery = (await town.ask("GET", f"/v1/alerts/{alert}")).body["delivery"]
    told = {name: count for name, count in delivery.items() if count}
    assert told == {"audience": 5, "waiting": 1, "deferred": 1, "accepted": 1, "delivered": 1, "failed": 1, "final": 3}

    async with town.database.write() as session:
        for seq in (1, 2):
            (await session.get_one(tables.Delivery, (dispatch.id, seq))).progress = 6
    assert (await town.ask("GET", f"/v1/alerts/{alert}")).body["delivery"]["complete"] is True


async def test_the_author_never_approves_their_own_alert(town: Town) -> None:
    drafted = await town.ask("POST", "/v1/alerts", "bruno", json=evacuate())
    alert = drafted.body["identifier"]
    for _ in range(2):
        refused = await town.ask("POST", f"/v1/alerts/{alert}/approve", "bruno")
        assert refused.status == 403 and "ask another person" in refused.body["detail"]
    assert (await town.ask("GET", f"/v1/alerts/{alert}")).body["state"] == "draft"
    noted = await town.audited("refused")
    assert [(entry.actor, entry.subject, entry.details["status"]) for entry in noted] == [("bruno", alert, 403)] * 2


async def test_of_two_approvals_or_issues_at_once_one_succeeds(town: Town) -> None:
    alert = await town.drafted()
    for action, done in (("approve", 200), ("issue", 202)):
        answers = await asyncio.gather(
            *(town.ask("POST", f"/v1/alerts/{alert}/{action}", who) for who in ("bruno", "admin") * 3)
        )
        assert sorted(answer.status for answer in answers) == [done, *[409] * 5]
    assert len(await town.rows(tables.Dispatch)) == 1
    assert len(await town.rows(tables.OutboxMessage)) == 2  # the event and the document
    async with town.database.read() as session:
        assert await audit.first_break(session) is None


async def test_a_draft_cannot_be_issued_and_the_answer_says_what_it_is(town: Town) -> None:
    alert = await town.drafted()
    refused = await town.ask("POST", f"/v1/alerts/{alert}/issue")
    assert refused.status == 409 and f"alert {alert} is draft, not approved" in refused.body["detail"]


async def test_what_has_ended_meanwhile_is_not_issued(town: Town) -> None:
    alert = await town.approved()
    async with town.database.write() as session:
        (await session.get_one(tables.Alert, alert)).expires_at = datetime.now(UTC) - timedelta(seconds=1)
    refused = await town.ask("POST", f"/v1/alerts/{alert}/issue")
    assert refused.status == 409 and "draft a new one" in refused.body["detail"]
    assert await town.rows(tables.Dispatch) == []


async def test_cancelling_tells_those_who_were_told(town: Town) -> None:
    alert = await town.issued()
    cancelled = await town.ask("POST", f"/v1/alerts/{alert}/cancel", json={"reason": "Era una prova."})
    assert (cancelled.status, cancelled.body["state"]) == (200, "cancelled")
    telling = await town.ask("GET", f"/v1/alerts/{cancelled.body['cancel']}")
    assert (telling.body["msg_type"], telling.body["lane"], telling.body["cancels"]) == ("Cancel", "flash", alert)
    assert "Era una prova." in telling.body["text"]

    again = await town.ask("POST", f"/v1/alerts/{alert}/cancel", json={"reason": "Ancora."})
    assert again.status == 409


async def test_cancelling_a_draft_tells_nobody(town: Town) -> None:
    alert = await town.drafted()
    cancelled = await town.ask("POST", f"/v1/alerts/{alert}/cancel", json={"reason": "Sbagliata."})
    assert cancelled.body["cancel"] is None
    assert await town.rows(tables.OutboxMessage) == []


async def test_a_list_is_read_page_by_page_and_loses_nothing(town: Town) -> None:
    written = [await town.drafted(headline=f"Avviso {number}") for number in range(5)]
    await town.ask("POST", f"/v1/alerts/{written[0]}/cancel", json={"reason": "Sbagliata."})
    found, cursor = [], ""
    while True:
        page = (await town.ask("GET", f"/v1/alerts?limit=2{cursor}")).body
        found += [item["identifier"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert found == written[::-1]
    assert len((await town.ask("GET", "/v1/alerts?state=cancelled")).body["items"]) == 1
    for wrong in ("cursor=abc", "cursor=%00", "limit=0", "limit=101", "limit=due", "state=perso"):
        refused = await town.ask("GET", f"/v1/alerts?{wrong}")
        assert (refused.status, refused.pointers) == (422, [f"/{wrong.split('=')[0]}"])


# ── one alert in the place of another ───────────────────────────────────────────────────────────────


async def test_an_update_is_drafted_approved_and_issued_like_any_alert(town: Town) -> None:
    original = await town.issued()
    drafted = await town.draft(updates=original, headline="La piena sale ancora", areas=["capoluogo"])
    assert drafted.status == 201, drafted.body
    update = drafted.body["identifier"]
    assert (drafted.body["updates"], drafted.body["msg_type"]) == (original, "Update")
    assert (await town.ask("GET", f"/v1/alerts/{original}")).body["state"] == "issued"
    assert (await town.ask("POST", f"/v1/alerts/{update}/approve", "anna")).status == 403
    assert (await town.ask("POST", f"/v1/alerts/{update}/approve", "bruno")).status == 200
    assert (await town.ask("POST", f"/v1/alerts/{update}/issue")).status == 202
    before = (await town.ask("GET", f"/v1/alerts/{original}")).body
    assert (before["state"], before["updates"], before["ended_at"] is None) == ("superseded", None, False)
    text_of_it = (await town.ask("GET", f"/v1/alerts/{update}")).body["text"]
    assert text_of_it.startswith("Comune di Calcinaia: AGGIORNAMENTO: La piena sale ancora")


async def test_an_update_of_what_does_not_stand_is_refused_by_field(town: Town) -> None:
    original, other = await town.issued(), await town.issued()
    late = await town.approved(updates=original)
    drill = await town.draft(updates=original, exercise=True)
    assert (drill.status, drill.pointers) == (422, ["/exercise"])
    await town.ask("POST", f"/v1/alerts/{original}/cancel", json={"reason": "Errore."})
    for updates in (original, "calcinaia-mai-detto", "../etc"):
        refused = await town.draft(updates=updates)
        assert (refused.status, refused.pointers) == (422, ["/updates"]), refused.body
        preview = await town.ask("POST", "/v1/alerts/preview", json=evacuate(updates=updates))
        assert (preview.status, preview.pointers) == (422, ["/updates"])
    elsewhere = await town.ask(
        "POST", "/v1/alerts", "admin", json=evacuate(updates=other, authority="bientina", areas=["bientina"])
    )
    assert (elsewhere.status, elsewhere.pointers) == (422, ["/updates"])
    too_late = await town.ask("POST", f"/v1/alerts/{late}/issue")
    assert too_late.status == 409 and "was cancelled, and people were told so: draft a new" in too_late.body["detail"]
    assert len(await town.audited("issue")) == 2


async def test_the_preview_of_an_update_counts_those_who_got_the_original_too(town: Town) -> None:
    for number, area in enumerate(["fornacette", "fornacette", "capoluogo"]):
        person = {"channel": "whatsapp", "address": f"33312345{number:02}", "area": area}
        assert (await town.ask("POST", "/v1/recipients", json=person)).status == 201
    original = await town.issued()
    (dispatch,) = await town.rows(tables.Dispatch)
    addresses = [row for row in await town.rows(tables.Address) if row.account == "whatsapp.calcinaia"]
    async with town.database.write() as session:
        for seq, (address, progress) in enumerate(zip(addresses[:2], (7, 0), strict=True), start=1):
            session.add(
                tables.Delivery(
                    dispatch_id=dispatch.id,
                    seq=seq,
                    recipient_id=address.recipient_id,
                    address_id=address.id,
                    progress=progress,
                )
            )

    async def on_whatsapp(**changes: Any) -> int:
        answer = await town.ask("POST", "/v1/alerts/preview", json=evacuate(areas=["capoluogo"], **changes))
        return sum(one["recipients"] for one in answer.body["by_account"] if one["channel"] == "whatsapp")

    assert (await on_whatsapp(), await on_whatsapp(updates=original)) == (1, 2)
    assert len(await town.rows(tables.Alert)) == 1
    update = await town.drafted(updates=original, areas=["capoluogo"])
    stored = (await town.ask("GET", f"/v1/alerts/{update}/preview")).body
    assert [one["recipients"] for one in stored["by_account"] if one["channel"] == "whatsapp"] == [2]
    calm = {"kind": "evento", "colour": None, "risk": None, "instruction": None}
    previewed = (await town.ask("POST", "/v1/alerts/preview", json=evacuate(updates=original, **calm))).body
    assert previewed["lane"] == "emergency", "never slower than what it changes"


# ── the preview ─────────────────────────────────────────────────────────────────────────────────────


async def test_a_preview_counts_people_and_stores_nothing(town: Town) -> None:
    await _fornacette_has(town, 12)
    await _nobody_knows_where(town, 3)
    before = len(await town.rows(tables.AuditEntry))
    seen = (await town.ask("POST", "/v1/alerts/preview", json=evacuate())).body
    # The comune's own Telegram channel is told everything: it is one of those whose place is not known.
    assert (seen["recipients"], seen["place_unknown"], seen["lane"]) == (16, 4, "emergency")
    assert {share["account"]: share["recipients"] for share in seen["by_account"]} == {
        "whatsapp.calcinaia": 15,
        "telegram.calcinaia": 1,
    }
    assert {share["code"]: share["recipients"] for share in seen["by_area"]} == {
        "calcinaia": 12,
        "calcinaia.capoluogo": 0,
        "calcinaia.fornacette": 12,
    }
    lengths = {length["channel"]: (length["characters"], length["most"]) for length in seen["characters"]}
    most = {"whatsapp": 1024, "telegram": 4096, "web_push": 1000}
    assert lengths == {channel: (len(seen["text"]), limit) for channel, limit in most.items()}
    assert seen["minutes"] > 0 or seen["recipients"] < 80
    assert len(await town.rows(tables.AuditEntry)) == before and await town.rows(tables.Alert) == []

    stored = (await town.ask("GET", f"/v1/alerts/{await town.drafted()}/preview")).body
    in_minutes = {"text": "", "texts": []}  # "from now": the minute may have passed
    assert stored | in_minutes == seen | in_minutes


async def test_a_viewer_sees_tens_and_never_a_single_person(town: Town) -> None:
    await _fornacette_has(town, 12)
    seen = (await town.ask("POST", "/v1/alerts/preview", "carla", json=evacuate())).body
    assert (seen["recipients"], seen["place_unknown"], seen["rounded"]) == (10, "<10", True)
    shares = {share["code"]: share["recipients"] for share in seen["by_area"]}
    assert shares == {"calcinaia": 10, "calcinaia.capoluogo": "<10", "calcinaia.fornacette": 10}


async def test_a_drawn_fence_is_previewed_like_an_area(town: Town) -> None:
    inside = {"channel": "whatsapp", "address": "3331234567", "point": {"lat": 43.673, "lon": 10.595}}
    outside = {"channel": "whatsapp", "address": "3331234568", "point": {"lat": 43.690, "lon": 10.615}}
    for person in (inside, outside):
        assert (await town.ask("POST", "/v1/recipients", json=person)).status == 201
    said = evacuate(areas=None, geofence=_polygon(FORNACETTE), geofence_name="Fornacette bassa")
    seen = (await town.ask("POST", "/v1/alerts/preview", json=said)).body
    assert (seen["recipients"], seen["place_unknown"]) == (2, 1)
    assert "Dove: Fornacette bassa" in seen["text"]


async def test_where_an_alert_is_for_can_be_read_as_it_was_decided(town: Town) -> None:
    circle = {
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": [10.6, 43.68]},
        "properties": {"radius_km": 0.5},
    }
    said = evacuate(areas=["calcinaia"], geofence=circle, left_out={"areas": ["fornacette"]}, cut_at_border=True)
    alert = (await town.ask("POST", "/v1/alerts", json=said)).body["identifier"]
    found = (await town.ask("GET", f"/v1/alerts/{alert}/geofence")).body
    comune, drawn, border, left_out = found["features"]
    means = [(one["properties"]["means"], one["properties"].get("role")) for one in found["features"]]
    assert means == [("area", None), ("drawn", None), ("drawn", "within"), ("left_out", None)]
    assert border["geometry"] == comune["geometry"]  # it reached over that, and was cut
    boundary = (await town.ask("GET", "/v1/areas/calcinaia")).body["geometry"]
    assert (comune["geometry"], comune["properties"]["version"]) == (boundary, 1)
    assert (drawn["geometry"], drawn["properties"]["radius_km"]) == (circle["geometry"], 0.5)
    assert left_out["geometry"] == (await town.ask("GET", "/v1/areas/calcinaia.fornacette")).body["geometry"]
    assert (await town.ask("GET", "/v1/alerts/nobody/geofence")).status == 404


# ── who may ─────────────────────────────────────────────────────────────────────────────────────────


async def test_nobody_without_a_good_token_is_read(town: Town) -> None:
    for headers in ({}, {"Authorization": "Bearer al_indovinato"}, {"Authorization": "Basic YTpi"}):
        answer = await town.ask("POST", "/v1/alerts", None, data=b"{{{", headers=headers)
        assert answer.status == 401 and answer.headers["WWW-Authenticate"] == "Bearer"
    assert len(await town.stored()) == len(await _channels(town)) and await town.audited("refused") == []


async def test_a_revoked_token_counts_no_more(town: Town) -> None:
    async with town.database.write() as session:
        for actor in await town.rows(tables.Actor):
            if actor.name == "anna":
                (await session.get_one(tables.Actor, actor.id)).revoked_at = datetime.now(UTC)
    assert (await town.draft()).status == 401


WALLS: list[tuple[str, str, int]] = [
    ("carla", "draft", 403),
    ("dpc", "draft", 201),
    ("carla", "approve", 403),
    ("anna", "approve", 403),
    ("dpc", "approve", 403),
    ("carla", "issue", 403),
    ("dpc", "issue", 403),
    ("bruno", "issue", 202),
    ("carla", "cancel", 403),
    ("dpc", "cancel", 403),
    ("ezio", "approve", 403),
    ("ezio", "issue", 403),
    ("ezio", "cancel", 403),
    ("ezio", "read", 403),
    ("ezio", "preview", 403),
    ("admin", "cancel", 200),
    ("dpc", "read", 200),
    ("carla", "preview", 200),
]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_roles_and_authorities_are_walls(town: Town) -> None:
    walls = 0
    for who, action, status in WALLS:
        alert = await (town.drafted() if action == "approve" else town.approved())
        asked: dict[str, tuple[str, str, dict[str, Any]]] = {
            "draft": ("POST", "/v1/alerts", {"json": evacuate()}),
            "read": ("GET", f"/v1/alerts/{alert}", {}),
            "preview": ("GET", f"/v1/alerts/{alert}/preview", {}),
            "cancel": ("POST", f"/v1/alerts/{alert}/cancel", {"json": {"reason": "Basta."}}),
        }
        method, path, more = asked.get(action, ("POST", f"/v1/alerts/{alert}/{action}", {}))
        answer = await town.ask(method, path, who, **more)
        assert answer.status == status, (who, action, answer.body)
        walls += status == 403
    assert len(await town.audited("refused")) == walls


async def test_a_token_for_one_comune_cannot_speak_for_another(town: Town) -> None:
    refused = await town.draft(authority="bientina", areas=["bientina"])
    assert refused.status == 403
    assert (await town.draft("admin", authority="bientina", areas=["bientina"])).status == 201
    unsaid = await town.draft("admin")
    assert (unsaid.status, unsaid.pointers) == (422, ["/authority"])
    assert (await town.ask("GET", "/v1/alerts?authority=bientina")).status == 403
    assert (await town.ask("GET", "/v1/alerts")).body["items"] == []


# ── bad input ───────────────────────────────────────────────────────────────────────────────────────

OPEN_RING = FORNACETTE[:-1]
CROSSING = [[10.590, 43.670], [10.600, 43.676], [10.600, 43.670], [10.590, 43.676], [10.590, 43.670]]
SWAPPED = [[lat, lon] for lon, lat in FORNACETTE]
BEYOND = [[10.590, 43.600], [10.600, 43.600], [10.600, 43.676], [10.590, 43.676], [10.590, 43.600]]
BY_MAP: dict[str, Any] = {"areas": None}


BAD: list[tuple[dict[str, Any], str | None, str]] = [
    ({"areas": ["fornacete"]}, "/areas/0", "did you mean"),
    ({"areas": ["bientina"]}, "/areas/0", "no area is called"),
    (BY_MAP, "/areas", "names no place"),
    (BY_MAP | {"geofence": _polygon(OPEN_RING)}, "/geofence", "not closed"),
    (BY_MAP | {"geofence": _polygon(CROSSING)}, "/geofence", "cross"),
    (BY_MAP | {"geofence": _polygon(SWAPPED)}, "/geofence", "exchange"),
    (BY_MAP | {"geofence": _polygon(BEYOND)}, "/geofence", "outside the territory"),
    (BY_MAP | {"geofence": _polygon([])}, "/geofence", ""),
    (BY_MAP | {"geofence": {"type": "Point", "coordinates": [10.59, 43.67]}}, "/geofence", "radius_km"),
    ({"geofence": "Fornacette"}, "/geofence", "object"),
    ({"expires": "2020-01-01T00:00:00+01:00"}, "/expires", "not in the future"),
    ({"expires": "2027-01-01T00:00:00"}, "/expires", "no offset"),
    ({"expires": "9999-12-31T23:59:59-12:00"}, "/expires", "check the date"),
    ({"expires": 1795000000}, "/expires", "RFC 3339"),
    ({"expires": None}, "/expires", "missing"),
    ({"instruction": ""}, "/instruction", "must tell people what to do"),
    ({"instruction": "  ", "colour": "rossa"}, "/instruction", "must tell people what to do"),
    ({"description": "L'Arno sale. " * 90}, "/description", "too long for whatsapp"),
    ({"description": "Arno\u0000"}, "/description", "control character"),
    ({"description": "Arno \ud83c"}, "/description", "half a character"),
    ({"headline": "A" * 161}, "/headline", "160"),
    ({"headline": 7}, "/headline", "string"),
    ({"kind": "grandine"}, "/kind", "'grandine' is not one of 'allerta-meteo'"),
    ({"colour": "verde"}, "/colour", "is not one of"),
    ({"kind": "evento", "risk": None}, "/colour", "belongs to allerta-meteo"),
    ({"web": "javascript:alert(1)"}, "/web", "https://"),
    ({"exercise": "no"}, "/exercise", "boolean"),
    ({"urgente": True}, "/urgente", "not known here"),
    ({"authority": "pisa"}, None, "another authority"),
]


async def test_bad_input_names_the_field_and_stores_nothing(town: Town) -> None:
    before = len(await town.stored())
    for number, (changes, pointer, says) in enumerate(BAD, start=1):
        for path in ("/v1/alerts", "/v1/alerts/preview"):
            refused = await town.ask("POST", path, json=evacuate(**changes))
            told = (changes, refused.body)
            assert refused.status == (422 if pointer else 403), told
            assert pointer is None or pointer in refused.pointers, told
            assert says in refused.body["detail"], told
        noted = await town.audited("refused")
        assert len(noted) == 2 * number and noted[-1].actor == "anna"
    assert len(await town.stored()) == before


async def test_everything_wrong_is_said_at_once(town: Town) -> None:
    refused = await town.draft(headline="", description="", areas=["nessuno"])
    assert refused.pointers == ["/headline", "/description", "/areas/0"]


async def test_what_is_no_json_is_refused_before_anything_else(town: Town) -> None:
    for body in (b"{{{", b"\xff\xfe", b'{"a":', b"[" * 100_000, b"1" * 5000):
        refused = await town.ask("POST", "/v1/alerts", data=body, headers={"Content-Type": "application/json"})
        assert refused.status in (400, 422), body[:20]
        assert "JSON" in refused.body["detail"]
    empty = await town.ask("POST", "/v1/alerts", headers={"Content-Type": "application/json"})
    assert empty.status == 422
    assert len(await town.audited("refused")) == 6


async def test_another_content_type_is_refused_by_name(town: Town) -> None:
    refused = await town.ask("POST", "/v1/alerts", data={"kind": "avviso"})
    assert refused.status == 415 and "application/json" in refused.body["detail"]


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_of_five_megabytes_is_not_read(town: Town, announced: bool) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(80):
            yield b" " * 65536

    body: Any = BytesIO(b" " * 5_242_880) if announced else pieces()
    refused = await town.ask("POST", "/v1/alerts", data=body, headers={"Content-Type": "application/json"})
    assert refused.status == 413 and "1,000,000 bytes" in refused.body["detail"]
    assert len(await town.audited("refused")) == 1


async def test_unknown_paths_methods_and_alerts_are_problems_too(town: Town) -> None:
    assert (await town.ask("GET", "/v1/alarms")).status == 404
    assert (await town.ask("GET", "/")).status == 404
    wrong = await town.ask("DELETE", "/v1/alerts")
    assert (wrong.status, wrong.headers["Allow"]) == (405, "GET, POST")
    assert "only GET, POST" in wrong.body["detail"]
    for identifier in ("calcinaia-mai", "%00", "..%2f", "è", "a" * 200):
        assert (await town.ask("GET", f"/v1/alerts/{identifier}")).status == 404
        assert (await town.ask("POST", f"/v1/alerts/{identifier}/issue")).status == 404


# ── when something is down ──────────────────────────────────────────────────────────────────────────


async def test_without_a_broker_an_alert_is_taken_and_the_promise_kept(town: Town) -> None:
    await town.issued()
    status = await town.ask("GET", "/v1/status", None)
    assert (status.status, status.body["status"], status.body["broker"]) == (200, "degraded", "away")
    assert status.body["outbox"]["emergency"]["messages"] == 2  # the event and the document
    assert status.body["outbox"]["emergency"]["oldest_seconds"] >= 0


@pytest.mark.parametrize(
    "unreachable", ["postgresql+psycopg://nobody@127.0.0.1:9/none", "sqlite+aiosqlite:////nowhere/a.db"]
)
async def test_without_a_database_nothing_is_promised(unreachable: str, tmp_path: Path) -> None:
    from aiohttp import ClientSession

    settings = settings_for(unreachable, NOWHERE_TO_PUBLISH, "t.", tmp_path)
    async with running(settings) as url, ClientSession() as http:
        for method, path in (("POST", "/v1/alerts"), ("GET", "/v1/alerts"), ("GET", "/v1/status")):
            async with http.request(method, url + path, headers={"Authorization": "Bearer al_x"}) as answer:
                assert answer.status == 503 and answer.headers["Retry-After"]
                said = await answer.json(content_type="application/problem+json")
                assert "database" in said["detail"]
        async with http.get(f"{url}/metrics") as figures:
            assert figures.status == 200


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_database_that_comes_back_is_used_again(town: Town) -> None:
    alert = await town.drafted()
    killing = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                  WHERE datname = current_database() AND pid <> pg_backend_pid()"""
    for _ in range(5):  # whoever follows the atlas may be the one who finds its connection dead, once a second
        async with town.database.read() as session:
            await session.execute(text(killing))
        lost = await town.ask("GET", f"/v1/alerts/{alert}", "bruno")
        if lost.status == 503:
            break
    assert lost.status == 503 and lost.headers["Retry-After"]
    assert (await town.ask("POST", f"/v1/alerts/{alert}/approve", "bruno")).status == 200


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_issuing_answers_fast(town: Town) -> None:
    alerts = [await town.approved() for _ in range(30)]
    seconds = []
    for alert in alerts:
        started = time.perf_counter()
        assert (await town.ask("POST", f"/v1/alerts/{alert}/issue")).status == 202
        seconds.append(time.perf_counter() - started)
    p50 = sorted(seconds)[15]
    print(f"issue over HTTP on PostgreSQL: p50 {p50 * 1000:.1f} ms, worst {max(seconds) * 1000:.1f} ms")
    assert p50 < 0.05  # the aim is 15 ms on a machine of its own; tests share theirs


# ── who lives there ─────────────────────────────────────────────────────────────────────────────────


async def _fornacette_has(town: Town, people: int) -> None:
    items = [{"channel": "whatsapp", "address": f"33312{n:05}", "area": "fornacette"} for n in range(people)]
    assert (await town.ask("POST", "/v1/recipients/batch", json={"items": items})).body["created"] == people


async def _nobody_knows_where(town: Town, people: int) -> None:
    items = [{"channel": "whatsapp", "address": f"34712{n:05}"} for n in range(people)]
    assert (await town.ask("POST", "/v1/recipients/batch", json={"items": items})).body["created"] == people


async def _channels(town: Town) -> list[Any]:
    """What enrolling left: the public channels, which are recipients."""
    return [row for row in await town.stored() if isinstance(row, tables.Recipient) and row.is_channel]
