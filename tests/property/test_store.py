"""Any vectors and ids come back as they were."""

from __future__ import annotations

import tempfile

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fiftyone_isoclip.index import read_store, write_store
from tests.strategies import vectors

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=50)
@given(vectors(), st.data(), st.dictionaries(st.text(), JSON, max_size=3), st.none() | st.text())
def test_what_is_read_is_what_was_written(table, data, details, band):
    ids = data.draw(st.lists(st.text(), min_size=len(table), max_size=len(table)))
    with tempfile.TemporaryDirectory() as folder:
        write_store(folder, table, ids, fingerprint="f", band=band, details=details)
        stored = read_store(folder)
        kept = table.dtype if table.dtype == np.float16 else np.float32
        np.testing.assert_array_equal(stored.vectors, table.astype(kept))
        assert (list(stored.ids), stored.band, stored.details) == (ids, band, details)
