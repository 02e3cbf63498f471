"""Copy detection against loops over every pair, and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fiftyone_isoclip.evaluation.metrics import ranking
from fiftyone_isoclip.evaluation.metrics.copies import Matches, score_copies
from tests.strategies import unit_rows

AT = 0.55


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch):
    """48 edits of 12 originals among 30 distractors, and 8 queries that are copies of nothing."""
    monkeypatch.setattr(ranking, "_BLOCK_NUMBERS", 42 * 9)
    rng = np.random.default_rng(3)
    gallery = unit_rows(rng, 42, 6)
    groups = np.repeat(np.arange(12), 4)
    strengths = np.tile([0.1, 0.5, 0.9, 1.4], 12)[:, None]
    edits = gallery[groups] + strengths * unit_rows(rng, 48, 6)
    queries = np.concatenate([edits, unit_rows(rng, 8, 6)])
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    all_groups = np.concatenate([groups, np.arange(100, 108)])
    return (
        queries.astype(np.float32),
        gallery.astype(np.float32),
        all_groups,
        np.arange(42),
    )


def micro_by_hand(queries, gallery, groups, gallery_groups):
    """The queries' best matches, the surest first: precision at each right one, over all copies."""
    cosines = queries.astype(np.float64) @ gallery.astype(np.float64).T
    best = sorted(
        ((max(row), groups[q] == gallery_groups[row.argmax()]) for q, row in enumerate(cosines)),
        reverse=True,
    )
    n_copies = sum(group in set(gallery_groups.tolist()) for group in groups.tolist())
    right, total = 0, 0.0
    for place, (_, hit) in enumerate(best, start=1):
        right += hit
        total += hit * right / place
    return total / n_copies


def test_scores_are_those_of_loops_over_all_pairs(task):
    queries, gallery, groups, gallery_groups = task
    scores = score_copies(*task, similarity=AT)
    cosines = queries.astype(np.float64) @ gallery.astype(np.float64).T
    ranks = np.array(
        [1 + (cosines[q] > cosines[q, group]).sum() for q, group in enumerate(groups[:48])]
    )
    assert scores.queries.recall_at_1[:48].tolist() == (ranks == 1).tolist()
    assert scores.queries.average_precision[:48] == pytest.approx(1 / ranks)
    assert np.isnan(scores.queries.average_precision[48:]).all()
    micro = micro_by_hand(queries, gallery, groups, gallery_groups)
    assert scores.micro_average_precision == pytest.approx(micro, abs=1e-6)
    assert 0.1 < micro < 0.95
    pairs = copies = both = 0
    false_queries = set()
    for query in range(56):
        for row in range(42):
            same, above = groups[query] == gallery_groups[row], cosines[query, row] >= AT
            pairs, copies, both = pairs + above, copies + same, both + (same and above)
            if above and not same:
                false_queries.add(query)
    expected = Matches(AT, pairs, both / pairs, both / copies, len(false_queries) / 56)
    assert scores.matches == expected
    assert 0 < expected.precision < 1 and 0 < expected.recall < 1 and expected.false_queries > 0


def test_a_surer_wrong_match_costs_and_a_weaker_one_does_not():
    gallery = np.eye(3, dtype=np.float32)
    near = np.array([[0.9, 0.1, 0], [0.1, 0.8, 0], [0, 0, 1]], np.float32)
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    # The third query is no copy; its match with the third gallery row is the surest of all.
    sure = score_copies(near, gallery, np.array([0, 1, 9]), np.arange(3))
    assert sure.micro_average_precision == pytest.approx((1 / 2 + 2 / 3) / 2)
    near[2] = np.array([0.5, 0.6, 0.62]) / np.linalg.norm([0.5, 0.6, 0.62])
    weak = score_copies(near, gallery, np.array([0, 1, 9]), np.arange(3))
    assert weak.micro_average_precision == 1
    assert weak.matches is None


def test_equally_sure_matches_count_at_once_in_any_order():
    gallery = np.eye(4, dtype=np.float32)
    for order in ([0, 1], [1, 0]):
        queries, groups = gallery[order], np.array([0, 9])[order]
        scores = score_copies(queries, gallery, groups, np.arange(4))
        assert scores.micro_average_precision == 1 / 2


def test_no_copy_found_and_no_copy_at_all():
    gallery = np.eye(3, dtype=np.float32)
    wrong = score_copies(gallery[:1], gallery, np.array([1]), np.arange(3), similarity=2)
    assert wrong.micro_average_precision == 0
    assert (wrong.matches.pairs, wrong.matches.recall) == (0, 0)
    assert np.isnan(wrong.matches.precision)
    none = score_copies(gallery[:1], gallery, np.array([7]), np.arange(3))
    assert np.isnan(none.micro_average_precision)
