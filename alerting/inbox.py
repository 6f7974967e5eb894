"""What citizens write, on its way in: kept once and sealed, with the promise that somebody will read it."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from alerting import metrics, outbox
from alerting.desk import handing
from alerting.desk.handing import Desks
from alerting.domain.delivery import Channel
from alerting.domain.desk import Handing
from alerting.domain.events import CitizenReported, CitizensWrote, CitizenWrote
from alerting.domain.lanes import Lane
from alerting.gathering import Gathering
from alerting.persistence import Database, dialects, tables
from alerting.sealing import Seal
from alerting.subscribing import Subscriber
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

    def __init__(self, database: Database, seal: Seal, desks: Desks) -> None:
        self._database = database
        self._seal = seal
        self.desks = desks
        self._gathering = Gathering(self._write, pause=PAUSE, most=MOST)

    async def keep(self, arrivals: Sequence[Arrival]) -> None:
        """Returns once all of them are in the inbox, and stay there."""
        if arrivals:
            await self._gathering.put(arrivals)

    async def _write(self, calls: Sequence[Sequence[Arrival]]) -> None:
        async with self._database.write() as session:
            arrivals = [one for call in calls for one in call]
            await keep_all(session, arrivals, self.desks, self._seal, datetime.now(UTC))


async def keep(
    session: AsyncSession, account: str, channel: Channel, told: Told, desks: Desks, seal: Seal, now: datetime
) -> bool:
    """Into the inbox. Whether it was new: what is there already stays as it is, however often it is told."""
    return await keep_all(session, [(account, channel, told)], desks, seal, now) == 1


async def keep_all(session: AsyncSession, arrivals: Sequence[Arrival], desks: Desks, seal: Seal, now: datetime) -> int:
    """Into the inbox, in one statement and numbered as they came. How many were new.

    Somebody is promised to read each: at once the desk, where it is the desk's by its words alone. So the queue of
    those who join and leave never has a flood of reports in it.
    """
    talkers: dict[str, Subscriber] = {}
    rows: dict[str, dict[str, Any]] = {}  # by what makes each one: in one call a provider repeats itself too
    channels = {account: channel for account, channel, _ in arrivals}
    for account, _, told in arrivals:
        identity, said = _written(told)
        provider_id = seal.fingerprint(f"{account} {identity}").hex()
        sealed = seal.seal(json.dumps(said))
        if provider_id in rows:
            continue
        row = {"account": account, "provider_id": provider_id, "received_at": now, "sealed": sealed}
        rows[provider_id] = row | {"for_desk": None, "handled_at": None}
        if (who := desks.whose(account, told)) is not None:
            rows[provider_id] |= {"for_desk": Handing.ANSWER, "handled_at": now}
            talkers[provider_id] = who
    inbox = tables.InboundMessage
    added = dialects.insert_new(session, inbox).returning(inbox.id, inbox.account, inbox.provider_id)
    # Nulls are written out: left out, the rows that have one make a statement of their own.
    written = await session.execute(added, list(rows.values()), execution_options={"render_nulls": True})
    found = sorted(written.all())
    by_channel: dict[Channel, list[int]] = {}
    for number, account, name in found:
        if name not in talkers:
            by_channel.setdefault(channels[account], []).append(number)
    if by_channel:
        await outbox.add(session, *(_wrote(numbers, on) for on, numbers in by_channel.items()), lane=Lane.REPLY)
    reported = [CitizenReported(number, channels[account]) for number, account, name in found if name in talkers]
    if reported:
        await outbox.add(session, *reported, lane=Lane.ROUTINE)
        people = [(talkers[name], now) for _, _, name in found if name in talkers]
        await handing.heard_of(session, people, seal)
        for event in reported:
            metrics.INBOUND.labels(str(event.channel), "desk").inc()
    return len(found)


def _wrote(numbers: Sequence[int], channel: Channel) -> CitizenWrote | CitizensWrote:
    """One message, however many texts came together."""
    return CitizenWrote(numbers[0], channel) if len(numbers) == 1 else CitizensWrote(tuple(numbers), channel)


def _written(told: Told) -> tuple[str, dict[str, Any]]:
    """What makes it one, and what is kept of it."""
    match told:
        case InboundText():
            said = {"sender": told.sender, "text": told.text, "kind": told.kind, "payload": told.payload}
            said["said_at"] = told.at.isoformat()
            more: dict[str, Any] = {"also": told.also} if told.also else {}
            if told.point:
                more["point"] = {"lat": told.point.lat, "lon": told.point.lon}
            if told.media:
                more["media"] = told.media
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
