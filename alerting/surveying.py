"""New outlines of areas are taken in, and areas that are no more are ended. What serves goes on serving meanwhile."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import assert_never

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import atlas, audit, resettling
from alerting.domain.areas import AreaState
from alerting.persistence import tables
from geo.areas import STRAY_SHARE, Area, AreaKind
from geo.geojson import to_geojson
from geo.shapes import km2_outside, km2_shared

LOOKED_UP_AT_ONCE = 1000
NAMED_IN_AUDIT = 20


class What(Enum):
    """What an outline means for what is known already."""

    NEW = "new"
    FOLLOWS = "follows"
    """Another version of the area is there, and this one is to take its place."""
    SAME = "same"
    """The latest version is exactly this one: nothing is to be done."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Change:
    """One outline and what it means: `area` has the version it is, or would be, kept as."""

    area: Area
    what: What
    authority: str | None
    """Whose territory it is a part of; None where nobody here speaks of it."""
    notes: tuple[str, ...] = ()
    """What somebody should know about it, in sentences; none of them forbids it."""


class NoSuchArea(Exception):
    """No area of this code serves."""


class WholeTerritory(Exception):
    """An authority without any territory could speak of no place: its own area can be followed, not ended."""


async def plan(session: AsyncSession, areas: Sequence[Area]) -> tuple[Change, ...]:
    """What taking these in would do. Changes nothing."""
    latest = await _latest(session, [area.code for area in areas])
    owners = await _owners(session, areas)
    comuni = {area.code for area in areas if area.kind is AreaKind.COMUNE}
    comuni |= {area.parent for area in areas if area.kind is AreaKind.FRAZIONE and area.parent}
    frazioni = await _frazioni(session, sorted(comuni))
    drawn = {area.code for area in areas}
    return tuple(
        _change(area, latest.get(area.code), owners[area.code], _notes(area, frazioni, drawn)) for area in areas
    )


async def take(
    session: AsyncSession, areas: Sequence[Area], *, now: datetime, valid_from: datetime | None = None
) -> tuple[Change, ...]:
    """Keep these outlines; each takes the place of the one that serves as soon as it is known who is inside.

    Not before `valid_from`. What is the same as the latest version is left alone, so that a file may be taken twice.
    """
    await atlas.hold(session)
    changes = await plan(session, areas)
    taken = [change for change in changes if change.what is not What.SAME]
    if not taken:
        return changes
    inhabited = await _inhabited(session, {change.authority for change in taken if change.authority})
    await _give_up_preparing(session, [change.area.code for change in taken])
    begins = valid_from or now
    at_once = [c for c in taken if begins <= now and c.authority not in inhabited]
    codes = [change.area.code for change in at_once]
    before = await _end(session, codes, now)
    session.add_all(
        row_of(change, AreaState.SERVING if change in at_once else AreaState.PREPARING, begins) for change in taken
    )
    await session.flush()
    for owner in sorted(before):  # whose people may have named what is another's now
        await resettling.straighten(session, owner, codes)
    await atlas.new_edition(session)
    return changes


async def record(session: AsyncSession, changes: Sequence[Change], *, actor: str, now: datetime) -> None:
    """Who took them in, for the audit; nothing where nothing changed."""
    taken = [f"{one.area.code} v{one.area.version}" for one in changes if one.what is not What.SAME]
    if taken:
        subject = taken[0] if len(taken) == 1 else f"{len(taken)} areas"
        await audit.write(
            session, at=now, actor=actor, action="take areas", subject=subject, areas=taken[:NAMED_IN_AUDIT]
        )


async def end(session: AsyncSession, code: str, *, actor: str, now: datetime) -> int:
    """The area can be named no more. How many people had named it and nothing else: they are told of everything now.

    Raises NoSuchArea and WholeTerritory.
    """
    await atlas.hold(session)
    row = await session.scalar(
        select(tables.Area).where(tables.Area.code == code, tables.Area.state == AreaState.SERVING)
    )
    if row is None:
        raise NoSuchArea(f"no area {code!r} serves; `python -m geo list` names those that do")
    if row.code == row.authority:
        raise WholeTerritory(f"{row.name} is all the territory of {row.authority}: import another outline instead")
    await _give_up_preparing(session, [code])
    await _end(session, [code], now)
    await atlas.new_edition(session)
    unlocated = await resettling.straighten(session, row.authority, [code]) if row.authority else 0
    await audit.write(session, at=now, actor=actor, action="end area", subject=f"{code} v{row.version}")
    return unlocated


# ── what is there ───────────────────────────────────────────────────────────────────────────────────


async def _latest(session: AsyncSession, codes: Sequence[str]) -> dict[str, tables.Area]:
    """The row of the highest version of each code."""
    newest = select(tables.Area.code, func.max(tables.Area.version).label("version")).group_by(tables.Area.code)
    found: dict[str, tables.Area] = {}
    for some in _parts_of(codes):
        highest = newest.where(tables.Area.code.in_(some)).subquery()
        query = select(tables.Area).join(
            highest, and_(tables.Area.code == highest.c.code, tables.Area.version == highest.c.version)
        )
        found |= {row.code: row for row in await session.scalars(query)}
    return found


async def _owners(session: AsyncSession, areas: Sequence[Area]) -> dict[str, str | None]:
    """Whose territory each is a part of: an authority's own area, and whatever has that above it."""
    known = set(await session.scalars(select(tables.Authority.code)))
    kept = (tables.Area.state == AreaState.SERVING, tables.Area.parent.is_not(None))
    parents = dict((await session.execute(select(tables.Area.code, tables.Area.parent).where(*kept))).all())
    parents |= {area.code: area.parent for area in areas}

    def owner(code: str | None) -> str | None:
        seen = set[str]()
        while code is not None and code not in known and code not in seen:
            seen.add(code)
            code = parents.get(code)
        return code if code in known else None

    return {area.code: owner(area.code) for area in areas}


async def _frazioni(session: AsyncSession, comuni: Sequence[str]) -> dict[str, list[Area]]:
    """The frazioni that serve, by their comune."""
    found: dict[str, list[Area]] = {}
    for some in _parts_of(comuni):
        query = select(tables.Area).where(
            tables.Area.state == AreaState.SERVING,
            tables.Area.kind == AreaKind.FRAZIONE,
            tables.Area.parent.in_(some),
        )
        for row in await session.scalars(query):
            found.setdefault(row.parent or "", []).append(atlas.area_of(row))
    return found


async def _inhabited(session: AsyncSession, authorities: set[str]) -> set[str]:
    """The authorities that somebody has subscribed to: who is inside must be worked out first."""
    return {
        code
        for code in authorities
        if await session.scalar(
            select(tables.Recipient.id)
            .where(
                tables.Recipient.authority == code,
                or_(tables.Recipient.is_channel.is_(False), tables.Recipient.located),  # a panel has a place
            )
            .limit(1)
        )
    }


def _parts_of(codes: Sequence[str]) -> Iterator[Sequence[str]]:
    return (codes[first : first + LOOKED_UP_AT_ONCE] for first in range(0, len(codes), LOOKED_UP_AT_ONCE))


# ── what is kept ────────────────────────────────────────────────────────────────────────────────────


def _change(area: Area, latest: tables.Area | None, authority: str | None, notes: tuple[str, ...]) -> Change:
    version = max(area.version, latest.version + 1 if latest else 1)
    if latest is None:
        return Change(replace(area, version=version), What.NEW, authority, notes)
    if latest.hash == hash_of(area) and latest.state in (AreaState.PREPARING, AreaState.SERVING):
        return Change(replace(area, version=latest.version), What.SAME, authority, notes)
    return Change(replace(area, version=version), What.FOLLOWS, authority, notes)


def _notes(area: Area, frazioni: Mapping[str, Sequence[Area]], drawn: Set[str]) -> tuple[str, ...]:
    """How an outline fits those that serve and stay as they are."""
    match area.kind:
        case AreaKind.COMUNE:
            return tuple(_strays(area, [one for one in frazioni.get(area.code, ()) if one.code not in drawn]))
        case AreaKind.FRAZIONE:
            beside = [one for one in frazioni.get(area.parent or "", ()) if one.code not in drawn]
            return tuple(_shares(area, beside))
        case AreaKind.ZONA | AreaKind.CUSTOM:
            return ()
        case _:
            assert_never(area.kind)


def _strays(comune: Area, frazioni: Sequence[Area]) -> Iterator[str]:
    """Frazioni drawn by another hand, that lie outside the comune as it is drawn now."""
    for one in frazioni:
        if (stray := km2_outside(one.fence, comune.fence)) > STRAY_SHARE * one.fence.area_km2:
            yield (
                f"{stray:.2f} of the {one.fence.area_km2:.2f} km² of {one.name} ({one.code}) lie outside this outline "
                f"of {comune.name}: import the frazioni anew, by the same survey"
            )


def _shares(frazione: Area, others: Sequence[Area]) -> Iterator[str]:
    """Another frazione that goes on serving on the same ground: whoever is in both can be told by either name."""
    for other in others:
        shared = km2_shared(frazione.fence, other.fence)
        if shared > STRAY_SHARE * min(frazione.fence.area_km2, other.fence.area_km2):
            yield (
                f"{frazione.name} ({frazione.code}) shares {shared:.2f} km² with {other.name} ({other.code}): if it "
                f"takes its place, end that one with `python -m geo end {other.code}`"
            )


def row_of(change: Change, state: AreaState, valid_from: datetime) -> tables.Area:
    """The version as it is kept."""
    area = change.area
    return tables.Area(
        code=area.code,
        version=area.version,
        state=state,
        kind=area.kind,
        name=area.name,
        parent=area.parent,
        authority=change.authority,
        boundary=to_geojson(area.fence),
        source=area.source,
        licence=area.licence,
        demonstration=area.demonstration,
        hash=hash_of(area),
        valid_from=valid_from,
    )


def hash_of(area: Area) -> str:
    """SHA-256 of all that makes this version of the area what it is, but for its number."""
    said = [area.code, area.name, area.kind.value, area.parent, area.source, area.licence, area.demonstration]
    return hashlib.sha256(json.dumps([*said, to_geojson(area.fence)], sort_keys=True).encode()).hexdigest()


async def _give_up_preparing(session: AsyncSession, codes: Sequence[str]) -> None:
    """What was being prepared never serves: something newer has come."""
    for some in _parts_of(codes):
        await session.execute(
            update(tables.Area)
            .where(tables.Area.code.in_(some), tables.Area.state == AreaState.PREPARING)
            .values(state=AreaState.ENDED, valid_to=tables.Area.valid_from)
        )


async def _end(session: AsyncSession, codes: Sequence[str], now: datetime) -> set[str]:
    """What serves under these codes serves no more. Whose it was."""
    owners = set[str]()
    for some in _parts_of(codes):
        theirs = select(tables.Area.authority).where(
            tables.Area.code.in_(some), tables.Area.state == AreaState.SERVING, tables.Area.authority.is_not(None)
        )
        owners.update(filter(None, await session.scalars(theirs.distinct())))
        await session.execute(
            update(tables.Area)
            .where(tables.Area.code.in_(some), tables.Area.state == AreaState.SERVING)
            .values(state=AreaState.ENDED, valid_to=now)
        )
    return owners
