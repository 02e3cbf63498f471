"""Stores of shards with made vectors, and files of their duplicates: no model runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from fiftyone_isoclip.shards import Recipe, Shard, StoreDuplicates
from fiftyone_isoclip.shards.duplicates.found import Facts
from fiftyone_isoclip.shards.duplicates.groups import SCHEMA
from fiftyone_isoclip.shards.store import ShardStore, continue_store

DIM = 16
RECIPE = Recipe("made", "ab" * 32, "float32", "exact", DIM)


def vector_of(id_: str, dim: int = DIM) -> np.ndarray:
    """The vector of an image, which its id decides: (dim,) float32."""
    return np.random.default_rng(list(id_.encode())).standard_normal(dim, np.float32)


def make_store(
    folder: Path,
    paths: Sequence[str],
    *,
    ids: Sequence[str] | None = None,
    failures: Mapping[int, str] | None = None,
    sizes: Mapping[int, int] | None = None,
    recipe: Recipe = RECIPE,
    shard_rows: int = 4,
    dtype: str = "float32",
) -> ShardStore:
    """A store of these images, sorted by id as `isoclip embed --store` does it.

    ``failures`` and ``sizes`` go by the place in ``paths``; a size that is not told is the file's.
    """
    failures, sizes = failures or {}, sizes or {}
    names = list(paths) if ids is None else list(ids)
    store = continue_store(str(folder), recipe, dtype=dtype, shard_rows=shard_rows)
    order = sorted(range(len(names)), key=names.__getitem__)
    counts = {}
    for start in range(0, len(order), shard_rows):
        places = order[start : start + shard_rows]
        rows = [row for row, place in enumerate(places) if place not in failures]
        vectors = [vector_of(names[places[row]], recipe.dim) for row in rows]
        shard = Shard(
            tuple(names[place] for place in places),
            tuple(paths[place] for place in places),
            tuple(sizes.get(place, _size(paths[place])) for place in places),
            np.array(rows, np.int64),
            np.array(vectors, store.manifest.numbers).reshape(len(rows), recipe.dim),
            {row: failures[place] for row, place in enumerate(places) if place in failures},
        )
        store.write(shard)
        counts[shard.name] = len(places)
    return store.note(complete=True, shards={**store.manifest.shards, **counts})


def _size(path: str) -> int:
    return Path(path).stat().st_size if Path(path).is_file() else 1000


def write_groups(
    file: Path,
    groups: Sequence[Sequence[tuple[str, str]]],
    fingerprint: str,
    similarity: float = 0.9,
    band: str = "0/0",
    **facts: object,
) -> Path:
    """A file of duplicates: groups of (id, path), the keeper first, each .01 less like it."""
    rows = [
        {
            "group": group,
            "component": group,
            "id": id_,
            "path": path,
            "role": "duplicate" if place else "keeper",
            "similarity": 1 - place / 100 if place else None,
            "reason": None if place else f"the file's keeper {group}",
        }
        for group, members in enumerate(groups)
        for place, (id_, path) in enumerate(members)
    ]
    told = {"images": 100, "prefer": "most_bytes", "recall": None, "recall_low": None}
    told |= {"recall_high": None, "known_pairs": 0, "cells": 3, "visited": 2}
    searched = Facts("made", fingerprint, band, similarity, **(told | facts))
    StoreDuplicates(pa.Table.from_pylist(rows, SCHEMA), searched).write(file)
    return file
