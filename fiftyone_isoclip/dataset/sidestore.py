"""A copy of a field's vectors in files, read several times faster than the database.

The database holds the truth. A row of the copy stands for a sample only while the sample's
``<field>_source``, which is written after every vector, is the one it was copied with; and some of
the rows about to be used are compared with the database each time, since anybody may write a field.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import fiftyone as fo
import numpy as np
import numpy.typing as npt

from fiftyone_isoclip.dataset.places import side_folder
from fiftyone_isoclip.errors import StoreError
from fiftyone_isoclip.index import read_store, write_store

logger = logging.getLogger(__name__)

Float32s = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

MISSING = -1
"""The row of a sample that the copy does not hold."""

SPOT_CHECKS = 32
"""How many of the rows about to be used are compared with the database."""

REFRESH_SHARE = 0.01
"""The copy is written anew once it lacks more than this share of the vectors."""


class SideStore:
    """The copied vectors (n, d) of one field, and which of them still stand for their samples."""

    def __init__(self, vectors: Float32s, keys: Sequence[str]) -> None:
        self.vectors = vectors
        self._row_of = {key: row for row, key in enumerate(keys)}

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return int(self.vectors.shape[1])

    def rows(self, ids: Sequence[str], sources: Sequence[str | None]) -> Rows:
        """The rows of these samples, as their sources are now; -1 where there is none: (m,)."""
        keys = (_key(id_, source) for id_, source in zip(ids, sources, strict=True))
        return np.array([self._row_of.get(key, MISSING) for key in keys], np.int64)


def store_folder(dataset: fo.Dataset, field: str) -> Path:
    """Where the copy of a field lies; it may be deleted at any time."""
    return side_folder() / "vectors" / str(dataset._doc.id) / field


def open_side_store(dataset: fo.Dataset, field: str, fingerprint: str) -> SideStore | None:
    """Open the copy of a field; None if there is none, or none that is whole and of these weights.

    A damaged copy is said in the log: it costs time and nothing else.
    """
    folder = store_folder(dataset, field)
    if not folder.exists():
        return None
    try:
        stored = read_store(folder, expected_fingerprint=fingerprint)
    except StoreError as error:
        logger.warning("%s The database is read instead, which is slower.", error)
        return None
    return SideStore(stored.vectors, stored.ids)


def write_side_store(
    dataset: fo.Dataset,
    field: str,
    fingerprint: str,
    vectors: Float32s,
    ids: Sequence[str],
    sources: Sequence[str | None],
) -> None:
    """Replace the copy of a field: vectors (n, d) with their samples and sources.

    Vectors without a source are left out. A copy that cannot be written is said in the log.
    """
    kept = [row for row, source in enumerate(sources) if source]
    keys = [_key(ids[row], sources[row]) for row in kept]
    chosen = vectors if len(kept) == len(ids) else vectors[kept]
    try:
        write_store(store_folder(dataset, field), chosen, keys, fingerprint=fingerprint)
    except StoreError as error:
        logger.warning("%s Searches read the database instead, which is slower.", error)


def _key(id_: str, source: str | None) -> str:
    return f"{id_} {source}"
