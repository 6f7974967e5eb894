"""What telling people costs: the price of a text, what was spent, and what may still be spent on falling back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from alerting import metrics
from alerting.domain import gsm
from alerting.domain.delivery import Channel
from alerting.domain.fallback import DEAR
from alerting.domain.lanes import Lane
from alerting.domain.rendering import ROME
from alerting.domain.sms import in_letters_of_sms
from alerting.persistence import dialects, fallbacks
from alerting.persistence.tables import Budget, Dispatch, Spending

MICRO = 1_000_000
"""Millionths of a euro: an SMS at 0.0455 is a whole number of them, and sums do not drift."""


def micro(euro: float) -> int:
    return round(euro * MICRO)


def euro(millionths: int) -> float:
    """For people, who pay in cents and are quoted in tenths of them."""
    return round(millionths / MICRO, 4)


def month_of(at: datetime) -> str:
    """The month it is in Rome: "2026-11"."""
    return f"{at.astimezone(ROME):%Y-%m}"


# ── the price of a text ─────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Price:
    """What one text costs whoever sends it: so many parts, and all of them in millionths of a euro."""

    micro_euro: int
    parts: int = 1


def price(channel: Channel, per_text: int | None, lane: Lane, words: str) -> Price | None:
    """By the price in the comune's file, in millionths of a euro; None where nobody knows it.

    Of an SMS each part is paid. What WhatsApp takes is for templates: inside the 24 hours after the person wrote, as a
    reply is, it takes nothing (developers.facebook.com … /pricing, read November 2026).
    """
    parts = gsm.size(in_letters_of_sms(words)).parts if channel is Channel.SMS else 1
    if channel is Channel.WHATSAPP and lane is Lane.REPLY:
        return Price(0)
    if per_text is None:
        return None if channel in DEAR else Price(0, parts)
    return Price(per_text * parts, parts)


# ── what was spent ──────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Spent:
    """What the texts of one dispatch on one account came to."""

    dispatch: int
    account: str
    authority: str
    lane: Lane
    channel: Channel
    texts: int
    price: Price


async def add(session: AsyncSession, spent: Sequence[Spent], at: datetime) -> None:
    """Add to what was spent, one row a dispatch and account. Last in a transaction: whoever comes next waits for it."""
    if not spent:
        return
    month = month_of(at)
    table: Any = Spending.__table__
    insert = dialects.insert(session, table)
    counted = ("texts", "parts", "micro_euro")
    insert = insert.on_conflict_do_update(
        index_elements=["dispatch_id", "account", "month"],
        set_={column: table.c[column] + insert.excluded[column] for column in counted},
    )
    connection = await session.connection()
    # In one order for all, so that nobody waits in a circle.
    for one in sorted(spent, key=lambda one: (one.dispatch, one.account)):
        row = {
            "dispatch_id": one.dispatch,
            "account": one.account,
            "month": month,
            "authority": one.authority,
            "lane": one.lane,
            "channel": one.channel,
            "texts": one.texts,
            "parts": one.texts * one.price.parts,
            "micro_euro": one.texts * one.price.micro_euro,
        }
        await connection.execute(insert, row)


def measure(spent: Sequence[Spent]) -> None:
    """In the figures, once it is committed."""
    for one in spent:
        metrics.EURO.labels(str(one.channel)).inc(one.texts * one.price.micro_euro / MICRO)


@dataclass(frozen=True, slots=True)
class Cost:
    """So many texts in so many parts, and what they cost in millionths of a euro."""

    texts: int
    parts: int
    micro_euro: int

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.texts + other.texts, self.parts + other.parts, self.micro_euro + other.micro_euro)


async def of_dispatch(session: AsyncSession, dispatch: int) -> Mapping[Channel, Cost]:
    """What one alert has cost on each channel."""
    query = select(Spending.channel, *_sums()).where(Spending.dispatch_id == dispatch).group_by(Spending.channel)
    return {channel: Cost(*map(int, sums)) for channel, *sums in await session.execute(query)}


def _sums() -> tuple[Any, Any, Any]:
    return func.sum(Spending.texts), func.sum(Spending.parts), func.sum(Spending.micro_euro)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a month's account. `alert` is None for answers to citizens, all of them together."""

    alert: str | None
    lane: Lane
    channel: Channel
    cost: Cost


async def of_month(session: AsyncSession, authority: str, month: str) -> list[Line]:
    """What an authority's texts have cost in a month, alert by alert."""
    query = (
        select(Dispatch.alert, Spending.lane, Spending.channel, *_sums())
        .join(Dispatch, Dispatch.id == Spending.dispatch_id)
        .where(Spending.authority == authority, Spending.month == month)
        .group_by(Dispatch.alert, Spending.lane, Spending.channel)
        .order_by(func.min(Spending.dispatch_id), Spending.channel)
    )
    return [
        Line(alert, lane, channel, Cost(*map(int, sums)))
        for alert, lane, channel, *sums in await session.execute(query)
    ]


# ── the budget of falling back ──────────────────────────────────────────────────────────────────────


async def promised(session: AsyncSession, authority: str, lane: Lane, at: datetime) -> int:
    """What falling back has cost in this month so far, or will, for whoever only looks."""
    budget = await session.scalar(
        select(Budget.id).where(Budget.authority == authority, Budget.lane == lane, Budget.month == month_of(at))
    )
    return 0 if budget is None else await fallbacks.promised_in_month(session, budget)


async def hold_budget(session: AsyncSession, authority: str, lane: Lane, month: str) -> int:
    """The number of this budget, locked until the commit: of two who would spend its last euro one comes second."""
    key = {"authority": authority, "lane": lane, "month": month}
    await session.execute(dialects.insert_new(session, Budget).values(**key))
    query = select(Budget.id).where(*(getattr(Budget, name) == value for name, value in key.items()))
    return (await session.scalars(query.with_for_update())).one()
