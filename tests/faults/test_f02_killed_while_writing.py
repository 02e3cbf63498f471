"""A writer that is killed or stopped at any step leaves the old content or the new, never a mix."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from fiftyone_isoclip.errors import StoreError
from fiftyone_isoclip.index import read_store
from tests import kills
from tests.kills import WHOLE_STORE, holds
from tests.writers import NEW, OLD, WRITERS


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The folders that writers left which died at every step, one for each death."""
    root = tmp_path_factory.mktemp("killed")
    subprocess.run([sys.executable, "-m", "tests.kills", root], check=True, timeout=280)
    return root


def check_met(seen):
    """Every moment was met on both sides of the change; half a write is never a change."""
    assert seen >= {(m, new) for m in ("before", "after", "stopped") for new in (False, True)}
    assert ("halfway", False) in seen


@pytest.mark.parametrize("name", kills.CHANGES)
def test_f02_a_store_is_the_old_one_or_the_new_one(killed, name):
    start, _, end = kills.CHANGES[name]
    seen = set()
    folders = sorted((killed / "store" / name).iterdir())
    assert len(folders) > 30
    for folder in folders:
        new = (folder / "manifest.json").exists() and holds(folder, end)
        if not new and start is not None:
            assert holds(folder, start), folder.name
        elif not new:
            with pytest.raises(StoreError, match="holds no stored vectors"):
                read_store(folder)
        seen.add((folder.name.split("-")[0], new))
        if start is not None:  # what a dead writer left behind is in nobody's way
            kills.append(folder, (np.ones((1, 3)), ["z"]))
            content = end if new else start
            assert holds(folder, (np.vstack([content[0], np.ones((1, 3))]), [*content[1], "z"]))
            for file, size in read_store(folder).manifest.sizes.items():
                assert (folder / file).stat().st_size == size
        kills.write(folder, kills.NEW)
        assert holds(folder, kills.NEW)
        files = sorted(path.name.split("-")[0] for path in folder.iterdir())
        assert files == WHOLE_STORE, folder.name
    check_met(seen)


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.name)
@pytest.mark.parametrize("name", ["first", "replace"])
def test_f02_a_file_is_the_old_one_or_the_new_one(killed, writer, name):
    seen = set()
    folders = sorted((killed / writer.name / name).iterdir())
    assert len(folders) > 15
    for folder in folders:
        path = folder / writer.name
        found = writer.holds(path)
        assert found in ({NEW, None} if name == "first" else {NEW, OLD}), folder.name
        moment = folder.name.split("-")[0]
        seen.add((moment, found == NEW))
        if moment == "stopped" and found != NEW:  # who can still do so tidies up
            assert set(folder.iterdir()) <= {path}
        writer.write(path, OLD)
        assert writer.holds(path) == OLD
        assert list(folder.iterdir()) == [path], folder.name
    check_met(seen)


def check_random_kills(folder, seed, count):
    """Let so many be killed, and look that some were in the middle of a write."""
    told = subprocess.run(
        [sys.executable, "-m", "tests.kills", folder, str(seed), str(count)],
        check=True,
        capture_output=True,
        text=True,
    )
    assert 0 < int(told.stdout) < count


def test_f02_25_kills_at_random_times(tmp_path, seed):
    check_random_kills(tmp_path, seed, 25)


@pytest.mark.long
def test_f02_500_kills_at_random_times(tmp_path, seed):
    check_random_kills(tmp_path, seed, 500)
