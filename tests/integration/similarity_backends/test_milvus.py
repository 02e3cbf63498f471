"""What is Milvus's own: a file of one process at a time, and graphs that lose rows of a view."""

from __future__ import annotations

import fcntl
import time
from pathlib import Path

import numpy as np
import pytest

from fiftyone_isoclip.dataset.similarity_backends import milvus, milvus_connections
from fiftyone_isoclip.dataset.similarity_backends.milvus import MilvusConfig, open_tables
from fiftyone_isoclip.dataset.similarity_backends.tables import Tables
from tests.strategies import unit_rows

MilvusLiteError = pytest.importorskip("milvus_lite").MilvusLiteError

N, DIM = 3_000, 24
IDS = [f"{row:024x}" for row in range(N)]
VECTORS = unit_rows(np.random.default_rng(0), N, DIM).astype(np.float32)


def open_at(path: Path | str) -> Tables:
    return open_tables(MilvusConfig(address=str(path), images_table="images"))


def test_a_graph_that_loses_rows_of_a_view_is_not_believed(tmp_path, monkeypatch):
    monkeypatch.setattr(milvus, "_EXACT", milvus._GRAPH)
    table = open_at(tmp_path / "graph.db").images
    table.put(IDS, IDS, VECTORS)
    among = IDS[-10:]
    with table._collection() as client:
        client.flush("images")
    table._connection.close()  # once it is opened again there is a graph
    with table._collection() as client:
        [answer] = client.search(
            "images", data=[VECTORS[0]], filter=f"id in {among}".replace("'", '"'), limit=10
        )
    assert len(answer) < 10, "the graph loses none by now: the second search can go"
    [hits] = table.nearest(VECTORS[:1], 10, among)
    cosines = VECTORS[-10:].astype(np.float64) @ VECTORS[0]
    assert hits.ids == [among[row] for row in np.argsort(-cosines)]
    assert np.allclose(hits.similarities, np.sort(cosines)[::-1], atol=1e-6)
    table.drop()


def test_a_file_is_let_go_of_after_a_moment_and_opened_again(tmp_path):
    path = tmp_path / "shared.db"
    table = open_at(path).images
    table.put(IDS[:5], IDS[:5], VECTORS[:5])
    deadline = time.monotonic() + 30
    while not is_free(path):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert table.count() == 5
    assert not is_free(path)
    table.drop()


def is_free(path: Path) -> bool:
    with (path / "LOCK").open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_a_file_that_another_process_keeps_is_told(tmp_path, monkeypatch, capfd):
    path = tmp_path / "kept.db"
    path.mkdir()
    monkeypatch.setattr(milvus_connections, "CONNECT_SECONDS", 0.3)
    with (path / "LOCK").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(MilvusLiteError, match="another process holds the lock"):
            open_at(path)
    assert open_at(path).images.count() == 0
    assert capfd.readouterr().err == ""


def test_errors_are_raised_and_not_printed(tmp_path, capfd):
    tables = open_at(tmp_path / "small.db")
    tables.images.put(IDS[:1], IDS[:1], VECTORS[:1])
    with pytest.raises(tables.errors, match="expected dim 24"):
        tables.images.put(IDS[:1], IDS[:1], VECTORS[:1, :5])
    tables.images.drop()
    assert capfd.readouterr() == ("", "")
