"""Names of checkpoints, the bands that belong to them, and everything wrong with their files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from fiftyone_isoclip.encoder import find_checkpoint, list_checkpoints, load_clip
from fiftyone_isoclip.encoder.checkpoints import unpublished_band
from fiftyone_isoclip.encoder.weights import open_model
from fiftyone_isoclip.errors import CheckpointError
from fiftyone_isoclip.projector import Band, Head, Spectrum
from tests import small_models

PUBLISHED = {
    "isoclip-vit-b-32-openai": ("ViT-B-32", "openai", "150/50", "20/100"),
    "isoclip-vit-b-16-openai": ("ViT-B-16", "openai", "200/50", "10/50"),
    "isoclip-vit-l-14-openai": ("ViT-L-14", "openai", "250/200", "10/300"),
    "isoclip-vit-b-32-datacomp-xl": ("ViT-B-32", "datacomp_xl_s13b_b90k", "50/50", None),
    "isoclip-vit-b-16-datacomp-xl": ("ViT-B-16", "datacomp_xl_s13b_b90k", "100/100", "2/150"),
    "isoclip-pe-core-b-16-meta": ("PE-Core-B-16", "meta", "300/50", None),
    "isoclip-vit-b-16-siglip2-webli": ("ViT-B-16-SigLIP2", "webli", "350/50", None),
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A small model's weights as safetensors; -> (architecture, file)."""
    folder = tmp_path_factory.mktemp("weights")
    architecture = small_models.register("vit", folder)
    file = folder / "model.safetensors"
    save_file(small_models.build(architecture).state_dict(), file)
    return architecture, file


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_the_published_bands_are_the_papers():
    known = {checkpoint.name: checkpoint for checkpoint in list_checkpoints()}
    assert known.keys() == PUBLISHED.keys() | {"isoclip-demo"}
    for name, (architecture, tag, image, text) in PUBLISHED.items():
        found = known[name]
        assert (found.architecture, found.pretrained) == (architecture, tag)
        assert str(found.image_band) == image
        assert found.text_band == (text and Band.parse(text))
        assert "2603.19862" in found.source
        assert open_clip.is_pretrained_cfg(architecture, tag)


@pytest.mark.parametrize(
    "name",
    [
        "isoclip-vit-b-32-openai",
        "ISOCLIP-ViT-B-32-openai",
        "ViT-B-32/openai",
        "ViT-B-32-quickgelu/openai",
    ],
)
def test_every_way_to_write_a_published_checkpoint_finds_it(name):
    assert find_checkpoint(name).name == "isoclip-vit-b-32-openai"


def test_a_tag_may_be_written_with_dashes():
    assert find_checkpoint("ViT-B-16/datacomp-xl-s13b-b90k").image_band == Band(100, 100)


def test_other_names_of_open_clip_have_no_published_band():
    found = find_checkpoint("ViT-B-32/laion2b_s34b_b79k")
    assert (found.architecture, found.pretrained) == ("ViT-B-32", "laion2b_s34b_b79k")
    assert found.image_band is None
    assert "tune" in found.note.lower()
    hub = find_checkpoint("hf-hub:some/model")
    assert (hub.architecture, hub.pretrained) == ("hf-hub:some/model", "")


def test_a_file_is_found_behind_the_first_slash(weights):
    architecture, file = weights
    found = find_checkpoint(f"{architecture}/{file}")
    assert (found.architecture, Path(found.pretrained)) == (architecture, file)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("isoclip-vit-b-32-openia", "did you mean isoclip-vit-b-32-openai"),
        ("ViT-B32/openai", "did you mean .*ViT-B-32/openai"),
        ("ViT-B-32/opnai", "did you mean openai"),
        ("ViT-B-32/no/such/file.pt", "neither a tag of ViT-B-32 nor an existing file"),
        ("ViT-B-32", "without weights.*ViT-B-32/openai"),
        ("", "no checkpoint is called ''"),
    ],
)
def test_unknown_names_get_a_suggestion(name, sentence):
    with pytest.raises(CheckpointError, match=sentence):
        find_checkpoint(name)


def test_without_a_published_band_the_top_is_cautious_and_the_bottom_the_spectrums():
    values = np.concatenate([np.linspace(1.0, 0.8, 90), np.linspace(0.5, 0.1, 10)])
    spectrum = Spectrum.between(Head(np.diag(values)), Head(np.eye(100)))
    assert unpublished_band(spectrum, "image") == Band(5, 10)
    assert unpublished_band(spectrum, "text") == Band(1, 10)


def test_weights_are_read_from_safetensors_and_from_a_state_dict(weights, tmp_path):
    architecture, file = weights
    pickled = tmp_path / "odd name ü.pt"
    torch.save({"state_dict": load_file(file)}, pickled)
    expected = small_models.build(architecture).state_dict()
    for found in (file, pickled):
        loaded = open_model(find_checkpoint(f"{architecture}/{found}"))
        assert not loaded.training
        assert all(torch.equal(loaded.state_dict()[key], expected[key]) for key in expected)


def test_a_tags_activation_and_preprocessing_are_used(weights, monkeypatch):
    """OpenAI's weights want QuickGELU; open_clip itself would only warn."""
    architecture, file = weights
    tag = {"file": str(file), "quick_gelu": True, "mean": (0.5, 0.5, 0.5), "resize_mode": "squash"}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, architecture, {"own": tag})
    clip = load_clip(f"{architecture}/own", device="cpu", precision="float32")
    oracle = open_clip.create_model(architecture, pretrained=str(file), force_quick_gelu=True)
    pixels = small_models.pixels(oracle)
    with torch.inference_mode():
        expected = oracle.eval().encode_image(pixels).numpy()
    np.testing.assert_allclose(clip.image_embeddings(pixels), expected, atol=1e-5)
    assert "Resize(size=(32, 32)" in str(clip.preprocess)
    assert "mean=(0.5, 0.5, 0.5)" in str(clip.preprocess)


@pytest.mark.parametrize(
    "name", ["ViT-B-32/openai", "hf-hub:laion/CLIP-ViT-B-32-laion2B-s34B-b79K"]
)
def test_an_unreachable_hub_is_explained_with_the_remedy(name, offline):
    with pytest.raises(CheckpointError, match=r"could not be fetched.*ARCHITECTURE/PATH"):
        load_clip(name)


def test_a_local_folder_brings_its_own_architecture(weights, tmp_path):
    config = {"model_cfg": small_models.CONFIGS["vit"], "preprocess_cfg": {"mean": [0.5] * 3}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    (tmp_path / "open_clip_model.safetensors").write_bytes(weights[1].read_bytes())
    clip = load_clip(f"local-dir:{tmp_path}", device="cpu", precision="float32")
    oracle = small_models.build(weights[0])
    pixels = small_models.pixels(oracle)
    with torch.inference_mode():
        expected = oracle.encode_image(pixels).numpy()
    np.testing.assert_allclose(clip.image_embeddings(pixels), expected, atol=1e-5)
    assert clip.text_embeddings(["a dog"]).shape == (1, clip.dim)
