"""Sources that speak, comuni that listen, and a look at what people were told of it."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from lxml import etree
from sqlalchemy import select

from alerting import cap_json, issuing, sources
from alerting.cap_xml.writing import write
from alerting.domain import cap
from alerting.domain.authority import Authority
from alerting.domain.intake import CameBy
from alerting.domain.kinds import Colour, Risk
from alerting.domain.lifecycle import State
from alerting.domain.policies import FeedPolicy, Then
from alerting.domain.sources import Nearness, Source
from alerting.intake.receiving import Receiver
from alerting.persistence import Database, tables
from geo.shapes import Point, Polygon
from tests.integration.calcinaia import AUTHORITIES, NOW, five_comuni

VALDERA = sources.load()["unione-valdera"]
PROVINCIA = replace(
    VALDERA,
    name="provincia-pisa",
    title="Provincia di Pisa",
    nearness=Nearness.REGIONAL,
    senders=("protezionecivile@provincia.pisa.it",),
    amqp_user="",
)
PREFETTURA = replace(
    PROVINCIA,
    name="prefettura-pisa",
    title="Prefettura di Pisa",
    nearness=Nearness.NATIONAL,
    senders=("prefettura@interno.it",),
)
REGIONE = replace(sources.load()["regione-toscana"], enabled=True)
SOURCES = {one.name: one for one in (VALDERA, PROVINCIA, PREFETTURA, REGIONE)}

FORNACETTE = ((43.665, 10.582), (43.665, 10.600), (43.680, 10.600), (43.680, 10.582))
CAPOLUOGO = ((43.685, 10.610), (43.685, 10.630), (43.695, 10.630), (43.695, 10.610))
ON_THE_BORDER = ((43.680, 10.615), (43.680, 10.645), (43.710, 10.645), (43.710, 10.615))
"""Half in Calcinaia, half in Bientina."""
CALCINAIA = "050004"


def polygon(*corners: tuple[float, float]) -> Polygon:
    ring = [Point(lat, lon) for lat, lon in corners]
    return Polygon((*ring, ring[0]))


def drawn(corners: Iterable[tuple[float, float]] = FORNACETTE, name: str = "Fornacette") -> cap.Area:
    return cap.Area(name, polygons=(polygon(*corners),))


def comune(istat: str = CALCINAIA, name: str = "Calcinaia") -> cap.Area:
    return cap.Area(name, geocodes=(cap.NamedValue("ISTAT_COMUNE", istat),))


def zone(code: str = "Tosc-A4") -> cap.Area:
    return cap.Area("Valdarno Inferiore", geocodes=(cap.NamedValue("Zona di Allerta", code),))


def fire(**changes: Any) -> cap.Info:
    info = cap.Info(
        category=(cap.Category.FIRE,),
        event="Incendio",
        urgency=cap.Urgency.IMMEDIATE,
        severity=cap.Severity.SEVERE,
        certainty=cap.Certainty.OBSERVED,
        response_type=(cap.ResponseType.SHELTER,),
        expires=NOW + timedelta(hours=6),
        headline="Incendio in un capannone a Fornacette",
        description="Un capannone brucia in via della Botte: il fumo va verso le case.",
        instruction="Resta in casa e chiudi le finestre.",
        areas=(drawn(),),
    )
    return replace(info, **changes)


def weather(colour: Colour = Colour.ARANCIONE, risk: Risk = Risk.IDRAULICO, **changes: Any) -> cap.Info:
    severity = {"gialla": "Moderate", "arancione": "Severe", "rossa": "Extreme"}[colour.value]
    info = cap.Info(
        category=(cap.Category.MET,),
        event=f"Allerta {colour.value} per rischio {risk.value}",
        urgency=cap.Urgency.EXPECTED,
        severity=cap.Severity(severity),
        certainty=cap.Certainty.LIKELY,
        response_type=(cap.ResponseType.PREPARE,),
        onset=NOW,
        expires=NOW + timedelta(hours=10),
        headline=f"Allerta {colour.value} per rischio {risk.value}",
        description="Criticità attesa sul territorio.",
        instruction="Stai lontano dagli argini.",
        areas=(comune(),),
    )
    return replace(info, **changes)


def message(identifier: str, *infos: cap.Info, source: Source = VALDERA, **changes: Any) -> cap.Alert:
    said = cap.Alert(
        identifier=identifier,
        sender=source.senders[0],
        sent=NOW,
        status=cap.Status.ACTUAL,
        msg_type=cap.MsgType.ALERT,
        infos=infos or (fire(),),
    )
    return replace(said, **changes)


def after(minutes: float) -> datetime:
    return NOW + timedelta(minutes=minutes)


def update(
    identifier: str, of: cap.Alert | Iterable[cap.Alert], *infos: cap.Info, minutes: float = 15, **changes: Any
) -> cap.Alert:
    followed = [of] if isinstance(of, cap.Alert) else list(of)
    said = message(identifier, *infos, sent=after(minutes), msg_type=cap.MsgType.UPDATE)
    return replace(said, sender=followed[0].sender, references=tuple(one.reference for one in followed), **changes)


def cancel(identifier: str, of: cap.Alert | Iterable[cap.Alert], *, minutes: float = 30, **changes: Any) -> cap.Alert:
    said = update(identifier, of, minutes=minutes)
    otherwise: dict[str, Any] = {"msg_type": cap.MsgType.CANCEL, "infos": (), "note": "Era un errore."}
    return replace(said, **(otherwise | changes))


def written(said: cap.Alert) -> bytes:
    """The document, also of a message without an info, which we ourselves never write."""
    if said.infos:
        return write(said)
    root = etree.fromstring(write(replace(said, infos=(fire(),))))
    for info in root.findall("{*}info"):
        root.remove(info)
    return etree.tostring(root, xml_declaration=True, encoding="utf-8")


def policies(comune: str, *feeds: FeedPolicy, into: dict[str, Authority] | None = None) -> dict[str, Authority]:
    """The five comuni, one of them with these policies."""
    known = dict(into or {code: replace(one, feeds=()) for code, one in AUTHORITIES.items()})
    known[comune] = replace(known[comune], feeds=feeds)
    return known


def all_issue(*codes: str) -> dict[str, Authority]:
    """Every source may issue of itself, in all comuni or in these."""
    known = {code: replace(one, feeds=()) for code, one in AUTHORITIES.items()}
    for code in codes or AUTHORITIES:
        known[code] = replace(known[code], feeds=tuple(FeedPolicy(name, Then.ISSUE) for name in SOURCES))
    return known


@dataclass
class Newsroom:
    """A receiver with a clock that a test moves, and all it has done."""

    database: Database
    authorities: dict[str, Authority]
    sources: dict[str, Source]
    sign: issuing.Sign = issuing.unsigned
    now: datetime = NOW

    def __post_init__(self) -> None:
        self.receiver = Receiver(self.database, self.authorities, self.sources, self.sign, clock=lambda: self.now)

    def restarted(self, **changes: Any) -> "Newsroom":
        """The same, with something changed in its files."""
        return replace(self, **changes)

    async def hand_in(self, said: cap.Alert | bytes, source: Source = VALDERA) -> tables.Intake:
        """One document, and what became of it. A message moves the clock to when it was sent, where that is later."""
        if isinstance(said, cap.Alert):
            self.now = max(self.now, said.sent)
        raw = said if isinstance(said, bytes) else written(said)
        source = self.sources.get(source.name, source)
        (number,) = await self.receiver.take(source, raw, "application/cap+xml", CameBy.HTTP)
        return await self.intake(number)

    async def intake(self, number: int) -> tables.Intake:
        async with self.database.read() as session:
            return await session.get_one(tables.Intake, number)

    async def alerts(self, comune: str = "calcinaia") -> list[tables.Alert]:
        """All of a comune's, the oldest first."""
        query = select(tables.Alert).where(tables.Alert.authority == comune)
        async with self.database.read() as session:
            rows = list((await session.scalars(query)).all())
            numbers = {
                row.alert: row.id for row in await session.scalars(select(tables.Dispatch)) if row.alert is not None
            }
        return sorted(rows, key=lambda row: (row.drafted_at, numbers.get(row.identifier, 0)))

    async def issued(self, comune: str = "calcinaia") -> list[tables.Alert]:
        """Those that people were told, in the order in which they were."""
        return [row for row in await self.alerts(comune) if row.issued_at is not None]

    async def standing(self, comune: str = "calcinaia") -> list[tables.Alert]:
        """Those in force, without the Cancels and the ends."""
        return [row for row in await self.alerts(comune) if row.state is State.ISSUED and not is_over(row)]

    async def drafts(self, comune: str = "calcinaia") -> list[tables.Alert]:
        return [row for row in await self.alerts(comune) if row.state in (State.DRAFT, State.APPROVED)]

    async def pages(self) -> list[tables.Page]:
        """Those nobody has seen."""
        query = select(tables.Page).where(tables.Page.acknowledged_at.is_(None)).order_by(tables.Page.id)
        async with self.database.read() as session:
            return list((await session.scalars(query)).all())

    async def dispatches(self) -> list[tables.Dispatch]:
        async with self.database.read() as session:
            return list((await session.scalars(select(tables.Dispatch).order_by(tables.Dispatch.id))).all())


def is_over(row: tables.Alert) -> bool:
    return row.cancels is not None or cap.ResponseType.ALL_CLEAR in said_by(row).first.response_type


def said_by(row: tables.Alert) -> cap.Alert:
    return cap_json.from_json(row.document)


def did(row: tables.Intake) -> dict[str, str]:
    """What was done in each comune, the last where several."""
    return {one["authority"]: one["did"] for one in row.became}


@asynccontextmanager
async def a_newsroom(
    url: str, authorities: dict[str, Authority] | None = None, sources: dict[str, Source] | None = None, **more: Any
) -> AsyncIterator[Newsroom]:
    """In a database of its own, the five comuni enrolled."""
    async with five_comuni(url) as database:
        yield Newsroom(database, authorities or all_issue(), sources or SOURCES, **more)
