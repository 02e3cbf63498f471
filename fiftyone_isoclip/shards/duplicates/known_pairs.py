"""Pairs that are known because some rows were compared with every other: what a search is held to.

Half of them, by the sampled row, choose how many cells a row visits; the other half tell what that
finds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fiftyone_isoclip.errors import VectorError
from fiftyone_isoclip.index.binomial import Share, high_bounds, low_bounds
from fiftyone_isoclip.index.limits import PAIR_LIMIT, too_many
from fiftyone_isoclip.index.vectors import Rows

ENOUGH_PAIRS = 1000
"""Known pairs from which the fewest cells that find a share of them are taken at their word."""
USUAL_CELLS = 4
"""Cells a row visits at least where fewer pairs are known: on made vectors, more than .999."""


@dataclass(frozen=True, eq=False, slots=True)
class KnownPairs:
    """All pairs of some random rows of ``n``, each pair once.

    Shapes: ``left`` and ``right`` (p,) its rows, left the smaller; ``owner`` (p,) which of the
    random rows it is a pair of; ``needed`` (p,) how many cells rows must visit to meet.
    """

    n: int
    left: Rows
    right: Rows
    owner: Rows
    needed: npt.NDArray[np.int32]

    @classmethod
    def of(cls, n: int, rows: Rows, found: Iterable[pa.Table], similarity: float) -> KnownPairs:
        """Gather what was found for these sampled rows, ascending.

        Raises:
            VectorError: by what is known, all rows have too many pairs.
        """
        parts, count = [], 0
        # Each pair has two ends, either of which may be sampled.
        most = 2 * PAIR_LIMIT * len(rows) / n
        for part in found:
            parts.append(part)
            count += len(part)
            if count > most:
                raise _exploding(n, similarity, pa.concat_tables(parts), most)
        table = pa.concat_tables(parts)
        ends = np.stack([table["sampled"].to_numpy(), table["partner"].to_numpy()])
        left, right = ends.min(axis=0), ends.max(axis=0)
        once = np.unique(np.stack([left, right]), axis=1, return_index=True)[1]
        left, right = left[once], right[once]
        # Where both ends are sampled, results that come in another order must not choose.
        owner = np.searchsorted(rows, np.where(np.isin(left, rows), left, right))
        needed = table["needed"].to_numpy()[once]
        return cls(n, left, right, owner, needed)

    def __len__(self) -> int:
        """Count the pairs."""
        return len(self.left)

    def cells_for(self, recall: float, most: int) -> int:
        """The fewest cells that find a share of the pairs that choose.

        Raises:
            VectorError: not even `most` of them do.
        """
        choosing = self.needed[self.owner % 2 == 0]
        if not len(choosing):
            return min(USUAL_CELLS, most)
        reached = np.array([np.mean(choosing <= count) for count in range(1, most + 1)])
        enough = np.flatnonzero(reached >= recall)
        if not len(enough):
            raise VectorError(
                f"A recall of {recall:g} was asked for, and comparing each image in its {most} "
                f"nearest cells finds {reached[-1]:.4f} of {len(choosing)} known pairs; ask for "
                "less, or for 1, which compares every two images."
            )
        least = 1 if len(choosing) >= ENOUGH_PAIRS else USUAL_CELLS
        return min(most, max(least, int(enough[0]) + 1))

    def recall_of(self, left: Rows, right: Rows) -> tuple[Share | None, int]:
        """Which share of the pairs that tell is among these, and of how many; None of none.

        All pairs of one row may be found or missed together, so that the bounds count as many
        independent ones as rows of so unequal numbers of pairs are worth.

        Source: Kish, Survey Sampling, 1965, section 8.2: the effect of clusters on a variance.
        """
        telling = self.owner % 2 == 1
        if not telling.any():
            return None, 0
        keys = self.left[telling] * self.n + self.right[telling]
        share = float(np.isin(keys, left * self.n + right).mean())
        sizes = np.unique(self.owner[telling], return_counts=True)[1]
        worth = int(sizes.sum() ** 2 / (sizes**2).sum())
        bounds = float(low_bounds(share * worth, worth)), float(high_bounds(share * worth, worth))
        return Share(share, *bounds), int(telling.sum())


def _exploding(n: int, similarity: float, table: pa.Table, most: float) -> VectorError:
    scores = np.sort(table["similarity"].to_numpy())[::-1]
    found = too_many(n, similarity, f"more than {PAIR_LIMIT:,}", PAIR_LIMIT)
    return VectorError(f"{found} Ask for more than {scores[int(most)]:.3f}.")
