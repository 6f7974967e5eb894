"""What people write about their choices, and that none of it ever makes them leave."""

import unicodedata
from datetime import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from alerting.authorities import load
from alerting.domain.choice_words import (
    ALL,
    ALSO,
    AROUND,
    NOT,
    ONLY,
    TOPIC_WORDS,
    Choice,
    HowToChoose,
    KnownOfMe,
    NoEmergencies,
    QuietHours,
    Speaks,
    Topics,
)
from alerting.domain.choices import CHOSEN, Topic
from alerting.domain.keywords import AskLeave, Join, Leave, Meaning, NotForUs, understand
from alerting.domain.notices import Quiet

COMUNI = {code: authority.keywords for code, authority in load().items()}
EVENTI, RACCOLTA, NOTIZIE = frozenset({Topic.EVENTI}), frozenset({Topic.RACCOLTA}), frozenset({Topic.NOTIZIE})
ALWAYS = frozenset({Topic.EMERGENZE})
NIGHT = QuietHours(Quiet(time(22), time(7)))


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("SOLO EMERGENZE", Topics(ALWAYS, frozenset(CHOSEN))),
        ("soltanto le emergenze, grazie!", Topics(ALWAYS, frozenset(CHOSEN))),
        ("Vorrei ricevere solo le allerte", Topics(ALWAYS, frozenset(CHOSEN))),
        ("solo emergenza", Topics(ALWAYS, frozenset(CHOSEN))),
        ("solo emergnze", Topics(ALWAYS, frozenset(CHOSEN))),
        ("soloemergenze", Topics(ALWAYS, frozenset(CHOSEN))),
        ("Sólo Emergenzè 👍", Topics(ALWAYS, frozenset(CHOSEN))),
        ("solo raccolta", Topics(ALWAYS | RACCOLTA, EVENTI | NOTIZIE)),
        ("solo raccolta porta a porta e scadenze", Topics(ALWAYS | RACCOLTA | NOTIZIE, EVENTI)),
        ("ANCHE RACCOLTA", Topics(on=RACCOLTA)),
        ("anche la raccolta e gli eventi", Topics(on=RACCOLTA | EVENTI)),
        ("voglio eventi", Topics(on=EVENTI)),
        ("NO EVENTI", Topics(off=EVENTI)),
        ("senza eventi", Topics(off=EVENTI)),
        ("noeventi", Topics(off=EVENTI)),
        ("no evnti", Topics(off=EVENTI)),
        ("basta eventi", Topics(off=EVENTI)),
        ("togli gli eventi e le notizie", Topics(off=EVENTI | NOTIZIE)),
        ("Buongiorno, non voglio eventi", Topics(off=EVENTI)),
        ("non mandatemi più eventi", Topics(off=EVENTI)),
        ("TUTTO", Topics(on=frozenset(Topic))),
        ("voglio ricevere tutto", Topics(on=frozenset(Topic))),
        ("tutti gli argomenti", Topics(on=frozenset(Topic))),
        ("NO EMERGENZE", NoEmergencies()),
        ("senza allerte", NoEmergencies()),
        ("non voglio emergenze né eventi", NoEmergencies()),
        ("no emergenze ed eventi", NoEmergencies()),
        ("no tutto", NoEmergencies()),
        ("no eventi anche raccolta", HowToChoose()),
        ("solo emergenze?", HowToChoose()),
        ("SILENZIO DALLE 22 ALLE 7", NIGHT),
        ("silenzio 22-7", NIGHT),
        ("Silenzio dalle ore 22:00 alle ore 07.00", NIGHT),
        ("silenzo dalle 22 alle 7", NIGHT),
        ("non disturbare dalle 22 alle 7", NIGHT),
        ("silenzio dalle 22 di sera alle 7 di mattina", NIGHT),
        ("silenzio dalle 22:30 alle 6.45", QuietHours(Quiet(time(22, 30), time(6, 45)))),
        ("silenzio da mezzanotte alle 7", QuietHours(Quiet(time(0), time(7)))),
        ("silenzio dalla mezzanotte alle 7", QuietHours(Quiet(time(0), time(7)))),
        ("silenzio dalle 24 alle 7", QuietHours(Quiet(time(0), time(7)))),
        ("silenzio dalle 23 all'una", QuietHours(Quiet(time(23), time(1)))),
        ("silenzio dalle 10 di sera alle 7", HowToChoose()),
        ("silenzio dalle 22", HowToChoose()),
        ("silenzio dalle 25 alle 7", HowToChoose()),
        ("silenzio dalle 22 alle 22", HowToChoose()),
        ("silenzio dalle 2230 alle 7", NotForUs()),
        ("silenzio", HowToChoose()),
        ("SENZA SILENZIO", QuietHours(None)),
        ("no silenzio", QuietHours(None)),
        ("togli il silenzio", QuietHours(None)),
        ("silenzio off", QuietHours(None)),
        ("LINGUA INGLESE", Speaks("en")),
        ("ENGLISH", Speaks("en")),
        ("English please", Speaks("en")),
        ("in inglese", Speaks("en")),
        ("lingua italiana", Speaks("it")),
        ("Français", Speaks("fr")),
        ("العربية", Speaks("ar")),
        ("中文", Speaks("zh")),
        ("Українська", Speaks("uk")),
        ("lingua", HowToChoose()),
        ("Russo", NotForUs()),
        ("lingua russo", Speaks("ru")),
        ("COSA SAI DI ME", KnownOfMe()),
        ("che cosa sapete di me?", KnownOfMe()),
        ("cosa sai dime", KnownOfMe()),
        ("cosa sai di mee", KnownOfMe()),
        ("le mie scelte", KnownOfMe()),
    ],
)
def test_ways_people_really_choose(text: str, meaning: Meaning) -> None:
    for comune, keywords in COMUNI.items():
        assert understand(text, keywords) == meaning, comune


@pytest.mark.parametrize(
    "text",
    [
        "Quando passa la raccolta?",
        "La raccolta non è passata",
        "no raccolta oggi in via Roma",
        "senza venti",
        "silenzio in biblioteca",
        "evento in piazza sabato",
        "raccolta",
        "tutto bene, e voi",
        "Ho perso le chiavi in biblioteca",
    ],
)
def test_a_citizen_who_speaks_of_something_else_chooses_nothing(text: str) -> None:
    for keywords in COMUNI.values():
        assert not isinstance(understand(text, keywords), Choice)


@pytest.mark.parametrize("text", ["basta avvisi", "stop messaggi", "basta tutto", "cancella tutto"])
def test_who_may_want_to_leave_is_asked_by_the_words_for_leaving(text: str) -> None:
    for keywords in COMUNI.values():
        assert understand(text, keywords) == AskLeave()


comuni = st.sampled_from(sorted(COMUNI))
OTHERS = {"silenzio", "dalle", "alle", "22", "7", "lingua", "inglese", "cosa", "sai", "di", "me"}
words_of_choices = st.lists(
    st.sampled_from(sorted(ONLY | ALSO | NOT | ALL | AROUND | TOPIC_WORDS.keys() | OTHERS)),
    max_size=7,
).map(" ".join)


@settings(max_examples=500, deadline=None)
@given(words_of_choices, comuni)
@example("stop", "calcinaia")
@example("basta per", "bientina")
def test_no_words_of_choices_make_anybody_leave_but_the_bare_stop(text: str, comune: str) -> None:
    meaning = understand(text, COMUNI[comune])
    if meaning == Leave():
        assert set(text.split()) in ({"stop"}, {"basta"})
    assert not isinstance(meaning, Join)


@settings(max_examples=500, deadline=None)
@given(words_of_choices | st.text(max_size=60), comuni)
def test_emergencies_are_never_among_what_is_switched_off(text: str, comune: str) -> None:
    meaning = understand(text, COMUNI[comune])
    if isinstance(meaning, Topics):
        assert Topic.EMERGENZE not in meaning.off
        assert meaning.on or meaning.off
        assert meaning.on.isdisjoint(meaning.off)


@settings(max_examples=200, deadline=None)
@given(st.times(), st.times(), st.sampled_from([":", ".", " : "]))
def test_any_two_times_are_read_as_they_are_written(begins: time, ends: time, mark: str) -> None:
    begins, ends = (at.replace(second=0, microsecond=0) for at in (begins, ends))
    text = f"silenzio dalle {begins.hour}{mark}{begins.minute:02d} alle {ends.hour:02d}{mark}{ends.minute:02d}"
    expected = HowToChoose() if begins == ends else QuietHours(Quiet(begins, ends))
    assert understand(text, COMUNI["calcinaia"]) == expected


@settings(max_examples=200, deadline=None)
@given(st.data(), st.sampled_from(["solo emergenze", "no eventi", "senza silenzio", "cosa sai di me"]))
def test_a_choice_is_found_under_any_dress(data: st.DataObject, words: str) -> None:
    dressed = "".join(
        data.draw(st.sampled_from([char.lower(), char.upper()])) + data.draw(st.sampled_from(["", "\u0300", "\u200b"]))
        for char in words
    )
    text = f"👉 {unicodedata.normalize('NFC', dressed)}!"
    for keywords in COMUNI.values():
        assert understand(text, keywords) == understand(words, keywords)
