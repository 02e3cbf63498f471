"""The paper's experiment run again: its methods on its sets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np

from fiftyone_isoclip import files
from fiftyone_isoclip.encoder import Clip
from fiftyone_isoclip.errors import IsoClipError, StoreError
from fiftyone_isoclip.evaluation.inversion_method import oti_method
from fiftyone_isoclip.evaluation.latency import measure_latency
from fiftyone_isoclip.evaluation.methods import PLAIN, Method
from fiftyone_isoclip.evaluation.paper import paper_backbone, paper_figure
from fiftyone_isoclip.evaluation.reproduction_results import Measured, Reproduction, SetResult
from fiftyone_isoclip.evaluation.set_scores import MAP, score_set
from fiftyone_isoclip.evaluation.sets import RetrievalSet, Survey, TextSet
from fiftyone_isoclip.index.vectors import Float32s, unit_rows
from fiftyone_isoclip.projector import Band, EmbeddingMap

TIMED_QUERIES = 3
"""Of each set, five times each: enough for a median, and OTI takes seconds a query."""

_TEXTS_AT_ONCE = 1024

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], Any]]]
"""Opens a bar, told what is done and how often; what it gives is told how many more are done."""


def reproduce(
    survey: Survey,
    clip: Clip,
    *,
    inversion: bool = False,
    cache_folder: Path | None = None,
    progress: Progress | None = None,
) -> Reproduction:
    """Measure plain CLIP and IsoCLIP with the checkpoint's own bands on every set.

    A set that cannot be measured fails alone.

    Args:
        survey: the sets.
        clip: the checkpoint.
        inversion: whether OTI is measured as well, on images; seconds a query on a processor.
        cache_folder: where the embeddings of images are kept, so that a run that was stopped goes
            on; what changes later under the same paths is not noticed there.
        progress: opens a bar.
    """
    bench = _Bench(clip, inversion, cache_folder, progress or _no_bar)
    results: list[SetResult] = []
    failed: dict[str, str] = {}
    for found in survey.found:
        try:
            results.append(bench.measure(found))
        except IsoClipError as error:
            failed[found.name] = str(error)
    return Reproduction(
        clip.checkpoint,
        paper_backbone(clip.checkpoint),
        clip.image_band,
        clip.text_band,
        f"{clip.precision} on {clip.device}",
        results,
        failed,
    )


@dataclass(frozen=True, eq=False)
class _Bench:
    """A checkpoint, and how sets are measured with it."""

    clip: Clip
    inversion: bool
    cache_folder: Path | None
    progress: Progress

    def measure(self, found: RetrievalSet | TextSet) -> SetResult:
        return self.texts(found) if isinstance(found, TextSet) else self.images(found)

    def images(self, found: RetrievalSet) -> SetResult:
        embedded = self.embed(found)
        row_of = {path: row for row, path in enumerate(embedded.embedded_paths)}
        kept = found.only(row_of)
        if not kept.query_paths or not kept.gallery_paths:
            why = next(iter(embedded.failed.values()))
            raise IsoClipError(f"{found.name} has no queries or no gallery that can be read: {why}")
        queries, gallery = (
            embedded.embeddings[[row_of[path] for path in paths]]
            for paths in (kept.query_paths, kept.gallery_paths)
        )
        scored = self.scored(kept, self.image_methods(kept.name, queries, gallery))
        seconds = self.seconds(kept, gallery)
        measured = [replace(each, seconds_per_query=seconds[each.method]) for each in scored]
        return SetResult(
            kept.name, False, kept.is_apart, len(queries), len(gallery), embedded.failed, measured
        )

    def texts(self, found: TextSet) -> SetResult:
        sides = found.query_texts, found.gallery_texts
        with self.progress(f"Embedding {found.name}", sum(map(len, sides))) as advance:
            queries, gallery = (self.embed_texts(texts, advance) for texts in sides)
        methods = _plain_and_band(queries, gallery, self.clip.text_band, self.clip.isoclip_text())
        measured = self.scored(found, methods)
        return SetResult(found.name, True, found.is_apart, len(queries), len(gallery), {}, measured)

    def image_methods(self, name: str, queries: Float32s, gallery: Float32s) -> Iterator[Method]:
        """One after the other: a large set is held in memory once more for each."""
        yield from _plain_and_band(queries, gallery, self.clip.image_band, self.clip.isoclip())
        if self.inversion:
            with self.progress(f"Inverting {name}", len(queries)) as advance:
                yield oti_method(self.clip, queries, gallery, told=advance)

    def scored(self, found: RetrievalSet | TextSet, methods: Iterable[Method]) -> list[Measured]:
        backbone = paper_backbone(self.clip.checkpoint)
        measured = []
        for method in methods:
            with self.progress(f"{method.name} on {found.name}", len(method.queries)) as advance:
                metrics, average_precision = score_set(found, method, advance)
            if isnan(metrics[MAP]):
                raise IsoClipError(f"no query of {found.name} has anything to be found")
            figure = paper_figure(method.kind, backbone, found.name)
            measured.append(
                Measured(method.name, method.kind, metrics, average_precision, None, figure)
            )
        return measured

    def seconds(self, found: RetrievalSet, gallery: Float32s) -> dict[str, float]:
        """Median seconds a query by method."""
        return measure_latency(
            self.clip,
            found.query_paths[:TIMED_QUERIES],
            gallery,
            [self.clip.image_band],
            inversion=self.inversion,
        )

    def embed(self, found: RetrievalSet) -> files.FileEmbeddings:
        """The plain embeddings of a set's images, from the cache if it holds these paths."""
        paths = tuple(dict.fromkeys((*found.query_paths, *found.gallery_paths)))
        kept = None
        if self.cache_folder is not None:
            weights = f"{self.clip.fingerprint[:16]}-{self.clip.precision}"
            kept = self.cache_folder / f"{found.name}-{weights}.npz"
            held = _read_kept(kept, self.clip)
            if held is not None and set(held.paths) == set(paths):
                return held
        with self.progress(f"Embedding {found.name}", len(paths)) as advance:
            # Not Listing.of: an image under two names is two images of the set.
            embedded = files.embed_files(files.Listing(paths), self.clip, progress=advance)
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            files.write_embeddings(kept, embedded, self.clip)
        return embedded

    def embed_texts(self, texts: Sequence[str], advance: Callable[[int], Any]) -> Float32s:
        parts = []
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            part = texts[start : start + _TEXTS_AT_ONCE]
            parts.append(self.clip.text_embeddings(part))
            advance(len(part))
        return np.concatenate(parts)


def _plain_and_band(
    queries: Float32s, gallery: Float32s, band: Band, mapping: EmbeddingMap
) -> Iterator[Method]:
    yield Method(PLAIN, "plain", unit_rows(queries), unit_rows(gallery))
    yield Method(f"IsoCLIP {band}", "band", mapping(queries), mapping(gallery))


def _read_kept(path: Path, clip: Clip) -> files.FileEmbeddings | None:
    """What the cache holds; None where it holds nothing that can be used."""
    try:
        return files.read_embeddings(path, clip)
    except StoreError:
        return None


def _no_bar(_doing: str, _total: int) -> AbstractContextManager[Callable[[int], Any]]:
    return nullcontext(lambda _: None)
