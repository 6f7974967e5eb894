"""One document on the desk: what it came as, whose it is, and what was found to follow from it."""

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import issuing, paging
from alerting.domain.authority import Authority
from alerting.domain.findings import Finding
from alerting.domain.intake import CameBy, IntakeState
from alerting.domain.policies import Then
from alerting.domain.sources import Source
from alerting.intake.drafting import Became
from alerting.persistence import dialects, tables

SENTENCE, HEADLINE = 500, 200
"""Characters that are kept of a reason and of a headline."""


@dataclass(frozen=True, slots=True)
class Desk:
    """Who speaks here, who may hand us something, and how what we publish is signed."""

    authorities: dict[str, Authority]
    sources: dict[str, Source]
    sign: issuing.Sign


@dataclass(frozen=True, slots=True)
class Case:
    """One document, in the transaction in which all that follows from it is done."""

    desk: Desk
    session: AsyncSession
    row: tables.Intake
    source: Source
    now: datetime

    @property
    def most(self) -> Then:
        """The boldest that may follow: what somebody let pass or handed in is not issued by a machine."""
        by_somebody = self.row.settled_by or self.row.came_by is CameBy.HAND
        return Then.PREPARE if by_somebody else Then.ISSUE

    def end(self, state: IntakeState, because: str = "", became: Iterable[Became] = ()) -> None:
        """What became of it."""
        self.row.state, self.row.because = state, because[:SENTENCE]
        self.row.became = [asdict(one) for one in became]

    def found(self, findings: Iterable[Finding]) -> None:
        """Keep what is wrong with it."""
        self.row.findings = [
            *(self.row.findings or []),
            *map(as_json, findings),
        ]

    async def call(self, sentence: str, authority: str | None = None) -> None:
        """Somebody on duty is to look at it."""
        about = f"intake {self.row.id}" + (f" {authority}" if authority else "")
        await paging.call(self.session, about, f"{self.source.title}: {sentence}", self.now, authority)

    async def alone(self) -> None:
        """One document of a source at a time: of an alert and its Cancel at the same moment one sees the other."""
        if dialects.is_postgresql(self.session):  # on SQLite there is one writer anyway
            key = int.from_bytes(hashlib.sha256(f"intake {self.source.name}".encode()).digest()[:8], signed=True)
            await self.session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})

    async def hold(self, codes: Iterable[str]) -> None:
        """Lock the comuni it concerns, in one order for all: of two sources the second sees what the first did."""
        query = select(tables.Authority.code).where(tables.Authority.code.in_(sorted(codes)))
        await self.session.execute(query.order_by(tables.Authority.code).with_for_update(key_share=True))


def as_json(one: Finding) -> dict[str, object]:
    """A finding as it is kept and shown."""
    return {"rule": one.rule, "severity": one.weight.value, "line": one.line, "text": one.text}
