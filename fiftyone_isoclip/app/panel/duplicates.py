"""The tab of duplicates: the similarity and what it gives, and the groups one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from fiftyone import ViewField as F

from fiftyone_isoclip.app.panel.chosen import looked_at, runs_of
from fiftyone_isoclip.app.panel.group_card import show_group
from fiftyone_isoclip.app.panel.page import Page
from fiftyone_isoclip.app.panel.stale import STALE_ACTIONS, stale_notice
from fiftyone_isoclip.app.panel.tab import Action, Context, Tab, prompt, recall, remember
from fiftyone_isoclip.app.panel.threshold import THRESHOLD_ACTIONS, show_threshold
from fiftyone_isoclip.dataset.groups import field_names, groups_view, similarity_of
from fiftyone_isoclip.dataset.review import (
    count_groups,
    judge_again,
    keep_all,
    keep_this,
    list_groups,
    read_group,
)
from fiftyone_isoclip.dataset.runs import SavedRun
from fiftyone_isoclip.dataset.verdicts import forget_verdicts, read_verdicts

FIND = "find_near_duplicates"
FIND_EXACT = "find_exact_duplicates"
RESOLVE = "resolve_duplicates"
ORDERS = {
    "size": "Largest groups first",
    "loosest": "Least similar groups first",
    "tightest": "Most similar groups first",
}
_AT = "duplicates_at"


class DuplicatesTab(Tab):
    """Shows a run of duplicates: where to set the similarity, then group by group."""

    name = "duplicates"
    label = "Duplicates"

    def show(self, ctx: Context, page: Page) -> None:
        """Draw it."""
        runs = runs_of(ctx)
        if not runs:
            _show_nothing(page)
            return
        run = looked_at(ctx)
        if len(runs) > 1:
            page.choose("duplicates_run", "Result", {r.key: r.key for r in runs}, run.key)
        stale_notice(ctx, page, run)
        _show_counts(ctx, page, run)
        show_threshold(ctx, page, run)
        _show_review(ctx, page, run)
        _show_ends(ctx, page, run)

    actions: ClassVar[Mapping[str, Action]]


def _show_nothing(page: Page) -> None:
    page.heading("No search for duplicates yet")
    page.say(
        "It finds groups of images that show the same picture, with the one to keep and why. "
        "Nothing is deleted."
    )
    row = page.row()
    row.button("Find near-duplicates", "find", primary=True)
    row.button("Find exact duplicates", "find_exact")


def _show_counts(ctx: Context, page: Page, run: SavedRun) -> None:
    kind = "identical files" if run.parameters.get("exact") else _kind(run)
    compared = f"{run.counts['compared']:,} images were compared"
    page.say(f"{count_groups(ctx.dataset, run.key)}; {compared}\n\n{kind}")


def _kind(run: SavedRun) -> str:
    similarity = similarity_of(run)
    return f"similarity from {similarity:.4g}, band {run.band} of {run.checkpoint}"


def _show_review(ctx: Context, page: Page, run: SavedRun) -> None:
    page.heading("Review")
    order = recall(ctx, "duplicates_order", "size")
    numbers = list_groups(ctx.dataset, run, order)
    if not numbers:
        page.say("No two images are this similar.")
        return
    page.choose("duplicates_order", "Order", ORDERS, "size")
    at = min(int(recall(ctx, _AT, 0)), len(numbers) - 1)
    group = read_group(ctx.dataset, run.key, numbers[at])
    row = page.row()
    row.button("Previous", "previous", disabled=at == 0)
    row.button("Next", "next", disabled=at == len(numbers) - 1, primary=True)
    row.say(f"Group {at + 1} of {len(numbers)}")
    if group is None:
        page.say("The images of this group are gone from the dataset.")
    else:
        show_group(page, group)


def _show_ends(ctx: Context, page: Page, run: SavedRun) -> None:
    page.heading("When you are done")
    page.say(
        "Tag first: it is undone by removing the tag. Removal takes samples out of the dataset, "
        "never files off the disk."
    )
    row = page.row()
    row.button("Tag all groups", "tag", primary=True)
    row.button("Remove from the dataset ...", "remove")
    row.button("Show all groups", "show_all")
    row.button("Search again ...", "find")
    if read_verdicts(ctx.dataset):
        page.button("Forget all that was said to be no duplicates", "forget")


def _numbers(ctx: Context) -> tuple[int, ...]:
    return list_groups(ctx.dataset, looked_at(ctx), recall(ctx, "duplicates_order", "size"))


def _go(ctx: Context, step: int) -> None:
    numbers = _numbers(ctx)
    at = min(max(0, int(recall(ctx, _AT, 0)) + step), len(numbers) - 1)
    remember(ctx, _AT, at)
    _show_in_grid(ctx, numbers[at])


def _show_in_grid(ctx: Context, number: int) -> None:
    names = field_names(looked_at(ctx).key)
    view = ctx.dataset.match(F(names["group"]) == number).sort_by(names["rank"])
    ctx.ops.set_view(view)


def _keep_this(ctx: Context) -> None:
    keep_this(ctx.dataset, looked_at(ctx).key, str(ctx.params["id"]))
    ctx.ops.reload_samples()


def _keep_all(ctx: Context) -> None:
    keep_all(ctx.dataset, looked_at(ctx).key, int(ctx.params["number"]))
    _go(ctx, 1)


def _judge_again(ctx: Context) -> None:
    judge_again(ctx.dataset, looked_at(ctx).key, int(ctx.params["number"]))
    ctx.ops.reload_samples()


def _settle(action: str) -> Action:
    return lambda ctx: prompt(ctx, RESOLVE, key=looked_at(ctx).key, action=action)


def _show_all(ctx: Context) -> None:
    ctx.ops.set_view(groups_view(ctx.dataset, looked_at(ctx).key))


def _forget(ctx: Context) -> None:
    forget_verdicts(ctx.dataset)
    ctx.ops.reload_dataset()
    ctx.ops.notify("Forgotten; search again to have those groups back", variant="success")


DuplicatesTab.actions = {
    **STALE_ACTIONS,
    **THRESHOLD_ACTIONS,
    "find": lambda ctx: prompt(ctx, FIND),
    "find_exact": lambda ctx: prompt(ctx, FIND_EXACT),
    "next": lambda ctx: _go(ctx, 1),
    "previous": lambda ctx: _go(ctx, -1),
    "keep_this": _keep_this,
    "keep_all": _keep_all,
    "judge_again": _judge_again,
    "tag": _settle("tag"),
    "remove": _settle("remove"),
    "show_all": _show_all,
    "show_group": lambda ctx: _show_in_grid(ctx, int(ctx.params["number"])),
    "forget": _forget,
}
