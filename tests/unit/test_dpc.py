"""The national bulletin: a colour is never lost, and what cannot be read is never green."""

import struct
import zipfile
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerting.domain.findings import Weight
from alerting.domain.kinds import Colour, Risk
from alerting.domain.outlook import Outlook, Span, Trend, change
from alerting.domain.rendering import ROME
from alerting.feeds import archive, dbf, dpc
from tests.unit import dpc_archives as made

DATA = Path(__file__).parents[2].parent / "shared/data"

GIALLA, ARANCIONE, ROSSA = Colour.GIALLA, Colour.ARANCIONE, Colour.ROSSA
A4, F1, B = "Tosc-A4", "Tosc-F1", "Tosc-B"

ISSUED = datetime(2025, 3, 13, 15, 31, tzinfo=ROME)
MIDNIGHT, NEXT_MIDNIGHT = datetime(2025, 3, 14, tzinfo=ROME), datetime(2025, 3, 15, tzinfo=ROME)
NOW = ISSUED + timedelta(minutes=5)
TODAY: made.Day = {A4: {Risk.IDRAULICO: GIALLA}, B: {Risk.TEMPORALI: ARANCIONE}, F1: {}}
TOMORROW: made.Day = {A4: {Risk.IDRAULICO: ARANCIONE}, B: {}, F1: {}}
FILES = made.files(ISSUED, TODAY, TOMORROW)
TODAY_DBF, TOMORROW_DBF, CAP_XML = FILES
A4_HOLDS: Outlook = (
    Span(Risk.IDRAULICO, GIALLA, ISSUED, MIDNIGHT),
    Span(Risk.IDRAULICO, ARANCIONE, MIDNIGHT, NEXT_MIDNIGHT),
)


def read(changed: Mapping[str, bytes | None]) -> dpc.Bulletin:
    """The bulletin with some files changed, or left out."""
    return dpc.read_archive(
        made.packed({name: raw for name, raw in (FILES | dict(changed)).items() if raw is not None})
    )


def rules(bulletin: dpc.Bulletin) -> set[str]:
    return {finding.rule for finding in bulletin.findings}


# ── the real ones ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("stamp", "zones", "coloured"), [("20260118_1515", 170, 29), ("20260730_1511", 187, 1)])
def test_a_real_bulletin_reads_without_a_finding_its_tables_and_its_cap_agreeing(
    stamp: str, zones: int, coloured: int
) -> None:
    path = DATA / f"dpc/{stamp}_all.zip"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    bulletin = dpc.read_archive(path.read_bytes())
    assert bulletin.findings == ()
    assert not bulletin.at_least
    assert len(bulletin.zones) == zones
    assert sum(bool(held) for held in bulletin.zones.values()) == coloured
    assert bulletin.zones[A4] == bulletin.zones[F1] == ()
    assert f"{bulletin.issued:%Y%m%d_%H%M}" == stamp


def test_sardinia_was_red_on_the_nineteenth_of_january() -> None:
    path = DATA / "dpc/20260118_1515_all.zip"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    bulletin = dpc.read_archive(path.read_bytes())
    monday, tuesday = datetime(2026, 1, 19, tzinfo=ROME), datetime(2026, 1, 20, tzinfo=ROME)
    assert bulletin.identifier == "DPC_BULLETIN_2026_01_18_117394"
    assert bulletin.days == (date(2026, 1, 18), date(2026, 1, 19))
    assert bulletin.zones["Sard-A"] == (
        Span(Risk.IDRAULICO, GIALLA, monday, tuesday),
        Span(Risk.IDROGEOLOGICO, GIALLA, bulletin.issued, monday),
        Span(Risk.IDROGEOLOGICO, ROSSA, monday, tuesday),
    )


def test_the_republished_tables_read_as_a_bulletin() -> None:
    paths = [DATA / f"dpc_csv/20231102T1614_{day}-zone.csv" for day in ("oggi", "domani")]
    if not all(path.exists() for path in paths):
        pytest.skip(f"{paths[0]} is not here")
    bulletin = dpc.read_tables(*(path.read_text() for path in paths))
    friday, saturday = datetime(2023, 11, 3, tzinfo=ROME), datetime(2023, 11, 4, tzinfo=ROME)
    assert bulletin.findings == ()
    assert len(bulletin.zones) == 170
    assert bulletin.issued == datetime(2023, 11, 2, 16, 14, 59, tzinfo=ROME)
    assert bulletin.zones[A4] == (
        Span(Risk.IDROGEOLOGICO, GIALLA, bulletin.issued, saturday),
        Span(Risk.TEMPORALI, GIALLA, bulletin.issued, friday),
    )


# ── a bulletin ──────────────────────────────────────────────────────────────────────────────────────


def test_today_begins_when_it_is_issued_and_tomorrow_is_a_whole_day() -> None:
    bulletin = read({})
    assert bulletin.findings == ()
    assert bulletin.identifier == "DPC_BULLETIN_2025_03_13_1531"
    assert bulletin.days == (date(2025, 3, 13), date(2025, 3, 14))
    assert bulletin.zones == {A4: A4_HOLDS, B: (Span(Risk.TEMPORALI, ARANCIONE, ISSUED, MIDNIGHT),), F1: ()}


def test_the_night_the_clocks_go_forward_has_twenty_three_hours() -> None:
    issued = datetime(2026, 3, 28, 15, 30, tzinfo=ROME)
    bulletin = dpc.read_archive(made.bulletin(issued, {A4: {}}, {A4: {Risk.IDRAULICO: GIALLA}}))
    (span,) = bulletin.zones[A4]
    assert span.ends - span.starts == timedelta(hours=23)


def test_what_else_is_in_the_archive_does_not_matter() -> None:
    assert read({"bollettino.pdf": b"%PDF", "20250313_1531_today.shp": b"\0" * 100, "meta/leggi.txt": b""}) == read({})


def test_files_in_a_folder_are_found() -> None:
    nested = made.packed({f"20250313_1531/{name}": raw for name, raw in FILES.items()})
    assert dpc.read_archive(nested) == read({})


@pytest.mark.parametrize("lost", [TODAY_DBF, TOMORROW_DBF])
def test_without_a_table_what_cap_says_counts_and_nothing_can_be_ended(lost: str) -> None:
    bulletin = read({lost: None})
    assert bulletin.zones[A4] == A4_HOLDS
    assert F1 not in bulletin.zones, "green on one day, unknown on the other: unknown"
    assert {A4, B} == bulletin.at_least
    told = (Span(Risk.TEMPORALI, ROSSA, ISSUED, NEXT_MIDNIGHT),)
    assert dpc.holds(bulletin, [F1], told, NOW) is None
    assert change(told, dpc.holds(bulletin, [A4], told, NOW) or (), NOW) is Trend.EXTENDED


def test_a_table_cut_in_half_colours_by_its_whole_records_and_ends_nothing() -> None:
    """Nor does a row that looks whole: bytes lost in the middle join one zone to the colours of the next."""
    whole = FILES[TODAY_DBF]
    bulletin = read({TODAY_DBF: whole[: len(whole) - 500], CAP_XML: None})
    assert "dbf-cut" in rules(bulletin)
    assert bulletin.zones == {A4: A4_HOLDS}, "the rows of the others are cut, and green on one day is not green"
    assert bulletin.at_least == {A4}


def test_two_halves_of_two_rows_are_not_a_green_one() -> None:
    whole = FILES[TOMORROW_DBF]
    header, width = struct.unpack_from("<HH", whole, 8)
    chimera = whole[: header + 120] + whole[header + width + 120 :]
    bulletin = read({TOMORROW_DBF: chimera, CAP_XML: None})
    assert change(A4_HOLDS, dpc.holds(bulletin, [A4], A4_HOLDS, NOW) or (), NOW) is None


def test_without_cap_the_tables_count_and_somebody_is_told() -> None:
    bulletin = read({CAP_XML: None})
    assert rules(bulletin) == {"cap-missing"}
    assert bulletin.zones == read({}).zones
    assert bulletin.identifier == "20250313_1531"


def test_a_cap_file_that_is_no_xml_leaves_the_tables() -> None:
    bulletin = read({CAP_XML: b"<alert"})
    assert "cap-unreadable" in rules(bulletin)
    assert bulletin.zones == read({}).zones


def test_where_cap_and_tables_differ_the_graver_counts_and_a_finding_says_so() -> None:
    red = {**TODAY, A4: {Risk.IDRAULICO: ROSSA}}
    for changed in ({CAP_XML: made.cap(ISSUED, red, TOMORROW)}, {TODAY_DBF: made.table(red)}):
        bulletin = read(changed)
        assert rules(bulletin) == {"cap-table-disagree"}
        assert bulletin.zones[A4][0] == Span(Risk.IDRAULICO, ROSSA, ISSUED, MIDNIGHT)


def test_a_zone_that_only_cap_knows_is_believed_and_ends_nothing() -> None:
    bulletin = read({CAP_XML: made.cap(ISSUED, {**TODAY, "Tosc-Z9": {Risk.TEMPORALI: GIALLA}}, TOMORROW)})
    assert rules(bulletin) == {"zone-only-in-cap"}
    assert bulletin.zones["Tosc-Z9"] == (Span(Risk.TEMPORALI, GIALLA, ISSUED, MIDNIGHT),)
    assert "Tosc-Z9" in bulletin.at_least


def with_cell(column: str, text: str, zone: str = F1) -> dict[str, bytes | None]:
    rows = [made.row(z, colours) | ({column: text} if z == zone else {}) for z, colours in TODAY.items()]
    return {TODAY_DBF: made.dbf(rows)}


@pytest.mark.parametrize("text", ["", "Estrema / ALLERTA VIOLA", "Ordinaria", "NESSUNA ALLERTA?", "null", "verde"])
@pytest.mark.parametrize("column", ["Idraulico", "Criticita"])
def test_an_unknown_colour_is_not_green(column: str, text: str) -> None:
    bulletin = read(with_cell(column, text))
    assert rules(bulletin) == {"colour-unknown"}
    assert F1 not in bulletin.zones
    assert bulletin.zones[A4] == A4_HOLDS


def test_a_zone_half_of_which_is_unknown_holds_at_least_the_other_half() -> None:
    bulletin = read(with_cell("Temporali", "Boh", A4))
    told = (Span(Risk.TEMPORALI, GIALLA, ISSUED, MIDNIGHT),)
    assert bulletin.zones[A4] == A4_HOLDS
    assert bulletin.at_least == {A4}
    assert Risk.TEMPORALI in {span.risk for span in dpc.holds(bulletin, [A4], told, NOW) or ()}


def test_thunderstorms_have_no_red() -> None:
    bulletin = read(with_cell("Temporali", "Elevata / ALLERTA ROSSA"))
    assert {"temporali-red", "cap-table-disagree"} == rules(bulletin)
    assert bulletin.zones[F1] == (Span(Risk.TEMPORALI, ARANCIONE, ISSUED, MIDNIGHT),)


def test_where_level_and_colour_differ_the_graver_counts() -> None:
    bulletin = read(with_cell("Idraulico", "Elevata / ALLERTA GIALLA"))
    assert "level-and-colour" in rules(bulletin)
    assert bulletin.zones[F1] == (Span(Risk.IDRAULICO, ROSSA, ISSUED, MIDNIGHT),)


def test_the_colour_on_the_map_is_believed_when_it_is_graver() -> None:
    bulletin = read(with_cell("Criticita", "Moderata per rischio idraulico / ALLERTA ARANCIONE"))
    assert "map-graver" in rules(bulletin)
    assert bulletin.zones[F1] == (Span(Risk.IDRAULICO, ARANCIONE, ISSUED, MIDNIGHT),)


@pytest.mark.parametrize(
    ("event", "onset"),
    [
        ("ELEVATA CRITICITA' PER RISCHIO VALANGHE / ALLERTA ROSSA:", ISSUED),
        ("CRITICITA' / ALLERTA BLU:", ISSUED),
        ("ELEVATA CRITICITA' PER RISCHIO IDRAULICO / ALLERTA ROSSA:", ISSUED + timedelta(days=9)),
    ],
)
def test_an_info_that_nobody_understands_leaves_its_zones_unknown(event: str, onset: datetime) -> None:
    info = made.info(Risk.IDRAULICO, ROSSA, [F1], onset, onset + timedelta(hours=3))
    strange = info.replace("ELEVATA CRITICITA' PER RISCHIO IDRAULICO / ALLERTA ROSSA:", event)
    bulletin = read({CAP_XML: made.cap(ISSUED, TODAY, TOMORROW, extra=strange)})
    assert "cap-info-unknown" in rules(bulletin)
    assert F1 not in bulletin.zones


def test_a_day_that_cap_ends_at_midnight_is_not_the_day_after_too() -> None:
    whole_day = made.info(Risk.VENTO, GIALLA, [F1], MIDNIGHT, NEXT_MIDNIGHT).replace("VENTO", "TEMPORALI")
    bulletin = read({CAP_XML: made.cap(ISSUED, TODAY, TOMORROW, extra=whole_day)})
    assert bulletin.zones[F1] == (Span(Risk.TEMPORALI, GIALLA, MIDNIGHT, NEXT_MIDNIGHT),)


def test_a_row_without_a_zone_is_left_out_and_a_zone_twice_is_the_graver() -> None:
    rows = [made.row(zone, colours) for zone, colours in TODAY.items()]
    rows += [made.row("???", {}), made.row(A4, {Risk.IDRAULICO: ROSSA}), made.row(B, {})]
    bulletin = read({TODAY_DBF: made.dbf(rows)})
    assert {"zone-code", "zone-twice"} <= rules(bulletin)
    assert bulletin.zones[A4][0].colour is ROSSA
    assert bulletin.zones[B][0].colour is ARANCIONE
    assert F1 not in bulletin.zones, "a table with a row like that is not believed where it says green"


def test_the_file_of_another_day_in_the_archive_is_not_read() -> None:
    bulletin = read({"20250312_1530_today.dbf": made.table({A4: {Risk.IDRAULICO: ROSSA}})})
    assert rules(bulletin) == {"bulletin-mixed"}
    assert bulletin.zones == read({}).zones


@pytest.mark.parametrize("status", ["Test", "Exercise", "Draft", "System"])
def test_a_bulletin_that_is_not_actual_is_not_used_at_all(status: str) -> None:
    with pytest.raises(dpc.BulletinUnreadable, match=f"is {status}, not Actual"):
        read({CAP_XML: made.cap(ISSUED, TODAY, TOMORROW, status=status)})


def test_the_cap_file_of_somebody_else_is_not_used() -> None:
    red = {A4: {Risk.IDRAULICO: ROSSA}}
    bulletin = read({CAP_XML: made.cap(ISSUED, red, red, sender="mago@example.org")})
    assert "cap-sender" in rules(bulletin)
    assert bulletin.zones == read({}).zones


def test_a_table_without_its_columns_is_not_used() -> None:
    bulletin = read({TODAY_DBF: made.dbf([{"Zona": A4}], {"Zona": 20})})
    assert "dbf-columns" in rules(bulletin)
    assert F1 not in bulletin.zones


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "zona_codice\nTosc-A4\n", '"\0', "x" * 4_000_001])
def test_a_table_that_is_none_is_a_sentence(text: str) -> None:
    with pytest.raises(dpc.BulletinUnreadable):
        dpc.read_tables(text)


HEADING = (
    "data_pubblicazione,data_validita_inizio,data_validita_fine,zona_codice,avviso_criticita,avviso_idrogeologico,"
    "avviso_temporali,avviso_idraulico\n"
)


@pytest.mark.parametrize(
    ("published", "why"),
    [("ieri", "no time"), ("2023-11-02T16:14:59", "offset"), ("0001-01-01T00:00:00+00:00", "another age")],
)
def test_a_table_of_no_moment_is_a_sentence(published: str, why: str) -> None:
    with pytest.raises(dpc.BulletinUnreadable, match=why):
        dpc.read_tables(f"{HEADING}{published},2023-11-02T16:14:59+01:00,,Tosc-A4,,,,\n")


def test_two_tables_of_different_bulletins_are_not_one() -> None:
    rows = [f"2023-11-02T1{n}:14:59+01:00,2023-11-02T16:14:59+01:00,,Tosc-A4,,,,\n" for n in range(2)]
    with pytest.raises(dpc.BulletinUnreadable, match="2 bulletins"):
        dpc.read_tables(*(HEADING + row for row in rows))


def test_a_table_of_another_week_colours_nothing() -> None:
    bulletin = dpc.read_tables(
        f"{HEADING}2023-11-02T16:14:59+01:00,2023-11-12T00:00:00+01:00,,Tosc-A4,{made.GREEN},{made.GREEN},{made.GREEN},"
        f"{made.cell(ROSSA)}\n"
    )
    assert rules(bulletin) == {"day-unknown"}
    assert bulletin.zones == {}


# ── the archive ─────────────────────────────────────────────────────────────────────────────────────


def test_a_path_that_climbs_is_not_followed_and_the_rest_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bulletin = read(
        {"../../20250313_1531_today.dbf": b"x", "/etc/20250313_1531_tomorrow.dbf": b"x", "..\\su.xml": b"x"}
    )
    assert rules(bulletin) >= {"zip-path"}
    assert list(tmp_path.iterdir()) == [], "nothing is ever written"


def test_a_member_that_unpacks_to_too_much_is_not_unpacked() -> None:
    bulletin = read({TODAY_DBF: b"\0" * (archive.MOST_MEMBER_BYTES + 1)})
    assert "zip-size" in rules(bulletin)
    assert bulletin.zones[A4] == A4_HOLDS, "what CAP says counts"


def test_an_encrypted_member_is_not_read() -> None:
    raw = bytearray(made.packed(FILES))
    name = TODAY_DBF.encode()
    raw[raw.index(name) - 30 + 6] |= 1
    raw[raw.rindex(name) - 46 + 8] |= 1
    assert "zip-encrypted" in rules(dpc.read_archive(bytes(raw)))


def test_a_member_that_lies_about_its_size_is_not_believed() -> None:
    raw = bytearray(made.packed(FILES))
    at = raw.rindex(TODAY_DBF.encode()) - 46 + 24
    struct.pack_into("<I", raw, at, 100)
    assert "zip-member" in rules(dpc.read_archive(bytes(raw)))


def test_an_archive_that_lies_about_how_many_it_holds_is_not_read() -> None:
    raw = bytearray(made.packed({f"{n}.txt": b"" for n in range(200)}))
    struct.pack_into("<H", raw, len(raw) - archive.END_RECORD_LENGTH + 10, 3)
    with pytest.raises(dpc.BulletinUnreadable, match="says otherwise"):
        dpc.read_archive(bytes(raw))


def test_two_members_of_one_name_are_neither() -> None:
    into = BytesIO(made.packed(FILES))
    with zipfile.ZipFile(into, "a") as opened:
        opened.writestr(f"altro/{TODAY_DBF}", made.table({A4: {}, F1: {}}))
    bulletin = dpc.read_archive(into.getvalue())
    assert "zip-twice" in rules(bulletin)
    assert F1 not in bulletin.zones


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "no end record"),
        (b"<html>429 Too Many Requests</html>", "no end record"),
        (made.packed({f"{n}.txt": b"" for n in range(archive.MOST_MEMBERS + 1)}), "65 members, more"),
        (made.packed({"leggimi.txt": b"ciao"}), "holds no table"),
        (made.packed({"20259913_1531_today.dbf": b"x"}), "holds no table"),
        (made.packed({TODAY_DBF: b"x", CAP_XML: b"x"}), "neither its tables nor its CAP"),
        (b"\0" * (archive.MOST_BYTES + 1), "more than"),
    ],
)
def test_what_is_no_bulletin_is_a_sentence(raw: bytes, why: str) -> None:
    with pytest.raises(dpc.BulletinUnreadable, match=why):
        dpc.read_archive(raw)


PACKED = made.packed(FILES)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(PACKED) - 1), st.binary(max_size=8), st.integers(0, 600))
def test_whatever_happens_to_the_archive_no_zone_turns_green(at: int, put: bytes, drop: int) -> None:
    """Bytes overwritten or lost anywhere: a sentence, or a bulletin that holds what it held or less than known."""
    raw = PACKED[:at] + put + PACKED[at + drop :]
    try:
        bulletin = dpc.read_archive(raw)
    except dpc.BulletinUnreadable as error:
        assert str(error)
        return
    told = A4_HOLDS
    held = dpc.holds(bulletin, [A4], told, NOW)
    assert held is None or change(told, held, NOW) not in (Trend.ENDED, Trend.DOWNGRADE)


@settings(max_examples=1000, deadline=None)
@given(st.sampled_from([TODAY_DBF, TOMORROW_DBF, CAP_XML]), st.data(), st.binary(max_size=8), st.integers(0, 600))
def test_whatever_happens_to_a_file_no_zone_turns_green(name: str, data: st.DataObject, put: bytes, drop: int) -> None:
    """Bytes overwritten or lost inside a file, in an archive that is sound."""
    at = data.draw(st.integers(0, len(FILES[name])))
    spoilt = FILES[name][:at] + put + FILES[name][at + drop :]
    without = {} if name == CAP_XML else {CAP_XML: None}
    try:
        bulletin = read({**without, name: spoilt})
    except dpc.BulletinUnreadable as error:
        assert str(error)
        return
    held = dpc.holds(bulletin, [A4], A4_HOLDS, NOW)
    assert held is None or change(A4_HOLDS, held, NOW) not in (Trend.ENDED, Trend.DOWNGRADE)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_a_sentence(raw: bytes) -> None:
    with pytest.raises(dpc.BulletinUnreadable):
        dpc.read_archive(raw)


# ── the tables ──────────────────────────────────────────────────────────────────────────────────────

WHOLE = FILES[TODAY_DBF]


def test_deleted_rows_are_left_out_and_odd_ones_are_noted() -> None:
    raw = bytearray(WHOLE)
    header, width = struct.unpack_from("<HH", raw, 8)
    raw[header], raw[header + width] = ord("*"), ord("?")
    table = dbf.read(bytes(raw), "oggi.dbf")
    assert [row["Zona_all"] for row in table.rows] == [F1]
    assert [finding.rule for finding in table.findings] == ["dbf-mark"]


def test_a_table_that_ends_before_its_last_record_is_cut_however_long_the_file_is() -> None:
    raw = bytearray(WHOLE)
    header, width = struct.unpack_from("<HH", raw, 8)
    raw[header + 2 * width] = dbf.END_OF_FILE
    table = dbf.read(bytes(raw), "oggi.dbf")
    assert [row["Zona_all"] for row in table.rows] == [A4, B]
    assert [finding.rule for finding in table.findings] == ["dbf-cut"]


def test_a_table_in_utf_8_says_so_beside_it() -> None:
    rows = [made.row(zone, colours) | {"Nome_zona": "Rhêmes"} for zone, colours in TODAY.items()]
    raw = made.dbf(rows, encoding="utf-8")
    assert dbf.read(raw, "oggi.dbf", "utf-8").rows[0]["Nome_zona"] == "Rhêmes"
    assert read({TODAY_DBF: raw, TODAY_DBF[:-3] + "cpg": b"UTF-8"}).findings == ()
    assert dbf.read(made.dbf(rows), "oggi.dbf", "utf-8").findings[0].rule == "dbf-letters"


def test_a_table_that_goes_on_after_its_last_record_is_noted() -> None:
    raw = bytearray(WHOLE)
    struct.pack_into("<I", raw, 4, 2)
    table = dbf.read(bytes(raw), "oggi.dbf")
    assert len(table.rows) == 2
    assert [finding.rule for finding in table.findings] == ["dbf-longer"]


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "less than the header"),
        (b"\x30" + WHOLE[1:], "begins with byte 0x30"),
        (WHOLE[:100], "where its columns end"),
        (WHOLE[:10] + b"\xff\xff" + WHOLE[12:], "add up to"),
        (WHOLE[:8] + b"\xff\xff" + WHOLE[10:300], "cut off inside its header"),
        (WHOLE[:32] + b"\r" + WHOLE[33:], "names no column"),
        (made.dbf([], {"Zona_all": 10, "Zona_all ": 10}), "two columns called"),
        (b"\x03" * (dbf.MOST_BYTES + 1), "more than"),
    ],
)
def test_a_header_that_makes_no_sense_is_a_sentence(raw: bytes, why: str) -> None:
    with pytest.raises(dbf.TableUnreadable, match=why):
        dbf.read(raw, "oggi.dbf")


@given(st.integers(0, len(WHOLE)))
def test_a_table_cut_anywhere_gives_only_whole_records(at: int) -> None:
    try:
        table = dbf.read(WHOLE[:at], "oggi.dbf")
    except dbf.TableUnreadable:
        return
    whole = dbf.read(WHOLE, "oggi.dbf").rows
    assert table.rows == whole[: len(table.rows)]
    assert (len(table.rows) == len(whole)) != any(finding.rule == "dbf-cut" for finding in table.findings)


@settings(max_examples=500)
@given(st.binary(max_size=300), st.integers(0, 400), st.booleans())
def test_any_bytes_are_rows_or_a_sentence(noise: bytes, at: int, begins_well: bool) -> None:
    raw = WHOLE[:at] + noise + WHOLE[at + len(noise) :] if begins_well else noise
    try:
        table = dbf.read(raw, "oggi.dbf")
    except dbf.TableUnreadable as error:
        assert "oggi.dbf" in str(error)
        return
    assert all(set(row) == set(table.columns) for row in table.rows)


# ── one after another ───────────────────────────────────────────────────────────────────────────────


def test_the_same_bulletin_again_and_an_older_one_are_not_news() -> None:
    first = read({})
    later = dpc.read_archive(made.bulletin(ISSUED + timedelta(hours=2), TODAY, TOMORROW))
    erratum = dpc.read_archive(made.bulletin(ISSUED, {**TODAY, F1: {Risk.TEMPORALI: GIALLA}}, TOMORROW))
    assert dpc.newer(None, first)
    assert not dpc.newer(first, read({}))
    assert dpc.newer(first, later)
    assert not dpc.newer(later, first)
    assert dpc.newer(first, erratum), "the same hour, another content"


def test_zones_that_come_and_go_are_told() -> None:
    findings = dpc.zones_changed([A4, B], [A4, "Tosc-B1", "Tosc-B2"])
    assert [(finding.rule, finding.weight) for finding in findings] == [
        ("zone-new", Weight.WARNING),
        ("zone-new", Weight.WARNING),
        ("zone-gone", Weight.ERROR),
    ]
    assert dpc.zones_changed([A4], [A4]) == ()


@pytest.mark.parametrize(
    ("now", "last", "is_missing"),
    [
        (datetime(2023, 11, 4, 16, 29, tzinfo=ROME), datetime(2023, 11, 3, 16, 14, tzinfo=ROME), False),
        (datetime(2023, 11, 4, 16, 30, tzinfo=ROME), datetime(2023, 11, 3, 16, 14, tzinfo=ROME), True),
        (datetime(2023, 11, 4, 16, 30, tzinfo=ROME), datetime(2023, 11, 4, 15, 10, tzinfo=ROME), False),
        # It stays missing over midnight, and the clock is Rome's whatever zone it comes in.
        (datetime(2023, 11, 5, 9, 0, tzinfo=ROME), datetime(2023, 11, 3, 16, 14, tzinfo=ROME), True),
        (datetime(2023, 11, 4, 15, 30, tzinfo=UTC), datetime(2023, 11, 3, 23, 30, tzinfo=UTC), False),
        (datetime(2026, 7, 20, 14, 30, tzinfo=UTC), datetime(2026, 7, 19, 13, 0, tzinfo=UTC), True),
        (datetime(2026, 7, 20, 9, 0, tzinfo=UTC), None, True),
    ],
)
def test_a_bulletin_that_has_not_come_by_half_past_four_is_missing(
    now: datetime, last: datetime | None, is_missing: bool
) -> None:
    assert dpc.missing(now, last) is is_missing


def test_a_bulletin_ends_nothing_after_its_last_day() -> None:
    day_after = NEXT_MIDNIGHT + timedelta(days=1)
    told = (Span(Risk.TEMPORALI, ROSSA, ISSUED, day_after),)
    held = dpc.holds(read({}), [F1], told, NOW)
    assert held == (Span(Risk.TEMPORALI, ROSSA, NEXT_MIDNIGHT, day_after),)
    assert dpc.holds(read({}), [F1], told, NEXT_MIDNIGHT + timedelta(hours=6)) == (
        Span(Risk.TEMPORALI, ROSSA, NEXT_MIDNIGHT + timedelta(hours=6), day_after),
    ), "a bulletin of the day before yesterday is silent on today"


def test_a_comune_in_two_zones_has_the_graver_and_one_unknown_zone_ends_nothing() -> None:
    bulletin = read({})
    told = (Span(Risk.TEMPORALI, ROSSA, ISSUED, MIDNIGHT),)
    assert dpc.holds(bulletin, [A4, B], told, NOW) == (*A4_HOLDS, Span(Risk.TEMPORALI, ARANCIONE, ISSUED, MIDNIGHT))
    assert dpc.holds(bulletin, [F1], told, NOW) == ()
    still = dpc.holds(bulletin, [F1, "Tosc-Z9"], told, NOW)
    assert still is not None
    assert change(told, still, NOW) is None
    assert dpc.holds(bulletin, ["Tosc-Z9"], told, NOW) is None
