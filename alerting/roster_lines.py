"""The rows of a list as offices export it: any usual encoding, even several in one file, and any separator.

Read in pieces, so that a million rows take no more memory than a thousand; a row that cannot be read is one finding,
never the end of the list.
"""

import codecs
import csv
import io
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import BinaryIO

from alerting.domain.roster import Layout, Why, layout_of

PIECE = 1 << 16
LONGEST_LINE = 20_000  # bytes
MOST_JOINED = 20
"""Lines of one row: a cell in quotes may hold an address in several."""
HEADER_WITHIN = 20
"""Lines: lists have titles above their header."""

SEPARATORS = ";,\t|"
LINE_END = re.compile(rb"\r\n|\n|\r")

NO_TEXT = {
    b"PK\x03\x04": "a workbook (.xlsx or .ods)",
    b"\xd0\xcf\x11\xe0": "an old workbook (.xls)",
    b"%PDF": "a PDF",
    b"\x1f\x8b": "compressed",
    b"{\\rtf": "a text document (.rtf)",
    b"\xff\xfe\x00\x00": "in UTF-32",
    b"\x00\x00\xfe\xff": "in UTF-32",
}
"""How files begin that are no list, and what they are."""


class NoList(ValueError):
    """A file that no list can be read from. The sentence says what to do, and nothing of what is in it."""


class Encoding(Enum):
    """What a line is written in."""

    ASCII = "ascii"
    UTF_8 = "utf-8"
    UTF_16 = "utf-16"
    WINDOWS = "windows-1252"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the file, from 1. `text` is None where it is too long to be one."""

    number: int
    text: str | None
    encoding: Encoding


@dataclass(frozen=True, slots=True)
class Row:
    """The cells of one row, which begins at line `number`; or why there are none."""

    number: int
    cells: list[str]
    encoding: Encoding
    flaw: Why | None = None

    def __repr__(self) -> str:
        return f"Row({self.number}, …)"


@dataclass(frozen=True, slots=True)
class Roster:
    """The header of a list and the rows below it."""

    layout: Layout
    separator: str
    rows: Iterator[Row]


def read(file: BinaryIO) -> Roster:
    """The list in a file from where it stands. Raises NoList."""
    ahead: deque[Line] = deque()
    lines = _lines(file)
    separators = SEPARATORS
    for line in lines:
        ahead.append(line)
        text = (line.text or "").strip()
        if line.number == 1 and text[:4].casefold() == "sep=" and len(text) == 5:  # Excel's own
            separators = text[4]
        if found := _header(text, separators):
            layout, separator = found
            return Roster(layout, separator, _rows(lines, separator, len(layout.cells)))
        if line.number == HEADER_WITHIN:
            break
    raise NoList(
        "no line says what the columns are: write one above the rows, as telefono;frazione;consenso_data;consenso_modo"
        if ahead
        else "the file is empty: export the list again"
    )


def _header(text: str, separators: str) -> tuple[Layout, str] | None:
    found = []
    for separator in separators:
        try:
            layout = layout_of(next(csv.reader([text], delimiter=separator), []))
        except ValueError as twice:
            raise NoList(str(twice)) from None
        if layout:
            found.append((layout, separator))
    return max(found, key=lambda one: (len(one[0].at), len(one[0].cells)), default=None)


# ── lines ───────────────────────────────────────────────────────────────────────────────────────────


def _lines(file: BinaryIO) -> Iterator[Line]:
    begins = file.read(PIECE)
    for magic, what in NO_TEXT.items():
        if begins.startswith(magic):
            raise NoList(f"the file is {what}: save it as CSV, then import that")
    wide = _wide(begins)
    pieces = _pieces(file, begins)
    if wide:
        decoder = codecs.getincrementaldecoder(wide)("replace")
        pieces = (decoder.decode(piece).encode("utf-8", "replace") for piece in pieces)
    for number, raw in enumerate(_split(pieces), start=1):
        if number == 1 and raw is not None:
            raw = raw.removeprefix(codecs.BOM_UTF8)
        text, encoding = _decoded(raw)
        yield Line(number, text, Encoding.UTF_16 if wide else encoding)


def _pieces(file: BinaryIO, first: bytes) -> Iterator[bytes]:
    piece = first
    while piece:
        yield piece
        piece = file.read(PIECE)


def _wide(begins: bytes) -> str | None:
    """The UTF-16 a file is in: by its mark, else because every other byte of its header is 0."""
    if begins.startswith(codecs.BOM_UTF16_LE):
        return "utf-16-le"
    if begins.startswith(codecs.BOM_UTF16_BE):
        return "utf-16-be"
    head = begins[:200]
    half = len(head) // 2
    if half and head[1::2].count(0) > 0.8 * half:
        return "utf-16-le"
    if half and head[0::2].count(0) > 0.8 * half:
        return "utf-16-be"
    return None


def _split(pieces: Iterable[bytes]) -> Iterator[bytes | None]:
    """The lines of a file however they end; None for one that is too long."""
    rest, too_long = b"", False
    for piece in pieces:
        held = rest + piece
        # A CR at the very end may be half of a CR LF.
        held, half = (held[:-1], b"\r") if held.endswith(b"\r") else (held, b"")
        *whole, rest = LINE_END.split(held)
        for line in whole:
            yield None if too_long or len(line) > LONGEST_LINE else line
            too_long = False
        if len(rest) > LONGEST_LINE:
            rest, too_long = b"", True
        rest += half
    if rest or too_long:
        yield None if too_long else rest.removesuffix(b"\r")


def _decoded(raw: bytes | None) -> tuple[str | None, Encoding]:
    if raw is None:
        return None, Encoding.ASCII
    if raw.isascii():
        return raw.decode("ascii"), Encoding.ASCII
    try:
        return raw.decode("utf-8"), Encoding.UTF_8
    except UnicodeDecodeError:
        return raw.decode("windows-1252", "replace"), Encoding.WINDOWS


# ── rows ────────────────────────────────────────────────────────────────────────────────────────────


def _rows(lines: Iterator[Line], separator: str, width: int) -> Iterator[Row]:
    ahead: deque[Line] = deque()
    while line := ahead.popleft() if ahead else next(lines, None):
        if line.text is None:
            yield Row(line.number, [], line.encoding, Why.TOO_LONG)
        elif line.text.count('"') % 2 == 0 or _closed(line.text, separator):
            yield Row(line.number, _cells(line.text, separator), line.encoding)
        else:
            yield _joined(line, lines, ahead, separator, width)


def _joined(line: Line, lines: Iterator[Line], ahead: deque[Line], separator: str, width: int) -> Row:
    """A row whose quotes close on a later line. Where none does, or one looks like a row itself, only this one is lost:
    a quote too many must not swallow the people below it."""
    taken: list[Line] = []
    text = line.text or ""
    while len(taken) < MOST_JOINED and (following := ahead.popleft() if ahead else next(lines, None)):
        taken.append(following)
        if following.text is None or len(_cells(following.text, separator)) >= width:
            break
        text = f"{text}\n{following.text}"
        if _closed(text, separator):
            return Row(line.number, _cells(text, separator), line.encoding)
    ahead.extendleft(reversed(taken))
    return Row(line.number, [], line.encoding, Why.UNCLOSED)


def _closed(text: str, separator: str) -> bool:
    try:
        return len(list(csv.reader(text.split("\n"), delimiter=separator, strict=True))) <= 1
    except csv.Error:
        return False


def _cells(text: str, separator: str) -> list[str]:
    return next(csv.reader(io.StringIO(text, newline="") if "\n" in text else [text], delimiter=separator), [])
