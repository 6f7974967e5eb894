"""A text as an SMSC is given it: the octets of each part, and which part of which text it is."""

from dataclasses import dataclass

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


def parts_of(text: str, reference: int, *, wide: bool = False, latin_1: bool = False) -> tuple[Part, ...]:
    """The parts of a text. `reference` tells texts apart that reach one telephone together; its low bits are used.

    `wide` has 16 bits of it in place of 8. `latin_1` is for an SMSC that takes its default alphabet for that: a
    letter it lacks makes the text UCS-2. Raises ValueError for more parts than can be counted.
    """
    encoding = gsm.encoding_of(text)
    if latin_1 and not _in_latin_1(text):
        encoding = Encoding.UCS_2
    pieces = gsm.split(text, encoding, gsm.IN_PARTS_WIDE if wide else gsm.IN_PARTS)
    if len(pieces) > MOST_PARTS:
        raise ValueError(f"a text of {len(pieces)} parts cannot be sent: shorten it to {MOST_PARTS}")
    if len(pieces) == 1:
        return (Part(encoding, b"", _encoded(text, encoding, latin_1)),)
    return tuple(
        Part(encoding, _header(reference, len(pieces), number, wide), _encoded(piece, encoding, latin_1))
        for number, piece in enumerate(pieces, start=1)
    )


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


def in_letters_of_sms(text: str) -> str:
    """As Italians write it without the letters that would double its price; as it was where these do not reach."""
    written = gsm.transliterated(text)
    return written if gsm.encoding_of(written) is Encoding.GSM_7 else text
