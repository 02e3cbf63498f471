"""The vectors of a field in files, read several times faster than the database.

A row stands for a sample only while the sample's ``<field>_source``, which is written after every
vector, is the one it was stored with. As a rule the database holds the truth and the files a copy,
of which some rows are compared with the database each time, since anybody may write a field. A
field can also keep its vectors in files alone; its `Origin` then names their folder.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import numpy.typing as npt

from fiftyone_isoclip.dataset.places import side_path
from fiftyone_isoclip.errors import StoreError
from fiftyone_isoclip.index.store import StoredVectors, append_store, read_store

logger = logging.getLogger(__name__)

Float32s = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

MISSING = -1
"""The row of a sample that the files do not hold."""


class SideStore:
    """The stored vectors of one field, and which of them still stand for their samples."""

    def __init__(self, stored: StoredVectors) -> None:
        self.stored = stored

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return self.stored.dim

    def rows(self, ids: Sequence[str], sources: Sequence[str | None]) -> Rows:
        """The rows of these samples, as their sources are now; -1 where there is none: (m,)."""
        keys = store_keys(ids, sources)
        stored = self.stored.ids
        if len(keys) == len(stored) and np.array_equal(np.array(keys, np.bytes_), stored):
            return np.arange(len(keys))
        # A sample stored twice stands where it was stored last.
        row_of = {key: row for row, key in enumerate(stored.tolist())}
        return np.array([row_of.get(key, MISSING) for key in keys], np.int64)

    def read(self, rows: Rows) -> Float32s:
        """The vectors of these rows, checked: (m, d).

        Raises:
            StoreError: if one of them is damaged.
        """
        return self.stored.read(rows)


def store_keys(ids: Sequence[str], sources: Sequence[str | None]) -> list[bytes]:
    """What the rows of samples are called; b"" for one whose source is missing or unknown."""
    pairs = zip(ids, sources, strict=True)
    return [f"{id_} {source}".encode() if source else b"" for id_, source in pairs]


def store_name(dataset: fo.Dataset, field: str) -> str:
    """The folder of a field's vectors, as its `Origin` notes it."""
    return f"{dataset._doc.id}/{field}"


def named_folder(name: str) -> Path:
    """Where the folder with this name lies.

    Raises:
        StoreError: a name that was changed by hand leads elsewhere.
    """
    return side_path("vectors", *name.split("/"))


def store_folder(dataset: fo.Dataset, field: str) -> Path:
    """Where the vectors of a field lie; a copy of them may be deleted at any time."""
    return named_folder(store_name(dataset, field))


def open_copy(dataset: fo.Dataset, field: str, fingerprint: str) -> SideStore | None:
    """Open the copy of a field; None if there is none, or none that can be read.

    A damaged copy is said in the log: it costs time and nothing else.
    """
    folder = store_folder(dataset, field)
    if not folder.exists():
        return None
    try:
        return SideStore(read_store(folder, expected_fingerprint=fingerprint))
    except StoreError as error:
        warn_slow(error)
        return None


def warn_slow(error: Any) -> None:
    """Say that a copy is of no use."""
    logger.warning(
        "%s The database is read instead, which is slower; embed(dataset, model) writes the copy "
        "anew.",
        error,
    )


def append_vectors(
    dataset: fo.Dataset,
    field: str,
    fingerprint: str,
    vectors: Float32s,
    ids: Sequence[str],
    sources: Sequence[str | None],
) -> None:
    """Store vectors (n, d) of samples with these sources behind those that are there.

    Raises:
        StoreError: the files cannot be written, or are damaged.
    """
    if len(ids):
        keys = [key.decode() for key in store_keys(ids, sources)]
        append_store(store_folder(dataset, field), vectors, keys, fingerprint=fingerprint)
