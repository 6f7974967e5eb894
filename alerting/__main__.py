"""The system's own commands: `python -m alerting api | relay | migrate | token | audit`."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
import uvicorn
import uvloop

from alerting import audit, authorities, logs, metrics
from alerting.amqp import Link, declares
from alerting.enrolling import enrol
from alerting.issuing import Role
from alerting.outbox import relay as relaying
from alerting.persistence import Database
from alerting.persistence import migrate as migrating
from alerting.sealing import Seal
from alerting.settings import Settings
from alerting.topology import topology

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)


@app.command()
def api() -> None:
    """Serve the HTTP API."""
    from alerting.api.app import create_app

    settings = _settings()
    uvicorn.run(
        create_app(settings),
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
        metrics.serve(settings.metrics_host, settings.metrics_port)
        link = Link(settings.amqp, "relay")
        declares(link, topology(settings.amqp_prefix))
        link.start()
        await relaying(Database(settings.database), link, settings.amqp_prefix)

    _run(work)


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


def _settings() -> Settings:
    settings = Settings()
    logs.configure(settings.log_format)
    return settings


def _run(work: Callable[[Settings], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work(_settings()))


def main() -> None:
    """The console script."""
    app()


if __name__ == "__main__":
    main()
