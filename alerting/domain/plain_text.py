"""Words from outside, made safe to read: no markup, nothing invisible, and never more than was asked for."""

import html
import re
import unicodedata
from collections.abc import Callable

LONGEST_TAG = 1_000
"""Characters. A "<" with no ">" in reach is a sign for "less than", or somebody who wants us to search for ever."""

WITHOUT_TEXT = ("script", "style", "head", "title", "template")
"""Elements whose content was never meant to be read."""
BREAKING = re.compile(
    r"address|article|aside|blockquote|br|d[dlt]|div|field.*|fig.*|footer|form|h[1-6r]|header|li|main|nav|ol|p|pre|"
    r"section|table|t[dhr]|ul"
)
"""Elements after which a reader sees a new line."""

TAG = re.compile(r"</?([a-zA-Z][\w:-]{0,60})(?=[\s/>])[^>]*>|<![^>]*>|<\?[^>]*>")
LINK = re.compile(r"<((?:https?://|mailto:)[^<>\s]{1,500})>")

JOINERS = frozenset("\u200c\u200d")
"""They join emoji and letters of some scripts; on their own they are harmless."""


def cleaned(text: str, most: int) -> str:
    """What somebody else wrote, as plain text of at most `most` characters, in paragraphs.

    Elements of HTML and XML go, with the whole content of scripts and styles; so does whatever `visible` removes.
    It takes time in proportion to `most`, whatever the text.
    """
    plain = text[: 8 * most]
    for _ in range(2):  # twice: feeds escape their markup, and what is unescaped is markup again
        plain = html.unescape(without_markup(plain))
    lines = (" ".join(line.split()) for line in visible(without_markup(plain)).split("\n"))
    return shortened(re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip(), most)


def without_markup(text: str) -> str:
    """The words between the elements. `<3 metri` and `a < b` are words; `<https://…>` is its address."""
    if "<" not in text:
        return text
    text = LINK.sub(r"\1", text)
    kept, position = [], 0
    while (opening := text.find("<", position)) >= 0:
        kept.append(text[position:opening])
        shown, position = _past(text, opening)
        kept.append(shown)
    return "".join([*kept, text[position:]])


def _past(text: str, opening: int) -> tuple[str, int]:
    """What is shown of the sign at `opening`, and where the text goes on."""
    if text.startswith("<!--", opening):
        closing = text.find("-->", opening)
        return "", closing + 3 if closing >= 0 else len(text)
    if text.startswith("<![CDATA[", opening):
        return "", opening + len("<![CDATA[")
    near = text.find(">", opening, opening + LONGEST_TAG)
    tag = TAG.match(text, opening, near + 1) if near >= 0 else None
    if tag is None:
        return "<", opening + 1
    name = (tag[1] or "").lower()
    if name in WITHOUT_TEXT and tag[0][1] != "/" and not tag[0].endswith("/>"):
        end = re.compile(f"</{name}", re.IGNORECASE).search(text, tag.end())
        return "", end.start() if end else len(text)
    return "\n" if BREAKING.fullmatch(name) else "", tag.end()


def visible(text: str) -> str:
    """Without what no reader sees: controls, marks that turn the direction of writing, halves of characters.

    Lines stay lines, whatever ends them; other space becomes a space.
    """
    if text.isprintable():
        return unicodedata.normalize("NFC", text)
    composed = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    return "".join(letter if letter.isprintable() else _seen(letter) for letter in composed)


def _seen(letter: str) -> str:
    if letter in "\n\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e":
        return "\n"
    if letter in JOINERS:
        return letter
    # Unassigned to the Unicode that we know: an emoji newer than this Python, but never one of the non-characters.
    if unicodedata.category(letter) == "Cn" and not _is_no_character(letter):
        return letter
    return " " if letter == "\t" or unicodedata.category(letter) == "Zs" else ""


def _is_no_character(letter: str) -> bool:
    return ord(letter) & 0xFFFE == 0xFFFE or "\ufdd0" <= letter <= "\ufdef" or "\U000e0000" <= letter <= "\U000e0fff"


def one_line(text: str) -> str:
    """On one line, with single spaces, and nothing invisible."""
    return " ".join(visible(text).split())


# ── shorter ─────────────────────────────────────────────────────────────────────────────────────────

SENTENCE = re.compile(r"(?<=[^\W\d_]{3}[.!?])\s+(?=[^\W\d_a-z]|\d)")
"""Where a sentence ends: after a word, not after "n." or "14." or "P.zza", and before a capital or a figure."""

WORTH_KEEPING = 0.6
"""Of the room, at least: a cut at a sentence that leaves less wastes too much, and one at a word is made instead."""


def _each(letter: str) -> int:
    return len(letter)


def shortened(text: str, most: int, *, width: Callable[[str], int] = _each, ellipsis: str = "…") -> str:
    """At most `most` units wide: cut after a sentence, else after a word and with the ellipsis to say so.

    `width` tells what one letter takes. A word too long for the room is cut itself.
    """
    if len(text) * 2 <= most or sum(map(width, text)) <= most:
        return text
    whole = _prefix(text, most, width)
    ends = [end.start() for end in SENTENCE.finditer(text, 0, len(whole) + 2) if end.start() <= len(whole)]
    if ends and ends[-1] >= WORTH_KEEPING * len(whole):
        return whole[: ends[-1]]
    room = _prefix(text, most - sum(map(width, ellipsis)), width)
    words = room.rpartition(" ")[0] if not text[len(room) :].startswith(" ") else room
    return f"{(words or room).rstrip(' ,;:(-–')}{ellipsis}"


def _prefix(text: str, most: int, width: Callable[[str], int]) -> str:
    taken = 0
    for position, letter in enumerate(text):
        taken += width(letter)
        if taken > most:
            return text[:position]
    return text
