"""Rows that are distinct from each other: which to keep so that no two are closer than asked."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fiftyone_isoclip.errors import VectorError
from fiftyone_isoclip.index import CosineIndex, Pairs

Rows = npt.NDArray[np.int64]

_FEW = 4
"""Up to one row in this many is chosen one by one; more are found by dropping duplicates."""


def keep_distinct(pairs: Pairs) -> Rows:
    """The rows that stay if of every pair the later one goes, unless its mate went before."""
    kept = np.ones(pairs.n, dtype=np.bool_)
    starts = np.flatnonzero(np.diff(pairs.left, prepend=-1))
    for left, rights in zip(
        pairs.left[starts], np.split(pairs.right, starts[1:]), strict=bool(len(starts))
    ):
        if kept[left]:
            kept[rights] = False
    return np.flatnonzero(kept)


def choose_distinct(index: CosineIndex, count: int) -> tuple[Rows, float]:
    """About `count` rows no two of which are more similar than the number returned.

    Every other row is at least that similar to one of them. Few rows are chosen farthest first
    and are exactly `count`; for many, the similarity is found at which dropping duplicates leaves
    that many, from one or two searches for pairs. Needs 0 < count < n.

    Source: farthest-first traversal: Gonzalez, Clustering to minimize the maximum intercluster
    distance, 1985.
    """
    if count * _FEW > index.n:
        nearest = np.sort(index.nearest(index.vectors, 2).similarities[:, -1])[::-1]
        reach = index.n - count
        while reach < index.n:
            # Twice as many rows have a pair as are to go: each pair drops one at most.
            reach = min(2 * reach, index.n)
            try:
                pairs = index.pairs_above(float(nearest[reach - 1]))
            except VectorError:  # too many pairs to hold
                break
            if len(keep_distinct(pairs)) <= count:
                return _loosest(pairs, count)
    return _farthest_first(index, count)


def _loosest(pairs: Pairs, count: int) -> tuple[Rows, float]:
    """The strictest of the pairs' similarities that leaves at most `count` rows."""
    steps = np.unique(pairs.similarity)
    low, high = 0, len(steps) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if len(keep_distinct(pairs.at(float(steps[middle])))) <= count:
            low = middle
        else:
            high = middle - 1
    similarity = float(steps[low])
    return keep_distinct(pairs.at(similarity)), similarity


def _farthest_first(index: CosineIndex, count: int) -> tuple[Rows, float]:
    chosen = [0]
    closest = index.vectors @ index.vectors[0]
    while len(chosen) < count:
        closest[chosen[-1]] = np.inf
        chosen.append(int(np.argmin(closest)))
        np.maximum(closest, index.vectors @ index.vectors[chosen[-1]], out=closest)
    closest[chosen] = np.inf
    return np.sort(np.array(chosen)), float(closest.min())
