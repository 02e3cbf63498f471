from __future__ import annotations

import numpy as np
import pytest

from fiftyone_isoclip.dataset.distinct import choose_distinct, keep_distinct
from fiftyone_isoclip.index import CosineIndex


@pytest.fixture
def index() -> CosineIndex:
    """Fifty things, each six times with a little noise."""
    random = np.random.default_rng(3)
    things = np.repeat(random.normal(size=(50, 16)), 6, axis=0)
    return CosineIndex(things + random.normal(size=things.shape) * 0.05)


def test_what_stays_is_the_greedy_set_in_row_order(index: CosineIndex) -> None:
    scores = index.vectors.astype(np.float64) @ index.vectors.T.astype(np.float64)
    for similarity in (0.5, 0.9, 0.99):
        stay: list[int] = []
        for row in range(index.n):
            if all(scores[row, other] < similarity for other in stay):
                stay.append(row)
        assert keep_distinct(index.pairs_above(similarity)).tolist() == stay


@pytest.mark.parametrize("count", [1, 2, 50, 74, 76, 150, 250, 299])
def test_the_rows_chosen_are_apart_and_cover_the_others(index: CosineIndex, count: int) -> None:
    rows, similarity = choose_distinct(index, count)

    assert len(set(rows.tolist())) == len(rows)
    assert abs(len(rows) - count) <= 2
    scores = index.vectors @ index.vectors.T
    others = np.setdiff1d(np.arange(index.n), rows)
    apart = scores[np.ix_(rows, rows)] - 9 * np.eye(len(rows))
    assert apart.max() <= similarity + 1e-6
    assert scores[np.ix_(others, rows)].max(axis=1).min() >= similarity - 1e-6


def test_one_row_of_each_thing_is_chosen(index: CosineIndex) -> None:
    rows, _ = choose_distinct(index, 50)
    assert sorted(rows // 6) == list(range(50))
