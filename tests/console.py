"""The commands of a document, run as they stand there."""

from __future__ import annotations

import shlex
import subprocess
import sys

from sybil import Example


def run_commands(example: Example) -> None:
    """Run each line of a console block, the command being that of this environment."""
    for line in str(example.parsed).splitlines():
        program, *arguments = shlex.split(line)
        assert program == "isoclip", f"a console block runs {program!r}, which is not ours"
        command = [sys.executable, "-W", "ignore", "-m", "fiftyone_isoclip.cli", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
