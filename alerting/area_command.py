"""`python -m geo import | list | end`: outlines of areas into the database, with a report of every one of them."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sqlalchemy import select
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import atlas, logs, surveying
from alerting.actors import COMMAND_LINE
from alerting.domain.areas import AreaState
from alerting.persistence import Database, tables
from alerting.settings import MissingSetting, Settings
from alerting.surveying import Change, NoSuchArea, What, WholeTerritory
from geo.areas import AreaKind
from geo.boundaries import BoundariesRefused, Reading, read_boundaries
from geo.layouts import Layer

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)

SHOWN = 40
PIPED = 160  # characters
WORDS = {What.NEW: "new", What.FOLLOWS: "follows another", What.SAME: "same as before"}


@app.command(name="import")
def import_file(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="GeoJSON; Shapefile, GeoPackage, .zip.")],
    kind: Annotated[AreaKind | None, typer.Option(help="What the areas are.")] = None,
    name: Annotated[str | None, typer.Option(help="The property with their names; =text for the text itself.")] = None,
    code: Annotated[str | None, typer.Option(help="The property with their codes; without it they are made.")] = None,
    parent: Annotated[str | None, typer.Option(help="The property with the comune's code, or the code itself.")] = None,
    radius_km: Annotated[float | None, typer.Option(help="How far around a point the place reaches.")] = None,
    buffer_m: Annotated[float | None, typer.Option(help="How far on both sides of a line: a street, a river.")] = None,
    crs: Annotated[str | None, typer.Option(help="For a file that does not say its own, as EPSG:32632.")] = None,
    layer: Annotated[str | None, typer.Option(help="Of a GeoPackage that has several.")] = None,
    encoding: Annotated[str | None, typer.Option(help="Of a Shapefile's texts, as cp1252.")] = None,
    source: Annotated[str, typer.Option(help="Whose the outlines are, and of when.")] = "",
    licence: Annotated[str, typer.Option(help="As in CC-BY-4.0.")] = "",
    demonstration: Annotated[bool, typer.Option("--demonstration", help="They are not the real boundaries.")] = False,
    valid_from: Annotated[datetime | None, typer.Option(help="They serve from then on, UTC; else at once.")] = None,
    skip_refused: Annotated[bool, typer.Option("--skip-refused", help="Take the others; else all or none.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and change nothing.")] = False,
    show_all: Annotated[bool, typer.Option("--all", help=f"Show every area; else {SHOWN} at most.")] = False,
) -> None:
    """Read a file of boundaries, check and repair it, and keep what is new. May be run again."""
    said = Layer(kind, name, code, parent, radius_km, buffer_m, source, licence, demonstration, crs, layer, encoding)
    begins = valid_from and valid_from.replace(tzinfo=UTC)

    async def work(session: AsyncSession) -> None:
        reading = read_boundaries(
            file,
            said,
            await atlas.serving(session, *AreaKind),
            renamed=dict((await session.execute(select(tables.Authority.istat, tables.Authority.code))).all()),
            skip_refused=skip_refused,
        )
        now = datetime.now(UTC)
        if dry_run:
            changes = await surveying.plan(session, reading.areas)
        else:
            changes = await surveying.take(session, reading.areas, now=now, valid_from=begins)
            await surveying.record(session, changes, actor=COMMAND_LINE, now=now)
        _report(file, reading, changes, most=len(changes) if show_all else SHOWN, dry=dry_run)

    _run(work, writes=not dry_run)


@app.command(name="list")
def list_areas(
    authority: Annotated[str | None, typer.Option(help="Only those of one.")] = None,
    kind: Annotated[AreaKind | None, typer.Option(help="Only those of a kind.")] = None,
    versions: Annotated[bool, typer.Option("--versions", help="Also those that serve no more.")] = False,
) -> None:
    """The areas there are, and those that are being prepared."""

    async def work(session: AsyncSession) -> None:
        area = tables.Area
        states = AreaState if versions else (AreaState.PREPARING, AreaState.SERVING)
        query = select(area).where(area.state.in_(states)).order_by(area.kind, area.code, area.version)
        if authority:
            query = query.where(area.authority == authority)
        if kind:
            query = query.where(area.kind == kind)
        table = Table("Code", "Version", "State", "Kind", "Name", "Of", "From (UTC)", "Source")
        for row in await session.scalars(query):
            source = f"{row.source} ({row.licence})" if row.licence else row.source
            cells = (row.code, str(row.version), str(row.state), str(row.kind), row.name, row.authority or "")
            real = "demonstration: " if row.demonstration else ""
            table.add_row(*map(escape, cells), f"{row.valid_from:%F %H:%M}", escape(real + source))
        _console().print(table if table.row_count else "There are no such areas: `python -m geo import` brings some.")

    _run(work, writes=False)


@app.command()
def end(code: Annotated[str, typer.Argument(help="The code of an area, as `list` shows it.")]) -> None:
    """The area is no more: it cannot be named. Whoever had named only that is told of everything from now on."""

    async def work(session: AsyncSession) -> None:
        told = await surveying.end(session, code, actor=COMMAND_LINE, now=datetime.now(UTC))
        typer.echo(f"{code} has ended. People who had named nothing else, and are told of everything now: {told}")

    _run(work)


# ── the report ──────────────────────────────────────────────────────────────────────────────────────


def _report(file: Path, reading: Reading, changes: tuple[Change, ...], *, most: int, dry: bool) -> None:
    console = _console()
    told = [
        (row, change)
        for row, change in zip(reading.rows(), changes, strict=True)
        if most > SHOWN or change.what is not What.SAME
    ]
    if told:
        table = Table("Feature", "Code", "Name", "Kind", "Parent", "km²", "Corners", "Version", "")
        for row, change in told[:most]:
            cells = (str(row.feature), row.code, row.name, str(row.kind), row.parent or "", f"{row.km2:.2f}")
            table.add_row(*map(escape, cells), str(row.vertices), str(change.area.version), WORDS[change.what])
        console.print(table)
    if len(told) > most:
        console.print(f"and {len(told) - most} more: --all shows them.")
    for finding in reading.repaired:
        _say(console, f"repaired: {finding}")
    for finding in reading.skipped:
        _say(console, f"left out: {finding}")
    for note in (note for change in changes for note in change.notes):
        _say(console, f"look at: {note}")
    count = {what: sum(change.what is what for change in changes) for what in What}
    layout = f", read as {reading.layout}" if reading.layout else ""
    repaired = len({finding.feature for finding in reading.repaired})
    _say(console, f"{file.name}{layout}, in {reading.crs}: {len(changes)} areas.")
    _say(
        console,
        f"{count[What.NEW]} new, {count[What.FOLLOWS]} that follow another, {count[What.SAME]} the same as before; "
        f"{repaired} repaired, {len(reading.skipped)} left out.",
    )
    if dry:
        _say(console, "Nothing was changed: that was a dry run.")
    elif owned := sum(change.what is not What.SAME and change.authority is not None for change in changes):
        _say(
            console,
            f"For {owned} of them it is worked out in the background who is inside; what served goes on serving "
            "meanwhile. `python -m geo list` shows how it stands.",
        )


def _console() -> Console:
    """As wide as the terminal; in a file or a pipe wide enough for a row."""
    console = Console()
    return console if console.is_terminal else Console(width=PIPED)


def _say(console: Console, sentence: str) -> None:
    console.print(sentence, markup=False, highlight=False)


def _run(work: Callable[[AsyncSession], Coroutine[Any, Any, None]], *, writes: bool = True) -> None:
    """In one transaction: a refusal is said in its sentences, changes nothing, and ends with 1."""

    async def working() -> None:
        database = Database(Settings().database)
        try:
            async with database.write() if writes else database.read() as session:
                await work(session)
        finally:
            await database.close()

    logs.configure("plain")
    try:
        asyncio.run(working())
    except (BoundariesRefused, NoSuchArea, WholeTerritory, MissingSetting, OSError) as refused:
        _refuse(str(refused))
    except (OperationalError, ProgrammingError) as away:
        _refuse(f"the database does not answer as it should ({away.orig}); has `python -m alerting migrate` been run?")


def _refuse(sentence: str) -> None:
    typer.echo(sentence, err=True)
    raise typer.Exit(1)
