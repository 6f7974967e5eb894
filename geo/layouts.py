"""Which properties of a file say what: as the caller tells, else as files known by their properties have it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from geo.areas import AreaKind
from geo.names import plain

LITERAL = "="
NAMES_TOLD = 20
NUMBERED = {AreaKind.COMUNE: "its ISTAT number", AreaKind.ZONA: "its national name, as Tosc-A4"}
"""Kinds whose codes somebody else gives out; the others are called by their parent and their name."""
PLACED = (AreaKind.FRAZIONE, AreaKind.CUSTOM)
"""Kinds that lie in a parent: its authority is who may speak of them."""


@dataclass(frozen=True, slots=True)
class Layer:
    """What the features of one file are, and which properties say so. A known layout answers what is left out.

    `name`, `code` and `parent` name a property. With `=` before it a text means itself, for all features of the
    file: `=calcinaia`. Without it means itself too where no property is called so, nor nearly so, and the file has
    only one feature; and a `parent` that is the code of a known area always does.

    A point becomes a circle of `point_radius_km`, or of its own property `radius_km`; a line becomes a band of
    `line_buffer_m` metres on both sides; either is refused where nothing says how far it reaches. `crs` is for files
    that do not say theirs, `layer` chooses among several in one file, `encoding` is that of a Shapefile's texts.
    """

    kind: AreaKind | None = None
    name: str | None = None
    code: str | None = None
    parent: str | None = None
    point_radius_km: float | None = None
    line_buffer_m: float | None = None
    source: str = ""
    licence: str = ""
    demonstration: bool = False
    crs: str | None = None
    layer: str | None = None
    encoding: str | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """The properties one publisher's files have. `telling` are those that no other layout has together."""

    title: str
    telling: frozenset[str]
    kind: AreaKind
    name: str
    code: str | None = None
    parent: str | None = None
    point_radius_km: float | None = None
    demonstration: bool = False
    source: str = ""
    licence: str = ""

    def __str__(self) -> str:
        return self.title


CC_BY = "CC-BY-4.0"
LAYOUTS = (
    Layout(
        "comuni, ISTAT",
        frozenset({"COMUNE", "PRO_COM_T"}),
        AreaKind.COMUNE,
        name="COMUNE",
        code="PRO_COM_T",
        source="ISTAT, confini delle unità amministrative a fini statistici",
        licence=CC_BY,
    ),
    Layout(
        "comuni, openpolis/geojson-italy",
        frozenset({"name", "com_istat_code", "com_catasto_code"}),
        AreaKind.COMUNE,
        name="name",
        code="com_istat_code",
        source="ISTAT, via openpolis/geojson-italy",
        licence=CC_BY,
    ),
    Layout(
        "comuni, openpolis in short",
        frozenset({"name", "istat", "catasto"}),
        AreaKind.COMUNE,
        name="name",
        code="istat",
        source="ISTAT, via openpolis/geojson-italy",
        licence=CC_BY,
    ),
    Layout(
        "comuni, l1n00/confini-comuni-istat",
        frozenset({"name", "code", "territorialUnitCode"}),
        AreaKind.COMUNE,
        name="name",
        code="code",
        source="ISTAT, via l1n00/confini-comuni-istat",
        licence=CC_BY,
    ),
    Layout(
        "zones, derived from their comuni",
        frozenset({"name", "zona_codice"}),
        AreaKind.ZONA,
        name="name",
        code="zona_codice",
        source="Dipartimento della Protezione Civile, via opendatasicilia",
        licence=CC_BY,
    ),
    Layout(
        "zones, as in the Dipartimento's bulletins",
        frozenset({"Zona_all", "Nome_zona"}),
        AreaKind.ZONA,
        name="Nome_zona",
        code="Zona_all",
        source="Dipartimento della Protezione Civile",
        licence=CC_BY,
    ),
    Layout(
        "frazioni, points",
        frozenset({"name", "istat", "inside_comune"}),
        AreaKind.FRAZIONE,
        name="name",
        parent="istat",
        point_radius_km=1.0,
        demonstration=True,
    ),
    Layout(
        "frazioni, cells about points",
        frozenset({"name", "istat", "derived"}),
        AreaKind.FRAZIONE,
        name="name",
        parent="istat",
        demonstration=True,
    ),
)
"""Read on 26 November 2026 in the files themselves; ISTAT's in programs that read its Com01012025_g_WGS84.shp, the
bulletins' in the DBF of 18 January 2026. Points and cells are no boundaries. The capoluogo is among them, and is taken
as one more place of its comune."""


class LayoutError(ValueError):
    """It is not known which property says what. Names those the file has, and what to give."""


@dataclass(frozen=True, slots=True)
class Property:
    """Each feature says it for itself."""

    key: str


@dataclass(frozen=True, slots=True)
class Literal:
    """The caller says it for all features."""

    text: str


Said = Property | Literal


@dataclass(frozen=True, slots=True)
class Columns:
    """Where kind, name, code and parent of each feature come from, and what else the layout knows of the file."""

    kind: AreaKind
    name: Said
    code: Said | None
    parent: Said | None
    point_radius_km: float | None
    demonstration: bool
    source: str
    licence: str
    layout: str | None
    """The title of the known layout that answered something."""


def columns_of(layer: Layer, names: Sequence[str], features: int, known: Collection[str]) -> Columns:
    """For a file whose features have properties of these names. `known` are the codes of areas that may be parents.

    Raises LayoutError.
    """
    layout = next((each for each in LAYOUTS if _fits(each, layer.kind, names)), None)
    kind, name, code, parent, radius = (
        getattr(layout, answer, None) if (own := getattr(layer, answer)) is None else own
        for answer in ("kind", "name", "code", "parent", "point_radius_km")
    )
    if kind is None or name is None:
        kinds = f"--kind (one of {', '.join(map(str, AreaKind))})"
        missing = [*([] if kind else [kinds]), *([] if name else ["--name, the property with the names"])]
        raise LayoutError(f"no known layout has such properties; give {' and '.join(missing)}; {_has(names)}")
    if code is None and kind in NUMBERED:
        raise LayoutError(f"a {kind} has its own code; give --code, the property with {NUMBERED[kind]}; {_has(names)}")
    if parent is None and kind in PLACED:
        raise LayoutError(f"a {kind} lies in a comune; give --parent, its code or the property with it; {_has(names)}")
    of_all = parent in known and parent not in names
    return Columns(
        kind=kind,
        name=_said("name", name, names, features),
        code=_said("code", code, names, features) if code else None,
        parent=_said("parent", LITERAL + parent if of_all else parent, names, features) if parent else None,
        point_radius_km=radius,
        demonstration=layer.demonstration or (layout is not None and layout.demonstration),
        source=layout.source if layout else "",
        licence=layout.licence if layout else "",
        layout=layout.title if layout else None,
    )


def _fits(layout: Layout, kind: AreaKind | None, names: Sequence[str]) -> bool:
    return layout.telling <= set(names) and kind in (None, layout.kind)


def _said(option: str, said: str, names: Sequence[str], features: int) -> Said:
    if said.startswith(LITERAL):
        return Literal(said.removeprefix(LITERAL).strip())
    if said in names:
        return Property(said)
    # One typo in --code would otherwise become the code of an area.
    near = [name for name in names if plain(name) == plain(said)] or get_close_matches(said, names, 1, cutoff=0.75)
    if features == 1 and not near:
        return Literal(said)
    meant = f"did you mean {near[0]}? " if near else ""
    raise LayoutError(
        f"no feature has the property {said!r}; {meant}{_has(names)}; for the word itself write --{option} '={said}'"
    )


def _has(names: Sequence[str]) -> str:
    if not names:
        return "its features have no properties"
    more = f" and {len(names) - NAMES_TOLD} more" if len(names) > NAMES_TOLD else ""
    return f"its features have {', '.join(names[:NAMES_TOLD])}{more}"
