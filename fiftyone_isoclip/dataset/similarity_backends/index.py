"""Searching samples whose vectors lie in a database: the answers of `faiss`, from its tables."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np
from fiftyone.brain.similarity import SimilarityIndex

from fiftyone_isoclip.dataset.indexed import (
    Indexed,
    check_known,
    named,
    restored_map,
    saved_map,
    without_known,
)
from fiftyone_isoclip.dataset.similarity_backends.tables import Float32s, Hits, Rows, Tables
from fiftyone_isoclip.dataset.similarity_blocks import read_blocks
from fiftyone_isoclip.dataset.similarity_field import existing_ids
from fiftyone_isoclip.dataset.similarity_map import choose_map
from fiftyone_isoclip.dataset.similarity_queries import ModelQueries, TextQuery, prompts_of
from fiftyone_isoclip.errors import DatasetError, VectorError
from fiftyone_isoclip.index.vectors import unit_rows
from fiftyone_isoclip.projector import EmbeddingMap

logger = logging.getLogger(__name__)


class TableSimilarityIndex(ModelQueries):
    """Cosine search over the vectors of a field, copied into tables of a database.

    Images are compared by compressed IsoCLIP vectors, texts with plain embeddings in a table of
    their own, see `FaissSimilarityIndex`. The tables do not follow the field: `find_changes` says
    what happened to it since, and `fill` brings them up to date. Distances are 1 - cosine.
    """

    def __init__(
        self,
        samples: Any,
        config: Any,
        brain_key: str | None,
        *,
        backend: Any = None,
        saved: dict[str, Any] | None = None,
    ) -> None:
        self._dataset = samples._dataset
        self._opening = threading.Lock()
        self._tables: Tables | None = None
        self._dim: int | None = None if saved is None else saved["dim"]
        self._map: EmbeddingMap | None = None if saved is None else restored_map(saved)
        super().__init__(samples, config, brain_key, backend=backend)

    @property
    def total_index_size(self) -> int:
        """How many vectors there are, whatever the view."""
        with self.tables() as tables:
            return tables.images.count()

    @contextmanager
    def tables(self) -> Iterator[Tables]:
        """The tables, opened when they are first asked for.

        Raises:
            DatasetError: the database cannot be asked, in a sentence.
        """
        with self._opening:
            if self._tables is None:
                self._tables = self.backend.open()
        try:
            yield self._tables
        except self._tables.errors as error:
            raise self.backend.away(error) from error

    def image_map(self) -> EmbeddingMap | None:
        """What plain embeddings go through to be compared as images; None compares them as is."""
        return self._map

    def read_field(self) -> Iterator[Indexed]:
        """The vectors of the field that the tables are a copy of, a block at a time."""
        config = self.config
        return read_blocks(self._dataset, config.embeddings_field, config.patches_field)

    def compared(self, vectors: Float32s) -> Float32s:
        """Unit rows of the field as images are compared here: (n, r) -> (n, k)."""
        return vectors if self._map is None else self._map(vectors)

    def fill(self) -> None:
        """Put all vectors of the field into the tables, and take out what it has no longer.

        Done again, this brings an index up to date.

        Raises:
            DatasetError: the tables are another dataset's, the field holds vectors of other weights
                by now, or the database cannot be asked.
            VectorError: the field holds vectors of another dim by now.
        """
        self._check_owner()
        self._check_weights()
        with self.tables() as tables:
            gone = set(tables.images.list_ids()[0])
        count = 0
        for block in self.read_field():
            self._put(block)
            gone.difference_update(block.ids.tolist())
            count += block.source.n
            logger.info("%s vectors are in %s", f"{count:,}", self.config.method)
        self._remove(sorted(gone))
        with self.tables() as tables:
            for table in (tables.images, tables.texts):
                if table is not None:
                    table.settle()

    def add_to_index(
        self,
        embeddings: Any,
        sample_ids: Sequence[str],
        label_ids: Sequence[str] | None = None,
        overwrite: bool = True,
        allow_existing: bool = True,
        warn_existing: bool = False,
        reload: bool = True,
    ) -> None:
        """Add vectors, (n, d), plain where the index was made of plain ones.

        Those without direction (NaN, infinite, zero) stay out, counted and named in a warning.

        Raises:
            VectorError: if they do not fit those of the index or of its checkpoint.
            DatasetError: if ids are in the index already and that is not allowed, or the database
                cannot be asked.
        """
        self._check_owner()
        new = Indexed.of(embeddings, sample_ids, label_ids)
        if not overwrite and new.source.n:
            known = np.array(self._read(new.ids.tolist()).ids, dtype="<U24")
            new = without_known(new, known, allow_existing, warn_existing)
        self._put(new)
        if reload:
            self.reload()

    def remove_from_index(
        self,
        sample_ids: Sequence[str] | None = None,
        label_ids: Sequence[str] | None = None,
        allow_missing: bool = True,
        warn_missing: bool = False,
        reload: bool = True,
    ) -> None:
        """Remove vectors; the field of the dataset keeps its own.

        Raises:
            DatasetError: if ids are not in the index and that is not allowed, or the database
                cannot be asked.
        """
        self._check_owner()
        for samples, labels in ((sample_ids, None), (None, label_ids)):
            if samples is not None or labels is not None:
                self._remove(self._find(samples, labels, allow_missing, warn_missing).ids)
        if reload:
            self.reload()

    def get_embeddings(
        self,
        sample_ids: Any = None,
        label_ids: Any = None,
        allow_missing: bool = True,
        warn_missing: bool = False,
    ) -> tuple[Any, Any, Any]:
        """The unit rows that image queries are compared with, (n, k), and their ids.

        For a sample of an index of patches these are all its patches.

        Raises:
            DatasetError: if ids are not in the index and that is not allowed, or the database
                cannot be asked.
        """
        found = self._find(sample_ids, label_ids, allow_missing, warn_missing)
        labels = None if self.config.patches_field is None else np.array(found.ids)
        return found.vectors, np.array(found.sample_ids), labels

    def find_duplicates(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: pairs are found from the field.

        Raises:
            DatasetError: always.
        """
        raise DatasetError(
            f"duplicates were asked of an index in {self.config.method}, which answers one query "
            f"at a time; fiftyone_isoclip.find_duplicates(dataset, "
            f"field={self.config.embeddings_field!r}) compares all pairs"
        )

    def cleanup(self) -> None:
        """Delete the tables, if they are of this dataset."""
        if self.config.is_owned_by(self._dataset):
            with self.tables() as tables:
                for table in (tables.images, tables.texts):
                    if table is not None:
                        table.drop()

    @property
    def saved(self) -> dict[str, Any]:
        """What FiftyOne stores of these results; the vectors are in the database."""
        return {"map": saved_map(self._map), "dim": self._dim}

    def attributes(self) -> list[str]:
        """The attributes that FiftyOne stores."""
        return [*super().attributes(), "saved"]

    @classmethod
    def _from_dict(
        cls, d: dict[str, Any], samples: Any, config: Any, brain_key: str
    ) -> TableSimilarityIndex:
        return cls(samples, config, brain_key, saved=d["saved"])

    def _apply_view_if_necessary(self) -> None:
        SimilarityIndex._apply_view_if_necessary(self)  # no rows here that a thread may replace

    def _parse_query(self, query: Any) -> Any:
        if self._map is not None and not self.config.text and prompts_of(query) is not None:
            raise DatasetError(
                f"text was asked of index {self.key!r}, which was built with text=False and holds "
                "no plain embeddings to compare it with; build it with text=True"
            )
        return super()._parse_query(query)

    def _kneighbors(
        self,
        query: Any = None,
        k: int | None = None,
        reverse: bool = False,
        aggregation: str | None = None,
        return_dists: bool = False,
    ) -> Any:
        """See FiftyOne's `SimilarityIndex`: ids for a query; None is refused."""
        self._check_asked(query, reverse, aggregation)
        vectors, is_single = self._vectors(query)
        if aggregation is not None:
            vectors, is_single = vectors.mean(axis=0, keepdims=True), True
        found = self._nearest(isinstance(query, TextQuery), unit_rows(vectors), k, reverse)
        if k is not None and self._forget_gone(found):
            return self._kneighbors(query, k, reverse, aggregation, return_dists)
        samples: list[Any] = [hits.sample_ids for hits in found]
        patches = self.config.patches_field is not None
        told = [samples, [hits.ids for hits in found] if patches else None]
        if return_dists:
            told.append([(1 - hits.similarities).tolist() for hits in found])
        return tuple(part[0] if part is not None and is_single else part for part in told)

    def _check_asked(self, query: Any, reverse: bool, aggregation: str | None) -> None:
        if query is None:
            self.find_duplicates()
        if aggregation not in (None, "mean"):
            raise DatasetError(
                f"aggregation={aggregation!r} was asked for; several queries can only be averaged"
            )
        if reverse and not self.config.supports_least_similarity:
            raise DatasetError(
                f"the least similar were asked of an index in {self.config.method}, which finds "
                "the most similar alone; an index with backend='faiss' finds both"
            )

    def _vectors(self, query: Any) -> tuple[Float32s, bool]:
        """The unit rows (m, d) of a query, and whether it is a single one."""
        if isinstance(query, TextQuery):
            return unit_rows(query.embeddings), False
        given = np.asarray(query)
        if given.dtype.kind in "fiu":
            return self._compared(np.atleast_2d(given)), given.ndim == 1
        ids = [str(id_) for id_ in np.atleast_1d(given)]
        found = self._read(list(dict.fromkeys(ids)))
        row_of = {id_: row for row, id_ in enumerate(found.ids)}
        absent = [id_ for id_ in ids if id_ not in row_of]
        if absent:
            raise DatasetError(
                f"{len(absent)} of the samples or labels asked for are not in the index "
                f"({named(np.array(absent))}); embed them and add them to the index"
            )
        return found.vectors[[row_of[id_] for id_ in ids]], given.ndim == 0

    def _compared(self, vectors: Any) -> Float32s:
        """Vectors as images are compared here, from plain or compressed ones: (m, d) -> (m, k)."""
        dims = [self._dim] if self._map is None else [self._map.plain_dim, self._map.dim]
        if self._dim is not None and vectors.shape[1] not in dims:
            raise VectorError(
                f"vectors of dim {vectors.shape[1]} were given to an index that takes "
                f"{' or '.join(map(str, dims))}; make them with {self.config.checkpoint}"
            )
        if self._map is not None and vectors.shape[1] == self._map.plain_dim:
            return self._map(vectors)
        return unit_rows(vectors)

    def _nearest(
        self, is_text: bool, vectors: Float32s, k: int | None, reverse: bool
    ) -> list[Hits]:
        among = None
        if self.has_view:
            patches = self.config.patches_field is not None
            ids = self.current_label_ids if patches else self.current_sample_ids
            among = [str(id_) for id_ in ids]
        with self.tables() as tables:
            table = tables.texts if is_text and tables.texts is not None else tables.images
            most = table.count() if among is None else len(among)
            count = most if k is None else min(k, most)
            if self.config.max_k is not None and count > self.config.max_k:
                raise DatasetError(
                    f"{count} results were asked of an index in {self.config.method}, which finds "
                    f"{self.config.max_k} at most; give a smaller k"
                )
            if count < 1:
                return [Hits([], [], np.empty(0, np.float32)) for _ in vectors]
            found = table.nearest(-vectors if reverse else vectors, count, among)
        return (
            [replace(hits, similarities=-hits.similarities) for hits in found] if reverse else found
        )

    def _put(self, new: Indexed) -> None:
        """Store rows, plain or compressed as they are, after making sure that they fit."""
        if new.source.n == 0:
            return
        vectors = np.asarray(new.source.vectors, np.float32)
        self._settle(vectors.shape[1])
        ids, samples, compared = new.ids.tolist(), new.sample_ids.tolist(), self.compared(vectors)
        with self.tables() as tables:
            tables.images.put(ids, samples, compared)
            if tables.texts is not None:
                tables.texts.put(ids, samples, vectors)

    def _settle(self, dim: int) -> None:
        """Find out what the vectors go through, with the first of them; refuse others of later."""
        if self._dim is not None and dim != self._dim:
            raise VectorError(
                f"the index holds vectors made of such of dim {self._dim} and was given some of "
                f"dim {dim}; make them with the same checkpoint, both plain or both IsoCLIP"
            )
        if self._dim is not None:
            return
        model = self._isoclip_model()
        if model is not None:
            field = self.config.embeddings_field
            self._map = choose_map(model, dim, self._origin(), field)
        if self._map is None:
            self.config.texts_table = None  # texts are compared with what images are
        self._dim = dim
        if model is not None:
            self._remember(model)

    def _read(self, ids: Sequence[str]) -> Rows:
        with self.tables() as tables:
            return tables.images.read(ids)

    def _find(
        self, sample_ids: Any, label_ids: Any, allow_missing: bool, warn_missing: bool
    ) -> Rows:
        """The rows of labels, of samples, or all."""
        is_patches = self.config.patches_field is not None
        if label_ids is not None and not is_patches:
            raise DatasetError("labels were asked for; this index is of whole images")
        asked = label_ids if label_ids is not None else sample_ids
        asked = None if asked is None else [str(id_) for id_ in np.atleast_1d(asked)]
        if asked is not None and (label_ids is not None or not is_patches):
            found = self._read(asked)
            known = found.ids
        else:
            with self.tables() as tables:
                ids, known = tables.images.list_ids()
            wanted = None if asked is None else set(asked)
            pairs = zip(ids, known, strict=True)
            found = self._read([id_ for id_, of in pairs if wanted is None or of in wanted])
        if asked is not None:
            check_known(asked, np.array(known, dtype="<U24"), allow_missing, warn_missing)
        return found

    def _remove(self, ids: Sequence[str]) -> None:
        with self.tables() as tables:
            for table in (tables.images, tables.texts):
                if table is not None and len(ids):
                    table.remove(ids)

    def _forget_gone(self, found: Sequence[Hits]) -> bool:
        """Drop what was deleted from the dataset if any of these was; whether it was."""
        patches_field, owned = self.config.patches_field, self.config.is_owned_by(self._dataset)
        samples = sorted({id_ for hits in found for id_ in hits.sample_ids})
        ids = {id_ for hits in found for id_ in hits.ids}
        if not owned or existing_ids(self._dataset, patches_field, samples).issuperset(ids):
            return False
        with self.tables() as tables:
            ids = set(tables.images.list_ids()[0])
        gone = ids - existing_ids(self._dataset, patches_field)
        self._remove(sorted(gone))
        return bool(gone)

    def _check_weights(self) -> None:
        origin, built = self._origin(), self.config.fingerprint
        if origin is not None and built not in (None, origin.fingerprint):
            raise DatasetError(
                f"index {self.key!r} was built of vectors of weights {built[:12]}, and field "
                f"{self.config.embeddings_field!r} holds {origin} now; build it again"
            )

    def _check_owner(self) -> None:
        if not self.config.is_owned_by(self._dataset):
            raise DatasetError(
                f"index {self.key!r} of {self._dataset.name!r} is of tables that belong to the "
                "dataset it was cloned from, and cannot be changed here; build an index of its own"
            )
