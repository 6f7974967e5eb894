"""The words on a telephone: five contents, in order, on the clocks of Rome."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.domain.cap import (
    Alert,
    Area,
    Category,
    Certainty,
    Info,
    MsgType,
    ResponseType,
    Severity,
    Status,
    Urgency,
)
from alerting.domain.delivery import Channel
from alerting.domain.gsm import ALPHABET, Encoding
from alerting.domain.plain_text import one_line
from alerting.domain.rendering import (
    EXERCISE,
    FORM_OF,
    LONGEST_SUBJECT,
    MOST,
    MOST_CHARACTERS,
    TEMPLATE,
    UPDATE,
    Form,
    fits,
    in_words,
    most_of,
    render,
    whole,
)
from alerting.domain.translations import Translation, translated

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
TEXTS = [form for form in Form if form is not Form.PANEL]
"""What a person reads; test_panels.py has what stands on a post."""


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


def test_without_an_onset_it_is_from_the_sending() -> None:
    body = render(saying(replace(PIENA, onset=None))).body
    assert "Quando: dalle 13:30 di sabato 21 novembre alle 23:30 di sabato 21 novembre." in body


@pytest.mark.parametrize(
    ("severity", "responses", "read"),
    [
        (Severity.MINOR, (), "non serve fare nulla."),
        (Severity.MINOR, (ResponseType.NONE,), "non serve fare nulla."),
        (Severity.EXTREME, (), "tieniti informato e segui le indicazioni delle autorità."),
        (Severity.EXTREME, (ResponseType.ASSESS, ResponseType.EVACUATE), "lascia la zona e segui le indicazioni"),
        (Severity.MODERATE, (ResponseType.AVOID,), "evita la zona."),
        (Severity.EXTREME, (ResponseType.ALL_CLEAR,), "non serve fare nulla."),
    ],
)
def test_without_an_instruction_the_response_type_says_what_to_do_and_a_grave_alert_never_says_nothing(
    severity: Severity, responses: tuple[ResponseType, ...], read: str
) -> None:
    quiet = replace(PIENA, severity=severity, response_type=responses, instruction="", contact="", web="")
    assert f"\nCosa fare: {read}" in render(saying(quiet)).body


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
        assert variable == one_line(variable)
        assert variable
        assert variable.splitlines() == [variable]
        assert "\t" not in variable
        assert "  " not in variable
    assert rendering.body == TEMPLATE.format(*rendering.variables)
    assert rendering.body.count("\n") == 4


def test_braces_in_an_operators_words_are_only_words() -> None:
    assert "{0} {leave}" in render(saying(replace(PIENA, description="{0} {leave}"))).body


@pytest.mark.parametrize("channel", [channel for channel in Channel if FORM_OF[channel] in TEXTS])
def test_a_text_fits_up_to_the_last_character_the_provider_takes(channel: Channel) -> None:
    form = FORM_OF[channel]
    room = MOST_CHARACTERS[channel] - whole(saying(replace(PIENA, description="è")), form).characters + len("è")
    just_right, too_long = (saying(replace(PIENA, description="è" * length)) for length in (room, room + 1))
    assert whole(just_right, form).characters == MOST_CHARACTERS[channel]
    assert fits(whole(just_right, form), channel)
    assert not fits(whole(too_long, form), channel)
    assert fits(render(too_long, form), channel)
    assert render(just_right, form).body == whole(just_right, form).body
    assert render(too_long, form).shortened and not render(just_right, form).shortened


def test_an_emoji_counts_twice_as_providers_count() -> None:
    plain, wave = (render(saying(replace(PIENA, description=said))) for said in ("x", "🌊"))
    assert wave.characters == plain.characters + 1


# ── updates and ends ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("headline", "read"),
    [
        ("Fine dell'allerta meteo arancione", "Comune di Calcinaia: Fine dell'allerta meteo arancione"),
        ("Cessato allarme per l'Arno", "Comune di Calcinaia: Cessato allarme per l'Arno"),
        ("L'Arno è rientrato", "Comune di Calcinaia: FINE ALLERTA: L'Arno è rientrato"),
    ],
)
def test_an_end_is_called_an_end_and_not_an_update(headline: str, read: str) -> None:
    over = replace(PIENA, headline=headline, response_type=(ResponseType.ALL_CLEAR,))
    assert render(saying(over, msg_type=MsgType.UPDATE)).variables[0] == read


# ── several infos ───────────────────────────────────────────────────────────────────────────────────

ENGLISH = translated(PIENA, Translation("en-GB", "Orange flood alert for the Arno", "", "Stay out of cellars."))
UKRAINIAN = translated(PIENA, Translation("uk", "Паводок на Арно", "", "Не спускайтесь у підвали."))


def in_languages(*infos: Info, status: Status = Status.ACTUAL) -> Alert:
    return replace(saying(PIENA, status), infos=infos)


@pytest.mark.parametrize("form", TEXTS)
def test_italian_is_whole_and_first_wherever_it_stands_and_english_follows_with_headline_and_instruction(
    form: Form,
) -> None:
    rendered = render(in_languages(ENGLISH, PIENA), form)
    body = f"{rendered.subject}\n{rendered.body}" if form is Form.PUSH else rendered.body
    assert body.startswith(f"Comune di Calcinaia: {PIENA.headline}")
    assert PIENA.description in body
    assert body.endswith("English: Orange flood alert for the Arno. Stay out of cellars.")


def test_a_push_has_in_its_title_who_speaks_and_what_happens_and_does_not_repeat_it() -> None:
    push = render(saying(PIENA), Form.PUSH)
    assert push.subject == f"Comune di Calcinaia: {PIENA.headline}"
    assert push.body.startswith("Dove: ") and PIENA.headline not in push.body and PIENA.instruction[:-1] in push.body
    long = render(saying(replace(PIENA, description="L'Arno sale. " * 200)), Form.PUSH)
    assert long.shortened and long.characters <= 1000 and PIENA.instruction[:-1] in long.body


def test_an_alert_without_italian_speaks_its_first_language_and_keeps_the_others() -> None:
    body = render(in_languages(UKRAINIAN, ENGLISH)).body
    assert body.startswith("Comune di Calcinaia: Паводок на Арно\n")
    assert "English: Orange flood alert" in body
    assert "Українська" not in body


@pytest.mark.parametrize("form", TEXTS)
def test_in_an_exercise_each_language_is_told_so(form: Form) -> None:
    words = render(in_languages(PIENA, ENGLISH, status=Status.EXERCISE), form).body
    assert "English: EXERCISE - Orange flood alert" in words
    assert words.split()[0] == words.split()[-1] == EXERCISE


def test_a_translation_in_another_script_never_makes_the_italian_sms_dearer() -> None:
    sms = render(in_languages(PIENA, UKRAINIAN, ENGLISH), Form.SMS)
    assert sms.size is not None and sms.size.encoding is Encoding.GSM_7
    assert "Арно" not in sms.body and "English: Orange flood" in sms.body


def test_translations_give_way_before_any_italian_word_does_the_last_first() -> None:
    room = MOST[Form.TEMPLATE] - render(saying(PIENA)).characters
    long = replace(PIENA, description=PIENA.description + "è" * (room - len(" English: Orange flood alert.") - 60))
    rendered = render(in_languages(long, ENGLISH, UKRAINIAN))
    assert "English: " in rendered.body and "Українська" not in rendered.body
    assert rendered.body.startswith(render(saying(long)).body)
    assert not rendered.shortened


def test_infos_that_differ_by_their_place_alone_are_one_text_with_all_places() -> None:
    apart = replace(PIENA, areas=(Area("Montecchio"), Area("Fornacette")))
    assert render(in_languages(PIENA, apart)).variables[1] == "Fornacette, Sardina, Montecchio"
    assert render(in_languages(PIENA, apart)).variables[2:] == render(saying(PIENA)).variables[2:]


def test_further_infos_of_a_language_add_what_differs() -> None:
    tomorrow = replace(
        PIENA,
        headline="allerta ROSSA domenica",
        onset=NOW + timedelta(hours=10),
        expires=NOW + timedelta(hours=34),
        areas=(Area("Calcinaia"),),
        instruction="Lasciare i piani bassi.",
    )
    variables = render(in_languages(PIENA, tomorrow)).variables
    assert variables[1:3] == render(saying(PIENA)).variables[1:3]
    assert variables[3] == (
        "L'Arno può allagare le strade più basse. allerta ROSSA domenica. Dove: Calcinaia. "
        "Quando: dalle 23:30 di sabato 21 novembre alle 23:30 di domenica 22 novembre."
    )
    assert variables[4].startswith("Non scendere in cantine e sottopassi. Lasciare i piani bassi. Per informazioni")
    assert f"\n{variables[3].removeprefix(PIENA.description + ' ')}\n" in (
        render(in_languages(PIENA, tomorrow), Form.CHAT).body
    )


# ── the other forms ─────────────────────────────────────────────────────────────────────────────────


def test_an_sms_says_the_same_in_fewer_letters() -> None:
    sms = render(saying(replace(PIENA, headline="È piena dell’Arno – livello in salita 🌊")), Form.SMS)
    assert sms.body == (
        "Comune di Calcinaia: E' piena dell'Arno - livello in salita. Dove: Fornacette, Sardina. "
        "Quando: dalle 14:00 di sab 21/11 alle 23:30. L'Arno può allagare le strade più basse. "
        "Cosa fare: Non scendere in cantine e sottopassi. Info: 0587 265442. https://www.comune.calcinaia.pi.it/allerta"
    )
    assert sms.size is not None
    assert (sms.size.encoding, sms.size.parts, sms.characters) == (Encoding.GSM_7, 2, len(sms.body))


def test_an_sms_names_the_second_day_only_where_it_is_another() -> None:
    night = saying(replace(PIENA, expires=NOW + timedelta(hours=18)))
    assert "Quando: dalle 14:00 di sab 21/11 alle 07:30 di dom 22/11." in render(night, Form.SMS).body
    assert "Quando: annullato alle 13:30 di sab 21/11." in render(saying(PIENA, msg_type=MsgType.CANCEL), Form.SMS).body


def test_where_an_sms_is_too_long_the_instruction_is_the_last_to_be_cut() -> None:
    said = replace(
        PIENA,
        description="L'Arno può allagare le strade più basse. " * 12,
        instruction="Lasciare subito i piani bassi e salire. Non prendere l'auto. Aiutare chi è solo.",
        areas=tuple(Area(f"Via dell'Argine {number}") for number in range(30)),
    )
    sms = render(saying(said), Form.SMS)
    assert sms.shortened and sms.size is not None and sms.size.parts == 3
    assert f"Cosa fare: {said.instruction}" in sms.body
    assert "e altri 2" in sms.body and "luoghi. Quando:" in sms.body


def test_a_message_of_one_part_has_no_room_for_five_contents() -> None:
    with pytest.raises(ValueError, match="allow 2 or more"):
        render(saying(PIENA), Form.SMS, parts=1)


def test_a_mail_has_a_subject_of_its_headline_and_paragraphs() -> None:
    mail = render(saying(PIENA), Form.MAIL)
    assert mail.subject == "Comune di Calcinaia: allerta ARANCIONE per piena di fiumi e canali"
    assert mail.body.split("\n\n")[3] == "Cosa fare: Non scendere in cantine e sottopassi."
    exercise = render(saying(replace(PIENA, headline="piena " * 60), Status.EXERCISE), Form.MAIL)
    assert exercise.subject.startswith("ESERCITAZIONE - Comune") and exercise.subject.endswith(" - ESERCITAZIONE")
    assert len(exercise.subject) <= LONGEST_SUBJECT


# ── whatever is said ────────────────────────────────────────────────────────────────────────────────

words = st.text(max_size=60) | st.sampled_from(
    ["Piena dell'Arno", "Evacuare.", "", "<b>", "🌊" * 30, "Арно " * 20, "{0}"]
)
long_words = words | st.lists(words, max_size=60).map(" ".join) | st.text(alphabet="a€[è ", max_size=2000)
moments = st.integers(-1_000_000, 1_000_000).map(lambda minutes: NOW + timedelta(minutes=minutes))


@st.composite
def infos(draw: st.DrawFn) -> Info:
    onset = draw(st.none() | moments)
    return replace(
        PIENA,
        language=draw(st.sampled_from(["it-IT", "it", "en-GB", "uk", "xx-strange", ""])),
        severity=draw(st.sampled_from(Severity)),
        response_type=tuple(draw(st.lists(st.sampled_from(ResponseType), max_size=2))),
        sender_name=draw(words),
        headline=draw(long_words),
        description=draw(long_words),
        instruction=draw(long_words),
        contact=draw(words),
        web=draw(words),
        onset=onset,
        expires=draw(st.none() | moments),
        areas=tuple(Area(name) for name in draw(st.lists(words, max_size=30))),
    )


alerts = st.builds(
    Alert,
    identifier=st.just("calcinaia-1"),
    sender=st.just("protezionecivile@comune.calcinaia.pi.it"),
    sent=moments,
    status=st.sampled_from(Status),
    msg_type=st.sampled_from(MsgType),
    infos=st.lists(infos(), min_size=1, max_size=4).map(tuple),
)


@given(alerts, st.sampled_from(TEXTS), st.integers(2, 6))
def test_whatever_is_said_fits_its_form_with_all_five_contents(alert: Alert, form: Form, parts: int) -> None:
    rendered = render(alert, form, parts=parts)
    assert rendered.characters <= most_of(rendered, form, parts=parts)
    if rendered.size is not None:
        assert rendered.size.parts <= parts
        assert (rendered.size.encoding is Encoding.GSM_7) == ALPHABET.issuperset(rendered.body)
    opening, _, rest = f"{rendered.subject if form is Form.PUSH else ''}{rendered.body}".partition("Dove: ")
    where, _, rest = rest.partition("Quando: ")
    when, _, do = rest.rpartition("Cosa fare: ")
    assert opening.strip(" :") and ": " in opening
    assert where.strip()
    assert any(letter.isdigit() for letter in when)
    assert do.strip()
    if one_line(alert.first.description) and form is not Form.SMS:  # of an SMS emoji alone leave nothing
        assert any(letter in when for letter in one_line(alert.first.description)[:3])


@given(alerts, st.sampled_from(TEXTS), st.integers(2, 6))
def test_whatever_is_not_real_says_so_at_both_ends_of_every_form_however_short(
    alert: Alert, form: Form, parts: int
) -> None:
    rendered = render(alert, form, parts=parts)
    texts = [rendered.body, *([rendered.subject] if form in (Form.MAIL, Form.PUSH) else [])]
    for text in texts:
        if alert.status is Status.ACTUAL:
            assert not text.startswith(EXERCISE)
        else:
            assert text.startswith(f"{EXERCISE} - ") and text.endswith(EXERCISE)
