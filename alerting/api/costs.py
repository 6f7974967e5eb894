"""What a comune's texts have cost in a month, by channel, lane and alert."""

from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Query

from alerting import costs
from alerting.actors import Actor
from alerting.api.parts import Parts, parts_of
from alerting.api.routes import Guarded
from alerting.api.schemas import AlertCostOut, CostOut, CostsOut, LaneCostOut
from alerting.api.security import Doing, authority_for, may
from alerting.costs import Cost, Line

Key = TypeVar("Key")

router = APIRouter(prefix="/costs", tags=["costs"], route_class=Guarded)


@router.get("", summary="Read what a month has cost")
async def read_costs(
    authority: str | None = None,
    month: Annotated[
        str | None, Query(pattern=r"^20[0-9]{2}-(0[1-9]|1[0-2])$", description="As in 2026-11; this one by default.")
    ] = None,
    parts: Parts = Depends(parts_of),
    actor: Actor = Depends(may(Doing.ACCOUNT)),
) -> CostsOut:
    """By the prices in the comune's file when each text was sent. Months are those of Rome.

    Channels that cost nothing, or whose price the file does not give, are not there.
    """
    code = authority_for(actor, authority, parts.authorities).code
    asked = month or costs.month_of(datetime.now(UTC))
    async with parts.database.read() as session:
        lines = await costs.of_month(session, code, asked)
    return CostsOut(
        authority=code,
        month=asked,
        euro=costs.euro(sum(line.cost.micro_euro for line in lines)),
        by_channel=[
            CostOut(channel=channel, **amounts(cost)) for channel, cost in _summed(lines, lambda line: line.channel)
        ],
        by_lane=[LaneCostOut(lane=lane, **amounts(cost)) for lane, cost in _summed(lines, lambda line: line.lane)],
        by_alert=[
            AlertCostOut(alert=alert, lane=lane, **amounts(cost))
            for (alert, lane), cost in _summed(lines, lambda line: (line.alert, line.lane))
        ],
    )


def amounts(cost: Cost) -> dict[str, Any]:
    """As they are answered."""
    return {"texts": cost.texts, "parts": cost.parts, "euro": costs.euro(cost.micro_euro)}


def _summed(lines: list[Line], by: Callable[[Line], Key]) -> list[tuple[Key, Cost]]:
    sums: dict[Key, Cost] = defaultdict(lambda: Cost(0, 0, 0))
    for line in lines:
        sums[by(line)] = sums[by(line)] + line.cost
    return list(sums.items())
