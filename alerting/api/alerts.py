"""Alerts over HTTP: drafted by one, approved by another, issued, followed, taken back."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse
from sqlalchemy import and_, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import attachments, cap_json, composing, costs, issuing, targeting
from alerting.actors import Actor, Role
from alerting.api.areas import resolved
from alerting.api.costs import amounts
from alerting.api.parts import Parts, parts_of, public_url
from alerting.api.problems import Problem, refusal
from alerting.api.routes import Guarded
from alerting.api.schemas import (
    SEES_NO_PERSON,
    AccountShareOut,
    AlertDetail,
    AlertList,
    AlertOut,
    AreaShare,
    CancelIn,
    Cancelled,
    CostOut,
    DeliveryOut,
    DraftedOut,
    DraftIn,
    FallbackOut,
    FindingOut,
    Issued,
    PreviewOut,
    TextLength,
    TextOut,
    shown,
    shown_at_most,
)
from alerting.api.security import Doing, authority_for, may, within
from alerting.composing import LeftOut, Objection, Refused, Wording
from alerting.domain import rendering, text_rules
from alerting.domain.attachments import Enclosure, shown_by
from alerting.domain.authority import Authority
from alerting.domain.cap import Alert, Status
from alerting.domain.choices import topic_of
from alerting.domain.delivery import Channel, Progress
from alerting.domain.lanes import Lane
from alerting.domain.lifecycle import State
from alerting.domain.rendering import Form, Rendering
from alerting.domain.translations import Translation
from alerting.domain.urgency import lane_of
from alerting.persistence import fallbacks, ledger, tables
from alerting.targeting import AccountShare, Target
from geo.geojson import parse_geojson
from geo.shapes import Geofence, ShapeError

router = APIRouter(prefix="/alerts", tags=["alerts"], route_class=Guarded)

IDENTIFIER = re.compile(r"[A-Za-z0-9._-]{1,100}")


# ── the four actions ────────────────────────────────────────────────────────────────────────────────


@router.post("", status_code=201, summary="Draft an alert")
async def draft(
    said: DraftIn,
    request: Request,
    response: Response,
    parts: Parts = Depends(parts_of),
    actor: Actor = Depends(may(Doing.DRAFT)),
) -> DraftedOut:
    """Nobody is told yet: another person approves it, then it is issued.

    With `updates` it is an Update, and an alert like any other: the one it names stands until this one is issued.
    `findings` say what could be said better; they forbid nothing.
    """
    authority = authority_for(actor, said.authority, parts.authorities)
    wording, now = _wording(said, authority), _now()
    async with parts.database.write() as session:
        original = await _original(session, said)
        enclosure = await _enclosure(session, said, public_url(request, parts), drafted_at=now)
        wording = replace(wording, enclosure=enclosure)
        row = await issuing.draft(session, wording, authority, actor, now, updates=original)
    response.headers["Location"] = f"/v1/alerts/{row.identifier}"
    return DraftedOut(**_out(row).model_dump(), findings=_findings(cap_json.from_json(row.document)))


@router.post("/{identifier}/approve", summary="Approve a draft")
async def approve(
    identifier: str, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.APPROVE))
) -> AlertOut:
    """The second person's yes: whoever wrote it cannot say it."""
    async with parts.database.write() as session:
        row = await _held(session, identifier, actor)
        try:
            await issuing.approve(session, row, actor, _now())
        except Refused as too_late:
            raise refusal(too_late.objections, status=409) from None
    return _out(row)


@router.post("/{identifier}/issue", status_code=202, summary="Issue an approved alert")
async def issue(identifier: str, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.ISSUE))) -> Issued:
    """From the moment of this answer it will be said, whatever breaks; what it updates is said to nobody else."""
    now = _now()
    async with parts.database.write() as session:
        row = await _held(session, identifier, actor)
        try:
            await issuing.issue(session, row, actor, now, parts.sign)
        except Refused as too_late:
            raise refusal(too_late.objections, status=409) from None
    return Issued(identifier=row.identifier, state=row.state, lane=row.lane, issued_at=now)


@router.post("/{identifier}/cancel", summary="Take an alert back")
async def cancel(
    identifier: str, said: CancelIn, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.CANCEL))
) -> Cancelled:
    """What still waits is withdrawn; whoever got it, or may have, is told. A retraction waits for nobody.

    Of an Update, also whoever has only what it replaced: that stays superseded, it does not come back into force.
    """
    async with parts.database.write() as session:
        row = await _held(session, identifier, actor)
        authority = _authority_of(row, parts)
        telling = await issuing.cancel(session, row, authority, actor, said.reason, _now(), parts.sign)
    return Cancelled(identifier=row.identifier, state=row.state, cancel=telling.identifier if telling else None)


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────


@router.get("", summary="List alerts, the newest first")
async def list_alerts(
    authority: str | None = None,
    state: State | None = None,
    cursor: Annotated[str | None, Query(max_length=300)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    parts: Parts = Depends(parts_of),
    actor: Actor = Depends(may(Doing.READ)),
) -> AlertList:
    """Page by page: give `next_cursor` back as `cursor`."""
    query = select(tables.Alert).order_by(tables.Alert.drafted_at.desc(), tables.Alert.identifier.desc())
    if (authority or actor.authority) is not None:
        query = query.where(tables.Alert.authority == authority_for(actor, authority, parts.authorities).code)
    if state is not None:
        query = query.where(tables.Alert.state == state)
    if cursor is not None:
        moment, identifier = _read_cursor(cursor)
        query = query.where(
            or_(
                tables.Alert.drafted_at < moment,
                and_(tables.Alert.drafted_at == moment, tables.Alert.identifier < identifier),
            )
        )
    async with parts.database.read() as session:
        rows = (await session.scalars(query.limit(limit + 1))).all()
    page = rows[:limit]
    return AlertList(
        items=[_out(row) for row in page],
        next_cursor=_cursor(page[-1]) if len(rows) > limit else None,
    )


@router.get("/{identifier}", summary="Read an alert and how far it has come")
async def read_alert(
    identifier: str, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.READ))
) -> AlertDetail:
    """The CAP message, what people read, and the live progress of its delivery."""
    async with parts.database.read() as session:
        row = await _found(session, identifier, actor)
        dispatch = await _dispatch(session, row)
        fallback = await fallbacks.summary(session, dispatch.id) if dispatch else None
        delivery = await _delivery(session, dispatch, fallback.due) if dispatch and fallback else None
        spent = await costs.of_dispatch(session, dispatch.id) if dispatch else {}
    alert = cap_json.from_json(row.document)
    return AlertDetail(
        **_out(row).model_dump(),
        document=row.document,
        text=rendering.render(alert, link=_is_linked(alert, Form.TEMPLATE, parts.authorities.get(row.authority))).body,
        delivery=delivery,
        fallback=_fallback(fallback) if fallback else None,
        costs=[CostOut(channel=channel, **amounts(cost)) for channel, cost in spent.items()],
        findings=_findings(alert, row.issued_at),
    )


@router.get("/{identifier}/geofence", summary="Read where an alert is for", response_class=JSONResponse)
async def read_geofence(
    identifier: str, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.READ))
) -> Response:
    """As it was decided, years later too: named areas in the versions they had then, what was drawn, what was left out.

    A GeoJSON FeatureCollection. A circle is a Point with the property radius_km.
    """
    async with parts.database.read() as session:
        row = await _found(session, identifier, actor)
        named = {(area["code"], area["version"]) for area in row.geofence["areas"]}
        versions = await session.scalars(select(tables.Area).where(tables.Area.code.in_([code for code, _ in named])))
        areas = [area for area in versions if (area.code, area.version) in named]
    features = [
        {
            "type": "Feature",
            "id": f"{area.code} v{area.version}",
            "geometry": area.boundary,
            "properties": {"means": "area", "code": area.code, "version": area.version, "name": area.name},
        }
        for area in areas
    ]
    left_out = row.geofence.get("left_out")
    for means, drawn in (("drawn", row.geofence["drawn"]), ("left_out", left_out and left_out["fence"])):
        features += [_meaning(means, feature) for feature in _features(drawn)] if drawn else []
    return JSONResponse({"type": "FeatureCollection", "features": features}, media_type="application/geo+json")


def _features(geojson: dict[str, Any]) -> list[dict[str, Any]]:
    if geojson["type"] == "FeatureCollection":
        return list(geojson["features"])
    return [{"type": "Feature", "geometry": geojson, "properties": {}}]


def _meaning(means: str, feature: dict[str, Any]) -> dict[str, Any]:
    return feature | {"properties": {"means": means} | feature["properties"]}


# ── the preview ─────────────────────────────────────────────────────────────────────────────────────


@router.post("/preview", summary="Preview what has not been drafted yet")
async def preview_wording(
    said: DraftIn, request: Request, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.PREVIEW))
) -> PreviewOut:
    """Takes the body of a draft, stores nothing."""
    authority = authority_for(actor, said.authority, parts.authorities)
    wording = _wording(said, authority)
    async with parts.database.read() as session:
        original = await _original(session, said)
        wording = replace(wording, enclosure=await _enclosure(session, said, public_url(request, parts)))
        alert = composing.compose(wording, authority, _now(), original)
        where = composing.where_of(wording, authority)
        lane = lane_of(alert, follows=original.lane if original else None)
        topic = topic_of(wording.kind, lane)
        target = issuing.target_in(where, authority, live=not wording.exercise, topic=topic)
        if original is not None:
            await issuing.check_stands(session, original, _now())
            target = await issuing.audience_of_update(session, target, original)
    return await _preview(parts, alert, target, authority, lane, actor.role)


@router.get("/{identifier}/preview", summary="Preview a stored alert")
async def preview_alert(
    identifier: str, parts: Parts = Depends(parts_of), actor: Actor = Depends(may(Doing.PREVIEW))
) -> PreviewOut:
    """Whom it would reach now."""
    async with parts.database.read() as session:
        row = await _found(session, identifier, actor)
        target = await issuing.audience_of(session, row)
    alert = cap_json.from_json(row.document)
    return await _preview(parts, alert, target, _authority_of(row, parts), row.lane, actor.role)


async def _preview(
    parts: Parts, alert: Alert, target: Target, authority: Authority, lane: Lane, role: Role
) -> PreviewOut:
    async with parts.database.read() as session:
        found = await targeting.preview(session, target, authority, lane)
        promised = await costs.promised(session, authority.code, lane, _now())
    linked = {form: _is_linked(alert, form, authority) for form in Form}
    rendered, as_sms = (rendering.render(alert, form, link=linked[form]) for form in (Form.TEMPLATE, Form.SMS))
    cut_to_fit = {Channel.SMS: as_sms, Channel.MQTT: rendering.render(alert, Form.PANEL)}
    # That an account is not among them would tell whoever sees no person that there is none.
    shares = [share for share in found.by_account if share.recipients or role in SEES_NO_PERSON]
    euros = [_euro(share, authority, role, as_sms) for share in shares]
    people = sum(shown_at_most(share.recipients, role) for share in shares)
    return PreviewOut(
        authority=authority.code,
        lane=lane,
        exercise=alert.status is not Status.ACTUAL,
        recipients=shown(found.recipients, role),
        place_unknown=shown(found.place_unknown, role),
        by_area=[
            AreaShare(code=area.code, name=area.name, recipients=shown(found.by_area.get(area.code, 0), role))
            for area in authority.territory.areas
        ],
        by_account=[
            AccountShareOut(
                account=share.account,
                channel=share.channel,
                recipients=shown(share.recipients, role),
                waiting_before=share.waiting_before,
                minutes=share.minutes(shown_at_most(share.recipients, role)),
                euro=euro,
            )
            for share, euro in zip(shares, euros, strict=True)
        ],
        minutes=max((s.minutes(shown_at_most(s.recipients, role)) for s in shares), default=0.0),
        euro=None if None in euros else round(sum(filter(None, euros)), 2),
        euro_at_most=None
        if None in euros
        else round(sum(filter(None, euros)) + _fallback_at_most(alert, authority, lane, people, promised), 2),
        text=rendered.body,
        characters=[
            TextLength(
                channel=access.channel,
                characters=shown_there.characters,
                most=rendering.most_of(shown_there, rendering.FORM_OF[access.channel]),
                carries_enclosure=_carries(alert, access.channel, access.settings),
            )
            for access in authority.channels
            for shown_there in [cut_to_fit.get(access.channel, rendered)]
        ],
        texts=[_text(alert, form, link=linked[form]) for form in Form],
        findings=_findings(alert),
        rounded=role in SEES_NO_PERSON,
    )


def _euro(share: AccountShare, authority: Authority, role: Role, as_sms: Rendering) -> float | None:
    """What telling them costs, by the price in the comune's file. Of an SMS each part is paid."""
    price = next((access.euro_per_text for access in authority.channels if access.name == share.account), None)
    if price is None:
        return None
    paid = as_sms.size.parts if share.channel is Channel.SMS and as_sms.size else 1
    return round(price * paid * shown_at_most(share.recipients, role), 2)


def _fallback_at_most(alert: Alert, authority: Authority, lane: Lane, people: int, promised: int) -> float:
    """Euro for telling every one of them again on each channel that costs, as far as the budget reaches.

    How many have such an address is not counted: the budget is nearly always the smaller.
    """
    policy = authority.fallback.of(lane)
    dearest = 0
    for access in authority.channels:
        if access.exercise or (policy.order and access.channel not in policy.order) or access.euro_per_text is None:
            continue
        form = rendering.FORM_OF[access.channel]
        words = rendering.render(alert, form, link=_is_linked(alert, form, authority)).body
        price = costs.price(access.channel, costs.micro(access.euro_per_text), lane, words)
        dearest += price.micro_euro if price else 0
    return costs.euro(min(policy.left(0, promised), dearest * people))


def _carries(alert: Alert, channel: Channel, settings: Mapping[str, str]) -> bool | None:
    """Whether what an alert shows goes with its text on an account; None where it shows nothing."""
    shown = shown_by(alert)
    return rendering.carries(channel, settings, shown.mime_type, shown.size) if shown else None


def _is_linked(alert: Alert, form: Form, authority: Authority | None) -> bool:
    """Whether the text in this form says where to find it: an account does not carry it, or would not if it had one.

    On a message panel there is no room for an address.
    """
    if form is Form.PANEL:
        return False
    accounts = [access for access in authority.channels if not access.exercise] if authority else []
    of_form = [(one.channel, one.settings) for one in accounts if rendering.FORM_OF[one.channel] is form]
    nobodys: list[tuple[Channel, dict[str, str]]] = [(c, {}) for c, its in rendering.FORM_OF.items() if its is form]
    return any(_carries(alert, channel, settings) is False for channel, settings in of_form or nobodys)


def _text(alert: Alert, form: Form, *, link: bool) -> TextOut:
    rendered = rendering.render(alert, form, link=link)
    return TextOut(
        form=form,
        text=rendered.body,
        subject=rendered.subject or None,
        characters=rendered.characters,
        most=rendering.most_of(rendered, form),
        encoding=rendered.size.encoding if rendered.size else None,
        parts=rendered.size.parts if rendered.size else None,
        shortened=rendered.shortened,
        linked=link,
    )


def _findings(alert: Alert, issued_at: datetime | None = None) -> list[FindingOut]:
    """What could be said better now; of what has been issued, what could have been then."""
    return [
        FindingOut(rule=finding.rule, severity=finding.weight, text=finding.text)
        for finding in text_rules.lint(alert, issued_at or _now())
    ]


# ── from the wire to the use cases ──────────────────────────────────────────────────────────────────


def _wording(said: DraftIn, authority: Authority) -> Wording:
    return Wording(
        kind=said.kind,
        headline=said.headline,
        description=said.description,
        expires=said.expires,
        instruction=said.instruction,
        onset=said.onset,
        colour=said.colour,
        risk=said.risk,
        areas=_resolved(said.areas, authority),
        drawn=_drawn(said.geofence, "geofence"),
        drawn_name=said.geofence_name,
        left_out=_left_out(said, authority),
        cut_at_border=said.cut_at_border,
        web=said.web,
        exercise=said.exercise,
        translations=tuple(Translation(**translation.model_dump()) for translation in said.translations),
    )


def _resolved(codes: list[str], authority: Authority) -> tuple[str, ...]:
    return tuple(dict.fromkeys(resolved(code, authority) for code in codes))


def _left_out(said: DraftIn, authority: Authority) -> LeftOut:
    if said.left_out is None:
        return LeftOut()
    return LeftOut(_resolved(said.left_out.areas, authority), _drawn(said.left_out.geofence, "left_out/geofence"))


def _drawn(geojson: dict[str, Any] | None, field: str) -> Geofence | None:
    if geojson is None:
        return None
    try:
        drawn = parse_geojson(geojson)
    except ShapeError as flawed:
        raise Refused(Objection(field, str(flawed))) from None
    if not drawn.is_plain:
        raise Refused(Objection(field, "has features with a role: give what is not meant as left_out instead"))
    return drawn


async def _original(session: AsyncSession, said: DraftIn) -> tables.Alert | None:
    if said.updates is None:
        return None
    row = await session.get(tables.Alert, said.updates) if IDENTIFIER.fullmatch(said.updates) else None
    if row is None:
        raise Refused(Objection("updates", f"there is no alert {said.updates[:100]!r}: GET /v1/alerts lists them"))
    return row


async def _enclosure(
    session: AsyncSession, said: DraftIn, url: str, *, drafted_at: datetime | None = None
) -> Enclosure | None:
    """What it shows. From the moment of its draft that stays."""
    if said.enclosure is None:
        return None
    sha256 = said.enclosure.sha256
    if drafted_at is not None:
        await attachments.take_up(session, sha256, drafted_at)
    found = await attachments.enclosure(session, sha256, said.enclosure.says, url)
    if found is None:
        raise Refused(Objection("enclosure/sha256", "is no attachment here, or no more: POST the file to /attachments"))
    return replace(found, digest=await attachments.sha1_of(session, sha256)) if drafted_at is not None else found


async def _held(session: AsyncSession, identifier: str, actor: Actor) -> tables.Alert:
    """The alert, locked: of two who act at once one comes second, and sees what the first did."""
    return await _found(session, identifier, actor, locked=True)


async def _found(session: AsyncSession, identifier: str, actor: Actor, *, locked: bool = False) -> tables.Alert:
    row = None
    if IDENTIFIER.fullmatch(identifier):
        row = await session.get(tables.Alert, identifier, with_for_update=True if locked else None)
    if row is None:
        raise Problem(404, f"there is no alert {identifier[:100]!r}: GET /v1/alerts lists them")
    within(actor, row.authority)
    return row


def _authority_of(row: tables.Alert, parts: Parts) -> Authority:
    try:
        return parts.authorities[row.authority]
    except KeyError:
        raise Problem(
            409, f"{row.authority} no longer speaks through this system: put its file back, then ask again"
        ) from None


# ── from the rows to the wire ───────────────────────────────────────────────────────────────────────


def _out(row: tables.Alert) -> AlertOut:
    return AlertOut(
        identifier=row.identifier,
        authority=row.authority,
        kind=row.kind,
        state=row.state,
        status=row.status,
        msg_type=row.msg_type,
        lane=row.lane,
        headline=row.document["infos"][0]["headline"],
        areas=row.areas,
        author=row.author,
        approver=row.approver,
        cancels=row.cancels,
        updates=row.updates,
        intake=row.intake,
        source=row.author if row.intake is not None else None,  # whoever wrote it is the source
        drafted_at=row.drafted_at,
        approved_at=row.approved_at,
        issued_at=row.issued_at,
        expires_at=row.expires_at,
        ended_at=row.ended_at,
    )


async def _dispatch(session: AsyncSession, row: tables.Alert) -> tables.Dispatch | None:
    if row.issued_at is None:
        return None
    return await session.scalar(select(tables.Dispatch).where(tables.Dispatch.alert == row.identifier))


def _fallback(found: fallbacks.Summary) -> FallbackOut:
    return FallbackOut(
        followed=found.followed,
        not_followed=found.not_followed,
        due=found.due,
        told_twice=found.told_twice,
        euro=costs.euro(found.micro_euro),
    )


async def _delivery(session: AsyncSession, dispatch: tables.Dispatch, due: int) -> DeliveryOut:
    """How far it has come; whoever is about to be told on another channel is not through."""
    found = await ledger.summary(session, dispatch.id)
    final = sum(count for progress, count in found.items() if progress.is_final)
    return DeliveryOut(
        audience=dispatch.audience,
        final=final,
        complete=dispatch.audience is not None and final >= dispatch.audience and not due,
        **{progress.name.lower(): found.get(progress, 0) for progress in Progress},
    )


def _cursor(row: tables.Alert) -> str:
    return urlsafe_b64encode(f"{row.drafted_at.isoformat()} {row.identifier}".encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> tuple[datetime, str]:
    try:
        written = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        moment, _, identifier = written.partition(" ")
        when = datetime.fromisoformat(moment)
        if when.tzinfo is None or not IDENTIFIER.fullmatch(identifier):
            raise ValueError(cursor)
        return when.astimezone(UTC), identifier
    except (ValueError, OverflowError):
        raise refusal([Objection("cursor", "is not one of ours: give next_cursor of the page before")]) from None


def _now() -> datetime:
    return datetime.now(UTC)
