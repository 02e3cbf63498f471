"""Clusters of vectors by cosine: labels, the row that stands for each, and how tight they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from fiftyone_isoclip.errors import VectorError
from fiftyone_isoclip.index.centroids import choose_count, kmeans_labels, silhouette
from fiftyone_isoclip.index.communities import leiden_labels
from fiftyone_isoclip.index.vectors import Float32s, Float64s, Rows, row_blocks, unit_rows

ClusterMethod = Literal["kmeans", "leiden"]
"""How clusters are found: see `cluster`."""

_SUMMED_NUMBERS = 2**22


@dataclass(frozen=True, eq=False, slots=True)
class Clusters:
    """Rows divided into clusters, the largest first.

    Attributes:
        labels: (n,) the cluster of each row, 0 to c - 1, or -1 for noise.
        medoids: (c,) the row with the highest mean cosine to all rows of its cluster.
        sizes: (c,) rows in each cluster.
        cohesion: (c,) mean cosine of a cluster's rows to their mean direction, in [0, 1].
        silhouette: in [-1, 1], on a sample and without noise; None with fewer than two clusters.
    """

    labels: Rows
    medoids: Rows
    sizes: Rows
    cohesion: Float32s
    silhouette: float | None

    def __len__(self) -> int:
        """Count the clusters, noise not included."""
        return len(self.medoids)


def cluster(
    vectors: npt.ArrayLike,
    *,
    count: int | None = None,
    method: ClusterMethod = "kmeans",
    seed: int = 0,
    least_size: int = 5,
) -> Clusters:
    """Divide vectors into clusters by cosine: (n, d) -> Clusters.

    Args:
        vectors: (n, d), of any length.
        count: clusters asked for, at most n; fewer are returned where rows are identical. None
            chooses by silhouette (see `choose_count`). For k-means only.
        method: "kmeans" gives every row a cluster; "leiden" finds its own count, the communities
            of the neighbour graph, and leaves rows that belong to none out as noise.
        seed: same seed, same rows, same clusters.
        least_size: fewest rows of a "leiden" cluster, at least 2.

    Raises:
        VectorError: if vectors have no direction, or the count or the least size does not fit.
    """
    units = unit_rows(vectors)
    if method == "leiden":
        if count is not None:
            raise VectorError(
                f"The Leiden algorithm finds its own count; asked for {count}. Leave the count "
                'out, or use method="kmeans".'
            )
        if least_size < 2:
            raise VectorError(f"A cluster needs at least 2 rows; asked for {least_size}.")
        return _describe(units, leiden_labels(units, least_size, seed))
    if method != "kmeans":
        raise VectorError(f'Clusters are found by "kmeans" or "leiden"; got {method!r}.')
    if count is not None and not 1 <= count <= max(1, len(units)):
        raise VectorError(
            f"Asked for {count} clusters of {len(units)} vectors; ask for 1 to {len(units)}."
        )
    return _describe(units, _kmeans_labels(units, count, seed))


def _kmeans_labels(units: Float32s, count: int | None, seed: int) -> Rows:
    if len(units) < 2 or not np.any(units != units[0]):
        return np.zeros(len(units), dtype=np.int64)
    chosen = choose_count(units, seed) if count is None else count
    return kmeans_labels(units, chosen, seed)


def _describe(units: Float32s, found: Rows) -> Clusters:
    names, sizes = np.unique(found[found >= 0], return_counts=True)
    labels = np.where(found >= 0, np.searchsorted(names, found), -1)
    means = _means(units, labels, len(names))
    inside = np.flatnonzero(labels >= 0)
    closeness = _closeness(units, inside, means, labels[inside])
    order = np.lexsort((inside, -closeness, labels[inside]))
    medoids = inside[order][np.searchsorted(labels[inside][order], np.arange(len(names)))]
    by_size = np.lexsort((medoids, -sizes))
    place = np.empty(len(names) + 1, dtype=np.int64)
    place[by_size] = np.arange(len(names))
    place[-1] = -1
    return Clusters(
        place[labels],
        medoids[by_size],
        sizes[by_size].astype(np.int64),
        # The mean cosine of unit rows to the direction of their mean is the length of that mean.
        np.linalg.norm(means, axis=1)[by_size].astype(np.float32),
        silhouette(units, labels),
    )


def _means(units: Float32s, labels: Rows, count: int) -> Float64s:
    sums = np.zeros((count, units.shape[1]))
    # Blocks far larger than the cache: every one of them costs a walk over all the sums.
    step = max(1, _SUMMED_NUMBERS // max(1, units.shape[1]))
    for start in range(0, len(units), step):
        owners, block = labels[start : start + step], units[start : start + step]
        inside = np.flatnonzero(owners >= 0)
        members = csr_array(
            (np.ones(len(inside)), (owners[inside], inside)), shape=(count, len(owners))
        )
        sums += members @ block.astype(np.float64)
    sizes = np.bincount(labels[labels >= 0], minlength=count)
    return np.asarray(sums / sizes[:, None])


def _closeness(units: Float32s, rows: Rows, means: Float64s, owners: Rows) -> Float64s:
    closeness = np.empty(len(rows))
    for block in row_blocks(len(rows), units.shape[1]):
        closeness[block] = np.einsum(
            "ij,ij->i", units[rows[block]].astype(np.float64), means[owners[block]]
        )
    return closeness
