"""The engine that is none: the work is done in threads of this process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import psutil
import pyarrow as pa

from fiftyone_isoclip.index.threads import in_threads, one_blas_thread
from fiftyone_isoclip.shards.duplicates.search import Work
from fiftyone_isoclip.shards.duplicates.work import Picking

_LEAST = 2**28


class LocalSearch:
    """Does work in as many threads as the BLAS would use."""

    @property
    def visit_bytes(self) -> int:
        """A quarter of the free memory: rows are there as they are picked, and put together."""
        return max(_LEAST, int(psutil.virtual_memory().available) // 4)

    def each(self, work: Work, tasks: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """Do some work on every task, in their order."""
        with one_blas_thread() as threads:
            yield from in_threads(work, ((task,) for task in tasks), threads)

    def by_cell(self, pick: Picking, tasks: list[pa.Table], compare: Work) -> Iterator[pa.Table]:
        """Pick rows out of every task, and compare those of one cell."""
        # In one piece: of many, each look at a cell would put them together again.
        picked = pa.concat_tables(self.each(pick, tasks)).combine_chunks()
        cells = picked["cell"].to_numpy()
        order = np.argsort(cells, kind="stable")
        cuts = np.flatnonzero(np.diff(cells[order])) + 1
        parts = np.split(order, cuts) if len(order) else []
        yield from self.each(compare, (picked.take(rows) for rows in parts))
