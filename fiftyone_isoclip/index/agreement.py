"""How far two spaces agree on the neighbours of the same rows, and which have the right labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fiftyone_isoclip.errors import VectorError
from fiftyone_isoclip.index.neighbors import CosineIndex, Neighbors
from fiftyone_isoclip.index.vectors import Float32s, Float64s, Rows, Table, unit_rows

ALL_QUERIES = 20_000
"""Up to so many rows each one is a query; of more, ``SAMPLED_QUERIES`` are picked at random."""
SAMPLED_QUERIES = 2_000

_BLOCK_QUERIES = 512
_SEED = 0


def pick_queries(n: int, asked: int | None = None, *, all_up_to: int = ALL_QUERIES) -> Rows:
    """Some of n rows, picked at random but always the same; None is all, or ``SAMPLED_QUERIES``.

    Raises:
        VectorError: less than one was asked for.
    """
    if asked is None:
        asked = n if n <= all_up_to else SAMPLED_QUERIES
    elif asked < 1:
        raise VectorError(f"{asked} queries were asked for; ask for at least 1.")
    if asked >= n:
        return np.arange(n)
    return np.sort(np.random.default_rng(_SEED).choice(n, asked, replace=False))


def neighbors_of_rows(
    units: Table, queries: Rows, k: int, told: Callable[[int], Any] | None = None
) -> Neighbors:
    """Find the k rows nearest to some of the unit rows (n, d), themselves left out: (m, k), exact.

    ``k`` is at most n - 1; ``told`` is called with how many more queries are done.
    """
    index = CosineIndex.of_units(units)
    rows = np.empty((len(queries), k), np.int64)
    similarities = np.empty((len(queries), k), np.float32)
    for start in range(0, len(queries), _BLOCK_QUERIES):
        block = slice(start, start + _BLOCK_QUERIES)
        asked = queries[block]
        near = index.nearest(units[asked], k + 1)
        itself = near.rows == asked[:, None]
        # Where copies fill all places, the row itself may have found none: give up the last.
        itself[~itself.any(axis=1), -1] = True
        rows[block] = near.rows[~itself].reshape(-1, k)
        similarities[block] = near.similarities[~itself].reshape(-1, k)
        if told is not None:
            told(len(asked))
    return Neighbors(rows, similarities)


def overlaps(one: Rows, other: Rows) -> Float64s:
    """The share of its neighbours that each query has in both spaces: twice (m, k) -> (m,)."""
    shared = (one[:, :, None] == other[:, None, :]).any(axis=2)
    return np.asarray(shared.mean(axis=1))


def label_shares(labels: Sequence[Any], queries: Rows, near: Rows) -> Float64s:
    """The share of neighbours with the label of their query: n labels, (m,), (m, k) -> (m,)."""
    number_of = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    numbers = np.array([number_of[label] for label in labels], np.int64)
    return np.asarray((numbers[near] == numbers[queries][:, None]).mean(axis=1))


def centred(units: Float32s) -> Float32s:
    """Unit rows (n, d) less their mean, as unit rows; one that is the mean itself stays."""
    moved = units - units.mean(axis=0, dtype=np.float64).astype(np.float32)
    lost = ~moved.any(axis=1)
    moved[lost] = units[lost]
    return unit_rows(moved, in_place=True)
