"""Rounds of change, search and duplicates leave memory, threads and files as they were."""

from __future__ import annotations

import gc
import mmap
from pathlib import Path

import numpy as np
import psutil
import pytest

from fiftyone_isoclip.dataset import build_similarity, embed, find_duplicates, find_similar
from fiftyone_isoclip.dataset.places import side_folder
from fiftyone_isoclip.index import CosineIndex, read_store
from fiftyone_isoclip.index.pair_files import KeptPairs, read_pairs, write_pairs
from fiftyone_isoclip.index.store import append_store, open_sound, remove_rows
from tests.pictures import draw, draw_many

MEGABYTE = 2**20
PROCESS = psutil.Process()


class Gauge:
    """What the process holds after each round."""

    def __init__(self):
        self.memory, self.held = [], []

    def read(self):
        gc.collect()
        self.memory.append(PROCESS.memory_info().rss)
        self.held.append((PROCESS.num_fds(), PROCESS.num_threads()))

    def growth(self):
        """Bytes a round, from the medians of the last third and of the third before it."""
        third = len(self.memory) // 3
        before, after = (
            float(np.median(part))
            for part in (self.memory[-2 * third : -third], self.memory[-third:])
        )
        return (after - before) / third

    def check(self, most):
        print(f"{len(self.memory)} rounds, {self.growth():,.0f} bytes a round, {self.held[-1]}")
        assert self.growth() <= most
        third = len(self.held) // 3
        files, threads = np.array(self.held).T
        assert files[-third:].max() <= files[:third].max()
        assert threads[-third:].max() <= threads[:third].max()


def grow_and_search(folder, rounds, seed):
    """Rows come into a store and go, are read, searched and compared: a copy takes 3 megabytes."""
    draw_rows, gauge = np.random.default_rng(seed), Gauge()
    for number in range(rounds):
        rows = draw_rows.normal(size=(1_000, 256)).astype(np.float32)
        rows[500:600] = rows[:100] + 0.001
        append_store(folder, rows, [f"{number} {row}" for row in range(1_000)], fingerprint="f")
        stored = open_sound(folder, "f", 256)
        if len(stored.ids) > 3_000:
            remove_rows(folder, stored, np.arange(1_000))
        stored = read_store(folder)
        vectors = stored.read()
        index = CosineIndex(vectors)
        itself = len(vectors) - 1_000 + np.arange(5)
        np.testing.assert_array_equal(index.nearest(rows[:5], 1).rows[:, 0], itself)
        pairs = index.pairs_above(0.99)
        assert len(pairs.left) >= 100
        kept = KeptPairs(np.array(stored.names), pairs, "digest", "weights", "3/7")
        write_pairs(folder.parent / "kept.pairs", kept, "dataset")
        again = read_pairs(folder.parent / "kept.pairs", "dataset")
        np.testing.assert_array_equal(again.pairs.left, pairs.left)
        gauge.read()
    assert {path.name for path in folder.parent.iterdir()} == {folder.name, "kept.pairs"}
    assert len(list(folder.iterdir())) <= 5
    return gauge


def curate(dataset, fill, pictures, checkpoint, rounds, seed):
    """Pictures come, go and change; they are embedded, indexed, searched, compared."""
    draw_from, gauge = np.random.default_rng(seed), Gauge()
    fill(draw_many(pictures, 10))
    embed(dataset, checkpoint, progress=False)
    index = build_similarity(dataset, checkpoint, brain_key="found")
    for number in range(rounds):
        path = pictures / f"late {number}.png"
        draw(path, 1_000 + number)
        (late,) = fill([str(path)])
        changed = dataset[dataset.values("id")[int(draw_from.integers(10))]]
        draw(Path(changed.filepath), 10_000 + number)
        assert embed(dataset, checkpoint, progress=False).computed == 2
        index.reload()
        found = dataset.sort_by_similarity(late, k=3, brain_key="found").values("id")
        assert found[0] == late
        assert find_similar(dataset, late, k=3).ids[0] == found[1]
        assert find_duplicates(dataset, similarity=0.9, least=0.8) is not None
        dataset.delete_samples([late])
        path.unlink()
        gauge.read()
    files = [path for path in side_folder().rglob("*") if str(dataset._doc.id) in str(path)]
    assert not [path for path in files if path.name.startswith(".")]
    assert len([path for path in files if path.suffix == ".pairs"]) == 1
    return gauge


def test_f18_memory_stays_flat_where_rows_come_and_go(tmp_path, seed):
    grow_and_search(tmp_path / "store", 24, seed).check(MEGABYTE)


def test_f18_memory_stays_flat_where_pictures_come_and_go(
    dataset, fill, pictures, checkpoint, seed
):
    curate(dataset, fill, pictures, checkpoint, 9, seed).check(MEGABYTE)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_f18_memory_stays_flat_for_a_thousand_rounds(tmp_path, seed):
    grow_and_search(tmp_path / "store", 1_000, seed).check(MEGABYTE // 50)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_f18_memory_stays_flat_for_three_hundred_rounds_of_curation(
    dataset, fill, pictures, checkpoint, seed
):
    curate(dataset, fill, pictures, checkpoint, 300, seed).check(MEGABYTE // 10)


def test_f18_the_gauge_sees_a_leak():
    """One copy of four megabytes a round."""
    gauge, leaked = Gauge(), []
    for _ in range(15):
        # Straight from the system: an allocator may have as much at hand that was freed before.
        leaked.append(mmap.mmap(-1, 4 * MEGABYTE))
        leaked[-1].write(b"x" * 4 * MEGABYTE)
        gauge.read()
    with pytest.raises(AssertionError):
        gauge.check(MEGABYTE)
