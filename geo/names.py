"""The name of a place as people write it: cut short, abbreviated, mistyped, with words around that name nothing."""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

Words = tuple[str, ...]

LETTERS_PER_TYPO = 5
CLEARLY_NEARER = 2
"""Typos by which one name must be nearer than another to be meant alone: "Bagnola" may be Bagnolo or Bagnore."""
SHORTEST_PART = 4


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


SAINT = "san"
ABBREVIATED: dict[Words, str] = {
    **{(word,): SAINT for word in ("s", "ss", "san", "sant", "santa", "sta", "santo", "sto")},
    ("s", "ta"): SAINT,
    ("s", "to"): SAINT,
    ("p", "te"): "ponte",
    ("pte",): "ponte",
    ("4",): "quattro",
}
"""One spelling for all saints: who writes "S. Colomba" has not said which she was."""

LINKS = _set(
    "a ad al allo alla alle ai agli all di del dello della delle dei degli dell d da dal dalla in nel nella nell "
    "il lo la le l i gli"
)
"""Left out and exchanged at will: "San Lorenzo Pagnatico", "a Fornacette"."""

LEADING = _set("zona frazione fraz localita loc paese comune")
"""Stand before a name and are none: "frazione di Fornacette"."""

STREETS = _set("via v viale vle vicolo vico strada piazza pza piazzale piazzetta largo corso lungarno")
"""A street is often called like the place it leads to, and lies elsewhere."""

NOT_DISTINCTIVE = STREETS | {SAINT, "ponte", "contrada", "borgo", "villa", "colle", "monte", "pieve", "poggio"}
"""Alone they are no part anybody is known by, though one name in the comune may begin so."""


def plain(text: str) -> str:
    """`Sant’Andrea a Gavèna` → `santandreaagavena`: what is left of a name when people type it."""
    return "".join(letter for letter in unicodedata.normalize("NFKD", text).casefold() if letter.isalnum())


def split(text: str) -> Words:
    """The words of a text in plain letters: `S.Andrea a Gavèna` → s, andrea, a, gavena."""
    shown = (c for c in unicodedata.normalize("NFKD", text).casefold() if unicodedata.category(c) not in ("Mn", "Cf"))
    return tuple("".join(c if c.isalnum() else " " for c in shown).split())


def pieces(text: str) -> tuple[Words, ...]:
    """What stands between commas and brackets, without a province and a postcode: "56012 Fornacette (PI)"."""
    written = (split(piece) for piece in re.split(r"[,;()\n]", text))
    numberless = (tuple(word for word in words if not POSTCODE.fullmatch(word)) for words in written)
    return tuple(words for words in numberless if words and not _is_in_an_address(words))


POSTCODE = re.compile(r"[0-9]{5}")


def _is_in_an_address(words: Words) -> bool:
    return all(word.isdecimal() for word in words) or (len(words) == 1 and len(words[0]) == 2)


@dataclass(frozen=True, slots=True)
class Spelling:
    """One way to write a name or a part of it, and how many typos it forgives."""

    letters: str
    forgiven: int

    def slips(self, words: Words) -> int | None:
        """How many typos these words are away; None when it is too many to think of, or when a word is left over.

        "no Fornacette" is two letters away from a name, and its contrary.
        """
        most = self.forgiven + CLEARLY_NEARER - 1
        wrong = self._away(words, most)
        if wrong is None or (len(words) > 1 and any((self._away(w, wrong - 1)) is not None for w in _shorter(words))):
            return None
        return wrong

    def _away(self, words: Words, most: int) -> int | None:
        near = [s for s in spelled(words) if abs(len(s) - len(self.letters)) <= most]
        wrong = min((typos(letters, self.letters) for letters in near), default=most + 1)
        return wrong if wrong <= most else None


def _shorter(words: Words) -> tuple[Words, Words]:
    return words[1:], words[:-1]


class Name:
    """A place's name, whole and in the parts that people shorten it to: "San Frediano", "Cappiano"."""

    def __init__(self, name: str) -> None:
        self._words = split(name)
        self.wholes = _spellings(self._words)
        self.parts = {spelling for part in self._runs() for spelling in _spellings(part)} - self.wholes

    def _runs(self) -> Iterator[Words]:
        for first, end in combinations(range(len(self._words) + 1), 2):
            run = self._words[first:end]
            distinct = any(word not in NOT_DISTINCTIVE for word in usual(run))
            if distinct and LINKS.isdisjoint((run[0], run[-1])) and len("".join(run)) >= SHORTEST_PART:
                yield run

    def slips(self, words: Words) -> tuple[int, bool] | None:
        """The fewest typos between these words and a spelling, and whether it forgives so many; None when far."""
        if not words or (words[0] in STREETS and self._words[:1] != words[:1]):
            return None
        near = [
            (wrong, wrong <= spelling.forgiven)
            for spelling in self.wholes | self.parts
            for reading in {words, _led(words)}
            if (wrong := spelling.slips(reading)) is not None
        ]
        return min(near, key=lambda found: (found[0], not found[1]), default=None)


def spelled(words: Words) -> set[str]:
    """The words run together, as they stand and as everybody's spelling of them; nothing for nothing."""
    return {"".join(words), "".join(usual(words))} - {""}


def usual(words: Words) -> Words:
    """Abbreviations written out, articles and prepositions left out: s, andrea, a, gavena → san, andrea, gavena."""
    kept: list[str] = []
    at = 0
    while at < len(words):
        long = next((n for n in (2, 1) if words[at : at + n] in ABBREVIATED), 0)
        if long:
            kept.append(ABBREVIATED[words[at : at + long]])
        elif words[at] not in LINKS:
            kept.append(words[at])
        at += long or 1
    return tuple(kept)


def _spellings(words: Words) -> set[Spelling]:
    # A saint's letters earn no pardon: "San Piero" is not San Pierino.
    forgiven = sum(len(word) for word in usual(words) if word != SAINT) // LETTERS_PER_TYPO
    return {Spelling(letters, forgiven) for letters in spelled(words)}


def _led(words: Words) -> Words:
    """Without what stands before a name, if a name is left."""
    first = next((at for at, word in enumerate(words) if word not in LEADING | LINKS), 0)
    return words[first:]


def slug(name: str) -> str:
    """`Ponte a Cappiano` → `ponte-a-cappiano`: a name as the last part of a code."""
    letters = "".join(x for x in unicodedata.normalize("NFKD", name).casefold() if not unicodedata.combining(x))
    return "-".join("".join(x if x.isalnum() else " " for x in letters).split())


def typos(one: str, other: str) -> int:
    """Letters to insert, leave out, replace, or exchange with their neighbour (optimal string alignment)."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, start=1):
        before, last, row = row, before, [i]
        for j, b in enumerate(other, start=1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and b == one[i - 2]:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1]
