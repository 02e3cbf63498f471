"""The operator that finds near-duplicates and shows them in groups."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fiftyone as fo
import fiftyone.operators.types as types

from fiftyone_isoclip.app.forms import (
    Context,
    check,
    choose_band,
    explain,
    has_images,
    parse_band,
    plain_fields,
    refuse,
    target_samples,
)
from fiftyone_isoclip.app.operator import SteppedOperator
from fiftyone_isoclip.app.steps import Step, Steps
from fiftyone_isoclip.dataset import DEFAULT_KEEPER_RULE, DEFAULT_SIMILARITY, KEEPER_RULES
from fiftyone_isoclip.dataset.fields import DEFAULT_FIELD, need_origin
from fiftyone_isoclip.dataset.groups import DEFAULT_KEY, METHOD, field_names, groups_view
from fiftyone_isoclip.dataset.runs import check_free

RULES = {
    "largest": "the largest",
    "sharpest": "the sharpest",
    "earliest": "the earliest",
    "most_labels": "the one with most labels",
}
OFFERED_TAGS = 20


class FindNearDuplicates(SteppedOperator):
    """Groups images that show the same picture, and says which of each group to keep."""

    name_ = "find_near_duplicates"
    label = "IsoCLIP: Find near-duplicates"
    description = "Group images that show the same picture; nothing is deleted"

    def __call__(
        self,
        samples: Any,
        *,
        field: str = DEFAULT_FIELD,
        similarity: float = DEFAULT_SIMILARITY,
        band: str | None = None,
        prefer: str = DEFAULT_KEEPER_RULE,
        key: str = DEFAULT_KEY,
        delegate: bool = False,
    ) -> Any:
        """Run it from Python on a dataset or view; -> FiftyOne's ExecutionResult."""
        params = {"field": field, "similarity": similarity, "prefer": prefer, "key": key}
        return self.run(samples, params | {"band": band}, delegate=delegate)

    def resolve_input(self, ctx: Context) -> types.Property:
        """The form."""
        inputs = types.Object()
        form = types.Property(inputs, view=types.View(label=self.label))
        if not has_images(inputs, target_samples(ctx)):
            return form
        fields = plain_fields(ctx.dataset)
        if not fields:
            refuse(
                inputs,
                f"Dataset {ctx.dataset.name!r} has no embeddings yet; "
                "run the operator IsoCLIP: Compute embeddings first",
            )
            return form
        default = DEFAULT_FIELD if DEFAULT_FIELD in fields else fields[0]
        inputs.enum("field", fields, label="Embeddings", default=default, required=True)
        inputs.float(
            "similarity",
            label="Similarity from which images are duplicates",
            description="A cosine: 1 is identical; lower finds more, and more that only look alike",
            min=-1,
            max=1,
            default=DEFAULT_SIMILARITY,
            required=True,
        )
        _choose_rule(inputs, ctx.dataset)
        chosen = ctx.params.get("field") or default
        choose_band(inputs, ctx, need_origin(ctx.dataset, chosen if chosen in fields else default))
        _name_result(inputs, ctx)
        return form

    def steps(self, ctx: Context) -> Steps[dict[str, Any]]:
        """Compare all pairs and save the groups."""
        from fiftyone_isoclip.dataset import find_duplicates

        params = ctx.params
        yield Step("Comparing all pairs of images")
        report = find_duplicates(
            target_samples(ctx),
            field=params["field"],
            similarity=params["similarity"],
            band=parse_band(params.get("band")),
            prefer=params["prefer"],
            key=params["key"],
        )
        return {
            "key": report.key,
            "groups": len(report.groups),
            "images": sum(1 + len(group.copies) for group in report.groups),
            "duplicates": report.n_duplicates,
            "exact": report.n_exact,
            "aliases": len(report.aliases),
            "bytes_freed": report.bytes_freed,
            "compared": report.n_compared,
            "skipped": report.n_skipped,
            "similarity": report.similarity,
            "band": report.band,
        }

    def reveal(self, ctx: Context, result: dict[str, Any]) -> Iterator[Any]:
        """Show the groups in the grid."""
        yield ctx.ops.reload_dataset()
        if not result["groups"]:
            told = f"No two of {result['compared']} images are as similar as {result['similarity']}"
            yield ctx.ops.notify(told, variant="info")
            return
        ctx.dataset.reload()
        # Beware: by its name the App does not find a view that was saved after the page was loaded.
        yield ctx.ops.set_view(groups_view(ctx.dataset, result["key"]))
        told = f"{result['groups']} groups of {result['images']} images; {result['duplicates']}"
        yield ctx.ops.notify(f"{told} of them could go, none was deleted", variant="success")

    def describe(self, result: dict[str, Any]) -> types.Object:
        """Counts, and how the result is undone."""
        outputs = types.Object()
        outputs.int("groups", label="Groups")
        outputs.int("images", label="Images in groups")
        outputs.int("duplicates", label="Images that could go")
        outputs.int("exact", label="of these, byte-identical")
        outputs.int("aliases", label="Samples that share a file with another")
        outputs.int("compared", label="Images compared")
        outputs.int("skipped", label="Images that could not be compared")
        outputs.str("band", label="Band")
        outputs.str("key", label="Saved view and run")
        return outputs


def _choose_rule(inputs: types.Object, dataset: fo.Dataset) -> None:
    rules = types.DropdownView()
    for rule in KEEPER_RULES:
        if rule in RULES:
            rules.add_choice(rule, label=f"Keep {RULES[rule]}")
    for tag in dataset.distinct("tags")[:OFFERED_TAGS]:
        rules.add_choice(f"tag:{tag}", label=f"Keep one with the tag {tag}")
    label = "Which of a group to keep"
    inputs.str("prefer", label=label, default=DEFAULT_KEEPER_RULE, required=True, view=rules)


def _name_result(inputs: types.Object, ctx: Context) -> None:
    asked = ctx.params.get("key") or DEFAULT_KEY
    key = inputs.str("key", label="Name of the result", default=DEFAULT_KEY, required=True)
    check(key, lambda: check_free(ctx.dataset, asked, METHOD, tuple(field_names(asked).values())))
    replaced = " It replaces the earlier result of that name." if ctx.dataset.has_run(asked) else ""
    explain(
        inputs,
        "writes",
        f"Writes the fields {asked}_group, _rank, _role, _kind, _similarity, _least_similarity and "
        f"_reason, the saved view {asked} and a run.{replaced} No sample or file is deleted. "
        f'To undo, in Python: dataset.delete_run("{asked}").',
    )
