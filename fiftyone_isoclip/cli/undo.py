"""`isoclip undo`."""

from __future__ import annotations

from dataclasses import asdict

from fiftyone_isoclip import files
from fiftyone_isoclip.cli.apply import FilesOnly, PlanPath
from fiftyone_isoclip.cli.options import JsonFile
from fiftyone_isoclip.cli.screen import note_left, on_stderr, report, say
from fiftyone_isoclip.errors import IsoClipError
from fiftyone_isoclip.files.removal import RemovalPlan, UndoReport


def run_undo(plan: PlanPath, files_only: FilesOnly = False, json: JsonFile = None) -> None:
    """Bring back what `isoclip apply` took away; nothing that is there by now is overwritten."""
    found = _undo(files.read_plan(plan), files_only)
    note_left(found.left)
    report(asdict(found), json, lambda: say(f"{len(found.restored)} files are back"))
    if found.left:
        raise IsoClipError(f"{len(found.left)} files could not be brought back")


def _undo(plan: RemovalPlan, files_only: bool) -> UndoReport:
    if plan.dataset is None or files_only:
        return files.undo_plan(plan)
    with on_stderr():
        from fiftyone_isoclip.dataset.file_removal import undo_file_removal

        return undo_file_removal(plan)
