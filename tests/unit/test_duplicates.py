"""Groups are stars around keepers; the examples are small enough to check by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fiftyone_isoclip.errors import VectorError
from fiftyone_isoclip.index import CosineIndex, group_duplicates, join_keepers
from tests.strategies import clustered_rows


def at_angles(*degrees):
    """Rows on a circle: the cosine of two of them is that of the angle between them."""
    angles = np.deg2rad(degrees)
    return np.column_stack([np.cos(angles), np.sin(angles)])


def groups_at(index, angle, **kwargs):
    pairs = index.pairs_above(np.cos(np.deg2rad(angle)) - 1e-6)
    found = group_duplicates(index, pairs, **kwargs)
    return [(group.keeper, group.members.tolist()) for group in found]


def test_rows_that_are_alike_share_one_keeper():
    index = CosineIndex(at_angles(0, 50, 1, 51, 100, 2))
    assert groups_at(index, 5) == [(0, [2, 5]), (1, [3])]


def test_groups_do_not_chain():
    """Each row is near the next, and the ends are nothing like each other."""
    index = CosineIndex(at_angles(0, 10, 20, 30, 40))
    assert groups_at(index, 10) == [(1, [0, 2]), (3, [4])]


def test_the_preferred_row_is_kept():
    index = CosineIndex(at_angles(0, 1, 2))
    assert groups_at(index, 5, prefer=[3, 2, 1]) == [(2, [1, 0])]
    assert groups_at(index, 5, prefer=[1, 1, 1]) == [(0, [1, 2])]
    assert groups_at(index, 5, prefer=[False, True, True]) == [(0, [1, 2])]


def test_without_a_preference_the_row_with_most_pairs_is_kept():
    assert groups_at(CosineIndex(at_angles(0, 4, 8)), 5) == [(1, [0, 2])]


def test_a_row_joins_its_most_similar_keeper_and_the_better_of_two():
    index = CosineIndex(at_angles(0, 4, 6))
    assert groups_at(index, 5, prefer=[0, 2, 1]) == [(2, [1])]
    # Both keepers are the same vector at the same angle on either side.
    mirrored = CosineIndex(np.array([[1.0, 0.25], [1.0, 0.0], [1.0, -0.25]]))
    assert groups_at(mirrored, 15, prefer=[5, 9, 1]) == [(2, [1])]
    assert groups_at(mirrored, 15, prefer=[1, 9, 5]) == [(0, [1])]


def test_a_keeper_that_nobody_joined_is_in_no_group():
    index = CosineIndex(at_angles(0, 4, 6))
    assert [keeper for keeper, _ in groups_at(index, 5, prefer=[0, 2, 1])] == [2]


def test_the_least_similarity_is_between_any_two_of_the_group():
    index = CosineIndex(at_angles(-4, 0, 4, 3))
    (group,) = group_duplicates(
        index, index.pairs_above(np.cos(np.deg2rad(5))), prefer=[1, 0, 2, 3]
    )
    assert (group.keeper, group.rows.tolist()) == (1, [1, 3, 0, 2])
    assert group.least_similarity == pytest.approx(np.cos(np.deg2rad(8)), abs=1e-6)
    np.testing.assert_allclose(group.similarities, np.cos(np.deg2rad([3, 4, 4])), atol=1e-6)


def test_the_least_similarity_of_a_group_larger_than_a_block(monkeypatch):
    rows = clustered_rows(np.random.default_rng(0), 60, 8) * 0.05 + np.ones(8)
    index = CosineIndex(rows)
    pairs = index.pairs_above(0.9)
    (group,) = group_duplicates(index, pairs)
    monkeypatch.setattr("fiftyone_isoclip.index.duplicates._BLOCK", 7)
    (in_blocks,) = group_duplicates(index, pairs)
    assert group.least_similarity == in_blocks.least_similarity == pairs.similarity.min()


def test_nothing_alike_is_no_group():
    for rows in (np.empty((0, 3)), np.eye(3), np.eye(3)[:1]):
        index = CosineIndex(rows)
        assert group_duplicates(index, index.pairs_above(0.5)) == ()


def test_all_identical_rows_are_one_group():
    index = CosineIndex(np.ones((40, 3)))
    (group,) = group_duplicates(index, index.pairs_above(1.0))
    assert (group.keeper, group.members.tolist()) == (0, list(range(1, 40)))
    assert group.least_similarity == 1.0


def test_stricter_groups_need_not_refine_looser_ones():
    """The price of stars with preferences: docs/decisions/0002-star-groups.md.

    On the path a-b-c-d the two best rows are its ends, and only b-c are alike at the stricter
    similarity. Loosely a keeps b and d keeps c; strictly b keeps c, which were never together.
    """
    index = CosineIndex(at_angles(0, 9, 14, 23))
    prefer = [0, 2, 3, 1]
    loose, strict = groups_at(index, 10, prefer=prefer), groups_at(index, 6, prefer=prefer)
    assert (loose, strict) == ([(0, [1]), (3, [2])], [(1, [2])])


def test_on_a_path_of_three_the_keeper_alone_changes():
    """Rows a-b-c with b-c closer: loosely c keeps b, being closer than a; strictly b keeps c."""
    index = CosineIndex(at_angles(0, 9, 14))
    prefer = [0, 1, 2]
    loose, strict = groups_at(index, 10, prefer=prefer), groups_at(index, 6, prefer=prefer)
    assert (loose, strict) == ([(2, [1])], [(1, [2])])


def test_what_is_not_about_these_rows_is_refused():
    index = CosineIndex(at_angles(0, 1, 2))
    pairs = index.pairs_above(0.9)
    with pytest.raises(VectorError, match="among 3 rows and the index has 2"):
        group_duplicates(CosineIndex(at_angles(0, 1)), pairs)
    for prefer in ([1, 2], [1.0, np.nan, 2.0], ["a", "b", "c"]):
        with pytest.raises(VectorError, match="must be 3 numbers"):
            group_duplicates(index, pairs, prefer=prefer)


@pytest.mark.parametrize("seed", range(20))
def test_who_joins_whom_is_the_same_without_the_vectors(seed):
    rng = np.random.default_rng(seed)
    index = CosineIndex(clustered_rows(rng, 60, 6))
    prefer = rng.permutation(60) if seed % 2 else None
    pairs = index.pairs_above(0.7)
    for narrowed in (pairs, pairs.at(0.9), pairs.where(rng.random(len(pairs)) < 0.5)):
        groups = group_duplicates(index, narrowed, prefer=prefer)
        joined = {(group.keeper, row) for group in groups for row in group.members.tolist()}
        keepers, members = join_keepers(narrowed, prefer=prefer)
        assert set(zip(keepers.tolist(), members.tolist(), strict=True)) == joined
        assert len(members) == len(joined) > 0
