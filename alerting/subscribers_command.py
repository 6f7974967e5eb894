"""`python -m alerting subscribers import`: people are brought along from a list, with proof that they agreed."""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.table import Table

from alerting import authorities, importing, logs
from alerting.actors import COMMAND_LINE
from alerting.domain.delivery import Channel
from alerting.importing import Declared, Finding, Import, NoChannel, Outcome, Tally
from alerting.persistence import Database
from alerting.roster_lines import NoList
from alerting.sealing import Seal
from alerting.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Bring along the people of a list that the comune has already.")


@app.callback()
def subscribers() -> None:
    """Without it the one command would have no name of its own."""


@app.command(name="import")
def bring(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The list, as CSV in any encoding.")],
    comune: Annotated[str, typer.Option(help="The code of the comune, as calcinaia.")],
    proof: Annotated[
        str | None,
        typer.Option(help="The document that all of them agreed, or words that say where it is; else each row has it."),
    ] = None,
    channel: Annotated[Channel | None, typer.Option(help="Where telephones are told; WhatsApp if there is.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look only, write nothing.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Nobody, where one row cannot be taken.")] = False,
    report: Annotated[
        Path | None, typer.Option(dir_okay=False, help="A CSV of the rows that did not simply join.")
    ] = None,
) -> None:
    """Subscribe them; who had left stays away. Rows are named by line, addresses never. 1 where one was refused."""
    settings = Settings()
    logs.configure(settings.log_format)
    known = authorities.load(settings.authorities_folder)
    if comune not in known:
        raise typer.BadParameter(f"there is no comune {comune}: one of {', '.join(known)}", param_hint="--comune")
    what = Import(known[comune], _declared(proof), channel, dry_run=dry_run, strict=strict)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            tally = runner.run(_work(settings, file, what, report))
        except (NoList, NoChannel) as refused:
            typer.echo(f"{file.name}: {refused}", err=True)
            raise typer.Exit(2) from None
    _tell(tally, what)
    if tally.refused:
        raise typer.Exit(1)


def _declared(proof: str | None) -> Declared | None:
    if proof is None:
        return None
    try:
        if _is_file(proof):
            with Path(proof).open("rb") as paper:
                return importing.document(paper)
        return importing.reference(proof)
    except ValueError as wrong:
        raise typer.BadParameter(str(wrong), param_hint="--proof") from None


def _is_file(proof: str) -> bool:
    try:
        return Path(proof).is_file()
    except OSError:  # words may be longer than any name of a file
        return False


async def _work(settings: Settings, file: Path, what: Import, report: Path | None) -> Tally:
    database = Database(settings.database)
    try:
        with ExitStack() as open_files:
            rows = open_files.enter_context(file.open("rb"))
            put: Callable[[Finding], None] = _nothing
            if report:
                # With a mark, by which Excel knows the encoding.
                out = open_files.enter_context(report.open("w", encoding="utf-8-sig", newline=""))
                put = importing.report_to(out)
            return await importing.bring(
                database, rows, what, Seal(settings.key_bytes), actor=COMMAND_LINE, now=datetime.now(UTC), report=put
            )
    finally:
        await database.close()


def _nothing(_: Finding) -> None:
    """Nobody asked for a report."""


def _tell(tally: Tally, what: Import) -> None:
    table = Table("Rows", "", show_header=False)
    for outcome, words in SAID.items():
        table.add_row(words, f"{tally.outcomes[outcome]:,}")
    for why, count in tally.whys.most_common():
        table.add_row(f"  {why.value}", f"{count:,}")
    encodings = ", ".join(f"{encoding.value} {count:,}" for encoding, count in tally.encodings.most_common())
    table.add_row("lines by encoding", encodings)
    table.add_row("columns", ", ".join(tally.columns))
    console = Console()
    console.print(table)
    if what.dry_run:
        console.print("Nothing was written: this was a dry run.")
    elif not tally.written:
        console.print("Nothing was written: the list is strict and has rows that cannot be taken.")


SAID = {
    Outcome.NEW: "joined",
    Outcome.COMPLETED: "were there, and have one address more",
    Outcome.EXISTING: "were there",
    Outcome.TWICE: "stand twice in the list",
    Outcome.HAS_LEFT: "had left, and stay away",
    Outcome.REFUSED: "refused",
}
