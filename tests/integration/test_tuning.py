"""Tuning on samples: what the verb says is what the arrays give, and it changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_isoclip import Band, embed, load_clip, tune_band
from fiftyone_isoclip.app.tune import TuneBand
from fiftyone_isoclip.dataset import delete_run, list_runs, load_run, load_tuning, rerun
from fiftyone_isoclip.dataset.spaces import open_space
from fiftyone_isoclip.demo.scenes import render_scene
from fiftyone_isoclip.errors import DatasetError, VectorError
from fiftyone_isoclip.evaluation.methods import CENTRED, PLAIN
from fiftyone_isoclip.evaluation.pseudo_labels import label_by_names, label_by_words
from fiftyone_isoclip.evaluation.tuning_page import tuning_json
from fiftyone_isoclip.files.edits import edit_image
from tests.operators import Offered
from tests.terminal import isoclip

MODEL, FIELD = "isoclip-demo", "clip_embedding"
KINDS = ("grey", "crop 70", "mirrored", "darker", "noisy")
WORDS = ["red star", "blue fish", "green square"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Iterator[fo.Dataset]:
    """Sixteen scenes in six versions each, told apart by two fields; a third holds nothing."""
    folder = tmp_path_factory.mktemp("scenes")
    made = fo.Dataset(f"tuning-{uuid4().hex}")
    for seed in range(16):
        scene = render_scene(seed, 64).image
        for kind in ("", *KINDS):
            path = folder / f"{seed:02}{kind}.png"
            (edit_image(scene, kind, seed) if kind else scene).save(path)
            label = fo.Classification(label=f"scene {seed}")
            tags = [] if kind else ["original"]
            made.add_sample(
                fo.Sample(filepath=str(path), kind=label, word=f"w{seed % 4}", tags=tags)
            )
    made.add_sample_field("empty", fo.StringField)
    made.match(fo.ViewField("word") == "w3").tag_samples("last")
    embed(made, MODEL, progress=False)
    yield made
    made.delete()


@pytest.fixture(autouse=True)
def _no_runs(dataset: fo.Dataset) -> Iterator[None]:
    yield
    for run in list_runs(dataset):
        delete_run(dataset, run.key)


def test_the_run_says_what_the_arrays_give(dataset: fo.Dataset) -> None:
    schema = list(dataset.get_field_schema())
    report = tune_band(dataset, label_field="kind", progress=False)
    clip = load_clip(MODEL)
    vectors = np.stack(dataset.values(FIELD))
    names = dataset.values("kind.label")
    found = label_by_names(vectors, names, "'kind'").tune(clip.spectrum)
    expected = tuning_json(found, MODEL)
    assert report.results == expected
    assert report.recommended == found.recommended
    assert {PLAIN, CENTRED} <= set(report.results["held_out"])
    assert (report.n_compared, report.n_skipped, report.n_unreadable) == (96, 0, 0)
    assert "self-trained demo weights" in str(report)

    assert list(dataset.get_field_schema()) == schema, "nothing is written to the samples"
    assert open_space(dataset, FIELD, None).band == clip.image_band, "no default changes"
    again = load_tuning(dataset)
    assert again.results == expected
    assert (again.verdict, again.recommended) == (report.verdict, report.recommended)
    run = load_run(dataset, "tuning", "tuning")
    assert run.complete
    assert run.band == "0/0"
    assert set(dataset.load_saved_view("tuning").values("id")) == set(dataset.values("id"))
    delete_run(dataset, "tuning")
    assert not dataset.has_saved_view("tuning")


def test_words_and_copies_stand_in_for_labels(dataset: fo.Dataset) -> None:
    by_words = tune_band(dataset, words=WORDS, key="words", progress=False)
    clip, vectors = load_clip(MODEL), np.stack(dataset.values(FIELD))
    expected = label_by_words(clip, vectors, WORDS).tune(clip.spectrum)
    assert by_words.results == tuning_json(expected, MODEL)
    assert "by pseudo-labels out of 3 words" in by_words.verdict
    originals = dataset.match_tags("original")
    by_copies = tune_band(originals, copies=True, key="copies", progress=False)
    assert "by edited copies of 16 images" in by_copies.verdict
    assert by_copies.results["images"]["classes"] == 16
    assert len(dataset.load_saved_view("copies")) == 16


def test_a_run_is_found_again(dataset: fo.Dataset) -> None:
    asked = {"kind": {"label_field": "kind"}, "words": {"words": WORDS}}
    for key, way in asked.items():
        first = tune_band(dataset, key=key, progress=False, **way)
        renewed = rerun(dataset, key, progress=False)
        assert renewed.run.complete
        assert load_tuning(dataset, key).results == first.results


def test_samples_whose_file_is_gone_are_told(dataset: fo.Dataset, tmp_path: Path) -> None:
    sample = dataset.first()
    path = sample.filepath
    sample.filepath = str(tmp_path / "gone.png")
    sample.save()
    try:
        report = tune_band(dataset.limit(60), copies=True, progress=False)
        assert report.n_unreadable == 1
        assert "1 could not be edited" in str(report)
    finally:
        sample.filepath = path
        sample.save()


def test_the_report_is_a_page_with_both_maps(dataset: fo.Dataset, tmp_path: Path) -> None:
    page = tmp_path / "tuning.html"
    report = tune_band(dataset, label_field="kind", report=page, progress=False)
    content = page.read_text(encoding="utf-8")
    assert report.verdict.replace("'", "&#39;") in content
    assert content.count("data:image/") == 2
    assert dataset.name in content


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ({}, "0 of labels, words and edited copies.*exactly one"),
        ({"label_field": "kind", "copies": True}, "2 of labels"),
        ({"label_field": "nowhere"}, "no such field"),
        ({"words": ["one"]}, "1 different words"),
        ({"words": []}, "0 different words"),
        ({"words": "cat, dog"}, "the one text 'cat, dog' was given"),
        ({"copies": True, "key": "Not a key"}, "key"),
        ({"copies": True, "field": "nowhere"}, "nowhere"),
        ({"copies": True, "report": "/nowhere/at/all.html"}, "does not exist"),
    ],
)
def test_what_cannot_be_is_refused(dataset: fo.Dataset, way: dict, said: str) -> None:
    with pytest.raises(Exception, match=said) as caught:
        tune_band(dataset, progress=False, **way)
    assert type(caught.value).__module__ == "fiftyone_isoclip.errors"
    assert not list_runs(dataset)


def test_too_few_labels_are_refused(dataset: fo.Dataset) -> None:
    with pytest.raises(VectorError, match="0 different images with 'empty'"):
        tune_band(dataset, label_field="empty", progress=False)
    with pytest.raises(VectorError, match="24 different images with 'kind'"):
        tune_band(dataset.match_tags("last"), label_field="kind", progress=False)
    with pytest.raises(VectorError, match="1 classes"):
        tune_band(dataset.match_tags("last"), label_field="word", progress=False)
    assert not list_runs(dataset)


def test_a_key_of_somebody_else_is_not_taken(dataset: fo.Dataset) -> None:
    dataset.save_view("mine", dataset.limit(3))
    with pytest.raises(DatasetError, match="saved view 'mine'"):
        tune_band(dataset, label_field="kind", key="mine", progress=False)
    dataset.delete_saved_view("mine")


def test_the_operator_says_what_the_verb_says(dataset: fo.Dataset) -> None:
    expected = tune_band(dataset, label_field="kind", key="verb", progress=False)
    offer = Offered(TuneBand, dataset)
    assert offer.refusals() == [
        "0 of labels, words and edited copies were given to tell which images belong together; "
        "give exactly one of them"
    ]
    assert not offer.refusals(label_field="kind")
    assert not offer.refusals(words="cat, dog")
    result = offer.run(**offer.defaults(label_field="kind"))
    assert result["results"] == expected.results
    assert result["recommended"] == str(expected.recommended)
    shown = offer.operator.describe(result).to_json()["properties"]
    assert {"told", "recommended", "held_out", "map0", "map1"} <= set(shown)
    assert "-centred" in shown["recommended"]["view"]["description"]
    assert load_tuning(dataset).results == expected.results
    assert Band.parse(result["recommended"]) == expected.recommended
    words = offer.run(**offer.defaults(words="red star\nblue fish, green square", key="w"))
    assert "3 words" in words["verdict"]
    few = offer.run(**offer.defaults(label_field="empty", key="none"))
    assert "20 images with another one of their class" in few["error"]


def test_the_command_takes_the_labels_of_a_dataset(dataset: fo.Dataset) -> None:
    result = isoclip("tune", f"dataset:{dataset.name}", "--labels", "kind", "--json", "-")
    assert result.exit_code == 0, result.stderr
    written = json.loads(result.stdout)
    assert written["images"]["classes"] == 16
    assert "without a label" not in result.stderr
    expected = tune_band(dataset, label_field="kind", progress=False).results
    assert written["images"] == expected["images"]
    for name, found in expected["held_out"].items():
        assert written["held_out"][name]["mean"] == pytest.approx(found["mean"], abs=1e-3)


def test_the_command_tells_how_many_samples_have_no_label(dataset: fo.Dataset) -> None:
    some = dataset.clone(f"{dataset.name}-some")
    try:
        some.limit(6).set_values("word", [None] * 6)
        result = isoclip("tune", f"dataset:{some.name}", "--labels", "word", "--json", "-")
    finally:
        some.delete()
    assert result.exit_code == 0, result.stderr
    assert "left out 6 of 96 samples without a label in 'word'" in result.stderr
    assert json.loads(result.stdout)["images"]["without a label"] == 6
