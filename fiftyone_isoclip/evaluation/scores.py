"""What each method scores on the same queries, one number a query."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, isnan
from typing import Any

import numpy as np

from fiftyone_isoclip.evaluation.methods import Kind, Method
from fiftyone_isoclip.evaluation.metrics.bootstrap import (
    DEFAULT_RESAMPLES,
    Interval,
    interval,
    paired,
)
from fiftyone_isoclip.index.vectors import Float64s, Rows

DECISIVE = "mAP"
"""The metric by which methods are ordered and the verdict is given."""

RECALL = "recall@1"

Values = Mapping[str, Float64s]
"""Metric -> one number a query, (n,), NaN where it does not apply."""

OWN_GALLERY = 2.0
"""How much wider intervals are where the queries are the gallery.

There an image counts as a query and as what others find, and drawing queries sees the first alone.
To first order a mean over pairs moves with each image by at most twice what it moves as a query;
on pure noise 13 to 18 of 100 intervals of 95% leave out the truth otherwise, and 1 of 100 so.
"""

_TAIL_DRAWS = 25
"""Bootstrap draws beyond either end of an interval, at least: the ends rest on them."""

_DRAW = re.compile(r", draw \d+\)$")


@dataclass(frozen=True, eq=False)
class Sampling:
    """How the queries were asked, and so how sure one can be of a mean over them.

    ``groups`` (n,) numbers queries that were not asked independently. ``widen`` is by how much
    intervals are wider than drawing queries alone would make them, see `OWN_GALLERY`.
    """

    groups: Rows | None = None
    widen: float = 1.0
    seed: int = 0

    def interval(self, values: Float64s) -> Interval:
        """The mean of a metric in [0, 1] over the queries."""
        found = self._widened(interval(values, groups=self.groups, seed=self.seed))
        # Comparisons with NaN are false: it stays.
        low, high = max(found.low, 0.0), min(found.high, 1.0)
        return replace(found, low=low, high=high)

    def difference(self, one: Float64s, other: Float64s, level: float) -> Interval:
        """The mean of ``one - other`` over the queries, at a level of confidence in (0, 1)."""
        n = max(DEFAULT_RESAMPLES, ceil(2 * _TAIL_DRAWS / (1 - level)))
        found = paired(one, other, groups=self.groups, n=n, level=level, seed=self.seed)
        return self._widened(found)

    def _widened(self, found: Interval) -> Interval:
        low, high = ((end - found.mean) * self.widen for end in (found.low, found.high))
        return Interval(found.mean, found.mean + low, found.mean + high)


@dataclass(frozen=True, eq=False)
class MethodScores:
    """One method's scores: ``values`` a query, and their means with intervals, by metric."""

    name: str
    kind: Kind
    note: str
    seconds_per_query: float | None
    values: Values
    intervals: Mapping[str, Interval]

    def mean(self, metric: str = DECISIVE) -> float:
        """The mean of a metric over the queries that it applies to."""
        return self.intervals[metric].mean

    def to_json(self) -> dict[str, Any]:
        """Everything but the single queries."""
        return {
            "name": self.name,
            "kind": self.kind,
            "note": self.note,
            "seconds_per_query": self.seconds_per_query,
            "metrics": {name: interval_json(found) for name, found in self.intervals.items()},
        }


def score_methods(
    methods: Sequence[Method],
    score: Callable[[Method], Values],
    *,
    sampling: Sampling,
    told: Callable[[int, int], object] | None = None,
) -> list[MethodScores]:
    """Score each method; the draws of a random band become one method, query by query their mean.

    ``told`` is called with how many methods are done, of how many.
    """
    draws: dict[str, list[Values]] = {}
    first: dict[str, Method] = {}
    for done, method in enumerate(methods, start=1):
        name = merged_name(method)
        draws.setdefault(name, []).append(score(method))
        first.setdefault(name, method)
        if told is not None:
            told(done, len(methods))
    return [_merged(first[name], found, sampling) for name, found in draws.items()]


def _merged(method: Method, draws: Sequence[Values], sampling: Sampling) -> MethodScores:
    values = {
        metric: np.asarray(np.mean([draw[metric] for draw in draws], axis=0)) for metric in draws[0]
    }
    return MethodScores(
        merged_name(method),
        method.kind,
        f"mean of {len(draws)} draws: {method.note}" if len(draws) > 1 else method.note,
        method.seconds_per_query,
        values,
        {name: sampling.interval(found) for name, found in values.items()},
    )


def as_queries(n: int, told: Callable[[int], object]) -> Callable[[int, int], None]:
    """Turn methods that are done into queries, so that a bar of n is full at the end."""

    def move(done: int, methods: int) -> None:
        told(n * done // methods - n * (done - 1) // methods)

    return move


def merged_name(method: Method) -> str:
    """The name under which a method is told: that of a random band without its draw."""
    return _DRAW.sub(")", method.name)


def interval_json(found: Interval) -> dict[str, float | None]:
    """An interval as JSON values, NaN as null."""
    named = {"mean": found.mean, "low": found.low, "high": found.high}
    return {name: None if isnan(number) else number for name, number in named.items()}
