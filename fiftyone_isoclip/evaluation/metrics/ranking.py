"""Queries against a gallery by cosine, in blocks: the one way in which every metric here ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fiftyone_isoclip.errors import VectorError
from fiftyone_isoclip.index.vectors import Float32s, Rows

Told = Callable[[int], Any] | None
"""Called with how many more queries are done."""

_BLOCK_NUMBERS = 2**21


def similarity_blocks(
    queries: Float32s, gallery: Float32s, own_rows: Rows | None = None, told: Told = None
) -> Iterator[tuple[slice, Float32s]]:
    """Give the cosines of unit rows block by block: (n, d), (m, d) -> (b, m) in [-1, 1].

    Summed in float64 and rounded once to float32, so that copies in the gallery are equally
    similar wherever they stand. ``own_rows`` (n,) is where each query itself stands in the gallery
    and -1 where it does not: there the cosine is -inf, below all others.

    Raises:
        VectorError: the sides have different dims, or ``own_rows`` names rows that are not there.
    """
    _check_sides(queries, gallery, own_rows)
    across = gallery.astype(np.float64).T
    step = max(1, _BLOCK_NUMBERS // max(1, len(gallery)))
    for start in range(0, len(queries), step):
        block = slice(start, min(start + step, len(queries)))
        similarities = (queries[block].astype(np.float64) @ across).astype(np.float32)
        if own_rows is not None:
            own = own_rows[block]
            similarities[np.flatnonzero(own >= 0), own[own >= 0]] = -np.inf
        yield block, similarities
        if told is not None:
            told(block.stop - block.start)


def rankings(
    queries: Float32s, gallery: Float32s, own_rows: Rows | None = None, told: Told = None
) -> Iterator[tuple[slice, Rows]]:
    """Rank the whole gallery for each query, block by block: (n, d), (m, d) -> (b, m) rows.

    The most similar row comes first, equally similar ones in gallery order, and the query's own
    row last.

    Raises:
        VectorError: as `similarity_blocks`.
    """
    for block, similarities in similarity_blocks(queries, gallery, own_rows, told):
        yield block, np.argsort(-similarities, axis=1, kind="stable")


def check_length(name: str, values: Any, n: int) -> None:
    """Refuse a column that has not one value for each of n rows.

    Raises:
        VectorError: it has another length.
    """
    if np.shape(values) != (n,):
        raise VectorError(
            f"{name} must be one value for each of {n} rows; found shape {np.shape(values)}."
        )


def _check_sides(queries: Float32s, gallery: Float32s, own_rows: Rows | None) -> None:
    shapes = queries.shape, gallery.shape
    if queries.ndim != 2 or gallery.ndim != 2 or shapes[0][1] != shapes[1][1]:
        raise VectorError(
            f"Queries (n, d) and gallery (m, d) must have the same dim; found {shapes[0]} and "
            f"{shapes[1]}. Bring both through the same method."
        )
    if own_rows is None:
        return
    check_length("own_rows", own_rows, len(queries))
    if len(own_rows) and not -1 <= own_rows.min() <= own_rows.max() < len(gallery):
        raise VectorError(
            f"own_rows must be rows of the gallery, 0 to {len(gallery) - 1}, or -1; found "
            f"{own_rows.min()} to {own_rows.max()}."
        )
