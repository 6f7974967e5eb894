"""`python -m consumers.local`: a demo that ends by itself, the whole stack, or only its two servers."""

import os
import signal
from pathlib import Path
from typing import Annotated

import typer

from consumers.local.services import NoBroker, NoDatabase, postgresql, rabbitmq
from consumers.local.serving import AlreadyRunning, ServerDied

app = typer.Typer(help="The system on one machine.", no_args_is_help=True, pretty_exceptions_show_locals=False)


@app.command()
def demo() -> None:
    """An emergency overtakes event news that was already going out; ends by itself, with the figures."""
    from consumers.local.demo import run

    raise typer.Exit(run())


@app.command()
def up() -> None:
    """The whole stack in the foreground, with simulated providers, until Ctrl-C."""
    from consumers.local.stack import up as run_stack

    raise typer.Exit(run_stack())


@app.command()
def services(
    where: Annotated[Path, typer.Option(help="Folder for the data and logs of servers that are started.")],
) -> None:
    """RabbitMQ and PostgreSQL only: prints the addresses of both and stays until Ctrl-C."""
    with (
        rabbitmq(where, os.environ.get("AMQP_URL"), keep=True) as amqp,
        postgresql(where, os.environ.get("DATABASE_URL"), keep=True) as database,
    ):
        print(f"AMQP_URL={amqp}", f"DATABASE_URL={database}", sep="\n", flush=True)
        asked = {signal.SIGINT, signal.SIGTERM}
        signal.pthread_sigmask(signal.SIG_BLOCK, asked)
        signal.sigwait(asked)


def main() -> None:
    """Run the command; what cannot be had is said in words, not with a traceback."""
    try:
        app()
    except (NoBroker, NoDatabase, ServerDied, AlreadyRunning) as problem:
        typer.echo(str(problem), err=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
