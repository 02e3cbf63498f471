"""Pairs of a store's rows, sought in a few cells of them: the steps, each done by workers.

Rows are divided among pivots, each visits the cells of the few nearest to it, and all that visit a
cell are compared. How many cells a row visits is chosen on pairs that are known, and what was found
of others that are known is the recall.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import pyarrow as pa

from fiftyone_isoclip.errors import VectorError
from fiftyone_isoclip.index import Pairs, find_pairs
from fiftyone_isoclip.index.binomial import Share
from fiftyone_isoclip.index.cells import choose_pivots
from fiftyone_isoclip.index.limits import (
    pair_limit,
    refuse_explosion,
    require_room,
    too_many,
)
from fiftyone_isoclip.index.probes import probe_cells
from fiftyone_isoclip.index.screens import ScreenPlan, plan_screen
from fiftyone_isoclip.index.threads import in_threads, one_blas_thread
from fiftyone_isoclip.index.vectors import Float32s, Rows
from fiftyone_isoclip.shards.duplicates.cells import Cells, as_rows, nearest_cells
from fiftyone_isoclip.shards.duplicates.known_pairs import KnownPairs
from fiftyone_isoclip.shards.duplicates.rows import Layout, Space
from fiftyone_isoclip.shards.duplicates.work import (
    Assigning,
    Comparing,
    Naming,
    Picking,
    Sampling,
    Surveying,
)

Work = Callable[[pa.Table], pa.Table]
Progress = Callable[[str, int, int], object]
"""Called with what is being done, how much of it is done, and how much there is."""

MOST_CELLS = 16
"""Cells a row visits at most."""

COMPARED_AT_ONCE = 200_000
"""Rows up to which one process compares every two: 312 numbers of each take 250 MB, and by
`memory_needed` comparing them 650 MB at most."""

_SAMPLED = 2**14
_ROWS_A_PIVOT = 20


class Engine(Protocol):
    """What has work done.

    Every round reads the shards of its rows again: the larger it may be, the fewer there are.
    """

    @property
    def visit_bytes(self) -> int:
        """Bytes of vectors that one round may hold."""

    def each(self, work: Work, tasks: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """Do some work on every task; the results come in any order."""

    def by_cell(self, pick: Picking, tasks: list[pa.Table], compare: Work) -> Iterator[pa.Table]:
        """Pick rows out of every task, and compare those of one ``cell``, all of them at once."""


@dataclass(frozen=True, eq=False, slots=True)
class FoundPairs:
    """Pairs of the rows of a store, and how far they are all there are.

    Attributes:
        pairs: with the rows of the store; ``pairs.recall`` is 1 where every two were compared.
        recall: the share of an image's pairs that was found, by ``known`` pairs, with its bounds;
            None where every two were compared, or no pair was known.
        known: how many pairs that is of.
        cells: how many cells there were, and ``visited``: how many each row was compared in.
    """

    pairs: Pairs
    recall: Share | None
    known: int
    cells: int
    visited: int


@dataclass(frozen=True, eq=False, slots=True)
class Search:
    """A search for the pairs of a store.

    Up to ``compared_at_once`` rows every two are compared; of more, ``sampled`` rows at most are
    compared with every other to know some pairs.
    """

    space: Space
    layout: Layout
    engine: Engine
    similarity: float
    progress: Progress
    compared_at_once: int = COMPARED_AT_ONCE
    sampled: int = _SAMPLED

    def find(self, recall: float) -> FoundPairs:
        """Find a share of the pairs in (0, 1]; 1 compares every two rows.

        Raises:
            VectorError: there would be too many pairs, or the share cannot be reached.
            StoreError: a shard is damaged or gone.
        """
        n = self.layout.n
        if n <= self.compared_at_once or recall == 1.0:
            return FoundPairs(self._every_pair(), None, 0, 1, 1)
        rows, units = self._sample(self.sampled + _ROWS_A_PIVOT * probe_cells(n))
        refuse_explosion(units, self.similarity, pair_limit(n), n=n)
        plan = plan_screen(units, self.similarity)
        # Pivots suit the rows that they were chosen on better than others, which are those to ask.
        asked = np.random.default_rng(1).permutation(len(rows)) < min(self.sampled, len(rows) // 2)
        pivots = choose_pivots(units[~asked], min(probe_cells(n), int((~asked).sum())))
        known = self._survey(rows[asked], units[asked], pivots, plan)
        visited = known.cells_for(recall, min(MOST_CELLS, len(pivots)))
        pairs = self._pairs_in(pivots, plan, visited)
        share, count = known.recall_of(pairs.left, pairs.right)
        return FoundPairs(pairs, share, count, len(pivots), visited)

    def name(self, rows: Rows) -> pa.Table:
        """The columns row, id, path and bytes of some rows, ascending."""
        tasks = self.layout.tasks_of(rows)
        parts = self._each("naming", Naming(self.space), tasks)
        none = {"row": pa.int64(), "id": pa.string(), "path": pa.string(), "bytes": pa.int64()}
        return pa.concat_tables([pa.schema(none).empty_table(), *parts]).sort_by("row")

    def _sample(self, size: int) -> tuple[Rows, Float32s]:
        n = self.layout.n
        rows = np.sort(np.random.default_rng(0).choice(n, min(size, n), replace=False))
        parts = self._each("sampling", Sampling(self.space), self.layout.tasks_of(rows))
        table = pa.concat_tables(parts).sort_by("row")
        if not len(table):
            raise VectorError(
                f"none of {len(rows):,} of {n:,} images, picked at random, has an embedding; a "
                "recall of 1 compares those that have one, and `isoclip verify` counts them"
            )
        return table["row"].to_numpy(), as_rows(table["vector"])

    def _survey(
        self, rows: Rows, units: Float32s, pivots: Float32s, plan: ScreenPlan
    ) -> KnownPairs:
        cells = nearest_cells(units, pivots, min(MOST_CELLS, len(pivots)))
        work = Surveying(self.space, rows, units, cells, pivots, self.similarity, plan)
        found = self._each("surveying", work, self.layout.tasks())
        return KnownPairs.of(self.layout.n, rows, found, self.similarity)

    def _every_pair(self) -> Pairs:
        """All pairs of all rows, in this process: the vectors are there once, and nowhere else."""
        n, dim = self.layout.n, self.space.to_isoclip.dim
        require_room(n, dim)
        rows, units, held = np.empty(n, np.int64), np.empty((n, dim), np.float32), 0
        shards = list(zip(self.layout.names, self.layout.starts.tolist(), strict=False))
        with one_blas_thread() as threads:
            parts = in_threads(self.space.read, shards, threads)
            for done, (mine, theirs) in enumerate(parts, 1):
                block = slice(held, held + len(mine))
                rows[block], units[block] = mine, theirs
                held = block.stop
                self.progress("reading", done, len(shards))

        def tell(done: int, total: int) -> None:
            self.progress("comparing", done, total)

        pairs = find_pairs(units[:held], self.similarity, progress=tell)
        return replace(pairs, n=n, left=rows[pairs.left], right=rows[pairs.right])

    def _pairs_in(self, pivots: Float32s, plan: ScreenPlan, visited: int) -> Pairs:
        """The pairs of all rows that visit the same cell."""
        n = self.layout.n
        cells = np.full((n, visited), -1, np.int32)
        work = Assigning(self.space, pivots, visited)
        for part in self._each("assigning", work, self.layout.tasks()):
            cells[part["row"].to_numpy()] = as_rows(part["cells"])
        parts, total = [_NO_PAIRS], 0
        for part in self._compare(cells, len(pivots), Comparing(self.similarity, plan)):
            parts.append(part)
            total += len(part)
            if total > (limit := pair_limit(n)):
                raise VectorError(too_many(n, self.similarity, f"more than {limit:,}", limit))
        table = pa.concat_tables(parts).sort_by([("left", "ascending"), ("right", "ascending")])
        left, right, scores = (column.to_numpy() for column in table.columns)
        return Pairs(n, left, right, scores, self.similarity)

    def _compare(self, cells: Cells, count: int, work: Comparing) -> Iterator[pa.Table]:
        """Compare cell by cell, in rounds of as many cells as the engine holds."""
        sizes, visited = np.bincount(cells[cells >= 0], minlength=count), cells.shape[1]
        # Of a visit: the vector, the cells, which of them this is, and the row.
        visit = 4 * (self.space.to_isoclip.dim + visited + 3)
        rounds = list(_rounds(sizes, max(1, self.engine.visit_bytes // visit)))
        done, total = 0, int(np.count_nonzero(sizes))
        visits = pa.LargeListArray.from_arrays(
            self.layout.starts * visited, pa.array(cells.reshape(-1))
        )
        for number, (first, last) in enumerate(rounds, 1):
            doing = f"comparing, round {number} of {len(rounds)}"
            self.progress(doing, done, total)
            held = np.flatnonzero(((cells >= first) & (cells < last)).any(axis=1))
            tasks = self.layout.tasks(held, cells=visits)
            pick = Picking(self.space, visited, first, last)
            for part in self.engine.by_cell(pick, tasks, work):
                done += 1
                self.progress(doing, done, total)
                yield part

    def _each(self, doing: str, work: Work, tasks: list[pa.Table]) -> Iterator[pa.Table]:
        for done, part in enumerate(self.engine.each(work, tasks), 1):
            self.progress(doing, done, len(tasks))
            yield part


_NO_PAIRS = pa.schema(
    {"left": pa.int64(), "right": pa.int64(), "similarity": pa.float32()}
).empty_table()


def _rounds(sizes: Rows, rows: int) -> Iterator[tuple[int, int]]:
    """Cut cells of these sizes into rounds of so many rows, or of one cell that has more."""
    first = held = 0
    for cell, size in enumerate(sizes.tolist()):
        if held and held + size > rows:
            yield first, cell
            first, held = cell, 0
        held += size
    if held:
        yield first, len(sizes)
