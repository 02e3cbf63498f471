"""The rows of a store under one numbering, and their embeddings as a search compares them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from fiftyone_isoclip.index.vectors import Float32s, Rows
from fiftyone_isoclip.projector import EmbeddingMap
from fiftyone_isoclip.shards.manifest import Manifest
from fiftyone_isoclip.shards.store import SHARD_ROWS, ShardStore


@dataclass(frozen=True, eq=False, slots=True)
class Layout:
    """Where the rows of a store lie: the images of its shards, numbered in the shards' order.

    Shapes: ``names`` (s,); ``starts`` (s + 1,) the number of the first row of each shard, and n.
    """

    names: tuple[str, ...]
    starts: Rows

    @classmethod
    def of(cls, manifest: Manifest) -> Layout:
        """The layout that the last complete run left."""
        shards = sorted(manifest.shards.items())
        counts = [count for _, count in shards]
        starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)
        return cls(tuple(name for name, _ in shards), starts)

    @property
    def n(self) -> int:
        """How many rows there are, those without an embedding included."""
        return int(self.starts[-1])

    def tasks(self, among: Rows | None = None, **columns: Sequence[Any]) -> list[pa.Table]:
        """The shards in their order, a few small ones or a large one to a table.

        The columns are name, start, and those given: one value a shard. ``among`` leaves only the
        shards in which some of these rows lie.
        """
        every = pa.table({"name": self.names, "start": self.starts[:-1], **columns})
        owner = (self.starts[1:] - 1) // SHARD_ROWS
        if among is not None:
            shards = np.unique(np.searchsorted(self.starts, among, side="right") - 1)
            every, owner = every.take(shards), owner[shards]
        cuts = [0, *(np.flatnonzero(np.diff(owner)) + 1).tolist(), len(owner)]
        return [every.slice(first, last - first) for first, last in pairwise(cuts) if last > first]

    def tasks_of(self, rows: Rows) -> list[pa.Table]:
        """The tasks of some rows, ascending: a column ``rows`` lists those of each shard."""
        parts = np.split(rows, np.searchsorted(rows, self.starts[1:-1]))[: len(self.names)]
        return self.tasks(rows, rows=pa.array(parts, pa.list_(pa.int64())))


@dataclass(frozen=True, eq=False, slots=True)
class Space:
    """A store whose embeddings are read as IsoCLIP embeddings; it can be sent to other machines."""

    store: ShardStore
    to_isoclip: EmbeddingMap

    @classmethod
    def of(cls, store: ShardStore, to_isoclip: EmbeddingMap) -> Space:
        """Without the list of shards, which a worker does not need."""
        light = ShardStore(store.place, replace(store.manifest, shards={}))
        return cls(light, to_isoclip)

    def read(self, name: str, start: int) -> tuple[Rows, Float32s]:
        """The rows of a shard that have an embedding, (m,), and their unit rows (m, k).

        Raises:
            StoreError: the shard is damaged, or gone.
        """
        shard = self.store.need(name)
        return shard.rows + start, self.to_isoclip(shard.embeddings)
