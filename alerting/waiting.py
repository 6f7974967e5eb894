"""What waits for a person, and for how long: pages nobody has acknowledged, documents nobody has decided on."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from alerting.domain.intake import IntakeState
from alerting.persistence.tables import Intake, Page


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many of a kind, and how long the oldest has."""

    how_many: int = 0
    oldest: timedelta = timedelta()


async def pages(session: AsyncSession, now: datetime) -> dict[str | None, Waiting]:
    """The open ones, by whose they are; None for everybody's."""
    query = select(Page.authority, func.count(), func.min(Page.at)).where(Page.acknowledged_at.is_(None))
    rows = await session.execute(query.group_by(Page.authority))
    return {authority: Waiting(how_many, now - oldest) for authority, how_many, oldest in rows}


async def quarantined(session: AsyncSession, now: datetime) -> dict[str, Waiting]:
    """The documents in quarantine, by source, since they were received."""
    query = select(Intake.source, func.count(), func.min(Intake.received_at))
    rows = await session.execute(query.where(Intake.state == IntakeState.QUARANTINED).group_by(Intake.source))
    return {source: Waiting(how_many, now - oldest) for source, how_many, oldest in rows}
