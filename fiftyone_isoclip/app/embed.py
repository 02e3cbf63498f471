"""The operator that computes and stores plain CLIP embeddings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from typing import Any, Literal

import fiftyone.operators.types as types

from fiftyone_isoclip.app.cost import tell_cost
from fiftyone_isoclip.app.forms import (
    Context,
    check,
    choose_model,
    explain,
    has_images,
    target_samples,
)
from fiftyone_isoclip.app.operator import SteppedOperator
from fiftyone_isoclip.app.steps import Step, Steps, by_bar, follow
from fiftyone_isoclip.dataset.fields import DEFAULT_FIELD, check_key, read_origin
from fiftyone_isoclip.encoder.checkpoints import DEMO_NAME
from fiftyone_isoclip.errors import DatasetError

Keeping = Literal["as_is", "on_samples", "in_files"]

KEEPING: dict[Keeping, str] = {
    "as_is": "Where they are; those of a new field on the samples",
    "on_samples": "On the samples, for all that FiftyOne does with vectors",
    "in_files": "In files alone, which keeps the database small",
}
ON_SAMPLES: dict[Keeping, bool | None] = {"as_is": None, "on_samples": True, "in_files": False}

SHOWN_FAILURES = 20


class ComputeEmbeddings(SteppedOperator):
    """Computes embeddings of new and changed images, and an index for the magnifier if wanted."""

    name_ = "compute_embeddings"
    label = "IsoCLIP: Compute embeddings"
    description = "Store CLIP embeddings of images: all else of IsoCLIP starts from them"

    def __call__(
        self,
        samples: Any,
        *,
        model: str = DEMO_NAME,
        field: str = DEFAULT_FIELD,
        overwrite: bool = False,
        keep: Keeping = "as_is",
        batch_size: int | None = None,
        brain_key: str | None = None,
        delegate: bool = False,
    ) -> Any:
        """Run it from Python on a dataset or view; -> FiftyOne's ExecutionResult."""
        params = {
            "model": model,
            "field": field,
            "overwrite": overwrite,
            "keep": keep,
            "batch_size": batch_size,
            "brain_key": brain_key,
        }
        return self.run(samples, params, delegate=delegate)

    def fill_form(self, ctx: Context, inputs: types.Object) -> None:
        """The form."""
        samples = target_samples(ctx)
        if not has_images(inputs, samples):
            return
        field_name = ctx.params.get("field") or DEFAULT_FIELD
        origin = read_origin(ctx.dataset, field_name)
        choose_model(inputs, ctx, origin.checkpoint if origin else DEMO_NAME)
        field = inputs.str("field", label="Field", default=DEFAULT_FIELD, required=True)
        check(field, lambda: check_key(field_name))
        inputs.bool(
            "overwrite",
            label="Compute again what is up to date",
            description=f"The field holds {origin}." if origin else None,
            default=False,
        )
        kept = types.DropdownView()
        for value, shown in KEEPING.items():
            kept.add_choice(value, label=shown)
        label = "Where the vectors are kept"
        inputs.str("keep", label=label, default="as_is", required=True, view=kept)
        inputs.int(
            "batch_size",
            label="Images at a time (optional)",
            description="Fewer need less memory; empty leaves it to the device",
            min=1,
        )
        key = inputs.str(
            "brain_key",
            label="Similarity index (optional)",
            description="A name such as isoclip_search: the magnifier and the Similarity Search "
            "panel can then search the dataset by image and by text",
        )
        if asked := ctx.params.get("brain_key"):
            check(key, lambda: check_key(asked))
            check(key, lambda: _check_kept(ctx.params.get("keep")))
        explain(inputs, "cost", tell_cost(ctx, samples))
        explain(
            inputs,
            "writes",
            f"Writes the fields {field_name}, {field_name}_source and, where an image cannot be "
            f"read, {field_name}_error. No file is changed. To undo, delete these fields"
            + (f" and the brain run {asked}." if asked else "."),
        )

    def steps(self, ctx: Context) -> Steps[dict[str, Any]]:
        """Load the model, embed, and build the index."""
        from fiftyone_isoclip.dataset import build_similarity, embed, load_model

        name, field = ctx.params["model"], ctx.params["field"]
        overwrite, brain_key = ctx.params.get("overwrite", False), ctx.params.get("brain_key")
        samples = target_samples(ctx)
        yield Step(f"Loading {name}")
        model = load_model(name)
        report = yield from follow(
            "Embedding",
            lambda tell: embed(
                samples,
                model,
                field,
                overwrite=overwrite,
                on_samples=ON_SAMPLES[ctx.params.get("keep", "as_is")],
                batch_size=ctx.params.get("batch_size"),
                progress=by_bar(tell),
            ),
        )
        if brain_key:
            yield Step(f"Building the similarity index {brain_key}")
            build_similarity(samples, model, brain_key=brain_key, field=field)
        seconds = round(report.seconds, 1)
        # All of them are on the samples; a result has to fit into a document of the queue.
        failed = dict(islice(report.failed.items(), SHOWN_FAILURES))
        return {
            **asdict(report),
            "seconds": seconds,
            "failed": failed,
            "n_failed": len(report.failed),
            "brain_key": brain_key,
        }

    def reveal(self, ctx: Context, result: dict[str, Any]) -> Iterator[Any]:
        """Show the new fields, and say how many images have them."""
        yield ctx.ops.reload_dataset()
        failed = result["n_failed"]
        told = f"{result['computed']} embeddings computed, {result['kept']} were up to date"
        variant = "warning" if failed else "success"
        yield ctx.ops.notify(f"{told}, {failed} images failed" if failed else told, variant=variant)

    def describe(self, result: dict[str, Any]) -> types.Object:
        """Counts, and the reasons of the first failures."""
        outputs = types.Object()
        outputs.str("field", label="Field")
        outputs.int("computed", label="Embeddings computed")
        outputs.int("kept", label="Up to date already")
        outputs.int("n_failed", label="Images that failed")
        outputs.float("seconds", label="Seconds")
        outputs.str("device", label="Device")
        if result.get("brain_key"):
            outputs.str("brain_key", label="Similarity index")
        if failed := result.get("failed"):
            shown = [f"- {id_}: {why}" for id_, why in failed.items()]
            left = result["n_failed"] - len(failed)
            more = f"\n\nand {left} more" if left else ""
            reasons = f"Why they failed, by sample id (field {result['field']}_error):\n\n"
            outputs.md(reasons + "\n".join(shown) + more, name="reasons")
        return outputs


def _check_kept(keep: str | None) -> None:
    if keep == "in_files":
        raise DatasetError("an index reads the vectors from the samples; keep them there")
