"""How much memory an import takes, in a process of its own: python -m tests.import_memory N WHERE.

WHERE is ``samples`` or ``files``. Prints, in bytes: the vectors, what the process took before, and
the most it took; and how many images came a second.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from uuid import uuid4

import fiftyone as fo

from fiftyone_isoclip.dataset import import_store
from fiftyone_isoclip.shards import Recipe
from tests.made_stores import make_store
from tests.memory import taken

DIM, WARM = 512, 4096
RECIPE = Recipe("made", "ab" * 32, "float32", "exact", DIM)


def imported(folder, first, n, on_samples):
    """Import so many images into a dataset of their own; -> the report."""
    paths = [f"/nowhere/pictures/{number:09}.jpg" for number in range(first, first + n)]
    store = make_store(folder, paths, recipe=RECIPE, shard_rows=1024, dtype="float16")
    before = taken("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here on
    name = f"memory-{uuid4().hex}"
    try:
        return before, import_store(store.uri, name, on_samples=on_samples)
    finally:
        if fo.dataset_exists(name):
            fo.delete_dataset(name)


if __name__ == "__main__":
    n, where = int(sys.argv[1]), sys.argv[2]
    with tempfile.TemporaryDirectory() as folder:
        imported(Path(folder) / "warm", 0, WARM, where == "samples")
        before, report = imported(Path(folder) / "store", WARM, n, where == "samples")
    assert (report.images, report.written) == (n, n)
    print(n * DIM * 4, before, taken("VmHWM"), round(n / report.seconds))
