"""From the list of subscribers to the desk: a row is marked and one event promised, whatever the citizen wrote.

The desk has a queue and a process of its own, so that a flood of reports stands before nobody who joins or leaves.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import outbox
from alerting.domain import keywords
from alerting.domain.authority import Authority, ChannelAccess
from alerting.domain.desk import BELONGS_WITHIN, Expects, Handing, ReportState, handed
from alerting.domain.events import CitizenReported
from alerting.domain.lanes import Lane
from alerting.persistence import dialects, tables
from alerting.sealing import Seal
from alerting.subscribing import Subscriber
from alerting.webhooks import InboundText

NOT_WRITTEN = frozenset({"reaction", "system", "blocked", "unblocked", "moved", "renumbered", "press"})
"""A thumb on one of our texts, a button of ours, and what providers say of an account."""


class Desks:
    """Tells at the door what is a desk's by its words alone, without a look into the database.

    Whose a position is, and for which comune of a shared number a text is, cannot be told so: those go the other way,
    and are handed over there.
    """

    def __init__(self, authorities: Mapping[str, Authority]) -> None:
        self._authorities = authorities  # their territories change while we work
        spoken = [(one, access) for one in authorities.values() for access in one.channels]
        comuni = Counter((access.channel, access.identity) for _, access in spoken)
        self._accounts: dict[str, tuple[str, ChannelAccess]] = {
            access.name: (authority.code, access)
            for authority, access in spoken
            if authority.desk is not None and comuni[access.channel, access.identity] == 1
        }

    def whose(self, account: str, told: object) -> Subscriber | None:
        """Who wrote it to which desk; None where it is no desk's, or that cannot be told here."""
        if account not in self._accounts or not isinstance(told, InboundText) or told.kind == "location":
            return None
        code, access = self._accounts[account]
        authority = self._authorities[code]
        if _meant(authority, told.kind, told.text or "", is_talking=False) is not Handing.ANSWER:
            return None
        return Subscriber(authority, access, told.sender)


class HandingOver:
    """Gives to desks what of a crowd is theirs, in the transaction in which the crowd is read."""

    def __init__(self, session: AsyncSession, seal: Seal) -> None:
        self._session = session
        self._seal = seal
        self._people: dict[tuple[str, bytes], tuple[Subscriber, datetime]] = {}
        self._events: list[CitizenReported] = []

    async def offer(self, who: Subscriber, row: tables.InboundMessage, said: dict[str, Any]) -> Handing:
        """One text; its words stay sealed until the desk has read them.

        Where it is not the desk's, what was kept is nobody's to keep: the caller erases it.
        """
        if who.authority.desk is None:
            return Handing.NOT
        key = (who.access.name, self._seal.fingerprint(who.address))
        is_talking = said["kind"] == "location" and (
            key in self._people or await _talks(self._session, *key, row.received_at)
        )
        how = _meant(who.authority, said["kind"], said["text"] or "", is_talking=is_talking)
        if how is not Handing.NOT:
            row.for_desk = how
            if row.account != who.access.name:  # of a number that several comuni share: which of them it is for
                row.sealed = self._seal.seal(json.dumps(said | {"account": who.access.name}))
            self._people[key] = who, row.received_at
            self._events.append(CitizenReported(row.id, who.access.channel))
        return how

    async def finish(self) -> None:
        """Promise all of them, and make those who wrote known to their desks: last, as that waits for other crowds."""
        if self._events:
            await outbox.add(self._session, *self._events, lane=Lane.ROUTINE)
            await heard_of(self._session, list(self._people.values()), self._seal)


def _meant(authority: Authority, kind: str, words: str, *, is_talking: bool) -> Handing:
    """Who answers it."""
    if authority.desk is None or kind in NOT_WRITTEN:
        return Handing.NOT
    names_a_place = False
    if kind == "location":
        meaning = "location"
    elif not words.strip():
        meaning = "attachment"
    else:
        understood = keywords.understand(words, authority.keywords)
        meaning = type(understood).__name__.lower()
        if isinstance(understood, keywords.Place | keywords.ForgetPlace) and understood.name:
            names_a_place = bool(authority.territory.nameable.named(understood.name))
    return handed(meaning, words, authority.desk, is_talking=is_talking, names_a_place=names_a_place)


async def heard_of(session: AsyncSession, people: Sequence[tuple[Subscriber, datetime]], seal: Seal) -> None:
    """That somebody wrote to a desk, and when, is known before it reads what: a position may follow within seconds."""
    rows = {
        (who.access.name, fingerprint): {
            "authority": who.authority.code,
            "account": who.access.name,
            "fingerprint": fingerprint,
            "wrote_at": at,
            "expects": Expects.NOTHING,
            "choices": [],
        }
        for who, at in people
        if (fingerprint := seal.fingerprint(who.address))
    }
    # In one order: two calls of a provider that name the same people must not wait for each other.
    new = dialects.insert(session, tables.Conversation).values([rows[key] for key in sorted(rows)])
    known = [tables.Conversation.account, tables.Conversation.fingerprint]
    await session.execute(new.on_conflict_do_update(index_elements=known, set_={"wrote_at": new.excluded.wrote_at}))


async def _talks(session: AsyncSession, account: str, fingerprint: bytes, at: datetime) -> bool:
    """Whether where they are is where the hole is, and not where they live."""
    talk, report = tables.Conversation, tables.Report
    recent = select(talk.id).where(
        talk.account == account, talk.fingerprint == fingerprint, talk.wrote_at >= at - BELONGS_WITHIN
    )
    if await session.scalar(recent) is not None:
        return True
    theirs = (report.account == account, report.fingerprint == fingerprint)
    awaited = select(report.id).where(*theirs, report.state == ReportState.WAITING).limit(1)
    return await session.scalar(awaited) is not None
