"""Browsers that have unsubscribed, as a push service tells: erased, as if their people had asked us to."""

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from sqlalchemy.exc import SQLAlchemyError

from alerting import subscribing
from alerting.domain.authority import Authority
from alerting.domain.push import Subscription
from alerting.persistence import Database
from alerting.sealing import Seal
from alerting.subscribing import Subscriber
from consumers.channel import Account

log = structlog.get_logger()

GONE = "gone from the push service"
"""Stands in the proof in the place of the keyword."""
VOUCHED_WITHIN = 300.0  # seconds
MOST_IN_DOUBT = 20
"""Gone, it is said, while nobody is served: then it is the push service that has lost its mind."""
PAUSE_AFTER_TROUBLE = 0.5


@dataclass(frozen=True, slots=True)
class Gone:
    """A browser that is said to have unsubscribed, and when that was said."""

    account: Account
    subscription: Subscription
    at: float


class Leaving:
    """Erases whoever has gone. Make it inside a running event loop.

    A push service that answers 404 to everybody, for an hour, must not cost a town its subscribers. So each text that
    it takes for a browser vouches for one that it called gone before: a service that serves nobody is not believed.
    What is forgotten here, by a kill too, is said again at the next alert.
    """

    def __init__(self, database: Database, seal: Seal, authorities: Mapping[str, Authority]) -> None:
        self._database = database
        self._seal = seal
        self._authorities = authorities
        self._in_doubt: dict[tuple[str, str], deque[Gone]] = {}
        self._believed: deque[Gone] = deque()
        self._something = asyncio.Event()

    def gone(self, account: Account, subscription: Subscription) -> None:
        """A push service says that there is no such subscription any more."""
        waiting = self._in_doubt.setdefault((account.name, subscription.origin), deque())
        waiting.append(Gone(account, subscription, time.monotonic()))
        if len(waiting) > MOST_IN_DOUBT:
            log.warning("a push service calls everybody gone", account=account.name, host=subscription.origin)
            waiting.clear()

    def served(self, account: Account, origin: str) -> None:
        """A push service took a text: of those it called gone, the first is believed."""
        waiting = self._in_doubt.get((account.name, origin))
        while waiting and waiting[0].at < time.monotonic() - VOUCHED_WITHIN:
            waiting.popleft()
        if waiting:
            self._believed.append(waiting.popleft())
            self._something.set()

    async def run(self) -> None:
        """Erases until cancelled."""
        while True:
            await self._something.wait()
            self._something.clear()
            await self.flush()

    async def flush(self) -> None:
        """Erase all who are believed to have gone, however long the database is away."""
        while self._believed:
            try:
                await self._erase(self._believed[0])
            except (SQLAlchemyError, OSError) as error:
                log.warning("who has gone is not erased yet", people=len(self._believed), error=type(error).__name__)
                await asyncio.sleep(PAUSE_AFTER_TROUBLE)
            else:
                self._believed.popleft()

    async def _erase(self, one: Gone) -> None:
        authority = self._authorities.get(one.account.authority)
        access = next((a for a in authority.channels if a.name == one.account.name), None) if authority else None
        if authority is None or access is None:
            return  # its file is gone: nobody speaks to them any more
        who = Subscriber(authority, access, one.subscription.address)
        async with self._database.write() as session:
            await subscribing.lose(session, who, self._seal, keyword=GONE, now=datetime.now(UTC))
        log.info("unsubscribed in the browser", account=one.account.name)
