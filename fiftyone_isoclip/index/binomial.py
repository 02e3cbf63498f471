"""A share that was counted, and what it may be where more is counted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv

from fiftyone_isoclip.index.vectors import Float64s

LEVEL = 0.95
"""How often the bounds of a share hold it."""


@dataclass(frozen=True, slots=True)
class Share:
    """A share in [0, 1] with the bounds between which it lies; they are equal if it is known."""

    share: float
    low: float
    high: float


def share_of(count: int, of: int) -> Share:
    """The share that `count` independent draws out of `of` (at least 1) show, at `LEVEL`."""
    return Share(count / of, float(low_bounds(count, of)), float(high_bounds(count, of)))


def low_bounds(counts: npt.ArrayLike, of: int) -> Float64s:
    """The exact lower bounds of the shares that these counts of `of` draws show: (n,) -> (n,).

    Counts may be fractions, of draws that are each worth less than one: bounds between those of
    the whole counts beside them.

    Source: Clopper and Pearson, The use of confidence or fiducial limits illustrated in the case
    of the binomial, 1934.
    """
    found = np.asarray(counts, dtype=np.float64)
    bounds = betaincinv(np.where(found > 0, found, 1.0), of - found + 1, (1 - LEVEL) / 2)
    return np.asarray(np.where(found > 0, bounds, 0.0))


def high_bounds(counts: npt.ArrayLike, of: int) -> Float64s:
    """The exact upper bounds, as `low_bounds`."""
    found = np.asarray(counts, dtype=np.float64)
    bounds = betaincinv(found + 1, np.where(found < of, of - found, 1.0), (1 + LEVEL) / 2)
    return np.asarray(np.where(found < of, bounds, 1.0))
