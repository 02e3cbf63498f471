"""Cells: rows divided among pivots, with a bound on which rows can have a partner in which cell.

For x in the cell of pivot a, y in that of pivot b, and any pair closer than r,

    (x - y) . (a - b) <= r |a - b|    so    x.a - x.b <= r |a - b| + max over y in b of (y.a - y.b)

Rows of cell a beyond that limit have no partner in b, whatever the pivots and however rows were
divided. It is the generalised hyperplane bound of metric trees (Uhlmann 1991; Brin's GNAT, 1995),
with the largest difference in a cell in place of the hyperplane.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fiftyone_isoclip.index.bounds import Selection
from fiftyone_isoclip.index.vectors import (
    UNIT_ROUNDOFF,
    Float32s,
    Float64s,
    Rows,
    rounding_slack,
)

_MOST_PIVOTS = 4096
_ROWS_A_PIVOT = 128
_TRAINING_ROWS_A_PIVOT = 20
_ROUNDS = 2
_BAND = 4096
_WORTH_SHARE = 0.7
_SCORES_AT_ONCE = 2**22
_GATHER_BELOW = 0.6
"""Copying rows out pays as long as it leaves this share of them behind, or less."""


@dataclass(frozen=True, eq=False, slots=True)
class Cells:
    """Rows sorted by cell.

    Attributes:
        coordinates: (n, q) the rows, sorted by cell.
        order: (n,) the place each sorted row had before.
        starts: (c + 1,) where each cell begins.
        pivots: (c, q).
    """

    coordinates: Float32s
    order: Rows
    starts: Rows
    pivots: Float32s

    def __len__(self) -> int:
        """Count the cells."""
        return len(self.starts) - 1


def divide(coordinates: Float32s, pivots: Float32s) -> Cells:
    """Give each row to the pivot with which it has the largest product: (n, q), (c, q) -> Cells."""
    n = len(coordinates)
    if len(pivots) == 1:
        return Cells(coordinates, np.arange(n), np.array([0, n]), pivots)
    owners = np.empty(n, dtype=np.int64)
    step = max(1, _SCORES_AT_ONCE // len(pivots))
    for start in range(0, n, step):
        block = slice(start, start + step)
        owners[block] = np.argmax(coordinates[block] @ pivots.T, axis=1)
    return sort_into_cells(coordinates, owners, pivots)


def sort_into_cells(coordinates: Float32s, owners: Rows, pivots: Float32s) -> Cells:
    """Sort rows by the cell that owns each: (n, q), (n,), (c, q) -> Cells."""
    order = np.argsort(owners, kind="stable")
    starts = np.searchsorted(owners[order], np.arange(len(pivots) + 1))
    return Cells(coordinates[order], order, starts, pivots)


def choose_pivots(coordinates: Float32s, count: int) -> Float32s:
    """Find directions amid the rows: random rows, moved twice to the mean of those they own."""
    rng = np.random.default_rng(0)
    training = _training_rows(coordinates, count)
    pivots = training[rng.choice(len(training), size=count, replace=False)]
    for _ in range(_ROUNDS if count > 1 else 0):
        cells = divide(training, pivots)
        used = np.flatnonzero(np.diff(cells.starts))
        sums = np.add.reduceat(cells.coordinates, cells.starts[used], axis=0)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        pivots[used] = np.where(lengths > 0, sums / np.maximum(lengths, 1e-30), pivots[used])
    return pivots


def pivot_count(coordinates: Float32s, least: float) -> int:
    """Choose how many pivots pay for an exact search, judged on a sample; 1 if none do."""
    count = int(np.clip(len(coordinates) // _ROWS_A_PIVOT, 1, _MOST_PIVOTS))
    if count == 1:
        return 1
    few = max(2, count // 4)
    sample = _training_rows(coordinates, few)
    walk = list(walk_cells(divide(sample, choose_pivots(sample, few)), least))
    met = sum(others.stop if isinstance(others, slice) else len(others) for _, others in walk)
    return count if met <= _WORTH_SHARE * sum(mine.start for mine, _ in walk) else 1


def _training_rows(coordinates: Float32s, count: int) -> Float32s:
    size = min(len(coordinates), _TRAINING_ROWS_A_PIVOT * count)
    rows = np.random.default_rng(0).choice(len(coordinates), size=size, replace=False)
    return coordinates[np.sort(rows)]


def walk_cells(cells: Cells, least: float) -> Iterator[tuple[slice, Selection]]:
    """Name for each cell the rows before it that may have a partner in it.

    A single cell is handed out in bands of rows.

    Args:
        cells: rows of length 1 at most, up to rounding.
        least: the product of two rows from which they are partners.
    """
    coordinates, starts, pivots = cells.coordinates, cells.starts, cells.pivots
    if len(cells) == 1:
        for start in range(0, len(coordinates), _BAND):
            yield slice(start, min(start + _BAND, len(coordinates))), slice(0, start)
        return
    own = _own_scores(cells)
    # |x - y|^2 = |x|^2 + |y|^2 - 2 x.y, and rounding makes no row longer than this.
    longest = 1.0 + 64 * UNIT_ROUNDOFF
    reach = _reach(cells, own, np.sqrt(max(0.0, 2 * longest**2 - 2 * least)))
    sizes = np.diff(starts)
    group = int(np.clip(_SCORES_AT_ONCE // max(1, len(coordinates)), 1, 64))
    for first in range(0, len(cells), group):
        last = min(first + group, len(cells))
        scores = pivots[first:last] @ coordinates[: starts[last - 1]].T
        for cell in range(first, last):
            start, stop = int(starts[cell]), int(starts[cell + 1])
            if start == stop:
                continue
            limits = own[:start] - np.repeat(reach[cell, :cell], sizes[:cell])
            near = np.flatnonzero(scores[cell - first, :start] >= limits)
            gather = len(near) <= _GATHER_BELOW * start
            yield slice(start, stop), near if gather else slice(0, start)


def _own_scores(cells: Cells) -> Float32s:
    own = np.empty(len(cells.coordinates), dtype=np.float32)
    for cell, pivot in enumerate(cells.pivots):
        rows = slice(cells.starts[cell], cells.starts[cell + 1])
        own[rows] = cells.coordinates[rows] @ pivot
    return own


def _reach(cells: Cells, own: Float32s, radius: float) -> Float32s:
    """Entry (b, a): by how much a row of a may be closer to a than to b and have a partner in b."""
    pivots = cells.pivots.astype(np.float64)
    squares = np.einsum("ij,ij->i", pivots, pivots)
    gaps = np.sqrt(np.maximum(squares[:, None] + squares - 2 * pivots @ pivots.T, 0.0))
    # Four scores take part, each with its rounding; distances of float64 cancel to about 2e-7.
    largest = float(np.sqrt(squares.max()))
    slack = 4 * max(1.0, largest) * rounding_slack(pivots.shape[1]) + radius * 1e-6
    reach: Float64s = radius * gaps + slack
    for cell in range(len(cells)):
        rows = slice(cells.starts[cell], cells.starts[cell + 1])
        if rows.start < rows.stop:
            ahead = cells.coordinates[rows] @ cells.pivots.T - own[rows, None]
            reach[cell] += ahead.max(axis=0)
    return reach.astype(np.float32)
