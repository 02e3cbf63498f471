"""Every pair of rows at least as similar as asked: kept sorted, narrowed at will."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fiftyone_isoclip.errors import VectorError
from fiftyone_isoclip.index.vectors import Float32s, Rows


@dataclass(frozen=True, eq=False, slots=True)
class Pairs:
    """Pairs of rows, each once, sorted by (left, right).

    Attributes:
        n: rows that were searched.
        left: (p,) the smaller row of each pair.
        right: (p,) the larger row of each pair.
        similarity: (p,) their cosines, all at least `least`.
        least: the similarity that was searched for, in (-1, 1].
        recall: share of all such pairs that was found, in [0, 1]: 1 of an exact search, else
            measured on a sample; None where the sample had no pair.
    """

    n: int
    left: Rows
    right: Rows
    similarity: Float32s
    least: float
    recall: float | None = 1.0

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
        found = self.where(self.similarity >= np.float32(stricter))
        return replace(found, least=float(stricter))

    def where(self, kept: npt.NDArray[np.bool_]) -> Pairs:
        """Keep the pairs that a mask (p,) marks."""
        return replace(
            self,
            left=self.left[kept],
            right=self.right[kept],
            similarity=self.similarity[kept],
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
