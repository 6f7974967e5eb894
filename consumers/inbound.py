"""What citizens wrote: taken from the inbox in the order they wrote it, heeded, and answered in the reply lane."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import atlas, metrics, ordering, subscribing
from alerting.amqp import Incoming
from alerting.choosing import ChoicesPage
from alerting.desk.handing import HandingOver
from alerting.domain import keywords
from alerting.domain.authority import Authority
from alerting.domain.delivery import Channel
from alerting.domain.desk import Handing
from alerting.domain.events import CitizensWrote, CitizenWrote
from alerting.gathering import Gathering
from alerting.knowing import DataLinks
from alerting.persistence import Database, tables
from alerting.sealing import Seal
from alerting.subscribing import Subscriber
from consumers import crowds, politeness, sharing
from consumers.answering import ANSWER_WITHIN, Answer, reply_all
from consumers.crowds import AtTheDoor, Key
from consumers.deadletters import event_in
from consumers.heeding import NOT_SAID_TO_US, Heeding, home_of, welcome
from geo.areas import Area

log = structlog.get_logger()

Clock = Callable[[], datetime]

OF_THE_NUMBER = frozenset({"blocked", "unblocked", "moved", "renumbered"})
"""Said of a number or a bot, whichever comune speaks on it."""

NOT_WRITTEN = NOT_SAID_TO_US | OF_THE_NUMBER | {"press"}
"""What says nothing of how often somebody writes."""

FOR_THE_DESK = frozenset({"notforus", "askjoin", "askleave", "place", "forgetplace", "topics", "howtochoose"})
"""What a two-way comune without a [desk] reads itself: these words stay, sealed. The others were a command.

"Zona industriale allagata" is told from a place by nothing but its name, "no raccolta" may be a report.
"""

PAUSE = 0.15  # seconds
MOST = 100
"""Texts of one transaction."""

ONE_OR_SEVERAL: tuple[type[CitizenWrote | CitizensWrote], ...] = (CitizenWrote, CitizensWrote)


@dataclass(frozen=True, slots=True)
class Written:
    """A text of the inbox, opened: what was said, and by whom to the comune whose account it came to."""

    row: tables.InboundMessage
    said: dict[str, Any]
    who: Subscriber


class Inbound:
    """Reads the inbox: whoever writes alone is read at once, and a crowd together."""

    def __init__(
        self,
        database: Database,
        authorities: dict[str, Authority],
        seal: Seal,
        page: ChoicesPage | None = None,
        *,
        links: DataLinks | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._database = database
        self._clock = clock or (lambda: datetime.now(UTC))
        self._seal = seal
        self._heeding = Heeding(seal, page, links)
        self._authorities = authorities  # their territories change while we work
        self._accounts = {
            access.name: (authority.code, access) for authority in authorities.values() for access in authority.channels
        }
        self._shared = sharing.shared_accounts(authorities.values())
        self._gathering = Gathering(self._read, pause=PAUSE, most=MOST)

    async def take(self, message: Incoming) -> None:
        """A text or several: what each asks for and its answer in one transaction, it may be with those of others."""
        event = await event_in(self._database, message, ONE_OR_SEVERAL)
        if event is None:
            return
        numbers = event.inbound if isinstance(event, CitizensWrote) else (event.inbound,)
        await asyncio.gather(*map(self._gathering.put, numbers))
        message.ack()

    async def drain(self) -> None:
        """Finish the crowd in hand. Whatever of it was not acknowledged comes again, and is known by then."""
        await self._gathering.drain()

    async def _read(self, numbers: Sequence[int]) -> None:
        now = self._clock()
        async with self._database.write() as session:
            # As they came; and in one order for all who read, so that nobody waits in a circle.
            unread = select(tables.InboundMessage).where(
                tables.InboundMessage.id.in_(numbers), tables.InboundMessage.handled_at.is_(None)
            )
            rows = (await session.scalars(unread.order_by(tables.InboundMessage.id).with_for_update())).all()
            answers = await self.heed(session, rows)
            await reply_all(session, answers, self._seal, now)

    async def heed(self, session: AsyncSession, rows: Sequence[tables.InboundMessage]) -> list[Answer]:
        """Do what each of these texts asks for, in their order. The answers that are due."""
        now = self._clock()
        texts = [text for row in rows if (text := self._opened(row, now))]
        await ordering.take_turns(session, [text.who for text in texts], self._seal)
        answers = await self._join_together(session, texts, now) if len(texts) > 1 else {}
        desks = HandingOver(session, self._seal)
        for text in texts:
            if text.row.id not in answers and (answer := await self._heed_one(session, text, desks)):
                answers[text.row.id] = answer
        await desks.finish()
        return list(answers.values())

    def _opened(self, row: tables.InboundMessage, now: datetime) -> Written | None:
        known = self._accounts.get(row.account)
        if known is None or not row.sealed:
            row.handled_at, row.sealed = now, None
            log.warning("a text for an account no authority has", account=row.account)
            return None
        said: dict[str, Any] = json.loads(self._seal.open(row.sealed))
        wrote_at = ordering.written_at(said.get("said_at"), row.received_at)
        authority, access = self._authorities[known[0]], known[1]
        return Written(row, said, Subscriber(authority, access, said["sender"], said.get("also") or "", wrote_at))

    async def _heed_one(self, session: AsyncSession, text: Written, desks: HandingOver) -> Answer | None:
        now, row = self._clock(), text.row
        row.handled_at = now
        if row.account in self._shared:
            who, understood, words = await self._heed_for_one_of(session, text, now, desks)
        else:
            who = text.who
            understood, words = await self._act(session, text, now, desks)
        reads_itself = who.authority.two_way and who.authority.desk is None and understood in FOR_THE_DESK
        if not reads_itself and row.for_desk is None:
            row.sealed = None  # understood: the words are not kept
        metrics.INBOUND.labels(str(who.access.channel), understood).inc()
        if not words:
            return None
        menu = await self._heeding.menu(session, who, text.said, understood)
        return Answer(who, words, row.received_at + ANSWER_WITHIN, menu=menu)

    async def _act(self, session: AsyncSession, text: Written, now: datetime, desks: HandingOver) -> tuple[str, str]:
        """What was understood and the words to answer with, with the politeness there is to it.

        Their having written at all tells something of their address. What is a desk's is given to it, and answered
        there.
        """
        who, said = text.who, text.said
        if await desks.offer(who, text.row, said) is Handing.ANSWER:
            return "desk", ""
        if said["kind"] not in ("blocked", "unblocked", "moved"):
            await subscribing.heard_from(session, who, self._seal, text.row.received_at)
        courtesy = await politeness.count(session, who, self._seal, now) if said["kind"] not in NOT_WRITTEN else None
        if courtesy is not None and politeness.is_nobody(courtesy):
            understood, words = await self._heeding.let_go(session, who, said, now), ""
        else:
            understood, words = await self._heeding.act(session, who, said, now)
        await subscribing.recognise(session, who, self._seal)
        if words and courtesy is not None and not politeness.may_answer(courtesy, who.authority, words, now):
            return understood, ""
        return understood, words

    async def _heed_for_one_of(
        self, session: AsyncSession, text: Written, now: datetime, desks: HandingOver
    ) -> tuple[Subscriber, str, str]:
        """`_act` for the comune of a shared number that was written to; who shuts the number shuts it for all."""
        them = [
            replace(text.who, authority=self._authorities[code], access=access)
            for code, access in self._shared[text.row.account]
        ]
        if text.said["kind"] in OF_THE_NUMBER:
            acted = [await self._act(session, replace(text, who=one), now, desks) for one in them]
            return them[0], *acted[0]
        who = await sharing.whose(session, them, text.said["text"], self._seal)
        if isinstance(who, sharing.Unclear):
            return who.of[0], "askleave", "\n".join(one.authority.texts.ask_leave for one in who.of)
        return who, *await self._act(session, replace(text, who=who), now, desks)

    async def _join_together(self, session: AsyncSession, texts: Sequence[Written], now: datetime) -> dict[int, Answer]:
        """Of a crowd those who only join, and are not in yet: the answer to each, by the number of their text."""
        # Before anybody's own row: whoever comes with a new outline holds the atlas, and then wants all of these.
        await atlas.share(session)
        wrote = [
            (crowds.names_of(text.who, self._seal), text)
            for text in texts
            # Whose it is on a shared number is found out for each; and below each answer on Telegram are its buttons.
            if text.row.account not in self._shared and text.who.access.channel is not Channel.TELEGRAM
        ]
        before = [
            name
            for _, text in wrote
            for called in text.said.get("known_as", ())
            for name in crowds.names_of(replace(text.who, address=called, also=""), self._seal)
        ]
        once = crowds.said_once([*before, *(name for names, _ in wrote for name in names)])
        joining: dict[Key, tuple[tables.InboundMessage, AtTheDoor, Area | None]] = {}
        named: dict[Key, Key] = {}
        for names, text in wrote:
            who, said = text.who, text.said
            if said["kind"] != "text" or not once.issuperset(names):
                continue
            meaning = keywords.understand(said["text"] or "", who.authority.keywords)
            if isinstance(meaning, keywords.Join):
                home, places_said = home_of(meaning, who.authority)
                keyword = keywords.command_written(said["text"], who.authority.keywords)
                joining[names[0]] = text.row, AtTheDoor(who, places_said, keyword), home
                named |= dict.fromkeys(names, names[0])
        # Whoever has ever left is looked at alone: they may have left after they wrote this.
        for name in [*await crowds.known(session, named), *await crowds.have_left(session, named)] if named else ():
            joining.pop(named[name], None)
        if not joining:
            return {}
        addresses = await crowds.join_together(
            session, {key: one for key, (_, one, _) in joining.items()}, self._seal, now
        )
        answers = {}
        for key, (row, one, home) in joining.items():
            row.handled_at, row.sealed = now, None
            metrics.INBOUND.labels(str(one.who.access.channel), "join").inc()
            until = row.received_at + ANSWER_WITHIN
            answers[row.id] = Answer(one.who, welcome(one.who.authority.texts, home), until, addresses[key])
        return answers
