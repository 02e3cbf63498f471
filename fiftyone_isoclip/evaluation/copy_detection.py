"""Copy detection: which method finds the originals of edited pictures among others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from math import isnan
from typing import TYPE_CHECKING, Any

import numpy as np

from fiftyone_isoclip.errors import IsoClipError
from fiftyone_isoclip.evaluation.comparison import Comparison, made_by
from fiftyone_isoclip.evaluation.methods import Method, make_methods, timed
from fiftyone_isoclip.evaluation.metrics.bootstrap import DEFAULT_LEVEL, DEFAULT_RESAMPLES
from fiftyone_isoclip.evaluation.metrics.copies import CopyScores, score_copies
from fiftyone_isoclip.evaluation.metrics.ranking import check_length
from fiftyone_isoclip.evaluation.report import Page
from fiftyone_isoclip.evaluation.scores import (
    DECISIVE,
    RECALL,
    MethodScores,
    Sampling,
    Values,
    as_queries,
    merged_name,
    score_methods,
)
from fiftyone_isoclip.index import DEFAULT_SIMILARITY
from fiftyone_isoclip.index.vectors import Float32s, Rows
from fiftyone_isoclip.projector import Band

if TYPE_CHECKING:
    from fiftyone_isoclip.encoder import Clip  # imports torch: measuring needs none


@dataclass(frozen=True, eq=False)
class CopyTask:
    """Edited pictures to search with, and originals and distractors to search in.

    Shapes: ``queries`` (n, r) and ``gallery`` (m, r) are plain embeddings of any scale. Of the same
    number in ``query_groups`` (n,) and ``gallery_groups`` (m,) are copies. ``attacks`` (n,) name
    the edits. The files of ``unreadable`` were left out for the reason given.
    """

    name: str
    queries: Float32s
    query_groups: Rows
    attacks: Sequence[str]
    gallery: Float32s
    gallery_groups: Rows
    query_names: Sequence[str]
    gallery_names: Sequence[str]
    unreadable: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class CopyEvaluation:
    """What was measured: methods by recall and average precision, by edit, and at a similarity."""

    task: CopyTask
    checkpoint: str
    seed: int
    similarity: float
    comparison: Comparison
    found: Mapping[str, Sequence[CopyScores]]

    @property
    def verdict(self) -> str:
        """The first line of every report."""
        scored = ~np.isnan(self.comparison.methods[0].values[RECALL])
        n = len(np.unique(self.task.query_groups[scored]))
        over = f"{self.comparison.n_scored:,} edited pictures of {n:,} originals"
        return self.comparison.verdict(self.checkpoint, over)

    @cached_property
    def attacks(self) -> tuple[str, ...]:
        """The kinds of edit of queries that have an original, in the order of the queries."""
        scored = ~np.isnan(self.comparison.methods[0].values[RECALL])
        return tuple(dict.fromkeys(np.array(self.task.attacks)[scored].tolist()))

    def by_attack(self, method: MethodScores, metric: str) -> dict[str, float]:
        """The mean of a metric over the queries of each kind of edit."""
        scored = ~np.isnan(method.values[metric])
        attacks = np.where(scored, np.array(self.task.attacks), "")
        return {
            attack: float(method.values[metric][attacks == attack].mean())
            for attack in self.attacks
        }

    def micro_average_precision(self, method: str) -> float:
        """Of a method by its name; the mean over the draws of a random band."""
        return float(np.mean([found.micro_average_precision for found in self.found[method]]))

    def matches(self, method: str) -> dict[str, float]:
        """What all pairs at or above the similarity would be as copies, likewise; NaN if none."""
        draws = [asdict(found.matches) for found in self.found[method] if found.matches]
        return {name: float(np.mean([draw[name] for draw in draws])) for name in draws[0]}

    def page(self, **parameters: object) -> Page:
        """The report with tables and a plot; more parameters may be told in it."""
        from fiftyone_isoclip.evaluation.copy_page import make_copy_page

        return make_copy_page(self, parameters)

    def to_json(self) -> dict[str, Any]:
        """Everything but the single queries, as JSON values."""
        return {
            "verdict": self.verdict,
            "task": self.task.name,
            "checkpoint": self.checkpoint,
            "weights": made_by(self.checkpoint),
            "queries": len(self.task.queries),
            "gallery": len(self.task.gallery),
            "unreadable": dict(self.task.unreadable),
            "seed": self.seed,
            "level": DEFAULT_LEVEL,
            "resamples": DEFAULT_RESAMPLES,
            "best_baseline": self.comparison.best_baseline.name,
            "methods": [self._method_json(method) for method in self.comparison.methods],
            "differences": [each.to_json() for each in self.comparison.differences],
        }

    def _method_json(self, method: MethodScores) -> dict[str, Any]:
        by_attack = {metric: self.by_attack(method, metric) for metric in method.values}
        return method.to_json() | {
            "micro_average_precision": self.micro_average_precision(method.name),
            "by_attack": {
                attack: {metric: by_attack[metric][attack] for metric in by_attack}
                for attack in self.attacks
            },
            "at_similarity": {
                name: None if isnan(number) else number
                for name, number in self.matches(method.name).items()
            },
        }

    def __str__(self) -> str:
        return self.verdict


def evaluate_copies(
    task: CopyTask,
    clip: Clip,
    bands: Sequence[Band],
    *,
    extra: Sequence[Method] = (),
    seconds: Mapping[str, float] | None = None,
    similarity: float = DEFAULT_SIMILARITY,
    seed: int = 0,
    told: Callable[[int], object] | None = None,
) -> CopyEvaluation:
    """Score plain CLIP, the bands and the baselines on copy detection, and say which is better.

    Bootstrap draws whole originals with all their edits, which were not made independently.

    Args:
        task: plain embeddings and what each is a copy of.
        clip: the checkpoint that made them.
        bands: at least one; each is tried centred and not.
        extra: further methods on the same queries and gallery, such as pHash.
        seconds: what a query takes, by the name of the method, where that was measured.
        similarity: where to count matches, in [-1, 1]; the same one for every method, though it
            is not equally strict in each.
        seed: of random bands and of the bootstrap.
        told: called with how many more queries are done, in all as many as there are.

    Raises:
        IsoClipError: there is no band, or hardly a query has its original in the gallery.
        BandError: a band keeps nothing of this checkpoint.
        VectorError: the embeddings do not fit the groups, the edits or the checkpoint.
    """
    if not bands:
        raise IsoClipError("no band was given to compare with the baselines; give one or more")
    check_length("attacks", task.attacks, len(task.queries))
    made = make_methods(clip.spectrum, task.queries, task.gallery, bands, seed=seed)
    found: dict[str, list[CopyScores]] = {}

    def score(method: Method) -> Values:
        scores = score_copies(
            method.queries,
            method.gallery,
            task.query_groups,
            task.gallery_groups,
            similarity=similarity,
        )
        found.setdefault(merged_name(method), []).append(scores)
        return {metric: scores.queries.values(metric) for metric in (DECISIVE, RECALL)}

    sampling = Sampling(groups=task.query_groups, seed=seed)
    advance = None if told is None else as_queries(len(task.queries), told)
    scored = score_methods(
        timed([*made, *extra], seconds or {}), score, sampling=sampling, told=advance
    )
    comparison = Comparison.between(scored, sampling)
    return CopyEvaluation(task, clip.checkpoint.name, seed, similarity, comparison, found)
