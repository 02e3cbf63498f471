"""Read files within so much memory: `python -m tests.reads MEGABYTES DOOR < PATHS`.

The paths come as a JSON list; each is answered by a line of JSON: the path, the size of the picture
or the reason, and seconds. The memory is what may be added to a process that has loaded the door.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from fiftyone_isoclip.encoder import read_image
from fiftyone_isoclip.errors import ImageError


def limit_memory(megabytes):
    """Let this process take so much more than it has. Its own children may set other limits."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))


def _by_a_tower():
    """The reader of a tower of the usual size; weights are not needed to make pixels."""
    from fiftyone_isoclip.encoder import PixelReader
    from fiftyone_isoclip.encoder.fitting import Fit

    reader = PixelReader(Fit(224, 224), None)
    reader(np.zeros((8, 8, 3), np.uint8))  # what is imported late counts for nobody's picture

    def size(path):
        (found,) = reader.read(path)
        return found if isinstance(found, str) else list(found.shape[1:])

    return size


def _by_keepers():
    from fiftyone_isoclip.files import rank_keepers

    return lambda path: rank_keepers([path], "sharpest").reasons[0]


DOORS = {"image": lambda: lambda path: list(read_image(path).size), "tower": _by_a_tower}
DOORS["keepers"] = _by_keepers


def _main(megabytes, door):
    read = DOORS[door]()
    limit_memory(megabytes)
    before = _peak()
    for path in json.load(sys.stdin):
        begun = time.perf_counter()
        try:
            found = read(path)
        except ImageError as error:
            found = str(error)
        print(json.dumps([path, found, time.perf_counter() - begun]), flush=True)
    print(json.dumps(_peak() - before))


def _peak():
    # Not getrusage(): that also counts what the process held from which this one was forked.
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) // 1024


def read_apart(paths, door, megabytes, seconds=240):
    """Read files in a process of their own; -> what each gave, and the MiB that they took."""
    command = [sys.executable, "-m", "tests.reads", str(megabytes), door]
    given = json.dumps([str(path) for path in paths])
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 0, (done.returncode, done.stdout[-300:], done.stderr[-2000:])
    *answers, peak = map(json.loads, done.stdout.splitlines())
    return {path: found for path, found, _ in answers}, peak


if __name__ == "__main__":
    _main(int(sys.argv[1]), sys.argv[2])
