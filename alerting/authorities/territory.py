"""A comune's outline and its frazioni, from latitudes and longitudes typed into its file."""

from collections.abc import Iterator, Sequence
from itertools import combinations

from alerting.authorities.reading import CODE, Table
from alerting.domain.authority import Territory
from geo.areas import Area, AreaKind
from geo.drawing import Notation, checked_polygon
from geo.names import plain
from geo.shapes import Flaw, Geofence, Point, ShapeError, km2_outside, km2_shared

SLIVER_KM2 = 0.0001
"""What rounding leaves between two areas that share an edge: a hundred square metres."""


def read_territory(table: Table, code: str, name: str) -> Territory | None:
    """The `[territory]` of a file: the comune `code`, called `name`, and its frazioni.

    Notes what is wrong in the table; None when the comune itself could not be read.
    """
    version = table.whole("version")
    if version < 1:
        table.note(f"{table.key('version')} is not 1 or more; count it up whenever an outline changes")
    source, licence = table.text("source"), table.text("licence")
    demonstration = table.flag("demonstration")

    def drawn(entry: Table, code: str, name: str, kind: AreaKind, parent: str | None) -> Area | None:
        fence = read_outline(entry)
        if fence is None:
            return None
        return Area(code, name, kind, fence, parent, version, source, licence, demonstration)

    comune = drawn(table, code, name.removeprefix("Comune di "), AreaKind.COMUNE, None)
    frazioni: list[Area] = []
    for entry in table.tables("frazioni"):
        short = entry.matching("code", CODE, "small letters, digits and hyphens: ponte-a-cappiano")
        frazione = drawn(entry, f"{code}.{short}", entry.text("name"), AreaKind.FRAZIONE, code)
        entry.nothing_else()
        if frazione:
            frazioni.append(frazione)
    table.nothing_else()
    if comune is None:
        return None
    for flaw in _misplaced(comune, frazioni):
        table.note(flaw)
    return Territory(comune, tuple(frazioni))


def read_outline(table: Table) -> Geofence | None:
    """The `outline` of a table: points of latitude and longitude, as CAP writes them, the first one not repeated.

    None when there was something to note.
    """
    outline = table.values("outline")
    if not outline:
        return None
    try:
        ring = [_point(at, written) for at, written in enumerate(outline, start=1)]
        if ring[0] != ring[-1]:
            ring.append(ring[0])
        return Geofence((checked_polygon((tuple(ring),), Notation.CAP),))
    except ShapeError as cause:
        table.note(f"{table.key('outline')}: {cause}")
        return None


def _point(at: int, written: object) -> Point:
    match written:
        case [lat, lon]:
            return Notation.CAP.point(lat, lon)
        case _:
            raise ShapeError(Flaw.MALFORMED, f"point {at} is not [latitude, longitude]; write two numbers in brackets")


def _misplaced(comune: Area, frazioni: Sequence[Area]) -> Iterator[str]:
    """What no map of a comune shows: a frazione outside it, two on the same ground, two of the same name."""
    for frazione in frazioni:
        if (outside := km2_outside(frazione.fence, comune.fence)) > SLIVER_KM2:
            yield (
                f"frazione {frazione.name} ({frazione.code}) has {outside:.3f} km² outside {comune.name}; "
                "correct its outline or the comune's"
            )
    for one, other in combinations(frazioni, 2):
        if one.code == other.code or plain(one.name) == plain(other.name):
            both = f"{one.name} ({one.code}) and {other.name} ({other.code})"
            yield f"two frazioni are called {both}; rename one"
        elif (shared := km2_shared(one.fence, other.fence)) > SLIVER_KM2:
            yield (
                f"frazioni {one.name} and {other.name} overlap by {shared:.3f} km²; "
                "let their outlines share an edge instead"
            )
