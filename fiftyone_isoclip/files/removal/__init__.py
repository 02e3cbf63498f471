"""Duplicate files taken away so that they can be brought back: plan, apply, undo, purge."""

from fiftyone_isoclip.files.removal.applying import ApplyReport, apply_plan
from fiftyone_isoclip.files.removal.plan import (
    PlannedGroup,
    Removal,
    RemovalPlan,
    read_plan,
    write_plan,
)
from fiftyone_isoclip.files.removal.planning import media_roots, plan_removal
from fiftyone_isoclip.files.removal.purging import PurgeReport, purge_plan
from fiftyone_isoclip.files.removal.states import FileState
from fiftyone_isoclip.files.removal.undoing import UndoReport, undo_plan

__all__ = [
    "ApplyReport",
    "FileState",
    "PlannedGroup",
    "PurgeReport",
    "Removal",
    "RemovalPlan",
    "UndoReport",
    "apply_plan",
    "media_roots",
    "plan_removal",
    "purge_plan",
    "read_plan",
    "undo_plan",
    "write_plan",
]
