"""Change files over and over, each time dying at another step: `python -m tests.kills FOLDER`.

With a seed and a count the deaths come from outside, at random times: SIGKILL for a child that
writes one content after the other, and what it left is looked at: `... FOLDER SEED COUNT`.

Each system call that changes the disk is a step. A writer dies before it, after it, or (where the
step writes) with half of its bytes written, or is stopped by Ctrl-C before it. Every death leaves a
folder of its own, named after its moment, for the test to look at.
"""

from __future__ import annotations

import os
import signal
import sys
import time
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

# The kinds of files of a whole store.
WHOLE_STORE = ["ids", "manifest.json", "vectors", "writer.lock"]


def holds(folder, content):
    """Whether a store holds this content, as `write` notes it."""
    vectors, ids = content
    stored = read_store(folder, expected_fingerprint="model")
    return (
        np.array_equal(stored.read(), vectors)
        and stored.names == ids
        and stored.details == {"by": "kills"}
        and stored.band == "1/2"
    )


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


def die_at_every_step(root):
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


def write_numbered(place, number):
    """Put a content into a store: every id and every vector says which."""
    rows = np.full((200, 8), number + 1, np.float32)
    write_store(place, rows[:150], [f"{number} {n}" for n in range(150)], fingerprint="model")
    append_store(place, rows[150:], [f"{number} {n}" for n in range(150, 200)], fingerprint="model")


def check_numbered(place, among):
    """Look that a store holds the first of these contents, or of the second what came first."""
    if not (place / "manifest.json").exists():
        return None
    stored = read_store(place)
    (number,) = {int(name.split()[0]) for name in stored.names}
    assert number in among
    assert len(stored.names) == 200 or (number, len(stored.names)) == (among[-1], 150)
    assert (stored.read() == number + 1).all()
    return number


def kill_at_random(root, seed, count):
    """Kill so many children; -> how often what was found was written by the one that was killed."""
    from tests.writers import WRITERS

    draw = np.random.default_rng(seed)
    kinds = [("store", write_numbered, check_numbered)]
    kinds += [(writer.name, writer.write, writer.holds) for writer in WRITERS]
    done, unsaid = dict.fromkeys(range(len(kinds)), -1), 0
    for turn in range(count):
        which = turn % len(kinds)
        name, put, check = kinds[which]
        folder = root / name
        folder.mkdir(exist_ok=True)
        place = folder / name
        reads, says = os.pipe()
        child = os.fork()
        if child == 0:
            number = done[which]
            while True:
                number += 1
                put(place, number)
                os.write(says, np.int64(number).tobytes())
        os.close(says)
        time.sleep(draw.exponential(0.03))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with os.fdopen(reads, "rb") as told:
            last = [done[which], *np.frombuffer(told.read(), np.int64).tolist()][-1]
        found = check(place, [number for number in (last, last + 1) if number >= 0])
        assert found is not None or last == -1, (name, turn)
        unsaid += found == last + 1
        done[which] = last
        assert len(list(folder.iterdir())) <= 2, (name, turn)  # at most one draft, ever
    return unsaid


if __name__ == "__main__":
    if len(sys.argv) == 2:
        die_at_every_step(Path(sys.argv[1]))
    else:
        print(kill_at_random(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
