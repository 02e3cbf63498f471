"""Where the vectors of a field are kept: on its samples with a copy in files, or in files alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import fiftyone as fo
import numpy as np
import numpy.typing as npt

from fiftyone_isoclip.dataset.copies import (
    move_to_files,
    move_to_samples,
    open_files,
    prune_files,
    refresh_copy,
)
from fiftyone_isoclip.dataset.fields import dataset_of, need_origin, read_origin
from fiftyone_isoclip.dataset.sidestore import MISSING, append_vectors
from fiftyone_isoclip.dataset.similarity_backends.config import TableConfig
from fiftyone_isoclip.dataset.targets import Fields, Target
from fiftyone_isoclip.errors import DatasetError


@dataclass(frozen=True, slots=True)
class Keeping:
    """Where a run keeps the vectors it computes, and where they are to be when it ends.

    A field that has vectors is filled where it keeps them, and moved at the end if that is asked.
    """

    dataset: fo.Dataset
    fields: Fields
    in_files: bool
    in_files_at_last: bool

    @classmethod
    def choose(cls, samples: Any, fields: Fields, on_samples: bool | None) -> Keeping:
        """Keep them where they are (None), on the samples or in files.

        Raises:
            DatasetError: they are of boxes, only a part of the field would be moved, or a brain
                run reads them from the samples.
        """
        dataset = dataset_of(samples)
        if fields.labels is not None:
            if on_samples is False:
                raise DatasetError(
                    "on_samples=False was asked for vectors of boxes, which are kept on their "
                    "labels; leave it out"
                )
            return cls(dataset, fields, False, False)
        origin = read_origin(dataset, fields.embedding)
        was = origin is not None and origin.folder is not None
        wanted = was if on_samples is None else not on_samples
        if wanted and not was:
            _check_unused(dataset, fields.embedding)
        if not was and not (origin and dataset.count(fields.embedding)):
            return cls(dataset, fields, wanted, wanted)
        if was != wanted and len(samples) < len(dataset):
            raise DatasetError(
                f"field {fields.embedding!r} keeps its vectors "
                f"{'in files' if was else 'on the samples'}, and on_samples={on_samples} was asked "
                "for a part of them; pass the whole dataset to move them"
            )
        return cls(dataset, fields, was, wanted)

    def open(self) -> None:
        """Note where the vectors are kept, and leave out what is damaged there.

        Raises:
            StoreError: the files cannot be read or written.
        """
        if self.in_files:
            field = self.fields.embedding
            open_files(self.dataset, field, need_origin(self.dataset, field))

    def without_lost(self, targets: Sequence[Target]) -> list[Target]:
        """These targets, those without a source whose vector is not in the files any more."""
        if not self.in_files:
            return list(targets)
        field = self.fields.embedding
        store = open_files(self.dataset, field, need_origin(self.dataset, field))
        if store is None:
            return [replace(target, source=None) for target in targets]
        rows = store.rows([t.id for t in targets], [t.source for t in targets])
        return [
            replace(target, source=None) if row == MISSING else target
            for target, row in zip(targets, rows.tolist(), strict=True)
        ]

    def store(
        self, vectors: Mapping[str, npt.NDArray[np.float32]], sources: Mapping[str, str | None]
    ) -> None:
        """Keep the vectors of samples made from these sources in files.

        Raises:
            StoreError: the files cannot be written.
        """
        if vectors:
            field = self.fields.embedding
            fingerprint = need_origin(self.dataset, field).fingerprint
            rows, of = np.stack(list(vectors.values())), [sources[id_] for id_ in vectors]
            append_vectors(self.dataset, field, fingerprint, rows, list(vectors), of)

    def settle(self, anew: Sequence[str]) -> None:
        """Bring the files up to date after these samples were computed, and move what is to move.

        Raises:
            DatasetError: the vectors cannot be moved; they stay where they are.
        """
        if self.fields.labels is not None:
            return
        field = self.fields.embedding
        # As it is now: an earlier attempt may have been stopped when half of it was done.
        in_files = need_origin(self.dataset, field).folder is not None
        if in_files and self.in_files_at_last:
            if self.dataset.count(field):
                self.dataset.clear_sample_field(field)
            prune_files(self.dataset, field)
        elif in_files:
            prune_files(self.dataset, field)
            move_to_samples(self.dataset, field)
        elif self.in_files_at_last:
            move_to_files(self.dataset, field)
        else:
            refresh_copy(self.dataset, field, anew)


def _check_unused(dataset: fo.Dataset, field: str) -> None:
    """Refuse to take vectors away from an index that reads them from the samples."""
    for key in dataset.list_brain_runs():
        config = dataset.get_brain_info(key).config
        if isinstance(config, TableConfig):  # it has a copy
            continue
        if getattr(config, "embeddings_field", None) == field:
            raise DatasetError(
                f"brain run {key!r} reads its vectors from field {field!r}, which were to be kept "
                f"in files alone; keep them on the samples, or delete that run first"
            )
