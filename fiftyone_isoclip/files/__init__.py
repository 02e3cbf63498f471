"""Image files on disk without a database: listing, embedding, duplicates, search and clusters.

Public names are loaded on first use: listing files or ranking keepers needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from fiftyone_isoclip.files.clusters import FileCluster, FileClusters, cluster_files
    from fiftyone_isoclip.files.copies import content_hash, find_exact_copies
    from fiftyone_isoclip.files.duplicates import FileDuplicates, find_file_duplicates
    from fiftyone_isoclip.files.embeddings import (
        FileEmbeddings,
        embed_files,
        read_embeddings,
        write_embeddings,
    )
    from fiftyone_isoclip.files.groups import FileGroup, FileMember
    from fiftyone_isoclip.files.keepers import (
        DEFAULT_KEEPER_RULE,
        FILE_KEEPER_RULES,
        KEEPER_RULES,
        KeeperRanking,
        rank_keepers,
    )
    from fiftyone_isoclip.files.listing import Listing, list_files, list_images, read_paths
    from fiftyone_isoclip.files.removal import (
        RemovalPlan,
        apply_plan,
        plan_removal,
        purge_plan,
        read_plan,
        undo_plan,
        write_plan,
    )
    from fiftyone_isoclip.files.search import (
        FileMatch,
        FileResults,
        search_files,
        search_files_by_text,
    )
    from fiftyone_isoclip.files.threshold_guide import ThresholdGuide, guide_file_thresholds

__all__ = [
    "DEFAULT_KEEPER_RULE",
    "FILE_KEEPER_RULES",
    "KEEPER_RULES",
    "FileCluster",
    "FileClusters",
    "FileDuplicates",
    "FileEmbeddings",
    "FileGroup",
    "FileMatch",
    "FileMember",
    "FileResults",
    "KeeperRanking",
    "Listing",
    "RemovalPlan",
    "ThresholdGuide",
    "apply_plan",
    "cluster_files",
    "content_hash",
    "embed_files",
    "find_exact_copies",
    "find_file_duplicates",
    "guide_file_thresholds",
    "list_files",
    "list_images",
    "plan_removal",
    "purge_plan",
    "rank_keepers",
    "read_embeddings",
    "read_paths",
    "read_plan",
    "search_files",
    "search_files_by_text",
    "undo_plan",
    "write_embeddings",
    "write_plan",
]

_HOMES = {
    "clusters": ["FileCluster", "FileClusters", "cluster_files"],
    "copies": ["content_hash", "find_exact_copies"],
    "duplicates": ["FileDuplicates", "find_file_duplicates"],
    "embeddings": ["FileEmbeddings", "embed_files", "read_embeddings", "write_embeddings"],
    "groups": ["FileGroup", "FileMember"],
    "keepers": [
        "DEFAULT_KEEPER_RULE",
        "FILE_KEEPER_RULES",
        "KEEPER_RULES",
        "KeeperRanking",
        "rank_keepers",
    ],
    "listing": ["Listing", "list_files", "list_images", "read_paths"],
    "removal": [
        "RemovalPlan",
        "apply_plan",
        "plan_removal",
        "purge_plan",
        "read_plan",
        "undo_plan",
        "write_plan",
    ],
    "search": ["FileMatch", "FileResults", "search_files", "search_files_by_text"],
    "threshold_guide": ["ThresholdGuide", "guide_file_thresholds"],
}

__getattr__, __dir__, _ = lazy_loader.attach(__name__, submod_attrs=_HOMES)
