"""Intervals hold the truth as often as they say, and pairing takes out what both sides share."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from fiftyone_isoclip.errors import VectorError
from fiftyone_isoclip.evaluation.metrics import bootstrap
from fiftyone_isoclip.evaluation.metrics.bootstrap import interval, paired

TRIALS = 400


def skewed(rng: np.random.Generator, n: int) -> np.ndarray:
    """Like average precisions: mostly low, mean 2 / 7."""
    return rng.beta(2, 5, size=n)


def test_intervals_hold_the_true_mean_as_often_as_they_say():
    rng = np.random.default_rng(0)
    found = [interval(skewed(rng, 60), n=400, seed=trial) for trial in range(TRIALS)]
    covered = np.mean([each.low <= 2 / 7 <= each.high for each in found])
    # 95 % less a point or two that the bootstrap misses at 60 values; 4 standard errors of 1.1 %.
    assert 0.90 < covered < 0.985
    narrow = [interval(skewed(rng, 60), n=400, level=0.5, seed=t) for t in range(TRIALS)]
    assert 0.40 < np.mean([each.low <= 2 / 7 <= each.high for each in narrow]) < 0.60


def test_few_queries_widen_the_interval():
    rng = np.random.default_rng(6)
    drawn = rng.normal(size=(TRIALS, 8))
    found = [interval(values, n=400, seed=trial) for trial, values in enumerate(drawn)]
    covered = np.mean([each.low <= 0 <= each.high for each in found])
    plain = [np.quantile(rng.choice(v, (400, 8)).mean(axis=1), [0.025, 0.975]) for v in drawn]
    assert covered > 0.91 > np.mean([low <= 0 <= high for low, high in plain])


def test_no_difference_is_rarely_called_one():
    rng = np.random.default_rng(1)
    called = 0
    for trial in range(TRIALS):
        hardness = skewed(rng, 60)
        one, other = (hardness + rng.normal(0, 0.05, 60) for _ in range(2))
        called += paired(one, other, n=400, seed=trial).excludes_zero
    assert called / TRIALS < 0.10


@pytest.mark.parametrize("n", [8, 80])
def test_ends_are_those_of_scipy(n: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bootstrap, "_BLOCK_NUMBERS", 80 * 33)
    values = skewed(np.random.default_rng(2), n)
    ours = interval(values, n=200_000)
    # Hesterberg's expansion, by scipy's distributions: a little more than 95 %.
    tail = scipy.stats.norm.cdf(-np.sqrt(n / (n - 1)) * scipy.stats.t(n - 1).ppf(0.975))
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=200_000, method="percentile", confidence_level=1 - 2 * tail
    )
    assert ours.mean == pytest.approx(values.mean())
    assert [ours.low, ours.high] == pytest.approx(list(theirs.confidence_interval), abs=3e-3)


def test_pairing_finds_what_two_intervals_hide():
    rng = np.random.default_rng(3)
    hardness = rng.random(200)
    better = hardness + 0.02 + rng.normal(0, 0.02, 200)
    difference = paired(better, hardness)
    assert difference.excludes_zero and difference.low > 0.01 and difference.high < 0.03
    one, other = interval(better), interval(hardness)
    assert one.low < other.high, "unpaired, they overlap"
    back = paired(hardness, better)
    assert (back.low, back.high) == pytest.approx((-difference.high, -difference.low), abs=1e-9)
    assert back.excludes_zero


def test_queries_that_either_side_could_not_score_are_left_out():
    one = np.array([0.5, np.nan, 0.7, 0.9])
    other = np.array([0.1, 0.2, np.nan, 0.4])
    assert paired(one, other).mean == pytest.approx((0.4 + 0.5) / 2)
    many = np.tile(one, 3)
    assert interval(many) == interval(many[~np.isnan(many)])


def test_edits_of_one_original_are_one_observation():
    rng = np.random.default_rng(4)
    originals = rng.random(15)
    values, groups = np.repeat(originals, 20), np.repeat(np.arange(15), 20)
    whole, single = interval(values, groups=groups), interval(originals)
    assert (whole.mean, whole.low, whole.high) == pytest.approx(
        (single.mean, single.low, single.high)
    )
    alone = interval(values)
    assert whole.high - whole.low > 3 * (alone.high - alone.low)
    # Groups of different sizes: the mean stays that of the values.
    assert interval(values[5:], groups=groups[5:]).mean == pytest.approx(values[5:].mean())


def test_of_too_few_queries_nothing_can_be_said():
    one = interval(np.array([0.3]))
    assert one.mean == 0.3 and math.isnan(one.low) and math.isnan(one.high)
    assert math.isnan(interval(np.array([np.nan])).mean)
    # Five throws of a coin are equal in 1 of 16 cases, six in 1 of 32.
    better = np.linspace(0.1, 0.2, 6)
    assert not interval(better[:5]).excludes_zero and math.isnan(interval(better[:5]).low)
    assert interval(better).excludes_zero
    assert interval(better[:5], level=0.9).excludes_zero
    assert not interval(better, level=0.98).excludes_zero
    # Many edits of few originals are few.
    assert not interval(np.tile(better, 9), groups=np.arange(54) % 3).excludes_zero


def test_the_same_seed_draws_the_same():
    values = skewed(np.random.default_rng(5), 50)
    assert interval(values, seed=3) == interval(values, seed=3) != interval(values, seed=4)
    assert str(interval(np.full(9, 0.5))) == "0.500 [0.500, 0.500]"
    assert str(interval(np.full(2, 0.5))) == "0.500"


def test_sides_that_do_not_fit_are_sentences():
    with pytest.raises(VectorError, match="groups must be one value for each of 3 rows"):
        interval(np.zeros(3), groups=np.arange(2))
    with pytest.raises(VectorError, match="other side must be one value for each of 3 rows"):
        paired(np.zeros(3), np.zeros(2))
