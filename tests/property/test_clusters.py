"""What every clustering says about its rows, whatever the rows."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fiftyone_isoclip.index import cluster
from tests.strategies import vectors


@settings(max_examples=60)
@given(vectors(least_n=1), st.sampled_from(["kmeans", "leiden"]), st.data())
def test_labels_sizes_medoids_and_cohesion_agree(table, method, data):
    asked = {}
    if method == "kmeans":
        asked["count"] = data.draw(st.none() | st.integers(1, len(table)))
    found = cluster(table, method=method, **asked)
    present = np.unique(found.labels)
    assert set(present) - {-1} == set(range(len(found)))
    assert method == "leiden" or -1 not in present
    np.testing.assert_array_equal(found.sizes, np.bincount(found.labels + 1, minlength=1)[1:])
    np.testing.assert_array_equal(found.labels[found.medoids], np.arange(len(found)))
    assert np.all((found.cohesion >= 0) & (found.cohesion <= 1 + 1e-6))
    assert found.silhouette is None or -1 <= found.silhouette <= 1
    if asked.get("count"):
        assert len(found) <= asked["count"]


@settings(max_examples=30)
@given(vectors(least_n=1, least_dim=2), st.integers(2, 6), st.sampled_from(["kmeans", "leiden"]))
def test_identical_rows_share_a_cluster(table, copies, method):
    asked = {"method": "leiden"} if method == "leiden" else {"count": min(4, len(table))}
    found = cluster(np.repeat(table, copies, axis=0), **asked)
    grouped = found.labels.reshape(-1, copies)
    np.testing.assert_array_equal(grouped, np.repeat(grouped[:, :1], copies, axis=1))
