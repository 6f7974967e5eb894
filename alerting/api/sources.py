"""Who feeds us and whether they still speak; and what MeteoAlarm expects, for operators' eyes only."""

import asyncio
from collections import defaultdict
from datetime import UTC, datetime, timedelta

from fastapi import APIRouter, Depends
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from alerting.actors import Actor
from alerting.api.parts import Parts, parts_of
from alerting.api.routes import Guarded
from alerting.api.schemas import ContextOut, ContextSource, DefectOut, ExpectedOut, SourceList, SourceOut
from alerting.api.security import Doing, may
from alerting.domain.intake import IntakeState
from alerting.domain.sources import Kind, Source
from alerting.feeds import meteoalarm
from alerting.feeds.meteoalarm import RegionWarning, Warnings
from alerting.persistence.tables import Feed, Intake

router = APIRouter(tags=["sources"], route_class=Guarded)

A_DAY = timedelta(hours=24)
REGION = "IT009"
"""Toscana, as MeteoAlarm calls it: where all the comuni of this system are."""


@router.get("/sources", summary="List sources, and how they stand")
async def list_sources(parts: Parts = Depends(parts_of), _: Actor = Depends(may(Doing.WATCH))) -> SourceList:
    """Each with its last answer, its last document, and what became of those of the last 24 hours."""
    async with parts.database.read() as session:
        feeds = {feed.source: feed for feed in await session.scalars(select(Feed))}
        counts = await _counts(session, datetime.now(UTC) - A_DAY)
        items = [
            _out(source, feeds.get(source.name), counts[source.name], await _newest(session, source))
            for source in parts.sources.values()
        ]
    return SourceList(items=items)


@router.get("/context", summary="See what MeteoAlarm expects here")
async def context(parts: Parts = Depends(parts_of), _: Actor = Depends(may(Doing.WATCH))) -> ContextOut:
    """Its warnings for the region that have not ended, green ones dropped. Show `disclaimer` beside them."""
    now = datetime.now(UTC)
    items = [
        await _expected(parts, source, now)
        for source in parts.sources.values()
        if source.kind is Kind.CONTEXT and source.enabled
    ]
    return ContextOut(region=REGION, items=items)


# ── how they stand ──────────────────────────────────────────────────────────────────────────────────


async def _counts(session: AsyncSession, since: datetime) -> dict[str, dict[IntakeState, int]]:
    query = select(Intake.source, Intake.state, func.count()).where(Intake.received_at > since)
    found: dict[str, dict[IntakeState, int]] = defaultdict(dict)
    for source, state, count in await session.execute(query.group_by(Intake.source, Intake.state)):
        found[source][state] = count
    return found


async def _newest(session: AsyncSession, source: Source) -> Intake | None:
    """Its newest document, without the bytes."""
    query = select(Intake).options(defer(Intake.raw)).where(Intake.source == source.name)
    return (await session.scalars(query.order_by(Intake.id.desc()).limit(1))).one_or_none()


def _out(source: Source, feed: Feed | None, counts: dict[IntakeState, int], newest: Intake | None) -> SourceOut:
    return SourceOut(
        name=source.name,
        title=source.title,
        kind=source.kind,
        nearness=source.nearness.name.lower(),
        enabled=source.enabled,
        polled=source.polling is not None,
        asked_at=_moment(feed.asked_at) if feed else None,
        answered_at=_moment(feed.answered_at) if feed else None,
        failures=feed.failures if feed else 0,
        trouble=feed.trouble if feed else "",
        silent_since=feed.silent_since if feed else None,
        last_24_hours=counts,
        last_received_at=newest.received_at if newest else None,
        last_headline=newest.headline if newest else "",
    )


def _moment(seconds: float | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


# ── what is expected ────────────────────────────────────────────────────────────────────────────────


async def _expected(parts: Parts, source: Source, now: datetime) -> ContextSource:
    newest = (
        select(Intake.raw, Intake.received_at).where(Intake.source == source.name).order_by(Intake.id.desc()).limit(1)
    )
    async with parts.database.read() as session:
        document = (await session.execute(newest)).one_or_none()
        feed = await session.get(Feed, source.name)
    # A whole country's feed takes some 20 ms to read.
    read = await asyncio.to_thread(meteoalarm.read_warnings, document.raw) if document else Warnings((), ())
    return ContextSource(
        source=source.name,
        title=source.title,
        licence=source.licence,
        disclaimer=source.disclaimer,
        fetched_at=document.received_at if document else None,
        confirmed_at=_moment(feed.answered_at) if feed else None,
        warnings=[_warning(one) for one in read.in_force(now).of_region(REGION)],
        findings=[DefectOut(rule=one.rule, severity=one.weight, line=one.line, text=one.text) for one in read.findings],
    )


def _warning(one: RegionWarning) -> ExpectedOut:
    return ExpectedOut(
        phenomenon=one.phenomenon.in_words if one.phenomenon else None,
        colour=one.level.in_words,
        event=one.event,
        headline=one.headline,
        description=one.description,
        disclaimer=one.disclaimer,
        sender=one.sender,
        sent=one.sent,
        onset=one.onset,
        expires=one.expires,
    )
