"""Pairs that are near in one space and far in the other: by rank, which people see of a space.

Cosines of two spaces do not compare, and the percentile of a pair among all pairs is moved most in
the crowd in the middle, where no search ever looks. The rank of an image among a query's neighbours
is free of scale, and from 1st to 500th it changes what is found.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fiftyone_isoclip.errors import IsoClipError
from fiftyone_isoclip.evaluation.metrics.ranking import Told, similarity_blocks
from fiftyone_isoclip.index.vectors import Float32s, Float64s, Rows

NEAR = 10
"""A pair is looked at if it is among so many nearest neighbours in one of the spaces."""
COUNT = 50
MOST_PAIRS = 500
"""Of each kind: a report of more would not be read, and a run keeps them all."""
MOST_NEAR = 100
"""What stands further down nobody looks at; time and memory grow with it."""


@dataclass(frozen=True, eq=False, slots=True)
class Disagreements:
    """Pairs of rows, those on which two spaces disagree most first, and each once.

    Shapes: ``queries`` and ``neighbors`` (p,) are rows. ``ranks`` (p, 2), from 1, are the
    neighbour's among all others of the query in the one and the other space; equally near ones
    share the first rank. ``similarities`` (p, 2) are the cosines.
    """

    queries: Rows
    neighbors: Rows
    ranks: Rows
    similarities: Float32s

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def nearer_in_first(self) -> Any:
        """Whether a pair is nearer in the first space, (p,) bool."""
        return self.ranks[:, 0] < self.ranks[:, 1]

    @property
    def factors(self) -> Float64s:
        """The rank where the pair is far over the rank where it is near, (p,), above 1."""
        return np.asarray(self.ranks.max(axis=1) / self.ranks.min(axis=1))

    def take(self, rows: Any) -> Disagreements:
        """Some of the pairs."""
        parts = (self.queries, self.neighbors, self.ranks, self.similarities)
        return Disagreements(*(part[rows] for part in parts))


def find_disagreements(
    first: Float32s,
    second: Float32s,
    queries: Rows,
    *,
    count: int = COUNT,
    near: int = NEAR,
    told: Told = None,
) -> Disagreements:
    """Find the pairs on which two spaces (n, d) and (n, e) of the same unit rows disagree most.

    A pair is a query (m,) and one of its ``near`` nearest neighbours in either space, ordered by
    how many times further down it stands in the other one. Of a pair that both rows find, the
    worse is kept. ``count`` are kept of those that are nearer in the first space, and as many of
    those in the second. ``told`` is called with how many more queries are done.

    Raises:
        IsoClipError: ``count`` or ``near`` is out of its range.
    """
    _check_counts(count, near)
    near = min(near, len(first) - 1)
    parts = [Disagreements(*_NOTHING)]
    if near > 0:
        parts += _candidates(first, second, queries, near, told)
    found = Disagreements(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in _NAMES)
    )
    worst = _each_once(_worst_first(found.take(found.ranks[:, 0] != found.ranks[:, 1])))
    is_first = worst.nearer_in_first
    kept = np.where(is_first, np.cumsum(is_first), np.cumsum(~is_first)) <= count
    return worst.take(kept)


_NAMES = ("queries", "neighbors", "ranks", "similarities")
_NOTHING: Any = (
    np.empty(0, np.int64),
    np.empty(0, np.int64),
    np.empty((0, 2), np.int64),
    np.empty((0, 2), np.float32),
)


def _check_counts(count: int, near: int) -> None:
    if not 1 <= count <= MOST_PAIRS:
        raise IsoClipError(f"{count} pairs of each kind were asked for; ask for 1 to {MOST_PAIRS}")
    if not 1 <= near <= MOST_NEAR:
        raise IsoClipError(
            f"{near} nearest neighbours were to be looked at; give a number of 1 to {MOST_NEAR}"
        )


def _candidates(
    first: Float32s, second: Float32s, queries: Rows, near: int, told: Told
) -> Iterator[Disagreements]:
    """The near neighbours of some queries after others, twice where they are near in both."""
    blocks = zip(
        similarity_blocks(first[queries], first, queries, told),
        similarity_blocks(second[queries], second, queries),
        strict=True,
    )
    for (block, in_first), (_, in_second) in blocks:
        asked = np.repeat(np.arange(block.stop - block.start), near)
        for space in (in_first, in_second):
            nearest = np.argpartition(-space, near - 1, axis=1)[:, :near].reshape(-1)
            similarities = [each[asked, nearest] for each in (in_first, in_second)]
            ranks = [
                _ranks(each, found.reshape(-1, near)).reshape(-1)
                for each, found in zip((in_first, in_second), similarities, strict=True)
            ]
            yield Disagreements(
                queries[block][asked], nearest, np.stack(ranks, 1), np.stack(similarities, 1)
            )


def _ranks(similarities: Float32s, found: Float32s) -> Rows:
    """The ranks of some similarities (b, k) among all of their rows (b, m), from 1: (b, k)."""
    ranks = [
        1 + np.count_nonzero(similarities > each[:, None], axis=1)
        for each in np.ascontiguousarray(found.T)
    ]
    return np.stack(ranks, axis=1)


def _worst_first(pairs: Disagreements) -> Disagreements:
    """By falling factor, then by rank where it is near; the rest makes the order certain."""
    low = np.minimum(pairs.queries, pairs.neighbors)
    high = np.maximum(pairs.queries, pairs.neighbors)
    keys = (pairs.queries, high, low, pairs.ranks.min(axis=1), -pairs.factors)
    return pairs.take(np.lexsort(keys))


def _each_once(pairs: Disagreements) -> Disagreements:
    """The first of those that are of the same two rows."""
    both = np.sort(np.stack([pairs.queries, pairs.neighbors], axis=1), axis=1)
    _, places = np.unique(both, axis=0, return_index=True)
    return pairs.take(np.sort(places))
