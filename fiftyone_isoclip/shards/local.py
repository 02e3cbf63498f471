"""The engine that is none: one worker, in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from fiftyone_isoclip.shards.manifest import Recipe
from fiftyone_isoclip.shards.store import ShardStore
from fiftyone_isoclip.shards.tasks import Task
from fiftyone_isoclip.shards.worker import Embedder, Encoding, Receipt, Worker


class LocalEngine:
    """Runs tasks one after the other."""

    def __init__(self, encoding: Encoding) -> None:
        self._embedder = Embedder(encoding)

    @property
    def recipe(self) -> Recipe:
        """What the vectors will be made by."""
        return self._embedder.recipe

    def run(self, store: ShardStore, tables: Sequence[pa.Table]) -> Iterator[Receipt]:
        """Make the shards of these tables."""
        worker = Worker(self._embedder, store)
        for table in tables:
            yield worker(Task.of(table))
