"""The operator that fits the centre which centred bands compare from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fiftyone.operators.types as types

from fiftyone_isoclip.app.forms import (
    Context,
    check,
    choose_field,
    explain,
    has_images,
    target_samples,
)
from fiftyone_isoclip.app.operator import SteppedOperator
from fiftyone_isoclip.app.steps import Step, Steps
from fiftyone_isoclip.dataset.centres import check_fit
from fiftyone_isoclip.dataset.fields import DEFAULT_FIELD


class FitCentre(SteppedOperator):
    """Stores the mean of embeddings as what centred bands compare from."""

    name_ = "fit_centre"
    label = "IsoCLIP: Fit a centre"
    description = "Store the mean of embeddings, from which bands such as 150/50-centred compare"

    def __call__(
        self,
        samples: Any,
        *,
        field: str = DEFAULT_FIELD,
        overwrite: bool = False,
        delegate: bool = False,
    ) -> Any:
        """Run it from Python on a dataset or view; -> FiftyOne's ExecutionResult."""
        return self.run(samples, {"field": field, "overwrite": overwrite}, delegate=delegate)

    def fill_form(self, ctx: Context, inputs: types.Object) -> None:
        """The form."""
        if not has_images(inputs, target_samples(ctx)):
            return
        field = choose_field(inputs, ctx)
        if field is None:
            return
        wanted = bool(ctx.params.get("overwrite"))
        overwrite = inputs.bool(
            "overwrite", label="Put it in the place of the centre that is there", default=False
        )
        check(overwrite, lambda: check_fit(ctx.dataset, field, wanted))
        explain(
            inputs,
            "writes",
            f"Writes a note on the field {field}, nothing on the samples. Images that come later "
            "do not move the centre. To undo, fit another one: what was compared from the one "
            "before is then stale, and its indexes have to be built again.",
        )

    def steps(self, ctx: Context) -> Steps[dict[str, Any]]:
        """Fit the centre."""
        from fiftyone_isoclip.dataset import fit_centre

        field = ctx.params["field"]
        yield Step(f"Averaging the embeddings in {field}")
        centre = fit_centre(target_samples(ctx), field, overwrite=bool(ctx.params.get("overwrite")))
        return {"field": field, "images": centre.n, "centre": centre.digest}

    def reveal(self, ctx: Context, result: dict[str, Any]) -> Iterator[Any]:
        """Say of how many images it is."""
        yield ctx.ops.reload_dataset()
        told = f"{result['field']} has a centre of {result['images']} images for centred bands"
        yield ctx.ops.notify(told, variant="success")

    def describe(self, result: dict[str, Any]) -> types.Object:
        """Of how many images it is, and how to tell it from another one."""
        outputs = types.Object()
        outputs.str("field", label="Embeddings")
        outputs.int("images", label="Images it is the mean of")
        outputs.str("centre", label="Centre")
        return outputs
