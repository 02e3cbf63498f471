"""Spherical k-means: rows divided by the direction they are closest to, and how many directions."""

from __future__ import annotations

import numpy as np

from fiftyone_isoclip.index.threads import faiss_threads
from fiftyone_isoclip.index.vectors import Float32s, Rows, row_blocks

_STARTS = 3
_FIRST_ROUNDS = 5
_ROUNDS = 25
_TRAINING_ROWS = 20_000
_TRAINING_ROWS_A_CENTROID = 128
_SEEDING_ROWS_A_CENTROID = 20
_CHOOSING_ROWS = 2_000
_LARGEST_CHOICE = 256


def kmeans_labels(units: Float32s, count: int, seed: int, *, starts: int = _STARTS) -> Rows:
    """Divide unit rows among `count` centroids by cosine: (n, d) -> (n,) labels, some unused.

    Trained on a sample, 20,000 rows or 128 a centroid. Each start is seeded by k-means++ (faiss's
    own choice of random rows finds worse clusters) and refined by faiss in a few rounds; the one
    whose rows lie closest to their centroids is refined further and wins.
    """
    rng = np.random.default_rng(seed)
    training = _sample(units, max(_TRAINING_ROWS, _TRAINING_ROWS_A_CENTROID * count), rng)
    fits = []
    for _ in range(starts):
        number = int(rng.integers(2**31 - 1))
        few = _sample(training, max(_CHOOSING_ROWS, _SEEDING_ROWS_A_CENTROID * count), rng)
        fits.append(_refine(training, _seeds(few, count, number), _FIRST_ROUNDS))
    best = max(fits, key=lambda centroids: float(_closest(training, centroids)[1].sum()))
    return _closest(units, _refine(training, best, _ROUNDS))[0]


def choose_count(units: Float32s, seed: int) -> int:
    """Choose how many clusters describe the rows best, by silhouette on a sample of 2,000.

    Tried are 2 to 12, then 16, 23, 32, ... (steps of the square root of 2) up to 2 sqrt(n), 256 at
    most: a finer choice changes little. One cluster is the answer when none of them is better than
    chance (silhouette 0).
    """
    rng = np.random.default_rng(seed)
    sample = _sample(units, _CHOOSING_ROWS, rng)
    largest = min(_LARGEST_CHOICE, len(sample) - 1, int(2 * np.sqrt(len(units))))
    counts = [*range(2, 13), *(round(2 ** (step / 2)) for step in range(8, 17))]
    best, chosen = 0.0, 1
    for count in (count for count in counts if count <= largest):
        labels = kmeans_labels(sample, count, seed, starts=1)
        score = silhouette(sample, labels)
        if score is not None and score > best:
            best, chosen = score, count
    return chosen


def silhouette(units: Float32s, labels: Rows) -> float | None:
    """Score labels in [-1, 1] by cosine: how much closer rows are to their own cluster.

    Noise (label -1) is left out; None where the score is not defined (fewer than 2 clusters, or
    only clusters of one row). More than 2,000 rows are sampled.
    """
    from sklearn.metrics import silhouette_score

    rows = np.flatnonzero(labels >= 0)
    if len(rows) > _CHOOSING_ROWS:
        rows = np.random.default_rng(0).choice(rows, size=_CHOOSING_ROWS, replace=False)
    if not 2 <= len(np.unique(labels[rows])) < len(rows):
        return None
    gaps = np.maximum(1.0 - units[rows].astype(np.float64) @ units[rows].T, 0.0)
    np.fill_diagonal(gaps, 0.0)
    return float(silhouette_score(gaps, labels[rows], metric="precomputed"))


def _sample(units: Float32s, size: int, rng: np.random.Generator) -> Float32s:
    if size >= len(units):
        return units
    return units[np.sort(rng.choice(len(units), size=size, replace=False))]


def _seeds(rows: Float32s, count: int, seed: int) -> Float32s:
    # Imported here: scikit-learn and faiss take longer to load than most searches to run.
    from sklearn.cluster import kmeans_plusplus

    return np.asarray(kmeans_plusplus(rows, count, random_state=seed)[0], dtype=np.float32)


def _refine(training: Float32s, centroids: Float32s, rounds: int) -> Float32s:
    import faiss

    with faiss_threads():
        kmeans = faiss.Kmeans(
            training.shape[1],
            len(centroids),
            niter=rounds,
            spherical=True,
            min_points_per_centroid=1,
            max_points_per_centroid=len(training),
        )
        kmeans.train(training, init_centroids=centroids)
    return np.asarray(kmeans.centroids, dtype=np.float32)


def _closest(units: Float32s, centroids: Float32s) -> tuple[Rows, Float32s]:
    labels = np.empty(len(units), dtype=np.int64)
    scores = np.empty(len(units), dtype=np.float32)
    for block in row_blocks(*units.shape):
        products = units[block] @ centroids.T
        labels[block] = np.argmax(products, axis=1)
        scores[block] = np.max(products, axis=1)
    return labels, scores
