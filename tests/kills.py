"""Change files over and over, each time dying at another step: `python -m tests.kills FOLDER`.

Each system call that changes the disk is a step. A writer dies before it, after it, or (where the
step writes) with half of its bytes written, or is stopped by Ctrl-C before it. Every death leaves a
folder of its own, named after its moment, for the test to look at.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np

from fiftyone_isoclip.index import write_store
from fiftyone_isoclip.index.store import append_store, read_store, remove_rows
from tests.steps import at_step

MOMENTS = ("before", "halfway", "after", "stopped")
KILLED, STOPPED = 9, 130
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


def die_everywhere(root, prepare, change):
    """Make folders as `prepare` does, and die in each at another step of `change`."""
    for moment in MOMENTS:
        step, code = 0, None
        while code != 0:
            step += 1
            folder = root / f"{moment}-{step:02}"
            prepare(folder)
            child = os.fork()
            if child == 0:
                os._exit(_die(step, moment, lambda folder=folder: change(folder)))
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            assert code in (0, STOPPED if moment == "stopped" else KILLED), (folder, code)


def _die(step, moment, change):
    def stop():
        os.kill(os.getpid(), signal.SIGINT)

    def end():
        os._exit(KILLED)

    stopped = moment == "stopped"
    try:
        with at_step(step, "before" if stopped else moment, stop if stopped else end) as steps:
            change()
    except KeyboardInterrupt:
        return STOPPED
    return 0 if steps.taken < step else 1  # one who was stopped must not go on


def main(root):
    from tests.writers import NEW, OLD, WRITERS

    for name, (start, change, _) in CHANGES.items():

        def prepare(folder, start=start):
            if start is not None:
                write(folder, start)

        die_everywhere(root / "store" / name, prepare, change)
    for writer in WRITERS:
        for name in ("first", "replace"):

            def prepare(folder, name=name, writer=writer):
                folder.mkdir(parents=True)
                if name == "replace":
                    writer.write(folder / writer.name, OLD)

            die_everywhere(
                root / writer.name / name,
                prepare,
                lambda folder, writer=writer: writer.write(folder / writer.name, NEW),
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
