"""What comes from outside is only words once it is in: no markup, nothing invisible, nothing endless."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.domain.plain_text import cleaned, one_line, shortened, visible, without_markup


@pytest.mark.parametrize(
    ("raw", "read"),
    [
        ("<p>L'Arno <b>sale</b>.</p><p>Restare in casa.</p>", "L'Arno sale.\n\nRestare in casa."),
        ("Prima riga<br/>seconda<BR>terza", "Prima riga\nseconda\nterza"),
        ("livello &lt; 3 m &amp; in calo&nbsp;lento", "livello < 3 m & in calo lento"),
        ("&lt;script&gt;alert(1)&lt;/script&gt;Evacuare", "Evacuare"),
        ("<script>var a='<b>';</script>Evacuare<style>p{}</style>.", "Evacuare."),
        ("<script>mai chiuso", ""),
        ("vento <3 m/s e a < b > c", "vento <3 m/s e a < b > c"),
        ("info: <https://www.comune.calcinaia.pi.it>", "info: https://www.comune.calcinaia.pi.it"),
        ("<![CDATA[Piena a Fornacette]]>", "Piena a Fornacette]]>"),
        ("Piena<!-- nota interna --> a Fornacette", "Piena a Fornacette"),
        ('<a href="https://trappola.example/?x=>">clic</a>', '">clic'),
        ("<o:p>Da Word</o:p>", "Da Word"),
        ("due  spazi\t\te\u00a0uno\n\n\n\nparagrafo", "due spazi e uno\n\nparagrafo"),
        ("Piena\u202e ad inganno\u2066 qui\u200f", "Piena ad inganno qui"),
        ("zero\u200blarghezza e so\u00adffice\ufeff", "zerolarghezza e soffice"),
        ("campana\x07 e \x1b[31mrosso", "campana e [31mrosso"),
        ("👨\u200d👩\u200d👧 in casa", "👨\u200d👩\u200d👧 in casa"),
        ("riga\r\nriga\rriga\u2028riga", "riga\nriga\nriga\nriga"),
        ("E\u0300 colma", "È colma"),
        ("", ""),
    ],
)
def test_what_others_write_becomes_words(raw: str, read: str) -> None:
    assert cleaned(raw, 1000) == read


@given(st.text(max_size=300) | st.text(alphabet="<>/!-ab&;lt pscript\n\u202e", max_size=300), st.integers(1, 200))
def test_whatever_comes_is_bounded_and_holds_nothing_invisible(raw: str, most: int) -> None:
    plain = cleaned(raw, most)
    assert len(plain) <= most
    assert visible(plain) == plain
    assert plain == plain.strip()
    assert "  " not in plain and "\n\n\n" not in plain


@given(st.text(max_size=200))
def test_one_line_is_one_line(raw: str) -> None:
    line = one_line(raw)
    assert line.splitlines() in ([line], [])
    assert line == " ".join(line.split())
    assert one_line(line) == line


@pytest.mark.parametrize(
    "unit", ["<", "<a ", "<!--", "<script>", "</", "&lt;", "<b>" * 3, "<![CDATA[", "<http://", "\u202e"]
)
def test_a_text_made_to_take_for_ever_takes_no_time(unit: str) -> None:
    started = time.perf_counter()
    cleaned(unit * 200_000, 10_000)
    assert time.perf_counter() - started < 3


def test_words_between_signs_are_left_alone() -> None:
    assert without_markup("se a<b, allora b>a") == "se a<b, allora b>a"
    assert without_markup("Fornacette") == "Fornacette"


@pytest.mark.parametrize(
    ("most", "read"),
    [
        (200, "Lascia i piani bassi. Non usare i sottopassi. Chiama il 112 se serve."),
        (60, "Lascia i piani bassi. Non usare i sottopassi."),
        (45, "Lascia i piani bassi. Non usare i sottopassi."),
        (44, "Lascia i piani bassi. Non usare i…"),
        (25, "Lascia i piani bassi."),
        (14, "Lascia i…"),
        (5, "Lasc…"),
    ],
)
def test_a_text_is_cut_after_a_sentence_or_after_a_word(most: int, read: str) -> None:
    assert shortened("Lascia i piani bassi. Non usare i sottopassi. Chiama il 112 se serve.", most) == read


def test_a_cut_does_not_take_an_abbreviation_for_the_end_of_a_sentence() -> None:
    assert shortened("Si va in P.zza S. Andrea e alle 14. 30 minuti dopo si torna a casa.", 40) == (
        "Si va in P.zza S. Andrea e alle 14. 30…"
    )


@given(st.text(max_size=300), st.integers(3, 200))
def test_a_shortened_text_is_never_wider_than_asked(text: str, most: int) -> None:
    def wide(letter: str) -> int:
        return 2 if letter > "\uffff" else 1

    assert sum(map(wide, shortened(text, most, width=wide, ellipsis="..."))) <= most
