"""The review of duplicates: one group after the other, and what becomes of them in the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fiftyone import ViewField as F

from fiftyone_isoclip.app.panel.chosen import looked_at
from fiftyone_isoclip.app.panel.group_card import show_group
from fiftyone_isoclip.app.panel.page import Page
from fiftyone_isoclip.app.panel.tab import Action, Context, prompt, recall, remember
from fiftyone_isoclip.dataset.groups import field_names, groups_view
from fiftyone_isoclip.dataset.plans import has_plans
from fiftyone_isoclip.dataset.resolving import archive_name, count_removed, restore_removed
from fiftyone_isoclip.dataset.review import (
    judge_again,
    keep_all,
    keep_apart,
    keep_this,
    list_groups,
    read_group,
)
from fiftyone_isoclip.dataset.runs import SavedRun
from fiftyone_isoclip.dataset.verdicts import forget_verdicts, read_verdicts

RESOLVE = "resolve_duplicates"
ORDERS = {
    "size": "Largest groups first",
    "loosest": "Least similar groups first",
    "tightest": "Most similar groups first",
}
_ORDER, _AT = "duplicates_order", "duplicates_at"


def show_review(ctx: Context, page: Page, run: SavedRun) -> None:
    """Draw the group that is looked at."""
    numbers = _numbers(ctx)
    if not numbers:
        page.say("There is no group left to judge.")
        return
    page.choose(_ORDER, "Order", ORDERS, "size")
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


def show_ends(ctx: Context, page: Page) -> None:
    """Draw what can be done with all groups at once."""
    page.heading("When you are done")
    archive = archive_name(ctx.dataset)
    page.say(
        "Tag first: it is undone by removing the tag. Removal moves samples to the dataset "
        f"{archive}, from where they can be brought back; files stay where they are, unless a plan "
        "takes them away."
    )
    row = page.row()
    row.button("Tag all groups ...", "tag", primary=True)
    row.button("Remove from the dataset ...", "remove")
    row.button("Show all groups", "show_all")
    row = page.row()
    row.button("Plan the removal of files ...", "plan_files")
    if has_plans(ctx.dataset):
        row.button("Take files away ...", "take_files")
        row.button("Bring files back ...", "bring_files")
    removed, said = count_removed(ctx.dataset), bool(read_verdicts(ctx.dataset))
    if removed or said:
        row = page.row()
        if removed:
            row.button(f"Bring back the {removed} that were removed", "restore")
        if said:
            row.button("Forget all that was said to be no duplicates", "forget")


def _numbers(ctx: Context) -> tuple[int, ...]:
    return list_groups(ctx.dataset, looked_at(ctx), recall(ctx, _ORDER, "size"))


def _go(step: int) -> Action:
    def turn(ctx: Context) -> None:
        numbers = _numbers(ctx)
        at = min(max(0, int(recall(ctx, _AT, 0)) + step), len(numbers) - 1)
        remember(ctx, _AT, at)
        _show_in_grid(ctx, numbers[at])

    return turn


def _show_in_grid(ctx: Context, number: int) -> None:
    names = field_names(looked_at(ctx).key)
    view = ctx.dataset.match(F(names["group"]) == number).sort_by(names["rank"])
    ctx.ops.set_view(view)


def _judged(judge: Callable[[Context, str], None]) -> Action:
    """Judge in the run that is looked at, and show in the grid what changed."""

    def act(ctx: Context) -> None:
        judge(ctx, looked_at(ctx).key)
        ctx.ops.reload_samples()

    return act


def _keep_all(ctx: Context) -> None:
    keep_all(ctx.dataset, looked_at(ctx).key, int(ctx.params["number"]))
    _go(1)(ctx)


def _settle(action: str) -> Action:
    return lambda ctx: prompt(ctx, RESOLVE, key=looked_at(ctx).key, action=action)


def _restore(ctx: Context) -> None:
    count = restore_removed(ctx.dataset)
    ctx.ops.reload_dataset()
    ctx.ops.notify(f"{count} samples are back", variant="success")


def _forget(ctx: Context) -> None:
    forget_verdicts(ctx.dataset)
    ctx.ops.reload_dataset()
    ctx.ops.notify("Forgotten; search again to have those groups back", variant="success")


REVIEW_ACTIONS: Mapping[str, Action] = {
    "next": _go(1),
    "previous": _go(-1),
    "keep_this": _judged(lambda ctx, key: keep_this(ctx.dataset, key, str(ctx.params["id"]))),
    "keep_apart": _judged(lambda ctx, key: keep_apart(ctx.dataset, key, str(ctx.params["id"]))),
    "keep_all": _keep_all,
    "judge_again": _judged(
        lambda ctx, key: judge_again(ctx.dataset, key, int(ctx.params["number"]))
    ),
    "tag": _settle("tag"),
    "remove": _settle("remove"),
    "show_all": lambda ctx: ctx.ops.set_view(groups_view(ctx.dataset, looked_at(ctx).key)),
    "show_group": lambda ctx: _show_in_grid(ctx, int(ctx.params["number"])),
    "plan_files": lambda ctx: prompt(ctx, "plan_file_removal", key=looked_at(ctx).key),
    "take_files": lambda ctx: prompt(ctx, "apply_file_removal"),
    "bring_files": lambda ctx: prompt(ctx, "undo_file_removal"),
    "restore": _restore,
    "forget": _forget,
}
