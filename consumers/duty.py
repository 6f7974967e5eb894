"""Whoever is on duty is called again and again, until somebody says they have seen it."""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import batching
from alerting.domain.authority import Authority, ChannelAccess
from alerting.domain.lanes import Lane
from alerting.persistence import Database, tables
from alerting.sealing import Seal

log = structlog.get_logger()

LOOK_EVERY = 2.0  # seconds
CALL_AGAIN = 300.0
CALLS = 24
"""Two hours of calls; after that only the console and Prometheus go on."""
AT_ONCE = 20
STAYS_TRUE = timedelta(minutes=4)


class Duty:
    """Calls who a comune's file names, on the account it names, in the lane of emergencies."""

    def __init__(self, database: Database, authorities: dict[str, Authority], seal: Seal) -> None:
        self._database = database
        self._authorities = authorities
        self._seal = seal

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.call(time.time())
            except (SQLAlchemyError, OSError) as error:
                log.warning("calling paused", error=type(error).__name__)
            await asyncio.sleep(LOOK_EVERY)

    async def call(self, now: float) -> None:
        """Everybody who is to look at something, and has not said so."""
        due = (
            tables.Page.acknowledged_at.is_(None),
            tables.Page.called_at < now - CALL_AGAIN,
            tables.Page.called < CALLS,
        )
        async with self._database.read() as session:
            if await session.scalar(select(tables.Page.id).where(*due).limit(1)) is None:
                return
        async with self._database.write() as session:
            query = select(tables.Page).where(*due).order_by(tables.Page.id).limit(AT_ONCE)
            pages = (await session.scalars(query.with_for_update(skip_locked=True))).all()
            for page in pages:
                page.called, page.called_at = page.called + 1, now
            for authority in self._authorities.values():
                if theirs := [page for page in pages if page.authority in (None, authority.code)]:
                    await self._say(session, authority, theirs, datetime.fromtimestamp(now, UTC))

    async def _say(
        self, session: AsyncSession, authority: Authority, pages: Sequence[tables.Page], now: datetime
    ) -> None:
        """One call for all there is to look at: a storm of documents must not become a storm of calls."""
        access = _account_of(authority)
        if authority.duty is None or access is None:
            return
        dispatch = tables.Dispatch(
            authority=authority.code,
            lane=Lane.EMERGENCY,
            issued_at=now,
            not_after=now + STAYS_TRUE,  # by then they are called again
            audience=1,
            reply_text=_words(pages),
            reply_to=self._seal.seal(authority.duty.to),
        )
        session.add(dispatch)
        await session.flush()
        session.add(tables.Delivery(dispatch_id=dispatch.id, seq=1))
        await batching.append(session, dispatch, access, 1)


def _account_of(authority: Authority) -> ChannelAccess | None:
    duty = authority.duty
    return next((one for one in authority.channels if duty is not None and one.name == duty.account), None)


def in_template(words: str) -> tuple[str, ...]:
    """A call as the five contents of the template every authority registers: WhatsApp brings free text only to whoever
    wrote within a day, and whoever is on duty need not have."""
    return "chiamata alla reperibilità", "nella console", "adesso", words, "conferma di aver visto la pagina."


def _words(pages: Sequence[tables.Page]) -> str:
    first, *others = pages
    again = f" ({first.called}ª chiamata)" if first.called > 1 else ""
    # In one line, which is all that a template takes; what others wrote may end anyhow.
    sentence = " ".join(first.sentence.split()).rstrip(".")
    more = f" E altre {len(others)} cose da guardare." if others else ""
    return f"REPERIBILITÀ{again}: {sentence}.{more} Conferma di aver visto la pagina {first.id}."
