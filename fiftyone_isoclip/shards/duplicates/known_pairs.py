"""Pairs that are known because some rows were compared with every other: what a search is held to.

Half of these rows choose how many cells a row visits; the other half tell what that finds. Both
count by the image, and not by the pair: a large cluster has most of the pairs, and the easiest.
Each half is a random sample of the images that have a pair, whatever cluster these lie in.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fiftyone_isoclip.errors import VectorError
from fiftyone_isoclip.index.binomial import Share, high_bounds, low_bounds
from fiftyone_isoclip.index.limits import pair_limit, surely, too_many
from fiftyone_isoclip.index.vectors import Rows

ENOUGH_IMAGES = 1000
"""Images with a pair from which the fewest cells that find a share are taken at their word."""
USUAL_CELLS = 4
"""Cells a row visits at least where fewer are known: on made vectors, more than .999."""


@dataclass(frozen=True, eq=False, slots=True)
class KnownPairs:
    """All pairs of some random rows of ``n``; a pair of two of these rows is there for each.

    Shapes: ``owner`` (p,) which of the random rows it is, ``sampled`` (p,) its number and
    ``partner`` (p,) that of the other; ``needed`` (p,) how many cells the two must visit to meet.
    """

    n: int
    owner: Rows
    sampled: Rows
    partner: Rows
    needed: npt.NDArray[np.int32]

    @classmethod
    def of(cls, n: int, rows: Rows, found: Iterable[pa.Table], similarity: float) -> KnownPairs:
        """Gather what was found for these sampled rows, ascending.

        Raises:
            VectorError: by what is known, all rows have too many pairs.
        """
        parts, counts, limit = [], np.zeros(len(rows), np.int64), pair_limit(n)
        # Each pair has two ends, either of which may be sampled.
        most = 2 * limit * len(rows) / n
        for part in found:
            parts.append(part)
            place = np.searchsorted(rows, part["sampled"].to_numpy())
            counts += np.bincount(place, minlength=len(rows))
            if surely(counts) > most or counts.sum() > 2 * limit:
                raise _exploding(n, similarity, pa.concat_tables(parts), len(rows))
        table = pa.concat_tables(parts)
        # Results come in any order, and a sum depends on it.
        table = table.sort_by([("sampled", "ascending"), ("partner", "ascending")])
        sampled, partner, needed = (
            table[name].to_numpy() for name in ("sampled", "partner", "needed")
        )
        return cls(n, np.searchsorted(rows, sampled), sampled, partner, needed)

    def cells_for(self, recall: float, most: int) -> int:
        """The fewest cells that find a share of an image's pairs, in the mean of those that choose.

        At least `USUAL_CELLS` where fewer than `ENOUGH_IMAGES` choose.

        Raises:
            VectorError: not even `most` of them do.
        """
        choosing = self.owner % 2 == 0
        if not choosing.any():
            return min(USUAL_CELLS, most)
        owner, needed = self.owner[choosing], self.needed[choosing]
        images = len(np.unique(owner))
        reached = np.array([_mean_share(owner, needed <= n) for n in range(1, most + 1)])
        enough = np.flatnonzero(reached >= recall)
        if not len(enough):
            raise VectorError(
                f"A recall of {recall:g} was asked for, and comparing each image in its {most} "
                f"nearest cells finds {reached[-1]:.4f} of an image's pairs, in the mean of "
                f"{images} images; ask for less, or for 1, which compares every two images."
            )
        least = 1 if images >= ENOUGH_IMAGES else USUAL_CELLS
        return min(most, max(least, int(enough[0]) + 1))

    def recall_of(self, left: Rows, right: Rows) -> tuple[Share | None, int]:
        """Which share of an image's pairs is among these, in the mean of the images that tell.

        With it comes how many pairs that is of; None of none. The bounds are those of as many draws
        as there are images: a share that may be a fraction varies no more than one that is 0 or 1.
        """
        telling = self.owner % 2 == 1
        if not telling.any():
            return None, 0
        ends = np.stack([self.sampled[telling], self.partner[telling]])
        keys = ends.min(axis=0) * self.n + ends.max(axis=0)
        share = _mean_share(self.owner[telling], np.isin(keys, left * self.n + right))
        images = len(np.unique(self.owner[telling]))
        low, high = (float(bounds(share * images, images)) for bounds in (low_bounds, high_bounds))
        return Share(share, low, high), len(np.unique(keys))


def _mean_share(owner: Rows, found: npt.NDArray[np.bool_]) -> float:
    """Which share of its pairs an owner has found, in the mean of all owners: twice (p,)."""
    _, image, counts = np.unique(owner, return_inverse=True, return_counts=True)
    missed = np.sum(~found / counts[image]) / len(counts)
    return float(max(0.0, 1.0 - missed))


def _exploding(n: int, similarity: float, table: pa.Table, sampled: int) -> VectorError:
    scores, limit = np.sort(table["similarity"].to_numpy())[::-1], pair_limit(n)
    most = int(2 * limit * sampled / n)
    estimate = f"about {len(table) * n / (2 * sampled):,.0f}"
    found = too_many(n, similarity, f"by {sampled:,} of them {estimate} or more", limit)
    return VectorError(f"{found} Ask for more than {scores[most]:.3f}.")
