"""The operators that open the review of duplicates, and that settle what was reviewed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fiftyone.operators.types as types

from fiftyone_isoclip.app.forms import Context, explain, refuse
from fiftyone_isoclip.app.operator import PANEL, SteppedOperator
from fiftyone_isoclip.app.steps import Step, Steps
from fiftyone_isoclip.dataset.fields import dataset_of
from fiftyone_isoclip.dataset.groups import DEFAULT_KEY, METHOD, groups_view
from fiftyone_isoclip.dataset.review import count_groups
from fiftyone_isoclip.dataset.runs import list_runs

ACTIONS = {
    "tag": "Tag them: duplicate, and keeper",
    "keep": "Keep all: they are not duplicates",
    "remove": "Remove the duplicates from the dataset",
}
CONFLICTS = {"keeper": "the keeper's stays", "duplicate": "the duplicate's replaces it"}


class ReviewDuplicates(SteppedOperator):
    """Opens the panel in which duplicates are reviewed group by group."""

    name_ = "review_duplicates"
    label = "IsoCLIP: Review duplicates"
    description = "Open the panel that shows duplicates group by group"
    risk = types.RiskLevel.LOW
    schedulable = False

    def __call__(self, samples: Any, *, key: str = DEFAULT_KEY) -> Any:
        """Run it from Python on a dataset; -> FiftyOne's ExecutionResult."""
        return self.run(samples, {"key": key}, delegate=False)

    def fill_form(self, ctx: Context, inputs: types.Object) -> None:
        """The form."""
        choose_run(inputs, ctx)

    def steps(self, ctx: Context) -> Steps[dict[str, Any]]:
        """Nothing but naming the run."""
        yield Step("Opening the panel")
        return {"key": ctx.params["key"]}

    def reveal(self, ctx: Context, result: dict[str, Any]) -> Iterator[Any]:
        """Open the panel beside the grid, and show the groups in the grid."""
        yield ctx.ops.set_view(groups_view(ctx.dataset, result["key"]))
        yield ctx.ops.open_panel(PANEL, layout="horizontal", is_active=True)

    def describe(self, result: dict[str, Any]) -> types.Object:
        """The run that is reviewed."""
        outputs = types.Object()
        outputs.str("key", label="Reviewed")
        return outputs


class ResolveDuplicates(SteppedOperator):
    """Tags duplicates, says that they are none, or removes them from the dataset."""

    name_ = "resolve_duplicates"
    label = "IsoCLIP: Resolve duplicates"
    description = "Tag or remove what could go, or keep it all; files are never touched"
    risk = types.RiskLevel.HIGH

    def __call__(
        self,
        samples: Any,
        *,
        key: str = DEFAULT_KEY,
        action: str = "tag",
        groups: list[int] | None = None,
        conflict: str = "keeper",
        confirm: bool = False,
        delegate: bool = False,
    ) -> Any:
        """Run it from Python on a dataset; -> FiftyOne's ExecutionResult."""
        params = {"key": key, "action": action, "groups": groups, "conflict": conflict}
        return self.run(samples, params | {"confirm": confirm}, delegate=delegate)

    def fill_form(self, ctx: Context, inputs: types.Object) -> None:
        """The form."""
        key = choose_run(inputs, ctx)
        if key is None:
            return
        actions = types.RadioView()
        for action, told in ACTIONS.items():
            actions.add_choice(action, label=told)
        inputs.str("action", label="What to do", default="tag", required=True, view=actions)
        inputs.list("groups", types.Number(int=True), view=types.HiddenView(), required=False)
        if ctx.params.get("groups"):
            numbers = ", ".join(str(number) for number in ctx.params["groups"])
            explain(inputs, "which", f"Only group {numbers}.")
        action = ctx.params.get("action") or "tag"
        if action == "remove":
            choose_conflict(inputs)
            sure = inputs.bool("confirm", label="Remove them", default=False, required=True)
            if not ctx.params.get("confirm"):
                sure.invalid, sure.error_message = True, "tick this to remove them"
        archive = f"{ctx.dataset.name}-removed"
        told = _WRITES[action].format(archive=archive)
        if not ctx.params.get("groups"):
            told = f"{_concerned(ctx.dataset, key, action)} {told}"
        explain(inputs, "writes", told)

    def steps(self, ctx: Context) -> Steps[dict[str, Any]]:
        """Do it."""
        from fiftyone_isoclip.dataset import resolve_duplicates
        from fiftyone_isoclip.errors import DatasetError

        params = ctx.params
        if params["action"] == "remove" and not params.get("confirm"):
            raise DatasetError("removing was not confirmed; pass confirm=True if you mean it")
        yield Step(ACTIONS[params["action"]])
        report = resolve_duplicates(
            dataset_of(ctx.dataset),
            params["key"],
            params["action"],
            groups=params.get("groups") or None,
            conflict=params.get("conflict") or "keeper",
        )
        return {
            "key": params["key"],
            "action": report.action,
            "groups": report.groups,
            "samples": report.samples,
            "merged": report.merged,
            "conflicts": report.conflicts,
            "archive": report.archive,
        }

    def reveal(self, ctx: Context, result: dict[str, Any]) -> Iterator[Any]:
        """Show what is left of the groups."""
        yield ctx.ops.reload_dataset()
        told = f"{result['samples']} samples of {result['groups']} groups: {result['action']}"
        yield ctx.ops.notify(told, variant="success")

    def describe(self, result: dict[str, Any]) -> types.Object:
        """Counts, and where the removed samples are."""
        outputs = types.Object()
        outputs.int("groups", label="Groups")
        outputs.int("samples", label="Samples")
        if result.get("archive"):
            outputs.int("merged", label="Keepers that were given tags or labels")
            outputs.int("conflicts", label="Labels that contradicted")
            outputs.str("archive", label="The removed samples are in dataset")
        return outputs


_WRITES = {
    "tag": "Adds the tag duplicate to what could go and keeper to the keepers. "
    "To undo, remove the tags.",
    "keep": "Writes the ids of the others into the field not_duplicates of each sample; later "
    "searches respect it. To undo, delete that field or judge the group again in the panel.",
    "remove": "Keepers get the tags and labels they lack; the duplicates move to the dataset "
    "{archive}. No file is touched. To undo, bring them back (panel IsoCLIP, tab Duplicates).",
}


def _concerned(dataset: Any, key: str, action: str) -> str:
    standing = count_groups(dataset, key)
    if action == "keep":
        return f"{standing.groups} groups."
    return f"{standing.duplicates} duplicates of {standing.groups} groups."


def choose_conflict(inputs: types.Object) -> None:
    """Whose label stays where a keeper and a duplicate differ."""
    rules = types.DropdownView()
    for rule, told in CONFLICTS.items():
        rules.add_choice(rule, label=told)
    label = "If a duplicate's label contradicts its keeper's"
    inputs.str("conflict", label=label, default="keeper", required=True, view=rules)


def choose_run(inputs: types.Object, ctx: Context) -> str | None:
    """A run of duplicates from a list; None, and the form says so, where there are none."""
    keys = [run.key for run in list_runs(ctx.dataset) if run.method == METHOD]
    if not keys:
        refuse(
            inputs,
            f"Dataset {ctx.dataset.name!r} has no duplicates yet; "
            "run the operator IsoCLIP: Find near-duplicates first",
        )
        return None
    inputs.enum("key", keys, label="Result", default=keys[0], required=True)
    chosen = ctx.params.get("key")
    return chosen if chosen in keys else keys[0]
