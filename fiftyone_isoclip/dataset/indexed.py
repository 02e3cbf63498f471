"""What a similarity index holds: vectors with the ids they belong to, read, saved and changed."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import fiftyone.core.utils as fou
import numpy as np
import numpy.typing as npt

from fiftyone_isoclip.errors import DatasetError, VectorError
from fiftyone_isoclip.index import CosineIndex, Storage
from fiftyone_isoclip.index.search import SearchIndex
from fiftyone_isoclip.index.search_inverted import InvertedFile, Keys, row_keys
from fiftyone_isoclip.projector import Band, EmbeddingMap

logger = logging.getLogger(__name__)

Ids = npt.NDArray[np.str_]
Rows = npt.NDArray[np.int64]

_NO_IDS: Ids = np.array([], dtype="<U24")
_NO_KEYS: Keys = np.array([], dtype=np.uint64)
_NAMED_IDS = 5
_NONE = "that is no vector of numbers"


@dataclass(frozen=True, eq=False)
class Indexed:
    """Vectors by sample, or by label; never changed, only replaced, so that threads may search.

    Shapes: `source` holds the vectors as they were given, (n, r) or (n, k); `sample_ids` and
    `label_ids` are (n,), the latter None unless the vectors are of patches; `keys` (n,) stand for
    the vectors as they were given. With an `embedding_map` the vectors are plain CLIP embeddings
    and images are searched through it, which is known once the rows are settled. `inverted` was
    made of most of the rows, if they are many.
    """

    sample_ids: Ids
    label_ids: Ids | None
    source: CosineIndex
    keys: Keys
    embedding_map: EmbeddingMap | None = None
    inverted: InvertedFile | None = None
    is_settled: bool = False

    @classmethod
    def empty(cls, *, patches: bool) -> Indexed:
        """Nothing yet."""
        nothing = CosineIndex(np.empty((0, 0)))
        return cls(_NO_IDS, _NO_IDS if patches else None, nothing, _NO_KEYS)

    @classmethod
    def of(
        cls,
        vectors: Any,
        sample_ids: Iterable[str],
        label_ids: Iterable[str] | None,
        storage: Storage = "float32",
    ) -> Indexed:
        """Take vectors in; those without direction stay out, counted and named in a warning.

        Raises:
            VectorError: if the vectors have different dims, or are no numbers.
        """
        samples = np.array(list(sample_ids), dtype="<U24")
        labels = None if label_ids is None else np.array(list(label_ids), dtype="<U24")
        table = _table(vectors, samples if labels is None else labels)
        if len(table) == 0:
            return cls.empty(patches=labels is not None)
        fit = np.isfinite(table).all(axis=1) & table.any(axis=1)
        if not fit.all():
            unfit = (samples if labels is None else labels)[~fit]
            logger.warning(
                "%d of %d vectors are NaN, infinite or zero and stay out of the index: %s",
                len(unfit),
                len(fit),
                named(unfit),
            )
            samples, table = samples[fit], table[fit]
            labels = None if labels is None else labels[fit]
        keys = row_keys(table, samples if labels is None else labels)
        return cls(samples, labels, CosineIndex(table, storage=storage), keys)._with_ids_once()

    def _with_ids_once(self) -> Indexed:
        """Of an id that came twice only the last vector, as FiftyOne would store it."""
        last = sorted(self.row_of.values())
        return self if len(last) == self.source.n else self.keep(np.array(last, np.int64))

    @property
    def ids(self) -> Ids:
        """The ids of labels if the vectors are of patches, else of samples."""
        return self.sample_ids if self.label_ids is None else self.label_ids

    @cached_property
    def row_of(self) -> dict[str, int]:
        """The row of each id."""
        return {id_: row for row, id_ in enumerate(self.ids.tolist())}

    @property
    def is_centred(self) -> bool:
        """Whether images are compared from a centre: then vectors go in and out plain.

        Compared vectors do not say from which centre, and can have the dim of plain ones.
        """
        return self.embedding_map is not None and self.embedding_map.centre is not None

    @cached_property
    def images(self) -> CosineIndex:
        """What image queries are compared with."""
        if self.embedding_map is None or self.source.n == 0:
            return self.source
        mapped = self.embedding_map(self.source.vectors)
        return CosineIndex(mapped, copy=False, storage=self.source.storage)

    @cached_property
    def search(self) -> SearchIndex:
        """How image queries are answered."""
        return SearchIndex(self.images, self.keys, self.inverted)

    def keep(self, rows: npt.NDArray[np.bool_] | Rows) -> Indexed:
        """Only these rows, as a mask or as positions."""
        labels = None if self.label_ids is None else self.label_ids[rows]
        return replace(
            self,
            sample_ids=self.sample_ids[rows],
            label_ids=labels,
            source=CosineIndex.of_units(self.source.vectors[rows]),
            keys=self.keys[rows],
        )

    def put(self, new: Indexed) -> Indexed:
        """These rows with others added, or set in their place.

        Raises:
            VectorError: if the new vectors have another dim.
        """
        if new.source.n == 0:
            return self
        if self.source.n and new.source.dim != self.source.dim:
            raise VectorError(
                f"the index holds vectors of dim {self.source.dim} and was given some of dim "
                f"{new.source.dim}; make them with the same checkpoint, both plain or both IsoCLIP"
            )
        kept = self.keep(~np.isin(self.ids, new.ids)) if self.source.n else self
        # An id keeps its place nowhere in FiftyOne's contract: what is replaced moves to the end.
        tables = [part.source.vectors for part in (kept, new) if part.source.n]
        storage = kept.source.storage if kept.source.n else new.source.storage
        return replace(
            self,
            sample_ids=np.concatenate([kept.sample_ids, new.sample_ids]),
            label_ids=None
            if kept.label_ids is None or new.label_ids is None
            else np.concatenate([kept.label_ids, new.label_ids]),
            source=CosineIndex.of_units(np.concatenate(tables).astype(storage)),
            keys=np.concatenate([kept.keys, new.keys]),
        )

    def saved(self, *, with_vectors: bool) -> dict[str, Any]:
        """As JSON, to be read by `restored`."""
        found: dict[str, Any] = {"map": saved_map(self.embedding_map), "vectors": None}
        if with_vectors:
            found["vectors"] = fou.serialize_numpy_array(self.source.vectors, ascii=True)
            found["keys"] = fou.serialize_numpy_array(self.keys, ascii=True)
            found["sample_ids"] = self.sample_ids.tolist()
            found["label_ids"] = None if self.label_ids is None else self.label_ids.tolist()
        return found


def saved_map(embedding_map: EmbeddingMap | None) -> dict[str, Any] | None:
    """A map as JSON, to be read by `restored_map`."""
    if embedding_map is None:
        return None
    centre = embedding_map.centre
    return {
        "matrix": fou.serialize_numpy_array(embedding_map.matrix, ascii=True),
        "basis": fou.serialize_numpy_array(embedding_map.basis, ascii=True),
        "band": str(embedding_map.band),
        "condition": embedding_map.condition,
        "centre": None if centre is None else fou.serialize_numpy_array(centre, ascii=True),
    }


def restored_map(saved: dict[str, Any]) -> EmbeddingMap | None:
    """The map that `Indexed.saved` wrote, if there was one."""
    found = saved["map"]
    if found is None:
        return None
    centre = found.get("centre")  # not there if saved by version 0.1
    return EmbeddingMap(
        fou.deserialize_numpy_array(found["matrix"], ascii=True),
        fou.deserialize_numpy_array(found["basis"], ascii=True),
        Band.parse(found["band"]),
        found["condition"],
        None if centre is None else fou.deserialize_numpy_array(centre, ascii=True),
    )


def restored_vectors(saved: dict[str, Any]) -> Indexed | None:
    """The vectors that `Indexed.saved` wrote, if it did."""
    if saved["vectors"] is None:
        return None
    vectors = fou.deserialize_numpy_array(saved["vectors"], ascii=True)
    found = Indexed.of(vectors, saved["sample_ids"], saved["label_ids"])
    if len(vectors) == found.source.n:  # as they were, to the last bit
        found = replace(found, source=CosineIndex.of_units(vectors))
    if "keys" not in saved:  # saved by version 0.1
        return found
    return replace(found, keys=fou.deserialize_numpy_array(saved["keys"], ascii=True))


def without_known(new: Indexed, ids: Ids, allow_existing: bool, warn_existing: bool) -> Indexed:
    """Leave out what is in an index already.

    Raises:
        DatasetError: if that is not allowed.
    """
    known = np.isin(new.ids, ids)
    if not known.any():
        return new
    told = f"{known.sum()} ids are in the index already ({named(new.ids[known])})"
    if not allow_existing:
        raise DatasetError(f"{told}; pass overwrite=True to replace their vectors")
    if warn_existing:
        logger.warning("%s and keep their vectors", told)
    return new.keep(~known)


def check_known(asked: Sequence[str], ids: Ids, allow_missing: bool, warn_missing: bool) -> None:
    """Look whether an index holds what is asked for.

    Raises:
        DatasetError: if it does not, and that is not allowed.
    """
    missing = np.setdiff1d(list(asked), ids)
    if not missing.size:
        return
    told = f"{missing.size} ids are not in the index ({named(missing)})"
    if not allow_missing:
        raise DatasetError(f"{told}; embed them and add them first")
    if warn_missing:
        logger.warning("%s", told)


def named(ids: Ids) -> str:
    """The first few ids, for a sentence."""
    return ", ".join(ids[:_NAMED_IDS]) + (" ..." if len(ids) > _NAMED_IDS else "")


def _table(vectors: Any, names: Ids) -> npt.NDArray[np.floating[Any]]:
    """Vectors of the samples or labels of these names as (n, d), never as objects."""
    if isinstance(vectors, np.ndarray) and vectors.ndim == 2 and vectors.dtype.kind in "fiu":
        return vectors
    rows = [np.asarray(vector).ravel() for vector in vectors]
    kinds = np.array([_kind(row) for row in rows], np.str_)
    found, counts = np.unique(kinds, return_counts=True)
    if len(found) > 1 or _NONE in found:
        usual = "" if len(found) == 1 else found[counts.argmax()]
        told = [
            f"{count} {kind}" + ("" if kind == usual else f" ({named(names[kinds == kind])})")
            for kind, count in zip(found.tolist(), counts, strict=True)
        ]
        raise VectorError(
            f"vectors of one index must have one dim, found {', '.join(told)}; embed all of them "
            "anew with one checkpoint"
        )
    return np.stack(rows) if rows else np.empty((0, 0), np.float32)


def _kind(row: npt.NDArray[Any]) -> str:
    return f"of dim {row.size}" if row.dtype.kind in "fiu" and row.size else _NONE
