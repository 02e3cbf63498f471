"""The model as the floors above see it: names in, float32 embeddings and maps out."""

from __future__ import annotations

import logging

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from fiftyone_isoclip.demo.scenes import render_scene
from fiftyone_isoclip.encoder import load_clip
from fiftyone_isoclip.encoder.devices import choose_device, choose_precision
from fiftyone_isoclip.errors import BandError, CheckpointError, IsoClipError
from fiftyone_isoclip.projector import WHOLE, Band, Spectrum
from tests import small_models

BAND = Band(4, 3)
LOGGER = "fiftyone_isoclip.encoder"


@pytest.fixture(scope="module")
def name(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    architecture = small_models.register("vit", folder)
    save_file(small_models.build(architecture).state_dict(), folder / "model.safetensors")
    return f"{architecture}/{folder / 'model.safetensors'}"


@pytest.fixture(scope="module")
def oracle(name):
    """open_clip's own model with the same weights."""
    architecture, _, file = name.partition("/")
    return open_clip.create_model(architecture, pretrained=file).eval()


@pytest.fixture
def clip(name):
    return load_clip(name, device="cpu", precision="float32")


def test_embeddings_are_open_clips_from_the_same_file(clip, oracle):
    pixels = small_models.pixels(oracle, n=6)
    prompts = [f"a photo of {n} dogs" for n in range(300)]
    with torch.inference_mode():
        images = oracle.encode_image(pixels).numpy()
        texts = oracle.encode_text(open_clip.get_tokenizer("small-vit")(prompts)).numpy()
    found = clip.image_embeddings(pixels)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, images, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(clip.text_embeddings(prompts), texts, rtol=1e-5, atol=1e-5)
    assert np.array_equal(clip.text_embeddings("a dog"), clip.text_embeddings(["a dog"]))
    assert clip.unknown_words(["a qwertyuiop"]) == []


def test_preprocessing_is_open_clips_own(clip):
    _, _, theirs = open_clip.create_model_and_transforms("small-vit")
    picture = Image.effect_mandelbrot((80, 50), (-2, -1, 1, 1), 90).convert("RGB")
    assert torch.equal(clip.preprocess(picture), theirs(picture))


def test_nothing_in_nothing_out(clip):
    assert clip.image_embeddings(torch.empty(0, 3, 32, 32)).shape == (0, clip.dim)
    assert clip.text_embeddings([]).shape == (0, clip.dim)


def test_the_batch_size_changes_nothing(clip, oracle):
    pixels = small_models.pixels(oracle, n=12)
    together = clip.image_embeddings(pixels)
    apart = np.concatenate([clip.image_embeddings(pixels[row : row + 1]) for row in range(12)])
    assert np.abs(together - apart).max() <= 1e-5 * np.abs(together).max()


def test_half_precision_is_close_and_still_float32(name, clip, oracle):
    """A bf16 tower, with 8 bits of mantissa, turns an embedding by 1 - cos <= 1e-3 at most."""
    pixels = small_models.pixels(oracle, n=12)
    half = load_clip(name, device="cpu", precision="bf16").image_embeddings(pixels)
    whole = clip.image_embeddings(pixels)
    assert half.dtype == np.float32
    cosine = (half * whole).sum(1) / np.linalg.norm(half, axis=1) / np.linalg.norm(whole, axis=1)
    assert (1 - cosine).max() < 1e-3
    assert len(np.unique(half.view(np.uint32) & 0xFFFF)) > 1, "the final map ran in bf16"


def test_the_spectrum_is_that_of_the_two_heads(clip, oracle):
    image, text = (
        w.detach().double().numpy() for w in (oracle.visual.proj, oracle.text_projection)
    )
    expected = np.linalg.svd(image @ text.T, compute_uv=False)[:24]
    np.testing.assert_allclose(clip.spectrum.values, expected, rtol=1e-6)
    assert clip.spectrum is clip.spectrum


def test_maps_are_the_spectrums_and_are_kept(clip):
    expected = Spectrum.between(clip.image_head, clip.text_head).rewrite(BAND)
    np.testing.assert_allclose(clip.isoclip(BAND).matrix, expected[0].matrix)
    np.testing.assert_allclose(clip.isoclip_text(BAND).matrix, expected[1].matrix)
    assert clip.isoclip(BAND) is clip.isoclip(BAND)
    assert clip.isoclip().band == clip.image_band
    assert clip.isoclip_text().band == clip.text_band
    with pytest.raises(BandError, match="keeps none of 24"):
        clip.isoclip(Band(20, 20))


def test_the_whole_band_is_a_band_and_not_the_default(clip):
    assert clip.isoclip(WHOLE).band == WHOLE
    assert clip.folded(WHOLE).dim == clip.dim


def test_folding_shares_the_tower_and_leaves_the_original_alone(clip, oracle):
    pixels = small_models.pixels(oracle)
    before = clip.image_embeddings(pixels)
    folded = clip.folded(BAND)
    two_steps = clip.isoclip(BAND)(before)
    found = folded.image_embeddings(pixels)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    assert np.abs(found - two_steps).max() < 1e-5
    assert np.array_equal(clip.image_embeddings(pixels), before)
    assert (folded.dim, clip.dim) == (17, 24)
    assert (folded.band, clip.band) == (BAND, None)
    assert folded._images._encode.__self__ is clip._images._encode.__self__
    again = folded.folded(Band(1, 1))
    assert again.fingerprint == clip.folded(Band(1, 1)).fingerprint
    np.testing.assert_allclose(
        again.image_embeddings(pixels), clip.folded(Band(1, 1)).image_embeddings(pixels), atol=1e-6
    )


def test_a_fingerprint_belongs_to_the_weights(name, clip, tmp_path):
    architecture, _, file = name.partition("/")
    state = load_file(file)
    torch.save(state, tmp_path / "same.pt")
    assert load_clip(f"{architecture}/{tmp_path / 'same.pt'}").fingerprint == clip.fingerprint
    assert load_clip(name, precision="bf16").fingerprint == clip.fingerprint
    others = {clip.fingerprint, clip.folded(BAND).fingerprint, clip.folded(Band(1, 1)).fingerprint}
    for key in ("visual.proj", "text_projection", "visual.conv1.weight", "positional_embedding"):
        changed = {**state, key: state[key] + 0.01}
        save_file(changed, tmp_path / "other.safetensors")
        others.add(load_clip(f"{architecture}/{tmp_path / 'other.safetensors'}").fingerprint)
    assert len(others) == 7
    assert all(len(found) == 64 and int(found, 16) for found in others)


def test_the_device_is_said_once(name, caplog):
    with caplog.at_level(logging.INFO, logger=LOGGER):
        load_clip(name, device="cpu", precision="fp16")
        load_clip(name, device="cpu", precision="fp16")
    assert [r.getMessage() for r in caplog.records if r.name.startswith(LOGGER)] == [
        f"{name} on cpu, fp16"
    ]


def test_loading_leaves_the_root_logger_alone(name, monkeypatch):
    monkeypatch.setattr(logging.root, "handlers", [])
    load_clip(name, device="cpu")
    assert logging.root.handlers == []


def test_what_auto_means_here():
    device = choose_device()
    assert device.type == ("cuda" if torch.cuda.is_available() else device.type)
    assert choose_precision("auto", torch.device("mps")) == "float32"
    assert choose_precision("auto", torch.device("cpu")) in ("float32", "bf16")
    assert choose_precision("fp16", torch.device("cpu")) == "fp16"


@pytest.mark.parametrize(
    ("able", "expected"),
    [
        ({"avx512_bf16": True}, "bf16"),
        ({"amx_bf16": True}, "bf16"),
        ({"avx512_f": True}, "float32"),
    ],
)
def test_bf16_is_chosen_only_where_the_processor_has_it(able, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    assert choose_precision("auto", torch.device("cpu")) == expected


def test_an_older_torch_that_cannot_tell_means_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert choose_precision("auto", torch.device("cpu")) == "float32"


def test_a_device_or_precision_that_is_not_there_is_explained(name):
    with pytest.raises(IsoClipError, match="'tpu9' was asked for"):
        load_clip(name, device="tpu9")
    with pytest.raises(IsoClipError, match="choose auto, float32, bf16, fp16"):
        load_clip(name, precision="int8")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_that_is_not_there_is_explained(name):
    with pytest.raises(IsoClipError, match=r"'cuda' was asked for.*choose auto, which is"):
        load_clip(name, device="cuda")


def test_a_tokenizer_that_lies_on_the_hub_fails_on_use_only(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    text = dict(small_models.CONFIGS["vit"]["text_cfg"], hf_tokenizer_name="no/such-tokenizer")
    architecture = small_models.register("vit-wide", tmp_path, called="small-hub", text_cfg=text)
    model = small_models.build(architecture)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    clip = load_clip(f"{architecture}/{tmp_path / 'w.safetensors'}", precision="float32")
    assert clip.image_embeddings(small_models.pixels(model)).shape == (5, 80)
    with pytest.raises(CheckpointError, match=r"tokenizer of .* could not be opened"):
        clip.text_embeddings(["a dog"])


def test_the_demo_reads_prompts_and_tells_what_it_cannot_read():
    """It needs no network, and of twelve unseen scenes it knows most by their captions."""
    clip = load_clip("isoclip-demo", device="cpu", precision="float32")
    scenes = [render_scene(7_000_000 + seed, 96) for seed in range(12)]
    images = clip.image_embeddings(torch.stack([clip.preprocess(s.image) for s in scenes]))
    texts = clip.text_embeddings([scene.caption for scene in scenes])
    images, texts = (e / np.linalg.norm(e, axis=1, keepdims=True) for e in (images, texts))
    assert ((images @ texts.T).argmax(axis=1) == np.arange(12)).sum() >= 7
    assert clip.unknown_words(["a red circle and a unicorn"]) == ["unicorn"]
