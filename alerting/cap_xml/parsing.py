"""From bytes that anybody may have written to an XML tree, or a finding. Nothing is fetched, nothing expands."""

import re
from dataclasses import dataclass

from lxml import etree

from alerting.cap_xml.rules import Report, Rule

MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may be handed in at once."""

    size: int
    tags: int


DOCUMENT = Bounds(size=5 * MEGABYTE, tags=100_000)
FEED = Bounds(size=20 * MEGABYTE, tags=200_000)
DEEPEST = 32

RESOURCE_LIMIT = 114
"""What libxml2 answers beyond its own bounds on nesting and on the length of a text (XML_ERR_RESOURCE_LIMIT)."""

SPACE = " \t\r\n"
"""What XML holds to be white space: less than Python does."""

_PACKED = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
_MARKS = {  # UTF-32 first: its little-endian mark begins as that of UTF-16 does
    b"\xff\xfe\x00\x00": "utf-32-le",
    b"\x00\x00\xfe\xff": "utf-32-be",
    b"\xef\xbb\xbf": "utf-8",
    b"\xff\xfe": "utf-16-le",
    b"\xfe\xff": "utf-16-be",
}
_STARTS = {  # how "<" looks without a mark (XML 1.0, appendix F)
    b"<\x00\x00\x00": "utf-32-le",
    b"\x00\x00\x00<": "utf-32-be",
    b"<\x00": "utf-16-le",
    b"\x00<": "utf-16-be",
}
_CODECS = (
    {"utf-8": "utf-8", "utf8": "utf-8", "us-ascii": "ascii", "ascii": "ascii", "latin1": "iso-8859-1"}
    | {f"iso-8859-{part}": f"iso-8859-{part}" for part in range(1, 17) if part != 12}
    | {f"windows-{page}": f"cp{page}" for page in range(1250, 1259)}
)
_WIDE = {"utf-16": "utf-16", "utf-16le": "utf-16-le", "utf-16be": "utf-16-be", "utf-32": "utf-32"}

_ENCODING = re.compile(rb"<\?xml[^>]{0,200}?encoding[ \t\r\n]*=[ \t\r\n]*[\"']([A-Za-z0-9._-]{1,40})[\"']")
_DECLARATION = re.compile(
    r"<\?xml[ \t\r\n]+version[ \t\r\n]*=[ \t\r\n]*(?:'1\.[01]'|\"1\.[01]\")"
    r"(?:[ \t\r\n]+encoding[ \t\r\n]*=[ \t\r\n]*(?:'[A-Za-z][A-Za-z0-9._-]*'|\"[A-Za-z][A-Za-z0-9._-]*\"))?"
    r"(?:[ \t\r\n]+standalone[ \t\r\n]*=[ \t\r\n]*(?:'(?:yes|no)'|\"(?:yes|no)\"))?"
    r"[ \t\r\n]*\?>"
)
_TOO_DEEP = etree.XPath("boolean(" + "/*" * (DEEPEST + 1) + ")")


def parse(raw: bytes, bounds: Bounds, report: Report) -> etree._Element | None:
    """The outermost element. None with a finding where the bytes are no XML, or XML that is not taken."""
    if len(raw) > bounds.size:
        largest = bounds.size // MEGABYTE
        report.add(Rule.TOO_LARGE, None, f"the document is larger than {largest} MB; send less at once")
        return None
    text = _decoded(raw, report)
    if text is None:
        return None
    text = _without_declaration(text, report)
    if text is None:
        return None
    if (at := _doctype(text)) is not None:
        line = text.count("\n", 0, at) + 1
        report.add(Rule.DOCTYPE, line, "the document has a document type declaration; take out the <!DOCTYPE …> part")
        return None
    if (tags := text.count("<")) > 2 * bounds.tags:
        report.add(Rule.ELEMENTS_TOO_MANY, None, f"the document has some {tags // 2:,} elements; send less at once")
        return None
    return _tree(text, report)


def _decoded(raw: bytes, report: Report) -> str | None:
    if not raw.strip():
        report.add(Rule.EMPTY, None, "the document is empty")
        return None
    for magic, name in _PACKED.items():
        if raw.startswith(magic):
            report.add(Rule.COMPRESSED, None, f"the document is packed with {name}; unpack it first")
            return None
    codec = _codec(raw, report)
    if codec is None:
        return None
    try:
        return raw.decode(codec).removeprefix("\ufeff")
    except UnicodeDecodeError as wrong:
        line = raw.count(b"\n", 0, wrong.start) + 1
        report.add(
            Rule.ENCODING,
            line,
            f"byte {wrong.start + 1:,} is not {codec}; save the document as UTF-8, or declare the encoding it has",
        )
        return None


def _codec(raw: bytes, report: Report) -> str | None:
    """What the bytes are written in: the mark says it, else how they begin, else the declaration, else UTF-8."""
    seen = next((codec for mark, codec in _MARKS.items() if raw.startswith(mark)), None) or next(
        (codec for start, codec in _STARTS.items() if raw.startswith(start)), None
    )
    head = raw[:1024].replace(b"\x00", b"").removeprefix(b"\xef\xbb\xbf").removeprefix(b"\xff\xfe")
    found = _ENCODING.match(head.removeprefix(b"\xfe\xff"))
    declared = found[1].decode("ascii").lower() if found else None
    codec = _CODECS.get(declared) if declared else None
    if declared is None or (seen == "utf-8" == codec):
        return seen or "utf-8"
    wide = _WIDE.get(declared)
    if seen and wide and seen.startswith(wide):
        return seen
    if codec and not seen:
        return codec
    if seen or wide:
        report.add(
            Rule.ENCODING,
            1,
            f"the document declares {declared} and is written in {seen or 'something else'}; mend either",
        )
    else:
        report.add(Rule.ENCODING, 1, f"the document declares {declared}, which is not read; save it as UTF-8")
    return None


def _without_declaration(text: str, report: Report) -> str | None:
    """As many lines as before, and nothing that contradicts the UTF-8 in which the parser is given it."""
    if not text.startswith(("<?xml ", "<?xml\t", "<?xml\r", "<?xml\n")):
        return text
    found = _DECLARATION.match(text)
    if not found:
        report.add(Rule.XML_MALFORMED, 1, 'the first line is not an XML declaration; write <?xml version="1.0"?>')
        return None
    return "\n" * found[0].count("\n") + text[found.end() :]


def _doctype(text: str) -> int | None:
    """Where the document type declaration stands, if there is one: only comments and instructions come before it."""
    at = 0
    while True:
        while at < len(text) and text[at] in SPACE:
            at += 1
        if text.startswith("<!--", at):
            end = text.find("-->", at + 4)
        elif text.startswith("<?", at):
            end = text.find("?>", at + 2)
        else:
            return at if text[at : at + 9].upper() == "<!DOCTYPE" else None
        if end < 0:
            return None
        at = end + 2 + text.startswith("-->", end)


def _tree(text: str, report: Report) -> etree._Element | None:
    parser = etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(text.encode("utf-8"), parser)
    except etree.XMLSyntaxError as wrong:
        limit = getattr(wrong, "code", None) == RESOURCE_LIMIT
        said = " ".join((wrong.msg or "nothing can be read").split())[:160]
        report.add(
            Rule.TOO_DEEP if limit else Rule.XML_MALFORMED,
            wrong.lineno or None,
            f"the XML cannot be read: {said}",
        )
        return None
    if root.getroottree().docinfo.internalDTD is not None:
        report.add(Rule.DOCTYPE, None, "the document has a document type declaration; take it out")
        return None
    if _TOO_DEEP(root):
        report.add(Rule.TOO_DEEP, None, f"elements are nested more than {DEEPEST} deep; CAP needs five levels")
        return None
    return root
