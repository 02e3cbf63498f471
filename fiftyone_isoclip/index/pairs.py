"""Every pair of rows at least as similar as asked: found exactly, kept sorted, narrowed at will."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from fiftyone_isoclip.errors import VectorError
from fiftyone_isoclip.index.screens import Screen
from fiftyone_isoclip.index.vectors import NO_ROWS, Float32s, Rows, cosines, rounding_slack

Progress = Callable[[int, int], None]
"""Called with (blocks done, blocks in all)."""

PAIR_LIMIT = 20_000_000
"""Most pairs one search may return: 0.4 GB as a result, about 1.2 GB while it is made."""

_BLOCK = 1024
_SAMPLE = 2048


@dataclass(frozen=True, eq=False, slots=True)
class Pairs:
    """Pairs of rows, each once, sorted by (left, right).

    Attributes:
        n: rows that were searched.
        left: (p,) the smaller row of each pair.
        right: (p,) the larger row of each pair.
        similarity: (p,) their cosines, all at least `least`.
        least: the similarity that was searched for, in (-1, 1].
    """

    n: int
    left: Rows
    right: Rows
    similarity: Float32s
    least: float

    def __len__(self) -> int:
        """Count the pairs."""
        return len(self.left)

    def at(self, stricter: float) -> Pairs:
        """Keep the pairs at least this similar: exactly what a fresh search would find.

        Raises:
            VectorError: if `stricter` is outside (-1, 1] or below `least`.
        """
        check_similarity(stricter)
        if np.float32(stricter) < np.float32(self.least):
            raise VectorError(
                f"Pairs were searched at similarity {self.least:g} and cannot be shown at "
                f"{stricter:g}; search again at {stricter:g} or lower."
            )
        kept = self.similarity >= np.float32(stricter)
        return Pairs(
            self.n, self.left[kept], self.right[kept], self.similarity[kept], float(stricter)
        )


def check_similarity(similarity: float) -> None:
    """Refuse a similarity that no search can mean.

    Raises:
        VectorError: unless -1 < similarity <= 1.
    """
    if not -1.0 < similarity <= 1.0:
        raise VectorError(
            f"A similarity is a cosine above -1 and at most 1 (1 finds identical vectors); "
            f"got {similarity}."
        )


def search_pairs(
    units: Float32s,
    similarity: float,
    screen: Screen,
    *,
    limit: int = PAIR_LIMIT,
    progress: Progress | None = None,
) -> Pairs:
    """Find every pair of rows with a cosine of at least `similarity`: (n, d) -> Pairs.

    The upper triangle is walked in blocks. The screen names candidates, never too few; each is
    scored with `cosines`, which alone decides.

    Raises:
        VectorError: if the similarity is outside (-1, 1] or gives more than `limit` pairs.
    """
    check_similarity(similarity)
    lefts, rights, scores, found = [NO_ROWS], [NO_ROWS], [np.empty(0, np.float32)], 0
    for left, right in _candidates(screen, similarity, progress):
        score = cosines(units, left, units, right)
        kept = score >= np.float32(similarity)
        lefts.append(left[kept])
        rights.append(right[kept])
        scores.append(score[kept])
        found += len(lefts[-1])
        if found > limit:
            raise VectorError(_too_many(len(units), similarity, f"more than {limit:,}", limit))
    left, right = np.concatenate(lefts), np.concatenate(rights)
    order = np.lexsort((right, left))
    return Pairs(
        len(units), left[order], right[order], np.concatenate(scores)[order], float(similarity)
    )


def refuse_explosion(units: Float32s, similarity: float, limit: int = PAIR_LIMIT) -> None:
    """Estimate on a sample how many pairs a similarity would give, and refuse too many early.

    Raises:
        VectorError: with the estimate, and the similarity that would stay within the limit.
    """
    n = len(units)
    all_pairs = n * (n - 1) // 2
    if all_pairs <= limit:
        return
    size = min(n // 2, _SAMPLE)
    rows = np.random.default_rng(0).choice(n, size=2 * size, replace=False)
    scores = (units[rows[:size]] @ units[rows[size:]].T).ravel()
    scale = all_pairs / scores.size
    slack = rounding_slack(units.shape[1])
    estimate = np.count_nonzero(scores >= similarity - slack) * scale
    if estimate <= limit:
        return
    place = scores.size - 1 - int(limit / scale)
    advised = float(np.partition(scores, place)[place])
    advice = (
        f"Ask for more than {advised:.3f}."
        if advised < 1.0 - slack
        else "So many vectors are identical that no similarity helps: remove exact copies first."
    )
    raise VectorError(f"{_too_many(n, similarity, f'about {estimate:,.0f}', limit)} {advice}")


def _candidates(
    screen: Screen, similarity: float, progress: Progress | None
) -> Iterator[tuple[Rows, Rows]]:
    n = len(screen.coordinates)
    least = similarity - screen.slack
    buffer = np.empty(_BLOCK * _BLOCK, dtype=np.float32)
    blocks = [(a, b) for a in range(0, n, _BLOCK) for b in range(a, n, _BLOCK)]
    for done, (start, other) in enumerate(blocks, start=1):
        rows = screen.coordinates[start : start + _BLOCK]
        columns = screen.coordinates[other : other + _BLOCK]
        # One buffer for all blocks: fresh memory for each would cost more than the product.
        bounds = buffer[: len(rows) * len(columns)].reshape(len(rows), len(columns))
        np.matmul(rows, columns.T, out=bounds)
        if bounds.max() >= least:
            left, right = np.divmod(np.flatnonzero(bounds >= least), bounds.shape[1])
            below = start + left < other + right
            yield left[below] + start, right[below] + other
        if progress is not None:
            progress(done, len(blocks))


def _too_many(n: int, similarity: float, found: str, limit: int) -> str:
    return (
        f"Similarity {similarity:g} over {n:,} vectors gives {found} pairs, and the limit is "
        f"{limit:,}; that is a cluster and not a set of duplicates."
    )
