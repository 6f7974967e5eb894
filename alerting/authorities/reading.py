"""One table of a TOML file, read key by key; whatever is wrong with it is noted, and reading goes on."""

import hashlib
import re
import tomllib
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

Wanted = TypeVar("Wanted")
Made = TypeVar("Made")

LONGEST_CODE = 64

CODE = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
"""What a comune and a frazione are called in codes: "santa-fiora"."""

KINDS: dict[type, str] = {
    str: 'a text in "quotes"',
    bool: "true or false",
    float: "a number",
    int: "a whole number",
    list: "a list in [brackets]",
    dict: "a [table]",
}


class Table:
    """A TOML table under its full name ("contact"), with the list that findings are added to.

    A wrong or missing value is noted and read as an empty one, so that one run finds everything.
    """

    def __init__(self, values: dict[str, object], findings: list[str], file: str, name: str = "") -> None:
        self._values = values
        self._findings = findings
        self._file = file
        self._name = name
        self._known: set[str] = set()

    def note(self, sentence: str) -> None:
        """Add a finding about this file."""
        self._findings.append(f"{self._file}: {sentence}")

    def key(self, name: str) -> str:
        """The full name of a key, as findings say it."""
        return f"{self._name}.{name}" if self._name else name

    def has(self, key: str) -> bool:
        """Whether a key that may be left out is there."""
        self._known.add(key)
        return key in self._values

    def text(self, key: str) -> str:
        """A text that must be there and not be empty, without the blanks around it."""
        value = self._read(key, str)
        if value is not None and not value.strip():
            self.note(f"{self.key(key)} is empty; write it, or see another comune's file")
        return (value or "").strip()

    def text_if_any(self, key: str) -> str | None:
        self._known.add(key)
        return self.text(key) if key in self._values else None

    def flag(self, key: str, *, optional: bool = False) -> bool:
        """True or false; false where it may be left out and is."""
        if optional and key not in self._values:
            self._known.add(key)
            return False
        return bool(self._read(key, bool))

    def whole(self, key: str) -> int:
        return self._read(key, int) or 0

    def number(self, key: str) -> float:
        return float(self._read(key, float) or 0)

    def anything(self, key: str) -> object:
        """A value of whatever kind, for whoever takes more than one."""
        self._known.add(key)
        return self._values.get(key)

    def texts(self, key: str, *, optional: bool = False) -> tuple[str, ...]:
        """A list of texts. Empty only where it may be left out."""
        if optional and key not in self._values:
            self._known.add(key)
            return ()
        values = self._read(key, list) or []
        if not values or not all(isinstance(value, str) and value.strip() for value in values):
            self.note(f'{self.key(key)} needs at least one text, as in {key} = ["…"]')
        return tuple(value for value in values if isinstance(value, str))

    def values(self, key: str) -> list[object]:
        """A list of anything, and never of nothing."""
        values = self._read(key, list)
        if values == []:
            self.note(f"{self.key(key)} is empty; fill it, or see another comune's file")
        return values or []

    def table(self, key: str) -> "Table":
        values = self._read(key, dict)
        # Of a table that is not there, one finding is enough.
        findings = [] if values is None else self._findings
        return Table(values or {}, findings, self._file, self.key(key))

    def tables(self, key: str) -> "Iterator[Table]":
        """The entries of [[key]], called key[1], key[2] … in findings."""
        for at, value in enumerate(self._read(key, list) or [], start=1):
            name = f"{self.key(key)}[{at}]"
            if isinstance(value, dict):
                yield Table(value, self._findings, self._file, name)
            else:
                self.note(f"{name} is not a table; write it under [[{self.key(key)}]]")

    def tables_if_any(self, key: str) -> "Iterator[Table]":
        """The entries of [[key]], where there are any."""
        return self.tables(key) if self.has(key) else iter(())

    def settings(self, key: str) -> dict[str, str]:
        """A table of texts, whatever its keys."""
        values = self._read(key, dict) or {}
        for name, value in values.items():
            if not isinstance(value, str) or not value:
                self.note(f'{self.key(key)}.{name} is not a text in "quotes"; write it as one')
        return {name: value for name, value in values.items() if isinstance(value, str)}

    def matching(self, key: str, pattern: re.Pattern[str], wanted: str) -> str:
        """A text of one form; `wanted` says the form in words, with an example."""
        value = self.text(key)
        if value:
            self.check(key, value, pattern, wanted)
        return value

    def check(self, key: str, value: str, pattern: re.Pattern[str], wanted: str) -> None:
        if not pattern.fullmatch(value):
            self.note(f"{self.key(key)} {value!r} does not fit; write {wanted}")

    def nothing_else(self) -> None:
        """Note every key that nobody has asked for: most are typing errors."""
        for key in sorted(self._values.keys() - self._known):
            like = get_close_matches(key, self._known, 1)
            meant = f"did you mean {like[0]}?" if like else "remove it"
            self.note(f"{self.key(key)} is not a key that means anything here; {meant}")

    def _read(self, key: str, kind: type[Wanted]) -> Wanted | None:
        self._known.add(key)
        if key not in self._values:
            self.note(f"{self.key(key)} is missing; write {KINDS[kind]}")
            return None
        value = self._values[key]
        fits = isinstance(value, int | float) if kind is float else isinstance(value, kind)
        if not fits or (isinstance(value, bool) and kind is not bool):
            self.note(f"{self.key(key)} is not {KINDS[kind]}; write it as one")
            return None
        return value  # type: ignore[return-value]  # a whole number is a number, to TOML two types


def read_file(
    path: Path, findings: list[str], whose: str, make: Callable[[Path, Table, str], Made | None]
) -> Made | None:
    """What `make` builds from the path, the table and the SHA-256 of a TOML file, whose name is a code.

    None when anything about it was noted; `whose` says of what the name is the code.
    """
    already = len(findings)
    content = path.read_bytes()
    try:
        values = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as cause:
        findings.append(f"{path.name}: this is not TOML in UTF-8: {cause}")
        return None
    file = Table(values, findings, path.name)
    if not CODE.fullmatch(path.stem) or len(path.stem) > LONGEST_CODE:
        file.note(f"the file's name is {whose}; use at most {LONGEST_CODE} small letters, digits and hyphens")
    made = make(path, file, hashlib.sha256(content).hexdigest())
    file.nothing_else()
    return made if len(findings) == already else None
