"""Many people subscribe at once, for trials and imports: the rows `subscribing.join` writes, in bulk."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from alerting.domain.recipients import Place, Precision
from alerting.persistence import tables
from alerting.sealing import Seal
from alerting.subscribing import Subscriber, areas_of, is_located
from geo.cells import cell_of

FINGERPRINTS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Joining:
    """Somebody who is to be subscribed. `live` False: reached by exercises only."""

    who: Subscriber
    place: Place
    live: bool


async def join_many(
    session: AsyncSession, people: Sequence[Joining], seal: Seal, *, keyword: str, now: datetime
) -> tuple[int, int]:
    """Subscribe everybody who is not in yet. How many were new, and how many were there or came twice."""
    new = await _not_yet_in(session, people, seal)
    # Recipients of one kind are the same row until something points to them: their ids may come in any order.
    kinds: dict[tuple[str, bool, str, bool], list[tuple[bytes, Joining]]] = defaultdict(list)
    for key, one in new.items():
        authority = one.who.authority
        located = is_located(one.place, areas_of(one.place, authority))
        kinds[authority.code, one.live, authority.language, located].append((key[1], one))
    for (authority_code, live, language, located), members in kinds.items():
        row = {
            "authority": authority_code,
            "live": live,
            "language": language,
            "located": located,
            "is_channel": False,
            "joined_at": now,
        }
        ids = (
            await session.scalars(insert(tables.Recipient).returning(tables.Recipient.id), [row] * len(members))
        ).all()
        await _attach(session, list(zip(ids, members, strict=True)), seal, keyword, now)
    return len(new), len(people) - len(new)


async def _not_yet_in(session: AsyncSession, people: Sequence[Joining], seal: Seal) -> dict[tuple[str, bytes], Joining]:
    """By account and fingerprint, those whom no address row names; of two with one address the first."""
    wanted: dict[tuple[str, bytes], Joining] = {}
    for one in people:
        wanted.setdefault((one.who.access.name, seal.fingerprint(one.who.address)), one)
    by_account: dict[str, list[bytes]] = defaultdict(list)
    for account, fingerprint in wanted:
        by_account[account].append(fingerprint)
    for account, fingerprints in by_account.items():
        for some in _parts(fingerprints):
            known = select(tables.Address.fingerprint).where(
                tables.Address.account == account, tables.Address.fingerprint.in_(some)
            )
            for found in await session.scalars(known):
                if found is not None:
                    del wanted[account, bytes(found)]
    return wanted


async def _attach(
    session: AsyncSession,
    members: list[tuple[int, tuple[bytes, Joining]]],
    seal: Seal,
    keyword: str,
    now: datetime,
) -> None:
    """Address, place, areas and proof of each recipient."""
    addresses: list[dict[str, Any]] = []
    consents: list[dict[str, Any]] = []
    places: list[dict[str, Any]] = []
    memberships: list[dict[str, Any]] = []
    areas: dict[Place, set[str]] = {}
    for recipient, (fingerprint, one) in members:
        who, place = one.who, one.place
        addresses.append(
            {
                "recipient_id": recipient,
                "account": who.access.name,
                "fingerprint": fingerprint,
                "sealed": seal.seal(who.address),
                "rank": 0,
            }
        )
        consents.append(
            {
                "authority": who.authority.code,
                "channel": who.access.channel,
                "fingerprint": fingerprint,
                "what": "join",
                "keyword": keyword[:100],
                "policy_version": who.authority.policy.version,
                "at": now,
            }
        )
        if place.precision is Precision.NONE:
            continue
        if place not in areas:
            areas[place] = areas_of(place, who.authority)
        places.append(_place(recipient, place))
        memberships += [{"area": code, "recipient_id": recipient} for code in sorted(areas[place])]
    for table, rows in (
        (tables.Address, addresses),
        (tables.Consent, consents),
        (tables.Place, places),
        (tables.Membership, memberships),
    ):
        if rows:
            await session.execute(insert(table), rows)


def _place(recipient: int, place: Place) -> dict[str, Any]:
    point = place.point
    return {
        "recipient_id": recipient,
        "label": "casa",
        "lat": point.lat if point else None,
        "lon": point.lon if point else None,
        "cell": cell_of(point.lat, point.lon) if point else None,
        "area": place.areas[0] if place.areas else None,
    }


def _parts(fingerprints: Sequence[bytes]) -> Iterable[Sequence[bytes]]:
    return (
        fingerprints[first : first + FINGERPRINTS_AT_ONCE]
        for first in range(0, len(fingerprints), FINGERPRINTS_AT_ONCE)
    )
