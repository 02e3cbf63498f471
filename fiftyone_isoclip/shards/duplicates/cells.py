"""Which cells rows visit, where two of them meet, and how tables travel as columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fiftyone_isoclip.index.vectors import Float32s, row_blocks

Cells = npt.NDArray[np.int32]

_SCORES_AT_ONCE = 2**22


def nearest_cells(units: Float32s, pivots: Float32s, count: int) -> Cells:
    """The pivots with the largest products, largest first: (n, k), (c, k) -> (n, count)."""
    cells = np.empty((len(units), count), np.int32)
    step = max(1, _SCORES_AT_ONCE // len(pivots))
    for start in range(0, len(units), step):
        block = slice(start, start + step)
        scores = units[block] @ pivots.T
        last = len(pivots) - count
        best = np.argpartition(scores, last, axis=1)[:, last:] if last else np.arange(count)[None]
        best = np.broadcast_to(best, (len(scores), count))
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
        cells[block] = np.take_along_axis(best, order, axis=1)
    return cells


def cells_needed(left: Cells, right: Cells) -> Cells:
    """How many of its nearest cells each row has to visit for two to meet: twice (p, m) -> (p,).

    m + 1 where they do not meet in any of these.
    """
    p, m = left.shape
    places = np.arange(1, m + 1, dtype=np.int32)
    later = np.maximum(places[:, None], places)
    needed = np.empty(p, np.int32)
    for block in row_blocks(p, m * m):
        shared = left[block][:, :, None] == right[block][:, None, :]
        needed[block] = np.where(shared, later, m + 1).min(axis=(1, 2))
    return needed


def first_shared(left: Cells, right: Cells) -> Cells:
    """The smallest cell that both visit: twice (p, m) -> (p,); each two share one."""
    p, m = left.shape
    none = np.iinfo(np.int32).max
    first = np.empty(p, np.int32)
    for block in row_blocks(p, m * m):
        shared = (left[block][:, :, None] == right[block][:, None, :]).any(axis=2)
        first[block] = np.where(shared, left[block], none).min(axis=1)
    return first


def as_column(rows: npt.NDArray[Any]) -> pa.FixedSizeListArray:
    """A table (n, d) as a column of n lists."""
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])


def as_rows(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """What `as_column` made, as a table again."""
    width = column.type.list_size
    parts = [chunk.flatten().to_numpy().reshape(-1, width) for chunk in column.chunks]
    return np.concatenate([np.empty((0, width), column.type.value_type.to_pandas_dtype()), *parts])
