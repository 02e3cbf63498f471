"""Vectors: neighbours, exact pairs, groups, clusters and files on disk. Knows nothing of images."""

from __future__ import annotations

from fiftyone_isoclip.index.clusters import ClusterMethod, Clusters, cluster
from fiftyone_isoclip.index.duplicates import (
    DEFAULT_SIMILARITY,
    DuplicateGroup,
    group_duplicates,
    join_keepers,
)
from fiftyone_isoclip.index.limits import PAIR_LIMIT
from fiftyone_isoclip.index.neighbors import CosineIndex, Neighbors, Storage, check_storage
from fiftyone_isoclip.index.pair_search import find_pairs
from fiftyone_isoclip.index.pairs import Pairs
from fiftyone_isoclip.index.store import StoredVectors, read_store, write_store

__all__ = [
    "DEFAULT_SIMILARITY",
    "PAIR_LIMIT",
    "ClusterMethod",
    "Clusters",
    "CosineIndex",
    "DuplicateGroup",
    "Neighbors",
    "Pairs",
    "Storage",
    "StoredVectors",
    "check_storage",
    "cluster",
    "find_pairs",
    "group_duplicates",
    "join_keepers",
    "read_store",
    "write_store",
]
