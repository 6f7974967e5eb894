"""What a citizen wrote, understood and answered, in the reply lane."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any, assert_never

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import batching, metrics, subscribing
from alerting.amqp import Incoming
from alerting.domain import keywords, places
from alerting.domain.authority import Authority, filled
from alerting.domain.events import CitizenWrote
from alerting.domain.lanes import Lane
from alerting.persistence import Database, tables
from alerting.sealing import Seal
from alerting.subscribing import Subscriber
from consumers.deadletters import event_in
from geo.shapes import Point

log = structlog.get_logger()

NOT_SAID_TO_US = frozenset({"reaction", "system"})
"""A thumb on one of our alerts, and WhatsApp's own notes about an account: nobody awaits an answer."""

ANSWER_WITHIN = timedelta(hours=23)
"""WhatsApp takes free text for 24 hours after the person's own; a later answer would be refused."""

FOR_THE_DESK = frozenset({"notforus", "askjoin", "askleave", "place", "forgetplace"})
"""What a two-way comune's desk reads itself: these words stay, sealed. The others were a command and are done.

"Zona industriale allagata" is told from a place by nothing but its name.
"""


class Inbound:
    """Reads the inbox, one text at a time."""

    def __init__(self, database: Database, authorities: dict[str, Authority], seal: Seal) -> None:
        self._database = database
        self._seal = seal
        self._authorities = authorities  # their territories change while we work
        self._accounts = {
            access.name: (authority.code, access) for authority in authorities.values() for access in authority.channels
        }

    async def take(self, message: Incoming) -> None:
        """One text: what it asks for and the answer to it in one transaction."""
        event = await event_in(self._database, message, CitizenWrote)
        if event is None:
            return
        async with self._database.write() as session:
            row = await session.get(tables.InboundMessage, event.inbound, with_for_update=True)
            if row is not None and row.handled_at is None:
                await self._handle(session, row)
        message.ack()

    async def _handle(self, session: AsyncSession, row: tables.InboundMessage) -> None:
        now = datetime.now(UTC)
        said: dict[str, Any] = json.loads(self._seal.open(row.sealed)) if row.sealed else {}
        row.handled_at = now
        known = self._accounts.get(row.account)
        if known is None or not said:
            row.sealed = None
            log.warning("a text for an account no authority has", account=row.account)
            return
        authority, access = self._authorities[known[0]], known[1]
        who = Subscriber(authority, access, said["sender"], said.get("also") or "")
        if said["kind"] not in ("blocked", "unblocked", "moved"):
            await subscribing.heard_from(session, who, self._seal, row.received_at)
        understood, answer = await self._act(session, who, said, now)
        await subscribing.recognise(session, who, self._seal)
        if not (authority.two_way and understood in FOR_THE_DESK):
            row.sealed = None  # understood: the words are not kept
        metrics.INBOUND.labels(str(access.channel), understood).inc()
        if answer:
            await reply(session, who, answer, self._seal, now, not_after=row.received_at + ANSWER_WITHIN)

    async def _act(
        self, session: AsyncSession, who: Subscriber, said: dict[str, Any], now: datetime
    ) -> tuple[str, str]:
        """What was understood, and the words to answer with; none for somebody who shut the door."""
        texts = who.authority.texts
        if said["kind"] in NOT_SAID_TO_US:
            return said["kind"], ""
        if said["kind"] in ("blocked", "unblocked"):
            at = datetime.fromisoformat(said["at"]) if "at" in said else now
            if said["kind"] == "blocked":
                await subscribing.shut(session, who, self._seal, keyword="(bot bloccato)", now=at)
            else:
                await subscribing.reopen(session, who, self._seal, keyword="(bot sbloccato)", now=at)
            return said["kind"], ""
        if said["kind"] == "moved":
            await subscribing.move(session, who.access.name, self._seal, was=who.address, now=said["payload"])
            return "moved", ""
        if said["kind"] == "renumbered":
            await subscribing.renumber(session, who, said["known_as"], self._seal, now=now)
            return "renumbered", ""
        if said["kind"] == "location" and said.get("point"):
            point = Point(said["point"]["lat"], said["point"]["lon"])
            return "location", await self._place(session, who, point)
        words = said["text"] or ""
        if not words.strip():
            return "attachment", texts.attachment
        meaning = keywords.understand(words, who.authority.keywords)
        return type(meaning).__name__.lower(), await self._answer(session, who, meaning, words, now)

    async def _answer(
        self, session: AsyncSession, who: Subscriber, meaning: keywords.Meaning, words: str, now: datetime
    ) -> str:
        texts = who.authority.texts
        match meaning:
            case keywords.Join(name):
                # Only the keyword is kept as proof: people attach their names to it. Some name their frazione.
                # Exactly by its name: behind the keyword no slip is forgiven, it is mostly a person's name.
                territory = who.authority.territory
                frazione = places.written_right(name or "", territory)
                _, is_new = await subscribing.join(
                    session,
                    who,
                    self._seal,
                    keyword=who.authority.keywords.join,
                    now=now,
                    live=not who.access.exercise,
                    places=[places.at(frazione, territory)] if frazione else (),
                )
                if not is_new:
                    return texts.already_subscribed
                if frazione is None:
                    return texts.welcome
                # Said, never silently assumed: Selva and Marciana are surnames too.
                return f"{texts.welcome}\n{filled(texts.place_kept, luoghi=frazione.name)}"
            case keywords.Leave():
                was_in = await subscribing.leave(
                    session, who, self._seal, keyword=who.authority.keywords.leave, now=now
                )
                return texts.goodbye if was_in else texts.not_subscribed
            case keywords.Place() | keywords.ForgetPlace() | keywords.ListPlaces():
                return await self._place(session, who, meaning)
            case keywords.AskJoin():
                return texts.ask_join
            case keywords.AskLeave():
                return texts.ask_leave
            case keywords.Help():
                return texts.help
            case keywords.NotForUs():
                return texts.not_read
            case _:
                assert_never(meaning)

    async def _place(self, session: AsyncSession, who: Subscriber, said: places.Said) -> str:
        """Keep or forget one of their places, or say why not; and always what is known of them now."""
        address = await subscribing.find(session, who, self._seal)
        if address is None:
            return who.authority.texts.ask_join
        recipient = await session.get_one(tables.Recipient, address.recipient_id)
        authority = await subscribing.hold(session, recipient, who.authority)
        if recipient.left_at is not None:  # they wrote two texts at once
            return authority.texts.ask_join
        known = await subscribing.places_of(session, recipient, authority)
        decision = places.decide(said, known, authority.territory)
        if isinstance(decision, places.Keep):
            await subscribing.keep_place(session, recipient, decision.place, authority)
        if isinstance(decision, places.Forget):
            await subscribing.forget_place(session, recipient, decision.label, authority)
        known = await subscribing.places_of(session, recipient, authority)
        return _in_their_words(decision, places.in_words(known, authority.territory), authority)


def _in_their_words(decision: places.Decision, known: str, authority: Authority) -> str:
    texts = authority.texts
    match decision:
        case places.Keep(place) if place.point:
            nearest = places.nearest(place, authority.territory)
            return filled(texts.place_point_kept, luogo=nearest.name, luoghi=known)
        case places.Keep():
            return filled(texts.place_kept, luoghi=known)
        case places.Forget():
            return filled(texts.place_forgotten, luoghi=known)
        case places.Which(areas, label):
            zona = f"zona {label}" if label else "zona"
            return filled(texts.place_which, luoghi=places.either(areas), zona=zona)
        case places.Unknown():
            return texts.place_unknown
        case places.Outside():
            return filled(texts.place_outside, luoghi=known)
        case places.Tell():
            return filled(texts.places_known, luoghi=known)
        case _:
            assert_never(decision)


async def reply(
    session: AsyncSession, who: Subscriber, words: str, seal: Seal, now: datetime, *, not_after: datetime
) -> None:
    """Promise an answer to one person: a dispatch with an audience of one, in its own lane."""
    dispatch = tables.Dispatch(
        authority=who.authority.code,
        lane=Lane.REPLY,
        issued_at=now,
        not_after=not_after,
        audience=1,
        reply_text=words,
        reply_to=seal.seal(who.address),
    )
    session.add(dispatch)
    await session.flush()
    session.add(tables.Delivery(dispatch_id=dispatch.id, seq=1))
    await batching.append(session, dispatch, who.access, 1)
