"""An alert's areas → geofence → recipients. The same code for the preview and for the sending.

Fail towards alerting: somebody whose place is not known is told, somebody known by frazione only is told when
the drawing touches the frazione, the boundary is inside.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from sqlalchemy import Row, and_, or_, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import atlas
from alerting.domain.areas import KNOWS_WHO, AreaState
from alerting.domain.authority import Authority
from alerting.domain.choices import Topic
from alerting.domain.delivery import FIRST_FINAL, MAY_HAVE_ARRIVED, Channel
from alerting.domain.lanes import Lane
from alerting.domain.recipients import Place, Precision
from alerting.persistence import dialects, tables
from geo.areas import STRAY_SHARE, Area, parts_of
from geo.cells import CellRange, cover
from geo.matching import inside
from geo.shapes import Geofence, km2_outside


@dataclass(frozen=True, slots=True)
class Target:
    """Who is meant, in the publisher's words: named areas, and what was drawn, but for what is to be left out.

    `versions` says as which version an area was named: that one, and the one that serves by now, are meant both.
    `told` are the dispatches of what an Update or a Cancel follows: whoever got one of these, or may have, is meant
    too, wherever they are; and nobody else where `only_told`. `lane` leaves out the panels that are not for it, as a
    siren is for flash alone; None leaves out none. Of a `topic` other than the emergencies only those are told who
    want it, and those who got what it follows.
    """

    authority: str
    live: bool
    areas: tuple[str, ...]
    drawn: Geofence | None
    without: Geofence | None = None
    versions: Mapping[str, int] = field(default_factory=dict)
    told: tuple[int, ...] = ()
    only_told: bool = False
    lane: Lane | None = None
    topic: Topic = Topic.EMERGENZE


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
    addresses: str = "JOIN addresses a ON a.recipient_id = r.id"
    """How a recipient's addresses are looked up."""
    wanted: str = ""
    """And who of them wants to be told of its topic; of emergencies everybody."""
    is_few: bool = False
    """They are known one by one: no need to go by pages."""

    @property
    def people(self) -> str:
        """From recipients `r` with their addresses `a`, those who are told, and where."""
        # Part by part: of each PostgreSQL makes a hash, where it would walk through their union again and again.
        condition = " OR ".join(f"r.id IN ({part})" for part in self.parts) or "1 = 0"
        return PEOPLE.format(condition=condition, address=self.address, addresses=self.addresses, wanted=self.wanted)

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


TOLD = """
         r.authority = :authority AND r.live = :live AND r.left_at IS NULL
     AND {address} AND a.sealed IS NOT NULL AND a.refused_at IS NULL
     AND a.account IN (SELECT k.name FROM channel_accounts k WHERE k.live = :live)"""
PEOPLE = f"""
    FROM recipients r {{addresses}}
   WHERE {TOLD}{{wanted}}
     AND r.id > :after AND r.id <= :upto AND ({{condition}})"""


PLACE_NOT_KNOWN = """
SELECT u.id FROM recipients u WHERE u.authority = :authority AND NOT u.located AND u.left_at IS NULL
   AND u.id > :after AND u.id <= :upto"""

BIGGEST_ID = 2**63 - 1
EVERYBODY = {"after": 0, "upto": BIGGEST_ID}


async def select_recipients(session: AsyncSession, target: Target, authority: Authority) -> Selection:
    """How to find the recipients of a target. Reads only the places near a drawn edge; the rest is SQL."""
    parameters: dict[str, Any] = {"authority": target.authority, "live": target.live, **EVERYBODY}
    parts, address, wanted = [], "a.rank = 0", _wanted(target.topic)
    addresses = dialects.joined(session, "addresses", "a", "recipient_id = r.id")
    if target.told:
        got_it = _may_have_got(parameters, target.told)
        parts.append(f"SELECT x.recipient_id {got_it}")
        # Where they got it, which may not be where they are told first; whoever did not, where they are told first.
        # An address that was erased or refused since is none: they are told where they are told first.
        there = f"{got_it} AND x.sealed IS NOT NULL AND x.refused_at IS NULL"
        address = f"(a.id IN (SELECT x.id {got_it}) OR (a.rank = 0 AND r.id NOT IN (SELECT x.recipient_id {there})))"
        # Whoever heard of it hears how it goes on, whatever they have chosen since.
        wanted = wanted and f" AND ({wanted.removeprefix(' AND ')} OR r.id IN (SELECT x.recipient_id {got_it}))"
    if mute := await _mute(session, target):
        address = f"{address} AND a.id NOT IN ({', '.join(map(str, mute))})"
    if target.only_told:
        return Selection(tuple(parts), parameters, address, addresses)
    parts.append(PLACE_NOT_KNOWN)
    named = await _named(session, target)
    if target.without is None:
        parts += _members([row for row in named if row.state in KNOWS_WHO])
        fences = [atlas.fence_of(row) for row in named if row.state not in KNOWS_WHO]
        parts += [part for fence in fences for part in await _inside(session, fence, parameters)]
    elif named:
        # Their parts too, as far as they lie over the border: whoever belongs to a part belongs to the whole.
        meant = [atlas.area_of(row) for row in named]
        theirs = [part for whole in meant for part in parts_of(whole, authority.territory.areas)]
        shapes = (shape for area in (*meant, *theirs) for shape in area.fence.shapes)
        fence = Geofence(tuple(dict.fromkeys(shapes)), without=target.without)
        parts += await _inside(session, fence, parameters)
    if target.drawn is not None:
        parts += await _inside(session, replace(target.drawn, without=target.without), parameters)
    parts += _by_name_only(target, {row.id for row in named}, authority, parameters)
    return Selection(tuple(parts), parameters, address, addresses, wanted)


def _wanted(topic: Topic) -> str:
    """Nothing for the emergencies: nobody's choice is even looked at."""
    return "" if topic is Topic.EMERGENZE else f" AND (r.topics & {topic.bit}) <> 0"


async def _mute(session: AsyncSession, target: Target) -> list[int]:
    """The addresses of panels that are not for this lane; but for those that were told of what this follows."""
    if target.lane is None:
        return []
    panel = tables.Panel
    theirs = select(panel.address_id, panel.only).where(panel.authority == target.authority).order_by(panel.id)
    mute = [address for address, only in (await session.execute(theirs)).all() if str(target.lane) not in only]
    if not mute or not target.told:
        return mute
    told = select(tables.Delivery.address_id).where(
        tables.Delivery.address_id.in_(mute), tables.Delivery.dispatch_id.in_(target.told)
    )
    return sorted(set(mute) - set(await session.scalars(told)))


async def _named(session: AsyncSession, target: Target) -> Sequence[tables.Area]:
    """The versions that are meant by name."""
    if not target.areas:
        return []
    area = tables.Area
    as_drafted = (and_(area.code == code, area.version == version) for code, version in target.versions.items())
    meant = select(area).where(area.code.in_(target.areas), or_(area.state == AreaState.SERVING, *as_drafted))
    return (await session.scalars(meant.order_by(area.id))).all()


def _members(areas: Sequence[tables.Area]) -> list[str]:
    numbers = ", ".join(str(row.id) for row in areas)
    return [f"SELECT m.recipient_id FROM memberships m WHERE m.area IN ({numbers}) AND {_window('m')}"] if areas else []


def _by_name_only(target: Target, named: set[int], authority: Authority, parameters: dict[str, Any]) -> list[str]:
    """Whoever has only said the name of an area: told if any of it is meant, and not all of it left out."""
    drawn = target.drawn and target.drawn.planar
    meant = tuple(
        area.code
        for area in authority.territory.areas
        if (drawn is not None and area.fence.planar.intersects(drawn))
        or (target.without is not None and not named.isdisjoint(_around(authority, area)))
        if target.without is None or not _is_within(area, target.without)
    )
    if not meant:
        return []
    codes = _in(parameters, "touched", meant)
    return [f"SELECT p.recipient_id FROM places p WHERE p.lat IS NULL AND p.area IN {codes} AND {_window('p')}"]


def _around(authority: Authority, area: Area) -> frozenset[int]:
    return authority.territory.around(Place(Precision.FRAZIONE, (area.code,)))


def _is_within(area: Area, without: Geofence) -> bool:
    return km2_outside(area.fence, without) <= STRAY_SHARE * area.fence.area_km2


def _may_have_got(parameters: dict[str, Any], told: Sequence[int]) -> str:
    """On whichever of their addresses: who was told on the second is the same person."""
    stands = ", ".join(str(value) for value in sorted(progress.value for progress in MAY_HAVE_ARRIVED))
    return (
        "FROM addresses x JOIN deliveries o ON o.address_id = x.id"
        f" WHERE {_window('x')} AND o.dispatch_id IN {_in(parameters, 'told', told)} AND o.progress IN ({stands})"
    )


async def _inside(session: AsyncSession, fence: Geofence, parameters: dict[str, Any]) -> list[str]:
    """Whoever has a point in it: whole cells by their numbers, and along the edge one by one."""
    full, edge = cover(fence)
    parts, number = [], len(parameters)
    if full:
        parameters[f"full{number}"] = json.dumps(full)
        parts.append(
            f"SELECT p.recipient_id FROM places p JOIN ({dialects.pairs(session, f'full{number}', 'first', 'last')}) c"
            f" ON p.cell BETWEEN c.first AND c.last WHERE {_window('p')}"
        )
    if near := await _inside_edge_cells(session, fence, edge):
        parameters[f"near{number}"] = json.dumps(near)
        parts.append(dialects.numbers(session, f"near{number}"))
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
    channel: Channel
    recipients: int
    waiting_before: int
    per_second: float

    def minutes(self, people: int | None = None) -> float:
        """Until the last of so many people is handed over; of all of them, where nobody says how many."""
        return round((self.waiting_before + (self.recipients if people is None else people)) / self.per_second / 60, 2)


@dataclass(frozen=True, slots=True)
class Preview:
    """Whom an alert would reach, before anybody is told."""

    recipients: int
    place_unknown: int
    by_area: dict[str, int]
    by_account: tuple[AccountShare, ...]
    """All the authority has, also those on which nobody is meant."""

    @property
    def minutes(self) -> float:
        """Until the last hand-over, all accounts working side by side."""
        return max((share.minutes() for share in self.by_account if share.recipients), default=0.0)


COUNT = """
WITH meant(id) AS ({meant}), people AS MATERIALIZED ({people})
SELECT '' AS area, account, count(*), sum(CASE WHEN located THEN 0 ELSE 1 END) FROM people GROUP BY account
 UNION ALL {belonging}"""
"""How many are told on each account, how many of them live nobody knows where, and how many belong to each area.

Each is looked up in turn, by indexes that hold all that is asked: left to itself PostgreSQL, which cannot guess how
many are meant, reads through millions of others.
"""
OF_FEW = """
SELECT x.code, '', count(*), 0 FROM (SELECT DISTINCT area, recipient_id FROM ({areas}) m) m
  JOIN areas x ON x.id = m.area AND x.state = 'serving' GROUP BY x.code"""
OF_MANY = """
SELECT x.code, '', (SELECT count(DISTINCT m.recipient_id) FILTER (WHERE m.recipient_id IN (SELECT id FROM people))
                      FROM memberships m WHERE m.area = x.id), 0
  FROM areas x WHERE x.state = 'serving' AND x.authority = :authority AND x.code <> :authority"""
FEW = 20_000
"""For so many it is asked in which areas they are; for more, of each area who of them is in it."""


async def preview(session: AsyncSession, target: Target, authority: Authority, lane: Lane) -> Preview:
    """Counts by account and by the comune's areas; minutes given what already waits in this lane and above."""
    selection = await select_recipients(session, replace(target, lane=lane), authority)
    counted = await _count(session, selection) if selection.parts else []
    accounts = {account: (int(number), int(unknown)) for area, account, number, unknown in counted if not area}
    theirs = select(tables.ChannelAccount.name).where(
        tables.ChannelAccount.authority == target.authority, tables.ChannelAccount.live == target.live
    )
    names = sorted({*accounts, *await session.scalars(theirs)})
    shares = [await _share(session, name, accounts.get(name, (0, 0))[0], lane) for name in names]
    recipients, unknown = (sum(counts) for counts in zip(*accounts.values(), strict=True)) if accounts else (0, 0)
    by_area = {area: int(number) for area, _, number, _ in counted if area and number}
    return Preview(
        recipients=recipients,
        place_unknown=unknown,
        # Whose home is known lives in the comune: that need not be counted.
        by_area=by_area | ({authority.code: recipients - unknown} if recipients > unknown else {}),
        by_account=tuple(shares),
    )


async def _count(session: AsyncSession, selection: Selection) -> Sequence[Row[str, str, int, int]]:
    meant = " UNION ALL ".join(selection.parts)
    number = await session.scalar(text(f"SELECT count(*) FROM ({meant} LIMIT {FEW + 1}) q"), selection.parameters)
    if dialects.is_postgresql(session):
        await session.execute(text("SET LOCAL work_mem = '64MB'"))  # a million ids in memory, and not on the disk
    people = dialects.for_each(
        session,
        "(SELECT id FROM meant GROUP BY id ORDER BY id) q",
        "r.id, r.located, a.account",
        "recipients r CROSS JOIN addresses a",
        f"r.id = q.id AND a.recipient_id = q.id AND {TOLD.format(address=selection.address)}{selection.wanted}",
    )
    areas = dialects.for_each(
        session, "people", "m.area, m.recipient_id", "memberships m", "m.recipient_id = people.id"
    )
    belonging = OF_FEW.format(areas=areas) if number <= FEW else OF_MANY
    count = COUNT.format(meant=meant, people=people, belonging=belonging)
    return (await session.execute(text(count), selection.parameters)).all()


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
    return AccountShare(account, Channel(channel), recipients, int(waiting), rate)


def _in(parameters: dict[str, Any], name: str, values: Sequence[Any]) -> str:
    for number, value in enumerate(values):
        parameters[f"{name}{number}"] = value
    return "(" + ", ".join(f":{name}{number}" for number in range(len(values))) + ")"
