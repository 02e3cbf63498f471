"""A store is what was written, or says what happened to it."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest
from filelock import FileLock

from fiftyone_isoclip.errors import StoreError, VectorError
from fiftyone_isoclip.index import commits, read_store, write_store
from fiftyone_isoclip.index.store import append_store, remove_rows
from tests import kills
from tests.kills import WHOLE_STORE, holds


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "stored"


def files(folder):
    return sorted(path.name.split("-")[0] for path in folder.iterdir())


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_what_is_read_is_what_was_written(folder, dtype):
    vectors = np.random.default_rng(0).normal(size=(300, 17)).astype(dtype)
    ids = [f"ü\n/{n}" for n in range(299)] + ["a lone \udc80 as in undecodable file names"]
    details = {"model": "demo", "nested": {"rows": [1, 2.5, None]}}
    write_store(folder, vectors, ids, fingerprint="abc", band="150/50", details=details)
    stored = read_store(folder, expected_fingerprint="abc")
    assert stored.read().dtype == dtype
    np.testing.assert_array_equal(stored.read(), vectors)
    np.testing.assert_array_equal(stored.read([7, 3, 3]), vectors[[7, 3, 3]])
    assert stored.names == ids
    assert (stored.fingerprint, stored.band, stored.details) == ("abc", "150/50", details)
    assert not stored.read().flags.writeable


def test_other_numbers_are_stored_as_float32(folder):
    write_store(folder, np.arange(1, 7).reshape(3, 2), "abc", fingerprint="f")
    stored = read_store(folder)
    assert stored.read().dtype == np.float32
    assert (stored.read().tolist(), stored.band) == ([[1, 2], [3, 4], [5, 6]], None)


def test_an_empty_store_is_a_store(folder):
    write_store(folder, np.empty((0, 5), np.float32), [], fingerprint="f")
    assert read_store(folder).read().shape == (0, 5)
    assert read_store(folder).names == []
    append_store(folder, np.ones((1, 5)), ["a"], fingerprint="f")
    assert read_store(folder).read().tolist() == [[1] * 5]


def test_details_come_back_as_json_has_them(folder):
    write_store(
        folder, np.eye(2), "ab", fingerprint="f", details={"pair": (1, 2), "by": {10: 1, 2: 0}}
    )
    assert read_store(folder).details == {"pair": [1, 2], "by": {"10": 1, "2": 0}}


def test_a_new_version_replaces_the_old_and_its_files(folder):
    kills.write(folder, kills.OLD)
    old = read_store(folder)
    kills.write(folder, kills.NEW)
    assert holds(folder, kills.NEW)
    assert files(folder) == WHOLE_STORE
    # Whoever had mapped the old vectors still has them.
    np.testing.assert_array_equal(old.read(), kills.OLD[0])


def test_a_stop_in_the_middle_leaves_nothing_behind(folder, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(commits.os, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            kills.write(folder, kills.NEW)
    assert files(folder) == ["writer.lock"]
    kills.write(folder, kills.NEW)
    # Stopped as soon as the new manifest is in place: what it names must stay.
    replace = os.replace
    with monkeypatch.context() as patch:
        patch.setattr(commits.os, "replace", lambda *args: (replace(*args), stop()))
        with pytest.raises(KeyboardInterrupt):
            kills.write(folder, kills.OLD)
    assert holds(folder, kills.OLD)


def test_f08_vectors_without_direction_are_never_stored(folder):
    for bad in (np.nan, np.inf, 0.0, 1e300):
        with pytest.raises(VectorError, match=r"rows 1\b"):
            write_store(folder, np.array([[1.0], [bad]]), "ab", fingerprint="f")
    assert not folder.exists()


def test_what_does_not_fit_is_refused(folder, tmp_path):
    with pytest.raises(StoreError, match="2 vectors came with 3 ids"):
        write_store(folder, np.eye(2), "abc", fingerprint="f")
    with pytest.raises(StoreError, match="must be text"):
        write_store(folder, np.eye(2), [1, 2], fingerprint="f")
    for details in ({"a": {1}}, {"a": float("nan")}, {(1, 2): 3}):
        with pytest.raises(StoreError, match="must be JSON values"):
            write_store(folder, np.eye(2), "ab", fingerprint="f", details=details)
    with pytest.raises(StoreError, match="holds no stored vectors; compute them first"):
        read_store(folder)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="file cannot be written: File exists"):
        write_store(tmp_path / "file", np.eye(2), "ab", fingerprint="f")
    with pytest.raises(StoreError, match="cannot be read"):
        read_store(tmp_path / "file")


def test_f11_a_second_writer_is_told(folder, monkeypatch):
    monkeypatch.setattr(commits, "PATIENCE_SECONDS", 0)
    kills.write(folder, kills.OLD)
    with (
        FileLock(folder / "writer.lock"),
        pytest.raises(StoreError, match="Another process is writing"),
    ):
        kills.write(folder, kills.NEW)
    assert holds(folder, kills.OLD)


def test_a_reader_beside_a_writer_sees_whole_states(folder):
    kills.write(folder, kills.OLD)
    done = threading.Event()
    states = [kills.OLD, kills.NEW, kills.BOTH, kills.WITHOUT_B, kills.ONLY_D]

    def change():
        for turn in range(15):
            kills.write(folder, kills.NEW if turn % 2 else kills.OLD)
            kills.write(folder, kills.OLD)
            kills.append(folder, kills.NEW)
            remove_rows(folder, read_store(folder), range(4, 9))
            remove_rows(folder, read_store(folder), [1])
            kills.write(folder, kills.OLD)
            kills.remove(folder, [0, 1, 2])
        done.set()

    writer = threading.Thread(target=change)
    writer.start()
    met = set()
    while not done.is_set():
        stored = read_store(folder)
        (state,) = (n for n, (_, ids) in enumerate(states) if ids == stored.names)
        np.testing.assert_array_equal(stored.read(), states[state][0])
        met.add(state)
    writer.join()
    assert len(met) > 1


class TestGrowing:
    def test_what_is_added_lies_behind_and_nothing_is_written_again(self, folder):
        kills.write(folder, kills.OLD)
        before = {path: path.read_bytes() for path in folder.glob("*-*.bin")}
        opened = read_store(folder)
        kills.append(folder, kills.NEW)
        assert holds(folder, kills.BOTH)
        assert {path: path.read_bytes()[: len(old)] for path, old in before.items()} == before
        assert sorted(folder.glob("*-*.bin")) == sorted(before)
        np.testing.assert_array_equal(opened.read(), kills.OLD[0])
        assert opened.names == kills.OLD[1]

    def test_a_folder_without_a_store_gets_one(self, folder):
        append_store(folder, *kills.NEW, fingerprint="model")
        assert read_store(folder).names == kills.NEW[1]

    def test_what_is_stored_last_is_checked_before_more_is_put_behind_it(self, folder):
        kills.write(folder, kills.OLD)
        path = next(folder.glob("vectors-*"))
        path.write_bytes(path.read_bytes()[:-1] + b"\xff")
        with pytest.raises(StoreError, match="is damaged"):
            kills.append(folder, kills.NEW)

    def test_vectors_that_do_not_belong_there_are_refused(self, folder):
        kills.write(folder, kills.OLD)
        with pytest.raises(StoreError, match="of checkpoint model, and 3 numbers of other"):
            append_store(folder, kills.NEW[0], kills.NEW[1], fingerprint="other")
        with pytest.raises(StoreError, match=r"holds vectors of 3 numbers.*and 2 numbers"):
            append_store(folder, np.eye(2), "ab", fingerprint="model")
        assert holds(folder, kills.OLD)

    def test_a_store_keeps_its_kind_of_numbers(self, folder):
        write_store(folder, np.eye(2, dtype=np.float16), "ab", fingerprint="model")
        append_store(folder, np.full((1, 2), 1 / 3, np.float32), "c", fingerprint="model")
        assert read_store(folder).read([2]).tolist() == [[np.float16(1 / 3)] * 2]
        with pytest.raises(VectorError, match="infinite"):
            append_store(folder, np.full((1, 2), 1e6, np.float32), "d", fingerprint="model")

    def test_f11_writers_that_meet_lose_nothing(self, folder):
        def add(start):
            for n in range(start, start + 20):
                append_store(folder, np.full((1, 2), n + 1.0), [str(n)], fingerprint="f")

        writers = [threading.Thread(target=add, args=(start,)) for start in (0, 20, 40)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        stored = read_store(folder)
        assert sorted(map(int, stored.names)) == list(range(60))
        np.testing.assert_array_equal(stored.read()[:, 0], [int(name) + 1 for name in stored.names])


class TestRemoving:
    def test_rows_are_marked_until_many_are_gone(self, folder):
        kills.write(folder, kills.OLD)
        path = next(folder.glob("vectors-*"))
        kills.remove(folder, [1])
        assert holds(folder, kills.WITHOUT_B)
        assert next(folder.glob("vectors-*")) == path
        kills.append(folder, kills.NEW)
        assert read_store(folder).names == [*"acd", *"efghi"]
        kills.remove(folder, [0, 7])
        assert read_store(folder).names == [*"cd", *"efgh"]
        assert next(folder.glob("vectors-*")) != path
        np.testing.assert_array_equal(
            read_store(folder).read(), np.vstack([kills.OLD[0][2:], kills.NEW[0][:4]])
        )
        assert files(folder) == WHOLE_STORE

    def test_what_was_opened_before_it_was_written_anew_is_left_alone(self, folder):
        kills.write(folder, kills.OLD)
        opened = read_store(folder)
        kills.write(folder, kills.NEW)
        remove_rows(folder, opened, [0])
        assert holds(folder, kills.NEW)
        assert opened.names == kills.OLD[1]
        np.testing.assert_array_equal(opened.read([3, 1]), kills.OLD[0][[3, 1]])
