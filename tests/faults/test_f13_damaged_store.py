"""A store that was damaged says so, names the file and what to do, and ends no process."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from fiftyone_isoclip.errors import StoreError
from fiftyone_isoclip.index import read_store, write_store
from fiftyone_isoclip.index.blocks import BLOCK
from fiftyone_isoclip.index.manifest import Manifest
from fiftyone_isoclip.index.store import mend_store
from tests import kills
from tests.faults.test_f02_killed_while_writing import holds


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "stored"


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


def test_f13_nothing_is_ever_unpickled(folder):
    kills.write(folder, kills.OLD)
    vectors = next(folder.glob("vectors-*"))
    with vectors.open("wb") as file:
        np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(StoreError, match="is damaged"):
        read_store(folder).read()


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


CUT_SHORT = """
import os, sys
import numpy as np
from fiftyone_isoclip.errors import StoreError
from fiftyone_isoclip.index import read_store, write_store
folder = sys.argv[1]
write_store(folder, np.ones((9_000, 64), np.float32), [str(n) for n in range(9_000)],
            fingerprint="f")
opened = read_store(folder)
if sys.argv[2] == "after reading":
    opened.read()
os.truncate(next(folder + "/" + name for name in os.listdir(folder) if "vectors" in name), 5_000)
try:
    opened.read().sum()
except StoreError as error:
    print(error)
"""


@pytest.mark.parametrize("when", ["before reading", "after reading"])
def test_f13_a_file_cut_short_while_it_is_open_ends_no_process(tmp_path, when):
    """To look at a map of it would: SIGBUS."""
    told = subprocess.run(
        [sys.executable, "-c", CUT_SHORT, tmp_path / "stored", when], capture_output=True, text=True
    )
    assert (told.returncode, told.stderr) == (0, "")
    assert "is damaged" in told.stdout


LIES = {
    "more rows": lambda content: {"count": content["count"] + 1},
    "fewer rows": lambda content: {"count": content["count"] - 1},
    "no rows": lambda content: {"count": -4},
    "no number": lambda content: {"count": "four"},
    "another dim": lambda content: {"dim": content["dim"] + 1},
    "another kind of number": lambda content: {"dtype": "float16"},
    "no kind of number": lambda content: {"dtype": "object"},
    "wider ids": lambda content: {"id_bytes": 2},
    "a longer file": lambda content: {"ids": {**content["ids"], "size": 5}},
    "fewer checksums": lambda content: {"vectors": {**content["vectors"], "sums": []}},
    "a file elsewhere": lambda content: {"ids": {**content["ids"], "name": "../../etc/passwd"}},
    "one file for two": lambda content: {"ids": content["vectors"]},
    "no file": lambda content: {"vectors": None},
    "half a file": lambda content: {"vectors": {"name": content["vectors"]["name"]}},
    "something unknown": lambda content: {"colour": "blue"},
}


@pytest.mark.parametrize("lie", LIES)
def test_f13_a_manifest_that_lies_is_refused(folder, lie):
    """Also where somebody has made its checksum fit."""
    kills.write(folder, kills.OLD)
    path = folder / "manifest.json"
    content = json.loads(path.read_text())["content"]
    content |= LIES[lie](content)
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    checksum = hashlib.sha256(canonical.encode()).hexdigest()
    path.write_text(json.dumps({"format": 2, "sha256": checksum, "content": content}))
    with pytest.raises(StoreError, match=r"manifest\.json is damaged.*Delete the folder"):
        read_store(folder)
    kills.write(folder, kills.NEW)  # and it is in nobody's way
    assert holds(folder, kills.NEW)
