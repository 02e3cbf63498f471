"""`isoclip clusters`."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from fiftyone_isoclip import files
from fiftyone_isoclip.cli.options import BandChoice, Device, ImagesPath, JsonFile, ModelName
from fiftyone_isoclip.cli.screen import report, say, show_table
from fiftyone_isoclip.cli.sources import embed_source, require_images


class Method(str, Enum):
    """How clusters are found."""

    KMEANS = "kmeans"
    LEIDEN = "leiden"


Count = Annotated[
    int | None,
    typer.Option(
        "--count", min=1, help="How many clusters; found by silhouette if left out (kmeans only)."
    ),
]
MethodChoice = Annotated[
    Method,
    typer.Option(
        "--method", help="leiden finds its own count and leaves images that are like no others out."
    ),
]


def run_clusters(
    path: ImagesPath,
    count: Count = None,
    method: MethodChoice = Method.KMEANS,
    model: ModelName = None,
    band: BandChoice = None,
    json: JsonFile = None,
    device: Device = "auto",
) -> None:
    """Sort images into clusters of like pictures, the largest first.

    Each cluster is named by its medoid, the most typical image; cohesion is the mean similarity
    of its images to their centre, from 0 to 1.
    """
    clip, embedded = embed_source(path, model, device, band)
    found = files.cluster_files(embedded, clip, count=count, method=method.value, band=band)

    def show() -> None:
        rows = [
            (len(cluster.members), f"{cluster.cohesion:.3f}", cluster.medoid)
            for cluster in found.clusters
        ]
        show_table(("images", "cohesion", "medoid"), rows)
        if found.noise:
            say(f"{len(found.noise)} images are like no others")

    report(found.to_json(), json, show)
    require_images(path, embedded)
