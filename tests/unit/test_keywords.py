"""Whatever people type, nobody is cut off by mistake and nobody who asks clearly is kept waiting."""

import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerting.authorities import load
from alerting.domain.keywords import (
    ABOUT_LEAVING,
    FORGETTING,
    LABELS,
    PLACE_WORDS,
    POLITENESS,
    STOPPING,
    AskJoin,
    AskLeave,
    ForgetPlace,
    Help,
    Intent,
    Join,
    Keywords,
    Leave,
    ListPlaces,
    Meaning,
    NotForUs,
    Place,
    clashes,
    command_written,
    edits,
    fold,
    understand,
)
from alerting.domain.recipients import Label

COMUNI = {code: authority.keywords for code, authority in load().items()}
CALCINAIA, FUCECCHIO, SANTA_FIORA = (COMUNI[code] for code in ("calcinaia", "fucecchio", "santa-fiora"))

each_comune = pytest.mark.parametrize("comune", COMUNI)

PRESS = {
    "calcinaia": ("Attiva", "Disattiva"),
    "bientina": ("ATTIVA", "DISATTIVA"),
    "cascina": ("Iscrizione", "Cancellazione"),
    "fucecchio": ("ISCRIZIONE", "CANCELLAZIONE"),
    "santa-fiora": ("ATTIVA COMUNE AMICO", "DISATTIVA COMUNE AMICO"),
}


@each_comune
def test_the_words_printed_in_the_press_join_and_leave(comune: str) -> None:
    join, leave = PRESS[comune]
    assert understand(join, COMUNI[comune]) == Join()
    assert understand(leave, COMUNI[comune]) == Leave()


@each_comune
@pytest.mark.parametrize("text", ["STOP", "stop", "Stop!", "BASTA", "basta!!!", "Basta grazie", "stop stop", "/stop"])
def test_stop_and_basta_leave_every_comune(comune: str, text: str) -> None:
    assert understand(text, COMUNI[comune]) == Leave()


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("attiva", Join()),
        ("  Attivà!!  ", Join()),
        ("«ATTIVA»", Join()),
        ("ATTIVA 👍🏻", Join()),
        ("👉ATTIVA👈", Join()),
        ("ATTIVA ℹ️ 1️⃣", Join()),
        ("🅰️ attiva", Join()),
        ("A T T I V A", Join()),
        ("a.t.t.i.v.a", Join()),
        ("AT\u200bTI\u00adVA", Join()),
        ("\u202eATTIVA\u202c", Join()),
        ("ＡＴＴＩＶＡ", Join()),
        ("𝐀𝐓𝐓𝐈𝐕𝐀", Join()),
        ("attiva attiva", Join()),
        ("ATTIVA?", Join()),
        ("Buongiorno, attiva per favore. Grazie mille", Join()),
        ("attivami", Join()),
        ("Iscrivimi", Join()),
        ("iscrizione on", Join()),
        ("Attiva Calcinaia", Join()),
        ("Attiva il servizio WhatsApp", Join()),
        ("ATTIVA Mario Rossi", Join("Mario Rossi")),
        ("Iscrizione Anna", Join("Anna")),
        ("attiva d'Angelo  Anna\u200b Màrìa", Join("d'Angelo Anna Màrìa")),
        ("Attiva Lo Conte Giuseppe", Join("Lo Conte Giuseppe")),
        ("Attiva Anna De Rossi grazie", Join("Anna De Rossi")),
        ("/start", Join()),
        ("/start@avvisi_calcinaia_bot volantino7", Join()),
    ],
)
def test_ways_people_really_join(text: str, meaning: Meaning) -> None:
    assert understand(text, CALCINAIA) == meaning


@pytest.mark.parametrize("text", ["ativa", "atttiva", "attvia", "iscrizone", "iscrizzione", "isrcizione", "Attiv a"])
def test_a_slip_of_the_finger_still_joins(text: str) -> None:
    assert understand(text, FUCECCHIO) == Join()


@pytest.mark.parametrize(
    "text",
    [
        "cancelazione",
        "cancellazzione",
        "CANCELAZZIONE",
        "disativa",
        "dissattiva",
        "disisrcizione",
        "dis attiva",
    ],
)
def test_a_slip_of_the_finger_still_leaves(text: str) -> None:
    assert understand(text, FUCECCHIO) == Leave()


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("non disattivare", AskLeave()),
        ("NON DISATTIVA", AskLeave()),
        ("no cancellazione", AskLeave()),
        ("nocancellazione", AskLeave()),
        ("non voglio la cancellazione della raccolta", AskLeave()),
        ("Cancellazione appuntamento di martedì", AskLeave()),
        ("disattiva mario rossi", AskLeave()),
        ("Attiva. Anzi no, disattiva", AskLeave()),
        ("attiva stop", AskLeave()),
        ("iscrizione off", AskLeave()),
        ("stop messaggi", AskLeave()),
        ("/stop ai camion", AskLeave()),
        ("toglietemi dalla lista", AskLeave()),
        ("Non voglio più ricevere messaggi", AskLeave()),
        ("diattiva", AskLeave()),
        ("isiscrizione", AskLeave()),
        ("disativa?", AskLeave()),
        ("cancella", AskLeave()),
        ("disattivo", AskLeave()),
        ("come si disattiva?", Help()),
        ("Come mi cancello dal servizio, come si fa a disiscriversi", Help()),
        ("disattiva cosa?", Help()),
    ],
)
def test_a_doubt_about_leaving_is_asked_and_never_acted_on(text: str, meaning: Meaning) -> None:
    assert understand(text, CALCINAIA) == meaning


@pytest.mark.parametrize(
    "text",
    [
        "attiva la luce in via Roma",
        "sattiva",
        "attivo",
        "non attiva",
        "iscrivi mio padre",
        "vorrei attivare",
        "descrizione",
        "attiva 3331234567",
        "attiva uno due tre quattro cinque sei",
    ],
)
def test_a_doubt_about_joining_is_asked_too(text: str) -> None:
    assert understand(text, CALCINAIA) == AskJoin()


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("ATTIVA COMUNE AMICO", Join()),
        ("attiva comune amico!", Join()),
        ("AttivaComuneAmico", Join()),
        ("Attiva comune amico Mario Rossi", Join("Mario Rossi")),
        ("atiiva comune amico", Join()),
        ("attivami comune amico", Join()),
        ("attiva", AskJoin()),
        ("iscrivimi", AskJoin()),
        ("attiva comune", AskJoin()),
        ("Comune Amico", AskJoin()),
        ("disattiva comune amico", Leave()),
        ("Disattiva Comune Amico, grazie", Leave()),
        ("disattiva", AskLeave()),
        ("cancellami", AskLeave()),
        ("La pompa in piazza non si attiva", NotForUs()),
        ("C'è una buca in via Roma", NotForUs()),
    ],
)
def test_santa_fiora_asks_for_all_three_words(text: str, meaning: Meaning) -> None:
    assert understand(text, SANTA_FIORA) == meaning


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("ZONA Fornacette", Place("Fornacette")),
        ("frazione: San Frediano a Settimo", Place("San Frediano a Settimo")),
        ("Zona Sant’Andrea\u200b!", Place("Sant’Andrea")),
        ("zona industriale allagata fino al ginocchio da ieri", NotForUs()),
        ("aiuto", Help()),
        ("/help", Help()),
        ("/stop@avvisi_calcinaia_bot", Leave()),
        ("/startup", NotForUs()),
        ("Info?", Help()),
        ("come funziona", Help()),
        ("?", Help()),
        ("", NotForUs()),
        ("👍", NotForUs()),
        ("\u200b\u200f", NotForUs()),
        ("Grazie mille, buona giornata", NotForUs()),
        ("Quando passa la raccolta?", NotForUs()),
        ("inattiva", NotForUs()),
    ],
)
def test_places_questions_and_everything_else(text: str, meaning: Meaning) -> None:
    assert understand(text, CALCINAIA) == meaning


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("ZONA LAVORO Fornacette", Place("Fornacette", Label.LAVORO)),
        ("zona ufficio: Fornacette", Place("Fornacette", Label.LAVORO)),
        ("Zona dove lavoro Fornacette", Place("Fornacette", Label.LAVORO)),
        ("zona dei miei genitori: Fornacette", Place("Fornacette", Label.GENITORI)),
        ("zona mamma Fornacette", Place("Fornacette", Label.GENITORI)),
        ("ZONA MAMMA E PAPÀ FORNACETTE", Place("FORNACETTE", Label.GENITORI)),
        ("zona casa dei nonni San Lorenzo a Pagnatico", Place("San Lorenzo a Pagnatico", Label.GENITORI)),
        ("zona dei miei: Fornacette 👵", Place("Fornacette", Label.GENITORI)),
        ("zona scuola Fornacette", Place("Fornacette", Label.SCUOLA)),
        ("zona della scuola dei bambini La Gronchia", Place("La Gronchia", Label.SCUOLA)),
        ("zona scuola di mia figlia Fornacette", Place("Fornacette", Label.SCUOLA)),
        ("ZONA CASA Fornacette", Place("Fornacette", Label.CASA)),
        ("zona zia Fornacette", Place("Fornacette", Label.ALTRO)),
        ("zona Fornacette", Place("Fornacette")),
        ("zone fornacete", Place("fornacete")),
        ("La mia zona è Fornacette", Place("Fornacette")),
        ("buongiorno, zona La Gronchia grazie", Place("La Gronchia")),
        ("zona frazione di San Lorenzo alle Corti", Place("frazione di San Lorenzo alle Corti")),
        ("zona via Roma, Fornacette (PI)", Place("via Roma, Fornacette (PI")),
        ("zona lavoro", Place("", Label.LAVORO)),
        ("zona scuola?", Place("", Label.SCUOLA)),
        ("zona lavoro mamma Fornacette", Place("mamma Fornacette", Label.LAVORO)),
    ],
)
def test_ways_people_really_say_which_place_it_is(text: str, meaning: Meaning) -> None:
    assert understand(text, CALCINAIA) == meaning


def test_a_frazione_may_be_called_like_a_label() -> None:
    meaning = understand("zona Scuola Vecchia", CALCINAIA)
    assert isinstance(meaning, Place)
    assert meaning.whole == "Scuola Vecchia"


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("TOGLI ZONA LAVORO", ForgetPlace(Label.LAVORO)),
        ("ZONA LAVORO TOGLI", ForgetPlace(Label.LAVORO)),
        ("cancella zona lavoro", ForgetPlace(Label.LAVORO)),
        ("Cancella la mia zona di lavoro, grazie!", ForgetPlace(Label.LAVORO)),
        ("elimina zona dei miei genitori", ForgetPlace(Label.GENITORI)),
        ("rimuovere zona scuola", ForgetPlace(Label.SCUOLA)),
        ("zona nonna da togliere", ForgetPlace(Label.GENITORI)),
        ("zona casa cancella", ForgetPlace(Label.CASA)),
        ("togli zona Fornacette", ForgetPlace(None, "Fornacette")),
        ("zona Fornacette togli", ForgetPlace(None, "Fornacette")),
        ("togli zona lavoro Fornacette", ForgetPlace(Label.LAVORO, "Fornacette")),
        ("togli zona", ForgetPlace()),
        ("CANCELLA ZONE", ForgetPlace()),
        ("togli zona lavoro?", ListPlaces()),
        ("non cancellare la zona lavoro", ListPlaces()),
        ("vorrei togliere la zona lavoro", ListPlaces()),
        ("potete togliere la zona 30", NotForUs()),
    ],
)
def test_ways_people_really_have_a_place_forgotten(text: str, meaning: Meaning) -> None:
    for keywords in COMUNI.values():
        assert understand(text, keywords) == meaning


@pytest.mark.parametrize(
    "text",
    [
        "cancellazona",
        "cancellazone",
        "cancellami zona lavoro",
        "toglimi dalla zona",
        "cancella dalla zona lavoro",
        "cancella zona lavoro e disiscrivimi",
        "togli zona lavoro stop",
        "zona stop",
        "zona cancellazione",
        "disattiva zona Fornacette",
        "cancellazione zona",
    ],
)
def test_between_leaving_and_forgetting_a_place_it_is_asked(text: str) -> None:
    for keywords in (CALCINAIA, FUCECCHIO, SANTA_FIORA):
        assert understand(text, keywords) == AskLeave()


@pytest.mark.parametrize(
    "text",
    [
        "ZONA",
        "zone",
        "Zona?",
        "MIE ZONE",
        "le mie zone",
        "la mia zona",
        "frazione",
        "quali sono le mie zone?",
        "che zone ho",
        "elenco zone",
        "quali zone ci sono",
        "le mie zone quali sono",
    ],
)
def test_ways_people_really_ask_what_is_known_of_them(text: str) -> None:
    assert understand(text, CALCINAIA) == ListPlaces()


@pytest.mark.parametrize(
    "text",
    [
        "C'è una buca in zona Fornacette",
        "in zona industriale manca la luce",
        "La zona",
        "zona rossa: cosa devo fare, dove devo andare?",
    ],
)
def test_a_report_that_names_a_zona_moves_nobody(text: str) -> None:
    assert not isinstance(understand(text, SANTA_FIORA), Place | ForgetPlace | Leave)


def test_a_letter_to_the_comune_is_no_command_even_if_it_names_one() -> None:
    letter = "Disattiva " + "parola " * 30
    assert understand(letter, CALCINAIA) == NotForUs()


# ── properties ──────────────────────────────────────────────────────────────────────────────────────

comuni = st.sampled_from(sorted(COMUNI))
forgetting = st.sampled_from(sorted(FORGETTING))
zonas = st.sampled_from(sorted(PLACE_WORDS))
intents = st.sampled_from(Intent)
NOISE = (
    "?!.,;:-_\"'«»“”()[]*~…•/&+= \t\r\n\u00a0\u2003\u2028\u200b\u200c\u200d\u2060\ufeff\u00ad👍🏽❤️✅🇮🇹👨‍👩‍👧🏳️‍🌈➡️☎️™️"
    "\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)
"""Marks and emoji around a word, and what turns the direction of writing: copied texts leave it behind."""
UNSEEN = "\u200b\u200c\u200d\u200e\u200f\u061c\u2060\u2066\u2069\u202b\u202c\ufeff\u00ad\ufe0f\u034f\u180e\u3164"
"""May stand within a word, and nobody sees it."""
ACCENTS = "\u0300\u0301\u0302\u0308\u030c\u0323\u0327"
noise = st.text(NOISE, max_size=4)


@st.composite
def dressed_up(draw: st.DrawFn, words: str) -> str:
    """The same words in another case, with accents, unseen marks within, punctuation and emoji around."""
    dressed = draw(noise)
    for char in words:
        if char == " ":
            dressed += draw(st.sampled_from([" ", "  ", " - ", "\n", "\u00a0", "👉", ", "]))
            continue
        shown = draw(st.sampled_from([char.lower(), char.upper()]))
        marks = draw(st.sampled_from(["", "", "", ACCENTS, UNSEEN, UNSEEN]))
        whole = shown + (draw(st.sampled_from(marks)) if marks else "")
        dressed += unicodedata.normalize("NFC", whole) if draw(st.booleans()) else unicodedata.normalize("NFD", whole)
    return dressed + draw(noise)


def keyword(keywords: Keywords, intent: Intent) -> str:
    return keywords.join if intent is Intent.JOIN else keywords.leave


@settings(max_examples=200, deadline=None)
@given(st.data(), comuni, intents)
def test_the_exact_keyword_is_found_under_any_dress(data: st.DataObject, comune: str, intent: Intent) -> None:
    text = data.draw(dressed_up(keyword(COMUNI[comune], intent)))
    assert understand(text, COMUNI[comune]) == (Join() if intent is Intent.JOIN else Leave())


LIKELY = sorted(
    ABOUT_LEAVING
    | STOPPING
    | POLITENESS
    | {"non", "no", "mai", "attiva", "iscrizione", "comune", "amico", "zona", "la", "il", "di", "come", "più"}
    | {"raccolta", "mario", "anna", "luce", "?", "!", "👍"}
)


def is_a_clear_leave(text: str, keywords: Keywords) -> bool:
    """What may leave, told otherwise than the grammar tells it: greetings and the comune's name around."""
    if text.lstrip().startswith("/"):
        return fold(text) == ("stop",)
    kept = [word for word in fold(text) if word not in POLITENESS]
    if kept and kept[0] in STOPPING:
        return set(kept) == {kept[0]}
    if len(set(kept)) == 1:
        kept = kept[:1]
    own = set(fold(" ".join(keywords.around)))
    commands = [words for words, intent in keywords.commands.items() if intent is Intent.LEAVE]
    whole = "".join(kept)
    return any(
        edits(whole, "".join(words), most=2) <= 2
        or (tuple(kept[: len(words)]) == words and set(kept[len(words) :]) <= own)
        for words in commands
    )


@settings(max_examples=600, deadline=None)
@given(st.lists(st.sampled_from(LIKELY), max_size=6).map(" ".join) | st.text(max_size=60), comuni)
def test_nobody_ever_leaves_on_doubt(text: str, comune: str) -> None:
    if understand(text, COMUNI[comune]) == Leave():
        assert is_a_clear_leave(text, COMUNI[comune])


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(STOPPING | {"disattiva"})), st.text("abcdefghilmnopqrstuvz", min_size=2), comuni)
def test_a_leaving_word_with_an_unknown_word_beside_it_never_leaves(leaving: str, word: str, comune: str) -> None:
    known = POLITENESS | STOPPING | set(fold(" ".join(COMUNI[comune].around))) | {leaving}
    for text in (f"{word} {leaving}", f"{leaving} {word}"):
        # "disattiva mi" is the clear word "disattivami", written apart.
        apart = any(edits(text.replace(" ", ""), whole, most=2) <= 2 for whole in COMUNI[comune].run_together)
        if word not in known and not apart:
            assert understand(text, COMUNI[comune]) != Leave()


@settings(max_examples=400, deadline=None)
@given(forgetting, zonas, st.lists(st.sampled_from([*LIKELY, *LABELS, "Fornacette"]), max_size=4), comuni, st.data())
def test_cancella_before_zona_never_leaves(
    verb: str, zona: str, more: list[str], comune: str, data: st.DataObject
) -> None:
    words = data.draw(dressed_up(f"{verb} {zona}"))
    assert understand(f"{words} {' '.join(more)}", COMUNI[comune]) != Leave()
    assert understand(words.replace(" ", ""), COMUNI[comune]) != Leave()


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.sampled_from([*LIKELY, *FORGETTING, *LABELS]), max_size=6).map(" ".join) | st.text(max_size=60), comuni
)
def test_no_place_is_forgotten_without_both_words(text: str, comune: str) -> None:
    said = set(fold(text))
    if isinstance(understand(text, COMUNI[comune]), ForgetPlace):
        assert said & FORGETTING
        assert said & PLACE_WORDS
        assert not said & (STOPPING | ABOUT_LEAVING - FORGETTING)


@settings(max_examples=200, deadline=None)
@given(st.data(), comuni, st.sampled_from(sorted(LABELS)))
def test_a_label_is_found_under_any_dress(data: st.DataObject, comune: str, label: str) -> None:
    meaning = understand(data.draw(dressed_up(f"zona {label} fornacette")), COMUNI[comune])
    assert isinstance(meaning, Place)
    assert meaning.label is LABELS[label]


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(), max_size=200), comuni)
def test_any_text_has_a_meaning(text: str, comune: str) -> None:
    assert isinstance(understand(text, COMUNI[comune]), Meaning)


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(), max_size=80))
def test_a_name_shows_nothing_that_cannot_be_seen(name: str) -> None:
    meaning = understand(f"Attiva {name}", CALCINAIA)
    if isinstance(meaning, Join) and meaning.name:
        assert len(meaning.name) <= 60
        assert all(unicodedata.category(c) not in ("Cf", "Cc", "So", "Cs") for c in meaning.name)


ALPHABET = "abcdefghilmnopqrstuvzxyjkw à-"


def one_edit(word: str) -> set[str]:
    splits = [(word[:i], word[i:]) for i in range(len(word) + 1)]
    return (
        {a + b[1:] for a, b in splits if b}
        | {a + b[1] + b[0] + b[2:] for a, b in splits if len(b) > 1}
        | {a + c + b[1:] for a, b in splits if b for c in ALPHABET}
        | {a + c + b for a, b in splits for c in ALPHABET}
    )


@each_comune
def test_one_slip_never_turns_joining_into_leaving_or_back(comune: str) -> None:
    keywords = COMUNI[comune]
    for text in one_edit(keywords.join.lower()):
        assert understand(text, keywords) != Leave(), text
    for text in one_edit(keywords.leave.lower()):
        assert not isinstance(understand(text, keywords), Join), text


@pytest.mark.parametrize(
    "text",
    ["a" * 10_000, "a " * 5_000, "ATTIVA " + "è" * 10_000, "👍" * 10_000, "\u200b" * 10_000, "? " * 5_000,
     "".join(chr(0x4E00 + i) for i in range(10_000))],
    ids=["one word", "many words", "a name", "emoji", "invisible", "questions", "all different"],
)  # fmt: skip
def test_ten_thousand_characters_are_understood_in_under_50_ms(text: str) -> None:
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        understand(text, CALCINAIA)
        taken.append(time.perf_counter() - start)
    assert min(taken) < 0.05


# ── several comuni on a number ──────────────────────────────────────────────────────────────────────


def test_comuni_with_the_same_words_clash_on_one_number() -> None:
    assert "attiva" in clashes(COMUNI["calcinaia"], COMUNI["bientina"])


def test_a_longer_keyword_clashes_with_its_own_beginning() -> None:
    assert "attiva" in clashes(CALCINAIA, SANTA_FIORA)


def test_keywords_of_several_words_may_share_a_number() -> None:
    other = Keywords("ATTIVA PIANO SICURO", "DISATTIVA PIANO SICURO")
    assert clashes(SANTA_FIORA, other) == ()


@pytest.mark.parametrize(
    ("said", "word", "slips"),
    [
        ("attiva", "attiva", 0),
        ("atitva", "attiva", 1),
        ("disattiva", "attiva", 3),
        ("", "abc", 3),
        ("a" * 999, "a", 5),
    ],
)
def test_slips_are_counted_with_swaps_and_given_up_beyond_the_most(said: str, word: str, slips: int) -> None:
    assert edits(said, word, most=4) == slips


# ── what stands in the proof ────────────────────────────────────────────────────────────────────────

HIDDEN = st.sampled_from(
    "\u200b\u200c\u200d\u200e\u200f\u202a\u202e\u2066\u2069\ufeff\u00ad\u034f\ufe0f\u061c\U000e0041"
)


@given(st.data())
def test_no_mark_that_nobody_sees_changes_what_a_command_means(data: st.DataObject) -> None:
    words = data.draw(st.sampled_from([FUCECCHIO, SANTA_FIORA, CALCINAIA]))
    command = data.draw(st.sampled_from([words.join, words.leave, "STOP", "zona Fornacette"]))
    tricked = "".join("".join(data.draw(st.lists(HIDDEN, max_size=2))) + letter for letter in command)
    assert understand(tricked, words) == understand(command, words)
    assert command_written(tricked, words) == command_written(command, words)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("Attiva", "Attiva"),
        ("ATTIVA!!! 👍", "ATTIVA"),
        ("Buongiorno, attivà Giovanna Lo Conte grazie", "attivà"),
        ("Attiva Fornacette", "Attiva"),
        ("a t t i v a", "a t t i v a"),
        ("Atttiva", "Atttiva"),
        ("/start frazione-3", "/start"),
        ("stop", "stop"),
        ("Disattiva grazie mille", "Disattiva"),
        ("iscrivimi Mario Rossi", "iscrivimi"),
    ],
)
def test_the_proof_has_the_command_as_it_was_written_and_never_the_name(text: str, written: str) -> None:
    assert isinstance(understand(text, CALCINAIA), Join | Leave)
    assert command_written(text, CALCINAIA) == written
