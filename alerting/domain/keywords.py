"""What a citizen meant by the few words they wrote: join, leave, help, their places; and on doubt, a question.

Nobody is ever unsubscribed on doubt, and nobody is subscribed by a word they did not clearly say.
"""

import re
import unicodedata
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property, lru_cache
from typing import NamedTuple

from alerting.domain.choice_words import Choice, choice_in
from alerting.domain.recipients import Label
from geo.names import LINKS, typos

# ── what a text can mean ────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Join:
    """They want to receive. `name` is what they wrote after the keyword ("ATTIVA Mario Rossi")."""

    name: str | None = None
    start: str = field(default="", compare=False)
    """What the link carried with which they started the bot: t.me/the_bot?start=fornacette."""


@dataclass(frozen=True, slots=True)
class Leave:
    """They want to receive nothing more, and said so beyond doubt."""


@dataclass(frozen=True, slots=True)
class AskJoin:
    """Perhaps they want to join: answer with the exact words, change nothing."""


@dataclass(frozen=True, slots=True)
class AskLeave:
    """Perhaps they want to leave: answer with the exact words, change nothing."""


@dataclass(frozen=True, slots=True)
class Help:
    """They ask how it works."""


@dataclass(frozen=True, slots=True)
class Place:
    """They say where they live ("ZONA Fornacette"), or where else something matters to them ("ZONA LAVORO Galleno").

    `name` is in their spelling, and empty where they wrote the label alone: where is it? `whole` is all that follows
    the word zona: a frazione may be called like a label ("Scuola Vecchia").
    """

    name: str
    label: Label | None = None
    whole: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class ForgetPlace:
    """They want one of their places forgotten, by its label, by its name or by both; by neither, the only one."""

    label: Label | None = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class ListPlaces:
    """They ask what is known of their places, or how to change it."""


@dataclass(frozen=True, slots=True)
class NotForUs:
    """Neither joining nor leaving: a citizen talking to their comune."""


@dataclass(frozen=True, slots=True)
class MyData:
    """They ask for all that is known of them, as the law has it."""


Meaning = MyData | Join | Leave | AskJoin | AskLeave | Help | Place | ForgetPlace | ListPlaces | Choice | NotForUs


# ── what a comune listens for ───────────────────────────────────────────────────────────────────────

Words = tuple[str, ...]


class Intent(Enum):
    """The two things a keyword can want."""

    JOIN = "join"
    LEAVE = "leave"


@dataclass(frozen=True)
class Keywords:
    """The words one comune has told its citizens, as printed: `ATTIVA COMUNE AMICO`.

    `join_also` and `leave_also` are further spellings that count as much. `around` are words that may
    stand beside a keyword and mean nothing (the comune's own name).
    """

    join: str
    leave: str
    join_also: tuple[str, ...] = ()
    leave_also: tuple[str, ...] = ()
    around: tuple[str, ...] = ()

    @cached_property
    def commands(self) -> dict[Words, Intent]:
        """Every wording that is a clear command here, folded, in words.

        A synonym stands for the first word of the keyword; where the keyword has several words, the others
        are demanded too: a lone "attiva" does not say what to switch on.
        """
        said: dict[Words, Intent] = {}
        for keyword, also, synonyms, intent in (
            (self.join, self.join_also, JOINING, Intent.JOIN),
            (self.leave, self.leave_also, LEAVING, Intent.LEAVE),
        ):
            exact = fold(keyword)
            said |= {(synonym, *exact[1:]): intent for synonym in synonyms}
            said |= {fold(other): intent for other in also}
        # The printed keywords come last: no synonym may take their meaning away.
        return said | {fold(self.join): Intent.JOIN, fold(self.leave): Intent.LEAVE}

    @cached_property
    def run_together(self) -> dict[str, Intent]:
        """The commands without spaces: "dis attiva" and "attivacomuneamico" are still what they are."""
        return {"".join(words): intent for words, intent in self.commands.items()}

    @cached_property
    def meaningless(self) -> frozenset[str]:
        """What may stand around a keyword without changing it."""
        return POLITENESS | {word for phrase in self.around for word in fold(phrase)}


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


JOINING = _set(
    "attiva attivami attivatemi attivazione riattiva riattivami iscrivi iscrivimi iscrivetemi iscrizione abbonami start"
)
LEAVING = _set(
    "disattiva disattivami disattivatemi disattivazione cancellami cancellatemi cancellazione "
    "disiscrivi disiscrivimi disiscrivetemi disiscrizione"
)
"""Synonyms of the first word of any comune's keyword: heard at Hône, Castegnato, Pordenone, Lazise."""

STOPPING = frozenset({"stop", "basta"})
"""Alone, they leave any comune's service, whatever its keyword. Too short for typos to be forgiven."""

FAVOURS = _set("favore cortesia piacere")
POLITENESS = FAVOURS | _set(
    "grazie mille per prego cortesemente gentilmente ciao salve saluti cordiali "
    "buongiorno buonasera buonanotte buondi buon giorno buona sera giornata"
)
AFTER_JOINING = _set(
    "il lo la al alla del della di on si ora adesso subito servizio canale notifiche avvisi messaggi "
    "whatsapp telegram comune"
)
"""What people add to a joining keyword, and is no name: "Iscrizione on", "Attiva il servizio"."""

PLACE_WORDS = frozenset({"zona", "zone", "frazione", "frazioni", "localita"})
OWN = _set("mia mie mio nostra nostre nostro nostri e dove")
BEFORE_A_PLACE = OWN | _set("la le")
"""What may stand before the word zona: "la mia zona", "togli la zona lavoro". Not "in": it reports a hole."""
LABELS = {
    **dict.fromkeys(("casa", "abitazione", "residenza", "domicilio"), Label.CASA),
    **dict.fromkeys(("lavoro", "ufficio", "ditta", "azienda", "fabbrica", "bottega"), Label.LAVORO),
    **dict.fromkeys(
        ("genitori", "miei", "mamma", "papa", "babbo", "madre", "padre", "nonna", "nonno", "nonni", "suoceri"),
        Label.GENITORI,
    ),
    **dict.fromkeys(("scuola", "scuole", "asilo", "nido", "elementari", "medie", "liceo"), Label.SCUOLA),
    **dict.fromkeys(("altro", "altra", "figlio", "figlia", "sorella", "fratello", "zii", "zio", "zia"), Label.ALTRO),
}
"""What people call the places they care about. "I miei" are one's parents: "zona dei miei"."""
PUPILS = _set("bambini bambina bambino bimbi bimba bimbo ragazzi figli figlio figlia nipoti")
"""Whose school it is says nothing about where."""
FORGETTING = _set(
    "togli togliere togliete cancella cancellare cancellate elimina eliminare eliminate rimuovi rimuovere rimuovete "
    "dimentica dimenticare dimenticate"
)
"""Beside the word zona: "togli zona lavoro". Without it, "cancella" is a doubt about leaving."""
LISTING = _set("quale quali che elenco lista mostra mostrami dimmi sono ho ci")
"""Around the word zona: "quali sono le mie zone", "che zone ci sono"."""
LEAVING_OR_FORGETTING = frozenset({("cancellazona",), ("cancellazone",)})
"""A slip from "cancellazione", or a place to forget and no space: nobody can tell."""
ADDRESS_MARKS = ",()"
"""Part the name of a place from what is around it: "via Roma, Fornacette (PI)"."""
DATA_PHRASES = frozenset(
    tuple(phrase.split())
    for phrase in (
        "i miei dati",
        "miei dati",
        "dati miei",
        "mandami i miei dati",
        "scarica i miei dati",
        "dati personali",
    )
)
"""The whole text, and nothing else: "i miei dati sono sbagliati" is for the comune."""
HELP_WORDS = frozenset({"aiuto", "help", "info", "informazioni", "istruzioni", "menu"})
QUESTION_WORDS = _set("come cosa che chi quando quanto quanti quale dove perche posso potrei")
NOT_A_NAME = (
    QUESTION_WORDS
    | PLACE_WORDS
    | HELP_WORDS
    | _set(
        "non no mai piu niente nessuno ma anzi pero poi invece solo anche ancora gia "
        "e o ed a in con su per tra fra il la i gli le un una uno al alla ai agli "
        "alle dal dalla nel nella sul sulla "
        "mi ti ci vi si mio mia tuo tua vostro vostra questo questa quello quella "
        "vorrei voglio desidero devo deve dovete potete puoi sono siamo ho ha hai abbiamo e "
        "acqua luce corrente gas strada via piazza scuola raccolta rifiuti appuntamento "
        "servizio servizi numero messaggi notifiche avvisi allerta allarme "
        "oggi domani ieri stasera subito ora"
    )
)
PARTICLES = _set("de di del della dello dei degli da dal dalla la lo li le")
"""Part of a surname ("Anna De Rossi", "Lo Conte"), though alone they are no name."""

ABOUT_JOINING = JOINING - {"start"} | _set(
    "attivare attivarmi attivarlo attivo iscrivere iscrivermi iscrivo iscritto iscritta iscriversi"
)
ABOUT_LEAVING = LEAVING | _set(
    "off disattivare disattivarmi disattivarlo disattivo disattivate disattivato disattivati "
    "cancella cancellare cancellarmi cancellate cancellarsi "
    "disiscrivere disiscrivermi disiscrivo disiscriversi toglimi toglietemi rimuovimi rimuovetemi"
)
ENOUGH_OF = _set(
    "messaggi messaggio ricevere ricevo riceverne mandate mandatemi mandare inviate inviatemi scrivete "
    "scrivetemi interessa avvisi notifiche disturbate"
)
"""Beside "non … più": "non voglio più ricevere messaggi"."""

MOST_WORDS = 25
"""A longer text is a letter to the comune, not a command."""
SHORT = 4
LEAVE_MENTION_WORDS = 12
"""Up to how many words a mention is worth a question: leaving is asked about sooner than joining."""
NAME_WORDS = 5
PLACE_NAME_WORDS = 6
LONGEST_SHOWN = 60


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────


def understand(text: str, keywords: Keywords) -> Meaning:
    """What `text` means to the comune of `keywords`. Any text has a meaning: this never raises.

    Case, accents, spaces, punctuation, emoji and invisible marks are ignored. Linear in the text.
    """
    words = _split(text)
    asks = "?" in text or "？" in text
    if len(words) > MOST_WORDS:
        return NotForUs()
    if meaning := _bot_command(text):
        return meaning
    core = _undressed(words)
    if not core:
        return Help() if asks else NotForUs()
    said = tuple(word.folded for word in core)
    return (
        _whole(said, keywords)
        or _with_something_after(core, keywords, text, asks=asks)
        or choice_in(said, text, asks=asks)
        or _of_places(core, text, asks=asks)
        or _mistyped(said, keywords, asks=asks)
        or _question(said, asks=asks)
        or _mention(said)
        or NotForUs()
    )


def command_written(text: str, keywords: Keywords) -> str:
    """Of a text that joins or leaves the command alone, as they wrote it: never the name or the words beside it."""
    if command := BOT_COMMAND.match(text):
        return f"/{command['name']}"
    core = _undressed(_split(text))
    said = tuple(word.folded for word in core)
    if said and (said[0] in STOPPING or "".join(said) in keywords.run_together):
        return _as_written(core if said[0] not in STOPPING else core[:1], text)
    for length in range(len(said), 0, -1):
        if said[:length] in keywords.commands:
            return _as_written(core[:length], text)
    near = any(
        len(said) == len(command) and edits("".join(said), "".join(command), most=FORGIVEN_MOST) <= FORGIVEN_MOST
        for command in keywords.commands
    )
    return _as_written(core, text) if near else ""


def clashes(one: Keywords, other: Keywords) -> tuple[str, ...]:
    """The commands that two comuni on one number could not tell apart, sorted; empty when there are none.

    The beginning of a longer command counts: "ATTIVA Comune Amico" is also ATTIVA with a name.
    """
    return tuple(
        sorted(
            {
                " ".join(theirs if len(theirs) < len(mine) else mine)
                for mine in one.commands
                for theirs in other.commands
                if mine[: len(theirs)] == theirs or theirs[: len(mine)] == mine
            }
        )
    )


def _bot_command(text: str) -> Meaning | None:
    """The buttons and the menu of a Telegram client. After /start comes a link's parameter, not a doubt."""
    if (command := BOT_COMMAND.match(text)) is None:
        return None
    match command["name"], text[command.end() :].strip():
        case "start", parameter:
            return Join(start=parameter[:LONGEST_START])
        case "stop", "":
            return Leave()
        case "help", _:
            return Help()
        case _:
            return None


LONGEST_START = 64
BOT_COMMAND = re.compile(r"\s*/(?P<name>start|stop|help)(@\w+)?(?!\S)")


def _whole(said: Words, keywords: Keywords) -> Meaning | None:
    """The text is a keyword and nothing else."""
    if len(said) == 1 and said[0] in STOPPING:
        return Leave()
    if said in HELP_PHRASES:
        return Help()
    if said in DATA_PHRASES:
        return MyData()
    intent = keywords.commands.get(said) or keywords.run_together.get("".join(said))
    if intent:
        return _of(intent)
    return AskJoin() if said and said == fold(keywords.join)[1:] else None  # "COMUNE AMICO": to do what?


def _with_something_after(core: "tuple[_Word, ...]", keywords: Keywords, text: str, *, asks: bool) -> Meaning | None:
    """The text begins with a keyword, and goes on."""
    said = tuple(word.folded for word in core)
    for length in range(len(said) - 1, 0, -1):
        intent = keywords.commands.get(said[:length])
        rest = core[length:]
        if intent is Intent.LEAVE:
            if all(word.folded in keywords.meaningless for word in rest):
                return Leave()
            return Help() if asks else AskLeave()
        if intent is Intent.JOIN:
            if any(word.folded in ABOUT_LEAVING | STOPPING or _is_near_leaving(word.folded) for word in rest):
                return AskLeave()
            if asks:
                return Help()
            return _join_with(rest, keywords, text)
    return None


def _join_with(rest: "tuple[_Word, ...]", keywords: Keywords, text: str) -> Meaning:
    nothing = keywords.meaningless | AFTER_JOINING
    start = next((i for i, word in enumerate(rest) if word.folded not in nothing), len(rest))
    while start and rest[start - 1].folded in PARTICLES:
        start -= 1  # "ATTIVA Lo Conte": the article belongs to the name
    name = rest[start:]
    if all(word.folded in nothing for word in rest):
        return Join()
    if len(name) > NAME_WORDS or any(not _can_be_a_name(word.folded) for word in name):
        return AskJoin()
    return Join(_as_written(name, text))


def _can_be_a_name(word: str) -> bool:
    return word.isalpha() and (word in PARTICLES or word not in NOT_A_NAME | ABOUT_JOINING)


def _mistyped(said: Words, keywords: Keywords, *, asks: bool) -> Meaning | None:
    """A keyword with a slip of the finger, when nothing the other way is nearly as near."""
    nearest = dict.fromkeys(Intent, CANNOT_BE_NEAR)
    close = dict.fromkeys(Intent, False)
    typed = "".join(said)
    for command, intent in keywords.commands.items():
        keyword = "".join(command)
        distance = edits(typed, keyword, most=FORGIVEN_MOST + CLEARLY_FARTHER)
        nearest[intent] = min(distance, nearest[intent])
        # As many words as the keyword has: "no cancellazione" is two letters away, and its contrary.
        close[intent] |= len(said) == len(command) and distance <= forgiven(keyword)
    leaning = Intent.JOIN if nearest[Intent.JOIN] < nearest[Intent.LEAVE] else Intent.LEAVE
    if not close[leaning]:
        return None
    gap = abs(nearest[Intent.JOIN] - nearest[Intent.LEAVE])
    another_word = typed in ABOUT_JOINING | ABOUT_LEAVING or typed.startswith("no")  # "cancella", "noattiva"
    if gap >= CLEARLY_FARTHER and not asks and not another_word:
        return _of(leaning)
    return AskJoin() if leaning is Intent.JOIN else AskLeave()


def _of_places(core: "tuple[_Word, ...]", text: str, *, asks: bool) -> Meaning | None:
    """The text speaks of a zona: the one to keep, the one to forget, or what is known of them."""
    said = tuple(word.folded for word in core)
    if said in LEAVING_OR_FORGETTING:
        return AskLeave()
    zona = next((at for at, word in enumerate(said) if word in PLACE_WORDS), None)
    if zona is None:
        return None
    before = said[:zona]
    while before and before[-1] in BEFORE_A_PLACE:
        before = before[:-1]
    if LISTING.issuperset(before) and set(said[zona + 1 :]) <= LISTING | BEFORE_A_PLACE:
        return ListPlaces()
    rest, forgets = core[zona + 1 :], bool(before) and before[-1] in FORGETTING
    if not before and rest[-1].folded in FORGETTING:  # "zona lavoro togli", "zona lavoro da togliere"
        rest, forgets = rest[: -2 if said[-2] == "da" else -1], True
    if before and not forgets:
        return None
    return _kept_or_forgotten(rest, text, forgets=forgets, clearly=before[:-1] == () and not asks)


def _kept_or_forgotten(rest: "tuple[_Word, ...]", text: str, *, forgets: bool, clearly: bool) -> Meaning | None:
    """What follows the word zona: a label, a name, or both."""
    if any(_speaks_of_leaving(word.folded) for word in rest):
        return AskLeave()
    label, name = _labelled(rest)
    if forgets and not clearly:
        return None if name else ListPlaces()  # "vorrei togliere la zona lavoro"; but "potete togliere la zona 30"
    if len(name) > PLACE_NAME_WORDS or not FORGETTING.isdisjoint(word.folded for word in rest):
        return None
    if forgets:
        return ForgetPlace(label, _as_written(name, text, also=ADDRESS_MARKS))
    if not name and label is None:
        return ListPlaces()
    return Place(_as_written(name, text, also=ADDRESS_MARKS), label, whole=_as_written(rest, text, also=ADDRESS_MARKS))


def _speaks_of_leaving(word: str) -> bool:
    return word not in FORGETTING and (word in ABOUT_LEAVING | STOPPING or _is_near_leaving(word))


def _labelled(rest: "tuple[_Word, ...]") -> "tuple[Label | None, tuple[_Word, ...]]":
    """Which of their places it is, if they say so, and the words that name it: "casa dei nonni: Fornacette"."""
    label: Label | None = None
    start = 0
    for at, word in enumerate(rest):
        named = LABELS.get(word.folded)
        if label is Label.SCUOLA and word.folded in PUPILS:
            start = at + 1
        elif named and label in (None, Label.CASA, named):
            label, start = named, at + 1
        elif word.folded not in LINKS | OWN:
            break
    while start < len(rest) and rest[start].folded in OWN:
        start += 1  # "la mia zona è Fornacette"; an article may belong to the name
    return label, rest[start:]


def _question(said: Words, *, asks: bool) -> Meaning | None:
    """How does one join, how does one leave: explained, never done."""
    if not asks and said[0] not in QUESTION_WORDS:
        return None
    return Help() if _mention(said) else None


def _mention(said: Words) -> Meaning | None:
    """A keyword somewhere inside a sentence: enough for a question, never for a deed."""
    short = len(said) <= SHORT
    if len(said) <= LEAVE_MENTION_WORDS:
        tired = {"non", "piu"} <= set(said) and not ENOUGH_OF.isdisjoint(said)
        if tired or any(word in ABOUT_LEAVING or _is_near_leaving(word) for word in said):
            return AskLeave()
    if short and not STOPPING.isdisjoint(said):
        return AskLeave()
    if not ABOUT_JOINING.isdisjoint(said) and (short or any(word.startswith("iscriv") for word in said)):
        return AskJoin()
    return None


def _is_near_leaving(word: str) -> bool:
    return any(0 < edits(word, leaving, most=1) <= 1 for leaving in LEAVING)


def _of(intent: Intent) -> Meaning:
    return Join() if intent is Intent.JOIN else Leave()


# ── words ───────────────────────────────────────────────────────────────────────────────────────────


class _Word(NamedTuple):
    """A word as compared, and where it stands in the text."""

    folded: str
    start: int
    end: int


def fold(text: str) -> Words:
    """The words of a text as they are compared: "Attivà, COMUNE\u200b amico 👍" is attiva, comune, amico."""
    return tuple(word.folded for word in _split(text))


def _split(text: str) -> tuple[_Word, ...]:
    words: list[_Word] = []
    letters: list[str] = []
    start = 0
    for i, char in enumerate(text):
        letter = _letter(char)
        if letter == SEPARATOR:
            if letters:
                words.append(_Word("".join(letters), start, i))
                letters.clear()
            continue
        if letter == KEYCAP:  # 1️⃣ is an emoji that begins with a digit
            if letters:
                letters.pop()
            continue
        if letter and not letters:
            start = i
        if letter:
            letters.append(letter)
    if letters:
        words.append(_Word("".join(letters), start, len(text)))
    return tuple(words)


SEPARATOR = " "
KEYCAP = "\u20e3"
BLANK_LETTERS = "\u115f\u1160\u3164\uffa0"
"""Hangul fillers: letters by category, invisible on the screen."""
UNSEEN = BLANK_LETTERS + "\u034f\u2800" + "".join(map(chr, range(0xFE00, 0xFE10)))
"""With them: the grapheme joiner, the blank of Braille, and the selectors of how an emoji looks."""


@lru_cache(maxsize=4096)
def _letter(char: str) -> str:
    """A character as compared: plain lower-case letters, nothing for a mark, a space for what parts words."""
    category = unicodedata.category(char)
    if char == KEYCAP:
        return KEYCAP
    if category in ("Mn", "Me", "Mc", "Cf") or char in BLANK_LETTERS:
        return ""
    if category == "So" or char == "ℹ":  # an emoji, whatever letter it decomposes to
        return SEPARATOR
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", char).casefold())
    return "".join(c for c in plain if c.isalnum()) or SEPARATOR


def _undressed(words: tuple[_Word, ...]) -> tuple[_Word, ...]:
    """Without greetings and thanks at either end; once, if said again and again; not l e t t e r e d."""
    first, last = 0, len(words)
    while first < last and _is_polite(words, first):
        first += 1
    while last > first and _is_polite(words, last - 1):
        last -= 1
    core = words[first:last]
    if len(core) > 1 and len({word.folded for word in core}) == 1 and len(core[0].folded) > 1:
        return core[:1]
    if len(core) > 2 and all(len(word.folded) == 1 for word in core):
        return (_Word("".join(word.folded for word in core), core[0].start, core[-1].end),)
    return core


def _is_polite(words: tuple[_Word, ...], at: int) -> bool:
    """Whether a word is a greeting or thanks. "Basta per" is the beginning of something else."""
    if words[at].folded == "per":
        return at + 1 < len(words) and words[at + 1].folded in FAVOURS
    return words[at].folded in POLITENESS


def _as_written(words: tuple[_Word, ...], text: str, also: str = "") -> str:
    """The words in the citizen's own spelling, without what cannot be seen, at most 60 characters."""
    if not words:
        return ""
    visible = "".join(c for c in text[words[0].start : words[-1].end] if not _is_unseen(c))
    written = unicodedata.normalize("NFC", visible)
    seen = "".join(
        c if c.isalnum() or c in "'’.-" + also or unicodedata.category(c)[0] == "M" else " " for c in written
    )
    return " ".join(seen.split())[:LONGEST_SHOWN].strip()


def _is_unseen(char: str) -> bool:
    """Marks that join, turn or vary letters, and show nothing themselves."""
    return unicodedata.category(char) == "Cf" or char in UNSEEN


def says_nothing(text: str) -> bool:
    """Whether nothing at all is to be seen in a text; an emoji is something."""
    return all(_is_unseen(c) or unicodedata.category(c)[0] in "ZC" for c in text)


HELP_PHRASES = frozenset({(word,) for word in HELP_WORDS} | {("come", "funziona"), ("come", "si", "usa")})


# ── typos ───────────────────────────────────────────────────────────────────────────────────────────

FORGIVEN_MOST = 2
CLEARLY_FARTHER = 2
CANNOT_BE_NEAR = FORGIVEN_MOST + CLEARLY_FARTHER + 1
"""How many edits farther the opposite must be. "disattiva" and "attiva" are three edits apart."""


def forgiven(keyword: str) -> int:
    """How many slips a keyword of this length forgives: none below 6 letters, one below 10, else two."""
    if len(keyword) < 6:
        return 0
    return 1 if len(keyword) < 10 else FORGIVEN_MOST


def edits(said: str, keyword: str, *, most: int) -> int:
    """How many slips apart two words are (a swap of neighbours is one), or `most` + 1 when farther."""
    if abs(len(said) - len(keyword)) > most:  # whatever people send, the costly comparison stays short
        return most + 1
    return min(typos(said, keyword), most + 1)
