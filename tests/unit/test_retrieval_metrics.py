"""Retrieval metrics against scikit-learn, torchmetrics and what one works out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from sklearn.neighbors import NearestCentroid
from torchmetrics.functional.retrieval import (
    retrieval_average_precision,
    retrieval_hit_rate,
    retrieval_r_precision,
)

from fiftyone_isoclip.errors import VectorError
from fiftyone_isoclip.evaluation.metrics import ranking
from fiftyone_isoclip.evaluation.metrics.classification import ncm_accuracy
from fiftyone_isoclip.evaluation.metrics.retrieval import METRICS, score_retrieval
from tests.strategies import unit_rows

CLASSES = 7


@pytest.fixture(params=[0, 1])
def task(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """60 queries and 90 gallery rows of 7 overlapping classes, cut into several blocks."""
    monkeypatch.setattr(ranking, "_BLOCK_NUMBERS", 90 * 17)
    rng = np.random.default_rng(request.param)
    centres = unit_rows(rng, CLASSES, 16)
    labels = rng.integers(CLASSES, size=150)
    rows = centres[labels] + 1.2 * unit_rows(rng, 150, 16)
    units = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return units[:60], units[60:], labels[:60], labels[60:]


def by_hand(angles, labels, query_label=0):
    """One query along the first axis and a gallery at angles to it, in degrees."""
    turned = np.radians(angles)
    gallery = np.stack([np.cos(turned), np.sin(turned)], axis=1).astype(np.float32)
    query = np.array([[1.0, 0.0]], np.float32)
    return score_retrieval(query, gallery, np.array([query_label]), np.array(labels))


def found(scores):
    return [scores.values(metric).item() for metric in METRICS]


def test_four_rows_by_hand():
    # Ranks 1 and 3 of four are relevant: R = 2.
    expected = [(1 / 1 + 2 / 3) / 2, (1 / 1) / 2, 1 / 2, 1.0]
    assert found(by_hand([10, 20, 30, 40], [0, 1, 0, 1])) == pytest.approx(expected)
    assert found(by_hand([30, 40, 10, 20], [0, 1, 0, 1])) == pytest.approx(expected)
    # Ranks 2, 3 and 5 of five: R = 3.
    expected = [(1 / 2 + 2 / 3 + 3 / 5) / 3, (1 / 2 + 2 / 3) / 3, 2 / 3, 0.0]
    assert found(by_hand([10, 20, 30, 40, 50], [1, 0, 0, 1, 0])) == pytest.approx(expected)


def test_rows_on_the_far_side_count_as_much():
    # All cosines are negative: torchmetrics, from 1.8 on, would leave such rows out.
    assert found(by_hand([100, 120, 140], [1, 0, 0]))[0] == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_equally_similar_rows_are_ranked_in_gallery_order():
    assert found(by_hand([30, 30, 30], [1, 0, 1]))[0] == pytest.approx(1 / 2)
    assert found(by_hand([30, 30, 30], [0, 1, 1]))[0] == 1
    rng = np.random.default_rng(0)
    of = rng.permutation(np.arange(30).repeat(41))
    originals = unit_rows(rng, 30, 64).astype(np.float32)
    # A class of its own for each row: 1 / AP of a query of that class is the row's rank.
    wanted = rng.integers(len(of), size=20)
    queries = unit_rows(rng, 20, 64).astype(np.float32)
    scores = score_retrieval(queries, originals[of], wanted, np.arange(len(of)))
    cosines = (queries.astype(np.float64) @ originals.T.astype(np.float64))[:, of]
    for query, row in enumerate(wanted):
        above = np.count_nonzero(cosines[query] > cosines[query, row] + 1e-9)
        rank = above + np.count_nonzero(of[:row] == of[row]) + 1
        assert 1 / scores.average_precision[query] == pytest.approx(rank)


@pytest.mark.parametrize("n_queries", [1, 2, 3, 17])
def test_copies_are_equally_similar_wherever_they_stand(n_queries):
    rng = np.random.default_rng(0)
    copied = unit_rows(rng, 1, 513).repeat(1001, axis=0).astype(np.float32)
    queries = unit_rows(rng, n_queries, 513).astype(np.float32)
    for _, similarities in ranking.similarity_blocks(queries, copied):
        np.testing.assert_array_equal(similarities, similarities[:, :1].repeat(1001, axis=1))


def test_a_query_with_nothing_relevant_is_left_out_of_the_means():
    rows = np.eye(3, dtype=np.float32)
    scores = score_retrieval(rows, rows, np.array([0, 9, 2]), np.array([0, 1, 5]))
    assert scores.n_scored == 1
    for metric in METRICS:
        np.testing.assert_array_equal(np.isnan(scores.values(metric)), [False, True, True])
        assert scores.mean(metric) == 1
    nothing = score_retrieval(rows, rows[:0], np.arange(3), np.arange(0))
    assert nothing.n_scored == 0 and math.isnan(nothing.mean("mAP"))


@pytest.mark.parametrize("own", [False, True], ids=["apart", "own rows"])
def test_scores_are_those_of_the_oracles(task, own):
    queries, gallery, query_labels, gallery_labels = task
    own_rows = None
    if own:  # Every second query stands in the gallery, last first.
        gallery, gallery_labels = gallery.copy(), gallery_labels.copy()
        own_rows = np.where(np.arange(60) % 2 == 0, 89 - np.arange(60), -1)
        inside = own_rows >= 0
        gallery[own_rows[inside]] = queries[inside]
        gallery_labels[own_rows[inside]] = query_labels[inside]
    scores = score_retrieval(queries, gallery, query_labels, gallery_labels, own_rows=own_rows)
    cosines = queries.astype(np.float64) @ gallery.astype(np.float64).T
    for query in range(60):
        left = np.ones(90, bool)
        if own_rows is not None and own_rows[query] >= 0:
            left[own_rows[query]] = False
        similar, relevant = cosines[query][left], gallery_labels[left] == query_labels[query]
        assert len(np.unique(similar.astype(np.float32))) == len(similar), "ties are another test"
        # Cosines moved above 0: below, torchmetrics takes them for no answer.
        preds, target = torch.from_numpy(similar + 2), torch.from_numpy(relevant)
        r = int(relevant.sum())
        at_r = relevant[np.argsort(-similar)][:r]
        expected = [
            average_precision_score(relevant, similar),
            sum(at_r[: k + 1].mean() for k in range(r) if at_r[k]) / r,
            retrieval_r_precision(preds, target).item(),
            retrieval_hit_rate(preds, target, top_k=1).item(),
        ]
        assert [scores.values(m)[query] for m in METRICS] == pytest.approx(expected, abs=1e-6)
        mean = retrieval_average_precision(preds, target).item()
        assert scores.average_precision[query] == pytest.approx(mean, abs=1e-6)
    assert scores.mean("mAP") == pytest.approx(scores.average_precision.mean())
    assert 0.2 < scores.mean("mAP") < 0.9, "neither chance nor perfect, or nothing is tested"


def test_every_block_is_told(task):
    told = []
    score_retrieval(*task, told=told.append)
    assert sum(told) == 60 and len(told) == 4


def test_sides_that_do_not_fit_are_sentences(task):
    queries, gallery, query_labels, gallery_labels = task
    with pytest.raises(VectorError, match=r"same dim; found \(60, 16\) and \(90, 8\)"):
        score_retrieval(queries, gallery[:, :8], query_labels, gallery_labels)
    with pytest.raises(VectorError, match="query_labels must be one value for each of 60 rows"):
        score_retrieval(queries, gallery, gallery_labels, gallery_labels)
    with pytest.raises(VectorError, match="gallery, 0 to 89, or -1; found 31 to 90"):
        score_retrieval(*task, own_rows=np.arange(31, 91))
    with pytest.raises(VectorError, match="choose one of mAP, mAP@R"):
        score_retrieval(*task).mean("map")


def test_class_means_are_those_of_sklearn(task):
    test, train, test_labels, train_labels = task
    hits = ncm_accuracy(train, train_labels, test, test_labels)
    means = NearestCentroid().fit(train.astype(np.float64), train_labels)
    np.testing.assert_array_equal(hits, means.predict(test) == test_labels)
    assert 0.2 < hits.mean() < 0.95


def test_class_means_by_hand_are_not_brought_to_length_one():
    # Class 0 is one direction; class 1 is spread, its mean short: the row at 40 degrees is nearer
    # in angle to the mean of class 1 (at 45) but by distance to class 0 (at 15).
    angles = np.radians([15, 15, -35, 125])
    train = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    test = np.array([[np.cos(np.radians(40)), np.sin(np.radians(40))]] * 2, np.float32)
    hits = ncm_accuracy(train, np.array([0, 0, 1, 1]), test, np.array([0, 1]))
    np.testing.assert_array_equal(hits, [1, 0])


def test_one_class_and_classes_never_seen():
    rows = np.eye(3, dtype=np.float32)
    hits = ncm_accuracy(rows[:1], np.array([4]), rows, np.array([4, 5, 4]))
    np.testing.assert_array_equal(hits, [1, 0, 1])
    with pytest.raises(VectorError, match="at least one training row"):
        ncm_accuracy(rows[:0], np.arange(0), rows, np.arange(3))
