"""Lists as offices export them, cell by cell and byte by byte: nobody is lost in silence, nobody comes in on doubt."""

import io
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.domain.recipients import AddressError, phone
from alerting.domain.roster import Entry, Refused, Why, bare, day_of, entry_of, harmless, layout_of
from alerting.roster_lines import LONGEST_LINE, Encoding, NoList, read

TODAY = date(2026, 11, 26)
HEADER = ["Telefono", "E-mail", "Frazione", "Consenso data", "Consenso modo"]
PROOF = ["31/05/2024", "modulo cartaceo"]


def said(row: list[str], header: list[str] = HEADER, *, declared: bool = False) -> Entry | None:
    layout = layout_of(header)
    assert layout
    return entry_of(layout, row, TODAY, declared=declared)


def of_telephone(cell: str) -> str | None:
    entry = said([cell, "", "", *PROOF])
    assert entry
    return entry.telephone


def refused(row: list[str], header: list[str] = HEADER, *, declared: bool = False) -> Why:
    with pytest.raises(Refused) as error:
        said(row, header, declared=declared)
    return error.value.why


def rows_of(raw: bytes) -> list[tuple[int, list[str], Why | None]]:
    return [(row.number, row.cells, row.flaw) for row in read(io.BytesIO(raw)).rows]


# ── columns ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "header",
    [
        ["telefono"],
        ["N. Cellulare"],
        ["Numero"],
        ["  CELL. "],
        ["Nr. telefono"],
        ["Recapito telefonico"],
        ["Cognome", "Nome", "Indirizzo e-mail"],
        ["Posta elettronica"],
        ["Informazioni cronologiche", "Numero di cellulare"],
    ],
)
def test_headers_are_known_as_offices_write_them(header: list[str]) -> None:
    assert layout_of(header)


def test_a_line_without_telephone_and_mail_is_no_header() -> None:
    assert layout_of(["Elenco iscritti al 31/12/2024", "", ""]) is None
    assert layout_of(["333 1234567", "Fornacette"]) is None


def test_two_columns_of_telephones_are_taken_and_two_of_consent_are_a_doubt() -> None:
    two = ["Telefono", "Cellulare", *HEADER[3:]]
    entry = said(["0587 265442", "333 1234567", *PROOF], two)
    assert entry and entry.telephone == "+393331234567"
    with pytest.raises(ValueError, match="consenso_data"):
        layout_of(["telefono", "data consenso", "data iscrizione"])


# ── telephones ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "cell",
    [
        "333 1234567",
        "+39 333 1234567",
        "0039 333-123.45.67",
        "393331234567",
        "'3331234567",
        '="3331234567"',
        "3331234567.0",
        "3331234567,00",
        "333/1234567",
        "333 1234567 / 0587 265442",
        "0587 265442 - 333 1234567",
        "0587265442; 333 1234567",
        "\u00a0333 1234567\u200b",
        "333 1234567 o 0587 265442",
    ],
)
def test_one_mobile_is_found_however_it_is_written(cell: str) -> None:
    assert of_telephone(cell) == "+393331234567"


@given(st.from_regex(r"((\+|00)39[ .-]?)?3[1-9]([0-9][ .-]?){6,10}", fullmatch=True))
def test_the_quick_way_to_a_mobile_ends_where_the_long_one_does(cell: str) -> None:
    try:
        wanted = phone(cell)
    except AddressError:
        assert refused([cell, "", "", *PROOF]) in (Why.NO_NUMBER, Why.FORMULA)
        return
    if wanted.landline:
        assert refused([cell, "", "", *PROOF]) is Why.LANDLINE
    else:
        assert of_telephone(cell) == wanted.e164


def test_a_plus_and_a_prefix_are_no_formula_and_foreign_numbers_are_welcome() -> None:
    assert of_telephone("+41 79 123 45 67") == "+41791234567"
    assert of_telephone("+39 3331234567") == "+393331234567"


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("0587 265442", Why.LANDLINE),
        ("3,33123E+09", Why.CUT_SHORT),
        ("3.33E+09", Why.CUT_SHORT),
        ('=HYPERLINK("http://male.example";"333 1234567")', Why.FORMULA),
        ("@SUM(A1:A9)", Why.FORMULA),
        ("-cmd|' /C calc'!A0", Why.FORMULA),
        ("333 12", Why.NO_NUMBER),
        ("800 017728", Why.NO_NUMBER),
        ("chiedere a Maria", Why.NO_NUMBER),
        ("", Why.NOBODY),
        ("n.d.", Why.NOBODY),
        ("-", Why.NOBODY),
    ],
)
def test_what_is_no_mobile_is_refused_and_says_why(cell: str, why: Why) -> None:
    assert refused([cell, "", "", *PROOF]) is why


def test_a_number_that_is_none_leaves_the_mail_in_its_place() -> None:
    entry = said(["0587 265442", "Maria.Rossi@esempio.it", "", *PROOF])
    assert entry and (entry.telephone, entry.email, entry.without) == (None, "maria.rossi@esempio.it", (Why.LANDLINE,))
    entry = said(["333 1234567", "maria chiocciola esempio", "", *PROOF])
    assert entry and (entry.telephone, entry.email, entry.without) == ("+393331234567", None, (Why.NO_EMAIL,))


def test_an_entry_does_not_show_its_person() -> None:
    assert "333" not in repr(said(["333 1234567", "maria@esempio.it", "", *PROOF]))


# ── consent ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("proof", [["", ""], ["31/05/2024", ""], ["", "modulo"]])
def test_without_a_day_and_a_way_nobody_has_agreed_unless_a_document_says_so(proof: list[str]) -> None:
    row = ["333 1234567", "", "", *proof]
    assert refused(row) is Why.NO_PROOF
    assert said(row, declared=True)


def test_a_day_in_the_future_and_a_day_that_is_none_are_refused_even_with_a_document() -> None:
    assert refused(["333 1234567", "", "", "27/11/2026", "web"], declared=True) is Why.IN_FUTURE
    assert said(["333 1234567", "", "", "26/11/2026", "web"])
    for cell in ("31/02/2024", "05/31/2024", "ieri", "maggio 2024"):
        assert refused(["333 1234567", "", "", cell, "web"], declared=True) is Why.NO_DATE


@pytest.mark.parametrize(
    "cell",
    [
        "31/05/2024",
        "31-5-24",
        "31.05.2024",
        "2024-05-31",
        "2024-05-31T10:22:33+02:00",
        "31/05/2024 10.22.33",
        "2024/05/31 10:22:33 AM CET",
        "31 maggio 2024",
        "31° Mag. 2024",
        "45443",
        "45443,43",
    ],
)
def test_a_day_is_read_with_the_day_before_the_month(cell: str) -> None:
    assert day_of(cell) == date(2024, 5, 31)


@given(st.dates(date(2000, 1, 1), date(2099, 12, 31)))
def test_any_day_is_read_back_as_italians_write_it(day: date) -> None:
    assert day_of(f"{day:%d/%m/%Y}") == day_of(day.isoformat()) == day
    assert day_of(str((day - date(1899, 12, 30)).days)) == day


@pytest.mark.parametrize("cell", ["Sì", "SI", "x", "1", "VERO", "Acconsento al trattamento", "sì, per gli avvisi"])
def test_a_yes_is_a_yes(cell: str) -> None:
    assert said(["333 1234567", cell], ["telefono", "consenso"], declared=True)


@pytest.mark.parametrize("cell", ["no", "NO", "", "0", "FALSO", "Non acconsento", "forse", "da verificare", "simulato"])
def test_a_no_is_a_no_whatever_vouches_for_the_list_and_so_is_a_doubt(cell: str) -> None:
    assert refused(["333 1234567", cell], ["telefono", "consenso"], declared=True) is Why.NOT_AGREED


def test_a_day_under_consent_is_a_yes_of_that_day() -> None:
    entry = said(["333 1234567", "31/05/2024", "web"], ["telefono", "consenso", "modalità"])
    assert entry and entry.agreement.on == date(2024, 5, 31)


@pytest.mark.parametrize(
    ("cell", "is_in"), [("", True), ("no", True), ("31/12/2024", False), ("sì", False), ("x", False)]
)
def test_who_has_left_according_to_the_list_is_not_brought_back(cell: str, is_in: bool) -> None:
    header = ["telefono", "cancellato il"]
    if is_in:
        assert said(["333 1234567", cell], header, declared=True)
    else:
        assert refused(["333 1234567", cell], header, declared=True) is Why.LEFT_IN_LIST


# ── rows ────────────────────────────────────────────────────────────────────────────────────────────


def test_an_empty_row_and_the_header_again_are_nobody() -> None:
    assert said(["", " ", "", "", ""]) is None
    assert said(list(HEADER)) is None


def test_a_row_whose_cells_are_shifted_is_refused() -> None:
    assert refused(["333 1234567", "", "Fornacette", *PROOF, "avanzata"]) is Why.SHIFTED
    assert said(["333 1234567", "", "Fornacette", *PROOF, "", ""])


@pytest.mark.parametrize(("lat", "lon"), [("nan", "10,6"), ("999", "10"), ("qui", "lì"), ("43.6", "")])
def test_a_place_that_is_none_is_left_out(lat: str, lon: str) -> None:
    entry = said(["333 1234567", lat, lon], ["telefono", "lat", "lon"], declared=True)
    assert entry and entry.point is None and entry.without == (Why.POINT_OUTSIDE,)


@given(st.lists(st.text(max_size=30), max_size=8))
def test_whatever_a_row_says_it_is_somebody_or_refused(row: list[str]) -> None:
    try:
        entry = said(row, [*HEADER, "lat", "lon"])
    except Refused:
        return
    assert entry is None or entry.telephone or entry.email


@given(st.text(max_size=40))
def test_no_cell_of_ours_begins_like_a_formula(cell: str) -> None:
    assert harmless(cell).lstrip(" ")[:1] not in ("=", "+", "-", "@", "\t", "\r")
    assert harmless("riga 7") == "riga 7"


def test_bare_takes_off_what_spreadsheets_put_on() -> None:
    assert bare('="0587"') == "0587" and bare("\u00a0 a\u200bb ") == "ab"


# ── bytes ───────────────────────────────────────────────────────────────────────────────────────────

TEXT = "telefono;frazione\n3331234567;Gavèna\n3331234568;Fornacette\n"
WANTED = [["3331234567", "Gavèna"], ["3331234568", "Fornacette"]]


@pytest.mark.parametrize(
    "raw",
    [
        TEXT.encode(),
        TEXT.encode("utf-8-sig"),
        TEXT.encode("cp1252"),
        TEXT.encode("utf-16"),
        TEXT.encode("utf-16-le"),
        TEXT.encode("utf-16-be"),
        b"\xfe\xff" + TEXT.encode("utf-16-be"),
        TEXT.replace("\n", "\r\n").encode(),
        TEXT.replace("\n", "\r").encode(),
        TEXT.rstrip().encode(),
        TEXT.replace(";", ",").encode(),
        TEXT.replace(";", "\t").encode("utf-16"),
        b"sep=,\r\n" + TEXT.replace(";", ",").encode(),
        b"Elenco iscritti\n\n" + TEXT.encode(),
    ],
)
def test_a_list_is_read_in_any_encoding_with_any_separator_and_any_end_of_line(raw: bytes) -> None:
    rows = [cells for _, cells, flaw in rows_of(raw) if any(cells) and flaw is None]
    assert rows == WANTED


def test_a_file_pasted_together_is_read_line_by_line() -> None:
    raw = "telefono;frazione\n3331234567;Gavèna\n".encode() + "3331234568;Gavèna\n".encode("cp1252")
    rows = list(read(io.BytesIO(raw)).rows)
    assert [row.cells[1] for row in rows] == ["Gavèna", "Gavèna"]
    assert [row.encoding for row in rows] == [Encoding.UTF_8, Encoding.WINDOWS]


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (b"", "empty"),
        (b"3331234567;Fornacette\n3331234568;Fornacette\n", "no line says"),
        (b"PK\x03\x04\x14\x00", "xlsx"),
        (b"%PDF-1.7", "PDF"),
        (b"\xd0\xcf\x11\xe0", "xls"),
        (b"email;email\na@b.it;c@d.it\n", "two columns"),
        (TEXT.encode("utf-32"), "UTF-32"),
    ],
)
def test_what_is_no_list_is_said_without_a_word_of_it(raw: bytes, sentence: str) -> None:
    with pytest.raises(NoList, match=sentence) as error:
        read(io.BytesIO(raw))
    assert "333" not in str(error.value)


def test_a_cell_in_quotes_may_stand_on_several_lines() -> None:
    raw = b'telefono;indirizzo;frazione\n3331234567;"Via Roma 1\nscala B";Fornacette\n3331234568;;Fornacette\n'
    assert [(number, cells[-1]) for number, cells, _ in rows_of(raw)] == [(2, "Fornacette"), (4, "Fornacette")]


def test_a_quote_too_many_loses_its_own_row_and_nobody_below_it() -> None:
    raw = b'telefono;frazione\n3331234567;"Fornacette\n3331234568;Fornacette\n3331234569;Fornacette"\n3331234570;x\n'
    found = rows_of(raw)
    assert [number for number, _, flaw in found if flaw is Why.UNCLOSED] == [2]
    assert [cells[0] for _, cells, flaw in found if not flaw] == ["3331234568", "3331234569", "3331234570"]


def test_an_endless_line_is_one_finding_and_takes_no_memory() -> None:
    class Endless(io.RawIOBase):
        given = 0

        def read(self, size: int = -1) -> bytes:
            self.given += 1
            match self.given:
                case 1:
                    return b"telefono\n3331234567\n"
                case n if n < 300:
                    return b"x" * 65536
                case 300:
                    return b"\n3331234568\n"
            return b""

    endless: Any = Endless()
    assert [(cells, flaw) for _, cells, flaw in ((r.number, r.cells, r.flaw) for r in read(endless).rows)] == [
        (["3331234567"], None),
        ([], Why.TOO_LONG),
        (["3331234568"], None),
    ]
    assert LONGEST_LINE < 65536


@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters='"\r\n;\0'), max_size=20), max_size=20),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_every_line_of_a_list_is_a_row(cells: list[str], end: str) -> None:
    raw = end.join(["telefono;frazione", *(f"3331234567;{cell}" for cell in cells), ""]).encode()
    assert [row[1] for _, row, _ in rows_of(raw)] == cells


@given(st.binary(max_size=300))
def test_whatever_the_bytes_are_reading_them_ends(raw: bytes) -> None:
    try:
        rows = list(read(io.BytesIO(b"telefono;frazione\n" + raw)).rows)
    except NoList:
        return
    assert len(rows) <= raw.count(b"\n") + raw.count(b"\r") + 1
