"""Which colour, for which risk, when; and what a new forecast changes for people who were told of an older one."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from itertools import groupby, pairwise
from typing import TypeAlias

from alerting.domain.kinds import Colour, Risk
from alerting.domain.rendering import ROME

GRAVITY = {Colour.GIALLA: 1, Colour.ARANCIONE: 2, Colour.ROSSA: 3}

SLACK = timedelta(hours=1)
"""An edge that moves by less than this is the same warning: 23:59:59 or 24:00, "today" said at 16:14 or at 19:13."""


@dataclass(frozen=True, slots=True)
class Span:
    """One colour for one risk, from `starts` until just before `ends`.

    Kept in UTC, whatever clock they come on: in the hour that comes twice two clocks of Rome compare wrongly.
    Raises ValueError for a time without a zone or an end that is not after the start.
    """

    risk: Risk
    colour: Colour
    starts: datetime
    ends: datetime

    def __post_init__(self) -> None:
        if self.starts.tzinfo is None or self.ends.tzinfo is None:
            raise ValueError(f"a span from {self.starts} to {self.ends} lacks its time zone; give times with an offset")
        object.__setattr__(self, "starts", self.starts.astimezone(UTC))
        object.__setattr__(self, "ends", self.ends.astimezone(UTC))
        if self.starts >= self.ends:
            raise ValueError(f"a span cannot end at {self.ends}, before or when it starts at {self.starts}")


Outlook: TypeAlias = tuple[Span, ...]
"""By risk in the order of `Risk`, then by time; no two spans of a risk overlap, or adjoin in the same colour."""


class Trend(Enum):
    """What a forecast is to the one that people know."""

    NEW = "new"
    UPGRADE = "upgrade"
    EXTENDED = "extended"
    DOWNGRADE = "downgrade"
    ENDED = "ended"

    def __str__(self) -> str:
        return self.value


def outlook(spans: Iterable[Span]) -> Outlook:
    """The spans in order, the graver colour where two of a risk overlap."""
    by_risk: dict[Risk, list[Span]] = defaultdict(list)
    for span in spans:
        by_risk[span.risk].append(span)
    return tuple(span for risk in Risk for span in _flat(risk, by_risk[risk]))


def graver(*outlooks: Outlook) -> Outlook:
    """All that several sources or zones hold, and where they differ the graver."""
    return outlook(span for each in outlooks for span in each)


def remaining(held: Outlook, now: datetime) -> Outlook:
    """What is still to come or under way."""
    return tuple(Span(span.risk, span.colour, max(span.starts, now), span.ends) for span in held if span.ends > now)


def gravest(held: Iterable[Span]) -> Colour | None:
    """The gravest colour held; None where nothing is."""
    return max((span.colour for span in held), key=GRAVITY.__getitem__, default=None)


def excess(held: Outlook, told: Outlook, now: datetime) -> Outlook:
    """Where, from now on, `held` is graver than `told` for the same risk, but for edges that moved a little."""
    return outlook(
        Span(piece.risk, piece.colour, max(piece.starts, now), piece.ends)
        for span in held
        if span.ends > now
        for piece in _beyond(span, told, now)
    )


def change(told: Outlook, holds: Outlook, now: datetime) -> Trend | None:
    """What `holds` is to people who know `told`; None when nothing changes for them from now on.

    Up wins where up and down both happen. An edge that moves by less than `SLACK` is no change, and since what is not
    said does not become `told`, small steps cannot add up unheard.
    """
    told_left, holds_left = remaining(told, now), remaining(holds, now)
    if more := excess(holds, told, now):
        if not told_left:
            return Trend.NEW
        return Trend.UPGRADE if _gravity(more) > _gravity(told_left) else Trend.EXTENDED
    if excess(told, holds, now):
        return Trend.DOWNGRADE if holds_left else Trend.ENDED
    return None


def to_parameter(span: Span) -> str:
    """A span as the value of an alert's CAP parameter: `idraulico gialla 2023-11-02T16:14:59+01:00/2023-11-03T…`."""
    starts, ends = (moment.astimezone(ROME).isoformat() for moment in (span.starts, span.ends))
    return f"{span.risk.value} {span.colour.value} {starts}/{ends}"


def from_parameter(text: str) -> Span:
    """The span of a CAP parameter's value. Raises ValueError with a sentence that quotes it."""
    try:
        risk, colour, times = text.split(" ")
        starts, ends = times.split("/")
        return Span(Risk(risk), Colour(colour), datetime.fromisoformat(starts), datetime.fromisoformat(ends))
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r} is not risk, colour and start/end, as in {EXAMPLE!r}: {error}") from error


EXAMPLE = "idraulico gialla 2023-11-02T16:14:59+01:00/2023-11-03T00:00:00+01:00"


def _flat(risk: Risk, spans: list[Span]) -> Iterator[Span]:
    """One pass over the edges, knowing at each how many spans of each colour are open."""
    edges = sorted(
        [(span.starts, span.colour, 1) for span in spans] + [(span.ends, span.colour, -1) for span in spans],
        key=lambda edge: edge[0],
    )
    running: Counter[Colour] = Counter()
    turns: list[tuple[datetime, Colour | None]] = []
    for moment, together in groupby(edges, key=lambda edge: edge[0]):
        for _, colour, by in together:
            running[colour] += by
        above = max((c for c in Colour if running[c]), key=GRAVITY.__getitem__, default=None)
        if not turns or turns[-1][1] is not above:
            turns.append((moment, above))
    for (since, held), (until, _) in pairwise(turns):
        if held is not None:
            yield Span(risk, held, since, until)


def _beyond(span: Span, told: Outlook, now: datetime) -> Iterator[Span]:
    """The parts of a span that nothing told for its risk covers in as grave a colour, little ones left out."""
    covering = [other for other in told if other.risk is span.risk and GRAVITY[other.colour] >= GRAVITY[span.colour]]
    since = span.starts
    for cover in [*covering, None]:
        until = min(span.ends, cover.starts) if cover else span.ends
        if since < until and until > now and not _moved_edge(since, until, covering, now):
            yield Span(span.risk, span.colour, since, until)
        since = max(since, cover.ends) if cover else since


def _moved_edge(starts: datetime, ends: datetime, covering: list[Span], now: datetime) -> bool:
    """Whether a piece only makes a warning that is known and not over a little longer."""
    if ends - max(starts, now) >= SLACK:
        return False
    return any(cover.starts == ends or (cover.ends == starts and cover.ends > now) for cover in covering)


def _gravity(held: Outlook) -> int:
    return max((GRAVITY[span.colour] for span in held), default=0)
