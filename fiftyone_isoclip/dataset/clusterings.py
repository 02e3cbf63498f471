"""Clusters of samples, as they are reported and as they lie in the fields of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import fiftyone as fo
from fiftyone import ViewField as F

from fiftyone_isoclip.dataset.fields import dataset_of
from fiftyone_isoclip.dataset.runs import load_run

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
    name, _, similarity = field_names(key)
    return dataset.match(F(name).exists()).group_by(name, order_by=similarity, reverse=True)


def members_view(dataset: fo.Dataset, key: str, cluster: str) -> Any:
    """The samples of one cluster, or of NOISE; its medoid first, then the most similar to it."""
    name, _, similarity = field_names(key)
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
    name, _, similarity = field_names(key)
    of = F(similarity).exists()
    held = dataset.match(of if cluster is None else of & (F(name) == cluster))
    return held.sort_by(similarity).limit(limit)


def field_names(key: str) -> tuple[str, str, str]:
    """The fields of a run: the cluster's name, whether the sample is its medoid, the similarity."""
    return key, f"{key}_medoid", f"{key}_similarity"
