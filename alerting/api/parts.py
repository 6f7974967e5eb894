"""What every router is given: one of each, made when the process starts."""

from dataclasses import dataclass

from fastapi import Request

from alerting.amqp import Link, Publisher
from alerting.domain.authority import Authority
from alerting.domain.sources import Source
from alerting.inbox import Keeping
from alerting.intake.receiving import Receiver
from alerting.issuing import Sign
from alerting.passing import Passing
from alerting.persistence import Database
from alerting.sealing import Seal
from alerting.settings import Settings


@dataclass(frozen=True, slots=True)
class Parts:
    """The process's own database, seal and RabbitMQ connection; the authorities it speaks for, the sources it hears."""

    settings: Settings
    database: Database
    authorities: dict[str, Authority]
    seal: Seal
    link: Link
    publisher: Publisher
    sources: dict[str, Source]
    sign: Sign
    receiver: Receiver
    inbox: Keeping
    passing: Passing


def public_url(request: Request, parts: Parts) -> str:
    """Where everybody finds this API: as the settings say it, else where this request came to."""
    return (parts.settings.public_url or str(request.base_url)).rstrip("/")


def parts_in(request: Request) -> Parts:
    """The parts of the application a request came to."""
    parts: Parts = request.app.state.parts
    return parts


async def parts_of(request: Request) -> Parts:
    """`parts_in`, as a FastAPI dependency: one that does not await is sent to a thread, and half a call is spent so."""
    return parts_in(request)
