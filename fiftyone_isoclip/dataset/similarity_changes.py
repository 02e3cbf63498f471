"""What happened to a field since an index was made of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fiftyone_isoclip.dataset.similarity_field import read_field
from fiftyone_isoclip.dataset.similarity_index import FaissSimilarityIndex


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


def find_changes(index: FaissSimilarityIndex) -> IndexChanges:
    """Compare an index with the field it was read from; `index.reload()` then brings it up to date.

    An index whose vectors are kept with its run has no field, hence no changes.
    """
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
        # Unit rows of the same vector differ by rounding at most, however they came in.
        rounding = 1e-3 if config.storage == "float16" else 1e-6
        differs = np.abs(rows_now - rows_before).max(axis=1) > rounding
        changed = np.array(both)[differs].tolist()
    return IndexChanges(
        new=[id_ for id_ in now.ids.tolist() if id_ not in before.row_of],
        gone=[id_ for id_ in before.ids.tolist() if id_ not in now.row_of],
        changed=changed,
    )
