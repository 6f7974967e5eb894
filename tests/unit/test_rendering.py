"""The words on a telephone: five contents, in order, on the clocks of Rome."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.domain.cap import Alert, Area, Category, Certainty, Info, MsgType, Severity, Status, Urgency
from alerting.domain.delivery import Channel
from alerting.domain.rendering import EXERCISE, MOST_CHARACTERS, TEMPLATE, UPDATE, fits, in_words, render

NOW = datetime(2026, 11, 21, 12, 30, tzinfo=UTC)
PIENA = Info(
    category=(Category.MET,),
    event="allerta meteo arancione",
    urgency=Urgency.EXPECTED,
    severity=Severity.SEVERE,
    certainty=Certainty.LIKELY,
    onset=NOW + timedelta(minutes=30),
    expires=NOW + timedelta(hours=10),
    headline="allerta ARANCIONE per piena di fiumi e canali",
    description="L'Arno può allagare le strade più basse.",
    instruction="Non scendere in cantine e sottopassi.",
    sender_name="Comune di Calcinaia",
    contact="0587 265442",
    web="https://www.comune.calcinaia.pi.it/allerta",
    areas=(Area("Fornacette"), Area("Sardina")),
)


def saying(info: Info, status: Status = Status.ACTUAL, msg_type: MsgType = MsgType.ALERT) -> Alert:
    return Alert("calcinaia-1", "protezionecivile@comune.calcinaia.pi.it", NOW, status, msg_type, (info,))


def test_a_text_says_who_and_what_then_where_then_when_then_what_it_means_then_what_to_do() -> None:
    assert render(saying(PIENA)).body == (
        "Comune di Calcinaia: allerta ARANCIONE per piena di fiumi e canali\n"
        "Dove: Fornacette, Sardina\n"
        "Quando: dalle 14:00 di sabato 21 novembre alle 23:30 di sabato 21 novembre.\n"
        "L'Arno può allagare le strade più basse.\n"
        "Cosa fare: Non scendere in cantine e sottopassi. Per informazioni: 0587 265442. "
        "https://www.comune.calcinaia.pi.it/allerta"
    )


def test_without_an_onset_it_is_from_the_sending_and_without_an_instruction_nothing_is_to_be_done() -> None:
    body = render(saying(replace(PIENA, onset=None, instruction="", contact="", web=""))).body
    assert "Quando: dalle 13:30 di sabato 21 novembre alle 23:30 di sabato 21 novembre." in body
    assert body.endswith("Cosa fare: non serve fare nulla.")


@pytest.mark.parametrize(
    ("instruction", "read"),
    [
        ("Evacuare.", "Evacuare. Per"),
        ("Evacuare", "Evacuare. Per"),
        ("Evacuare subito!", "Evacuare subito! Per"),
        ("Evacuare \n", "Evacuare. Per"),
    ],
)
def test_what_to_do_does_not_run_into_the_telephone_number(instruction: str, read: str) -> None:
    assert (
        f"Cosa fare: {read} informazioni: 0587 265442." in render(saying(replace(PIENA, instruction=instruction))).body
    )


@pytest.mark.parametrize(
    ("moment", "read"),
    [
        # Summer time ended at 03:00 on 25 October 2026, and begins at 02:00 on 29 March.
        (datetime(2026, 10, 24, 23, 59, tzinfo=UTC), "01:59 di domenica 25 ottobre"),
        (datetime(2026, 10, 25, 0, 30, tzinfo=UTC), "02:30 di domenica 25 ottobre"),
        (datetime(2026, 10, 25, 1, 30, tzinfo=UTC), "02:30 di domenica 25 ottobre"),
        (datetime(2026, 10, 25, 2, 0, tzinfo=UTC), "03:00 di domenica 25 ottobre"),
        (datetime(2026, 3, 29, 0, 59, tzinfo=UTC), "01:59 di domenica 29 marzo"),
        (datetime(2026, 3, 29, 1, 0, tzinfo=UTC), "03:00 di domenica 29 marzo"),
        (datetime(2026, 12, 31, 23, 0, tzinfo=UTC), "00:00 di venerdì 1 gennaio"),
    ],
)
def test_times_are_those_on_the_clocks_of_rome(moment: datetime, read: str) -> None:
    assert in_words(moment) == read


def test_an_alert_over_the_change_of_the_clocks_tells_both_times_as_people_will_read_them() -> None:
    night = replace(
        PIENA, onset=datetime(2026, 10, 24, 20, 0, tzinfo=UTC), expires=datetime(2026, 10, 25, 6, 0, tzinfo=UTC)
    )
    assert "Quando: dalle 22:00 di sabato 24 ottobre alle 07:00 di domenica 25 ottobre." in render(saying(night)).body


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.ACTUAL])
@pytest.mark.parametrize("msg_type", [MsgType.ALERT, MsgType.UPDATE, MsgType.CANCEL])
def test_what_is_not_real_says_so_in_its_first_and_in_its_last_word(status: Status, msg_type: MsgType) -> None:
    words = render(saying(PIENA, status, msg_type)).body.split()
    assert words[0] == words[-1] == EXERCISE


def test_what_is_real_never_says_that_it_is_an_exercise() -> None:
    assert EXERCISE not in render(saying(PIENA)).body


def test_a_cancel_says_since_when_and_promises_no_end() -> None:
    body = render(saying(PIENA, msg_type=MsgType.CANCEL)).body
    assert "Quando: annullato alle 13:30 di sabato 21 novembre." in body
    assert "23:30" not in body


@pytest.mark.parametrize("headline", ["la piena sale ancora", "Aggiornamento: la piena sale ancora"])
def test_an_update_says_so_in_its_first_words_and_only_once(headline: str) -> None:
    first = render(saying(replace(PIENA, headline=headline), msg_type=MsgType.UPDATE)).variables[0]
    assert first.upper() == "COMUNE DI CALCINAIA: AGGIORNAMENTO: LA PIENA SALE ANCORA"
    exercise = render(saying(PIENA, Status.EXERCISE, MsgType.UPDATE)).variables[0]
    assert exercise.startswith("ESERCITAZIONE - Comune di Calcinaia: AGGIORNAMENTO: ")
    assert UPDATE not in render(saying(PIENA)).body


texts = st.text(max_size=80)


@given(texts, texts, texts, texts)
def test_no_variable_breaks_a_line_or_is_empty_or_holds_runs_of_spaces(
    headline: str, where: str, description: str, instruction: str
) -> None:
    info = replace(PIENA, headline=headline, description=description, instruction=instruction, areas=(Area(where),))
    rendering = render(saying(info))
    assert len(rendering.variables) == 5
    for variable in rendering.variables:
        assert variable
        assert variable.splitlines() == [variable]
        assert "\t" not in variable
        assert "  " not in variable
    assert rendering.body == TEMPLATE.format(*rendering.variables)
    assert rendering.body.count("\n") == 4


def test_braces_in_an_operators_words_are_only_words() -> None:
    assert "{0} {leave}" in render(saying(replace(PIENA, description="{0} {leave}"))).body


@pytest.mark.parametrize("channel", Channel)
def test_a_text_fits_up_to_the_last_character_the_provider_takes(channel: Channel) -> None:
    room = MOST_CHARACTERS[channel] - render(saying(replace(PIENA, description=""))).characters + len("-")
    just_right = render(saying(replace(PIENA, description="è" * room)))
    assert just_right.characters == MOST_CHARACTERS[channel]
    assert fits(just_right, channel)
    assert not fits(render(saying(replace(PIENA, description="è" * (room + 1)))), channel)


def test_an_emoji_counts_twice_as_providers_count() -> None:
    plain, wave = (render(saying(replace(PIENA, description=said))) for said in ("x", "🌊"))
    assert wave.characters == plain.characters + 1
