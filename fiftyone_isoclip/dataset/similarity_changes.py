"""What happened to a field since an index was made of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fiftyone_isoclip.dataset.similarity_backends.index import TableSimilarityIndex
from fiftyone_isoclip.dataset.similarity_backends.tables import Float32s
from fiftyone_isoclip.dataset.similarity_field import read_field
from fiftyone_isoclip.dataset.similarity_index import FaissSimilarityIndex
from fiftyone_isoclip.index import Storage


@dataclass(frozen=True, slots=True)
class IndexChanges:
    """Ids of samples, or of labels if the index is of patches."""

    new: list[str]
    gone: list[str]
    changed: list[str]

    def __bool__(self) -> bool:
        return bool(self.new or self.gone or self.changed)

    def __str__(self) -> str:
        return f"{len(self.new)} new, {len(self.gone)} gone, {len(self.changed)} changed"


def find_changes(index: FaissSimilarityIndex | TableSimilarityIndex) -> IndexChanges:
    """Compare an index with the field it was read from; `index.reload()` then brings it up to date.

    An index in a database is brought up to date by `index.fill()`. One whose vectors are kept with
    its run has no field, hence no changes.

    Raises:
        DatasetError: the database cannot be asked.
    """
    if isinstance(index, TableSimilarityIndex):
        return _find_in_tables(index)
    if index.is_external:
        return IndexChanges([], [], [])
    before = index.settle()
    config = index.config
    now = read_field(
        index.samples._dataset, config.embeddings_field, config.patches_field, config.storage
    )
    both = [id_ for id_ in now.ids.tolist() if id_ in before.row_of]
    changed: list[str] = []
    if both and now.source.dim != before.source.dim:
        changed = both
    elif both:
        rows_now = now.source.vectors[[now.row_of[id_] for id_ in both]]
        rows_before = before.source.vectors[[before.row_of[id_] for id_ in both]]
        changed = np.array(both)[_differ(rows_now, rows_before, config.storage)].tolist()
    return IndexChanges(
        new=[id_ for id_ in now.ids.tolist() if id_ not in before.row_of],
        gone=[id_ for id_ in before.ids.tolist() if id_ not in now.row_of],
        changed=changed,
    )


def _find_in_tables(index: TableSimilarityIndex) -> IndexChanges:
    """Compare the field with the tables a block at a time."""
    with index.tables() as tables:
        gone = set(tables.images.list_ids()[0])
    new: list[str] = []
    changed: list[str] = []
    for block in index.read_field():
        ids = block.ids.tolist()
        gone.difference_update(ids)
        with index.tables() as tables:
            before = tables.images.read(ids)
        row_of = {id_: row for row, id_ in enumerate(before.ids)}
        new += [id_ for id_ in ids if id_ not in row_of]
        if before.ids:
            compared = index.compared(np.asarray(block.source.vectors, np.float32))
            now = compared[[block.row_of[id_] for id_ in before.ids]]
            if now.shape[1] != before.vectors.shape[1]:
                changed += before.ids
            else:
                differs = _differ(now, before.vectors, index.config.storage)
                changed += np.array(before.ids)[differs].tolist()
    return IndexChanges(new, sorted(gone), changed)


def _differ(now: Float32s, before: Float32s, storage: Storage) -> npt.NDArray[np.bool_]:
    # Unit rows of the same vector differ by rounding at most, however they came in.
    rounding = 1e-3 if storage == "float16" else 1e-6
    return np.asarray(np.abs(now - before).max(axis=1) > rounding)
