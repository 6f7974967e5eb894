"""What citizens write, on its way in: kept once and sealed, with the promise that somebody will read it."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from alerting import outbox
from alerting.domain.delivery import Channel
from alerting.domain.events import CitizenWrote
from alerting.domain.lanes import Lane
from alerting.gathering import Gathering
from alerting.persistence import Database, dialects, tables
from alerting.sealing import Seal
from alerting.webhooks import Blocked, InboundText, Moved, Pressed, Renumbered, Unblocked

Told = InboundText | Blocked | Unblocked | Moved | Renumbered | Pressed
"""What a provider tells us of a person, or of a chat, that changes something here."""

PAUSE = 0.02  # seconds
MOST = 500
"""Texts of one transaction."""

Arrival = tuple[str, Channel, Told]
"""What was told on an account, and the account's channel."""


class Keeping:
    """The inbox of one process: the texts of however many calls in one transaction."""

    def __init__(self, database: Database, seal: Seal) -> None:
        self._database = database
        self._seal = seal
        self._gathering = Gathering(self._write, pause=PAUSE, most=MOST)

    async def keep(self, arrivals: Sequence[Arrival]) -> None:
        """Returns once all of them are in the inbox, and stay there."""
        if arrivals:
            await self._gathering.put(arrivals)

    async def _write(self, calls: Sequence[Sequence[Arrival]]) -> None:
        async with self._database.write() as session:
            await keep_all(session, [one for call in calls for one in call], self._seal, datetime.now(UTC))


async def keep(session: AsyncSession, account: str, channel: Channel, told: Told, seal: Seal, now: datetime) -> bool:
    """Into the inbox. Whether it was new: what is there already stays as it is, however often it is told."""
    return await keep_all(session, [(account, channel, told)], seal, now) == 1


async def keep_all(session: AsyncSession, arrivals: Sequence[Arrival], seal: Seal, now: datetime) -> int:
    """Into the inbox, in one statement and numbered as they came. How many were new."""
    rows: dict[str, dict[str, Any]] = {}  # by what makes each one: in one call a provider repeats itself too
    channels = {account: channel for account, channel, _ in arrivals}
    for account, _, told in arrivals:
        identity, said = _written(told)
        provider_id = seal.fingerprint(f"{account} {identity}").hex()
        sealed = seal.seal(json.dumps(said))
        rows.setdefault(
            provider_id, {"account": account, "provider_id": provider_id, "received_at": now, "sealed": sealed}
        )
    row = tables.InboundMessage
    added = dialects.insert_new(session, row).returning(row.id, row.account)
    found = (await session.execute(added, list(rows.values()))).all()
    events = [CitizenWrote(number, channels[account]) for number, account in sorted(found)]
    if events:
        await outbox.add(session, *events, lane=Lane.REPLY)
    return len(events)


def _written(told: Told) -> tuple[str, dict[str, Any]]:
    """What makes it one, and what is kept of it."""
    match told:
        case InboundText():
            said = {"sender": told.sender, "text": told.text, "kind": told.kind, "payload": told.payload}
            said["said_at"] = told.at.isoformat()
            more: dict[str, Any] = {"also": told.also} if told.also else {}
            if told.point:
                more["point"] = {"lat": told.point.lat, "lon": told.point.lon}
            return told.provider_message_id, said | more
        case Blocked(sender, at) | Unblocked(sender, at):
            kind = "blocked" if isinstance(told, Blocked) else "unblocked"
            said = {"sender": sender, "text": None, "kind": kind, "payload": None, "at": at.isoformat()}
            return f"{sender}:{kind}:{at.timestamp():.0f}", said
        case Renumbered():
            said = {"sender": told.address, "text": None, "kind": "renumbered", "payload": None, "also": told.also}
            return told.provider_message_id, said | {"known_as": told.known_as}
        case Pressed(identity, sender, data, message):
            said = {"sender": sender, "text": None, "kind": "press", "payload": f"{message} {data}"}
            return f"press:{identity}", said
        case Moved(was, now):
            return f"{was}:moved:{now}", {"sender": was, "text": None, "kind": "moved", "payload": now}
