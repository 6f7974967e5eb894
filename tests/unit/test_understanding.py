"""What others say, in our words: a kind, and for the weather its colour and its risk."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.domain.cap import Category, Certainty, Info, NamedValue, ResponseType, Severity, Urgency
from alerting.domain.kinds import WITHOUT_RED, Colour, Kind, Risk
from alerting.domain.understanding import is_over, meaning_of


def info(
    event: str,
    *category: Category,
    severity: Severity = Severity.SEVERE,
    headline: str = "",
    response: Iterable[ResponseType] = (),
    **parameters: str,
) -> Info:
    return Info(
        category=category or (Category.MET,),
        event=event,
        urgency=Urgency.EXPECTED,
        severity=severity,
        certainty=Certainty.LIKELY,
        expires=None,
        headline=headline,
        description="",
        response_type=tuple(response),
        parameters=tuple(NamedValue(name.replace("__", "."), value) for name, value in parameters.items()),
    )


@pytest.mark.parametrize(
    ("event", "risk"),
    [
        ("Allerta arancione per rischio idraulico", Risk.IDRAULICO),
        ("Rischio idrogeologico-idraulico reticolo minore", Risk.IDROGEOLOGICO),
        ("Rischio idraulico reticolo principale", Risk.IDRAULICO),
        ("Temporali forti", Risk.TEMPORALI),
        ("Orange thunderstorm warning", Risk.TEMPORALI),
        ("Vento forte", Risk.VENTO),
        ("Neve fino in pianura", Risk.NEVE),
        ("Formazione di ghiaccio", Risk.GHIACCIO),
        ("Mareggiate", Risk.MAREGGIATE),
        ("Piena dell'Arno", Risk.IDRAULICO),
    ],
)
def test_a_risk_is_told_by_its_words(event: str, risk: Risk) -> None:
    assert meaning_of(info(event)).risk is risk


@pytest.mark.parametrize(
    ("event", "severity", "colour"),
    [
        ("Allerta arancione vento", Severity.SEVERE, Colour.ARANCIONE),
        ("Allerta ROSSA vento", Severity.MODERATE, Colour.ROSSA),
        ("Codice giallo vento", Severity.EXTREME, Colour.ROSSA),
        ("Vento", Severity.MODERATE, Colour.GIALLA),
        ("MODERATA CRITICITA' PER RISCHIO IDRAULICO / ALLERTA ARANCIONE:", Severity.UNKNOWN, Colour.ARANCIONE),
    ],
)
def test_of_the_colour_that_is_said_and_the_severity_the_graver_counts(
    event: str, severity: Severity, colour: Colour
) -> None:
    assert meaning_of(info(event, severity=severity)).colour is colour


def test_moderate_criticality_is_no_moderate_severity() -> None:
    assert meaning_of(info("Criticità moderata, vento", severity=Severity.SEVERE)).colour is Colour.ARANCIONE


def test_a_colour_that_only_names_a_thing_is_none() -> None:
    assert meaning_of(info("Vento sulla Croce Rossa", severity=Severity.MODERATE)).colour is Colour.GIALLA


def test_parameters_count_before_words() -> None:
    said = info("Vento", it__rischio="neve", it__colore="rossa", severity=Severity.MODERATE)
    assert meaning_of(said) == meaning_of(info("Allerta rossa neve", severity=Severity.EXTREME))


@pytest.mark.parametrize(
    ("level", "kind", "colour", "risk"),
    [
        ("2; yellow; Moderate", "1; Wind", Colour.GIALLA, Risk.VENTO),
        ("3; Orange; Severe", "3; thunderstorm", Colour.ARANCIONE, Risk.TEMPORALI),
        ("4; red; Extreme", "10; Rain", Colour.ROSSA, Risk.IDROGEOLOGICO),
        (" 4;red", "12 ; flooding", Colour.ROSSA, Risk.IDRAULICO),
    ],
)
def test_meteoalarms_numbers_are_understood(level: str, kind: str, colour: Colour, risk: Risk) -> None:
    meaning = meaning_of(info("Warning", severity=Severity.UNKNOWN, awareness_level=level, awareness_type=kind))
    assert (meaning.colour, meaning.risk) == (colour, risk)


def test_thunderstorms_have_no_red() -> None:
    meaning = meaning_of(info("Allerta rossa temporali", severity=Severity.EXTREME))
    assert (meaning.colour, meaning.risk) == (Colour.ARANCIONE, Risk.TEMPORALI)


@pytest.mark.parametrize(
    ("event", "category", "kind"),
    [
        ("Incendio boschivo", Category.FIRE, Kind.INCENDIO),
        ("Evento", Category.FIRE, Kind.INCENDIO),
        ("Scossa di terremoto", Category.GEO, Kind.TERREMOTO),
        ("Ponte chiuso al traffico", Category.TRANSPORT, Kind.CHIUSURA_STRADA),
        ("Manca l'acqua", Category.INFRA, Kind.INTERRUZIONE_IDRICA),
        ("Blackout", Category.INFRA, Kind.INTERRUZIONE_ELETTRICA),
        ("Persona scomparsa", Category.RESCUE, Kind.PERSONA_DISPERSA),
        ("Nube tossica", Category.CBRNE, Kind.ALTRA_EMERGENZA),
    ],
)
def test_what_is_no_weather_has_a_kind(event: str, category: Category, kind: Kind) -> None:
    meaning = meaning_of(info(event, category))
    assert (meaning.kind, meaning.colour, meaning.risk) == (kind, None, None)


def test_who_must_leave_is_evacuated_whatever_the_event_is_called() -> None:
    said = info("Incendio", Category.FIRE, response=[ResponseType.EVACUATE])
    assert meaning_of(said).kind is Kind.EVACUAZIONE


# ── that nothing is the matter ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "said",
    [
        info("Cessata allerta arancione", response=[ResponseType.ALL_CLEAR]),
        info("Vento", severity=Severity.MINOR, awareness_level="1; green; Minor"),
        info("Allerta verde", severity=Severity.MINOR),
        info("Bollettino", severity=Severity.UNKNOWN, headline="Nessuna allerta per domani"),
        info("Vento", severity=Severity.MINOR, it__colore="Verde"),
    ],
)
def test_an_all_clear_and_green_start_nothing(said: Info) -> None:
    assert is_over(said)


@pytest.mark.parametrize(
    "said",
    [
        info("Da nessuna allerta ad allerta rossa", severity=Severity.EXTREME),
        info("Vento", severity=Severity.SEVERE, awareness_level="1; green; Minor"),
        info("Incendio nel verde pubblico", Category.FIRE, severity=Severity.MINOR),
        info("Vento", severity=Severity.MINOR),
    ],
)
def test_what_is_grave_is_not_made_green_by_a_word(said: Info) -> None:
    assert not is_over(said)


@given(st.text(max_size=80), st.sampled_from(Severity), st.sampled_from(Category))
def test_whatever_is_written_has_a_meaning(words: str, severity: Severity, category: Category) -> None:
    meaning = meaning_of(info(words, category, severity=severity, awareness_level=words, it__rischio=words))
    assert (meaning.kind is Kind.ALLERTA_METEO) is (meaning.colour is not None) is (meaning.risk is not None)
    assert not (meaning.risk in WITHOUT_RED and meaning.colour is Colour.ROSSA)
    assert meaning.hazard.startswith(str(meaning.kind))
