"""The kinds of alert an operator picks from, each with what it means in CAP's words."""

from dataclasses import dataclass
from enum import Enum

from alerting.domain.cap import Category, Certainty, ResponseType, Severity, Urgency


class Colour(Enum):
    """The colour of an allerta meteo. Green is never sent; the colour is a forecast, not an order."""

    GIALLA = "gialla"
    ARANCIONE = "arancione"
    ROSSA = "rossa"


class Risk(Enum):
    """The risks of the Tuscan and national bulletins, with the words citizens read."""

    IDRAULICO = "idraulico"
    IDROGEOLOGICO = "idrogeologico"
    TEMPORALI = "temporali"
    VENTO = "vento"
    NEVE = "neve"
    GHIACCIO = "ghiaccio"
    MAREGGIATE = "mareggiate"

    @property
    def in_words(self) -> str:
        return RISK_IN_WORDS[self]


RISK_IN_WORDS = {
    Risk.IDRAULICO: "piena di fiumi e canali",
    Risk.IDROGEOLOGICO: "frane e allagamenti da fossi e torrenti",
    Risk.TEMPORALI: "temporali forti",
    Risk.VENTO: "vento forte",
    Risk.NEVE: "neve",
    Risk.GHIACCIO: "ghiaccio",
    Risk.MAREGGIATE: "mareggiate",
}

SEVERITY_OF = {
    # As the Dipartimento publishes them. "Criticità moderata" is Severe: the words do not match CAP's.
    Colour.GIALLA: Severity.MODERATE,
    Colour.ARANCIONE: Severity.SEVERE,
    Colour.ROSSA: Severity.EXTREME,
}

WITHOUT_RED = frozenset({Risk.TEMPORALI})
"""The national scale for thunderstorms ends at orange (DPC note, 10 February 2016)."""


class Kind(Enum):
    """What an operator picks."""

    ALLERTA_METEO = "allerta-meteo"
    INTERRUZIONE_IDRICA = "interruzione-idrica"
    INTERRUZIONE_ELETTRICA = "interruzione-elettrica"
    CHIUSURA_STRADA = "chiusura-strada"
    INCENDIO = "incendio"
    TERREMOTO = "terremoto"
    EVACUAZIONE = "evacuazione"
    PERSONA_DISPERSA = "persona-dispersa"
    ALTRA_EMERGENZA = "altra-emergenza"
    RACCOLTA = "raccolta-porta-a-porta"
    SCADENZA = "scadenza"
    EVENTO = "evento"
    AVVISO = "avviso"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a kind means in CAP's words until the operator says otherwise."""

    event: str
    category: Category
    urgency: Urgency
    severity: Severity
    certainty: Certainty
    response: ResponseType


DEFAULTS = {
    Kind.ALLERTA_METEO: Defaults(
        "allerta meteo",
        Category.MET,
        Urgency.EXPECTED,
        Severity.SEVERE,
        Certainty.LIKELY,
        ResponseType.PREPARE,
    ),
    Kind.INTERRUZIONE_IDRICA: Defaults(
        "interruzione idrica",
        Category.INFRA,
        Urgency.IMMEDIATE,
        Severity.MODERATE,
        Certainty.OBSERVED,
        ResponseType.PREPARE,
    ),
    Kind.INTERRUZIONE_ELETTRICA: Defaults(
        "interruzione elettrica",
        Category.INFRA,
        Urgency.IMMEDIATE,
        Severity.MODERATE,
        Certainty.OBSERVED,
        ResponseType.PREPARE,
    ),
    Kind.CHIUSURA_STRADA: Defaults(
        "chiusura strada",
        Category.TRANSPORT,
        Urgency.IMMEDIATE,
        Severity.MODERATE,
        Certainty.OBSERVED,
        ResponseType.AVOID,
    ),
    Kind.INCENDIO: Defaults(
        "incendio",
        Category.FIRE,
        Urgency.IMMEDIATE,
        Severity.SEVERE,
        Certainty.OBSERVED,
        ResponseType.AVOID,
    ),
    Kind.TERREMOTO: Defaults(
        "terremoto",
        Category.GEO,
        Urgency.IMMEDIATE,
        Severity.SEVERE,
        Certainty.OBSERVED,
        ResponseType.ASSESS,
    ),
    Kind.EVACUAZIONE: Defaults(
        "evacuazione",
        Category.SAFETY,
        Urgency.IMMEDIATE,
        Severity.EXTREME,
        Certainty.OBSERVED,
        ResponseType.EVACUATE,
    ),
    Kind.PERSONA_DISPERSA: Defaults(
        "persona dispersa",
        Category.RESCUE,
        Urgency.IMMEDIATE,
        Severity.MODERATE,
        Certainty.OBSERVED,
        ResponseType.MONITOR,
    ),
    Kind.ALTRA_EMERGENZA: Defaults(
        "emergenza",
        Category.SAFETY,
        Urgency.IMMEDIATE,
        Severity.MODERATE,
        Certainty.OBSERVED,
        ResponseType.MONITOR,
    ),
    Kind.RACCOLTA: Defaults(
        "raccolta porta a porta",
        Category.ENV,
        Urgency.FUTURE,
        Severity.MINOR,
        Certainty.LIKELY,
        ResponseType.NONE,
    ),
    Kind.SCADENZA: Defaults(
        "scadenza", Category.OTHER, Urgency.FUTURE, Severity.MINOR, Certainty.LIKELY, ResponseType.NONE
    ),
    Kind.EVENTO: Defaults(
        "evento", Category.OTHER, Urgency.FUTURE, Severity.MINOR, Certainty.LIKELY, ResponseType.NONE
    ),
    Kind.AVVISO: Defaults(
        "avviso", Category.OTHER, Urgency.EXPECTED, Severity.MINOR, Certainty.OBSERVED, ResponseType.NONE
    ),
}


def needs_instruction(severity: Severity) -> bool:
    """An orange or red alert without "what to do" is refused: half the warned of 2021 did not know."""
    return severity in (Severity.SEVERE, Severity.EXTREME)
