"""`isoclip tune`: what it prints and writes is what tuning on arrays gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fiftyone_isoclip.demo.scenes import render_scene
from fiftyone_isoclip.encoder import load_clip
from fiftyone_isoclip.evaluation.pseudo_labels import (
    label_by_copies,
    label_by_names,
    label_by_words,
)
from fiftyone_isoclip.evaluation.tuning_page import tell_tuning, tuning_json
from fiftyone_isoclip.files import embed_files, list_images
from fiftyone_isoclip.files.edits import edit_image
from tests.terminal import isoclip, sentence

MODEL = "isoclip-demo"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten scenes, each in a folder of its own with seven edits of it."""
    home = tmp_path_factory.mktemp("tune") / "scenes"
    for seed in range(10):
        place = home / f"scene {seed}"
        place.mkdir(parents=True)
        scene = render_scene(seed, 64).image
        scene.save(place / "scene.png")
        for kind in ("grey", "crop 70", "mirrored", "darker", "noisy", "blurred", "tilted"):
            edit_image(scene, kind, seed).save(place / f"{kind}.png")
    return home


def test_sub_folders_are_labels(folder: Path, tmp_path: Path) -> None:
    out, page, plot = (tmp_path / name for name in ("tuning.json", "tuning.html", "planes.png"))
    result = isoclip(
        "tune", folder, "--model", MODEL, "--json", out, "--report", page, "--plot", plot
    )
    assert result.exit_code == 0, result.stderr
    clip, paths = load_clip(MODEL), list_images(folder)
    names = [Path(path).parent.name for path in paths]
    found = label_by_names(embed_files(paths, clip).embeddings, names).tune(clip.spectrum)
    written = json.loads(out.read_text())
    assert written.pop("source") == str(folder)
    assert written == json.loads(json.dumps(tuning_json(found, MODEL)))
    told = " ".join(result.stdout.split())
    assert tell_tuning(found, MODEL) in told
    assert str(found.held_out["plain CLIP"]) in told
    assert written["verdict"] in page.read_text().replace("&#39;", "'")
    with Image.open(plot) as drawn:
        assert drawn.width > drawn.height > 100


def test_words_need_no_labels(folder: Path, tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("red star\nblue fish\ngreen square\nunheard\n")
    clip, paths = load_clip(MODEL), list_images(folder)
    known = ["red star", "blue fish", "green square"]
    rows = embed_files(paths, clip).embeddings
    found = label_by_words(clip, rows, known).tune(clip.spectrum)
    written = _printed("tune", folder, "--words", words)
    assert written["planes"] == tuning_json(found, MODEL)["planes"]
    assert written["recommended"] == str(found.recommended)
    assert "3 words (1 unknown ones left out)" in written["labels_from"]


def test_copies_need_no_labels_and_embeddings_may_be_stored(folder: Path, tmp_path: Path) -> None:
    stored = tmp_path / "stored.npz"
    assert isoclip("embed", folder / "scene 1", "--out", stored).exit_code == 0
    clip, paths = load_clip(MODEL), list_images(folder / "scene 1")
    rows = embed_files(paths, clip).embeddings
    found = label_by_copies(clip, rows, paths).tune(clip.spectrum)
    written = _printed("tune", stored, "--copies")
    assert written["planes"] == tuning_json(found, MODEL)["planes"]
    assert "edited copies of 8 images" in written["verdict"]


def _printed(*words: object) -> dict[str, Any]:
    result = isoclip(*words, "--json", "-")
    assert result.exit_code == 0, result.stderr
    return dict(json.loads(result.stdout))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--labels", "kind"], "dataset:NAME"),
        (["--copies", "--words", "words.txt"], "give one of"),
        (["--plot", "/nowhere/at/all.png", "--copies"], "does not exist"),
    ],
)
def test_wrong_usage_is_told_before_the_work(folder: Path, options: list[str], said: str) -> None:
    result = isoclip("tune", folder, *options)
    assert result.exit_code in (1, 2)
    assert said in " ".join(result.stderr.split())
    assert "Embedding" not in result.stderr


def test_the_help_says_where_a_centred_band_can_be_used() -> None:
    told = " ".join(isoclip("tune", "--help").stdout.replace("\u2502", "").split())
    assert "-centred they refuse" in told
    assert "isoclip.fit_centre(dataset)" in told


def test_labels_lie_one_level_deep_or_another_way_is_named(folder: Path) -> None:
    other_way = "sub-folder for each label, or find a band without labels by --words FILE or --cop"
    for place, where in (
        (folder / "scene 1", "scene 1/blurred.png lies in no sub-folder"),
        (folder.parent, "lies in a sub-folder of a sub-folder"),
    ):
        told = sentence(isoclip("tune", place))
        assert where in told
        assert other_way in told
    assert "--copies" in sentence(isoclip("tune", folder / "scene 1" / "grey.png"))


def test_what_cannot_be_tuned_is_said_in_a_sentence(folder: Path, tmp_path: Path) -> None:
    few = folder / "scene 1" / "scene.png"
    assert "needs 20 images" in sentence(isoclip("tune", few, "--copies"))
    assert "cannot be read" in sentence(isoclip("tune", few, "--words", tmp_path / "none.txt"))
    assert isoclip("tune", "dataset:anything").exit_code == 2
