"""Stored embeddings read back: those that can be compared, and why the others cannot."""

from __future__ import annotations

import logging
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
from fiftyone_isoclip.dataset.fields import Origin, dataset_of, read_origin
from fiftyone_isoclip.dataset.sidestore import (
    MISSING,
    Rows,
    SideStore,
    named_folder,
    open_copy,
    warn_slow,
)
from fiftyone_isoclip.dataset.sources import NO_EMBEDDING, Sources, read_sources, why_missing
from fiftyone_isoclip.errors import DatasetError, StoreError
from fiftyone_isoclip.index.store import read_store

logger = logging.getLogger(__name__)

Float32s = npt.NDArray[np.float32]

SPOT_CHECKS = 32
"""How many of the copied rows about to be used are compared with the database."""

MOST_LACKING = 0.1
"""The copy is of no use once it lacks more than this share of the vectors."""


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


def read_vectors(samples: Any, field: str, dim: int) -> FieldVectors:
    """Read the vectors of a field, leaving out those that cannot be compared.

    They come from files as far as those are up to date, and else from the database.

    Raises:
        DatasetError: the field does not hold vectors, or keeps them in files that are lost or
            damaged.
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
    if not all(samples.has_field(path) for path in _paths(dataset, field)):
        samples = dataset.select(samples.values("id"), ordered=True)  # a view without these fields
    origin = read_origin(dataset, field)
    if origin is not None and origin.folder is not None:
        return _read_files(samples, field, dim, origin)
    try:
        copied = _read_copy(samples, field, dim, origin)
    except StoreError as error:
        warn_slow(error)
        copied = None
    return copied or read_database(samples, field, dim)


def read_database(samples: Any, field: str, dim: int) -> FieldVectors:
    """Read the vectors of a field from the database alone."""
    # An expression yields the stored bytes; values(field) takes longer to decode them.
    ids, blobs = samples.values(["id", ViewExpression(f"${field}")])
    skipped = {id_: NO_EMBEDDING for id_, blob in zip(ids, blobs, strict=True) if blob is None}
    if skipped and samples.has_field(f"{field}_error"):
        missing = zip(*samples.values(["id", f"{field}_error"]), strict=True)
        failed = {id_: why for id_, why in missing if why and id_ in skipped}
        skipped |= {id_: why_missing(error) for id_, error in failed.items()}
    present = [(id_, blob) for id_, blob in zip(ids, blobs, strict=True) if blob is not None]
    vectors, misfits = _decode([blob for _, blob in present], dim)
    usable = np.asarray(np.isfinite(vectors).all(axis=1) & vectors.any(axis=1))
    kept = [id_ for (id_, _), fine in zip(present, usable, strict=True) if fine]
    for row in np.flatnonzero(~usable).tolist():
        skipped[present[row][0]] = misfits.get(row, "its vector is zero or not finite")
    odd = {present[row][0]: reason for row, reason in misfits.items()}
    return FieldVectors(field, kept, vectors if usable.all() else vectors[usable], skipped, odd)


def _paths(dataset: fo.Dataset, field: str) -> list[str]:
    """The field and those beside it, as far as the dataset has them."""
    paths = (field, f"{field}_source", f"{field}_error")
    return [path for path in paths if dataset.has_field(path)]


def _read_files(samples: Any, field: str, dim: int, origin: Origin) -> FieldVectors:
    """Read a field that keeps its vectors in files."""
    remedy = f"embed(dataset, {origin.checkpoint!r}, {field!r}) computes what is lost again"
    folder = named_folder(str(origin.folder))
    if not samples.has_field(f"{field}_source"):
        raise DatasetError(
            f"field {field!r} keeps its vectors in files, and field '{field}_source' is needed to "
            f"find them; if {field!r} was renamed, rename that one with it"
        )
    found = read_sources(samples, field)
    try:
        store = SideStore(read_store(folder, expected_fingerprint=origin.fingerprint))
        rows = store.rows(found.ids, found.sources)
        kept = np.flatnonzero(rows != MISSING)
        vectors = store.read(rows[kept])
    except StoreError as error:
        if not found.held.any():
            return FieldVectors(field, [], np.empty((0, dim), np.float32), found.skipped)
        raise DatasetError(
            f"field {field!r} keeps its vectors in files, and they cannot be read: {error} {remedy}"
        ) from error
    due = np.count_nonzero(found.held)
    if due > len(kept) or store.dim != dim:
        raise DatasetError(
            f"field {field!r} keeps its vectors in files: {due} of {dim} numbers were asked for "
            f"and {folder} holds {len(kept)} of {store.dim}; {remedy}"
        )
    return FieldVectors(field, [found.ids[row] for row in kept], vectors, found.skipped)


def _read_copy(samples: Any, field: str, dim: int, origin: Origin | None) -> FieldVectors | None:
    """Read the copy, and from the database what it lacks; None if it cannot be relied on.

    Raises:
        StoreError: it is damaged.
    """
    dataset = dataset_of(samples)
    if origin is None or origin.band is not None or not dataset.has_field(f"{field}_source"):
        return None
    store = open_copy(dataset, field, origin.fingerprint)
    if store is None or store.dim != dim:
        return None
    wanted = read_sources(samples, field)
    rows = store.rows(wanted.ids, wanted.sources)
    found = np.flatnonzero(rows != MISSING)
    lacking = np.flatnonzero((rows == MISSING) & wanted.held)
    if len(lacking) > MOST_LACKING * len(rows) or not _agree(dataset, field, store, wanted, rows):
        return None
    kept = [wanted.ids[row] for row in found]
    copied = FieldVectors(field, kept, store.read(rows[found]), wanted.skipped)
    if not len(lacking):
        return copied
    rest = read_database(dataset.select([wanted.ids[row] for row in lacking]), field, dim)
    return _merged(copied, rest, wanted)


def _merged(one: FieldVectors, other: FieldVectors, order: Sources) -> FieldVectors:
    """The vectors of both, in this order of their samples."""
    place_of = {id_: place for place, id_ in enumerate(order.ids)}
    ids = [*one.ids, *other.ids]
    rows = np.argsort([place_of[id_] for id_ in ids])
    return replace(
        other,
        ids=[ids[row] for row in rows],
        vectors=np.concatenate([one.vectors, other.vectors])[rows],
        skipped=one.skipped | other.skipped,
    )


def _agree(dataset: fo.Dataset, field: str, store: SideStore, wanted: Sources, rows: Rows) -> bool:
    """Whether some of the rows, picked at random, are what the database holds."""
    found = np.flatnonzero(rows != MISSING)
    picked = np.random.default_rng().permutation(found)[:SPOT_CHECKS]
    if not len(picked):
        return True
    truth = read_database(dataset.select([wanted.ids[row] for row in picked]), field, store.dim)
    row_of = {wanted.ids[row]: rows[row] for row in picked}
    copied = store.read(np.array([row_of[id_] for id_ in truth.ids], np.int64))
    if len(truth.ids) == len(picked) and np.array_equal(truth.vectors, copied):
        return True
    logger.warning(
        "Something else has written field %r of %r; its copy in files is not used. "
        "embed(..., overwrite=True) makes both anew.",
        field,
        dataset.name,
    )
    return False


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
