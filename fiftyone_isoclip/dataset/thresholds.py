"""What each similarity would give: counts by threshold, nearest neighbours, and pairs around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import fiftyone as fo
import numpy as np
import numpy.typing as npt

from fiftyone_isoclip.dataset.grouping import Grouping
from fiftyone_isoclip.dataset.groups import similarity_of
from fiftyone_isoclip.dataset.kept_pairs import load_pairs
from fiftyone_isoclip.dataset.runs import SavedRun
from fiftyone_isoclip.index import CosineIndex, Pairs
from fiftyone_isoclip.index.false_matches import AUTO, DEFAULT_FALSE_MATCHES, check_asked, one_in

__all__ = [
    "AUTO",
    "BINS",
    "DEFAULT_FALSE_MATCHES",
    "BorderPair",
    "border_pairs",
    "check_asked",
    "draw_curve",
    "draw_histogram",
    "find_threshold",
    "one_in",
    "room_below",
]

STEPS = 51
"""Similarities at which the groups are counted, between the least and 1."""

BINS = 60
QUERIES = 1000
"""Images whose nearest neighbour is sought for the histogram; of fewer, all."""


def room_below(similarity: float) -> float:
    """From where to remember pairs, so that the panel can move a similarity by .05."""
    return max(similarity - 0.05, -0.999)


@dataclass(frozen=True, slots=True)
class BorderPair:
    """Two samples, and the cosine between them."""

    left: str
    right: str
    similarity: float


def draw_curve(grouping: Grouping, pairs: Pairs) -> list[list[float]]:
    """For similarities from the pairs' least to 1: [similarity, groups, images in them]."""
    steps = np.linspace(pairs.least, 1, STEPS).round(4).clip(pairs.least)
    steps[0] = pairs.least
    return [[float(step), *grouping.count(pairs.at(float(step)))] for step in steps]


def draw_histogram(index: CosineIndex, sizes: npt.NDArray[np.int64]) -> dict[str, Any]:
    """How similar images are to their nearest neighbour: bins of a seeded sample of them.

    ``sizes`` (n,) is how many samples have each content: those that share one are at 1.
    """
    picked = np.arange(index.n)
    if index.n > QUERIES:
        picked = np.sort(np.random.default_rng(0).choice(index.n, QUERIES, replace=False))
    if index.n < 2:
        return {"edges": [0.0, 1.0], "counts": [0], "sampled": int(index.n), "of": int(index.n)}
    found = index.nearest(index.vectors[picked], 2)
    others = found.rows != picked[:, None]
    best = np.where(others, found.similarities, -1).max(axis=1)
    best[sizes[picked] > 1] = 1.0
    low = float(best.min())
    counts, edges = np.histogram(best, bins=BINS, range=(low if low < 1 else 0.0, 1.0))
    return {
        "edges": [round(float(edge), 5) for edge in edges],
        "counts": [int(count) for count in counts],
        "sampled": len(picked),
        "of": int(index.n),
    }


def find_threshold(grouping: Grouping, pairs: Pairs, similarity: float, at_most: float) -> float:
    """A similarity, from the one given, at which at most so many samples would go.

    The next lower similarity of a pair would let more go. ``at_most`` is a count, or a share of
    the samples below 1. Where identical files alone are more, it is 1.
    """
    allowed = at_most * len(grouping.ids) if at_most < 1 else at_most
    pairs = pairs.at(similarity)

    def going(step: float) -> int:
        groups, images = grouping.count(pairs.at(step))
        return images - groups

    if going(similarity) <= allowed:
        return similarity
    steps = np.unique(pairs.similarity).astype(np.float64)
    low, high = 0, len(steps)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if going(float(steps[middle])) <= allowed else (middle + 1, high)
    return float(steps[low]) if low < len(steps) else 1.0


def border_pairs(
    dataset: fo.Dataset, run: SavedRun, count: int = 3
) -> tuple[list[BorderPair], list[BorderPair]] | None:
    """The pairs just above the similarity of a run, and those just below; None if none are kept."""
    kept = load_pairs(dataset, run.details.get("pairs"))
    if kept is None:
        return None
    pairs, similarity = kept.pairs, np.float32(similarity_of(run))
    order = np.argsort(pairs.similarity, kind="stable")
    cut = int(np.searchsorted(pairs.similarity[order], similarity))

    def named(rows: npt.NDArray[np.int64]) -> list[BorderPair]:
        return [
            BorderPair(
                str(kept.ids[pairs.left[row]]),
                str(kept.ids[pairs.right[row]]),
                float(pairs.similarity[row]),
            )
            for row in rows.tolist()
        ]

    return named(order[cut : cut + count]), named(order[max(0, cut - count) : cut][::-1])
