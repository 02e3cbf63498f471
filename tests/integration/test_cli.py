"""The command line on FiftyOne datasets: the samples' files, and embeddings stored on samples."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import uuid

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_isoclip.encoder import load_clip
from fiftyone_isoclip.files import embed_files
from tests.checkpoints import write_checkpoint
from tests.folders import fill_folder
from tests.terminal import PROGRAM, isoclip, sentence


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def folder(tmp_path):
    return fill_folder(tmp_path / "pictures")


@pytest.fixture
def filled(dataset, folder):
    """A dataset with every picture, the damaged ones, and one picture in two samples."""
    paths = [*folder.readable, *folder.damaged, folder.scenes[0]]
    dataset.add_samples([fo.Sample(filepath=path) for path in paths])
    return dataset


def test_embeddings_are_stored_on_samples_and_in_a_file(filled, folder, model, tmp_path):
    words = ["embed", f"dataset:{filled.name}", "--model", model]
    result = isoclip(*words, "--out", tmp_path / "e.npz", "--json", "-")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["embedded"] == len(folder.readable)
    assert sorted(failure["path"] for failure in report["failed"]) == folder.damaged
    assert all(failure["reason"] != "None" for failure in report["failed"])
    alone = embed_files(folder.readable, load_clip(model))
    wanted = dict(zip(alone.embedded_paths, alone.embeddings, strict=True))
    with np.load(tmp_path / "e.npz", allow_pickle=False) as stored:
        assert sorted(stored["paths"].tolist()) == folder.readable
        for path, embedding in zip(stored["paths"].tolist(), stored["embeddings"], strict=True):
            np.testing.assert_allclose(embedding, wanted[path], atol=2e-2)
    for path, vector in zip(*filled.values(["filepath", "clip_embedding"]), strict=True):
        assert (vector is None) == (path in folder.damaged)
    assert isoclip(*words).exit_code == 0


def test_duplicates_and_search_read_the_files_of_a_dataset(filled, folder, model):
    source = f"dataset:{filled.name}"
    words = ["duplicates", source, "--model", model, "--similarity", 1, "--json", "-"]
    report = json.loads(isoclip(*words).stdout)
    [group] = report["groups"]
    assert {group["keeper"], group["members"][0]["path"]} == {folder.scenes[3], folder.exact_copy}
    assert report["aliases"] == [folder.scenes[0]]
    words = ["search", source, "--image", folder.scenes[3], "-k", 1, "--model", model]
    assert folder.exact_copy.replace("\n", "\\n") in isoclip(*words).stdout


def test_as_a_program_fiftyone_writes_nothing_on_stdout(filled):
    filled.persistent = True  # another process must not take it for a leftover
    words = ["embed", f"dataset:{filled.name}", "--json", "-"]
    done = subprocess.run(
        [*PROGRAM, *words],
        env=os.environ | {"FIFTYONE_SHOW_PROGRESS_BARS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["embedded"] == 12
    assert "16/16" in done.stderr  # its progress bar
    assert filled.exists("clip_embedding").count() == 13


def test_the_demonstration_is_told_and_runs_again(folder, model):
    name = f"test-demo-{uuid.uuid4().hex}"
    words = ["demo", folder.path, "--no-app", "--name", name, "--model", model]
    try:
        result = isoclip(*words, "--json", "-")
        assert result.exit_code == 0, result.stderr
        summary = json.loads(result.stdout)
        assert (summary["dataset"], summary["images"]) == (name, len(fo.load_dataset(name)))
        assert sorted(summary["failed"]) == folder.damaged
        again = isoclip(*words)
        assert again.exit_code == 0, again.stderr
        assert name in again.stdout
    finally:
        if fo.dataset_exists(name):
            fo.delete_dataset(name)
    empty = folder.path.parent / "empty"
    empty.mkdir()
    nothing = isoclip("demo", empty, "--no-app", "--name", name)
    assert (nothing.exit_code, "holds no images" in nothing.stderr) == (1, True)


def test_f21_a_dataset_that_is_not_there_is_one_sentence(filled, model):
    for command in (["duplicates"], ["embed"], ["search", "--text", "x"]):
        result = isoclip(command[0], "dataset:nowhere", *command[1:], "--model", model)
        assert result.exit_code == 1
        assert f"no dataset called 'nowhere'; it has {filled.name}" in result.stderr


def test_f09_an_empty_dataset_and_one_whose_files_are_gone(dataset, folder, model):
    source = f"dataset:{dataset.name}"
    for command in ("embed", "duplicates", "clusters"):
        result = isoclip(command, source, "--model", model)
        assert (result.exit_code, "holds no images" in result.stderr) == (1, True)
    dataset.add_samples([fo.Sample(filepath=path) for path in folder.readable])
    shutil.rmtree(folder.path)
    result = isoclip("duplicates", source, "--model", model)
    assert (result.exit_code, "none of the 12 images" in result.stderr) == (1, True)


def test_evaluate_takes_the_labels_of_a_dataset(dataset, folder, model):
    scenes = folder.scenes[:6]
    labels = ["a", "b", "a", "b", "a", None]
    dataset.add_samples(
        fo.Sample(filepath=path, kind=label and fo.Classification(label=label))
        for path, label in zip(scenes, labels, strict=True)
    )
    words = ["evaluate", f"dataset:{dataset.name}", "--labels", "kind", "--model", model]
    result = isoclip(*words, "--json", "-")
    assert result.exit_code == 0, result.stderr
    assert "left out 1 of 6 samples without a label in 'kind'" in result.stderr
    report = json.loads(result.stdout)
    assert (report["gallery"], report["classes"]) == (5, 2)
    rows = embed_files(scenes[:5], load_clip(model)).embeddings.astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    nearest = (rows @ rows.T - 2 * np.eye(5)).argmax(axis=1)
    hits = [labels[row] == labels[other] for row, other in enumerate(nearest)]
    (plain,) = [each for each in report["methods"] if each["name"] == "plain CLIP"]
    assert plain["metrics"]["recall@1"]["mean"] == pytest.approx(np.mean(hits))
    wrong = isoclip(*words[:2], "--labels", "colour", "--model", model)
    assert "must name a field of Classifications or text" in sentence(wrong)
