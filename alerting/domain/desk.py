"""The desk of a two-way comune: what a citizen reports or asks for, and what becomes of it. Pure."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from enum import Enum

from alerting.domain.appointments import Office
from alerting.domain.keywords import POLITENESS, edits, fold
from geo.shapes import Point

BELONGS_WITHIN = timedelta(minutes=30)
"""What the same person writes so soon after is about the same thing."""
OFFER_LASTS = timedelta(minutes=30)
"""A number written later than this is no choice: others have booked meanwhile."""
ALIKE_WITHIN_METRES = 100.0
COMMAND_WORDS = 12
"""A longer text that mentions an appointment tells a story, and is kept as one."""
CANCEL_WORDS = 6


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


APPOINTMENT = _set("appuntamento appuntamenti appuntamneto appuntameno prenota prenotare prenotazione")
CANCELLING = _set("disdici disdire disdico disdetta annulla annullare annullo cancella cancellazione")
OTHERS = _set("altri altro altre altra nessuno nessuna")
NUMBERS = {"uno": 1, "primo": 1, "prima": 1, "due": 2, "secondo": 2, "seconda": 2, "tre": 3, "terzo": 3, "terza": 3}
BESIDE_A_NUMBER = _set("il la lo l numero n nr orario opzione scelgo prendo va bene ok okay si per me")


class ReportState(Enum):
    """How far the comune is with a report."""

    NEW = "new"
    TAKEN = "taken"
    WAITING = "waiting"
    """For the citizen, who was asked something."""
    SOLVED = "solved"
    REJECTED = "rejected"

    @property
    def is_closed(self) -> bool:
        return self in (ReportState.SOLVED, ReportState.REJECTED)

    def __str__(self) -> str:
        return self.value


class Line(Enum):
    """A line of a report: who speaks, and to whom."""

    SAID = "said"
    ANSWER = "answer"
    NOTE = "note"
    """For the staff alone."""
    DONE = "done"
    """What somebody of the staff did with it."""

    def __str__(self) -> str:
        return self.value


class PhotoState(Enum):
    """What became of a picture that a citizen sent."""

    WAITING = "waiting"
    KEPT = "kept"
    REFUSED = "refused"
    """It is no picture, or too large."""
    LOST = "lost"
    """Its provider did not hand it out in time."""

    def __str__(self) -> str:
        return self.value


FOLLOWS = {
    ReportState.NEW: frozenset(ReportState) - {ReportState.NEW},
    ReportState.TAKEN: frozenset({ReportState.WAITING, ReportState.SOLVED, ReportState.REJECTED}),
    ReportState.WAITING: frozenset({ReportState.TAKEN, ReportState.SOLVED, ReportState.REJECTED}),
    ReportState.SOLVED: frozenset[ReportState](),
    ReportState.REJECTED: frozenset[ReportState](),
}
"""What is closed stays so: whoever writes again opens another."""


class NotOpen(Exception):
    """A report cannot go from the state it is in to the one that was asked for."""


def advance(number: int, now: ReportState, to: ReportState) -> ReportState:
    """The state afterwards. Raises NotOpen; to be what it is already is no error while it is open."""
    if to is now and not now.is_closed:
        return now
    if to not in FOLLOWS[now]:
        why = "it is closed, and a closed report stays so" if now.is_closed else "that does not follow"
        raise NotOpen(f"report {number} is {now} and cannot become {to}: {why}")
    return to


@dataclass(frozen=True, slots=True)
class Category:
    """What reports are about. `office` says whose work it is."""

    code: str
    name: str
    words: tuple[str, ...]
    office: str = ""


@dataclass(frozen=True, slots=True)
class DeskTexts:
    """What the desk answers, in the comune's own words; what stands in braces is filled in by `filled`."""

    taken: str
    """A report is in the inbox: its number, and what would help."""
    which: str
    """It is, and what it is about could not be seen."""
    sorted: str
    """They said what it is about."""
    solved: str
    rejected: str
    answer: str
    """What somebody of the staff writes."""
    only_photos: str
    """A voice note, a film."""
    photo_unreadable: str
    how: str
    """They wrote nothing but thanks, or greeted."""
    which_office: str
    offer: str
    no_slots: str
    gone: str
    """The slot was taken by another, or is over: these are left."""
    number: str
    """A number that stands for no slot."""
    booked: str
    already_booked: str
    reminder: str
    cancelled: str
    nothing_booked: str
    which_booking: str
    moved: str
    """By the staff."""
    cancelled_by_us: str
    known: str
    """What the desk holds of them, for whoever asks what is known of them."""


AWAITED = {
    "numero": ("taken", "which", "sorted", "solved", "rejected", "answer"),
    "categoria": ("taken", "sorted"),
    "parole": ("answer", "solved", "rejected", "cancelled_by_us"),
    "scelte": ("which", "which_office", "offer", "gone", "number", "which_booking", "known"),
    "ufficio": (
        *("offer", "no_slots", "gone", "booked", "already_booked", "reminder", "cancelled", "moved"),
        "cancelled_by_us",
    ),
    "quando": ("booked", "already_booked", "reminder", "cancelled", "moved", "cancelled_by_us"),
    "dove": ("booked", "reminder", "moved"),
}
"""What is known only when it is said, and in which texts it may stand."""

MUST_SAY = {
    "taken": ("numero", "categoria"),
    "which": ("numero", "scelte"),
    "sorted": ("numero", "categoria"),
    "solved": ("numero", "parole"),
    "rejected": ("numero", "parole"),
    "answer": ("numero", "parole"),
    "which_office": ("scelte",),
    "offer": ("ufficio", "scelte"),
    "no_slots": ("ufficio",),
    "gone": ("scelte",),
    "number": ("scelte",),
    "booked": ("ufficio", "quando", "dove"),
    "already_booked": ("ufficio", "quando"),
    "reminder": ("ufficio", "quando", "dove"),
    "cancelled": ("ufficio", "quando"),
    "which_booking": ("scelte",),
    "moved": ("ufficio", "quando", "dove"),
    "cancelled_by_us": ("ufficio", "quando", "parole"),
    "known": ("scelte",),
}
"""What a citizen must find in each of them."""


@dataclass(frozen=True)
class Desk:
    """What a two-way comune's desk takes, and how. Its file says all of it under [desk]."""

    categories: tuple[Category, ...]
    offices: tuple[Office, ...]
    texts: DeskTexts
    answers_per_minute: int = 60
    """To all citizens together: what a flood of them can take of the number's capacity, at most."""
    retention_days: int = 90
    """After closing, until nobody knows any more who reported."""
    duplicate_days: int = 14
    """How far apart two reports of the same thing may be."""
    reminder_at: time = field(default=time(10))

    def category(self, code: str | None) -> Category | None:
        return next((one for one in self.categories if one.code == code), None)

    def office(self, code: str | None) -> Office | None:
        return next((one for one in self.offices if one.code == code), None)

    def name_of(self, category: str | None) -> str:
        """For people to read; what it is about may be unknown, or a category that is no more."""
        found = self.category(category)
        return found.name if found else (category or UNSORTED)


UNSORTED = "da classificare"


def filled(text: str, **awaited: str) -> str:
    """One of the desk's texts with what it awaited. What people wrote is never read for braces."""
    words = re.sub(rf"\{{({'|'.join(AWAITED)})\}}", lambda found: awaited.get(found[1], ""), text)
    return re.sub(r" +(?=[.,;:!?\n]|$)", "", re.sub(r" {2,}", " ", words)).strip()


def in_template(words: str) -> tuple[str, ...]:
    """An answer as the five contents of the template every comune registers: a day after somebody wrote WhatsApp
    brings them nothing else. In one line, as Meta wants it."""
    return "risposta dello sportello", "qui su WhatsApp", "adesso", " ".join(words.split()), "se vuoi rispondi qui."


# ── what a text is about ────────────────────────────────────────────────────────────────────────────


def _stands_in(phrase: str, words: Sequence[str]) -> int | None:
    """Where in the text a word or several stand, one slip forgiven in a word of seven letters and more."""
    wanted = fold(phrase)
    if not wanted:
        return None
    for at in range(len(words) - len(wanted) + 1):
        pairs = zip(wanted, words[at : at + len(wanted)], strict=True)
        if all(one == other or (len(one) >= 7 and edits(other, one, most=1) <= 1) for one, other in pairs):
            return at
    return None


def _best(text: str, among: Iterable[tuple[str, tuple[str, ...]]]) -> str | None:
    """The code most of whose words stand in the text; of as many, the one that is named first."""
    words = fold(text)
    best: tuple[int, int, str] | None = None
    for code, phrases in among:
        places = [at for phrase in phrases if (at := _stands_in(phrase, words)) is not None]
        if places and (best is None or (-len(places), min(places)) < best[:2]):
            best = (-len(places), min(places), code)
    return best[2] if best else None


def category_of(text: str, desk: Desk) -> str | None:
    """The code of what a text reports, None where no word of the comune's list stands in it."""
    return _best(text, ((one.code, (one.name, *one.words)) for one in desk.categories))


def office_of(text: str, desk: Desk) -> str | None:
    """The code of the office a text names."""
    return _best(text, ((one.code, (one.name, *one.words)) for one in desk.offices))


STREET = re.compile(
    r"\b(?P<kind>via|viale|v\.le|piazza|p\.za|piazzale|piazzetta|vicolo|largo|corso|strada|borgo|contrada|salita|"
    r"località|localita|loc\.)\s+(?P<name>[^\W\d_][^\d,;.:!?()\n]*)",
    re.IGNORECASE,
)
OFTEN_SHORTENED = {"v.le": "viale", "p.za": "piazza", "loc.": "località", "localita": "località"}
ENDS_A_STREET = _set(
    "vicino davanti dopo prima altezza al alla allo all angolo presso di fronte dietro sotto sopra e è c'è ce c "
    "ci sono in a ad per con da dal dalla davanti nei ha hanno non si che dove c’è numero n nr civico"
)
INSIDE_A_STREET = _set("della dello dei degli delle del di san santa santo d")
STREET_WORDS = 5


def street_in(text: str) -> str | None:
    """`via Roma`, as a text names it; without number and what else is said of the place."""
    found = STREET.search(text)
    if found is None:
        return None
    kind = found["kind"].lower()
    words: list[str] = []
    for word in found["name"].split()[:STREET_WORDS]:
        plain = word.casefold().strip("'’\"")
        following = plain in INSIDE_A_STREET
        if plain in ENDS_A_STREET and not (following and not words):
            break
        words.append(word.strip("'’\""))
    while words and words[-1].casefold() in INSIDE_A_STREET:
        words.pop()
    if not words:
        return None
    return f"{OFTEN_SHORTENED.get(kind, kind)} {' '.join(words)}"[:100]


def place_in(text: str, frazioni: Iterable[str]) -> str | None:
    """The first of these names that stands in a text, longest first: "Santa Fiora capoluogo" before "Fiora"."""
    words = fold(text)
    return next((name for name in sorted(frazioni, key=len, reverse=True) if _exactly(name, words)), None)


def _exactly(name: str, words: Sequence[str]) -> bool:
    wanted = fold(name)
    return bool(wanted) and any(tuple(words[at : at + len(wanted)]) == wanted for at in range(len(words)))


# ── the same thing, reported twice ──────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Reported:
    """A report, as far as it can be like another."""

    number: int
    category: str | None
    opened_at: datetime
    street: str | None = None
    frazione: str | None = None
    point: Point | None = None


def are_alike(one: Reported, other: Reported, within: timedelta) -> bool:
    """Whether two reports may well be of the same thing. It is never more than a suggestion."""
    if one.number == other.number or one.category is None or one.category != other.category:
        return False
    if abs(one.opened_at - other.opened_at) > within:
        return False
    if one.point and other.point:
        return metres(one.point, other.point) <= ALIKE_WITHIN_METRES
    if not one.street or not other.street or fold(one.street) != fold(other.street):
        return False
    return one.frazione is None or other.frazione is None or one.frazione == other.frazione


def metres(one: Point, other: Point) -> float:
    """As the crow flies, on a sphere: right to half a percent."""
    lat, lat2 = math.radians(one.lat), math.radians(other.lat)
    half = math.sin((lat2 - lat) / 2) ** 2
    half += math.cos(lat) * math.cos(lat2) * math.sin(math.radians(other.lon - one.lon) / 2) ** 2
    return 2 * 6_371_000.0 * math.asin(math.sqrt(min(1.0, half)))


# ── a conversation ──────────────────────────────────────────────────────────────────────────────────


class Expects(Enum):
    """What the desk has asked somebody, if anything."""

    NOTHING = "nothing"
    CATEGORY = "category"
    OFFICE = "office"
    SLOT = "slot"
    BOOKING = "booking"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Conversation:
    """How it stands with somebody who writes. `report` is their latest that is open, `awaited` one that waits for
    their answer; `choices` is how many things they were given to choose from."""

    wrote_at: datetime | None = None
    report: int | None = None
    category: str | None = None
    awaited: int | None = None
    expects: Expects = Expects.NOTHING
    choices: int = 0
    asked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """What somebody sent: words, a picture, where they are; or something that cannot be read here."""

    text: str = ""
    photo: bool = False
    point: Point | None = None
    unreadable: bool = False


@dataclass(frozen=True, slots=True)
class File:
    """Keep what was sent: in that report, or in a new one (None). `category` where it is known now, and `asks` where
    they are to be asked for it."""

    report: int | None
    category: str | None = None
    asks: bool = False


@dataclass(frozen=True, slots=True)
class OfferSlots:
    office: str
    more: bool = False
    """They wanted none of those offered before."""


@dataclass(frozen=True, slots=True)
class AskOffice:
    pass


@dataclass(frozen=True, slots=True)
class Book:
    """The slot that was offered under this number, from 1."""

    choice: int


@dataclass(frozen=True, slots=True)
class CancelBooking:
    """The booking of this number of those that were listed; None where they did not choose yet."""

    choice: int | None = None


@dataclass(frozen=True, slots=True)
class NoSuchChoice:
    pass


@dataclass(frozen=True, slots=True)
class Explain:
    """Nothing was said that anybody could do something about."""


@dataclass(frozen=True, slots=True)
class OnlyPhotos:
    pass


Deed = File | OfferSlots | AskOffice | Book | CancelBooking | NoSuchChoice | Explain | OnlyPhotos


def decide(conversation: Conversation, said: Said, now: datetime, desk: Desk) -> Deed:
    """What to do about what somebody sent. Whatever is no command is kept: no text is lost. Never raises."""
    words = fold(said.text)
    plain = not said.photo and said.point is None
    if said.unreadable and plain and not words:
        return OnlyPhotos()
    if plain and words and (deed := _commanded(conversation, said.text, words, now, desk)) is not None:
        return deed
    report = _belongs_to(conversation, now)
    if report is None and plain and POLITENESS.issuperset(words) and not _says_more(said.text):
        return Explain()
    category = category_of(said.text, desk) if words else None
    if report == conversation.awaited and report is not None and _is_another_matter(conversation, category, now):
        report = None
    if report is not None:
        known = conversation.category is not None or report == conversation.awaited
        if category is None and conversation.expects is Expects.CATEGORY and (number := _number(words)):
            category = desk.categories[number - 1].code if number <= len(desk.categories) else None
        return File(report, None if known else category)
    return File(None, category, asks=category is None and len(desk.categories) > 0)


def _says_more(text: str) -> bool:
    """An emoji alone says nothing to an office; a question mark or a number does."""
    return any(letter in text for letter in "?!") and bool(text.strip("?! \n")) and not fold(text)


def _belongs_to(conversation: Conversation, now: datetime) -> int | None:
    if conversation.awaited is not None:
        return conversation.awaited
    recent = conversation.wrote_at is not None and now - conversation.wrote_at <= BELONGS_WITHIN
    return conversation.report if recent else None


def _is_another_matter(conversation: Conversation, category: str | None, now: datetime) -> bool:
    """Somebody we asked something days ago writes about something else."""
    recent = conversation.wrote_at is not None and now - conversation.wrote_at <= BELONGS_WITHIN
    return not recent and None not in (category, conversation.category) and category != conversation.category


def _commanded(conversation: Conversation, text: str, words: tuple[str, ...], now: datetime, desk: Desk) -> Deed | None:
    if not desk.offices:
        return None
    asked = conversation.asked_at is not None and now - conversation.asked_at <= OFFER_LASTS
    expects = conversation.expects if asked else Expects.NOTHING
    if CANCELLING & set(words) and len(words) <= CANCEL_WORDS and _about_a_booking(words):
        return CancelBooking(_number(tuple(word for word in words if word not in CANCELLING | APPOINTMENT)))
    if APPOINTMENT & set(words) and len(words) <= COMMAND_WORDS:
        named = office_of(text, desk)
        if named is None and len(desk.offices) == 1:
            named = desk.offices[0].code
        return OfferSlots(named) if named else AskOffice()
    if expects is Expects.OFFICE and len(words) <= COMMAND_WORDS:
        number = _number(words)
        if number is not None:
            return OfferSlots(desk.offices[number - 1].code) if number <= len(desk.offices) else AskOffice()
        if named := office_of(text, desk):
            return OfferSlots(named)
    if expects in (Expects.SLOT, Expects.BOOKING):
        number = _number(words)
        if number is not None and number > conversation.choices:
            return NoSuchChoice()
        if number is not None:
            return Book(number) if expects is Expects.SLOT else CancelBooking(number)
        if expects is Expects.SLOT and OTHERS & set(words) and len(words) <= CANCEL_WORDS:
            return OfferSlots("", more=True)
    return None


def _about_a_booking(words: tuple[str, ...]) -> bool:
    """ "DISDICI", "disdici 2", "cancella l'appuntamento"; but "annulla la multa" is another matter."""
    first = words[0] in ("disdici", "disdire", "disdico", "disdetta") and len(words) <= 3
    return first or not APPOINTMENT.isdisjoint(words)


def _number(words: Sequence[str]) -> int | None:
    """The one number a short text chooses: "2", "il secondo", "va bene la 3"."""
    rest = [word for word in words if word not in BESIDE_A_NUMBER and word not in POLITENESS]
    if len(rest) != 1:
        return None
    if rest[0] in NUMBERS:
        return NUMBERS[rest[0]]
    return int(rest[0]) if rest[0].isascii() and rest[0].isdigit() and 1 <= len(rest[0]) <= 2 and int(rest[0]) else None


def listed(names: Iterable[str]) -> str:
    """`1) buche e strade; 2) acqua`: to answer with a number."""
    return "; ".join(f"{number}) {name}" for number, name in enumerate(names, 1))


# ── whose a text is ─────────────────────────────────────────────────────────────────────────────────


class Handing(Enum):
    """Who answers what a citizen wrote to a two-way comune."""

    NOT = "not"
    """The list of subscribers: they join, leave, say where they live."""
    ANSWER = "answer"
    """The desk."""
    QUIET = "quiet"
    """The list asks what they mean by it, or does it; the desk keeps the words, and says nothing."""

    def __str__(self) -> str:
        return self.value


A_SENTENCE = 4
"""Words. "zona Bagnollo" is a slip, "togliete zona e paletti" is said to an office."""


def handed(meaning: str, text: str, desk: Desk, *, is_talking: bool = False, names_a_place: bool = False) -> Handing:
    """Who is to answer. Joining, leaving and help are never the desk's.

    `meaning` is that of keywords.understand in small letters, or attachment or location; `is_talking`, whether they
    have just reported something; `names_a_place`, whether the place they name is one of the comune's.
    """
    words = fold(text)
    match meaning:
        case "notforus" | "attachment":
            return Handing.ANSWER
        case "location":
            return Handing.ANSWER if is_talking else Handing.NOT
        case "askjoin" | "askleave" | "place" | "forgetplace":
            if APPOINTMENT & set(words) or category_of(text, desk) is not None:
                return Handing.ANSWER
            if len(words) < A_SENTENCE or names_a_place:
                return Handing.NOT
            return Handing.QUIET if meaning.startswith("ask") else Handing.ANSWER
        case "topics" | "howtochoose":  # "basta spazzatura" is a choice, and may be a complaint
            return Handing.QUIET if category_of(text, desk) is not None else Handing.NOT
        case _:
            return Handing.NOT
