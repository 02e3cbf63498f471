"""What star groups promise, for any vectors and any preference."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fiftyone_isoclip.index import CosineIndex, group_duplicates
from tests.strategies import seeds, similarities, vectors


def groups_by_definition(pairs, prefer):
    """The definition, row by row with sets: greedy keepers, then the closest keeper."""
    score = {}
    for left, right, similarity in zip(pairs.left, pairs.right, pairs.similarity, strict=True):
        score[left, right] = score[right, left] = float(similarity)
    keepers = set()
    for row in sorted({row for pair in score for row in pair}, key=lambda row: (prefer[row], row)):
        if not any((row, keeper) in score for keeper in keepers):
            keepers.add(row)
    groups = {}
    for row in sorted({row for pair in score for row in pair} - keepers):
        near = [keeper for keeper in keepers if (row, keeper) in score]
        best = min(near, key=lambda keeper: (-score[row, keeper], prefer[keeper], keeper))
        groups.setdefault(best, set()).add(row)
    return groups


@st.composite
def grouped(draw):
    table = draw(vectors(most_n=30))
    rng = draw(seeds())
    index = CosineIndex(table)
    pairs = index.pairs_above(draw(similarities()))
    prefer = rng.permutation(len(table))
    return index, pairs, prefer, rng


@given(grouped(), st.booleans())
def test_groups_are_those_of_the_definition(case, by_degree):
    index, pairs, prefer, _ = case
    degrees = np.bincount(np.concatenate([pairs.left, pairs.right]), minlength=index.n)
    found = group_duplicates(index, pairs, prefer=None if by_degree else prefer)
    expected = groups_by_definition(pairs, -degrees if by_degree else prefer)
    assert {group.keeper: set(group.members.tolist()) for group in found} == expected
    assert len(found) == len(expected)


@given(grouped())
def test_members_are_pairs_of_their_keeper_and_survivors_are_no_pair(case):
    index, pairs, prefer, _ = case
    groups = group_duplicates(index, pairs, prefer=prefer)
    score = {
        frozenset(pair): similarity
        for *pair, similarity in zip(pairs.left, pairs.right, pairs.similarity, strict=True)
    }
    for group in groups:
        assert list(group.similarities) == [
            score[frozenset((group.keeper, row))] for row in group.members
        ]
        assert list(group.similarities) == sorted(group.similarities, reverse=True)
    removed = {row for group in groups for row in group.members.tolist()}
    assert len(removed) == sum(len(group.members) for group in groups)
    assert removed.isdisjoint(group.keeper for group in groups)
    assert all(pair & removed for pair in score)


@given(grouped())
def test_the_least_similarity_is_that_of_brute_force(case):
    index, pairs, prefer, _ = case
    rows = index.vectors.astype(np.float64)
    cosines = rows @ rows.T
    for group in group_duplicates(index, pairs, prefer=prefer):
        inside = cosines[np.ix_(group.rows, group.rows)]
        assert abs(group.least_similarity - inside.min()) < 1e-6
        assert group.least_similarity <= group.similarities.min()


@given(grouped())
def test_shuffling_rows_shuffles_groups_and_nothing_else(case):
    index, pairs, prefer, rng = case
    shuffle = rng.permutation(index.n)
    shuffled = CosineIndex(index.vectors[shuffle])
    again = group_duplicates(shuffled, shuffled.pairs_above(pairs.least), prefer=prefer[shuffle])
    fresh = CosineIndex(index.vectors)
    once = group_duplicates(fresh, fresh.pairs_above(pairs.least), prefer=prefer)

    def essence(groups, names):
        return [
            (names[group.keeper], set(names[group.members]), group.least_similarity)
            for group in groups
        ]

    assert essence(again, shuffle) == essence(once, np.arange(index.n))


@given(grouped(), st.floats(0, 1))
def test_a_strict_group_lies_inside_one_component_of_the_looser_pairs(case, fraction):
    index, pairs, prefer, _ = case
    edges = coo_array((np.ones(len(pairs)), (pairs.left, pairs.right)), shape=(index.n,) * 2)
    component = connected_components(edges, directed=False)[1] if index.n else np.empty(0)
    strict = pairs.at(pairs.least + fraction * (1 - pairs.least))
    for group in group_duplicates(index, strict, prefer=prefer):
        assert len(set(component[group.rows])) == 1
