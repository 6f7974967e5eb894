"""What citizens write by SMS, put together from its parts and kept like any other text."""

import asyncio
import json
import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import structlog
from sqlalchemy import delete, select
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import inbox
from alerting.desk.handing import Desks
from alerting.domain.delivery import Channel
from alerting.domain.sms import Alphabet, Wrote, words_of
from alerting.persistence import Database, dialects, tables
from alerting.sealing import Seal
from alerting.webhooks import InboundText

log = structlog.get_logger()

SAID_AGAIN_WITHIN = 900.0
"""Seconds in which the same words of the same person, with no others in between, are the provider's repetition."""
PARTS_WAIT = 3600.0
"""Seconds in which the parts of one text come. What is older is left of another that was lost: a telephone counts its
long texts to 255 and begins anew."""
FORGETS_EVERY = 3600.0
PAUSE_AFTER_TROUBLE = 0.5


class SmsInbox:
    """Puts together what people write by SMS: its parts in any order, twice, and heard by several processes."""

    def __init__(self, database: Database, seal: Seal, desks: Desks) -> None:
        self._database = database
        self._desks = desks
        self._seal = seal
        self._forgets_at = 0.0

    async def wrote(self, account: str, wrote: Wrote) -> None:
        """One part; returns when it is kept, and the whole text where this was the last of it.

        However long the database is away: who waits for our answer is an SMSC, which else says it again.
        """
        while True:
            try:
                return await self.take(account, wrote)
            except (OperationalError, InterfaceError, PoolTimeout, OSError) as error:
                log.warning("a text of a citizen waits", account=account, error=type(error).__name__)
                await asyncio.sleep(PAUSE_AFTER_TROUBLE * random.uniform(0.5, 1.5))

    async def take(self, account: str, wrote: Wrote) -> None:
        """The same, for who asks again by themselves. Raises whatever the database does."""
        key = (account, self._seal.fingerprint(f"{account} {wrote.sender} {wrote.to} {wrote.reference} {wrote.parts}"))
        async with self._database.write() as session:
            await self._forget(session)
            await self._keep_part(session, key, wrote)
            whole = await self._pass_on(session, key, wrote)
        if wrote.parts > 1 and not whole:
            # Two processes that heard the last two parts at once saw each their own: one of them sees both now.
            async with self._database.write() as session:
                await self._pass_on(session, key, wrote)

    async def _keep_part(self, session: AsyncSession, key: tuple[str, bytes], wrote: Wrote) -> None:
        account, fingerprint = key
        now = time.time()
        content = self._seal.fingerprint(f"{wrote.alphabet.value} {wrote.octets.hex()}")
        part = tables.InboundPart
        await session.execute(delete(part).where(*_of(key), part.at < now - PARTS_WAIT))
        known = select(part.content, part.sealed, part.at).where(*_of(key), part.number == wrote.number)
        if found := (await session.execute(known.with_for_update())).one_or_none():
            if found.content == content and (found.sealed is not None or now - found.at < SAID_AGAIN_WITHIN):
                return  # said again
            # Another text under a number that was free again, or the same words later.
            await session.execute(delete(part).where(*_of(key)))
        sealed = self._seal.seal(json.dumps([wrote.alphabet.value, wrote.octets.hex()]))
        row = {"account": account, "fingerprint": fingerprint, "number": wrote.number, "content": content}
        await session.execute(dialects.insert_new(session, part).values(row | {"sealed": sealed, "at": now}))

    async def _pass_on(self, session: AsyncSession, key: tuple[str, bytes], wrote: Wrote) -> bool:
        """A text of which all parts are here goes to the inbox, and its words out of this table."""
        query = select(tables.InboundPart).where(*_of(key)).order_by(tables.InboundPart.number).with_for_update()
        parts = (await session.scalars(query.execution_options(populate_existing=True))).all()
        if len(parts) < wrote.parts or any(part.sealed is None for part in parts):
            return False
        now = time.time()
        provider_id = f"{key[1].hex()} {b''.join(part.content for part in parts).hex()} {now}"
        moment = datetime.fromtimestamp(now, UTC)
        text = InboundText(provider_id, "", wrote.sender, self._words(parts), "text", moment)
        await inbox.keep(session, key[0], Channel.SMS, text, self._desks, self._seal, moment)
        for part in parts:
            part.sealed, part.at = None, now
        return True

    def _words(self, parts: Sequence[tables.InboundPart]) -> str:
        """Of each alphabet in turn: a telephone may change it within a text, an SMSC too."""
        spelled = [json.loads(self._seal.open(part.sealed)) for part in parts if part.sealed is not None]
        runs: list[tuple[str, list[bytes]]] = []
        for alphabet, octets in spelled:
            if not runs or runs[-1][0] != alphabet:
                runs.append((alphabet, []))
            runs[-1][1].append(bytes.fromhex(octets))
        return "".join(words_of(bodies, Alphabet(alphabet)) for alphabet, bodies in runs)

    async def _forget(self, session: AsyncSession) -> None:
        if time.time() < self._forgets_at:
            return
        await session.execute(delete(tables.InboundPart).where(tables.InboundPart.at < time.time() - PARTS_WAIT))
        self._forgets_at = time.time() + FORGETS_EVERY


def _of(key: tuple[str, bytes]) -> tuple[Any, Any]:
    return tables.InboundPart.account == key[0], tables.InboundPart.fingerprint == key[1]
