"""The samples most like a sample, an image, a vector or a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import numpy.typing as npt
from bson import ObjectId

from fiftyone_isoclip.dataset.checkpoints import clip_for
from fiftyone_isoclip.dataset.fields import DEFAULT_FIELD, Origin, dataset_of, need_origin
from fiftyone_isoclip.dataset.spaces import Space, open_space
from fiftyone_isoclip.dataset.targets import CHANGED, list_changed
from fiftyone_isoclip.dataset.vectors import FieldVectors, read_vectors
from fiftyone_isoclip.encoder import Clip, embed_images
from fiftyone_isoclip.errors import DatasetError, ImageError
from fiftyone_isoclip.index import CosineIndex
from fiftyone_isoclip.index.vectors import unit_rows
from fiftyone_isoclip.projector import Band

Float32s = npt.NDArray[np.float32]

DEFAULT_COUNT = 25


@dataclass(frozen=True, slots=True)
class SimilarReport:
    """The samples found, most similar first, and the cosine of each to the query.

    ``skipped`` maps the samples that could not be compared to the reason; ``unknown_words`` are
    words of a text that the checkpoint's tokenizer does not know.
    """

    dataset: fo.Dataset = field(repr=False)
    ids: list[str]
    similarities: list[float]
    skipped: Mapping[str, str] = field(default_factory=dict)
    unknown_words: Sequence[str] = ()

    @property
    def view(self) -> Any:
        """The samples found, most similar first."""
        return self.dataset.select(self.ids, ordered=True)


def find_similar(
    samples: Any,
    query: str | Path | Sequence[str] | npt.NDArray[Any] | None = None,
    k: int = DEFAULT_COUNT,
    *,
    text: str | None = None,
    field: str = DEFAULT_FIELD,
    band: Band | str | None = None,
) -> SimilarReport:
    """Find the ``k`` samples most similar to a query; writes nothing.

    Images are compared in the IsoCLIP space, a text in that of plain CLIP: the directions that
    IsoCLIP drops carry the largest terms between text and image.

    Every vector is compared, whatever the band; for many searches of many samples
    `build_similarity` keeps an index. A sample whose file has changed since is not found.

    Args:
        samples: a dataset or view with embeddings; only its samples can be found.
        query: a sample id, several of them (their mean direction is searched for; they are not
            found themselves), the path of an image, or a plain embedding (r,).
        k: how many samples to find, at least 1.
        text: what the images should show, instead of ``query``.
        field: the stored embeddings.
        band: None for the checkpoint's own, ``"0/0"`` for plain CLIP; not for a text.

    Raises:
        DatasetError: not exactly one of query and text is given, there are no such embeddings, or
            a query sample has none.
        ImageError: the query image cannot be read.
        VectorError: the query vector has another dim or no direction.
    """
    if (query is None) == (text is None):
        raise DatasetError("give one thing to look for: a query (image) or text=..., not both")
    if k < 1:
        raise DatasetError(f"{k} samples were asked for; ask for at least 1")
    if text is not None:
        return _find_by_text(samples, text, k, field)
    dataset = dataset_of(samples)
    space = open_space(samples, field, band)
    vector, own_ids = _query_vector(dataset, space, query)
    index = CosineIndex(space.vectors, copy=False)
    return _report(dataset, space.origin, space.stored, index, vector, k, own_ids)


def _find_by_text(samples: Any, text: str, k: int, field: str) -> SimilarReport:
    dataset = dataset_of(samples)
    origin = need_origin(dataset, field)
    if origin.band is not None:
        raise DatasetError(
            f"a text cannot be looked for in field {field!r}, which holds {origin}; "
            "use the field of plain embeddings"
        )
    clip = clip_for(origin)
    stored = read_vectors(samples, field, origin.dim)
    vector = clip.text_embeddings([text])
    report = _report(dataset, origin, stored, CosineIndex(stored.vectors), vector, k)
    return replace(report, unknown_words=tuple(clip.unknown_words([text])))


def _report(
    dataset: fo.Dataset,
    origin: Origin,
    stored: FieldVectors,
    index: CosineIndex,
    query: Float32s,
    k: int,
    left_out: Set[str] = frozenset(),
) -> SimilarReport:
    """The samples nearest to a query (1, d), without some and without those that have changed."""
    checked: set[str] = set()
    changed: set[str] = set()
    while True:
        # Twice the changed ones: where all files are new, the rounds are few nevertheless.
        found = index.nearest(query, k + len(left_out) + 2 * len(changed))
        ids = [stored.ids[row] for row in found.rows[0]]
        due = [id_ for id_ in ids if id_ not in left_out and id_ not in checked]
        if not due:
            break
        # Only files that were found are looked at: looking at all takes longer than the search.
        changed |= list_changed(dataset.select(due), stored.field, origin.fingerprint)
        checked.update(due)
    scores = found.similarities[0].tolist()
    fit = [
        (id_, score)
        for id_, score in zip(ids, scores, strict=True)
        if id_ not in left_out and id_ not in changed
    ][:k]
    skipped = stored.skipped | dict.fromkeys(changed, CHANGED)
    return SimilarReport(dataset, [id_ for id_, _ in fit], [score for _, score in fit], skipped)


def _query_vector(dataset: fo.Dataset, space: Space, query: Any) -> tuple[Float32s, set[str]]:
    """A query as one row (1, k) of the space, and the samples it stands for."""
    if isinstance(query, Path) or (isinstance(query, str) and not _is_id(query)):
        return space.isoclip(embed_image(space.clip, query)), set()
    if isinstance(query, str):
        query = [query]
    numbers = np.asarray(query)
    if numbers.dtype.kind in "fiu" and numbers.size:
        return space.isoclip(numbers), set()
    if not len(query):
        raise DatasetError("no query sample was given; give at least one sample id")
    rows = [_sample_vector(dataset, space, id_) for id_ in query]
    return unit_rows(np.mean(rows, axis=0)), set(query)


def embed_image(clip: Clip, path: str | Path) -> Float32s:
    """The plain embedding of one image file: (1, r).

    Raises:
        ImageError: it cannot be read.
    """
    for batch in embed_images(clip, [path]):
        for reason in batch.failures.values():
            raise ImageError(f"{path} cannot be searched for: {reason}")
        return batch.embeddings
    raise ImageError(f"{path} gave no embedding")


def _sample_vector(dataset: fo.Dataset, space: Space, id_: str) -> Float32s:
    row = space.stored.row_of.get(id_)
    if row is not None:
        return space.vectors[[row]]
    field = space.stored.field
    elsewhere = read_vectors(dataset.select(id_), field, space.origin.dim)
    if elsewhere.ids:
        return space.isoclip(elsewhere.vectors)
    reason = elsewhere.skipped.get(id_, f"dataset {dataset.name!r} has no such sample")
    raise DatasetError(f"sample {id_} cannot be a query on field {field!r}: {reason}")


def _is_id(query: str) -> bool:
    return ObjectId.is_valid(query) and not Path(query).exists()
