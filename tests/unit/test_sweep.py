"""Every band of a plane against the paper's equations, band by band, and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from fiftyone_isoclip.evaluation.sweep import Ranking, count_bands, default_step, sweep
from fiftyone_isoclip.index.vectors import unit_rows
from fiftyone_isoclip.projector import Head, Spectrum
from tests.reference import paper

N, FEATURES = 24, 20
TOLERANCE = 1e-6


class Made:
    """Two towers' heads, and embeddings of 24 images in six classes, one of a single image."""

    def __init__(self, dim: int, text_features: int, bias: bool, seed: int) -> None:
        rng = np.random.default_rng(seed)
        weight, text = rng.normal(size=(dim, FEATURES)), rng.normal(size=(dim, text_features))
        shift = rng.normal(size=dim) if bias else None
        self.image, self.text = paper.append_bias(weight, shift), text
        self.spectrum = Spectrum.between(Head(weight, shift), Head(text))
        self.labels = np.append(rng.integers(0, 5, N - 1), 5)
        features = rng.normal(size=(N, FEATURES)) + rng.normal(size=(6, FEATURES))[self.labels]
        embeddings = paper.append_one(features, shift) @ self.image.T
        self.units = unit_rows(embeddings)
        self.queries = np.sort(rng.choice(N, 15, replace=False))

    def brute_force(self, drop_top: int, drop_bottom: int, centre: np.ndarray | float) -> float:
        """The mAP with the rewritten projector itself, one query after the other."""
        theta, _, _ = paper.rewritten_projectors(self.image, self.text, drop_top, drop_bottom)
        # Features that the head maps to these embeddings: those without a part it does not see.
        features = (self.units.astype(np.float64) - centre) @ np.linalg.pinv(self.image).T
        mapped = features @ theta.T
        cosines = paper.cosines(mapped, mapped)
        found = []
        for query in self.queries:
            others = np.arange(N) != query
            relevant = self.labels[others] == self.labels[query]
            if relevant.any():
                found.append(average_precision_score(relevant, cosines[query, others]))
        return float(np.mean(found))


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize(
    ("dim", "text_features", "bias", "step"),
    [(14, 16, False, 1), (14, 16, True, 3), (18, 11, False, 1), (24, 13, True, 2)],
)
def test_every_band_scores_what_the_paper_gives(
    dim: int, text_features: int, bias: bool, step: int, centred: bool
) -> None:
    made = Made(dim, text_features, bias, seed=dim + step)
    centre = made.units.astype(np.float64).mean(axis=0)
    ranking = Ranking(made.queries, made.labels)
    done: list[int] = []
    plane = sweep(
        made.spectrum,
        made.units,
        ranking,
        step=step,
        centre=centre if centred else None,
        told=done.append,
    )
    rank = made.spectrum.rank
    asked = [(t, b) for t in range(0, rank, step) for b in range(0, rank - t - 1, step)]
    assert plane.drops.tolist() == list(range(0, rank - 1, step))
    assert plane.n_bands == len(asked) == count_bands(rank, step) == sum(done)
    expected = {band: made.brute_force(*band, centre if centred else 0.0) for band in asked}
    found = {(t, b): plane.scores[t // step, b // step] for t, b in asked}
    assert max(abs(found[band] - expected[band]) for band in asked) < TOLERANCE
    best = plane.best
    assert expected[best.drop_top, best.drop_bottom] == pytest.approx(max(expected.values()))
    assert plane.score(best) == np.nanmax(plane.scores)
    assert best.centred is plane.centred is centred


def test_equal_rows_are_ranked_with_the_relevant_ones_last() -> None:
    """By hand: three rows alike, one of them irrelevant, and one far off that is relevant."""
    near, far = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]
    units = np.array([near, near, near, far, [0.0, 0.0, 1.0]], np.float32)
    labels = np.array([0, 0, 1, 0, 1])
    spectrum = Spectrum.between(Head(np.diag([3.0, 2.0, 1.0])), Head(np.eye(3)))
    plane = sweep(spectrum, units, Ranking(np.array([0]), labels), step=3)
    # Row 2 first, then row 1 (1 of 2), then rows 3 and 4 at 0: row 4 before row 3 (2 of 4).
    assert plane.scores.tolist() == [[pytest.approx((1 / 2 + 2 / 4) / 2)]]


@pytest.mark.parametrize(("rank", "step"), [(512, 16), (768, 24), (60, 2), (20, 1), (1, 1)])
def test_a_plane_has_about_32_steps(rank: int, step: int) -> None:
    assert default_step(rank) == step
