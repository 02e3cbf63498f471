"""How far a mean over queries may be off by the luck of which queries were asked."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan

import numpy as np
from scipy.special import ndtr, stdtrit

from fiftyone_isoclip.evaluation.metrics.ranking import check_length
from fiftyone_isoclip.index.vectors import Float64s, Rows

DEFAULT_RESAMPLES = 2000
DEFAULT_LEVEL = 0.95

_BLOCK_NUMBERS = 2**20


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean, and between what it would lie at some level of confidence.

    Of too few values (or groups) nothing can be said: the ends are NaN.
    """

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether a mean difference is one that can be told from none."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        if isnan(self.low):
            return f"{self.mean:.3f}"
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def interval(
    values: Float64s,
    *,
    groups: Rows | None = None,
    n: int = DEFAULT_RESAMPLES,
    level: float = DEFAULT_LEVEL,
    seed: int = 0,
) -> Interval:
    """Put a percentile bootstrap interval about the mean of values (q,), NaN left out.

    Queries are drawn again, the gallery and its classes stay: the interval says nothing about
    another gallery. It is expanded for few queries (Hesterberg, *What Teachers Should Know About
    the Bootstrap*), and there is none for so few that all of them lie on one side of the truth
    more often than the level allows: for 5 at 95 %. Where all have one value it has no width.

    Args:
        values: one number a query, (q,).
        groups: (q,) numbers of what was not asked independently, such as edits of one original:
            whole groups are drawn. None draws single queries.
        n: how many times to draw.
        level: the confidence, in (0, 1).
        seed: the same seed draws the same.

    Raises:
        VectorError: there is not one group for each value.
    """
    kept = ~np.isnan(values)
    numbers = np.arange(len(values)) if groups is None else groups
    check_length("groups", numbers, len(values))
    if not kept.any():
        return Interval(float("nan"), float("nan"), float("nan"))
    _, group = np.unique(numbers[kept], return_inverse=True)
    counts = np.bincount(group)
    sums = np.asarray(np.bincount(group, weights=values[kept]), np.float64)
    mean = float(sums.sum() / counts.sum())
    n_groups = len(counts)
    # That all are on one side has the chance of as many equal throws of a coin.
    if n_groups < 2 or 2.0 ** (1 - n_groups) > 1 - level:
        return Interval(mean, float("nan"), float("nan"))
    means = _resampled_means(sums, counts, n, seed)
    below = _expanded(n_groups, level)
    low, high = np.quantile(means, [below, 1 - below])
    return Interval(mean, float(low), float(high))


def paired(
    one: Float64s,
    other: Float64s,
    *,
    groups: Rows | None = None,
    n: int = DEFAULT_RESAMPLES,
    level: float = DEFAULT_LEVEL,
    seed: int = 0,
) -> Interval:
    """Put an interval about the mean of ``one - other``, the same queries on both sides: (q,) each.

    What makes a query hard for both is taken out, so that the interval is narrower than the two of
    the means let expect. Queries that are NaN on either side are left out.

    Raises:
        VectorError: the sides have different lengths.
    """
    check_length("The other side", other, len(one))
    return interval(one - other, groups=groups, n=n, level=level, seed=seed)


def _expanded(n: int, level: float) -> float:
    """Which share of resampled means to leave out at each end, for n values."""
    quantile = stdtrit(n - 1, (1 + level) / 2)
    return float(ndtr(-np.sqrt(n / (n - 1)) * quantile))


def _resampled_means(sums: Float64s, counts: Rows, n: int, seed: int) -> Float64s:
    """The mean of each of n draws of as many groups as there are, with replacement."""
    rng = np.random.default_rng(seed)
    means = np.empty(n)
    step = max(1, _BLOCK_NUMBERS // len(sums))
    for start in range(0, n, step):
        drawn = rng.integers(len(sums), size=(min(step, n - start), len(sums)))
        means[start : start + step] = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return means
