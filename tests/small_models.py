"""Real open_clip models of every class, small enough for a test: random weights, odd dims."""

from __future__ import annotations

import copy
import json

import open_clip
import torch

IMAGE_SIDE = 32
DIM = 24

_TEXT = {"context_length": 12, "vocab_size": 300, "width": 40, "heads": 4, "layers": 2}
_VIT = {"image_size": IMAGE_SIDE, "patch_size": 16, "width": 64, "head_width": 32, "layers": 2}


def _timm(name, pool="", projection=None, side=IMAGE_SIDE):
    return {
        "timm_model_name": name,
        "timm_pool": pool,
        "timm_proj": projection,
        "image_size": side,
    }


def _config(vision, dim=DIM, **changes):
    text = _TEXT | changes.pop("text", {})
    return {"embed_dim": dim, "vision_cfg": vision, "text_cfg": text, **changes}


CONFIGS = {
    "vit": _config(_VIT, text={"vocab_size": 49408}),  # that of open_clip's own tokenizer
    "vit-wide": _config(_VIT, dim=80),
    "coca": _config(
        _VIT
        | {"attentional_pool": True, "output_tokens": True}
        | {"attn_pooler_queries": 4, "attn_pooler_heads": 4},
        text={"embed_cls": True, "output_tokens": True},
        custom_text=True,
        multimodal_cfg={**_TEXT, "attn_pooler_heads": 4},
    ),
    "resnet": _config({"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32}),
    "timm-proj": _config(_timm("convnext_atto", projection="linear")),
    "timm-mlp": _config(_timm("convnext_atto", projection="mlp")),
    "timm-token": _config(_timm("eva02_tiny_patch14_224", "token", side=224), custom_text=True),
    "timm-pool": _config(_timm("vit_tiny_patch16_224", "map", side=224), custom_text=True),
    "timm-fc": _config(_timm("fastvit_t8", "avg", side=64), custom_text=True),
    "siglip": _config(
        _timm("vit_tiny_patch16_224", "map", "none", side=224),
        dim=192,
        text={"proj_bias": True, "pool_type": "last", "no_causal_mask": True},
        custom_text=True,
    ),
    "text-unprojected": _config(_VIT, dim=40, text={"proj_type": "none"}, custom_text=True),
}
"""One of each way in which open_clip ends a tower; no head is square but the identities."""


def register(name, folder, *, called="small", **changes):
    """Make a shrunk configuration known to open_clip; -> the architecture's name.

    open_clip keeps the first of a name in this process: changes need a name of their own.
    """
    architecture = f"{called}-{name}"
    assert called != "small" or not changes
    config = copy.deepcopy(CONFIGS[name]) | changes
    (folder / f"{architecture}.json").write_text(json.dumps(config))
    if architecture not in open_clip.list_models():
        open_clip.add_model_config(folder / f"{architecture}.json")
    return architecture


def build(architecture, seed=0):
    """A model with random weights and biases, none of them left at the zeros they start with."""
    torch.manual_seed(seed)
    model = open_clip.create_model(architecture, load_weights=False, pretrained_text=False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def pixels(model, n=5, seed=1):
    """Preprocessed noise of the size the model takes: (n, 3, h, w)."""
    side = open_clip.get_model_preprocess_cfg(model)["size"]
    height, width = (side, side) if isinstance(side, int) else side
    return torch.randn(n, 3, height, width, generator=torch.Generator().manual_seed(seed))


def tokens(model, n=5, seed=1):
    """Random prompts that end in the highest number: (n, context length)."""
    draws = torch.Generator().manual_seed(seed)
    prompts = torch.randint(3, 290, (n, model.context_length), generator=draws)
    prompts[:, -1] = 299
    return prompts
