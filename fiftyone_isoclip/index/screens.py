"""Screens: fewer coordinates whose inner products bound every cosine from above.

Rotating vectors changes no cosine. Split a rotated unit vector x into its first m coordinates and
the rest, and let r_x be the length of the rest. By Cauchy-Schwarz

    cos(x, y) <= x_m . y_m + r_x r_y = [x_m, r_x] . [y_m, r_y]

so one product in m + 1 dims bounds every pair, and no pair above a threshold can be missed.
The idea is that of the prefix filter of set-similarity joins, carried over to cosines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeGuard

import numpy as np

from fiftyone_isoclip.index.vectors import (
    UNIT_ROUNDOFF,
    Float32s,
    Float64s,
    Table,
    rounding_slack,
    row_blocks,
    unit_block,
    unit_rows,
)

_SAMPLE = 2048
_WORTH_ROWS = 4096
_LENGTHS = (15, 31, 63, 127, 255)
_OVERHEAD = 10.0
_GPU_OVERHEAD = 200.0
_RESCORE = 500.0
"""Costs beside that of one multiplication: of bounding a pair at all, and of scoring a candidate
exactly, the latter per dim. Measured, the candidates' times three or four: cells leave most pairs
out, and hardly a candidate. A GPU takes longer to write and read a product than to make it."""


@dataclass(frozen=True, eq=False, slots=True)
class Screen:
    """Coordinates whose inner products, plus a slack, are never below the cosine.

    Attributes:
        coordinates: (n, m + 1), or the unit rows themselves; no row is longer than 1, up to the
            rounding of its numbers.
        slack: how far rounding may push a bound under its cosine.
        is_prefix: whether coordinates were left out.
    """

    coordinates: Float32s
    slack: float
    is_prefix: bool


def plain_screen(vectors: Table) -> Screen:
    """Use all dims as they are: the bound is the cosine itself, up to rounding."""
    units = vectors if _are_units(vectors) else unit_rows(vectors)
    return Screen(units, rounding_slack(vectors.shape[1]), is_prefix=False)


def prefix_screen(vectors: Table, rotation: Float64s, m: int) -> Screen:
    """Keep the first m rotated coordinates and the length of the rest: (n, d) -> (n, m + 1).

    Args:
        vectors: (n, d) rows with a direction.
        rotation: (d, d) with orthonormal columns, those that carry most first.
        m: coordinates kept.
    """
    bounds = np.empty((len(vectors), m + 1), dtype=np.float32)
    directions = np.ascontiguousarray(rotation[:, :m])
    for block in row_blocks(*vectors.shape):
        bounds[block] = _prefix(unit_block(vectors, block), directions)
    return Screen(bounds, rounding_slack(m + 1), is_prefix=True)


@dataclass(frozen=True, eq=False, slots=True)
class ScreenPlan:
    """A screen that was chosen and is not made yet.

    Attributes:
        m: coordinates to keep; None for all dims as they are.
        rotation: (d, d) of the vectors it was chosen for.
    """

    m: int | None
    rotation: Float64s

    def make(self, vectors: Table) -> Screen:
        """Make the screen: (n, d) -> Screen."""
        if self.m is None:
            return plain_screen(vectors)
        return prefix_screen(vectors, self.rotation, self.m)


def plan_screen(vectors: Table, similarity: float, *, on_gpu: bool = False) -> ScreenPlan:
    """Pick the cheaper of the plain screen and prefix screens, judged on a sample of rows.

    The cost of a screen is that of bounding every pair plus that of scoring its candidates.
    Vectors whose spectrum decays, like CLIP's, need few coordinates; others need all of them.
    """
    n, dim = vectors.shape
    if n < _WORTH_ROWS:
        return ScreenPlan(None, np.eye(dim))
    rows = np.random.default_rng(0).choice(n, size=2 * _SAMPLE, replace=False)
    # A rotation suits the rows it was found on better than others, which are those to judge it on.
    fitted, sample = (
        unit_rows(vectors[np.sort(half)]).astype(np.float64) for half in np.split(rows, 2)
    )
    rotation = principal_rotation(fitted)
    overhead = _GPU_OVERHEAD if on_gpu else _OVERHEAD
    share = _candidate_share(sample, similarity)
    costs: dict[int | None, float] = {None: overhead + dim + _RESCORE * dim * share}
    for m in _LENGTHS:
        if m < dim // 2:
            share = _candidate_share(_prefix(sample, rotation[:, :m]), similarity)
            costs[m] = overhead + m + 1 + _RESCORE * dim * share
    return ScreenPlan(min(costs, key=costs.__getitem__), rotation)


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


def _are_units(vectors: Table) -> TypeGuard[Float32s]:
    if vectors.dtype != np.float32:
        return False
    blocks = (vectors[block].astype(np.float64) for block in row_blocks(*vectors.shape))
    squares = (np.einsum("ij,ij->i", rows, rows) for rows in blocks)
    return all(np.abs(each - 1).max(initial=0.0) <= 4 * UNIT_ROUNDOFF for each in squares)


def _candidate_share(coordinates: Float64s, similarity: float) -> float:
    halves = np.array_split(coordinates.astype(np.float32), 2)
    return float(np.mean(halves[0] @ halves[1].T >= similarity))
