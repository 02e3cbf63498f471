"""What every sub-command has in common: how it fails."""

from __future__ import annotations

import errno
from typing import Any

import typer
from typer.core import TyperGroup

from fiftyone_isoclip.cli.screen import complain
from fiftyone_isoclip.errors import IsoClipError


class Shell(TyperGroup):
    """Turns a user's mistake into one sentence and exit code 1; a defect keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the sub-command."""
        try:
            return super().invoke(ctx)
        except IsoClipError as error:
            complain(str(error))
        except OSError as error:
            # A closed pipe is for typer to end; without a file it is no mistake in a path.
            if error.errno == errno.EPIPE or error.filename is None:
                raise
            complain(f"{error.filename} cannot be used: {error.strerror}")
        raise typer.Exit(1)
