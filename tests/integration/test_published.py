"""What anybody reads of what is in force: no token, no drafts, no exercises, and never yesterday's."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from alerting import cap_json
from alerting.api.published import FORMATS, MOST_BODIES, Bodies
from alerting.api.unchanged import Body
from alerting.cap_xml.reading import read
from alerting.domain.cap import Status
from alerting.domain.lifecycle import State
from alerting.persistence import tables
from alerting.publishing import InForce
from geo.geojson import parse_geojson
from geo.shapes import Point
from tests.integration.api_client import Answer, Town, running, serving
from tests.unit.cap_messages import schema

NOWHERE_TO_PUBLISH = "amqp://nobody:nothing@127.0.0.1:9/"
ATOM = "{http://www.w3.org/2005/Atom}"
CAP = "{urn:oasis:names:tc:emergency:cap:1.2}"
FEEDS = [form.file for form in FORMATS]


@pytest.fixture
async def town(database_url: str, tmp_path: Path) -> AsyncIterator[Town]:
    async with serving(database_url, NOWHERE_TO_PUBLISH, "t.", tmp_path) as town:
        yield town


async def get(town: Town, path: str, **headers: str) -> Answer:
    return await town.ask("GET", path, None, headers={name.replace("_", "-"): value for name, value in headers.items()})


async def listed(town: Town, whose: str = "") -> list[str]:
    """The identifiers in the three feeds, which agree."""
    atom = etree.fromstring((await get(town, f"/cap{whose}/atom.xml")).body.encode())
    names = [entry.findtext(f"{CAP}identifier") or "" for entry in atom.iter(f"{ATOM}entry")]
    rss = etree.fromstring((await get(town, f"/cap{whose}/rss.xml")).body.encode())
    assert [guid.text for guid in rss.iter("guid")] == [
        entry.findtext(f"{ATOM}id") for entry in atom.iter(f"{ATOM}entry")
    ]
    features = (await get(town, f"/cap{whose}/in-force.geojson")).body["features"]
    assert [feature["id"] for feature in features] == names
    return names


async def change(town: Town, identifier: str, **columns: Any) -> None:
    async with town.database.write() as session:
        row = await session.get_one(tables.Alert, identifier)
        for name, value in columns.items():
            setattr(row, name, value)


# ── the document ────────────────────────────────────────────────────────────────────────────────────


async def test_the_document_is_what_was_issued_and_the_schema_takes_it(town: Town) -> None:
    alert = await town.issued()
    answer = await get(town, f"/cap/{alert}.xml")
    assert answer.status == 200 and answer.headers["Content-Type"] == "application/cap+xml; charset=utf-8"
    [row] = await town.rows(tables.Alert)
    assert answer.body.encode() == row.cap
    schema().assertValid(etree.fromstring(row.cap))
    document = read(row.cap)
    assert document.alert is not None and document.alert.identifier == alert
    assert document.alert.infos == _whole_seconds(row.document)


async def test_a_document_is_never_asked_for_twice(town: Town) -> None:
    alert = await town.issued()
    first = await get(town, f"/cap/{alert}.xml")
    assert "immutable" in first.headers["Cache-Control"]
    again = await get(town, f"/cap/{alert}.xml", If_None_Match=first.headers["ETag"])
    assert (again.status, again.body) == (304, "")


@pytest.mark.parametrize("name", ["nessuno", "con%20spazio", "..%5c..%5cetc", "%00", "x" * 300, "atom%0a"])
async def test_what_was_never_issued_is_not_found(town: Town, name: str) -> None:
    answer = await get(town, f"/cap/{name}.xml")
    assert answer.status == 404 and answer.headers["Access-Control-Allow-Origin"] == "*"


async def test_a_draft_is_shown_to_nobody_not_even_when_it_is_approved(town: Town) -> None:
    for alert in (await town.drafted(), await town.approved()):
        assert (await get(town, f"/cap/{alert}.xml")).status == 404
    assert await listed(town) == []


async def test_what_is_meant_for_some_is_not_published(town: Town) -> None:
    alert = await town.issued()
    [row] = await town.rows(tables.Alert)
    await change(town, alert, document=row.document | {"scope": "Restricted", "restriction": "sala operativa"})
    assert (await get(town, f"/cap/{alert}.xml")).status == 404
    assert await listed(town) == []


# ── what is in force ────────────────────────────────────────────────────────────────────────────────


async def test_what_is_issued_is_in_every_feed_the_newest_first(town: Town) -> None:
    assert await listed(town) == []
    first = await town.issued()
    second = await town.issued(headline="Chiusa la via Tosco Romagnola")
    assert await listed(town) == [second, first]
    assert await listed(town, "/calcinaia") == [second, first]
    assert await listed(town, "/bientina") == []


async def test_a_cancel_takes_the_place_of_what_it_takes_back(town: Town) -> None:
    alert = await town.issued()
    cancelled = await town.ask("POST", f"/v1/alerts/{alert}/cancel", "bruno", json={"reason": "Falso allarme."})
    assert await listed(town) == [cancelled.body["cancel"]]
    assert (await get(town, f"/cap/{alert}.xml")).status == 200  # the address stays
    [feature] = (await get(town, "/cap/in-force.geojson")).body["features"]
    assert feature["properties"]["msg_type"] == "Cancel"
    document = await get(town, f"/cap/{cancelled.body['cancel']}.xml")
    schema().assertValid(etree.fromstring(document.body.encode()))
    assert alert in document.body


async def test_an_update_takes_the_place_of_its_original(town: Town) -> None:
    alert = await town.issued()
    update = await town.issued(updates=alert, colour="rossa")
    assert await listed(town) == [update]
    schema().assertValid(etree.fromstring((await get(town, f"/cap/{update}.xml")).body.encode()))


async def test_an_exercise_has_a_document_and_is_in_no_feed(town: Town) -> None:
    alert = await town.issued(exercise=True)
    assert await listed(town) == []
    assert "<status>Exercise</status>" in (await get(town, f"/cap/{alert}.xml")).body


@pytest.mark.parametrize("status", [Status.TEST, Status.SYSTEM, Status.DRAFT])
async def test_only_what_is_actual_is_in_a_feed(town: Town, status: Status) -> None:
    alert = await town.issued()
    await change(town, alert, status=status)
    assert await listed(town) == []


async def test_what_has_expired_is_gone_at_that_moment(town: Town) -> None:
    alert = await town.issued()
    assert await listed(town) == [alert]
    await change(town, alert, expires_at=datetime.now(UTC))
    assert await listed(town) == []
    await change(town, alert, state=State.EXPIRED)
    assert await listed(town) == []


@pytest.mark.parametrize("file", FEEDS)
async def test_a_comune_nobody_knows_has_no_feed(town: Town, file: str) -> None:
    answer = await get(town, f"/cap/atlantide/{file}")
    assert answer.status == 404 and "calcinaia" in answer.body["detail"]


# ── asked for again ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("file", FEEDS)
async def test_who_has_it_already_is_told_so_until_something_changes(town: Town, file: str) -> None:
    alert = await town.issued()
    first = await get(town, f"/cap/{file}")
    etag = first.headers["ETag"]
    assert etag[0] == etag[-1] == '"' and first.headers["Cache-Control"] == "public, max-age=15, must-revalidate"
    for known in (etag, f"W/{etag}", f'"altro", {etag}', "*"):
        again = await get(town, f"/cap/{file}", If_None_Match=known)
        assert (again.status, again.body, again.headers["ETag"]) == (304, "", etag), known
    for unknown in ('"altro"', etag.strip('"')[:-1], ""):
        assert (await get(town, f"/cap/{file}", If_None_Match=unknown)).status == 200, unknown
    await town.ask("POST", f"/v1/alerts/{alert}/cancel", "bruno", json={"reason": "Falso allarme."})
    changed = await get(town, f"/cap/{file}", If_None_Match=etag)
    assert changed.status == 200 and changed.headers["ETag"] != etag


@pytest.mark.parametrize("whose", ["", "/calcinaia"])
async def test_the_date_tells_of_what_was_issued_cancelled_and_expired(town: Town, whose: str) -> None:
    path = f"/cap{whose}/atom.xml"
    assert "Last-Modified" not in (await get(town, path)).headers  # nothing has ever been
    alert, an_hour_ago = await town.issued(), datetime.now(UTC) - timedelta(hours=1)

    await change(town, alert, issued_at=an_hour_ago)
    assert await _changed(town, path) == _next_second(an_hour_ago)

    expired = an_hour_ago + timedelta(minutes=20)
    await change(town, alert, expires_at=expired)
    assert await _changed(town, path) == _next_second(expired)

    cancelled = an_hour_ago + timedelta(minutes=40)
    end = datetime.now(UTC) + timedelta(hours=1)
    await change(town, alert, state=State.CANCELLED, ended_at=cancelled, expires_at=end)
    assert await _changed(town, path) == _next_second(cancelled)
    atom = etree.fromstring((await get(town, path)).body.encode())
    assert atom.findtext(f"{ATOM}updated") == f"{cancelled:%Y-%m-%dT%H:%M:%S}Z"


async def test_a_date_is_believed_only_when_there_is_no_etag(town: Town) -> None:
    alert, an_hour_ago = await town.issued(), datetime.now(UTC) - timedelta(hours=1)
    await change(town, alert, issued_at=an_hour_ago)
    date = (await get(town, "/cap/atom.xml")).headers["Last-Modified"]
    assert (await get(town, "/cap/atom.xml", If_Modified_Since=date)).status == 304
    assert (await get(town, "/cap/atom.xml", If_Modified_Since=date, If_None_Match='"altro"')).status == 200
    before = format_datetime(an_hour_ago.replace(microsecond=0) - timedelta(seconds=1), usegmt=True)
    for other in (before, "ieri", "", "Sun, 99 Nov 99999 99:99:99 GMT", date.replace("GMT", "+9999")):
        assert (await get(town, "/cap/atom.xml", If_Modified_Since=other)).status == 200, other


async def test_two_changes_within_one_second_are_both_seen_by_their_date(town: Town) -> None:
    seen: list[str] = []
    since = ""
    for number in range(3):
        await town.issued(headline=f"Avviso numero {number}")
        answer = await get(town, "/cap/atom.xml", If_Modified_Since=since)
        assert answer.status == 200, "a change was hidden by a date of whole seconds"
        since = answer.headers.get("Last-Modified", format_datetime(datetime.now(UTC), usegmt=True))
        seen.append(answer.headers["ETag"])
    assert len(set(seen)) == 3
    await asyncio.sleep(1.1)
    settled = (await get(town, "/cap/atom.xml")).headers["Last-Modified"]
    assert (await get(town, "/cap/atom.xml", If_Modified_Since=settled)).status == 304


@pytest.mark.parametrize("path", [*FEEDS, *(f"calcinaia/{file}" for file in FEEDS), "{alert}.xml"])
async def test_head_says_what_get_would_without_the_body(town: Town, path: str) -> None:
    path = f"/cap/{path.format(alert=await town.issued())}"
    head, whole = await town.ask("HEAD", path, None), await get(town, path)
    assert (head.status, head.body) == (200, "")
    for name in ("ETag", "Content-Type", "Content-Length", "Cache-Control", "Access-Control-Allow-Origin"):
        assert head.headers[name] == whole.headers[name], name
    known = await town.ask("HEAD", path, None, headers={"If-None-Match": whole.headers["ETag"]})
    assert known.status == 304


# ── what stands in a feed ───────────────────────────────────────────────────────────────────────────


async def test_an_entry_says_who_what_and_where_and_links_to_the_document(town: Town) -> None:
    alert = await town.issued(headline="Piena dell'Arno: <b>Fornacette</b> & dintorni")
    answer = await get(town, "/cap/calcinaia/atom.xml")
    assert answer.headers["Content-Type"] == "application/atom+xml; charset=utf-8"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    atom = etree.fromstring(answer.body.encode())
    assert atom.findtext(f"{ATOM}title") == "Avvisi in vigore: Comune di Calcinaia"
    assert atom.findtext(f"{ATOM}id") == f"{town.url}/cap/calcinaia/atom.xml"
    [entry] = atom.iter(f"{ATOM}entry")
    assert entry.findtext(f"{ATOM}title") == "Piena dell'Arno: <b>Fornacette</b> & dintorni"
    assert entry.findtext(f"{ATOM}author/{ATOM}name") == "Comune di Calcinaia"
    assert "Cosa fare: Lascia i piani bassi" in (entry.findtext(f"{ATOM}summary") or "")
    assert entry.findtext(f"{CAP}severity") == "Severe" and entry.findtext(f"{CAP}areaDesc") == "Fornacette"
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    tag = f"tag:protezionecivile@comune.calcinaia.pi.it,{today}:{alert}"
    assert entry.findtext(f"{ATOM}id") == tag
    link = entry.find(f"{ATOM}link")
    assert link is not None and link.get("type") == "application/cap+xml"
    address = link.get("href") or ""
    assert address == f"{town.url}/cap/{alert}.xml"
    assert (await get(town, address.removeprefix(town.url))).status == 200


async def test_rss_carries_the_same_with_dates_as_rss_wants_them(town: Town) -> None:
    alert = await town.issued(headline="Chiusa la via Tosco Romagnola & il ponte")
    answer = await get(town, "/cap/rss.xml")
    assert answer.headers["Content-Type"] == "application/rss+xml; charset=utf-8"
    rss = etree.fromstring(answer.body.encode())
    assert rss.tag == "rss" and rss.get("version") == "2.0"
    [item] = rss.iter("item")
    assert item.findtext("title") == "Chiusa la via Tosco Romagnola & il ponte"
    assert item.findtext("link") == f"{town.url}/cap/{alert}.xml"
    guid = item.find("guid")
    assert guid is not None and guid.get("isPermaLink") == "false"
    published = parsedate_to_datetime(item.findtext("pubDate") or "")
    assert abs(published - datetime.now(UTC)) < timedelta(minutes=1)


async def test_geojson_is_the_place_on_a_map_with_circles_as_outlines(town: Town) -> None:
    ring = [[10.590, 43.670], [10.600, 43.670], [10.600, 43.676], [10.590, 43.676], [10.590, 43.670]]
    circle = {
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": [10.5851, 43.6702]},
        "properties": {"radius_km": 0.1},
    }
    square = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": {}}
    drawn = {"type": "FeatureCollection", "features": [square, circle]}
    alert = await town.issued(areas=[], geofence=drawn, geofence_name="Il ponte")
    answer = await get(town, "/cap/in-force.geojson")
    assert answer.headers["Content-Type"] == "application/geo+json; charset=utf-8"
    assert answer.body["type"] == "FeatureCollection"
    [feature] = answer.body["features"]
    assert feature["geometry"]["type"] == "MultiPolygon"
    place = parse_geojson(feature["geometry"])
    assert place.contains(Point(43.673, 10.595)) and place.contains(Point(43.6702, 10.5851))
    assert not place.contains(Point(43.68, 10.5851))
    said = feature["properties"]
    assert said["identifier"] == alert and said["url"] == f"{town.url}/cap/{alert}.xml"
    assert (said["severity"], said["colour"], said["risk"]) == ("Severe", "arancione", "idraulico")
    assert (said["msg_type"], said["area_desc"], said["onset"]) == ("Alert", "Il ponte", None)
    assert datetime.fromisoformat(said["expires"]) > datetime.now(UTC)


async def test_what_is_named_by_codes_alone_is_nowhere_on_the_map(town: Town) -> None:
    alert = await town.issued()
    [row] = await town.rows(tables.Alert)
    document = json.loads(json.dumps(row.document))
    document["infos"][0]["areas"][0]["boundary"] = None
    await change(town, alert, document=document)
    [feature] = (await get(town, "/cap/in-force.geojson")).body["features"]
    assert feature["geometry"] is None


async def test_addresses_are_those_the_deployment_is_known_by(town: Town) -> None:
    alert = await town.issued()
    settings = town.settings.model_copy(update={"public_url": "https://allerta.example/"})
    async with running(settings) as url, town.http.get(f"{url}/cap/atom.xml") as answer:
        atom = etree.fromstring(await answer.read())
    [entry] = atom.iter(f"{ATOM}entry")
    link = entry.find(f"{ATOM}link")
    assert link is not None and link.get("href") == f"https://allerta.example/cap/{alert}.xml"


async def test_the_api_describes_the_feeds_where_they_are(town: Town) -> None:
    paths = (await get(town, "/v1/openapi.json")).body["paths"]
    for path in ("/cap/atom.xml", "/cap/{authority}/in-force.geojson", "/cap/{identifier}.xml"):
        assert paths[path]["get"]["servers"][0]["url"] == "/"
        assert "security" not in paths[path]["get"]
    assert list(paths["/cap/rss.xml"]["get"]["responses"]["200"]["content"]) == ["application/rss+xml"]


def test_only_the_feeds_asked_for_last_are_kept() -> None:
    kept, body = Bodies(), Body(b"Fornacette")
    for number in range(MOST_BODIES + 1):
        kept.keep(f"/{number}", InForce((), None), body)
        assert kept.find("/0", InForce((), None)) is body
    assert kept.find("/1", InForce((), None)) is None
    assert kept.find("/0", InForce(("calcinaia-1",), None)) is None


def _whole_seconds(document: dict[str, Any]) -> Any:
    """The infos of a document as CAP says them: no time has parts of a second."""
    written = json.loads(json.dumps(document))
    for info in written["infos"]:
        for name in ("effective", "onset", "expires"):
            if info.get(name):
                info[name] = datetime.fromisoformat(info[name]).replace(microsecond=0).isoformat()
    return cap_json.from_json(written).infos


def _next_second(moment: datetime) -> datetime:
    return moment.replace(microsecond=0) + timedelta(seconds=bool(moment.microsecond))


async def _changed(town: Town, path: str) -> datetime:
    return parsedate_to_datetime((await get(town, path)).headers["Last-Modified"])
