"""The national bulletin: every zone, risk and day anew. What it does not speak of is not green; somebody is told."""

import asyncio
import hashlib
from collections.abc import Iterable

from sqlalchemy import select

from alerting.domain.authority import Authority
from alerting.domain.findings import Finding, Weight
from alerting.domain.intake import IntakeState
from alerting.feeds import dpc
from alerting.intake import forecasts
from alerting.intake.cases import HEADLINE, Case
from alerting.intake.drafting import Became
from alerting.intake.forecasts import Held
from alerting.intake.judging import CLOCKS_DIFFER
from alerting.persistence import tables

ZONES_NAMED = 10
"""Of those that came or went, in what whoever is on duty reads; the findings name them all."""


async def look(case: Case) -> None:
    """Read it, and say in each comune what it changes there."""
    row, source = case.row, case.source
    try:
        bulletin = await asyncio.to_thread(dpc.read_archive, row.raw)
    except dpc.BulletinUnreadable as unreadable:
        case.end(IntakeState.QUARANTINED, str(unreadable))
        return
    case.found(bulletin.findings)
    row.headline = f"Bollettino {bulletin.identifier}"[:HEADLINE]
    row.message_hash = hashlib.sha256(f"{source.name} {bulletin.issued.isoformat()}".encode()).hexdigest()
    if bulletin.issued > case.now + CLOCKS_DIFFER and not row.settled_by:
        case.end(IntakeState.QUARANTINED, f"it was issued at {bulletin.issued:%F %T%z}, which is yet to come")
        return
    await case.hold(case.desk.authorities)
    before = await _before(case)
    if not dpc.newer(before, bulletin):
        case.end(IntakeState.REPEATED, "a bulletin as new as this one was here before it")
        return
    became = [one for authority in case.desk.authorities.values() if (one := await _tell(case, bulletin, authority))]
    if before is not None and (changed := dpc.zones_changed(before.zones, bulletin.zones)):
        case.found(changed)
        await case.call(drift(before.zones, bulletin.zones))
    case.end(IntakeState.TAKEN, became=became)


async def _tell(case: Case, bulletin: dpc.Bulletin, authority: Authority) -> Became | None:
    told = await forecasts.held_before(case, authority)
    outlook = dpc.holds(bulletin, authority.warning_zones, told, case.now)
    unknown = sorted(
        set(authority.warning_zones) - bulletin.zones.keys() | bulletin.at_least & {*authority.warning_zones}
    )
    if unknown:
        sentence = f"il bollettino non dice tutto di {', '.join(unknown)}: ciò che vale a {authority.name} non è certo"
        await case.call(sentence, authority.code)
    return None if outlook is None else await forecasts.restate(case, authority, map(Held, outlook), None)


async def _before(case: Case) -> dpc.Bulletin | None:
    """The bulletin that counted until now: not one from the future that somebody let pass, or none would be newer."""
    query = select(tables.Intake.raw).where(
        tables.Intake.source == case.source.name,
        tables.Intake.state == IntakeState.TAKEN,
        tables.Intake.id != case.row.id,
    )
    raw = await case.session.scalar(query.order_by(tables.Intake.id.desc()).limit(1))
    if raw is None:
        return None
    try:
        before = await asyncio.to_thread(dpc.read_archive, raw)
    except dpc.BulletinUnreadable as unreadable:  # an older version of ours took it: this one must count all the same
        case.found([Finding("bulletin-before", Weight.WARNING, None, f"the one before cannot be read: {unreadable}")])
        return None
    return before if before.issued <= case.now + CLOCKS_DIFFER else None


def drift(before: Iterable[str], now: Iterable[str]) -> str:
    """For whoever is on duty: which zones came and went, of two sets that differ."""
    new, gone = sorted(set(now) - set(before)), sorted(set(before) - set(now))
    came = [f"nomina zone nuove ({_some(new)})"] if new else []
    went = [f"non nomina più {_some(gone)}"] if gone else []
    return f"il bollettino {' e '.join(came + went)}: verificare in quali zone stanno i comuni."


def _some(zones: list[str]) -> str:
    more = f" e altre {len(zones) - ZONES_NAMED}" if len(zones) > ZONES_NAMED else ""
    return ", ".join(zones[:ZONES_NAMED]) + more
