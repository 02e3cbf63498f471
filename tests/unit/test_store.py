"""A store is what was written, or says what happened to it."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
from filelock import FileLock

from fiftyone_isoclip.errors import StoreError, VectorError
from fiftyone_isoclip.index import read_store, store, write_store
from fiftyone_isoclip.index.manifest import Manifest
from tests import kills


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "stored"


def holds(folder, content):
    vectors, ids = content
    stored = read_store(folder, expected_fingerprint="model")
    return (
        np.array_equal(stored.vectors, vectors)
        and list(stored.ids) == ids
        and stored.details == {"n": len(ids)}
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
    assert stored.vectors.dtype == dtype
    np.testing.assert_array_equal(stored.vectors, vectors)
    assert stored.ids == tuple(ids)
    assert (stored.fingerprint, stored.band, stored.details) == ("abc", "150/50", details)
    assert isinstance(stored.vectors, np.memmap)
    assert not stored.vectors.flags.writeable


def test_other_numbers_are_stored_as_float32(folder):
    write_store(folder, np.arange(1, 7).reshape(3, 2), "abc", fingerprint="f")
    stored = read_store(folder)
    assert stored.vectors.dtype == np.float32
    assert (stored.vectors.tolist(), stored.band) == ([[1, 2], [3, 4], [5, 6]], None)


def test_an_empty_store_is_a_store(folder):
    write_store(folder, np.empty((0, 5), np.float32), [], fingerprint="f")
    assert read_store(folder).vectors.shape == (0, 5)
    assert read_store(folder).ids == ()


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
    np.testing.assert_array_equal(old.vectors, kills.OLD[0])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a writer is killed in a forked process")
def test_f02_a_kill_at_any_step_leaves_the_old_state_or_the_new(tmp_path):
    subprocess.run([sys.executable, "-m", "tests.kills", tmp_path], check=True, timeout=120)
    for start in ("first", "second"):
        seen = set()
        killed = sorted((tmp_path / start).iterdir())
        assert len(killed) > 30
        for folder in killed:
            new = (folder / "manifest.json").exists() and holds(folder, kills.NEW)
            if not new and start == "second":
                assert holds(folder, kills.OLD), folder.name
            elif not new:
                with pytest.raises(StoreError, match="holds no stored vectors"):
                    read_store(folder)
            seen.add((folder.name.split("-")[0], new))
            kills.write(folder, kills.NEW)
            assert holds(folder, kills.NEW)
            assert files(folder) == WHOLE_STORE, folder.name
        # Every moment was met on both sides of the change.
        assert seen >= {(moment, new) for moment in ("before", "after") for new in (False, True)}
        assert ("halfway", False) in seen


@pytest.mark.parametrize("allowed", [0, 64, 150, 400])
def test_f03_a_file_that_cannot_grow_leaves_the_old_state(folder, allowed):
    kills.write(folder, kills.OLD)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (allowed, before[1]))
    try:
        with pytest.raises(StoreError, match=r"need about 60 bytes and [\d,]+ are free"):
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
        patch.setattr(store.os, call, full)
        with pytest.raises(StoreError, match="No space left"):
            kills.write(folder, kills.NEW)
    assert holds(folder, kills.OLD)
    assert files(folder) == WHOLE_STORE


def test_a_stop_in_the_middle_leaves_nothing_behind(folder, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store.os, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            kills.write(folder, kills.NEW)
    assert files(folder) == ["writer.lock"]
    kills.write(folder, kills.NEW)
    # Stopped as soon as the new manifest is in place: what it names must stay.
    replace = os.replace
    with monkeypatch.context() as patch:
        patch.setattr(store.os, "replace", lambda *args: (replace(*args), stop()))
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
                read_store(folder)
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
            read_store(folder)
        path.write_bytes(sound + b"\0")
        with pytest.raises(StoreError, match=f"{path.name} is damaged"):
            read_store(folder)
        path.unlink()
        with pytest.raises(StoreError, match=f"{path.name} is missing|holds no stored vectors"):
            read_store(folder)
        path.write_bytes(sound)


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"format": 1}', "\x00", "<html>"])
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
    (folder / "manifest.json").write_text(json.dumps({"format": 2, "anything": "else"}))
    with pytest.raises(StoreError, match="has format 2 and this version reads format 1"):
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
    np.save(vectors, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(StoreError, match="is damaged"):
        read_store(folder)


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


def test_f11_a_second_writer_is_told(folder):
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

    def alternate():
        for turn in range(40):
            kills.write(folder, kills.NEW if turn % 2 else kills.OLD)
        done.set()

    writer = threading.Thread(target=alternate)
    writer.start()
    reads = 0
    while not done.is_set():
        stored = read_store(folder)
        vectors, ids = kills.OLD if stored.ids[0] == "a" else kills.NEW
        np.testing.assert_array_equal(stored.vectors, vectors)
        assert (list(stored.ids), stored.details) == (ids, {"n": len(ids)})
        reads += 1
    writer.join()
    assert reads
