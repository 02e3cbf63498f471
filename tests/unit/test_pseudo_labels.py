"""Labels made of words and of edits: with the real demo weights, and by hand."""

from __future__ import annotations

import tracemalloc
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fiftyone_isoclip.demo.scenes import render_scene
from fiftyone_isoclip.encoder import Clip, load_clip
from fiftyone_isoclip.errors import IsoClipError, VectorError
from fiftyone_isoclip.evaluation import pseudo_labels
from fiftyone_isoclip.evaluation.pseudo_labels import (
    TUNING_EDITS,
    label_by_copies,
    label_by_names,
    label_by_words,
    read_words,
)
from fiftyone_isoclip.files import embed_files
from fiftyone_isoclip.files.edits import edit_image
from tests.reference.paper import cosines

WORDS = ("red star", "blue star", "red fish", "green square")


@pytest.fixture(scope="module")
def clip() -> Clip:
    return load_clip("isoclip-demo", device="cpu", precision="float32")


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("scenes")
    for seed in range(26):
        render_scene(seed, 96).image.save(folder / f"{seed:02}.png")
    return sorted(map(str, folder.iterdir()))


@pytest.fixture(scope="module")
def embeddings(clip: Clip, paths: list[str]) -> np.ndarray:
    return embed_files(paths, clip).embeddings


def test_each_image_has_the_word_that_is_nearest(clip: Clip, embeddings: np.ndarray) -> None:
    found = label_by_words(clip, embeddings, WORDS)
    texts = clip.text_embeddings([f"a photo of a {word}" for word in WORDS]).astype(np.float64)
    expected = cosines(embeddings.astype(np.float64), texts).argmax(axis=1)
    assert found.labels.tolist() == expected.tolist()
    assert len(set(expected.tolist())) > 1
    assert found.labels_from == "pseudo-labels out of 4 words, the model's own guesses"
    assert not found.whole_classes


def test_pseudo_labels_are_better_than_guesses(clip: Clip) -> None:
    """Red or blue: rendered, so that the truth is known."""
    wanted = {"red", "blue"}
    scenes = [render_scene(seed, 64) for seed in range(200)]
    scenes = [scene for scene in scenes if scene.attributes["colour"] in wanted]
    rows = clip.image_embeddings(torch.stack([clip.preprocess(s.image) for s in scenes]))
    found = label_by_words(clip, rows, ["red star", "blue star"])
    truth = np.array([s.attributes["colour"] == "blue" for s in scenes])
    assert (found.labels == truth).mean() > 0.7


def test_words_that_the_checkpoint_does_not_know_are_left_out(
    clip: Clip, embeddings: np.ndarray
) -> None:
    with_unknown = label_by_words(clip, embeddings, ["qwertz", *WORDS, "zyxwv star"])
    assert with_unknown.labels.tolist() == label_by_words(clip, embeddings, WORDS).labels.tolist()
    assert "4 words (2 unknown ones left out)" in with_unknown.labels_from
    with pytest.raises(IsoClipError, match="isoclip-demo knows 1 of the 2 words"):
        label_by_words(clip, embeddings, ["qwertz", "red"])


@pytest.mark.parametrize("words", [[], ["star"], ["star", " star ", "", "star"]])
def test_one_word_tells_nothing_apart(clip: Clip, embeddings: np.ndarray, words: list[str]) -> None:
    with pytest.raises(IsoClipError, match=f"{len(set(words) & {'star'})} different words"):
        label_by_words(clip, embeddings, words)


@pytest.mark.parametrize("words", ["cat, dog", "red star"])
def test_one_text_is_no_list_of_its_letters(clip: Clip, embeddings: np.ndarray, words: str) -> None:
    with pytest.raises(IsoClipError, match=rf"the one text '{words}' was given; give a list"):
        label_by_words(clip, embeddings, words)


def test_many_words_are_compared_with_many_images_in_blocks(clip: Clip) -> None:
    words = list(map(" ".join, product(("red", "blue", "star", "fish"), repeat=5)))
    rows = np.random.default_rng(0).normal(size=(60_000, clip.spectrum.rank)).astype(np.float32)
    tracemalloc.start()
    labels = label_by_words(clip, rows, words).labels
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    texts = clip.text_embeddings([f"a photo of a {word}" for word in words]).astype(np.float64)
    some = np.arange(0, 60_000, 500)
    similar = cosines(rows[some].astype(np.float64), texts)
    assert (similar.max(axis=1) - similar[np.arange(120), labels[some]]).max() < 1e-6
    assert peak < 0.8 * 4 * len(words) * len(rows), "never all similarities at once"


def test_a_word_list_is_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes("\N{ZERO WIDTH NO-BREAK SPACE}red star\r\n\r\n  café \nred star\n".encode())
    assert read_words(path) == ["red star", "café"]
    for content, said in ((b"one\n", "1 different words"), (b"\xff\xfe\x00", "cannot be read")):
        path.write_bytes(content)
        with pytest.raises(IsoClipError, match=said):
            read_words(path)
    with pytest.raises(IsoClipError, match="No such file"):
        read_words(tmp_path / "nowhere.txt")


def test_an_image_and_its_edits_are_a_class(
    clip: Clip, paths: list[str], embeddings: np.ndarray
) -> None:
    done: list[int] = []
    found = label_by_copies(clip, embeddings[:4], paths[:4], seed=3, told=done.append)
    n_edits = len(TUNING_EDITS)
    assert sum(done) == 4
    assert found.whole_classes
    assert found.labels_from == "edited copies of 4 images, not by what images show"
    assert np.bincount(found.labels).tolist() == [1 + n_edits] * 4
    order = [
        next(row for row in range(4) if np.array_equal(embeddings[row], found.embeddings[label]))
        for label in range(4)
    ]
    assert sorted(order) == [0, 1, 2, 3], "the first four are the originals, drawn in some order"
    for label, row in enumerate(order):
        picture = Image.open(paths[row]).convert("RGB")
        edited = [clip.preprocess(edit_image(picture, edit, 3 + label)) for edit in TUNING_EDITS]
        expected = clip.image_embeddings(torch.stack(edited)).astype(np.float64)
        made = found.embeddings[4:][found.labels[4:] == label].astype(np.float64)
        assert np.diag(cosines(made, expected)).min() > 0.9999


def test_a_picture_that_is_gone_fails_alone(
    clip: Clip, paths: list[str], embeddings: np.ndarray, tmp_path: Path
) -> None:
    gone = str(tmp_path / "gone.png")
    found = label_by_copies(clip, embeddings[:3], [paths[0], gone, paths[2]])
    assert list(found.failed) == [gone]
    assert "2 images" in found.labels_from
    assert sorted(np.bincount(found.labels).tolist()) == [1, 7, 7]


def test_large_pictures_are_shrunk_and_repeated_ones_edited_once(
    clip: Clip, tmp_path: Path, paths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    large = tmp_path / "large.png"
    render_scene(77, 900).image.save(large)
    sizes = []

    def remember(image: Image.Image, kind: str, seed: int) -> Image.Image:
        sizes.append(image.size)
        return edit_image(image, kind, seed)

    monkeypatch.setattr(pseudo_labels, "edit_image", remember)
    rows = embed_files([str(large), paths[0]], clip).embeddings
    label_by_copies(clip, rows[[0, 1, 0]], [str(large), paths[0], str(large)])
    assert sorted(sizes) == [(96, 96)] * 6 + [(640, 640)] * 6


def test_copies_of_many_images_are_of_some(
    clip: Clip, paths: list[str], embeddings: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pseudo_labels, "MOST_ORIGINALS", 5)
    found = label_by_copies(clip, embeddings, paths)
    assert found.labels.max() == 4
    assert pseudo_labels.count_originals(26) == 5


def test_originals_are_drawn_from_among_thousands_of_one_picture(
    clip: Clip, paths: list[str], embeddings: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """7,000 times the first picture are 24 million pairs, more than are ever held."""
    monkeypatch.setattr(pseudo_labels, "MOST_ORIGINALS", 5)
    rows = np.concatenate([np.repeat(embeddings[:1], 7000, axis=0), embeddings[1:]])
    found = label_by_copies(clip, rows, [paths[0]] * 7000 + paths[1:], seed=1)
    assert np.bincount(found.labels).tolist() == [1 + len(TUNING_EDITS)] * 5
    assert len(np.unique(found.embeddings[:5], axis=0)) == 5


def test_a_band_is_tuned_without_any_label(
    clip: Clip, paths: list[str], embeddings: np.ndarray
) -> None:
    copies = label_by_copies(clip, embeddings, paths).tune(clip.spectrum)
    labels = np.append(np.arange(26), np.repeat(np.arange(26), len(TUNING_EDITS)))
    sides = [set(labels[rows].tolist()) for rows in (copies.choosing, copies.holding)]
    assert not sides[0] & sides[1], "no image whose edits were chosen on is held out"
    words = label_by_words(clip, embeddings, WORDS)
    with pytest.raises(VectorError, match="26 different images with pseudo-labels out of 4 words"):
        words.tune(clip.spectrum)


def test_names_become_numbers_and_no_name_is_no_label() -> None:
    found = label_by_names(np.eye(5), ["b", None, "a", "b", ""])
    assert found.labels.tolist() == [0, -1, 1, 0, -1]
