"""A text as an SMSC is given it, or gives it to us: the octets of each part, and which part of which text it is."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache

from alerting.domain import gsm
from alerting.domain.gsm import Encoding

ESCAPE = "\x1b"
LETTERS = (
    # 3GPP TS 23.038, 6.2.1: the place of a letter is its septet.
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ" + ESCAPE + "ÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
EXTENDED = dict(
    # 3GPP TS 23.038, 6.2.1.1: what follows an escape.
    zip("\f^{}\\[~]|€", (0x0A, 0x14, 0x28, 0x29, 0x2F, 0x3C, 0x3D, 0x3E, 0x40, 0x65), strict=True)
)
SEPTETS = {
    **{letter: bytes((place,)) for place, letter in enumerate(LETTERS) if letter != ESCAPE},
    **{letter: bytes((LETTERS.index(ESCAPE), place)) for letter, place in EXTENDED.items()},
}
MOST_OCTETS = 140
"""Of one part on the air, with what tells which part it is."""
MOST_PARTS = 255
"""One octet counts them."""
TEXTS_KEPT = 64
"""Read once and not for each person: an alert says the same to thousands."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part as it is submitted. `header` says which part of what; empty where the text has one only.

    `body` has one octet for each septet where the text is GSM-7: the SMSC packs them.
    """

    encoding: Encoding
    header: bytes
    body: bytes

    @property
    def octets(self) -> bytes:
        return self.header + self.body

    @property
    def on_the_air(self) -> int:
        """Octets as a telephone receives them: seven bits a septet, which begin on a seventh bit after the header."""
        if self.encoding is Encoding.UCS_2:
            return len(self.header) + len(self.body)
        return (_septets_of(len(self.header)) * 7 + len(self.body) * 7 + 7) // 8


def _septets_of(octets: int) -> int:
    return (octets * 8 + 6) // 7


WITH_RECEIPT = frozenset({"GP", "N"})
"""Kinds of SMS over REST whose delivery is reported, and whose sender may be chosen; of others the provider's own is
seen."""


def parts_of(text: str, reference: int, *, wide: bool = False, latin_1: bool = False) -> tuple[Part, ...]:
    """The parts of a text. `reference` tells texts apart that reach one telephone together; its low bits are used.

    `wide` has 16 bits of it in place of 8. `latin_1` is for an SMSC that takes its default alphabet for that: a
    letter it lacks makes the text UCS-2. Raises ValueError for more parts than can be counted.
    """
    encoding, bodies = _bodies(text, wide, latin_1)
    if len(bodies) > MOST_PARTS:
        raise ValueError(f"a text of {len(bodies)} parts cannot be sent: shorten it to {MOST_PARTS}")
    if len(bodies) == 1:
        return (Part(encoding, b"", bodies[0]),)
    return tuple(
        Part(encoding, _header(reference, len(bodies), number, wide), body)
        for number, body in enumerate(bodies, start=1)
    )


@lru_cache(maxsize=TEXTS_KEPT)
def _bodies(text: str, wide: bool, latin_1: bool) -> tuple[Encoding, tuple[bytes, ...]]:
    """What all who get a text have in common: everything but its reference."""
    encoding = gsm.encoding_of(text)
    if latin_1 and not _in_latin_1(text):
        encoding = Encoding.UCS_2
    pieces = gsm.split(text, encoding, gsm.IN_PARTS_WIDE if wide else gsm.IN_PARTS)
    return encoding, tuple(_encoded(piece, encoding, latin_1) for piece in pieces)


def _header(reference: int, parts: int, number: int, wide: bool) -> bytes:
    """3GPP TS 23.040, 9.2.3.24.1 and 9.2.3.24.8: concatenated short messages."""
    if wide:
        return bytes((6, 8, 4, reference >> 8 & 0xFF, reference & 0xFF, parts, number))
    return bytes((5, 0, 3, reference & 0xFF, parts, number))


def _encoded(text: str, encoding: Encoding, latin_1: bool) -> bytes:
    if encoding is Encoding.UCS_2:
        return text.encode("utf-16-be", "replace")  # half a pair, of which nobody knows the other half
    return text.encode("latin-1") if latin_1 else b"".join(map(SEPTETS.__getitem__, text))


def _in_latin_1(text: str) -> bool:
    return all(letter <= "\xff" for letter in text)


@lru_cache(maxsize=TEXTS_KEPT)
def in_letters_of_sms(text: str) -> str:
    """As Italians write it without the letters that would double its price; as it was where these do not reach."""
    written = gsm.transliterated(text)
    return written if gsm.encoding_of(written) is Encoding.GSM_7 else text


# ── what people write ───────────────────────────────────────────────────────────────────────────────


class Alphabet(Enum):
    """How the octets of a text are to be read."""

    GSM_7 = "gsm-7"  # one septet an octet
    LATIN_1 = "latin-1"
    UCS_2 = "ucs-2"


@dataclass(frozen=True, slots=True)
class Wrote:
    """One part of what a person wrote: part `number` of `parts`, which share a `reference`."""

    sender: str = field(repr=False)
    to: str
    octets: bytes = field(repr=False)
    alphabet: Alphabet
    reference: int = 0
    parts: int = 1
    number: int = 1


LETTER_OF = {octets: letter for letter, octets in SEPTETS.items()}


def alphabet_of(data_coding: int, *, latin_1: bool = False) -> Alphabet | None:
    """How a text with this data_coding is read; None for what are no letters. `latin_1`: what 0 means to this SMSC.

    SMPP 3.4, 5.2.19; from 0x10 on 3GPP TS 23.038, 4, whose letters are those of a telephone.
    """
    by_coding = {
        0: Alphabet.LATIN_1 if latin_1 else Alphabet.GSM_7,
        1: Alphabet.LATIN_1,  # IA5 is the half of it that both have
        3: Alphabet.LATIN_1,
        8: Alphabet.UCS_2,
    }
    if data_coding < 0x10:
        return by_coding.get(data_coding)
    if data_coding < 0x80:
        return (Alphabet.GSM_7, None, Alphabet.UCS_2, None)[data_coding >> 2 & 0b11]
    if data_coding >> 4 in (0xC, 0xD):
        return Alphabet.GSM_7
    if data_coding >> 4 == 0xE:
        return Alphabet.UCS_2
    if data_coding >> 4 == 0xF:
        return None if data_coding & 0b100 else Alphabet.GSM_7
    return None


def part_said(octets: bytes) -> tuple[int, int, int, bytes] | None:
    """Reference, parts, number and body of octets that begin with a header; None where it breaks off.

    A header that speaks of other things is left aside. A part that cannot be, like the fifth of three, is a text of
    its own.
    """
    if not octets or len(octets) <= octets[0]:
        return None
    header, body = octets[1 : octets[0] + 1], octets[octets[0] + 1 :]
    at = 0
    while at + 1 < len(header):
        tag, value = header[at], header[at + 2 : at + 2 + header[at + 1]]
        at += 2 + header[at + 1]
        if (tag, len(value)) in ((0x00, 3), (0x08, 4)):
            *reference, parts, number = value
            if 1 <= number <= parts:
                return int.from_bytes(bytes(reference), "big"), parts, number, body
    return 0, 1, 1, body


def words_of(bodies: Sequence[bytes], alphabet: Alphabet) -> str:
    """What the parts say together: a letter may have been cut in two between them. Never raises."""
    octets = b"".join(bodies)
    match alphabet:
        case Alphabet.UCS_2:
            return octets.decode("utf-16-be", "replace")
        case Alphabet.LATIN_1:
            return octets.decode("latin-1")
        case Alphabet.GSM_7:
            # Septets have no eighth bit: an SMSC that says so and has one takes its default for Latin-1.
            return octets.decode("latin-1") if any(octet > 0x7F for octet in octets) else _from_septets(octets)


def _from_septets(octets: bytes) -> str:
    letters, at, escape = [], 0, LETTERS.index(ESCAPE)
    while at < len(octets):
        width = 2 if octets[at] == escape and at + 1 < len(octets) else 1
        # Of a letter we do not know, TS 23.038 shows the one behind the escape.
        piece = octets[at : at + width]
        letters.append(LETTER_OF.get(piece) or LETTER_OF.get(piece[1:], " "))
        at += width
    return "".join(letters)
