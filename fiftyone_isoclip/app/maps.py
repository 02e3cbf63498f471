"""The operator that lays out images on a map for FiftyOne's Embeddings panel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import fiftyone.operators.types as types

from fiftyone_isoclip.app.forms import (
    Context,
    check,
    choose_band,
    choose_field,
    explain,
    has_images,
    parse_band,
    target_samples,
)
from fiftyone_isoclip.app.operator import SteppedOperator
from fiftyone_isoclip.app.steps import Step, Steps
from fiftyone_isoclip.dataset.fields import DEFAULT_FIELD, need_origin
from fiftyone_isoclip.dataset.locks import check_brain_key
from fiftyone_isoclip.dataset.maps import (
    DEFAULT_MAP_KEY,
    MOST_BY_TSNE,
    MapMethod,
    check_method,
)

METHODS = {
    "pca": "PCA: the two directions in which the images differ most; quick",
    "tsne": f"t-SNE: like images side by side; slow, at most {MOST_BY_TSNE} images",
    "umap": "UMAP: like images side by side, also of many; needs the package umap-learn",
}


class MapEmbeddings(SteppedOperator):
    """Lays out images in two dimensions by how alike they are."""

    name_ = "map_embeddings"
    label = "IsoCLIP: Map embeddings"
    description = "Lay out images by how alike they are, for the Embeddings panel"

    def __call__(
        self,
        samples: Any,
        *,
        method: MapMethod = "pca",
        field: str = DEFAULT_FIELD,
        band: str | None = None,
        key: str = DEFAULT_MAP_KEY,
        delegate: bool = False,
    ) -> Any:
        """Run it from Python on a dataset or view; -> FiftyOne's ExecutionResult."""
        params = {"method": method, "field": field, "band": band, "key": key}
        return self.run(samples, params, delegate=delegate)

    def fill_form(self, ctx: Context, inputs: types.Object) -> None:
        """The form."""
        samples = target_samples(ctx)
        if not has_images(inputs, samples):
            return
        field = choose_field(inputs, ctx)
        if field is None:
            return
        methods = types.RadioView()
        for name in get_args(MapMethod):
            methods.add_choice(name, label=METHODS[name])
        method = inputs.str("method", label="Method", default="pca", required=True, view=methods)
        wanted = ctx.params.get("method") or "pca"
        check(method, lambda: check_method(wanted, len(samples)))
        choose_band(inputs, ctx, need_origin(ctx.dataset, field))
        asked = ctx.params.get("key") or DEFAULT_MAP_KEY
        key = inputs.str("key", label="Name of the map", default=DEFAULT_MAP_KEY, required=True)
        check(key, lambda: check_brain_key(ctx.dataset, asked))
        explain(
            inputs,
            "writes",
            "Writes a brain run that the panel Embeddings lists; nothing on the samples. "
            "To undo, delete the map (panel IsoCLIP, tab Runs).",
        )

    def steps(self, ctx: Context) -> Steps[dict[str, Any]]:
        """Make the map."""
        from fiftyone_isoclip.dataset import map_embeddings

        params = ctx.params
        yield Step("Laying out the images")
        report = map_embeddings(
            target_samples(ctx),
            field=params["field"],
            band=parse_band(params.get("band")),
            method=params["method"],
            brain_key=params["key"],
        )
        return {
            "key": report.brain_key,
            "method": report.method,
            "band": report.band,
            "images": report.n_mapped,
            "skipped": len(report.skipped),
        }

    def reveal(self, ctx: Context, result: dict[str, Any]) -> Iterator[Any]:
        """Open the Embeddings panel, which lists the map."""
        yield ctx.ops.reload_dataset()
        yield ctx.ops.open_panel("Embeddings", layout="horizontal")
        told = f"{result['images']} images are on the map {result['key']}"
        yield ctx.ops.notify(told, variant="success")

    def describe(self, result: dict[str, Any]) -> types.Object:
        """Counts, and under which name the map is found."""
        outputs = types.Object()
        outputs.str("key", label="Name in the Embeddings panel")
        outputs.str("method", label="Method")
        outputs.str("band", label="Band")
        outputs.int("images", label="Images on the map")
        outputs.int("skipped", label="Images that could not be compared")
        return outputs
