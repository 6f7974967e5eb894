"""`python -m alerting cap check FILE…`: what is wrong with a CAP document, in which line, and what to do about it."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from alerting.cap_xml.envelopes import Enveloped, examine
from alerting.cap_xml.parsing import FEED
from alerting.cap_xml.reading import Document, Verdict
from alerting.cap_xml.rules import Rule
from alerting.domain.findings import Finding, Weight

app = typer.Typer(no_args_is_help=True, help="Check CAP documents. Needs no settings, no database and no broker.")

COLOURS = {
    Verdict.ACCEPT: typer.colors.GREEN,
    Verdict.WARN: typer.colors.YELLOW,
    Verdict.IGNORE: typer.colors.BLUE,
    Verdict.REJECT: typer.colors.RED,
}
STDIN = "-"


@dataclass(frozen=True, slots=True)
class Checked:
    """One document, or one envelope, as it is reported."""

    file: str
    verdict: Verdict
    findings: tuple[Finding, ...]
    is_envelope: bool = False


@app.command()
def check(
    files: Annotated[list[str], typer.Argument(metavar="FILE…", help="CAP documents or feeds of them; - for stdin.")],
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
    notes: Annotated[bool, typer.Option("--notes", help="Also what is merely notable.")] = False,
) -> None:
    """Say of each document: accept, warn, ignore or reject, and why. 1 if any is rejected, 2 if one cannot be read."""
    checked: list[Checked] = []
    unreadable = False
    for file in files:
        try:
            raw = _bytes(file)
        except OSError as error:
            typer.echo(f"{_harmless(file)} cannot be read: {error.strerror or error}", err=True)
            unreadable = True
            continue
        for one in _checked(file, examine(raw)):
            checked.append(one)
            if not as_json:
                _show(one, notes)
    if as_json:
        typer.echo(json.dumps([_for_machines(one) for one in checked], ensure_ascii=False, indent=2))
    else:
        _sum_up(checked)
    if unreadable:
        raise typer.Exit(2)
    if any(one.verdict is Verdict.REJECT for one in checked):
        raise typer.Exit(1)


@app.command()
def rules() -> None:
    """List every rule: its id, how much it matters, and what it asks for."""
    width = max(len(rule.id) for rule in Rule)
    for rule in Rule:
        typer.echo(f"{rule.id:<{width}}  {rule.weight!s:<7}  {rule.sentence}")


def _bytes(file: str) -> bytes:
    """At most a byte more than is read at all: who sends more is told so."""
    most = FEED.size + 1
    if file == STDIN:
        return sys.stdin.buffer.read(most)
    with Path(file).open("rb") as source:
        return source.read(most)


def _checked(file: str, found: Document | Enveloped) -> Iterator[Checked]:
    if isinstance(found, Document):
        yield Checked(file, found.verdict, found.findings)
        return
    yield Checked(file, found.verdict, found.findings, is_envelope=True)
    for number, document in enumerate(found.documents, start=1):
        yield Checked(f"{file}#{number}", document.verdict, document.findings)


def _for_machines(one: Checked) -> dict[str, object]:
    findings = [
        {"rule": finding.rule, "severity": str(finding.weight), "line": finding.line, "text": finding.text}
        for finding in one.findings
    ]
    return {"file": one.file, "verdict": str(one.verdict), "findings": findings}


def _show(one: Checked, notes: bool) -> None:
    typer.secho(f"{one.verdict!s:<6}  {_harmless(one.file)}", fg=COLOURS[one.verdict])
    for finding in one.findings:
        if finding.weight is Weight.NOTE and not (notes or one.is_envelope):
            continue
        line = f"line {finding.line}" if finding.line else ""
        typer.echo(f"    {line:<11} {finding.weight!s:<8} {finding.rule}: {finding.text}")


def _sum_up(checked: list[Checked]) -> None:
    documents = [one for one in checked if not one.is_envelope]
    said = [f"{count} {verdict}" for verdict in Verdict if (count := sum(one.verdict is verdict for one in documents))]
    typer.echo(f"{len(documents)} CAP document{'s' * (len(documents) != 1)}: {', '.join(said) or 'nothing to judge'}")


def _harmless(text: str) -> str:
    """Without what a terminal would obey: a file may be called anything."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
