"""`dead-letters`: look at what nobody could work on; say it again, or dismiss it."""

import json
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import dead_letters
from alerting.actors import COMMAND_LINE
from alerting.domain.lanes import Lane
from alerting.persistence import Database
from alerting.processes import run
from alerting.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Look at what nobody could work on; say it again, or dismiss it.")

SHOWN = 8_000  # bytes of a dead letter
Number = Annotated[int, typer.Argument(help="The number of a letter, as `list` shows it.")]


@app.command(name="list")
def list_letters(
    lane: Annotated[Lane | None, typer.Option(help="Only those of a lane.")] = None,
    why: Annotated[str | None, typer.Option(help="Only those of a kind, as orphan.")] = None,
    ended: Annotated[bool, typer.Option("--ended", help="Also those replayed or dismissed.")] = False,
    before: Annotated[int | None, typer.Option(help="Older than this number: the next page.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
) -> None:
    """The newest that wait for somebody."""

    async def work(session: AsyncSession) -> None:
        rows = await dead_letters.find_some(
            session, lane=lane, why=why, open_only=not ended, before=before, most=limit + 1
        )
        table = Table("Number", "When (UTC)", "Lane", "Why", "What was wrong", "Queue", "Ended")
        for row in rows[:limit]:
            ending = "replayed" if row.replayed else "dismissed" if row.ended_at else ""
            cells = (str(row.id), f"{row.at:%F %T}", str(row.lane), row.why, row.sentence, row.queue, ending)
            table.add_row(*(escape(_harmless(cell)) for cell in cells))
        console = Console()
        console.print(table if rows else "There are no dead letters.")
        if len(rows) > limit:
            console.print(f"There are more: --before {rows[limit - 1].id}")

    _tend(work)


@app.command()
def show(number: Number) -> None:
    """One of them, whole."""

    async def work(session: AsyncSession) -> None:
        row = await dead_letters.find(session, number)
        table = Table("", "", show_header=False)
        for name, value in (
            ("number", row.id),
            ("when (UTC)", f"{row.at:%F %T}"),
            ("lane", row.lane),
            ("why", f"{row.why}: {row.sentence}"),
            ("queue", row.queue),
            ("exchange, routing key", f"{row.exchange}, {row.routing_key}"),
            ("message id", row.message_id),
            ("headers", json.dumps(row.headers, ensure_ascii=False)),
            ("ended", f"{row.ended_at:%F %T} by {row.ended_by}" if row.ended_at else "no"),
            ("body", f"{len(row.body):,} bytes"),
        ):
            table.add_row(name, escape(_harmless(str(value))))
        console = Console()
        console.print(table)
        console.print(_harmless(row.body[:SHOWN].decode(errors="replace")), markup=False, highlight=False)

    _tend(work)


@app.command()
def replay(
    number: Annotated[int | None, typer.Argument(help="The number of a letter; or give --why.")] = None,
    why: Annotated[str | None, typer.Option(help="All of this kind, as orphan; 500 at a time.")] = None,
) -> None:
    """Say it again, in its lane. Find out first whether what was wrong has gone: else it comes back."""
    if (number is None) == (why is None):
        raise typer.BadParameter("say which: one number, or --why with a kind")

    async def work(session: AsyncSession) -> None:
        now = datetime.now(UTC)
        if number is not None:
            row = await dead_letters.replay(session, number, who=COMMAND_LINE, now=now)
            typer.echo(f"dead letter {row.id} is said again in lane {row.lane}")
            return
        assert why is not None
        done = await dead_letters.replay_all(session, why, who=COMMAND_LINE, now=now)
        typer.echo(f"said again: {len(done.replayed)}; not ours or not readable, and still there: {done.unreadable}")
        if len(done.replayed) == dead_letters.MOST_AT_ONCE:
            typer.echo("There may be more: give the same command again.")

    _tend(work)


@app.command()
def dismiss(number: Number) -> None:
    """Nothing more is to be done about it. It stays in the database."""

    async def work(session: AsyncSession) -> None:
        row = await dead_letters.dismiss(session, number, who=COMMAND_LINE, now=datetime.now(UTC))
        typer.echo(f"dead letter {row.id} is dismissed")

    _tend(work)


def _tend(work: Callable[[AsyncSession], Coroutine[Any, Any, None]]) -> None:
    """In one transaction; a refusal is said in its sentence, and ends with 1."""

    async def tending(settings: Settings) -> None:
        database = Database(settings.database)
        try:
            async with database.write() as session:
                await work(session)
        except (dead_letters.NoSuchLetter, dead_letters.AlreadyEnded, dead_letters.NotReplayable) as refused:
            typer.echo(str(refused), err=True)
            raise typer.Exit(1) from None
        finally:
            await database.close()

    run(tending)


def _harmless(text: str) -> str:
    """Without what a terminal would obey: anybody may have written it."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "\ufffd" for letter in text)
