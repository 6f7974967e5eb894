"""What a source hands in: kept as it came, judged by its file, and said in each comune as that wants it."""

import asyncio
import gzip
import hashlib
import json
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from alerting import issuing, paging
from alerting.cap_xml.signing import Signer, SigningFailed
from alerting.cap_xml.writing import write
from alerting.domain import cap
from alerting.domain.intake import IntakeState
from alerting.domain.kinds import Colour, Kind, Risk
from alerting.domain.lifecycle import State
from alerting.domain.policies import FeedPolicy, Then
from alerting.domain.sources import OnError, OnWarning, Signature
from alerting.intake.receiving import NotQuarantined
from alerting.persistence import tables
from tests.integration.calcinaia import ANNA, BRUNO, CALCINAIA, NOW, one_database, piena
from tests.integration.newsroom import (
    CAPOLUOGO,
    FORNACETTE,
    ON_THE_BORDER,
    PROVINCIA,
    REGIONE,
    SOURCES,
    VALDERA,
    Newsroom,
    a_newsroom,
    after,
    cancel,
    comune,
    did,
    drawn,
    fire,
    is_over,
    message,
    policies,
    said_by,
    update,
    weather,
    written,
    zone,
)
from tests.unit.test_cap_signing import certificate_of, keys, pem_of

RULES = Path(__file__).parents[2].parent / "shared/data/cap_rules"
pytestmark = one_database

ROSSA = {"severity": cap.Severity.EXTREME}
CLEAR: dict[str, Any] = {
    "response_type": (cap.ResponseType.ALL_CLEAR,),
    "severity": cap.Severity.MINOR,
    "headline": "L'incendio è spento",
    "description": "L'incendio è spento e il fumo non è più pericoloso.",
    "instruction": "Puoi riaprire le finestre.",
}


# ── an Update that finds a draft of an Update ───────────────────────────────────────────────────────


async def test_a_graver_update_takes_the_place_of_the_alert_and_of_the_draft_that_waits_beside_it(
    database_url: str,
) -> None:
    async with a_newsroom(database_url) as room:
        first = message("uno")
        await room.hand_in(first)
        words = update("due", first, fire(description="Il fumo va verso la scuola."), minutes=3)
        await room.hand_in(words)  # other words within ten minutes only wait
        assert [row.updates is not None for row in await room.drafts()] == [True]
        await room.hand_in(update("tre", [first, words], fire(**ROSSA), minutes=5))
        told = await room.issued()
        assert [row.msg_type for row in told] == [cap.MsgType.ALERT, cap.MsgType.UPDATE]
        assert [row.state for row in told] == [State.SUPERSEDED, State.ISSUED]
        assert not await room.drafts()


async def test_the_end_reaches_those_who_were_told_though_a_draft_waited_beside_it(database_url: str) -> None:
    async with a_newsroom(database_url) as room:
        first = message("uno")
        await room.hand_in(first)
        await room.hand_in(update("due", first, fire(description="Il fumo va verso la scuola."), minutes=3))
        row = await room.hand_in(update("tre", first, fire(**CLEAR), minutes=5))
        assert did(row) == {"calcinaia": "issued"}
        assert [is_over(row) for row in await room.issued()] == [False, True]
        assert not await room.drafts()
        assert not await room.standing()


async def test_an_update_that_goes_back_to_what_people_know_leaves_no_draft(database_url: str) -> None:
    async with a_newsroom(database_url) as room:
        first = message("uno")
        await room.hand_in(first)
        await room.hand_in(update("due", first, fire(description="Il fumo va verso la scuola."), minutes=3))
        await room.hand_in(update("tre", first, fire(), minutes=5))
        assert not await room.drafts()
        assert len(await room.issued()) == 1


# ── a message of two things ─────────────────────────────────────────────────────────────────────────

EVACUATION = fire(
    category=(cap.Category.SAFETY,),
    event="Evacuazione",
    response_type=(cap.ResponseType.EVACUATE,),
    headline="Evacuare via della Botte",
    description="L'aria di via della Botte non si può respirare.",
    instruction="Lascia la casa e vai alla scuola di via Morandi.",
)


async def test_an_update_of_two_things_updates_each_of_them(database_url: str) -> None:
    async with a_newsroom(database_url) as room:
        first = message("uno", fire(), EVACUATION)
        await room.hand_in(first)
        assert {row.kind for row in await room.standing()} == {Kind.INCENDIO, Kind.EVACUAZIONE}
        later = NOW + timedelta(hours=9)
        await room.hand_in(update("due", first, fire(expires=later), replace(EVACUATION, expires=later)))
        standing = await room.standing()
        assert {row.kind for row in standing} == {Kind.INCENDIO, Kind.EVACUAZIONE}
        assert len(standing) == 2
        by_kind = {row.identifier: row.kind for row in await room.alerts()}
        assert all(row.updates is not None and by_kind[row.updates] is row.kind for row in standing)
        assert all(row.expires_at == later for row in standing)


async def test_what_an_update_no_longer_speaks_of_is_shown_to_somebody(database_url: str) -> None:
    async with a_newsroom(database_url) as room:
        first = message("uno", fire(), EVACUATION)
        await room.hand_in(first)
        await room.hand_in(update("due", first, fire()))
        (page,) = await room.pages()
        evacuation = next(row for row in await room.standing() if row.kind is Kind.EVACUAZIONE)
        assert page.about == f"alert {evacuation.identifier}"


async def test_what_moves_to_another_comune_is_shown_to_somebody_where_it_was(database_url: str) -> None:
    async with a_newsroom(database_url) as room:
        first = message("uno")
        await room.hand_in(first)
        bientina = ((43.72, 10.63), (43.72, 10.65), (43.74, 10.65), (43.74, 10.63))
        row = await room.hand_in(update("due", first, fire(areas=(drawn(bientina, "Quattro Strade"),))))
        assert did(row)["bientina"] == "issued"
        (page,) = await room.pages()
        assert page.authority == "calcinaia"


async def test_an_info_that_is_over_is_left_out_of_a_message_that_goes_on(database_url: str) -> None:
    async with a_newsroom(database_url) as room:
        room.now = after(60)
        row = await room.hand_in(message("uno", fire(), replace(EVACUATION, expires=after(30))))
        assert [row.kind for row in await room.issued()] == [Kind.INCENDIO]
        assert did(row) == {"calcinaia": "issued"}
        assert not await room.pages()
        assert not await room.drafts()


# ── that it is over ─────────────────────────────────────────────────────────────────────────────────


async def test_a_cancel_that_says_it_ends_now_takes_back_all_the_same(database_url: str) -> None:
    async with a_newsroom(database_url) as room:
        first = message("uno")
        await room.hand_in(first)
        room.now = after(31)
        row = await room.hand_in(cancel("due", first, infos=(fire(expires=after(30)),)))
        assert did(row) == {"calcinaia": "cancelled"}
        assert not await room.standing()


async def test_a_cancel_needs_no_place(database_url: str) -> None:
    async with a_newsroom(database_url) as room:
        first = message("uno")
        await room.hand_in(first)
        row = await room.hand_in(cancel("due", first, infos=(fire(areas=(cap.Area("Fornacette"),)),)))
        assert (row.state, did(row)) == (IntakeState.TAKEN, {"calcinaia": "cancelled"})


async def test_an_all_clear_that_ends_at_once_still_reaches_telephones_that_are_off(database_url: str) -> None:
    async with a_newsroom(database_url) as room:
        first = message("uno")
        await room.hand_in(first)
        room.now = after(16)
        row = await room.hand_in(update("due", first, fire(**CLEAR, expires=after(15))))
        assert did(row) == {"calcinaia": "issued"}
        assert (await room.issued())[-1].expires_at >= after(120)


async def test_a_cancel_after_the_all_clear_does_not_take_the_end_back(database_url: str) -> None:
    async with a_newsroom(database_url) as room:
        first = message("uno")
        await room.hand_in(first)
        end = update("due", first, fire(**CLEAR))
        await room.hand_in(end)
        await room.hand_in(cancel("tre", [first, end]))
        assert [row.msg_type for row in await room.issued()] == [cap.MsgType.ALERT, cap.MsgType.UPDATE]


async def test_the_all_clear_of_the_weather_of_a_whole_comune_ends_it(database_url: str) -> None:
    async with a_newsroom(database_url) as room:
        first = message("uno", weather())
        await room.hand_in(first)
        end = weather(
            response_type=(cap.ResponseType.ALL_CLEAR,),
            headline="Cessata allerta arancione",
            severity=cap.Severity.MINOR,
        )
        row = await room.hand_in(update("due", first, end))
        assert did(row) == {"calcinaia": "issued"}
        assert [is_over(row) for row in await room.issued()] == [False, True]


async def test_an_update_to_green_ends_the_weather_and_says_nothing_of_green(database_url: str) -> None:
    async with a_newsroom(database_url) as room:
        first = message("uno", weather())
        await room.hand_in(first)
        green = weather(
            event="Nessuna allerta",
            headline="Verde: nessuna allerta",
            severity=cap.Severity.MINOR,
            parameters=(
                cap.NamedValue("awareness_level", "1; green; Minor"),
                cap.NamedValue("awareness_type", "10; Rain"),
            ),
        )
        await room.hand_in(update("due", first, green))
        told = await room.issued()
        assert [is_over(row) for row in told] == [False, True]
        assert "verde" not in said_by(told[-1]).first.headline.casefold()


async def test_green_by_itself_is_never_sent(database_url: str) -> None:
    green = weather(
        event="Nessuna allerta",
        headline="Nessuna allerta per oggi",
        severity=cap.Severity.MINOR,
        parameters=(cap.NamedValue("awareness_level", "1; green; Minor"),),
    )
    async with a_newsroom(database_url) as room:
        await room.hand_in(message("uno", green))
        await room.hand_in(message("due", replace(green, areas=(drawn(),)), sent=after(1)))
        assert not await room.alerts()


async def test_one_draft_waits_for_the_end_of_the_weather(database_url: str) -> None:
    pages = policies("calcinaia", FeedPolicy(VALDERA.name, Then.PAGE))
    async with a_newsroom(database_url) as room:
        first = message("uno", weather())
        await room.hand_in(first)
        cautious = room.restarted(authorities=pages)
        end = weather(response_type=(cap.ResponseType.ALL_CLEAR,), headline="Cessata allerta", event="Cessata allerta")
        await cautious.hand_in(update("due", first, end))
        assert len(await room.drafts()) == 1
        assert len(await room.pages()) == 1


async def test_an_update_that_says_nothing_ends_nothing(database_url: str) -> None:
    async with a_newsroom(database_url) as room:
        first = message("uno", weather())
        await room.hand_in(first)
        row = await room.hand_in(replace(update("due", first), infos=()))
        assert row.state is IntakeState.QUARANTINED
        assert len(await room.standing()) == 1


async def test_a_cancel_reaches_the_other_comuni_though_one_cannot_sign(database_url: str) -> None:
    broken = False

    def sign(authority: str, document: bytes) -> bytes:
        if broken and authority == "bientina":
            raise SigningFailed("the certificate of Bientina has expired")
        return document

    async with a_newsroom(database_url, sign=sign) as room:
        first = message("uno", fire(areas=(drawn(ON_THE_BORDER, "Il confine"),)))
        assert did(await room.hand_in(first)) == {"bientina": "issued", "calcinaia": "issued"}
        broken = True
        await room.hand_in(cancel("due", first))
        assert not await room.standing("calcinaia")
        assert len(await room.standing("bientina")) == 1
        assert [page.authority for page in await room.pages()] == ["bientina"]


# ── the same message ────────────────────────────────────────────────────────────────────────────────


async def test_what_was_rejected_for_its_form_is_looked_at_anew_when_it_is_mended(database_url: str) -> None:
    async with a_newsroom(database_url) as room:
        good = write(message("uno"))
        bad = good.replace(b"<severity>Severe<", b"<severity>severe<")
        assert bad != good
        assert (await room.hand_in(bad)).state in (IntakeState.QUARANTINED, IntakeState.REJECTED)
        row = await room.hand_in(good)
        assert row.state is IntakeState.TAKEN, row.because
        assert len(await room.issued()) == 1


async def test_a_signed_copy_counts_after_an_unsigned_one_was_held_up(database_url: str) -> None:
    key = keys()["ecdsa"]
    signer = Signer(pem_of(key), certificate_of(key))
    strict = replace(VALDERA, certificates=(certificate_of(key),), signature=Signature.REQUIRED)
    async with a_newsroom(database_url, sources=SOURCES | {VALDERA.name: strict}) as room:
        unsigned = write(message("uno"))
        assert (await room.hand_in(unsigned)).state is IntakeState.QUARANTINED
        row = await room.hand_in(signer.sign(unsigned, NOW))
        assert row.state is IntakeState.TAKEN, row.because
        assert len(await room.issued()) == 1


async def test_an_ack_that_comes_before_its_alert_does_not_swallow_it(database_url: str) -> None:
    async with a_newsroom(database_url) as room:
        first = message("uno")
        await room.hand_in(replace(update("ricevuto", first), msg_type=cap.MsgType.ACK, infos=()))
        row = await room.hand_in(first)
        assert did(row) == {"calcinaia": "issued"}


# ── whose place it is ───────────────────────────────────────────────────────────────────────────────


async def test_a_source_may_not_speak_of_a_comune_far_from_its_outline_by_naming_it(database_url: str) -> None:
    async with a_newsroom(database_url) as room:
        row = await room.hand_in(message("uno", fire(areas=(comune("053022", "Santa Fiora"),))))
        assert row.state is IntakeState.QUARANTINED
        assert not await room.alerts("santa-fiora")


async def test_a_source_may_name_a_comune_inside_its_outline(database_url: str) -> None:
    async with a_newsroom(database_url) as room:
        row = await room.hand_in(message("uno", fire(areas=(comune(),))))
        assert did(row) == {"calcinaia": "issued"}


async def test_a_region_may_name_a_comune_of_its_zones(database_url: str) -> None:
    async with a_newsroom(database_url) as room:
        row = await room.hand_in(message("uno", fire(areas=(comune(),)), source=REGIONE), REGIONE)
        assert did(row) == {"calcinaia": "issued"}


async def test_a_place_keeps_the_name_that_its_source_gives_it(database_url: str) -> None:
    async with a_newsroom(database_url) as room:
        await room.hand_in(message("uno", fire(areas=(drawn(name="via della <b>Botte</b>"),))))
        (row,) = await room.issued()
        assert [area.area_desc for area in said_by(row).first.areas] == ["via della Botte"]


# ── what is said ────────────────────────────────────────────────────────────────────────────────────


async def test_an_alert_of_the_weather_ends_no_later_than_its_source_may_say(database_url: str) -> None:
    async with a_newsroom(database_url) as room:
        await room.hand_in(message("uno", weather(expires=NOW + timedelta(days=300))))
        (row,) = await room.alerts()
        assert row.expires_at <= NOW + VALDERA.longest


async def test_english_words_do_not_get_into_an_italian_alert(database_url: str) -> None:
    english = weather(language="en-GB", headline="Orange flood warning", instruction="Keep away from the river banks.")
    async with a_newsroom(database_url) as room:
        await room.hand_in(message("uno", english))
        for row in await room.alerts():
            assert "river" not in said_by(row).first.instruction


async def test_the_colour_in_the_words_counts_where_the_severity_is_milder(database_url: str) -> None:
    async with a_newsroom(database_url, policies("calcinaia")) as room:
        info = weather(Colour.ROSSA, severity=cap.Severity.MODERATE, areas=(drawn(),))
        await room.hand_in(message("uno", info))
        assert len(await room.pages()) == 1, "red calls somebody, whatever the severity says"


async def test_what_joins_a_graver_alert_keeps_its_colour_and_its_words(database_url: str) -> None:
    async with a_newsroom(database_url) as room:
        await room.hand_in(message("uno", weather(Colour.ROSSA, areas=(drawn(),))))
        wider = (*FORNACETTE[:2], (43.690, 10.600), (43.690, 10.582))
        milder = weather(Colour.GIALLA, areas=(drawn(wider),))
        await room.hand_in(message("due", milder, source=PROVINCIA, sent=after(15)), PROVINCIA)
        (row,) = await room.standing()
        said = said_by(row).first
        assert said.severity is cap.Severity.EXTREME
        assert said.parameter("it.colore") == "rossa"
        assert "gialla" not in said.headline


async def test_red_in_a_street_is_not_red_for_the_whole_comune(database_url: str) -> None:
    async with a_newsroom(database_url) as room:
        await room.hand_in(message("uno", weather(Colour.GIALLA)))
        await room.hand_in(
            message("due", weather(Colour.ROSSA, areas=(drawn(),)), source=PROVINCIA, sent=after(1)), PROVINCIA
        )
        by_areas = {tuple(row.areas): said_by(row).first.severity for row in await room.standing()}
        assert by_areas == {("calcinaia",): cap.Severity.MODERATE, (): cap.Severity.EXTREME}


async def test_a_draft_that_somebody_approved_is_not_replaced_in_silence(database_url: str) -> None:
    async with a_newsroom(database_url, policies("calcinaia", FeedPolicy(VALDERA.name, Then.PAGE))) as room:
        first = message("uno")
        await room.hand_in(first)
        (draft,) = await room.drafts()
        (page,) = await room.pages()
        async with room.database.write() as session:
            await paging.acknowledge(session, page.id, "bruno", room.now)
            await issuing.approve(session, await session.get_one(tables.Alert, draft.identifier), BRUNO, room.now)
        await room.hand_in(update("due", first, fire(instruction="Vai alla scuola di via Morandi.")))
        (newer,) = await room.drafts()
        assert (newer.state, newer.identifier != draft.identifier) == (State.DRAFT, True)
        assert [page.about for page in await room.pages()] == [f"alert {newer.identifier}"]


async def test_a_draft_that_only_is_to_be_shown_now_takes_its_page_with_it(database_url: str) -> None:
    shows = FeedPolicy(VALDERA.name, Then.SHOW, frozenset({Colour.GIALLA}))
    async with a_newsroom(database_url, policies("calcinaia", shows)) as room:
        first = message("uno", weather())
        await room.hand_in(first)
        assert len(await room.pages()) == 1
        await room.hand_in(update("due", first, weather(Colour.GIALLA)))
        assert not await room.drafts()
        assert not await room.pages()


# ── the operator and the feeds ──────────────────────────────────────────────────────────────────────


async def by_hand(room: Newsroom, **changes: Any) -> str:
    """An operator's own alert, issued."""
    async with room.database.write() as session:
        wording = piena(areas=("calcinaia",), expires=room.now + timedelta(hours=10), **changes)
        row = await issuing.draft(session, wording, CALCINAIA, ANNA, room.now)
        await issuing.approve(session, row, BRUNO, room.now)
        await issuing.issue(session, row, ANNA, room.now)
        return row.identifier


async def test_a_source_never_takes_back_what_an_operator_said(database_url: str) -> None:
    async with a_newsroom(database_url) as room:
        await by_hand(room, risk=Risk.VENTO, headline="allerta arancione per vento forte")
        first = message("uno", weather())
        await room.hand_in(first)
        told = len(await room.issued())
        await room.hand_in(update("due", first, weather()))
        assert len(await room.issued()) == told, "nothing has changed"
        await room.hand_in(cancel("tre", first))
        (row,) = await room.standing()
        assert said_by(row).first.parameters_called("it.rischio") == ("vento",)


async def test_a_source_that_may_issue_does_not_issue_what_another_only_may_prepare(database_url: str) -> None:
    issues = policies("calcinaia", FeedPolicy(VALDERA.name, Then.ISSUE))
    async with a_newsroom(database_url, issues) as room:
        await room.hand_in(message("uno", weather(Colour.ROSSA), source=PROVINCIA), PROVINCIA)
        assert not await room.issued()
        await room.hand_in(message("due", weather(Colour.GIALLA, Risk.TEMPORALI), sent=after(1)))
        assert not [row for row in await room.issued() if said_by(row).first.severity is cap.Severity.EXTREME]


async def test_who_may_issue_the_weather_does_not_wait_for_the_draft_of_who_may_not(database_url: str) -> None:
    async with a_newsroom(database_url, policies("calcinaia", FeedPolicy(VALDERA.name, Then.ISSUE))) as room:
        await room.hand_in(message("uno", weather(), source=PROVINCIA), PROVINCIA)
        row = await room.hand_in(message("due", weather(), sent=after(1)))
        assert did(row) == {"calcinaia": "issued"}
        assert not await room.drafts()


async def test_an_operators_own_alert_is_joined_and_updated_only_by_what_is_graver(database_url: str) -> None:
    async with a_newsroom(database_url) as room:
        own = await by_hand(room)
        assert did(await room.hand_in(message("uno", weather()))) == {"calcinaia": "joined"}
        assert did(await room.hand_in(message("due", weather(Colour.ROSSA), sent=after(1)))) == {"calcinaia": "issued"}
        told = await room.issued()
        assert [row.updates for row in told] == [None, own]


# ── every way of being wrong ────────────────────────────────────────────────────────────────────────


def rows() -> list[dict[str, str]]:
    file = RULES / "expected.json"
    return json.loads(file.read_text()) if file.exists() else []


@pytest.mark.skipif(not RULES.exists(), reason="shared/data/cap_rules is not here")
@pytest.mark.parametrize("on_warning", list(OnWarning))
@pytest.mark.parametrize("on_error", list(OnError))
async def test_every_file_of_the_rules_ends_where_the_policy_of_its_source_wants_it(
    database_url: str, on_error: OnError, on_warning: OnWarning
) -> None:
    source = replace(VALDERA, on_error=on_error, on_warning=on_warning)
    for number, row in enumerate(rows()):
        raw = (RULES / row["file"]).read_bytes()
        # The files are one message with one fault each: of two in one database the second would be the same again.
        async with a_newsroom(await an_empty_copy(database_url, number), sources={source.name: source}) as room:
            taken = await room.hand_in(raw)
            assert (taken.raw, taken.sha256) == (raw, hashlib.sha256(raw).hexdigest())
            told = bool(await room.issued())
            match row["expected"]:
                case "accept":
                    assert (taken.state, told) == (IntakeState.TAKEN, True), row
                case "warn" if on_warning is OnWarning.QUARANTINE:
                    assert (taken.state, told) == (IntakeState.QUARANTINED, False), row
                case "warn":
                    assert (taken.state, told) == (IntakeState.TAKEN, True), (row, taken.because, taken.became)
                case "ignore":
                    assert (taken.state, told, taken.became) == (IntakeState.TAKEN, False, []), row
                case "reject":
                    states = {IntakeState.REJECTED}
                    if on_error is OnError.QUARANTINE:  # what cannot be understood has nothing to be quarantined
                        states |= {IntakeState.QUARANTINED}
                    assert taken.state in states, row
                    assert not told, row
                    assert taken.findings, row
                    is_called = taken.state is IntakeState.QUARANTINED
                    assert bool(await room.pages()) is is_called, row
                case other:
                    raise AssertionError(f"no such verdict: {other}")


async def an_empty_copy(database_url: str, number: int) -> str:
    empty = Path(database_url.removeprefix("sqlite+aiosqlite:///"))
    copy = empty.with_name(f"copy-{number}.db")
    await asyncio.to_thread(shutil.copyfile, empty, copy)
    return f"sqlite+aiosqlite:///{copy}"


LAUGHS = b"""<?xml version="1.0"?><!DOCTYPE alert [<!ENTITY a "haha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;"><!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;">]>
<alert xmlns="urn:oasis:names:tc:emergency:cap:1.2"><identifier>&d;</identifier></alert>"""
OUTSIDE = b"""<?xml version="1.0"?><!DOCTYPE alert [<!ENTITY x SYSTEM "file:///etc/passwd">]>
<alert xmlns="urn:oasis:names:tc:emergency:cap:1.2"><identifier>&x;</identifier></alert>"""


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x00\xff\xfe garbage",
        b"Buongiorno, c'e' un incendio a Fornacette",
        b'{"alert": 1}',
        LAUGHS,
        OUTSIDE,
        gzip.compress(b"<alert>" * 100_000),
        b"PK\x03\x04 not an archive",
        b"<a>" * 50_000,
        b"<alert xmlns='urn:oasis:names:tc:emergency:cap:1.2'/>",
        b"<feed xmlns='http://www.w3.org/2005/Atom'></feed>",
        b"<!-- " + b"x" * 6_000_000 + b" --><alert/>",
    ],
    ids=["nothing", "bytes", "words", "json", "laughs", "entity", "gzip", "zip", "deep", "bare", "feed", "6-MB"],
)
async def test_whatever_is_handed_in_is_kept_byte_for_byte_and_tells_nobody(database_url: str, raw: bytes) -> None:
    async with a_newsroom(database_url) as room:
        row = await room.hand_in(raw)
        assert (row.raw, row.sha256) == (raw, hashlib.sha256(raw).hexdigest())
        assert row.state in (IntakeState.REJECTED, IntakeState.QUARANTINED), row.because
        assert row.because
        assert row.findings
        assert not await room.alerts()
        assert did(await room.hand_in(message("dopo"))) == {"calcinaia": "issued"}, "the next one is not affected"


async def test_cap_in_utf_16_is_read_or_refused_but_kept(database_url: str) -> None:
    raw = write(message("uno")).decode().replace("UTF-8", "UTF-16").replace("utf-8", "utf-16").encode("utf-16")
    async with a_newsroom(database_url) as room:
        row = await room.hand_in(raw)
        assert row.raw == raw
        assert row.state in (IntakeState.TAKEN, IntakeState.REJECTED, IntakeState.QUARANTINED)
        assert (row.state is IntakeState.TAKEN) is bool(await room.issued())


# ── again, or under a name that is taken ────────────────────────────────────────────────────────────


async def test_the_same_message_three_times_is_told_once(database_url: str) -> None:
    async with a_newsroom(database_url) as room:
        raw = write(message("uno"))
        states = [(await room.hand_in(raw)).state for _ in range(3)]
        assert states == [IntakeState.TAKEN, IntakeState.REPEATED, IntakeState.REPEATED]
        spaced = await room.hand_in(raw.replace(b"<info>", b"\n\n<info>"))
        assert spaced.state is IntakeState.REPEATED
        assert len(await room.issued()) == 1


async def test_other_words_under_the_same_key_wait_for_somebody(database_url: str) -> None:
    async with a_newsroom(database_url) as room:
        await room.hand_in(message("uno"))
        row = await room.hand_in(message("uno", fire(**ROSSA)))
        assert row.state is IntakeState.QUARANTINED
        assert "says something else" in row.because
        assert len(await room.issued()) == 1
        assert [page.about for page in await room.pages()] == [f"intake {row.id}"]


async def test_who_is_no_sender_of_the_source_waits_for_somebody(database_url: str) -> None:
    async with a_newsroom(database_url) as room:
        row = await room.hand_in(replace(message("uno"), sender="qualcuno@example.org"))
        assert row.state is IntakeState.QUARANTINED
        assert "qualcuno@example.org is no sender" in row.because


# ── signatures ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("required", [Signature.REQUIRED, Signature.IF_PRESENT])
async def test_a_signature_counts_by_the_pinned_certificate_only(database_url: str, required: Signature) -> None:
    ours, theirs = keys()["ecdsa"], keys()["stranger"]
    pinned = replace(VALDERA, certificates=(certificate_of(ours),), signature=required)
    good = Signer(pem_of(ours), certificate_of(ours)).sign(write(message("buona")), NOW)
    changed = Signer(pem_of(ours), certificate_of(ours)).sign(write(message("cambiata")), NOW)
    changed = changed.replace(b"<severity>Severe", b"<severity>Extreme")
    stranger = Signer(pem_of(theirs), certificate_of(theirs)).sign(write(message("altri", sent=after(-1))), NOW)
    async with a_newsroom(database_url, sources={VALDERA.name: pinned}) as room:
        assert (await room.hand_in(changed)).state is IntakeState.REJECTED
        assert not await room.issued()
        assert (await room.hand_in(good)).state is IntakeState.TAKEN
        unknown = (await room.hand_in(stranger)).state
        unsigned = (await room.hand_in(write(message("senza", sent=after(-2))))).state
        held_up = IntakeState.QUARANTINED if required is Signature.REQUIRED else IntakeState.TAKEN
        assert (unknown, unsigned) == (held_up, held_up)


# ── places ──────────────────────────────────────────────────────────────────────────────────────────

METRE = 1 / 111_320
SOUTH_EDGE = 43.550
"""Of Unione Valdera's outline, its most southern corner."""


@pytest.mark.parametrize(("metres", "ends_as"), [(300, IntakeState.TAKEN), (900, IntakeState.QUARANTINED)])
async def test_a_drawing_may_reach_over_the_border_by_the_tolerance(
    database_url: str, metres: float, ends_as: IntakeState
) -> None:
    south = SOUTH_EDGE - metres * METRE
    place = ((south, 10.650), (43.600, 10.651), (43.600, 10.649))
    async with a_newsroom(database_url) as room:
        row = await room.hand_in(message("uno", fire(areas=(drawn(place, "Il confine sud"),))))
        assert row.state is ends_as, row.because


@pytest.mark.parametrize(
    "area",
    [
        zone("Cala-7"),
        zone("Tosc-A4"),
        comune("048017", "Firenze"),
        cap.Area("Fornacette"),
        cap.Area("Toscana", geocodes=(cap.NamedValue("EMMA_ID", "IT009"),)),
    ],
    ids=["other-region", "zone-not-theirs", "Florence", "name-only", "emma"],
)
async def test_a_place_that_is_not_theirs_or_not_known_waits_for_somebody(database_url: str, area: cap.Area) -> None:
    async with a_newsroom(database_url) as room:
        row = await room.hand_in(
            message("uno", fire(areas=(drawn(), area))) if area.polygons else message("uno", fire(areas=(area,)))
        )
        assert row.state is IntakeState.QUARANTINED
        assert not await room.alerts()
        assert len(await room.pages()) == 1


async def test_latitudes_and_longitudes_exchanged_wait_for_somebody(database_url: str) -> None:
    raw = write(message("uno"))
    for lat, lon in FORNACETTE:
        pair = f"{lat},{lon}".encode()
        assert pair in raw, (pair, raw)
        raw = raw.replace(pair, f"{lon},{lat}".encode())
    async with a_newsroom(database_url) as room:
        row = await room.hand_in(raw)
        assert row.state is IntakeState.QUARANTINED
        assert "outside the territory" in row.because
        assert "coordinates-exchanged" in {finding["rule"] for finding in row.findings}


async def test_a_zone_of_the_region_speaks_to_the_comuni_in_it(database_url: str) -> None:
    async with a_newsroom(database_url) as room:
        row = await room.hand_in(message("uno", weather(areas=(zone(),)), source=REGIONE), REGIONE)
        assert set(did(row)) == {"bientina", "calcinaia", "cascina", "fucecchio"}
        assert not await room.alerts("santa-fiora")
        other = message("due", weather(areas=(zone("Cala-7"),)), source=REGIONE, sent=after(1))
        assert (await room.hand_in(other, REGIONE)).state is IntakeState.QUARANTINED


# ── what each comune wants ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("then", "issued", "drafts", "pages"),
    [(Then.ISSUE, 1, 0, 0), (Then.PAGE, 0, 1, 1), (Then.PREPARE, 0, 1, 0), (Then.SHOW, 0, 0, 0)],
)
@pytest.mark.parametrize("info", [fire(), weather()], ids=["fire", "weather"])
async def test_a_comune_says_what_follows(
    database_url: str, info: cap.Info, then: Then, issued: int, drafts: int, pages: int
) -> None:
    async with a_newsroom(database_url, policies("calcinaia", FeedPolicy(VALDERA.name, then))) as room:
        row = await room.hand_in(message("uno", info))
        assert row.state is IntakeState.TAKEN
        assert (len(await room.issued()), len(await room.drafts()), len(await room.pages())) == (issued, drafts, pages)


async def test_each_comune_has_its_own_policy_for_one_message(database_url: str) -> None:
    shows = policies("bientina", FeedPolicy(VALDERA.name, Then.SHOW))
    both = policies("calcinaia", FeedPolicy(VALDERA.name, Then.ISSUE), into=shows)
    async with a_newsroom(database_url, both) as room:
        row = await room.hand_in(message("uno", fire(areas=(drawn(ON_THE_BORDER, "Il confine"),))))
        assert did(row) == {"bientina": "shown", "calcinaia": "issued"}


async def test_what_ships_is_cautious(database_url: str) -> None:
    async with a_newsroom(database_url, policies("calcinaia")) as room:
        await room.hand_in(message("uno", weather(Colour.GIALLA)))
        assert (len(await room.drafts()), len(await room.pages())) == (1, 0)
        await room.hand_in(message("due", weather(Colour.ARANCIONE), sent=after(1)))
        assert (len(await room.drafts()), len(await room.pages())) == (1, 1)
        await room.hand_in(message("tre", fire(severity=cap.Severity.MINOR), sent=after(2)))
        assert len(await room.drafts()) == 1


async def test_an_update_that_changes_nothing_tells_nobody(database_url: str) -> None:
    async with a_newsroom(database_url) as room:
        for first, info in ((message("uno"), fire()), (message("due", weather(), sent=after(1)), weather())):
            await room.hand_in(first)
            told = len(await room.issued())
            row = await room.hand_in(update(f"{first.identifier}-bis", first, info))
            assert did(row) == {"calcinaia": "joined"}
            assert len(await room.issued()) == told


async def test_an_ack_is_noted_and_an_error_calls_somebody(database_url: str) -> None:
    async with a_newsroom(database_url) as room:
        first = message("uno")
        await room.hand_in(first)
        ack = await room.hand_in(replace(update("ricevuto", first), msg_type=cap.MsgType.ACK))
        assert did(ack) == {"": "acknowledged"}
        assert not await room.pages()
        refused = replace(update("no", first, minutes=16), msg_type=cap.MsgType.ERROR, note="<b>Zona</b> errata")
        assert did(await room.hand_in(refused)) == {"": "refused"}
        (page,) = await room.pages()
        assert "Zona errata" in page.sentence
        assert len(await room.standing()) == 1


# ── words ───────────────────────────────────────────────────────────────────────────────────────────


async def test_words_from_outside_are_plain_when_they_go_out(database_url: str) -> None:
    info = fire(
        headline="Incendio <b>grave</b> \u202egro.live\u202c a Fornacette 🔥",
        description="<script>alert(1)</script>" + "Il fumo va verso le case. " * 200,
    )
    async with a_newsroom(database_url) as room:
        await room.hand_in(message("uno", info))
        rows = await room.alerts()
        assert len(rows) == 1
        said = said_by(rows[0]).first
        assert said.headline == "Incendio grave gro.live a Fornacette 🔥"
        assert "alert(1)" not in said.description
        assert "Resta in casa" in said.instruction
        assert rows[0].state is State.ISSUED, "five thousand characters are cut, not refused"


async def test_what_could_be_read_as_it_alert_is_not_issued_by_a_machine(database_url: str) -> None:
    async with a_newsroom(database_url) as room:
        await room.hand_in(message("uno", fire(headline="IT-alert: incendio a Fornacette")))
        assert (len(await room.issued()), len(await room.drafts()), len(await room.pages())) == (0, 1, 1)


async def test_what_is_only_in_english_is_not_issued_by_a_machine(database_url: str) -> None:
    english = fire(
        language="en-GB",
        headline="Warehouse fire in Fornacette",
        description="Smoke drifts towards the houses.",
        instruction="Stay indoors.",
    )
    async with a_newsroom(database_url) as room:
        await room.hand_in(message("uno", english))
        assert (len(await room.issued()), len(await room.drafts()), len(await room.pages())) == (0, 1, 1)
        both = message(
            "due",
            fire(areas=(drawn(CAPOLUOGO, "Capoluogo"),)),
            replace(english, areas=(drawn(CAPOLUOGO, "Capoluogo"),)),
            sent=after(1),
        )
        await room.hand_in(both)
        (row,) = await room.issued()
        assert [info.language for info in said_by(row).infos] == ["it-IT", "en-GB"]


@pytest.mark.parametrize("status", [cap.Status.EXERCISE, cap.Status.TEST, cap.Status.DRAFT, cap.Status.SYSTEM])
async def test_what_is_not_actual_tells_nobody_and_supersedes_nothing(database_url: str, status: cap.Status) -> None:
    async with a_newsroom(database_url) as room:
        first = message("uno")
        await room.hand_in(first)
        row = await room.hand_in(replace(cancel("prova", first), status=status, note="Esercitazione Valdera 2026"))
        assert (row.state, row.became) == (IntakeState.TAKEN, [])
        row = await room.hand_in(message("altra", fire(**ROSSA), sent=after(31), status=status, note="Esercitazione"))
        assert (row.state, row.became) == (IntakeState.TAKEN, [])
        assert len(await room.standing()) == 1
        assert len(await room.alerts()) == 1


# ── when ────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_ended_before_it_came_tells_nobody(database_url: str) -> None:
    async with a_newsroom(database_url) as room:
        room.now = after(60 * 7)
        row = await room.hand_in(message("uno"))
        assert row.state is IntakeState.TAKEN
        assert "before it came" in row.because
        assert not await room.alerts()


async def test_an_end_far_ahead_is_brought_to_what_the_source_may_say(database_url: str) -> None:
    async with a_newsroom(database_url) as room:
        await room.hand_in(message("uno", fire(expires=NOW + timedelta(days=300))))
        (row,) = await room.issued()
        assert row.expires_at == NOW + VALDERA.longest


@pytest.mark.parametrize(("ahead", "ends_as"), [(5, IntakeState.TAKEN), (15, IntakeState.QUARANTINED)])
async def test_a_clock_may_be_a_few_minutes_ahead(database_url: str, ahead: float, ends_as: IntakeState) -> None:
    async with a_newsroom(database_url) as room:
        assert (await room.hand_in(write(message("uno", sent=after(ahead))))).state is ends_as


# ── what cannot be signed, and what somebody decides ────────────────────────────────────────────────


@pytest.mark.parametrize("info", [fire(), weather()], ids=["fire", "weather"])
async def test_what_cannot_be_signed_is_not_published_and_somebody_is_called(database_url: str, info: cap.Info) -> None:
    def sign(authority: str, document: bytes) -> bytes:
        raise SigningFailed("the certificate has expired")

    async with a_newsroom(database_url, sign=sign) as room:
        row = await room.hand_in(message("uno", info))
        assert did(row) == {"calcinaia": "drafted"}
        assert not await room.dispatches()
        (draft,), (page,) = await room.drafts(), await room.pages()
        assert (draft.cap, draft.state) == (None, State.DRAFT)
        assert "certificate has expired" in page.sentence


async def test_what_somebody_lets_pass_is_drafted_and_never_issued_by_itself(database_url: str) -> None:
    async with a_newsroom(database_url) as room:
        row = await room.hand_in(replace(message("uno"), sender="qualcuno@example.org"))
        async with room.database.write() as session:
            accepted = await room.receiver.accept(session, row.id, "anna", room.now)
            assert (accepted.state, accepted.settled_by) == (IntakeState.TAKEN, "anna")
        assert (len(await room.issued()), len(await room.drafts()), len(await room.pages())) == (0, 1, 0)
        async with room.database.write() as session:
            with pytest.raises(NotQuarantined):
                await room.receiver.accept(session, row.id, "anna", room.now)


async def test_what_is_dismissed_stays_and_nothing_follows(database_url: str) -> None:
    async with a_newsroom(database_url) as room:
        raw = write(replace(message("uno"), sender="qualcuno@example.org"))
        row = await room.hand_in(raw)
        async with room.database.write() as session:
            await room.receiver.dismiss(session, row.id, "anna", room.now)
        assert (await room.intake(row.id)).state is IntakeState.DISMISSED
        assert not await room.alerts() and not await room.pages()
        assert (await room.hand_in(raw)).state is IntakeState.REPEATED, "what was decided is not asked again"


async def test_what_cannot_be_understood_cannot_be_accepted(database_url: str) -> None:
    async with a_newsroom(database_url) as room:
        row = await room.hand_in(b"garbage")
        async with room.database.write() as session:
            with pytest.raises(NotQuarantined):
                await room.receiver.accept(session, row.id, "anna", room.now)
        with pytest.raises(NotQuarantined):
            async with room.database.write() as session:
                await room.receiver.dismiss(session, 999, "anna", room.now)


async def test_a_document_that_does_not_say_its_language_is_in_that_of_its_source(database_url: str) -> None:
    """Most of the Italian ones do not, and CAP would have them read as English, which no machine sends here."""
    async with a_newsroom(database_url) as room:
        silent = written(message("uno")).replace(b"<language>it-IT</language>", b"")
        assert b"<language>" not in silent
        row = await room.hand_in(silent)
        assert {finding["rule"] for finding in row.findings} == {"language-missing"}
        assert [became["did"] for became in row.became] == ["issued"]


async def test_whoever_approves_a_draft_is_called_for_it_no_more(database_url: str) -> None:
    async with a_newsroom(database_url) as room:
        room = room.restarted(authorities=policies("calcinaia", FeedPolicy(VALDERA.name, Then.PAGE)))
        await room.hand_in(message("uno"))
        (page,) = await room.pages()
        (draft,) = await room.drafts()
        assert page.acknowledged_at is None
        async with room.database.write() as session:
            row = await session.get_one(tables.Alert, draft.identifier)
            await issuing.approve(session, row, BRUNO, room.now)
        assert not await room.pages(), "what is open still"


async def test_an_update_that_waited_until_its_original_had_ended_is_issued_all_the_same(database_url: str) -> None:
    async with a_newsroom(database_url) as room:
        first = message("uno", fire(expires=NOW + timedelta(hours=1)))
        await room.hand_in(first)
        room = room.restarted(authorities=policies("calcinaia", FeedPolicy(VALDERA.name, Then.PAGE)))
        await room.hand_in(
            update("due", first, fire(expires=NOW + timedelta(hours=9), instruction="Non uscire di casa."))
        )
        (draft,) = await room.drafts()
        room.now = NOW + timedelta(hours=2)
        async with room.database.write() as session:
            row = await session.get_one(tables.Alert, draft.identifier)
            await issuing.approve(session, row, BRUNO, room.now)
            await issuing.issue(session, row, ANNA, room.now)
        assert [row.identifier for row in await room.issued("calcinaia")][-1] == draft.identifier
