"""Searching takes at most 1.5 times the vectors and a gigabyte, an import the same however many."""

from __future__ import annotations

import subprocess
import sys

import pytest

GIGABYTE = 10**9


def measure(search, n, seed):
    """Bytes of the vectors, what the process took before, its peak, and what it found."""
    told = subprocess.run(
        [sys.executable, "-m", "tests.memory", search, str(n), str(seed)],
        check=True,
        capture_output=True,
        text=True,
    )
    return map(int, told.stdout.split())


def test_f17_duplicates_among_100_000_vectors(seed):
    """At a tenth of the size: three quarters of the gigabyte, and without the process itself."""
    raw, before, peak, pairs = measure("duplicates", 100_000, seed)
    assert raw == 100_000 * 262 * 4
    assert pairs >= 1_000  # those that were planted
    assert peak - before <= 1.5 * raw + 0.75 * GIGABYTE


@pytest.mark.parametrize("where", ["samples", "files"])
def test_f17_an_import_holds_a_piece_at_a_time(where):
    """Most of a second store, once the first one filled the pools, is never in memory."""
    pytest.importorskip("pyarrow", reason="stores of shards need the extra ray")
    command = [sys.executable, "-m", "tests.import_memory", "10240", where]
    told = subprocess.run(command, check=True, capture_output=True, text=True)
    raw, before, peak, _ = map(int, told.stdout.split()[-4:])
    assert peak - before <= 0.5 * raw


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("search", ["duplicates", "search"])
def test_f17_a_million_vectors(search, seed):
    raw, before, peak, found = measure(search, 1_000_000, seed)
    print(f"{search}: raw {raw:,}, before {before:,}, peak {peak:,}, found {found:,}")
    assert raw == 1_000_000 * 262 * 4
    assert found >= (10_000 if search == "duplicates" else 97)
    assert peak <= 1.5 * raw + GIGABYTE
