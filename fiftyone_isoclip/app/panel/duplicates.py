"""The tab of duplicates: the groups one by one, or the similarity and what it gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from fiftyone_isoclip.app.panel.chosen import CHOICE, looked_at, runs_of
from fiftyone_isoclip.app.panel.page import Page
from fiftyone_isoclip.app.panel.review import REVIEW_ACTIONS, show_ends, show_review
from fiftyone_isoclip.app.panel.stale import STALE_ACTIONS, stale_notice
from fiftyone_isoclip.app.panel.start import START_ACTIONS, show_start
from fiftyone_isoclip.app.panel.tab import Action, Context, Tab, prompt, recall
from fiftyone_isoclip.app.panel.threshold import THRESHOLD_ACTIONS, show_threshold
from fiftyone_isoclip.dataset.groups import similarity_of
from fiftyone_isoclip.dataset.review import count_groups
from fiftyone_isoclip.dataset.runs import SavedRun
from fiftyone_isoclip.dataset.thresholds import one_in

_PART = "duplicates_part"
_PARTS = {"review": "Review the groups", "threshold": "Set the similarity"}


def _find_exact(ctx: Context) -> None:
    prompt(ctx, "find_exact_duplicates")


class DuplicatesTab(Tab):
    """Shows a run of duplicates."""

    name = "duplicates"
    label = "Duplicates"
    actions: ClassVar[Mapping[str, Action]] = {
        **STALE_ACTIONS,
        **START_ACTIONS,
        **THRESHOLD_ACTIONS,
        **REVIEW_ACTIONS,
        "find": lambda ctx: prompt(ctx, "find_near_duplicates"),
        "find_exact": _find_exact,
    }

    def show(self, ctx: Context, page: Page) -> None:
        """Draw it."""
        runs = runs_of(ctx)
        if not runs:
            page.heading("No search for duplicates yet")
            page.say(
                "It finds groups of images that show the same picture, with the one to keep and "
                "why. Nothing is deleted."
            )
            show_start(ctx, page, "Find near-duplicates", "find")
            page.button("Find exact duplicates", "find_exact", title="Needs no embeddings")
            return
        run = looked_at(ctx)
        if len(runs) > 1:
            page.choose(CHOICE, "Result", {r.key: r.key for r in runs}, run.key)
        stale_notice(ctx, page, run)
        _show_counts(ctx, page, run)
        page.tabs(_PART, _PARTS, "review")
        if recall(ctx, _PART, "review") == "threshold":
            show_threshold(ctx, page, run)
        else:
            show_review(ctx, page, run)
        show_ends(ctx, page)
        row = page.row()
        row.button("Search again ...", "search_again")
        row.button("Find exact duplicates ...", "find_exact")


def _show_counts(ctx: Context, page: Page, run: SavedRun) -> None:
    kind = "identical files"
    if not run.parameters.get("exact"):
        kind = f"similarity from {similarity_of(run):.4g}, band {run.band} of {run.checkpoint}"
        if rate := run.details.get("false_matches"):
            kind += f"; {one_in(rate['high'])} pairs of different files are as similar"
    compared = f"{run.counts['compared']:,} images were compared"
    page.say(f"{count_groups(ctx.dataset, run.key)}; {compared}\n\n{kind}")
