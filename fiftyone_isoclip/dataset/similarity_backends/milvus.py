"""Milvus: a server, which searches graphs, or a file, whose rows are all compared."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from fiftyone.brain.internal.core.milvus import MilvusSimilarityConfig

from fiftyone_isoclip.dataset.similarity_backends.backend import TableSimilarity
from fiftyone_isoclip.dataset.similarity_backends.config import TableConfig
from fiftyone_isoclip.dataset.similarity_backends.milvus_connections import Connection, connect
from fiftyone_isoclip.dataset.similarity_backends.tables import Float32s, Hits, Rows, Tables
from fiftyone_isoclip.errors import DatasetError

if TYPE_CHECKING:
    from fiftyone_isoclip.index import Storage

T = TypeVar("T")

MOST_HITS = 16_384
"""How many rows a Milvus server finds at most; in a file there is no limit, and none is needed."""

_BATCH = 1_000
"""Rows in one message: a server takes 64 MB."""

_GRAPH = {"index_type": "HNSW", "params": {"M": 16, "efConstruction": 200}}
_EXACT = {"index_type": "FLAT", "params": {}}
_LEAST_EF = 128
_ID_LENGTH = 64


class MilvusConfig(TableConfig, MilvusSimilarityConfig):
    """What a run remembers; the settings are those of FiftyOne's own backend.

    Searches are always of the consistency "Strong".

    Raises:
        DatasetError: halves were asked for.
    """

    credentials = (
        *("user", "password", "token", "secure", "db_name", "server_name"),
        *("client_key_path", "client_pem_path", "ca_pem_path", "server_pem_path"),
    )

    def __init__(self, *, storage: Storage = "float32", **settings: Any) -> None:
        if storage == "float16":
            raise DatasetError(
                f"storage={storage!r} was asked for, and indexes in Milvus hold float32: a "
                "Milvus in a file has nothing else; leave it out, or take another backend"
            )
        super().__init__(storage=storage, **settings)

    @property
    def max_k(self) -> int:
        """What a Milvus server finds at most."""
        return MOST_HITS


class MilvusTable:
    """A collection of Milvus: see `VectorTable`.

    A file holds its vectors without a graph: with one, its filtered searches lose rows (of ten
    asked for by their ids it found none).
    """

    def __init__(self, connection: Connection, name: str) -> None:
        self.name = name
        self._connection = connection
        self._loaded_by: Any = None

    def count(self) -> int:
        """How many rows there are."""
        with self._collection() as client:
            if client is None:
                return 0
            asked = client.query(self.name, filter="", output_fields=["count(*)"])
            return int(asked[0]["count(*)"])

    def put(self, ids: Sequence[str], sample_ids: Sequence[str], vectors: Float32s) -> None:
        """Add unit rows (n, d), or set them in the place of those with the same id."""
        if not len(ids):
            return
        with self._connection.client() as client:
            if not client.has_collection(self.name):
                self._create(client, vectors.shape[1])
            rows = [
                {"id": id_, "sample_id": sample_id, "vector": vector}
                for id_, sample_id, vector in zip(ids, sample_ids, vectors, strict=True)
            ]
            for batch in _batches(rows):
                client.upsert(self.name, batch)

    def settle(self) -> None:
        """Nothing: Milvus makes its graphs by itself."""

    def remove(self, ids: Sequence[str]) -> None:
        """Delete the rows of these ids."""
        with self._collection() as client:
            for batch in _batches(list(ids) if client is not None else []):
                client.delete(self.name, ids=batch)

    def read(self, ids: Sequence[str]) -> Rows:
        """The rows of these ids that are there, in the order of `ids`."""
        with self._collection() as client:
            if client is None:
                return Rows([], [], np.empty((0, 0), np.float32))
            found = {
                row["id"]: row
                for batch in _batches(list(ids))
                for row in client.get(self.name, batch, ["id", "sample_id", "vector"])
            }
            dim = _dim(client.describe_collection(self.name)) if not found else -1
        there = [found[id_] for id_ in ids if id_ in found]
        vectors = np.array([row["vector"] for row in there], np.float32)
        return Rows(
            [row["id"] for row in there],
            [row["sample_id"] for row in there],
            vectors.reshape(len(there), dim),
        )

    def list_ids(self) -> tuple[list[str], list[str]]:
        """The ids and the samples of all rows, in any order."""
        ids: list[str] = []
        sample_ids: list[str] = []
        with self._collection() as client:
            if client is None:
                return ids, sample_ids
            pages = client.query_iterator(
                self.name, batch_size=_BATCH, filter="", output_fields=["id", "sample_id"]
            )
            while page := pages.next():
                ids += [row["id"] for row in page]
                sample_ids += [row["sample_id"] for row in page]
            pages.close()
        return ids, sample_ids

    def nearest(self, vectors: Float32s, k: int, among: Sequence[str] | None) -> list[Hits]:
        """For each unit query (m, d) the k most similar rows, or as many as there are."""
        with self._collection() as client:
            if client is None:
                return [Hits([], [], np.empty(0, np.float32)) for _ in vectors]
            answers = client.search(
                self.name,
                data=list(vectors),
                filter="" if among is None else f"id in {json.dumps(list(among))}",
                limit=k,
                output_fields=["sample_id"],
                search_params={"params": {"ef": max(_LEAST_EF, k)}},
            )
        if among is not None and min(map(len, answers)) < min(k, len(among)):
            # A graph that is searched through a filter may end before it has met all that pass.
            rows = self.read(among)
            return [_compared(rows, vector, k) for vector in vectors]
        return [_hits(answer) for answer in answers]

    def drop(self) -> None:
        """Delete the collection."""
        with self._connection.client() as client:
            client.drop_collection(self.name)
        self._loaded_by = None

    @contextmanager
    def _collection(self) -> Iterator[Any]:
        """Lend a client that has the collection in memory; None if there is no collection."""
        with self._connection.client() as client:
            if self._loaded_by is not client:
                if not client.has_collection(self.name):
                    yield None
                    return
                client.load_collection(self.name)
                self._loaded_by = client
            yield client

    def _create(self, client: Any, dim: int) -> None:
        from pymilvus import DataType

        schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=_ID_LENGTH)
        schema.add_field("sample_id", DataType.VARCHAR, max_length=_ID_LENGTH)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
        index = client.prepare_index_params()
        chosen = _EXACT if self._connection.is_file else _GRAPH
        index.add_index("vector", metric_type="COSINE", **chosen)
        # Strong: what was put is found by the next search, whoever asks.
        client.create_collection(
            self.name, schema=schema, index_params=index, consistency_level="Strong"
        )


def open_tables(config: MilvusConfig) -> Tables:
    """The tables of a run.

    Raises:
        ImportError: pymilvus is not installed, or milvus-lite for a file.
    """
    given = {name: getattr(config, name) for name in config.credentials}
    settings = {name: value for name, value in given.items() if value is not None}
    connection = connect(config.need_address(), settings)
    names = [name for name in (config.images_table, config.texts_table) if name is not None]
    tables = [MilvusTable(connection, name) for name in names]
    tables[0].count()  # before anything is embedded for a database that is away
    return Tables(tables[0], tables[1] if tables[1:] else None, connection.errors)


class Milvus(TableSimilarity):
    """Makes indexes in Milvus."""

    open_tables = staticmethod(open_tables)


def _batches(rows: list[T]) -> Iterator[list[T]]:
    return (rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH))


def _dim(description: dict[str, Any]) -> int:
    fields = {field["name"]: field for field in description["fields"]}
    return int(fields["vector"]["params"]["dim"])


def _hits(answer: Any) -> Hits:
    return Hits(
        [hit["id"] for hit in answer],
        [hit["entity"]["sample_id"] for hit in answer],
        np.array([hit["distance"] for hit in answer], np.float32),
    )


def _compared(rows: Rows, vector: Float32s, k: int) -> Hits:
    """The k of these rows that are most similar to a unit vector, exactly."""
    cosines = rows.vectors @ vector
    order = np.argsort(-cosines, kind="stable")[:k]
    ids, samples = ([given[row] for row in order] for given in (rows.ids, rows.sample_ids))
    return Hits(ids, samples, cosines[order])
