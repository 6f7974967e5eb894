"""The grid: the cell of a point, and the cells of a shape, so that a database finds people by number."""

from typing import NamedTuple, overload

import numpy as np
import numpy.typing as npt

from geo.shapes import Bounds, Floats, Geofence

Cells = npt.NDArray[np.int64]

STEP = 0.01
"""Degrees: in Tuscany 1.11 km by 0.80 km."""
ROWS, COLUMNS = 18_000, 36_000
SIDES = (100, 20, 4, 1)
"""A shape is covered with blocks of so many cells a side, and where its edge runs with smaller ones."""
PAD = 1e-9
"""Degrees, 0.1 mm. Division by 0.01 rounds, so a cell may hold a point a hair outside its box."""


class CellRange(NamedTuple):
    """Consecutive cells of one row, both ends included: `cell BETWEEN first AND last`."""

    first: int
    last: int


class Cover(NamedTuple):
    """The cells of a geofence, no cell twice, ranges ascending.

    Everybody in a `full` cell is inside. Whoever else is inside is in an `edge` cell, with people who
    are not: `matching.inside` tells them apart.
    """

    full: tuple[CellRange, ...]
    edge: tuple[CellRange, ...]


@overload
def cell_of(lat: float, lon: float) -> int: ...
@overload
def cell_of(lat: Floats, lon: Floats) -> Cells: ...
def cell_of(lat: float | Floats, lon: float | Floats) -> int | Cells:
    """The number of the cell a point lies in, row by row from the south-west: the same for one and for many.

    Raises ValueError for what is no place on earth, NaN among it.
    """
    lats, lons = np.asarray(lat, dtype=np.float64), np.asarray(lon, dtype=np.float64)
    if not np.all(Bounds(-90, -180, 90, 180).hold(lats, lons)):
        raise ValueError("there is a place without a cell: latitudes are -90 to 90, longitudes -180 to 180")
    # 90° north and 180° east belong to the last row and column.
    row = np.minimum(np.floor((lats + 90) / STEP), ROWS - 1).astype(np.int64)
    column = np.minimum(np.floor((lons + 180) / STEP), COLUMNS - 1).astype(np.int64)
    cells: Cells = row * COLUMNS + column
    return int(cells) if cells.ndim == 0 else cells


def cover(fence: Geofence) -> Cover:
    """The cells of a geofence. Never misses an inside point; in doubt, a cell is an edge cell."""
    full: list[Cells] = []
    rows, columns = _blocks(fence.bounds, SIDES[0])
    for side, smaller in zip(SIDES, (*SIDES[1:], None), strict=True):
        fills, touches = fence.fills_and_touches(_boxes(rows, columns, side))
        full.append(_runs(rows[fills], columns[fills], side))
        edge = touches & ~fills
        rows, columns = rows[edge], columns[edge]
        if smaller:
            rows, columns = _split(rows, columns, side, smaller)
    return Cover(_joined(np.concatenate(full)), _joined(_runs(rows, columns, 1)))


def _blocks(bounds: Bounds, side: int) -> tuple[Cells, Cells]:
    """The south-west cells, as rows and columns, of the blocks that meet the bounds."""
    south, north = np.clip([bounds.south - PAD, bounds.north + PAD], -90, 90)
    west, east = np.clip([bounds.west - PAD, bounds.east + PAD], -180, 180)
    first, last = cell_of(float(south), float(west)), cell_of(float(north), float(east))
    rows = np.arange(first // COLUMNS // side, last // COLUMNS // side + 1) * side
    columns = np.arange(first % COLUMNS // side, last % COLUMNS // side + 1) * side
    grid = np.meshgrid(rows, columns, indexing="ij")
    return grid[0].ravel(), grid[1].ravel()


def _boxes(rows: Cells, columns: Cells, side: int) -> Bounds:
    """A hair larger than the blocks, so that every point numbered into them lies in its box."""
    south, north = rows * STEP - 90 - PAD, (rows + side) * STEP - 90 + PAD
    west, east = columns * STEP - 180 - PAD, (columns + side) * STEP - 180 + PAD
    return Bounds(np.maximum(south, -90), west, np.minimum(north, 90), east)


def _split(rows: Cells, columns: Cells, side: int, smaller: int) -> tuple[Cells, Cells]:
    down, along = np.divmod(np.arange((side // smaller) ** 2), side // smaller)
    return (rows[:, None] + down * smaller).ravel(), (columns[:, None] + along * smaller).ravel()


def _runs(rows: Cells, columns: Cells, side: int) -> Cells:
    """The first and the last cell of each row of each block."""
    first = ((rows[:, None] + np.arange(side)) * COLUMNS + columns[:, None]).ravel()
    return np.stack([first, first + side - 1], axis=1)


def _joined(runs: Cells) -> tuple[CellRange, ...]:
    """Neighbours within a row become one range."""
    first, last = runs[np.argsort(runs[:, 0])].T
    apart = (first[1:] != last[:-1] + 1) | (first[1:] // COLUMNS != last[:-1] // COLUMNS)
    starts = first[np.concatenate([[True], apart])] if len(first) else first
    ends = last[np.concatenate([apart, [True]])] if len(last) else last
    return tuple(map(CellRange, starts.tolist(), ends.tolist()))
