"""Clusters of samples that look alike, found in the stored embeddings and written to fields."""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

import fiftyone as fo
import numpy as np

from fiftyone_isoclip.dataset.clusterings import (
    DEFAULT_KEY,
    METHOD,
    NOISE,
    REMEMBERED,
    ClusterReport,
    SampleCluster,
    clusters_view,
    field_names,
)
from fiftyone_isoclip.dataset.fields import DEFAULT_FIELD, dataset_of
from fiftyone_isoclip.dataset.locks import one_writer
from fiftyone_isoclip.dataset.runs import Column, SavedRun, check_free, save_run
from fiftyone_isoclip.dataset.spaces import Space, open_space
from fiftyone_isoclip.index import ClusterMethod, Clusters, cluster
from fiftyone_isoclip.projector import Band


@one_writer("key")
def find_clusters(
    samples: Any,
    *,
    count: int | None = None,
    method: ClusterMethod = "kmeans",
    field: str = DEFAULT_FIELD,
    band: Band | str | None = None,
    key: str = DEFAULT_KEY,
) -> ClusterReport:
    """Divide samples into clusters of like images.

    Writes ``<key>`` (the cluster's name, "0" the largest, or "noise"), ``<key>_medoid`` (whether
    the sample stands for its cluster) and ``<key>_similarity`` (to that sample), a saved view and
    a run, all named by the key; what an earlier search left under the same key is replaced.

    Args:
        samples: a dataset or view with embeddings.
        count: how many clusters; None lets the data choose. Only for "kmeans".
        method: "kmeans" gives every sample a cluster; "leiden" finds its own count and leaves
            samples that are like no others as noise.
        field: the stored embeddings.
        band: None for the checkpoint's own, ``"0/0"`` for plain CLIP.
        key: the name of the result, ``[a-z][a-z0-9_]*``.

    Raises:
        DatasetError: there are no such embeddings, or the key's fields belong to something else.
        VectorError: the count or method does not fit the samples.
    """
    dataset = dataset_of(samples)
    check_free(dataset, key, METHOD, field_names(key))
    space = open_space(samples, field, band)
    space = space.without_changed(samples)
    ids, skipped = space.stored.ids, space.stored.skipped
    found = cluster(space.vectors, count=count, method=method)
    names = _names(found)
    clusters = tuple(
        SampleCluster(name, ids[row], int(size), float(cohesion))
        for name, row, size, cohesion in zip(
            names, found.medoids, found.sizes, found.cohesion, strict=True
        )
    )
    n_noise = int((found.labels < 0).sum())
    run = SavedRun(
        key=key,
        method=METHOD,
        parameters={"field": field, "count": count, "method": method},
        checkpoint=space.origin.checkpoint,
        fingerprint=space.fingerprint,
        band=str(space.band),
        counts={"compared": len(ids), "skipped": len(skipped), "clusters": len(clusters)},
        details={
            "clusters": [list(astuple(cluster)) for cluster in clusters[:REMEMBERED]],
            "noise": n_noise,
            "silhouette": found.silhouette,
        },
    )
    columns = _columns(key, space, found, names)
    save_run(samples, run, columns, lambda: clusters_view(dataset, key))
    return ClusterReport(
        dataset, key, clusters, len(clusters), n_noise, len(skipped), found.silhouette, skipped
    )


def _names(found: Clusters) -> list[str]:
    width = len(str(max(0, len(found) - 1)))
    return [f"{number:0{width}d}" for number in range(len(found))]


def _columns(key: str, space: Space, found: Clusters, names: list[str]) -> dict[str, Column]:
    ids, vectors = space.stored.ids, space.vectors
    labels = [names[label] if label >= 0 else NOISE for label in found.labels]
    medoids = set(found.medoids.tolist())
    inside = np.flatnonzero(found.labels >= 0)
    standing = vectors[found.medoids[found.labels[inside]]] if len(inside) else vectors[:0]
    scores = np.einsum("ij,ij->i", vectors[inside], standing).clip(-1, 1).tolist()
    label_field, medoid_field, similarity_field = field_names(key)
    return {
        label_field: Column(fo.StringField, dict(zip(ids, labels, strict=True))),
        medoid_field: Column(fo.BooleanField, {id_: row in medoids for row, id_ in enumerate(ids)}),
        similarity_field: Column(
            fo.FloatField, dict(zip([ids[row] for row in inside], scores, strict=True))
        ),
    }
