"""Join, leave, say where one lives. The consent is kept as proof, without the address."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from alerting.domain.authority import Authority, ChannelAccess
from alerting.domain.recipients import NOWHERE, Place, Precision
from alerting.persistence import tables
from alerting.sealing import Seal
from geo.cells import cell_of


@dataclass(frozen=True, slots=True)
class Subscriber:
    """Somebody at one address of one account of an authority, whether subscribed or not."""

    authority: Authority
    access: ChannelAccess
    address: str


async def join(
    session: AsyncSession,
    who: Subscriber,
    seal: Seal,
    *,
    keyword: str,
    now: datetime,
    place: Place = NOWHERE,
    live: bool = True,
) -> tuple[int, bool]:
    """Subscribe. The recipient's id, and whether they are new; to join again is not an error."""
    address = await find(session, who, seal)
    if address is not None:
        return address.recipient_id, False
    recipient = tables.Recipient(
        authority=who.authority.code, live=live, language=who.authority.language, joined_at=now
    )
    session.add(recipient)
    await session.flush()
    session.add(
        tables.Address(
            recipient_id=recipient.id,
            account=who.access.name,
            fingerprint=seal.fingerprint(who.address),
            sealed=seal.seal(who.address),
        )
    )
    await settle(session, recipient, place, who.authority)
    _keep_proof(session, who, seal, "join", keyword, now)
    return recipient.id, True


async def leave(session: AsyncSession, who: Subscriber, seal: Seal, *, keyword: str, now: datetime) -> bool:
    """Unsubscribe at once, in the middle of a broadcast too, and erase the address. Whether they were in."""
    address = await find(session, who, seal)
    if address is None:
        return False
    recipient = await session.get_one(tables.Recipient, address.recipient_id)
    recipient.left_at, recipient.located = now, False
    address.sealed = address.fingerprint = None
    for table in (tables.Place, tables.Membership):
        await session.execute(delete(table).where(table.recipient_id == recipient.id))
    _keep_proof(session, who, seal, "leave", keyword, now)
    return True


async def find(session: AsyncSession, who: Subscriber, seal: Seal) -> tables.Address | None:
    """The address row of a subscriber, or None for somebody who is not one."""
    return await session.scalar(
        select(tables.Address).where(
            tables.Address.account == who.access.name,
            tables.Address.fingerprint == seal.fingerprint(who.address),
        )
    )


async def settle(session: AsyncSession, recipient: tables.Recipient, place: Place, authority: Authority) -> None:
    """Give a recipient one place, instead of what was known before, and derive the areas it lies in."""
    for table in (tables.Place, tables.Membership):
        await session.execute(delete(table).where(table.recipient_id == recipient.id))
    areas = areas_of(place, authority)
    recipient.located = is_located(place, areas)
    if place.precision is Precision.NONE:
        return
    point = place.point
    session.add(
        tables.Place(
            recipient_id=recipient.id,
            lat=point.lat if point else None,
            lon=point.lon if point else None,
            cell=cell_of(point.lat, point.lon) if point else None,
            area=place.areas[0] if place.areas else None,
        )
    )
    session.add_all(tables.Membership(area=code, recipient_id=recipient.id) for code in sorted(areas))


def is_located(place: Place, areas: set[str]) -> bool:
    """Whether a place in these areas says where in the comune somebody is.

    Who named no more than the comune is told of everything in it, like who named nothing; and so is who stands in
    no area we know of, or nothing would ever reach them.
    """
    return bool(areas) and (place.point is not None or place.precision is Precision.FRAZIONE)


def areas_of(place: Place, authority: Authority) -> set[str]:
    """The codes of all areas of the authority a place lies in, and of those around them."""
    gazetteer = authority.territory.gazetteer
    found = {area.code for area in gazetteer.of(place.point)} if place.point else set(place.areas)
    parents = {parent for code in found if (parent := gazetteer.by_code(code).parent)}
    return found | parents


def _keep_proof(session: AsyncSession, who: Subscriber, seal: Seal, what: str, keyword: str, now: datetime) -> None:
    session.add(
        tables.Consent(
            authority=who.authority.code,
            channel=who.access.channel,
            fingerprint=seal.fingerprint(who.address),
            what=what,
            keyword=keyword[:100],
            policy_version=who.authority.policy.version,
            at=now,
        )
    )
