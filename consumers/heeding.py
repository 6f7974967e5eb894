"""What one text asks for, done; and the words to answer with."""

from datetime import datetime
from typing import Any, assert_never

from sqlalchemy.ext.asyncio import AsyncSession

from alerting import choosing, ordering, subscribing
from alerting.buttons import Buttons, LiveIn, Menu, ShowChoices, ShowZones, Want, started_from
from alerting.choosing import ChoicesPage
from alerting.desk import persons
from alerting.domain import keywords, places
from alerting.domain.authority import Authority, Texts, filled
from alerting.domain.choice_words import Choice, HowToChoose, KnownOfMe, NoEmergencies, QuietHours, Speaks, Topics
from alerting.domain.choices import Choices
from alerting.domain.delivery import Channel
from alerting.domain.recipients import Place
from alerting.knowing import DataLinks
from alerting.ordering import Came
from alerting.persistence import tables
from alerting.sealing import Seal
from alerting.subscribing import Subscriber
from geo.areas import Area
from geo.shapes import Point

NOT_SAID_TO_US = frozenset({"reaction", "system"})
"""A thumb on one of our alerts, and WhatsApp's own notes about an account: nobody awaits an answer."""

WITH_BUTTONS = frozenset(
    {"join", "topics", "quiethours", "speaks", "knownofme", "howtochoose", "noemergencies", "press"}
)
"""Answers below which somebody may choose by a touch."""


class Heeding:
    """Acts on what somebody wrote to a comune. A session is the caller's, and so is the order of texts."""

    def __init__(self, seal: Seal, page: ChoicesPage | None, links: DataLinks | None) -> None:
        self._seal = seal
        self._page = page
        self._links = links

    async def act(self, session: AsyncSession, who: Subscriber, said: dict[str, Any], now: datetime) -> tuple[str, str]:
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

    async def let_go(self, session: AsyncSession, who: Subscriber, said: dict[str, Any], now: datetime) -> str:
        """Of a sender that no person can be: it may leave, without a word and without a proof for each time."""
        if isinstance(keywords.understand(said["text"] or "", who.authority.keywords), keywords.Leave):
            keyword = keywords.command_written(said["text"], who.authority.keywords)
            await subscribing.leave(session, who, self._seal, keyword=keyword, now=now)
        return "flood"

    async def _answer(
        self, session: AsyncSession, who: Subscriber, meaning: keywords.Meaning, words: str, now: datetime
    ) -> str:
        texts = who.authority.texts
        match meaning:
            case keywords.Join():
                # Only the keyword is kept as proof: people attach their names to it. Some name their frazione.
                home, said = home_of(meaning, who.authority)
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
                return welcome(texts, home)
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

    async def menu(self, session: AsyncSession, who: Subscriber, said: dict[str, Any], understood: str) -> Menu | None:
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


def home_of(meaning: keywords.Join, authority: Authority) -> tuple[Area | None, tuple[Place, ...]]:
    """The frazione named behind the keyword, and the place it makes.

    Exactly by its name: behind the keyword no slip is forgiven, it is mostly a person's name.
    """
    frazione = places.written_right(meaning.name or "", authority.territory) or _started_in(meaning.start, authority)
    return frazione, ((places.at(frazione, authority.territory),) if frazione else ())


def welcome(texts: Texts, home: Area | None) -> str:
    """Said, never silently assumed: Selva and Marciana are surnames too."""
    return f"{texts.welcome}\n{filled(texts.place_kept, luoghi=home.name)}" if home else texts.welcome
