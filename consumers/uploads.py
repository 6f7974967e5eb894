"""What a provider has of our pictures and documents: uploaded once an account, and sent to everybody by its id."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

from sqlalchemy import ColumnElement, delete, select

from alerting.persistence import Database, tables
from consumers.channel import Account, Attachment

Key = tuple[str, str]


class Uploads:
    """Remembers ids in the database, for all processes; a process asks there once an account and attachment."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._ids: dict[Key, tuple[str, float]] = {}
        self._one_at_a_time: dict[Key, asyncio.Lock] = {}

    async def id_of(
        self, account: Account, attachment: Attachment, upload: Callable[[], Awaitable[str]], lasts: timedelta
    ) -> str:
        """What the provider calls it. Raises whatever `upload` raises; the next who asks tries it again.

        The comuni that share a number share its ids: they are kept under the account it is paced as.
        """
        key = (account.paced_as, attachment.sha256)
        async with self._one_at_a_time.setdefault(key, asyncio.Lock()):
            known, until = self._ids.get(key) or await self._kept(key) or ("", 0.0)
            if until <= time.time():
                known, until = await upload(), time.time() + lasts.total_seconds()
                await self._keep(key, known, until)
            self._ids[key] = (known, until)
            return known

    async def forget(self, account: Account, attachment: Attachment, provider_id: str | None = None) -> None:
        """The provider does not know it any more: whoever asks next uploads it anew.

        Of a crowd that is told so of one `provider_id` only the first changes anything: what was uploaded meanwhile
        has another.
        """
        key = (account.paced_as, attachment.sha256)
        gone = delete(tables.Upload).where(*_is(key))
        if provider_id is not None:
            gone = gone.where(tables.Upload.provider_id == provider_id)
        async with self._one_at_a_time.setdefault(key, asyncio.Lock()):
            self._ids.pop(key, None)
            async with self._database.write() as session:
                await session.execute(gone)

    async def _kept(self, key: Key) -> tuple[str, float] | None:
        async with self._database.read() as session:
            row = await session.scalar(select(tables.Upload).where(*_is(key)))
        return (row.provider_id, row.until) if row else None

    async def _keep(self, key: Key, provider_id: str, until: float) -> None:
        account, sha256 = key
        async with self._database.write() as session:
            await session.merge(tables.Upload(account=account, sha256=sha256, provider_id=provider_id, until=until))


def _is(key: Key) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    account, sha256 = key
    return tables.Upload.account == account, tables.Upload.sha256 == sha256
