"""ROxford and RParis: landmarks found in a gallery that was judged for each query by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fiftyone_isoclip.errors import VectorError
from fiftyone_isoclip.evaluation.metrics.ranking import Told, check_length, rankings
from fiftyone_isoclip.index.vectors import Float32s, Float64s, Rows

DIFFICULTIES = ("easy", "medium", "hard")
CUTOFFS = (1, 5, 10)


@dataclass(frozen=True, eq=False, slots=True)
class Judged:
    """The gallery rows that were judged for one query; all others are wrong answers to it."""

    easy: Rows
    hard: Rows
    junk: Rows

    def split(self, difficulty: str) -> tuple[Rows, Rows]:
        """What counts as right at a difficulty, and what is passed over as if it were not there.

        Radenovic et al., *Revisiting Oxford and Paris*, section 3.3: easy asks for the easy rows
        and passes over the hard ones, hard the other way round, medium asks for both.
        """
        both = np.concatenate([self.easy, self.hard])
        none = both[:0]
        right = {"easy": self.easy, "medium": both, "hard": self.hard}[difficulty]
        passed = {"easy": self.hard, "medium": none, "hard": self.easy}[difficulty]
        return right, np.concatenate([self.junk, passed])


@dataclass(frozen=True, eq=False, slots=True)
class RevisitedScores:
    """One number a query, in [0, 1], and NaN where no row is right at this difficulty.

    ``average_precision`` is (n,), ``precision_at`` is (n,) for each of 1, 5 and 10.
    """

    average_precision: Float64s
    precision_at: Mapping[int, Float64s]

    @property
    def means(self) -> Mapping[str, float]:
        """mAP, mP@1, mP@5 and mP@10 over the queries that have a right answer; NaN if none has."""
        named = {"mAP": self.average_precision}
        named |= {f"mP@{k}": values for k, values in self.precision_at.items()}
        scored = ~np.isnan(self.average_precision)
        return {
            name: float(values[scored].mean()) if scored.any() else float("nan")
            for name, values in named.items()
        }


def score_revisited(
    queries: Float32s, gallery: Float32s, judged: Sequence[Judged], *, told: Told = None
) -> Mapping[str, RevisitedScores]:
    """Score ROxford or RParis at easy, medium and hard: unit rows (n, d), (m, d), n judgements.

    Average precision is the area under the trapezoids of the precision-recall curve, as in the
    official protocol, and therefore not that of `score_retrieval`; precision at k looks no further
    than the last right answer.

    Raises:
        VectorError: the sides do not fit together, or a judgement names rows that are not there.
    """
    check_length("judged", [0] * len(judged), len(queries))
    _check_rows(judged, len(gallery))
    scores = np.full((len(DIFFICULTIES), 1 + len(CUTOFFS), len(queries)), np.nan)
    for block, order in rankings(queries, gallery, told=told):
        for query, ranking in enumerate(order, start=block.start):
            place = np.empty(len(ranking), np.int64)
            place[ranking] = np.arange(len(ranking))
            for number, difficulty in enumerate(DIFFICULTIES):
                scores[number, :, query] = _score_places(place, *judged[query].split(difficulty))
    return {
        difficulty: RevisitedScores(found[0], dict(zip(CUTOFFS, found[1:], strict=True)))
        for difficulty, found in zip(DIFFICULTIES, scores, strict=True)
    }


def _score_places(place: Rows, right: Rows, passed: Rows) -> Float64s:
    """Average precision and the precisions at 1, 5 and 10, from the place of each row, 0 first."""
    if not len(right):
        return np.full(1 + len(CUTOFFS), np.nan)
    found = np.sort(place[right])
    found -= np.searchsorted(np.sort(place[passed]), found)
    nth = np.arange(len(found))
    before = np.where(found == 0, 1.0, nth / np.maximum(found, 1))
    after = (nth + 1) / (found + 1)
    cuts = np.minimum(np.array(CUTOFFS), found[-1] + 1)
    precisions = np.searchsorted(found, cuts) / cuts
    return np.concatenate([[((before + after) / 2).mean()], precisions])


def _check_rows(judged: Sequence[Judged], n: int) -> None:
    for query, each in enumerate(judged):
        rows = np.concatenate([each.easy, each.hard, each.junk])
        if len(rows) and not 0 <= rows.min() <= rows.max() < n:
            raise VectorError(
                f"The judgement of query {query} names gallery rows {rows.min()} to {rows.max()}; "
                f"the gallery has rows 0 to {n - 1}. Is it the gallery that was judged?"
            )
