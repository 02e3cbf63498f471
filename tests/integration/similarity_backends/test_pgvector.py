"""What is PostgreSQL's own: its graph, its versions and its connections."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fiftyone_isoclip.dataset.similarity_backends.pgvector import (
    PgvectorConfig,
    PgvectorTable,
    open_tables,
)
from fiftyone_isoclip.errors import DatasetError
from tests.postgres import Postgres
from tests.strategies import unit_rows

psycopg2 = pytest.importorskip("psycopg2")

N, DIM = 10_000, 16
IDS = [f"{row:024x}" for row in range(N)]


def open_images(server: Postgres, name: str, **settings: Any) -> Any:
    return open_tables(PgvectorConfig(address=server.uri, images_table=name, **settings)).images


@pytest.fixture(scope="module")
def vectors() -> Any:
    return unit_rows(np.random.default_rng(0), N, DIM).astype(np.float32)


@pytest.fixture(scope="module")
def large(postgres: Postgres, vectors: Any) -> Iterator[PgvectorTable]:
    table = open_images(postgres, "large")
    table.put(IDS, IDS, vectors)
    table.settle()
    yield table
    table.drop()


def plan(table: PgvectorTable) -> str:
    with table._cursor() as cursor:
        cursor.execute(
            table._sql("EXPLAIN SELECT id FROM {table} ORDER BY vector <=> %s::vector LIMIT 10"),
            (str([1.0] * DIM),),
        )
        return str(cursor.fetchall())


def recall(found: Any, right: Any) -> float:
    return len(set(found) & set(right)) / len(right)


@pytest.mark.parametrize("k", [10, 41, 1_000])
def test_the_graph_finds_as_many_as_are_asked_for_and_nearly_the_right_ones(large, vectors, k):
    assert "large_graph" in plan(large)
    right = np.argsort(-(vectors[:20].astype(np.float64) @ vectors.T), axis=1)[:, :k]
    found = large.nearest(vectors[:20], k, None)
    assert all(len(set(hits.ids)) == k for hits in found)
    assert all((np.diff(hits.similarities) <= 0).all() for hits in found)
    shares = [recall(h.ids, [IDS[r] for r in rows]) for h, rows in zip(found, right, strict=True)]
    assert np.mean(shares) > 0.98


def test_a_graph_is_looked_at_as_far_as_pgvector_allows(postgres, large, vectors):
    [right] = large.nearest(vectors[:1], 1_000, None)
    [hits] = open_images(postgres, "large", hnsw_ef_search=2_000).nearest(vectors[:1], 2, None)
    assert hits.ids == right.ids[:2]


@pytest.mark.parametrize(("k", "among"), [(1_001, None), (N, None), (10, IDS[1::2])])
def test_very_many_and_those_of_a_view_are_exact(large, vectors, k, among):
    rows = np.arange(N) if among is None else np.arange(1, N, 2)
    cosines = vectors[rows].astype(np.float64) @ vectors[3]
    [hits] = large.nearest(vectors[3:4], k, among)
    assert len(set(hits.ids)) == k
    assert np.allclose(hits.similarities, np.sort(cosines)[::-1][:k], atol=1e-6)
    cosine_of = dict(zip((IDS[row] for row in rows), cosines, strict=True))
    assert np.allclose([cosine_of[id_] for id_ in hits.ids], hits.similarities, atol=1e-6)


def test_rows_that_are_gone_shorten_no_answer(large, vectors):
    near = np.argsort(-(vectors @ vectors[0]))[:2_050]
    gone, left = near[:2_000], near[2_000:]
    large.remove([IDS[row] for row in gone])
    [hits] = large.nearest(vectors[:1], 50, None)
    assert len(hits.ids) == 50
    assert recall(hits.ids, [IDS[row] for row in left]) > 0.9
    back = [IDS[row] for row in gone]
    large.put(back, back, vectors[gone])
    assert large.count() == N


def test_few_rows_have_no_graph_and_dropping_leaves_nothing(postgres, vectors):
    table = open_images(postgres, "small")
    table.put(IDS[:50], IDS[:50], vectors[:50])
    table.settle()
    assert "small_graph" not in plan(table)
    table.drop()
    with table._database.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_class WHERE relname LIKE 'small%'")
        assert cursor.fetchone() == (0,)


def test_a_server_that_was_started_again_is_asked_again(postgres, vectors):
    table = open_images(postgres, "lasting")
    table.put(IDS[:5], IDS[:5], vectors[:5])
    postgres.stop()
    with pytest.raises(psycopg2.Error):
        table.count()
    postgres.start()
    assert table.count() == 5
    table.drop()


def test_an_old_pgvector_is_refused_with_what_to_do(postgres):
    connection = psycopg2.connect(postgres.uri)
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.execute("CREATE DATABASE old")
    old = postgres.uri.replace("/postgres", "/old")
    with psycopg2.connect(old) as changed, changed.cursor() as inside:
        inside.execute("CREATE EXTENSION vector")
        inside.execute("UPDATE pg_extension SET extversion = '0.7.4' WHERE extname = 'vector'")
    changed.close()
    with pytest.raises(DatasetError, match=r"pgvector 0\.7\.4 .* ALTER EXTENSION vector UPDATE"):
        open_tables(PgvectorConfig(address=old, images_table="x"))
    connection.close()


@pytest.mark.parametrize(("storage", "dim"), [("float32", 2_001), ("float16", 4_001)])
def test_more_dims_than_a_graph_takes_are_refused_before_anything_is_made(postgres, storage, dim):
    table = open_images(postgres, "wide", storage=storage)
    with pytest.raises(DatasetError, match=f"{dim} dims .* {dim - 1} dims of {storage} at most"):
        table.put(IDS[:1], IDS[:1], np.ones((1, dim), np.float32))
    assert table.count() == 0


def test_another_kind_of_graph_is_refused():
    config = PgvectorConfig(address="host=x", images_table="x", index_type="ivfflat")
    with pytest.raises(DatasetError, match="ivfflat"):
        open_tables(config)


def test_files_of_certificates_reach_the_connection(postgres, tmp_path: Path):
    config = PgvectorConfig(
        address=f"{postgres.uri}?sslmode=verify-full", images_table="x", ssl_root_cert=str(tmp_path)
    )
    assert open_tables(config).images._database._settings == {"sslrootcert": str(tmp_path)}
