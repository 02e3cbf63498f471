"""What workers do in a search for duplicates: tables in, tables out, and no engine known.

Rows are numbered over the whole store. A task names shards (columns name and start), and what is
wanted of each. Every sum is made by one thread, so that all engines give the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from fiftyone_isoclip.index.pair_search import search_pairs
from fiftyone_isoclip.index.screens import Screen, ScreenPlan
from fiftyone_isoclip.index.vectors import NO_ROWS, Float32s, Rows, cosines
from fiftyone_isoclip.shards.duplicates.cells import (
    Cells,
    as_column,
    as_rows,
    cells_needed,
    first_shared,
    nearest_cells,
)
from fiftyone_isoclip.shards.duplicates.rows import Space

_SCORES_AT_ONCE = 2**22


@dataclass(frozen=True, eq=False, slots=True)
class Sampling:
    """Gives out chosen rows of shards, those that have an embedding: row and vector."""

    space: Space

    def __call__(self, task: pa.Table) -> pa.Table:
        """Read the rows that the column ``rows`` lists."""
        parts = []
        for shard in task.to_pylist():
            rows, units = self.space.read(shard["name"], shard["start"])
            chosen = np.isin(rows, shard["rows"])
            parts.append(pa.table({"row": rows[chosen], "vector": as_column(units[chosen])}))
        return pa.concat_tables(parts)


@dataclass(frozen=True, eq=False, slots=True)
class Surveying:
    """Finds all pairs of sampled rows with the rows of a shard, and in how many cells they meet.

    Shapes: ``rows`` (s,) ascending, ``units`` (s, k), ``cells`` (s, m) the cells nearest to each,
    nearest first; ``pivots`` (c, k).
    """

    space: Space
    rows: Rows
    units: Float32s
    cells: Cells
    pivots: Float32s
    similarity: float
    plan: ScreenPlan

    def __call__(self, task: pa.Table) -> pa.Table:
        """Compare: the columns sampled, partner, similarity and needed."""
        screen = self.plan.make(self.units)
        parts = [self._survey(screen, *self.space.read(*shard)) for shard in _shards(task)]
        return pa.concat_tables(parts)

    def _survey(self, screen: Screen, rows: Rows, units: Float32s) -> pa.Table:
        sampled, near = _candidates(screen, self.plan.make(units), self.similarity)
        scores = cosines(self.units, sampled, units, near)
        kept = (scores >= np.float32(self.similarity)) & (self.rows[sampled] != rows[near])
        sampled, near, scores = sampled[kept], near[kept], scores[kept]
        partners, place = np.unique(near, return_inverse=True)
        cells = nearest_cells(units[partners], self.pivots, self.cells.shape[1])
        columns = {
            "sampled": self.rows[sampled],
            "partner": rows[near],
            "similarity": scores,
            "needed": cells_needed(self.cells[sampled], cells[place]),
        }
        return pa.table(columns)


@dataclass(frozen=True, eq=False, slots=True)
class Assigning:
    """Names the cells nearest to each row of a shard: ``count`` of them, nearest first."""

    space: Space
    pivots: Float32s
    count: int

    def __call__(self, task: pa.Table) -> pa.Table:
        """Give each row that has an embedding its cells: the columns row and cells."""
        parts = []
        for shard in _shards(task):
            rows, units = self.space.read(*shard)
            cells = nearest_cells(units, self.pivots, self.count)
            parts.append(pa.table({"row": rows, "cells": as_column(cells)}))
        return pa.concat_tables(parts)


@dataclass(frozen=True, eq=False, slots=True)
class Picking:
    """Takes out of shards the rows that visit some cells, ``first`` to ``last``, which is not one.

    A task's column ``cells`` lists the cells of every row of a shard, ``count`` for each; -1 where
    a row has no embedding.
    """

    space: Space
    count: int
    first: int
    last: int

    def __call__(self, task: pa.Table) -> pa.Table:
        """Give each visit: the columns cell, row, cells and vector."""
        names, starts = task["name"].to_pylist(), task["start"].to_pylist()
        parts = []
        for name, start, listed in zip(names, starts, task["cells"], strict=True):
            rows, units = self.space.read(name, start)
            cells = listed.values.to_numpy().reshape(-1, self.count)[rows - start]
            visits, places = np.nonzero((cells >= self.first) & (cells < self.last))
            columns = {
                "cell": cells[visits, places],
                "row": rows[visits],
                "cells": as_column(cells[visits]),
                "vector": as_column(units[visits]),
            }
            parts.append(pa.table(columns))
        return pa.concat_tables(parts)

    def placeholder(self) -> pa.Table:
        """A visit of nobody to no cell, for engines that carry tables of one kind alone."""
        cells, vector = np.full((1, self.count), -1, np.int32), np.zeros((1, self.dim), np.float32)
        columns = {"cells": as_column(cells), "vector": as_column(vector)}
        return pa.table({"cell": cells[:, 0], "row": np.full(1, -1, np.int64), **columns})

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return self.space.to_isoclip.dim


@dataclass(frozen=True, eq=False, slots=True)
class Comparing:
    """Finds every pair among the rows of a cell, but for those that an earlier cell finds.

    ``plan`` is of a screen for all cells.
    """

    similarity: float
    plan: ScreenPlan

    def __call__(self, visits: pa.Table) -> pa.Table:
        """Compare the rows of one cell: the columns left, right and similarity."""
        visits = visits.sort_by("row")
        rows, cells = visits["row"].to_numpy(), as_rows(visits["cells"])
        units = as_rows(visits["vector"])
        pairs = search_pairs(units, self.similarity, self.plan.make(units))
        cell = visits["cell"][0].as_py()
        mine = first_shared(cells[pairs.left], cells[pairs.right]) == cell
        columns = {
            "left": rows[pairs.left[mine]],
            "right": rows[pairs.right[mine]],
            "similarity": pairs.similarity[mine],
        }
        return pa.table(columns)


@dataclass(frozen=True, eq=False, slots=True)
class Naming:
    """Tells of chosen rows their id, path and bytes."""

    space: Space

    def __call__(self, task: pa.Table) -> pa.Table:
        """Tell of the rows that the column ``rows`` lists."""
        parts = []
        for task_row in task.to_pylist():
            shard, rows = self.space.store.need(task_row["name"]), task_row["rows"]
            places = [row - task_row["start"] for row in rows]
            columns = {
                "row": pa.array(rows, pa.int64()),
                "id": pa.array([shard.ids[place] for place in places], pa.string()),
                "path": pa.array([shard.paths[place] for place in places], pa.string()),
                "bytes": pa.array([shard.sizes[place] for place in places], pa.int64()),
            }
            parts.append(pa.table(columns))
        return pa.concat_tables(parts)


def _shards(task: pa.Table) -> Iterator[tuple[str, int]]:
    return zip(task["name"].to_pylist(), task["start"].to_pylist(), strict=True)


def _candidates(left: Screen, right: Screen, similarity: float) -> tuple[Rows, Rows]:
    """Every two rows that may have a cosine of at least `similarity`: (p,) and (p,)."""
    least = np.float32(similarity - left.slack)
    step = max(1, _SCORES_AT_ONCE // max(1, len(right.coordinates)))
    parts = [(NO_ROWS, NO_ROWS)]
    for start in range(0, len(left.coordinates), step):
        block = left.coordinates[start : start + step]
        found = np.divmod(
            np.flatnonzero(block @ right.coordinates.T >= least), len(right.coordinates)
        )
        parts.append((found[0] + start, found[1]))
    lefts, rights = (np.concatenate(side) for side in zip(*parts, strict=True))
    return lefts, rights
