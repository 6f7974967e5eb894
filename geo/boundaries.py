"""From a file of boundaries to areas: every feature checked, all of them taken or none."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from geo.areas import STRAY_SHARE, Area, AreaKind, Gazetteer, UnknownArea
from geo.fencing import Reach, Repair, fence_of
from geo.formats import Contents, FormatError, Unreadable, open_file
from geo.layouts import Columns, Layer, LayoutError, Literal, Said, columns_of
from geo.names import slug
from geo.projections import DEGREES, Projection, ProjectionError, agreed, look, projection
from geo.shapes import Circle, ShapeError, km2_outside

FINDINGS_TOLD = 10
LONGEST_NAME = 120
LONGEST_CODE = 64
CODES = {
    AreaKind.COMUNE: (re.compile(r"[0-9]{6}"), "the six digits of its ISTAT number, as text: 050004"),
    AreaKind.ZONA: (
        re.compile(r"[A-Z][A-Za-z]{3}-[A-Z0-9]{1,3}|[A-Z]{2}[0-9]{3}"),
        "its national name, the region's first, as Tosc-A4, or MeteoAlarm's, as IT009",
    ),
}
"""What a property of a file must hold to be the code of a kind. A zone called A4 is one in every region."""
ANY_CODE = re.compile(r"[A-Za-z0-9]+([._-][A-Za-z0-9]+)*")
APART = (AreaKind.COMUNE, AreaKind.FRAZIONE, AreaKind.ZONA)
"""Kinds that share out the ground: no two of them, in one parent, lie on the same."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to say about one feature. `feature` counts from 1; 0 is the file."""

    feature: int
    name: str
    sentence: str

    def __str__(self) -> str:
        who = f"feature {self.feature} ({self.name})" if self.feature else self.name
        return f"{who}: {self.sentence}"


@dataclass(frozen=True, slots=True)
class Row:
    """One area of a file, for a report. `repaired` says what was put right in it."""

    feature: int
    code: str
    name: str
    kind: AreaKind
    parent: str | None
    km2: float
    vertices: int
    repaired: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """What a file holds. `skipped` is what it does not, though drawn: empty unless refused features were left out."""

    areas: tuple[Area, ...]
    features: tuple[int, ...]
    """Of each area, the number of its feature."""
    repaired: tuple[Finding, ...]
    skipped: tuple[Finding, ...]
    crs: str
    layout: str | None

    def rows(self) -> tuple[Row, ...]:
        """One for each area, in the file's order."""
        repaired: dict[int, list[str]] = {}
        for finding in self.repaired:
            repaired.setdefault(finding.feature, []).append(finding.sentence)
        return tuple(
            Row(
                feature=number,
                code=area.code,
                name=area.name,
                kind=area.kind,
                parent=area.parent,
                km2=area.fence.area_km2,
                vertices=sum(shape.vertices for shape in area.fence.shapes),
                repaired=tuple(repaired.get(number, ())),
            )
            for number, area in zip(self.features, self.areas, strict=True)
        )


class BoundariesRefused(ValueError):
    """The file has faults, and nothing of it was taken. Carries every finding."""

    def __init__(self, path: Path, findings: tuple[Finding, ...]) -> None:
        told = "".join(f"\n  {finding}" for finding in findings[:FINDINGS_TOLD])
        more = len(findings) - FINDINGS_TOLD
        rest = f"\n  and {more} more" if more > 0 else ""
        super().__init__(f"nothing was imported from {path.name}; correct the file:{told}{rest}")
        self.path = path
        self.findings = findings


class _Wrong(ValueError):
    """One feature cannot be taken."""


@dataclass(frozen=True, slots=True)
class _Drawn:
    """One feature that is in order by itself."""

    number: int
    area: Area
    repairs: tuple[Repair, ...]


ALL_KNOWN = Layer()
"""The file's layout is known, and says everything."""


def read_boundaries(
    path: Path,
    layer: Layer = ALL_KNOWN,
    known: Iterable[Area] = (),
    *,
    renamed: Mapping[str, str] | None = None,
    skip_refused: bool = False,
) -> Reading:
    """The areas of a GeoJSON, a Shapefile, a GeoPackage, or a .zip of one, in the file's order, in degrees of WGS 84.

    `known` are areas there already, the parents among them. `renamed` says how codes of the file, of areas and of
    parents, are called here: {"050004": "calcinaia"}. With `skip_refused` what is sound is taken and the rest left
    out, which is for whoever cannot correct the file; otherwise one refusal keeps out all.

    Refused, with a sentence that says which feature, where, and what to do:

    - a ring that is not closed, or has fewer than three different points; a line with fewer than two
    - what is no number (NaN, infinity, degrees and minutes) or no place; latitude and longitude exchanged
    - no geometry, or an empty one; a curve; a point without a radius, a line without a buffer, a radius of 0
    - what spans 180° or more, or has more than 1,000,000 vertices or 10,000 parts
    - rings that cross, where repairing them would change the area by more than 1 % (a bow-tie, say)
    - a name or a code that is missing, is a number (which has lost its zeros), or is in the wrong encoding
    - a code that two features have, or that is another area's: of another kind, or in another parent
    - a parent nobody knows; a point outside its parent, or an area more than 2 % of which is
    - of comuni, zones, and frazioni of one parent: two of which share more than 2 % of the smaller; also with frazioni
      known already. Circles about points only guess how far a place reaches, and may overlap; so may custom areas.

    Repaired, and told in `repaired`: rings that cross where that changes the area by at most 1 % (GEOS's make_valid,
    method "structure"); points that repeat the one before; altitudes; in GeoJSON, rings that turn the wrong way.

    The file as a whole is refused where its layout or its coordinates are not known (layouts.py, projections.py), or
    where it is too large (formats.py). Raises BoundariesRefused, and OSError if the file cannot be read.
    """
    others = Gazetteer(known)
    try:
        contents = open_file(path, layer.layer, layer.encoding)
        columns = columns_of(layer, contents.properties, contents.count, {area.code for area in others.areas})
        drawn_in = _projection(contents, layer)
    except (FormatError, LayoutError, ProjectionError) as error:
        raise BoundariesRefused(path, (Finding(0, "the file", str(error)),)) from error
    survey = _Survey(layer, columns, drawn_in, contents, others, renamed or {})
    drawn, findings = survey.drawn()
    findings += [*_twins(drawn), *_neighbours(drawn, others)]
    findings.sort(key=lambda finding: finding.feature)
    refused = {finding.feature for finding in findings}
    kept = [each for each in drawn if each.number not in refused]
    if findings and not (skip_refused and kept):
        raise BoundariesRefused(path, tuple(findings))
    return Reading(
        areas=tuple(each.area for each in kept),
        features=tuple(each.number for each in kept),
        repaired=tuple(Finding(each.number, each.area.name, str(repair)) for each in kept for repair in each.repairs),
        skipped=tuple(findings),
        crs=drawn_in.name,
        layout=columns.layout,
    )


def _projection(contents: Contents, layer: Layer) -> Projection:
    """GeoJSON that says nothing holds degrees, if its numbers can be."""
    said = contents.crs
    if contents.sample is None:
        return projection(said or layer.crs or DEGREES)
    if said is None and layer.crs is None and contents.is_geojson:
        x, y = contents.sample
        if abs(x) > 180 or abs(y) > 180:
            raise ProjectionError(f"GeoJSON holds degrees of WGS 84 unless it says otherwise; {look(x, y)}")
        said = DEGREES
    return agreed(said, layer.crs, contents.sample)


# ── one feature ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Survey:
    """All it takes to read one feature after the other."""

    layer: Layer
    columns: Columns
    projection: Projection
    contents: Contents
    known: Gazetteer
    renamed: Mapping[str, str]

    def drawn(self) -> tuple[list[_Drawn], list[Finding]]:
        drawn: list[_Drawn] = []
        findings: list[Finding] = []
        for number, feature in enumerate(self.contents.features, start=1):
            name = "unnamed"
            try:
                properties, geometry = _parts(feature)
                name = _name(properties, self.columns.name)
                area, repairs = self._area(name, properties, _drawing(geometry))
                self._check_place(area)
                drawn.append(_Drawn(number, area, repairs))
            except (_Wrong, ShapeError, UnknownArea) as error:
                findings.append(Finding(number, name, str(error)))
        return drawn, findings

    def _area(self, name: str, properties: dict[str, Any], geometry: dict[str, Any]) -> tuple[Area, tuple[Repair, ...]]:
        layer, columns = self.layer, self.columns
        parent = self._here(_text(properties, columns.parent)) if columns.parent else None
        code = self._code(properties, columns.code) if columns.code else _made(parent, name)
        own_radius = properties.get("radius_km")
        radius = columns.point_radius_km if own_radius is None else own_radius
        fence, repairs = fence_of(geometry, self.projection, Reach(radius, layer.line_buffer_m))
        if not self.contents.is_geojson:
            repairs = tuple(repair for repair in repairs if repair is not Repair.WINDING)
        own = properties.get("source")
        return Area(
            code=code,
            name=name,
            kind=columns.kind,
            fence=fence,
            parent=parent,
            source=layer.source or (own if isinstance(own, str) else "") or self.contents.source or columns.source,
            licence=layer.licence or self.contents.licence or columns.licence,
            demonstration=columns.demonstration,
        ), repairs

    def _here(self, code: str) -> str:
        return self.renamed.get(code, code)

    def _code(self, properties: dict[str, Any], said: Said) -> str:
        code = _text(properties, said)
        wanted, words = CODES.get(self.columns.kind, (ANY_CODE, ""))
        if not isinstance(said, Literal) and not wanted.fullmatch(code):
            told = words or "letters and digits, with dots, hyphens or underscores between them"
            raise _Wrong(f"{said.key} is {code[:40]!r}, and the code of a {self.columns.kind} is {told}")
        return _checked(self._here(code))

    def _check_place(self, area: Area) -> None:
        """Where it belongs, and not under the code of something else."""
        if area.parent is not None:
            _check_within(area, self.known.by_code(area.parent))
        try:
            same = self.known.by_code(area.code)
        except UnknownArea:
            return
        if (same.kind, same.parent) != (area.kind, area.parent):
            lies = f" in {same.parent}" if same.parent else ""
            raise _Wrong(f"its code {area.code} is that of the {same.kind} {same.name}{lies}; give it another")


def _parts(feature: object) -> tuple[dict[str, Any], object]:
    match feature:
        case {"type": "Feature", "properties": dict(properties), "geometry": geometry}:
            return properties, geometry
        case _:
            raise _Wrong("it is not a Feature with properties and a geometry")


def _drawing(geometry: object) -> dict[str, Any]:
    match geometry:
        case dict():
            return geometry
        case Unreadable(reason):
            raise _Wrong(reason)
        case None:
            raise _Wrong("it has no geometry; draw it, or take it out of the file")
        case _:
            raise _Wrong("its geometry is none of GeoJSON's; draw it again")


def _text(properties: dict[str, Any], said: Said) -> str:
    if isinstance(said, Literal):
        return said.text
    match properties.get(said.key):
        case str(text) if text.strip():
            return text.strip()
        case int(number) | float(number):
            raise _Wrong(f"{said.key} is the number {number}: zeros before it may be lost; write it as text")
        case _:
            raise _Wrong(f"{said.key} is missing or empty")


def _name(properties: dict[str, Any], said: Said) -> str:
    name = _text(properties, said)
    if "\N{REPLACEMENT CHARACTER}" in name or not name.isprintable() or _is_garbled(name):
        raise _Wrong(f"its name is {name[:40]!r}, misread from another encoding; give --encoding, as UTF-8")
    if len(name) > LONGEST_NAME:
        raise _Wrong(f"its name has {len(name)} characters, and at most {LONGEST_NAME} are taken; shorten it")
    return name


def _is_garbled(name: str) -> bool:
    """Whether it is UTF-8 taken for Latin: `ForlÃ¬`."""
    try:
        return name.encode("cp1252").decode("utf-8") != name
    except UnicodeError:
        return False


def _made(parent: str | None, name: str) -> str:
    if not slug(name):
        raise _Wrong("its name has no letter to make a code of; give it a name or a code")
    return _checked(".".join(filter(None, (parent, slug(name)))))


def _checked(code: str) -> str:
    if not ANY_CODE.fullmatch(code) or len(code) > LONGEST_CODE:
        raise _Wrong(
            f"its code would be {code[:80]!r}; give one of at most {LONGEST_CODE} letters and digits, with dots, "
            "hyphens or underscores between them"
        )
    return code


def _check_within(area: Area, parent: Area) -> None:
    """The centre of a circle must lie in its parent; of an area, all but a sliver must."""
    centers = [shape.center for shape in area.fence.shapes if isinstance(shape, Circle)]
    for center in centers:
        if not parent.fence.contains(center):
            raise _Wrong(
                f"{center.lat},{center.lon} lies outside its parent {parent.name} ({parent.code}); "
                "correct the position or the parent"
            )
    if not centers:
        stray = km2_outside(area.fence, parent.fence)
        if stray > STRAY_SHARE * area.fence.area_km2:
            raise _Wrong(
                f"{stray:.2f} of its {area.fence.area_km2:.2f} km² lie outside its parent {parent.name} "
                f"({parent.code}); correct the boundary or the parent"
            )


# ── features among each other ───────────────────────────────────────────────────────────────────────


def _twins(drawn: Sequence[_Drawn]) -> Iterator[Finding]:
    """Told of both: which of the two is right, only who drew them knows."""
    by_code: dict[str, list[_Drawn]] = {}
    for each in drawn:
        by_code.setdefault(each.area.code, []).append(each)
    for code, same in by_code.items():
        for each in same if len(same) > 1 else ():
            other = next(twin for twin in same if twin is not each)
            yield Finding(
                each.number,
                each.area.name,
                f"feature {other.number} ({other.area.name}) has the code {code} as well; give each its own, "
                "or join them to one feature",
            )


def _neighbours(drawn: Sequence[_Drawn], known: Gazetteer) -> Iterator[Finding]:
    """Those on the same ground, told of both where both are in the file."""
    if not drawn or drawn[0].area.kind not in APART:
        return
    codes = {each.area.code for each in drawn}
    first = drawn[0].area
    # A newer edition of comuni or zones may share them out otherwise; a demonstration gives way to what is real.
    stored = [
        area
        for area in known.areas
        if area.kind is first.kind is AreaKind.FRAZIONE
        and area.code not in codes
        and area.demonstration == first.demonstration
    ]
    areas = [area for area in (*(each.area for each in drawn), *stored) if not _is_guess(area)]
    numbers = {id(each.area): each.number for each in drawn}
    for one, other, share in _overlaps(areas):
        for area, beside in ((one, other), (other, one)):
            if (number := numbers.get(id(area))) is None:
                continue
            if id(beside) in numbers:
                which, instead = f"feature {numbers[id(beside)]} ({beside.name})", ""
            else:
                which, instead = f"{beside.name} ({beside.code}), known already,", f", or end {beside.code} first"
            shared = f"{share:.0%} of the smaller of it and {which} is the ground of both"
            yield Finding(number, area.name, f"{shared}; redraw either{instead}")


def _is_guess(area: Area) -> bool:
    return any(isinstance(shape, Circle) for shape in area.fence.shapes)


def _overlaps(areas: Sequence[Area]) -> Iterator[tuple[Area, Area, float]]:
    """Pairs of one parent, with the share of the smaller that both have. In degrees: near each other it is the same."""
    planars = np.array([area.fence.planar for area in areas], dtype=object)
    if len(planars) == 0:
        return
    one, other = shapely.STRtree(planars).query(planars)
    pairs = one < other
    one, other = one[pairs], other[pairs]
    shared = shapely.area(shapely.intersection(planars[one], planars[other]))
    shares = shared / np.minimum(shapely.area(planars[one]), shapely.area(planars[other]))
    for at in np.flatnonzero(shares > STRAY_SHARE):
        if areas[one[at]].parent == areas[other[at]].parent:
            yield areas[one[at]], areas[other[at]], float(shares[at])
