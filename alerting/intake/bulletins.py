"""The national bulletin: every zone, risk and day anew. What it does not speak of is not green; somebody is told."""

import asyncio
import hashlib

from sqlalchemy import select

from alerting.domain.authority import Authority
from alerting.domain.intake import IntakeState
from alerting.feeds import dpc
from alerting.intake import forecasts
from alerting.intake.cases import HEADLINE, Case
from alerting.intake.drafting import Became
from alerting.intake.forecasts import Held
from alerting.intake.judging import CLOCKS_DIFFER
from alerting.persistence import tables


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
        await case.call(changed[0].text)
    case.end(IntakeState.TAKEN, became=became)


async def _tell(case: Case, bulletin: dpc.Bulletin, authority: Authority) -> Became | None:
    told = await forecasts.held_by(case.session, authority, case.source, case.now)
    outlook = dpc.holds(bulletin, authority.warning_zones, told, case.now)
    unknown = sorted(
        set(authority.warning_zones) - bulletin.zones.keys() | bulletin.at_least & {*authority.warning_zones}
    )
    if unknown:
        sentence = f"il bollettino non dice tutto di {', '.join(unknown)}: ciò che vale a {authority.name} non è certo"
        await case.call(sentence, authority.code)
    return None if outlook is None else await case.restate(authority, map(Held, outlook), None)


async def _before(case: Case) -> dpc.Bulletin | None:
    """The bulletin that counted until now."""
    query = select(tables.Intake.raw).where(
        tables.Intake.source == case.source.name,
        tables.Intake.state == IntakeState.TAKEN,
        tables.Intake.id != case.row.id,
    )
    raw = await case.session.scalar(query.order_by(tables.Intake.id.desc()).limit(1))
    return await asyncio.to_thread(dpc.read_archive, raw) if raw is not None else None
