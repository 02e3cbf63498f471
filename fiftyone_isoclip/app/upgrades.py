"""The operator that makes IsoCLIP embeddings of CLIP embeddings which a dataset has already."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import fiftyone as fo
import fiftyone.operators.types as types

from fiftyone_isoclip.app.forms import (
    Context,
    check,
    choose_model,
    explain,
    has_images,
    parse_band,
    plain_fields,
    refuse,
    target_samples,
)
from fiftyone_isoclip.app.operator import SteppedOperator
from fiftyone_isoclip.app.steps import Step, Steps
from fiftyone_isoclip.dataset.fields import DEFAULT_INTO, check_key
from fiftyone_isoclip.encoder.checkpoints import DEMO_NAME
from fiftyone_isoclip.errors import DatasetError
from fiftyone_isoclip.projector import Band


class UpgradeEmbeddings(SteppedOperator):
    """Registers CLIP embeddings that somebody else computed, and upgrades them."""

    name_ = "upgrade_embeddings"
    label = "IsoCLIP: Upgrade embeddings"
    description = "Use CLIP embeddings that the dataset has already, without reading the images"

    def __call__(
        self,
        samples: Any,
        field: str,
        model: str,
        *,
        into: str = DEFAULT_INTO,
        band: str | None = None,
        check_images: bool = True,
        delegate: bool = False,
    ) -> Any:
        """Run it from Python on a dataset or view; -> FiftyOne's ExecutionResult."""
        params = {"field": field, "model": model, "into": into, "band": band}
        return self.run(samples, params | {"check_images": check_images}, delegate=delegate)

    def fill_form(self, ctx: Context, inputs: types.Object) -> None:
        """The form."""
        if not has_images(inputs, target_samples(ctx)):
            return
        fields = _foreign_fields(ctx.dataset)
        if not fields:
            refuse(
                inputs,
                f"Dataset {ctx.dataset.name!r} has no field of vectors whose checkpoint is "
                "unknown; to make embeddings, run the operator IsoCLIP: Compute embeddings",
            )
            return
        inputs.enum("field", fields, label="Your vectors", default=fields[0], required=True)
        choose_model(inputs, ctx, DEMO_NAME)
        into_name = ctx.params.get("into") or DEFAULT_INTO
        into = inputs.str("into", label="New field", default=DEFAULT_INTO, required=True)
        check(into, lambda: _check_into(ctx.dataset, into_name))
        band = inputs.str(
            "band",
            label="Band (top/bottom directions left out)",
            description="Empty: that of the checkpoint. 0/0 is plain CLIP.",
        )
        if asked := ctx.params.get("band"):
            check(band, lambda: Band.parse(asked))
        inputs.bool(
            "check_images",
            label="Embed a few images again to see that this checkpoint made the vectors",
            default=True,
        )
        chosen = ctx.params.get("field") or fields[0]
        explain(
            inputs,
            "writes",
            f"Writes IsoCLIP vectors to the field {into_name}, and beside {chosen}, which stays "
            f"as it is, {chosen}_source and {chosen}_error: all other operators then work on "
            f"{chosen}. To undo, delete these three fields.",
        )

    def steps(self, ctx: Context) -> Steps[dict[str, Any]]:
        """Check that the checkpoint made the vectors, and upgrade them."""
        from fiftyone_isoclip.dataset import upgrade

        params = ctx.params
        yield Step(f"Upgrading the vectors in {params['field']}")
        report = upgrade(
            target_samples(ctx),
            params["field"],
            params["model"],
            into=params["into"],
            band=parse_band(params.get("band")),
            check=params["check_images"],
        )
        return {**asdict(report), "skipped": len(report.skipped), "field": params["field"]}

    def reveal(self, ctx: Context, result: dict[str, Any]) -> Iterator[Any]:
        """Show the new field, and say how many images have it."""
        yield ctx.ops.reload_dataset()
        told = f"{result['n_upgraded']} vectors upgraded; {result['field']} can be used from now on"
        yield ctx.ops.notify(told, variant="success" if result["n_upgraded"] else "warning")

    def describe(self, result: dict[str, Any]) -> types.Object:
        """Counts, and how well the checkpoint's own embeddings agree with the vectors."""
        outputs = types.Object()
        outputs.str("into", label="New field")
        outputs.int("n_upgraded", label="Vectors upgraded")
        outputs.int("dim", label="Numbers in each")
        outputs.str("band", label="Band")
        outputs.int("n_checked", label="Images embedded again to check")
        outputs.float("agreement", label="Lowest cosine between these and your vectors")
        outputs.int("skipped", label="Samples without a usable vector")
        return outputs


def _foreign_fields(dataset: fo.Dataset) -> list[str]:
    """The fields of vectors that do not say which checkpoint made them."""
    known = plain_fields(dataset)
    return [name for name in dataset.get_field_schema(ftype=fo.VectorField) if name not in known]


def _check_into(dataset: fo.Dataset, into: str) -> None:
    check_key(into)
    if into in _foreign_fields(dataset):
        raise DatasetError(f"field {into!r} holds vectors of your own; choose another name")
