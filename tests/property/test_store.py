"""Any vectors and ids come back as they were, whatever was added and removed in between."""

from __future__ import annotations

import tempfile

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fiftyone_isoclip.index import read_store, write_store
from fiftyone_isoclip.index.store import append_store, remove_rows
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

NAMES = st.text().filter(lambda name: not name.endswith("\0"))


@settings(max_examples=50)
@given(vectors(), st.data(), st.dictionaries(st.text(), JSON, max_size=3), st.none() | st.text())
def test_what_is_read_is_what_was_written(table, data, details, band):
    ids = data.draw(st.lists(NAMES, min_size=len(table), max_size=len(table)))
    with tempfile.TemporaryDirectory() as folder:
        write_store(folder, table, ids, fingerprint="f", band=band, details=details)
        stored = read_store(folder)
        kept = table.dtype if table.dtype == np.float16 else np.float32
        np.testing.assert_array_equal(stored.read(), table.astype(kept))
        assert (stored.names, stored.band, stored.details) == (ids, band, details)


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(st.just("add"), st.lists(NAMES, max_size=9))
        | st.tuples(st.just("remove"), st.sets(st.integers(0, 30), max_size=9)),
        max_size=8,
    ),
    st.sampled_from([np.float16, np.float32]),
)
def test_a_store_is_the_list_that_was_added_to_and_removed_from(changes, dtype):
    table, names = np.ones((1, 3), dtype), ["first"]
    written = 1
    with tempfile.TemporaryDirectory() as folder:
        write_store(folder, table, names, fingerprint="f")
        for change, given_ in changes:
            if change == "add":
                rows = np.arange(written + 1, written + 1 + len(given_), dtype=dtype)
                written += len(given_)
                rows = np.repeat(rows[:, None], 3, axis=1)
                append_store(folder, rows, given_, fingerprint="f")
                table, names = np.vstack([table, rows]), names + given_
            else:
                gone = [row for row in sorted(given_) if row < len(names)]
                remove_rows(folder, read_store(folder), gone)
                table = np.delete(table, gone, axis=0)
                names = [name for row, name in enumerate(names) if row not in gone]
            stored = read_store(folder)
            np.testing.assert_array_equal(stored.read(), table)
            assert stored.names == names
