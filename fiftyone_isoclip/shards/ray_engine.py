"""The engine for many machines: Ray Data gives tasks to workers, and to others when one dies."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import pyarrow as pa

from fiftyone_isoclip.shards.manifest import Recipe
from fiftyone_isoclip.shards.ray_cluster import heard, open_cluster, ray, said
from fiftyone_isoclip.shards.store import ShardStore
from fiftyone_isoclip.shards.tasks import Task
from fiftyone_isoclip.shards.worker import Embedder, Encoding, Receipt, Worker

OBJECT_STORE_BYTES = 300 * 2**20
"""Memory that a Ray begun here may share: paths and receipts go through it, pixels never do."""


class RayEngine:
    """Runs tasks on the Ray that this process is connected to.

    ``workers`` counts the processes that load the model: by default one for each GPU, or for each
    core where there is none. Images, weights and the store must be reachable from all machines.
    """

    def __init__(self, encoding: Encoding, workers: int | None = None) -> None:
        has = ray.cluster_resources()
        gpus = int(has.get("GPU", 0))
        on_gpu = encoding.device.startswith("cuda") or (encoding.device == "auto" and gpus > 0)
        self._needs = {"num_gpus": 1} if on_gpu else {"num_cpus": 1}
        self._workers = workers or max(1, gpus if on_gpu else int(has.get("CPU", 1)))
        # Asked of a process like those that will work: this one may have no GPU.
        answer = ray.get(ray.remote(**self._needs)(_describe).remote(encoding))
        self.recipe = Recipe(**json.loads(heard(answer)))
        self._encoding = replace(encoding, precision=self.recipe.precision)

    def run(self, store: ShardStore, tables: Sequence[pa.Table]) -> Iterator[Receipt]:
        """Make the shards of these tables, in any order; a dead worker's tasks go to another.

        Raises:
            IsoClipError: a worker gave up, in its own words.
        """
        if not tables:
            return
        # A block is a shard, and is stored by the worker that made it: Ray's own writer may put
        # blocks together, and then nothing is stored until the last of them is done.
        receipts = ray.data.from_arrow(list(tables)).map_batches(
            _Actor,
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=min(self._workers, len(tables))),
            fn_constructor_args=(self._encoding, store.uri),
            **self._needs,
        )
        for row in receipts.iter_rows():
            yield Receipt.loads(heard(row))


@contextmanager
def open_ray(encoding: Encoding, workers: int | None = None) -> Iterator[RayEngine]:
    """Connect to the cluster that RAY_ADDRESS names, or begin a Ray on this machine and end it.

    Raises:
        IsoClipError: there is no such cluster or device, or Ray itself gave up.
    """
    with open_cluster(encoding.device, OBJECT_STORE_BYTES):
        yield RayEngine(encoding, workers)


class _Actor:
    """A worker as Ray Data wants it: a table in, a table out."""

    def __init__(self, encoding: Encoding, uri: str) -> None:
        self._asked = encoding, uri
        self._worker: Worker | None = None

    def __call__(self, table: pa.Table) -> pa.Table:
        return pa.table({name: [text] for name, text in said(self._work, table).items()})

    def _work(self, table: pa.Table) -> str:
        # Opened here, not above: an actor that cannot be made would be made again for ever.
        self._worker = self._worker or Worker.open(*self._asked)
        return self._worker(Task.of(table)).dumps()


def _describe(encoding: Encoding) -> dict[str, Any]:
    return said(lambda: json.dumps(asdict(Embedder(encoding).recipe)))
