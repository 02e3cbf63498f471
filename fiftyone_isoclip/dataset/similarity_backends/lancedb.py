"""LanceDB: files in a folder or an object store, read by every process that searches them.

Searches compare every row, so they are exact; a table of float16 rows takes half the room.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from fiftyone.brain.internal.core.lancedb import LanceDBSimilarityConfig

from fiftyone_isoclip.dataset.similarity_backends.backend import TableSimilarity
from fiftyone_isoclip.dataset.similarity_backends.config import TableConfig
from fiftyone_isoclip.dataset.similarity_backends.tables import Float32s, Hits, Rows, Tables

if TYPE_CHECKING:
    from fiftyone_isoclip.index import Storage

ERRORS = (OSError, RuntimeError, ValueError)
"""By which LanceDB answers."""

_PUT_ROWS = 20_000
_ASKED_IDS = 50_000
"""Ids in one condition: a query is planned as a whole."""

_SMALL_PARTS = 64
"""So many parts of few rows are put together: each is a file that every search opens."""


_A_MOMENT = timedelta(milliseconds=1)
"""For which a table stays as it was for those who search it just then."""


class LanceDBConfig(TableConfig, LanceDBSimilarityConfig):
    """What a run remembers; the settings are those of FiftyOne's own backend."""

    @property
    def supports_least_similarity(self) -> bool:
        """True: every row is compared."""
        return True


class LanceTable:
    """A table of LanceDB; see `VectorTable`."""

    def __init__(self, database: Any, name: str, storage: Storage) -> None:
        self.name = name
        self._database = database
        self._storage = storage
        self._found: Any = None

    def count(self) -> int:
        """How many rows there are."""
        table = self._table()
        return 0 if table is None else int(table.count_rows())

    def put(self, ids: Sequence[str], sample_ids: Sequence[str], vectors: Float32s) -> None:
        """Add unit rows (n, d), or set them in the place of those with the same id."""
        for start in range(0, len(ids), _PUT_ROWS):
            part = slice(start, start + _PUT_ROWS)
            rows = _as_arrow(ids[part], sample_ids[part], vectors[part].astype(self._storage))
            table = self._table()
            if table is None:
                self._found = self._database.create_table(self.name, rows)
                continue
            change = table.merge_insert("id").when_matched_update_all()
            change.when_not_matched_insert_all().execute(rows)
            if table.stats()["fragment_stats"]["num_small_fragments"] > _SMALL_PARTS:
                table.optimize()

    def settle(self) -> None:
        """Put the parts that rows came in together, and delete them: they are half the room."""
        table = self._table()
        if table is not None:
            table.optimize(cleanup_older_than=_A_MOMENT)

    def remove(self, ids: Sequence[str]) -> None:
        """Delete the rows of these ids; those that are not there are no matter."""
        table = self._table()
        for part in _parts(ids) if table is not None else ():
            table.delete(_among(part))

    def read(self, ids: Sequence[str]) -> Rows:
        """The rows of these ids that are there, in the order of `ids`; (0, d) if none is."""
        table = self._table()
        if table is None:
            return Rows([], [], np.empty((0, 0), np.float32))
        parts = [table.search().where(_among(part)).to_arrow() for part in _parts(ids)]
        found = [id_ for part in parts for id_ in part["id"].to_pylist()]
        samples = [id_ for part in parts for id_ in part["sample_id"].to_pylist()]
        row_of = {id_: row for row, id_ in enumerate(found)}
        rows = [row_of[id_] for id_ in ids if id_ in row_of]
        dim = table.schema.field("vector").type.list_size
        tables = [np.empty((0, dim), np.float32), *(_as_rows(part, dim) for part in parts)]
        return Rows(
            [found[row] for row in rows],
            [samples[row] for row in rows],
            np.concatenate(tables)[rows],
        )

    def list_ids(self) -> tuple[list[str], list[str]]:
        """The ids and the samples of all rows, in any order."""
        table = self._table()
        if table is None:
            return [], []
        found = table.search().select(["id", "sample_id"]).to_arrow()
        return found["id"].to_pylist(), found["sample_id"].to_pylist()

    def nearest(self, vectors: Float32s, k: int, among: Sequence[str] | None) -> list[Hits]:
        """For each unit query (m, d) the k most similar rows, or as many as there are."""
        table = self._table()
        if table is None:
            return [Hits([], [], np.empty(0, np.float32)) for _ in vectors]
        return [self._nearest(table, vector, k, among) for vector in vectors]

    def drop(self) -> None:
        """Delete the table; no matter if there is none."""
        self._found = None
        self._database.drop_table(self.name, ignore_missing=True)

    def _nearest(self, table: Any, vector: Float32s, k: int, among: Sequence[str] | None) -> Hits:
        query = table.search(vector, vector_column_name="vector").distance_type("cosine").limit(k)
        if among is not None:
            query = query.where(_among(among), prefilter=True)
        found = query.select(["id", "sample_id", "_distance"]).to_arrow()
        distances = found["_distance"].to_numpy().astype(np.float32)
        return Hits(found["id"].to_pylist(), found["sample_id"].to_pylist(), 1 - distances)

    def _table(self) -> Any:
        """The table, None before the first row."""
        if self._found is None:
            try:
                self._found = self._database.open_table(self.name)
            except ValueError as error:
                if "not found" not in str(error):
                    raise
        return self._found


def open_tables(config: Any) -> Tables:
    """The tables of a run in the database at the configuration's address.

    Raises:
        ImportError: LanceDB is not installed.
    """
    import lancedb

    # An interval of nothing: what other processes wrote is seen at once.
    database = lancedb.connect(config.uri, read_consistency_interval=timedelta(0))
    names = [name for name in (config.images_table, config.texts_table) if name is not None]
    tables = [LanceTable(database, name, config.storage) for name in names]
    tables[0].count()  # before anything is embedded for a database that is away
    return Tables(tables[0], tables[1] if tables[1:] else None, ERRORS)


class LanceDB(TableSimilarity):
    """Makes indexes in LanceDB."""

    open_tables = staticmethod(open_tables)


def _as_arrow(ids: Sequence[str], sample_ids: Sequence[str], vectors: Any) -> Any:
    import pyarrow as pa

    rows = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    columns = [pa.array(ids, pa.string()), pa.array(sample_ids, pa.string()), rows]
    return pa.Table.from_arrays(columns, names=["id", "sample_id", "vector"])


def _as_rows(found: Any, dim: int) -> Float32s:
    """The vectors of an Arrow table: (n, dim)."""
    numbers = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in found["vector"].chunks]
    joined = np.concatenate([np.empty(0, np.float32), *numbers])
    return joined.reshape(-1, dim).astype(np.float32, copy=False)


def _parts(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[start : start + _ASKED_IDS] for start in range(0, len(ids), _ASKED_IDS)]


def _among(ids: Sequence[str]) -> str:
    """The condition that a row has one of these ids."""
    quoted = ("'" + id_.replace("'", "''") + "'" for id_ in ids)
    return f"id IN ({', '.join(quoted)})" if len(ids) else "false"  # IN () is no condition
