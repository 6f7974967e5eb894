"""The places that can be alerted by name, and their outlines for maps that need no internet."""

import asyncio
import json
from collections import OrderedDict
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse
from sqlalchemy import Select, select

from alerting import atlas
from alerting.actors import Actor
from alerting.api.parts import Parts, parts_of
from alerting.api.problems import Problem, refusal
from alerting.api.routes import Guarded
from alerting.api.schemas import AreaList, AreaOut, MapOut
from alerting.api.security import Doing, authority_for, may
from alerting.api.unchanged import Body, is_known
from alerting.composing import Objection
from alerting.domain.areas import AreaState
from alerting.domain.authority import Authority
from alerting.persistence import tables
from geo.areas import AreaKind, UnknownArea
from geo.geojson import to_geojson
from geo.outlines import outlines

router = APIRouter(tags=["areas"], route_class=Guarded)

GEOJSON = "application/geo+json"
TOLERANCE_M = 100.0
MOST_MAPS = 32
Maps = OrderedDict[tuple[str, int | None, str | None, AreaKind | None, float], Body]
_maps: Maps = OrderedDict()
"""The maps drawn last, by database, edition of its atlas and what was asked for. Simplifying a region takes 0.5 s."""


@router.get("/areas", summary="List areas")
async def list_areas(
    authority: str | None = None,
    kind: AreaKind | None = None,
    parts: Parts = Depends(parts_of),
    _: Actor = Depends(may(Doing.READ)),
) -> AreaList:
    """Those that serve: all, or those of one authority or kind. Boundaries are in /v1/areas/outlines."""
    async with parts.database.read() as session:
        rows = (await session.scalars(_serving(parts, authority, kind))).all()
    return AreaList(items=[_out(row) for row in rows])


@router.get("/areas/outlines", summary="Areas to be drawn on a map", response_class=Response)
async def read_outlines(
    request: Request,
    authority: str | None = None,
    kind: AreaKind | None = None,
    tolerance_m: Annotated[float, Query(ge=0, le=1000)] = TOLERANCE_M,
    parts: Parts = Depends(parts_of),
    _: Actor = Depends(may(Doing.READ)),
) -> Response:
    """A GeoJSON FeatureCollection, simplified by so many metres with neighbours' borders kept together.

    For the eye: people are matched against the exact boundaries. Ask again with If-None-Match.
    """
    async with parts.database.read() as session:
        edition = await session.scalar(select(tables.Atlas.edition))
        key = (parts.database.url, edition, authority, kind, tolerance_m)
        body = _maps.get(key)
        if body is None:
            rows = (await session.scalars(_serving(parts, authority, kind))).all()
            body = await asyncio.to_thread(_draw, rows, tolerance_m)
    _maps[key] = body
    _maps.move_to_end(key)
    if len(_maps) > MOST_MAPS:
        _maps.popitem(last=False)
    headers = {"ETag": body.etag, "Cache-Control": "private, max-age=60, must-revalidate"}
    if is_known(request, body.etag):
        return Response(status_code=304, headers=headers)
    return Response(body.raw, headers=headers, media_type=GEOJSON)


@router.get("/areas/{code}", summary="Read one area as a GeoJSON Feature", response_class=JSONResponse)
async def read_area(
    code: str,
    version: Annotated[int | None, Query(ge=1)] = None,
    parts: Parts = Depends(parts_of),
    _: Actor = Depends(may(Doing.READ)),
) -> Response:
    """Its exact boundary, with what the list says as properties: of the version that serves, or of any there was."""
    area = tables.Area
    wanted = area.state == AreaState.SERVING if version is None else area.version == version
    async with parts.database.read() as session:
        # PostgreSQL keeps no NUL in a text, and does not even compare with one.
        row = await session.scalar(select(area).where(area.code == code, wanted)) if code.isprintable() else None
    if row is None:
        which = "" if version is None else f" in version {version}"
        raise Problem(404, f"no area is called {code[:100]!r}{which}: GET /v1/areas lists them")
    return JSONResponse(_feature(row, to_geojson(atlas.fence_of(row))), media_type=GEOJSON)


@router.get("/map", summary="How to draw a map")
async def read_map(
    authority: str | None = None, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.READ))
) -> MapOut:
    """The territory's extent, and where background tiles come from: nowhere, unless the installation says so."""
    whose = authority_for(actor, authority, parts.authorities)
    south, west, north, east = whose.territory.fence.bounds
    settings = parts.settings
    return MapOut(
        authority=whose.code,
        bbox=[west, south, east, north],
        tiles=settings.map_tiles or None,
        attribution=settings.map_attribution,
        sources=sorted({area.source for area in whose.territory.areas if area.source}),
    )


def resolved(code: str, authority: Authority) -> str:
    """An area's whole code from the short one, where only one area of the authority ends so; else as it was."""
    try:
        return authority.territory.gazetteer.by_code(code).code
    except UnknownArea:
        ending = [area.code for area in authority.territory.areas if area.code.endswith(f".{code}")]
        return ending[0] if len(ending) == 1 else code


def _serving(parts: Parts, authority: str | None, kind: AreaKind | None) -> Select[tables.Area]:
    if authority is not None and authority not in parts.authorities:
        known = ", ".join(parts.authorities)
        raise refusal([Objection("authority", f"{authority!r} is not known here: one of {known}")])
    query = select(tables.Area).where(tables.Area.state == AreaState.SERVING)
    if authority is not None:
        query = query.where(tables.Area.authority == authority)
    if kind is not None:
        query = query.where(tables.Area.kind == kind)
    return query.order_by(tables.Area.authority, tables.Area.parent.is_not(None), tables.Area.id)


def _draw(rows: Sequence[tables.Area], tolerance_m: float) -> Body:
    shapes = outlines([atlas.area_of(row) for row in rows], tolerance_m)
    features = [_feature(row, shape) for row, shape in zip(rows, shapes, strict=True)]
    for feature in features:  # told once, by /v1/map
        del feature["properties"]["source"], feature["properties"]["licence"]
    collection = {"type": "FeatureCollection", "features": features}
    return Body(json.dumps(collection, ensure_ascii=False, separators=(",", ":")).encode())


def _feature(row: tables.Area, geometry: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Feature", "id": row.code, "geometry": geometry, "properties": _out(row).model_dump(mode="json")}


def _out(row: tables.Area) -> AreaOut:
    return AreaOut(
        code=row.code,
        name=row.name,
        kind=row.kind.value,
        parent=row.parent,
        authority=row.authority,
        version=row.version,
        valid_from=row.valid_from,
        source=row.source,
        licence=row.licence,
        demonstration=row.demonstration,
    )
