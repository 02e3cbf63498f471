"""Searches refused by a sample: only where the sample is enough to tell."""

from __future__ import annotations

import numpy as np
import pytest

from fiftyone_isoclip.errors import VectorError
from fiftyone_isoclip.index.limits import refuse_explosion


@pytest.mark.parametrize("held", [0, 1])
def test_a_sample_of_less_than_a_pair_refuses_nothing(held):
    refuse_explosion(np.ones((held, 4), np.float32), 0.95, n=300_000)


def made(n: int, near: int) -> np.ndarray:
    """Rows of which some are the same, and the others at right angles to these."""
    rows = np.random.default_rng(0).standard_normal((n, 64)).astype(np.float32)
    rows[:, 0] = 0
    rows[np.random.default_rng(1).permutation(n)[:near]] = np.eye(64)[0]
    return rows


def test_a_few_like_rows_of_a_sample_refuse_nothing_and_many_do():
    # Two of 2,048 rows that are one picture would be 10 billion pairs of a hundred million rows.
    refuse_explosion(made(2048, 4), 0.95, limit=10**8, n=10**8)
    with pytest.raises(VectorError, match=r"about [\d,]+ pairs, and the limit is 100,000,000"):
        refuse_explosion(made(2048, 200), 0.95, limit=10**8, n=10**8)
