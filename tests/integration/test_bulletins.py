"""Bulletins through the door as in service: what five comuni say of them, when, to whom; and what they never say."""

import asyncio
import csv
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from sqlalchemy import select, text, update

from alerting import cap_json, issuing
from alerting.actors import Actor, Role
from alerting.composing import Wording
from alerting.domain import cap
from alerting.domain.authority import Authority
from alerting.domain.delivery import Progress
from alerting.domain.findings import Weight
from alerting.domain.intake import CameBy, IntakeState
from alerting.domain.kinds import Colour, Kind, Risk
from alerting.domain.lifecycle import State
from alerting.domain.outlook import Trend
from alerting.domain.policies import FeedPolicy, Then
from alerting.domain.recipients import Place, Precision
from alerting.domain.rendering import ROME
from alerting.domain.sources import Source
from alerting.domain.text_rules import lint
from alerting.feeds import dpc
from alerting.feeds.asking import tell_duty
from alerting.feeds.silence import silent
from alerting.intake.receiving import Receiver
from alerting.persistence import Database, tables
from alerting.sources import load as load_sources
from alerting.subscribing import join
from alerting.targeting import select_recipients
from consumers.fanout import FanOut
from tests.integration.calcinaia import AUTHORITIES, SEAL, citizen, five_comuni, one_database
from tests.unit import dpc_archives as made
from tests.unit.test_dpc_notifications import (
    ELSEWHERE,
    HEARD_ELSEWHERE,
    MARCH_2025,
    NOVEMBER_2023,
    OF_THE_RIVER,
    ON_THE_ARNO,
    ON_THE_ARNO_IN_2025,
    Sent,
    at,
    river,
)

DATA = Path(__file__).parents[2].parent / "shared/data"
DPC, REGION = "dpc-criticita", "regione-toscana"
ISSUES_ALL = (FeedPolicy(DPC, Then.ISSUE), FeedPolicy(REGION, Then.ISSUE))
GIALLA, ARANCIONE, ROSSA = Colour
RIVER, HILLS, STORMS = Risk.IDRAULICO, Risk.IDROGEOLOGICO, Risk.TEMPORALI
MARINA, PIERO = Actor("marina", Role.OPERATOR, "calcinaia"), Actor("piero", Role.APPROVER, "calcinaia")

Issued = tuple[datetime, str, str, str]
"""When, by which comune, what it was (Alert, Update, all-clear, Cancel), and its headline."""

BECOMES = {Trend.NEW: "Alert", Trend.ENDED: "all-clear"}
"""What each trend is in CAP; the others are Updates."""


@dataclass
class Office:
    """The receiver of the five comuni, and the clock on its wall."""

    database: Database
    now: datetime = datetime(2025, 3, 1, 12, 0, tzinfo=ROME)
    authorities: dict[str, Authority] = field(
        default_factory=lambda: {code: replace(one, feeds=ISSUES_ALL) for code, one in AUTHORITIES.items()}
    )
    sources: dict[str, Source] = field(
        default_factory=lambda: {name: replace(one, enabled=True) for name, one in load_sources().items()}
    )

    @property
    def receiver(self) -> Receiver:
        return Receiver(self.database, self.authorities, self.sources, clock=lambda: self.now)

    async def take(self, raw: bytes, when: datetime, source: str = DPC) -> tables.Intake:
        self.now = when
        (number,) = await self.receiver.take(self.sources[source], raw, "application/zip", CameBy.POLL)
        async with self.database.read() as session:
            row = await session.get_one(tables.Intake, number)
        assert row.state is not IntakeState.RECEIVED, row.because
        return row

    async def bulletin(self, when: datetime, today: made.Day, tomorrow: made.Day) -> tables.Intake:
        """One that comes the minute it is published."""
        return await self.take(made.bulletin(when, today, tomorrow), when)

    async def alerts(self, *states: State) -> list[tables.Alert]:
        async with self.database.read() as session:
            query = select(tables.Alert).order_by(tables.Alert.drafted_at, tables.Alert.authority)
            rows = list((await session.scalars(query)).all())
        return [row for row in rows if not states or row.state in states]

    async def issued(self) -> list[Issued]:
        """All that was ever issued."""
        return sorted(
            (row.issued_at.astimezone(ROME), row.authority, _what(row), _headline(row))
            for row in await self.alerts()
            if row.issued_at is not None
        )

    async def in_force(self, authority: str = "calcinaia") -> tables.Alert:
        (row,) = [row for row in await self.alerts(State.ISSUED) if row.authority == authority and not _is_end(row)]
        return row

    async def pages(self, *, seen: bool = False) -> list[tables.Page]:
        async with self.database.read() as session:
            pages = (await session.scalars(select(tables.Page).order_by(tables.Page.id))).all()
        return [page for page in pages if seen or page.acknowledged_at is None]


def _info(row: tables.Alert) -> cap.Info:
    return cap_json.from_json(row.document).first


def _headline(row: tables.Alert) -> str:
    return _info(row).headline


def _is_end(row: tables.Alert) -> bool:
    return row.cancels is not None or cap.ResponseType.ALL_CLEAR in _info(row).response_type


def _what(row: tables.Alert) -> str:
    is_end = row.cancels is None and _is_end(row)
    return "all-clear" if is_end else row.msg_type.value


@pytest.fixture
async def office(database_url: str) -> AsyncIterator[Office]:
    async with five_comuni(database_url) as database:
        yield Office(database)


@pytest.fixture
def careful(office: Office) -> Office:
    """As it ships: no comune lets the Dipartimento issue."""
    office.authorities = {code: replace(one, feeds=()) for code, one in office.authorities.items()}
    return office


@pytest.fixture
def calcinaia(office: Office) -> Office:
    """Only Calcinaia, for what is the same everywhere."""
    office.authorities = {"calcinaia": office.authorities["calcinaia"]}
    return office


def archived(stamp: str) -> bytes:
    path = DATA / f"dpc/{stamp}_all.zip"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    return path.read_bytes()


def republished(stamp: str) -> tuple[datetime, bytes]:
    """An archive with the words of the republished tables in its own, and a CAP file that says the same."""
    paths = [DATA / f"dpc_csv/{stamp}_{day}-zone.csv" for day in ("oggi", "domani")]
    if not all(path.exists() for path in paths):
        pytest.skip(f"{paths[0]} is not here")
    sheets = [list(csv.DictReader(StringIO(path.read_text()))) for path in paths]
    issued = datetime.fromisoformat(sheets[0][0]["data_pubblicazione"]).astimezone(ROME).replace(second=0)
    named = f"{issued:%Y%m%d_%H%M}"
    today, tomorrow = ({row["zona_codice"]: _colours(row) for row in sheet} for sheet in sheets)
    return issued, made.packed(
        {
            f"{named}_today.dbf": made.dbf(map(_cells, sheets[0])),
            f"{named}_tomorrow.dbf": made.dbf(map(_cells, sheets[1])),
            f"Cap_{named}.xml": made.cap(issued, today, tomorrow),
        }
    )


def _cells(row: Mapping[str, str]) -> dict[str, str]:
    columns = {"Zona_all": "zona_codice", "Criticita": "avviso_criticita", "Idrogeo": "avviso_idrogeologico"}
    columns |= {"Temporali": "avviso_temporali", "Idraulico": "avviso_idraulico"}
    return {ours: row[theirs] for ours, theirs in columns.items()}


def _colours(row: Mapping[str, str]) -> dict[Risk, Colour]:
    cells = {RIVER: row["avviso_idraulico"], HILLS: row["avviso_idrogeologico"], STORMS: row["avviso_temporali"]}
    return {risk: colour for risk, cell in cells.items() for colour in Colour if colour.value.upper() in cell}


def a4(**colours: Colour) -> made.Day:
    """The day of the lower Valdarno; the Amiata is green."""
    return {"Tosc-A4": {Risk(name): colour for name, colour in colours.items()}, "Tosc-F1": {}}


GREEN = a4()


# ── what was published, and what a careful officer says of it ───────────────────────────────────────


async def test_on_quiet_days_five_comuni_say_nothing(office: Office) -> None:
    first = await office.take(archived("20260118_1515"), at(2026, 1, 18, 15, 20))
    second = await office.take(archived("20260730_1511"), at(2026, 7, 30, 15, 16))
    third = await office.take(republished("20260808T1357")[1], at(2026, 8, 8, 14, 2))
    assert [row.state for row in (first, second, third)] == [IntakeState.TAKEN] * 3
    assert await office.alerts() == []
    assert {one["did"] for row in (first, second, third) for one in row.became} == {"nothing"}


@one_database
async def test_the_same_archives_are_heard_where_they_speak_of(office: Office) -> None:
    """So that the silence above means something: three of our comuni, moved to Cagliari, Reggio and Bolzano."""
    moved = {"calcinaia": "cagliari", "cascina": "reggio", "bientina": "bolzano"}
    office.authorities = {
        code: replace(office.authorities[code], warning_zones=ELSEWHERE[there]) for code, there in moved.items()
    }
    await office.take(archived("20260118_1515"), at(2026, 1, 18, 15, 15))
    await office.take(archived("20260730_1511"), at(2026, 7, 30, 15, 11))
    await office.take(republished("20260808T1357")[1], at(2026, 8, 8, 13, 57))
    heard = [(when, moved[comune], what, headline) for when, comune, what, headline in await office.issued()]
    assert sorted(heard) == as_issued(HEARD_ELSEWHERE)


def as_issued(sent: Iterable[Sent]) -> list[Issued]:
    """The officer's list, as CAP divides it. An archive's name tells no seconds."""
    return sorted(
        (when.replace(second=0), comune, BECOMES.get(trend, "Update"), headline)
        for when, comune, trend, headline in sent
    )


async def test_november_2023_is_issued_as_a_careful_officer_would(office: Office) -> None:
    for stamp in ("20231102T1614", "20231102T1913", "20231103T1614"):
        when, raw = republished(stamp)
        assert (await office.take(raw, when)).state is IntakeState.TAKEN
    assert await office.issued() == as_issued(NOVEMBER_2023)
    assert await office.alerts(State.DRAFT, State.APPROVED) == []


ARNO = [(when, river(today), river(tomorrow)) for when, today, tomorrow in ON_THE_ARNO_IN_2025]


async def test_the_red_alert_on_the_arno_is_four_texts_in_each_comune_on_the_river(office: Office) -> None:
    for when, today, tomorrow in ARNO:
        assert (await office.bulletin(when, today, tomorrow)).findings == []
    assert await office.issued() == as_issued(MARCH_2025)
    mine = [row for row in await office.alerts() if row.authority == "calcinaia"]
    assert [row.state for row in mine] == [State.SUPERSEDED] * 3 + [State.ISSUED]
    assert [row.updates for row in mine] == [None, *(row.identifier for row in mine[:-1])], "each follows the last"


@one_database
async def test_what_is_issued_by_policy_says_whose_forecast_it_is_and_never_the_raw_fields(calcinaia: Office) -> None:
    await calcinaia.bulletin(*ARNO[1])
    row = await calcinaia.in_force()
    info = _info(row)
    assert row.approver == "policy of calcinaia"
    assert info.description.endswith("(Fonte: Dipartimento della Protezione Civile)")
    assert info.parameter("it.colore") == "arancione"
    assert info.parameters_called("it.rischio") == ("idraulico",)
    assert "CRITICITA" not in f"{info.event} {info.headline} {info.description} {info.instruction}".upper()
    assert info.expires == at(2025, 3, 15, 0, 0), "until the end of what is forecast"
    assert [one for one in lint(cap_json.from_json(row.document)) if one.weight is Weight.ERROR] == []


# ── the cautious policy that ships ──────────────────────────────────────────────────────────────────


async def test_as_it_ships_yellow_is_drafted_orange_is_drafted_with_a_page_and_nothing_is_issued(
    careful: Office,
) -> None:
    yellow = {"Tosc-A4": {STORMS: GIALLA}, "Tosc-F1": {HILLS: ARANCIONE}}
    await careful.bulletin(at(2025, 5, 5, 15, 0), yellow, yellow)
    drafts = await careful.alerts(State.DRAFT)
    assert [row.authority for row in drafts] == [*ON_THE_ARNO, "santa-fiora"]
    assert await careful.issued() == []
    (page,) = await careful.pages()
    assert (page.authority, page.about) == ("santa-fiora", f"alert {drafts[-1].identifier}")
    assert "Allerta arancione per frane" in page.sentence


async def test_a_draft_nobody_has_looked_at_is_replaced_by_the_newer_one_and_its_page_moves_along(
    careful: Office,
) -> None:
    careful.authorities = {"calcinaia": careful.authorities["calcinaia"]}
    for when, today, tomorrow in ARNO[:4]:
        await careful.bulletin(when, today, tomorrow)
    (draft,) = await careful.alerts(State.DRAFT)
    assert _headline(draft) == f"Allerta rossa {OF_THE_RIVER}", "people know nothing yet: it rises from nothing"
    (page,) = await careful.pages(seen=True)
    assert page.about == f"alert {draft.identifier}"
    assert "Allerta rossa" in page.sentence
    for when, today, tomorrow in ARNO[4:]:
        await careful.bulletin(when, today, tomorrow)
    assert await careful.alerts(State.DRAFT, State.APPROVED) == [], "over before anybody was told"
    assert await careful.pages() == [], "and nobody need look any more"
    assert await careful.issued() == []


@one_database
async def test_the_end_of_what_a_person_issued_is_put_before_a_person(careful: Office) -> None:
    careful.authorities = {"calcinaia": careful.authorities["calcinaia"]}
    await careful.bulletin(*ARNO[3])
    (draft,) = await careful.alerts(State.DRAFT)
    await _issue_draft(careful, draft)
    await careful.bulletin(at(2025, 3, 14, 18, 0), GREEN, GREEN)
    (end,) = await careful.alerts(State.DRAFT)
    assert (_what(end), end.updates, _headline(end)) == (
        "all-clear",
        draft.identifier,
        f"Fine dell'allerta rossa {OF_THE_RIVER}",
    )
    assert [page.about for page in await careful.pages()][-1] == f"alert {end.identifier}"


async def _issue_draft(office: Office, draft: tables.Alert) -> None:
    async with office.database.write() as session:
        row = await session.get_one(tables.Alert, draft.identifier)
        await issuing.approve(session, row, PIERO, office.now)
        await issuing.issue(session, row, MARINA, office.now)


# ── again, in the wrong order, corrected ────────────────────────────────────────────────────────────


async def test_the_same_archive_again_and_an_older_one_after_it_say_nothing(calcinaia: Office) -> None:
    older, newer = (made.bulletin(*ARNO[n]) for n in (3, 5))
    when = ARNO[5][0]
    states = [(await calcinaia.take(raw, when)).state for raw in (newer, newer, older, newer)]
    assert states == [IntakeState.TAKEN, *[IntakeState.REPEATED] * 3]
    assert [headline for _, _, _, headline in await calcinaia.issued()] == [f"Allerta gialla {OF_THE_RIVER}"]


async def test_two_processes_with_the_same_archive_say_it_once(office: Office) -> None:
    raw, office.now = made.bulletin(*ARNO[3]), ARNO[3][0]
    takes = (office.receiver.take(office.sources[DPC], raw, "application/zip", CameBy.POLL) for _ in range(3))
    await asyncio.gather(*takes)
    assert [comune for _, comune, _, _ in await office.issued()] == list(ON_THE_ARNO)


async def test_an_erratum_under_the_same_hour_is_heard(calcinaia: Office) -> None:
    when = ARNO[3][0]
    await calcinaia.bulletin(when, a4(idraulico=ARANCIONE), GREEN)
    erratum = await calcinaia.take(made.bulletin(when, a4(idraulico=ROSSA), GREEN), when + timedelta(minutes=20))
    assert erratum.state is IntakeState.TAKEN
    assert await calcinaia.issued() == [
        (when, "calcinaia", "Alert", f"Allerta arancione {OF_THE_RIVER}"),
        (when + timedelta(minutes=20), "calcinaia", "Update", f"L'allerta sale da arancione a rossa {OF_THE_RIVER}"),
    ]


async def test_a_bulletin_from_the_future_waits_for_a_person_and_hides_none_that_follows(calcinaia: Office) -> None:
    """One slip in a file's name, a year ahead: every true bulletin after it would look older."""
    when = ARNO[1][0]
    raw = made.bulletin(when.replace(year=2026), GREEN, GREEN)
    row = await calcinaia.take(raw, when)
    assert row.state is IntakeState.QUARANTINED
    assert "2026" in row.because
    assert [page.about for page in await calcinaia.pages()] == [f"intake {row.id}"]
    assert (await calcinaia.bulletin(*ARNO[3])).state is IntakeState.TAKEN
    assert len(await calcinaia.issued()) == 1


@one_database
async def test_a_bulletin_from_the_future_that_somebody_let_pass_hides_none_either(calcinaia: Office) -> None:
    when = ARNO[1][0]
    row = await calcinaia.take(made.bulletin(when.replace(year=2026), GREEN, GREEN), when)
    async with calcinaia.database.write() as session:
        accepted = await calcinaia.receiver.accept(session, row.id, "marina", when)
        assert accepted.state is IntakeState.TAKEN
    assert (await calcinaia.bulletin(*ARNO[3])).state is IntakeState.TAKEN
    assert len(await calcinaia.issued()) == 1


@one_database
async def test_a_bulletin_counts_though_the_one_before_it_can_no_longer_be_read(calcinaia: Office) -> None:
    """A version of ours that reads more strictly must not be deaf from its first day on."""
    before = await calcinaia.bulletin(*ARNO[1])
    async with calcinaia.database.write() as session:
        (await session.get_one(tables.Intake, before.id)).raw = b"not what it was"
    row = await calcinaia.bulletin(*ARNO[3])
    assert row.state is IntakeState.TAKEN
    assert [finding["rule"] for finding in row.findings] == ["bulletin-before"]
    assert [what for _, _, what, _ in await calcinaia.issued()] == ["Alert", "Update"]


# ── time ────────────────────────────────────────────────────────────────────────────────────────────


async def test_at_midnight_the_tomorrow_of_yesterday_becomes_today_and_nobody_hears_it_twice(
    calcinaia: Office,
) -> None:
    evening, night = at(2025, 3, 14, 23, 31), at(2025, 3, 15, 0, 20)
    await calcinaia.bulletin(evening, GREEN, a4(idraulico=ARANCIONE))
    await calcinaia.bulletin(night, a4(idraulico=ARANCIONE), GREEN)
    assert await calcinaia.issued() == [
        (evening, "calcinaia", "Alert", f"Allerta arancione {OF_THE_RIVER}"),
    ]


@one_database
async def test_a_bulletin_read_after_midnight_is_of_the_day_it_was_issued_for(calcinaia: Office) -> None:
    when = at(2025, 3, 14, 15, 12)
    await calcinaia.take(made.bulletin(when, a4(idraulico=ROSSA), a4(idraulico=GIALLA)), at(2025, 3, 15, 0, 30))
    assert [headline for _, _, _, headline in await calcinaia.issued()] == [f"Allerta gialla {OF_THE_RIVER}"]


@one_database
@pytest.mark.parametrize(
    ("when", "hours"), [(at(2026, 3, 28, 15, 0), 32), (at(2026, 10, 24, 15, 0), 34)], ids=["spring", "autumn"]
)
async def test_when_the_clocks_change_a_day_ends_at_its_own_midnight(
    calcinaia: Office, when: datetime, hours: int
) -> None:
    await calcinaia.bulletin(when, a4(idraulico=GIALLA), a4(idraulico=GIALLA))
    first = await calcinaia.in_force()
    assert first.expires_at - when.astimezone(UTC) == timedelta(hours=hours)
    next_day = when.astimezone(ROME).replace(day=when.day + 1)
    await calcinaia.bulletin(next_day, a4(idraulico=GIALLA), GREEN)
    assert len(await calcinaia.issued()) == 1, "the same until the same midnight"


async def test_what_expires_tells_nobody(calcinaia: Office) -> None:
    await calcinaia.bulletin(at(2025, 3, 16, 14, 33), a4(idraulico=GIALLA), GREEN)
    await calcinaia.bulletin(at(2025, 3, 17, 0, 1), GREEN, GREEN)
    assert len(await calcinaia.issued()) == 1


async def test_a_new_warning_after_one_that_has_ended_is_new(calcinaia: Office) -> None:
    await calcinaia.bulletin(at(2025, 3, 16, 14, 33), a4(idraulico=GIALLA), GREEN)
    await calcinaia.bulletin(at(2025, 3, 16, 17, 0), GREEN, GREEN)
    await calcinaia.bulletin(at(2025, 3, 16, 18, 0), a4(idraulico=GIALLA), GREEN)
    assert [(what, headline) for _, _, what, headline in await calcinaia.issued()] == [
        ("Alert", f"Allerta gialla {OF_THE_RIVER}"),
        ("all-clear", f"Fine dell'allerta gialla {OF_THE_RIVER}"),
        ("Alert", f"Allerta gialla {OF_THE_RIVER}"),
    ]


async def test_a_bulletin_that_a_killed_process_left_behind_is_taken_by_the_next(calcinaia: Office) -> None:
    when, today, tomorrow = ARNO[3]
    async with calcinaia.database.write() as session:
        left = tables.Intake(
            source=DPC,
            came_by=CameBy.POLL,
            received_at=when,
            media_type="application/zip",
            raw=made.bulletin(when, today, tomorrow),
            sha256="",
            state=IntakeState.RECEIVED,
        )
        session.add(left)
    for seconds, told in ((10, 0), (30, 1), (60, 1)):
        calcinaia.now = when + timedelta(seconds=seconds)
        await calcinaia.receiver.look_again()
        assert len(await calcinaia.issued()) == told


# ── no data is not green ────────────────────────────────────────────────────────────────────────────


async def test_a_zone_that_is_missing_ends_nothing_and_somebody_is_called(calcinaia: Office) -> None:
    await calcinaia.bulletin(*ARNO[3])
    without: made.Day = {"Tosc-F1": {}}
    row = await calcinaia.bulletin(ARNO[4][0], without, without)
    assert row.state is IntakeState.TAKEN
    assert len(await calcinaia.issued()) == 1
    assert (await calcinaia.in_force()).state is State.ISSUED
    pages = await calcinaia.pages()
    assert [page.authority for page in pages] == ["calcinaia", None]
    assert "Tosc-A4" in pages[0].sentence
    assert "Calcinaia" in pages[0].sentence


async def test_a_table_cut_in_half_ends_nothing(calcinaia: Office) -> None:
    await calcinaia.bulletin(*ARNO[3])
    when = ARNO[4][0]
    zones: made.Day = {f"Abru-{n}": {} for n in "ABC"} | {"Tosc-A4": {}, "Tosc-F1": {}}
    files = made.files(when, zones, zones)
    for name in (name for name in files if name.endswith(".dbf")):
        files[name] = files[name][: len(files[name]) // 2]
    row = await calcinaia.take(made.packed(files), when)
    assert row.state is IntakeState.TAKEN
    assert "dbf-cut" in {finding["rule"] for finding in row.findings}
    assert len(await calcinaia.issued()) == 1
    assert "calcinaia" in {page.authority for page in await calcinaia.pages()}


@one_database
async def test_a_table_cut_in_half_still_lets_the_colours_of_the_cap_file_through(calcinaia: Office) -> None:
    when, today, tomorrow = ARNO[3]
    files = made.files(when, today, tomorrow)
    for name in (name for name in files if name.endswith(".dbf")):
        files[name] = files[name][:400]
    await calcinaia.take(made.packed(files), when)
    assert [headline for _, _, _, headline in await calcinaia.issued()] == [f"Allerta rossa {OF_THE_RIVER}"]


@one_database
async def test_a_colour_nobody_knows_ends_nothing_and_somebody_is_called(calcinaia: Office) -> None:
    await calcinaia.bulletin(*ARNO[3])
    when = ARNO[4][0]
    odd = made.row("Tosc-A4", {}) | {"Idraulico": "Elevata / ALLERTA VIOLA"}
    files = made.files(when, GREEN, GREEN) | {f"{when:%Y%m%d_%H%M}_today.dbf": made.dbf([odd, made.row("Tosc-F1", {})])}
    row = await calcinaia.take(made.packed(files), when)
    assert "colour-unknown" in {finding["rule"] for finding in row.findings}
    assert len(await calcinaia.issued()) == 1
    assert "Tosc-A4" in (await calcinaia.pages())[0].sentence


@one_database
async def test_a_zone_that_nobody_knew_calls_somebody(calcinaia: Office) -> None:
    await calcinaia.bulletin(at(2025, 3, 12, 15, 0), GREEN, GREEN)
    split = {**GREEN, "Tosc-A7": {RIVER: GIALLA}}
    row = await calcinaia.bulletin(at(2025, 3, 13, 15, 0), split, split)
    assert "zone-new" in {finding["rule"] for finding in row.findings}
    (page,) = await calcinaia.pages()
    assert page.sentence == (
        "Dipartimento della Protezione Civile: il bollettino nomina zone nuove (Tosc-A7): "
        "verificare in quali zone stanno i comuni."
    )
    assert await calcinaia.issued() == []


@one_database
async def test_red_for_storms_is_said_as_orange(calcinaia: Office) -> None:
    row = await calcinaia.bulletin(at(2025, 7, 13, 15, 0), a4(temporali=ROSSA), GREEN)
    assert "temporali-red" in {finding["rule"] for finding in row.findings}
    assert [headline for _, _, _, headline in await calcinaia.issued()] == ["Allerta arancione per temporali forti"]


@one_database
async def test_a_comune_in_two_zones_hears_the_graver_and_a_silent_zone_is_not_green(calcinaia: Office) -> None:
    both = {"calcinaia": replace(calcinaia.authorities["calcinaia"], warning_zones=("Tosc-A4", "Tosc-A3"))}
    calcinaia.authorities = both
    day = {"Tosc-A3": {RIVER: ARANCIONE}, "Tosc-A4": {RIVER: GIALLA}, "Tosc-F1": {}}
    await calcinaia.bulletin(at(2025, 3, 13, 15, 0), day, day)
    await calcinaia.bulletin(at(2025, 3, 13, 16, 0), GREEN, GREEN)
    assert [headline for _, _, _, headline in await calcinaia.issued()] == [f"Allerta arancione {OF_THE_RIVER}"]
    assert "Tosc-A3" in (await calcinaia.pages())[0].sentence


@one_database
async def test_an_archive_that_is_none_is_kept_and_shown_and_ends_nothing(calcinaia: Office) -> None:
    await calcinaia.bulletin(*ARNO[3])
    row = await calcinaia.take(b"<html>Error 503</html>", ARNO[4][0])
    assert (row.state, row.raw) == (IntakeState.QUARANTINED, b"<html>Error 503</html>")
    assert [page.about for page in await calcinaia.pages()] == [f"intake {row.id}"]
    assert (await calcinaia.in_force()).state is State.ISSUED


@one_database
@pytest.mark.parametrize("slip", [{}, {"20260313_1510": 0}], ids=["", "one dated next year"])
@pytest.mark.parametrize(("minute", "calls"), [(29, 0), (30, 1)])
async def test_no_bulletin_by_half_past_four_calls_somebody(
    office: Office, minute: int, calls: int, slip: dict[str, int]
) -> None:
    source, now = office.sources[DPC], at(2025, 3, 14, 16, minute)
    feed = tables.Feed(source=DPC, answered_at=now.timestamp() - 60, failures=0, seen={"20250313_1738": 0} | slip)
    sentence = silent(source, feed, now)
    if sentence is not None:
        await tell_duty(office.database, source, sentence, now)
    pages = await office.pages()
    assert len(pages) == calls
    assert all("il bollettino del 14/03/2025 non è arrivato entro le 16:30" in page.sentence for page in pages)
    await tell_duty(office.database, source, None, now + timedelta(hours=1))
    assert await office.pages() == [], "it came after all"


# ── several who speak of one sky ────────────────────────────────────────────────────────────────────


def regional(
    number: int,
    sent: datetime,
    spans: Iterable[tuple[Risk, Colour, datetime, datetime]],
    msg_type: str = "Alert",
    follows: tuple[int, datetime] | None = None,
    instruction: str = "",
) -> bytes:
    """A CAP message of the region about the lower Valdarno."""
    infos = "".join(
        "<info><language>it-IT</language><category>Met</category>"
        f"<event>Allerta {colour.value} rischio {risk.value}</event><responseType>Prepare</responseType>"
        f"<urgency>Expected</urgency><severity>{made.SEVERITIES[colour]}</severity><certainty>Likely</certainty>"
        f"<onset>{starts.isoformat()}</onset><expires>{ends.isoformat()}</expires>"
        f"<senderName>Regione Toscana</senderName><headline>Allerta {colour.value} per rischio {risk.value}</headline>"
        f"<description>Rischio {risk.value} nella zona A4.</description><instruction>{instruction}</instruction>"
        f"<parameter><valueName>it.colore</valueName><value>{colour.value}</value></parameter>"
        f"<parameter><valueName>it.rischio</valueName><value>{risk.value}</value></parameter>"
        "<area><areaDesc>Valdarno inferiore</areaDesc><geocode><valueName>Zona di Allerta</valueName>"
        "<value>Tosc-A4</value></geocode></area></info>"
        for risk, colour, starts, ends in spans
    )
    references = ""
    if follows:
        references = f"<references>allerta@regione.toscana.it,RT-{follows[0]},{follows[1].isoformat()}</references>"
    return (
        '<?xml version="1.0" encoding="UTF-8"?><alert xmlns="urn:oasis:names:tc:emergency:cap:1.2">'
        f"<identifier>RT-{number}</identifier><sender>allerta@regione.toscana.it</sender>"
        f"<sent>{sent.isoformat()}</sent><status>Actual</status><msgType>{msg_type}</msgType><scope>Public</scope>"
        f"{references}{infos}</alert>"
    ).encode()


THREE, FOUR, FIVE = (at(2025, 3, 14, hour, 0) for hour in (15, 16, 17))
MIDNIGHT = at(2025, 3, 15, 0, 0)


async def test_a_region_that_says_the_same_tells_nobody_again(calcinaia: Office) -> None:
    await calcinaia.bulletin(THREE, a4(idraulico=ARANCIONE), GREEN)
    row = await calcinaia.take(regional(1, FOUR, [(RIVER, ARANCIONE, FOUR, MIDNIGHT)]), FOUR, REGION)
    assert (row.state, [one["did"] for one in row.became]) == (IntakeState.TAKEN, ["joined"]), row.because
    await calcinaia.take(regional(2, FIVE, [(RIVER, GIALLA, FIVE, MIDNIGHT)]), FIVE, REGION)
    assert len(await calcinaia.issued()) == 1, "less grave is no news where another holds the graver"


async def test_a_graver_region_is_heard_once_and_its_cancel_leaves_what_the_bulletin_holds(calcinaia: Office) -> None:
    await calcinaia.bulletin(THREE, a4(idraulico=ARANCIONE), GREEN)
    raw = regional(1, FOUR, [(RIVER, ROSSA, FOUR, MIDNIGHT)], instruction="Salire ai piani alti in via Morandi.")
    for _ in range(2):
        await calcinaia.take(raw, FOUR, REGION)
    assert (await calcinaia.in_force()).document["infos"][0]["instruction"] == "Salire ai piani alti in via Morandi."
    await calcinaia.bulletin(FOUR + timedelta(minutes=10), a4(idraulico=ARANCIONE), GREEN)
    await calcinaia.take(regional(2, FIVE, [], "Cancel", (1, FOUR)), FIVE, REGION)
    assert [(when, what, headline) for when, _, what, headline in await calcinaia.issued()] == [
        (THREE, "Alert", f"Allerta arancione {OF_THE_RIVER}"),
        (FOUR, "Update", f"L'allerta sale da arancione a rossa {OF_THE_RIVER}"),
        (
            FIVE,
            "Update",
            f"L'allerta scende da rossa ad arancione: resta {OF_THE_RIVER} fino alle 24:00 di venerdì 14 marzo",
        ),
    ]


async def test_the_end_of_the_bulletin_leaves_what_the_region_holds(calcinaia: Office) -> None:
    await calcinaia.take(regional(1, THREE, [(RIVER, GIALLA, THREE, MIDNIGHT)]), THREE, REGION)
    await calcinaia.bulletin(FOUR, a4(idraulico=GIALLA), GREEN)
    await calcinaia.bulletin(FIVE, GREEN, GREEN)
    assert [what for _, _, what, _ in await calcinaia.issued()] == ["Alert"]
    await calcinaia.take(regional(2, FIVE, [], "Cancel", (1, THREE)), FIVE + timedelta(minutes=1), REGION)
    assert [what for _, _, what, _ in await calcinaia.issued()] == ["Alert", "all-clear"]


async def test_the_same_from_bulletin_and_region_at_the_same_moment_is_told_once(calcinaia: Office) -> None:
    calcinaia.now = THREE
    bulletin, region = calcinaia.sources[DPC], calcinaia.sources[REGION]
    cap_of_it = regional(1, THREE, [(RIVER, ROSSA, THREE, MIDNIGHT)])
    archive = made.bulletin(THREE, a4(idraulico=ROSSA), GREEN)
    await asyncio.gather(
        calcinaia.receiver.take(bulletin, archive, "application/zip", CameBy.POLL),
        calcinaia.receiver.take(region, cap_of_it, "application/cap+xml", CameBy.POLL),
    )
    assert len(await calcinaia.issued()) == 1


async def marina_says(
    office: Office, when: datetime, colour: Colour, risk: Risk = RIVER, until: datetime = MIDNIGHT
) -> str:
    """An allerta of the comune's own, for all of it, as the console issues it."""
    wording = Wording(
        kind=Kind.ALLERTA_METEO,
        headline=f"allerta {colour.value} per l'Arno",
        description="L'Arno è alto a Fornacette.",
        instruction="Non andare sugli argini.",
        expires=until,
        colour=colour,
        risk=risk,
        areas=("calcinaia",),
    )
    async with office.database.write() as session:
        row = await issuing.draft(session, wording, AUTHORITIES["calcinaia"], MARINA, when)
        await issuing.approve(session, row, PIERO, when)
        await issuing.issue(session, row, MARINA, when)
    return row.identifier


async def test_what_the_comune_has_said_itself_is_not_said_again_by_a_bulletin_nor_ended_by_one(
    calcinaia: Office,
) -> None:
    own = await marina_says(calcinaia, THREE, ARANCIONE)
    row = await calcinaia.bulletin(FOUR, a4(idraulico=ARANCIONE), GREEN)
    assert [(one["did"], one["alert"]) for one in row.became] == [("joined", None)]
    await calcinaia.bulletin(FIVE, GREEN, GREEN)
    assert (await calcinaia.in_force()).identifier == own


async def test_what_the_comune_said_itself_outlives_the_bulletins_that_add_to_it(calcinaia: Office) -> None:
    """The bulletin's rise makes an Update of the comune's own allerta; its fall must not take that back too."""
    await marina_says(calcinaia, THREE, ARANCIONE)
    await calcinaia.bulletin(FOUR, a4(idraulico=ROSSA, temporali=GIALLA), GREEN)
    await calcinaia.bulletin(FIVE, GREEN, GREEN)
    await calcinaia.bulletin(FIVE + timedelta(minutes=30), GREEN, GREEN)
    said = [(what, headline) for _, _, what, headline in await calcinaia.issued()]
    assert said[1:] == [
        ("Update", f"L'allerta sale da arancione a rossa {OF_THE_RIVER}"),
        (
            "Update",
            f"L'allerta scende da rossa ad arancione: resta {OF_THE_RIVER} fino alle 24:00 di venerdì 14 marzo",
        ),
    ]


async def test_an_own_allerta_beside_a_bulletins_does_not_make_each_bulletin_speak_again(calcinaia: Office) -> None:
    await calcinaia.bulletin(THREE, a4(temporali=GIALLA), GREEN)
    await marina_says(calcinaia, THREE + timedelta(minutes=20), ARANCIONE)
    for minutes in (0, 10, 20):
        await calcinaia.bulletin(FOUR + timedelta(minutes=minutes), GREEN, GREEN)
    said = [(what, headline) for _, _, what, headline in await calcinaia.issued()]
    assert [what for what, _ in said] == ["Alert", "Alert", "Update"]
    assert said[2][1].startswith("L'allerta si riduce: resta arancione")


async def test_what_a_person_took_back_is_not_said_again_by_a_machine(calcinaia: Office) -> None:
    """The update of the evening says the same as that of the afternoon, which Marina has called off."""
    await calcinaia.bulletin(THREE, a4(idraulico=ARANCIONE), GREEN)
    await marina_takes_back(calcinaia, FOUR)
    await calcinaia.bulletin(FIVE, a4(idraulico=ARANCIONE), GREEN)
    assert [what for _, _, what, _ in await calcinaia.issued()] == ["Alert", "Cancel"]
    (draft,) = await calcinaia.alerts(State.DRAFT)
    assert [page.about for page in await calcinaia.pages()] == [f"alert {draft.identifier}"]
    await calcinaia.bulletin(FIVE + timedelta(minutes=30), a4(idraulico=ROSSA), GREEN)
    assert [headline for _, _, _, headline in await calcinaia.issued()][2:] == [f"Allerta rossa {OF_THE_RIVER}"]
    assert await calcinaia.alerts(State.DRAFT) == [], "graver than what she took back"


async def marina_takes_back(office: Office, when: datetime) -> None:
    latest = await office.in_force()
    async with office.database.write() as session:
        row = await session.get_one(tables.Alert, latest.identifier)
        await issuing.cancel(session, row, AUTHORITIES["calcinaia"], MARINA, "L'Arno è sceso.", when)


@one_database
async def test_a_draft_of_an_update_is_made_anew_when_what_it_updates_has_ended(careful: Office) -> None:
    """Nobody approved the extension before midnight: as an Update of what is over it could not be issued any more."""
    careful.authorities = {"calcinaia": careful.authorities["calcinaia"]}
    await careful.bulletin(at(2025, 3, 14, 15, 0), a4(idraulico=ARANCIONE), GREEN)
    await _issue_draft(careful, (await careful.alerts(State.DRAFT))[0])
    await careful.bulletin(at(2025, 3, 14, 22, 0), a4(idraulico=ARANCIONE), a4(idraulico=ARANCIONE))
    (extension,) = await careful.alerts(State.DRAFT)
    assert extension.updates is not None
    await careful.bulletin(at(2025, 3, 15, 8, 0), a4(idraulico=ARANCIONE), GREEN)
    (draft,) = await careful.alerts(State.DRAFT)
    assert (draft.updates, _headline(draft)) == (None, f"Allerta arancione {OF_THE_RIVER}")
    await _issue_draft(careful, draft)


async def test_what_a_person_said_and_took_back_is_news_when_a_bulletin_says_it(calcinaia: Office) -> None:
    """Marina's slip is no reason to doubt the Dipartimento an hour later."""
    await marina_says(calcinaia, THREE, ARANCIONE)
    await marina_takes_back(calcinaia, FOUR)
    await calcinaia.bulletin(FIVE, a4(idraulico=ARANCIONE), GREEN)
    assert [what for _, _, what, _ in await calcinaia.issued()] == ["Alert", "Cancel", "Alert"]


def only_the_dipartimento_issues(office: Office) -> None:
    issues = (FeedPolicy(DPC, Then.ISSUE),)
    office.authorities = {"calcinaia": replace(office.authorities["calcinaia"], feeds=issues)}


async def test_a_draft_of_the_region_does_not_hold_up_what_the_dipartimento_may_issue(office: Office) -> None:
    """The same red of both: alone the bulletin would have been issued."""
    only_the_dipartimento_issues(office)
    await office.take(regional(1, THREE, [(RIVER, ROSSA, THREE, MIDNIGHT)]), THREE, REGION)
    assert len(await office.alerts(State.DRAFT)) == len(await office.pages()) == 1
    await office.bulletin(FOUR, a4(idraulico=ROSSA), GREEN)
    assert [headline for _, _, _, headline in await office.issued()] == [f"Allerta rossa {OF_THE_RIVER}"]
    assert await office.alerts(State.DRAFT, State.APPROVED) == []
    assert await office.pages() == []


async def test_what_only_the_region_holds_is_not_issued_because_a_bulletin_comes(office: Office) -> None:
    only_the_dipartimento_issues(office)
    await office.take(regional(1, THREE, [(RIVER, ROSSA, THREE, MIDNIGHT)]), THREE, REGION)
    await office.bulletin(FOUR, a4(idraulico=ARANCIONE), GREEN)
    await office.bulletin(FIVE, GREEN, GREEN)
    assert [headline for _, _, _, headline in await office.issued()] == [f"Allerta arancione {OF_THE_RIVER}"]
    (draft,) = await office.alerts(State.DRAFT)
    assert _headline(draft) == f"L'allerta sale da arancione a rossa {OF_THE_RIVER}", "red waits for a person"
    assert [page.about for page in await office.pages()] == [f"alert {draft.identifier}"]


async def test_what_a_person_issued_for_the_region_is_not_eased_by_a_bulletin_that_ends(office: Office) -> None:
    only_the_dipartimento_issues(office)
    await office.take(regional(1, THREE, [(RIVER, ROSSA, THREE, MIDNIGHT)]), THREE, REGION)
    await _issue_draft(office, (await office.alerts(State.DRAFT))[0])
    await office.bulletin(FOUR, a4(idraulico=ROSSA), GREEN)
    await office.bulletin(FIVE, GREEN, GREEN)
    assert [headline for _, _, _, headline in await office.issued()] == [f"Allerta rossa {OF_THE_RIVER}"]
    assert await office.alerts(State.DRAFT) == []


@one_database
async def test_an_own_allerta_that_was_taken_back_is_not_kept_alive_by_the_updates_of_it(calcinaia: Office) -> None:
    await marina_says(calcinaia, THREE, ARANCIONE)
    await calcinaia.bulletin(FOUR, a4(temporali=GIALLA), GREEN)
    await marina_takes_back(calcinaia, FIVE)
    before = len(await calcinaia.issued())
    await calcinaia.bulletin(FIVE + timedelta(minutes=5), GREEN, GREEN)
    assert len(await calcinaia.issued()) == before


# ── who is told ─────────────────────────────────────────────────────────────────────────────────────


async def joined(office: Office, number: int, comune: str = "calcinaia") -> int:
    async with office.database.write() as session:
        recipient, _ = await join(
            session,
            citizen(number, comune),
            SEAL,
            keyword="ISCRIVIMI",
            now=office.now,
            live=True,
            places=[Place(Precision.COMUNE, (comune,))],
        )
        return recipient


async def reached(office: Office, row: tables.Alert) -> None:
    """Everybody in its audience has got it."""
    dispatch = await dispatch_of(office, row)
    assert await FanOut(office.database, office.authorities).fan_out(dispatch.id)
    async with office.database.write() as session:
        of_it = update(tables.Delivery).where(tables.Delivery.dispatch_id == dispatch.id)
        await session.execute(of_it.values(progress=Progress.ACCEPTED.value))


async def dispatch_of(office: Office, row: tables.Alert) -> tables.Dispatch:
    async with office.database.read() as session:
        query = select(tables.Dispatch).where(tables.Dispatch.alert == row.identifier)
        return (await session.scalars(query)).one()


async def meant_by(office: Office, row: tables.Alert) -> set[int]:
    """The people the fan-out finds for it; the comune's public channel hears everything, and is none of them."""
    authority = office.authorities[row.authority]
    async with office.database.read() as session:
        fresh = await session.get_one(tables.Alert, row.identifier)
        target = await issuing.audience_of(session, fresh)
        selection = await select_recipients(session, target, authority)
        of_people = select(tables.Address.recipient_id).where(tables.Address.account.startswith("whatsapp."))
        found = await session.execute(text(f"SELECT DISTINCT r.id {selection.people}"), selection.parameters)
        people = set((await session.scalars(of_people)).all())
        return people & {number for (number,) in found}


async def test_the_end_is_for_whoever_got_the_alert_and_an_update_also_for_who_joined_since(
    calcinaia: Office,
) -> None:
    early = {await joined(calcinaia, 1), await joined(calcinaia, 2)}
    await calcinaia.bulletin(THREE, a4(idraulico=ARANCIONE), GREEN)
    first = await calcinaia.in_force()
    assert await meant_by(calcinaia, first) == early
    await reached(calcinaia, first)
    late = await joined(calcinaia, 3)
    await calcinaia.bulletin(FOUR, a4(idraulico=ROSSA), GREEN)
    second = await calcinaia.in_force()
    assert await meant_by(calcinaia, second) == {*early, late}
    await calcinaia.bulletin(FIVE, GREEN, GREEN)
    end = (await calcinaia.alerts())[-1]
    assert _is_end(end)
    assert await meant_by(calcinaia, end) == early, "the Update was withdrawn before anybody got it"


async def test_an_end_withdraws_what_waits_before_it_says_a_word(calcinaia: Office) -> None:
    await joined(calcinaia, 1)
    await calcinaia.bulletin(THREE, a4(idraulico=ARANCIONE), GREEN)
    first = await calcinaia.in_force()
    await calcinaia.bulletin(FOUR, GREEN, GREEN)
    end = (await calcinaia.alerts())[-1]
    original, all_clear = await dispatch_of(calcinaia, first), await dispatch_of(calcinaia, end)
    assert original.withdrawn_at == FOUR.astimezone(UTC)
    assert all_clear.issued_at == FOUR.astimezone(UTC)
    assert all_clear.lane is original.lane, "in the same lane, behind it"
    assert await meant_by(calcinaia, end) == set(), "nobody had got it: nobody hears of its end"
    async with calcinaia.database.read() as session:
        waiting = select(tables.OutboxMessage.message_id).order_by(tables.OutboxMessage.id)
        told = [name for name in (await session.scalars(waiting)).all() if name.startswith("alert:")]
    assert told == [f"alert:{original.id}", f"alert:{all_clear.id}"]


async def test_santa_fiora_hears_nothing_of_the_arno(office: Office) -> None:
    amiata, river = await joined(office, 1, "santa-fiora"), await joined(office, 2)
    await office.bulletin(*ARNO[3])
    rows = await office.alerts(State.ISSUED)
    meant = {row.authority: await meant_by(office, row) for row in rows}
    assert meant == {"bientina": set(), "calcinaia": {river}, "cascina": set(), "fucecchio": set()}
    assert amiata not in set.union(*meant.values())


def test_the_archives_made_of_the_tables_say_what_the_tables_say() -> None:
    """Or the story of November would be one of our own making."""
    for stamp in ("20231102T1614", "20231102T1913", "20231103T1614", "20260808T1357"):
        when, raw = republished(stamp)
        bulletin = dpc.read_archive(raw)
        texts = [(DATA / f"dpc_csv/{stamp}_{day}-zone.csv").read_text() for day in ("oggi", "domani")]
        original = dpc.read_tables(*texts)
        assert {finding.rule for finding in bulletin.findings} <= {"map-graver"}, stamp
        assert bulletin.issued == when
        assert bulletin.zones.keys() == original.zones.keys()
        assert {zone: [(s.risk, s.colour, s.ends) for s in held] for zone, held in bulletin.zones.items()} == {
            zone: [(s.risk, s.colour, s.ends) for s in held] for zone, held in original.zones.items()
        }
