"""Searching a million vectors takes at most 1.5 times their size and a gigabyte."""

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


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("search", ["duplicates", "search"])
def test_f17_a_million_vectors(search, seed):
    raw, before, peak, found = measure(search, 1_000_000, seed)
    print(f"{search}: raw {raw:,}, before {before:,}, peak {peak:,}, found {found:,}")
    assert raw == 1_000_000 * 262 * 4
    assert found >= (10_000 if search == "duplicates" else 97)
    assert peak <= 1.5 * raw + GIGABYTE
