"""A stolen database tells nobody's number, and a changed one is noticed."""

from binascii import unhexlify

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.sealing import Seal, WrongKey

KEY = unhexlify("00112233445566778899aabbccddeeff" * 2)
SEAL = Seal(KEY)
NUMBER = "+393336492690"


@given(st.text(max_size=200))
def test_what_is_sealed_opens_again(text: str) -> None:
    assert SEAL.open(SEAL.seal(text)) == text


def test_the_same_number_is_never_sealed_twice_alike_and_never_shows() -> None:
    sealed = [SEAL.seal(NUMBER) for _ in range(20)]
    assert len(set(sealed)) == 20
    assert not any(NUMBER.encode() in one or NUMBER[3:].encode() in one for one in sealed)


@given(st.integers(0), st.integers(1, 255))
def test_one_changed_byte_anywhere_is_noticed(where: int, by: int) -> None:
    sealed = bytearray(SEAL.seal(NUMBER))
    sealed[where % len(sealed)] ^= by
    with pytest.raises(WrongKey):
        SEAL.open(bytes(sealed))


@given(st.binary(max_size=40))
def test_what_nobody_sealed_does_not_open(garbage: bytes) -> None:
    with pytest.raises(WrongKey, match="ALERTING_KEY"):
        SEAL.open(garbage)


def test_another_key_opens_nothing_and_says_which_setting_to_look_at() -> None:
    with pytest.raises(WrongKey, match="ALERTING_KEY is not the key"):
        Seal(bytes(32)).open(SEAL.seal(NUMBER))


def test_a_fingerprint_finds_a_number_again_under_the_same_key_only() -> None:
    fingerprint = SEAL.fingerprint(NUMBER)
    assert fingerprint == Seal(KEY).fingerprint(NUMBER)
    assert len(fingerprint) == 32
    assert fingerprint != SEAL.fingerprint("+393336492691")
    assert fingerprint != Seal(bytes(32)).fingerprint(NUMBER)
