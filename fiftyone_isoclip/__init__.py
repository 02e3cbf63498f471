"""IsoCLIP for FiftyOne: CLIP embeddings made for comparing images with images.

Public names are loaded on first use, so that `import fiftyone_isoclip` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from fiftyone_isoclip.dataset import (
        build_similarity,
        compare_spaces,
        compare_with_clip,
        embed,
        evaluate,
        find_clusters,
        find_duplicates,
        find_leaks,
        find_similar,
        fit_centre,
        guide_threshold,
        load_model,
        map_embeddings,
        name_cluster,
        name_clusters_by,
        refresh_similarity,
        register,
        tune_band,
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
    "compare_spaces",
    "compare_with_clip",
    "embed",
    "evaluate",
    "find_checkpoint",
    "find_clusters",
    "find_duplicates",
    "find_leaks",
    "find_similar",
    "fit_centre",
    "guide_threshold",
    "list_checkpoints",
    "load_clip",
    "load_model",
    "map_embeddings",
    "name_cluster",
    "name_clusters_by",
    "refresh_similarity",
    "register",
    "tune_band",
    "upgrade",
]

_HOMES = {
    "dataset": [
        "build_similarity",
        "compare_spaces",
        "compare_with_clip",
        "embed",
        "evaluate",
        "find_clusters",
        "find_duplicates",
        "find_leaks",
        "find_similar",
        "fit_centre",
        "guide_threshold",
        "load_model",
        "map_embeddings",
        "name_cluster",
        "name_clusters_by",
        "refresh_similarity",
        "register",
        "tune_band",
        "upgrade",
    ],
    "encoder": ["find_checkpoint", "list_checkpoints", "load_clip"],
    "errors": [
        "IsoClipError",
    ],
    "index": [
        "CosineIndex",
    ],
    "projector": ["Band", "EmbeddingMap", "Head", "Spectrum"],
}

__getattr__, __dir__, _ = lazy_loader.attach(__name__, submod_attrs=_HOMES)
