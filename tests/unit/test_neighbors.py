"""The index finds what brute force finds, and says what is wrong with what it is given."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from fiftyone_isoclip.errors import VectorError
from fiftyone_isoclip.index import CosineIndex, find_pairs, limits, pair_search, probes, screens
from tests.strategies import clustered_rows, decaying_rows, unit_rows


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def unit64(rows):
    rows = np.asarray(rows, dtype=np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_nearest_agrees_with_scikit_learn(rng):
    rows, queries = clustered_rows(rng, 300, 20), unit_rows(rng, 40, 20)
    found = CosineIndex(rows).nearest(queries, 10)
    oracle = NearestNeighbors(n_neighbors=10, metric="cosine", algorithm="brute").fit(rows)
    distances, places = oracle.kneighbors(queries)
    np.testing.assert_array_equal(found.rows, places)
    np.testing.assert_allclose(found.similarities, 1 - distances, atol=1e-6)


def test_equally_similar_rows_come_in_their_order():
    rows = np.array([[0.0, 1.0], [1.0, 0.0], [3.0, 0.0], [0.5, 0.0]])
    found = CosineIndex(rows).nearest([[2.0, 0.0]], 2)
    assert found.rows.tolist() == [[1, 2]]
    assert found.similarities.tolist() == [[1.0, 1.0]]


def test_among_restricts_what_may_be_found(rng):
    rows = unit_rows(rng, 50, 8)
    among = np.array([40, 3, 17, 3])
    found = CosineIndex(rows).nearest(rows[:5], 10, among=among)
    expected = np.array([[3, 17, 40]])[:, np.argsort(-(rows[:5] @ rows[[3, 17, 40]].T))][0]
    np.testing.assert_array_equal(found.rows, expected)


def test_nothing_to_search_gives_nothing():
    empty = CosineIndex(np.empty((0, 4)))
    assert (empty.n, len(empty.pairs_above(0.9))) == (0, 0)
    assert empty.nearest(np.ones((2, 4)), 3).rows.shape == (2, 0)
    assert CosineIndex([]).n == 0
    index = CosineIndex(np.ones((3, 4)))
    assert index.nearest(np.empty((0, 4)), 3).rows.shape == (0, 3)
    assert index.nearest(np.ones((2, 4)), 3, among=[]).rows.shape == (2, 0)
    assert len(CosineIndex(np.ones((1, 4))).pairs_above(-0.5)) == 0


def test_a_similarity_does_not_depend_on_what_else_is_indexed(rng):
    rows = clustered_rows(rng, 64, 33).astype(np.float16)
    everything = CosineIndex(rows).nearest(rows[:1], 64)
    for place, row in enumerate(everything.rows[0]):
        alone = CosineIndex(rows[[row]]).nearest(rows[:1], 1)
        assert alone.similarities[0, 0] == everything.similarities[0, place]


def test_the_vectors_are_a_read_only_copy_of_length_one(rng):
    rows = 7 * rng.normal(size=(5, 4)).astype(np.float32)
    index = CosineIndex(rows)
    np.testing.assert_allclose(np.linalg.norm(index.vectors, axis=1), 1, atol=1e-6)
    with pytest.raises(ValueError, match="read-only"):
        index.vectors[0, 0] = 0
    assert (index.n, index.dim) == (5, 4)


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
def test_extreme_lengths_keep_their_direction(scale):
    index = CosineIndex(np.array([[3.0, 4.0], [4.0, 3.0]]) * scale)
    np.testing.assert_allclose(index.vectors, [[0.6, 0.8], [0.8, 0.6]], rtol=1e-6)


def test_f08_rows_without_direction_are_named():
    rows = np.ones((30, 3), dtype=np.float32)
    rows[4, 1] = np.nan
    rows[7] = np.inf
    rows[9] = 0
    with pytest.raises(VectorError, match=r"2 with NaN or infinite.*rows 4, 7.*1 with.*zeros.*9"):
        CosineIndex(rows)
    rows[10:25] = 0
    with pytest.raises(VectorError, match=r"rows 9, 10, 11, 12, 13, 14, 15, 16, \.\.\."):
        CosineIndex(rows)
    with pytest.raises(VectorError, match=r"rows 1\b"):
        CosineIndex(np.ones((2, 3))).nearest([[1, 2, 3], [0, 0, 0]], 1)


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (np.ones(3), "table of one row"),
        (np.ones((3, 0)), "dim >= 1"),
        (np.ones((2, 2), dtype=complex), "real numbers"),
        ([["a"]], "real numbers"),
        ([[1.0], [1.0, 2.0]], "same dim"),
    ],
)
def test_what_is_not_a_table_of_numbers_is_refused(table, sentence):
    with pytest.raises(VectorError, match=sentence):
        CosineIndex(table)


def test_questions_without_an_answer_are_refused(rng):
    index = CosineIndex(unit_rows(rng, 5, 3))
    with pytest.raises(VectorError, match="at least 1"):
        index.nearest(np.ones((1, 3)), 0)
    with pytest.raises(VectorError, match="dim 3 and the queries have dim 4"):
        index.nearest(np.ones((1, 4)), 1)
    for among in ([5], [-1], [[0]], [0.5]):
        with pytest.raises(VectorError, match="among"):
            index.nearest(np.ones((1, 3)), 1, among=among)


@pytest.mark.parametrize("similarity", [-1.0, 1.0001, np.nan, 97, -2])
def test_a_similarity_out_of_range_is_refused(rng, similarity):
    index = CosineIndex(unit_rows(rng, 5, 3))
    with pytest.raises(VectorError, match="above -1 and at most 1"):
        index.pairs_above(similarity)
    with pytest.raises(VectorError, match="above -1 and at most 1"):
        index.pairs_above(0.5).at(similarity)


def test_similarity_one_finds_copies_whatever_their_length(rng):
    rows = rng.normal(size=(20, 512)).astype(np.float32)
    rows[13] = 3.7 * rows[2]
    rows[17] = rows[5]
    found = CosineIndex(rows).pairs_above(1.0)
    assert list(zip(found.left, found.right, strict=True)) == [(2, 13), (5, 17)]
    assert found.similarity.tolist() == [1.0, 1.0]


def test_pairs_cannot_be_loosened(rng):
    found = CosineIndex(clustered_rows(rng, 30, 4)).pairs_above(0.9)
    with pytest.raises(VectorError, match=r"searched at similarity 0\.9.*search again at 0\.8"):
        found.at(0.8)


def test_pairs_that_explode_are_refused_before_they_are_searched(rng, monkeypatch):
    index = CosineIndex(decaying_rows(rng, 9000, 16))
    monkeypatch.setattr(pair_search, "search_pairs", pytest.fail)
    with pytest.raises(VectorError, match=r"about [\d,]+ pairs.*limit is 20,000,000.*Ask for more"):
        index.pairs_above(-0.5)
    with pytest.raises(VectorError, match="remove exact copies first"):
        CosineIndex(np.ones((9000, 2))).pairs_above(0.999)


def test_the_advised_similarity_stays_within_the_limit(rng):
    index = CosineIndex(decaying_rows(rng, 3000, 16))
    with pytest.raises(VectorError) as refusal:
        limits.refuse_explosion(index.vectors, 0.2, limit=100_000)
    advised = float(str(refusal.value).split("more than ")[-1].rstrip("."))
    assert 90_000 < len(index.pairs_above(advised)) < 110_000


def test_pairs_beyond_the_limit_stop_the_search_although_the_sample_missed_them(rng):
    units = CosineIndex(np.vstack([unit_rows(rng, 100, 64), np.ones((20, 64))])).vectors
    screen = screens.plain_screen(units)
    with pytest.raises(VectorError, match="more than 100 pairs"):
        pair_search.search_pairs(units, 0.99, screen, limit=100)


def test_progress_counts_rows_up_to_all_of_them(rng):
    seen = []
    rows = decaying_rows(rng, 9000, 64)
    CosineIndex(rows).pairs_above(0.97, progress=lambda *at: seen.append(at))
    done = [rows_done for rows_done, _ in seen]
    assert len(seen) > 10
    assert done == sorted(done)
    assert seen[-1] == (9000, 9000)


def test_a_search_ends_with_what_progress_raises_and_leaves_no_thread_behind(rng):
    def stop(done, total):
        raise KeyboardInterrupt

    before = threading.active_count()
    index = CosineIndex(decaying_rows(rng, 25_000, 32))
    with pytest.raises(KeyboardInterrupt):
        index.pairs_above(0.99, progress=stop)
    assert threading.active_count() == before


def test_a_search_that_memory_cannot_hold_is_refused_before_it_starts(rng, monkeypatch):
    free = SimpleNamespace(available=2**27)
    monkeypatch.setattr(limits.psutil, "virtual_memory", lambda: free)
    monkeypatch.setattr(pair_search, "search_pairs", pytest.fail)
    with pytest.raises(VectorError, match=r"100 vectors.*about 0\.3 GB.*0\.1 GB are free"):
        find_pairs(rng.normal(size=(100, 8)), 0.9)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_vectors_on_disk_are_compared_without_being_copied(rng, tmp_path, dtype):
    rows = (5 * decaying_rows(rng, 6000, 64)).astype(dtype)
    rows[3000:3100] = rows[:100] * dtype(1.01)
    np.save(tmp_path / "vectors.npy", rows)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    found = find_pairs(mapped, 0.999)
    exact = rows.astype(np.float64)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    left, right = np.nonzero(np.triu(exact @ exact.T >= 0.999, k=1))
    assert len(left) >= 100
    np.testing.assert_array_equal(found.left, left)
    np.testing.assert_array_equal(found.right, right)


def test_a_decaying_spectrum_is_screened_in_few_coordinates_and_misses_nothing(rng):
    rows = decaying_rows(rng, 5000, 64)
    rows[100:200] = rows[:100] + 0.01 * rng.normal(size=(100, 64))
    units = CosineIndex(rows).vectors
    screen = screens.plan_screen(units, 0.99).make(units)
    assert screen.is_prefix
    assert screen.coordinates.shape[1] < 64
    plain = pair_search.search_pairs(units, 0.99, screens.plain_screen(units))
    found = pair_search.search_pairs(units, 0.99, screen)
    assert len(plain) >= 100
    for name in ("left", "right", "similarity"):
        np.testing.assert_array_equal(getattr(found, name), getattr(plain, name))


def test_flat_pairs_are_screened_in_all_coordinates(rng):
    units = CosineIndex(unit_rows(rng, 5000, 64)).vectors
    assert screens.plan_screen(units, 0.1).m is None


def with_copies(rng, n, dim, count):
    rows = clustered_rows(rng, n, dim)
    noise = rng.uniform(0, 0.2, size=(count, 1)) * rng.normal(size=(count, dim)) / np.sqrt(dim)
    rows[-count:] = rows[:count] + noise
    return rows


def test_a_recall_below_one_finds_about_that_share_of_the_exact_pairs(rng, monkeypatch):
    monkeypatch.setattr(pair_search, "WORTH_PROBING", 3000)
    rows = with_copies(rng, 6000, 24, 1500)
    exact, most = find_pairs(rows, 0.985), find_pairs(rows, 0.985, recall=0.9)
    everything = dict(zip(zip(exact.left, exact.right, strict=True), exact.similarity, strict=True))
    found = dict(zip(zip(most.left, most.right, strict=True), most.similarity, strict=True))
    assert found.items() <= everything.items()
    assert exact.recall == 1.0
    share = len(found) / len(everything)
    # Both are of hundreds of pairs at least, so chance moves neither by more than a few hundredths.
    assert len(everything) > 1000
    assert share >= 0.87
    assert most.recall == pytest.approx(share, abs=0.04)
    assert most.at(0.99).recall == most.recall


def test_a_recall_that_cells_cannot_reach_is_refused(rng, monkeypatch):
    monkeypatch.setattr(pair_search, "WORTH_PROBING", 3000)
    monkeypatch.setattr(probes, "MOST_PROBES", 1)
    with pytest.raises(VectorError, match=r"recall of 0\.999 .* ask for less, or search exactly"):
        find_pairs(with_copies(rng, 6000, 24, 1500), 0.97, recall=0.999)


def test_without_a_known_pair_no_recall_is_claimed(rng, monkeypatch):
    monkeypatch.setattr(pair_search, "WORTH_PROBING", 3000)
    found = find_pairs(unit_rows(rng, 4000, 64), 0.99, recall=0.9)
    assert (len(found), found.recall) == (0, None)


@pytest.mark.parametrize("recall", [0, 1, 1.5, -1, np.nan])
def test_a_recall_out_of_range_is_refused(rng, recall):
    with pytest.raises(VectorError, match="above 0 and below 1"):
        find_pairs(unit_rows(rng, 5, 3), 0.9, recall=recall)


def test_an_index_may_take_over_an_array_and_otherwise_leaves_it_alone(rng):
    rows = 7 * rng.normal(size=(50, 8)).astype(np.float32)
    before = rows.copy()
    copied = CosineIndex(rows)
    np.testing.assert_array_equal(rows, before)
    taken = CosineIndex(rows, copy=False)
    np.testing.assert_array_equal(taken.vectors, copied.vectors)
    assert np.shares_memory(taken.vectors, rows)
    before.flags.writeable = False
    assert not np.shares_memory(CosineIndex(before, copy=False).vectors, before)


def test_rows_in_half_precision_take_half_and_keep_similarities_within_3e_4(rng):
    rows = clustered_rows(rng, 2000, 256)
    queries = unit_rows(rng, 20, 256)
    index = CosineIndex(rows, storage="float16")
    assert index.vectors.nbytes == CosineIndex(rows).vectors.nbytes / 2
    found = index.nearest(queries, 30)
    exact = unit64(queries) @ unit64(rows).T
    np.testing.assert_allclose(
        found.similarities, np.take_along_axis(exact, found.rows, axis=1), atol=3e-4
    )
    # Among the rows as they are held, the nearest are found exactly.
    held = np.sort(unit64(queries) @ unit64(index.vectors).T, axis=1)[:, ::-1]
    np.testing.assert_allclose(found.similarities, held[:, :30], atol=1e-7)
    again = CosineIndex.of_units(index.vectors)
    np.testing.assert_array_equal(again.vectors, index.vectors)
    assert (again.storage, CosineIndex(rows).storage) == ("float16", "float32")


def test_pairs_of_rows_in_half_precision_are_those_of_the_rows_as_held(rng):
    index = CosineIndex(with_copies(rng, 5000, 64, 200), storage="float16")
    found = index.pairs_above(0.99)
    held = unit64(index.vectors)
    left, right = np.nonzero(np.triu(held @ held.T >= 0.99, k=1))
    assert len(left) > 150
    np.testing.assert_array_equal(found.left, left)
    np.testing.assert_array_equal(found.right, right)


def test_an_unknown_storage_is_refused(rng):
    with pytest.raises(VectorError, match=r"float32 or float16; got 'int8'"):
        CosineIndex(unit_rows(rng, 5, 3), storage="int8")
