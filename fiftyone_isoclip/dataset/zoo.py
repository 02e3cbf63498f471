"""Names in FiftyOne's model zoo and in its Brain, known without any environment variable.

`python -m fiftyone_isoclip.dataset.zoo` prints `manifest.json` anew from the checkpoints table.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob
import fiftyone.zoo.models as fozm

MANIFEST = Path(__file__).with_name("manifest.json")

GENERAL_NAME = "isoclip"
"""The zoo name for any other checkpoint: `load_zoo_model("isoclip", checkpoint=...)`.

Beware: the App's search by an uploaded image loads a model by its name alone.
"""

BACKEND = "faiss"


def register() -> None:
    """Make the zoo models and the `faiss` similarity backend known to this process; idempotent.

    Must stay light: the App's server calls it on every operator request.
    """
    paths = list(fo.config.model_zoo_manifest_paths or [])
    if str(MANIFEST) not in paths:
        fo.config.model_zoo_manifest_paths = [*paths, str(MANIFEST)]
        fozm._invalidate_zoo_models_manifest()
    backend = fob.brain_config.similarity_backends.setdefault(BACKEND, {})
    backend.setdefault("config_cls", "fiftyone_isoclip.dataset.similarity.FaissSimilarityConfig")


def manifest() -> dict[str, Any]:
    """What `manifest.json` must hold: one zoo name a checkpoint, and the general one."""
    from fiftyone_isoclip.encoder import list_checkpoints

    entries = [
        _entry(
            checkpoint.name,
            f"CLIP {checkpoint.architecture} ({Path(checkpoint.pretrained).stem}) with IsoCLIP's "
            "image projector, for comparing images with images",
            {"checkpoint": checkpoint.name},
        )
        for checkpoint in list_checkpoints()
    ]
    general = "Any open_clip checkpoint with IsoCLIP's image projector; needs checkpoint=..."
    return {"models": [*entries, _entry(GENERAL_NAME, general, {})]}


def _entry(name: str, description: str, config: dict[str, str]) -> dict[str, Any]:
    support = {"support": True}
    return {
        "base_name": name,
        "base_filename": None,
        "version": None,
        "description": description,
        "size_bytes": None,
        "default_deployment_config_dict": {
            "type": "fiftyone_isoclip.dataset.model.IsoClipModel",
            "config": config,
        },
        "requirements": {
            "packages": ["torch", "torchvision", "open_clip_torch"],
            "cpu": support,
            "gpu": support,
        },
        "tags": ["embeddings", "clip", "isoclip", "torch"],
        "date_added": "2026-01-01 00:00:00",
    }


if __name__ == "__main__":
    print(json.dumps(manifest(), indent=2))
