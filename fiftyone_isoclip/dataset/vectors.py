"""Stored embeddings read back: those that can be compared, and why the others cannot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as attribute
from functools import cached_property
from typing import Any

import fiftyone as fo
import numpy as np
import numpy.typing as npt
from fiftyone import ViewExpression

from fiftyone_isoclip.dataset.arrays import ArrayReader
from fiftyone_isoclip.dataset.checkpoints import clip_for
from fiftyone_isoclip.dataset.fields import Origin, dataset_of, need_origin
from fiftyone_isoclip.encoder import Clip
from fiftyone_isoclip.errors import DatasetError
from fiftyone_isoclip.index.vectors import unit_rows
from fiftyone_isoclip.projector import Band

Float32s = npt.NDArray[np.float32]

NO_EMBEDDING = "it has no embedding yet"


@dataclass(frozen=True, eq=False)
class FieldVectors:
    """The usable vectors (n, d) of a field with the ids of their samples.

    ``skipped`` maps the other samples to the reason why they are left out; ``misfits`` are those
    among them whose vector has another dim.
    """

    field: str
    ids: list[str]
    vectors: Float32s
    skipped: dict[str, str] = attribute(default_factory=dict)
    misfits: dict[str, str] = attribute(default_factory=dict)

    @cached_property
    def row_of(self) -> dict[str, int]:
        """The row of each sample."""
        return {id_: row for row, id_ in enumerate(self.ids)}

    def without(self, reasons: Mapping[str, str]) -> FieldVectors:
        """Leave out more samples, for these reasons."""
        kept = [row for row, id_ in enumerate(self.ids) if id_ not in reasons]
        if len(kept) == len(self.ids):
            return self
        ids = [self.ids[row] for row in kept]
        gone = {id_: reasons[id_] for id_ in self.ids if id_ in reasons}
        return replace(self, ids=ids, vectors=self.vectors[kept], skipped=self.skipped | gone)


@dataclass(frozen=True, eq=False)
class Space:
    """A field of vectors and the band under which they are compared."""

    origin: Origin
    band: Band
    stored: FieldVectors

    @property
    def clip(self) -> Clip:
        """The model that made the vectors, loaded on first use."""
        return clip_for(self.origin)

    def isoclip(self, vectors: npt.ArrayLike) -> Float32s:
        """What is stored, or plain embeddings (n, r), as unit rows (n, k) to compare.

        Raises:
            VectorError: they have the dim of neither.
        """
        rows = np.atleast_2d(np.asarray(vectors))
        if self.origin.band is not None and rows.shape[1] == self.origin.dim:
            return unit_rows(rows)
        return self.clip.isoclip(self.band)(rows)

    @cached_property
    def vectors(self) -> Float32s:
        """The stored vectors as unit rows (n, k) to compare."""
        if not self.stored.ids:
            return np.empty((0, self.origin.dim), np.float32)
        return self.isoclip(self.stored.vectors)


def open_space(samples: Any, field: str, band: Band | None) -> Space:
    """Read a field to compare images with images under a band (None: the checkpoint's own).

    Raises:
        DatasetError: there is no such field, its checkpoint is unknown, or it holds IsoCLIP
            embeddings of another band.
        CheckpointError: the checkpoint cannot be loaded.
    """
    dataset = dataset_of(samples)
    origin = need_origin(dataset, field)
    if origin.band is None:
        chosen = clip_for(origin).image_band if band is None else band
    else:
        chosen = Band.parse(origin.band)
        if band is not None and band != chosen:
            raise DatasetError(
                f"band {band} was asked for and field {field!r} holds IsoCLIP embeddings of band "
                f"{chosen}; use the field of plain embeddings, which serves every band"
            )
    return Space(origin, chosen, read_vectors(samples, field, origin.dim))


def read_vectors(samples: Any, field: str, dim: int) -> FieldVectors:
    """Read the vectors of a field, leaving out those that cannot be compared.

    Raises:
        DatasetError: the field does not hold vectors.
    """
    dataset = dataset_of(samples)
    if "." in field:
        raise DatasetError(
            f"field {field!r} holds vectors of boxes, and whole images are compared here; "
            "give the field of the samples, or compare boxes with an index (build_similarity)"
        )
    if not isinstance(dataset.get_field(field), fo.VectorField):
        found = type(dataset.get_field(field)).__name__ if dataset.has_field(field) else "no field"
        raise DatasetError(f"field {field!r} of vectors is needed, found {found}")
    # An expression yields the stored bytes; values(field) takes five times as long to decode them.
    ids, blobs = samples.values(["id", ViewExpression(f"${field}")])
    skipped = {id_: NO_EMBEDDING for id_, blob in zip(ids, blobs, strict=True) if blob is None}
    if skipped and dataset.has_field(f"{field}_error"):
        missing = zip(*samples.values(["id", f"{field}_error"]), strict=True)
        failed = {id_: why for id_, why in missing if why and id_ in skipped}
        skipped |= {id_: f"it could not be embedded: {why}" for id_, why in failed.items()}
    present = [(id_, blob) for id_, blob in zip(ids, blobs, strict=True) if blob is not None]
    vectors, misfits = _decode([blob for _, blob in present], dim)
    usable = np.asarray(np.isfinite(vectors).all(axis=1) & vectors.any(axis=1))
    kept = [id_ for (id_, _), fine in zip(present, usable, strict=True) if fine]
    for row in np.flatnonzero(~usable).tolist():
        skipped[present[row][0]] = misfits.get(row, "its vector is zero or not finite")
    odd = {present[row][0]: reason for row, reason in misfits.items()}
    return FieldVectors(field, kept, vectors if usable.all() else vectors[usable], skipped, odd)


def _decode(blobs: Sequence[bytes], dim: int) -> tuple[Float32s, dict[int, str]]:
    """Serialised vectors -> (n, dim), and the rows left zero because they have another dim."""
    vectors = np.zeros((len(blobs), dim), np.float32)
    misfits: dict[int, str] = {}
    read = ArrayReader()
    # A float64 beyond float32 becomes infinity, which is refused like any other.
    with np.errstate(over="ignore"):
        for row, blob in enumerate(blobs):
            vector = read(blob)
            if vector.shape == (dim,) and vector.dtype.kind in "fiu":
                vectors[row] = vector
            else:
                shape = "x".join(map(str, vector.shape))
                misfits[row] = f"its vector has {shape} numbers ({vector.dtype}), not {dim}"
    return vectors, misfits
