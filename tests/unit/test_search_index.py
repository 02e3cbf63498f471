"""Many vectors searched by an inverted file, against brute force in float64."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from fiftyone_isoclip.errors import VectorError
from fiftyone_isoclip.index import CosineIndex, search
from fiftyone_isoclip.index.search import SearchIndex
from fiftyone_isoclip.index.search_files import read_inverted, write_inverted
from fiftyone_isoclip.index.search_inverted import row_keys
from tests.strategies import clustered_rows

N, DIM, LIMIT = 3_000, 33, 500


@pytest.fixture(autouse=True)
def _small_sizes(monkeypatch):
    monkeypatch.setattr(search, "FLAT_LIMIT", LIMIT)
    monkeypatch.setattr(search, "TAIL_LIMIT", 100)


def rows_with_ids(n=N, seed=0):
    table = clustered_rows(np.random.default_rng(seed), n, DIM).astype(np.float32)
    return table, np.array([f"{seed}-{row}" for row in range(n)])


def index_of(table, ids, inverted=None):
    return SearchIndex(CosineIndex(table), row_keys(table, ids), inverted)


def brute_force(table, queries, k):
    rows, asked = (
        part / np.linalg.norm(part, axis=1, keepdims=True)
        for part in (table.astype(np.float64), queries.astype(np.float64))
    )
    scores = asked @ rows.T
    return np.argsort(-scores, axis=1)[:, :k], scores


def recall(found, table, queries, nearest=10):
    """Of the nearest rows, the share that was found, or others just as similar."""
    right, scores = brute_force(table, queries, nearest)
    worst = np.take_along_axis(scores, right[:, -1:], axis=1)
    hits = np.take_along_axis(scores, found.rows, axis=1) >= worst - 1e-6
    return np.minimum(hits.sum(axis=1), nearest).mean() / nearest


@pytest.fixture(scope="module")
def made():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "FLAT_LIMIT", LIMIT)
        table, ids = rows_with_ids()
        return table, ids, index_of(table, ids).prepared()


def test_few_rows_are_searched_exactly_and_many_by_an_inverted_file(made, caplog):
    table, ids, many = made
    few = index_of(table[:LIMIT], ids[:LIMIT])
    assert few.prepared() is few
    assert (few.kind, many.kind) == ("flat", "inverted file")
    assert "all of 500 vectors" in few.description
    assert "3,000 vectors scored for k = 25" in many.description
    np.testing.assert_array_equal(
        few.nearest(table[:5], 7).rows, CosineIndex(table[:LIMIT]).nearest(table[:5], 7).rows
    )
    with caplog.at_level(logging.INFO):
        index_of(table[: LIMIT + 200], ids[: LIMIT + 200]).prepared()
    assert "inverted file" in caplog.text


def test_the_nearest_are_found_and_scored_as_the_exact_index_scores_them(made):
    table, _, index = made
    queries = table[::3] * 5
    found = index.nearest(queries, 25)
    assert found.rows.shape == (len(queries), 25)
    assert recall(found, table, queries) >= 0.997
    assert recall(index.nearest(queries, 100), table, queries, 100) >= 0.997
    everything = index.exact.nearest(queries, N)
    exact = np.empty((len(queries), N), np.float32)
    np.put_along_axis(exact, everything.rows, everything.similarities, axis=1)
    np.testing.assert_array_equal(found.similarities, np.take_along_axis(exact, found.rows, axis=1))
    assert (np.diff(found.similarities, axis=1) <= 0).all()


def test_the_recall_it_states_is_measured_and_not_assumed(made, monkeypatch):
    table, ids, index = made
    stated = index.inverted.efforts[25]
    assert 0.999 <= stated.recall <= 1
    assert stated.probes < index.inverted.cells
    # With one cell opened much is missed: the effort is what keeps the recall.
    lazy = type(stated)(1, 50, 1.0)
    poor = index_of(
        table,
        ids,
        type(index.inverted)(index.inverted.index, index.inverted.keys, N, {25: lazy, 100: lazy}),
    )
    assert recall(poor.nearest(table[::17], 25), table, table[::17]) < 0.997


def test_where_no_effort_reaches_the_recall_for_many_neighbours_few_still_use_it(made, monkeypatch):
    table, ids, index = made
    some = replace(index.inverted, efforts={25: index.inverted.efforts[25]})
    partly = index_of(table, ids, some)
    assert (partly.kind, partly.is_due) == ("inverted file", False)
    asked = []
    propose = type(some).propose
    monkeypatch.setattr(type(some), "propose", lambda *said: asked.append(1) or propose(*said))
    assert recall(partly.nearest(table[:50], 25), table, table[:50]) >= 0.997
    assert len(asked) == 50
    exact = partly.exact.nearest(table[:50], 60)
    np.testing.assert_array_equal(partly.nearest(table[:50], 60).rows, exact.rows)
    assert len(asked) == 50


def test_a_view_loses_nothing(made):
    table, _, index = made
    rng = np.random.default_rng(3)
    for size in (1, 12, 400, 2_500):
        among = rng.choice(N, size, replace=False)
        found = index.nearest(table[:6], 25, among=among)
        right, _ = brute_force(table[among], table[:6], min(25, size))
        np.testing.assert_array_equal(found.rows, among[right])


def test_all_that_are_asked_for_are_found(made):
    table, _, index = made
    for k in (1, 25, 26, 100, 101, N, N + 50):
        found = index.nearest(table[:2], k)
        assert found.rows.shape == (2, min(k, N))
        assert all(len(set(row)) == len(row) for row in found.rows.tolist())


def test_rows_that_are_added_are_found_at_once_without_training(made, monkeypatch):
    table, ids, index = made
    monkeypatch.setattr(search, "train", pytest.fail)
    new, new_ids = rows_with_ids(90, seed=1)
    later = index_of(np.vstack([new, table]), np.concatenate([new_ids, ids]), index.inverted)
    assert not later.is_due
    assert later.nearest(new, 1).rows[:, 0].tolist() == list(range(90))
    more, more_ids = rows_with_ids(200, seed=2)
    together = np.vstack([table, more])
    grown = index_of(together, np.concatenate([ids, more_ids]), index.inverted)
    assert grown.is_due
    grown = grown.prepared()
    assert not grown.is_due
    assert grown.inverted.trained_on == N
    assert len(grown.inverted.keys) == N + 200
    assert recall(grown.nearest(more, 25), together, more) >= 0.997


def test_rows_that_are_gone_or_changed_are_never_found(made, monkeypatch):
    table, ids, index = made
    monkeypatch.setattr(search, "train", pytest.fail)
    stay = np.random.default_rng(5).permutation(N)[: N - 600]
    changed = table[stay]
    changed[:50] = -changed[:50]
    later = index_of(changed, ids[stay], index.inverted)
    assert later.nearest(changed, 10).rows.max() < len(stay)
    # So many that recall is measured again: what is left lies further away.
    assert later.is_due
    later = later.prepared()
    assert not later.is_due
    found = later.nearest(changed, 10)
    assert found.rows.max() < len(stay)
    assert recall(found, changed, changed) >= 0.997


def test_cells_are_chosen_anew_where_rows_have_doubled_or_a_quarter_is_gone(made):
    table, ids, index = made
    more, more_ids = rows_with_ids(N + 10, seed=6)
    doubled = index_of(np.vstack([table, more]), np.concatenate([ids, more_ids]), index.inverted)
    assert doubled.is_due
    assert doubled.prepared().inverted.trained_on == 2 * N + 10
    left = slice(0, int(0.74 * N))
    thinned = index_of(table[left], ids[left], index.inverted)
    assert thinned.prepared().inverted.trained_on == int(0.74 * N)
    other = index_of(table[:, :-3], ids, index.inverted)
    assert other.prepared().inverted.trained_on == N


def test_rows_without_structure_are_searched_exactly_if_cells_cannot_find_them(monkeypatch):
    monkeypatch.setattr("fiftyone_isoclip.index.search_inverted._WIDEST", 2)
    table = np.random.default_rng(0).normal(size=(2_000, 64)).astype(np.float32)
    index = index_of(table, np.arange(2_000).astype(str)).prepared()
    assert index.kind == "flat"
    assert not index.is_due
    right, _ = brute_force(table, table[:9], 25)
    np.testing.assert_array_equal(index.nearest(table[:9], 25).rows, right)


@pytest.mark.filterwarnings("ignore")
def test_equal_rows_everywhere():
    table = np.repeat(rows_with_ids(7)[0], 120, axis=0)
    index = index_of(table, np.arange(len(table)).astype(str)).prepared()
    found = index.nearest(table[::100], 25)
    assert (found.similarities == 1).all()


def test_mistakes_are_told_as_the_exact_index_tells_them(made):
    _, _, index = made
    with pytest.raises(VectorError, match="at least 1"):
        index.nearest(np.ones((1, DIM)), 0)
    with pytest.raises(VectorError, match="dim 5"):
        index.nearest(np.ones((1, 5)), 3)
    with pytest.raises(VectorError, match="NaN"):
        index.nearest(np.full((1, DIM), np.nan), 3)
    assert index.nearest(np.empty((0, DIM)), 3).rows.shape == (0, 3)


def test_f18_threads_find_the_same(made):
    table, _, index = made
    right = index.nearest(table[:64], 25).rows
    with ThreadPoolExecutor(8) as searchers:
        found = list(searchers.map(lambda row: index.nearest(table[[row]], 25).rows[0], range(64)))
    np.testing.assert_array_equal(found, right)


def test_a_file_holds_the_same_in_whatever_order_the_rows_come(made, tmp_path, monkeypatch):
    table, ids, index = made
    write_inverted(tmp_path / "a.inverted", index.inverted, fingerprint="weights", band="3/7")
    monkeypatch.setattr(search, "train", pytest.fail)
    shuffle = np.random.default_rng(8).permutation(N)
    kept = read_inverted(tmp_path / "a.inverted", fingerprint="weights", band="3/7")
    again = index_of(table[shuffle], ids[shuffle], kept)
    assert not again.is_due
    assert again.description == index.description
    before, after = index.nearest(table[:40], 25), again.nearest(table[:40], 25)
    np.testing.assert_array_equal(after.similarities, before.similarities)
    assert [set(shuffle[row]) for row in after.rows] == [set(row) for row in before.rows.tolist()]
    assert list(tmp_path.iterdir()) == [tmp_path / "a.inverted"]
