"""What the linter says, and what it must not say: a warning that cries wolf is not read."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.api.schemas import DraftIn
from alerting.authorities import load
from alerting.composing import Wording, compose, retraction
from alerting.domain import outlook_words
from alerting.domain.cap import Alert, Area, MsgType, ResponseType, Severity, Status
from alerting.domain.findings import Weight
from alerting.domain.kinds import DEFAULTS, SEVERITY_OF, WITHOUT_RED, Colour, Kind, Risk
from alerting.domain.rendering import ACTIONS, FOLLOW_AUTHORITIES, NOTHING_TO_DO
from alerting.domain.text_rules import RULES, lint
from alerting.domain.translations import Translation, translated
from alerting.intake import relaying
from consumers.local.demo import EVENT, STORM
from tests.unit.test_rendering import NOW, PIENA, alerts, saying

CALCINAIA = load()["calcinaia"]


def rules(alert: Alert, now: datetime = NOW) -> set[str]:
    return {finding.rule for finding in lint(alert, now)}


def said(status: Status = Status.ACTUAL, msg_type: MsgType = MsgType.ALERT, **words: Any) -> Alert:
    """A flood alert that is right, but for these words."""
    return saying(replace(PIENA, **words), status, msg_type)


def composed(words: dict[str, Any]) -> Alert:
    """What the API makes of a draft."""
    draft = DraftIn.model_validate(words | {"expires": (NOW + timedelta(hours=6)).isoformat()})
    wording = Wording(
        kind=draft.kind,
        headline=draft.headline,
        description=draft.description,
        expires=draft.expires,
        instruction=draft.instruction,
        colour=draft.colour,
        risk=draft.risk,
        areas=tuple(f"calcinaia.{code}" if code != "calcinaia" else code for code in draft.areas),
    )
    return compose(wording, CALCINAIA, NOW)


# ── what ships says nothing wrong ───────────────────────────────────────────────────────────────────

EXAMPLE = DraftIn.model_config["json_schema_extra"]["examples"][0]  # type: ignore[index]


@pytest.mark.parametrize("words", [EVENT, STORM, EXAMPLE], ids=["event", "storm", "example"])
def test_what_the_demo_and_the_documentation_say_is_without_fault(words: dict[str, Any]) -> None:
    assert lint(composed(words), NOW) == ()


@pytest.mark.parametrize("words", [EVENT, STORM, EXAMPLE], ids=["event", "storm", "example"])
def test_the_prepared_retraction_is_without_fault(words: dict[str, Any]) -> None:
    taken_back = retraction(composed(words), CALCINAIA, "Era una prova interna partita per errore.", NOW)
    assert lint(taken_back, NOW) == ()


@pytest.mark.parametrize("risk", Risk)
@pytest.mark.parametrize("colour", Colour)
def test_the_words_for_each_risk_and_colour_are_without_fault(risk: Risk, colour: Colour) -> None:
    if colour is Colour.ROSSA and risk in WITHOUT_RED:
        colour = Colour.ARANCIONE
    alert = said(
        headline=f"Allerta meteo {colour.value} per {risk.in_words}",
        description=f"Sono possibili {risk.in_words}.",
        severity=SEVERITY_OF[colour],
    )
    assert lint(alert, NOW) == ()


@pytest.mark.parametrize("kind", Kind)
def test_each_kind_as_a_careful_officer_would_word_it_is_without_fault(kind: Kind) -> None:
    meant = DEFAULTS[kind]
    alert = said(
        headline=f"{meant.event.capitalize()} a Fornacette",
        description="In via della Botte dalle 9 alle 12 si lavora in strada.",
        severity=meant.severity,
        response_type=(meant.response,),
        instruction="" if meant.response is ResponseType.NONE else "Passare da via Giovanni XXIII.",
    )
    assert lint(alert, NOW) == ()


@pytest.mark.parametrize("key", outlook_words.TO_DO, ids=str)
def test_what_the_bulletins_are_told_in_is_without_fault(key: tuple[Risk, Colour]) -> None:
    effects, to_do = outlook_words.EFFECTS[key], outlook_words.TO_DO[key]
    assert lint(said(description=effects, instruction=to_do, severity=SEVERITY_OF[key[1]]), NOW) == ()


@pytest.mark.parametrize("to_do", [*relaying.TO_DO.values(), relaying.OTHERWISE])
def test_what_is_said_for_a_source_that_gives_no_instruction_is_without_fault(to_do: str) -> None:
    assert lint(said(instruction=to_do), NOW) == ()


@pytest.mark.parametrize("to_do", [*ACTIONS.values(), FOLLOW_AUTHORITIES, NOTHING_TO_DO])
def test_what_we_say_ourselves_to_do_names_an_action(to_do: str) -> None:
    assert lint(said(instruction=to_do), NOW) == ()


# ── each rule, and what it must let pass ────────────────────────────────────────────────────────────

FAULTS = [
    ("action-missing", said(instruction="")),
    ("action-missing", said(instruction=" \n", severity=Severity.EXTREME)),
    ("action-unsaid", said(instruction="", severity=Severity.MODERATE)),
    ("action-vague", said(instruction="Massima prudenza.")),
    ("action-vague", said(instruction="Attenzione al mare e agli altri quartieri.")),
    ("time-unclear", said(description="L'Arno può allagare le strade stasera.")),
    ("time-unclear", said(description="Nelle prossime ore l'Arno sale.")),
    ("time-unclear", said(headline="Domani allerta arancione")),
    ("end-unsaid", said(expires=None)),
    ("expired", said(expires=NOW)),
    ("ends-late", said(expires=NOW + timedelta(days=6))),
    ("sender-missing", said(sender_name=" ")),
    ("place-missing", said(areas=())),
    ("place-missing", said(areas=(Area(" "),))),
    ("place-vague", said(areas=(Area("Italia"),))),
    ("place-vague", said(areas=(Area("Fornacette"), Area("Territorio nazionale")))),
    ("effects-missing", said(description="")),
    ("effects-missing", said(description="Allerta arancione per piena di fiumi e canali!")),
    ("no-words", said(instruction="🏠⬆️")),
    ("no-words", said(headline="⚠️ ⬆️ …")),
    ("jargon", said(description="Possibili esondazioni del reticolo idraulico minore.")),
    ("jargon", said(headline="Criticità ordinaria per l'Arno")),
    ("jargon", said(instruction="Chiama il C.O.C. se vedi acqua.")),
    ("jargon", said(description="Precipitazioni forti, con effetti al suolo.")),
    ("all-capitals", said(headline="ALLERTA METEO ARANCIONE")),
    ("all-capitals", said(description="Attenzione: L'ARNO PUÒ ALLAGARE LE STRADE PIÙ BASSE stanotte 21 novembre.")),
    ("exclamation", said(instruction="Evacuare! Subito!")),
    ("too-long", said(description="L'Arno sale e può allagare le strade. " * 40)),
    ("headline-long", said(headline="allerta arancione " * 10)),
    ("sms-long", said(description="L'Arno può allagare le strade basse. " * 15)),
    ("sms-letters", said(headline="Piena", description="L'Арно può allagare.", web="", contact="")),
    ("like-it-alert", said(headline="IT-alert: piena dell'Arno")),
    ("like-it-alert", said(description="It Alert avvisa che l'Arno sale.")),
    ("like-it-alert", said(Status.TEST, headline="TEST TEST piena dell'Arno")),
    ("like-it-alert", said(description="Questo è un messaggio di allarme pubblico.")),
    ("like-it-alert", said(sender_name="IT-alert")),
    ("exercise-by-hand", said(headline="ESERCITAZIONE piena dell'Arno")),
    ("exercise-by-hand", said(description="Questa è una simulazione di piena.")),
    ("real-in-exercise", said(Status.EXERCISE, description="Non è un'esercitazione: l'Arno sale.")),
    ("real-in-exercise", said(Status.EXERCISE, description="THIS IS NOT A DRILL, take shelter.")),
    ("link-hidden", said(instruction="Leggere https://bit.ly/3xYz prima di uscire.", web="")),
    ("link-hidden", said(web="https://tinyurl.com/arno")),
    ("links-many", said(instruction="Leggere www.arno.example/piena e https://comune.example prima di uscire.")),
    ("phone-unknown", said(instruction="Chiamare il 333 1234567 prima di uscire.")),
    ("phone-unknown", said(instruction="Chiamare lo 050/123456 prima di uscire.")),
    ("markup", said(description="L'Arno <b>sale</b> e allaga le strade.")),
    ("markup", said(description="L'Arno sale &amp; allaga le strade.")),
    ("markup", said(description="L'Arno **sale** e allaga le strade.")),
    ("unfilled", said(description="L'Arno sale in {luogo} e allaga le strade.")),
    ("unfilled", said(description="L'Arno sale dalle xx:xx e allaga le strade.")),
    ("unfilled", said(description="L'Arno sale in [inserire via] e allaga le strade.")),
    ("invisible", said(description="L'Arno sale\u202e e allaga le strade.")),
]


@pytest.mark.parametrize(("rule", "alert"), FAULTS)
def test_a_fault_is_found_by_its_rule_and_by_no_other(rule: str, alert: Alert) -> None:
    found = lint(alert, NOW)
    assert {finding.rule for finding in found} == {rule} | (
        # These cannot be alone: what is too long for WhatsApp is too long for an SMS.
        {"sms-long"} if rule == "too-long" else set()
    )
    for finding in found:
        assert finding.weight is RULES[finding.rule][0]
        assert finding.line is None
        assert finding.text.endswith(".") and 30 <= len(finding.text) <= 200


def test_every_rule_has_a_fault_that_shows_it() -> None:
    assert {rule for rule, _ in FAULTS} | {"translation-halved"} == set(RULES)


@pytest.mark.parametrize(
    "alert",
    [
        said(headline="Riapre via XX Settembre", description="Il traffico torna normale dalle 18 del 21 novembre."),
        said(description="Entro domani 22 novembre l'Arno può salire ancora."),
        said(description="Dal 05.11.2026 al 21/11/2026 l'Arno è salito di 3 metri su 100."),
        said(instruction="Chiama il 112 o lo 0587 265442 se vedi acqua in casa."),
        said(instruction="Segnala i guasti al numero verde 800 983389."),
        said(instruction="È vietato l'accesso agli argini."),
        said(instruction="Restate in casa."),
        said(instruction="Bolli l'acqua prima dell'uso."),
        said(instruction="Evacuare subito!"),
        said(headline="ALLERTA ROSSA per l'Arno"),
        said(description="Al CUP della ASL di Pisa arriva acqua sulle strade."),
        said(Status.EXERCISE, headline="Esercitazione di piena"),
        said(
            headline="Sabato esercitazione di protezione civile",
            severity=Severity.MINOR,
            response_type=(ResponseType.NONE,),
            instruction="",
        ),
        said(instruction="", response_type=(ResponseType.ALL_CLEAR,)),
        said(instruction="", msg_type=MsgType.CANCEL),
        said(description="L'Arno è sotto i 3 m: acqua < 1 m nei campi > strada."),
        said(instruction="Preparatevi a lasciare casa e tenetevi informati."),
        said(instruction="Non serve fare nulla."),
        said(instruction="L'acqua va bollita: è necessario farla bollire 10 minuti."),
    ],
)
def test_what_is_well_said_is_left_alone(alert: Alert) -> None:
    assert lint(alert, NOW) == ()


def test_other_languages_are_not_measured_by_italian_words() -> None:
    english = translated(PIENA, Translation("en-GB", "Flood tonight", "Domani the river rises.", "Higher ground now."))
    assert rules(replace(saying(PIENA), infos=(english,))) == set()


def test_a_translation_that_does_not_say_what_to_do_is_half_a_translation() -> None:
    english = translated(PIENA, Translation("en-GB", "Flood of the Arno", "The river rises."))
    found = lint(replace(saying(PIENA), infos=(PIENA, english)), NOW)
    assert [(finding.rule, finding.text) for finding in found] == [
        ("translation-halved", "La traduzione «en-GB» non dice che cosa fare.")
    ]


def test_the_gravest_is_said_first() -> None:
    found = lint(said(headline="ALLERTA METEO ARANCIONE", instruction="", description="Арно: domani."), NOW)
    weights = [finding.weight for finding in found]
    assert weights == sorted(weights, key=[Weight.ERROR, Weight.WARNING, Weight.NOTE].index)
    assert set(weights) == set(Weight)


def test_jargon_is_named_with_what_people_say() -> None:
    (finding,) = lint(said(description="Possibili allagamenti dal reticolo minore."), NOW)
    assert finding.text == "«reticolo minore» è linguaggio d'ufficio: scrivere «fossi e torrenti»."


def test_without_a_moment_it_judges_as_of_the_sending() -> None:
    alert = said(expires=NOW + timedelta(minutes=1))
    assert lint(alert) == ()
    assert {finding.rule for finding in lint(alert, NOW + timedelta(hours=1))} == {"expired"}


@given(alerts)
def test_whatever_is_written_is_judged_and_the_sentences_are_short(alert: Alert) -> None:
    for finding in lint(alert, datetime(2026, 1, 1, tzinfo=UTC)):
        assert finding.rule in RULES
        assert 30 <= len(finding.text) <= 260


@given(st.sampled_from(["A B ", "AB, ", "0 ", "05 1", "{", "[ora", "www.", "**a", "<b", "&amp", "x:x", "COC "]))
def test_a_text_made_to_take_for_ever_takes_no_time(unit: str) -> None:
    alert = said(description=(unit * 10_000)[:10_000])
    started = datetime.now(UTC)
    lint(alert, NOW)
    assert datetime.now(UTC) - started < timedelta(seconds=2)
