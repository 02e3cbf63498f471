"""Clusters find what was planted, and answer sensibly where there is nothing to find."""

from __future__ import annotations

import faiss
import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, silhouette_score

from fiftyone_isoclip.errors import VectorError
from fiftyone_isoclip.index import cluster
from tests.strategies import unit_rows


@pytest.fixture
def planted():
    """400 rows about 8 directions, with their directions."""
    rng = np.random.default_rng(0)
    truth = rng.integers(8, size=400)
    return unit_rows(rng, 8, 32)[truth] + 0.4 * unit_rows(rng, 400, 32), truth


@pytest.mark.parametrize("how", [{"count": 8}, {}, {"method": "leiden"}])
def test_planted_clusters_are_found(planted, how):
    rows, truth = planted
    found = cluster(rows, **how)
    assert len(found) == 8
    assert adjusted_rand_score(truth, found.labels) == 1.0


@pytest.mark.parametrize("how", [{"count": 8}, {}, {"method": "leiden"}])
def test_the_same_seed_gives_the_same_clusters(planted, how):
    rows, _ = planted
    once, again = cluster(rows, seed=3, **how), cluster(rows, seed=3, **how)
    np.testing.assert_array_equal(once.labels, again.labels)
    np.testing.assert_array_equal(once.medoids, again.medoids)


def test_lengths_play_no_part(planted):
    rows, _ = planted
    scaled = rows * np.exp2(np.random.default_rng(1).integers(-5, 5, size=(len(rows), 1)))
    np.testing.assert_array_equal(cluster(rows, count=5).labels, cluster(scaled, count=5).labels)


def test_the_description_is_that_of_brute_force(planted):
    rows, _ = planted
    found = cluster(rows, count=5)
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    for label in range(5):
        inside = np.flatnonzero(found.labels == label)
        means = (units[inside] @ units[inside].T).mean(axis=1)
        assert found.sizes[label] == len(inside)
        assert found.medoids[label] == inside[np.argmax(means)]
        centre = units[inside].mean(axis=0)
        cohesion = (units[inside] @ centre / np.linalg.norm(centre)).mean()
        assert found.cohesion[label] == pytest.approx(cohesion, abs=1e-6)
    assert found.silhouette == pytest.approx(
        silhouette_score(rows, found.labels, metric="cosine"), abs=1e-5
    )
    assert list(found.sizes) == sorted(found.sizes, reverse=True)


def test_leiden_leaves_lonely_rows_out():
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(20), 100)
    rows = unit_rows(rng, 20, 128)[truth] + 1.5 * unit_rows(rng, 2000, 128)
    found = cluster(np.vstack([rows, unit_rows(rng, 200, 128)]), method="leiden")
    assert adjusted_rand_score(truth, found.labels[:2000]) >= 0.99
    assert np.mean(found.labels[2000:] == -1) >= 0.7


def test_leiden_tells_clusters_apart_on_clip_like_rows():
    """A common mean and a decaying spectrum, where density has no valleys (HDBSCAN: ARI 0.3)."""
    rng = np.random.default_rng(0)
    truth = rng.integers(20, size=2000)
    spectrum = 1 / np.sqrt(np.arange(1, 65))
    rows = (rng.normal(size=(20, 64))[truth] + rng.normal(size=(2000, 64))) * spectrum
    rows[:, 0] += 2 * np.linalg.norm(spectrum)
    assert adjusted_rand_score(truth, cluster(rows, method="leiden").labels) >= 0.9


@pytest.mark.parametrize("method", ["kmeans", "leiden"])
@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_f09_few_rows_are_no_trouble(n, method):
    found = cluster(np.eye(3)[:n], method=method)
    assert found.labels.shape == (n,)
    assert len(found) == (1 if method == "kmeans" and n else 0)
    assert found.silhouette is None
    assert len(cluster([], method=method)) == 0


@pytest.mark.parametrize("method", ["kmeans", "leiden"])
def test_f09_identical_rows_are_one_cluster(method):
    found = cluster(np.full((30, 4), 0.3), method=method)
    assert (found.sizes.tolist(), found.medoids.tolist()) == ([30], [0])
    assert found.cohesion.tolist() == [1.0]
    assert found.silhouette is None


def test_more_clusters_than_different_rows_give_the_different_rows():
    rows = np.repeat(np.eye(3), [4, 3, 2], axis=0)
    found = cluster(rows, count=9)
    assert found.labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 2]
    assert found.silhouette == 1.0


def test_opposite_rows_have_no_cohesion():
    found = cluster([[1.0, 0.0], [-1.0, 0.0]], count=1)
    assert found.cohesion.tolist() == [0.0]


def test_rows_without_structure_are_one_cluster():
    """The corners of a simplex: every division is as good as any other."""
    assert len(cluster(np.eye(12))) == 1


def test_what_cannot_be_done_is_refused():
    rows = np.eye(5)
    for count in (0, -1, 6):
        with pytest.raises(VectorError, match="ask for 1 to 5"):
            cluster(rows, count=count)
    with pytest.raises(VectorError, match="finds its own count"):
        cluster(rows, count=2, method="leiden")
    with pytest.raises(VectorError, match="needs at least 2 rows"):
        cluster(rows, method="leiden", least_size=1)
    with pytest.raises(VectorError, match="found by"):
        cluster(rows, method="magic")
    with pytest.raises(VectorError, match="rows 1"):
        cluster([[1.0], [np.nan]])


def test_faiss_keeps_its_threads(planted):
    rows, _ = planted
    before = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(7)
        cluster(rows, count=3)
        cluster(rows, method="leiden")
        assert faiss.omp_get_max_threads() == 7
    finally:
        faiss.omp_set_num_threads(before)
