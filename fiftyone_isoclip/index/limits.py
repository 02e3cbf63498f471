"""Searches for pairs that are refused before they start: too many pairs, too little memory."""

from __future__ import annotations

import numpy as np
import psutil

from fiftyone_isoclip.errors import VectorError
from fiftyone_isoclip.index.screens import ScreenPlan
from fiftyone_isoclip.index.vectors import Rows, Table, rounding_slack, unit_rows

PAIR_LIMIT = 20_000_000
"""Most pairs one search may return: 0.4 GB as a result, about 1.2 GB while it is made."""

_ERRORS = 2
"""Standard errors by which an estimate has to lie above the limit."""

_SAMPLE = 1024


def refuse_explosion(
    vectors: Table, similarity: float, limit: int = PAIR_LIMIT, *, n: int | None = None
) -> None:
    """Estimate on a sample how many pairs a similarity would give, and refuse too many early.

    ``n`` counts all rows where the vectors are themselves a random sample of them.

    Raises:
        VectorError: with the estimate, and the similarity that would stay within the limit.
    """
    n = len(vectors) if n is None else n
    all_pairs = n * (n - 1) // 2
    if all_pairs <= limit:
        return
    size = min(len(vectors) // 2, _SAMPLE)
    if not size:
        return
    rows = np.random.default_rng(0).choice(len(vectors), size=2 * size, replace=False)
    sample = unit_rows(vectors[np.sort(rows)])[np.argsort(np.argsort(rows))]
    products = sample[:size] @ sample[size:].T
    scores, scale = products.ravel(), all_pairs / products.size
    slack = rounding_slack(vectors.shape[1])
    near = products >= similarity - slack
    estimate = np.count_nonzero(near) * scale
    if surely(near.sum(axis=0), near.sum(axis=1)) * scale <= limit:
        return
    place = scores.size - 1 - int(limit / scale)
    advised = float(np.partition(scores, place)[place])
    advice = (
        f"Ask for more than {advised:.3f}."
        if advised < 1.0 - slack
        else "So many vectors are identical that no similarity helps: remove exact copies first."
    )
    raise VectorError(f"{too_many(n, similarity, f'about {estimate:,.0f}', limit)} {advice}")


def pair_limit(n: int) -> int:
    """Most pairs that a search of n images in cells may return: one an image, or `PAIR_LIMIT`."""
    return max(PAIR_LIMIT, n)


def surely(*counts: Rows) -> float:
    """How many pairs a sample surely has, by the count of each of its rows: (s,), once a side.

    Rows are drawn, and not pairs, so that the error of a sum is that of these counts. One row with
    thousands of pairs says of others next to nothing.
    """
    return float(counts[0].sum() - _ERRORS * np.sqrt(sum(np.sum(each**2) for each in counts)))


def require_memory(n: int, dim: int, plan: ScreenPlan) -> None:
    """Refuse a search that this machine's free memory could not hold.

    Raises:
        VectorError: with the bytes that are needed and free.
    """
    told = f"Comparing {n:,} vectors of dim {dim} takes about", "beside them"
    _require_free(memory_needed(n, dim, plan), *told)


def require_room(n: int, dim: int) -> None:
    """Refuse vectors that this machine's free memory could not hold.

    Raises:
        VectorError: with the bytes that are needed and free.
    """
    _require_free(4 * n * dim, f"{n:,} vectors of dim {dim} take", "alone")


def _require_free(needed: int, what: str, beside: str) -> None:
    free = psutil.virtual_memory().available
    if needed > free:
        raise VectorError(
            f"{what} {needed / 2**30:.1f} GB of memory {beside}, and {free / 2**30:.1f} GB are "
            "free. Free some, or compare fewer."
        )


def memory_needed(n: int, dim: int, plan: ScreenPlan) -> int:
    """Estimate the most bytes a search takes beside the vectors and its result."""
    # A prefix: coordinates and a sorted copy of them. The plain screen: all dims in float32 where
    # the vectors are not units yet, and in half precision. Both: order, cells and scores of rows.
    coordinates = 6 * dim if plan.m is None else 8 * (plan.m + 1)
    return n * (coordinates + 32) + 2**28


def too_many(n: int, similarity: float, found: str, limit: int) -> str:
    """Say how many pairs a similarity gives, and that they are too many."""
    return (
        f"Similarity {similarity:g} over {n:,} vectors gives {found} pairs, and the limit is "
        f"{limit:,}; that is a cluster and not a set of duplicates."
    )
