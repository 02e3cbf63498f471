"""What every database does with vectors, against brute force in float64."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from fiftyone_isoclip.dataset.similarity_backends import config_class
from fiftyone_isoclip.dataset.similarity_backends.tables import Hits, VectorTable
from fiftyone_isoclip.errors import DatasetError
from tests.strategies import unit_rows

N, DIM, NAME = 1_200, 24, "isoclip_64f000000000000000000000_"
IDS = [f"{row:024x}" for row in range(N)]
OWNERS = [f"{row // 2:024x}" for row in range(N)]
VECTORS = unit_rows(np.random.default_rng(0), N, DIM).astype(np.float32)


def open_images(backend: str, address: str, name: str, **settings: Any) -> VectorTable:
    module = importlib.import_module(f"fiftyone_isoclip.dataset.similarity_backends.{backend}")
    config = config_class(backend)(address=address, images_table=NAME + name, **settings)
    table: VectorTable = module.open_tables(config).images
    return table


@pytest.fixture
def table(backend: str, address: str) -> Iterator[VectorTable]:
    """A table of its own, with nothing in it."""
    made = open_images(backend, address, "changed")
    yield made
    made.drop()


@pytest.fixture(scope="module")
def filled(backend: str, address: str) -> Iterator[VectorTable]:
    """The table of all rows, which is only searched."""
    made = open_images(backend, address, "searched")
    made.put(IDS, OWNERS, VECTORS)
    yield made
    made.drop()


def check(found: Hits, query: Any, k: int, rows: Sequence[int] = range(N)) -> None:
    """Compare what was found among some rows with all cosines in float64."""
    rows = np.array(rows)
    cosines = VECTORS[rows].astype(np.float64) @ query.astype(np.float64)
    order = np.argsort(-cosines)[:k]
    assert found.ids == [IDS[row] for row in rows[order]]
    assert found.sample_ids == [OWNERS[row] for row in rows[order]]
    assert np.allclose(found.similarities, cosines[order], atol=1e-6)


@pytest.mark.parametrize("k", [1, 10, N, N + 1])
def test_the_nearest_are_those_of_brute_force(filled, k):
    for query, found in zip(VECTORS[:3], filled.nearest(VECTORS[:3], k, None), strict=True):
        check(found, query, k)


@pytest.mark.parametrize("count", [1, 10, 900])
def test_a_search_among_some_rows_finds_all_of_them_and_no_other(filled, count):
    rows = np.random.default_rng(count).choice(N, count, replace=False)
    among = ["not there", *(IDS[row] for row in rows)]
    for k in (5, N):
        [found] = filled.nearest(VECTORS[7:8], k, among)
        check(found, VECTORS[7], k, rows)


def test_a_search_among_no_rows_finds_none(filled):
    for among in ([], (), ["not there"]):
        found = filled.nearest(VECTORS[:2], 3, among)
        parts = [(hits.ids, hits.sample_ids, hits.similarities.tolist()) for hits in found]
        assert parts == [([], [], [])] * 2


def test_rows_are_read_in_the_order_asked_set_in_place_and_removed(table):
    table.put(IDS, OWNERS, VECTORS)
    found = table.read([IDS[9], "not there", IDS[2]])
    assert (found.ids, found.sample_ids) == ([IDS[9], IDS[2]], [OWNERS[9], OWNERS[2]])
    assert np.allclose(found.vectors, VECTORS[[9, 2]], atol=1e-7)

    table.remove([*IDS[:100], "not there"])
    table.put(IDS[95:105], OWNERS[:10], VECTORS[:10])
    assert table.count() == N - 95
    assert table.read(IDS[:95]).ids == []
    assert table.read(IDS[:95]).vectors.shape == (0, DIM)
    changed = table.read(IDS[95:105])
    assert changed.sample_ids == OWNERS[:10]
    assert np.allclose(changed.vectors, VECTORS[:10], atol=1e-7)
    assert table.nearest(VECTORS[3:4], 1, None)[0].ids == [IDS[98]]
    listed = dict(zip(*table.list_ids(), strict=True))
    expected = dict(zip(IDS[95:], [*OWNERS[:10], *OWNERS[105:]], strict=True))
    assert listed == expected


def test_nothing_is_there_before_the_first_row_and_after_the_table_was_dropped(table):
    for _ in range(2):
        assert table.count() == 0
        assert table.list_ids() == ([], [])
        assert table.read(IDS[:2]).vectors.shape == (0, 0)
        assert [found.ids for found in table.nearest(VECTORS[:2], 3, None)] == [[], []]
        table.remove(IDS[:2])
        table.put(IDS[:5], OWNERS[:5], VECTORS[:5])
        assert table.count() == 5
        table.drop()


def test_threads_ask_and_change_at_the_same_time(table):
    table.put(IDS, OWNERS, VECTORS)

    def ask(row: int) -> None:
        table.put([f"new {row}"], [OWNERS[0]], -VECTORS[row : row + 1])
        check(table.nearest(VECTORS[row : row + 1], 5, IDS)[0], VECTORS[row], 5)
        table.remove([f"new {row}"])

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(ask, range(24)))
    assert table.count() == N


def test_halves_are_close_or_refused(backend, address):
    if backend == "milvus":
        with pytest.raises(DatasetError, match="hold float32"):
            open_images(backend, address, "halves", storage="float16")
        return
    table = open_images(backend, address, "halves", storage="float16")
    table.put(IDS, OWNERS, VECTORS)
    assert np.abs(table.read(IDS).vectors - VECTORS).max() < 5e-4
    [found] = table.nearest(VECTORS[:1], 10, None)
    right = np.sort(VECTORS.astype(np.float64) @ VECTORS[0])[::-1][:10]
    assert np.allclose(found.similarities, right, atol=5e-4)
    assert found.ids[0] == IDS[0]
    table.drop()
