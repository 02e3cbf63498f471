"""The announcement that what a tab shows is no longer what the dataset holds."""

from __future__ import annotations

from collections.abc import Mapping

from fiftyone_isoclip.app.panel.page import Page
from fiftyone_isoclip.app.panel.tab import Action, Context, prompt
from fiftyone_isoclip.dataset.runs import SavedRun
from fiftyone_isoclip.dataset.staleness import find_staleness

RERUN = "rerun"


def stale_notice(ctx: Context, page: Page, run: SavedRun) -> None:
    """Say that a run is stale, if it is, with the button that brings it up to date.

    The tab's ``actions`` must hold ``STALE_ACTIONS``.
    """
    if not run.complete:
        page.notice(f"The run {run.key} did not end, so what it shows is not whole.", "warning")
    elif stale := find_staleness(ctx.dataset, run):
        page.notice(f"Since the run {run.key}: {stale}.", "warning")
    else:
        return
    page.button("Bring up to date", "bring_up_to_date", primary=True, key=run.key)


def bring_up_to_date(ctx: Context) -> None:
    """Open the form that brings a run up to date."""
    prompt(ctx, RERUN, key=ctx.params["key"])


STALE_ACTIONS: Mapping[str, Action] = {"bring_up_to_date": bring_up_to_date}
"""What a tab that shows ``stale_notice`` adds to its actions."""
