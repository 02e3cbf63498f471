"""Bounds of shares of fractional counts, against scipy's own of the whole counts beside them."""

from __future__ import annotations

from math import ceil, floor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from fiftyone_isoclip.index.binomial import high_bounds, low_bounds

# A thousandth of a draw and more: steps that float64 tells apart.
COUNTS = st.integers(1, 400).flatmap(
    lambda of: st.tuples(st.integers(0, 1000 * of).map(lambda part: part / 1000), st.just(of))
)


@given(COUNTS)
def test_the_interval_of_a_fraction_holds_it_and_lies_between_those_of_whole_counts(drawn):
    count, of = drawn
    low, high = float(low_bounds(count, of)), float(high_bounds(count, of))
    assert low <= count / of <= high
    below, above = (
        binomtest(whole, of).proportion_ci(0.95, "exact") for whole in (floor(count), ceil(count))
    )
    assert below.low - 1e-9 <= low <= above.low + 1e-9
    assert below.high - 1e-9 <= high <= above.high + 1e-9


@pytest.mark.parametrize(("count", "of"), [(35.6, 36), (0.4, 36), (0.999, 1), (0.001, 1)])
def test_less_than_one_draw_from_an_end_is_held_too(count, of):
    assert low_bounds(count, of) < count / of < high_bounds(count, of)
