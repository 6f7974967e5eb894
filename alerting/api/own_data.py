"""What is known of a person, shown to themselves by the link they asked for."""

from datetime import UTC, datetime

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse

from alerting.api.parts import Parts, parts_of
from alerting.api.problems import Problem
from alerting.knowing import DataLinks, what_is_known
from alerting.persistence import tables

router = APIRouter(prefix="/known", tags=["known"])

PRIVATE = {"Cache-Control": "no-store", "X-Robots-Tag": "noindex", "Referrer-Policy": "no-referrer"}
NOT_VALID = "this link is not valid, or it is older than seven days: write I MIEI DATI to the comune for a new one"


@router.get("/{token}", summary="Read what is known of you")
async def show(token: str, parts: Parts = Depends(parts_of)) -> JSONResponse:
    """Everything, as JSON. One answer for a wrong link, an old one and one of somebody who has left."""
    now = datetime.now(UTC)
    number = DataLinks(parts.settings.key_bytes, "").recipient(token, now)
    async with parts.database.read() as session:
        row = await session.get(tables.Recipient, number) if number is not None else None
        if row is None or row.left_at is not None:
            raise Problem(404, NOT_VALID)
        known = await what_is_known(session, row, parts.seal)
    return JSONResponse(known.as_json(), headers=PRIVATE)
