"""Draft, approve, issue, update, cancel. Each takes the session of an open transaction, and says and does in one."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import assert_never

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import audit, cap_json, metrics, outbox, paging
from alerting.actors import Actor, Role
from alerting.cap_xml.signing import SigningFailed
from alerting.cap_xml.writing import Unwritable, write
from alerting.composing import Objection, Refused, Where, Wording, compose, retraction, where_of
from alerting.domain import attachments, cap
from alerting.domain.authority import Authority
from alerting.domain.choices import Topic, topic_of
from alerting.domain.events import AlertIssued
from alerting.domain.kinds import Kind
from alerting.domain.lifecycle import Action, State, advance
from alerting.domain.urgency import lane_of
from alerting.persistence import tables
from alerting.targeting import Target
from geo.drawing import IMPORTED
from geo.geojson import parse_geojson, to_geojson

Sign = Callable[[str, bytes], bytes]
"""A CAP document of an authority, signed where that has a key. Raises SigningFailed."""


def unsigned(authority: str, document: bytes) -> bytes:
    """For who has no key."""
    return document


class SamePerson(Exception):
    """The author of an alert cannot approve it."""


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
    where = where_of(wording, authority)
    return await keep(session, alert, wording.kind, where, authority, actor, now, updates)


async def keep(
    session: AsyncSession,
    alert: cap.Alert,
    kind: Kind,
    where: Where,
    authority: Authority,
    actor: Actor,
    now: datetime,
    updates: tables.Alert | None = None,
    intake: int | None = None,
) -> tables.Alert:
    """A composed message as a draft; `intake` is the document of a source that it was made from."""
    row = tables.Alert(
        identifier=alert.identifier,
        authority=authority.code,
        kind=kind,
        state=State.DRAFT,
        status=alert.status,
        msg_type=alert.msg_type,
        lane=lane_of(alert, follows=updates.lane if updates else None),
        document=cap_json.to_json(alert),
        geofence=_snapshot(where, authority),
        areas=list(where.areas),
        enclosure=attachments.enclosed_in(alert),
        updates=updates.identifier if updates else None,
        intake=intake,
        author=actor.name,
        drafted_at=now,
        expires_at=alert.expires,
    )
    session.add(row)
    await _note(session, "draft", row, actor, now)
    return row


async def approve(session: AsyncSession, row: tables.Alert, actor: Actor, now: datetime) -> None:
    """The second person's yes. Raises SamePerson, NotAllowed, or Refused when it has expired meanwhile.

    Whoever decides on an alert has looked at it: nobody is called for it any more.
    """
    if actor.name == row.author:
        raise SamePerson(
            f"{actor.name} wrote alert {row.identifier}: ask another person with the role approver to approve it"
        )
    _still_useful(row, now)
    row.state = advance(row.identifier, row.state, Action.APPROVE)
    row.approver, row.approved_at = actor.name, now
    await paging.close(session, f"alert {row.identifier}", actor.name, now)
    await _note(session, "approve", row, actor, now)


async def issue(
    session: AsyncSession, row: tables.Alert, actor: Actor, now: datetime, sign: Sign = unsigned
) -> tables.Dispatch:
    """From now on it will be said: the alert, what must follow from it and the audit in one transaction.

    An Update takes the place of its original in the same transaction. Raises NotAllowed, or Refused when it has
    ended meanwhile, its original no longer stands, or it cannot be signed and is to be: nothing goes out unsigned then.
    """
    _still_useful(row, now)
    state = advance(row.identifier, row.state, Action.ISSUE)
    if row.updates is not None:
        await _supersede(session, row, actor, now)
    row.state, row.issued_at = state, now
    alert = replace(cap_json.from_json(row.document), sent=now.replace(microsecond=0))
    row.document = cap_json.to_json(alert)
    dispatch = await _say(session, row, alert, now, sign)
    await _note(session, "issue", row, actor, now)
    return dispatch


async def issue_by_policy(
    session: AsyncSession, row: tables.Alert, authority: Authority, feed: Actor, now: datetime, sign: Sign = unsigned
) -> tables.Dispatch:
    """Approve and issue what a source wrote. The second person is the comune: its file lets this source issue.

    Raises as `issue` does.
    """
    row.state = advance(row.identifier, row.state, Action.APPROVE)
    row.approver, row.approved_at = f"policy of {authority.code}", now
    await _note(session, "approve", row, feed, now, by=row.approver)
    return await issue(session, row, feed, now, sign)


async def cancel(
    session: AsyncSession,
    row: tables.Alert,
    authority: Authority,
    actor: Actor,
    reason: str,
    now: datetime,
    sign: Sign = unsigned,
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
    if actor.role is not Role.FEED:
        await paging.close(session, f"alert {row.identifier}", actor.name, now)
    row.ended_at = now
    await _note(session, "cancel", row, actor, now, was=str(was))
    if was is not State.ISSUED:
        return None
    original = await session.get_one(tables.Dispatch, await _dispatch_of(session, row.identifier))
    original.withdrawn_at = now
    taken_back = retraction(cap_json.from_json(row.document), authority, reason, now)
    cancel_row = tables.Alert(
        identifier=taken_back.identifier,
        authority=row.authority,
        kind=row.kind,
        state=State.ISSUED,
        status=row.status,
        msg_type=cap.MsgType.CANCEL,
        lane=lane_of(taken_back, follows=row.lane),
        document=cap_json.to_json(taken_back),
        geofence=row.geofence,
        areas=row.areas,
        cancels=row.identifier,
        author=actor.name,
        drafted_at=now,
        issued_at=now,
        expires_at=taken_back.expires,
    )
    session.add(cancel_row)
    await session.flush()
    await _say(session, cancel_row, taken_back, now, sign)
    return cancel_row


def target_of(row: tables.Alert) -> Target:
    """Who an alert is for. The wall: what is not Actual never meets a live recipient."""
    drawn, left_out = row.geofence["drawn"], row.geofence.get("left_out")
    return Target(
        authority=row.authority,
        live=row.status is cap.Status.ACTUAL,
        areas=tuple(row.areas),
        drawn=parse_geojson(drawn, IMPORTED) if drawn else None,
        without=parse_geojson(left_out["fence"], IMPORTED) if left_out else None,
        versions={area["code"]: area["version"] for area in row.geofence["areas"]},
        lane=row.lane,
        topic=topic_of(row.kind, row.lane),
    )


def target_in(where: Where, authority: Authority, *, live: bool, topic: Topic) -> Target:
    """Who something that is not drafted yet would be for."""
    versions = {code: authority.territory.gazetteer.by_code(code).version for code in where.areas}
    left_out = where.left_out.fence(authority)
    return Target(authority.code, live, where.areas, where.drawn, left_out, versions, topic=topic)


async def audience_of(session: AsyncSession, row: tables.Alert) -> Target:
    """Who an alert is for, and whom an Update or a Cancel owes it besides: those of all that it follows.

    That something is over is for these alone: whoever never heard of it is not woken for its end.
    """
    told = await _told_by(session, row.cancels or row.updates)
    return replace(target_of(row), told=told, only_told=row.cancels is not None or _is_all_clear(row))


def _is_all_clear(row: tables.Alert) -> bool:
    said = row.document["infos"][0]["response_type"]
    return row.updates is not None and cap.ResponseType.ALL_CLEAR.value in said


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
    if row.intake is not None and original.state in (State.ISSUED, State.EXPIRED) and original.expires_at <= now:
        return  # what a source said meanwhile holds, and what it was to replace has ended by itself
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


# ── what is kept with it ────────────────────────────────────────────────────────────────────────────


def _snapshot(where: Where, authority: Authority) -> dict[str, object]:
    """The place as it was when it was drawn, so that the decision can be made again years later."""
    kept: dict[str, object] = {
        "areas": _versions(where.areas, authority),
        "drawn": to_geojson(where.drawn) if where.drawn else None,
    }
    if without := where.left_out.fence(authority):
        kept["left_out"] = {"areas": _versions(where.left_out.areas, authority), "fence": to_geojson(without)}
    return kept


def _versions(codes: Sequence[str], authority: Authority) -> list[dict[str, object]]:
    gazetteer = authority.territory.gazetteer
    return [{"code": code, "version": gazetteer.by_code(code).version} for code in codes]


def _still_useful(row: tables.Alert, now: datetime) -> None:
    if row.expires_at <= now:
        raise Refused(
            Objection("expires", f"alert {row.identifier} ended at {row.expires_at:%H:%M} UTC: draft a new one")
        )


# ── saying it ───────────────────────────────────────────────────────────────────────────────────────


async def _say(
    session: AsyncSession, row: tables.Alert, alert: cap.Alert, now: datetime, sign: Sign
) -> tables.Dispatch:
    try:
        row.cap = sign(row.authority, write(alert))
    except SigningFailed as failed:
        raise Refused(Objection("signature", f"{failed}; nothing was published, as {row.authority} signs")) from None
    except Unwritable as wrong:
        raise Refused(Objection("document", f"{wrong}; draft it anew")) from None
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
    await outbox.offer(session, issued, row.cap)
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
