"""What the staff are told when something is amiss: which matters, in which words, when, and how often it is tried."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from enum import Enum

from alerting.domain.rendering import ROME


class Matter(Enum):
    """What somebody of the staff may want to hear of. Members are written as in `for = ["halts"]`."""

    HALTS = "halts"
    """A provider has halted an account of ours."""
    APPROVALS = "approvals"
    """An alert waits for a second person."""
    FEEDS = "feeds"
    """A source has fallen silent."""
    DEAD_LETTERS = "dead-letters"
    """Messages nobody could work on."""
    QUARANTINE = "quarantine"
    """Documents of sources that wait for a decision."""
    PAGES = "pages"
    """Whoever is on duty was called several times and has not answered."""

    def __str__(self) -> str:
        return self.value


STEADY_FOR = {Matter.HALTS: timedelta(minutes=1)}
"""How long something must have been well before it is over: an account that is halted each minute is one trouble."""
AGAIN_AFTER = timedelta(hours=1)
"""What grows while it is open, as dead letters do, is told anew, and no oftener than this."""
APPROVAL_WAITS = timedelta(minutes=1)
"""How long a routine draft waits before anybody is asked for; an urgent one does not wait."""
CALLS_IN_VAIN = 3

GIVES_UP_AFTER = timedelta(hours=1)
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=15), timedelta(minutes=10)
MOST_ATTEMPTS = 12
"""Also where nobody wrote down what came of them, for whoever tried was killed."""
MOST_TIMEOUTS = 3
"""What had no answer may have been read each time."""
GAP = timedelta(seconds=20)
"""Between two notices to one address, unless one is urgent: what comes meanwhile goes together."""
SHOWN = 3
"""Sentences in one notice; of the others it says how many they are."""


@dataclass(frozen=True, slots=True)
class Quiet:
    """The hours, in Italy, in which only what is urgent is told; the night where it begins later than it ends."""

    begins: time
    ends: time

    def over_at(self, now: datetime) -> datetime:
        """`now`, or when they end."""
        here = now.astimezone(ROME)
        at = here.time().replace(tzinfo=None)
        within = self.begins <= at < self.ends if self.begins < self.ends else at >= self.begins or at < self.ends
        if not within:
            return now
        day = here.date() + timedelta(days=1 if at >= self.ends else 0)
        return datetime.combine(day, self.ends, ROME).astimezone(now.tzinfo)


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that is amiss now, under the name it keeps while it lasts.

    `over` is the sentence for when it has ended. Nobody is told of it before it is `ripe`, nor that it is over while it
    is only not ripe any more. `mark` grows when there is more of the same: the number of the latest dead letter.
    `authority` null is everybody's.
    """

    about: str
    matter: Matter
    authority: str | None
    sentence: str
    over: str
    urgent: bool = False
    ripe: bool = True
    mark: int = 0


@dataclass(frozen=True, slots=True)
class Staff:
    """Somewhere the staff read: a room, a telephone. Its address is the secret `url` of its `account`.

    Without an authority it hears of all of them.
    """

    name: str
    matters: frozenset[Matter]
    quiet: Quiet | None = None
    authority: str | None = None

    @property
    def account(self) -> str:
        """Its name in the secrets file: `staff.calcinaia.sala`."""
        return ".".join(filter(None, ("staff", self.authority, self.name)))

    def hears(self, trouble: Trouble) -> bool:
        return trouble.matter in self.matters and (
            self.authority is None or trouble.authority is None or trouble.authority == self.authority
        )

    def told_at(self, now: datetime, *, urgent: bool) -> datetime:
        """When it may be told at the earliest."""
        return now if urgent or self.quiet is None else self.quiet.over_at(now)


# ── in words ────────────────────────────────────────────────────────────────────────────────────────


class Gravity(Enum):
    """How a notice looks where such things have a colour."""

    URGENT = "urgent"
    AMISS = "amiss"
    WELL = "well"


@dataclass(frozen=True, slots=True)
class Line:
    """One sentence of a notice."""

    sentence: str
    urgent: bool = False
    over: bool = False

    @property
    def gravity(self) -> Gravity:
        if self.over:
            return Gravity.WELL
        return Gravity.URGENT if self.urgent else Gravity.AMISS


@dataclass(frozen=True, slots=True)
class Words:
    """A notice as it is read."""

    title: str
    body: str
    gravity: Gravity


TITLES = {
    Gravity.URGENT: "Allerta cittadini: serve qualcuno adesso",
    Gravity.AMISS: "Allerta cittadini: da guardare",
    Gravity.WELL: "Allerta cittadini: tornato a posto",
}
A_TRIAL = Words(
    "Allerta cittadini: prova", "È una prova degli avvisi al personale: non c'è nulla da fare.", Gravity.WELL
)


def in_words(lines: Sequence[Line]) -> Words:
    """Several at once as one notice, the gravest first: a storm of troubles must not become a storm of notices."""
    gravest_first = sorted(lines, key=lambda line: list(Gravity).index(line.gravity))
    said = [f"Tornato a posto: {line.sentence}" if line.over else line.sentence for line in gravest_first[:SHOWN]]
    if left := len(lines) - SHOWN:
        said += (
            []
            if left < 0
            else ["E un'altra: guarda nella console." if left == 1 else f"E altre {left}: guarda nella console."]
        )
    gravity = gravest_first[0].gravity
    return Words(TITLES[gravity], "\n".join(said), gravity)


# ── how it went ─────────────────────────────────────────────────────────────────────────────────────


class Answer(Enum):
    """What came of one attempt. Nobody says whether it was read."""

    SENT = "sent"
    PARTLY = "partly"
    """The address names several, and some took it: told again, those would read it twice."""
    FAILED = "failed"
    TIMEOUT = "timeout"
    BUSY = "busy"
    """An attempt before this one still hangs."""
    NO_ADDRESS = "no_address"
    WRONG_ADDRESS = "wrong_address"

    def __str__(self) -> str:
        return self.value


class Ended(Enum):
    """How the telling of a notice ended."""

    SENT = "sent"
    PARTLY = "partly"
    GIVEN_UP = "given_up"
    NO_ADDRESS = "no_address"
    WRONG_ADDRESS = "wrong_address"
    WITHDRAWN = "withdrawn"
    """It was over before anybody was told."""

    def __str__(self) -> str:
        return self.value


AT_ONCE = {
    Answer.SENT: Ended.SENT,
    Answer.PARTLY: Ended.PARTLY,
    # The secrets are read when the process starts: what is not there will not be there in a minute.
    Answer.NO_ADDRESS: Ended.NO_ADDRESS,
    Answer.WRONG_ADDRESS: Ended.WRONG_ADDRESS,
}


@dataclass(frozen=True, slots=True)
class TryAgain:
    """Not before `at`."""

    at: datetime


def decide(answer: Answer, *, attempts: int, now: datetime, not_after: datetime) -> Ended | TryAgain:
    """What follows from an attempt, the last of so many. Nothing is tried after `not_after`."""
    if answer in AT_ONCE:
        return AT_ONCE[answer]
    if answer is Answer.TIMEOUT and attempts >= MOST_TIMEOUTS:
        return Ended.GIVEN_UP
    again = now + min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(attempts - 1, 10))
    return TryAgain(again) if again <= not_after and attempts < MOST_ATTEMPTS else Ended.GIVEN_UP
