"""The files most like a given image, or most like a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fiftyone_isoclip.encoder import Clip
from fiftyone_isoclip.files.embeddings import FileEmbeddings, Files, Progress, embed_files
from fiftyone_isoclip.files.listing import Identity, file_identity
from fiftyone_isoclip.index import CosineIndex
from fiftyone_isoclip.projector import Band


@dataclass(frozen=True, slots=True)
class FileMatch:
    """A file and its similarity to the query."""

    path: str
    similarity: float


@dataclass(frozen=True, slots=True)
class FileResults:
    """What one query found, most similar first; ``failed`` says why a query image found nothing."""

    query: str
    matches: tuple[FileMatch, ...]
    failed: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The query and its results as JSON values."""
        results = [{"path": match.path, "similarity": match.similarity} for match in self.matches]
        return {"query": self.query, "results": results}


def search_files(
    files: Files,
    clip: Clip,
    queries: Sequence[str],
    *,
    count: int,
    band: Band | None = None,
    progress: Progress | None = None,
) -> list[FileResults]:
    """Find the ``count`` files most similar to each query image in the IsoCLIP embedding.

    A query never retrieves itself: the same real file is left out, a copy of it is not. A query
    image that cannot be read fails alone.

    Raises:
        IsoClipError: the band is not possible for this checkpoint, or ``count`` is below 1.
    """
    embedding_map = clip.isoclip(band)
    gallery = embed_files(files, clip, progress=progress)
    own_rows = _rows_by_identity(gallery)
    strangers = [query for query in queries if file_identity(query) not in own_rows]
    asked = embed_files(strangers, clip, progress=progress)
    if progress is not None:
        progress(len(queries) - len(asked.paths))
    plain = {key: asked.embeddings[row] for key, row in _rows_by_identity(asked).items()}
    plain |= {key: gallery.embeddings[row] for key, row in own_rows.items()}
    reasons = {file_identity(path): reason for path, reason in asked.failed.items()}
    keys = [file_identity(query) for query in queries]
    vectors = np.array([plain[key] for key in keys if key in plain], np.float32)
    index = CosineIndex(embedding_map(gallery.embeddings))
    # One more than asked: a query that is among the files finds itself first.
    found = _nearest(index, embedding_map(vectors.reshape(-1, clip.dim)), count + 1)
    results = []
    for query, key in zip(queries, keys, strict=True):
        if key in plain:
            others = [(row, score) for row, score in next(found) if row != own_rows.get(key)]
            results.append(_results(query, gallery, others[:count]))
        else:
            results.append(FileResults(query, (), reasons[key]))
    return results


def search_files_by_text(
    files: Files,
    clip: Clip,
    prompts: Sequence[str],
    *,
    count: int,
    progress: Progress | None = None,
) -> list[FileResults]:
    """Find the ``count`` files most similar to each text, by plain embeddings on both sides.

    The directions that IsoCLIP drops carry the largest terms between text and image, so a text is
    compared where CLIP was trained to compare it.

    Raises:
        IsoClipError: ``count`` is below 1.
    """
    gallery = embed_files(files, clip, progress=progress)
    found = _nearest(CosineIndex(gallery.embeddings), clip.text_embeddings(prompts), count)
    return [
        _results(prompt, gallery, matches) for prompt, matches in zip(prompts, found, strict=True)
    ]


_Match = tuple[int, float]


def _nearest(
    index: CosineIndex, queries: npt.NDArray[np.float32], count: int
) -> Iterator[list[_Match]]:
    neighbors = index.nearest(queries, count)
    for rows, similarities in zip(neighbors.rows, neighbors.similarities, strict=True):
        yield list(zip(rows.tolist(), similarities.tolist(), strict=True))


def _results(query: str, gallery: FileEmbeddings, matches: Sequence[_Match]) -> FileResults:
    return FileResults(
        query,
        tuple(FileMatch(gallery.paths[gallery.rows[row]], score) for row, score in matches),
    )


def _rows_by_identity(embedded: FileEmbeddings) -> dict[Identity, int]:
    return {file_identity(path): row for row, path in enumerate(embedded.embedded_paths)}
