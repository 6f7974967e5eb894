"""What an operator picks becomes CAP's words, and CAP's words become the lane the design promises."""

from datetime import UTC, datetime, timedelta

import pytest

from alerting.authorities import load
from alerting.composing import Refused, Wording, compose
from alerting.domain.cap import Severity
from alerting.domain.kinds import DEFAULTS, SEVERITY_OF, Colour, Kind, Risk, needs_instruction
from alerting.domain.lanes import Lane
from alerting.domain.urgency import lane_of

NOW = datetime(2026, 11, 21, 13, 0, tzinfo=UTC)
CALCINAIA = load()["calcinaia"]

LANES = {
    (Kind.ALLERTA_METEO, Colour.GIALLA): Lane.EMERGENCY,
    (Kind.ALLERTA_METEO, Colour.ARANCIONE): Lane.EMERGENCY,
    (Kind.ALLERTA_METEO, Colour.ROSSA): Lane.FLASH,
    (Kind.INTERRUZIONE_IDRICA, None): Lane.EMERGENCY,
    (Kind.INTERRUZIONE_ELETTRICA, None): Lane.EMERGENCY,
    (Kind.CHIUSURA_STRADA, None): Lane.EMERGENCY,
    (Kind.INCENDIO, None): Lane.FLASH,
    (Kind.TERREMOTO, None): Lane.FLASH,
    (Kind.EVACUAZIONE, None): Lane.FLASH,
    (Kind.PERSONA_DISPERSA, None): Lane.EMERGENCY,
    (Kind.ALTRA_EMERGENZA, None): Lane.EMERGENCY,
    (Kind.RACCOLTA, None): Lane.ROUTINE,
    (Kind.SCADENZA, None): Lane.ROUTINE,
    (Kind.EVENTO, None): Lane.ROUTINE,
    (Kind.AVVISO, None): Lane.ROUTINE,
}


def said(kind: Kind, colour: Colour | None, risk: Risk | None = Risk.IDRAULICO) -> Wording:
    return Wording(
        kind=kind,
        headline="Attenzione a Fornacette",
        description="Possibili allagamenti nei sottopassi.",
        instruction="Non scendere nei sottopassi.",
        expires=NOW + timedelta(hours=8),
        colour=colour,
        risk=risk if colour else None,
        areas=("calcinaia.fornacette",),
    )


@pytest.mark.parametrize(("kind", "colour"), LANES)
def test_every_kind_and_colour_takes_the_lane_of_the_design(kind: Kind, colour: Colour | None) -> None:
    assert lane_of(compose(said(kind, colour), CALCINAIA, NOW)) is LANES[kind, colour]


def test_the_table_of_lanes_forgets_no_kind_and_no_colour() -> None:
    assert {kind for kind, _ in LANES} == set(Kind) == DEFAULTS.keys()
    assert {colour for _, colour in LANES if colour} == set(Colour) == SEVERITY_OF.keys()


@pytest.mark.parametrize(("colour", "risk"), [(c, r) for c in Colour for r in Risk])
def test_every_risk_has_every_colour_but_thunderstorms_are_never_red(colour: Colour, risk: Risk) -> None:
    wording = said(Kind.ALLERTA_METEO, colour, risk)
    if (colour, risk) == (Colour.ROSSA, Risk.TEMPORALI):
        with pytest.raises(Refused, match="rossa does not exist for temporali: arancione is the highest"):
            compose(wording, CALCINAIA, NOW)
        return
    info = compose(wording, CALCINAIA, NOW).first
    assert (info.parameter("it.colore"), info.parameter("it.rischio")) == (colour.value, risk.value)
    assert info.event == f"allerta meteo {colour.value}"
    assert risk.in_words


def test_colours_mean_what_the_dipartimento_publishes() -> None:
    assert [SEVERITY_OF[colour] for colour in Colour] == [Severity.MODERATE, Severity.SEVERE, Severity.EXTREME]
    assert [needs_instruction(SEVERITY_OF[colour]) for colour in Colour] == [False, True, True]


@pytest.mark.parametrize("kind", Kind)
def test_the_kind_stays_in_the_alert_as_data(kind: Kind) -> None:
    colour = Colour.GIALLA if kind is Kind.ALLERTA_METEO else None
    info = compose(said(kind, colour), CALCINAIA, NOW).first
    meant = DEFAULTS[kind]
    assert info.parameter("it.tipo") == kind.value
    assert (info.category, info.urgency, info.certainty) == ((meant.category,), meant.urgency, meant.certainty)
    assert info.response_type == (meant.response,)
    assert colour or (info.severity is meant.severity and info.parameter("it.colore") is None)
