"""Change a store over and over, each time dying at another step: `python -m tests.kills FOLDER`.

Each system call that changes the disk is a step, and a writer dies before it, after it, or (where
the step writes) with half of its bytes written. Every death leaves a folder of its own, named after
its moment, for the test to look at.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

from fiftyone_isoclip.index import write_store
from fiftyone_isoclip.index.store import append_store, read_store, remove_rows

CALLS = ("mkdir", "open", "write", "fsync", "replace", "unlink")
MOMENTS = {"before": CALLS, "halfway": ("write",), "after": CALLS}
OLD = (np.arange(1, 13, dtype=np.float32).reshape(4, 3), ["a", "b", "c", "d"])
NEW = (-np.arange(1, 16, dtype=np.float32).reshape(5, 3), ["e", "f", "g", "h", "i"])
BOTH = (np.concatenate([OLD[0], NEW[0]]), [*OLD[1], *NEW[1]])
# A longer id than there is room for: the files are written anew, then extended.
LONG = (NEW[0], ["e", "f", "g", "h", "iiiiiiii"])
OLD_AND_LONG = (BOTH[0], [*OLD[1], *LONG[1]])
WITHOUT_B = (OLD[0][[0, 2, 3]], ["a", "c", "d"])
ONLY_D = (OLD[0][3:], ["d"])


def write(folder, content):
    vectors, ids = content
    write_store(folder, vectors, ids, fingerprint="model", band="1/2", details={"by": "kills"})


def append(folder, content):
    append_store(folder, *content, fingerprint="model")


def remove(folder, rows):
    remove_rows(folder, read_store(folder), rows)


# What is changed: the state before (None: no store), the change, the state after.
CHANGES = {
    "first": (None, lambda folder: write(folder, NEW), NEW),
    "replace": (OLD, lambda folder: write(folder, NEW), NEW),
    "append": (OLD, lambda folder: append(folder, NEW), BOTH),
    "widen": (OLD, lambda folder: append(folder, LONG), OLD_AND_LONG),
    "remove": (OLD, lambda folder: remove(folder, [1]), WITHOUT_B),
    "compact": (OLD, lambda folder: remove(folder, [0, 1, 2]), ONLY_D),
}


def die_at(step, moment):
    """Make the step-th of the calls end this process at a moment."""
    taken = 0

    def dying(call):
        def instead(*args, **kwargs):
            nonlocal taken
            taken += 1
            if taken != step:
                return call(*args, **kwargs)
            try:
                if moment == "halfway":
                    call(args[0], args[1][: len(args[1]) // 2])
                elif moment == "after":
                    call(*args, **kwargs)
            finally:
                os._exit(9)

        return instead

    for name in MOMENTS[moment]:
        setattr(os, name, dying(getattr(os, name)))


def die_everywhere(root, start, change):
    for moment in MOMENTS:
        step, survived = 0, False
        while not survived:
            step += 1
            folder = root / f"{moment}-{step:02}"
            if start is not None:
                write(folder, start)
            child = os.fork()
            if child == 0:
                die_at(step, moment)
                change(folder)
                os._exit(0)
            survived = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


if __name__ == "__main__":
    for name, (start, change, _) in CHANGES.items():
        die_everywhere(Path(sys.argv[1]) / name, start, change)
