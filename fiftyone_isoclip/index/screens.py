"""Screens: fewer coordinates whose inner products bound every cosine from above.

Rotating vectors changes no cosine. Split a rotated unit vector x into its first m coordinates and
the rest, and let r_x be the length of the rest. By Cauchy-Schwarz

    cos(x, y) <= x_m . y_m + r_x r_y = [x_m, r_x] . [y_m, r_y]

so one product in m + 1 dims bounds every pair, and no pair above a threshold can be missed.
The idea is that of the prefix filter of set-similarity joins, carried over to cosines.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fiftyone_isoclip.index.vectors import (
    Float32s,
    Float64s,
    rounding_slack,
    row_blocks,
)

_SAMPLE = 2048
_WORTH_ROWS = 4096
_RESCORE = 200.0
"""Cost of scoring one candidate exactly, over that of bounding one pair, both per dim."""


@dataclass(frozen=True, eq=False, slots=True)
class Screen:
    """Coordinates whose inner products, plus a slack, are never below the cosine.

    Attributes:
        coordinates: (n, m + 1), or the unit rows themselves.
        slack: how far rounding may push a bound under its cosine.
    """

    coordinates: Float32s
    slack: float


def plain_screen(units: Float32s) -> Screen:
    """Use all dims as they are: the bound is the cosine itself, up to rounding."""
    return Screen(units, rounding_slack(units.shape[1]))


def prefix_screen(units: Float32s, rotation: Float64s, m: int) -> Screen:
    """Keep the first m rotated coordinates and the length of the rest: (n, d) -> (n, m + 1).

    Args:
        units: (n, d) unit rows.
        rotation: (d, d) with orthonormal columns, those that carry most first.
        m: coordinates kept.
    """
    bounds = np.empty((len(units), m + 1), dtype=np.float32)
    for block in row_blocks(*units.shape):
        bounds[block] = _prefix(units[block].astype(np.float64), rotation[:, :m])
    return Screen(bounds, rounding_slack(m + 1))


def choose_screen(units: Float32s, similarity: float) -> Screen:
    """Pick the cheaper of the plain screen and prefix screens, judged on a sample of rows.

    The cost of a screen is that of bounding every pair plus that of scoring its candidates.
    Vectors whose spectrum decays, like CLIP's, need few coordinates; others need all of them.
    """
    n, dim = units.shape
    if n < _WORTH_ROWS:
        return plain_screen(units)
    rows = np.random.default_rng(0).choice(n, size=_SAMPLE, replace=False)
    sample = units[rows].astype(np.float64)
    rotation = principal_rotation(sample)
    costs = {dim: dim + _RESCORE * dim * _candidate_share(sample, similarity)}
    for m in (15, 31, 63, 127, 255):
        if m < dim // 2:
            share = _candidate_share(_prefix(sample, rotation[:, :m]), similarity)
            costs[m] = m + 1 + _RESCORE * dim * share
    best = min(costs, key=costs.__getitem__)
    return plain_screen(units) if best == dim else prefix_screen(units, rotation, best)


def principal_rotation(sample: Float64s) -> Float64s:
    """Find the directions that carry most of a sample, most first: (s, d) -> (d, d).

    The rows are not centred: cosines are about the origin, and CLIP's common mean is the direction
    that carries most of all.
    """
    _, directions = np.linalg.eigh(sample.T @ sample)
    return np.ascontiguousarray(directions[:, ::-1])


def _prefix(rows: Float64s, directions: Float64s) -> Float64s:
    kept = rows @ directions
    rest = np.einsum("ij,ij->i", rows, rows) - np.einsum("ij,ij->i", kept, kept)
    # The subtraction cancels, and eigenvectors are orthonormal only to about dim * eps: both err
    # far below this margin, which keeps the length an upper bound.
    margin = rows.shape[1] * 2.0**-44
    return np.column_stack([kept, np.sqrt(np.maximum(rest, 0.0) + margin)])


def _candidate_share(coordinates: Float64s, similarity: float) -> float:
    halves = coordinates[: len(coordinates) // 2], coordinates[len(coordinates) // 2 :]
    return float(np.mean(halves[0] @ halves[1].T >= similarity))
