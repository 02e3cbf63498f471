"""Rows of vectors made comparable: checked, brought to unit length, and scored in one way only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fiftyone_isoclip.errors import VectorError

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Table = npt.NDArray[np.floating[Any]]

NO_ROWS: Rows = np.empty(0, dtype=np.int64)

UNIT_ROUNDOFF = 2.0**-24
"""Half the spacing of float32 numbers just above 1: the largest relative error of one rounding."""

_NAMED_ROWS = 8
_BLOCK_NUMBERS = 2**16


def unit_rows(vectors: npt.ArrayLike, *, in_place: bool = False) -> Float32s:
    """Bring vectors to float32 rows of length 1: (n, d) -> (n, d).

    Rows are scaled in float64, so that neither float16 nor very large or very small numbers lose
    their direction. An input without rows gives (0, d). ``in_place`` overwrites the input where it
    is a writable float32 array, and spares a copy.

    Raises:
        VectorError: if the input is not a table of numbers, or a row has no direction (NaN,
            infinite, or all zero); the message names the rows.
    """
    table = checked_table(vectors)
    fits = table.dtype == np.float32 and table.flags.writeable and table.flags.c_contiguous
    units = table if in_place and fits else np.empty(table.shape, dtype=np.float32)
    for block in row_blocks(*table.shape):
        units[block] = unit_block(table, block)
    return units


def unit_block(table: Table, block: slice) -> Float64s:
    """Bring some rows that have a direction to length 1, in float64: (n, d) -> (b, d)."""
    rows = np.asarray(table[block], dtype=np.float64)
    if table.dtype not in (np.float16, np.float32):
        # Dividing by the largest number first keeps the squares within float64's range.
        rows = rows / np.max(np.abs(rows), axis=1, keepdims=True)
    return np.asarray(rows / np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None])


def checked_table(vectors: npt.ArrayLike) -> npt.NDArray[Any]:
    """Give vectors back as a table (n, d) of real numbers in which every row has a direction.

    Raises:
        VectorError: as `unit_rows`.
    """
    table = as_table(vectors)
    broken, zero = [NO_ROWS], [NO_ROWS]
    for block in row_blocks(*table.shape):
        peaks = np.max(np.abs(table[block]), axis=1)
        broken.append(np.flatnonzero(~np.isfinite(peaks)) + block.start)
        zero.append(np.flatnonzero(peaks == 0) + block.start)
    faults = {
        "NaN or infinite numbers": np.concatenate(broken),
        "only zeros": np.concatenate(zero),
    }
    if any(rows.size for rows in faults.values()):
        raise VectorError(_unfit_sentence(len(table), faults))
    return table


def cosines(left: Table, left_rows: Rows, right: Table, right_rows: Rows) -> Float32s:
    """Score chosen rows against chosen rows: (n, d), (p,), (m, d), (p,) -> (p,) in [-1, 1].

    This is the only definition of similarity on this floor: sums and lengths in float64, row by
    row, rounded once to float32. A score therefore depends on neither the place of a row, nor the
    size of a block, nor which side it stands on, and equal rows score exactly 1.
    """
    scores = np.empty(len(left_rows), dtype=np.float32)
    for block in row_blocks(len(left_rows), left.shape[1]):
        a = left[left_rows[block]].astype(np.float64)
        b = right[right_rows[block]].astype(np.float64)
        lengths = np.sqrt(np.einsum("ij,ij->i", a, a) * np.einsum("ij,ij->i", b, b))
        scores[block] = np.einsum("ij,ij->i", a, b) / lengths
    return scores


def rounding_slack(terms: int) -> float:
    """Bound how far a float32 product of `terms` terms may lie under the similarity it stands for.

    Inner products of unit rows summed in any order err by at most terms * u (Higham, *Accuracy and
    Stability of Numerical Algorithms*, section 3.1), u being the unit roundoff. Rounding both
    factors to float32 adds 2 u, lengths that are 1 only to within u add 2 u, rounding the final
    score adds u; the constant leaves room to spare.
    """
    return (terms + 16) * UNIT_ROUNDOFF


def row_blocks(n: int, dim: int) -> list[slice]:
    """Cut n rows into consecutive slices that stay in the processor's cache."""
    step = max(1, _BLOCK_NUMBERS // max(1, dim))
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def as_table(vectors: npt.ArrayLike) -> npt.NDArray[Any]:
    """Give vectors back as a table (n, d) of real numbers, whether or not the rows have directions.

    Raises:
        VectorError: if they are none; rows of another dim than most are named.
    """
    try:
        table = np.asarray(vectors)
    except ValueError as error:
        raise VectorError(_ragged_sentence(vectors)) from error
    if table.shape == (0,):
        return np.empty((0, 0), dtype=np.float32)
    if table.ndim != 2 or (len(table) and table.shape[1] == 0):
        raise VectorError(
            f"Vectors must be a table of shape (n, dim) with dim >= 1; found shape {table.shape}. "
            "Give a single vector as a table of one row."
        )
    if table.dtype.kind not in "fiu":
        raise VectorError(
            f"Vectors must be real numbers; found {table.dtype}. "
            "Convert them with astype(float32) and see which rows fail."
        )
    return table


def _ragged_sentence(vectors: Any) -> str:
    """Say how many rows have another dim than most, and which."""
    kinds = [f"of dim {np.size(row)}" if np.ndim(row) else "without numbers" for row in vectors]
    rows_of: dict[str, list[int]] = {}
    for row, kind in enumerate(kinds):
        rows_of.setdefault(kind, []).append(row)
    usual = max(rows_of, key=lambda kind: len(rows_of[kind]))
    most = len(rows_of.pop(usual))
    odd = [f"{len(rows)} {kind} ({_named(rows)})" for kind, rows in rows_of.items()]
    return (
        f"Vectors must all have the same dim: {most} are {usual}, and "
        f"{' and '.join(odd)}. Leave these rows out, or compute them again."
    )


def _named(rows: Sequence[int] | Rows) -> str:
    """The first few rows, for a sentence."""
    more = ", ..." if len(rows) > _NAMED_ROWS else ""
    return f"rows {', '.join(map(str, rows[:_NAMED_ROWS]))}{more}"


def _unfit_sentence(n: int, faults: dict[str, Rows]) -> str:
    named = [
        f"{len(rows)} with {fault} ({_named(rows)})" for fault, rows in faults.items() if rows.size
    ]
    return (
        f"Of {n} vectors some have no direction: {' and '.join(named)}. "
        "Leave these rows out, or compute them again."
    )
