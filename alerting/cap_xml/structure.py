"""Whether a message is built as its version's grammar says: order, number, names, and the type of each value."""

from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple, assert_never

from lxml import etree

from alerting.cap_xml.grammar import GRAMMARS, SIGNATURE, Grammar, Kind, Part
from alerting.cap_xml.parsing import SPACE
from alerting.cap_xml.rules import Report, Rule
from alerting.cap_xml.values import Form, is_language, is_uri, read_decimal, read_integer, read_time

MOST_INFOS, MOST_AREAS = 200, 5_000
MOST_ATTRIBUTES = 30
"""Of one element, and then it is clear enough that it should have none."""
SHOWN = 60
AT_THE_END = 1_000
"""A position after every element there is: that of a signature."""
SCHEMA_POINTERS = {
    "{http://www.w3.org/2001/XMLSchema-instance}schemaLocation",
    "{http://www.w3.org/2001/XMLSchema-instance}noNamespaceSchemaLocation",
}
_WITH_ATTRIBUTES = etree.XPath("descendant-or-self::*[@*][not(ancestor-or-self::ds:*)]", namespaces={"ds": SIGNATURE})


class Leaf(NamedTuple):
    """An element that holds a value: what it holds, as written, and where."""

    text: str
    line: int


NOTHING = Leaf("", 0)


@dataclass(slots=True)
class Block:
    """An element that holds others: an alert, an info, an area …"""

    line: int
    leaves: dict[str, list[Leaf]] = field(default_factory=dict)
    blocks: dict[str, list["Block"]] = field(default_factory=dict)

    def first(self, name: str) -> Leaf | None:
        """The first of this name that says something; else the first."""
        leaves = self.leaves.get(name, ())
        return next((leaf for leaf in leaves if leaf.text.strip(SPACE)), leaves[0] if leaves else None)

    def text(self, name: str) -> str:
        """What the first of this name says, without the white space around it."""
        return (self.first(name) or NOTHING).text.strip(SPACE)

    def all(self, name: str) -> list[Leaf]:
        return self.leaves.get(name, [])

    def within(self, name: str) -> list["Block"]:
        return self.blocks.get(name, [])


def quoted(text: str) -> str:
    """What was written, for a sentence: a little of it, on one line, nothing a terminal would obey."""
    flat = "".join(letter if letter.isprintable() else " " for letter in text[: 4 * SHOWN])
    flat = " ".join(flat.split())
    return f"“{flat[:SHOWN]}…”" if len(flat) > SHOWN or len(text) > 4 * SHOWN else f"“{flat}”"


class Walk:
    """One walk over one message. It goes no deeper than the grammar does."""

    def __init__(self, version: str, namespace: str, report: Report) -> None:
        self.version, self.report = version, report
        grammar: Grammar = GRAMMARS[version]
        prefix = f"{{{namespace}}}" if namespace else ""
        self.parts = {block: {prefix + part.name: part for part in parts} for block, parts in grammar.items()}
        self.required = {block: [part for part in parts if part.required] for block, parts in grammar.items()}
        self.signed = False
        self.areas = 0

    def alert(self, root: etree._Element) -> Block:
        self._attributes(root)
        return self._block(root, "alert")

    def _block(self, element: etree._Element, name: str) -> Block:
        block = Block(line_of(element))
        parts, reached, furthest = self.parts[name], -1, ""
        self._no_text(element.text, name, block.line)
        for child in element:
            tag = str(child.tag)
            part = parts.get(tag)
            if child.tail and (tail := child.tail.strip(SPACE)):
                self._no_text(tail, name, line_of(child))
            if part is None:
                reached = self._stranger(child, tag, name, reached)
                furthest = "the signature" if reached == AT_THE_END else furthest
                continue
            if part.position < reached:
                self.report.add(
                    Rule.ELEMENT_ORDER,
                    line_of(child),
                    f"<{part.name}> comes too late; in CAP {self.version} it stands before {furthest}",
                )
            else:
                reached, furthest = part.position, f"<{part.name}>"
            self._take(child, part, block)
        self._count(block, name)
        return block

    def _take(self, child: etree._Element, part: Part, block: Block) -> None:
        match part.holds:
            case str(inner):
                if inner == "area":
                    self.areas += 1
                held = block.blocks.setdefault(part.name, [])
                if (inner == "area" and self.areas > MOST_AREAS) or (inner == "info" and len(held) >= MOST_INFOS):
                    rule = Rule.AREAS_TOO_MANY if inner == "area" else Rule.INFOS_TOO_MANY
                    if not self.report.has(rule):
                        self.report.add(rule, line_of(child), f"{rule.sentence.rstrip('.')}; send several documents")
                    return
                held.append(self._block(child, inner))
            case Kind() | tuple() as holds:
                leaf = self._leaf(child, part)
                self._type(leaf, part.name, holds)
                block.leaves.setdefault(part.name, []).append(leaf)
            case _:
                assert_never(part.holds)

    def _leaf(self, element: etree._Element, part: Part) -> Leaf:
        line = line_of(element)
        if len(element):
            inner = _local(str(element[0].tag))
            self.report.add(Rule.ELEMENT_UNKNOWN, line, f"<{part.name}> holds a text, not <{inner}>; write it plainly")
            return Leaf("".join(map(str, element.itertext())), line)
        return Leaf(element.text or "", line)

    def _stranger(self, child: etree._Element, tag: str, name: str, reached: int) -> int:
        """An element that has no place here: a signature at the end of an alert of CAP 1.2 is welcome all the same."""
        line, local = line_of(child), _local(tag)
        if not tag.startswith(f"{{{SIGNATURE}}}"):
            self.report.add(
                Rule.ELEMENT_UNKNOWN,
                line,
                f"CAP {self.version} has no <{local}> in <{name}>; use a parameter, or leave it out",
            )
            return reached
        self.signed = self.signed or (name == "alert" and local == "Signature")
        if name != "alert" or self.version != "1.2":
            self.report.add(
                Rule.ELEMENT_UNKNOWN,
                line,
                f"CAP {self.version} has no place for <{local}> in <{name}>; sign a message of CAP 1.2",
            )
            return reached
        return AT_THE_END

    def _count(self, block: Block, name: str) -> None:
        for part in self.required[name]:
            if part.name not in block.leaves and part.name not in block.blocks:
                self.report.add(Rule.ELEMENT_MISSING, block.line, f"<{name}> has no <{part.name}>; add it")
        for part in self.parts[name].values():
            if not part.many and len(block.leaves.get(part.name, ())) > 1:
                again = block.leaves[part.name][1]
                self.report.add(
                    Rule.ELEMENT_REPEATED, again.line, f"<{part.name}> stands more than once in <{name}>; keep one"
                )

    def _no_text(self, text: str | None, name: str, line: int) -> None:
        if text and (text := text.strip(SPACE)):
            self.report.add(
                Rule.TEXT_MISPLACED, line, f"{quoted(text)} stands in <{name}> outside of any element; take it out"
            )

    def _attributes(self, root: etree._Element) -> None:
        found: Any = _WITH_ATTRIBUTES(root)
        for element in found:
            for name in islice(element.attrib, MOST_ATTRIBUTES):
                if name not in SCHEMA_POINTERS:
                    self.report.add(
                        Rule.ATTRIBUTE_UNKNOWN,
                        line_of(element),
                        f"<{_local(str(element.tag))}> has an attribute {_local(str(name))}; CAP has none, take it out",
                    )

    def _type(self, leaf: Leaf, name: str, holds: Kind | tuple[str, ...]) -> None:
        if isinstance(holds, tuple):
            if leaf.text not in holds:
                self._not_listed(leaf, name, holds)
            return
        match holds:
            case Kind.TEXT:
                pass
            case Kind.TIME:
                self._time(leaf, name)
            case Kind.LANGUAGE:
                if not is_language(leaf.text):
                    self._say(Rule.LANGUAGE_MALFORMED, leaf, name, "is no language code; write it as it-IT")
            case Kind.URI:
                if not is_uri(leaf.text):
                    self._say(Rule.URI_MALFORMED, leaf, name, "is no address; write it as https://…")
                elif any(space in leaf.text.strip(SPACE) for space in SPACE):
                    self._say(Rule.URI_SPACES, leaf, name, "has spaces; write %20 for each, or take them out")
            case Kind.INTEGER:
                if read_integer(leaf.text) is None:
                    self._say(Rule.INTEGER_MALFORMED, leaf, name, "is no whole number; write digits only")
            case Kind.DECIMAL:
                if read_decimal(leaf.text) is None:
                    self._say(Rule.DECIMAL_MALFORMED, leaf, name, "is no decimal number; write it as 1200.5")
            case _:
                assert_never(holds)

    def _not_listed(self, leaf: Leaf, name: str, words: tuple[str, ...]) -> None:
        meant = next((word for word in words if word.lower() == leaf.text.strip().lower()), None)
        advice = f"write {meant}" if meant else f"write one of {', '.join(words)}"
        self._say(Rule.VALUE_UNKNOWN, leaf, name, f"is not on the list; {advice}")

    def _time(self, leaf: Leaf, name: str) -> None:
        time = read_time(leaf.text)
        if time is None:
            self._say(Rule.TIME_MALFORMED, leaf, name, "is no time; write it as 2026-11-21T09:00:00+01:00")
            return
        if time.plus_zero:
            self._say(Rule.TIME_PLUS_ZERO, leaf, name, "gives UTC as +00:00; write -00:00")
        match time.form:
            case Form.CAP:
                pass
            case Form.NAIVE:
                self._say(Rule.TIME_NAIVE, leaf, name, "has no offset, it was read as UTC; add it, as +01:00")
            case Form.ZULU | Form.FRACTION if self.version == "1.0":
                self._say(Rule.TIME_LOOSE, leaf, name, f"is written {time.form.value}; write -00:00 and whole seconds")
            case Form.ZULU:
                self._say(Rule.TIME_ZULU, leaf, name, "ends in Z; write the offset in numbers, as +01:00 or -00:00")
            case Form.FRACTION:
                self._say(Rule.TIME_FRACTION, leaf, name, "has a fraction of a second; write whole seconds")
            case _:
                assert_never(time.form)

    def _say(self, rule: Rule, leaf: Leaf, name: str, what: str) -> None:
        self.report.add(rule, leaf.line, f"<{name}> {quoted(leaf.text)} {what}")


def line_of(element: etree._Element) -> int:
    """Counted from 1 in the document it was read from."""
    line: Any = element.sourceline
    return int(line or 1)


def _local(tag: str) -> str:
    return quoted(tag.rpartition("}")[2])[1:-1]
