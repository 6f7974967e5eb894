"""Places with a name: comuni, frazioni, zones; which of them a point is in, and which one somebody means."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum

from geo.names import CLEARLY_NEARER, STREETS, Name, Words, pieces, plain, split
from geo.shapes import FenceIndex, Geofence, Point, km2_shared

STRAY_SHARE = 0.02
"""How much of an area may lie on the wrong side of a border: two surveys never draw one alike."""
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
    return km2_shared(one.fence, other.fence) > STRAY_SHARE * min(one.fence.area_km2, other.fence.area_km2)


def parts_of(whole: Area, areas: Iterable[Area], between: Iterable[Area] = ()) -> list[Area]:
    """Which of these are parts of another, or parts of its parts; `between` are areas that may stand above them."""
    areas = list(areas)
    above = {area.code: area.parent for area in (*areas, *between)}

    def is_part(area: Area) -> bool:
        seen, code = {area.code}, area.parent
        while code is not None and code != whole.code and code not in seen:
            seen.add(code)
            code = above.get(code)
        return code == whole.code

    return [area for area in areas if area.code != whole.code and is_part(area)]


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
        self._names = {area.code: Name(area.name) for area in self.areas}
        wholes = {spelling for name in self._names.values() for spelling in name.wholes}
        for name in self._names.values():
            name.parts -= wholes  # "Calcinaia" is the comune, and no short form of Calcinaia capoluogo
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

        Accents, case, spaces and punctuation do not count, and a name written right is meant. Otherwise a part that
        people know a place by is enough ("Cappiano"), and one typo is forgiven for every five letters: unless
        another name is nearly as near, for then both are returned. Words that belong to no name make it nobody's.
        """
        if exact := self._by_name.get(plain(text)):
            return tuple(exact)
        return self._meant(split(text)) or self._addressed(text)

    def _meant(self, words: Words) -> tuple[Area, ...]:
        """The areas these words are near enough to, all of them one name."""
        if near := self._near(words):
            return near
        for comune in self.areas:  # "Fornacette di Calcinaia", "Cascina San Frediano"
            its = split(comune.name)
            rest = words[: -len(its)] if words[-len(its) :] == its else words
            rest = rest[len(its) :] if rest[: len(its)] == its else rest
            inside = tuple(area for area in self._near(rest) if area.parent == comune.code) if rest != words else ()
            if inside:
                return inside
        return ()

    def _near(self, words: Words) -> tuple[Area, ...]:
        found = [(*slips, area) for area in self.areas if (slips := self._names[area.code].slips(words))]
        best = min((wrong for wrong, forgiven, _ in found if forgiven), default=None)
        if best is None:
            return ()
        about_as_near = [(wrong, area) for wrong, _, area in found if wrong < best + CLEARLY_NEARER]
        return tuple(area for _, area in sorted(about_as_near, key=lambda one: one[0]))

    def _addressed(self, text: str) -> tuple[Area, ...]:
        """The frazione of an address, "via Roma 3, Fornacette, Calcinaia (PI)": where every piece is understood."""
        found: dict[str, Area] = {}
        for piece in pieces(text):
            meant = self._by_name.get("".join(piece)) or self._meant(piece)
            if not meant and piece[0] not in STREETS:
                return ()
            found |= {area.code: area for area in meant}
        around = {area.parent for area in found.values()}
        return tuple(area for area in found.values() if area.code not in around)

    def _like(self, code: str) -> tuple[str, ...]:
        known = {plain(area.code): f"{area.name} ({area.code})" for area in self.areas}
        known |= {name: areas[0].name for name, areas in self._by_name.items()}
        return tuple(known[near] for near in get_close_matches(plain(code), known, SUGGESTIONS, cutoff=0.75))
