"""An address is either one a person reads, or a sentence that says why not and shows nothing of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.domain.recipients import (
    EMAIL,
    LONGEST_EMAIL,
    NOWHERE,
    AddressError,
    Phone,
    Place,
    Precision,
    email_address,
    from_wa_id,
    mask,
    phone,
    reads_texts,
    telegram_chat,
    to_wa_id,
)
from geo.shapes import Point


@pytest.mark.parametrize(
    "written",
    ["3336492690", "333 649 26 90", "333.6492690", "+39 333-6492690", "0039 3336492690", "tel:+393336492690",
     "\u202a+39 333 649 2690\u202c", "３３３６４９２６９０", "(333) 649/2690"],
)  # fmt: skip
def test_a_mobile_number_is_understood_however_it_is_written(written: str) -> None:
    assert phone(written) == Phone("+393336492690")


def test_an_old_mobile_number_of_nine_digits_is_still_one() -> None:
    assert phone("335 385843") == Phone("+39335385843")


def test_a_landline_is_kept_and_flagged_with_its_zero() -> None:
    assert phone("0587 265442") == Phone("+390587265442", landline=True)


def test_a_foreign_number_keeps_its_prefix() -> None:
    assert phone("+44 7911 123456").e164 == "+447911123456"


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("", "not a telephone number"),
        ("Mario", "not a telephone number"),
        ("333ABC2690", "not a telephone number"),
        ("3336492690 int. 4", "not a telephone number"),
        ("+393336492690\x00", "not a telephone number"),
        ("3" * 41, "not a telephone number"),
        ("+", "not a telephone number"),
        ("112", "no telephone has this number"),
        ("333 649", "no telephone has this number"),
        ("+39 333 6492690 333", "no telephone has this number"),
        ("800 017728", "a green number"),
        ("899 123456", "a premium number"),
    ],
)
def test_what_nobody_answers_is_refused_with_the_reason(written: str, why: str) -> None:
    with pytest.raises(AddressError, match=why):
        phone(written)


def test_a_wa_id_is_read_as_international_even_where_it_looks_italian() -> None:
    assert from_wa_id("393336492690") == Phone("+393336492690")
    # Of ten digits, beginning with 393: a mobile number when typed, Italy's prefix and a short number here.
    assert phone("3933364926").e164 == "+393933364926"
    assert from_wa_id("3933364926").e164 == "+3933364926"


def test_a_wa_id_comes_back_as_it_went() -> None:
    assert to_wa_id(from_wa_id("393336492690").e164) == "393336492690"


@pytest.mark.parametrize(
    "wa_id", ["", "39333", "IT.134912086", "39333649269012345", "٣٩٣٣٣٦٤٩٢٦٩٠", "0000000000", "39 333"]
)
def test_a_wa_id_that_is_none_is_refused(wa_id: str) -> None:
    with pytest.raises(AddressError, match="wa_id"):
        from_wa_id(wa_id)


@given(st.text(max_size=50) | st.from_regex(r"\+?[0-9 ]{1,45}", fullmatch=True))
def test_an_error_never_repeats_the_address(written: str) -> None:
    for read in (phone, from_wa_id, telegram_chat):
        try:
            read(written)
        except AddressError as error:
            assert len(written.strip()) < 6 or written not in str(error)
            assert error.__cause__ is None


def test_a_phone_does_not_print_itself() -> None:
    assert "6492" not in repr(Phone("+393336492690"))


@pytest.mark.parametrize(
    ("chat", "stored"),
    [(123456789, "123456789"), ("123456789", "123456789"), (-1001234567890, "-1001234567890"),
     (" @comunecalcinaia ", "@comunecalcinaia"), (2**52 - 1, str(2**52 - 1))],
)  # fmt: skip
def test_a_telegram_chat_is_a_number_or_a_channels_name(chat: int | str, stored: str) -> None:
    assert telegram_chat(chat) == stored


@pytest.mark.parametrize(
    "chat",
    [
        0,
        "0",
        "",
        "-",
        "12.5",
        "1e9",
        2**52,
        -(2**52),
        "@abc",
        "@9comune",
        "@comune calcinaia",
        "t.me/x",
        "١٢٣",
    ],
)
def test_what_is_no_chat_is_refused(chat: int | str) -> None:
    with pytest.raises(AddressError, match="Telegram"):
        telegram_chat(chat)


@pytest.mark.parametrize(
    ("address", "shown"),
    [("+393336492690", "+39 … 90"), ("+447911123456", "+44 … 56"),
     ("123456789", "… 89"), ("-1001234567890", "… 90"),
     ("@comunecalcinaia", "@… ia"), ("12345", "…"), ("", "…"), ("+00000000", "… 00")],
)  # fmt: skip
def test_a_masked_address_shows_two_characters_at_most(address: str, shown: str) -> None:
    assert mask(address) == shown


@given(st.text(max_size=40))
def test_masking_never_fails_and_never_shows_more_than_the_ends(text: str) -> None:
    assert len(mask(text)) <= 9


def test_a_place_is_as_precise_as_what_it_holds() -> None:
    fornacette = Place(Precision.FRAZIONE, areas=("calcinaia.fornacette",))
    assert fornacette.point is None
    assert Place(Precision.ADDRESS, point=Point(43.6702, 10.5851)).areas == ()
    assert NOWHERE.precision is Precision.NONE


@pytest.mark.parametrize(
    ("precision", "areas", "point"),
    [
        (Precision.NONE, ("calcinaia",), None),
        (Precision.NONE, (), Point(43.67, 10.58)),
        (Precision.COMUNE, (), None),
        (Precision.FRAZIONE, (), Point(43.67, 10.58)),
        (Precision.ADDRESS, ("calcinaia",), None),
    ],
)
def test_a_place_that_promises_more_than_it_holds_is_refused(
    precision: Precision, areas: tuple[str, ...], point: Point | None
) -> None:
    with pytest.raises(ValueError, match=f"precision {precision} needs"):
        Place(precision, areas, point)


# ── e-mail ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("Maria.Rossi@Esempio.IT", "maria.rossi@esempio.it"),
        (" mailto:maria@esempio.it ", "maria@esempio.it"),
        ("maria+allerte@esempio.it", "maria+allerte@esempio.it"),
        ("maria@città.it", "maria@xn--citt-3na.it"),
        ("maria@straße.de", "maria@xn--strae-oqa.de"),
        ("ｍａｒｉａ＠esempio.it", "maria@esempio.it"),
        ("\u202amaria@esempio.it\u202c", "maria@esempio.it"),
        ("maria@posta.comune.bientina.pi.it", "maria@posta.comune.bientina.pi.it"),
    ],
)
def test_an_e_mail_address_is_stored_as_dns_and_servers_know_it(written: str, stored: str) -> None:
    assert email_address(written) == stored
    assert EMAIL.fullmatch(stored)


@pytest.mark.parametrize(
    "written",
    ["", "maria", "maria@", "@esempio.it", "maria@esempio", "maria@@esempio.it", "maria rossi@esempio.it",
     "maria@esempio..it", ".maria@esempio.it", "maria.@esempio.it", "maria@-esempio.it", "maria@127.0.0.1",
     "maria@[127.0.0.1]", '"maria rossi"@esempio.it', "perché@esempio.it", "maria@esempio.it\r\nBcc: x@y.it",
     "maria@esempio.it>", "<maria@esempio.it>", "maria,rossi@esempio.it", "m" * 65 + "@esempio.it",
     "m@" + ("a" * 60 + ".") * 4 + "esempio.it", "m@" + "a" * 64 + ".it", "🌊@esempio.it"],
)  # fmt: skip
def test_what_no_mail_reaches_is_no_address(written: str) -> None:
    with pytest.raises(AddressError) as refused:
        email_address(written)
    assert "rossi" not in str(refused.value) and "127" not in str(refused.value)


@given(st.text(max_size=40).map(lambda text: text + "@esempio.it") | st.text(max_size=300))
def test_whatever_is_stored_is_one_word_and_short_enough(written: str) -> None:
    try:
        address = email_address(written)
    except AddressError:
        return
    assert EMAIL.fullmatch(address) and address == email_address(address)
    assert address.isascii() and address.isprintable() and len(address.split()) == 1
    assert len(address) <= LONGEST_EMAIL and address.count("@") == 1


def test_a_mask_shows_nothing_of_an_e_mail_address() -> None:
    assert mask("maria.rossi@esempio.it") == mask("luca@posta.example") == "…@…"


@pytest.mark.parametrize(
    ("address", "reads"),
    [
        ("+393331234567", True),
        ("+447400123456", True),
        ("+12025550123", True),  # of American numbers nobody can tell
        ("+390587265442", False),
        ("+33142685300", False),
        ("+99912345678", False),
        ("3331234567", False),
        ("+39 333 1234567", False),
        ("", False),
        ("@comunecalcinaia", False),
    ],
)
def test_a_text_message_is_read_on_a_mobile_of_some_country_only(address: str, reads: bool) -> None:
    assert reads_texts(address) is reads
