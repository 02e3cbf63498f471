"""Plain embeddings of many files as Parquet shards, written by workers on one machine or many.

Public names are loaded on first use.

Raises:
    IsoClipError: on import, if pyarrow is not installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

from fiftyone_isoclip.errors import IsoClipError

try:
    import pyarrow  # noqa: F401
except ImportError as error:
    raise IsoClipError(
        "a store is kept in Parquet files, which need pyarrow; "
        "install it with: pip install 'fiftyone-isoclip[ray]' (or pyarrow alone, without Ray)"
    ) from error

if TYPE_CHECKING:
    from fiftyone_isoclip.shards.contents import Contents
    from fiftyone_isoclip.shards.duplicates import (
        StoreDuplicates,
        find_store_duplicates,
        read_duplicates,
    )
    from fiftyone_isoclip.shards.manifest import Manifest, Recipe
    from fiftyone_isoclip.shards.run import Embedded, embed_into_store
    from fiftyone_isoclip.shards.shard import DamagedShardError, Shard
    from fiftyone_isoclip.shards.store import ShardStore, open_store
    from fiftyone_isoclip.shards.tasks import Images, read_images
    from fiftyone_isoclip.shards.worker import Encoding

__all__ = [
    "Contents",
    "DamagedShardError",
    "Embedded",
    "Encoding",
    "Images",
    "Manifest",
    "Recipe",
    "Shard",
    "ShardStore",
    "StoreDuplicates",
    "embed_into_store",
    "find_store_duplicates",
    "open_store",
    "read_duplicates",
    "read_images",
]

_HOMES = {
    "contents": ["Contents"],
    "duplicates": ["StoreDuplicates", "find_store_duplicates", "read_duplicates"],
    "manifest": ["Manifest", "Recipe"],
    "run": ["Embedded", "embed_into_store"],
    "shard": ["DamagedShardError", "Shard"],
    "store": ["ShardStore", "open_store"],
    "tasks": ["Images", "read_images"],
    "worker": ["Encoding"],
}

__getattr__, __dir__, _ = lazy_loader.attach(__name__, submod_attrs=_HOMES)
