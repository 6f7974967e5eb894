"""Places with a name: comuni, frazioni, zones; which of them a point is in, and which one somebody means."""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum

from geo.shapes import FenceIndex, Geofence, Point, km2_outside

STRAY_SHARE = 0.02
"""How much of an area may lie on the wrong side of a border: two surveys never draw one alike."""
LETTERS_PER_TYPO = 5
SUGGESTIONS = 3


class AreaKind(Enum):
    """What sort of place an area is."""

    COMUNE = "comune"
    FRAZIONE = "frazione"
    ZONA = "zona"
    """An allerta zone of the regional functional centre, as A4."""
    CUSTOM = "custom"
    """Drawn by a comune for itself: a flood plain, a school's surroundings."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Area:
    """One version of a place that can be alerted by name. `demonstration`: not its real boundary."""

    code: str
    name: str
    kind: AreaKind
    fence: Geofence
    parent: str | None = None
    version: int = 1
    source: str = ""
    licence: str = ""
    demonstration: bool = False


def overlap(one: Area, other: Area) -> bool:
    """Whether two areas of different kinds share more than what two surveys of one border leave between them.

    Areas of one kind divide the ground among them: what they share is a border, however badly drawn.
    """
    if one.kind is other.kind or not one.fence.planar.intersects(other.fence.planar):
        return False
    shared = one.fence.area_km2 - km2_outside(one.fence, other.fence)
    return shared > STRAY_SHARE * min(one.fence.area_km2, other.fence.area_km2)


class UnknownArea(LookupError):
    """Nobody knows this code. Names those that look like it."""

    def __init__(self, code: str, suggestions: tuple[str, ...]) -> None:
        meant = f"; did you mean {' or '.join(suggestions)}?" if suggestions else ""
        super().__init__(f"no area is called {code!r}{meant}")
        self.code = code
        self.suggestions = suggestions


class Gazetteer:
    """Areas by place, by code and by name. Raises ValueError if two have the same code."""

    def __init__(self, areas: Iterable[Area]) -> None:
        self.areas = tuple(areas)
        self._by_code: dict[str, Area] = {}
        self._by_name: dict[str, list[Area]] = {}
        for area in self.areas:
            if (other := self._by_code.setdefault(area.code, area)) is not area:
                raise ValueError(f"{other.name} and {area.name} both have the code {area.code}; change one")
            self._by_name.setdefault(plain(area.name), []).append(area)
        self._index = FenceIndex([area.fence for area in self.areas])

    def of(self, point: Point) -> tuple[Area, ...]:
        """The areas a point lies in or on the border of, in the gazetteer's order: some 20 µs."""
        return tuple(self.areas[at] for at in self._index.holding(point))

    def by_code(self, code: str) -> Area:
        """Raises UnknownArea."""
        if code not in self._by_code:
            raise UnknownArea(code, self._like(code))
        return self._by_code[code]

    def named(self, text: str) -> tuple[Area, ...]:
        """Whom a person may mean, the likeliest first; more than one is for the person to choose from.

        Accents, case, spaces and punctuation do not count. A name written right is meant; otherwise one typo
        is forgiven for every five letters of the name.
        """
        wanted = plain(text)
        if exact := self._by_name.get(wanted):
            return tuple(exact)
        near: list[tuple[int, Area]] = []
        for name, areas in self._by_name.items():
            allowed = len(name) // LETTERS_PER_TYPO
            if abs(len(name) - len(wanted)) <= allowed and (wrong := typos(wanted, name)) <= allowed:
                near.extend((wrong, area) for area in areas)
        return tuple(area for _, area in sorted(near, key=lambda found: found[0]))

    def _like(self, code: str) -> tuple[str, ...]:
        known = {plain(area.code): f"{area.name} ({area.code})" for area in self.areas}
        known |= {name: areas[0].name for name, areas in self._by_name.items()}
        return tuple(known[near] for near in get_close_matches(plain(code), known, SUGGESTIONS, cutoff=0.75))


def plain(text: str) -> str:
    """`Sant’Andrea a Gavèna` → `santandreaagavena`: what is left of a name when people type it."""
    return "".join(letter for letter in unicodedata.normalize("NFKD", text).casefold() if letter.isalnum())


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
