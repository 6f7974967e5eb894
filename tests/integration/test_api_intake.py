"""CAP handed in over HTTP, read, let pass or dismissed; the pages it leads to, the sources, and MeteoAlarm."""

import gzip
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from alerting import paging, sources
from alerting.actors import Role
from alerting.api.security import create_actor
from alerting.domain.intake import CameBy, IntakeState
from alerting.persistence import tables
from tests.integration.api_client import NOWHERE_TO_PUBLISH, Answer, Town, serving

SHARED = Path(__file__).parents[2].parent / "shared/data"
RULES = SHARED / "cap_rules"
METEOALARM = SHARED / "meteoalarm/feed_italy_sample.json"
needs_shared_data = pytest.mark.skipif(not RULES.is_dir(), reason="shared/data is not beside this checkout")

SENDER = "protezionecivile@comune.calcinaia.pi.it"
FORNACETTE = "43.666,10.580 43.666,10.590 43.674,10.590 43.674,10.580 43.666,10.580"
CALCINAIA, BIENTINA = "050004", "050001"
CAP_XML = {"Content-Type": "application/cap+xml"}
CLOCK = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d")

OTHERS = {
    "unione-valdera": (Role.FEED, None),
    "regione-toscana": (Role.FEED, None),
    "dora": (Role.OPERATOR, None),
}
"""Besides PEOPLE: a source that hands in, one whose file is not enabled, and an operator for all comuni."""


@pytest.fixture
async def town(database_url: str, tmp_path: Path) -> AsyncIterator[Town]:
    async with serving(database_url, NOWHERE_TO_PUBLISH, "t.", tmp_path) as town:
        async with town.database.write() as session:
            for name, (role, authority) in OTHERS.items():
                town.tokens[name] = await create_actor(
                    session, name=name, role=role, authority=authority, now=datetime.now(UTC)
                )
        yield town


def message(
    identifier: str = "valdera-1",
    *,
    sender: str = SENDER,
    istat: tuple[str, ...] = (),
    msg_type: str = "Alert",
    references: str = "",
    headline: str = "Incendio in un capannone a Fornacette",
    sent: datetime | None = None,
) -> bytes:
    """A fire at Fornacette, or in whole comuni where their codes are given."""
    sent = (sent or datetime.now(UTC)).replace(microsecond=0)
    at, until = (moment.isoformat().replace("+00:00", "-00:00") for moment in (sent, sent + timedelta(hours=6)))
    codes = "".join(f"<geocode><valueName>ISTAT_COMUNE</valueName><value>{code}</value></geocode>" for code in istat)
    place = codes or f"<polygon>{FORNACETTE}</polygon>"
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<alert xmlns="urn:oasis:names:tc:emergency:cap:1.2">
  <identifier>{identifier}</identifier><sender>{sender}</sender><sent>{at}</sent>
  <status>Actual</status><msgType>{msg_type}</msgType><scope>Public</scope>
  {f"<references>{references}</references>" if references else ""}
  <info>
    <language>it-IT</language><category>Fire</category><event>Incendio</event><responseType>Shelter</responseType>
    <urgency>Immediate</urgency><severity>Severe</severity><certainty>Observed</certainty>
    <expires>{until}</expires><senderName>Comune di Calcinaia</senderName>
    <headline>{headline}</headline>
    <description>Il fumo va verso il centro di Fornacette.</description>
    <instruction>Resta in casa e chiudi le finestre.</instruction>
    <area><areaDesc>Fornacette</areaDesc>{place}</area>
  </info>
</alert>""".encode()


def moved(file: Path) -> bytes:
    """A document with its times moved so that it was sent just now."""
    text = file.read_text()
    sent = re.search(r"<sent>([^<]*)</sent>", text)
    first = datetime.fromisoformat(sent[1]) if sent and CLOCK.fullmatch(sent[1]) else None
    by = datetime.now(UTC).replace(microsecond=0) - (first or datetime.fromisoformat("2026-11-21T09:00:00+01:00"))
    return CLOCK.sub(lambda found: (datetime.fromisoformat(found[0]) + by).isoformat(), text).encode()


def verdicts() -> dict[str, str]:
    """What is expected of each document of `cap_rules`."""
    return {one["file"]: one["expected"] for one in json.loads((RULES / "expected.json").read_text())}


def feed_of(*messages: bytes) -> bytes:
    """Atom, with the messages inside."""
    bare = [raw.decode().split("?>", 1)[-1] for raw in messages]
    entries = "".join(f"<entry><content type='application/cap+xml'>{one}</content></entry>" for one in bare)
    return f"<feed xmlns='http://www.w3.org/2005/Atom'><id>urn:valdera</id>{entries}</feed>".encode()


async def hand_in(town: Town, raw: bytes, who: str = "unione-valdera", **more: Any) -> Answer:
    path = more.pop("path", "/v1/cap")
    return await town.ask("POST", path, who, data=raw, headers=CAP_XML | more.pop("headers", {}), **more)


async def quarantined(town: Town, **changes: Any) -> int:
    """The number of a document of somebody nobody knows."""
    answer = await hand_in(town, message(sender="ignoto@valdera.it", **changes))
    (item,) = answer.body["items"]
    assert (answer.status, item["state"]) == (202, "quarantined"), answer.body
    return int(item["number"])


# ── handed in ───────────────────────────────────────────────────────────────────────────────────────


async def test_what_a_source_hands_in_is_kept_judged_and_followed_at_once(town: Town) -> None:
    raw = message()
    answer = await hand_in(town, raw)
    assert answer.status == 202, answer.body
    (item,) = answer.body["items"]
    assert (item["state"], item["because"], item["headline"]) == ("taken", "", "Incendio in un capannone a Fornacette")
    assert (item["source"], item["came_by"], item["errors"]) == ("unione-valdera", "http", 0)
    (became,) = item["became"]
    assert (became["authority"], became["did"]) == ("calcinaia", "issued")
    alert = (await town.ask("GET", f"/v1/alerts/{became['alert']}")).body
    assert (alert["state"], alert["intake"], alert["source"]) == ("issued", item["number"], "unione-valdera")
    (row,) = await town.rows(tables.Intake)
    assert row.raw == raw


async def test_what_a_person_drafts_was_made_from_no_document(town: Town) -> None:
    alert = (await town.draft()).body
    assert (alert["intake"], alert["source"]) == (None, None)
    (listed,) = (await town.ask("GET", "/v1/alerts")).body["items"]
    assert (listed["intake"], listed["source"]) == (None, None)


async def test_the_same_document_twice_is_repeated_and_tells_nobody_again(town: Town) -> None:
    raw = message()
    first, second = await hand_in(town, raw), await hand_in(town, raw)
    assert (first.status, second.status) == (202, 202)
    (again,) = second.body["items"]
    assert (again["state"], again["became"]) == ("repeated", [])
    assert str(first.body["items"][0]["number"]) in again["because"]
    assert len(await town.rows(tables.Alert)) == 1


async def test_its_cancel_takes_back_what_it_said(town: Town) -> None:
    sent = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=2)
    alert = (await hand_in(town, message(sent=sent))).body["items"][0]["became"][0]["alert"]
    reference = f"{SENDER},valdera-1,{sent:%Y-%m-%dT%H:%M:%S}-00:00"
    answer = await hand_in(town, message("valdera-2", msg_type="Cancel", references=reference))
    (became,) = answer.body["items"][0]["became"]
    assert (became["authority"], became["did"]) == ("calcinaia", "cancelled")
    assert (await town.ask("GET", f"/v1/alerts/{alert}")).body["state"] == "cancelled"
    told = (await town.ask("GET", f"/v1/alerts/{became['alert']}")).body
    assert (told["cancels"], told["msg_type"]) == (alert, "Cancel")


async def test_each_message_of_a_feed_is_an_item_of_its_own(town: Town) -> None:
    raw = feed_of(message("valdera-1"), message("valdera-2", sender="ignoto@valdera.it"))
    answer = await hand_in(town, raw, headers={"Content-Type": "application/atom+xml; charset=utf-8"})
    assert answer.status == 202
    assert [item["state"] for item in answer.body["items"]] == ["taken", "quarantined"]


async def test_what_cannot_be_used_at_all_is_answered_422_with_what_is_wrong_and_kept(town: Town) -> None:
    answer = await hand_in(town, b"<alert>the Arno is rising")
    assert answer.status == 422
    (item,) = answer.body["items"]
    assert item["state"] == "rejected" and item["errors"] == 1 and item["findings"][0]["rule"]
    assert item["because"] in answer.body["detail"] and str(item["number"]) in answer.body["detail"]
    (row,) = await town.rows(tables.Intake)
    assert row.raw == b"<alert>the Arno is rising"


@needs_shared_data
@pytest.mark.parametrize("file", sorted(RULES.glob("*.xml")), ids=lambda file: file.stem)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_real_document_that_breaks_a_rule_reaches_nobody_and_one_that_does_not_is_taken(
    town: Town, file: Path
) -> None:
    answer = await hand_in(town, moved(file))
    (item,) = answer.body["items"]
    alerts = await town.rows(tables.Alert)
    match verdicts()[file.name]:
        case "reject":
            assert item["state"] in ("rejected", "quarantined") and item["errors"] > 0 and alerts == []
            assert (answer.status == 422) == (item["state"] == "rejected")
        case "ignore":
            assert (answer.status, item["state"], item["became"], alerts) == (202, "taken", [], [])
        case _:
            assert (answer.status, item["errors"]) == (202, 0)
            assert item["state"] == "taken" or item["because"]


@needs_shared_data
async def test_the_base_document_with_its_times_moved_to_now_is_issued_in_calcinaia(town: Town) -> None:
    answer = await hand_in(town, moved(RULES / "00_base_valid.xml"))
    became = {one["authority"]: one["did"] for one in answer.body["items"][0]["became"]}
    # Its drawing reaches over the Arno into Cascina, which lets nobody issue.
    assert became == {"calcinaia": "issued", "cascina": "drafted"}, answer.body


async def test_a_body_in_chunks_is_taken_and_one_of_more_than_five_megabytes_is_not(town: Town) -> None:
    async def chunks(raw: bytes) -> AsyncIterator[bytes]:
        for at in range(0, len(raw), 1000):
            yield raw[at : at + 1000]

    large = message().replace(b"</alert>", b"<!--" + b"x" * 2_000_000 + b"--></alert>")
    answer = await town.ask("POST", "/v1/cap", "unione-valdera", data=chunks(large), headers=CAP_XML)
    assert answer.status == 202, "larger than what any other route takes"
    for too_large in (BytesIO(b"x" * 5_000_001), chunks(b"x" * 5_000_001)):
        answer = await town.ask("POST", "/v1/cap", "unione-valdera", data=too_large, headers=CAP_XML)
        assert answer.status == 413 and "5,000,000" in answer.body["detail"]
    assert len(await town.rows(tables.Intake)) == 1


async def test_what_is_compressed_empty_or_of_another_kind_is_refused_and_not_kept(town: Town) -> None:
    squeezed = await hand_in(town, gzip.compress(message()), headers={"Content-Encoding": "gzip"})
    assert (squeezed.status, squeezed.headers["Accept-Encoding"]) == (415, "identity")
    for media_type in ("application/json", "application/zip", "text/plain", "image/png; charset=x", "nonsense"):
        answer = await hand_in(town, message(), headers={"Content-Type": media_type})
        assert answer.status == 415 and "application/cap+xml" in answer.body["detail"], media_type
    assert (await hand_in(town, b"")).status == 400
    assert await town.rows(tables.Intake) == []


async def test_a_bulletin_is_handed_in_as_its_archive(town: Town) -> None:
    path = "/v1/cap?source=dpc-criticita"
    refused = await hand_in(town, message(), "dora", path=path)
    assert refused.status == 415 and "application/zip" in refused.body["detail"]
    answer = await hand_in(town, b"PK, cut off", "dora", path=path, headers={"Content-Type": "application/zip"})
    (item,) = answer.body["items"]
    assert (answer.status, item["source"], item["state"]) == (202, "dpc-criticita", "quarantined")


@pytest.mark.parametrize("who", ["dpc", "regione-toscana", "carla", "anna", "ezio", None])
async def test_only_an_enabled_source_and_staff_for_all_comuni_may_hand_in(town: Town, who: str | None) -> None:
    """A feed without a file, one that is not enabled, a viewer, staff of one comune, nobody."""
    answer = await hand_in(town, message(), who, path="/v1/cap?source=unione-valdera")  # type: ignore[arg-type]
    assert answer.status == (403 if who else 401)
    assert await town.rows(tables.Intake) == []


async def test_a_source_cannot_hand_in_for_another(town: Town) -> None:
    assert (await hand_in(town, message(), path="/v1/cap?source=dpc-criticita")).status == 403
    assert (await hand_in(town, message(), path="/v1/cap?source=unione-valdera")).status == 202


async def test_the_token_of_a_source_is_bound_to_no_comune_for_its_territory_is_in_its_file(town: Town) -> None:
    async with town.database.write() as session:
        actor = await session.scalar(select(tables.Actor).where(tables.Actor.name == "unione-valdera"))
        assert actor is not None
        actor.authority = "calcinaia"
    assert (await hand_in(town, message())).status == 403


async def test_the_staff_says_whose_it_is(town: Town) -> None:
    assert (await hand_in(town, message(), "dora")).pointers == ["/source"]
    for name in ("meteoalarm-italia", "regione-toscana", "nessuno"):
        answer = await hand_in(town, message(), "dora", path=f"/v1/cap?source={name}")
        assert answer.pointers == ["/source"] and "unione-valdera" in answer.body["detail"]


async def test_what_the_staff_hands_in_is_never_issued_by_itself(town: Town) -> None:
    """Calcinaia lets this source issue; one person with its document in hand is no source, and no second person."""
    answer = await hand_in(town, message(), "dora", path="/v1/cap?source=unione-valdera")
    (item,) = answer.body["items"]
    (became,) = item["became"]
    assert (item["came_by"], became["did"]) == ("hand", "drafted")
    (entry,) = await town.audited("hand in")
    assert (entry.actor, entry.subject) == ("dora", "source unione-valdera")


async def test_what_a_document_says_is_in_no_log(town: Town, capsys: pytest.CaptureFixture[str]) -> None:
    await hand_in(town, message(headline="Allagamento in via Tosco Romagnola"))
    await hand_in(town, message(headline="Allagamento in via Tosco Romagnola", sender="ignoto@valdera.it"))
    await hand_in(town, b"<alert>Allagamento in via Tosco Romagnola")
    said = capsys.readouterr()
    assert "/cap" in said.out + said.err, "the requests are in the log"
    assert "Tosco" not in said.out + said.err


# ── read ────────────────────────────────────────────────────────────────────────────────────────────


async def test_documents_are_listed_newest_first_page_by_page_and_by_state_and_source(town: Town) -> None:
    numbers = [await quarantined(town, identifier=f"valdera-{at}") for at in range(3)]
    await hand_in(town, message("valdera-9"))
    whole = (await town.ask("GET", "/v1/intake")).body
    assert [item["state"] for item in whole["items"]] == ["taken", *["quarantined"] * 3]
    assert whole["next_cursor"] is None and "findings" not in whole["items"][0]
    waiting = (await town.ask("GET", "/v1/intake?state=quarantined&source=unione-valdera&limit=2")).body
    assert [item["number"] for item in waiting["items"]] == numbers[:0:-1]
    rest = await town.ask("GET", f"/v1/intake?state=quarantined&limit=2&cursor={waiting['next_cursor']}")
    assert [item["number"] for item in rest.body["items"]] == numbers[:1]
    assert (await town.ask("GET", "/v1/intake?source=dpc-criticita")).body["items"] == []
    assert (await town.ask("GET", "/v1/intake?state=forgotten")).status == 422


async def test_one_document_is_read_with_what_was_found(town: Town) -> None:
    number = (await hand_in(town, message().replace(b"<scope>Public</scope>", b""))).body["items"][0]["number"]
    for who in ("carla", "ezio", "admin", "unione-valdera"):
        detail = (await town.ask("GET", f"/v1/intake/{number}", who)).body
        assert detail["errors"] == len([one for one in detail["findings"] if one["severity"] == "error"]) > 0
        assert all(one["rule"] and one["text"] for one in detail["findings"])
    assert (await town.ask("GET", "/v1/intake/987654")).status == 404
    assert (await town.ask("GET", "/v1/intake/0")).status == 422


async def test_the_raw_document_is_to_be_saved_and_not_opened(town: Town) -> None:
    number = (await hand_in(town, raw := message())).body["items"][0]["number"]
    answer = await town.ask("GET", f"/v1/intake/{number}/raw")
    assert answer.body.encode() == raw
    assert answer.headers["Content-Type"] == "application/cap+xml"
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert (await town.ask("GET", "/v1/intake/987654/raw")).status == 404


@pytest.mark.parametrize("media_type", ["text/html\r\nSet-Cookie: a=b", "è/ù", "", "text/html; charset=utf-8; x=y"])
async def test_a_media_type_that_would_break_a_header_is_not_repeated(town: Town, media_type: str) -> None:
    number = await kept(town, "unione-valdera", b"<alert/>", media_type=media_type)
    answer = await town.ask("GET", f"/v1/intake/{number}/raw")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/octet-stream")
    assert "Set-Cookie" not in answer.headers


async def test_a_source_reads_its_own_documents_and_no_others(town: Town) -> None:
    own = await quarantined(town)
    another = await kept(town, "dpc-criticita", b"PK")
    mine = (await town.ask("GET", "/v1/intake", "unione-valdera")).body["items"]
    assert [item["number"] for item in mine] == [own]
    assert (await town.ask("GET", "/v1/intake?source=dpc-criticita", "unione-valdera")).body["items"] == []
    for path in (f"/v1/intake/{another}", f"/v1/intake/{another}/raw"):
        assert (await town.ask("GET", path, "unione-valdera")).status == 403
    for path in ("/v1/pages", "/v1/sources", "/v1/context"):
        assert (await town.ask("GET", path, "unione-valdera")).status == 403


# ── let pass, or dismissed ──────────────────────────────────────────────────────────────────────────


async def test_what_is_let_pass_is_drafted_its_page_ends_and_it_is_audited(town: Town) -> None:
    number = await quarantined(town)
    answer = await town.ask("POST", f"/v1/intake/{number}/accept")
    assert answer.status == 200, answer.body
    (became,) = answer.body["became"]
    assert (answer.body["state"], became["authority"], became["did"]) == ("taken", "calcinaia", "drafted")
    assert answer.body["settled_by"] == "anna" and answer.body["settled_at"]
    (page,) = [page for page in await town.rows(tables.Page) if page.about == f"intake {number}"]
    assert page.acknowledged_by == "anna"
    (entry,) = await town.audited("accept intake")
    assert (entry.actor, entry.subject) == ("anna", f"intake {number}")
    again = await town.ask("POST", f"/v1/intake/{number}/accept")
    assert again.status == 409 and "taken" in again.body["detail"]


async def test_whoever_is_of_one_comune_lets_nothing_pass_that_concerns_another(town: Town) -> None:
    number = await quarantined(town, istat=(CALCINAIA, BIENTINA))
    for who in ("anna", "ezio"):
        answer = await town.ask("POST", f"/v1/intake/{number}/accept", who)
        assert answer.status == 403 and re.search("bientina|calcinaia", answer.body["detail"])
    assert await town.rows(tables.Alert) == [] and await town.audited("accept intake") == []
    assert [page.acknowledged_at for page in await town.rows(tables.Page)] == [None]
    answer = await town.ask("POST", f"/v1/intake/{number}/accept", "dora")
    assert {one["authority"] for one in answer.body["became"]} == {"calcinaia", "bientina"}


async def test_what_is_of_no_use_cannot_be_let_pass_and_waits_on(town: Town) -> None:
    number = await kept(town, "fonte-di-ieri", b"<alert/>", state=IntakeState.QUARANTINED)
    answer = await town.ask("POST", f"/v1/intake/{number}/accept", "dora")
    assert answer.status == 409 and "fonte-di-ieri" in answer.body["detail"]
    assert (await town.ask("GET", f"/v1/intake/{number}")).body["state"] == "quarantined"


async def test_what_is_dismissed_stays_readable_and_nothing_follows(town: Town) -> None:
    number = await quarantined(town)
    assert (await town.ask("POST", f"/v1/intake/{number}/dismiss", "anna")).status == 403
    answer = await town.ask("POST", f"/v1/intake/{number}/dismiss", "dora")
    assert (answer.status, answer.body["state"], answer.body["settled_by"]) == (200, "dismissed", "dora")
    assert len(await town.audited("dismiss intake")) == 1 and await town.rows(tables.Alert) == []
    for what in ("accept", "dismiss"):
        assert (await town.ask("POST", f"/v1/intake/{number}/{what}", "dora")).status == 409
        assert (await town.ask("POST", f"/v1/intake/987654/{what}", "dora")).status == 404
    assert (await town.ask("GET", "/v1/pages?open=true")).body["items"] == []


@pytest.mark.parametrize("who", ["carla", "dpc", "unione-valdera", None])
async def test_only_the_staff_decides(town: Town, who: str | None) -> None:
    number = await quarantined(town)
    for path in (f"/v1/intake/{number}/accept", f"/v1/intake/{number}/dismiss"):
        assert (await town.ask("POST", path, who)).status == (403 if who else 401)
    assert (await town.ask("GET", f"/v1/intake/{number}")).body["state"] == "quarantined"


# ── pages ───────────────────────────────────────────────────────────────────────────────────────────


async def paged(town: Town, about: str, authority: str | None = None, at: datetime | None = None) -> int:
    async with town.database.write() as session:
        await paging.call(session, about, "Qualcuno guardi.", at or datetime.now(UTC), authority)
        await session.flush()
        return await session.scalar(select(func.max(tables.Page.id))) or 0


async def test_a_page_is_open_until_somebody_says_they_have_seen_it_and_the_first_stays(town: Town) -> None:
    number = await paged(town, "source dpc-criticita")
    (page,) = (await town.ask("GET", "/v1/pages?open=true", "carla")).body["items"]
    assert (page["number"], page["about"], page["acknowledged_at"]) == (number, "source dpc-criticita", None)
    assert (page["authority"], page["called"], page["called_at"]) == (None, 0, None)
    for who in ("anna", "ezio"):
        answer = await town.ask("POST", f"/v1/pages/{number}/acknowledge", who)
        assert (answer.status, answer.body["acknowledged_by"]) == (200, "anna")
    assert (await town.ask("GET", "/v1/pages?open=true")).body["items"] == []
    assert len((await town.ask("GET", "/v1/pages")).body["items"]) == 1
    assert [entry.actor for entry in await town.audited("acknowledge page")] == ["anna"]
    assert (await town.ask("POST", "/v1/pages/987654/acknowledge")).status == 404


async def test_whoever_is_of_one_comune_sees_and_answers_its_pages_and_those_of_nobody(town: Town) -> None:
    bientina = await paged(town, "alert bientina-1", "bientina")
    calcinaia = await paged(town, "alert calcinaia-1", "calcinaia")
    nobodys = await paged(town, "intake 12")
    seen = {
        who: [page["number"] for page in (await town.ask("GET", "/v1/pages?open=true", who)).body["items"]]
        for who in ("anna", "ezio", "dora")
    }
    assert seen == {
        "anna": [nobodys, calcinaia],
        "ezio": [nobodys, bientina],
        "dora": [nobodys, calcinaia, bientina],
    }
    assert (await town.ask("POST", f"/v1/pages/{bientina}/acknowledge", "anna")).status == 403
    assert await town.audited("acknowledge page") == []
    assert (await town.ask("POST", f"/v1/pages/{bientina}/acknowledge", "ezio")).status == 200
    assert (await town.ask("POST", f"/v1/pages/{calcinaia}/acknowledge", "carla")).status == 403


async def test_pages_come_page_by_page(town: Town) -> None:
    numbers = [await paged(town, f"intake {at}") for at in range(3)]
    first = (await town.ask("GET", "/v1/pages?limit=2")).body
    assert [page["number"] for page in first["items"]] == numbers[:0:-1]
    rest = (await town.ask("GET", f"/v1/pages?limit=2&cursor={first['next_cursor']}")).body
    assert ([page["number"] for page in rest["items"]], rest["next_cursor"]) == (numbers[:1], None)


# ── sources and context ─────────────────────────────────────────────────────────────────────────────


async def kept(
    town: Town,
    source: str,
    raw: bytes,
    *,
    media_type: str = "application/cap+xml",
    state: IntakeState = IntakeState.TAKEN,
    received_at: datetime | None = None,
) -> int:
    """A document that is there already, however it came."""
    async with town.database.write() as session:
        row = tables.Intake(
            source=source,
            came_by=CameBy.POLL,
            received_at=received_at or datetime.now(UTC),
            media_type=media_type,
            raw=raw,
            sha256="0" * 64,
            state=state,
        )
        session.add(row)
        await session.flush()
        return row.id


async def test_every_source_is_listed_with_how_it_stands(town: Town) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    await hand_in(town, message())
    await quarantined(town, identifier="valdera-2", headline="Incendio nel bosco")
    await kept(town, "unione-valdera", b"<alert/>", received_at=now - timedelta(hours=25))
    async with town.database.write() as session:
        feed = {"asked_at": now.timestamp(), "answered_at": (now - timedelta(hours=3)).timestamp(), "failures": 4}
        trouble = {"trouble": "answers 503", "silent_since": now - timedelta(hours=1)}
        session.add(tables.Feed(source="dpc-criticita", **feed, **trouble))
    found = {one["name"]: one for one in (await town.ask("GET", "/v1/sources", "carla")).body["items"]}
    assert found.keys() == sources.load().keys()
    valdera, dpc = found["unione-valdera"], found["dpc-criticita"]
    assert valdera["last_24_hours"] == {"taken": 1, "quarantined": 1}
    assert (valdera["kind"], valdera["nearness"], valdera["polled"]) == ("cap", "municipal", False)
    assert (valdera["asked_at"], valdera["failures"], valdera["silent_since"]) == (None, 0, None)
    assert datetime.fromisoformat(dpc["asked_at"]) == now
    assert datetime.fromisoformat(dpc["answered_at"]) == now - timedelta(hours=3)
    assert datetime.fromisoformat(dpc["silent_since"]) == now - timedelta(hours=1)
    assert (dpc["failures"], dpc["trouble"], dpc["last_24_hours"], dpc["last_headline"]) == (4, "answers 503", {}, "")
    assert found["regione-toscana"]["enabled"] is False
    newest = (await town.ask("GET", "/v1/intake?source=unione-valdera&limit=1")).body["items"][0]
    assert valdera["last_headline"] == newest["headline"]


def expected(level: str, region: str = "IT009", *, ends_in: timedelta = timedelta(hours=9)) -> dict[str, Any]:
    """An entry of MeteoAlarm's feed, as it is now."""
    now = datetime.now(UTC).replace(microsecond=0)
    info = {
        "language": "it-IT",
        "event": "Allerta Pioggia",
        "onset": now.isoformat(),
        "expires": (now + ends_in).isoformat(),
        "headline": "Allerta Pioggia per l'Italia - Toscana",
        "description": 'Piogge intense.\n (DISCLAIMER: "Non è il Servizio Nazionale.")',
        "parameter": [
            {"valueName": "awareness_level", "value": level},
            {"valueName": "awareness_type", "value": "10; Rain"},
        ],
        "area": [{"areaDesc": "Toscana", "geocode": [{"valueName": "EMMA_ID", "value": region}]}],
    }
    name = f"{level} {region} {ends_in}"
    alert = {"identifier": name, "sender": "aeronautica", "sent": now.isoformat(), "status": "Actual"}
    return {"alert": alert | {"msgType": "Alert", "info": [info]}}


async def test_what_meteoalarm_expects_in_tuscany_is_shown_with_its_disclaimer_and_is_not_official(town: Town) -> None:
    entries = [
        expected("2; yellow; Moderate"),
        expected("3; orange; Severe"),
        expected("1; green; Minor"),
        expected("4; red; Extreme", "IT012"),
        expected("4; red; Extreme", ends_in=timedelta(seconds=-1)),
    ]
    await kept(town, "meteoalarm-italia", b"{}", media_type="application/json")
    raw = json.dumps({"warnings": entries}).encode()
    await kept(town, "meteoalarm-italia", raw, media_type="application/json")
    answer = (await town.ask("GET", "/v1/context")).body
    assert (answer["official"], answer["region"]) == (False, "IT009")
    (item,) = answer["items"]
    assert item["licence"] and "Servizio Nazionale di Protezione Civile" in item["disclaimer"] and item["fetched_at"]
    assert [(one["colour"], one["phenomenon"]) for one in item["warnings"]] == [
        ("arancione", "pioggia"),
        ("gialla", "pioggia"),
    ]
    first = item["warnings"][0]
    assert (first["description"], first["disclaimer"]) == ("Piogge intense.", "Non è il Servizio Nazionale.")
    assert item["findings"] == [] and item["confirmed_at"] is None


async def test_nothing_heard_of_meteoalarm_does_not_look_like_green(town: Town) -> None:
    (nothing,) = (await town.ask("GET", "/v1/context")).body["items"]
    assert (nothing["fetched_at"], nothing["warnings"]) == (None, [])
    await kept(town, "meteoalarm-italia", b"<html>in manutenzione", media_type="text/html")
    (broken,) = (await town.ask("GET", "/v1/context")).body["items"]
    assert [one["rule"] for one in broken["findings"]] == ["meteoalarm-not-json"]


@needs_shared_data
async def test_the_real_feed_moved_to_now_and_to_tuscany_is_shown(town: Town) -> None:
    text = METEOALARM.read_text()
    by = datetime.now(UTC).replace(microsecond=0) - datetime.fromisoformat("2026-07-31T12:00:00+02:00")
    text = CLOCK.sub(lambda found: (datetime.fromisoformat(found[0]) + by).isoformat(), text)
    await kept(town, "meteoalarm-italia", text.replace("IT012", "IT009").encode(), media_type="application/json")
    (item,) = (await town.ask("GET", "/v1/context", "carla")).body["items"]
    assert item["warnings"] and {one["colour"] for one in item["warnings"]} <= {"gialla", "arancione", "rossa"}
    assert all(one["headline"] and one["disclaimer"] for one in item["warnings"])


# ── figures and papers ──────────────────────────────────────────────────────────────────────────────


async def test_the_figures_show_what_waits_for_a_person_and_since_when(town: Town) -> None:
    figures = (await town.ask("GET", "/metrics", None)).body
    assert 'alerting_pages_open{authority="all"} 0.0' in figures
    assert 'alerting_intake_quarantined{source="unione-valdera"} 0.0' in figures
    await paged(town, "alert calcinaia-1", "calcinaia", datetime.now(UTC) - timedelta(minutes=6))
    await paged(town, "alert calcinaia-2", "calcinaia")
    await quarantined(town)
    figures = (await town.ask("GET", "/metrics", None)).body
    assert 'alerting_pages_open{authority="calcinaia"} 2.0' in figures
    assert 'alerting_pages_open{authority="all"} 1.0' in figures
    assert 'alerting_pages_open{authority="bientina"} 0.0' in figures
    oldest = re.search(r'alerting_pages_oldest_seconds\{authority="calcinaia"\} ([\d.]+)', figures)
    assert oldest and 360 <= float(oldest[1]) < 400
    assert 'alerting_intake_quarantined{source="unione-valdera"} 1.0' in figures
    waited = re.search(r'alerting_intake_quarantined_oldest_seconds\{source="unione-valdera"\} ([\d.]+)', figures)
    assert waited and 0 < float(waited[1]) < 60


async def test_the_papers_say_what_may_be_handed_in(town: Town) -> None:
    found = (await town.ask("GET", "/v1/openapi.json", None)).body
    operation = found["paths"]["/cap"]["post"]
    assert operation["requestBody"]["content"].keys() >= {"application/cap+xml", "application/zip"}
    assert operation["security"] and "202" in operation["responses"]
    tags = {tag["name"] for tag in found["tags"]}
    for path in ("/cap", "/intake", "/intake/{number}/raw", "/pages", "/sources", "/context"):
        assert all(set(operation["tags"]) <= tags for operation in found["paths"][path].values()), path
