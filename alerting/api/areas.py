"""The places that can be alerted by name."""

from fastapi import APIRouter, Depends, Response
from fastapi.responses import JSONResponse

from alerting.actors import Actor
from alerting.api.parts import Parts, parts_of
from alerting.api.problems import Problem, refusal
from alerting.api.routes import Guarded
from alerting.api.schemas import AreaList, AreaOut
from alerting.api.security import Doing, may
from alerting.composing import Objection
from alerting.domain.authority import Authority
from geo.areas import Area, UnknownArea
from geo.geojson import to_geojson

router = APIRouter(prefix="/areas", tags=["areas"], route_class=Guarded)


@router.get("", summary="List areas")
async def list_areas(
    authority: str | None = None, parts: Parts = Depends(parts_of), _: Actor = Depends(may(Doing.READ))
) -> AreaList:
    """All areas of all authorities, or of one."""
    if authority is not None and authority not in parts.authorities:
        known = ", ".join(parts.authorities)
        raise refusal([Objection("authority", f"{authority!r} is not known here: one of {known}")])
    wanted = [one for one in parts.authorities.values() if authority in (None, one.code)]
    return AreaList(items=[_out(area, one) for one in wanted for area in one.territory.areas])


@router.get("/{code}", summary="Read one area as a GeoJSON Feature", response_class=JSONResponse)
async def read_area(code: str, parts: Parts = Depends(parts_of), _: Actor = Depends(may(Doing.READ))) -> Response:
    """Its boundary, with what the list says as properties."""
    for authority in parts.authorities.values():
        for area in authority.territory.areas:
            if area.code == code:
                feature = {
                    "type": "Feature",
                    "id": code,
                    "geometry": to_geojson(area.fence),
                    "properties": _out(area, authority).model_dump() | {"version": area.version, "source": area.source},
                }
                return JSONResponse(feature, media_type="application/geo+json")
    raise Problem(404, f"no area is called {code[:100]!r}: GET /v1/areas lists them")


def resolved(code: str, authority: Authority) -> str:
    """An area's whole code from the short one, where only one area of the authority ends so; else as it was."""
    try:
        return authority.territory.gazetteer.by_code(code).code
    except UnknownArea:
        ending = [area.code for area in authority.territory.areas if area.code.endswith(f".{code}")]
        return ending[0] if len(ending) == 1 else code


def _out(area: Area, authority: Authority) -> AreaOut:
    return AreaOut(
        code=area.code,
        name=area.name,
        kind=area.kind.value,
        parent=area.parent,
        authority=authority.code,
        demonstration=area.demonstration,
    )
