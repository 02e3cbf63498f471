"""A real checkpoint file for tests: a small open_clip model, random weights, CLIP's words."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
from safetensors.torch import save_file

from tests import small_models

ARCHITECTURE = "small-worded"
_TEXT = {"context_length": 77, "vocab_size": 49408, "width": 40, "heads": 4, "layers": 2}


def register_architecture(folder: Path) -> str:
    """Make the architecture known to open_clip, in this process."""
    if ARCHITECTURE not in open_clip.list_models():
        path = folder / f"{ARCHITECTURE}.json"
        path.write_text(json.dumps(small_models.CONFIGS["vit"] | {"text_cfg": _TEXT}))
        open_clip.add_model_config(path)
    return ARCHITECTURE


def write_checkpoint(folder: Path, seed: int = 0) -> str:
    """Write weights drawn with a seed; -> the name by which the checkpoint is loaded."""
    architecture = register_architecture(folder)
    path = folder / f"weights-{seed}.safetensors"
    save_file(small_models.build(architecture, seed).state_dict(), path)
    return f"{architecture}/{path}"
