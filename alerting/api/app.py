"""The wiring of the API: parts, routers, the edge. Nothing is decided here."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from importlib.metadata import version

from fastapi import FastAPI
from sqlalchemy.exc import SQLAlchemyError

from alerting import atlas, authorities, metrics, priority, signatures
from alerting.amqp import Link, Publisher
from alerting.api import (
    alerts,
    areas,
    attachments,
    bookings,
    cap,
    choices,
    costs,
    dead_letters,
    desk,
    growth,
    imports,
    intake,
    notices,
    own_data,
    pages,
    panels,
    published,
    push,
    recipients,
    reports,
    sources,
    status,
    unsubscribing,
    webhooks,
)
from alerting.api.edge import Edge
from alerting.api.openapi import PREFIX, describes_itself
from alerting.api.parts import Parts
from alerting.api.problems import speaks_problems
from alerting.desk.handing import Desks
from alerting.ending import let_go
from alerting.inbox import Keeping
from alerting.intake.receiving import Receiver
from alerting.passing import Passing
from alerting.persistence import Database
from alerting.sealing import Seal
from alerting.settings import Settings
from alerting.signs import Signs
from alerting.sources import load as load_sources


def create_app(settings: Settings) -> FastAPI:
    """The ASGI application. Connects when it starts, and starts without RabbitMQ too: the outbox keeps promises.

    Raises MissingSetting, AuthorityFileError, SourceFileError or SigningFailed before anything is served.
    """
    connected = _connecting(settings, "api")

    @asynccontextmanager
    async def living(app: FastAPI) -> AsyncIterator[None]:
        async with connected() as app.state.parts:
            yield

    app = _application(living, f"{PREFIX}/openapi.json")
    for noun in (
        webhooks,  # first: routes are tried in turn, and of these five hundred a second come
        alerts,
        areas,
        growth,
        imports,
        recipients,
        cap,
        intake,
        pages,
        notices,
        sources,
        dead_letters,
        reports,
        bookings,
        desk,
        unsubscribing,
        choices,
        own_data,
        push,
        status,
    ):
        app.include_router(noun.router, prefix=PREFIX)
    app.include_router(costs.router, prefix=PREFIX)
    app.include_router(attachments.router, prefix=PREFIX)
    app.include_router(attachments.shown, prefix=PREFIX)
    app.include_router(attachments.short)
    app.include_router(panels.router, prefix=PREFIX)
    app.include_router(published.router)
    app.include_router(status.figures)
    describes_itself(app)
    return app


def create_webhooks(settings: Settings) -> FastAPI:
    """What providers post, for a process of its own: a flood of it makes no operator wait, and no alert.

    It gives way to those who carry alerts, and shows how it is where workers do. Raises what `create_app` raises.
    """
    connected = _connecting(settings, "webhooks")

    @asynccontextmanager
    async def living(app: FastAPI) -> AsyncIterator[None]:
        async with connected() as parts:
            app.state.parts = parts
            priority.give_way_beside(parts.database, priority.AFTER_ALERTS)
            signs = Signs("webhooks", parts.database, [parts.link])
            metrics.serve(settings.metrics_host, settings.metrics_port, signs.health)
            giving = asyncio.create_task(signs.give(), name="signs of life")
            yield
            signs.drains()
            await let_go([giving])
            await signs.withdraw()

    app = _application(living, None)
    app.include_router(webhooks.router, prefix=PREFIX)
    return app


def _application(living: Callable[[FastAPI], AbstractAsyncContextManager[None]], openapi_url: str | None) -> FastAPI:
    app = FastAPI(
        version=version("allerta"),
        lifespan=living,
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        openapi_url=openapi_url,
        redirect_slashes=False,
    )
    speaks_problems(app)
    app.add_middleware(Edge)
    return app


def _connecting(settings: Settings, name: str) -> Callable[[], AbstractAsyncContextManager[Parts]]:
    """How the parts are made and connected. Whatever is wrong with the settings is raised now."""
    known = authorities.load(settings.authorities_folder)
    heard, sign = load_sources(settings.sources_folder), signatures.of(settings, known)
    seal, amqp, database_url = Seal(settings.key_bytes), settings.amqp, settings.database
    _ = settings.secrets  # a secrets file that cannot be read is told now, not at the first webhook

    @asynccontextmanager
    async def connected() -> AsyncIterator[Parts]:
        database, link = Database(database_url), Link(amqp, name)
        link.start()
        with suppress(SQLAlchemyError, OSError):  # then they are read as soon as the database is back
            await atlas.refresh(database, known)
        following = asyncio.create_task(atlas.follow(database, known), name="following the atlas")
        receiver = Receiver(database, known, heard, sign)
        publisher = Publisher(link)
        yield Parts(
            settings,
            database,
            known,
            seal,
            link,
            publisher,
            heard,
            sign,
            receiver,
            Keeping(database, seal, Desks(known)),
            Passing(publisher, settings.amqp_prefix),
        )
        await let_go([following])
        await link.stop()
        await database.close()

    return connected
