"""Searching samples: images by IsoCLIP, text by plain CLIP, both from the same stored vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from fiftyone.brain.similarity import DuplicatesMixin

from fiftyone_isoclip.dataset.distinct import choose_distinct, keep_distinct
from fiftyone_isoclip.dataset.indexed import Indexed, Rows, named
from fiftyone_isoclip.dataset.similarity_queries import TextQuery
from fiftyone_isoclip.dataset.similarity_rows import SimilarityRows
from fiftyone_isoclip.errors import DatasetError
from fiftyone_isoclip.index import DEFAULT_SIMILARITY, CosineIndex, Neighbors
from fiftyone_isoclip.index.search import SearchIndex
from fiftyone_isoclip.index.vectors import unit_rows

Float32s = npt.NDArray[np.float32]


class FaissSimilarityIndex(SimilarityRows, DuplicatesMixin):
    """Cosine search over the vectors of a field, or over vectors kept with the run.

    Plain CLIP embeddings (recognised by their field's origin, or by their dim) are searched in two
    ways: queries by image go through the checkpoint's IsoCLIP map, (n, r) -> (n, k), and queries
    by text to the plain embeddings, because the directions that IsoCLIP drops are those that tie
    text to images. Other vectors are searched as they are. Distances are 1 - cosine; nothing is
    centred, so they depend on nothing else in the index.

    Exact, except that many vectors are searched by an inverted file (`SearchIndex`) for the
    neighbours of images among all of them; `config.search` says which.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        SimilarityRows.__init__(self, *args, **kwargs)
        DuplicatesMixin.__init__(self)

    def _kneighbors(
        self,
        query: Any = None,
        k: int | None = None,
        reverse: bool = False,
        aggregation: str | None = None,
        return_dists: bool = False,
    ) -> Any:
        """See FiftyOne's `SimilarityIndex`: ids for a query, positions in the view for None."""
        if aggregation not in (None, "mean"):
            raise DatasetError(
                f"aggregation={aggregation!r} was asked for; several queries can only be averaged"
            )
        if query is None:
            return self._neighbors_of_all(k, reverse, return_dists)
        indexed = self.prepare()
        index, vectors, is_single = self._vectors(indexed, query)
        if aggregation is not None:
            vectors, is_single = unit_rows(vectors).mean(axis=0, keepdims=True), True
        # A text is nothing like the rows that the recall of an inverted file was measured on.
        by = indexed.search if index is indexed.images and not reverse else index
        found = _nearest(
            by, vectors, index.n if k is None else k, self._viewed_rows(indexed), reverse
        )
        if k is not None and self._forget_gone(indexed, np.unique(found.rows)):
            return self._kneighbors(query, k, reverse, aggregation, return_dists)
        return _told(indexed, list(found.rows), list(found.similarities), is_single, return_dists)

    def _radius_neighbors(
        self, query: Any = None, thresh: float | None = None, return_dists: bool = False
    ) -> Any:
        """See FiftyOne's `DuplicatesMixin`: everything within a distance, the nearest first."""
        similarity = 1 - _threshold(thresh)
        if query is None:
            return self._pairs_of_all(similarity, return_dists)
        indexed = self.settle()
        index, vectors, is_single = self._vectors(indexed, query)
        found = _nearest(index, vectors, index.n, self._viewed_rows(indexed), reverse=False)
        counts = (found.similarities >= np.float32(similarity)).sum(axis=1)
        rows = [row[:n] for row, n in zip(found.rows, counts, strict=True)]
        scores = [row[:n] for row, n in zip(found.similarities, counts, strict=True)]
        return _told(indexed, rows, scores, is_single, return_dists)

    def find_duplicates(self, thresh: float | None = None, fraction: float | None = None) -> None:
        """Find near-duplicates by distance (1 - cosine), or as a fraction of all.

        Args:
            thresh: default: 1 - DEFAULT_SIMILARITY, unless a fraction is given.
            fraction: in [0, 1].

        Raises:
            VectorError: if the threshold is no distance, or loose enough for too many pairs.
        """
        if thresh is None and fraction is None:
            thresh = _threshold(None)
        super().find_duplicates(thresh=thresh, fraction=fraction)

    def _remove_duplicates_thresh(self, thresh: float, ids: Sequence[str]) -> list[str]:
        kept = keep_distinct(self._viewed().pairs_above(1 - _threshold(thresh)))
        return [str(ids[row]) for row in kept]

    def _remove_duplicates_count(
        self, num_keep: int, ids: Sequence[str], init_thresh: float | None = None
    ) -> tuple[list[str], float | None]:
        # FiftyOne bisects here, with up to fifteen searches that begin with all pairs.
        if num_keep <= 0 or num_keep >= len(ids):
            return [str(id_) for id_ in ids if num_keep > 0], None
        kept, similarity = choose_distinct(self._viewed(), num_keep)
        return [str(ids[row]) for row in kept], 1 - similarity

    def _viewed(self) -> CosineIndex:
        """What image queries are compared with, only the rows of the view, in its order."""
        indexed = self.settle()
        rows = self._viewed_rows(indexed)
        return indexed.images if rows is None else CosineIndex(indexed.images.vectors[rows])

    def _viewed_rows(self, indexed: Indexed) -> Rows | None:
        """The rows of the view in its order, None for all."""
        self._apply_view_to(indexed)
        rows = self._curr_keep_inds
        return None if rows is None else np.asarray(rows, np.int64)

    def _vectors(self, indexed: Indexed, query: Any) -> tuple[CosineIndex, Float32s, bool]:
        """What a query is compared with, its vectors (m, d), and whether it is a single one."""
        if isinstance(query, TextQuery):
            return indexed.source, query.embeddings, False
        images = indexed.images
        given = np.asarray(query)
        if given.dtype.kind in "fiu":
            vectors, plain = np.atleast_2d(given), indexed.embedding_map
            if plain is not None and (
                indexed.is_centred or vectors.shape[1] == plain.plain_dim != images.dim
            ):
                vectors = plain(vectors)
            return images, vectors, given.ndim == 1
        ids = [str(id_) for id_ in np.atleast_1d(given)]
        absent = [id_ for id_ in ids if id_ not in indexed.row_of]
        if absent:
            raise DatasetError(
                f"{len(absent)} of the samples or labels asked for are not in the index "
                f"({named(np.array(absent))}); embed them and build the index again"
            )
        return images, images.vectors[[indexed.row_of[id_] for id_ in ids]], given.ndim == 0

    def _neighbors_of_all(self, k: int | None, reverse: bool, return_dists: bool) -> Any:
        """For each row of the view the positions in it of its neighbours, itself left out."""
        index = self._viewed()
        count = max(0, index.n - 1 if k is None else min(k, index.n - 1))
        if count == 0:
            nothing = [np.empty(0, np.int64)] * index.n
            return (nothing, [np.empty(0)] * index.n) if return_dists else nothing
        found = _nearest(index, index.vectors, count + 1, None, reverse)
        itself = found.rows == np.arange(index.n)[:, None]
        # Where copies fill all places, the row itself may have found none: give up the last.
        itself[~itself.any(axis=1), -1] = True
        rows = list(found.rows[~itself].reshape(index.n, count))
        distances = list(1 - found.similarities[~itself].reshape(index.n, count))
        return (rows, distances) if return_dists else rows

    def _pairs_of_all(self, similarity: float, return_dists: bool) -> Any:
        """For each row of the view the positions in it of all that are at least this similar."""
        index = self._viewed()
        pairs = index.pairs_above(similarity)
        ends = np.concatenate([pairs.left, pairs.right])
        others = np.concatenate([pairs.right, pairs.left])
        scores = np.concatenate([pairs.similarity, pairs.similarity])
        order = np.lexsort((others, -scores, ends))
        cuts = np.cumsum(np.bincount(ends, minlength=index.n))[:-1]
        rows = np.split(others[order], cuts) if index.n else []
        distances = np.split(1 - scores[order], cuts) if index.n else []
        return (rows, distances) if return_dists else rows


def _threshold(thresh: float | None) -> float:
    return 1 - DEFAULT_SIMILARITY if thresh is None else float(thresh)


def _nearest(
    index: CosineIndex | SearchIndex,
    vectors: Float32s,
    k: int,
    among: Rows | None,
    reverse: bool,
) -> Neighbors:
    found = index.nearest(-vectors if reverse else vectors, max(1, k), among=among)
    return Neighbors(found.rows, -found.similarities) if reverse else found


def _told(
    indexed: Indexed,
    rows: list[Rows],
    similarities: list[Float32s],
    is_single: bool,
    return_dists: bool,
) -> tuple[Any, ...]:
    """(sample ids, label ids or None[, distances]), each a list, or a list of lists."""
    labels = indexed.label_ids
    told: list[Any] = [
        [indexed.sample_ids[found].tolist() for found in rows],
        None if labels is None else [labels[found].tolist() for found in rows],
    ]
    if return_dists:
        told.append([(1 - found).tolist() for found in similarities])
    return tuple(part[0] if part is not None and is_single else part for part in told)
