"""The neighbour graph: each row joined to the rows nearest to it, as a sparse table of weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from fiftyone_isoclip.index.threads import faiss_threads
from fiftyone_isoclip.index.vectors import Float32s, Rows

NEIGHBORS = 15
"""Neighbours a row is joined to: enough to hold a community together, few enough to part two."""

_EXACT_ROWS = 30_000
_PROBES = 16
_ROUNDS = 4
_TRAINING_ROWS_A_CELL = 32
_QUERIES_AT_ONCE = 16_384


def neighbor_graph(units: Float32s, count: int = NEIGHBORS) -> csr_array:
    """Join unit rows to their nearest: (n, d) -> (n, n), symmetric, with an empty diagonal.

    A neighbour weighs as much as its cosine exceeds that of the row's last neighbour, or 0 where
    all rows are neighbours, so that weights tell near from far wherever the cosines of unrelated
    rows lie; what two rows weigh for each other adds up. Up to 30,000 rows the neighbours are
    exact.
    """
    neighbors, similarities = nearest_rows(units, count)
    n = len(units)
    background = np.zeros(n, dtype=np.float32)
    if n > count + 1:
        background = np.min(similarities, axis=1, where=neighbors >= 0, initial=np.inf)
    weights = similarities - background[:, None]
    rows, places = np.nonzero((neighbors >= 0) & (weights > 0))
    joined = csr_array(
        (weights[rows, places].astype(np.float64), (rows, neighbors[rows, places])), shape=(n, n)
    )
    both = csr_array(joined + joined.T)
    both.sort_indices()
    return both


def nearest_rows(units: Float32s, count: int) -> tuple[Rows, Float32s]:
    """Find the rows nearest to each, itself apart: (n, d) -> (n, k) rows and cosines, best first.

    k is the smaller of `count` and n - 1. Beyond 30,000 rows an inverted file is searched, which
    misses a few; rows it finds fewer than k for have -1 in the places left.
    """
    # Imported here: faiss takes longer to load than most searches to run.
    import faiss

    n = len(units)
    found = min(count, max(0, n - 1))
    neighbors = np.empty((n, found), dtype=np.int64)
    similarities = np.empty((n, found), dtype=np.float32)
    if not found:
        return neighbors, similarities
    with faiss_threads():
        index = faiss.IndexFlatIP(units.shape[1]) if n <= _EXACT_ROWS else _inverted_file(units)
        index.add(units)
        for start in range(0, n, _QUERIES_AT_ONCE):
            block = slice(start, start + _QUERIES_AT_ONCE)
            scores, rows = index.search(units[block], found + 1)
            others = _others(rows, np.arange(start, start + len(rows)))
            neighbors[block] = rows[others].reshape(-1, found)
            similarities[block] = scores[others].reshape(-1, found)
    return neighbors, similarities


def _inverted_file(units: Float32s) -> Any:
    import faiss

    n, dim = units.shape
    cells = int(4 * np.sqrt(n))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, cells, faiss.METRIC_INNER_PRODUCT)
    index.cp.niter = _ROUNDS
    index.cp.spherical = True
    index.cp.min_points_per_centroid = 1
    index.cp.max_points_per_centroid = _TRAINING_ROWS_A_CELL
    index.train(units)
    index.nprobe = _PROBES
    return index


def _others(rows: Rows, asked: Rows) -> npt.NDArray[np.bool_]:
    """Leave out the row that asked, or the last one where equal rows crowded it out."""
    others: npt.NDArray[np.bool_] = rows != asked[:, None]
    others[others.all(axis=1), -1] = False
    return others
