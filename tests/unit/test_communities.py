"""The neighbour graph against brute force, and communities against equations and planted truth."""

from __future__ import annotations

import random

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.metrics import adjusted_rand_score

from fiftyone_isoclip.index import cluster, communities, graph
from fiftyone_isoclip.index.graph import nearest_rows, neighbor_graph
from tests.strategies import clustered_rows, unit_rows


def brute_force(rows, count):
    """The neighbours of each row and their cosines, best first, in float64."""
    table = rows.astype(np.float64) @ rows.T.astype(np.float64)
    np.fill_diagonal(table, -np.inf)
    order = np.argsort(-table, axis=1)[:, :count]
    return order, np.take_along_axis(table, order, axis=1)


@pytest.mark.parametrize(("n", "count"), [(300, 10), (12, 15), (2, 15)])
def test_neighbours_are_those_of_brute_force(n, count):
    rows = unit_rows(np.random.default_rng(0), n, 16).astype(np.float32)
    found, scores = nearest_rows(rows, count)
    wanted, similarities = brute_force(rows, min(count, n - 1))
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_allclose(scores, similarities, atol=1e-6)


def test_weights_say_how_much_closer_than_the_last_neighbour():
    rows = unit_rows(np.random.default_rng(0), 60, 8).astype(np.float32)
    order, similarities = brute_force(rows, 7)
    wanted = np.zeros((60, 60))
    for row in range(60):
        wanted[row, order[row]] = similarities[row] - similarities[row, -1]
    np.testing.assert_allclose(neighbor_graph(rows, 7).toarray(), wanted + wanted.T, atol=1e-6)


def test_where_all_rows_are_neighbours_weights_are_the_cosines_above_0():
    rows = unit_rows(np.random.default_rng(0), 8, 8).astype(np.float32)
    table = np.maximum(rows @ rows.T, 0) * (1 - np.eye(8))
    np.testing.assert_allclose(neighbor_graph(rows, 7).toarray(), 2 * table, atol=1e-6)


def test_the_inverted_file_misses_few_neighbours_and_never_names_the_row_itself(monkeypatch):
    rows = clustered_rows(np.random.default_rng(0), 3000, 16)
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    monkeypatch.setattr(graph, "_EXACT_ROWS", 100)
    found, _ = nearest_rows(rows, 10)
    assert not np.any(found == np.arange(3000)[:, None])
    # Neighbours that are as close as the true ones count as found.
    _, similarities = brute_force(rows, 10)
    scores = np.einsum("ij,ikj->ik", rows, rows[found])
    assert np.mean(scores >= similarities[:, -1:] - 1e-6) >= 0.95


def test_rows_with_too_few_neighbours_in_reach_keep_those_they_have(monkeypatch):
    """A cell each, one of them probed: every row finds itself alone."""
    monkeypatch.setattr(graph, "_EXACT_ROWS", 1)
    monkeypatch.setattr(graph, "_PROBES", 1)
    rows = np.eye(16, dtype=np.float32)
    found, _ = nearest_rows(rows, 3)
    linked = neighbor_graph(rows, 3)
    assert np.all((found >= -1) & (found < 16))
    assert not np.any(found == np.arange(16)[:, None])
    assert np.isfinite(linked.data).all()


def test_communities_smaller_than_modularity_can_see_are_found():
    """A ring of cliques, which modularity joins in pairs (Fortunato and Barthelemy 2007)."""
    cliques, size = 40, 5
    table = np.kron(np.eye(cliques), np.ones((size, size)) - np.eye(size))
    for clique in range(cliques):
        left, right = clique * size, ((clique + 1) % cliques) * size + 1
        table[left, right] = table[right, left] = 1
    ring = csr_array(table)
    truth = np.repeat(np.arange(cliques), size)
    once = communities._leiden(ring, 0)
    assert len(np.unique(once)) < cliques
    again = communities._divide(ring, 0, 0.0)
    assert adjusted_rand_score(truth, again) == 1.0


def test_many_small_clusters_are_told_apart():
    rng = np.random.default_rng(0)
    truth = rng.permutation(np.repeat(np.arange(150), 20))
    rows = unit_rows(rng, 150, 64)[truth] + unit_rows(rng, 3000, 64)
    assert adjusted_rand_score(truth, cluster(rows, method="leiden").labels) >= 0.99


def test_a_row_that_leans_elsewhere_is_noise_and_so_is_what_leans_on_it():
    """0, 1, 2 hold together; 3 leans on another community, 4 leans on 3."""
    table = np.zeros((6, 6))
    for left, right, weight in [(0, 1, 9), (1, 2, 9), (0, 2, 9), (2, 3, 1), (3, 5, 4), (3, 4, 2)]:
        table[left, right] = table[right, left] = weight
    labels = np.array([0, 0, 0, 0, 0, 1])
    nobody = np.zeros(6, dtype=bool)
    belongs = communities._belonging(csr_array(table), labels, nobody)
    assert belongs.tolist() == [True, True, True, False, False, False]
    dense = np.array([False, False, False, True, False, False])
    belongs = communities._belonging(csr_array(table), labels, dense)
    assert belongs.tolist() == [True, True, True, True, True, False]


def test_equal_rows_are_one_row_with_many_copies():
    """A thousand copies crowd out no neighbours, and are a cluster although alone."""
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(4), 60)
    rows = unit_rows(rng, 4, 32)[truth] + 0.4 * unit_rows(rng, 240, 32)
    found = cluster(np.vstack([np.repeat(-rows[:1], 1000, axis=0), rows]), method="leiden")
    assert np.all(found.labels[:1000] == 0)
    assert adjusted_rand_score(truth, found.labels[1000:]) == 1.0


def test_small_communities_are_noise():
    rows = np.repeat(np.eye(3), [9, 6, 4], axis=0)
    assert cluster(rows, method="leiden").sizes.tolist() == [9, 6]
    assert cluster(rows, method="leiden", least_size=4).sizes.tolist() == [9, 6, 4]
    assert cluster(rows, method="leiden", least_size=10).sizes.tolist() == []


def test_a_handful_of_near_copies_is_one_cluster():
    rng = np.random.default_rng(0)
    rows = unit_rows(rng, 1, 32) + 0.1 * unit_rows(rng, 7, 32)
    assert cluster(rows, method="leiden").sizes.tolist() == [7]


def test_nobody_elses_random_numbers_are_touched():
    rows = unit_rows(np.random.default_rng(0), 200, 8)
    random.seed(1)
    np.random.seed(1)
    before = random.getstate(), np.random.get_state()[1].copy()
    cluster(rows, method="leiden")
    cluster(rows)
    assert random.getstate() == before[0]
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])
