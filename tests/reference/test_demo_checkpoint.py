"""The self-trained demo weights, against open_clip's own factory and against the claim made."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from torch import nn

from fiftyone_isoclip.demo.scenes import COLOURS, render_scene
from fiftyone_isoclip.encoder import Clip, load_clip
from fiftyone_isoclip.encoder.words import WordTokenizer
from fiftyone_isoclip.files.edits import EDITS, edit_image

NAME = "isoclip-demo"
UNSEEN = 20_000_000  # seeds far from those of the training
RECALL_ON_SCENES = 0.9
COLOURS_RIGHT = 0.4


@pytest.fixture(scope="module")
def folder(repo_root: Path) -> Path:
    return repo_root / "fiftyone_isoclip" / "encoder" / "demo"


@pytest.fixture(scope="module")
def model(folder: Path) -> nn.Module:
    """Built by open_clip's factory alone, from the configuration and the weights."""
    open_clip.add_model_config(folder / f"{NAME}.json")
    built = open_clip.create_model(
        NAME, pretrained=str(folder / f"{NAME}.safetensors"), require_pretrained=True
    )
    return built.eval()


@pytest.fixture(scope="module")
def clip() -> Clip:
    return load_clip(NAME, device="cpu", precision="float32")


def _embed(clip: Clip, pictures: Sequence[Image.Image]) -> np.ndarray:
    parts = [
        clip.image_embeddings(torch.stack([clip.preprocess(p) for p in pictures[i : i + 256]]))
        for i in range(0, len(pictures), 256)
    ]
    joined = np.concatenate(parts)
    return joined / np.linalg.norm(joined, axis=1, keepdims=True)


def test_the_file_is_small_and_says_what_it_is(folder: Path) -> None:
    path = folder / f"{NAME}.safetensors"
    assert path.stat().st_size <= 8_000_000
    with safe_open(path, framework="pt") as file:
        notes = file.metadata()
    assert notes["title"] == "self-trained demo weights"
    assert "does not reproduce the paper's gain" in notes["note"]


def test_every_weight_has_its_place_and_every_place_its_weight(
    folder: Path, model: nn.Module
) -> None:
    with safe_open(folder / f"{NAME}.safetensors", framework="pt") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    assert shapes == {name: tuple(value.shape) for name, value in model.state_dict().items()}


def test_neither_final_map_is_square(clip: Clip) -> None:
    """So a transposition cannot pass unnoticed in any test that uses these weights."""
    for head in (clip.image_head, clip.text_head):
        assert head.weight.shape[0] != head.weight.shape[1]
    assert clip.spectrum.rank == clip.dim


def test_embeddings_equal_open_clips(model: nn.Module, clip: Clip, folder: Path) -> None:
    """The same picture and prompt, through open_clip's own methods: the same numbers."""
    prompts = ["a red star on a blue background", "a dotted fish at the top"]
    context_length = json.loads((folder / f"{NAME}.json").read_text())["text_cfg"]["context_length"]
    tokens = WordTokenizer.read(folder / f"{NAME}-words.txt", context_length)(prompts)
    pixels = torch.stack([clip.preprocess(render_scene(seed, 96).image) for seed in range(4)])
    with torch.no_grad():
        images, texts = model.encode_image(pixels), model.encode_text(tokens)
    np.testing.assert_allclose(clip.image_embeddings(pixels), images.numpy(), atol=1e-4)
    np.testing.assert_allclose(clip.text_embeddings(prompts), texts.numpy(), atol=1e-4)


def test_words_it_never_saw_are_said(clip: Clip) -> None:
    assert clip.unknown_words(["a red bicycle", "a photo of a star"]) == ["bicycle"]


def test_edited_copies_of_unseen_scenes_find_their_originals(clip: Clip) -> None:
    """24 originals among 200 scenes, every kind of near copy: most are nearest to their own."""
    scenes = [render_scene(UNSEEN + row, 128).image for row in range(200)]
    gallery = _embed(clip, scenes)
    copies = [edit_image(scenes[row], kind, row) for kind in EDITS for row in range(24)]
    nearest = (_embed(clip, copies) @ gallery.T).argmax(axis=1).reshape(len(EDITS), 24)
    assert (nearest == np.arange(24)).mean() >= RECALL_ON_SCENES


def test_the_caption_side_was_trained_too(clip: Clip) -> None:
    """Which of twelve colours does an unseen object have? Guessing would be right one in twelve."""
    scenes = [render_scene(UNSEEN + 1000 + row, 96) for row in range(240)]
    images = _embed(clip, [scene.image for scene in scenes])
    right = 0
    for image, scene in zip(images, scenes, strict=True):
        texts = clip.text_embeddings([f"a {c} {scene.attributes['object']}" for c in COLOURS])
        texts /= np.linalg.norm(texts, axis=1, keepdims=True)
        right += list(COLOURS)[int((texts @ image).argmax())] == scene.attributes["colour"]
    assert right / len(scenes) >= COLOURS_RIGHT


def test_the_claim_on_real_photographs(clip: Clip, shared_data: Path) -> None:
    """Mean recall@1 over 22 attacks on 60 photographs among 600 others is at least 0.80."""
    home = shared_data / "copies_clothing_cc0"
    with (home / "groups.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    groups = np.array([int(row["group"]) for row in rows])
    attacks = np.array([row["attack"] for row in rows])
    unit = _embed(clip, [Image.open(home / row["file"]).convert("RGB") for row in rows])
    in_gallery = np.isin(attacks, ["original", "distractor"])
    nearest = groups[in_gallery][(unit @ unit[in_gallery].T).argmax(axis=1)]
    kinds = sorted(set(attacks[~in_gallery]))
    recall = [(nearest == groups)[attacks == kind].mean() for kind in kinds]
    assert len(kinds) == 22
    assert np.mean(recall) >= 0.80
