"""Which share of the duplicates does a search in cells find, and what does it cost?

    python benchmarks/store_duplicates.py            # 20,000 vectors, for a look
    python benchmarks/store_duplicates.py --full     # 100,000

Made vectors as CLIP's lie in a store, and are searched for pairs of .95 in P = 1, 2, 4 ... cells
each, and once with P chosen for a recall of .999. Truth is the exact search of all vectors in
memory. Seconds are on the clock, of the local engine and of Ray on the same cores, Ray begun
before as it is on a cluster.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

os.environ["OMP_NUM_THREADS"] = "1"  # what Ray gives a task; read when torch is imported

import numpy as np
from harness import Record
from harness.vectors import clip_like

DIM, SIMILARITY, RECALL = 312, 0.95, 0.999
SHARD_ROWS = 1024


def fill(folder: Path, vectors: Any) -> Any:
    """A store of vectors that no model has made."""
    from fiftyone_isoclip.shards import Recipe, Shard
    from fiftyone_isoclip.shards.store import continue_store

    recipe = Recipe("made", "0" * 64, "float32", "exact", DIM)
    store, counts = continue_store(str(folder), recipe, shard_rows=SHARD_ROWS), {}
    for start in range(0, len(vectors), SHARD_ROWS):
        part = vectors[start : start + SHARD_ROWS]
        ids = tuple(f"{row:09}" for row in range(start, start + len(part)))
        shard = Shard(ids, ids, (None,) * len(ids), np.arange(len(ids)), part, {})
        store.write(shard)
        counts[shard.name] = len(ids)
    return store.note(complete=True, shards=counts)


def numbered(store: Any, pairs: Any) -> set[tuple[int, int]]:
    """Pairs by the numbers of their vectors."""
    names = sorted(store.manifest.shards)
    numbers = np.array([int(id_) for name in names for id_ in store.read(name).ids])
    ends = np.sort(np.stack([numbers[pairs.left], numbers[pairs.right]]), axis=0)
    return set(map(tuple, ends.T.tolist()))


def measure(search: Any, store: Any, truth: set[tuple[int, int]], cells: int | None) -> Any:
    """One search, in so many cells or those it chooses."""
    from fiftyone_isoclip.shards.duplicates.known_pairs import KnownPairs

    start = time.perf_counter()
    if cells is None:
        found = search.find(RECALL)
    else:
        with patch.object(KnownPairs, "cells_for", lambda *asked: cells):
            found = search.find(RECALL)
    seconds = time.perf_counter() - start
    pairs, share = numbered(store, found.pairs), found.recall
    assert pairs <= truth
    return {
        "cells_visited": found.visited,
        "cells": found.cells,
        "recall": round(len(pairs) / len(truth), 5),
        "told": None if share is None else [share.low, share.share, share.high],
        "known_pairs": found.known,
        "seconds": round(seconds, 1),
    }


def main() -> None:
    """Measure, print the results and write them down."""
    parser = argparse.ArgumentParser(description="Recall and time by cells visited.")
    parser.add_argument("--full", action="store_true", help="100,000 vectors and not 20,000")
    full = parser.parse_args().full
    n = 100_000 if full else 20_000
    packages = ("ray", "pyarrow", "numpy")
    record = Record(
        "store_duplicates", question="Duplicates of a store in a few cells", packages=packages
    )
    record.setup(vectors=n, dim=DIM, similarity=SIMILARITY, recall=RECALL)
    with tempfile.TemporaryDirectory() as place:
        compare(Path(place) / "store", clip_like(n, DIM), record)
    record.write(full)


def compare(folder: Path, vectors: Any, record: Record) -> None:
    """Search one store in all ways."""
    from fiftyone_isoclip.index import find_pairs
    from fiftyone_isoclip.projector import Band, EmbeddingMap
    from fiftyone_isoclip.shards.duplicates.local import LocalSearch
    from fiftyone_isoclip.shards.duplicates.ray_engine import open_ray_search
    from fiftyone_isoclip.shards.duplicates.rows import Layout, Space
    from fiftyone_isoclip.shards.duplicates.search import Search

    store = fill(folder, vectors)
    start = time.perf_counter()
    exact = find_pairs(vectors, SIMILARITY)
    record.results["exact_in_memory_seconds"] = round(time.perf_counter() - start, 1)
    truth = set(zip(exact.left.tolist(), exact.right.tolist(), strict=True))
    record.results["pairs"] = len(truth)
    plain = EmbeddingMap(np.eye(DIM), np.eye(DIM), Band(0, 0), 1.0)
    local = Search(
        Space.of(store, plain),
        Layout.of(store.manifest),
        LocalSearch(),
        SIMILARITY,
        lambda doing, done, total: None,
        compared_at_once=0,
    )
    by_cells = [measure(local, store, truth, cells) for cells in (1, 2, 4, 8)]
    chosen = measure(local, store, truth, None)
    with open_ray_search() as on_ray:
        ray = measure(replace(local, engine=on_ray), store, truth, None)
    record.results |= {"local_by_cells": by_cells, "local_chosen": chosen, "ray_chosen": ray}
    record.row(
        f"recall of a search in {chosen['cells_visited']} of {chosen['cells']} cells, chosen for "
        f"{RECALL}",
        target=f">= {RECALL}",
        measured=str(chosen["recall"]),
        met=chosen["recall"] >= RECALL,
    )
    record.row(
        "Ray and the local engine find the same pairs",
        target="the same recall",
        measured=str(ray["recall"]),
        met=ray["recall"] == chosen["recall"],
    )


if __name__ == "__main__":
    main()
