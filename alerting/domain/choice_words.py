"""What a citizen wrote about their choices: which topics, which quiet hours, which language, and what is known of them.

A text is a choice only where each of its words belongs to one. What is unclear is answered with how it is written;
whoever wants no emergencies is asked whether they mean to leave. Nothing here makes anybody leave.
"""

import re
import unicodedata
from dataclasses import dataclass
from datetime import time

from alerting.domain.choices import CHOSEN, IN_ITALIAN, Topic
from alerting.domain.notices import Quiet
from alerting.domain.translations import TONGUES
from geo.names import typos

# ── what it can mean ────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Topics:
    """They want these topics, and those no more. "SOLO RACCOLTA" speaks of all, "NO EVENTI" of one."""

    on: frozenset[Topic] = frozenset()
    off: frozenset[Topic] = frozenset()


@dataclass(frozen=True, slots=True)
class NoEmergencies:
    """They want no emergencies, or nothing: that is to leave, and they are asked whether they do."""


@dataclass(frozen=True, slots=True)
class QuietHours:
    """They want no routine text in these hours, or in none any more (None)."""

    quiet: Quiet | None


@dataclass(frozen=True, slots=True)
class Speaks:
    """They read another language, by its code."""

    language: str


@dataclass(frozen=True, slots=True)
class KnownOfMe:
    """They ask what is known of them."""


@dataclass(frozen=True, slots=True)
class HowToChoose:
    """They speak of a choice, and not clearly enough to make it."""


Choice = Topics | NoEmergencies | QuietHours | Speaks | KnownOfMe | HowToChoose

Words = tuple[str, ...]


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# ── the words ───────────────────────────────────────────────────────────────────────────────────────

TOPIC_WORDS = {
    **dict.fromkeys(_set("emergenza emergenze allerta allerte allarme allarmi"), Topic.EMERGENZE),
    **dict.fromkeys(_set("raccolta rifiuti spazzatura immondizia"), Topic.RACCOLTA),
    **dict.fromkeys(_set("evento eventi manifestazione manifestazioni iniziativa iniziative"), Topic.EVENTI),
    **dict.fromkeys(_set("notizia notizie scadenza scadenze"), Topic.NOTIZIE),
}
"""Not "avvisi" nor "messaggi": whoever wants none of these may want to leave."""
NO_SLIP = _set("venti avventi raccolto raccolti raccolte")
"""A letter away from one of these, and words of their own: a wind, a harvest."""
ONLY = _set("solo soltanto solamente unicamente")
ALSO = _set("anche pure si aggiungi voglio vorrei")
NOT = _set("no non senza basta stop togli togliete cancella elimina rimuovi")
ALL = _set("tutto tutti tutte")
AROUND = _set(
    "il lo la i gli le di del della delle dei degli per e ed ne porta a mi quanto piu ricevere ricevo ricevete mandate "
    "mandatemi inviate inviatemi avvisi avviso messaggi messaggio argomenti"
)
"""What may stand around a topic without changing it: "raccolta porta a porta", "gli avvisi di raccolta"."""

SILENCE = "silenzio"
NO_SILENCE = NOT | _set("via niente fine off")
NOT_TO_DISTURB = frozenset(("non", word) for word in _set("disturbare disturbarmi disturbate disturbatemi"))
AROUND_HOURS = _set(
    "da dalle dalla dal dall le alle alla al all fino ore ora h di del della e il la in mio metti voglio vorrei tra "
    "fra per mezzanotte mezzogiorno una"
)
PART_OF_DAY = _set("notte sera mattina mattino pomeriggio giorno")
"""The 10 may be of the evening: whoever needs such words is asked for hours of the 24."""
HOUR = re.compile(r"h?[0-9]{1,2}(h[0-9]{2})?")
CLOCK = re.compile(
    r"(?<![0-9])(?P<hour>[0-9]{1,2})(?:\s?[:.,h]\s?(?P<minute>[0-9]{2}))?(?![0-9])"
    r"|(?P<word>\b(?:mezzanotte|mezzogiorno|una)\b)",
    re.IGNORECASE,
)
HOURS_IN_WORDS = {"mezzanotte": 0, "una": 1, "mezzogiorno": 12}

TONGUE = _set("lingua language sprache langue idioma limba gjuha in")
AROUND_TONGUE = _set("la mia voglio vorrei gli avvisi messaggi i parlo leggo please only")
IN_ENGLISH = {
    "italian": "it",
    "arabic": "ar",
    "bengali": "bn",
    "german": "de",
    "english": "en",
    "spanish": "es",
    "french": "fr",
    "dutch": "nl",
    "polish": "pl",
    "portuguese": "pt",
    "romanian": "ro",
    "russian": "ru",
    "slovenian": "sl",
    "albanian": "sq",
    "ukrainian": "uk",
    "chinese": "zh",
}

ABOUT_ME = (
    *("cosasaidime", "checosasaidime", "cosasapetedime", "checosasapetedime", "cosasaisudime", "cosasapetesudime"),
    *("imieidati", "mieidati", "mostraimieidati", "lemiescelte", "miescelte", "scelte", "lemiepreferenze"),
    *("preferenze", "impostazioni"),
)
SLIP_FROM, TWO_SLIPS_FROM = 6, 10
"""Letters: a shorter word is only taken as it is written."""


def _plain(word: str) -> str:
    return "".join(
        c for c in unicodedata.normalize("NFKD", word.casefold()) if unicodedata.category(c) not in ("Mn", "Me", "Mc")
    )


BY_OWN_NAME = {_plain(tongue.name): code for code, tongue in TONGUES.items()} | IN_ENGLISH
BY_NAME = {name: code for code, name in IN_ITALIAN.items()} | {"italiana": "it"} | BY_OWN_NAME


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────


def choice_in(said: Words, text: str, *, asks: bool) -> Choice | None:
    """What a text of these folded words chooses; None where it speaks of something else."""
    found = _about_me(said) or _of_hours(said, text) or _of_language(said) or _of_topics(said)
    if asks and not isinstance(found, KnownOfMe | None):
        return HowToChoose()
    return found


def _about_me(said: Words) -> KnownOfMe | None:
    whole = "".join(said)
    is_near = any(len(phrase) >= TWO_SLIPS_FROM and abs(len(whole) - len(phrase)) <= 1
                  and typos(whole, phrase) <= 1 for phrase in ABOUT_ME)  # fmt: skip
    return KnownOfMe() if whole in ABOUT_ME or is_near else None


# ── topics ──────────────────────────────────────────────────────────────────────────────────────────


def _of_topics(said: Words) -> Choice | None:
    words = [word for word in _parted(said) if word not in AROUND]
    verbs = [word for word in words if word in ONLY | ALSO | NOT]
    topics = [_topic(word) for word in words if word not in ONLY | ALSO | NOT | ALL]
    named = frozenset(topic for topic in topics if topic is not None)
    everything = any(word in ALL for word in words)
    if None in topics or not (named or everything) or (everything and named):
        return None
    kinds = {_kind(verb) for verb in verbs}
    if "wish" in kinds and len(kinds) > 1:
        kinds.discard("wish")  # "voglio solo emergenze", "non voglio eventi"
    if len(kinds) > 1:
        return HowToChoose()  # "no eventi, anche raccolta": one thing at a time
    if everything:
        return _of_all(words, kinds)
    match kinds:
        case s if s == {"only"}:
            return Topics(named | {Topic.EMERGENZE}, frozenset(CHOSEN) - named)
        case s if s in ({"also"}, {"wish"}):
            return Topics(on=named)
        case s if s == {"not"}:
            return NoEmergencies() if Topic.EMERGENZE in named else Topics(off=named)
        case _:
            return None


def _of_all(words: list[str], kinds: set[str]) -> Choice | None:
    if kinds <= {"also", "wish"}:
        return Topics(on=frozenset(Topic))
    if kinds == {"not"} and words[0] in ("no", "senza", "togli", "togliete"):
        return NoEmergencies()
    return None  # "basta tutto", "cancella tutto": leaving is asked about by whoever knows its words


def _kind(verb: str) -> str:
    if verb in ONLY:
        return "only"
    if verb in NOT:
        return "not"
    return "wish" if verb in ("voglio", "vorrei") else "also"


def _parted(said: Words) -> Words:
    """ "noeventi" is "no eventi"."""
    if len(said) != 1:
        return said
    for verb in sorted(ONLY | ALSO | NOT, key=len, reverse=True):
        if said[0].startswith(verb) and said[0].removeprefix(verb) in TOPIC_WORDS:
            return verb, said[0].removeprefix(verb)
    return said


def _topic(word: str) -> Topic | None:
    if word in TOPIC_WORDS:
        return TOPIC_WORDS[word]
    if len(word) < SLIP_FROM - 1 or word in NO_SLIP:
        return None
    near = {topic for known, topic in TOPIC_WORDS.items() if _is_a_slip(word, known)}
    return near.pop() if len(near) == 1 else None


def _is_a_slip(word: str, known: str) -> bool:
    if len(known) < SLIP_FROM or abs(len(word) - len(known)) > 1:
        return False
    return typos(word, known) <= 1


# ── hours ───────────────────────────────────────────────────────────────────────────────────────────


def _of_hours(said: Words, text: str) -> Choice | None:
    silent = [word for word in said if word == SILENCE or _is_a_slip(word, SILENCE)]
    rest = [word for word in said if word not in silent]
    if silent and rest and all(word in NO_SILENCE | {"il", "mio"} for word in rest):
        return QuietHours(None)
    if not silent and said[:2] in NOT_TO_DISTURB:
        rest = list(said[2:])
    elif not silent:
        return None
    if not all(word in AROUND_HOURS | PART_OF_DAY or HOUR.fullmatch(word) for word in rest):
        return None
    times = [_time(found) for found in CLOCK.finditer(unicodedata.normalize("NFKC", text))]
    if len(times) != 2 or None in times or times[0] == times[1]:
        return HowToChoose()
    begins, ends = times
    assert begins is not None and ends is not None
    if not PART_OF_DAY.isdisjoint(rest) and 1 <= begins.hour <= 12:
        return HowToChoose()
    return QuietHours(Quiet(begins, ends))


def _time(found: re.Match[str]) -> time | None:
    if found["word"]:
        return time(HOURS_IN_WORDS[found["word"].lower()])
    hour, minute = int(found["hour"]), int(found["minute"] or 0)
    if hour == 24 and minute == 0:
        return time(0)
    return time(hour, minute) if hour < 24 and minute < 60 else None


# ── language ────────────────────────────────────────────────────────────────────────────────────────


def _of_language(said: Words) -> Choice | None:
    named = [word for word in said if word in BY_NAME]
    rest = [word for word in said if word not in named]
    says_so = any(word in TONGUE for word in rest)
    if not set(rest) <= TONGUE | AROUND_TONGUE:
        return None
    if len(named) != 1:
        return HowToChoose() if said[:1] == ("lingua",) else None
    # "Russo" and "Inglese" are surnames: by their Italian name only beside the word lingua.
    return Speaks(BY_NAME[named[0]]) if says_so or named[0] in BY_OWN_NAME else None
