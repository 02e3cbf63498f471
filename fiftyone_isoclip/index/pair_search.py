"""Pairs of rows at least as similar as asked, found exactly or for the most part."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from fiftyone_isoclip.errors import VectorError
from fiftyone_isoclip.index.bounds import BlasBounds, Bounds, Selection, choose_device, open_bounds
from fiftyone_isoclip.index.cells import Cells, choose_pivots, divide, pivot_count, walk_cells
from fiftyone_isoclip.index.limits import PAIR_LIMIT, refuse_explosion, require_memory, too_many
from fiftyone_isoclip.index.pairs import Pairs, check_similarity
from fiftyone_isoclip.index.probes import choose_probes, probe_cells, probed_cells, walk_probes
from fiftyone_isoclip.index.screens import Screen, plan_screen
from fiftyone_isoclip.index.threads import in_threads, one_blas_thread
from fiftyone_isoclip.index.vectors import NO_ROWS, Rows, Table, checked_table, cosines, unit_rows

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with (rows done, rows in all)."""

WORTH_PROBING = 20_000
"""Rows up to which an exact search takes no longer than one in a few cells."""

_SCORED_AT_ONCE = 2**14


def find_pairs(
    vectors: npt.ArrayLike,
    similarity: float,
    *,
    recall: float | None = None,
    progress: Progress | None = None,
) -> Pairs:
    """Find every pair of rows with a cosine of at least `similarity`, or a stated share of them.

    float16 and float32 tables are read in blocks, so they may be mapped from disk; nothing of
    their size is copied. `memory_needed` says what the search takes beside them.

    Args:
        vectors: (n, d), of any length.
        similarity: in (-1, 1]; 1 finds vectors equal up to float32 rounding.
        recall: the share of pairs that suffices, in (0, 1), for tables of many millions: rows are
            then compared in a few cells only. None finds every pair, without exception.
        progress: called with (rows done, rows in all); what it raises ends the search.

    Raises:
        VectorError: if rows have no direction, the similarity or the recall is out of range, there
            would be more than `PAIR_LIMIT` pairs, memory does not suffice, or the recall cannot be
            reached; the message says what to do.
    """
    check_similarity(similarity)
    if recall is not None and not 0.0 < recall < 1.0:
        raise VectorError(
            f"A recall is a share of the pairs above 0 and below 1; got {recall}. Leave it out to "
            "find all of them."
        )
    table = checked_table(vectors)
    if table.dtype not in (np.float16, np.float32):
        table = unit_rows(table)
    with one_blas_thread() as threads:
        return _find(table, similarity, recall, threads, progress)


def _find(
    vectors: Table, similarity: float, recall: float | None, threads: int, progress: Progress | None
) -> Pairs:
    refuse_explosion(vectors, similarity)
    n, dim = vectors.shape
    device = choose_device(n)
    plan = plan_screen(vectors, similarity, on_gpu=device == "cuda")
    require_memory(n, dim, plan)
    screen = plan.make(vectors)
    if recall is not None and n >= WORTH_PROBING:
        return probe_pairs(vectors, similarity, screen, recall, threads=threads, progress=progress)
    if device == "cpu" and screen.is_prefix:
        device = None
    return search_pairs(
        vectors,
        similarity,
        screen,
        device=device,
        # A GPU multiplies so fast that nothing is gained by leaving products out.
        pivots=1 if device == "cuda" else None,
        threads=threads if device is None else 1,
        progress=progress,
    )


def search_pairs(
    vectors: Table,
    similarity: float,
    screen: Screen,
    *,
    limit: int = PAIR_LIMIT,
    device: str | None = None,
    pivots: int | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> Pairs:
    """Find every pair of rows with a cosine of at least `similarity`: (n, d) -> Pairs.

    The screen names candidates, never too few; each is scored with `cosines`, which alone decides.

    Args:
        vectors: (n, d) rows with a direction.
        similarity: in (-1, 1].
        screen: of these vectors.
        limit: most pairs to return.
        device: the torch device for half-precision products; None for float32 by the BLAS.
        pivots: cells to divide the rows into; as many as pay if None.
        threads: how many compare cells at a time.
        progress: called with (rows done, rows in all).

    Raises:
        VectorError: if the similarity gives more than `limit` pairs.
    """
    found = _Found(vectors, similarity, limit)
    if len(vectors) < 2:
        return found.pairs()
    least = similarity - screen.slack
    if pivots is None:
        pivots = pivot_count(screen.coordinates, least) if screen.is_prefix else 1
    cells = divide(screen.coordinates, choose_pivots(screen.coordinates, pivots))
    bounds = open_bounds(cells.coordinates, screen.slack, device)
    _compare(cells, walk_cells(cells, least), bounds, found, threads, progress)
    return found.pairs()


def probe_pairs(
    vectors: Table,
    similarity: float,
    screen: Screen,
    recall: float,
    *,
    limit: int = PAIR_LIMIT,
    threads: int = 1,
    progress: Progress | None = None,
) -> Pairs:
    """Find a share of the pairs by comparing each row in a few cells: (n, d) -> Pairs.

    Raises:
        VectorError: if there are more than `limit` pairs, or the recall cannot be reached.
    """
    found = _Found(vectors, similarity, limit)
    coordinates = screen.coordinates
    pivots = choose_pivots(coordinates, probe_cells(len(vectors)))
    probes = choose_probes(vectors, coordinates, screen.slack, pivots, similarity, recall)
    logger.info(
        "Each of %d vectors is compared in %d of %d cells; of %d pairs of a sample that finds %s.",
        len(vectors),
        probes.count,
        len(pivots),
        probes.known,
        "an unknown share" if probes.recall is None else f"{probes.recall:.4f}",
    )
    cells, probed = probed_cells(coordinates, pivots, probes.count)
    bounds = BlasBounds(cells.coordinates, screen.slack)
    _compare(cells, walk_probes(cells, probed), bounds, found, threads, progress)
    return replace(found.pairs(), recall=probes.recall)


def _compare(
    cells: Cells,
    walk: Iterable[tuple[slice, Selection]],
    bounds: Bounds,
    found: _Found,
    threads: int,
    progress: Progress | None,
) -> None:
    """Bound the pairs of each cell with itself and with the rows named beside it."""

    def candidates(mine: slice, others: Selection) -> tuple[int, list[tuple[Rows, Rows]]]:
        tiles = _tiles(mine, others, bounds.sides)
        return mine.stop, [_named(cells.order, tile, bounds, found.similarity) for tile in tiles]

    for done, parts in in_threads(candidates, walk, threads):
        for ends, matches in parts:
            found.add(ends, matches)
        if progress is not None:
            progress(done, len(cells.order))


def _named(
    order: Rows, tile: tuple[Selection, slice], bounds: Bounds, similarity: float
) -> tuple[Rows, Rows]:
    """Find the candidates of a tile, each pair in one order, as rows of the vectors."""
    rows, columns = tile
    left, right = bounds.above(rows, columns, similarity - bounds.slack)
    left = left + rows.start if isinstance(rows, slice) else rows[left]
    right = right + columns.start
    if isinstance(rows, slice):  # a cell with itself, or with rows before it
        below = left < right
        left, right = left[below], right[below]
    return order[left], order[right]


def _tiles(
    mine: slice, others: Selection, sides: tuple[int, int]
) -> Iterator[tuple[Selection, slice]]:
    """Cut the products of a cell with itself and with the rows before it into tiles."""
    height, width = sides
    for start in range(mine.start, mine.stop, height):
        rows = slice(start, min(start + height, mine.stop))
        for column in range(start, mine.stop, width):
            yield rows, slice(column, min(column + width, mine.stop))
    count = others.stop if isinstance(others, slice) else len(others)
    for start in range(0, count, height):
        part = slice(start, min(start + height, count))
        for column in range(mine.start, mine.stop, width):
            columns = slice(column, min(column + width, mine.stop))
            yield part if isinstance(others, slice) else others[part], columns


class _Found:
    """Candidates scored in batches, and the pairs among them."""

    def __init__(self, vectors: Table, similarity: float, limit: int) -> None:
        self.vectors, self.similarity, self.limit = vectors, similarity, limit
        self.waiting: list[tuple[Rows, Rows]] = []
        self.count_waiting = self.count = 0
        self.parts = [(NO_ROWS, NO_ROWS, np.empty(0, np.float32))]

    def add(self, ends: Rows, others: Rows) -> None:
        """Take in candidates."""
        if not len(ends):
            return
        self.waiting.append((ends, others))
        self.count_waiting += len(ends)
        if self.count_waiting >= _SCORED_AT_ONCE:
            self._score()

    def _score(self) -> None:
        ends, others = (np.concatenate(side) for side in zip(*self.waiting, strict=True))
        self.waiting, self.count_waiting = [], 0
        left, right = np.minimum(ends, others), np.maximum(ends, others)
        scores = cosines(self.vectors, left, self.vectors, right)
        kept = scores >= np.float32(self.similarity)
        self.parts.append((left[kept], right[kept], scores[kept]))
        self.count += int(np.count_nonzero(kept))
        if self.count > self.limit:
            n, found = len(self.vectors), f"more than {self.limit:,}"
            raise VectorError(too_many(n, self.similarity, found, self.limit))

    def pairs(self) -> Pairs:
        """Sort what was found."""
        if self.waiting:
            self._score()
        left, right, scores = (np.concatenate(side) for side in zip(*self.parts, strict=True))
        order = np.lexsort((right, left))
        # Two rows that are compared in each other's cells were found twice.
        again = (np.diff(left[order]) == 0) & (np.diff(right[order]) == 0)
        order = order[np.concatenate([[True], ~again])] if len(order) else order
        return Pairs(
            len(self.vectors), left[order], right[order], scores[order], float(self.similarity)
        )
