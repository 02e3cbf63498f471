"""ROxford and RParis against a slow reading of the protocol's definition, and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fiftyone_isoclip.errors import VectorError
from fiftyone_isoclip.evaluation.metrics import ranking
from fiftyone_isoclip.evaluation.metrics.revisited import Judged, score_revisited
from tests.strategies import unit_rows


def walked(ranked: list[int], right: set[int], passed: set[int]) -> dict[str, float]:
    """One query's scores, from the rows one after another as a person would read a result page.

    What is passed over is struck from the page. At each right answer the recall rises by 1 / R, and
    the area under the line between the precision before it and after it is added. Precision at k is
    that of the first k rows, or of those to the last right one if that comes earlier.
    """
    page = [row for row in ranked if row not in passed]
    area, seen_right, last = 0.0, 0, 0
    for place, row in enumerate(page):
        if row in right:
            before = seen_right / place if place else 1.0
            seen_right, last = seen_right + 1, place + 1
            area += (before + seen_right / (place + 1)) / 2 / len(right)
    scores = {"mAP": area}
    for k in (1, 5, 10):
        cut = page[: min(k, last)]
        scores[f"mP@{k}"] = sum(row in right for row in cut) / len(cut)
    return scores


def judge(rng: np.random.Generator, n: int, sizes: tuple[int, int, int]) -> Judged:
    cuts = np.cumsum(sizes)
    return Judged(*np.split(rng.permutation(n)[: cuts[-1]], cuts[:-1]))


@pytest.fixture(params=range(3))
def task(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """12 queries of a gallery of 80, with more or fewer rows judged; some kinds are empty."""
    monkeypatch.setattr(ranking, "_BLOCK_NUMBERS", 80 * 5)
    rng = np.random.default_rng(request.param)
    sizes = [(6, 9, 12), (1, 30, 0), (20, 0, 3), (0, 4, 7), (0, 0, 5), (2, 2, 60)] * 2
    judged = [judge(rng, 80, each) for each in sizes]
    queries, gallery = unit_rows(rng, 12, 8), unit_rows(rng, 80, 8)
    return queries.astype(np.float32), gallery.astype(np.float32), judged


def test_scores_are_those_of_a_page_read_from_the_top(task):
    queries, gallery, judged = task
    scores = score_revisited(queries, gallery, judged)
    ranked = np.argsort(-(queries.astype(np.float64) @ gallery.T.astype(np.float64)), axis=1)
    for difficulty, found in scores.items():
        expected = []
        for query, each in enumerate(judged):
            easy, hard, junk = (set(rows.tolist()) for rows in (each.easy, each.hard, each.junk))
            right = {"easy": easy, "medium": easy | hard, "hard": hard}[difficulty]
            passed = junk | {"easy": hard, "medium": set(), "hard": easy}[difficulty]
            if not right:
                assert np.isnan(found.average_precision[query])
                continue
            expected.append(walked(ranked[query].tolist(), right, passed))
            one = {"mAP": found.average_precision[query]}
            one |= {f"mP@{k}": values[query] for k, values in found.precision_at.items()}
            assert one == pytest.approx(expected[-1], abs=1e-9)
        means = {name: np.mean([each[name] for each in expected]) for name in expected[0]}
        assert found.means == pytest.approx(means, abs=1e-9)


def test_five_rows_by_hand():
    angles = np.radians([0, 10, 20, 30, 40])
    gallery = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    # Ranked as they stand: junk, wrong, easy, hard, easy.
    judged = [Judged(easy=np.array([2, 4]), hard=np.array([3]), junk=np.array([0]))]
    scores = score_revisited(gallery[:1], gallery, judged)
    # Easy: wrong, easy, easy. Medium: wrong, right, right, right. Hard: wrong, hard.
    easy = ((0 / 1 + 1 / 2) / 2 + (1 / 2 + 2 / 3) / 2) / 2
    medium = ((0 / 1 + 1 / 2) / 2 + (1 / 2 + 2 / 3) / 2 + (2 / 3 + 3 / 4) / 2) / 3
    hard = (0 / 1 + 1 / 2) / 2
    expected = {"easy": (easy, 2 / 3), "medium": (medium, 3 / 4), "hard": (hard, 1 / 2)}
    for difficulty, (area, at_5) in expected.items():
        assert scores[difficulty].means == pytest.approx(
            {"mAP": area, "mP@1": 0, "mP@5": at_5, "mP@10": at_5}
        )


def test_a_first_row_that_is_right_has_full_area():
    gallery = np.eye(3, dtype=np.float32)
    judged = [Judged(np.array([0]), np.array([], int), np.array([], int))]
    scores = score_revisited(gallery[:1], gallery, judged)
    assert scores["easy"].means == {"mAP": 1, "mP@1": 1, "mP@5": 1, "mP@10": 1}
    assert np.isnan(list(scores["hard"].means.values())).all()


def test_judgements_of_another_gallery_are_refused(task):
    queries, gallery, judged = task
    with pytest.raises(VectorError, match=r"query 0 names gallery rows .* has rows 0 to 9"):
        score_revisited(queries, gallery[:10], judged)
    with pytest.raises(VectorError, match="judged must be one value for each of 12 rows"):
        score_revisited(queries, gallery, judged[:-1])
