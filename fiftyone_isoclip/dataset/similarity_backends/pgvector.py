"""PostgreSQL with its extension pgvector, 0.8 or newer.

A graph proposes the neighbours among all of many rows; few rows, those of a view, and very many
neighbours are compared exactly.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from fiftyone.brain.internal.core.pgvector import PgVectorSimilarityConfig

from fiftyone_isoclip.dataset.similarity_backends.backend import TableSimilarity
from fiftyone_isoclip.dataset.similarity_backends.config import TableConfig
from fiftyone_isoclip.dataset.similarity_backends.pgvector_connections import Database
from fiftyone_isoclip.dataset.similarity_backends.tables import Float32s, Hits, Rows, Tables
from fiftyone_isoclip.errors import DatasetError

_GRAPH_ROWS = 10_000
"""From so many rows on a graph is made; 20,000 rows of 312 dims are compared in 14 ms."""

_LEAST_LOOK, _MOST_LOOK = 100, 1_000
"""How many rows of the graph a search looks at, pgvector's `hnsw.ef_search`."""

_PUT_ROWS = 1_000
_KINDS = {"float32": ("vector", 2_000), "float16": ("halfvec", 4_000)}
"""The type of the column, and of how many dims pgvector makes a graph."""

_KEYWORDS = "host|hostaddr|port|dbname|sslmode|connect_timeout|application_name"
_PUBLIC = re.compile(rf"(?:(?:{_KEYWORDS})\s*=\s*(?:[\w.,:/+-]+|'[\w.,:/+ -]*')(?:\s+|$))*")
"""Connection strings without a secret: their keywords are these, their values nothing special."""


class PgvectorConfig(TableConfig, PgVectorSimilarityConfig):
    """What a run remembers; the settings are those of FiftyOne's own backend.

    Of these, `vector_type` goes by `storage`, and the only `index_type` is "hnsw".
    """

    address_setting = "connection_string"

    @classmethod
    def holds_secret(cls, address: str) -> bool:
        """Whether an address, a URI or keywords, may hold a user, a password or a key."""
        if address.startswith(("postgresql://", "postgres://")):
            return super().holds_secret(address)
        return not _PUBLIC.fullmatch(address.strip())

    @property
    def max_k(self) -> None:
        """No limit: very many neighbours are found by comparing every row."""
        return None


class PgvectorTable:
    """A table of PostgreSQL; see `VectorTable`."""

    def __init__(self, database: Database, name: str, config: PgvectorConfig) -> None:
        self.name = name
        self._database = database
        self._config = config
        self._kind, self._most_dims = _KINDS[config.storage]
        self._is_there = False

    def count(self) -> int:
        """How many rows there are."""
        with self._cursor() as cursor:
            if cursor is None:
                return 0
            cursor.execute(self._sql("SELECT count(*) FROM {table}"))
            return int(cursor.fetchone()[0])

    def put(self, ids: Sequence[str], sample_ids: Sequence[str], vectors: Float32s) -> None:
        """Add unit rows (n, d), or set them in the place of those with the same id.

        Raises:
            DatasetError: the vectors have more dims than pgvector searches.
        """
        from psycopg2.extras import execute_values

        rows = (
            (id_, sample_id, str(vector.tolist()))
            for id_, sample_id, vector in zip(ids, sample_ids, vectors, strict=True)
        )
        put = self._sql(
            "INSERT INTO {table} VALUES %s ON CONFLICT (id) DO UPDATE "
            "SET sample_id = EXCLUDED.sample_id, vector = EXCLUDED.vector"
        )
        with self._database.cursor() as cursor:
            self._create(cursor, vectors.shape[1])
            execute_values(cursor, put, rows, page_size=_PUT_ROWS)

    def settle(self) -> None:
        """Make the graph, if there are many rows and it is not there; rows put later join it."""
        if self.count() < _GRAPH_ROWS:
            return
        with self._database.cursor() as cursor:
            if self._config.maintenance_work_mem is not None:
                cursor.execute(
                    "SET LOCAL maintenance_work_mem = %s", (self._config.maintenance_work_mem,)
                )
            cursor.execute(
                self._sql(
                    "CREATE INDEX IF NOT EXISTS {graph} ON {table} USING hnsw (vector {kind}"
                    "_cosine_ops) WITH (m = %s, ef_construction = %s)"
                ),
                (self._config.hnsw_m, self._config.hnsw_ef_construction),
            )

    def remove(self, ids: Sequence[str]) -> None:
        """Delete the rows of these ids; those that are not there are no matter."""
        with self._cursor() as cursor:
            if cursor is not None:
                cursor.execute(self._sql("DELETE FROM {table} WHERE id = ANY(%s)"), (list(ids),))

    def read(self, ids: Sequence[str]) -> Rows:
        """The rows of these ids that are there, in the order of `ids`; (0, d) if none is."""
        with self._cursor() as cursor:
            if cursor is None:
                return Rows([], [], np.empty((0, 0), np.float32))
            cursor.execute(
                "SELECT atttypmod FROM pg_attribute WHERE attrelid = to_regclass(%s) "
                "AND attname = 'vector'",
                (self.name,),
            )
            dim = cursor.fetchone()[0]
            # As PostgreSQL sends vectors: the dim in four bytes, and floats in network order.
            asked = "SELECT id, sample_id, vector_send(vector::vector) FROM {table} "
            cursor.execute(self._sql(asked + "WHERE id = ANY(%s)"), (list(ids),))
            found = {row[0]: row for row in cursor.fetchall()}
        there = [found[id_] for id_ in ids if id_ in found]
        vectors = np.empty((len(there), dim), np.float32)
        for row, (_, _, sent) in enumerate(there):
            vectors[row] = np.frombuffer(sent, ">f4", offset=4)
        return Rows([row[0] for row in there], [row[1] for row in there], vectors)

    def list_ids(self) -> tuple[list[str], list[str]]:
        """The ids and the samples of all rows, in any order."""
        with self._cursor() as cursor:
            if cursor is None:
                return [], []
            cursor.execute(self._sql("SELECT id, sample_id FROM {table}"))
            rows = cursor.fetchall()
        return [row[0] for row in rows], [row[1] for row in rows]

    def nearest(self, vectors: Float32s, k: int, among: Sequence[str] | None) -> list[Hits]:
        """For each unit query (m, d) the k most similar rows, or as many as there are."""
        with self._cursor() as cursor:
            if cursor is None:
                return [Hits([], [], np.empty(0, np.float32)) for _ in vectors]
            return [self._nearest(cursor, str(vector.tolist()), k, among) for vector in vectors]

    def drop(self) -> None:
        """Delete the table with its graph; no matter if there is none."""
        self._is_there = False
        with self._database.cursor() as cursor:
            cursor.execute(self._sql("DROP TABLE IF EXISTS {table}"))

    def _nearest(self, cursor: Any, vector: str, k: int, among: Sequence[str] | None) -> Hits:
        select = "SELECT id, sample_id, 1 - (vector <=> %(query)s::{kind}) FROM {table}"
        order = "ORDER BY vector <=> %(query)s::{kind} LIMIT %(k)s"
        asked = {"query": vector, "k": k, "among": None if among is None else list(among)}
        rows: list[Any] = []
        if among is None and k <= _MOST_LOOK:
            cursor.execute(
                "SET LOCAL enable_indexscan = on; SET LOCAL hnsw.ef_search = %s; "
                "SET LOCAL hnsw.iterative_scan = strict_order",
                (min(max(self._config.hnsw_ef_search or _LEAST_LOOK, k), _MOST_LOOK),),
            )
            cursor.execute(self._sql(f"{select} {order}"), asked)
            rows = cursor.fetchall()
        if len(rows) < k:
            cursor.execute("SET LOCAL enable_indexscan = off")  # the graph is such a scan
            where = "" if among is None else "WHERE id = ANY(%(among)s)"
            cursor.execute(self._sql(f"{select} {where} {order}"), asked)
            rows = cursor.fetchall()
        ids, samples, cosines = zip(*rows, strict=True) if rows else ((), (), ())
        return Hits(list(ids), list(samples), np.array(cosines, np.float32))

    def _create(self, cursor: Any, dim: int) -> None:
        if dim > self._most_dims:
            raise DatasetError(
                f"vectors of {dim} dims were given to pgvector, which searches {self._most_dims} "
                f"dims of {self._config.storage} at most; take another backend"
            )
        cursor.execute(
            self._sql(
                "CREATE TABLE IF NOT EXISTS {table} (id text PRIMARY KEY, sample_id text NOT NULL, "
                "vector {kind}(%s) NOT NULL)"
            ),
            (dim,),
        )

    @contextmanager
    def _cursor(self) -> Iterator[Any]:
        """A cursor in a transaction of its own; None if there is no table."""
        with self._database.cursor() as cursor:
            if not self._is_there:
                cursor.execute("SELECT to_regclass(%s) IS NOT NULL", (self.name,))
                self._is_there = cursor.fetchone()[0]
            yield cursor if self._is_there else None

    def _sql(self, statement: str) -> Any:
        from psycopg2.sql import SQL, Identifier

        names = {"table": Identifier(self.name), "graph": Identifier(f"{self.name}_graph")}
        return SQL(statement).format(kind=SQL(self._kind), **names)


def open_tables(config: PgvectorConfig) -> Tables:
    """The tables of a run.

    Raises:
        DatasetError: another graph was asked for.
        ImportError: psycopg2 is not installed.
    """
    import psycopg2

    if config.index_type != "hnsw":
        raise DatasetError(
            f"index_type={config.index_type!r} was asked for; indexes here have the type 'hnsw'"
        )
    files = {"sslcert": config.ssl_cert, "sslkey": config.ssl_key}
    files["sslrootcert"] = config.ssl_root_cert
    given = {name: path for name, path in files.items() if path is not None}
    database = Database(config.need_address(), given)
    names = [name for name in (config.images_table, config.texts_table) if name is not None]
    tables = [PgvectorTable(database, name, config) for name in names]
    tables[0].count()  # before anything is embedded for a database that is away
    return Tables(tables[0], tables[1] if tables[1:] else None, (psycopg2.Error,))


class Pgvector(TableSimilarity):
    """Makes indexes in PostgreSQL."""

    open_tables = staticmethod(open_tables)
