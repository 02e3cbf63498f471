"""How much memory a search takes, in a process of its own: `python -m tests.memory SEARCH N SEED`.

Prints, in bytes: the vectors, what the process took before there were any, and the most it took.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from fiftyone_isoclip.index import CosineIndex
from fiftyone_isoclip.index.search import SearchIndex
from fiftyone_isoclip.index.search_inverted import row_keys

DIM, SIMILARITY = 262, 0.97
_BLOCK = 20_000


def clip_like(n, seed):
    """Unit rows in clusters, with a spectrum that decays; one in a hundred is a near copy."""
    draw = np.random.default_rng(seed)
    scales = (1 / np.sqrt(np.arange(1, DIM + 1))).astype(np.float32)
    scales /= np.linalg.norm(scales)
    centres = draw.standard_normal((max(2, n // 100), DIM), np.float32) * scales
    rows = np.empty((n, DIM), np.float32)
    for start in range(0, n, _BLOCK):
        block = rows[start : start + _BLOCK]
        block[:] = draw.standard_normal(block.shape, np.float32) * scales
        block += centres[draw.integers(len(centres), size=len(block))]
        block[1::100] = block[: len(block[1::100]) * 100 : 100]
        block[1::100] += 0.003 * draw.standard_normal(block[1::100].shape, np.float32)
        block[:, 0] += 1.0
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    return rows


def find_duplicates(rows):
    return len(CosineIndex(rows, copy=False).pairs_above(SIMILARITY).left)


def search_some(rows):
    keys = row_keys(rows, np.arange(len(rows)).astype(str))
    queries = rows[:: max(1, len(rows) // 100)].copy()
    index = SearchIndex(CosineIndex(rows, copy=False), keys).prepared()
    found = index.nearest(queries, 25).rows[:, 0]
    return int(np.count_nonzero(found == np.arange(len(queries)) * max(1, len(rows) // 100)))


SEARCHES = {"duplicates": find_duplicates, "search": search_some}


def taken(name):
    """A line of what Linux says of this process, in bytes."""
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(name))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    search, n, seed = SEARCHES[sys.argv[1]], int(sys.argv[2]), int(sys.argv[3])
    search(clip_like(25_000, seed))  # libraries are loaded, threads started, pools filled
    before = taken("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here on
    rows = clip_like(n, seed)
    found = search(rows)
    print(rows.nbytes, before, taken("VmHWM"), found)
