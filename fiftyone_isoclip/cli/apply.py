"""`isoclip apply`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from fiftyone_isoclip import files
from fiftyone_isoclip.cli.options import JsonFile
from fiftyone_isoclip.cli.screen import note, note_left, on_stderr, report, say
from fiftyone_isoclip.files.keepers import readable_bytes
from fiftyone_isoclip.files.removal import ApplyReport, RemovalPlan

PlanPath = Annotated[
    str,
    typer.Argument(
        metavar="PLAN",
        help="A file written by `isoclip duplicates --plan`, or by the App.",
        show_default=False,
    ),
]
FilesOnly = Annotated[
    bool,
    typer.Option("--files-only", help="Leave the FiftyOne dataset of the plan as it is."),
]


def run_apply(plan: PlanPath, files_only: FilesOnly = False, json: JsonFile = None) -> None:
    """Take the files of a plan away, so that `isoclip undo` can bring them back.

    Every file is read once more; groups in which anything changed are left alone. What goes moves
    to a folder .isoclip-quarantine on the same disk, so no space is freed before `isoclip purge`.
    """
    planned = files.read_plan(plan)
    found = _apply(planned, files_only)
    note_left(found.skipped)

    def show() -> None:
        size = readable_bytes(found.n_bytes)
        say(f"{len(found.moved)} files were taken away ({size}), {len(found.already)} before")
        for folder in planned.folders * bool(found.gone):
            say(f"they are in {folder}")

    report(asdict(found), json, show)
    if found.gone:
        note(f"`isoclip undo {plan}` brings them back, `isoclip purge {plan}` deletes them")


def _apply(plan: RemovalPlan, files_only: bool) -> ApplyReport:
    if plan.dataset is None or files_only:
        return files.apply_plan(plan)
    with on_stderr():
        from fiftyone_isoclip.dataset.file_removal import apply_file_removal

        return apply_file_removal(plan)
