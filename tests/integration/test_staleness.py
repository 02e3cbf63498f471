"""A run is stale exactly when something happened to what it was about."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import fiftyone as fo
import pytest

from fiftyone_isoclip.dataset import embed, find_clusters, find_duplicates, load_run
from fiftyone_isoclip.dataset.sources import read_sources, sum_sources
from fiftyone_isoclip.dataset.staleness import Staleness, find_staleness
from tests.pictures import draw, draw_many

Fill = Callable[[Sequence[str]], list[str]]
FRESH = Staleness(0, 0, 0)


@pytest.fixture
def ids(dataset: fo.Dataset, fill: Fill, pictures: Path, checkpoint: str) -> list[str]:
    """Eight embedded pictures with a run of each kind on all of them."""
    made = fill(draw_many(pictures, 8))
    embed(dataset, checkpoint, progress=False)
    find_duplicates(dataset)
    find_clusters(dataset, count=2)
    return made


def staleness(dataset: fo.Dataset, key: str = "duplicates", **options: bool) -> Staleness:
    return find_staleness(dataset, load_run(dataset, key), **options)


def repaint(path: str, seed: int) -> None:
    """Another picture under the same name, in a file that looks older than the one before."""
    before = Path(path).stat()
    draw(Path(path), seed)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns - 1))


def test_what_does_not_touch_a_run_leaves_it_fresh(
    dataset: fo.Dataset, ids: list[str], fill: Fill, checkpoint: str
) -> None:
    assert staleness(dataset) == staleness(dataset, "clusters") == FRESH
    dataset.select(ids[:3]).tag_samples("seen")
    dataset.set_values("note", ["x"] * 8)
    embed(dataset, checkpoint, progress=False)
    assert staleness(dataset) == staleness(dataset, "clusters") == FRESH
    assert not staleness(dataset) and str(staleness(dataset)) == "nothing changed"


def test_samples_that_came_and_went_are_counted_apart(
    dataset: fo.Dataset, ids: list[str], fill: Fill, pictures: Path
) -> None:
    fill(draw_many(pictures / "more", 3))
    assert staleness(dataset) == Staleness(added=3)
    dataset.delete_samples(ids[:2])
    assert staleness(dataset) == Staleness(added=3, removed=2)
    assert str(staleness(dataset)) == "3 images added, 2 images removed"
    find_duplicates(dataset)
    assert staleness(dataset) == FRESH
    assert staleness(dataset, "clusters") == Staleness(added=3, removed=2)


def test_vectors_made_anew_are_found_although_their_files_look_older(
    dataset: fo.Dataset, ids: list[str], checkpoint: str
) -> None:
    for row in (1, 4):
        repaint(dataset[ids[row]].filepath, 50 + row)
    assert staleness(dataset) == FRESH
    assert staleness(dataset, thorough=True) == Staleness(files=2)
    embed(dataset, checkpoint, progress=False)
    assert staleness(dataset, thorough=True) == Staleness(changed=2, files=0)
    dataset.delete_samples(ids[:1])
    assert staleness(dataset).removed == 1
    assert 1 <= staleness(dataset).changed <= 2


def test_vectors_that_came_after_the_run_are_found(
    dataset: fo.Dataset, ids: list[str], fill: Fill, pictures: Path, checkpoint: str
) -> None:
    fill(draw_many(pictures / "more", 2))
    find_duplicates(dataset)
    assert staleness(dataset) == FRESH
    embed(dataset, checkpoint, progress=False)
    assert staleness(dataset) == Staleness(changed=2)


def test_another_checkpoint_makes_all_of_it_stale(
    dataset: fo.Dataset, ids: list[str], other_checkpoint: str
) -> None:
    embed(dataset, other_checkpoint, overwrite=True, progress=False)
    assert staleness(dataset) == Staleness(changed=8)


def test_a_run_is_about_its_view(dataset: fo.Dataset, ids: list[str]) -> None:
    dataset.select(ids[:4]).tag_samples("train")
    find_duplicates(dataset.match_tags("train"), key="some")
    find_duplicates(dataset.select(ids[:4]), key="chosen")
    dataset.delete_samples(ids[7:])
    assert staleness(dataset, "some") == staleness(dataset, "chosen") == FRESH
    dataset.select(ids[4:6]).tag_samples("train")
    assert staleness(dataset, "some") == Staleness(added=2)
    dataset.select(ids[:3]).untag_samples("train")
    assert staleness(dataset, "some").removed == 1
    assert staleness(dataset, "chosen") == FRESH


def test_vectors_in_files_are_watched_alike(
    dataset: fo.Dataset, ids: list[str], checkpoint: str
) -> None:
    embed(dataset, checkpoint, on_samples=False, progress=False)
    assert staleness(dataset) == FRESH
    repaint(dataset[ids[2]].filepath, 70)
    embed(dataset, checkpoint, progress=False)
    assert staleness(dataset) == Staleness(changed=1)


def test_a_clone_is_as_fresh_as_what_it_was_made_from(dataset: fo.Dataset, ids: list[str]) -> None:
    clone = dataset.clone()
    try:
        assert staleness(clone) == FRESH
        clone.delete_samples(ids[:1])
        assert staleness(clone) == Staleness(removed=1)
        assert staleness(dataset) == FRESH
    finally:
        clone.delete()


def test_the_sums_differ_in_as_many_parts_as_sources_do(
    dataset: fo.Dataset, ids: list[str]
) -> None:
    before = sum_sources(dataset, "clip_embedding")
    held = [id_[-2:] for id_ in read_sources(dataset, "clip_embedding").ids]
    assert {f"{part:02x}" for part, total in enumerate(before) if total} == set(held)
    dataset.set_values("clip_embedding_source", dict.fromkeys(ids[:3], "other"), key_field="id")
    now = sum_sources(dataset, "clip_embedding")
    assert sum(one != other for one, other in zip(before, now, strict=True)) == 3
