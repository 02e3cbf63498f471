"""Pairs sought in a few cells only: most of them, for tables too large to compare exactly.

Rows are divided among pivots, and each row is compared with the rows of the cells whose pivots are
nearest to it. How many cells that takes is measured, on rows whose pairs are all known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fiftyone_isoclip.errors import VectorError
from fiftyone_isoclip.index.bounds import BlasBounds, Selection
from fiftyone_isoclip.index.cells import Cells, sort_into_cells
from fiftyone_isoclip.index.threads import faiss_threads
from fiftyone_isoclip.index.vectors import Float32s, Rows, Table, cosines

DEFAULT_RECALL = 0.999
"""Share of the pairs of a large store that suffices unless the user says otherwise."""

MOST_PROBES = 32
"""Cells a row is compared with at most; nearly all of an exact search's pairs are nearer."""

_SAMPLE_STEP = 1024
_MOST_SAMPLED = 16_384
_ENOUGH_PAIRS = 1000


@dataclass(frozen=True, slots=True)
class Probes:
    """How many cells each row is compared with, and what that was seen to find.

    Attributes:
        count: cells a row is compared with, its own included.
        recall: share of known pairs that are found with them, in [0, 1]; measured on other pairs
            than the count was chosen on. None if no pair was known.
        known: how many pairs that share is of.
    """

    count: int
    recall: float | None
    known: int


def probe_cells(n: int) -> int:
    """Choose how many cells n rows are divided into."""
    return max(1, min(int(4 * np.sqrt(n)), n // 32))


def choose_probes(
    vectors: Table,
    coordinates: Float32s,
    slack: float,
    pivots: Float32s,
    similarity: float,
    recall: float,
) -> Probes:
    """Choose the fewest cells that find a share of the pairs, on a sample of rows.

    Half of the sample's pairs choose, the other half say what was reached.

    Raises:
        VectorError: if `MOST_PROBES` cells do not reach that share.
    """
    left, right = _known_pairs(vectors, BlasBounds(coordinates, slack), similarity)
    if not len(left):
        return Probes(MOST_PROBES, None, 0)
    most = min(MOST_PROBES, len(pivots))
    needed = np.minimum(
        _place_of_cell(coordinates, pivots, left, right, most),
        _place_of_cell(coordinates, pivots, right, left, most),
    )
    choosing, telling = needed[::2], needed[1::2] if len(needed) > 1 else needed
    reached = np.array([np.mean(choosing < count) for count in range(1, most + 1)])
    enough = np.flatnonzero(reached >= recall)
    if not len(enough):
        raise VectorError(
            f"A recall of {recall:g} was asked for, and comparing each vector with the "
            f"{most} nearest of {len(pivots)} cells finds {reached[-1]:.3f} of the pairs of a "
            "sample; ask for less, or search exactly."
        )
    count = int(enough[0]) + 1
    return Probes(count, float(np.mean(telling < count)), len(telling))


def probed_cells(coordinates: Float32s, pivots: Float32s, count: int) -> tuple[Cells, Rows]:
    """Divide rows into cells, and list the other cells each is compared with.

    Returns:
        The cells, and (n, count - 1) numbers of cells for their sorted rows.
    """
    nearest = _nearest_cells(coordinates, pivots, count)
    cells = sort_into_cells(coordinates, nearest[:, 0], pivots)
    return cells, nearest[cells.order, 1:]


def walk_probes(cells: Cells, probed: Rows) -> Iterator[tuple[slice, Selection]]:
    """Name for each cell the rows of other cells that are compared with it."""
    cell_of_visit = probed.ravel()
    visits = np.argsort(cell_of_visit, kind="stable")
    starts = np.searchsorted(cell_of_visit[visits], np.arange(len(cells) + 1))
    rows = visits // max(1, probed.shape[1])
    for cell in range(len(cells)):
        mine = slice(int(cells.starts[cell]), int(cells.starts[cell + 1]))
        if mine.start < mine.stop:
            yield mine, rows[starts[cell] : starts[cell + 1]]


def _known_pairs(vectors: Table, bounds: BlasBounds, similarity: float) -> tuple[Rows, Rows]:
    """Find all pairs of some random rows with any row."""
    n = len(vectors)
    sample = np.random.default_rng(1).permutation(n)[:_MOST_SAMPLED]
    lefts, rights, count = [], [], 0
    for start in range(0, len(sample), _SAMPLE_STEP):
        rows = sample[start : start + _SAMPLE_STEP]
        for part in np.array_split(rows, -(-len(rows) // bounds.sides[0])):
            for column in range(0, n, bounds.sides[1]):
                columns = slice(column, min(column + bounds.sides[1], n))
                near, far = bounds.above(part, columns, similarity - bounds.slack)
                left, right = part[near], far + column
                kept = left != right
                lefts.append(left[kept])
                rights.append(right[kept])
        left, right = np.concatenate(lefts), np.concatenate(rights)
        kept = cosines(vectors, left, vectors, right) >= np.float32(similarity)
        lefts, rights = [left[kept]], [right[kept]]
        count = int(np.count_nonzero(kept))
        if count >= _ENOUGH_PAIRS:
            break
    return lefts[0], rights[0]


def _place_of_cell(
    coordinates: Float32s, pivots: Float32s, rows: Rows, partners: Rows, most: int
) -> Rows:
    """Say at which place the cell of a row's partner stands among the row's cells; most if none."""
    nearest = _nearest_cells(coordinates[rows], pivots, most)
    sought = _nearest_cells(coordinates[partners], pivots, 1)
    is_it = nearest == sought
    return np.where(is_it.any(axis=1), is_it.argmax(axis=1), most)


def _nearest_cells(coordinates: Float32s, pivots: Float32s, count: int) -> Rows:
    import faiss

    with faiss_threads():
        index = faiss.IndexFlatIP(pivots.shape[1])
        index.add(np.ascontiguousarray(pivots))
        return np.asarray(index.search(np.ascontiguousarray(coordinates), count)[1], dtype=np.int64)
