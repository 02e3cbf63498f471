"""The operator that compares plain CLIP with an IsoCLIP band on the samples at hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import fiftyone.operators.types as types

from fiftyone_isoclip.app.forms import (
    Context,
    choose_band,
    choose_field,
    choose_labels,
    has_images,
    parse_band,
    refuse,
    target_samples,
)
from fiftyone_isoclip.app.operator import SteppedOperator
from fiftyone_isoclip.app.run_forms import name_result
from fiftyone_isoclip.app.steps import Step, Steps, by_bar, follow
from fiftyone_isoclip.dataset.comparison_reports import (
    DEFAULT_KEY,
    DEFAULT_NEIGHBORS,
    METHOD,
    comparison_view,
    overlap_field,
)
from fiftyone_isoclip.dataset.fields import DEFAULT_FIELD, need_origin


class CompareWithClip(SteppedOperator):
    """Says how far the neighbours in a band are those of plain CLIP, and which have like labels."""

    name_ = "compare_with_clip"
    label = "IsoCLIP: Compare with plain CLIP"
    description = "See on your own images whether a band finds better neighbours than plain CLIP"

    def __call__(
        self,
        samples: Any,
        *,
        field: str = DEFAULT_FIELD,
        band: str | None = None,
        k: int = DEFAULT_NEIGHBORS,
        label_field: str | None = None,
        key: str = DEFAULT_KEY,
        delegate: bool = False,
    ) -> Any:
        """Run it from Python on a dataset or view; -> FiftyOne's ExecutionResult."""
        params = {"field": field, "band": band, "k": k, "label_field": label_field, "key": key}
        return self.run(samples, params, delegate=delegate)

    def fill_form(self, ctx: Context, inputs: types.Object) -> None:
        """The form."""
        if not has_images(inputs, target_samples(ctx)):
            return
        field = choose_field(inputs, ctx)
        if field is None:
            return
        origin = need_origin(ctx.dataset, field)
        if origin.band is not None:
            refuse(inputs, f"{field} holds {origin}; choose a field of plain embeddings")
            return
        choose_band(inputs, ctx, origin)
        inputs.int(
            "k",
            label="Neighbours of each image",
            default=DEFAULT_NEIGHBORS,
            min=1,
            required=True,
        )
        choose_labels(
            inputs,
            ctx.dataset,
            "Which space has more neighbours with the image's own label is then told too",
            required=False,
        )
        name_result(inputs, ctx, DEFAULT_KEY, METHOD, lambda key: (overlap_field(key),))

    def steps(self, ctx: Context) -> Steps[dict[str, Any]]:
        """Find the neighbours in the spaces and save how far they agree."""
        from fiftyone_isoclip.dataset import compare_with_clip

        params, samples = ctx.params, target_samples(ctx)
        yield Step("Reading the embeddings")
        report = yield from follow(
            "Finding neighbours",
            lambda tell: compare_with_clip(
                samples,
                field=params["field"],
                band=parse_band(params.get("band")),
                k=params["k"],
                label_field=params.get("label_field"),
                key=params["key"],
                progress=by_bar(tell),
            ),
        )
        return {
            "key": report.key,
            "report": str(report),
            "checkpoint": report.checkpoint,
            "band": report.band,
            "k": report.k,
            "compared": report.n_compared,
            "skipped": report.n_skipped,
            "queries": report.queries,
            "overlap": report.overlap,
            "precision": None if report.precision is None else asdict(report.precision),
        }

    def reveal(self, ctx: Context, result: dict[str, Any]) -> Iterator[Any]:
        """Show in the grid where the spaces have least in common."""
        yield ctx.ops.reload_dataset()
        ctx.dataset.reload()
        # Beware: by its name the App does not find a view that was saved after the page was loaded.
        yield ctx.ops.set_view(comparison_view(ctx.dataset, result["key"]))
        told = f"{result['overlap']:.0%} of the neighbours are the same in both spaces"
        yield ctx.ops.notify(f"{told}; where fewest are comes first", variant="success")

    def describe(self, result: dict[str, Any]) -> types.Object:
        """The verdict and the numbers it rests on."""
        outputs = types.Object()
        outputs.md(result.get("report", ""), name="told")
        outputs.int("queries", label="Images asked about")
        outputs.int("compared", label="Images compared")
        outputs.int("skipped", label="Images that could not be compared")
        outputs.str("key", label="Saved view and run")
        return outputs
