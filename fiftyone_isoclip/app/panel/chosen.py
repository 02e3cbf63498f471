"""Which run of duplicates the panel is about."""

from __future__ import annotations

from fiftyone_isoclip.app.panel.tab import Context, recall
from fiftyone_isoclip.dataset.groups import METHOD
from fiftyone_isoclip.dataset.runs import SavedRun, list_runs
from fiftyone_isoclip.errors import DatasetError

CHOICE = "duplicates_run"


def runs_of(ctx: Context) -> list[SavedRun]:
    """The runs of duplicates, the latest first."""
    return [run for run in list_runs(ctx.dataset) if run.method == METHOD]


def looked_at(ctx: Context) -> SavedRun:
    """The run that was chosen, else the latest.

    Raises:
        DatasetError: there is none.
    """
    runs, wanted = runs_of(ctx), recall(ctx, CHOICE)
    if not runs:
        raise DatasetError(f"dataset {ctx.dataset.name!r} has no duplicates any more; find them")
    return next((run for run in runs if run.key == wanted), runs[0])
