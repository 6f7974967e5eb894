"""From the bytes of one CAP message to what it says, all that is wrong with it, and a verdict. Never an exception."""

from dataclasses import dataclass
from enum import Enum

from lxml import etree

from alerting.cap_xml.checking import check
from alerting.cap_xml.grammar import NAMESPACES
from alerting.cap_xml.parsing import DOCUMENT, parse
from alerting.cap_xml.rules import Report, Rule
from alerting.cap_xml.structure import Walk, line_of, quoted
from alerting.cap_xml.understanding import understand
from alerting.domain import cap
from alerting.domain.findings import Finding, Weight


class Verdict(Enum):
    """What becomes of a message, before any source's policy is asked."""

    ACCEPT = "accept"
    WARN = "warn"
    IGNORE = "ignore"
    REJECT = "reject"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Document:
    """One CAP message as it was read.

    `version` is 1.2, 1.1 or 1.0, and empty when it could not be told. `alert` is None when it is not understood who
    sent it, when, and what it is; else as much as could be, even of a rejected one: then with what was meant by a
    misspelled word, UNKNOWN where nothing was said, and without shapes that are none. `signed` says that it carries a
    signature, which is not verified here.
    """

    version: str
    alert: cap.Alert | None
    findings: tuple[Finding, ...]
    signed: bool

    @property
    def verdict(self) -> Verdict:
        """By the gravest finding; a valid message that is not Actual is nothing for the public."""
        weights = {finding.weight for finding in self.findings}
        if Weight.ERROR in weights or self.alert is None:
            return Verdict.REJECT
        if self.alert.status is not cap.Status.ACTUAL:
            return Verdict.IGNORE
        return Verdict.WARN if Weight.WARNING in weights else Verdict.ACCEPT


def read(raw: bytes) -> Document:
    """Of CAP 1.2, 1.1 and 1.0. Bounded in time and memory whatever the bytes are."""
    report = Report()
    root = parse(raw, DOCUMENT, report)
    return Document("", None, report.findings(), signed=False) if root is None else read_element(root, report)


def read_element(root: etree._Element, report: Report) -> Document:
    """The message that this element is; `report` holds what parsing it found."""
    namespace, _, local = str(root.tag).rpartition("}")
    namespace = namespace.removeprefix("{")
    line = line_of(root)
    if local != "alert":
        report.add(Rule.NOT_CAP, line, f"the outermost element is {quoted(local)}, not an alert; hand in CAP")
        return Document("", None, report.findings(), signed=False)
    version = NAMESPACES.get(namespace, "")
    if not version:
        report.add(
            Rule.NAMESPACE_UNKNOWN, line, f"{quoted(namespace)} is no version of CAP; write {next(iter(NAMESPACES))}"
        )
    grammar = version or "1.2"
    walk = Walk(grammar, namespace, report)
    block = walk.alert(root)
    alert = understand(block, grammar, report)
    check(block, alert, report)
    if walk.signed:
        report.add(Rule.SIGNED, block.line, "the message is signed; whether the signature is good is not asked here")
    return Document(version, alert, report.findings(), walk.signed)
