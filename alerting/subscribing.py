"""Join, leave, say where one lives. The consent is kept as proof, without the address."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import case, delete, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import atlas
from alerting.domain.authority import Authority, ChannelAccess
from alerting.domain.delivery import Channel, Reason
from alerting.domain.recipients import Label, Place, Precision, known_by
from alerting.persistence import tables
from alerting.sealing import Seal
from geo.cells import cell_of
from geo.shapes import Point


@dataclass(frozen=True, slots=True)
class Subscriber:
    """Somebody at one address of one account of an authority, whether subscribed or not.

    `also` is what else the provider calls them: the BSUID of whoever may hide their number tomorrow. `wrote_at` is when
    they wrote what is acted upon, by the provider's clock; None where it was not they who wrote.
    """

    authority: Authority
    access: ChannelAccess
    address: str
    also: str = ""
    wrote_at: datetime | None = None


class SecondAddressTaken(Exception):
    """A further address cannot be this person's. `number` is its place among those they gave, from 0."""

    def __init__(self, number: int, sentence: str) -> None:
        super().__init__(sentence)
        self.number = number


MOVED = "(numero cambiato)"
"""Stands in the proofs where a keyword would: the provider said so, not the person."""

ANOTHERS = "is already another recipient's: remove that one, then register the person with both addresses"


def in_use(channel: Channel) -> str:
    """Why somebody gets no second address on a channel."""
    return f"this person is already reached on {channel} at another address: remove them, then register them anew"


async def join(
    session: AsyncSession,
    who: Subscriber,
    seal: Seal,
    *,
    keyword: str,
    now: datetime,
    places: Sequence[Place] = (),
    live: bool = True,
    also: Sequence[Subscriber] = (),
) -> tuple[int, bool]:
    """Subscribe. The recipient's id, and whether they are new; to join again is not an error.

    `also` are further addresses of the same person on other accounts, in the order in which they are tried when the
    first does not reach them; somebody who is there already gets those that are missing. Raises
    SecondAddressTaken where one is another's, or the person has another one there.
    """
    address = await find(session, who, seal)
    if address is not None:
        if address.refused_at is not None:
            await reopen(session, who, seal, keyword=keyword, now=now)
        await _add_missing(session, address.recipient_id, also, seal, keyword, now)
        return address.recipient_id, False
    recipient = tables.Recipient(
        authority=who.authority.code, live=live, language=who.authority.language, joined_at=now
    )
    session.add(recipient)
    await session.flush()
    _add_address(session, recipient.id, who, seal, 0, keyword, now)
    await _add_missing(session, recipient.id, also, seal, keyword, now)
    await settle(session, recipient, places, who.authority)
    return recipient.id, True


async def _add_missing(
    session: AsyncSession, recipient: int, also: Sequence[Subscriber], seal: Seal, keyword: str, now: datetime
) -> None:
    if not also:
        return
    # Locked: two who add an address at once would both find the person without one there.
    await session.get_one(tables.Recipient, recipient, with_for_update=True)
    theirs = await ranks(session, recipient)
    for number, one in enumerate(also):
        known = await find(session, one, seal)
        if known is not None and known.recipient_id != recipient:
            raise SecondAddressTaken(number, ANOTHERS)
        if known is not None:
            continue
        if one.access.name in theirs:
            raise SecondAddressTaken(number, in_use(one.access.channel))
        theirs[one.access.name] = max(theirs.values()) + 1
        _add_address(session, recipient, one, seal, theirs[one.access.name], keyword, now)


async def ranks(session: AsyncSession, recipient: int) -> dict[str, int]:
    """The accounts a recipient is reached on, and in which order they are tried."""
    theirs = select(tables.Address.account, tables.Address.rank).where(tables.Address.recipient_id == recipient)
    return dict((await session.execute(theirs)).all())


def _add_address(
    session: AsyncSession, recipient: int, who: Subscriber, seal: Seal, rank: int, keyword: str, now: datetime
) -> None:
    fingerprint = seal.fingerprint(known_by(who.address))
    session.add(
        tables.Address(
            recipient_id=recipient,
            account=who.access.name,
            fingerprint=fingerprint,
            sealed=seal.seal(who.address),
            other_fingerprint=seal.fingerprint(who.also) if who.also else None,
            rank=rank,
        )
    )
    _keep_proof(session, who.authority, who.access.channel, fingerprint, "join", keyword, now, who.wrote_at)


async def leave(session: AsyncSession, who: Subscriber, seal: Seal, *, keyword: str, now: datetime) -> bool:
    """Unsubscribe at once, in the middle of a broadcast too. Whether they were in.

    By whichever of their addresses they say so, it is the person who leaves: all of them are erased. Who joined with
    their number and again when they hid it is in twice, and leaves twice.
    """
    was_in = False
    for _ in filter(None, (who.address, who.also)):
        if (address := await find(session, who, seal)) is None:
            break
        recipient = await session.get_one(tables.Recipient, address.recipient_id)
        await end(session, recipient, who.authority, keyword=keyword, now=now, wrote_at=who.wrote_at)
        was_in = True
    return was_in


def note(session: AsyncSession, who: Subscriber, seal: Seal, what: str, *, keyword: str, now: datetime) -> None:
    """Keep the proof of a command that changed nothing: for what was written before it and is heard later."""
    fingerprint = seal.fingerprint(known_by(who.address))
    _keep_proof(session, who.authority, who.access.channel, fingerprint, what, keyword, now, who.wrote_at)


async def shut(session: AsyncSession, who: Subscriber, seal: Seal, *, keyword: str, now: datetime) -> None:
    """One address is closed to us, as when somebody blocks the bot: who has another is told there.

    It is kept, for the day they open it again; whoever wants to be forgotten says so. What was said before the door
    was opened again, and is heard later, closes nothing.
    """
    address = await find(session, who, seal)
    if address is None or address.refused_at is not None:
        return
    opened_since = select(tables.Consent.id).where(
        tables.Consent.authority == who.authority.code,
        tables.Consent.channel == who.access.channel,
        tables.Consent.fingerprint == seal.fingerprint(known_by(who.address)),
        tables.Consent.what == "unblock",
        tables.Consent.at >= now,
    )
    if (await session.scalars(opened_since.limit(1))).first() is not None:
        return
    address.refused_at, address.refused_because = now, Reason.BLOCKED_BY_PERSON.value
    await _rank_anew(session, address.recipient_id)
    await _reopen_the_last(session, address.recipient_id)
    _keep_proof(
        session, who.authority, who.access.channel, seal.fingerprint(known_by(who.address)), "block", keyword, now
    )


async def reopen(session: AsyncSession, who: Subscriber, seal: Seal, *, keyword: str, now: datetime) -> None:
    """Somebody opened an address to us again. Nobody subscribes by that."""
    address = await find(session, who, seal)
    if address is None or (address.refused_at is not None and address.refused_at > now):
        return
    if address.refused_at is not None:
        address.refused_at = address.refused_because = None
        await _rank_anew(session, address.recipient_id)
    _keep_proof(
        session, who.authority, who.access.channel, seal.fingerprint(known_by(who.address)), "unblock", keyword, now
    )


async def _rank_anew(session: AsyncSession, recipient: int) -> None:
    """The addresses that are open come first, so that somebody is told at one of them as long as there is any."""
    person = await session.get_one(tables.Recipient, recipient, with_for_update=True)
    person.ranked_at = time.time()
    theirs = select(tables.Address).where(tables.Address.recipient_id == recipient)
    rows = await session.scalars(theirs.order_by(tables.Address.rank, tables.Address.id))
    for rank, row in enumerate(sorted(rows, key=lambda row: row.sealed is None or row.refused_at is not None)):
        row.rank = rank


async def move(session: AsyncSession, account: str, seal: Seal, *, was: str, now: str) -> bool:
    """A chat of an account has another address from now on. Whether it was one of ours at the old one."""
    old, new = seal.fingerprint(was), seal.fingerprint(now)
    theirs = select(tables.Address).where(tables.Address.account == account, tables.Address.fingerprint.in_((old, new)))
    rows = {row.fingerprint: row for row in await session.scalars(theirs.with_for_update())}
    if old not in rows:
        return False
    if new in rows:  # registered there too: told once
        rows[old].sealed = rows[old].fingerprint = rows[old].other_fingerprint = None
        await _rank_anew(session, rows[old].recipient_id)
    else:
        rows[old].sealed, rows[old].fingerprint = seal.seal(now), new
    return True


async def lose(session: AsyncSession, who: Subscriber, seal: Seal, *, keyword: str, now: datetime) -> None:
    """One address is no more, and never will be again: it is erased. Who has another is told there; else they left."""
    address = await find(session, who, seal)
    if address is None:
        return None
    others = select(tables.Address.id).where(
        tables.Address.recipient_id == address.recipient_id,
        tables.Address.id != address.id,
        tables.Address.sealed.is_not(None),
    )
    if (await session.scalars(others.limit(1))).first() is None:
        recipient = await session.get_one(tables.Recipient, address.recipient_id)
        return await end(session, recipient, who.authority, keyword=keyword, now=now)
    fingerprint = seal.fingerprint(known_by(who.address))
    _keep_proof(session, who.authority, who.access.channel, fingerprint, "leave", keyword, now)
    address.sealed = address.fingerprint = address.other_fingerprint = None
    # For a fan-out that is under way: they were met there, or were to be.
    address.refused_at, address.refused_because = now, Reason.NOT_REACHABLE_HERE.value
    await _rank_anew(session, address.recipient_id)
    await _reopen_the_last(session, address.recipient_id)
    return None


async def _reopen_the_last(session: AsyncSession, recipient: int) -> None:
    """What providers said must not leave somebody without an address: only a door they shut themselves stays shut."""
    theirs = select(tables.Address).where(tables.Address.recipient_id == recipient, tables.Address.sealed.is_not(None))
    rows = (await session.scalars(theirs)).all()
    if any(row.refused_at is None for row in rows):
        return
    for row in rows:
        if row.refused_because != Reason.BLOCKED_BY_PERSON.value:
            row.refused_at = row.refused_because = None
    await _rank_anew(session, recipient)


async def heard_from(session: AsyncSession, who: Subscriber, seal: Seal, at: datetime) -> None:
    """Somebody wrote from an address that a provider had refused: it can be used again, after their others."""
    address = await find(session, who, seal)
    if address is not None and address.refused_at is not None and address.refused_at < at:
        address.refused_at = address.refused_because = None
        await _rank_anew(session, address.recipient_id)


async def renew(
    session: AsyncSession, who: Subscriber, known_as: str, seal: Seal, *, keyword: str, now: datetime
) -> bool:
    """A browser's subscription takes the place of the one known as this endpoint: the person and their places stay.

    Whether anybody was, and nobody is at the new one yet.
    """
    before = replace(who, address=known_as)
    address = await find(session, before, seal)
    if address is None or await find(session, who, seal) is not None:
        return False
    for one, what in ((before, "leave"), (who, "join")):
        fingerprint = seal.fingerprint(known_by(one.address))
        _keep_proof(session, who.authority, who.access.channel, fingerprint, what, keyword, now)
    address.sealed, address.fingerprint = seal.seal(who.address), seal.fingerprint(known_by(who.address))
    await session.flush()
    return True


async def end(
    session: AsyncSession,
    recipient: tables.Recipient,
    authority: Authority,
    *,
    keyword: str,
    now: datetime,
    wrote_at: datetime | None = None,
) -> None:
    """Erase a recipient's addresses and places, and keep the proof that they asked for it."""
    # Before their row is touched: in the step in which a new outline serves that comes after the atlas, too.
    await atlas.current(session, authority)
    recipient.left_at, recipient.located = now, False
    theirs = (
        select(tables.Address, tables.ChannelAccount.channel)
        .join(tables.ChannelAccount, tables.ChannelAccount.name == tables.Address.account)
        .where(tables.Address.recipient_id == recipient.id)
        .order_by(tables.Address.rank)
    )
    for address, channel in (await session.execute(theirs)).all():
        if address.fingerprint is not None:
            _keep_proof(session, authority, channel, address.fingerprint, "leave", keyword, now, wrote_at)
        address.sealed = address.fingerprint = address.other_fingerprint = None
    await _forget_places(session, recipient)


async def fingerprints_of(session: AsyncSession, recipient: int) -> set[bytes]:
    """By what somebody is found, at each of their addresses."""
    of_them = select(tables.Address.fingerprint, tables.Address.other_fingerprint)
    rows = await session.execute(of_them.where(tables.Address.recipient_id == recipient))
    return {bytes(one) for row in rows for one in row if one is not None}


async def find(session: AsyncSession, who: Subscriber, seal: Seal) -> tables.Address | None:
    """The address row of a subscriber, or None for somebody who is not one: by whatever they are called."""
    names = [seal.fingerprint(known_by(name)) for name in (who.address, who.also) if name]
    by_address = tables.Address.fingerprint == names[0]
    query = select(tables.Address).where(
        tables.Address.account == who.access.name,
        or_(tables.Address.fingerprint.in_(names), tables.Address.other_fingerprint.in_(names)),
    )
    return await session.scalar(query.order_by(case((by_address, 0), else_=1)).limit(1))


async def recognise(session: AsyncSession, who: Subscriber, seal: Seal) -> None:
    """Keep what else a subscriber is called, so that they can still leave when that is all a provider says."""
    if who.also and (address := await find(session, who, seal)) is not None:
        other = seal.fingerprint(who.also)
        if other not in (address.fingerprint, address.other_fingerprint):
            address.other_fingerprint = other


async def renumber(
    session: AsyncSession, who: Subscriber, known_as: Sequence[str], seal: Seal, *, now: datetime
) -> bool:
    """A subscriber is reached at another address, `who`'s, as the provider says: what they agreed to goes with them.

    Whether they were one. Who has joined there already is told there, once; the old address is closed.
    """
    for name in known_as:
        old = Subscriber(who.authority, who.access, name)
        address = await find(session, old, seal)
        if address is not None:
            break
    else:
        return False
    there = await find(session, who, seal)
    if there is not None and there.id != address.id:
        await lose(session, replace(old, address=name), seal, keyword=MOVED, now=now)
        return True
    fingerprint = seal.fingerprint(who.address)
    address.other_fingerprint = seal.fingerprint(who.also) if who.also else None
    if address.fingerprint == fingerprint:  # only what else they are called is new
        return True
    for one in (address.fingerprint, fingerprint):
        if one is not None:
            _keep_proof(session, who.authority, who.access.channel, one, "move", MOVED, now)
    address.fingerprint, address.sealed = fingerprint, seal.seal(who.address)
    address.refused_at = address.refused_because = None
    address.not_before = 0.0
    return True


async def settle(
    session: AsyncSession, recipient: tables.Recipient, places: Sequence[Place], authority: Authority
) -> None:
    """Give a recipient these places, instead of what was known before, and derive the areas they lie in.

    Not to somebody who has left meanwhile: of them nothing is kept.
    """
    territory = (await hold(session, recipient, authority)).territory
    if recipient.left_at is not None:
        return
    await _forget_places(session, recipient)
    said = [place for place in places if place.precision is not Precision.NONE]
    rows = [tables.Place(**place_values(recipient.id, place)) for place in said]
    session.add_all(rows)
    await session.flush()
    session.add_all(
        tables.Membership(area=number, recipient_id=recipient.id, place_id=row.id)
        for row, place in zip(rows, said, strict=True)
        for number in sorted(territory.around(place))
    )
    recipient.located = territory.knows_home(said)


async def hold(session: AsyncSession, recipient: tables.Recipient, authority: Authority) -> Authority:
    """Somebody whose places are about to change, locked; the authority with its territory as it is now, and stays.

    Two who change them at once would each forget what the other keeps. The atlas comes first, as for who resettles.
    """
    territory = await atlas.current(session, authority)
    await session.refresh(recipient, ["left_at"], with_for_update={"key_share": True})
    return replace(authority, territory=territory)


async def _forget_places(session: AsyncSession, recipient: tables.Recipient) -> None:
    for table in (tables.Membership, tables.Place):
        await session.execute(delete(table).where(table.recipient_id == recipient.id))


def place_values(recipient: int, place: Place) -> dict[str, Any]:
    """A place as a row has it."""
    point = place.point
    return {
        "recipient_id": recipient,
        "label": place.label.value,
        "lat": point.lat if point else None,
        "lon": point.lon if point else None,
        "cell": cell_of(point.lat, point.lon) if point else None,
        "area": place.areas[0] if place.areas else None,
    }


async def keep_place(session: AsyncSession, recipient: tables.Recipient, place: Place, authority: Authority) -> None:
    """One place more, or the place of this label anew."""
    authority = await hold(session, recipient, authority)
    others = [known for known in await places_of(session, recipient, authority) if known.label is not place.label]
    await settle(session, recipient, [*others, place], authority)


async def forget_place(session: AsyncSession, recipient: tables.Recipient, label: Label, authority: Authority) -> bool:
    """Whether there was such a place. Who has none left is told of everything in the comune."""
    authority = await hold(session, recipient, authority)
    known = await places_of(session, recipient, authority)
    kept = [place for place in known if place.label is not label]
    if len(kept) < len(known):
        await settle(session, recipient, kept, authority)
    return len(kept) < len(known)


async def places_of(session: AsyncSession, recipient: tables.Recipient, authority: Authority) -> list[Place]:
    """The places somebody has named, in the order of their labels."""
    rows = await session.scalars(select(tables.Place).where(tables.Place.recipient_id == recipient.id))
    found = [_place(row, authority) for row in rows]
    return sorted(found, key=lambda place: list(Label).index(place.label))


def _place(row: tables.Place, authority: Authority) -> Place:
    label, areas = Label(row.label), (row.area,) if row.area else ()
    if row.lat is not None and row.lon is not None:
        return Place(Precision.ADDRESS, areas, Point(row.lat, row.lon), label)
    precision = Precision.COMUNE if row.area == authority.territory.comune.code else Precision.FRAZIONE
    return Place(precision, areas, label=label)


def areas_of(place: Place, authority: Authority) -> set[str]:
    """The codes of all areas of the authority that serve and a place lies in, and of those around them."""
    serving = {area.code: area for area in authority.territory.areas}
    found = authority.territory.gazetteer.of(place.point) if place.point else map(serving.get, place.areas)
    areas = [area for area in found if area]
    return {area.code for area in areas} | {area.parent for area in areas if area.parent in serving}


def _keep_proof(
    session: AsyncSession,
    authority: Authority,
    channel: Channel,
    fingerprint: bytes,
    what: str,
    keyword: str,
    now: datetime,
    wrote_at: datetime | None = None,
) -> None:
    session.add(
        tables.Consent(
            authority=authority.code,
            channel=channel,
            fingerprint=fingerprint,
            what=what,
            keyword=keyword[:100],
            policy_version=authority.policy.version,
            policy_sha256=authority.policy.sha256,
            said_at=wrote_at,
            at=now,
        )
    )
