"""The HTML that Telegram takes, read as its server reads it: to plain text, or to its very words of refusal."""

import html
import re

TAGS = frozenset(
    {"b", "strong", "i", "em", "u", "ins", "s", "strike", "del", "tg-spoiler", "span", "a", "code", "pre"}
    | {"blockquote", "tg-emoji"}
)
"""https://core.telegram.org/bots/api#html-style, read November 2026."""
TAG = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9-]*)((?:\s[^<>]*)?)>")


class BadMarkup(ValueError):
    """What the server says of markup it cannot read, behind "can't parse entities: "."""


def plain(marked: str) -> str:
    """The text without its tags, which is what the limits count. Raises BadMarkup."""
    said: list[str] = []
    open_tags: list[tuple[str, int]] = []
    at = 0
    while (bracket := marked.find("<", at)) >= 0:
        said.append(marked[at:bracket])
        offset = len(marked[:bracket].encode())
        found = TAG.match(marked, bracket)
        if found is None:
            begins = re.match(r"</?([^\s<>/]*)", marked[bracket:])
            name = begins[1].lower() if begins else ""
            if name in TAGS:
                raise BadMarkup(f'Unclosed start tag "{name}" at byte offset {offset}')
            raise BadMarkup(f'Unsupported start tag "{name}" at byte offset {offset}')
        closes, name = found[1] == "/", found[2].lower()
        if closes:
            if not open_tags:
                raise BadMarkup(f"Unexpected end tag at byte offset {offset}")
            expected, _ = open_tags.pop()
            if expected != name:
                raise BadMarkup(
                    f'Unmatched end tag at byte offset {offset}, expected "</{expected}>", found "</{name}>"'
                )
        elif name not in TAGS:
            raise BadMarkup(f'Unsupported start tag "{name}" at byte offset {offset}')
        else:
            open_tags.append((name, offset))
        at = found.end()
    said.append(marked[at:])
    if open_tags:
        name, _ = open_tags[-1]
        raise BadMarkup(f'Can\'t find end tag corresponding to start tag "{name}"')
    return html.unescape("".join(said))
