"""Duplicates among the images of a store, sought by one process or by Ray's workers."""

from __future__ import annotations

from fiftyone_isoclip.shards.duplicates.found import StoreDuplicates, read_duplicates
from fiftyone_isoclip.shards.duplicates.run import find_store_duplicates

__all__ = ["StoreDuplicates", "find_store_duplicates", "read_duplicates"]
