"""`isoclip thresholds`: what it prints, writes and refuses."""

from __future__ import annotations

import json

import pytest

from fiftyone_isoclip.encoder import load_clip
from fiftyone_isoclip.encoder.checkpoints import DEMO_NAME
from fiftyone_isoclip.files import guide_file_thresholds, list_files
from fiftyone_isoclip.projector import Band
from tests.folders import fill_folder
from tests.terminal import isoclip, sentence


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return fill_folder(tmp_path_factory.mktemp("files") / "pictures")


def test_it_tells_what_python_finds(folder, tmp_path):
    asked = ["--false-matches", 0.05, "--pictures", 2, "--band", "5/5"]
    written = ["--json", tmp_path / "guide.json", "--report", tmp_path / "guide.html"]
    result = isoclip("thresholds", folder.path, *asked, *written)
    assert result.exit_code == 0, result.stderr
    guide = guide_file_thresholds(
        list_files(folder.path), load_clip(DEMO_NAME), band=Band(5, 5), false_matches=0.05,
        pictures=2,
    )  # fmt: skip
    assert json.loads((tmp_path / "guide.json").read_text()) == json.loads(
        json.dumps(guide.to_json())
    )
    assert guide.verdict in result.stdout
    page = (tmp_path / "guide.html").read_text()
    for row in guide.rows:
        assert f"{row.similarity:.4f}" in result.stdout and f"{row.similarity:.4f}" in page
    weakest = min(guide.rows[0].by_kind, key=lambda kind: guide.rows[0].by_kind[kind].share)
    assert weakest in page


def test_too_few_images_are_said_and_the_rest_is_told(folder):
    result = isoclip("thresholds", folder.path, "--pictures", 0)
    assert result.exit_code == 0
    assert "No similarity can be suggested" in result.stdout
    assert "0.9500" in result.stdout
    assert "hardest" not in result.stdout


@pytest.mark.parametrize("rate", ["0", "1", "nan"])
def test_a_rate_that_is_none_is_refused_before_the_work(folder, rate):
    result = isoclip("thresholds", folder.path, "--false-matches", rate)
    assert "above 0 and below 1" in sentence(result)
    assert "Embedding" not in result.stderr


def test_one_image_makes_no_pair(folder):
    told = sentence(isoclip("thresholds", folder.scenes[0]))
    assert "none of 1 image" in told


def test_a_report_that_cannot_be_written_is_told_before_the_work(folder, tmp_path):
    told = isoclip("thresholds", folder.path, "--report", tmp_path / "nowhere" / "a.html")
    assert "does not exist" in told.stderr
    assert "Embedding" not in told.stderr
