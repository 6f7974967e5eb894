"""From a GeoJSON, a Shapefile or a GeoPackage, zipped or not, to features. Bounded in bytes and in features."""

import codecs
import json
import math
import stat
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from geo.wkb import WkbError, geojson_of

MOST_FEATURES = 20_000
"""Italy has 7,896 comuni (ISTAT, 1 January 2026)."""
MOST_ZIPPED = 200_000_000
SHAPEFILE_NEEDS = (".shp", ".shx", ".dbf")
SHAPEFILE_PARTS = (*SHAPEFILE_NEEDS, ".prj", ".cpg")
PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Format:
    """How a kind of file begins, and how many bytes of it are read, unpacked and all its parts together."""

    name: str
    most_bytes: int
    begins: bytes = b""
    """GDAL goes by what is inside, and would follow a file of another kind to wherever that points."""


# ISTAT's comuni of all Italy, not generalised, are some 90 MB. JSON takes eight times its size in memory.
FORMATS = {
    ".geojson": Format("GeoJSON", 100_000_000),
    ".json": Format("GeoJSON", 100_000_000),
    ".shp": Format("Shapefile", 200_000_000, b"\x00\x00\x27\x0a"),
    ".gpkg": Format("GeoPackage", 200_000_000, b"SQLite format 3\x00"),
}


class FormatError(ValueError):
    """The file as a whole cannot be read: why, and what to do."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A geometry that could not even be opened, and why."""

    reason: str


@dataclass(frozen=True)
class Contents:
    """The features of one file, as GeoJSON has them, in their order and in the projection of the file.

    `properties` are the names of all properties any of them has; `crs` is what the file says of its coordinates, a
    name or WKT, None if nothing. GeoJSON holds degrees of WGS 84 unless it says otherwise, and its rings turn as ours.
    """

    features: Iterable[object]
    count: int
    properties: tuple[str, ...]
    crs: str | None
    is_geojson: bool
    sample: tuple[float, float] | None
    """x and y of its first place."""
    source: str = ""
    licence: str = ""


def open_file(path: Path, layer: str | None = None, encoding: str | None = None) -> Contents:
    """`layer` chooses one of several in a GeoPackage or a .zip; `encoding` is that of a Shapefile's texts.

    Raises FormatError, and OSError if the file cannot be read.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise FormatError("it is a folder, or no file that can be read again; name a file")
    if path.suffix.lower() != ".zip":
        return _opened(path, layer, encoding)
    with TemporaryDirectory(prefix="geo-import-") as folder:
        return _opened(_unpacked(path, layer, Path(folder)), layer, encoding)


def _opened(path: Path, layer: str | None, encoding: str | None) -> Contents:
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise FormatError(f"files ending in {suffix or 'nothing'} are not read; give {', '.join(FORMATS)} or .zip")
    parts = [path]
    if suffix == ".shp":
        beside = {each.suffix.lower(): each for each in path.parent.iterdir() if each.stem == path.stem}
        if missing := [part for part in SHAPEFILE_NEEDS if part not in beside]:
            absent = " and ".join(missing)
            raise FormatError(f"a Shapefile is several files, and {absent} is not beside it; put it there")
        parts = [beside[part] for part in SHAPEFILE_PARTS if part in beside]
    _check_bytes(sum(part.stat().st_size for part in parts), FORMATS[suffix])
    with path.open("rb") as file:
        if not file.read(16).startswith(FORMATS[suffix].begins):
            raise FormatError(f"it is called {suffix}, but is no {FORMATS[suffix].name}; export it again")
    if FORMATS[suffix].name == "GeoJSON":
        return _geojson(path.read_bytes())
    return _with_gdal(path, layer if suffix == ".gpkg" else None, encoding if suffix == ".shp" else None)


def _check_bytes(size: int, kind: Format) -> None:
    if size > kind.most_bytes:
        raise FormatError(
            f"it has more than {kind.most_bytes // 1_000_000} MB, and no more of a {kind.name} is read; "
            "cut it to the region you need"
        )


def _check_count(count: int) -> None:
    if count > MOST_FEATURES:
        raise FormatError(f"it has more than {MOST_FEATURES} features; cut it to the region you need")
    if count == 0:
        raise FormatError("it has no feature; draw at least one")


# ── GeoJSON ─────────────────────────────────────────────────────────────────────────────────────────


def _geojson(content: bytes) -> Contents:
    try:
        tree = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"it is not JSON: {error}; export it again as GeoJSON in UTF-8") from error
    match tree:
        case {"type": "FeatureCollection", "features": [*features]}:
            pass
        case {"type": "Feature"}:
            features = [tree]
        case _:
            raise FormatError("it is not a GeoJSON FeatureCollection, nor one Feature; export it again as GeoJSON")
    _check_count(len(features))
    properties: dict[Any, None] = {}
    for feature in features:
        match feature:
            case {"properties": {**of_this}}:
                properties |= dict.fromkeys(of_this)
    source, licence = _provenance(tree.get("metadata"))
    return Contents(
        features=features,
        count=len(features),
        properties=tuple(properties),
        crs=_legacy_crs(tree.get("crs")),
        is_geojson=True,
        sample=next(filter(None, map(_first_place, features)), None),
        source=source,
        licence=licence,
    )


def _legacy_crs(node: object) -> str | None:
    """The `crs` of GeoJSON 2008, which RFC 7946 took away and many programs still write."""
    match node:
        case None:
            return None
        case {"type": "name", "properties": {"name": str(name)}}:
            return name
        case _:
            raise FormatError(
                'its "crs" is not {"type": "name", "properties": {"name": …}}; leave it out or correct it'
            )


def _provenance(metadata: object) -> tuple[str, str]:
    """Source and licence of a whole file, where it carries them."""
    if not isinstance(metadata, dict):
        return "", ""
    source, licence = (
        next((text for key in keys if isinstance(text := metadata.get(key), str)), "")
        for keys in (("source", "attribution"), ("licence", "license"))
    )
    return source, licence


def _first_place(feature: object) -> tuple[float, float] | None:
    node = feature.get("geometry") if isinstance(feature, dict) else None
    while True:
        match node:
            case {"geometries": [first, *_]} | {"coordinates": first} | [[*_] as first, *_]:
                node = first
            case [int() | float() as x, int() | float() as y, *_] if abs(x) < 1e15 and abs(y) < 1e15:
                return float(x), float(y)
            case _:
                return None


# ── Shapefile and GeoPackage ────────────────────────────────────────────────────────────────────────


def _with_gdal(path: Path, layer: str | None, encoding: str | None) -> Contents:
    try:
        import pyogrio
        import pyogrio.raw
    except ImportError as error:
        raise FormatError(
            f"to read {path.suffix.lower()} the extra geo-import is needed: pip install 'allerta[geo-import]'; "
            "or export it as GeoJSON"
        ) from error
    try:
        codecs.lookup(encoding or "utf-8")
    except LookupError as error:
        raise FormatError(f"there is no encoding {encoding!r}; name one, as --encoding UTF-8") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # GDAL warns of open rings, which are refused further on
            drawn = [str(name) for name, geometry in pyogrio.list_layers(path) if geometry is not None]
            meta, _, binaries, columns = pyogrio.raw.read(
                path, _chosen(drawn, layer), encoding, max_features=MOST_FEATURES + 1
            )
    except UnicodeDecodeError as error:
        raise FormatError(f"its texts are not in {error.encoding}; say which encoding they are in") from error
    except RuntimeError as error:  # what all of pyogrio's errors are
        raise FormatError(f"GDAL cannot read it: {error}") from error
    _check_count(len(binaries))
    fields = tuple(map(str, meta["fields"]))
    return Contents(
        features=_features(binaries, fields, columns),
        count=len(binaries),
        properties=fields,
        crs=meta["crs"] or None,
        is_geojson=False,
        sample=next(filter(None, map(_first_place, _features(binaries, fields, columns))), None),
    )


def _chosen(names: Sequence[str], wanted: str | None) -> str:
    """The one layer, or the one that is wanted, however its letters are cased."""
    found = [name for name in names if wanted is None or name.casefold() == wanted.casefold()]
    if len(found) == 1:
        return found[0]
    if not names:
        raise FormatError("there are no boundaries in it; name a file that has some")
    raise FormatError(f"it has the layers {', '.join(names)}; say which one, as --layer {names[0]}")


def _features(binaries: Sequence[bytes | None], fields: Sequence[str], columns: Sequence[Any]) -> Iterator[object]:
    """One at a time: as lists, coordinates take ten times their size."""
    for at, binary in enumerate(binaries):
        properties = {field: _value(column[at]) for field, column in zip(fields, columns, strict=True)}
        try:
            geometry: object = None if binary is None else geojson_of(binary)
        except WkbError as error:
            geometry = Unreadable(str(error))
        yield {"type": "Feature", "properties": properties, "geometry": geometry}


def _value(value: Any) -> object:
    plain = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) and math.isnan(plain) else plain


# ── .zip ────────────────────────────────────────────────────────────────────────────────────────────


def _unpacked(path: Path, layer: str | None, folder: Path) -> Path:
    """Into the folder, under a name of ours: only what is needed, and never more than the format's bytes."""
    if path.stat().st_size > MOST_ZIPPED:
        raise FormatError(f"it has more than {MOST_ZIPPED // 1_000_000} MB; unpack it and name the file in it")
    try:
        with zipfile.ZipFile(path) as archive:
            members = [PurePosixPath(name) for name in archive.namelist() if not name.startswith("__MACOSX/")]
            files = [member for member in members if member.suffix.lower() in FORMATS]
            # One GeoPackage has layers of its own, and --layer means one of them.
            stem = _chosen([file.stem for file in files], layer if len(files) > 1 else None)
            file = next(file for file in files if file.stem == stem)
            kind, parts = FORMATS[file.suffix.lower()], {file.suffix.lower(): file}
            if kind.name == "Shapefile":
                beside = [each for each in members if each.with_suffix("") == file.with_suffix("")]
                parts |= {part: each for each in beside if (part := each.suffix.lower()) in SHAPEFILE_PARTS}
            unpacked = 0
            for suffix, member in parts.items():
                with archive.open(str(member)) as packed, (folder / f"boundaries{suffix}").open("wb") as out:
                    while piece := packed.read(PIECE):
                        unpacked += len(piece)  # the size an archive states is its own word
                        _check_bytes(unpacked, kind)
                        out.write(piece)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise FormatError(f"it cannot be unpacked: {error}; unpack it and name the file in it") from error
    return folder / f"boundaries{file.suffix.lower()}"
