"""The operator that measures retrieval by label in plain CLIP, in bands and in the baselines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fiftyone as fo
import fiftyone.operators.types as types

from fiftyone_isoclip.app.forms import (
    Context,
    check,
    choose_field,
    choose_labels,
    has_images,
    refuse,
    target_samples,
)
from fiftyone_isoclip.app.operator import SteppedOperator
from fiftyone_isoclip.app.run_forms import name_result
from fiftyone_isoclip.app.steps import Step, Steps, by_bar, follow
from fiftyone_isoclip.dataset.evaluation_reports import (
    DEFAULT_KEY,
    METHOD,
    evaluation_view,
    field_names,
)
from fiftyone_isoclip.dataset.fields import DEFAULT_FIELD, Origin, need_origin
from fiftyone_isoclip.encoder import find_checkpoint
from fiftyone_isoclip.projector import Band


class EvaluateRetrieval(SteppedOperator):
    """Says which method finds images of the same label best, and whether that can be told."""

    name_ = "evaluate_retrieval"
    label = "IsoCLIP: Evaluate retrieval"
    description = "Measure IsoCLIP beside plain CLIP and other baselines on your own labels"

    def __call__(
        self,
        samples: Any,
        label_field: str,
        *,
        field: str = DEFAULT_FIELD,
        bands: str | None = None,
        queries: str | None = None,
        inversion: bool = False,
        key: str = DEFAULT_KEY,
        delegate: bool = False,
    ) -> Any:
        """Run it from Python on a dataset or view; -> FiftyOne's ExecutionResult."""
        params = {
            "label_field": label_field,
            "field": field,
            "bands": bands,
            "queries": queries,
            "inversion": inversion,
            "key": key,
        }
        return self.run(samples, params, delegate=delegate)

    def fill_form(self, ctx: Context, inputs: types.Object) -> None:
        """The form."""
        samples = target_samples(ctx)
        if not has_images(inputs, samples):
            return
        field = choose_field(inputs, ctx)
        if field is None:
            return
        origin = need_origin(ctx.dataset, field)
        if origin.band is not None:
            refuse(inputs, f"{field} holds {origin}; choose a field of plain embeddings")
            return
        told = "What images have in common that should be found: a good method ranks them first"
        if not choose_labels(inputs, ctx.dataset, told, required=True):
            refuse(inputs, "There is no field of labels (Classification or text); label images")
            return
        _choose_bands(inputs, ctx, origin)
        _choose_queries(inputs, ctx.dataset, samples)
        inputs.bool(
            "inversion",
            label="Also search by inverted prompts (OTI)",
            description="The paper's baseline: each image is turned into a prompt, which takes "
            "seconds an image on a processor",
            default=False,
        )
        name_result(inputs, ctx, DEFAULT_KEY, METHOD, lambda key: field_names(key).values())

    def steps(self, ctx: Context) -> Steps[dict[str, Any]]:
        """Score every method on the same queries and save the average precision of each query."""
        from fiftyone_isoclip.dataset import evaluate

        params, samples = ctx.params, target_samples(ctx)
        yield Step("Reading the embeddings")
        report = yield from follow(
            "Scoring the methods",
            lambda tell: evaluate(
                samples,
                params["label_field"],
                field=params["field"],
                bands=_parse_bands(params.get("bands")),
                queries=params.get("queries"),
                inversion=params.get("inversion", False),
                key=params["key"],
                progress=by_bar(tell),
            ),
        )
        return {
            "key": report.key,
            "report": str(report),
            "verdict": report.verdict,
            "queries": report.n_queries,
            "compared": report.n_compared,
            "skipped": report.n_skipped,
            "unlabelled": report.n_unlabelled,
            "results": dict(report.results),
        }

    def reveal(self, ctx: Context, result: dict[str, Any]) -> Iterator[Any]:
        """Show in the grid which queries the band serves worst."""
        yield ctx.ops.reload_dataset()
        ctx.dataset.reload()
        # Beware: by its name the App does not find a view that was saved after the page was loaded.
        yield ctx.ops.set_view(evaluation_view(ctx.dataset, result["key"]))
        yield ctx.ops.notify(result["verdict"], variant="info")

    def describe(self, result: dict[str, Any]) -> types.Object:
        """The verdict and the numbers it rests on."""
        outputs = types.Object()
        outputs.md(result.get("report", ""), name="told")
        if results := result.get("results"):
            outputs.md(_table(results), name="methods")
        outputs.int("queries", label="Images asked about")
        outputs.int("compared", label="Images compared")
        outputs.int("skipped", label="Images left out")
        outputs.str("key", label="Saved view and run")
        return outputs


def _choose_bands(inputs: types.Object, ctx: Context, origin: Origin) -> None:
    own = find_checkpoint(origin.checkpoint).image_band or "worked out from its spectrum"
    bands = inputs.str(
        "bands",
        label="Bands (top/bottom directions left out), separated by commas",
        description=f"Empty: that of {origin.checkpoint}, {own}. Each is measured centred, too.",
    )
    if asked := ctx.params.get("bands"):
        check(bands, lambda: [band.count(origin.dim) for band in _parse_bands(asked) or []])


def _parse_bands(text: str | None) -> list[Band] | None:
    """Bands separated by commas; None, for the checkpoint's own, of no text."""
    named = [part for part in (text or "").split(",") if part.strip()]
    return [Band.parse(part) for part in named] or None


def _choose_queries(inputs: types.Object, dataset: fo.Dataset, samples: Any) -> None:
    view = types.DropdownView()
    for name in dict.fromkeys([*samples.count_sample_tags(), *dataset.list_saved_views()]):
        view.add_choice(name, label=name)
    inputs.str(
        "queries",
        label="Images to ask about (optional)",
        description="A tag or saved view, such as the test split: found are all other images. "
        "Empty: all ask, each for the others",
        view=view,
    )


def _table(results: dict[str, Any]) -> str:
    """Every method by every metric, the best first, as Markdown."""
    methods = results["methods"]
    metrics = list(methods[0]["metrics"])
    best = sorted(methods, key=lambda method: -method["metrics"][metrics[0]]["mean"])
    rows = [
        f"| {method['name']} | "
        + " | ".join(_told(found) for found in method["metrics"].values())
        + " |"
        for method in best
    ]
    head = f"| method | {' | '.join(metrics)} |"
    return "\n".join([head, "|---" * (len(metrics) + 1) + "|", *rows])


def _told(found: dict[str, float | None]) -> str:
    if found["mean"] is None:
        return "-"
    if found["low"] is None:
        return f"{found['mean']:.3f}"
    return f"{found['mean']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"
