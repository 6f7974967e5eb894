"""Who speaks: a comune, its territory, its ways to reach people and its own words for each occasion."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby

from alerting.domain.delivery import Channel
from alerting.domain.desk import Desk
from alerting.domain.fallback import Fallback
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
from alerting.domain.notices import Staff
from alerting.domain.panels import Panel
from alerting.domain.policies import FeedPolicy
from alerting.domain.recipients import Label, Place
from geo.areas import Area, Gazetteer, overlap
from geo.matching import inside
from geo.shapes import FenceIndex, Floats, Geofence, Mask

LONGEST_TEXT = 1000
"""Characters. WhatsApp takes 4096 and Telegram as many; nobody reads an answer that long."""

MOST_CAPITAL_WORDS = 4
"""In a row: a keyword such as ATTIVA COMUNE AMICO, and not a sentence."""

AWAITED = {
    "luogo": ("place_point_kept",),
    "luoghi": ("place_kept", "place_which", "place_point_kept", "place_outside", "places_known", "place_forgotten"),
    "zona": ("place_which",),
    "scelte": ("choices_kept", "choices_known"),
    "link": ("choices_known", "my_data"),
}
"""What only the citizen's own text tells, and in which answers it stands."""

ROOM_FOR_PLACES = 300
"""Characters. Five places with their labels and the longest names of frazioni."""


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
    """What a citizen accepts by joining, and which edition of it.

    `sha256` is that of what stands at `url`, in hexadecimal: every proof of consent carries it.
    """

    url: str
    version: str
    sha256: str


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
    euro_per_text: float | None = None
    """What the provider takes for one text, of an SMS for each part; None where the file does not say."""


TEMPLATES = ("template", "template_image", "template_document", "standby_template")
"""The settings of a WhatsApp account that name a registered template, all with the same variables."""


HEADERS = {"template_image": "IMAGE", "template_document": "DOCUMENT"}
"""What stands above the words, as Meta calls it. The others have nothing there."""
VARIABLES = 5
"""Of each template: who and what, where, when, what it means, what to do (rendering.TEMPLATE)."""


def parameter_names(written: str) -> list[str]:
    """The setting `template_parameters`, read: "comune, dove, quando, …", for templates that name their variables."""
    return [name.strip() for name in written.split(",") if name.strip()]


def templates_of(settings: Mapping[str, str]) -> dict[str, str]:
    """The templates an account uses, and which setting names each."""
    return {name: key for key in reversed(TEMPLATES) if (name := settings.get(key))}


@dataclass(frozen=True, slots=True)
class Duty:
    """Who is called when somebody must look: a conversation on one of the authority's accounts.

    `to` is sealed before it is stored, like every address; the person must have written to the account first.
    """

    account: str
    to: str


@dataclass(frozen=True, slots=True)
class Texts:
    """What the comune answers, in its own words, ready to send; those in AWAITED by `filled`."""

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
    """Their frazione is noted: all that is known now."""
    place_which: str
    """The name fits several: which, and how to say it."""
    place_point_kept: str
    """Their position is noted: where it lies, and how to have the frazione kept instead."""
    place_outside: str
    """Their position is another comune's."""
    place_unknown: str
    places_known: str
    """What is known, and how to add, change and forget."""
    place_forgotten: str
    """One place less: what is left."""
    choices_kept: str
    """They have chosen: what stands now."""
    choices_known: str
    """All that is known of them, how to change it, how to leave. A line with {link} is left out where there is none."""
    choices_how: str
    """They spoke of a choice, and not clearly: how it is written."""
    emergencies_always: str
    """They want no emergencies: these always come, and how to leave."""
    nothing_known: str
    """They ask what is known of them, and are not in."""
    my_data: str
    """They ask for their data: the link to all of it."""
    my_data_elsewhere: str
    """The same, of a system that has no address of its own: where to ask."""
    attachment: str
    """A voice note, a picture, a sticker."""


def filled(text: str, **awaited: str) -> str:
    """One of the answers with what it awaited: `filled(texts.place_kept, luoghi="Fornacette")`."""
    return re.sub(rf"\{{({'|'.join(AWAITED)})\}}", lambda found: awaited[found[1]], text)


@dataclass(frozen=True)
class Territory:
    """Where the authority may speak, and the places in it that can be named: those that serve now.

    `edition` is that of the atlas they were read from, 0 for the authority's own file. `versions` are all whose
    people are written down, by number: those that serve, and those that are being prepared or have just ended.
    """

    comune: Area
    frazioni: tuple[Area, ...] = ()
    """Where people live: they lie inside the comune and do not overlap."""
    own: tuple[Area, ...] = ()
    """What the comune drew for itself, across its frazioni: a school district, a river bank."""
    edition: int = 0
    versions: Mapping[int, Area] = field(default_factory=dict)

    @property
    def areas(self) -> tuple[Area, ...]:
        """The comune first, then its frazioni, then its own."""
        return (self.comune, *self.frazioni, *self.own)

    @property
    def fence(self) -> Geofence:
        """All of it."""
        return self.comune.fence

    @cached_property
    def gazetteer(self) -> Gazetteer:
        """The areas that serve, by place, by code and by name."""
        return Gazetteer(self.areas)

    @cached_property
    def nameable(self) -> Gazetteer:
        """What a citizen may call theirs, slips forgiven: `nameable.named("fornacete")`.

        The comune and its frazioni, and no other area, whatever others there are.
        """
        return Gazetteer((self.comune, *self.frazioni))

    def knows_home(self, places: Sequence[Place]) -> bool:
        """Whether somebody's places say where in the comune they live, and none of them may be anywhere in it.

        Who named no home, or for any place no more than the comune, is told of everything in it; and so is whose home
        lies in no area that serves, or who named one that is no more, or nothing would ever reach them.
        """
        home = any(self.gazetteer.of(p.point) if p.point else True for p in places if p.label is Label.CASA)
        return home and all(place.point or self._is_part(place.areas) for place in places)

    def _is_part(self, codes: Sequence[str]) -> bool:
        return any(area.code in codes for area in self.areas if area is not self.comune)

    def around(self, place: Place) -> frozenset[int]:
        """The numbers of the versions somebody with this place belongs to.

        A point belongs to the areas that hold it; a name to the area and to all that overlap it, as nobody knows where
        in it they are. Both to whatever these are parts of: two outlines of one border never agree to the metre. A
        point only as they serve, for what will serve beside a new outline is not known before.
        """
        if place.point is not None:
            found = {self._numbers[at] for at in self._index.holding(place.point)}
            return frozenset(found | self._wholes(found & self._serving) & self._serving)
        found = set().union(*(self._overlapping(code) for code in place.areas))
        return frozenset(found | self._wholes(found))

    def around_many(self, lats: Floats, lons: Floats) -> dict[int, Mask]:
        """What `around` says of many points: for each version the mask of those that belong to it."""
        masks = {number: inside(area.fence, lats, lons) for number, area in self.versions.items()}
        held = dict(masks)
        for number in self._serving:
            for whole in self._wholes([number]) & self._serving:
                masks[whole] = masks[whole] | held[number]
        return masks

    @cached_property
    def _numbers(self) -> tuple[int, ...]:
        return tuple(self.versions)

    @cached_property
    def _serving(self) -> frozenset[int]:
        now = {(area.code, area.version) for area in self.areas}
        return frozenset(number for number, area in self.versions.items() if (area.code, area.version) in now)

    @cached_property
    def _index(self) -> FenceIndex:
        return FenceIndex([area.fence for area in self.versions.values()])

    @cached_property
    def _of_name(self) -> dict[str, frozenset[int]]:
        return {}

    def _overlapping(self, code: str) -> frozenset[int]:
        """Whoever said no more than the comune has not said where in it they are: that overlaps nothing."""
        if code not in self._of_name:
            named = [number for number, area in self.versions.items() if area.code == code]
            parts = [area for area in self.areas if area.code == code and area is not self.comune]
            beside = [n for n, other in self.versions.items() if any(overlap(part, other) for part in parts)]
            self._of_name[code] = frozenset((*named, *beside))
        return self._of_name[code]

    def _wholes(self, numbers: Iterable[int]) -> set[int]:
        """All versions of whatever these are parts of, and of what that is a part of."""
        wholes = set[int]()
        above = {self.versions[number].parent for number in numbers}
        while above - {None}:
            found = {number for number, area in self.versions.items() if area.code in above} - wholes
            wholes |= found
            above = {self.versions[number].parent for number in found}
        return wholes


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
    fallback: Fallback = field(default_factory=Fallback)
    """On which channels people are told next, after how long, and for how much."""
    staff: tuple[Staff, ...] = ()
    """Where those who work here read that something is amiss."""
    panels: tuple[Panel, ...] = ()
    sms_price: float | None = None
    """Euro for one part of an SMS, where the comune has no SMS: what its reports compare with."""
    desk: Desk | None = None
    """Who reads what citizens write; None where nobody does, or as it was before there were desks."""

    def channel(self, channel: Channel) -> ChannelAccess | None:
        """The live account on that channel, or None where the comune has none."""
        return next((a for a in self.channels if a.channel is channel and not a.exercise), None)


# ── what an authority's own words must hold ─────────────────────────────────────────────────────────


def flaws_of_text(key: str, text: str, authority: str, must_say: tuple[str, ...]) -> list[str]:
    """What is wrong with one of the answers, as sentences; `authority` is the comune's name."""
    flaws = []
    longest = len(text) + ROOM_FOR_PLACES * text.count("{luoghi}")
    if longest > LONGEST_TEXT:
        flaws.append(f"{key} has {longest} characters, and at most {LONGEST_TEXT} are read; shorten it")
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
