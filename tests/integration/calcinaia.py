"""The five comuni in a database of the test's own, and people to be told."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from alerting.actors import Actor, Role
from alerting.authorities import load
from alerting.composing import Wording
from alerting.desk.handing import Desks
from alerting.domain.delivery import Channel
from alerting.domain.kinds import Colour, Kind, Risk
from alerting.enrolling import enrol
from alerting.persistence import Database, tables
from alerting.sealing import Seal
from alerting.subscribing import Subscriber

NOW = datetime(2026, 11, 21, 12, 30, tzinfo=UTC)
AUTHORITIES = load()
CALCINAIA = AUTHORITIES["calcinaia"]
SEAL = Seal(bytes(range(32)))
DESKS = Desks(AUTHORITIES)
ANNA = Actor("anna", Role.OPERATOR, "calcinaia")
BRUNO = Actor("bruno", Role.APPROVER, "calcinaia")

PIENA = Wording(
    kind=Kind.ALLERTA_METEO,
    headline="allerta ARANCIONE per piena di fiumi e canali",
    description="L'Arno può allagare le strade più basse.",
    instruction="Non scendere in cantine e sottopassi.",
    expires=NOW + timedelta(hours=10),
    colour=Colour.ARANCIONE,
    risk=Risk.IDRAULICO,
    areas=("calcinaia.fornacette",),
)
MERCATO = Wording(
    kind=Kind.EVENTO,
    headline="mercato contadino in piazza Indipendenza",
    description="Sabato mattina, con i produttori della piana.",
    expires=NOW + timedelta(days=3),
    areas=("calcinaia",),
)


one_database = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""For rules that no database can change."""


def piena(**changes: Any) -> Wording:
    return replace(PIENA, **changes)


@asynccontextmanager
async def five_comuni(url: str, *only: str) -> AsyncIterator[Database]:
    """A database in which the comuni are enrolled, or `only` some of them, and nobody has subscribed."""
    database = Database(url)
    try:
        async with database.write() as session:
            await enrol(session, [AUTHORITIES[code] for code in only or AUTHORITIES], SEAL, share_of_limit=1.0, now=NOW)
        yield database
    finally:
        await database.close()


def citizen(number: int, comune: str = "calcinaia") -> Subscriber:
    """Somebody with a telephone that WhatsApp knows."""
    authority = AUTHORITIES[comune]
    access = authority.channel(Channel.WHATSAPP)
    assert access is not None
    return Subscriber(authority, access, f"+39333{number:07d}")


async def codes_of(session: AsyncSession, recipient: int) -> set[str]:
    """The codes of the areas somebody belongs to."""
    query = select(tables.Area.code).join(tables.Membership, tables.Membership.area == tables.Area.id)
    return set(await session.scalars(query.where(tables.Membership.recipient_id == recipient)))


async def count(session: AsyncSession, table: type[tables.Table]) -> int:
    return await session.scalar(select(func.count()).select_from(table)) or 0
