"""GeoJSON, Shapefile and GeoPackage, zipped or not: read alike, bounded, and refused with a sentence."""

import json
import struct
import sys
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from pyproj import Transformer

from geo import formats
from geo.areas import Area, AreaKind
from geo.boundaries import ALL_KNOWN, BoundariesRefused, Reading, read_boundaries
from geo.formats import FORMATS, MOST_FEATURES, Contents, Format, FormatError, open_file
from geo.layouts import Layer
from geo.shapes import WGS84, Point, Polygon
from tests.unit.geo_drawings import needs

pyogrio = pytest.importorskip("pyogrio", reason="the extra geo-import is not installed")
raw = pytest.importorskip("pyogrio.raw", reason="the extra geo-import is not installed")

BOX = shapely.box(10.56, 43.66, 10.59, 43.68)
PLACES = {"Forlì": BOX, "Città": shapely.transform(BOX, lambda xy: xy + 0.05)}
FIRST_POINT = 100 + 8 + 4 + 32 + 4 + 4 + 4
"""After the header, the record's header, type, box, how many parts and points, where the part begins (ESRI Shapefile
Technical Description, July 1998)."""


def save(
    file: Path,
    planars: Sequence[shapely.Geometry | None],
    crs: str = "EPSG:32632",
    columns: Mapping[str, Sequence[Any]] | None = None,
    **options: Any,
) -> Path:
    """Geometries in degrees, written in another projection, as comuni of ISTAT if nothing else is said."""
    if columns is None:
        columns = {
            "COMUNE": [f"Comune {n}" for n in range(len(planars))],
            "PRO_COM_T": [f"05{n:04}" for n in range(len(planars))],
        }
    of_file = {"driver": "ESRI Shapefile", "encoding": "UTF-8"} if file.suffix == ".shp" else {"driver": "GPKG"}
    raw.write(
        file,
        np.array([None if each is None else shapely.to_wkb(moved(each, crs)) for each in planars], dtype=object),
        [
            np.array(of_all, dtype=int if of_all and isinstance(of_all[0], int) else object)
            for of_all in columns.values()
        ],
        list(columns),
        **{"crs": crs, "geometry_type": "Polygon", **of_file, **options},
    )
    return file


def moved(planar: shapely.Geometry, crs: str) -> shapely.Geometry:
    to_metres = Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    return shapely.transform(planar, to_metres.transform, include_z=bool(planar.has_z), interleaved=False)


def zipped(file: Path, folder: str = "Limiti01012026/") -> Path:
    archive = file.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for part in sorted(file.parent.glob(f"{file.stem}.*")):
            if part != archive:
                packed.write(part, f"{folder}{part.name}")
    return archive


def words(file: Path, layer: Layer = ALL_KNOWN, known: tuple[Area, ...] = ()) -> str:
    with pytest.raises(BoundariesRefused) as refusal:
        read_boundaries(file, layer, known)
    return "\n".join(map(str, refusal.value.findings))


def farthest_m(reading: Reading, planars: Sequence[shapely.Geometry]) -> float:
    apart = 0.0
    for area, planar in zip(reading.areas, planars, strict=True):
        (shape,) = area.fence.shapes
        assert isinstance(shape, Polygon)
        for lon, lat in shapely.get_coordinates(planar).tolist():
            apart = max(apart, min(WGS84.inv(lon, lat, point.lon, point.lat)[2] for point in shape.outer))
    return apart


# ── what is read ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("crs", ["EPSG:32632", "EPSG:32633", "EPSG:3003", "EPSG:25832", "EPSG:3857", "EPSG:4326"])
@pytest.mark.parametrize("suffix", [".shp", ".gpkg"])
def test_what_was_written_in_another_projection_is_read_where_it_was(tmp_path: Path, suffix: str, crs: str) -> None:
    planars = list(PLACES.values())
    reading = read_boundaries(save(tmp_path / f"comuni{suffix}", planars, crs))
    assert farthest_m(reading, planars) < 0.5
    assert (reading.crs, reading.layout, reading.repaired) == (crs, "comuni, ISTAT", ())
    assert [area.code for area in reading.areas] == ["050000", "050001"]
    assert reading.areas[0].fence.contains(Point(43.67, 10.57))


@pytest.mark.parametrize("suffix", [".shp", ".gpkg"])
def test_a_zip_is_read_like_what_is_in_it(tmp_path: Path, suffix: str) -> None:
    file = save(tmp_path / f"Com01012026{suffix}", list(PLACES.values()))
    assert read_boundaries(zipped(file)) == read_boundaries(file)


def test_a_zipped_geojson_is_read(tmp_path: Path) -> None:
    file = tmp_path / "comuni.geojson"
    file.write_text(json.dumps(collection(BOX)))
    assert read_boundaries(zipped(file)) == read_boundaries(file)


def collection(*planars: shapely.Geometry, **members: object) -> dict[str, Any]:
    features = [
        {
            "type": "Feature",
            "properties": {"COMUNE": f"Comune {n}", "PRO_COM_T": f"05{n:04}"},
            "geometry": json.loads(shapely.to_geojson(planar)),
        }
        for n, planar in enumerate(planars)
    ]
    return {"type": "FeatureCollection", "features": features, **members}


@pytest.mark.parametrize("name", ["EPSG:32632", "urn:ogc:def:crs:EPSG::3003"])
def test_a_geojson_may_say_its_projection_as_it_once_did(tmp_path: Path, name: str) -> None:
    file = tmp_path / "comuni.geojson"
    file.write_text(json.dumps(collection(moved(BOX, name), crs={"type": "name", "properties": {"name": name}})))
    assert farthest_m(read_boundaries(file), [BOX]) < 0.5


def test_a_single_feature_is_a_file_of_one(tmp_path: Path) -> None:
    file = tmp_path / "comune.json"
    file.write_text(json.dumps(collection(BOX)["features"][0]))
    assert len(read_boundaries(file).areas) == 1


def test_a_geojson_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    file = tmp_path / "comuni.geojson"
    file.write_text(json.dumps(collection(BOX)), encoding="utf-8-sig")
    assert len(read_boundaries(file).areas) == 1


def test_heights_points_and_lines_are_read_from_a_geopackage(tmp_path: Path) -> None:
    drawn = [
        shapely.Point(10.57, 43.67),
        shapely.LineString([(10.57, 43.67), (10.58, 43.67)]),
        shapely.force_3d(BOX, 8.0),
    ]
    file = save(
        tmp_path / "aree.gpkg", drawn, "EPSG:4326", {"nome": ["Ponte", "Via", "Golena"]}, geometry_type="Unknown"
    )
    layer = Layer(AreaKind.CUSTOM, name="nome", parent="=calcinaia", point_radius_km=0.2, line_buffer_m=30)
    comune = read_boundaries(save(tmp_path / "comune.gpkg", [shapely.buffer(BOX, 0.1)])).areas[0]
    reading = read_boundaries(file, layer, [comune], renamed={"calcinaia": comune.code})
    assert [row.name for row in reading.rows() if row.repaired] == ["Golena"]
    assert [area.code for area in reading.areas] == ["050000.ponte", "050000.via", "050000.golena"]


def test_a_shapefile_says_its_encoding_or_the_caller_does(tmp_path: Path) -> None:
    file = save(tmp_path / "comuni.shp", [BOX], columns={"COMUNE": ["Forlì"], "PRO_COM_T": ["040012"]})
    assert read_boundaries(file).areas[0].name == "Forlì"
    file.with_suffix(".cpg").unlink()
    assert "its name is 'ForlÃ¬', misread from another encoding; give --encoding, as UTF-8" in words(file)
    assert read_boundaries(file, Layer(encoding="UTF-8")).areas[0].name == "Forlì"
    assert "there is no encoding 'Latino'; name one" in words(file, Layer(encoding="Latino"))


@pytest.mark.parametrize("suffix", [".shp", ".gpkg"])
def test_a_number_that_lost_its_zeros_is_refused(tmp_path: Path, suffix: str) -> None:
    file = save(tmp_path / f"comuni{suffix}", [BOX], columns={"COMUNE": ["Calcinaia"], "PRO_COM_T": [50004]})
    assert "PRO_COM_T is the number 50004: zeros before it may be lost; write it as text" in words(file)


def test_a_row_without_a_geometry_is_refused(tmp_path: Path) -> None:
    for suffix in (".shp", ".gpkg"):
        said = words(save(tmp_path / f"comuni{suffix}", [BOX, None, shapely.Polygon()]))
        assert "feature 2 (Comune 1): it has no geometry; draw it" in said
        assert "feature 3" in said


# ── layers ──────────────────────────────────────────────────────────────────────────────────────────


def test_one_of_several_layers_is_chosen_by_name(tmp_path: Path) -> None:
    file = save(tmp_path / "limiti.gpkg", [BOX], layer="Com")
    save(file, [shapely.buffer(BOX, 0.1)], layer="Prov", append=False)
    assert "it has the layers Com, Prov; say which one, as --layer Com" in words(file)
    assert "it has the layers Com, Prov" in words(file, Layer(layer="Reg"))
    assert len(read_boundaries(file, Layer(layer="com")).areas) == 1


def test_one_of_several_shapefiles_in_a_zip_is_chosen_by_name(tmp_path: Path) -> None:
    archive = tmp_path / "Limiti.zip"
    for name in ("Com01012026", "ProvCM01012026"):
        save(tmp_path / f"{name}.shp", [BOX])
    with zipfile.ZipFile(archive, "w") as packed:
        for part in tmp_path.glob("*01012026.*"):
            packed.write(part, f"Limiti/{part.stem}/{part.name}")
    assert "Com01012026" in words(archive) and "say which one" in words(archive)
    assert len(read_boundaries(archive, Layer(layer="com01012026")).areas) == 1


def test_a_table_without_geometries_is_no_layer(tmp_path: Path) -> None:
    file = tmp_path / "tabella.gpkg"
    raw.write(file, None, [np.array(["a"], dtype=object)], ["nome"], driver="GPKG", geometry_type=None)
    assert "there are no boundaries in it" in words(file)


# ── coordinates nobody explained ────────────────────────────────────────────────────────────────────


def test_a_shapefile_that_does_not_say_its_projection_is_refused_with_what_it_looks_like(tmp_path: Path) -> None:
    file = save(tmp_path / "comuni.shp", [BOX])
    file.with_suffix(".prj").unlink()
    said = words(file)
    assert "the file: it does not say its coordinate system, and its first numbers, 62" in said
    assert "look like metres of UTM zone 32 N, in which ISTAT draws all of Italy (EPSG:32632)" in said
    assert said.endswith("if that is so, give --crs EPSG:32632")
    assert farthest_m(read_boundaries(file, Layer(crs="EPSG:32632")), [BOX]) < 0.5


def test_metres_in_a_geojson_that_says_nothing_are_refused_with_what_they_look_like(tmp_path: Path) -> None:
    file = tmp_path / "comuni.geojson"
    file.write_text(json.dumps(collection(moved(BOX, "EPSG:3003"))))
    assert "GeoJSON holds degrees of WGS 84 unless it says otherwise; its first numbers, 162" in words(file)
    assert "give --crs EPSG:3003" in words(file)
    assert farthest_m(read_boundaries(file, Layer(crs="EPSG:3003")), [BOX]) < 0.5


def test_a_projection_that_contradicts_the_file_is_refused(tmp_path: Path) -> None:
    file = save(tmp_path / "comuni.gpkg", [BOX])
    assert "it says that it is drawn in EPSG:32632, and --crs says EPSG:3003" in words(file, Layer(crs="EPSG:3003"))
    assert read_boundaries(file, Layer(crs="EPSG:32632")).areas


def test_northings_written_first_are_refused(tmp_path: Path) -> None:
    exchanged = save(tmp_path / "scambiati.shp", [shapely.transform(BOX, lambda xy: xy[:, ::-1])], "EPSG:4326")
    assert "longitude and latitude look exchanged" in words(exchanged)


@pytest.mark.parametrize("crs", [{"type": "link", "properties": {"href": "x"}}, "EPSG:32632", {"type": "name"}])
def test_a_projection_written_otherwise_is_refused(tmp_path: Path, crs: object) -> None:
    file = tmp_path / "comuni.geojson"
    file.write_text(json.dumps(collection(BOX, crs=crs)))
    assert 'its "crs" is not {"type": "name"' in words(file)


# ── damage ──────────────────────────────────────────────────────────────────────────────────────────


def damaged(file: Path, at: int, x: float, y: float) -> Path:
    content = bytearray(file.read_bytes())
    struct.pack_into("<2d", content, at, x, y)
    file.write_bytes(content)
    return file


def test_a_shapefiles_open_ring_is_not_closed_in_secret(tmp_path: Path) -> None:
    file = save(tmp_path / "comuni.shp", [BOX], "EPSG:4326")
    assert "the ring is not closed: first point" in words(damaged(file, FIRST_POINT + 4 * 16, 10.57, 43.665))


def test_a_shapefiles_nan_is_refused(tmp_path: Path) -> None:
    for crs in ("EPSG:4326", "EPSG:32632"):
        file = save(tmp_path / f"comuni{crs[-4:]}.shp", [BOX], crs)
        assert "NaN is not a number" in words(damaged(file, FIRST_POINT + 16, float("nan"), 43.665))


@pytest.mark.parametrize("missing", [".shx", ".dbf"])
def test_a_shapefile_is_several_files(tmp_path: Path, missing: str) -> None:
    file = save(tmp_path / "comuni.shp", [BOX])
    file.with_suffix(missing).unlink()
    assert f"a Shapefile is several files, and {missing} is not beside it; put it there" in words(file)
    assert f"and {missing} is not beside it" in words(zipped(file))


@pytest.mark.parametrize("suffix", [".shp", ".gpkg"])
def test_a_file_cut_off_is_refused(tmp_path: Path, suffix: str) -> None:
    file = save(tmp_path / f"comuni{suffix}", [BOX, BOX])
    file.write_bytes(file.read_bytes()[:110])
    assert words(file).startswith("the file: GDAL cannot read it: ") or "no geometry" in words(file)


@pytest.mark.parametrize("suffix", [".shp", ".gpkg"])
def test_a_file_of_another_kind_is_not_given_to_gdal(tmp_path: Path, suffix: str) -> None:
    """An OGR_VRT would have GDAL open any address that it names."""
    file = tmp_path / f"comuni{suffix}"
    file.write_text('<OGRVRTDataSource><OGRVRTLayer name="x"><SrcDataSource>/vsicurl/…</SrcDataSource></OGRVRTLayer>')
    for part in (".shx", ".dbf"):
        file.with_suffix(part).touch()
    assert f"it is called {suffix}, but is no {FORMATS[suffix].name}; export it again" in words(file)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"type": "Point"}', '{"type": "Topology"}', "\udcff", "[" * 100_000]
)
def test_a_file_that_is_no_geojson_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "confini.geojson"
    file.write_bytes(content.encode(errors="surrogateescape"))
    assert words(file).startswith("the file: it is not ")


def test_a_file_without_features_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "confini.geojson"
    file.write_text(json.dumps(collection()))
    assert words(file) == "the file: it has no feature; draw at least one"
    assert "it has no feature" in words(save(tmp_path / "vuoto.gpkg", [], columns={"COMUNE": []}))


@pytest.mark.parametrize("name", ["confini.kml", "confini", "confini.geojson.gz"])
def test_other_formats_are_answered_with_those_that_are_read(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.touch()
    assert "are not read; give .geojson, .json, .shp, .gpkg or .zip" in words(file)


def test_a_folder_is_refused_and_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    assert "it is a folder" in words(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_boundaries(tmp_path / "confini.geojson")


@pytest.mark.parametrize("name", ["comuni.shp", "comuni.gpkg"])
def test_without_the_extra_it_is_said_how_to_get_it(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = save(tmp_path / name, [BOX])
    monkeypatch.setitem(sys.modules, "pyogrio", None)
    assert "the extra geo-import is needed: pip install 'allerta[geo-import]'" in words(file)


# ── bounds ──────────────────────────────────────────────────────────────────────────────────────────


def bounded(monkeypatch: pytest.MonkeyPatch, suffix: str, most_bytes: int) -> None:
    kind = FORMATS[suffix]
    monkeypatch.setitem(FORMATS, suffix, Format(kind.name, most_bytes, kind.begins))


@pytest.mark.parametrize("name", ["comuni.shp", "comuni.gpkg", "comuni.geojson"])
def test_a_file_too_large_is_refused_unread(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_bytes(FORMATS[file.suffix].begins)
    for part in (".shx", ".dbf"):
        file.with_suffix(part).touch()
    with file.open("r+b") as large:
        large.truncate(2_000_000_000)
    started = time.process_time()
    assert "cut it to the region you need" in words(file)
    assert time.process_time() - started < 1


def test_all_parts_of_a_shapefile_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = save(tmp_path / "comuni.shp", [BOX])
    whole = sum(part.stat().st_size for part in tmp_path.iterdir())
    bounded(monkeypatch, ".shp", whole)
    assert read_boundaries(file).areas
    bounded(monkeypatch, ".shp", whole - 1)
    assert "no more of a Shapefile is read" in words(file)


@pytest.mark.parametrize("suffix", [".shp", ".gpkg", ".geojson"])
def test_a_zip_bomb_is_refused_before_it_has_grown(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounded(monkeypatch, suffix, 5_000_000)
    archive = tmp_path / "bomba.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed, packed.open(f"comuni{suffix}", "w") as member:
        for _ in range(100):
            member.write(bytes(1_000_000))
    grown: list[int] = []
    check = formats._check_bytes

    def watched(size: int, kind: Format) -> None:
        grown.append(size)
        check(size, kind)

    monkeypatch.setattr(formats, "_check_bytes", watched)
    assert "cut it to the region you need" in words(archive)
    assert max(grown) < 7_000_000


def test_a_zip_that_lies_about_its_size_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "comuni.geojson"
    file.write_text(json.dumps(collection(BOX)) + " " * 6_000_000)
    archive = zipped(file)
    content = archive.read_bytes().replace(struct.pack("<I", file.stat().st_size), struct.pack("<I", 1000))
    archive.write_bytes(content)
    bounded(monkeypatch, ".geojson", 5_000_000)
    with pytest.raises(BoundariesRefused):
        read_boundaries(archive)


def test_a_member_cannot_leave_its_folder(tmp_path: Path) -> None:
    file = tmp_path / "comuni.geojson"
    file.write_text(json.dumps(collection(BOX)))
    archive = zipped(file, folder="../../../tmp/")
    assert len(read_boundaries(archive).areas) == 1


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04" + bytes(100), b"Fornacette"])
def test_an_archive_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    archive = tmp_path / "comuni.zip"
    archive.write_bytes(content)
    assert "it cannot be unpacked" in words(archive)


def test_the_features_of_a_file_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "MOST_FEATURES", 2)
    three = [shapely.transform(BOX, lambda xy, n=n: xy + n / 10) for n in range(3)]
    for file in (save(tmp_path / "comuni.shp", three), save(tmp_path / "comuni.gpkg", three)):
        assert words(file) == "the file: it has more than 2 features; cut it to the region you need"
    text = tmp_path / "comuni.geojson"
    text.write_text(json.dumps(collection(*three)))
    assert words(text) == "the file: it has more than 2 features; cut it to the region you need"
    assert len(read_boundaries(save(tmp_path / "due.shp", three[:2])).areas) == 2


def test_the_bounds_leave_room_for_all_of_italy() -> None:
    assert MOST_FEATURES > 7_896
    assert min(kind.most_bytes for kind in FORMATS.values()) >= 90_000_000


# ── real files ──────────────────────────────────────────────────────────────────────────────────────


def test_toscana_comes_back_from_a_zipped_shapefile_as_istat_ships_it(tmp_path: Path) -> None:
    comuni = read_boundaries(needs("geo/toscana_comuni.geojson")).areas
    columns = {"COMUNE": [area.name for area in comuni], "PRO_COM_T": [area.code for area in comuni]}
    planars = [area.fence.planar for area in comuni]
    archive = zipped(save(tmp_path / "Com01012026.shp", planars, "EPSG:32632", columns, promote_to_multi=False))
    started = time.process_time()
    again = read_boundaries(archive)
    assert time.process_time() - started < 5, "measured 0.5 s"
    assert len(again.areas) == 273
    for before, after in zip(comuni, again.areas, strict=True):
        assert (before.code, before.name) == (after.code, after.name)
        assert before.fence.area_km2 == pytest.approx(after.fence.area_km2, rel=1e-6)
        assert shapely.hausdorff_distance(before.fence.planar, after.fence.planar) < 0.5 / 111_195


def test_the_bulletins_archive_without_its_shapefiles_is_refused() -> None:
    with pytest.raises(FormatError, match="there are no boundaries in it"):
        open_file(needs("dpc/20260118_1515_all.zip"))


def test_zones_that_do_not_say_which_rings_are_holes_are_refused() -> None:
    """zones_187.json is a list made for this project's tests, with enclaves and islands alike as rings."""
    assert "it is not a GeoJSON FeatureCollection" in words(needs("dpc/zones_187.json"))


def test_contents_say_what_properties_any_feature_has(tmp_path: Path) -> None:
    file = tmp_path / "comuni.geojson"
    tree = collection(BOX, BOX)
    tree["features"][1]["properties"]["nota"] = None
    tree["features"].append("Lari")
    file.write_text(json.dumps(tree))
    contents: Contents = open_file(file)
    assert contents.properties == ("COMUNE", "PRO_COM_T", "nota")
    assert contents.count == 3
    assert contents.sample == (10.59, 43.66)
