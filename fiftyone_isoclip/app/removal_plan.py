"""The operator that plans which files of duplicates are taken away, and how a plan is shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fiftyone.operators.types as types

from fiftyone_isoclip.app.forms import Context, explain
from fiftyone_isoclip.app.operator import SteppedOperator
from fiftyone_isoclip.app.resolve import choose_run
from fiftyone_isoclip.app.steps import Step, Steps
from fiftyone_isoclip.dataset.fields import dataset_of
from fiftyone_isoclip.dataset.groups import DEFAULT_KEY
from fiftyone_isoclip.dataset.plans import count_taken, keep_plan
from fiftyone_isoclip.files import RemovalPlan
from fiftyone_isoclip.files.keepers import readable_bytes

_SHOWN = 20


class PlanFileRemoval(SteppedOperator):
    """Writes a plan that takes the files of duplicates away; nothing else is changed."""

    name_ = "plan_file_removal"
    label = "IsoCLIP: Plan the removal of files"
    description = "Say which files of duplicates could be taken away, and keep that as a plan"
    risk = types.RiskLevel.LOW

    def __call__(
        self, samples: Any, *, key: str = DEFAULT_KEY, near: bool = False, delegate: bool = False
    ) -> Any:
        """Run it from Python on a dataset; -> FiftyOne's ExecutionResult."""
        return self.run(samples, {"key": key, "near": near}, delegate=delegate)

    def fill_form(self, ctx: Context, inputs: types.Object) -> None:
        """The form."""
        if choose_run(inputs, ctx) is None:
            return
        inputs.bool(
            "near",
            label="Near duplicates too",
            description="Without, only byte-identical copies are planned: nothing can be lost",
            default=False,
        )
        explain(
            inputs,
            "writes",
            "Reads every file of the groups and writes a plan beside the database. No sample and "
            "no file is changed. Afterwards IsoCLIP: Take files away carries the plan out.",
        )

    def steps(self, ctx: Context) -> Steps[dict[str, Any]]:
        """Read the files and keep the plan."""
        from fiftyone_isoclip.dataset import plan_file_removal

        dataset, params = dataset_of(ctx.dataset), ctx.params
        yield Step("Reading the files")
        plan = plan_file_removal(dataset, params["key"], near=params.get("near", False))
        path = keep_plan(dataset, plan) if plan.removals else None
        return {**_told(plan), "left": len(plan.skipped), "file": path and str(path)}

    def reveal(self, ctx: Context, result: dict[str, Any]) -> Iterator[Any]:
        """Say how much it is."""
        told = f"{result['n_files']} files could be taken away, {result['size']}"
        yield ctx.ops.notify(told, variant="success")

    def describe(self, result: dict[str, Any]) -> types.Object:
        """How many files of what size, and why others stay."""
        outputs = types.Object()
        _describe_plan(outputs)
        outputs.int("left", label="Duplicates left alone")
        list_reasons(outputs, result.get("reasons", {}))
        return outputs


def name_plan(plan: RemovalPlan) -> str:
    """How a plan is called in a list."""
    taken = count_taken(plan)
    state = f", {taken} taken away" if taken else ""
    run = (plan.dataset or {}).get("run")
    made = plan.created[:16].replace("T", " ")
    return f"{made}, {run}: {len(plan.removals)} files{state}"


def _told(plan: RemovalPlan) -> dict[str, Any]:
    return {
        "plan": plan.id,
        "n_files": len(plan.removals),
        "n_near": sum(removal.kind == "near" for removal in plan.removals),
        "size": readable_bytes(plan.n_bytes),
        "roots": list(plan.roots),
        "reasons": some(plan.skipped),
    }


def some(reasons: Mapping[str, str]) -> dict[str, str]:
    """The first of many reasons."""
    return dict(list(reasons.items())[:_SHOWN])


def _describe_plan(outputs: types.Object) -> None:
    outputs.str("plan", label="Plan")
    outputs.int("n_files", label="Files to take away")
    outputs.int("n_near", label="Of these, near duplicates")
    outputs.str("size", label="Their size")
    outputs.list("roots", types.String(), label="Nothing leaves these folders")


def list_files(inputs: types.Object, plan: RemovalPlan) -> None:
    """The first files of a plan, and what stays for each."""
    pairs = [(group.keeper.path, r.file.path) for group in plan.groups for r in group.remove]
    lines = [f"- `{path}` (stays: `{Path(keeper).name}`)" for keeper, path in pairs[:_SHOWN]]
    more = f"\n\nand {len(pairs) - _SHOWN} more" * (len(pairs) > _SHOWN)
    inputs.md("\n".join(lines) + more, name="files")


def list_reasons(outputs: types.Object, reasons: Mapping[str, str]) -> None:
    """Why files are left alone."""
    if reasons:
        lines = [f"- `{path}`: {reason}" for path, reason in reasons.items()]
        outputs.md("Left alone:\n\n" + "\n".join(lines), name="why")
