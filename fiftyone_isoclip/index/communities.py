"""Communities: rows that are each other's neighbours, found by the Leiden algorithm, and noise."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from fiftyone_isoclip.index.graph import neighbor_graph
from fiftyone_isoclip.index.vectors import Float32s, Rows

_ITERATIONS = 2
_CLEAR = 0.9
"""Share of the weight that parts of a community must keep inside them to be communities."""

_MAJORITY = 0.5


def leiden_labels(units: Float32s, least_size: int, seed: int) -> Rows:
    """Divide unit rows into communities of the neighbour graph: (n, d) -> (n,) labels, -1 noise.

    The Leiden algorithm (Traag, Waltman and van Eck 2019) with modularity, which does not see
    small communities in a large graph; so every community is divided again for as long as its
    parts keep nine tenths of the weight inside them. A row is noise if less than half of its
    weight leads to rows of its community that are no noise themselves, or if its community is
    smaller than `least_size`. Equal rows share a label.
    """
    firsts, copy_of, copies = _distinct(units)
    graph = neighbor_graph(units[firsts])
    labels = _divide(graph, seed, least_kept=0.0)
    belongs = _belonging(graph, labels, copies >= least_size)
    sizes = np.bincount(labels, weights=copies * belongs)
    return np.where(belongs & (sizes[labels] >= least_size), labels, -1)[copy_of]


def _distinct(units: Float32s) -> tuple[Rows, Rows, Rows]:
    """Name the first of equal rows, which of them each row equals, and how many do."""
    keys = np.ascontiguousarray(units).view(f"V{units.shape[1] * units.itemsize}").ravel()
    return np.unique(keys, return_index=True, return_inverse=True, return_counts=True)[1:]


def _divide(graph: csr_array, seed: int, least_kept: float) -> Rows:
    """Label the communities of a graph, or all of it 0 if they keep too little of its weight."""
    labels = _leiden(graph, seed)
    whole = np.zeros_like(labels)
    if not labels.any() or _kept(graph, labels) < least_kept:
        return whole
    order = np.argsort(labels, kind="stable")
    cuts = np.flatnonzero(np.diff(labels[order], prepend=-1, append=-1))
    by_label = csr_array(graph[order][:, order])
    count = 0
    for start, end in itertools.pairwise(cuts):
        parts = _divide(csr_array(by_label[start:end, start:end]), seed, _CLEAR)
        whole[order[start:end]] = parts + count
        count += int(parts.max()) + 1
    return whole


def _leiden(graph: csr_array, seed: int) -> Rows:
    # Imported here: most searches never need it.
    from graspologic_native import leiden_csr

    n = graph.shape[0]
    labels = np.arange(n)
    if graph.nnz:
        _, found = leiden_csr(
            graph.indptr.astype(np.int64),
            graph.indices.astype(np.int32),
            graph.data,
            n,
            iterations=_ITERATIONS,
            seed=seed,
        )
        rows = np.fromiter(found, np.int64, len(found))
        # Above n, so that a row of no community never shares its number with one.
        labels[rows] = n + np.fromiter(found.values(), np.int64, len(found))
    return np.unique(labels, return_inverse=True)[1]


def _kept(graph: csr_array, labels: Rows) -> float:
    total = float(graph.sum())
    return float(_inside(graph, labels).sum()) / total if total else 1.0


def _inside(graph: csr_array, labels: Rows) -> csr_array:
    """Keep the weights between rows of the same label."""
    ends = np.repeat(labels, np.diff(graph.indptr))
    weights = graph.data * (ends == labels[graph.indices])
    return csr_array((weights, graph.indices, graph.indptr), shape=graph.shape)


def _belonging(
    graph: csr_array, labels: Rows, dense: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Find the rows that lean on their community; those `dense` in themselves always belong."""
    inside = _inside(graph, labels)
    needed = _MAJORITY * graph.sum(axis=1)
    belongs = np.ones(len(labels), dtype=np.bool_)
    while True:
        # Rows that hold on to noise only go with it, so this ends with the first round of none.
        still = belongs & ((inside @ belongs.astype(np.float64) >= needed) | dense)
        if np.array_equal(still, belongs):
            return belongs
        belongs = still
