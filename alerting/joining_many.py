"""Many people subscribe at once, for trials and imports: the rows `subscribing.join` writes, in bulk."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import Enum
from typing import Any, TypeVar

import psycopg
from sqlalchemy import ColumnElement, func, insert, literal, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from alerting import atlas
from alerting.domain.authority import Territory
from alerting.domain.recipients import Place, Precision, known_by
from alerting.persistence import dialects, tables
from alerting.sealing import Seal
from alerting.subscribing import ANOTHERS, SecondAddressTaken, Subscriber, in_use, place_values

AT_ONCE = 1000
"""Values in one list of a query: SQLite takes some 32,000."""

WORTH_COPYING = 200
"""Rows, from which on PostgreSQL takes them faster by COPY."""

T = TypeVar("T")
Key = tuple[str, bytes]
"""An account and the fingerprint of an address on it: one recipient at most."""


@dataclass(frozen=True, slots=True)
class Proof:
    """How somebody agreed who did not write to us: the words, the day, the SHA-256 of the document that says so."""

    words: str
    given_on: date | None = None
    document: bytes | None = None


@dataclass(frozen=True, slots=True)
class Joining:
    """Somebody who is to be subscribed. `live` False: reached by exercises only.

    `also` are further addresses on other accounts, in the order in which they are tried after the first. `keyword` is
    what they wrote themselves, where they did.
    """

    who: Subscriber
    places: tuple[Place, ...]
    live: bool
    also: tuple[Subscriber, ...] = ()
    proof: Proof | None = None
    keyword: str = ""

    @property
    def everywhere(self) -> tuple[Subscriber, ...]:
        """All they are to be reached at, in the order in which they are tried."""
        return (self.who, *self.also)


@dataclass(frozen=True, slots=True)
class Joined:
    """How many were new; how many were there or came twice; who could not join, by place in the list, and why.

    `left` are those who had left and were not brought back, by their places.
    """

    new: int
    existing: int
    refused: tuple[tuple[int, SecondAddressTaken], ...]
    left: frozenset[int]


@dataclass(frozen=True, slots=True)
class Brought:
    """Those of a list, by their places in it: who is new, who was there and got an address more, who had left once.

    Whoever is in none of these was there. `without` are addresses left out, as they are or would be another's.
    """

    new: frozenset[int]
    completed: frozenset[int]
    left: frozenset[int]
    without: frozenset[int]


async def join_many(
    session: AsyncSession,
    people: Sequence[Joining],
    seal: Seal,
    *,
    keyword: str,
    now: datetime,
    brings_back: bool = True,
) -> Joined:
    """Subscribe everybody who is not in yet, and give those who are the addresses that are missing.

    `brings_back` False: whoever had left stays away, as where it is not they who ask.
    """
    keys = [[(one.access.name, seal.fingerprint(known_by(one.address))) for one in p.everywhere] for p in people]
    owners = await _owners(session, [key for some in keys for key in some])
    left = frozenset() if brings_back else await _left(session, people, keys, owners)
    known = {owners[first] for one, (first, *_) in zip(people, keys, strict=True) if one.also and first in owners}
    sorting = Sorting(owners, await _reached(session, sorted(known)))
    for index, one in enumerate(people):
        if index not in left:
            sorting.add(index, one, keys[index])
    ids = await _settle(session, {index: people[index] for index in sorting.new}, now)
    await _reach(session, sorting.addresses, ids, seal, keyword, now)
    there = len(people) - len(ids) - len(sorting.refused) - len(left)
    return Joined(len(ids), there, tuple(sorting.refused), left)


async def bring_many(
    session: AsyncSession,
    people: Sequence[Joining],
    seal: Seal,
    *,
    keyword: str,
    now: datetime,
    dry_run: bool = False,
) -> Brought:
    """As `join_many`, for people who did not ask just now: whoever had left stays away, whatever the list says.

    An address that is another's is left out; who gives a known one beside a new one is the person known by it.
    """
    keys = [[(one.access.name, seal.fingerprint(known_by(one.address))) for one in p.everywhere] for p in people]
    owners = await _owners(session, [key for some in keys for key in some])
    left = await _left(session, people, keys, owners)
    known = {owners[key] for some in keys if len(some) > 1 for key in some if key in owners}
    sorting = Sorting(owners, await _reached(session, sorted(known)))
    for index, one in enumerate(people):
        if index not in left:
            sorting.bring(index, one, keys[index])
    if not dry_run:
        ids = await _settle(session, {index: people[index] for index in sorting.new}, now)
        kept = await _staying(session, sorted({one.owner for one in sorting.addresses if one.owner >= 0}))
        sorting.addresses = [one for one in sorting.addresses if one.owner < 0 or one.owner in kept]
        await _reach(session, sorting.addresses, ids, seal, keyword, now)
    return Brought(
        frozenset(sorting.new),
        frozenset(one.index for one in sorting.addresses if one.owner >= 0),
        left,
        frozenset(sorting.without),
    )


async def _left(
    session: AsyncSession, people: Sequence[Joining], keys: Sequence[Sequence[Key]], owners: Mapping[Key, int]
) -> frozenset[int]:
    """Whom this authority has ever known to leave, on whichever channel, and does not know now; by their places.

    Asked after `owners` was: somebody who leaves between the two is not found as an owner, and has left when this
    looks.
    """
    unknown = [{fingerprint for account, fingerprint in some if (account, fingerprint) not in owners} for some in keys]
    codes = {one.who.authority.code for one in people}
    gone: set[bytes] = set()
    for some in _parts(sorted(set().union(*unknown))):
        leaving = select(tables.Consent.fingerprint).where(
            _among(session, tables.Consent.fingerprint, some),
            tables.Consent.what == "leave",
            tables.Consent.authority.in_(codes),
        )
        gone.update(bytes(fingerprint) for fingerprint in await session.scalars(leaving) if fingerprint)
    return frozenset(index for index, theirs in enumerate(unknown) if theirs & gone)


async def _staying(session: AsyncSession, recipients: Sequence[int]) -> set[int]:
    """Those who have not left, and cannot until the commit. In one order, so that nobody waits in a circle."""
    kept: set[int] = set()
    for some in _parts(recipients):
        rows = select(tables.Recipient.id).where(
            _among(session, tables.Recipient.id, some), tables.Recipient.left_at.is_(None)
        )
        kept.update(await session.scalars(rows.order_by(tables.Recipient.id).with_for_update()))
    return kept


# ── who is new, who is there, whose an address is ───────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class NewAddress:
    """An address that `owner` is to get: a recipient's id, or for somebody new what `_newcomer` says."""

    owner: int
    rank: int
    who: Subscriber
    fingerprint: bytes
    index: int
    proof: Proof | None
    keyword: str = ""


@dataclass
class Sorting:
    """Who of the list is new, and which addresses are to be written; one person after the other.

    `owners`: whose an address is already. `ranks`: the accounts each of them is reached on.
    """

    owners: dict[Key, int]
    ranks: dict[int, dict[str, int]]
    new: list[int] = field(default_factory=list)
    addresses: list[NewAddress] = field(default_factory=list)
    refused: list[tuple[int, SecondAddressTaken]] = field(default_factory=list)
    without: list[int] = field(default_factory=list)

    def add(self, index: int, one: Joining, keys: Sequence[Key]) -> None:
        owner = self.owners.get(keys[0], _newcomer(index))
        try:
            added = self._missing(owner, index, one, keys)
        except SecondAddressTaken as taken:
            self.refused.append((index, taken))
            return
        self._keep(owner, index, added)

    def bring(self, index: int, one: Joining, keys: Sequence[Key]) -> None:
        """As `add`, of somebody who may be known by any address; what they cannot have is left out."""
        owner = next((self.owners[key] for key in keys if key in self.owners), _newcomer(index))
        if keys[0] not in self.owners and keys[0][0] in self.ranks.get(owner, {}):
            owner = _newcomer(index)  # two in one house share an e-mail, and each has a telephone
        theirs = dict(self.ranks.get(owner, {}))
        added = []
        for who, key in zip(one.everywhere, keys, strict=True):
            found = self.owners.get(key)
            if found == owner:
                continue
            if found is not None or key[0] in theirs:
                self.without.append(index)
                continue
            theirs[key[0]] = max(theirs.values(), default=-1) + 1
            added.append(NewAddress(owner, theirs[key[0]], who, key[1], index, one.proof))
        self._keep(owner, index, added)

    def _keep(self, owner: int, index: int, added: Sequence[NewAddress]) -> None:
        if owner == _newcomer(index):
            self.new.append(index)
        for address in added:
            account = address.who.access.name
            self.owners[account, address.fingerprint] = owner
            self.ranks.setdefault(owner, {})[account] = address.rank
        self.addresses += added

    def _missing(self, owner: int, index: int, one: Joining, keys: Sequence[Key]) -> list[NewAddress]:
        theirs = dict(self.ranks.get(owner, {}))
        missing = []
        for number, (who, key) in enumerate(zip(one.everywhere, keys, strict=True)):
            found = self.owners.get(key)
            if found == owner:
                continue
            if found is not None:
                raise SecondAddressTaken(number - 1, ANOTHERS)
            if key[0] in theirs:
                raise SecondAddressTaken(number - 1, in_use(who.access.channel))
            theirs[key[0]] = max(theirs.values(), default=-1) + 1
            missing.append(NewAddress(owner, theirs[key[0]], who, key[1], index, one.proof, one.keyword))
        return missing


def _newcomer(index: int) -> int:
    """Stands for the recipient that person `index` of the list will be: no recipient has a number below 0."""
    return -index - 1


async def _owners(session: AsyncSession, keys: Iterable[Key]) -> dict[Key, int]:
    """Whose the addresses are that are somebody's."""
    by_account: dict[str, list[bytes]] = defaultdict(list)
    for account, fingerprint in dict.fromkeys(keys):
        by_account[account].append(fingerprint)
    found: dict[Key, int] = {}
    for account, fingerprints in by_account.items():
        for some in _parts(fingerprints):
            known = select(tables.Address.fingerprint, tables.Address.recipient_id).where(
                tables.Address.account == account, _among(session, tables.Address.fingerprint, some)
            )
            for theirs, recipient in await session.execute(known):
                if theirs is not None:
                    found[account, bytes(theirs)] = recipient
    return found


async def _reached(session: AsyncSession, recipients: Sequence[int]) -> dict[int, dict[str, int]]:
    """The accounts these are reached on, and in which order they are tried."""
    found: dict[int, dict[str, int]] = defaultdict(dict)
    for some in _parts(recipients):
        theirs = select(tables.Address.recipient_id, tables.Address.account, tables.Address.rank).where(
            _among(session, tables.Address.recipient_id, some)
        )
        for recipient, account, rank in await session.execute(theirs):
            found[recipient][account] = rank
    return found


# ── the rows ────────────────────────────────────────────────────────────────────────────────────────


async def _settle(session: AsyncSession, new: Mapping[int, Joining], now: datetime) -> dict[int, int]:
    """Recipient, places and areas of each new person. Their ids, by place in the list."""
    territories = {
        one.who.authority.code: await atlas.current(session, one.who.authority)
        for one in {one.who.authority.code: one for one in new.values()}.values()
    }
    # Recipients of one kind are the same row until something points to them: their ids may come in any order.
    kinds: dict[tuple[str, bool, str, bool], list[int]] = defaultdict(list)
    for index, one in new.items():
        authority = one.who.authority
        located = territories[authority.code].knows_home(_said(one))
        kinds[authority.code, one.live, authority.language, located].append(index)
    ids: dict[int, int] = {}
    for (authority_code, live, language, located), members in kinds.items():
        row = {
            "authority": authority_code,
            "live": live,
            "language": language,
            "located": located,
            "is_channel": False,
            "joined_at": now,
        }
        ids |= zip(members, await _numbered(session, tables.Recipient, [row] * len(members)), strict=True)
    await _place_all(session, [(ids[index], one) for index, one in new.items()], territories)
    return ids


def _said(one: Joining) -> list[Place]:
    return [place for place in one.places if place.precision is not Precision.NONE]


async def _place_all(
    session: AsyncSession, people: Sequence[tuple[int, Joining]], territories: Mapping[str, Territory]
) -> None:
    places = [
        (recipient, territories[one.who.authority.code], place) for recipient, one in people for place in _said(one)
    ]
    if not places:
        return
    rows = [place_values(recipient, place) for recipient, _, place in places]
    ids = await _numbered(session, tables.Place, rows)
    memberships = [
        {"area": number, "recipient_id": recipient, "place_id": row}
        for (recipient, territory, place), row in zip(places, ids, strict=True)
        for number in sorted(territory.around(place))
    ]
    await _insert(session, tables.Membership, memberships)


async def _reach(
    session: AsyncSession,
    addresses: Sequence[NewAddress],
    ids: Mapping[int, int],
    seal: Seal,
    keyword: str,
    now: datetime,
) -> None:
    """The addresses, and the proof of each."""
    ids_of = {_newcomer(index): recipient for index, recipient in ids.items()}
    rows = [
        {
            "recipient_id": ids_of.get(one.owner, one.owner),
            "account": one.who.access.name,
            "fingerprint": one.fingerprint,
            "sealed": seal.seal(one.who.address),
            "other_fingerprint": seal.fingerprint(one.who.also) if one.who.also else None,
            "rank": one.rank,
            "not_before": 0.0,
        }
        # In one order for all, so that two lists with the same people wait for each other in no circle.
        for one in sorted(addresses, key=lambda one: (one.who.access.name, one.fingerprint))
    ]
    consents = [
        {
            "authority": one.who.authority.code,
            "channel": one.who.access.channel,
            "fingerprint": one.fingerprint,
            "what": "join",
            "keyword": (one.proof.words if one.proof else one.keyword or keyword)[:100],
            "policy_version": one.who.authority.policy.version,
            "policy_sha256": one.who.authority.policy.sha256,
            "said_at": one.who.wrote_at,
            "at": now,
            "given_on": one.proof.given_on if one.proof else None,
            "document": one.proof.document if one.proof else None,
        }
        for one in addresses
    ]
    await _insert(session, tables.Address, rows)
    await _insert(session, tables.Consent, consents)


async def _numbered(session: AsyncSession, table: type[tables.Table], rows: list[dict[str, Any]]) -> list[int]:
    """Insert rows that number themselves; their numbers, in the same order."""
    if len(rows) < WORTH_COPYING or not dialects.is_postgresql(session):
        key = table.__table__.c.id
        found = await session.scalars(insert(table).returning(key, sort_by_parameter_order=True), rows)
        return list(found)
    drawn = text(
        f"SELECT nextval(pg_get_serial_sequence('{table.__tablename__}', 'id')) FROM generate_series(1, :many)"
    )
    ids = list(await session.scalars(drawn, {"many": len(rows)}))
    await _copy(session, table, [{"id": number} | row for number, row in zip(ids, rows, strict=True)])
    return ids


async def _insert(session: AsyncSession, table: type[tables.Table], rows: Sequence[dict[str, Any]]) -> None:
    if len(rows) >= WORTH_COPYING and dialects.is_postgresql(session):
        await _copy(session, table, rows)
    elif rows:
        await session.execute(insert(table), rows)


async def _copy(session: AsyncSession, table: type[tables.Table], rows: Sequence[dict[str, Any]]) -> None:
    """By COPY, in the session's own transaction: some ten times as fast as INSERT, and checked as strictly."""
    connection = await session.connection()
    raw = (await connection.get_raw_connection()).driver_connection
    assert isinstance(raw, psycopg.AsyncConnection)
    columns = ", ".join(rows[0])
    statement = f"COPY {table.__tablename__} ({columns}) FROM STDIN"
    try:
        async with raw.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                await copy.write_row([value.value if isinstance(value, Enum) else value for value in row.values()])
    except psycopg.Error as error:
        # What the server says beyond its first sentence shows the row.
        said = type(error)(error.diag.message_primary or type(error).__name__)
        raise DBAPIError.instance(statement, None, said, psycopg.Error, hide_parameters=True) from None


def _among(session: AsyncSession, column: InstrumentedAttribute[Any], values: Sequence[Any]) -> ColumnElement[bool]:
    """`column IN values`: for PostgreSQL as one parameter, as to read a thousand takes longer than to answer."""
    if not dialects.is_postgresql(session):
        return column.in_(values)
    return column == func.any(literal(list(values), ARRAY(column.type)))


def _parts(values: Sequence[T]) -> Iterator[Sequence[T]]:
    return (values[first : first + AT_ONCE] for first in range(0, len(values), AT_ONCE))
