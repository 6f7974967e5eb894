"""What a citizen wrote, understood and answered, in the reply lane."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, assert_never

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import atlas, batching, choosing, metrics, ordering, subscribing
from alerting.amqp import Incoming
from alerting.buttons import Buttons, LiveIn, Menu, ShowChoices, ShowZones, Want, started_from
from alerting.choosing import ChoicesPage
from alerting.desk import persons
from alerting.desk.handing import HandingOver
from alerting.domain import keywords, places
from alerting.domain.authority import Authority, ChannelAccess, Texts, filled
from alerting.domain.choice_words import Choice, HowToChoose, KnownOfMe, NoEmergencies, QuietHours, Speaks, Topics
from alerting.domain.choices import Choices
from alerting.domain.delivery import Channel
from alerting.domain.desk import Handing
from alerting.domain.events import CitizensWrote, CitizenWrote
from alerting.domain.lanes import Lane
from alerting.domain.recipients import Place
from alerting.gathering import Gathering
from alerting.knowing import DataLinks
from alerting.ordering import Came
from alerting.persistence import Database, tables
from alerting.sealing import Seal
from alerting.subscribing import Subscriber
from consumers import crowds, politeness, sharing
from consumers.crowds import AtTheDoor, Key
from consumers.deadletters import event_in
from geo.areas import Area
from geo.shapes import Point

log = structlog.get_logger()

Clock = Callable[[], datetime]

NOT_SAID_TO_US = frozenset({"reaction", "system"})
"""A thumb on one of our alerts, and WhatsApp's own notes about an account: nobody awaits an answer."""

OF_THE_NUMBER = frozenset({"blocked", "unblocked", "moved", "renumbered"})
"""Said of a number or a bot, whichever comune speaks on it."""

NOT_WRITTEN = NOT_SAID_TO_US | OF_THE_NUMBER | {"press"}
"""What says nothing of how often somebody writes."""

ANSWER_WITHIN = timedelta(hours=23)
"""WhatsApp takes free text for 24 hours after the person's own; a later answer would be refused."""

FOR_THE_DESK = frozenset({"notforus", "askjoin", "askleave", "place", "forgetplace", "topics", "howtochoose"})
"""What a two-way comune without a [desk] reads itself: these words stay, sealed. The others were a command.

"Zona industriale allagata" is told from a place by nothing but its name, "no raccolta" may be a report.
"""


WITH_BUTTONS = frozenset(
    {"join", "topics", "quiethours", "speaks", "knownofme", "howtochoose", "noemergencies", "press"}
)
"""Answers below which somebody may choose by a touch."""

PAUSE = 0.15  # seconds
MOST = 100
"""Texts of one transaction."""

ONE_OR_SEVERAL: tuple[type[CitizenWrote | CitizensWrote], ...] = (CitizenWrote, CitizensWrote)


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
        self._page = page
        self._clock = clock or (lambda: datetime.now(UTC))
        self._seal = seal
        self._links = links
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
            everybody = [
                self._subscriber(*account, row, said)
                for row in rows
                if (account := self._account_of(row)) and (said := self._said(row))
            ]
            await ordering.take_turns(session, everybody, self._seal)
            answers = await self._join_together(session, rows, now) if len(rows) > 1 else {}
            desks = HandingOver(session, self._seal)
            for row in rows:
                if row.id not in answers and (answer := await self._handle(session, row, desks)):
                    answers[row.id] = answer
            await desks.finish()
            await reply_all(session, list(answers.values()), self._seal, now)

    async def _handle(self, session: AsyncSession, row: tables.InboundMessage, desks: HandingOver) -> "Answer | None":
        now = self._clock()
        said = self._said(row)
        row.handled_at = now
        known = self._account_of(row)
        if known is None or not said:
            row.sealed = None
            log.warning("a text for an account no authority has", account=row.account)
            return None
        authority, access = known
        who = self._subscriber(authority, access, row, said)
        if row.account in self._shared:
            authority, who, understood, answer = await self._act_for_one_of(session, row, said, now, desks)
        else:
            understood, answer = await self._heed(session, who, row, said, now, desks)
        reads_itself = authority.two_way and authority.desk is None and understood in FOR_THE_DESK
        if not reads_itself and row.for_desk is None:
            row.sealed = None  # understood: the words are not kept
        metrics.INBOUND.labels(str(access.channel), understood).inc()
        if not answer:
            return None
        menu = await self._menu(session, who, said, understood)
        return Answer(who, answer, row.received_at + ANSWER_WITHIN, menu=menu)

    async def _heed(
        self,
        session: AsyncSession,
        who: Subscriber,
        row: tables.InboundMessage,
        said: dict[str, Any],
        now: datetime,
        desks: HandingOver,
    ) -> tuple[str, str]:
        """`_act`, with the politeness there is to it, and what their having written at all tells of their address.

        What is a desk's is given to it, and answered there.
        """
        if await desks.offer(who, row, said) is Handing.ANSWER:
            return "desk", ""
        if said["kind"] not in ("blocked", "unblocked", "moved"):
            await subscribing.heard_from(session, who, self._seal, row.received_at)
        courtesy = await politeness.count(session, who, self._seal, now) if said["kind"] not in NOT_WRITTEN else None
        if courtesy is not None and politeness.is_nobody(courtesy):
            understood, answer = await self._let_go(session, who, said, now), ""
        else:
            understood, answer = await self._act(session, who, said, now)
        await subscribing.recognise(session, who, self._seal)
        if answer and courtesy is not None and not politeness.may_answer(courtesy, who.authority, answer, now):
            return understood, ""
        return understood, answer

    async def _act_for_one_of(
        self,
        session: AsyncSession,
        row: tables.InboundMessage,
        said: dict[str, Any],
        now: datetime,
        desks: HandingOver,
    ) -> tuple[Authority, Subscriber, str, str]:
        """`_heed` for the comune of a shared number that was written to; who shuts the number shuts it for all."""
        them = [
            self._subscriber(self._authorities[code], access, row, said) for code, access in self._shared[row.account]
        ]
        if said["kind"] in OF_THE_NUMBER:
            acted = [await self._heed(session, one, row, said, now, desks) for one in them]
            return them[0].authority, them[0], *acted[0]
        who = await sharing.whose(session, them, said["text"], self._seal)
        if isinstance(who, sharing.Unclear):
            words = "\n".join(one.authority.texts.ask_leave for one in who.of)
            return who.of[0].authority, who.of[0], "askleave", words
        return who.authority, who, *await self._heed(session, who, row, said, now, desks)

    def _said(self, row: tables.InboundMessage) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(self._seal.open(row.sealed)) if row.sealed else {}
        return said

    def _has_buttons(self, row: tables.InboundMessage) -> bool:
        account = self._account_of(row)
        return account is not None and account[1].channel is Channel.TELEGRAM

    def _subscriber(
        self, authority: Authority, access: ChannelAccess, row: tables.InboundMessage, said: dict[str, Any]
    ) -> Subscriber:
        wrote_at = ordering.written_at(said.get("said_at"), row.received_at)
        return Subscriber(authority, access, said["sender"], said.get("also") or "", wrote_at)

    def _account_of(self, row: tables.InboundMessage) -> tuple[Authority, ChannelAccess] | None:
        known = self._accounts.get(row.account)
        return (self._authorities[known[0]], known[1]) if known else None

    async def _join_together(
        self, session: AsyncSession, rows: Sequence[tables.InboundMessage], now: datetime
    ) -> "dict[int, Answer]":
        """Of a crowd those who only join, and are not in yet: the answer to each, by the number of their text."""
        # Before anybody's own row: whoever comes with a new outline holds the atlas, and then wants all of these.
        await atlas.share(session)
        wrote: list[tuple[tuple[Key, ...], tables.InboundMessage, Subscriber, dict[str, Any]]] = []
        for row in rows:
            if row.account in self._shared:  # whose it is, is to be found out for each
                continue
            if self._has_buttons(row):  # below each answer its own
                continue
            if (account := self._account_of(row)) and (said := self._said(row)):
                who = self._subscriber(*account, row, said)
                wrote.append((crowds.names_of(who, self._seal), row, who, said))
        before = [
            name
            for _, _, who, said in wrote
            for called in said.get("known_as", ())
            for name in crowds.names_of(replace(who, address=called, also=""), self._seal)
        ]
        once = crowds.said_once([*before, *(name for names, *_ in wrote for name in names)])
        joining: dict[Key, tuple[tables.InboundMessage, AtTheDoor, Area | None]] = {}
        named: dict[Key, Key] = {}
        for names, row, who, said in wrote:
            if said["kind"] != "text" or not once.issuperset(names):
                continue
            meaning = keywords.understand(said["text"] or "", who.authority.keywords)
            if isinstance(meaning, keywords.Join):
                home, places_said = _home(meaning, who.authority)
                keyword = keywords.command_written(said["text"], who.authority.keywords)
                joining[names[0]] = row, AtTheDoor(who, places_said, keyword), home
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
            answers[row.id] = Answer(one.who, _welcome(one.who.authority.texts, home), until, addresses[key])
        return answers

    async def _let_go(self, session: AsyncSession, who: Subscriber, said: dict[str, Any], now: datetime) -> str:
        """Of a sender that no person can be: it may leave, without a word and without a proof for each time."""
        if isinstance(keywords.understand(said["text"] or "", who.authority.keywords), keywords.Leave):
            keyword = keywords.command_written(said["text"], who.authority.keywords)
            await subscribing.leave(session, who, self._seal, keyword=keyword, now=now)
        return "flood"

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
            if who.authority.desk is not None:
                await persons.move(session, who, said["known_as"], self._seal)
            return "renumbered", ""
        if said["kind"] == "press":
            return await self._press(session, who, said["payload"].partition(" ")[2])
        if said["kind"] == "location" and said.get("point"):
            point = Point(said["point"]["lat"], said["point"]["lon"])
            return "location", await self._place(session, who, point)
        words = said["text"] or ""
        if keywords.says_nothing(words):
            return "attachment", texts.attachment
        meaning = keywords.understand(words, who.authority.keywords)
        return type(meaning).__name__.lower(), await self._answer(session, who, meaning, words, now)

    async def _answer(
        self, session: AsyncSession, who: Subscriber, meaning: keywords.Meaning, words: str, now: datetime
    ) -> str:
        texts = who.authority.texts
        match meaning:
            case keywords.Join():
                # Only the keyword is kept as proof: people attach their names to it. Some name their frazione.
                home, said = _home(meaning, who.authority)
                came = await ordering.join(
                    session,
                    who,
                    self._seal,
                    keyword=keywords.command_written(words, who.authority.keywords),
                    now=now,
                    live=not who.access.exercise,
                    places=said,
                )
                if came is not Came.NEW:
                    return texts.already_subscribed if came is Came.ALREADY else texts.not_subscribed
                return _welcome(texts, home)
            case keywords.Leave():
                keyword = keywords.command_written(words, who.authority.keywords)
                came = await ordering.leave(session, who, self._seal, keyword=keyword, now=now)
                if came is Came.NEW:
                    return texts.goodbye
                return texts.not_subscribed if came is Came.ALREADY else texts.already_subscribed
            case keywords.Place() | keywords.ForgetPlace() | keywords.ListPlaces():
                return await self._place(session, who, meaning)
            case Topics() | NoEmergencies() | QuietHours() | Speaks() | KnownOfMe() | HowToChoose():
                return await self._choose(session, who, meaning, now)
            case keywords.MyData():
                return await self._their_data(session, who, now)
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

    async def _their_data(self, session: AsyncSession, who: Subscriber, now: datetime) -> str:
        texts = who.authority.texts
        address = await subscribing.find(session, who, self._seal)
        if address is None:
            return await persons.in_short(session, who, self._seal) or texts.not_subscribed
        link = self._links.link(address.recipient_id, now) if self._links else ""
        return filled(texts.my_data, link=link) if link else texts.my_data_elsewhere

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

    async def _choose(self, session: AsyncSession, who: Subscriber, said: Choice, now: datetime) -> str:
        """What they choose, kept; or how it is written, or all that is known of them."""
        texts = who.authority.texts
        subscribed = await self._subscribed(session, who)
        if subscribed is None and isinstance(said, KnownOfMe):
            return await persons.in_short(session, who, self._seal) or texts.nothing_known
        if subscribed is None:
            return texts.ask_join
        recipient, before = subscribed
        match said:
            case NoEmergencies():
                return texts.emergencies_always
            case HowToChoose():
                return texts.choices_how
            case KnownOfMe():
                known = await choosing.known_of(session, recipient, who.authority, self._seal)
                link = self._page.link(recipient.id, now) if self._page else ""
                words = choosing.with_link(texts.choices_known, link)
                told = filled(words, scelte=known.in_words(who.authority), link=link)
                at_desk = await persons.in_short(session, who, self._seal)
                return f"{told}\n{at_desk}" if at_desk else told
            case Topics() | QuietHours() | Speaks():
                after = choosing.chosen(before, said)
                choosing.keep(recipient, after)
                return filled(texts.choices_kept, scelte=choosing.in_short(after))
            case _:
                assert_never(said)

    # ── buttons, where the channel has them ─────────────────────────────────────────────────────────

    async def _press(self, session: AsyncSession, who: Subscriber, data: str) -> tuple[str, str]:
        """What a button asks for, done; the words to stand in the place of those it stood below."""
        press = Buttons(self._seal, who.access.name, who.address).pressed(data)
        if press is None:
            return "forged", ""
        texts, known = who.authority.texts, await self._subscribed(session, who)
        if known is None:
            return "press", texts.ask_join
        recipient, choices = known
        match press:
            case Want(topic, on):
                wanted = frozenset({topic})
                choices = choosing.chosen(choices, Topics(on=wanted) if on else Topics(off=wanted))
                choosing.keep(recipient, choices)
            case LiveIn(code):
                area = next((area for area in who.authority.territory.areas if area.code == code), None)
                if area is not None:
                    return "press", await self._place(session, who, keywords.Place(area.name))
            case ShowZones():
                return "press", await self._place(session, who, keywords.ListPlaces())
            case ShowChoices():
                pass
            case _:
                assert_never(press)
        return "press", filled(texts.choices_kept, scelte=choosing.in_short(choices))

    async def _subscribed(self, session: AsyncSession, who: Subscriber) -> tuple[tables.Recipient, Choices] | None:
        """Somebody who is in, with their choices, held; None for who is not."""
        address = await subscribing.find(session, who, self._seal)
        recipient = await session.get_one(tables.Recipient, address.recipient_id) if address else None
        if recipient is None:
            return None
        choices = await choosing.hold(session, recipient)
        return None if recipient.left_at is not None else (recipient, choices)

    async def _menu(self, session: AsyncSession, who: Subscriber, said: dict[str, Any], understood: str) -> Menu | None:
        """The buttons below an answer on Telegram, and the text they take the place of."""
        if who.access.channel is not Channel.TELEGRAM or understood not in WITH_BUTTONS:
            return None
        known = await self._subscribed(session, who)
        message, _, data = (said.get("payload") or "").partition(" ")
        edits = int(message) if understood == "press" else None
        if known is None:
            return Menu(edits=edits)
        buttons = Buttons(self._seal, who.access.name, who.address)
        if understood == "press" and isinstance(buttons.pressed(data), ShowZones):
            return Menu(buttons.zones(who.authority.territory), edits)
        return Menu(buttons.choices(known[1]), edits)


def _started_in(start: str, authority: Authority) -> Area | None:
    code = started_from(start, authority)
    return next((area for area in authority.territory.frazioni if area.code == code), None)


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


def _home(meaning: keywords.Join, authority: Authority) -> tuple[Area | None, tuple[Place, ...]]:
    """The frazione named behind the keyword, and the place it makes.

    Exactly by its name: behind the keyword no slip is forgiven, it is mostly a person's name.
    """
    frazione = places.written_right(meaning.name or "", authority.territory) or _started_in(meaning.start, authority)
    return frazione, ((places.at(frazione, authority.territory),) if frazione else ())


def _welcome(texts: Texts, home: Area | None) -> str:
    """Said, never silently assumed: Selva and Marciana are surnames too."""
    return f"{texts.welcome}\n{filled(texts.place_kept, luoghi=home.name)}" if home else texts.welcome


# ── answers ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Answer:
    """Words for one person. `address` is its number, where they have just become a subscriber."""

    who: Subscriber
    words: str
    not_after: datetime
    address: int | None = None
    menu: Menu | None = None


async def reply(
    session: AsyncSession,
    who: Subscriber,
    words: str,
    seal: Seal,
    now: datetime,
    *,
    not_after: datetime,
    menu: Menu | None = None,
) -> None:
    """Promise an answer to one person: a dispatch with an audience of one, in its own lane."""
    await reply_all(session, [Answer(who, words, not_after, menu=menu)], seal, now)


async def reply_all(session: AsyncSession, answers: Sequence[Answer], seal: Seal, now: datetime) -> None:
    """Promise each their answer: whoever has just joined and is told the same on one account is one audience."""
    audiences: dict[tuple[str, str] | int, list[Answer]] = {}
    for number, answer in enumerate(answers):
        key = number if answer.address is None else (answer.who.access.name, answer.words)
        audiences.setdefault(key, []).append(answer)
    dispatches = [
        tables.Dispatch(
            authority=some[0].who.authority.code,
            lane=Lane.REPLY,
            issued_at=now,
            not_after=min(one.not_after for one in some),
            audience=len(some),
            last_seq=0,
            reply_text=some[0].words,
            reply_to=seal.seal(some[0].who.address) if some[0].address is None else None,
            reply_menu=some[0].menu.as_json if some[0].menu else None,
        )
        for some in audiences.values()
    ]
    if not dispatches:
        return
    session.add_all(dispatches)
    await session.flush()
    told = list(zip(dispatches, audiences.values(), strict=True))
    session.add_all(
        tables.Delivery(dispatch_id=dispatch.id, seq=seq, address_id=one.address)
        for dispatch, some in told
        for seq, one in enumerate(some, start=1)
    )
    await batching.begin(session, [(dispatch, some[0].who.access, len(some)) for dispatch, some in told])
