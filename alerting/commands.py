"""The system's own commands, from migrate to dead-letters; its processes too, so that help names them."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from alerting import (
    atlas,
    audit,
    authorities,
    cap_command,
    comune_command,
    dead_letters_command,
    growth,
    monthly,
    monthly_page,
    processes,
    subscribers_command,
)
from alerting.actors import COMMAND_LINE, Role
from alerting.enrolling import enrol
from alerting.persistence import Database
from alerting.persistence.migrations import migrate as migrating
from alerting.processes import run
from alerting.retention import forget
from alerting.sealing import Seal
from alerting.settings import Settings
from alerting.vapid import Vapid

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
app.add_typer(processes.app)
app.add_typer(cap_command.app, name="cap")
app.add_typer(comune_command.app, name="comune")
app.add_typer(subscribers_command.app, name="subscribers")
app.add_typer(dead_letters_command.app, name="dead-letters")


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

    run(work)


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

    run(work)


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

    run(work)


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

    run(work)


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
        for suffix, written in (("html", monthly_page.page(found)), ("csv", monthly.rows(found))):
            file = out / f"avvisi-{comune}-{span.name}.{suffix}"
            file.write_text(written, encoding="utf-8", newline="")
            typer.echo(str(file))

    run(work)
