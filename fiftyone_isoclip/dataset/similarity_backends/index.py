"""Searching samples whose vectors lie in a database: the answers of `faiss`, from its tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np

from fiftyone_isoclip.dataset.indexed import named
from fiftyone_isoclip.dataset.similarity_backends.rows import TableRows
from fiftyone_isoclip.dataset.similarity_backends.tables import Float32s, Hits, VectorTable
from fiftyone_isoclip.dataset.similarity_field import existing_ids
from fiftyone_isoclip.dataset.similarity_queries import TextQuery, prompts_of
from fiftyone_isoclip.errors import DatasetError, VectorError
from fiftyone_isoclip.index.vectors import unit_rows


class TableSimilarityIndex(TableRows):
    """Cosine search over the vectors of a field, copied into tables of a database.

    Images are compared by compressed IsoCLIP vectors, texts with plain embeddings in a table of
    their own, see `FaissSimilarityIndex`. Distances are 1 - cosine.
    """

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

    def _parse_query(self, query: Any) -> Any:
        self._recall()
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
        self.check_weights()
        vectors, is_single = self._vectors(query)
        if aggregation is not None:
            vectors, is_single = vectors.mean(axis=0, keepdims=True), True
        asked = isinstance(query, TextQuery), unit_rows(vectors)
        found = self._nearest(*asked, k, reverse)
        while k is not None and self._forget_gone(found):
            found = self._nearest(*asked, k, reverse)
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
            count = self._count(table, k, among)
            if count < 1:
                return [Hits([], [], np.empty(0, np.float32)) for _ in vectors]
            found = table.nearest(-vectors if reverse else vectors, count, among)
        return (
            [replace(hits, similarities=-hits.similarities) for hits in found] if reverse else found
        )

    def _count(self, table: VectorTable, k: int | None, among: Sequence[str] | None) -> int:
        """How many rows to ask for; all of a table are counted only if their number matters."""
        most = self.config.max_k
        if among is None and k is not None and (most is None or k <= most):
            return k
        there = table.count() if among is None else len(among)
        count = there if k is None else min(k, there)
        if most is not None and count > most:
            raise DatasetError(
                f"{count} results were asked of an index in {self.config.method}, which finds "
                f"{most} at most; give a smaller k"
            )
        return count

    def _forget_gone(self, found: Sequence[Hits]) -> bool:
        """Drop those of these that were deleted from the dataset; whether there were any."""
        if not self.config.is_owned_by(self._dataset):
            return False
        samples = sorted({id_ for hits in found for id_ in hits.sample_ids})
        gone = {id_ for hits in found for id_ in hits.ids}
        gone -= existing_ids(self._dataset, self.config.patches_field, samples)
        self._remove(sorted(gone))
        return bool(gone)
