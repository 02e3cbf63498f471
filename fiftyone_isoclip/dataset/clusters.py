"""Clusters of samples that look alike, written to fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from typing import Any

import fiftyone as fo
import numpy as np
from fiftyone import ViewField as F

from fiftyone_isoclip.dataset.fields import DEFAULT_FIELD, dataset_of
from fiftyone_isoclip.dataset.runs import Column, SavedRun, check_free, load_run, save_run
from fiftyone_isoclip.dataset.spaces import Space, open_space
from fiftyone_isoclip.index import ClusterMethod, Clusters, cluster
from fiftyone_isoclip.projector import Band

METHOD = "clusters"
DEFAULT_KEY = "clusters"
NOISE = "noise"
"""The name of what the Leiden algorithm leaves out."""

REMEMBERED = 200
"""How many clusters, the largest ones, a run describes; the fields tell of all."""

SHOWN_OUTLIERS = 50


@dataclass(frozen=True, slots=True)
class SampleCluster:
    """One cluster: its name in the field, the sample that stands for it, and how tight it is.

    ``cohesion`` is the mean cosine to the cluster's mean direction, in [0, 1].
    """

    name: str
    medoid: str
    size: int
    cohesion: float


@dataclass(frozen=True, slots=True)
class ClusterReport:
    """The clusters found, the largest first.

    ``silhouette`` is in [-1, 1], or None with fewer than two clusters. ``skipped`` maps the
    samples that have no cluster because they could not be compared to the reason. After loading a
    saved run ``clusters`` are the REMEMBERED largest of ``n_clusters`` and ``skipped`` is empty.
    """

    dataset: fo.Dataset = field(repr=False)
    key: str
    clusters: tuple[SampleCluster, ...]
    n_clusters: int
    n_noise: int
    n_skipped: int
    silhouette: float | None
    skipped: Mapping[str, str] = field(default_factory=dict)

    @property
    def view(self) -> Any:
        """The clusters as dynamic groups in the App, each with its medoid first."""
        return clusters_view(self.dataset, self.key)

    @property
    def medoids_view(self) -> Any:
        """The samples that stand for the clusters, largest cluster first."""
        return self.dataset.select([c.medoid for c in self.clusters], ordered=True)

    def __str__(self) -> str:
        sizes = ", ".join(str(cluster.size) for cluster in self.clusters[:10])
        return (
            f"{self.n_clusters} clusters (sizes {sizes or 'none'}"
            f"{', ...' if self.n_clusters > 10 else ''}), {self.n_noise} samples as noise, "
            f"{self.n_skipped} could not be compared"
        )


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
    check_free(dataset, key, METHOD, _field_names(key))
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
        fingerprint=space.origin.fingerprint,
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


def load_clusters(dataset: fo.Dataset, key: str = DEFAULT_KEY) -> ClusterReport:
    """The clusters of an earlier search as they were found, under the names they have now.

    Raises:
        DatasetError: there is no such run.
    """
    run = load_run(dataset_of(dataset), key, METHOD)
    return ClusterReport(
        dataset=dataset,
        key=key,
        clusters=tuple(SampleCluster(*facts) for facts in run.details["clusters"]),
        n_clusters=int(run.counts["clusters"]),
        n_noise=run.details["noise"],
        n_skipped=int(run.counts["skipped"]),
        silhouette=run.details["silhouette"],
    )


def clusters_view(dataset: fo.Dataset, key: str) -> Any:
    """The samples of a run, grouped by cluster, each medoid first."""
    name, _, similarity = _field_names(key)
    return dataset.match(F(name).exists()).group_by(name, order_by=similarity, reverse=True)


def members_view(dataset: fo.Dataset, key: str, cluster: str) -> Any:
    """The samples of one cluster, or of NOISE; its medoid first, then the most similar to it."""
    name, _, similarity = _field_names(key)
    return dataset.match(F(name) == cluster).sort_by(similarity, reverse=True)


def outliers_view(
    dataset: fo.Dataset, key: str, cluster: str | None = None, limit: int = SHOWN_OUTLIERS
) -> Any:
    """The samples that are least similar to the medoid of their cluster, the least first.

    Noise has no medoid: ``members_view(dataset, key, NOISE)`` shows it.

    Args:
        dataset: where the run is.
        key: the run's key.
        cluster: the name of one cluster; None looks at all of them together.
        limit: show at most this many, at least 1.

    Raises:
        DatasetError: there is no such run.
    """
    load_run(dataset_of(dataset), key, METHOD)
    name, _, similarity = _field_names(key)
    of = F(similarity).exists()
    held = dataset.match(of if cluster is None else of & (F(name) == cluster))
    return held.sort_by(similarity).limit(limit)


def _field_names(key: str) -> tuple[str, str, str]:
    return key, f"{key}_medoid", f"{key}_similarity"


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
    label_field, medoid_field, similarity_field = _field_names(key)
    return {
        label_field: Column(fo.StringField, dict(zip(ids, labels, strict=True))),
        medoid_field: Column(fo.BooleanField, {id_: row in medoids for row, id_ in enumerate(ids)}),
        similarity_field: Column(
            fo.FloatField, dict(zip([ids[row] for row in inside], scores, strict=True))
        ),
    }
