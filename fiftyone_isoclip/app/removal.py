"""The operators that carry a plan out, taking files away, and that bring them back."""

from __future__ import annotations

import shlex
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import fiftyone.operators.types as types

from fiftyone_isoclip.app.forms import Context, explain, refuse
from fiftyone_isoclip.app.operator import SteppedOperator
from fiftyone_isoclip.app.removal_plan import list_files, list_reasons, name_plan, some
from fiftyone_isoclip.app.resolve import choose_conflict
from fiftyone_isoclip.app.steps import Step, Steps, follow
from fiftyone_isoclip.dataset.fields import dataset_of
from fiftyone_isoclip.dataset.plans import count_taken, list_plans, load_kept_plan, plan_path
from fiftyone_isoclip.errors import RemovalError
from fiftyone_isoclip.files import RemovalPlan
from fiftyone_isoclip.files.keepers import readable_bytes


class _PlanOperator(SteppedOperator):
    """Asks for one of the plans kept of the dataset, and for a tick that it is meant."""

    risk = types.RiskLevel.HIGH
    tick: ClassVar[str]

    @abstractmethod
    def offers(self, plan: RemovalPlan) -> bool:
        """Whether there is something to do with a plan."""

    @abstractmethod
    def tell(self, ctx: Context, inputs: types.Object, plan: RemovalPlan) -> None:
        """Put what will happen into the form."""

    def fill_form(self, ctx: Context, inputs: types.Object) -> None:
        """The form."""
        plans = [plan for plan in list_plans(dataset_of(ctx.dataset)) if self.offers(plan)]
        if not plans:
            refuse(
                inputs,
                f"Dataset {ctx.dataset.name!r} has no plan for which there is anything to do; "
                "run the operator IsoCLIP: Plan the removal of files first",
            )
            return
        choices = types.DropdownView()
        for plan in plans:
            choices.add_choice(plan.id, label=name_plan(plan))
        inputs.str("plan", label="Plan", default=plans[0].id, required=True, view=choices)
        known = {plan.id: plan for plan in plans}
        plan = known.get(ctx.params.get("plan") or plans[0].id, plans[0])
        self.tell(ctx, inputs, plan)
        sure = inputs.bool("confirm", label=self.tick, default=False, required=True)
        if not ctx.params.get("confirm"):
            sure.invalid, sure.error_message = True, "tick this if you mean it"

    def chosen(self, ctx: Context) -> RemovalPlan:
        """The plan that was asked for.

        Raises:
            RemovalError: it was not confirmed, or there is no such plan.
        """
        if not ctx.params.get("confirm"):
            raise RemovalError("it was not confirmed; pass confirm=True if you mean it")
        return load_kept_plan(dataset_of(ctx.dataset), ctx.params["plan"])


class ApplyFileRemoval(_PlanOperator):
    """Moves the files of a plan into quarantine and their samples to the archive."""

    name_ = "apply_file_removal"
    label = "IsoCLIP: Take files away"
    description = (
        "Carry out a plan: move files of duplicates into quarantine, undo brings them back"
    )
    tick = "Move these files"

    def __call__(
        self,
        samples: Any,
        plan: str,
        *,
        conflict: str = "keeper",
        confirm: bool = False,
        delegate: bool = False,
    ) -> Any:
        """Run it from Python on a dataset; -> FiftyOne's ExecutionResult."""
        params = {"plan": plan, "conflict": conflict, "confirm": confirm}
        return self.run(samples, params, delegate=delegate)

    def offers(self, plan: RemovalPlan) -> bool:
        """Whether a file of it is still in its place."""
        return count_taken(plan) < len(plan.removals)

    def tell(self, ctx: Context, inputs: types.Object, plan: RemovalPlan) -> None:
        """The files, and what becomes of samples and labels."""
        explain(
            inputs,
            "writes",
            f"Moves {len(plan.removals)} files ({readable_bytes(plan.n_bytes)}) into folders "
            ".isoclip-quarantine on their own disk; each is checked once more before. Keepers get "
            f"the tags and labels they lack, the samples move to the dataset {ctx.dataset.name}"
            "-removed. To undo, run IsoCLIP: Bring files back. No space is freed before isoclip "
            "purge is run in a terminal.",
        )
        list_files(inputs, plan)
        choose_conflict(inputs)

    def steps(self, ctx: Context) -> Steps[dict[str, Any]]:
        """Carry it out."""
        from fiftyone_isoclip.dataset import apply_file_removal

        plan, conflict = self.chosen(ctx), ctx.params.get("conflict") or "keeper"
        report = yield from follow(
            "Checking and moving groups",
            lambda tell: apply_file_removal(plan, conflict=conflict, progress=tell),
        )
        return {
            "plan": plan.id,
            "n_files": len(report.moved),
            "size": readable_bytes(report.n_bytes),
            "already": len(report.already),
            "left": len(report.skipped),
            "reasons": some(report.skipped),
            "file": str(plan_path(ctx.dataset, plan.id)),
        }

    def reveal(self, ctx: Context, result: dict[str, Any]) -> Iterator[Any]:
        """Show what is left in the dataset."""
        yield ctx.ops.reload_dataset()
        variant = "warning" if result["left"] else "success"
        yield ctx.ops.notify(f"{result['n_files']} files were taken away", variant=variant)

    def describe(self, result: dict[str, Any]) -> types.Object:
        """Counts, and why files stay."""
        outputs = types.Object()
        outputs.int("n_files", label="Files taken away")
        outputs.str("size", label="Their size")
        outputs.int("already", label="Taken away before")
        outputs.int("left", label="Left in their place")
        if result.get("file"):
            command = f"isoclip purge {shlex.quote(result['file'])}"
            told = f"To free the space for good, in a terminal:\n\n```\n{command}\n```"
            outputs.md(told, name="purge")
        list_reasons(outputs, result.get("reasons", {}))
        return outputs


class UndoFileRemoval(_PlanOperator):
    """Brings the files of a plan and their samples back."""

    name_ = "undo_file_removal"
    label = "IsoCLIP: Bring files back"
    description = "Undo a plan: files return to where they were, and samples to the dataset"
    risk = types.RiskLevel.MEDIUM
    tick = "Bring these files back"

    def __call__(
        self, samples: Any, plan: str, *, confirm: bool = False, delegate: bool = False
    ) -> Any:
        """Run it from Python on a dataset; -> FiftyOne's ExecutionResult."""
        return self.run(samples, {"plan": plan, "confirm": confirm}, delegate=delegate)

    def offers(self, plan: RemovalPlan) -> bool:
        """Whether a file of it is in the quarantine."""
        return count_taken(plan) > 0

    def tell(self, ctx: Context, inputs: types.Object, plan: RemovalPlan) -> None:
        """How many files come back."""
        explain(
            inputs,
            "writes",
            f"Moves {count_taken(plan)} files back to where they were, and their samples from the "
            f"dataset {ctx.dataset.name}-removed. Nothing is overwritten.",
        )

    def steps(self, ctx: Context) -> Steps[dict[str, Any]]:
        """Bring them back."""
        from fiftyone_isoclip.dataset import undo_file_removal

        plan = self.chosen(ctx)
        yield Step("Bringing files back")
        report = undo_file_removal(plan)
        left = report.left
        return {"n_files": len(report.restored), "left": len(left), "reasons": some(left)}

    def reveal(self, ctx: Context, result: dict[str, Any]) -> Iterator[Any]:
        """Show the samples again."""
        yield ctx.ops.reload_dataset()
        variant = "warning" if result["left"] else "success"
        yield ctx.ops.notify(f"{result['n_files']} files are back", variant=variant)

    def describe(self, result: dict[str, Any]) -> types.Object:
        """Counts, and why files are not back."""
        outputs = types.Object()
        outputs.int("n_files", label="Files that are back")
        outputs.int("left", label="Not brought back")
        list_reasons(outputs, result.get("reasons", {}))
        return outputs
