"""The demonstration on real photographs: what it makes, what it reuses, and how it is scored."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import fiftyone as fo
import pytest
from PIL import Image

from fiftyone_isoclip.dataset.groups import DuplicateReport, SampleCopy, SampleGroup
from fiftyone_isoclip.demo.pictures import ORIGINAL, Picture, make_pictures
from fiftyone_isoclip.demo.run import BRAIN_KEY, open_app, run_demo
from fiftyone_isoclip.demo.summary import DemoSummary, score_duplicates
from fiftyone_isoclip.errors import DatasetError
from fiftyone_isoclip.files.edits import EDITS
from tests.pictures import draw_many, recompress

NAME = "test-demo"


@pytest.fixture(autouse=True)
def _no_dataset_left() -> Iterator[None]:
    yield
    if fo.dataset_exists(NAME):
        fo.delete_dataset(NAME)


def state(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_each_photograph_lies_among_its_planted_copies(tmp_path: Path) -> None:
    made = make_pictures(tmp_path / "pictures", copies_each=3, scenes=2)
    assert len({picture.path for picture in made}) == len(made)
    sources = {picture.source_group for picture in made if not picture.caption}
    for source in sources:
        kinds = [picture.copy_kind for picture in made if picture.source_group == source]
        assert kinds.count(ORIGINAL) == 1 and len(kinds) == 4
    assert set(EDITS) == {picture.copy_kind for picture in made} - {ORIGINAL}
    assert sum(bool(picture.caption) for picture in made) == 2
    for picture in made:
        with Image.open(picture.path) as image:
            image.load()


def test_the_pictures_are_made_once_and_mended_when_something_is_missing(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    made = make_pictures(folder, copies_each=1, scenes=1)
    before = state(folder)
    assert make_pictures(folder, copies_each=1, scenes=1) == made
    assert state(folder) == before
    Path(made[-1].path).unlink()
    assert make_pictures(folder, copies_each=1, scenes=1) == made
    assert set(state(folder)) == set(before)
    fewer = make_pictures(folder, copies_each=1, scenes=0)
    assert [picture.path for picture in fewer] == [picture.path for picture in made[:-1]]
    assert json.loads((folder / "manifest.json").read_text())["scenes"] == 0
    assert {path.name for path in tmp_path.iterdir()} == {"pictures"}


@pytest.fixture(scope="module")
def summary() -> Iterator[DemoSummary]:
    yield run_demo(name="test-demo-module")
    fo.delete_dataset("test-demo-module")


def test_the_run_does_everything_and_says_so(summary: DemoSummary) -> None:
    dataset = fo.load_dataset(summary.dataset)
    assert dataset.persistent
    assert (summary.images, dict(summary.failed)) == (len(dataset), {})
    assert dataset.count("clip_embedding") == summary.images
    view = dataset.load_saved_view("duplicates")
    assert len(view) == summary.groups > 0
    assert dataset.count_values("duplicates_role")["duplicate"] == summary.duplicates
    assert len(dataset.distinct("clusters")) == summary.clusters > 1
    assert dataset.list_brain_runs() == [BRAIN_KEY]
    assert summary.planted == dataset.match(fo.ViewField("copy_kind") != ORIGINAL).count()
    steps = ["pictures", "dataset", "model", "embeddings", "duplicates", "clusters", "index"]
    assert list(summary.seconds) == steps
    for told in (f"{summary.images} images", "self-trained demo weights", "precision", "0 failed"):
        assert told in str(summary)


def test_its_score_is_the_plain_count_over_the_fields(summary: DemoSummary) -> None:
    dataset = fo.load_dataset(summary.dataset)
    fields = ["duplicates_group", "duplicates_role", "source_group", "copy_kind"]
    rows = list(zip(*dataset.values(fields), strict=True))
    keeper = {group: source for group, role, source, _ in rows if role == "keeper"}
    copies = [keeper[group] == source for group, role, source, _ in rows if role == "duplicate"]
    assert summary.precision == pytest.approx(sum(copies) / len(copies))
    homes = {(group, source) for group, _, source, kind in rows if group and kind == ORIGINAL}
    planted = [(group, source) in homes for group, _, source, kind in rows if kind != ORIGINAL]
    assert summary.recall == pytest.approx(sum(planted) / len(planted))
    # The demo weights must show the machinery: most of what is called a copy is one.
    assert summary.precision is not None and summary.precision > 0.8
    easy = ("recompressed", "half size", "as webp", "as png")
    assert min(summary.recall_by_kind[kind] for kind in easy) > 0.8


def test_running_again_computes_nothing_anew(summary: DemoSummary) -> None:
    dataset = fo.load_dataset(summary.dataset)
    ids, sources = dataset.values("id"), dataset.values("clip_embedding_source")
    again = run_demo(name=summary.dataset)
    dataset.reload()
    assert (dataset.values("id"), dataset.values("clip_embedding_source")) == (ids, sources)
    assert (again.groups, again.precision, again.recall) == (
        summary.groups,
        summary.precision,
        summary.recall,
    )


def test_pictures_of_your_own_are_read_in_place_and_scored_by_nobody(
    pictures: Path, checkpoint: str
) -> None:
    originals = draw_many(pictures, 5)
    recompress(originals[0], pictures / "copy.jpg")
    (pictures / "broken.jpg").write_bytes(b"no image")
    summary = run_demo(pictures, name=NAME, model=checkpoint)
    assert (summary.images, summary.planted, summary.precision, summary.recall) == (
        7,
        0,
        None,
        None,
    )
    assert list(summary.failed) == [str(pictures / "broken.jpg")]
    assert "precision" not in str(summary) and "1 failed" in str(summary)
    dataset = fo.load_dataset(NAME)
    assert {Path(path).parent for path in dataset.values("filepath")} == {pictures}
    assert "source_group" not in dataset.get_field_schema()


def test_other_weights_embed_the_same_dataset_again(
    pictures: Path, checkpoint: str, other_checkpoint: str
) -> None:
    draw_many(pictures, 3)
    run_demo(pictures, name=NAME, model=checkpoint)
    before = fo.load_dataset(NAME).values("clip_embedding_source")
    run_demo(pictures, name=NAME, model=other_checkpoint)
    assert not set(before) & set(fo.load_dataset(NAME).values("clip_embedding_source"))


def test_a_dataset_of_somebody_else_is_left_alone(pictures: Path, checkpoint: str) -> None:
    draw_many(pictures, 2)
    fo.Dataset(NAME).add_sample(fo.Sample(filepath="/somewhere/else.jpg"))
    with pytest.raises(DatasetError, match="choose another name"):
        run_demo(pictures, name=NAME, model=checkpoint)
    assert fo.load_dataset(NAME).values("filepath") == ["/somewhere/else.jpg"]


def test_an_empty_folder_and_a_missing_dataset_are_sentences(pictures: Path) -> None:
    with pytest.raises(DatasetError, match="holds no images"):
        run_demo(pictures, name=NAME)
    with pytest.raises(DatasetError, match="run `isoclip demo` first"):
        open_app(NAME)
    fo.Dataset(NAME)
    with pytest.raises(DatasetError, match="find them first"):
        open_app(NAME)


def test_a_score_by_hand(dataset: fo.Dataset) -> None:
    pictures = [
        Picture("a", "A"),
        Picture("a1", "A", "grey"),
        Picture("a2", "A", "crop 50"),
        Picture("a3", "A", "crop 50"),
        Picture("b", "B"),
        Picture("b1", "B", "grey"),
    ]
    groups = (
        group("a", "a1", "b"),  # one right pair, one wrong; a1 lies with its original
        group("a2", "a3"),  # a right pair, but without the original
    )
    found = DuplicateReport(dataset, "duplicates", groups, 0.9, "0/0", 6, 0)
    score = score_duplicates(found, pictures)
    assert score.precision == pytest.approx(2 / 3)
    assert score.recall == pytest.approx(1 / 4)
    assert score.recall_by_kind == {"crop 50": 0.0, "grey": 0.5}
    nothing = DuplicateReport(dataset, "duplicates", (), 0.9, "0/0", 6, 0)
    assert (score_duplicates(nothing, pictures).precision, 0.0) == (
        None,
        score_duplicates(nothing, pictures).recall,
    )


def group(keeper: str, *copies: str) -> SampleGroup:
    members = tuple(SampleCopy(path, path, "near", 0.95) for path in copies)
    return SampleGroup(keeper, keeper, "largest", 0.9, members)


def test_pictures_of_ones_own_keep_their_tags_and_another_folder_is_refused(
    tmp_path: Path,
) -> None:
    mine = tmp_path / "mine"
    paths = draw_many(mine, 4)
    run_demo(mine, name=NAME)
    dataset = fo.load_dataset(NAME)
    dataset.match({"filepath": paths[0]}).tag_samples("seen")
    Path(paths[3]).unlink()
    more = draw_many(mine, 1, first_seed=50)
    summary = run_demo(mine, name=NAME)
    dataset.reload()
    assert sorted(dataset.values("filepath")) == sorted([*paths[:3], *more])
    assert summary.images == 4
    assert dataset.match_tags("seen").values("filepath") == [paths[0]]
    draw_many(tmp_path / "other", 2)
    with pytest.raises(DatasetError, match="holds the pictures of"):
        run_demo(tmp_path / "other", name=NAME)
    assert len(fo.load_dataset(NAME)) == 4


def test_a_name_that_the_database_cannot_hold_fails_alone(tmp_path: Path) -> None:
    paths = draw_many(tmp_path / "mine", 3)
    odd = os.fsdecode(os.fsencode(tmp_path / "mine") + b"/bad\xff.png")
    Path(paths[2]).rename(odd)
    summary = run_demo(tmp_path / "mine", name=NAME)
    assert (summary.images, len(fo.load_dataset(NAME))) == (3, 2)
    assert list(summary.failed) == [odd]
    assert "UTF-8" in summary.failed[odd]
