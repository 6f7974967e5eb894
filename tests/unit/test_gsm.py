"""What an SMS costs: against a slow count, and in the letters Italians use."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.domain.gsm import ALONE, ALPHABET, BASIC, EXTENSION, IN_PARTS, Encoding, encoding_of, size, split, surely
from alerting.domain.gsm import transliterated as written

letters = st.text(alphabet=sorted(ALPHABET), max_size=700)
scripts = st.text(alphabet="Паводок на Арно🌊中文€[è", min_size=1, max_size=400).map(lambda text: text + "П")


def test_the_basic_table_has_its_127_letters_and_the_extension_its_ten() -> None:
    assert (len(BASIC), len(EXTENSION), BASIC & EXTENSION) == (127, 10, frozenset())


@pytest.mark.parametrize("letter", "àèéìòùÉÇüñ§£$@\n")
def test_what_italians_type_most_is_in_the_alphabet(letter: str) -> None:
    assert encoding_of(letter) is Encoding.GSM_7


@pytest.mark.parametrize("letter", "ÀÈÌÒÙçáíóú°’‘“”–—…•«»ºª²³\u00a0🌊")
def test_what_is_not_in_the_alphabet_doubles_the_cost_and_is_written_otherwise(letter: str) -> None:
    assert encoding_of(letter) is Encoding.UCS_2
    assert encoding_of(written(f"piena {letter} a Fornacette")) is Encoding.GSM_7


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("È in corso un’allerta", "E' in corso un'allerta"),
        ("CITTÀ, PIÙ, LUNEDÌ, PERÒ, PERCHÉ", "CITTA', PIU', LUNEDI', PERO', PERCHÉ"),
        ("“Resta in casa” – e aspetta…", '"Resta in casa" - e aspetta...'),
        ("Piena 🌊 dell'Arno ⚠️!", "Piena dell'Arno !"),
        ("👨‍👩‍👧 in casa", " in casa"),
        ("Łódź, Île, çà, señor, Škoda, œuvre", "Lodz, Ile, cà, señor, Skoda, oeuvre"),
        ("temperature di 40° e fino a −3°", "temperature di 40 gradi e fino a -3 gradi"),
        ("oltre 35 °C, 38°C", "oltre 35 gradi, 38 gradi"),
        ("Via Roma n° 5, 1° piano, nº 7", "Via Roma n. 5, 1o piano, no 7"),
        ("50 m³ in 2½ ore", "50 m3 in 21/2 ore"),
        ("costa 5 €", "costa 5 €"),
        ("l\u2019argine\u00a0destro\u2009ora", "l'argine destro ora"),
        ("E\u0300 colma", "E' colma"),  # decomposed, as some keyboards send it
        ("livello ≥ 3 m → uscire", "livello >= 3 m -> uscire"),
    ],
)
def test_what_has_no_letter_is_written_as_italians_would(said: str, read: str) -> None:
    assert written(said) == read


@pytest.mark.parametrize("said", ["Паводок на Арно", "阿诺河洪水", "فيضان نهر أرنو", "Πλημμύρα στον Άρνο", "বন্যা"])
def test_a_script_that_cannot_be_transliterated_travels_as_it_is(said: str) -> None:
    assert encoding_of(written(said)) is Encoding.UCS_2
    assert encoding_of(said) is Encoding.UCS_2


@pytest.mark.parametrize(
    ("text", "encoding", "characters", "parts"),
    [
        ("", Encoding.GSM_7, 0, 1),
        ("a" * 160, Encoding.GSM_7, 160, 1),
        ("a" * 161, Encoding.GSM_7, 161, 2),
        ("a" * 306, Encoding.GSM_7, 306, 2),
        ("a" * 307, Encoding.GSM_7, 307, 3),
        ("€" * 80, Encoding.GSM_7, 160, 1),
        ("a" + "€" * 80, Encoding.GSM_7, 161, 2),
        ("€" * 153, Encoding.GSM_7, 306, 3),  # 153 is odd: each part ends one septet early
        ("È" * 70, Encoding.UCS_2, 70, 1),
        ("È" * 71, Encoding.UCS_2, 71, 2),
        ("È" * 134, Encoding.UCS_2, 134, 2),
        ("È" * 135, Encoding.UCS_2, 135, 3),
        ("🌊" * 35, Encoding.UCS_2, 70, 1),
        ("🌊" * 67, Encoding.UCS_2, 134, 3),  # no surrogate pair is cut
    ],
)
def test_parts_are_counted_with_their_seams(text: str, encoding: Encoding, characters: int, parts: int) -> None:
    found = size(text)
    assert (found.encoding, found.characters, found.parts) == (encoding, characters, parts)


def slow_parts(text: str) -> int:
    """Unit by unit, as a modem would: letters as lists of units, that are never taken apart."""
    gsm = all(letter in ALPHABET for letter in text)
    units = [["esc", x] if gsm and x in EXTENSION else list(x.encode("utf-16-be")[::2]) for x in text]
    if sum(len(letter) for letter in units) <= (160 if gsm else 70):
        return 1
    parts: list[list[object]] = [[]]
    for letter in units:
        if len(parts[-1]) + len(letter) > (153 if gsm else 67):
            parts.append([])
        parts[-1].extend(letter)
    return len(parts)


@given(letters | scripts)
def test_the_parts_are_those_of_a_slow_count(text: str) -> None:
    assert size(text).parts == slow_parts(text)


@given(letters | scripts)
def test_the_parts_put_together_are_the_text_and_none_is_too_long(text: str) -> None:
    parts = split(text)
    encoding = encoding_of(text)
    assert "".join(parts) == text
    for part in parts:
        most = ALONE[encoding] if len(parts) == 1 else IN_PARTS[encoding]
        units = len(part) + sum(x in EXTENSION for x in part)
        assert (units if encoding is Encoding.GSM_7 else len(part.encode("utf-16-le")) // 2) <= most


@given(letters | scripts, st.integers(1, 6))
def test_what_surely_fits_fits(text: str, parts: int) -> None:
    found = size(text)
    if found.characters <= surely(found.encoding, parts):
        assert found.parts <= parts


@given(st.text(max_size=200))
def test_what_is_written_keeps_every_letter_of_the_alphabet_and_adds_none_beyond_those_it_was_given(text: str) -> None:
    said = written(text)
    beyond = [letter for letter in said if letter not in ALPHABET]
    assert all(letter.isalpha() or not letter.isascii() for letter in beyond)
    if not any(letter.isalpha() and letter not in ALPHABET for letter in text):
        assert [letter for letter in beyond if letter.isalpha()] == []
    assert written(said) == said, "twice changes nothing more"


@given(
    st.text(alphabet="ÀÈÌÒÙàèéìòùçâêîôûäëïõãåæøñßłđœ’“”–—…•°²½€ 🌊⚠️✅abcXYZ019.,;:!?()'\"\u00a0\u200d", max_size=200)
)
def test_a_text_in_latin_letters_always_fits_the_alphabet(text: str) -> None:
    assert encoding_of(written(text)) is Encoding.GSM_7
