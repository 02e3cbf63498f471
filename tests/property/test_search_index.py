"""Whatever is added, removed, changed and looked at: what is found is there, and is the nearest."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fiftyone_isoclip.index import CosineIndex, search
from fiftyone_isoclip.index.search import SearchIndex
from fiftyone_isoclip.index.search_inverted import row_keys
from tests.strategies import clustered_rows

N, DIM = 900, 16

CHANGES = st.tuples(
    st.sampled_from(["add", "remove", "change", "shuffle", "copy"]),
    st.integers(1, 160),
    st.integers(0, 2**32 - 1),
)


@cache
def inverted_file():
    table, ids = start()
    return SearchIndex(CosineIndex(table), row_keys(table, ids)).prepared().inverted


def start():
    table = clustered_rows(np.random.default_rng(0), N, DIM).astype(np.float32)
    return table, np.arange(N).astype("<U8")


def applied(table, ids, change):
    """The rows and ids that a user has after a change."""
    kind, count, seed = change
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(table), size=min(count, len(table) - 1), replace=False)
    if kind == "remove":
        return np.delete(table, rows, axis=0), np.delete(ids, rows)
    if kind == "shuffle":
        order = rng.permutation(len(table))
        return table[order], ids[order]
    if kind == "change":
        table = table.copy()
        table[rows] = rng.normal(size=(len(rows), DIM))
        return table, ids
    new = table[rows] if kind == "copy" else clustered_rows(rng, len(rows), DIM)
    fresh = np.char.add(f"{seed % 997}-", np.arange(len(rows)).astype("<U4"))
    keep = np.isin(fresh, ids, invert=True)
    together = np.concatenate([table, new.astype(np.float32)[keep]])
    return together, np.concatenate([ids, fresh[keep]]).astype("<U8")


@settings(max_examples=12)
@given(st.lists(CHANGES, min_size=1, max_size=5), st.integers(1, 40), st.data())
def test_a_sequence_of_changes(changes, k, data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "FLAT_LIMIT", 200)
        patch.setattr(search, "TAIL_LIMIT", 100)
        patch.setattr("fiftyone_isoclip.index.search_inverted.SAMPLE", 200)
        inverted = inverted_file()
        table, ids = start()
        for change in changes:
            table, ids = applied(table, ids, change)
            index = SearchIndex(CosineIndex(table), row_keys(table, ids), inverted).prepared()
            inverted = index.inverted
        seed = data.draw(st.integers(0, 2**32 - 1))
        queries = table[np.random.default_rng(seed).choice(len(table), size=40)]
        found = index.nearest(queries, k)

        units = table.astype(np.float64)
        units /= np.linalg.norm(units, axis=1, keepdims=True)
        asked = queries / np.linalg.norm(queries.astype(np.float64), axis=1, keepdims=True)
        scores = asked @ units.T
        count = min(k, len(table))
        assert found.rows.shape == (40, count)
        assert all(len(set(row)) == count for row in found.rows.tolist())
        given_scores = np.take_along_axis(scores, found.rows, axis=1)
        np.testing.assert_allclose(found.similarities, given_scores, atol=1e-6)
        worst = -np.sort(-scores, axis=1)[:, min(10, count) - 1]
        hits = (given_scores >= worst[:, None] - 1e-6).sum(axis=1).clip(max=min(10, count))
        # Forty queries are few: one that lies badly costs two in a hundred.
        assert hits.mean() / min(10, count) >= 0.97

        view = np.flatnonzero(np.random.default_rng(seed).random(len(table)) < 0.3)
        seen = index.nearest(queries, k, among=view)
        assert seen.rows.shape == (40, min(k, len(view)))
        best = -np.sort(-scores[:, view], axis=1)[:, : seen.rows.shape[1]]
        np.testing.assert_allclose(seen.similarities, best, atol=1e-6)
        assert np.isin(seen.rows, view).all()
