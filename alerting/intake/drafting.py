"""From a message composed for a comune to what its policy wants: issued, drafted, or drafted with somebody called."""

from dataclasses import dataclass
from datetime import datetime

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import issuing, paging
from alerting.actors import Actor, Role
from alerting.cap_xml.writing import Unwritable
from alerting.composing import Refused, Where
from alerting.domain import cap
from alerting.domain.authority import Authority
from alerting.domain.findings import Weight
from alerting.domain.kinds import Kind
from alerting.domain.lifecycle import State
from alerting.domain.policies import Then, more_cautious
from alerting.domain.sources import Source
from alerting.domain.text_rules import lint
from alerting.persistence import tables

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Became:
    """What was done for one comune: `issued`, `drafted`, `joined` (told already), `cancelled`, `shown`, `nothing`."""

    authority: str
    did: str
    alert: str | None = None
    because: str = ""


@dataclass(frozen=True, slots=True)
class Composed:
    """A message for a comune, ready to be kept, and what it comes from."""

    alert: cap.Alert
    kind: Kind
    where: Where
    authority: Authority
    source: Source
    intake: int

    @property
    def feed(self) -> Actor:
        """Who wrote it."""
        return feed_of(self.source)


def feed_of(source: Source) -> Actor:
    """A source, as somebody who acts."""
    return Actor(source.name, Role.FEED)


async def follow(
    session: AsyncSession,
    made: Composed,
    then: Then,
    now: datetime,
    sign: issuing.Sign,
    *,
    updates: tables.Alert | None = None,
    instead_of: tables.Alert | None = None,
    is_graver: bool = True,
) -> Became:
    """Do what the policy wants. `instead_of` is a draft this replaces; its page moves along unless it `is_graver`."""
    code = made.authority.code
    undoes_approval = instead_of is not None and instead_of.state is State.APPROVED
    if instead_of is not None:
        await issuing.cancel(session, instead_of, made.authority, made.feed, "replaced by a newer draft", now)
    if then is Then.SHOW:
        if instead_of is not None:
            await paging.close(session, f"alert {instead_of.identifier}", made.source.name, now)
        return Became(code, "shown", because="its policy only shows this")
    # What a person would be warned of before sending is for a person to decide.
    doubts = [finding for finding in lint(made.alert) if finding.weight is Weight.ERROR]
    wanted = more_cautious(then, Then.PAGE) if doubts else then
    row = await issuing.keep(
        session, made.alert, made.kind, made.where, made.authority, made.feed, now, updates, made.intake
    )
    sentence = doubts[0].text if doubts else ""
    if wanted is Then.ISSUE:
        trouble = await _issue(session, row, made, now, sign)
        if not trouble:
            if instead_of is not None:
                await paging.close(session, f"alert {instead_of.identifier}", made.source.name, now)
            return Became(code, "issued", row.identifier)
        wanted, sentence = Then.PAGE, trouble
    await session.flush()
    moved = instead_of is not None and await paging.move(
        session, f"alert {instead_of.identifier}", f"alert {row.identifier}"
    )
    if undoes_approval or (wanted is Then.PAGE and (is_graver or not moved)):
        reason = f"{made.source.title}: {made.alert.first.headline}"
        await paging.call(session, f"alert {row.identifier}", f"{reason}. {sentence}".strip(), now, code)
    return Became(code, "drafted", row.identifier, sentence)


async def _issue(session: AsyncSession, row: tables.Alert, made: Composed, now: datetime, sign: issuing.Sign) -> str:
    """Why it could not be issued; empty when it was."""
    try:
        async with session.begin_nested():
            await issuing.issue_by_policy(session, row, made.authority, made.feed, now, sign)
    except (Refused, Unwritable) as refused:
        await session.refresh(row)
        log.error("could not be issued by policy", alert=row.identifier, error=type(refused).__name__)
        return str(refused)
    return ""


def is_open_draft(row: tables.Alert) -> bool:
    """Whether it still waits for a person."""
    return row.state in (State.DRAFT, State.APPROVED)
