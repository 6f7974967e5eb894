"""A comune's month: joined, left, told, spent, what SMS would have cost, what its desk did; and as a CSV.

Who may see no person sees tens, and "<10" below ten: in the tables, in the plots and in the sums.
"""

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from sqlalchemy.ext.asyncio import AsyncSession

from alerting import growth
from alerting.desk import appointments, reports
from alerting.desk.reports import Month
from alerting.domain.authority import Authority
from alerting.domain.delivery import Channel
from alerting.domain.desk import ReportState
from alerting.domain.roster import harmless
from alerting.growth import Cost, Growth, Moved, Prices, Said, Span
from alerting.plots import number

MONTHS_SHOWN = 12
FEW = 10

CHANNELS = {Channel.WHATSAPP: "WhatsApp", Channel.TELEGRAM: "Telegram", Channel.SMS: "SMS", Channel.EMAIL: "E-mail"}


@dataclass(frozen=True, slots=True)
class Sight:
    """How counts are seen: exact, or in tens."""

    exact: bool

    def of(self, count: int) -> int:
        """What may be summed, drawn and multiplied."""
        return count if self.exact or count < 0 else count // FEW * FEW

    def words(self, count: int) -> str:
        return number(self.of(count)) if self.exact or count >= FEW else "&lt;10"

    def plain(self, count: int) -> str:
        """For a CSV."""
        return str(count) if self.exact else str(self.of(count)) if count >= FEW else "<10"

    def people(self, counts: Mapping[Channel, int]) -> Counter[Channel]:
        return Counter({channel: self.of(count) for channel, count in counts.items()})


@dataclass(frozen=True, slots=True)
class Sums:
    """What one month cost, and would have cost by SMS."""

    cost: Cost
    as_sms: float | None


def sums(said: Said, prices: Prices, sight: Sight) -> Sums:
    """Alert by alert, as each has its own length; a post in a public channel reaches nobody's number."""
    total, as_sms = prices.of_answers(sight.people(said.answers)), 0.0 if prices.of_sms is not None else None
    for one in said.alerts:
        total += prices.cost(sight.people(one.texts), one.sms_parts)
        price = prices.as_sms(sight.of(one.texts.total() - one.in_public), one.sms_parts)
        as_sms = None if price is None or as_sms is None else as_sms + price
    return Sums(total, as_sms)


@dataclass(frozen=True, slots=True)
class AtDesk:
    """What citizens reported and when they were received: by month and category, and by month and office."""

    reports: Sequence[Month] = ()
    bookings: Sequence[tuple[str, str, int, int]] = ()
    """Month, office, how many were made, how many of them cancelled."""

    def opened(self, span: Span) -> int:
        return sum(one.opened for one in self.reports if one.month == span.name)

    def solved(self, span: Span) -> int:
        return sum(one.by_state.get(ReportState.SOLVED, 0) for one in self.reports if one.month == span.name)

    def booked(self, span: Span) -> int:
        return sum(made for month, _, made, _ in self.bookings if month == span.name)


@dataclass(frozen=True)
class Report:
    """A month, the months before it, and its days."""

    month: Span
    year: Growth
    days: list[Moved]
    sight: Sight
    at_desk: AtDesk = AtDesk()

    @property
    def authority(self) -> Authority:
        return self.year.authority

    @property
    def moved(self) -> Moved:
        return self.year.moved[-1]

    @property
    def said(self) -> Said:
        return self.year.said[-1]

    def sums(self, said: Said) -> Sums:
        return sums(said, self.year.prices, self.sight)


def months_before(day: date, count: int) -> date:
    """The first of the month so many months before that of `day`."""
    months = day.year * 12 + day.month - 1 - count
    return date(months // 12, months % 12 + 1, 1)


def month_named(name: str | None, today: date) -> Span:
    """The month of a name such as 2026-11; without one the last that is over. Raises ValueError."""
    return growth.month_of(date.fromisoformat(f"{name}-01") if name else months_before(today, 1))


async def read(session: AsyncSession, authority: Authority, month: Span, today: date, *, exact: bool) -> Report:
    """The month and the eleven before it."""
    first = months_before(month.begins, MONTHS_SHOWN - 1)
    spans = growth.months(first, month.begins)
    year = await growth.measure(session, authority, spans, today)
    days = await growth.people(session, authority.code, growth.days(month))
    return Report(month, year, days, Sight(exact), await _at_desk(session, authority, spans))


async def _at_desk(session: AsyncSession, authority: Authority, spans: Sequence[Span]) -> AtDesk:
    if authority.desk is None:
        return AtDesk()
    begins, ends = spans[0].begins_at, spans[-1].ends_at
    return AtDesk(
        await reports.statistics(session, authority.code, begins, ends),
        await appointments.statistics(session, authority.code, begins, ends),
    )


# ── as a CSV ────────────────────────────────────────────────────────────────────────────────────────


def rows(report: Report) -> str:
    """The twelve months, one line each, as an Italian spreadsheet opens it: with ; and a comma in numbers."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter=";", lineterminator="\r\n")
    channels = [channel for channel in CHANNELS if report.authority.channel(channel)]
    words = [CHANNELS[channel] for channel in channels]
    head = ["mese", "iscritti", *(f"iscritti {word}" for word in words), "nuovi", "usciti", "avvisi"]
    desk = ["segnalazioni", "risolte", "appuntamenti"] if report.authority.desk else []
    writer.writerow([*head, *(f"messaggi {word}" for word in words), "risposte", "euro", "euro per SMS", *desk])
    sight, plain = report.sight, report.sight.plain
    for moved, said in zip(report.year.moved, report.year.said, strict=True):
        total = sums(said, report.year.prices, sight)
        line = [
            moved.span.name,
            plain(moved.subscribed.total()),
            *(plain(moved.subscribed[channel]) for channel in channels),
            plain(moved.joined.total()),
            plain(moved.left.total()),
            str(len(said.alerts)),
            *(plain(said.texts[channel]) for channel in channels),
            plain(said.answers.total()),
            "" if total.cost.unknown else _decimal(total.cost.euro),
            "" if total.as_sms is None else _decimal(total.as_sms),
        ]
        if desk:
            at_desk = (report.at_desk.opened, report.at_desk.solved, report.at_desk.booked)
            line += [plain(count(moved.span)) for count in at_desk]
        writer.writerow([harmless(cell) for cell in line])
    return "\ufeff" + out.getvalue()


def _decimal(value: float) -> str:
    return f"{value:.4f}".rstrip("0").rstrip(".").replace(".", ",")
