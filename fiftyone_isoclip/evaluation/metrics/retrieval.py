"""Retrieval by class: how early the gallery rows with a query's own label are found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fiftyone_isoclip.errors import VectorError
from fiftyone_isoclip.evaluation.metrics.ranking import Told, check_length, rankings
from fiftyone_isoclip.index.vectors import Float32s, Float64s, Rows

_FIELDS: Mapping[str, str] = {
    "mAP": "average_precision",
    "mAP@R": "average_precision_at_r",
    "precision@R": "precision_at_r",
    "recall@1": "recall_at_1",
}

METRICS = tuple(_FIELDS)
"""What the means of the scores are called, the paper's own figure first."""


@dataclass(frozen=True, eq=False, slots=True)
class QueryScores:
    """One number a query, in [0, 1], and NaN where nothing in the gallery is relevant: (n,) each.

    With R relevant rows in the gallery, ``average_precision`` is the mean over them of the
    precision at their ranks, over the full ranking; ``average_precision_at_r`` counts only those
    among the first R ranks, and divides by R all the same (Musgrave et al., *A Metric Learning
    Reality Check*, section 3.2); ``precision_at_r`` is the share of relevant rows among the first
    R; ``recall_at_1`` is 1 where the first row is relevant.
    """

    average_precision: Float64s
    average_precision_at_r: Float64s
    precision_at_r: Float64s
    recall_at_1: Float64s

    def values(self, metric: str) -> Float64s:
        """The numbers a metric is the mean of, (n,).

        Raises:
            VectorError: there is no such metric.
        """
        if metric not in _FIELDS:
            raise VectorError(f"There is no metric {metric!r}; choose one of {', '.join(METRICS)}.")
        values: Float64s = getattr(self, _FIELDS[metric])
        return values

    def mean(self, metric: str) -> float:
        """The mean over the queries that have something relevant; NaN if none has.

        Raises:
            VectorError: there is no such metric.
        """
        values = self.values(metric)
        scored = ~np.isnan(values)
        return float(values[scored].mean()) if scored.any() else float("nan")

    @property
    def n_scored(self) -> int:
        """How many queries have something relevant in the gallery."""
        return int(np.count_nonzero(~np.isnan(self.average_precision)))


def score_retrieval(
    queries: Float32s,
    gallery: Float32s,
    query_labels: Rows,
    gallery_labels: Rows,
    *,
    own_rows: Rows | None = None,
    told: Told = None,
) -> QueryScores:
    """Score the full ranking of the gallery for each query: unit rows (n, d), (m, d), exact.

    Relevant is what has the query's label; equally similar rows are ranked in gallery order. The
    protocol is the paper's, but for two things: a query with nothing relevant is left out here and
    counts as 0 there, and mAP@R goes to rank R where the paper's code goes one further if the
    queries are the gallery.

    Args:
        queries: unit rows (n, d).
        gallery: unit rows (m, d).
        query_labels: numbers of classes, (n,).
        gallery_labels: likewise, (m,).
        own_rows: (n,), the gallery row that is the query itself and is left out, -1 for none.
        told: called with how many more queries are done.

    Raises:
        VectorError: the sides do not fit together.
    """
    check_length("query_labels", query_labels, len(queries))
    check_length("gallery_labels", gallery_labels, len(gallery))
    scores = np.full((len(_FIELDS), len(queries)), np.nan)
    if len(gallery):
        for block, order in rankings(queries, gallery, own_rows, told):
            hits = gallery_labels[order] == query_labels[block, None]
            if own_rows is not None:
                # Its own row was ranked last.
                hits[own_rows[block] >= 0, -1] = False
            scores[:, block] = _score_hits(hits)
    return QueryScores(*scores)


def _score_hits(hits: np.ndarray[tuple[int, int], np.dtype[np.bool_]]) -> Float64s:
    """Score rankings, told which of their rows are relevant: (b, m) -> (4, b) as in METRICS."""
    ranks = np.arange(1, hits.shape[1] + 1)
    n_relevant = hits.sum(axis=1)
    scored = n_relevant > 0
    shares = np.where(scored, 1 / np.maximum(n_relevant, 1), np.nan)
    precisions = np.cumsum(hits, axis=1) / ranks * hits
    early = ranks <= n_relevant[:, None]
    return np.stack(
        [
            precisions.sum(axis=1) * shares,
            (precisions * early).sum(axis=1) * shares,
            (hits & early).sum(axis=1) * shares,
            np.where(scored, hits[:, 0], np.nan),
        ]
    )
