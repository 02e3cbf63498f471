"""A run brought up to date is what the verb finds on the dataset as it is now."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest

from fiftyone_isoclip.dataset import (
    compare_with_clip,
    embed,
    find_clusters,
    find_duplicates,
    find_exact_duplicates,
    find_leaks,
    list_runs,
    load_run,
    reruns,
    speeds,
)
from fiftyone_isoclip.dataset.places import side_folder
from fiftyone_isoclip.dataset.reruns import rerun
from fiftyone_isoclip.dataset.sources import Held, count_held
from fiftyone_isoclip.dataset.staleness import Staleness, find_staleness
from fiftyone_isoclip.errors import DatasetError
from tests.pictures import draw, draw_many, recompress

Fill = Callable[[Sequence[str]], list[str]]


@pytest.fixture
def ids(dataset: fo.Dataset, fill: Fill, pictures: Path, checkpoint: str) -> list[str]:
    """Six embedded pictures that have nothing to do with each other."""
    made = fill(draw_many(pictures, 6))
    embed(dataset, checkpoint, progress=False)
    return made


def fields_of(dataset: fo.Dataset, key: str) -> list[list[Any]]:
    names = sorted(name for name in load_run(dataset, key).fields if not name.endswith("_bytes"))
    return [dataset.values(name) for name in names]


def test_copies_that_came_later_are_embedded_and_found(
    dataset: fo.Dataset, ids: list[str], fill: Fill, pictures: Path
) -> None:
    find_duplicates(dataset, similarity=0.97, band="1/1", prefer="earliest")
    assert load_run(dataset, "duplicates").counts["groups"] == 0
    (copy,) = fill([recompress(dataset[ids[2]].filepath, pictures / "copy.jpg", 95)])
    report = rerun(dataset, "duplicates", progress=False)
    assert report.stale == Staleness(added=1, files=0)
    assert report.embedded is not None and report.embedded.computed == 1
    assert (report.run.counts["groups"], report.run.band) == (1, "1/1")
    assert {report.run.parameters[name] for name in ("similarity", "prefer")} == {0.97, "earliest"}
    assert dataset[copy]["duplicates_group"] == dataset[ids[2]]["duplicates_group"] == 1
    assert not find_staleness(dataset, report.run, thorough=True)


@pytest.mark.parametrize("band", [None, "2/0"])
def test_it_is_what_the_verb_itself_would_find(
    dataset: fo.Dataset, ids: list[str], fill: Fill, pictures: Path, checkpoint: str,
    band: str | None,
) -> None:  # fmt: skip
    find_clusters(dataset, count=2, band=band, key="looks")
    fill(draw_many(pictures / "more", 3, first_seed=20))
    draw(Path(dataset[ids[0]].filepath), 30)
    report = rerun(dataset, "looks", progress=False)
    assert report.embedded is not None and report.embedded.computed == 4
    again = fields_of(dataset, "looks")
    find_clusters(dataset, count=2, band=band, key="looks")
    assert fields_of(dataset, "looks") == again
    assert load_run(dataset, "looks").band == report.run.band


def test_each_kind_of_run_can_be_found_again(
    dataset: fo.Dataset, ids: list[str], fill: Fill, pictures: Path
) -> None:
    half = {"train": ids[:3], "test": ids[3:]}
    for tag, some in half.items():
        dataset.select(some).tag_samples(tag)
    find_exact_duplicates(dataset)
    find_leaks(dataset, similarity=0.97, band="1/1")
    compare_with_clip(dataset, k=2, band="2/1")
    first = Path(dataset[ids[0]].filepath)
    (pictures / "copy.png").write_bytes(first.read_bytes())
    (copy,) = fill([str(pictures / "copy.png")])
    dataset.select(copy).tag_samples("test")
    exact = rerun(dataset, "exact_duplicates", progress=False)
    assert (exact.embedded, exact.run.counts["duplicates"]) == (None, 1)
    assert exact.run.parameters["exact"]
    leaks = rerun(dataset, "leaks", progress=False)
    assert (leaks.run.counts["pairs"], leaks.run.band) == (1, "1/1")
    compared = rerun(dataset, "comparison", progress=False)
    assert (compared.run.counts["queries"], compared.run.band) == (7, "2/1")
    assert not any(find_staleness(dataset, run, thorough=True) for run in list_runs(dataset))


def test_a_run_on_a_view_stays_on_that_view(
    dataset: fo.Dataset, ids: list[str], fill: Fill, pictures: Path
) -> None:
    dataset.select(ids[:3]).tag_samples("train")
    find_duplicates(dataset.match_tags("train"), key="some")
    fill(draw_many(pictures / "more", 2, first_seed=20))
    (late,) = fill([draw(pictures / "late.png", 40)])
    dataset.select(late).tag_samples("train")
    report = rerun(dataset, "some", progress=False)
    assert report.run.counts["compared"] == 4
    assert count_held(dataset, "clip_embedding") == Held(samples=9, vectors=7)
    assert count_held(dataset, "nothing") == Held(samples=9)


def test_no_model_is_loaded_for_images_that_are_up_to_date(
    dataset: fo.Dataset, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find_clusters(dataset, count=2)
    dataset.delete_samples(ids[:1])
    monkeypatch.setattr(reruns, "clip_for", lambda origin: pytest.fail("loaded"))
    report = rerun(dataset, "clusters")
    assert (report.embedded, report.run.counts["compared"]) == (None, 5)
    assert report.stale == Staleness(removed=1, files=0)


def test_what_cannot_be_found_again_stays_and_says_why(dataset: fo.Dataset, ids: list[str]) -> None:
    find_clusters(dataset, count=2)
    before = load_run(dataset, "clusters")
    dataset.delete_sample_field("clip_embedding")
    with pytest.raises(DatasetError, match="no field 'clip_embedding'"):
        rerun(dataset, "clusters")
    with pytest.raises(DatasetError, match="no run 'nothing'"):
        rerun(dataset, "nothing")
    assert load_run(dataset, "clusters") == before


def test_every_run_remembers_what_finding_it_again_needs(
    dataset: fo.Dataset, ids: list[str]
) -> None:
    find_clusters(dataset, method="leiden", band="1/0")
    find_duplicates(dataset, similarity=0.9, band="0/0", recall=0.99, prefer="sharpest")
    for run in list_runs(dataset):
        verb = reruns._verb(run)
        options = inspect.unwrap(verb).__kwdefaults__
        asked = {k: v for k, v in options.items() if k not in ("key", "progress")}
        assert set(asked) <= {*run.parameters, "band"}, run.method
    assert load_run(dataset, "duplicates").band == "0/0"


def test_speeds_are_those_of_the_last_long_run(
    dataset: fo.Dataset, checkpoint: str, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("FIFTYONE_ISOCLIP_DIR", str(tmp_path))
    from fiftyone_isoclip import load_clip

    clip = load_clip(checkpoint, device="cpu")
    asked = (checkpoint, clip.device, clip.precision)
    speeds.remember_speed(clip, 31, 1.0)
    assert speeds.recall_speed(*asked) is None
    speeds.remember_speed(clip, 64, 2.0)
    assert speeds.recall_speed(*asked) == 32
    speeds.remember_speed(clip, 40, 4.0)
    assert speeds.recall_speed(*asked) == 10
    assert speeds.recall_speed(checkpoint, "cuda", clip.precision) is None
    for damage in ("{", "[]", json.dumps({f"{checkpoint} on cpu in float32": "fast"})):
        (side_folder() / "speeds.json").write_text(damage)
        assert speeds.recall_speed(*asked) is None


def test_embedding_notes_its_speed(
    dataset: fo.Dataset, fill: Fill, pictures: Path, checkpoint: str
) -> None:
    (side_folder() / "speeds.json").unlink(missing_ok=True)
    fill(draw_many(pictures, 32))
    embed(dataset, checkpoint, progress=False)
    (noted,) = json.loads((side_folder() / "speeds.json").read_text()).items()
    assert noted[0].startswith(checkpoint) and noted[1] > 0
