"""What somebody else's Info means in our words: its kind, and for the weather its colour and its risk."""

import re
from dataclasses import dataclass

from alerting.domain.cap import Category, Info, ResponseType, Severity
from alerting.domain.kinds import SEVERITY_OF, WITHOUT_RED, Colour, Kind, Risk

COLOUR_WORD = re.compile(r"\b(?:allerta|allarme|codice|livello|warning)\W+(gialla|giallo|arancione|rossa|rosso)\b")
COLOURS = {
    "gialla": Colour.GIALLA,
    "giallo": Colour.GIALLA,
    "arancione": Colour.ARANCIONE,
    "rossa": Colour.ROSSA,
    "rosso": Colour.ROSSA,
}

GREEN_WORD = re.compile(r"\b(?:allerta|codice|livello)\W+verde\b|\bnessuna allerta\b")

RISK_WORDS = (
    # The first that is found counts: "idrogeologico-idraulico reticolo minore" is the Tuscan name of one risk.
    (Risk.IDROGEOLOGICO, re.compile(r"idrogeol|reticolo minore|frane\b")),
    (Risk.IDRAULICO, re.compile(r"idraulic|reticolo principale|piena|esondazion|alluvion|\bflood")),
    (Risk.TEMPORALI, re.compile(r"temporal|thunderstorm")),
    (Risk.MAREGGIATE, re.compile(r"mareggiat|coastal")),
    (Risk.GHIACCIO, re.compile(r"ghiaccio|gelo\b|\bice\b")),
    (Risk.NEVE, re.compile(r"\bneve\b|nevicat|\bsnow")),
    (Risk.VENTO, re.compile(r"\bvento\b|\bwind\b")),
)

AWARENESS_LEVELS = {"2": Colour.GIALLA, "3": Colour.ARANCIONE, "4": Colour.ROSSA}
AWARENESS_TYPES = {
    # MeteoAlarm's numbers, as far as they are risks of ours.
    "1": Risk.VENTO,
    "2": Risk.NEVE,
    "3": Risk.TEMPORALI,
    "7": Risk.MAREGGIATE,
    "10": Risk.IDROGEOLOGICO,
    "11": Risk.IDRAULICO,
    "12": Risk.IDRAULICO,
}

KIND_WORDS = (
    (Kind.EVACUAZIONE, re.compile(r"evacua")),
    (Kind.INTERRUZIONE_IDRICA, re.compile(r"\bacqua\b|idric|acquedott")),
    (Kind.INTERRUZIONE_ELETTRICA, re.compile(r"elettric|corrente|blackout")),
    (Kind.TERREMOTO, re.compile(r"terremot|sisma|sismic|earthquake")),
    (Kind.INCENDIO, re.compile(r"incendi|\bfire\b")),
    (Kind.PERSONA_DISPERSA, re.compile(r"dispers|scompars")),
    (Kind.CHIUSURA_STRADA, re.compile(r"\bstrad|viabilit|\bponte\b|\btraffic")),
)


@dataclass(frozen=True, slots=True)
class Meaning:
    """In our words. Colour and risk come together, for an allerta meteo; another kind has neither."""

    kind: Kind
    colour: Colour | None = None
    risk: Risk | None = None

    @property
    def hazard(self) -> str:
        """What two messages must share to speak of one thing: `allerta-meteo/idraulico`, `incendio`."""
        return f"{self.kind}/{self.risk.value}" if self.risk else str(self.kind)


def meaning_of(info: Info) -> Meaning:
    """By its parameters where they say it (ours, MeteoAlarm's), else by its words and its category."""
    words = f"{info.event} {info.headline}".casefold()
    if Category.MET in info.category or Category.GEO in info.category or info.parameter("it.rischio"):
        colour, risk = _colour(info, words), _risk(info, words)
        if colour and risk:
            highest = Colour.ARANCIONE if risk in WITHOUT_RED and colour is Colour.ROSSA else colour
            return Meaning(Kind.ALLERTA_METEO, highest, risk)
    return Meaning(_kind(info, words))


def is_over(info: Info) -> bool:
    """Whether it says that nothing is the matter, or no longer: an all-clear, or green. Neither starts anything.

    Green in the words of something grave is no green: "da nessuna allerta ad allerta rossa".
    """
    if ResponseType.ALL_CLEAR in info.response_type:
        return True
    is_mild = info.severity in (Severity.MINOR, Severity.UNKNOWN)
    is_green = (info.parameter("it.colore") or "").casefold() == "verde" or _level(info) == "1"
    return is_mild and (is_green or bool(GREEN_WORD.search(f"{info.event} {info.headline}".casefold())))


def _level(info: Info) -> str:
    return (info.parameter("awareness_level") or "").partition(";")[0].strip()


def _colour(info: Info, words: str) -> Colour | None:
    """As said. Where nobody says a colour, severity stands for it; where both are said the graver is believed."""
    said = info.parameter("it.colore")
    found = COLOUR_WORD.search(words)
    by_severity = next((colour for colour, severity in SEVERITY_OF.items() if severity is info.severity), None)
    named = [
        {colour.value: colour for colour in Colour}.get((said or "").casefold()),
        AWARENESS_LEVELS.get(_level(info)),
        COLOURS[found.group(1)] if found else None,
        by_severity,
    ]
    order = list(Colour)
    return max((colour for colour in named if colour), key=order.index, default=None)


def _risk(info: Info, words: str) -> Risk | None:
    said = (info.parameter("it.rischio") or "").casefold()
    by_name = {risk.value: risk for risk in Risk}
    kind = (info.parameter("awareness_type") or "").partition(";")[0].strip()
    in_words = (risk for risk, pattern in RISK_WORDS if pattern.search(words))
    return by_name.get(said) or AWARENESS_TYPES.get(kind) or next(in_words, None)


def _kind(info: Info, words: str) -> Kind:
    said = {kind.value: kind for kind in Kind}.get((info.parameter("it.tipo") or "").casefold())
    if said and said is not Kind.ALLERTA_METEO:  # that takes a colour and a risk, and they are not there
        return said
    if ResponseType.EVACUATE in info.response_type:
        return Kind.EVACUAZIONE
    by_category = {Category.FIRE: Kind.INCENDIO, Category.TRANSPORT: Kind.CHIUSURA_STRADA}
    in_words = (kind for kind, pattern in KIND_WORDS if pattern.search(words))
    by_name = (kind for category in info.category if (kind := by_category.get(category)))
    return next(in_words, None) or next(by_name, Kind.ALTRA_EMERGENZA)
