"""Retrieval by label, IsoCLIP's bands beside the baselines, on anybody's own embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from fiftyone_isoclip.errors import IsoClipError
from fiftyone_isoclip.evaluation.comparison import Comparison, made_by
from fiftyone_isoclip.evaluation.methods import Method, Side, make_methods, timed
from fiftyone_isoclip.evaluation.metrics.bootstrap import DEFAULT_LEVEL, DEFAULT_RESAMPLES
from fiftyone_isoclip.evaluation.metrics.classification import ncm_accuracy
from fiftyone_isoclip.evaluation.metrics.ranking import rankings
from fiftyone_isoclip.evaluation.metrics.retrieval import METRICS, score_retrieval
from fiftyone_isoclip.evaluation.report import Page
from fiftyone_isoclip.evaluation.scores import (
    DECISIVE,
    OWN_GALLERY,
    Sampling,
    Values,
    as_queries,
    merged_name,
    score_methods,
)
from fiftyone_isoclip.index.vectors import Float32s, Rows
from fiftyone_isoclip.projector import Band

if TYPE_CHECKING:
    from fiftyone_isoclip.encoder import Clip  # imports torch: measuring needs none

NCM = "NCM accuracy"

ALL_QUERIES = 5_000
"""Up to so many of a gallery each one is a query, for each of some ten methods; of more, as many
as a comparison samples."""

_EXAMPLES = 4
"""Queries shown where the band is far ahead, and as many where it is far behind."""
_SHOWN = 5
"""Results shown of each."""


@dataclass(frozen=True, eq=False)
class Task:
    """What is searched with, what is searched in, and what belongs together.

    Shapes: ``queries`` (n, r) and ``gallery`` (m, r) are plain embeddings of any scale.
    ``query_labels`` (n,) and ``gallery_labels`` (m,) are positions in ``classes``. ``own_rows``
    (n,) is the gallery row that is the query itself, -1 for none. The names are paths of images,
    or texts. ``n_repeated`` files or texts were left out because they equal another one, files
    of ``unreadable`` for the reason given.
    """

    name: str
    queries: Float32s
    query_labels: Rows
    gallery: Float32s
    gallery_labels: Rows
    own_rows: Rows
    query_names: Sequence[str]
    gallery_names: Sequence[str]
    classes: tuple[str, ...]
    n_repeated: int = 0
    unreadable: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_apart(self) -> bool:
        """Whether no query is in the gallery, so that the gallery can serve for training."""
        return bool((self.own_rows < 0).all())


@dataclass(frozen=True, slots=True)
class Example:
    """A query on which the best band and the best baseline differ, and the first rows of each."""

    query: int
    band_rows: tuple[int, ...]
    baseline_rows: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was measured on a task: every method by every metric, with intervals and a verdict."""

    task: Task
    checkpoint: str
    text: bool
    seed: int
    comparison: Comparison
    examples: tuple[Example, ...]

    @property
    def verdict(self) -> str:
        """The first line of every report."""
        # Drawing queries apart again says nothing about another gallery.
        where = " in this gallery" if self.task.is_apart else ""
        over = f"{self.comparison.n_scored:,} queries{where}"
        return self.comparison.verdict(self.checkpoint, over)

    def page(self, **parameters: object) -> Page:
        """The report with tables, a plot and examples; more parameters may be told in it."""
        from fiftyone_isoclip.evaluation.evaluation_page import make_page

        return make_page(self, parameters)

    def to_json(self) -> dict[str, Any]:
        """Everything but the single queries, as JSON values."""
        best = self.comparison.best_baseline.name
        return {
            "verdict": self.verdict,
            "task": self.task.name,
            "compared": "texts" if self.text else "images",
            "checkpoint": self.checkpoint,
            "weights": made_by(self.checkpoint),
            "queries": len(self.task.queries),
            "queries_scored": self.comparison.n_scored,
            "queries_in_gallery": int(np.count_nonzero(self.task.own_rows >= 0)),
            "gallery": len(self.task.gallery),
            "repeated": self.task.n_repeated,
            "unreadable": dict(self.task.unreadable),
            "classes": len(self.task.classes),
            "seed": self.seed,
            "level": DEFAULT_LEVEL,
            "resamples": DEFAULT_RESAMPLES,
            "intervals_widened": 1.0 if self.task.is_apart else OWN_GALLERY,
            "best_baseline": best,
            "methods": [method.to_json() for method in self.comparison.methods],
            "differences": [each.to_json() for each in self.comparison.differences],
        }

    def __str__(self) -> str:
        return self.verdict


def evaluate_retrieval(
    task: Task,
    clip: Clip,
    bands: Sequence[Band],
    *,
    extra: Sequence[Method] = (),
    seconds: Mapping[str, float] | None = None,
    text: bool = False,
    seed: int = 0,
    told: Callable[[int], object] | None = None,
) -> Evaluation:
    """Score plain CLIP, the bands and the baselines on a task, and say which is better.

    Retrieval by `METRICS`; where no query is in the gallery, the accuracy of the nearest class
    mean of the gallery besides. Baselines are fitted on the gallery.

    Args:
        task: plain embeddings and labels.
        clip: the checkpoint that made them.
        bands: at least one; each is tried centred and not.
        extra: further methods on the same queries and gallery, such as inversion.
        seconds: what a query takes, by the name of the method, where that was measured.
        text: whether the embeddings are of texts.
        seed: of random bands and of the bootstrap.
        told: called with how many more queries are done, in all as many as there are.

    Raises:
        IsoClipError: there is no band, or hardly a query has anything to be found.
        BandError: a band keeps nothing of this checkpoint.
        VectorError: the embeddings do not fit the labels or the checkpoint.
    """
    if not bands:
        raise IsoClipError("no band was given to compare with the baselines; give one or more")
    if len(np.unique(task.gallery_labels)) < 2:
        raise IsoClipError(
            f"all {len(task.gallery)} of the gallery have one label, so that whatever is found is "
            "right; give a gallery of two labels or more"
        )
    side: Side = "text" if text else "image"
    made = make_methods(clip.spectrum, task.queries, task.gallery, bands, side=side, seed=seed)
    methods = timed([*made, *extra], seconds or {})
    advance = None if told is None else as_queries(len(task.queries), told)
    sampling = Sampling(widen=1.0 if task.is_apart else OWN_GALLERY, seed=seed)
    scored = score_methods(
        methods, lambda method: _score(task, method), sampling=sampling, told=advance
    )
    comparison = Comparison.between(scored, sampling)
    examples = _find_examples(task, methods, comparison)
    return Evaluation(task, clip.checkpoint.name, text, seed, comparison, examples)


def _score(task: Task, method: Method) -> Values:
    labels = task.query_labels, task.gallery_labels
    found = score_retrieval(method.queries, method.gallery, *labels, own_rows=task.own_rows)
    values = {metric: found.values(metric) for metric in METRICS}
    if task.is_apart:
        values[NCM] = ncm_accuracy(
            method.gallery, task.gallery_labels, method.queries, task.query_labels
        )
        # What has nothing to find has no class to be told as, either.
        values[NCM][np.isnan(values[DECISIVE])] = np.nan
    return values


def _find_examples(
    task: Task, methods: Sequence[Method], comparison: Comparison
) -> tuple[Example, ...]:
    """The queries on which the best band gains most, then those on which it loses most."""
    gains = comparison.best_band.values[DECISIVE] - comparison.best_baseline.values[DECISIVE]
    order = np.argsort(np.nan_to_num(gains), kind="stable")
    lost = [row for row in order[:_EXAMPLES] if gains[row] < 0]
    gained = [row for row in order[::-1][:_EXAMPLES] if gains[row] > 0]
    queries = np.array([*gained, *lost], np.int64)
    if not len(queries):
        return ()
    band, baseline = (
        _first_rows(task, next(m for m in methods if merged_name(m) == best.name), queries)
        for best in (comparison.best_band, comparison.best_baseline)
    )
    return tuple(
        Example(int(query), tuple(a), tuple(b))
        for query, a, b in zip(queries, band, baseline, strict=True)
    )


def _first_rows(task: Task, method: Method, queries: Rows) -> list[list[int]]:
    own = task.own_rows[queries]
    ranked = rankings(method.queries[queries], method.gallery, own)
    found = np.concatenate([order[:, : _SHOWN + 1] for _, order in ranked])
    n_others = len(task.gallery) - (own >= 0)
    return [row[: min(_SHOWN, n)].tolist() for row, n in zip(found, n_others.tolist(), strict=True)]
