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
from fiftyone import ViewField as F

from fiftyone_isoclip.dataset.arrays import ArrayReader
from fiftyone_isoclip.dataset.fields import dataset_of, need_origin, read_origin
from fiftyone_isoclip.dataset.sidestore import (
    MISSING,
    REFRESH_SHARE,
    SPOT_CHECKS,
    SideStore,
    open_side_store,
    write_side_store,
)
from fiftyone_isoclip.errors import DatasetError

logger = logging.getLogger(__name__)

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


def read_vectors(samples: Any, field: str, dim: int) -> FieldVectors:
    """Read the vectors of a field, leaving out those that cannot be compared.

    They come from the copy in files as far as that is up to date, and else from the database.

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
    return _read_copy(samples, field, dim) or read_database(samples, field, dim)


def read_database(samples: Any, field: str, dim: int) -> FieldVectors:
    """Read the vectors of a field from the database alone."""
    # An expression yields the stored bytes; values(field) takes longer to decode them.
    ids, blobs = samples.values(["id", ViewExpression(f"${field}")])
    skipped = {id_: NO_EMBEDDING for id_, blob in zip(ids, blobs, strict=True) if blob is None}
    if skipped and samples.has_field(f"{field}_error"):
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


def refresh_copy(dataset: fo.Dataset, field: str) -> None:
    """Write the copy of a field of plain embeddings anew if it lacks too many of them."""
    if not dataset.has_field(f"{field}_source"):
        return  # nothing tells which of its vectors are current
    origin = need_origin(dataset, field)
    store = open_side_store(dataset, field, origin.fingerprint)
    ids, sources = _sources(dataset, field)
    if store is not None and not _lacks_many(store.rows(ids, sources), sources):
        return
    stored = read_database(dataset, field, origin.dim)
    source_of = dict(zip(ids, sources, strict=True))
    write_side_store(
        dataset,
        field,
        origin.fingerprint,
        stored.vectors,
        stored.ids,
        [source_of.get(id_) for id_ in stored.ids],
    )


def _read_copy(samples: Any, field: str, dim: int) -> FieldVectors | None:
    """Read the copy, and from the database what it lacks; None if it cannot be relied on."""
    dataset = dataset_of(samples)
    origin = read_origin(dataset, field)
    if origin is None or origin.band is not None or not dataset.has_field(f"{field}_source"):
        return None
    store = open_side_store(dataset, field, origin.fingerprint)
    if store is None or store.vectors.shape[1:] != (dim,):
        return None
    ids, sources = _sources(samples, field)
    rows = store.rows(ids, sources)
    found = np.flatnonzero(rows != MISSING)
    if _lacks_many(rows, sources) or not _agree(dataset, field, store, ids, rows, found):
        return None
    lacking = [ids[place] for place in np.flatnonzero(rows == MISSING)]
    rest = read_database(dataset.select(lacking), field, dim) if lacking else None
    # A whole copy in its own order stays mapped from disk.
    whole = len(found) == len(store.vectors) and np.array_equal(rows[found], np.arange(len(found)))
    vectors = store.vectors if whole else store.vectors[rows[found]]
    kept = [ids[place] for place in found]
    if rest is None or not rest.ids:
        return FieldVectors(field, kept, vectors, rest.skipped if rest else {})
    place_of = {id_: place for place, id_ in enumerate(ids)}
    order = np.argsort([place_of[id_] for id_ in (*kept, *rest.ids)])
    together = [*kept, *rest.ids]
    return replace(
        rest,
        ids=[together[row] for row in order],
        vectors=np.concatenate([vectors, rest.vectors])[order],
    )


def _sources(samples: Any, field: str) -> tuple[list[str], list[str | None]]:
    """The ids of samples, and what each stored vector was made from; None without a vector."""
    ids, sources, has = samples.values(["id", f"{field}_source", F(field).exists()])
    return ids, [source if held else None for source, held in zip(sources, has, strict=True)]


def _lacks_many(rows: npt.NDArray[np.int64], sources: Sequence[str | None]) -> bool:
    due = sum(source is not None for source in sources)
    return bool(due - np.count_nonzero(rows != MISSING) > REFRESH_SHARE * due)


def _agree(
    dataset: fo.Dataset,
    field: str,
    store: SideStore,
    ids: Sequence[str],
    rows: npt.NDArray[np.int64],
    found: npt.NDArray[np.int64],
) -> bool:
    """Whether some of the rows, picked at random, are what the database holds."""
    picked = np.random.default_rng().permutation(found)[:SPOT_CHECKS]
    if not len(picked):
        return True
    truth = read_database(dataset.select([ids[place] for place in picked]), field, store.dim)
    row_of = {ids[place]: rows[place] for place in picked}
    copied = store.vectors[[row_of[id_] for id_ in truth.ids]]
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
