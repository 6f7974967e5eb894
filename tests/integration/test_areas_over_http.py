"""Areas and maps over HTTP, a person's places, and what a role that sees no person may learn of all these."""

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import shapely
from sqlalchemy import select

from alerting import atlas, authorities, surveying
from alerting.actors import Role
from alerting.api import areas
from alerting.api.security import create_actor
from alerting.persistence import tables
from alerting.persistence.migrations import migrate
from geo.areas import Area, AreaKind
from geo.geojson import parse_geojson, to_geojson
from geo.shapes import Geofence
from tests.integration.api_client import NOWHERE_TO_PUBLISH, Answer, Town, evacuate, running, serving
from tests.integration.calcinaia import one_database
from tests.integration.engine import until
from tests.integration.surveys import (
    CAPOLUOGO,
    COMUNE,
    FORNACETTE,
    GAINED,
    KEPT,
    LOST,
    NEW_FORNACETTE,
    area,
    resettled,
    ring,
    taken,
)

NEXT = area(FORNACETTE, NEW_FORNACETTE)
VICOPISANO = Area(
    "050038", "Vicopisano", AreaKind.COMUNE, Geofence((ring((43.70, 10.57), (43.70, 10.60), (43.72, 10.58)),))
)
AT_HOME = {"label": "casa", "point": {"lat": KEPT.lat, "lon": KEPT.lon}}
AT_WORK = {"label": "lavoro", "area": "capoluogo"}
MARIA = {"channel": "whatsapp", "address": "333 123 45 67"}


@pytest.fixture
async def town(database_url: str, tmp_path: Path) -> AsyncIterator[Town]:
    async with serving(database_url, NOWHERE_TO_PUBLISH, "t.", tmp_path) as town:
        yield town


@asynccontextmanager
async def set_otherwise(town: Town, **settings: Any) -> AsyncIterator[Town]:
    """Another process of the same town, with other settings."""
    async with running(town.settings.model_copy(update=settings)) as url:
        yield replace(town, url=url)


async def surveyed(town: Town, *outlines: Area) -> None:
    """Taken in, serving, and known to the API."""
    now = datetime.now(UTC)
    changes = await taken(town.database, *outlines, now=now)
    await resettled(town.database, now)
    of_ours = {one.area.code: one.area.version for one in changes if one.authority == COMUNE}

    async def is_known() -> bool:
        alert = await town.drafted(areas=list(of_ours))
        (row,) = [one for one in await town.rows(tables.Alert) if one.identifier == alert]
        return {one["code"]: one["version"] for one in row.geofence["areas"]} == of_ours

    if of_ours:
        await until(is_known)


# ── areas ───────────────────────────────────────────────────────────────────────────────────────────


async def test_areas_are_listed_by_kind_as_they_serve(town: Town) -> None:
    before = (await town.ask("GET", "/v1/areas?authority=calcinaia")).body["items"]
    assert [(one["code"], one["kind"], one["version"], one["demonstration"]) for one in before] == [
        (COMUNE, "comune", 1, True),
        (CAPOLUOGO, "frazione", 1, True),
        (FORNACETTE, "frazione", 1, True),
    ]
    await surveyed(town, NEXT, VICOPISANO)
    frazioni = (await town.ask("GET", "/v1/areas?authority=calcinaia&kind=frazione", "carla")).body["items"]
    assert [(one["code"], one["version"], one["source"]) for one in frazioni] == [
        (CAPOLUOGO, 1, before[1]["source"]),
        (FORNACETTE, 2, "Rilievo 2026"),
    ]
    comuni = (await town.ask("GET", "/v1/areas?kind=comune")).body["items"]
    assert {one["code"]: one["authority"] for one in comuni} == {
        **{code: code for code in authorities.load()},
        "050038": None,  # nobody here speaks of it
    }
    assert (await town.ask("GET", "/v1/areas?kind=custom")).body["items"] == []
    assert (await town.ask("GET", "/v1/areas?kind=quartiere")).pointers == ["/kind"]
    assert (await town.ask("GET", "/v1/areas?authority=pisa")).pointers == ["/authority"]
    assert (await town.ask("GET", "/v1/areas", None)).status == 401


async def test_an_area_is_read_as_it_serves_or_in_any_version_there_was(town: Town) -> None:
    old = (await town.ask("GET", f"/v1/areas/{FORNACETTE}")).body
    await surveyed(town, NEXT)
    new = await town.ask("GET", f"/v1/areas/{FORNACETTE}")
    assert new.headers["Content-Type"] == "application/geo+json"
    assert (old["properties"]["version"], new.body["properties"]["version"]) == (1, 2)
    assert parse_geojson(new.body["geometry"]) == parse_geojson(to_geojson(NEXT.fence))
    again = (await town.ask("GET", f"/v1/areas/{FORNACETTE}?version=1")).body
    assert again["geometry"] == old["geometry"]
    for path in ("/v1/areas/fornacette", f"/v1/areas/{FORNACETTE}?version=9", "/v1/areas/%00"):
        assert (await town.ask("GET", path)).status == 404
    for version in ("0", "-1", "uno"):
        assert (await town.ask("GET", f"/v1/areas/{FORNACETTE}?version={version}")).status == 422


# ── maps ────────────────────────────────────────────────────────────────────────────────────────────


def _outline(answer: Answer, code: str) -> shapely.Geometry:
    (found,) = [one for one in answer.body["features"] if one["id"] == code]
    return shapely.from_geojson(json.dumps(found["geometry"]))


async def test_outlines_are_read_again_only_when_they_have_changed(town: Town) -> None:
    path = "/v1/areas/outlines?authority=calcinaia"
    first = await town.ask("GET", path)
    tag = first.headers["ETag"]
    assert first.status == 200 and first.headers["Content-Type"] == "application/geo+json"
    known = await town.ask("GET", path, headers={"If-None-Match": tag})
    assert (known.status, known.body, known.headers["ETag"]) == (304, "", tag)
    assert (await town.ask("GET", path, headers={"If-None-Match": '"other"'})).status == 200
    await surveyed(town, NEXT)
    changed = await town.ask("GET", path, headers={"If-None-Match": tag})
    assert changed.status == 200 and changed.headers["ETag"] != tag
    assert not _outline(changed, FORNACETTE).equals(_outline(first, FORNACETTE))
    for wrong in ("tolerance_m=-1", "tolerance_m=1001", "tolerance_m=nan", "kind=x", "authority=pisa"):
        assert (await town.ask("GET", f"/v1/areas/outlines?{wrong}")).status == 422
    assert (await town.ask("GET", path, None)).status == 401


@one_database
@pytest.mark.parametrize("tolerance", [0, 1, 50, 200, 1000])
async def test_outlines_are_valid_and_neighbours_keep_one_border(town: Town, tolerance: float) -> None:
    answer = await town.ask("GET", f"/v1/areas/outlines?authority=calcinaia&tolerance_m={tolerance}")
    for feature in answer.body["features"]:
        shape = shapely.from_geojson(json.dumps(feature["geometry"]))
        assert shapely.is_valid(shape) and shape.area > 0
        assert shape.geom_type in ("Polygon", "MultiPolygon")
        parts = shapely.get_parts(shape)
        assert all(shapely.is_ccw(part.exterior) for part in parts)  # RFC 7946, 3.1.6
        assert feature["properties"]["code"] == feature["id"] and "source" not in feature["properties"]
    fornacette, capoluogo = _outline(answer, FORNACETTE), _outline(answer, CAPOLUOGO)
    shared = shapely.intersection(fornacette, capoluogo)
    assert shared.area < 1e-9  # ten square metres
    border = authorities.load()[COMUNE].territory.gazetteer
    exact = [border.by_code(code).fence.planar for code in (FORNACETTE, CAPOLUOGO)]
    as_drawn = shapely.intersection(*exact).length
    assert as_drawn > 0.005 and shared.length == pytest.approx(as_drawn, rel=0.25)
    assert int(answer.headers["Content-Length"]) < 4000


@one_database
async def test_a_map_of_all_that_is_known_is_valid_though_areas_overlap(town: Town) -> None:
    over_it = replace(VICOPISANO, code="050099", name="Altrove", fence=NEW_FORNACETTE)
    speck = replace(VICOPISANO, code="050100", fence=Geofence((ring((43.7, 10.5), (43.7, 10.5001), (43.7001, 10.5)),)))
    await surveyed(town, VICOPISANO, over_it, speck)
    answer = await town.ask("GET", "/v1/areas/outlines?tolerance_m=300")
    features = answer.body["features"]
    assert len(features) == len((await town.ask("GET", "/v1/areas")).body["items"])
    for feature in features:
        shape = shapely.from_geojson(json.dumps(feature["geometry"]))
        assert shapely.is_valid(shape) and shape.area > 0, feature["id"]


@one_database
async def test_many_different_maps_asked_for_at_once_are_all_drawn(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(areas, "MOST_MAPS", 2)
    paths = [f"/v1/areas/outlines?tolerance_m={n / 10}" for n in range(60)] * 2
    answers = await asyncio.gather(*(town.ask("GET", path) for path in paths))
    assert {answer.status for answer in answers} == {200}


@one_database
async def test_two_towns_in_one_process_keep_their_maps_apart(town: Town, tmp_path: Path) -> None:
    """As the tests do: an edition says nothing of whose it is."""
    here = await town.ask("GET", "/v1/areas/outlines?kind=frazione")
    other = tmp_path / "altro"
    other.mkdir()
    url = f"sqlite+aiosqlite:///{other / 'altro.db'}"
    await migrate(url)
    async with serving(url, NOWHERE_TO_PUBLISH, "t.", other) as elsewhere:
        async with elsewhere.database.write() as session:
            for row in await session.scalars(select(tables.Area).where(tables.Area.kind == AreaKind.FRAZIONE)):
                row.name = "Altrove"
        there = await elsewhere.ask("GET", "/v1/areas/outlines?kind=frazione")
    assert "Altrove" in str(there.body) and "Altrove" not in str(here.body)


async def test_a_map_has_tiles_only_where_the_installation_says_so(town: Town) -> None:
    plain = (await town.ask("GET", "/v1/map")).body
    west, south, east, north = plain["bbox"]
    assert west < KEPT.lon < east and south < KEPT.lat < north
    assert (plain["tiles"], plain["attribution"]) == (None, "")
    assert plain["sources"] == [authorities.load()[COMUNE].territory.comune.source]
    await surveyed(town, NEXT)
    assert "Rilievo 2026" in (await town.ask("GET", "/v1/map")).body["sources"]
    tiles = "https://tiles.example/{z}/{x}/{y}.png"
    async with set_otherwise(town, map_tiles=tiles, map_attribution="© OpenStreetMap") as other:
        found = (await other.ask("GET", "/v1/map", "carla")).body
        assert (found["tiles"], found["attribution"]) == (tiles, "© OpenStreetMap")
    assert (await town.ask("GET", "/v1/map", "admin")).pointers == ["/authority"]
    assert (await town.ask("GET", "/v1/map?authority=bientina", "admin")).body["authority"] == "bientina"
    assert (await town.ask("GET", "/v1/map?authority=bientina")).status == 403


@one_database
async def test_a_process_knows_what_serves_before_its_first_answer(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    await taken(town.database, NEXT, now=datetime.now(UTC))

    async def never(*_: object) -> None:
        await asyncio.sleep(3600)

    monkeypatch.setattr(atlas, "follow", never)
    async with set_otherwise(town) as other:
        alert = await other.drafted()
    (row,) = [one for one in await town.rows(tables.Alert) if one.identifier == alert]
    assert row.geofence["areas"] == [{"code": FORNACETTE, "version": 2}]


# ── a person's places ───────────────────────────────────────────────────────────────────────────────


async def test_a_person_has_several_places_and_all_of_them_are_said_anew(town: Town) -> None:
    person = (await town.ask("POST", "/v1/recipients", json=MARIA)).body["id"]
    path = f"/v1/recipients/{person}/places"
    assert (await town.ask("GET", path)).body == {"id": person, "authority": COMUNE, "located": False, "places": []}
    said = await town.ask("PUT", path, json={"places": [AT_WORK, AT_HOME]})
    assert said.status == 200 and said.body["located"]
    read = (await town.ask("GET", path)).body
    assert [(one["label"], one["area"], one["areas"]) for one in read["places"]] == [
        ("casa", None, [COMUNE, FORNACETTE]),
        ("lavoro", CAPOLUOGO, [COMUNE, CAPOLUOGO]),
    ]
    assert read["places"][0]["point"] == AT_HOME["point"]
    for areas_, told in ((["fornacette"], 1), (["capoluogo"], 1)):
        seen = (await town.ask("POST", "/v1/alerts/preview", json=evacuate(areas=areas_))).body
        assert seen["recipients"] - seen["place_unknown"] == told
    assert (await town.ask("PUT", path, json={"places": []})).body == {
        "id": person, "authority": COMUNE, "located": False, "places": [],
    }  # fmt: skip
    assert await town.rows(tables.Membership) == []
    (first, second) = await town.audited("place")
    assert (first.details["places"], second.details["places"]) == (2, 0) and "43." not in str(first.details)


async def test_wrong_places_are_refused_by_field_and_change_nothing(town: Town) -> None:
    person = (await town.ask("POST", "/v1/recipients", json=MARIA | {"area": "fornacette"})).body["id"]
    path = f"/v1/recipients/{person}/places"
    before = (await town.ask("GET", path)).body
    wrong: list[tuple[list[dict[str, Any]], str]] = [
        ([AT_HOME, AT_WORK | {"label": "casa"}], "/places/1/label"),
        ([AT_HOME, {"label": "lavoro"}], "/places/1"),
        ([{"label": "casa", "point": {"lat": 41.9, "lon": 12.5}}], "/places/0/point"),
        ([{"label": "casa", "point": {"lat": KEPT.lon, "lon": KEPT.lat}}], "/places/0/point"),
        ([{"label": "casa", "point": {"lat": 91, "lon": 10}}], "/places/0/point/lat"),
        ([AT_HOME | {"area": "fornacette"}], "/places/0/area"),
        ([{"label": "casa", "area": "bientina.quattro-strade"}], "/places/0/area"),
        ([{"label": "barca", "area": "fornacette"}], "/places/0/label"),
        ([AT_HOME] * 6, "/places"),
    ]
    for places, pointer in wrong:
        refused = await town.ask("PUT", path, json={"places": places})
        assert (refused.status, refused.pointers) == (422, [pointer]), refused.body
    assert (await town.ask("PUT", path, json={})).status == 422
    assert (await town.ask("GET", path)).body == before
    both = await town.ask("POST", "/v1/recipients", json=MARIA | {"area": "fornacette", "places": [AT_HOME]})
    assert both.pointers == ["/places"]


async def test_only_staff_of_the_comune_reads_and_writes_places_and_a_channel_has_none(town: Town) -> None:
    async with town.database.write() as session:
        token = await create_actor(
            session, name="franca", role=Role.OPERATOR, authority="bientina", now=datetime.now(UTC)
        )
    town.tokens["franca"] = token
    person = (await town.ask("POST", "/v1/recipients", json=MARIA | {"places": [AT_HOME]})).body["id"]
    (channel,) = [row for row in await town.rows(tables.Recipient) if row.is_channel and row.authority == COMUNE]
    ways: list[tuple[str, dict[str, Any]]] = [("GET", {}), ("PUT", {"json": {"places": [AT_WORK]}})]
    for method, more in ways:
        for who in ("bruno", "carla", "dpc", "ezio", "franca"):
            assert (await town.ask(method, f"/v1/recipients/{person}/places", who, **more)).status == 403
        assert (await town.ask(method, f"/v1/recipients/{person}/places", None, **more)).status == 401
        assert (await town.ask(method, f"/v1/recipients/{channel.id}/places", **more)).status == 409
        for nobody in (person + 99, 0, 2**63, 2**70):
            assert (await town.ask(method, f"/v1/recipients/{nobody}/places", **more)).status == 404
    await town.ask("DELETE", f"/v1/recipients/{person}")
    assert (await town.ask("GET", f"/v1/recipients/{person}/places")).status == 404
    assert (await town.ask("PUT", f"/v1/recipients/{person}/places", json={"places": []})).status == 404


async def test_the_places_of_who_named_an_area_that_is_no_more_are_still_read(town: Town) -> None:
    person = (await town.ask("POST", "/v1/recipients", json=MARIA | {"places": [AT_WORK, AT_HOME]})).body["id"]
    async with town.database.write() as session:
        await surveying.end(session, CAPOLUOGO, actor="anna", now=datetime.now(UTC))
    path = f"/v1/recipients/{person}/places"

    async def is_known() -> bool:
        return (await town.draft(areas=["capoluogo"])).status == 422

    await until(is_known)
    read = await town.ask("GET", path)
    assert read.status == 200
    assert [(one["area"], one["areas"]) for one in read.body["places"]] == [
        (None, [COMUNE, FORNACETTE]),
        (CAPOLUOGO, []),
    ]
    assert (await town.ask("PUT", path, json={"places": [AT_WORK]})).pointers == ["/places/0/area"]


async def test_two_who_say_a_persons_places_at_once_leave_those_of_one(town: Town) -> None:
    person = (await town.ask("POST", "/v1/recipients", json=MARIA)).body["id"]
    path = f"/v1/recipients/{person}/places"
    for _ in range(5):
        await asyncio.gather(
            *(town.ask("PUT", path, json={"places": [place]}) for place in (AT_HOME, AT_WORK, AT_HOME, AT_WORK))
        )
        assert len((await town.ask("GET", path)).body["places"]) == 1
        assert len(await town.rows(tables.Membership)) == 2


async def test_of_who_is_removed_while_their_places_are_written_none_stays(town: Town) -> None:
    for number in range(8):
        one = MARIA | {"address": f"333 123 45 {number:02}"}
        person = (await town.ask("POST", "/v1/recipients", json=one)).body["id"]
        path = f"/v1/recipients/{person}"
        written, removed = await asyncio.gather(
            town.ask("PUT", f"{path}/places", json={"places": [AT_HOME]}), town.ask("DELETE", path)
        )
        assert written.status in (200, 404) and removed.status == 204
    assert await town.rows(tables.Place) == await town.rows(tables.Membership) == []


# ── what a role that sees no person may learn ───────────────────────────────────────────────────────

HOUSE = {
    "type": "Feature",
    "geometry": {"type": "Point", "coordinates": [KEPT.lon, KEPT.lat]},
    "properties": {"radius_km": 0.02},
}
AROUND_THE_HOUSE = {"areas": None, "geofence": HOUSE, "geofence_name": "via Morandi 1"}


def with_prices(folder: Path, **euro: float) -> Path:
    """The comuni's files, Calcinaia's with the price of a text on some of its channels."""
    shutil.copytree(authorities.FOLDER, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    file = folder / "calcinaia.toml"
    text = re.sub(r"euro_per_text = .*\n", "", file.read_text())
    for channel, price in euro.items():
        text = text.replace(f'channel = "{channel}"\n', f'channel = "{channel}"\neuro_per_text = {price}\n')
    file.write_text(text)
    return folder


async def register(town: Town, people: int, first: int = 0, **place: Any) -> None:
    items = [{"channel": "whatsapp", "address": f"33312{n:05}", **place} for n in range(first, first + people)]
    said = await town.ask("POST", "/v1/recipients/batch", json={"items": items})
    assert said.body["created"] == people


async def test_around_one_house_a_viewer_does_not_learn_whether_somebody_there_subscribed(
    town: Town, tmp_path: Path
) -> None:
    folder = with_prices(tmp_path / "comuni", whatsapp=0.05, telegram=0.0)
    async with set_otherwise(town, authorities_folder=folder) as priced:
        said = evacuate(**AROUND_THE_HOUSE)
        empty = (await priced.ask("POST", "/v1/alerts/preview", "carla", json=said)).body
        await register(priced, 1, point={"lat": KEPT.lat, "lon": KEPT.lon})
        assert (await priced.ask("POST", "/v1/alerts/preview", json=said)).body["recipients"] == 2
        one = (await priced.ask("POST", "/v1/alerts/preview", "carla", json=said)).body
        await register(priced, 8, first=1, point={"lat": KEPT.lat, "lon": KEPT.lon})
        nine = (await priced.ask("POST", "/v1/alerts/preview", "carla", json=said)).body
    timeless = {"text": "", "texts": []}
    assert empty | timeless == one | timeless
    assert one["by_account"] == nine["by_account"]
    assert (one["minutes"], one["euro"]) == (nine["minutes"], nine["euro"])
    assert {share["recipients"] for share in one["by_account"]} == {"<10"}


async def test_minutes_and_euro_of_a_viewer_follow_from_the_tens_they_see(town: Town, tmp_path: Path) -> None:
    folder = with_prices(tmp_path / "comuni", whatsapp=0.05, telegram=0.0, web_push=0.0)
    async with set_otherwise(town, authorities_folder=folder) as priced:
        await register(priced, 13, area="fornacette")
        exact = (await priced.ask("POST", "/v1/alerts/preview", json=evacuate())).body
        tens = (await priced.ask("POST", "/v1/alerts/preview", "carla", json=evacuate())).body
        await register(priced, 6, first=13, area="fornacette")
        still = (await priced.ask("POST", "/v1/alerts/preview", "carla", json=evacuate())).body
    shares = {share["account"]: share for share in exact["by_account"]}
    assert (shares["whatsapp.calcinaia"]["recipients"], shares["whatsapp.calcinaia"]["euro"]) == (13, 0.65)
    assert (shares["telegram.calcinaia"]["recipients"], shares["telegram.calcinaia"]["euro"]) == (1, 0.0)
    assert exact["euro"] == 0.65
    assert tens["euro"] == still["euro"] == 0.5 and tens["minutes"] == still["minutes"]
    assert tens["by_account"] == still["by_account"]


async def test_without_a_price_in_the_file_nobody_guesses_what_it_costs(town: Town, tmp_path: Path) -> None:
    await register(town, 2, area="fornacette")
    seen = (await town.ask("POST", "/v1/alerts/preview", json=evacuate())).body
    euro = {share["account"]: share["euro"] for share in seen["by_account"]}
    assert seen["euro"] is None and euro == {"whatsapp.calcinaia": None, "telegram.calcinaia": 0.0}
    async with set_otherwise(town, authorities_folder=with_prices(tmp_path / "comuni", whatsapp=0.05)) as priced:
        seen = (await priced.ask("POST", "/v1/alerts/preview", json=evacuate())).body
        # Telegram, which the public channel is reached by, has no price.
        assert {share["account"]: share["euro"] for share in seen["by_account"]} == {
            "telegram.calcinaia": None,
            "whatsapp.calcinaia": 0.1,
        }
        assert seen["euro"] is None


async def test_where_somebody_lives_is_counted_by_the_outline_that_serves(town: Town) -> None:
    for number, point in enumerate((LOST, GAINED)):
        await register(town, 1, first=number, point={"lat": point.lat, "lon": point.lon})

    async def counted() -> dict[str, int]:
        body = (await town.ask("GET", "/v1/recipients/count")).body
        return {share["code"]: share["recipients"] for share in body["by_area"]}

    assert await counted() == {COMUNE: 2, CAPOLUOGO: 0, FORNACETTE: 1}
    await surveyed(town, NEXT)
    assert await counted() == {COMUNE: 2, CAPOLUOGO: 0, FORNACETTE: 1}
    (member,) = [row for row in await town.rows(tables.Membership) if row.area == await _serving_id(town)]
    people = [row.id for row in await town.rows(tables.Recipient) if not row.is_channel]
    assert member.recipient_id == people[1]  # the other one


async def _serving_id(town: Town) -> int:
    return max(int(row.id) for row in await town.rows(tables.Area) if row.code == FORNACETTE)
