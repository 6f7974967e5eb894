"""How a comune's service grows and what it costs: who joined and left, what was told, and what SMS would have cost.

People are counted by their own rows, which stay when an address is erased: the past does not change when somebody
leaves. Where they live is erased with them, so that a count by area is written down once a day.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import case, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from alerting import cap_json, metrics
from alerting.domain import rendering
from alerting.domain.areas import AreaState
from alerting.domain.authority import Authority
from alerting.domain.delivery import Channel, Progress
from alerting.domain.rendering import ROME, Form
from alerting.persistence import Database, dialects, tables

log = structlog.get_logger()

LOOK_EVERY = 600.0  # seconds
TAKEN = [one.value for one in (Progress.ACCEPTED, Progress.SENT, Progress.DELIVERED, Progress.READ)]
"""What a provider took, and is paid for."""
FREE = frozenset({Channel.TELEGRAM, Channel.EMAIL})
"""Where the file says nothing nobody asks for money; of WhatsApp and SMS one must know the price."""


# ── days and months ─────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Span:
    """From a day up to another, the second not included: a month, or one day. Days are those of Rome."""

    begins: date
    ends: date

    @property
    def name(self) -> str:
        """`2026-11`, or `2026-11-26`."""
        return f"{self.begins:%Y-%m}" if self.ends - self.begins > timedelta(days=1) else self.begins.isoformat()

    @property
    def begins_at(self) -> datetime:
        return midnight(self.begins)

    @property
    def ends_at(self) -> datetime:
        return midnight(self.ends)


def midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=ROME)


def month_of(day: date) -> Span:
    first = day.replace(day=1)
    return Span(first, (first + timedelta(days=32)).replace(day=1))


def months(first: date, last: date) -> list[Span]:
    """The months from the one of a day to that of another, both whole."""
    found = [month_of(first)]
    while found[-1].ends <= last:
        found.append(month_of(found[-1].ends))
    return found


def days(span: Span) -> list[Span]:
    count = (span.ends - span.begins).days
    return [Span(day, day + timedelta(days=1)) for n in range(count) for day in [span.begins + timedelta(days=n)]]


def day_in_rome(moment: datetime) -> date:
    return moment.astimezone(ROME).date()


# ── who joined, who left ────────────────────────────────────────────────────────────────────────────

People = Counter[Channel]
"""By the channel they are told on first."""


@dataclass(frozen=True, slots=True)
class Moved:
    """Who joined in a span, who left, and who was subscribed at its end."""

    span: Span
    joined: People
    left: People
    subscribed: People


async def people(session: AsyncSession, authority: str, spans: Sequence[Span]) -> list[Moved]:
    """Those of a comune who are told of what is real; spans follow one another."""
    row, address, account = tables.Recipient, tables.Address, tables.ChannelAccount
    counted = (
        select(account.channel, func.count())
        .select_from(row)
        .join(address, (address.recipient_id == row.id) & (address.rank == 0))
        .join(account, account.name == address.account)
        .where(row.authority == authority, row.live.is_(True), row.is_channel.is_(False))
        .group_by(account.channel)
    )
    begins, ends = spans[0].begins_at, spans[-1].ends_at
    before = counted.where(row.joined_at < begins, row.left_at.is_(None) | (row.left_at >= begins))
    here: People = Counter(dict((await session.execute(before)).all()))
    joined = await _by_span(session, counted, row.joined_at, spans, begins, ends)
    left = await _by_span(session, counted, row.left_at, spans, begins, ends)
    moved = []
    for number, span in enumerate(spans):
        here = Counter(here)
        here.update(joined[number])
        here.subtract(left[number])
        moved.append(Moved(span, joined[number], left[number], here))
    return moved


async def _by_span(
    session: AsyncSession,
    counted: Any,
    when: InstrumentedAttribute[Any],
    spans: Sequence[Span],
    begins: datetime,
    ends: datetime,
) -> dict[int, People]:
    """Counted by the hour: a day of Rome begins on one, whatever the season, and only one database knows zones."""
    if dialects.is_postgresql(session):
        hour = func.to_char(func.timezone("UTC", when), "YYYY-MM-DD HH24")
    else:
        hour = func.strftime("%Y-%m-%d %H", when)
    query = counted.add_columns(hour).where(when >= begins, when < ends).group_by(hour)
    number_of = {day.begins: number for number, span in enumerate(spans) for day in days(span)}
    found: dict[int, People] = defaultdict(Counter)
    for channel, count, written in await session.execute(query):
        at = datetime.strptime(written, "%Y-%m-%d %H").replace(tzinfo=UTC)
        found[number_of[day_in_rome(at)]][channel] += count
    return found


# ── what was told ───────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Told:
    """One alert, and on which channel how many were told. `in_public` of them are posts in a public channel."""

    identifier: str
    headline: str
    at: datetime
    texts: Counter[Channel]
    in_public: int
    sms_parts: int


@dataclass(frozen=True, slots=True)
class Said:
    """What was said in a span: the alerts, and how many answers to citizens by channel."""

    span: Span
    alerts: tuple[Told, ...]
    answers: Counter[Channel]

    @property
    def texts(self) -> Counter[Channel]:
        """Of the alerts, all together."""
        found: Counter[Channel] = Counter()
        for one in self.alerts:
            found.update(one.texts)
        return found


async def said(session: AsyncSession, authority: str, spans: Sequence[Span]) -> list[Said]:
    """What was really told, by the day it was issued; exercises are not counted."""
    dispatch, batch, delivery = tables.Dispatch, tables.Batch, tables.Delivery
    public = select(tables.Recipient.id).where(tables.Recipient.authority == authority, tables.Recipient.is_channel)
    channels = (await session.scalars(public)).all()
    posts = func.sum(case((delivery.recipient_id.in_(channels), 1), else_=0))
    query = (
        select(dispatch.id, dispatch.alert, dispatch.issued_at, batch.channel, func.count(), posts)
        .join(batch, batch.dispatch_id == dispatch.id)
        .join(delivery, (delivery.dispatch_id == batch.dispatch_id) & delivery.seq.between(batch.first, batch.last))
        .where(
            dispatch.authority == authority,
            dispatch.live.is_(True),
            dispatch.issued_at >= spans[0].begins_at,
            dispatch.issued_at < spans[-1].ends_at,
            delivery.progress.in_(TAKEN),
        )
        .group_by(dispatch.id, dispatch.alert, dispatch.issued_at, batch.channel)
        .order_by(dispatch.id)
    )
    number_of = {day.begins: number for number, span in enumerate(spans) for day in days(span)}
    answers: dict[int, Counter[Channel]] = defaultdict(Counter)
    texts: dict[str, Counter[Channel]] = defaultdict(Counter)
    in_public: Counter[str] = Counter()
    issued: dict[str, datetime] = {}
    for _, alert, at, channel, count, public_posts in await session.execute(query):
        if alert is None:
            answers[number_of[day_in_rome(at)]][channel] += count
        else:
            issued[alert] = at
            texts[alert][channel] += count
            in_public[alert] += int(public_posts)
    words = await _words(session, list(issued))
    alerts: dict[int, list[Told]] = defaultdict(list)
    for alert, at in issued.items():
        headline, parts = words[alert]
        told = Told(alert, headline, at, texts[alert], in_public[alert], parts)
        alerts[number_of[day_in_rome(at)]].append(told)
    return [Said(span, tuple(alerts[number]), answers[number]) for number, span in enumerate(spans)]


AT_ONCE = 500


async def _words(session: AsyncSession, alerts: Sequence[str]) -> dict[str, tuple[str, int]]:
    """The headline of each alert, and in how many parts of an SMS it says the same."""
    found = {}
    for first in range(0, len(alerts), AT_ONCE):
        rows = select(tables.Alert.identifier, tables.Alert.document).where(
            tables.Alert.identifier.in_(alerts[first : first + AT_ONCE])
        )
        for identifier, document in await session.execute(rows):
            alert = cap_json.from_json(document)
            size = rendering.render(alert, Form.SMS).size
            headline = next((info.headline for info in alert.infos if info.headline), "")
            found[identifier] = (headline, size.parts if size else 1)
    return found


# ── what it costs ───────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Cost:
    """In euro, as far as prices are known; `unknown` are the channels whose price the comune's file does not say."""

    euro: float = 0.0
    unknown: frozenset[Channel] = frozenset()

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.euro + other.euro, self.unknown | other.unknown)


@dataclass(frozen=True)
class Prices:
    """What the comune pays for one text on each channel, and would pay for one part of an SMS."""

    of_text: Mapping[Channel, float | None]
    of_sms: float | None

    def cost(self, texts: Mapping[Channel, int], sms_parts: int) -> Cost:
        """Of one alert's texts. Of an SMS each part is paid."""
        total = Cost()
        for channel, count in texts.items():
            price = self.of_text.get(channel)
            if price is None and channel not in FREE:
                total += Cost(unknown=frozenset({channel}) if count else frozenset())
            else:
                total += Cost((price or 0.0) * count * (sms_parts if channel is Channel.SMS else 1))
        return total

    def of_answers(self, answers: Mapping[Channel, int]) -> Cost:
        """WhatsApp takes nothing for an answer within a day of the question, and ours are sent within seconds."""
        return self.cost({channel: n for channel, n in answers.items() if channel is not Channel.WHATSAPP}, 1)

    def as_sms(self, people: int, parts: int) -> float | None:
        """Had the same people been told by SMS; None where nobody knows the price of one."""
        return None if self.of_sms is None else people * parts * self.of_sms


def prices_of(authority: Authority) -> Prices:
    """As the comune's file says them. An SMS costs what its own account pays, else what `[prices]` says."""
    of_text = {access.channel: access.euro_per_text for access in authority.channels if not access.exercise}
    of_sms = of_text.get(Channel.SMS)
    return Prices(of_text, authority.sms_price if of_sms is None else of_sms)


# ── where they live ─────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Lives:
    """How many named an area, or stand in it: now, and when it was first written down in the span."""

    code: str
    name: str
    people: int
    before: int | None = None


async def by_area(session: AsyncSession, authority: str) -> Counter[str]:
    """Who is subscribed now, by the code of each area that serves; somebody may be in several."""
    row, area, inside = tables.Recipient, tables.Area, tables.Membership
    query = (
        select(area.code, func.count(inside.recipient_id.distinct()))
        .join(inside, inside.area == area.id)
        .join(row, row.id == inside.recipient_id)
        .where(row.authority == authority, row.live.is_(True), row.left_at.is_(None), row.is_channel.is_(False))
        .where(area.state == AreaState.SERVING, area.authority == authority)
        .group_by(area.code)
    )
    return Counter(dict((await session.execute(query)).all()))


async def lives(session: AsyncSession, authority: Authority, span: Span, today: date) -> list[Lives]:
    """By frazione, at the end of the span as far as it was written down; now, where the span has not ended."""
    table = tables.AreaDay
    rows = (
        await session.execute(
            select(table.day, table.area, table.people)
            .where(table.authority == authority.code, table.day >= span.begins, table.day <= span.ends)
            .order_by(table.day)
        )
    ).all()
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for _, code, count in rows:
        first.setdefault(code, count)
        last[code] = count
    if span.begins <= today < span.ends:
        last = dict(await by_area(session, authority.code))
    return [
        Lives(one.code, one.name, last.get(one.code, 0), first.get(one.code)) for one in authority.territory.frazioni
    ]


async def write_down(session: AsyncSession, authority: Authority, today: date) -> None:
    """Today's counts by area, if nobody has written them down yet."""
    table = tables.AreaDay
    done = select(table.area).where(table.authority == authority.code, table.day == today).limit(1)
    if await session.scalar(done) is not None:
        return
    counts = await by_area(session, authority.code)
    rows = [
        {"authority": authority.code, "day": today, "area": code, "people": counts[code]}
        for code in sorted({area.code for area in authority.territory.areas} | set(counts))
    ]
    await session.execute(dialects.insert_new(session, table).values(rows))


# ── all of it ───────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Growth:
    """A comune's figures, span by span."""

    authority: Authority
    moved: list[Moved]
    said: list[Said]
    lives: list[Lives]
    prices: Prices = field(repr=False)


async def measure(session: AsyncSession, authority: Authority, spans: Sequence[Span], today: date) -> Growth:
    """Everything for these spans, which follow one another; frazioni for the last of them."""
    return Growth(
        authority,
        await people(session, authority.code, spans),
        await said(session, authority.code, spans),
        await lives(session, authority, spans[-1], today),
        prices_of(authority),
    )


# ── for Prometheus, and once a day for the book ─────────────────────────────────────────────────────


async def follow(database: Database, authorities: Mapping[str, Authority]) -> None:
    """Show how many are subscribed, and write down where they live once a day, until cancelled."""
    while True:
        try:
            await look(database, authorities.values(), datetime.now(UTC))
        except (SQLAlchemyError, OSError) as error:
            log.warning("growth could not be looked at", error=type(error).__name__)
        await asyncio.sleep(LOOK_EVERY)


async def look(database: Database, authorities: Iterable[Authority], now: datetime) -> None:
    """Once."""
    row, address, account = tables.Recipient, tables.Address, tables.ChannelAccount
    query = (
        select(row.authority, account.channel, func.count())
        .join(address, (address.recipient_id == row.id) & (address.rank == 0))
        .join(account, account.name == address.account)
        .where(row.live.is_(True), row.is_channel.is_(False), row.left_at.is_(None))
        .group_by(row.authority, account.channel)
    )
    async with database.read() as session:
        counts = {(code, channel): count for code, channel, count in await session.execute(query)}
    for authority in authorities:
        for channel in {access.channel for access in authority.channels if not access.exercise}:
            metrics.SUBSCRIBERS.labels(authority.code, str(channel)).set(counts.get((authority.code, channel), 0))
        async with database.write() as session:
            await write_down(session, authority, day_in_rome(now))
