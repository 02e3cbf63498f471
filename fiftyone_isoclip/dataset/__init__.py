"""FiftyOne samples: the zoo model, stored embeddings, the Brain backend, fields, views and runs.

Names are loaded on first use: registering with FiftyOne must not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "ClusterReport": "clusters",
    "DEFAULT_KEEPER_RULE": "duplicates",
    "DEFAULT_SIMILARITY": "duplicates",
    "DuplicateReport": "groups",
    "EmbedReport": "embeddings",
    "FaissSimilarityConfig": "similarity",
    "FaissSimilarityIndex": "similarity",
    "IndexChanges": "similarity_changes",
    "IsoClipModel": "model",
    "KEEPER_RULES": "duplicates",
    "SavedRun": "runs",
    "SimilarReport": "search",
    "UpgradeReport": "upgrades",
    "build_similarity": "similarity_runs",
    "delete_run": "runs",
    "embed": "embeddings",
    "find_changes": "similarity_changes",
    "find_clusters": "clusters",
    "find_duplicates": "duplicates",
    "find_similar": "search",
    "list_runs": "runs",
    "load_duplicates": "groups",
    "load_model": "model",
    "load_run": "runs",
    "register": "zoo",
    "upgrade": "upgrades",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
