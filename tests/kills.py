"""Write a store over and over, each time dying at another step: `python -m tests.kills FOLDER`.

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

CALLS = ("mkdir", "open", "write", "fsync", "replace", "unlink")
MOMENTS = {"before": CALLS, "halfway": ("write",), "after": CALLS}
OLD = (np.arange(1, 13, dtype=np.float32).reshape(4, 3), ["a", "b", "c", "d"])
NEW = (-np.arange(1, 16, dtype=np.float32).reshape(5, 3), ["e", "f", "g", "h", "i"])


def write(folder, content):
    vectors, ids = content
    write_store(folder, vectors, ids, fingerprint="model", band="1/2", details={"n": len(ids)})


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


def die_everywhere(root, start):
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
                write(folder, NEW)
                os._exit(0)
            survived = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


if __name__ == "__main__":
    die_everywhere(Path(sys.argv[1]) / "first", None)
    die_everywhere(Path(sys.argv[1]) / "second", OLD)
