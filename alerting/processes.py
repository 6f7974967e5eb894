"""The processes of this package: `python -m alerting api | webhooks | relay | feeds`.

Each imports what it works with, no more.
"""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import typer
import uvloop

from alerting import garbage, logs
from alerting.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

REQUESTS_FINISH_WITHIN = 5  # seconds

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)


@app.command()
def api() -> None:
    """Serve the HTTP API."""
    from alerting.api.app import create_app

    settings = configured()
    _serve(create_app(settings), settings.api_host, settings.api_port)


@app.command()
def webhooks() -> None:
    """Serve what providers post, and nothing else, beside the API: so a flood of it makes no operator wait."""
    from alerting.api.app import create_webhooks

    settings = configured()
    _serve(create_webhooks(settings), settings.api_host, settings.webhooks_port)


@app.command()
def relay() -> None:
    """Take what was promised to RabbitMQ, one task per lane."""
    from alerting import metrics
    from alerting.amqp import Link, declares
    from alerting.ending import Ending, let_go
    from alerting.outbox import FINISH_WITHIN
    from alerting.outbox import relay as relaying
    from alerting.persistence import Database
    from alerting.signs import Signs
    from alerting.topology import topology

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

    run(work)


@app.command()
def feeds() -> None:
    """Ask the sources that have an address, each in its time; call somebody when one is silent."""
    from alerting.feeds.asking import ask_sources

    run(ask_sources)


def _serve(application: "FastAPI", host: str, port: int) -> None:
    """Serve over HTTP until SIGTERM or SIGINT; requests under way have a few seconds then."""
    import uvicorn

    garbage.look_for_seldom()
    # Uvicorn hears it as long as it serves, and ends; then it raises the signal anew, as if we had not.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    uvicorn.run(
        application,
        host=host,
        port=port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=REQUESTS_FINISH_WITHIN,
    )


def configured() -> Settings:
    """The settings, and logs as they say."""
    settings = Settings()
    logs.configure(settings.log_format)
    return settings


def run(work: Callable[[Settings], Coroutine[Any, Any, None]]) -> None:
    """Do it, in an event loop of its own, until it ends."""
    garbage.look_for_seldom()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work(configured()))
