"""Fault 19: workers die while a store is searched; what is found is what one process finds."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import psutil
import pytest

pytest.importorskip("pyarrow", reason="stores of shards need the extra ray, or pyarrow alone")

from fiftyone_isoclip.errors import IsoClipError
from fiftyone_isoclip.shards.duplicates.groups import group_rows
from fiftyone_isoclip.shards.duplicates.local import LocalSearch
from fiftyone_isoclip.shards.duplicates.search import FoundPairs, Search
from tests.planted_stores import made_store, planted, search_of
from tests.ray_runs import quiet_ray

pytestmark = [
    pytest.mark.timeout(1200),  # a Ray takes a minute to begin where others are at work
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of Ray's, about its own settings
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: extra ray"),
]


@pytest.fixture(scope="module")
def on_ray():
    """A Ray of two cores begun in this process."""
    with quiet_ray() as environment, pytest.MonkeyPatch.context() as patched:
        patched.delenv("RAY_ADDRESS", raising=False)
        for name, text in environment.items():
            if "AUTH" not in name:  # Ray read that when it was imported, maybe by an earlier test
                patched.setenv(name, text)
        from fiftyone_isoclip.shards.duplicates.ray_engine import open_ray_search

        with open_ray_search() as engine:
            yield engine


@pytest.fixture
def store(tmp_path):
    return made_store(tmp_path / "store", planted(2000, 5), failed={3}, shard_rows=256)


def groups_of(search: Search, found: FoundPairs):
    rows = np.unique(np.concatenate([found.pairs.left, found.pairs.right]))
    return group_rows(found.pairs, search.name(rows), "largest")[0]


@contextmanager
def killing() -> Iterator[set[str]]:
    """SIGKILL a worker of each kind of task as soon as one runs; yields the kinds."""
    killed: set[str] = set()
    ended = threading.Event()

    def kill() -> None:
        while not ended.wait(0.01):
            for each in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    kind = " ".join(each.cmdline()).partition("(")[0]
                    if kind in KINDS - killed:
                        each.kill()
                        killed.add(kind)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        ended.set()
        thread.join()


KINDS = {"ray::MapBatches", "ray::HashShuffleMap", "ray::HashShuffleReduce"}
"""What runs where a store is searched: tasks by shard, and those that bring cells together."""


@pytest.mark.long
def test_f19_workers_die_in_every_kind_of_task_and_ray_finds_what_one_process_finds(store, on_ray):
    alone = search_of(store)
    expected = alone.find(0.95)
    search = replace(search_of(store), engine=on_ray)
    with killing() as killed:
        found = search.find(0.95)
    assert len(killed) >= 2
    for name in ("left", "right", "similarity"):
        np.testing.assert_array_equal(getattr(found.pairs, name), getattr(expected.pairs, name))
    assert (found.recall, found.visited) == (expected.recall, expected.visited)
    assert groups_of(search, found).equals(groups_of(alone, expected))


def test_f19_ray_finds_what_one_process_finds_and_tells_of_damage_in_its_words(tmp_path, on_ray):
    store = made_store(tmp_path / "store", planted(600, 5), failed={3}, shard_rows=150)
    found, alone = (
        replace(search_of(store), engine=engine).find(0.9) for engine in (on_ray, LocalSearch())
    )
    for name in ("left", "right", "similarity"):
        np.testing.assert_array_equal(getattr(found.pairs, name), getattr(alone.pairs, name))
    assert (found.recall, found.visited) == (alone.recall, alone.visited)
    assert found.cells > 10 and len(found.pairs) > 20
    _damage_is_told(store, on_ray)


def _damage_is_told(store, on_ray) -> None:
    name = store.names()[2]
    store.place.write(f"shards/{name}", b"no shard")
    for engine in (LocalSearch(), on_ray):
        with pytest.raises(IsoClipError, match=f"the shard {name} cannot be used"):
            replace(search_of(store), engine=engine).find(0.9)
