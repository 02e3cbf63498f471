"""`isoclip purge`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from fiftyone_isoclip import files
from fiftyone_isoclip.cli.apply import PlanPath
from fiftyone_isoclip.cli.options import JsonFile
from fiftyone_isoclip.cli.screen import note_left, report, say
from fiftyone_isoclip.errors import IsoClipError
from fiftyone_isoclip.files.keepers import readable_bytes

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def run_purge(plan: PlanPath, yes: Yes = False, json: JsonFile = None) -> None:
    """Delete what `isoclip apply` took away; this alone cannot be undone.

    A file whose keeper is not in its place and readable stays in the quarantine.
    """
    planned = files.read_plan(plan)
    if not yes:
        count = len(planned.removals)
        typer.confirm(f"Delete up to {count} files for good?", abort=True, err=True)
    found = files.purge_plan(planned)
    note_left(found.left)
    size = readable_bytes(found.n_bytes)
    report(asdict(found), json, lambda: say(f"{len(found.purged)} files are deleted ({size})"))
    if found.left:
        raise IsoClipError(f"{len(found.left)} files are still in the quarantine")
