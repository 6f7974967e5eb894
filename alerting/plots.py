"""Plots as SVG, drawn by us: no script, no font, no address. The colours are the page's, so that it can be dark.

Each has a title for whoever listens instead of looking; the page puts the same figures in a table beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import accumulate

WIDTH, HEIGHT = 480, 230
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 14, 30
LETTER = 7.5
"""How wide one is, about."""
MOST_LABELS = 13
SMALLEST = 1e-6
"""Below that there is nothing to draw."""


@dataclass(frozen=True, slots=True)
class Series:
    """One line, or one part of every bar. `css` names its colour in the page."""

    name: str
    css: str
    values: Sequence[float]


def nice(most: float) -> float:
    """The round number at or above `most` that an axis ends with: 1, 2, 2.5 or 5 times a power of ten."""
    if most < SMALLEST:
        return 1.0
    power = 1.0
    while power * 10 <= most:
        power *= 10
    while power > most:
        power /= 10
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= most * (1 - 1e-9))


def number(value: float) -> str:
    """As Italians write it: 1.250 or 0,05."""
    text = f"{value:,.2f}".rstrip("0").rstrip(".") if value != int(value) else f"{int(value):,}"
    return text.translate(str.maketrans(",.", ".,"))


def line(title: str, labels: Sequence[str], series: Series) -> str:
    """One line over time, with the ground below it."""
    most = nice(max(series.values, default=0))
    step = (WIDTH - LEFT - RIGHT) / max(len(labels) - 1, 1)
    at = [(LEFT + number_ * step, _y(value, most)) for number_, value in enumerate(series.values)]
    path = " L".join(f"{x:.1f},{y:.1f}" for x, y in at)
    ground = f"M{LEFT:.1f},{_y(0, most):.1f} L{path} L{at[-1][0]:.1f},{_y(0, most):.1f} Z" if at else ""
    dots = "".join(f'<circle class="{series.css}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in at)
    body = f'<path class="ground {series.css}" d="{ground}"/><path class="line {series.css}" d="M{path}"/>{dots}'
    return _framed(title, most, _labels(labels, [x for x, _ in at]) + body)


def bars(title: str, labels: Sequence[str], series: Sequence[Series], *, stacked: bool = True) -> str:
    """A bar for each label; the series one on the other, or side by side."""
    columns = [[one.values[n] for one in series] for n in range(len(labels))]
    most = nice(max((sum(c) if stacked else max(c, default=0) for c in columns), default=0))
    room = (WIDTH - LEFT - RIGHT) / max(len(labels), 1)
    wide = room * 0.7 / (1 if stacked else max(len(series), 1))
    body = []
    for n, column in enumerate(columns):
        begins = LEFT + n * room + room * 0.15
        floors = [0.0, *accumulate(column)] if stacked else [0.0] * len(column)
        for at, (one, value) in enumerate(zip(series, column, strict=True)):
            if value <= 0:
                continue
            x = begins if stacked else begins + at * wide
            y, low = _y(floors[at] + value, most), _y(floors[at], most)
            body.append(
                f'<rect class="{one.css}" x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{max(low - y, 0.5):.1f}"/>'
            )
    centres = [LEFT + n * room + room / 2 for n in range(len(labels))]
    return _framed(title, most, _labels(labels, centres) + "".join(body))


def _y(value: float, most: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / most)


def _labels(labels: Sequence[str], at: Sequence[float]) -> str:
    every = -(-len(labels) // MOST_LABELS)
    most = int((WIDTH - LEFT - RIGHT) / max(len(labels), 1) * every / LETTER)
    return "".join(
        f'<text x="{x:.1f}" y="{HEIGHT - 10}" text-anchor="middle">{escape(_cut(label, most))}</text>'
        for n, (label, x) in enumerate(zip(labels, at, strict=True))
        if n % every == 0
    )


def _cut(label: str, most: int) -> str:
    return label if len(label) <= max(most, 3) else f"{label[: max(most, 3) - 1]}…"


def _framed(title: str, most: float, body: str) -> str:
    grid = "".join(
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{number(most * share)}</text>'
        for share in (0, 0.5, 1)
        for y in [_y(most * share, most)]
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}"'
        f' xmlns="http://www.w3.org/2000/svg"><title>{escape(title)}</title>{grid}{body}</svg>'
    )
