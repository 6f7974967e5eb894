"""What the ledger knows of chats that many read: what stands there of earlier alerts, and where a group went."""

from collections.abc import Sequence

import structlog
from sqlalchemy import select

from alerting import cap_json, subscribing
from alerting.domain import rendering
from alerting.domain.cap import Alert, MsgType, ResponseType
from alerting.domain.delivery import Channel
from alerting.persistence import Database, tables
from alerting.sealing import Seal
from consumers.channel import Account, Post
from consumers.channels import bot_api

log = structlog.get_logger()

REVOKED = "REVOCATO: vedi sotto"
OVER = "TERMINATO: vedi sotto"
UPDATED = "AGGIORNATO: vedi sotto"


class Chats:
    """Looks at the attempts, which have what the provider called each post."""

    def __init__(self, database: Database, seal: Seal) -> None:
        self._database = database
        self._seal = seal

    async def earlier(self, account: Account, address: str, thread: Sequence[str]) -> Sequence[Post]:
        """The posts there of all alerts of a thread but its last, the oldest first."""
        posts = (
            select(tables.Attempt.provider_id, tables.Alert.document)
            .join(
                tables.Delivery,
                (tables.Delivery.dispatch_id == tables.Attempt.dispatch_id)
                & (tables.Delivery.seq == tables.Attempt.seq),
            )
            .join(tables.Address, tables.Address.id == tables.Delivery.address_id)
            .join(tables.Dispatch, tables.Dispatch.id == tables.Delivery.dispatch_id)
            .join(tables.Alert, tables.Alert.identifier == tables.Dispatch.alert)
            .where(
                tables.Address.account == account.name,
                tables.Address.fingerprint == self._seal.fingerprint(address),
                tables.Dispatch.alert.in_(thread[:-1]),
                tables.Attempt.provider_id.is_not(None),
            )
            .order_by(tables.Attempt.dispatch_id, tables.Attempt.number)
        )
        async with self._database.read() as session:
            last = await session.get(tables.Alert, thread[-1])
            rows = (await session.execute(posts)).all() if last else ()
        if last is None:
            return ()
        notice = _notice(cap_json.from_json(last.document))
        return tuple(
            Post(identity, _words(cap_json.from_json(row.document)), notice)
            for row in rows
            if (identity := self._seal.open(row.provider_id)).isdecimal()
        )

    async def moved(self, account: Account, was: str, now: str) -> None:
        """A chat has another address. Where the comune's file names the old one, that is to be corrected."""
        async with self._database.write() as session:
            if await subscribing.move(session, account.name, self._seal, was=was, now=now):
                log.warning(
                    "a group has become a supergroup: write its new id where a file names it", chat=account.name
                )


def _words(alert: Alert) -> str:
    """As they were posted: with the address of a picture below which they had no room."""
    form = rendering.FORM_OF[Channel.TELEGRAM]
    said = rendering.render(alert, form).body
    return said if bot_api.fits(said, bot_api.LONGEST_CAPTION) else rendering.render(alert, form, link=True).body


def _notice(follows: Alert) -> str:
    if follows.msg_type is MsgType.CANCEL:
        return REVOKED
    if any(ResponseType.ALL_CLEAR in info.response_type for info in follows.infos):
        return OVER
    return UPDATED
