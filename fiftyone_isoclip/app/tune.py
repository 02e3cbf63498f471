"""The operator that finds the band which suits the samples at hand, or says to keep plain CLIP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fiftyone.operators.types as types

from fiftyone_isoclip.app.forms import (
    Context,
    check,
    choose_field,
    choose_labels,
    explain,
    has_images,
    refuse,
    target_samples,
)
from fiftyone_isoclip.app.operator import SteppedOperator
from fiftyone_isoclip.app.steps import Step, Steps, by_bar, follow
from fiftyone_isoclip.dataset.fields import DEFAULT_FIELD, need_origin
from fiftyone_isoclip.dataset.runs import check_free
from fiftyone_isoclip.dataset.tuning_reports import DEFAULT_KEY, METHOD, check_ways

_SHOWN = 10
"""Rows and columns of the map in the result's form: more do not fit beside each other."""


class TuneBand(SteppedOperator):
    """Says which band finds images of one kind best, and whether that can be told."""

    name_ = "tune_band"
    label = "IsoCLIP: Tune the band"
    description = "Find the band that suits your images, or that plain CLIP is to be kept"

    def __call__(
        self,
        samples: Any,
        *,
        field: str = DEFAULT_FIELD,
        label_field: str | None = None,
        words: str | None = None,
        copies: bool = False,
        key: str = DEFAULT_KEY,
        delegate: bool = False,
    ) -> Any:
        """Run it from Python on a dataset or view; -> FiftyOne's ExecutionResult."""
        params = {
            "field": field,
            "label_field": label_field,
            "words": words,
            "copies": copies,
            "key": key,
        }
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
        told = "Images with the same label belong together"
        choose_labels(inputs, ctx.dataset, told, required=False)
        inputs.str(
            "words",
            label="Or words, separated by commas",
            description="Without labels: each image is taken for the word that the model finds "
            "most similar",
        )
        copies = inputs.bool(
            "copies",
            label="Or edited copies",
            description="Without labels: some images are edited in memory, and an image and its "
            "copies belong together; this embeds about a thousand pictures",
            default=False,
        )
        check(
            copies,
            lambda: check_ways(
                ctx.params.get("label_field"),
                _split(ctx.params.get("words")),
                bool(ctx.params.get("copies")),
            ),
        )
        asked = ctx.params.get("key") or DEFAULT_KEY
        key = inputs.str("key", label="Name of the result", default=DEFAULT_KEY, required=True)
        check(key, lambda: check_free(ctx.dataset, asked, METHOD, ()))
        explain(
            inputs,
            "writes",
            f"Writes the saved view {asked} and a run; nothing on the samples, and no default "
            "changes: type the band into other forms. To undo, delete the run (panel IsoCLIP, tab "
            "Runs).",
        )

    def steps(self, ctx: Context) -> Steps[dict[str, Any]]:
        """Score every band on one half, and the best on the other."""
        from fiftyone_isoclip.dataset import tune_band

        params, samples = ctx.params, target_samples(ctx)
        yield Step("Reading the embeddings")
        report = yield from follow(
            "Scoring bands",
            lambda tell: tune_band(
                samples,
                field=params["field"],
                label_field=params.get("label_field") or None,
                words=_split(params.get("words")),
                copies=bool(params.get("copies")),
                key=params["key"],
                progress=by_bar(tell),
            ),
        )
        return {
            "key": report.key,
            "report": str(report),
            "verdict": report.verdict,
            "recommended": str(report.recommended),
            "compared": report.n_compared,
            "skipped": report.n_skipped,
            "results": dict(report.results),
        }

    def reveal(self, ctx: Context, result: dict[str, Any]) -> Iterator[Any]:
        """Tell the verdict; the grid stays as it is."""
        yield ctx.ops.reload_dataset()
        yield ctx.ops.notify(result["verdict"], variant="info")

    def describe(self, result: dict[str, Any]) -> types.Object:
        """The verdict, the band to type into other forms, and the figures it rests on."""
        outputs = types.Object()
        outputs.md(result.get("report", ""), name="told")
        outputs.str(
            "recommended",
            label="Band for other forms (0/0 is plain CLIP)",
            description="One that ends in -centred is taken after IsoCLIP: Fit a centre",
        )
        if results := result.get("results"):
            outputs.md(_held_out(results), name="held_out")
            for place, plane in enumerate(results["planes"]):
                outputs.md(_map(plane), name=f"map{place}")
        outputs.int("compared", label="Images compared")
        outputs.int("skipped", label="Images that could not be compared")
        outputs.str("key", label="Saved view and run")
        return outputs


def _split(words: str | None) -> list[str] | None:
    """Words separated by commas or lines; None of no text."""
    return (words or "").replace("\n", ",").split(",") if (words or "").strip() else None


def _held_out(results: dict[str, Any]) -> str:
    """The figures of the images held out, as Markdown."""
    rows = [
        f"| {name} | {found['mean']:.3f} [{found['low']:.3f}, {found['high']:.3f}] |"
        for name, found in results["held_out"].items()
    ]
    return "\n".join(["| images held out | mAP |", "|---|---|", *rows])


def _map(plane: dict[str, Any]) -> str:
    """A tenth or so of the bands of a plane as a table: rows drop at the top, columns below."""
    drops, scores = plane["drops"], plane["scores"]
    shown = range(0, len(drops), -(-len(drops) // _SHOWN))
    rows = [
        f"| **{drops[top]}** | "
        + " | ".join("" if scores[top][at] is None else f"{scores[top][at]:.3f}" for at in shown)
        + " |"
        for top in shown
    ]
    kind = "centred bands" if plane["centred"] else "bands"
    return "\n".join(
        [
            f"mAP of {kind} on the images to choose on; best: {plane['best']}",
            "",
            f"| top / bottom | {' | '.join(str(drops[at]) for at in shown)} |",
            "|---" * (len(shown) + 1) + "|",
            *rows,
        ]
    )
