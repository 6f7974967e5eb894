"""What CAP travels in: Atom and RSS feeds, EDXL-DE distributions. The messages in them, and the links to more."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from lxml import etree

from alerting.cap_xml.grammar import NAMESPACES
from alerting.cap_xml.parsing import DOCUMENT, FEED, parse
from alerting.cap_xml.reading import Document, Verdict, read_element
from alerting.cap_xml.rules import Report, Rule
from alerting.cap_xml.structure import line_of
from alerting.domain.findings import Finding

MOST_MESSAGES, MOST_LINKS = 1_000, 10_000
ATOM = "{http://www.w3.org/2005/Atom}"
CAP_TYPES = ("application/cap+xml", "application/common-alerting-protocol+xml")
"""The registered type, and one that is seen as well."""


@dataclass(frozen=True, slots=True)
class Link:
    """One entry of a feed that points elsewhere: where, the entry's own id, and when it was changed, as written."""

    href: str
    id: str
    updated: str


@dataclass(frozen=True, slots=True)
class Enveloped:
    """What one feed or distribution holds: each message as read and as bytes, in its order; what it links to; and
    what is to be said of the envelope itself."""

    documents: tuple[Document, ...]
    raws: tuple[bytes, ...]
    links: tuple[Link, ...]
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> Verdict:
        """The gravest of its messages; of links alone there is nothing to judge."""
        verdicts = {document.verdict for document in self.documents}
        grave = (Verdict.REJECT, Verdict.WARN, Verdict.ACCEPT, Verdict.IGNORE)
        return next((verdict for verdict in grave if verdict in verdicts), Verdict.IGNORE)


def opened(raw: bytes) -> Enveloped | None:
    """None when the bytes are no envelope: a bare CAP message, or nothing that can be read. Never raises for them."""
    report = Report()
    root = parse(raw, FEED, report)
    return _open(root, report) if root is not None and _kind(root) else None


def examine(raw: bytes) -> Document | Enveloped:
    """Whichever of the two it is, parsed once."""
    report = Report()
    root = parse(raw, FEED, report)
    if root is None:
        return Document("", None, report.findings(), signed=False)
    if _kind(root):
        return _open(root, report)
    if len(raw) > DOCUMENT.size:
        largest = DOCUMENT.size // 1_000_000
        report.add(Rule.TOO_LARGE, None, f"the message is larger than {largest} MB; send less at once")
        return Document("", None, report.findings(), signed=False)
    return read_element(root, report)


def _kind(root: etree._Element) -> str:
    """What the envelope is called; empty for what is none."""
    namespace, _, local = str(root.tag).rpartition("}")
    match local:
        case "feed" if namespace == ATOM.rstrip("}"):
            return "Atom feed"
        case "entry" if namespace == ATOM.rstrip("}"):
            return "Atom entry"
        case "rss" | "RDF":
            return "RSS feed"
        case "EDXLDistribution" | "edxlDistribution":
            return "EDXL distribution"
        case _:
            return ""


def _open(root: etree._Element, report: Report) -> Enveloped:
    found = list(islice(_messages(root), MOST_MESSAGES + 1))
    documents = tuple(read_element(message, Report()) for message in found[:MOST_MESSAGES])
    raws = tuple(_bytes(message) for message in found[:MOST_MESSAGES])
    links = tuple(islice(_links(root), MOST_LINKS + 1))
    line, kind = line_of(root), _kind(root)
    held = f"{len(documents)} CAP message{'s' * (len(documents) != 1)} and {len(links)} link{'s' * (len(links) != 1)}"
    report.add(Rule.ENVELOPE, line, f"this is an {kind} with {held}")
    if not documents:
        report.add(Rule.ENVELOPE_LINKS_ONLY, line, f"the {kind} holds no CAP message itself; fetch what it links to")
    if len(found) > MOST_MESSAGES or len(links) > MOST_LINKS:
        report.add(
            Rule.ENVELOPE_TOO_MANY,
            line,
            f"only the first {MOST_MESSAGES:,} messages and {MOST_LINKS:,} links are read; publish what is in force",
        )
    return Enveloped(documents, raws, links[:MOST_LINKS], report.findings())


def _messages(root: etree._Element) -> Iterator[etree._Element]:
    """The alerts inside. One that stands inside another is that one's own affair."""
    for alert in root.iter("{*}alert"):
        namespace = str(alert.tag).rpartition("}")[0].removeprefix("{")
        if namespace not in NAMESPACES and "cap" not in namespace.lower():
            continue
        if not any(str(above.tag).rpartition("}")[2] == "alert" for above in alert.iterancestors()):
            yield alert


def _bytes(message: etree._Element) -> bytes:
    return etree.tostring(message, encoding="utf-8", xml_declaration=True, with_tail=False)


def _links(root: etree._Element) -> Iterator[Link]:
    for entry in root.iter(f"{ATOM}entry"):
        said = _said(entry, ATOM)
        href = _best(entry) or (said["id"] if said["id"].startswith(("http://", "https://")) else "")
        if href:
            yield Link(href, said["id"], said["updated"] or said["published"])
    for item in root.iter("item", "{http://purl.org/rss/1.0/}item"):
        space = "{http://purl.org/rss/1.0/}" if str(item.tag).startswith("{") else ""
        said = _said(item, space)
        enclosed = next((e.get("url", "") for e in item.iter("enclosure") if e.get("type") in CAP_TYPES), "")
        if href := enclosed or said["link"]:
            yield Link(href, said["guid"], said["pubDate"])


def _said(entry: etree._Element, space: str) -> dict[str, str]:
    names = ("id", "updated", "published", "link", "guid", "pubDate")
    return {name: (entry.findtext(space + name) or "").strip() for name in names}


def _best(entry: etree._Element) -> str:
    """The link to the CAP message: by its type, else the alternate, else any that is not the feed or its hub."""
    links = [
        (link.get("rel", "alternate"), link.get("type", ""), link.get("href", "")) for link in entry.iter(f"{ATOM}link")
    ]
    for fits in (
        lambda rel, kind: kind in CAP_TYPES,
        lambda rel, kind: rel == "alternate",
        lambda rel, kind: rel not in ("self", "hub", "edit"),
    ):
        if href := next((href for rel, kind, href in links if href and fits(rel, kind)), ""):
            return href.strip()
    return ""
