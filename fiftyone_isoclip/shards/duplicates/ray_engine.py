"""The engine for many machines: Ray Data does the work, and brings the rows of a cell together."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa

from fiftyone_isoclip.index.threads import one_blas_thread
from fiftyone_isoclip.shards.duplicates.search import Work
from fiftyone_isoclip.shards.duplicates.work import Picking
from fiftyone_isoclip.shards.ray_cluster import heard, open_cluster, ray, said

_LEAST_SHARED = 2**30
_SHARED = Path("/dev/shm")  # noqa: S108 (where Ray has it if it can)
_SHARE = 4
_PART_BYTES = 2**28


class RaySearch:
    """Does work on the Ray that this process is connected to; a dead worker's goes to another.

    ``workers`` bounds how many tasks run at a time; by default all cores of the cluster work. The
    store must be reachable from all machines.
    """

    def __init__(self, workers: int | None = None) -> None:
        has = ray.cluster_resources()
        # Rows are there when they are picked, sorted and compared: more would go to disks.
        self.visit_bytes = int(has.get("object_store_memory", _LEAST_SHARED)) // _SHARE
        self._parts = max(2 * int(has.get("CPU", 1)), self.visit_bytes // _PART_BYTES)
        self._limits: dict[str, Any] = {"batch_format": "pyarrow", "concurrency": workers}

    def each(self, work: Work, tasks: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """Do some work on every task; the results come in any order.

        Raises:
            IsoClipError: a worker gave up, in its own words.
        """
        dataset = ray.data.from_arrow(list(tasks))
        yield from _told(dataset.map_batches(_telling(work), batch_size=None, **self._limits))

    def by_cell(self, pick: Picking, tasks: list[pa.Table], compare: Work) -> Iterator[pa.Table]:
        """Pick rows out of every task, and compare those of one cell.

        Raises:
            IsoClipError: a worker gave up, in its own words.
        """
        dataset = ray.data.from_arrow(tasks)
        visits = dataset.map_batches(_picking(pick), batch_size=None, **self._limits)
        cells = visits.groupby("cell", num_partitions=self._parts)
        yield from _told(cells.map_groups(_telling(_comparing(compare)), **self._limits))


@contextmanager
def open_ray_search(workers: int | None = None) -> Iterator[RaySearch]:
    """Connect to the cluster that RAY_ADDRESS names, or begin a Ray on this machine and end it.

    Raises:
        IsoClipError: there is no such cluster, or Ray itself gave up.
    """
    with open_cluster("cpu", _shared_bytes()):
        yield RaySearch(workers)


def _shared_bytes() -> int:
    """Memory that a Ray begun here may share: the vectors of a round go through it."""
    room = shutil.disk_usage(_SHARED).free if _SHARED.is_dir() else 0
    return max(_LEAST_SHARED, min(int(psutil.virtual_memory().available) // 4, room))


def _telling(work: Work) -> Callable[[pa.Table], pa.Table]:
    """Work whose result is one row: tables of all kinds, and sentences, go the same way."""

    def tell(task: pa.Table) -> pa.Table:
        with one_blas_thread():
            answer = said(lambda: _packed(work(task)), nothing=b"")
        columns = {"said": pa.array([answer["said"]], pa.large_binary())}
        return pa.table({**columns, "sentence": [answer["sentence"]]})

    return tell


def _told(answers: Any) -> Iterator[pa.Table]:
    for row in answers.iter_rows():
        yield pa.ipc.open_stream(heard(row)).read_all()


def _picking(pick: Picking) -> Callable[[pa.Table], pa.Table]:
    """Rows of cells; a sentence goes to a cell of its own, and gives up there."""

    def tell(task: pa.Table) -> pa.Table:
        with one_blas_thread():
            answer = said(pick, task, nothing=pick.placeholder())
        table = answer["said"]
        sentences = pa.array([answer["sentence"]] * len(table), pa.string())
        return table.append_column("sentence", sentences)

    return tell


def _comparing(compare: Work) -> Work:
    def hear(visits: pa.Table) -> pa.Table:
        visits = visits.combine_chunks()
        sentences = visits["sentence"].unique().to_pylist()
        heard({"said": visits, "sentence": max(sentences)})
        return compare(visits)

    return hear


def _packed(table: pa.Table) -> bytes:
    file = pa.BufferOutputStream()
    with pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)
    return bytes(file.getvalue())
