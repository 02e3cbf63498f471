"""The vectors of a field a block of samples at a time, so that no more than these are in memory."""

from __future__ import annotations

from collections.abc import Iterator

import fiftyone as fo
import numpy as np

from fiftyone_isoclip.dataset.fields import Origin, read_origin
from fiftyone_isoclip.dataset.indexed import Indexed
from fiftyone_isoclip.dataset.sidestore import MISSING, SideStore, named_folder
from fiftyone_isoclip.dataset.similarity_field import embedding_path, read_field, whole_collection
from fiftyone_isoclip.dataset.sources import read_sources
from fiftyone_isoclip.errors import DatasetError
from fiftyone_isoclip.index.store import read_store

BLOCK_SAMPLES = 8192
"""Of 512 numbers each: 16 MB."""


def read_blocks(dataset: fo.Dataset, field: str, patches_field: str | None) -> Iterator[Indexed]:
    """The unit rows of a field, from the samples or from the files that keep them.

    Those without direction (NaN, infinite, zero) stay out, counted and named in a warning.

    Raises:
        DatasetError: the field holds something else than vectors, or its files have lost some.
        StoreError: its files are damaged.
        VectorError: its vectors have different dims.
    """
    origin = read_origin(dataset, embedding_path(dataset, field, patches_field))
    if origin is not None and origin.folder is not None:
        yield from _read_files(dataset, field, origin)
        return
    ids = whole_collection(dataset).values("id")
    for start in range(0, len(ids), BLOCK_SAMPLES):
        yield read_field(dataset, field, patches_field, among=ids[start : start + BLOCK_SAMPLES])


def _read_files(dataset: fo.Dataset, field: str, origin: Origin) -> Iterator[Indexed]:
    found = read_sources(whole_collection(dataset), field)
    folder = named_folder(str(origin.folder))
    store = SideStore(read_store(folder, expected_fingerprint=origin.fingerprint))
    rows = store.rows(found.ids, found.sources)
    lost = int(np.count_nonzero(rows[found.held] == MISSING))
    if lost:
        raise DatasetError(
            f"field {field!r} keeps its vectors in {folder}, which lacks {lost} of "
            f"{int(found.held.sum())}; embed(dataset, {origin.checkpoint!r}, {field!r}) computes "
            "what is lost again"
        )
    kept = np.flatnonzero(rows != MISSING)
    for start in range(0, len(kept), BLOCK_SAMPLES):
        part = kept[start : start + BLOCK_SAMPLES]
        yield Indexed.of(store.read(rows[part]), [found.ids[row] for row in part], None)
