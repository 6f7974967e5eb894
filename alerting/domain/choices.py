"""What somebody wants to be told of, when, and in which language. Emergencies are nobody's choice: they always come."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, time
from enum import Enum

from alerting.domain.kinds import Kind
from alerting.domain.lanes import Lane
from alerting.domain.notices import Quiet
from alerting.domain.translations import TONGUES


class Topic(Enum):
    """What an alert is about, in the words citizens use. Stored as one bit each, in this order: new ones at the end."""

    EMERGENZE = "emergenze"
    """Always on: who wants these no more leaves."""
    RACCOLTA = "raccolta"
    EVENTI = "eventi"
    NOTIZIE = "notizie"
    """Deadlines, notices."""

    @property
    def bit(self) -> int:
        return _BITS[self]

    @property
    def in_words(self) -> str:
        return IN_WORDS[self]

    def __str__(self) -> str:
        return self.value


_BITS = {topic: 1 << place for place, topic in enumerate(Topic)}
IN_WORDS = {
    Topic.EMERGENZE: "emergenze e disservizi",
    Topic.RACCOLTA: "raccolta porta a porta",
    Topic.EVENTI: "eventi",
    Topic.NOTIZIE: "notizie e scadenze",
}
CHOSEN = tuple(topic for topic in Topic if topic is not Topic.EMERGENZE)
"""Those that may be switched off."""
EVERY_TOPIC = sum(_BITS.values())

TOPIC_OF = dict.fromkeys(Kind, Topic.EMERGENZE) | {
    # A kind that nobody has put here yet reaches everybody.
    Kind.RACCOLTA: Topic.RACCOLTA,
    Kind.EVENTO: Topic.EVENTI,
    Kind.SCADENZA: Topic.NOTIZIE,
    Kind.AVVISO: Topic.NOTIZIE,
}


def topic_of(kind: Kind, lane: Lane) -> Topic:
    """What an alert is about. Whatever is urgent is an emergency, be its kind what it may."""
    return Topic.EMERGENZE if lane.is_urgent else TOPIC_OF[kind]


def as_bits(topics: Iterable[Topic]) -> int:
    """As they are stored: the emergencies are among them always."""
    bits = Topic.EMERGENZE.bit
    for topic in topics:
        bits |= topic.bit
    return bits


def of_bits(bits: int) -> frozenset[Topic]:
    """The topics of a stored number."""
    return frozenset(topic for topic in Topic if bits & topic.bit) | {Topic.EMERGENZE}


# ── quiet hours ─────────────────────────────────────────────────────────────────────────────────────

MINUTES_A_DAY = 24 * 60


def quiet_of(begins: int | None, ends: int | None) -> Quiet | None:
    """Quiet hours from two minutes of the day in Italy; None where nobody asked for any."""
    if begins is None or ends is None or begins == ends:
        return None
    return Quiet(at_minute(begins), at_minute(ends))


def at_minute(minute: int) -> time:
    return time(minute // 60 % 24, minute % 60)


def minute_of(at: time) -> int:
    return at.hour * 60 + at.minute


def quiet_until(quiet: Quiet, now: datetime) -> datetime | None:
    """When the quiet ends that is now; None where there is none.

    In the hour that comes twice in October an end may be past already: then it is over, once and for all.
    """
    over = quiet.over_at(now)
    return over if over > now else None


def hours(quiet: Quiet) -> str:
    """`dalle 22 alle 7`, `dalle 22:30 alle 7`; `dall'1`, as one says it."""
    return f"{_clock(quiet.begins, 'dal')} {_clock(quiet.ends, 'al')}"


def _clock(at: time, before: str) -> str:
    shown = f"{at.hour}:{at.minute:02d}" if at.minute else f"{at.hour}"
    return f"{before}l'{shown}" if at.hour == 1 else f"{before}le {shown}"


# ── languages ───────────────────────────────────────────────────────────────────────────────────────

ITALIAN = "it"
IN_ITALIAN = {
    ITALIAN: "italiano",
    "ar": "arabo",
    "bn": "bengalese",
    "de": "tedesco",
    "en": "inglese",
    "es": "spagnolo",
    "fr": "francese",
    "nl": "olandese",
    "pl": "polacco",
    "pt": "portoghese",
    "ro": "rumeno",
    "ru": "russo",
    "sl": "sloveno",
    "sq": "albanese",
    "uk": "ucraino",
    "zh": "cinese",
}
LANGUAGES = (ITALIAN, *TONGUES)
"""Those an alert can be written in, and so those somebody may prefer."""


def language_in_words(code: str) -> str:
    """`inglese (English)`; a language we do not know is named by its code."""
    own = TONGUES.get(code)
    shown = IN_ITALIAN.get(code, code)
    return f"{shown} ({own.name})" if own else shown


# ── all of it ───────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Choices:
    """What one person has chosen; by default everything, at any hour, in Italian."""

    topics: frozenset[Topic] = frozenset(Topic)
    quiet: Quiet | None = None
    language: str = ITALIAN

    def __post_init__(self) -> None:
        if Topic.EMERGENZE not in self.topics:
            raise ValueError("emergencies are not chosen: who wants none leaves")

    @property
    def topics_in_words(self) -> str:
        """`tutto`, `solo emergenze e disservizi`, or the list."""
        if self.topics == frozenset(Topic):
            return "tutto"
        if self.topics == {Topic.EMERGENZE}:
            return f"solo {Topic.EMERGENZE.in_words}"
        return ", ".join(topic.in_words for topic in Topic if topic in self.topics)

    @property
    def quiet_in_words(self) -> str:
        return f"{hours(self.quiet)} (le emergenze arrivano sempre)" if self.quiet else "nessuno"
