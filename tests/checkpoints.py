"""A real checkpoint file for tests: a small open_clip model with random weights and CLIP's words."""

from __future__ import annotations

from pathlib import Path

import open_clip
from safetensors.torch import save_file

from tests import small_models

ARCHITECTURE = "small-vit"
_TEXT = {"context_length": 77, "vocab_size": 49408, "width": 40, "heads": 4, "layers": 2}


def register_architecture(folder: Path, **changes: object) -> str:
    """Make the architecture known to open_clip, in this process."""
    if ARCHITECTURE in open_clip.list_models():
        return ARCHITECTURE
    return small_models.register("vit", folder, text_cfg=_TEXT, **changes)


def write_checkpoint(folder: Path, seed: int = 0) -> str:
    """Write weights drawn with a seed; -> the name by which the checkpoint is loaded."""
    architecture = register_architecture(folder)
    path = folder / f"weights-{seed}.safetensors"
    save_file(small_models.build(architecture, seed).state_dict(), path)
    return f"{architecture}/{path}"
