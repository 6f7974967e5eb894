"""Who speaks: a comune, its territory, its ways to reach people and its own words for each occasion."""

from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby

from alerting.domain.delivery import Channel
from alerting.domain.keywords import (
    CLEARLY_FARTHER,
    JOINING,
    LEAVING,
    STOPPING,
    Intent,
    Keywords,
    Words,
    edits,
    fold,
)
from alerting.domain.policies import FeedPolicy
from geo.areas import Area, Gazetteer
from geo.shapes import Geofence

LONGEST_TEXT = 1000
"""Characters. WhatsApp takes 4096 and Telegram as many; nobody reads an answer that long."""

MOST_CAPITAL_WORDS = 4
"""In a row: a keyword such as ATTIVA COMUNE AMICO, and not a sentence."""

PLACE = "{luogo}"
"""Stands for the frazione in `Texts.place_kept`."""


@dataclass(frozen=True, slots=True)
class Contact:
    """Where a citizen is heard, when this number is not read."""

    phone: str | None
    email: str | None
    note: str = ""

    @property
    def in_words(self) -> str:
        """`0587 265442`: one way to be heard, the quickest, for the end of a text."""
        return self.phone or self.email or ""


@dataclass(frozen=True, slots=True)
class Policy:
    """What a citizen accepts by joining, and which edition of it. Its text is hashed elsewhere."""

    url: str
    version: str


@dataclass(frozen=True, slots=True)
class ChannelAccess:
    """One number or bot of the authority. `settings`: what only this channel understands, never a secret.

    `per_second` is what the provider allows the account; `identity` is where citizens write, E.164 or @name.
    An account for exercises reaches only who joined it: the wall between a drill and the town. `portfolio` is the
    business the number belongs to, where its provider counts the people told in 24 hours: `people_per_day` at most,
    by all numbers of the portfolio together; 0 where nobody counts.
    """

    name: str
    channel: Channel
    per_second: float
    identity: str
    settings: dict[str, str] = field(default_factory=dict)
    exercise: bool = False
    portfolio: str = ""
    people_per_day: int = 0


@dataclass(frozen=True, slots=True)
class Duty:
    """Who is called when somebody must look: a conversation on one of the authority's accounts.

    `to` is sealed before it is stored, like every address; the person must have written to the account first.
    """

    account: str
    to: str


@dataclass(frozen=True, slots=True)
class Texts:
    """What the comune answers, in its own words, ready to send; only `place_kept` awaits a name."""

    welcome: str
    """Joined: the confirmation, with the policy and how to leave."""
    already_subscribed: str
    goodbye: str
    not_subscribed: str
    """They left, and had never joined."""
    help: str
    not_read: str
    """Neither joining nor leaving: who reads it, or where to write instead."""
    ask_join: str
    ask_leave: str
    place_kept: str
    """Their frazione is noted; send `place_kept_as(area)`."""
    place_unknown: str
    attachment: str
    """A voice note, a picture, a sticker."""

    def place_kept_as(self, area: Area) -> str:
        """The confirmation that this area is noted."""
        return self.place_kept.replace(PLACE, area.name)


@dataclass(frozen=True)
class Territory:
    """Where the authority may speak. The frazioni lie inside the comune and do not overlap."""

    comune: Area
    frazioni: tuple[Area, ...] = ()

    @property
    def areas(self) -> tuple[Area, ...]:
        """The comune first, then its frazioni."""
        return (self.comune, *self.frazioni)

    @property
    def fence(self) -> Geofence:
        """All of it."""
        return self.comune.fence

    @cached_property
    def gazetteer(self) -> Gazetteer:
        """Whom a citizen means by a name, slips forgiven: `gazetteer.named("fornacete")`."""
        return Gazetteer(self.areas)


@dataclass(frozen=True)
class Authority:
    """A comune with everything that makes it this one. Its file in `authorities/` is the source."""

    code: str
    istat: str
    name: str
    sender: str
    """CAP's sender: unique, so by convention an address under the comune's own domain."""
    warning_zones: tuple[str, ...]
    two_way: bool
    language: str
    contact: Contact
    policy: Policy
    channels: tuple[ChannelAccess, ...]
    keywords: Keywords
    texts: Texts
    territory: Territory
    feeds: tuple[FeedPolicy, ...]
    """What follows when a source speaks of this comune; the first that meets it, else what ships."""
    duty: Duty | None
    file_hash: str
    """SHA-256 of the file, in hexadecimal: whether it has changed since it was last stored."""

    def channel(self, channel: Channel) -> ChannelAccess | None:
        """The live account on that channel, or None where the comune has none."""
        return next((a for a in self.channels if a.channel is channel and not a.exercise), None)


# ── what an authority's own words must hold ─────────────────────────────────────────────────────────


def flaws_of_text(key: str, text: str, authority: str, must_say: tuple[str, ...]) -> list[str]:
    """What is wrong with one of the answers, as sentences; `authority` is the comune's name."""
    flaws = []
    if len(text) > LONGEST_TEXT:
        flaws.append(f"{key} has {len(text)} characters, and at most {LONGEST_TEXT} are read; shorten it")
    if not text.startswith(authority):
        flaws.append(f"{key} does not begin with {authority!r}; say first who is speaking")
    runs = (list(run) for in_capitals, run in groupby(text.split(), str.isupper) if in_capitals)
    if any(len(run) > MOST_CAPITAL_WORDS for run in runs):
        flaws.append(f"{key} has a sentence in capitals, which reads as shouting; write it in small letters")
    flaws += [f"{key} does not mention {words!r}; add it" for words in must_say if words not in text]
    return flaws


def flaws_of_keywords(keywords: Keywords) -> list[str]:
    """What would let a citizen's word be taken for its contrary, as sentences."""
    joining = [fold(words) for words in (keywords.join, *keywords.join_also)]
    leaving = [fold(words) for words in (keywords.leave, *keywords.leave_also)]
    if () in joining + leaving:
        return ["the keywords need at least one letter each; write the words citizens send"]
    flaws = [
        f"the keywords {' '.join(join)!r} and {' '.join(leave)!r} are so alike that a slip of the finger "
        "makes one of the other; choose another word"
        for join in joining
        for leave in leaving
        if edits("".join(join), "".join(leave), most=CLEARLY_FARTHER) <= CLEARLY_FARTHER
    ]
    for wordings, intent in ((joining, Intent.JOIN), (leaving, Intent.LEAVE)):
        flaws += [
            f"the keyword {' '.join(words)!r} should {intent.value} and says the contrary; change it"
            for words in wordings
            if keywords.commands[words] is not intent or means_the_contrary(words, intent)
        ]
    return flaws


def means_the_contrary(words: Words, intent: Intent) -> bool:
    """Whether a wording begins with what everywhere stands for the opposite: "stop" to join."""
    contrary = LEAVING | STOPPING if intent is Intent.JOIN else JOINING
    return words[0] in contrary
