"""What citizens write, on its way in: kept once and sealed, with the promise that somebody will read it."""

import json
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from alerting import outbox
from alerting.domain.delivery import Channel
from alerting.domain.events import CitizenWrote
from alerting.domain.lanes import Lane
from alerting.persistence import dialects, tables
from alerting.sealing import Seal
from alerting.webhooks import Blocked, InboundText, Moved, Renumbered, Unblocked

Told = InboundText | Blocked | Unblocked | Moved | Renumbered
"""What a provider tells us of a person, or of a chat, that changes something here."""


async def keep(session: AsyncSession, account: str, channel: Channel, told: Told, seal: Seal, now: datetime) -> bool:
    """Into the inbox. Whether it was new: what is there already stays as it is, however often it is told."""
    identity, said = _written(told)
    row = {
        "account": account,
        "provider_id": seal.fingerprint(f"{account} {identity}").hex(),
        "received_at": now,
        "sealed": seal.seal(json.dumps(said)),
    }
    added = dialects.insert_new(session, tables.InboundMessage).values(row)
    inbound = await session.scalar(added.returning(tables.InboundMessage.id))
    if inbound is not None:
        await outbox.add(session, CitizenWrote(inbound, channel), lane=Lane.REPLY)
    return inbound is not None


def _written(told: Told) -> tuple[str, dict[str, Any]]:
    """What makes it one, and what is kept of it."""
    match told:
        case InboundText():
            said = {"sender": told.sender, "text": told.text, "kind": told.kind, "payload": told.payload}
            return told.provider_message_id, said | ({"also": told.also} if told.also else {})
        case Blocked(sender, at) | Unblocked(sender, at):
            kind = "blocked" if isinstance(told, Blocked) else "unblocked"
            said = {"sender": sender, "text": None, "kind": kind, "payload": None, "at": at.isoformat()}
            return f"{sender}:{kind}:{at.timestamp():.0f}", said
        case Renumbered():
            said = {"sender": told.address, "text": None, "kind": "renumbered", "payload": None, "also": told.also}
            return told.provider_message_id, said | {"known_as": told.known_as}
        case Moved(was, now):
            return f"{was}:moved:{now}", {"sender": was, "text": None, "kind": "moved", "payload": now}
