"""What the forms about runs share: which runs there are, in words, and what leaves with one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import fiftyone as fo
import fiftyone.operators.types as types

from fiftyone_isoclip.app.forms import Context, check, explain
from fiftyone_isoclip.dataset.brain_runs import BrainRun, find_other_origin, list_brain_runs
from fiftyone_isoclip.dataset.runs import SavedRun, check_free, list_runs

NO_RUNS = (
    "This dataset has no run of IsoCLIP yet; find duplicates, leaks or clusters first, "
    "with the operators of these names"
)


_FOUND = {
    "groups": ("group", "groups"),
    "duplicates": ("duplicate", "duplicates"),
    "clusters": ("cluster", "clusters"),
    "pairs": ("pair", "pairs"),
    "leaked": ("image that leaks", "images that leak"),
    "drop": ("to drop", "to drop"),
    "queries": ("image as query", "images as queries"),
    "edited": ("picture edited", "pictures edited"),
}
"""What runs count, of one and of several."""


def describe_counts(run: SavedRun) -> str:
    """What a run found, in words: ``3 groups, 4 duplicates``."""
    found = {name: int(run.counts[name]) for name in _FOUND if name in run.counts}
    return ", ".join(f"{count} {_FOUND[name][count != 1]}" for name, count in found.items())


def describe_kind(run: SavedRun) -> str:
    """What kind of run it is, in words."""
    return f"exact {run.method}" if run.parameters.get("exact") else run.method


def run_choices(dataset: fo.Dataset) -> dict[str, str]:
    """The runs of this package on a dataset: key -> what is shown."""
    return {
        run.key: f"{run.key}: {describe_kind(run)}, {run.time:%Y-%m-%d %H:%M} UTC, "
        f"{describe_counts(run)}"
        for run in list_runs(dataset)
    }


def brain_choices(dataset: fo.Dataset) -> dict[str, str]:
    """The indexes and maps of a dataset: key -> what is shown."""
    return {run.key: _describe_brain_run(run) for run in list_brain_runs(dataset)}


def _describe_brain_run(run: BrainRun) -> str:
    return f"{run.key}: {run.what}, {run.time:%Y-%m-%d %H:%M} UTC"


def stale_choices(dataset: fo.Dataset) -> dict[str, str]:
    """What can be brought up to date: the runs, and the indexes in databases that are built."""
    indexes = [run for run in list_brain_runs(dataset) if run.in_database and run.complete]
    return run_choices(dataset) | {
        run.key: _describe_brain_run(run)
        for run in indexes
        if not dataset.has_run(run.key) and find_other_origin(dataset, run) is None
    }


def choose_run(inputs: types.Object, ctx: Context, choices: Mapping[str, str]) -> str | None:
    """A run from a list, the latest unless another is asked for; None if that one is not there."""
    view = types.DropdownView()
    for key, shown in choices.items():
        view.add_choice(key, label=shown)
    latest = next(iter(choices))
    prop = inputs.enum("key", list(choices), label="Run", default=latest, required=True, view=view)
    asked = str(ctx.params.get("key") or latest)
    if asked in choices:
        return asked
    prop.invalid, prop.error_message = True, f"There is no run {asked!r}"
    return None


def name_result(
    inputs: types.Object,
    ctx: Context,
    default: str,
    method: str,
    fields_of: Callable[[str], Iterable[str]],
) -> None:
    """The key of a run to be, the fields of this key that it will write, and how it is undone."""
    asked = ctx.params.get("key") or default
    key = inputs.str("key", label="Name of the result", default=default, required=True)
    fields = tuple(fields_of(asked))
    check(key, lambda: check_free(ctx.dataset, asked, method, fields))
    listed = ", ".join([*fields[:1], *(name.removeprefix(asked) for name in fields[1:])])
    replaced = " It replaces the earlier result of that name." if ctx.dataset.has_run(asked) else ""
    explain(
        inputs,
        "writes",
        f"Writes the field{'s' * (len(fields) > 1)} {listed}, the saved view {asked} and a run."
        f"{replaced} No sample or file is deleted. To undo, delete the run (panel IsoCLIP, tab "
        "Runs).",
    )


def count_fields(run: SavedRun) -> str:
    """How many fields a run has, in words."""
    return "field" if len(run.fields) == 1 else f"{len(run.fields)} fields"


def view_asks_for(ctx: Context, fields: Iterable[str]) -> bool:
    """Whether the view on the screen goes by one of these fields."""
    stages = str(ctx.request_params.get("view") or "")
    return any(f"'{name}'" in stages or f"${name}'" in stages for name in fields)
