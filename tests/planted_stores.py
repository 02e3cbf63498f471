"""Stores of made vectors with planted near-copies, and searches of them in cells."""

from __future__ import annotations

import numpy as np

from fiftyone_isoclip.projector import Band, EmbeddingMap
from fiftyone_isoclip.shards import Recipe, Shard
from fiftyone_isoclip.shards.duplicates.local import LocalSearch
from fiftyone_isoclip.shards.duplicates.rows import Layout, Space
from fiftyone_isoclip.shards.duplicates.search import Search
from fiftyone_isoclip.shards.store import continue_store

DIM, SIMILARITY = 24, 0.9


def planted(n: int, seed: int) -> np.ndarray:
    """Rows about a mean, a tenth of them near others: (n, DIM), of all lengths."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, DIM)).astype(np.float32)
    rows[:, 0] += 2
    places = rng.permutation(n)
    for copy, original in zip(places[: n // 10], places[n // 10 :], strict=False):
        rows[copy] = rows[original] + rng.standard_normal(DIM) * rng.uniform(0, 0.4)
    return rows * rng.uniform(0.5, 2, (n, 1)).astype(np.float32)


def made_store(folder, vectors, *, failed=(), shard_rows=64, recipe=None):
    """A store of these vectors, whose ids are their numbers."""
    recipe = recipe or Recipe("made", "0" * 64, "float32", "exact", vectors.shape[1])
    store = continue_store(str(folder), recipe, shard_rows=shard_rows)
    counts = {}
    for start in range(0, len(vectors), shard_rows):
        numbers = range(start, min(start + shard_rows, len(vectors)))
        rows = np.array([n - start for n in numbers if n not in failed], np.int64)
        shard = Shard(
            tuple(f"{n:06}" for n in numbers),
            tuple(f"s3://bucket/{n:06}.jpg" for n in numbers),
            tuple(1000 + n % 7 for n in numbers),
            rows,
            vectors[start : start + shard_rows][rows],
            {n - start: "broken" for n in numbers if n in failed},
        )
        store.write(shard)
        counts[shard.name] = len(numbers)
    return store.note(complete=True, shards=counts)


def search_of(store, similarity=SIMILARITY, **sizes) -> Search:
    """A search by plain embeddings, in cells from the first row on."""
    plain = EmbeddingMap(np.eye(DIM), np.eye(DIM), Band(0, 0), 1.0)
    sizes = {"compared_at_once": 0, "sampled": 300} | sizes
    return Search(
        Space.of(store, plain),
        Layout.of(store.manifest),
        LocalSearch(),
        similarity,
        lambda doing, done, total: None,
        **sizes,
    )
