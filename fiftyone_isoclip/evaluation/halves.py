"""Labelled images in two halves, one to choose on and one to report on, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import stats

from fiftyone_isoclip.evaluation.metrics.bootstrap import DEFAULT_LEVEL, Interval
from fiftyone_isoclip.index.vectors import Float64s, Rows

_FEWEST_TO_SPLIT = 4
"""Images of a class that leave two on either side: one alone has nothing to be found by."""
_DELETIONS = 20


def split_rows(
    labels: Rows, rng: np.random.Generator, *, held_out: float, whole_classes: bool
) -> tuple[Rows, Rows]:
    """Split rows (n,) by their labels: which to choose on, and which to hold out, ascending.

    A class of four or more rows is split, with two at least on either side; smaller ones go whole
    to one side, and so do all with ``whole_classes``. ``held_out`` is the share to hold out,
    in (0, 1).
    """
    away = np.zeros(len(labels), np.bool_)
    whole = []
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        if whole_classes or len(rows) < _FEWEST_TO_SPLIT:
            whole.append(rows)
        else:
            away[rows[: int(np.clip(round(len(rows) * held_out), 2, len(rows) - 2))]] = True
    # Those of one size alternate between the sides, so that neither gets all the single images.
    order = sorted(rng.permutation(len(whole)).tolist(), key=lambda at: -len(whole[at]))
    for place, at in enumerate(order):
        away[whole[at]] = int((place + 1) * held_out) > int(place * held_out)
    return np.flatnonzero(~away), np.flatnonzero(away)


def jackknife(
    measure: Callable[[Rows], Float64s],
    groups: Rows,
    rng: np.random.Generator,
    *,
    level: float = DEFAULT_LEVEL,
) -> list[Interval]:
    """Intervals about figures of a set of rows, by measuring it without a twentieth at a time.

    A row counts as a query and as what other queries find, so queries are not independent: an
    interval from drawing them again is too narrow by a factor of 1.4 to 2, and on pure noise
    8 to 14 of 100 say a band is better where 2.5 should. Leaving rows out altogether sees both.

    Args:
        measure: rows -> figures (f,).
        groups: (n,) numbers of what is left out together.
        rng: draws which groups are left out at once.
        level: the confidence, in (0, 1).

    Source: delete-a-group jackknife: Kott, *Journal of Official Statistics* 17, 2001; for products
    of pairs: Arvesen, *Annals of Mathematical Statistics* 40, 1969.
    """
    names, group = np.unique(groups, return_inverse=True)
    n = min(_DELETIONS, len(names))
    part = rng.permutation(len(names))[group] % n
    whole = measure(np.arange(len(groups)))
    without = np.array([measure(np.flatnonzero(part != left_out)) for left_out in range(n)])
    error = np.sqrt((n - 1) / n * ((without - without.mean(axis=0)) ** 2).sum(axis=0))
    reach = stats.t.ppf((1 + level) / 2, n - 1) * error
    return [
        Interval(*map(float, found))
        for found in zip(whole, whole - reach, whole + reach, strict=True)
    ]
