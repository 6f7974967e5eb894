"""Crowds at the door: whoever only joins, and is not in yet, joins with the others, as `subscribing.join` would do it.

After a piece in the newspaper half a town writes the same word within minutes. One by one each would take fifteen trips
to the database; together they take as many.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from alerting.domain.recipients import Place, known_by
from alerting.joining_many import Joining, join_many
from alerting.persistence import dialects, tables
from alerting.sealing import Seal
from alerting.subscribing import Subscriber

Key = tuple[str, bytes]
"""An account and the fingerprint of an address on it."""


@dataclass(frozen=True, slots=True)
class AtTheDoor:
    """Somebody who wrote the word, and where they said they live."""

    who: Subscriber
    places: tuple[Place, ...]
    keyword: str


def names_of(who: Subscriber, seal: Seal) -> tuple[Key, ...]:
    """All that somebody is called by on an account; how we write to them comes first."""
    return tuple((who.access.name, seal.fingerprint(known_by(name))) for name in (who.address, who.also) if name)


def said_once(everybody: Iterable[Key]) -> frozenset[Key]:
    """The names in one text only: of whoever wrote two, the second may undo the first."""
    return frozenset(key for key, texts in Counter(everybody).items() if texts == 1)


async def known(session: AsyncSession, names: Iterable[Key]) -> dict[Key, int]:
    """The number of the address of each name that is somebody's, whichever of their names it is."""
    wanted = list(names)
    address = tables.Address
    found: dict[Key, int] = {}
    for column in (address.fingerprint, address.other_fingerprint):
        query = select(address.account, column, address.id).where(dialects.among(address.account, column, wanted))
        found |= {(account, bytes(name)): number for account, name, number in await session.execute(query) if name}
    return found


async def have_left(session: AsyncSession, names: Iterable[Key]) -> list[Key]:
    """Those of whom there is a proof that they left a comune, whichever it was."""
    by_print: dict[bytes, list[Key]] = {}
    for key in names:
        by_print.setdefault(key[1], []).append(key)
    proof = tables.Consent
    left = select(proof.fingerprint).distinct().where(proof.fingerprint.in_(sorted(by_print)), proof.what == "leave")
    return [key for print_ in await session.scalars(left) if print_ for key in by_print[bytes(print_)]]


async def join_together(
    session: AsyncSession, people: Mapping[Key, AtTheDoor], seal: Seal, now: datetime
) -> dict[Key, int]:
    """Subscribe these, who are in nobody's list yet. The number of each one's address."""
    joining: Sequence[Joining] = [
        Joining(one.who, one.places, live=not one.who.access.exercise, keyword=one.keyword) for one in people.values()
    ]
    await join_many(session, joining, seal, keyword="", now=now)
    return await known(session, people)
