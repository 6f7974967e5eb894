"""Draft, approve, issue, update, cancel. Each takes the session of an open transaction, and says and does in one."""

import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import assert_never

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import audit, cap_json, metrics, outbox
from alerting.domain import cap, rendering
from alerting.domain.authority import Authority
from alerting.domain.delivery import Channel
from alerting.domain.events import AlertIssued
from alerting.domain.kinds import DEFAULTS, SEVERITY_OF, WITHOUT_RED, Colour, Kind, Risk, needs_instruction
from alerting.domain.lifecycle import Action, State, advance
from alerting.domain.urgency import lane_of
from alerting.persistence import tables
from alerting.targeting import Target
from geo.areas import UnknownArea
from geo.geojson import parse_geojson, to_geojson
from geo.shapes import Circle, Geofence, Polygon, Shape, km2_outside

KM2_OUTSIDE_IGNORED = 0.05
"""Square kilometres a fence may reach over its publisher's border: drawings by two hands leave slivers."""

LARGEST_SHARE_OUTSIDE = 0.5
"""Of one drawn shape: a small one lies elsewhere altogether and still reaches over by very little."""

RETRACTION_LASTS = timedelta(hours=6)
"""At least. Somebody who was told wrongly a minute before it would have ended is still owed the truth."""

LONGEST_HEADLINE = 160
"""CAP's own advice for a headline (OASIS CAP 1.2, 3.2.2)."""


class Role(Enum):
    """What somebody may do. A feed drafts and issues by policy; a viewer sees counts, never people."""

    OPERATOR = "operator"
    APPROVER = "approver"
    FEED = "feed"
    VIEWER = "viewer"
    ADMIN = "admin"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Actor:
    """A person or a feed that was recognised by its token. `authority` None means any."""

    name: str
    role: Role
    authority: str | None = None


@dataclass(frozen=True, slots=True)
class Objection:
    """One thing wrong with what somebody asked for: the field, and a sentence that says what to do."""

    field: str
    sentence: str


class Refused(Exception):
    """What was asked for cannot be done as it is. Nothing was stored."""

    def __init__(self, *objections: Objection) -> None:
        super().__init__("; ".join(f"{finding.field}: {finding.sentence}" for finding in objections))
        self.objections = objections


class SamePerson(Exception):
    """The author of an alert cannot approve it."""


@dataclass(frozen=True, slots=True)
class Wording:
    """What an operator fills in. Everything else follows from the kind and the authority."""

    kind: Kind
    headline: str
    description: str
    expires: datetime
    instruction: str = ""
    onset: datetime | None = None
    colour: Colour | None = None
    risk: Risk | None = None
    areas: tuple[str, ...] = ()
    drawn: Geofence | None = None
    drawn_name: str = ""
    web: str = ""
    exercise: bool = False


# ── the four actions ────────────────────────────────────────────────────────────────────────────────


async def draft(
    session: AsyncSession,
    wording: Wording,
    authority: Authority,
    actor: Actor,
    now: datetime,
    *,
    updates: tables.Alert | None = None,
) -> tables.Alert:
    """A new alert in state draft; with `updates`, one that takes the place of an issued alert once it is issued.

    Raises Refused with every objection at once.
    """
    if updates is not None:
        await check_stands(session, updates, now)
    alert = compose(wording, authority, now, updates)
    row = tables.Alert(
        identifier=alert.identifier,
        authority=authority.code,
        kind=wording.kind,
        state=State.DRAFT,
        status=alert.status,
        msg_type=alert.msg_type,
        lane=lane_of(alert, follows=updates.lane if updates else None),
        document=cap_json.to_json(alert),
        geofence=_snapshot(wording, authority),
        areas=list(wording.areas),
        updates=updates.identifier if updates else None,
        author=actor.name,
        drafted_at=now,
        expires_at=alert.expires,
    )
    session.add(row)
    await _note(session, "draft", row, actor, now)
    return row


async def approve(session: AsyncSession, row: tables.Alert, actor: Actor, now: datetime) -> None:
    """The second person's yes. Raises SamePerson, NotAllowed, or Refused when it has expired meanwhile."""
    if actor.name == row.author:
        raise SamePerson(
            f"{actor.name} wrote alert {row.identifier}: ask another person with the role approver to approve it"
        )
    _still_useful(row, now)
    row.state = advance(row.identifier, row.state, Action.APPROVE)
    row.approver, row.approved_at = actor.name, now
    await _note(session, "approve", row, actor, now)


async def issue(session: AsyncSession, row: tables.Alert, actor: Actor, now: datetime) -> tables.Dispatch:
    """From now on it will be said: the alert, what must follow from it and the audit in one transaction.

    An Update takes the place of its original in the same transaction. Raises NotAllowed, or Refused when it has
    ended meanwhile, or its original no longer stands.
    """
    _still_useful(row, now)
    state = advance(row.identifier, row.state, Action.ISSUE)
    if row.updates is not None:
        await _supersede(session, row, actor, now)
    row.state, row.issued_at = state, now
    alert = replace(cap_json.from_json(row.document), sent=now)
    row.document = cap_json.to_json(alert)
    dispatch = await _say(session, row, alert, now)
    await _note(session, "issue", row, actor, now)
    return dispatch


async def cancel(
    session: AsyncSession, row: tables.Alert, authority: Authority, actor: Actor, reason: str, now: datetime
) -> tables.Alert | None:
    """Take an alert back. A retraction waits for nobody: no second person, and flash where the alert was urgent.

    What still waits is withdrawn at once. Those who got it, or may have, are told by a Cancel, which is
    returned; None when the alert had not been issued. Raises NotAllowed, or Refused for a Cancel itself, and for
    what an Update has taken the place of.

    An Update is cancelled alone: what it replaced stays superseded. But whoever has only that on their telephone
    is told as well, or they would believe it for ever.
    """
    if row.cancels is not None:
        raise Refused(
            Objection("identifier", f"{row.identifier} itself takes {row.cancels} back: say anew what holds after all")
        )
    if row.state is State.SUPERSEDED:
        by = await _successor(session, row)
        raise Refused(
            Objection("identifier", f"{by} has taken the place of {row.identifier}: cancel {by}, which takes back both")
        )
    was = row.state
    row.state = advance(row.identifier, was, Action.CANCEL)
    row.ended_at = now
    await _note(session, "cancel", row, actor, now, was=str(was))
    if was is not State.ISSUED:
        return None
    original = await session.get_one(tables.Dispatch, await _dispatch_of(session, row.identifier))
    original.withdrawn_at = now
    retraction = _retraction(cap_json.from_json(row.document), authority, reason, now)
    cancel_row = tables.Alert(
        identifier=retraction.identifier,
        authority=row.authority,
        kind=row.kind,
        state=State.ISSUED,
        status=row.status,
        msg_type=cap.MsgType.CANCEL,
        lane=lane_of(retraction, follows=row.lane),
        document=cap_json.to_json(retraction),
        geofence=row.geofence,
        areas=row.areas,
        cancels=row.identifier,
        author=actor.name,
        drafted_at=now,
        issued_at=now,
        expires_at=retraction.expires,
    )
    session.add(cancel_row)
    await session.flush()
    await _say(session, cancel_row, retraction, now)
    return cancel_row


def target_of(row: tables.Alert) -> Target:
    """Who an alert is for. The wall: what is not Actual never meets a live recipient."""
    drawn = row.geofence["drawn"]
    return Target(
        authority=row.authority,
        live=row.status is cap.Status.ACTUAL,
        areas=tuple(row.areas),
        drawn=parse_geojson(drawn) if drawn else None,
    )


async def audience_of(session: AsyncSession, row: tables.Alert) -> Target:
    """Who an alert is for, and whom an Update or a Cancel owes it besides: those of all that it follows."""
    told = await _told_by(session, row.cancels or row.updates)
    return replace(target_of(row), told=told, only_told=row.cancels is not None)


async def audience_of_update(session: AsyncSession, target: Target, updates: tables.Alert) -> Target:
    """Who an Update that is not drafted yet would be for."""
    return replace(target, told=await _told_by(session, updates.identifier))


async def _told_by(session: AsyncSession, identifier: str | None) -> tuple[int, ...]:
    """The dispatches of an alert and of all it has taken the place of, one after the other: the latest first.

    All of them: an Update may be withdrawn before it reaches somebody who got what it replaces.
    """
    dispatches: list[int] = []
    while identifier is not None:
        dispatches.append(await _dispatch_of(session, identifier))
        identifier = (await session.get_one(tables.Alert, identifier)).updates
    return tuple(dispatches)


# ── one alert in the place of another ───────────────────────────────────────────────────────────────


async def check_stands(session: AsyncSession, original: tables.Alert, now: datetime) -> None:
    """Whether an Update may take the place of an alert. Raises Refused, and says what to do instead."""
    name = original.identifier
    match original.state:
        case _ if original.cancels is not None:
            sentence = (
                f"{name} takes {original.cancels} back, which is final: draft a new alert of what holds after all"
            )
        case State.DRAFT | State.APPROVED:
            sentence = f"{name} is {original.state}, and nobody has been told of it: cancel it, and draft it anew"
        case State.ISSUED if original.expires_at > now:
            return
        case State.ISSUED | State.EXPIRED:
            sentence = f"{name} has ended: draft a new alert"
        case State.CANCELLED:
            sentence = f"{name} was cancelled, and people were told so: draft a new alert"
        case State.SUPERSEDED:
            by = await _successor(session, original)
            sentence = (
                f"{by} has taken the place of {name}: draft an Update of {by}, or a new alert where that has ended"
            )
        case _:
            assert_never(original.state)
    raise Refused(Objection("updates", sentence))


async def _supersede(session: AsyncSession, row: tables.Alert, actor: Actor, now: datetime) -> None:
    # Locked: of an Update and a Cancel of one alert at the same moment, the second sees what the first did.
    original = await session.get_one(tables.Alert, row.updates, with_for_update=True, populate_existing=True)
    await check_stands(session, original, now)
    original.state = advance(original.identifier, original.state, Action.SUPERSEDE)
    original.ended_at = now
    dispatch = await session.get_one(tables.Dispatch, await _dispatch_of(session, original.identifier))
    dispatch.withdrawn_at = now
    await _note(session, "supersede", original, actor, now, by=row.identifier)


async def _successor(session: AsyncSession, original: tables.Alert) -> str:
    issued = select(tables.Alert.identifier).where(
        tables.Alert.updates == original.identifier, tables.Alert.issued_at.is_not(None)
    )
    return (await session.scalars(issued)).one()


# ── from an operator's words to CAP ─────────────────────────────────────────────────────────────────


def compose(wording: Wording, authority: Authority, now: datetime, updates: tables.Alert | None = None) -> cap.Alert:
    """The CAP message of a wording; an Update, where it `updates` an alert of ours.

    Raises Refused with every objection at once.
    """
    objections = [*_check_words(wording, now), *_check_place(wording, authority)]
    if updates is not None:
        objections += _check_original(updates, wording, authority)
    if objections:
        raise Refused(*objections)
    alert = cap.Alert(
        identifier=_identifier(authority, now),
        sender=authority.sender,
        sent=now,
        status=cap.Status.EXERCISE if wording.exercise else cap.Status.ACTUAL,
        msg_type=cap.MsgType.UPDATE if updates else cap.MsgType.ALERT,
        infos=(_info(wording, authority),),
        note=rendering.EXERCISE if wording.exercise else "",
        references=_references(cap_json.from_json(updates.document)) if updates else (),
    )
    _check_length(alert, authority)
    return alert


def _info(wording: Wording, authority: Authority) -> cap.Info:
    meant = DEFAULTS[wording.kind]
    parameters = [("it.tipo", wording.kind), ("it.colore", wording.colour), ("it.rischio", wording.risk)]
    return cap.Info(
        category=(meant.category,),
        event=f"{meant.event} {wording.colour.value}" if wording.colour else meant.event,
        response_type=(meant.response,),
        urgency=meant.urgency,
        severity=SEVERITY_OF[wording.colour] if wording.colour else meant.severity,
        certainty=meant.certainty,
        onset=wording.onset,
        expires=wording.expires,
        sender_name=authority.name,
        headline=wording.headline.strip(),
        description=wording.description.strip(),
        instruction=wording.instruction.strip(),
        web=wording.web.strip(),
        contact=authority.contact.in_words,
        parameters=tuple(cap.NamedValue(name, value.value) for name, value in parameters if value),
        areas=_areas(wording, authority),
    )


def _areas(wording: Wording, authority: Authority) -> tuple[cap.Area, ...]:
    named = [authority.territory.gazetteer.by_code(code) for code in wording.areas]
    istat = (cap.NamedValue("ISTAT", authority.istat),)
    areas = [_cap_area(area.name, area.fence, istat) for area in named]
    if wording.drawn is not None:
        areas.append(_cap_area(wording.drawn_name.strip() or "la zona indicata sulla mappa", wording.drawn, istat))
    return tuple(areas)


def _cap_area(name: str, fence: Geofence, geocodes: tuple[cap.NamedValue, ...]) -> cap.Area:
    return cap.Area(
        area_desc=name,
        polygons=tuple(shape for shape in fence.shapes if isinstance(shape, Polygon)),
        circles=tuple(shape for shape in fence.shapes if isinstance(shape, Circle)),
        geocodes=geocodes,
    )


def _retraction(original: cap.Alert, authority: Authority, reason: str, now: datetime) -> cap.Alert:
    """The Cancel. A reason too long for a channel is cut: this is no moment to ask for another."""
    whole = _taken_back(original, authority, reason.strip(), now)
    over = max(_over(whole, authority).values(), default=0)
    return whole if over <= 0 else _taken_back(original, authority, f"{reason.strip()[: -over - 1]}…", now)


def _taken_back(original: cap.Alert, authority: Authority, reason: str, now: datetime) -> cap.Alert:
    info = original.first
    said = _references(original)
    first, last = (rendering.in_words(reference.sent) for reference in (said[0], said[-1]))
    if len(said) == 1:
        no_longer, act = f"Il messaggio delle {last} non è più valido.", "quel messaggio"
    else:  # some got the last one only, and some never did
        no_longer, act = f"I messaggi inviati dalle {first} alle {last} non sono più validi.", "quei messaggi"
    taken_back = replace(
        info,
        response_type=(cap.ResponseType.ALL_CLEAR,),
        onset=None,
        expires=max(original.ends(info), now + RETRACTION_LASTS),
        web="",  # it tells of what no longer holds
        headline=f"ANNULLATO: {info.headline}"[:LONGEST_HEADLINE],
        description=f"{no_longer} {reason}".strip(),
        instruction=f"non tenere più conto di {act}.",
    )
    return cap.Alert(
        identifier=_identifier(authority, now),
        sender=original.sender,
        sent=now,
        status=original.status,
        msg_type=cap.MsgType.CANCEL,
        infos=(taken_back,),
        note=original.note,
        references=said,
    )


def _references(original: cap.Alert) -> tuple[cap.Reference, ...]:
    """What a message that follows `original` names: sender, identifier, sent of each it supersedes or takes back.

    All before it too, the oldest first (CAP 1.2, 3.2.1 takes several): a siren that missed one in between would
    otherwise hold on to the one before.
    """
    return (*original.references, original.reference)


def _identifier(authority: Authority, now: datetime) -> str:
    """Unique, and without the spaces, commas and signs CAP forbids. Two alerts in a second do not collide."""
    return f"{authority.code}-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def _snapshot(wording: Wording, authority: Authority) -> dict[str, object]:
    """The place as it was when it was drawn, so that the decision can be made again years later."""
    gazetteer = authority.territory.gazetteer
    return {
        "areas": [{"code": code, "version": gazetteer.by_code(code).version} for code in wording.areas],
        "drawn": to_geojson(wording.drawn) if wording.drawn else None,
    }


# ── what is refused, and why ────────────────────────────────────────────────────────────────────────


def _check_original(original: tables.Alert, wording: Wording, authority: Authority) -> list[Objection]:
    objections = []
    if original.authority != authority.code:
        sentence = f"{original.identifier} is an alert of {original.authority}: only {original.authority} can update it"
        objections.append(Objection("updates", sentence))
    if (original.status is cap.Status.ACTUAL) is wording.exercise:
        is_what, set_it = ("an exercise", "true") if wording.exercise is False else ("no exercise", "false")
        sentence = f"must be {set_it}: {original.identifier}, which it updates, is {is_what}"
        objections.append(Objection("exercise", sentence))
    return objections


def _check_words(wording: Wording, now: datetime) -> list[Objection]:
    objections = []
    if not wording.headline.strip():
        objections.append(Objection("headline", "is empty: say in one line what happens"))
    if len(wording.headline) > LONGEST_HEADLINE:
        over = len(wording.headline) - LONGEST_HEADLINE
        objections.append(Objection("headline", f"is {over} characters too long: {LONGEST_HEADLINE} at most"))
    if not wording.description.strip():
        objections.append(Objection("description", "is empty: say what it means for people"))
    if wording.expires <= now:
        objections.append(Objection("expires", "is not in the future: an alert that has ended is not sent"))
    if wording.onset and wording.onset >= wording.expires:
        objections.append(Objection("onset", "is not before expires: the event would end before it begins"))
    return [*objections, *_check_colour(wording)]


def _check_colour(wording: Wording) -> list[Objection]:
    if wording.kind is not Kind.ALLERTA_METEO:
        names = [name for name in ("colour", "risk") if getattr(wording, name)]
        return [Objection(name, f"belongs to {Kind.ALLERTA_METEO}, not to {wording.kind}") for name in names]
    objections = []
    if wording.colour is None:
        objections.append(Objection("colour", f"is missing: one of {', '.join(c.value for c in Colour)}"))
    if wording.risk is None:
        objections.append(Objection("risk", f"is missing: one of {', '.join(r.value for r in Risk)}"))
    if wording.colour is Colour.ROSSA and wording.risk in WITHOUT_RED:
        sentence = f"rossa does not exist for {wording.risk.value}: arancione is the highest"
        objections.append(Objection("colour", sentence))
    if wording.colour and needs_instruction(SEVERITY_OF[wording.colour]) and not wording.instruction.strip():
        objections.append(
            Objection("instruction", f"is empty: an allerta {wording.colour.value} must tell people what to do")
        )
    return objections


def _check_place(wording: Wording, authority: Authority) -> list[Objection]:
    objections = []
    for number, code in enumerate(wording.areas):
        try:
            authority.territory.gazetteer.by_code(code)
        except UnknownArea as unknown:
            objections.append(Objection(f"areas/{number}", str(unknown)))
    if not wording.areas and wording.drawn is None:
        objections.append(
            Objection(
                "areas",
                f"names no place: give area codes, or a geofence; {authority.code} for the whole comune",
            )
        )
    if wording.drawn is not None:
        outside = km2_outside(wording.drawn, authority.territory.fence)
        if outside > KM2_OUTSIDE_IGNORED or any(_lies_elsewhere(s, authority) for s in wording.drawn.shapes):
            objections.append(
                Objection(
                    "geofence",
                    f"reaches {outside:.3f} km² outside the territory of {authority.name}: draw it inside the border",
                )
            )
    return objections


def _lies_elsewhere(shape: Shape, authority: Authority) -> bool:
    alone = Geofence((shape,))
    return km2_outside(alone, authority.territory.fence) > alone.area_km2 * LARGEST_SHARE_OUTSIDE


def _check_length(alert: cap.Alert, authority: Authority) -> None:
    objections = [
        Objection("description", f"the whole text is {over} characters too long for {channel}: shorten it")
        for channel, over in _over(alert, authority).items()
        if over > 0
    ]
    if objections:
        raise Refused(*objections)


def _over(alert: cap.Alert, authority: Authority) -> dict[Channel, int]:
    """By how many characters the text exceeds what each of the authority's channels takes; negative where it fits."""
    characters = rendering.render(alert).characters
    return {account.channel: characters - rendering.MOST_CHARACTERS[account.channel] for account in authority.channels}


def _still_useful(row: tables.Alert, now: datetime) -> None:
    if row.expires_at <= now:
        raise Refused(
            Objection("expires", f"alert {row.identifier} ended at {row.expires_at:%H:%M} UTC: draft a new one")
        )


# ── saying it ───────────────────────────────────────────────────────────────────────────────────────


async def _say(session: AsyncSession, row: tables.Alert, alert: cap.Alert, now: datetime) -> tables.Dispatch:
    dispatch = tables.Dispatch(
        alert=row.identifier,
        authority=row.authority,
        lane=row.lane,
        live=row.status is cap.Status.ACTUAL,
        issued_at=now,
        not_after=row.expires_at,
        touched_at=now.timestamp(),
    )
    session.add(dispatch)
    await session.flush()
    issued = AlertIssued(
        alert=row.identifier,
        dispatch=dispatch.id,
        authority=row.authority,
        lane=row.lane,
        category=alert.first.category[0].value,
        msg_type=row.msg_type.value,
        sent=now,
        expires=row.expires_at,
    )
    await outbox.add(session, issued, lane=row.lane)
    return dispatch


async def _dispatch_of(session: AsyncSession, alert: str) -> int:
    return (await session.scalars(select(tables.Dispatch.id).where(tables.Dispatch.alert == alert))).one()


async def _note(
    session: AsyncSession, action: str, row: tables.Alert, actor: Actor, now: datetime, **more: str
) -> None:
    metrics.ALERTS.labels(action, str(row.lane)).inc()
    await audit.write(
        session,
        at=now,
        actor=actor.name,
        action=action,
        subject=row.identifier,
        kind=row.kind.value,
        lane=row.lane.value,
        status=row.status.value,
        **more,
    )
