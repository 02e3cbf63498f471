"""The operator that divides images into clusters and shows them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fiftyone.operators.types as types

from fiftyone_isoclip.app.forms import (
    Context,
    choose_band,
    choose_field,
    has_images,
    parse_band,
    target_samples,
)
from fiftyone_isoclip.app.operator import SteppedOperator
from fiftyone_isoclip.app.run_forms import name_result
from fiftyone_isoclip.app.steps import Step, Steps
from fiftyone_isoclip.dataset.clusterings import DEFAULT_KEY, METHOD, clusters_view, field_names
from fiftyone_isoclip.dataset.fields import DEFAULT_FIELD, need_origin

METHODS = {
    "kmeans": "k-means: every image belongs to a cluster",
    "leiden": "Leiden: finds its own count, and leaves images that are like no others as noise",
}


class ClusterImages(SteppedOperator):
    """Divides images into clusters of like ones."""

    name_ = "cluster_images"
    label = "IsoCLIP: Cluster images"
    description = "Divide images into clusters of like ones, each with one that stands for it"

    def __call__(
        self,
        samples: Any,
        *,
        method: str = "kmeans",
        count: int | None = None,
        field: str = DEFAULT_FIELD,
        band: str | None = None,
        key: str = DEFAULT_KEY,
        delegate: bool = False,
    ) -> Any:
        """Run it from Python on a dataset or view; -> FiftyOne's ExecutionResult."""
        params = {"method": method, "count": count, "field": field, "band": band, "key": key}
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
        for method, told in METHODS.items():
            methods.add_choice(method, label=told)
        inputs.str("method", label="Method", default="kmeans", required=True, view=methods)
        if ctx.params.get("method") != "leiden":
            inputs.int(
                "count",
                label="Clusters",
                description="How many to make. Empty: the data choose, by the silhouette",
                min=1,
            )
        choose_band(inputs, ctx, need_origin(ctx.dataset, field))
        name_result(inputs, ctx, DEFAULT_KEY, METHOD, field_names)

    def steps(self, ctx: Context) -> Steps[dict[str, Any]]:
        """Divide the images and save the clusters."""
        from fiftyone_isoclip.dataset import find_clusters

        params = ctx.params
        leiden = params["method"] == "leiden"
        yield Step("Dividing the images into clusters")
        report = find_clusters(
            target_samples(ctx),
            # The form hides the count from Leiden, and the App sends what was typed before.
            count=None if leiden else params.get("count"),
            method=params["method"],
            field=params["field"],
            band=parse_band(params.get("band")),
            key=params["key"],
        )
        clustered = sum(cluster.size for cluster in report.clusters)
        return {
            "key": report.key,
            "clusters": report.n_clusters,
            "largest": report.clusters[0].size if report.clusters else 0,
            "images": clustered,
            "noise": report.n_noise,
            "skipped": report.n_skipped,
            "silhouette": report.silhouette,
        }

    def reveal(self, ctx: Context, result: dict[str, Any]) -> Iterator[Any]:
        """Show the clusters in the grid."""
        yield ctx.ops.reload_dataset()
        if not result["clusters"]:
            told = f"No clusters among {result['noise']} images; {result['skipped']} skipped"
            yield ctx.ops.notify(told, variant="info")
            return
        ctx.dataset.reload()
        # Beware: by its name the App does not find a view that was saved after the page was loaded.
        yield ctx.ops.set_view(clusters_view(ctx.dataset, result["key"]))
        told = f"{result['images']} images in {result['clusters']} clusters, the largest of "
        yield ctx.ops.notify(f"{told}{result['largest']}", variant="success")

    def describe(self, result: dict[str, Any]) -> types.Object:
        """Counts, and how well the clusters are apart."""
        outputs = types.Object()
        outputs.int("clusters", label="Clusters")
        outputs.int("images", label="Images in clusters")
        outputs.int("largest", label="Images in the largest")
        outputs.int("noise", label="Images that are like no others (noise)")
        outputs.int("skipped", label="Images that could not be compared")
        outputs.float("silhouette", label="Silhouette (-1 to 1; higher is further apart)")
        outputs.str("key", label="Field, saved view and run")
        return outputs
