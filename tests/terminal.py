"""Command lines run in this process, and what a failed one says."""

from __future__ import annotations

import sys

from typer.testing import CliRunner

from fiftyone_isoclip.cli.commands import app

PROGRAM = [sys.executable, "-m", "fiftyone_isoclip.cli"]


def isoclip(*words):
    """Run a command line in this process."""
    return CliRunner().invoke(app, [str(word) for word in words])


def sentence(result):
    """The single line with which a command that failed by a user's mistake explains itself."""
    assert result.exit_code == 1, result.stderr
    assert isinstance(result.exception, SystemExit)
    told = [line for line in result.stderr.splitlines() if line.startswith("isoclip: ")]
    assert len(told) == 1, result.stderr
    return told[0]
