"""An alert's areas → geofence → recipients. The same code for the preview and for the sending.

Fail towards alerting: somebody whose place is not known is told, somebody known by frazione only is told when
the drawing touches the frazione, the boundary is inside.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from alerting.domain.authority import Authority
from alerting.domain.delivery import FIRST_FINAL, MAY_HAVE_ARRIVED
from alerting.domain.lanes import Lane
from alerting.persistence import dialects
from geo.cells import CellRange, cover
from geo.matching import inside
from geo.shapes import Geofence


@dataclass(frozen=True, slots=True)
class Target:
    """Who is meant, in the publisher's words: named areas, and what was drawn.

    `told` are the dispatches of what an Update or a Cancel follows: whoever got one of these, or may have, is meant
    too, wherever they are; and nobody else where `only_told`.
    """

    authority: str
    live: bool
    areas: tuple[str, ...]
    drawn: Geofence | None
    told: tuple[int, ...] = ()
    only_told: bool = False


@dataclass(frozen=True, slots=True)
class Selection:
    """The SQL that finds the recipients of a target, and its parameters: whoever is in any of the `parts`.

    Each part selects ids of recipients. `after` and `upto` are among the parameters: a window of ids, and everybody
    as long as nobody narrows it. Each part keeps to it by itself, or PostgreSQL would read a whole town for each of
    its pages.
    """

    parts: tuple[str, ...]
    parameters: dict[str, Any]
    address: str = "a.rank = 0"
    """On which of a recipient's addresses `a` they are told."""
    is_few: bool = False
    """They are known one by one: no need to go by pages."""

    @property
    def people(self) -> str:
        """From recipients `r` with their addresses `a`, those who are told, and where."""
        condition = " OR ".join(f"r.id IN ({part})" for part in self.parts) or "1 = 0"
        return PEOPLE.format(condition=condition, address=self.address)

    async def if_few(self, session: AsyncSession, most: int) -> "Selection | None":
        """The same people by their ids, where they are few: found by what was drawn or named, without a look at the
        others. None where they may be more than `most`."""
        if not self.parts:
            return replace(self, is_few=True)
        found = text(f"{' UNION ALL '.join(self.parts)} LIMIT {most + 1}")
        ids = (await session.scalars(found, self.parameters)).all()
        if len(ids) > most:
            return None
        known = self.parameters | {"few": json.dumps(sorted(set(ids)))}
        return replace(self, parts=(dialects.numbers(session, "few"),), parameters=known, is_few=True)


PEOPLE = """
    FROM recipients r JOIN addresses a ON a.recipient_id = r.id
   WHERE r.authority = :authority AND r.live = :live AND r.left_at IS NULL
     AND {address} AND a.sealed IS NOT NULL AND a.refused_at IS NULL
     AND EXISTS (SELECT 1 FROM channel_accounts k WHERE k.name = a.account AND k.live = r.live)
     AND r.id > :after AND r.id <= :upto AND a.recipient_id > :after AND a.recipient_id <= :upto
     AND ({condition})"""


PLACE_NOT_KNOWN = """
SELECT u.id FROM recipients u WHERE u.authority = :authority AND NOT u.located AND u.left_at IS NULL
   AND u.id > :after AND u.id <= :upto"""

BIGGEST_ID = 2**63 - 1
EVERYBODY = {"after": 0, "upto": BIGGEST_ID}


async def select_recipients(session: AsyncSession, target: Target, authority: Authority) -> Selection:
    """How to find the recipients of a target. Reads only the places near a drawn edge; the rest is SQL."""
    parameters: dict[str, Any] = {"authority": target.authority, "live": target.live, **EVERYBODY}
    parts, address = [], "a.rank = 0"
    if target.told:
        got_it = _may_have_got(parameters, target.told)
        parts.append(f"SELECT x.recipient_id {got_it}")
        # Where they got it, which may not be where they are told first; whoever did not, where they are told first.
        address = f"(a.id IN (SELECT x.id {got_it}) OR (a.rank = 0 AND r.id NOT IN (SELECT x.recipient_id {got_it})))"
    if target.only_told:
        return Selection(tuple(parts), parameters, address)
    parts.append(PLACE_NOT_KNOWN)
    if target.areas:
        named = _in(parameters, "area", target.areas)
        parts.append(f"SELECT m.recipient_id FROM memberships m WHERE m.area IN {named} AND {_window('m')}")
    if target.drawn is not None:
        parts += await _drawn(session, target.drawn, authority, parameters)
    return Selection(tuple(parts), parameters, address)


def _may_have_got(parameters: dict[str, Any], told: Sequence[int]) -> str:
    """On whichever of their addresses: who was told on the second is the same person."""
    stands = ", ".join(str(value) for value in sorted(progress.value for progress in MAY_HAVE_ARRIVED))
    return (
        "FROM addresses x JOIN deliveries o ON o.address_id = x.id"
        f" WHERE {_window('x')} AND o.dispatch_id IN {_in(parameters, 'told', told)} AND o.progress IN ({stands})"
    )


async def _drawn(session: AsyncSession, drawn: Geofence, authority: Authority, parameters: dict[str, Any]) -> list[str]:
    full, edge = cover(drawn)
    parts = []
    if full:
        parameters["full"] = json.dumps(full)
        parts.append(
            f"SELECT p.recipient_id FROM places p JOIN ({dialects.pairs(session, 'full', 'first', 'last')}) c"
            f" ON p.cell BETWEEN c.first AND c.last WHERE {_window('p')}"
        )
    if near := await _inside_edge_cells(session, drawn, edge):
        parameters["near"] = json.dumps(near)
        parts.append(dialects.numbers(session, "near"))
    touched = tuple(area.code for area in authority.territory.areas if _touch(area.fence, drawn))
    if touched:
        named = _in(parameters, "touched", touched)
        parts.append(
            f"SELECT p.recipient_id FROM places p WHERE p.lat IS NULL AND p.area IN {named} AND {_window('p')}"
        )
    return parts


def _window(table: str) -> str:
    return f"{table}.recipient_id > :after AND {table}.recipient_id <= :upto"


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
    people = selection.people
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
