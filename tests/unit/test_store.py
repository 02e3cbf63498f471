"""A store is what was written, or says what happened to it."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import threading

import numpy as np
import pytest
from filelock import FileLock

from fiftyone_isoclip.errors import StoreError, VectorError
from fiftyone_isoclip.index import commits, read_store, write_store
from fiftyone_isoclip.index.blocks import BLOCK
from fiftyone_isoclip.index.manifest import Manifest
from fiftyone_isoclip.index.store import append_store, mend_store, remove_rows
from tests import kills


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "stored"


def holds(folder, content):
    vectors, ids = content
    stored = read_store(folder, expected_fingerprint="model")
    return (
        np.array_equal(stored.read(), vectors)
        and stored.names == ids
        and stored.details == {"by": "kills"}
        and stored.band == "1/2"
    )


def files(folder):
    return sorted(path.name.split("-")[0] for path in folder.iterdir())


WHOLE_STORE = ["ids", "manifest.json", "vectors", "writer.lock"]


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


@pytest.mark.parametrize("allowed", [0, 64, 150, 400])
def test_f03_a_file_that_cannot_grow_leaves_the_old_state(folder, allowed):
    kills.write(folder, kills.OLD)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (allowed, before[1]))
    try:
        with pytest.raises(StoreError, match=r"needs about 60 bytes and [\d,]+ are free"):
            kills.write(folder, kills.NEW)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert holds(folder, kills.OLD)
    assert files(folder) == WHOLE_STORE


@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
def test_f03_a_full_disk_leaves_the_old_state(folder, call, monkeypatch):
    kills.write(folder, kills.OLD)

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))

    with monkeypatch.context() as patch:
        patch.setattr(commits.os, call, full)
        with pytest.raises(StoreError, match="No space left"):
            kills.write(folder, kills.NEW)
    assert holds(folder, kills.OLD)
    assert files(folder) == WHOLE_STORE


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


def test_f13_every_changed_byte_is_noticed(folder):
    kills.write(folder, kills.OLD)
    for path in [path for path in folder.iterdir() if path.name != "writer.lock"]:
        sound = path.read_bytes()
        for place in range(len(sound)):
            path.write_bytes(sound[:place] + bytes([sound[place] ^ 0xFF]) + sound[place + 1 :])
            with pytest.raises(StoreError, match=f"{path.name} is damaged.*Delete the folder"):
                read_store(folder).read()
        path.write_bytes(sound)
    assert holds(folder, kills.OLD)


def test_f13_no_changed_bit_of_the_manifest_changes_what_is_read(folder):
    """JSON ignores some bytes, such as the kind of white space; those may pass."""
    kills.write(folder, kills.OLD)
    path = folder / "manifest.json"
    sound = path.read_bytes()
    for bit in range(8 * len(sound)):
        damaged = bytearray(sound)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            assert Manifest.loads(bytes(damaged), path) == Manifest.loads(sound, path)
        except StoreError as error:
            assert "manifest.json" in str(error)


@pytest.mark.parametrize("length", [0, 1, 0.5, -1])
def test_f13_a_file_cut_short_is_noticed(folder, length):
    kills.write(folder, kills.OLD)
    for path in [path for path in folder.iterdir() if path.name != "writer.lock"]:
        sound = path.read_bytes()
        path.write_bytes(sound[: int(length * len(sound)) if length == 0.5 else length])
        with pytest.raises(StoreError, match=f"{path.name} is damaged"):
            read_store(folder).read()
        path.unlink()
        with pytest.raises(StoreError, match=f"{path.name} is missing|holds no stored vectors"):
            read_store(folder).read()
        path.write_bytes(sound)


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"format": 2}', "\x00", "<html>"])
def test_f13_a_manifest_that_is_none_is_refused(folder, text):
    kills.write(folder, kills.OLD)
    (folder / "manifest.json").write_text(text)
    with pytest.raises(StoreError, match="is not a manifest"):
        read_store(folder)
    # And does not stand in the way of a new one.
    kills.write(folder, kills.NEW)
    assert holds(folder, kills.NEW)


def test_f13_another_format_is_named(folder):
    kills.write(folder, kills.OLD)
    (folder / "manifest.json").write_text(json.dumps({"format": 1, "anything": "else"}))
    with pytest.raises(StoreError, match="has format 1 and this version reads format 2"):
        read_store(folder)


def test_f13_vectors_of_another_checkpoint_are_refused(folder):
    kills.write(folder, kills.OLD)
    with pytest.raises(StoreError, match="of checkpoint model and those of other were asked for"):
        read_store(folder, expected_fingerprint="other")


def test_f13_manifests_cannot_be_swapped(tmp_path):
    for name, content in (("old", kills.OLD), ("new", kills.NEW)):
        kills.write(tmp_path / name, content)
    shutil.copy(tmp_path / "old" / "manifest.json", tmp_path / "new" / "manifest.json")
    with pytest.raises(StoreError, match="is missing"):
        read_store(tmp_path / "new")


def test_nothing_is_ever_unpickled(folder):
    kills.write(folder, kills.OLD)
    vectors = next(folder.glob("vectors-*"))
    with vectors.open("wb") as file:
        np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(StoreError, match="is damaged"):
        read_store(folder).read()


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


class TestDamage:
    """Three blocks of rows that do not end where blocks end."""

    @pytest.fixture
    def table(self, folder):
        table = np.random.default_rng(0).normal(size=(1100, 700)).astype(np.float32)
        write_store(folder, table, [str(n) for n in range(1100)], fingerprint="f")
        return table

    @pytest.fixture
    def damaged(self, folder, table):
        path = next(folder.glob("vectors-*"))
        with path.open("r+b") as file:
            file.seek(BLOCK + 5)
            byte = file.read(1)
            file.seek(BLOCK + 5)
            file.write(bytes([byte[0] ^ 1]))
        width = 4 * 700
        first, last = BLOCK // width, (2 * BLOCK - 1) // width
        return np.arange(first, last + 1)

    def test_f13_only_the_rows_of_a_damaged_block_are_refused(self, folder, table, damaged):
        sound = np.setdiff1d(np.arange(1100), damaged)
        np.testing.assert_array_equal(read_store(folder).read(sound), table[sound])
        for row in (damaged[0], damaged[-1]):
            with pytest.raises(StoreError, match="is damaged"):
                read_store(folder).read([row])
        with pytest.raises(StoreError, match="is damaged"):
            read_store(folder).read()

    def test_f13_damage_after_the_first_reading_is_noticed(self, folder, table):
        read_store(folder).read()
        path = next(folder.glob("vectors-*"))
        with path.open("r+b") as file:
            file.write(b"\0\0\0\0")
        with pytest.raises(StoreError, match="is damaged"):
            read_store(folder).read()

    def test_f13_mending_keeps_every_sound_row(self, folder, table, damaged):
        assert mend_store(folder) == len(damaged)
        sound = np.setdiff1d(np.arange(1100), damaged)
        stored = read_store(folder)
        assert stored.names == [str(n) for n in sound]
        np.testing.assert_array_equal(stored.read(), table[sound])
        assert mend_store(folder) == 0

    def test_it_is_read_in_blocks(self, folder, table):
        parts = list(read_store(folder).in_blocks(300))
        assert [len(ids) for ids, _ in parts] == [300, 300, 300, 200]
        np.testing.assert_array_equal(np.vstack([part for _, part in parts]), table)
