"""An alert's areas → geofence → recipients. The same code for the preview and for the sending.

Fail towards alerting: somebody whose place is not known is told, somebody known by frazione only is told when
the drawing touches the frazione, the boundary is inside.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from alerting.domain.authority import Authority
from alerting.domain.delivery import FIRST_FINAL
from alerting.domain.lanes import Lane
from alerting.persistence import dialects
from geo.cells import CellRange, cover
from geo.matching import inside
from geo.shapes import Geofence


@dataclass(frozen=True, slots=True)
class Target:
    """Who is meant, in the publisher's words: named areas, and what was drawn."""

    authority: str
    live: bool
    areas: tuple[str, ...]
    drawn: Geofence | None


@dataclass(frozen=True, slots=True)
class Selection:
    """The SQL that finds the recipients of a target: a condition on `r`, and its parameters."""

    condition: str
    parameters: dict[str, Any]


PEOPLE = """
    FROM recipients r JOIN addresses a ON a.recipient_id = r.id
   WHERE r.authority = :authority AND r.live = :live AND r.left_at IS NULL
     AND a.rank = 0 AND a.sealed IS NOT NULL AND a.refused_at IS NULL
     AND EXISTS (SELECT 1 FROM channel_accounts k WHERE k.name = a.account AND k.live = r.live)
     AND ({condition})"""


async def select_recipients(session: AsyncSession, target: Target, authority: Authority) -> Selection:
    """How to find the recipients of a target. Reads only the places near a drawn edge; the rest is SQL."""
    conditions = ["NOT r.located"]
    parameters: dict[str, Any] = {"authority": target.authority, "live": target.live}
    if target.areas:
        conditions.append(
            "EXISTS (SELECT 1 FROM memberships m WHERE m.recipient_id = r.id AND m.area IN "
            + _in(parameters, "area", target.areas)
            + ")"
        )
    if target.drawn is not None:
        conditions += await _drawn(session, target.drawn, authority, parameters)
    return Selection(" OR ".join(conditions), parameters)


async def _drawn(session: AsyncSession, drawn: Geofence, authority: Authority, parameters: dict[str, Any]) -> list[str]:
    full, edge = cover(drawn)
    conditions = []
    if full:
        parameters["full"] = json.dumps(full)
        conditions.append(
            f"EXISTS (SELECT 1 FROM places p JOIN ({dialects.pairs(session, 'full', 'first', 'last')}) c"
            " ON p.cell BETWEEN c.first AND c.last WHERE p.recipient_id = r.id)"
        )
    if near := await _inside_edge_cells(session, drawn, edge):
        parameters["near"] = json.dumps(near)
        conditions.append(f"r.id IN ({dialects.numbers(session, 'near')})")
    touched = tuple(area.code for area in authority.territory.areas if _touch(area.fence, drawn))
    if touched:
        conditions.append(
            "EXISTS (SELECT 1 FROM places p WHERE p.recipient_id = r.id AND p.lat IS NULL AND p.area IN "
            + _in(parameters, "touched", touched)
            + ")"
        )
    return conditions


async def _inside_edge_cells(session: AsyncSession, drawn: Geofence, edge: Sequence[CellRange]) -> list[int]:
    """The recipients with a point in an edge cell that really lies inside."""
    if not edge:
        return []
    query = text(
        f"SELECT p.recipient_id, p.lat, p.lon FROM ({dialects.pairs(session, 'edge', 'first', 'last')}) c"
        " JOIN places p ON p.cell BETWEEN c.first AND c.last"
    )
    rows = (await session.execute(query, {"edge": json.dumps(edge)})).all()
    if not rows:
        return []
    ids, lats, lons = (np.array(column) for column in zip(*rows, strict=True))
    return [int(recipient) for recipient in np.unique(ids[inside(drawn, lats, lons)])]


# ── the preview ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class AccountShare:
    """The part of an audience that one account reaches, and when its last text would be handed over."""

    account: str
    channel: str
    recipients: int
    waiting_before: int
    minutes: float


@dataclass(frozen=True, slots=True)
class Preview:
    """Whom an alert would reach, before anybody is told."""

    recipients: int
    place_unknown: int
    by_area: dict[str, int]
    by_account: tuple[AccountShare, ...]

    @property
    def minutes(self) -> float:
        """Until the last hand-over, all accounts working side by side."""
        return max((share.minutes for share in self.by_account), default=0.0)


async def preview(session: AsyncSession, target: Target, authority: Authority, lane: Lane) -> Preview:
    """Counts by account and by the comune's areas; minutes given what already waits in this lane and above."""
    selection = await select_recipients(session, target, authority)
    people = PEOPLE.format(condition=selection.condition)
    by_account = await session.execute(
        text(f"SELECT a.account, count(*), sum(CASE WHEN r.located THEN 0 ELSE 1 END) {people} GROUP BY a.account"),
        selection.parameters,
    )
    rows = by_account.all()
    by_area = await session.execute(
        text(
            f"SELECT m.area, count(*) FROM memberships m WHERE m.recipient_id IN (SELECT r.id {people}) GROUP BY m.area"
        ),
        selection.parameters,
    )
    names = {area.code: area.name for area in authority.territory.areas}
    shares = [await _share(session, account, count, lane) for account, count, _ in rows]
    return Preview(
        recipients=sum(count for _, count, _ in rows),
        place_unknown=sum(unknown or 0 for _, _, unknown in rows),
        by_area={code: count for code, count in by_area if code in names},
        by_account=tuple(shares),
    )


async def _share(session: AsyncSession, account: str, recipients: int, lane: Lane) -> AccountShare:
    first = [str(lane), *map(str, lane.above)]
    parameters: dict[str, Any] = {"account": account, "final": FIRST_FINAL}
    lanes = _in(parameters, "lane", first)
    waiting, rate, channel = (
        await session.execute(
            text(
                "SELECT (SELECT coalesce(sum(b.last - b.first + 1), 0) FROM batches b"
                f"         WHERE b.account = :account AND b.state <> 'done' AND b.lane IN {lanes}),"
                " r.rate, c.channel FROM provider_rates r JOIN channel_accounts c ON c.name = r.account"
                " WHERE r.account = :account"
            ),
            parameters,
        )
    ).one()
    minutes = (int(waiting) + recipients) / rate / 60
    return AccountShare(account, channel, recipients, int(waiting), round(minutes, 2))


def _in(parameters: dict[str, Any], name: str, values: Sequence[Any]) -> str:
    for number, value in enumerate(values):
        parameters[f"{name}{number}"] = value
    return "(" + ", ".join(f":{name}{number}" for number in range(len(values))) + ")"


def _touch(area: Geofence, drawn: Geofence) -> bool:
    return bool(area.planar.intersects(drawn.planar))
