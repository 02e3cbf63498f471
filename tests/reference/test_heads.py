"""Every way open_clip ends a tower, on real small models, against open_clip and the paper."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from fiftyone_isoclip.encoder import Clip
from fiftyone_isoclip.encoder.checkpoints import Checkpoint
from fiftyone_isoclip.encoder.heads import locate_image_head, locate_text_head, take_head
from fiftyone_isoclip.projector import Band, Head, Spectrum
from tests import small_models
from tests.reference.paper import append_bias, append_one, cosines, rewritten_projectors

BAND = Band(3, 2)

IMAGE_ENDS = {
    "vit": ("parameter", "visual.proj"),
    "vit-wide": ("parameter", "visual.proj"),
    "coca": ("parameter", "visual.proj"),
    "resnet": ("functional", "visual.attnpool.c_proj"),
    "timm-proj": ("linear", "visual.head.proj"),
    "timm-mlp": ("linear", "visual.head.mlp.fc2"),
    "timm-token": ("linear", "visual.trunk.head"),
    "timm-pool": ("linear", "visual.trunk.head"),
    "timm-fc": ("linear", "visual.trunk.head.fc"),
    "siglip": ("identity", ""),
    "text-unprojected": ("parameter", "visual.proj"),
}
TEXT_ENDS = {
    **dict.fromkeys(IMAGE_ENDS, ("parameter", "text.text_projection")),
    **dict.fromkeys(
        ("vit", "vit-wide", "resnet", "timm-proj", "timm-mlp"), ("parameter", "text_projection")
    ),
    "siglip": ("linear", "text.text_projection"),
    "text-unprojected": ("identity", ""),
}
BIASED_IMAGE_HEADS = {"resnet", "timm-token", "timm-pool", "timm-fc"}
SQUARE_IMAGE_HEADS = {"coca", "siglip"}  # CoCa pools into the embedding dim, SigLIP has none


class Ends:
    """One model's embeddings as open_clip gives them, and the features left without the heads."""

    def __init__(self, name, folder):
        self.architecture = small_models.register(name, folder)
        self.model = small_models.build(self.architecture)
        self.pixels = small_models.pixels(self.model)
        self.tokens = small_models.tokens(self.model)
        self.plain = self._encode(self.model)
        bare = copy.deepcopy(self.model)
        self.image_location, self.text_location = locate_image_head(bare), locate_text_head(bare)
        self.image, self.text = (
            take_head(bare, self.image_location),
            take_head(bare, self.text_location),
        )
        self.features = self._encode(bare)

    def _encode(self, model):
        with torch.inference_mode():
            return (
                model.encode_image(self.pixels, normalize=False).double().numpy(),
                model.encode_text(self.tokens, normalize=False).double().numpy(),
            )

    def clip(self, precision="float32"):
        checkpoint = Checkpoint(self.architecture, self.architecture, "made here")
        model = copy.deepcopy(self.model)
        return Clip(model, checkpoint, torch.device("cpu"), precision)


@pytest.fixture(scope="module", params=sorted(IMAGE_ENDS))
def ends(request, tmp_path_factory):
    made = Ends(request.param, tmp_path_factory.mktemp("configs"))
    made.name = request.param
    return made


def applied(head, features):
    return append_one(features, head.bias) @ append_bias(head.weight, head.bias).T


def whole(head, features):
    return Head.identity(features.shape[1]) if head is None else head


def relative(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


def test_heads_are_found_where_open_clip_keeps_them(ends):
    found = ends.image_location
    assert (found.kind, found.path) == IMAGE_ENDS[ends.name]
    assert (ends.text_location.kind, ends.text_location.path) == TEXT_ENDS[ends.name]
    assert (ends.image is None) == (found.kind == "identity")
    assert (ends.image is not None and ends.image.bias is not None) == (
        ends.name in BIASED_IMAGE_HEADS
    )
    if ends.name not in SQUARE_IMAGE_HEADS:
        assert ends.image.weight.shape[0] != ends.image.weight.shape[1]


def test_a_head_times_what_is_left_of_the_tower_is_the_embedding(ends):
    for head, features, plain in zip(
        (ends.image, ends.text), ends.features, ends.plain, strict=True
    ):
        assert relative(applied(whole(head, features), features), plain) < 1e-5


def test_mapping_an_embedding_is_rewriting_the_projector(ends):
    """M e = theta z~, with theta from the paper's equations and z from the real tower."""
    heads = [whole(h, z) for h, z in zip((ends.image, ends.text), ends.features, strict=True)]
    thetas = rewritten_projectors(
        *(append_bias(head.weight, head.bias) for head in heads), BAND.drop_top, BAND.drop_bottom
    )[:2]
    maps = Spectrum.between(*heads).rewrite(BAND)
    for head, theta, mapped, features, plain in zip(
        heads, thetas, maps, ends.features, ends.plain, strict=True
    ):
        expected = append_one(features, head.bias) @ theta.T
        assert relative(plain @ mapped.oblique.T, expected) < 2e-5
        assert np.abs(cosines(mapped(plain), mapped(plain)) - cosines(expected, expected)).max() < (
            1e-4 if ends.name == "resnet" else 1e-5
        )


def test_clip_hands_out_open_clips_embeddings(ends):
    clip = ends.clip()
    assert relative(clip.image_embeddings(ends.pixels), ends.plain[0]) < 1e-5
    assert clip.dim == ends.plain[0].shape[1]
    assert relative(clip._texts(ends.tokens), ends.plain[1]) < 1e-5


def test_a_folded_model_gives_what_two_steps_give(ends):
    clip = ends.clip()
    folded = clip.folded(BAND)
    two_steps = clip.isoclip(BAND)(clip.image_embeddings(ends.pixels))
    one_step = folded.image_embeddings(ends.pixels)
    assert one_step.shape == two_steps.shape
    assert folded.dim == BAND.count(clip.spectrum.rank)
    one_step /= np.linalg.norm(one_step, axis=1, keepdims=True)
    assert np.abs(one_step - two_steps).max() < 1e-5
    assert folded.fingerprint != clip.fingerprint
    assert np.array_equal(folded._texts(ends.tokens), clip._texts(ends.tokens))


def test_half_precision_towers_stay_close(ends):
    """bf16 towers keep every embedding within 1 - cos <= 2e-3 of float32 (8 bits of mantissa)."""
    whole_precision = ends.clip().image_embeddings(ends.pixels)
    half = ends.clip("bf16").image_embeddings(ends.pixels)
    assert half.dtype == np.float32
    agreement = np.diag(cosines(half, whole_precision))
    assert (1 - agreement).max() < 2e-3, agreement
