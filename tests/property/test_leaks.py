"""What is promised of pairs between splits, for any vectors, splits, copies and verdicts."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fiftyone_isoclip.dataset.crossing import MOST_PARTNERS, Crossing
from fiftyone_isoclip.index import CosineIndex
from tests.strategies import seeds, similarities, vectors


class Case:
    """Rows in splits, some of them copies of others; ``pairs`` is the truth, row by row."""

    def __init__(self, table, rng, similarity, n_splits, fixed):
        self.rng = rng
        n_nodes = len(table)
        node_of = np.concatenate(
            [np.arange(n_nodes), rng.integers(n_nodes, size=3 * (n_nodes > 0))]
        )
        self.split_of = rng.integers(n_splits, size=len(node_of))
        nodes = [np.flatnonzero(node_of == node).tolist() for node in range(n_nodes)]
        index = CosineIndex(table)
        found = index.pairs_above(similarity)
        near = {(int(a), int(b)) for a, b in zip(found.left, found.right, strict=True)}
        apart = {pair for pair in near if rng.random() < 0.2}
        self.order = rng.permutation(n_splits).tolist()
        self.fixed = set(self.order[n_splits - fixed :])
        self.crossing = Crossing(nodes, self.split_of, found, self.order, fixed, apart)
        cosine = {
            (int(a), int(b)): float(s)
            for a, b, s in zip(found.left, found.right, found.similarity, strict=True)
        }
        self.pairs = {}
        for row, mate in itertools.combinations(range(len(node_of)), 2):
            low, high = sorted((node_of[row], node_of[mate]))
            splits = {int(self.split_of[row]), int(self.split_of[mate])}
            if len(splits) == 1 or splits <= self.fixed or (low, high) in apart:
                continue
            if low == high or (low, high) in near:
                self.pairs[row, mate] = 1.0 if low == high else cosine[low, high]


@st.composite
def cases(draw):
    n_splits = draw(st.integers(2, 4))
    table = draw(vectors(most_n=24))
    fixed = draw(st.integers(0, n_splits - 1))
    return Case(table, draw(seeds()), draw(similarities()), n_splits, fixed)


@given(cases())
def test_counts_are_those_of_all_rows_compared_with_all(case):
    n = len(case.order)
    pairs, rows = np.zeros((n, n), int), [[set() for _ in range(n)] for _ in range(n)]
    for pair in case.pairs:
        for row, mate in (pair, pair[::-1]):
            pairs[case.split_of[row], case.split_of[mate]] += 1
            rows[case.split_of[row]][case.split_of[mate]].add(row)
    np.testing.assert_array_equal(case.crossing.pair_counts, pairs)
    np.testing.assert_array_equal(
        case.crossing.row_counts, [[len(cell) for cell in line] for line in rows]
    )


@given(cases())
def test_without_what_is_dropped_no_pair_is_left_and_none_went_for_nothing(case):
    dropped = case.crossing.dropped()
    assert not any({row, mate}.isdisjoint(dropped) for row, mate in case.pairs)
    assert not case.fixed & {int(case.split_of[row]) for row in dropped}
    later = {split: place for place, split in enumerate(case.order)}
    for row in dropped:
        mates = {mate for pair in case.pairs if row in pair for mate in pair} - {row} - dropped
        assert any(later[case.split_of[mate]] > later[case.split_of[row]] for mate in mates)


@given(cases())
def test_partners_are_the_nearest_and_one_in_each_split(case):
    mates = {}
    for (row, mate), similarity in case.pairs.items():
        mates.setdefault(row, {})[mate] = similarity
        mates.setdefault(mate, {})[row] = similarity
    found = {row: partners for rows, partners in case.crossing.partners() for row in rows}
    assert found.keys() == mates.keys()
    for row, partners in found.items():
        truth = mates[row]
        assert [(p.row, p.similarity) for p in partners] == [
            (p.row, truth[p.row]) for p in sorted(partners, key=lambda p: -p.similarity)
        ]
        assert all(p.split == case.split_of[p.row] for p in partners)
        assert len({p.row for p in partners}) == len(partners) == min(len(truth), MOST_PARTNERS)
        assert partners[0].similarity == max(truth.values())
        for split in {int(case.split_of[mate]) for mate in truth}:
            nearest = max(s for mate, s in truth.items() if case.split_of[mate] == split)
            assert nearest == max(p.similarity for p in partners if p.split == split)
