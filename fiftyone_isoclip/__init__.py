"""IsoCLIP for FiftyOne: CLIP embeddings made for comparing images with images.

Public names are loaded on first use, so that `import fiftyone_isoclip` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fiftyone_isoclip.dataset import (
        build_similarity,
        embed,
        find_clusters,
        find_duplicates,
        find_similar,
        load_model,
        register,
        upgrade,
    )
    from fiftyone_isoclip.encoder import find_checkpoint, list_checkpoints, load_clip
    from fiftyone_isoclip.errors import IsoClipError
    from fiftyone_isoclip.index import CosineIndex
    from fiftyone_isoclip.projector import Band, EmbeddingMap, Head, Spectrum

__version__ = "0.1.0"

__all__ = [
    "Band",
    "CosineIndex",
    "EmbeddingMap",
    "Head",
    "IsoClipError",
    "Spectrum",
    "__version__",
    "build_similarity",
    "embed",
    "find_checkpoint",
    "find_clusters",
    "find_duplicates",
    "find_similar",
    "list_checkpoints",
    "load_clip",
    "load_model",
    "register",
    "upgrade",
]

_HOMES = {
    "dataset": (
        "build_similarity",
        "embed",
        "find_clusters",
        "find_duplicates",
        "find_similar",
        "load_model",
        "register",
        "upgrade",
    ),
    "encoder": ("find_checkpoint", "list_checkpoints", "load_clip"),
    "errors": ("IsoClipError",),
    "index": ("CosineIndex",),
    "projector": ("Band", "EmbeddingMap", "Head", "Spectrum"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
