"""The operators on runs: delete one, rename one, bring one up to date."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import fiftyone as fo
import fiftyone.operators.types as types

from fiftyone_isoclip.app.forms import Context, check, explain, refuse
from fiftyone_isoclip.app.operator import SteppedOperator
from fiftyone_isoclip.app.run_forms import (
    NO_RUNS,
    brain_choices,
    choose_run,
    count_fields,
    describe_counts,
    run_choices,
    stale_choices,
    view_asks_for,
)
from fiftyone_isoclip.app.steps import Step, Steps, by_bar, follow
from fiftyone_isoclip.dataset.brain_runs import (
    delete_brain_run,
    is_index,
    list_brain_runs,
    need_index,
)
from fiftyone_isoclip.dataset.fields import check_key
from fiftyone_isoclip.dataset.locks import hold
from fiftyone_isoclip.dataset.runs import delete_run, load_run, rename_run
from fiftyone_isoclip.dataset.staleness import find_staleness
from fiftyone_isoclip.errors import DatasetError

if TYPE_CHECKING:
    from fiftyone_isoclip.dataset.similarity_refresh import RefreshReport


class DeleteRun(SteppedOperator):
    """Deletes a run with all it wrote, or an index or map; images and embeddings stay."""

    name_ = "delete_run"
    label = "IsoCLIP: Delete a run"
    description = "Undo a search for duplicates, leaks or clusters, or delete an index or a map"
    risk = types.RiskLevel.HIGH

    def __call__(
        self, samples: Any, key: str, *, confirm: bool = False, delegate: bool = False
    ) -> Any:
        """Run it from Python on a dataset; of a run and an index of one name it is the run."""
        return self.run(samples, {"key": key, "confirm": confirm}, delegate=delegate)

    def fill_form(self, ctx: Context, inputs: types.Object) -> None:
        """The form."""
        choices = brain_choices(ctx.dataset) | run_choices(ctx.dataset)
        if not choices:
            refuse(inputs, NO_RUNS)
            return
        chosen = choose_run(inputs, ctx, choices)
        if chosen is None:
            return
        explain(inputs, "writes", _loss(ctx.dataset, chosen))
        sure = inputs.bool("confirm", label=f"Delete {chosen}", default=False, required=True)
        if not ctx.params.get("confirm"):
            sure.invalid, sure.error_message = True, "Tick this to delete it"

    def steps(self, ctx: Context) -> Steps[dict[str, Any]]:
        """Delete it."""
        dataset, key = ctx.dataset, ctx.params["key"]
        if not ctx.params.get("confirm"):
            raise DatasetError(f"{key!r} was not deleted: confirm=True says that it may be")
        yield Step(f"Deleting {key}")
        if key in run_choices(dataset):
            run = load_run(dataset, key)
            delete_run(dataset, key)
            return {"key": key, "kind": run.method, "fields": list(run.fields)}
        kinds = {run.key: run.what for run in list_brain_runs(dataset)}
        if key not in kinds:
            raise DatasetError(f"dataset {dataset.name!r} has no run, index or map {key!r}")
        with hold(dataset, key):
            delete_brain_run(dataset, key)
        return {"key": key, "kind": kinds[key], "fields": []}

    def reveal(self, ctx: Context, result: dict[str, Any]) -> Iterator[Any]:
        """Leave a view that asks for fields which are gone."""
        if view_asks_for(ctx, result["fields"]):
            yield ctx.ops.clear_view()
        yield ctx.ops.reload_dataset()
        yield ctx.ops.notify(f"{result['key']} is deleted", variant="success")

    def describe(self, result: dict[str, Any]) -> types.Object:
        """What is gone."""
        outputs = types.Object()
        outputs.str("key", label="Deleted")
        outputs.str("kind", label="It held")
        outputs.list("fields", types.String(), label="Fields that went with it")
        return outputs


class RenameRun(SteppedOperator):
    """Renames a run together with its fields and its saved view."""

    name_ = "rename_run"
    label = "IsoCLIP: Rename a run"
    description = "Give a run, its fields and its saved view another name"

    def __call__(self, samples: Any, key: str, new_key: str, *, delegate: bool = False) -> Any:
        """Run it from Python on a dataset; -> FiftyOne's ExecutionResult."""
        return self.run(samples, {"key": key, "new_key": new_key}, delegate=delegate)

    def fill_form(self, ctx: Context, inputs: types.Object) -> None:
        """The form."""
        choices = run_choices(ctx.dataset)
        if not choices:
            refuse(inputs, NO_RUNS)
            return
        chosen = choose_run(inputs, ctx, choices)
        new_key = inputs.str("new_key", label="New name", required=True)
        asked = ctx.params.get("new_key")
        if asked:
            check(new_key, lambda: _check_new(ctx.dataset, asked))
        if chosen is not None:
            explain(
                inputs,
                "writes",
                f"Renames the run {chosen}, its {count_fields(load_run(ctx.dataset, chosen))} "
                "and its saved view. To undo, rename it back.",
            )

    def steps(self, ctx: Context) -> Steps[dict[str, Any]]:
        """Rename it."""
        dataset, key, new_key = ctx.dataset, ctx.params["key"], ctx.params["new_key"]
        before = load_run(dataset, key).fields
        yield Step(f"Renaming {key}")
        rename_run(dataset, key, new_key)
        after = load_run(dataset, new_key).fields
        return {"key": new_key, "was": key, "fields": list(after), "fields_were": list(before)}

    def reveal(self, ctx: Context, result: dict[str, Any]) -> Iterator[Any]:
        """Leave a view that asks for the fields under their old names."""
        if view_asks_for(ctx, result["fields_were"]):
            yield ctx.ops.clear_view()
        yield ctx.ops.reload_dataset()
        yield ctx.ops.notify(f"{result['was']} is now {result['key']}", variant="success")

    def describe(self, result: dict[str, Any]) -> types.Object:
        """The new names."""
        outputs = types.Object()
        outputs.str("key", label="Run and saved view")
        outputs.list("fields", types.String(), label="Fields")
        return outputs


class Rerun(SteppedOperator):
    """Embeds what is new or changed in a run's view, and asks the same again."""

    name_ = "rerun"
    label = "IsoCLIP: Bring a run up to date"
    description = "Embed what is new or changed since a run, and find the same again"
    risk = types.RiskLevel.HIGH  # the earlier result, and names given to clusters, are gone

    def __call__(self, samples: Any, key: str, *, delegate: bool = False) -> Any:
        """Run it from Python on a dataset; -> FiftyOne's ExecutionResult."""
        return self.run(samples, {"key": key}, delegate=delegate)

    def fill_form(self, ctx: Context, inputs: types.Object) -> None:
        """The form."""
        choices = stale_choices(ctx.dataset)
        if not choices:
            refuse(inputs, NO_RUNS)
            return
        chosen = choose_run(inputs, ctx, choices)
        if chosen is not None and not ctx.dataset.has_run(chosen):
            _explain_index(ctx.dataset, chosen, inputs)
        elif chosen is not None:
            run = load_run(ctx.dataset, chosen)
            explain(inputs, "found", f"Since the run: {find_staleness(ctx.dataset, run)}.")
            explain(
                inputs,
                "writes",
                "New and changed images of the run's view are embedded; whether files changed is "
                f"seen when it runs. Then its {count_fields(run)}, its saved view and what it "
                "remembers are replaced"
                + (", also names given to clusters" if run.method == "clusters" else "")
                + "; the earlier result cannot be brought back. What you said of duplicates, tags "
                "and files stay.",
            )

    def steps(self, ctx: Context) -> Steps[dict[str, Any]]:
        """See what changed, embed it, and find the same again."""
        from fiftyone_isoclip.dataset.reruns import find_again, refresh_embeddings
        from fiftyone_isoclip.dataset.similarity_refresh import refresh_similarity

        dataset, key = ctx.dataset, ctx.params["key"]
        if not dataset.has_run(key) and is_index(dataset, key):
            report = yield from follow(
                "Embedding, and copying into the index",
                lambda tell: refresh_similarity(dataset, key, progress=by_bar(tell)),
            )
            return _told(report)
        run = load_run(dataset, key)
        yield Step("Looking for what changed")
        stale = find_staleness(dataset, run, thorough=True)
        embedded = yield from follow(
            "Embedding", lambda tell: refresh_embeddings(dataset, run, progress=by_bar(tell))
        )
        yield Step(f"Finding {run.method} again")
        now = find_again(dataset, run)
        return {
            "key": run.key,
            "since": str(stale),
            "computed": 0 if embedded is None else embedded.computed,
            "n_failed": 0 if embedded is None else len(embedded.failed),
            "counts": dict(now.counts),
            "found": describe_counts(now),
        }

    def reveal(self, ctx: Context, result: dict[str, Any]) -> Iterator[Any]:
        """Show the new values."""
        yield ctx.ops.reload_dataset()
        told = f"{result['key']} is up to date: {result['found']}"
        yield ctx.ops.notify(told, variant="warning" if result["n_failed"] else "success")

    def describe(self, result: dict[str, Any]) -> types.Object:
        """What had changed, and what is found now."""
        outputs = types.Object()
        outputs.str("since", label="Since the earlier run")
        outputs.int("computed", label="Embeddings computed")
        outputs.int("n_failed", label="Images that failed")
        outputs.str("found", label="Found now")
        outputs.str("key", label="Saved view and run")
        return outputs


def _explain_index(dataset: fo.Dataset, key: str, inputs: types.Object) -> None:
    from fiftyone_isoclip.dataset.similarity_refresh import find_index_staleness

    index = need_index(dataset, key)
    explain(inputs, "found", f"Since it was filled: {find_index_staleness(dataset, index)}.")
    explain(
        inputs,
        "writes",
        f"New and changed images are embedded; then the tables in {index.backend} hold what the "
        f"field {index.field} holds. What they held before cannot be brought back.",
    )


def _told(report: RefreshReport) -> dict[str, Any]:
    embedded = report.embedded
    return {
        "key": report.key,
        "since": str(report.stale),
        "computed": 0 if embedded is None else embedded.computed,
        "n_failed": 0 if embedded is None else len(embedded.failed),
        "counts": {"vectors": report.vectors},
        "found": f"{report.vectors} vectors",
    }


def _loss(dataset: fo.Dataset, key: str) -> str:
    if not dataset.has_run(key):
        found = next(run for run in list_brain_runs(dataset) if run.key == key)
        tables = f", and its tables in {found.backend}" if found.in_database else ""
        return (
            f"Deletes {key} from the lists of the App's panels{tables}. Embeddings, tags and files "
            "stay. It cannot be brought back, only made again."
        )
    fields = ", ".join(load_run(dataset, key).fields) or "none"
    return (
        f"Deletes the run {key}, its fields ({fields}) and the saved view {key}. Images, "
        "embeddings, tags, what you said of duplicates, and files stay. It cannot be brought "
        "back, only found again."
    )


def _check_new(dataset: fo.Dataset, key: str) -> None:
    check_key(key)
    if dataset.has_run(key):
        raise DatasetError(f"There is a run {key!r} already")
