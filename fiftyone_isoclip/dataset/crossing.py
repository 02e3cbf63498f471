"""Pairs between splits: how many there are, the partners of each row, and which rows must go.

Rows of the same picture are one node: thousands of copies of a file are counted, never listed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from fiftyone_isoclip.index import Pairs
from fiftyone_isoclip.index.vectors import Rows

MOST_PARTNERS = 20
"""How many partners a row is given; one in each split that it leaks into is always among them."""

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Partner:
    """A row in another split that is a pair of the one at hand."""

    row: int
    split: int
    similarity: float


@dataclass(frozen=True, eq=False)
class Crossing:
    """The pairs of rows that lie in different splits.

    Attributes:
        nodes: the rows (n in all) of each of the m nodes.
        split_of: (n,) the split of each row.
        pairs: of nodes; the rows of one node are pairs of each other in any case.
        order: the s splits as they give way; the last ones, ``fixed`` in number, lose nothing, and
            pairs between two of those do not count.
        apart: pairs of nodes (smaller, larger) that are none.
    """

    nodes: Sequence[Sequence[int]]
    split_of: Rows
    pairs: Pairs
    order: Sequence[int]
    fixed: int = 0
    apart: Collection[tuple[int, int]] = field(default=())

    @cached_property
    def pair_counts(self) -> Rows:
        """(s, s) pairs between two splits."""
        return np.where(self._allowed, self._sizes.T @ self._near, 0)

    @cached_property
    def row_counts(self) -> Rows:
        """(s, s) rows of one split (first axis) that have a pair in another."""
        return np.where(self._allowed, self._sizes.T @ (self._near > 0), 0)

    def partners(self) -> Iterator[tuple[tuple[int, ...], list[Partner]]]:
        """The rows that have a pair in another split, and their partners, most similar first."""
        for node in np.flatnonzero(np.diff(self._table.indptr)).tolist():
            for split, rows in self._members[node].items():
                if self._wanted(node, split):
                    yield tuple(rows), self._chosen(node, split)

    def dropped(self) -> set[int]:
        """Rows without which no pair is left; each has a pair that stays in a split after its own.

        Splits are gone through from the one that stays: whatever is a pair of a row that stayed
        goes. So a row whose only partners go themselves need not go.
        """
        stays = self._sizes > 0
        gone: set[int] = set()
        later = list(self.order[len(self.order) - self.fixed :])
        for split in reversed(self.order[: len(self.order) - self.fixed]):
            near = (self._links @ stays[:, later].astype(np.int64)).sum(axis=1) > 0
            for node in np.flatnonzero(stays[:, split] & near).tolist():
                gone.update(self._members[node][split])
            stays[:, split] &= ~near
            later.append(split)
        return gone

    @cached_property
    def _members(self) -> list[dict[int, list[int]]]:
        """The rows of each node by their split."""
        members = []
        for rows in self.nodes:
            held: dict[int, list[int]] = defaultdict(list)
            for row in rows:
                held[int(self.split_of[row])].append(row)
            members.append(dict(held))
        return members

    @cached_property
    def _sizes(self) -> Rows:
        """(m, s) rows of each node in each split."""
        sizes = np.zeros((len(self.nodes), len(self.order)), np.int64)
        for node, held in enumerate(self._members):
            for split, rows in held.items():
                sizes[node, split] = len(rows)
        return sizes

    @cached_property
    def _allowed(self) -> Bools:
        """(s, s) whether pairs between two splits count."""
        allowed = ~np.eye(len(self.order), dtype=np.bool_)
        fixed = list(self.order[len(self.order) - self.fixed :])
        allowed[np.ix_(fixed, fixed)] = False
        return allowed

    @cached_property
    def _table(self) -> csr_array:
        """(m, m) similarities of nodes that have rows in different splits, on both sides."""
        bits = 1 << np.arange(len(self.order))
        held = (self._sizes > 0) @ bits
        sought = np.zeros(len(self.nodes), np.int64)
        for split, reach in enumerate(self._allowed @ bits):
            sought[self._sizes[:, split] > 0] |= reach
        left, right, similarity = self.pairs.left, self.pairs.right, self.pairs.similarity
        cross = (sought[left] & held[right]) != 0
        if self.apart:
            codes = [one * len(self.nodes) + other for one, other in self.apart]
            cross &= ~np.isin(left * len(self.nodes) + right, codes)
        left, right, similarity = left[cross], right[cross], similarity[cross]
        alone = np.flatnonzero(sought & held)
        ones = np.ones(len(alone), np.float32)
        values = np.concatenate([similarity, similarity, ones])
        places = (np.concatenate([left, right, alone]), np.concatenate([right, left, alone]))
        return csr_array((values, places), shape=(len(self.nodes),) * 2)

    @cached_property
    def _links(self) -> csr_array:
        """The table with ones, to count with: a similarity may be 0 or less."""
        links = self._table.astype(np.int64)
        links.data[:] = 1
        return links

    @cached_property
    def _near(self) -> Rows:
        """(m, s) rows of each split that are pairs of a node."""
        return np.asarray(self._links @ self._sizes)

    def _wanted(self, node: int, split: int) -> set[int]:
        return set(np.flatnonzero(self._allowed[split] & (self._near[node] > 0)).tolist())

    def _chosen(self, node: int, split: int) -> list[Partner]:
        """The nearest partner in each split, then whichever are nearest."""
        wanted = self._wanted(node, split)
        firsts: dict[int, Partner] = {}
        others: list[Partner] = []
        for mate, similarity in self._mates(node):
            for place in wanted & self._members[mate].keys():
                rows = self._members[mate][place][:MOST_PARTNERS]
                found = [Partner(row, place, similarity) for row in rows]
                if place not in firsts:
                    firsts[place] = found.pop(0)
                others += found
            if len(firsts) == len(wanted) and len(others) >= MOST_PARTNERS:
                break
        chosen = [*firsts.values(), *others[: MOST_PARTNERS - len(firsts)]]
        return sorted(chosen, key=lambda partner: (-partner.similarity, partner.row))

    def _mates(self, node: int) -> list[tuple[int, float]]:
        span = slice(self._table.indptr[node], self._table.indptr[node + 1])
        mates, similarities = self._table.indices[span], self._table.data[span]
        nearest = np.lexsort((mates, -similarities))
        return list(zip(mates[nearest].tolist(), similarities[nearest].tolist(), strict=True))
