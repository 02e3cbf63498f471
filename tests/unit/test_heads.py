"""Where all of open_clip's 144 configurations keep their final maps, built without any weights."""

from __future__ import annotations

import copy
import json
from collections import Counter

import open_clip
import pytest
import torch

from fiftyone_isoclip.encoder.heads import locate_image_head, locate_text_head, take_head
from fiftyone_isoclip.errors import CheckpointError
from tests import small_models

NATIVE_TEXT = {"width": 64, "heads": 4, "vocab_size": 300}

# Their text towers are Hugging Face models whose own configuration lies on the hub.
HUB_TEXT = {
    "coca_roberta-ViT-B-32": "linear",
    "nllb-clip-base": "linear",
    "nllb-clip-base-siglip": "linear",
    "nllb-clip-large": "linear",
    "nllb-clip-large-siglip": "linear",
    "mt5-base-ViT-B-32": "mlp",
    "mt5-xl-ViT-H-14": "mlp",
    "roberta-ViT-B-32": "mlp",
    "xlm-roberta-base-ViT-B-32": "mlp",
    "xlm-roberta-large-ViT-H-14": "mlp",
}


def ending(model, location):
    """A located head as (kind, path, bias, in == r), or just its kind for an identity."""
    if location.kind == "identity":
        return ("identity",)
    parent, _, name = location.path.rpartition(".")
    found = getattr(model.get_submodule(parent), name)
    matrix = found if isinstance(found, torch.nn.Parameter) else found.weight
    bias = getattr(found, "bias", None) is not None
    return location.kind, location.path, bias, matrix.shape[0] == matrix.shape[1]


def shallow(config):
    """The same towers with one layer each, which ends them in the same way."""
    depth = {list: [1, 1, 1, 1], int: 1}
    vision, text = dict(config["vision_cfg"]), dict(config["text_cfg"])
    if "timm_model_name" not in vision:
        vision["layers"] = depth[type(vision["layers"])]
    if "hf_model_name" in text:
        text = NATIVE_TEXT | {"output_tokens": text.get("output_tokens", False)}
    return {"vision_cfg": vision, "text_cfg": text | {"layers": 1}}


@pytest.fixture(scope="module")
def endings():
    """name -> (image ending, text ending or None where the hub is needed), nothing downloaded."""
    found = {}
    for name in open_clip.list_models():
        config = open_clip.get_model_config(name)
        if name.startswith("small-") or name == "isoclip-demo":
            continue  # registered by other tests, not shipped with open_clip
        with torch.device("meta"):
            model = open_clip.create_model(
                name, load_weights=False, device="meta", **shallow(config)
            )
        needs_hub = "hf_model_name" in config["text_cfg"]
        text = None if needs_hub else ending(model, locate_text_head(model))
        found[name] = ending(model, locate_image_head(model)), text
    return found


def test_every_configuration_of_open_clip_is_walked(endings):
    assert len(endings) == 144


def test_every_image_head_is_found(endings):
    found = Counter(image[:3] for image, _ in endings.values())
    assert found == {
        ("parameter", "visual.proj", False): 56,
        ("functional", "visual.attnpool.c_proj", True): 10,
        ("linear", "visual.head.proj", False): 27,
        ("linear", "visual.head.mlp.fc2", False): 2,
        ("linear", "visual.trunk.head", True): 15,
        ("linear", "visual.trunk.head.fc", True): 6,
        ("identity",): 28,
    }


def test_every_text_head_is_found_or_named_as_needing_the_hub(endings):
    found = Counter(text and text[:3:2] for _, text in endings.values())
    assert found == {("parameter", False): 108, ("linear", True): 25, ("identity",): 1, None: 10}
    assert {name for name, (_, text) in endings.items() if text is None} == set(HUB_TEXT)


def test_most_text_heads_are_square_so_that_a_transposition_would_hide(endings):
    known = [text for _, text in endings.values() if text is not None]
    assert sum(text == ("identity",) or text[3] for text in known) > 100


def test_hub_text_towers_end_as_their_configurations_say():
    for name, end in HUB_TEXT.items():
        config = open_clip.get_model_config(name)["text_cfg"]
        assert open_clip.CLIPTextCfg(**config).hf_proj_type == end


@pytest.mark.parametrize(("end", "path"), [("linear", "text.proj"), ("mlp", "text.proj.2")])
@pytest.mark.parametrize("family", ["roberta", "xlm-roberta", "mt5", "m2m_100"])
def test_hugging_face_text_heads_are_taken_out(family, end, path, tmp_path):
    transformers = pytest.importorskip("transformers", reason="Hugging Face towers need it")
    width = {"mt5": "d_model", "m2m_100": "d_model"}.get(family, "hidden_size")
    sizes = {width: 32, "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": 300}
    transformers.AutoConfig.for_model(family, **sizes).save_pretrained(tmp_path / family)
    text = {"hf_model_name": str(tmp_path / family), "hf_proj_type": end}
    text["hf_pooler_type"] = "cls_pooler" if family == "m2m_100" else "mean_pooler"
    config = copy.deepcopy(small_models.CONFIGS["vit"]) | {"text_cfg": text}
    architecture = f"small-{family}-{end}"
    (tmp_path / f"{architecture}.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / f"{architecture}.json")
    model = small_models.build(architecture)
    tokens = torch.randint(3, 290, (4, 8), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = model.encode_text(tokens, normalize=False)
        location = locate_text_head(model)
        head = take_head(model, location)
        features = model.encode_text(tokens, normalize=False)
    assert (location.kind, location.path) == ("linear", path)
    torch.testing.assert_close(features @ torch.from_numpy(head.weight).float().T, expected)


def test_an_unknown_ending_is_refused_and_not_guessed(tmp_path):
    model = small_models.build(small_models.register("timm-proj", tmp_path))
    model.visual.head = torch.nn.Sequential(torch.nn.GELU())
    with pytest.raises(CheckpointError, match="image tower of this CLIP ends in a way"):
        locate_image_head(model)
    del model.text_projection
    model.text_projection = torch.nn.Bilinear(2, 2, 2)
    with pytest.raises(CheckpointError, match="text tower"):
        locate_text_head(model)


def test_an_identity_is_said_plainly(tmp_path):
    model = small_models.build(small_models.register("siglip", tmp_path))
    location = locate_image_head(model)
    assert location.kind == "identity"
    assert take_head(model, location) is None
