"""The system's own commands, from api and relay to subscribers and dead-letters; and cap, so that help names it."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
import uvicorn
import uvloop
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import (
    atlas,
    audit,
    authorities,
    cap_command,
    comune_command,
    dead_letters,
    garbage,
    growth,
    logs,
    metrics,
    monthly,
    subscribers_command,
)
from alerting.actors import COMMAND_LINE, Role
from alerting.amqp import Link, declares
from alerting.domain.lanes import Lane
from alerting.ending import Ending, let_go
from alerting.enrolling import enrol
from alerting.feeds.asking import ask_sources
from alerting.outbox import FINISH_WITHIN
from alerting.outbox import relay as relaying
from alerting.persistence import Database
from alerting.persistence import migrate as migrating
from alerting.retention import forget
from alerting.sealing import Seal
from alerting.settings import Settings
from alerting.signs import Signs
from alerting.topology import topology
from alerting.vapid import Vapid

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
app.add_typer(cap_command.app, name="cap")
app.add_typer(subscribers_command.app, name="subscribers")

SHOWN = 8_000  # bytes of a dead letter


@app.command()
def api() -> None:
    """Serve the HTTP API."""
    from alerting.api.app import create_app

    settings = _settings()
    serving = create_app(settings)
    garbage.look_for_seldom()
    uvicorn.run(
        serving,
        host=settings.api_host,
        port=settings.api_port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )


@app.command()
def relay() -> None:
    """Take what was promised to RabbitMQ, one task per lane."""

    async def work(settings: Settings) -> None:
        database, link = Database(settings.database), Link(settings.amqp, "relay")
        declares(link, topology(settings.amqp_prefix))
        signs, ending = Signs("relay", database, [link]), Ending()
        ending.hear()
        metrics.serve(settings.metrics_host, settings.metrics_port, signs.health)
        link.start()
        tasks = [
            asyncio.create_task(relaying(database, link, settings.amqp_prefix, ending.asked), name="relaying"),
            asyncio.create_task(signs.give(), name="signs of life"),
        ]
        asked = asyncio.create_task(ending.asked.wait())
        await asyncio.wait([*tasks, asked], return_when=asyncio.FIRST_COMPLETED)
        ending.ask()
        signs.drains()
        await asyncio.wait(tasks[:1], timeout=FINISH_WITHIN if link.is_of_use else 0)
        failed = [error for task in tasks if task.done() and (error := task.exception())]
        await let_go([*tasks, asked])
        await asyncio.gather(signs.withdraw(), link.stop())
        await database.close()
        ending.close(tasks)
        if failed:
            raise failed[0]

    _run(work)


@app.command()
def feeds() -> None:
    """Ask the sources that have an address, each in its time; call somebody when one is silent."""
    _run(ask_sources)


@app.command()
def migrate() -> None:
    """Bring the database to the newest schema, and the authorities' files into it."""

    async def work(settings: Settings) -> None:
        await migrating(settings.database)
        database = Database(settings.database)
        async with database.write() as session:
            await enrol(
                session,
                authorities.load(settings.authorities_folder).values(),
                Seal(settings.key_bytes),
                share_of_limit=settings.share_of_limit,
                now=datetime.now(UTC),
            )
        await database.close()

    _run(work)


@app.command()
def token(
    name: Annotated[str, typer.Option(help="Who it is: a person or a feed. Names are unique.")],
    role: Annotated[Role, typer.Option(help="What they may do.")],
    authority: Annotated[str | None, typer.Option(help="Only for this one; without it, for all.")] = None,
) -> None:
    """Make a token for the API and print it, once: only its hash is kept."""
    from alerting.api.security import create_actor

    async def work(settings: Settings) -> None:
        database = Database(settings.database)
        async with database.write() as session:
            made = await create_actor(session, name=name, role=role, authority=authority, now=datetime.now(UTC))
        await database.close()
        typer.echo(made)

    _run(work)


@app.command()
def retention() -> None:
    """Forget what is due now; `reconcile` does so by itself every few hours."""

    async def work(settings: Settings) -> None:
        database = Database(settings.database)
        try:
            done = await forget(
                database,
                now=datetime.now(UTC),
                months=settings.retention_months,
                days=settings.inbox_days,
                actor=COMMAND_LINE,
            )
        finally:
            await database.close()
        typer.echo(f"forgotten: {done.proofs} proofs, {done.texts} texts, {done.answers} answers")

    _run(work)


@app.command(name="vapid-key")
def vapid_key() -> None:
    """Make a key for a comune's web push and print it, once: `vapid_private_key` of its account in the secrets file."""
    typer.echo(Vapid.new().secret)


@app.command(name="audit")
def check_audit() -> None:
    """Check that no entry of the audit was changed or removed."""

    async def work(settings: Settings) -> None:
        database = Database(settings.database)
        async with database.read() as session:
            broken = await audit.first_break(session)
        await database.close()
        if broken is not None:
            typer.echo(f"entry {broken} does not follow from the one before: the audit was changed", err=True)
            raise typer.Exit(1)
        typer.echo("the audit is whole")

    _run(work)


app.add_typer(comune_command.app, name="comune")


@app.command()
def report(
    comune: Annotated[str, typer.Option(help="The code of the comune, as calcinaia.")],
    month: Annotated[str | None, typer.Option(help="As 2026-11; without it the last that is over.")] = None,
    out: Annotated[Path, typer.Option(file_okay=False, help="The folder they are written to.")] = Path(),
) -> None:
    """Write a comune's month: a page to print, and a CSV. Counts are exact: it is for who runs the service."""

    async def work(settings: Settings) -> None:
        known = authorities.load(settings.authorities_folder)
        if comune not in known:
            raise typer.BadParameter(f"there is no comune {comune}: one of {', '.join(known)}", param_hint="--comune")
        today = growth.day_in_rome(datetime.now(UTC))
        try:
            span = monthly.month_named(month, today)
        except ValueError:
            raise typer.BadParameter(f"{month!r} is no month: write it as 2026-11", param_hint="--month") from None
        database = Database(settings.database)
        await atlas.refresh(database, known)
        async with database.read() as session:
            found = await monthly.read(session, known[comune], span, today, exact=True)
        await database.close()
        out.mkdir(parents=True, exist_ok=True)
        for suffix, written in (("html", monthly.page(found)), ("csv", monthly.rows(found))):
            file = out / f"avvisi-{comune}-{span.name}.{suffix}"
            file.write_text(written, encoding="utf-8", newline="")
            typer.echo(str(file))

    _run(work)


# ── dead letters ────────────────────────────────────────────────────────────────────────────────────

letters = typer.Typer(no_args_is_help=True, help="Look at what nobody could work on; say it again, or dismiss it.")
app.add_typer(letters, name="dead-letters")

Number = Annotated[int, typer.Argument(help="The number of a letter, as `list` shows it.")]


@letters.command(name="list")
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


@letters.command()
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


@letters.command()
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


@letters.command()
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

    _run(tending)


def _harmless(text: str) -> str:
    """Without what a terminal would obey: anybody may have written it."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "\ufffd" for letter in text)


def _settings() -> Settings:
    settings = Settings()
    logs.configure(settings.log_format)
    return settings


def _run(work: Callable[[Settings], Coroutine[Any, Any, None]]) -> None:
    garbage.look_for_seldom()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work(_settings()))
