"""A dBase III table, the half of a shapefile that says which colour a zone has: read whole, or as far as it goes."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from alerting.domain.findings import Finding, Weight

WITHOUT_MEMO, WITH_MEMO = 0x03, 0x83
HEADER, DESCRIPTOR = 32, 32
END_OF_FIELDS, END_OF_FILE = 0x0D, 0x1A
KEPT, DELETED = 0x20, 0x2A

MOST_FIELDS = 64
MOST_RECORDS = 5_000
"""The national table has 187 rows; a zone of Italy is not one of thousands."""
MOST_BYTES = 8 * 1024 * 1024


class TableUnreadable(Exception):
    """Not even the names of the columns can be trusted. The sentence says what was found."""


@dataclass(frozen=True, slots=True)
class Table:
    """What could be read: the names of the columns, a row for each whole record, and what is wrong with the rest."""

    columns: tuple[str, ...]
    rows: tuple[dict[str, str], ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    starts: int
    ends: int


@dataclass(slots=True)
class _Reading:
    """One pass over a table, with the defects met so far."""

    name: str
    encoding: str
    findings: dict[str, Finding] = field(default_factory=dict)

    def note(self, rule: str, text: str, weight: Weight = Weight.WARNING) -> None:
        """Once for each rule: a broken table would say the same a thousand times."""
        self.findings.setdefault(rule, Finding(rule, weight, None, f"{self.name}: {text}"))


def read(raw: bytes, name: str, encoding: str = "latin-1") -> Table:
    """The rows of a table, as text without the padding; deleted ones left out.

    `name` is what findings call the file. A table that was cut off gives the records that are whole and the finding
    `dbf-cut`. Raises TableUnreadable when the header makes no sense or the table is beyond every bound.
    """
    if len(raw) > MOST_BYTES:
        raise TableUnreadable(f"{name} has {len(raw)} bytes, more than the {MOST_BYTES} that are read; look at it")
    reading = _Reading(name, encoding)
    claimed, header, width, columns = _header(raw, name)
    rows = tuple(_rows(raw, reading, claimed, header, width, columns))
    return Table(tuple(column.name for column in columns), rows, tuple(reading.findings.values()))


def _header(raw: bytes, name: str) -> tuple[int, int, int, list[_Column]]:
    if len(raw) < HEADER + 1:
        raise TableUnreadable(f"{name} has {len(raw)} bytes, less than the header of a DBF; fetch it again")
    version, claimed, header, width = raw[0], *struct.unpack_from("<IHH", raw, 4)
    if version not in (WITHOUT_MEMO, WITH_MEMO):
        raise TableUnreadable(f"{name} begins with byte {version:#04x}, not {WITHOUT_MEMO:#04x} as a dBase III table")
    columns = list(_columns(raw, min(header, len(raw)), name))
    if not columns:
        raise TableUnreadable(f"{name} names no column; fetch it again, or look whether its form changed")
    if columns[-1].ends != width:
        raise TableUnreadable(f"{name} says a record has {width} bytes, its columns add up to {columns[-1].ends}")
    if header > len(raw):
        raise TableUnreadable(f"{name} is cut off inside its header, after {len(raw)} of {header} bytes")
    return claimed, header, width, columns


def _columns(raw: bytes, header: int, name: str) -> Iterator[_Column]:
    starts = 1  # after the mark of deletion
    seen: set[str] = set()
    for at in range(HEADER, header, DESCRIPTOR):
        if raw[at] == END_OF_FIELDS:
            return
        if at + DESCRIPTOR > header or len(seen) == MOST_FIELDS:
            break
        title = raw[at : at + 11].split(b"\0")[0].decode("latin-1").strip()
        if not title or title in seen:
            raise TableUnreadable(f"{name} has two columns called {title!r}, or one without a name")
        seen.add(title)
        yield _Column(title, starts, starts := starts + raw[at + 16])
    raise TableUnreadable(f"{name} does not say where its columns end within {MOST_FIELDS} of them")


def _rows(
    raw: bytes, reading: _Reading, claimed: int, header: int, width: int, columns: list[_Column]
) -> Iterator[dict[str, str]]:
    whole = (len(raw) - header) // width
    if whole < claimed:
        reading.note("dbf-cut", f"it is cut off: {whole} whole records of the {claimed} it announces", Weight.ERROR)
    elif whole > claimed:
        reading.note("dbf-longer", f"it announces {claimed} records and goes on after them; not read", Weight.ERROR)
    if min(whole, claimed) > MOST_RECORDS:
        reading.note("dbf-too-many", f"it has {claimed} records, of which {MOST_RECORDS} are read", Weight.ERROR)
    for n in range(min(whole, claimed, MOST_RECORDS)):
        record = raw[header + n * width : header + (n + 1) * width]
        if record[0] == END_OF_FILE:
            reading.note("dbf-cut", f"it ends at record {n + 1} of the {claimed} it announces", Weight.ERROR)
            return
        if record[0] == DELETED:
            continue
        if record[0] != KEPT:
            reading.note("dbf-mark", f"record {n + 1} is neither kept nor deleted and is not read", Weight.ERROR)
            continue
        yield {column.name: _text(record[column.starts : column.ends], reading) for column in columns}


def _text(cell: bytes, reading: _Reading) -> str:
    try:
        text = cell.decode(reading.encoding)
    except UnicodeDecodeError:
        reading.note("dbf-letters", f"not everything is written in {reading.encoding}; names may read oddly")
        text = cell.decode("latin-1")
    return text.strip(" \0")
