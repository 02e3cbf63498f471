"""A disk that refuses: the error names path, bytes needed and free, and what was there stays."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from fiftyone_isoclip.dataset import build_similarity, embed, find_duplicates
from fiftyone_isoclip.dataset.places import side_folder
from fiftyone_isoclip.dataset.sidestore import store_folder
from fiftyone_isoclip.errors import StoreError
from fiftyone_isoclip.index import read_store, search
from tests import kills
from tests.faults.test_f02_killed_while_writing import WHOLE_STORE, holds
from tests.folders import fill_folder
from tests.pictures import draw_many
from tests.steps import at_step
from tests.terminal import isoclip, sentence
from tests.writers import NEW, OLD, REPORT, WRITERS

FIELD = "clip_embedding"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
REFUSED = ("mkdir", "open", "write", "fsync", "replace")
TOLD = r"cannot be written: .*needs about [\d,]+ bytes and [\d,]+ are free; what was stored before"
UNREAD = "cannot be read: "  # what is there already, before anything is written
each_writer = pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.name)


@contextlib.contextmanager
def files_at_most(count):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def refused_everywhere(prepare, change):
    """Do a change over and over, refused at another call each time; -> (place, error) of each."""
    for moment in ("before", "halfway"):
        step, reached = 0, True
        while reached:
            step += 1
            place = prepare(f"{moment}-{step:02}")
            code = NO_ROOM[step % len(NO_ROOM)]

            def refuse(code=code, place=place):
                raise OSError(code, os.strerror(code), str(place))

            error = None
            with at_step(step, moment, refuse, REFUSED) as steps:
                try:
                    change(place)
                except StoreError as told:
                    error = str(told)
            reached = steps.taken >= step
            if reached:
                yield place, error


@each_writer
@pytest.mark.parametrize("name", ["first", "replace"])
def test_f03_a_refusal_at_any_call_leaves_the_old_file_and_nothing_else(writer, name, tmp_path):
    def prepare(step):
        folder = tmp_path / step
        folder.mkdir()
        if name == "replace":
            writer.write(folder / writer.name, OLD)
        return folder / writer.name

    before = None if name == "first" else OLD
    refusals = 0
    for path, error in refused_everywhere(prepare, lambda path: writer.write(path, NEW)):
        if error is None:  # the folder could not be synced, with the new content in place
            assert writer.holds(path) == NEW
            assert list(path.parent.iterdir()) == [path]
            continue
        refusals += 1
        with pytest.raises(StoreError, match=TOLD):
            raise StoreError(error)
        assert str(path) in error
        assert writer.holds(path) == before
        assert list(path.parent.iterdir()) == ([path] if name == "replace" else [])
    assert refusals >= 5


@pytest.mark.parametrize("name", kills.CHANGES)
def test_f03_a_refusal_at_any_call_leaves_the_old_store(name, tmp_path):
    start, change, end = kills.CHANGES[name]

    def prepare(step):
        if start is not None:
            kills.write(tmp_path / step, start)
        return tmp_path / step

    refusals = 0
    for folder, error in refused_everywhere(prepare, change):
        if error is None:
            assert holds(folder, end)
            continue
        refusals += 1
        with pytest.raises(StoreError, match=f"{TOLD}|{UNREAD}"):
            raise StoreError(error)
        assert str(folder) in error
        if start is None:
            assert [path.name for path in folder.glob("*")] in ([], ["writer.lock"])
        else:
            assert holds(folder, start)
            assert sorted(path.name.split("-")[0] for path in folder.iterdir()) == WHOLE_STORE
            for file, size in read_store(folder).manifest.sizes.items():
                assert (folder / file).stat().st_size == size
    assert refusals >= 8


@each_writer
def test_f03_a_file_that_cannot_grow_leaves_the_old_one(writer, tmp_path, seed):
    path = tmp_path / writer.name
    writer.write(path, OLD)
    size = path.stat().st_size
    for allowed in (0, 1, seed % size, size - 200):
        with files_at_most(allowed), pytest.raises(StoreError, match=f"{path} .*needs about"):
            writer.write(path, NEW)
        assert writer.holds(path) == OLD
        assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("allowed", [0, 64, 150, 400])
def test_f03_a_store_that_cannot_grow_is_the_old_one(tmp_path, allowed):
    kills.write(tmp_path, kills.OLD)
    with files_at_most(allowed), pytest.raises(StoreError, match="needs about 60 bytes and"):
        kills.write(tmp_path, kills.NEW)
    assert holds(tmp_path, kills.OLD)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 96 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    options = ["-t", "tmpfs", "-o", "size=96k", "tmpfs", place]
    try:
        made = subprocess.run(["mount", *options], capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no `mount` here")
    if made.returncode:
        pytest.skip("a file system can be mounted by root alone")
    yield place
    subprocess.run(["umount", place], check=True)


def test_f03_a_disk_that_is_full(small_disk):
    path, store = small_disk / REPORT.name, small_disk / "store"
    REPORT.write(path, OLD)
    kills.write(store, kills.OLD)
    with (
        (small_disk / "filler").open("wb", buffering=0) as filler,
        contextlib.suppress(OSError),
    ):
        while True:
            filler.write(b"x" * 512)
    with pytest.raises(StoreError, match=r"No space left on device.* and 0 are free"):
        REPORT.write(path, NEW)
    with pytest.raises(StoreError, match=r"No space left on device.* and 0 are free"):
        kills.write(store, kills.NEW)
    assert REPORT.holds(path) == OLD
    assert holds(store, kills.OLD)
    assert {entry.name for entry in small_disk.iterdir()} == {path.name, "store", "filler"}


READ_ONLY = """
import os, sys
from pathlib import Path
from fiftyone_isoclip.errors import StoreError
from tests import kills
from tests.writers import NEW, WRITERS
if os.getuid() == 0:
    os.setuid(65534)
for writer in WRITERS:
    try:
        writer.write(Path(sys.argv[1]) / writer.name, NEW)
    except StoreError as error:
        print(error)
try:
    kills.write(Path(sys.argv[1]) / "store", kills.NEW)
except StoreError as error:
    print(error)
"""


def test_f03_a_folder_that_may_not_be_written(repo_root):
    """By somebody who is not root, as whom everything may be written."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for writer in WRITERS:
            writer.write(folder / writer.name, OLD)
        kills.write(folder / "store", kills.OLD)
        for place in (folder / "store", folder):
            place.chmod(0o555)
        told = subprocess.run(
            [sys.executable, "-c", READ_ONLY, folder],
            cwd=repo_root,
            capture_output=True,
            text=True,
            check=True,
        )
        lines = told.stdout.splitlines()
        assert len(lines) == len(WRITERS) + 1
        for line, name in zip(lines, [*(writer.name for writer in WRITERS), "store"], strict=True):
            assert line.startswith(f"{folder / name}")
            assert "cannot be written: Permission denied" in line
        for writer in WRITERS:
            assert writer.holds(folder / writer.name) == OLD
        assert read_store(folder / "store").names == kills.OLD[1]
        for place in (folder, folder / "store"):
            place.chmod(0o755)


@pytest.fixture
def embedded(dataset, fill, pictures, checkpoint):
    """Eight pictures with vectors in files alone, and four that have none yet."""
    fill(draw_many(pictures, 8))
    embed(dataset, checkpoint, on_samples=False, progress=False)
    fill(draw_many(pictures / "more", 4, first_seed=50))
    return dataset


def test_f03_embedding_into_files_says_so_and_keeps_what_it_had(embedded, checkpoint, caplog):
    folder = store_folder(embedded, FIELD)
    before = read_store(folder).read()
    with files_at_most(500), pytest.raises(StoreError, match=f"{folder}.* {TOLD}"):
        embed(embedded, checkpoint, progress=False)
    np.testing.assert_array_equal(read_store(folder).read(), before)
    assert not list(folder.glob(".*"))
    assert embed(embedded, checkpoint, progress=False).computed == 4  # and goes on afterwards
    assert len(read_store(folder).names) == 12


def test_f03_searches_whose_files_find_no_room_answer_all_the_same(
    dataset, fill, pictures, checkpoint, caplog, monkeypatch
):
    """They keep files to be faster the next time: the log says which and why."""
    fill(draw_many(pictures, 40))
    embed(dataset, checkpoint, progress=False)
    fresh = find_duplicates(dataset, similarity=0.8, key="fresh")
    monkeypatch.setattr(search, "FLAT_LIMIT", 20)
    with files_at_most(500), caplog.at_level("WARNING"):
        found = find_duplicates(dataset, similarity=0.8, least=0.7)
        index = build_similarity(dataset, checkpoint, brain_key="found")
    assert found.groups == fresh.groups != ()
    assert index.total_index_size == 40
    for kind in ("pairs", "search"):
        folder = side_folder() / kind / str(dataset._doc.id)
        with pytest.raises(StoreError, match=f"{folder}/.* {TOLD}"):
            raise StoreError(caplog.text)
        assert list(folder.iterdir()) == []


def test_f03_the_command_line_says_so_in_a_sentence(tmp_path, checkpoint):
    folder = fill_folder(tmp_path / "pictures")
    out, report = tmp_path / "e.npz", tmp_path / "report.json"
    words = ["--model", checkpoint, "--json", report]
    assert isoclip("embed", folder.path, "--out", out, *words).exit_code == 0
    before = out.read_bytes(), report.read_bytes()
    with files_at_most(300):
        assert re.search(
            f"{out} {TOLD}", sentence(isoclip("embed", folder.path, "--out", out, *words))
        )
        told = sentence(isoclip("duplicates", out, *words))
        assert re.search(f"{report} {TOLD}", told)
    assert (out.read_bytes(), report.read_bytes()) == before
    assert sorted(tmp_path.iterdir()) == sorted([out, report, folder.path])
