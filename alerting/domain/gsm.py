"""What a text message costs: the alphabet of the telephone network, and what to write where it has no letter."""

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

BASIC = frozenset(
    # 3GPP TS 23.038, 6.2.1, without the escape itself. Of the accents Italian needs, the capitals are missing.
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
EXTENSION = frozenset("\f^{}\\[~]|€")
"""3GPP TS 23.038, 6.2.1.1: an escape and a letter, two septets that stay together."""
ALPHABET = BASIC | EXTENSION


class Encoding(Enum):
    """How a text travels: one letter beyond the 7-bit alphabet, and the whole text takes more than twice the room."""

    GSM_7 = "gsm-7"
    UCS_2 = "ucs-2"

    def __str__(self) -> str:
        return self.value


ALONE = {Encoding.GSM_7: 160, Encoding.UCS_2: 70}
"""The most units of a text in one part: septets, or UTF-16 units (channels.md 3.1)."""
IN_PARTS = {Encoding.GSM_7: 153, Encoding.UCS_2: 67}
"""The most units of each part where there are several: six octets tell which part it is."""
IN_PARTS_WIDE = {Encoding.GSM_7: 152, Encoding.UCS_2: 66}
"""The same where seven octets tell it: a reference number of 16 bits, of which two texts seldom share one."""


@dataclass(frozen=True, slots=True)
class Size:
    """What a text takes as an SMS. `characters` are septets in GSM-7 and UTF-16 units in UCS-2; `parts` are paid."""

    encoding: Encoding
    characters: int
    parts: int


def encoding_of(text: str) -> Encoding:
    """GSM-7 where every letter has a place in its tables."""
    return Encoding.GSM_7 if ALPHABET.issuperset(text) else Encoding.UCS_2


def septets(letter: str) -> int:
    """What one letter of the alphabet takes in GSM-7."""
    return 2 if letter in EXTENSION else 1


def utf16_units(letter: str) -> int:
    """What one letter takes in UTF-16: two beyond the basic plane, as an emoji does."""
    return 2 if letter > "\uffff" else 1


WIDTH: dict[Encoding, Callable[[str], int]] = {Encoding.GSM_7: septets, Encoding.UCS_2: utf16_units}


def split(text: str, encoding: Encoding | None = None, in_parts: Mapping[Encoding, int] = IN_PARTS) -> tuple[str, ...]:
    """The parts of a text, as telephones put them together again; no letter is ever cut in two."""
    encoding = encoding or encoding_of(text)
    if sum(map(WIDTH[encoding], text)) <= ALONE[encoding]:
        return (text,)
    return tuple(_parts(text, WIDTH[encoding], in_parts[encoding]))


def _parts(text: str, width: Callable[[str], int], most: int) -> Iterator[str]:
    start = taken = 0
    for position, letter in enumerate(text):
        if taken + width(letter) > most:
            yield text[start:position]
            start, taken = position, 0
        taken += width(letter)
    yield text[start:]


def size(text: str) -> Size:
    """What a text takes as it stands."""
    encoding = encoding_of(text)
    return Size(encoding, sum(map(WIDTH[encoding], text)), len(split(text)))


def surely(encoding: Encoding, parts: int) -> int:
    """So many units fit `parts` whatever the text: at each seam a letter of two may leave one free."""
    return ALONE[encoding] if parts == 1 else parts * IN_PARTS[encoding] - (parts - 1)


# ── what to write instead ───────────────────────────────────────────────────────────────────────────

INSTEAD = {
    # Italians write an accented capital with an apostrophe where the keyboard has none.
    **dict(zip("ÀÈÌÒÙ", ("A'", "E'", "I'", "O'", "U'"), strict=True)),
    **dict.fromkeys("’‘‚‛′ʼʻ`´ˈ‹›", "'"),
    **dict.fromkeys("“”„‟«»″〝〞", '"'),
    **dict.fromkeys("‐‑‒–—―−⁃•·‣▪●◦", "-"),
    **dict(zip("ªºıłŁđĐðÐħĦŧŦĸəƏ₤¢⁄×÷¦", "aoilLdDdDhHtTkeE£c/x:|", strict=True)),
    **dict(zip("œŒþÞŋŊẞ", ("oe", "OE", "th", "Th", "ng", "Ng", "SS"), strict=True)),
    **dict(
        zip("…№±≤≥→←⇒‰©®", ("...", "n.", "+/-", "<=", ">=", "->", "<-", "=>", " per mille", "(c)", "(r)"), strict=True)
    ),
}

DEGREES = (
    # The sign of degrees is on Italian keyboards, and serves for ordinals too: 1° piano, n° 5.
    (re.compile(r"\bn° ?(?=\d)", re.IGNORECASE), "n. "),
    (re.compile(r"(?<=\d) ?° ?[Cc]\b"), " gradi"),
    (re.compile(r"(?<=[2-9]\d)°|(?<=\d\d\d)°|(?<=[-−]\d)°|(?<=,\d)°"), " gradi"),
    (re.compile(r"°"), "o"),
)
KEPT_IN_SCRIPTS = frozenset("LM")
"""Letters and the marks on them. Whatever else has no place in the alphabet is a sign, and can be left out."""


def transliterated(text: str) -> str:
    """A text in letters of the 7-bit alphabet, as Italians would write it: `È` as `E'`, quotes straight, no emoji.

    Letters of scripts that cannot be written so are left: then `encoding_of` says UCS-2, and the text is better
    sent as it was written.
    """
    composed = unicodedata.normalize("NFC", text)
    if ALPHABET.issuperset(composed):
        return composed
    for pattern, instead in DEGREES:
        composed = pattern.sub(instead, composed)
    written = "".join(letter if letter in ALPHABET else _instead(letter) for letter in composed)
    return re.sub(" {2,}", " ", written)


def _instead(letter: str) -> str:
    if (known := INSTEAD.get(letter)) is not None:
        return known
    bare = (part for part in unicodedata.normalize("NFKD", letter) if not unicodedata.combining(part))
    plain = "".join(INSTEAD.get(part, part) for part in bare)
    if plain and ALPHABET.issuperset(plain):
        return plain
    kind = unicodedata.category(letter)
    if kind == "Nd":
        return str(unicodedata.digit(letter))
    if kind.startswith("Z"):
        return " "
    return letter if kind[0] in KEPT_IN_SCRIPTS and not _is_selector(letter) and kind != "Mn" else ""


def _is_selector(letter: str) -> bool:
    """Whether it only says how an emoji is drawn, or frames a digit."""
    return "\ufe00" <= letter <= "\ufe0f" or letter == "\u20e3"
