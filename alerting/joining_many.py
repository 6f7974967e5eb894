"""Many people subscribe at once, for trials and imports: the rows `subscribing.join` writes, in bulk."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import atlas
from alerting.domain.authority import Territory
from alerting.domain.recipients import Place, Precision, known_by
from alerting.persistence import tables
from alerting.sealing import Seal
from alerting.subscribing import ANOTHERS, SecondAddressTaken, Subscriber, in_use, place_values

AT_ONCE = 1000
"""Values in one list of a query: SQLite takes some 32,000."""

T = TypeVar("T")
Key = tuple[str, bytes]
"""An account and the fingerprint of an address on it: one recipient at most."""


@dataclass(frozen=True, slots=True)
class Joining:
    """Somebody who is to be subscribed. `live` False: reached by exercises only.

    `also` are further addresses on other accounts, in the order in which they are tried after the first.
    """

    who: Subscriber
    places: tuple[Place, ...]
    live: bool
    also: tuple[Subscriber, ...] = ()


@dataclass(frozen=True, slots=True)
class Joined:
    """How many were new; how many were there or came twice; who could not join, by place in the list, and why."""

    new: int
    existing: int
    refused: tuple[tuple[int, SecondAddressTaken], ...]


async def join_many(
    session: AsyncSession, people: Sequence[Joining], seal: Seal, *, keyword: str, now: datetime
) -> Joined:
    """Subscribe everybody who is not in yet, and give those who are the addresses that are missing."""
    keys = [[(one.access.name, seal.fingerprint(known_by(one.address))) for one in (p.who, *p.also)] for p in people]
    owners = await _owners(session, [key for some in keys for key in some])
    known = {owners[first] for one, (first, *_) in zip(people, keys, strict=True) if one.also and first in owners}
    sorting = Sorting(owners, await _reached(session, sorted(known)))
    for index, one in enumerate(people):
        sorting.add(index, one, keys[index])
    ids = await _settle(session, {index: people[index] for index in sorting.new}, now)
    await _reach(session, sorting.addresses, ids, seal, keyword, now)
    return Joined(len(ids), len(people) - len(ids) - len(sorting.refused), tuple(sorting.refused))


# ── who is new, who is there, whose an address is ───────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class NewAddress:
    """An address that `owner` is to get: a recipient's id, or for somebody new what `_newcomer` says."""

    owner: int
    rank: int
    who: Subscriber
    fingerprint: bytes


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

    def add(self, index: int, one: Joining, keys: Sequence[Key]) -> None:
        owner = self.owners.get(keys[0], _newcomer(index))
        try:
            added = self._missing(owner, one, keys)
        except SecondAddressTaken as taken:
            self.refused.append((index, taken))
            return
        if owner == _newcomer(index):
            self.new.append(index)
        for address in added:
            account = address.who.access.name
            self.owners[account, address.fingerprint] = owner
            self.ranks.setdefault(owner, {})[account] = address.rank
        self.addresses += added

    def _missing(self, owner: int, one: Joining, keys: Sequence[Key]) -> list[NewAddress]:
        theirs = dict(self.ranks.get(owner, {}))
        missing = []
        for number, (who, key) in enumerate(zip((one.who, *one.also), keys, strict=True)):
            found = self.owners.get(key)
            if found == owner:
                continue
            if found is not None:
                raise SecondAddressTaken(number - 1, ANOTHERS)
            if key[0] in theirs:
                raise SecondAddressTaken(number - 1, in_use(who.access.channel))
            theirs[key[0]] = max(theirs.values(), default=-1) + 1
            missing.append(NewAddress(owner, theirs[key[0]], who, key[1]))
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
                tables.Address.account == account, tables.Address.fingerprint.in_(some)
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
            tables.Address.recipient_id.in_(some)
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
        inserted = await session.scalars(insert(tables.Recipient).returning(tables.Recipient.id), [row] * len(members))
        ids |= zip(members, inserted.all(), strict=True)
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
    ids = await session.scalars(insert(tables.Place).returning(tables.Place.id, sort_by_parameter_order=True), rows)
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
            "rank": one.rank,
        }
        for one in addresses
    ]
    consents = [
        {
            "authority": one.who.authority.code,
            "channel": one.who.access.channel,
            "fingerprint": one.fingerprint,
            "what": "join",
            "keyword": keyword[:100],
            "policy_version": one.who.authority.policy.version,
            "at": now,
        }
        for one in addresses
    ]
    await _insert(session, tables.Address, rows)
    await _insert(session, tables.Consent, consents)


async def _insert(session: AsyncSession, table: type[tables.Table], rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        await session.execute(insert(table), rows)


def _parts(values: Sequence[T]) -> Iterator[Sequence[T]]:
    return (values[first : first + AT_ONCE] for first in range(0, len(values), AT_ONCE))
