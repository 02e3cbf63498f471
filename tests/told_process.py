"""A process that writes to datasets when it is told to: `python -m tests.told_process`.

It reads one order a line, ``dataset verb [arguments]``, and answers with one line: ``done``, or
``refused`` and the sentence. A verb that can tell how far it is says ``inside`` once and then waits
for a line.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

WAITING = ("embed", "find_duplicates", "find_leaks")


class ToldProcess:
    """Another process that writes, from the test's side."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.told_process"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        here = Path(__file__).parent.parent
        self.process = subprocess.Popen(command, cwd=here, bufsize=1, **pipes)

    def order(self, dataset: Any, verb: str, *args: Any, **options: Any) -> None:
        """Tell it to do something; `answer` waits for what comes of it."""
        self.say(f"{dataset.name} {verb} {json.dumps([args, options])}")

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")

    def answer(self) -> str:
        """The next line that it says."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        assert line, f"the writer died: {self.process.poll()}"
        return line

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


def _work(dataset: Any, verb: str, args: list[Any], options: dict[str, Any]) -> None:
    from fiftyone_isoclip import dataset as verbs
    from fiftyone_isoclip.dataset.locks import hold

    told = []

    def progress(*_: object) -> None:
        if not told:
            told.append(True)
            _say("inside")
            sys.stdin.readline()

    if verb == "hold":
        with hold(dataset, *args):
            progress()
        return
    if verb == "say_not_duplicates":
        for group in args:  # each a decision of its own
            verbs.say_not_duplicates(dataset, group)
        return
    if verb in WAITING:
        options["progress"] = progress
    getattr(verbs, verb)(dataset, *args, **options)


def _say(line: str) -> None:
    sys.__stdout__.write(f"{line}\n")
    sys.__stdout__.flush()


def main() -> None:
    sys.stdout = sys.stderr  # what libraries print is no answer
    import fiftyone as fo

    import fiftyone_isoclip.dataset.embeddings  # noqa: F401  (torch is loaded before the race)
    from fiftyone_isoclip.errors import IsoClipError

    _say("ready")
    for line in iter(sys.stdin.readline, ""):
        name, verb, given = line.split(" ", 2)
        args, options = json.loads(given)
        try:
            _work(fo.load_dataset(name), verb, args, options)
        except IsoClipError as error:
            _say(f"refused {error}")
        else:
            _say("done")


if __name__ == "__main__":
    main()
