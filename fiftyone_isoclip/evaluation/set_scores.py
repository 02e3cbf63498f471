"""A method scored on a set of the paper, by the paper's protocol.

As in the research code: mAP over the full ranking, a query with nothing relevant counts as 0, and
of ROxford and RParis the figure is that of the easy protocol.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fiftyone_isoclip.evaluation.methods import Method
from fiftyone_isoclip.evaluation.metrics.classification import ncm_accuracy
from fiftyone_isoclip.evaluation.metrics.ranking import Told
from fiftyone_isoclip.evaluation.metrics.retrieval import METRICS, score_retrieval
from fiftyone_isoclip.evaluation.metrics.revisited import score_revisited
from fiftyone_isoclip.evaluation.sets import RetrievalSet, TextSet
from fiftyone_isoclip.index.vectors import Float64s

MAP = "mAP"
NCM = "NCM accuracy"

Scores = tuple[Mapping[str, float], Float64s]
"""Means in percent, and average precision a query: (n,) in [0, 1], NaN where it does not count."""


def score_set(found: RetrievalSet | TextSet, method: Method, told: Told = None) -> Scores:
    """Score queries and gallery of a set, in its order; ``told`` how many more queries are done.

    Raises:
        VectorError: the method has other rows than the set.
    """
    if isinstance(found, TextSet):
        return _score_labelled(found, method, told)
    if found.judged:
        return _score_landmarks(found, method, told)
    return _score_images(found, method, told)


def _score_images(found: RetrievalSet, method: Method, told: Told) -> Scores:
    metrics, average_precision = _score_labelled(found, method, told)
    if not len(found.train_rows) or not len(found.test_rows):
        return metrics, average_precision
    hits = ncm_accuracy(
        method.gallery[found.train_rows],
        found.gallery_labels[found.train_rows],
        method.queries[found.test_rows],
        found.query_labels[found.test_rows],
    )
    return {**metrics, NCM: 100 * float(hits.mean())}, average_precision


def _score_labelled(found: RetrievalSet | TextSet, method: Method, told: Told) -> Scores:
    labels = found.query_labels, found.gallery_labels
    scores = score_retrieval(
        method.queries, method.gallery, *labels, own_rows=found.own_rows, told=told
    )
    # The research code counts a query with nothing relevant as 0.
    values = {metric: np.nan_to_num(scores.values(metric)) for metric in METRICS}
    return {name: 100 * float(each.mean()) for name, each in values.items()}, values[MAP]


def _score_landmarks(found: RetrievalSet, method: Method, told: Told) -> Scores:
    scores = score_revisited(method.queries, method.gallery, found.judged, told=told)
    metrics = {
        f"{name} {difficulty}": 100 * mean
        for difficulty, scored in scores.items()
        for name, mean in scored.means.items()
    }
    return {MAP: metrics[f"{MAP} easy"], **metrics}, scores["easy"].average_precision
