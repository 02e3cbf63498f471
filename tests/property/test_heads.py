"""For towers of any widths, with any band: folding is mapping, and no transposition hides."""

from __future__ import annotations

import numpy as np
import open_clip
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fiftyone_isoclip.encoder import Clip
from fiftyone_isoclip.encoder.checkpoints import Checkpoint
from fiftyone_isoclip.projector import Band

_MADE_HERE = Checkpoint("made here", "made here", "made here")


def build(vision_width, text_width, dim, text_bias):
    torch.manual_seed(0)
    vision = {"image_size": 16, "patch_size": 8, "width": vision_width, "head_width": 8}
    text = {"context_length": 6, "vocab_size": 50, "width": text_width, "heads": 2, "layers": 1}
    model = open_clip.CustomTextCLIP(
        dim, vision | {"layers": 1}, text | {"proj_bias": text_bias, "pool_type": "last"}
    )
    open_clip.set_model_preprocess_cfg(model, open_clip.transform.PreprocessCfg(16).__dict__)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_a_folded_model_is_the_plain_one_mapped(data):
    vision_width = data.draw(st.sampled_from([8, 16, 24, 40]))
    text_width = data.draw(st.sampled_from([4, 12, 20, 32]))
    dim = data.draw(st.integers(2, 36))
    model = build(vision_width, text_width, dim, data.draw(st.booleans()))
    pixels = torch.randn(3, 3, 16, 16)
    with torch.inference_mode():
        expected = model.encode_image(pixels, normalize=False).numpy()
    clip = Clip(model, _MADE_HERE, torch.device("cpu"), "float32")
    plain = clip.image_embeddings(pixels)
    np.testing.assert_allclose(plain, expected, atol=1e-5 * np.abs(expected).max())
    top = data.draw(st.integers(0, clip.spectrum.rank - 1))
    band = Band(top, data.draw(st.integers(0, clip.spectrum.rank - 1 - top)))
    folded = clip.folded(band).image_embeddings(pixels)
    mapped = clip.isoclip(band)(plain)
    lengths = np.linalg.norm(folded, axis=1, keepdims=True)
    # What is left of an embedding can be as small as the rounding of what was taken away.
    tolerance = 1e-6 * clip.image_head.condition * np.linalg.norm(plain, axis=1) / lengths[:, 0]
    assert (np.abs(folded / lengths - mapped).max(axis=1) <= 1e-5 + tolerance).all()
