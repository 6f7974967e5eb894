"""A list of subscribers as a comune has it: which column says what, and what one row says of one person."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from enum import Enum

from alerting.domain.recipients import AddressError, email_address, phone
from geo.names import plain
from geo.shapes import Point

# ── what is wrong with a row, or with a part of it ──────────────────────────────────────────────────


class Why(Enum):
    """Why a row is not taken, or something of it is left out. The value is what the office reads in the report.

    None of these repeats what a cell says: a report is mailed around, and a cell may hold anything.
    """

    NOBODY = "non c'è né un telefono né un'e-mail"
    NO_NUMBER = "il telefono non è un numero valido: controllare le cifre e il prefisso"
    CUT_SHORT = "il foglio di calcolo ha abbreviato il numero: formattare la colonna come testo ed esportare di nuovo"
    LANDLINE = "è un telefono fisso, che non mostra messaggi: serve un cellulare"
    FORMULA = "la cella contiene una formula: scrivere soltanto il valore"
    NO_EMAIL = "l'e-mail non è un indirizzo valido"
    NO_ACCOUNT = "il comune non ha un canale per questo recapito"
    NO_PROOF = "manca la prova del consenso: servono la data e il modo, oppure un documento per tutto l'elenco"
    NO_DATE = "la data del consenso non si capisce: scriverla come 31/05/2026"
    IN_FUTURE = "la data del consenso è nel futuro"
    NOT_AGREED = "la persona non ha dato il consenso, oppure non è chiaro"
    LEFT_IN_LIST = "nell'elenco la persona risulta cancellata"
    HAS_LEFT = "la persona si era cancellata: se vuole tornare deve iscriversi da sé"
    UNCLOSED = "le virgolette non si chiudono: non è chiaro dove finisce la riga"
    TOO_LONG = "la riga è troppo lunga per essere di un elenco"
    SHIFTED = "ci sono più celle che intestazioni: le colonne sono spostate"
    ANOTHERS = "l'altro recapito è già di un'altra persona, o questa ne ha già uno sullo stesso canale: tralasciato"
    PLACE_UNKNOWN = "la zona non si riconosce: riceverà gli avvisi per tutto il Comune"
    POINT_OUTSIDE = "la posizione non è nel territorio del Comune: tralasciata"
    OTHER_ENCODING = "la riga ha una codifica diversa dalle altre: controllare le lettere accentate"


class Refused(Exception):
    """A row that nobody is subscribed from."""

    def __init__(self, why: Why) -> None:
        super().__init__(why.value)
        self.why = why


# ── the columns ─────────────────────────────────────────────────────────────────────────────────────


class Column(Enum):
    """What a column may say. Others, as names and tax codes, are not even looked at."""

    TELEPHONE = "telefono"
    EMAIL = "email"
    PLACE = "frazione"
    ADDRESS = "indirizzo"
    LAT = "lat"
    LON = "lon"
    AGREED = "consenso"
    AGREED_ON = "consenso_data"
    AGREED_HOW = "consenso_modo"
    LEFT = "cancellato"


SYNONYMS: dict[Column, str] = {
    Column.TELEPHONE: (
        "telefono tel cellulare cell mobile smartphone numero recapito contatto utenza phone msisdn whatsapp "
        "sms telefonino recapitotelefonico recapitocellulare numerotelefono numeroditelefono numerotelefonico "
        "numerocellulare numerodicellulare numerowhatsapp numeromobile ntelefono ncellulare ntel ncell nrtelefono "
        "nrcellulare numtel numcell telefonomobile telefonocellulare telefono1 telefono2 cellulare1 cellulare2 "
        "telcellulare telcell phonenumber mobilephone phone1value phone2value primaryphone"
    ),
    Column.EMAIL: (
        "email mail emailaddress indirizzoemail indirizzomail indirizzodiposta indirizzodipostaelettronica "
        "indirizzopostaelettronica postaelettronica posta recapitoemail email1value indirizzidipostaelettronica"
    ),
    Column.PLACE: "frazione frazioni localita zona quartiere abitato paese borgo contrada frazionelocalita",
    Column.ADDRESS: (
        "indirizzo indirizzodiresidenza indirizzoresidenza residenza domicilio via viapiazza viaecivico address "
        "address1formatted indirizzocompleto"
    ),
    Column.LAT: "lat latitudine latitude",
    Column.LON: "lon lng long longitudine longitude",
    Column.AGREED: (
        "consenso consensoprivacy consensotrattamento consensotrattamentodati consensoaltrattamento privacy acconsento "
        "consensoaltrattamentodeidati consensoaltrattamentodeidatipersonali accettazione autorizzazione consent"
    ),
    Column.AGREED_ON: (
        "consensodata dataconsenso datadelconsenso datadiconsenso consensoil consensodel dataiscrizione "
        "datadiiscrizione iscrittoil iscrittodal iscrizionedel dataadesione adesionedel "
        "informazionicronologiche timestamp consentdate"
    ),
    Column.AGREED_HOW: (
        "consensomodo modoconsenso mododelconsenso modalitaconsenso consensomodalita modalita comeconsenso modo "
        "fonteconsenso modoiscrizione modalitaiscrizione modalitadiiscrizione canaleiscrizione provenienza fonte "
        "consenthow"
    ),
    Column.LEFT: (
        "cancellato cancellata cancellatoil datacancellazione datadicancellazione cancellazione disiscritto "
        "disiscrittoil disiscrizione datadisiscrizione revoca revocato revocatoil datarevoca consensorevocato "
        "disattivato disattivatoil unsubscribed"
    ),
}
"""Headers as offices write them, in plain letters: "N. Cellulare" is ncellulare. Google's and Excel's own too."""

KNOWN = {word: column for column, words in SYNONYMS.items() for word in words.split()}
SEVERAL = frozenset({Column.TELEPHONE})
"""A landline beside a mobile is two columns; of anything else two would be a doubt."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Which column is where. `cells` is the header as it was written: it comes again where lists were pasted."""

    cells: tuple[str, ...]
    at: tuple[tuple[Column, int], ...]

    def of(self, row: Sequence[str], column: Column) -> list[str]:
        """What a row says under this header, where it says something."""
        return [cell for known, at in self.at if known is column and at < len(row) and (cell := bare(row[at]))]

    def one(self, row: Sequence[str], column: Column) -> str:
        return next(iter(self.of(row, column)), "")

    def has(self, column: Column) -> bool:
        return any(known is column for known, _ in self.at)


def layout_of(cells: Sequence[str]) -> Layout | None:
    """The layout that a header gives; None for a line that is none. Raises ValueError for a column that comes twice."""
    found = [(column, at) for at, cell in enumerate(cells) if (column := KNOWN.get(plain(cell)))]
    columns = [column for column, _ in found]
    if Column.TELEPHONE not in columns and Column.EMAIL not in columns:
        return None
    for column in set(columns) - SEVERAL:
        if columns.count(column) > 1:
            raise ValueError(f"two columns say {column.value}: keep the one that counts")
    return Layout(tuple(cells), tuple(found))


# ── cells ───────────────────────────────────────────────────────────────────────────────────────────

TEXT_FORMULA = re.compile(r'=\s*"([^"]*)"')
"""How a spreadsheet is kept from touching a number: ="3331234567"."""
FORMULA = re.compile(r"[=@]|[+-]\s*[^\d\s(]")
"""What a spreadsheet would run. A number with its prefix, +39 333…, is none."""
NOTHING = frozenset(("", "-", "--", "nd", "na", "nessuno", "nessuna", "null", "none", "nan", "no"))


def bare(cell: str) -> str:
    """A cell without what spreadsheets put around a value; empty where it says that there is nothing."""
    text = cell
    if not (cell.isascii() and cell.isprintable()):
        kinds = [(c, unicodedata.category(c)) for c in cell]
        text = "".join(" " if kind in ("Zs", "Cc") else c for c, kind in kinds if kind != "Cf")
    text = text.strip().removeprefix("'").strip()
    if held := TEXT_FORMULA.fullmatch(text):
        text = held[1].strip()
    return text


def harmless(cell: str) -> str:
    """A cell that no spreadsheet runs, for what we write: one that begins like a formula is made a text."""
    return f"'{cell}" if cell.lstrip()[:1] in ("=", "+", "-", "@") or cell[:1] in ("\t", "\r", "\n") else cell


def _is_nothing(cell: str) -> bool:
    return cell.replace(".", "").replace("/", "").strip().casefold() in NOTHING


WITHOUT_GAPS = str.maketrans("", "", " .-")
PLAINLY_MOBILE = re.compile(r"(?:(?:\+|00)39)?(3[2-9][0-9]{8})")
"""What nearly every cell is. To ask libphonenumber of a million of them takes a minute, and it would say the same."""
SCIENTIFIC = re.compile(r"\d([.,]\d+)?[eE]\+?\d{1,2}")
AS_A_FRACTION = re.compile(r"(\+?\d{6,15})[.,]0+")
BETWEEN_NUMBERS = re.compile(r"\s*(?:[;,|]|\s/\s|/(?=\+|\d{9})|\s-\s|\s[eo]\s)\s*")


def _telephone(cells: Sequence[str]) -> str | None:
    """The first mobile of what stands under telephone. Raises Refused where there are only others."""
    flaws: list[Why] = []
    for cell in cells:
        if found := PLAINLY_MOBILE.fullmatch(cell.translate(WITHOUT_GAPS)):
            return f"+39{found[1]}"
        if _is_nothing(cell):
            continue
        if FORMULA.match(cell):
            flaws.append(Why.FORMULA)
        elif SCIENTIFIC.fullmatch(cell.replace(" ", "")):
            flaws.append(Why.CUT_SHORT)
        else:
            for written in _numbers_in(cell):
                try:
                    number = phone(written)
                except AddressError:
                    flaws.append(Why.NO_NUMBER)
                    continue
                if not number.landline:
                    return number.e164
                flaws.append(Why.LANDLINE)
    if flaws:
        raise Refused(Why.LANDLINE if Why.LANDLINE in flaws else flaws[0])
    return None


def _numbers_in(cell: str) -> Iterator[str]:
    whole = AS_A_FRACTION.fullmatch(cell)
    text = whole[1] if whole else cell
    parts = [part for part in BETWEEN_NUMBERS.split(text) if part.strip()]
    # "333/1234567" is one number; only where the whole is none are there several.
    if len(parts) > 1 and not _is_number(text):
        yield from parts
    else:
        yield text


def _is_number(text: str) -> bool:
    try:
        phone(text)
    except AddressError:
        return False
    return True


def _email(cell: str) -> str | None:
    if _is_nothing(cell):
        return None
    if FORMULA.match(cell):
        raise Refused(Why.FORMULA)
    try:
        return email_address(cell)
    except AddressError:
        raise Refused(Why.NO_EMAIL) from None


# ── consent ─────────────────────────────────────────────────────────────────────────────────────────

YES = frozenset(
    ("si", "s", "x", "v", "1", "vero", "true", "yes", "y", "ok", "prestato", "concesso", "dato", "presente", "firmato")
)
YES_BEGINS = ("acconsent", "autorizz", "accett", "prestail")
STILL_IN = frozenset(["no", "n", "0", "falso", "false", "attivo", "attiva", "iscritto", "iscritta"]) | NOTHING

MONTH_NAMES = ("gen", "feb", "mar", "apr", "mag", "giu", "lug", "ago", "set", "ott", "nov", "dic")
MONTHS = {name: number for number, name in enumerate(MONTH_NAMES, start=1)}
YEAR_FIRST = re.compile(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?:[t ].*)?")
DAY_FIRST = re.compile(r"(\d{1,2})[-/.](\d{1,2})[-/.](\d{4}|\d{2})(?:[ ,T].*)?")
IN_WORDS = re.compile(r"(\d{1,2})[°º]?\s+([a-z]{3,9})\.?\s+(\d{4})(?:\s.*)?")
SERIAL = re.compile(r"(\d{5})(?:[.,]\d+)?")
EXCEL_BEGAN = date(1899, 12, 30)
EARLIEST = date(1995, 1, 1)
"""Before that no comune wrote to anybody's telephone."""


def day_of(cell: str) -> date:
    """The day a cell names, the day before the month as Italians write it. Raises ValueError."""
    text = cell.strip().casefold()
    if found := YEAR_FIRST.fullmatch(text):
        day = date(int(found[1]), int(found[2]), int(found[3]))
    elif found := DAY_FIRST.fullmatch(text):
        year = int(found[3])
        day = date(year if year > 99 else 2000 + year, int(found[2]), int(found[1]))
    elif (found := IN_WORDS.fullmatch(text)) and found[2][:3] in MONTHS:
        day = date(int(found[3]), MONTHS[found[2][:3]], int(found[1]))
    elif found := SERIAL.fullmatch(text):
        day = EXCEL_BEGAN + timedelta(days=int(found[1]))
    else:
        raise ValueError("this names no day")
    if day < EARLIEST:
        raise ValueError("nobody agreed to be told so long ago")
    return day


@dataclass(frozen=True, slots=True)
class Agreement:
    """When somebody agreed and how, as far as the list says."""

    on: date | None
    how: str


LONGEST_HOW = 80


def _agreement(layout: Layout, row: Sequence[str], today: date, *, declared: bool) -> Agreement:
    """Raises Refused in any doubt. `declared`: a document vouches for all rows that say nothing else."""
    left = layout.one(row, Column.LEFT)
    if left.casefold() not in STILL_IN:
        raise Refused(Why.LEFT_IN_LIST)
    written, how = layout.one(row, Column.AGREED_ON), layout.one(row, Column.AGREED_HOW)
    if layout.has(Column.AGREED):
        written = _yes(layout.one(row, Column.AGREED), written)
    on = None
    if written:
        try:
            on = day_of(written)
        except ValueError:
            raise Refused(Why.NO_DATE) from None
        if on > today:
            raise Refused(Why.IN_FUTURE)
    if not declared and not (on and how):
        raise Refused(Why.NO_PROOF)
    return Agreement(on, how[:LONGEST_HOW])


def _yes(cell: str, written: str) -> str:
    """The day as it is written, which may stand in the place of a yes. Raises Refused for a no and for nothing."""
    word = plain(cell)
    if word in YES or word.startswith(YES_BEGINS) or cell.casefold().startswith(("sì", "si ", "si,")):
        return written
    try:
        day_of(cell)
    except ValueError:
        raise Refused(Why.NOT_AGREED) from None
    return written or cell


# ── one row ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Entry:
    """One person of a list: at least one of the two addresses, where they live, when and how they agreed.

    `lives` is what the list calls it, a frazione's name or a street with it. `without` is what is left out, and why.
    """

    telephone: str | None
    email: str | None
    lives: str
    point: Point | None
    agreement: Agreement
    without: tuple[Why, ...] = ()

    def __repr__(self) -> str:
        return "Entry(…)"  # an error that is logged must not show a person


def entry_of(layout: Layout, row: Sequence[str], today: date, *, declared: bool) -> Entry | None:
    """What a row says; None for an empty one and for the header again. Raises Refused."""
    if tuple(row) == layout.cells or not any(bare(cell) for cell in row):
        return None
    if any(bare(cell) for cell in row[len(layout.cells) :]):
        raise Refused(Why.SHIFTED)
    agreement = _agreement(layout, row, today, declared=declared)
    flaws: list[Why] = []
    telephone = email = None
    try:
        telephone = _telephone(layout.of(row, Column.TELEPHONE))
    except Refused as refused:
        flaws.append(refused.why)
    try:
        email = _email(layout.one(row, Column.EMAIL))
    except Refused as refused:
        flaws.append(refused.why)
    if telephone is None and email is None:
        raise Refused(flaws[0] if flaws else Why.NOBODY)
    entry = Entry(telephone, email, _lives(layout, row), None, agreement, tuple(flaws))
    return _at_point(entry, layout.one(row, Column.LAT), layout.one(row, Column.LON))


def _lives(layout: Layout, row: Sequence[str]) -> str:
    places = (layout.one(row, column) for column in (Column.PLACE, Column.ADDRESS))
    return next((place for place in places if not _is_nothing(place) and not FORMULA.match(place)), "")


def _at_point(entry: Entry, lat: str, lon: str) -> Entry:
    if not lat and not lon:
        return entry
    try:
        point = Point(float(lat.replace(",", ".")), float(lon.replace(",", ".")))
    except ValueError:
        return replace(entry, without=(*entry.without, Why.POINT_OUTSIDE))
    if not (abs(point.lat) <= 90 and abs(point.lon) <= 180):  # and what is no number is outside, too
        return replace(entry, without=(*entry.without, Why.POINT_OUTSIDE))
    return replace(entry, point=point)
