"""Who is inside a new outline, worked out in the background, people by people; then it serves, in one step.

Killed at any moment it goes on where its last page was committed. Whoever joins or moves meanwhile is counted in by
`subscribing`, which sees the versions that are being prepared. What depends on several areas at once is put right in
the step in which they serve: who is in a part that lies over the border of the whole, and what a name overlaps.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import structlog
from sqlalchemy import delete, select, text, tuple_, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import atlas, audit, metrics
from alerting.domain.areas import AreaState
from alerting.domain.authority import Authority, Territory
from alerting.domain.recipients import Place, Precision
from alerting.persistence import Database, dialects, tables
from geo.areas import Area, parts_of
from geo.cells import cover
from geo.matching import inside
from geo.shapes import Geofence

log = structlog.get_logger()

LOOK_EVERY = 1.0  # seconds
PAGE = 2_000
"""People looked at in one transaction. Nobody can join or move house meanwhile, for a tenth of a second or so."""
REMEMBERED_FOR = timedelta(hours=1)
"""After its end; then an alert that names the version is matched against the boundary. The rows are left as long again:
an alert whose audience was worked out from them may still be on its way to the last of a big town."""
CLEARED_AT_ONCE = 10_000
NOBODY = "resettling"
"""Who the audit says has let a version serve: it follows from what somebody imported."""


class Resettling:
    """Prepares new versions of areas, lets them serve when they are ready, and forgets who was inside the old ones."""

    def __init__(self, database: Database, authorities: dict[str, Authority]) -> None:
        self._database = database
        self._authorities = authorities

    async def run(self) -> None:
        """Looks once a second until cancelled. Several may run: each page is done by one."""
        while True:
            try:
                more = await self.look(datetime.now(UTC))
            except (SQLAlchemyError, OSError) as error:
                log.warning("the preparing of areas paused", error=type(error).__name__)
                more = False
            await asyncio.sleep(0 if more else LOOK_EVERY)

    async def look(self, now: datetime) -> bool:
        """One page of people of one authority, or one step of another kind; whether there may be more to do at once."""
        async with self._database.read() as session:
            waiting = await _owners(session, AreaState.PREPARING)
            over = await _owners(session, AreaState.ENDED, tables.Area.valid_to < now - REMEMBERED_FOR)
            closed = await _owners(session, AreaState.CLOSED, tables.Area.valid_to < now - 2 * REMEMBERED_FOR)
        for owner in waiting:
            if owner is not None and owner not in self._authorities:
                continue  # without its file nobody knows who is inside: what serves goes on serving
            if owner is not None and await self._prepare(self._authorities[owner]):
                return True
            if await self._let_serve(owner, now):
                return True
        if over:
            await self._close(now - REMEMBERED_FOR)
            return True
        return bool(closed) and await self._clear(now - 2 * REMEMBERED_FOR)

    # ── before ──────────────────────────────────────────────────────────────────────────────────────

    async def _prepare(self, authority: Authority) -> bool:
        """The next people, in all versions that are being prepared; whether there were any."""
        async with self._database.write() as session:
            await atlas.hold(session)
            rows = await _preparing(session, authority.code)
            after = min((row.derived_to for row in rows), default=None)
            people = await _page(session, authority.code, after) if after is not None else []
            if not people:
                return False
            found = await _memberships(session, await atlas.territory_of(session, authority), people, rows)
            if found:
                await session.execute(dialects.insert_new(session, tables.Membership), found)
            for row in rows:
                row.derived_to = max(row.derived_to, people[-1])
        metrics.RESETTLED.inc(len(people))
        return True

    async def _let_serve(self, owner: str | None, now: datetime) -> bool:
        """Those whose people are known take the place of those that served, all of an authority's in one step."""
        async with self._database.write() as session:
            await atlas.hold(session)
            rows = [row for row in await _preparing(session, owner) if row.valid_from <= now]
            if not rows or (owner is not None and await _page(session, owner, min(r.derived_to for r in rows))):
                return False  # somebody joined just now
            codes = [row.code for row in rows]
            before = (
                await session.scalars(
                    select(tables.Area).where(tables.Area.code.in_(codes), tables.Area.state == AreaState.SERVING)
                )
            ).all()
            for row in before:
                row.state, row.valid_to = AreaState.ENDED, now
            for row in rows:
                row.state, row.valid_from = AreaState.SERVING, now
            await session.flush()
            for one in sorted({owner, *(row.authority for row in before)} - {None}, key=str):
                await straighten(session, str(one), codes)
            await atlas.new_edition(session)
            serving = [f"{row.code} v{row.version}" for row in rows]
            subject = serving[0] if len(rows) == 1 else f"{len(rows)} areas"
            await audit.write(session, at=now, actor=NOBODY, action="serve areas", subject=subject, areas=serving[:20])
        log.info("new outlines serve", authority=owner, areas=serving[:20])
        return True

    # ── after ───────────────────────────────────────────────────────────────────────────────────────

    async def _close(self, before: datetime) -> None:
        """Of versions that ended before only the boundary counts now: whoever asks finds all of their people."""
        async with self._database.write() as session:
            await atlas.hold(session)
            over = update(tables.Area).where(tables.Area.state == AreaState.ENDED, tables.Area.valid_to < before)
            await session.execute(over.values(state=AreaState.CLOSED).execution_options(synchronize_session=False))
            await atlas.new_edition(session)

    async def _clear(self, before: datetime) -> bool:
        """Forget who was inside them, so many at a time; whether there may be more."""
        over = select(tables.Area.id).where(tables.Area.state == AreaState.CLOSED, tables.Area.valid_to < before)
        key = (tables.Membership.area, tables.Membership.recipient_id, tables.Membership.place_id)
        async with self._database.write() as session:
            await atlas.hold(session)
            some = select(*key).where(tables.Membership.area.in_(over)).limit(CLEARED_AT_ONCE)
            gone = await session.execute(delete(tables.Membership).where(tuple_(*key).in_(some)))
            if gone.rowcount:  # type: ignore[attr-defined]
                return True
            ended = update(tables.Area).where(tables.Area.id.in_(over)).values(state=AreaState.CLEARED)
            await session.execute(ended.execution_options(synchronize_session=False))
        return False


# ── in the step ─────────────────────────────────────────────────────────────────────────────────────


async def straighten(session: AsyncSession, owner: str, changed: Sequence[str]) -> int:
    """Put right what depends on several areas, now that these have changed. The caller holds the atlas.

    How many have not said any more where in the comune they are.
    """
    of_owner = (tables.Area.authority == owner, tables.Area.state.in_((AreaState.SERVING, AreaState.ENDED)))
    rows = (await session.scalars(select(tables.Area).where(*of_owner))).all()
    serving = {row.id: atlas.area_of(row) for row in rows if row.state is AreaState.SERVING}
    ended = [atlas.area_of(row) for row in rows if row.state is AreaState.ENDED and row.code in changed]
    for number, whole in serving.items():
        parts, before = parts_of(whole, serving.values()), parts_of(whole, ended, serving.values())
        if parts or before:
            await _straighten_border(session, owner, number, whole, parts, before)
    await _straighten_names(session, owner, serving, changed)
    return await relocate(session, owner)


async def _straighten_border(
    session: AsyncSession, owner: str, number: int, whole: Area, parts: Sequence[Area], before: Sequence[Area]
) -> None:
    """Outside a whole belongs to it who is in a part that serves; not any more who was in one that served before."""
    shapes = (shape for part in (*parts, *before) for shape in part.fence.flattened().shapes)
    beyond = Geofence(tuple(dict.fromkeys(shapes)), without=whole.fence.flattened())
    query = text(
        f"SELECT p.id, p.recipient_id, p.lat, p.lon FROM ({dialects.pairs(session, 'cells', 'first', 'last')}) c"
        " JOIN places p ON p.cell BETWEEN c.first AND c.last JOIN recipients r ON r.id = p.recipient_id"
        " WHERE r.authority = :owner"
    )
    full, edge = cover(beyond)
    cells = json.dumps([*full, *edge])
    people = (await session.execute(query, {"cells": cells, "owner": owner})).all() if full or edge else []
    if not people:
        return
    ids, recipients, lats, lons = (np.array(column) for column in zip(*people, strict=True))
    outside = inside(beyond, lats, lons) & ~inside(whole.fence, lats, lons)
    in_part = np.zeros(len(ids), dtype=bool)
    for part in parts:
        in_part |= inside(part.fence, lats, lons)
    strays = ids[outside & ~in_part].tolist()
    await session.execute(
        text(f"DELETE FROM memberships WHERE area = :area AND place_id IN ({dialects.numbers(session, 'places')})"),
        {"area": number, "places": json.dumps(strays)},
    )
    belong = np.flatnonzero(outside & in_part)
    found = [
        {"area": number, "recipient_id": recipient, "place_id": place}
        for recipient, place in zip(recipients[belong].tolist(), ids[belong].tolist(), strict=True)
    ]
    if found:
        await session.execute(dialects.insert_new(session, tables.Membership), found)


async def _straighten_names(
    session: AsyncSession, owner: str, serving: Mapping[int, Area], changed: Sequence[str]
) -> None:
    """Whoever has only said a name belongs to what that overlaps now."""
    comune = next((area for area in serving.values() if area.code == owner), None)
    if comune is None:
        return
    others = tuple(area for area in serving.values() if area is not comune)
    territory = Territory(comune, others, versions=serving)
    for named in others:
        meant = territory.around(Place(Precision.FRAZIONE, (named.code,)))
        for number, area in serving.items():
            if area is named or not {area.code, named.code} & set(changed):
                continue
            said = "FROM places p WHERE p.lat IS NULL AND p.area = :named"
            statement = f"DELETE FROM memberships WHERE area = :area AND place_id IN (SELECT p.id {said})"
            if number in meant:
                statement = (
                    "INSERT INTO memberships (area, recipient_id, place_id)"
                    f" SELECT CAST(:area AS bigint), p.recipient_id, p.id {said} ON CONFLICT DO NOTHING"
                )
            await session.execute(text(statement), {"area": number, "named": named.code})


async def relocate(session: AsyncSession, authority: str) -> int:
    """Mark anew whose home is known, as `Territory.knows_home` says: what serves has changed. How many lost it."""
    parameters = {"authority": authority, "true": True, "false": False}
    where = """EXISTS (
        SELECT 1 FROM places p WHERE p.recipient_id = recipients.id AND p.label = 'casa' AND (
            p.lat IS NULL OR EXISTS (SELECT 1 FROM memberships m JOIN areas a ON a.id = m.area
                WHERE m.recipient_id = p.recipient_id AND m.place_id = p.id AND a.state = 'serving')))
        AND NOT EXISTS (
        SELECT 1 FROM places p WHERE p.recipient_id = recipients.id AND p.lat IS NULL AND p.area NOT IN (
            SELECT a.code FROM areas a
             WHERE a.authority = :authority AND a.state = 'serving' AND a.code <> :authority))"""
    theirs = "authority = :authority AND left_at IS NULL AND (NOT is_channel OR located)"  # a panel has a place
    await session.execute(
        text(f"UPDATE recipients SET located = :true WHERE {theirs} AND NOT located AND ({where})"), parameters
    )
    lost = await session.execute(
        text(f"UPDATE recipients SET located = :false WHERE {theirs} AND located AND NOT ({where})"), parameters
    )
    return int(lost.rowcount)  # type: ignore[attr-defined]


async def _owners(session: AsyncSession, state: AreaState, *also: Any) -> set[str | None]:
    return set(await session.scalars(select(tables.Area.authority).where(tables.Area.state == state, *also).distinct()))


async def _preparing(session: AsyncSession, owner: str | None) -> Sequence[tables.Area]:
    query = select(tables.Area).where(tables.Area.state == AreaState.PREPARING, tables.Area.authority == owner)
    return (await session.scalars(query.order_by(tables.Area.id))).all()


async def _page(session: AsyncSession, authority: str | None, after: int) -> list[int]:
    ids = select(tables.Recipient.id).where(tables.Recipient.authority == authority, tables.Recipient.id > after)
    return list(await session.scalars(ids.order_by(tables.Recipient.id).limit(PAGE)))


async def _memberships(
    session: AsyncSession, territory: Territory, people: Sequence[int], rows: Sequence[tables.Area]
) -> list[dict[str, int]]:
    """Which places of these people belong to which of the versions that are being prepared."""
    place = tables.Place
    theirs = select(place.id, place.recipient_id, place.lat, place.lon, place.area)
    # A page has no gaps that belong to others of the authority: its ends say as much as its list, in two parameters.
    window = place.recipient_id.between(people[0], people[-1])
    of_authority = place.recipient_id.in_(
        select(tables.Recipient.id).where(
            tables.Recipient.authority == rows[0].authority, tables.Recipient.id.between(people[0], people[-1])
        )
    )
    places = (await session.execute(theirs.where(window, of_authority))).all()
    points = [row for row in places if row.lat is not None]
    masks = territory.around_many(
        np.array([row.lat for row in points], dtype=np.float64), np.array([row.lon for row in points], dtype=np.float64)
    )
    wanted = {row.id for row in rows}
    found = [
        {"area": number, "recipient_id": points[at].recipient_id, "place_id": points[at].id}
        for number in sorted(wanted)
        for at in np.flatnonzero(masks[number]).tolist()
    ]
    for row in places:
        if row.lat is None:
            named = territory.around(Place(Precision.FRAZIONE, (row.area,)))
            found += [{"area": n, "recipient_id": row.recipient_id, "place_id": row.id} for n in sorted(named & wanted)]
    return found
