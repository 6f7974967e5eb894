"""People registered, counted and removed over HTTP, and never shown; the areas they live in; the API's own papers."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from alerting.actors import Role
from alerting.api.security import NameTaken, NoSuchAuthority, create_actor
from alerting.domain.delivery import Channel
from alerting.persistence import tables
from tests.integration.api_client import NOWHERE_TO_PUBLISH, Town, evacuate, serving
from tests.integration.calcinaia import codes_of

MARIA = {"channel": "whatsapp", "address": "333 123 45 67", "area": "fornacette"}


@pytest.fixture
async def town(database_url: str, tmp_path: Path) -> AsyncIterator[Town]:
    async with serving(database_url, NOWHERE_TO_PUBLISH, "t.", tmp_path) as town:
        yield town


# ── one person ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_person_is_registered_once_and_their_number_is_not_told(town: Town) -> None:
    first = await town.ask("POST", "/v1/recipients", json=MARIA)
    assert (first.status, first.body["created"], first.body["address"]) == (201, True, "+39 … 67")
    again = await town.ask("POST", "/v1/recipients", json=MARIA | {"address": "+39 333-1234567"})
    assert (again.status, again.body["created"], again.body["id"]) == (200, False, first.body["id"])
    (proof,) = await town.rows(tables.Consent)
    assert (proof.what, proof.keyword) == ("join", "registered by staff")
    assert await _areas(town, first.body["id"]) == ["calcinaia", "calcinaia.fornacette"]


async def test_a_removed_person_leaves_no_address_behind(town: Town) -> None:
    recipient = (await town.ask("POST", "/v1/recipients", json=MARIA)).body["id"]
    assert (await town.ask("DELETE", f"/v1/recipients/{recipient}")).status == 204
    addresses = [row for row in await town.rows(tables.Address) if row.recipient_id == recipient]
    assert [(row.sealed, row.fingerprint) for row in addresses] == [(None, None)]
    assert (await town.ask("DELETE", f"/v1/recipients/{recipient}")).status == 404
    assert (await town.ask("DELETE", f"/v1/recipients/{2**70}")).status == 404
    assert (await town.ask("GET", "/v1/recipients/count")).body["recipients"] == 0


async def test_a_public_channel_is_not_removed_by_a_slip(town: Town) -> None:
    (channel,) = [row for row in await town.rows(tables.Recipient) if row.is_channel and row.authority == "calcinaia"]
    refused = await town.ask("DELETE", f"/v1/recipients/{channel.id}")
    assert refused.status == 409
    [row] = [row for row in await town.rows(tables.Address) if row.recipient_id == channel.id]
    by_address = {"authority": "calcinaia", "channel": "telegram", "address": town.seal.open(row.sealed)}
    for what in ("erasures", "exports"):
        refused = await town.ask("POST", f"/v1/recipients/{what}", "admin", json=by_address)
        assert (refused.status, "public channel" in refused.body["detail"]) == (409, True), what
    assert [one.left_at for one in await town.rows(tables.Recipient) if one.id == channel.id] == [None]


async def test_only_staff_of_the_comune_touches_its_people(town: Town) -> None:
    recipient = (await town.ask("POST", "/v1/recipients", json=MARIA)).body["id"]
    for who in ("bruno", "carla", "dpc", "ezio"):
        assert (await town.ask("POST", "/v1/recipients", who, json=MARIA)).status == 403
        assert (await town.ask("DELETE", f"/v1/recipients/{recipient}", who)).status == 403
    assert (await town.ask("POST", "/v1/recipients", json=MARIA | {"authority": "bientina"})).status == 403


async def test_a_wrong_person_is_refused_by_field(town: Town) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"address": "0587 265442"}, "/address"),
        ({"address": "12"}, "/address"),
        ({"address": "\u0000"}, "/address"),
        ({"channel": "piccione"}, "/channel"),
        ({"area": "bientina"}, "/area"),
        ({"point": {"lat": 43.67, "lon": 10.59}}, "/area"),
        ({"area": None, "point": {"lat": 10.595, "lon": 43.673}}, "/point"),
        ({"area": None, "point": {"lat": 41.9, "lon": 12.5}}, "/point"),
        ({"area": None, "point": {"lat": 143.6, "lon": 10.6}}, "/point/lat"),
        ({"nome": "Maria"}, "/nome"),
    ]
    before = len(await town.stored())
    for changes, pointer in wrong:
        refused = await town.ask("POST", "/v1/recipients", json=MARIA | changes)
        assert refused.status == 422 and pointer in refused.pointers, (changes, refused.body)
        assert "265442" not in str(refused.body)
    assert len(await town.stored()) == before
    assert len(await town.audited("refused")) == len(wrong)


async def test_an_exercise_has_people_of_its_own(town: Town) -> None:
    refused = await town.ask("POST", "/v1/recipients", json=MARIA | {"exercise": True})
    assert (refused.status, refused.pointers) == (422, ["/exercise"])
    await _exercises_are_held(town)
    registered = await town.ask("POST", "/v1/recipients", json=MARIA | {"exercise": True})
    live = (await town.ask("POST", "/v1/alerts/preview", json=evacuate())).body
    exercise = (await town.ask("POST", "/v1/alerts/preview", json=evacuate(exercise=True))).body
    assert live["recipients"] - live["place_unknown"] == 0
    assert exercise["recipients"] == 1 and "ESERCITAZIONE" in exercise["text"]
    assert (await town.ask("DELETE", f"/v1/recipients/{registered.body['id']}")).status == 204


async def test_viewers_count_in_tens(town: Town) -> None:
    items = [{"channel": "whatsapp", "address": f"33312{n:05}", "area": "fornacette"} for n in range(23)]
    await town.ask("POST", "/v1/recipients/batch", json={"items": items})
    exact = (await town.ask("GET", "/v1/recipients/count")).body
    assert (exact["recipients"], exact["place_unknown"], exact["rounded"]) == (23, 0, False)
    rounded = (await town.ask("GET", "/v1/recipients/count?area=fornacette", "carla")).body
    assert (rounded["recipients"], rounded["place_unknown"], rounded["rounded"]) == (20, "<10", True)
    assert [share["recipients"] for share in rounded["by_area"]] == [20]
    assert (await town.ask("GET", "/v1/recipients/count?area=pisa")).pointers == ["/area"]


# ── many people ─────────────────────────────────────────────────────────────────────────────────────


async def test_many_are_registered_and_the_wrong_ones_named_by_index(town: Town) -> None:
    items = [
        MARIA,
        MARIA,
        MARIA | {"address": "0587 265442"},
        {"channel": "telegram", "address": "123456789", "point": {"lat": 43.673, "lon": 10.595}},
        MARIA | {"area": "bientina"},
        {"channel": "whatsapp", "address": "333 123 45 68"},
        MARIA | {"address": "333 123 45 69", "area": "calcinaia"},
    ]
    await town.ask("POST", "/v1/recipients", json=MARIA)
    said = (await town.ask("POST", "/v1/recipients/batch", json={"items": items})).body
    assert (said["created"], said["existing"]) == (3, 2)
    assert [(one["index"], one["detail"].split(":")[0]) for one in said["refused"]] == [(2, "address"), (4, "area")]
    counted = (await town.ask("GET", "/v1/recipients/count")).body
    assert (counted["recipients"], counted["place_unknown"]) == (4, 2)
    assert {share["code"]: share["recipients"] for share in counted["by_area"]} == {
        "calcinaia": 3,
        "calcinaia.capoluogo": 0,
        "calcinaia.fornacette": 2,
    }


async def test_the_bulk_way_writes_what_the_single_way_writes(town: Town) -> None:
    await _exercises_are_held(town)
    people: list[dict[str, Any]] = [
        {"channel": "whatsapp", "area": "fornacette"},
        {"channel": "whatsapp", "area": "calcinaia"},
        {"channel": "whatsapp"},
        {"channel": "whatsapp", "point": {"lat": 43.673, "lon": 10.595}},
        {"channel": "whatsapp", "point": {"lat": 43.673, "lon": 10.595}, "exercise": True},
        {"channel": "whatsapp", "also": [{"channel": "telegram", "address": "0"}]},
    ]
    for number, person in enumerate(people):
        await town.ask("POST", "/v1/recipients", json=_numbered(person, number))
    one_by_one = await _written(town)
    for number, person in enumerate(people):
        items = [_numbered(person, 10 + number)]
        await town.ask("POST", "/v1/recipients/batch", json={"items": items})
    both = await _written(town)
    assert both[len(one_by_one) :] == one_by_one and len(one_by_one) == len(people)


async def test_a_full_batch_is_registered_whole_and_one_more_is_too_many(town: Town) -> None:
    items = [
        {"channel": "whatsapp", "address": f"3331{n:06}", "point": {"lat": 43.670 + n % 50 / 1e4, "lon": 10.595}}
        for n in range(5000)
    ]
    said = await town.ask("POST", "/v1/recipients/batch", json={"items": items})
    assert said.body["created"] == 5000, said.body
    async with town.database.read() as session:
        assert await session.scalar(select(func.count()).select_from(tables.Membership)) == 10_000
    too_many = await town.ask(
        "POST", "/v1/recipients/batch", json={"items": [{"channel": "telegram", "address": "1"}] * 5001}
    )
    assert (too_many.status, too_many.pointers) == (422, ["/items"])


async def test_two_batches_with_the_same_people_register_them_once(town: Town) -> None:
    items = [{"channel": "whatsapp", "address": f"33312{n:05}"} for n in range(300)]
    answers = await asyncio.gather(*(town.ask("POST", "/v1/recipients/batch", json={"items": items}) for _ in range(3)))
    assert {answer.status for answer in answers} <= {200, 409}
    assert (await town.ask("GET", "/v1/recipients/count")).body["recipients"] == 300


async def test_a_batch_brings_nobody_back_who_had_left_and_the_counter_does(town: Town) -> None:
    luigi = {"channel": "whatsapp", "address": "333 765 43 21"}
    recipient = (await town.ask("POST", "/v1/recipients", json=MARIA)).body["id"]
    await town.ask("DELETE", f"/v1/recipients/{recipient}")
    said = await town.ask("POST", "/v1/recipients/batch", json={"items": [luigi, MARIA]})
    assert (said.body["created"], said.body["existing"]) == (1, 0)
    [refused] = said.body["refused"]
    assert refused["index"] == 1
    assert "had left" in refused["detail"]
    assert (await town.ask("POST", "/v1/recipients", json=MARIA)).status == 201
    again = await town.ask("POST", "/v1/recipients/batch", json={"items": [luigi, MARIA]})
    assert (again.body["created"], again.body["existing"], again.body["refused"]) == (0, 2, [])


# ── a second address ────────────────────────────────────────────────────────────────────────────────

GINO = {"channel": "telegram", "address": "123456789"}
TURNED = {"channel": "telegram", "address": "123456789", "also": [{"channel": "whatsapp", "address": "333 123 45 67"}]}


async def reached(town: Town, recipient: int) -> list[tuple[int, str, str]]:
    """Where a person is reached, in the order in which it is tried."""
    rows = [row for row in await town.rows(tables.Address) if row.recipient_id == recipient and row.sealed]
    return sorted((row.rank, row.account, town.seal.open(row.sealed)) for row in rows)


BOTH = [(0, "whatsapp.calcinaia", "+393331234567"), (1, "telegram.calcinaia", "123456789")]


async def test_a_person_may_have_a_second_address_and_who_is_there_gets_the_one_they_lack(town: Town) -> None:
    maria = MARIA | {"also": [GINO]}
    for way in ("/v1/recipients", "/v1/recipients/batch"):
        for first, again in ((maria, maria), (MARIA, maria), (maria, MARIA), (maria, TURNED)):
            bodies = [one if way == "/v1/recipients" else {"items": [one]} for one in (first, again)]
            assert (await town.ask("POST", way, json=bodies[0])).status in (200, 201)
            assert (await town.ask("POST", way, json=bodies[1])).status == 200
            (person,) = [row for row in await town.rows(tables.Recipient) if not row.is_channel and not row.left_at]
            assert await reached(town, person.id) == BOTH, (way, first, again)
            preview = (await town.ask("POST", "/v1/alerts/preview", json=evacuate())).body
            assert sum(one["recipients"] for one in preview["by_account"]) - preview["place_unknown"] == 1, "told once"
            assert (await town.ask("DELETE", f"/v1/recipients/{person.id}")).status == 204
            assert await reached(town, person.id) == []
            for one in (MARIA, GINO):  # a batch brings nobody back: it must not know them
                erasure = {"channel": one["channel"], "address": one["address"]}
                assert (await town.ask("POST", "/v1/recipients/erasures", json=erasure)).status == 204
    proofs = [(row.what, str(row.channel)) for row in await town.rows(tables.Consent)]
    assert {proof: proofs.count(proof) for proof in proofs} == {
        (what, channel): 8 for what in ("join", "leave") for channel in ("whatsapp", "telegram")
    }


async def test_an_address_that_is_somebody_elses_is_no_second_address(town: Town) -> None:
    lucia = {"channel": "whatsapp", "address": "333 123 45 68", "area": "fornacette"}
    await town.ask("POST", "/v1/recipients", json=MARIA | {"also": [GINO]})
    before = len(await town.stored())
    wrong = [
        (lucia | {"also": [GINO]}, "/also/0/address", "is already another recipient's: remove that one"),
        (MARIA | {"also": [GINO | {"address": "987654321"}]}, "/also/0/address", "already reached on telegram"),
        (lucia | {"also": [GINO, GINO]}, "/also/1/channel", "telegram is given twice"),
        (lucia | {"also": [MARIA | {"area": None}]}, "/also/0/area", "is not known here"),
        (lucia | {"also": [{"channel": "whatsapp", "address": "333 123 45 69"}]}, "/also/0/channel", "given twice"),
        (lucia | {"also": [GINO | {"address": "x"}]}, "/also/0/address", ""),
        (lucia | {"also": [GINO | {"channel": "piccione"}]}, "/also/0/channel", "is not one of"),
    ]
    for person, pointer, sentence in wrong:
        refused = await town.ask("POST", "/v1/recipients", json=person)
        assert (refused.status, refused.pointers) == (422, [pointer]), (person, refused.body)
        assert sentence in refused.body["detail"] and "987654321" not in str(refused.body)
    assert len(await town.stored()) == before

    items = [lucia | {"also": [GINO]}, wrong[1][0], lucia | {"address": "0587 1"}, lucia, wrong[2][0]]
    said = (await town.ask("POST", "/v1/recipients/batch", json={"items": items})).body
    assert (said["created"], said["existing"]) == (1, 0)
    assert [one["index"] for one in said["refused"]] == [0, 1, 2, 4]
    assert said["refused"][0]["detail"].startswith("also/0/address: is already another recipient's")
    assert said["refused"][1]["detail"].startswith("also/0/address: this person is already reached on telegram")


async def test_of_two_in_one_batch_with_one_address_the_second_is_refused_or_is_the_same_person(town: Town) -> None:
    lucia = {"channel": "whatsapp", "address": "333 123 45 68"}
    items = [MARIA, MARIA | {"also": [GINO]}, lucia | {"also": [GINO]}, TURNED, lucia]
    said = (await town.ask("POST", "/v1/recipients/batch", json={"items": items})).body
    assert (said["created"], said["existing"]) == (2, 2)
    assert [one["index"] for one in said["refused"]] == [2]
    people = [row.id for row in await town.rows(tables.Recipient) if not row.is_channel]
    assert sorted([await reached(town, one) for one in people]) == [BOTH, [(0, "whatsapp.calcinaia", "+393331234568")]]


# ── areas, papers, tokens ───────────────────────────────────────────────────────────────────────────


async def test_areas_are_listed_and_drawn(town: Town) -> None:
    items = (await town.ask("GET", "/v1/areas?authority=calcinaia")).body["items"]
    fornacette = {
        "code": "calcinaia.fornacette",
        "name": "Fornacette",
        "kind": "frazione",
        "parent": "calcinaia",
        "authority": "calcinaia",
        "version": 1,
        "licence": "EUPL-1.2",
        "demonstration": True,
    }
    (found,) = [item for item in items if item["code"] == "calcinaia.fornacette"]
    assert found.items() > fornacette.items() and "Typed by hand" in found["source"]
    assert [item["code"] for item in items] == ["calcinaia", "calcinaia.capoluogo", "calcinaia.fornacette"]
    assert len({item["authority"] for item in (await town.ask("GET", "/v1/areas")).body["items"]}) == 5
    feature = await town.ask("GET", "/v1/areas/calcinaia.fornacette")
    assert feature.headers["Content-Type"] == "application/geo+json"
    assert feature.body["geometry"]["type"] == "Polygon" and feature.body["properties"]["name"] == "Fornacette"
    assert (await town.ask("GET", "/v1/areas/pisa")).status == 404
    assert (await town.ask("GET", "/v1/areas?authority=pisa")).pointers == ["/authority"]
    assert (await town.ask("GET", "/v1/areas", None)).status == 401


async def test_the_api_describes_itself_as_modi_wants(town: Town) -> None:
    found = (await town.ask("GET", "/v1/openapi.json", None)).body
    assert found["info"]["x-summary"] and found["info"]["contact"]["name"] and "/status" in found["paths"]
    for path, operations in found["paths"].items():
        for operation in operations.values():
            assert operation["tags"] and operation["summary"], path
            for status, response in operation["responses"].items():
                assert not status.startswith("4") or list(response["content"]) == ["application/problem+json"], path
            assert list(operation["responses"]["default"]["content"]) == ["application/problem+json"]
    integers = [node for node in _nodes(found) if node.get("type") in ("integer", "number")]
    assert integers and all("format" in node for node in integers)
    assert "HTTPValidationError" not in found["components"]["schemas"]
    guarded = found["paths"]["/alerts"]["post"]
    assert guarded["security"] and "security" not in found["paths"]["/status"]["get"]


async def test_every_answer_carries_its_id_and_careful_headers(town: Town) -> None:
    answer = await town.ask("GET", "/v1/status", None, headers={"X-Request-Id": "sala-operativa-7"})
    assert answer.headers["X-Request-Id"] == "sala-operativa-7"
    assert answer.headers["Cache-Control"] == "no-store" and answer.headers["X-Content-Type-Options"] == "nosniff"
    odd = await town.ask("GET", "/v1/status", None, headers={"X-Request-Id": "due parole"})
    assert odd.headers["X-Request-Id"] != "due parole"


async def test_an_error_of_ours_tells_nothing_of_our_insides(town: Town) -> None:
    alert = await town.drafted()
    async with town.database.write() as session:
        (await session.get_one(tables.Alert, alert)).document = {"infos": [{"headline": "x"}]}
    answer = await town.ask("GET", f"/v1/alerts/{alert}")
    assert answer.status == 500 and answer.headers["X-Request-Id"]
    assert set(answer.body) == {"type", "title", "status", "detail", "instance"} and "KeyError" not in str(answer.body)


async def test_the_figures_show_the_outbox(town: Town) -> None:
    await town.issued()
    figures = (await town.ask("GET", "/metrics", None)).body
    assert 'alerting_outbox_messages{lane="emergency"} 2.0' in figures
    assert 'alerting_outbox_messages{lane="routine"} 0.0' in figures
    assert 'alerting_outbox_oldest_seconds{lane="emergency"}' in figures
    assert (
        'alerting_http_request_seconds_count{method="POST",route="/alerts/{identifier}/issue",status="202"}' in figures
    )


async def test_a_name_is_given_once_and_only_for_an_enrolled_authority(town: Town) -> None:
    (anna,) = [row for row in await town.rows(tables.Actor) if row.name == "anna"]
    assert town.tokens["anna"] not in (anna.token_hash, anna.name) and len(anna.token_hash) == 64
    for name, authority, error in (
        ("anna", None, NameTaken),
        ("gino", "pisa", NoSuchAuthority),
        (" ", None, ValueError),
    ):
        with pytest.raises(error):
            async with town.database.write() as session:
                await create_actor(session, name=name, role=Role.VIEWER, authority=authority, now=anna.created_at)


def _numbered(person: dict[str, Any], number: int) -> dict[str, Any]:
    also = [further | {"address": f"1234567{number:02}"} for further in person.get("also", [])]
    return person | {"address": f"33312345{number:02}", "also": also}


async def _exercises_are_held(town: Town) -> None:
    async with town.database.write() as session:
        account = {"channel": Channel.WHATSAPP, "live": False, "identity": "+393331112223", "settings": {}}
        session.add(tables.ChannelAccount(name="whatsapp.calcinaia.prova", authority="calcinaia", **account))
        await session.flush()
        session.add(tables.ProviderRate(account="whatsapp.calcinaia.prova", rate=80.0, full_rate=80.0))


async def _written(town: Town) -> list[tuple[Any, ...]]:
    """Everything that was written about each person, but ids, addresses and times."""
    recipients = [row for row in await town.rows(tables.Recipient) if not row.is_channel]
    addresses, places = await town.rows(tables.Address), await town.rows(tables.Place)
    consents = await town.rows(tables.Consent)
    told = []
    for person in sorted(recipients, key=lambda row: row.id):
        theirs = sorted((row for row in addresses if row.recipient_id == person.id), key=lambda row: row.rank)
        proofs = [row for address in theirs for row in consents if row.fingerprint == address.fingerprint]
        told.append(
            (
                (person.authority, person.live, person.language, person.located, person.left_at),
                [(row.account, row.rank, row.refused_at, town.seal.open(row.sealed)[:-2]) for row in theirs],
                [(row.label, row.lat, row.lon, row.cell, row.area) for row in places if row.recipient_id == person.id],
                await _areas(town, person.id),
                [(row.authority, row.channel, row.what, row.keyword, row.policy_version) for row in proofs],
            )
        )
    return told


async def _areas(town: Town, recipient: int) -> list[str]:
    async with town.database.read() as session:
        return sorted(await codes_of(session, recipient))


def _nodes(tree: Any) -> list[dict[str, Any]]:
    match tree:
        case dict():
            return [tree, *(node for child in tree.values() for node in _nodes(child))]
        case list():
            return [node for child in tree for node in _nodes(child)]
        case _:
            return []
