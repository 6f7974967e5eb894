"""People whom the staff registers or removes because they asked for it. Only an export of theirs tells an address."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, time

from fastapi import APIRouter, Depends, Response
from fastapi.responses import JSONResponse
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import audit, choosing, joining_many, retention, subscribing, unreachable
from alerting.actors import Actor
from alerting.api.areas import resolved
from alerting.api.parts import Parts, parts_of
from alerting.api.problems import Problem, refusal
from alerting.api.routes import Guarded
from alerting.api.schemas import (
    SEES_NO_PERSON,
    AddressIn,
    AreaShare,
    AskingIn,
    ChoicesIn,
    ChoicesOut,
    PersonIn,
    PlaceIn,
    PlaceOut,
    PlacesIn,
    PlacesOut,
    PointIn,
    QuietHoursOut,
    RecipientCount,
    RecipientIn,
    RecipientOut,
    RecipientsIn,
    RefusedPerson,
    RegisteredOut,
    WhereIn,
    shown,
)
from alerting.api.security import Doing, authority_for, may, within
from alerting.composing import Objection, Refused
from alerting.desk import persons
from alerting.domain.areas import AreaState
from alerting.domain.authority import Authority, ChannelAccess
from alerting.domain.choices import LANGUAGES, Choices, Topic
from alerting.domain.delivery import Channel
from alerting.domain.notices import Quiet
from alerting.domain.recipients import (
    AddressError,
    Label,
    Place,
    Precision,
    email_address,
    known_by,
    mask,
    phone,
    telegram_chat,
)
from alerting.joining_many import Joining
from alerting.knowing import Known, what_is_known, what_is_left
from alerting.persistence import tables
from alerting.subscribing import SecondAddressTaken, Subscriber
from geo.areas import UnknownArea
from geo.shapes import Point

router = APIRouter(prefix="/recipients", tags=["recipients"], route_class=Guarded)

REGISTERED = "registered by staff"
REMOVED = "removed by staff"
HAS_LEFT = "had left, and no list brings anybody back: register them by themselves when they ask for it again"
PRIVATE = {"Cache-Control": "no-store"}
Accounts = dict[tuple[Channel, bool], ChannelAccess]
"""By channel, and whether for live texts."""

LOOKED_AT_ONCE = 100
"""People of a batch between two breaths: an alert being issued meanwhile waits for no more of them."""


@router.post("", status_code=201, summary="Register a person")
async def register(
    said: RecipientIn, response: Response, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.REGISTER))
) -> RecipientOut:
    """201, or 200 for somebody who is already there: their place stays, an address they lack is added."""
    authority = authority_for(actor, said.authority, parts.authorities)
    one = _joining(said, authority, await _accounts(parts, authority))
    now = datetime.now(UTC)
    async with parts.database.write() as session:
        try:
            recipient, created = await subscribing.join(
                session,
                one.who,
                parts.seal,
                keyword=REGISTERED,
                now=now,
                places=one.places,
                live=one.live,
                also=one.also,
            )
        except SecondAddressTaken as taken:
            raise _refused(taken) from None
        await audit.write(
            session,
            at=now,
            actor=actor.name,
            action="register",
            subject=authority.code,
            recipient=recipient,
            new=created,
        )
    if not created:
        response.status_code = 200
    return RecipientOut(
        id=recipient,
        authority=authority.code,
        channel=said.channel,
        address=mask(one.who.address),
        created=created,
    )


@router.post("/batch", summary="Register up to 5,000 people of one authority")
async def register_many(
    said: RecipientsIn, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.REGISTER))
) -> RegisteredOut:
    """For trials and imports: one transaction. Whoever cannot be registered is named by index, the rest is.

    Nor can whoever had left: they are registered by themselves, when they ask.
    """
    authority = authority_for(actor, said.authority, parts.authorities)
    accounts = await _accounts(parts, authority)
    people: dict[int, Joining] = {}
    refused: list[RefusedPerson] = []
    for index, item in enumerate(said.items):
        if index % LOOKED_AT_ONCE == 0:
            await asyncio.sleep(0)
        try:
            people[index] = _joining(item, authority, accounts)
        except Refused as error:
            refused.append(RefusedPerson(index=index, detail=str(error)))
    now = datetime.now(UTC)
    async with parts.database.write() as session:
        joined = await joining_many.join_many(
            session, list(people.values()), parts.seal, keyword=REGISTERED, now=now, brings_back=False
        )
        indices = list(people)
        refused += [RefusedPerson(index=indices[at], detail=str(_refused(taken))) for at, taken in joined.refused]
        refused += [RefusedPerson(index=indices[at], detail=HAS_LEFT) for at in joined.left]
        await audit.write(
            session,
            at=now,
            actor=actor.name,
            action="register many",
            subject=authority.code,
            created=joined.new,
            existing=joined.existing,
            refused=len(refused),
        )
    return RegisteredOut(
        created=joined.new, existing=joined.existing, refused=sorted(refused, key=lambda one: one.index)
    )


@router.get("/count", summary="Count the people of an authority")
async def count(
    authority: str | None = None,
    area: str | None = None,
    parts: Parts = Depends(parts_of),
    actor: Actor = Depends(may(Doing.READ)),
) -> RecipientCount:
    """By area, or for one area only. Public channels are not people."""
    whose = authority_for(actor, authority, parts.authorities)
    areas = [one for one in whose.territory.areas if area is None or one.code == resolved(area, whose)]
    if not areas:
        known = ", ".join(one.code for one in whose.territory.areas)
        raise refusal([Objection("area", f"{area!r} is no area of {whose.name}: one of {known}")])
    people = (
        tables.Recipient.authority == whose.code,
        tables.Recipient.left_at.is_(None),
        tables.Recipient.is_channel.is_(False),
    )
    total = (
        select(tables.Recipient.live, tables.Recipient.located, func.count())
        .where(*people)
        .group_by(tables.Recipient.live, tables.Recipient.located)
    )
    by_area = (
        select(tables.Area.code, func.count(tables.Membership.recipient_id.distinct()))
        .join(tables.Membership, tables.Membership.area == tables.Area.id)
        .join(tables.Recipient, tables.Recipient.id == tables.Membership.recipient_id)
        .where(*people, tables.Recipient.live.is_(True), tables.Area.state == AreaState.SERVING)
        .where(tables.Area.code.in_([one.code for one in areas]))
        .group_by(tables.Area.code)
    )
    for_long = datetime.now(UTC) - unreachable.FOR_LONG
    lost = (
        select(func.count(tables.Address.recipient_id.distinct()))
        .join(tables.Recipient, tables.Recipient.id == tables.Address.recipient_id)
        .where(*people, tables.Address.sealed.is_not(None), tables.Address.unreachable_since < for_long)
    )
    async with parts.database.read() as session:
        lost_people = await session.scalar(lost) or 0
        kinds = (await session.execute(total)).all()
        counts = dict((await session.execute(by_area)).all())
    return RecipientCount(
        authority=whose.code,
        recipients=shown(sum(number for live, _, number in kinds if live), actor.role),
        place_unknown=shown(sum(number for live, located, number in kinds if live and not located), actor.role),
        unreachable=shown(lost_people, actor.role),
        exercise=shown(sum(number for live, _, number in kinds if not live), actor.role),
        by_area=[
            AreaShare(code=one.code, name=one.name, recipients=shown(counts.get(one.code, 0), actor.role))
            for one in areas
        ],
        rounded=actor.role in SEES_NO_PERSON,
    )


@router.get("/{recipient}/places", summary="Read a person's places")
async def read_places(
    recipient: int, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.REGISTER))
) -> PlacesOut:
    """Where they want to be told about, and the areas that follow from it."""
    async with parts.database.read() as session:
        row, authority = await _person(session, recipient, parts, actor)
        return _places_out(row, await subscribing.places_of(session, row, authority), authority)


@router.put("/{recipient}/places", summary="Say where a person is")
async def write_places(
    recipient: int, said: PlacesIn, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.REGISTER))
) -> PlacesOut:
    """All their places, instead of what was known before. Without any they are told of everything in the comune."""
    async with parts.database.write() as session:
        row, authority = await _person(session, recipient, parts, actor)
        authority = await subscribing.hold(session, row, authority)
        if row.left_at is not None:
            raise _gone(recipient)
        places = places_in(said.places, authority)
        await subscribing.settle(session, row, places, authority)
        await audit.write(
            session,
            at=datetime.now(UTC),
            actor=actor.name,
            action="place",
            subject=row.authority,
            recipient=recipient,
            places=len(places),
        )
        return _places_out(row, places, authority)


@router.get("/{recipient}/choices", summary="Read a person's choices")
async def read_choices(
    recipient: int, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.REGISTER))
) -> ChoicesOut:
    """Topics, quiet hours, language, and which channel comes first."""
    async with parts.database.read() as session:
        row, _ = await _person(session, recipient, parts, actor)
        return await _choices_out(session, row)


@router.put("/{recipient}/choices", summary="Say what a person has chosen")
async def write_choices(
    recipient: int, said: ChoicesIn, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.REGISTER))
) -> ChoicesOut:
    """All of them, instead of those before. Whoever wants no emergencies is removed, not silenced."""
    choices = _choices(said)
    async with parts.database.write() as session:
        row, _ = await _person(session, recipient, parts, actor)
        await choosing.hold(session, row)
        if row.left_at is not None:
            raise _gone(recipient)
        choosing.keep(row, choices)
        try:
            await choosing.put_in_order(session, row, said.order)
        except choosing.NoSuchAddress as error:
            raise refusal([Objection("order", str(error))]) from None
        await session.flush()
        await audit.write(
            session,
            at=datetime.now(UTC),
            actor=actor.name,
            action="choose",
            subject=row.authority,
            recipient=recipient,
        )
        return await _choices_out(session, row)


def _choices(said: ChoicesIn) -> Choices:
    if said.language not in LANGUAGES:
        raise refusal([Objection("language", f"no alert is written in it: one of {', '.join(LANGUAGES)}")])
    hours = said.quiet
    quiet = Quiet(time.fromisoformat(hours.begins), time.fromisoformat(hours.ends)) if hours else None
    if quiet and quiet.begins == quiet.ends:
        raise refusal([Objection("quiet/ends", "is when it begins: leave the quiet hours out, or say when they end")])
    return Choices(frozenset(said.topics) | {Topic.EMERGENZE}, quiet, said.language)


async def _choices_out(session: AsyncSession, row: tables.Recipient) -> ChoicesOut:
    choices = choosing.choices_of(row)
    quiet = choices.quiet
    return ChoicesOut(
        id=row.id,
        authority=row.authority,
        topics=[topic for topic in Topic if topic in choices.topics],
        quiet=QuietHoursOut(begins=f"{quiet.begins:%H:%M}", ends=f"{quiet.ends:%H:%M}") if quiet else None,
        language=choices.language,
        order=[one.channel for one in await choosing.addresses_of(session, row)],
    )


@router.delete("/{recipient}", status_code=204, summary="Remove a person")
async def remove(recipient: int, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.REGISTER))) -> None:
    """At once, in the middle of a broadcast too. Every address is erased; that they asked is kept as proof."""
    now = datetime.now(UTC)
    async with parts.database.write() as session:
        row, authority = await _person(session, recipient, parts, actor)
        await subscribing.end(session, row, authority, keyword=REMOVED, now=now)
        await audit.write(
            session, at=now, actor=actor.name, action="remove", subject=row.authority, recipient=recipient
        )


@router.get("/{recipient}/known", summary="Export what is known of a person")
async def export(
    recipient: int, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.EXPORT))
) -> JSONResponse:
    """To hand to a person who asks for it at the counter. It tells their address: who asked is in the audit."""
    async with parts.database.write() as session:
        row, _ = await _person(session, recipient, parts, actor)
        return await _handed_out(session, await what_is_known(session, row, parts.seal), recipient, actor)


@router.post("/exports", summary="Export what is known of whoever has an address")
async def export_by_address(
    said: AskingIn, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.EXPORT))
) -> JSONResponse:
    """Also of who is not subscribed, or not any more: proofs that they were, what they reported to the desk."""
    who = await _asking(said, parts, actor)
    async with parts.database.write() as session:
        row = await _reached(session, who, parts)
        if row is None:
            fingerprint = parts.seal.fingerprint(known_by(who.address))
            known = await what_is_left(session, who.authority.code, [fingerprint], parts.seal)
            return await _handed_out(session, known, None, actor)
        return await _handed_out(session, await what_is_known(session, row, parts.seal), row.id, actor)


async def _handed_out(session: AsyncSession, known: Known, recipient: int | None, actor: Actor) -> JSONResponse:
    """What is known of somebody, to whoever asked for it: that is in the audit."""
    await audit.write(
        session,
        at=datetime.now(UTC),
        actor=actor.name,
        action="export",
        subject=known.authority,
        recipient=recipient,
    )
    return JSONResponse(known.as_json(), headers=PRIVATE)


@router.post("/erasures", status_code=204, summary="Erase a person, subscribed or not")
async def erase(said: AskingIn, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.REGISTER))) -> None:
    """By an address of theirs: they are removed, and taken out of every proof of this authority.

    One answer whether anybody was there: nobody can ask who is subscribed.
    """
    who, now = await _asking(said, parts, actor), datetime.now(UTC)
    authority = who.authority
    fingerprint = parts.seal.fingerprint(known_by(who.address))
    async with parts.database.write() as session:
        theirs = {fingerprint}
        recipient = await _reached(session, who, parts)
        if recipient is not None:
            theirs |= await subscribing.fingerprints_of(session, recipient.id)
            await subscribing.end(session, recipient, authority, keyword=REMOVED, now=now)
            await session.flush()
        await retention.erase_proofs(
            session, authority.code, sorted(theirs), now=now, actor=actor.name, why=retention.REQUEST
        )
        await retention.forget_lately(session, who.access.name, fingerprint)
        await persons.erase(session, authority.code, sorted(theirs), actor.name, now)
        await audit.write(session, at=now, actor=actor.name, action="erase", subject=authority.code)


async def _asking(said: AskingIn, parts: Parts, actor: Actor) -> Subscriber:
    """Whoever asks about themselves, by an address of theirs; nobody need be subscribed there."""
    authority = authority_for(actor, said.authority, parts.authorities)
    return _reached_at(said, False, authority, await _accounts(parts, authority))


async def _reached(session: AsyncSession, who: Subscriber, parts: Parts) -> tables.Recipient | None:
    """Who is subscribed at that address. A public channel is nobody."""
    address = await subscribing.find(session, who, parts.seal)
    row = await session.get_one(tables.Recipient, address.recipient_id) if address else None
    if row is not None:
        _no_channel(row)
    return row


async def _accounts(parts: Parts, authority: Authority) -> Accounts:
    """What the authority reaches people by, live and for exercises: these have accounts of their own."""
    of_authority = select(tables.ChannelAccount).where(tables.ChannelAccount.authority == authority.code)
    async with parts.database.read() as session:
        rows = (await session.scalars(of_authority)).all()
    found = ((row, authority.channel(row.channel)) for row in rows)
    return {(row.channel, row.live): replace(access, name=row.name) for row, access in found if access}


async def _person(
    session: AsyncSession, recipient: int, parts: Parts, actor: Actor
) -> tuple[tables.Recipient, Authority]:
    """Somebody who is subscribed, and to whom. A public channel is nobody."""
    row = await session.get(tables.Recipient, recipient) if 0 < recipient < 2**63 else None
    if row is None or row.left_at is not None:
        raise _gone(recipient)
    within(actor, row.authority)
    _no_channel(row)
    authority = parts.authorities.get(row.authority)
    if authority is None:
        raise Problem(409, f"{row.authority} no longer speaks through this system: put its file back, then ask again")
    return row, authority


def _no_channel(row: tables.Recipient) -> None:
    if row.is_channel:
        raise Problem(409, f"recipient {row.id} is a public channel: take it out of {row.authority}'s file")


def _gone(recipient: int) -> Problem:
    return Problem(404, f"there is no recipient {recipient}, or they have left")


def _places_out(row: tables.Recipient, places: Sequence[Place], authority: Authority) -> PlacesOut:
    return PlacesOut(
        id=row.id,
        authority=row.authority,
        located=row.located,
        places=[
            PlaceOut(
                label=place.label,
                point=PointIn(lat=place.point.lat, lon=place.point.lon) if place.point else None,
                area=place.areas[0] if place.areas else None,
                areas=sorted(subscribing.areas_of(place, authority)),
            )
            for place in places
        ],
    )


# ── one person, checked ─────────────────────────────────────────────────────────────────────────────


def _joining(said: PersonIn, authority: Authority, accounts: Accounts) -> Joining:
    """Raises Refused with what is wrong, never with the address: it may end in a log."""
    channels = [said.channel, *(further.channel for further in said.also)]
    for number, channel in enumerate(channels):
        if channel in channels[:number]:
            sentence = f"{channel} is given twice: one person has one address on each channel"
            raise Refused(Objection(f"also/{number - 1}/channel", sentence))
    who = _reached_at(said, said.exercise, authority, accounts)
    also = [
        _reached_at(further, said.exercise, authority, accounts, f"also/{number}/")
        for number, further in enumerate(said.also)
    ]
    return Joining(who, _places(said, authority), not said.exercise, tuple(also))


def _reached_at(
    said: AddressIn, exercise: bool, authority: Authority, accounts: Accounts, where: str = ""
) -> Subscriber:
    access = accounts.get((said.channel, not exercise))
    if access is None and exercise:
        sentence = f"{authority.name} has no account for exercises on {said.channel}: nobody would ever be told there"
        raise Refused(Objection(f"{where}channel" if where else "exercise", sentence))
    if access is None:
        has = ", ".join(str(one.channel) for one in authority.channels)
        raise Refused(Objection(f"{where}channel", f"{authority.name} has no account on {said.channel}: it has {has}"))
    try:
        address = _address(said.channel, said.address)
    except AddressError as error:
        raise Refused(Objection(f"{where}address", str(error))) from None
    return Subscriber(authority, access, address)


def _refused(taken: SecondAddressTaken) -> Refused:
    return Refused(Objection(f"also/{taken.number}/address", str(taken)))


def _address(channel: Channel, written: str) -> str:
    match channel:
        case Channel.WHATSAPP | Channel.SMS:
            number = phone(written)
            if number.landline:
                raise AddressError("this is a landline, which shows no text; ask for a mobile number")
            return number.e164
        case Channel.TELEGRAM:
            return telegram_chat(written)
        case Channel.EMAIL:
            return email_address(written)
        case Channel.WEB_PUSH:
            raise AddressError("nobody can type it in: the person's own browser subscribes, on the comune's page")
        case Channel.MQTT:
            raise AddressError("panels and sirens are no people; write them into the comune's file")


def _places(said: PersonIn, authority: Authority) -> tuple[Place, ...]:
    if said.point is None and said.area is None:
        return places_in(said.places, authority)
    if said.places:
        raise Refused(Objection("places", "is given beside a point or an area: give all of them as places"))
    return (_place(said, authority, Label.CASA),)


def places_in(said: Sequence[PlaceIn], authority: Authority) -> tuple[Place, ...]:
    """Somebody's places, checked. Raises Refused."""
    for number, one in enumerate(said):
        if any(other.label is one.label for other in said[:number]):
            raise Refused(Objection(f"places/{number}/label", f"{one.label} is given twice: a person has one of each"))
        if one.point is None and one.area is None:
            raise Refused(Objection(f"places/{number}", "says nowhere: give a point or an area"))
    return tuple(_place(one, authority, one.label, f"places/{number}/") for number, one in enumerate(said))


def _place(said: WhereIn, authority: Authority, label: Label, where: str = "") -> Place:
    if said.point is not None and said.area is not None:
        raise Refused(Objection(f"{where}area", "is given beside a point: give one of the two"))
    if said.point is not None:
        return _at_point(Point(said.point.lat, said.point.lon), authority, label, where)
    try:
        area = authority.territory.gazetteer.by_code(resolved(said.area or "", authority))
    except UnknownArea as unknown:
        raise Refused(Objection(f"{where}area", str(unknown))) from None
    precision = Precision.COMUNE if area == authority.territory.comune else Precision.FRAZIONE
    return Place(precision, (area.code,), label=label)


def _at_point(point: Point, authority: Authority, label: Label, where: str) -> Place:
    """Somebody at a point outside would be told of nothing: nearly always a slip."""
    gazetteer = authority.territory.gazetteer
    if gazetteer.of(point):
        return Place(Precision.ADDRESS, point=point, label=label)
    if abs(point.lon) <= 90 and gazetteer.of(Point(point.lon, point.lat)):
        raise Refused(Objection(f"{where}point", "latitude and longitude are exchanged: lat is the one near 43"))
    sentence = f"lies outside the territory of {authority.name}: correct it, or leave it out"
    raise Refused(Objection(f"{where}point", sentence))
