"""Whatever the vectors: found exactly, in one order, with one number for each pair."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fiftyone_isoclip.index import CosineIndex, bounds, cells, neighbors, pair_search, screens
from fiftyone_isoclip.index import vectors as rows_of_vectors
from tests.strategies import seeds, similarities, vectors

ROUNDING = 1e-6


def brute_cosines(table):
    rows = table.astype(np.float64)
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return rows @ rows.T


def as_set(found):
    return set(zip(found.left.tolist(), found.right.tolist(), strict=True))


def same(left, right):
    return all(
        np.array_equal(getattr(left, name), getattr(right, name))
        for name in ("n", "left", "right", "similarity", "least")
    )


@given(vectors(), similarities())
def test_pairs_are_those_of_brute_force(table, similarity):
    found = CosineIndex(table).pairs_above(similarity)
    oracle = brute_cosines(table)
    upper = np.triu(np.ones_like(oracle, dtype=bool), k=1)
    surely = set(zip(*np.nonzero(upper & (oracle >= similarity + ROUNDING)), strict=True))
    maybe = set(zip(*np.nonzero(upper & (oracle >= similarity - ROUNDING)), strict=True))
    assert surely <= as_set(found) <= maybe
    np.testing.assert_allclose(found.similarity, oracle[found.left, found.right], atol=ROUNDING)
    assert list(zip(found.left, found.right, strict=True)) == sorted(as_set(found))


@given(vectors(least_n=2), st.data())
def test_stricter_pairs_are_those_of_a_fresh_search_even_on_the_boundary(table, data):
    index = CosineIndex(table)
    loose = index.pairs_above(-0.9)
    boundary = [float(score) for score in loose.similarity if score > -0.9]
    stricter = data.draw(st.sampled_from(boundary) if boundary else st.just(1.0))
    assert same(loose.at(stricter), index.pairs_above(stricter))
    assert all(loose.at(stricter).similarity >= np.float32(stricter))


@given(
    vectors(least_n=1, least_dim=3),
    similarities(),
    st.integers(1, 9),
    st.integers(1, 30),
    st.integers(1, 40),
)
def test_no_screen_no_block_and_no_cells_change_a_pair(table, similarity, side, m, pivots):
    units = CosineIndex(table).vectors
    expected = pair_search.search_pairs(units, similarity, screens.plain_screen(units))
    rotation = screens.principal_rotation(units.astype(np.float64))
    screen = screens.prefix_screen(units, rotation, min(m, units.shape[1]))
    pivots = min(pivots, len(units))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounds.BlasBounds, "sides", (side, 3))
        patch.setattr(rows_of_vectors, "_BLOCK_NUMBERS", side)
        patch.setattr(cells, "_SCORES_AT_ONCE", 64)
        found = pair_search.search_pairs(units, similarity, screen, pivots=pivots, threads=2)
    assert same(found, expected)


@given(vectors(least_n=2, least_dim=2), similarities(), st.integers(2, 40), seeds())
def test_cells_around_any_pivots_leave_no_partner_out(table, similarity, count, rng):
    units = CosineIndex(table).vectors
    # Pivots need be neither of length 1, nor distinct, nor near anything.
    pivots = rng.normal(size=(count, units.shape[1])).astype(np.float32) * rng.uniform(0.1, 3)
    pivots[count // 2] = pivots[0]
    divided = cells.divide(units, pivots)
    met = np.zeros((len(units), len(units)), dtype=bool)
    for mine, others in cells.walk_cells(divided, similarity - 1e-6):
        met[np.ix_(divided.order[mine], divided.order[mine])] = True
        met[np.ix_(divided.order[mine], divided.order[others])] = True
    partners = brute_cosines(units) >= similarity
    assert not np.any(partners & ~(met | met.T))


@given(vectors(least_n=1, least_dim=2, most_dim=60), st.sampled_from(["bfloat16", "float16"]))
def test_half_precision_bounds_every_cosine(table, kind):
    import torch

    units = CosineIndex(table).vectors
    dtype = getattr(torch, kind)
    rounded = torch.from_numpy(units.copy()).to(dtype)
    gaps = np.linalg.norm(units.astype(np.float64) - rounded.double().numpy(), axis=1)
    slack = bounds.half_slack(float(gaps.max()), torch.finfo(dtype).eps)
    exact_products = (rounded.double() @ rounded.double().T).to(dtype).double().numpy()
    slack += rows_of_vectors.rounding_slack(units.shape[1])
    assert np.all(exact_products + slack >= brute_cosines(units))


@settings(max_examples=25, deadline=None)
@given(vectors(least_n=1, least_dim=2), similarities())
def test_half_precision_on_the_processor_changes_no_pair(table, similarity):
    units = CosineIndex(table).vectors
    screen = screens.plain_screen(units)
    expected = pair_search.search_pairs(units, similarity, screen)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounds.TorchBounds, "sides", (16, 8), raising=False)
        assert same(pair_search.search_pairs(units, similarity, screen, device="cpu"), expected)


@given(vectors(least_n=1, least_dim=2, most_dim=60), st.integers(1, 60))
def test_a_screen_bounds_every_cosine(table, m):
    units = CosineIndex(table).vectors
    rotation = screens.principal_rotation(units.astype(np.float64))
    screen = screens.prefix_screen(units, rotation, min(m, units.shape[1]))
    bounds = screen.coordinates @ screen.coordinates.T
    assert np.all(bounds.astype(np.float64) + screen.slack >= brute_cosines(units))


@given(vectors(least_n=1), st.integers(1, 50), seeds())
def test_nearest_is_the_head_of_the_full_ranking(table, k, rng):
    queries = rng.normal(size=(3, table.shape[1]))
    index = CosineIndex(table)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbors, "_BLOCK_NUMBERS", 2 * len(table))
        found, ranking = index.nearest(queries, k), index.nearest(queries, len(table))
    np.testing.assert_array_equal(found.rows, ranking.rows[:, :k])
    np.testing.assert_array_equal(found.similarities, ranking.similarities[:, :k])
    joint = np.vstack([queries, table.astype(np.float64)])
    oracle = brute_cosines(joint)[:3, 3:]
    for query, rows in enumerate(ranking.rows):
        scores = ranking.similarities[query]
        np.testing.assert_allclose(scores, oracle[query, rows], atol=ROUNDING)
        # In order of similarity, then of row; every row once.
        assert list(zip(-scores, rows, strict=True)) == sorted(zip(-scores, rows, strict=True))
        assert sorted(rows) == list(range(len(table)))


@given(vectors(least_n=1), st.data())
def test_among_is_a_search_of_those_rows_alone(table, data):
    among = data.draw(st.lists(st.integers(0, len(table) - 1), unique=True).map(sorted))
    found = CosineIndex(table).nearest(table[:2], 5, among=np.array(among, dtype=np.int64))
    alone = CosineIndex(table[among]).nearest(table[:2], 5)
    np.testing.assert_array_equal(found.rows, np.array(among, dtype=np.int64)[alone.rows])
    np.testing.assert_array_equal(found.similarities, alone.similarities)


@settings(max_examples=30)
@given(vectors(least_n=2, most_dim=12))
def test_a_similarity_is_the_exact_cosine_rounded_once(table):
    index = CosineIndex(table)
    found = index.pairs_above(-0.999)
    exact = [[float(number) for number in row] for row in index.vectors]

    def dot(a, b):
        return math.fsum(x * y for x, y in zip(a, b, strict=True))

    for left, right, score in zip(found.left, found.right, found.similarity, strict=True):
        a, b = exact[left], exact[right]
        cosine = np.float32(dot(a, b) / math.sqrt(dot(a, a) * dot(b, b)))
        assert abs(np.float64(score) - np.float64(cosine)) <= np.spacing(np.float32(1))


@given(vectors(least_n=2), similarities(), seeds())
def test_the_order_and_the_scale_of_rows_change_no_pair(table, similarity, rng):
    shuffle = rng.permutation(len(table))
    scaled = table[shuffle].astype(np.float64) * 2.0 ** rng.integers(-9, 9, size=(len(table), 1))
    plain = CosineIndex(table).pairs_above(similarity)
    other = CosineIndex(scaled).pairs_above(similarity)
    back = {tuple(sorted((int(shuffle[a]), int(shuffle[b])))) for a, b in as_set(other)}
    assert back == as_set(plain)
