"""A text in parts: what telephones put together again is what was said, and nothing is too wide for the air."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.domain import gsm
from alerting.domain.gsm import Encoding
from alerting.domain.sms import (
    ESCAPE,
    EXTENDED,
    LETTERS,
    MOST_OCTETS,
    SEPTETS,
    Alphabet,
    Part,
    alphabet_of,
    part_said,
    parts_of,
    words_of,
)

PLAIN = st.text(st.sampled_from(sorted(gsm.ALPHABET)), max_size=1000)
ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=700)
WORDS = PLAIN | ANY
OUT_OF_PLACE = {place: letter for letter, place in EXTENDED.items()}


def read(part: Part) -> str:
    """As a telephone reads it. By the tables of the standard, not by what wrote it."""
    if part.encoding is Encoding.UCS_2:
        return part.body.decode("utf-16-be")
    places = iter(part.body)
    return "".join(OUT_OF_PLACE[next(places)] if LETTERS[place] == ESCAPE else LETTERS[place] for place in places)


def test_the_tables_are_those_of_the_alphabet() -> None:
    assert len(LETTERS) == 128
    assert SEPTETS.keys() == gsm.ALPHABET
    assert (SEPTETS["@"], SEPTETS["à"], SEPTETS["€"]) == (b"\x00", b"\x7f", b"\x1b\x65")


@given(WORDS, st.integers(0, 1 << 20), st.booleans())
def test_the_parts_together_are_the_text_and_each_fits_the_air(text: str, reference: int, wide: bool) -> None:
    parts = parts_of(text, reference, wide=wide)

    assert "".join(map(read, parts)) == text  # each is read alone: no escape and no surrogate was cut from its other
    assert all(part.on_the_air <= MOST_OCTETS for part in parts)
    assert {part.encoding for part in parts} == {gsm.encoding_of(text)}


@given(WORDS)
def test_there_are_as_many_parts_as_the_preview_says(text: str) -> None:
    assert len(parts_of(text, 7)) == gsm.size(text).parts


@given(WORDS.map(lambda text: text + "Evacuare. " * 17), st.integers(0, 1 << 20), st.booleans())
def test_each_part_says_which_it_is(text: str, reference: int, wide: bool) -> None:
    parts = parts_of(text, reference, wide=wide)
    for number, part in enumerate(parts, start=1):
        assert part.header[0] == len(part.header) - 1
        assert (part.header[1], part.header[2]) == ((8, 4) if wide else (0, 3))
        assert int.from_bytes(part.header[3:-2]) == reference % (1 << 16 if wide else 1 << 8)
        assert (part.header[-2], part.header[-1]) == (len(parts), number)


def test_what_fits_one_part_has_no_header() -> None:
    assert [part.header for part in parts_of("è" * 160, 1)] == [b""]
    assert [len(part.body) for part in parts_of("è" * 161, 1)] == [153, 8]
    assert [len(part.body) for part in parts_of("È" * 70, 1)] == [140]
    assert [len(part.body) for part in parts_of("È" * 71, 1)] == [134, 8]


def test_an_escape_at_the_seam_goes_whole_into_the_next_part() -> None:
    parts = parts_of("a" * 152 + "€" + "a" * 20, 1)
    assert [read(part) for part in parts] == ["a" * 152, "€" + "a" * 20]


def test_an_emoji_at_the_seam_goes_whole_into_the_next_part() -> None:
    parts = parts_of("È" * 66 + "🌊" * 10, 1)
    assert [read(part) for part in parts] == ["È" * 66, "🌊" * 10]


@pytest.mark.parametrize(
    ("text", "parts"),
    [("🌊" * 200, 7), ("\u202bאזהרה\u202c", 1), ("Evacuare " * 556, 33), ("È" * 5000, 75), ("’" * 71, 2)],
    ids=["emoji only", "bidi marks", "5,000 plain", "5,000 capitals", "quotes"],
)
def test_strange_texts_arrive_whole(text: str, parts: int) -> None:
    assert "".join(map(read, parts_of(text, 1))) == text
    assert len(parts_of(text, 1)) == parts


def test_more_parts_than_can_be_counted_are_not_sent() -> None:
    with pytest.raises(ValueError, match="shorten it"):
        parts_of("È" * 67 * 256, 1)


def test_half_a_surrogate_pair_costs_one_letter_only() -> None:
    assert read(parts_of("Arno \ud83c!", 1)[0]) == "Arno ?!"


def test_where_the_default_alphabet_is_latin_1_its_letters_are_sent_so() -> None:
    (part,) = parts_of("C'è [pericolo]", 1, latin_1=True)
    assert part.body == "C'è [pericolo]".encode("latin-1")
    (part,) = parts_of("10 €", 1, latin_1=True)
    assert part.encoding is Encoding.UCS_2


# ── what people write ───────────────────────────────────────────────────────────────────────────────


@given(WORDS, st.integers(0, 1 << 16), st.booleans(), st.data())
def test_what_we_split_we_read_and_so_we_do_where_letters_are_cut_in_two(
    text: str, reference: int, wide: bool, data: st.DataObject
) -> None:
    parts = parts_of(text, reference, wide=wide)
    alphabet = Alphabet.UCS_2 if parts[0].encoding is Encoding.UCS_2 else Alphabet.GSM_7
    said = [part_said(part.octets) if part.header else (0, 1, 1, part.body) for part in parts]
    assert all(one is not None for one in said)
    assert words_of([one[3] for one in said if one], alphabet) == text
    if len(parts) > 1:
        low = reference & (0xFFFF if wide else 0xFF)
        assert [one[:3] for one in said if one] == [(low, len(parts), n) for n in range(1, len(parts) + 1)]
    whole = b"".join(part.body for part in parts)
    cut = data.draw(st.integers(0, len(whole)))
    assert words_of([whole[:cut], whole[cut:]], alphabet) == text


@given(st.binary(max_size=200), st.sampled_from(Alphabet), st.integers(0, 255))
def test_any_octets_are_read_as_something(octets: bytes, alphabet: Alphabet, coding: int) -> None:
    words_of([octets], alphabet)
    alphabet_of(coding)
    said = part_said(octets)
    assert said is None or 1 <= said[2] <= said[1] <= 255


@pytest.mark.parametrize(
    ("coding", "alphabet"),
    [
        (0x00, Alphabet.GSM_7),
        (0x01, Alphabet.LATIN_1),
        (0x03, Alphabet.LATIN_1),
        (0x08, Alphabet.UCS_2),
        (0x04, None),  # octets
        (0x0D, None),  # Kanji
        (0x10, Alphabet.GSM_7),  # shown at once
        (0x14, None),
        (0x18, Alphabet.UCS_2),
        (0xC8, Alphabet.GSM_7),  # a waiting voicemail
        (0xE0, Alphabet.UCS_2),
        (0xF1, Alphabet.GSM_7),
        (0xF5, None),
    ],
)
def test_a_data_coding_says_which_letters_these_are(coding: int, alphabet: Alphabet | None) -> None:
    assert alphabet_of(coding) is alphabet


def test_an_smsc_whose_default_is_latin_1_is_read_so_whether_it_was_said_or_not() -> None:
    assert alphabet_of(0, latin_1=True) is Alphabet.LATIN_1
    assert words_of(["C'è acqua".encode("latin-1")], Alphabet.GSM_7) == "C'è acqua"


def test_a_part_that_cannot_be_is_a_text_of_its_own() -> None:
    for impossible in (b"\x05\x00\x03\x07\x03\x05Attiva", b"\x05\x00\x03\x07\x00\x00Attiva"):
        assert part_said(impossible) == (0, 1, 1, b"Attiva")
