"""Pairs become groups: one keeper each, and every other row joins the keeper it is closest to."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fiftyone_isoclip.errors import VectorError
from fiftyone_isoclip.index.neighbors import CosineIndex
from fiftyone_isoclip.index.pairs import Pairs
from fiftyone_isoclip.index.vectors import Float32s, Rows, cosines

DEFAULT_SIMILARITY = 0.95
"""Cosine from which two images count as near-duplicates unless the user says otherwise.

With the demo weights on the demonstration's planted copies, 0.95 gave precision .98 and recall .62,
0.97 gave .98 and .52, 0.92 gave .93 and .73. Other checkpoints and bands need their own.
"""

_BLOCK = 1024


@dataclass(frozen=True, eq=False, slots=True)
class DuplicateGroup:
    """Rows that are the same thing, and the one to keep.

    Attributes:
        keeper: the row to keep.
        members: (g,) the other rows, most similar to the keeper first.
        similarities: (g,) their cosines to the keeper, each at least the pairs' threshold.
        least_similarity: the lowest cosine between any two rows of the group, keeper included.
    """

    keeper: int
    members: Rows
    similarities: Float32s
    least_similarity: float

    @property
    def rows(self) -> Rows:
        """All rows of the group, (g + 1,), the keeper first."""
        return np.concatenate([[self.keeper], self.members]).astype(np.int64)


def group_duplicates(
    index: CosineIndex, pairs: Pairs, *, prefer: npt.ArrayLike | None = None
) -> tuple[DuplicateGroup, ...]:
    """Divide the rows that have a pair into star groups around keepers.

    Keepers are chosen greedily, best first: a row becomes a keeper unless a keeper is already its
    pair. Every other row joins its most similar keeper, the better one if two are equally similar.
    So each member is a pair of its keeper, no two rows that survive are a pair, and groups never
    chain. A keeper that no row joined is in no group. Groups come in the order of their keepers.
    See docs/decisions/0002-star-groups.md.

    Args:
        index: the index that was searched.
        pairs: pairs of its rows.
        prefer: (n,) lower is the better keeper, equal ones by row; most pairs first if None.

    Raises:
        VectorError: if the pairs or preferences are not about the rows of this index.
    """
    if pairs.n != index.n:
        raise VectorError(
            f"These pairs were found among {pairs.n} rows and the index has {index.n}; "
            "search this index for its own pairs."
        )
    keepers, members, scores, place = _spokes(pairs, prefer)
    joined = _joined(keepers, members, scores, place)
    order = joined[np.lexsort((members[joined], -scores[joined], place[keepers[joined]]))]
    return _groups(index.vectors, keepers[order], members[order], scores[order])


def join_keepers(pairs: Pairs, *, prefer: npt.ArrayLike | None = None) -> tuple[Rows, Rows]:
    """Who would join whom in `group_duplicates`: (m,) keepers, and (m,) the members, each once."""
    keepers, members, scores, place = _spokes(pairs, prefer)
    joined = _joined(keepers, members, scores, place)
    return keepers[joined], members[joined]


def connected_components(pairs: Pairs) -> Rows:
    """The number of the component that each row lies in, where pairs connect rows: (n,)."""
    # Imported here: scipy takes longer to load than most searches to run.
    from scipy.sparse import coo_array, csgraph

    ends = (np.ones(len(pairs), np.int8), (pairs.left, pairs.right))
    found = csgraph.connected_components(coo_array(ends, shape=(pairs.n, pairs.n)), directed=False)
    return np.asarray(found[1], np.int64)


def _spokes(pairs: Pairs, prefer: npt.ArrayLike | None) -> tuple[Rows, Rows, Float32s, Rows]:
    """The pairs between a keeper and another row, from the keeper; and the place of each row."""
    ends = np.concatenate([pairs.left, pairs.right])
    others = np.concatenate([pairs.right, pairs.left])
    scores = np.concatenate([pairs.similarity, pairs.similarity])
    place = _places(np.bincount(ends, minlength=pairs.n), prefer)
    spokes = _independent(ends, others, place)[ends]
    return ends[spokes], others[spokes], scores[spokes], place


def _joined(keepers: Rows, members: Rows, scores: Float32s, place: Rows) -> Rows:
    """Which of the spokes each member follows: to its most similar keeper."""
    closest = np.lexsort((place[keepers], -scores, members))
    return closest[np.unique(members[closest], return_index=True)[1]]


def _places(degrees: Rows, prefer: npt.ArrayLike | None) -> Rows:
    ranks = -degrees if prefer is None else np.asarray(prefer)
    if ranks.shape != degrees.shape or ranks.dtype.kind not in "fiub" or np.isnan(ranks).any():
        raise VectorError(
            f"`prefer` must be {len(degrees)} numbers, one a row, lower for a better keeper; "
            f"found shape {ranks.shape} of {ranks.dtype}"
            f"{', some of them NaN' if ranks.dtype.kind == 'f' else ''}."
        )
    places = np.empty(len(degrees), dtype=np.int64)
    places[np.argsort(ranks, kind="stable")] = np.arange(len(degrees))
    return places


def _independent(ends: Rows, others: Rows, place: Rows) -> npt.NDArray[np.bool_]:
    by_place = np.argsort(place[ends], kind="stable")
    ends, others = ends[by_place], others[by_place]
    taken = np.zeros(len(place), dtype=np.bool_)
    is_keeper = np.zeros(len(place), dtype=np.bool_)
    for start, end in _runs(ends):
        row = ends[start]
        if not taken[row]:
            is_keeper[row] = True
            taken[others[start:end]] = True
    return is_keeper


def _runs(rows: Rows) -> list[tuple[int, int]]:
    """Cut sorted rows where their value changes: [4, 4, 7] -> [(0, 2), (2, 3)]."""
    cuts = np.flatnonzero(np.diff(rows, prepend=-1, append=-1)).tolist()
    return list(itertools.pairwise(cuts))


def _groups(
    units: Float32s, keepers: Rows, members: Rows, scores: Float32s
) -> tuple[DuplicateGroup, ...]:
    groups = []
    for start, end in _runs(keepers):
        keeper, near = int(keepers[start]), members[start:end]
        least = float(scores[end - 1])
        if len(near) > 1:
            least = min(least, _least_inside(units, near))
        groups.append(DuplicateGroup(keeper, near, scores[start:end], least))
    return tuple(groups)


def _least_inside(units: Float32s, rows: Rows) -> float:
    """Find the lowest cosine between any two of these rows, without a square table of them."""
    tables = units[rows].astype(np.float64)
    tables /= np.linalg.norm(tables, axis=1, keepdims=True)
    lowest, pair = np.inf, (0, 0)
    for start in range(0, len(rows), _BLOCK):
        for other in range(start, len(rows), _BLOCK):
            scores = tables[start : start + _BLOCK] @ tables[other : other + _BLOCK].T
            place = int(np.argmin(scores))
            if scores.flat[place] < lowest:
                lowest = float(scores.flat[place])
                pair = (start + place // scores.shape[1], other + place % scores.shape[1])
    left, right = rows[[pair[0]]], rows[[pair[1]]]
    return float(cosines(units, left, units, right)[0])
